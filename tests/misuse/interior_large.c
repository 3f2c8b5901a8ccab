/* interior_large.c - frees a pointer to a page of a large block.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 1 << 20);
    BUG(ta_pool_free(pool, block + (1 << 19)));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
