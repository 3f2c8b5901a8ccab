/* write_after_free.c - writes into a block that was freed; ta_pool_check finds it.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_free(pool, block) == TA_OK);
    block[50] = 0;
    BUG(ta_pool_check(pool));
    SOUND(pool);
    return 0;
}
