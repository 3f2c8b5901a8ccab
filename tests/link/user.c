/* A program over declarations alone; the implementation comes from another object, C or C++. Includes the header twice. */
#include "tensoralloc.h"
#include "tensoralloc.h"

#ifdef __cplusplus
extern "C"
#endif
int other_file(ta_pool *pool);

#ifdef LINK_OTHER
int other_file(ta_pool *pool)
{
    return ta_pool_free(pool, ta_pool_alloc(pool, 64, NULL)) == TA_OK;
}
#else
int main(void)
{
    ta_pool *pool;
    int ok;
    if (ta_pool_create(NULL, &pool) != TA_OK) {
        return 1;
    }
    ok = other_file(pool);
    return ta_pool_destroy(pool) == TA_OK && ok ? 0 : 1;
}
#endif
