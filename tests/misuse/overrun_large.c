/* overrun_large.c - writes one byte behind a large block.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20), *next = new_block(pool, 1 << 20);
    block[1 << 20] = 0;
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, next) == TA_OK);
    SOUND(pool);
    return 0;
}
