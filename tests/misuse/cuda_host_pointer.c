/* cuda_host_pointer.c - frees memory of the host to a pool on a device.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    void *block = malloc(100000);
    NEED(block != NULL);
    BUG(ta_pool_free(pool, block));
    free(block);
    SOUND_DEVICE(pool);
    return 0;
}
