/* overrun_after_shrink.c - writes behind a block that has become smaller.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_resize_in_place(pool, block, 50) == TA_OK);
    block[50] = 0;
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
