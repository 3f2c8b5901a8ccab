/* test_threads.c - several threads on one pool and several pools in one thread: whatever they do at the same time,
   no block is anybody else's, counters are exact when all is quiet, and what threads hold goes back. Made to be run
   under ThreadSanitizer as well; threads hand what they find wrong to the main one. */
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

static void *records_malloc(size_t size);
static void records_free(void *ptr);
#define TENSORALLOC_MALLOC(size) records_malloc(size)
#define TENSORALLOC_FREE(ptr) records_free(ptr)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#if defined(__SANITIZE_THREAD__)
    #define SLOWER 16
#elif defined(__SANITIZE_ADDRESS__)
    #define SLOWER 4
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define SLOWER 16
    #elif __has_feature(address_sanitizer)
        #define SLOWER 4
    #endif
#endif
#ifndef SLOWER
    #define SLOWER 1
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define WINDOW_MAX 128
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_RELAXED)

/*---------------------------------------------------------------------------------------------------------
  Memory of objects: a pool that goes away leaves its place to the next one, so that addresses repeat.
  -------------------------------------------------------------------------------------------------------*/
static pthread_mutex_t records_lock = PTHREAD_MUTEX_INITIALIZER;
static void *latest_pool, *parked_pool;

static void *records_malloc(size_t size)
{
    void *ptr = NULL;
    if (size != sizeof(struct ta_pool)) {
        return malloc(size);
    }
    pthread_mutex_lock(&records_lock);
    ptr = parked_pool;
    parked_pool = NULL;
    pthread_mutex_unlock(&records_lock);
    ptr = ptr != NULL ? ptr : malloc(size);
    pthread_mutex_lock(&records_lock);
    latest_pool = ptr;
    pthread_mutex_unlock(&records_lock);
    return ptr;
}

static void records_free(void *ptr)
{
    void *old = ptr;
    pthread_mutex_lock(&records_lock);
    if (ptr != NULL && ptr == latest_pool) {
        old = parked_pool;
        parked_pool = ptr;
        latest_pool = NULL;
    }
    pthread_mutex_unlock(&records_lock);
    free(old);
}

/*---------------------------------------------------------------------------------------------------------
  Tools: threads that meet, blocks that know whose they are.
  -------------------------------------------------------------------------------------------------------*/
typedef struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    int needed, here, round;
} meeting;

static void meeting_init(meeting *m, int needed)
{
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->all_here, NULL);
    m->needed = needed;
    m->here = m->round = 0;
}

/* Returns when as many threads as are needed have come. */
static void meet(meeting *m)
{
    int round;
    pthread_mutex_lock(&m->lock);
    round = m->round;
    if (++m->here == m->needed) {
        m->here = 0;
        m->round++;
        pthread_cond_broadcast(&m->all_here);
    }
    while (round == m->round) {
        pthread_cond_wait(&m->all_here, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
}

static void meeting_end(meeting *m)
{
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->all_here);
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument)
{
    if (pthread_create(thread, NULL, body, argument) != 0) {
        abort(); /* the test cannot do without */
    }
}

static void join_all(const pthread_t *threads, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

/* A mark at both ends of a block, and one in the middle. */
static void stamp(void *ptr, size_t size, uint64_t mark)
{
    unsigned char *bytes = (unsigned char *)ptr;
    if (size >= 24) {
        memcpy(bytes, &mark, 8);
        memcpy(bytes + size / 2 - 4, &mark, 8);
        memcpy(bytes + size - 8, &mark, 8);
    } else {
        memset(bytes, (int)(mark & 0xff), size);
    }
}

/* 1 if the mark is still there. */
static int stamped(const void *ptr, size_t size, uint64_t mark)
{
    const unsigned char *bytes = (const unsigned char *)ptr;
    if (size >= 24) {
        return memcmp(bytes, &mark, 8) == 0 && memcmp(bytes + size / 2 - 4, &mark, 8) == 0 &&
               memcmp(bytes + size - 8, &mark, 8) == 0;
    }
    return bytes[0] == (mark & 0xff) && bytes[size - 1] == (mark & 0xff);
}

typedef struct block {
    void *ptr;
    size_t size;
    uint64_t mark;
} block;

static size_t pick_size(uint64_t *random, size_t size_max)
{
    size_t base = (size_t)1 << test_below(random, 24);
    size_t size = base + test_below(random, (uint32_t)base);
    return size % size_max + 1;
}

/* What one thread does, what it must find in the counters, and what it found wrong. */
typedef struct churn {
    ta_allocator allocator;
    ta_pool *pool; /* if it is one: other ways to allocate and free are used too */
    uint64_t seed;
    uint32_t ops;
    size_t size_max;
    uint32_t window;
    int may_fail;
    meeting *at_start;
    int *stop; /* or NULL: runs until it is set */
    uint64_t allocations, allocated, failures, wrong;
    block blocks[WINDOW_MAX];
} churn;

static void *churn_alloc(churn *c, size_t size, uint32_t dice)
{
    ta_request request;
    if (c->pool != NULL && dice % 4 == 0) {
        return ta_pool_alloc(c->pool, size, NULL);
    }
    if (c->pool != NULL && dice % 16 == 1) {
        return ta_pool_alloc_zeroed(c->pool, size, NULL);
    }
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = dice % 64 == 2 ? 4096 : 0;
    return ta_allocator_alloc(c->allocator, &request, NULL);
}

static void churn_free(churn *c, block *b, uint32_t dice)
{
    c->wrong += !stamped(b->ptr, b->size, b->mark);
    c->wrong += TA_OK != (c->pool != NULL && dice % 2 == 0 ? ta_pool_free(c->pool, b->ptr)
                                                          : ta_allocator_free(c->allocator, b->ptr, b->size, 0, 0));
    b->ptr = NULL;
}

static void churn_step(churn *c, uint64_t *random, uint64_t number)
{
    block *b = &c->blocks[test_below(random, c->window)];
    uint32_t dice = test_below(random, 1 << 16);
    if (b->ptr != NULL && c->pool != NULL && dice % 32 == 3) {
        size_t size = pick_size(random, c->size_max);
        ta_result result = ta_pool_resize_in_place(c->pool, b->ptr, size);
        c->wrong += result != TA_OK && result != TA_ERROR_WOULD_MOVE;
        if (result == TA_OK) {
            c->allocated += size > b->size ? size - b->size : 0;
            b->size = size;
            stamp(b->ptr, b->size, b->mark);
        }
    } else if (b->ptr != NULL) {
        churn_free(c, b, dice);
    } else {
        b->size = pick_size(random, c->size_max);
        b->mark = (c->seed << 40) + number * 257 + 1;
        b->ptr = churn_alloc(c, b->size, dice);
        if (b->ptr == NULL) {
            c->failures++;
            c->wrong += !c->may_fail;
            return;
        }
        stamp(b->ptr, b->size, b->mark);
        c->allocations++;
        c->allocated += b->size;
    }
}

static void *churn_thread(void *argument)
{
    churn *c = (churn *)argument;
    uint64_t random = c->seed * 7919 + 1, number;
    uint32_t i;
    if (c->at_start != NULL) {
        meet(c->at_start);
    }
    for (number = 0; number < c->ops || (c->stop != NULL && !LOAD(c->stop)); number++) {
        churn_step(c, &random, number);
    }
    for (i = 0; i < c->window; i++) {
        if (c->blocks[i].ptr != NULL) {
            churn_free(c, &c->blocks[i], i);
        }
    }
    return NULL;
}

static churn *churns_new(int count, ta_allocator allocator, ta_pool *pool, uint32_t ops, size_t size_max,
                         uint32_t window)
{
    churn *c = (churn *)calloc((size_t)count, sizeof(churn));
    int i;
    if (c == NULL) {
        abort();
    }
    for (i = 0; i < count; i++) {
        c[i].allocator = allocator;
        c[i].pool = pool;
        c[i].seed = test_now.seed % 100003 + (uint64_t)i + 1;
        c[i].ops = ops / SLOWER;
        c[i].size_max = size_max;
        c[i].window = window;
    }
    return c;
}

/* All is quiet: nothing is live, threads that are gone hold nothing, and the counters say what was done. */
static void check_quiet(ta_allocator allocator, ta_pool *pool, const churn *c, int count)
{
    uint64_t allocations = 0, allocated = 0, failures = 0, wrong = 0;
    ta_stats s;
    int i;
    for (i = 0; i < count; i++) {
        allocations += c[i].allocations;
        allocated += c[i].allocated;
        failures += c[i].failures;
        wrong += c[i].wrong;
    }
    CHECK_EQ(wrong, 0);
    CHECK_OK(ta_allocator_get_stats(allocator, &s));
    CHECK_EQ(s.live_count, 0);
    CHECK_EQ(s.in_use_bytes, 0);
    CHECK_EQ(s.requested_bytes, 0);
    CHECK_EQ(s.thread_cached_bytes, 0);
    CHECK_EQ(s.allocation_count, allocations);
    CHECK_EQ(s.deallocation_count, allocations);
    CHECK_EQ(s.allocated_bytes, allocated);
    CHECK_EQ(s.failure_count, failures);
    CHECK_EQ(s.reserved_bytes, s.cached_bytes);
    if (pool != NULL) {
        CHECK_OK(ta_pool_check(pool));
    }
}

static ta_pool_desc plain_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    return desc;
}

static ta_pool *new_pool(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    if (ta_pool_create(desc, &pool) != TA_OK) {
        abort();
    }
    return pool;
}

/*---------------------------------------------------------------------------------------------------------
  Threads that keep to themselves.
  -------------------------------------------------------------------------------------------------------*/
typedef struct first_use {
    meeting *at_start;
    uint64_t wrong;
} first_use;

static void *first_use_thread(void *argument)
{
    first_use *f = (first_use *)argument;
    ta_pool *pool = NULL;
    int round;
    meet(f->at_start);
    for (round = 0; round < 20; round++) {
        void *ptr;
        f->wrong += ta_pool_create(NULL, &pool) != TA_OK;
        ptr = ta_pool_alloc(pool, 100, NULL);
        f->wrong += ptr == NULL || ta_pool_free(pool, ptr) != TA_OK;
        f->wrong += ta_pool_destroy(pool) != TA_OK;
    }
    return NULL;
}

/* The very first calls of the process come from many threads at once: the thread key is made once. */
static void first_pools_of_many_threads(void)
{
    pthread_t threads[16];
    first_use found[16];
    meeting at_start;
    int i;
    meeting_init(&at_start, 16);
    for (i = 0; i < 16; i++) {
        found[i].at_start = &at_start;
        found[i].wrong = 0;
        start(&threads[i], first_use_thread, &found[i]);
    }
    join_all(threads, 16);
    for (i = 0; i < 16; i++) {
        CHECK_EQ(found[i].wrong, 0);
    }
    meeting_end(&at_start);
}

static void run_churn(ta_allocator allocator, ta_pool *pool, int count, uint32_t ops, size_t size_max, uint32_t window,
                      int may_fail)
{
    pthread_t threads[16];
    meeting at_start;
    churn *c = churns_new(count, allocator, pool, ops, size_max, window);
    int i;
    meeting_init(&at_start, count);
    for (i = 0; i < count; i++) {
        c[i].at_start = &at_start;
        c[i].may_fail = may_fail;
        start(&threads[i], churn_thread, &c[i]);
    }
    join_all(threads, count);
    check_quiet(allocator, pool, c, count);
    meeting_end(&at_start);
    free(c);
}

static void own_churn(void)
{
    static const size_t size_max[] = {2000, 64 * KIB, 3 * MIB};
    int i;
    for (i = 0; i < 3; i++) {
        ta_pool_desc desc = plain_desc();
        ta_pool *pool = new_pool(&desc);
        run_churn(ta_pool_allocator(pool), pool, 4, 200000, size_max[i], 32, 0);
        CHECK_OK(ta_pool_destroy(pool));
    }
}

static void own_churn_in_other_configurations(void)
{
    int i;
    for (i = 0; i < 6; i++) {
        ta_pool_desc desc = i == 0 ? ta_pool_desc_spec() : plain_desc();
        ta_pool *pool;
        desc.disable_ranges = i == 1;
        desc.disable_thread_caches = i == 2;
        desc.zeroed = i == 3;
        desc.limit_bytes = i == 4 ? 4 * MIB : 0;
        desc.cached_bytes_max = i == 5 ? MIB : desc.cached_bytes_max;
        pool = new_pool(&desc);
        run_churn(ta_pool_allocator(pool), pool, 3, 30000, 400 * KIB, 32, i == 4);
        CHECK_OK(ta_pool_destroy(pool));
    }
}

static void churn_in_an_arena_and_a_direct_allocator(void)
{
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    CHECK_OK(ta_arena_create(NULL, &arena));
    run_churn(ta_arena_allocator(arena), NULL, 4, 40000, 3000, 16, 0);
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    run_churn(ta_direct_allocator(direct), NULL, 4, 40000, 100000, 16, 0);
    CHECK_OK(ta_direct_destroy(direct));
}

static void churn_through_upstreams(void)
{
    ta_pool_desc desc = plain_desc();
    ta_pool *below = new_pool(&desc), *above;
    ta_upstream state;
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(below), 0, &desc.backend));
    desc.cached_bytes_max = 4 * MIB;
    above = new_pool(&desc);
    run_churn(ta_pool_allocator(above), above, 3, 40000, 300 * KIB, 32, 0);
    CHECK_OK(ta_pool_destroy(above));
    CHECK_OK(ta_pool_check(below));
    CHECK_OK(ta_pool_destroy(below));
}

/*---------------------------------------------------------------------------------------------------------
  Blocks that go from thread to thread.
  -------------------------------------------------------------------------------------------------------*/
#define RING_MAX 64

/* A queue of blocks with a place to wait at either end. */
typedef struct ring {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    block blocks[RING_MAX];
    uint32_t first, count;
    int closed;
} ring;

static void ring_init(ring *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
}

static void ring_end(ring *r)
{
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->moved);
}

static void ring_put(ring *r, block b)
{
    pthread_mutex_lock(&r->lock);
    while (r->count == RING_MAX) {
        pthread_cond_wait(&r->moved, &r->lock);
    }
    r->blocks[(r->first + r->count++) % RING_MAX] = b;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

static void ring_close(ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->closed = 1;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

/* 0 when the ring is closed and empty. */
static int ring_get(ring *r, block *out)
{
    int got;
    pthread_mutex_lock(&r->lock);
    while (r->count == 0 && !r->closed) {
        pthread_cond_wait(&r->moved, &r->lock);
    }
    got = r->count != 0;
    if (got) {
        *out = r->blocks[r->first];
        r->first = (r->first + 1) % RING_MAX;
        r->count--;
        pthread_cond_broadcast(&r->moved);
    }
    pthread_mutex_unlock(&r->lock);
    return got;
}

typedef struct pipeline {
    ta_pool *pool;
    ring *in, *out; /* NULL at either end */
    meeting *at_end;
    uint32_t blocks;
    size_t size_max;
    uint64_t wrong;
} pipeline;

/* Makes blocks, hands them on, or frees them, according to where it stands. */
static void *pipeline_thread(void *argument)
{
    pipeline *p = (pipeline *)argument;
    uint64_t random = (uint64_t)p->size_max, number = 0;
    block b;
    memset(&b, 0, sizeof b);
    for (; p->in != NULL ? ring_get(p->in, &b) : number < p->blocks; number++) {
        if (p->in == NULL) {
            b.size = pick_size(&random, p->size_max);
            b.mark = number * 31 + 7;
            b.ptr = ta_pool_alloc(p->pool, b.size, NULL);
            if (b.ptr == NULL) {
                p->wrong++;
                continue;
            }
        } else {
            p->wrong += !stamped(b.ptr, b.size, b.mark);
            b.mark++;
        }
        if (p->out != NULL) {
            stamp(b.ptr, b.size, b.mark);
            ring_put(p->out, b);
        } else {
            ta_result result = number % 2 == 0 ? ta_pool_free(p->pool, b.ptr)
                                               : ta_pool_free_sized(p->pool, b.ptr, b.size);
            p->wrong += result != TA_OK;
        }
    }
    if (p->out != NULL) {
        ring_close(p->out);
    }
    meet(p->at_end); /* all threads are still there when the main one looks */
    meet(p->at_end);
    return NULL;
}

/* Blocks freed by another thread than the one that allocated: they do not pile up where they are freed. */
static void run_pipeline(size_t size_max, size_t cache_bytes, uint32_t blocks)
{
    pthread_t threads[3];
    pipeline parts[3];
    ring rings[2];
    meeting at_end;
    ta_pool_desc desc = plain_desc();
    ta_pool *pool;
    ta_stats s;
    int i;
    desc.thread_cache_bytes = cache_bytes;
    pool = new_pool(&desc);
    meeting_init(&at_end, 4);
    ring_init(&rings[0]);
    ring_init(&rings[1]);
    memset(parts, 0, sizeof parts);
    for (i = 0; i < 3; i++) {
        parts[i].pool = pool;
        parts[i].in = i == 0 ? NULL : &rings[i - 1];
        parts[i].out = i == 2 ? NULL : &rings[i];
        parts[i].at_end = &at_end;
        parts[i].blocks = blocks / SLOWER;
        parts[i].size_max = size_max;
        start(&threads[i], pipeline_thread, &parts[i]);
    }
    meet(&at_end);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 0);
    CHECK_LE(s.thread_cached_bytes, 3 * cache_bytes);
    CHECK_LE(s.peak_in_use_upper_bytes, 3 * cache_bytes + (2 * RING_MAX + 3) * (size_max + size_max / 4 + 64));
    meet(&at_end);
    join_all(threads, 3);
    CHECK_EQ(parts[0].wrong + parts[1].wrong + parts[2].wrong, 0);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.thread_cached_bytes, 0);
    CHECK_EQ(s.allocation_count, blocks / SLOWER);
    CHECK_EQ(s.deallocation_count, blocks / SLOWER);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    ring_end(&rings[0]);
    ring_end(&rings[1]);
    meeting_end(&at_end);
}

typedef struct handover {
    ta_pool *pool;
    meeting *point;
    void *blocks[64];
    int wrong;
} handover;

static void *free_all_thread(void *arg)
{
    handover *h = (handover *)arg;
    int i;
    meet(h->point);
    for (i = 0; i < 64; i++) {
        h->wrong += ta_pool_free(h->pool, h->blocks[i]) != TA_OK;
    }
    meet(h->point);
    meet(h->point);
    return NULL;
}

/* A full cache hands over what another thread missed: counted as cached, used again, and given back. */
static void blocks_pass_from_cache_to_cache(void)
{
    enum { CACHE = 131072, SIZE = 4096 };
    ta_pool_desc desc = plain_desc();
    pthread_t thread;
    meeting point;
    handover h;
    ta_stats s, before;
    int i;
    desc.thread_cache_bytes = CACHE;
    memset(&h, 0, sizeof h);
    h.pool = new_pool(&desc);
    h.point = &point;
    meeting_init(&point, 2);
    for (i = 0; i < 64; i++) {
        h.blocks[i] = ta_pool_alloc(h.pool, SIZE, NULL);
        h.wrong += h.blocks[i] == NULL;
    }
    CHECK_OK(ta_pool_thread_flush(h.pool));
    start(&thread, free_all_thread, &h);
    meet(&point);
    meet(&point);
    CHECK_OK(ta_pool_check(h.pool));
    CHECK_OK(ta_pool_get_stats(h.pool, &before));
    CHECK_EQ(before.live_count, 0);
    CHECK_EQ(before.in_use_bytes, 0);
    CHECK_LE(before.thread_cached_bytes, CACHE + CACHE / 2);
    for (i = 0; i < 16; i++) {
        h.blocks[i] = ta_pool_alloc(h.pool, SIZE, NULL);
        h.wrong += h.blocks[i] == NULL;
    }
    CHECK_OK(ta_pool_check(h.pool));
    CHECK_OK(ta_pool_get_stats(h.pool, &s));
    CHECK_EQ(s.live_count, 16);
    CHECK_LT(CACHE, before.thread_cached_bytes);
    CHECK_EQ(s.thread_hit_count, before.thread_hit_count + 16);
    CHECK_EQ(s.in_use_bytes, 16 * SIZE);
    for (i = 0; i < 16; i++) {
        CHECK_OK(ta_pool_free(h.pool, h.blocks[i]));
    }
    CHECK_OK(ta_pool_empty_cache(h.pool));
    CHECK_OK(ta_pool_get_stats(h.pool, &s));
    CHECK_LE(s.thread_cached_bytes, CACHE); /* the other thread's */
    meet(&point);
    join_all(&thread, 1);
    CHECK_EQ(h.wrong, 0);
    CHECK_OK(ta_pool_get_stats(h.pool, &s));
    CHECK_EQ(s.thread_cached_bytes, 0);
    CHECK_OK(ta_pool_check(h.pool));
    CHECK_OK(ta_pool_destroy(h.pool));
    meeting_end(&point);
}

static void producers_and_consumers(void)
{
    run_pipeline(300, 16 * KIB, 60000);
    run_pipeline(16 * KIB, 64 * KIB, 40000);
    run_pipeline(60 * KIB, MIB, 20000);
    run_pipeline(MIB, 256 * KIB, 10000);
}

/*---------------------------------------------------------------------------------------------------------
  The end of threads, the end of pools.
  -------------------------------------------------------------------------------------------------------*/
typedef struct visitor {
    ta_pool **pools;
    int pool_count;
    meeting *meeting_point;
    int allocations;
    uint64_t wrong;
} visitor;

#define VISIT_MAX 400

/* Leaves so many blocks of several sizes in this thread's cache. */
static void visit(ta_pool *pool, int allocations, uint64_t *wrong)
{
    void *ptr[VISIT_MAX];
    int i;
    for (i = 0; i < allocations; i++) {
        ptr[i] = ta_pool_alloc(pool, (size_t)50 << i % 8, NULL);
        *wrong += ptr[i] == NULL;
    }
    for (i = 0; i < allocations; i++) {
        *wrong += ta_pool_free(pool, ptr[i]) != TA_OK;
    }
}

/* Visits, says so, and exits at once or when told. */
static void *visitor_thread(void *argument)
{
    visitor *v = (visitor *)argument;
    int i;
    for (i = 0; i < v->pool_count; i++) {
        visit(v->pools[i], v->allocations, &v->wrong);
    }
    if (v->meeting_point != NULL) {
        meet(v->meeting_point);
    }
    return NULL;
}

static void *waiting_visitor_thread(void *argument)
{
    visitor *v = (visitor *)argument;
    (void)visitor_thread(argument);
    meet(v->meeting_point);
    return NULL;
}

static void thread_exit_hands_the_cache_back(void)
{
    ta_pool_desc desc = plain_desc();
    ta_pool *pool = new_pool(&desc);
    meeting point;
    visitor v;
    pthread_t thread;
    ta_stats s;
    memset(&v, 0, sizeof v);
    meeting_init(&point, 2);
    v.pools = &pool;
    v.pool_count = 1;
    v.meeting_point = &point;
    v.allocations = 80;
    start(&thread, waiting_visitor_thread, &v);
    meet(&point);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_GT(s.thread_cached_bytes, 0);
    CHECK_EQ(s.allocation_count, 80);
    CHECK_EQ(s.live_count, 0);
    meet(&point);
    join_all(&thread, 1);
    CHECK_EQ(v.wrong, 0);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.thread_cached_bytes, 0);
    CHECK_EQ(s.allocation_count, 80);
    CHECK_EQ(s.deallocation_count, 80);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.reserved_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
    meeting_end(&point);
}

typedef struct leaver {
    ta_pool **pools;
    int allocations;
    int *ready, *go;
    uint64_t wrong;
} leaver;

/* Visits two pools, says so, and exits as soon as it may. */
static void *leaver_thread(void *argument)
{
    leaver *l = (leaver *)argument;
    int patience = 0;
    visit(l->pools[0], l->allocations, &l->wrong);
    visit(l->pools[1], l->allocations, &l->wrong);
    (void)__atomic_add_fetch(l->ready, 1, __ATOMIC_ACQ_REL);
    while (!LOAD(l->go)) {
        if (++patience > 1000) {
            sched_yield();
            patience = 0;
        }
    }
    return NULL;
}

/* Threads exit at the very moment at which the pools are destroyed, before it, and after it. */
static void threads_exit_while_the_pool_is_destroyed(void)
{
    uint64_t random = test_now.seed;
    int round, i, rounds = 2000 / SLOWER;
    for (round = 0; round < rounds; round++) {
        ta_pool_desc desc = plain_desc();
        ta_pool *pools[2];
        pthread_t threads[3];
        leaver l[3];
        int count = 1 + round % 3, late = round % 8 == 7, ready = 0, go = 0;
        volatile uint32_t wait = test_below(&random, round % 2 == 0 ? 2000 : 100000);
        pools[0] = new_pool(&desc);
        pools[1] = new_pool(&desc);
        memset(l, 0, sizeof l);
        for (i = 0; i < count; i++) {
            l[i].pools = pools;
            l[i].allocations = VISIT_MAX - 100 * i; /* so that letting go of it takes a while */
            l[i].ready = &ready;
            l[i].go = &go;
            start(&threads[i], leaver_thread, &l[i]);
        }
        while (LOAD(&ready) < count) { /* afterwards nobody is in a call */
            sched_yield();
        }
        STORE(&go, !late);
        while (wait > 0) {
            wait = wait - 1;
        }
        CHECK_OK(ta_pool_destroy(pools[round % 2]));
        CHECK_OK(ta_pool_destroy(pools[1 - round % 2]));
        STORE(&go, 1);
        join_all(threads, count);
        CHECK_EQ(l[0].wrong + l[1].wrong + l[2].wrong, 0);
    }
}

typedef struct reuse {
    ta_pool **pool;
    meeting *point;
    int rounds;
    uint64_t wrong;
} reuse;

static void *reuse_thread(void *argument)
{
    reuse *r = (reuse *)argument;
    int round;
    for (round = 0; round < r->rounds; round++) {
        meet(r->point); /* there is a new pool */
        visit(*r->pool, 24, &r->wrong);
        meet(r->point); /* nobody is in a call */
    }
    return NULL;
}

/* A new pool at the address of an old one: what threads still hold of the old one is not taken for the new one's. */
static void stale_slots_do_not_match_a_new_pool_at_the_same_address(void)
{
    ta_pool *pool = NULL, *last = NULL;
    pthread_t threads[2];
    reuse r[2];
    meeting point;
    int round, i, rounds = 1000 / SLOWER, same = 0;
    meeting_init(&point, 3);
    for (i = 0; i < 2; i++) {
        r[i].pool = &pool;
        r[i].point = &point;
        r[i].rounds = rounds;
        r[i].wrong = 0;
        start(&threads[i], reuse_thread, &r[i]);
    }
    for (round = 0; round < rounds; round++) {
        ta_pool_desc desc = plain_desc();
        ta_stats s;
        uint64_t wrong = 0;
        desc.disable_ranges = round % 5 == 4;
        pool = new_pool(&desc);
        same += pool == last;
        last = pool;
        meet(&point);
        visit(pool, 16, &wrong);
        meet(&point);
        CHECK_EQ(wrong, 0);
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.allocation_count, 16 + 2 * 24);
        CHECK_EQ(s.live_count, 0);
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_destroy(pool));
    }
    join_all(threads, 2);
    CHECK_EQ(r[0].wrong + r[1].wrong, 0);
    CHECK_EQ(same, rounds - 1);
    meeting_end(&point);
}

/* More pools than a thread has places to remember, and many threads. */
static void many_pools_and_many_threads(void)
{
    enum { POOLS = 40, THREADS = 100 };
    static pthread_t threads[THREADS];
    static visitor v[THREADS];
    ta_pool *pools[POOLS];
    meeting point;
    ta_stats s;
    int i;
    ta_pool_desc desc = plain_desc();
    meeting_init(&point, THREADS + 1);
    for (i = 0; i < POOLS; i++) {
        pools[i] = new_pool(&desc);
    }
    for (i = 0; i < THREADS; i++) {
        memset(&v[i], 0, sizeof v[i]);
        v[i].pools = pools;
        v[i].pool_count = POOLS;
        v[i].allocations = 8;
        v[i].meeting_point = &point;
        start(&threads[i], waiting_visitor_thread, &v[i]);
    }
    meet(&point);
    CHECK_OK(ta_pool_get_desc(pools[0], &desc));
    for (i = 0; i < POOLS; i++) { /* idle threads hold little */
        CHECK_OK(ta_pool_get_stats(pools[i], &s));
        CHECK_EQ(s.allocation_count, 8 * THREADS);
        CHECK_LE(s.thread_cached_bytes, THREADS * desc.thread_cache_bytes);
        CHECK_OK(ta_pool_check(pools[i]));
    }
    CHECK_OK(ta_pool_destroy(pools[0])); /* some go while all threads hold something */
    meet(&point);
    join_all(threads, THREADS);
    for (i = 1; i < POOLS; i++) {
        CHECK_OK(ta_pool_get_stats(pools[i], &s));
        CHECK_EQ(s.thread_cached_bytes, 0);
        CHECK_EQ(s.deallocation_count, 8 * THREADS);
        CHECK_OK(ta_pool_check(pools[i]));
        CHECK_OK(ta_pool_destroy(pools[i]));
    }
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ(v[i].wrong, 0);
    }
    meeting_end(&point);
}

typedef struct disposal {
    ta_pool *pool;
    meeting *point;
    uint64_t wrong;
} disposal;

static void *disposal_thread(void *argument)
{
    disposal *d = (disposal *)argument;
    ta_result result = TA_OK;
    void *ptr = ta_pool_alloc(d->pool, 1000, NULL);
    visit(d->pool, 24, &d->wrong);
    meet(d->point);
    meet(d->point); /* disposed meanwhile */
    d->wrong += ta_pool_alloc(d->pool, 100, &result) != NULL || result != TA_ERROR_DISPOSED;
    d->wrong += ta_pool_alloc(d->pool, 100000, &result) != NULL || result != TA_ERROR_DISPOSED;
    d->wrong += ta_pool_free(d->pool, ptr) != TA_ERROR_DISPOSED;
    d->wrong += ta_pool_thread_flush(d->pool) != TA_ERROR_DISPOSED;
    meet(d->point);
    return NULL;
}

static void dispose_while_threads_remain(void)
{
    ta_pool_desc desc = plain_desc();
    ta_pool *pool = new_pool(&desc);
    pthread_t threads[3];
    disposal d[3];
    meeting point;
    ta_stats s;
    int i;
    run_churn(ta_pool_allocator(pool), pool, 3, 20000, 100 * KIB, 32, 0); /* threads that are gone already */
    meeting_init(&point, 4);
    for (i = 0; i < 3; i++) {
        d[i].pool = pool;
        d[i].point = &point;
        d[i].wrong = 0;
        start(&threads[i], disposal_thread, &d[i]);
    }
    meet(&point);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 3);
    CHECK_OK(ta_pool_dispose(pool));
    CHECK_OK(ta_pool_dispose(pool));
    meet(&point);
    meet(&point);
    join_all(threads, 3);
    CHECK_EQ(d[0].wrong + d[1].wrong + d[2].wrong, 0);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 0);
    CHECK_EQ(s.reserved_bytes, 0);
    CHECK_EQ(s.thread_cached_bytes, 0);
    CHECK_EQ(s.allocation_count, s.deallocation_count);
    CHECK_OK(ta_pool_destroy(pool));
    meeting_end(&point);
}

/* A single-threaded pool may be used by one thread after the other. */
static void single_threaded_pool_moves_between_threads(void)
{
    ta_pool_desc desc = plain_desc();
    ta_pool *pool;
    visitor v;
    pthread_t thread;
    ta_stats s;
    int i;
    desc.single_threaded = 1;
    pool = new_pool(&desc);
    memset(&v, 0, sizeof v);
    v.pools = &pool;
    v.pool_count = 1;
    v.allocations = 160;
    for (i = 0; i < 20; i++) {
        start(&thread, visitor_thread, &v);
        join_all(&thread, 1);
        visit(pool, 16, &v.wrong);
    }
    CHECK_EQ(v.wrong, 0);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.allocation_count, 20 * (160 + 16));
    CHECK_EQ(s.live_count, 0);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

/*---------------------------------------------------------------------------------------------------------
  Callbacks, budgets, and everything else that may be called at any time.
  -------------------------------------------------------------------------------------------------------*/
typedef struct stash {
    pthread_mutex_t lock;
    ta_pool *pool;
    void *blocks[WINDOW_MAX];
    int count;
    uint64_t freed, wrong;
} stash;

static int free_from_the_stash(void *user, const ta_failure *failure)
{
    stash *st = (stash *)user;
    void *ptr = NULL;
    pthread_mutex_lock(&st->lock);
    if (st->count > 0) {
        ptr = st->blocks[--st->count];
        st->freed++;
    }
    st->wrong += failure->result != TA_ERROR_LIMIT;
    pthread_mutex_unlock(&st->lock);
    return ptr != NULL && ta_pool_free(st->pool, ptr) == TA_OK;
}

static void *stash_thread(void *argument)
{
    stash *st = (stash *)argument;
    int i, rounds = 8000 / SLOWER;
    for (i = 0; i < rounds; i++) {
        ta_result result = TA_OK;
        size_t size = (size_t)100 * KIB + (size_t)(i % 7) * 50 * KIB;
        void *ptr = ta_pool_alloc(st->pool, size, &result), *old = NULL;
        pthread_mutex_lock(&st->lock);
        st->wrong += ptr == NULL && result != TA_ERROR_LIMIT && result != TA_ERROR_FRAGMENTED;
        if (ptr != NULL) {
            memset(ptr, i & 0xff, 64);
            if (st->count == WINDOW_MAX) {
                old = ptr;
            } else {
                st->blocks[st->count++] = ptr;
            }
        }
        pthread_mutex_unlock(&st->lock);
        if (old != NULL) {
            (void)ta_pool_free(st->pool, old);
        }
    }
    return NULL;
}

/* Two threads run out of memory all the time; the callback frees into the pool that calls it. */
static void callbacks_free_into_the_same_pool(void)
{
    ta_pool_desc desc = plain_desc();
    pthread_t threads[2];
    stash st;
    ta_stats s;
    memset(&st, 0, sizeof st);
    pthread_mutex_init(&st.lock, NULL);
    desc.limit_bytes = 6 * MIB;
    desc.on_out_of_memory = free_from_the_stash;
    desc.on_out_of_memory_user = &st;
    st.pool = new_pool(&desc);
    start(&threads[0], stash_thread, &st);
    start(&threads[1], stash_thread, &st);
    join_all(threads, 2);
    CHECK_GT(st.freed, 100);
    CHECK_EQ(st.wrong, 0);
    CHECK_OK(ta_pool_get_stats(st.pool, &s));
    CHECK_EQ(s.live_count, st.count);
    CHECK_LE(s.peak_reserved_bytes, 6 * MIB);
    CHECK_OK(ta_pool_check(st.pool));
    CHECK_OK(ta_pool_clear(st.pool));
    CHECK_OK(ta_pool_check(st.pool));
    CHECK_OK(ta_pool_destroy(st.pool));
    pthread_mutex_destroy(&st.lock);
}

typedef struct event_counts {
    uint64_t of[8];
    ta_pool *pool;
    uint64_t wrong;
} event_counts;

static void count_event(void *user, const ta_event *event)
{
    event_counts *e = (event_counts *)user;
    ta_stats s;
    (void)ADD(&e->of[event->kind], 1);
    if (event->kind == TA_EVENT_GROW && LOAD(&e->pool) != NULL) { /* no lock is held: anything may be called */
        void *ptr = ta_pool_get(LOAD(&e->pool), 64, NULL);
        if (ta_pool_get_stats(LOAD(&e->pool), &s) != TA_OK || ta_pool_free(LOAD(&e->pool), ptr) != TA_OK) {
            (void)ADD(&e->wrong, 1);
        }
    }
}

static void events_come_from_all_threads(void)
{
    ta_pool_desc desc = plain_desc();
    event_counts e;
    pthread_t threads[3];
    churn *c;
    ta_stats s;
    uint64_t wrong = 0;
    int i;
    memset(&e, 0, sizeof e);
    desc.on_event = count_event;
    desc.on_event_user = &e;
    STORE(&e.pool, new_pool(&desc));
    c = churns_new(3, ta_pool_allocator(e.pool), e.pool, 30000, 200 * KIB, 32);
    for (i = 0; i < 3; i++) {
        start(&threads[i], churn_thread, &c[i]);
    }
    join_all(threads, 3);
    for (i = 0; i < 3; i++) {
        wrong += c[i].wrong;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(e.wrong, 0);
    CHECK_OK(ta_pool_get_stats(e.pool, &s));
    CHECK_EQ(e.of[TA_EVENT_ALLOC], s.allocation_count);
    CHECK_EQ(e.of[TA_EVENT_FREE], s.deallocation_count);
    CHECK_EQ(e.of[TA_EVENT_RESIZE], s.resize_count);
    CHECK_EQ(e.of[TA_EVENT_FAILURE], s.failure_count);
    CHECK_EQ(s.thread_hit_count, 0);
    CHECK_EQ(s.live_count, 0);
    CHECK_OK(ta_pool_check(e.pool));
    CHECK_OK(ta_pool_destroy(e.pool));
    free(c);
}

static int look_at_block(void *user, const ta_block_info *info)
{
    uint64_t *wrong = (uint64_t *)user;
    *wrong += info->ptr == NULL || info->capacity_bytes == 0 || info->requested_bytes > info->capacity_bytes;
    return 0;
}

static int stop_after_a_while(void *user, const ta_block_info *info)
{
    int *left = (int *)user;
    (void)info;
    return --*left < 0;
}

/* Everything that may be called from any thread at any time is, while others allocate and free. */
static void look_around(ta_pool *pool, uint64_t *random)
{
    ta_stats s;
    ta_bucket_stats bucket;
    ta_failure failure;
    ta_pool_desc desc;
    char text[2000];
    size_t released = 0;
    uint64_t wrong = 0;
    int left = 10;
    void *mine = ta_pool_alloc(pool, 500, NULL);
    switch (test_below(random, 12)) {
    case 0:
        CHECK_OK(ta_pool_trim(pool, test_below(random, 4) * MIB, &released));
        break;
    case 1:
        CHECK_OK(ta_pool_empty_cache(pool));
        break;
    case 2:
        CHECK_OK(ta_pool_walk(pool, look_at_block, &wrong));
        break;
    case 3:
        CHECK_OK(ta_pool_for_each_live(pool, look_at_block, &wrong));
        break;
    case 4:
        CHECK_OK(ta_pool_thread_flush(pool));
        break;
    case 5:
        CHECK_OK(ta_pool_get_bucket_stats(pool, (int)test_below(random, TA_BUCKET_COUNT), &bucket));
        break;
    case 6:
        CHECK_OK(ta_pool_reset_peaks(pool));
        break;
    case 7:
        CHECK_OK(ta_pool_get_failure(pool, &failure));
        break;
    case 8:
        CHECK_OK(ta_pool_seal(pool, 1));
        CHECK_OK(ta_pool_seal(pool, 0));
        break;
    case 9:
        CHECK_GT(ta_report(ta_pool_allocator(pool), text, sizeof text), 0);
        break;
    case 10:
        CHECK_OK(ta_pool_for_each_live(pool, stop_after_a_while, &left));
        CHECK_OK(ta_pool_get_desc(pool, &desc));
        break;
    default:
        CHECK(ta_pool_owns(pool, mine) && ta_pool_capacity_of(pool, mine) >= 500);
        CHECK_RESULT(ta_pool_free(pool, (char *)mine + 1), TA_ERROR_INTERIOR);
        break;
    }
    CHECK_EQ(wrong, 0);
    CHECK_OK(ta_pool_free(pool, mine));
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_EQ(s.hit_count + s.miss_count, s.allocation_count);
}

static void everything_at_the_same_time(void)
{
    int configuration;
    for (configuration = 0; configuration < 3; configuration++) {
        ta_pool_desc desc = plain_desc();
        ta_pool *pool;
        pthread_t threads[2];
        churn *c;
        ta_stats s;
        uint64_t random = test_now.seed + (uint64_t)configuration;
        int i, stop = 0, rounds = 6000 / SLOWER;
        desc.disable_ranges = configuration == 1;
        desc.cached_bytes_max = configuration == 2 ? MIB : 0;
        pool = new_pool(&desc);
        c = churns_new(2, ta_pool_allocator(pool), pool, 30000, 150 * KIB, 48);
        for (i = 0; i < 2; i++) {
            c[i].stop = &stop;
            c[i].may_fail = 1; /* while it is sealed */
            start(&threads[i], churn_thread, &c[i]);
        }
        for (i = 0; i < rounds; i++) {
            look_around(pool, &random);
        }
        STORE(&stop, 1);
        join_all(threads, 2);
        CHECK_EQ(c[0].wrong + c[1].wrong, 0);
        CHECK_OK(ta_pool_thread_flush(pool));
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.thread_cached_bytes, 0);
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.reserved_bytes, 0);
        CHECK_OK(ta_pool_destroy(pool));
        free(c);
    }
}

/* Four threads on two pools and an arena over one budget that is never enough: each takes from the others. */
static void one_budget_for_all(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_budget_stats b;
    ta_pool_desc desc = plain_desc();
    ta_arena_desc arena_desc;
    ta_allocator allocators[3];
    ta_pool *pools[3] = {NULL, NULL, NULL};
    ta_arena *arena = NULL;
    pthread_t threads[5];
    churn *c;
    size_t reserved = 0;
    uint64_t allocations = 0, failures = 0;
    int i, stop = 0, rounds = 2000 / SLOWER;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    budget_desc.limit_bytes = 5 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = arena_desc.budget = budget;
    pools[0] = new_pool(&desc);
    desc.disable_ranges = 1;
    pools[1] = new_pool(&desc);
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    allocators[0] = ta_pool_allocator(pools[0]);
    allocators[1] = ta_pool_allocator(pools[1]);
    allocators[2] = ta_arena_allocator(arena);
    c = churns_new(5, allocators[0], NULL, 8000, 400 * KIB, 6);
    for (i = 0; i < 5; i++) {
        c[i].allocator = allocators[i % 3];
        c[i].pool = pools[i % 3];
        c[i].may_fail = 1;
        c[i].stop = &stop;
        start(&threads[i], churn_thread, &c[i]);
    }
    for (i = 0; i < rounds; i++) {
        CHECK_OK(ta_budget_get_stats(budget, &b));
        CHECK_LE(b.reserved_bytes, b.limit_bytes);
        CHECK_RESULT(ta_budget_destroy(budget), TA_ERROR_BUSY);
        sched_yield();
    }
    STORE(&stop, 1);
    join_all(threads, 5);
    for (i = 0; i < 3; i++) {
        ta_stats s;
        CHECK_OK(ta_allocator_get_stats(allocators[i], &s));
        CHECK_EQ(s.live_count, 0);
        reserved += s.reserved_bytes;
        if (pools[i] != NULL) {
            CHECK_OK(ta_pool_check(pools[i]));
        }
    }
    for (i = 0; i < 5; i++) {
        CHECK_EQ(c[i].wrong, 0);
        CHECK_GT(c[i].allocations, 0);
        allocations += c[i].allocations;
        failures += c[i].failures;
    }
    CHECK_GT(allocations, failures); /* it is scarce, but there is some for everybody */
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.reserved_bytes, reserved);
    CHECK_LE(b.peak_reserved_bytes, b.limit_bytes);
    CHECK_OK(ta_pool_destroy(pools[0]));
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_pool_destroy(pools[1]));
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.reserved_bytes, 0);
    CHECK_OK(ta_budget_destroy(budget));
    free(c);
}

/*---------------------------------------------------------------------------------------------------------
  The gate leans to the thread that comes often, and others take that away again.
  -------------------------------------------------------------------------------------------------------*/
typedef struct turn {
    ta_pool *pool;
    int me;
    int *whose;     /* turns go round */
    int rounds;
    uint32_t ops;   /* of the first turn; then it takes longer and longer until a thread is favoured again */
    uint64_t wrong;
} turn;

static void large_ops(ta_pool *pool, uint32_t ops, uint64_t seed, uint64_t *wrong)
{
    block b[3];
    uint32_t i;
    memset(b, 0, sizeof b);
    for (i = 0; i < ops; i++) {
        block *one = &b[i % 3];
        if (one->ptr != NULL) {
            *wrong += !stamped(one->ptr, one->size, one->mark) || ta_pool_free(pool, one->ptr) != TA_OK;
        }
        one->size = 70000 + (size_t)(i * 7919 % 50000);
        one->mark = seed + i;
        one->ptr = ta_pool_alloc(pool, one->size, NULL);
        if (one->ptr == NULL) {
            ++*wrong;
            return;
        }
        stamp(one->ptr, one->size, one->mark);
    }
    for (i = 0; i < 3; i++) {
        *wrong += b[i].ptr != NULL && !stamped(b[i].ptr, b[i].size, b[i].mark);
        *wrong += ta_pool_free(pool, b[i].ptr) != TA_OK;
    }
}

static void *turn_thread(void *argument)
{
    turn *t = (turn *)argument;
    int round;
    for (round = 0; round < t->rounds; round++) {
        while (LOAD(t->whose) != t->me) {
            sched_yield();
        }
        large_ops(t->pool, t->ops << (round < 4 ? 2 * round : 8), (uint64_t)t->me << 32, &t->wrong);
        STORE(t->whose, 1 - t->me);
    }
    return NULL;
}

/* Turns: the favour is granted in each and withdrawn in the next. */
static void favour_goes_round(void)
{
    int pools = 400 / SLOWER, i, p;
    for (p = 0; p < pools; p++) {
        ta_pool_desc desc = plain_desc();
        ta_pool *pool = new_pool(&desc);
        pthread_t threads[2];
        turn t[2];
        ta_stats s;
        int whose = 0;
        for (i = 0; i < 2; i++) {
            t[i].pool = pool;
            t[i].me = i;
            t[i].whose = &whose;
            t[i].rounds = 5;
            t[i].ops = 8;
            t[i].wrong = 0;
            start(&threads[i], turn_thread, &t[i]);
        }
        join_all(threads, 2);
        CHECK_EQ(t[0].wrong + t[1].wrong, 0);
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.allocation_count, s.deallocation_count);
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_destroy(pool));
    }
}

typedef struct flight {
    ta_pool *pool;
    meeting *point;
    int landed; /* this pool is done with */
    int over;   /* there are no more */
    uint64_t pairs, wrong;
} flight;

/* Goes in and out of the gate without pause. */
static void *flight_thread(void *argument)
{
    flight *f = (flight *)argument;
    for (;;) {
        uint64_t pairs = 0;
        meet(f->point);
        if (f->over) {
            return NULL;
        }
        while (!LOAD(&f->landed)) {
            large_ops(f->pool, 1, pairs++, &f->wrong);
            STORE(&f->pairs, pairs);
        }
        meet(f->point);
    }
}

/* The favour is withdrawn while the favoured thread is in full flight. With each pool the first favours come quickly
   (after 8 visits to the gate, then 16, 32 ...), so there are many pools. */
static void favour_is_withdrawn_in_full_flight(void)
{
    int pools = 480 / SLOWER, p, i;
    pthread_t thread;
    meeting point;
    flight f;
    memset(&f, 0, sizeof f);
    meeting_init(&point, 2);
    f.point = &point;
    start(&thread, flight_thread, &f);
    for (p = 0; p < pools && test_now.failures == 0; p++) {
        ta_pool_desc desc = plain_desc();
        uint64_t wrong = 0, mine = 0;
        ta_stats s;
        visitor v;
        f.pool = new_pool(&desc);
        f.landed = 0;
        f.pairs = 0;
        memset(&v, 0, sizeof v);
        meet(&point);
        for (i = 0; i < 7; i++) {
            uint64_t seen = LOAD(&f.pairs);
            while (LOAD(&f.pairs) < seen + (4u << i) + 3) {
                sched_yield();
            }
            if (i == 3) {
                CHECK_OK(ta_pool_get_stats(f.pool, &s));
            } else {
                large_ops(f.pool, 1, (uint64_t)i << 40, &wrong);
                mine++;
            }
        }
        if (p % 100 == 0) { /* a thread that comes and ends while another is favoured */
            pthread_t guest;
            v.pools = &f.pool;
            v.pool_count = 1;
            v.allocations = 8;
            start(&guest, visitor_thread, &v);
            join_all(&guest, 1);
        }
        STORE(&f.landed, 1);
        meet(&point);
        CHECK_EQ(f.wrong + v.wrong + wrong, 0);
        CHECK_OK(ta_pool_get_stats(f.pool, &s));
        CHECK_EQ(s.allocation_count, f.pairs + mine + (uint64_t)v.allocations);
        CHECK_EQ(s.deallocation_count, s.allocation_count);
        CHECK_OK(ta_pool_check(f.pool));
        CHECK_OK(ta_pool_destroy(f.pool));
    }
    f.over = 1;
    meet(&point);
    join_all(&thread, 1);
    meeting_end(&point);
}

TEST_MAIN(TEST_CASE_THREADS(first_pools_of_many_threads), TEST_CASE_THREADS(own_churn),
          TEST_CASE_THREADS(own_churn_in_other_configurations),
          TEST_CASE_THREADS(churn_in_an_arena_and_a_direct_allocator), TEST_CASE_THREADS(churn_through_upstreams),
          TEST_CASE_THREADS(producers_and_consumers), TEST_CASE_THREADS(blocks_pass_from_cache_to_cache),
          TEST_CASE_THREADS(thread_exit_hands_the_cache_back),
          TEST_CASE_THREADS(threads_exit_while_the_pool_is_destroyed),
          TEST_CASE_THREADS(stale_slots_do_not_match_a_new_pool_at_the_same_address),
          TEST_CASE_THREADS(many_pools_and_many_threads), TEST_CASE_THREADS(dispose_while_threads_remain),
          TEST_CASE_THREADS(single_threaded_pool_moves_between_threads),
          TEST_CASE_THREADS(callbacks_free_into_the_same_pool), TEST_CASE_THREADS(events_come_from_all_threads),
          TEST_CASE_THREADS(everything_at_the_same_time), TEST_CASE_THREADS(one_budget_for_all),
          TEST_CASE_THREADS(favour_goes_round), TEST_CASE_THREADS(favour_is_withdrawn_in_full_flight))
