/* graph_block_after_reset.c - frees a block of a graph pool that was reset since.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    void *block = new_captured_block(pool, graphs, 100000, 0);
    NEED(ta_graph_pool_reset(graphs) == TA_OK);
    BUG(ta_pool_free(pool, block));
    SOUND_DEVICE(pool);
    return 0;
}
