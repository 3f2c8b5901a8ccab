/* underrun_behind_a_freed_block.c - writes in front of a block whose neighbour was freed.
   checked: TA_ERROR_UNDERRUN
   release: TA_OK
   also: TA_ERROR_USE_AFTER_FREE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *before = new_block(pool, 100), *block = new_block(pool, 100);
    char *low = block > before ? before : block, *high = block > before ? block : before;
    NEED(ta_pool_free(pool, low) == TA_OK);
    high[-1] = 0;
    BUG(ta_pool_free(pool, high));
    SOUND(pool);
    return 0;
}
