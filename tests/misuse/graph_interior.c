/* graph_interior.c - frees a place inside a block of a graph pool.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    char *block = (char *)new_graph_block(graphs, 100000);
    BUG(ta_pool_free(pool, block + 512));
    SOUND_DEVICE(pool);
    return 0;
}
