/* test_graph_faults.c - a capture that fails at every possible call: of the program's (begin, work, end, instantiate,
   launch) and of the library's, each function at its n-th call, for every n (of more than 40 calls at steps). Around
   it are the other calls that meet the driver: events, trim, a tensor that moves, one that grows, reset, destroy.
   Afterwards nothing is missing or left behind, nothing is reported, and the same scenario works. The same where two
   calls fail, drawn by chance, and where the n-th record cannot be allocated. */
#include <stdlib.h>

static unsigned long long made_records, record_that_fails;

static void *record_new(size_t bytes)
{
    return ++made_records == record_that_fails ? NULL : malloc(bytes);
}

#define TENSORALLOC_MALLOC(bytes) record_new(bytes)
#define TENSORALLOC_FREE(ptr) free(ptr)
#include "graph.h"

static const char *const symbols[] = {
    "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuLaunchKernel",
    "cuStreamGetCaptureInfo", "cuThreadExchangeStreamCaptureMode", "cuCtxGetCurrent", "cuMemAddressReserve",
    "cuMemAddressFree", "cuMemCreate", "cuMemRelease", "cuMemMap", "cuMemUnmap", "cuMemSetAccess", "cuEventCreate",
    "cuEventRecord", "cuEventQuery", "cuEventSynchronize", "cuStreamWaitEvent", "cuStreamSynchronize", "cuStreamGetId",
    "cuUserObjectCreate", "cuUserObjectRelease", "cuGraphRetainUserObject", "cuMemsetD8Async", "cuMemcpyAsync",
    "cuGraphDestroy", "cuGraphExecDestroy"};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0], HELD = 8 };

static CUdeviceptr eager[2], held[HELD];
static CUgraph graph;
static CUgraphExec exec;
static ta_tensor moved;
static ta_dynamic *dynamic;
static ta_handle handle;
static uint64_t failed_runs, whole_runs, told_of_records;
static int mode_refused;

static int is_refusal(ta_result result)
{
    told_of_records += result == TA_ERROR_RECORDS;
    return (result == TA_ERROR_RECORDS && record_that_fails != 0) || result == TA_ERROR_OUT_OF_MEMORY ||
           result == TA_ERROR_BACKEND || result == TA_ERROR_CAPTURE ||
           result == TA_ERROR_UNSUPPORTED || result == TA_ERROR_BUSY || result == TA_ERROR_FRAGMENTED;
}

/* 1: it was answered TA_OK; else by a refusal. */
static int fine(ta_result result)
{
    if (result != TA_OK) {
        CHECK_TEXT("a refusal", is_refusal(result) ? "a refusal" : ta_result_text(result), "a refusal");
    }
    return result == TA_OK;
}

static int good(CUresult result)
{
    return result == CUDA_SUCCESS;
}

static CUdeviceptr try_take(size_t bytes, CUstream stream, uint32_t flags)
{
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr;
    memset(&request, 0, sizeof request);
    request.size_bytes = bytes;
    request.stream = STREAM(stream);
    request.flags = flags;
    ptr = ta_pool_alloc_request(pool, &request, &result);
    CHECK_EQ(ptr != NULL, fine(result));
    return ADDRESS(ptr);
}

static int try_order(CUstream before, CUstream after)
{
    CUevent event = NULL;
    int ok = good(cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING)) && good(cu.cuEventRecord(event, before)) &&
             good(cu.cuStreamWaitEvent(after, event, 0));
    return (event == NULL || good(cu.cuEventDestroy_v2(event))) && ok;
}

/* A block that two streams use, freed, wanted again and given back: the pool asks for events and waits for them. */
static int try_events(void)
{
    CUdeviceptr block = try_take(3 * MIB, t, 0);
    int ok = block != 0 && good(fill(block, 1, 64, t)) && try_order(t, s) && good(add(block, 1, 64, s)) &&
             fine(ta_pool_record_use(pool, pointer(block), STREAM(s)));
    if (block != 0 && !ok) { /* work that was not announced */
        while (!good(cu.cuStreamSynchronize(s))) {}
    }
    while (block != 0 && !fine(ta_pool_free(pool, pointer(block)))) {}
    block = try_take(3 * MIB, t, 0);
    ok = ok && block != 0;
    while (block != 0 && !fine(ta_pool_free(pool, pointer(block)))) {}
    return fine(ta_pool_trim(pool, 0, NULL)) && fine(ta_cuda_trim(cuda)) && ok;
}

/* A tensor that moves into the graph pool, and one that grows. */
static int try_tensors(ta_graph_pool *mine)
{
    const int64_t dims[1] = {1 << 16}, least = 1, expected = 1 << 18, most = 1 << 20;
    ta_dynamic_desc desc;
    ta_dynamic_request request;
    ta_shape_bounds bounds;
    int ok = fine(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(s), &moved)) &&
             good(fill(ADDRESS(moved.buffer.data), 1, 1 << 16, s)) &&
             fine(ta_tensor_ensure_graph_compatible(&moved, mine, STREAM(s), TA_GRAPH_COPY));
    memset(&desc, 0, sizeof desc);
    memset(&request, 0, sizeof request);
    desc.backend = ta_cuda_backend(cuda);
    desc.range_bytes = 64 * MIB;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &expected, &most));
    request.bounds = &bounds;
    request.stream = STREAM(s);
    return ok && fine(ta_dynamic_create(&desc, &dynamic)) &&
           fine(ta_dynamic_alloc_request(dynamic, &request, &handle));
}

/* The capture itself; every address that it got is in held. */
static int try_capture(ta_graph_pool *capturing)
{
    int ok = good(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_GLOBAL)), i;
    const int begun = ok;
    for (i = 0; ok && i < HELD; i++) {
        CUstream stream = i % 3 == 2 ? t : s;
        if (i == 2) {
            ok = try_order(s, t);
        }
        held[i] = ok ? try_take((size_t)(i + 1) * 600 * KIB, stream, i == 4 ? (uint32_t)TA_REQUEST_ZEROED : 0u) : 0;
        ok = held[i] != 0 && good(fill(held[i], (uint32_t)i, 64, stream));
        if (ok && i == 3) {
            ok = fine(ta_pool_record_use(pool, pointer(held[2]), STREAM(s))) && fine(ta_pool_free(pool, pointer(held[2])));
            held[2] = ok ? 0 : held[2];
        }
        if (ok && i == 5) {
            ok = fine(ta_pool_record_use(pool, pointer(eager[0]), STREAM(s)));
        }
        if (ok && i == 6) {
            ok = fine(ta_graph_pool_hold_handle(capturing, dynamic, handle));
        }
    }
    ok = ok && try_order(t, s);
    if (begun) {
        const CUresult ended = cu.cuStreamEndCapture(s, &graph);
        if (!good(ended)) {
            ok = 0;
            graph = NULL;
            (void)cu.cuStreamEndCapture(s, &graph); /* if the first did nothing: the program gives up */
            if (graph == NULL) {
                (void)cu.cuStreamEndCapture(s, &graph); /* nor the second */
            }
            while (graph != NULL && !good(cu.cuGraphDestroy(graph))) {}
            graph = NULL;
        }
    }
    return ok;
}

/* Everything, as far as it goes. */
static void run_scenario(void)
{
    ta_graph_pool_desc desc;
    ta_capture_report report;
    ta_graph_pool *mine = NULL;
    int ok, i;
    memset(held, 0, sizeof held);
    memset(&desc, 0, sizeof desc);
    desc.pool = pool;
    desc.range_bytes = 32 * MIB;
    desc.initial_bytes = 2 * MIB;
    memset(&moved, 0, sizeof moved);
    dynamic = NULL;
    graph = NULL;
    exec = NULL;
    for (i = 0; i < 2; i++) {
        eager[i] = try_take(700 * KIB, i == 0 ? t : s, 0);
    }
    ok = fine(ta_graph_pool_create(&desc, &mine)) && eager[0] != 0 && eager[1] != 0;
    ok = ok && fine(ta_graph_pool_reserve(mine, 4 * MIB)) && try_events() && try_tensors(mine);
    if (ok && fine(ta_capture_enter(mine, STREAM(s)))) {
        ok = try_capture(mine);
        CHECK_OK(ta_capture_leave(mine, STREAM(s), !ok, &report));
        if (!ok) { /* all of it is gone already */
            memset(held, 0, sizeof held);
            CHECK_EQ(report.capture != 0 || report.allocation_count == 0, 1);
            CHECK_EQ(stats_of(mine).memory.block_count, moved.buffer.data != NULL);
        } else {
            ok = fine(ta_graph_pool_attach(mine, (uint64_t)(uintptr_t)graph)) &&
                 good(cu.cuGraphInstantiateWithFlags(&exec, graph, 0)) && good(cu.cuGraphLaunch(exec, s)) &&
                 good(cu.cuStreamSynchronize(s));
        }
    } else {
        ok = 0;
    }
    failed_runs += !ok;
    whole_runs += ok != 0;
    for (i = 0; i < HELD; i++) {
        if (held[i] != 0) {
            (void)fine(ta_pool_free(pool, pointer(held[i])));
        }
    }
    for (i = 0; i < 2; i++) {
        while (eager[i] != 0 && !fine(ta_pool_free(pool, pointer(eager[i])))) {}
    }
    while (graph != NULL && !good(cu.cuGraphDestroy(graph))) {}
    while (exec != NULL && !good(cu.cuGraphExecDestroy(exec))) {}
    while (moved.buffer.data != NULL && !fine(ta_tensor_destroy(&moved, STREAM(s)))) {}
    if (mine != NULL && good(cu.cuStreamSynchronize(s)) && fine(ta_graph_pool_trim(mine))) {
        (void)fine(ta_graph_pool_reset(mine));
    }
    while (mine != NULL && !fine(ta_graph_pool_destroy(mine))) {}
    fake.tafake_settle();
    (void)fine(ta_pool_trim(pool, 0, NULL)); /* looks for what can go */
    for (i = 0; dynamic != NULL && i < 3; i++) {
        dynamic = fine(ta_dynamic_destroy(dynamic)) ? NULL : dynamic;
    }
    CHECK(dynamic == NULL);
    if (fake.tafake_capture_mode() != CU_STREAM_CAPTURE_MODE_GLOBAL) { /* only where the driver refused to put it back */
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
        CHECK_EQ(mode_refused, 1);
        OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
    }
    CHECK_EQ(live_now().captures, 0);
}

/* The same without a failure, then the end: everything goes back. */
static void check_whole(void)
{
    const uint64_t before = whole_runs;
    ta_graph_pool_desc desc;
    ta_graph_pool *last = NULL;
    run_scenario();
    CHECK_EQ(whole_runs, before + 1);
    memset(&desc, 0, sizeof desc);
    desc.pool = pool;
    CHECK_OK(ta_graph_pool_create(&desc, &last)); /* looks for what can go */
    CHECK_OK(ta_graph_pool_destroy(last));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).live_count, 0);
    CHECK_EQ(check_books(pool).pending_bytes, 0);
    CHECK_EQ(check_books(pool).reserved_bytes, 0);
    graphs = NULL;
    graphs_close();
}

static int faults_open(void)
{
    if (!world_open("sched=lazy;fill=4096", TA_CUDA_RANGES, NULL)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    return 1;
}

/* What is called only after something else has failed: that fails too. */
static void fail_before(const char *symbol, int begins)
{
    if (strcmp(symbol, "cuUserObjectRelease") == 0) {
        CHECK_EQ(fake.tafake_fail("cuGraphRetainUserObject", (uint64_t)begins, begins ? CUDA_ERROR_OUT_OF_MEMORY : 0), 0);
    }
}

static uint64_t calls_of(const char *symbol)
{
    uint64_t calls;
    fake.tafake_calls_clear();
    fail_before(symbol, 1);
    run_scenario();
    calls = fake.tafake_calls(symbol);
    fail_before(symbol, 0);
    check_whole();
    return calls;
}

static void every_call_fails_once(void)
{
    size_t k;
    for (k = 0; k < SYMBOLS; k++) {
        uint64_t n, step, calls;
        if (!faults_open()) { return; }
        calls = calls_of(symbols[k]);
        step = calls > 40 ? calls / 40 : 1;
        test_context("%s", symbols[k]);
        CHECK_GT(calls, 0); /* else nothing is tested here */
        for (n = 1; n <= calls; n += step) {
            if (!faults_open()) { return; }
            mode_refused = strcmp(symbols[k], "cuThreadExchangeStreamCaptureMode") == 0;
            test_context("%s, call %llu of %llu", symbols[k], (unsigned long long)n, (unsigned long long)calls);
            CHECK_EQ(fake.tafake_fail(symbols[k], n, k % 2 == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY), 0);
            fail_before(symbols[k], 1);
            run_scenario();
            CHECK_EQ(fake.tafake_fail(symbols[k], 0, 0), 0);
            fail_before(symbols[k], 0);
            mode_refused = 0;
            check_whole();
            test_context("%s", "");
        }
    }
    CHECK_GT(failed_runs, 50);
}

static void every_record_fails_once(void)
{
    unsigned long long n, count;
    if (!faults_open()) { return; }
    made_records = 0;
    run_scenario();
    count = made_records;
    check_whole();
    CHECK_GT(count, 10);
    for (n = 1; n <= count; n++) {
        if (!faults_open()) { return; }
        test_context("record %llu of %llu", n, count);
        made_records = 0;
        record_that_fails = n;
        run_scenario();
        CHECK_GE(made_records, n); /* it did fail */
        record_that_fails = 0;
        check_whole();
        test_context("%s", "");
    }
    CHECK_GT(told_of_records, 10);
}

enum { PAIRS = 150 };

/* Two calls fail: of different functions, or of one; what is tried after the first failure may fail as well. */
static void pairs_of_calls_fail(void)
{
    uint64_t random = test_now.seed, calls[SYMBOLS];
    int pair, second_failed = 0;
    size_t k;
    for (k = 0; k < SYMBOLS; k++) {
        if (!faults_open()) { return; }
        calls[k] = calls_of(symbols[k]);
    }
    for (pair = 0; pair < PAIRS; pair++) {
        const uint32_t one = test_below(&random, SYMBOLS), other = test_below(&random, SYMBOLS);
        const uint64_t n = 1 + test_below(&random, (uint32_t)calls[one]);
        const uint64_t m = 1 + test_below(&random, pair % 2 ? 3 : (uint32_t)calls[other]);
        const int code = pair % 3 == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
        const uint64_t failed = failed_runs;
        if (!faults_open()) { return; }
        mode_refused = strcmp(symbols[one], "cuThreadExchangeStreamCaptureMode") == 0 ||
                       strcmp(symbols[other], "cuThreadExchangeStreamCaptureMode") == 0;
        test_context("pair %d: %s, call %llu, and %s, call %llu", pair, symbols[one], (unsigned long long)n,
                     symbols[other], (unsigned long long)m);
        if (one == other) {
            CHECK_EQ(fake.tafake_fail_twice(symbols[one], n, m, code), 0);
        } else {
            CHECK_EQ(fake.tafake_fail(symbols[one], n, code), 0);
            CHECK_EQ(fake.tafake_fail(symbols[other], m, code), 0);
        }
        run_scenario();
        CHECK_EQ(fake.tafake_fail(symbols[one], 0, 0), 0);
        CHECK_EQ(fake.tafake_fail(symbols[other], 0, 0), 0);
        second_failed += failed_runs != failed;
        mode_refused = 0;
        check_whole();
        test_context("%s", "");
    }
    CHECK_GT(second_failed, PAIRS / 2);
}

TEST_MAIN(TEST_CASE(every_call_fails_once), TEST_CASE(pairs_of_calls_fail), TEST_CASE(every_record_fails_once))
