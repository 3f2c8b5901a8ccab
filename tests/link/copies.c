/* Pools that are shared by two private copies of the library: made by one, used by both in several threads, each of
   which leaves a cache behind in both copies when it exits, and destroyed by either while threads live on. */
#include "copy.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define THREADS 4
#ifdef TENSORALLOC_NO_THREADS
enum { with_threads = 0 };
#else
enum { with_threads = 1 };
#endif
#define ROUNDS 3000
#define LIVE 32

static int failures;

#define CHECK(x) \
    do { \
        if (!(x)) { \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #x); \
            __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED); \
        } \
    } while (0)

typedef struct work {
    ta_pool *pool;
    const copy *takes, *gives; /* who allocates, who frees */
    unsigned char mark;
} work;

static void *churn(void *user)
{
    const work *w = (const work *)user;
    unsigned char *live[LIVE] = {NULL};
    size_t sizes[LIVE] = {0}, i;
    for (i = 0; i < ROUNDS + LIVE; i++) {
        size_t at = i % LIVE, size = i % 7 == 0 ? 100000 + 640 * (i % 50) : 1 + (i * 97) % 9000;
        if (live[at] != NULL) {
            CHECK(live[at][0] == w->mark && live[at][sizes[at] - 1] == w->mark);
            CHECK((i % 3 == 0 ? w->takes : w->gives)->pool_free(w->pool, live[at]) == TA_OK);
            live[at] = NULL;
        }
        if (i < ROUNDS) {
            live[at] = (unsigned char *)(i % 5 == 0 ? w->gives : w->takes)->pool_alloc(w->pool, size, NULL);
            CHECK(live[at] != NULL);
            sizes[at] = size;
            if (live[at] != NULL) {
                live[at][0] = live[at][size - 1] = w->mark;
            }
        }
    }
    return NULL; /* with blocks in the thread's caches, one in each copy */
}

static void share_between_threads(const copy *maker, const copy *other)
{
    ta_pool *pool = NULL;
    pthread_t threads[THREADS];
    work works[THREADS];
    ta_stats stats;
    int i;
    CHECK(maker->pool_create(NULL, &pool) == TA_OK);
    for (i = 0; i < THREADS; i++) {
        works[i].pool = pool;
        works[i].takes = i % 2 ? maker : other;
        works[i].gives = i % 2 ? other : maker;
        works[i].mark = (unsigned char)(i + 1);
        CHECK(pthread_create(&threads[i], NULL, churn, &works[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    memset(&stats, 0, sizeof stats);
    CHECK(other->pool_get_stats(pool, &stats) == TA_OK);
    CHECK(stats.live_count == 0 && stats.in_use_bytes == 0 && stats.requested_bytes == 0);
    CHECK(stats.allocation_count == (uint64_t)THREADS * ROUNDS && stats.deallocation_count == stats.allocation_count);
    CHECK(stats.thread_cached_bytes == 0); /* the exits gave everything back */
    CHECK(other->pool_check(pool) == TA_OK);
    CHECK(other->pool_destroy(pool) == TA_OK);
}

/* The thread slots of both copies outlive their pool, in this thread, and a new pool may be at the same address. */
static void outlive_pools(const copy *maker, const copy *other)
{
    int i;
    for (i = 0; i < 50; i++) {
        ta_pool *pool = NULL;
        ta_stats stats;
        void *x, *y;
        CHECK(maker->pool_create(NULL, &pool) == TA_OK);
        x = maker->pool_alloc(pool, 100, NULL);
        y = other->pool_alloc(pool, 100, NULL);
        CHECK(x != NULL && y != NULL && x != y);
        CHECK(other->pool_free(pool, x) == TA_OK && maker->pool_free(pool, y) == TA_OK);
        CHECK(other->pool_free(pool, x) == TA_ERROR_STALE);
        CHECK(other->pool_thread_flush(pool) == TA_OK && maker->pool_thread_flush(pool) == TA_OK);
        memset(&stats, 0, sizeof stats);
        CHECK(maker->pool_get_stats(pool, &stats) == TA_OK && stats.live_count == 0 && stats.thread_cached_bytes == 0);
        CHECK((i % 2 ? maker : other)->pool_destroy(pool) == TA_OK);
    }
}

int main(void)
{
    const copy *a = copy_a(), *b = copy_b();
    CHECK(a->pool_alloc != b->pool_alloc); /* they are two */
    if (with_threads) {
        share_between_threads(a, b);
        share_between_threads(b, a);
    }
    outlive_pools(a, b);
    outlive_pools(b, a);
    a->process_detach();
    b->process_detach();
    printf(failures == 0 ? "two copies share pools\n" : "FAILED\n");
    return failures != 0;
}
