/* graph_record_use_freed.c - records a use of a block that was freed, on a stream that is captured.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_cuda *cuda = new_cuda();
    ta_pool *pool = new_device_pool(cuda);
    ta_graph_pool *graphs = new_graph_pool(pool);
    CUstream stream = new_stream();
    CUgraph graph = NULL;
    void *block = new_device_block(pool, 100000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    NEED(ta_capture_enter(graphs, STREAM(stream)) == TA_OK);
    CU(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    BUG(ta_pool_record_use(pool, block, STREAM(stream)));
    CU(cu.cuStreamEndCapture(stream, &graph));
    NEED(ta_capture_leave(graphs, STREAM(stream), 0, NULL) == TA_OK);
    SOUND_DEVICE(pool);
    return 0;
}
