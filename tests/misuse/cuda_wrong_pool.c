/* cuda_wrong_pool.c - frees a block to another pool on the same device.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_pool *other = new_device_pool(cuda);
    void *block = new_device_block(other, 100000);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_free(other, block) == TA_OK);
    SOUND_DEVICE(pool);
    return 0;
}
