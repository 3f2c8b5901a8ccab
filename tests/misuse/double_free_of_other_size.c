/* double_free_of_other_size.c - frees a block again after a block of another size was allocated.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100), *other;
    NEED(ta_pool_free(pool, block) == TA_OK);
    other = new_block(pool, 5000);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, other) == TA_OK);
    SOUND(pool);
    return 0;
}
