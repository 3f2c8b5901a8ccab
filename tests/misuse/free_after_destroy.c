/* free_after_destroy.c - frees a block after its pool was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_dispose(pool) == TA_OK && ta_pool_destroy(pool) == TA_OK);
    BUG(ta_pool_free(pool, block));
    return 0;
}
