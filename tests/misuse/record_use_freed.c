/* record_use_freed.c - tells of a use of a block that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_record_use(pool, block, 7));
    SOUND(pool);
    return 0;
}
