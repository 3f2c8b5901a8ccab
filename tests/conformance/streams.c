/* streams.c - streams, events, kernels of a CUDA driver: documented behaviour, and open questions as probes. */
#include "probe.h"

static uint64_t spin_time(void)
{
    return is_software() ? 2000000 : 200000000;
}

static void kernels(void)
{
    CUdeviceptr a, b, errors;
    CUstream s;
    if (!device_open()) { return; }
    s = stream_new();
    a = alloc(4096);
    b = alloc(4096);
    errors = alloc(4);
    OK(fill(errors, 0, 1, s));
    OK(fill(a, 11, 1024, s));
    OK(add(a, 4, 1024, s));
    OK(copy(b, a, 1024, s));
    OK(check(errors, b, 15, 1024, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(errors), 0);
    OK(check(errors, b, 16, 1024, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(errors), 1024);
    CHECK_CU(cu.cuModuleGetFunction(&on.spin, on.module, "no_such_kernel"), CUDA_ERROR_NOT_FOUND);
    OK(cu.cuMemFree_v2(a));
    OK(cu.cuMemFree_v2(b));
    OK(cu.cuMemFree_v2(errors));
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

static void events(void)
{
    CUevent event = NULL, timed = NULL, foreign = NULL;
    CUcontext other = NULL;
    CUstream s;
    CUdeviceptr a;
    float ms = -1;
    if (!device_open()) { return; }
    s = stream_new();
    a = alloc(4);
    CHECK_CU(cu.cuEventCreate(NULL, 0), CUDA_ERROR_INVALID_VALUE);
    event = event_new();
    OK(cu.cuEventQuery(event)); /* never recorded: complete */
    OK(cu.cuEventSynchronize(event));
    OK(cu.cuStreamWaitEvent(s, event, 0));
    OK(fill(a, 1, 1, s));
    OK(cu.cuEventRecord(event, s));
    OK(cu.cuEventSynchronize(event));
    OK(cu.cuEventQuery(event));
    OK(cu.cuEventCreate(&timed, 0));
    OK(cu.cuEventRecord(timed, s));
    OK(cu.cuEventSynchronize(timed));
    CHECK_CU(cu.cuEventElapsedTime(&ms, event, timed), CUDA_ERROR_INVALID_HANDLE); /* one without timing */
    OK(cu.cuCtxCreate_v2(&other, 0, 0));
    OK(cu.cuEventCreate(&foreign, CU_EVENT_DISABLE_TIMING));
    OK(cu.cuCtxPopCurrent_v2(NULL));
    CHECK_CU(cu.cuEventRecord(foreign, s), CUDA_ERROR_INVALID_HANDLE);
    OK(cu.cuStreamWaitEvent(s, foreign, 0));
    OK(cu.cuEventDestroy_v2(foreign));
    OK(cu.cuCtxDestroy_v2(other));
    OK(spin_ns(spin_time(), s));
    OK(cu.cuEventRecord(event, s));
    OK(cu.cuEventDestroy_v2(event)); /* at once, whatever is pending */
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuEventDestroy_v2(timed));
    OK(cu.cuMemFree_v2(a));
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

/* Waiting for an event waits for what it was recorded after when the wait was called, not for a later record. */
static void waits_take_the_last_record(void)
{
    CUdeviceptr a;
    CUevent event;
    CUstream s, t;
    if (!device_open()) { return; }
    s = stream_new();
    t = stream_new();
    event = event_new();
    a = alloc(4);
    OK(fill(a, 1, 1, s));
    OK(cu.cuEventRecord(event, s));
    OK(cu.cuStreamWaitEvent(t, event, 0));
    OK(add(a, 1, 1, t));
    OK(cu.cuEventRecord(event, t)); /* the record is replaced */
    OK(cu.cuStreamWaitEvent(s, event, 0));
    OK(add(a, 1, 1, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 3);
    OK(cu.cuEventDestroy_v2(event));
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    OK(cu.cuMemFree_v2(a));
    device_close();
}

static void default_streams(void)
{
    CUstream blocking = NULL;
    CUdeviceptr a;
    if (!device_open()) { return; }
    OK(cu.cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    a = alloc(4);
    OK(fill(a, 1, 1, blocking));
    OK(add(a, 1, 1, NULL));
    OK(add(a, 1, 1, CU_STREAM_PER_THREAD));
    OK(add(a, 1, 1, CU_STREAM_LEGACY));
    OK(add(a, 1, 1, blocking));
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(read32(a), 5);
    CHECK_CU(cu.cuStreamCreate(NULL, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuStreamCreate(&blocking, 77), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemFree_v2(a));
    device_close();
}

static void queries(void)
{
    CUstream s;
    CUresult result;
    int polls = 0;
    if (!device_open()) { return; }
    s = stream_new();
    OK(cu.cuStreamQuery(s));
    OK(spin_ns(spin_time(), s));
    do {
        result = cu.cuStreamQuery(s);
        polls++;
    } while (result == CUDA_ERROR_NOT_READY);
    CHECK_EQ(result, CUDA_SUCCESS);
    CHECK_GE(polls, 1);
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

static void handles_and_ids(void)
{
    unsigned long long ids[8];
    CUcontext context = NULL;
    CUstream first = NULL, s = NULL;
    int i, k, recycled = 0;
    if (!device_open()) { return; }
    s = stream_new();
    OK(cu.cuStreamGetCtx(s, &context));
    CHECK(context == on.context);
    OK(cu.cuStreamDestroy_v2(s));
    for (i = 0; i < 8; i++) {
        s = stream_new();
        first = i == 0 ? s : first;
        recycled += i > 0 && s == first;
        ids[i] = (unsigned long long)i;
        if (cu.cuStreamGetId != NULL) {
            OK(cu.cuStreamGetId(s, &ids[i]));
        }
        for (k = 0; k < i; k++) {
            CHECK_NE(ids[k], ids[i]);
        }
        OK(cu.cuStreamDestroy_v2(s));
    }
    PROBE("P11 stream handles", "%d of 7 were the first handle again", recycled);
    device_close();
}

static void count_call(void *data)
{
    ++*(int *)data;
}

static void host_functions(void)
{
    CUstream s;
    int calls = 0, i;
    if (!device_open()) { return; }
    s = stream_new();
    for (i = 0; i < 5; i++) {
        OK(cu.cuLaunchHostFunc(s, count_call, &calls));
    }
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(calls, 5);
    CHECK_CU(cu.cuLaunchHostFunc(s, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

static void destroyed_with_work(void)
{
    CUdeviceptr a;
    CUstream s;
    if (!device_open()) { return; }
    s = stream_new();
    a = alloc(4);
    OK(fill(a, 0, 1, s));
    OK(spin_ns(spin_time(), s));
    OK(add(a, 9, 1, s));
    OK(cu.cuStreamDestroy_v2(s)); /* its work goes on */
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(read32(a), 9);
    OK(cu.cuMemFree_v2(a));
    device_close();
}

/* P8: which calls wait for work on a stream that has nothing to do with them? */
static void which_calls_wait(void)
{
    static const char *const names[] = {"cuMemFree", "cuMemFreeHost", "cuMemAlloc", "cuMemHostAlloc", "cuMemUnmap",
                                        "cuMemSetAccess"};
    CUmemAllocationProp prop = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr a = 0, base = 0;
    void *memory = NULL;
    size_t page = 0;
    CUstream s;
    int i;
    if (!device_open()) { return; }
    s = stream_new();
    OK(cu.cuMemGetAllocationGranularity(&page, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    OK(cu.cuMemAddressReserve(&base, page, 0, 0, 0));
    for (i = 0; i < 6; i++) {
        double start;
        a = alloc(1 << 20);
        OK(cu.cuMemHostAlloc(&memory, 1 << 20, 0));
        OK(cu.cuMemCreate(&handle, page, &prop, 0));
        OK(cu.cuMemMap(base, page, 0, handle, 0));
        OK(cu.cuMemRelease(handle));
        OK(spin_ns(spin_time(), s));
        start = seconds();
        switch (i) {
        case 0: OK(cu.cuMemFree_v2(a)); break;
        case 1: OK(cu.cuMemFreeHost(memory)); break;
        case 2: OK(cu.cuMemAlloc_v2(&a, 1 << 20)); break;
        case 3: OK(cu.cuMemHostAlloc(&memory, 1 << 20, 0)); break;
        case 4: OK(cu.cuMemUnmap(base, page)); break;
        default: OK(cu.cuMemSetAccess(base, page, &access, 1)); break;
        }
        PROBE("P8", "%s beside a kernel of %.0f ms: %.3f ms", names[i], (double)spin_time() * 1e-6,
              (seconds() - start) * 1e3);
        OK(cu.cuStreamSynchronize(s));
        if (i != 0) { OK(cu.cuMemFree_v2(a)); }
        if (i != 1) { OK(cu.cuMemFreeHost(memory)); }
        if (i != 4) { OK(cu.cuMemUnmap(base, page)); }
    }
    OK(cu.cuMemAddressFree(base, page));
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

TEST_MAIN(TEST_CASE(kernels), TEST_CASE(events), TEST_CASE(waits_take_the_last_record), TEST_CASE(default_streams),
          TEST_CASE(queries), TEST_CASE(handles_and_ids), TEST_CASE(host_functions), TEST_CASE(destroyed_with_work),
          TEST_CASE(which_calls_wait))
