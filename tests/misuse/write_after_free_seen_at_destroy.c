/* write_after_free_seen_at_destroy.c - writes into a freed block, long before the pool goes.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20), *other;
    int i;
    NEED(ta_pool_free(pool, block) == TA_OK);
    block[7] = 0;
    for (i = 0; i < 40; i++) { /* by now it is not held back any more */
        other = new_block(pool, 1 << 20);
        NEED(ta_pool_free(pool, other) == TA_OK);
    }
    SOUND(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
