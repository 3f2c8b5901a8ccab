/* test_cuda_faults.c - the driver refuses: every function at its n-th call, for every n, in a scenario that goes
   through all of the backend; every two calls of a short scenario; errors that stay. Afterwards nothing is missing, the counters are right, and the same
   calls work. */
#include "cuda.h"

/* Every function of the driver that the header may call after it has been opened. */
static const char *const symbols[] = {
    "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuCtxGetCurrent", "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2", "cuCtxSynchronize", "cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc",
    "cuMemFreeHost", "cuMemAllocManaged", "cuMemsetD8Async", "cuMemcpyAsync", "cuStreamCreate", "cuStreamDestroy_v2",
    "cuStreamSynchronize", "cuStreamWaitEvent", "cuStreamGetId", "cuEventCreate", "cuEventRecord", "cuEventQuery",
    "cuEventSynchronize", "cuEventDestroy_v2", "cuStreamGetCaptureInfo", "cuThreadExchangeStreamCaptureMode",
    "cuMemAddressReserve", "cuMemAddressFree", "cuMemCreate", "cuMemRelease", "cuMemMap", "cuMemUnmap",
    "cuMemSetAccess", "cuMemPoolCreate", "cuMemPoolDestroy", "cuMemPoolSetAttribute", "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync", "cuDeviceGetName", "cuDeviceTotalMem_v2"};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0], BLOCKS = 12 };

static struct scene {
    ta_dynamic *dynamic;
    ta_handle handle;
    CUstream s, t;
    CUcontext foreign;      /* current on this thread all the time, or null */
    void *blocks[BLOCKS];
    uint64_t counted[SYMBOLS]; /* calls of a run without failure */
    ta_cuda_kind kind;
    int sticky;             /* the error stays: what is gone is not looked for */
    int twice;              /* two calls fail: what was mapped in vain may have to stay */
} scene;

static void add_counts(void)
{
    int i;
    for (i = 0; i < SYMBOLS; i++) {
        scene.counted[i] += fake.tafake_calls(symbols[i]);
    }
    fake.tafake_calls_clear();
}

/* An answer that a driver that refuses may lead to. */
static int is_refusal(ta_result result)
{
    return result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_BACKEND || result == TA_ERROR_FRAGMENTED ||
           result == TA_ERROR_UNSUPPORTED || result == TA_ERROR_LIMIT;
}

static void look(void)
{
    CUcontext current = NULL;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    while (cu.cuCtxGetCurrent(&current) != CUDA_SUCCESS) {} /* this may be the call that fails */
    if (scene.twice) { /* who refuses twice to put back what was is not made good */
        while (current != scene.foreign && cu.cuCtxSetCurrent(scene.foreign) != CUDA_SUCCESS) {}
        while (fake.tafake_capture_mode() != CU_STREAM_CAPTURE_MODE_GLOBAL &&
               cu.cuThreadExchangeStreamCaptureMode(&mode) != CUDA_SUCCESS) {}
        return;
    }
    CHECK(current == scene.foreign);
    CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_GLOBAL);
}

/* The books, beside what the driver has given out. */
static void look_at_books(void)
{
    ta_stats s, d;
    ta_cuda_info info;
    tafake_live live = live_now();
    memset(&s, 0, sizeof s);
    memset(&d, 0, sizeof d);
    if (pool != NULL) {
        s = check_books(pool);
    }
    if (scene.dynamic != NULL) {
        CHECK_OK(ta_allocator_get_stats(ta_dynamic_allocator(scene.dynamic), &d));
        CHECK_EQ(d.reserved_bytes, d.in_use_bytes + d.cached_bytes);
    }
    if (scene.kind == TA_CUDA_RANGES && !scene.sticky) {
        CHECK_OK(ta_cuda_get_info(cuda, &info));
        if (scene.twice) {
            CHECK_GE(live.used_bytes, s.reserved_bytes + d.reserved_bytes + info.chunk_cached_bytes);
        } else {
            CHECK_EQ(live.used_bytes, s.reserved_bytes + d.reserved_bytes + info.chunk_cached_bytes);
        }
    }
}

static void answered(ta_result result)
{
    if (result != TA_OK) {
        CHECK_TEXT("a refusal", is_refusal(result) ? "a refusal" : ta_result_text(result), "a refusal");
    }
}

static void obtain(int i, size_t bytes, CUstream stream, uint32_t flags)
{
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    memset(&request, 0, sizeof request);
    request.size_bytes = bytes;
    request.stream = STREAM(stream);
    request.flags = flags;
    if (scene.blocks[i] == NULL) {
        scene.blocks[i] = ta_pool_alloc_request(pool, &request, &result);
        CHECK_EQ(scene.blocks[i] != NULL, result == TA_OK);
        answered(result);
    }
    look();
}

static void yield(int i)
{
    ta_result result = ta_pool_free(pool, scene.blocks[i]);
    answered(result);
    scene.blocks[i] = result == TA_OK ? NULL : scene.blocks[i];
    look();
}

static void grow_to(int64_t elements)
{
    static const ta_handle none;
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    int64_t min = 0, expected = 1 << 20, max = 16 << 20;
    ta_result result;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &min, &expected, &max));
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.dims = &elements;
    request.stream = STREAM(scene.s);
    if (scene.handle.owner == none.owner) {
        result = ta_dynamic_alloc_request(scene.dynamic, &request, &scene.handle);
    } else {
        result = ta_dynamic_resize(scene.dynamic, scene.handle, &elements, 1);
    }
    answered(result);
    look();
}

static void use_pool(void)
{
    CUevent event = NULL;
    size_t free_bytes, total_bytes;
    ta_backend backend = ta_cuda_backend(cuda);
    obtain(0, 1000, scene.s, 0);
    obtain(1, 100 * KIB, scene.s, TA_REQUEST_ZEROED);
    obtain(2, 3 * MIB, scene.s, 0);
    obtain(3, 5 * MIB, scene.t, 0);
    if (scene.blocks[2] != NULL) {
        answered(ta_pool_record_use(pool, scene.blocks[2], STREAM(scene.t))); /* asks for captures */
    }
    yield(2); /* marked, pending */
    yield(3);
    obtain(4, 4 * MIB, scene.s, 0); /* stolen from t */
    obtain(5, 40 * MIB, scene.s, 0); /* growth */
    look_at_books();
    if (scene.blocks[4] != NULL && fake.tafake_resolve != NULL && cu.cuCtxPushCurrent_v2(on.context) == CUDA_SUCCESS) {
        if (cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS) {
            if (cu.cuEventRecord(event, scene.t) == CUDA_SUCCESS) {
                ta_result result = ta_pool_free_after(pool, scene.blocks[4], (uint64_t)(uintptr_t)event);
                answered(result);
                scene.blocks[4] = result == TA_OK ? NULL : scene.blocks[4];
            }
            while (cu.cuEventDestroy_v2(event) != CUDA_SUCCESS) {}
        }
        while (cu.cuCtxPopCurrent_v2(NULL) != CUDA_SUCCESS) {}
    }
    yield(5);
    answered(ta_pool_trim(pool, 0, NULL));
    look_at_books();
    obtain(6, 6 * MIB, scene.t, 0);
    answered(ta_pool_retire_stream(pool, STREAM(scene.t)));
    yield(6);
    answered(backend.vtable->memory_info(backend.self, &free_bytes, &total_bytes));
    look();
    answered(ta_pool_empty_cache(pool));
    look();
    look_at_books();
}

static void use_dynamic(void)
{
    ta_result result;
    grow_to(2 << 20);
    grow_to(14 << 20);
    if (scene.handle.owner != 0) {
        answered(ta_dynamic_record_use(scene.dynamic, scene.handle, STREAM(scene.t)));
    }
    grow_to(1 << 20);
    answered(ta_allocator_trim(ta_dynamic_allocator(scene.dynamic), 0, NULL));
    look_at_books();
    grow_to(3 << 20);
    result = ta_dynamic_free(scene.dynamic, scene.handle);
    answered(result);
    if (result == TA_OK) {
        memset(&scene.handle, 0, sizeof scene.handle);
    }
    answered(ta_allocator_empty_cache(ta_dynamic_allocator(scene.dynamic)));
    look_at_books();
}

/* The driver gives again: so does everything else. */
static void recover(void)
{
    int i;
    (void)fake.tafake_fail("*", 0, 0);
    for (i = 0; i < SYMBOLS; i++) {
        (void)fake.tafake_fail(symbols[i], 0, 0);
    }
    if (scene.foreign == NULL) { /* a pop that was refused is not ours to make good */
        OK(cu.cuCtxSetCurrent(NULL));
    }
    obtain(7, 10 * MIB, scene.s, 0);
    obtain(8, 100 * KIB, scene.s, TA_REQUEST_ZEROED);
    CHECK(scene.blocks[7] != NULL && scene.blocks[8] != NULL);
    for (i = 0; i < BLOCKS; i++) {
        CHECK_OK(ta_pool_free(pool, scene.blocks[i]));
        scene.blocks[i] = NULL;
    }
    CHECK_OK(ta_dynamic_free(scene.dynamic, scene.handle));
    memset(&scene.handle, 0, sizeof scene.handle);
    grow_to(6 << 20);
    CHECK_NE(scene.handle.owner, 0);
    look_at_books();
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).reserved_bytes, 0);
}

static void scene_open(ta_cuda_kind kind)
{
    ta_cuda_desc desc;
    ta_pool_desc options;
    ta_dynamic_desc more;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    memset(&more, 0, sizeof more);
    scene.kind = desc.kind = kind;
    desc.chunk_cache_bytes = 8 * MIB;
    result = ta_cuda_create(&desc, &cuda, NULL);
    CHECK_OK(result);
    options.backend = more.backend = ta_cuda_backend(cuda);
    answered(ta_pool_create(&options, &pool));
    answered(ta_dynamic_create(&more, &scene.dynamic));
    look();
}

static void scene_close(void)
{
    int tries;
    ta_result result = TA_ERROR_BUSY;
    CHECK_OK(ta_dynamic_destroy(scene.dynamic));
    CHECK_OK(ta_pool_destroy(pool));
    scene.dynamic = NULL;
    memset(&scene.handle, 0, sizeof scene.handle);
    pool = NULL;
    for (tries = 0; tries < 2 && result != TA_OK; tries++) {
        result = ta_cuda_destroy(cuda);
        CHECK(result == TA_OK || result == TA_ERROR_BACKEND);
    }
    CHECK_OK(result);
    cuda = NULL;
}

/* One run in which the n-th call of a symbol fails; symbol -1: none. part 0: while it is used; 1: when closed. */
static void one_run(ta_cuda_kind kind, int symbol, uint64_t n, int code, int part)
{
    scene_open(kind);
    if (pool != NULL && scene.dynamic != NULL) {
        if (symbol >= 0 && part == 0) {
            CHECK_EQ(fake.tafake_fail(symbols[symbol], n, code), 0);
        }
        fake.tafake_calls_clear();
        use_pool();
        use_dynamic();
        if (symbol < 0 && part == 0) {
            add_counts();
        }
        recover();
    }
    fake.tafake_calls_clear();
    if (symbol >= 0 && part == 1) {
        CHECK_EQ(fake.tafake_fail(symbols[symbol], n, code), 0);
    }
    scene_close();
    if (symbol < 0 && part == 1) {
        add_counts();
    }
    if (symbol >= 0) {
        (void)fake.tafake_fail(symbols[symbol], 0, 0);
    }
}

/* Nothing is left but what the case itself has; without its contexts memory of the closed device is counted as gone. */
static void look_for_leaks(const tafake_live *before)
{
    tafake_live live = live_now();
    CHECK_EQ(live.allocations, before->allocations);
    CHECK_EQ(live.host_allocations, before->host_allocations);
    CHECK_EQ(live.reservations, before->reservations);
    CHECK_EQ(live.mappings, before->mappings);
    CHECK_EQ(live.handles, before->handles);
    CHECK_EQ(live.pools, before->pools);
    CHECK_EQ(live.contexts, before->contexts);
    CHECK_EQ(live.streams, before->streams);
    CHECK_EQ(live.used_bytes, before->used_bytes);
}

/* The driver with two streams on its first device; current on this thread is nothing, or the other device. */
static int driver_open(int foreign)
{
    memset(&scene, 0, sizeof scene);
    if (!fake_open("sched=lazy;fill=4096;devices=2")) {
        return 0;
    }
    scene.s = stream_new();
    scene.t = stream_new();
    if (foreign) {
        OK(cu.cuDevicePrimaryCtxRetain(&scene.foreign, 1));
    }
    OK(cu.cuCtxSetCurrent(scene.foreign));
    return 1;
}

static void every_call(ta_cuda_kind kind, int code, int part, const char *name)
{
    tafake_live before;
    int i;
    uint64_t n;
    if (!driver_open(strcmp(name, "foreign context") == 0)) {
        return;
    }
    before = live_now();
    test_context("%s, no failure", name);
    one_run(kind, -1, 0, 0, part);
    look_for_leaks(&before);
    for (i = 0; i < SYMBOLS && test_now.failures < 10; i++) {
        for (n = 1; n <= scene.counted[i] && test_now.failures < 10;
             n += kind == TA_CUDA_ASYNC ? 1 + n / 4 : 1) { /* driver pools are slow to play */
            test_context("%s, %s call %llu answers %d%s", name, symbols[i], (unsigned long long)n, code,
                         part ? " at the end" : "");
            one_run(kind, i, n, code, part);
            if (part == 0 || kind == TA_CUDA_RANGES) {
                look_for_leaks(&before);
            }
            if (part == 1 && test_now.failures == 0) { /* what a segment's free refused dies with the context */
                (void)fake.tafake_fail("*", 0, 0);
            }
        }
    }
    test_context("%s", "");
    fake.tafake_races_clear();
    OK(cu.cuCtxSetCurrent(on.context));
    OK(cu.cuStreamDestroy_v2(scene.s));
    OK(cu.cuStreamDestroy_v2(scene.t));
    device_close();
    if (scene.foreign != NULL) {
        OK(cu.cuDevicePrimaryCtxRelease(1));
    }
}

/* An error that stays, at the n-th call: from then on everything is refused, and what is freed is freed. */
static void sticky_run(ta_cuda_kind kind, int symbol, uint64_t n, int code)
{
    ta_result result = TA_OK;
    ta_cuda_info info;
    int i;
    if (!driver_open(0)) {
        return;
    }
    scene.sticky = 1;
    scene_open(kind);
    CHECK_EQ(fake.tafake_fail(symbols[symbol], n, code), 0);
    use_pool();
    use_dynamic();
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    if (info.is_lost) {
        CHECK(ta_pool_alloc(pool, 100 * MIB, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_BACKEND);
        CHECK_EQ(info.last_code, code);
    }
    for (i = 0; i < BLOCKS; i++) {
        CHECK_OK(ta_pool_free(pool, scene.blocks[i]));
    }
    CHECK_OK(ta_dynamic_free(scene.dynamic, scene.handle));
    check_books(pool);
    scene_close();
    (void)cu.cuCtxSetCurrent(NULL);
}

static void sticky_every_call(void)
{
    static const int codes[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_DEINITIALIZED};
    static uint64_t counted[SYMBOLS];
    int i;
    uint64_t n;
    if (!driver_open(0)) {
        return;
    }
    one_run(TA_CUDA_RANGES, -1, 0, 0, 0);
    memcpy(counted, scene.counted, sizeof counted);
    for (i = 0; i < SYMBOLS && test_now.failures < 10; i++) {
        for (n = 1; n <= counted[i] && test_now.failures < 10; n += 1 + n / 4) { /* all the first ones, then fewer */
            test_context("%s call %llu answers %d for good", symbols[i], (unsigned long long)n, codes[n % 2]);
            if (strcmp(symbols[i], "cuThreadExchangeStreamCaptureMode") != 0 &&
                strcmp(symbols[i], "cuCtxPopCurrent_v2") != 0) {
                sticky_run(TA_CUDA_RANGES, i, n, codes[n % 2]);
            }
        }
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(""), 0);
}

/* For pairs: growth, a block of two streams, what is given back. */
static void use_shortly(void)
{
    obtain(1, 100 * KIB, scene.s, TA_REQUEST_ZEROED);
    obtain(2, 5 * MIB, scene.s, 0);
    if (scene.blocks[2] != NULL) {
        answered(ta_pool_record_use(pool, scene.blocks[2], STREAM(scene.t)));
    }
    yield(2);
    yield(1);
    answered(ta_pool_empty_cache(pool));
    look_at_books();
}

/* The n-th call of the driver from now fails, and the m-th after that. The calls that it made, without n. */
static uint64_t pair_run(ta_cuda_kind kind, uint64_t n, uint64_t m, int code)
{
    uint64_t calls;
    scene.twice = n != 0;
    scene_open(kind);
    fake.tafake_calls_clear();
    CHECK_EQ(fake.tafake_fail_twice("*", n, m, code), 0);
    use_shortly();
    calls = fake.tafake_calls("*");
    CHECK_EQ(fake.tafake_fail("*", 0, 0), 0);
    look();
    recover();
    scene_close();
    return calls;
}

static void every_pair_of_calls(void)
{
    static const ta_cuda_kind kinds[] = {TA_CUDA_RANGES, TA_CUDA_SEGMENTS};
    uint64_t pairs = 0, n, m;
    size_t k;
    for (k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        tafake_live before;
        uint64_t calls;
        if (!driver_open(0)) {
            return;
        }
        before = live_now();
        calls = pair_run(kinds[k], 0, 0, 0);
        look_for_leaks(&before);
        for (n = 1; n < calls; n++) {
            for (m = 1; m <= calls - n && test_now.failures < 10; m++, pairs++) {
                test_context("kind %u: call %llu and the %llu. after it", (unsigned)k, (unsigned long long)n,
                             (unsigned long long)m);
                pair_run(kinds[k], n, m, (n + m) % 2 == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE);
                look_for_leaks(&before);
            }
        }
        test_context("%s", "");
        fake.tafake_races_clear();
        OK(cu.cuCtxSetCurrent(on.context));
        OK(cu.cuStreamDestroy_v2(scene.s));
        OK(cu.cuStreamDestroy_v2(scene.t));
        device_close();
    }
    CHECK_GT(pairs, 500);
}

static void ranges_every_call_invalid(void) { every_call(TA_CUDA_RANGES, CUDA_ERROR_INVALID_VALUE, 0, "ranges"); }
static void ranges_every_call_no_memory(void) { every_call(TA_CUDA_RANGES, CUDA_ERROR_OUT_OF_MEMORY, 0, "ranges"); }
static void segments_every_call(void) { every_call(TA_CUDA_SEGMENTS, CUDA_ERROR_OUT_OF_MEMORY, 0, "segments"); }
static void async_every_call(void) { every_call(TA_CUDA_ASYNC, CUDA_ERROR_INVALID_VALUE, 0, "async"); }
static void pinned_every_call(void) { every_call(TA_CUDA_PINNED, CUDA_ERROR_OUT_OF_MEMORY, 0, "pinned"); }
static void managed_every_call(void) { every_call(TA_CUDA_MANAGED, CUDA_ERROR_INVALID_VALUE, 0, "managed"); }
static void foreign_every_call(void) { every_call(TA_CUDA_RANGES, CUDA_ERROR_INVALID_VALUE, 0, "foreign context"); }
static void ranges_closing(void) { every_call(TA_CUDA_RANGES, CUDA_ERROR_INVALID_VALUE, 1, "ranges"); }
static void segments_closing(void) { every_call(TA_CUDA_SEGMENTS, CUDA_ERROR_INVALID_VALUE, 1, "segments"); }
static void async_closing(void) { every_call(TA_CUDA_ASYNC, CUDA_ERROR_INVALID_VALUE, 1, "async"); }

TEST_MAIN(TEST_CASE(ranges_every_call_invalid), TEST_CASE(ranges_every_call_no_memory), TEST_CASE(segments_every_call),
          TEST_CASE(async_every_call), TEST_CASE(pinned_every_call), TEST_CASE(managed_every_call),
          TEST_CASE(foreign_every_call), TEST_CASE(sticky_every_call), TEST_CASE(every_pair_of_calls),
          TEST_CASE(ranges_closing), TEST_CASE(segments_closing), TEST_CASE(async_closing))
