/* double_free_of_same_size.c - frees a block again that may already be somebody else's.
   checked: TA_ERROR_STALE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100), *other;
    NEED(ta_pool_free(pool, block) == TA_OK);
    other = new_block(pool, 100); /* at the same address where nothing is held back */
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, other) == (MISUSE_CHECKED ? TA_OK : TA_ERROR_STALE));
    SOUND(pool);
    return 0;
}
