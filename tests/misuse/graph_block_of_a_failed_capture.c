/* graph_block_of_a_failed_capture.c - frees a block that a failed capture allocated: it was freed with that.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    void *block = new_captured_block(pool, graphs, 100000, 1);
    BUG(ta_pool_free(pool, block));
    SOUND_DEVICE(pool);
    return 0;
}
