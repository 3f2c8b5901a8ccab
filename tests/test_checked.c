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

#define RACERS 2
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
    way ways[RACERS];
    uint32_t round;             /* goes up when the block is there; the racers run */
    uint32_t finished[RACERS];  /* the round they have run */
    ta_result results[RACERS];
    int stop;
} race;

typedef struct racer {
    race *in;
    int index;
} racer;

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

static void *racer_thread(void *argument)
{
    racer *me = (racer *)argument;
    race *r = me->in;
    uint32_t round = 0;
    for (;;) {
        int patience = 0;
        while (LOAD(&r->round) == round) {
            if (++patience > 200) {
                sched_yield();
                patience = 0;
            }
        }
        round++;
        if (LOAD(&r->stop)) {
            return NULL;
        }
        r->results[me->index] = free_by(r, r->ways[me->index]);
        STORE(&r->finished[me->index], round);
    }
}

static void run_races(const ta_pool_desc *desc)
{
    static const size_t sizes[] = {1, 64, 300, 4096, 65536, 70000, 1 << 20};
    pthread_t threads[RACERS];
    racer racers[RACERS];
    race r;
    ta_pool *pool = NULL;
    ta_stats s;
    uint64_t random = test_now.seed;
    uint32_t round;
    int i;
    CHECK_OK(ta_pool_create(desc, &pool));
    memset(&r, 0, sizeof r);
    r.pool = pool;
    for (i = 0; i < RACERS; i++) {
        racers[i].in = &r;
        racers[i].index = i;
        CHECK_EQ(pthread_create(&threads[i], NULL, racer_thread, &racers[i]), 0);
    }
    for (round = 1; round <= ROUNDS && test_now.failures == 0; round++) {
        int freed = 0, stale = 0;
        void *neighbour;
        test_context("round %u", (unsigned)round);
        r.size = sizes[test_below(&random, sizeof sizes / sizeof sizes[0])];
        r.ptr = ta_pool_alloc(pool, r.size, NULL);
        neighbour = ta_pool_alloc(pool, r.size, NULL);
        CHECK(r.ptr != NULL && neighbour != NULL && neighbour != r.ptr);
        for (i = 0; i < RACERS; i++) {
            r.ways[i] = (way)test_below(&random, WAY_COUNT);
        }
        STORE(&r.round, round);
        for (i = 0; i < RACERS; i++) {
            while (LOAD(&r.finished[i]) != round) {
                sched_yield();
            }
            freed += r.results[i] == TA_OK;
            stale += r.results[i] == TA_ERROR_STALE;
        }
        CHECK_EQ(freed, 1);
        CHECK_EQ(stale, RACERS - 1);
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
    for (i = 0; i < RACERS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
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
