/* device.h - what the programs with device memory share: a device of the software driver, a pool over it, a graph pool
   beside that, and a capture. Their implementation has the CUDA backends, and TENSORALLOC_CHECKED=2 where it is checked:
   freed device memory is filled and read back. */
#ifndef MISUSE_DEVICE_H
#define MISUSE_DEVICE_H

#include "misuse.h"

#include "driver/loader.h"

#define CU(call) NEED((call) == CUDA_SUCCESS)
#define STREAM(handle) ((ta_stream)(uintptr_t)(handle))

/* The pool still works, as far as the host can tell. */
#define SOUND_DEVICE(pool) \
    do { \
        void *sound = ta_pool_alloc((pool), 3000, NULL); \
        NEED(sound != NULL && ta_pool_free((pool), sound) == TA_OK); \
        NEED(ta_pool_check(pool) == TA_OK || MISUSE_CHECKED); \
        printf("sound\n"); \
    } while (0)

static inline ta_cuda *new_cuda(void)
{
    static CUcontext context;
    ta_cuda *cuda = NULL;
    NEED(driver_load());
    CU(cu.cuInit(0));
    CU(cu.cuDevicePrimaryCtxRetain(&context, 0));
    CU(cu.cuCtxSetCurrent(context));
    NEED(ta_cuda_create(NULL, &cuda, NULL) == TA_OK);
    return cuda;
}

static inline ta_pool *new_device_pool(ta_cuda *cuda)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    NEED(ta_pool_create(&desc, &pool) == TA_OK);
    return pool;
}

static inline void *new_device_block(ta_pool *pool, size_t size)
{
    void *block = ta_pool_alloc(pool, size, NULL);
    NEED(block != NULL);
    return block;
}

static inline ta_dynamic *new_device_dynamic(ta_cuda *cuda)
{
    ta_dynamic_desc desc;
    ta_dynamic *dynamic = NULL;
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    NEED(ta_dynamic_create(&desc, &dynamic) == TA_OK);
    return dynamic;
}

/* 1 MiB of at most 4 MiB: an address range of its own. */
static inline ta_handle new_device_tensor(ta_dynamic *dynamic)
{
    int64_t least = 1, now = 1 << 18, most = 1 << 20;
    ta_shape_bounds bounds;
    ta_handle handle;
    NEED(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &now, &most) == TA_OK);
    NEED(ta_dynamic_alloc(dynamic, &bounds, &handle) == TA_OK);
    return handle;
}

static inline ta_graph_pool *new_graph_pool(ta_pool *pool)
{
    ta_graph_pool_desc desc;
    ta_graph_pool *graphs = NULL;
    memset(&desc, 0, sizeof desc);
    desc.pool = pool;
    NEED(ta_graph_pool_create(&desc, &graphs) == TA_OK);
    return graphs;
}

static inline void *new_graph_block(ta_graph_pool *graphs, size_t size)
{
    ta_request request;
    void *block;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    block = ta_graph_pool_alloc(graphs, &request, NULL);
    NEED(block != NULL);
    return block;
}

static inline CUstream new_stream(void)
{
    CUstream stream = NULL;
    CU(cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    return stream;
}

/* A block that a capture allocated and left live; the graph of it is gone. */
static inline void *new_captured_block(ta_pool *pool, ta_graph_pool *graphs, size_t size, int failed)
{
    CUstream stream = new_stream();
    CUgraph graph = NULL;
    void *block;
    NEED(ta_capture_enter(graphs, STREAM(stream)) == TA_OK);
    CU(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    block = ta_pool_alloc_stream(pool, size, STREAM(stream), NULL);
    NEED(block != NULL);
    CU(cu.cuStreamEndCapture(stream, &graph));
    NEED(ta_capture_leave(graphs, STREAM(stream), failed, NULL) == TA_OK);
    CU(cu.cuGraphDestroy(graph));
    return block;
}

#endif /* MISUSE_DEVICE_H */
