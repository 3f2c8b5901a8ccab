/* cuda_size_mismatch.c - gives a block of device memory back with another size.
   checked: TA_ERROR_SIZE_MISMATCH
   release: TA_ERROR_SIZE_MISMATCH */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    void *block = new_device_block(pool, 100000);
    BUG(ta_pool_free_sized(pool, block, 400000));
    SOUND_DEVICE(pool);
    return 0;
}
