/* graph_block_to_another_graph_pool.c - frees a block of one graph pool through the allocator of another.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    ta_graph_pool *others = new_graph_pool(new_device_pool(cuda));
    void *block = new_graph_block(graphs, 100000);
    BUG(ta_allocator_free(ta_graph_pool_allocator(others), block, 0, 0, 0));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND_DEVICE(pool);
    return 0;
}
