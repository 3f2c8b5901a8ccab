/* cuda_after_destroy.c - allocates from a pool on a device that was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_result result = TA_OK;
    NEED(ta_pool_destroy(pool) == TA_OK);
    NEED(ta_pool_alloc(pool, 100000, &result) == NULL);
    BUG(result);
    return 0;
}
