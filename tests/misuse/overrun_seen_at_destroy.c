/* overrun_seen_at_destroy.c - writes behind a block that is never freed.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    block[100] = 0;
    SOUND(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
