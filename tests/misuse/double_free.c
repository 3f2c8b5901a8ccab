/* double_free.c - frees a block twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
