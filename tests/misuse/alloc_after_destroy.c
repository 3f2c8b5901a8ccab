/* alloc_after_destroy.c - allocates from a pool that was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_result result = TA_OK;
    NEED(ta_pool_destroy(pool) == TA_OK);
    NEED(ta_pool_alloc(pool, 100, &result) == NULL);
    BUG(result);
    return 0;
}
