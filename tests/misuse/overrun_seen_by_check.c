/* overrun_seen_by_check.c - writes behind a block; ta_pool_check finds it.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    block[100] = 0;
    BUG(ta_pool_check(pool));
    (void)ta_pool_free(pool, block);
    SOUND(pool);
    return 0;
}
