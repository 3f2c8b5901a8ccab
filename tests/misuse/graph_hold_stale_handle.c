/* graph_hold_stale_handle.c - holds a tensor for graphs that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    ta_dynamic *dynamic = new_device_dynamic(cuda);
    ta_handle tensor = new_device_tensor(dynamic);
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK);
    BUG(ta_graph_pool_hold_handle(graphs, dynamic, tensor));
    SOUND_DEVICE(pool);
    return 0;
}
