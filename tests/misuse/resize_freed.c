/* resize_freed.c - resizes a block that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_resize_in_place(pool, block, 100));
    SOUND(pool);
    return 0;
}
