/* test_advice.c - random programs of several allocators over one budget that follow the advice of each failure: then the
   same request succeeds. Where the verdict is that no cache would help, all caches are emptied, and nothing is gained. A
   failure names its program: --seed N runs that one first. */
#ifndef ADVICE_CUDA
    #include "test.h"
    #define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
    #define TENSORALLOC_IMPLEMENTATION
    #include "tensoralloc.h"
    #define KIB ((size_t)1024)
    #define MIB ((size_t)1024 * 1024)
#endif
#ifndef TENSORALLOC_NO_THREADS
    #include <pthread.h>
#endif

enum { POOL, ARENA, DIRECT, DYNAMIC, OTHER_POOL, KINDS, BLOCKS = 512 };
static const char *const kind_names[KINDS] = {"pool", "arena", "direct", "dynamic", "other pool"};

typedef struct block {
    int of, is_handle;
    void *ptr;
    ta_handle handle;
} block;

/* One attempt: what is asked for, of whom. */
typedef struct attempt {
    int of, is_handle;
    ta_request request;
    ta_shape_bounds bounds;
} attempt;

static struct advice_world {
    ta_backend backend;
    ta_stream streams[2];
    int stream_count;
    int has_other_thread;
    size_t unit;           /* about the size of the largest request */
    int unlimited;         /* the device is the limit */
    int walls;             /* what can be in the way at once: a limit, the end of a buffer */
    ta_result (*wait)(void); /* for all work; NULL: there is none */
} world;

static struct advice_program {
    uint64_t number, state;
    ta_budget *budget;
    ta_allocator of[KINDS]; /* vtable NULL: not in this program */
    ta_pool *pools[KINDS];
    ta_arena *arena;
    ta_dynamic *dynamic;
    block blocks[BLOCKS];
    int count;
    size_t limit;
} now;
static uint64_t verdicts[TA_VERDICT_COUNT], nothing_helped;

static uint32_t below(uint32_t n)
{
    return test_below(&now.state, n);
}

/* ---- another thread, with caches of its own: does one thing at a time, and is waited for */
#ifndef TENSORALLOC_NO_THREADS
enum { JOB_NONE, JOB_HOARD, JOB_FLUSH, JOB_EMPTY, JOB_END };
static struct other_thread {
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int job, done;
    unsigned of; /* a bit for each allocator */
    size_t bytes;
} other = {0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0};

static void other_does(int job, unsigned of, size_t bytes)
{
    int i, k;
    for (i = 0; i < KINDS; i++) {
        void *ptrs[24];
        if ((of >> i & 1) == 0 || now.of[i].vtable == NULL) {
            continue;
        }
        if (job == JOB_HOARD && now.pools[i] != NULL) {
            ta_request request;
            memset(&request, 0, sizeof request);
            request.size_bytes = bytes;
            request.flags = TA_REQUEST_WITHIN_BUDGET;
            for (k = 0; k < 24; k++) {
                ptrs[k] = ta_pool_alloc_request(now.pools[i], &request, NULL);
            }
            for (k = 0; k < 24; k++) {
                (void)ta_pool_free(now.pools[i], ptrs[k]);
            }
        } else if (job == JOB_FLUSH && now.pools[i] != NULL) {
            (void)ta_pool_thread_flush(now.pools[i]);
        } else if (job == JOB_EMPTY || job == JOB_FLUSH) {
            (void)ta_allocator_empty_cache(now.of[i]);
        }
    }
}

static void *other_main(void *unused)
{
    int job = JOB_NONE;
    while (job != JOB_END) {
        pthread_mutex_lock(&other.lock);
        while (other.done) {
            pthread_cond_wait(&other.changed, &other.lock);
        }
        job = other.job;
        pthread_mutex_unlock(&other.lock);
        other_does(job, other.of, other.bytes);
        pthread_mutex_lock(&other.lock);
        other.done = 1;
        pthread_cond_broadcast(&other.changed);
        pthread_mutex_unlock(&other.lock);
    }
    return unused;
}

static void have_other(int job, unsigned of, size_t bytes)
{
    if (world.has_other_thread) {
        pthread_mutex_lock(&other.lock);
        other.job = job;
        other.of = of;
        other.bytes = bytes;
        other.done = 0;
        pthread_cond_broadcast(&other.changed);
        while (!other.done) {
            pthread_cond_wait(&other.changed, &other.lock);
        }
        pthread_mutex_unlock(&other.lock);
    }
}

TEST_STATIC void other_begin(void)
{
    other.done = 1;
    world.has_other_thread = pthread_create(&other.id, NULL, other_main, NULL) == 0;
    CHECK(world.has_other_thread);
}

TEST_STATIC void other_end(void)
{
    have_other(JOB_END, 0, 0);
    CHECK(world.has_other_thread && pthread_join(other.id, NULL) == 0);
    world.has_other_thread = 0;
}
#else
    #define have_other(job, of, bytes) ((void)0)
    #define other_begin() ((void)0)
    #define other_end() ((void)0)
#endif

/* ---- blocks */
static void *place_of(const block *b)
{
    return b->is_handle ? ta_dynamic_get_data(now.dynamic, b->handle) : b->ptr;
}

static void free_block(int index)
{
    block b = now.blocks[index];
    now.blocks[index] = now.blocks[--now.count];
    CHECK_OK(b.is_handle ? ta_dynamic_free(now.dynamic, b.handle) : ta_allocator_free(now.of[b.of], b.ptr, 0, 0, 0));
}

static void free_all_of(int of)
{
    int i;
    for (i = now.count - 1; i >= 0; i--) {
        if (now.blocks[i].of == of) {
            free_block(i);
        }
    }
}

/* A request of any size and kind, seldom large. */
static attempt any_attempt(int of)
{
    attempt a;
    memset(&a, 0, sizeof a);
    a.of = of;
    a.request.size_bytes = 1 + below((uint32_t)(world.unit >> below(10)));
    a.request.alignment_bytes = below(4) != 0 ? 0 : (size_t)64 << below(14);
    a.request.flags = below(2) == 0 ? TA_REQUEST_WITHIN_BUDGET : 0;
    a.request.stream = world.stream_count != 0 ? world.streams[below((uint32_t)world.stream_count)] : 0;
    a.is_handle = of == DYNAMIC && below(2) != 0;
    if (a.is_handle) {
        int64_t least = 1, expected = (int64_t)a.request.size_bytes, most = expected * (1 + below(20));
        CHECK_OK(ta_shape_bounds_init(&a.bounds, TA_U8, 1, &least, &expected, &most));
    }
    return a;
}

/* Asks; what comes is among the blocks. */
static ta_result ask(const attempt *a)
{
    ta_result result = TA_OK;
    block b;
    memset(&b, 0, sizeof b);
    b.of = a->of;
    b.is_handle = a->is_handle;
    if (a->is_handle) {
        ta_dynamic_request request;
        memset(&request, 0, sizeof request);
        request.bounds = &a->bounds;
        request.alignment_bytes = a->request.alignment_bytes;
        request.stream = a->request.stream;
        request.flags = a->request.flags;
        result = ta_dynamic_alloc_request(now.dynamic, &request, &b.handle);
    } else {
        b.ptr = ta_allocator_alloc(now.of[a->of], &a->request, &result);
        CHECK((b.ptr != NULL) == (result == TA_OK));
    }
    if (result == TA_OK) {
        now.blocks[now.count++] = b;
        if (a->of == POOL && world.stream_count > 1 && below(3) == 0) {
            CHECK_OK(ta_pool_record_use(now.pools[POOL], b.ptr, world.streams[below(2)]));
        }
    }
    return result;
}

/* ---- advice */
static void empty_all(int except)
{
    int i;
    if (world.wait != NULL) {
        CHECK_OK(world.wait());
    }
    for (i = 0; i < KINDS; i++) {
        if (now.of[i].vtable != NULL && i != except) {
            have_other(JOB_EMPTY, 1u << i, 0);
            CHECK_OK(ta_allocator_empty_cache(now.of[i]));
        }
    }
}

static void free_blocking(int of, const ta_failure *failure)
{
    uintptr_t from = (uintptr_t)failure->blocking_ptr, to = from + failure->blocking_span_bytes;
    size_t count = 0;
    int i;
    for (i = now.count - 1; i >= 0; i--) {
        uintptr_t at = (uintptr_t)place_of(&now.blocks[i]);
        if (now.blocks[i].of == of && at >= from && at < to) {
            free_block(i);
            count++;
        }
    }
    CHECK_EQ(count, failure->blocking_count);
    if (world.wait != NULL) { /* only then they are free */
        CHECK_OK(world.wait());
    }
}

/* Whether the verdict is that no cache would help. */
static int is_hopeless(ta_verdict verdict)
{
    return verdict == TA_VERDICT_LIMIT || verdict == TA_VERDICT_FULL || verdict == TA_VERDICT_OUTSIDE ||
           verdict == TA_VERDICT_BACKEND || verdict == TA_VERDICT_FRAGMENTED;
}

/* Does what is advised. 0: there is nothing that the program could do. */
static int follow(int of, const ta_failure *failure)
{
    switch ((int)failure->verdict) {
    case TA_VERDICT_WAITING:
        CHECK_OK(world.wait());
        return 1;
    case TA_VERDICT_OWN_CACHE:
        CHECK_OK(ta_allocator_trim(now.of[of], 0, NULL));
        return 1;
    case TA_VERDICT_SIBLINGS:
        empty_all(of);
        return 1;
    case TA_VERDICT_THREAD_CACHES:
        have_other(JOB_FLUSH, 1u << of, 0);
        return 1;
    case TA_VERDICT_CACHES:
        empty_all(-1);
        return 1;
    case TA_VERDICT_FRAGMENTED:
        free_blocking(of, failure);
        return 1;
    case TA_VERDICT_LIMIT:
        CHECK_OK(ta_budget_set_limit(now.budget, failure->action_bytes));
        return 1;
    default:
        return 0;
    }
}

static size_t reserved_now(void)
{
    ta_budget_stats stats;
    CHECK_OK(ta_budget_get_stats(now.budget, &stats));
    return stats.reserved_bytes;
}

static ta_failure failure_of(int of, ta_result result)
{
    ta_failure failure;
    memset(&failure, 0, sizeof failure);
    CHECK_OK(ta_allocator_get_failure(now.of[of], &failure));
    CHECK_RESULT(failure.result, result);
    return failure;
}

static void say(const attempt *a, const ta_failure *failure)
{
    char text[512];
    ta_failure_report(failure, text, sizeof text);
    test_context("program %llu, %s%s", (unsigned long long)now.number, kind_names[a->of],
                 a->is_handle ? " (bounds)" : "");
    printf("program %llu, %s%s, size %zu, alignment %zu, flags %u: %s\n", (unsigned long long)now.number,
           kind_names[a->of], a->is_handle ? " (bounds)" : "", a->request.size_bytes, a->request.alignment_bytes,
           (unsigned)a->request.flags, text);
}

/* The request has failed: what is said of it is true. */
static void put_to_the_test(const attempt *a, ta_result result)
{
    ta_failure failure = failure_of(a->of, result), again;
    int walls;
    verdicts[failure.verdict]++;
    if (is_hopeless(failure.verdict) && below(2) != 0) {
        size_t reserved, grown, size = a->request.size_bytes, slack;
        ta_backend_info info;
        memset(&info, 0, sizeof info);
        world.backend.vtable->info(world.backend.self, &info);
        slack = 2 * info.granularity_bytes + a->request.alignment_bytes;
        slack += world.backend.vtable->pieces != NULL ? size : 0; /* what stays, since it is no whole piece, may do */
        nothing_helped++;
        empty_all(-1);
        reserved = reserved_now();
        result = ask(a);
        grown = reserved_now() - reserved;
        if (result == TA_OK) { /* a part of a page less than was thought, at most */
            CHECK(grown + slack >= size || world.walls > 1);
            if (grown + slack < size && world.walls == 1) {
                say(a, &failure);
            }
            return;
        }
        again = failure_of(a->of, result);
        CHECK(is_hopeless(again.verdict) || world.walls > 1);
        if (!is_hopeless(again.verdict) && world.walls == 1) {
            say(a, &failure);
            say(a, &again);
        }
        failure = again;
    }
    for (walls = world.walls; walls > 0 && follow(a->of, &failure); walls--) {
        result = ask(a);
        if (result == TA_OK) {
            break;
        }
        again = failure_of(a->of, result);
        if (walls == 1) {
            CHECK_OK(result);
            say(a, &failure);
            say(a, &again);
        }
        failure = again;
    }
    if (walls > 0) {
        if (failure.verdict == TA_VERDICT_LIMIT && below(4) == 0) {
            CHECK_OK(ta_budget_set_limit(now.budget, now.limit)); /* perhaps below what is reserved */
        }
    }
}

/* ---- programs */
static void open_all(int only)
{
    ta_pool_desc pool_desc;
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_dynamic_desc dynamic_desc;
    ta_direct *direct = NULL;
    int i;
    memset(&pool_desc, 0, sizeof pool_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    pool_desc.budget = arena_desc.budget = direct_desc.budget = dynamic_desc.budget = now.budget;
    pool_desc.huge_pages = below(2) != 0 ? TA_HUGE_PAGES_OFF : TA_HUGE_PAGES_DEFAULT;
    pool_desc.disable_stealing = below(4) == 0;
    dynamic_desc.disable_ranges = below(3) == 0;
    if (below(2) != 0) {
        dynamic_desc.strategy = ta_strategy_exact();
    }
    for (i = 0; i < KINDS; i++) {
        ta_result result = TA_OK;
        if (only >= 0 && i != only) {
            continue;
        }
        if (i == POOL || i == OTHER_POOL) {
            CHECK_OK(result = ta_pool_create(&pool_desc, &now.pools[i]));
            now.of[i] = ta_pool_allocator(now.pools[i]);
        } else if (i == ARENA && (result = ta_arena_create(&arena_desc, &now.arena)) == TA_OK) {
            now.of[i] = ta_arena_allocator(now.arena);
        } else if (i == DIRECT && (result = ta_direct_create(&direct_desc, &direct)) == TA_OK) {
            now.of[i] = ta_direct_allocator(direct);
        } else if (i == DYNAMIC && (result = ta_dynamic_create(&dynamic_desc, &now.dynamic)) == TA_OK) {
            now.of[i] = ta_dynamic_allocator(now.dynamic);
        }
        CHECK(result == TA_OK || result == TA_ERROR_UNSUPPORTED); /* not every kind over every backend */
    }
}

static void close_all(void)
{
    int i;
    if (world.wait != NULL) {
        CHECK_OK(world.wait());
    }
    while (now.count > 0) {
        free_block(now.count - 1);
    }
    for (i = 0; i < KINDS; i++) {
        if (now.of[i].vtable != NULL) {
            CHECK_OK(ta_allocator_destroy(now.of[i]));
        }
    }
    CHECK_OK(ta_budget_destroy(now.budget));
}

/* limit: of the budget; only: the one allocator that there is, or -1. */
static void run_program(uint64_t number, size_t limit, int only)
{
    ta_budget_desc desc;
    int op, failures = 0;
    memset(&now, 0, sizeof now);
    memset(&desc, 0, sizeof desc);
    now.number = number;
    now.state = number * 0x9E3779B97F4A7C15u + 1;
    now.limit = desc.limit_bytes = limit;
    desc.backend = world.backend;
    test_context("program %llu", (unsigned long long)number);
    CHECK_OK(ta_budget_create(&desc, &now.budget));
    open_all(only);
    for (op = 0; op < 400 && failures < 16 && now.count < BLOCKS; op++) {
        int of = only >= 0 ? only : (int)below(KINDS);
        uint32_t what = below(100);
        if (now.of[of].vtable == NULL) {
            continue;
        }
        if (what < 35 && now.count > 0) {
            free_block((int)below((uint32_t)now.count));
        } else if (what == 36 && now.of[ARENA].vtable != NULL) {
            free_all_of(ARENA);
        } else if (what == 37) {
            CHECK_OK(ta_allocator_trim(now.of[of], below((uint32_t)world.unit), NULL));
        } else if (what < 45) {
            have_other(JOB_HOARD, 1u << (below(2) != 0 ? POOL : OTHER_POOL), 1 + below(16384));
        } else {
            attempt a = any_attempt(of);
            ta_result result = ask(&a);
            if (result != TA_OK) {
                failures++;
                put_to_the_test(&a, result);
            }
        }
    }
    close_all();
    test_context("%s", "");
}

static void run_programs(uint64_t first, int count)
{
    int i;
    nothing_helped = 0;
    for (i = 0; i < count; i++) {
        uint64_t number = test_now.seed - TEST_SEED_DEFAULT + first + (uint64_t)i, state = number;
        size_t limit = (2 + test_below(&state, 30)) * (world.unit / 6) + test_below(&state, 2) * 4096 * 3;
        run_program(number, world.unlimited ? TA_UNLIMITED : limit, -1);
    }
    CHECK_GT(nothing_helped, 0);
}

#ifndef ADVICE_CUDA
static ta_backend_vtable host_segments;

static void info_of_segments(void *self, ta_backend_info *out)
{
    ta_backend_host().vtable->info(self, out);
    out->caps &= ~(uint32_t)TA_CAP_RANGES;
    out->range_bytes_max = 0;
}

static void host_with(int threads, int segments, uint64_t first)
{
    memset(&world, 0, sizeof world);
    world.backend = ta_backend_host();
    world.unit = 6 * MIB;
    world.walls = 1;
    if (segments) {
        host_segments = *world.backend.vtable;
        host_segments.info = info_of_segments;
        world.backend.vtable = &host_segments;
    }
    if (threads) {
        other_begin();
    }
    run_programs(first, 80);
    if (threads) {
        other_end();
    }
}

static void over_ranges(void)
{
    host_with(0, 0, 1000);
}

static void over_ranges_with_two_threads(void)
{
    host_with(1, 0, 2000);
}

static void over_segments(void)
{
    host_with(0, 1, 3000);
}

static void over_segments_with_two_threads(void)
{
    host_with(1, 1, 4000);
}

/* One allocator has the whole buffer. */
static void over_a_fixed_buffer(void)
{
    char *memory = (char *)malloc(16 * MIB);
    ta_fixed_buffer state;
    int i;
    REQUIRE(memory != NULL);
    memset(&world, 0, sizeof world);
    world.unit = 6 * MIB;
    for (i = 0; i < 80; i++) {
        uint64_t number = test_now.seed - TEST_SEED_DEFAULT + 5000 + (uint64_t)i, random = number;
        memset(&state, 0, sizeof state);
        world.walls = i % 4 == 0 ? 4 : 1;
        CHECK_OK(ta_backend_fixed(&state, memory, (4 + test_below(&random, 12)) * MIB, &world.backend));
        run_program(number, i % 4 == 0 ? 3 * MIB : TA_UNLIMITED, i % 3 == 0 ? DYNAMIC : i % 3 == 1 ? POOL : ARENA);
    }
    free(memory);
}

/* After all others. */
static void every_verdict_was_met(void)
{
    if (verdicts[TA_VERDICT_FULL] == 0 || verdicts[TA_VERDICT_LIMIT] == 0) {
        TEST_SKIP("not all cases have run");
        return;
    }
    CHECK_GT(verdicts[TA_VERDICT_SIBLINGS], 20);
    CHECK_GT(verdicts[TA_VERDICT_FRAGMENTED], 20);
    CHECK_GT(verdicts[TA_VERDICT_CACHES], 0);
    CHECK_GT(verdicts[TA_VERDICT_OWN_CACHE], 20);
#if !defined(TENSORALLOC_NO_THREADS) && !defined(TENSORALLOC_CHECKED)
    CHECK_GT(verdicts[TA_VERDICT_THREAD_CACHES], 0);
#endif
}

TEST_MAIN(TEST_CASE(over_ranges), TEST_CASE_THREADS(over_ranges_with_two_threads), TEST_CASE(over_segments),
          TEST_CASE_THREADS(over_segments_with_two_threads), TEST_CASE(over_a_fixed_buffer),
          TEST_CASE(every_verdict_was_met))
#endif
