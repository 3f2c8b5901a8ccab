/* size_before_resize.c - gives a block back with the size that it had before it was resized.
   checked: TA_ERROR_SIZE_MISMATCH
   release: TA_ERROR_SIZE_MISMATCH */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    NEED(ta_pool_resize_in_place(pool, block, 1 << 19) == TA_OK);
    BUG(ta_pool_free_sized(pool, block, 1 << 20));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
