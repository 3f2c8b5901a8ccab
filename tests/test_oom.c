/* test_oom.c - everything that can fail fails, one call after the other: calls of the backend, memory for records,
   and the system calls beneath both. Each scenario is run once for every n: the n-th of them fails, or it and all
   that follow, or every pair in short scenarios. Whatever happens, counters and blocks stay as they were, nothing
   leaks, and the same call works when there is memory again. The first cases take address space away from a child
   process (RLIMIT_AS). */
#if !defined(_WIN32)
    #include <pthread.h>
    #include <sched.h>
    #include <sys/mman.h>
    #include <sys/resource.h>
    #include <sys/types.h>
    #include <sys/wait.h>
    #include <unistd.h>
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*---------------------------------------------------------------------------------------------------------
  Faults: one count over all places that can fail.
  -------------------------------------------------------------------------------------------------------*/
enum { FAULT_RECORDS = 1, FAULT_BACKEND = 2, FAULT_SYSTEM = 4 };

static struct {
    unsigned sources;       /* that are counted and can fail */
    uint64_t seen;          /* places passed since arm */
    uint64_t first, second; /* which of them fail; 0: none */
    int from_then_on;       /* all after the first, too */
    uint64_t fired;
    long records_out;       /* blocks of TENSORALLOC_MALLOC not yet freed */
} faults;

static void arm(unsigned sources, uint64_t first, uint64_t second, int from_then_on)
{
    faults.sources = sources;
    faults.seen = faults.fired = 0;
    faults.first = first;
    faults.second = second;
    faults.from_then_on = from_then_on;
}

static void disarm(void)
{
    faults.first = faults.second = 0;
    faults.from_then_on = 0;
}

static int fault_here(unsigned source)
{
    int fails;
    if ((faults.sources & source) == 0) {
        return 0;
    }
    faults.seen++;
    fails = faults.seen == faults.first || faults.seen == faults.second ||
            (faults.from_then_on && faults.seen > faults.first);
    faults.fired += (uint64_t)fails;
    return fails;
}

static void *records_malloc(size_t size)
{
    void *ptr = fault_here(FAULT_RECORDS) ? NULL : malloc(size);
    faults.records_out += ptr != NULL;
    return ptr;
}

static void records_free(void *ptr)
{
    faults.records_out -= ptr != NULL;
    free(ptr);
}

#define TENSORALLOC_MALLOC(size) records_malloc(size)
#define TENSORALLOC_FREE(ptr) records_free(ptr)

#if !defined(_WIN32)
static void *system_mmap(void *addr, size_t size, int protection, int flags, int file, off_t offset)
{
    return fault_here(FAULT_SYSTEM) ? MAP_FAILED : mmap(addr, size, protection, flags, file, offset);
}

static int system_mprotect(void *addr, size_t size, int protection)
{
    return fault_here(FAULT_SYSTEM) ? -1 : mprotect(addr, size, protection);
}
    #define mmap system_mmap
    #define mprotect system_mprotect
#endif

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#undef mmap
#undef mprotect

#include "test.h"
#include "backends.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    #define UNDER_SANITIZER 1
#elif defined(__has_feature)
    #if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
        #define UNDER_SANITIZER 1
    #endif
#endif
#ifndef UNDER_SANITIZER
    #define UNDER_SANITIZER 0
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BLOCKS_MAX 64
#define ALLOCATORS_MAX 3

/*---------------------------------------------------------------------------------------------------------
  What a scenario works on: allocators over one counting backend, and the blocks it holds.
  -------------------------------------------------------------------------------------------------------*/
typedef struct held {
    unsigned char *ptr; /* NULL: none */
    size_t size, capacity;
    int owner;
    ta_stream stream;
} held;

typedef struct member {
    ta_allocator allocator;
    ta_pool *pool;   /* or NULL */
    ta_arena *arena; /* or NULL */
    int on_backend;  /* takes its memory from the counting backend itself */
} member;

typedef struct env {
    tb_counting counting;
    tb_clock clock;
    ta_backend backend;
    ta_budget *budget;
    ta_upstream upstream;
    member members[ALLOCATORS_MAX];
    int member_count;
    held blocks[BLOCKS_MAX];
    int ordered;   /* over the clock: there is nothing to touch */
    int limited;   /* the limit is in the way now and then */
    int can_lose;  /* the backend may refuse to take back what nobody can keep: two faults at one place */
    int victim;    /* block that the out-of-memory callback frees; -1: none */
    int callbacks; /* how often it did */
} env;

typedef struct counts {
    size_t requested, in_use, live;
    uint64_t allocations, deallocations, allocated, freed, resizes;
} counts;

static counts count_member(const env *e, int m)
{
    ta_stats s;
    counts c;
    CHECK_OK(ta_allocator_get_stats(e->members[m].allocator, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    memset(&c, 0, sizeof c);
    c.requested = s.requested_bytes;
    c.in_use = s.in_use_bytes;
    c.live = s.live_count;
    c.allocations = s.allocation_count;
    c.deallocations = s.deallocation_count;
    c.allocated = s.allocated_bytes;
    c.freed = s.freed_bytes;
    c.resizes = s.resize_count;
    return c;
}

static int same_counts(counts a, counts b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static counts plus(counts c, size_t requested, size_t capacity)
{
    c.requested += requested;
    c.in_use += capacity;
    c.live++;
    c.allocations++;
    c.allocated += requested;
    return c;
}

static counts minus(counts c, size_t requested, size_t capacity)
{
    c.requested -= requested;
    c.in_use -= capacity;
    c.live--;
    c.deallocations++;
    c.freed += requested;
    return c;
}

/* A call failed: because of a fault that was fired in it, or of the limit; never for nothing. */
static void check_excuse(const env *e, uint64_t fired_before, ta_result result)
{
    if (e->limited && result == TA_ERROR_LIMIT) {
        return;
    }
    CHECK_NE(faults.fired, fired_before);
    CHECK(result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED || result == TA_ERROR_BACKEND ||
          result == TA_ERROR_RECORDS);
}

#define ATTEMPTS 3 /* a fault that comes once is over at the second, a pair at the third */

/* ---- bytes at both ends of each block */
static void fill(const env *e, const held *b)
{
    size_t end = b->size < 64 ? b->size : 64;
    if (!e->ordered) {
        memset(b->ptr, (int)(b->size % 251 + 1), end);
        memset(b->ptr + b->size - end, (int)(b->size % 251 + 1), end);
    }
}

static void check_filled(const env *e, const held *b, size_t old_size, size_t kept)
{
    size_t end = old_size < 64 ? old_size : 64, i, wrong = 0;
    for (i = 0; i < end && !e->ordered; i++) {
        wrong += i < kept && b->ptr[i] != (unsigned char)(old_size % 251 + 1);
        wrong += old_size - 1 - i < kept && b->ptr[old_size - 1 - i] != (unsigned char)(old_size % 251 + 1);
    }
    CHECK_EQ(wrong, 0);
}

static void check_zero(const env *e, const unsigned char *ptr, size_t size)
{
    size_t i, wrong = 0;
    for (i = 0; i < size && !e->ordered; i += i < 4096 || size - i < 4096 ? 1 : 64) {
        wrong += ptr[i] != 0;
    }
    CHECK_EQ(wrong, 0);
}

/* ---- operations: each checks what it did, and that it did nothing when it failed; returns the block or -1 */
static int take_request(env *e, int m, const ta_request *request)
{
    ta_allocator allocator = e->members[m].allocator;
    ta_block_info info;
    int b = 0, attempt;
    while (b < BLOCKS_MAX - 1 && e->blocks[b].ptr != NULL) {
        b++;
    }
    CHECK(e->blocks[b].ptr == NULL);
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        counts before = count_member(e, m);
        int freed_before = e->callbacks;
        ta_result result = TA_ERROR_CORRUPT;
        held *h = &e->blocks[b];
        void *ptr = ta_allocator_alloc(allocator, request, &result);
        if (ptr == NULL) {
            CHECK(e->callbacks != freed_before || same_counts(count_member(e, m), before));
            check_excuse(e, fired, result);
            continue;
        }
        memset(&info, 0, sizeof info);
        CHECK_OK(result);
        CHECK_OK(ta_allocator_describe(allocator, ptr, &info));
        CHECK_GE(info.capacity_bytes, request->size_bytes);
        CHECK(request->alignment_bytes == 0 || (uintptr_t)ptr % request->alignment_bytes == 0);
        CHECK(e->callbacks != freed_before ||
              same_counts(count_member(e, m), plus(before, request->size_bytes, info.capacity_bytes)));
        h->ptr = (unsigned char *)ptr;
        h->size = request->size_bytes;
        h->capacity = info.capacity_bytes;
        h->owner = m;
        h->stream = request->stream;
        if ((request->flags & TA_REQUEST_ZEROED) != 0) {
            check_zero(e, h->ptr, h->size);
        }
        if (e->ordered) {
            CHECK(tb_clock_is_ordered(&e->clock, h->stream, ptr, h->size));
            tb_clock_use(&e->clock, h->stream, ptr, h->size);
        }
        fill(e, h);
        return b;
    }
    return -1;
}

static int take(env *e, int m, size_t size, size_t alignment, uint32_t flags)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    request.flags = flags;
    return take_request(e, m, &request);
}

static int take_on(env *e, ta_stream stream, size_t size, uint32_t flags)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.stream = stream;
    request.flags = flags;
    return take_request(e, 0, &request);
}

static void give(env *e, int b)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS && b >= 0 && e->blocks[b].ptr != NULL; attempt++) {
        held *h = &e->blocks[b];
        uint64_t fired = faults.fired;
        counts before = count_member(e, h->owner);
        ta_result result;
        check_filled(e, h, h->size, h->size);
        result = ta_allocator_free(e->members[h->owner].allocator, h->ptr, attempt == 0 ? h->size : 0, 0, h->stream);
        if (result == TA_OK) {
            CHECK(same_counts(count_member(e, h->owner), minus(before, h->size, h->capacity)));
            h->ptr = NULL;
        } else {
            CHECK(same_counts(count_member(e, h->owner), before));
            check_excuse(e, fired, result);
        }
    }
}

static void give_all(env *e)
{
    int b;
    for (b = BLOCKS_MAX - 1; b >= 0; b--) {
        give(e, b);
    }
}

/* The block has a new size in place. */
static void note_resized(env *e, int b, size_t new_size, counts before)
{
    held *h = &e->blocks[b];
    ta_block_info info;
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_allocator_describe(e->members[h->owner].allocator, h->ptr, &info));
    CHECK_GE(info.capacity_bytes, new_size);
    before.requested += new_size - h->size;
    before.allocated += new_size > h->size ? new_size - h->size : 0;
    before.freed += new_size < h->size ? h->size - new_size : 0;
    before.in_use += info.capacity_bytes - h->capacity;
    before.resizes++;
    CHECK(same_counts(count_member(e, h->owner), before));
    h->size = new_size;
    h->capacity = info.capacity_bytes;
    fill(e, h);
}

static void resize(env *e, int b, size_t new_size)
{
    held *h = &e->blocks[b < 0 ? 0 : b];
    counts before;
    ta_result result;
    if (b < 0) {
        return;
    }
    before = count_member(e, h->owner);
    result = ta_allocator_resize_in_place(e->members[h->owner].allocator, h->ptr, h->size, new_size);
    check_filled(e, h, h->size, h->size < new_size ? h->size : new_size);
    if (result == TA_OK) {
        note_resized(e, b, new_size, before);
    } else {
        CHECK_RESULT(result, TA_ERROR_WOULD_MOVE);
        CHECK_GT(new_size, h->capacity);
        CHECK(same_counts(count_member(e, h->owner), before));
    }
}

static void change(env *e, int b, size_t new_size)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS && b >= 0; attempt++) {
        held *h = &e->blocks[b];
        uint64_t fired = faults.fired;
        counts before = count_member(e, h->owner);
        ta_result result = TA_ERROR_CORRUPT;
        size_t old_size = h->size, old_capacity = h->capacity;
        unsigned char *ptr = (unsigned char *)ta_pool_realloc(e->members[h->owner].pool, h->ptr, new_size, &result);
        if (ptr == NULL) {
            CHECK(same_counts(count_member(e, h->owner), before));
            check_filled(e, h, old_size, old_size);
            check_excuse(e, fired, result);
            continue;
        }
        CHECK_OK(result);
        if (ptr == h->ptr) {
            check_filled(e, h, old_size, old_size < new_size ? old_size : new_size);
            note_resized(e, b, new_size, before);
            return;
        }
        h->ptr = ptr;
        h->size = new_size;
        h->capacity = ta_pool_capacity_of(e->members[h->owner].pool, ptr);
        check_filled(e, h, old_size, old_size < new_size ? old_size : new_size);
        before = minus(plus(before, new_size, h->capacity), old_size, old_capacity);
        CHECK(same_counts(count_member(e, h->owner), before));
        fill(e, h);
        return;
    }
}

static void trim(env *e, int m, size_t keep)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        counts before = count_member(e, m);
        size_t released = 0;
        ta_result result = ta_allocator_trim(e->members[m].allocator, keep, &released);
        CHECK(same_counts(count_member(e, m), before));
        if (result == TA_OK && fired == faults.fired) {
            return;
        }
        if (result != TA_OK) {
            CHECK(e->ordered);
            check_excuse(e, fired, result);
        }
    }
}

/* ---- allocators */
static void add_member(env *e, ta_allocator allocator, ta_pool *pool, ta_arena *arena, int on_backend)
{
    member *m = &e->members[e->member_count++];
    m->allocator = allocator;
    m->pool = pool;
    m->arena = arena;
    m->on_backend = on_backend;
}

/* Everything below returns 1 if it worked; what fails leaves nothing behind. */
static int open_pool(env *e, const ta_pool_desc *desc)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        ta_pool *pool = (ta_pool *)(void *)e;
        ta_result result = ta_pool_create(desc, &pool);
        if (result == TA_OK) {
            add_member(e, ta_pool_allocator(pool), pool, NULL, desc->backend.self != &e->upstream);
            return 1;
        }
        CHECK(pool == NULL);
        check_excuse(e, fired, result);
    }
    return 0;
}

static int open_arena(env *e, const ta_arena_desc *desc)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        ta_arena *arena = (ta_arena *)(void *)e;
        ta_result result = ta_arena_create(desc, &arena);
        if (result == TA_OK) {
            add_member(e, ta_arena_allocator(arena), NULL, arena, desc->backend.self != &e->upstream);
            return 1;
        }
        CHECK(arena == NULL);
        check_excuse(e, fired, result);
    }
    return 0;
}

static int open_direct(env *e, const ta_direct_desc *desc)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        ta_direct *direct = (ta_direct *)(void *)e;
        ta_result result = ta_direct_create(desc, &direct);
        if (result == TA_OK) {
            add_member(e, ta_direct_allocator(direct), NULL, NULL, 1);
            return 1;
        }
        CHECK(direct == NULL);
        check_excuse(e, fired, result);
    }
    return 0;
}

static int open_budget(env *e, size_t limit)
{
    int attempt;
    ta_budget_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.backend = e->backend;
    desc.limit_bytes = limit;
    for (attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t fired = faults.fired;
        ta_result result = ta_budget_create(&desc, &e->budget);
        if (result == TA_OK) {
            return 1;
        }
        CHECK(e->budget == NULL);
        check_excuse(e, fired, result);
    }
    return 0;
}

static void close_all(env *e)
{
    while (e->member_count > 0) {
        CHECK_OK(ta_allocator_destroy(e->members[--e->member_count].allocator));
    }
    CHECK_OK(ta_budget_destroy(e->budget));
    e->budget = NULL;
}

/* Books and backend agree, to the byte. */
static void verify(env *e)
{
    size_t reserved = 0, live[ALLOCATORS_MAX] = {0}, requested[ALLOCATORS_MAX] = {0};
    uint64_t refused = e->counting.failed[TB_FREE] + e->counting.failed[TB_RELEASE];
    int i;
    for (i = 0; i < BLOCKS_MAX; i++) {
        if (e->blocks[i].ptr != NULL) {
            live[e->blocks[i].owner]++;
            requested[e->blocks[i].owner] += e->blocks[i].size;
            check_filled(e, &e->blocks[i], e->blocks[i].size, e->blocks[i].size);
        }
    }
    for (i = 0; i < e->member_count; i++) {
        ta_stats s;
        CHECK_OK(ta_allocator_get_stats(e->members[i].allocator, &s));
        if (i == 0 && e->upstream.allocator.self != NULL) { /* segments of those above it are live, too */
            CHECK_GE(s.live_count, live[i]);
            CHECK_GE(s.requested_bytes, requested[i]);
        } else {
            CHECK_EQ(s.live_count, live[i]);
            CHECK_EQ(s.requested_bytes, requested[i]);
        }
        CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
        reserved += e->members[i].on_backend ? s.reserved_bytes : 0;
        if (e->members[i].pool != NULL) {
            CHECK_OK(ta_pool_check(e->members[i].pool));
        }
    }
    if (e->can_lose && refused != 0) {
        CHECK_GE(tb_counting_held(&e->counting), reserved);
    } else {
        CHECK_EQ(tb_counting_held(&e->counting), reserved);
    }
    if (e->budget != NULL) {
        ta_budget_stats b;
        CHECK_OK(ta_budget_get_stats(e->budget, &b));
        CHECK_EQ(b.reserved_bytes, reserved);
    }
    tb_counting_check(&e->counting, 0);
}

/*---------------------------------------------------------------------------------------------------------
  Scenarios. setup makes the allocators; body may be run again and again, and gives back what it took.
  -------------------------------------------------------------------------------------------------------*/
typedef struct scenario {
    const char *name;
    int (*setup)(env *e);
    void (*body)(env *e);
    uint32_t clock; /* capabilities of the ordered backend, 0: the host */
    uint32_t hide;  /* capabilities of the host that are hidden */
    int limited;
    int pairs;      /* short enough for all pairs */
} scenario;

static ta_pool_desc pool_desc(const env *e)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.backend = e->backend;
    desc.budget = e->budget;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    desc.range_bytes = 64 * MIB;
    return desc;
}

static int setup_pool(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    return open_pool(e, &desc);
}

/* Create, warm up, reuse. */
static void body_warm_up(env *e)
{
    static const size_t sizes[] = {1, 64, 100, 4096, 65536, 70000, 1 << 20};
    int round, i, blocks[7];
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 7; i++) {
            blocks[i] = take(e, 0, sizes[i], round == 2 ? (size_t)128 << i : 0, 0);
        }
        for (i = 0; i < 7; i++) {
            give(e, blocks[(i * 3 + round) % 7]);
        }
        give_all(e);
    }
    CHECK_OK(ta_pool_thread_flush(e->members[0].pool));
}

/* The heap grows many times, in both of its halves. */
static void body_growth(env *e)
{
    int i;
    for (i = 0; i < 24; i++) {
        (void)take(e, 0, (size_t)90000 * (size_t)(i + 1), 0, 0);
        (void)take(e, 0, (size_t)2500 * (size_t)(i + 1), 0, 0);
    }
    for (i = 0; i < 48; i += 2) {
        give(e, i);
    }
    for (i = 0; i < 12; i++) {
        (void)take(e, 0, (size_t)400000 * (size_t)(i + 1), 0, 0);
    }
    give_all(e);
}

/* More than a range holds: others are chained. */
static void body_chained(env *e)
{
    int i;
    for (i = 0; i < 6; i++) {
        (void)take(e, 0, 24 * MIB, 0, 0);
    }
    give_all(e);
    trim(e, 0, 8 * MIB);
    (void)take(e, 0, 90 * MIB, 0, 0);
    give_all(e);
}

/* Pages go back from the middle and from the end, and are needed again. */
static void body_trim(env *e)
{
    int i, blocks[8];
    for (i = 0; i < 8; i++) {
        blocks[i] = take(e, 0, 300 * KIB, 0, 0);
    }
    for (i = 0; i < 8; i += 2) {
        give(e, blocks[i]);
    }
    trim(e, 0, 512 * KIB);
    trim(e, 0, 0);
    for (i = 0; i < 8; i += 2) {
        blocks[i] = take(e, 0, 290 * KIB, 0, TA_REQUEST_ZEROED);
    }
    for (i = 7; i > 1; i--) {
        give(e, blocks[i]);
    }
    trim(e, 0, 0);
    (void)take(e, 0, 3 * MIB, 0, 0);
    give_all(e);
    trim(e, 0, 0);
}

static void body_realloc(env *e)
{
    int a = take(e, 0, 100, 0, 0), b = take(e, 0, 200 * KIB, 0, 0), c;
    change(e, a, 1000);
    change(e, b, 600 * KIB); /* the last block: in place */
    c = take(e, 0, 100 * KIB, 4096, 0);
    change(e, b, 5 * MIB);   /* moves */
    change(e, c, 300 * KIB);
    change(e, a, 100 * KIB);
    change(e, b, 70 * KIB);
    resize(e, c, 310 * KIB);
    resize(e, b, 8 * MIB);
    resize(e, a, 1);
    give_all(e);
}

static void body_zeroed(env *e)
{
    int round, i;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 5; i++) {
            (void)take(e, 0, (size_t)1000 << (2 * i), 0, TA_REQUEST_ZEROED);
        }
        give_all(e);
    }
}

static int setup_segments(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.disable_ranges = 1;
    return open_pool(e, &desc);
}

static void body_segments(env *e)
{
    int i, blocks[6];
    for (i = 0; i < 6; i++) {
        blocks[i] = take(e, 0, (size_t)(i % 3 == 0 ? 40 : i % 3 == 1 ? 700 : 20000) * KIB, i == 4 ? 64 * KIB : 0, 0);
    }
    give(e, blocks[2]);
    give(e, blocks[0]);
    trim(e, 0, MIB);
    trim(e, 0, 0);
    (void)take(e, 0, 21 * MIB, 0, 0);
    give_all(e);
    trim(e, 0, 0);
}

static int setup_cap(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.cached_bytes_max = 256 * KIB;
    desc.buffers_per_bucket_max = 4;
    return open_pool(e, &desc);
}

static int setup_single_threaded(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.single_threaded = 1;
    return open_pool(e, &desc);
}

static int setup_initial(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.initial_bytes = 3 * MIB;
    return open_pool(e, &desc);
}

static int setup_zeroed(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.zeroed = 1;
    return open_pool(e, &desc);
}

/* ---- budgets */
static int free_the_victim(void *user, const ta_failure *failure)
{
    env *e = (env *)user;
    held *h = &e->blocks[e->victim < 0 ? 0 : e->victim];
    CHECK_EQ(failure->in_use_bytes + failure->free_bytes + failure->pending_bytes, failure->reserved_bytes);
    if (e->victim < 0 || h->ptr == NULL) {
        return 0;
    }
    CHECK_OK(ta_allocator_free(e->members[h->owner].allocator, h->ptr, h->size, 0, 0));
    h->ptr = NULL;
    e->callbacks++;
    e->victim = -1;
    return 1;
}

static int setup_callback(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    desc.limit_bytes = 6 * MIB;
    desc.on_out_of_memory = free_the_victim;
    desc.on_out_of_memory_user = e;
    return open_pool(e, &desc);
}

static void body_callback(env *e)
{
    int a = take(e, 0, 4 * MIB, 0, 0);
    e->victim = a;
    (void)take(e, 0, 3 * MIB, 0, 0); /* only without the victim */
    e->victim = -1;
    (void)take(e, 0, 4 * MIB, 0, 0); /* not at all */
    give_all(e);
}

static int setup_budget(env *e)
{
    ta_pool_desc desc;
    ta_arena_desc arena;
    if (e->budget == NULL && !open_budget(e, 8 * MIB)) {
        return 0;
    }
    desc = pool_desc(e);
    memset(&arena, 0, sizeof arena);
    arena.budget = e->budget;
    if (!open_pool(e, &desc)) {
        return 0;
    }
    desc.disable_ranges = 1;
    return open_pool(e, &desc) && open_arena(e, &arena);
}

/* What one has cached, another needs. */
static void body_budget(env *e)
{
    int i, round;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 4; i++) {
            (void)take(e, 0, 1500 * KIB, 0, 0);
        }
        give_all(e);
        for (i = 0; i < 4; i++) {
            (void)take(e, 1, 1200 * KIB, 0, 0);
        }
        give_all(e);
        (void)take(e, 2, 5 * MIB, 0, 0);
        (void)take(e, 0, 4 * MIB, 0, 0); /* too much together */
        give_all(e);
    }
}

/* ---- arenas and the others */
static int setup_arena(env *e)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.backend = e->backend;
    desc.range_bytes = 16 * MIB;
    desc.chunk_bytes = 64 * KIB;
    return open_arena(e, &desc);
}

static void rewind_to(env *e, ta_arena_mark mark, const int *blocks, int count)
{
    counts c = count_member(e, 0);
    int i;
    for (i = 0; i < count; i++) {
        held *h = &e->blocks[blocks[i] < 0 ? 0 : blocks[i]];
        if (blocks[i] >= 0) {
            check_filled(e, h, h->size, h->size);
            c = minus(c, h->size, h->capacity);
            h->ptr = NULL;
        }
    }
    CHECK_OK(ta_arena_rewind(e->members[0].arena, mark));
    CHECK(same_counts(count_member(e, 0), c));
}

static void body_arena(env *e)
{
    int i, round, first, blocks[10];
    for (round = 0; round < 3; round++) {
        ta_arena_mark mark;
        first = take(e, 0, 1000, 0, 0);
        mark = ta_arena_get_mark(e->members[0].arena);
        for (i = 0; i < 10; i++) {
            blocks[i] = take(e, 0, (size_t)3000 << i, i == 5 ? 8192 : 0, i == 7 ? TA_REQUEST_ZEROED : 0);
        }
        resize(e, blocks[9], 3 * MIB);
        resize(e, blocks[9], 4 * MIB);
        resize(e, blocks[2], 10);
        rewind_to(e, mark, blocks, 10);
        resize(e, first, 20 * KIB);
        (void)take(e, 0, 12 * MIB, 0, 0);
        give_all(e);
        CHECK_OK(ta_arena_reset(e->members[0].arena, (size_t)round * 300 * KIB));
    }
    trim(e, 0, 0);
}

static int setup_direct(env *e)
{
    ta_direct_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.backend = e->backend;
    return open_direct(e, &desc);
}

static void body_direct(env *e)
{
    int i, blocks[12];
    for (i = 0; i < 12; i++) {
        blocks[i] = take(e, 0, (size_t)100 << i, i % 4 == 0 ? 8192 : 0, i % 3 == 0 ? TA_REQUEST_ZEROED : 0);
    }
    for (i = 0; i < 12; i++) {
        resize(e, blocks[i], (size_t)150 << i);
    }
    for (i = 0; i < 12; i++) {
        give(e, blocks[(i * 5) % 12]);
    }
}

/* An allocator over an allocator over the backend. */
static int setup_chain(env *e)
{
    ta_pool_desc desc = pool_desc(e);
    ta_arena_desc arena;
    memset(&arena, 0, sizeof arena);
    if (!open_pool(e, &desc)) {
        return 0;
    }
    CHECK_OK(ta_backend_upstream(&e->upstream, e->members[0].allocator, 0, &desc.backend));
    arena.backend = desc.backend;
    arena.chunk_bytes = 64 * KIB;
    return open_pool(e, &desc) && open_arena(e, &arena);
}

static void body_chain(env *e)
{
    int i;
    for (i = 0; i < 6; i++) {
        (void)take(e, 1, (size_t)2000 << (2 * i), 0, 0);
        (void)take(e, 2, (size_t)3000 << (2 * i), 0, 0);
        (void)take(e, 0, (size_t)1000 << (2 * i), 0, 0);
    }
    give_all(e);
    trim(e, 1, 0);
    CHECK_OK(ta_arena_reset(e->members[2].arena, 0));
    trim(e, 0, 0);
}

/* Buffers and tensors: nothing is left of one that could not be made. */
static void body_tensors(env *e)
{
    static const int64_t dims[3] = {4, 100, 1000};
    int i;
    for (i = 0; i < 3; i++) {
        counts before = count_member(e, 0);
        uint64_t fired = faults.fired;
        ta_tensor tensor, none;
        ta_result result;
        memset(&tensor, 0xA5, sizeof tensor);
        memset(&none, 0, sizeof none);
        result = ta_tensor_create(e->members[0].allocator, TA_F32, dims, 3, 0, 0, &tensor);
        if (result == TA_OK) {
            CHECK_EQ(tensor.buffer.size_bytes, 1600000);
            CHECK_OK(ta_allocator_check_buffer(e->members[0].allocator, &tensor.buffer));
            CHECK_OK(ta_tensor_destroy(&tensor, 0));
            CHECK_EQ(count_member(e, 0).live, before.live);
        } else {
            check_excuse(e, fired, result);
            CHECK(same_counts(count_member(e, 0), before));
            CHECK_EQ(memcmp(&tensor, &none, sizeof tensor), 0);
        }
    }
    trim(e, 0, 0);
}

/* ---- streams */
static void use_on(env *e, int b, ta_stream stream)
{
    int attempt;
    for (attempt = 0; attempt < ATTEMPTS && b >= 0; attempt++) {
        uint64_t fired = faults.fired;
        ta_result result = ta_pool_record_use(e->members[0].pool, e->blocks[b].ptr, stream);
        if (result == TA_OK) {
            tb_clock_after(&e->clock, stream, e->blocks[b].stream);
            tb_clock_use(&e->clock, stream, e->blocks[b].ptr, e->blocks[b].size);
            return;
        }
        check_excuse(e, fired, result);
    }
}

static void body_streams(env *e)
{
    int i, blocks[6];
    for (i = 0; i < 6; i++) {
        blocks[i] = take_on(e, (ta_stream)(i % 3), (size_t)20000 << i, i == 3 ? TA_REQUEST_ZEROED : 0);
    }
    for (i = 0; i < 6; i += 2) {
        use_on(e, blocks[i], 2);
        use_on(e, blocks[i], 1);
    }
    for (i = 0; i < 6; i++) {
        give(e, blocks[i]); /* some of them are pending now */
    }
    for (i = 0; i < 4; i++) { /* finished, or stolen, or new */
        blocks[i] = take_on(e, (ta_stream)(2 - i % 3), (size_t)18000 << i, 0);
        tb_clock_complete(&e->clock, (ta_stream)(i % 3));
    }
    give_all(e);
    trim(e, 0, 200 * KIB);
    trim(e, 0, 0);
    change(e, take_on(e, 1, 100000, 0), 900000);
    give_all(e);
}

/*---------------------------------------------------------------------------------------------------------
  The drive: each run in a thread of its own, so that what threads hold is over with it.
  -------------------------------------------------------------------------------------------------------*/
static void call_of_backend(void *user, tb_entry entry)
{
    if (entry < TB_INFO) {
        tb_counting_fail((tb_counting *)user, TB_ANY, fault_here(FAULT_BACKEND) ? 1 : 0, 0);
    }
}

typedef struct run {
    const scenario *what;
    unsigned sources;
    uint64_t first, second;
    int from_then_on;
    int at_the_end; /* the faults come while everything is destroyed */
    uint64_t fired;
} run;

static void env_start(env *e, const run *r)
{
    memset(e, 0, sizeof *e);
    e->ordered = r->what->clock != 0;
    e->limited = r->what->limited;
    e->can_lose = r->second != 0 || r->from_then_on;
    e->victim = -1;
    e->backend = e->ordered ? tb_clock_init(&e->clock, r->what->clock, 0) : ta_backend_host();
    e->backend = tb_counting_init(&e->counting, e->backend, r->what->hide);
    e->counting.on_call = call_of_backend;
    e->counting.on_call_user = &e->counting;
}

/* What the backend refused to take back when nobody could keep it: it goes now. */
static void take_from_backend(const env *e)
{
    const tb_counting *c = &e->counting;
    size_t i;
    for (i = 0; i < c->segments.count; i++) {
        tb_span span = c->segments.at[i];
        CHECK_OK(c->inner.vtable->free(c->inner.self, (void *)span.from, (size_t)(span.to - span.from)));
    }
    for (i = 0; i < c->ranges.count; i++) {
        tb_span span = c->ranges.at[i];
        CHECK_OK(c->inner.vtable->release(c->inner.self, (void *)span.from, (size_t)(span.to - span.from)));
    }
}

static void *run_thread(void *argument)
{
    run *r = (run *)argument;
    env *e = (env *)malloc(sizeof(env));
    uint64_t refused;
    int ok;
    if (e == NULL) {
        abort();
    }
    env_start(e, r);
    if (!r->at_the_end) {
        arm(r->sources, r->first, r->second, r->from_then_on);
    }
    ok = r->what->setup(e);
    if (ok) {
        r->what->body(e);
    }
    r->fired = faults.fired;
    disarm();
    verify(e);
    refused = e->can_lose ? e->counting.failed[TB_FREE] + e->counting.failed[TB_RELEASE] : 0;
    if (!ok) {
        close_all(e);
        tb_counting_check(&e->counting, refused == 0);
        ok = r->what->setup(e);
        CHECK(ok);
    }
    if (ok) { /* with memory again everything works */
        give_all(e);
        r->what->body(e);
        give_all(e);
        verify(e);
    }
    if (r->at_the_end) {
        arm(r->sources, r->first, r->second, r->from_then_on);
        close_all(e);
        r->fired = faults.fired;
        disarm();
        CHECK_EQ(e->counting.segments.count + e->counting.ranges.count,
                 e->counting.failed[TB_FREE] + e->counting.failed[TB_RELEASE]);
    } else {
        close_all(e);
        tb_counting_check(&e->counting, refused == 0);
        if (e->ordered && refused == 0) {
            tb_clock_check(&e->clock);
        }
    }
    take_from_backend(e);
    tb_counting_end(&e->counting);
    if (e->ordered) {
        tb_clock_end(&e->clock);
    }
    free(e);
    return NULL;
}

/* Returns how many faults were fired. */
static uint64_t run_in_thread(run *r)
{
    pthread_t thread;
    long records_before = faults.records_out; /* this thread's own, e.g. for pools that are gone */
    test_context("sources %u, faults %llu and %llu%s%s", r->sources, (unsigned long long)r->first,
                 (unsigned long long)r->second, r->from_then_on ? ", and all after the first" : "",
                 r->at_the_end ? ", at the end" : "");
    r->fired = 0;
    if (pthread_create(&thread, NULL, run_thread, r) != 0) {
        abort();
    }
    pthread_join(thread, NULL);
    CHECK_EQ(faults.records_out, records_before);
    return r->fired;
}

/* Runs for n = 1, 2, ... until n is more than there are. Returns how many there are. */
static uint64_t run_all_n(const scenario *what, unsigned sources, int from_then_on, int at_the_end)
{
    run r;
    memset(&r, 0, sizeof r);
    r.what = what;
    r.sources = sources;
    r.from_then_on = from_then_on;
    r.at_the_end = at_the_end;
    do {
        r.first++;
    } while (run_in_thread(&r) != 0 && test_now.failures == 0);
    return r.first - 1;
}

static void run_all_pairs(const scenario *what, uint64_t count)
{
    run r;
    memset(&r, 0, sizeof r);
    r.what = what;
    r.sources = FAULT_RECORDS | FAULT_BACKEND;
    for (r.first = 1; r.first < count && test_now.failures == 0; r.first++) {
        for (r.second = r.first + 1; r.second <= count + 2 && test_now.failures == 0; r.second++) {
            (void)run_in_thread(&r);
        }
    }
}

static int host_has_ranges(void)
{
    ta_backend host = ta_backend_host();
    ta_backend_info info;
    memset(&info, 0, sizeof info);
    host.vtable->info(host.self, &info);
    return (info.caps & TA_CAP_RANGES) != 0;
}

static void run_scenario(const scenario *what)
{
    uint64_t count;
    if (what->hide == TA_CAP_SEGMENTS && !host_has_ranges()) {
        TEST_SKIP("no ranges here");
        return;
    }
    count = run_all_n(what, FAULT_RECORDS | FAULT_BACKEND, 0, 0);
    CHECK_GT(count, 3);
    (void)run_all_n(what, FAULT_RECORDS | FAULT_BACKEND, 1, 0);
    (void)run_all_n(what, FAULT_BACKEND, 1, 0);
    (void)run_all_n(what, FAULT_RECORDS, 1, 0);
    (void)run_all_n(what, FAULT_SYSTEM, 0, 0);
    (void)run_all_n(what, FAULT_SYSTEM, 1, 0);
    if (what->clock == 0) {
        (void)run_all_n(what, FAULT_BACKEND, 0, 1);
        (void)run_all_n(what, FAULT_BACKEND, 1, 1);
    }
    if (what->pairs && !UNDER_SANITIZER && test_now.failures == 0) {
        run_all_pairs(what, count);
    }
}

#define SCENARIO(name, setup, body, clock, hide, limited, pairs) \
    static void name(void) \
    { \
        static const scenario what = {#name, setup, body, clock, hide, limited, pairs}; \
        run_scenario(&what); \
    }

SCENARIO(pool_warms_up, setup_pool, body_warm_up, 0, 0, 0, 0)
SCENARIO(pool_warms_up_with_one_thread, setup_single_threaded, body_warm_up, 0, 0, 0, 0)
SCENARIO(pool_warms_up_with_initial_bytes, setup_initial, body_warm_up, 0, 0, 0, 0)
SCENARIO(pool_grows, setup_pool, body_growth, 0, 0, 0, 0)
SCENARIO(pool_grows_without_segments, setup_pool, body_growth, 0, TA_CAP_SEGMENTS, 0, 0)
SCENARIO(pool_chains_ranges, setup_pool, body_chained, 0, TA_CAP_SEGMENTS, 0, 1)
SCENARIO(pool_trims_and_recommits, setup_pool, body_trim, 0, 0, 0, 1)
SCENARIO(pool_trims_and_recommits_without_segments, setup_pool, body_trim, 0, TA_CAP_SEGMENTS, 0, 1)
SCENARIO(pool_reallocates, setup_pool, body_realloc, 0, 0, 0, 1)
SCENARIO(pool_zeroes, setup_pool, body_zeroed, 0, 0, 0, 1)
SCENARIO(zeroed_pool_trims, setup_zeroed, body_trim, 0, 0, 0, 0)
SCENARIO(pool_of_segments, setup_segments, body_segments, 0, 0, 0, 1)
SCENARIO(pool_of_segments_without_ranges, setup_pool, body_segments, 0, TA_CAP_RANGES, 0, 0)
SCENARIO(pool_with_a_cap_grows, setup_cap, body_growth, 0, 0, 0, 0)
SCENARIO(pool_with_a_callback, setup_callback, body_callback, 0, 0, 1, 1)
SCENARIO(budget_of_three, setup_budget, body_budget, 0, 0, 1, 0)
SCENARIO(arena_of_ranges, setup_arena, body_arena, 0, 0, 0, 0)
SCENARIO(arena_of_segments, setup_arena, body_arena, 0, TA_CAP_RANGES, 0, 0)
SCENARIO(direct_allocator, setup_direct, body_direct, 0, 0, 0, 1)
SCENARIO(chain_of_upstreams, setup_chain, body_chain, 0, 0, 0, 0)
SCENARIO(tensors_over_a_pool, setup_segments, body_tensors, 0, 0, 0, 1)
SCENARIO(streams_over_ranges, setup_pool, body_streams, TA_CAP_RANGES, 0, 0, 0)
SCENARIO(streams_over_segments, setup_pool, body_streams, TA_CAP_SEGMENTS, 0, 0, 0)

/*---------------------------------------------------------------------------------------------------------
  Little address space. Each in a child process: limits cannot be taken back.
  -------------------------------------------------------------------------------------------------------*/
#define MANY_POOLS 500
#define LATE_BLOCKS 600

/* Memory for real work: 64 MiB of blocks, written and read. */
static void work_with_a_pool(const ta_pool_desc *desc)
{
    static unsigned char *blocks[256];
    ta_pool *pool = NULL;
    ta_stats s;
    size_t i, wrong = 0, round;
    CHECK_OK(ta_pool_create(desc, &pool));
    if (pool == NULL) {
        return;
    }
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 256; i++) {
            blocks[i] = (unsigned char *)ta_pool_alloc(pool, 1000 + i * 2000, NULL);
            wrong += blocks[i] == NULL;
            if (blocks[i] != NULL) {
                memset(blocks[i], (int)i, 1000 + i * 2000);
            }
        }
        for (i = 0; i < 256; i++) {
            size_t j = i * 97 % 256;
            wrong += blocks[j] == NULL || blocks[j][0] != j || blocks[j][999 + j * 2000] != j;
            wrong += ta_pool_free(pool, blocks[j]) != TA_OK;
        }
    }
    CHECK_EQ(wrong, 0);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 0);
    CHECK_EQ(s.cached_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

static void work_with_many_pools(size_t count)
{
    static ta_pool *pools[MANY_POOLS];
    static unsigned char *small[MANY_POOLS], *large[MANY_POOLS], *late[LATE_BLOCKS];
    size_t i, wrong = 0;
    void *others;
    for (i = 0; i < count; i++) {
        ta_result result = ta_pool_create(NULL, &pools[i]);
        wrong += result != TA_OK;
        if (result == TA_OK) {
            small[i] = (unsigned char *)ta_pool_alloc(pools[i], 100, NULL);
            large[i] = (unsigned char *)ta_pool_alloc(pools[i], 100000, NULL);
            wrong += small[i] == NULL || large[i] == NULL;
            if (small[i] != NULL && large[i] != NULL) {
                memset(small[i], (int)(i % 256), 100);
                memset(large[i], (int)(i % 256), 100000);
            }
        }
    }
    CHECK_EQ(wrong, 0);
    for (i = 0; i < LATE_BLOCKS && pools[count - 1] != NULL; i++) { /* the last one can grow, too */
        late[i] = (unsigned char *)ta_pool_alloc(pools[count - 1], 10000 + i * 16, NULL);
        wrong += late[i] == NULL;
        if (late[i] != NULL) {
            memset(late[i], (int)(i % 256), 10000 + i * 16);
        }
    }
    for (i = 0; i < LATE_BLOCKS; i++) {
        wrong += late[i] == NULL || late[i][9999 + i * 16] != i % 256;
        wrong += pools[count - 1] != NULL && ta_pool_free(pools[count - 1], late[i]) != TA_OK;
    }
    CHECK_EQ(wrong, 0);
    others = malloc(32 * MIB); /* the rest of the program still finds addresses */
    CHECK(others != NULL);
    free(others);
    for (i = 0; i < count; i++) {
        wrong += small[i] == NULL || small[i][99] != i % 256 || large[i] == NULL || large[i][99999] != i % 256;
        wrong += pools[i] != NULL && (ta_pool_check(pools[i]) != TA_OK || ta_pool_free(pools[i], large[i]) != TA_OK);
    }
    for (i = 0; i < count; i++) {
        wrong += ta_pool_destroy(pools[count - 1 - i]) != TA_OK;
    }
    CHECK_EQ(wrong, 0);
}

/* An arena and a direct allocator. */
static void work_with_the_others(void)
{
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    size_t i;
    CHECK_OK(ta_arena_create(NULL, &arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    for (i = 0; i < 64 && arena != NULL && direct != NULL; i++) {
        ta_request request;
        unsigned char *a = (unsigned char *)ta_arena_alloc(arena, 100000, NULL), *d;
        memset(&request, 0, sizeof request);
        request.size_bytes = 100000;
        d = (unsigned char *)ta_allocator_alloc(ta_direct_allocator(direct), &request, NULL);
        CHECK(a != NULL && d != NULL);
        if (a != NULL && d != NULL) {
            memset(a, 1, 100000);
            memset(d, 2, 100000);
            CHECK(a[0] == 1 && a[99999] == 1);
        }
    }
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_direct_destroy(direct));
}

static void work_with_everything(size_t pool_count)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    work_with_a_pool(&desc);
    desc.disable_ranges = 1;
    work_with_a_pool(&desc);
    desc = ta_pool_desc_spec();
    work_with_a_pool(&desc);
    work_with_the_others();
    work_with_many_pools(pool_count);
}

static void work_in_512_mib(void)
{
    work_with_everything(50);
}

static void work_in_4_gib(void)
{
    work_with_everything(MANY_POOLS);
}

/* A child that may map address_bytes runs the work; its checks are its own, its exit status says how they went. */
static void in_a_child(size_t address_bytes, void (*work)(void))
{
#if defined(_WIN32) || !defined(RLIMIT_AS)
    (void)address_bytes;
    (void)work;
    test_now.skip = "no limits on address space here";
#elif UNDER_SANITIZER
    (void)address_bytes;
    (void)work;
    test_now.skip = "the sanitizer needs address space without end";
#else
    int status = -1;
    pid_t child;
    if (!host_has_ranges()) {
        TEST_SKIP("segments take memory, not addresses");
        return;
    }
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct rlimit limit;
        limit.rlim_cur = limit.rlim_max = (rlim_t)address_bytes;
        if (setrlimit(RLIMIT_AS, &limit) != 0) {
            _exit(TEST_STATUS_SKIP);
        }
        work();
        fflush(NULL);
        _exit(test_now.failures != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_STATUS_SKIP) {
        test_now.skip = "RLIMIT_AS cannot be set";
    } else {
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
#endif
}

static void address_space_of_512_mib(void)
{
    in_a_child((size_t)512 << 20, work_in_512_mib);
}

static void address_space_of_4_gib(void)
{
    if (sizeof(size_t) == 4) {
        test_now.skip = "that is all there is";
    } else {
        in_a_child((size_t)1 << (sizeof(size_t) > 4 ? 32 : 31), work_in_4_gib);
    }
}

static void address_space_without_a_limit(void)
{
    work_with_everything(MANY_POOLS);
}

/* Address space first: what other cases leave behind, e.g. the C library for its threads, counts there. */
TEST_MAIN(TEST_CASE(address_space_of_512_mib), TEST_CASE(address_space_of_4_gib),
          TEST_CASE(address_space_without_a_limit), TEST_CASE(pool_warms_up),
          TEST_CASE(pool_warms_up_with_one_thread), TEST_CASE(pool_warms_up_with_initial_bytes),
          TEST_CASE(pool_grows), TEST_CASE(pool_grows_without_segments), TEST_CASE(pool_chains_ranges),
          TEST_CASE(pool_trims_and_recommits), TEST_CASE(pool_trims_and_recommits_without_segments),
          TEST_CASE(pool_reallocates), TEST_CASE(pool_zeroes), TEST_CASE(zeroed_pool_trims),
          TEST_CASE(pool_of_segments), TEST_CASE(pool_of_segments_without_ranges), TEST_CASE(pool_with_a_cap_grows),
          TEST_CASE(pool_with_a_callback), TEST_CASE(budget_of_three), TEST_CASE(arena_of_ranges),
          TEST_CASE(arena_of_segments), TEST_CASE(direct_allocator), TEST_CASE(chain_of_upstreams),
          TEST_CASE(tensors_over_a_pool), TEST_CASE(streams_over_ranges), TEST_CASE(streams_over_segments))
