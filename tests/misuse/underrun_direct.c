/* underrun_direct.c - writes in front of a block of a direct allocator.
   checked: TA_ERROR_UNDERRUN
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_direct *direct = new_direct();
    char *block = new_direct_block(direct, 1000);
    block[-1] = 0;
    BUG(ta_allocator_free(ta_direct_allocator(direct), block, 1000, 0, 0));
    return 0;
}
