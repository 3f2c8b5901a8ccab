/* graph_double_free.c - frees a block of a graph pool twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    void *block = new_graph_block(graphs, 100000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_free(pool, block));
    SOUND_DEVICE(pool);
    return 0;
}
