/* test_graph_use.c - what graphs hold: eager, pinned and other graph pools' blocks, tensors, tensors that grow; the
   interface of the specification, with a test for each of its faults; bad calls. */
#include "graph.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- blocks of others that a capture uses */
enum { RECORDED, HELD, FREED_IN_CAPTURE, NOTHING, WAYS };

/* An eager block is read by a graph and freed, in one of several ways; eager work then wants such a block on its stream.
   Returns how many reports there were. */
static uint64_t freed_while_a_graph_reads_it(int way)
{
    CUdeviceptr weights, out, other;
    CUgraphExec exec;
    uint64_t reports;
    uint32_t value;
    if (!graphs_open("sched=lazy", 0)) { return 0; }
    test_context("way %d", way);
    weights = take(BYTES, way == FREED_IN_CAPTURE ? s : t);
    out = take(BYTES, s);
    OK(fill(weights, 42, WORDS, t));
    OK(cu.cuStreamSynchronize(t));
    enter(graphs, s);
    OK(copy(out, weights, WORDS, s));
    if (way == RECORDED) {
        CHECK_OK(ta_pool_record_use(pool, pointer(weights), STREAM(s)));
        CHECK_OK(ta_pool_record_use(pool, pointer(weights), STREAM(s))); /* twice is once */
        CHECK_EQ(stats_of(graphs).held_count, 1);
    } else if (way == HELD) {
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(weights)));
    } else if (way == FREED_IN_CAPTURE) {
        give(weights);
    }
    exec = finish(graphs, s, NULL);
    if (way != FREED_IN_CAPTURE) {
        give(weights);
    }
    CHECK_RESULT(ta_pool_free(pool, pointer(weights)), TA_ERROR_STALE);
    CHECK_OK(ta_pool_empty_cache(pool));
    other = take(BYTES, t);
    CHECK_EQ(other == weights, way == NOTHING);
    OK(fill(other, 666, WORDS, t));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuStreamSynchronize(t));
    value = read32(out);
    reports = take_reports();
    if (way != NOTHING) {
        CHECK_EQ(value, 42);
        CHECK_EQ(check_books(pool).pending_bytes, BYTES);
    }
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_pool_empty_cache(pool)); /* finds that the graph is gone */
    CHECK_EQ(check_books(pool).pending_bytes, 0);
    CHECK_EQ(stats_of(graphs).held_count, 0);
    give(other);
    give(out);
    graphs_close();
    return reports;
}

static void eager_blocks_stay_while_graphs_read_them(void)
{
    CHECK_EQ(freed_while_a_graph_reads_it(RECORDED), 0);
    CHECK_EQ(freed_while_a_graph_reads_it(HELD), 0);
    CHECK_EQ(freed_while_a_graph_reads_it(FREED_IN_CAPTURE), 0);
    if (test_now.skip == NULL) {
        CHECK_NE(freed_while_a_graph_reads_it(NOTHING), 0); /* the checker sees what is missing */
    }
}

/* Memory of the host that a graph copies from: its pool has a graph pool of its own. */
static void pinned_memory(void)
{
    ta_cuda *host;
    ta_pool *pinned;
    ta_graph_pool_desc desc;
    ta_graph_pool *beside = NULL;
    uint32_t *from, *next, *taken;
    CUdeviceptr to;
    CUgraphExec exec;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    host = cuda_new(TA_CUDA_PINNED);
    pinned = pool_new(host, NULL);
    memset(&desc, 0, sizeof desc);
    desc.pool = pinned;
    CHECK_OK(ta_graph_pool_create(&desc, &beside));
    from = (uint32_t *)ta_pool_alloc_stream(pinned, BYTES, STREAM(s), NULL);
    next = (uint32_t *)ta_pool_alloc_stream(pinned, BYTES, STREAM(s), NULL);
    from[0] = 5;
    next[0] = 6;
    CHECK_OK(ta_capture_enter(beside, STREAM(s)));
    enter(graphs, s);
    to = take(BYTES, s);
    OK(cu.cuMemcpyHtoDAsync_v2(to, from, 4, s));
    CHECK_OK(ta_pool_record_use(pinned, from, STREAM(s)));
    taken = (uint32_t *)ta_pool_alloc_stream(pinned, BYTES, STREAM(s), NULL); /* in the capture: of its graph pool */
    OK(cu.cuMemcpyHtoDAsync_v2(to + 4, taken, 4, s));
    taken[0] = 9;
    OK(cu.cuMemcpyHtoDAsync_v2(to + 8, next, 4, s));
    CHECK_OK(ta_graph_pool_hold(graphs, pinned, next)); /* or that of the device holds it */
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_OK(ta_capture_leave(beside, STREAM(s), 0, NULL));
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
    CHECK_OK(ta_graph_pool_attach(beside, (uint64_t)(uintptr_t)graph));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_pool_free(pinned, from));
    CHECK_OK(ta_pool_free(pinned, next));
    CHECK_OK(ta_pool_empty_cache(pinned));
    CHECK(ta_pool_alloc_stream(pinned, BYTES, STREAM(s), NULL) != from);
    CHECK(ta_pool_alloc_stream(pinned, BYTES, STREAM(s), NULL) != next);
    CHECK_RESULT(ta_pool_destroy(pinned), TA_ERROR_BUSY);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(to), 5);
    CHECK_EQ(read32(to + 4), 9);
    CHECK_EQ(read32(to + 8), 6);
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_destroy(beside));
    CHECK_OK(ta_graph_pool_destroy(graphs)); /* lets go of the pinned block too */
    graphs = NULL;
    CHECK_OK(ta_pool_destroy(pinned));
    CHECK_OK(ta_cuda_destroy(host));
    graphs_close();
}

/* A graph reads what another graph left in its own pool: that pool stays as long as either. */
static void one_graph_reads_another_ones_output(void)
{
    ta_graph_pool *second;
    CUdeviceptr a, b;
    CUgraphExec x, y;
    if (!graphs_open("sched=lazy", 0)) { return; }
    second = graphs_new(0);
    enter(graphs, s);
    a = take(BYTES, s);
    OK(fill(a, 3, WORDS, s));
    x = finish(graphs, s, NULL);
    enter(second, s);
    b = take(BYTES, s);
    CHECK_OK(ta_pool_record_use(pool, pointer(a), STREAM(s)));
    OK(copy(b, a, WORDS, s));
    y = finish(second, s, NULL);
    OK(cu.cuGraphLaunch(x, s));
    OK(cu.cuGraphExecDestroy(x));
    OK(cu.cuStreamSynchronize(s));
    fake.tafake_settle();
    give(a);
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    OK(cu.cuGraphLaunch(y, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(b), 3);
    OK(cu.cuGraphExecDestroy(y));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* What is held before a capture stays held until its graph is gone, whatever is collected in between. */
static void holds_wait_for_their_capture(void)
{
    int how;
    for (how = 0; how < 5; how++) {
        CUdeviceptr w, out, later;
        CUgraphExec exec, first = NULL;
        if (!graphs_open("sched=lazy", 1)) { return; }
        test_context("how %d", how);
        w = take(BYTES, t);
        out = take(BYTES, t);
        OK(fill(w, 5, WORDS, t));
        OK(cu.cuStreamSynchronize(t));
        if (how == 4) { /* held while an earlier graph lives, which goes before the capture comes */
            enter(graphs, s);
            OK(fill(out, 1, WORDS, s));
            first = finish(graphs, s, NULL);
        }
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(w)));
        if (how == 1) {
            CHECK_OK(ta_pool_empty_cache(pool));
        } else if (how == 2) {
            give(take(100 * MIB, t)); /* growth */
        } else if (how == 3) {
            CHECK_OK(ta_graph_pool_destroy(graphs_new(0)));
        } else if (how == 4) {
            OK(cu.cuGraphExecDestroy(first));
            fake.tafake_settle();
        }
        CHECK_EQ(stats_of(graphs).held_count, 1);
        enter(graphs, s);
        OK(copy(out, w, WORDS, s));
        exec = finish(graphs, s, NULL);
        give(w);
        later = take(BYTES, t);
        CHECK(later != w);
        OK(fill(later, 666, WORDS, t));
        OK(cu.cuStreamSynchronize(t));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(out), 5);
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        CHECK_EQ(stats_of(graphs).held_count, 0);
        give(later);
        give(out);
        graphs_close();
    }
}

/* A block that the program holds by itself stays held when the capture that used it too fails. */
static void own_holds_survive_failed_captures(void)
{
    CUdeviceptr x, out, later;
    CUgraph graph;
    CUgraphExec exec, other;
    if (!graphs_open("sched=lazy", 1)) { return; }
    x = take(BYTES, t);
    out = take(BYTES, t);
    OK(fill(x, 5, WORDS, t));
    OK(cu.cuStreamSynchronize(t));
    enter(graphs, s);
    OK(fill(out, 1, WORDS, s));
    other = finish(graphs, s, NULL);
    enter(graphs, s);
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(s)));
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(x)));
    CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(s)));
    CHECK_EQ(stats_of(graphs).held_count, 1);
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    OK(cu.cuGraphDestroy(graph));
    CHECK_EQ(stats_of(graphs).held_count, 1);
    enter(graphs, s);
    OK(copy(out, x, WORDS, s));
    exec = finish(graphs, s, NULL);
    give(x);
    later = take(BYTES, t);
    CHECK(later != x);
    OK(fill(later, 666, WORDS, t));
    OK(cu.cuStreamSynchronize(t));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(out), 5);
    OK(cu.cuGraphExecDestroy(exec));
    OK(cu.cuGraphExecDestroy(other));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).held_count, 0);
    give(later);
    give(out);
    graphs_close();
}

/* What is allocated outside of captures while a graph lives is memory that the graph never had: no replay writes it. */
static void eager_memory_keeps_away_from_replays(void)
{
    int how;
    for (how = 0; how < 8; how++) {
        const int share = how & 1, open = how & 2, segments = how & 4;
        CUdeviceptr first, tmp, big, in[3];
        ta_request request;
        ta_tensor w;
        const int64_t dims[1] = {WORDS};
        CUgraphExec exec;
        uint32_t i;
        if (!fake_open("sched=lazy")) { return; }
        cuda = cuda_new(segments ? TA_CUDA_SEGMENTS : TA_CUDA_RANGES);
        pool = pool_new(cuda, NULL);
        s = stream_new();
        t = stream_new();
        graphs = graphs_new(share);
        test_context("how %d", how);
        memset(&request, 0, sizeof request);
        request.size_bytes = BYTES;
        request.stream = STREAM(s);
        first = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
        enter(graphs, s);
        tmp = take(BYTES, s);
        big = take(3 * MIB, s);
        OK(fill(tmp, 2, WORDS, s));
        OK(fill(big, 3, WORDS, s));
        give(tmp);
        give(big);
        exec = finish(graphs, s, NULL);
        CHECK_EQ(tmp, first + BYTES);
        CHECK_RESULT(ta_pool_resize_in_place(pool, pointer(first), BYTES + 1), TA_ERROR_WOULD_MOVE);
        if (open && share) {
            CHECK_OK(ta_capture_enter(graphs, STREAM(t)));
        }
        CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(s), &w));
        OK(fill(ADDRESS(w.buffer.data), 7, WORDS, s));
        CHECK_OK(ta_tensor_ensure_graph_compatible(&w, graphs, STREAM(s), TA_GRAPH_COPY));
        for (i = 0; i < 3; i++) {
            request.alignment_bytes = i == 1 ? 1 << 16 : 0;
            request.flags = i == 2 ? TA_REQUEST_ZEROED : 0;
            in[i] = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
            CHECK(in[i] != 0 && in[i] % (i == 1 ? 1 << 16 : 256) == 0);
            OK(fill(in[i], 10 + i, WORDS, s));
        }
        if (open && share) {
            CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
        }
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(ADDRESS(w.buffer.data)), 7);
        for (i = 0; i < 3; i++) {
            CHECK_EQ(read32(in[i]), 10 + i);
            CHECK_EQ(read32(in[i] + BYTES - 4), 10 + i);
            give(in[i]);
        }
        CHECK_OK(ta_pool_check(graphs->memory));
        CHECK_OK(ta_tensor_destroy(&w, STREAM(s)));
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        request.alignment_bytes = 0;
        request.flags = 0;
        request.size_bytes = 3 * MIB;
        in[0] = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL)); /* no graph: its memory serves again */
        CHECK(in[0] == tmp || in[0] == big);
        give(in[0]);
        give(first);
        graphs_close();
    }
}

/* A block of another stream that is freed with a captured stream is held; one that was used on it before the capture
   waits until it can be asked for that. */
static void frees_on_captured_streams(void)
{
    int how;
    for (how = 0; how < 3; how++) {
        CUdeviceptr x, later;
        CUgraphExec exec;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("how %d", how);
        x = take(BYTES, t);
        OK(fill(x, 5, WORDS, t));
        order(t, s);
        if (how == 2) {
            OK(fill(x, 6, WORDS, s));
            CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(s)));
        } else {
            OK(cu.cuStreamSynchronize(s));
        }
        enter(graphs, s);
        if (how == 0) {
            OK(add(x, 1, WORDS, s));
            CHECK_OK(ta_allocator_free(ta_pool_allocator(pool), pointer(x), BYTES, 0, STREAM(s)));
        } else if (how == 1) {
            const int64_t dims[1] = {WORDS};
            ta_tensor w;
            give(x);
            CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(t), &w));
            x = ADDRESS(w.buffer.data);
            OK(add(x, 1, WORDS, s));
            CHECK_OK(ta_tensor_destroy(&w, STREAM(s)));
        } else {
            OK(fill(take(BYTES, s), 1, WORDS, s));
            give(x);
        }
        exec = finish(graphs, s, NULL);
        CHECK_EQ(stats_of(graphs).held_count, how != 2);
        later = take(BYTES, t);
        CHECK(later != x);
        OK(fill(later, 666, WORDS, t));
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuCtxSynchronize());
        OK(cu.cuGraphExecDestroy(exec));
        fake.tafake_settle();
        CHECK_EQ(stats_of(graphs).held_count, 0);
        give(later);
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_EQ(check_books(pool).reserved_bytes, 0);
        graphs_close();
    }
}

/* Two threads trim while work of a stream that was retired is in flight: its event is given back once. */
static pthread_barrier_t trimmers;

static void *trim_beside(void *out)
{
    ta_result *result = out;
    const int ok = cu.cuCtxSetCurrent(on.context) == CUDA_SUCCESS;
    pthread_barrier_wait(&trimmers);
    *result = ta_graph_pool_trim(graphs);
    *result = ok ? *result : TA_ERROR_BACKEND;
    return NULL;
}

static void trimming_on_two_threads(void)
{
    int round;
    for (round = 0; round < 20; round++) {
        const tai_cu_spare *slow, *fast;
        ta_request request;
        pthread_t threads[2];
        ta_result results[2];
        CUstream gone;
        void *ptr;
        size_t k;
        if (!graphs_open("sched=threads:5", 0)) { return; }
        test_context("round %d", round);
        gone = stream_new();
        memset(&request, 0, sizeof request);
        request.size_bytes = BYTES;
        request.stream = STREAM(gone);
        ptr = ta_graph_pool_alloc(graphs, &request, NULL);
        CHECK(ptr != NULL);
        OK(spin_ns(10000000, gone));
        OK(fill(ADDRESS(ptr), 1, WORDS, gone));
        give(ADDRESS(ptr));
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
        OK(cu.cuStreamDestroy_v2(gone));
        pthread_barrier_init(&trimmers, NULL, 2);
        for (k = 0; k < 2; k++) {
            CHECK(pthread_create(&threads[k], NULL, trim_beside, &results[k]) == 0);
        }
        for (k = 0; k < 2; k++) {
            CHECK(pthread_join(threads[k], NULL) == 0);
            CHECK_OK(results[k]);
        }
        pthread_barrier_destroy(&trimmers);
        slow = fast = cuda->events; /* a list, not a ring */
        while (fast != NULL && fast->next != NULL) {
            slow = slow->next;
            fast = fast->next->next;
            CHECK(slow != fast);
            if (slow == fast) { return; }
        }
        graphs_close();
    }
}

/* Blocks of a graph pool that eager work uses are nobody else's before that work is done: no other stream's, no
   capture's. */
static void eager_work_on_graph_memory_is_waited_for(void)
{
    int how;
    for (how = 0; how < 4; how++) {
        CUdeviceptr x, y;
        ta_request request;
        CUgraphExec exec = NULL;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("how %d", how);
        memset(&request, 0, sizeof request);
        request.size_bytes = BYTES;
        request.stream = STREAM(s);
        x = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
        OK(fill(x, 1, WORDS, s));
        if (how == 2) { /* used on another stream as well, which is named */
            OK(cu.cuStreamSynchronize(s));
            OK(fill(x, 3, WORDS, t));
            CHECK_OK(ta_pool_record_use(pool, pointer(x), STREAM(t)));
        } else if (how == 3) {
            OK(cu.cuStreamSynchronize(s));
            OK(fill(x, 3, WORDS, t));
        }
        if (how == 3) {
            CHECK_OK(ta_allocator_free(ta_pool_allocator(pool), pointer(x), BYTES, 0, STREAM(t)));
        } else {
            give(x);
        }
        if (how == 1) { /* the next capture, replayed at once on another stream */
            enter(graphs, t);
            y = take(BYTES, t);
            OK(fill(y, 2, WORDS, t));
            exec = finish(graphs, t, NULL);
            OK(cu.cuGraphLaunch(exec, t));
        } else {
            enter(graphs, t);
            OK(cu.cuGraphDestroy(end(t)));
            CHECK_OK(ta_capture_leave(graphs, STREAM(t), 1, NULL));
            request.stream = how == 0 ? STREAM(t) : STREAM(s);
            y = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
            OK(fill(y, 2, WORDS, how == 0 ? t : s));
        }
        CHECK(y != x);
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(fake.tafake_race_count(), 0);
        if (exec != NULL) {
            OK(cu.cuGraphExecDestroy(exec));
            fake.tafake_settle();
        }
        give(y);
        CHECK_OK(ta_pool_check(graphs->memory));
        if (exec == NULL) { /* done: it serves again */
            enter(graphs, s);
            CHECK_EQ(take(BYTES, s), x);
            OK(cu.cuGraphDestroy(end(s)));
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
        }
        graphs_close();
    }
}

/* Captures that wait to be attached are counted one by one, whenever and however often attach is called. */
static void graphs_are_counted_once(void)
{
    CUgraph a, b;
    if (!graphs_open("sched=lazy", 1)) { return; }
    enter(graphs, s); /* attached before the scope is left */
    OK(fill(take(BYTES, s), 1, WORDS, s));
    a = end(s);
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)a));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
    OK(cu.cuGraphDestroy(a));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).is_referenced, 0);
    enter(graphs, s); /* retained before */
    OK(fill(take(BYTES, s), 1, WORDS, s));
    a = end(s);
    CHECK_OK(ta_graph_pool_retain(graphs));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    OK(cu.cuGraphDestroy(a));
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
    CHECK_OK(ta_graph_pool_release(graphs));
    CHECK_OK(ta_graph_pool_trim(graphs));
    enter(graphs, s); /* two scopes, one capture */
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    OK(fill(take(BYTES, s), 1, WORDS, s));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    a = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)a));
    OK(cu.cuGraphDestroy(a));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_trim(graphs));
    enter(graphs, s); /* twice the first of two */
    OK(fill(take(BYTES, s), 1, WORDS, s));
    a = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    enter(graphs, s);
    OK(fill(take(BYTES, s), 1, WORDS, s));
    b = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)a));
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)a));
    OK(cu.cuGraphDestroy(a));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).is_referenced, 1);
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)b));
    OK(cu.cuGraphDestroy(b));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).is_referenced, 0);
    CHECK_OK(ta_graph_pool_trim(graphs));
    graphs_close();
}

/* A stream that was retired is in no capture, and nobody asks the driver about it. */
static void retired_streams_are_in_no_capture(void)
{
    ta_cuda_info info;
    CUdeviceptr x;
    CUstream gone;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    gone = stream_new();
    x = take(BYTES, gone);
    OK(fill(x, 5, WORDS, gone));
    OK(cu.cuStreamSynchronize(gone));
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(gone)));
    OK(cu.cuStreamDestroy_v2(gone));
    enter(graphs, s);
    fake.tafake_calls_clear();
    give(x);
    CHECK_EQ(fake.tafake_calls("cuStreamGetCaptureInfo"), 0);
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_EQ(info.last_code, 0);
    CHECK_EQ(stats_of(graphs).held_count, 0);
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    OK(cu.cuGraphDestroy(graph));
    graphs_close();
}

/* In the child of a fork a graph pool does nothing, and asks the driver for nothing. */
static void graph_pools_after_fork(void)
{
    int status = -1;
    pid_t child;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_graph_pool_retain(graphs));
    fflush(NULL);
    child = fork();
    if (child == 0) {
        const uint64_t before = fake.tafake_calls("*");
        const int ok = ta_graph_pool_release(graphs) == TA_ERROR_FORKED &&
                       ta_graph_pool_destroy(graphs) == TA_ERROR_FORKED &&
                       ta_capture_enter(graphs, STREAM(s)) == TA_ERROR_FORKED &&
                       ta_graph_pool_trim(graphs) == TA_ERROR_FORKED && fake.tafake_calls("*") == before;
        _exit(ok ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    CHECK_OK(ta_graph_pool_release(graphs));
    graphs_close();
}

/* Two threads open scopes on two streams at once: one of them is told that it cannot be. */
static struct entrant { pthread_t thread; CUstream stream; ta_result entered, left; } entrants[2];

static void *enter_beside(void *which)
{
    struct entrant *one = which;
    pthread_barrier_wait(&trimmers);
    one->entered = ta_capture_enter(graphs, STREAM(one->stream));
    pthread_barrier_wait(&trimmers);
    one->left = one->entered == TA_OK ? ta_capture_leave(graphs, STREAM(one->stream), 1, NULL) : TA_OK;
    return NULL;
}

static void scopes_of_two_threads(void)
{
    int round, i;
    if (!graphs_open("sched=lazy", 0)) { return; }
    entrants[0].stream = s;
    entrants[1].stream = t;
    pthread_barrier_init(&trimmers, NULL, 2);
    for (round = 0; round < 2000; round++) {
        for (i = 0; i < 2; i++) {
            CHECK(pthread_create(&entrants[i].thread, NULL, enter_beside, &entrants[i]) == 0);
        }
        for (i = 0; i < 2; i++) {
            CHECK(pthread_join(entrants[i].thread, NULL) == 0);
            CHECK_OK(entrants[i].left);
        }
        CHECK((entrants[0].entered == TA_OK) != (entrants[1].entered == TA_OK));
        CHECK(entrants[0].entered == TA_ERROR_BUSY || entrants[1].entered == TA_ERROR_BUSY);
    }
    pthread_barrier_destroy(&trimmers);
    graphs_close();
}

/* Another thread begins to capture the stream that memory is taken from, between the question and the event: the taker
   does not join that capture, and the capture is whole. */
static CUstream donor;
static CUresult (*record_event)(CUevent event, CUstream stream);

static CUresult record_late(CUevent event, CUstream stream)
{
    if (donor != NULL && stream == donor) {
        donor = NULL;
        OK(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    }
    return record_event(event, stream);
}

static void *resolve_late(void *user, const char *name)
{
    void *function = fake.tafake_resolve(name);
    void *late = NULL;
    CUresult (*const hook)(CUevent event, CUstream stream) = record_late;
    (void)user;
    if (strcmp(name, "cuEventRecord") != 0) {
        return function;
    }
    memcpy(&record_event, &function, sizeof function);
    memcpy(&late, &hook, sizeof late);
    return late;
}

static void nobody_steals_into_a_capture(void)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    ta_cuda_desc desc;
    ta_pool_desc options;
    CUdeviceptr x, y;
    if (!fake_open("sched=lazy")) { return; }
    memset(&desc, 0, sizeof desc);
    desc.kind = TA_CUDA_RANGES;
    desc.resolve = resolve_late;
    CHECK_OK(ta_cuda_create(&desc, &cuda, NULL));
    memset(&options, 0, sizeof options);
    options.disable_thread_caches = 1;
    pool = pool_new(cuda, &options);
    s = stream_new();
    t = stream_new();
    x = take(4 * MIB, s);
    OK(fill(x, 1, WORDS, s));
    give(x);
    donor = s;
    y = take(4 * MIB, t);
    CHECK(donor == NULL); /* a steal was tried */
    CHECK(y != x);
    OK(cu.cuStreamIsCapturing(t, &status));
    CHECK_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
    OK(fill(y, 2, WORDS, t));
    OK(cu.cuGraphDestroy(end(s)));
    OK(cu.cuStreamSynchronize(t));
    CHECK_EQ(read32(y), 2);
    give(y);
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    world_close();
}

/* ---- tensors */
static void tensors_pinned_and_copied(void)
{
    const int64_t dims[2] = {4, 1024};
    ta_graph_compatible how;
    int strided;
    for (strided = 0; strided < 2; strided++) {
        for (how = TA_GRAPH_PIN; how <= TA_GRAPH_COPY_RECORDED; how = (ta_graph_compatible)(how + 1)) {
            ta_tensor x, made;
            CUdeviceptr before, after, out;
            CUgraphExec exec;
            ta_stats base;
            if (!graphs_open("sched=lazy", 0)) { return; }
            test_context("strided %d, how %d", strided, (int)how);
            CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 0, STREAM(s), &x));
            if (strided) { /* its transpose */
                x.dims[0] = 1024;
                x.dims[1] = 4;
                x.strides[0] = 1;
                x.strides[1] = 1024;
            }
            before = ADDRESS(x.buffer.data);
            OK(fill(before, 8, 4096, s));
            out = take(BYTES, s);
            CHECK_OK(ta_tensor_with_graph_memory(&x, graphs, STREAM(s), &made));
            CHECK_EQ(made.buffer.size_bytes, x.buffer.size_bytes);
            CHECK_EQ(memcmp(made.dims, x.dims, sizeof x.dims) + memcmp(made.strides, x.strides, sizeof x.strides), 0);
            CHECK_EQ(ta_tensor_is_contiguous(&made), !strided);
            CHECK_OK(ta_allocator_check_buffer(made.allocator, &made.buffer));
            CHECK_EQ(ta_tensor_is_graph_compatible(&made, graphs), 1);
            CHECK_OK(ta_tensor_destroy(&made, STREAM(s)));
            CHECK_EQ(ta_tensor_is_graph_compatible(&made, graphs), 1); /* empty */
            CHECK_EQ(ta_tensor_is_graph_compatible(&x, graphs), 0);
            if (how != TA_GRAPH_COPY_RECORDED) {
                CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), how));
            }
            enter(graphs, s);
            if (how == TA_GRAPH_COPY_RECORDED) {
                CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY), TA_ERROR_CAPTURE);
                CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), how));
            }
            CHECK_EQ(ta_tensor_is_graph_compatible(&x, graphs), 1);
            after = ADDRESS(x.buffer.data);
            CHECK_EQ(after == before, how == TA_GRAPH_PIN);
            CHECK_EQ(x.strides[0], strided ? 1 : 1024);
            OK(copy(out, after, WORDS, s));
            exec = finish(graphs, s, NULL);
            CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY)); /* it is, or moves now */
            CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
            CHECK(x.buffer.data == NULL);
            OK(cu.cuGraphLaunch(exec, s));
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(out), 8);
            give(out);
            OK(cu.cuGraphExecDestroy(exec));
            OK(cu.cuStreamSynchronize(s));
            fake.tafake_settle();
            CHECK_OK(ta_pool_empty_cache(pool));
            base = check_books(pool);
            CHECK_EQ(base.live_count + base.pending_bytes, 0); /* the old block went back, once */
            CHECK_EQ(stats_of(graphs).memory.block_count, 0);
            graphs_close();
        }
    }
}

/* Tensors in graph memory may be destroyed after their graph pool was: while graphs keep it, and when it is gone. */
static void tensors_outlive_their_graph_pool(void)
{
    const int64_t dims[1] = {WORDS};
    int copied, late;
    for (copied = 0; copied < 2; copied++) {
        for (late = 0; late < 2; late++) {
            ta_tensor x, y;
            CUgraphExec exec;
            if (!graphs_open("sched=lazy", 0)) { return; }
            CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(s), &x));
            if (copied) {
                CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY));
                y = x;
            } else {
                CHECK_OK(ta_tensor_with_graph_memory(&x, graphs, STREAM(s), &y));
                CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
            }
            CHECK(ta_pool_owns(graphs->memory, y.buffer.data));
            OK(fill(ADDRESS(y.buffer.data), 8, WORDS, s));
            enter(graphs, s);
            OK(add(ADDRESS(y.buffer.data), 1, WORDS, s));
            exec = finish(graphs, s, NULL);
            CHECK_OK(ta_graph_pool_destroy(graphs));
            OK(cu.cuGraphLaunch(exec, s));
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(ADDRESS(y.buffer.data)), 9);
            if (!late) {
                CHECK_OK(ta_tensor_destroy(&y, STREAM(s)));
            }
            OK(cu.cuGraphExecDestroy(exec));
            fake.tafake_settle();
            CHECK_OK(ta_pool_empty_cache(pool));
            if (late) {
                CHECK_RESULT(ta_tensor_destroy(&y, STREAM(s)), TA_ERROR_FOREIGN);
            }
            graphs = NULL;
            graphs_close();
        }
    }
}

static void tensors_that_cannot(void)
{
    const int64_t dims[1] = {1024}, none[1] = {0};
    ta_pool *host = NULL;
    ta_arena *arena = NULL;
    ta_arena_desc arena_desc;
    ta_cuda_desc second;
    ta_cuda *other = NULL;
    ta_pool *elsewhere;
    ta_graph_compatible how;
    ta_tensor x, empty, made;
    if (!graphs_open("sched=lazy;devices=2", 0)) { return; }
    CHECK_OK(ta_pool_create(NULL, &host));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(host), TA_F32, dims, 1, 0, 0, &x));
    CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_PIN), TA_ERROR_UNSUPPORTED);
    CHECK_OK(ta_tensor_destroy(&x, 0));
    memset(&arena_desc, 0, sizeof arena_desc);
    arena_desc.backend = ta_cuda_backend(cuda);
    arena_desc.range_bytes = 16 * MIB;
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    CHECK_OK(ta_tensor_create(ta_arena_allocator(arena), TA_F32, dims, 1, 0, STREAM(s), &x));
    CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_PIN), TA_ERROR_UNSUPPORTED);
    OK(fill(ADDRESS(x.buffer.data), 4, 1024, s));
    CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY));
    CHECK(ta_pool_owns(pool, x.buffer.data)); /* the pool knows what lies beside it */
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(ADDRESS(x.buffer.data)), 4);
    CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, none, 1, 0, STREAM(s), &empty));
    CHECK_OK(ta_tensor_ensure_graph_compatible(&empty, graphs, STREAM(s), TA_GRAPH_COPY));
    CHECK_OK(ta_tensor_with_graph_memory(&empty, graphs, STREAM(s), &made));
    CHECK(made.buffer.data == NULL);
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(s), &x));
    made = x;
    CHECK_OK(ta_tensor_destroy(&x, STREAM(s)));
    CHECK_RESULT(ta_tensor_ensure_graph_compatible(&made, graphs, STREAM(s), TA_GRAPH_PIN), TA_ERROR_STALE);
    CHECK_EQ(ta_tensor_is_graph_compatible(&made, graphs), 0); /* stale */
    memset(&second, 0, sizeof second);
    second.device_index = 1;
    CHECK_OK(ta_cuda_create(&second, &other, NULL));
    elsewhere = pool_new(other, NULL);
    CHECK_OK(ta_tensor_create(ta_pool_allocator(elsewhere), TA_F32, dims, 1, 0, 0, &x)); /* another device */
    for (how = TA_GRAPH_PIN; how <= TA_GRAPH_COPY_RECORDED; how = (ta_graph_compatible)(how + 1)) {
        const void *before = x.buffer.data;
        CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), how), TA_ERROR_UNSUPPORTED);
        CHECK(x.buffer.data == before);
        CHECK_EQ(ta_tensor_is_graph_compatible(&x, graphs), 0);
    }
    CHECK_RESULT(ta_graph_pool_hold(graphs, elsewhere, x.buffer.data), TA_ERROR_UNSUPPORTED);
    CHECK_EQ(stats_of(graphs).held_count + stats_of(graphs).memory.block_count, 0);
    CHECK_OK(ta_tensor_destroy(&x, 0));
    CHECK_OK(ta_pool_destroy(elsewhere));
    CHECK_OK(ta_cuda_destroy(other));
    CHECK_OK(ta_pool_destroy(host));
    CHECK_OK(ta_arena_destroy(arena));
    graphs_close();
}

/* ---- tensors that grow */
static ta_dynamic *dynamic_new(ta_cuda *over)
{
    ta_dynamic_desc desc;
    ta_dynamic *made = NULL;
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(over);
    desc.range_bytes = 256 * MIB;
    CHECK_OK(ta_dynamic_create(&desc, &made));
    return made;
}

static ta_handle cache_new(ta_dynamic *dynamic, int64_t expected, int64_t most)
{
    const int64_t least = 1;
    ta_dynamic_request request;
    ta_shape_bounds bounds;
    ta_handle handle;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &expected, &most));
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.stream = STREAM(s);
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &handle));
    return handle;
}

/* With the predictor on: sizes go up and down, memory is asked for by others, and the range stays where it is with all
   that the graph uses; a replay uses the captured size. */
static void growing_tensors_in_graphs(void)
{
    ta_dynamic *dynamic;
    ta_handle handle, other;
    ta_handle_info info;
    CUgraphExec exec;
    CUdeviceptr data;
    int64_t n;
    uint64_t state = 3;
    size_t held, released = 0;
    int i;
    if (!graphs_open("sched=lazy;fill=4096", 0)) { return; }
    dynamic = dynamic_new(cuda);
    handle = cache_new(dynamic, 8 << 18, 16 << 20);
    data = ADDRESS(ta_dynamic_get_data(dynamic, handle));
    CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &info));
    CHECK(info.in_range);
    enter(graphs, s);
    OK(add(data, 1, 8 << 18, s));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, handle));
    exec = finish(graphs, s, NULL);
    OK(cu.cuMemsetD32Async(data, 0, 8 << 18, s));
    held = 0;
    for (i = 0; i < 120; i++) {
        n = 1 + (int64_t)test_below(&state, i < 60 ? 10 << 18 : 1 << 16); /* large, then small for long */
        CHECK_OK(ta_dynamic_resize(dynamic, handle, &n, 1));
        CHECK_OK(ta_dynamic_observe(dynamic, handle, &n, 1));
        CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &info));
        CHECK_EQ(ADDRESS(info.data), data);
        CHECK_GE(info.capacity_bytes, held);
        CHECK_GE(info.capacity_bytes, (size_t)8 * MIB);
        held = info.capacity_bytes;
        if (i % 20 == 0) {
            CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(dynamic), 0, &released));
            OK(cu.cuGraphLaunch(exec, s));
        }
    }
    n = 12 << 20; /* grows in place, beside the graph */
    CHECK_OK(ta_dynamic_resize(dynamic, handle, &n, 1));
    CHECK_EQ(ADDRESS(ta_dynamic_get_data(dynamic, handle)), data);
    n = 40 << 20; /* out of its bounds and its range */
    CHECK_RESULT(ta_dynamic_resize(dynamic, handle, &n, 1), TA_ERROR_WOULD_MOVE);
    CHECK_EQ(ADDRESS(ta_dynamic_get_data(dynamic, handle)), data);
    CHECK_RESULT(ta_dynamic_destroy(dynamic), TA_ERROR_BUSY);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(data), 7);
    CHECK_EQ(read32(data + ((8 << 20) - 4)), 7);
    CHECK_OK(ta_dynamic_free(dynamic, handle));
    CHECK_RESULT(ta_dynamic_free(dynamic, handle), TA_ERROR_STALE);
    other = cache_new(dynamic, 8 << 18, 16 << 20); /* not the range that waits */
    CHECK(ADDRESS(ta_dynamic_get_data(dynamic, other)) != data);
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(dynamic)));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec));
    OK(cu.cuStreamSynchronize(s));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).held_count, 0); /* the question lets go */
    CHECK_OK(ta_dynamic_free(dynamic, other));
    other = cache_new(dynamic, 8 << 18, 16 << 20);
    handle = cache_new(dynamic, 8 << 18, 16 << 20);
    CHECK(ADDRESS(ta_dynamic_get_data(dynamic, other)) == data || ADDRESS(ta_dynamic_get_data(dynamic, handle)) == data);
    CHECK_OK(ta_dynamic_destroy(dynamic));
    graphs_close();
}

/* A sibling of the budget wants memory: headroom of others goes, that of a held tensor does not. */
static void reclaim_takes_nothing_that_is_held(void)
{
    ta_budget_desc budget_desc;
    ta_dynamic_desc desc;
    ta_budget *budget = NULL;
    ta_pool_desc pool_desc;
    ta_pool *sibling = NULL;
    ta_dynamic *dynamic = NULL;
    ta_handle handle;
    ta_handle_info before, after;
    ta_result result;
    int64_t n = 12 << 18;
    void *big;
    if (!graphs_open("sched=lazy;fill=4096", 0)) { return; }
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.backend = ta_cuda_backend(cuda);
    budget_desc.limit_bytes = 20 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    memset(&desc, 0, sizeof desc);
    desc.budget = budget;
    desc.range_bytes = 256 * MIB;
    CHECK_OK(ta_dynamic_create(&desc, &dynamic));
    memset(&pool_desc, 0, sizeof pool_desc);
    pool_desc.budget = budget;
    CHECK_OK(ta_pool_create(&pool_desc, &sibling));
    handle = cache_new(dynamic, 1 << 18, 16 << 20);
    CHECK_OK(ta_dynamic_resize(dynamic, handle, &n, 1));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, handle));
    n = 1;
    CHECK_OK(ta_dynamic_resize(dynamic, handle, &n, 1));
    CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &before));
    CHECK_GE(before.capacity_bytes, (size_t)12 * MIB);
    big = ta_pool_alloc_stream(sibling, 9 * MIB, STREAM(s), &result);
    CHECK(big == NULL);
    CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &after));
    CHECK_EQ(after.capacity_bytes, before.capacity_bytes);
    CHECK_OK(ta_graph_pool_destroy(graphs)); /* nothing was captured: it lets go */
    graphs = NULL;
    big = ta_pool_alloc_stream(sibling, 9 * MIB, STREAM(s), &result);
    CHECK_OK(result);
    CHECK_OK(ta_pool_free(sibling, big));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_pool_destroy(sibling));
    CHECK_OK(ta_budget_destroy(budget));
    graphs_close();
}

/* Tensors without a range are blocks of the dynamic's pool: held as such, and they do not move. */
static void small_tensors_in_graphs(void)
{
    ta_dynamic *dynamic, *elsewhere;
    ta_handle handle, neighbour, foreign;
    ta_cuda_desc second;
    ta_cuda *other = NULL;
    CUgraphExec exec;
    CUdeviceptr data;
    int64_t n = 5000;
    if (!graphs_open("sched=lazy;devices=2", 0)) { return; }
    dynamic = dynamic_new(cuda);
    handle = cache_new(dynamic, 1000, 4000);
    neighbour = cache_new(dynamic, 1000, 4000);
    data = ADDRESS(ta_dynamic_get_data(dynamic, handle));
    CHECK_GT(ADDRESS(ta_dynamic_get_data(dynamic, neighbour)), data); /* it is in the way */
    enter(graphs, s);
    OK(fill(data, 6, 1000, s));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, handle));
    exec = finish(graphs, s, NULL);
    CHECK_RESULT(ta_dynamic_resize(dynamic, handle, &n, 1), TA_ERROR_WOULD_MOVE);
    n = 4000;
    CHECK_OK(ta_dynamic_resize(dynamic, handle, &n, 1));
    CHECK_EQ(ADDRESS(ta_dynamic_get_data(dynamic, handle)), data);
    CHECK_OK(ta_dynamic_free(dynamic, handle));
    CHECK_RESULT(ta_graph_pool_hold_handle(graphs, dynamic, handle), TA_ERROR_STALE);
    handle = cache_new(dynamic, 1000, 4000);
    CHECK(ADDRESS(ta_dynamic_get_data(dynamic, handle)) != data);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphExecDestroy(exec));
    memset(&second, 0, sizeof second);
    second.device_index = 1;
    CHECK_OK(ta_cuda_create(&second, &other, NULL));
    elsewhere = dynamic_new(other);
    foreign = cache_new(elsewhere, 1000, 4000);
    CHECK_RESULT(ta_graph_pool_hold_handle(graphs, elsewhere, foreign), TA_ERROR_UNSUPPORTED); /* another device */
    CHECK_RESULT(ta_graph_pool_hold_handle(graphs, dynamic, foreign), TA_ERROR_FOREIGN);
    CHECK_OK(ta_dynamic_destroy(elsewhere));
    CHECK_OK(ta_cuda_destroy(other));
    OK(cu.cuStreamSynchronize(s));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_dynamic_destroy(dynamic));
    graphs_close();
}

/*---------------------------------------------------------------------------------------------------------
  The interface of the specification; a test for each of its faults
  -------------------------------------------------------------------------------------------------------*/
static ta_result mode(CUstream stream, int enabled)
{
    return ta_pool_set_graph_mode(pool, STREAM(stream), enabled);
}

/* Free in graph mode did nothing: blocks of both sorts leaked. */
static void frees_in_graph_mode_free(void)
{
    CUdeviceptr base, inside;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    base = take(BYTES, t);
    CHECK_OK(ta_pool_set_graph_pool(pool, graphs));
    CHECK(ta_pool_get_graph_pool(pool) == graphs);
    CHECK_OK(mode(s, 1));
    begin(s);
    inside = take(BYTES, s);
    CHECK_EQ(stats_of(graphs).memory.block_count, 1);
    give(inside);
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
    CHECK_EQ(check_books(pool).live_count, 1);
    give(base);
    CHECK_EQ(check_books(pool).live_count, 0);
    CHECK_EQ(check_books(pool).pending_bytes, 0); /* not of a captured stream: free, and not held either */
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(mode(s, 0));
    graphs_close();
}

/* The mode at the time of the free decided whose the block was. */
static void the_owner_decides_not_the_mode(void)
{
    CUdeviceptr base, inside;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    base = take(BYTES, t);
    CHECK_OK(ta_pool_set_graph_pool(pool, graphs));
    CHECK_OK(mode(s, 1));
    begin(s);
    inside = take(BYTES, s);
    give(base); /* a base block, mode on */
    CHECK_EQ(check_books(pool).live_count, 0);
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(mode(s, 0));
    give(inside); /* a graph block, mode off */
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
    CHECK_EQ(check_books(pool).deallocation_count, 1);
    graphs_close();
}

/* The mode was global: whoever allocated meanwhile got graph memory. */
static void other_streams_stay_eager(void)
{
    CUdeviceptr eager;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_pool_set_graph_pool(pool, graphs));
    CHECK_OK(mode(s, 1));
    eager = take(BYTES, s); /* not captured yet */
    give(eager);
    begin(s);
    CHECK_EQ(ta_pool_is_graph_mode(pool, STREAM(s)), 1);
    CHECK_EQ(ta_pool_is_graph_mode(pool, STREAM(t)), 0);
    eager = take(BYTES, t);
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
    CHECK_EQ(check_books(pool).live_count, 1);
    give(eager);
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(mode(s, 0));
    graphs_close();
}

/* Nobody knew of streams and captures: memory for eager work came from calls that break a capture. */
static void eager_growth_does_not_break_a_capture(void)
{
    CUdeviceptr eager, inside;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    enter(graphs, s);
    eager = take(30 * MIB, t);
    inside = take(30 * MIB, s);
    give(eager);
    CHECK_OK(ta_pool_empty_cache(pool));
    graph = end(s);
    CHECK(graph != NULL);
    CHECK_EQ(fake.tafake_calls_unrelaxed("*"), 0);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    OK(cu.cuGraphDestroy(graph));
    give(inside);
    graphs_close();
}

struct nested { ta_graph_pool *inner; ta_result answer; CUdeviceptr in_outer, in_inner; };

static ta_result inner_work(void *user)
{
    struct nested *one = user;
    one->in_inner = take(BYTES, s);
    OK(fill(one->in_inner, 1, WORDS, s));
    return one->answer;
}

static ta_result outer_work(void *user)
{
    struct nested *one = user;
    ta_capture_scope scope;
    ta_result result;
    CUgraph graph;
    memset(&scope, 0, sizeof scope);
    scope.graph_pool = one->inner;
    scope.stream = STREAM(s);
    begin(s);
    result = ta_with_graph_pool(&scope, inner_work, one);
    CHECK_RESULT(result, one->answer);
    CHECK_EQ(stats_of(one->inner).scope_count, 0);
    one->in_outer = take(BYTES, s);
    CHECK_EQ(stats_of(graphs).memory.block_count, 1); /* the scope before is in force again */
    CHECK(one->in_outer != one->in_inner);
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    return result;
}

/* WithGraphMode put back a boolean, not the pool; an error left everything as it was. */
static void scopes_are_restored_on_every_path(void)
{
    int fails;
    for (fails = 0; fails < 2; fails++) {
        ta_capture_scope scope;
        ta_capture_report report;
        struct nested one;
        if (!graphs_open("sched=lazy", 0)) { return; }
        test_context("fails %d", fails);
        one.inner = graphs_new(0);
        one.answer = fails ? TA_ERROR_UNSUPPORTED : TA_OK;
        memset(&scope, 0, sizeof scope);
        scope.graph_pool = graphs;
        scope.stream = STREAM(s);
        scope.report = &report;
        CHECK_RESULT(ta_with_graph_pool(&scope, outer_work, &one), one.answer);
        CHECK_EQ(report.allocation_count, 1);
        CHECK_EQ(ta_pool_is_graph_mode(pool, STREAM(s)), 0);
        CHECK_EQ(stats_of(graphs).memory.block_count, !fails);
        CHECK_EQ(stats_of(one.inner).memory.block_count, !fails);
        CHECK_EQ(stats_of(graphs).failed_count, (uint64_t)fails);
        CHECK_OK(ta_graph_pool_destroy(one.inner));
        CHECK_RESULT(ta_with_graph_pool(NULL, outer_work, &one), TA_ERROR_INVALID_ARGUMENT);
        graphs_close();
    }
}

/* A new graph pool orphaned the blocks of the one before. */
static void another_graph_pool_orphans_nothing(void)
{
    ta_graph_pool *second;
    CUdeviceptr a;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    second = graphs_new(0);
    CHECK_OK(ta_pool_set_graph_pool(pool, graphs));
    CHECK_OK(mode(s, 1));
    begin(s);
    a = take(BYTES, s);
    CHECK_OK(ta_pool_set_graph_pool(pool, second)); /* in the middle of the capture */
    give(a);
    CHECK_EQ(take(BYTES, s), a);
    CHECK_EQ(stats_of(graphs).memory.block_count, 1);
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(mode(s, 0));
    CHECK_EQ(stats_of(graphs).scope_count, 0);
    CHECK_OK(ta_pool_set_graph_pool(pool, NULL));
    give(a);
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* ConfigureForGraph: both, or nothing. */
static void configured_in_one_call(void)
{
    ta_graph_pool *second, *beside;
    ta_graph_pool_desc desc;
    ta_pool *other;
    CUdeviceptr a;
    CUgraphExec exec;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    TEST_ALLOW_ASSERTS();
    second = graphs_new(0);
    other = pool_new(cuda, NULL);
    memset(&desc, 0, sizeof desc);
    desc.pool = other;
    CHECK_OK(ta_graph_pool_create(&desc, &beside));
    CHECK_OK(ta_pool_configure_for_graph(pool, graphs, STREAM(s)));
    CHECK(ta_pool_get_graph_pool(pool) == graphs);
    CHECK_EQ(ta_pool_is_graph_mode(pool, STREAM(s)), 1);
    CHECK_RESULT(ta_pool_configure_for_graph(pool, NULL, STREAM(t)), TA_ERROR_NO_GRAPH_POOL);
    CHECK_RESULT(ta_pool_configure_for_graph(NULL, graphs, STREAM(t)), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_configure_for_graph(pool, beside, STREAM(t)), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_graph_pool_retain(second));
    CHECK_RESULT(ta_pool_configure_for_graph(pool, second, STREAM(t)), TA_ERROR_BUSY);
    CHECK(ta_pool_get_graph_pool(pool) == graphs); /* what fails changes nothing */
    CHECK_EQ(ta_pool_is_graph_mode(pool, STREAM(t)), 0);
    CHECK_OK(ta_graph_pool_release(second));
    begin(s);
    a = take(BYTES, s);
    OK(fill(a, 3, WORDS, s));
    graph = end(s);
    CHECK_OK(mode(s, 0));
    CHECK_EQ(stats_of(graphs).memory.block_count, 1);
    CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 3);
    OK(cu.cuGraphExecDestroy(exec));
    give(a);
    CHECK_OK(ta_graph_pool_destroy(beside));
    CHECK_OK(ta_pool_destroy(other));
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* ResetGraphPool looked at nothing. And what a replay does after a reset that was right: the checker says it. */
static void reset_waits_for_graphs(void)
{
    CUgraphExec exec;
    CUgraph graph;
    CUdeviceptr a;
    if (!graphs_open("sched=lazy", 0)) { return; }
    enter(graphs, s);
    CHECK_RESULT(ta_graph_pool_reset(graphs), TA_ERROR_BUSY);
    CHECK_RESULT(ta_graph_pool_destroy(graphs), TA_ERROR_BUSY);
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    exec = finish(graphs, s, NULL);
    CHECK_RESULT(ta_graph_pool_reset(graphs), TA_ERROR_BUSY);
    give(a);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_reset(graphs));

    enter(graphs, s); /* and one that is not attached: the program says when it is over, and is wrong */
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
    CHECK_OK(ta_graph_pool_reset(graphs));
    CHECK_RESULT(ta_pool_free(pool, pointer(a)), TA_ERROR_STALE);
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(fake.tafake_race_count(), 0);
    OK(cu.cuGraphLaunch(exec, s));
    CHECK_NE(take_reports(), 0);
    OK(cu.cuGraphExecDestroy(exec));
    CHECK_CU(cu.cuStreamSynchronize(s), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_OK(ta_graph_pool_destroy(graphs)); /* the context is lost; what is left can be left */
    graphs = NULL;
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_cuda_destroy(cuda));
    CHECK_EQ(fake.tafake_reset(NULL), 0);
    on.context = NULL;
}

/* One figure stood for three, that of the base vanished in graph mode, and the text had no decimals. */
static void usage_means_the_same_in_every_mode(void)
{
    ta_memory_usage before, during, after;
    CUdeviceptr base, a, b;
    CUgraph graph;
    char text[100];
    if (!graphs_open("sched=lazy", 0)) { return; }
    base = take(512 * KIB, t);
    CHECK_OK(ta_graph_pool_reserve(graphs, 4 * MIB));
    CHECK_OK(ta_pool_get_memory_usage(pool, &before));
    CHECK_EQ(before.is_graph_mode, 0);
    CHECK_EQ(before.graph.reserved_bytes, 4 * MIB);
    CHECK_EQ(before.graph.in_use_bytes, 0);
    enter(graphs, s);
    a = take(512 * KIB, s);
    b = take(768 * KIB, s);
    give(b);
    b = take(512 * KIB, s);
    CHECK_OK(ta_pool_get_memory_usage(pool, &during));
    CHECK_EQ(during.is_graph_mode, 1);
    CHECK_EQ(during.base.in_use_bytes, 512 * KIB);
    CHECK_EQ(during.base.block_count, 1);
    CHECK_EQ(during.base.reserved_bytes, before.base.reserved_bytes);
    CHECK_EQ(during.graph.in_use_bytes, MIB);
    CHECK_EQ(during.graph.block_count, 2);
    CHECK_EQ(during.graph.reserved_bytes, 4 * MIB);
    CHECK_EQ(during.graph.peak_in_use_upper_bytes, 1280 * KIB);
    CHECK_EQ(ta_memory_usage_report(&during, text, sizeof text), strlen(text));
    CHECK_STRING(text, "Memory: 1.50 MB, Blocks: 3, GraphMode: true");
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    CHECK_OK(ta_pool_get_memory_usage(pool, &after));
    during.is_graph_mode = 0;
    CHECK_EQ(memcmp(&during, &after, sizeof after), 0);
    (void)ta_memory_usage_report(&after, text, sizeof text);
    CHECK_STRING(text, "Memory: 1.50 MB, Blocks: 3, GraphMode: false");
    CHECK_EQ(ta_memory_usage_report(&after, NULL, 0), strlen(text));
    CHECK_EQ(ta_memory_usage_report(NULL, text, sizeof text), 0);
    give(base);
    give(a);
    give(b);
    CHECK_OK(ta_pool_get_memory_usage(pool, &after));
    (void)ta_memory_usage_report(&after, text, sizeof text);
    CHECK_STRING(text, "Memory: 0.00 MB, Blocks: 0, GraphMode: false");
    graphs_close();
}

/* Dispose ignored graphs. */
static void dispose_waits_for_graphs(void)
{
    CUgraphExec exec;
    CUdeviceptr out;
    if (!graphs_open("sched=lazy", 0)) { return; }
    enter(graphs, s);
    out = take(BYTES, s);
    OK(fill(out, 8, WORDS, s));
    exec = finish(graphs, s, NULL);
    CHECK_RESULT(ta_pool_dispose(pool), TA_ERROR_BUSY);
    CHECK_OK(ta_allocator_destroy(ta_graph_pool_allocator(graphs)));
    CHECK_RESULT(ta_pool_dispose(pool), TA_ERROR_BUSY);
    give(take(BYTES, s)); /* nothing has changed */
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(out), 8);
    OK(cu.cuGraphExecDestroy(exec));
    graphs = NULL;
    graphs_close();
}

/* ---- threads */
enum { THREADS = 4, ROUNDS = 300 };
static struct worker { pthread_t thread; CUstream stream; uint64_t wrong; int modes; } workers[THREADS];
static uint32_t stop;

/* Eager work, with the eyes on what the mode says. */
static void *eager_work(void *user)
{
    struct worker *one = user;
    uint64_t state = (uint64_t)(one - workers) + 9;
    int i;
    one->wrong += cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    for (i = 0; i < ROUNDS || !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); i++) {
        ta_result result;
        size_t bytes = 256 + test_below(&state, i % 10 == 0 ? 3u << 20 : 20000);
        void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(one->stream), &result);
        one->wrong += ptr == NULL;
        one->wrong += ptr != NULL && fill(ADDRESS(ptr), 1, 64, one->stream) != CUDA_SUCCESS;
        one->wrong += ptr != NULL && ta_pool_free(pool, ptr) != TA_OK;
        one->modes += ta_pool_is_graph_mode(pool, STREAM(s));
        one->wrong += ta_pool_is_graph_mode(pool, STREAM(one->stream)) != 0;
        if (i % 50 == 0) {
            one->wrong += ta_pool_trim(pool, 0, NULL) != TA_OK;
        }
    }
    return NULL;
}

/* Four threads with streams of their own allocate, free and trim while captures come and go; none of them is broken, and
   no thread gets graph memory. The mode is read by all of them (under ThreadSanitizer, too). */
static void eager_threads_during_captures(void)
{
    static const ta_capture_check checks[] = {TA_CAPTURE_STRICT, TA_CAPTURE_SCOPES_ONLY};
    int i, c;
    for (c = 0; c < 2; c++) {
        ta_pool_desc desc;
        CUdeviceptr out;
        memset(&desc, 0, sizeof desc);
        desc.capture_check = checks[c];
        if (!world_open("sched=random:4;fill=4096", TA_CUDA_RANGES, &desc)) { return; }
        s = stream_new();
        t = stream_new();
        graphs = graphs_new(1);
        out = take(BYTES, s);
        __atomic_store_n(&stop, 0u, __ATOMIC_RELEASE);
        for (i = 0; i < THREADS; i++) {
            memset(&workers[i], 0, sizeof workers[i]);
            workers[i].stream = stream_new();
            CHECK_EQ(pthread_create(&workers[i].thread, NULL, eager_work, &workers[i]), 0);
        }
        for (i = 0; i < 20; i++) {
            CUdeviceptr a, b;
            CUgraphExec exec;
            enter(graphs, s);
            a = take(2 * MIB + 4096 * (size_t)i, s);
            OK(fill(a, (uint32_t)i, WORDS, s));
            order(s, t);
            b = take(BYTES, t);
            OK(copy(b, a, WORDS, t));
            give(b);
            order(t, s);
            OK(copy(out, a, WORDS, s));
            give(a);
            exec = finish(graphs, s, NULL);
            OK(cu.cuGraphLaunch(exec, s));
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(out), i);
            OK(cu.cuGraphExecDestroy(exec));
        }
        __atomic_store_n(&stop, 1u, __ATOMIC_RELEASE);
        for (i = 0; i < THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
            CHECK_EQ(workers[i].wrong, 0);
        }
        for (i = 0; i < THREADS; i++) { /* not before: the last ones may still trim, and ask all streams */
            OK(cu.cuStreamDestroy_v2(workers[i].stream));
        }
        give(out);
        CHECK_EQ(stats_of(graphs).memory.block_count, 0);
        CHECK_EQ(fake.tafake_calls_unrelaxed("cuMemMap") + fake.tafake_calls_unrelaxed("cuMemUnmap") +
                 fake.tafake_calls_unrelaxed("cuEventQuery") + fake.tafake_calls_unrelaxed("cuEventSynchronize"), 0);
        graphs_close();
    }
}

/* Several threads capture at the same time, each into a graph pool of its own beside one pool. */
static void *capture_work(void *user)
{
    struct worker *one = user;
    ta_graph_pool_desc desc;
    ta_graph_pool *mine = NULL;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.pool = pool;
    desc.range_bytes = 64 * MIB;
    one->wrong += cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    one->wrong += ta_graph_pool_create(&desc, &mine) != TA_OK;
    for (i = 0; i < 25; i++) {
        CUgraph graph = NULL;
        CUgraphExec exec = NULL;
        void *a, *b;
        one->wrong += ta_capture_enter(mine, STREAM(one->stream)) != TA_OK;
        one->wrong += cu.cuStreamBeginCapture_v2(one->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS;
        a = ta_pool_alloc_stream(pool, BYTES, STREAM(one->stream), NULL);
        b = ta_pool_alloc_stream(pool, MIB, STREAM(one->stream), NULL);
        one->wrong += a == NULL || b == NULL;
        one->wrong += fill(ADDRESS(a), 1, WORDS, one->stream) != CUDA_SUCCESS;
        one->wrong += copy(ADDRESS(b), ADDRESS(a), WORDS, one->stream) != CUDA_SUCCESS;
        one->wrong += ta_pool_free(pool, a) != TA_OK || ta_pool_free(pool, b) != TA_OK;
        one->wrong += cu.cuStreamEndCapture(one->stream, &graph) != CUDA_SUCCESS;
        one->wrong += ta_capture_leave(mine, STREAM(one->stream), 0, NULL) != TA_OK;
        one->wrong += ta_graph_pool_attach(mine, (uint64_t)(uintptr_t)graph) != TA_OK;
        one->wrong += cu.cuGraphInstantiateWithFlags(&exec, graph, 0) != CUDA_SUCCESS;
        one->wrong += cu.cuGraphDestroy(graph) != CUDA_SUCCESS;
        one->wrong += cu.cuGraphLaunch(exec, one->stream) != CUDA_SUCCESS;
        one->wrong += cu.cuStreamSynchronize(one->stream) != CUDA_SUCCESS;
        one->wrong += cu.cuGraphExecDestroy(exec) != CUDA_SUCCESS;
        while (ta_capture_enter(mine, STREAM(one->stream)) == TA_ERROR_BUSY) {} /* until the driver has told */
        one->wrong += ta_capture_leave(mine, STREAM(one->stream), 1, NULL) != TA_OK;
    }
    one->wrong += ta_graph_pool_destroy(mine) != TA_OK;
    return NULL;
}

static void several_captures_at_once(void)
{
    int i;
    if (!graphs_open("sched=eager;fill=4096", 0)) { return; }
    for (i = 0; i < THREADS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].stream = stream_new();
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, capture_work, &workers[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK_EQ(workers[i].wrong, 0);
    }
    for (i = 0; i < THREADS; i++) {
        OK(cu.cuStreamDestroy_v2(workers[i].stream));
    }
    graphs_close();
}

/* ---- bad calls */
/* Aligned blocks where the next free address is not: at the beginning, behind a block, beside a graph, in a capture. */
static void aligned_blocks(void)
{
    CUdeviceptr odd[3], a[4];
    CUgraphExec exec = NULL;
    ta_request request;
    int i;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    request.stream = STREAM(s);
    for (i = 0; i < 4; i++) {
        if (i == 3) {
            enter(graphs, s);
        }
        request.alignment_bytes = 65536;
        a[i] = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
        CHECK_NE(a[i], 0);
        CHECK_EQ(a[i] % 65536, 0);
        request.alignment_bytes = 0;
        if (i < 3) {
            odd[i] = ADDRESS(ta_graph_pool_alloc(graphs, &request, NULL));
        }
        if (i == 1) {
            enter(graphs, s);
            OK(fill(take(1000, s), 1, 64, s));
            exec = finish(graphs, s, NULL);
        } else if (i == 2) { /* what is not shared serves one graph */
            OK(cu.cuGraphExecDestroy(exec));
            fake.tafake_settle();
        }
    }
    OK(cu.cuGraphDestroy(end(s)));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL)); /* frees a[3] */
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_allocator_free(ta_graph_pool_allocator(graphs), pointer(a[i]), 1000, 65536, STREAM(s)));
        give(odd[i]);
    }
    CHECK_OK(ta_graph_pool_reset(graphs));
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
}

static void bad_calls(void)
{
    static const ta_graph_pool_desc no_pool;
    ta_graph_pool_desc desc;
    ta_graph_pool *made = graphs;
    ta_pool *host = NULL;
    ta_capture_report report;
    ta_request request;
    ta_result result;
    CUdeviceptr a;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_graph_pool_create(NULL, &made), TA_ERROR_INVALID_ARGUMENT);
    CHECK(made == NULL);
    CHECK_RESULT(ta_graph_pool_create(&no_pool, &made), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_create(NULL, &host));
    memset(&desc, 0, sizeof desc);
    desc.pool = host;
    CHECK_RESULT(ta_graph_pool_create(&desc, &made), TA_ERROR_UNSUPPORTED); /* no order, no captures */
    CHECK_RESULT(ta_pool_set_graph_pool(host, graphs), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_set_graph_mode(host, 0, 1), TA_ERROR_NO_GRAPH_POOL);
    CHECK_OK(ta_pool_destroy(host));
    CHECK_RESULT(mode(s, 1), TA_ERROR_NO_GRAPH_POOL);
    CHECK_RESULT(mode(s, 0), TA_ERROR_NO_GRAPH_POOL);
    CHECK_RESULT(ta_capture_leave(graphs, STREAM(s), 0, &report), TA_ERROR_NO_GRAPH_POOL);
    CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    CHECK_RESULT(ta_capture_leave(graphs, STREAM(t), 0, &report), TA_ERROR_NO_GRAPH_POOL);
    CHECK_RESULT(mode(s, 0), TA_ERROR_NO_GRAPH_POOL); /* not opened by the mode */
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
    CHECK_RESULT(ta_capture_leave(graphs, STREAM(s), 1, &report), TA_ERROR_NO_GRAPH_POOL);
    CHECK_RESULT(ta_graph_pool_release(graphs), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_graph_pool_attach(graphs, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_graph_pool_attach(graphs, 4096), TA_ERROR_BACKEND); /* no graph */
    CHECK_RESULT(ta_graph_pool_hold(graphs, pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_graph_pool_hold(graphs, pool, pointer(4096)), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_capture_enter(NULL, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_graph_pool_destroy(NULL));
    memset(&request, 0, sizeof request);
    request.stream = STREAM(s);
    CHECK(ta_graph_pool_alloc(graphs, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    request.size_bytes = 1000;
    request.alignment_bytes = 3;
    CHECK(ta_graph_pool_alloc(graphs, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    request.alignment_bytes = 0;
    a = ADDRESS(ta_graph_pool_alloc(graphs, &request, &result));
    CHECK_EQ(a % 256, 0);
    CHECK_RESULT(ta_pool_free(pool, pointer(a + 256)), TA_ERROR_INTERIOR);
    CHECK_RESULT(ta_pool_free_sized(pool, pointer(a), 999), TA_ERROR_SIZE_MISMATCH);
    CHECK_OK(ta_pool_free_sized(pool, pointer(a), 1000));
    CHECK_RESULT(ta_pool_free(pool, pointer(a)), TA_ERROR_STALE);
    fake.tafake_settle(); /* what the attempt to attach left */
    aligned_blocks();
    request.alignment_bytes = 65536;
    begin(s); /* an allocation by name does not get around the scope */
    CHECK(ta_graph_pool_alloc(graphs, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_CAPTURE);
    graph = end(s);
    OK(cu.cuGraphDestroy(graph));
    graphs_close();
}

/* A block of a graph pool answers through the pool as any other, and moves as any other. */
static void graph_blocks_through_the_pool(void)
{
    ta_block_info info;
    CUdeviceptr a, b;
    CUevent event;
    CUgraph graph;
    void *moved;
    ta_result result;
    if (!graphs_open("sched=lazy", 0)) { return; }
    enter(graphs, s);
    a = take(5000, s);
    CHECK_OK(ta_pool_describe(pool, pointer(a), &info));
    CHECK_EQ(info.requested_bytes, 5000);
    CHECK_EQ(info.stream, STREAM(s));
    CHECK_EQ(ta_pool_capacity_of(pool, pointer(a)), 5120);
    CHECK_OK(ta_pool_resize_in_place(pool, pointer(a), 20000));
    b = take(256, s);
    moved = ta_pool_realloc(pool, pointer(a), 200000, &result);
    CHECK_OK(result);
    CHECK(ADDRESS(moved) != a);
    CHECK_EQ(stats_of(graphs).memory.block_count, 2);
    event = event_new();
    CHECK_OK(ta_pool_free_after(pool, pointer(b), (uint64_t)(uintptr_t)event));
    CHECK(take(256, s) != b); /* waits for the end of the capture */
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(t)));
    graph = end(s);
    CHECK(graph != NULL);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    OK(cu.cuGraphDestroy(graph));
    OK(cu.cuEventDestroy_v2(event));
    CHECK_OK(ta_pool_check(graphs->memory));
    graphs_close();
}

/* Tensors with bounds, over a pool of their own or over the pool that graph pools stand beside, in ranges or in blocks:
   a capture's use, or a free on its stream, holds them, or is refused. */
static ta_dynamic *tensors_new(int own)
{
    ta_dynamic_desc desc;
    ta_dynamic *made = NULL;
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    desc.range_bytes = 256 * MIB;
    if (!own) {
        desc.upstream = ta_pool_allocator(pool);
    }
    CHECK_OK(ta_dynamic_create(&desc, &made));
    return made;
}

static ta_result tensor_new(ta_dynamic *of, int64_t most, CUstream stream, ta_handle *out)
{
    const int64_t least = 1;
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    memset(&request, 0, sizeof request);
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &most, &most));
    request.bounds = &bounds;
    request.stream = STREAM(stream);
    return ta_dynamic_alloc_request(of, &request, out);
}

enum { TENSOR_RECORDED, TENSOR_FREED, TENSOR_DESTROYED, TENSOR_WAYS };

/* What of a graph's memory others get next. */
static void check_kept(ta_dynamic *dynamic, int64_t most, CUdeviceptr x, CUgraphExec exec)
{
    ta_handle other;
    CUdeviceptr y;
    CHECK_OK(tensor_new(dynamic, most, t, &other));
    y = ADDRESS(ta_dynamic_get_data(dynamic, other));
    CHECK(y != x);
    OK(fill(y, 7, 64, t));
    OK(cu.cuStreamSynchronize(t));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(y), 7);
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
    CHECK_EQ(stats_of(graphs).held_count, 0);
    CHECK_OK(ta_dynamic_free(dynamic, other));
}

static void use_tensor(int own, int64_t most, int how)
{
    const int64_t less = 16, more = 2 * most;
    const CUstream home = how == TENSOR_RECORDED ? t : s;
    const int in_range = most > 1 << 20;
    ta_dynamic *dynamic = tensors_new(own);
    ta_handle x, made;
    ta_handle_info info;
    ta_tensor view;
    CUdeviceptr at;
    ta_result result = TA_OK;
    CHECK_OK(tensor_new(dynamic, most, home, &x));
    CHECK_OK(ta_dynamic_get_tensor(dynamic, x, &view));
    at = ADDRESS(view.buffer.data);
    OK(fill(at, 1, 64, home));
    OK(cu.cuStreamSynchronize(home));
    enter(graphs, s);
    OK(fill(at, 0xaa, 64, s));
    if (own || in_range) { /* nothing new, nothing that moves or shrinks */
        CHECK_RESULT(tensor_new(dynamic, most, s, &made), TA_ERROR_CAPTURE);
    }
    if (home == s && in_range) {
        CHECK_RESULT(ta_dynamic_resize(dynamic, x, &more, 1), TA_ERROR_CAPTURE);
        CHECK_OK(ta_dynamic_resize(dynamic, x, &less, 1));
        CHECK_OK(ta_dynamic_get_handle(dynamic, x, &info));
        CHECK_EQ(info.capacity_bytes, (size_t)most * 4);
        CHECK_OK(ta_dynamic_get_tensor(dynamic, x, &view));
    }
    if (how == TENSOR_RECORDED) {
        result = ta_dynamic_record_use(dynamic, x, STREAM(s));
        CHECK_RESULT(result, own ? TA_ERROR_CAPTURE : TA_OK);
    }
    if (how != TENSOR_RECORDED) {
        result = how == TENSOR_FREED ? ta_dynamic_free(dynamic, x) : ta_tensor_destroy(&view, STREAM(s));
        CHECK_RESULT(result, own ? TA_ERROR_CAPTURE : TA_OK);
    }
    if (own) { /* it is said by hand */
        CHECK_EQ(stats_of(graphs).held_count, 0);
        CHECK_OK(ta_dynamic_get_handle(dynamic, x, &info));
        CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, x));
        CHECK_OK(ta_dynamic_free(dynamic, x));
    } else if (how == TENSOR_RECORDED) {
        CHECK_OK(ta_dynamic_free(dynamic, x));
    }
    CHECK_EQ(stats_of(graphs).held_count, own && !in_range ? 2 : 1);
    check_kept(dynamic, most, at, finish(graphs, s, NULL));
    CHECK_OK(ta_dynamic_destroy(dynamic));
}

static void tensors_of_captures(void)
{
    static const int64_t sizes[] = {16 << 20, 1 << 18};
    int own, size, how;
    for (own = 0; own < 2; own++) {
        for (size = 0; size < 2; size++) {
            for (how = 0; how < TENSOR_WAYS; how++) {
                if (!graphs_open("sched=eager", 0)) { return; }
                test_context("own pool %d, size %d, way %d", own, size, how);
                use_tensor(own, sizes[size], how);
                graphs_close();
            }
        }
    }
}

/* A capture that comes to nothing keeps none of them, and what follows it is as ever. */
static void tensors_of_captures_that_fail(void)
{
    ta_dynamic *dynamic;
    ta_handle x;
    CUdeviceptr at;
    if (!graphs_open("sched=eager", 0)) { return; }
    dynamic = tensors_new(0);
    CHECK_OK(tensor_new(dynamic, 16 << 20, s, &x));
    at = ADDRESS(ta_dynamic_get_data(dynamic, x));
    enter(graphs, s);
    OK(fill(at, 0xaa, 64, s));
    CHECK_OK(ta_dynamic_record_use(dynamic, x, STREAM(s)));
    CHECK_OK(ta_dynamic_free(dynamic, x));
    CHECK_EQ(stats_of(graphs).held_count, 1);
    OK(cu.cuGraphDestroy(end(s)));
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
    CHECK_EQ(stats_of(graphs).held_count, 0);
    CHECK_OK(tensor_new(dynamic, 16 << 20, s, &x));
    CHECK_EQ(ADDRESS(ta_dynamic_get_data(dynamic, x)), at);
    CHECK_OK(ta_dynamic_destroy(dynamic));
    graphs_close();
}

TEST_MAIN(TEST_CASE(eager_blocks_stay_while_graphs_read_them), TEST_CASE(pinned_memory),
          TEST_CASE(one_graph_reads_another_ones_output), TEST_CASE(tensors_pinned_and_copied),
          TEST_CASE(tensors_that_cannot), TEST_CASE(holds_wait_for_their_capture),
          TEST_CASE(own_holds_survive_failed_captures),
          TEST_CASE(eager_memory_keeps_away_from_replays), TEST_CASE(frees_on_captured_streams),
          TEST_CASE(trimming_on_two_threads),
          TEST_CASE(graphs_are_counted_once), TEST_CASE(nobody_steals_into_a_capture),
          TEST_CASE(graph_pools_after_fork),
          TEST_CASE(scopes_of_two_threads), TEST_CASE(retired_streams_are_in_no_capture),
          TEST_CASE(eager_work_on_graph_memory_is_waited_for),
          TEST_CASE(tensors_outlive_their_graph_pool),
          TEST_CASE(growing_tensors_in_graphs),
          TEST_CASE(reclaim_takes_nothing_that_is_held), TEST_CASE(small_tensors_in_graphs),
          TEST_CASE(frees_in_graph_mode_free), TEST_CASE(the_owner_decides_not_the_mode),
          TEST_CASE(other_streams_stay_eager), TEST_CASE(eager_growth_does_not_break_a_capture),
          TEST_CASE(scopes_are_restored_on_every_path), TEST_CASE(another_graph_pool_orphans_nothing),
          TEST_CASE(configured_in_one_call),
          TEST_CASE(reset_waits_for_graphs), TEST_CASE(usage_means_the_same_in_every_mode),
          TEST_CASE(dispose_waits_for_graphs), TEST_CASE(eager_threads_during_captures),
          TEST_CASE(several_captures_at_once), TEST_CASE(bad_calls), TEST_CASE(graph_blocks_through_the_pool),
          TEST_CASE(tensors_of_captures), TEST_CASE(tensors_of_captures_that_fail))
