/* underrun_by_one.c - writes one byte in front of a block.
   checked: TA_ERROR_UNDERRUN
   release: TA_OK
   also: TA_ERROR_OVERRUN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *before = new_block(pool, 100), *block = new_block(pool, 100);
    block = block > before ? block : before;
    block[-1] = 0;
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
