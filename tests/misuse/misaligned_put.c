/* misaligned_put.c - puts a block back with an alignment that it does not have.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    BUG(ta_pool_put_aligned(pool, block, 100, (size_t)1 << 46));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
