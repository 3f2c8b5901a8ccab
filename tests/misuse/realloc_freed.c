/* realloc_freed.c - reallocates a block that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    ta_result result = TA_OK;
    NEED(ta_pool_free(pool, block) == TA_OK);
    NEED(ta_pool_realloc(pool, block, 2 << 20, &result) == NULL);
    BUG(result);
    SOUND(pool);
    return 0;
}
