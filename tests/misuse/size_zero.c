/* size_zero.c - gives a block back with size 0.
   checked: TA_ERROR_SIZE_MISMATCH
   release: TA_ERROR_SIZE_MISMATCH */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    BUG(ta_pool_free_sized(pool, block, 0));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
