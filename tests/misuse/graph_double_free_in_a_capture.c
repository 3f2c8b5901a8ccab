/* graph_double_free_in_a_capture.c - frees a block that a capture allocated twice in that capture.
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
    void *block;
    NEED(ta_capture_enter(graphs, STREAM(stream)) == TA_OK);
    CU(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    block = ta_pool_alloc_stream(pool, 100000, STREAM(stream), NULL);
    NEED(block != NULL);
    NEED(ta_pool_free(pool, block) == TA_OK);
    BUG(ta_pool_free(pool, block));
    CU(cu.cuStreamEndCapture(stream, &graph));
    NEED(ta_capture_leave(graphs, STREAM(stream), 0, NULL) == TA_OK);
    SOUND_DEVICE(pool);
    return 0;
}
