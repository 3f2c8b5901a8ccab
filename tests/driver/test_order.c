/* test_order.c - the happens-before checker: each way to get order wrong is reported, and its mended version is
   not, under every scheduler; random programs that are right, and the same with one wait left out. */
#include "testing.h"

enum { WORDS = 1024, BYTES = WORDS * 4 };
static CUstream s, t;
static CUdeviceptr a, b;

/* Results are not checked in what may be wrong on purpose: a fault makes every later call fail. */
static void step(CUresult result)
{
    (void)result;
}

static void edge(CUstream before, CUstream after, int ordered)
{
    if (ordered) {
        order(before, after);
    }
}

/* ---- scenarios: `ordered` or not */
static void reuse_on_another_stream(int ordered)
{
    OK(fill(a, 1, WORDS, s));
    edge(s, t, ordered);
    OK(fill(a, 2, WORDS, t));
}

static void read_after_write(int ordered)
{
    OK(fill(a, 1, WORDS, s));
    edge(s, t, ordered);
    OK(copy(b, a, WORDS, t));
}

static void write_after_read(int ordered)
{
    OK(copy(b, a, WORDS, s));
    edge(s, t, ordered);
    OK(fill(a, 1, 1, t));
}

static void recorded_before_the_last_use(int ordered)
{
    CUevent event = event_new();
    OK(fill(a, 1, WORDS, s));
    OK(cu.cuEventRecord(event, s));
    OK(fill(a, 2, WORDS, s));
    if (ordered) {
        OK(cu.cuEventRecord(event, s));
    }
    OK(cu.cuStreamWaitEvent(t, event, 0));
    OK(fill(a, 3, WORDS, t));
}

/* The host polls until it knows, then gives the memory to another stream. */
static void polled(int ordered)
{
    CUevent event = event_new();
    OK(fill(a, 1, WORDS, s));
    OK(cu.cuEventRecord(event, s));
    while (ordered && cu.cuEventQuery(event) == CUDA_ERROR_NOT_READY) {}
    OK(fill(a, 2, WORDS, t));
}

static void query_of_a_stream(int ordered)
{
    OK(fill(a, 1, WORDS, s));
    while (ordered && cu.cuStreamQuery(s) == CUDA_ERROR_NOT_READY) {}
    OK(fill(a, 2, WORDS, t));
}

static void freed_in_use(int ordered)
{
    CUdeviceptr c = alloc(BYTES);
    OK(fill(c, 1, WORDS, s));
    if (ordered) {
        OK(cu.cuStreamSynchronize(s));
    }
    OK(cu.cuMemFree_v2(c));
}

/* Waiting for another stream is not enough. */
static void freed_after_the_wrong_wait(int ordered)
{
    CUdeviceptr c = alloc(BYTES);
    OK(fill(c, 1, WORDS, s));
    OK(fill(b, 1, WORDS, t));
    OK(cu.cuStreamSynchronize(ordered ? s : t));
    OK(cu.cuMemFree_v2(c));
}

static void unmapped_in_use(int ordered)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    CUevent event = event_new();
    CUdeviceptr base = 0;
    OK(cu.cuMemAddressReserve(&base, 2 << 20, 0, 0, 0));
    OK(cu.cuMemCreate(&handle, 2 << 20, &prop, 0));
    OK(cu.cuMemMap(base, 2 << 20, 0, handle, 0));
    OK(cu.cuMemSetAccess(base, 2 << 20, &access, 1));
    OK(fill(base + BYTES, 1, WORDS, s));
    OK(cu.cuEventRecord(event, s));
    if (ordered) {
        OK(cu.cuEventSynchronize(event));
    }
    OK(cu.cuMemUnmap(base, 2 << 20));
    step(cu.cuMemRelease(handle));
}

/* One piece of memory at two addresses. */
static void aliased(int ordered)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr base = 0;
    OK(cu.cuMemAddressReserve(&base, 4 << 20, 0, 0, 0));
    OK(cu.cuMemCreate(&handle, 2 << 20, &prop, 0));
    OK(cu.cuMemMap(base, 2 << 20, 0, handle, 0));
    OK(cu.cuMemMap(base + (2 << 20), 2 << 20, 0, handle, 0));
    OK(cu.cuMemSetAccess(base, 4 << 20, &access, 1));
    OK(fill(base, 1, WORDS, s));
    edge(s, t, ordered);
    OK(fill(base + (2 << 20), 2, WORDS, t));
}

static void freed_async_on_the_wrong_stream(int ordered)
{
    CUdeviceptr c = 0;
    OK(cu.cuMemAllocAsync(&c, BYTES, s));
    edge(s, t, 1);
    OK(fill(c, 1, WORDS, t));
    edge(t, s, ordered);
    OK(cu.cuMemFreeAsync(c, s));
}

static void allocated_async_used_elsewhere(int ordered)
{
    CUdeviceptr c = 0, d = 0;
    OK(cu.cuMemAllocAsync(&c, 2 << 20, s));
    OK(fill(c, 1, WORDS, s));
    OK(cu.cuMemFreeAsync(c, s));
    OK(cu.cuMemAllocAsync(&d, 2 << 20, s));
    CHECK_EQ(c, d);
    edge(s, t, ordered);
    OK(fill(d, 2, WORDS, t));
}

static void pinned_overwritten(int ordered)
{
    uint32_t *host = NULL;
    OK(cu.cuMemHostAlloc((void **)&host, BYTES, 0));
    fake.tafake_host_write(host, BYTES);
    OK(cu.cuMemcpyHtoDAsync_v2(a, host, BYTES, s));
    if (ordered) {
        OK(cu.cuStreamSynchronize(s));
    }
    fake.tafake_host_write(host, 4);
}

static void pinned_read_too_early(int ordered)
{
    uint32_t *host = NULL;
    OK(cu.cuMemHostAlloc((void **)&host, BYTES, 0));
    OK(cu.cuMemcpyDtoHAsync_v2(host, a, BYTES, s));
    if (ordered) {
        OK(cu.cuStreamSynchronize(s));
    }
    fake.tafake_host_read(host + 10, 4);
}

static void pinned_freed_in_use(int ordered)
{
    uint32_t *host = NULL;
    OK(cu.cuMemHostAlloc((void **)&host, BYTES, 0));
    OK(cu.cuMemcpyHtoDAsync_v2(a, host, BYTES, s));
    if (ordered) {
        OK(cu.cuCtxSynchronize());
    }
    OK(cu.cuMemFreeHost(host));
}

static void unregistered_in_use(int ordered)
{
    static uint32_t mine[WORDS];
    OK(cu.cuMemHostRegister_v2(mine, sizeof mine, 0));
    OK(cu.cuMemcpyDtoHAsync_v2(mine, a, BYTES, s));
    if (ordered) {
        OK(cu.cuStreamSynchronize(s));
    }
    OK(cu.cuMemHostUnregister(mine));
    step(cu.cuCtxSynchronize());
}

/* The legacy stream orders itself with blocking streams, not with others. */
static void legacy_stream(int ordered)
{
    CUstream blocking = NULL;
    OK(cu.cuStreamCreate(&blocking, ordered ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING));
    OK(fill(a, 1, WORDS, blocking));
    OK(fill(a, 2, WORDS, NULL));
    OK(fill(a, 3, WORDS, blocking));
}

static void per_thread_stream(int ordered)
{
    OK(fill(a, 1, WORDS, CU_STREAM_PER_THREAD));
    OK(fill(a, 2, WORDS, ordered ? CU_STREAM_LEGACY : s));
}

/* A destroyed stream goes on with its work; only the context still knows it. */
static void destroyed_stream(int ordered)
{
    CUstream other = stream_new();
    OK(fill(a, 1, WORDS, other));
    OK(cu.cuStreamDestroy_v2(other));
    if (ordered) {
        OK(cu.cuCtxSynchronize());
    } else {
        OK(cu.cuStreamSynchronize(s));
    }
    OK(fill(a, 2, WORDS, s));
}

static void readers_and_a_writer(int ordered)
{
    OK(copy(b, a, WORDS, s));
    OK(copy(b + BYTES, a, WORDS, t)); /* two readers are right */
    edge(t, s, ordered);
    OK(fill(a, 1, WORDS, s));
}

/* A second reader must be ordered after the write too, though a first one already was. */
static void write_seen_by_one_reader(int ordered)
{
    CUstream u = stream_new();
    OK(fill(a, 1, WORDS, s));
    edge(s, t, 1);
    OK(copy(b, a, WORDS, t));
    edge(s, u, ordered);
    OK(copy(b + BYTES, a, WORDS, u));
}

/* Neighbours within one granule are not each other's business; overlapping is. */
static void neighbours(int ordered)
{
    OK(fill(a, 1, 64, s));
    OK(fill(a + (ordered ? 256 : 252), 2, 64, t));
}

static void used_after_free(int ordered)
{
    CUdeviceptr c = alloc(BYTES);
    if (!ordered) {
        OK(cu.cuMemFree_v2(c));
    }
    step(fill(c, 1, WORDS, s));
    step(cu.cuStreamSynchronize(s));
}

/* ---- graphs */
static CUgraphExec captured(CUstream stream, CUdeviceptr address, uint32_t value)
{
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    OK(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(fill(address, value, WORDS, stream));
    OK(add(address, 1, WORDS, stream));
    OK(cu.cuStreamEndCapture(stream, &graph));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphDestroy(graph));
    return exec;
}

static void graphs_sharing_memory(int ordered)
{
    CUgraphExec one = captured(s, a, 1), two = captured(s, a, 5);
    OK(cu.cuGraphLaunch(one, s));
    OK(cu.cuGraphLaunch(two, ordered ? s : t));
}

/* Launches of one executable graph come one after the other wherever they are launched. */
static void graph_and_eager_work(int ordered)
{
    CUgraphExec one = captured(s, a, 1);
    OK(cu.cuGraphLaunch(one, s));
    OK(cu.cuGraphLaunch(one, t));
    edge(t, s, ordered);
    OK(fill(a, 9, WORDS, s));
}

static void reuse_in_a_fork(int ordered)
{
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;
    OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(fill(b, 0, WORDS, s));
    order(s, t);
    OK(fill(a, 1, WORDS, t));
    if (!ordered) {
        OK(fill(a, 2, WORDS, s)); /* before the join */
    }
    order(t, s);
    OK(fill(a, 3, WORDS, s));
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuGraphLaunch(exec, s));
}

static void replay_of_replaced_memory(int ordered)
{
    CUdeviceptr c = alloc(4 << 20);
    CUgraphExec exec = captured(s, c, 1);
    OK(cu.cuGraphLaunch(exec, s));
    OK(cu.cuStreamSynchronize(s));
    if (!ordered) {
        CUdeviceptr again;
        OK(cu.cuMemFree_v2(c));
        again = alloc(4 << 20);
        CHECK_EQ(again, c);
    }
    OK(cu.cuGraphLaunch(exec, s));
}

static void graph_output_freed(int ordered)
{
    CUdeviceptr c = alloc(4 << 20);
    CUgraphExec exec = captured(s, c, 1);
    OK(cu.cuGraphLaunch(exec, s));
    if (ordered) {
        OK(cu.cuCtxSynchronize());
    }
    OK(cu.cuMemFree_v2(c));
}

static const struct { const char *name; void (*run)(int ordered); } scenarios[] = {
#define SCENARIO(name) {#name, name}
    SCENARIO(reuse_on_another_stream), SCENARIO(read_after_write), SCENARIO(write_after_read),
    SCENARIO(recorded_before_the_last_use), SCENARIO(polled), SCENARIO(query_of_a_stream), SCENARIO(freed_in_use),
    SCENARIO(freed_after_the_wrong_wait), SCENARIO(unmapped_in_use), SCENARIO(aliased),
    SCENARIO(freed_async_on_the_wrong_stream), SCENARIO(allocated_async_used_elsewhere), SCENARIO(pinned_overwritten),
    SCENARIO(pinned_read_too_early), SCENARIO(pinned_freed_in_use), SCENARIO(unregistered_in_use),
    SCENARIO(legacy_stream),
    SCENARIO(per_thread_stream), SCENARIO(destroyed_stream), SCENARIO(readers_and_a_writer),
    SCENARIO(write_seen_by_one_reader), SCENARIO(neighbours), SCENARIO(used_after_free),
    SCENARIO(graphs_sharing_memory),
    SCENARIO(graph_and_eager_work), SCENARIO(reuse_in_a_fork), SCENARIO(replay_of_replaced_memory),
    SCENARIO(graph_output_freed),
#undef SCENARIO
};

static void right_and_wrong_order(void)
{
    static const char *const configs[] = {"sched=lazy", "sched=eager", "sched=random:1", "sched=random:2",
                                          "sched=threads", "sched=lazy;addresses=scramble:3"};
    size_t i, c;
    for (i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        for (c = 0; c < 2 * sizeof configs / sizeof configs[0]; c++) {
            const int ordered = (int)(c & 1);
            uint64_t count;
            if (strstr(configs[c / 2], "scramble") != NULL && strstr(scenarios[i].name, "replaced") != NULL) {
                continue; /* needs the same address again */
            }
            if (!fake_open(configs[c / 2])) { return; }
            test_context("%s, %s, %s", scenarios[i].name, configs[c / 2], ordered ? "ordered" : "not ordered");
            s = stream_new();
            t = stream_new();
            a = alloc(BYTES);
            b = alloc(4 * BYTES);
            scenarios[i].run(ordered);
            count = fake.tafake_race_count();
            CHECK_EQ(count != 0, !ordered);
            if (ordered && count != 0) {
                printf("\n%s\n", fake.tafake_race_text(0));
            }
        }
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

static void a_report_tells_who_and_where(void)
{
    char address[32];
    const char *text;
    if (!fake_open("sched=lazy")) { return; }
    s = stream_new();
    t = stream_new();
    a = alloc(BYTES);
    fake.tafake_label("weights");
    OK(fill(a, 1, WORDS, s));
    fake.tafake_label("next batch");
    OK(fill(a + 512, 1, 16, t));
    fake.tafake_label(NULL);
    CHECK_EQ(fake.tafake_race_count(), 1);
    text = fake.tafake_race_text(0);
    CHECK(text != NULL);
    if (text != NULL) {
        (void)snprintf(address, sizeof address, "0x%llx", a + 512);
        CHECK(strstr(text, "fill32 'weights'") != NULL);
        CHECK(strstr(text, "fill32 'next batch'") != NULL);
        CHECK(strstr(text, "64 bytes") != NULL);
        CHECK(strstr(text, address) != NULL);
    }
    CHECK(fake.tafake_race_text(1) == NULL);
    fake.tafake_races_clear();
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

/* ---- random programs */
enum { STREAMS = 4, BLOCKS = 6, HOST = STREAMS, STEPS = 40 };

#if defined(__SANITIZE_THREAD__)
enum { SEEDS = 100 }; /* slow there */
#else
enum { SEEDS = 1000 };
#endif

/* The same clocks once more, kept by the test, to know which waits are needed. */
struct model {
    uint32_t clock[STREAMS + 1][STREAMS + 1];
    struct { uint32_t written_by, written_at, read_at[STREAMS], value; } blocks[BLOCKS];
    uint32_t waits, races; /* accesses that were left unordered */
};

static void model_join(struct model *model, uint32_t into, uint32_t from)
{
    uint32_t i;
    for (i = 0; i <= STREAMS; i++) {
        if (model->clock[from][i] > model->clock[into][i]) {
            model->clock[into][i] = model->clock[from][i];
        }
    }
}

/* Makes `to` come after `from` if it does not yet, unless that is the wait to leave out. */
static void model_order(struct model *model, CUstream *streams, uint32_t from, uint32_t time, uint32_t to,
                        uint32_t left_out)
{
    if (time > model->clock[to][from]) {
        if (model->waits++ == left_out) {
            return;
        }
        if (to == HOST) {
            step(cu.cuStreamSynchronize(streams[from]));
        } else {
            order(streams[from], streams[to]);
        }
        model_join(model, to, from);
    }
}

static int model_unordered(const struct model *model, uint32_t block, uint32_t agent, int write)
{
    uint32_t i;
    int unordered = model->blocks[block].written_at > model->clock[agent][model->blocks[block].written_by];
    for (i = 0; write && i < STREAMS; i++) {
        unordered |= model->blocks[block].read_at[i] > model->clock[agent][i];
    }
    return unordered;
}

static void model_after_all(struct model *model, CUstream *streams, uint32_t block, uint32_t agent, uint32_t left_out)
{
    uint32_t i;
    if (model->blocks[block].written_at != 0) {
        model_order(model, streams, model->blocks[block].written_by, model->blocks[block].written_at, agent, left_out);
    }
    for (i = 0; i < STREAMS; i++) {
        model_order(model, streams, i, model->blocks[block].read_at[i], agent, left_out);
    }
    model->races += (uint32_t)model_unordered(model, block, agent, 1); /* another wait may imply the one left out */
}

/* One program; tells how many waits it needed, and how many accesses are unordered. */
static uint32_t random_program(uint64_t seed, uint32_t left_out, uint32_t *races)
{
    CUdeviceptr blocks[BLOCKS], errors[STREAMS];
    CUstream streams[STREAMS];
    struct model model;
    uint32_t i, step_number;
    memset(&model, 0, sizeof model);
    for (i = 0; i < STREAMS; i++) {
        streams[i] = stream_new();
        errors[i] = alloc(4);
        OK(fill(errors[i], 0, 1, streams[i]));
    }
    for (i = 0; i < BLOCKS; i++) {
        blocks[i] = alloc(BYTES);
    }
    for (step_number = 0; step_number < STEPS; step_number++) {
        const uint32_t block = test_below(&seed, BLOCKS), stream = test_below(&seed, STREAMS);
        const uint32_t choice = test_below(&seed, 10);
        uint32_t now;
        if (choice == 0) { /* the host frees it, and gets another */
            model_after_all(&model, streams, block, HOST, left_out);
            step(cu.cuMemFree_v2(blocks[block]));
            step(cu.cuMemAlloc_v2(&blocks[block], BYTES));
            memset(&model.blocks[block], 0, sizeof model.blocks[block]);
            continue;
        }
        model_join(&model, stream, HOST);
        if (choice < 6 || model.blocks[block].written_at == 0) {
            model_after_all(&model, streams, block, stream, left_out);
            now = ++model.clock[stream][stream];
            memset(&model.blocks[block], 0, sizeof model.blocks[block]);
            model.blocks[block].written_by = stream;
            model.blocks[block].written_at = now;
            model.blocks[block].value = step_number + 1;
            step(fill(blocks[block], step_number + 1, WORDS, streams[stream]));
        } else {
            model_order(&model, streams, model.blocks[block].written_by, model.blocks[block].written_at, stream,
                        left_out);
            model.races += (uint32_t)model_unordered(&model, block, stream, 0);
            now = ++model.clock[stream][stream];
            model.blocks[block].read_at[stream] = now;
            step(check(errors[stream], blocks[block], model.blocks[block].value, WORDS, streams[stream]));
        }
    }
    if (left_out == UINT32_MAX) {
        OK(cu.cuCtxSynchronize());
        for (i = 0; i < STREAMS; i++) {
            CHECK_EQ(read32(errors[i]), 0);
        }
    }
    *races = model.races;
    return model.waits;
}

static void random_programs(void)
{
    uint64_t seed, races, ran = 0;
    char config[64];
    for (seed = 1; seed <= SEEDS; seed++) {
        uint64_t choice = seed;
        uint32_t waits, expected = 0;
        if (seed % 50 == 0) {
            (void)snprintf(config, sizeof config, "sched=threads:%llu;fill=4096", (unsigned long long)seed);
        } else {
            (void)snprintf(config, sizeof config, "%s:%llu;fill=4096", seed % 4 == 0 ? "sched=lazy" : seed % 4 == 1 ?
                           "sched=eager" : "sched=random", (unsigned long long)seed);
        }
        test_context("seed %llu, %s", (unsigned long long)seed, config);
        if (!fake_open(config)) { return; }
        waits = random_program(seed, UINT32_MAX, &expected);
        CHECK_EQ(expected, 0);
        races = fake.tafake_race_count();
        CHECK_EQ(races, 0);
        if (races != 0) {
            printf("\n%s\n", fake.tafake_race_text(0));
        }
        if (waits != 0) {
            if (!fake_open(config)) { return; }
            (void)random_program(seed, test_below(&choice, waits), &expected);
            CHECK_EQ(fake.tafake_race_count() != 0, expected != 0);
            ran += expected != 0;
        }
    }
    test_context("%s", "");
    CHECK_GT(ran, SEEDS * 85 / 100);
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

/* ---- random programs over the driver's own allocator: what it hands from stream to stream is ordered by it */
enum { SLOTS = 8 };

static void random_pool_step(uint64_t *seed, CUstream *streams, CUdeviceptr *errors, CUdeviceptr *slots,
                             uint32_t *values, uint32_t *homes)
{
    const uint32_t slot = test_below(seed, SLOTS), stream = test_below(seed, STREAMS);
    if (slots[slot] == 0) {
        const size_t bytes = (size_t)BYTES << test_below(seed, 11);
        homes[slot] = stream;
        values[slot] = (uint32_t)test_random(seed);
        OK(cu.cuMemAllocAsync(&slots[slot], bytes, streams[stream]));
        OK(fill(slots[slot], values[slot], WORDS, streams[stream]));
    } else if (test_below(seed, 2) == 0) {
        if (stream != homes[slot]) {
            order(streams[homes[slot]], streams[stream]);
        }
        OK(check(errors[stream], slots[slot], values[slot], WORDS, streams[stream]));
        homes[slot] = stream; /* which has seen all before it */
    } else {
        OK(check(errors[homes[slot]], slots[slot], values[slot], WORDS, streams[homes[slot]]));
        OK(cu.cuMemFreeAsync(slots[slot], streams[homes[slot]]));
        slots[slot] = 0;
    }
    if (test_below(seed, 12) == 0) {
        OK(cu.cuStreamSynchronize(streams[stream]));
    }
}

static void random_pools(void)
{
    static const char *const schedulers[] = {"lazy", "eager", "random", "threads"};
    uint64_t number;
    for (number = 1; number <= SEEDS / 4; number++) {
        CUdeviceptr slots[SLOTS] = {0}, errors[STREAMS];
        uint32_t values[SLOTS] = {0}, homes[SLOTS] = {0}, i;
        uint64_t seed = number, threshold = number % 3 == 0 ? UINT64_MAX : 0;
        CUstream streams[STREAMS];
        CUmemoryPool pool = NULL;
        tafake_live live;
        char config[64];
        (void)snprintf(config, sizeof config, "sched=%s:%llu;fill=4096;cap=256M",
                       schedulers[number % 16 == 0 ? 3 : number % 3], (unsigned long long)number);
        test_context("seed %llu, %s", (unsigned long long)number, config);
        if (!fake_open(config)) { return; }
        OK(cu.cuDeviceGetDefaultMemPool(&pool, 0));
        OK(cu.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
        for (i = 1; i <= 3; i++) { /* the ways of reuse */
            int on_or_off = (int)test_below(&seed, 2);
            OK(cu.cuMemPoolSetAttribute(pool, (CUmemPool_attribute)i, &on_or_off));
        }
        for (i = 0; i < STREAMS; i++) {
            streams[i] = stream_new();
            errors[i] = alloc(4);
            OK(fill(errors[i], 0, 1, streams[i]));
        }
        for (i = 0; i < 60; i++) {
            random_pool_step(&seed, streams, errors, slots, values, homes);
        }
        for (i = 0; i < SLOTS; i++) {
            if (slots[i] != 0) {
                OK(cu.cuMemFreeAsync(slots[i], streams[homes[i]]));
            }
        }
        OK(cu.cuCtxSynchronize());
        for (i = 0; i < STREAMS; i++) {
            CHECK_EQ(read32(errors[i]), 0);
            OK(cu.cuMemFree_v2(errors[i]));
        }
        OK(cu.cuMemPoolTrimTo(pool, 0));
        fake.tafake_count_live(&live);
        CHECK_EQ(live.used_bytes + live.allocations, 0);
        CHECK_EQ(fake.tafake_race_count(), 0);
        if (fake.tafake_race_count() != 0) {
            printf("\n%s\n", fake.tafake_race_text(0));
        }
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

TEST_MAIN(TEST_CASE(right_and_wrong_order), TEST_CASE(a_report_tells_who_and_where), TEST_CASE(random_programs),
          TEST_CASE(random_pools))
