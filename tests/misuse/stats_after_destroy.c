/* stats_after_destroy.c - asks a pool that was destroyed for its figures.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_stats stats;
    NEED(ta_pool_destroy(pool) == TA_OK);
    BUG(ta_pool_get_stats(pool, &stats));
    return 0;
}
