/* test_graph_order.c - graph pools where order is easily lost: what another thread does between two driver calls of
   ours, played by a driver call that does it; and eager work on what captures left. Whatever is given to somebody else,
   or back to the driver, too early is reported by the software driver. */
#include <pthread.h>

/* ---- what another thread does as soon as a lock is free, once: played by the release of the lock */
static void (*at_release)(void);
static int releases_before;

static void lock_was_released(void)
{
    void (*it)(void) = at_release;
    if (it != NULL && releases_before-- == 0) {
        at_release = NULL;
        it();
    }
}

#define TENSORALLOC_LOCK_TYPE pthread_mutex_t
#define TENSORALLOC_LOCK_INIT(l) ((void)pthread_mutex_init(l, NULL))
#define TENSORALLOC_LOCK_ACQUIRE(l) ((void)pthread_mutex_lock(l))
#define TENSORALLOC_LOCK_RELEASE(l) ((void)pthread_mutex_unlock(l), lock_was_released())
#include "graph.h"
#include <time.h>

/* ---- a driver call that does something of the program's first, once */
static void (*meanwhile)(void);
static int (*real_sync)(void *event);
static int (*real_info)(void *stream, int *status, uint64_t *id);
static int done_meanwhile, calls_before;

static void do_meanwhile(void)
{
    void (*it)(void) = meanwhile;
    if (it != NULL && calls_before-- == 0) {
        meanwhile = NULL;
        done_meanwhile = 1;
        it();
    }
}

static int sync_after_that(void *event)
{
    const int code = real_sync(event);
    do_meanwhile();
    return code;
}

static int info_after_that(void *stream, int *status, uint64_t *id)
{
    do_meanwhile();
    return real_info(stream, status, id);
}

static void hook(void (*it)(void), int after)
{
    done_meanwhile = 0;
    calls_before = after;
    real_sync = cuda->cu.event_sync;
    real_info = cuda->cu.capture_info;
    meanwhile = it;
}

static void unhook(void)
{
    CHECK_EQ(done_meanwhile, 1); /* else nothing is tested */
    cuda->cu.event_sync = real_sync;
    cuda->cu.capture_info = real_info;
}

/* ---- what captures leave */
static CUdeviceptr left;

/* A graph that was replayed and is gone; its output is live. */
static void capture_output(CUstream stream, size_t bytes)
{
    CUgraphExec exec;
    enter(graphs, stream);
    left = take(bytes, stream);
    OK(fill(left, 1, 64, stream));
    exec = finish(graphs, stream, NULL);
    OK(cu.cuGraphLaunch(exec, stream));
    OK(cu.cuStreamSynchronize(stream));
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
}

static CUdeviceptr take_input(size_t bytes, CUstream stream)
{
    ta_request request;
    ta_result result;
    void *ptr;
    memset(&request, 0, sizeof request);
    request.size_bytes = bytes;
    request.stream = STREAM(stream);
    ptr = ta_graph_pool_alloc(graphs, &request, &result);
    CHECK_OK(result);
    return ADDRESS(ptr);
}

static void work_and_give(void)
{
    OK(spin_ns(1000000, s));
    OK(fill(left, 2, 64, s));
    give(left);
}

/* Another thread frees an output, which eager work still uses, after the streams were waited for and before memory goes
   back. */
static void frees_while_memory_goes_back(void)
{
    int share, by_budget, after;
    for (share = 0; share < 2; share++) {
        for (by_budget = 0; by_budget < 4; by_budget++) {
            after = by_budget / 2; /* the first of two streams was waited for, or both */
            if (!graphs_open("sched=lazy", share)) { return; }
            test_context("shared %d, by the budget %d, after %d", share, by_budget % 2, after);
            capture_output(s, 2 * MIB);
            hook(work_and_give, after);
            cuda->cu.event_sync = sync_after_that;
            if (by_budget % 2) {
                CHECK_GE(tai_graph_reclaim(graphs, 1), 0);
            } else {
                CHECK_OK(ta_graph_pool_trim(graphs));
            }
            unhook();
            OK(cu.cuCtxSynchronize());
            CHECK_EQ(fake.tafake_race_count(), 0);
            CHECK_OK(ta_graph_pool_trim(graphs)); /* now it can go */
            CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
            CHECK_EQ(stats_of(graphs).memory.block_count, 0);
            graphs_close();
        }
    }
}

/* What a capture allocated is eager memory afterwards: freed with work in flight, it waits for that. */
static void outputs_are_waited_for(void)
{
    int share, how;
    for (share = 0; share < 2; share++) {
        for (how = 0; how < 3; how++) {
            CUdeviceptr next;
            CUgraphExec exec = NULL;
            if (!graphs_open("sched=lazy", share)) { return; }
            test_context("shared %d, how %d", share, how);
            capture_output(s, 2 * MIB);
            work_and_give();
            if (how == 1) {
                CHECK_OK(ta_graph_pool_reset(graphs));
            }
            enter(graphs, t); /* the end of captures makes what is ready so for all streams */
            if (how == 2 && !share) { /* the next graph, at once on another stream */
                next = take(2 * MIB, t);
                OK(fill(next, 3, 64, t));
                exec = finish(graphs, t, NULL);
                OK(cu.cuGraphLaunch(exec, t));
            } else {
                OK(cu.cuGraphDestroy(end(t)));
                CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
                next = take_input(2 * MIB, t);
                OK(fill(next, 3, 64, t));
            }
            CHECK(next != left);
            OK(cu.cuCtxSynchronize());
            CHECK_EQ(fake.tafake_race_count(), 0);
            if (exec != NULL) {
                OK(cu.cuGraphExecDestroy(exec));
                fake.tafake_settle();
            }
            give(next);
            CHECK_OK(ta_graph_pool_trim(graphs));
            CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0); /* in the end all of it comes back */
            CHECK_OK(ta_pool_check(graphs->memory));
            graphs_close();
        }
    }
}

/* With shared memory the order is the program's: the next capture has an output's memory at once. */
static void shared_outputs_serve_the_next_capture(void)
{
    CUdeviceptr first;
    if (!graphs_open("sched=lazy", 1)) { return; }
    capture_output(s, 2 * MIB);
    first = left;
    work_and_give();
    capture_output(s, 2 * MIB);
    CHECK_EQ(left, first);
    give(left);
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 2 * MIB);
    graphs_close();
}

/* ---- blocks of the program's in the graph pool, beside an open capture */
static void eager_blocks_keep_off_open_captures(void)
{
    int how;
    for (how = 0; how < 2; how++) {
        CUdeviceptr x, y, z, w;
        CUgraphExec exec;
        if (!graphs_open("sched=lazy", 1)) { return; }
        test_context("how %d", how);
        x = take_input(MIB, s);
        y = take_input(MIB, s);
        z = take_input(MIB, s); /* the end is not free */
        CHECK_EQ(y, x + MIB);
        give(y);
        OK(cu.cuStreamSynchronize(s));
        enter(graphs, s);
        w = take(MIB, s);
        CHECK_EQ(w, y);
        OK(fill(w, 7, 64, s));
        give(w); /* free, and in the graph */
        if (how == 0) {
            CHECK_RESULT(ta_pool_resize_in_place(pool, pointer(x), 2 * MIB), TA_ERROR_WOULD_MOVE);
        }
        exec = finish(graphs, s, NULL);
        CHECK_RESULT(ta_pool_resize_in_place(pool, pointer(x), 2 * MIB), TA_ERROR_WOULD_MOVE);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        CHECK_OK(ta_graph_pool_trim(graphs));
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), MIB + MIB / 2)); /* nobody writes there any more */
        give(x);
        give(z);
        graphs_close();
    }
}

/* The output of a graph grows in place: not into what replays write. */
static void outputs_keep_off_replays(void)
{
    CUdeviceptr x, y, z;
    CUgraphExec exec;
    if (!graphs_open("sched=lazy", 1)) { return; }
    enter(graphs, s);
    x = take(MIB, s);
    y = take(MIB, s);
    z = take(MIB, s);
    OK(fill(y, 7, 64, s));
    give(y);
    exec = finish(graphs, s, NULL);
    CHECK_RESULT(ta_pool_resize_in_place(pool, pointer(x), 2 * MIB), TA_ERROR_WOULD_MOVE);
    CHECK_OK(ta_pool_resize_in_place(pool, pointer(z), 2 * MIB)); /* nobody had that */
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    give(x);
    give(z);
    graphs_close();
}

/* What is cut off a block that eager work uses is not given to another stream. */
static void what_is_cut_off_is_waited_for(void)
{
    CUdeviceptr x, y;
    if (!graphs_open("sched=lazy", 0)) { return; }
    x = take_input(4 * MIB, s);
    OK(spin_ns(1000000, s));
    OK(fill(x + 2 * MIB, 1, 64, s));
    CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), MIB));
    enter(graphs, t);
    OK(cu.cuGraphDestroy(end(t)));
    CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
    y = take_input(2 * MIB, t);
    OK(fill(y, 2, 64, t));
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(fake.tafake_race_count(), 0);
    give(x);
    give(y);
    graphs_close();
}

/* A block that grows reads as zero where it has grown; a replay must not write those zeros again. */
static void zeros_are_in_no_graph(void)
{
    int of_graphs;
    for (of_graphs = 0; of_graphs < 2; of_graphs++) {
        ta_pool_desc desc;
        CUdeviceptr x;
        CUgraphExec exec;
        memset(&desc, 0, sizeof desc);
        desc.zeroed = 1;
        if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) { return; }
        test_context("of the graph pool %d", of_graphs);
        s = stream_new();
        t = stream_new();
        graphs = graphs_new(0);
        x = of_graphs ? take_input(MIB, s) : take(2 * MIB, s);
        if (!of_graphs) {
            CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), MIB));
        }
        enter(graphs, s);
        CHECK_RESULT(ta_pool_resize_in_place(pool, pointer(x), 2 * MIB), TA_ERROR_CAPTURE);
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), MIB - 4096)); /* what it had is not touched */
        exec = finish(graphs, s, NULL);
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), 2 * MIB));
        OK(fill(x + MIB, 5, 64, s));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(x + MIB), 5);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        give(x);
        graphs_close();
    }
}

/* ---- frees after an event */
static void frees_after_events(void)
{
    int captured, share;
    for (share = 0; share < 2; share++) {
        for (captured = 0; captured < 2; captured++) { /* the block: an output, or an input */
            CUdeviceptr x, y;
            CUevent event;
            if (!graphs_open("sched=lazy", share)) { return; }
            test_context("shared %d, captured %d", share, captured);
            event = event_new();
            if (captured) {
                capture_output(s, 2 * MIB);
                x = left;
            } else {
                x = take_input(2 * MIB, s);
            }
            OK(spin_ns(1000000, t));
            OK(fill(x, 1, 64, t)); /* on a stream that nobody named */
            OK(cu.cuEventRecord(event, t));
            CHECK_OK(ta_pool_free_after(pool, pointer(x), (uint64_t)(uintptr_t)event));
            enter(graphs, s);
            OK(cu.cuGraphDestroy(end(s)));
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
            y = take_input(2 * MIB, s);
            CHECK(y != x);
            OK(fill(y, 2, 64, s));
            OK(cu.cuCtxSynchronize());
            CHECK_EQ(fake.tafake_race_count(), 0);
            give(y);
            OK(cu.cuEventDestroy_v2(event));
            OK(cu.cuCtxSynchronize());
            CHECK_OK(ta_graph_pool_trim(graphs));
            CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
            graphs_close();
        }
    }
}

/* In a capture: after an event of the capture, and after one of eager work. */
static void frees_after_events_in_captures(void)
{
    int eager;
    for (eager = 0; eager < 2; eager++) {
        CUdeviceptr x, y;
        CUevent event;
        CUgraphExec exec;
        CUstream u;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("eager %d", eager);
        event = event_new();
        u = stream_new();
        enter(graphs, s);
        x = take(MIB, s);
        OK(fill(x, 1, 64, s));
        if (eager) {
            OK(spin_ns(1000000, u));
        }
        OK(cu.cuEventRecord(event, eager ? u : s));
        CHECK_OK(ta_pool_free_after(pool, pointer(x), (uint64_t)(uintptr_t)event));
        y = take(MIB, s);
        CHECK(y != x); /* parked */
        OK(fill(y, 2, 64, s));
        exec = finish(graphs, s, NULL);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(fake.tafake_race_count(), 0);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        give(y);
        OK(cu.cuEventDestroy_v2(event));
        OK(cu.cuStreamDestroy_v2(u));
        CHECK_OK(ta_graph_pool_trim(graphs));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
        graphs_close();
    }
}

/* ---- scopes and other threads */
static ta_result entered;

static void enter_on_t(void)
{
    entered = ta_capture_enter(graphs, STREAM(t));
}

/* A scope that is being left still has its graph pool: another thread gets no scope in it that is not settled, or shares
   memory that is not shared. */
static void no_scope_while_one_is_left(void)
{
    int share;
    for (share = 0; share < 2; share++) {
        CUgraph graph;
        if (!graphs_open("sched=lazy", share)) { return; }
        test_context("shared %d", share);
        enter(graphs, s);
        give(take(MIB, s));
        graph = end(s);
        hook(enter_on_t, 0);
        cuda->cu.capture_info = info_after_that;
        entered = TA_OK;
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
        unhook();
        CHECK_RESULT(entered, TA_ERROR_BUSY);
        CHECK_RESULT(ta_capture_enter(graphs, STREAM(t)), share ? TA_OK : TA_ERROR_BUSY);
        if (share) {
            CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
        }
        CHECK_RESULT(ta_capture_leave(graphs, STREAM(s), 0, NULL), TA_ERROR_NO_GRAPH_POOL);
        OK(cu.cuGraphDestroy(graph));
        graphs_close();
    }
}

static CUgraphExec whole;
static CUdeviceptr written;

static void capture_on_t(void)
{
    enter(graphs, t);
    written = take(2 * MIB, t);
    OK(fill(written, 9, 64, t));
    give(written);
    whole = finish(graphs, t, NULL);
}

static int (*real_create)(uint64_t *handle, size_t bytes, const tai_cu_prop *props, unsigned long long flags);

static int create_after_that(uint64_t *handle, size_t bytes, const tai_cu_prop *props, unsigned long long flags)
{
    do_meanwhile();
    return real_create(handle, bytes, props, flags);
}

/* Eager memory is asked for before a capture and found after it: not what the graph writes. */
static void a_capture_meanwhile_is_seen(void)
{
    CUdeviceptr x;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_graph_pool_reserve(graphs, 2 * MIB)); /* enough for the capture */
    hook(capture_on_t, 0);
    real_create = cuda->cu.chunk_create;
    cuda->cu.chunk_create = create_after_that;
    x = take_input(3 * MIB, s);
    cuda->cu.chunk_create = real_create;
    unhook();
    CHECK(x + 3 * MIB <= written || x >= written + 2 * MIB);
    OK(fill(x, 4, 64, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuGraphLaunch(whole, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(x), 4);
    OK(cu.cuGraphExecDestroy(whole));
    fake.tafake_settle();
    give(x);
    graphs_close();
}

/* ---- scopes without a capture, and those that fail inside of others */
/* Where nothing was captured there is no graph to wait for. */
static void scopes_without_a_capture(void)
{
    int mode;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_pool_set_graph_pool(pool, graphs));
    for (mode = 0; mode < 4; mode++) {
        ta_capture_report report;
        test_context("mode %d", mode % 2);
        if (mode % 2) {
            CHECK_OK(ta_pool_set_graph_mode(pool, STREAM(s), 1));
            CHECK_OK(ta_pool_set_graph_mode(pool, STREAM(s), 0));
        } else {
            CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, &report));
            CHECK_EQ(report.capture, 0);
        }
        CHECK_EQ(stats_of(graphs).is_referenced, 0);
        CHECK_OK(ta_graph_pool_trim(graphs));
    }
    graphs_close();
}

/* What is held and captured is kept until the graph is attached, also if that capture asks for no memory. */
static void captures_that_only_hold(void)
{
    CUdeviceptr x, y;
    CUgraph graph;
    CUgraphExec exec;
    if (!graphs_open("sched=lazy", 0)) { return; }
    x = take(MIB, s);
    OK(fill(x, 3, 64, s));
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(x)));
    enter(graphs, s);
    OK(add(x, 1, 64, s));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    give(x);
    CHECK_EQ(stats_of(graphs).held_count, 1); /* and looks for what can go */
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    y = take(MIB, s);
    CHECK(y != x);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).held_count, 0);
    give(y);
    graphs_close();
}

/* The inner scope fails, the capture does not: the outer one goes on, and what the inner one had stays the graph's. */
static void inner_scopes_that_fail(void)
{
    int same;
    for (same = 0; same < 2; same++) {
        ta_graph_pool *inner;
        CUdeviceptr a, b, c, d, e;
        CUgraph graph;
        CUgraphExec exec;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("same %d", same);
        inner = same ? graphs : graphs_new(0);
        d = take(MIB, t);
        enter(graphs, s);
        a = take(MIB, s);
        OK(fill(a, 1, 64, s));
        CHECK_OK(ta_capture_enter(inner, STREAM(s)));
        b = take(MIB, s);
        OK(fill(b, 2, 64, s));
        CHECK_OK(ta_pool_record_use(pool, pointer(d), STREAM(s)));
        OK(fill(d, 4, 64, s));
        CHECK_OK(ta_capture_leave(inner, STREAM(s), 1, NULL));
        CHECK_EQ(stats_of(inner).memory.block_count, same ? 1 : 0);
        CHECK_EQ(stats_of(inner).failed_count, 1);
        c = take(MIB, s); /* from the outer one again, and not what the nodes before write */
        CHECK(c != b && c != a);
        OK(copy(c, a, 64, s));
        graph = end(s);
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
        CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
        give(d);
        e = take(MIB, t);
        CHECK_EQ(e != d, 1); /* still held */
        if (!same) { /* the graph may use it, as long as nobody says that it is gone */
            CHECK_RESULT(ta_graph_pool_trim(inner), TA_ERROR_BUSY);
            CHECK_RESULT(ta_capture_enter(inner, STREAM(t)), TA_ERROR_BUSY);
            CHECK_OK(ta_graph_pool_attach(inner, (uint64_t)(uintptr_t)graph));
        }
        exec = instantiate(graph);
        OK(cu.cuGraphDestroy(graph));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(c), 1);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        CHECK_OK(ta_graph_pool_trim(inner));
        give(a);
        give(c);
        give(e);
        CHECK_EQ(stats_of(inner).memory.block_count + stats_of(graphs).memory.block_count, 0);
        if (!same) {
            CHECK_OK(ta_graph_pool_destroy(inner));
        }
        graphs_close();
    }
}

/* ---- tensors */
/* Copies that are recorded, of tensors whose stream is another one, in the capture or out of it. */
static void recorded_copies_across_streams(void)
{
    const int64_t dims[1] = {WORDS};
    int how;
    for (how = 0; how < 3; how++) { /* of the pool on a stream that is not captured; on a forked one; of bounds */
        ta_dynamic_desc desc;
        ta_dynamic *dynamic = NULL;
        ta_tensor x;
        CUdeviceptr out;
        CUgraphExec exec;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("how %d", how);
        memset(&desc, 0, sizeof desc);
        desc.backend = ta_cuda_backend(cuda);
        desc.range_bytes = 64 * MIB;
        if (how == 2) {
            CHECK_OK(ta_dynamic_create(&desc, &dynamic));
        }
        CHECK_OK(ta_tensor_create(how == 2 ? ta_dynamic_allocator(dynamic) : ta_pool_allocator(pool), TA_F32, dims, 1, 0,
                                  STREAM(t), &x));
        OK(fill(ADDRESS(x.buffer.data), 8, WORDS, t));
        OK(cu.cuStreamSynchronize(t));
        out = take(BYTES, s);
        enter(graphs, s);
        if (how == 1) {
            order(s, t);
        }
        CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY_RECORDED));
        OK(copy(out, ADDRESS(x.buffer.data), WORDS, s));
        if (how == 1) {
            order(t, s);
        }
        exec = finish(graphs, s, NULL);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(out), 8);
        CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
        OK(cu.cuGraphLaunch(exec, s)); /* the old place is read again */
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(out), 8);
        OK(cu.cuGraphExecDestroy(exec));
        OK(cu.cuStreamSynchronize(s));
        fake.tafake_settle();
        give(out);
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_OK(ta_dynamic_destroy(dynamic));
        graphs_close();
    }
}

/* Two tensors that graphs hold, one after the other in the same record: the end of the first hold is not the second's. */
static void holds_of_one_record(void)
{
    ta_dynamic_desc desc;
    ta_dynamic *dynamic;
    ta_graph_pool *second;
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    const int64_t least = 1, expected = 64, most = 128, great = 1 << 22, middle = 1 << 20;
    ta_handle small, large;
    CUdeviceptr old, next;
    if (!graphs_open("sched=lazy", 0)) { return; }
    second = graphs_new(0);
    memset(&desc, 0, sizeof desc);
    memset(&request, 0, sizeof request);
    desc.backend = ta_cuda_backend(cuda);
    desc.range_bytes = 64 * MIB;
    CHECK_OK(ta_dynamic_create(&desc, &dynamic));
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &expected, &most));
    request.bounds = &bounds;
    request.stream = STREAM(s);
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &small));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, small));
    CHECK_OK(ta_dynamic_free(dynamic, small));
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &middle, &great));
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &large));
    CHECK_EQ(large.index, small.index);
    old = ADDRESS(ta_dynamic_get_data(dynamic, large));
    CHECK_OK(ta_graph_pool_hold_handle(second, dynamic, large));
    CHECK_OK(ta_graph_pool_retain(second));
    CHECK_OK(ta_dynamic_free(dynamic, large));
    CHECK_OK(ta_graph_pool_reset(graphs)); /* ends the first hold */
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &large));
    next = ADDRESS(ta_dynamic_get_data(dynamic, large));
    CHECK(next != old); /* graphs have that */
    CHECK_OK(ta_dynamic_free(dynamic, large));
    CHECK_OK(ta_graph_pool_release(second));
    CHECK_OK(ta_graph_pool_reset(second));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* ---- disposed through the allocator: the memory goes with the last graph, the object when it is destroyed */
static void disposed_while_graphs_live(void)
{
    ta_allocator allocator;
    CUgraphExec exec;
    CUdeviceptr out;
    ta_stats stats;
    ta_request request;
    ta_result result;
    if (!graphs_open("sched=lazy", 0)) { return; }
    allocator = ta_graph_pool_allocator(graphs);
    enter(graphs, s);
    out = take(MIB, s);
    OK(fill(out, 4, 64, s));
    CHECK_RESULT(ta_allocator_dispose(allocator), TA_ERROR_BUSY); /* a scope is open */
    exec = finish(graphs, s, NULL);
    CHECK_OK(ta_allocator_dispose(allocator));
    CHECK_OK(ta_allocator_dispose(allocator));
    memset(&request, 0, sizeof request);
    request.size_bytes = 100;
    CHECK(ta_allocator_alloc(allocator, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_capture_enter(graphs, STREAM(s)), TA_ERROR_DISPOSED);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(out), 4);
    CHECK_OK(ta_allocator_get_stats(allocator, &stats));
    CHECK_EQ(stats.reserved_bytes, 2 * MIB);
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_pool_trim(pool, 0, NULL)); /* looks for what can go */
    CHECK_OK(ta_allocator_get_stats(allocator, &stats));
    CHECK_EQ(stats.reserved_bytes + stats.live_count, 0);
    CHECK_RESULT(ta_pool_free(pool, pointer(out)), TA_ERROR_FOREIGN); /* it went with the memory */
    CHECK_RESULT(ta_pool_destroy(pool), TA_ERROR_BUSY);
    CHECK_OK(ta_allocator_destroy(allocator));
    graphs = NULL;
    graphs_close();
}

/* ---- reservations above the first range */
static void reservations_of_several_ranges(void)
{
    int first;
    for (first = 0; first < 4; first++) { /* nothing there; memory kept; a block; a scope is open */
        ta_graph_pool_desc desc;
        ta_capture_report report;
        CUdeviceptr held = 0, block;
        CUgraph graph;
        if (!world_open("sched=lazy", TA_CUDA_RANGES, NULL)) { return; }
        test_context("first %d", first);
        s = stream_new();
        t = stream_new();
        memset(&desc, 0, sizeof desc);
        desc.pool = pool;
        desc.range_bytes = 16 * MIB;
        desc.initial_bytes = first != 0 ? 8 * MIB : 0;
        CHECK_OK(ta_graph_pool_create(&desc, &graphs));
        if (first == 2) {
            held = take_input(3 * MIB, s);
        }
        CHECK_OK(ta_graph_pool_reserve(graphs, 48 * MIB));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 48 * MIB);
        CHECK_OK(ta_graph_pool_reserve(graphs, 48 * MIB)); /* it is there */
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 48 * MIB);
        if (first == 3) {
            enter(graphs, s);
            CHECK_OK(ta_graph_pool_reserve(graphs, 80 * MIB)); /* whatever it takes: nothing is given back now */
            CHECK_GE(stats_of(graphs).memory.reserved_bytes, 80 * MIB);
            OK(cu.cuGraphDestroy(end(s)));
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
        }
        enter(graphs, s);
        block = take(40 * MIB, s); /* in one piece */
        graph = end(s);
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, &report));
        CHECK_EQ(report.growth_count, 0);
        OK(cu.cuGraphDestroy(graph));
        give(block);
        if (held != 0) {
            give(held);
        }
        graphs_close();
    }
}

/* ---- what threads look at first is theirs, or they look further */
/* Pools that share a thread move their places: what another stream left at the one of stream 0 must not serve that. */
static void places_that_moved(void)
{
    CUstream streams[20];
    int i, k, met = 0;
    if (!graphs_open("sched=eager", 0)) {
        return;
    }
    for (i = 0; i < 20; i++) {
        streams[i] = stream_new();
    }
    for (i = 0; i < 5000 && met < 3; i++) {
        const tai_slot *there = tai_thread_slots[tai_slot_place_0(pool)];
        for (k = 0; i % 101 == 0 && k < 20; k++) {
            give(take(4096, streams[k]));
        }
        if (there->pool == pool && there->stream_id != 0) {
            ta_block_info info;
            void *ptr = ta_pool_alloc(pool, 4096, NULL);
            met++;
            CHECK_OK(ta_pool_describe(pool, ptr, &info));
            CHECK_EQ(info.stream, 0);
            CHECK_OK(ta_pool_free(pool, ptr));
            for (k = 0; k < 20; k++) { /* there again */
                give(take(4096, streams[k]));
            }
        }
        (void)tai_slot_move(pool);
    }
    CHECK_GT(met, 0); /* else nothing is tested */
    for (i = 0; i < 20; i++) {
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(streams[i])));
        OK(cu.cuStreamDestroy_v2(streams[i]));
    }
    graphs_close();
}

static int retired_all;

static void *allocates_meanwhile(void *stream)
{
    uintptr_t wrong = 0;
    while (!__atomic_load_n(&retired_all, __ATOMIC_ACQUIRE)) {
        void *ptr = ta_pool_alloc_stream(pool, 4096, STREAM((CUstream)stream), NULL);
        wrong += ptr == NULL || ta_pool_free(pool, ptr) != TA_OK;
    }
    return (void *)wrong;
}

/* Retiring makes all threads look their streams up anew, in the middle of what they do. */
static void streams_retired_beside_allocations(void)
{
    pthread_t thread;
    CUstream own;
    void *wrong = NULL;
    int i, failed;
    if (!graphs_open("sched=eager", 0)) {
        return;
    }
    own = stream_new();
    retired_all = 0;
    failed = pthread_create(&thread, NULL, allocates_meanwhile, own);
    CHECK_EQ(failed, 0);
    for (i = 0; i < 1500; i++) {
        CUstream gone = stream_new();
        void *ptr = ta_pool_alloc_stream(pool, 4096, STREAM(gone), NULL);
        CHECK_OK(ta_pool_free(pool, ptr));
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
        OK(cu.cuStreamDestroy_v2(gone));
    }
    __atomic_store_n(&retired_all, 1, __ATOMIC_RELEASE);
    if (failed == 0) {
        CHECK_EQ(pthread_join(thread, &wrong), 0);
    }
    CHECK(wrong == NULL);
    OK(cu.cuStreamDestroy_v2(own));
    graphs_close();
}

/* ---- streams whose work is out of reach */
static uint64_t context_syncs(void)
{
    return fake.tafake_calls("cuCtxSynchronize");
}

/* A destroyed stream, and one that has its handle now where again is set. */
static CUstream stream_gone(int retired, int again)
{
    CUstream old = stream_new(), stream;
    void *ptr = ta_pool_alloc_stream(pool, 4096, STREAM(old), NULL);
    CHECK_OK(ta_pool_record_use(pool, ptr, STREAM(t)));
    CHECK_OK(ta_pool_free(pool, ptr));
    ptr = ta_pool_alloc_stream(pool, 4096, STREAM(t), NULL);
    CHECK_OK(ta_pool_record_use(pool, ptr, STREAM(old)));
    CHECK_OK(ta_pool_free(pool, ptr)); /* marked: its name is known */
    if (retired) {
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(old)));
    }
    OK(cu.cuStreamDestroy_v2(old));
    stream = again ? stream_new() : old;
    CHECK(stream == old); /* else nothing is tested */
    return stream;
}

/* The handle of a stream that was retired comes again: that is a stream like any other, and nobody waits. */
static void retired_handles_come_again(void)
{
    CUstream again;
    CUdeviceptr x, y;
    uint64_t before;
    int round;
    if (!graphs_open("sched=lazy", 0)) { return; }
    for (round = 0; round < 3; round++) {
        again = stream_gone(1, 1);
        before = context_syncs();
        enter(graphs, s);
        x = take(MIB, t);
        order(t, again);
        OK(fill(x, 1, 64, again));
        CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(again)));
        give(x);
        give(take(MIB, s));
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(again)));
        y = take(MIB, t);
        OK(fill(y, 2, 64, t));
        OK(cu.cuGraphDestroy(end(s)));
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
        give(y);
        CHECK_EQ(context_syncs(), before);
        OK(cu.cuStreamDestroy_v2(again));
    }
    graphs_close();
}

/* A stream that went without a word: to wait for its work would break captures. What it used waits until they are
   over. */
static void vanished_streams_beside_captures(void)
{
    int how, again;
    for (how = 0; how < 4; how++) { /* in a scope; left before the end; of another pool's; without one, and it blocks */
        for (again = 0; again < 2; again++) {
            ta_pool *own, *beside = NULL;
            CUstream gone, captured;
            CUdeviceptr x, y;
            CUgraph graph;
            uint64_t before;
            if (!graphs_open("sched=lazy", 0)) { return; }
            test_context("how %d, again %d", how, again);
            own = pool;
            captured = s;
            if (how == 3) {
                OK(cu.cuStreamCreate(&captured, 0));
            }
            gone = stream_gone(0, 1); /* with work of its own */
            x = take(MIB, t);
            OK(cu.cuStreamSynchronize(t));
            OK(spin_ns(1000000, gone));
            OK(fill(x, 1, 64, gone));
            CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(gone)));
            OK(cu.cuStreamDestroy_v2(gone));
            if (again) {
                CHECK(stream_new() == gone);
            }
            if (how == 3) {
                OK(cu.cuStreamBeginCapture_v2(captured, CU_STREAM_CAPTURE_MODE_RELAXED));
            } else if (how == 2) {
                beside = pool_new(cuda, NULL);
                CHECK_OK(ta_graph_pool_destroy(graphs));
                pool = beside;
                graphs = graphs_new(0);
                pool = own;
                CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
                OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
            } else {
                enter(graphs, s);
                give(take(MIB, s));
            }
            if (how == 1) {
                CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
            }
            before = context_syncs();
            give(x);
            CHECK_RESULT(ta_pool_retire_stream(pool, STREAM(gone)), TA_ERROR_NOT_READY);
            y = take(MIB, t);
            OK(fill(y, 2, 64, t));
            give(y);
            CHECK_EQ(context_syncs(), before);
            graph = end(captured);
            CHECK(graph != NULL);
            OK(cu.cuGraphDestroy(graph));
            if (how == 0 || how == 2) {
                CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
            } else if (how == 1) {
                CHECK_OK(ta_graph_pool_reset(graphs));
            } else {
                OK(cu.cuStreamDestroy_v2(captured));
            }
            CHECK_EQ(context_syncs(), before);
            CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
            CHECK_GE(context_syncs(), before + 1);
            CHECK_OK(ta_pool_empty_cache(pool));
            CHECK_EQ(check_books(pool).reserved_bytes, 0);
            CHECK_EQ(fake.tafake_race_count(), 0);
            if (again) {
                OK(cu.cuStreamDestroy_v2(gone));
            }
            if (beside != NULL) {
                CHECK_OK(ta_graph_pool_destroy(graphs));
                CHECK_OK(ta_pool_destroy(beside));
                graphs = NULL;
            }
            graphs_close();
        }
    }
}

static int (*real_context_sync)(void);
static int scope_is_open, scope_was_open;
static pthread_t entering;

static void *enters(void *unused)
{
    entered = ta_capture_enter(graphs, STREAM(s));
    __atomic_store_n(&scope_is_open, 1, __ATOMIC_RELEASE);
    return unused;
}

static int sync_beside_enter(void)
{
    const struct timespec moment = {0, 20000000};
    CHECK_EQ(pthread_create(&entering, NULL, enters, NULL), 0);
    (void)nanosleep(&moment, NULL);
    scope_was_open = __atomic_load_n(&scope_is_open, __ATOMIC_ACQUIRE);
    return real_context_sync();
}

/* A scope that is opened while somebody waits for the whole context waits for that. */
static void scopes_wait_for_who_waits(void)
{
    CUstream gone;
    CUdeviceptr x;
    if (!graphs_open("sched=eager", 0)) { return; }
    x = take(MIB, t);
    gone = stream_gone(0, 0);
    scope_is_open = 0;
    scope_was_open = -1;
    real_context_sync = cuda->cu.context_sync;
    cuda->cu.context_sync = sync_beside_enter;
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
    cuda->cu.context_sync = real_context_sync;
    CHECK_EQ(pthread_join(entering, NULL), 0);
    CHECK_EQ(scope_was_open, 0);
    CHECK_OK(entered);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    give(x);
    graphs_close();
}

/* ---- memory beside captures, and how much of it they need */
/* What is allocated outside and freed is used again: while a scope is open, after it was left before the end of its
   capture, and beside the graph. */
static void inputs_come_again(void)
{
    int share, i;
    for (share = 0; share < 2; share++) {
        CUdeviceptr own[5], x = 0;
        CUgraph graph;
        CUgraphExec exec = NULL;
        if (!graphs_open("sched=eager", share)) { return; }
        test_context("shared %d", share);
        enter(graphs, s);
        for (i = 0; i < 600; i++) {
            if (i < 200 && i % 50 == 0) {
                own[i / 50] = take(MIB, s);
                OK(fill(own[i / 50], 70 + (unsigned)i / 50, 64, s));
                give(own[i / 50]); /* in the graph for good */
                own[4] = take(3 * MIB / 2, s);
                OK(fill(own[4], 74, 64, s));
            }
            if (i == 200) {
                CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
            } else if (i == 400) {
                graph = end(s);
                CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
                exec = instantiate(graph);
                OK(cu.cuGraphDestroy(graph));
            }
            x = take_input(MIB, t);
            OK(fill(x, (unsigned)i, 64, t));
            if (i >= 400) { /* a replay keeps off it */
                OK(cu.cuStreamSynchronize(t));
                OK(cu.cuGraphLaunch(exec, s));
                OK(cu.cuStreamSynchronize(s));
                CHECK_EQ(read32(x), (unsigned)i);
            }
            give(x);
        }
        CHECK_LE(stats_of(graphs).memory.peak_reserved_bytes, 16 * MIB);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        graphs_close();
    }
}

/* An input in memory of the graph pool, freed while its graph lives: no replay writes into what others get then. */
enum { INPUT_LIVE, INPUT_RECORDED, INPUT_HELD, INPUT_PINNED, INPUT_FREED, INPUT_LATE, INPUT_ALLOCATOR, INPUT_HELD_EARLY,
       INPUT_GROWN, INPUT_OF_GRAPH, INPUT_WAYS };

static CUdeviceptr input_new(int how)
{
    if (how == INPUT_PINNED || how == INPUT_ALLOCATOR) {
        const int64_t shape[1] = {(int64_t)(MIB / 4)};
        ta_tensor like, x;
        CUdeviceptr at;
        CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, shape, 1, 0, STREAM(s), &like));
        CHECK_OK(ta_tensor_with_graph_memory(&like, graphs, STREAM(s), &x));
        at = ADDRESS(x.buffer.data);
        if (how == INPUT_PINNED) {
            CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_PIN));
            CHECK_EQ(stats_of(graphs).held_count, 1);
        }
        CHECK_OK(ta_tensor_destroy(&like, STREAM(s)));
        return at;
    }
    return take_input(MIB, s);
}

/* Captures work on an input that is said to be used, or freed, in one of these ways. */
static CUgraphExec input_capture(int how, CUdeviceptr *x)
{
    CUgraphExec exec;
    CUgraph graph;
    *x = how == INPUT_LATE ? 0 : input_new(how);
    if (how == INPUT_HELD_EARLY) {
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(*x)));
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(*x))); /* twice is once */
        CHECK_EQ(stats_of(graphs).held_count, 1);
        give(*x);
    }
    if (how == INPUT_OF_GRAPH) { /* made without a scope */
        begin(s);
        OK(fill(*x, 0xaa, 64, s));
        graph = end(s);
        CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
        exec = instantiate(graph);
        OK(cu.cuGraphDestroy(graph));
        return exec;
    }
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    *x = how == INPUT_LATE ? input_new(how) : *x;
    begin(s);
    OK(fill(*x, 0xaa, 64, s));
    if (how == INPUT_RECORDED) {
        CHECK_OK(ta_pool_record_use(pool, pointer(*x), STREAM(s)));
    } else if (how == INPUT_HELD) {
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(*x)));
    } else if (how == INPUT_FREED || how == INPUT_LATE) {
        give(*x);
    } else if (how == INPUT_ALLOCATOR) {
        CHECK_OK(ta_allocator_free(ta_graph_pool_allocator(graphs), pointer(*x), 0, 0, STREAM(s)));
    } else if (how == INPUT_GROWN) {
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(*x), 2 * MIB));
        OK(fill(*x + MIB, 0xaa, 64, s));
    }
    return finish(graphs, s, NULL);
}

static void inputs_stay(void)
{
    int share, how, i;
    for (share = 0; share < 2; share++) {
        for (how = 0; how < INPUT_WAYS; how++) {
            const int held = how != INPUT_LIVE && how != INPUT_GROWN && how != INPUT_OF_GRAPH;
            CUdeviceptr x, y[4];
            CUgraphExec exec;
            if (!graphs_open("sched=eager", share)) { return; }
            test_context("shared %d, way %d", share, how);
            exec = input_capture(how, &x);
            CHECK_EQ(stats_of(graphs).held_count, held);
            if (how <= INPUT_PINNED || how == INPUT_GROWN || how == INPUT_OF_GRAPH) {
                give(x);
            }
            OK(cu.cuCtxSynchronize());
            for (i = 0; i < 4; i++) {
                y[i] = take_input(MIB, s);
                OK(fill(y[i], 7 + (unsigned)i, 64, s));
            }
            OK(cu.cuGraphLaunch(exec, s));
            OK(cu.cuStreamSynchronize(s));
            for (i = 0; i < 4; i++) {
                CHECK_EQ(read32(y[i]), 7 + (unsigned)i);
                give(y[i]);
            }
            if (share && held) { /* nor does a later capture have it */
                enter(graphs, t);
                y[0] = take(MIB, t);
                CHECK(y[0] != x);
                give(y[0]);
                OK(cu.cuGraphDestroy(end(t)));
                CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
            }
            OK(cu.cuGraphExecDestroy(exec));
            fake.tafake_settle();
            CHECK_EQ(stats_of(graphs).held_count, 0);
            CHECK_EQ(stats_of(graphs).is_referenced, 0);
            CHECK_OK(ta_graph_pool_trim(graphs));
            CHECK_EQ(take_input(MIB, s), x); /* now it comes again */
            graphs_close();
        }
    }
}

/* A capture that comes to nothing keeps no input. */
static void inputs_of_failures_come_again(void)
{
    static const int ways[] = {INPUT_LIVE, INPUT_RECORDED, INPUT_FREED};
    int i;
    for (i = 0; i < 3; i++) {
        const int how = ways[i];
        CUdeviceptr x;
        if (!graphs_open("sched=eager", 0)) { return; }
        test_context("way %d", how);
        x = take_input(MIB, s);
        enter(graphs, s);
        OK(fill(x, 0xaa, 64, s));
        if (how == INPUT_RECORDED) {
            CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(s)));
        } else if (how == INPUT_FREED) {
            give(x);
        }
        OK(cu.cuGraphDestroy(end(s)));
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_EQ(stats_of(graphs).is_referenced, 0);
        if (how != INPUT_FREED) {
            give(x);
        }
        CHECK_OK(ta_graph_pool_retain(graphs)); /* as if there were graphs */
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(take_input(MIB, s), x);
        CHECK_OK(ta_graph_pool_release(graphs));
        graphs_close();
    }
}

/* Grown above all that captures had, freed while its work goes on: not for others yet. */
static void grown_outputs_are_waited_for(void)
{
    int share;
    for (share = 0; share < 2; share++) {
        CUdeviceptr x, y;
        if (!graphs_open("sched=lazy", share)) { return; }
        test_context("shared %d", share);
        capture_output(s, 2 * MIB);
        x = left;
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), 4 * MIB));
        OK(spin_ns(1000000, s));
        OK(fill(x + 2 * MIB, 2, 64, s));
        give(x);
        enter(graphs, t); /* its end makes what is ready so for all streams */
        OK(cu.cuGraphDestroy(end(t)));
        CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
        y = take_input(2 * MIB, t);
        OK(fill(y, 3, 64, t));
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(fake.tafake_race_count(), 0);
        give(y);
        CHECK_OK(ta_graph_pool_trim(graphs));
        graphs_close();
    }
}

enum { PROGRAM_BLOCKS = 12, PROGRAM_STEPS = 60 };

/* A capture of random sizes, some changed in place; others: inputs come and go meanwhile. */
static ta_capture_report random_capture(uint64_t seed, int others)
{
    ta_capture_report report;
    CUdeviceptr blocks[PROGRAM_BLOCKS], input = 0;
    uint64_t random = seed;
    int i;
    memset(blocks, 0, sizeof blocks);
    memset(&report, 0, sizeof report);
    enter(graphs, s);
    for (i = 0; i < PROGRAM_STEPS; i++) {
        const uint32_t which = test_below(&random, PROGRAM_BLOCKS), how = test_below(&random, 3);
        const size_t bytes = 1 + test_below(&random, how != 0 ? 3 * MIB : 70000);
        if (others) {
            if (input != 0) {
                give(input);
            }
            input = take_input(MIB, t);
        }
        if (blocks[which] == 0) {
            blocks[which] = take(bytes, s);
        } else if (how == 0 || ta_pool_resize_in_place(pool, pointer(blocks[which]), bytes) != TA_OK) {
            give(blocks[which]);
            blocks[which] = 0;
        }
    }
    OK(cu.cuGraphDestroy(end(s)));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, &report));
    CHECK_OK(ta_graph_pool_reset(graphs));
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
    return report;
}

/* What a capture reports is what it needs, to the granule: it does not grow then, whatever it resizes. What comes and
   goes outside at each of its steps adds what lies between its blocks, not all that was ever there. */
static void reports_are_exact(void)
{
    uint64_t seed;
    if (!graphs_open("sched=eager", 0)) { return; }
    for (seed = 1; seed <= 40; seed++) {
        ta_capture_report first, again;
        test_context("seed %d", (int)seed);
        first = random_capture(seed, 0);
        CHECK_GT(first.growth_count, 0);
        CHECK_OK(ta_graph_pool_reserve(graphs, first.reserve_bytes));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, first.reserve_bytes);
        again = random_capture(seed, 0);
        CHECK_EQ(again.growth_count, 0);
        CHECK_EQ(again.grown_bytes, 0);
        CHECK_EQ(again.reserve_bytes, first.reserve_bytes);
        again = random_capture(seed, 1);
        CHECK_GE(again.reserve_bytes, first.reserve_bytes);
        CHECK_LE(again.reserve_bytes, first.reserve_bytes / 2 * 5 + 4 * MIB);
    }
    graphs_close();
}

/* ---- twice is once, and what fails leaves nothing */
static ta_graph_pool *held_by; /* while its tensor is busy */
static ta_dynamic *held_of;
static ta_handle held_handle;
static ta_result held_result;

static size_t hold_when_busy(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)state;
    if (held_by != NULL) {
        held_result = ta_graph_pool_hold_handle(held_by, held_of, held_handle);
    }
    return in->size_bytes;
}

static void twice_is_once(void)
{
    static const ta_strategy_vtable table = {sizeof table, "busy", 8, hold_when_busy, NULL, NULL};
    const int64_t least = 1, most = 1 << 20, much = 1 << 18;
    int in_range, i;
    for (in_range = 0; in_range < 2; in_range++) {
        ta_dynamic_desc desc;
        ta_shape_bounds bounds;
        ta_dynamic_request request;
        ta_graph_pool *second;
        CUgraph graph;
        CUgraphExec exec;
        CUdeviceptr x;
        if (!graphs_open("sched=eager", 0)) { return; }
        test_context("in a range %d", in_range);
        second = graphs_new(0);
        memset(&desc, 0, sizeof desc);
        memset(&request, 0, sizeof request);
        desc.backend = ta_cuda_backend(cuda);
        desc.range_bytes = 64 * MIB;
        desc.range_bytes_min = in_range ? 4096 : 0;
        desc.disable_ranges = !in_range;
        desc.strategy.vtable = &table;
        CHECK_OK(ta_dynamic_create(&desc, &held_of));
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &least, &most));
        request.bounds = &bounds;
        request.stream = STREAM(s);
        CHECK_OK(ta_dynamic_alloc_request(held_of, &request, &held_handle));
        held_by = graphs;
        CHECK_OK(ta_dynamic_resize(held_of, held_handle, &much, 1));
        held_by = NULL;
        CHECK_RESULT(held_result, TA_ERROR_BUSY); /* the tensor is being changed */
        CHECK_EQ(stats_of(graphs).held_count, 0);
        for (i = 0; i < 3; i++) {
            CHECK_OK(ta_graph_pool_hold_handle(graphs, held_of, held_handle));
            CHECK_OK(ta_graph_pool_hold_handle(second, held_of, held_handle));
            CHECK_EQ(stats_of(graphs).held_count, in_range ? 1 : 2); /* its block, too */
            CHECK_EQ(stats_of(second).held_count, in_range ? 1 : 2);
        }
        enter(graphs, s);
        x = take(MIB, s);
        graph = end(s);
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
        for (i = 0; i < 3; i++) {
            CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
            CHECK_EQ(stats_of(graphs).graph_count, 1);
        }
        exec = instantiate(graph);
        OK(cu.cuGraphDestroy(graph));
        CHECK_EQ(stats_of(graphs).graph_count, 1);
        CHECK_OK(ta_dynamic_free(held_of, held_handle));
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        CHECK_EQ(stats_of(graphs).graph_count, 0);
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_RESULT(ta_dynamic_destroy(held_of), TA_ERROR_BUSY); /* the other one has it */
        CHECK_OK(ta_graph_pool_reset(second));
        CHECK_OK(ta_dynamic_destroy(held_of));
        CHECK_OK(ta_graph_pool_destroy(second));
        give(x);
        graphs_close();
    }
}

static int copies_fail(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    (void)to;
    (void)from;
    (void)bytes;
    (void)stream;
    return 999;
}

/* A copy that could not be recorded holds nothing; one that could holds the old place. */
static void copies_that_fail_hold_nothing(void)
{
    const int64_t dims[1] = {WORDS};
    int kind;
    for (kind = 0; kind < 3; kind++) { /* of the pool; of another graph pool; with bounds */
        int (*real)(uint64_t, uint64_t, size_t, void *);
        ta_dynamic_desc desc;
        ta_dynamic *dynamic = NULL;
        ta_graph_pool *second;
        ta_tensor x;
        if (!graphs_open("sched=eager", 0)) { return; }
        test_context("kind %d", kind);
        second = graphs_new(0);
        memset(&desc, 0, sizeof desc);
        desc.backend = ta_cuda_backend(cuda);
        desc.range_bytes = 64 * MIB;
        CHECK_OK(ta_dynamic_create(&desc, &dynamic));
        CHECK_OK(ta_tensor_create(kind == 2 ? ta_dynamic_allocator(dynamic)
                                  : kind == 1 ? ta_graph_pool_allocator(second) : ta_pool_allocator(pool),
                                  TA_F32, dims, 1, 0, STREAM(t), &x));
        enter(graphs, s);
        real = cuda->cu.copy_any;
        cuda->cu.copy_any = copies_fail;
        CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY_RECORDED), TA_ERROR_BACKEND);
        cuda->cu.copy_any = real;
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_EQ(ta_tensor_is_graph_compatible(&x, graphs), 0);
        CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY_RECORDED));
        CHECK_GE(stats_of(graphs).held_count, 1);
        OK(cu.cuGraphDestroy(end(s)));
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
        CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
        CHECK_OK(ta_graph_pool_reset(graphs));
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_OK(ta_dynamic_destroy(dynamic));
        CHECK_OK(ta_graph_pool_destroy(second));
        graphs_close();
    }
}

/* Holds of blocks that are free end in one look each, whatever their number: with a look at all for each of them this
   takes minutes. */
static void many_holds_end(void)
{
    enum { HOLDS = 400000 };
    CUdeviceptr *blocks = (CUdeviceptr *)malloc(HOLDS * sizeof *blocks);
    ta_pool *other;
    ta_graph_pool *second;
    int i;
    REQUIRE(blocks != NULL);
    if (!graphs_open("sched=eager", 0)) {
        free(blocks);
        return;
    }
    other = pool_new(cuda, NULL);
    second = graphs_new(0);
    for (i = 0; i < HOLDS; i++) {
        ta_pool *owner = i % 2 ? pool : other; /* in turn */
        void *ptr = ta_pool_alloc_stream(owner, 256, STREAM(s), NULL);
        blocks[i] = ADDRESS(ptr);
        if (ta_graph_pool_hold(graphs, owner, ptr) != TA_OK ||
            (i % 16 == 0 && ta_graph_pool_hold(second, owner, ptr) != TA_OK)) {
            break;
        }
    }
    CHECK_EQ(i, HOLDS);
    for (i = 0; i < HOLDS; i++) {
        if (i % 8 != 3 && ta_pool_free(i % 2 ? pool : other, pointer(blocks[i])) != TA_OK) {
            break;
        }
    }
    CHECK_EQ(i, HOLDS);
    CHECK_EQ(stats_of(graphs).held_count, HOLDS);
    CHECK_OK(ta_graph_pool_reset(graphs));
    CHECK_EQ(stats_of(graphs).held_count, 0);
    CHECK_EQ(check_books(other).pending_bytes, HOLDS / 16 * 256); /* the second graph pool has these */
    CHECK_EQ(check_books(pool).pending_bytes, 0);
    CHECK_OK(ta_graph_pool_destroy(second));
    CHECK_EQ(check_books(other).pending_bytes, 0);
    for (i = 3; i < HOLDS; i += 8) {
        if (ta_pool_free(i % 2 ? pool : other, pointer(blocks[i])) != TA_OK) {
            break;
        }
    }
    CHECK_GE(i, HOLDS);
    CHECK_EQ(check_books(pool).live_count + check_books(other).live_count, 0);
    CHECK_OK(ta_pool_destroy(other));
    graphs_close();
    free(blocks);
}

/* A scope that is opened before its stream joins a capture: from the first allocation there on it is the newest of that
   capture, for all its streams and sizes; not before, and not for others. */
static void scopes_of_streams_that_join(void)
{
    static const size_t sizes[] = {256, MIB, 4096};
    int outer, i;
    for (outer = 0; outer < 2; outer++) { /* whether the capture has a scope of its own */
        ta_graph_pool *second;
        ta_capture_report report;
        CUgraph graph;
        CUgraphExec exec;
        CUdeviceptr x, y, first;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("outer %d", outer);
        second = graphs_new(0);
        first = take(MIB, t);
        OK(cu.cuStreamSynchronize(t));
        if (outer) {
            CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
        }
        begin(s);
        for (i = 0; outer && i < 3; i++) {
            give(take(sizes[i], s));
        }
        CHECK_OK(ta_capture_enter(second, STREAM(t)));
        if (outer) {
            for (i = 0; i < 300; i++) { /* by the short way in the end */
                x = take(4096, s);
                CHECK_EQ(ta_pool_owns(graphs->memory, pointer(x)), 1);
                give(x);
            }
        } else {
            CHECK_RESULT(refused(4096, s), TA_ERROR_CAPTURE);
        }
        x = take(4096, t); /* nobody captures it */
        CHECK_EQ(ta_pool_owns(pool, pointer(x)), 1);
        give(x);
        order(s, t);
        x = take(MIB, t);
        CHECK_EQ(ta_pool_owns(second->memory, pointer(x)), 1);
        OK(fill(x, 5, 64, t));
        for (i = 5; i >= 0; i--) {
            y = take(sizes[i % 3], i < 3 ? t : s);
            CHECK_EQ(ta_pool_owns(second->memory, pointer(y)), 1);
            give(y);
        }
        order(t, s);
        CHECK_OK(ta_capture_leave(second, STREAM(t), 0, &report));
        CHECK(report.capture != 0);
        CHECK_EQ(report.allocation_count, 7);
        for (i = 0; i < 3; i++) {
            if (outer) {
                y = take(sizes[i], s);
                CHECK_EQ(ta_pool_owns(graphs->memory, pointer(y)), 1);
                give(y);
            } else {
                CHECK_RESULT(refused(sizes[i], s), TA_ERROR_CAPTURE);
            }
        }
        graph = end(s);
        if (outer) {
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
            CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
        }
        CHECK_OK(ta_graph_pool_attach(second, (uint64_t)(uintptr_t)graph));
        exec = instantiate(graph);
        OK(cu.cuGraphDestroy(graph));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(x), 5);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        give(x);
        give(first);
        CHECK_OK(ta_graph_pool_trim(second));
        CHECK_EQ(stats_of(second).memory.reserved_bytes, 0);
        CHECK_OK(ta_graph_pool_destroy(second));
        graphs_close();
    }
}

/* ---- graph pools that go while others allocate */
static void allocate_from_the_parent(void)
{
    give(take(4 * MIB, s)); /* nothing is cached: what can be given back is, first */
}

static void destroyed_while_others_allocate(void)
{
    int n;
    for (n = 0; n < 3; n++) {
        if (!graphs_open("sched=lazy", 0)) {
            return;
        }
        releases_before = n;
        at_release = allocate_from_the_parent;
        CHECK_OK(ta_graph_pool_destroy(graphs));
        CHECK(at_release == NULL); /* else nothing is tested */
        at_release = NULL;
        graphs = NULL;
        graphs_close();
    }
}

/* ---- what is said of memory that graphs keep */
static ta_failure refused_by(ta_pool *of, size_t bytes)
{
    ta_failure failure;
    ta_result result = TA_OK;
    memset(&failure, 0, sizeof failure);
    CHECK(ta_pool_alloc_stream(of, bytes, STREAM(s), &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_OK(ta_pool_get_failure(of, &failure));
    return failure;
}

/* A hold waits for a capture to come: no graph is there to be destroyed. What the advice names ends it. */
static void holds_without_graphs(void)
{
    ta_pool_desc desc;
    ta_failure failure;
    CUdeviceptr kept;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 32 * MIB;
    if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) {
        return;
    }
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(0);
    kept = take(20 * MIB, t);
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(kept)));
    give(kept);
    OK(cu.cuCtxSynchronize());
    failure = refused_by(pool, 30 * MIB);
    CHECK_EQ(failure.verdict, TA_VERDICT_GRAPHS);
    CHECK_EQ(stats_of(graphs).graph_count, 0);
    CHECK(strstr(ta_action_text(failure.action), "reset or destroy those without graphs") != NULL);
    CHECK_OK(ta_graph_pool_trim(graphs));
    (void)refused_by(pool, 30 * MIB);
    CHECK_OK(ta_graph_pool_reset(graphs));
    give(take(30 * MIB, s));
    graphs_close();
}

/* Blocks that graphs hold between live ones of another allocator: no page would come back without the graphs. */
static void held_between_live_blocks(void)
{
    enum { PAIRS = 4 };
    ta_budget_desc budget_desc;
    ta_pool_desc desc;
    ta_budget *budget = NULL;
    ta_budget_stats stats;
    ta_pool *other = NULL;
    ta_failure failure;
    CUdeviceptr live[PAIRS], held[PAIRS];
    void *ptr;
    int i;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&desc, 0, sizeof desc);
    if (!world_open("sched=lazy", TA_CUDA_RANGES, NULL)) {
        return;
    }
    CHECK_OK(ta_pool_destroy(pool));
    budget_desc.backend = ta_cuda_backend(cuda);
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    CHECK_OK(ta_pool_create(&desc, &pool));
    CHECK_OK(ta_pool_create(&desc, &other));
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(0);
    for (i = 0; i < PAIRS; i++) {
        live[i] = take(MIB, s);
        held[i] = take(MIB, s);
    }
    for (i = 0; i < PAIRS; i++) {
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(held[i])));
        give(held[i]);
    }
    OK(cu.cuCtxSynchronize());
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_budget_get_stats(budget, &stats));
    CHECK_EQ(stats.reserved_bytes, 2 * PAIRS * MIB);
    CHECK_OK(ta_budget_set_limit(budget, stats.reserved_bytes));
    failure = refused_by(other, 2 * MIB);
    CHECK_EQ(failure.verdict, TA_VERDICT_LIMIT);
    CHECK_EQ(failure.graph_bytes, 0);
    give(live[1]); /* now one page would */
    OK(cu.cuCtxSynchronize());
    failure = refused_by(other, 2 * MIB);
    CHECK_EQ(failure.verdict, TA_VERDICT_GRAPHS);
    CHECK_EQ(failure.graph_bytes, 2 * MIB);
    CHECK_OK(ta_graph_pool_reset(graphs));
    ptr = ta_pool_alloc_stream(other, 2 * MIB, STREAM(s), NULL);
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(other, ptr));
    for (i = 0; i < PAIRS; i++) {
        if (i != 1) {
            give(live[i]);
        }
    }
    OK(cu.cuCtxSynchronize());
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_pool_destroy(other));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    pool = pool_new(cuda, NULL);
    graphs_close();
}

/* A free in a capture fails at the second of three streams: those asked before are as they were, so that eager work
   to come on them is waited for, and a graph pool finds no hold of its own there. */
static void frees_that_fail_in_captures(void)
{
    ta_graph_pool *second;
    CUdeviceptr x, y[3], old[2];
    CUgraphExec exec;
    CUstream u, v;
    int i;
    if (!graphs_open("sched=eager", 0)) { return; }
    second = graphs_new(0);
    u = stream_new();
    v = stream_new();
    for (i = 0; i < 2; i++) { /* records of uses with the id of the second graph pool, for the next ones */
        old[i] = take_input(4096, s);
        CHECK_OK(ta_graph_pool_hold(second, pool, pointer(old[i])));
    }
    CHECK_OK(ta_graph_pool_reset(second));
    enter(graphs, s);
    order(s, t);
    x = take(4 * MIB, s);
    OK(fill(x, 1, 64, s));
    order(s, t);
    OK(add(x, 1, 64, t));
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(u)));
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(t)));
    fake.tafake_fail("cuEventRecord", 1, 2);
    CHECK_RESULT(ta_pool_free(pool, pointer(x)), TA_ERROR_OUT_OF_MEMORY);
    fake.tafake_fail("*", 0, 0);
    CHECK_OK(ta_graph_pool_hold(second, pool, pointer(x)));
    CHECK_EQ(stats_of(second).held_count, 1);
    order(t, s);
    exec = finish(graphs, s, NULL);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_reset(second));
    CHECK_EQ(stats_of(graphs).is_referenced, 0);
    OK(spin_ns(1000000, t));
    OK(add(x, 1, 64, t));
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(t)));
    give(x);
    enter(graphs, v);
    for (i = 0; i < 3; i++) {
        y[i] = take(4 * MIB, v);
        OK(fill(y[i], 5, 64, v));
    }
    for (i = 0; i < 3; i++) {
        give(y[i]);
    }
    exec = finish(graphs, v, NULL);
    OK(cu.cuGraphLaunch(exec, v));
    OK(cu.cuCtxSynchronize());
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    give(old[0]);
    give(old[1]);
    CHECK_OK(ta_graph_pool_destroy(second));
    OK(cu.cuStreamDestroy_v2(u));
    OK(cu.cuStreamDestroy_v2(v));
    graphs_close();
}

/* What a graph pool knows of a stream cannot retire: that is answered, nothing has retired, and the next call does it. */
static void retiring_in_graph_pools_fails(void)
{
    CUdeviceptr x, y;
    CUstream u, v;
#ifdef TENSORALLOC_CHECKED
    TEST_SKIP("what is held back is marked too: the second mark is another one");
    return;
#endif
    if (!graphs_open("sched=lazy", 0)) { return; }
    u = stream_new();
    give(take_input(4 * MIB, u));
    x = take_input(4 * MIB, u);
    OK(spin_ns(1000000, u));
    OK(fill(x, 1, 64, u));
    give(take(4096, u));
    fake.tafake_fail("cuEventRecord", 2, 2);
    CHECK_RESULT(ta_pool_retire_stream(pool, STREAM(u)), TA_ERROR_OUT_OF_MEMORY);
    fake.tafake_fail("*", 0, 0);
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(u)));
    OK(cu.cuStreamDestroy_v2(u));
    v = stream_new();
    CHECK(u == v); /* else nothing is tested */
    OK(fill(take(4096, v), 1, 64, v));
    give(x);
    OK(cu.cuStreamSynchronize(v));
    y = take_input(4 * MIB, v);
    OK(fill(y, 2, 64, v));
    OK(cu.cuStreamDestroy_v2(v));
    CHECK_OK(ta_graph_pool_reset(graphs));
    graphs_close();
}

/* A scope for a capture that has begun already, while memory of a stream that vanished waits: nobody waits for the whole
   context, which would break that capture. */
static void scopes_for_captures_that_go_on(void)
{
    ta_graph_pool *second;
    CUdeviceptr x;
    CUstream u;
    CUgraph graph;
    uint64_t before;
    if (!graphs_open("sched=lazy", 0)) { return; }
    second = graphs_new(0);
    u = stream_new();
    x = take_input(4096, u);
    OK(fill(x, 1, 64, u));
    CHECK_OK(ta_capture_enter(second, STREAM(t)));
    OK(cu.cuStreamDestroy_v2(u));
    give(x);
    CHECK_OK(ta_capture_leave(second, STREAM(t), 0, NULL));
    begin(s);
    before = context_syncs();
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    CHECK_EQ(context_syncs(), before);
    give(take(4096, s));
    graph = end(s);
    CHECK(graph != NULL);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* Two pools over one device use a stream; the first retires it, the second does not, or before or after that; its handle
   comes again. What the second has freed there is not given back before that work is done, and nobody waits for the
   whole context, unless it went on to use the stream and did not retire it. */
static void streams_of_two_pools(void)
{
    int who;
    for (who = 0; who < 5; who++) {
        ta_pool *other;
        ta_result result;
        void *x, *y, *z;
        CUstream u, v;
        uint64_t before;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("who %d", who);
        other = pool_new(cuda, NULL);
        u = stream_new();
        x = ta_pool_alloc_stream(other, 4 * MIB, STREAM(s), &result);
        CHECK_OK(result);
        z = ta_pool_alloc_stream(other, 4096, STREAM(s), &result);
        CHECK_OK(result);
        CHECK_OK(ta_pool_record_use(other, z, STREAM(u)));
        CHECK_OK(ta_pool_free(other, z)); /* marked: its name is known */
        give(take(4096, u));
        if (who == 4) { /* the first is done with it before */
            CHECK_OK(ta_pool_retire_stream(pool, STREAM(u)));
            z = ta_pool_alloc_stream(other, 4096, STREAM(s), &result);
            CHECK_OK(ta_pool_record_use(other, z, STREAM(u)));
            CHECK_OK(ta_pool_free(other, z));
        }
        OK(spin_ns(1000000, u));
        OK(fill(ADDRESS(x), 3, 1024, u));
        CHECK_OK(ta_pool_record_use(other, x, STREAM(u)));
        if (who >= 1 && who <= 3) {
            CHECK_OK(ta_pool_retire_stream(who == 3 ? other : pool, STREAM(u)));
        }
        if (who == 2 || who == 3) {
            CHECK_OK(ta_pool_retire_stream(who == 2 ? other : pool, STREAM(u)));
        }
        OK(cu.cuStreamDestroy_v2(u));
        v = stream_new();
        CHECK(u == v); /* else nothing is tested */
        before = context_syncs();
        z = ta_pool_alloc_stream(other, 4096, STREAM(v), &result);
        OK(fill(ADDRESS(z), 1, 64, v));
        CHECK_OK(ta_pool_free(other, x));
        OK(cu.cuStreamSynchronize(v));
        CHECK_OK(ta_pool_trim(other, 0, NULL));
        CHECK_EQ(context_syncs() - before, who == 0 || who == 4);
        y = ta_pool_alloc_stream(other, 4 * MIB, STREAM(s), &result);
        OK(fill(ADDRESS(y), 9, 1024, s));
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(fake.tafake_race_count(), 0);
        CHECK_OK(ta_pool_free(other, y));
        CHECK_OK(ta_pool_free(other, z));
        CHECK_OK(ta_pool_destroy(other));
        OK(cu.cuStreamDestroy_v2(v));
        graphs_close();
    }
}

static int begin_after;

static void *begins(void *context)
{
    OK(cu.cuCtxSetCurrent((CUcontext)context));
    OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
    return NULL;
}

static int info_before_that(void *stream, int *status, uint64_t *id)
{
    const int code = real_info(stream, status, id);
    if (stream == (void *)s && begin_after-- == 0) {
        pthread_t other;
        CUcontext context;
        OK(cu.cuCtxGetCurrent(&context));
        CHECK_EQ(pthread_create(&other, NULL, begins, (void *)context), 0);
        CHECK_EQ(pthread_join(other, NULL), 0);
    }
    return code;
}

/* Another thread begins the capture of a scope after we have asked for it: nothing breaks it. */
static void captures_that_begin_beside_frees(void)
{
    int after, how;
    for (after = 0; after < 8; after++) {
        CUdeviceptr x;
        CUgraph graph;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("after %d", after);
        x = take_input(4096, s);
        OK(fill(x, 1, 64, s));
        OK(cu.cuStreamSynchronize(s));
        how = after % 2; /* whether the name was known */
        if (how) {
            give(take_input(4096, s));
        }
        CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
        begin_after = after / 2;
        real_info = cuda->cu.capture_info;
        cuda->cu.capture_info = info_before_that;
        give(x);
        cuda->cu.capture_info = real_info;
        CHECK(after >= 2 || begin_after < 0);
        if (begin_after >= 0) {
            OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
        }
        graph = end(s);
        CHECK(graph != NULL);
        OK(cu.cuGraphDestroy(graph));
        CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
        CHECK_OK(ta_graph_pool_trim(graphs));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
        graphs_close();
    }
}

/* The stream of a scope has the handle of one that vanished: what that one used waits. */
static void scopes_on_handles_that_came_again(void)
{
    CUdeviceptr x, y;
    CUstream gone;
    uint64_t before;
    if (!graphs_open("sched=lazy", 0)) { return; }
    gone = stream_gone(0, 1);
    x = take(MIB, t);
    OK(cu.cuStreamSynchronize(t));
    OK(spin_ns(1000000, gone));
    OK(fill(x, 1, 64, gone));
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(gone)));
    OK(cu.cuStreamDestroy_v2(gone));
    CHECK(stream_new() == gone); /* else nothing is tested */
    before = context_syncs();
    CHECK_OK(ta_capture_enter(graphs, STREAM(gone)));
    CHECK_OK(ta_capture_enter(graphs, STREAM(gone)));
    give(x);
    OK(cu.cuStreamSynchronize(gone));
    y = take(MIB, t);
    OK(fill(y, 2, 64, t));
    give(y);
    CHECK_EQ(context_syncs(), before);
    CHECK_OK(ta_capture_leave(graphs, STREAM(gone), 1, NULL));
    CHECK_OK(ta_capture_leave(graphs, STREAM(gone), 1, NULL));
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
    CHECK_GE(context_syncs(), before + 1);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).reserved_bytes, 0);
    OK(cu.cuStreamDestroy_v2(gone));
    graphs_close();
}

/* What a pool gives back while a scope is open and a stream has vanished: what it can, and that is no error. */
static void trims_beside_captures(void)
{
    CUdeviceptr x, y;
    CUstream u;
    size_t released = 0;
    uint64_t before;
    if (!graphs_open("sched=lazy", 0)) { return; }
    u = stream_new();
    x = take(6 * MIB, u);
    OK(fill(x, 1, 64, u));
    y = take(4 * MIB, t); /* its own */
    give(x);
    OK(cu.cuStreamDestroy_v2(u));
    give(y);
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    before = context_syncs();
    CHECK_OK(ta_pool_trim(pool, 0, &released));
    CHECK_EQ(released, 4 * MIB);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).cached_bytes, 6 * MIB);
    CHECK_EQ(context_syncs(), before);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    CHECK_OK(ta_pool_trim(pool, 0, &released));
    CHECK_EQ(released, 6 * MIB);
    CHECK_EQ(check_books(pool).cached_bytes, 0);
    graphs_close();
}

/* Graphs of one shared graph pool with the same handle, for the driver gives it out again: each counts, whenever it is
   attached; the same one twice does not. */
static void handles_of_graphs_come_again(void)
{
    int early, twice;
    for (early = 0; early < 4; early++) {
        for (twice = 0; twice < 2; twice++) {
            CUgraph graphs_made[2];
            CUgraphExec execs[2];
            int i;
            if (!graphs_open("sched=lazy", 1)) { return; }
            test_context("early %d, twice %d", early, twice);
            for (i = 0; i < 2; i++) {
                const int before = early >> i & 1;
                enter(graphs, s);
                give(take(4096, s));
                graphs_made[i] = end(s);
                if (before) {
                    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graphs_made[i]));
                }
                if (before && twice) {
                    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graphs_made[i]));
                }
                CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
                if (!before || twice) {
                    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graphs_made[i]));
                }
                CHECK_EQ(stats_of(graphs).graph_count, (size_t)i + 1);
                execs[i] = instantiate(graphs_made[i]);
                OK(cu.cuGraphDestroy(graphs_made[i]));
            }
            CHECK(graphs_made[0] == graphs_made[1]); /* else nothing is tested */
            for (i = 0; i < 2; i++) {
                CHECK_EQ(stats_of(graphs).is_referenced, 1);
                OK(cu.cuGraphExecDestroy(execs[i]));
                fake.tafake_settle();
            }
            CHECK_EQ(stats_of(graphs).graph_count, 0);
            CHECK_EQ(stats_of(graphs).is_referenced, 0);
            CHECK_OK(ta_graph_pool_trim(graphs));
            graphs_close();
        }
    }
}

/* ---- shrinking in a scope */
/* The end of an eager block that a graph being captured writes to goes to nobody. */
static void shrinks_in_scopes(void)
{
    int moves; /* by ta_pool_realloc, which does not move then */
    for (moves = 0; moves < 2; moves++) {
        CUdeviceptr x, y;
        CUgraphExec exec;
        ta_capture_report report;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("realloc %d", moves);
        x = take(8 * MIB, s);
        OK(fill(x, 1, 64, s));
        enter(graphs, s);
        OK(fill(x, 0xAA, 2 * 1024 * 1024, s));
        if (moves != 0) {
            CHECK(ta_pool_realloc(pool, pointer(x), 4096, NULL) == pointer(x));
        } else {
            CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), 4096));
        }
        exec = finish(graphs, s, &report);
        y = take(2 * MIB, s);
        OK(fill(y, 7, 64, s));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(y), 7);
        CHECK_OK(ta_pool_resize_in_place(pool, pointer(x), 2048)); /* no scope is open any more */
        give(y);
        give(x);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        graphs_close();
    }
}

TEST_MAIN(TEST_CASE(frees_while_memory_goes_back), TEST_CASE(outputs_are_waited_for),
          TEST_CASE(shared_outputs_serve_the_next_capture), TEST_CASE(eager_blocks_keep_off_open_captures),
          TEST_CASE(outputs_keep_off_replays), TEST_CASE(what_is_cut_off_is_waited_for),
          TEST_CASE(zeros_are_in_no_graph), TEST_CASE(frees_after_events), TEST_CASE(frees_after_events_in_captures),
          TEST_CASE(no_scope_while_one_is_left), TEST_CASE(a_capture_meanwhile_is_seen),
          TEST_CASE(scopes_without_a_capture), TEST_CASE(captures_that_only_hold), TEST_CASE(inner_scopes_that_fail),
          TEST_CASE(recorded_copies_across_streams), TEST_CASE(holds_of_one_record),
          TEST_CASE(disposed_while_graphs_live), TEST_CASE(reservations_of_several_ranges),
          TEST_CASE(places_that_moved), TEST_CASE(streams_retired_beside_allocations),
          TEST_CASE(retired_handles_come_again), TEST_CASE(vanished_streams_beside_captures),
          TEST_CASE(scopes_wait_for_who_waits), TEST_CASE(inputs_come_again),
          TEST_CASE(inputs_stay), TEST_CASE(inputs_of_failures_come_again),
          TEST_CASE(grown_outputs_are_waited_for), TEST_CASE(reports_are_exact),
          TEST_CASE(twice_is_once), TEST_CASE(copies_that_fail_hold_nothing), TEST_CASE(many_holds_end),
          TEST_CASE(scopes_of_streams_that_join), TEST_CASE(destroyed_while_others_allocate),
          TEST_CASE(holds_without_graphs), TEST_CASE(held_between_live_blocks),
          TEST_CASE(frees_that_fail_in_captures), TEST_CASE(retiring_in_graph_pools_fails),
          TEST_CASE(scopes_for_captures_that_go_on), TEST_CASE(streams_of_two_pools),
          TEST_CASE(captures_that_begin_beside_frees), TEST_CASE(scopes_on_handles_that_came_again),
          TEST_CASE(trims_beside_captures), TEST_CASE(handles_of_graphs_come_again),
          TEST_CASE(shrinks_in_scopes))
