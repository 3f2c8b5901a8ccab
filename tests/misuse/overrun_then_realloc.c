/* overrun_then_realloc.c - writes behind a block and reallocates it.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    ta_result result = TA_OK;
    block[100] = 0;
    (void)ta_pool_realloc(pool, block, 2000, &result);
    BUG(result);
    SOUND(pool);
    return 0;
}
