/* overrun_zeroed.c - writes behind a zeroed block.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = (char *)ta_pool_alloc_zeroed(pool, 333, NULL);
    NEED(block != NULL && block[0] == 0 && block[332] == 0);
    block[333] = 1;
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
