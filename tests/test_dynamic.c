/* test_dynamic.c - tensors with bounds: what [TA:DYNAMIC] says, sentence by sentence; random programs against a
   model; limits; handles, callbacks and threads; mappings; order between streams. Failing calls:
   test_dynamic_faults.c. */
#if !defined(_WIN32) || defined(__MINGW32__)
    #include <pthread.h>
    #include <sched.h>
    #include <time.h>
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static uint64_t wall_clock_ns = 1234567890123456789u;
#define TENSORALLOC_WALL_CLOCK_NS() wall_clock_ns
#include "test.h"
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "backends.h"

#if defined(__SANITIZE_ADDRESS__)
    #define SLOWER 4
    #define UNDER_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
    #define SLOWER 16
    #define UNDER_SANITIZER 1
#elif defined(__has_feature)
    #if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
        #define SLOWER 16
        #define UNDER_SANITIZER 1
    #endif
#endif
#ifndef SLOWER
    #define SLOWER 1
#endif
#ifndef UNDER_SANITIZER
    #define UNDER_SANITIZER (SLOWER > 1) /* an emulator, which gives SLOWER */
#endif

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

/* Through memory: registers of the x87 have more digits than a double. */
static double quotient(uint64_t a, uint64_t b, double of_nothing)
{
    volatile double result = b == 0 ? of_nothing : (double)a / (double)b;
    return result;
}

/*---------------------------------------------------------------------------------------------------------
  What the cases share.
  -------------------------------------------------------------------------------------------------------*/
static ta_dynamic_desc zero_desc(void)
{
    ta_dynamic_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

/* Exactly what is asked, so that sizes can be told in advance. */
static ta_dynamic_desc exact_desc(void)
{
    ta_dynamic_desc desc = zero_desc();
    desc.strategy = ta_strategy_exact();
    return desc;
}

static ta_shape_bounds bounds_of(size_t min, size_t expected, size_t max)
{
    ta_shape_bounds bounds;
    memset(&bounds, 0, sizeof bounds);
    bounds.dtype = TA_U8;
    bounds.rank = 1;
    bounds.min[0] = (int64_t)min;
    bounds.expected[0] = (int64_t)expected;
    bounds.max[0] = max == TA_UNLIMITED ? TA_DIM_UNBOUNDED : (int64_t)max;
    return bounds;
}

static ta_dynamic_request request_of(const ta_shape_bounds *bounds, uint32_t flags)
{
    ta_dynamic_request request;
    memset(&request, 0, sizeof request);
    request.bounds = bounds;
    request.flags = flags;
    return request;
}

static ta_dynamic *open_dynamic(const ta_dynamic_desc *desc)
{
    ta_dynamic *d = NULL;
    CHECK_OK(ta_dynamic_create(desc, &d));
    if (d == NULL) {
        abort(); /* nothing can be tested */
    }
    return d;
}

static ta_handle no_handle(void)
{
    ta_handle none;
    memset(&none, 0, sizeof none);
    return none;
}

static int is_zero(const void *what, size_t size)
{
    const unsigned char *at = (const unsigned char *)what;
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

/* A tensor of bytes. */
static ta_handle make(ta_dynamic *d, size_t min, size_t expected, size_t max)
{
    const ta_shape_bounds bounds = bounds_of(min, expected, max);
    ta_handle h = no_handle();
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
    return h;
}

static ta_result resize(ta_dynamic *d, ta_handle h, size_t size)
{
    const int64_t dims = (int64_t)size;
    return ta_dynamic_resize(d, h, &dims, 1);
}

static ta_result fits_in_place(ta_dynamic *d, ta_handle h, size_t size)
{
    const int64_t dims = (int64_t)size;
    return ta_dynamic_will_fit_in_place(d, h, &dims, 1);
}

static ta_handle_info info_of(ta_dynamic *d, ta_handle h)
{
    ta_handle_info info;
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_dynamic_get_handle(d, h, &info));
    CHECK(info.data == ta_dynamic_get_data(d, h));
    return info;
}

static ta_dynamic_stats figures_of(ta_dynamic *d)
{
    ta_dynamic_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_dynamic_get_stats(d, &s));
    return s;
}

static ta_stats stats_of(ta_dynamic *d)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_allocator_get_stats(ta_dynamic_allocator(d), &s));
    return s;
}

/* Contents that tell where they belong. */
static unsigned char byte_at(uint64_t seed, size_t i)
{
    return (unsigned char)((seed + i / 8) * 0x9E3779B97F4A7C15u >> (8 * (i & 7)));
}

static void fill(void *data, uint64_t seed, size_t from, size_t to)
{
    unsigned char *at = (unsigned char *)data;
    for (; from < to && (from & 7) != 0; from++) {
        at[from] = byte_at(seed, from);
    }
    for (; to - from >= 8 && from < to; from += 8) {
        const uint64_t word = (seed + from / 8) * 0x9E3779B97F4A7C15u;
        int k;
        for (k = 0; k < 8; k++) {
            at[from + (size_t)k] = (unsigned char)(word >> (8 * k));
        }
    }
    for (; from < to; from++) {
        at[from] = byte_at(seed, from);
    }
}

/* Bytes of [from, to) that are not what was filled in. */
static size_t wrong_bytes(const void *data, uint64_t seed, size_t from, size_t to)
{
    const unsigned char *at = (const unsigned char *)data;
    size_t wrong = 0;
    for (; from < to; from++) {
        wrong += at[from] != byte_at(seed, from);
    }
    return wrong;
}

static void same_info(const ta_handle_info *a, const ta_handle_info *b)
{
    CHECK(a->data == b->data);
    CHECK_EQ(a->effective_bytes, b->effective_bytes);
    CHECK_EQ(a->capacity_bytes, b->capacity_bytes);
    CHECK_EQ(a->in_place_bytes, b->in_place_bytes);
    CHECK_EQ(a->use_count, b->use_count);
    CHECK(memcmp(a->dims, b->dims, sizeof a->dims) == 0);
}

/* Destroys it; all statistics that say what is held must say nothing. */
static void close_dynamic(ta_dynamic *d)
{
    ta_stats s;
    ta_dynamic_stats f;
    CHECK_OK(ta_allocator_dispose(ta_dynamic_allocator(d)));
    s = stats_of(d);
    f = figures_of(d);
    CHECK_EQ(s.reserved_bytes + s.in_use_bytes + s.cached_bytes + s.live_count + s.requested_bytes, 0);
    CHECK_EQ(s.address_range_bytes, 0);
    CHECK_EQ(f.handle_count + f.effective_bytes + f.capacity_bytes + f.wasted_bytes + f.cached_bytes, 0);
    CHECK(f.average_utilization == 1.0);
    CHECK_OK(ta_dynamic_destroy(d));
}

/*---------------------------------------------------------------------------------------------------------
  Making tensors.
  -------------------------------------------------------------------------------------------------------*/
static void first_shape_is_the_expected_one_or_the_given(void)
{
    static const size_t maxima[] = {4 * KIB, 4 * MIB}; /* a block, a range */
    const ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    size_t i;
    for (i = 0; i < 2; i++) {
        const ta_shape_bounds bounds = bounds_of(10, 3000, maxima[i]);
        ta_dynamic_request request = request_of(&bounds, 0);
        const int64_t dims = 77;
        ta_handle h, other;
        ta_handle_info info;
        h = make(d, 10, 3000, maxima[i]);
        info = info_of(d, h);
        CHECK(info.data != NULL);
        CHECK_EQ(info.effective_bytes, 3000);
        CHECK_GE(info.capacity_bytes, 3000);
        CHECK_LE(info.capacity_bytes, maxima[i]);
        CHECK_GE(info.in_place_bytes, info.capacity_bytes);
        CHECK(info.utilization == quotient(info.effective_bytes, info.capacity_bytes, 0.0));
        CHECK_EQ(info.rank, 1);
        CHECK_EQ(info.dims[0], 3000);
        CHECK(memcmp(&info.bounds, &bounds, sizeof bounds) == 0);
        CHECK_EQ(info.allocation_time_ns, wall_clock_ns);
        CHECK_EQ(info.use_count, 1);
        CHECK_EQ(info.stream, 0);
        CHECK(info.tag == NULL);
        CHECK_EQ((uintptr_t)info.data % 64, 0);
        if (i == 1 && info.in_range) {
            CHECK_GE(info.in_place_bytes, maxima[i]);
        }
        CHECK(i == 1 || !info.in_range);
        request.dims = &dims;
        request.tag = "cache";
        request.stream = 5;
        wall_clock_ns += 1000;
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &other));
        info = info_of(d, other);
        CHECK_EQ(info.effective_bytes, 77);
        CHECK_EQ(info.dims[0], 77);
        CHECK_EQ(info.allocation_time_ns, wall_clock_ns);
        CHECK_EQ(info.stream, 5);
        CHECK_STRING(info.tag, "cache");
        CHECK_OK(resize(d, other, 78)); /* the time is that of the allocation */
        wall_clock_ns += 1000;
        CHECK_OK(resize(d, other, 79));
        CHECK_EQ(info_of(d, other).allocation_time_ns, wall_clock_ns - 1000);
        CHECK_EQ(info_of(d, other).use_count, 3);
        CHECK_OK(ta_dynamic_free(d, h));
        CHECK_OK(ta_dynamic_free(d, other));
    }
    close_dynamic(d);
}

static void shapes_of_any_rank_and_dtype(void)
{
    const ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_shape_bounds bounds;
    ta_handle h;
    ta_handle_info info;
    int i;
    memset(&bounds, 0, sizeof bounds); /* rank 0: one element */
    bounds.dtype = TA_F64;
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
    CHECK_EQ(info_of(d, h).effective_bytes, 8);
    CHECK_OK(ta_dynamic_resize(d, h, NULL, 0));
    CHECK_OK(ta_dynamic_free(d, h));
    bounds.dtype = TA_F32;
    bounds.rank = TA_RANK_MAX;
    for (i = 0; i < TA_RANK_MAX; i++) {
        bounds.min[i] = 0;
        bounds.expected[i] = 1;
        bounds.max[i] = 2;
    }
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
    CHECK_EQ(info_of(d, h).effective_bytes, 4);
    CHECK_OK(ta_dynamic_resize(d, h, bounds.max, TA_RANK_MAX));
    info = info_of(d, h);
    CHECK_EQ(info.effective_bytes, (size_t)4 << TA_RANK_MAX);
    CHECK_EQ(info.rank, TA_RANK_MAX);
    CHECK(memcmp(info.dims, bounds.max, sizeof info.dims) == 0);
    CHECK_OK(ta_dynamic_resize(d, h, bounds.min, TA_RANK_MAX)); /* all zero */
    CHECK_EQ(info_of(d, h).effective_bytes, 0);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

static void alignments_hold_through_moves(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    size_t alignment, k;
    for (alignment = 1; alignment != 0 && alignment <= (size_t)1 << 30; alignment *= alignment < 2 * MIB ? 2 : 512) {
        for (k = 0; k < 2; k++) {
            const ta_shape_bounds bounds = bounds_of(0, 1000, k == 0 ? 2 * KIB : 300 * KIB);
            ta_dynamic_request request = request_of(&bounds, 0);
            ta_handle h;
            ta_result result;
            request.alignment_bytes = alignment;
            result = ta_dynamic_alloc_request(d, &request, &h);
            if (alignment == (size_t)1 << 30 && result != TA_OK) {
                CHECK(result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED);
                continue;
            }
            CHECK_OK(result);
            CHECK_EQ((uintptr_t)ta_dynamic_get_data(d, h) % (alignment > 64 ? alignment : 64), 0);
            CHECK_OK(resize(d, h, 500 * KIB)); /* outside the bounds: it may move */
            CHECK_EQ((uintptr_t)ta_dynamic_get_data(d, h) % (alignment > 64 ? alignment : 64), 0);
            CHECK_OK(ta_dynamic_free(d, h));
        }
    }
    close_dynamic(d);
}

static void bad_requests_are_errors(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_shape_bounds bounds = bounds_of(0, 100, 1000);
    ta_dynamic_request request;
    ta_handle h;
    int64_t dims = -1;
    ta_stats before, after;
    TEST_ALLOW_ASSERTS();
    before = stats_of(d);
#define REFUSED(change, want) \
    do { \
        bounds = bounds_of(0, 100, 1000); \
        request = request_of(&bounds, 0); \
        memset(&h, 1, sizeof h); \
        change; \
        CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), want); \
        CHECK(is_zero(&h, sizeof h)); \
    } while (0)
    REFUSED(request.bounds = NULL, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(request.flags = 0x10000u, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(request.flags = TA_REQUEST_CACHED_ONLY, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(request.reserved = 1, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(request.alignment_bytes = 65, TA_ERROR_INVALID_ALIGNMENT);
    REFUSED(request.alignment_bytes = (size_t)1 << 31, TA_ERROR_INVALID_ALIGNMENT);
    REFUSED(bounds.rank = -1, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(bounds.rank = TA_RANK_MAX + 1, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(bounds.dtype = TA_DTYPE_COUNT, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(bounds.min[0] = -1, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(bounds.expected[0] = 1001, TA_ERROR_BOUNDS);
    REFUSED(bounds.min[0] = 101, TA_ERROR_BOUNDS);
    REFUSED(bounds.expected[0] = bounds.max[0] = 0, TA_ERROR_BOUNDS);
    REFUSED((bounds.max[0] = INT64_MAX, bounds.dtype = TA_F64), TA_ERROR_OVERFLOW);
    REFUSED(request.dims = &dims, TA_ERROR_INVALID_ARGUMENT);
    REFUSED((dims = INT64_MAX, bounds.dtype = TA_F32, request.dims = &dims), TA_ERROR_OVERFLOW);
#undef REFUSED
    memset(&h, 1, sizeof h);
    CHECK_RESULT(ta_dynamic_alloc_request(d, NULL, &h), TA_ERROR_INVALID_ARGUMENT);
    CHECK(is_zero(&h, sizeof h));
    memset(&h, 1, sizeof h);
    CHECK_RESULT(ta_dynamic_alloc(d, NULL, &h), TA_ERROR_INVALID_ARGUMENT);
    CHECK(is_zero(&h, sizeof h));
    memset(&h, 1, sizeof h);
    CHECK_RESULT(ta_dynamic_alloc(NULL, &bounds, &h), TA_ERROR_INVALID_ARGUMENT);
    CHECK(is_zero(&h, sizeof h));
    CHECK_RESULT(ta_dynamic_alloc(d, &bounds, NULL), TA_ERROR_INVALID_ARGUMENT);
    after = stats_of(d);
    CHECK_EQ(after.live_count, 0);
    CHECK_EQ(after.reserved_bytes, before.reserved_bytes);
    CHECK_EQ(after.allocation_count, 0);
    close_dynamic(d);
}

static void null_arguments_are_errors(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc), *none = NULL;
    ta_handle h = make(d, 0, 100, 1000), zero = no_handle();
    ta_handle_info info;
    ta_dynamic_stats f;
    ta_fit fit;
    ta_tensor view;
    ta_result result = TA_OK;
    const ta_shape_bounds bounds = bounds_of(0, 100, 1000);
    const int64_t dims = 5;
    char text[10];
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_dynamic_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_dynamic_destroy(NULL));
    CHECK_RESULT(ta_dynamic_get_desc(none, &desc), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_desc(d, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_resize(none, h, &dims, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_resize(d, h, NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_dynamic_resize_data(none, h, &dims, 1, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_dynamic_resize_data(d, h, NULL, 1, NULL) == NULL);
    CHECK_RESULT(ta_dynamic_get_tensor(none, h, &view), TA_ERROR_INVALID_ARGUMENT);
    CHECK(is_zero(&view, sizeof view));
    CHECK_RESULT(ta_dynamic_get_tensor(d, h, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_free(none, h), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_observe(none, h, &dims, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_observe(d, h, NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_dynamic_get_data(none, h) == NULL);
    CHECK_RESULT(ta_dynamic_get_handle(none, h, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_handle(d, h, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(none, h, &dims, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, h, NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_record_use(none, h, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_would_fit(none, &bounds, 1, &fit), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_would_fit(d, NULL, 1, &fit), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_would_fit(d, &bounds, 1, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_stats(none, &f), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_stats(d, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(ta_dynamic_report(none, text, sizeof text), 0);
    CHECK_EQ(ta_dynamic_report(d, NULL, 10), 0);
    CHECK_OK(ta_dynamic_free(d, zero));
    CHECK_EQ(figures_of(d).handle_count, 1);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

static void options_are_checked_and_resolved(void)
{
    ta_dynamic_desc desc = zero_desc(), got;
    ta_dynamic *d = open_dynamic(NULL);
    ta_strategy_vtable broken = *ta_strategy_exact().vtable;
    tb_clock clock;
    ta_pool *pool;
    TEST_ALLOW_ASSERTS();
    CHECK_OK(ta_dynamic_get_desc(d, &got));
    CHECK_EQ(got.range_bytes_min, 64 * KIB);
    CHECK_EQ(got.limit_bytes, TA_UNLIMITED);
    CHECK_EQ(got.capacity_bytes_max, TA_UNLIMITED);
    CHECK_EQ(got.cached_bytes_max, TA_UNLIMITED);
    CHECK_GT(got.range_bytes, 0);
    CHECK_GT(got.unbounded_bytes, 0);
    CHECK_LE(got.unbounded_bytes, (uint64_t)64 << 30);
    CHECK_EQ(got.unbounded_bytes & (got.unbounded_bytes - 1), 0);
    CHECK_GT(got.handle_count_max, 0);
    CHECK(got.strategy.vtable != NULL);
    CHECK(got.upstream.vtable != NULL);
    CHECK(got.backend.vtable != NULL);
    CHECK_STRING(got.name, "dynamic");
    CHECK_EQ(got.huge_pages, TA_HUGE_PAGES_OFF);
    close_dynamic(d);
    desc.range_bytes_min = 12345;
    desc.limit_bytes = 1 * MIB;
    desc.capacity_bytes_max = 2 * MIB;
    desc.name = "a name that is much longer than thirty-one bytes";
    desc.strategy = ta_strategy_exact();
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_get_desc(d, &got));
    CHECK_EQ(got.range_bytes_min, 12345);
    CHECK_EQ(got.limit_bytes, 1 * MIB);
    CHECK_EQ(got.capacity_bytes_max, 2 * MIB);
    CHECK_EQ(strlen(got.name), 31);
    CHECK(strncmp(got.name, desc.name, 31) == 0);
    CHECK(got.strategy.vtable == desc.strategy.vtable);
    close_dynamic(d);
    desc = zero_desc();
#define REFUSED(change, want) \
    do { \
        desc = zero_desc(); \
        broken = *ta_strategy_exact().vtable; \
        desc.strategy.vtable = &broken; \
        change; \
        d = (ta_dynamic *)&desc; \
        CHECK_RESULT(ta_dynamic_create(&desc, &d), want); \
        CHECK(d == NULL); \
    } while (0)
    REFUSED(broken.struct_bytes--, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(broken.required_size = NULL, TA_ERROR_INVALID_ARGUMENT);
    REFUSED(broken.state_bytes = TA_STRATEGY_STATE_BYTES + 1, TA_ERROR_INVALID_ARGUMENT);
#undef REFUSED
    desc = zero_desc(); /* an upstream elsewhere than the backend */
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES | TA_CAP_SEGMENTS, 0);
    CHECK_OK(ta_pool_create(NULL, &pool));
    desc.upstream = ta_pool_allocator(pool);
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_UNSUPPORTED);
    CHECK(d == NULL);
    CHECK_OK(ta_allocator_dispose(ta_pool_allocator(pool)));
    desc = zero_desc();
    desc.upstream = ta_pool_allocator(pool);
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_DISPOSED);
    CHECK_OK(ta_pool_destroy(pool));
    {
        ta_pool_desc device;
        memset(&device, 0, sizeof device);
        device.backend.vtable = &clock.table;
        device.backend.self = &clock;
        CHECK_OK(ta_pool_create(&device, &pool)); /* on a device, and nobody who could copy there */
        desc.upstream = ta_pool_allocator(pool);
        CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_UNSUPPORTED);
        CHECK_OK(ta_pool_destroy(pool));
    }
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

/*---------------------------------------------------------------------------------------------------------
  Resizing.
  -------------------------------------------------------------------------------------------------------*/
static void a_range_grows_and_shrinks_in_place(void)
{
    static const size_t sizes[] = {1, 4096, 4097, 100000, 3000000, 4 * MIB, 65536, 1, 2 * MIB, 0, 4 * MIB, 12};
    const ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_handle h = make(d, 0, 10, 4 * MIB);
    const ta_handle_info first = info_of(d, h);
    size_t i, old = 10;
    if (!first.in_range) {
        TEST_SKIP("no address ranges here");
    }
    fill(first.data, 7, 0, old);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ta_handle_info info;
        const size_t kept = old < sizes[i] ? old : sizes[i];
        const ta_result fits = fits_in_place(d, h, sizes[i]);
        const void *before = info_of(d, h).data;
        CHECK_RESULT(fits, first.in_range || sizes[i] <= info_of(d, h).capacity_bytes ? TA_OK : TA_ERROR_WOULD_MOVE);
        CHECK_OK(resize(d, h, sizes[i]));
        info = info_of(d, h);
        CHECK(fits != TA_OK || info.data == before);
        CHECK_EQ(info.effective_bytes, sizes[i]);
        CHECK_GE(info.capacity_bytes, sizes[i]);
        CHECK_LE(info.capacity_bytes, 4 * MIB);
        CHECK_EQ(wrong_bytes(info.data, 7, 0, kept), 0);
        fill(info.data, 7, kept, sizes[i]);
        old = sizes[i];
    }
    if (first.in_range) {
        const ta_dynamic_stats f = figures_of(d);
        CHECK_EQ(f.move_count + f.moved_bytes, 0);
        CHECK_GE(f.committed_bytes, 4 * MIB);
        CHECK_GT(f.decommitted_bytes, 0); /* the exact strategy gives back at once */
        CHECK_LE(stats_of(d).reserved_bytes, 64 * KIB);
    }
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

static void small_tensors_have_their_maximum_at_once(void)
{
    ta_dynamic *d = open_dynamic(NULL); /* the default strategy */
    ta_handle h = make(d, 0, 10, 10000);
    const ta_handle_info first = info_of(d, h);
    CHECK(!first.in_range);
    CHECK_EQ(first.capacity_bytes, 10000);
    CHECK_OK(fits_in_place(d, h, 10000));
    CHECK_RESULT(fits_in_place(d, h, 10001), TA_ERROR_WOULD_MOVE);
    CHECK_OK(resize(d, h, 10000));
    CHECK_OK(resize(d, h, 0));
    CHECK_OK(resize(d, h, 10000));
    CHECK(ta_dynamic_get_data(d, h) == first.data);
    CHECK_EQ(figures_of(d).move_count, 0);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

static void blocks_move_with_their_bytes(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_handle h, wall;
    size_t size = 1000, moves = 0;
    uint64_t copied = 0;
    desc.disable_ranges = 1;
    d = open_dynamic(&desc);
    h = make(d, 0, size, 4 * MIB);
    fill(ta_dynamic_get_data(d, h), 3, 0, size);
    for (; size < 2 * MIB; size *= 2) {
        void *was = ta_dynamic_get_data(d, h);
        ta_handle_info info;
        wall = make(d, 0, 100, 100); /* something behind it */
        CHECK_RESULT(fits_in_place(d, h, size * 2), TA_ERROR_WOULD_MOVE);
        CHECK_OK(resize(d, h, size * 2));
        info = info_of(d, h);
        CHECK(!info.in_range);
        CHECK_EQ(wrong_bytes(info.data, 3, 0, size), 0);
        fill(info.data, 3, size, size * 2);
        if (info.data != was) {
            moves++;
            copied += size;
        }
        CHECK_OK(ta_dynamic_free(d, wall));
    }
    CHECK_GT(moves, 0);
    CHECK_LE(figures_of(d).move_count, moves); /* a remap copies nothing */
    CHECK_LE(figures_of(d).moved_bytes, copied);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

static void a_resize_to_nothing_keeps_pointer_and_range(void)
{
    static const size_t maxima[] = {1000, 4 * MIB};
    ta_dynamic_desc desc = exact_desc();
    size_t i, ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_dynamic *d;
        desc.disable_ranges = ranges == 0;
        d = open_dynamic(&desc);
        for (i = 0; i < 2; i++) {
            const ta_shape_bounds bounds = bounds_of(0, 1000, maxima[i]);
            ta_dynamic_request request = request_of(&bounds, 0);
            const int64_t none = 0;
            ta_handle h = make(d, 0, 1000, maxima[i]);
            const ta_handle_info first = info_of(d, h);
            ta_handle_info info;
            fill(first.data, 1, 0, 1000);
            CHECK_OK(fits_in_place(d, h, 0));
            CHECK_OK(resize(d, h, 0));
            info = info_of(d, h);
            CHECK(info.data == first.data);
            CHECK_EQ(info.in_range, first.in_range);
            CHECK_EQ(info.effective_bytes, 0);
            CHECK_EQ(info.dims[0], 0);
            CHECK(info.utilization == (info.capacity_bytes == 0 ? 1.0 : 0.0));
            CHECK_OK(resize(d, h, 0)); /* again */
            if (first.in_range) {
                CHECK_OK(resize(d, h, 1000));
                CHECK(info_of(d, h).data == first.data);
            }
            CHECK_OK(resize(d, h, 0));
            CHECK_OK(ta_dynamic_free(d, h));
            request.dims = &none; /* never has memory */
            CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
            info = info_of(d, h);
            CHECK_EQ(info.effective_bytes, 0);
            CHECK_EQ(info.capacity_bytes, 0);
            CHECK(info.utilization == 1.0);
            CHECK(info.in_range || info.data == NULL);
            CHECK_OK(resize(d, h, 0));
            CHECK_OK(resize(d, h, 900)); /* now it has */
            info = info_of(d, h);
            CHECK(info.data != NULL);
            fill(info.data, 2, 0, 900);
            CHECK_OK(ta_dynamic_free(d, h));
            CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
            CHECK_OK(ta_dynamic_free(d, h));
        }
        close_dynamic(d);
    }
}

static void utilization_is_effective_over_capacity(void)
{
    ta_dynamic *d = open_dynamic(NULL);
    ta_handle h = make(d, 0, 500, 1000); /* small: the default strategy takes the maximum */
    CHECK(info_of(d, h).utilization == 0.5);
    CHECK(figures_of(d).average_utilization == 0.5);
    CHECK_EQ(figures_of(d).wasted_bytes, 500);
    CHECK_OK(resize(d, h, 0));
    CHECK(info_of(d, h).utilization == 0.0); /* 1 only where there is no capacity */
    CHECK_OK(resize(d, h, 250));
    CHECK(info_of(d, h).utilization == 0.25);
    CHECK_OK(resize(d, h, 1000));
    CHECK(info_of(d, h).utilization == 1.0);
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK(figures_of(d).average_utilization == 1.0);
    close_dynamic(d);
}

static void outside_the_bounds(void)
{
    static const size_t maxima[] = {1000, 200 * KIB};
    ta_dynamic_desc desc = exact_desc();
    size_t i;
    for (i = 0; i < 4; i++) {
        const size_t max = maxima[i / 2];
        const ta_shape_bounds bounds = bounds_of(10, 500, max);
        ta_dynamic_request request = request_of(&bounds, 0);
        const int64_t small = 9, large = (int64_t)(8 * max);
        ta_dynamic *d;
        ta_handle h, other;
        ta_handle_info before, after;
        desc.strict = i % 2 == 0;
        d = open_dynamic(&desc);
        h = make(d, 10, 500, max);
        fill(ta_dynamic_get_data(d, h), 1, 0, 500);
        before = info_of(d, h);
        if (desc.strict) {
            const uint64_t uses = figures_of(d).use_count;
            CHECK_RESULT(resize(d, h, 9), TA_ERROR_SHAPE);
            CHECK_RESULT(resize(d, h, max + 1), TA_ERROR_SHAPE);
            CHECK_RESULT(fits_in_place(d, h, max + 1), TA_ERROR_SHAPE);
            CHECK_RESULT(ta_dynamic_observe(d, h, &large, 1), TA_ERROR_SHAPE);
            request.dims = &small;
            CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &other), TA_ERROR_SHAPE);
            CHECK(is_zero(&other, sizeof other));
            request.dims = &large;
            CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &other), TA_ERROR_SHAPE);
            after = info_of(d, h);
            same_info(&before, &after);
            CHECK_EQ(figures_of(d).use_count, uses);
            CHECK_OK(resize(d, h, max));
            CHECK_OK(resize(d, h, 10));
        } else {
            CHECK_OK(resize(d, h, 9));
            CHECK_EQ(info_of(d, h).effective_bytes, 9);
            CHECK_OK(resize(d, h, 500));
            fill(ta_dynamic_get_data(d, h), 1, 0, 500);
            CHECK_RESULT(fits_in_place(d, h, 8 * max), TA_ERROR_WOULD_MOVE);
            CHECK_OK(resize(d, h, 8 * max));
            after = info_of(d, h);
            CHECK_EQ(after.effective_bytes, 8 * max);
            CHECK_EQ(after.capacity_bytes, 8 * max); /* no more than that: it is above the declared maximum */
            CHECK_EQ(wrong_bytes(after.data, 1, 0, 500), 0);
            CHECK_EQ(figures_of(d).move_count, after.data != before.data);
            fill(after.data, 1, 0, 8 * max);
            CHECK_OK(resize(d, h, max)); /* back inside: what it was declared to need */
            after = info_of(d, h);
            CHECK_LE(after.capacity_bytes, max);
            CHECK_EQ(wrong_bytes(after.data, 1, 0, max), 0);
            request.dims = &large; /* a first shape outside */
            CHECK_OK(ta_dynamic_alloc_request(d, &request, &other));
            CHECK_EQ(info_of(d, other).effective_bytes, 8 * max);
            CHECK_OK(ta_dynamic_observe(d, other, &small, 1));
            CHECK_OK(ta_dynamic_free(d, other));
        }
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
}

static void bad_shapes_change_nothing(void)
{
    ta_dynamic_desc desc = exact_desc();
    int strict;
    TEST_ALLOW_ASSERTS();
    for (strict = 0; strict < 2; strict++) {
        const int64_t negative[] = {-1, 5}, two[] = {5, 5}, huge[] = {INT64_MAX / 2, 1}, zero_huge[] = {0, INT64_MAX};
        ta_shape_bounds bounds = bounds_of(0, 5, 100);
        ta_dynamic *d;
        ta_handle h;
        ta_handle_info before, after;
        ta_dynamic_stats f, g;
        bounds.dtype = TA_F32;
        desc.strict = strict;
        d = open_dynamic(&desc);
        CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
        before = info_of(d, h);
        f = figures_of(d);
#define ALL_THREE(dims, rank, want) \
    do { \
        CHECK_RESULT(ta_dynamic_resize(d, h, dims, rank), want); \
        CHECK_RESULT(ta_dynamic_will_fit_in_place(d, h, dims, rank), want); \
        CHECK_RESULT(ta_dynamic_observe(d, h, dims, rank), want); \
    } while (0)
        ALL_THREE(two, 2, TA_ERROR_SHAPE);
        ALL_THREE(NULL, 0, TA_ERROR_SHAPE);
        ALL_THREE(negative, 1, TA_ERROR_INVALID_ARGUMENT);
        ALL_THREE(two, -1, TA_ERROR_INVALID_ARGUMENT);
        ALL_THREE(two, TA_RANK_MAX + 1, TA_ERROR_INVALID_ARGUMENT);
        ALL_THREE(huge, 1, TA_ERROR_OVERFLOW);
#undef ALL_THREE
        CHECK(ta_dynamic_resize(d, h, zero_huge, 2) != TA_OK);
        after = info_of(d, h);
        same_info(&before, &after);
        g = figures_of(d);
        CHECK_EQ(f.use_count, g.use_count);
        CHECK_EQ(f.resize_count, g.resize_count);
        CHECK_EQ(f.capacity_bytes, g.capacity_bytes);
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
}

static void unbounded_maxima(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_handle h = make(d, 0, 10, TA_UNLIMITED);
    ta_handle_info info = info_of(d, h), before;
    size_t size;
    CHECK_LE(info.capacity_bytes, 64 * KIB); /* addresses, not memory */
    if (info.in_range && sizeof(void *) > 4) {
        CHECK_GE(info.in_place_bytes, MIB);
    }
    for (size = 10; size < 3 * MIB; size = size * 3 / 2) {
        void *was = ta_dynamic_get_data(d, h);
        const int fits = fits_in_place(d, h, size) == TA_OK;
        CHECK_OK(resize(d, h, size));
        CHECK(!fits || ta_dynamic_get_data(d, h) == was);
    }
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    desc.unbounded_bytes = MIB; /* outgrown */
    d = open_dynamic(&desc);
    h = make(d, 0, 100000, TA_UNLIMITED);
    before = info_of(d, h);
    fill(before.data, 9, 0, 100000);
    if (before.in_range) {
        CHECK_EQ(before.in_place_bytes, MIB);
    }
    CHECK_OK(resize(d, h, 5 * MIB));
    info = info_of(d, h);
    CHECK_EQ(wrong_bytes(info.data, 9, 0, 100000), 0);
    CHECK_EQ(info.effective_bytes, 5 * MIB);
    CHECK_GE(info.in_place_bytes, 5 * MIB);
    CHECK_OK(resize(d, h, 100));
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/* A symbol is looked at in each call: handles that live are held to its new numbers. */
static void symbols_are_held_once(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_symbol batch;
    ta_shape_bounds bounds;
    ta_dynamic *d;
    ta_handle h, small;
    ta_handle_info info;
    ta_fit fit;
    int64_t dims[2] = {8, 1000};
    memset(&batch, 0, sizeof batch);
    batch.name = "batch";
    CHECK_OK(ta_symbol_set(&batch, 1, 4, 16));
    memset(&bounds, 0, sizeof bounds);
    bounds.dtype = TA_F32;
    bounds.rank = 2;
    bounds.symbols[0] = &batch;
    bounds.min[0] = 70; /* of no account */
    bounds.min[1] = 0;
    bounds.expected[1] = bounds.max[1] = 8192;
    desc.strict = 1;
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
    info = info_of(d, h);
    CHECK_EQ(info.dims[0], 4);
    CHECK_EQ(info.effective_bytes, 4 * 8192 * 4);
    fill(info.data, 4, 0, 16000);
    CHECK_OK(ta_dynamic_resize(d, h, dims, 2));
    dims[0] = 17;
    CHECK_RESULT(ta_dynamic_resize(d, h, dims, 2), TA_ERROR_SHAPE);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, h, dims, 2), TA_ERROR_SHAPE);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_EQ(fit.max_bytes, 16 * 8192 * 4);
    CHECK_EQ(fit.min_bytes, 0);
    CHECK_OK(ta_symbol_set(&batch, 0, 20, 64)); /* more than there are addresses for */
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_EQ(fit.max_bytes, 64 * 8192 * 4);
    dims[0] = 64;
    dims[1] = 8192;
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, h, dims, 2), TA_ERROR_WOULD_MOVE);
    CHECK_OK(ta_dynamic_resize(d, h, dims, 2));
    info = info_of(d, h);
    CHECK_EQ(wrong_bytes(info.data, 4, 0, 16000), 0);
    CHECK_EQ(info.effective_bytes, 64 * 8192 * 4);
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &small));
    CHECK_EQ(info_of(d, small).dims[0], 20);
    CHECK_OK(ta_symbol_set(&batch, 0, 1, 2)); /* less than both have */
    CHECK_EQ(info_of(d, h).dims[0], 64); /* until they are resized */
    dims[0] = 3;
    CHECK_RESULT(ta_dynamic_resize(d, h, dims, 2), TA_ERROR_SHAPE);
    dims[0] = 2;
    CHECK_OK(ta_dynamic_resize(d, h, dims, 2));
    info = info_of(d, h);
    CHECK_LE(info.capacity_bytes, 2 * 8192 * 4);
    CHECK_EQ(wrong_bytes(info.data, 4, 0, 16000), 0);
    CHECK_OK(ta_symbol_set(&batch, 0, 1, TA_DIM_UNBOUNDED));
    dims[0] = 100;
    CHECK_OK(ta_dynamic_resize(d, h, dims, 2));
    batch.expected = 5; /* broken by hand: min 0 <= 5, max 2 */
    batch.max = 2;
    info = info_of(d, h);
    CHECK_RESULT(ta_dynamic_resize(d, h, dims, 2), TA_ERROR_BOUNDS);
    CHECK_RESULT(ta_dynamic_would_fit(d, &bounds, 1, &fit), TA_ERROR_BOUNDS);
    CHECK(is_zero(&fit, sizeof fit));
    CHECK_EQ(info_of(d, h).effective_bytes, info.effective_bytes);
    CHECK_OK(ta_dynamic_free(d, h)); /* freeing does not ask */
    CHECK_OK(ta_dynamic_free(d, small));
    close_dynamic(d);
}

static void zeroed_growth_reads_zero(void)
{
    static const size_t maxima[] = {5000, 3 * MIB};
    ta_dynamic_desc desc = exact_desc();
    size_t i, kind;
    for (kind = 0; kind < 3; kind++) {
        ta_dynamic *d;
        desc.disable_ranges = kind == 1;
        desc.strategy = kind == 2 ? ta_strategy_padding(NULL) : ta_strategy_exact();
        d = open_dynamic(&desc);
        for (i = 0; i < 2; i++) {
            const ta_shape_bounds bounds = bounds_of(0, 1000, maxima[i]);
            const ta_dynamic_request request = request_of(&bounds, TA_REQUEST_ZEROED);
            int round;
            for (round = 0; round < 3; round++) { /* what was freed is dirty and warm */
                const size_t sizes[] = {2000, 100, 5000, 0, 4999, 1, maxima[i], 3, maxima[i], 3 * maxima[i]};
                ta_handle h;
                size_t old = 1000, k;
                CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
                CHECK(is_zero(ta_dynamic_get_data(d, h), 1000));
                memset(ta_dynamic_get_data(d, h), 0xA5, 1000);
                for (k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                    unsigned char *data;
                    size_t kept = old < sizes[k] ? old : sizes[k];
                    CHECK_OK(resize(d, h, sizes[k])); /* the last one moves */
                    data = (unsigned char *)ta_dynamic_get_data(d, h);
                    CHECK(kept == 0 || (data[0] == 0xA5 && memcmp(data, data + 1, kept - 1) == 0));
                    CHECK(is_zero(data + kept, sizes[k] - kept));
                    memset(data, 0xA5, sizes[k]);
                    old = sizes[k];
                }
                CHECK_OK(ta_dynamic_free(d, h));
            }
        }
        close_dynamic(d);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Strategies and sites. A strategy that answers what it is told to and writes down what it is asked.
  -------------------------------------------------------------------------------------------------------*/
typedef struct spy {
    size_t answer;      /* of required_size; 0: what is needed */
    int resize;         /* of should_resize */
    int required_calls, should_calls, observe_calls;
    ta_strategy_input required, should, observed; /* the last ones */
    uint64_t uses;      /* in the state, at the last observe */
    int dirty;          /* a state that was new and not zero */
    void (*inside)(void *user); /* called in the next entry, whichever it is */
    void (*on_observe)(void *user); /* in the next observe */
    void *user;
} spy;

typedef struct spy_state {
    uint64_t uses, mark;
    unsigned char rest[TA_STRATEGY_STATE_BYTES - 16];
} spy_state;

static spy the_spy;

static void spy_note(const void *config, void *state, ta_strategy_input *to, const ta_strategy_input *in)
{
    spy_state *s = (spy_state *)state;
    CHECK(config == &the_spy.answer);
    CHECK_EQ((uintptr_t)state % 8, 0);
    if (s->mark == 0) {
        the_spy.dirty |= !is_zero(s, sizeof *s);
        memset(s, 0x77, sizeof *s); /* all of it is ours */
        s->uses = 0;
    }
    *to = *in;
    if (the_spy.inside != NULL) {
        void (*inside)(void *user) = the_spy.inside;
        the_spy.inside = NULL; /* once */
        inside(the_spy.user);
    }
}

static size_t spy_required(const void *config, void *state, const ta_strategy_input *in)
{
    the_spy.required_calls++;
    spy_note(config, state, &the_spy.required, in);
    return the_spy.answer != 0 ? the_spy.answer : in->size_bytes;
}

static int spy_should(const void *config, void *state, const ta_strategy_input *in)
{
    the_spy.should_calls++;
    spy_note(config, state, &the_spy.should, in);
    return the_spy.resize;
}

static void spy_observe(const void *config, void *state, const ta_strategy_input *in)
{
    void (*inside)(void *user) = the_spy.on_observe;
    the_spy.observe_calls++;
    the_spy.on_observe = NULL;
    if (inside != NULL) {
        inside(the_spy.user);
    }
    spy_note(config, state, &the_spy.observed, in);
    the_spy.uses = ++((spy_state *)state)->uses;
}

static ta_dynamic_desc spy_desc(void)
{
    static const ta_strategy_vtable table = {sizeof(ta_strategy_vtable), "spy", sizeof(spy_state), spy_required,
                                             spy_should, spy_observe};
    ta_dynamic_desc desc = zero_desc();
    memset(&the_spy, 0, sizeof the_spy);
    desc.strategy.vtable = &table;
    desc.strategy.config = &the_spy.answer;
    return desc;
}

static void strategies_are_asked(void)
{
    const ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(100, 300000, 2 * MIB);
    const int64_t dims = 1234;
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle h;
    ta_handle_info info;
    the_spy.answer = 400000;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    info = info_of(d, h);
    CHECK_EQ(the_spy.required_calls, 1);
    CHECK_EQ(the_spy.should_calls, 0);
    CHECK_EQ(the_spy.required.size_bytes, 300000);
    CHECK_EQ(the_spy.required.capacity_bytes, 0);
    CHECK_EQ(the_spy.required.start_bytes, 300000);
    CHECK_EQ(the_spy.required.min_bytes, 100);
    CHECK_EQ(the_spy.required.expected_bytes, 300000);
    CHECK_EQ(the_spy.required.max_bytes, 2 * MIB);
    CHECK_EQ(the_spy.required.in_range, info.in_range);
    CHECK_EQ(the_spy.required.growing, 0);
    CHECK_GE(info.capacity_bytes, 400000);
    CHECK_LE(info.capacity_bytes, 400000 + 64 * KIB);
    CHECK_LE(the_spy.observe_calls, 1); /* of the first shape: may be */
    the_spy.observe_calls = 0;
    CHECK_OK(resize(d, h, 200000)); /* fits, and the strategy keeps the capacity */
    CHECK_EQ(the_spy.should_calls, 1);
    CHECK_EQ(the_spy.should.size_bytes, 200000);
    CHECK_EQ(the_spy.should.capacity_bytes, info.capacity_bytes);
    CHECK_EQ(the_spy.required_calls, 1);
    CHECK_EQ(the_spy.observe_calls, 1);
    CHECK_EQ(the_spy.observed.size_bytes, 200000);
    CHECK_EQ(the_spy.observed.start_bytes, 300000);
    CHECK_EQ(info_of(d, h).capacity_bytes, info.capacity_bytes);
    the_spy.resize = 1;
    the_spy.answer = 250000;
    CHECK_OK(resize(d, h, 150000)); /* fits, and the strategy wants less */
    CHECK_EQ(the_spy.required_calls, 2);
    CHECK_GE(info_of(d, h).capacity_bytes, 250000);
    CHECK_LT(info_of(d, h).capacity_bytes, 400000);
    the_spy.resize = 0;
    the_spy.answer = 0;
    CHECK_OK(resize(d, h, 1000000)); /* does not fit */
    CHECK_EQ(the_spy.required_calls, 3);
    CHECK_EQ(the_spy.required.size_bytes, 1000000);
    CHECK_GE(info_of(d, h).capacity_bytes, 1000000);
    the_spy.observe_calls = 0;
    CHECK_OK(ta_dynamic_observe(d, h, &dims, 1));
    CHECK_EQ(the_spy.observe_calls, 1);
    CHECK_EQ(the_spy.observed.size_bytes, 1234);
    CHECK_EQ(info_of(d, h).effective_bytes, 1000000); /* it is not resized */
    CHECK_EQ(info_of(d, h).dims[0], 1000000);
    CHECK_EQ(figures_of(d).resize_count, 3);
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK_EQ(the_spy.observe_calls, 1); /* free tells only for growing ones */
    request.flags = (uint32_t)TA_DYNAMIC_GROWING;
    request.dims = &dims;
    the_spy.observe_calls = 0;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(the_spy.required.growing, 1);
    CHECK_EQ(the_spy.required.start_bytes, 1234);
    CHECK_OK(resize(d, h, 500000));
    the_spy.observe_calls = 0;
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK_EQ(the_spy.observe_calls, 1);
    CHECK_EQ(the_spy.observed.size_bytes, 500000);
    CHECK_EQ(the_spy.observed.start_bytes, 1234);
    CHECK_EQ(the_spy.observed.growing, 1);
    CHECK_EQ(the_spy.dirty, 0);
    close_dynamic(d);
}

/* Whatever a strategy answers, capacity is at least what is needed and never above the declared maximum. */
static void nonsense_of_a_strategy_does_no_harm(void)
{
    static const size_t answers[] = {0, 1, 7, 4096, 100000, 1000000, 5 * MIB, (size_t)-1, (size_t)-1 / 2,
                                     (size_t)-1 / 2 + 1, (size_t)-4096, (size_t)-65536};
    static const size_t maxima[] = {2000, MIB, TA_UNLIMITED};
    size_t a, m, k, ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_dynamic_desc desc = spy_desc();
        ta_dynamic *d;
        desc.disable_ranges = ranges == 0;
        d = open_dynamic(&desc);
        for (m = 0; m < 3; m++) {
            for (a = 0; a < sizeof answers / sizeof answers[0]; a++) {
                static const size_t sizes[] = {100, 1999, 0, 2000, 60000, 5, 70000, MIB, 1, 2 * MIB, 0, 900};
                ta_handle h, other;
                the_spy.answer = answers[a] == 0 ? 1 : answers[a];
                the_spy.resize = (a & 1) != 0;
                test_context("answer %#llx, maximum %#llx", (unsigned long long)answers[a],
                             (unsigned long long)maxima[m]);
                h = make(d, 0, 100, maxima[m]);
                other = make(d, 0, 100, 100);
                for (k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                    ta_handle_info info;
                    CHECK_OK(resize(d, h, sizes[k]));
                    info = info_of(d, h);
                    CHECK_EQ(info.effective_bytes, sizes[k]);
                    CHECK_GE(info.capacity_bytes, sizes[k]);
                    CHECK_LE(info.capacity_bytes, sizes[k] > maxima[m] ? sizes[k] : maxima[m]);
                    if (sizes[k] != 0) {
                        ((unsigned char *)info.data)[sizes[k] - 1] = 1;
                    }
                    the_spy.resize ^= k % 3 == 0;
                }
                CHECK_OK(ta_dynamic_free(d, h));
                CHECK_OK(ta_dynamic_free(d, other));
            }
        }
        test_context("%s", "");
        CHECK_LT(figures_of(d).peak_capacity_bytes, (uint64_t)1 << 45);
        close_dynamic(d);
    }
}

static void sites_learn_together(void)
{
    const ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(0, 100, 1000);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle a, b, c, alone;
    uint64_t uses;
    request.site = 1;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &a));
    CHECK_OK(resize(d, a, 50));
    uses = the_spy.uses;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &b)); /* the same state */
    CHECK_OK(resize(d, b, 50));
    CHECK_GT(the_spy.uses, uses);
    uses = the_spy.uses;
    CHECK_OK(resize(d, a, 70));
    CHECK_EQ(the_spy.uses, uses + 1);
    request.site = (uintptr_t)&request; /* another one */
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &c));
    CHECK_OK(resize(d, c, 70));
    CHECK_LE(the_spy.uses, 2);
    request.site = 0; /* one alone */
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &alone));
    CHECK_OK(resize(d, alone, 70));
    CHECK_LE(the_spy.uses, 2);
    CHECK_OK(ta_dynamic_free(d, alone));
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &alone)); /* and the next one knows nothing of it */
    CHECK_OK(resize(d, alone, 70));
    CHECK_LE(the_spy.uses, 2);
    CHECK_OK(ta_dynamic_free(d, a));
    CHECK_OK(ta_dynamic_free(d, b));
    request.site = 1; /* what those learned that are gone */
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &a));
    CHECK_OK(resize(d, a, 50));
    CHECK_GT(the_spy.uses, uses + 1);
    CHECK_EQ(the_spy.dirty, 0);
    CHECK_OK(ta_dynamic_free(d, a));
    CHECK_OK(ta_dynamic_free(d, c));
    CHECK_OK(ta_dynamic_free(d, alone));
    close_dynamic(d);
}

/* An allocation that fails leaves no site behind: the first tensor that is made says which strategy the site has, and
   the room for sites is for those that have had tensors. What a site has learned outlives its tensors and failures. */
static void what_fails_leaves_no_site(void)
{
    ta_dynamic_desc desc = spy_desc();
    const ta_shape_bounds small = bounds_of(0, 1000, 2000), large = bounds_of(0, 10 * MIB, 20 * MIB);
    ta_dynamic_request request = request_of(&large, 0);
    const ta_strategy spying = desc.strategy;
    ta_dynamic *d;
    ta_handle h;
    uint64_t uses;
    int i;
    desc.limit_bytes = MIB;
    desc.handle_count_max = 64;
    d = open_dynamic(&desc);
    request.site = 5;
    request.strategy = ta_strategy_exact();
    CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), TA_ERROR_LIMIT);
    request.bounds = &small;
    request.strategy = spying;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_OK(resize(d, h, 500));
    uses = the_spy.uses;
    CHECK_GT(uses, 0);
    CHECK_OK(ta_dynamic_free(d, h));
    request.bounds = &large;
    memset(&request.strategy, 0, sizeof request.strategy);
    for (i = 0; i < 70; i++) {
        CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), TA_ERROR_LIMIT);
        request.site++;
    }
    request.bounds = &small;
    request.site = 5;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_OK(resize(d, h, 500));
    CHECK_GT(the_spy.uses, uses); /* it remembers */
    CHECK_OK(ta_dynamic_free(d, h));
    request.site = 1000; /* and so does one that is new: there is room */
    for (i = 0; i < 2; i++) {
        the_spy.uses = 0;
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
        CHECK_OK(resize(d, h, 500));
        CHECK_EQ(the_spy.uses > 2, i);
        CHECK_OK(ta_dynamic_free(d, h));
    }
    close_dynamic(d);
}

/* More sites than there is room for: tensors can be had all the same. */
static void more_sites_than_handles(void)
{
    ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d;
    const ta_shape_bounds bounds = bounds_of(0, 100, 1000);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle h;
    uintptr_t site;
    int failed = 0;
    desc.handle_count_max = 64;
    d = open_dynamic(&desc);
    for (site = 1; site < 1000; site++) {
        request.site = site;
        if (ta_dynamic_alloc_request(d, &request, &h) == TA_OK) {
            CHECK_OK(resize(d, h, 50));
            CHECK_OK(ta_dynamic_free(d, h));
        } else {
            failed++;
        }
    }
    CHECK_EQ(failed, 0);
    request.site = 0;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/* Specification 000: padding 1.2; growth 1.5, shrinking under 0.5 when usage is consistently low. Blocks, where
   capacities are exact. */
static void padding_strategies_of_the_specification(void)
{
    static const double twice = 2.0;
    ta_dynamic_desc desc = zero_desc();
    ta_dynamic *d;
    ta_handle h;
    size_t capacity;
    int i;
    desc.disable_ranges = 1;
    desc.strategy = ta_strategy_padding(NULL);
    d = open_dynamic(&desc);
    h = make(d, 0, 1000, 100000);
    CHECK_EQ(info_of(d, h).capacity_bytes, 1200);
    CHECK_OK(resize(d, h, 1200));
    CHECK_EQ(info_of(d, h).capacity_bytes, 1200);
    CHECK_OK(resize(d, h, 2000));
    CHECK_EQ(info_of(d, h).capacity_bytes, 2400);
    CHECK_OK(resize(d, h, 1)); /* it never shrinks */
    CHECK_EQ(info_of(d, h).capacity_bytes, 2400);
    CHECK_OK(resize(d, h, 90000)); /* 108000 would be above the declared maximum */
    CHECK_EQ(info_of(d, h).capacity_bytes, 100000);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    desc.strategy = ta_strategy_padding(&twice);
    d = open_dynamic(&desc);
    h = make(d, 0, 1000, 100000);
    CHECK_EQ(info_of(d, h).capacity_bytes, 2000);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    desc.strategy = ta_strategy_adaptive(NULL);
    d = open_dynamic(&desc);
    h = make(d, 0, 1000, 100000);
    CHECK_EQ(info_of(d, h).capacity_bytes, 1200); /* 1.2 x the expected size */
    CHECK_OK(resize(d, h, 1200)); /* within it */
    CHECK_EQ(info_of(d, h).capacity_bytes, 1200);
    CHECK_OK(resize(d, h, 1300)); /* grows by half */
    capacity = info_of(d, h).capacity_bytes;
    CHECK_GE(capacity, 1300);
    CHECK_LE(capacity, 1300 * 3 / 2);
    CHECK_OK(resize(d, h, 80000));
    CHECK_OK(resize(d, h, 90000)); /* half as much again would be 120000 or more */
    CHECK_EQ(info_of(d, h).capacity_bytes, 100000); /* never above the declared maximum */
    for (i = 0; i < 7; i++) {
        CHECK_OK(resize(d, h, 60000 + (size_t)i)); /* usage above the threshold */
    }
    CHECK_EQ(info_of(d, h).capacity_bytes, 100000);
    for (i = 0; i < 20; i++) {
        CHECK_OK(resize(d, h, 1000 + (size_t)i));
    }
    CHECK_LT(info_of(d, h).capacity_bytes, 100000); /* consistently low */
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/*---------------------------------------------------------------------------------------------------------
  Limits.
  -------------------------------------------------------------------------------------------------------*/
#define MANY 64

static void capacity_binds_over_all_handles(void)
{
    int ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_dynamic_desc desc = exact_desc();
        ta_dynamic *d;
        ta_handle h[MANY];
        const ta_shape_bounds bounds = bounds_of(0, 100000, MIB);
        ta_handle_info before, after;
        ta_dynamic_stats f;
        ta_result result = TA_OK;
        size_t count = 0, i;
        ta_handle refused;
        desc.capacity_bytes_max = MIB + 1000;
        desc.disable_ranges = !ranges;
        d = open_dynamic(&desc);
        while (count < MANY && (result = ta_dynamic_alloc(d, &bounds, &h[count])) == TA_OK) {
            count++;
            CHECK_LE(figures_of(d).capacity_bytes, desc.capacity_bytes_max);
        }
        CHECK_RESULT(result, TA_ERROR_LIMIT);
        CHECK_EQ(count, 10); /* of 100000 bytes, one rounded up or not */
        f = figures_of(d);
        CHECK_EQ(f.failure_count, 1);
        CHECK_EQ(f.handle_count, count);
        before = info_of(d, h[0]);
        CHECK_RESULT(resize(d, h[0], 500000), TA_ERROR_LIMIT);
        after = info_of(d, h[0]);
        same_info(&before, &after);
        CHECK_EQ(figures_of(d).capacity_bytes, f.capacity_bytes);
        CHECK_EQ(figures_of(d).failure_count, 2);
        CHECK_EQ(stats_of(d).failure_limit_count, 2);
        for (i = 1; i < count; i++) {
            CHECK_OK(ta_dynamic_free(d, h[i]));
        }
        CHECK_OK(resize(d, h[0], 500000)); /* now there is room */
        CHECK_OK(resize(d, h[0], MIB));
        CHECK_RESULT(ta_dynamic_alloc(d, &bounds, &refused), TA_ERROR_LIMIT);
        CHECK_OK(resize(d, h[0], 100000));
        CHECK_OK(ta_dynamic_alloc(d, &bounds, &refused));
        CHECK_LE(figures_of(d).peak_capacity_bytes, desc.capacity_bytes_max);
        CHECK_OK(ta_dynamic_free(d, h[0]));
        CHECK_OK(ta_dynamic_free(d, refused));
        close_dynamic(d);
    }
}

/* Tensors with headroom give it up before another one fails. */
static void headroom_is_given_up(void)
{
    int by_limit;
    for (by_limit = 0; by_limit < 2; by_limit++) {
        ta_dynamic_desc desc = spy_desc();
        const ta_shape_bounds bounds = bounds_of(0, 100000, MIB);
        ta_dynamic_request request = request_of(&bounds, TA_REQUEST_WITHIN_BUDGET);
        ta_dynamic *d;
        ta_handle a, b, c;
        if (by_limit) {
            desc.limit_bytes = 2 * MIB + 128 * KIB;
        } else {
            desc.capacity_bytes_max = 2 * MIB + 128 * KIB;
        }
        d = open_dynamic(&desc);
        the_spy.answer = MIB; /* all that is declared */
        a = make(d, 0, 100000, MIB);
        b = make(d, 0, 100000, MIB);
        if (!info_of(d, a).in_range) {
            TEST_SKIP("no address ranges here");
            CHECK_OK(ta_dynamic_destroy(d));
            return;
        }
        CHECK_EQ(info_of(d, b).capacity_bytes, MIB);
        fill(ta_dynamic_get_data(d, a), 1, 0, 100000);
        fill(ta_dynamic_get_data(d, b), 2, 0, 100000);
        the_spy.answer = 0;
        CHECK_OK(resize(d, a, 100001)); /* fits */
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &c)); /* 128 KiB are left */
        request.flags = TA_REQUEST_WITHIN_BUDGET;
        {
            ta_handle more;
            CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &more), TA_ERROR_LIMIT); /* nobody is asked */
        }
        CHECK_EQ(info_of(d, b).capacity_bytes, MIB);
        CHECK_RESULT(resize(d, c, 900000), TA_ERROR_LIMIT); /* the flag is the handle's */
        CHECK_EQ(info_of(d, a).capacity_bytes + info_of(d, b).capacity_bytes, 2 * MIB);
        CHECK_OK(ta_dynamic_free(d, c));
        c = make(d, 0, 100000, MIB);
        CHECK_OK(resize(d, c, 900000));
        CHECK_EQ(info_of(d, c).effective_bytes, 900000);
        CHECK_EQ(info_of(d, a).effective_bytes, 100001);
        CHECK_LT(info_of(d, a).capacity_bytes + info_of(d, b).capacity_bytes, 2 * MIB);
        CHECK_EQ(wrong_bytes(ta_dynamic_get_data(d, a), 1, 0, 100000), 0);
        CHECK_EQ(wrong_bytes(ta_dynamic_get_data(d, b), 2, 0, 100000), 0);
        CHECK_RESULT(resize(d, c, 100 * MIB), TA_ERROR_LIMIT);
        CHECK_OK(ta_dynamic_free(d, a));
        CHECK_OK(ta_dynamic_free(d, b));
        CHECK_OK(ta_dynamic_free(d, c));
        close_dynamic(d);
    }
}

static void the_limit_is_never_exceeded(void)
{
    ta_dynamic_desc desc = exact_desc();
    const ta_shape_bounds large = bounds_of(0, 300000, 8 * MIB), small = bounds_of(0, 10000, 20000);
    ta_dynamic *d;
    ta_handle h[MANY], s[MANY];
    size_t count = 0, small_count = 0, i;
    ta_result result = TA_OK;
    int in_range;
    desc.limit_bytes = 4 * MIB;
    d = open_dynamic(&desc);
    while (count < MANY && (result = ta_dynamic_alloc(d, &large, &h[count])) == TA_OK) {
        count++;
        CHECK_LE(stats_of(d).reserved_bytes, 4 * MIB);
    }
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_GE(count, 11);
    CHECK_LE(count, 13);
    in_range = info_of(d, h[0]).in_range;
    for (i = 0; i < count; i++) { /* warm ranges, which pay for small blocks */
        CHECK_OK(ta_dynamic_free(d, h[i]));
    }
    CHECK(!in_range || figures_of(d).cached_bytes >= 300000 * (count - 1));
    while (small_count < MANY && (result = ta_dynamic_alloc(d, &small, &s[small_count])) == TA_OK) {
        small_count++;
    }
    CHECK_EQ(small_count, MANY);
    CHECK_OK(ta_dynamic_alloc(d, &large, &h[0]));
    CHECK_OK(resize(d, h[0], 2500000)); /* warm ranges pay for one that grows, */
    for (i = 0; i < small_count; i++) {
        CHECK_OK(ta_dynamic_free(d, s[i]));
    }
    result = resize(d, h[0], 3800000); /* and what the pool holds free; a block has to be there twice */
    CHECK_RESULT(result, in_range ? TA_OK : TA_ERROR_LIMIT);
    CHECK_LE(stats_of(d).peak_reserved_bytes, 4 * MIB);
    CHECK_LE(stats_of(d).reserved_bytes, 4 * MIB);
    CHECK_RESULT(resize(d, h[0], 4 * MIB + 1), TA_ERROR_LIMIT);
    CHECK_EQ(info_of(d, h[0]).effective_bytes, in_range ? 3800000 : 2500000);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    close_dynamic(d);
}

/* Siblings over one budget give back what they hold free, in both directions. */
static void siblings_share_a_budget(void)
{
    tb_counting counting;
    ta_budget_desc budget_desc;
    ta_budget_stats b;
    ta_budget *budget;
    ta_pool_desc pool_desc;
    ta_pool *pool;
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d, *other;
    ta_handle h, g;
    void *ptr;
    ta_result result;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&pool_desc, 0, sizeof pool_desc);
    budget_desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    budget_desc.limit_bytes = 8 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    pool_desc.budget = desc.budget = budget;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    d = open_dynamic(&desc);
    other = open_dynamic(&desc);
    ptr = ta_pool_alloc(pool, 5 * MIB, NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    h = make(d, 0, 100000, 16 * MIB);
    CHECK_OK(resize(d, h, 6 * MIB)); /* the pool gives back */
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(tb_counting_held(&counting), b.reserved_bytes);
    CHECK_OK(ta_dynamic_free(d, h));
    g = make(other, 0, 100000, 16 * MIB);
    CHECK_OK(resize(other, g, 7 * MIB)); /* warm ranges of d give back */
    CHECK_OK(ta_dynamic_free(other, g));
    ptr = ta_pool_alloc(pool, 7 * MIB, &result); /* and so do they for the pool */
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    h = make(d, 0, 7 * MIB, 16 * MIB);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_LE(b.peak_reserved_bytes, 8 * MIB);
    CHECK_EQ(tb_counting_held(&counting), b.reserved_bytes);
    CHECK_OK(ta_budget_set_limit(budget, MIB)); /* below what is there: stops growth and takes nothing away */
    CHECK_RESULT(resize(d, h, 9 * MIB), TA_ERROR_LIMIT);
    CHECK_EQ(info_of(d, h).effective_bytes, 7 * MIB);
    CHECK_OK(resize(d, h, 10));
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    close_dynamic(other);
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.reserved_bytes + b.allocator_count, 0);
    CHECK_OK(ta_budget_destroy(budget));
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* Freed ranges stay warm within the cap, count as cached, and go to tensors with similar bounds. */
static void warm_ranges(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_handle h[8];
    void *at;
    ta_dynamic_stats f;
    int i;
    h[0] = make(d, 0, 200000, 4 * MIB);
    if (!info_of(d, h[0]).in_range) {
        TEST_SKIP("no address ranges here");
        CHECK_OK(ta_dynamic_destroy(d));
        return;
    }
    at = ta_dynamic_get_data(d, h[0]);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    f = figures_of(d);
    CHECK_GE(f.cached_bytes, 200000);
    CHECK_EQ(f.capacity_bytes, 0);
    CHECK_EQ(stats_of(d).cached_bytes, stats_of(d).reserved_bytes);
    h[0] = make(d, 0, 200000, 3 * MIB); /* similar: less, but more than half */
    CHECK(ta_dynamic_get_data(d, h[0]) == at);
    CHECK_EQ(figures_of(d).warm_count, 1);
    CHECK_EQ(figures_of(d).committed_bytes, f.committed_bytes); /* no new memory */
    CHECK_LE(info_of(d, h[0]).capacity_bytes, 3 * MIB);
    h[1] = make(d, 0, 200000, 4 * MIB); /* none left */
    CHECK(ta_dynamic_get_data(d, h[1]) != at);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    h[0] = make(d, 0, 200000, 64 * MIB); /* too large for it */
    CHECK(ta_dynamic_get_data(d, h[0]) != at);
    CHECK_EQ(figures_of(d).warm_count, 1);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    CHECK_OK(ta_dynamic_free(d, h[1]));
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(d)));
    CHECK_EQ(figures_of(d).cached_bytes, 0);
    CHECK_EQ(stats_of(d).reserved_bytes, 0);
    close_dynamic(d);
    desc.cached_bytes_max = 600000;
    d = open_dynamic(&desc);
    for (i = 0; i < 8; i++) {
        h[i] = make(d, 0, 200000, 4 * MIB);
    }
    for (i = 0; i < 8; i++) {
        CHECK_OK(ta_dynamic_free(d, h[i]));
        CHECK_LE(figures_of(d).cached_bytes, 600000);
    }
    CHECK_GE(figures_of(d).cached_bytes, 200000);
    close_dynamic(d);
}

static void huge_pages_are_committed_whole(void)
{
    tb_counting counting;
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_handle h;
    size_t size;
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    desc.huge_pages = TA_HUGE_PAGES_ON;
    desc.limit_bytes = 16 * MIB + 300000; /* where a whole one does not fit, less will do */
    d = open_dynamic(&desc);
    h = make(d, 0, 100000, 32 * MIB);
    if (info_of(d, h).in_range) {
        CHECK_EQ(counting.range_flags, TA_RANGE_HUGE_PAGES);
        for (size = 100000; size <= 16 * MIB; size += 900000) {
            CHECK_OK(resize(d, h, size));
            CHECK_EQ(tb_counting_held(&counting) % (2 * MIB), 0);
            CHECK_GE(info_of(d, h).capacity_bytes, size);
        }
        CHECK_OK(resize(d, h, 16 * MIB + 200000));
        CHECK_LE(tb_counting_held(&counting), 16 * MIB + 300000);
    }
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

static void a_fit_is_asked_before(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_shape_bounds bounds[3];
    ta_fit fit;
    ta_handle h;
    ta_stats before, after;
    desc.limit_bytes = 8 * MIB;
    desc.capacity_bytes_max = 6 * MIB;
    d = open_dynamic(&desc);
    bounds[0] = bounds_of(0, MIB, 4 * MIB);
    bounds[1] = bounds_of(MIB, MIB, 4 * MIB);
    bounds[2] = bounds_of(100, 5000, 10000);
    before = stats_of(d);
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 3, &fit));
    CHECK_GE(fit.min_bytes, MIB + 100);
    CHECK_LE(fit.min_bytes, MIB + 20000);
    CHECK_GE(fit.expected_bytes, 2 * MIB + 5000);
    CHECK_GE(fit.max_bytes, 8 * MIB + 10000);
    CHECK_LE(fit.available_bytes, 6 * MIB);
    CHECK_EQ(fit.fits_min, 1);
    CHECK_EQ(fit.fits_expected, 1);
    CHECK_EQ(fit.fits_max, 0);
    after = stats_of(d);
    CHECK(memcmp(&before, &after, sizeof before) == 0); /* takes nothing */
    h = make(d, 0, 5 * MIB, 5 * MIB);
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 3, &fit));
    CHECK_EQ(fit.fits_min, 0); /* a MiB is left, but not 100 bytes more */
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 1, &fit));
    CHECK_EQ(fit.fits_expected, 1);
    CHECK_EQ(fit.fits_max, 0);
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 3, &fit)); /* what is cached counts as free */
    CHECK_EQ(fit.fits_expected, 1);
    CHECK_GE(fit.available_bytes, 5 * MIB);
    bounds[1] = bounds_of(0, 10, TA_UNLIMITED);
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 3, &fit));
    CHECK_EQ(fit.max_bytes, TA_UNLIMITED);
    CHECK_EQ(fit.fits_max, 0);
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 0, &fit));
    CHECK_EQ(fit.min_bytes + fit.expected_bytes + fit.max_bytes, 0);
    CHECK(fit.fits_min && fit.fits_expected && fit.fits_max);
    CHECK_OK(ta_dynamic_would_fit(d, NULL, 0, &fit));
    bounds[2].expected[0] = 7;
    bounds[2].min[0] = 8;
    CHECK_RESULT(ta_dynamic_would_fit(d, bounds, 3, &fit), TA_ERROR_BOUNDS);
    CHECK(is_zero(&fit, sizeof fit));
    close_dynamic(d);
    desc = exact_desc(); /* very many very large ones */
    d = open_dynamic(&desc);
    bounds[0] = bounds[1] = bounds[2] = bounds_of(0, (size_t)PTRDIFF_MAX - 5, (size_t)PTRDIFF_MAX);
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 3, &fit));
    CHECK_EQ(fit.fits_min, 1);
    CHECK_EQ(fit.fits_expected, 0);
    CHECK_EQ(fit.fits_max, 0);
    close_dynamic(d);
}

/* A strategy takes capacity away while the shape grows, and the new part cannot be zeroed: as before, and no more
   than there is memory for. */
static void a_failed_zeroing_takes_nothing_that_is_gone(void)
{
    tb_counting counting;
    ta_dynamic_desc desc = spy_desc();
    const ta_shape_bounds bounds = bounds_of(0, 100000, 4 * MIB);
    const ta_dynamic_request request = request_of(&bounds, TA_REQUEST_ZEROED);
    ta_dynamic *d;
    ta_handle h;
    ta_stats s;
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    d = open_dynamic(&desc);
    the_spy.answer = 2 * MIB;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    fill(ta_dynamic_get_data(d, h), 5, 0, 100000);
    the_spy.answer = 200000;
    the_spy.resize = 1;
    tb_counting_fail(&counting, TB_ZERO, 1, 0);
    CHECK_RESULT(resize(d, h, 200000), TA_ERROR_BACKEND);
    tb_counting_fail(&counting, TB_ANY, 0, 0);
    s = stats_of(d);
    CHECK_LE(s.in_use_bytes, s.reserved_bytes);
    CHECK_EQ(info_of(d, h).effective_bytes, 100000);
    CHECK_EQ(tb_counting_held(&counting), s.reserved_bytes);
    the_spy.resize = 0;
    the_spy.answer = 0;
    REQUIRE(info_of(d, h).capacity_bytes <= s.reserved_bytes);
    CHECK_OK(resize(d, h, 1900000));
    CHECK(is_zero((char *)ta_dynamic_get_data(d, h) + 100000, 1800000));
    CHECK_EQ(wrong_bytes(ta_dynamic_get_data(d, h), 5, 0, 100000), 0);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* An upstream that refuses to make a block smaller; meanwhile, as another thread might, somebody takes what seems to
   be free. */
typedef struct stubborn {
    ta_allocator pool;
    ta_dynamic *d;
    ta_handle taken;
    int refused;
} stubborn;

static stubborn the_stubborn;

static ta_result stubborn_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    const ta_shape_bounds bounds = bounds_of(0, 800000, 900000);
    (void)self;
    (void)ptr;
    if (new_bytes < old_bytes && the_stubborn.d != NULL && !the_stubborn.refused++) {
        (void)ta_dynamic_alloc(the_stubborn.d, &bounds, &the_stubborn.taken);
    }
    return TA_ERROR_WOULD_MOVE;
}

static void capacity_binds_when_a_shrink_is_refused(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_allocator_vtable table;
    ta_pool *pool;
    ta_dynamic *d;
    ta_handle h;
    ta_fit fit;
    const ta_shape_bounds bounds = bounds_of(0, 10, 10);
    CHECK_OK(ta_pool_create(NULL, &pool));
    memset(&the_stubborn, 0, sizeof the_stubborn);
    the_stubborn.pool = ta_pool_allocator(pool);
    table = *the_stubborn.pool.vtable;
    table.resize_in_place = stubborn_resize;
    desc.upstream.vtable = &table;
    desc.upstream.self = the_stubborn.pool.self;
    desc.capacity_bytes_max = 1000000;
    d = open_dynamic(&desc);
    h = make(d, 0, 900000, 1000000);
    the_stubborn.d = d;
    CHECK_OK(resize(d, h, 1000));
    the_stubborn.d = NULL;
    CHECK_EQ(the_stubborn.refused, 1);
    CHECK_LE(figures_of(d).capacity_bytes, 1000000);
    CHECK_LE(figures_of(d).peak_capacity_bytes, 1000000);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_LE(fit.available_bytes, 1000000);
    CHECK_OK(ta_dynamic_free(d, the_stubborn.taken));
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    CHECK_OK(ta_pool_destroy(pool));
}

/* Nothing has changed when the new part cannot be zeroed: nor the capacity, whether the resize would have given some to
   a tensor that was made empty, or to one that has some, or would have taken some away. */
static void a_failed_zeroing_changes_nothing(void)
{
    static const struct { size_t before, capacity, then, answer; } cases[] = {
        {0, 0, 900, 900},              /* an empty one that has its place */
        {1000, 1000, 5000, 5000},      /* grows */
        {1000, 300000, 5000, 5000},    /* fits, and gives back */
        {1000, 300000, 5000, 300000},  /* fits */
        {1000, 5000, 300000, 400000}}; /* grows, with headroom */
    size_t kind, i;
    for (kind = 0; kind < 3; kind++) { /* a range, a block of our pool, one of the program's */
        for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            tb_counting counting;
            ta_dynamic_desc desc = spy_desc();
            const ta_shape_bounds bounds = bounds_of(0, 1000, MIB);
            const ta_dynamic_request request = request_of(&bounds, TA_REQUEST_ZEROED);
            ta_pool *pool = NULL;
            ta_dynamic *d;
            ta_handle h;
            ta_handle_info before, after;
            test_context("kind %d, case %d", (int)kind, (int)i);
            desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
            desc.disable_ranges = kind > 0;
            if (kind == 2) {
                ta_pool_desc pool_desc;
                memset(&pool_desc, 0, sizeof pool_desc);
                pool_desc.backend = desc.backend;
                CHECK_OK(ta_pool_create(&pool_desc, &pool));
                desc.upstream = ta_pool_allocator(pool);
            }
            d = open_dynamic(&desc);
            CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
            the_spy.resize = 1;
            the_spy.answer = cases[i].capacity;
            CHECK_OK(resize(d, h, cases[i].before));
            before = info_of(d, h);
            the_spy.answer = cases[i].answer;
            tb_counting_fail(&counting, TB_ZERO, 1, 1);
            CHECK_RESULT(resize(d, h, cases[i].then), TA_ERROR_BACKEND);
            tb_counting_fail(&counting, TB_ANY, 0, 0);
            after = info_of(d, h);
            same_info(&before, &after);
            CHECK_EQ(figures_of(d).capacity_bytes, before.capacity_bytes);
            CHECK_LE(stats_of(d).in_use_bytes, stats_of(d).reserved_bytes);
            CHECK_OK(resize(d, h, cases[i].then));
            CHECK(is_zero((char *)ta_dynamic_get_data(d, h) + cases[i].before, cases[i].then - cases[i].before));
            CHECK_OK(ta_dynamic_free(d, h));
            close_dynamic(d);
            CHECK_OK(ta_pool_destroy(pool));
            tb_counting_check(&counting, 1);
            tb_counting_end(&counting);
        }
    }
    test_context("%s", "");
}

typedef struct onlooker {
    ta_dynamic *d;
    ta_handle self, other;
    int looks;
} onlooker;

/* What others see, and do, between the moment when the tensor has its new capacity and the end of its resize. */
static void look_on(void *user)
{
    onlooker *o = (onlooker *)user;
    const ta_handle_info info = info_of(o->d, o->self);
    const ta_dynamic_stats f = figures_of(o->d);
    o->looks++;
    CHECK_LE(info.effective_bytes, info.capacity_bytes);
    CHECK_LE(f.effective_bytes, f.capacity_bytes);
    CHECK_OK(resize(o->d, o->other, 10));
}

/* A tensor wants more capacity for a smaller shape, the others leave it no more than the shape needs: at no moment is
   there less capacity than the shapes have, and what is wasted is never less than nothing. */
static void capacity_is_never_less_than_the_shapes(void)
{
    int ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_dynamic_desc desc = spy_desc();
        onlooker o;
        ta_handle third;
        memset(&o, 0, sizeof o);
        test_context("ranges %d", ranges);
        desc.capacity_bytes_max = MIB;
        desc.disable_ranges = ranges == 0;
        o.d = open_dynamic(&desc);
        o.self = make(o.d, 0, 400000, MIB);
        o.other = make(o.d, 0, 10, 10);
        third = make(o.d, 0, 400000, 400000);
        the_spy.resize = 1;
        the_spy.answer = MIB;
        CHECK_OK(resize(o.d, o.self, 390000)); /* wants the maximum, and gets what it needs */
        CHECK_LT(info_of(o.d, o.self).capacity_bytes, 400000);
        CHECK_OK(resize(o.d, o.self, 390000));
        the_spy.on_observe = look_on;
        the_spy.user = &o;
        CHECK_OK(resize(o.d, o.self, 1000));
        CHECK_EQ(o.looks, 1);
        CHECK_LE(figures_of(o.d).peak_wasted_bytes, MIB);
        CHECK_LE(figures_of(o.d).peak_capacity_bytes, MIB);
        CHECK_OK(ta_dynamic_free(o.d, o.self));
        CHECK_OK(ta_dynamic_free(o.d, o.other));
        CHECK_OK(ta_dynamic_free(o.d, third));
        close_dynamic(o.d);
    }
    test_context("%s", "");
}

/* The peak of what was reserved at one time, not a sum of peaks. */
static void the_peak_is_that_of_a_moment(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget;
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_handle h;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = 4 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    d = open_dynamic(&desc);
    h = make(d, 0, 3 * MIB, 3 * MIB);
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(d)));
    CHECK_EQ(stats_of(d).reserved_bytes, 0);
    {
        ta_request request;
        void *ptr;
        memset(&request, 0, sizeof request);
        request.size_bytes = 3 * MIB;
        ptr = ta_allocator_alloc(ta_dynamic_allocator(d), &request, NULL);
        CHECK(ptr != NULL);
        CHECK_OK(ta_allocator_free(ta_dynamic_allocator(d), ptr, 0, 0, 0));
    }
    CHECK_GE(stats_of(d).peak_reserved_bytes, 3 * MIB);
    CHECK_LE(stats_of(d).peak_reserved_bytes, 4 * MIB);
    close_dynamic(d);
    CHECK_OK(ta_budget_destroy(budget));
}

/*---------------------------------------------------------------------------------------------------------
  Handles, events, callbacks.
  -------------------------------------------------------------------------------------------------------*/
/* Every call that takes a handle says want, and nothing changes. */
static void check_bad_handle(ta_dynamic *d, ta_handle h, ta_result want)
{
    const ta_dynamic_stats before = figures_of(d);
    ta_dynamic_stats after;
    ta_handle_info info;
    const int64_t dims = 5;
    CHECK_RESULT(ta_dynamic_resize(d, h, &dims, 1), want);
    CHECK_RESULT(ta_dynamic_observe(d, h, &dims, 1), want);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, h, &dims, 1), want);
    CHECK_RESULT(ta_dynamic_record_use(d, h, 3), want);
    CHECK_RESULT(ta_dynamic_get_handle(d, h, &info), want);
    CHECK(ta_dynamic_get_data(d, h) == NULL);
    if (!is_zero(&h, sizeof h)) {
        CHECK_RESULT(ta_dynamic_free(d, h), want);
    }
    after = figures_of(d);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
}

static void handles_go_stale(void)
{
    static const size_t maxima[] = {1000, MIB};
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc), *other = open_dynamic(&desc);
    size_t i;
    for (i = 0; i < 2; i++) {
        ta_handle h = make(d, 0, 100, maxima[i]), copy = h, again, forged, theirs = make(other, 0, 100, maxima[i]);
        check_bad_handle(d, theirs, TA_ERROR_FOREIGN);
        check_bad_handle(d, no_handle(), TA_ERROR_FOREIGN);
        forged = h;
        forged.index = 1u << 20;
        check_bad_handle(d, forged, TA_ERROR_FOREIGN);
        forged.index = 0xffffffffu;
        check_bad_handle(d, forged, TA_ERROR_FOREIGN);
        forged.index = 0;
        check_bad_handle(d, forged, TA_ERROR_FOREIGN);
        forged = h;
        forged.generation++;
        check_bad_handle(d, forged, TA_ERROR_STALE);
        CHECK_OK(ta_dynamic_free(d, h));
        check_bad_handle(d, h, TA_ERROR_STALE);
        check_bad_handle(d, copy, TA_ERROR_STALE);
        again = make(d, 0, 100, maxima[i]); /* perhaps in the same record */
        check_bad_handle(d, copy, TA_ERROR_STALE);
        CHECK(memcmp(&again, &h, sizeof h) != 0);
        CHECK_OK(resize(d, again, 500));
        copy = again;
        CHECK_OK(ta_dynamic_free(d, copy));
        check_bad_handle(d, again, TA_ERROR_STALE);
        CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(d)));
        check_bad_handle(d, again, TA_ERROR_STALE);
        CHECK_OK(ta_dynamic_free(other, theirs));
    }
    close_dynamic(d);
    {
        ta_handle late = make(other, 0, 100, 1000);
        CHECK_OK(ta_dynamic_destroy(other));
        d = open_dynamic(&desc);
        check_bad_handle(d, late, TA_ERROR_FOREIGN); /* of one that is gone */
        close_dynamic(d);
    }
}

static void a_disposed_one_answers_so(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(0, 100, MIB);
    ta_handle h = make(d, 0, 100, 1000), g = make(d, 0, 100000, MIB), out;
    ta_fit fit;
    ta_dynamic_stats f;
    TEST_ALLOW_ASSERTS();
    CHECK_OK(resize(d, g, 200000));
    CHECK_OK(ta_allocator_dispose(ta_dynamic_allocator(d)));
    check_bad_handle(d, h, TA_ERROR_DISPOSED);
    check_bad_handle(d, g, TA_ERROR_DISPOSED);
    memset(&out, 1, sizeof out);
    CHECK_RESULT(ta_dynamic_alloc(d, &bounds, &out), TA_ERROR_DISPOSED);
    CHECK(is_zero(&out, sizeof out));
    CHECK_RESULT(ta_dynamic_would_fit(d, &bounds, 1, &fit), TA_ERROR_DISPOSED);
    f = figures_of(d);
    CHECK_EQ(f.allocation_count, 2);
    CHECK_EQ(f.resize_count, 1);
    CHECK_EQ(f.handle_count, 0);
    CHECK_GT(ta_dynamic_report(d, NULL, 0), 0);
    close_dynamic(d);
}

/* Small and large tensors and plain blocks: all are handles. */
static void plain_blocks_are_handles(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_allocator a = ta_dynamic_allocator(d);
    ta_request request;
    ta_buffer buffer;
    ta_block_info block;
    ta_handle h = make(d, 0, 100, MIB), g;
    void *data = ta_dynamic_get_data(d, h);
    ta_handle_info info;
    TEST_ALLOW_ASSERTS();
    memset(&request, 0, sizeof request);
    request.size_bytes = 5000;
    request.tag = "plain";
    CHECK_OK(ta_allocator_alloc_buffer(a, &request, &buffer));
    g = buffer.id;
    info = info_of(d, g);
    CHECK(info.data == buffer.data);
    CHECK_EQ(info.effective_bytes, 5000);
    CHECK_STRING(info.tag, "plain");
    CHECK_EQ(figures_of(d).handle_count, 2);
    CHECK_RESULT(resize(d, g, 10), TA_ERROR_UNSUPPORTED); /* it has no bounds */
    CHECK_OK(ta_dynamic_free(d, g));
    CHECK_RESULT(ta_allocator_check_buffer(a, &buffer), TA_ERROR_STALE);
    CHECK_OK(ta_allocator_describe(a, data, &block)); /* and a tensor is a block */
    CHECK_EQ(block.requested_bytes, 100);
    CHECK(memcmp(&block.id, &h, sizeof h) == 0);
    CHECK(ta_allocator_resize_in_place(a, data, 0, 200) != TA_OK); /* it is resized by its shape */
    CHECK_EQ(info_of(d, h).effective_bytes, 100);
    CHECK_RESULT(ta_allocator_free(a, data, 99, 0, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK_OK(ta_allocator_free(a, data, 100, 0, 0));
    check_bad_handle(d, h, TA_ERROR_STALE);
    close_dynamic(d);
}

typedef struct diary {
    int counts[8];
    ta_event last[8];
} diary;

static void write_event(void *user, const ta_event *event)
{
    diary *book = (diary *)user;
    book->counts[event->kind]++;
    book->last[event->kind] = *event;
    CHECK_STRING(event->name, "events");
}

static void events_are_told(void)
{
    ta_dynamic_desc desc = exact_desc();
    const ta_shape_bounds bounds = bounds_of(0, 100000, MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    static diary book;
    ta_dynamic *d;
    ta_handle h;
    void *data;
    memset(&book, 0, sizeof book);
    desc.on_event = write_event;
    desc.on_event_user = &book;
    desc.name = "events";
    desc.limit_bytes = 600000;
    d = open_dynamic(&desc);
    request.tag = "tag";
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    data = ta_dynamic_get_data(d, h);
    CHECK_EQ(book.counts[TA_EVENT_ALLOC], 1);
    CHECK(book.last[TA_EVENT_ALLOC].ptr == data);
    CHECK_EQ(book.last[TA_EVENT_ALLOC].size_bytes, 100000);
    CHECK_EQ(book.last[TA_EVENT_ALLOC].capacity_bytes, info_of(d, h).capacity_bytes);
    CHECK_STRING(book.last[TA_EVENT_ALLOC].tag, "tag");
    CHECK_OK(resize(d, h, 300000));
    CHECK_EQ(book.counts[TA_EVENT_RESIZE], 1);
    CHECK(book.last[TA_EVENT_RESIZE].ptr == ta_dynamic_get_data(d, h));
    CHECK_EQ(book.last[TA_EVENT_RESIZE].size_bytes, 300000);
    if (info_of(d, h).in_range) {
        CHECK_GE(book.counts[TA_EVENT_GROW], 2);
        CHECK_OK(resize(d, h, 10));
        CHECK_GE(book.counts[TA_EVENT_TRIM], 1);
        CHECK_GE(book.last[TA_EVENT_TRIM].size_bytes, 200000);
    }
    CHECK_RESULT(resize(d, h, 900000), TA_ERROR_LIMIT);
    CHECK_GE(book.counts[TA_EVENT_LIMIT], 1);
    CHECK_EQ(book.counts[TA_EVENT_FAILURE], 1);
    CHECK_RESULT(book.last[TA_EVENT_FAILURE].result, TA_ERROR_LIMIT);
    CHECK_EQ(book.last[TA_EVENT_FAILURE].size_bytes, 900000);
    CHECK_OK(ta_dynamic_free(d, h));
    CHECK_EQ(book.counts[TA_EVENT_FREE], 1);
    close_dynamic(d);
}

typedef struct caller {
    ta_dynamic *d;
    ta_handle self, other;
    int done;
    ta_result resized, freed, fits, observed, other_resized, made, made_freed;
    void *data;
} caller;

/* What a callback may do in the middle of a resize of self. */
static void call_back(void *user)
{
    caller *c = (caller *)user;
    const ta_shape_bounds bounds = bounds_of(0, 100, MIB);
    const int64_t dims = 2000;
    ta_handle h;
    ta_dynamic_stats f;
    ta_fit fit;
    if (c->done++) {
        return;
    }
    c->resized = ta_dynamic_resize(c->d, c->self, &dims, 1);
    c->observed = ta_dynamic_observe(c->d, c->self, &dims, 1);
    c->fits = ta_dynamic_will_fit_in_place(c->d, c->self, &dims, 1);
    c->freed = ta_dynamic_free(c->d, c->self);
    c->data = ta_dynamic_get_data(c->d, c->self);
    c->other_resized = ta_dynamic_resize(c->d, c->other, &dims, 1);
    c->made = ta_dynamic_alloc(c->d, &bounds, &h);
    c->made_freed = ta_dynamic_free(c->d, h);
    CHECK_OK(ta_dynamic_get_stats(c->d, &f));
    CHECK_OK(ta_dynamic_would_fit(c->d, &bounds, 1, &fit));
    CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(c->d), 0, NULL));
}

static void strategies_may_call_back(void)
{
    ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d = open_dynamic(&desc);
    caller c;
    memset(&c, 0, sizeof c);
    c.d = d;
    c.self = make(d, 0, 100, MIB);
    c.other = make(d, 0, 100, MIB);
    the_spy.inside = call_back;
    the_spy.user = &c;
    CHECK_OK(resize(d, c.self, 100000));
    CHECK_EQ(c.done, 1);
    CHECK_RESULT(c.resized, TA_ERROR_BUSY);
    CHECK_RESULT(c.freed, TA_ERROR_BUSY);
    CHECK_RESULT(c.observed, TA_ERROR_BUSY);
    CHECK_OK(c.other_resized);
    CHECK_OK(c.made);
    CHECK_OK(c.made_freed);
    CHECK(c.data != NULL);
    CHECK_EQ(info_of(d, c.self).effective_bytes, 100000);
    CHECK_EQ(info_of(d, c.other).effective_bytes, 2000);
    CHECK_OK(ta_dynamic_free(d, c.self));
    CHECK_OK(ta_dynamic_free(d, c.other));
    close_dynamic(d);
}

static void call_back_event(void *user, const ta_event *event)
{
    if (event->kind == TA_EVENT_RESIZE || event->kind == TA_EVENT_GROW || event->kind == TA_EVENT_TRIM) {
        caller *c = (caller *)user;
        if (c->d != NULL) {
            call_back(user);
        }
    }
}

/* BUSY is for the very handle that is being changed; others, of the same site too, can be used. */
static void events_may_call_back(void)
{
    ta_dynamic_desc desc = exact_desc();
    const ta_shape_bounds bounds = bounds_of(0, 100, MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_dynamic *d;
    caller c;
    memset(&c, 0, sizeof c);
    desc.on_event = call_back_event;
    desc.on_event_user = &c;
    d = open_dynamic(&desc);
    request.site = 9;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &c.self));
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &c.other));
    c.d = d;
    CHECK_OK(resize(d, c.self, 100000));
    CHECK_GE(c.done, 1);
    CHECK(c.resized == TA_ERROR_BUSY || c.resized == TA_OK);
    CHECK_OK(c.other_resized);
    CHECK_OK(c.made);
    c.d = NULL;
    CHECK_EQ(info_of(d, c.other).effective_bytes, 2000);
    if (c.freed != TA_OK) {
        CHECK_RESULT(c.freed, TA_ERROR_BUSY);
        CHECK_EQ(info_of(d, c.self).effective_bytes, 100000);
        CHECK_OK(ta_dynamic_free(d, c.self));
    }
    CHECK_OK(ta_dynamic_free(d, c.other));
    close_dynamic(d);
}

typedef struct taken {
    ta_dynamic *d;
    ta_handle h;
    int count, busy;
} taken;

static void touch_on_trim(void *user, const ta_event *event)
{
    taken *t = (taken *)user;
    const int64_t dims = 1000;
    if (event->kind == TA_EVENT_TRIM && t->d != NULL) {
        t->count++;
        t->busy += ta_dynamic_will_fit_in_place(t->d, t->h, &dims, 1) == TA_ERROR_BUSY;
    }
}

/* Headroom is taken from one tensor for another: the event is told when that one can be used, too. */
static void events_come_with_nothing_claimed(void)
{
    ta_dynamic_desc desc = spy_desc();
    static taken t;
    ta_dynamic *d;
    ta_handle h;
    int by_limit;
    for (by_limit = 0; by_limit < 2; by_limit++) {
        memset(&t, 0, sizeof t);
        desc.limit_bytes = by_limit ? 2 * MIB : 0;
        desc.capacity_bytes_max = by_limit ? 0 : 2 * MIB;
        desc.on_event = touch_on_trim;
        desc.on_event_user = &t;
        d = open_dynamic(&desc);
        the_spy.answer = 3 * MIB / 2;
        h = make(d, 0, 1000, 3 * MIB / 2);
        the_spy.answer = 0;
        t.h = make(d, 0, 1000, 3 * MIB / 2);
        t.d = d;
        CHECK_RESULT(resize(d, t.h, MIB), !by_limit || info_of(d, h).in_range ? TA_OK : TA_ERROR_LIMIT);
        if (info_of(d, h).in_range) {
            CHECK_GE(t.count, 1);
        }
        CHECK_EQ(t.busy, 0);
        CHECK_OK(ta_dynamic_free(d, h));
        CHECK_OK(ta_dynamic_free(d, t.h));
        close_dynamic(d);
        t.d = NULL;
    }
}

static void the_report_tells_the_figures(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_handle h;
    char text[2000], cut[40];
    size_t length;
    desc.name = "tensors";
    d = open_dynamic(&desc);
    h = make(d, 0, 3000, 5000);
    CHECK_OK(resize(d, h, 1500));
    length = ta_dynamic_report(d, text, sizeof text);
    CHECK_GT(length, 0);
    CHECK_LT(length, sizeof text);
    CHECK_EQ(length, strlen(text));
    CHECK(strstr(text, "tensors") != NULL);
    CHECK(strstr(text, "allocations 1") != NULL);
    CHECK(strstr(text, "resizes 1") != NULL);
    CHECK_EQ(ta_dynamic_report(d, NULL, 0), length);
    memset(cut, 'x', sizeof cut);
    CHECK_EQ(ta_dynamic_report(d, cut, sizeof cut), length);
    CHECK_EQ(strlen(cut), sizeof cut - 1);
    CHECK(strncmp(cut, text, sizeof cut - 1) == 0);
    CHECK_GT(ta_report(ta_dynamic_allocator(d), text, sizeof text), 0);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/*---------------------------------------------------------------------------------------------------------
  Where tensors live when there are no ranges: upstreams.
  -------------------------------------------------------------------------------------------------------*/
static void over_an_arena_the_last_block_grows_in_place(void)
{
    ta_arena *arena;
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_handle a, b;
    void *at;
    CHECK_OK(ta_arena_create(NULL, &arena));
    desc.upstream = ta_arena_allocator(arena);
    d = open_dynamic(&desc);
    a = make(d, 0, 1000, MIB);
    CHECK(!info_of(d, a).in_range);
    at = ta_dynamic_get_data(d, a);
    fill(at, 1, 0, 1000);
    CHECK_OK(resize(d, a, 500000)); /* the last one */
    CHECK(ta_dynamic_get_data(d, a) == at);
    CHECK_EQ(wrong_bytes(at, 1, 0, 1000), 0);
    b = make(d, 0, 1000, MIB);
    fill(ta_dynamic_get_data(d, b), 2, 0, 1000);
    CHECK_OK(resize(d, a, 600000)); /* no longer */
    CHECK(ta_dynamic_get_data(d, a) != at);
    CHECK_EQ(figures_of(d).move_count, 1);
    CHECK_EQ(figures_of(d).moved_bytes, 500000);
    CHECK_EQ(wrong_bytes(ta_dynamic_get_data(d, a), 1, 0, 1000), 0);
    CHECK_OK(ta_dynamic_free(d, b));
    CHECK_OK(resize(d, a, 100));
    CHECK_OK(ta_dynamic_free(d, a));
    {
        ta_stats s;
        CHECK_OK(ta_allocator_get_stats(ta_arena_allocator(arena), &s));
        CHECK_EQ(s.live_count, 0);
    }
    close_dynamic(d);
    CHECK_OK(ta_arena_destroy(arena));
}

/* Disposing gives live blocks back to an upstream of the user's, too. */
static void nothing_stays_in_the_upstream(void)
{
    ta_pool *pool;
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_request request;
    ta_stats s;
    int i;
    memset(&request, 0, sizeof request);
    request.size_bytes = 300;
    CHECK_OK(ta_pool_create(NULL, &pool));
    desc.upstream = ta_pool_allocator(pool);
    d = open_dynamic(&desc);
    for (i = 0; i < 20; i++) {
        (void)make(d, 0, 1000, i % 2 == 0 ? MIB : 2000);
        CHECK(ta_allocator_alloc(ta_dynamic_allocator(d), &request, NULL) != NULL);
    }
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 40);
    CHECK_EQ(stats_of(d).in_use_bytes, s.in_use_bytes);
    close_dynamic(d);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.live_count, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

/* A record for each live handle, and not one for what is only warm. */
static void handle_count_max_is_for_live_handles(void)
{
    ta_dynamic_desc desc = exact_desc();
    size_t max, i, round;
    for (max = 1; max <= 100; max = max * 5 - 1) {
        ta_dynamic *d;
        ta_handle h[120], more;
        const ta_shape_bounds bounds = bounds_of(0, 100, MIB);
        desc.handle_count_max = max;
        d = open_dynamic(&desc);
        test_context("handle_count_max %u", (unsigned)max);
        for (round = 0; round < 3; round++) {
            size_t count = 0;
            for (i = 0; i < max; i++) {
                h[i] = make(d, 0, 100 + 100000 * round, (size_t)MIB << (3 * round));
                count += h[i].owner != 0;
            }
            REQUIRE(count == max);
            for (i = max; i < 119; i++) { /* a page may have room for some more */
                const ta_result result = ta_dynamic_alloc(d, &bounds, &more);
                CHECK(result == TA_OK || result == TA_ERROR_RECORDS);
                if (result != TA_OK) {
                    break;
                }
                h[i] = more;
            }
            count = i;
            CHECK_OK(resize(d, h[0], 400000)); /* those that are there go on */
            for (i = 0; i < count; i++) {
                CHECK_OK(ta_dynamic_free(d, h[i]));
            }
        }
        test_context("%s", "");
        close_dynamic(d);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Random programs against a model: what every call has to do to contents, places and figures.
  -------------------------------------------------------------------------------------------------------*/
typedef enum model_source {
    OVER_HOST,        /* memory comes by touch where it can */
    OVER_DISCARD,     /* the same, watched */
    OVER_COUNTING,    /* watched, committed as needed */
    OVER_SEGMENTS,    /* no addresses: everything moves */
    OVER_FIXED,       /* a buffer of the caller's */
    OVER_POOL,        /* upstreams */
    OVER_ARENA,
    OVER_DIRECT,
    OVER_POOL_RANGES  /* an upstream for blocks, and ranges besides */
} model_source;

enum {
    M_SINGLE = 1, M_NO_RANGES = 2, M_LIMIT = 4, M_CAPACITY = 8, M_CACHED = 16, M_SMALL_RANGES = 32, M_STRICT = 64
};
typedef enum model_strategy { BY_DEFAULT, BY_EXACT, BY_PADDING, BY_ADAPTIVE, BY_NONSENSE } model_strategy;

typedef struct model_kind {
    const char *name;
    model_source source;
    model_strategy strategy;
    unsigned options;
} model_kind;

static const model_kind model_kinds[] = {
    {"host", OVER_HOST, BY_DEFAULT, 0},
    {"host, exact", OVER_HOST, BY_EXACT, M_SMALL_RANGES},
    {"host, nonsense, single-threaded", OVER_HOST, BY_NONSENSE, M_SINGLE | M_SMALL_RANGES},
    {"host, no ranges", OVER_HOST, BY_NONSENSE, M_NO_RANGES},
    {"discard, limit", OVER_DISCARD, BY_DEFAULT, M_LIMIT | M_SMALL_RANGES},
    {"discard, cached cap, adaptive", OVER_DISCARD, BY_ADAPTIVE, M_CACHED},
    {"counting, default", OVER_COUNTING, BY_DEFAULT, M_SMALL_RANGES},
    {"counting, exact, limit", OVER_COUNTING, BY_EXACT, M_LIMIT | M_SMALL_RANGES},
    {"counting, nonsense, capacity, strict", OVER_COUNTING, BY_NONSENSE, M_CAPACITY | M_SMALL_RANGES | M_STRICT},
    {"counting, padding, limit, single-threaded", OVER_COUNTING, BY_PADDING, M_LIMIT | M_CAPACITY | M_SINGLE},
    {"segments", OVER_SEGMENTS, BY_EXACT, 0},
    {"segments, limit", OVER_SEGMENTS, BY_DEFAULT, M_LIMIT},
    {"fixed buffer", OVER_FIXED, BY_ADAPTIVE, 0},
    {"pool", OVER_POOL, BY_EXACT, M_SINGLE},
    {"arena", OVER_ARENA, BY_EXACT, 0},
    {"arena, nonsense, capacity", OVER_ARENA, BY_NONSENSE, M_CAPACITY},
    {"direct", OVER_DIRECT, BY_NONSENSE, 0},
    {"pool and ranges, limit", OVER_POOL_RANGES, BY_EXACT, M_LIMIT}
};
#define MODEL_KINDS (sizeof model_kinds / sizeof model_kinds[0])
#define MODEL_TENSORS 20
#define MODEL_LIMIT (3 * MIB)
#define MODEL_CAPACITY (2 * MIB)
#define MODEL_FIXED (2 * MIB)
#define MODEL_CACHED (256 * KIB)

typedef struct model_tensor {
    int live, flat, zeroed;
    ta_handle h;
    void *data;    /* of the last call */
    size_t size, capacity, max, alignment;
    uint64_t seed; /* of the contents */
    uint64_t uses;
    int rank;
    int64_t dims[3];
    int growing;
} model_tensor;

typedef struct model {
    const model_kind *kind;
    ta_dynamic *d;
    tb_counting counting;
    int counted;
    ta_budget *budget;
    ta_pool *pool;
    ta_arena *arena;
    ta_direct *direct;
    ta_allocator below;
    ta_fixed_buffer fixed;
    void *fixed_memory;
    size_t limit, capacity_max;
    uint64_t random;
    model_tensor t[MODEL_TENSORS];
    ta_dynamic_stats want; /* the cumulative part, and what follows from the model */
    uint64_t failures, moved_pointers;
    int tensors; /* live */
} model;

static size_t model_nonsense(const void *config, void *state, const ta_strategy_input *in)
{
    uint64_t *random = (uint64_t *)state;
    (void)config;
    switch (test_below(random, 6)) {
    case 0:
        return 0;
    case 1:
        return (size_t)-1 >> test_below(random, 3);
    case 2:
        return in->size_bytes / 2;
    case 3:
        return in->max_bytes;
    default:
        return in->size_bytes + test_below(random, 100000);
    }
}

static int model_whim(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)in;
    return test_below((uint64_t *)state, 3) == 0;
}

static ta_strategy model_strategy_of(model_strategy which)
{
    static const ta_strategy_vtable nonsense = {sizeof(ta_strategy_vtable), "nonsense", 8, model_nonsense, model_whim,
                                                NULL};
    ta_strategy strategy;
    memset(&strategy, 0, sizeof strategy);
    switch (which) {
    case BY_EXACT:
        return ta_strategy_exact();
    case BY_PADDING:
        return ta_strategy_padding(NULL);
    case BY_ADAPTIVE:
        return ta_strategy_adaptive(NULL);
    case BY_NONSENSE:
        strategy.vtable = &nonsense;
        return strategy;
    case BY_DEFAULT:
    default:
        return strategy;
    }
}

static void model_open(model *m, const model_kind *kind, uint64_t seed)
{
    ta_dynamic_desc desc = zero_desc();
    ta_budget_desc budget;
    ta_backend backend = ta_backend_host();
    memset(m, 0, sizeof *m);
    memset(&budget, 0, sizeof budget);
    m->kind = kind;
    m->random = seed;
    m->limit = (kind->options & M_LIMIT) != 0 ? MODEL_LIMIT : TA_UNLIMITED;
    m->capacity_max = (kind->options & M_CAPACITY) != 0 ? MODEL_CAPACITY : TA_UNLIMITED;
    desc.strategy = model_strategy_of(kind->strategy);
    desc.single_threaded = (kind->options & M_SINGLE) != 0;
    desc.disable_ranges = (kind->options & M_NO_RANGES) != 0;
    desc.strict = (kind->options & M_STRICT) != 0;
    desc.cached_bytes_max = (kind->options & M_CACHED) != 0 ? MODEL_CACHED : 0;
    desc.range_bytes_min = (kind->options & M_SMALL_RANGES) != 0 ? 4096 : 0;
    desc.capacity_bytes_max = (kind->options & M_CAPACITY) != 0 ? MODEL_CAPACITY : 0;
    switch (kind->source) {
    case OVER_DISCARD:
    case OVER_COUNTING:
    case OVER_POOL_RANGES:
        backend = tb_counting_init(&m->counting, backend, 0);
        (void)(kind->source == OVER_DISCARD && tb_counting_let_discard(&m->counting));
        m->counted = 1;
        break;
    case OVER_SEGMENTS:
        backend = tb_counting_init(&m->counting, backend, TA_CAP_RANGES | TA_CAP_FRESH_ZERO);
        m->counted = 1;
        break;
    case OVER_FIXED:
        m->fixed_memory = malloc(MODEL_FIXED);
        if (m->fixed_memory == NULL) {
            abort();
        }
        CHECK_OK(ta_backend_fixed(&m->fixed, m->fixed_memory, MODEL_FIXED, &backend));
        backend = tb_counting_init(&m->counting, backend, 0);
        m->counted = 1;
        break;
    case OVER_POOL:
        CHECK_OK(ta_pool_create(NULL, &m->pool));
        m->below = ta_pool_allocator(m->pool);
        break;
    case OVER_ARENA:
        CHECK_OK(ta_arena_create(NULL, &m->arena));
        m->below = ta_arena_allocator(m->arena);
        break;
    case OVER_DIRECT:
        CHECK_OK(ta_direct_create(NULL, &m->direct));
        m->below = ta_direct_allocator(m->direct);
        break;
    case OVER_HOST:
    default:
        break;
    }
    if (m->counted) {
        budget.backend = backend;
        budget.limit_bytes = m->limit == TA_UNLIMITED ? 0 : m->limit;
        CHECK_OK(ta_budget_create(&budget, &m->budget));
        desc.budget = m->budget;
    }
    if (kind->source == OVER_POOL_RANGES) {
        ta_pool_desc pool;
        memset(&pool, 0, sizeof pool);
        pool.budget = m->budget;
        CHECK_OK(ta_pool_create(&pool, &m->pool));
        m->below = ta_pool_allocator(m->pool);
    }
    desc.upstream = m->below;
    m->d = open_dynamic(&desc);
}

/* The figures as the model has them. */
static void model_check(model *m, int thorough)
{
    const ta_dynamic_stats f = figures_of(m->d);
    const ta_stats s = stats_of(m->d);
    size_t i, effective = 0, capacity = 0, count = 0;
    for (i = 0; i < MODEL_TENSORS; i++) {
        model_tensor *t = &m->t[i];
        if (t->live) {
            const ta_handle_info info = info_of(m->d, t->h); /* headroom may have been taken from it */
            CHECK(info.data == t->data);
            CHECK_LE(info.capacity_bytes, t->capacity);
            CHECK_GE(info.capacity_bytes, t->size);
            CHECK_EQ(info.effective_bytes, t->size);
            CHECK_EQ(info.use_count, t->uses);
            CHECK_EQ(info.rank, t->rank);
            CHECK(memcmp(info.dims, t->dims, (size_t)t->rank * 8) == 0);
            t->capacity = info.capacity_bytes;
            if (thorough) {
                CHECK_EQ(wrong_bytes(t->data, t->seed, 0, t->size), 0);
            }
            effective += t->size;
            capacity += t->capacity;
            count++;
        }
    }
    CHECK_EQ(f.handle_count, count);
    CHECK_EQ(f.effective_bytes, effective);
    CHECK_EQ(f.capacity_bytes, capacity);
    CHECK_EQ(f.wasted_bytes, capacity - effective);
    CHECK(f.average_utilization == quotient(effective, capacity, 1.0) || effective == 0);
    CHECK_GE(f.peak_capacity_bytes, capacity);
    CHECK_GE(f.peak_wasted_bytes, capacity - effective);
    CHECK_EQ(f.allocation_count, m->want.allocation_count);
    CHECK_EQ(f.free_count, m->want.free_count);
    CHECK_EQ(f.resize_count, m->want.resize_count);
    CHECK_EQ(f.capacity_change_count, m->want.capacity_change_count);
    CHECK_EQ(f.use_count, m->want.use_count);
    CHECK_EQ(f.used_bytes, m->want.used_bytes);
    CHECK_EQ(f.over_allocated_bytes, m->want.over_allocated_bytes);
    CHECK_EQ(f.under_prediction_count, m->want.under_prediction_count);
    CHECK_EQ(f.avoided_change_count, m->want.avoided_change_count);
    CHECK_EQ(f.allocated_bytes, m->want.allocated_bytes);
    CHECK_EQ(f.failure_count, m->failures);
    CHECK_LE(f.move_count, m->moved_pointers);
    CHECK_LE(f.decommitted_bytes, f.committed_bytes);
    CHECK(f.regret == quotient(f.over_allocated_bytes, f.used_bytes, 0.0));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_EQ(s.live_count, count);
    CHECK_EQ(s.requested_bytes, effective);
    CHECK_GE(s.in_use_bytes, capacity);
    CHECK_LE(f.cached_bytes, s.cached_bytes);
    CHECK_EQ(s.allocation_count, m->want.allocation_count);
    CHECK_EQ(s.deallocation_count, m->want.free_count);
    CHECK_LE(capacity, m->capacity_max);
    CHECK_LE(f.peak_capacity_bytes, m->capacity_max);
    if (m->counted) {
        ta_budget_stats b;
        size_t below = 0;
        CHECK_OK(ta_budget_get_stats(m->budget, &b));
        CHECK_LE(b.peak_reserved_bytes, m->limit);
        if (m->pool != NULL) { /* the blocks are in the books of both */
            ta_stats p;
            CHECK_OK(ta_pool_get_stats(m->pool, &p));
            below = p.reserved_bytes - p.in_use_bytes;
        }
        CHECK_EQ(b.reserved_bytes, s.reserved_bytes + below);
        if (m->counting.table.discard == NULL) {
            CHECK_EQ(tb_counting_held(&m->counting), b.reserved_bytes);
        }
        CHECK_EQ(m->counting.violations.count, 0);
    }
}

static void model_close(model *m)
{
    model_check(m, 1);
    close_dynamic(m->d);
    if (m->below.self != NULL) {
        ta_stats s;
        CHECK_OK(ta_allocator_get_stats(m->below, &s));
        CHECK_EQ(s.live_count, 0);
        CHECK_OK(ta_allocator_destroy(m->below));
    }
    if (m->counted) {
        ta_budget_stats b;
        CHECK_OK(ta_budget_get_stats(m->budget, &b));
        CHECK_EQ(b.reserved_bytes + b.allocator_count, 0);
        CHECK_OK(ta_budget_destroy(m->budget));
        tb_counting_check(&m->counting, 1);
        tb_counting_end(&m->counting);
    }
    free(m->fixed_memory);
}

/* Sizes: mostly small, some large, some nothing, some outside the bounds. */
static size_t model_size(model *m, size_t max)
{
    const size_t most = max == TA_UNLIMITED ? 300000 : max;
    const uint32_t what = test_below(&m->random, 32);
    if (what == 0) {
        return 0;
    }
    if (what == 1 && (m->kind->options & M_STRICT) == 0) {
        return most + test_below(&m->random, (uint32_t)(most / 2 < 100000 ? most / 2 + 1 : 100000));
    }
    if (what < 4) {
        return most - test_below(&m->random, (uint32_t)(most < 100 ? most : 100));
    }
    return test_below(&m->random, (uint32_t)(what < 27 ? (most < 3000 ? most : 3000) : most) + 1u);
}

static void model_count_use(model *m, size_t size, size_t capacity)
{
    m->want.use_count++;
    m->want.used_bytes += size;
    m->want.over_allocated_bytes += capacity - size;
}

/* A call failed: only a limit is a reason, and nothing has changed. */
static void model_failed(model *m, ta_result result)
{
    m->failures++;
    CHECK(m->limit != TA_UNLIMITED || m->capacity_max != TA_UNLIMITED || m->kind->source == OVER_FIXED);
    CHECK(result == TA_ERROR_LIMIT || result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED);
}

/* After a call that may have put t elsewhere: the rest of its contents. */
static void model_settle(model *m, model_tensor *t, size_t kept, size_t size, int zeroed)
{
    size_t i;
    for (i = 0; i < 8 && kept != 0; i++) { /* all of it in the thorough checks */
        size_t at = i == 0 ? 0 : i == 1 ? kept - 1 : test_below(&m->random, (uint32_t)kept);
        CHECK_EQ(((unsigned char *)t->data)[at], byte_at(t->seed, at));
    }
    if (zeroed) {
        CHECK(is_zero((unsigned char *)t->data + kept, size - kept));
    }
    fill(t->data, t->seed, kept, size);
}

static void model_make(model *m, model_tensor *t)
{
    static const size_t maxima[] = {1, 100, 4000, 30000, 65535, 65536, 200000, 600000, TA_UNLIMITED};
    const size_t max = maxima[test_below(&m->random, 9)], size = model_size(m, max);
    ta_shape_bounds bounds = bounds_of(0, 0, max);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle_info info;
    ta_result result;
    memset(t, 0, sizeof *t);
    if (test_below(&m->random, 2) != 0) { /* the same in three dimensions */
        bounds.rank = t->rank = 3;
        bounds.min[0] = bounds.min[2] = bounds.expected[0] = bounds.expected[2] = 1;
        bounds.max[0] = bounds.max[2] = 1;
        bounds.max[1] = bounds.max[0];
        bounds.max[1] = max == TA_UNLIMITED ? TA_DIM_UNBOUNDED : (int64_t)max;
        t->dims[0] = t->dims[2] = 1;
        t->dims[1] = (int64_t)size;
    } else {
        t->rank = 1;
        t->dims[0] = (int64_t)size;
    }
    request.dims = t->dims;
    request.alignment_bytes = test_below(&m->random, 4) == 0 ? (size_t)1 << test_below(&m->random, 15) : 0;
    request.site = test_below(&m->random, 4);
    t->zeroed = test_below(&m->random, 3) == 0;
    t->growing = test_below(&m->random, 8) == 0;
    request.flags =
        (uint32_t)(t->zeroed ? TA_REQUEST_ZEROED : 0) | (t->growing ? (uint32_t)TA_DYNAMIC_GROWING : 0u);
    result = ta_dynamic_alloc_request(m->d, &request, &t->h);
    if (result != TA_OK) {
        CHECK(is_zero(&t->h, sizeof t->h));
        model_failed(m, result);
        return;
    }
    info = info_of(m->d, t->h);
    t->live = 1;
    t->max = max;
    t->alignment = request.alignment_bytes;
    t->seed = test_random(&m->random);
    t->data = info.data;
    t->size = size;
    t->capacity = info.capacity_bytes;
    t->uses = 1;
    CHECK_EQ(info.effective_bytes, size);
    CHECK_GE(info.capacity_bytes, size);
    CHECK_LE(info.capacity_bytes, size > max ? size : max);
    CHECK_EQ((uintptr_t)info.data % (t->alignment < 64 ? 64 : t->alignment), 0);
    m->want.allocation_count++;
    m->want.allocated_bytes += t->capacity;
    model_count_use(m, size, t->capacity);
    model_settle(m, t, 0, size, t->zeroed);
}

static void model_resize(model *m, model_tensor *t)
{
    const size_t size = model_size(m, t->max), kept = size < t->size ? size : t->size;
    const int64_t old = t->dims[t->rank == 3];
    const ta_handle_info before = info_of(m->d, t->h);
    ta_handle_info info;
    ta_result result, fits;
    t->dims[t->rank == 3] = (int64_t)size;
    fits = ta_dynamic_will_fit_in_place(m->d, t->h, t->dims, t->rank);
    CHECK_RESULT(fits, size <= before.in_place_bytes ? TA_OK : TA_ERROR_WOULD_MOVE);
    result = ta_dynamic_resize(m->d, t->h, t->dims, t->rank);
    info = info_of(m->d, t->h);
    if (result != TA_OK) {
        t->dims[t->rank == 3] = old;
        same_info(&before, &info);
        model_failed(m, result);
        CHECK_GT(size, before.capacity_bytes); /* what fits cannot fail */
        return;
    }
    CHECK_EQ(info.effective_bytes, size);
    CHECK_GE(info.capacity_bytes, size);
    CHECK_LE(info.capacity_bytes, size > t->max ? size : t->max);
    CHECK(fits != TA_OK || info.data == before.data || before.data == NULL);
    CHECK_EQ((uintptr_t)info.data % (t->alignment < 64 ? 64 : t->alignment), 0);
    m->moved_pointers += info.data != before.data;
    m->want.resize_count++;
    m->want.capacity_change_count += info.capacity_bytes != before.capacity_bytes;
    m->want.under_prediction_count += size > before.capacity_bytes && !(t->growing && info.in_range);
    m->want.avoided_change_count += size != t->size && info.capacity_bytes == before.capacity_bytes;
    if (info.capacity_bytes > before.capacity_bytes) {
        m->want.allocated_bytes += info.capacity_bytes - before.capacity_bytes;
    }
    model_count_use(m, size, info.capacity_bytes);
    t->data = info.data;
    t->capacity = info.capacity_bytes;
    t->size = size;
    t->uses++;
    model_settle(m, t, kept, size, t->zeroed);
}

/* A plain block among the tensors. */
static void model_plain(model *m, model_tensor *t)
{
    ta_request request;
    ta_result result = TA_OK;
    ta_buffer buffer;
    memset(t, 0, sizeof *t);
    memset(&request, 0, sizeof request);
    request.size_bytes = 1 + test_below(&m->random, 50000);
    result = ta_allocator_alloc_buffer(ta_dynamic_allocator(m->d), &request, &buffer);
    if (result != TA_OK) {
        model_failed(m, result);
        return;
    }
    t->live = t->flat = 1;
    t->h = buffer.id;
    t->data = buffer.data;
    t->size = request.size_bytes;
    t->capacity = info_of(m->d, t->h).capacity_bytes;
    t->uses = 1;
    t->seed = test_random(&m->random);
    m->want.allocation_count++;
    m->want.allocated_bytes += t->capacity;
    model_count_use(m, t->size, t->capacity);
    fill(t->data, t->seed, 0, t->size);
}

static void model_step(model *m)
{
    model_tensor *t = &m->t[test_below(&m->random, MODEL_TENSORS)];
    const uint32_t what = test_below(&m->random, 1000);
    if (what < 3) {
        size_t released = 0;
        const size_t keep = test_below(&m->random, 300000), was = stats_of(m->d).reserved_bytes;
        CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(m->d), keep, &released));
        CHECK_EQ(released, was - stats_of(m->d).reserved_bytes);
    } else if (what == 3) {
        CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(m->d)));
        if (m->pool == NULL && m->arena == NULL && m->direct == NULL && m->kind->source != OVER_FIXED) {
            CHECK_EQ(figures_of(m->d).cached_bytes, 0);
        }
    } else if (!t->live) {
        if (what < 960) {
            model_make(m, t);
        } else {
            model_plain(m, t);
        }
    } else if (what < 850 && !t->flat) {
        model_resize(m, t);
    } else if (what < 880 && !t->flat) {
        const ta_handle_info before = info_of(m->d, t->h);
        ta_handle_info after;
        CHECK_OK(ta_dynamic_observe(m->d, t->h, t->dims, t->rank));
        CHECK_OK(ta_dynamic_record_use(m->d, t->h, 3));
        after = info_of(m->d, t->h);
        same_info(&before, &after);
    } else {
        CHECK_OK(t->flat && what % 2 == 0
                     ? ta_allocator_free(ta_dynamic_allocator(m->d), t->data, t->size, 0, 0)
                     : ta_dynamic_free(m->d, t->h));
        CHECK(ta_dynamic_get_data(m->d, t->h) == NULL);
        t->live = 0;
        m->want.free_count++;
    }
}

static void random_programs_keep_contents_and_figures(void)
{
    static model m;
    const uint32_t steps = 17000 / SLOWER;
    size_t k;
    for (k = 0; k < MODEL_KINDS; k++) {
        const uint64_t seed = test_now.seed * 1000 + k;
        uint32_t step;
        test_context("%s, seed %llu", model_kinds[k].name, (unsigned long long)test_now.seed);
        model_open(&m, &model_kinds[k], seed);
        for (step = 0; step < steps && test_now.failures < 10; step++) {
            model_step(&m);
            if (step % 4 == 0) {
                model_check(&m, step % 1000 == 0);
            }
        }
        model_close(&m);
    }
    test_context("%s", "");
}

/*---------------------------------------------------------------------------------------------------------
  Threads. They hand what they find to the main one.
  -------------------------------------------------------------------------------------------------------*/
#if !defined(_WIN32) || defined(__MINGW32__)
#define THREADS 4
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

typedef struct worker {
    ta_dynamic *d;
    ta_handle h, idle;
    uint64_t seed, wrong;
    ta_result bad; /* the first result that ought not to be */
    int number, rounds;
    int limited;   /* TA_ERROR_LIMIT is no fault */
    size_t limit;
} worker;

static void work_note(worker *w, ta_result result)
{
    if (result != TA_OK && !(w->limited && result == TA_ERROR_LIMIT) && w->bad == TA_OK) {
        w->bad = result;
    }
}

static void run_workers(worker *workers, int count, void *(*work)(void *))
{
    pthread_t threads[THREADS];
    int i;
    for (i = 0; i < count; i++) {
        workers[i].number = i;
        workers[i].seed = test_now.seed * 31 + (uint64_t)i;
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) {
            abort();
        }
    }
    for (i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
        CHECK_EQ(workers[i].wrong, 0);
        CHECK_OK(workers[i].bad);
    }
}

/* A tensor of its own that is resized, filled and looked at; now and then another one, a trim, a plain block. */
static void *work_on_own(void *user)
{
    worker *w = (worker *)user;
    const ta_shape_bounds bounds = bounds_of(0, 1000, MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    const ta_allocator a = ta_dynamic_allocator(w->d);
    size_t size = 1000, kept;
    int i;
    request.site = 1; /* all of them together */
    work_note(w, ta_dynamic_alloc_request(w->d, &request, &w->h));
    if (w->h.owner == 0) {
        return NULL;
    }
    fill(ta_dynamic_get_data(w->d, w->h), w->seed, 0, size);
    for (i = 0; i < w->rounds; i++) {
        const uint32_t what = test_below(&w->seed, 16);
        const uint64_t mark = (uint64_t)w->number + 100;
        ta_handle_info info;
        ta_dynamic_stats f;
        int64_t dims;
        ta_result result;
        if (i == 0 || what == 0) { /* from the beginning */
            fill(ta_dynamic_get_data(w->d, w->h), mark, 0, size);
        }
        dims = (int64_t)test_below(&w->seed, what < 8 ? 300000 : 20000);
        if (what < 13) {
            result = ta_dynamic_resize(w->d, w->h, &dims, 1);
            work_note(w, result);
            if (result == TA_OK) {
                kept = (size_t)dims < size ? (size_t)dims : size;
                size = (size_t)dims;
                w->wrong += wrong_bytes(ta_dynamic_get_data(w->d, w->h), mark, 0, kept < 200 ? kept : 200);
                w->wrong += wrong_bytes(ta_dynamic_get_data(w->d, w->h), mark, kept < 200 ? 0 : kept - 200, kept);
                fill(ta_dynamic_get_data(w->d, w->h), mark, kept, size);
            }
        } else if (what == 13) {
            ta_handle other;
            if (ta_dynamic_alloc_request(w->d, &request, &other) == TA_OK) {
                memset(ta_dynamic_get_data(w->d, other), 1, 1000);
                work_note(w, ta_dynamic_free(w->d, other));
            }
        } else if (what == 14) {
            ta_request plain;
            ta_result why = TA_OK;
            void *ptr;
            memset(&plain, 0, sizeof plain);
            plain.size_bytes = 3000;
            ptr = ta_allocator_alloc(a, &plain, &why);
            work_note(w, why);
            if (ptr != NULL) {
                memset(ptr, 2, 3000);
                work_note(w, ta_allocator_free(a, ptr, 3000, 0, 0));
            }
        } else if (i % 64 == 0) {
            work_note(w, ta_allocator_empty_cache(a));
        }
        work_note(w, ta_dynamic_get_handle(w->d, w->h, &info));
        w->wrong += info.effective_bytes != size || info.capacity_bytes < size || info.dims[0] != (int64_t)size;
        work_note(w, ta_dynamic_get_stats(w->d, &f));
        w->wrong += f.capacity_bytes > w->limit || f.peak_capacity_bytes > w->limit;
    }
    work_note(w, ta_dynamic_free(w->d, w->h));
    return NULL;
}

static void threads_with_tensors_of_their_own(void)
{
    int kind;
    for (kind = 0; kind < 5; kind++) {
        worker workers[THREADS];
        ta_dynamic_desc desc = kind == 1 ? exact_desc() : zero_desc();
        ta_dynamic *d;
        ta_stats s;
        int i;
        desc.limit_bytes = kind == 2 ? MIB : 0;
        desc.capacity_bytes_max = kind == 3 ? MIB : 0;
        desc.disable_ranges = kind == 4;
        d = open_dynamic(&desc);
        memset(workers, 0, sizeof workers);
        for (i = 0; i < THREADS; i++) {
            workers[i].d = d;
            workers[i].rounds = 1500 / (SLOWER > 4 ? 4 : 1);
            workers[i].limited = kind == 2 || kind == 3;
            workers[i].limit = kind == 3 ? MIB : TA_UNLIMITED;
        }
        test_context("kind %d, seed %llu", kind, (unsigned long long)test_now.seed);
        run_workers(workers, THREADS, work_on_own);
        s = stats_of(d);
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.in_use_bytes, 0);
        CHECK_LE(s.peak_reserved_bytes, kind == 2 ? MIB : TA_UNLIMITED);
        CHECK_EQ(figures_of(d).capacity_bytes, 0);
        close_dynamic(d);
    }
    test_context("%s", "");
}

/* All resize the same tensor: one after the other. */
static void *work_on_one(void *user)
{
    worker *w = (worker *)user;
    int i;
    for (i = 0; i < w->rounds; i++) {
        const uint32_t small = test_below(&w->seed, 100) + 1000u * (uint32_t)w->number;
        const int64_t dims = (int64_t)(test_below(&w->seed, 2) != 0 ? small : test_below(&w->seed, 400000));
        ta_handle_info info;
        work_note(w, ta_dynamic_resize(w->d, w->h, &dims, 1));
        work_note(w, ta_dynamic_get_handle(w->d, w->h, &info));
        w->wrong += info.capacity_bytes < info.effective_bytes || info.effective_bytes != (size_t)info.dims[0];
        if (i % 16 == 0) {
            work_note(w, ta_dynamic_observe(w->d, w->h, &dims, 1));
            (void)ta_dynamic_will_fit_in_place(w->d, w->h, &dims, 1);
            work_note(w, ta_dynamic_record_use(w->d, w->h, 1));
        }
    }
    return NULL;
}

static void threads_resize_one_tensor(void)
{
    int ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        worker workers[THREADS];
        ta_dynamic_desc desc = exact_desc();
        ta_dynamic *d;
        ta_handle h;
        int i;
        desc.disable_ranges = !ranges;
        d = open_dynamic(&desc);
        h = make(d, 0, 1000, MIB);
        memset(workers, 0, sizeof workers);
        for (i = 0; i < THREADS; i++) {
            workers[i].d = d;
            workers[i].h = h;
            workers[i].rounds = 3000 / (SLOWER > 4 ? 4 : 1);
        }
        run_workers(workers, THREADS, work_on_one);
        CHECK_EQ(figures_of(d).resize_count, (uint64_t)(THREADS * workers[0].rounds));
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
}

/* One frees, the others find it stale and nothing else. */
static void *work_on_stale(void *user)
{
    worker *w = (worker *)user;
    ta_result result = TA_OK;
    int i;
    for (i = 0; result == TA_OK; i++) {
        const int64_t dims = (int64_t)test_below(&w->seed, 200000);
        if (w->number == 0 && i == w->rounds) {
            work_note(w, ta_dynamic_free(w->d, w->h));
        }
        result = ta_dynamic_resize(w->d, w->h, &dims, 1);
    }
    work_note(w, result == TA_ERROR_STALE ? TA_OK : result);
    return NULL;
}

static void a_tensor_is_freed_under_the_others(void)
{
    const ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    int round, i;
    for (round = 0; round < 60 / (SLOWER > 4 ? 4 : 1); round++) {
        worker workers[THREADS];
        ta_handle h = make(d, 0, 1000, round % 2 == 0 ? MIB : 2000);
        memset(workers, 0, sizeof workers);
        for (i = 0; i < THREADS; i++) {
            workers[i].d = d;
            workers[i].h = h;
            workers[i].rounds = round % 20;
        }
        run_workers(workers, THREADS, work_on_stale);
    }
    CHECK_EQ(figures_of(d).handle_count, 0);
    close_dynamic(d);
}

/* All grow at once: the sum of capacities is never above the maximum, and what was refused left nothing behind. */
static void *work_grow(void *user)
{
    worker *w = (worker *)user;
    const ta_shape_bounds bounds = bounds_of(0, 10, 4 * MIB);
    ta_handle own[8];
    int i;
    memset(own, 0, sizeof own);
    for (i = 0; i < w->rounds; i++) {
        const uint32_t k = test_below(&w->seed, 8);
        ta_dynamic_stats f;
        if (own[k].owner == 0) {
            work_note(w, ta_dynamic_alloc(w->d, &bounds, &own[k]));
        } else if (test_below(&w->seed, 8) == 0) {
            work_note(w, ta_dynamic_free(w->d, own[k]));
            own[k] = no_handle();
        } else {
            const int64_t dims = (int64_t)test_below(&w->seed, 400000);
            work_note(w, ta_dynamic_resize(w->d, own[k], &dims, 1));
        }
        work_note(w, ta_dynamic_get_stats(w->d, &f));
        w->wrong += f.capacity_bytes > w->limit || f.wasted_bytes > w->limit || f.peak_wasted_bytes > w->limit ||
                    f.effective_bytes > f.capacity_bytes || f.average_utilization > 1.0;
    }
    for (i = 0; i < 8; i++) {
        work_note(w, ta_dynamic_free(w->d, own[i]));
    }
    return NULL;
}

static void capacity_binds_while_threads_grow(void)
{
    int kind;
    for (kind = 0; kind < 3; kind++) {
        worker workers[THREADS];
        ta_dynamic_desc desc = exact_desc();
        const double factor = 3.0;
        ta_dynamic *d;
        ta_dynamic_stats f;
        ta_handle h;
        int i;
        desc.strategy = kind == 1 ? ta_strategy_padding(&factor) : desc.strategy;
        desc.capacity_bytes_max = 2 * MIB;
        desc.disable_ranges = kind == 2;
        d = open_dynamic(&desc);
        memset(workers, 0, sizeof workers);
        for (i = 0; i < THREADS; i++) {
            workers[i].d = d;
            workers[i].rounds = 2000 / (SLOWER > 4 ? 4 : 1);
            workers[i].limited = 1;
            workers[i].limit = 2 * MIB;
        }
        run_workers(workers, THREADS, work_grow);
        f = figures_of(d);
        CHECK_EQ(f.capacity_bytes + f.effective_bytes + f.handle_count, 0);
        CHECK_LE(f.peak_capacity_bytes, 2 * MIB);
        CHECK_LE(f.peak_wasted_bytes, 2 * MIB);
        CHECK_GT(f.failure_count, 0);
        h = make(d, 0, 2 * MIB, 2 * MIB); /* all of it is to be had again */
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
}

/* Of a tensor of an upstream nothing is ever cached: what is reserved and what is in use are of one moment. Thread
   0 looks. */
static void *work_look(void *user)
{
    worker *w = (worker *)user;
    ta_handle h = no_handle();
    int i;
    for (i = 0; i < w->rounds; i++) {
        const ta_shape_bounds bounds = bounds_of(0, 1000 * (size_t)(1 + i % 7), MIB);
        const int64_t dims = (int64_t)(1000 * (size_t)(i % 50));
        ta_stats s;
        if (w->number == 0) {
            memset(&s, 0, sizeof s);
            work_note(w, ta_allocator_get_stats(ta_dynamic_allocator(w->d), &s));
            w->wrong += s.cached_bytes != 0 || s.reserved_bytes != s.in_use_bytes;
        } else {
            work_note(w, h.owner == 0 ? ta_dynamic_alloc(w->d, &bounds, &h) : ta_dynamic_resize(w->d, h, &dims, 1));
            if (i % 4 == 3) {
                work_note(w, ta_dynamic_free(w->d, h));
                h = no_handle();
            }
        }
    }
    work_note(w, ta_dynamic_free(w->d, h));
    return NULL;
}

static void statistics_are_of_one_moment(void)
{
    worker workers[THREADS];
    ta_dynamic_desc desc = exact_desc();
    ta_pool *pool;
    ta_dynamic *d;
    int i;
    CHECK_OK(ta_pool_create(NULL, &pool));
    desc.upstream = ta_pool_allocator(pool);
    desc.disable_ranges = 1;
    d = open_dynamic(&desc);
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREADS; i++) {
        workers[i].d = d;
        workers[i].rounds = (i == 0 ? 20000 : 5000) / SLOWER;
    }
    run_workers(workers, THREADS, work_look);
    close_dynamic(d);
    CHECK_OK(ta_pool_destroy(pool));
}

/* Two dynamics and a pool that reclaim from each other. */
static void threads_reclaim_from_each_other(void)
{
    worker workers[THREADS];
    ta_budget_desc budget_desc;
    ta_budget_stats b;
    ta_budget *budget;
    ta_dynamic_desc desc = zero_desc();
    ta_dynamic *d, *other;
    int i;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    d = open_dynamic(&desc);
    other = open_dynamic(&desc);
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREADS; i++) {
        workers[i].d = i % 2 == 0 ? d : other;
        workers[i].rounds = 1500 / (SLOWER > 4 ? 4 : 1);
        workers[i].limited = 1;
        workers[i].limit = TA_UNLIMITED;
    }
    run_workers(workers, THREADS, work_on_own);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_LE(b.peak_reserved_bytes, MIB);
    CHECK_EQ(b.reserved_bytes, stats_of(d).reserved_bytes + stats_of(other).reserved_bytes);
    close_dynamic(d);
    close_dynamic(other);
    CHECK_OK(ta_budget_destroy(budget));
}

/* Two threads, each in an event of its own tensor, that look at the other's: nobody waits for ever. */
typedef struct crossing {
    ta_dynamic *d;
    ta_handle h[2];
    int inside[2];
} crossing;

static __thread int crossing_me = -1;

static void cross(void *user, const ta_event *event)
{
    crossing *x = (crossing *)user;
    const int me = crossing_me;
    const int64_t dims = 2000;
    if (me < 0 || event->kind == TA_EVENT_FREE || x->inside[me]) {
        return;
    }
    x->inside[me] = 1;
    sched_yield();
    (void)ta_dynamic_resize(x->d, x->h[1 - me], &dims, 1);
    (void)ta_dynamic_will_fit_in_place(x->d, x->h[1 - me], &dims, 1);
    x->inside[me] = 0;
}

static void *work_cross(void *user)
{
    worker *w = (worker *)user;
    int i;
    crossing_me = w->number;
    for (i = 0; i < w->rounds; i++) {
        const int64_t dims = (int64_t)(w->limited ? 100 + (size_t)(i % 7) * 90000 : 100 + (size_t)(i % 7));
        const int64_t other = i % 2 == 0 ? 100 : 60000; /* with headroom, that can be taken */
        if (w->limited) {
            work_note(w, ta_dynamic_resize(w->d, w->idle, &other, 1));
        }
        work_note(w, ta_dynamic_resize(w->d, w->h, &dims, 1));
    }
    return NULL;
}

/* One that hangs is a failure, and the end. */
static void *watch_crossing(void *user)
{
    const int *done = (const int *)user;
    int tenths;
    for (tenths = 0; tenths < 300 && LOAD(done) == 0; tenths++) {
        struct timespec tenth;
        tenth.tv_sec = 0;
        tenth.tv_nsec = 100000000;
        (void)nanosleep(&tenth, NULL);
    }
    if (LOAD(done) == 0) {
        fprintf(stderr, "events_that_cross_do_not_deadlock: they do\n");
        abort();
    }
    return NULL;
}

static void events_that_cross_do_not_deadlock(void)
{
    static crossing x;
    int limited;
    for (limited = 0; limited < 2; limited++) {
        worker workers[2];
        const double factor = 4.0;
        ta_dynamic_desc desc = zero_desc();
        int done = 0;
        pthread_t watch;
        memset(&x, 0, sizeof x);
        memset(workers, 0, sizeof workers);
        desc.strategy = ta_strategy_padding(&factor); /* there is headroom to take from the other */
        desc.on_event = cross;
        desc.on_event_user = &x;
        desc.limit_bytes = limited ? 900000 : 0;
        x.d = open_dynamic(&desc);
        workers[0].d = workers[1].d = x.d;
        workers[0].h = x.h[0] = make(x.d, 0, 100, MIB);
        workers[1].h = x.h[1] = make(x.d, 0, 100, MIB);
        workers[0].idle = make(x.d, 0, 100, MIB);
        workers[1].idle = make(x.d, 0, 100, MIB);
        workers[0].rounds = workers[1].rounds = 2000 / (SLOWER > 4 ? 4 : 1);
        workers[0].limited = workers[1].limited = limited;
        if (pthread_create(&watch, NULL, watch_crossing, &done) != 0) {
            abort();
        }
        run_workers(workers, 2, work_cross);
        STORE(&done, 1);
        (void)pthread_join(watch, NULL);
        CHECK_OK(ta_dynamic_free(x.d, x.h[0]));
        CHECK_OK(ta_dynamic_free(x.d, x.h[1]));
        CHECK_OK(ta_dynamic_free(x.d, workers[0].idle));
        CHECK_OK(ta_dynamic_free(x.d, workers[1].idle));
        close_dynamic(x.d);
    }
}
#endif

/*---------------------------------------------------------------------------------------------------------
  Mappings: a process has 65530.
  -------------------------------------------------------------------------------------------------------*/
#if defined(__linux__)
static size_t count_mappings(void)
{
    static char text[65536];
    FILE *file = fopen("/proc/self/maps", "r");
    size_t lines = 0, got, i;
    if (file == NULL) {
        return 0;
    }
    while ((got = fread(text, 1, sizeof text, file)) != 0) {
        for (i = 0; i < got; i++) {
            lines += text[i] == '\n';
        }
    }
    (void)fclose(file);
    return lines;
}

static void many_tensors_need_few_mappings(void)
{
    enum { LIVE = 20000, TOO_MANY = 40000 };
    static ta_handle h[TOO_MANY];
    ta_backend_vtable as_needed = *ta_backend_host().vtable;
    size_t before, lines, count, i, blocks;
    int touch;
    if (UNDER_SANITIZER || sizeof(void *) < 8 || count_mappings() == 0 || as_needed.reserve == NULL) {
        TEST_SKIP("mappings cannot be counted here");
        return;
    }
    as_needed.discard = NULL;
    for (touch = 1; touch >= 0; touch--) {
        ta_dynamic_desc desc = exact_desc();
        const ta_shape_bounds bounds = bounds_of(0, 5000, MIB);
        ta_dynamic *d;
        ta_result result = TA_OK;
        test_context("%s", touch ? "by touch" : "as needed");
        if (!touch) {
            desc.backend.vtable = &as_needed;
        }
        before = count_mappings();
        d = open_dynamic(&desc);
        for (count = 0; count < LIVE; count++) {
            result = ta_dynamic_alloc(d, &bounds, &h[count]);
            if (result != TA_OK) {
                break;
            }
        }
        CHECK_OK(result);
        CHECK_EQ(count, LIVE);
        lines = count_mappings();
        CHECK_LT(lines - before, touch ? (size_t)1000 : (size_t)45000);
        CHECK_EQ(info_of(d, h[LIVE - 1]).in_range, 1);
        for (i = 0; i < count; i += 2) { /* some grow, some shrink: still */
            CHECK_OK(resize(d, h[i], 100000));
        }
        for (i = 0; i < count; i += 4) {
            CHECK_OK(resize(d, h[i], 100));
        }
        lines = count_mappings();
        CHECK_LT(lines - before, touch ? (size_t)1000 : (size_t)45000);
        for (; count < TOO_MANY; count++) { /* more: blocks, or a decent failure */
            result = ta_dynamic_alloc(d, &bounds, &h[count]);
            if (result != TA_OK) {
                break;
            }
        }
        CHECK(result == TA_OK || result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_RECORDS);
        CHECK(!touch || result == TA_OK);
        blocks = 0;
        for (i = 0; i < count; i++) {
            ta_handle_info info;
            (void)ta_dynamic_get_handle(d, h[i], &info);
            blocks += !info.in_range;
        }
        CHECK(touch == 0 || blocks == 0);
        CHECK_EQ(figures_of(d).handle_count, count);
        for (i = 0; i < count; i += 2) { /* what is there goes on: freed, then again */
            CHECK_OK(ta_dynamic_free(d, h[i]));
        }
        CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(d)));
        for (i = 0; i < 2000; i += 2) {
            CHECK_OK(ta_dynamic_alloc(d, &bounds, &h[i]));
        }
        close_dynamic(d);
        CHECK_LE(count_mappings(), before + 20);
    }
    test_context("%s", "");
}
#else
static void many_tensors_need_few_mappings(void)
{
    TEST_SKIP("mappings cannot be counted here");
}
#endif

/*---------------------------------------------------------------------------------------------------------
  Order between streams, on the backend with a logical clock.
  -------------------------------------------------------------------------------------------------------*/
static const ta_stream A = 0x10, B = 0xdeadbeefcafef00du, C = 0;

typedef struct ordered {
    tb_clock clock;
    tb_counting counting;
    ta_dynamic *d;
} ordered;

static void open_ordered(ordered *o, ta_dynamic_desc *desc, uint32_t caps)
{
    memset(o, 0, sizeof *o);
    desc->backend = tb_counting_init(&o->counting, tb_clock_init(&o->clock, caps, 0), 0);
    desc->range_bytes = 32 * MIB;
    desc->range_bytes_min = desc->range_bytes_min != 0 ? desc->range_bytes_min : 256 * KIB;
    o->d = open_dynamic(desc);
}

static void close_ordered(ordered *o)
{
    close_dynamic(o->d);
    tb_counting_check(&o->counting, 1);
    tb_counting_end(&o->counting);
    tb_clock_check(&o->clock);
    tb_clock_end(&o->clock);
}

static ta_handle make_on(ta_dynamic *d, size_t expected, size_t max, ta_stream stream)
{
    const ta_shape_bounds bounds = bounds_of(0, expected, max);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle h = no_handle();
    request.stream = stream;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    return h;
}

/* Work on the home stream over the whole tensor. */
static void use(ordered *o, ta_handle h, ta_stream stream)
{
    const ta_handle_info info = info_of(o->d, h);
    if (info.effective_bytes != 0) {
        tb_clock_use(&o->clock, stream, info.data, info.effective_bytes);
    }
}

static void a_freed_range_waits_for_its_stream(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    ta_handle h;
    void *at;
    uint64_t waits;
    open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    h = make_on(o.d, MIB, 4 * MIB, A);
    CHECK(info_of(o.d, h).in_range);
    at = ta_dynamic_get_data(o.d, h);
    use(&o, h, A);
    CHECK_OK(ta_dynamic_free(o.d, h)); /* the work goes on */
    waits = o.clock.wait_count;
    h = make_on(o.d, MIB, 4 * MIB, A); /* on the same stream nothing has to wait */
    CHECK(ta_dynamic_get_data(o.d, h) == at);
    CHECK_EQ(o.clock.wait_count, waits);
    use(&o, h, A);
    CHECK_OK(ta_dynamic_free(o.d, h));
    h = make_on(o.d, MIB, 4 * MIB, B);
    if (ta_dynamic_get_data(o.d, h) == at) {
        CHECK_GT(o.clock.wait_count, waits);
    }
    CHECK(tb_clock_is_ordered(&o.clock, B, ta_dynamic_get_data(o.d, h), MIB));
    use(&o, h, B);
    tb_clock_after(&o.clock, C, B); /* the program hands it to another stream */
    CHECK_OK(ta_dynamic_record_use(o.d, h, C));
    use(&o, h, C);
    CHECK_OK(ta_dynamic_free(o.d, h));
    h = make_on(o.d, MIB, 4 * MIB, B);
    CHECK(tb_clock_is_ordered(&o.clock, B, ta_dynamic_get_data(o.d, h), MIB)); /* after the work on C, too */
    use(&o, h, B);
    CHECK_OK(ta_dynamic_free(o.d, h));
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(o.d))); /* after the work: the clock looks */
    CHECK_EQ(figures_of(o.d).cached_bytes, 0);
    close_ordered(&o);
}

static void a_shrink_waits_for_its_stream(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    ta_handle h;
    size_t committed;
    uint64_t syncs;
    open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    h = make_on(o.d, 2 * MIB, 4 * MIB, A);
    use(&o, h, A);
    committed = o.counting.committed.bytes;
    syncs = o.clock.sync_count;
    CHECK_OK(resize(o.d, h, 200000));
    CHECK_EQ(o.counting.committed.bytes, committed); /* the work is not done: the memory stays */
    CHECK_EQ(o.clock.sync_count, syncs);             /* and nobody waits for it */
    use(&o, h, A);
    tb_clock_complete(&o.clock, A);
    CHECK_OK(resize(o.d, h, 199999));
    CHECK_LT(o.counting.committed.bytes, committed);
    /* The same, but it grows and is used again before the first shrink is settled. */
    CHECK_OK(resize(o.d, h, 2 * MIB));
    use(&o, h, A);
    CHECK_OK(resize(o.d, h, 300000));
    use(&o, h, A);
    CHECK_OK(resize(o.d, h, 2 * MIB));
    use(&o, h, A);
    CHECK_OK(resize(o.d, h, 100000));
    CHECK(tb_clock_step(&o.clock, A)); /* what came before the first shrink is done, the rest is not */
    CHECK_OK(resize(o.d, h, 100001)); /* what is in flight is left alone: the clock looks */
    CHECK_EQ(o.clock.violations.count, 0);
    tb_clock_complete(&o.clock, A);
    CHECK_OK(resize(o.d, h, 100000));
    CHECK_OK(resize(o.d, h, 2 * MIB)); /* with another stream */
    use(&o, h, A);
    tb_clock_after(&o.clock, B, A);
    CHECK_OK(ta_dynamic_record_use(o.d, h, B));
    use(&o, h, B);
    CHECK_OK(resize(o.d, h, 100000));
    tb_clock_complete(&o.clock, A);
    CHECK_OK(resize(o.d, h, 100001));
    CHECK_OK(resize(o.d, h, 100002));
    CHECK_OK(resize(o.d, h, 2 * MIB));
    CHECK_OK(resize(o.d, h, 10)); /* and one that is still waiting at the end */
    CHECK_EQ(o.clock.violations.count, 0);
    close_ordered(&o);
}

static void a_move_is_ordered(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    ta_handle h, g;
    uint64_t copies;
    open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    g = make_on(o.d, 6 * MIB, 8 * MIB, B);
    use(&o, g, B);
    CHECK_OK(ta_dynamic_free(o.d, g)); /* warm, still used on B */
    h = make_on(o.d, MIB, 2 * MIB, A);
    use(&o, h, A);
    CHECK_OK(resize(o.d, h, 300000)); /* a shrink that waits, */
    copies = o.clock.copy_count;
    CHECK_OK(resize(o.d, h, 5 * MIB)); /* then a move to what B used */
    CHECK_EQ(o.clock.copy_count, copies + 1);
    CHECK(tb_clock_is_ordered(&o.clock, A, ta_dynamic_get_data(o.d, h), 5 * MIB));
    tb_clock_complete(&o.clock, A);
    CHECK_OK(resize(o.d, h, 4 * MIB));
    CHECK_OK(resize(o.d, h, 100));
    CHECK_OK(resize(o.d, h, 101));
    CHECK_EQ(o.clock.violations.count, 0);
    CHECK_OK(ta_dynamic_free(o.d, h));
    close_ordered(&o);
}

/* An empty tensor is on its stream, whatever happens to the others meanwhile. */
static void streams_of_empty_tensors_are_not_forgotten(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    ta_handle h, g;
    open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    h = make_on(o.d, 0, 4 * MIB, A); /* nothing in use */
    g = make_on(o.d, MIB, 4 * MIB, C);
    CHECK_OK(ta_dynamic_record_use(o.d, g, 7));
    CHECK_OK(ta_dynamic_free(o.d, g));
    CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(o.d))); /* waits for all streams */
    CHECK_OK(resize(o.d, h, MIB));
    use(&o, h, A);
    CHECK_OK(ta_dynamic_record_use(o.d, h, B));
    CHECK_OK(ta_dynamic_free(o.d, h));
    g = make_on(o.d, MIB, 4 * MIB, C);
    CHECK(tb_clock_is_ordered(&o.clock, C, ta_dynamic_get_data(o.d, g), MIB));
    CHECK_OK(ta_dynamic_free(o.d, g));
    close_ordered(&o);
}

/* A poll that fails says nothing about the work. */
static void a_failing_poll_is_not_done(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    ta_handle h;
    open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    h = make_on(o.d, 2 * MIB, 4 * MIB, A);
    use(&o, h, A);
    CHECK_OK(resize(o.d, h, 200000));
    tb_counting_fail(&o.counting, TB_IS_DONE, 1, 1);
    CHECK_OK(resize(o.d, h, 200001));
    CHECK_OK(resize(o.d, h, 100));
    tb_counting_fail(&o.counting, TB_ANY, 0, 0);
    CHECK_EQ(o.clock.violations.count, 0);
    CHECK_OK(ta_dynamic_free(o.d, h));
    close_ordered(&o);
}

/* A move whose copy is in flight, but that failed: nobody else gets the place before the copy is done. */
static void a_failed_move_is_ordered(void)
{
    static ordered o;
    ta_dynamic_desc desc = exact_desc();
    const ta_shape_bounds bounds = bounds_of(0, MIB, 2 * MIB);
    ta_dynamic_request request = request_of(&bounds, TA_REQUEST_ZEROED);
    ta_handle h, g;
    open_ordered(&o, &desc, (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS);
    request.stream = A;
    CHECK_OK(ta_dynamic_alloc_request(o.d, &request, &h));
    use(&o, h, A);
    tb_counting_fail(&o.counting, TB_ZERO, 1, 0);
    CHECK_RESULT(resize(o.d, h, 5 * MIB), TA_ERROR_BACKEND);
    tb_counting_fail(&o.counting, TB_ANY, 0, 0);
    CHECK_EQ(info_of(o.d, h).effective_bytes, MIB);
    g = make_on(o.d, 4 * MIB, 5 * MIB, B);
    CHECK(tb_clock_is_ordered(&o.clock, B, ta_dynamic_get_data(o.d, g), 4 * MIB));
    use(&o, g, B);
    CHECK_OK(resize(o.d, h, 6 * MIB));
    CHECK_OK(ta_dynamic_free(o.d, g));
    CHECK_OK(ta_dynamic_free(o.d, h));
    CHECK_EQ(o.clock.violations.count, 0);
    close_ordered(&o);
}

#define ORDERED_TENSORS 12
#define ORDERED_STREAMS 4

typedef struct ordered_tensor {
    ta_handle h;
    uint32_t home;
    uint32_t used; /* streams, as bits */
    size_t size, max;
} ordered_tensor;

static void ordered_make(ordered *o, ordered_tensor *t, uint64_t *random, const ta_stream *streams)
{
    static const size_t maxima[] = {100000, 600000, 2 * MIB, 3 * MIB};
    const size_t max = maxima[test_below(random, 4)];
    const ta_shape_bounds bounds = bounds_of(0, 0, max);
    ta_dynamic_request request = request_of(&bounds, test_below(random, 4) == 0 ? (uint32_t)TA_REQUEST_ZEROED : 0u);
    const int64_t dims = test_below(random, 8) == 0 ? 0 : (int64_t)test_below(random, (uint32_t)max);
    ta_result result;
    memset(t, 0, sizeof *t);
    t->home = test_below(random, ORDERED_STREAMS);
    t->size = (size_t)dims;
    t->max = max;
    request.dims = &dims;
    request.stream = streams[t->home];
    request.site = test_below(random, 3);
    result = ta_dynamic_alloc_request(o->d, &request, &t->h);
    CHECK(result == TA_OK || result == TA_ERROR_LIMIT || result == TA_ERROR_OUT_OF_MEMORY);
    if (result == TA_OK && t->size != 0) {
        CHECK(tb_clock_is_ordered(&o->clock, streams[t->home], ta_dynamic_get_data(o->d, t->h), t->size));
    }
    t->used = (uint32_t)1 << t->home;
}

static void ordered_resize(ordered *o, ordered_tensor *t, uint64_t *random, const ta_stream *streams)
{
    const size_t old = t->size;
    const char *was = (const char *)ta_dynamic_get_data(o->d, t->h), *is;
    const size_t most = test_below(random, 8) == 0 ? t->max * 2 : t->max;
    const size_t size = test_below(random, 8) == 0 ? 0 : test_below(random, (uint32_t)most);
    uint32_t s;
    ta_result result;
    for (s = 0; s < ORDERED_STREAMS; s++) { /* the program's duty: others are done with it when the home stream is */
        if ((t->used & (uint32_t)1 << s) != 0 && s != t->home) {
            tb_clock_after(&o->clock, streams[t->home], streams[s]);
        }
    }
    result = resize(o->d, t->h, size);
    CHECK(result == TA_OK || result == TA_ERROR_LIMIT || result == TA_ERROR_OUT_OF_MEMORY);
    if (result != TA_OK) {
        return;
    }
    t->size = size;
    is = (const char *)ta_dynamic_get_data(o->d, t->h);
    if (size != 0) { /* the new part, or all of it where it is new */
        const size_t from = is == was && old < size ? old : 0;
        CHECK(tb_clock_is_ordered(&o->clock, streams[t->home], is + from, size - from));
    }
}

static void ordered_step(ordered *o, ordered_tensor *t, uint64_t *random, const ta_stream *streams)
{
    const uint32_t what = test_below(random, 40), s = test_below(random, ORDERED_STREAMS);
    if (what < 8) { /* the device gets on */
        (void)tb_clock_step(&o->clock, streams[s]);
    } else if (what == 8) {
        tb_clock_complete(&o->clock, streams[s]);
    } else if (what == 9) {
        CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(o->d), test_below(random, 3000000), NULL));
    } else if (t->h.owner == 0) {
        ordered_make(o, t, random, streams);
    } else if (what < 22) {
        ordered_resize(o, t, random, streams);
    } else if (what < 30) {
        if (t->size != 0) {
            use(o, t->h, streams[t->home]);
        }
    } else if (what < 36) { /* handed to another stream and announced */
        if (t->size != 0) {
            tb_clock_after(&o->clock, streams[s], streams[t->home]);
            CHECK_OK(ta_dynamic_record_use(o->d, t->h, streams[s]));
            use(o, t->h, streams[s]);
            t->used |= (uint32_t)1 << s;
        }
    } else {
        CHECK_OK(ta_dynamic_free(o->d, t->h));
        t->h = no_handle();
    }
}

static void nothing_is_reused_before_its_work_is_done(void)
{
    static ordered o;
    static const ta_stream streams[ORDERED_STREAMS] = {0, 5, 0x1000, 0xdeadbeefcafef00du};
    uint32_t round;
    for (round = 0; round < 60 / (SLOWER > 4 ? 4 : 1); round++) {
        ta_dynamic_desc desc = round % 2 == 0 ? exact_desc() : zero_desc();
        ordered_tensor t[ORDERED_TENSORS];
        uint64_t random = test_now.seed * 100 + round;
        int step;
        memset(t, 0, sizeof t);
        test_context("round %u, seed %llu", (unsigned)round, (unsigned long long)test_now.seed);
        desc.limit_bytes = round % 3 == 0 ? 8 * MIB : 0;
        desc.cached_bytes_max = round % 5 == 0 ? MIB : 0;
        desc.single_threaded = round % 4 == 3;
        open_ordered(&o, &desc, round % 6 == 5 ? (uint32_t)TA_CAP_SEGMENTS
                                               : (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS);
        for (step = 0; step < 500 && o.clock.violations.count == 0; step++) {
            ordered_step(&o, &t[test_below(&random, ORDERED_TENSORS)], &random, streams);
        }
        close_ordered(&o);
    }
    test_context("%s", "");
}

/* What would_fit expects to fit does: small tensors with their maximum, large ones without the headroom of others. */
static void a_fit_that_is_promised_is_kept(void)
{
    int kind, i, count;
    for (kind = 0; kind < 3; kind++) {
        const double factor = 3.0;
        ta_dynamic_desc desc = zero_desc();
        ta_shape_bounds bounds[16];
        ta_handle h = no_handle();
        ta_dynamic *d;
        ta_fit fit;
        desc.capacity_bytes_max = MIB;
        desc.disable_ranges = kind == 1;
        desc.strategy = kind == 0 ? desc.strategy : ta_strategy_padding(&factor);
        d = open_dynamic(&desc);
        for (i = 0; i < 16; i++) {
            bounds[i] = kind == 0 ? bounds_of(1, 1000, 60000) : bounds_of(1, 100000, 1000000);
        }
        for (count = 1; count < 16; count++) {
            CHECK_OK(ta_dynamic_would_fit(d, bounds, (size_t)count + 1, &fit));
            if (!fit.fits_expected) {
                break;
            }
        }
        CHECK(count == (kind == 0 ? 16 : 10) || (kind == 2 && count == 10));
        for (i = 0; i < count; i++) {
            CHECK_OK(ta_dynamic_alloc(d, &bounds[i], &h));
        }
        CHECK_LE(figures_of(d).capacity_bytes, MIB);
        close_dynamic(d);
    }
}

/* A growth beyond capacity_bytes_max costs the others no more headroom than it needs, and not always the same ones. */
static void headroom_goes_as_far_as_needed(void)
{
    const double factor = 2.0;
    ta_dynamic_desc desc = zero_desc();
    ta_handle h[20];
    ta_dynamic *d;
    int i, blocks, cut;
    for (blocks = 0; blocks < 2; blocks++) {
        desc.capacity_bytes_max = 20 * 200 * 1024;
        desc.disable_ranges = blocks;
        desc.strategy = ta_strategy_padding(&factor);
        d = open_dynamic(&desc);
        for (i = 0; i < 20; i++) { /* 100 KiB in 200 KiB each */
            h[i] = make(d, 0, 100 * 1024, 4 * MIB);
        }
        CHECK_OK(resize(d, h[0], 250 * 1024));
        for (i = 1, cut = 0; i < 20; i++) {
            cut += info_of(d, h[i]).capacity_bytes < 200 * 1024;
        }
        CHECK_GE(cut, 1);
        CHECK_LE(cut, 2);
        CHECK_OK(resize(d, h[1], 250 * 1024));
        CHECK_LE(figures_of(d).capacity_bytes, desc.capacity_bytes_max);
        for (i = 2, cut = 0; i < 20; i++) {
            cut += info_of(d, h[i]).capacity_bytes < 200 * 1024;
        }
        CHECK_LE(cut, 4);
        for (i = 0; i < 20; i++) {
            CHECK_OK(ta_dynamic_free(d, h[i]));
        }
        close_dynamic(d);
    }
}

/* The default is what ta_strategy_predictive(NULL) is, small tensors included. */
static void the_default_strategy_is_the_predictive_one(void)
{
    int given;
    for (given = 0; given < 2; given++) {
        ta_dynamic_desc desc = zero_desc();
        ta_dynamic *d;
        desc.strategy = given ? ta_strategy_predictive(NULL) : desc.strategy;
        d = open_dynamic(&desc);
        CHECK_EQ(info_of(d, make(d, 1, 1000, 60000)).capacity_bytes, 60000);
        close_dynamic(d);
    }
}

/* "Eight uses in a row" are those of one tensor, whoever else learns at its site. */
static void low_uses_are_counted_for_each_tensor(void)
{
    ta_dynamic_desc desc = zero_desc();
    const ta_shape_bounds bounds = bounds_of(1, 300000, 1000000);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle low, high;
    ta_dynamic *d;
    int i;
    desc.strategy = ta_strategy_adaptive(NULL);
    d = open_dynamic(&desc);
    request.site = 7;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &low));
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &high));
    CHECK_OK(resize(d, low, 900000));
    for (i = 0; i < 20; i++) {
        CHECK_OK(resize(d, low, 1000));
        CHECK_OK(resize(d, high, 900000));
    }
    CHECK_LT(info_of(d, low).capacity_bytes, 900000);
    CHECK_GE(info_of(d, high).capacity_bytes, 900000);
    close_dynamic(d);
}

/* Each tensor, or each site, may have a strategy of its own. */
static void tensors_have_strategies_of_their_own(void)
{
    static const double twice = 2.0, thrice = 3.0;
    const ta_strategy given[] = {ta_strategy_exact(), ta_strategy_padding(&twice), ta_strategy_adaptive(NULL),
                                 ta_strategy_padding(&thrice), {NULL, NULL}};
    static const size_t capacity[] = {100000, 200000, 120000, 300000, 110000};
    static const double object_factor = 1.1;
    const ta_shape_bounds bounds = bounds_of(1, 100000, 10000000), small = bounds_of(1, 1000, 60000);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_dynamic_desc desc = zero_desc();
    ta_handle h;
    ta_dynamic *d;
    size_t i;
    desc.strategy = ta_strategy_padding(&object_factor);
    desc.disable_ranges = 1; /* pages would round */
    d = open_dynamic(&desc);
    for (i = 0; i < 10; i++) { /* alone, and at a site each */
        test_context("strategy %u", (unsigned)i);
        request.strategy = given[i % 5];
        request.site = i < 5 ? 0 : i;
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
        CHECK_EQ(info_of(d, h).capacity_bytes, capacity[i % 5]);
        CHECK(info_of(d, h).strategy.vtable == (i % 5 == 4 ? desc.strategy : given[i % 5]).vtable);
        CHECK(info_of(d, h).strategy.config == (i % 5 == 4 ? desc.strategy : given[i % 5]).config);
    }
    test_context(" ");
    memset(&request.strategy, 0, sizeof request.strategy);
    request.site = 6; /* who joins a site joins its strategy */
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(info_of(d, h).capacity_bytes, capacity[1]);
    CHECK_OK(ta_dynamic_free(d, h));
    request.strategy = given[1];
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(info_of(d, h).capacity_bytes, capacity[1]);
    request.bounds = &small; /* small ones get their maximum at once only from the predictive strategy */
    request.site = 0;
    request.strategy = ta_strategy_predictive(NULL);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(info_of(d, h).capacity_bytes, 60000);
    request.strategy = given[1];
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(info_of(d, h).capacity_bytes, 2000);
    close_dynamic(d);
}

static void bad_strategies_of_a_request_are_errors(void)
{
    static const double twice = 2.0, thrice = 3.0;
    const ta_shape_bounds bounds = bounds_of(1, 100000, 10000000);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_strategy_vtable bad[3];
    ta_dynamic *d = open_dynamic(NULL);
    ta_handle h, before;
    int i;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < 3; i++) {
        bad[i] = *ta_strategy_exact().vtable;
    }
    bad[0].struct_bytes--;
    bad[1].required_size = NULL;
    bad[2].state_bytes = TA_STRATEGY_STATE_BYTES + 1;
    for (i = 0; i < 3; i++) {
        request.strategy.vtable = &bad[i];
        CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), TA_ERROR_INVALID_ARGUMENT);
        CHECK(is_zero(&h, sizeof h));
    }
    request.site = 3;
    request.strategy = ta_strategy_padding(&twice);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &before));
    request.strategy = ta_strategy_padding(&thrice); /* other settings */
    CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), TA_ERROR_INVALID_ARGUMENT);
    CHECK(is_zero(&h, sizeof h));
    request.strategy = ta_strategy_exact(); /* another table */
    CHECK_RESULT(ta_dynamic_alloc_request(d, &request, &h), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(figures_of(d).handle_count, 1);
    CHECK_EQ(figures_of(d).capacity_bytes, info_of(d, before).capacity_bytes);
    CHECK_OK(resize(d, before, 200)); /* nothing stayed claimed */
    request.strategy = ta_strategy_padding(&twice);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    close_dynamic(d);
}

static void a_resize_says_where(void)
{
    int kind;
    for (kind = 0; kind < 2; kind++) { /* blocks that move, a range */
        ta_dynamic_desc desc = exact_desc();
        ta_dynamic *d;
        ta_handle h, neighbour = no_handle();
        ta_result result = TA_ERROR_STALE;
        size_t i;
        void *data;
        int64_t dims = 0;
        desc.disable_ranges = kind == 0;
        desc.strict = 1;
        d = open_dynamic(&desc);
        h = make(d, 0, 0, 8 * MIB);
        data = ta_dynamic_resize_data(d, h, &dims, 1, &result); /* nothing yet */
        CHECK_RESULT(result, TA_OK);
        CHECK(data == ta_dynamic_get_data(d, h) && (kind == 1 || data == NULL));
        for (i = 1; i < 6; i++) {
            dims = (int64_t)(100000 * i);
            result = TA_ERROR_STALE;
            data = ta_dynamic_resize_data(d, h, &dims, 1, i == 3 ? NULL : &result);
            CHECK_RESULT(result, i == 3 ? TA_ERROR_STALE : TA_OK);
            CHECK(data != NULL && data == ta_dynamic_get_data(d, h));
            fill(data, i, 0, 100000 * i);
            CHECK_EQ(info_of(d, h).effective_bytes, 100000 * i);
            neighbour = make(d, 1, 100000, 8 * MIB); /* behind it, so that blocks move */
        }
        CHECK((figures_of(d).move_count != 0) == !info_of(d, h).in_range);
        dims = (int64_t)(8 * MIB + 1);
        CHECK(ta_dynamic_resize_data(d, h, &dims, 1, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_SHAPE);
        CHECK(ta_dynamic_resize_data(d, h, &dims, 1, NULL) == NULL);
        CHECK_OK(ta_dynamic_free(d, neighbour));
        CHECK(ta_dynamic_resize_data(d, neighbour, &dims, 1, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_STALE);
        CHECK_EQ(info_of(d, h).effective_bytes, 500000);
        close_dynamic(d);
    }
}

static void a_tensor_is_viewed(void)
{
    const int64_t min[] = {0, 64, 1}, expected[] = {3, 64, 5}, max[] = {1000, 64, 5}, last[] = {2, 63, 4};
    int64_t dims[] = {7, 64, 5};
    ta_shape_bounds bounds;
    ta_dynamic *d = open_dynamic(NULL);
    ta_allocator allocator = ta_dynamic_allocator(d);
    ta_tensor view, after;
    ta_request request;
    ta_handle h, flat;
    ta_buffer buffer;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 3, min, expected, max));
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &h));
    CHECK_OK(ta_dynamic_get_tensor(d, h, &view));
    CHECK(view.buffer.data == ta_dynamic_get_data(d, h) && view.buffer.data != NULL);
    CHECK_EQ(view.buffer.size_bytes, 3 * 64 * 5 * 4);
    CHECK_EQ(view.buffer.capacity_bytes, info_of(d, h).capacity_bytes);
    CHECK(view.allocator.self == d && view.dtype == TA_F32 && view.rank == 3);
    CHECK(view.dims[0] == 3 && view.dims[1] == 64 && view.dims[2] == 5);
    CHECK(view.strides[0] == 320 && view.strides[1] == 5 && view.strides[2] == 1);
    CHECK(ta_tensor_is_contiguous(&view));
    CHECK(ta_tensor_at(&view, last) == (char *)view.buffer.data + (3 * 64 * 5 - 1) * 4);
    CHECK_OK(ta_allocator_check_buffer(allocator, &view.buffer));
    CHECK_OK(ta_dynamic_resize(d, h, dims, 3)); /* the old view is one of the old shape */
    CHECK_EQ(view.dims[0], 3);
    CHECK_OK(ta_dynamic_get_tensor(d, h, &after));
    CHECK_EQ(after.dims[0], 7);
    CHECK(after.buffer.data == view.buffer.data || !info_of(d, h).in_range);
    dims[0] = 0;
    CHECK_OK(ta_dynamic_resize(d, h, dims, 3));
    CHECK_OK(ta_dynamic_get_tensor(d, h, &after));
    CHECK(is_zero(&after.buffer, sizeof after.buffer));
    CHECK(after.dims[0] == 0 && after.strides[0] == 320);
    CHECK_OK(ta_tensor_destroy(&after, 0)); /* nothing */
    CHECK_EQ(figures_of(d).handle_count, 1);
    dims[0] = 9;
    CHECK_OK(ta_dynamic_resize(d, h, dims, 3));
    CHECK_OK(ta_dynamic_get_tensor(d, h, &view));
    CHECK_OK(ta_dynamic_get_tensor(d, h, &after));
    CHECK_OK(ta_tensor_destroy(&view, 0)); /* the tensor itself */
    CHECK_EQ(figures_of(d).handle_count, 0);
    CHECK_RESULT(ta_allocator_check_buffer(allocator, &after.buffer), TA_ERROR_STALE);
    CHECK_RESULT(ta_tensor_destroy(&after, 0), TA_ERROR_STALE);
    CHECK_RESULT(ta_dynamic_get_tensor(d, h, &view), TA_ERROR_STALE);
    CHECK(is_zero(&view, sizeof view));
    CHECK_RESULT(ta_dynamic_get_tensor(d, no_handle(), &view), TA_ERROR_FOREIGN);
    memset(&request, 0, sizeof request);
    request.size_bytes = 100;
    CHECK_OK(ta_allocator_alloc_buffer(allocator, &request, &buffer));
    flat = buffer.id;
    CHECK_RESULT(ta_dynamic_get_tensor(d, flat, &view), TA_ERROR_UNSUPPORTED);
    CHECK(is_zero(&view, sizeof view));
    close_dynamic(d);
}

static void plain_blocks_have_no_shapes(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_allocator a = ta_dynamic_allocator(d);
    const int64_t dims[1] = {10};
    ta_buffer buffer;
    ta_request request;
    ta_handle odd = no_handle();
    ta_failure failure;
    ta_result result;
    void *ptr;
    TEST_ALLOW_ASSERTS();
    memset(&request, 0, sizeof request);
    request.size_bytes = 5000;
    CHECK_OK(ta_allocator_alloc_buffer(a, &request, &buffer));
    CHECK_RESULT(ta_dynamic_observe(d, buffer.id, dims, 1), TA_ERROR_UNSUPPORTED);
    CHECK_RESULT(ta_dynamic_will_fit_in_place(d, buffer.id, dims, 1), TA_ERROR_UNSUPPORTED);
    CHECK_RESULT(ta_allocator_resize_in_place(a, buffer.data, 4999, 100), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_allocator_resize_in_place(a, buffer.data, 0, 0), TA_ERROR_INVALID_SIZE);
    CHECK_OK(ta_allocator_resize_in_place(a, buffer.data, 5000, 100));
    CHECK_EQ(info_of(d, buffer.id).effective_bytes, 100);
    ptr = ta_allocator_remap(a, buffer.data, 100, (size_t)PTRDIFF_MAX, &result);
    CHECK(ptr == NULL && result != TA_OK);
    CHECK(ta_allocator_remap(a, buffer.data, 100, 50, NULL) == buffer.data);
    CHECK_EQ(info_of(d, buffer.id).effective_bytes, 50);
    CHECK_OK(ta_allocator_free(a, buffer.data, 50, 0, 0));
    odd.index = 7; /* of no owner, but not nothing */
    CHECK_RESULT(ta_dynamic_free(d, odd), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_dynamic_get_failure(d, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_failure(NULL, &failure), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_dynamic_get_failure(d, &failure));
    close_dynamic(d);
}

static void odd_bounds(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    ta_symbol symbol;
    ta_shape_bounds bounds[4];
    ta_dynamic_request request;
    ta_handle h;
    ta_fit fit;
    int i;
    TEST_ALLOW_ASSERTS();
    bounds[0] = bounds_of(4, 2, MIB); /* contradicts itself */
    bounds[1] = bounds_of(0, 2, MIB);
    CHECK_RESULT(ta_dynamic_would_fit(d, bounds, 2, &fit), TA_ERROR_BOUNDS);
    CHECK(is_zero(&fit, sizeof fit));
    for (i = 0; i < 4; i++) { /* together more than there can be */
        bounds[i] = bounds_of(SIZE_MAX / 2, SIZE_MAX / 2, SIZE_MAX / 2);
    }
    CHECK_OK(ta_dynamic_would_fit(d, bounds, 4, &fit));
    CHECK_EQ(fit.min_bytes, TA_UNLIMITED);
    CHECK(!fit.fits_min && !fit.fits_expected && !fit.fits_max);
    memset(&symbol, 0, sizeof symbol);
    CHECK_OK(ta_symbol_set(&symbol, 1, 1000, 100000));
    bounds[0] = bounds_of(1, 1, 1);
    bounds[0].symbols[0] = &symbol;
    request = request_of(&bounds[0], TA_DYNAMIC_GROWING);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    symbol.max = -7; /* by hand */
    CHECK_OK(ta_dynamic_free(d, h)); /* nothing to learn, and gone all the same */
    check_bad_handle(d, h, TA_ERROR_STALE);
    close_dynamic(d);
}

static ta_result no_device(void *self, ta_device *out)
{
    (void)self;
    (void)out;
    return TA_ERROR_UNAVAILABLE;
}

static ta_result second_device(void *self, ta_device *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->type = TA_DEVICE_HOST;
    out->index = 1;
    return TA_OK;
}

static void odd_upstreams(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_pool *pool = NULL;
    ta_allocator_vtable table;
    ta_dynamic *d = NULL;
    TEST_ALLOW_ASSERTS();
    CHECK_OK(ta_pool_create(NULL, &pool));
    desc.upstream = ta_pool_allocator(pool);
    table = *desc.upstream.vtable;
    desc.upstream.self = NULL;
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_INVALID_ARGUMENT);
    desc.upstream = ta_pool_allocator(pool);
    desc.upstream.vtable = &table;
    table.struct_bytes -= 1;
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_INVALID_ARGUMENT);
    table.struct_bytes += 1;
    desc.backend = ta_backend_host();
    table.device = no_device;
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_UNAVAILABLE);
    table.device = second_device; /* not where the ranges are */
    CHECK_RESULT(ta_dynamic_create(&desc, &d), TA_ERROR_UNSUPPORTED);
    CHECK(d == NULL);
    CHECK_OK(ta_pool_destroy(pool));
}

#if SIZE_MAX > 0xFFFFFFFFu
/* A backend of another machine: addresses without end, nothing is behind them, and it does not say how much it has. */
typedef struct far_away {
    uintptr_t next;
    size_t range_bytes_max;
} far_away;

static void far_info(void *self, ta_backend_info *out)
{
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_RANGES;
    out->device.type = TA_DEVICE_OTHER;
    out->granularity_bytes = 64 * KIB;
    out->alignment_bytes = 256;
    out->range_bytes_max = ((far_away *)self)->range_bytes_max;
}

static ta_result far_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    far_away *f = (far_away *)self;
    uintptr_t at = (f->next + alignment - 1) & ~(uintptr_t)(alignment - 1);
    (void)flags;
    if (size > (size_t)1 << 42 || (f->range_bytes_max != 0 && size > f->range_bytes_max)) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    f->next = at + size;
    *out = (void *)at;
    return TA_OK;
}

static ta_result far_alloc(void *self, size_t size, void **out)
{
    return far_reserve(self, size, 64 * KIB, 0, out);
}

static ta_result far_nothing(void *self, void *ptr, size_t size)
{
    (void)self;
    (void)ptr;
    (void)size;
    return TA_OK;
}

static ta_result far_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    (void)src;
    (void)stream;
    return far_nothing(self, dst, size);
}

static ta_result far_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    (void)stream;
    return far_nothing(self, ptr, size);
}

static ta_backend far_backend(far_away *f)
{
    static ta_backend_vtable table;
    ta_backend backend;
    memset(&table, 0, sizeof table);
    table.struct_bytes = (uint32_t)sizeof(table);
    table.name = "far";
    table.info = far_info;
    table.alloc = far_alloc;
    table.free = table.release = table.commit = table.decommit = far_nothing;
    table.reserve = far_reserve;
    table.copy = far_copy;
    table.zero = far_zero;
    f->next = (uintptr_t)1 << 44;
    f->range_bytes_max = 0;
    backend.vtable = &table;
    backend.self = f;
    return backend;
}
#endif

/* Where commits are calls: a sixteenth more at once, up to 64 MiB, and no less than a huge page where those are on. */
static void large_ranges_grow_in_large_steps(void)
{
#if SIZE_MAX > 0xFFFFFFFFu
    static const size_t sizes[] = {100, 3 * MIB, 70 * MIB + 1, 1000 * MIB, 3000 * MIB + 1, 5000 * MIB};
    int huge;
    for (huge = 0; huge < 2; huge++) {
        far_away f;
        ta_dynamic_desc desc = exact_desc();
        ta_dynamic *d;
        ta_handle h;
        size_t i;
        desc.backend = far_backend(&f);
        desc.huge_pages = huge ? TA_HUGE_PAGES_ON : TA_HUGE_PAGES_OFF;
        desc.range_bytes = (size_t)1 << 36;
        d = open_dynamic(&desc);
        h = make(d, 0, 1, 6000 * MIB);
        CHECK(info_of(d, h).in_range);
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t reserved, most = sizes[i] / 16 + (huge ? 2 * MIB : 64 * KIB);
            CHECK_OK(resize(d, h, sizes[i]));
            reserved = stats_of(d).reserved_bytes;
            test_context("huge %d, %llu bytes", huge, (unsigned long long)sizes[i]);
            CHECK_GE(reserved, sizes[i]);
            CHECK_LE(reserved, sizes[i] + (most > 64 * MIB ? 64 * MIB : most));
            CHECK(!huge || reserved % (2 * MIB) == 0);
        }
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
#else
    TEST_SKIP("addresses are too few");
#endif
}

static void a_backend_that_does_not_say(void)
{
#if SIZE_MAX > 0xFFFFFFFFu
    far_away f;
    ta_dynamic_desc desc = exact_desc();
    ta_shape_bounds bounds = bounds_of(1, MIB, 4 * MIB);
    ta_dynamic *d;
    ta_fit fit;
    ta_handle h;
    desc.backend = far_backend(&f);
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_EQ(fit.available_bytes, TA_UNLIMITED);
    CHECK(fit.fits_max);
    close_dynamic(d);
    f.range_bytes_max = 64 * MIB; /* as a buffer of the program's has it */
    desc.range_bytes = 32 * MIB;
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_EQ(fit.available_bytes, 64 * MIB);
    h = make(d, 1, MIB, 4 * MIB);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_LE(fit.available_bytes, 63 * MIB);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    desc.limit_bytes = MIB; /* all of it in use */
    f.range_bytes_max = 0;
    d = open_dynamic(&desc);
    h = make(d, 1, MIB, 4 * MIB);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit));
    CHECK_EQ(fit.available_bytes, 0);
    CHECK(!fit.fits_min && !fit.fits_max);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
#else
    TEST_SKIP("addresses are too few");
#endif
}

/* Blocks freed on another stream than their own wait for both, in ranges of a pool and in none. */
static void plain_blocks_are_ordered(void)
{
    static ordered o;
    int kind;
    for (kind = 0; kind < 2; kind++) {
        ta_dynamic_desc desc = exact_desc();
        ta_request request;
        ta_allocator a;
        void *ptr, *again;
        ta_handle h;
        desc.range_bytes_min = kind == 0 ? 0 : 1;
        open_ordered(&o, &desc, TA_CAP_RANGES | TA_CAP_SEGMENTS);
        a = ta_dynamic_allocator(o.d);
        memset(&request, 0, sizeof request);
        request.size_bytes = kind == 0 ? 64 * KIB : 16 * MIB;
        request.stream = A;
        ptr = ta_allocator_alloc(a, &request, NULL);
        CHECK(ptr != NULL);
        tb_clock_use(&o.clock, A, ptr, request.size_bytes);
        tb_clock_after(&o.clock, B, A);
        tb_clock_use(&o.clock, B, ptr, request.size_bytes);
        CHECK_OK(ta_allocator_free(a, ptr, request.size_bytes, 0, B));
        again = ta_allocator_alloc(a, &request, NULL);
        CHECK(again != NULL);
        CHECK(tb_clock_is_ordered(&o.clock, A, again, request.size_bytes));
        CHECK_OK(ta_allocator_free(a, again, request.size_bytes, 0, A));
        h = make_on(o.d, 1000, 2000, A); /* a tensor in a block, used by others */
        tb_clock_use(&o.clock, B, ta_dynamic_get_data(o.d, h), 1000);
        CHECK_OK(ta_dynamic_record_use(o.d, h, B));
        CHECK_OK(ta_dynamic_free(o.d, h));
        close_ordered(&o);
    }
}

/* Prices follow what a handle commits again: not what is new to it, though others of its site had it before. */
static void what_comes_back_is_counted(void)
{
    ta_dynamic_desc desc = zero_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(0, MIB, 64 * MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    const tai_predictor *p;
    ta_handle h[2];
    int32_t debt;
    int k, i;
    request.site = 77;
    for (k = 0; k < 2; k++) {
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &h[k]));
    }
    if (!info_of(d, h[0]).in_range) {
        TEST_SKIP("no address ranges here");
        CHECK_OK(ta_dynamic_destroy(d));
        return;
    }
    p = (const tai_predictor *)(const void *)tai_site_at(d, tai_handle_at(d, h[0].index)->site)->state;
    for (i = 0; i < 200; i++) {
        CHECK_OK(resize(d, h[0], MIB));
    }
    CHECK_OK(resize(d, h[0], 32 * MIB));
    CHECK(p->of.sizes.commit_debt < 0); /* for the first time: it was paid for nothing */
    CHECK_OK(resize(d, h[0], MIB));
    CHECK_LT(info_of(d, h[0]).capacity_bytes, 32 * MIB); /* it went back */
    CHECK(p->of.sizes.commit_debt < 0);
    CHECK_OK(resize(d, h[1], 32 * MIB));
    CHECK(p->of.sizes.commit_debt < 0);
    debt = p->of.sizes.commit_debt;
    CHECK_OK(resize(d, h[0], 32 * MIB));
    CHECK(p->of.sizes.commit_debt > debt + tai_predictor_means(p, 20 * MIB)); /* less what this use pays */
    for (k = 0; k < 2; k++) {
        CHECK_OK(ta_dynamic_free(d, h[k]));
    }
    close_dynamic(d);
}

/* What the predictor of a tensor knows. */
typedef struct knowledge {
    uint64_t state[TA_STRATEGY_STATE_BYTES / 8];
    uint32_t word;
} knowledge;

static knowledge knowledge_of(const ta_dynamic *d, ta_handle h)
{
    const tai_handle *record = tai_handle_at(d, h.index);
    knowledge k;
    memset(&k, 0, sizeof k);
    memcpy(k.state, tai_site_at(d, record->site)->state, sizeof k.state);
    k.word = record->strategy_word;
    return k;
}

/* A resize that the limit or the backend refuses is not paid for: what others learn of, and the next decisions, are as
   if it had never been tried. Nor is an allocation at a site. */
static void what_fails_teaches_nothing(void)
{
    int kind; /* 0: a range, the limit; 1: a block, the limit; 2: a range, the backend */
    for (kind = 0; kind < 3; kind++) {
        tb_counting counting;
        ta_dynamic_desc desc = zero_desc();
        const ta_shape_bounds bounds = bounds_of(1, MIB, 32 * MIB);
        ta_dynamic_request request = request_of(&bounds, 0);
        const int64_t large = 30 * (int64_t)MIB;
        ta_dynamic *d;
        ta_handle h, other = no_handle(), third;
        knowledge before, after;
        size_t i;
        test_context("kind %d", kind);
        desc.disable_ranges = kind == 1;
        desc.capacity_bytes_max = 64 * MIB;
        desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
        d = open_dynamic(&desc);
        request.site = 5;
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
        if (kind == 2 && !info_of(d, h).in_range) { /* a block: its pool may have what it needs */
            close_dynamic(d);
            tb_counting_end(&counting);
            return;
        }
        for (i = 0; i < 600; i++) {
            CHECK_OK(resize(d, h, i % 300 == 50 ? (size_t)large : MIB + i % 7 * 1000));
        }
        CHECK_LT(info_of(d, h).capacity_bytes, 16 * MIB); /* it gave the large one back */
        if (kind != 2) {
            other = make(d, 40 * MIB, 40 * MIB, 40 * MIB);
        }
        before = knowledge_of(d, h);
        for (i = 0; i < 10; i++) {
            tb_counting_fail(&counting, TB_COMMIT, kind == 2 ? 1 : 0, kind == 2);
            CHECK(resize(d, h, (size_t)large) != TA_OK);
            request.dims = &large;
            CHECK(ta_dynamic_alloc_request(d, &request, &third) != TA_OK);
            tb_counting_fail(&counting, TB_ANY, 0, 0);
        }
        after = knowledge_of(d, h);
        CHECK(memcmp(&before, &after, sizeof before) == 0);
        CHECK_OK(ta_dynamic_free(d, other));
        CHECK_OK(resize(d, h, (size_t)large));
        after = knowledge_of(d, h);
        CHECK(memcmp(&before, &after, sizeof before) != 0);
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

static ta_result no_shrinking(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    return new_bytes < old_bytes || new_bytes > 4 * MIB
               ? TA_ERROR_WOULD_MOVE : the_stubborn.pool.vtable->resize_in_place(self, ptr, old_bytes, new_bytes);
}

/* A strategy that gives back what it has for the third time in a row that it is asked, and keeps it before: what it
   counts on the way stays counted, for its site and for its handle. */
static size_t patient_required(const void *config, void *state, const ta_strategy_input *in)
{
    uint32_t *asked = (uint32_t *)state;
    (void)config;
    if (in->size_bytes > in->capacity_bytes) {
        *asked = *in->own = 0;
        return in->size_bytes;
    }
    CHECK_EQ(*asked, *in->own);
    *in->own = ++*asked;
    return *asked < 3 ? in->capacity_bytes : in->size_bytes;
}

static int patient_should(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)state;
    return in->size_bytes < in->capacity_bytes / 2;
}

static void a_strategy_may_be_patient(void)
{
    static const ta_strategy_vtable table = {sizeof(ta_strategy_vtable), "patient", sizeof(uint32_t),
                                             patient_required, patient_should, NULL};
    int ranges, i;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_dynamic_desc desc = zero_desc();
        ta_dynamic *d;
        ta_handle h;
        desc.strategy.vtable = &table;
        desc.disable_ranges = ranges == 0;
        d = open_dynamic(&desc);
        h = make(d, 0, MIB, 4 * MIB);
        for (i = 0; i < 4; i++) {
            test_context("ranges %d, use %d", ranges, i);
            CHECK_OK(resize(d, h, 1000));
            CHECK_EQ(info_of(d, h).capacity_bytes >= MIB, i < 2);
        }
        CHECK_OK(ta_dynamic_free(d, h));
        close_dynamic(d);
    }
    test_context("%s", "");
}

/* A block whose upstream does not shrink it stays as it is, and that is no change to be paid for. */
static void a_shrink_that_is_refused_costs_nothing(void)
{
    ta_dynamic_desc desc = zero_desc();
    ta_allocator_vtable table;
    ta_pool *pool;
    ta_dynamic *d;
    ta_handle h;
    knowledge k;
    size_t i;
    CHECK_OK(ta_pool_create(NULL, &pool));
    memset(&the_stubborn, 0, sizeof the_stubborn);
    the_stubborn.pool = ta_pool_allocator(pool);
    table = *the_stubborn.pool.vtable;
    table.resize_in_place = no_shrinking;
    desc.upstream.vtable = &table;
    desc.upstream.self = the_stubborn.pool.self;
    d = open_dynamic(&desc);
    h = make(d, 0, 1000000, 1000000);
    for (i = 0; i < 300; i++) {
        CHECK_OK(resize(d, h, 1000));
    }
    CHECK_GE(info_of(d, h).capacity_bytes, 1000000);
    k = knowledge_of(d, h);
    CHECK(((const tai_predictor *)(const void *)k.state)->of.sizes.change_debt < 0);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    CHECK_OK(ta_pool_destroy(pool));
}

/* To observe a size and then to resize to it is one use, each time; a failed resize is none. */
static void expectations_come_first(void)
{
    ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d;
    const int64_t sizes[] = {200000, 3000, 2 * (int64_t)MIB};
    ta_handle h;
    int i;
    desc.capacity_bytes_max = MIB;
    d = open_dynamic(&desc);
    h = make(d, 0, 1000, 2 * MIB);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[1], 1)); /* another size than the first */
    the_spy.observe_calls = 0;
    CHECK_OK(resize(d, h, 3000));
    CHECK_EQ(the_spy.observe_calls, 0);
    for (i = 0; i < 10; i++) {
        CHECK_OK(ta_dynamic_observe(d, h, &sizes[i % 2], 1));
        CHECK_EQ(the_spy.observe_calls, i + 1);
        CHECK_EQ(the_spy.observed.size_bytes, sizes[i % 2]);
        CHECK_OK(resize(d, h, (size_t)sizes[i % 2]));
        CHECK_EQ(the_spy.observe_calls, i + 1);
    }
    CHECK_OK(resize(d, h, 3000)); /* that is another use, */
    CHECK_EQ(the_spy.observe_calls, 11);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[1], 1)); /* and this the same, */
    CHECK_EQ(the_spy.observe_calls, 11);
    CHECK_OK(resize(d, h, 3000)); /* and both have told of it */
    CHECK_EQ(the_spy.observe_calls, 12);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[0], 1));
    CHECK_OK(resize(d, h, 199999)); /* not what was expected */
    CHECK_EQ(the_spy.observe_calls, 14);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[2], 1));
    CHECK_EQ(the_spy.observe_calls, 15);
    CHECK_RESULT(resize(d, h, 2 * MIB), TA_ERROR_LIMIT);
    CHECK_OK(resize(d, h, 0));
    CHECK_EQ(the_spy.observe_calls, 16);
    CHECK_OK(ta_dynamic_free(d, h));
    h = make(d, 0, 0, 2 * MIB); /* nobody has expected that of this one */
    CHECK_EQ(the_spy.observe_calls, 17);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/* A resize is a use; to observe the same size after it tells of the same use, once. */
static void a_use_is_learned_once(void)
{
    const ta_dynamic_desc desc = spy_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(0, 300000, 2 * MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    const int64_t sizes[] = {300000, 200000, 1000};
    ta_handle h;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    the_spy.observe_calls = 0;
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[0], 1)); /* what it was made with */
    CHECK_EQ(the_spy.observe_calls, 0);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[0], 1)); /* again: another use */
    CHECK_EQ(the_spy.observe_calls, 1);
    CHECK_OK(resize(d, h, 200000));
    CHECK_EQ(the_spy.observe_calls, 2);
    CHECK_RESULT(ta_dynamic_observe(d, h, &sizes[1], 2), TA_ERROR_SHAPE); /* says nothing */
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[1], 1));
    CHECK_EQ(the_spy.observe_calls, 2);
    CHECK_OK(resize(d, h, 200000));
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[2], 1)); /* another size is another use, */
    CHECK_EQ(the_spy.observe_calls, 4);
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[1], 1)); /* and so is all that follows */
    CHECK_EQ(the_spy.observe_calls, 5);
    CHECK_OK(ta_dynamic_free(d, h));
    request.flags = (uint32_t)TA_DYNAMIC_GROWING; /* learned when it is freed, or observed */
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_OK(resize(d, h, 200000));
    the_spy.observe_calls = 0;
    CHECK_OK(ta_dynamic_observe(d, h, &sizes[1], 1));
    CHECK_EQ(the_spy.observe_calls, 1);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
}

/* An upstream of the program's that does what it may: nothing is known of its blocks, they do not shrink, and what it
   says when it has no memory is what moving would be called. */
static ta_result knows_nothing(void *self, const void *ptr, ta_block_info *out)
{
    (void)self;
    (void)ptr;
    (void)out;
    return TA_ERROR_UNSUPPORTED;
}

static void *has_nothing(void *self, const ta_request *request, ta_result *result)
{
    if (request->size_bytes > 4 * MIB) {
        *result = TA_ERROR_WOULD_MOVE;
        return NULL;
    }
    return the_stubborn.pool.vtable->alloc(self, request, result);
}

static void *moves_nothing(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    (void)self;
    (void)ptr;
    (void)old_bytes;
    (void)new_bytes;
    *result = TA_ERROR_WOULD_MOVE;
    return NULL;
}

static void upstreams_that_do_little(void)
{
    const double twice = 2.0;
    ta_dynamic_desc desc = zero_desc();
    ta_shape_bounds bounds = bounds_of(0, 100000, 8 * MIB);
    ta_dynamic_request request = request_of(&bounds, TA_REQUEST_ZEROED);
    tb_counting counting;
    ta_allocator_vtable table;
    ta_pool_desc pool_desc;
    ta_pool *pool;
    ta_dynamic *d;
    ta_handle h, other = no_handle();
    ta_allocator a;
    ta_request plain;
    void *ptr;
    memset(&plain, 0, sizeof plain);
    plain.size_bytes = 100000;
    memset(&pool_desc, 0, sizeof pool_desc);
    pool_desc.backend = desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    memset(&the_stubborn, 0, sizeof the_stubborn);
    the_stubborn.pool = ta_pool_allocator(pool);
    table = *the_stubborn.pool.vtable;
    table.resize_in_place = no_shrinking;
    table.describe = knows_nothing;
    table.alloc = has_nothing;
    table.remap = moves_nothing;
    desc.upstream.vtable = &table;
    desc.upstream.self = the_stubborn.pool.self;
    desc.strategy = ta_strategy_padding(&twice);
    desc.disable_ranges = 1;
    desc.capacity_bytes_max = 450000;
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_EQ(info_of(d, h).capacity_bytes, 200000);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &other));
    CHECK_RESULT(resize(d, other, 300000), TA_ERROR_LIMIT); /* the headroom of the first cannot be had */
    CHECK_EQ(info_of(d, h).capacity_bytes, 200000);
    CHECK_OK(ta_dynamic_free(d, other));
    tb_counting_fail(&counting, TB_ZERO, 1, 0);
    (void)resize(d, h, 210000); /* grown in place, perhaps; not zeroed, and not taken back */
    tb_counting_fail(&counting, TB_ANY, 0, 0);
    CHECK_GE(info_of(d, h).capacity_bytes, info_of(d, h).effective_bytes);
    CHECK_LE(figures_of(d).capacity_bytes, 450000);
    CHECK_OK(ta_dynamic_free(d, h));
    close_dynamic(d);
    desc.capacity_bytes_max = 0;
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h));
    CHECK_RESULT(resize(d, h, 5 * MIB), TA_ERROR_WOULD_MOVE); /* an error, whatever its name */
    CHECK_EQ(info_of(d, h).effective_bytes, 100000);
    CHECK_OK(ta_dynamic_free(d, h));
    a = ta_dynamic_allocator(d); /* plain blocks */
    ptr = ta_allocator_alloc(a, &plain, NULL);
    CHECK(ptr != NULL);
    CHECK_RESULT(ta_allocator_resize_in_place(a, ptr, 100000, 50000), TA_ERROR_WOULD_MOVE);
    CHECK_EQ(figures_of(d).capacity_bytes, 100000);
    CHECK_OK(ta_allocator_free(a, ptr, 100000, 0, 0));
    close_dynamic(d);
    CHECK_OK(ta_pool_destroy(pool));
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* A plain block does not grow in place beyond what all tensors may have together. */
static void plain_blocks_are_bound_too(void)
{
    ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d;
    ta_allocator a;
    ta_request plain;
    void *ptr;
    memset(&plain, 0, sizeof plain);
    plain.size_bytes = 1000;
    desc.capacity_bytes_max = 100000;
    d = open_dynamic(&desc);
    a = ta_dynamic_allocator(d);
    ptr = ta_allocator_alloc(a, &plain, NULL);
    CHECK(ptr != NULL);
    CHECK_RESULT(ta_allocator_resize_in_place(a, ptr, 1000, 200000), TA_ERROR_WOULD_MOVE);
    CHECK_EQ(figures_of(d).capacity_bytes, 1000);
    CHECK_OK(ta_allocator_free(a, ptr, 1000, 0, 0));
    close_dynamic(d);
}

/* Blocks of an upstream of the program's, on an ordered device: it knows nothing of other streams, so that a block they
   used is waited for before it goes back. */
static void blocks_of_others_wait_for_all_streams(void)
{
    tb_clock clock;
    ta_dynamic_desc desc = exact_desc();
    ta_pool_desc pool_desc;
    const ta_shape_bounds bounds = bounds_of(1, 1000, 8 * MIB);
    ta_pool *pool;
    ta_dynamic *d;
    ta_allocator a;
    ta_request request;
    ta_handle h;
    ta_fit fit;
    void *ptr;
    memset(&pool_desc, 0, sizeof pool_desc);
    pool_desc.backend = desc.backend = tb_clock_init(&clock, TA_CAP_RANGES | TA_CAP_SEGMENTS, 0);
    pool_desc.range_bytes = desc.range_bytes = 32 * MIB;
    desc.range_bytes_min = 256 * KIB;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    desc.upstream = ta_pool_allocator(pool);
    d = open_dynamic(&desc);
    CHECK_OK(ta_dynamic_would_fit(d, &bounds, 1, &fit)); /* ranges are from the backend */
    CHECK(fit.fits_expected && fit.min_bytes <= fit.expected_bytes && fit.expected_bytes <= fit.max_bytes);
    h = make_on(d, 1000, 2000, A);
    tb_clock_use(&clock, A, ta_dynamic_get_data(d, h), 1000);
    tb_clock_after(&clock, B, A);
    tb_clock_use(&clock, B, ta_dynamic_get_data(d, h), 1000);
    CHECK_OK(ta_dynamic_record_use(d, h, B));
    CHECK_OK(ta_dynamic_free(d, h));
    a = ta_dynamic_allocator(d);
    memset(&request, 0, sizeof request);
    request.size_bytes = 3000;
    request.stream = A;
    ptr = ta_allocator_alloc(a, &request, NULL);
    CHECK(ptr != NULL && tb_clock_is_ordered(&clock, A, ptr, 3000));
    tb_clock_after(&clock, B, A);
    tb_clock_use(&clock, B, ptr, 3000);
    CHECK_OK(ta_allocator_free(a, ptr, 3000, 0, B)); /* freed on another stream than it was made on */
    ptr = ta_allocator_alloc(a, &request, NULL);
    CHECK(ptr != NULL && tb_clock_is_ordered(&clock, A, ptr, 3000));
    CHECK_OK(ta_allocator_free(a, ptr, 3000, 0, A));
    close_dynamic(d);
    CHECK_OK(ta_pool_destroy(pool));
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

/* Warm ranges that do not lie where one must are not looked through without end: a new range is taken. */
static void warm_ranges_at_the_wrong_places(void)
{
    const ta_dynamic_desc desc = exact_desc();
    ta_dynamic *d = open_dynamic(&desc);
    const ta_shape_bounds bounds = bounds_of(1, MIB, MIB);
    ta_dynamic_request request = request_of(&bounds, 0);
    ta_handle h[40];
    size_t i;
    for (i = 0; i < 40; i++) {
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &h[i]));
    }
    for (i = 0; i < 40; i++) {
        CHECK_OK(ta_dynamic_free(d, h[i]));
    }
    request.alignment_bytes = 256 * MIB;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h[0]));
    CHECK_EQ((uintptr_t)ta_dynamic_get_data(d, h[0]) % (256 * MIB), 0);
    CHECK_EQ(figures_of(d).warm_count, 0);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    request.alignment_bytes = 0;
    CHECK_OK(ta_dynamic_alloc_request(d, &request, &h[0]));
    CHECK_EQ(figures_of(d).warm_count, info_of(d, h[0]).in_range ? 1u : 0u);
    CHECK_OK(ta_dynamic_free(d, h[0]));
    close_dynamic(d);
}

/* Of two mistakes the object's own comes first. */
static void two_mistakes_at_once(void)
{
    ta_dynamic *d = open_dynamic(NULL);
    ta_handle h = make(d, 0, 1000, 1000);
    ta_failure failure;
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_dynamic_get_failure(NULL, &failure), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dynamic_get_failure(d, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_allocator_dispose(ta_dynamic_allocator(d)));
    CHECK_RESULT(ta_dynamic_alloc_request(d, NULL, &h), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_dynamic_get_tensor(d, h, NULL), TA_ERROR_DISPOSED);
    close_dynamic(d);
}

TEST_MAIN(TEST_CASE(first_shape_is_the_expected_one_or_the_given), TEST_CASE(shapes_of_any_rank_and_dtype),
          TEST_CASE(alignments_hold_through_moves), TEST_CASE(bad_requests_are_errors),
          TEST_CASE(null_arguments_are_errors), TEST_CASE(options_are_checked_and_resolved),
          TEST_CASE(a_range_grows_and_shrinks_in_place), TEST_CASE(small_tensors_have_their_maximum_at_once),
          TEST_CASE(blocks_move_with_their_bytes), TEST_CASE(a_resize_to_nothing_keeps_pointer_and_range),
          TEST_CASE(utilization_is_effective_over_capacity), TEST_CASE(outside_the_bounds),
          TEST_CASE(bad_shapes_change_nothing), TEST_CASE(unbounded_maxima), TEST_CASE(symbols_are_held_once),
          TEST_CASE(zeroed_growth_reads_zero), TEST_CASE(strategies_are_asked),
          TEST_CASE(nonsense_of_a_strategy_does_no_harm), TEST_CASE(sites_learn_together),
          TEST_CASE(what_fails_leaves_no_site), TEST_CASE(more_sites_than_handles),
          TEST_CASE(padding_strategies_of_the_specification),
          TEST_CASE(capacity_binds_over_all_handles), TEST_CASE(headroom_is_given_up),
          TEST_CASE(the_limit_is_never_exceeded), TEST_CASE(siblings_share_a_budget), TEST_CASE(warm_ranges),
          TEST_CASE(huge_pages_are_committed_whole), TEST_CASE(a_fit_is_asked_before),
          TEST_CASE(a_failed_zeroing_takes_nothing_that_is_gone), TEST_CASE(capacity_binds_when_a_shrink_is_refused),
          TEST_CASE(a_failed_zeroing_changes_nothing), TEST_CASE(capacity_is_never_less_than_the_shapes), TEST_CASE(the_peak_is_that_of_a_moment), TEST_CASE(handles_go_stale), TEST_CASE(a_disposed_one_answers_so),
          TEST_CASE(plain_blocks_are_handles), TEST_CASE(events_are_told), TEST_CASE(strategies_may_call_back),
          TEST_CASE(events_may_call_back), TEST_CASE(events_come_with_nothing_claimed),
          TEST_CASE(the_report_tells_the_figures), TEST_CASE(over_an_arena_the_last_block_grows_in_place),
          TEST_CASE(nothing_stays_in_the_upstream), TEST_CASE(handle_count_max_is_for_live_handles),
          TEST_CASE(random_programs_keep_contents_and_figures), TEST_CASE_THREADS(threads_with_tensors_of_their_own),
          TEST_CASE_THREADS(threads_resize_one_tensor), TEST_CASE_THREADS(a_tensor_is_freed_under_the_others),
          TEST_CASE_THREADS(capacity_binds_while_threads_grow), TEST_CASE_THREADS(statistics_are_of_one_moment), TEST_CASE_THREADS(threads_reclaim_from_each_other),
          TEST_CASE_THREADS(events_that_cross_do_not_deadlock), TEST_CASE(many_tensors_need_few_mappings),
          TEST_CASE(a_freed_range_waits_for_its_stream), TEST_CASE(a_shrink_waits_for_its_stream),
          TEST_CASE(a_move_is_ordered), TEST_CASE(streams_of_empty_tensors_are_not_forgotten),
          TEST_CASE(a_failing_poll_is_not_done), TEST_CASE(a_failed_move_is_ordered),
          TEST_CASE(nothing_is_reused_before_its_work_is_done), TEST_CASE(a_fit_that_is_promised_is_kept),
          TEST_CASE(headroom_goes_as_far_as_needed), TEST_CASE(the_default_strategy_is_the_predictive_one),
          TEST_CASE(low_uses_are_counted_for_each_tensor), TEST_CASE(tensors_have_strategies_of_their_own),
          TEST_CASE(bad_strategies_of_a_request_are_errors), TEST_CASE(a_resize_says_where),
          TEST_CASE(a_tensor_is_viewed), TEST_CASE(plain_blocks_have_no_shapes), TEST_CASE(odd_bounds),
          TEST_CASE(odd_upstreams), TEST_CASE(large_ranges_grow_in_large_steps), TEST_CASE(a_backend_that_does_not_say),
          TEST_CASE(plain_blocks_are_ordered),
          TEST_CASE(what_comes_back_is_counted), TEST_CASE(what_fails_teaches_nothing),
          TEST_CASE(a_strategy_may_be_patient), TEST_CASE(a_shrink_that_is_refused_costs_nothing), TEST_CASE(a_use_is_learned_once), TEST_CASE(expectations_come_first),
          TEST_CASE(upstreams_that_do_little), TEST_CASE(plain_blocks_are_bound_too),
          TEST_CASE(blocks_of_others_wait_for_all_streams), TEST_CASE(warm_ranges_at_the_wrong_places),
          TEST_CASE(two_mistakes_at_once))
