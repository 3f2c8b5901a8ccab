/* example_graph.c - a training step in a CUDA graph, from the first line to the last. Reads from top to bottom; runs as
   a test, on the software driver or a real one.

   The step allocates as it goes: activations in the forward pass, gradients in the backward pass, each freed when it is
   no longer needed. Nothing in it knows about graphs. Run eagerly it takes memory from a pool. Captured, the same code
   gets its memory from a graph pool beside that pool, and a replay computes the same bits. */
#include "cuda.h"

#include <time.h>

enum { LAYERS = 3, WIDTH = 1024 };

typedef struct network {
    ta_tensor weights[LAYERS]; /* live as long as the program wants; graphs hold them */
    ta_tensor input, loss;           /* eager too, not held: the program keeps them as long as it replays */
    CUstream stream;
} network;

/* y = x * w, x += k * y and the like: small kernels of the test's module. */
static void multiply(CUdeviceptr to, CUdeviceptr a, CUdeviceptr b, CUstream stream)
{
    uint32_t n = WIDTH;
    void *parameters[] = {&to, &a, &b, &n};
    OK(launch(on.mul, stream, parameters));
}

static void add_scaled(CUdeviceptr to, CUdeviceptr from, float scale, CUstream stream)
{
    uint32_t n = WIDTH;
    void *parameters[] = {&to, &from, &scale, &n};
    OK(launch(on.axpy, stream, parameters));
}

static CUdeviceptr of(const ta_tensor *tensor)
{
    return ADDRESS(tensor->buffer.data);
}

static ta_result make(ta_tensor *out, CUstream stream)
{
    const int64_t dims[1] = {WIDTH};
    return ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, STREAM(stream), out);
}

/* Forward, backward, update. Activations and gradients come and go. */
static ta_result train_step(void *user)
{
    network *net = user;
    CUstream stream = net->stream;
    ta_tensor activation[LAYERS + 1], gradient, next;
    ta_result result = TA_OK;
    int i;
    activation[0] = net->input;
    for (i = 0; i < LAYERS && result == TA_OK; i++) {
        result = make(&activation[i + 1], stream);
        if (result == TA_OK) {
            multiply(of(&activation[i + 1]), of(&activation[i]), of(&net->weights[i]), stream);
        }
    }
    if (result == TA_OK) {
        result = make(&gradient, stream);
    }
    if (result != TA_OK) {
        return result;
    }
    OK(copy(of(&net->loss), of(&activation[LAYERS]), WIDTH, stream));
    OK(copy(of(&gradient), of(&activation[LAYERS]), WIDTH, stream));
    for (i = LAYERS; i-- > 0 && result == TA_OK;) {
        result = make(&next, stream);
        if (result == TA_OK) {
            multiply(of(&next), of(&gradient), of(&net->weights[i]), stream); /* to the layer before */
            multiply(of(&gradient), of(&gradient), of(&activation[i]), stream); /* to the weights of this one */
            add_scaled(of(&net->weights[i]), of(&gradient), -0.0001f, stream);
            result = ta_tensor_destroy(&gradient, STREAM(stream));
            gradient = next;
        }
        if (result == TA_OK) {
            result = ta_tensor_destroy(&activation[i + 1], STREAM(stream));
        }
    }
    return result == TA_OK ? ta_tensor_destroy(&gradient, STREAM(stream)) : result;
}

static void new_network(network *net, CUstream stream)
{
    int i;
    net->stream = stream;
    for (i = 0; i < LAYERS; i++) {
        CHECK_OK(make(&net->weights[i], stream));
        OK(fill(of(&net->weights[i]), 0x3F800000u + (uint32_t)i * 0x1000u, WIDTH, stream)); /* about 1.0f */
    }
    CHECK_OK(make(&net->input, stream));
    CHECK_OK(make(&net->loss, stream));
    OK(fill(of(&net->input), 0x3F8CCCCDu, WIDTH, stream)); /* 1.1f */
}

static void forget_network(network *net)
{
    int i;
    for (i = 0; i < LAYERS; i++) {
        CHECK_OK(ta_tensor_destroy(&net->weights[i], STREAM(net->stream)));
    }
    CHECK_OK(ta_tensor_destroy(&net->input, STREAM(net->stream)));
    CHECK_OK(ta_tensor_destroy(&net->loss, STREAM(net->stream)));
}

/* What the capture does inside of its scope: begins, records the step, ends. Any answer but TA_OK: it has failed. */
typedef struct recording {
    network *net;
    CUgraph graph;
} recording;

static ta_result record(void *user)
{
    recording *one = user;
    ta_result result;
    if (cu.cuStreamBeginCapture_v2(one->net->stream, CU_STREAM_CAPTURE_MODE_GLOBAL) != CUDA_SUCCESS) {
        return TA_ERROR_CAPTURE;
    }
    result = train_step(one->net);
    return cu.cuStreamEndCapture(one->net->stream, &one->graph) == CUDA_SUCCESS ? result : TA_ERROR_CAPTURE;
}

/* The driver tells later, on a thread of its own, that nothing refers to the graph pool any more. */
static void wait_for_the_end_of_the_graph(void)
{
    const struct timespec pause = {0, 1000000};
    ta_memory_usage usage;
    int tries = 0;
    do {
        (void)nanosleep(&pause, NULL);
        CHECK_OK(ta_pool_trim(pool, 0, NULL));
        CHECK_OK(ta_pool_get_memory_usage(pool, &usage));
    } while (usage.graph_pool_count != 0 && ++tries < 5000);
    CHECK_EQ(usage.graph_pool_count, 0);
}

static void a_training_loop(void)
{
    static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:7", "sched=threads:7"};
    static float losses[2][WIDTH], weights[2][WIDTH];
    size_t k;
    int i, step, steps = 20;
    for (k = 0; k < 4; k++) {
        ta_graph_pool_desc desc;
        ta_graph_pool *graphs = NULL;
        ta_capture_scope scope;
        ta_capture_report report;
        recording one;
        network eager, captured;
        CUgraphExec exec = NULL;
        if (!world_open_any(schedulers[k], TA_CUDA_DEVICE, NULL)) {
            return;
        }
        test_context("%s", schedulers[k]);
        new_network(&eager, stream_new());
        new_network(&captured, stream_new());
        for (step = 0; step < steps; step++) {
            CHECK_OK(train_step(&eager));
        }

        /* A graph pool beside the pool, and a scope: what the stream's capture allocates comes from it. */
        memset(&desc, 0, sizeof desc);
        desc.pool = pool;
        CHECK_OK(ta_graph_pool_create(&desc, &graphs));
        memset(&scope, 0, sizeof scope);
        scope.graph_pool = graphs;
        scope.stream = STREAM(captured.stream);
        scope.report = &report;
        one.net = &captured;
        CHECK_OK(ta_with_graph_pool(&scope, record, &one));
        CHECK_EQ(report.live_count, 0);

        /* The first try said what it needs: with that in place the second one asks the driver for nothing. */
        OK(cu.cuGraphDestroy(one.graph));
        CHECK_OK(ta_graph_pool_reset(graphs));
        CHECK_OK(ta_graph_pool_reserve(graphs, report.reserve_bytes));
        for (i = 0; i < LAYERS; i++) { /* the weights were eager: graphs hold them from now on */
            CHECK_OK(ta_tensor_ensure_graph_compatible(&captured.weights[i], graphs, scope.stream, TA_GRAPH_PIN));
        }
        CHECK_OK(ta_with_graph_pool(&scope, record, &one));
        CHECK_EQ(report.growth_count, 0);

        /* The memory lives as long as the graph and what is made of it; the graph pool need not be kept. */
        CHECK_OK(ta_graph_pool_attach(graphs, (uint64_t)(uintptr_t)one.graph));
        CHECK_OK(ta_graph_pool_destroy(graphs));
        OK(cu.cuGraphInstantiateWithFlags(&exec, one.graph, 0));
        OK(cu.cuGraphDestroy(one.graph));
        for (step = 0; step < steps; step++) {
            void *other = ta_pool_alloc_stream(pool, WIDTH * 4, STREAM(eager.stream), NULL); /* eager work goes on */
            OK(fill(ADDRESS(other), 0xFFFFFFFFu, WIDTH, eager.stream));
            OK(cu.cuGraphLaunch(exec, captured.stream));
            CHECK_OK(ta_pool_free(pool, other));
        }
        OK(cu.cuStreamSynchronize(captured.stream));
        OK(cu.cuStreamSynchronize(eager.stream));

        /* The same bits. */
        OK(cu.cuMemcpyDtoH_v2(losses[0], of(&eager.loss), sizeof losses[0]));
        OK(cu.cuMemcpyDtoH_v2(losses[1], of(&captured.loss), sizeof losses[1]));
        CHECK_EQ(memcmp(losses[0], losses[1], sizeof losses[0]), 0);
        CHECK(losses[0][0] > 1.0f && losses[0][0] < 2.0f); /* it has learned, and computed something */
        for (i = 0; i < LAYERS; i++) {
            OK(cu.cuMemcpyDtoH_v2(weights[0], of(&eager.weights[i]), sizeof weights[0]));
            OK(cu.cuMemcpyDtoH_v2(weights[1], of(&captured.weights[i]), sizeof weights[1]));
            CHECK_EQ(memcmp(weights[0], weights[1], sizeof weights[0]), 0);
        }

        OK(cu.cuGraphExecDestroy(exec));
        forget_network(&eager);
        forget_network(&captured);
        OK(cu.cuStreamDestroy_v2(eager.stream));
        OK(cu.cuStreamDestroy_v2(captured.stream));
        wait_for_the_end_of_the_graph();
        world_close();
    }
}

TEST_MAIN(TEST_CASE(a_training_loop))
