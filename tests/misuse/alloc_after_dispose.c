/* alloc_after_dispose.c - allocates from a pool that was disposed.
   checked: TA_ERROR_DISPOSED
   release: TA_ERROR_DISPOSED */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_result result = TA_OK;
    NEED(ta_pool_dispose(pool) == TA_OK);
    NEED(ta_pool_alloc(pool, 100, &result) == NULL);
    BUG(result);
    NEED(ta_pool_destroy(pool) == TA_OK);
    printf("sound\n");
    return 0;
}
