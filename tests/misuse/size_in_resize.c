/* size_in_resize.c - resizes with a wrong old size.
   checked: TA_ERROR_SIZE_MISMATCH
   release: TA_ERROR_SIZE_MISMATCH */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    BUG(ta_allocator_resize_in_place(ta_pool_allocator(pool), block, 100, 200));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
