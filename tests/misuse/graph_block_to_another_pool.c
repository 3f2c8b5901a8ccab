/* graph_block_to_another_pool.c - frees a block of a graph pool to a pool that it does not stand beside.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    ta_pool *other = new_device_pool(cuda);
    void *block = new_graph_block(graphs, 100000);
    BUG(ta_pool_free(other, block));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND_DEVICE(pool);
    return 0;
}
