/* test_graph_seen.c - what can be seen of memory that graphs use: verdicts whose advice helps, and snapshots.

   With --write DIRECTORY it writes a document for tests/snapshot.py instead of testing. */
#include "graph.h"
#include "snapshot.h"

#include <pthread.h>

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
    check_verdict(&failure, TA_VERDICT_OWN_CACHE); /* to wait would not do: 16 MiB of them come back */
    CHECK_EQ(failure.pending_bytes, 22 * MIB);
    CHECK_EQ(failure.graph_bytes, 6 * MIB);
    CHECK_OK(ta_pool_trim(pool, 0, NULL)); /* waits, too */
    kept = ADDRESS(ta_pool_alloc_request(pool, &request, &result));
    CHECK_OK(result);
    give(kept);
    destroy_exec(exec);
    give(out);
    graphs_close();
}

/* In a capture: what was freed on a forked stream comes back with its end, whatever is synchronized; more memory helps
   at once. Told by the pool that was called and by the graph pool. */
static void failures_in_captures(void)
{
    ta_failure failure, same;
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc;
    ta_pool *first;
    CUevent event = NULL;
    CUdeviceptr parked, more;
    CUgraph graph;
    if (!graphs_open("sched=lazy", 0)) { return; }
    CHECK_OK(ta_graph_pool_destroy(graphs));
    first = pool;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.backend = ta_cuda_backend(cuda);
    budget_desc.limit_bytes = 16 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    memset(&desc, 0, sizeof desc);
    desc.budget = budget;
    CHECK_OK(ta_pool_create(&desc, &pool));
    graphs = graphs_new(0);
    enter(graphs, s);
    OK(cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(cu.cuEventRecord(event, s));
    OK(cu.cuStreamWaitEvent(t, event, 0));
    parked = take(10 * MIB, s);
    CHECK_OK(ta_pool_record_use(pool, pointer(parked), STREAM(t)));
    give(parked);
    CHECK_RESULT(refused(10 * MIB, s), TA_ERROR_LIMIT);
    failure = failure_of(pool);
    check_verdict(&failure, TA_VERDICT_LIMIT);
    CHECK_EQ(failure.pending_bytes, 10 * MIB);
    CHECK_OK(ta_allocator_get_failure(ta_graph_pool_allocator(graphs), &same));
    CHECK_EQ(same.verdict, failure.verdict);
    CHECK_EQ(same.action_bytes, failure.action_bytes);
    CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
    more = take(10 * MIB, s);
    give(more);
    OK(cu.cuEventRecord(event, t));
    OK(cu.cuStreamWaitEvent(s, event, 0));
    OK(cu.cuEventDestroy_v2(event));
    graph = end(s);
    CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    pool = first;
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

/*---------------------------------------------------------------------------------------------------------
  Snapshots
  -------------------------------------------------------------------------------------------------------*/
/* A world with one of everything. */
typedef struct scene {
    ta_dynamic *dynamic;
    ta_handle live, freed;
    ta_graph_pool *second, *third;
    ta_allocator list[2];      /* the pool, the dynamic */
    CUgraphExec exec, gone;    /* of graphs; of third, which is destroyed */
    CUdeviceptr kept, freed_at, in_graph, forked, parked, mine;
    ta_graph_pool_stats third_was;
} scene;

static ta_handle tensor_of(ta_dynamic *dynamic, int64_t bytes)
{
    const int64_t least = 1, most = 4 * bytes;
    ta_dynamic_request request;
    ta_shape_bounds bounds;
    ta_handle handle;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &bytes, &most));
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.stream = STREAM(s);
    request.tag = "cache";
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &handle));
    return handle;
}

static CUdeviceptr take_tagged(size_t bytes, CUstream stream, const char *tag)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = bytes;
    request.stream = STREAM(stream);
    request.tag = tag;
    return ADDRESS(ta_pool_alloc_request(pool, &request, NULL));
}

/* Left open: a capture on s in a scope of second, joined by t. */
static int scene_open(scene *w)
{
    CUevent event = NULL;
    memset(w, 0, sizeof *w);
    if (!graphs_open("sched=lazy", 0)) {
        return 0;
    }
    w->second = graphs_new(0);
    w->third = graphs_new(1);
    {
        ta_dynamic_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.backend = ta_cuda_backend(cuda);
        desc.range_bytes = 256 * MIB;
        desc.strategy = ta_strategy_exact();
        CHECK_OK(ta_dynamic_create(&desc, &w->dynamic));
    }
    w->list[0] = ta_pool_allocator(pool);
    w->list[1] = ta_dynamic_allocator(w->dynamic);
    w->live = tensor_of(w->dynamic, 9 * (int64_t)MIB);
    w->freed = tensor_of(w->dynamic, 10 * (int64_t)MIB);
    w->freed_at = ADDRESS(ta_dynamic_get_data(w->dynamic, w->freed));
    w->kept = take_tagged(3 * MIB, s, "weights");
    w->mine = take_tagged(2 * MIB, t, "inputs");
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(w->kept)));
    CHECK_OK(ta_graph_pool_hold(w->third, pool, pointer(w->kept)));
    CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(w->mine)));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, w->dynamic, w->live));
    CHECK_OK(ta_graph_pool_hold_handle(graphs, w->dynamic, w->freed));
    enter(graphs, s);
    w->in_graph = take_tagged(5 * MIB, s, "activations");
    OK(copy(w->in_graph, w->kept, WORDS, s));
    give(take(1 * MIB, s));
    w->exec = finish(graphs, s, NULL);
    enter(w->third, s);
    give(take(4 * MIB, s));
    OK(fill(w->mine, 1, WORDS, s));
    w->gone = finish(w->third, s, NULL);
    w->third_was = stats_of(w->third);
    CHECK_OK(ta_graph_pool_destroy(w->third)); /* its graph needs it */
    CHECK_OK(ta_dynamic_free(w->dynamic, w->freed));
    give(w->kept);
    enter(w->second, s);
    OK(cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(cu.cuEventRecord(event, s));
    OK(cu.cuStreamWaitEvent(t, event, 0));
    w->parked = take(2 * MIB, s);
    OK(fill(w->parked, 1, WORDS, t));
    CHECK_OK(ta_pool_record_use(pool, pointer(w->parked), STREAM(t)));
    give(w->parked);
    w->forked = take_tagged(1 * MIB, t, "fork");
    OK(cu.cuEventRecord(event, t));
    OK(cu.cuStreamWaitEvent(s, event, 0));
    OK(cu.cuEventDestroy_v2(event));
    return 1;
}

static void scene_close(scene *w)
{
    CUgraph graph = end(s);
    CHECK_OK(ta_capture_leave(w->second, STREAM(s), 1, NULL));
    OK(cu.cuGraphDestroy(graph));
    destroy_exec(w->exec);
    destroy_exec(w->gone);
    CHECK_OK(ta_graph_pool_trim(graphs));
    give(w->in_graph);
    give(w->mine);
    CHECK_OK(ta_graph_pool_destroy(w->second));
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_dynamic_destroy(w->dynamic));
    graphs_close();
}

/* The block of an allocator that begins at this address, and its range. */
static size_t block_at(const json *j, size_t node, CUdeviceptr at, size_t *out_range)
{
    size_t ranges = json_get(j, node, "ranges"), range, block;
    for (range = json_first(j, ranges); range != 0; range = json_after(j, ranges, range)) {
        size_t blocks = json_get(j, range, "blocks");
        for (block = json_first(j, blocks); block != 0; block = json_after(j, blocks, block)) {
            if (json_get_u64(j, block, "ptr") == at) {
                if (out_range != NULL) {
                    *out_range = range;
                }
                return block;
            }
        }
    }
    return 0;
}

static size_t count_of(const json *j, size_t array)
{
    size_t count = 0, at;
    for (at = json_first(j, array); at != 0; at = json_after(j, array, at)) {
        count++;
    }
    return count;
}

static size_t hold_of(const json *j, size_t graph_pool, CUdeviceptr at)
{
    size_t holds = json_get(j, graph_pool, "holds"), hold;
    for (hold = json_first(j, holds); hold != 0; hold = json_after(j, holds, hold)) {
        if (json_get_u64(j, hold, "ptr") == at) {
            return hold;
        }
    }
    return 0;
}

/* The graph pools follow, the newest first. */
enum { POOL, THIRD, SECOND, FIRST, DYNAMIC, OWN, ALLOCATORS };

static void check_graph_pools(const json *j, const scene *w)
{
    size_t at, one, range = 0, array;
    at = allocator_at(j, FIRST);
    CHECK(json_says(j, json_get(j, at, "kind"), "graph pool"));
    check_sums(j, at, ta_graph_pool_allocator(graphs));
    one = block_at(j, at, w->in_graph, &range);
    CHECK(is_state(j, one, "live"));
    CHECK(json_says(j, json_get(j, one, "tag"), "activations"));
    CHECK_EQ(json_get(j, one, "scope"), 0); /* it is over */
    CHECK_GE(json_get_u64(j, range, "graph_bytes"), 6 * MIB);
    CHECK_LE(json_get_u64(j, range, "graph_bytes"), json_get_u64(j, range, "committed_bytes"));
    at = json_get(j, at, "graph_pool");
    CHECK_EQ(json_get_u64(j, at, "beside"), json_get_u64(j, allocator_at(j, POOL), "id"));
    CHECK_EQ(j->nodes[json_get(j, at, "destroyed")].kind, 'f');
    CHECK_EQ(j->nodes[json_get(j, at, "share_sequential")].kind, 'f');
    CHECK_EQ(j->nodes[json_get(j, at, "is_referenced")].kind, 't');
    CHECK_EQ(json_get_u64(j, at, "capture_count"), 1);
    CHECK_EQ(json_get_u64(j, at, "unattached_count"), 0);
    CHECK_EQ(count_of(j, json_get(j, at, "scopes")), 0);
    array = json_get(j, at, "graphs");
    CHECK_EQ(count_of(j, array), 1);
    CHECK_EQ(j->nodes[json_get(j, json_first(j, array), "gone")].kind, 'f');
    CHECK_EQ(count_of(j, json_get(j, at, "holds")), 4);
    one = hold_of(j, at, w->kept);
    CHECK(json_says(j, json_get(j, one, "kind"), "block"));
    CHECK_EQ(json_get_u64(j, one, "allocator"), json_get_u64(j, allocator_at(j, POOL), "id"));
    CHECK_EQ(json_get_u64(j, one, "scope"), 0);
    one = hold_of(j, at, w->freed_at);
    CHECK(json_says(j, json_get(j, one, "kind"), "tensor"));
    CHECK_EQ(json_get_u64(j, one, "allocator"), json_get_u64(j, allocator_at(j, DYNAMIC), "id"));
    CHECK_EQ(json_get_u64(j, one, "index"), w->freed.index);

    at = allocator_at(j, SECOND);
    check_sums(j, at, ta_graph_pool_allocator(w->second));
    CHECK(is_state(j, block_at(j, at, w->parked, NULL), "pending"));
    CHECK_EQ(json_get_u64(j, block_at(j, at, w->parked, NULL), "waits_for"), 1);
    one = block_at(j, at, w->forked, NULL);
    CHECK_EQ(json_get_u64(j, one, "stream"), STREAM(t));
    array = json_get(j, json_get(j, at, "graph_pool"), "scopes");
    CHECK_EQ(count_of(j, array), 1);
    CHECK_EQ(json_get_u64(j, json_first(j, array), "serial"), json_get_u64(j, one, "scope"));
    CHECK_EQ(json_get_u64(j, json_first(j, array), "stream"), STREAM(s));

    at = allocator_at(j, THIRD);
    CHECK_EQ(json_get_u64(j, json_get(j, at, "stats"), "reserved_bytes"), w->third_was.memory.reserved_bytes);
    at = json_get(j, at, "graph_pool");
    CHECK_EQ(j->nodes[json_get(j, at, "destroyed")].kind, 't');
    CHECK_EQ(j->nodes[json_get(j, at, "share_sequential")].kind, 't');
    one = hold_of(j, at, w->mine); /* what a capture writes to needs no word; it was not held here */
    CHECK_EQ(one, 0);
    CHECK(hold_of(j, at, w->kept) != 0);
}

static void check_eager(const json *j, const scene *w)
{
    size_t at = allocator_at(j, POOL), one, array;
    check_sums(j, at, w->list[0]);
    one = block_at(j, at, w->kept, NULL);
    CHECK(is_state(j, one, "held"));
    CHECK_EQ(json_get_u64(j, one, "held_by"), 2);
    CHECK_EQ(json_get_u64(j, one, "waits_for"), 2);
    CHECK_EQ(add_up(j, at).held, 3 * MIB);
    CHECK_EQ(add_up(j, at).pending, 0);
    one = block_at(j, at, w->mine, NULL);
    CHECK(is_state(j, one, "live"));
    CHECK_EQ(json_get_u64(j, one, "held_by"), 1);
    CHECK_EQ(json_get(j, one, "scope"), 0);
    at = allocator_at(j, DYNAMIC);
    CHECK(json_says(j, json_get(j, at, "kind"), "dynamic"));
    CHECK(add_up(j, at).tiles);
    CHECK_EQ(add_up(j, at).held, 10 * MIB);
    CHECK_EQ(json_get_u64(j, json_get(j, at, "totals"), "held_bytes"), 10 * MIB);
    one = block_at(j, at, w->freed_at, NULL);
    CHECK(is_state(j, one, "held"));
    one = block_at(j, at, ADDRESS(ta_dynamic_get_data(w->dynamic, w->live)), NULL);
    CHECK(is_state(j, one, "live"));
    CHECK_EQ(json_get_u64(j, one, "held_by"), 1);
    array = json_get(j, at, "handles");
    CHECK_EQ(count_of(j, array), 2);
    one = json_first(j, array);
    CHECK(is_state(j, one, "live"));
    CHECK_EQ(json_get_u64(j, one, "held_by"), 1);
    one = json_after(j, array, one);
    CHECK(is_state(j, one, "held"));
    CHECK_EQ(json_get_u64(j, one, "ptr"), w->freed_at);
    CHECK_EQ(json_get(j, one, "dims"), 0);
}

static void graph_pools_are_told(void)
{
    scene w;
    document d;
    ta_allocator list[4];
    ta_snapshot_desc options;
    memset(&d, 0, sizeof d);
    if (!scene_open(&w)) { return; }
    if (take_snapshot(&d, w.list, 2, NULL)) {
        CHECK_EQ(allocator_at(&d.tree, ALLOCATORS), 0);
        CHECK(allocator_at(&d.tree, OWN) != 0);
        check_graph_pools(&d.tree, &w);
        check_eager(&d.tree, &w);
    }
    list[0] = ta_graph_pool_allocator(w.second); /* one that is named stands where it is named */
    list[1] = w.list[0];
    if (take_snapshot(&d, list, 2, NULL)) {
        CHECK(json_says(&d.tree, json_get(&d.tree, allocator_at(&d.tree, 0), "kind"), "graph pool"));
        CHECK(json_says(&d.tree, json_get(&d.tree, allocator_at(&d.tree, 1), "kind"), "pool"));
        CHECK(allocator_at(&d.tree, 3) != 0);
        CHECK_EQ(allocator_at(&d.tree, 4), 0);
        CHECK_EQ(count_of(&d.tree, json_get(&d.tree, 0, "budgets")), 1);
    }
    memset(&options, 0, sizeof options);
    options.disable_blocks = 1;
    if (take_snapshot(&d, w.list, 1, &options)) {
        size_t at = allocator_at(&d.tree, FIRST);
        CHECK_EQ(json_get(&d.tree, at, "ranges"), 0);
        CHECK_EQ(count_of(&d.tree, json_get(&d.tree, json_get(&d.tree, at, "graph_pool"), "holds")), 4);
    }
    scene_close(&w);
    forget(&d);
}

/* Counts holds that are written; after some of them their graph goes, and most end. */
typedef struct ending {
    CUgraphExec exec;
    size_t bytes, ended_at;
    char text[1 << 20];
} ending;

static ta_result end_meanwhile(void *user, const char *text, size_t text_bytes)
{
    ending *e = (ending *)user;
    size_t seen = 0;
    const char *at;
    if (text_bytes >= sizeof e->text - e->bytes) {
        return TA_ERROR_BACKEND;
    }
    memcpy(e->text + e->bytes, text, text_bytes);
    e->bytes += text_bytes;
    e->text[e->bytes] = 0;
    at = strstr(e->text, "\"holds\":[");
    for (; at != NULL && (at = strstr(at, "\"ptr\"")) != NULL; at++) {
        seen++;
    }
    if (e->ended_at == 0 && seen >= 100) {
        e->ended_at = seen;
        destroy_exec(e->exec);
        CHECK_OK(ta_pool_empty_cache(pool));
    }
    return TA_OK;
}

/* Holds that end while they are looked at: those that stay are seen once each, and none twice. */
static void holds_end_while_they_are_seen(void)
{
    enum { STAY = 150, END = 300 };
    static ending e;
    CUdeviceptr at[STAY + END];
    ta_allocator self;
    const char *lines;
    size_t i;
    memset(&e, 0, sizeof e);
    if (!graphs_open("sched=lazy", 1)) { return; }
    self = ta_graph_pool_allocator(graphs);
    for (i = 0; i < STAY + END; i++) {
        at[i] = take(i < 2 ? BYTES : 512, s);
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(at[i])));
    }
    e.exec = capture_reads(graphs, at[0], at[1]);
    for (i = 0; i < STAY; i++) { /* for what comes next, too */
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(at[i])));
    }
    CHECK_OK(ta_snapshot_write(&self, 1, NULL, end_meanwhile, &e));
    CHECK_EQ(stats_of(graphs).held_count, STAY);
    CHECK(e.ended_at >= 100 && e.ended_at < END);
    lines = strstr(e.text, "\"holds\":[");
    REQUIRE(lines != NULL);
    for (i = 0; i < STAY + END; i++) {
        char words[64];
        const char *once;
        (void)snprintf(words, sizeof words, "\"ptr\":\"0x%llx\"", (unsigned long long)at[i]);
        once = strstr(lines, words);
        CHECK(i >= STAY || once != NULL);
        CHECK(once == NULL || strstr(once + 1, words) == NULL);
    }
    for (i = 0; i < STAY + END; i++) {
        give(at[i]);
    }
    graphs_close();
}

/* More holds, graphs and scopes than are looked at at once; and nothing of that is left when it has gone. */
static void long_lists(void)
{
    enum { BLOCKS = 100, SCOPES = 70 };
    CUdeviceptr at[BLOCKS];
    CUgraphExec execs[SCOPES];
    document d;
    ta_allocator self;
    size_t node, i, count;
    memset(&d, 0, sizeof d);
    if (!graphs_open("sched=lazy", 1)) { return; }
    self = ta_pool_allocator(pool);
    for (i = 0; i < BLOCKS; i++) {
        at[i] = take(BYTES, s);
        CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(at[i])));
    }
    for (i = 0; i < SCOPES; i++) {
        enter(graphs, s);
        OK(fill(at[i], 1, WORDS, s));
        execs[i] = finish(graphs, s, NULL);
    }
    for (i = 0; i < SCOPES; i++) {
        CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
    }
    for (count = 0; count <= SCOPES; count += SCOPES) { /* with, and without graphs and scopes */
        if (take_snapshot(&d, &self, 1, NULL)) {
            size_t holds, hold, found = 0;
            node = json_get(&d.tree, allocator_at(&d.tree, 1), "graph_pool");
            holds = json_get(&d.tree, node, "holds");
            CHECK_EQ(count_of(&d.tree, json_get(&d.tree, node, "scopes")), count == 0 ? SCOPES : 0);
            CHECK_EQ(count_of(&d.tree, json_get(&d.tree, node, "graphs")), count == 0 ? SCOPES : 0);
            CHECK_EQ(count_of(&d.tree, holds), count == 0 ? BLOCKS : 0);
            for (hold = json_first(&d.tree, holds), i = BLOCKS; hold != 0; hold = json_after(&d.tree, holds, hold)) {
                found += json_get_u64(&d.tree, hold, "ptr") == at[--i]; /* newest first */
            }
            CHECK_EQ(found, count == 0 ? BLOCKS : 0);
        }
        for (i = 0; i < SCOPES && count == 0; i++) {
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, NULL));
            OK(cu.cuGraphExecDestroy(execs[i]));
        }
        fake.tafake_settle();
        CHECK_EQ(stats_of(graphs).held_count, 0);
    }
    for (i = 0; i < BLOCKS; i++) {
        give(at[i]);
    }
    graphs_close();
    forget(&d);
}

/* Whatever call of the sink fails, the snapshot ends with its result and lets go of everything. */
static void failing_sinks(void)
{
    scene w;
    document d;
    uint64_t calls, n;
    memset(&d, 0, sizeof d);
    if (!scene_open(&w)) { return; }
    CHECK_OK(ta_snapshot_write(w.list, 2, NULL, keep, &d));
    calls = d.calls;
    CHECK_GT(calls, 5);
    for (n = 1; n <= calls; n++) {
        d.length = 0;
        d.calls = 0;
        d.fail_at = n;
        d.fail_with = TA_ERROR_NOT_READY;
        d.is_over = 0;
        CHECK_RESULT(ta_snapshot_write(w.list, 2, NULL, keep, &d), TA_ERROR_NOT_READY);
        CHECK_EQ(d.calls, n);
        CHECK(!d.is_over);
    }
    d.fail_at = 0;
    scene_close(&w); /* nothing is visited any more: all goes */
    forget(&d);
}

/* A thread that captures, replays and destroys, and one that resizes tensors, while snapshots are taken. */
typedef struct worker {
    pthread_t thread;
    ta_dynamic *dynamic;
    ta_graph_pool *mine;
    CUstream stream;
    uint64_t seed;
    int failed, rounds;
} worker;

static void *capture_and_go(void *user)
{
    worker *w = (worker *)user;
    int i, k;
    w->failed = cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    for (i = 0; i < w->rounds && !w->failed; i++) {
        void *ptrs[8], *eager;
        CUgraph graph = NULL;
        CUgraphExec exec = NULL;
        eager = ta_pool_alloc_stream(pool, 1 + test_below(&w->seed, 300000), STREAM(w->stream), NULL);
        w->failed |= ta_capture_enter(w->mine, STREAM(w->stream)) != TA_OK;
        w->failed |= cu.cuStreamBeginCapture_v2(w->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS;
        w->failed |= ta_graph_pool_hold(w->mine, pool, eager) != TA_OK;
        for (k = 0; k < 8; k++) {
            ptrs[k] = ta_pool_alloc_stream(pool, 1 + test_below(&w->seed, 300000), STREAM(w->stream), NULL);
            w->failed |= ptrs[k] == NULL;
        }
        for (k = 0; k < 8; k++) {
            w->failed |= ta_pool_free(pool, ptrs[k]) != TA_OK;
        }
        w->failed |= cu.cuStreamEndCapture(w->stream, &graph) != CUDA_SUCCESS;
        w->failed |= ta_capture_leave(w->mine, STREAM(w->stream), 0, NULL) != TA_OK;
        w->failed |= ta_graph_pool_attach(w->mine, (uint64_t)(uintptr_t)graph) != TA_OK;
        w->failed |= cu.cuGraphInstantiateWithFlags(&exec, graph, 0) != CUDA_SUCCESS;
        w->failed |= ta_pool_free(pool, eager) != TA_OK;
        w->failed |= cu.cuGraphDestroy(graph) != CUDA_SUCCESS || cu.cuGraphExecDestroy(exec) != CUDA_SUCCESS;
        fake.tafake_settle();
        if (i % 8 == 7) {
            (void)ta_graph_pool_trim(w->mine);
        }
    }
    return NULL;
}

static void *resize_and_hold(void *user)
{
    worker *w = (worker *)user;
    int i;
    w->failed = cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    for (i = 0; i < w->rounds && !w->failed; i++) {
        const int64_t least = 1, now = 1 + (int64_t)test_below(&w->seed, 12 << 20), most = 64 << 20;
        const int64_t next = 1 + (int64_t)test_below(&w->seed, 40 << 20);
        ta_shape_bounds bounds;
        ta_handle handle;
        w->failed |= ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most) != TA_OK;
        w->failed |= ta_dynamic_alloc(w->dynamic, &bounds, &handle) != TA_OK;
        if (i % 4 == 0) {
            w->failed |= ta_graph_pool_hold_handle(w->mine, w->dynamic, handle) != TA_OK;
        }
        w->failed |= ta_dynamic_resize(w->dynamic, handle, &next, 1) != TA_OK;
        w->failed |= ta_dynamic_free(w->dynamic, handle) != TA_OK;
        if (i % 4 == 0) {
            w->failed |= ta_graph_pool_reset(w->mine) != TA_OK; /* lets go */
        }
    }
    return NULL;
}

static void snapshots_beside_captures(void)
{
    static uint64_t scratch[8 * 4096];
    worker one, other;
    ta_dynamic_desc desc;
    ta_snapshot_desc options;
    ta_allocator list[2];
    document d;
    ta_graph_pool *second;
    int i;
    memset(&d, 0, sizeof d);
    memset(&one, 0, sizeof one);
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    if (!graphs_open("sched=lazy", 0)) { return; }
    second = graphs_new(0);
    desc.backend = ta_cuda_backend(cuda);
    desc.range_bytes = 512 * MIB;
    CHECK_OK(ta_dynamic_create(&desc, &one.dynamic));
    one.rounds = 60 / SLOWER;
    one.seed = 5;
    one.stream = s;
    one.mine = graphs;
    other = one;
    other.mine = second;
    other.seed = 6;
    other.rounds *= 4;
    list[0] = ta_pool_allocator(pool);
    list[1] = ta_dynamic_allocator(one.dynamic);
    REQUIRE(pthread_create(&one.thread, NULL, capture_and_go, &one) == 0);
    REQUIRE(pthread_create(&other.thread, NULL, resize_and_hold, &other) == 0);
    for (i = 0; i < 80 / SLOWER; i++) {
        options.scratch = i % 3 == 0 ? NULL : scratch;
        options.scratch_bytes = i % 3 == 2 ? sizeof scratch : 80 * 64;
        if (take_snapshot(&d, list, 2, &options)) {
            int k;
            for (k = 0; allocator_at(&d.tree, k) != 0; k++) {
                CHECK(add_up(&d.tree, allocator_at(&d.tree, k)).tiles);
            }
            CHECK_EQ(k, 5);
        }
    }
    CHECK_EQ(pthread_join(one.thread, NULL), 0);
    CHECK_EQ(pthread_join(other.thread, NULL), 0);
    CHECK(!one.failed);
    CHECK(!other.failed);
    CHECK_OK(ta_graph_pool_destroy(second));
    CHECK_OK(ta_graph_pool_destroy(graphs));
    graphs = NULL;
    CHECK_OK(ta_dynamic_destroy(one.dynamic));
    graphs_close();
    forget(&d);
}

static int write_documents(const char *directory)
{
    scene w;
    int ok;
    test_now.out = stdout;
    if (!scene_open(&w)) {
        return 1;
    }
    ok = write_one(directory, "graphs", w.list, 2, NULL);
    scene_close(&w);
    return ok && test_now.failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST_CASE(blocks_that_graphs_hold), TEST_CASE(streams_beside_graphs), TEST_CASE(failures_in_captures), TEST_CASE(memory_of_graph_pools),
        TEST_CASE(tensors_that_graphs_hold), TEST_CASE(graph_pools_are_told), TEST_CASE(holds_end_while_they_are_seen), TEST_CASE(long_lists),
        TEST_CASE(failing_sinks), TEST_CASE(snapshots_beside_captures)
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_documents(argv[2]);
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
