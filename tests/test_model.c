/* test_model.c - randomised sequences of operations against a reference model that knows every live block, its
   bytes and every counter; and the placement of the heap against a best fit that anybody can check by reading it.

   prog [--seed N] [--ops N] [PART...]; --ops is the number of operations of each configuration. A failure names
   the seed, the configuration and the operation: the same seed takes the same way again. --seed 0 takes it from
   the clock. */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include <time.h>

#include "test.h"

#if defined(__SANITIZE_THREAD__)
    #define MODEL_SLOW 1
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define MODEL_SLOW 1
    #endif
#endif
#ifndef MODEL_SLOW
    #define MODEL_SLOW 0
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define LIVE_MAX 384   /* blocks of one allocator */
#define FREED_MAX 64   /* pointers remembered after they were freed */
#define MARKS_MAX 16
#define OPS_DEFAULT (MODEL_SLOW ? 10000u : 60000u)

static uint64_t ops_per_case = OPS_DEFAULT;

/*---------------------------------------------------------------------------------------------------------
  The model: live blocks sorted by address, and what the counters must say.
  -------------------------------------------------------------------------------------------------------*/
typedef struct block {
    unsigned char *ptr;
    size_t size, capacity, alignment;
    uint64_t pattern; /* what was written into it */
    uint64_t birth;   /* how many blocks were allocated before it */
} block;

typedef struct model {
    ta_allocator allocator;
    ta_pool *pool;   /* NULL: an arena */
    ta_arena *arena; /* NULL: a pool */
    block live[LIVE_MAX];
    size_t live_count;
    unsigned char *freed[FREED_MAX];
    size_t freed_count; /* ever; the last FREED_MAX are kept */
    size_t target;      /* number of live blocks that the sequence is heading for */
    uint64_t births;
    size_t requested, in_use, peak_in_use;
    uint64_t allocation_count, deallocation_count, allocated_bytes, freed_bytes, resize_count;
    uint64_t failure_count, limit_count, sealed_count, not_cached_count;
    int sealed;
    size_t thread_cache_bytes; /* what one thread may hold */
    ta_stats last;
    ta_arena_mark marks[MARKS_MAX];
    uint64_t mark_births[MARKS_MAX];
    int mark_count;
} model;

typedef struct world {
    const char *name;
    uint64_t random;
    uint64_t op;
    model *models;
    int model_count;
    ta_budget *budget;  /* shared, or NULL */
    size_t limit;       /* of what all reserve together */
    size_t cap;         /* cached_bytes_max */
    size_t slack;
    size_t live_bytes_max;
    int may_fail;       /* memory may run out */
    int gives_back;     /* addresses of freed blocks may leave the allocator altogether */
    int whole_segments; /* what is given back are segments without a live block */
    int zeroed;         /* every allocation reads as zero */
    int exact_peak;
    int in_order;       /* arena: blocks lie one behind the other */
    ta_pool *upstream;  /* the pool from which this one takes its memory, or NULL */
} world;

static uint32_t below(world *w, size_t n)
{
    return test_below(&w->random, (uint32_t)n);
}

/* ---- bytes: small blocks wholly, large ones at both ends and at places that depend on the pattern */
static size_t place_count(size_t size)
{
    return size <= 96 ? size : 72;
}

static size_t place(const block *b, size_t i)
{
    if (b->size <= 96 || i < 32) {
        return i;
    }
    return i < 64 ? b->size - 64 + i : (size_t)((b->pattern ^ (i * 0x9E3779B97F4A7C15u)) % b->size);
}

static unsigned char byte_at(const block *b, size_t offset)
{
    return (unsigned char)(((b->pattern + offset) * 0xBF58476D1CE4E5B9u) >> 56);
}

static void write_block(world *w, block *b)
{
    size_t i;
    b->pattern = test_random(&w->random) | 1;
    for (i = 0; i < place_count(b->size); i++) {
        b->ptr[place(b, i)] = byte_at(b, place(b, i));
    }
}

static void check_bytes(const block *b, size_t end)
{
    size_t i, wrong = 0;
    for (i = 0; i < place_count(b->size); i++) {
        wrong += place(b, i) < end && b->ptr[place(b, i)] != byte_at(b, place(b, i));
    }
    CHECK_EQ(wrong, 0);
}

static void check_zero(const unsigned char *ptr, size_t size)
{
    size_t i, wrong = 0;
    for (i = 0; i < size; i += i < 8192 || i + 4096 > size ? 1 : 512) {
        wrong += ptr[i] != 0;
    }
    CHECK_EQ(wrong, 0);
}

/* ---- the set of live blocks */
/* How many live blocks start at or before ptr. */
static size_t rank_of(const model *m, const void *ptr)
{
    size_t low = 0, high = m->live_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)m->live[middle].ptr <= (uintptr_t)ptr) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The live block that ptr points into, its end by capacity; NULL if none. */
static block *block_around(model *m, const void *ptr)
{
    size_t rank = rank_of(m, ptr);
    block *b = rank != 0 ? &m->live[rank - 1] : NULL;
    return b != NULL && (uintptr_t)ptr - (uintptr_t)b->ptr < b->capacity ? b : NULL;
}

static void check_neighbours(const model *m, size_t i)
{
    const block *b = &m->live[i];
    CHECK(i == 0 || (uintptr_t)m->live[i - 1].ptr + m->live[i - 1].capacity <= (uintptr_t)b->ptr);
    CHECK(i + 1 == m->live_count || (uintptr_t)b->ptr + b->capacity <= (uintptr_t)m->live[i + 1].ptr);
}

static void add_in_use(model *m, size_t bytes)
{
    m->in_use += bytes;
    m->peak_in_use = m->in_use > m->peak_in_use ? m->in_use : m->peak_in_use;
}

static size_t capacity_at(const model *m, const void *ptr)
{
    ta_block_info info;
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_allocator_describe(m->allocator, ptr, &info));
    return info.capacity_bytes;
}

/* What a fresh block may waste: a class is at most twice the one before, blocks above the caches end at the granule. */
static size_t capacity_bound(const world *w, const model *m, size_t size)
{
    if (m->arena != NULL || size > 64 * KIB) {
        return size + 63 + w->slack;
    }
    return 2 * size + 63 + w->slack;
}

static void add_block(world *w, model *m, void *ptr, size_t size, size_t alignment)
{
    size_t i = rank_of(m, ptr);
    block *b = &m->live[i];
    CHECK(m->live_count < LIVE_MAX);
    CHECK_EQ((uintptr_t)ptr % alignment, 0);
    CHECK(!w->in_order || i == m->live_count);
    memmove(b + 1, b, (m->live_count - i) * sizeof *b);
    m->live_count++;
    b->ptr = (unsigned char *)ptr;
    b->size = size;
    b->alignment = alignment;
    b->capacity = capacity_at(m, ptr);
    b->birth = m->births++;
    CHECK_GE(b->capacity, size);
    CHECK_LE(b->capacity, capacity_bound(w, m, size));
    check_neighbours(m, i);
    write_block(w, b);
    m->requested += size;
    add_in_use(m, b->capacity);
    m->allocation_count++;
    m->allocated_bytes += size;
}

static void remove_block(model *m, size_t i)
{
    const block *b = &m->live[i];
    m->freed[m->freed_count++ % FREED_MAX] = b->ptr;
    m->requested -= b->size;
    m->in_use -= b->capacity;
    m->deallocation_count++;
    m->freed_bytes += b->size;
    m->live_count--;
    memmove(&m->live[i], &m->live[i + 1], (m->live_count - i) * sizeof *b);
}

static void remove_since(model *m, uint64_t birth)
{
    size_t i = m->live_count;
    while (i-- > 0) {
        if (m->live[i].birth >= birth) {
            check_bytes(&m->live[i], m->live[i].size);
            remove_block(m, i);
        }
    }
}

/* ---- what must hold after each operation */
typedef struct walk_sum {
    model *m;
    size_t live_count, live_bytes, cached_bytes, committed_bytes, page;
    size_t whole_pages; /* free blocks in which a whole page has memory behind it */
    int wrong;
} walk_sum;

static int visit_any(void *user, const ta_block_info *info)
{
    walk_sum *sum = (walk_sum *)user;
    uintptr_t from = (uintptr_t)info->ptr, to = from + info->capacity_bytes;
    const block *b = block_around(sum->m, info->ptr);
    int live = b != NULL && b->ptr == (unsigned char *)info->ptr;
    sum->wrong += info->capacity_bytes == 0 || live != (info->state == TA_BLOCK_LIVE);
    if (live) {
        sum->wrong += b->size != info->requested_bytes || b->capacity != info->capacity_bytes;
        sum->live_count++;
        sum->live_bytes += info->capacity_bytes;
        sum->wrong += info->committed_bytes != info->capacity_bytes;
    } else {
        sum->wrong += info->requested_bytes != 0 || b != NULL || info->committed_bytes > info->capacity_bytes;
        sum->cached_bytes += info->state == TA_BLOCK_CACHED ? info->capacity_bytes : 0;
    }
    sum->committed_bytes += info->committed_bytes;
    from = (from + sum->page - 1) & ~(uintptr_t)(sum->page - 1);
    to &= ~(uintptr_t)(sum->page - 1);
    sum->whole_pages += info->state == TA_BLOCK_FREE && info->committed_bytes == info->capacity_bytes && from < to;
    return 0;
}

static walk_sum walk_pool(model *m)
{
    walk_sum sum;
    ta_pool_desc desc;
    ta_backend_info info;
    ta_stats s;
    memset(&sum, 0, sizeof sum);
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_pool_get_desc(m->pool, &desc));
    desc.backend.vtable->info(desc.backend.self, &info);
    sum.m = m;
    sum.page = info.granularity_bytes;
    CHECK_OK(ta_pool_walk(m->pool, visit_any, &sum));
    CHECK_EQ(sum.wrong, 0);
    CHECK_EQ(sum.live_count, m->live_count);
    CHECK_EQ(sum.live_bytes, m->in_use);
    CHECK_OK(ta_pool_get_stats(m->pool, &s));
    CHECK_LE(sum.committed_bytes, s.reserved_bytes);
    CHECK_LE(s.in_use_bytes, sum.committed_bytes);
    return sum;
}

static void check_model(world *w, model *m)
{
    ta_stats s;
    CHECK_OK(ta_allocator_get_stats(m->allocator, &s));
    CHECK_EQ(s.requested_bytes, m->requested);
    CHECK_EQ(s.in_use_bytes, m->in_use);
    CHECK_EQ(s.live_count, m->live_count);
    CHECK_EQ(s.wasted_bytes, m->in_use - m->requested);
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_LE(s.thread_cached_bytes, s.cached_bytes);
    CHECK_LE(s.thread_cached_bytes, m->thread_cache_bytes);
    CHECK_EQ(s.allocation_count, m->allocation_count);
    CHECK_EQ(s.deallocation_count, m->deallocation_count);
    CHECK_EQ(s.allocated_bytes, m->allocated_bytes);
    CHECK_EQ(s.freed_bytes, m->freed_bytes);
    CHECK_EQ(s.resize_count, m->resize_count);
    CHECK_EQ(s.failure_count, m->failure_count);
    CHECK_EQ(s.failure_limit_count, m->limit_count);
    CHECK_EQ(s.failure_sealed_count, m->sealed_count);
    CHECK_EQ(s.failure_not_cached_count, m->not_cached_count);
    CHECK_EQ(s.hit_count + s.miss_count, s.allocation_count);
    CHECK_EQ(s.miss_grow_count + s.miss_recommit_count, s.miss_count);
    CHECK_GE(s.miss_count, m->last.miss_count);
    CHECK_GE(s.trimmed_bytes, m->last.trimmed_bytes);
    CHECK_GE(s.peak_reserved_bytes, s.reserved_bytes);
    CHECK_GE(s.peak_in_use_upper_bytes, m->peak_in_use);
    CHECK_LE(s.peak_in_use_upper_bytes, s.peak_reserved_bytes);
    if (w->exact_peak) {
        CHECK_EQ(s.peak_in_use_upper_bytes, m->peak_in_use);
    }
    if (s.cached_bytes > w->cap && !w->whole_segments) {
        CHECK_EQ(walk_pool(m).whole_pages, 0);
    }
    m->last = s;
}

static void check_world(world *w)
{
    size_t reserved = 0;
    int i;
    for (i = 0; i < w->model_count; i++) {
        check_model(w, &w->models[i]);
        reserved += w->models[i].last.reserved_bytes;
    }
    CHECK_LE(reserved, w->limit);
    if (w->budget != NULL) {
        ta_budget_stats b;
        CHECK_OK(ta_budget_get_stats(w->budget, &b));
        CHECK_EQ(b.reserved_bytes, reserved);
        CHECK_LE(b.peak_reserved_bytes, w->limit);
        CHECK_EQ(b.allocator_count, w->model_count);
    }
    if (w->upstream != NULL) {
        ta_stats s;
        CHECK_OK(ta_pool_get_stats(w->upstream, &s));
        CHECK_EQ(s.requested_bytes, reserved);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Operations on every allocator.
  -------------------------------------------------------------------------------------------------------*/
static size_t pick_size(world *w)
{
    static const size_t favourites[] = {1, 8, 63, 64, 65, 256, 1000, 4096, 4097, 16384, 65472, 65536, 65537, 100000,
                                        131072, 786432, 1048576, 1048577, 2359296, 4194304, 16777216};
    size_t base;
    if (below(w, 3) == 0) {
        return favourites[below(w, sizeof favourites / sizeof favourites[0])];
    }
    base = (size_t)1 << below(w, 24);
    return base + below(w, base);
}

static size_t pick_alignment(world *w)
{
    return (size_t)1 << (below(w, 16) == 0 ? below(w, 21) : below(w, 13));
}

static int has_room(const world *w, const model *m, size_t size)
{
    return m->live_count < LIVE_MAX && m->live_count < m->target + LIVE_MAX / 4 &&
           m->requested + size <= w->live_bytes_max;
}

/* The end of an allocation: into the model, or a failure that was to be expected. */
static void settle(world *w, model *m, void *ptr, ta_result result, size_t size, size_t alignment, uint32_t flags)
{
    ta_failure failure;
    ta_stats s;
    if (ptr != NULL) {
        CHECK_OK(result);
        if ((flags & TA_REQUEST_ZEROED) != 0 || w->zeroed) {
            check_zero((const unsigned char *)ptr, size);
        }
        add_block(w, m, ptr, size, alignment);
        if ((flags & TA_REQUEST_CACHED_ONLY) != 0 || m->sealed) {
            CHECK_OK(ta_allocator_get_stats(m->allocator, &s));
            CHECK_EQ(s.miss_count, m->last.miss_count);
            CHECK_LE(s.reserved_bytes, m->last.reserved_bytes);
        }
        return;
    }
    m->failure_count++;
    if ((flags & TA_REQUEST_CACHED_ONLY) != 0) {
        CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
        m->not_cached_count++;
    } else if (m->sealed) {
        CHECK_RESULT(result, TA_ERROR_SEALED);
        m->sealed_count++;
    } else {
        CHECK(w->may_fail);
        CHECK(result == TA_ERROR_LIMIT || result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED);
        CHECK((result == TA_ERROR_LIMIT) == (w->budget != NULL || w->limit != TA_UNLIMITED));
        m->limit_count += result == TA_ERROR_LIMIT;
    }
    if (m->pool != NULL) {
        CHECK_OK(ta_pool_get_failure(m->pool, &failure));
        CHECK_RESULT(failure.result, result);
        CHECK_EQ(failure.requested_bytes, size);
        CHECK_EQ(failure.count, m->failure_count);
    }
}

static void op_request(world *w, model *m)
{
    static const char tag[] = "weights";
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    ta_block_info info;
    void *ptr;
    memset(&request, 0, sizeof request);
    request.size_bytes = pick_size(w);
    request.alignment_bytes = below(w, 2) == 0 ? 0 : pick_alignment(w);
    request.stream = below(w, 3); /* without order between streams: ignored */
    request.tag = below(w, 2) == 0 ? NULL : tag;
    request.flags = below(w, 8);
    if (!has_room(w, m, request.size_bytes)) {
        return;
    }
    ptr = ta_allocator_alloc(m->allocator, &request, &result);
    settle(w, m, ptr, result, request.size_bytes, request.alignment_bytes < 64 ? 64 : request.alignment_bytes,
           request.flags);
    if (ptr != NULL) {
        CHECK_OK(ta_allocator_describe(m->allocator, ptr, &info));
        CHECK(info.tag == request.tag && info.ptr == ptr && info.state == TA_BLOCK_LIVE);
        CHECK_EQ(info.requested_bytes, request.size_bytes);
    }
}

static void take_back(world *w, model *m, size_t i)
{
    const block *b = &m->live[i];
    ta_result result;
    (void)w;
    check_bytes(b, b->size);
    result = ta_allocator_free(m->allocator, b->ptr, below(w, 2) == 0 ? 0 : b->size, b->alignment, 0);
    CHECK_OK(result);
    remove_block(m, i);
}

static void op_resize(world *w, model *m)
{
    size_t new_size = pick_size(w), old_size, i;
    ta_result result;
    block *b;
    if (m->live_count == 0) {
        return;
    }
    i = below(w, m->live_count);
    b = &m->live[i];
    old_size = b->size;
    if (below(w, 2) == 0) { /* a little more or less, or as much as there is */
        new_size = below(w, 4) == 0 ? b->capacity : old_size / 2 + 1 + below(w, old_size);
    }
    if (new_size > old_size && !has_room(w, m, new_size - old_size)) {
        return;
    }
    result = ta_allocator_resize_in_place(m->allocator, b->ptr, below(w, 2) == 0 ? 0 : old_size, new_size);
    check_bytes(b, new_size < old_size ? new_size : old_size);
    if (result == TA_OK) {
        m->in_use -= b->capacity;
        b->capacity = capacity_at(m, b->ptr);
        add_in_use(m, b->capacity);
        m->requested += new_size - old_size;
        m->allocated_bytes += new_size > old_size ? new_size - old_size : 0;
        m->freed_bytes += new_size < old_size ? old_size - new_size : 0;
        m->resize_count++;
        b->size = new_size;
        CHECK_GE(b->capacity, new_size);
        write_block(w, b);
        check_neighbours(m, i);
    } else {
        CHECK_RESULT(result, TA_ERROR_WOULD_MOVE);
        CHECK_GT(new_size, b->capacity); /* shrinking always succeeds */
        CHECK_EQ(capacity_at(m, b->ptr), b->capacity);
    }
}

/* ---- bad pointers and sizes: the right answer, and nothing has changed */
static ta_result result_for(const world *w, model *m, const void *ptr, ta_result got)
{
    const block *b = block_around(m, ptr);
    if (b != NULL) {
        return b->ptr == (const unsigned char *)ptr ? TA_OK : TA_ERROR_INTERIOR;
    }
    return w->gives_back && got == TA_ERROR_FOREIGN ? TA_ERROR_FOREIGN : TA_ERROR_STALE;
}

static ta_result wrong_call(world *w, model *m, void *ptr)
{
    ta_result result = TA_OK;
    ta_block_info info;
    switch (below(w, m->pool != NULL ? 12 : 4)) {
    case 0:
        return ta_allocator_free(m->allocator, ptr, 0, 0, 0);
    case 1:
        return ta_allocator_free(m->allocator, ptr, pick_size(w), 1, 0);
    case 2:
        return ta_allocator_resize_in_place(m->allocator, ptr, 0, pick_size(w));
    case 3:
        CHECK(ta_allocator_remap(m->allocator, ptr, 0, pick_size(w), &result) == NULL);
        return result;
    case 4:
        return ta_pool_free(m->pool, ptr);
    case 5:
        return ta_pool_free_sized(m->pool, ptr, pick_size(w));
    case 6:
        return ta_pool_put(m->pool, ptr, pick_size(w));
    case 7:
        return ta_pool_put_aligned(m->pool, ptr, pick_size(w), 1);
    case 8:
        CHECK(ta_pool_realloc(m->pool, ptr, pick_size(w), &result) == NULL);
        return result;
    case 9:
        CHECK_EQ(ta_pool_capacity_of(m->pool, ptr), 0);
        CHECK(!ta_pool_owns(m->pool, ptr));
        return ta_pool_describe(m->pool, ptr, &info);
    case 10:
        return ta_pool_record_use(m->pool, ptr, 1);
    default:
        return ta_pool_resize_in_place(m->pool, ptr, pick_size(w));
    }
}

static void *pick_foreign(world *w, model *m, char *on_the_stack)
{
    static char in_static_memory[64];
    model *other = &w->models[w->model_count - 1];
    switch (below(w, 6)) {
    case 0:
        return in_static_memory;
    case 1:
        return on_the_stack;
    case 2:
        return m; /* from malloc */
    case 3:
        return (void *)(uintptr_t)64;
    case 4:
        return (void *)~(uintptr_t)63;
    default:
        return other != m && other->live_count != 0 ? (char *)other->live[below(w, other->live_count)].ptr
                                                          : in_static_memory;
    }
}

static void wrong_size(world *w, model *m)
{
    const block *b = &m->live[below(w, m->live_count)];
    size_t size = below(w, 2) == 0 ? b->size + 1 + below(w, 100) : pick_size(w);
    ta_result result;
    if (size == b->size) {
        return;
    }
    if (m->pool != NULL && below(w, 2) == 0) {
        result = below(w, 2) == 0 ? ta_pool_free_sized(m->pool, b->ptr, below(w, 8) == 0 ? 0 : size)
                                  : ta_pool_put_aligned(m->pool, b->ptr, size, b->alignment);
    } else {
        result = below(w, 2) == 0 ? ta_allocator_free(m->allocator, b->ptr, size, b->alignment, 0)
                                  : ta_allocator_resize_in_place(m->allocator, b->ptr, size, pick_size(w));
    }
    CHECK_RESULT(result, TA_ERROR_SIZE_MISMATCH);
}

static void op_misuse(world *w, model *m)
{
    char on_the_stack[64];
    ta_stats after;
    ta_result result;
    const block *b;
    void *ptr;
    switch (m->live_count == 0 ? 0 : below(w, 4)) {
    case 0:
        CHECK_RESULT(wrong_call(w, m, pick_foreign(w, m, on_the_stack)), TA_ERROR_FOREIGN);
        break;
    case 1:
        b = &m->live[below(w, m->live_count)];
        CHECK_RESULT(wrong_call(w, m, b->ptr + 1 + below(w, b->capacity - 1)), TA_ERROR_INTERIOR);
        break;
    case 2:
        wrong_size(w, m);
        break;
    default:
        ptr = m->freed[below(w, m->freed_count < FREED_MAX ? m->freed_count + 1 : FREED_MAX)];
        if (ptr != NULL && result_for(w, m, ptr, TA_OK) != TA_OK) {
            result = wrong_call(w, m, ptr);
            CHECK_RESULT(result, result_for(w, m, ptr, result));
        }
        break;
    }
    CHECK_OK(ta_allocator_get_stats(m->allocator, &after));
    after.record_bytes = m->last.record_bytes; /* this thread may be new to the pool */
    CHECK_EQ(memcmp(&after, &m->last, sizeof after), 0);
}

/* Sizes and alignments that no allocator can serve. */
static void op_absurd(world *w, model *m)
{
    ta_request request;
    ta_result result = TA_OK;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1;
    switch (below(w, 6)) {
    case 0:
        request.size_bytes = 0;
        CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
        break;
    case 1:
        request.alignment_bytes = 3 + 2 * (size_t)below(w, 1000);
        CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
        break;
    case 2:
        request.alignment_bytes = (size_t)1 << 31;
        CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
        break;
    case 3:
        request.size_bytes = SIZE_MAX - below(w, 100000);
        CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OVERFLOW);
        break;
    case 4:
        request.reserved = 1;
        CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
        break;
    default: /* more than the address space, but no overflow: goes up the whole ladder */
        if (sizeof(size_t) > 4 && below(w, 16) == 0) {
            request.size_bytes = (size_t)PTRDIFF_MAX / 2;
            CHECK(ta_allocator_alloc(m->allocator, &request, &result) == NULL);
            m->failure_count++;
            if (m->sealed) {
                CHECK_RESULT(result, TA_ERROR_SEALED);
                m->sealed_count++;
            } else {
                CHECK(result == TA_ERROR_OUT_OF_MEMORY || (result == TA_ERROR_LIMIT && w->may_fail));
                m->limit_count += result == TA_ERROR_LIMIT;
            }
        }
        break;
    }
}

static void op_trim(world *w, model *m)
{
    size_t keep = below(w, 4) == 0 ? 0 : pick_size(w) * 4, released = 77;
    ta_stats before = m->last, after;
    CHECK_OK(ta_allocator_trim(m->allocator, keep, &released));
    CHECK_OK(ta_allocator_get_stats(m->allocator, &after));
    CHECK_EQ(after.reserved_bytes + released, before.reserved_bytes);
    CHECK_EQ(before.trimmed_bytes + released, after.trimmed_bytes);
    CHECK_EQ(after.thread_cached_bytes, 0);
    CHECK(released == 0 || before.cached_bytes > keep);
    if (m->pool != NULL && after.cached_bytes > keep) {
        CHECK(w->whole_segments || walk_pool(m).whole_pages == 0);
    }
}

static void op_empty_cache(world *w, model *m)
{
    walk_sum sum;
    ta_stats after;
    CHECK_OK(ta_allocator_empty_cache(m->allocator));
    CHECK_OK(ta_allocator_get_stats(m->allocator, &after));
    CHECK_EQ(after.thread_cached_bytes, 0);
    if (m->pool != NULL && !w->whole_segments) { /* what is left is less than a page on either side of a live block */
        sum = walk_pool(m);
        CHECK_EQ(sum.whole_pages, 0);
        CHECK_LE(after.cached_bytes, (m->live_count + 2) * 2 * sum.page);
    }
    if (m->live_count == 0 && m->mark_count == 0) {
        CHECK_EQ(after.reserved_bytes, 0);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Operations of pools.
  -------------------------------------------------------------------------------------------------------*/
static void op_pool_alloc(world *w, model *m)
{
    size_t size = pick_size(w), alignment = 64, width;
    uint32_t flags = 0;
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr;
    if (!has_room(w, m, size)) {
        return;
    }
    switch (below(w, 10)) {
    case 0:
        alignment = pick_alignment(w);
        ptr = ta_pool_alloc_aligned(m->pool, size, alignment, &result);
        break;
    case 1:
        flags = TA_REQUEST_ZEROED;
        ptr = ta_pool_alloc_zeroed(m->pool, size, &result);
        break;
    case 2:
        width = (size_t)1 << below(w, 4);
        size = size / width == 0 ? width : size / width * width;
        ptr = ta_pool_alloc_array(m->pool, size / width, width, &result);
        break;
    case 3:
        ptr = ta_pool_get_or_alloc(m->pool, size, &result);
        break;
    case 4:
        flags = TA_REQUEST_CACHED_ONLY;
        ptr = ta_pool_get(m->pool, size, &result);
        break;
    case 5:
        flags = TA_REQUEST_CACHED_ONLY;
        alignment = pick_alignment(w);
        ptr = ta_pool_get_aligned(m->pool, size, alignment, &result);
        break;
    case 6:
        ptr = ta_pool_realloc(m->pool, NULL, size, &result);
        break;
    default:
        ptr = ta_pool_alloc(m->pool, size, &result);
        break;
    }
    settle(w, m, ptr, result, size, alignment < 64 ? 64 : alignment, flags);
}

static void op_pool_free(world *w, model *m)
{
    size_t i;
    block *b;
    if (m->live_count == 0) {
        CHECK_OK(ta_pool_free(m->pool, NULL));
        return;
    }
    i = below(w, m->live_count);
    b = &m->live[i];
    switch (below(w, 6)) {
    case 0:
        take_back(w, m, i);
        return;
    case 1:
        check_bytes(b, b->size);
        CHECK_OK(ta_pool_free_sized(m->pool, b->ptr, b->size));
        break;
    case 2:
        check_bytes(b, b->size);
        CHECK_OK(ta_pool_put(m->pool, b->ptr, b->size));
        break;
    case 3:
        check_bytes(b, b->size);
        CHECK_OK(ta_pool_put_aligned(m->pool, b->ptr, b->size, b->alignment));
        break;
    default:
        check_bytes(b, b->size);
        CHECK_OK(ta_pool_free(m->pool, b->ptr));
        break;
    }
    remove_block(m, i);
}

static void op_pool_realloc(world *w, model *m)
{
    size_t new_size = pick_size(w), i;
    ta_result result = TA_ERROR_CORRUPT;
    block old;
    unsigned char *ptr, *old_ptr;
    if (m->live_count == 0) {
        return;
    }
    i = below(w, m->live_count);
    if (below(w, 2) == 0) {
        new_size = m->live[i].size / 2 + 1 + below(w, m->live[i].size * 2);
    }
    if (!has_room(w, m, new_size)) {
        return;
    }
    old = m->live[i];
    old_ptr = old.ptr;
    ptr = (unsigned char *)ta_pool_realloc(m->pool, old.ptr, new_size, &result);
    if (ptr == NULL) {
        settle(w, m, NULL, result, new_size, old.alignment, 0);
        CHECK_EQ(capacity_at(m, old.ptr), old.capacity);
        check_bytes(&old, old.size);
        return;
    }
    CHECK_OK(result);
    CHECK_EQ((uintptr_t)ptr % old.alignment, 0);
    CHECK(ptr == old_ptr || new_size > old.capacity);
    old.ptr = ptr; /* the same bytes at the new place */
    check_bytes(&old, new_size < old.size ? new_size : old.size);
    if (ptr == old_ptr) {
        m->requested += new_size - old.size;
        m->allocated_bytes += new_size > old.size ? new_size - old.size : 0;
        m->freed_bytes += new_size < old.size ? old.size - new_size : 0;
        m->in_use -= old.capacity;
        m->live[i].size = new_size;
        m->live[i].capacity = capacity_at(m, ptr);
        add_in_use(m, m->live[i].capacity);
        CHECK_GE(m->live[i].capacity, new_size);
        m->resize_count++;
        write_block(w, &m->live[i]);
        check_neighbours(m, i);
    } else {
        add_block(w, m, ptr, new_size, old.alignment);
        remove_block(m, rank_of(m, old_ptr) - 1);
    }
}

static void op_flush(world *w, model *m)
{
    ta_stats after;
    (void)w;
    CHECK_OK(ta_pool_thread_flush(m->pool));
    CHECK_OK(ta_pool_get_stats(m->pool, &after));
    CHECK_EQ(after.thread_cached_bytes, 0);
    CHECK_EQ(after.reserved_bytes, m->last.reserved_bytes);
}

static void op_seal(world *w, model *m)
{
    m->sealed = !m->sealed && below(w, 2) == 0;
    CHECK_OK(ta_pool_seal(m->pool, m->sealed));
}

static void op_clear(world *w, model *m)
{
    (void)w;
    remove_since(m, 0);
    CHECK_OK(ta_pool_clear(m->pool));
}

static void op_reset_peaks(world *w, model *m)
{
    ta_stats after;
    (void)w;
    CHECK_OK(ta_pool_reset_peaks(m->pool));
    m->peak_in_use = m->in_use;
    CHECK_OK(ta_pool_get_stats(m->pool, &after));
    CHECK_EQ(after.peak_reserved_bytes, after.reserved_bytes);
}

static void op_check(world *w, model *m)
{
    (void)w;
    CHECK_OK(ta_pool_check(m->pool));
}

static int count_live(void *user, const ta_block_info *info)
{
    walk_sum *sum = (walk_sum *)user;
    const block *b = block_around(sum->m, info->ptr);
    sum->wrong += b == NULL || b->ptr != (unsigned char *)info->ptr || b->size != info->requested_bytes ||
                  b->capacity != info->capacity_bytes || info->state != TA_BLOCK_LIVE;
    sum->live_count++;
    return 0;
}

static int stop_at_once(void *user, const ta_block_info *info)
{
    (void)info;
    ++*(size_t *)user;
    return 1;
}

/* Walks and buckets see exactly the blocks of the model. */
static void op_look(world *w, model *m)
{
    walk_sum sum;
    ta_bucket_stats bucket;
    size_t count = 0, bytes = 0, visits = 0;
    int i;
    (void)w;
    memset(&sum, 0, sizeof sum);
    sum.m = m;
    CHECK_OK(ta_pool_for_each_live(m->pool, count_live, &sum));
    CHECK_EQ(sum.wrong, 0);
    CHECK_EQ(sum.live_count, m->live_count);
    CHECK_EQ(walk_pool(m).cached_bytes, m->last.thread_cached_bytes);
    CHECK_OK(ta_pool_for_each_live(m->pool, stop_at_once, &visits));
    CHECK_EQ(visits, m->live_count != 0);
    for (i = 0; i < TA_BUCKET_COUNT; i++) {
        CHECK_OK(ta_pool_get_bucket_stats(m->pool, i, &bucket));
        count += bucket.live_count;
        bytes += bucket.live_bytes;
    }
    CHECK_EQ(count, m->live_count);
    CHECK_EQ(bytes, m->in_use);
}

/*---------------------------------------------------------------------------------------------------------
  Operations of arenas.
  -------------------------------------------------------------------------------------------------------*/
static void op_arena_alloc(world *w, model *m)
{
    size_t size = pick_size(w), alignment = 64, width;
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr;
    if (!has_room(w, m, size)) {
        return;
    }
    switch (below(w, 4)) {
    case 0:
        alignment = pick_alignment(w);
        ptr = ta_arena_alloc_aligned(m->arena, size, alignment, &result);
        break;
    case 1:
        width = (size_t)1 << below(w, 4);
        size = size / width == 0 ? width : size / width * width;
        ptr = ta_arena_alloc_array(m->arena, size / width, width, &result);
        break;
    default:
        ptr = ta_arena_alloc(m->arena, size, &result);
        break;
    }
    settle(w, m, ptr, result, size, alignment < 64 ? 64 : alignment, 0);
}

static void op_arena_free(world *w, model *m)
{
    size_t i, last = 0;
    if (m->live_count == 0) {
        CHECK_OK(ta_allocator_free(m->allocator, NULL, 0, 0, 0));
        return;
    }
    for (i = 1; i < m->live_count; i++) {
        last = m->live[i].birth > m->live[last].birth ? i : last;
    }
    take_back(w, m, below(w, 2) == 0 ? last : below(w, m->live_count));
}

static void op_mark(world *w, model *m)
{
    (void)w;
    if (m->mark_count < MARKS_MAX) {
        m->mark_births[m->mark_count] = m->births;
        m->marks[m->mark_count++] = ta_arena_get_mark(m->arena);
    }
}

/* Goes back to one of the marks; those above it are void if blocks had been allocated in between and were alive. */
static void op_rewind(world *w, model *m)
{
    ta_arena_mark above, strange;
    uint64_t birth;
    size_t i;
    int k, between = 0;
    memset(&strange, 0, sizeof strange);
    CHECK_RESULT(ta_arena_rewind(m->arena, strange), TA_ERROR_FOREIGN);
    if (m->mark_count == 0) {
        return;
    }
    k = (int)below(w, (size_t)m->mark_count);
    birth = m->mark_births[k];
    above = m->marks[m->mark_count - 1];
    for (i = 0; i < m->live_count; i++) {
        between |= m->live[i].birth >= birth && m->live[i].birth < m->mark_births[m->mark_count - 1];
    }
    remove_since(m, birth);
    CHECK_OK(ta_arena_rewind(m->arena, m->marks[k]));
    m->mark_count = k + 1;
    if (between) {
        CHECK_RESULT(ta_arena_rewind(m->arena, above), TA_ERROR_STALE);
    }
}

static void op_reset(world *w, model *m)
{
    size_t retain = below(w, 3) == 0 ? 0 : below(w, 2) == 0 ? TA_UNLIMITED : pick_size(w);
    ta_stats after;
    remove_since(m, 0);
    CHECK_OK(ta_arena_reset(m->arena, retain));
    CHECK_OK(ta_allocator_get_stats(m->allocator, &after));
    CHECK_EQ(after.in_use_bytes, 0);
    CHECK(retain == TA_UNLIMITED ? after.reserved_bytes == m->last.reserved_bytes : after.reserved_bytes <= retain);
    if (m->mark_count != 0) {
        CHECK_RESULT(ta_arena_rewind(m->arena, m->marks[m->mark_count - 1]), TA_ERROR_STALE);
    }
    m->mark_count = 0;
}

/*---------------------------------------------------------------------------------------------------------
  The drive.
  -------------------------------------------------------------------------------------------------------*/
typedef struct operation {
    void (*run)(world *w, model *m);
    uint32_t weight;
    int step; /* how the number of live blocks goes: 1 up, -1 down */
} operation;

static const operation pool_operations[] = {
    {op_pool_alloc, 3400, 1}, {op_request, 600, 1}, {op_pool_free, 3000, -1}, {op_pool_realloc, 600, 0},
    {op_resize, 600, 0}, {op_misuse, 700, 0}, {op_absurd, 150, 0}, {op_flush, 60, 0}, {op_trim, 30, 0},
    {op_empty_cache, 8, 0}, {op_seal, 20, 0}, {op_clear, 3, 0}, {op_reset_peaks, 20, 0}, {op_check, 150, 0},
    {op_look, 100, 0}
};

static const operation arena_operations[] = {
    {op_arena_alloc, 3400, 1}, {op_request, 600, 1}, {op_arena_free, 2400, -1}, {op_resize, 1000, 0},
    {op_misuse, 700, 0}, {op_absurd, 150, 0}, {op_trim, 50, 0}, {op_empty_cache, 20, 0}, {op_mark, 150, 0},
    {op_rewind, 100, 0}, {op_reset, 20, 0}
};

static void run_one(world *w, model *m)
{
    const operation *table = m->pool != NULL ? pool_operations : arena_operations;
    size_t bytes = m->pool != NULL ? sizeof pool_operations : sizeof arena_operations;
    size_t count = bytes / sizeof table[0], i;
    uint32_t total = 0, dice;
    for (i = 0; i < count; i++) {
        total += table[i].weight;
    }
    dice = below(w, total);
    for (i = 0; dice >= table[i].weight; i++) {
        dice -= table[i].weight;
    }
    if (below(w, 1000) == 0) {
        m->target = below(w, LIVE_MAX);
    }
    if (table[i].step > 0 && m->live_count > m->target) { /* nothing but freeing brings it back */
        i = 2;
    } else if (table[i].step < 0 && m->live_count < m->target / 2) {
        i = 0;
    }
    table[i].run(w, m);
}

/* Runs the operations of one configuration, checks everything after each, and takes the blocks back at the end. */
static void drive(world *w)
{
    int i;
    w->random = test_now.seed;
    for (w->op = 0; w->name[w->op] != 0; w->op++) {
        w->random = w->random * 31 + (unsigned char)w->name[w->op];
    }
    check_world(w);
    for (w->op = 0; w->op < ops_per_case && test_now.failures == 0; w->op++) {
        test_context("seed %llu, %s, operation %llu", (unsigned long long)test_now.seed, w->name,
                     (unsigned long long)w->op);
        run_one(w, &w->models[below(w, (size_t)w->model_count)]);
        check_world(w);
    }
    for (i = 0; i < w->model_count && test_now.failures == 0; i++) {
        while (w->models[i].live_count != 0) {
            take_back(w, &w->models[i], w->models[i].live_count - 1);
        }
        check_world(w);
        if (w->models[i].pool != NULL) {
            op_check(w, &w->models[i]);
        }
    }
}

static world new_world(const char *name, int model_count)
{
    world w;
    int i;
    memset(&w, 0, sizeof w);
    w.name = name;
    w.limit = w.cap = TA_UNLIMITED;
    w.live_bytes_max = 64 * MIB;
    w.models = (model *)calloc((size_t)model_count, sizeof(model));
    w.model_count = w.models != NULL ? model_count : 0;
    CHECK(w.models != NULL);
    for (i = 0; i < w.model_count; i++) {
        w.models[i].target = LIVE_MAX / 2;
    }
    return w;
}

static int start_pool(world *w, int i, const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    ta_pool_desc resolved;
    memset(&resolved, 0, sizeof resolved);
    CHECK_OK(ta_pool_create(desc, &pool));
    CHECK_OK(ta_pool_get_desc(pool, &resolved));
    w->models[i].pool = pool;
    w->models[i].allocator = ta_pool_allocator(pool);
    w->models[i].thread_cache_bytes = resolved.disable_thread_caches ? 0 : resolved.thread_cache_bytes;
    return pool != NULL;
}

static int start_arena(world *w, const ta_arena_desc *desc)
{
    ta_arena *arena = NULL;
    CHECK_OK(ta_arena_create(desc, &arena));
    w->models[0].arena = arena;
    w->models[0].allocator = ta_arena_allocator(arena);
    return arena != NULL;
}

static void end_world(world *w)
{
    int i;
    for (i = 0; i < w->model_count; i++) {
        CHECK_OK(ta_allocator_destroy(w->models[i].allocator));
    }
    CHECK_OK(ta_budget_destroy(w->budget));
    free(w->models);
}

static int host_has_ranges(void)
{
    ta_backend host = ta_backend_host();
    ta_backend_info info;
    memset(&info, 0, sizeof info);
    host.vtable->info(host.self, &info);
    return (info.caps & TA_CAP_RANGES) != 0;
}

static void run_pool(const char *name, const ta_pool_desc *desc)
{
    world w = new_world(name, 1);
    w.zeroed = desc->zeroed;
    w.slack = desc->slack_bytes_max;
    w.exact_peak = desc->single_threaded;
    w.cap = desc->cached_bytes_max != 0 ? desc->cached_bytes_max : TA_UNLIMITED;
    w.gives_back = w.whole_segments = desc->disable_ranges || !host_has_ranges();
    if (start_pool(&w, 0, desc)) {
        drive(&w);
    }
    end_world(&w);
}

/* Huge pages are left out where they do not matter: touching a few bytes would clear 2 MiB each time. */
static ta_pool_desc plain_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    return desc;
}

static void pool_default(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    run_pool("pool_default", &desc);
}

static void pool_single_threaded(void)
{
    ta_pool_desc desc = plain_desc();
    desc.single_threaded = 1;
    run_pool("pool_single_threaded", &desc);
}

static void pool_segments(void)
{
    ta_pool_desc desc = plain_desc();
    desc.disable_ranges = 1;
    run_pool("pool_segments", &desc);
}

static void pool_without_thread_caches(void)
{
    ta_pool_desc desc = plain_desc();
    desc.disable_thread_caches = 1;
    run_pool("pool_without_thread_caches", &desc);
}

/* The specification's desc, and the same with a cap that is in the way all the time. */
static void pool_spec(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    run_pool("pool_spec", &desc);
}

static void pool_small_cap(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    desc.cached_bytes_max = 1 * MIB;
    desc.single_threaded = 1;
    run_pool("pool_small_cap", &desc);
}

static void pool_small_thread_caches(void)
{
    ta_pool_desc desc = plain_desc();
    desc.thread_cache_bytes = 48 * KIB;
    desc.thread_cache_block_bytes = 4096;
    desc.buffers_per_bucket_max = 5;
    desc.classes_per_doubling = 2;
    run_pool("pool_small_thread_caches", &desc);
}

static void pool_slack(void)
{
    ta_pool_desc desc = plain_desc();
    desc.slack_bytes_max = 64 * KIB;
    desc.classes_per_doubling = 1;
    run_pool("pool_slack", &desc);
}

static void pool_zeroed(void)
{
    ta_pool_desc desc = plain_desc();
    desc.zeroed = 1;
    run_pool("pool_zeroed", &desc);
}

static void ignore_event(void *user, const ta_event *event)
{
    *(uint64_t *)user += event->kind != TA_EVENT_FREE; /* frees of NULL are none */
}

static void pool_observed(void)
{
    ta_pool_desc desc = plain_desc();
    uint64_t events = 0;
    desc.on_event = ignore_event;
    desc.on_event_user = &events;
    run_pool("pool_observed", &desc);
    CHECK_GT(events, 0);
}

/* Short ranges: all of them fill up and others are chained. */
static void pool_short_ranges(void)
{
    ta_pool_desc desc = plain_desc();
    desc.range_bytes = 4 * MIB;
    run_pool("pool_short_ranges", &desc);
}

static void pools_with_one_budget(void)
{
    world w = new_world("pools_with_one_budget", 2);
    ta_budget_desc budget;
    ta_pool_desc desc = plain_desc();
    memset(&budget, 0, sizeof budget);
    w.limit = budget.limit_bytes = 24 * MIB;
    w.may_fail = 1;
    w.gives_back = w.whole_segments = !host_has_ranges();
    CHECK_OK(ta_budget_create(&budget, &w.budget));
    desc.budget = w.budget;
    if (start_pool(&w, 0, &desc)) {
        desc.disable_ranges = 1;
        if (start_pool(&w, 1, &desc)) {
            w.gives_back = w.whole_segments = 1;
            drive(&w);
        }
    }
    end_world(&w);
}

static void pool_with_limit(void)
{
    world w = new_world("pool_with_limit", 1);
    ta_pool_desc desc = plain_desc();
    w.limit = desc.limit_bytes = 12 * MIB;
    w.may_fail = 1;
    w.gives_back = w.whole_segments = !host_has_ranges();
    if (start_pool(&w, 0, &desc)) {
        drive(&w);
    }
    end_world(&w);
}

/* A backend over memory of our own, with bytes around it that nobody may touch. */
typedef struct fixed_memory {
    ta_fixed_buffer state;
    unsigned char *bytes;
    size_t size;
    ta_backend backend;
} fixed_memory;

static int fixed_start(fixed_memory *fixed, size_t size)
{
    fixed->size = size;
    fixed->bytes = (unsigned char *)malloc(size + 128);
    CHECK(fixed->bytes != NULL);
    if (fixed->bytes == NULL) {
        return 0;
    }
    memset(fixed->bytes, 0xA5, size + 128);
    CHECK_OK(ta_backend_fixed(&fixed->state, fixed->bytes + 64 - 7, size, &fixed->backend));
    return 1;
}

static void fixed_end(fixed_memory *fixed)
{
    size_t i, wrong = 0;
    for (i = 0; i < 64 - 7; i++) {
        wrong += fixed->bytes[i] != 0xA5;
    }
    for (i = 64 - 7 + fixed->size; i < fixed->size + 128; i++) {
        wrong += fixed->bytes[i] != 0xA5;
    }
    CHECK_EQ(wrong, 0);
    free(fixed->bytes);
}

static void pool_over_fixed_buffer(void)
{
    world w = new_world("pool_over_fixed_buffer", 1);
    fixed_memory fixed;
    ta_pool_desc desc = plain_desc();
    if (!fixed_start(&fixed, 20 * MIB)) {
        return;
    }
    desc.backend = fixed.backend;
    w.may_fail = 1;
    if (start_pool(&w, 0, &desc)) {
        drive(&w);
    }
    end_world(&w);
    fixed_end(&fixed);
}

static void pool_over_pool(void)
{
    world w = new_world("pool_over_pool", 1);
    ta_pool_desc desc = plain_desc();
    ta_upstream state;
    CHECK_OK(ta_pool_create(&desc, &w.upstream));
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(w.upstream), 0, &desc.backend));
    w.gives_back = w.whole_segments = 1;
    if (start_pool(&w, 0, &desc)) {
        drive(&w);
    }
    end_world(&w);
    CHECK_OK(ta_pool_check(w.upstream));
    CHECK_OK(ta_pool_destroy(w.upstream));
}

static void run_arena(const char *name, const ta_arena_desc *desc)
{
    world w = new_world(name, 1);
    w.zeroed = desc->zeroed;
    w.exact_peak = 1;
    w.in_order = desc->range_bytes == 0 && sizeof(size_t) > 4 && host_has_ranges(); /* else there are several */
    w.limit = desc->limit_bytes != 0 ? desc->limit_bytes : TA_UNLIMITED;
    w.gives_back = !host_has_ranges();
    w.may_fail = desc->limit_bytes != 0;
    if (start_arena(&w, desc)) {
        drive(&w);
    }
    end_world(&w);
}

static void arena_default(void)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    run_arena("arena_default", &desc);
}

static void arena_zeroed_with_limit(void)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.zeroed = 1;
    desc.single_threaded = 1;
    desc.limit_bytes = 24 * MIB;
    run_arena("arena_zeroed_with_limit", &desc);
}

static void arena_short_ranges(void)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.range_bytes = 4 * MIB;
    run_arena("arena_short_ranges", &desc);
}

static void arena_over_pool(void)
{
    world w = new_world("arena_over_pool", 1);
    ta_pool_desc pool_desc = plain_desc();
    ta_arena_desc desc;
    ta_upstream state;
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_pool_create(&pool_desc, &w.upstream));
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(w.upstream), 4096, &desc.backend));
    w.gives_back = 1;
    w.exact_peak = 1;
    desc.chunk_bytes = 64 * KIB;
    if (start_arena(&w, &desc)) {
        drive(&w);
    }
    end_world(&w);
    CHECK_OK(ta_pool_check(w.upstream));
    CHECK_OK(ta_pool_destroy(w.upstream));
}

static void arena_over_fixed_buffer(void)
{
    world w = new_world("arena_over_fixed_buffer", 1);
    fixed_memory fixed;
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    if (!fixed_start(&fixed, 20 * MIB)) {
        return;
    }
    desc.backend = fixed.backend;
    w.may_fail = w.in_order = w.exact_peak = 1;
    if (start_arena(&w, &desc)) {
        drive(&w);
    }
    end_world(&w);
    fixed_end(&fixed);
}

/*---------------------------------------------------------------------------------------------------------
  Placement: the heap of large blocks against a best fit that looks at every hole.
  -------------------------------------------------------------------------------------------------------*/
typedef struct span {
    size_t from, size;
} span;

typedef struct reference {
    span used[LIVE_MAX]; /* sorted */
    size_t count;
} reference;

/* The smallest hole that is large enough, the lowest among equals, the end only if there is none. */
static size_t reference_take(reference *r, size_t size)
{
    size_t i, at = r->count, best = SIZE_MAX, from = 0, place_at = 0;
    for (i = 0; i < r->count; i++) {
        size_t hole = r->used[i].from - from;
        if (hole >= size && hole < best) {
            best = hole;
            at = i;
            place_at = from;
        }
        from = r->used[i].from + r->used[i].size;
    }
    if (best == SIZE_MAX) {
        place_at = from;
    }
    memmove(&r->used[at + 1], &r->used[at], (r->count - at) * sizeof r->used[0]);
    r->used[at].from = place_at;
    r->used[at].size = size;
    r->count++;
    return place_at;
}

static void reference_give(reference *r, size_t from)
{
    size_t i = 0;
    while (r->used[i].from != from) {
        i++;
    }
    r->count--;
    memmove(&r->used[i], &r->used[i + 1], (r->count - i) * sizeof r->used[0]);
}

/* Few different sizes, so that holes of equal size and holes that fit exactly are common. */
static size_t pick_large(uint64_t *random)
{
    size_t steps = 1 + test_below(random, 40);
    return test_below(random, 3) == 0 ? 64 * KIB + 1 + test_below(random, 1 << 20) : 64 * KIB + steps * 16 * KIB;
}

static ta_pool *placement_pool(int disable_thread_caches)
{
    ta_pool_desc desc = plain_desc();
    ta_pool *pool = NULL;
    desc.disable_thread_caches = disable_thread_caches;
    desc.range_bytes = 512 * MIB; /* one range holds it all */
    CHECK_OK(ta_pool_create(&desc, &pool));
    return pool;
}

static void placement_is_best_fit(void)
{
    static reference r;
    uint64_t random = test_now.seed ^ 0xBE57;
    ta_pool *pool;
    unsigned char *first = NULL, *ptr;
    size_t released, size, end;
    uint64_t op, count = ops_per_case / 2;
    if (!host_has_ranges()) {
        TEST_SKIP("no range here");
        return;
    }
    pool = placement_pool(1);
    memset(&r, 0, sizeof r);
    for (op = 0; op < count && test_now.failures == 0; op++) {
        size_t target = 30 + (size_t)(op / 512 * 37 % (sizeof(size_t) > 4 ? 300 : 60));
        test_context("seed %llu, operation %llu", (unsigned long long)test_now.seed, (unsigned long long)op);
        if (test_below(&random, 64) == 0) { /* what goes back to the backend has no say in it */
            CHECK_OK(ta_pool_trim(pool, test_below(&random, 8) * MIB, &released));
        }
        if (r.count < LIVE_MAX - 1 && test_below(&random, 100) < (r.count < target ? 70u : 30u)) {
            size = pick_large(&random);
            ptr = (unsigned char *)ta_pool_alloc(pool, size, NULL);
            first = first == NULL ? ptr : first;
            CHECK_EQ((size_t)(ptr - first), reference_take(&r, (size + 63) / 64 * 64));
        } else if (r.count != 0) {
            end = r.used[test_below(&random, (uint32_t)r.count)].from;
            reference_give(&r, end);
            CHECK_OK(ta_pool_free(pool, first + end));
        }
    }
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

/* One step of a training loop: what it allocates it frees, in an order of its own; parameters stay. */
#define STEP_EVENTS 2000
static void play_step(ta_pool *pool, uint64_t seed, size_t size_min, uintptr_t *places)
{
    static void *live[STEP_EVENTS];
    uint64_t random = seed;
    size_t count = 0, i, events;
    for (events = 0; events < STEP_EVENTS; events++) {
        if (count == 0 || test_below(&random, 100) < 55) {
            live[count] = ta_pool_alloc(pool, size_min + (pick_large(&random) & ~(size_t)63), NULL);
            CHECK(live[count] != NULL);
            *places++ = (uintptr_t)live[count++];
        } else {
            i = test_below(&random, (uint32_t)count);
            CHECK_OK(ta_pool_free(pool, live[i]));
            live[i] = live[--count];
        }
    }
    while (count != 0) {
        CHECK_OK(ta_pool_free(pool, live[--count]));
    }
}

static void repeated_steps_come_back_to_the_same_addresses(void)
{
    static uintptr_t first[STEP_EVENTS], again[STEP_EVENTS];
    uint64_t random = test_now.seed ^ 0x57E9;
    int round, step;
    for (round = 0; round < 20; round++) {
        ta_pool *pool = placement_pool(round % 2);
        uint64_t seed = test_random(&random);
        ta_stats before, after;
        int i;
        for (i = 0; i < 20; i++) { /* parameters */
            CHECK(ta_pool_alloc(pool, pick_large(&random), NULL) != NULL);
        }
        memset(first, 0, sizeof first);
        play_step(pool, seed, 0, first);
        CHECK_OK(ta_pool_get_stats(pool, &before));
        for (step = 0; step < 4; step++) {
            test_context("seed %llu, round %d, step %d", (unsigned long long)test_now.seed, round, step);
            memset(again, 0, sizeof again);
            if (step == 2) { /* neither trimmed pages nor a step of another shape in between change that */
                play_step(pool, seed + 1, 64 * KIB, again);
                CHECK_OK(ta_pool_empty_cache(pool));
                memset(again, 0, sizeof again);
            }
            play_step(pool, seed, 0, again);
            CHECK_EQ(memcmp(first, again, sizeof first), 0);
            if (step < 2) { /* and nothing is asked of the backend */
                CHECK_OK(ta_pool_get_stats(pool, &after));
                CHECK_EQ(after.miss_count, before.miss_count);
                CHECK_EQ(after.reserved_bytes, before.reserved_bytes);
            }
        }
        CHECK_OK(ta_pool_destroy(pool));
    }
}

static const test_case cases[] = {
    TEST_CASE(pool_default), TEST_CASE(pool_single_threaded), TEST_CASE(pool_segments),
    TEST_CASE(pool_without_thread_caches), TEST_CASE(pool_spec), TEST_CASE(pool_small_cap),
    TEST_CASE(pool_small_thread_caches), TEST_CASE(pool_slack), TEST_CASE(pool_zeroed), TEST_CASE(pool_observed),
    TEST_CASE(pool_short_ranges), TEST_CASE(pools_with_one_budget), TEST_CASE(pool_with_limit),
    TEST_CASE(pool_over_fixed_buffer), TEST_CASE(pool_over_pool), TEST_CASE(arena_default),
    TEST_CASE(arena_zeroed_with_limit), TEST_CASE(arena_short_ranges), TEST_CASE(arena_over_pool),
    TEST_CASE(arena_over_fixed_buffer), TEST_CASE(placement_is_best_fit),
    TEST_CASE(repeated_steps_come_back_to_the_same_addresses)
};

/* Takes --ops out of the arguments and makes a seed of 0 a new one; the harness sees the rest. */
int main(int argc, char **argv)
{
    static char clock_seed[24];
    int i, kept = 1;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--ops") == 0 && i + 1 < argc) {
            ops_per_case = strtoull(argv[++i], NULL, 0);
        } else {
            if (kept > 1 && strcmp(argv[kept - 1], "--seed") == 0 && strcmp(argv[i], "0") == 0) {
                (void)snprintf(clock_seed, sizeof clock_seed, "%llu", (unsigned long long)time(NULL));
                argv[kept++] = clock_seed;
                continue;
            }
            argv[kept++] = argv[i];
        }
    }
    return test_main(kept, argv, cases, sizeof cases / sizeof cases[0]);
}
