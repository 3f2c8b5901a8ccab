/* test_graph_use.c - what graphs hold: eager, pinned and other graph pools' blocks, tensors, tensors that grow; the
   interface of the specification, with a test for each of its faults; bad calls. */
#include "graph.h"

#include <pthread.h>

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
    CHECK_NE(freed_while_a_graph_reads_it(NOTHING), 0); /* the checker sees what is missing */
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
            CHECK_OK(ta_tensor_destroy(&made, STREAM(s)));
            if (how != TA_GRAPH_COPY_RECORDED) {
                CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), how));
            }
            enter(graphs, s);
            if (how == TA_GRAPH_COPY_RECORDED) {
                CHECK_RESULT(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), TA_GRAPH_COPY), TA_ERROR_CAPTURE);
                CHECK_OK(ta_tensor_ensure_graph_compatible(&x, graphs, STREAM(s), how));
            }
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

static void tensors_that_cannot(void)
{
    const int64_t dims[1] = {1024}, none[1] = {0};
    ta_pool *host = NULL;
    ta_arena *arena = NULL;
    ta_arena_desc arena_desc;
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
    budget_desc.limit_bytes = 24 * MIB;
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
    big = ta_pool_alloc_stream(sibling, 20 * MIB, STREAM(s), &result);
    CHECK(big == NULL);
    CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &after));
    CHECK_EQ(after.capacity_bytes, before.capacity_bytes);
    CHECK_OK(ta_graph_pool_destroy(graphs)); /* nothing was captured: it lets go */
    graphs = NULL;
    big = ta_pool_alloc_stream(sibling, 20 * MIB, STREAM(s), &result);
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
    ta_handle handle, foreign;
    ta_cuda_desc second;
    ta_cuda *other = NULL;
    CUgraphExec exec;
    CUdeviceptr data;
    int64_t n = 5000;
    if (!graphs_open("sched=lazy;devices=2", 0)) { return; }
    dynamic = dynamic_new(cuda);
    handle = cache_new(dynamic, 1000, 4000);
    data = ADDRESS(ta_dynamic_get_data(dynamic, handle));
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
TEST_MAIN(TEST_CASE(eager_blocks_stay_while_graphs_read_them), TEST_CASE(pinned_memory), TEST_CASE(one_graph_reads_another_ones_output), TEST_CASE(tensors_pinned_and_copied), TEST_CASE(tensors_that_cannot), TEST_CASE(growing_tensors_in_graphs), TEST_CASE(reclaim_takes_nothing_that_is_held), TEST_CASE(small_tensors_in_graphs))
