/* destroy_twice.c - destroys a pool twice.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    NEED(ta_pool_destroy(pool) == TA_OK);
    BUG(ta_pool_destroy(pool));
    return 0;
}
