/* test_streams.c - the software driver's streams, events, schedulers and contexts. */
#include "testing.h"

#include <pthread.h>

static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:5", "sched=threads:5"};
enum { SCHEDULERS = sizeof schedulers / sizeof schedulers[0] };

static void lazy_runs_only_what_is_needed(void)
{
    CUstream s, t;
    CUdeviceptr a, b;
    uint32_t value = 0;
    if (!fake_open("sched=lazy")) { return; }
    s = stream_new();
    t = stream_new();
    a = alloc(4);
    b = alloc(4);
    OK(fill(a, 7, 1, s));
    OK(fill(b, 8, 1, t));
    CHECK_EQ(fake.tafake_peek(&value, a, 4), 0);
    CHECK_NE(value, 7);
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(fake.tafake_peek(&value, a, 4), 0);
    CHECK_EQ(value, 7);
    CHECK_EQ(fake.tafake_peek(&value, b, 4), 0);
    CHECK_NE(value, 8); /* the other stream was not asked for */
    CHECK_EQ(fake.tafake_step(s), 0);
    CHECK_EQ(fake.tafake_step(t), 1);
    CHECK_EQ(fake.tafake_peek(&value, b, 4), 0);
    CHECK_EQ(value, 8);
    device_close();
}

/* Polling ends, but not at the first call. */
static void queries_make_progress(void)
{
    CUstream s;
    CUevent event;
    CUdeviceptr a;
    int polls = 0, i;
    if (!fake_open("sched=lazy")) { return; }
    s = stream_new();
    event = event_new();
    a = alloc(64);
    OK(cu.cuEventQuery(event)); /* never recorded */
    for (i = 0; i < 10; i++) {
        OK(add(a, 1, 4, s));
    }
    OK(cu.cuEventRecord(event, s));
    while (cu.cuEventQuery(event) == CUDA_ERROR_NOT_READY && polls < 100) {
        polls++;
    }
    CHECK_GE(polls, 10);
    CHECK_LT(polls, 13);
    OK(cu.cuStreamQuery(s));
    OK(cu.cuMemFree_v2(a));
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

/* The order between streams is what decides the result, whatever runs when. */
static void order_holds_under_every_scheduler(void)
{
    int i, k;
    for (k = 0; k < SCHEDULERS; k++) {
        CUstream s, t;
        CUdeviceptr a;
        test_context("%s", schedulers[k]);
        if (!fake_open(schedulers[k])) { return; }
        s = stream_new();
        t = stream_new();
        a = alloc(4096);
        OK(fill(a, 0, 1024, s));
        for (i = 0; i < 50; i++) {
            order(s, t);
            OK(add(a, 3, 1024, t));
            order(t, s);
            OK(add(a, 4, 1024, s));
        }
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(a + 4092), 350);
        CHECK_EQ(fake.tafake_race_count(), 0);
        device_close();
    }
}

static void legacy_and_blocking_streams(void)
{
    CUstream blocking = NULL, free_running;
    CUdeviceptr a;
    uint32_t value = 0;
    if (!fake_open("sched=lazy")) { return; }
    OK(cu.cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    free_running = stream_new();
    a = alloc(8);
    OK(fill(a, 1, 1, blocking));
    OK(add(a, 10, 1, CU_STREAM_LEGACY));
    OK(add(a, 100, 1, blocking));
    OK(add(a, 1000, 1, CU_STREAM_PER_THREAD));
    OK(fill(a + 4, 5, 1, free_running));
    OK(cu.cuStreamSynchronize(NULL)); /* waits for all blocking streams */
    CHECK_EQ(fake.tafake_peek(&value, a + 4, 4), 0);
    CHECK_NE(value, 5);
    OK(cu.cuStreamSynchronize(CU_STREAM_PER_THREAD));
    CHECK_EQ(fake.tafake_peek(&value, a, 4), 0);
    CHECK_EQ(value, 1111);
    device_close();
}

static void streams_have_ids_and_contexts(void)
{
    CUcontext context = NULL, foreign = NULL;
    unsigned long long first = 0, second = 0;
    CUstream s, again, other = NULL;
    CUevent event;
    if (!fake_open("sched=eager")) { return; }
    s = stream_new();
    OK(cu.cuStreamGetId(s, &first));
    OK(cu.cuStreamGetCtx(s, &context));
    CHECK(context == on.context);
    OK(cu.cuStreamDestroy_v2(s));
    CHECK_CU(cu.cuStreamDestroy_v2(s), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU(cu.cuStreamQuery(s), CUDA_ERROR_INVALID_HANDLE);
    again = stream_new();
    CHECK(again == s); /* the handle comes back, the id does not */
    OK(cu.cuStreamGetId(again, &second));
    CHECK_NE(first, second);
    OK(cu.cuCtxCreate_v2(&foreign, 0, 0));
    OK(cu.cuStreamCreate(&other, 0));
    OK(cu.cuStreamGetCtx(other, &context));
    CHECK(context == foreign);
    OK(cu.cuEventCreate(&event, 0));
    CHECK_CU(cu.cuEventRecord(event, again), CUDA_ERROR_INVALID_HANDLE); /* of another context */
    OK(cu.cuEventRecord(event, other));
    OK(cu.cuStreamWaitEvent(again, event, 0)); /* waiting may cross */
    OK(cu.cuCtxDestroy_v2(foreign));
    CHECK_CU(cu.cuStreamQuery(other), CUDA_ERROR_INVALID_HANDLE);
    OK(cu.cuCtxGetCurrent(&context));
    CHECK(context == on.context);
    device_close();
}

struct host_call { int calls; CUresult inner; };

static void host_call(void *data)
{
    struct host_call *call = data;
    CUdeviceptr address = 0;
    call->calls++;
    call->inner = cu.cuMemAlloc_v2(&address, 16);
}

static void host_functions(void)
{
    int k;
    for (k = 0; k < SCHEDULERS; k++) {
        struct host_call call = {0, CUDA_SUCCESS};
        CUstream s;
        if (!fake_open(schedulers[k])) { return; }
        s = stream_new();
        OK(cu.cuLaunchHostFunc(s, host_call, &call));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(call.calls, 1);
        CHECK_EQ(call.inner, CUDA_ERROR_NOT_PERMITTED);
        device_close();
    }
}

static void a_reset_drops_what_is_pending(void)
{
    struct host_call call = {0, CUDA_SUCCESS};
    tafake_live live;
    CUdeviceptr a;
    CUstream s;
    if (!fake_open("sched=lazy")) { return; }
    s = stream_new();
    a = alloc(4096);
    OK(fill(a, 1, 1024, s));
    OK(cu.cuLaunchHostFunc(s, host_call, &call));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.pending, 2);
    CHECK_EQ(live.streams, 1);
    CHECK_EQ(fake.tafake_reset(NULL), 0);
    fake.tafake_count_live(&live);
    CHECK_EQ(live.pending + live.streams + live.contexts + live.modules + live.used_bytes, 0);
    CHECK_EQ(call.calls, 0);
    CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_INVALID_CONTEXT);
}

/* A host function that waits for the host: only threads let the host go on. */
static volatile int released;
static pthread_mutex_t released_lock = PTHREAD_MUTEX_INITIALIZER;

static int is_released(void)
{
    int now;
    pthread_mutex_lock(&released_lock);
    now = released;
    pthread_mutex_unlock(&released_lock);
    return now;
}

static void wait_for_host(void *unused)
{
    (void)unused;
    while (!is_released()) {}
}

static void threads_run_beside_the_host(void)
{
    CUstream s;
    if (!fake_open("sched=threads:9")) { return; }
    s = stream_new();
    released = 0;
    OK(cu.cuLaunchHostFunc(s, wait_for_host, NULL));
    OK(spin_ns(1000, s));
    CHECK_CU(cu.cuStreamQuery(s), CUDA_ERROR_NOT_READY);
    pthread_mutex_lock(&released_lock);
    released = 1;
    pthread_mutex_unlock(&released_lock);
    OK(cu.cuStreamSynchronize(s));
    device_close();
}

static void *from_another_thread(void *data)
{
    CUcontext context = NULL;
    CUdeviceptr address = 0;
    uint64_t *errors = data;
    *errors += cu.cuCtxGetCurrent(&context) != CUDA_SUCCESS || context != NULL;
    *errors += cu.cuMemAlloc_v2(&address, 16) != CUDA_ERROR_INVALID_CONTEXT;
    *errors += cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    *errors += cu.cuMemAlloc_v2(&address, 16) != CUDA_SUCCESS;
    *errors += cu.cuMemsetD8Async(address, 1, 16, CU_STREAM_PER_THREAD) != CUDA_SUCCESS;
    *errors += cu.cuStreamSynchronize(CU_STREAM_PER_THREAD) != CUDA_SUCCESS;
    *errors += cu.cuMemFree_v2(address) != CUDA_SUCCESS;
    return NULL;
}

static void contexts_are_per_thread(void)
{
    pthread_t threads[4];
    uint64_t errors[4] = {0, 0, 0, 0};
    CUcontext context = NULL;
    int i;
    if (!fake_open("sched=random:3")) { return; }
    for (i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, from_another_thread, &errors[i]), 0);
    }
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(errors[i], 0);
    }
    OK(cu.cuCtxPushCurrent_v2(on.context));
    OK(cu.cuCtxPopCurrent_v2(&context));
    CHECK(context == on.context);
    OK(cu.cuCtxPopCurrent_v2(&context));
    CHECK_CU(cu.cuCtxPopCurrent_v2(&context), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_CU(cu.cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

/* The last release resets the context: what was in it is gone. */
static void primary_contexts(void)
{
    CUcontext again = NULL;
    CUdeviceptr a;
    tafake_live live;
    unsigned flags = 1;
    int active = 0;
    if (!fake_open("overhead=4M")) { return; }
    a = alloc(1 << 20);
    OK(cu.cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(again == on.context);
    OK(cu.cuDevicePrimaryCtxRelease_v2(0));
    OK(cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
    CHECK_EQ(active, 1);
    OK(cu.cuDevicePrimaryCtxRelease_v2(0));
    OK(cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
    CHECK_EQ(active, 0);
    CHECK_CU(cu.cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
    fake.tafake_count_live(&live);
    CHECK_EQ(live.allocations + live.used_bytes + live.contexts, 0);
    OK(cu.cuDevicePrimaryCtxRetain(&on.context, 0));
    OK(cu.cuCtxSetCurrent(on.context));
    CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_INVALID_VALUE);
    on.module = NULL;
    device_close();
}

/* A thousand operations waiting in a chain are no deep recursion, and no long search. */
static void long_chains(void)
{
    CUstream s;
    CUdeviceptr a;
    int i;
    if (!fake_open("sched=lazy")) { return; }
    s = stream_new();
    a = alloc(4);
    OK(fill(a, 0, 1, s));
    for (i = 0; i < 20000; i++) {
        OK(add(a, 1, 1, s));
    }
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 20000);
    device_close();
}

static void elapsed_time(void)
{
    CUevent start = NULL, end = NULL;
    CUstream s;
    float ms = -1;
    if (!fake_open("sched=threads")) { return; }
    s = stream_new();
    OK(cu.cuEventCreate(&start, 0));
    OK(cu.cuEventCreate(&end, 0));
    OK(cu.cuEventRecord(start, s));
    OK(spin_ns(3000000, s));
    OK(cu.cuEventRecord(end, s));
    OK(cu.cuEventSynchronize(end));
    OK(cu.cuEventElapsedTime(&ms, start, end));
    CHECK(ms >= 2.9f);
    device_close();
}

static void kernels_compute(void)
{
    CUdeviceptr x, y, out;
    float factor = 0.5f, values[4] = {1, 2, 3, 4}, got[4];
    uint32_t n = 4;
    void *axpy[] = {&y, &x, &factor, &n}, *mul[] = {&out, &x, &y, &n}, *sum[] = {&out, &x, &n};
    uint32_t total;
    if (!fake_open("sched=lazy")) { return; }
    x = alloc(16);
    y = alloc(16);
    out = alloc(16);
    OK(cu.cuMemcpyHtoD_v2(x, values, 16));
    OK(cu.cuMemcpyHtoD_v2(y, values, 16));
    OK(launch(on.axpy, NULL, axpy));
    OK(launch(on.mul, NULL, mul));
    OK(cu.cuMemcpyDtoH_v2(got, out, 16));
    CHECK(got[0] == 1.5f && got[3] == 24.0f);
    OK(cu.cuMemsetD32Async(x, 21, 4, NULL));
    OK(launch(on.sum32, NULL, sum));
    OK(cu.cuMemcpyDtoH_v2(&total, out, 4));
    CHECK_EQ(total, 84);
    device_close();
}

TEST_MAIN(TEST_CASE(lazy_runs_only_what_is_needed), TEST_CASE(queries_make_progress),
          TEST_CASE(order_holds_under_every_scheduler), TEST_CASE(legacy_and_blocking_streams),
          TEST_CASE(streams_have_ids_and_contexts), TEST_CASE(host_functions),
          TEST_CASE(a_reset_drops_what_is_pending), TEST_CASE(threads_run_beside_the_host),
          TEST_CASE(contexts_are_per_thread), TEST_CASE(primary_contexts), TEST_CASE(long_chains),
          TEST_CASE(elapsed_time),
          TEST_CASE(kernels_compute))
