/* wrong_pool.c - frees a block to another pool.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_pool *other = new_pool();
    char *block = new_block(other, 100);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(other, block) == TA_OK);
    SOUND(other);
    SOUND(pool);
    return 0;
}
