/* overrun_sized.c - writes behind a block and gives it back with its size.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    block[101] = 0;
    BUG(ta_pool_free_sized(pool, block, 100));
    SOUND(pool);
    return 0;
}
