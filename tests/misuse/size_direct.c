/* size_direct.c - gives a block of a direct allocator back with a wrong size.
   checked: TA_ERROR_SIZE_MISMATCH
   release: TA_ERROR_SIZE_MISMATCH */
#include "misuse.h"

int main(void)
{
    ta_direct *direct = new_direct();
    char *block = new_direct_block(direct, 1000);
    BUG(ta_allocator_free(ta_direct_allocator(direct), block, 1001, 0, 0));
    NEED(ta_allocator_free(ta_direct_allocator(direct), block, 1000, 0, 0) == TA_OK);
    NEED(ta_direct_destroy(direct) == TA_OK);
    printf("sound\n");
    return 0;
}
