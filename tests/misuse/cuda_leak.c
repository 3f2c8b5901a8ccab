/* cuda_leak.c - destroys a pool on a device with a live block.
   checked: TA_ERROR_LEAK
   release: TA_OK */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    (void)new_device_block(pool, 100000);
    SOUND_DEVICE(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
