/* capture.c - stream capture and graphs of a CUDA driver: documented behaviour, and open questions as probes. */
#include "probe.h"

static CUstream s, t;

static int capture_open(void)
{
    if (!device_open()) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    return 1;
}

static void capture_close(void)
{
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    device_close();
}

static void begin(CUstreamCaptureMode mode)
{
    OK(cu.cuStreamBeginCapture_v2(s, mode));
}

/* Ends the capture; whether it was still whole. */
static int end(void)
{
    CUgraph graph = NULL;
    CUresult result = cu.cuStreamEndCapture(s, &graph);
    if (graph != NULL) {
        OK(cu.cuGraphDestroy(graph));
    }
    CHECK_EQ(graph != NULL, result == CUDA_SUCCESS);
    return result == CUDA_SUCCESS;
}

static CUstreamCaptureMode push(CUstreamCaptureMode mode)
{
    OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
    return mode;
}

static void status_and_ids(void)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    cuuint64_t first = 0, second = 0;
    CUgraph graph = NULL;
    if (!capture_open()) { return; }
    OK(cu.cuStreamIsCapturing(s, &status));
    CHECK_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
    CHECK_CU(cu.cuStreamIsCapturing(s, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_CU(cu.cuStreamBeginCapture_v2(s, (CUstreamCaptureMode)7), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_ILLEGAL_STATE);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_CU(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_ILLEGAL_STATE);
    OK(cu.cuStreamGetCaptureInfo(s, &status, &first));
    CHECK_EQ(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    order(s, t);
    OK(cu.cuStreamGetCaptureInfo(t, &status, &second));
    CHECK_EQ(first, second);
    order(t, s);
    CHECK_EQ(end(), 1);
    OK(cu.cuStreamIsCapturing(t, &status));
    CHECK_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuStreamGetCaptureInfo(s, &status, &second));
    CHECK_NE(first, second);
    CHECK_EQ(end(), 1);
    capture_close();
}

static void modes_are_of_the_thread(void)
{
    CUstreamCaptureMode mode = (CUstreamCaptureMode)5;
    if (!capture_open()) { return; }
    CHECK_CU(cu.cuThreadExchangeStreamCaptureMode(&mode), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQ(push(CU_STREAM_CAPTURE_MODE_RELAXED), CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_EQ(push(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK_EQ(push(CU_STREAM_CAPTURE_MODE_GLOBAL), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    capture_close();
}

static void allocation_in_capture(void)
{
    CUdeviceptr a = 0;
    if (!capture_open()) { return; }
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_CU(cu.cuMemAlloc_v2(&a, 4096), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQ(end(), 0);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    (void)push(CU_STREAM_CAPTURE_MODE_RELAXED);
    a = alloc(4096); /* now, and not part of the graph */
    (void)push(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_EQ(end(), 1);
    OK(cu.cuMemFree_v2(a));
    capture_close();
}

static void joins(void)
{
    CUdeviceptr a;
    CUgraph graph = NULL;
    CUevent outside;
    if (!capture_open()) { return; }
    a = alloc(64);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    order(s, t);
    OK(fill(a, 1, 4, t));
    CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    CHECK(graph == NULL);
    outside = event_new();
    OK(cu.cuEventRecord(outside, t));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK_CU(cu.cuStreamWaitEvent(s, outside, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    CHECK_EQ(end(), 0);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuEventRecord(outside, s));
    CHECK_CU(cu.cuEventQuery(outside), CUDA_ERROR_CAPTURED_EVENT);
    (void)end();
    OK(cu.cuEventDestroy_v2(outside));
    OK(cu.cuMemFree_v2(a));
    capture_close();
}

static void replays(void)
{
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    CUdeviceptr a;
    size_t count = 0;
    int i;
    if (!capture_open()) { return; }
    a = alloc(4096);
    OK(fill(a, 0, 1024, s));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(add(a, 2, 1024, s));
    order(s, t);
    OK(add(a, 3, 1024, t));
    order(t, s);
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphGetNodes(graph, NULL, &count));
    CHECK_EQ(count, 2);
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphDestroy(graph)); /* the executable graph lives on */
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 0); /* captured work does not run */
    for (i = 0; i < 4; i++) {
        OK(cu.cuGraphLaunch(exec, s));
    }
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a + 4092), 20);
    OK(cu.cuGraphExecDestroy(exec));
    OK(cu.cuMemFree_v2(a));
    capture_close();
}

/* P1, P2: what the two queries cost on the hot path. */
static void costs_of_queries(void)
{
    enum { CALLS = 20000 };
    CUstreamCaptureStatus status;
    double start;
    int i;
    if (!capture_open()) { return; }
    start = seconds();
    for (i = 0; i < CALLS; i++) {
        (void)cu.cuStreamIsCapturing(s, &status);
    }
    PROBE("P1 cuStreamIsCapturing", "%.0f ns", (seconds() - start) * 1e9 / CALLS);
    start = seconds();
    for (i = 0; i < CALLS; i++) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        (void)cu.cuThreadExchangeStreamCaptureMode(&mode);
        (void)cu.cuThreadExchangeStreamCaptureMode(&mode);
    }
    PROBE("P2 cuThreadExchangeStreamCaptureMode", "%.0f ns", (seconds() - start) * 1e9 / CALLS / 2);
    capture_close();
}

enum { QUESTIONS = 17 };
static const char *const questions[QUESTIONS] = {
    "P3 cuStreamGetId of the capturing stream", "P3 cuStreamGetCtx of the capturing stream", "P4 cuMemAddressReserve",
    "P4 cuMemCreate", "P4 cuMemMap", "P4 cuMemSetAccess", "P4 cuMemUnmap", "P4 cuMemRelease", "P5 cuEventCreate",
    "P5 cuMemGetInfo", "P5 cuStreamCreate", "P6 cuMemAllocAsync on another stream", "P7 cuMemFree", "cuMemHostAlloc",
    "cuEventQuery of an event outside", "cuMemcpyHtoD",
    "cuStreamQuery of another stream"};

struct prepared { CUmemAllocationProp prop; CUdeviceptr base, a; CUmemGenericAllocationHandle handle; CUevent event; };

static CUresult ask(int question, struct prepared *p)
{
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    unsigned long long id = 0;
    size_t free_bytes, total;
    CUdeviceptr address = 0;
    CUcontext context;
    CUstream stream;
    CUevent event;
    void *memory;
    switch (question) {
    case 0: return cu.cuStreamGetId != NULL ? cu.cuStreamGetId(s, &id) : CUDA_ERROR_NOT_FOUND;
    case 1: return cu.cuStreamGetCtx(s, &context);
    case 2: return cu.cuMemAddressReserve(&address, 2 << 20, 0, 0, 0);
    case 3: return cu.cuMemCreate(&handle, 2 << 20, &p->prop, 0);
    case 4: return cu.cuMemMap(p->base + (2 << 20), 2 << 20, 0, p->handle, 0);
    case 5: return cu.cuMemSetAccess(p->base, 2 << 20, &access, 1);
    case 6: return cu.cuMemUnmap(p->base, 2 << 20);
    case 7: return cu.cuMemRelease(p->handle);
    case 8: return cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
    case 9: return cu.cuMemGetInfo_v2(&free_bytes, &total);
    case 10: return cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
    case 11: return cu.cuMemAllocAsync != NULL ? cu.cuMemAllocAsync(&address, 4096, t) : CUDA_ERROR_NOT_FOUND;
    case 12: return cu.cuMemFree_v2(p->a);
    case 13: return cu.cuMemHostAlloc(&memory, 4096, 0);
    case 14: return cu.cuEventQuery(p->event);
    case 15: return cu.cuMemcpyHtoD_v2(p->a, &id, 8);
    default: return cu.cuStreamQuery(t);
    }
}

/* P3 to P7: what each call answers in a global capture, with and without stepping aside, and whether the capture
   lives. What the calls made is not given back: the context goes with it. */
static void calls_in_capture(void)
{
    int question, relaxed;
    for (question = 0; question < QUESTIONS; question++) {
        for (relaxed = 0; relaxed < 2; relaxed++) {
            struct prepared p;
            CUresult result;
            if (!capture_open()) { return; }
            memset(&p, 0, sizeof p);
            p.prop = device_prop(0);
            p.a = alloc(4096);
            p.event = event_new();
            OK(cu.cuMemAddressReserve(&p.base, 4 << 20, 0, 0, 0));
            OK(cu.cuMemCreate(&p.handle, 2 << 20, &p.prop, 0));
            OK(cu.cuMemMap(p.base, 2 << 20, 0, p.handle, 0));
            begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
            if (relaxed) {
                (void)push(CU_STREAM_CAPTURE_MODE_RELAXED);
            }
            result = ask(question, &p);
            (void)push(CU_STREAM_CAPTURE_MODE_GLOBAL);
            PROBE(questions[question], "%s: %s, capture %s", relaxed ? "relaxed" : "global", cu_text(result),
                  end() ? "whole" : "invalidated");
            capture_close();
        }
    }
}

static void mark(void *data)
{
    *(volatile int *)data = 1;
}

static void pause_a_little(void)
{
    const struct timespec time = {0, 30000000};
    if (is_software()) {
        fake.tafake_settle();
    } else {
        nanosleep(&time, NULL);
    }
}

/* P12: graph destroyed, executable graph alive, then destroyed while it runs. */
static void user_objects(void)
{
    static int gone;
    CUuserObject object = NULL;
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    CUdeviceptr a;
    if (!capture_open()) { return; }
    if (cu.cuUserObjectCreate == NULL) {
        TEST_SKIP("no user objects");
        capture_close();
        return;
    }
    gone = 0;
    a = alloc(64);
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(spin_ns(is_software() ? 1000000 : 100000000, s));
    OK(fill(a, 1, 4, s));
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuUserObjectCreate(&object, &gone, mark, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    OK(cu.cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphDestroy(graph));
    pause_a_little();
    PROBE("P12 graph destroyed, executable graph alive", "%s", gone ? "destroyed" : "alive");
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec));
    PROBE("P12 executable graph destroyed in flight", "%s", gone ? "destroyed" : "alive");
    OK(cu.cuStreamSynchronize(s));
    pause_a_little();
    PROBE("P12 after the launch", "%s", gone ? "destroyed" : "alive");
    OK(cu.cuMemFree_v2(a));
    capture_close();
}

/* P14, last: memory unmapped under a graph. The context is lost by it. */
static void replay_of_unmapped_memory(void)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    CUdeviceptr base = 0;
    CUresult result;
    if (!capture_open()) { return; }
    OK(cu.cuMemAddressReserve(&base, 2 << 20, 0, 0, 0));
    OK(cu.cuMemCreate(&handle, 2 << 20, &prop, 0));
    OK(cu.cuMemMap(base, 2 << 20, 0, handle, 0));
    OK(cu.cuMemSetAccess(base, 2 << 20, &access, 1));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(fill(base, 1, 4, s));
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuMemUnmap(base, 2 << 20));
    OK(cu.cuMemRelease(handle));
    result = cu.cuGraphLaunch(exec, s);
    PROBE("P14 launch over unmapped memory", "%s", cu_text(result));
    result = cu.cuStreamSynchronize(s);
    PROBE("P14 and then", "%s", cu_text(result));
    PROBE("P14 cuMemAlloc afterwards", "%s", cu_text(cu.cuMemAlloc_v2(&base, 16)));
}

TEST_MAIN(TEST_CASE(status_and_ids), TEST_CASE(modes_are_of_the_thread), TEST_CASE(allocation_in_capture),
          TEST_CASE(joins), TEST_CASE(replays), TEST_CASE(costs_of_queries), TEST_CASE(calls_in_capture),
          TEST_CASE(user_objects), TEST_CASE(replay_of_unmapped_memory))
