/* double_free_merged.c - frees a block again after its neighbour was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20), *next = new_block(pool, 1 << 20);
    NEED(ta_pool_free(pool, block) == TA_OK && ta_pool_free(pool, next) == TA_OK);
    BUG(ta_pool_free(pool, next));
    SOUND(pool);
    return 0;
}
