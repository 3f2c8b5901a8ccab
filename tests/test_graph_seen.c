/* test_graph_seen.c - what can be seen of memory that graphs use: verdicts whose advice helps, and snapshots. */
#include "graph.h"

static ta_failure failure_of(ta_pool *of)
{
    ta_failure failure;
    memset(&failure, 0, sizeof failure);
    CHECK_OK(ta_pool_get_failure(of, &failure));
    return failure;
}

static ta_failure failure_of_dynamic(ta_dynamic *of)
{
    ta_failure failure;
    memset(&failure, 0, sizeof failure);
    CHECK_OK(ta_dynamic_get_failure(of, &failure));
    return failure;
}

static void check_verdict(const ta_failure *failure, ta_verdict verdict)
{
    char text[512];
    CHECK_STRING(ta_verdict_text(failure->verdict), ta_verdict_text(verdict));
    CHECK_GT(ta_failure_report(failure, text, sizeof text), 0);
    CHECK(strstr(text, ta_action_text(failure->action)) != NULL);
}

/* An executable whose capture holds nothing but what the caller has held for it. */
static CUgraphExec capture_reads(ta_graph_pool *of, CUdeviceptr from, CUdeviceptr to)
{
    enter(of, s);
    OK(copy(to, from, WORDS, s));
    return finish(of, s, NULL);
}

static void destroy_exec(CUgraphExec exec)
{
    OK(cu.cuGraphExecDestroy(exec));
    fake.tafake_settle();
}

/* A world with a limit of its own, and the streams and the graph pool of graphs_open. */
static int limited_open(size_t limit)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = limit;
    if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(0);
    return graphs != NULL;
}

/* Freed blocks that graphs use wait for graphs, not for streams; several graphs use the same bytes once. */
static void blocks_that_graphs_hold(void)
{
    ta_graph_pool *second;
    ta_result result = TA_OK;
    ta_failure failure;
    CUgraphExec one, other;
    CUdeviceptr kept, out;
    if (!limited_open(48 * MIB)) { return; }
    second = graphs_new(0);
    kept = take(20 * MIB, t);
    out = take(BYTES, s);
    OK(fill(kept, 42, WORDS, t));
    OK(cu.cuStreamSynchronize(t));
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(kept)));
    CHECK_OK(ta_graph_pool_hold(second, pool, pointer(kept)));
    one = capture_reads(graphs, kept, out);
    other = capture_reads(second, kept, out);
    give(kept);
    CHECK_RESULT(refused(30 * MIB, s), TA_ERROR_LIMIT);
    failure = failure_of(pool);
    check_verdict(&failure, TA_VERDICT_GRAPHS);
    CHECK_EQ(failure.pending_bytes, 20 * MIB);
    CHECK_EQ(failure.graph_bytes, 20 * MIB);
    OK(cu.cuStreamSynchronize(s)); /* no stream is in the way */
    OK(cu.cuStreamSynchronize(t));
    CHECK_RESULT(refused(30 * MIB, s), TA_ERROR_LIMIT);
    failure = failure_of(pool);
    check_verdict(&failure, TA_VERDICT_GRAPHS);
    CHECK_OK(ta_pool_check(pool));
    destroy_exec(one);
    CHECK_RESULT(refused(30 * MIB, s), TA_ERROR_LIMIT); /* the other one needs it */
    failure = failure_of(pool);
    CHECK_EQ(failure.graph_bytes, 20 * MIB);
    CHECK_OK(ta_pool_check(pool));
    destroy_exec(other);
    kept = ADDRESS(ta_pool_alloc_stream(pool, 30 * MIB, STREAM(s), &result));
    CHECK_OK(result);
    give(kept);
    give(out);
    CHECK_OK(ta_graph_pool_destroy(second));
    graphs_close();
}

/* Where streams and graphs both keep memory, each is told for itself. */
static void streams_beside_graphs(void)
{
    ta_request request;
    ta_result result = TA_OK;
    ta_failure failure;
    CUgraphExec exec;
    CUdeviceptr kept, out, used;
    if (!limited_open(32 * MIB)) { return; }
    kept = take(6 * MIB, t);
    out = take(BYTES, s);
    used = take(16 * MIB, s);
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(kept)));
    exec = capture_reads(graphs, kept, out);
    give(kept);
    OK(fill(used, 1, WORDS, t));
    CHECK_OK(ta_pool_record_use(pool, pointer(used), STREAM(t)));
    give(used);
    memset(&request, 0, sizeof request);
    request.size_bytes = 20 * MIB;
    request.stream = STREAM(s);
    request.flags = TA_REQUEST_WITHIN_BUDGET;
    CHECK(ta_pool_alloc_request(pool, &request, &result) == NULL);
    failure = failure_of(pool);
    check_verdict(&failure, TA_VERDICT_WAITING);
    CHECK_EQ(failure.pending_bytes, 22 * MIB);
    CHECK_EQ(failure.graph_bytes, 6 * MIB);
    OK(cu.cuStreamSynchronize(t));
    CHECK_OK(ta_pool_trim(pool, 0, NULL));
    kept = ADDRESS(ta_pool_alloc_request(pool, &request, &result));
    CHECK_OK(result);
    give(kept);
    destroy_exec(exec);
    give(out);
    graphs_close();
}

/* Everybody over the budget is told that a graph pool keeps it, and can have it when the graph has gone; blocks that
   the program still has are nobody's to give. */
static void memory_of_graph_pools(void)
{
    ta_budget_desc budget_desc;
    ta_pool_desc desc;
    ta_dynamic_desc dynamic_desc;
    ta_budget *budget = NULL;
    ta_pool *sibling = NULL, *first;
    ta_dynamic *dynamic = NULL;
    ta_result result = TA_OK;
    ta_failure failure;
    ta_shape_bounds bounds;
    ta_handle handle;
    CUgraphExec exec;
    CUdeviceptr out, lives;
    const int64_t least = 0, now = 14 * (int64_t)MIB, most = 16 * (int64_t)MIB;
    int way;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_graph_pool_destroy(graphs));
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.backend = ta_cuda_backend(cuda);
    budget_desc.limit_bytes = 32 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    memset(&desc, 0, sizeof desc);
    desc.budget = budget;
    first = pool;
    CHECK_OK(ta_pool_create(&desc, &pool));
    CHECK_OK(ta_pool_create(&desc, &sibling));
    graphs = graphs_new(0);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    dynamic_desc.budget = budget;
    dynamic_desc.range_bytes = 256 * MIB;
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &dynamic));
    for (way = 0; way < 3; way++) {
        test_context("way %d", way);
        enter(graphs, s);
        out = take(20 * MIB, s);
        lives = take(2 * MIB, s);
        OK(fill(out, 1, WORDS, s));
        give(out);
        exec = finish(graphs, s, NULL);
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
        if (way == 0) {
            CHECK(ta_pool_alloc_stream(sibling, 14 * MIB, STREAM(t), &result) == NULL);
            failure = failure_of(sibling);
        } else if (way == 1) {
            CHECK_RESULT(ta_dynamic_alloc(dynamic, &bounds, &handle), TA_ERROR_LIMIT);
            failure = failure_of_dynamic(dynamic);
        } else {
            ta_request request;
            memset(&request, 0, sizeof request);
            request.size_bytes = 14 * MIB;
            CHECK(ta_allocator_alloc(ta_dynamic_allocator(dynamic), &request, &result) == NULL);
            failure = failure_of_dynamic(dynamic);
        }
        check_verdict(&failure, TA_VERDICT_GRAPHS);
        CHECK_GE(failure.graph_bytes, 20 * MIB);
        CHECK_LT(failure.graph_bytes, 22 * MIB); /* lives is the program's */
        CHECK_LE(failure.graph_bytes, failure.sibling_reserved_bytes);
        destroy_exec(exec);
        CHECK_OK(ta_graph_pool_trim(graphs));
        if (way == 0) {
            void *ptr = ta_pool_alloc_stream(sibling, 14 * MIB, STREAM(t), &result);
            CHECK_OK(result);
            CHECK_OK(ta_pool_free(sibling, ptr));
            CHECK_OK(ta_pool_empty_cache(sibling));
        } else if (way == 1) {
            CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
            CHECK_OK(ta_dynamic_free(dynamic, handle));
        } else {
            ta_request request;
            void *ptr;
            memset(&request, 0, sizeof request);
            request.size_bytes = 14 * MIB;
            ptr = ta_allocator_alloc(ta_dynamic_allocator(dynamic), &request, &result);
            CHECK_OK(result);
            CHECK_OK(ta_allocator_free(ta_dynamic_allocator(dynamic), ptr, 0, 0, 0));
        }
        CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(dynamic)));
        give(lives);
        CHECK_OK(ta_graph_pool_reset(graphs));
    }
    test_context("%s", "");
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_pool_destroy(sibling));
    CHECK_OK(ta_pool_destroy(pool));
    pool = first;
    CHECK_OK(ta_budget_destroy(budget));
    graphs_close();
}

/* A tensor with bounds that a graph uses, freed: neither a trim nor a stream gives it back, and a sibling is not told
   to empty its cache. In a range, and as a block of the dynamic's pool. */
static void tensors_that_graphs_hold(void)
{
    int blocks, within;
    for (blocks = 0; blocks < 2; blocks++) {
        for (within = 0; within < 2; within++) {
            ta_budget_desc budget_desc;
            ta_dynamic_desc desc;
            ta_pool_desc pool_desc;
            ta_budget *budget = NULL;
            ta_dynamic *dynamic = NULL;
            ta_pool *sibling = NULL;
            ta_dynamic_request request;
            ta_request plain;
            ta_shape_bounds bounds;
            ta_handle kept, handle;
            ta_result result = TA_OK;
            ta_failure failure;
            CUgraphExec exec;
            CUdeviceptr out;
            void *ptr;
            const int64_t least = 0, now = 12 * (int64_t)MIB, most = 16 * (int64_t)MIB;
            if (!graphs_open("sched=lazy", 0)) { return; }
            test_context("blocks %d, within the budget %d", blocks, within);
            memset(&budget_desc, 0, sizeof budget_desc);
            budget_desc.backend = ta_cuda_backend(cuda);
            budget_desc.limit_bytes = 20 * MIB;
            CHECK_OK(ta_budget_create(&budget_desc, &budget));
            memset(&desc, 0, sizeof desc);
            desc.budget = budget;
            desc.range_bytes = 256 * MIB;
            desc.disable_ranges = blocks;
            desc.strategy = ta_strategy_exact();
            CHECK_OK(ta_dynamic_create(&desc, &dynamic));
            memset(&pool_desc, 0, sizeof pool_desc);
            pool_desc.budget = budget;
            CHECK_OK(ta_pool_create(&pool_desc, &sibling));
            CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
            memset(&request, 0, sizeof request);
            request.bounds = &bounds;
            request.stream = STREAM(s);
            CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &kept));
            out = take(BYTES, s);
            CHECK_OK(ta_graph_pool_hold_handle(graphs, dynamic, kept));
            exec = capture_reads(graphs, ADDRESS(ta_dynamic_get_data(dynamic, kept)), out);
            CHECK_OK(ta_dynamic_free(dynamic, kept));
            request.flags = within ? TA_REQUEST_WITHIN_BUDGET : 0;
            CHECK_RESULT(ta_dynamic_alloc_request(dynamic, &request, &handle), TA_ERROR_LIMIT);
            failure = failure_of_dynamic(dynamic);
            check_verdict(&failure, TA_VERDICT_GRAPHS);
            CHECK_EQ(failure.graph_bytes, 12 * MIB);
            CHECK_GE(failure.pending_bytes, failure.graph_bytes);
            memset(&plain, 0, sizeof plain);
            plain.size_bytes = 12 * MIB;
            plain.stream = STREAM(s);
            plain.flags = request.flags;
            CHECK(ta_allocator_alloc(ta_dynamic_allocator(dynamic), &plain, &result) == NULL);
            failure = failure_of_dynamic(dynamic);
            check_verdict(&failure, TA_VERDICT_GRAPHS);
            CHECK_EQ(failure.graph_bytes, 12 * MIB);
            CHECK_EQ(failure.sibling_reserved_bytes, 0);
            CHECK(ta_pool_alloc_request(sibling, &plain, &result) == NULL);
            failure = failure_of(sibling);
            check_verdict(&failure, TA_VERDICT_GRAPHS);
            CHECK_EQ(failure.graph_bytes, 12 * MIB);
            CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(dynamic))); /* would not help */
            CHECK_RESULT(ta_dynamic_alloc_request(dynamic, &request, &handle), TA_ERROR_LIMIT);
            destroy_exec(exec);
            CHECK_OK(ta_graph_pool_trim(graphs));
            request.flags = 0;
            CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &handle));
            CHECK_OK(ta_dynamic_free(dynamic, handle));
            CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(dynamic)));
            ptr = ta_pool_alloc_request(sibling, &plain, &result);
            CHECK_OK(result);
            CHECK_OK(ta_pool_free(sibling, ptr));
            give(out);
            CHECK_OK(ta_dynamic_destroy(dynamic));
            CHECK_OK(ta_pool_destroy(sibling));
            CHECK_OK(ta_budget_destroy(budget));
            graphs_close();
        }
    }
    test_context("%s", "");
}

TEST_MAIN(TEST_CASE(blocks_that_graphs_hold), TEST_CASE(streams_beside_graphs), TEST_CASE(memory_of_graph_pools),
          TEST_CASE(tensors_that_graphs_hold))
