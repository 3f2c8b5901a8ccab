/* cuda_record_use_freed.c - records a use of a block of device memory that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    void *block = new_device_block(pool, 100000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_record_use(pool, block, STREAM(new_stream())));
    SOUND_DEVICE(pool);
    return 0;
}
