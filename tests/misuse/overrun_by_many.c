/* overrun_by_many.c - writes 40 bytes behind a block.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1000), *next = new_block(pool, 1000);
    memset(block + 1000, 0, 40);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, next) == TA_OK);
    SOUND(pool);
    return 0;
}
