/* test_checked.c - TENSORALLOC_CHECKED: threads that free the same block at the same moment. Exactly one of them is
   told TA_OK, the others TA_ERROR_STALE; nothing is freed twice, and the books stay right. */
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#define TENSORALLOC_CHECKED
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#if defined(__SANITIZE_THREAD__)
    #define ROUNDS 1500
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define ROUNDS 1500
    #endif
#endif
#ifndef ROUNDS
    #define ROUNDS 20000
#endif

typedef enum way { WAY_FREE, WAY_SIZED, WAY_ALLOCATOR, WAY_PUT, WAY_COUNT } way;

typedef struct race {
    ta_pool *pool;
    void *ptr;
    size_t size;
    way other_way;
    ta_result other_result;
    uint32_t round;      /* goes up when the block is there */
    uint32_t other_done; /* the round that the other thread has run */
    int stop;
} race;

static ta_result free_by(const race *r, way how)
{
    switch (how) {
    case WAY_SIZED:
        return ta_pool_free_sized(r->pool, r->ptr, r->size);
    case WAY_ALLOCATOR:
        return ta_allocator_free(ta_pool_allocator(r->pool), r->ptr, 0, 0, 0);
    case WAY_PUT:
        return ta_pool_put(r->pool, r->ptr, r->size);
    case WAY_FREE:
    case WAY_COUNT:
    default:
        return ta_pool_free(r->pool, r->ptr);
    }
}

/* Stands at the line and runs as soon as a round begins. */
static void *other_thread(void *argument)
{
    race *r = (race *)argument;
    uint32_t round = 0;
    for (;;) {
        int patience = 0;
        while (LOAD(&r->round) == round) {
            if (++patience > 2000) {
                sched_yield();
                patience = 0;
            }
        }
        round++;
        if (LOAD(&r->stop)) {
            return NULL;
        }
        r->other_result = free_by(r, r->other_way);
        STORE(&r->other_done, round);
    }
}

/* This thread runs, too, a little later each time in another way: somewhere there the two meet. */
static ta_result run_against(race *r, uint32_t round, way mine, uint32_t late)
{
    volatile uint32_t wait = late;
    ta_result result;
    STORE(&r->round, round);
    while (wait > 0) {
        wait = wait - 1;
    }
    result = free_by(r, mine);
    while (LOAD(&r->other_done) != round) {
        sched_yield();
    }
    return result;
}

static void run_races(const ta_pool_desc *desc)
{
    static const size_t sizes[] = {1, 64, 300, 4096, 65536, 70000, 1 << 20};
    pthread_t thread;
    race r;
    ta_pool *pool = NULL;
    ta_stats s;
    uint64_t random = test_now.seed;
    uint32_t round;
    CHECK_OK(ta_pool_create(desc, &pool));
    memset(&r, 0, sizeof r);
    r.pool = pool;
    CHECK_EQ(pthread_create(&thread, NULL, other_thread, &r), 0);
    for (round = 1; round <= ROUNDS && test_now.failures == 0; round++) {
        ta_result mine;
        void *neighbour;
        test_context("round %u", (unsigned)round);
        r.size = sizes[test_below(&random, sizeof sizes / sizeof sizes[0])];
        r.ptr = ta_pool_alloc(pool, r.size, NULL);
        neighbour = ta_pool_alloc(pool, r.size, NULL);
        CHECK(r.ptr != NULL && neighbour != NULL && neighbour != r.ptr);
        r.other_way = (way)test_below(&random, WAY_COUNT);
        mine = run_against(&r, round, (way)test_below(&random, WAY_COUNT), test_below(&random, 200));
        CHECK_RESULT(mine, r.other_result == TA_OK ? TA_ERROR_STALE : TA_OK);
        CHECK_RESULT(r.other_result, mine == TA_OK ? TA_ERROR_STALE : TA_OK);
        CHECK_RESULT(ta_pool_free(pool, r.ptr), TA_ERROR_STALE);
        CHECK_OK(ta_pool_free(pool, neighbour));
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.deallocation_count, 2 * (uint64_t)round);
        if (round % 64 == 0) {
            CHECK_OK(ta_pool_check(pool));
        }
    }
    STORE(&r.stop, 1);
    STORE(&r.round, r.round + 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.in_use_bytes, 0);
    CHECK_EQ(s.requested_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

static void double_free_in_thread_caches(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    run_races(&desc);
}

static void double_free_in_segments(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.disable_ranges = 1;
    run_races(&desc);
}

static void double_free_without_thread_caches(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.disable_thread_caches = 1;
    run_races(&desc);
}

static void double_free_under_a_cap(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    desc.cached_bytes_max = (size_t)1 << 20;
    run_races(&desc);
}

TEST_MAIN(TEST_CASE(double_free_in_thread_caches), TEST_CASE(double_free_in_segments),
          TEST_CASE(double_free_without_thread_caches), TEST_CASE(double_free_under_a_cap))
