/* overrun_of_a_full_granule.c - writes one byte behind a block of 64 bytes.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 64), *next = new_block(pool, 64);
    block[64] = 0; /* in a release build this is somebody else's */
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(pool, next) == TA_OK);
    SOUND(pool);
    return 0;
}
