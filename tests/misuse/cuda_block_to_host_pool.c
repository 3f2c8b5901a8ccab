/* cuda_block_to_host_pool.c - frees device memory to a pool on the host.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_pool *host = new_pool();
    void *block = new_device_block(pool, 100000);
    BUG(ta_pool_free(host, block));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(host);
    return 0;
}
