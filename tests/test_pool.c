/* test_pool.c - everything in [TA:POOL], and what [TA:STATS] says of a pool. */
#include "implementation.h"
#include "backends.h"

/* ThreadSanitizer leaves a program 1.5 TB for all its mappings. */
#if defined(__SANITIZE_THREAD__)
    #define TEST_HAS_FEW_ADDRESSES 1
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define TEST_HAS_FEW_ADDRESSES 1
    #endif
#endif
#ifndef TEST_HAS_FEW_ADDRESSES
    #define TEST_HAS_FEW_ADDRESSES 0
#endif

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static ta_pool_desc zero_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

/* A pool that must come into being; NULL is the default desc. */
static ta_pool *open_pool(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    CHECK_OK(ta_pool_create(desc, &pool));
    if (pool == NULL) {
        fprintf(test_now.out, "no pool, no test\n");
        exit(1);
    }
    return pool;
}

static void close_pool(ta_pool *pool)
{
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

static ta_stats stats_of(ta_pool *pool)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_EQ(s.wasted_bytes, s.in_use_bytes - s.requested_bytes);
    return s;
}

static ta_failure failure_of(ta_pool *pool)
{
    ta_failure failure;
    memset(&failure, 0xff, sizeof failure);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    return failure;
}

static ta_request request_of(size_t size, size_t alignment, uint32_t flags)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    request.flags = flags;
    return request;
}

static void *must_alloc(ta_pool *pool, size_t size)
{
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr = ta_pool_alloc(pool, size, &result);
    CHECK_OK(result);
    CHECK(ptr != NULL);
    return ptr;
}

static int is_filled(const void *ptr, int value, size_t size)
{
    const unsigned char *at = (const unsigned char *)ptr;
    return size == 0 || (at[0] == (unsigned char)value && memcmp(at, at + 1, size - 1) == 0);
}

static int host_has_ranges(void)
{
    ta_backend_info info;
    ta_backend_host().vtable->info(NULL, &info);
    if ((info.caps & TA_CAP_RANGES) == 0) {
        TEST_SKIP("the host backend has no address ranges");
        return 0;
    }
    return 1;
}

/*---------------------------------------------------------------------------------------------------------
  Options.
  -------------------------------------------------------------------------------------------------------*/
static void defaults_are_resolved(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_pool_desc desc;
    CHECK_OK(ta_pool_get_desc(pool, &desc));
    CHECK(desc.backend.vtable == ta_backend_host().vtable);
    CHECK_EQ(desc.limit_bytes, TA_UNLIMITED);
    CHECK_EQ(desc.initial_bytes, 0);
    CHECK_EQ(desc.cached_bytes_max, TA_UNLIMITED);
    CHECK_EQ(desc.buffers_per_bucket_max, TA_UNLIMITED);
    CHECK_EQ(desc.slack_bytes_max, 0);
    CHECK_EQ(desc.thread_cache_bytes, (2 * MIB));
    CHECK_EQ(desc.thread_cache_block_bytes, 64 * KIB);
    CHECK_EQ(desc.classes_per_doubling, 8);
    CHECK_NE(desc.huge_pages, TA_HUGE_PAGES_DEFAULT);
    CHECK_GE(desc.range_bytes, 64 * MIB);
    CHECK_GE(desc.block_count_max, 1024);
    CHECK(!desc.single_threaded && !desc.zeroed && !desc.disable_ranges && !desc.disable_thread_caches);
    CHECK_STRING(desc.name, "pool");
    close_pool(pool);
}

static void options_are_kept(void)
{
    char name[64] = "activations";
    ta_pool_desc desc = zero_desc(), got;
    ta_pool *pool;
    desc.limit_bytes = 64 * MIB;
    desc.cached_bytes_max = 3 * MIB;
    desc.buffers_per_bucket_max = 5;
    desc.slack_bytes_max = 4096;
    desc.thread_cache_bytes = 100000;
    desc.thread_cache_block_bytes = 16 * KIB;
    desc.range_bytes = 512 * MIB;
    desc.block_count_max = 100000;
    desc.classes_per_doubling = 4;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    desc.single_threaded = 1;
    desc.name = name;
    pool = open_pool(&desc);
    memset(name, 'x', sizeof name - 1); /* it was copied */
    CHECK_OK(ta_pool_get_desc(pool, &got));
    CHECK_EQ(got.limit_bytes, 64 * MIB);
    CHECK_EQ(got.cached_bytes_max, 3 * MIB);
    CHECK_EQ(got.buffers_per_bucket_max, 5);
    CHECK_EQ(got.slack_bytes_max, 4096);
    CHECK_EQ(got.thread_cache_bytes, 100000);
    CHECK_EQ(got.thread_cache_block_bytes, 16 * KIB);
    CHECK_EQ(got.range_bytes, 512 * MIB);
    CHECK_EQ(got.block_count_max, 100000);
    CHECK_EQ(got.classes_per_doubling, 4);
    CHECK_EQ(got.huge_pages, TA_HUGE_PAGES_OFF);
    CHECK(got.single_threaded);
    CHECK_STRING(got.name, "activations");
    close_pool(pool);
    desc.name = "0123456789012345678901234567890123456789";
    pool = open_pool(&desc);
    CHECK_OK(ta_pool_get_desc(pool, &got));
    CHECK_STRING(got.name, "0123456789012345678901234567890"); /* 31 */
    close_pool(pool);
}

static void spec_desc(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    CHECK_EQ(desc.cached_bytes_max, 64 * MIB);
    CHECK_EQ(desc.buffers_per_bucket_max, 8);
    CHECK_EQ(desc.classes_per_doubling, 1);
    close_pool(open_pool(&desc));
}

static void invalid_descs_are_errors(void)
{
    ta_pool_desc desc[7];
    size_t i;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < 7; i++) {
        desc[i] = zero_desc();
    }
    desc[0].thread_cache_block_bytes = 64 * KIB + 1;
    desc[1].thread_cache_block_bytes = TA_UNLIMITED;
    desc[2].classes_per_doubling = 3;
    desc[3].classes_per_doubling = 16;
    desc[4].classes_per_doubling = 0x80000000u;
    desc[5].huge_pages = (ta_huge_pages)3;
    desc[6].block_count_max = TA_UNLIMITED;
    for (i = 0; i < 7; i++) {
        ta_pool *pool = (ta_pool *)&desc;
        test_context("desc %u", (unsigned)i);
        CHECK_RESULT(ta_pool_create(&desc[i], &pool), TA_ERROR_INVALID_ARGUMENT);
        CHECK(pool == NULL);
    }
}

static int walk_nothing(void *user, const ta_block_info *block)
{
    (void)user;
    (void)block;
    return 0;
}

static void null_arguments_are_errors(void)
{
    ta_pool *pool = open_pool(NULL), *none = NULL;
    ta_request request = request_of(64, 0, 0);
    ta_result result = TA_OK;
    ta_block_info info;
    ta_pool_desc desc;
    ta_stats s;
    ta_bucket_stats b;
    ta_failure failure;
    int x = 0;
    TEST_ALLOW_ASSERTS();
#define FAILS(call) \
    do { \
        result = TA_OK; \
        CHECK((call) == NULL); \
        CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT); \
    } while (0)
    FAILS(ta_pool_alloc(none, 64, &result));
    FAILS(ta_pool_alloc_aligned(none, 64, 64, &result));
    FAILS(ta_pool_alloc_array(none, 4, 4, &result));
    FAILS(ta_pool_alloc_zeroed(none, 64, &result));
    FAILS(ta_pool_alloc_request(none, &request, &result));
    FAILS(ta_pool_alloc_request(pool, NULL, &result));
    FAILS(ta_pool_get(none, 64, &result));
    FAILS(ta_pool_get_aligned(none, 64, 64, &result));
    FAILS(ta_pool_get_or_alloc(none, 64, &result));
    FAILS(ta_pool_realloc(none, NULL, 64, &result));
    FAILS(ta_pool_realloc(none, &x, 64, &result));
#undef FAILS
    CHECK(ta_pool_alloc(none, 64, NULL) == NULL);
    CHECK_RESULT(ta_pool_free(none, &x), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_free_sized(none, &x, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_put(none, &x, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_put_aligned(none, NULL, 64, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_clear(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_resize_in_place(none, &x, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_resize_in_place(pool, NULL, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(ta_pool_capacity_of(none, &x), 0);
    CHECK_EQ(ta_pool_capacity_of(pool, NULL), 0);
    CHECK_EQ(ta_pool_owns(none, &x), 0);
    CHECK_EQ(ta_pool_owns(pool, NULL), 0);
    CHECK_RESULT(ta_pool_describe(none, &x, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_describe(pool, &x, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_pool_describe(pool, NULL, &info) != TA_OK);
    CHECK_RESULT(ta_pool_record_use(none, &x, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_pool_record_use(pool, NULL, 1) != TA_OK);
    CHECK_RESULT(ta_pool_thread_flush(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_empty_cache(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_trim(none, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_seal(none, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_for_each_live(none, walk_nothing, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_for_each_live(pool, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_walk(none, walk_nothing, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_walk(pool, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_check(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_failure(none, &failure), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_failure(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_desc(none, &desc), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_desc(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_stats(none, &s), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_stats(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_reset_peaks(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(none, 0, &b), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_dispose(none), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_free(pool, NULL));
    CHECK_OK(ta_pool_free_sized(pool, NULL, 0));
    CHECK_OK(ta_pool_free_sized(pool, NULL, 100));
    CHECK_OK(ta_pool_put(pool, NULL, 100));
    s = stats_of(pool);
    CHECK_EQ(s.allocation_count + s.deallocation_count + s.live_count, 0);
    close_pool(pool);
}

static void initial_bytes_are_committed_at_creation(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    uint64_t calls;
    int ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        test_context(ranges ? "ranges" : "segments");
        desc.backend = tb_counting_init(&counting, ta_backend_host(), ranges ? 0 : TA_CAP_RANGES);
        desc.initial_bytes = 8 * MIB;
        pool = open_pool(&desc);
        CHECK_GE(stats_of(pool).reserved_bytes, 8 * MIB);
        CHECK_EQ(stats_of(pool).reserved_bytes, tb_counting_held(&counting));
        calls = counting.calls[TB_COMMIT] + counting.calls[TB_ALLOC];
        (void)must_alloc(pool, 6 * MIB);
        (void)must_alloc(pool, 100 * KIB);
        (void)must_alloc(pool, 1000);
        CHECK_EQ(counting.calls[TB_COMMIT] + counting.calls[TB_ALLOC], calls);
        CHECK_EQ(stats_of(pool).hit_count, 3);
        close_pool(pool);
        desc.limit_bytes = 7 * MIB; /* more at the start than there may ever be */
        CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_LIMIT);
        CHECK(pool == NULL);
        desc.limit_bytes = 0;
        counting.memory_max_bytes = 5 * MIB;
        CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_OUT_OF_MEMORY);
        CHECK(pool == NULL);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

static void few_records_are_enough_for_few_blocks(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    void *ptrs[20000];
    size_t count = 0;
    desc.block_count_max = 64; /* as few as one may ask for; more may be there */
    desc.disable_thread_caches = 1;
    CHECK_OK(ta_pool_create(&desc, &pool));
    REQUIRE(pool != NULL);
    while (count < 20000 && (ptrs[count] = ta_pool_alloc(pool, 64, &result)) != NULL) {
        count++;
    }
    CHECK_GE(count, 32);
    CHECK_RESULT(result, TA_ERROR_RECORDS);
    CHECK_OK(ta_pool_check(pool));
    CHECK_EQ(stats_of(pool).live_count, count);
    CHECK_EQ(failure_of(pool).result, TA_ERROR_RECORDS);
    CHECK_OK(ta_pool_free(pool, ptrs[--count]));
    CHECK_OK(ta_pool_free(pool, ptrs[--count]));
    ptrs[count++] = must_alloc(pool, 64);
    while (count > 0) {
        CHECK_OK(ta_pool_free(pool, ptrs[--count]));
    }
    close_pool(pool);
}

static void huge_pages_are_an_option(void)
{
    static const ta_huge_pages options[] = {TA_HUGE_PAGES_DEFAULT, TA_HUGE_PAGES_ON, TA_HUGE_PAGES_OFF};
    size_t i;
    if (!host_has_ranges()) {
        return;
    }
    for (i = 0; i < 3; i++) {
        tb_counting counting;
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
        desc.huge_pages = options[i];
        pool = open_pool(&desc);
        memset(must_alloc(pool, 5 * MIB), 1, 5 * MIB);
        CHECK_EQ(counting.range_flags, options[i] == TA_HUGE_PAGES_OFF ? 0 : TA_RANGE_HUGE_PAGES);
        close_pool(pool);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

static void classes_per_doubling_bound_the_waste(void)
{
    static const uint32_t classes[] = {1, 2, 4, 8};
    size_t i, size;
    for (i = 0; i < 4; i++) {
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        desc.classes_per_doubling = classes[i];
        pool = open_pool(&desc);
        for (size = 64; size <= 64 * KIB; size += size / 5 + 1) {
            void *ptr = must_alloc(pool, size);
            size_t capacity = ta_pool_capacity_of(pool, ptr);
            CHECK_GE(capacity, size);
            CHECK_LE(capacity - size, size / classes[i] + 63); /* a step of the doubling, and the alignment */
            CHECK_EQ(capacity % 64, 0);
        }
        if (classes[i] == 1) {
            CHECK_EQ(ta_pool_capacity_of(pool, must_alloc(pool, 1025)), 2048);
            CHECK_EQ(ta_pool_capacity_of(pool, must_alloc(pool, 1024)), 1024);
        }
        close_pool(pool);
    }
}

static void five_hundred_pools_at_once(void)
{
    static ta_pool *pools[500];
    static unsigned char *ptrs[500];
    const size_t count = sizeof(void *) > 4 && !TEST_HAS_FEW_ADDRESSES ? 500 : 10;
    void *own;
    size_t i;
    for (i = 0; i < count; i++) {
        pools[i] = open_pool(NULL);
        ptrs[i] = (unsigned char *)must_alloc(pools[i], 1000 + i * 100);
        memset(ptrs[i], (int)(i & 255), 1000 + i * 100);
    }
    own = malloc((size_t)256 << 20); /* the program still finds addresses for itself */
    CHECK(own != NULL);
    free(own);
    for (i = 0; i < count; i++) {
        CHECK(is_filled(ptrs[i], (int)(i & 255), 1000 + i * 100));
        CHECK_EQ(stats_of(pools[i]).live_count, 1);
        CHECK_OK(ta_pool_free(pools[i], ptrs[i]));
    }
    for (i = 0; i < count; i++) {
        close_pool(pools[(i * 7) % count]);
    }
}

static void full_ranges_chain(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    void *ptrs[6];
    size_t range_bytes;
    int i;
    if (!host_has_ranges()) {
        return;
    }
    desc.range_bytes = 64 * MIB;
    pool = open_pool(&desc);
    range_bytes = stats_of(pool).address_range_bytes;
    for (i = 0; i < 6; i++) { /* untouched, so it costs nothing */
        ptrs[i] = must_alloc(pool, 30 * MIB);
    }
    CHECK_GE(stats_of(pool).address_range_bytes, range_bytes + 2 * 64 * MIB);
    CHECK_OK(ta_pool_check(pool));
    for (i = 0; i < 6; i++) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
    }
    CHECK_OK(ta_pool_check(pool));
    (void)must_alloc(pool, 200 * MIB); /* more than a range: one of its own */
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(stats_of(pool).reserved_bytes, 0);
    close_pool(pool);
}

/*---------------------------------------------------------------------------------------------------------
  Allocation, the buffer pool of the specification, and the specification's faults.
  -------------------------------------------------------------------------------------------------------*/
static void arrays_and_types(void)
{
    static const size_t top = (size_t)-1;
    const size_t bad[][2] = {{top, 2}, {2, top}, {top / 2 + 1, 2}, {top / 4 + 1, 4}, {top, top}, {top / 8 + 1, 8}};
    ta_pool *pool = open_pool(NULL);
    ta_result result = TA_OK;
    ta_block_info info;
    float *x = TA_POOL_NEW(pool, float, 1024);
    double *y = (double *)ta_pool_alloc_array(pool, 10, sizeof(double), &result);
    size_t i;
    TEST_ALLOW_ASSERTS();
    CHECK(x != NULL && y != NULL);
    CHECK_OK(result);
    CHECK_OK(ta_pool_describe(pool, x, &info));
    CHECK_EQ(info.requested_bytes, 4096);
    CHECK_EQ((uintptr_t)x % 64, 0);
    x[1023] = 1.0f;
    y[9] = 2.0;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(ta_pool_alloc_array(pool, bad[i][0], bad[i][1], &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OVERFLOW);
    }
    CHECK(ta_pool_alloc_array(pool, 0, 4, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    CHECK(ta_pool_alloc_array(pool, 4, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    CHECK_OK(ta_pool_free(pool, x));
    CHECK_OK(ta_pool_free_sized(pool, y, 80));
    CHECK_EQ(stats_of(pool).live_count, 0);
    close_pool(pool);
}

static void get_and_put(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_result result = TA_OK;
    void *a, *b;
    CHECK(ta_pool_get(pool, 1000, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    CHECK(ta_pool_get_aligned(pool, 1000, 256, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    CHECK_EQ(stats_of(pool).failure_not_cached_count, 2);
    CHECK_EQ(stats_of(pool).reserved_bytes, 0);
    a = ta_pool_get_or_alloc(pool, 1000, &result);
    CHECK_OK(result);
    CHECK_OK(ta_pool_put(pool, a, 1000));
    b = ta_pool_get(pool, 1000, &result);
    CHECK_OK(result);
    CHECK(a == b);
    CHECK_RESULT(ta_pool_put(pool, b, 999), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_pool_put(pool, b, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK(ta_pool_owns(pool, b));
    CHECK_OK(ta_pool_put(pool, b, 1000));
    CHECK_RESULT(ta_pool_put(pool, b, 1000), TA_ERROR_STALE);
    CHECK_RESULT(ta_pool_put(pool, &result, 1000), TA_ERROR_FOREIGN);
    CHECK(ta_pool_get_or_alloc(pool, 1000, NULL) == a);
    CHECK_OK(ta_pool_put(pool, a, 1000));
    close_pool(pool);
}

static void get_and_put_aligned(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_result result = TA_OK;
    void *a, *b;
    TEST_ALLOW_ASSERTS();
    a = ta_pool_alloc_aligned(pool, 5000, 4096, &result);
    CHECK_OK(result);
    CHECK_EQ((uintptr_t)a % 4096, 0);
    CHECK_OK(ta_pool_put_aligned(pool, a, 5000, 4096));
    b = ta_pool_get_aligned(pool, 5000, 4096, &result);
    CHECK_OK(result);
    CHECK(b != NULL && (uintptr_t)b % 4096 == 0);
    CHECK_RESULT(ta_pool_put_aligned(pool, b, 4999, 4096), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_pool_put_aligned(pool, b, 5000, 3), TA_ERROR_INVALID_ALIGNMENT);
    CHECK_RESULT(ta_pool_put_aligned(pool, b, 5000, 0), TA_ERROR_INVALID_ALIGNMENT);
    CHECK_OK(ta_pool_put_aligned(pool, b, 5000, 64)); /* an alignment that it has */
    CHECK(ta_pool_get_aligned(pool, 100, 48, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    CHECK(ta_pool_alloc_aligned(pool, 100, 48, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    CHECK(ta_pool_alloc_aligned(pool, 100, (size_t)1 << 31, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    close_pool(pool);
}

/* Specified: files a freed buffer under the floor of its size and looks under the ceiling, so 1000 B never hit. */
static void odd_sizes_are_found_again(void)
{
    static const size_t sizes[] = {1000, 3000, 70001, 1000001};
    int variant;
    for (variant = 0; variant < 5; variant++) {
        ta_pool_desc desc = variant == 1 ? ta_pool_desc_spec() : zero_desc();
        ta_pool *pool;
        ta_stats s;
        size_t i, k;
        test_context("variant %d", variant);
        desc.single_threaded = variant == 2;
        desc.disable_thread_caches = variant == 3;
        desc.disable_ranges = variant == 4;
        pool = open_pool(&desc);
        for (k = 0; k < 4; k++) {
            void *first = must_alloc(pool, sizes[k]);
            CHECK_OK(ta_pool_put(pool, first, sizes[k]));
            for (i = 0; i < 500; i++) {
                void *ptr = ta_pool_get_or_alloc(pool, sizes[k], NULL);
                CHECK(ptr == first);
                CHECK_OK(ta_pool_put(pool, ptr, sizes[k]));
            }
        }
        s = stats_of(pool);
        CHECK_EQ(s.allocation_count, 4 * 501);
        CHECK_GE(s.hit_count, 4 * 500);
        CHECK_LE(s.miss_count, 4);
        CHECK(ta_stats_hit_rate(&s) >= 0.998);
        close_pool(pool);
    }
}

/* Specified: 64 MiB cached at most, and a bucket for 64 to 128 MiB that could therefore never hold anything. */
static void largest_bucket_can_be_cached(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_pool_desc desc = ta_pool_desc_spec();
    ta_result result = TA_OK;
    void *ptr = must_alloc(pool, 100 * MIB);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_GE(stats_of(pool).cached_bytes, 100 * MIB);
    CHECK(ta_pool_get(pool, 100 * MIB, &result) == ptr);
    CHECK_OK(result);
    close_pool(pool);
    pool = open_pool(&desc); /* who wants the specification's bound gets it */
    CHECK_OK(ta_pool_free(pool, must_alloc(pool, 100 * MIB)));
    CHECK_LE(stats_of(pool).cached_bytes, 64 * MIB);
    CHECK_OK(ta_pool_free(pool, must_alloc(pool, 60 * MIB)));
    CHECK_LE(stats_of(pool).cached_bytes, 64 * MIB);
    close_pool(pool);
}

/* Specified: pointers from before clear still look alive. */
static void clear_leaves_nothing_alive(void)
{
    static const size_t sizes[] = {100, 1000, 1000, 70000, 300000, 64};
    ta_pool_desc desc = zero_desc();
    int variant;
    for (variant = 0; variant < 3; variant++) {
        ta_buffer buffers[6], copies[6];
        ta_pool *pool;
        ta_allocator a;
        ta_stats s;
        size_t i;
        test_context("variant %d", variant);
        desc.single_threaded = variant == 1;
        desc.disable_thread_caches = variant == 2;
        pool = open_pool(&desc);
        a = ta_pool_allocator(pool);
        CHECK_OK(ta_pool_clear(pool)); /* of nothing */
        for (i = 0; i < 6; i++) {
            ta_request request = request_of(sizes[i], i == 3 ? 4096 : 0, 0);
            CHECK_OK(ta_allocator_alloc_buffer(a, &request, &buffers[i]));
            copies[i] = buffers[i];
        }
        CHECK_OK(ta_allocator_free_buffer(a, &buffers[1], 0));
        CHECK_OK(ta_pool_clear(pool));
        s = stats_of(pool);
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.in_use_bytes, 0);
        CHECK_EQ(s.deallocation_count, 6);
        CHECK_EQ(s.freed_bytes, s.allocated_bytes);
        CHECK_GT(s.cached_bytes, 0); /* the memory stays */
        for (i = 0; i < 6; i++) {
            CHECK_RESULT(ta_allocator_check_buffer(a, &copies[i]), TA_ERROR_STALE);
            CHECK_RESULT(ta_allocator_free_buffer(a, &copies[i], 0), TA_ERROR_STALE);
            CHECK_RESULT(ta_pool_free(pool, copies[i].data), TA_ERROR_STALE);
            CHECK(!ta_pool_owns(pool, copies[i].data));
        }
        for (i = 0; i < 6; i++) { /* same places, other blocks: the old buffers stay harmless */
            CHECK(ta_pool_get(pool, sizes[i], NULL) != NULL);
        }
        for (i = 0; i < 6; i++) {
            CHECK_RESULT(ta_allocator_free_buffer(a, &copies[i], 0), TA_ERROR_STALE);
        }
        CHECK_EQ(stats_of(pool).live_count, 6);
        CHECK_OK(ta_pool_clear(pool));
        CHECK_OK(ta_pool_clear(pool));
        close_pool(pool);
    }
}

/* Specified: "allocated" is live bytes in one place and bytes taken from the system in another. */
static void each_figure_has_one_meaning(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_stats s;
    void *a = must_alloc(pool, 1000), *b = must_alloc(pool, 300000);
    s = stats_of(pool);
    CHECK_EQ(s.allocated_bytes, 301000); /* requested, cumulative */
    CHECK_EQ(s.freed_bytes, 0);
    CHECK_EQ(s.requested_bytes, 301000); /* requested, live */
    CHECK_EQ(s.in_use_bytes, ta_pool_capacity_of(pool, a) + ta_pool_capacity_of(pool, b)); /* capacity, live */
    CHECK_GE(s.reserved_bytes, s.in_use_bytes);
    CHECK_OK(ta_pool_free(pool, b));
    s = stats_of(pool);
    CHECK_EQ(s.allocated_bytes, 301000);
    CHECK_EQ(s.freed_bytes, 300000);
    CHECK_EQ(s.requested_bytes, 1000);
    CHECK_EQ(s.in_use_bytes, ta_pool_capacity_of(pool, a));
    CHECK_EQ(s.allocation_count, 2);
    CHECK_EQ(s.deallocation_count, 1);
    CHECK_EQ(s.live_count, 1);
    close_pool(pool);
}

static void zeroed_requests_and_pools(void)
{
    static const size_t sizes[] = {100, 1000, 60000, 200000};
    int variant;
    for (variant = 0; variant < 4; variant++) { /* bit 0: the pool's option, bit 1: a backend with dirty memory */
        tb_counting counting;
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        uint64_t calls;
        size_t i;
        test_context("variant %d", variant);
        desc.backend = tb_counting_init(&counting, ta_backend_host(), (variant & 2) != 0 ? TA_CAP_FRESH_ZERO : 0);
        desc.zeroed = (variant & 1) != 0;
        pool = open_pool(&desc);
        for (i = 0; i < 4; i++) {
            void *a, *b;
            calls = counting.calls[TB_ZERO];
            a = desc.zeroed ? ta_pool_alloc(pool, sizes[i], NULL) : ta_pool_alloc_zeroed(pool, sizes[i], NULL);
            CHECK(a != NULL && is_filled(a, 0, sizes[i]));
            if ((variant & 2) != 0) {
                CHECK_EQ(counting.calls[TB_ZERO], calls + 1);
            } else if ((counting.given.caps & TA_CAP_FRESH_ZERO) != 0 && i == 3) {
                CHECK_EQ(counting.calls[TB_ZERO], calls); /* fresh memory is zero already */
            }
            memset(a, 0xff, ta_pool_capacity_of(pool, a));
            CHECK_OK(ta_pool_free(pool, a));
            b = desc.zeroed ? ta_pool_alloc(pool, sizes[i], NULL) : ta_pool_alloc_zeroed(pool, sizes[i], NULL);
            CHECK(b != NULL && is_filled(b, 0, sizes[i]));
            memset(b, 0xff, ta_pool_capacity_of(pool, b));
            CHECK_OK(ta_pool_free(pool, b));
        }
        CHECK_OK(ta_pool_empty_cache(pool)); /* pages that go and come back, at the end and in the middle */
        for (i = 0; i < 4; i++) {
            void *a = desc.zeroed ? ta_pool_alloc(pool, sizes[i], NULL) : ta_pool_alloc_zeroed(pool, sizes[i], NULL);
            CHECK(a != NULL && is_filled(a, 0, sizes[i]));
            memset(a, 0xff, sizes[i]);
        }
        if (!desc.zeroed) { /* a block that was handed out dirty and resized, then zeroed */
            void *a = must_alloc(pool, 300000), *b;
            memset(a, 0xff, 300000);
            CHECK_OK(ta_pool_resize_in_place(pool, a, 100000));
            b = ta_pool_alloc_zeroed(pool, 200000, NULL);
            CHECK(b != NULL && is_filled(b, 0, 200000));
        }
        close_pool(pool);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Caps on what is cached.
  -------------------------------------------------------------------------------------------------------*/
static void cached_bytes_max_holds_after_every_call(void)
{
    const size_t cap = MIB;
    int variant;
    if (!host_has_ranges()) { /* segments go back whole or not at all */
        return;
    }
    for (variant = 0; variant < 4; variant++) {
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        uint64_t random = test_now.seed + (uint64_t)variant;
        void *live[40];
        size_t most = 0;
        int i, count = 0;
        test_context("variant %d, seed %llu", variant, (unsigned long long)test_now.seed);
        memset(live, 0, sizeof live);
        desc.cached_bytes_max = cap;
        desc.single_threaded = variant == 1;
        desc.disable_thread_caches = variant == 2;
        desc.thread_cache_bytes = variant == 3 ? 8 * MIB : 0; /* more than the cap */
        pool = open_pool(&desc);
        for (i = 0; i < 3000; i++) {
            uint32_t k = test_below(&random, 40), what = test_below(&random, 12);
            size_t size = (size_t)1 + test_below(&random, 1u << (6 + test_below(&random, 13)));
            ta_stats s;
            if (live[k] == NULL) {
                live[k] = must_alloc(pool, size);
                count++;
            } else if (what < 8) {
                CHECK_OK(ta_pool_free(pool, live[k]));
                live[k] = NULL;
                count--;
            } else if (what < 10) {
                (void)ta_pool_resize_in_place(pool, live[k], size);
            } else {
                void *moved = ta_pool_realloc(pool, live[k], size, NULL);
                CHECK(moved != NULL);
                live[k] = moved;
            }
            s = stats_of(pool);
            CHECK_LE(s.cached_bytes, cap); /* 40 partly used pages are far below it */
            most = s.cached_bytes > most ? s.cached_bytes : most;
        }
        CHECK_GE(most, cap / 2); /* and what is allowed is used */
        CHECK_OK(ta_pool_clear(pool));
        CHECK_LE(stats_of(pool).cached_bytes, cap);
        close_pool(pool);
    }
}

static void buffers_per_bucket_max_bounds_what_stays_uncoalesced(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    ta_pool *pool = open_pool(&desc);
    void *ptrs[100];
    int i, round;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 100; i++) {
            ptrs[i] = must_alloc(pool, 1000);
        }
        for (i = 0; i < 100; i++) {
            CHECK_OK(ta_pool_free(pool, ptrs[i]));
            CHECK_LE(stats_of(pool).thread_cached_bytes, 8 * 1024);
        }
        CHECK_GT(stats_of(pool).thread_cached_bytes, 0);
        CHECK_OK(ta_pool_check(pool));
    }
    CHECK_EQ(stats_of(pool).live_count, 0);
    close_pool(pool);
}

static void thread_caches_are_bounded_and_flushed(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    void *ptrs[400];
    int i;
    desc.thread_cache_bytes = 100000;
    pool = open_pool(&desc);
    for (i = 0; i < 400; i++) {
        ptrs[i] = must_alloc(pool, 2000);
    }
    for (i = 0; i < 400; i++) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
        CHECK_LE(stats_of(pool).thread_cached_bytes, 100000);
    }
#ifndef TENSORALLOC_NO_THREADS
    CHECK_GT(stats_of(pool).thread_cached_bytes, 0);
#endif
    CHECK_OK(ta_pool_thread_flush(pool));
    CHECK_EQ(stats_of(pool).thread_cached_bytes, 0);
    CHECK_EQ(stats_of(pool).in_use_bytes, 0);
    close_pool(pool);
    desc = zero_desc();
    desc.disable_thread_caches = 1;
    pool = open_pool(&desc);
    CHECK_OK(ta_pool_free(pool, must_alloc(pool, 2000)));
    CHECK_EQ(stats_of(pool).thread_cached_bytes, 0);
    CHECK_EQ(stats_of(pool).thread_hit_count, 0);
    close_pool(pool);
}

static void slack_hands_out_a_larger_block_whole(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    void *a, *b, *fence;
    size_t capacity;
    int slack;
    for (slack = 0; slack < 2; slack++) {
        test_context(slack ? "slack" : "none");
        desc.slack_bytes_max = slack ? 8192 : 0;
        pool = open_pool(&desc);
        a = must_alloc(pool, 200000);
        fence = must_alloc(pool, 100000);
        capacity = ta_pool_capacity_of(pool, a);
        CHECK_OK(ta_pool_free(pool, a));
        b = must_alloc(pool, 195000);
        CHECK(b == a);
        if (slack) {
            CHECK_EQ(ta_pool_capacity_of(pool, b), capacity);
            CHECK_EQ(stats_of(pool).wasted_bytes, capacity - 195000 + ta_pool_capacity_of(pool, fence) - 100000);
        } else {
            CHECK_LT(ta_pool_capacity_of(pool, b), capacity);
        }
        CHECK_OK(ta_pool_free(pool, b));
        b = must_alloc(pool, 150000); /* too much larger: split */
        CHECK(b == a);
        CHECK_LT(ta_pool_capacity_of(pool, b), 150000 + 8192);
        close_pool(pool);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Limits, budgets, seal, the ladder.
  -------------------------------------------------------------------------------------------------------*/
typedef struct oom_user {
    ta_pool *pool;
    void *held[64];
    int held_count;
    int calls;
    int lies;        /* says so many times that it helped */
    ta_failure seen; /* by the last call */
} oom_user;

static int oom_free_one(void *user, const ta_failure *failure)
{
    oom_user *u = (oom_user *)user;
    u->calls++;
    u->seen = *failure;
    if (u->lies > 0) {
        u->lies--;
        return 1;
    }
    if (u->held_count == 0) {
        return 0;
    }
    return ta_pool_free(u->pool, u->held[--u->held_count]) == TA_OK;
}

static void out_of_memory_callback(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    ta_request request = request_of(3 * MIB, 4096, 0);
    oom_user u;
    int i;
    memset(&u, 0, sizeof u);
    desc.limit_bytes = 4 * MIB;
    desc.on_out_of_memory = oom_free_one;
    desc.on_out_of_memory_user = &u;
    u.pool = open_pool(&desc);
    for (i = 0; i < 15; i++) {
        u.held[u.held_count++] = must_alloc(u.pool, 256 * KIB);
    }
    CHECK_EQ(u.calls, 0);
    request.tag = "big";
    CHECK(ta_pool_alloc_request(u.pool, &request, &result) != NULL); /* it frees as often as needed */
    CHECK_OK(result);
    CHECK_GE(u.calls, 11);
    CHECK_LE(u.held_count, 4);
    CHECK_RESULT(u.seen.result, TA_ERROR_LIMIT);
    CHECK_EQ(u.seen.requested_bytes, 3 * MIB);
    CHECK_EQ(u.seen.alignment_bytes, 4096);
    CHECK_STRING(u.seen.tag, "big");
    CHECK_EQ(u.seen.limit_bytes, 4 * MIB);
    CHECK_EQ(stats_of(u.pool).failure_count, 0); /* it did not fail in the end */
    CHECK_EQ(failure_of(u.pool).count, 0);
    u.lies = 3;
    u.calls = 0;
    u.held_count = 0;
    CHECK(ta_pool_alloc(u.pool, 3 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_EQ(u.calls, 4); /* three lies, and the end */
    CHECK_EQ(stats_of(u.pool).failure_count, 1);
    CHECK_EQ(stats_of(u.pool).failure_limit_count, 1);
    CHECK_LE(stats_of(u.pool).peak_reserved_bytes, 4 * MIB);
    u.calls = 0;
    request.size_bytes = 3 * MIB;
    request.flags = TA_REQUEST_WITHIN_BUDGET; /* these do not bother anybody */
    CHECK(ta_pool_alloc_request(u.pool, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    request.flags = TA_REQUEST_CACHED_ONLY;
    CHECK(ta_pool_alloc_request(u.pool, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    CHECK_EQ(u.calls, 0);
    close_pool(u.pool);
}

typedef struct shared_stash {
    ta_pool *pool;
    pthread_mutex_t lock;
    void *held[256];
    int held_count;
    uint64_t gave_up, freed, errors;
} shared_stash;

static int oom_from_stash(void *user, const ta_failure *failure)
{
    shared_stash *stash = (shared_stash *)user;
    void *ptr = NULL;
    pthread_mutex_lock(&stash->lock);
    stash->errors += failure->result != TA_ERROR_LIMIT;
    if (stash->held_count > 0) {
        ptr = stash->held[--stash->held_count];
        stash->freed++;
    } else {
        stash->gave_up++;
    }
    pthread_mutex_unlock(&stash->lock);
    return ptr != NULL && ta_pool_free(stash->pool, ptr) == TA_OK;
}

static void *oom_worker(void *user)
{
    shared_stash *stash = (shared_stash *)user;
    uint64_t random = (uint64_t)(uintptr_t)&random, errors = 0, refused = 0;
    int i;
    for (i = 0; i < 400; i++) {
        unsigned char *ptr = (unsigned char *)ta_pool_alloc(stash->pool, 1000 + test_below(&random, 300000), NULL);
        if (ptr == NULL) {
            refused++;
            continue;
        }
        ptr[0] = 1;
        pthread_mutex_lock(&stash->lock);
        if (stash->held_count < 256) {
            stash->held[stash->held_count++] = ptr;
            ptr = NULL;
        }
        pthread_mutex_unlock(&stash->lock);
        errors += ptr != NULL && ta_pool_free(stash->pool, ptr) != TA_OK;
    }
    pthread_mutex_lock(&stash->lock);
    stash->errors += errors + (refused > stash->gave_up);
    pthread_mutex_unlock(&stash->lock);
    return NULL;
}

static void out_of_memory_callback_from_two_threads(void)
{
    static shared_stash stash;
    ta_pool_desc desc = zero_desc();
    pthread_t other;
    ta_stats s;
#ifdef TENSORALLOC_NO_THREADS
    TEST_SKIP("built without threads");
    return;
#endif
    memset(&stash, 0, sizeof stash);
    pthread_mutex_init(&stash.lock, NULL);
    desc.limit_bytes = 3 * MIB;
    desc.on_out_of_memory = oom_from_stash;
    desc.on_out_of_memory_user = &stash;
    stash.pool = open_pool(&desc);
    REQUIRE(pthread_create(&other, NULL, oom_worker, &stash) == 0);
    (void)oom_worker(&stash);
    pthread_join(other, NULL);
    CHECK_EQ(stash.errors, 0);
    CHECK_GT(stash.freed, 100);
    s = stats_of(stash.pool);
    CHECK_EQ(s.live_count, stash.held_count);
    CHECK_LE(s.peak_reserved_bytes, 3 * MIB);
    while (stash.held_count > 0) {
        CHECK_OK(ta_pool_free(stash.pool, stash.held[--stash.held_count]));
    }
    close_pool(stash.pool);
    pthread_mutex_destroy(&stash.lock);
}

static void shared_budget_reclaims_from_siblings(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_budget_stats b;
    ta_pool_desc desc = zero_desc();
    ta_pool *a, *c;
    ta_result result = TA_OK;
    ta_request request = request_of(5 * MIB, 0, TA_REQUEST_WITHIN_BUDGET);
    void *held, *got;
    oom_user u;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&u, 0, sizeof u);
    budget_desc.limit_bytes = 8 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    a = open_pool(&desc);
    desc.on_out_of_memory = oom_free_one;
    desc.on_out_of_memory_user = &u;
    c = open_pool(&desc);
    u.pool = c;
    held = must_alloc(a, 2 * MIB);
    CHECK_OK(ta_pool_free(a, must_alloc(a, 5 * MIB))); /* cached in a */
    CHECK_GE(stats_of(a).cached_bytes, 5 * MIB);
    CHECK(ta_pool_alloc_request(c, &request, &result) == NULL); /* nobody is asked */
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_GE(stats_of(a).cached_bytes, 5 * MIB);
    CHECK_EQ(u.calls, 0);
    got = ta_pool_alloc(c, 5 * MIB, &result); /* a gives its cache */
    CHECK_OK(result);
    CHECK(got != NULL);
    CHECK_EQ(u.calls, 0);
    CHECK_LT(stats_of(a).cached_bytes, 2 * MIB);
    CHECK_GT(stats_of(a).trimmed_bytes, 0);
    memset(held, 7, 2 * MIB);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.reserved_bytes, stats_of(a).reserved_bytes + stats_of(c).reserved_bytes);
    CHECK_LE(b.peak_reserved_bytes, 8 * MIB);
    CHECK_EQ(b.allocator_count, 2);
    CHECK(ta_pool_alloc(c, 5 * MIB, &result) == NULL); /* what is live is not taken */
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_EQ(u.calls, 1);
    CHECK_EQ(failure_of(c).budget_used_bytes, b.reserved_bytes);
    CHECK(is_filled(held, 7, 2 * MIB));
    close_pool(a);
    close_pool(c);
    CHECK_OK(ta_budget_destroy(budget));
}

/* An aligned block may need more than its size to be laid out: that much is asked of the others. */
static void siblings_give_enough_for_alignments(void)
{
    int segments;
    for (segments = 0; segments < 2; segments++) {
        tb_counting counting;
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_pool_desc desc = zero_desc();
        ta_pool *a, *c;
        ta_result result = TA_OK;
        test_context(segments ? "segments" : "ranges");
        memset(&budget_desc, 0, sizeof budget_desc);
        budget_desc.backend = tb_counting_init(&counting, ta_backend_host(), segments ? TA_CAP_RANGES : 0);
        budget_desc.limit_bytes = 16 * MIB;
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        desc.budget = budget;
        a = open_pool(&desc);
        c = open_pool(&desc);
        CHECK_OK(ta_pool_free(a, must_alloc(a, 15 * MIB)));
        CHECK(ta_pool_alloc_aligned(c, 100000, 4 * MIB, &result) != NULL);
        CHECK_OK(result);
        close_pool(a);
        close_pool(c);
        CHECK_OK(ta_budget_destroy(budget));
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

/* The gap in front of an aligned block is addresses, not memory. */
static void large_alignments_fit_into_small_limits(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    size_t alignment;
    if (!host_has_ranges() || sizeof(void *) == 4) {
        test_now.skip = "needs ranges in a large address space";
        return;
    }
    desc.limit_bytes = 8 * MIB;
    pool = open_pool(&desc);
    for (alignment = MIB; alignment <= 256 * MIB; alignment *= 2) {
        unsigned char *ptr = (unsigned char *)ta_pool_alloc_aligned(pool, 100000, alignment, &result);
        test_context("alignment %u MiB", (unsigned)(alignment / MIB));
        CHECK_OK(result);
        REQUIRE(ptr != NULL && (uintptr_t)ptr % alignment == 0);
        memset(ptr, 1, 100000);
        CHECK_OK(ta_pool_check(pool));
    }
    close_pool(pool);
}

static void budget_limit_can_change(void)
{
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    ta_budget_stats b;
    void *held;
    if (!host_has_ranges()) { /* the figures are those of pages */
        return;
    }
    CHECK_OK(ta_budget_create(NULL, &budget));
    desc.budget = budget;
    desc.limit_bytes = 1; /* ignored: the budget has the say */
    pool = open_pool(&desc);
    held = must_alloc(pool, 4 * MIB);
    CHECK_OK(ta_budget_set_limit(budget, 2 * MIB)); /* below what is reserved: takes nothing away */
    memset(held, 1, 4 * MIB);
    CHECK(ta_pool_alloc(pool, 1 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_OK(ta_pool_free(pool, held));
    held = must_alloc(pool, 3 * MIB); /* no growth needed */
    CHECK_OK(ta_pool_free(pool, held));
    CHECK_OK(ta_pool_empty_cache(pool));
    held = must_alloc(pool, 1500 * KIB);
    CHECK(ta_pool_alloc(pool, 1500 * KIB, &result) == NULL);
    CHECK_OK(ta_budget_set_limit(budget, 5 * MIB));
    (void)must_alloc(pool, 1500 * KIB);
    CHECK_OK(ta_budget_set_limit(budget, TA_UNLIMITED));
    (void)must_alloc(pool, 30 * MIB);
    CHECK_OK(ta_budget_get_stats(budget, &b));
    CHECK_EQ(b.limit_bytes, TA_UNLIMITED);
    close_pool(pool);
    CHECK_OK(ta_budget_destroy(budget));
}

static void sealed_pools_never_ask_the_backend(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    ta_stats s;
    uint64_t calls;
    void *a, *b;
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    pool = open_pool(&desc);
    a = must_alloc(pool, 3 * MIB); /* warm-up */
    b = must_alloc(pool, 1000);
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_OK(ta_pool_free(pool, b));
    CHECK_OK(ta_pool_seal(pool, 1));
    calls = counting.call_count;
    a = must_alloc(pool, 3 * MIB);
    b = must_alloc(pool, 1000);
    CHECK(ta_pool_alloc(pool, 64 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_SEALED);
    CHECK(ta_pool_realloc(pool, a, 64 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_SEALED);
    CHECK(ta_pool_owns(pool, a));
    CHECK_RESULT(ta_pool_resize_in_place(pool, a, 64 * MIB), TA_ERROR_WOULD_MOVE);
    s = stats_of(pool);
    CHECK_EQ(s.failure_sealed_count, 2);
    CHECK_EQ(s.failure_count, 2);
    CHECK_EQ(failure_of(pool).result, TA_ERROR_SEALED);
    CHECK_EQ(failure_of(pool).requested_bytes, 64 * MIB);
    CHECK(ta_pool_get(pool, 64 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED); /* that is what was asked */
    CHECK_EQ(counting.call_count, calls);
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_OK(ta_pool_empty_cache(pool)); /* giving back is allowed; what went would have to come from the backend */
    CHECK(ta_pool_alloc(pool, 3 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_SEALED);
    CHECK_OK(ta_pool_seal(pool, 0));
    (void)must_alloc(pool, 64 * MIB);
    close_pool(pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

static void failures_say_why(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_request request = request_of(3 * MIB, 256, 0);
    ta_result result = TA_OK;
    ta_failure failure;
    ta_stats s;
    char text[200];
    size_t length;
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    desc.limit_bytes = 4 * MIB;
    pool = open_pool(&desc);
    failure = failure_of(pool);
    CHECK(is_filled(&failure, 0, sizeof failure)); /* none yet */
    (void)must_alloc(pool, 2 * MIB);
    request.tag = "logits";
    request.stream = 5;
    CHECK(ta_pool_alloc_request(pool, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    failure = failure_of(pool);
    s = stats_of(pool);
    CHECK_RESULT(failure.result, TA_ERROR_LIMIT);
    CHECK_EQ(failure.requested_bytes, 3 * MIB);
    CHECK_EQ(failure.alignment_bytes, 256);
    CHECK_EQ(failure.stream, 5);
    CHECK_STRING(failure.tag, "logits");
    CHECK_EQ(failure.limit_bytes, 4 * MIB);
    CHECK_EQ(failure.budget_used_bytes, s.reserved_bytes);
    CHECK_EQ(failure.reserved_bytes, s.reserved_bytes);
    CHECK_EQ(failure.in_use_bytes, s.in_use_bytes);
    CHECK_LE(failure.largest_free_bytes, failure.free_bytes);
    CHECK_EQ(failure.pending_bytes, 0);
    CHECK_EQ(failure.backend_code, 0);
    CHECK_EQ(failure.count, 1);
    length = ta_failure_report(&failure, text, sizeof text);
    CHECK_EQ(length, strlen(text));
    CHECK(strstr(text, "3.00 MiB") != NULL && strstr(text, "4.00 MiB") != NULL && strstr(text, "limit") != NULL);
    counting.memory_max_bytes = tb_counting_held(&counting);
    tb_counting_fail(&counting, TB_ANY, 1, 1);
    CHECK(ta_pool_alloc(pool, 1 * MIB, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    failure = failure_of(pool);
    CHECK_RESULT(failure.result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(failure.backend_code, TB_ERROR_CODE);
    CHECK_EQ(failure.requested_bytes, 1 * MIB);
    CHECK(failure.tag == NULL);
    CHECK_EQ(failure.count, 2);
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
    CHECK(strstr(text, "4711") != NULL && strstr(text, "1.00 MiB") != NULL);
    CHECK(ta_pool_get(pool, 1 * MIB, NULL) == NULL);
    failure = failure_of(pool);
    CHECK_RESULT(failure.result, TA_ERROR_NOT_CACHED);
    CHECK_EQ(failure.count, 3);
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
    tb_counting_fail(&counting, TB_ANY, 0, 0);
    close_pool(pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

static void fragmented_is_told_from_full(void)
{
    ta_fixed_buffer state;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    ta_failure failure;
    char *buffer = (char *)malloc(MIB), text[200];
    void *ptrs[64];
    size_t count = 0, i;
    REQUIRE(buffer != NULL);
    CHECK_OK(ta_backend_fixed(&state, buffer, MIB, &desc.backend));
    pool = open_pool(&desc);
    while (count < 64 && (ptrs[count] = ta_pool_alloc(pool, 70000, &result)) != NULL) {
        count++;
    }
    CHECK_EQ(count, 14);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_LT(failure_of(pool).free_bytes, 70000);
    for (i = 0; i < count; i += 2) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
    }
    CHECK(ta_pool_alloc(pool, 200000, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_FRAGMENTED);
    failure = failure_of(pool);
    CHECK_RESULT(failure.result, TA_ERROR_FRAGMENTED);
    CHECK_GE(failure.free_bytes, 7 * 70000);
    CHECK_GE(failure.largest_free_bytes, 70000);
    CHECK_LT(failure.largest_free_bytes, 200000);
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
    CHECK(strstr(text, "195.31 KiB") != NULL && strstr(text, "largest") != NULL);
    CHECK(ta_pool_alloc(pool, 700000, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    (void)must_alloc(pool, 69000);
    close_pool(pool);
    free(buffer);
}

/*---------------------------------------------------------------------------------------------------------
  The fixed buffer.
  -------------------------------------------------------------------------------------------------------*/
static void fixed_buffer_bounds(void)
{
    enum { SIZE = 300000, GUARD = 256 };
    unsigned char *memory = (unsigned char *)malloc(SIZE + 2 * GUARD);
    int offset;
    REQUIRE(memory != NULL);
    for (offset = 0; offset < 64; offset += 21) {
        unsigned char *buffer = memory + GUARD + offset;
        size_t size = SIZE - (size_t)offset, sum = 0;
        ta_fixed_buffer state;
        ta_pool_desc desc = zero_desc();
        ta_pool *pool, *second = NULL;
        void *ptr;
        memset(memory, 0xa5, SIZE + 2 * GUARD);
        CHECK_OK(ta_backend_fixed(&state, buffer, size, &desc.backend));
        desc.single_threaded = 1;
        pool = open_pool(&desc);
        CHECK_RESULT(ta_pool_create(&desc, &second), TA_ERROR_OUT_OF_MEMORY); /* one at a time */
        CHECK(second == NULL);
        while ((ptr = ta_pool_alloc(pool, 500, NULL)) != NULL) {
            CHECK((unsigned char *)ptr >= buffer && (unsigned char *)ptr + 500 <= buffer + size);
            CHECK_EQ((uintptr_t)ptr % 64, 0);
            sum += ta_pool_capacity_of(pool, ptr);
        }
        CHECK_GE(sum + 512 + 128, size); /* all of it can be used, less what the ends lose */
        CHECK_EQ(stats_of(pool).in_use_bytes, sum);
        CHECK_LE(stats_of(pool).reserved_bytes, size);
        CHECK_OK(ta_pool_clear(pool));
        CHECK(ta_pool_alloc(pool, size - 128, NULL) != NULL); /* and in one piece */
        CHECK_OK(ta_pool_clear(pool));
        CHECK_OK(ta_pool_empty_cache(pool));
        close_pool(pool);
        CHECK(is_filled(memory, 0xa5, SIZE + 2 * GUARD)); /* records are elsewhere: not a byte was touched */
        second = open_pool(&desc); /* it is free again */
        close_pool(second);
    }
    free(memory);
}

static void fixed_buffer_arguments(void)
{
    static unsigned char memory[512];
    ta_fixed_buffer state;
    ta_backend backend;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_backend_fixed(NULL, memory, 512, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, NULL, 512, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, memory, 512, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, memory, 255, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_backend_fixed(&state, memory + 1, 256, &desc.backend)); /* the smallest there is */
    CHECK_OK(ta_backend_check(desc.backend));
    pool = open_pool(&desc);
    CHECK(ta_pool_alloc(pool, 64, NULL) != NULL);
    CHECK(ta_pool_alloc(pool, 64, NULL) != NULL);
    CHECK(ta_pool_alloc(pool, 256, NULL) == NULL);
    close_pool(pool);
}

/*---------------------------------------------------------------------------------------------------------
  One block: realloc, resize, owns.
  -------------------------------------------------------------------------------------------------------*/
static void realloc_keeps_contents_and_alignment(void)
{
    static const size_t sizes[] = {100, 5000, 70, 64, 100000, 2000000, 300000, 65537, 65536, 1, 900};
    ta_pool_desc desc = zero_desc();
    int variant;
    for (variant = 0; variant < 6; variant++) { /* 2 and 5: something behind the block, so that it moves */
        ta_pool *pool;
        ta_request request = request_of(10, variant >= 3 ? 8192 : 0, 0);
        ta_result result = TA_OK;
        ta_block_info info;
        unsigned char *ptr;
        size_t i, size = 10;
        test_context("variant %d", variant);
        desc.single_threaded = variant % 3 == 1;
        pool = open_pool(&desc);
        request.tag = "cache";
        ptr = (unsigned char *)ta_pool_alloc_request(pool, &request, &result);
        CHECK_OK(result);
        memset(ptr, 0x5a, size);
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            unsigned char *moved;
            void *fence = variant % 3 == 2 ? must_alloc(pool, sizes[i]) : NULL;
            moved = (unsigned char *)ta_pool_realloc(pool, ptr, sizes[i], &result);
            CHECK_OK(result);
            REQUIRE(moved != NULL);
            CHECK(is_filled(moved, 0x5a, size < sizes[i] ? size : sizes[i]));
            CHECK_EQ((uintptr_t)moved % (variant >= 3 ? 8192 : 64), 0);
            CHECK_OK(ta_pool_describe(pool, moved, &info));
            CHECK_EQ(info.requested_bytes, sizes[i]);
            CHECK_STRING(info.tag, "cache");
            if (moved != ptr) {
                CHECK(ta_pool_free(pool, ptr) != TA_OK); /* the old one is gone */
            }
            CHECK_EQ(stats_of(pool).live_count, fence != NULL ? 2 : 1);
            CHECK_EQ(stats_of(pool).requested_bytes, sizes[i] + (fence != NULL ? sizes[i] : 0));
            CHECK_OK(ta_pool_free(pool, fence));
            CHECK_OK(ta_pool_check(pool));
            ptr = moved;
            size = sizes[i];
            memset(ptr, 0x5a, size);
        }
        CHECK_OK(ta_pool_free(pool, ptr));
        close_pool(pool);
    }
}

static void realloc_edges(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_result result = TA_OK;
    unsigned char *ptr, *fence;
    TEST_ALLOW_ASSERTS();
    desc.limit_bytes = 8 * MIB;
    pool = open_pool(&desc);
    ptr = (unsigned char *)ta_pool_realloc(pool, NULL, 100000, &result);
    CHECK_OK(result);
    CHECK(ptr != NULL);
    fence = (unsigned char *)must_alloc(pool, 100000);
    memset(ptr, 3, 100000);
#define FAILS(call, want) \
    do { \
        CHECK((call) == NULL); \
        CHECK_RESULT(result, want); \
        CHECK_EQ(stats_of(pool).live_count, 2); \
        CHECK(is_filled(ptr, 3, 100000)); \
        CHECK_GE(ta_pool_capacity_of(pool, ptr), 100000); \
    } while (0)
    FAILS(ta_pool_realloc(pool, ptr, 0, &result), TA_ERROR_INVALID_SIZE);
    FAILS(ta_pool_realloc(pool, NULL, 0, &result), TA_ERROR_INVALID_SIZE);
    FAILS(ta_pool_realloc(pool, ptr, (size_t)-1, &result), TA_ERROR_OVERFLOW);
    FAILS(ta_pool_realloc(pool, ptr, (size_t)-64, &result), TA_ERROR_OVERFLOW);
    FAILS(ta_pool_realloc(pool, ptr, 16 * MIB, &result), TA_ERROR_LIMIT);
    FAILS(ta_pool_realloc(pool, ptr + 64, 200, &result), TA_ERROR_INTERIOR);
    FAILS(ta_pool_realloc(pool, &result, 200, &result), TA_ERROR_FOREIGN);
#undef FAILS
    CHECK_OK(ta_pool_free(pool, fence));
    CHECK(ta_pool_realloc(pool, fence, 200, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_STALE);
    CHECK(ta_pool_realloc(pool, ptr, 200, NULL) == ptr); /* shrinking never moves */
    close_pool(pool);
}

static void resize_in_place_into_neighbours(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    unsigned char *a, *b, *c;
    ta_stats s;
    uint64_t resizes;
    if (!host_has_ranges()) {
        return;
    }
    desc.single_threaded = 1;
    pool = open_pool(&desc);
    a = (unsigned char *)must_alloc(pool, 200000);
    b = (unsigned char *)must_alloc(pool, 200000);
    c = (unsigned char *)must_alloc(pool, 200000);
    CHECK(a < b && b < c); /* one behind the other in a fresh range */
    memset(a, 1, 200000);
    memset(b, 2, 200000);
    memset(c, 3, 200000);
    CHECK_RESULT(ta_pool_resize_in_place(pool, a, 300000), TA_ERROR_WOULD_MOVE); /* b is in the way */
    CHECK_EQ(stats_of(pool).requested_bytes, 600000);
    CHECK_OK(ta_pool_free(pool, b));
    CHECK_OK(ta_pool_resize_in_place(pool, a, 300000)); /* into a part of it */
    CHECK_GE(ta_pool_capacity_of(pool, a), 300000);
    CHECK_RESULT(ta_pool_resize_in_place(pool, a, 500000), TA_ERROR_WOULD_MOVE);
    CHECK_OK(ta_pool_resize_in_place(pool, a, 400000)); /* into all of it */
    CHECK(is_filled(a, 1, 200000) && is_filled(c, 3, 200000));
    memset(a, 1, 400000);
    CHECK(is_filled(c, 3, 200000));
    CHECK_OK(ta_pool_check(pool));
    resizes = stats_of(pool).resize_count;
    CHECK_OK(ta_pool_resize_in_place(pool, c, 900000)); /* the last one: into the tail */
    CHECK_OK(ta_pool_resize_in_place(pool, c, 30 * MIB)); /* the tail is committed for it */
    CHECK_OK(ta_pool_resize_in_place(pool, c, 1000));
    CHECK_EQ(stats_of(pool).resize_count, resizes + 3);
    CHECK(is_filled(c, 3, 1000));
    s = stats_of(pool);
    CHECK_EQ(s.requested_bytes, 401000);
    CHECK_GE(s.cached_bytes, 29 * MIB); /* what was shrunk away is free again */
    CHECK_OK(ta_pool_resize_in_place(pool, a, 1));
    CHECK_LE(ta_pool_capacity_of(pool, a), 64 * KIB);
    b = (unsigned char *)must_alloc(pool, 250000);
    CHECK(b > a && b < c); /* it comes from there */
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_OK(ta_pool_free(pool, b));
    CHECK_OK(ta_pool_free(pool, c));
    CHECK_OK(ta_pool_check(pool));
    close_pool(pool);
}

static void resize_of_cached_sizes(void)
{
    ta_pool *pool = open_pool(NULL);
    unsigned char *a = (unsigned char *)must_alloc(pool, 1000);
    size_t capacity = ta_pool_capacity_of(pool, a), size;
    memset(a, 9, 1000);
    for (size = 1; size <= capacity; size += 13) { /* inside the capacity everything works */
        CHECK_OK(ta_pool_resize_in_place(pool, a, size));
        CHECK_EQ(stats_of(pool).requested_bytes, size);
    }
    CHECK(is_filled(a, 9, 1000 < capacity ? 1000 : capacity));
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_OK(ta_pool_check(pool));
    CHECK(ta_pool_alloc(pool, 1000, NULL) != NULL);
    close_pool(pool);
}

static void owns_capacity_and_describe(void)
{
    ta_pool *pool = open_pool(NULL), *other = open_pool(NULL);
    ta_request request = request_of(777, 1024, 0);
    ta_block_info info;
    unsigned char *ptr;
    request.tag = "bias";
    ptr = (unsigned char *)ta_pool_alloc_request(pool, &request, NULL);
    CHECK(ta_pool_owns(pool, ptr));
    CHECK(!ta_pool_owns(pool, ptr + 1));
    CHECK(!ta_pool_owns(pool, ptr + 64));
    CHECK(!ta_pool_owns(other, ptr));
    CHECK(!ta_pool_owns(pool, &request));
    CHECK_GE(ta_pool_capacity_of(pool, ptr), 777);
    CHECK_EQ(ta_pool_capacity_of(pool, ptr + 1), 0);
    CHECK_EQ(ta_pool_capacity_of(other, ptr), 0);
    CHECK_OK(ta_pool_describe(pool, ptr, &info));
    CHECK(info.ptr == (void *)ptr);
    CHECK_EQ(info.requested_bytes, 777);
    CHECK_EQ(info.capacity_bytes, ta_pool_capacity_of(pool, ptr));
    CHECK_EQ(info.state, TA_BLOCK_LIVE);
    CHECK_STRING(info.tag, "bias");
    CHECK_EQ(info.committed_bytes, info.capacity_bytes);
    CHECK_RESULT(ta_pool_describe(pool, ptr + 1, &info), TA_ERROR_INTERIOR);
    CHECK_RESULT(ta_pool_describe(other, ptr, &info), TA_ERROR_FOREIGN);
    CHECK_OK(ta_pool_record_use(pool, ptr, 9)); /* no order on the host: no effect */
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK(!ta_pool_owns(pool, ptr));
    CHECK_EQ(ta_pool_capacity_of(pool, ptr), 0);
    CHECK_RESULT(ta_pool_describe(pool, ptr, &info), TA_ERROR_STALE);
    CHECK_RESULT(ta_pool_record_use(pool, ptr, 9), TA_ERROR_STALE);
    close_pool(pool);
    close_pool(other);
}

/*---------------------------------------------------------------------------------------------------------
  Trim and the reasons of misses.
  -------------------------------------------------------------------------------------------------------*/
static void trimmed_pages_in_the_middle_come_back(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    unsigned char *a, *b, *c;
    size_t released = 0;
    ta_stats before, after;
    if (!host_has_ranges()) {
        return;
    }
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    pool = open_pool(&desc);
    a = (unsigned char *)must_alloc(pool, 1 * MIB);
    b = (unsigned char *)must_alloc(pool, 2 * MIB);
    c = (unsigned char *)must_alloc(pool, 1 * MIB);
    memset(a, 1, 1 * MIB);
    memset(b, 2, 2 * MIB);
    memset(c, 3, 1 * MIB);
    CHECK_OK(ta_pool_free(pool, b));
    before = stats_of(pool);
    CHECK_OK(ta_pool_trim(pool, 0, &released));
    after = stats_of(pool);
    CHECK_GE(released, 2 * MIB - 2 * counting.given.granularity_bytes); /* whole pages, nothing of the neighbours */
    CHECK_EQ(after.reserved_bytes, before.reserved_bytes - released);
    CHECK_EQ(after.reserved_bytes, tb_counting_held(&counting));
    CHECK_GT(after.trim_count, before.trim_count);
    CHECK_OK(ta_pool_check(pool));
    CHECK(is_filled(a, 1, 1 * MIB) && is_filled(c, 3, 1 * MIB));
    CHECK(must_alloc(pool, 2 * MIB) == (void *)b); /* best fit: the same place */
    before = after;
    after = stats_of(pool);
    CHECK_EQ(after.miss_recommit_count, before.miss_recommit_count + 1);
    CHECK_EQ(after.miss_grow_count, before.miss_grow_count);
    CHECK_EQ(after.reserved_bytes, tb_counting_held(&counting));
    memset(b, 4, 2 * MIB);
    CHECK(is_filled(a, 1, 1 * MIB) && is_filled(c, 3, 1 * MIB));
    CHECK_OK(ta_pool_free(pool, b));
    CHECK(must_alloc(pool, 1 * MIB) == (void *)b); /* a hit now */
    CHECK_EQ(stats_of(pool).hit_count, after.hit_count + 1);
    close_pool(pool);
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

/* Freed pages that were trimmed and then became part of the tail must not hide those that are still there. */
static void trim_reaches_its_target_past_holes(void)
{
    ta_pool *pool = open_pool(NULL);
    void *ptrs[8];
    size_t keep, round;
    int i;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 8; i++) {
            ptrs[i] = must_alloc(pool, 300000);
        }
        for (i = 1; i < 8; i += 2) {
            CHECK_OK(ta_pool_free(pool, ptrs[i]));
        }
        CHECK_OK(ta_pool_empty_cache(pool)); /* holes between the others */
        CHECK_OK(ta_pool_check(pool));
        for (i = 0; i < 8; i += 2) {
            CHECK_OK(ta_pool_free(pool, ptrs[i]));
        }
        for (keep = 1000000; keep > 100; keep /= 2) {
            CHECK_OK(ta_pool_trim(pool, keep, NULL));
            CHECK_LE(stats_of(pool).cached_bytes, keep);
            if (keep > 100000 && stats_of(pool).address_range_bytes != 0) { /* and, by pages, not far below */
                CHECK_GT(stats_of(pool).cached_bytes, keep - keep / 3);
            }
            CHECK_OK(ta_pool_check(pool));
        }
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_EQ(stats_of(pool).reserved_bytes, 0);
    }
    close_pool(pool);
}

static void hits_and_misses_have_reasons(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_stats s;
    void *a, *b;
    desc.single_threaded = 1;
    pool = open_pool(&desc);
    a = must_alloc(pool, 1000);
    s = stats_of(pool);
    CHECK_EQ(s.miss_count, 1);
    CHECK_EQ(s.miss_grow_count, 1);
    CHECK_EQ(s.hit_count, 0);
    CHECK(ta_stats_hit_rate(&s) <= 0.0);
    CHECK_OK(ta_pool_free(pool, a));
    a = must_alloc(pool, 1000);
    s = stats_of(pool);
    CHECK_EQ(s.hit_count, 1);
    CHECK_EQ(s.thread_hit_count, 1);
    b = must_alloc(pool, 200000);
    CHECK_OK(ta_pool_free(pool, b));
    b = must_alloc(pool, 100000);
    s = stats_of(pool);
    CHECK_EQ(s.miss_count, 2);
    CHECK_EQ(s.hit_count, 2);
    CHECK_EQ(s.thread_hit_count, 1); /* large blocks are the heap's */
    CHECK(ta_stats_hit_rate(&s) > 0.49 && ta_stats_hit_rate(&s) < 0.51);
    CHECK(ta_pool_get(pool, 50 * MIB, NULL) == NULL);
    CHECK_EQ(stats_of(pool).hit_count + stats_of(pool).miss_count, 4); /* a failure is neither */
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_OK(ta_pool_free(pool, b));
    close_pool(pool);
    memset(&s, 0, sizeof s);
    CHECK(ta_stats_hit_rate(&s) <= 0.0);
    CHECK(ta_stats_hit_rate(NULL) <= 0.0);
}

static void peaks_are_exact_for_one_thread(void)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    uint64_t random = test_now.seed;
    void *live[50];
    size_t in_use = 0, peak_in_use = 0, peak_reserved = 0;
    int i;
    memset(live, 0, sizeof live);
    desc.single_threaded = 1;
    pool = open_pool(&desc);
    for (i = 0; i < 4000; i++) {
        uint32_t k = test_below(&random, 50);
        ta_stats s;
        if (live[k] == NULL) {
            live[k] = must_alloc(pool, (size_t)1 + test_below(&random, 1u << (6 + test_below(&random, 12))));
            in_use += ta_pool_capacity_of(pool, live[k]);
        } else {
            in_use -= ta_pool_capacity_of(pool, live[k]);
            CHECK_OK(ta_pool_free(pool, live[k]));
            live[k] = NULL;
        }
        if (i == 2000) { /* they start again from now */
            CHECK_OK(ta_pool_clear(pool));
            memset(live, 0, sizeof live);
            CHECK_OK(ta_pool_trim(pool, 100000, NULL));
            CHECK_OK(ta_pool_reset_peaks(pool));
            in_use = peak_in_use = 0;
            peak_reserved = 0;
        }
        s = stats_of(pool);
        peak_in_use = in_use > peak_in_use ? in_use : peak_in_use;
        peak_reserved = s.reserved_bytes > peak_reserved ? s.reserved_bytes : peak_reserved;
        CHECK_EQ(s.in_use_bytes, in_use);
        CHECK_EQ(s.peak_in_use_upper_bytes, peak_in_use);
        CHECK_EQ(s.peak_reserved_bytes, peak_reserved);
    }
    close_pool(pool);
}

/* As above, but nobody looks in between: the peak must have been seen on the fast paths as well. */
static void peaks_are_exact_without_looking(void)
{
    ta_pool_desc desc = zero_desc();
    int round;
    for (round = 0; round < 50; round++) {
        uint64_t random = test_now.seed + (uint64_t)round;
        ta_pool *pool;
        void *live[60];
        size_t in_use = 0, peak = 0;
        int i;
        test_context("seed %llu", (unsigned long long)(test_now.seed + (uint64_t)round));
        memset(live, 0, sizeof live);
        desc.single_threaded = 1;
        desc.buffers_per_bucket_max = round % 2 == 0 ? 0 : 4;
        pool = open_pool(&desc);
        for (i = 0; i < 400; i++) {
            uint32_t k = test_below(&random, 60);
            if (live[k] == NULL) {
                const uint32_t most = 1u << (8 + test_below(&random, 10));
                live[k] = ta_pool_alloc(pool, (size_t)1 + test_below(&random, most), NULL);
                in_use += ta_pool_capacity_of(pool, live[k]);
                peak = in_use > peak ? in_use : peak;
            } else {
                in_use -= ta_pool_capacity_of(pool, live[k]);
                (void)ta_pool_free(pool, live[k]);
                live[k] = NULL;
            }
        }
        CHECK_EQ(stats_of(pool).in_use_bytes, in_use);
        CHECK_EQ(stats_of(pool).peak_in_use_upper_bytes, peak);
        close_pool(pool);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Events and callbacks.
  -------------------------------------------------------------------------------------------------------*/
typedef struct recorder {
    ta_event events[256];
    int count;
    size_t grown, trimmed;
} recorder;

static void record(void *user, const ta_event *event)
{
    recorder *r = (recorder *)user;
    const int of_a_block = event->kind == TA_EVENT_ALLOC || event->kind == TA_EVENT_FREE || event->kind == TA_EVENT_RESIZE;
    if (r->count < 256) {
        r->events[r->count++] = *event;
    }
    CHECK_EQ(event->ptr != NULL, of_a_block);
    CHECK_LE(event->capacity_bytes != 0, of_a_block);
    CHECK_EQ(event->result != TA_OK, event->kind == TA_EVENT_FAILURE);
    CHECK(event->stream == 0 || of_a_block || event->kind == TA_EVENT_FAILURE);
    CHECK_EQ(event->thread, 0);
    CHECK_LE(event->hit, event->kind == TA_EVENT_ALLOC);
    r->grown += event->kind == TA_EVENT_GROW ? event->size_bytes : 0;
    r->trimmed += event->kind == TA_EVENT_TRIM ? event->size_bytes : 0;
}

/* The kinds recorded since the last call, as letters. */
static const char *kinds(recorder *r)
{
    static char text[257];
    static const char letters[] = "AFRGTLX"; /* in the order of ta_event_kind */
    int i;
    for (i = 0; i < r->count; i++) {
        text[i] = letters[(int)r->events[i].kind];
    }
    text[r->count] = 0;
    r->count = 0;
    return text;
}

static void events_tell_what_happens(void)
{
    static recorder r;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_request request = request_of(1000, 0, 0);
    ta_result result = TA_OK;
    void *a, *b;
    size_t capacity;
    memset(&r, 0, sizeof r);
    desc.on_event = record;
    desc.on_event_user = &r;
    desc.name = "watched";
    desc.limit_bytes = 8 * MIB;
    pool = open_pool(&desc);
    CHECK_STRING(kinds(&r), "");
    request.tag = "x";
    request.stream = 6;
    a = ta_pool_alloc_request(pool, &request, &result);
    CHECK_EQ(r.events[0].kind, TA_EVENT_GROW);
    CHECK_EQ(r.events[0].size_bytes, stats_of(pool).reserved_bytes);
    CHECK_STRING(r.events[0].name, "watched");
    CHECK_EQ(r.events[1].kind, TA_EVENT_ALLOC);
    CHECK_OK(r.events[1].result);
    CHECK(r.events[1].ptr == a);
    CHECK_EQ(r.events[1].size_bytes, 1000);
    capacity = ta_pool_capacity_of(pool, a);
    CHECK_EQ(r.events[1].capacity_bytes, capacity);
    CHECK_EQ(r.events[1].hit, 0);
    CHECK_STRING(r.events[1].tag, "x");
    CHECK_STRING(r.events[1].name, "watched");
    CHECK_GE(r.events[1].time_ns, r.events[0].time_ns);
    CHECK_STRING(kinds(&r), "GA");
    CHECK_OK(ta_pool_free(pool, a));
    CHECK(r.events[0].ptr == a);
    CHECK_EQ(r.events[0].size_bytes, 1000);
    CHECK_EQ(r.events[0].capacity_bytes, capacity);
    CHECK_STRING(r.events[0].tag, "x");
    CHECK_STRING(kinds(&r), "F");
    a = must_alloc(pool, 1000);
    CHECK_EQ(r.events[0].hit, 1);
    CHECK_STRING(kinds(&r), "A");
    CHECK_EQ(stats_of(pool).thread_cached_bytes, 0); /* an observed pool keeps no thread caches */
    CHECK_OK(ta_pool_resize_in_place(pool, a, 900));
    CHECK(r.events[0].ptr == a);
    CHECK_EQ(r.events[0].size_bytes, 900);
    CHECK_STRING(kinds(&r), "R");
    b = must_alloc(pool, 3 * MIB);
    CHECK_STRING(kinds(&r), "GA");
    CHECK_OK(ta_pool_free(pool, b));
    CHECK_STRING(kinds(&r), "F");
    CHECK_EQ(r.grown - r.trimmed, stats_of(pool).reserved_bytes);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(r.grown - r.trimmed, stats_of(pool).reserved_bytes);
    CHECK_STRING(kinds(&r), "T");
    CHECK(ta_pool_alloc(pool, 9 * MIB, &result) == NULL);
    CHECK_EQ(r.events[r.count - 1].kind, TA_EVENT_FAILURE);
    CHECK_RESULT(r.events[r.count - 1].result, TA_ERROR_LIMIT);
    CHECK_EQ(r.events[r.count - 1].size_bytes, 9 * MIB);
    CHECK(r.events[r.count - 1].ptr == NULL);
    CHECK_EQ(r.events[0].kind, TA_EVENT_LIMIT);
    CHECK_GE(r.events[0].size_bytes, 9 * MIB);
    r.count = 0;
    CHECK(ta_pool_get(pool, 7 * MIB, &result) == NULL);
    CHECK_RESULT(r.events[0].result, TA_ERROR_NOT_CACHED);
    CHECK_STRING(kinds(&r), "X");
    b = must_alloc(pool, 100000);
    (void)kinds(&r);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_STRING(kinds(&r), "FF");
    CHECK(ta_pool_free(pool, b) != TA_OK); /* errors of the caller are results, not events */
    CHECK_STRING(kinds(&r), "");
    close_pool(pool);
}

static void events_balance_what_the_backend_gave(void)
{
    int variant;
    for (variant = 0; variant < 3; variant++) {
        static recorder r;
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        uint64_t random = test_now.seed;
        void *live[30];
        int i;
        test_context("variant %d", variant);
        memset(&r, 0, sizeof r);
        memset(live, 0, sizeof live);
        desc.on_event = record;
        desc.on_event_user = &r;
        desc.disable_ranges = variant == 1;
        desc.cached_bytes_max = variant == 2 ? 500000 : 0;
        pool = open_pool(&desc);
        for (i = 0; i < 600; i++) {
            uint32_t k = test_below(&random, 30);
            if (live[k] == NULL) {
                live[k] = must_alloc(pool, (size_t)1 + test_below(&random, 300000));
            } else if (i % 3 == 0) {
                live[k] = ta_pool_realloc(pool, live[k], (size_t)1 + test_below(&random, 300000), NULL);
                CHECK(live[k] != NULL);
            } else {
                CHECK_OK(ta_pool_free(pool, live[k]));
                live[k] = NULL;
            }
            if (i % 20 == 0) {
                CHECK_OK(ta_pool_trim(pool, (size_t)test_below(&random, 500000), NULL));
            }
            CHECK_EQ(r.grown - r.trimmed, stats_of(pool).reserved_bytes);
        }
        close_pool(pool);
    }
}

/* Runs fn in a thread of its own and waits for it: hangs if fn needs a lock that the caller holds. */
static int in_other_thread(void *(*fn)(void *), void *user)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, fn, user) == 0 && pthread_join(thread, NULL) == 0;
}

/* A hit of a small and of a large block, and a look at the pool. */
static void *use_pool(void *user)
{
    ta_pool *pool = (ta_pool *)user;
    ta_stats s;
    void *a = ta_pool_get(pool, 1000, NULL), *b = ta_pool_get(pool, 100000, NULL);
    (void)ta_pool_get_stats(pool, &s);
    (void)ta_pool_free(pool, a);
    (void)ta_pool_free(pool, b);
    return NULL;
}

typedef struct reentrant {
    ta_pool *pool;
    int depth;
    int errors;
    int seen[8];
} reentrant;

static void reenter(void *user, const ta_event *event)
{
    reentrant *r = (reentrant *)user;
    void *a, *b;
    ta_stats s;
    if (r->pool == NULL || r->depth > 0) {
        return;
    }
    r->depth++;
    r->seen[(int)event->kind]++;
    a = ta_pool_alloc(r->pool, 1000, NULL);
    b = ta_pool_alloc(r->pool, 150000, NULL);
    r->errors += event->kind != TA_EVENT_FAILURE && event->kind != TA_EVENT_LIMIT && (a == NULL || b == NULL);
    r->errors += a != NULL && ta_pool_free(r->pool, a) != TA_OK;
    r->errors += b != NULL && ta_pool_free(r->pool, b) != TA_OK;
    r->errors += ta_pool_get_stats(r->pool, &s) != TA_OK;
    r->errors += ta_pool_trim(r->pool, 2 * MIB, NULL) != TA_OK;
    r->errors += r->seen[(int)event->kind] <= 3 && !in_other_thread(use_pool, r->pool);
    r->depth--;
}

static void event_callbacks_may_use_the_pool(void)
{
    ta_pool_desc desc = zero_desc();
    reentrant r;
    ta_pool *pool;
    int i, kind;
    void *live[20];
    memset(&r, 0, sizeof r);
    desc.on_event = reenter;
    desc.on_event_user = &r;
    desc.limit_bytes = 16 * MIB;
    pool = open_pool(&desc);
    r.pool = pool;
    for (i = 0; i < 20; i++) {
        live[i] = must_alloc(pool, (size_t)(i + 1) * 20000);
    }
    for (i = 0; i < 20; i += 2) {
        CHECK_OK(ta_pool_free(pool, live[i]));
    }
    CHECK_OK(ta_pool_resize_in_place(pool, live[1], 100));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK(ta_pool_alloc(pool, 17 * MIB, NULL) == NULL);
    for (kind = TA_EVENT_ALLOC; kind <= TA_EVENT_FAILURE; kind++) {
        CHECK_GT(r.seen[kind], 0);
    }
    CHECK_EQ(r.errors, 0);
    CHECK_EQ(stats_of(pool).live_count, 10);
    r.pool = NULL;
    close_pool(pool);
}

typedef struct backend_hook {
    ta_pool *pool;
    int seen[TB_ENTRY_COUNT];
    int errors;
} backend_hook;

static void hook_call(void *user, tb_entry entry)
{
    backend_hook *hook = (backend_hook *)user;
    if (hook->pool != NULL && entry != TB_INFO && ++hook->seen[entry] <= 3) {
        hook->errors += !in_other_thread(use_pool, hook->pool);
    }
}

/* While the backend is at work other threads go on: each of its calls waits here until one has. */
static void no_lock_is_held_in_the_backend(void)
{
    int ranges;
    for (ranges = 0; ranges < 2; ranges++) {
        tb_counting counting;
        ta_pool_desc desc = zero_desc();
        backend_hook hook;
        ta_pool *pool;
        void *live[12];
        int i;
        test_context(ranges ? "ranges" : "segments");
        memset(&hook, 0, sizeof hook);
        desc.backend = tb_counting_init(&counting, ta_backend_host(), ranges ? 0 : TA_CAP_RANGES);
        desc.zeroed = 1;
        pool = open_pool(&desc);
        CHECK_OK(ta_pool_free(pool, must_alloc(pool, 1000))); /* so that there is something to hit */
        CHECK_OK(ta_pool_free(pool, must_alloc(pool, 100000)));
        counting.on_call = hook_call;
        counting.on_call_user = &hook;
        hook.pool = pool;
        for (i = 0; i < 12; i++) {
            live[i] = must_alloc(pool, 5 * MIB);
        }
        for (i = 0; i < 12; i += 2) {
            CHECK_OK(ta_pool_free(pool, live[i]));
        }
        CHECK_OK(ta_pool_trim(pool, 4 * MIB, NULL));
        (void)must_alloc(pool, 5 * MIB);
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_GT(hook.seen[TB_ALLOC] + hook.seen[TB_COMMIT], 0);
        CHECK_GT(hook.seen[TB_FREE] + hook.seen[TB_DECOMMIT], 0);
        CHECK_GT(hook.seen[TB_ZERO], 0);
        CHECK_EQ(hook.errors, 0);
        hook.pool = NULL;
        close_pool(pool);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

static int oom_in_other_thread(void *user, const ta_failure *failure)
{
    reentrant *r = (reentrant *)user;
    (void)failure;
    r->seen[0]++;
    r->errors += !in_other_thread(use_pool, r->pool);
    r->errors += ta_pool_empty_cache(r->pool) != TA_OK;
    return 0;
}

static void no_lock_is_held_in_the_out_of_memory_callback(void)
{
    ta_pool_desc desc = zero_desc();
    reentrant r;
    memset(&r, 0, sizeof r);
    desc.limit_bytes = 4 * MIB;
    desc.on_out_of_memory = oom_in_other_thread;
    desc.on_out_of_memory_user = &r;
    r.pool = open_pool(&desc);
    CHECK(ta_pool_alloc(r.pool, 5 * MIB, NULL) == NULL);
    CHECK_EQ(r.seen[0], 1);
    CHECK_EQ(r.errors, 0);
    close_pool(r.pool);
}

/*---------------------------------------------------------------------------------------------------------
  Walks, buckets, reports.
  -------------------------------------------------------------------------------------------------------*/
typedef struct tiling {
    const tb_spans *spans; /* ranges or segments of the backend; NULL: not looked at */
    uintptr_t end;         /* of the last block */
    size_t gaps;           /* blocks that begin neither where the last one ended nor where a span begins */
    size_t outside;        /* blocks that are in no span */
    size_t partial;        /* blocks with holes that are not free */
    size_t live, cached, free_bytes, pending, busy, committed;
    size_t live_count, count, requested;
    int stop_after;
} tiling;

static int tile(void *user, const ta_block_info *block)
{
    tiling *t = (tiling *)user;
    uintptr_t from = (uintptr_t)block->ptr;
    if (t->spans != NULL) {
        size_t i = tb_spans_index(t->spans, from);
        t->gaps += from != t->end && (i == t->spans->count || t->spans->at[i].from != from);
        t->outside += !tb_spans_hold(t->spans, from, from + block->capacity_bytes);
    }
    t->end = from + block->capacity_bytes;
    t->count++;
    t->requested += block->requested_bytes;
    t->committed += block->committed_bytes;
    t->partial += block->state != TA_BLOCK_FREE && block->committed_bytes != block->capacity_bytes;
    t->live_count += block->state == TA_BLOCK_LIVE;
    t->live += block->state == TA_BLOCK_LIVE ? block->capacity_bytes : 0;
    t->cached += block->state == TA_BLOCK_CACHED ? block->capacity_bytes : 0;
    t->free_bytes += block->state == TA_BLOCK_FREE ? block->capacity_bytes : 0;
    t->pending += block->state == TA_BLOCK_PENDING;
    t->busy += block->state == TA_BLOCK_BUSY;
    return t->stop_after != 0 && t->count >= (size_t)t->stop_after;
}

static void walk_tiles_each_region(void)
{
    int variant;
    for (variant = 0; variant < 3; variant++) {
        ta_pool_desc desc = zero_desc();
        ta_pool *pool;
        uint64_t random = test_now.seed + 7;
        tb_counting counting;
        void *live[200];
        tiling t;
        ta_stats s;
        int i;
        test_context("variant %d", variant);
        memset(live, 0, sizeof live);
        desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
        desc.disable_ranges = variant == 1;
        desc.disable_thread_caches = variant == 2;
        pool = open_pool(&desc);
        for (i = 0; i < 2000; i++) {
            uint32_t k = test_below(&random, 200);
            if (live[k] == NULL) {
                live[k] = must_alloc(pool, (size_t)1 + test_below(&random, 1u << (6 + test_below(&random, 12))));
            } else {
                CHECK_OK(ta_pool_free(pool, live[k]));
                live[k] = NULL;
            }
        }
        memset(&t, 0, sizeof t);
        t.spans = counting.ranges.count != 0 ? &counting.ranges : &counting.segments;
        CHECK_OK(ta_pool_walk(pool, tile, &t));
        s = stats_of(pool);
        CHECK_EQ(t.gaps, 0);
        CHECK_EQ(t.outside, 0);
        if (counting.ranges.count == 0) { /* segments are tiled to their ends */
            CHECK_EQ(t.live + t.cached + t.free_bytes, counting.segments.bytes);
        }
        CHECK_EQ(t.live, s.in_use_bytes);
        CHECK_EQ(t.live_count, s.live_count);
        CHECK_EQ(t.requested, s.requested_bytes);
        CHECK_EQ(t.cached, s.thread_cached_bytes);
        CHECK_LE(t.free_bytes + t.cached, s.cached_bytes); /* the rest is behind the last block of a range */
        CHECK_EQ(t.pending + t.busy, 0);
        CHECK_LE(t.committed, s.reserved_bytes);
        CHECK_OK(ta_pool_empty_cache(pool));
        memset(&t, 0, sizeof t);
        t.spans = counting.ranges.count != 0 ? &counting.ranges : &counting.segments;
        CHECK_OK(ta_pool_walk(pool, tile, &t));
        CHECK_EQ(t.gaps + t.outside + t.partial, 0);
        CHECK_EQ(t.live, s.in_use_bytes);
        CHECK_LE(t.committed, stats_of(pool).reserved_bytes); /* but for the rest of a page behind the last block */
        CHECK_LE(stats_of(pool).reserved_bytes - t.committed,
                 counting.ranges.count * counting.given.granularity_bytes);
        memset(&t, 0, sizeof t);
        CHECK_OK(ta_pool_for_each_live(pool, tile, &t));
        CHECK_EQ(t.count, s.live_count);
        CHECK_EQ(t.live, s.in_use_bytes);
        memset(&t, 0, sizeof t);
        t.stop_after = 5;
        CHECK_OK(ta_pool_for_each_live(pool, tile, &t)); /* stopping is no error */
        CHECK_EQ(t.count, 5);
        memset(&t, 0, sizeof t);
        t.stop_after = 1;
        CHECK_OK(ta_pool_walk(pool, tile, &t));
        CHECK_EQ(t.count, 1);
        close_pool(pool);
        tb_counting_check(&counting, 1);
        tb_counting_end(&counting);
    }
}

typedef struct freeing_walk {
    ta_pool *pool;
    size_t count, freed, errors;
} freeing_walk;

static int free_every_other(void *user, const ta_block_info *block)
{
    freeing_walk *w = (freeing_walk *)user;
    w->errors += block->state != TA_BLOCK_LIVE;
    if (w->count++ % 2 == 0) {
        w->errors += ta_pool_free(w->pool, block->ptr) != TA_OK;
        w->freed++;
    } else {
        void *ptr = ta_pool_alloc(w->pool, 50, NULL); /* may or may not be seen */
        w->errors += ptr == NULL || ta_pool_free(w->pool, ptr) != TA_OK;
    }
    return 0;
}

static void walk_may_free(void)
{
    ta_pool_desc desc = zero_desc();
    int variant;
    for (variant = 0; variant < 3; variant++) {
        freeing_walk w;
        size_t i;
        test_context("variant %d", variant);
        desc.disable_thread_caches = variant == 1;
        desc.single_threaded = variant == 2;
        memset(&w, 0, sizeof w);
        w.pool = open_pool(&desc);
        for (i = 0; i < 500; i++) {
            (void)must_alloc(w.pool, 100 + i * 300);
        }
        CHECK_OK(ta_pool_for_each_live(w.pool, free_every_other, &w));
        CHECK_EQ(w.errors, 0);
        CHECK_GE(w.count, 499);
        CHECK_EQ(stats_of(w.pool).live_count, 500 - w.freed);
        CHECK_OK(ta_pool_check(w.pool));
        for (i = 0; i < 20 && stats_of(w.pool).live_count > 1; i++) {
            CHECK_OK(ta_pool_for_each_live(w.pool, free_every_other, &w));
        }
        CHECK_LE(stats_of(w.pool).live_count, 1);
        CHECK_EQ(w.errors, 0);
        close_pool(w.pool);
    }
}

static ta_bucket_stats bucket_of(ta_pool *pool, int index)
{
    ta_bucket_stats b;
    memset(&b, 0, sizeof b);
    CHECK_OK(ta_pool_get_bucket_stats(pool, index, &b));
    return b;
}

static void buckets_are_the_specifications_table(void)
{
    static const struct {
        size_t request;
        int bucket;
    } cases[] = {
        {1, 0}, {64, 0}, {65, 1}, {127, 1}, {128, 1}, {192, 1}, {193, 2}, {256, 2}, {512, 3}, {1024, 4}, {4096, 6},
        {65536, 10}, {1048576, 14}, {33554432, 19}, {67108864 - 64, 19}, {67108864, 20}, {134217728 - 64, 20},
        {134217728 - 1, 21}, {134217728, 21}, {200000000, 21}
    };
    ta_pool *pool = open_pool(NULL);
    ta_bucket_stats b;
    ta_stats s;
    size_t i, sum_bytes, sum_count;
    int k;
    TEST_ALLOW_ASSERTS();
    for (k = 0; k < TA_BUCKET_COUNT; k++) {
        b = bucket_of(pool, k);
        CHECK_EQ(b.size_min_bytes, (size_t)64 << k);
        CHECK_EQ(b.size_max_bytes, k == TA_BUCKET_COUNT - 1 ? TA_UNLIMITED : ((size_t)128 << k) - 1);
        CHECK_EQ(b.live_count + b.live_bytes + b.cached_count + b.cached_bytes, 0);
    }
    CHECK_EQ(bucket_of(pool, 20).size_min_bytes, 64 * MIB);
    CHECK_EQ(bucket_of(pool, 20).size_max_bytes, 128 * MIB - 1);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, -1, &b), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, TA_BUCKET_COUNT, &b), TA_ERROR_INVALID_ARGUMENT);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ta_result result = TA_OK;
        void *ptr = ta_pool_alloc(pool, cases[i].request, &result);
        size_t capacity = ta_pool_capacity_of(pool, ptr);
        test_context("%u bytes", (unsigned)cases[i].request);
        if (ptr == NULL && sizeof(void *) == 4) {
            continue; /* no room for the largest ones there */
        }
        CHECK_OK(result);
        b = bucket_of(pool, cases[i].bucket);
        CHECK_EQ(b.live_count, 1);
        CHECK_EQ(b.live_bytes, capacity);
        CHECK(capacity >= b.size_min_bytes && capacity <= b.size_max_bytes);
        CHECK_OK(ta_pool_free(pool, ptr));
        b = bucket_of(pool, cases[i].bucket);
        CHECK_EQ(b.live_count, 0);
        CHECK_OK(ta_pool_empty_cache(pool));
    }
    test_context("%s", "");
    for (i = 0; i < 300; i++) {
        (void)must_alloc(pool, 10 + i * i * 3);
    }
    for (i = 0, sum_bytes = 0, sum_count = 0; i < TA_BUCKET_COUNT; i++) {
        b = bucket_of(pool, (int)i);
        sum_bytes += b.live_bytes;
        sum_count += b.live_count;
    }
    s = stats_of(pool);
    CHECK_EQ(sum_bytes, s.in_use_bytes);
    CHECK_EQ(sum_count, s.live_count);
    close_pool(pool);
}

static void buckets_count_what_is_cached(void)
{
    ta_pool *pool = open_pool(NULL);
    void *a, *b, *fence;
    size_t i, sum;
    if (!host_has_ranges()) {
        close_pool(pool);
        return;
    }
    a = must_alloc(pool, 1 * MIB);
    fence = must_alloc(pool, 100000);
    b = must_alloc(pool, 1000);
    CHECK_OK(ta_pool_free(pool, b));
    CHECK_OK(ta_pool_free(pool, a));
    CHECK_EQ(bucket_of(pool, 14).cached_count, 1);
    CHECK_EQ(bucket_of(pool, 14).cached_bytes, 1 * MIB);
    CHECK_GE(bucket_of(pool, 3).cached_count + bucket_of(pool, 4).cached_count, 1);
    for (i = 0, sum = 0; i < TA_BUCKET_COUNT; i++) {
        sum += bucket_of(pool, (int)i).cached_bytes;
    }
    CHECK_LE(sum, stats_of(pool).cached_bytes);
    CHECK_OK(ta_pool_empty_cache(pool)); /* addresses without memory are not cached bytes */
    for (i = 0, sum = 0; i < TA_BUCKET_COUNT; i++) {
        sum += bucket_of(pool, (int)i).cached_bytes;
    }
    CHECK_LE(sum, stats_of(pool).cached_bytes);
    CHECK_OK(ta_pool_free(pool, fence));
    close_pool(pool);
}

static void reports_are_text(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_allocator none, a = ta_pool_allocator(pool);
    ta_failure failure;
    char text[1000], cut[20];
    size_t length;
    TEST_ALLOW_ASSERTS();
    memset(&none, 0, sizeof none);
    memset(&failure, 0, sizeof failure);
    (void)must_alloc(pool, 1536 * KIB);
    length = ta_report(a, text, sizeof text);
    CHECK_GT(length, 0);
    CHECK_EQ(length, strlen(text));
    CHECK(strstr(text, "1.50 MiB") != NULL); /* fractions are kept */
    CHECK(strstr(text, "pool") != NULL);
    memset(cut, 'x', sizeof cut);
    CHECK_EQ(ta_report(a, cut, 10), length); /* as snprintf */
    CHECK_EQ(strlen(cut), 9);
    CHECK_EQ(cut[10], 'x');
    CHECK(memcmp(cut, text, 9) == 0);
    CHECK_EQ(ta_report(a, NULL, 0), length);
    CHECK_EQ(ta_report(a, NULL, 10), 0);
    CHECK_EQ(ta_report(none, text, sizeof text), 0);
    CHECK_EQ(ta_failure_report(NULL, text, sizeof text), 0);
    CHECK_EQ(ta_failure_report(&failure, NULL, 10), 0);
    CHECK_EQ(ta_failure_report(&failure, NULL, 0), ta_failure_report(&failure, text, sizeof text));
    CHECK_OK(ta_pool_dispose(pool)); /* statistics stay readable, so there is a report */
    CHECK_GT(ta_report(a, text, sizeof text), 0);
    CHECK_OK(ta_pool_destroy(pool));
}

static void results_have_texts(void)
{
    int i, k, below = -1;
    for (i = 0; i < (int)TA_RESULT_COUNT; i++) {
        CHECK_GT(strlen(ta_result_text((ta_result)i)), 1);
        for (k = 0; k < i; k++) {
            CHECK(strcmp(ta_result_text((ta_result)i), ta_result_text((ta_result)k)) != 0);
        }
    }
    CHECK_STRING(ta_result_text(TA_OK), "ok");
    CHECK_STRING(ta_result_text(TA_RESULT_COUNT), "unknown result");
    CHECK_STRING(ta_result_text((ta_result)below), "unknown result");
    CHECK_EQ(ta_version(), TENSORALLOC_VERSION);
}

TEST_MAIN(TEST_CASE(defaults_are_resolved), TEST_CASE(options_are_kept), TEST_CASE(spec_desc),
          TEST_CASE(invalid_descs_are_errors), TEST_CASE(null_arguments_are_errors),
          TEST_CASE(initial_bytes_are_committed_at_creation),
          TEST_CASE(few_records_are_enough_for_few_blocks), TEST_CASE(huge_pages_are_an_option),
          TEST_CASE(classes_per_doubling_bound_the_waste), TEST_CASE(five_hundred_pools_at_once),
          TEST_CASE(full_ranges_chain), TEST_CASE(arrays_and_types), TEST_CASE(get_and_put),
          TEST_CASE(get_and_put_aligned), TEST_CASE(odd_sizes_are_found_again),
          TEST_CASE(largest_bucket_can_be_cached), TEST_CASE(clear_leaves_nothing_alive),
          TEST_CASE(each_figure_has_one_meaning), TEST_CASE(zeroed_requests_and_pools),
          TEST_CASE(cached_bytes_max_holds_after_every_call),
          TEST_CASE(buffers_per_bucket_max_bounds_what_stays_uncoalesced),
          TEST_CASE(thread_caches_are_bounded_and_flushed), TEST_CASE(slack_hands_out_a_larger_block_whole),
          TEST_CASE(out_of_memory_callback), TEST_CASE(out_of_memory_callback_from_two_threads),
          TEST_CASE(shared_budget_reclaims_from_siblings), TEST_CASE(siblings_give_enough_for_alignments),
          TEST_CASE(large_alignments_fit_into_small_limits), TEST_CASE(budget_limit_can_change),
          TEST_CASE(sealed_pools_never_ask_the_backend), TEST_CASE(failures_say_why),
          TEST_CASE(fragmented_is_told_from_full), TEST_CASE(fixed_buffer_bounds),
          TEST_CASE(fixed_buffer_arguments), TEST_CASE(realloc_keeps_contents_and_alignment),
          TEST_CASE(realloc_edges), TEST_CASE(resize_in_place_into_neighbours),
          TEST_CASE(resize_of_cached_sizes), TEST_CASE(owns_capacity_and_describe),
          TEST_CASE(trimmed_pages_in_the_middle_come_back), TEST_CASE(trim_reaches_its_target_past_holes),
          TEST_CASE(hits_and_misses_have_reasons), TEST_CASE(peaks_are_exact_for_one_thread),
          TEST_CASE(peaks_are_exact_without_looking), TEST_CASE(events_tell_what_happens),
          TEST_CASE(events_balance_what_the_backend_gave), TEST_CASE(event_callbacks_may_use_the_pool),
          TEST_CASE(no_lock_is_held_in_the_backend), TEST_CASE(no_lock_is_held_in_the_out_of_memory_callback),
          TEST_CASE(walk_tiles_each_region), TEST_CASE(walk_may_free),
          TEST_CASE(buckets_are_the_specifications_table), TEST_CASE(buckets_count_what_is_cached),
          TEST_CASE(reports_are_text), TEST_CASE(results_have_texts))
