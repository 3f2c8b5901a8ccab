/* cuda_free_on_stream_twice.c - frees a block of device memory twice, the second time on another stream.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    void *block = new_device_block(pool, 100000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_allocator_free(ta_pool_allocator(pool), block, 0, 0, STREAM(new_stream())));
    SOUND_DEVICE(pool);
    return 0;
}
