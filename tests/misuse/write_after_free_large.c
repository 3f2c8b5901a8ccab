/* write_after_free_large.c - writes into a large block that was freed.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    NEED(ta_pool_free(pool, block) == TA_OK);
    block[(1 << 20) - 1] = 0;
    BUG(ta_pool_check(pool));
    SOUND(pool);
    return 0;
}
