/* cuda_interior.c - frees a place inside a block of device memory.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    char *block = (char *)new_device_block(pool, 100000);
    BUG(ta_pool_free(pool, block + 4096));
    SOUND_DEVICE(pool);
    return 0;
}
