/* test_graph_driver.c - graph pools on whatever driver there is: the integration tests that need nothing of the software
   driver's side channel. With that driver every scheduler runs them, and its checker looks on; a real one runs them
   once. The training loop of example_graph.c does so, too. */
#include <pthread.h>
#include <time.h>

#include "graph.h"

static int runs; /* schedulers that are tried */

static int open_run(int run, int share)
{
    graphs = NULL;
    if (!world_open_any(schedulers[run], TA_CUDA_DEVICE, NULL)) {
        runs = 0;
        return 0;
    }
    runs = fake.tafake_reset != NULL ? SCHEDULERS : 1;
    test_context("%s", fake.tafake_reset != NULL ? schedulers[run] : "");
    s = stream_new();
    t = stream_new();
    graphs = graphs_new(share);
    return graphs != NULL;
}

/* The driver says in its own time that a graph is gone. */
static void graphs_are_gone(ta_graph_pool *of)
{
    const struct timespec moment = {0, 1000000};
    int i;
    OK(cu.cuCtxSynchronize());
    for (i = 0; i < 5000 && stats_of(of).graph_count != 0; i++) {
        nanosleep(&moment, NULL);
    }
    CHECK_EQ(stats_of(of).graph_count, 0);
}

static void close_run(void)
{
    graphs_are_gone(graphs);
    CHECK_OK(ta_graph_pool_trim(graphs));
    CHECK_EQ(stats_of(graphs).memory.block_count, 0);
    CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
    CHECK_OK(ta_graph_pool_destroy(graphs));
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    world_close();
}

/* How many of n words at `from` are not value. */
static uint32_t wrong_words(CUdeviceptr from, uint32_t value, uint32_t n)
{
    CUdeviceptr errors = take(256, s);
    uint32_t wrong;
    OK(fill(errors, 0, 1, s));
    OK(check(errors, from, value, n, s));
    OK(cu.cuStreamSynchronize(s));
    wrong = read32(errors);
    give(errors);
    return wrong;
}

/* ---- steps of a model with integer weights: what is captured computes what runs eagerly, to the bit */
enum { LAYERS = 6, STEPS = 20 };

typedef struct model { CUdeviceptr weights[LAYERS], loss; } model;

static void model_new(model *m)
{
    int i;
    for (i = 0; i < LAYERS; i++) {
        m->weights[i] = take(BYTES, s);
        OK(fill(m->weights[i], (uint32_t)i + 1, WORDS, s));
    }
    m->loss = take(256, s);
    OK(fill(m->loss, 0, 64, s));
}

/* Forward keeps what backward reads, in the reverse order; every layer is updated. */
static void model_step(const model *m, CUstream stream)
{
    CUdeviceptr kept[LAYERS + 1], gradient;
    int i;
    kept[0] = take(BYTES, stream);
    OK(fill(kept[0], 1, WORDS, stream));
    for (i = 0; i < LAYERS; i++) {
        kept[i + 1] = take(BYTES + (size_t)i * 256, stream);
        OK(copy(kept[i + 1], m->weights[i], WORDS, stream));
        OK(add(kept[i + 1], (uint32_t)i, WORDS, stream));
    }
    gradient = take(BYTES, stream);
    OK(copy(gradient, kept[LAYERS], WORDS, stream));
    for (i = LAYERS - 1; i >= 0; i--) {
        CUdeviceptr next = take(BYTES, stream);
        OK(copy(next, gradient, WORDS, stream));
        OK(add(next, 3, WORDS, stream));
        OK(copy(m->weights[i], next, WORDS, stream));
        give(gradient);
        give(kept[i + 1]);
        gradient = next;
    }
    OK(copy(m->loss, gradient, 1, stream));
    give(gradient);
    give(kept[0]);
}

static void model_free(const model *m)
{
    int i;
    for (i = 0; i < LAYERS; i++) {
        give(m->weights[i]);
    }
    give(m->loss);
}

static void captured_training_is_eager_training(void)
{
    int run, i, w;
    for (run = 0; run == 0 || run < runs; run++) {
        model eager, captured;
        CUgraphExec exec;
        if (!open_run(run, 0)) { return; }
        model_new(&eager);
        model_new(&captured);
        for (i = 0; i < LAYERS; i++) {
            CHECK_OK(ta_graph_pool_hold(graphs, pool, pointer(captured.weights[i])));
        }
        enter(graphs, s);
        model_step(&captured, s);
        exec = finish(graphs, s, NULL);
        for (i = 0; i < STEPS; i++) {
            CUdeviceptr between = take(2 * MIB, s); /* eager memory comes and goes between replays */
            OK(fill(between, 0xAAAA, WORDS, s));
            model_step(&eager, s);
            OK(cu.cuGraphLaunch(exec, s));
            give(between);
        }
        OK(cu.cuStreamSynchronize(s));
        CHECK_EQ(read32(captured.loss), read32(eager.loss));
        CHECK_GT(read32(eager.loss), STEPS);
        for (w = 0; w < LAYERS; w++) {
            CHECK_EQ(wrong_words(captured.weights[w], read32(eager.weights[w]), WORDS), 0);
        }
        OK(cu.cuGraphExecDestroy(exec));
        model_free(&eager);
        model_free(&captured);
        close_run();
    }
}

/* ---- two graphs that share memory, in order; the second is captured while the first lives */
static void two_graphs_in_order(void)
{
    int run, i, g;
    for (run = 0; run == 0 || run < runs; run++) {
        CUgraphExec exec[2];
        CUdeviceptr out[2], inside[2];
        size_t reserved = 0;
        if (!open_run(run, 1)) { return; }
        for (g = 0; g < 2; g++) {
            out[g] = take(BYTES, s);
            enter(graphs, s);
            inside[g] = take(MIB, s);
            OK(fill(inside[g], 10 + (uint32_t)g, WORDS, s));
            OK(copy(out[g], inside[g], WORDS, s));
            give(inside[g]);
            exec[g] = finish(graphs, s, NULL);
            CHECK(g == 0 || stats_of(graphs).memory.reserved_bytes == reserved);
            reserved = stats_of(graphs).memory.reserved_bytes;
        }
        CHECK_EQ(inside[0], inside[1]);
        CHECK_EQ(stats_of(graphs).graph_count, 2);
        for (i = 0; i < 10; i++) {
            OK(cu.cuGraphLaunch(exec[i % 2], s));
            OK(cu.cuGraphLaunch(exec[1 - i % 2], s));
        }
        for (g = 0; g < 2; g++) {
            CHECK_EQ(wrong_words(out[g], 10 + (uint32_t)g, WORDS), 0);
            OK(cu.cuGraphExecDestroy(exec[g]));
            give(out[g]);
        }
        close_run();
    }
}

/* ---- a capture that forks; the library need not be told of the other stream */
static void forked_captures(void)
{
    int run, i;
    for (run = 0; run == 0 || run < runs; run++) {
        CUgraphExec exec;
        CUdeviceptr out, a, b;
        ta_capture_report report;
        if (!open_run(run, 0)) { return; }
        out = take(BYTES, s);
        enter(graphs, s);
        a = take(MIB, s);
        OK(fill(a, 5, WORDS, s));
        order(s, t);
        b = take(MIB, t);
        OK(copy(b, a, WORDS, t));
        OK(add(b, 2, WORDS, t));
        CHECK_OK(ta_pool_record_use(pool, pointer(a), STREAM(t)));
        give(a); /* the other stream still reads it */
        CHECK(take(MIB, s) != a);
        order(t, s);
        OK(copy(out, b, WORDS, s));
        CHECK_OK(ta_pool_record_use(pool, pointer(b), STREAM(s)));
        give(b);
        exec = finish(graphs, s, &report);
        CHECK_EQ(report.allocation_count, 3);
        CHECK_EQ(report.live_count, 1);
        for (i = 0; i < 5; i++) {
            OK(fill(out, 0, WORDS, s));
            OK(cu.cuGraphLaunch(exec, s));
            CHECK_EQ(wrong_words(out, 7, WORDS), 0);
        }
        OK(cu.cuGraphExecDestroy(exec));
        graphs_are_gone(graphs);
        CHECK_OK(ta_graph_pool_reset(graphs)); /* the one that was left live */
        give(out);
        close_run();
    }
}

/* ---- growth in a capture, and the same without */
static void growth_and_exact_reservation(void)
{
    int run, i;
    for (run = 0; run == 0 || run < runs; run++) {
        ta_capture_report first, second;
        CUgraphExec exec;
        model m;
        if (!open_run(run, 0)) { return; }
        model_new(&m);
        enter(graphs, s);
        model_step(&m, s);
        exec = finish(graphs, s, &first);
        CHECK_GT(first.growth_count, 0);
        CHECK_EQ(first.failure_count, 0);
        OK(cu.cuGraphLaunch(exec, s));
        OK(cu.cuStreamSynchronize(s));
        OK(cu.cuGraphExecDestroy(exec));
        graphs_are_gone(graphs);
        CHECK_OK(ta_graph_pool_trim(graphs));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, 0);
        CHECK_OK(ta_graph_pool_reserve(graphs, first.reserve_bytes));
        CHECK_EQ(stats_of(graphs).memory.reserved_bytes, first.reserve_bytes);
        enter(graphs, s);
        model_step(&m, s);
        exec = finish(graphs, s, &second);
        CHECK_EQ(second.growth_count + second.grown_bytes, 0);
        CHECK_EQ(second.peak_in_use_bytes, first.peak_in_use_bytes);
        for (i = 0; i < 3; i++) {
            OK(cu.cuGraphLaunch(exec, s));
        }
        OK(cu.cuStreamSynchronize(s));
        OK(cu.cuGraphExecDestroy(exec));
        model_free(&m);
        close_run();
    }
}

/* ---- graphs and executables that go in every order, and in flight */
static void graphs_go_in_every_order(void)
{
    int run, how;
    for (run = 0; run == 0 || run < runs; run++) {
        for (how = 0; how < 3; how++) {
            CUgraph graph;
            CUgraphExec exec;
            CUdeviceptr out, inside;
            if (!open_run(run, 0)) { return; }
            out = take(BYTES, s);
            enter(graphs, s);
            inside = take(MIB, s);
            OK(fill(inside, 6, WORDS, s));
            OK(spin_ns(2000000, s));
            OK(copy(out, inside, WORDS, s));
            give(inside);
            graph = end(s);
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 0, NULL));
            CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)graph));
            exec = instantiate(graph);
            if (how == 0) {
                OK(cu.cuGraphDestroy(graph));
            }
            OK(cu.cuGraphLaunch(exec, s));
            if (how == 2) { /* at once: the replay goes on */
                OK(cu.cuGraphExecDestroy(exec));
            } else {
                CHECK_RESULT(ta_graph_pool_trim(graphs), TA_ERROR_BUSY);
                CHECK_RESULT(ta_graph_pool_reset(graphs), TA_ERROR_BUSY);
            }
            CHECK_EQ(wrong_words(out, 6, WORDS), 0);
            if (how != 2) {
                OK(cu.cuGraphExecDestroy(exec));
            }
            if (how != 0) { /* the graph alone keeps it as well */
                CHECK_EQ(stats_of(graphs).graph_count, 1);
                OK(cu.cuGraphDestroy(graph));
            }
            give(out);
            close_run();
        }
    }
}

/* ---- other threads go on with eager memory */
enum { THREADS = 3 };
static struct worker { pthread_t thread; CUstream stream; uint64_t wrong; } workers[THREADS];
static int stop;

static void *eager_work(void *user)
{
    struct worker *one = user;
    uint64_t state = (uint64_t)(one - workers) + 77;
    int i;
    one->wrong += cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    for (i = 0; i < 100 || !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); i++) {
        ta_result result;
        const size_t bytes = 256 + test_below(&state, i % 10 == 0 ? 3u << 20 : 20000);
        void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(one->stream), &result);
        one->wrong += ptr == NULL || fill(ADDRESS(ptr), 1, 64, one->stream) != CUDA_SUCCESS ||
                      ta_pool_free(pool, ptr) != TA_OK;
        one->wrong += i % 50 == 0 && ta_pool_trim(pool, 0, NULL) != TA_OK;
    }
    return NULL;
}

static void eager_threads_beside_captures(void)
{
    int run, i;
    for (run = 0; run == 0 || run < runs; run++) {
        CUdeviceptr out;
        if (!open_run(run, 1)) { return; }
        out = take(BYTES, s);
        __atomic_store_n(&stop, 0, __ATOMIC_RELEASE);
        for (i = 0; i < THREADS; i++) {
            workers[i].stream = stream_new();
            workers[i].wrong = 0;
            CHECK_EQ(pthread_create(&workers[i].thread, NULL, eager_work, &workers[i]), 0);
        }
        for (i = 0; i < 12; i++) {
            CUdeviceptr inside;
            CUgraphExec exec;
            CHECK_OK(ta_capture_enter(graphs, STREAM(s)));
            OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED)); /* theirs are no calls of a capture's */
            inside = take(2 * MIB + 4096 * (size_t)i, s);
            OK(fill(inside, (uint32_t)i, WORDS, s));
            OK(copy(out, inside, WORDS, s));
            give(inside);
            exec = finish(graphs, s, NULL);
            OK(cu.cuGraphLaunch(exec, s));
            OK(cu.cuStreamSynchronize(s));
            CHECK_EQ(read32(out), i);
            OK(cu.cuGraphExecDestroy(exec));
        }
        __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
        for (i = 0; i < THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
            CHECK_EQ(workers[i].wrong, 0);
        }
        for (i = 0; i < THREADS; i++) {
            OK(cu.cuStreamDestroy_v2(workers[i].stream));
        }
        give(out);
        close_run();
    }
}

/* ---- a capture that fails, by itself or because the program says so: all of it comes back */
static void failed_captures_leave_nothing(void)
{
    int run, how;
    for (run = 0; run == 0 || run < runs; run++) {
        for (how = 0; how < 2; how++) {
            CUgraph graph = NULL;
            ta_capture_report report;
            if (!open_run(run, 0)) { return; }
            enter(graphs, s);
            OK(fill(take(MIB, s), 1, WORDS, s));
            if (how == 1) { /* forked and not joined */
                order(s, t);
                OK(fill(take(MIB, t), 1, WORDS, t));
                CHECK_NE(cu.cuStreamEndCapture(s, &graph), CUDA_SUCCESS);
                CHECK(graph == NULL);
            } else {
                OK(cu.cuGraphDestroy(end(s)));
            }
            CHECK_OK(ta_capture_leave(graphs, STREAM(s), 1, &report));
            CHECK_EQ(report.allocation_count, (uint64_t)how + 1);
            CHECK_EQ(stats_of(graphs).memory.block_count, 0);
            CHECK_EQ(stats_of(graphs).is_referenced, 0);
            close_run();
        }
    }
}

TEST_MAIN(TEST_CASE(captured_training_is_eager_training), TEST_CASE(two_graphs_in_order), TEST_CASE(forked_captures),
          TEST_CASE(growth_and_exact_reservation), TEST_CASE(graphs_go_in_every_order),
          TEST_CASE(eager_threads_beside_captures), TEST_CASE(failed_captures_leave_nothing))
