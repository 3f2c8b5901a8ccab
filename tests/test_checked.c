/* test_checked.c - TENSORALLOC_CHECKED. Threads that free the same block at the same moment: exactly one of them is
   told TA_OK, the others TA_ERROR_STALE; nothing is freed twice, and the books stay right. What the checks cost in
   memory and what they tell; one bug after the other is in tests/misuse. */
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#ifndef TENSORALLOC_CHECKED
    #define TENSORALLOC_CHECKED 2
#endif
static void told(int result, const char *text);
static void *counted_malloc(size_t size);
static void counted_free(void *ptr);
#define TENSORALLOC_LOG(result, text) told((int)(result), (text))
#define TENSORALLOC_MALLOC(size) counted_malloc(size)
#define TENSORALLOC_FREE(ptr) counted_free(ptr)
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
#ifndef SLOWER
    #define SLOWER 1 /* times less to do, for emulators */
#endif
#ifndef ROUNDS
    #define ROUNDS (20000 / SLOWER)
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

/* ---- what is told */
static struct {
    int count, result;
    char text[256];
} log_now;

static void told(int result, const char *text)
{
    if (__atomic_fetch_add(&log_now.count, 1, __ATOMIC_ACQ_REL) == 0) {
        log_now.result = result;
        (void)snprintf(log_now.text, sizeof log_now.text, "%s", text);
    }
}

static long objects; /* from the hook and not yet back */

static void *counted_malloc(size_t size)
{
    __atomic_fetch_add(&objects, 1, __ATOMIC_RELAXED);
    return malloc(size);
}

static void counted_free(void *ptr)
{
    if (ptr != NULL) {
        __atomic_fetch_sub(&objects, 1, __ATOMIC_RELAXED);
    }
    free(ptr);
}

typedef struct seen {
    int count;
    ta_event last;
} seen;

static void on_event(void *user, const ta_event *event)
{
    seen *s = (seen *)user;
    if (event->kind == TA_EVENT_MISUSE) {
        s->count++;
        s->last = *event;
    }
}

static void misuse_is_told(void)
{
    ta_pool_desc desc;
    ta_request request;
    ta_pool *pool = NULL;
    seen s;
    char *block;
    memset(&desc, 0, sizeof desc);
    memset(&request, 0, sizeof request);
    memset(&s, 0, sizeof s);
    desc.name = "told";
    desc.on_event = on_event;
    desc.on_event_user = &s;
    request.size_bytes = 100;
    request.tag = "a tag";
    CHECK_OK(ta_pool_create(&desc, &pool));
    block = (char *)ta_pool_alloc_request(pool, &request, NULL);
    REQUIRE(block != NULL);
    block[100] = 1;
    log_now.count = 0;
    CHECK_RESULT(ta_pool_free(pool, block), TA_ERROR_OVERRUN);
    CHECK_EQ(log_now.count, 1);
    CHECK_EQ(log_now.result, TA_ERROR_OVERRUN);
    CHECK(strstr(log_now.text, "told: ") == log_now.text && strstr(log_now.text, "100 bytes") != NULL &&
          strstr(log_now.text, "tag a tag") != NULL);
    CHECK_EQ(s.count, 1);
    CHECK_EQ(s.last.result, TA_ERROR_OVERRUN);
    CHECK(s.last.ptr == block && s.last.tag == request.tag && strcmp(s.last.name, "told") == 0);
    CHECK_EQ(s.last.size_bytes, 100);
    /* Nothing has changed: it is still live, and can be mended. */
    CHECK_EQ(ta_pool_owns(pool, block), 1);
    block[100] = (char)0xb5;
    CHECK_OK(ta_pool_free(pool, block));
    CHECK_EQ(s.count, 1);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_EQ(s.count, 1);
}

static void capacity_is_what_was_requested(void)
{
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 70000, (1 << 20) + 1};
    ta_pool *pool = NULL;
    ta_stats stats;
    char *blocks[7];
    size_t i;
    CHECK_OK(ta_pool_create(NULL, &pool));
    for (i = 0; i < 7; i++) {
        blocks[i] = (char *)ta_pool_alloc(pool, sizes[i], NULL);
        REQUIRE(blocks[i] != NULL);
        CHECK_EQ(ta_pool_capacity_of(pool, blocks[i]), sizes[i]);
        memset(blocks[i], 7, sizes[i]);
    }
    CHECK_OK(ta_pool_check(pool));
    for (i = 0; i < 7; i++) {
        blocks[i] = (char *)ta_pool_realloc(pool, blocks[i], sizes[i] * 2, NULL);
        REQUIRE(blocks[i] != NULL);
        CHECK(blocks[i][0] == 7 && blocks[i][sizes[i] - 1] == 7);
        memset(blocks[i], 8, sizes[i] * 2);
        CHECK_OK(ta_pool_resize_in_place(pool, blocks[i], sizes[i]));
        CHECK(blocks[i][0] == 8 && blocks[i][sizes[i] - 1] == 8);
        CHECK_OK(ta_pool_free_sized(pool, blocks[i], sizes[i]));
    }
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.in_use_bytes, 0);
    CHECK_EQ(stats.cached_bytes, stats.reserved_bytes);
    CHECK_OK(ta_pool_destroy(pool));
}

/* Blocks that are held back do not stand in the way of those who may have no more than there is. */
static void what_is_held_back_is_let_go(void)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    void *block;
    size_t released = 0;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = (size_t)8 << 20;
    CHECK_OK(ta_pool_create(&desc, &pool));
    for (i = 0; i < 50; i++) {
        block = ta_pool_alloc(pool, (size_t)5 << 20, NULL);
        REQUIRE(block != NULL);
        CHECK_OK(ta_pool_free(pool, block));
    }
    block = ta_pool_get(pool, (size_t)5 << 20, NULL);
    CHECK(block != NULL);
    CHECK_OK(ta_pool_free(pool, block));
    CHECK_OK(ta_pool_seal(pool, 1));
    block = ta_pool_alloc(pool, (size_t)5 << 20, NULL);
    CHECK(block != NULL);
    CHECK_OK(ta_pool_free(pool, block));
    CHECK_OK(ta_pool_trim(pool, 0, &released));
    CHECK_GE(released, (size_t)5 << 20);
    CHECK_OK(ta_pool_destroy(pool));
}

static void destroyed_objects_are_given_up_in_the_end(void)
{
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    long before;
    int i;
    for (i = 0; i < 100; i++) { /* as many as are remembered, and more */
        CHECK_OK(ta_pool_create(NULL, &pool));
        CHECK_OK(ta_pool_destroy(pool));
    }
    before = objects;
    for (i = 0; i < 100; i++) {
        CHECK_OK(ta_pool_create(NULL, &pool));
        CHECK_OK(ta_pool_destroy(pool));
        CHECK_OK(ta_arena_create(NULL, &arena));
        CHECK_OK(ta_arena_destroy(arena));
    }
    CHECK_EQ(objects, before);
}

/* ---- memory that the host does not reach: filled and read back by the backend */
typedef struct device {
    ta_backend_vtable table;
    int zeros, copies, fail, ordered;
    ta_pool *busy; /* somebody else frees a block here during each copy */
} device;

static void device_info(void *self, ta_backend_info *out)
{
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_SEGMENTS | (((device *)self)->ordered ? (uint32_t)TA_CAP_ORDERED : 0u);
    out->device.type = TA_DEVICE_OTHER;
    out->granularity_bytes = 65536;
    out->alignment_bytes = 256;
}

static ta_result device_alloc(void *self, size_t size, void **out)
{
    char *memory = (char *)malloc(size + 65536 + sizeof(char *)); /* aligned by hand; where it began is behind it */
    uintptr_t place = ((uintptr_t)memory + 65535) / 65536 * 65536;
    (void)self;
    if (memory == NULL) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    *out = (void *)place;
    memcpy((char *)place + size, &memory, sizeof memory);
    return TA_OK;
}

static ta_result device_free(void *self, void *ptr, size_t size)
{
    char *memory;
    (void)self;
    memcpy(&memory, (char *)ptr + size, sizeof memory);
    free(memory);
    return TA_OK;
}

static ta_result device_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    device *d = (device *)self;
    (void)stream;
    d->zeros++;
    if (d->fail) {
        return TA_ERROR_BACKEND;
    }
    memset(ptr, 0, size);
    return TA_OK;
}

static ta_result device_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    device *d = (device *)self;
    (void)stream;
    d->copies++;
    if (d->fail) {
        return TA_ERROR_BACKEND;
    }
    memcpy(dst, src, size);
    if (d->busy != NULL && d->copies < 1000) {
        return ta_pool_free(d->busy, ta_pool_alloc_stream(d->busy, size, 2, NULL));
    }
    return TA_OK;
}

/* All work is done at once. */
static ta_result device_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    (void)self;
    (void)stream;
    *out_ticket = 1;
    return TA_OK;
}

static ta_result device_is_done(void *self, uint64_t ticket)
{
    (void)self;
    (void)ticket;
    return TA_OK;
}

static ta_result device_wait(void *self, ta_stream stream, uint64_t ticket)
{
    (void)self;
    (void)stream;
    (void)ticket;
    return TA_OK;
}

static ta_pool *device_pool(device *d, int ordered)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    memset(d, 0, sizeof *d);
    memset(&desc, 0, sizeof desc);
    d->ordered = ordered;
    d->table.struct_bytes = sizeof d->table;
    d->table.name = "device";
    d->table.info = device_info;
    d->table.alloc = device_alloc;
    d->table.free = device_free;
    d->table.zero = device_zero;
    d->table.copy = device_copy;
    d->table.mark = device_mark;
    d->table.is_done = device_is_done;
    d->table.wait = device_wait;
    d->table.sync = device_is_done;
    desc.backend.vtable = &d->table;
    desc.backend.self = d;
    CHECK_OK(ta_pool_create(&desc, &pool));
    return pool;
}

static void writes_after_free_on_a_device(void)
{
    static const size_t places[] = {0, 1, 65535, 65536, 299999};
    device d;
    size_t i;
    for (i = 0; i < 8; i++) {
        ta_pool *pool = device_pool(&d, 0);
        char *block, *other;
        test_context("place %u", (unsigned)i);
        REQUIRE(pool != NULL);
        block = (char *)ta_pool_alloc(pool, 300000, NULL);
        other = (char *)ta_pool_alloc(pool, 300000, NULL);
        REQUIRE(block != NULL && other != NULL);
        memset(block, 3, 300000);
        d.fail = i == 6; /* what cannot be filled is not looked at */
        CHECK_OK(ta_pool_free(pool, block));
        CHECK_EQ(d.zeros, 1);
        if (i < 5) {
            block[places[i]] = 1;
        }
        d.fail = i == 6 || i == 7; /* nor what cannot be read */
        CHECK_RESULT(ta_pool_check(pool), i < 5 ? TA_ERROR_USE_AFTER_FREE : TA_OK);
        CHECK_EQ(d.copies > 0, i != 6);
        CHECK_RESULT(ta_pool_free(pool, block), TA_ERROR_STALE);
        d.fail = 0;
        CHECK_OK(ta_pool_free(pool, other));
        CHECK_RESULT(ta_pool_destroy(pool), i < 5 ? TA_ERROR_USE_AFTER_FREE : TA_OK);
    }
    test_context("%s", "");
}

/* A stream that goes takes along what is held back of its own, not the blocks of all others. */
static void retired_streams_let_go_of_their_own(void)
{
    device d;
    ta_pool *pool = device_pool(&d, 1);
    char *blocks[12];
    int i, freed[2] = {0, 0};
    REQUIRE(pool != NULL);
    for (i = 0; i < 12; i++) {
        blocks[i] = (char *)ta_pool_alloc_stream(pool, 5000, (ta_stream)(1 + i % 3 / 2), NULL); /* two, then one */
        REQUIRE(blocks[i] != NULL);
    }
    for (i = 0; i < 12; i++) {
        CHECK_OK(ta_pool_free(pool, blocks[i]));
        freed[i % 3 / 2]++;
    }
    CHECK_EQ(d.copies, 0);
    CHECK_OK(ta_pool_retire_stream(pool, 2));
    CHECK_EQ(d.copies, freed[1]);
    blocks[3][99] = 1; /* still held back */
    CHECK_RESULT(ta_pool_check(pool), TA_ERROR_USE_AFTER_FREE);
    CHECK_EQ(d.copies, freed[0] + freed[1]);
    CHECK_OK(ta_pool_retire_stream(pool, 1)); /* nothing is left */
    CHECK_EQ(d.copies, freed[0] + freed[1]);
    for (i = 0; i < 2; i++) { /* the last one that is held back is there, and another behind it */
        CHECK_OK(ta_pool_free(pool, ta_pool_alloc_stream(pool, 5000, 4, NULL)));
        CHECK_OK(ta_pool_free(pool, ta_pool_alloc_stream(pool, 5000, (ta_stream)(5 + i), NULL)));
        CHECK_OK(ta_pool_retire_stream(pool, (ta_stream)(5 + i)));
        CHECK_OK(ta_pool_free(pool, ta_pool_alloc_stream(pool, 5000, 4, NULL)));
        CHECK_EQ(d.copies, freed[0] + freed[1] + 1 + i);
    }
    CHECK_RESULT(ta_pool_destroy(pool), TA_ERROR_USE_AFTER_FREE);
    CHECK_EQ(d.copies, freed[0] + freed[1] + 6);
}

/* Who lets go of what is held back does not run after what others free meanwhile. */
static void letting_go_ends_beside_frees(void)
{
    device d;
    ta_pool *pool = device_pool(&d, 1);
    void *blocks[10];
    int i;
    REQUIRE(pool != NULL);
    for (i = 0; i < 10; i++) {
        blocks[i] = ta_pool_alloc_stream(pool, 5000, 1, NULL);
    }
    for (i = 0; i < 10; i++) {
        CHECK_OK(ta_pool_free(pool, blocks[i]));
    }
    d.busy = pool;
    CHECK_OK(ta_pool_thread_flush(pool));
    CHECK_EQ(d.copies, 10);
    d.busy = NULL;
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_EQ(d.copies, 20);
}

TEST_MAIN(TEST_CASE_THREADS(double_free_in_thread_caches), TEST_CASE_THREADS(double_free_in_segments),
          TEST_CASE_THREADS(double_free_without_thread_caches), TEST_CASE_THREADS(double_free_under_a_cap),
          TEST_CASE(misuse_is_told), TEST_CASE(capacity_is_what_was_requested),
          TEST_CASE(what_is_held_back_is_let_go), TEST_CASE(destroyed_objects_are_given_up_in_the_end),
          TEST_CASE(writes_after_free_on_a_device), TEST_CASE(retired_streams_let_go_of_their_own),
          TEST_CASE(letting_go_ends_beside_frees))
