/* overrun_aligned.c - writes behind a block with an alignment.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = (char *)ta_pool_alloc_aligned(pool, 5000, 4096, NULL);
    NEED(block != NULL);
    block[5000] = 0;
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
