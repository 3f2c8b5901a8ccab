/* test_fork.c - a child after fork: allocators of the parent answer TA_ERROR_FORKED, wherever the parent's threads
   were at that moment; the child's own work; single-threaded ones go on; the parent does not notice. And
   ta_process_detach. */
#if !defined(_WIN32)
    #include <pthread.h>
    #include <sched.h>
    #include <sys/types.h>
    #include <sys/wait.h>
    #include <unistd.h>
#endif
#include <stddef.h>
#include <stdint.h>

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#if defined(_WIN32)
static void no_fork(void)
{
    test_now.skip = "no fork here";
}

TEST_MAIN(TEST_CASE_THREADS(no_fork))
#else

/* The sanitizers' own allocators and threads do not bear a child of several threads: their locks stay as they were. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    #define THREADS_AFTER_FORK 0
    #define FORKS 10
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
        #define THREADS_AFTER_FORK 0
        #define FORKS 10
    #endif
#endif
#ifndef FORKS
    #define THREADS_AFTER_FORK 1
    #define FORKS 20
#endif

#define CHILD_SECONDS 60 /* a child that hangs is a failure, not a hanging test */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

typedef struct worker {
    ta_allocator allocator;
    int *stop;
    uint64_t wrong, rounds;
} worker;

/* In and out of caches, the gate and the backend, without pause. */
static void *worker_thread(void *argument)
{
    worker *w = (worker *)argument;
    uint64_t random = (uint64_t)(uintptr_t)argument;
    while (!LOAD(w->stop)) {
        unsigned char *ptr[8];
        int i;
        for (i = 0; i < 8; i++) {
            ta_request request;
            memset(&request, 0, sizeof request);
            request.size_bytes = (size_t)1 << test_below(&random, 21);
            ptr[i] = (unsigned char *)ta_allocator_alloc(w->allocator, &request, NULL);
            w->wrong += ptr[i] == NULL;
            if (ptr[i] != NULL) {
                ptr[i][0] = (unsigned char)i;
            }
        }
        for (i = 7; i >= 0; i--) {
            w->wrong += ptr[i] != NULL && (ptr[i][0] != i || ta_allocator_free(w->allocator, ptr[i], 0, 0, 0) != TA_OK);
        }
        if (test_below(&random, 16) == 0) {
            w->wrong += ta_allocator_empty_cache(w->allocator) != TA_OK;
        }
        STORE(&w->rounds, w->rounds + 1);
    }
    return NULL;
}

/* Runs the work in a child and waits for it: its checks fail there, its exit status fails here. */
static void in_a_child(void (*work)(void *), void *argument)
{
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        test_now.failures = 0;
        work(argument);
        fflush(NULL);
        _exit(test_now.failures == 0 ? 0 : 1);
    }
    CHECK_GT(child, 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int never_called(void *user, const ta_block_info *block)
{
    (void)block;
    ++*(int *)user;
    return 0;
}

static ta_result never_written(void *user, const char *text, size_t text_bytes)
{
    (void)text;
    *(int *)user += (int)text_bytes;
    return TA_OK;
}

/* Every call on a pool of the parent. */
static void check_pool_is_forked(ta_pool *pool, void *small, void *large)
{
    ta_request request;
    ta_result result;
    ta_stats stats;
    ta_bucket_stats bucket;
    ta_failure failure;
    ta_allocator allocator;
    ta_block_info info;
    size_t sizes[] = {1, 1000, 70000, (size_t)1 << 22}, i, released = 1;
    int visits = 0;
    memset(&request, 0, sizeof request);
    request.size_bytes = 100;
    for (i = 0; i < 4; i++) {
        result = TA_OK;
        CHECK(ta_pool_alloc(pool, sizes[i], &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_FORKED);
        CHECK(ta_pool_get(pool, sizes[i], &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_FORKED);
        CHECK(ta_pool_alloc_aligned(pool, sizes[i], 4096, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_FORKED);
        CHECK(ta_pool_alloc_zeroed(pool, sizes[i], &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_FORKED);
        CHECK(ta_pool_realloc(pool, large, sizes[i], &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_FORKED);
    }
    CHECK(ta_pool_alloc_request(pool, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_free(pool, small), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_free(pool, large), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_free_sized(pool, small, 1000), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_put(pool, large, 100000), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_free(ta_pool_allocator(pool), small, 0, 0, 0), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_resize_in_place(pool, small, 10), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_describe(pool, small, &info), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_record_use(pool, small, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_clear(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_thread_flush(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_empty_cache(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_trim(pool, 0, &released), TA_ERROR_FORKED);
    CHECK_EQ(released, 0);
    CHECK_RESULT(ta_pool_seal(pool, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_walk(pool, never_called, &visits), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_for_each_live(pool, never_called, &visits), TA_ERROR_FORKED);
    CHECK_EQ(visits, 0);
    CHECK_RESULT(ta_pool_check(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_get_stats(pool, &stats), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_reset_peaks(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_get_failure(pool, &failure), TA_ERROR_FORKED);
    allocator = ta_pool_allocator(pool);
    CHECK_RESULT(ta_snapshot_write(&allocator, 1, NULL, never_written, &visits), TA_ERROR_FORKED);
    CHECK_EQ(visits, 0);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, 3, &bucket), TA_ERROR_FORKED);
    CHECK_EQ(ta_pool_capacity_of(pool, small), 0);
    CHECK_EQ(ta_pool_owns(pool, large), 0);
    (void)ta_report(ta_pool_allocator(pool), NULL, 0); /* comes back */
    CHECK_RESULT(ta_pool_dispose(pool), TA_ERROR_FORKED);
    CHECK_RESULT(ta_pool_destroy(pool), TA_ERROR_FORKED);
}

static void check_allocator_is_forked(ta_allocator allocator, void *ptr)
{
    ta_request request;
    ta_result result = TA_OK;
    ta_stats stats;
    ta_block_info info;
    size_t released = 1;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    CHECK(ta_allocator_alloc(allocator, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_free(allocator, ptr, 0, 0, 0), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_resize_in_place(allocator, ptr, 0, 10), TA_ERROR_FORKED);
    CHECK(ta_allocator_remap(allocator, ptr, 0, 10, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_empty_cache(allocator), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_trim(allocator, 0, &released), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_get_stats(allocator, &stats), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_describe(allocator, ptr, &info), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_dispose(allocator), TA_ERROR_FORKED);
    CHECK_RESULT(ta_allocator_destroy(allocator), TA_ERROR_FORKED);
}

/* A pool, used and taken apart; with threads of its own where there can be some. */
static void check_new_pool_works(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    ta_stats stats;
    pthread_t threads[2];
    worker workers[2];
    int stop = 0, i, some = THREADS_AFTER_FORK && (desc == NULL || !desc->single_threaded);
    CHECK_OK(ta_pool_create(desc, &pool));
    for (i = 0; i < 50; i++) {
        size_t size = (size_t)100 << (i % 14);
        unsigned char *ptr = (unsigned char *)ta_pool_alloc(pool, size, NULL);
        CHECK(ptr != NULL);
        if (ptr != NULL) {
            memset(ptr, 3, size);
            CHECK_OK(ta_pool_free(pool, ptr));
        }
    }
    for (i = 0; some && i < 2; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].allocator = ta_pool_allocator(pool);
        workers[i].stop = &stop;
        CHECK_EQ(pthread_create(&threads[i], NULL, worker_thread, &workers[i]), 0);
    }
    for (i = 0; some && i < 2; i++) {
        while (LOAD(&workers[i].rounds) < 3) {
            sched_yield();
        }
    }
    STORE(&stop, 1);
    for (i = 0; some && i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(workers[i].wrong, 0);
    }
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.live_count, 0);
    CHECK_EQ(stats.reserved_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

/* ---- a parent with threads that are in calls all the time */
typedef struct family {
    ta_pool *pool, *segments, *single;
    ta_arena *arena, *single_arena;
    ta_direct *direct;
    ta_dynamic *dynamic, *single_dynamic;
    ta_handle handle, of_single_dynamic;
    void *of_dynamic;
    unsigned char *small, *large, *of_segments, *of_single, *of_arena, *of_single_arena, *of_direct;
} family;

static ta_shape_bounds bounds_of_the_family(void)
{
    ta_shape_bounds bounds;
    memset(&bounds, 0, sizeof bounds);
    bounds.dtype = TA_U8;
    bounds.rank = 1;
    bounds.expected[0] = 1000;
    bounds.max[0] = 1 << 20;
    return bounds;
}

/* Every call on a dynamic of the parent. */
static void check_dynamic_is_forked(ta_dynamic *d, ta_handle handle)
{
    const ta_shape_bounds bounds = bounds_of_the_family();
    const int64_t dims = 2000;
    ta_handle h;
    ta_handle_info info;
    ta_dynamic_stats figures;
    ta_failure failure;
    ta_fit fit;
    memset(&h, 1, sizeof h);
    CHECK_RESULT(ta_dynamic_alloc(d, &bounds, &h), TA_ERROR_FORKED);
    CHECK_EQ(h.owner + h.index + h.generation, 0);
    CHECK_RESULT(ta_dynamic_resize(d, handle, &dims, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_observe(d, handle, &dims, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, handle, &dims, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_record_use(d, handle, 1), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_get_handle(d, handle, &info), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_get_failure(d, &failure), TA_ERROR_FORKED);
    CHECK(ta_dynamic_get_data(d, handle) == NULL);
    CHECK_RESULT(ta_dynamic_free(d, handle), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_would_fit(d, &bounds, 1, &fit), TA_ERROR_FORKED);
    CHECK_RESULT(ta_dynamic_get_stats(d, &figures), TA_ERROR_FORKED);
    CHECK_EQ(ta_dynamic_report(d, NULL, 0), 0);
    CHECK_RESULT(ta_dynamic_destroy(d), TA_ERROR_FORKED);
}

static void family_start(family *f)
{
    ta_pool_desc desc;
    ta_arena_desc arena_desc;
    ta_dynamic_desc dynamic_desc;
    const ta_shape_bounds bounds = bounds_of_the_family();
    ta_request request;
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    memset(f, 0, sizeof *f);
    memset(&desc, 0, sizeof desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    CHECK_OK(ta_pool_create(&desc, &f->pool));
    desc.disable_ranges = 1;
    CHECK_OK(ta_pool_create(&desc, &f->segments));
    desc.single_threaded = 1;
    CHECK_OK(ta_pool_create(&desc, &f->single));
    CHECK_OK(ta_arena_create(&arena_desc, &f->arena));
    arena_desc.single_threaded = 1;
    CHECK_OK(ta_arena_create(&arena_desc, &f->single_arena));
    CHECK_OK(ta_direct_create(NULL, &f->direct));
    CHECK_OK(ta_dynamic_create(NULL, &f->dynamic));
    dynamic_desc.single_threaded = 1;
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &f->single_dynamic));
    CHECK_OK(ta_dynamic_alloc(f->dynamic, &bounds, &f->handle));
    f->of_dynamic = ta_dynamic_get_data(f->dynamic, f->handle);
    CHECK_OK(ta_dynamic_alloc(f->single_dynamic, &bounds, &f->of_single_dynamic));
    memset(ta_dynamic_get_data(f->single_dynamic, f->of_single_dynamic), 14, 1000);
    f->small = (unsigned char *)ta_pool_alloc(f->pool, 1000, NULL);
    f->large = (unsigned char *)ta_pool_alloc(f->pool, 100000, NULL);
    f->of_segments = (unsigned char *)ta_pool_alloc(f->segments, 1000, NULL);
    f->of_single = (unsigned char *)ta_pool_alloc(f->single, 1000, NULL);
    f->of_arena = (unsigned char *)ta_arena_alloc(f->arena, 1000, NULL);
    f->of_single_arena = (unsigned char *)ta_arena_alloc(f->single_arena, 1000, NULL);
    f->of_direct = (unsigned char *)ta_allocator_alloc(ta_direct_allocator(f->direct), &request, NULL);
    CHECK(f->small != NULL && f->large != NULL && f->of_segments != NULL && f->of_single != NULL);
    CHECK(f->of_arena != NULL && f->of_single_arena != NULL && f->of_direct != NULL);
    memset(f->small, 11, 1000);
    memset(f->large, 12, 100000);
    memset(f->of_single, 13, 1000);
}

static void family_check(const family *f)
{
    CHECK(f->small[0] == 11 && f->small[999] == 11 && f->large[0] == 12 && f->large[99999] == 12);
    CHECK(f->of_single[0] == 13 && f->of_single[999] == 13);
}

static void family_end(family *f)
{
    family_check(f);
    CHECK_OK(ta_pool_free(f->pool, f->small));
    CHECK_OK(ta_pool_free(f->pool, f->large));
    CHECK_OK(ta_pool_check(f->pool));
    CHECK_OK(ta_pool_check(f->segments));
    CHECK_OK(ta_pool_check(f->single));
    CHECK_OK(ta_pool_free(f->single, f->of_single));
    CHECK_OK(ta_pool_destroy(f->pool));
    CHECK_OK(ta_pool_destroy(f->segments));
    CHECK_OK(ta_pool_destroy(f->single));
    CHECK_OK(ta_arena_destroy(f->arena));
    CHECK_OK(ta_arena_destroy(f->single_arena));
    CHECK_OK(ta_direct_destroy(f->direct));
    CHECK_OK(ta_dynamic_free(f->dynamic, f->handle));
    CHECK_OK(ta_dynamic_destroy(f->dynamic));
    CHECK_OK(ta_dynamic_destroy(f->single_dynamic));
}

/* In the child: single-threaded allocators of the parent are copies to go on with. */
static void check_single_threaded_goes_on(family *f)
{
    ta_stats stats;
    const int64_t dims = 300000;
    unsigned char *more = (unsigned char *)ta_pool_alloc(f->single, 200000, NULL);
    CHECK(more != NULL);
    CHECK_OK(ta_pool_free(f->single, more));
    CHECK_OK(ta_pool_free(f->single, f->of_single));
    CHECK_OK(ta_pool_get_stats(f->single, &stats));
    CHECK_EQ(stats.live_count, 0);
    CHECK_OK(ta_pool_check(f->single));
    CHECK_OK(ta_pool_empty_cache(f->single));
    CHECK_OK(ta_pool_destroy(f->single));
    CHECK(ta_arena_alloc(f->single_arena, 100000, NULL) != NULL);
    CHECK_OK(ta_allocator_free(ta_arena_allocator(f->single_arena), f->of_single_arena, 1000, 0, 0));
    CHECK_OK(ta_arena_reset(f->single_arena, 0));
    CHECK_OK(ta_arena_destroy(f->single_arena));
    CHECK_OK(ta_dynamic_resize(f->single_dynamic, f->of_single_dynamic, &dims, 1));
    CHECK_EQ(((unsigned char *)ta_dynamic_get_data(f->single_dynamic, f->of_single_dynamic))[999], 14);
    CHECK_OK(ta_dynamic_free(f->single_dynamic, f->of_single_dynamic));
    CHECK_OK(ta_dynamic_destroy(f->single_dynamic));
}

static void work_of_the_child(void *argument)
{
    family *f = (family *)argument;
    ta_pool_desc desc;
    ta_arena_mark mark;
    memset(&desc, 0, sizeof desc);
    family_check(f); /* memory is there, as it was */
    check_pool_is_forked(f->pool, f->small, f->large);
    check_pool_is_forked(f->segments, f->of_segments, f->of_segments);
    check_allocator_is_forked(ta_pool_allocator(f->pool), f->small);
    check_allocator_is_forked(ta_arena_allocator(f->arena), f->of_arena);
    check_allocator_is_forked(ta_direct_allocator(f->direct), f->of_direct);
    check_allocator_is_forked(ta_dynamic_allocator(f->dynamic), f->of_dynamic);
    check_dynamic_is_forked(f->dynamic, f->handle);
    CHECK_RESULT(ta_arena_reset(f->arena, 0), TA_ERROR_FORKED);
    mark = ta_arena_get_mark(f->arena);
    CHECK_RESULT(ta_arena_rewind(f->arena, mark), TA_ERROR_FORKED);
    CHECK_RESULT(ta_arena_destroy(f->arena), TA_ERROR_FORKED);
    CHECK_RESULT(ta_direct_destroy(f->direct), TA_ERROR_FORKED);
    check_new_pool_works(NULL);
    desc.disable_ranges = 1;
    check_new_pool_works(&desc);
    desc.single_threaded = 1;
    check_new_pool_works(&desc);
    family_check(f);
    check_single_threaded_goes_on(f);
}

static void child_of_several_threads(void)
{
    family f;
    pthread_t threads[4];
    worker workers[4];
    int stop = 0, i, n;
    family_start(&f);
    for (i = 0; i < 4; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].stop = &stop;
        workers[i].allocator = i == 3 ? ta_arena_allocator(f.arena) : ta_pool_allocator(i == 2 ? f.segments : f.pool);
        CHECK_EQ(pthread_create(&threads[i], NULL, worker_thread, &workers[i]), 0);
    }
    for (n = 0; n < FORKS && test_now.failures == 0; n++) {
        uint64_t seen = LOAD(&workers[0].rounds);
        in_a_child(work_of_the_child, &f);
        while (LOAD(&workers[0].rounds) == seen) { /* the parent goes on */
            sched_yield();
        }
    }
    STORE(&stop, 1);
    for (i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(workers[i].wrong, 0);
    }
    family_end(&f);
}

static void child_of_one_thread(void)
{
    family f;
    family_start(&f);
    in_a_child(work_of_the_child, &f);
    family_end(&f);
}

/* ---- grandchildren */
static void work_of_the_grandchild(void *argument)
{
    ta_pool **pools = (ta_pool **)argument;
    ta_result result = TA_OK;
    CHECK(ta_pool_alloc(pools[0], 10, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    CHECK(ta_pool_alloc(pools[1], 10, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    check_new_pool_works(NULL);
}

static void work_of_the_child_in_between(void *argument)
{
    ta_pool **pools = (ta_pool **)argument;
    void *ptr;
    CHECK_OK(ta_pool_create(NULL, &pools[1]));
    ptr = ta_pool_alloc(pools[1], 1000, NULL);
    CHECK(ptr != NULL);
    in_a_child(work_of_the_grandchild, pools);
    CHECK_OK(ta_pool_free(pools[1], ptr));
    CHECK_OK(ta_pool_check(pools[1]));
    CHECK_OK(ta_pool_destroy(pools[1]));
}

static void child_of_a_child(void)
{
    ta_pool *pools[2] = {NULL, NULL};
    void *ptr;
    CHECK_OK(ta_pool_create(NULL, &pools[0]));
    ptr = ta_pool_alloc(pools[0], 1000, NULL);
    in_a_child(work_of_the_child_in_between, pools);
    CHECK_OK(ta_pool_free(pools[0], ptr));
    CHECK_OK(ta_pool_check(pools[0]));
    CHECK_OK(ta_pool_destroy(pools[0]));
}

/* A child in which no handler of fork has run says so itself; saying it twice does no harm. */
static void work_after_saying_it_again(void *argument)
{
    ta_result result = TA_OK;
    ta_after_fork_child();
    CHECK(ta_pool_alloc((ta_pool *)argument, 10, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FORKED);
    check_new_pool_works(NULL);
    ta_after_fork_child();
    check_new_pool_works(NULL);
}

static void child_says_it_itself(void)
{
    ta_pool *pool = NULL;
    void *ptr;
    CHECK_OK(ta_pool_create(NULL, &pool));
    ptr = ta_pool_alloc(pool, 10, NULL);
    in_a_child(work_after_saying_it_again, pool);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_OK(ta_pool_destroy(pool));
}

/* A process that has never made a pool forks; both make one afterwards. */
static void work_of_a_first_pool(void *argument)
{
    (void)argument;
    check_new_pool_works(NULL);
}

static void fork_before_the_first_pool(void)
{
    in_a_child(work_of_a_first_pool, NULL);
    check_new_pool_works(NULL);
}

/* ---- ta_process_detach: in a child process, so that this one keeps its key */
typedef struct guest {
    ta_pool **pool;
    int *phase; /* 1: use the pool; 2: the key is gone; 3: there is a new pool */
    int *done;
    int uses_new_pool;
    uint64_t wrong;
} guest;

static void wait_for_phase(const guest *g, int phase)
{
    while (LOAD(g->phase) < phase) {
        sched_yield();
    }
}

static void use_small(ta_pool *pool, uint64_t *wrong)
{
    int i;
    for (i = 0; i < 40; i++) {
        void *ptr = ta_pool_alloc(pool, (size_t)(i + 1) * 60, NULL);
        *wrong += ptr == NULL || ta_pool_free(pool, ptr) != TA_OK;
    }
}

static void *guest_thread(void *argument)
{
    guest *g = (guest *)argument;
    wait_for_phase(g, 1);
    use_small(*g->pool, &g->wrong);
    (void)__atomic_add_fetch(g->done, 1, __ATOMIC_ACQ_REL);
    wait_for_phase(g, 3);
    if (g->uses_new_pool) {
        use_small(*g->pool, &g->wrong);
    }
    return NULL;
}

static void wait_for_count(const int *done, int count)
{
    while (LOAD(done) < count) {
        sched_yield();
    }
}

static void detach_and_go_on(void *argument)
{
    ta_pool *pool = NULL;
    pthread_t threads[4];
    guest guests[4];
    ta_stats stats;
    uint64_t wrong = 0;
    int phase = 0, done = 0, i;
    (void)argument;
    ta_process_detach(); /* nothing to detach */
    CHECK_OK(ta_pool_create(NULL, &pool));
    for (i = 0; i < 4; i++) {
        guests[i].pool = &pool;
        guests[i].phase = &phase;
        guests[i].done = &done;
        guests[i].uses_new_pool = i < 2;
        guests[i].wrong = 0;
        CHECK_EQ(pthread_create(&threads[i], NULL, guest_thread, &guests[i]), 0);
    }
    use_small(pool, &wrong);
    STORE(&phase, 1);
    wait_for_count(&done, 4);
    CHECK_OK(ta_pool_destroy(pool));
    ta_process_detach();
    ta_process_detach();
    CHECK_OK(ta_pool_create(NULL, &pool));
    use_small(pool, &wrong);
    STORE(&phase, 3);
    for (i = 0; i < 4; i++) { /* threads from before: those that come back, and those that just end */
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        wrong += guests[i].wrong;
    }
    CHECK_EQ(wrong, 0);
    CHECK_OK(ta_pool_thread_flush(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.live_count, 0);
    CHECK_EQ(stats.thread_cached_bytes, 0); /* the new key works: threads hand back */
    CHECK_EQ(stats.allocation_count, 40 * 3);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    check_new_pool_works(NULL);
}

static void process_detach(void)
{
    in_a_child(detach_and_go_on, NULL);
}

TEST_MAIN(TEST_CASE_THREADS(fork_before_the_first_pool), TEST_CASE_THREADS(child_of_one_thread),
          TEST_CASE_THREADS(child_of_several_threads), TEST_CASE_THREADS(child_of_a_child),
          TEST_CASE_THREADS(child_says_it_itself), TEST_CASE_THREADS(process_detach))
#endif
