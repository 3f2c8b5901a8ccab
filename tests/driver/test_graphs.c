/* test_graphs.c - the software driver's capture rules and graphs. */
#include "testing.h"

#include <pthread.h>

static CUstream s, t;
static CUdeviceptr a, b;

static int graphs_open(const char *config)
{
    if (!fake_open(config)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    a = alloc(4096);
    b = alloc(4096);
    return 1;
}

static CUstreamCaptureStatus status_of(CUstream stream)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    OK(cu.cuStreamIsCapturing(stream, &status));
    return status;
}

static void begin(CUstream stream, CUstreamCaptureMode mode)
{
    OK(cu.cuStreamBeginCapture_v2(stream, mode));
}

static CUgraphExec finish(CUstream stream)
{
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    OK(cu.cuStreamEndCapture(stream, &graph));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphDestroy(graph));
    return exec;
}

/* ---- what is legal while somebody captures */
enum { UNSAFE_CALLS = 9 };

static CUresult unsafe_call(int which)
{
    static uint32_t mine[64];
    CUmemAllocationProp prop = device_prop(0);
    CUmemGenericAllocationHandle handle = 0;
    CUmemoryPool pool = NULL;
    CUdeviceptr address = 0;
    CUevent event;
    void *memory = NULL;
    CUresult result;
    switch (which) {
    case 0: return cu.cuMemAlloc_v2(&address, 64);
    case 1: return cu.cuMemHostAlloc(&memory, 64, 0);
    case 2: return cu.cuMemHostRegister_v2(mine, sizeof mine, 0);
    case 3: return cu.cuMemCreate(&handle, 2 << 20, &prop, 0);
    case 4: return cu.cuDeviceGetDefaultMemPool(&pool, 0);
    case 5: return cu.cuMemFree_v2(b);
    case 6:
        OK(cu.cuEventCreate(&event, 0));
        result = cu.cuEventQuery(event);
        OK(cu.cuEventDestroy_v2(event));
        return result;
    case 7: return cu.cuStreamQuery(t);
    default: return cu.cuStreamSynchronize(t);
    }
}

static void unsafe_calls_of_the_capturing_thread(void)
{
    static const CUstreamCaptureMode modes[] = {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
                                                CU_STREAM_CAPTURE_MODE_RELAXED};
    int call, m, pushed;
    for (call = 0; call < UNSAFE_CALLS; call++) {
        for (m = 0; m < 6; m++) {
            CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
            CUgraph graph = NULL;
            int legal;
            pushed = m >= 3;
            legal = pushed || modes[m % 3] == CU_STREAM_CAPTURE_MODE_RELAXED;
            if (!graphs_open("sched=eager")) { return; }
            test_context("call %d, capture mode %d, %s", call, m % 3, pushed ? "pushed to relaxed" : "not pushed");
            begin(s, modes[m % 3]);
            if (pushed) {
                OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
                CHECK_EQ(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
            }
            CHECK_CU(unsafe_call(call), legal ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            CHECK_EQ(status_of(s), legal ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_INVALIDATED);
            CHECK_EQ(fake.tafake_calls_unrelaxed("*") != 0, !legal);
            CHECK_CU(cu.cuStreamEndCapture(s, &graph), legal ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
            CHECK_EQ(graph != NULL, legal);
            if (pushed) {
                OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
            }
            CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_GLOBAL);
            device_close();
        }
    }
}

struct elsewhere { CUstreamCaptureMode mode; CUresult result, end; };

static void *call_elsewhere(void *data)
{
    struct elsewhere *one = data;
    CUdeviceptr address = 0;
    CUgraph graph = NULL;
    one->result = cu.cuCtxSetCurrent(on.context);
    one->result = cu.cuThreadExchangeStreamCaptureMode(&one->mode);
    one->result = cu.cuMemAlloc_v2(&address, 64);
    one->end = cu.cuStreamEndCapture(s, &graph);
    return NULL;
}

/* Another thread's calls break a global capture, unless that thread has stepped aside. */
static void unsafe_calls_of_other_threads(void)
{
    int capture_mode, thread_mode;
    for (capture_mode = 0; capture_mode < 3; capture_mode++) {
        for (thread_mode = 0; thread_mode < 3; thread_mode++) {
            struct elsewhere one = {(CUstreamCaptureMode)thread_mode, CUDA_SUCCESS, CUDA_SUCCESS};
            const int breaks = capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                               thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
            const int foreign_end = capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED;
            pthread_t thread;
            if (!graphs_open("sched=eager")) { return; }
            test_context("capture mode %d, thread mode %d", capture_mode, thread_mode);
            begin(s, (CUstreamCaptureMode)capture_mode);
            CHECK_EQ(pthread_create(&thread, NULL, call_elsewhere, &one), 0);
            pthread_join(thread, NULL);
            CHECK_EQ(one.result, breaks ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS);
            CHECK_EQ(one.end, foreign_end ? CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD : CUDA_SUCCESS);
            if (foreign_end) {
                CUgraph graph = NULL;
                CHECK_CU(cu.cuStreamEndCapture(s, &graph),
                         breaks ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
            }
            device_close();
        }
    }
}

/* These conflict with the capture itself, whatever the mode of the thread. */
static void never_legal(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    unsigned long long id = 0;
    CUgraph graph = NULL;
    CUevent captured;
    int i;
    for (i = 0; i < 6; i++) {
        CUresult result, want = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (!graphs_open("sched=lazy")) { return; }
        test_context("call %d", i);
        captured = event_new();
        mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
        begin(s, CU_STREAM_CAPTURE_MODE_RELAXED);
        OK(cu.cuEventRecord(captured, s));
        switch (i) {
        case 0: result = cu.cuStreamSynchronize(s); break;
        case 1: result = cu.cuStreamQuery(s); break;
        case 2: result = cu.cuCtxSynchronize(); break;
        case 3: result = cu.cuStreamGetId(s, &id); break;
        case 4: result = cu.cuEventQuery(captured); break;
        default: result = cu.cuEventSynchronize(captured); break;
        }
        want = i >= 4 ? CUDA_ERROR_CAPTURED_EVENT : want;
        CHECK_CU(result, want);
        CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
        device_close();
    }
}

static void legacy_stream_and_captures(void)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUstream blocking = NULL;
    CUgraph graph = NULL;
    if (!graphs_open("sched=lazy")) { return; }
    CHECK_CU(cu.cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    begin(s, CU_STREAM_CAPTURE_MODE_RELAXED); /* does not block: the legacy stream is free */
    OK(cu.cuMemsetD8Async(a, 1, 16, NULL));
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    begin(blocking, CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK_CU(cu.cuStreamIsCapturing(NULL, &status), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    CHECK_EQ(status_of(blocking), CU_STREAM_CAPTURE_STATUS_ACTIVE); /* asking harms nothing */
    CHECK_CU(cu.cuMemsetD8Async(a, 1, 16, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    CHECK_EQ(status_of(blocking), CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    CHECK_CU(cu.cuMemsetD8Async(a, 1, 16, blocking), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK_CU(cu.cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK(graph == NULL);
    OK(cu.cuMemsetD8Async(a, 1, 16, NULL));
    device_close();
}

static void wrong_ends_and_joins(void)
{
    CUgraph graph = NULL;
    CUevent event, outside;
    CUstream u;
    if (!graphs_open("sched=lazy")) { return; }
    u = stream_new();
    event = event_new();
    outside = event_new();
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_ILLEGAL_STATE);
    begin(s, CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK_CU(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_ILLEGAL_STATE);
    order(s, t);
    OK(fill(a, 1, 4, t));
    CHECK_EQ(status_of(t), CU_STREAM_CAPTURE_STATUS_ACTIVE);
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    CHECK_EQ(status_of(t), CU_STREAM_CAPTURE_STATUS_NONE);

    begin(s, CU_STREAM_CAPTURE_MODE_RELAXED);
    order(s, t);
    CHECK_CU(cu.cuStreamEndCapture(t, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    OK(cu.cuEventRecord(outside, u));
    begin(s, CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK_CU(cu.cuStreamWaitEvent(s, outside, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    begin(s, CU_STREAM_CAPTURE_MODE_RELAXED);
    begin(t, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK(cu.cuEventRecord(event, s));
    CHECK_CU(cu.cuStreamWaitEvent(t, event, 0), CUDA_ERROR_STREAM_CAPTURE_MERGE);
    CHECK_CU(cu.cuStreamWaitEvent(u, event, 0), CUDA_ERROR_INVALID_VALUE); /* of a capture that was invalidated */
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK_CU(cu.cuStreamEndCapture(t, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    device_close();
}

static void forks_share_the_capture_id(void)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    cuuint64_t first = 0, second = 0, forked = 0;
    const CUgraphNode *nodes = NULL;
    CUgraph graph = NULL;
    size_t count = 99;
    if (!graphs_open("sched=lazy")) { return; }
    begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuStreamGetCaptureInfo(s, &status, &first));
    order(s, t);
    OK(cu.cuStreamGetCaptureInfo(t, &status, &forked));
    CHECK_EQ(first, forked);
    OK(cu.cuStreamGetCaptureInfo_v2(s, &status, &first, &graph, &nodes, &count));
    CHECK_EQ(count, 0);
    CHECK_CU(cu.cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
    OK(fill(a, 1, 4, t));
    order(t, s);
    OK(cu.cuStreamGetCaptureInfo_v2(s, &status, NULL, NULL, &nodes, &count));
    CHECK_EQ(count, 1);
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphGetNodes(graph, NULL, &count));
    CHECK_EQ(count, 1);
    OK(cu.cuGraphDestroy(graph));
    begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuStreamGetCaptureInfo(s, &status, &second));
    CHECK_NE(first, second);
    OK(cu.cuStreamEndCapture(s, &graph));
    device_close();
}

/* ---- replays */
static void replays_compute(void)
{
    static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:8", "sched=threads:8"};
    int k, i;
    for (k = 0; k < 4; k++) {
        CUgraphExec exec;
        if (!graphs_open(schedulers[k])) { return; }
        test_context("%s", schedulers[k]);
        OK(fill(a, 0, 64, s));
        begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
        OK(add(a, 1, 64, s));
        order(s, t);
        OK(copy(b, a, 64, t));
        OK(cu.cuMemsetD32Async(b + 1024, 5, 4, s));
        order(t, s);
        OK(add(b, 100, 64, s));
        exec = finish(s);
        CHECK_EQ(read32(b) == 101, 0);
        for (i = 0; i < 5; i++) {
            OK(cu.cuGraphLaunch(exec, s));
        }
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(a + 252), 5);
        CHECK_EQ(read32(b), 105);
        CHECK_EQ(read32(b + 1024), 5);
        OK(cu.cuGraphExecDestroy(exec));
        CHECK_CU(cu.cuGraphLaunch(exec, s), CUDA_ERROR_INVALID_VALUE);
        CHECK_EQ(fake.tafake_race_count(), 0);
        device_close();
    }
}

static void memory_of_graphs(void)
{
    CUgraphExec exec = NULL, second = NULL;
    CUgraphNode nodes[8];
    CUgraphNodeType type;
    CUgraph graph = NULL;
    CUdeviceptr c = 0, d = 0;
    uint64_t reserved = 0;
    size_t count = 8;
    if (!graphs_open("sched=random:2")) { return; }
    begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_CU(cu.cuMemFreeAsync(a, s), CUDA_ERROR_INVALID_VALUE); /* not memory of a graph */
    OK(cu.cuMemAllocAsync(&c, 4096, s));
    OK(cu.cuMemAllocAsync(&d, 4096, s));
    OK(fill(c, 3, 64, s));
    OK(copy(d, c, 64, s));
    OK(cu.cuMemFreeAsync(c, s));
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphGetNodes(graph, nodes, &count));
    CHECK_EQ(count, 5);
    OK(cu.cuGraphNodeGetType(nodes[0], &type));
    CHECK_EQ(type, CU_GRAPH_NODE_TYPE_MEM_ALLOC);
    OK(cu.cuGraphNodeGetType(nodes[4], &type));
    CHECK_EQ(type, CU_GRAPH_NODE_TYPE_MEM_FREE);
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    CHECK_CU(cu.cuGraphInstantiateWithFlags(&second, graph, 0), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_CU(cu.cuMemFreeAsync(d, s), CUDA_ERROR_INVALID_VALUE); /* never launched */
    OK(cu.cuGraphLaunch(exec, s));
    CHECK_CU(cu.cuGraphLaunch(exec, s), CUDA_ERROR_INVALID_VALUE); /* d is still allocated */
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(d), 3);
    OK(cu.cuMemFreeAsync(d, s));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuMemFreeAsync(d, s));
    OK(cu.cuGraphDestroy(graph));
    OK(cu.cuGraphExecDestroy(exec));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved));
    CHECK_NE(reserved, 0); /* kept until it is trimmed */
    OK(cu.cuDeviceGraphMemTrim(0));
    OK(cu.cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved));
    CHECK_EQ(reserved, 0);
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

/* ---- user objects */
struct destroyed { pthread_mutex_t lock; int calls; CUresult inner; };

static void destroy(void *data)
{
    struct destroyed *one = data;
    CUdeviceptr address = 0;
    pthread_mutex_lock(&one->lock);
    one->calls++;
    one->inner = cu.cuMemAlloc_v2(&address, 16);
    pthread_mutex_unlock(&one->lock);
}

static int calls_of(struct destroyed *one)
{
    int calls;
    fake.tafake_settle();
    pthread_mutex_lock(&one->lock);
    calls = one->calls;
    pthread_mutex_unlock(&one->lock);
    return calls;
}

static void user_objects_live_as_long_as_replays(void)
{
    struct destroyed one = {PTHREAD_MUTEX_INITIALIZER, 0, CUDA_SUCCESS};
    tafake_live live;
    CUuserObject object = NULL;
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    if (!graphs_open("sched=lazy")) { return; }
    begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(fill(a, 1, 64, s));
    OK(cu.cuStreamEndCapture(s, &graph));
    CHECK_CU(cu.cuUserObjectCreate(&object, &one, destroy, 1, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuUserObjectCreate(&object, &one, destroy, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    OK(cu.cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphDestroy(graph));
    CHECK_EQ(calls_of(&one), 0);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec)); /* in flight */
    fake.tafake_count_live(&live);
    CHECK_EQ(live.execs, 1);
    CHECK_EQ(one.calls, 0);
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(calls_of(&one), 1);
    CHECK_EQ(one.inner, CUDA_ERROR_NOT_PERMITTED);
    fake.tafake_count_live(&live);
    CHECK_EQ(live.execs + live.graphs + live.user_objects, 0);
    device_close();
}

static void user_objects_are_counted(void)
{
    struct destroyed one = {PTHREAD_MUTEX_INITIALIZER, 0, CUDA_SUCCESS};
    CUuserObject object = NULL;
    CUgraph graph = NULL;
    if (!graphs_open("sched=lazy")) { return; }
    begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuUserObjectCreate(&object, &one, destroy, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    OK(cu.cuUserObjectRetain(object, 2));
    OK(cu.cuGraphRetainUserObject(graph, object, 1, 0));
    OK(cu.cuUserObjectRelease(object, 3));
    CHECK_EQ(calls_of(&one), 0);
    OK(cu.cuGraphReleaseUserObject(graph, object, 1));
    CHECK_EQ(calls_of(&one), 1);
    CHECK_CU(cu.cuUserObjectRelease(object, 1), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuGraphDestroy(graph));
    device_close();
}

/* ---- random programs: fork, work, join, replay; what is right by construction is not reported, under any
   scheduler */
static void random_captures(void)
{
    uint64_t seed;
    for (seed = 1; seed <= 200; seed++) {
        uint64_t state = seed;
        char config[48];
        CUgraphExec exec;
        uint32_t i, steps, expected = 0;
        (void)snprintf(config, sizeof config, "sched=random:%llu;fill=4096", (unsigned long long)seed);
        if (!graphs_open(config)) { return; }
        test_context("seed %llu", (unsigned long long)seed);
        OK(fill(a, 0, 256, s));
        begin(s, CU_STREAM_CAPTURE_MODE_GLOBAL);
        steps = 1 + test_below(&state, 12);
        for (i = 0; i < steps; i++) {
            const uint32_t value = test_below(&state, 100);
            if (test_below(&state, 2) != 0) {
                order(s, t);
                OK(add(a, value, 256, t));
                order(t, s);
            } else {
                OK(add(a, value, 256, s));
            }
            expected += value;
        }
        exec = finish(s);
        OK(cu.cuGraphLaunch(exec, s));
        order(s, t);
        OK(cu.cuGraphLaunch(exec, t));
        OK(cu.cuGraphExecDestroy(exec));
        OK(cu.cuStreamSynchronize(t));
        CHECK_EQ(read32(a + 1020), 2 * expected);
        CHECK_EQ(fake.tafake_race_count(), 0);
        device_close();
    }
}

TEST_MAIN(TEST_CASE(unsafe_calls_of_the_capturing_thread), TEST_CASE(unsafe_calls_of_other_threads),
          TEST_CASE(never_legal), TEST_CASE(legacy_stream_and_captures), TEST_CASE(wrong_ends_and_joins),
          TEST_CASE(forks_share_the_capture_id), TEST_CASE(replays_compute), TEST_CASE(memory_of_graphs),
          TEST_CASE(user_objects_live_as_long_as_replays), TEST_CASE(user_objects_are_counted),
          TEST_CASE(random_captures))
