/* direct_after_destroy.c - frees to a direct allocator that was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_direct *direct = new_direct();
    ta_allocator allocator = ta_direct_allocator(direct);
    char block[64];
    NEED(ta_direct_destroy(direct) == TA_OK);
    BUG(ta_allocator_free(allocator, block, 64, 0, 0));
    return 0;
}
