/* double_put.c - puts a block back twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 4096);
    NEED(ta_pool_put(pool, block, 4096) == TA_OK);
    BUG(ta_pool_put(pool, block, 4096));
    SOUND(pool);
    return 0;
}
