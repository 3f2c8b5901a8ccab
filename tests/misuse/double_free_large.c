/* double_free_large.c - frees a block that is too large for thread caches twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20), *other = new_block(pool, 1 << 20);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, other) == TA_OK);
    SOUND(pool);
    return 0;
}
