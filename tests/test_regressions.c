/* test_regressions.c - faults that reviewers found and that were mended: one small case for each, named after what
   holds now; the line above it says what used to go wrong. What may hang runs in a child process under an alarm. */
#if !defined(_WIN32)
    #include <sys/types.h>
    #include <sys/wait.h>
    #include <unistd.h>
#endif
#include <pthread.h>
#include <sched.h>

#include "implementation.h"
#include "backends.h"

#if defined(__SANITIZE_THREAD__)
    #define SLOWER 8
#elif defined(__SANITIZE_ADDRESS__)
    #define SLOWER 2
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define SLOWER 8
    #elif __has_feature(address_sanitizer)
        #define SLOWER 2
    #endif
#endif
#ifndef SLOWER
    #define SLOWER 1
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define CHILD_SECONDS 20 /* far above what a case takes; only a hanging one meets it */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)

/*---------------------------------------------------------------------------------------------------------
  Tools
  -------------------------------------------------------------------------------------------------------*/

/* Runs the work in a child and waits for it: its checks fail there, its exit status fails here, and so does a hang. */
static void in_a_child(void (*work)(void))
{
#if defined(_WIN32)
    (void)work;
    TEST_SKIP("no fork here");
#else
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        test_now.failures = 0;
        work();
        fflush(NULL);
        _exit(test_now.failures == 0 ? 0 : 1);
    }
    CHECK_GT(child, 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

static ta_pool_desc zero_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

/* A pool that must come into being; NULL is the default desc. */
static ta_pool *open_pool(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    CHECK_OK(ta_pool_create(desc, &pool));
    if (pool == NULL) {
        fprintf(test_now.out, "no pool, no test\n");
        exit(1);
    }
    return pool;
}

static void close_pool(ta_pool *pool)
{
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

static ta_stats stats_of(ta_pool *pool)
{
    ta_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    return stats;
}

static ta_budget *open_budget(size_t limit_bytes)
{
    ta_budget_desc desc;
    ta_budget *budget = NULL;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = limit_bytes;
    CHECK_OK(ta_budget_create(&desc, &budget));
    if (budget == NULL) {
        fprintf(test_now.out, "no budget, no test\n");
        exit(1);
    }
    return budget;
}

static ta_request request_of(size_t size_bytes, ta_stream stream, uint32_t flags)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size_bytes;
    request.stream = stream;
    request.flags = flags;
    return request;
}

static int host_has_ranges(void)
{
    ta_backend host = ta_backend_host();
    ta_backend_info info;
    memset(&info, 0, sizeof info);
    host.vtable->info(host.self, &info);
    return (info.caps & TA_CAP_RANGES) != 0;
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument)
{
    if (pthread_create(thread, NULL, body, argument) != 0) {
        abort(); /* the test cannot do without */
    }
}

/* Only where an alarm watches. */
static void wait_for(const uint32_t *counter, uint32_t value)
{
    while (LOAD(counter) < value) {
        (void)sched_yield();
    }
}

/* Waits until the counter has come that far, but not for ever: 1 if it has. */
static int wait_a_while(const uint32_t *counter, uint32_t value)
{
    int i;
    for (i = 0; i < 5000 && LOAD(counter) < value; i++) {
        (void)sched_yield();
    }
    return LOAD(counter) >= value;
}

/* Every create function refuses the backend, and so does the check. */
static void check_is_refused(ta_backend backend)
{
    ta_pool_desc pool_desc = zero_desc();
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_budget_desc budget_desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_budget *budget = NULL;
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(&budget_desc, 0, sizeof budget_desc);
    pool_desc.backend = arena_desc.backend = direct_desc.backend = budget_desc.backend = backend;
    CHECK_NE(ta_backend_check(backend), TA_OK);
    CHECK_NE(ta_pool_create(&pool_desc, &pool), TA_OK);
    CHECK_NE(ta_arena_create(&arena_desc, &arena), TA_OK);
    CHECK_NE(ta_direct_create(&direct_desc, &direct), TA_OK);
    CHECK_NE(ta_budget_create(&budget_desc, &budget), TA_OK);
    CHECK(pool == NULL && arena == NULL && direct == NULL && budget == NULL);
}

/*---------------------------------------------------------------------------------------------------------
  A ledger: ordered host segments with many streams, that notes when one comes back before the work is finished.
  -------------------------------------------------------------------------------------------------------*/
#define LEDGER_STREAMS 24

typedef struct ledger {
    ta_backend_vtable table;
    uint32_t launched[LEDGER_STREAMS], finished[LEDGER_STREAMS];
    uint32_t segments, early;
} ledger;

static void ledger_info(void *self, ta_backend_info *out)
{
    ta_backend host = ta_backend_host();
    (void)self;
    host.vtable->info(host.self, out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_HOST_ACCESS | TA_CAP_ORDERED;
    out->range_bytes_max = 0;
}

static ta_result ledger_alloc(void *self, size_t size_bytes, void **out)
{
    ta_backend host = ta_backend_host();
    ((ledger *)self)->segments++;
    return host.vtable->alloc(host.self, size_bytes, out);
}

static ta_result ledger_free(void *self, void *ptr, size_t size_bytes)
{
    ledger *l = (ledger *)self;
    ta_backend host = ta_backend_host();
    int s;
    for (s = 0; s < LEDGER_STREAMS; s++) {
        l->early += l->finished[s] < l->launched[s];
    }
    l->segments--;
    return host.vtable->free(host.self, ptr, size_bytes);
}

static ta_result ledger_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    *out_ticket = stream << 32 | ((ledger *)self)->launched[stream];
    return TA_OK;
}

static ta_result ledger_is_done(void *self, uint64_t ticket)
{
    return ((ledger *)self)->finished[ticket >> 32] >= (uint32_t)ticket ? TA_OK : TA_ERROR_NOT_READY;
}

static ta_result ledger_wait(void *self, ta_stream stream, uint64_t ticket)
{
    (void)self;
    (void)stream;
    (void)ticket;
    return TA_OK;
}

static ta_result ledger_sync(void *self, uint64_t ticket)
{
    uint32_t *finished = &((ledger *)self)->finished[ticket >> 32];
    *finished = *finished < (uint32_t)ticket ? (uint32_t)ticket : *finished;
    return TA_OK;
}

static ta_backend ledger_init(ledger *l)
{
    ta_backend backend;
    memset(l, 0, sizeof *l);
    l->table.struct_bytes = sizeof(ta_backend_vtable);
    l->table.name = "ledger";
    l->table.info = ledger_info;
    l->table.alloc = ledger_alloc;
    l->table.free = ledger_free;
    l->table.mark = ledger_mark;
    l->table.is_done = ledger_is_done;
    l->table.wait = ledger_wait;
    l->table.sync = ledger_sync;
    backend.vtable = &l->table;
    backend.self = l;
    return backend;
}

/*---------------------------------------------------------------------------------------------------------
  Threads that exit, fork, and what one of them may not do to another
  -------------------------------------------------------------------------------------------------------*/
typedef struct leaver {
    ta_pool *pool;
    uint32_t *ready;
    const uint32_t *go;
} leaver;

static void *leaver_thread(void *argument)
{
    leaver *l = (leaver *)argument;
    void *ptr[64];
    size_t i;
    for (i = 0; i < 64; i++) {
        ptr[i] = ta_pool_alloc(l->pool, 100 + i * 16, NULL);
    }
    for (i = 0; i < 64; i++) {
        (void)ta_pool_free(l->pool, ptr[i]);
    }
    (void)ADD(l->ready, 1);
    while (!LOAD(l->go)) { /* awake, so as to exit at the very moment */
    }
    return NULL;
}

static void leave_while_destroyed(void)
{
    int round, i;
    for (round = 0; round < 150 / SLOWER; round++) {
        uint32_t ready = 0, go = 0;
        pthread_t threads[3];
        leaver l;
        l.pool = open_pool(NULL);
        l.ready = &ready;
        l.go = &go;
        for (i = 0; i < 3; i++) {
            start(&threads[i], leaver_thread, &l);
        }
        wait_for(&ready, 3);
        STORE(&go, 1);
        CHECK_OK(ta_pool_destroy(l.pool));
        for (i = 0; i < 3; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        }
    }
}

/* A thread that exited while its pool was destroyed freed its slot under the hands of the destroyer. */
static void exiting_thread_waits_for_the_destroyer(void)
{
    in_a_child(leave_while_destroyed);
}

typedef struct sibling {
    ta_pool *pool;
    size_t size_bytes;
    uint32_t empties;
    uint32_t stop;
} sibling;

static void *sibling_thread(void *argument)
{
    sibling *s = (sibling *)argument;
    while (!LOAD(&s->stop)) {
        void *ptr = ta_pool_alloc(s->pool, s->size_bytes, NULL);
        (void)ta_pool_free(s->pool, ptr);
        if (s->empties) {
            (void)ta_pool_empty_cache(s->pool);
        }
    }
    return NULL;
}

static void reclaim_beside_one_thread(void)
{
    ta_budget *budget = open_budget(8 * MIB);
    ta_pool_desc desc = zero_desc();
    ta_pool *alone;
    sibling other;
    pthread_t thread;
    void *ptr[16] = {NULL};
    uint64_t random = test_now.seed;
    int i;
    memset(&other, 0, sizeof other);
    desc.budget = budget;
    other.pool = open_pool(&desc);
    other.size_bytes = 6 * MIB;
    other.empties = 1;
    desc.single_threaded = 1;
    alone = open_pool(&desc);
    start(&thread, sibling_thread, &other);
    for (i = 0; i < 10000 / SLOWER; i++) {
        uint32_t k = test_below(&random, 16);
        CHECK_OK(ta_pool_free(alone, ptr[k]));
        ptr[k] = ta_pool_alloc(alone, 70000 + test_below(&random, 131072), NULL);
        if (ptr[k] != NULL) {
            memset(ptr[k], 1, 64);
        }
    }
    STORE(&other.stop, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close_pool(alone);
    close_pool(other.pool);
    CHECK_OK(ta_budget_destroy(budget));
}

/* A pool made its sibling of one thread give memory back, from another thread and without any lock. */
static void siblings_leave_pools_of_one_thread_alone(void)
{
    in_a_child(reclaim_beside_one_thread);
}

static ta_pool *forked_pool;

static void use_what_goes_on_after_fork(void)
{
    ta_result result = TA_OK;
    CHECK(ta_pool_alloc(forked_pool, 64 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
}

static void fork_beside_siblings(void)
{
    ta_budget *budget = open_budget(16 * MIB);
    ta_pool_desc desc = zero_desc();
    sibling other;
    pthread_t threads[2];
    int i;
    memset(&other, 0, sizeof other);
    desc.budget = budget;
    other.pool = open_pool(&desc);
    other.size_bytes = 100000;
    desc.single_threaded = 1;
    forked_pool = open_pool(&desc);
    for (i = 0; i < 2; i++) {
        start(&threads[i], sibling_thread, &other);
    }
    for (i = 0; i < 20 && test_now.failures == 0; i++) {
        int pause;
        for (pause = 0; pause < 20; pause++) { /* so that the threads are somewhere else each time */
            (void)sched_yield();
        }
        in_a_child(use_what_goes_on_after_fork);
    }
    STORE(&other.stop, 1);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    close_pool(forked_pool);
    close_pool(other.pool);
    CHECK_OK(ta_budget_destroy(budget));
}

/* A child's single-threaded pool waited for ever for a sibling's gate, held by a thread that only the parent has. */
static void child_asks_no_forked_sibling(void)
{
    in_a_child(fork_beside_siblings);
}

/*---------------------------------------------------------------------------------------------------------
  Backends that are refused
  -------------------------------------------------------------------------------------------------------*/

/* An alignment of 16 or 32 bytes made tables of size classes that were written past their end. */
static void alignments_below_64_are_refused(void)
{
    tb_counting counting;
    ta_backend backend = tb_counting_init(&counting, ta_backend_host(), 0);
    TEST_ALLOW_ASSERTS();
    for (counting.given.alignment_bytes = 1; counting.given.alignment_bytes < 64; counting.given.alignment_bytes *= 2) {
        check_is_refused(backend);
    }
    CHECK_EQ(counting.call_count, 0);
    counting.given.alignment_bytes = 64;
    CHECK_OK(ta_backend_check(backend));
    tb_counting_end(&counting);
}

/* A bound of the ranges that is no multiple of the granularity was passed on to reserve and commit. */
static void range_bounds_are_whole_granules(void)
{
    tb_counting counting;
    ta_backend backend = tb_counting_init(&counting, ta_backend_host(), TA_CAP_SEGMENTS);
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    if (!host_has_ranges()) {
        tb_counting_end(&counting);
        TEST_SKIP("no ranges here");
        return;
    }
    TEST_ALLOW_ASSERTS();
    counting.given.range_bytes_max = 1000000;
    check_is_refused(backend);
    counting.given.range_bytes_max = counting.given.granularity_bytes * 256 + 1;
    check_is_refused(backend);
    CHECK_EQ(counting.call_count, 0);
    counting.given.range_bytes_max = counting.given.granularity_bytes * 256;
    CHECK_OK(ta_backend_check(backend));
    desc.backend = backend;
    pool = open_pool(&desc);
    (void)ta_pool_alloc(pool, 500000, NULL);
    (void)ta_pool_alloc(pool, 499000, NULL);
    close_pool(pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* A failing ta_backend_upstream left *out as it was: garbage, or all-zero and so the host backend without any limit. */
static void failed_upstreams_are_refused_everywhere(void)
{
    ta_upstream state;
    ta_backend backend;
    ta_allocator none;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool = open_pool(NULL);
    tb_clock clock;
    TEST_ALLOW_ASSERTS();
    memset(&none, 0, sizeof none);
    memset(&backend, 0x5a, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 100, &backend), TA_ERROR_INVALID_ARGUMENT);
    check_is_refused(backend);
    memset(&backend, 0, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 128, &backend), TA_ERROR_INVALID_ARGUMENT);
    check_is_refused(backend);
    memset(&backend, 0, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(NULL, ta_pool_allocator(pool), 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    check_is_refused(backend);
    memset(&backend, 0, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(&state, none, 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    check_is_refused(backend);
    CHECK_OK(ta_pool_dispose(pool));
    memset(&backend, 0, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 0, &backend), TA_ERROR_DISPOSED);
    check_is_refused(backend);
    CHECK_OK(ta_pool_destroy(pool));
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    pool = open_pool(&desc);
    memset(&backend, 0, sizeof backend);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 0, &backend), TA_ERROR_UNSUPPORTED);
    check_is_refused(backend);
    close_pool(pool);
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

/*---------------------------------------------------------------------------------------------------------
  Streams
  -------------------------------------------------------------------------------------------------------*/

/* An arena forgot a stream once it had waited for it, though blocks of that stream were live and used on. */
static void arenas_wait_again_for_streams_in_use(void)
{
    ledger l;
    ta_arena_desc desc;
    ta_arena *arena = NULL;
    ta_allocator allocator;
    ta_request request = request_of(1000, 3, 0);
    memset(&desc, 0, sizeof desc);
    desc.backend = ledger_init(&l);
    CHECK_OK(ta_arena_create(&desc, &arena));
    REQUIRE(arena != NULL);
    allocator = ta_arena_allocator(arena);
    CHECK(ta_allocator_alloc(allocator, &request, NULL) != NULL);
    l.launched[3]++;
    CHECK_OK(ta_allocator_empty_cache(allocator));
    l.launched[3]++;
    CHECK_OK(ta_arena_reset(arena, 0));
    CHECK_EQ(l.early, 0);
    CHECK_EQ(l.segments, 0);
    CHECK_OK(ta_arena_destroy(arena));
}

/* An arena kept sixteen streams in mind and forgot one for each that came after, with its blocks still live. */
static void arenas_wait_for_any_number_of_streams(void)
{
    ledger l;
    ta_arena_desc desc;
    ta_arena *arena = NULL;
    ta_stream s;
    memset(&desc, 0, sizeof desc);
    desc.backend = ledger_init(&l);
    CHECK_OK(ta_arena_create(&desc, &arena));
    REQUIRE(arena != NULL);
    for (s = 0; s < LEDGER_STREAMS; s++) {
        ta_request request = request_of(1000, s, 0);
        CHECK(ta_allocator_alloc(ta_arena_allocator(arena), &request, NULL) != NULL);
        l.launched[s]++;
    }
    for (s = 0; s < LEDGER_STREAMS; s++) {
        l.launched[s]++;
    }
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_EQ(l.early, 0);
    CHECK_EQ(l.segments, 0);
}

/* Ordered pools with fewer than 4096 records could not be made: a table of theirs wanted less than its least. */
static void ordered_pools_with_few_records(void)
{
    static const size_t counts[] = {64, 100, 2000, 4095, 4096};
    size_t i;
    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        ledger l;
        ta_pool_desc desc = zero_desc();
        ta_request request = request_of(1000, 1, 0);
        ta_pool *pool;
        void *ptr;
        test_context("block_count_max %u", (unsigned)counts[i]);
        desc.backend = ledger_init(&l);
        desc.block_count_max = counts[i];
        pool = open_pool(&desc);
        ptr = ta_pool_alloc_request(pool, &request, NULL);
        CHECK(ptr != NULL);
        CHECK_OK(ta_pool_record_use(pool, ptr, 2));
        CHECK_OK(ta_pool_free(pool, ptr));
        close_pool(pool);
        CHECK_EQ(l.segments, 0);
    }
}

/* A request that found memory and could not use it left it with its own stream: others had no part in it any more. */
static void failed_requests_move_no_memory_between_streams(void)
{
    tb_clock clock;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(8 * MIB, 1, 0);
    ta_pool *pool;
    ta_result result = TA_OK;
    void *hole, *wall;
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    desc.disable_stealing = 1;
    pool = open_pool(&desc);
    hole = ta_pool_alloc_request(pool, &request, NULL);
    request.size_bytes = 100000;
    wall = ta_pool_alloc_request(pool, &request, NULL);
    CHECK(hole != NULL && wall != NULL);
    CHECK_OK(ta_pool_free(pool, hole));
    CHECK_OK(ta_pool_empty_cache(pool)); /* now its addresses are ready for all, without memory */
    request = request_of(8 * MIB, 2, TA_REQUEST_CACHED_ONLY);
    CHECK(ta_pool_alloc_request(pool, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    request = request_of(8 * MIB, 3, 0);
    CHECK(ta_pool_alloc_request(pool, &request, NULL) == hole);
    close_pool(pool);
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

typedef struct poll_meeting {
    ta_pool *pool;
    uint32_t armed, asking, called, back;
} poll_meeting;

/* In the backend's is_done: stays there until the other thread has called empty_cache, and then for a while. */
static void stay_in_the_poll(void *user, tb_entry entry)
{
    poll_meeting *m = (poll_meeting *)user;
    if (entry == TB_IS_DONE && LOAD(&m->armed)) {
        STORE(&m->armed, 0);
        STORE(&m->asking, 1);
        wait_for(&m->called, 1);
        (void)wait_a_while(&m->back, 1);
    }
}

static void *poll_thread(void *argument)
{
    poll_meeting *m = (poll_meeting *)argument;
    ta_request request = request_of(3 * MIB, 1, 0);
    return ta_pool_alloc_request(m->pool, &request, NULL);
}

static void empty_cache_beside_a_poll(void)
{
    tb_clock clock;
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(MIB, 1, 0);
    poll_meeting m;
    pthread_t thread;
    void *ptr, *got = NULL;
    memset(&m, 0, sizeof m);
    desc.backend = tb_counting_init(&counting, tb_clock_init(&clock, TA_CAP_RANGES, 0), 0);
    counting.on_call = stay_in_the_poll;
    counting.on_call_user = &m;
    m.pool = open_pool(&desc);
    ptr = ta_pool_alloc_request(m.pool, &request, NULL);
    CHECK_OK(ta_pool_record_use(m.pool, ptr, 2));
    tb_clock_use(&clock, 2, ptr, MIB);
    CHECK_OK(ta_pool_free(m.pool, ptr));
    CHECK_EQ(stats_of(m.pool).pending_bytes, MIB);
    STORE(&m.armed, 1);
    start(&thread, poll_thread, &m);
    wait_for(&m.asking, 1);
    STORE(&m.called, 1);
    CHECK_OK(ta_pool_empty_cache(m.pool));
    CHECK_EQ(stats_of(m.pool).pending_bytes, 0);
    STORE(&m.back, 1);
    CHECK_EQ(pthread_join(thread, &got), 0);
    CHECK(got != NULL);
    close_pool(m.pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

/* empty_cache did not wait for the work on freed blocks while another thread was asking whether it was finished. */
static void empty_cache_waits_though_another_thread_asks(void)
{
    in_a_child(empty_cache_beside_a_poll);
}

/*---------------------------------------------------------------------------------------------------------
  Callbacks that come back from below
  -------------------------------------------------------------------------------------------------------*/
static struct {
    ta_pool *above;
    ta_arena *arena;
    int calls, nested;
    ta_result trimmed, allocated;
    void *ptr;
} back; /* what callbacks work on, and what they saw */

static int use_the_pool_above(void *user, const ta_failure *failure)
{
    (void)user;
    (void)failure;
    if (back.nested || back.calls >= 3) {
        return 0;
    }
    back.nested = 1;
    back.calls++;
    back.trimmed = ta_pool_trim(back.above, 0, NULL);
    back.ptr = ta_pool_alloc(back.above, 30 * MIB, &back.allocated);
    back.nested = 0;
    return 0;
}

static void call_back_from_an_upstream(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *below;
    ta_upstream state;
    ta_result result = TA_OK;
    void *ptr;
    memset(&back, 0, sizeof back);
    desc.limit_bytes = 40 * MIB;
    desc.on_out_of_memory = use_the_pool_above;
    below = open_pool(&desc);
    desc = zero_desc();
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(below), 0, &desc.backend));
    back.above = open_pool(&desc);
    ptr = ta_pool_alloc(back.above, 20 * MIB, NULL);
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(back.above, ptr));
    ptr = ta_pool_alloc(back.above, 24 * MIB, &result); /* whether it succeeds is not the question: it returns */
    CHECK_EQ(ptr != NULL, result == TA_OK);
    CHECK_OK(ta_pool_free(back.above, ptr));
    ptr = ta_pool_alloc(back.above, 64 * MIB, &result);
    CHECK(ptr == NULL);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_GT(back.calls, 0);
    CHECK_EQ(back.ptr != NULL, back.allocated == TA_OK);
    CHECK_OK(ta_pool_free(back.above, back.ptr));
    close_pool(back.above);
    close_pool(below);
}

/* A callback of an upstream that used the pool above it waited for ever for what its own thread held. */
static void upstream_callbacks_into_the_pool_above_return(void)
{
    in_a_child(call_back_from_an_upstream);
}

static void log_in_the_arena(void *user, const ta_event *event)
{
    (void)user;
    if (event->kind == TA_EVENT_TRIM && back.arena != NULL && !back.nested) {
        back.nested = 1;
        back.calls++;
        back.ptr = ta_arena_alloc(back.arena, MIB, &back.allocated);
        back.nested = 0;
    }
}

static void call_back_from_a_sibling(void)
{
    ta_budget *budget = open_budget(16 * MIB);
    ta_pool_desc desc = zero_desc();
    ta_arena_desc arena_desc;
    ta_pool *pool;
    void *ptr;
    memset(&back, 0, sizeof back);
    memset(&arena_desc, 0, sizeof arena_desc);
    desc.budget = arena_desc.budget = budget;
    desc.on_event = log_in_the_arena;
    pool = open_pool(&desc);
    CHECK_OK(ta_arena_create(&arena_desc, &back.arena));
    REQUIRE(back.arena != NULL);
    ptr = ta_pool_alloc(pool, 14 * MIB, NULL); /* whole huge pages: 2 MiB of the budget are left */
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    ptr = ta_arena_alloc(back.arena, 4 * MIB, NULL);
    CHECK(ptr != NULL);
    CHECK_GT(back.calls, 0);
    CHECK_RESULT(back.allocated, TA_OK);
    CHECK(back.ptr != NULL && back.ptr != ptr);
    CHECK_OK(ta_arena_destroy(back.arena));
    close_pool(pool);
    CHECK_OK(ta_budget_destroy(budget));
}

/* An arena asked its siblings while it held its turn: a trim event that allocated from the arena waited for ever. */
static void trim_events_may_allocate_from_the_arena_that_asks(void)
{
    in_a_child(call_back_from_a_sibling);
}

/*---------------------------------------------------------------------------------------------------------
  Limits, caps and figures
  -------------------------------------------------------------------------------------------------------*/

/* Siblings were asked for the size alone, without what alignment takes in growth: the limit was hit beside a cache. */
static void siblings_give_what_alignment_takes(void)
{
    ta_budget *budget;
    ta_pool_desc desc = zero_desc();
    ta_pool *asks, *gives;
    ta_result result = TA_OK;
    char *ptr;
    if (!host_has_ranges()) {
        TEST_SKIP("no ranges here");
        return;
    }
    desc.budget = budget = open_budget(16 * MIB);
    asks = open_pool(&desc);
    gives = open_pool(&desc);
    CHECK(ta_pool_alloc(asks, 70000, NULL) != NULL);
    ptr = (char *)ta_pool_alloc(gives, 15 * MIB, NULL);
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(gives, ptr));
    ptr = (char *)ta_pool_alloc_aligned(asks, 100000, 4 * MIB, &result);
    CHECK_RESULT(result, TA_OK);
    CHECK(ptr != NULL && (uintptr_t)ptr % (4 * MIB) == 0);
    close_pool(asks);
    close_pool(gives);
    CHECK_OK(ta_budget_destroy(budget));
}

/* The gap in front of a block with a far alignment was committed and charged: 64 bytes could cost all of the limit. */
static void far_alignments_cost_addresses_only(void)
{
    size_t alignment;
    if (!host_has_ranges()) {
        TEST_SKIP("no ranges here");
        return;
    }
    for (alignment = 8 * MIB; alignment <= 64 * MIB; alignment *= 2) {
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        ta_result result = TA_OK;
        char *ptr;
        test_context("alignment %u MiB", (unsigned)(alignment / MIB));
        desc.limit_bytes = MIB;
        pool = open_pool(&desc);
        CHECK(ta_pool_alloc(pool, 64, NULL) != NULL);
        ptr = (char *)ta_pool_alloc_aligned(pool, 64, alignment, &result);
        CHECK_RESULT(result, TA_OK);
        if (ptr != NULL) {
            CHECK_EQ((uintptr_t)ptr % alignment, 0);
            memset(ptr, 1, 64);
        }
        CHECK_LE(stats_of(pool).reserved_bytes, MIB);
        CHECK_OK(ta_pool_free(pool, ptr));
        close_pool(pool);
    }
}

#define CAP_THREADS 16
#define CAP_BYTES (4 * MIB)
static ta_pool *cap_pool;
static uint32_t cap_here;

static void *cap_thread(void *argument)
{
    void *ptr[60];
    int i;
    (void)argument;
    for (i = 0; i < 60; i++) {
        ptr[i] = ta_pool_alloc(cap_pool, 16384, NULL);
    }
    (void)ADD(&cap_here, 1);
    wait_for(&cap_here, CAP_THREADS);
    (void)ta_pool_free(cap_pool, ta_pool_alloc(cap_pool, 100, NULL)); /* each learns its share while all hold little */
    (void)ADD(&cap_here, 1);
    wait_for(&cap_here, 2 * CAP_THREADS);
    for (i = 0; i < 60; i++) {
        (void)ta_pool_free(cap_pool, ptr[i]);
    }
    (void)ADD(&cap_here, 1);
    wait_for(&cap_here, 3 * CAP_THREADS + 1);
    return NULL;
}

static void cap_over_threads(void)
{
    ta_pool_desc desc = zero_desc();
    pthread_t threads[CAP_THREADS];
    int i;
    desc.cached_bytes_max = CAP_BYTES;
    cap_pool = open_pool(&desc);
    cap_here = 0;
    for (i = 0; i < CAP_THREADS; i++) {
        start(&threads[i], cap_thread, NULL);
    }
    wait_for(&cap_here, 3 * CAP_THREADS);
    CHECK_LE(stats_of(cap_pool).cached_bytes, CAP_BYTES);
    (void)ADD(&cap_here, 1);
    for (i = 0; i < CAP_THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(stats_of(cap_pool).in_use_bytes, 0);
    CHECK_LE(stats_of(cap_pool).cached_bytes, CAP_BYTES);
    close_pool(cap_pool);
}

/* Sixteen threads kept four times cached_bytes_max, and their exit did not bring it down again. */
static void caches_of_all_threads_together_keep_the_cap(void)
{
    in_a_child(cap_over_threads);
}

/* With one hole anywhere, a trim took the whole free end of the range, however much was to be kept. */
static void trims_beside_a_hole_keep_what_they_should(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_stats stats;
    void *hole, *wall, *large, *end;
    desc.cached_bytes_max = 16 * MIB;
    pool = open_pool(&desc);
    hole = ta_pool_alloc(pool, MIB, NULL);
    wall = ta_pool_alloc(pool, MIB, NULL);
    large = ta_pool_alloc(pool, 14 * MIB, NULL);
    end = ta_pool_alloc(pool, 4 * MIB, NULL);
    CHECK(hole != NULL && wall != NULL && large != NULL && end != NULL);
    CHECK_OK(ta_pool_free(pool, hole));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_free(pool, large));
    CHECK_OK(ta_pool_free(pool, end));
    stats = stats_of(pool);
    CHECK_LE(stats.cached_bytes, 16 * MIB);
    if (host_has_ranges()) {
        CHECK_GE(stats.cached_bytes, 12 * MIB);
    }
    CHECK_OK(ta_pool_free(pool, wall));
    close_pool(pool);
}

typedef struct account {
    ta_budget *budget;
    tb_counting *counting;
    uint64_t calls, wrong;
} account;

/* At each call of the backend, the budget must know of all that the backend has given. */
static void compare_accounts(void *user, tb_entry entry)
{
    account *a = (account *)user;
    ta_budget_stats stats;
    if (entry < TB_INFO && a->budget != NULL && ta_budget_get_stats(a->budget, &stats) == TA_OK) {
        a->calls++;
        a->wrong += stats.reserved_bytes < tb_counting_held(a->counting);
    }
}

static void dispose_in_order(uint32_t hide, int kind)
{
    tb_counting counting;
    account a;
    ta_budget_desc budget_desc;
    ta_pool_desc pool_desc = zero_desc();
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_allocator allocator;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_request request = request_of(3 * MIB, 0, 0);
    uint64_t before;
    int i;
    memset(&a, 0, sizeof a);
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    budget_desc.backend = tb_counting_init(&counting, ta_backend_host(), hide);
    CHECK_OK(ta_budget_create(&budget_desc, &a.budget));
    REQUIRE(a.budget != NULL);
    a.counting = &counting;
    counting.on_call = compare_accounts;
    counting.on_call_user = &a;
    pool_desc.budget = arena_desc.budget = direct_desc.budget = a.budget;
    if (kind == 0) {
        CHECK_OK(ta_pool_create(&pool_desc, &pool));
        allocator = ta_pool_allocator(pool);
    } else if (kind == 1) {
        CHECK_OK(ta_arena_create(&arena_desc, &arena));
        allocator = ta_arena_allocator(arena);
    } else {
        CHECK_OK(ta_direct_create(&direct_desc, &direct));
        allocator = ta_direct_allocator(direct);
    }
    for (i = 0; i < 3; i++) {
        CHECK(ta_allocator_alloc(allocator, &request, NULL) != NULL);
    }
    before = a.calls;
    CHECK_OK(ta_allocator_dispose(allocator));
    CHECK_GT(a.calls, before);
    CHECK_EQ(a.wrong, 0);
    CHECK_OK(ta_allocator_destroy(allocator));
    tb_counting_check(&counting, 1);
    CHECK_OK(ta_budget_destroy(a.budget));
    tb_counting_end(&counting);
}

/* Disposing an arena refunded the budget first and gave the memory back afterwards: siblings could pass the limit. */
static void budgets_are_refunded_after_the_memory_is_back(void)
{
    int kind;
    for (kind = 0; kind < 3; kind++) {
        test_context("%s", kind == 0 ? "pool" : kind == 1 ? "arena" : "direct");
        dispose_in_order(TA_CAP_RANGES, kind);
        if (kind < 2 && host_has_ranges()) {
            dispose_in_order(TA_CAP_SEGMENTS, kind);
        }
    }
}

typedef struct sampler {
    ta_pool *pool;
    uint32_t asked, answered, stop;
    uint64_t wrong;
} sampler;

/* In the backend's commit: another thread reads the figures now. */
static void ask_for_a_sample(void *user, tb_entry entry)
{
    sampler *s = (sampler *)user;
    if (entry == TB_COMMIT && s->pool != NULL) {
        wait_for(&s->answered, ADD(&s->asked, 1));
    }
}

static void *sampler_thread(void *argument)
{
    sampler *s = (sampler *)argument;
    while (!LOAD(&s->stop)) {
        uint32_t asked = LOAD(&s->asked);
        if (asked != s->answered) {
            ta_stats stats;
            s->wrong += ta_pool_get_stats(s->pool, &stats) != TA_OK || stats.cached_bytes > stats.reserved_bytes ||
                        stats.reserved_bytes != stats.in_use_bytes + stats.cached_bytes;
            STORE(&s->answered, asked);
        } else {
            (void)sched_yield();
        }
    }
    return NULL;
}

static void sample_during_recommit(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    sampler s;
    pthread_t thread;
    void *ptr, *wall;
    int i;
    memset(&s, 0, sizeof s);
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    counting.on_call = ask_for_a_sample;
    counting.on_call_user = &s;
    pool = open_pool(&desc);
    ptr = ta_pool_alloc(pool, 64 * MIB, NULL);
    wall = ta_pool_alloc(pool, 100000, NULL);
    CHECK(ptr != NULL && wall != NULL);
    s.pool = pool;
    start(&thread, sampler_thread, &s);
    for (i = 0; i < 20; i++) {
        CHECK_OK(ta_pool_free(pool, ptr));
        CHECK_OK(ta_pool_empty_cache(pool));
        ptr = ta_pool_alloc(pool, 64 * MIB, NULL);
        CHECK(ptr != NULL);
    }
    STORE(&s.stop, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    if (host_has_ranges()) {
        CHECK_GE(s.answered, 20);
    }
    CHECK_EQ(s.wrong, 0);
    close_pool(pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* While trimmed pages of a block came back it was in use before it was reserved: cached_bytes went below zero. */
static void figures_hold_while_pages_come_back(void)
{
    in_a_child(sample_during_recommit);
}

/*---------------------------------------------------------------------------------------------------------
  Addresses that come again, bytes that were used before
  -------------------------------------------------------------------------------------------------------*/
#define SHELF_BYTES ((size_t)256)
#define SHELF_COUNT 4096

/* Segments of one size, last in first out; giving back one of them takes a while, the others can be had meanwhile. */
typedef struct shelf {
    pthread_mutex_t lock;
    char *memory;
    void *free_list[SHELF_COUNT];
    size_t free_count;
    void *slow;
    uint32_t giving, go;
} shelf;

static void shelf_info(void *self, ta_backend_info *out)
{
    (void)self;
    out->caps = TA_CAP_SEGMENTS | TA_CAP_HOST_ACCESS;
    out->granularity_bytes = SHELF_BYTES;
    out->alignment_bytes = 64;
}

static ta_result shelf_alloc(void *self, size_t size_bytes, void **out)
{
    shelf *s = (shelf *)self;
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&s->lock);
    if (s->free_count != 0 && size_bytes == SHELF_BYTES) {
        *out = s->free_list[--s->free_count];
        result = TA_OK;
    }
    pthread_mutex_unlock(&s->lock);
    return result;
}

static ta_result shelf_free(void *self, void *ptr, size_t size_bytes)
{
    shelf *s = (shelf *)self;
    int slow;
    (void)size_bytes;
    pthread_mutex_lock(&s->lock);
    s->free_list[s->free_count++] = ptr;
    slow = ptr == s->slow;
    s->slow = slow ? NULL : s->slow;
    pthread_mutex_unlock(&s->lock);
    if (slow) {
        STORE(&s->giving, 1);
        wait_for(&s->go, 1);
    }
    return TA_OK;
}

typedef struct freeing {
    ta_allocator allocator;
    void *ptr;
    ta_result result;
} freeing;

static void *freeing_thread(void *argument)
{
    freeing *f = (freeing *)argument;
    f->result = ta_allocator_free(f->allocator, f->ptr, 0, 0, 0);
    return NULL;
}

static shelf shelf_now;

static void reuse_while_freeing(void)
{
    ta_backend_vtable table;
    ta_direct_desc desc;
    ta_direct *direct = NULL;
    ta_request request = request_of(100, 0, 0);
    ta_block_info info;
    ta_allocator allocator;
    pthread_t thread;
    freeing f;
    void *first, *again;
    size_t i, wrong = 0;
    memset(&table, 0, sizeof table);
    memset(&desc, 0, sizeof desc);
    memset(&shelf_now, 0, sizeof shelf_now);
    pthread_mutex_init(&shelf_now.lock, NULL);
    shelf_now.memory = (char *)malloc(SHELF_BYTES * (SHELF_COUNT + 1));
    REQUIRE(shelf_now.memory != NULL);
    for (i = 0; i < SHELF_COUNT; i++) {
        uintptr_t base = ((uintptr_t)shelf_now.memory + SHELF_BYTES - 1) & ~(uintptr_t)(SHELF_BYTES - 1);
        shelf_now.free_list[i] = (void *)(base + i * SHELF_BYTES);
    }
    shelf_now.free_count = SHELF_COUNT;
    table.struct_bytes = sizeof table;
    table.name = "shelf";
    table.info = shelf_info;
    table.alloc = shelf_alloc;
    table.free = shelf_free;
    desc.backend.vtable = &table;
    desc.backend.self = &shelf_now;
    CHECK_OK(ta_direct_create(&desc, &direct));
    REQUIRE(direct != NULL);
    f.allocator = allocator = ta_direct_allocator(direct);
    first = ta_allocator_alloc(allocator, &request, NULL);
    f.ptr = ta_allocator_alloc(allocator, &request, NULL);
    CHECK_OK(ta_allocator_free(allocator, first, 0, 0, 0)); /* its record, before the other one's, is used next */
    first = shelf_now.free_list[--shelf_now.free_count];    /* its segment is not */
    shelf_now.slow = f.ptr;
    start(&thread, freeing_thread, &f);
    wait_for(&shelf_now.giving, 1);
    again = ta_allocator_alloc(allocator, &request, NULL);
    CHECK(again == f.ptr && again != first);
    CHECK_OK(ta_allocator_describe(allocator, again, &info));
    for (i = 0; i < SHELF_COUNT - 100; i++) { /* so that the records are put in order anew, by their index */
        wrong += ta_allocator_alloc(allocator, &request, NULL) == NULL;
    }
    CHECK_EQ(wrong, 0);
    CHECK_OK(ta_allocator_describe(allocator, again, &info));
    CHECK(info.ptr == again && info.requested_bytes == 100);
    CHECK_OK(ta_allocator_resize_in_place(allocator, again, 100, 120));
    CHECK_OK(ta_allocator_free(allocator, again, 120, 0, 0));
    STORE(&shelf_now.go, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_OK(f.result);
    CHECK_RESULT(ta_allocator_free(allocator, again, 0, 0, 0), TA_ERROR_STALE);
    CHECK_OK(ta_direct_destroy(direct));
    CHECK_EQ(shelf_now.free_count, SHELF_COUNT - 1);
    free(shelf_now.memory);
    pthread_mutex_destroy(&shelf_now.lock);
}

/* A live block answered stale while another thread was still giving back the block that had its address before. */
static void addresses_come_again_before_their_records_go(void)
{
    in_a_child(reuse_while_freeing);
}

static size_t nonzero_bytes(const void *ptr, size_t from, size_t to)
{
    size_t count = 0;
    for (; from < to; from++) {
        count += ((const unsigned char *)ptr)[from] != 0;
    }
    return count;
}

/* Zeroed pools: what a block gained in place kept the bytes of its neighbour, while one that moved was zeroed. */
static void growth_in_zeroed_pools_reads_as_zero(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    unsigned char *ptr, *next;
    int way;
    desc.zeroed = 1;
    pool = open_pool(&desc);
    for (way = 0; way < 4; way++) {
        ta_result result = TA_OK;
        test_context("way %d", way);
        ptr = (unsigned char *)ta_pool_alloc(pool, 200000, NULL);
        next = (unsigned char *)ta_pool_alloc(pool, 200000, NULL);
        REQUIRE(ptr != NULL && next != NULL);
        memset(ptr, 0x77, 200000);
        memset(next, 0x77, 200000);
        CHECK_OK(ta_pool_free(pool, next));
        if (way == 0) {
            result = ta_pool_resize_in_place(pool, ptr, 250000);
        } else if (way == 1) {
            ptr = (unsigned char *)ta_pool_realloc(pool, ptr, 250000, &result);
        } else if (way == 2) {
            result = ta_allocator_resize_in_place(ta_pool_allocator(pool), ptr, 200000, 250000);
        } else { /* what it gives up and takes again is not what it was */
            CHECK_OK(ta_pool_resize_in_place(pool, ptr, 1000));
            result = ta_pool_resize_in_place(pool, ptr, 250000);
        }
        CHECK_RESULT(result, TA_OK);
        REQUIRE(ptr != NULL && result == TA_OK);
        CHECK_EQ(nonzero_bytes(ptr, 0, way == 3 ? 1000 : 200000), way == 3 ? 1000 : 200000);
        CHECK_EQ(nonzero_bytes(ptr, way == 3 ? 1000 : 200000, 250000), 0);
        CHECK_OK(ta_pool_free(pool, ptr));
    }
    ptr = (unsigned char *)ta_pool_alloc(pool, 100, NULL); /* within its capacity */
    REQUIRE(ptr != NULL);
    memset(ptr, 0x77, ta_pool_capacity_of(pool, ptr));
    CHECK_OK(ta_pool_resize_in_place(pool, ptr, 120));
    CHECK_EQ(nonzero_bytes(ptr, 0, 100), 100);
    CHECK_EQ(nonzero_bytes(ptr, 100, 120), 0);
    close_pool(pool);
}

/* What can never fit emptied the caches of its pool and of all siblings before it failed. */
static void hopeless_requests_cost_nobody_the_cache(void)
{
    ta_budget *budget = open_budget(8 * MIB);
    ta_pool_desc desc = zero_desc();
    ta_pool *a, *b;
    ta_arena_desc arena_desc;
    ta_arena *arena = NULL;
    ta_result result = TA_OK;
    size_t held_by_a, held_by_b;
    desc.budget = budget;
    a = open_pool(&desc);
    b = open_pool(&desc);
    CHECK_OK(ta_pool_free(a, ta_pool_alloc(a, 2 * MIB, NULL)));
    CHECK_OK(ta_pool_free(a, ta_pool_alloc(a, 4096, NULL)));
    CHECK_OK(ta_pool_free(b, ta_pool_alloc(b, 2 * MIB, NULL)));
    held_by_a = stats_of(a).cached_bytes;
    held_by_b = stats_of(b).cached_bytes;
    CHECK(ta_pool_alloc(b, 100 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    memset(&arena_desc, 0, sizeof arena_desc);
    arena_desc.budget = budget;
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    CHECK(ta_arena_alloc(arena, 100 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_EQ(stats_of(a).cached_bytes, held_by_a);
    CHECK_EQ(stats_of(b).cached_bytes, held_by_b);
    CHECK(ta_pool_alloc(b, 5 * MIB, &result) != NULL); /* with hope everybody gives */
    CHECK_OK(result);
    CHECK(ta_pool_alloc(b, 5 * MIB, &result) == NULL); /* 5 of 8 MiB live */
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_OK(ta_arena_destroy(arena));
    close_pool(a);
    close_pool(b);
    CHECK_OK(ta_budget_destroy(budget));

#if !defined(TENSORALLOC_MALLOC_BACKEND) && UINTPTR_MAX > 0xffffffffu /* malloc does not say how much there is */
    a = open_pool(NULL); /* no limit but the machine's */
    CHECK_OK(ta_pool_free(a, ta_pool_alloc(a, 8 * MIB, NULL)));
    held_by_a = stats_of(a).cached_bytes;
    CHECK(ta_pool_alloc(a, (size_t)PTRDIFF_MAX / 2, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(stats_of(a).cached_bytes, held_by_a);
    close_pool(a);
#endif
}

/* Growth in place was counted when it was freed only, and dispose set the counter of freed bytes back. */
static void counters_of_bytes_only_grow(void)
{
    ta_stats stats;
    ta_pool *pool = open_pool(NULL);
    ta_arena *arena = NULL;
    void *ptr = ta_pool_alloc(pool, 100000, NULL);
    REQUIRE(ptr != NULL);
    CHECK_OK(ta_pool_resize_in_place(pool, ptr, 1000000));
    CHECK_EQ(stats_of(pool).allocated_bytes, 1000000);
    CHECK_EQ(stats_of(pool).freed_bytes, 0);
    CHECK_OK(ta_pool_resize_in_place(pool, ptr, 300000));
    CHECK_EQ(stats_of(pool).freed_bytes, 700000);
    CHECK_EQ(stats_of(pool).requested_bytes, 300000);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_EQ(stats_of(pool).freed_bytes, 1000000);
    REQUIRE(ta_pool_alloc(pool, 5000, NULL) != NULL);
    CHECK_OK(ta_pool_dispose(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.allocated_bytes, 1005000);
    CHECK_EQ(stats.freed_bytes, 1005000);
    CHECK_EQ(stats.requested_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));

    CHECK_OK(ta_arena_create(NULL, &arena));
    ptr = ta_arena_alloc(arena, 1000, NULL);
    REQUIRE(ptr != NULL);
    CHECK_OK(ta_allocator_resize_in_place(ta_arena_allocator(arena), ptr, 1000, 5000));
    CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
    CHECK_OK(ta_allocator_get_stats(ta_arena_allocator(arena), &stats));
    CHECK_EQ(stats.allocated_bytes, 5000);
    CHECK_EQ(stats.freed_bytes, 5000);
    REQUIRE(ta_arena_alloc(arena, 900, NULL) != NULL);
    CHECK_OK(ta_allocator_dispose(ta_arena_allocator(arena)));
    CHECK_OK(ta_allocator_get_stats(ta_arena_allocator(arena), &stats));
    CHECK_EQ(stats.freed_bytes, 5900);
    CHECK_OK(ta_arena_destroy(arena));
}

/* A program of one thread could not get at what its own cache of another pool held. */
static void siblings_give_what_the_asking_thread_caches(void)
{
    enum { COUNT = 192 };
    ta_budget *budget = open_budget(MIB);
    ta_pool_desc desc = zero_desc();
    ta_pool *a, *b;
    void *held[COUNT];
    ta_result result = TA_OK;
    int i;
    desc.budget = budget;
    a = open_pool(&desc);
    b = open_pool(&desc);
    for (i = 0; i < COUNT; i++) {
        held[i] = ta_pool_alloc(a, 4096, NULL);
        REQUIRE(held[i] != NULL);
    }
    for (i = 0; i < COUNT; i++) {
        CHECK_OK(ta_pool_free(a, held[i]));
    }
    CHECK(ta_pool_alloc(b, 800 * 1024, &result) != NULL);
    CHECK_RESULT(result, TA_OK);
    close_pool(a);
    close_pool(b);
    CHECK_OK(ta_budget_destroy(budget));
}

static int count_call(void *user, const ta_failure *failure)
{
    (void)failure;
    ++*(int *)user;
    return 0;
}

/* Blocks that a thread caches are not merged and keep their records: they were not asked when records ran out. */
static void caches_give_records(void)
{
    enum { COUNT = 200 };
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    void *held[COUNT];
    ta_result result = TA_OK;
    int i, count = 0, calls = 0;
    desc.block_count_max = 128;
    desc.on_out_of_memory = count_call;
    desc.on_out_of_memory_user = &calls;
    pool = open_pool(&desc);
    while (count < COUNT && (held[count] = ta_pool_alloc(pool, 64, &result)) != NULL) {
        count++;
    }
    CHECK_RESULT(result, TA_ERROR_RECORDS);
    CHECK_EQ(calls, 1); /* the program is asked */
    for (i = 0; i < count; i++) {
        CHECK_OK(ta_pool_free(pool, held[i]));
    }
    CHECK(ta_pool_alloc(pool, MIB, &result) != NULL);
    CHECK_RESULT(result, TA_OK);
    CHECK_EQ(calls, 1);
    close_pool(pool);
}

/* What had merged with the free end of a range was in no bucket. */
static void buckets_hold_all_that_is_cached(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_bucket_stats bucket;
    size_t size, sum = 0;
    int i;
    for (size = 1; size <= 64 * MIB; size *= 8) {
        CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, size, NULL)));
    }
    for (i = 0; i < TA_BUCKET_COUNT; i++) {
        CHECK_OK(ta_pool_get_bucket_stats(pool, i, &bucket));
        CHECK_EQ(bucket.live_count, 0);
        sum += bucket.cached_bytes;
    }
    CHECK_EQ(sum, stats_of(pool).cached_bytes);
    CHECK_GE(sum, 16 * MIB);
    close_pool(pool);
}

static void sum_growth(void *user, const ta_event *event)
{
    if (event->kind == TA_EVENT_GROW) {
        *(size_t *)user += event->size_bytes;
    }
}

/* All of a limit could not be reserved at the start, and no event told of what was. */
static void initial_bytes_may_be_the_limit(void)
{
    size_t mib;
    for (mib = 1; mib <= 64; mib *= 2) {
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        size_t grown = 0;
        desc.limit_bytes = desc.initial_bytes = mib * MIB;
        desc.on_event = sum_growth;
        desc.on_event_user = &grown;
        test_context("%d MiB", (int)mib);
        pool = open_pool(&desc);
        CHECK_EQ(stats_of(pool).reserved_bytes, mib * MIB);
        CHECK_EQ(grown, mib * MIB);
        close_pool(pool);
    }
}

static void bad_descs_are_refused(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool = NULL;
    ta_budget *budget = open_budget(MIB);
    ta_budget_stats stats;
    ta_fixed_buffer state;
    ta_backend backend;
    static char buffer[4096];
    desc.initial_bytes = TA_UNLIMITED;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc = zero_desc();
    memset(&desc.capture_check, 5, sizeof desc.capture_check);
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    CHECK(pool == NULL);
    CHECK_RESULT(ta_budget_set_limit(budget, 0), TA_ERROR_INVALID_ARGUMENT); /* was: no limit */
    CHECK_OK(ta_budget_get_stats(budget, &stats));
    CHECK_EQ(stats.limit_bytes, MIB);
    CHECK_OK(ta_budget_set_limit(budget, TA_UNLIMITED));
    CHECK_OK(ta_budget_destroy(budget));
    CHECK_RESULT(ta_backend_fixed(&state, buffer, SIZE_MAX, &backend), TA_ERROR_OVERFLOW);
}

TEST_MAIN(TEST_CASE_THREADS(exiting_thread_waits_for_the_destroyer),
          TEST_CASE_THREADS(siblings_leave_pools_of_one_thread_alone),
          TEST_CASE_THREADS(child_asks_no_forked_sibling), TEST_CASE(alignments_below_64_are_refused),
          TEST_CASE(range_bounds_are_whole_granules), TEST_CASE(failed_upstreams_are_refused_everywhere),
          TEST_CASE(arenas_wait_again_for_streams_in_use), TEST_CASE(arenas_wait_for_any_number_of_streams),
          TEST_CASE(ordered_pools_with_few_records), TEST_CASE(failed_requests_move_no_memory_between_streams),
          TEST_CASE_THREADS(empty_cache_waits_though_another_thread_asks),
          TEST_CASE(upstream_callbacks_into_the_pool_above_return),
          TEST_CASE(trim_events_may_allocate_from_the_arena_that_asks), TEST_CASE(siblings_give_what_alignment_takes),
          TEST_CASE(far_alignments_cost_addresses_only),
          TEST_CASE_THREADS(caches_of_all_threads_together_keep_the_cap),
          TEST_CASE(trims_beside_a_hole_keep_what_they_should),
          TEST_CASE(budgets_are_refunded_after_the_memory_is_back),
          TEST_CASE_THREADS(figures_hold_while_pages_come_back),
          TEST_CASE_THREADS(addresses_come_again_before_their_records_go),
          TEST_CASE(growth_in_zeroed_pools_reads_as_zero), TEST_CASE(hopeless_requests_cost_nobody_the_cache),
          TEST_CASE(counters_of_bytes_only_grow), TEST_CASE(siblings_give_what_the_asking_thread_caches),
          TEST_CASE(caches_give_records), TEST_CASE(buckets_hold_all_that_is_cached),
          TEST_CASE(initial_bytes_may_be_the_limit), TEST_CASE(bad_descs_are_refused))
