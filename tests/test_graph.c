/* test_graph.c - graph pools and capture scopes: where allocations of a capture come from, how long they live, what a
   scope reports, who shares what, and the limits of each. */
#include "graph.h"

/* ---- where memory comes from */
static void a_capture_without_a_scope_is_an_error(void)
{
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    begin(s);
    CHECK_RESULT(refused(BYTES, s), TA_ERROR_CAPTURE);
    CHECK_OK(ta_capture_enter(graphs, STREAM(t))); /* a scope on another stream is none for this one */
    CHECK_RESULT(refused(BYTES, s), TA_ERROR_CAPTURE);
    CHECK_OK(ta_capture_leave(graphs, STREAM(t), 0, NULL));
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    give(take(BYTES, s));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
    graphs_close();
}

/* A graph that fills, adds and copies through three allocations, replayed with eager work in between that uses whatever
   memory is free: under every scheduler the same, and nothing unordered. */
static void replays_keep_their_memory(void)
{
    size_t k;
    for (k = 0; k < SCHEDULERS; k++) {
        CUdeviceptr a, b, out, eager;
        CUgraphExec exec;
        uint32_t i;
        if (!graphs_open(schedulers[k], 0)) { return; }
        test_context("%s", schedulers[k]);
        enter(graphs, s);
        a = take(BYTES, s);
        b = take(3 * MIB, s);
        out = take(BYTES, s);
        OK(fill(a, 5, WORDS, s));
        OK(copy(b, a, WORDS, s));
        OK(add(b, 2, WORDS, s));
        OK(copy(out, b, WORDS, s));
        give(a);
        give(b);
        exec = finish(graphs, s, NULL);
        for (i = 0; i < 4; i++) {
            eager = take(BYTES, s);
            CHECK(eager != a && eager != b && eager != out);
            OK(fill(eager, 1000 + i, WORDS, s));
            OK(cu.cuGraphLaunch(exec, s));
            give(eager);
            eager = take(3 * MIB, s);
            CHECK(eager != a && eager != b);
            OK(fill(eager, 2000, WORDS, s));
            give(eager);
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(out), 7);
            CHECK_EQ(read32(out + BYTES - 4), 7);
        }
        give(out);
        OK(cu.cuGraphExecDestroy(exec));
        check_books(pool);
        graphs_close();
    }
}

/* Streams that wait for an event of the capture are in it; nobody had to announce them. */
static void forked_streams_are_routed(void)
{
    size_t k;
    for (k = 0; k < SCHEDULERS; k++) {
        CUdeviceptr a, b, c, eager;
        CUstream u;
        CUgraphExec exec;
        if (!graphs_open(schedulers[k], 0)) { return; }
        test_context("%s", schedulers[k]);
        u = stream_new();
        enter(graphs, s);
        order(s, t);
        b = take(BYTES, t); /* the first allocation is that of the fork */
        a = take(BYTES, s);
        eager = take(BYTES, u);
        CHECK(ta_pool_owns(pool, pointer(eager)));
        OK(fill(a, 1, WORDS, s));
        OK(fill(b, 2, WORDS, t));
        give(b);
        c = take(BYTES, s);
        CHECK(c != b); /* t may still be at work on it */
        OK(fill(c, 3, WORDS, s));
        order(t, s);
        give(c);
        CHECK_EQ(take(BYTES, s), c);
        CHECK_EQ(take(BYTES, t), b);
        OK(fill(eager, 9, WORDS, u));
        exec = finish(graphs, s, NULL);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        OK(cu.cuStreamSynchronize(u));
        CHECK_EQ(read32(a) + read32(b) + read32(c) + read32(eager), 1 + 2 + 3 + 9);
        give(eager);
        give(a);
        give(b);
        give(c);
        OK(cu.cuGraphExecDestroy(exec));
        OK(cu.cuStreamDestroy_v2(u));
        graphs_close();
    }
}

/* A block that a fork uses is announced, freed, and not used again before the end of the capture. */
static void uses_on_forks_are_parked(void)
{
    CUdeviceptr a, b;
    CUgraphExec exec;
    int announced;
    for (announced = 0; announced < 2; announced++) {
        if (!graphs_open("sched=lazy", 0)) { return; }
        enter(graphs, s);
        a = take(BYTES, s);
        OK(fill(a, 1, WORDS, s));
        order(s, t);
        OK(add(a, 1, WORDS, t));
        if (announced) {
            CHECK_OK(ta_pool_record_use(pool, pointer(a), STREAM(t)));
        }
        fake.tafake_calls_clear();
        give(a);
        b = take(BYTES, s);
        CHECK_EQ(a == b, !announced);
        CHECK_EQ(fake.tafake_calls("*"), fake.tafake_calls("cuStreamGetCaptureInfo"));
        OK(fill(b, 7, WORDS, s));
        order(t, s);
        exec = finish(graphs, s, NULL);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(take_reports() != 0, !announced);
        give(b);
        OK(cu.cuGraphExecDestroy(exec));
        graphs_close();
    }
}

/* In nested scopes the newest counts, and the one before counts again. */
static void scopes_nest(void)
{
    ta_graph_pool *inner;
    CUdeviceptr a, b, c, d;
    CUgraphExec exec;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    inner = graphs_new(1);
    enter(graphs, s);
    a = take(BYTES, s);
    CHECK_OK(ta_capture_enter(inner, STREAM(s)));
    b = take(BYTES, s);
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    c = take(BYTES, s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    give(b);
    CHECK_EQ(take(BYTES, s), b);
    CHECK_OK(ta_capture_leave(inner, STREAM(s), 0, NULL));
    d = take(BYTES, s);
    CHECK_EQ(stats_of(graphs).memory.block_count, 3);
    CHECK_EQ(stats_of(inner).memory.block_count, 1);
    OK(fill(a, 1, WORDS, s));
    OK(fill(b, 1, WORDS, s));
    OK(fill(c, 1, WORDS, s));
    OK(fill(d, 1, WORDS, s));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
    CHECK_OK(ta_graph_pool_attach(inner, (uint64_t)(uintptr_t)graph));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    CHECK_RESULT(ta_graph_pool_trim(inner), TA_ERROR_BUSY);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec));
    OK(cu.cuStreamSynchronize(s));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_destroy(inner));
    graphs_close();
}

/* ---- what a capture needed */
/* A network's worth of allocations; the same each time. */
static void allocate_a_step(void)
{
    CUdeviceptr live[8] = {0};
    uint64_t state = 7;
    int i;
    for (i = 0; i < 200; i++) {
        const uint32_t at = test_below(&state, 8);
        if (live[at] != 0) {
            give(live[at]);
        }
        live[at] = take(256 + test_below(&state, 3u << 20), s);
        OK(fill(live[at], 1, 16, s));
    }
    for (i = 0; i < 8; i++) {
        give(live[i]);
    }
}

/* Growth in a capture; then what the report says is reserved, and the same capture asks the driver for nothing. */
static void exact_reservation(void)
{
    ta_capture_report first, second;
    CUgraphExec exec;
    CUgraph graph;
    if (!graphs_open("sched=lazy;fill=4096", 0)) { return; }
    enter(graphs, s);
    fake.tafake_calls_clear();
    allocate_a_step();
    CHECK_EQ(fake.tafake_calls_unrelaxed("*"), 0);
    CHECK_EQ(fake.tafake_calls("cuMemUnmap") + fake.tafake_calls("cuMemRelease") + fake.tafake_calls("cuEventQuery") +
             fake.tafake_calls("cuEventRecord") + fake.tafake_calls("cuEventSynchronize") +
             fake.tafake_calls("cuCtxSynchronize") + fake.tafake_calls("cuStreamSynchronize"), 0);
    CHECK_GT(fake.tafake_calls("cuMemMap"), 0);
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, &first));
    OK(cu.cuGraphDestroy(graph));
    CHECK_GT(first.growth_count, 0);
    CHECK_EQ(first.grown_bytes, stats_of(graphs).memory.reserved_bytes);
    CHECK_EQ(first.allocation_count, 200);
    CHECK_EQ(first.deallocation_count, 200);
    CHECK_EQ(first.live_count + first.in_use_bytes, 0);
    CHECK_LE(first.peak_in_use_bytes, first.reserve_bytes);
    CHECK_LE(first.reserve_bytes, first.grown_bytes);
    CHECK_OK(ta_graph_pool_reset(graphs));
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);

    CHECK_OK(ta_graph_pool_reserve(graphs, first.reserve_bytes));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, first.reserve_bytes);
    enter(graphs, s);
    fake.tafake_calls_clear();
    allocate_a_step();
    CHECK_EQ(fake.tafake_calls("*"), fake.tafake_calls("cuStreamGetCaptureInfo") + fake.tafake_calls("cuLaunchKernel") +
                                     fake.tafake_calls("cuGetErrorName")); /* the last two are ours */
    CHECK_EQ(fake.tafake_calls("cuStreamGetCaptureInfo"), 201); /* one for each allocation, and one for the scope */
    exec = finish(graphs, s, &second);
    CHECK_EQ(second.growth_count + second.grown_bytes, 0);
    CHECK_EQ(second.reserve_bytes, first.reserve_bytes);
    CHECK_EQ(second.peak_in_use_bytes, first.peak_in_use_bytes);
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, first.reserve_bytes);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec));
    graphs_close();
}

/* What a step leaves on the short way: pairs of small blocks, all of them at once, and then one large block that fits
   only where the small ones were. */
static void allocate_small(CUdeviceptr *at)
{
    static const size_t sizes[] = {4096, 300, 20000};
    CUdeviceptr small[16];
    int i;
    for (i = 0; i < 300; i++) {
        at[0] = take(sizes[i % 3], s);
        give(at[0]);
    }
    for (i = 0; i < 3; i++) {
        at[i] = take(sizes[i], s);
        CHECK_EQ(ta_pool_capacity_of(pool, pointer(at[i])), (sizes[i] + 255) / 256 * 256);
    }
    for (i = 0; i < 3; i++) {
        give(at[i]);
        CHECK_EQ(take(sizes[i], s), at[i]); /* what was freed last comes first */
        give(at[i]);
        CHECK_EQ(ta_pool_free(pool, pointer(at[i])), TA_ERROR_STALE);
    }
    for (i = 0; i < 16; i++) {
        small[i] = take(4096, s);
    }
    for (i = 0; i < 16; i++) {
        give(small[i]);
    }
    at[3] = take(65536, s);
    at[4] = take(4096, s);
    give(at[3]);
    give(at[4]);
}

/* Small blocks that a capture frees wait apart from the heap: figures, addresses and reservations are as without. */
static void short_ways(void)
{
    ta_capture_report first, second;
    CUdeviceptr before[5], after[5];
    CUgraphExec exec[2];
    if (!graphs_open("sched=lazy;fill=4096", 1)) { return; }
    enter(graphs, s);
    allocate_small(before);
    exec[0] = finish(graphs, s, &first);
    CHECK_EQ(first.allocation_count, 300 + 3 + 3 + 16 + 2);
    CHECK_EQ(first.deallocation_count, first.allocation_count);
    CHECK_EQ(first.live_count + first.in_use_bytes, 0);
    CHECK_EQ(first.peak_in_use_bytes, 65536 + 4096);
    CHECK_EQ(stats_of(graphs).memory.in_use_bytes + stats_of(graphs).memory.block_count, 0);
    enter(graphs, s);
    allocate_small(after);
    exec[1] = finish(graphs, s, &second);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_EQ(second.growth_count + second.grown_bytes, 0);
    CHECK_EQ(second.reserve_bytes, first.reserve_bytes);
    CHECK_EQ(second.peak_in_use_bytes, first.peak_in_use_bytes);
    OK(cu.cuGraphExecDestroy(exec[0]));
    OK(cu.cuGraphExecDestroy(exec[1]));
    check_books(pool);
    graphs_close();
}

/* Less than the least that will do is too little. */
static void reservation_is_not_generous(void)
{
    ta_capture_report report;
    CUgraph graph;
    if (!graphs_open("sched=lazy;fill=4096", 0)) { return; }
    enter(graphs, s);
    allocate_a_step();
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_OK(ta_graph_pool_reserve(graphs, report.reserve_bytes - 2 * MIB));
    enter(graphs, s);
    allocate_a_step();
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
    CHECK_GT(report.growth_count, 0);
    graphs_close();
}

/* The budget is empty: the capture is told what is missing, and nobody is asked to give back while it runs. */
static void out_of_memory_in_a_capture(void)
{
    ta_pool_desc desc;
    ta_capture_report report;
    ta_failure failure;
    CUdeviceptr a, b;
    CUgraph graph;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 16 * MIB;
    if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) { return; }
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(0);
    a = take(8 * MIB, t); /* will be free, and stays the pool's */
    OK(fill(a, 1, WORDS, t));
    give(a);
    enter(graphs, s);
    a = take(2 * MIB, s);
    fake.tafake_calls_clear();
    CHECK_RESULT(refused(10 * MIB, s), TA_ERROR_LIMIT);
    CHECK_EQ(fake.tafake_calls("*"), fake.tafake_calls("cuStreamGetCaptureInfo"));
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    CHECK_EQ(failure.result, TA_ERROR_LIMIT);
    CHECK_EQ(failure.requested_bytes, 10 * MIB);
    b = take(2 * MIB, s); /* goes on */
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
    OK(cu.cuGraphDestroy(graph));
    CHECK_EQ(report.failure_count, 1);
    CHECK_EQ(report.missing_bytes, 10 * MIB);
    CHECK_EQ(report.reserve_bytes, 4 * MIB);
    CHECK(a != b);
    CHECK_OK(ta_graph_pool_reserve(graphs, report.reserve_bytes + report.missing_bytes)); /* the pool gives back */
    enter(graphs, s);
    a = take(2 * MIB, s);
    b = take(10 * MIB, s);
    give(take(2 * MIB, s));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
    CHECK_EQ(report.growth_count + report.failure_count, 0);
    OK(cu.cuGraphDestroy(graph));
    graphs_close();
}

/* ---- captures that fail */
static void a_failed_capture_leaves_nothing(void)
{
    CUdeviceptr before, a, b;
    ta_capture_report report;
    CUgraph graph = NULL;
    ta_request request;
    int i;
    if (!graphs_open("sched=lazy", 0)) { return; }
    memset(&request, 0, sizeof request);
    request.size_bytes = BYTES;
    request.stream = STREAM(s);
    before = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL)); /* not of the scope */
    for (i = 0; i < 3; i++) {
        enter(graphs, s);
        a = take(BYTES, s);
        b = take(3 * MIB, s);
        CHECK(a != 0 && b != 0);
        CHECK_CU(cu.cuStreamQuery(t), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); /* breaks it */
        CHECK_RESULT(refused(BYTES, s), TA_ERROR_CAPTURE);
        CHECK_OK(ta_pool_free(pool, pointer(b)));
        CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
        CHECK_EQ(report.live_count, 2);
        CHECK_EQ(stats_of(graphs).memory.block_count, 1);
        CHECK_RESULT(ta_pool_free(pool, pointer(a)), TA_ERROR_STALE);
        CHECK_EQ(stats_of(graphs).is_referenced, 0);
        if (i != 0) {
            CHECK_EQ(report.growth_count, 0); /* the memory is ready for the next try */
        }
    }
    CHECK_EQ(stats_of(graphs).failed_count, 3);
    CHECK_EQ(stats_of(graphs).capture_count, 0);
    give(before);
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
    graphs_close();
}

/* ---- sharing */
static CUgraphExec fill_graph(ta_graph_pool *of, uint32_t value, size_t bytes, CUdeviceptr out)
{
    CUdeviceptr a;
    enter(of, s);
    a = take(bytes, s);
    OK(fill(a, value, WORDS, s));
    OK(add(a, 1, WORDS, s));
    OK(copy(out, a, WORDS, s));
    give(a);
    return finish(of, s, NULL);
}

/* Two graphs over the same memory: right in order, whatever the stream; reported when they overlap. */
static void sharing(void)
{
    int ordered, rest;
    for (ordered = 0; ordered < 2; ordered++) {
        CUgraphExec x, y;
        CUdeviceptr out, other;
        ta_graph_pool *alone;
        if (!graphs_open("sched=random:3", 1)) { return; }
        out = take(BYTES, s);
        other = take(BYTES, t);
        CHECK_OK(ta_graph_pool_reserve(graphs, 2 * MIB));
        x = fill_graph(graphs, 10, MIB, out);
        y = fill_graph(graphs, 20, MIB, other);
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 2 * MIB);
        CHECK_EQ(stats_of(graphs).graph_count, 2);
        for (rest = 0; rest < 3; rest++) {
            OK(cu.cuGraphLaunch(x, s));
            if (ordered) {
                order(s, t);
            }
            OK(cu.cuGraphLaunch(y, t));
            if (ordered) {
                order(t, s);
            }
        }
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(take_reports() != 0, !ordered);
        if (ordered) {
            CHECK_EQ(read32(out), 11);
            CHECK_EQ(read32(other), 21);
        }
        OK(cu.cuGraphExecDestroy(x));
        OK(cu.cuGraphExecDestroy(y));
        alone = graphs_new(0); /* without the flag the second capture is refused while the first one's graph lives */
        x = fill_graph(alone, 1, MIB, out);
        CHECK_RESULT(ta_capture_enter(alone, STREAM(s)), TA_ERROR_BUSY);
        OK(cu.cuGraphExecDestroy(x));
        fake.tafake_settle();
        CHECK_OK(ta_capture_enter(alone, STREAM(s)));
        CHECK_RESULT(ta_capture_enter(alone, STREAM(t)), TA_ERROR_BUSY); /* one capture at a time */
        CHECK_OK(ta_capture_leave(alone, STREAM(s), 1, NULL));
        CHECK_OK(ta_graph_pool_destroy(alone));
        give(out);
        give(other);
        graphs_close();
    }
}

/* Eight graphs of different sizes that share take what the largest takes. */
static void eight_shared_graphs(void)
{
    CUgraphExec exec[8];
    size_t alone = 0, together;
    uint64_t state;
    int i, k;
    for (k = 0; k < 2; k++) {
        if (!graphs_open("sched=eager;fill=4096", 1)) { return; }
        for (i = 0; i < (k == 0 ? 1 : 8); i++) {
            CUdeviceptr live[6] = {0};
            int j, scale = k == 0 ? 8 : i + 1;
            state = 11;
            enter(graphs, s);
            for (j = 0; j < 60; j++) {
                const uint32_t at = test_below(&state, 6);
                if (live[at] != 0) {
                    give(live[at]);
                }
                live[at] = take(1000 + (size_t)scale * test_below(&state, 400000), s);
                OK(fill(live[at], 1, 64, s));
            }
            for (j = 0; j < 6; j++) {
                if (live[j] != 0) {
                    give(live[j]);
                }
            }
            exec[i] = finish(graphs, s, NULL);
        }
        together = stats_of(graphs).memory.reserved_bytes;
        alone = k == 0 ? together : alone;
        while (i-- > 0) {
            OK(cu.cuGraphLaunch(exec[i], s));
            OK(cu.cuGraphExecDestroy(exec[i]));
        }
        graphs_close();
    }
    CHECK_GT(alone, 8 * MIB);
    CHECK_LE(together * 100, alone * 105);
}

/* ---- how long it lives */
/* The graph pool is destroyed first: the memory stays until the last executable is gone, even in flight. */
static void memory_lives_as_long_as_replays(void)
{
    size_t k;
    int when; /* the graph is destroyed before its executable, or after it; 2: in flight */
    for (k = 0; k < SCHEDULERS; k++) {
        for (when = 0; when < 3; when++) {
            CUgraphExec exec;
            CUgraph graph;
            CUdeviceptr a, out;
            if (!graphs_open(schedulers[k], 0)) { return; }
            test_context("%s, order %d", schedulers[k], when);
            out = take(BYTES, t);
            enter(graphs, s);
            a = take(BYTES, s);
            OK(fill(a, 3, WORDS, s));
            OK(copy(out, a, WORDS, s));
            graph = end(s);
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
            CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
            CHECK_RESULT(ta_graph_pool_reset(graphs), TA_ERROR_BUSY);
            CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
            CHECK_OK(ta_graph_pool_destroy(graphs)); /* put off */
            CHECK_RESULT(ta_graph_pool_reserve(graphs, BYTES), TA_ERROR_DISPOSED);
            exec = instantiate(graph);
            if (when != 1) {
                OK(cu.cuGraphDestroy(graph));
            }
            CHECK_OK(ta_pool_empty_cache(pool));
            CHECK_RESULT(ta_pool_destroy(pool), TA_ERROR_BUSY);
            OK(cu.cuGraphLaunch(exec, s));
            if (when != 2) {
                OK(cu.cuStreamSynchronize(s));
            }
            OK(cu.cuGraphExecDestroy(exec));
            if (when == 1) {
                OK(cu.cuGraphDestroy(graph));
            }
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(out), 3);
            give(out);
            graphs = NULL;
            graphs_close();
        }
    }
}

/* Nothing is taken from a replay in flight by destroy, trim, or a sibling that wants memory. */
static void nothing_is_taken_in_flight(void)
{
    CUgraphExec exec;
    CUdeviceptr out, big;
    ta_memory_usage usage;
    if (!graphs_open("sched=lazy;cap=64M", 0)) { return; }
    out = take(BYTES, t);
    exec = fill_graph(graphs, 4, 8 * MIB, out);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec)); /* still pending */
    CHECK_RESULT(refused(56 * MIB, t), TA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(stats_of(graphs).is_referenced, 1);
    CHECK_OK(ta_graph_pool_destroy(graphs));
    CHECK_OK(ta_pool_get_memory_usage(pool, &usage));
    CHECK_EQ(usage.graph_pool_count, 1);
    OK(cu.cuStreamSynchronize(s));
    fake.tafake_settle();
    big = take(56 * MIB, t); /* this call finds that the graph is gone, and has room */
    give(big);
    CHECK_EQ(read32(out), 5);
    give(out);
    graphs = NULL;
    graphs_close();
}

static void *resolve(void *user, const char *name)
{
    (void)user;
    return fake.tafake_resolve(name);
}

/* A device of a driver that lacks what is hidden. */
static ta_cuda *cuda_hiding(void)
{
    ta_cuda_desc desc;
    ta_cuda *made = NULL;
    memset(&desc, 0, sizeof desc);
    desc.kind = TA_CUDA_RANGES;
    desc.resolve = resolve;
    CHECK_OK(ta_cuda_create(&desc, &made, NULL));
    return made;
}

/* By hand, where graphs cannot tell. */
static void retain_and_release(void)
{
    CUgraphExec exec;
    CUdeviceptr a;
    CUgraph graph;
    if (!fake_open("sched=lazy;hide=cuUserObjectCreate")) { return; }
    graphs = NULL;
    pool = NULL;
    s = stream_new();
    t = stream_new();
    cuda = cuda_hiding();
    pool = pool_new(cuda, NULL);
    graphs = graphs_new(0);
    enter(graphs, s);
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_RESULT(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph), TA_ERROR_UNSUPPORTED);
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY); /* nobody said that it is over */
    CHECK_OK(ta_graph_pool_retain(graphs));
    CHECK_OK(ta_graph_pool_retain(graphs));
    CHECK_EQ(stats_of(graphs).retain_count, 2);
    CHECK_OK(ta_graph_pool_release(graphs));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_graph_pool_destroy(graphs));
    CHECK_RESULT(ta_pool_destroy(pool), TA_ERROR_BUSY);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 1);
    OK(cu.cuGraphExecDestroy(exec));
    CHECK_OK(ta_graph_pool_release(graphs)); /* the last one: it is gone */
    graphs = NULL;
    graphs_close();
}

/* What graphs may replay into is missing elsewhere: the failure says so, and what it advises helps. */
static void failures_name_graphs(void)
{
    ta_pool_desc desc;
    ta_failure failure;
    ta_result result = TA_OK;
    CUgraphExec exec;
    CUdeviceptr a, out;
    char text[256];
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 16 * MIB;
    if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) { return; }
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(0);
    enter(graphs, s);
    a = take(10 * MIB, s);
    OK(fill(a, 1, WORDS, s));
    give(a);
    exec = finish(graphs, s, NULL);
    CHECK(ta_pool_alloc_stream(pool, 10 * MIB, STREAM(t), &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_GRAPHS);
    CHECK_EQ(failure.action, TA_ACTION_DESTROY_GRAPHS);
    CHECK_GE(failure.graph_bytes, 10 * MIB);
    CHECK_LE(failure.graph_bytes, failure.sibling_reserved_bytes);
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
    CHECK(strstr(text, "graphs hold 1") != NULL);
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_trim(graphs));
    give(take(10 * MIB, t));

    a = take(8 * MIB, t); /* the pool's own, freed while a graph uses it: no stream is waited for */
    out = take(BYTES, t);
    OK(fill(a, 1, WORDS, t));
    OK(cu.cuStreamSynchronize(t));
    enter(graphs, s);
    OK(copy(out, a, WORDS, s));
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(a)));
    exec = finish(graphs, s, NULL);
    give(a);
    CHECK(ta_pool_alloc_stream(pool, 10 * MIB, STREAM(t), &result) == NULL);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_GRAPHS);
    CHECK_GE(failure.graph_bytes, 8 * MIB);
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    give(take(10 * MIB, t));
    give(out);
    graphs_close();
}

TEST_MAIN(TEST_CASE(a_capture_without_a_scope_is_an_error), TEST_CASE(replays_keep_their_memory),
          TEST_CASE(forked_streams_are_routed), TEST_CASE(uses_on_forks_are_parked), TEST_CASE(scopes_nest),
          TEST_CASE(exact_reservation), TEST_CASE(short_ways), TEST_CASE(reservation_is_not_generous),
          TEST_CASE(out_of_memory_in_a_capture),
          TEST_CASE(a_failed_capture_leaves_nothing), TEST_CASE(sharing), TEST_CASE(eight_shared_graphs),
          TEST_CASE(memory_lives_as_long_as_replays), TEST_CASE(nothing_is_taken_in_flight),
          TEST_CASE(retain_and_release), TEST_CASE(failures_name_graphs))
