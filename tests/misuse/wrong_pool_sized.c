/* wrong_pool_sized.c - puts a large block back to another pool.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_pool *other = new_pool();
    char *block = new_block(other, 1 << 20);
    BUG(ta_pool_put(pool, block, 1 << 20));
    NEED(ta_pool_free(other, block) == TA_OK);
    SOUND(pool);
    return 0;
}
