/* graph.h - what the tests of graph pools share: two streams, a graph pool, captures and their executables. */
#ifndef TEST_GRAPH_H
#define TEST_GRAPH_H

#include "cuda.h"

enum { WORDS = 4096, BYTES = WORDS * 4 };

static CUstream s, t;
static ta_graph_pool *graphs;

static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:5", "sched=threads:5"};
enum { SCHEDULERS = 4 };

TEST_STATIC ta_graph_pool *graphs_new(int share)
{
    ta_graph_pool_desc desc;
    ta_graph_pool *made = NULL;
    memset(&desc, 0, sizeof desc);
    desc.pool = pool;
    desc.share_sequential = share;
    desc.range_bytes = 64 * MIB;
    CHECK_OK(ta_graph_pool_create(&desc, &made));
    return made;
}

/* A device with a pool, a graph pool beside it and two streams. */
TEST_STATIC int graphs_open(const char *config, int share)
{
    graphs = NULL;
    if (!world_open(config, TA_CUDA_RANGES, NULL)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(share);
    return graphs != NULL;
}

TEST_STATIC void graphs_close(void)
{
    OK(cu.cuCtxSynchronize());
    fake.tafake_settle();
    CHECK_OK(ta_graph_pool_destroy(graphs));
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    world_close();
    CHECK_EQ(live_now().graphs + live_now().execs + live_now().user_objects, 0);
}

/* device_close and check_quiet, but with reports: how many there were. */
TEST_STATIC uint64_t take_reports(void)
{
    const uint64_t count = fake.tafake_race_count();
    fake.tafake_races_clear();
    return count;
}

TEST_STATIC CUdeviceptr take(size_t bytes, CUstream stream)
{
    ta_result result = TA_OK;
    void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(stream), &result);
    CHECK_OK(result);
    return ADDRESS(ptr);
}

TEST_STATIC void *pointer(CUdeviceptr at)
{
    return (void *)(uintptr_t)at;
}

TEST_STATIC void give(CUdeviceptr ptr)
{
    CHECK_OK(ta_pool_free(pool, pointer(ptr)));
}

TEST_STATIC ta_result refused(size_t bytes, CUstream stream)
{
    ta_result result = TA_OK;
    CHECK(ta_pool_alloc_stream(pool, bytes, STREAM(stream), &result) == NULL);
    return result;
}

TEST_STATIC void begin(CUstream stream)
{
    OK(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
}

TEST_STATIC CUgraph end(CUstream stream)
{
    CUgraph graph = NULL;
    OK(cu.cuStreamEndCapture(stream, &graph));
    return graph;
}

TEST_STATIC CUgraphExec instantiate(CUgraph graph)
{
    CUgraphExec exec = NULL;
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    return exec;
}

/* The end of a capture in a scope that went well: left, attached, instantiated; the graph itself is not kept. */
TEST_STATIC CUgraphExec finish(ta_graph_pool *of, CUstream stream, ta_capture_report *report)
{
    CUgraph graph = end(stream);
    CUgraphExec exec;
    CHECK_OK(ta_capture_leave(of, STREAM(stream), 0, report));
    CHECK_OK(ta_graph_pool_attach(of, (uint64_t)(uintptr_t)graph));
    exec = instantiate(graph);
    OK(cu.cuGraphDestroy(graph));
    return exec;
}

TEST_STATIC void enter(ta_graph_pool *of, CUstream stream)
{
    CHECK_OK(ta_capture_enter(of, STREAM(stream)));
    begin(stream);
}

TEST_STATIC ta_graph_pool_stats stats_of(ta_graph_pool *of)
{
    ta_graph_pool_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_OK(ta_graph_pool_get_stats(of, &stats));
    return stats;
}

#endif /* TEST_GRAPH_H */
