/* test_contract.c - one suite over every allocator and backend: what [TA:ALLOCATOR] promises, the tests of the
   interface specification among it, bad input, and failure of the backend at every call. */
#include "implementation.h"
#include "backends.h"

#ifdef CONTRACT_CUDA /* see test_cuda_contract.c */
    #include "driver/loader.h"
#endif

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

/*---------------------------------------------------------------------------------------------------------
  Fixtures: an allocator of some kind over memory of some kind, and a book of what is live in it.
  -------------------------------------------------------------------------------------------------------*/
typedef enum allocator_kind { KIND_POOL, KIND_ARENA, KIND_DIRECT, KIND_DYNAMIC, KIND_GRAPH } allocator_kind;

typedef enum memory_source {
    SOURCE_HOST,           /* as most programs use it */
    SOURCE_COUNTING,       /* the same, watched */
    SOURCE_SEGMENTS,       /* watched, without address ranges */
    SOURCE_FIXED,          /* a buffer of the caller's */
    SOURCE_CLOCK_RANGES,   /* ordered, without host access */
    SOURCE_CLOCK_SEGMENTS,
    SOURCE_OVER_POOL,      /* another allocator as upstream */
    SOURCE_OVER_ARENA,
    SOURCE_OVER_DIRECT,
    SOURCE_OVER_DYNAMIC,
    SOURCE_UPSTREAM_POOL,  /* the blocks of a dynamic are those of another allocator, */
    SOURCE_UPSTREAM_ARENA, /* without a backend between them */
    SOURCE_CUDA_RANGES,    /* watched, behind the software driver */
    SOURCE_CUDA_SEGMENTS,
    SOURCE_CUDA_ASYNC,
    SOURCE_CUDA_PINNED,
    SOURCE_CUDA_MANAGED
} memory_source;

enum { SINGLE = 1, NO_CACHES = 2, SPEC = 4, NO_RANGES = 8, NO_STEALING = 16 };

typedef struct variant {
    const char *name;
    allocator_kind kind;
    memory_source source;
    unsigned options;
} variant;

static const variant variants[] = {
#ifdef CONTRACT_CUDA
    CONTRACT_CUDA
#else
    {"pool, host", KIND_POOL, SOURCE_HOST, 0},
    {"pool, host, single-threaded", KIND_POOL, SOURCE_HOST, SINGLE},
    {"pool, host, segments", KIND_POOL, SOURCE_HOST, NO_RANGES},
    {"pool, counting", KIND_POOL, SOURCE_COUNTING, 0},
    {"pool, counting, no thread caches", KIND_POOL, SOURCE_COUNTING, NO_CACHES},
    {"pool, counting, single-threaded", KIND_POOL, SOURCE_COUNTING, SINGLE},
    {"pool, counting, specification", KIND_POOL, SOURCE_COUNTING, SPEC},
    {"pool, counting, segments", KIND_POOL, SOURCE_SEGMENTS, 0},
    {"pool, counting, segments by option", KIND_POOL, SOURCE_COUNTING, NO_RANGES | SINGLE},
    {"pool, fixed buffer", KIND_POOL, SOURCE_FIXED, 0},
    {"pool, clock, ranges", KIND_POOL, SOURCE_CLOCK_RANGES, 0},
    {"pool, clock, ranges, single-threaded, no stealing", KIND_POOL, SOURCE_CLOCK_RANGES, SINGLE | NO_STEALING},
    {"pool, clock, segments", KIND_POOL, SOURCE_CLOCK_SEGMENTS, 0},
    {"pool over a pool", KIND_POOL, SOURCE_OVER_POOL, 0},
    {"pool over an arena", KIND_POOL, SOURCE_OVER_ARENA, 0},
    {"pool over direct", KIND_POOL, SOURCE_OVER_DIRECT, 0},
    {"arena, host", KIND_ARENA, SOURCE_HOST, 0},
    {"arena, host, single-threaded", KIND_ARENA, SOURCE_HOST, SINGLE},
    {"arena, counting", KIND_ARENA, SOURCE_COUNTING, 0},
    {"arena, counting, segments", KIND_ARENA, SOURCE_SEGMENTS, 0},
    {"arena, fixed buffer", KIND_ARENA, SOURCE_FIXED, 0},
    {"arena, clock, ranges", KIND_ARENA, SOURCE_CLOCK_RANGES, 0},
    {"arena over a pool", KIND_ARENA, SOURCE_OVER_POOL, 0},
    {"direct, host", KIND_DIRECT, SOURCE_HOST, 0},
    {"direct, counting", KIND_DIRECT, SOURCE_COUNTING, 0},
    {"direct, clock", KIND_DIRECT, SOURCE_CLOCK_SEGMENTS, 0},
    {"direct over a pool", KIND_DIRECT, SOURCE_OVER_POOL, 0},
    {"dynamic, host", KIND_DYNAMIC, SOURCE_HOST, 0},
    {"dynamic, host, single-threaded, no ranges", KIND_DYNAMIC, SOURCE_HOST, SINGLE | NO_RANGES},
    {"dynamic, counting", KIND_DYNAMIC, SOURCE_COUNTING, 0},
    {"dynamic, counting, single-threaded", KIND_DYNAMIC, SOURCE_COUNTING, SINGLE},
    {"dynamic, counting, segments", KIND_DYNAMIC, SOURCE_SEGMENTS, 0},
    {"dynamic, fixed buffer", KIND_DYNAMIC, SOURCE_FIXED, 0},
    {"dynamic, clock, ranges", KIND_DYNAMIC, SOURCE_CLOCK_RANGES, 0},
    {"dynamic, clock, segments", KIND_DYNAMIC, SOURCE_CLOCK_SEGMENTS, 0},
    {"dynamic over a pool", KIND_DYNAMIC, SOURCE_OVER_POOL, 0},
    {"dynamic over an arena", KIND_DYNAMIC, SOURCE_OVER_ARENA, 0},
    {"dynamic, upstream pool", KIND_DYNAMIC, SOURCE_UPSTREAM_POOL, 0},
    {"dynamic, upstream arena", KIND_DYNAMIC, SOURCE_UPSTREAM_ARENA, 0},
    {"pool over a dynamic", KIND_POOL, SOURCE_OVER_DYNAMIC, 0},
    {"arena over a dynamic", KIND_ARENA, SOURCE_OVER_DYNAMIC, 0},
    {"direct over a dynamic", KIND_DIRECT, SOURCE_OVER_DYNAMIC, 0}
#endif
};
#define VARIANT_COUNT (sizeof variants / sizeof variants[0])

#define BOOK_MAX 256
#define FIXED_BYTES (4 * MIB + 17)

typedef struct entry {
    unsigned char *ptr;
    size_t size;
    unsigned char fill;
} entry;

typedef struct fixture {
    const variant *v;
    ta_allocator a;
    ta_pool *pool;   /* NULL unless a is one */
    ta_pool *parent; /* what a graph pool stands beside, or NULL */
    ta_arena *arena;
    ta_cuda *cuda;   /* NULL unless the memory is the driver's */
    int counted;     /* the allocator is over counting */
    tb_counting counting;
    ta_budget *budget; /* of counted fixtures; the others have a private one */
    tb_clock clock;
    int clocked;
    ta_allocator below; /* the upstream, or self NULL */
    ta_upstream upstream;
    ta_fixed_buffer fixed;
    void *fixed_memory;
    size_t limit;
    size_t alignment;   /* of the backend */
    size_t granularity;
    /* the book */
    entry live[BOOK_MAX];
    size_t live_count;
    uint64_t allocation_count, deallocation_count, allocated_bytes, freed_bytes;
    unsigned char next_fill;
    int over_aligned; /* a live block is aligned to more than the granularity */
    /* for the failure tests */
    uint64_t failed_seen;
    int failed_before;
} fixture;

static ta_request request_of(size_t size, size_t alignment, uint32_t flags)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    request.flags = flags;
    return request;
}

static ta_allocator no_allocator(void)
{
    ta_allocator none;
    memset(&none, 0, sizeof none);
    return none;
}

/* The upstream of the OVER sources. */
static ta_backend open_below(fixture *f)
{
    ta_backend backend = ta_backend_host();
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic = NULL;
    switch ((int)f->v->source) {
    case SOURCE_OVER_POOL:
        CHECK_OK(ta_pool_create(NULL, &pool));
        f->below = ta_pool_allocator(pool);
        break;
    case SOURCE_OVER_ARENA:
        CHECK_OK(ta_arena_create(NULL, &arena));
        f->below = ta_arena_allocator(arena);
        break;
    case SOURCE_OVER_DYNAMIC:
        CHECK_OK(ta_dynamic_create(NULL, &dynamic));
        f->below = ta_dynamic_allocator(dynamic);
        break;
    default:
        CHECK_OK(ta_direct_create(NULL, &direct));
        f->below = ta_direct_allocator(direct);
        break;
    }
    CHECK_OK(ta_backend_upstream(&f->upstream, f->below, 0, &backend));
    return backend;
}

#ifdef CONTRACT_CUDA
static ta_backend open_cuda(fixture *f)
{
    static const ta_cuda_kind kinds[] = {TA_CUDA_RANGES, TA_CUDA_SEGMENTS, TA_CUDA_ASYNC, TA_CUDA_PINNED,
                                         TA_CUDA_MANAGED};
    ta_cuda_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = kinds[f->v->source - SOURCE_CUDA_RANGES];
    CHECK_EQ(fake.tafake_reset("sched=eager;contiguous=1"), 0);
    CHECK_OK(ta_cuda_create(&desc, &f->cuda, NULL));
    return ta_cuda_backend(f->cuda);
}

static void close_cuda(fixture *f)
{
    tafake_live live;
    CHECK_OK(ta_cuda_destroy(f->cuda));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.allocations + live.host_allocations + live.reservations + live.mappings + live.handles, 0);
    CHECK_EQ(live.pools + live.contexts + live.streams + live.events + live.used_bytes, 0);
    CHECK_EQ(fake.tafake_race_count(), 0);
    CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_GLOBAL);
}
#endif

static ta_backend open_backend(fixture *f)
{
    ta_backend backend = ta_backend_host();
    f->below = no_allocator();
    f->counted = f->v->source != SOURCE_HOST && f->v->source < SOURCE_UPSTREAM_POOL;
    switch ((int)f->v->source) {
    case SOURCE_HOST:
    case SOURCE_UPSTREAM_POOL:
    case SOURCE_UPSTREAM_ARENA:
        return backend;
    case SOURCE_COUNTING:
        return tb_counting_init(&f->counting, backend, 0);
    case SOURCE_SEGMENTS:
        return tb_counting_init(&f->counting, backend, TA_CAP_RANGES | TA_CAP_FRESH_ZERO);
    case SOURCE_FIXED:
        f->fixed_memory = malloc(FIXED_BYTES);
        if (f->fixed_memory == NULL) {
            abort();
        }
        CHECK_OK(ta_backend_fixed(&f->fixed, (char *)f->fixed_memory + 1, FIXED_BYTES - 1, &backend));
        return tb_counting_init(&f->counting, backend, 0);
    case SOURCE_CLOCK_RANGES:
        f->clocked = 1;
        return tb_counting_init(&f->counting, tb_clock_init(&f->clock, TA_CAP_RANGES, 1), 0);
    case SOURCE_CLOCK_SEGMENTS:
        f->clocked = 1;
        return tb_counting_init(&f->counting, tb_clock_init(&f->clock, TA_CAP_SEGMENTS, 1), 0);
#ifdef CONTRACT_CUDA
    case SOURCE_CUDA_RANGES: case SOURCE_CUDA_SEGMENTS: case SOURCE_CUDA_ASYNC: case SOURCE_CUDA_PINNED:
    case SOURCE_CUDA_MANAGED:
        return tb_counting_init(&f->counting, open_cuda(f), 0);
#endif
    default:
        return tb_counting_init(&f->counting, open_below(f), 0);
    }
}

static ta_result open_pool(fixture *f, ta_backend backend)
{
    ta_pool_desc desc;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    if ((f->v->options & SPEC) != 0) {
        desc = ta_pool_desc_spec();
    }
    desc.backend = backend;
    desc.budget = f->budget;
    desc.limit_bytes = f->limit;
    desc.single_threaded = (f->v->options & SINGLE) != 0;
    desc.disable_thread_caches = (f->v->options & NO_CACHES) != 0;
    desc.disable_ranges = (f->v->options & NO_RANGES) != 0;
    desc.disable_stealing = (f->v->options & NO_STEALING) != 0;
    result = ta_pool_create(&desc, &f->pool);
    f->a = ta_pool_allocator(f->pool);
    return result;
}

#ifdef CONTRACT_CUDA
/* A graph pool, outside of any capture. */
static ta_result open_graph(fixture *f, ta_backend backend)
{
    ta_graph_pool_desc desc;
    ta_graph_pool *graph_pool = NULL;
    ta_result result = open_pool(f, backend);
    f->parent = f->pool;
    f->pool = NULL;
    f->a = no_allocator();
    memset(&desc, 0, sizeof desc);
    desc.pool = f->parent;
    if (result == TA_OK) {
        result = ta_graph_pool_create(&desc, &graph_pool);
    }
    if (result == TA_OK) {
        f->a = ta_graph_pool_allocator(graph_pool);
    }
    return result;
}
#endif

static ta_result open_arena(fixture *f, ta_backend backend)
{
    ta_arena_desc desc;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    desc.backend = backend;
    desc.budget = f->budget;
    desc.limit_bytes = f->limit;
    desc.single_threaded = (f->v->options & SINGLE) != 0;
    result = ta_arena_create(&desc, &f->arena);
    f->a = ta_arena_allocator(f->arena);
    return result;
}

static ta_result open_direct(fixture *f, ta_backend backend)
{
    ta_direct_desc desc;
    ta_direct *direct = NULL;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    desc.backend = backend;
    desc.budget = f->budget;
    desc.limit_bytes = f->limit;
    result = ta_direct_create(&desc, &direct);
    f->a = ta_direct_allocator(direct);
    return result;
}

static ta_result open_dynamic(fixture *f, ta_backend backend)
{
    ta_dynamic_desc desc;
    ta_pool_desc pool_desc;
    ta_arena_desc arena_desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_dynamic *dynamic = NULL;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    memset(&pool_desc, 0, sizeof pool_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    pool_desc.limit_bytes = arena_desc.limit_bytes = f->limit;
    desc.budget = f->budget;
    desc.single_threaded = (f->v->options & SINGLE) != 0;
    desc.disable_ranges = (f->v->options & NO_RANGES) != 0;
    if (f->v->source == SOURCE_UPSTREAM_POOL) {
        CHECK_OK(ta_pool_create(&pool_desc, &pool));
        f->below = desc.upstream = ta_pool_allocator(pool);
    } else if (f->v->source == SOURCE_UPSTREAM_ARENA) {
        CHECK_OK(ta_arena_create(&arena_desc, &arena));
        f->below = desc.upstream = ta_arena_allocator(arena);
    } else {
        desc.backend = backend;
        desc.limit_bytes = f->limit;
    }
    result = ta_dynamic_create(&desc, &dynamic);
    f->a = ta_dynamic_allocator(dynamic);
    return result;
}

/* fail_at: the number of the first call of the backend that fails, 0 for none. */
static ta_result fixture_open(fixture *f, const variant *v, size_t limit, uint64_t fail_at, int fail_on)
{
    ta_backend backend;
    ta_backend_info info;
    ta_result result;
    memset(f, 0, sizeof *f);
    f->v = v;
    f->limit = limit;
    backend = open_backend(f);
    backend.vtable->info(backend.self, &info);
    f->alignment = info.alignment_bytes;
    f->granularity = info.granularity_bytes;
    if (f->counted) {
        ta_budget_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.backend = backend;
        desc.limit_bytes = limit;
        CHECK_OK(ta_budget_create(&desc, &f->budget));
    }
    if (fail_at != 0) {
        tb_counting_fail(&f->counting, TB_ANY, fail_at, fail_on);
    }
    result =
#ifdef CONTRACT_CUDA
        v->kind == KIND_GRAPH ? open_graph(f, backend) :
#endif
        v->kind == KIND_POOL    ? open_pool(f, backend)
             : v->kind == KIND_ARENA ? open_arena(f, backend)
             : v->kind == KIND_DIRECT ? open_direct(f, backend) : open_dynamic(f, backend);
    if (result != TA_OK) {
        CHECK(f->a.self == NULL);
        f->a = no_allocator();
    }
    return result;
}

/* Destroys everything and looks for leaks. */
static void fixture_close(fixture *f)
{
    CHECK_OK(ta_allocator_destroy(f->a));
    CHECK_OK(ta_pool_destroy(f->parent));
    if (f->counted) {
        ta_budget_stats b;
        CHECK_OK(ta_budget_get_stats(f->budget, &b));
        CHECK_EQ(b.reserved_bytes + b.allocator_count, 0);
        CHECK_OK(ta_budget_destroy(f->budget));
        tb_counting_check(&f->counting, 1);
        tb_counting_end(&f->counting);
    }
    if (f->clocked) {
        tb_clock_check(&f->clock);
        tb_clock_end(&f->clock);
    }
    if (f->below.self != NULL) {
        ta_stats s;
        CHECK_OK(ta_allocator_get_stats(f->below, &s));
        CHECK_EQ(s.live_count, 0);
        CHECK_OK(ta_allocator_destroy(f->below));
    }
#ifdef CONTRACT_CUDA
    if (f->cuda != NULL) {
        close_cuda(f);
    }
#endif
    free(f->fixed_memory);
}

static fixture the_fixture;

/* Runs a test over all variants; limit as in the descs. */
static void for_each_variant(void (*test)(fixture *f), size_t limit)
{
    size_t i;
    for (i = 0; i < VARIANT_COUNT; i++) {
        test_context("%s", variants[i].name);
        if (fixture_open(&the_fixture, &variants[i], limit, 0, 0) == TA_OK) {
            test(&the_fixture);
        } else {
            CHECK(the_fixture.a.self != NULL);
        }
        fixture_close(&the_fixture);
    }
    test_context("%s", "");
}

/*---------------------------------------------------------------------------------------------------------
  The book: what ought to be true after each call.
  -------------------------------------------------------------------------------------------------------*/
static ta_stats stats_of(fixture *f)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_allocator_get_stats(f->a, &s));
    return s;
}

#ifdef CONTRACT_CUDA
#define PORTION ((size_t)65536)

/* Up to the next multiple of a portion, so that no portion lies in two mappings. */
static size_t portion_of(const unsigned char *ptr, size_t size)
{
    size_t part = PORTION - (uintptr_t)ptr % PORTION;
    return size < part ? size : part;
}

/* Behind the back of streams: the scheduler is eager, so nothing is pending. */
static void memory_fill(void *ptr, unsigned char value, size_t size)
{
    unsigned char buffer[PORTION];
    size_t at, part;
    if (!fake.tafake_is_device_address((CUdeviceptr)(uintptr_t)ptr)) {
        memset(ptr, value, size);
        return;
    }
    memset(buffer, value, sizeof buffer);
    for (at = 0; at < size; at += part) {
        part = portion_of((unsigned char *)ptr + at, size - at);
        (void)fake.tafake_poke((CUdeviceptr)(uintptr_t)ptr + at, buffer, part);
    }
}

static int holds_fill(const entry *e)
{
    unsigned char buffer[PORTION];
    size_t at, part;
    for (at = 0; at < e->size; at += part) {
        part = portion_of(e->ptr + at, e->size - at);
        if (!fake.tafake_is_device_address((CUdeviceptr)(uintptr_t)e->ptr)) {
            memcpy(buffer, e->ptr + at, part);
        } else if (fake.tafake_peek(buffer, (CUdeviceptr)(uintptr_t)e->ptr + at, part) != 0) {
            return 0;
        }
        if (buffer[0] != e->fill || memcmp(buffer, buffer + 1, part - 1) != 0) {
            return 0;
        }
    }
    return 1;
}
#else
static void memory_fill(void *ptr, unsigned char value, size_t size)
{
    memset(ptr, value, size);
}

static int holds_fill(const entry *e)
{
    return e->size == 0 || (e->ptr[0] == e->fill && memcmp(e->ptr, e->ptr + 1, e->size - 1) == 0);
}
#endif

/* Statistics against the book, the glossary's equations, the backend's count of what is out. */
static void check_books(fixture *f)
{
    ta_stats s = stats_of(f);
    size_t i, requested = 0, capacity = 0;
    for (i = 0; i < f->live_count; i++) {
        ta_block_info info;
        memset(&info, 0, sizeof info);
        CHECK_OK(ta_allocator_describe(f->a, f->live[i].ptr, &info));
        CHECK(info.ptr == (void *)f->live[i].ptr);
        CHECK_EQ(info.requested_bytes, f->live[i].size);
        CHECK_GE(info.capacity_bytes, f->live[i].size);
        CHECK_EQ(info.state, TA_BLOCK_LIVE);
        requested += f->live[i].size;
        capacity += info.capacity_bytes;
    }
    CHECK_EQ(s.live_count, f->live_count);
    CHECK_EQ(s.requested_bytes, requested);
    CHECK_EQ(s.in_use_bytes, capacity);
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_EQ(s.wasted_bytes, s.in_use_bytes - s.requested_bytes);
    CHECK_EQ(s.allocation_count, f->allocation_count);
    CHECK_EQ(s.deallocation_count, f->deallocation_count);
    CHECK_EQ(s.allocated_bytes, f->allocated_bytes);
    CHECK_EQ(s.freed_bytes, f->freed_bytes);
    CHECK_EQ(s.allocated_bytes - s.freed_bytes, requested);
    CHECK_EQ(s.hit_count + s.miss_count, s.allocation_count);
    CHECK_EQ(s.miss_count, s.miss_grow_count + s.miss_recommit_count);
    CHECK_LE(s.thread_hit_count, s.hit_count);
    CHECK_GE(s.peak_reserved_bytes, s.reserved_bytes);
    CHECK_GE(s.peak_in_use_upper_bytes, s.in_use_bytes);
    CHECK_LE(s.thread_cached_bytes + s.pending_bytes, s.cached_bytes);
    CHECK_GT(s.record_bytes, 0);
    if (f->limit != 0) {
        CHECK_LE(s.peak_reserved_bytes, f->limit);
    }
    if (f->counted) {
        ta_budget_stats b;
        CHECK_OK(ta_budget_get_stats(f->budget, &b));
        CHECK_EQ(b.reserved_bytes, s.reserved_bytes);
        CHECK_EQ(tb_counting_held(&f->counting), s.reserved_bytes);
        CHECK_EQ(f->counting.ranges.bytes, s.address_range_bytes);
    }
    if (f->v->kind == KIND_DIRECT) {
        CHECK_EQ(s.hit_count, 0);
        /* What is in front of over-aligned blocks counts as cached, and what the backend refused to take back. */
        if (!f->over_aligned && f->counting.failed[TB_FREE] == 0) {
            CHECK_EQ(s.cached_bytes, 0);
        }
    }
    if (f->pool != NULL) {
        CHECK_OK(ta_pool_check(f->pool));
    }
}

/* Allocates, fills and writes down. NULL with *result. */
static unsigned char *book_alloc(fixture *f, size_t size, size_t alignment, uint32_t flags, ta_result *result)
{
    ta_request request = request_of(size, alignment, flags);
    entry *e = &f->live[f->live_count];
    unsigned char *ptr;
    *result = TA_ERROR_CORRUPT; /* has to be overwritten */
    ptr = (unsigned char *)ta_allocator_alloc(f->a, &request, result);
    CHECK((ptr != NULL) == (*result == TA_OK));
    if (ptr == NULL) {
        return NULL;
    }
    CHECK_EQ((uintptr_t)ptr % (alignment > f->alignment ? alignment : f->alignment), 0);
    if ((flags & TA_REQUEST_ZEROED) != 0) {
        entry zero;
        zero.ptr = ptr;
        zero.size = size;
        zero.fill = 0;
        CHECK(holds_fill(&zero));
    }
    e->ptr = ptr;
    e->size = size;
    e->fill = (unsigned char)(f->next_fill++ | 1);
    memory_fill(ptr, e->fill, size);
    f->live_count++;
    f->allocation_count++;
    f->allocated_bytes += size;
    f->over_aligned |= alignment > f->granularity;
    return ptr;
}

static unsigned char *book_alloc_ok(fixture *f, size_t size)
{
    ta_result result;
    unsigned char *ptr = book_alloc(f, size, 0, 0, &result);
    CHECK_OK(result);
    return ptr;
}

/* Frees entry i; the book changes only if that works. */
static ta_result book_free(fixture *f, size_t i)
{
    entry *e = &f->live[i];
    ta_result result;
    CHECK(holds_fill(e));
    result = ta_allocator_free(f->a, e->ptr, e->size, 0, 0);
    if (result == TA_OK) {
        f->deallocation_count++;
        f->freed_bytes += e->size;
        f->live_count--;
        f->over_aligned &= f->live_count != 0;
        memmove(e, e + 1, (f->live_count - i) * sizeof *e);
    }
    return result;
}

static void book_free_all(fixture *f)
{
    while (f->live_count > 0) {
        size_t before = f->live_count;
        CHECK_OK(book_free(f, f->live_count - 1));
        REQUIRE(f->live_count < before);
    }
}

static void note_resized(fixture *f, size_t was, size_t now)
{
    f->allocated_bytes += now > was ? now - was : 0;
    f->freed_bytes += now < was ? was - now : 0;
}

static ta_result book_resize(fixture *f, size_t i, size_t size)
{
    entry *e = &f->live[i];
    ta_result result = ta_allocator_resize_in_place(f->a, e->ptr, e->size, size);
    if (result == TA_OK) {
        size_t old = e->size;
        note_resized(f, old, size);
        e->size = size < old ? size : old;
        CHECK(holds_fill(e)); /* the contents are kept */
        e->size = size;
        memory_fill(e->ptr, e->fill, size);
    }
    return result;
}

/*---------------------------------------------------------------------------------------------------------
  The interface specification's own tests.
  -------------------------------------------------------------------------------------------------------*/
static void valid_buffer(fixture *f)
{
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 1024, 4096, 65536, 65537, 300000};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ta_request request = request_of(sizes[i], 0, 0);
        ta_buffer buffer;
        ta_block_info info;
        request.tag = "weights";
        CHECK_OK(ta_allocator_alloc_buffer(f->a, &request, &buffer));
        REQUIRE(buffer.data != NULL);
        CHECK_EQ(buffer.size_bytes, sizes[i]);
        CHECK_GE(buffer.capacity_bytes, sizes[i]);
        CHECK_EQ((uintptr_t)buffer.data % f->alignment, 0);
        CHECK_OK(ta_allocator_check_buffer(f->a, &buffer));
        memory_fill(buffer.data, 1, buffer.capacity_bytes);
        CHECK_OK(ta_allocator_describe(f->a, buffer.data, &info));
        CHECK_EQ(info.capacity_bytes, buffer.capacity_bytes);
        CHECK_EQ(info.requested_bytes, sizes[i]);
        CHECK_STRING(info.tag, "weights");
        CHECK(memcmp(&info.id, &buffer.id, sizeof info.id) == 0);
        CHECK_OK(ta_allocator_free_buffer(f->a, &buffer, 0));
        CHECK(buffer.data == NULL);
        CHECK_EQ(buffer.size_bytes + buffer.capacity_bytes + buffer.id.owner, 0);
        CHECK_OK(ta_allocator_free_buffer(f->a, &buffer, 0)); /* a zero buffer */
    }
}

static void allocate_returns_valid_buffer(void)
{
    for_each_variant(valid_buffer, 0);
}

static void zero_size(fixture *f)
{
    ta_request request = request_of(0, 0, 0);
    ta_buffer buffer;
    ta_result result;
    CHECK(book_alloc(f, 0, 0, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    CHECK(ta_allocator_alloc(f->a, &request, NULL) == NULL);
    memset(&buffer, 1, sizeof buffer);
    CHECK_RESULT(ta_allocator_alloc_buffer(f->a, &request, &buffer), TA_ERROR_INVALID_SIZE);
    CHECK(buffer.data == NULL && buffer.size_bytes == 0);
    check_books(f);
}

static void allocate_zero_size_is_an_error(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(zero_size, 0);
}

static void reuse(fixture *f)
{
    static const size_t sizes[] = {1024, 1000, 64, 100000, 500000};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ta_stats before, after;
        uint64_t calls = 0;
        book_alloc_ok(f, sizes[i]);
        CHECK_OK(book_free(f, 0));
        check_books(f);
        before = stats_of(f);
        calls = f->counting.calls[TB_ALLOC] + f->counting.calls[TB_COMMIT];
        book_alloc_ok(f, sizes[i]);
        after = stats_of(f);
        check_books(f);
        if (f->v->kind == KIND_DIRECT) {
            CHECK_EQ(after.hit_count, 0);
        } else {
            CHECK_EQ(after.hit_count, before.hit_count + 1);
            CHECK_EQ(f->counting.calls[TB_ALLOC] + f->counting.calls[TB_COMMIT], calls);
            if (f->v->source < SOURCE_UPSTREAM_POOL) { /* there the upstream keeps what is free */
                CHECK_EQ(after.reserved_bytes, before.reserved_bytes);
            }
        }
        CHECK_OK(book_free(f, 0));
    }
}

static void free_allows_reuse(void)
{
    for_each_variant(reuse, 0);
}

static void empty_cache(fixture *f)
{
    static const size_t sizes[] = {100, 1024, 20000, 70000, 400000, 100, 1024};
    ta_stats before, after;
    size_t i;
    CHECK_OK(ta_allocator_empty_cache(f->a)); /* of a fresh allocator */
    check_books(f);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        book_alloc_ok(f, sizes[i]);
    }
    CHECK_OK(book_free(f, 1));
    CHECK_OK(book_free(f, 3));
    before = stats_of(f);
    CHECK_OK(ta_allocator_empty_cache(f->a)); /* live blocks in between */
    check_books(f);
    after = stats_of(f);
    CHECK_LE(after.cached_bytes, before.cached_bytes);
    CHECK_EQ(after.in_use_bytes, before.in_use_bytes);
    book_free_all(f);
    before = stats_of(f);
    CHECK_OK(ta_allocator_empty_cache(f->a));
    after = stats_of(f);
    CHECK_EQ(after.cached_bytes, 0); /* nothing is live: everything could go back */
    CHECK_EQ(after.reserved_bytes, 0);
    CHECK_EQ(after.trimmed_bytes, before.trimmed_bytes + before.cached_bytes);
    check_books(f);
    book_alloc_ok(f, 1024);
    check_books(f);
}

static void empty_cache_leaves_nothing_cached(void)
{
    for_each_variant(empty_cache, 0);
}

static void dispose(fixture *f)
{
    ta_request request = request_of(1024, 0, 0);
    ta_result result = TA_OK;
    ta_block_info info;
    ta_buffer buffer;
    ta_device device;
    ta_failure failure;
    ta_stats s;
    size_t released = 1;
    void *live = book_alloc_ok(f, 1024), *large = book_alloc_ok(f, 300000);
    CHECK_OK(ta_allocator_alloc_buffer(f->a, &request, &buffer));
    CHECK_OK(ta_allocator_dispose(f->a));
    if (f->counted) {
        tb_counting_check(&f->counting, 1); /* live blocks went back too */
    }
    CHECK(ta_allocator_alloc(f->a, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_free(f->a, live, 1024, 0, 0), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_free(f->a, large, 0, 0, 0), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_free_buffer(f->a, &buffer, 0), TA_ERROR_DISPOSED);
    CHECK(buffer.data != NULL);
    CHECK_RESULT(ta_allocator_check_buffer(f->a, &buffer), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_resize_in_place(f->a, live, 1024, 512), TA_ERROR_DISPOSED);
    CHECK(ta_allocator_remap(f->a, live, 1024, 512, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_empty_cache(f->a), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_trim(f->a, 0, &released), TA_ERROR_DISPOSED);
    CHECK_EQ(released, 0);
    CHECK_RESULT(ta_allocator_describe(f->a, live, &info), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_allocator_get_device(f->a, &device), TA_ERROR_DISPOSED);
    CHECK_OK(ta_allocator_get_failure(f->a, &failure));
    CHECK_EQ(failure.count, 0); /* none of this is a failed allocation */
    CHECK_OK(ta_allocator_get_stats(f->a, &s));
    CHECK_EQ(s.allocation_count, 3);
    CHECK_EQ(s.allocated_bytes, 1024 + 300000 + 1024);
    CHECK_EQ(s.live_count, 0);
    CHECK_EQ(s.requested_bytes, 0);
    CHECK_EQ(s.in_use_bytes, 0);
    CHECK_EQ(s.cached_bytes, 0);
    CHECK_EQ(s.reserved_bytes, 0);
    CHECK_EQ(s.wasted_bytes, 0);
    CHECK_EQ(s.address_range_bytes, 0);
    CHECK_GT(s.peak_reserved_bytes, 0);
    CHECK_GE(s.peak_in_use_upper_bytes, 1024 + 300000 + 1024);
    CHECK_OK(ta_allocator_dispose(f->a)); /* again */
    f->live_count = 0;
}

static void dispose_cleans_up(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(dispose, 0);
}

/*---------------------------------------------------------------------------------------------------------
  What the header adds.
  -------------------------------------------------------------------------------------------------------*/
static void identities(fixture *f)
{
    uint64_t random = test_now.seed;
    int i;
    for (i = 0; i < 150; i++) {
        uint32_t what = test_below(&random, 10);
        if (what < 5 && f->live_count < 24) {
            size_t size = (size_t)1 + test_below(&random, 1u << (4 + test_below(&random, 13)));
            ta_result result;
            (void)book_alloc(f, size, 0, what == 0 ? (uint32_t)TA_REQUEST_ZEROED : 0u, &result);
            CHECK_OK(result);
        } else if (what < 8 && f->live_count > 0) {
            CHECK_OK(book_free(f, test_below(&random, (uint32_t)f->live_count)));
        } else if (what == 8 && f->live_count > 0) {
            size_t k = test_below(&random, (uint32_t)f->live_count);
            ta_result result = book_resize(f, k, (size_t)1 + test_below(&random, 5000));
            CHECK(result == TA_OK || result == TA_ERROR_WOULD_MOVE);
        } else if (i % 7 == 0) {
            CHECK_OK(ta_allocator_trim(f->a, (size_t)test_below(&random, 100000), NULL));
        }
        check_books(f);
    }
}

static void reserved_is_in_use_plus_cached_after_each_call(void)
{
    for_each_variant(identities, 0);
}

static void alignments(fixture *f)
{
    size_t alignment;
    for (alignment = 1; alignment <= MIB; alignment *= 2) {
        ta_result result;
        (void)book_alloc(f, 1, alignment, 0, &result);
        CHECK_OK(result);
        (void)book_alloc(f, alignment / 2 + 33, alignment, TA_REQUEST_ZEROED, &result);
        CHECK_OK(result);
        check_books(f);
        if (f->v->source == SOURCE_FIXED && alignment >= 64 * KIB) { /* its buffer is small */
            book_free_all(f);
        }
    }
    while (f->live_count > 0) { /* every other one, then the rest */
        size_t before = f->live_count;
        CHECK_OK(book_free(f, f->live_count / 2));
        REQUIRE(f->live_count < before);
    }
    check_books(f);
}

static void alignments_up_to_a_mebibyte(void)
{
    for_each_variant(alignments, 0);
}

static void absurd_alignments(fixture *f)
{
    static const size_t bad[] = {3, 5, 63, 65, 96, 1000, (size_t)-1, ((size_t)1 << 30) + 1, (size_t)1 << 31,
                                 ((size_t)-1 >> 1) + 1};
    ta_result result;
    size_t i;
    book_alloc_ok(f, 100);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(book_alloc(f, 64, bad[i], 0, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    }
    /* The largest legal one: there or a decent failure, never a crooked pointer. */
    if (book_alloc(f, 64, (size_t)1 << 30, 0, &result) == NULL) {
        CHECK(result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED);
    }
    check_books(f);
}

static void absurd_alignments_are_errors(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(absurd_alignments, 0);
}

static void absurd_sizes(fixture *f)
{
    const size_t top = (size_t)-1, sizes[] = {top, top - 1, top - 63, top - 64, top - 4095, top - 65535, top / 2 + 1,
                                              top / 2, top / 2 - 64, top / 2 - ((size_t)1 << 30), top / 4};
    const size_t count = sizeof sizes / sizeof sizes[0] - (sizeof(void *) > 4 ? 0 : 2); /* 32 bits: 1 GiB is there */
    ta_result result;
    size_t i;
    book_alloc_ok(f, 100);
    for (i = 0; i < count; i++) {
        static const size_t alignment[] = {0, 4096, (size_t)1 << 30};
        size_t k;
        for (k = 0; k < 3; k++) {
            ta_request request = request_of(sizes[i], alignment[k], 0);
            result = TA_OK;
            CHECK(ta_allocator_alloc(f->a, &request, &result) == NULL);
            CHECK(result == TA_ERROR_OVERFLOW || result == TA_ERROR_OUT_OF_MEMORY);
        }
        result = ta_allocator_resize_in_place(f->a, f->live[0].ptr, 0, sizes[i]);
        CHECK(result == TA_ERROR_OVERFLOW || result == TA_ERROR_WOULD_MOVE);
    }
    check_books(f);
}

static void absurd_sizes_are_errors(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(absurd_sizes, 0);
}

static void bad_requests(fixture *f)
{
    ta_request request = request_of(100, 0, 8);
    ta_result result = TA_OK;
    CHECK(ta_allocator_alloc(f->a, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    request = request_of(100, 0, 0x80000000u);
    CHECK(ta_allocator_alloc(f->a, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    request = request_of(100, 0, 0);
    request.reserved = 1;
    CHECK(ta_allocator_alloc(f->a, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    check_books(f);
}

static void unknown_flags_are_errors(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(bad_requests, 0);
}

static void resize(fixture *f)
{
    static const size_t sizes[] = {100, 10000, 200000};
    ta_stats s;
    size_t i;
    for (i = 0; i < 3; i++) {
        size_t k = f->live_count, size = sizes[i], grown;
        unsigned char *ptr = book_alloc_ok(f, size);
        CHECK_OK(book_resize(f, k, size)); /* the same size */
        CHECK_OK(book_resize(f, k, size - 7));
        CHECK_OK(book_resize(f, k, size));
        check_books(f);
        for (grown = size; grown < size * 8; grown += grown / 2) { /* alone at the end: may grow, must not move */
            ta_result result = book_resize(f, k, grown);
            CHECK(result == TA_OK || result == TA_ERROR_WOULD_MOVE);
            CHECK(holds_fill(&f->live[k]));
            check_books(f);
        }
        CHECK_OK(book_resize(f, k, size / 3)); /* shrinking always works */
        check_books(f);
        CHECK_OK(book_resize(f, k, 1));
        check_books(f);
        CHECK(f->live[k].ptr == ptr);
        CHECK_RESULT(ta_allocator_resize_in_place(f->a, ptr, 1, 0), TA_ERROR_INVALID_SIZE);
        CHECK_RESULT(ta_allocator_resize_in_place(f->a, ptr, 2, 50), TA_ERROR_SIZE_MISMATCH);
        CHECK_OK(ta_allocator_resize_in_place(f->a, ptr, 0, 1)); /* old size not told */
        check_books(f);
    }
    s = stats_of(f);
    CHECK_GT(s.resize_count, 0);
    CHECK_RESULT(ta_allocator_resize_in_place(f->a, &s, 0, 100), TA_ERROR_FOREIGN);
}

static void resize_in_place_keeps_contents_and_never_moves(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(resize, 0);
}

static void remap(fixture *f)
{
    static const size_t sizes[] = {50, 5000, 900, 200000, 1};
    ta_result result = TA_OK;
    size_t i;
    book_alloc_ok(f, 1000);
    book_alloc_ok(f, 1000);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        entry *e = &f->live[i % 2], was = *e;
        unsigned char *ptr = (unsigned char *)ta_allocator_remap(f->a, e->ptr, e->size, sizes[i], &result);
        CHECK((ptr != NULL) == (result == TA_OK));
        if (ptr == NULL) {
            CHECK_RESULT(result, TA_ERROR_WOULD_MOVE);
        } else {
            note_resized(f, e->size, sizes[i]);
            e->ptr = ptr;
            e->size = sizes[i] < was.size ? sizes[i] : was.size;
            CHECK(holds_fill(e));
            e->size = sizes[i];
            memory_fill(ptr, e->fill, e->size);
        }
        CHECK(holds_fill(e));
        check_books(f);
    }
    CHECK(ta_allocator_remap(f->a, f->live[0].ptr, f->live[0].size + 1, 10, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_SIZE_MISMATCH);
    CHECK(ta_allocator_remap(f->a, f->live[0].ptr, 0, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    CHECK(ta_allocator_remap(f->a, &result, 0, 10, NULL) == NULL);
    check_books(f);
}

static void remap_keeps_contents(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(remap, 0);
}

static void trim(fixture *f)
{
    static const size_t keep[] = {1300000, 700000, 300000, 65536, 1, 0};
    ta_stats before, after;
    size_t i, released = 77;
    for (i = 0; i < 9; i++) {
        book_alloc_ok(f, 150000);
    }
    book_free_all(f);
    before = stats_of(f);
    CHECK_OK(ta_allocator_trim(f->a, TA_UNLIMITED, &released));
    CHECK_EQ(released, 0);
    CHECK_EQ(stats_of(f).cached_bytes, before.cached_bytes);
    for (i = 0; i < sizeof keep / sizeof keep[0]; i++) {
        before = stats_of(f);
        CHECK_OK(ta_allocator_trim(f->a, keep[i], &released));
        after = stats_of(f);
        CHECK_LE(after.cached_bytes, keep[i]);
        CHECK_EQ(released, before.reserved_bytes - after.reserved_bytes);
        CHECK_EQ(after.trimmed_bytes - before.trimmed_bytes, released);
        check_books(f);
    }
    CHECK_OK(ta_allocator_trim(f->a, 0, NULL));
    book_alloc_ok(f, 150000);
    check_books(f);
}

static void trim_to_a_target(void)
{
    for_each_variant(trim, 0);
}

#define LIMIT_BYTES (2 * MIB)

/* The last failure is kept, with its number, and has a verdict. */
static void check_reason(fixture *f, ta_result want, size_t size)
{
    ta_failure failure;
    char text[512];
    memset(&failure, 0, sizeof failure);
    CHECK_OK(ta_allocator_get_failure(f->a, &failure));
    CHECK_RESULT(failure.result, want);
    CHECK_EQ(failure.requested_bytes, size);
    CHECK_EQ(failure.count, stats_of(f).failure_count);
    CHECK_NE(failure.verdict, TA_VERDICT_NONE);
    CHECK_EQ((int)failure.action, (int)failure.verdict);
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
    CHECK(strstr(text, ta_action_text(failure.action)) != NULL);
}

static void limit(fixture *f)
{
    ta_result result = TA_OK;
    ta_stats s;
    size_t got;
    while (f->live_count < BOOK_MAX && book_alloc(f, 100000, 0, 0, &result) != NULL) {
        check_books(f); /* the peak is within the limit */
    }
    got = f->live_count;
    CHECK_GE(got, 8);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    check_reason(f, TA_ERROR_LIMIT, 100000);
    CHECK(book_alloc(f, 100000, 0, TA_REQUEST_WITHIN_BUDGET, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    check_reason(f, TA_ERROR_LIMIT, 100000);
    s = stats_of(f);
    CHECK_EQ(s.failure_count, 2);
    CHECK_EQ(s.failure_limit_count, 2);
    check_books(f);
    CHECK_OK(book_free(f, f->live_count - 1));
    (void)book_alloc(f, 100000, 0, 0, &result); /* works again after a free */
    CHECK_OK(result);
    CHECK_EQ(f->live_count, got);
    CHECK(book_alloc(f, LIMIT_BYTES + 1, 0, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    check_reason(f, TA_ERROR_LIMIT, LIMIT_BYTES + 1);
    book_free_all(f);
    if (f->v->kind != KIND_DIRECT) {
        (void)book_alloc(f, LIMIT_BYTES / 2, 0, 0, &result); /* what is cached pays for it */
        CHECK_OK(result);
    }
    check_books(f);
}

static void limit_is_never_exceeded(void)
{
    for_each_variant(limit, LIMIT_BYTES);
}

static void cached_only(fixture *f)
{
    uint64_t calls = f->counting.calls[TB_ALLOC] + f->counting.calls[TB_COMMIT];
    ta_result result;
    ta_failure failure;
    memset(&failure, 1, sizeof failure);
    CHECK_OK(ta_allocator_get_failure(f->a, &failure));
    CHECK_EQ(failure.count, 0); /* nothing failed yet */
    CHECK_EQ(failure.verdict, TA_VERDICT_NONE);
    CHECK(book_alloc(f, 1000, 0, TA_REQUEST_CACHED_ONLY, &result) == NULL); /* nothing there yet */
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    check_reason(f, TA_ERROR_NOT_CACHED, 1000);
    CHECK_EQ(f->counting.calls[TB_ALLOC] + f->counting.calls[TB_COMMIT], calls);
    CHECK_EQ(stats_of(f).failure_not_cached_count, 1);
    check_books(f);
    book_alloc_ok(f, 1000);
    CHECK_OK(book_free(f, 0));
    (void)book_alloc(f, 1000, 0, TA_REQUEST_CACHED_ONLY, &result);
    CHECK_RESULT(result, f->v->kind == KIND_DIRECT ? TA_ERROR_NOT_CACHED : TA_OK);
    check_books(f);
}

static void cached_only_never_asks_the_backend(void)
{
    for_each_variant(cached_only, 0);
}

static void zeroed(fixture *f)
{
    static const size_t sizes[] = {1, 100, 5000, 70000, 400000};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ta_result result;
        (void)book_alloc(f, sizes[i], 0, TA_REQUEST_ZEROED, &result); /* fresh */
        CHECK_OK(result);
        CHECK_OK(book_free(f, f->live_count - 1)); /* dirty now */
        (void)book_alloc(f, sizes[i], 0, TA_REQUEST_ZEROED, &result);
        CHECK_OK(result);
        CHECK_OK(book_free(f, f->live_count - 1));
        (void)book_alloc(f, sizes[i] + 1, 0, TA_REQUEST_ZEROED, &result); /* part dirty, part fresh */
        CHECK_OK(result);
        check_books(f);
    }
    book_free_all(f);
    CHECK_OK(ta_allocator_empty_cache(f->a));
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) { /* pages that come back */
        ta_result result;
        (void)book_alloc(f, sizes[i], 0, TA_REQUEST_ZEROED, &result);
        CHECK_OK(result);
    }
    check_books(f);
}

static void zeroed_requests_read_as_zero(void)
{
    for_each_variant(zeroed, 0);
}

static void device(fixture *f)
{
    ta_device d;
    d.index = 99;
    CHECK_OK(ta_allocator_get_device(f->a, &d));
    CHECK_EQ(d.type, f->v->source >= SOURCE_CUDA_RANGES && f->v->source != SOURCE_CUDA_PINNED ? TA_DEVICE_CUDA
                                                                                              : TA_DEVICE_HOST);
    CHECK_EQ(d.index, 0);
}

static void device_is_the_backends(void)
{
    for_each_variant(device, 0);
}

/*---------------------------------------------------------------------------------------------------------
  Bad input.
  -------------------------------------------------------------------------------------------------------*/
static void null_arguments(fixture *f)
{
    ta_request request = request_of(100, 0, 0);
    ta_buffer zero, *none = NULL;
    ta_result result = TA_OK;
    ta_block_info info;
    void *ptr = book_alloc_ok(f, 100);
    memset(&zero, 0, sizeof zero);
    CHECK(ta_allocator_alloc(f->a, NULL, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_alloc(f->a, NULL, NULL) == NULL);
    CHECK_OK(ta_allocator_free(f->a, NULL, 0, 0, 0));
    CHECK_OK(ta_allocator_free(f->a, NULL, 100, 64, 7));
    CHECK_RESULT(ta_allocator_resize_in_place(f->a, NULL, 0, 100), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_remap(f->a, NULL, 0, 100, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_remap(f->a, NULL, 0, 100, NULL) == NULL);
    CHECK_OK(ta_allocator_trim(f->a, TA_UNLIMITED, NULL));
    CHECK_RESULT(ta_allocator_get_stats(f->a, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_device(f->a, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_describe(f->a, ptr, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_describe(f->a, NULL, &info) != TA_OK);
    CHECK_RESULT(ta_allocator_alloc_buffer(f->a, &request, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_alloc_buffer(f->a, NULL, &zero), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_check_buffer(f->a, none), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_check_buffer(f->a, &zero) != TA_OK);
    CHECK_RESULT(ta_allocator_free_buffer(f->a, none, 0), TA_ERROR_INVALID_ARGUMENT);
    check_books(f);
}

static void null_arguments_are_errors(void)
{
    ta_allocator none = no_allocator();
    ta_request request = request_of(100, 0, 0);
    ta_result result = TA_OK;
    ta_buffer buffer;
    ta_block_info info;
    ta_device d;
    ta_stats s;
    int x = 0;
    TEST_ALLOW_ASSERTS();
    memset(&buffer, 0, sizeof buffer);
    buffer.data = &x;
    CHECK(ta_allocator_alloc(none, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_free(none, &x, 0, 0, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_resize_in_place(none, &x, 0, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_remap(none, &x, 0, 1, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_empty_cache(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_trim(none, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_stats(none, &s), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_device(none, &d), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_dispose(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_allocator_destroy(none));
    CHECK_RESULT(ta_allocator_describe(none, &x, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_alloc_buffer(none, &request, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK(buffer.data == NULL);
    buffer.data = &x;
    CHECK_RESULT(ta_allocator_check_buffer(none, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_free_buffer(none, &buffer, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_arena_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_direct_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_destroy(NULL));
    CHECK_OK(ta_arena_destroy(NULL));
    CHECK_OK(ta_direct_destroy(NULL));
    for_each_variant(null_arguments, 0);
}

/* Every call that takes a pointer answers the same about a bad one, and nothing changes. */
static void check_bad_pointer(fixture *f, void *ptr, ta_result want)
{
    ta_block_info info;
    ta_result result = TA_OK;
    CHECK_RESULT(ta_allocator_free(f->a, ptr, 0, 0, 0), want);
    CHECK_RESULT(ta_allocator_free(f->a, ptr, 64, 0, 0), want);
    CHECK_RESULT(ta_allocator_resize_in_place(f->a, ptr, 0, 100), want);
    CHECK(ta_allocator_remap(f->a, ptr, 0, 100, &result) == NULL);
    CHECK_RESULT(result, want);
    CHECK_RESULT(ta_allocator_describe(f->a, ptr, &info), want);
    check_books(f);
}

static void bad_pointers(fixture *f)
{
    static const size_t sizes[] = {64, 100, 3000, 70000, 300000};
    size_t i, count = sizeof sizes / sizeof sizes[0];
    ta_pool *other;
    int on_stack = 0;
    void *theirs;
    CHECK_OK(ta_pool_create(NULL, &other));
    theirs = ta_pool_alloc(other, 100, NULL);
    check_bad_pointer(f, &on_stack, TA_ERROR_FOREIGN); /* a fresh allocator */
    for (i = 0; i < count; i++) {
        book_alloc_ok(f, sizes[i]);
        book_alloc_ok(f, 64); /* the one before is never the last */
    }
    check_bad_pointer(f, &on_stack, TA_ERROR_FOREIGN);
    check_bad_pointer(f, theirs, TA_ERROR_FOREIGN);
    check_bad_pointer(f, (void *)(uintptr_t)64, TA_ERROR_FOREIGN);
    check_bad_pointer(f, (void *)~(uintptr_t)63, TA_ERROR_FOREIGN);
    for (i = 0; i < f->live_count; i++) {
        check_bad_pointer(f, f->live[i].ptr + 1, TA_ERROR_INTERIOR);
        check_bad_pointer(f, f->live[i].ptr + f->live[i].size - 1, TA_ERROR_INTERIOR);
    }
    for (i = 0; i < f->live_count; i++) {
        CHECK_RESULT(ta_allocator_free(f->a, f->live[i].ptr, f->live[i].size + 1, 0, 0), TA_ERROR_SIZE_MISMATCH);
        CHECK_RESULT(ta_allocator_free(f->a, f->live[i].ptr, f->live[i].size - 1, 0, 0), TA_ERROR_SIZE_MISMATCH);
    }
    check_books(f);
    for (i = 0; i < count; i++) { /* now live[i] is the small one behind the freed one */
        void *ptr = f->live[i].ptr;
        CHECK_OK(book_free(f, i));
        check_bad_pointer(f, ptr, TA_ERROR_STALE); /* freed twice */
    }
    CHECK_OK(ta_pool_free(other, theirs));
    CHECK_OK(ta_pool_destroy(other));
    for (i = 0; i < f->live_count; i++) {
        CHECK(holds_fill(&f->live[i]));
    }
}

static void bad_pointers_are_errors_and_change_nothing(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(bad_pointers, 0);
}

static void buffers(fixture *f)
{
    static const size_t sizes[] = {100, 3000, 300000};
    size_t i;
    for (i = 0; i < 3; i++) {
        ta_request request = request_of(sizes[i], 0, 0);
        ta_buffer a, copy, b, forged;
        uint64_t frees;
        CHECK_OK(ta_allocator_alloc_buffer(f->a, &request, &a));
        copy = a;
        CHECK_OK(ta_allocator_check_buffer(f->a, &copy));
        forged = a;
        forged.id.owner++;
        CHECK_RESULT(ta_allocator_check_buffer(f->a, &forged), TA_ERROR_FOREIGN);
        CHECK_RESULT(ta_allocator_free_buffer(f->a, &forged, 0), TA_ERROR_FOREIGN);
        forged = a;
        forged.id.generation--;
        CHECK_RESULT(ta_allocator_free_buffer(f->a, &forged, 0), TA_ERROR_STALE);
        CHECK_OK(ta_allocator_check_buffer(f->a, &a)); /* still */
        CHECK_OK(ta_allocator_free_buffer(f->a, &a, 0));
        CHECK_RESULT(ta_allocator_check_buffer(f->a, &copy), TA_ERROR_STALE);
        CHECK_RESULT(ta_allocator_free_buffer(f->a, &copy, 0), TA_ERROR_STALE);
        CHECK_OK(ta_allocator_alloc_buffer(f->a, &request, &b)); /* perhaps at the same place */
        CHECK_RESULT(ta_allocator_check_buffer(f->a, &copy), TA_ERROR_STALE);
        frees = stats_of(f).deallocation_count;
        CHECK_RESULT(ta_allocator_free_buffer(f->a, &copy, 0), TA_ERROR_STALE);
        CHECK_EQ(stats_of(f).deallocation_count, frees);
        CHECK(copy.data != NULL);
        CHECK_OK(ta_allocator_check_buffer(f->a, &b));
        copy = b;
        CHECK_OK(ta_allocator_free_buffer(f->a, &b, 0));
        CHECK_OK(ta_allocator_empty_cache(f->a)); /* its memory is gone from here, but it was ours */
        CHECK_RESULT(ta_allocator_check_buffer(f->a, &copy), TA_ERROR_STALE);
        CHECK_RESULT(ta_allocator_free_buffer(f->a, &copy, 0), TA_ERROR_STALE);
    }
}

static void copies_of_a_buffer_go_stale_together(void)
{
    TEST_ALLOW_ASSERTS();
    for_each_variant(buffers, 0);
}

/*---------------------------------------------------------------------------------------------------------
  Failure at every call of the backend.
  -------------------------------------------------------------------------------------------------------*/
static int is_failure(ta_result result)
{
    return result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_BACKEND || result == TA_ERROR_FRAGMENTED;
}

/* After a call in which the backend failed, and after the next one. */
static void check_failure(fixture *f)
{
    uint64_t failed = tb_counting_failed(&f->counting);
    if (failed != f->failed_seen || f->failed_before) {
        check_books(f);
    }
    f->failed_before = failed != f->failed_seen;
    f->failed_seen = failed;
}

static void try_alloc(fixture *f, size_t size, size_t alignment, uint32_t flags)
{
    ta_result result;
    (void)book_alloc(f, size, alignment, flags, &result);
    CHECK(result == TA_OK || is_failure(result));
    check_failure(f);
}

static void try_free(fixture *f, size_t i)
{
    if (i < f->live_count) {
        ta_result result = book_free(f, i);
        CHECK(result == TA_OK || is_failure(result));
        check_failure(f);
    }
}

static void try_resize(fixture *f, size_t i, size_t size)
{
    if (i < f->live_count) {
        ta_result result = book_resize(f, i, size);
        CHECK(result == TA_OK || result == TA_ERROR_WOULD_MOVE || is_failure(result));
        check_failure(f);
    }
}

static void try_trim(fixture *f, size_t keep)
{
    ta_result result = ta_allocator_trim(f->a, keep, NULL);
    CHECK(result == TA_OK || is_failure(result));
    check_failure(f);
}

/* A mixture that goes through every call of the table that the allocator uses. */
static void scenario(fixture *f)
{
    size_t i;
    for (i = 0; i < 6; i++) {
        try_alloc(f, 100 + i * 700, 0, 0);
    }
    try_alloc(f, 30000, 0, TA_REQUEST_ZEROED);
    try_alloc(f, 70000, 0, 0);
    try_alloc(f, 200000, 0, 0);
    try_alloc(f, 100000, 0, 0);
    try_alloc(f, 1000, 128 * KIB, 0);
    try_alloc(f, 900000, 0, 0);
    try_free(f, 8); /* the middle: a hole after the trim */
    try_free(f, 3);
    try_trim(f, 0);
    try_alloc(f, 150000, 0, TA_REQUEST_ZEROED);
    try_resize(f, 0, 50);
    try_resize(f, f->live_count - 1, 400000);
    try_free(f, 7);
    try_alloc(f, 110000, 0, 0);
    try_trim(f, 100000);
    while (f->live_count > 2) {
        size_t before = f->live_count;
        try_free(f, f->live_count / 2);
        if (f->live_count == before) { /* refused: it stays, as it must */
            break;
        }
    }
    try_trim(f, 0);
    try_alloc(f, 250000, 0, 0);
    try_alloc(f, 500, 0, TA_REQUEST_ZEROED);
    check_books(f);
}

/* The backend works again: so does everything else. */
static void recover(fixture *f)
{
    size_t i;
    tb_counting_fail(&f->counting, TB_ANY, 0, 0);
    for (i = 0; i < f->live_count; i++) {
        CHECK(holds_fill(&f->live[i]));
    }
    check_books(f);
    book_alloc_ok(f, 600000);
    book_alloc_ok(f, 2000);
    check_books(f);
    book_free_all(f);
    CHECK_OK(ta_allocator_empty_cache(f->a));
    CHECK_EQ(stats_of(f).reserved_bytes, 0);
    check_books(f);
}

/* What the backend refused to take back, although it was asked: it takes it now, so that the test leaks nothing. */
static void take_back(tb_counting *c)
{
    tb_counting_fail(c, TB_ANY, 0, 0);
    CHECK_LE(c->segments.count, c->failed[TB_FREE]);
    CHECK_LE(c->ranges.count, c->failed[TB_RELEASE]);
    while (c->segments.count != 0) {
        const tb_span span = c->segments.at[0];
        CHECK_OK(tb_counting_free(c, (void *)span.from, (size_t)(span.to - span.from)));
    }
    while (c->ranges.count != 0) {
        const tb_span span = c->ranges.at[0];
        CHECK_OK(tb_counting_release(c, (void *)span.from, (size_t)(span.to - span.from)));
    }
}

/* Fails call n for every n; on != 0: and all calls after it. */
static void fail_every_call(int on)
{
    size_t i;
    for (i = 0; i < VARIANT_COUNT; i++) {
        fixture *f = &the_fixture;
        uint64_t n, calls;
        test_context("%s, no failure", variants[i].name);
        CHECK_OK(fixture_open(f, &variants[i], 0, 0, 0));
        if (!f->counted || (f->cuda != NULL && ((f->v->options & SINGLE) != 0 || f->v->source >= SOURCE_CUDA_ASYNC))) {
            fixture_close(f);
            continue;
        }
        scenario(f);
        CHECK_EQ(f->live_count, 4);
        CHECK_EQ(tb_counting_failed(&f->counting), 0);
        calls = f->counting.call_count;
        CHECK_GT(calls, 0);
        fixture_close(f);
        for (n = 1; n <= calls; n++) {
            test_context("%s, call %u fails", variants[i].name, (unsigned)n);
            if (fixture_open(f, &variants[i], 0, n, on) == TA_OK) {
                scenario(f);
                recover(f);
            } else {
                CHECK_GT(tb_counting_failed(&f->counting), 0);
                take_back(&f->counting); /* giving up may have failed as well */
            }
            fixture_close(f);
        }
    }
}

static void backend_fails_once_at_every_call(void)
{
    fail_every_call(0);
}

static void backend_fails_from_every_call_on(void)
{
    fail_every_call(1);
}

#ifndef CONTRACT_CUDA
/* Memory that the backend refuses to take back at the end is the backend's; the rest must not suffer. */
static void backend_fails_in_dispose(void)
{
    size_t i;
    for (i = 0; i < VARIANT_COUNT; i++) {
        fixture *f = &the_fixture;
        if (variants[i].source != SOURCE_COUNTING && variants[i].source != SOURCE_SEGMENTS) {
            continue;
        }
        test_context("%s", variants[i].name);
        CHECK_OK(fixture_open(f, &variants[i], 0, 0, 0));
        scenario(f);
        tb_counting_fail(&f->counting, TB_ANY, 1, 0); /* the first call of it */
        CHECK_OK(ta_allocator_dispose(f->a));
        CHECK_EQ(stats_of(f).reserved_bytes, 0);
        CHECK_EQ(tb_counting_failed(&f->counting), 1);
        CHECK_EQ(f->counting.segments.count + f->counting.ranges.count, 1);
        tb_counting_check(&f->counting, 0);
        CHECK_OK(ta_allocator_destroy(f->a));
        take_back(&f->counting);
        f->a = no_allocator();
        fixture_close(f);
    }
}
#endif

/*---------------------------------------------------------------------------------------------------------
  Threads, budgets, and the test backends themselves.
  -------------------------------------------------------------------------------------------------------*/
#ifndef TENSORALLOC_NO_THREADS
#define THREAD_COUNT 3
#define THREAD_SLOTS 16

typedef struct shared_slots {
    pthread_mutex_t lock;
    entry slot[THREAD_SLOTS];
} shared_slots;

typedef struct worker {
    fixture *f;
    shared_slots *shared;
    uint64_t random;
    uint64_t errors, allocations, refused;
    int rounds;
} worker;

static void *work(void *argument)
{
    worker *w = (worker *)argument;
    int i;
    for (i = 0; i < w->rounds; i++) {
        const uint32_t most = 1u << (3 + test_below(&w->random, 15));
        ta_request request = request_of((size_t)1 + test_below(&w->random, most), 0, 0);
        entry mine, theirs;
        uint32_t s = test_below(&w->random, THREAD_SLOTS);
        mine.ptr = (unsigned char *)ta_allocator_alloc(w->f->a, &request, NULL);
        mine.size = mine.ptr != NULL ? request.size_bytes : 0;
        mine.fill = (unsigned char)i;
        w->refused += mine.ptr == NULL;
        w->allocations += mine.ptr != NULL;
        if (mine.ptr != NULL) {
            memory_fill(mine.ptr, mine.fill, mine.size);
        }
        pthread_mutex_lock(&w->shared->lock);
        theirs = w->shared->slot[s];
        w->shared->slot[s] = mine;
        pthread_mutex_unlock(&w->shared->lock);
        if (theirs.ptr != NULL) { /* mostly another thread's */
            w->errors += !holds_fill(&theirs);
            w->errors += ta_allocator_free(w->f->a, theirs.ptr, theirs.size, 0, 0) != TA_OK;
        }
    }
    return NULL;
}

static void threads(fixture *f)
{
    static shared_slots shared;
    worker workers[THREAD_COUNT];
    pthread_t ids[THREAD_COUNT];
    int i, started = 0;
    if ((f->v->options & SINGLE) != 0) {
        return;
    }
    memset(&shared, 0, sizeof shared);
    pthread_mutex_init(&shared.lock, NULL);
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREAD_COUNT; i++) {
        workers[i].f = f;
        workers[i].shared = &shared;
        workers[i].random = test_now.seed + (uint64_t)i;
        workers[i].rounds = f->v->kind == KIND_DIRECT ? 200 : 1000;
        started += pthread_create(&ids[i], NULL, work, &workers[i]) == 0;
        REQUIRE(started == i + 1);
    }
    for (i = 0; i < THREAD_COUNT; i++) {
        pthread_join(ids[i], NULL);
        CHECK_EQ(workers[i].errors, 0);
        if (f->v->source != SOURCE_FIXED) { /* which may be full */
            CHECK_EQ(workers[i].refused, 0);
        }
        f->allocation_count += workers[i].allocations;
    }
    for (i = 0; i < THREAD_SLOTS; i++) {
        if (shared.slot[i].ptr != NULL) {
            f->live[f->live_count++] = shared.slot[i];
        }
    }
    f->deallocation_count = f->allocation_count - f->live_count;
    f->allocated_bytes = stats_of(f).allocated_bytes;
    f->freed_bytes = stats_of(f).freed_bytes;
    check_books(f); /* exact when no call is in progress */
    book_free_all(f);
    CHECK_OK(ta_allocator_empty_cache(f->a));
    CHECK_EQ(stats_of(f).reserved_bytes, 0); /* the threads are gone, and their caches with them */
    pthread_mutex_destroy(&shared.lock);
}
#endif

static void threads_free_each_others_blocks(void)
{
#ifdef TENSORALLOC_NO_THREADS
    TEST_SKIP("built without threads");
#else
    for_each_variant(threads, 0);
#endif
}

#ifndef CONTRACT_CUDA /* the rest knows nothing of it */
static void one_budget_over_all_kinds(void)
{
    tb_counting counting;
    ta_budget_desc desc;
    ta_budget *budget = NULL;
    ta_budget_stats b;
    ta_pool_desc pool_desc;
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_pool *pool;
    ta_arena *arena;
    ta_direct *direct;
    ta_allocator all[3];
    void *last[3] = {NULL, NULL, NULL};
    ta_result result = TA_OK;
    int i, rounds = 0;
    memset(&desc, 0, sizeof desc);
    memset(&pool_desc, 0, sizeof pool_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    desc.limit_bytes = 8 * MIB;
    CHECK_OK(ta_budget_create(&desc, &budget));
    pool_desc.budget = arena_desc.budget = direct_desc.budget = budget;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    CHECK_OK(ta_direct_create(&direct_desc, &direct));
    all[0] = ta_pool_allocator(pool);
    all[1] = ta_arena_allocator(arena);
    all[2] = ta_direct_allocator(direct);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.allocator_count, 3);
    CHECK_EQ(b.limit_bytes, 8 * MIB);
    CHECK_EQ(b.reserved_bytes, 0);
    while (result == TA_OK && rounds < 100) {
        ta_request request = request_of(300000, 0, 0);
        size_t sum = 0;
        void *ptr = ta_allocator_alloc(all[rounds % 3], &request, &result);
        last[rounds % 3] = ptr != NULL ? ptr : last[rounds % 3];
        for (i = 0; i < 3; i++) {
            ta_stats s;
            CHECK_OK(ta_allocator_get_stats(all[i], &s));
            sum += s.reserved_bytes;
        }
        CHECK_OK(ta_budget_get_stats(budget, &b));
        CHECK_EQ(b.reserved_bytes, sum);
        CHECK_EQ(tb_counting_held(&counting), sum);
        CHECK_LE(b.peak_reserved_bytes, 8 * MIB);
        rounds++;
    }
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_GE(rounds, 12);
    CHECK_RESULT(ta_budget_destroy(budget), TA_ERROR_BUSY);
    CHECK_OK(ta_allocator_free(all[0], last[0], 0, 0, 0));
    CHECK_OK(ta_allocator_free(all[1], last[1], 0, 0, 0));
    if ((counting.given.caps & TA_CAP_RANGES) != 0) { /* what the pool and the arena hold free pays for the third */
        ta_request request = request_of(500000, 0, 0);
        CHECK(ta_allocator_alloc(all[2], &request, &result) != NULL);
        CHECK_OK(result);
    }
    CHECK_OK(ta_allocator_dispose(all[1])); /* a disposed one is no longer asked */
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.allocator_count, 2);
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_allocator_destroy(all[i]));
    }
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.reserved_bytes + b.allocator_count, 0);
    CHECK_OK(ta_budget_destroy(budget));
    CHECK_OK(ta_budget_destroy(NULL));
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

static void budget_arguments(void)
{
    ta_budget *budget = (ta_budget *)&budget;
    ta_budget_stats b;
    ta_budget_desc desc;
    ta_backend_vtable broken = *ta_backend_host().vtable;
    TEST_ALLOW_ASSERTS();
    memset(&desc, 0, sizeof desc);
    CHECK_RESULT(ta_budget_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_get_stats(NULL, &b), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_set_limit(NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    broken.free = NULL;
    desc.backend.vtable = &broken;
    CHECK_RESULT(ta_budget_create(&desc, &budget), TA_ERROR_INVALID_ARGUMENT);
    CHECK(budget == NULL);
    CHECK_OK(ta_budget_create(NULL, &budget));
    CHECK_RESULT(ta_budget_get_stats(budget, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.limit_bytes, TA_UNLIMITED);
    CHECK_OK(ta_budget_set_limit(budget, 12345));
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.limit_bytes, 12345);
    CHECK_OK(ta_budget_set_limit(budget, TA_UNLIMITED));
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.limit_bytes, TA_UNLIMITED);
    CHECK_OK(ta_budget_destroy(budget));
}

/* Tables that break the contract are turned away by every create function. */
static void check_broken(const ta_backend_vtable *table, void *self, ta_result want)
{
    ta_backend backend;
    ta_pool_desc pool_desc;
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_budget_desc budget_desc;
    ta_pool *pool = (ta_pool *)self;
    ta_arena *arena = (ta_arena *)self;
    ta_direct *direct = (ta_direct *)self;
    ta_budget *budget = (ta_budget *)self;
    backend.vtable = table;
    backend.self = self;
    memset(&pool_desc, 0, sizeof pool_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(&budget_desc, 0, sizeof budget_desc);
    pool_desc.backend = arena_desc.backend = direct_desc.backend = budget_desc.backend = backend;
    CHECK_RESULT(ta_backend_check(backend), want);
    CHECK_RESULT(ta_pool_create(&pool_desc, &pool), want);
    CHECK_RESULT(ta_arena_create(&arena_desc, &arena), want);
    CHECK_RESULT(ta_direct_create(&direct_desc, &direct), want);
    CHECK_RESULT(ta_budget_create(&budget_desc, &budget), want);
    CHECK(pool == NULL && arena == NULL && direct == NULL && budget == NULL);
}

static void broken_tables_are_refused(void)
{
    tb_clock clock;
    ta_backend good = tb_clock_init(&clock, TA_CAP_RANGES | TA_CAP_SEGMENTS, 0);
    const ta_backend_vtable table = clock.table;
    const ta_backend_info info = clock.given;
    TEST_ALLOW_ASSERTS();
    CHECK_OK(ta_backend_check(good));
    CHECK_OK(ta_backend_check(ta_backend_host()));
#define BROKEN(change, want) \
    do { \
        clock.table = table; \
        clock.given = info; \
        change; \
        check_broken(&clock.table, &clock, want); \
    } while (0)
    BROKEN(clock.table.struct_bytes--, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.name = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.info = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.alloc = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.free = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.reserve = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.release = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.commit = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.decommit = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.mark = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.is_done = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.wait = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.sync = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.zero = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.table.copy = NULL, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.granularity_bytes = 0, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.granularity_bytes = 65537, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.alignment_bytes = 0, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.alignment_bytes = 32, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.alignment_bytes = 96, TA_ERROR_INVALID_ARGUMENT);
    BROKEN(clock.given.caps = TA_CAP_ORDERED, TA_ERROR_UNSUPPORTED);
    BROKEN(clock.given.caps = 0, TA_ERROR_UNSUPPORTED);
#undef BROKEN
    clock.table = table;
    clock.given = info;
    clock.given.caps = TA_CAP_RANGES | TA_CAP_ORDERED;
    {
        ta_direct_desc desc;
        ta_direct *direct = (ta_direct *)&clock;
        memset(&desc, 0, sizeof desc);
        desc.backend = good;
        CHECK_RESULT(ta_direct_create(&desc, &direct), TA_ERROR_UNSUPPORTED); /* it needs segments */
        CHECK(direct == NULL);
    }
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

static void upstream_arguments(void)
{
    ta_pool *pool;
    ta_upstream state;
    ta_backend backend;
    TEST_ALLOW_ASSERTS();
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_RESULT(ta_backend_upstream(NULL, ta_pool_allocator(pool), 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&state, no_allocator(), 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&state, ta_pool_allocator(pool), 65537, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(pool), 4096, &backend));
    CHECK_OK(ta_backend_check(backend));
    {
        ta_backend_info info;
        backend.vtable->info(backend.self, &info);
        CHECK_EQ(info.granularity_bytes, 4096);
        CHECK_EQ(info.caps & (uint32_t)(TA_CAP_SEGMENTS | TA_CAP_RANGES), TA_CAP_SEGMENTS);
    }
    CHECK_OK(ta_pool_destroy(pool));
}

/* An upstream that is full says so in the words of the table, and the pool above passes on why. */
static void upstream_with_a_limit(void)
{
    static const size_t sizes[] = {100000, 20};
    ta_pool_desc below_desc, desc;
    ta_pool *below, *pool;
    ta_upstream state;
    tb_counting counting;
    size_t k;
    for (k = 0; k < 2; k++) {
        ta_result result = TA_OK;
        ta_stats s;
        void *last = NULL, *ptr;
        int count = 0;
        memset(&below_desc, 0, sizeof below_desc);
        memset(&desc, 0, sizeof desc);
        below_desc.limit_bytes = 3 * MIB;
        CHECK_OK(ta_pool_create(&below_desc, &below));
        CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(below), 0, &desc.backend));
        desc.backend = tb_counting_init(&counting, desc.backend, 0);
        CHECK_OK(ta_pool_create(&desc, &pool));
        while ((ptr = ta_pool_alloc(pool, sizes[k], &result)) != NULL && count < 100000) {
            last = ptr;
            count++;
        }
        CHECK_GE(count, 10);
        CHECK(result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED); /* it has no limit itself */
        CHECK_OK(ta_pool_get_stats(below, &s));
        CHECK_LE(s.peak_reserved_bytes, 3 * MIB);
        CHECK_OK(ta_pool_free(pool, last));
        CHECK(ta_pool_alloc(pool, sizes[k], &result) != NULL);
        CHECK_OK(ta_pool_destroy(pool));
        CHECK_OK(ta_pool_get_stats(below, &s));
        CHECK_EQ(s.live_count, 0);
        CHECK_OK(ta_pool_destroy(below));
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

/* The watcher sees what it is there to see. */
static void counting_backend_catches_violations(void)
{
    tb_counting counting;
    ta_backend b = tb_counting_init(&counting, ta_backend_host(), 0);
    const size_t page = counting.given.granularity_bytes;
    uint64_t seen = 0;
    void *segment = NULL, *range = NULL;
    char *at;
    if ((counting.given.caps & TA_CAP_RANGES) == 0) {
        TEST_SKIP("the host backend has no address ranges");
        tb_counting_end(&counting);
        return;
    }
#define VIOLATES(call) \
    do { \
        (void)(call); \
        CHECK_GT(counting.violations.count, seen); \
        seen = counting.violations.count; \
    } while (0)
    CHECK_OK(b.vtable->alloc(b.self, 2 * page, &segment));
    CHECK_OK(b.vtable->reserve(b.self, 16 * page, page, 0, &range));
    at = (char *)range;
    CHECK_OK(b.vtable->commit(b.self, at, 4 * page));
    CHECK_OK(b.vtable->commit(b.self, at + 4 * page, 2 * page));
    CHECK_EQ(tb_counting_held(&counting), 8 * page);
    VIOLATES(b.vtable->commit(b.self, at + 3 * page, page));
    CHECK_OK(b.vtable->decommit(b.self, at + 3 * page, 2 * page)); /* over two commits */
    CHECK_EQ(tb_counting_held(&counting), 6 * page);
    VIOLATES(b.vtable->decommit(b.self, at + 2 * page, 2 * page));
    tb_counting_fail(&counting, TB_ANY, 1, 1); /* the rest does not reach the system */
    VIOLATES(b.vtable->free(b.self, segment, page));
    VIOLATES(b.vtable->free(b.self, at, 2 * page));
    VIOLATES(b.vtable->release(b.self, range, 8 * page));
    VIOLATES(b.vtable->commit(b.self, at + 8 * page, page / 2));
    VIOLATES(b.vtable->commit(b.self, at + 15 * page, 2 * page));
    VIOLATES(b.vtable->alloc(b.self, 0, &segment));
    VIOLATES(b.vtable->reserve(b.self, page, page * 3, 0, &range));
    VIOLATES(b.vtable->zero(b.self, at + page, 2 * page + 1, 0)); /* a byte too many */
    VIOLATES(b.vtable->copy(b.self, at, at + page / 2, page, 0));
#undef VIOLATES
    CHECK_EQ(tb_counting_failed(&counting), 9);
    tb_counting_fail(&counting, TB_ANY, 0, 0);
    CHECK_OK(b.vtable->free(b.self, segment, 2 * page));
    CHECK_OK(b.vtable->release(b.self, range, 16 * page));
    CHECK_EQ(tb_counting_held(&counting), 0);
    CHECK_EQ(counting.violations.count, seen);
    tb_counting_end(&counting);
}

static void counting_backend_fails_on_demand(void)
{
    tb_counting counting;
    ta_backend b = tb_counting_init(&counting, ta_backend_host(), 0);
    const size_t page = counting.given.granularity_bytes;
    ta_backend_error error;
    void *ptr = NULL, *other = NULL;
    tb_counting_fail(&counting, TB_ALLOC, 2, 0);
    CHECK_OK(b.vtable->alloc(b.self, page, &ptr));
    CHECK_RESULT(b.vtable->alloc(b.self, page, &other), TA_ERROR_OUT_OF_MEMORY);
    CHECK(other == NULL);
    b.vtable->last_error(b.self, &error);
    CHECK_EQ(error.code, TB_ERROR_CODE);
    CHECK_OK(b.vtable->alloc(b.self, page, &other));
    CHECK_OK(b.vtable->free(b.self, other, page));
    tb_counting_fail(&counting, TB_FREE, 1, 1);
    CHECK_RESULT(b.vtable->free(b.self, ptr, page), TA_ERROR_BACKEND);
    CHECK_RESULT(b.vtable->free(b.self, ptr, page), TA_ERROR_BACKEND);
    CHECK_EQ(counting.segments.count, 1);
    tb_counting_fail(&counting, TB_ANY, 0, 0);
    CHECK_OK(b.vtable->free(b.self, ptr, page));
    counting.memory_max_bytes = 2 * page;
    CHECK_RESULT(b.vtable->alloc(b.self, 3 * page, &ptr), TA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(counting.calls[TB_ALLOC], 4);
    CHECK_EQ(tb_counting_failed(&counting), 3);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

TEST_MAIN(TEST_CASE(counting_backend_catches_violations), TEST_CASE(counting_backend_fails_on_demand),
          TEST_CASE(allocate_returns_valid_buffer), TEST_CASE(allocate_zero_size_is_an_error),
          TEST_CASE(free_allows_reuse), TEST_CASE(empty_cache_leaves_nothing_cached),
          TEST_CASE(dispose_cleans_up), TEST_CASE(reserved_is_in_use_plus_cached_after_each_call),
          TEST_CASE(alignments_up_to_a_mebibyte), TEST_CASE(absurd_alignments_are_errors),
          TEST_CASE(absurd_sizes_are_errors), TEST_CASE(unknown_flags_are_errors),
          TEST_CASE(resize_in_place_keeps_contents_and_never_moves), TEST_CASE(remap_keeps_contents),
          TEST_CASE(trim_to_a_target), TEST_CASE(limit_is_never_exceeded),
          TEST_CASE(cached_only_never_asks_the_backend), TEST_CASE(zeroed_requests_read_as_zero),
          TEST_CASE(device_is_the_backends), TEST_CASE(null_arguments_are_errors),
          TEST_CASE(bad_pointers_are_errors_and_change_nothing),
          TEST_CASE(copies_of_a_buffer_go_stale_together), TEST_CASE(backend_fails_once_at_every_call),
          TEST_CASE(backend_fails_from_every_call_on), TEST_CASE(backend_fails_in_dispose),
          TEST_CASE(threads_free_each_others_blocks), TEST_CASE(one_budget_over_all_kinds),
          TEST_CASE(budget_arguments), TEST_CASE(broken_tables_are_refused), TEST_CASE(upstream_arguments),
          TEST_CASE(upstream_with_a_limit))
#endif
