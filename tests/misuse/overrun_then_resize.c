/* overrun_then_resize.c - writes behind a block and resizes it.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20), *next = new_block(pool, 1 << 20);
    block[1 << 20] = 0;
    NEED(next != block);
    BUG(ta_pool_resize_in_place(pool, block, 1 << 19));
    SOUND(pool);
    return 0;
}
