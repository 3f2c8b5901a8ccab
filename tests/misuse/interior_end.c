/* interior_end.c - frees the end of a block instead of its start.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1000);
    BUG(ta_pool_free(pool, block + 1000));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
