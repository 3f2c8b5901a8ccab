/* cuda_write_after_free.c - work on a device writes into a block that was freed; ta_pool_check finds it.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    void *block = new_device_block(pool, 100000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    CU(cu.cuMemsetD8_v2((CUdeviceptr)(uintptr_t)block + 5000, 1, 1));
    BUG(ta_pool_check(pool));
    SOUND_DEVICE(pool);
    return 0;
}
