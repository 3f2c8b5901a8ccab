/* overrun_direct.c - writes behind a block of a direct allocator.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_direct *direct = new_direct();
    char *block = new_direct_block(direct, 1000);
    block[1000] = 0;
    BUG(ta_allocator_free(ta_direct_allocator(direct), block, 1000, 0, 0));
    printf("sound\n");
    return 0;
}
