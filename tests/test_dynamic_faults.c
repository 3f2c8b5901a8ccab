/* test_dynamic_faults.c - tensors with bounds when everything that can fail fails: calls of the backend, memory for
   records, system calls. Each scenario is run once for every n: the n-th of them fails, or it and all that follow;
   a short one for every pair. Whatever happens, tensors and figures stay as they were, the same call works when there is memory again, and in the
   end nothing is left. The first cases take address space away from a child process, the last ones have another thread
   come in wherever it can. */
#if !defined(_WIN32)
    #include <pthread.h>
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
    unsigned sources;  /* that are counted and can fail */
    uint64_t seen;     /* places passed since arm */
    uint64_t first;    /* the one that fails; 0: none */
    uint64_t second;   /* another one; 0: none */
    int from_then_on;  /* all after it, too */
    uint64_t fired;
    long records_out;  /* blocks of TENSORALLOC_MALLOC not yet freed */
} faults;

static void arm(unsigned sources, uint64_t first, uint64_t second, int from_then_on)
{
    faults.sources = sources;
    faults.seen = faults.fired = 0;
    faults.first = first;
    faults.second = second;
    faults.from_then_on = from_then_on;
}

static int fault_here(unsigned source)
{
    int fails;
    if ((faults.sources & source) == 0) {
        return 0;
    }
    faults.seen++;
    fails = faults.seen == faults.first || faults.seen == faults.second ||
            (faults.from_then_on && faults.first != 0 && faults.seen > faults.first);
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

/* What another thread does as soon as a lock is free, once: played by the release of the lock. */
#if !defined(_WIN32) && !defined(TENSORALLOC_NO_THREADS)
    #define LOCKS_TELL
static void (*at_release)(void);
static int releases_before;

static void lock_was_released(void)
{
    void (*it)(void) = at_release;
    if (it != NULL && releases_before-- == 0) {
        at_release = NULL;
        it();
    }
}

    #define TENSORALLOC_LOCK_TYPE pthread_mutex_t
    #define TENSORALLOC_LOCK_INIT(l) ((void)pthread_mutex_init(l, NULL))
    #define TENSORALLOC_LOCK_ACQUIRE(l) ((void)pthread_mutex_lock(l))
    #define TENSORALLOC_LOCK_RELEASE(l) ((void)pthread_mutex_unlock(l), lock_was_released())
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

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)
#define TENSORS 8

/*---------------------------------------------------------------------------------------------------------
  What a scenario works on.
  -------------------------------------------------------------------------------------------------------*/
typedef enum env_kind {
    AS_NEEDED,  /* ranges, each growth is a commit */
    BY_TOUCH,   /* ranges, with discard */
    SEGMENTS,   /* everything moves */
    UPSTREAM,   /* a pool of the user's for blocks, ranges besides */
    ORDERED,    /* over the clock */
    LIMITED,    /* by touch where it can, and the limit is in the way */
    KIND_COUNT
} env_kind;

static const char *const kind_names[KIND_COUNT] = {"as needed", "by touch", "segments", "upstream", "ordered",
                                                   "limited"};

typedef struct tensor {
    ta_handle h; /* zero: none */
    size_t size, max;
    unsigned char mark; /* of its bytes */
    int zeroed, flat;
    ta_stream stream;
} tensor;

typedef struct env {
    env_kind kind;
    tb_counting counting;
    tb_clock clock;
    ta_budget *budget;
    ta_pool *upstream;
    ta_dynamic *d;
    tensor t[TENSORS];
    unsigned char next_mark;
    int can_lose; /* the backend may refuse to take back what nobody can keep: two faults at one place */
    int opened;
} env;

static env the_env;

static void call_of_backend(void *user, tb_entry entry)
{
    if (entry < TB_INFO) {
        tb_counting_fail((tb_counting *)user, TB_ANY, fault_here(FAULT_BACKEND) ? 1 : 0, 0);
    }
}

static ta_shape_bounds bounds_of(size_t max)
{
    ta_shape_bounds bounds;
    memset(&bounds, 0, sizeof bounds);
    bounds.dtype = TA_U8;
    bounds.rank = 1;
    bounds.max[0] = max == TA_UNLIMITED ? TA_DIM_UNBOUNDED : (int64_t)max;
    return bounds;
}

static int decent(ta_result result)
{
    return result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_BACKEND || result == TA_ERROR_FRAGMENTED ||
           result == TA_ERROR_RECORDS;
}

static ta_result env_open_dynamic(env *e)
{
    ta_dynamic_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.budget = e->budget;
    desc.strategy = ta_strategy_exact();
    desc.range_bytes = 16 * MIB;
    desc.range_bytes_min = 128 * KIB;
    if (e->upstream != NULL) {
        desc.upstream = ta_pool_allocator(e->upstream);
    }
    return ta_dynamic_create(&desc, &e->d);
}

/* Everything below the dynamic, without faults; then the dynamic. */
static void env_open(env *e, env_kind kind, unsigned sources, uint64_t n, uint64_t m, int on)
{
    ta_budget_desc budget;
    ta_result result;
    memset(e, 0, sizeof *e);
    memset(&budget, 0, sizeof budget);
    arm(0, 0, 0, 0);
    e->kind = kind;
    e->can_lose = m != 0;
    budget.backend = ta_backend_host();
    if (kind == ORDERED) {
        budget.backend = tb_clock_init(&e->clock, (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS, 0);
    }
    budget.backend = tb_counting_init(&e->counting, budget.backend,
                                      kind == SEGMENTS ? (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_FRESH_ZERO : 0u);
    if (kind == BY_TOUCH || kind == LIMITED) {
        (void)tb_counting_let_discard(&e->counting);
    }
    e->counting.on_call = call_of_backend;
    e->counting.on_call_user = &e->counting;
    budget.limit_bytes = kind == LIMITED ? 3 * MIB : 0;
    CHECK_OK(ta_budget_create(&budget, &e->budget));
    if (kind == UPSTREAM) {
        ta_pool_desc pool;
        memset(&pool, 0, sizeof pool);
        pool.budget = e->budget;
        CHECK_OK(ta_pool_create(&pool, &e->upstream));
    }
    arm(sources, n, m, on);
    result = env_open_dynamic(e);
    if (result != TA_OK && m != 0) { /* the second one, too, perhaps */
        CHECK(decent(result));
        result = env_open_dynamic(e);
    }
    if (result != TA_OK) {
        CHECK(decent(result));
        CHECK_NE(faults.fired, 0);
        CHECK(e->d == NULL);
        if (on) {
            faults.first = 0;
        }
        CHECK_OK(env_open_dynamic(e)); /* a retry works */
    }
}

static int touchable(const env *e)
{
    return e->kind != ORDERED;
}

static void mark_bytes(const env *e, const tensor *t, size_t from)
{
    unsigned char *data = (unsigned char *)ta_dynamic_get_data(e->d, t->h);
    if (touchable(e) && t->size > from) {
        memset(data + from, t->mark, t->size - from);
    }
}

static size_t bad_bytes(const env *e, const tensor *t, size_t from, size_t to, unsigned char want)
{
    const unsigned char *data = (const unsigned char *)ta_dynamic_get_data(e->d, t->h);
    size_t wrong = 0;
    for (; touchable(e) && from < to; from += from % 64 == 0 && to - from > 128 ? 61 : 1) {
        wrong += data[from] != want;
    }
    return wrong;
}

/* Figures that a call which fails must not change. */
typedef struct counts {
    ta_dynamic_stats f;
    ta_stats s;
} counts;

static counts count_all(env *e)
{
    counts c;
    unsigned sources = faults.sources;
    faults.sources = 0;
    CHECK_OK(ta_dynamic_get_stats(e->d, &c.f));
    CHECK_OK(ta_allocator_get_stats(ta_dynamic_allocator(e->d), &c.s));
    faults.sources = sources;
    return c;
}

/* All that must hold at any time. */
static void env_check(env *e)
{
    const counts c = count_all(e);
    ta_budget_stats b;
    size_t i, effective = 0, capacity = 0, count = 0, others = 0;
    for (i = 0; i < TENSORS; i++) {
        const tensor *t = &e->t[i];
        if (t->h.owner != 0) {
            ta_handle_info info;
            memset(&info, 0, sizeof info);
            CHECK_OK(ta_dynamic_get_handle(e->d, t->h, &info));
            CHECK_EQ(info.effective_bytes, t->size);
            CHECK_GE(info.capacity_bytes, t->size);
            CHECK(t->flat || info.dims[0] == (int64_t)t->size);
            CHECK_EQ(bad_bytes(e, t, 0, t->size, t->mark), 0);
            effective += t->size;
            capacity += info.capacity_bytes;
            count++;
        }
    }
    CHECK_EQ(c.f.handle_count, count);
    CHECK_EQ(c.f.effective_bytes, effective);
    CHECK_EQ(c.f.capacity_bytes, capacity);
    CHECK_EQ(c.f.wasted_bytes, capacity - effective);
    CHECK_EQ(c.s.live_count, count);
    CHECK_EQ(c.s.requested_bytes, effective);
    CHECK_GE(c.s.in_use_bytes, capacity);
    CHECK_EQ(c.s.reserved_bytes, c.s.in_use_bytes + c.s.cached_bytes);
    CHECK_OK(ta_budget_get_stats(e->budget, &b));
    if (e->upstream != NULL) {
        ta_stats s;
        CHECK_OK(ta_pool_get_stats(e->upstream, &s));
        others = s.reserved_bytes - s.in_use_bytes;
    }
    CHECK_EQ(b.reserved_bytes, c.s.reserved_bytes + others);
    CHECK_LE(b.peak_reserved_bytes, e->kind == LIMITED ? 3 * MIB : TA_UNLIMITED);
    if (e->counting.table.discard == NULL) {
        if (e->can_lose && e->counting.failed[TB_FREE] + e->counting.failed[TB_RELEASE] != 0) {
            CHECK_GE(tb_counting_held(&e->counting), b.reserved_bytes); /* it did not take back what nobody can keep */
        } else {
            CHECK_EQ(tb_counting_held(&e->counting), b.reserved_bytes);
        }
    }
    CHECK_EQ(e->counting.violations.count, 0);
}

/* What a call that failed must have left. */
static void check_nothing_changed(env *e, const counts *was, uint64_t fired_before, ta_result result)
{
    const counts is = count_all(e);
    CHECK_STRING(decent(result) || (e->kind == LIMITED && result == TA_ERROR_LIMIT) ? "decent"
                                                                                   : ta_result_text(result),
                 "decent");
    CHECK(faults.fired != fired_before || e->kind == LIMITED);
    CHECK_EQ(is.f.handle_count, was->f.handle_count);
    CHECK_EQ(is.f.effective_bytes, was->f.effective_bytes);
    CHECK_EQ(is.f.allocation_count, was->f.allocation_count);
    CHECK_EQ(is.f.free_count, was->f.free_count);
    CHECK_EQ(is.f.resize_count, was->f.resize_count);
    CHECK_EQ(is.f.capacity_change_count, was->f.capacity_change_count);
    CHECK_EQ(is.f.allocated_bytes, was->f.allocated_bytes);
    CHECK_EQ(is.f.move_count, was->f.move_count);
    CHECK_EQ(is.f.moved_bytes, was->f.moved_bytes);
    CHECK_EQ(is.f.use_count, was->f.use_count);
    CHECK_EQ(is.f.used_bytes, was->f.used_bytes);
    CHECK_EQ(is.f.over_allocated_bytes, was->f.over_allocated_bytes);
    CHECK_EQ(is.s.allocated_bytes, was->s.allocated_bytes);
    CHECK_EQ(is.s.requested_bytes, was->s.requested_bytes);
    if (e->kind != LIMITED) { /* there headroom may have been given up */
        CHECK_EQ(is.f.capacity_bytes, was->f.capacity_bytes);
        CHECK_LE(is.s.in_use_bytes, was->s.in_use_bytes); /* what a pool rounds up may have become less */
    }
    env_check(e);
}

#define ATTEMPTS 3

static void take(env *e, int k, size_t size, size_t max, uint32_t flags, ta_stream stream)
{
    tensor *t = &e->t[k];
    const ta_shape_bounds bounds = bounds_of(max);
    ta_dynamic_request request;
    const int64_t dims = (int64_t)size;
    ta_result result = TA_ERROR_BUSY;
    int attempt;
    memset(t, 0, sizeof *t);
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.dims = &dims;
    request.flags = flags;
    request.stream = stream;
    request.site = (uintptr_t)(k % 3);
    for (attempt = 0; attempt < ATTEMPTS && result != TA_OK; attempt++) {
        const counts was = count_all(e);
        const uint64_t fired = faults.fired;
        result = ta_dynamic_alloc_request(e->d, &request, &t->h);
        if (result != TA_OK) {
            CHECK_EQ(t->h.owner + t->h.index + t->h.generation, 0);
            check_nothing_changed(e, &was, fired, result);
        }
    }
    CHECK(result == TA_OK || faults.from_then_on || e->kind == LIMITED);
    if (result == TA_OK) {
        t->size = size;
        t->max = max;
        t->stream = stream;
        t->zeroed = (flags & (uint32_t)TA_REQUEST_ZEROED) != 0;
        t->mark = (unsigned char)(e->next_mark++ | 1);
        CHECK(!t->zeroed || bad_bytes(e, t, 0, size, 0) == 0);
        mark_bytes(e, t, 0);
        env_check(e);
    }
}

static void change(env *e, int k, size_t size)
{
    tensor *t = &e->t[k];
    const int64_t dims = (int64_t)size;
    ta_result result = TA_ERROR_BUSY;
    int attempt;
    if (t->h.owner == 0) {
        return;
    }
    for (attempt = 0; attempt < ATTEMPTS && result != TA_OK; attempt++) {
        const counts was = count_all(e);
        const uint64_t fired = faults.fired;
        ta_handle_info before, after;
        ta_result fits = ta_dynamic_will_fit_in_place(e->d, t->h, &dims, 1);
        CHECK_OK(ta_dynamic_get_handle(e->d, t->h, &before));
        result = ta_dynamic_resize(e->d, t->h, &dims, 1);
        CHECK_OK(ta_dynamic_get_handle(e->d, t->h, &after));
        CHECK(fits != TA_OK || before.data == NULL || before.data == after.data);
        if (result != TA_OK) {
            CHECK(before.data == after.data); /* the program goes on with it */
            CHECK_EQ(before.capacity_bytes, after.capacity_bytes);
            CHECK_EQ(before.in_place_bytes, after.in_place_bytes);
            CHECK_EQ(before.use_count, after.use_count);
            check_nothing_changed(e, &was, fired, result);
        }
    }
    CHECK(result == TA_OK || faults.from_then_on || e->kind == LIMITED);
    if (result == TA_OK) {
        const size_t kept = size < t->size ? size : t->size;
        t->size = size;
        CHECK_EQ(bad_bytes(e, t, 0, kept, t->mark), 0);
        CHECK(!t->zeroed || bad_bytes(e, t, kept, size, 0) == 0);
        mark_bytes(e, t, kept);
        env_check(e);
    }
}

static void give(env *e, int k)
{
    tensor *t = &e->t[k];
    ta_result result = TA_ERROR_BUSY;
    int attempt;
    if (t->h.owner == 0) {
        return;
    }
    for (attempt = 0; attempt < ATTEMPTS && result != TA_OK; attempt++) {
        const counts was = count_all(e);
        const uint64_t fired = faults.fired;
        result = ta_dynamic_free(e->d, t->h);
        if (result != TA_OK) {
            check_nothing_changed(e, &was, fired, result);
        }
    }
    CHECK(result == TA_OK || faults.from_then_on);
    if (result == TA_OK) {
        memset(t, 0, sizeof *t);
        env_check(e);
    }
}

static void plain(env *e, int k, size_t size)
{
    tensor *t = &e->t[k];
    ta_request request;
    ta_buffer buffer;
    ta_result result = TA_ERROR_BUSY;
    int attempt;
    memset(t, 0, sizeof *t);
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    for (attempt = 0; attempt < ATTEMPTS && result != TA_OK; attempt++) {
        const counts was = count_all(e);
        const uint64_t fired = faults.fired;
        result = ta_allocator_alloc_buffer(ta_dynamic_allocator(e->d), &request, &buffer);
        if (result != TA_OK) {
            check_nothing_changed(e, &was, fired, result);
        }
    }
    CHECK(result == TA_OK || faults.from_then_on || e->kind == LIMITED);
    if (result == TA_OK) {
        t->h = buffer.id;
        t->size = t->max = size;
        t->flat = 1;
        t->mark = (unsigned char)(e->next_mark++ | 1);
        mark_bytes(e, t, 0);
        env_check(e);
    }
}

static void announce(env *e, int k, ta_stream stream)
{
    if (e->t[k].h.owner != 0) {
        const uint64_t fired = faults.fired;
        const ta_result result = ta_dynamic_record_use(e->d, e->t[k].h, stream);
        CHECK(result == TA_OK || (decent(result) && faults.fired != fired));
        env_check(e);
    }
}

static void trim(env *e, size_t keep)
{
    const uint64_t fired = faults.fired;
    const ta_result result = ta_allocator_trim(ta_dynamic_allocator(e->d), keep, NULL);
    CHECK(result == TA_OK || (decent(result) && faults.fired != fired));
    env_check(e);
}

/* What the backend refused to take back, although it was asked, it takes now. */
static void take_back(tb_counting *c)
{
    ta_backend b;
    b.vtable = &c->table;
    b.self = c;
    CHECK_LE(c->segments.count, c->failed[TB_FREE]);
    CHECK_LE(c->ranges.count, c->failed[TB_RELEASE]);
    while (c->segments.count != 0) {
        const tb_span span = c->segments.at[0];
        CHECK_OK(b.vtable->free(b.self, (void *)span.from, (size_t)(span.to - span.from)));
    }
    while (c->ranges.count != 0) {
        const tb_span span = c->ranges.at[0];
        CHECK_OK(b.vtable->release(b.self, (void *)span.from, (size_t)(span.to - span.from)));
    }
}

/* Destroys it, with the faults still there if they are. */
static void env_close(env *e)
{
    ta_budget_stats b;
    ta_stats s;
    CHECK_OK(ta_allocator_dispose(ta_dynamic_allocator(e->d)));
    CHECK_OK(ta_allocator_get_stats(ta_dynamic_allocator(e->d), &s));
    CHECK_EQ(s.reserved_bytes + s.in_use_bytes + s.cached_bytes + s.live_count, 0);
    CHECK_OK(ta_dynamic_destroy(e->d));
    if (e->upstream != NULL) {
        CHECK_OK(ta_pool_get_stats(e->upstream, &s));
        CHECK(s.live_count == 0 || e->counting.failed[TB_SYNC] + e->counting.failed[TB_MARK] != 0);
        CHECK_OK(ta_pool_destroy(e->upstream));
    }
    faults.first = 0;
    CHECK_OK(ta_budget_get_stats(e->budget, &b));
    CHECK_EQ(b.reserved_bytes + b.allocator_count, 0);
    CHECK_OK(ta_budget_destroy(e->budget));
    take_back(&e->counting);
    tb_counting_check(&e->counting, 1);
    tb_counting_end(&e->counting);
    if (e->kind == ORDERED) {
        CHECK_EQ(e->clock.tickets_live, 0);
        tb_clock_end(&e->clock);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Scenarios.
  -------------------------------------------------------------------------------------------------------*/
static void making_and_freeing(env *e)
{
    take(e, 0, 1000, 5000, 0, 0);
    take(e, 1, 200 * KIB, 2 * MIB, 0, 0);
    take(e, 2, 0, 2 * MIB, 0, 0);
    take(e, 3, 300 * KIB, MIB, TA_REQUEST_ZEROED, 7);
    take(e, 4, 100 * KIB, TA_UNLIMITED, 0, 7);
    plain(e, 5, 70000);
    give(e, 1);
    give(e, 3);
    take(e, 1, 500 * KIB, 2 * MIB, TA_REQUEST_ZEROED, 9); /* a warm one, on another stream */
    give(e, 5);
    take(e, 6, 2 * MIB, 24 * MIB, TA_REQUEST_WITHIN_BUDGET, 0);
    give(e, 0);
    give(e, 6);
}

static void growing(env *e)
{
    take(e, 0, 1000, 2 * MIB, 0, 0);
    take(e, 1, 1000, 100 * KIB, TA_REQUEST_ZEROED, 0);
    take(e, 2, 10 * KIB, 300 * KIB, 0, 7);
    change(e, 0, 100 * KIB);
    change(e, 1, 60 * KIB);
    change(e, 0, MIB);
    change(e, 2, 300 * KIB);
    change(e, 0, 50 * KIB);
    change(e, 1, 2000);
    change(e, 1, 90 * KIB);
    change(e, 0, 2 * MIB);
    change(e, 0, 0);
    change(e, 0, 3000);
}

static void moving(env *e)
{
    take(e, 0, 50 * KIB, 200 * KIB, 0, 0);
    take(e, 1, 2000, 3000, TA_REQUEST_ZEROED, 7);
    take(e, 2, 200 * KIB, 300 * KIB, TA_REQUEST_ZEROED, 9);
    announce(e, 2, 11);
    change(e, 0, 700 * KIB); /* outside its bounds */
    change(e, 1, 300 * KIB);
    change(e, 2, 900 * KIB);
    give(e, 0);
    change(e, 2, 100 * KIB);
    change(e, 2, 2 * MIB);
    change(e, 1, 10);
    give(e, 1);
}

static void giving_back(env *e)
{
    take(e, 0, MIB, 2 * MIB, 0, 0);
    take(e, 1, 500 * KIB, 2 * MIB, 0, 7);
    take(e, 2, 40 * KIB, 50 * KIB, 0, 7);
    announce(e, 1, 9);
    change(e, 0, 100 * KIB);
    give(e, 1);
    give(e, 2);
    trim(e, 200 * KIB);
    change(e, 0, 700 * KIB);
    change(e, 0, 10);
    trim(e, 0);
    take(e, 3, 100 * KIB, 2 * MIB, 0, 0);
    give(e, 0);
    give(e, 3);
    trim(e, 0);
}

/* For pairs: each of the calls, once. */
static void short_life(env *e)
{
    take(e, 0, 100 * KIB, MIB, 0, 0);
    change(e, 0, 2 * MIB);
    take(e, 1, 2000, 3000, TA_REQUEST_ZEROED, 0);
    give(e, 0);
    trim(e, 0);
}

typedef void (*scenario)(env *e);

/* One run, in a thread of its own: what a thread keeps of allocators that are gone goes with it. */
typedef struct run {
    scenario play;
    env_kind kind;
    unsigned sources;
    uint64_t n, m, seen; /* the n-th and m-th fail; 0: none */
    int on;
} run;

static void *run_thread(void *user)
{
    run *r = (run *)user;
    env *e = &the_env;
    env_open(e, r->kind, r->sources, r->n, r->m, r->on);
    r->play(e);
    r->seen = faults.seen;
    if (r->n % 4 == 2) { /* all is well again: everything works, and destroying too */
        faults.first = faults.second = 0;
        faults.from_then_on = 0;
        if (r->kind != LIMITED) {
            take(e, 7, 300 * KIB, 2 * MIB, 0, 0);
            change(e, 7, MIB);
            change(e, 7, 3 * MIB);
        }
    }
    env_close(e);
    return NULL;
}

static uint64_t run_once(run *r)
{
    const long records_before = faults.records_out;
    pthread_t thread;
    test_context("%s, call %u%s fails", kind_names[r->kind], (unsigned)r->n, r->on ? " and all after it" : "");
    if (pthread_create(&thread, NULL, run_thread, r) != 0) {
        abort();
    }
    (void)pthread_join(thread, NULL);
    CHECK_EQ(faults.records_out, records_before);
    return r->seen;
}

/* Runs it for every n. */
static void for_every_n(scenario play, unsigned sources, int on)
{
    int kind;
    for (kind = 0; kind < KIND_COUNT; kind++) {
        run r;
        uint64_t count;
        memset(&r, 0, sizeof r);
        r.play = play;
        r.kind = (env_kind)kind;
        r.sources = sources;
        count = run_once(&r);
        CHECK_GT(count, 0);
        r.on = on;
        for (r.n = 1; r.n <= count && test_now.failures < 20; r.n++) {
            (void)run_once(&r);
        }
    }
    test_context("%s", "");
}

static void two_faults(void)
{
    uint64_t pairs = 0;
    int kind;
    for (kind = 0; kind < KIND_COUNT; kind++) {
        run r;
        uint64_t count;
        memset(&r, 0, sizeof r);
        r.play = short_life;
        r.kind = (env_kind)kind;
        r.sources = FAULT_BACKEND | FAULT_RECORDS;
        count = run_once(&r);
        for (r.n = 1; r.n < count; r.n++) {
            for (r.m = r.n + 1; r.m <= count && test_now.failures < 20; r.m++) {
                (void)run_once(&r);
                pairs++;
            }
        }
    }
    test_context("%s", "");
    CHECK_GT(pairs, 1000);
}

static void the_backend_fails_making_and_freeing(void)
{
    for_every_n(making_and_freeing, FAULT_BACKEND, 0);
    for_every_n(making_and_freeing, FAULT_BACKEND, 1);
}

static void the_backend_fails_growing(void)
{
    for_every_n(growing, FAULT_BACKEND, 0);
    for_every_n(growing, FAULT_BACKEND, 1);
}

static void the_backend_fails_moving(void)
{
    for_every_n(moving, FAULT_BACKEND, 0);
    for_every_n(moving, FAULT_BACKEND, 1);
}

static void the_backend_fails_giving_back(void)
{
    for_every_n(giving_back, FAULT_BACKEND, 0);
    for_every_n(giving_back, FAULT_BACKEND, 1);
}

static void records_run_out(void)
{
    for_every_n(making_and_freeing, FAULT_RECORDS, 0);
    for_every_n(making_and_freeing, FAULT_RECORDS, 1);
    for_every_n(moving, FAULT_RECORDS, 0);
    for_every_n(moving, FAULT_RECORDS, 1);
}

static void the_system_fails(void)
{
#if defined(_WIN32)
    TEST_SKIP("no system calls to fail here");
#else
    for_every_n(making_and_freeing, FAULT_SYSTEM, 0);
    for_every_n(growing, FAULT_SYSTEM, 0);
    for_every_n(moving, FAULT_SYSTEM, 1);
    for_every_n(giving_back, FAULT_SYSTEM, 1);
#endif
}

/* Very many tensors, so that tables of records and chains grow while records fail now and then. */
static void records_run_out_with_many_tensors(void)
{
    enum { MANY = 1500 };
    static ta_handle h[MANY];
    const long records_before = faults.records_out;
    uint64_t n;
    for (n = 0; n < 40; n++) {
        const ta_shape_bounds bounds = bounds_of(100);
        ta_dynamic_desc desc;
        ta_dynamic *d = NULL;
        ta_dynamic_stats f;
        ta_result result;
        int i, count = 0;
        memset(&desc, 0, sizeof desc);
        desc.strategy = ta_strategy_exact();
        arm(0, 0, 0, 0);
        CHECK_OK(ta_dynamic_create(&desc, &d));
        arm(FAULT_RECORDS | FAULT_SYSTEM, n, 0, 0);
        for (i = 0; i < MANY; i++) {
            ta_dynamic_request request;
            memset(&request, 0, sizeof request);
            request.bounds = &bounds;
            request.site = (uintptr_t)(i % 700);
            result = ta_dynamic_alloc_request(d, &request, &h[i]);
            CHECK(result == TA_OK || decent(result));
            count += result == TA_OK;
        }
        CHECK_GE(count, MANY - 2);
        CHECK_OK(ta_dynamic_get_stats(d, &f));
        CHECK_EQ(f.handle_count, (uint64_t)count);
        for (i = 0; i < MANY; i++) {
            const int64_t dims = i % 100;
            if (h[i].owner != 0) {
                CHECK_OK(ta_dynamic_resize(d, h[i], &dims, 1));
                CHECK_OK(ta_dynamic_free(d, h[i]));
            }
        }
        CHECK_OK(ta_dynamic_destroy(d));
    }
    CHECK_LE(faults.records_out, records_before + 1); /* of this thread */
}

/*---------------------------------------------------------------------------------------------------------
  A process with little address space.
  -------------------------------------------------------------------------------------------------------*/
#if !defined(_WIN32) && defined(RLIMIT_AS) && !UNDER_SANITIZER
static ta_result grow(ta_dynamic *d, ta_handle h, size_t size)
{
    const int64_t dims = (int64_t)size;
    return ta_dynamic_resize(d, h, &dims, 1);
}

static void work_in_little_space(void)
{
    static ta_handle h[3000];
    ta_dynamic *d = NULL;
    ta_shape_bounds bounds = bounds_of(TA_UNLIMITED);
    ta_result result = TA_OK;
    size_t i, count = 0, size = 1000;
    arm(0, 0, 0, 0);
    CHECK_OK(ta_dynamic_create(NULL, &d));
    for (; size <= SIZE_MAX / 4 && result == TA_OK && count < 31; size *= 2, count++) {
        result = ta_dynamic_alloc(d, &bounds, &h[count]); /* unbounded ones, the first of them alone */
        if (result == TA_OK) {
            result = grow(d, h[count], size);
            if (result == TA_OK) {
                memset(ta_dynamic_get_data(d, h[count]), 1, size < MIB ? size : MIB);
            }
        }
        if (result != TA_OK) {
            CHECK(decent(result));
            break;
        }
    }
    CHECK_GE(count, 8);
    for (i = 0; i <= count; i++) {
        if (h[i].owner != 0) {
            CHECK_OK(ta_dynamic_free(d, h[i]));
        }
    }
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(d)));
    bounds = bounds_of(16 * MIB); /* more addresses than there are: ranges first, then blocks */
    for (count = 0; count < 3000; count++) {
        ta_handle_info info;
        bounds.expected[0] = 3000;
        result = ta_dynamic_alloc(d, &bounds, &h[count]);
        if (result != TA_OK) {
            CHECK(decent(result));
            break;
        }
        CHECK_OK(ta_dynamic_get_handle(d, h[count], &info));
        memset(info.data, 2, 3000);
    }
    CHECK_GE(count, 250);
    CHECK(malloc(100000) != NULL); /* there is some left for others */
    for (i = 0; i < count; i++) {
        CHECK_OK(ta_dynamic_free(d, h[i]));
    }
    CHECK_OK(ta_dynamic_destroy(d));
}

static void in_a_child(size_t address_bytes)
{
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct rlimit limit;
        limit.rlim_cur = limit.rlim_max = (rlim_t)address_bytes;
        if (setrlimit(RLIMIT_AS, &limit) != 0) {
            _exit(TEST_STATUS_SKIP);
        }
        work_in_little_space();
        fflush(NULL);
        _exit(test_now.failures != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_STATUS_SKIP) {
        test_now.skip = "RLIMIT_AS cannot be set";
    } else {
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void address_space_of_256_mib(void)
{
    in_a_child((size_t)256 << 20);
}

static void address_space_of_4_gib(void)
{
    if (sizeof(void *) > 4) {
        in_a_child((size_t)((uint64_t)4 << 30));
    } else {
        TEST_SKIP("there is no more than that");
    }
}
#else
static void address_space_of_256_mib(void)
{
    TEST_SKIP("no limits on address space here");
}

static void address_space_of_4_gib(void)
{
    TEST_SKIP("no limits on address space here");
}
#endif

/*---------------------------------------------------------------------------------------------------------
  Figures that are read one after the other, while another thread frees or resizes.
  -------------------------------------------------------------------------------------------------------*/
#ifdef LOCKS_TELL
static ta_allocator looked_at;
static void *freed_meanwhile;

static void free_meanwhile(void)
{
    CHECK_OK(ta_allocator_free(looked_at, freed_meanwhile, 0, 0, 0));
    CHECK_OK(ta_allocator_trim(looked_at, 0, NULL));
    freed_meanwhile = NULL;
}

static void figures_while_others_free(void)
{
    ta_dynamic *dynamic = NULL;
    ta_request request;
    ta_stats stats;
    int n, done = 0;
    arm(0, 0, 0, 0);
    memset(&request, 0, sizeof request);
    request.size_bytes = (size_t)3 << 20;
    REQUIRE(ta_dynamic_create(NULL, &dynamic) == TA_OK);
    looked_at = ta_dynamic_allocator(dynamic);
    for (n = 0; n < 6; n++) {
        freed_meanwhile = ta_allocator_alloc(looked_at, &request, NULL);
        CHECK(freed_meanwhile != NULL);
        releases_before = n;
        at_release = free_meanwhile;
        CHECK_OK(ta_allocator_get_stats(looked_at, &stats));
        at_release = NULL;
        CHECK_LE(stats.cached_bytes, stats.reserved_bytes);
        done += freed_meanwhile == NULL;
        CHECK_OK(ta_allocator_free(looked_at, freed_meanwhile, 0, 0, 0));
    }
    CHECK_GE(done, 2); /* else nothing is tested */
    CHECK_OK(ta_dynamic_destroy(dynamic));
}

static struct {
    ta_dynamic *d;
    ta_handle h;
    int64_t size;
    int calls;
} intruded;

static void resize_in_the_middle(void)
{
    intruded.calls++;
    CHECK_OK(ta_dynamic_resize(intruded.d, intruded.h, &intruded.size, 1));
}

/* What is reserved and what is in use are of one moment, wherever another thread resizes in the middle: of a tensor
   in a block of an upstream nothing is cached. */
static void statistics_are_of_one_moment(void)
{
    int own, grows, n;
    for (own = 0; own < 2; own++) {
        for (grows = 0; grows < 2; grows++) {
            for (n = 0; n < 100; n++) {
                const ta_shape_bounds bounds = bounds_of(grows ? 1000 : 900 * KIB);
                ta_dynamic_desc desc;
                ta_pool *pool = NULL;
                ta_stats s;
                memset(&desc, 0, sizeof desc);
                memset(&intruded, 0, sizeof intruded);
                if (!own) {
                    CHECK_OK(ta_pool_create(NULL, &pool));
                    desc.upstream = ta_pool_allocator(pool);
                }
                desc.strategy = ta_strategy_exact();
                desc.disable_ranges = 1;
                CHECK_OK(ta_dynamic_create(&desc, &intruded.d));
                CHECK_OK(ta_dynamic_alloc(intruded.d, &bounds, &intruded.h));
                intruded.size = grows ? 900 * (int64_t)KIB : 1000;
                releases_before = n;
                at_release = resize_in_the_middle;
                CHECK_OK(ta_allocator_get_stats(ta_dynamic_allocator(intruded.d), &s));
                at_release = NULL;
                test_context("own pool %d, grows %d, lock %d", own, grows, n);
                CHECK(own || s.reserved_bytes == s.in_use_bytes);
                CHECK(own || s.cached_bytes == 0);
                CHECK_LE(s.cached_bytes, s.reserved_bytes);
                CHECK_OK(ta_dynamic_destroy(intruded.d));
                CHECK_OK(ta_pool_destroy(pool));
                if (intruded.calls == 0) {
                    break; /* all places are through */
                }
            }
            CHECK(n > 0 && n < 100); /* else nothing is tested */
        }
    }
    test_context("%s", "");
}
#else
static void figures_while_others_free(void)
{
    TEST_SKIP("no locks of its own here");
}

static void statistics_are_of_one_moment(void)
{
    TEST_SKIP("no locks of its own here");
}
#endif

TEST_MAIN(TEST_CASE(address_space_of_256_mib), TEST_CASE(address_space_of_4_gib),
          TEST_CASE(the_backend_fails_making_and_freeing), TEST_CASE(the_backend_fails_growing),
          TEST_CASE(the_backend_fails_moving), TEST_CASE(the_backend_fails_giving_back), TEST_CASE(records_run_out),
          TEST_CASE(the_system_fails), TEST_CASE(records_run_out_with_many_tensors),
          TEST_CASE(two_faults), TEST_CASE(figures_while_others_free), TEST_CASE(statistics_are_of_one_moment))
