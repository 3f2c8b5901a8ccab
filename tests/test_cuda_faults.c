/* test_cuda_faults.c - the driver refuses: every function at its n-th call, for every n, in a scene that goes through
   all of the backend; errors that stay, at every n; memory for records, at every n; every two calls of a short scene.
   Afterwards nothing is missing, the counters are right, and the same calls work. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Memory for records: the n-th request fails, and all that come while `stays`. */
static struct {
    uint64_t seen, fails;
    int stays;
    long out;
} record_calls;

static void *record_new(size_t bytes)
{
    const int refused = ++record_calls.seen == record_calls.fails ||
                        (record_calls.stays && record_calls.fails != 0 && record_calls.seen > record_calls.fails);
    record_calls.out += !refused;
    return refused ? NULL : malloc(bytes);
}

static void record_delete(void *ptr)
{
    record_calls.out -= ptr != NULL;
    free(ptr);
}

#define TENSORALLOC_MALLOC(bytes) record_new(bytes)
#define TENSORALLOC_FREE(ptr) record_delete(ptr)
#include "cuda.h"

/* Every function of the driver that the header may call once there is a device, and the kinds of memory (Ranges,
   Segments, Async, Pinned, Managed) for which it is called when a scene opens it, uses it, closes it; the scene has
   a few calls of its own. */
typedef struct called {
    const char *name, *in[3];
} called;

enum { OPENED, USED, CLOSED, PARTS };
static const called symbols[] = {
    {"cuInit", {"RSAPM", "", ""}},
    {"cuDriverGetVersion", {"RSAPM", "", ""}},
    {"cuDeviceGetCount", {"RSAPM", "", ""}},
    {"cuDeviceGet", {"RSAPM", "", ""}},
    {"cuDeviceGetAttribute", {"RSAPM", "", ""}},
    {"cuMemGetAllocationGranularity", {"R", "", ""}},
    {"cuDeviceGetName", {"", "RSAPM", ""}},
    {"cuDeviceTotalMem_v2", {"", "RSAPM", ""}},
    {"cuGetErrorString", {"", "RSAPM", ""}},
    {"cuDevicePrimaryCtxRetain", {"", "RSAPM", ""}},
    {"cuDevicePrimaryCtxRelease_v2", {"", "", "RSAPM"}},
    {"cuCtxGetCurrent", {"RSAPM", "RSAPM", "RSAPM"}},
    {"cuCtxPushCurrent_v2", {"", "RSAPM", "RSAPM"}},
    {"cuCtxPopCurrent_v2", {"", "RSAPM", "RSAPM"}},
    {"cuCtxSynchronize", {"", "RSAPM", "RSAPM"}},
    {"cuMemGetInfo_v2", {"", "RSAM", ""}},
    {"cuMemAlloc_v2", {"", "S", ""}},
    {"cuMemFree_v2", {"", "SM", "SM"}},
    {"cuMemHostAlloc", {"", "P", ""}},
    {"cuMemFreeHost", {"", "P", "P"}},
    {"cuMemHostRegister_v2", {"", "RSAPM", ""}},
    {"cuMemHostUnregister", {"", "RSAPM", ""}},
    {"cuMemAllocManaged", {"", "M", ""}},
    {"cuMemsetD8Async", {"", "RSAPM", ""}},
    {"cuMemcpyAsync", {"", "SAPM", ""}},
    {"cuStreamCreate", {"", "RSAPM", ""}},
    {"cuStreamDestroy_v2", {"", "RSAPM", "RSAPM"}},
    {"cuStreamSynchronize", {"", "A", "A"}},
    {"cuStreamWaitEvent", {"", "RSAPM", ""}},
    {"cuStreamGetId", {"", "RSAPM", "RSAPM"}},
    {"cuEventCreate", {"", "RSAPM", ""}},
    {"cuEventRecord", {"", "RSAPM", "RSAPM"}},
    {"cuEventQuery", {"", "RSAPM", ""}},
    {"cuEventSynchronize", {"", "RSAPM", "RSAPM"}},
    {"cuEventDestroy_v2", {"", "RSAPM", "RSAPM"}},
    {"cuStreamGetCaptureInfo", {"", "RSAPM", "RSAPM"}},
    {"cuThreadExchangeStreamCaptureMode", {"R", "RSAPM", "RSAPM"}},
    {"cuMemAddressReserve", {"R", "", ""}},
    {"cuMemAddressFree", {"", "", "R"}},
    {"cuMemCreate", {"", "R", ""}},
    {"cuMemRelease", {"", "R", "R"}},
    {"cuMemMap", {"", "R", ""}},
    {"cuMemUnmap", {"", "R", "R"}},
    {"cuMemSetAccess", {"", "R", ""}},
    {"cuMemPoolCreate", {"", "A", ""}},
    {"cuMemPoolDestroy", {"", "", "A"}},
    {"cuMemPoolSetAttribute", {"", "A", ""}},
    {"cuMemPoolTrimTo", {"", "A", ""}},
    {"cuMemAllocFromPoolAsync", {"", "A", ""}},
    {"cuMemFreeAsync", {"", "A", "A"}}};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0], BLOCKS = 12 };

static struct scene {
    ta_dynamic *dynamic;
    ta_handle handle;
    CUstream s, t;
    CUcontext foreign;      /* current on this thread all the time, or null */
    void *blocks[BLOCKS];
    uint64_t counted[SYMBOLS]; /* calls of a run without failure */
    uint64_t records;          /* and how often it asks for memory for records */
    ta_cuda_kind kind;
    int sticky;             /* the error stays: what is gone is not looked for */
    int twice;              /* two calls fail: what was mapped in vain may have to stay */
} scene;

/* What a run without failure calls is what the table says. */
static void count(int part)
{
    int i;
    for (i = 0; i < SYMBOLS; i++) {
        const int is_said = strchr(symbols[i].in[part], "-RSAPM"[scene.kind]) != NULL;
        scene.counted[i] = fake.tafake_calls(symbols[i].name);
        CHECK_TEXT(is_said ? "is called" : "is not called",
                   (scene.counted[i] != 0) == is_said ? symbols[i].name : "as the table says", symbols[i].name);
    }
    scene.records = record_calls.seen;
}

/* An answer that a driver that refuses may lead to. */
static int is_refusal(ta_result result)
{
    return result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_BACKEND || result == TA_ERROR_FRAGMENTED ||
           result == TA_ERROR_UNSUPPORTED || result == TA_ERROR_LIMIT ||
           (record_calls.fails != 0 && result == TA_ERROR_RECORDS);
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
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    if (scene.kind == TA_CUDA_RANGES && !scene.sticky) {
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

/* A stream that ends without a word: what it freed is waited for with everything else. The calls to the driver are the
   scene's own until they succeed. */
static void use_a_stream_that_vanishes(void)
{
    CUstream stream = NULL;
    if (scene.sticky) {
        return;
    }
    while (cu.cuCtxPushCurrent_v2(on.context) != CUDA_SUCCESS) {}
    while (cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) {}
    while (cu.cuCtxPopCurrent_v2(NULL) != CUDA_SUCCESS) {}
    obtain(9, 3 * MIB, stream, 0);
    yield(9);
    obtain(10, 1 * MIB, stream, 0);
    while (cu.cuStreamDestroy_v2(stream) != CUDA_SUCCESS) {}
    answered(ta_pool_trim(pool, 0, NULL));
    yield(10);
    if (scene.blocks[10] != NULL) {
        yield(10);
    }
    look();
}

/* The caller's memory: what could not be registered is not, what could not be unregistered still is. */
static void use_memory_of_the_caller(void)
{
    static char memory[8192];
    ta_result result = ta_cuda_register(cuda, memory, sizeof memory);
    answered(result);
    look();
    if (result == TA_OK) {
        while ((result = ta_cuda_unregister(cuda, memory)) != TA_OK) {
            answered(result);
        }
    } else if (!scene.sticky) {
        CHECK_RESULT(ta_cuda_unregister(cuda, memory), TA_ERROR_FOREIGN);
    }
    look();
}

static void use_pool(void)
{
    CUevent event = NULL;
    size_t free_bytes, total_bytes;
    ta_backend_error error;
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
    use_memory_of_the_caller();
    use_a_stream_that_vanishes();
    answered(ta_pool_empty_cache(pool));
    look();
    look_at_books();
    answered(ta_cuda_trim(cuda));
    look_at_books();
    backend.vtable->last_error(backend.self, &error);
    CHECK(error.text != NULL && error.text[0] != 0);
    look();
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
        (void)fake.tafake_fail(symbols[i].name, 0, 0);
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

/* Whether all of it is there. */
static int scene_open(ta_cuda_kind kind)
{
    ta_cuda_desc desc;
    ta_pool_desc options;
    ta_dynamic_desc more;
    ta_result result;
    const char *why = NULL;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    memset(&more, 0, sizeof more);
    cuda = NULL;
    pool = NULL;
    scene.dynamic = NULL;
    scene.kind = desc.kind = kind;
    desc.chunk_cache_bytes = 8 * MIB;
    result = ta_cuda_create(&desc, &cuda, &why);
    CHECK_EQ(cuda != NULL, result == TA_OK);
    CHECK(why != NULL && (why[0] != 0) == (result == TA_ERROR_UNAVAILABLE || result == TA_ERROR_UNSUPPORTED));
    if (result != TA_OK && result != TA_ERROR_UNAVAILABLE) {
        answered(result);
    }
    if (cuda != NULL) {
        options.backend = more.backend = ta_cuda_backend(cuda);
        answered(ta_pool_create(&options, &pool));
        answered(ta_dynamic_create(&more, &scene.dynamic));
    }
    look();
    return pool != NULL && scene.dynamic != NULL;
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

/* What fails in a run: the n-th call of a function of the driver, or request for memory for records. */
typedef struct fault {
    int symbol; /* its place in the list; NO_CALL, RECORDS */
    int part, code, stays;
    uint64_t n;
} fault;

enum { NO_CALL = -1, RECORDS = -2 };

static void fault_on(const fault *f, int part)
{
    fake.tafake_calls_clear();
    record_calls.seen = 0;
    if (f->part == part && f->symbol >= 0) {
        CHECK_EQ(fake.tafake_fail(symbols[f->symbol].name, f->n, f->code), 0);
    } else if (f->part == part && f->symbol == RECORDS) {
        record_calls.fails = f->n;
        record_calls.stays = f->stays;
    }
}

static void fault_off(const fault *f, int part)
{
    if (f->symbol == NO_CALL && f->part == part) {
        count(part);
    }
    if (f->symbol >= 0) {
        (void)fake.tafake_fail(symbols[f->symbol].name, 0, 0);
    }
    record_calls.fails = 0;
}

/* One run in which something fails in one part of it. */
static void one_run(ta_cuda_kind kind, const fault *f)
{
    int open;
    fault_on(f, OPENED);
    open = scene_open(kind);
    fault_off(f, OPENED);
    CHECK(open || f->part == OPENED);
    if (open) {
        fault_on(f, USED);
        use_pool();
        use_dynamic();
        fault_off(f, USED);
        recover();
    }
    fault_on(f, CLOSED);
    scene_close();
    fault_off(f, CLOSED);
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

static void scene_end(void)
{
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

/* Every function at every n-th call, in one part of the scene. */
static void every_call(ta_cuda_kind kind, int code, int part, const char *name)
{
    static const char *const parts[] = {"opened", "used", "closed"};
    tafake_live before;
    fault f;
    if (!driver_open(strcmp(name, "foreign context") == 0)) {
        return;
    }
    before = live_now();
    memset(&f, 0, sizeof f);
    f.symbol = NO_CALL;
    f.part = part;
    f.code = code;
    test_context("%s, no failure", name);
    one_run(kind, &f);
    look_for_leaks(&before);
    for (f.symbol = 0; f.symbol < SYMBOLS; f.symbol++) {
        for (f.n = 1; f.n <= scene.counted[f.symbol] && test_now.failures < 10; f.n++) {
            test_context("%s, %s call %llu answers %d when %s", name, symbols[f.symbol].name, (unsigned long long)f.n,
                         code, parts[part]);
            one_run(kind, &f);
            if (part != CLOSED || kind == TA_CUDA_RANGES) { /* else what a free was refused dies with the context */
                look_for_leaks(&before);
            }
        }
    }
    scene_end();
}

/* The same with memory for records, once and for good. */
static void every_record(ta_cuda_kind kind, int part, const char *name)
{
    tafake_live before;
    fault f;
    long out;
    if (!driver_open(0)) {
        return;
    }
    before = live_now();
    memset(&f, 0, sizeof f);
    f.symbol = NO_CALL;
    f.part = part;
    one_run(kind, &f);
    CHECK_GT(scene.records, 2);
    out = record_calls.out; /* what this thread keeps for the next pool */
    f.symbol = RECORDS;
    for (f.stays = 0; f.stays <= 1; f.stays++) {
        for (f.n = 1; f.n <= scene.records && test_now.failures < 10; f.n++) {
            test_context("%s, record %llu is refused%s", name, (unsigned long long)f.n, f.stays ? " for good" : "");
            one_run(kind, &f);
            look_for_leaks(&before);
        }
    }
    f.symbol = NO_CALL;
    one_run(kind, &f);
    CHECK_EQ(record_calls.out, out);
    scene_end();
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
    CHECK(scene_open(kind));
    CHECK_EQ(fake.tafake_fail(symbols[symbol].name, n, code), 0);
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

static void sticky_every_call(ta_cuda_kind kind, const char *name)
{
    static const int codes[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_DEINITIALIZED};
    static uint64_t counted[SYMBOLS];
    fault f;
    int i;
    uint64_t n;
    if (!driver_open(0)) {
        return;
    }
    memset(&f, 0, sizeof f);
    f.symbol = NO_CALL;
    f.part = USED;
    one_run(kind, &f);
    memcpy(counted, scene.counted, sizeof counted);
    for (i = 0; i < SYMBOLS; i++) {
        for (n = 1; n <= counted[i] && test_now.failures < 10; n++) {
            test_context("%s, %s call %llu answers %d for good", name, symbols[i].name, (unsigned long long)n,
                         codes[n % 2]);
            sticky_run(kind, i, n, codes[n % 2]);
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

/* The context is gone, and there is no memory for the record that says so: the block is still live, and freed later. */
static void lost_without_records(void)
{
    void *ptr;
    if (!driver_open(0)) {
        return;
    }
    scene.sticky = 1;
    CHECK(scene_open(TA_CUDA_RANGES));
    ptr = ta_pool_alloc_stream(pool, 3 * MIB, STREAM(scene.s), NULL);
    CHECK_OK(ta_pool_record_use(pool, ptr, STREAM(scene.t)));
    fake.tafake_lose_context(0, CUDA_ERROR_ILLEGAL_ADDRESS);
    record_calls.seen = 0;
    record_calls.fails = 1;
    record_calls.stays = 1;
    CHECK_RESULT(ta_pool_free(pool, ptr), TA_ERROR_RECORDS);
    record_calls.fails = 0;
    CHECK_EQ(check_books(pool).live_count, 1);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_EQ(check_books(pool).live_count, 0);
    scene_close();
    (void)cu.cuCtxSetCurrent(NULL);
    CHECK_EQ(fake.tafake_reset(""), 0);
}

static const int invalid = CUDA_ERROR_INVALID_VALUE, no_memory = CUDA_ERROR_OUT_OF_MEMORY;
static void ranges_used_invalid(void) { every_call(TA_CUDA_RANGES, invalid, USED, "ranges"); }
static void ranges_used_no_memory(void) { every_call(TA_CUDA_RANGES, no_memory, USED, "ranges"); }
static void segments_used(void) { every_call(TA_CUDA_SEGMENTS, no_memory, USED, "segments"); }
static void async_used(void) { every_call(TA_CUDA_ASYNC, invalid, USED, "async"); }
static void pinned_used(void) { every_call(TA_CUDA_PINNED, no_memory, USED, "pinned"); }
static void managed_used(void) { every_call(TA_CUDA_MANAGED, invalid, USED, "managed"); }
static void foreign_used(void) { every_call(TA_CUDA_RANGES, invalid, USED, "foreign context"); }
static void ranges_opened(void) { every_call(TA_CUDA_RANGES, invalid, OPENED, "ranges"); }
static void segments_opened(void) { every_call(TA_CUDA_SEGMENTS, no_memory, OPENED, "segments"); }
static void async_opened(void) { every_call(TA_CUDA_ASYNC, invalid, OPENED, "async"); }
static void pinned_opened(void) { every_call(TA_CUDA_PINNED, invalid, OPENED, "pinned"); }
static void managed_opened(void) { every_call(TA_CUDA_MANAGED, invalid, OPENED, "managed"); }
static void ranges_closed(void) { every_call(TA_CUDA_RANGES, invalid, CLOSED, "ranges"); }
static void segments_closed(void) { every_call(TA_CUDA_SEGMENTS, invalid, CLOSED, "segments"); }
static void async_closed(void) { every_call(TA_CUDA_ASYNC, invalid, CLOSED, "async"); }
static void pinned_closed(void) { every_call(TA_CUDA_PINNED, invalid, CLOSED, "pinned"); }
static void managed_closed(void) { every_call(TA_CUDA_MANAGED, invalid, CLOSED, "managed"); }
static void ranges_sticky(void) { sticky_every_call(TA_CUDA_RANGES, "ranges"); }
static void async_sticky(void) { sticky_every_call(TA_CUDA_ASYNC, "async"); }
static void ranges_records(void) { every_record(TA_CUDA_RANGES, USED, "ranges used"); }
static void ranges_records_opened(void) { every_record(TA_CUDA_RANGES, OPENED, "ranges opened"); }
static void async_records(void) { every_record(TA_CUDA_ASYNC, USED, "async used"); }
static void pinned_records(void) { every_record(TA_CUDA_PINNED, USED, "pinned used"); }

TEST_MAIN(TEST_CASE(ranges_used_invalid), TEST_CASE(ranges_used_no_memory), TEST_CASE(segments_used),
          TEST_CASE(async_used), TEST_CASE(pinned_used), TEST_CASE(managed_used), TEST_CASE(foreign_used),
          TEST_CASE(ranges_opened), TEST_CASE(segments_opened), TEST_CASE(async_opened), TEST_CASE(pinned_opened),
          TEST_CASE(managed_opened), TEST_CASE(ranges_closed), TEST_CASE(segments_closed), TEST_CASE(async_closed),
          TEST_CASE(pinned_closed), TEST_CASE(managed_closed), TEST_CASE(ranges_sticky), TEST_CASE(async_sticky),
          TEST_CASE(ranges_records), TEST_CASE(ranges_records_opened), TEST_CASE(async_records),
          TEST_CASE(pinned_records), TEST_CASE(lost_without_records), TEST_CASE(every_pair_of_calls))
