/* test_graph_random.c - random programs of captures: nested scopes, forks and joins, frees in every order, eager work in
   between, shared graph pools, captures that fail, replays in order, graphs that come and go. Each is right by
   construction, so that under no scheduler anything may be reported; what the graphs compute is compared with a model.
   And the same with one rule broken, which must be reported. */
#include "graph.h"

enum { GRAPHS = 3, LIVE = 6, POOLS = 2, STEPS = 24 };

static uint64_t seed, state;

static uint32_t below(uint32_t n)
{
    return test_below(&state, n);
}

/* A graph writes a number into a word of its own for each step of its capture; a replay must write the same. */
static struct recorded { CUgraphExec exec; uint32_t expected; CUdeviceptr out; int broken; } recorded[GRAPHS];
static struct block { CUdeviceptr at; CUstream stream; int words; int forked; } live[LIVE];
static ta_graph_pool *of[POOLS];
static CUstream eager;
static int breaks; /* leaves announcements out */
static int forks;  /* the capture has both streams in it */
static uint64_t broken, broken_launches;

static void drop(int i)
{
    struct block *block = &live[i];
    if (block->at != 0) {
        const int breaking = breaks && forks && below(4) == 0;
        if (breaking) { /* used by the other stream, which is not announced, and its memory wanted again at once */
            CUstream other = block->stream == s ? t : s;
            order(block->stream, other);
            OK(add(block->at, 1, 64, other));
        } else if (block->forked) {
            CHECK_OK(ta_pool_record_use(pool, pointer(block->at), STREAM(block->stream == s ? t : s)));
        }
        give(block->at);
        if (breaking) {
            broken++;
            block->at = take((size_t)block->words * 4, block->stream);
            OK(fill(block->at, 0xBBBB, (uint32_t)block->words, block->stream));
            give(block->at);
        }
        block->at = 0;
    }
}

/* One capture: blocks are taken on s and on t, filled, added up into the output, freed. Returns the expected sum. */
static uint32_t capture_steps(CUdeviceptr out, int *forked)
{
    uint32_t sum = 0, i, steps = 3 + below(STEPS);
    *forked = forks = 0;
    for (i = 0; i < steps; i++) {
        const int at = (int)below(LIVE);
        CUstream stream = *forked && below(2) == 0 ? t : s;
        switch (below(8)) {
        case 0: /* fork, or join */
            order(*forked ? t : s, *forked ? s : t);
            order(*forked ? s : t, *forked ? t : s);
            *forked = forks = 1;
            break;
        case 1:
        case 2:
        case 3:
            drop(at);
            live[at].stream = stream;
            live[at].forked = 0;
            live[at].words = 64 + (int)below(below(10) == 0 ? 300000 : 4000);
            live[at].at = take((size_t)live[at].words * 4, stream);
            OK(fill(live[at].at, i, (uint32_t)live[at].words, stream));
            break;
        case 4: /* the other stream uses it, with events around that */
            if (live[at].at != 0 && *forked) {
                CUstream other = live[at].stream == s ? t : s;
                order(live[at].stream, other);
                OK(add(live[at].at, 1, 64, other));
                if (below(2) == 0) {
                    order(other, live[at].stream);
                } else {
                    live[at].forked = 1;
                }
            }
            break;
        case 5: { /* eager work beside it, on memory of its own */
            CUdeviceptr beside = take(4096 + below(8) * 65536, eager);
            OK(fill(beside, 0xEEEE, 1024, eager));
            give(beside);
            break;
        }
        default:
            drop(at);
            break;
        }
        sum += i;
        OK(add(out, i, 1, s));
    }
    for (i = 0; i < LIVE; i++) {
        drop((int)i);
    }
    if (*forked) {
        order(t, s);
    }
    return sum;
}

static void record_one(int g)
{
    ta_graph_pool *mine = of[below(POOLS)], *nested = of[below(POOLS)];
    const int fails = below(6) == 0, nests = nested != mine && below(3) == 0, late = below(2) != 0;
    CUgraph graph = NULL;
    ta_capture_report report;
    int forked = 0;
    if (!late) {
        CHECK_OK(ta_capture_enter(mine, STREAM(s)));
    }
    begin(s);
    if (late) {
        CHECK_OK(ta_capture_enter(mine, STREAM(s)));
    }
    if (nests) {
        CHECK_OK(ta_capture_enter(nested, STREAM(s)));
    }
    recorded[g].broken = (int)broken;
    recorded[g].expected = capture_steps(recorded[g].out, &forked);
    recorded[g].broken = (int)broken != recorded[g].broken;
    if (nests) {
        CHECK_OK(ta_capture_leave(nested, STREAM(s), 0, NULL));
        CHECK_RESULT(refused(0, s), TA_ERROR_INVALID_SIZE);
    }
    if (fails) {
        CHECK_CU(cu.cuStreamQuery(eager), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        CHECK_CU(cu.cuStreamEndCapture(s, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    } else {
        graph = end(s);
    }
    CHECK_OK(ta_capture_leave(mine, STREAM(s), fails, &report));
    CHECK_EQ(report.live_count, 0);
    if (!fails) {
        CHECK_OK(ta_graph_pool_attach(mine, (uint64_t)(uintptr_t)graph));
        if (nests) {
            CHECK_OK(ta_graph_pool_attach(nested, (uint64_t)(uintptr_t)graph));
        }
        recorded[g].exec = instantiate(graph);
        OK(cu.cuGraphDestroy(graph));
    }
}

static void program(uint32_t rounds)
{
    uint32_t sums[GRAPHS] = {0, 0, 0}, i, round;
    int g;
    for (g = 0; g < GRAPHS; g++) {
        recorded[g].exec = NULL;
        recorded[g].out = take(256, s);
        OK(fill(recorded[g].out, 0, 64, s));
    }
    memset(live, 0, sizeof live);
    for (round = 0; round < rounds; round++) {
        g = (int)below(GRAPHS);
        if (recorded[g].exec == NULL) {
            record_one(g);
        } else if (below(4) == 0) {
            OK(cu.cuGraphExecDestroy(recorded[g].exec)); /* perhaps in flight */
            recorded[g].exec = NULL;
        } else {
            OK(cu.cuGraphLaunch(recorded[g].exec, s)); /* all on one stream: in order */
            sums[g] += recorded[g].expected;
            broken_launches += (uint64_t)recorded[g].broken;
        }
        if (below(5) == 0) {
            CUdeviceptr beside = take(1 << (8 + below(14)), eager);
            OK(fill(beside, 1, 64, eager));
            give(beside);
        }
        if (below(10) == 0) {
            CHECK_OK(ta_pool_trim(pool, 0, NULL));
        }
        if (below(10) == 0) {
            const ta_result result = ta_graph_pool_trim(of[below(POOLS)]);
            CHECK(result == TA_OK || result == TA_ERROR_BUSY);
        }
    }
    OK(cu.cuStreamSynchronize(s));
    for (i = 0; i < GRAPHS; i++) {
        CHECK_EQ(breaks || read32(recorded[i].out) == sums[i], 1);
        if (recorded[i].exec != NULL) {
            OK(cu.cuGraphExecDestroy(recorded[i].exec));
        }
        give(recorded[i].out);
    }
}

static void run_one(const char *scheduler, uint64_t number)
{
    char config[96];
    int i;
    seed = number;
    state = number * 0x9E3779B97F4A7C15u + 1;
    (void)snprintf(config, sizeof config, "%s;fill=4096", scheduler);
    if (!world_open(config, TA_CUDA_RANGES, NULL)) {
        return;
    }
    test_context("program %llu, %s", (unsigned long long)number, scheduler);
    s = stream_new();
    t = stream_new();
    eager = stream_new();
    for (i = 0; i < POOLS; i++) {
        of[i] = graphs_new(1);
    }
    program(8 + below(12));
    OK(cu.cuCtxSynchronize());
    fake.tafake_settle();
    for (i = 0; i < POOLS; i++) {
        CHECK_EQ(stats_of(of[i]).memory.block_count, 0);
        CHECK_EQ(stats_of(of[i]).graph_count, 0);
        CHECK_OK(ta_pool_check(of[i]->memory));
        CHECK_OK(ta_graph_pool_destroy(of[i]));
    }
    check_books(pool);
    OK(cu.cuStreamDestroy_v2(eager));
    graphs = NULL;
    if (breaks) {
        fake.tafake_races_clear();
    }
    graphs_close();
}

/* Each scheduler has programs of its own: 1,000 in all. --seed N begins elsewhere; a failure names its program. */
enum { LAZY = 300, EAGER = 250, RANDOM = 300, ON_THREADS = 150 };

static void programs_under(const char *kind, uint32_t first, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count && test_now.failures == 0; i++) {
        char scheduler[64];
        const uint64_t number = test_now.seed - TEST_SEED_DEFAULT + first + i;
        (void)snprintf(scheduler, sizeof scheduler, strchr(kind, ':') != NULL ? "%s%llu" : "%s", kind,
                       (unsigned long long)number);
        run_one(scheduler, number);
    }
}

static void programs_lazy(void)
{
    programs_under("sched=lazy", 0, LAZY);
}

static void programs_eager(void)
{
    programs_under("sched=eager", LAZY, EAGER);
}

static void programs_random(void)
{
    programs_under("sched=random:", LAZY + EAGER, RANDOM);
}

static void programs_threads(void)
{
    programs_under("sched=threads:", LAZY + EAGER + RANDOM, ON_THREADS);
}

/* The checker sees announcements that are missing: in programs that replay a graph where one was left out. */
static void programs_that_break_a_rule(void)
{
    uint32_t i, with = 0, told = 0;
    breaks = 1;
    for (i = 0; i < 60; i++) {
        const uint64_t before = broken_launches;
        seed = i;
        state = (uint64_t)i * 0x9E3779B97F4A7C15u + 1;
        if (!world_open("sched=lazy;fill=4096", TA_CUDA_RANGES, NULL)) {
            return;
        }
        s = stream_new();
        t = stream_new();
        eager = stream_new();
        of[0] = graphs_new(1);
        of[1] = graphs_new(1);
        program(20);
        OK(cu.cuCtxSynchronize());
        fake.tafake_settle();
        with += broken_launches != before;
        told += broken_launches != before && take_reports() != 0;
        (void)take_reports();
        CHECK_OK(ta_graph_pool_destroy(of[0]));
        CHECK_OK(ta_graph_pool_destroy(of[1]));
        OK(cu.cuStreamDestroy_v2(eager));
        graphs = NULL;
        graphs_close();
    }
    breaks = 0;
    printf("%u of %u found out ... ", told, with);
    CHECK_GT(with, 30);
    CHECK_GE(told * 10, with * 9); /* in the others the memory happened to be another one */
}

TEST_MAIN(TEST_CASE(programs_lazy), TEST_CASE(programs_eager), TEST_CASE(programs_random), TEST_CASE(programs_threads),
          TEST_CASE(programs_that_break_a_rule))
