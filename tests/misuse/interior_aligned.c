/* interior_aligned.c - frees an aligned pointer into a block.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 4096);
    BUG(ta_pool_free(pool, block + 1024));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
