/* double_free_sized.c - frees a block twice, with its size.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_free_sized(pool, block, 100) == TA_OK);
    BUG(ta_pool_free_sized(pool, block, 100));
    SOUND(pool);
    return 0;
}
