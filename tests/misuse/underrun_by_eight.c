/* underrun_by_eight.c - writes eight bytes in front of a large block.
   checked: TA_ERROR_UNDERRUN
   release: TA_OK
   also: TA_ERROR_OVERRUN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *before = new_block(pool, 1 << 20), *block = new_block(pool, 1 << 20);
    block = block > before ? block : before;
    memset(block - 8, 0, 8);
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
