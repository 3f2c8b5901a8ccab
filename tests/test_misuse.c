/* test_misuse.c - everything that a program can get wrong with one call: pointers that are not its own, sizes that
   are not true, arguments that are missing. Each gets its result code; counters, blocks and bytes stay as they were.
   Null arguments go to every public function. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/*---------------------------------------------------------------------------------------------------------
  Bad pointers.
  -------------------------------------------------------------------------------------------------------*/
typedef struct bench {
    ta_allocator allocator;
    ta_pool *pool; /* NULL: the allocator is none */
    ta_stats before;
} bench;

static void remember(bench *b)
{
    CHECK_OK(ta_allocator_get_stats(b->allocator, &b->before));
}

/* Nothing has changed since remember. */
static void check_unchanged(const bench *b)
{
    ta_stats now;
    CHECK_OK(ta_allocator_get_stats(b->allocator, &now));
    CHECK_EQ(memcmp(&now, &b->before, sizeof now), 0);
    if (b->pool != NULL) {
        CHECK_OK(ta_pool_check(b->pool));
    }
}

/* Every call that takes a pointer answers the same, whatever size it is given. */
static void check_bad_pointer(bench *b, void *ptr, ta_result expected)
{
    static const size_t sizes[] = {0, 1, 64, 1000, 70000};
    ta_result result = TA_OK;
    ta_block_info info;
    size_t i;
    remember(b);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CHECK_RESULT(ta_allocator_free(b->allocator, ptr, sizes[i], 0, 0), expected);
        CHECK_RESULT(ta_allocator_free(b->allocator, ptr, sizes[i], 64, 7), expected);
        CHECK_RESULT(ta_allocator_resize_in_place(b->allocator, ptr, sizes[i], 1000), expected);
        CHECK(ta_allocator_remap(b->allocator, ptr, sizes[i], 100, &result) == NULL);
        CHECK_RESULT(result, expected);
        if (b->pool != NULL && sizes[i] != 0) {
            CHECK_RESULT(ta_pool_free_sized(b->pool, ptr, sizes[i]), expected);
            CHECK_RESULT(ta_pool_put(b->pool, ptr, sizes[i]), expected);
            CHECK_RESULT(ta_pool_put_aligned(b->pool, ptr, sizes[i], 1), expected);
            CHECK(ta_pool_realloc(b->pool, ptr, sizes[i], &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK_RESULT(ta_pool_resize_in_place(b->pool, ptr, sizes[i]), expected);
        }
    }
    CHECK_RESULT(ta_allocator_describe(b->allocator, ptr, &info), expected);
    if (b->pool != NULL) {
        CHECK_RESULT(ta_pool_free(b->pool, ptr), expected);
        CHECK_RESULT(ta_pool_describe(b->pool, ptr, &info), expected);
        CHECK_RESULT(ta_pool_record_use(b->pool, ptr, 1), expected);
        CHECK_EQ(ta_pool_capacity_of(b->pool, ptr), 0);
        CHECK_EQ(ta_pool_owns(b->pool, ptr), 0);
    }
    check_unchanged(b);
}

static void check_foreign(bench *b)
{
    static char in_static_memory[256];
    char on_the_stack[256];
    char *from_malloc = (char *)malloc(256);
    char *read_only = (char *)(uintptr_t)(const void *)"constant";
    CHECK(from_malloc != NULL);
    check_bad_pointer(b, on_the_stack, TA_ERROR_FOREIGN);
    check_bad_pointer(b, on_the_stack + 1, TA_ERROR_FOREIGN);
    check_bad_pointer(b, in_static_memory, TA_ERROR_FOREIGN);
    check_bad_pointer(b, from_malloc, TA_ERROR_FOREIGN);
    check_bad_pointer(b, read_only, TA_ERROR_FOREIGN);
    check_bad_pointer(b, (void *)(uintptr_t)1, TA_ERROR_FOREIGN);
    check_bad_pointer(b, (void *)(uintptr_t)4096, TA_ERROR_FOREIGN);
    check_bad_pointer(b, (void *)~(uintptr_t)0, TA_ERROR_FOREIGN);
    check_bad_pointer(b, (void *)~(uintptr_t)63, TA_ERROR_FOREIGN);
    check_bad_pointer(b, (void *)((~(uintptr_t)0 >> 1) + 1), TA_ERROR_FOREIGN);
    free(from_malloc);
}

/* Three blocks side by side; the one in the middle is treated badly alive, freed, freed twice, and forgotten. */
static void check_block(bench *b, size_t size, size_t alignment)
{
    ta_request request;
    ta_block_info info;
    ta_result result = TA_OK;
    unsigned char *ptr[3];
    size_t i, capacity;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    for (i = 0; i < 3; i++) {
        ptr[i] = (unsigned char *)ta_allocator_alloc(b->allocator, &request, &result);
        CHECK_OK(result);
        if (ptr[i] == NULL) {
            return;
        }
        memset(ptr[i], (int)i + 1, size);
    }
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_allocator_describe(b->allocator, ptr[1], &info));
    capacity = info.capacity_bytes;
    check_bad_pointer(b, ptr[1] + 1, TA_ERROR_INTERIOR);
    check_bad_pointer(b, ptr[1] + 64 % capacity + (capacity == 64), TA_ERROR_INTERIOR);
    check_bad_pointer(b, ptr[1] + capacity / 2, TA_ERROR_INTERIOR);
    check_bad_pointer(b, ptr[1] + capacity - 1, TA_ERROR_INTERIOR);
    remember(b);
    CHECK_RESULT(ta_allocator_free(b->allocator, ptr[1], size + 1, alignment, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_allocator_free(b->allocator, ptr[1], capacity + 64, 0, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_allocator_free(b->allocator, ptr[1], SIZE_MAX, 0, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_allocator_resize_in_place(b->allocator, ptr[1], size + 1, size), TA_ERROR_SIZE_MISMATCH);
    CHECK_RESULT(ta_allocator_resize_in_place(b->allocator, ptr[1], size, 0), TA_ERROR_INVALID_SIZE);
    CHECK_RESULT(ta_allocator_resize_in_place(b->allocator, ptr[1], size, SIZE_MAX), TA_ERROR_OVERFLOW);
    CHECK(ta_allocator_remap(b->allocator, ptr[1], size, SIZE_MAX - 63, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OVERFLOW);
    if (b->pool != NULL) {
        CHECK_RESULT(ta_pool_free_sized(b->pool, ptr[1], size + 1), TA_ERROR_SIZE_MISMATCH);
        CHECK_RESULT(ta_pool_free_sized(b->pool, ptr[1], 0), TA_ERROR_SIZE_MISMATCH);
        CHECK_RESULT(ta_pool_put(b->pool, ptr[1], size + 64), TA_ERROR_SIZE_MISMATCH);
        CHECK_RESULT(ta_pool_put_aligned(b->pool, ptr[1], size + 1, 64), TA_ERROR_SIZE_MISMATCH);
        CHECK_RESULT(ta_pool_put_aligned(b->pool, ptr[1], size, 3), TA_ERROR_INVALID_ALIGNMENT);
        CHECK_RESULT(ta_pool_put_aligned(b->pool, ptr[1], size, 0), TA_ERROR_INVALID_ALIGNMENT);
        CHECK_RESULT(ta_pool_resize_in_place(b->pool, ptr[1], 0), TA_ERROR_INVALID_SIZE);
        CHECK_RESULT(ta_pool_resize_in_place(b->pool, ptr[1], SIZE_MAX), TA_ERROR_OVERFLOW);
        CHECK(ta_pool_realloc(b->pool, ptr[1], 0, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
        CHECK(ta_pool_realloc(b->pool, ptr[1], SIZE_MAX, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OVERFLOW);
    }
    check_unchanged(b);
    CHECK_OK(ta_allocator_free(b->allocator, ptr[1], size, alignment, 0));
    check_bad_pointer(b, ptr[1], TA_ERROR_STALE);
    check_bad_pointer(b, ptr[1] + size / 2, TA_ERROR_STALE);
    for (i = 0; i < size; i += 61) {
        CHECK(ptr[0][i] == 1 && ptr[2][i] == 3);
    }
    CHECK_OK(ta_allocator_free(b->allocator, ptr[0], size, alignment, 0));
    check_bad_pointer(b, ptr[0], TA_ERROR_STALE);
    check_bad_pointer(b, ptr[1], TA_ERROR_STALE);
    CHECK_OK(ta_allocator_free(b->allocator, ptr[2], 0, 0, 0));
    check_bad_pointer(b, ptr[2], TA_ERROR_STALE);
    check_bad_pointer(b, ptr[1], TA_ERROR_STALE);
}

static void check_blocks(bench *b)
{
    static const size_t sizes[] = {1, 63, 64, 65, 100, 1024, 4096, 5000, 65535, 65536, 65537, 70000, 200000, 1 << 20};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        test_context("size %lu", (unsigned long)sizes[i]);
        check_block(b, sizes[i], 0);
        check_block(b, sizes[i], 4096);
    }
    test_context("over-aligned");
    check_block(b, 100, 256 * KIB);
    check_block(b, 100000, 128 * KIB);
    test_context("%s", "");
}

static void run_pool(const ta_pool_desc *desc)
{
    bench b;
    void *pin;
    memset(&b, 0, sizeof b);
    CHECK_OK(ta_pool_create(desc, &b.pool));
    b.allocator = ta_pool_allocator(b.pool);
    CHECK_OK(ta_pool_free(b.pool, ta_pool_alloc(b.pool, 1, NULL))); /* this thread is known to the pool */
    check_foreign(&b);
    check_blocks(&b);
    pin = ta_pool_alloc(b.pool, 300000, NULL);
    check_foreign(&b);
    check_blocks(&b);
    CHECK_OK(ta_pool_free(b.pool, pin));
    CHECK_OK(ta_pool_destroy(b.pool));
}

static ta_pool_desc plain_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    return desc;
}

static void bad_pointers_in_a_default_pool(void)
{
    ta_pool_desc desc = plain_desc();
    run_pool(&desc);
}

static void bad_pointers_in_other_pools(void)
{
    int i;
    for (i = 0; i < 6; i++) {
        ta_pool_desc desc = i == 0 ? ta_pool_desc_spec() : plain_desc();
        desc.huge_pages = TA_HUGE_PAGES_OFF;
        desc.single_threaded = i == 1;
        desc.disable_thread_caches = i == 2;
        desc.zeroed = i == 3;
        desc.disable_ranges = i == 4;
        desc.classes_per_doubling = i == 5 ? 1 : 0;
        desc.slack_bytes_max = i == 5 ? 4096 : 0;
        run_pool(&desc);
    }
}

static void bad_pointers_in_a_fixed_buffer(void)
{
    ta_fixed_buffer state;
    ta_pool_desc desc = plain_desc();
    char *bytes = (char *)malloc(8 * MIB);
    CHECK(bytes != NULL);
    if (bytes != NULL) {
        bench b;
        memset(&b, 0, sizeof b);
        CHECK_OK(ta_backend_fixed(&state, bytes, 8 * MIB, &desc.backend));
        CHECK_OK(ta_pool_create(&desc, &b.pool));
        b.allocator = ta_pool_allocator(b.pool);
        CHECK_OK(ta_pool_free(b.pool, ta_pool_alloc(b.pool, 1, NULL)));
        check_foreign(&b);
        check_blocks(&b);
        check_bad_pointer(&b, bytes + 8 * MIB, TA_ERROR_FOREIGN);
        CHECK_OK(ta_pool_destroy(b.pool));
        free(bytes);
    }
}

static void bad_pointers_in_an_arena(void)
{
    bench b;
    ta_arena *arena = NULL;
    memset(&b, 0, sizeof b);
    CHECK_OK(ta_arena_create(NULL, &arena));
    b.allocator = ta_arena_allocator(arena);
    check_foreign(&b);
    check_blocks(&b);
    check_foreign(&b);
    CHECK_OK(ta_arena_destroy(arena));
}

/* Freed blocks go back to the system: their insides are nobody's, their starts are remembered. */
static void bad_pointers_in_a_direct_allocator(void)
{
    bench b;
    ta_direct *direct = NULL;
    ta_request request;
    char *ptr, *other;
    memset(&b, 0, sizeof b);
    memset(&request, 0, sizeof request);
    CHECK_OK(ta_direct_create(NULL, &direct));
    b.allocator = ta_direct_allocator(direct);
    check_foreign(&b);
    request.size_bytes = 10000;
    ptr = (char *)ta_allocator_alloc(b.allocator, &request, NULL);
    other = (char *)ta_allocator_alloc(b.allocator, &request, NULL);
    check_bad_pointer(&b, ptr + 1, TA_ERROR_INTERIOR);
    check_bad_pointer(&b, ptr + 9999, TA_ERROR_INTERIOR);
    CHECK_RESULT(ta_allocator_free(b.allocator, ptr, 9999, 0, 0), TA_ERROR_SIZE_MISMATCH);
    CHECK_OK(ta_allocator_free(b.allocator, ptr, 10000, 0, 0));
    check_bad_pointer(&b, ptr, TA_ERROR_STALE);
    CHECK_OK(ta_allocator_free(b.allocator, other, 0, 0, 0));
    CHECK_OK(ta_direct_destroy(direct));
}

/* Addresses inside what the pool has set aside that were never handed out, committed or not. */
static void addresses_never_handed_out(void)
{
    int segments;
    for (segments = 0; segments < 2; segments++) {
        bench b;
        ta_pool_desc desc = plain_desc();
        ta_stats s;
        char *small, *large;
        int in_range;
        memset(&b, 0, sizeof b);
        desc.range_bytes = 256 * MIB;
        desc.disable_ranges = segments;
        desc.disable_thread_caches = 1; /* what they hold was handed out to them */
        CHECK_OK(ta_pool_create(&desc, &b.pool));
        b.allocator = ta_pool_allocator(b.pool);
        small = (char *)ta_pool_alloc(b.pool, 100, NULL);
        large = (char *)ta_pool_alloc(b.pool, 100000, NULL);
        CHECK_OK(ta_pool_get_stats(b.pool, &s));
        in_range = s.address_range_bytes >= 300 * MIB;
        test_context("%s", in_range ? "ranges" : "segments");
        check_bad_pointer(&b, large + ta_pool_capacity_of(b.pool, large), TA_ERROR_FOREIGN);
        check_bad_pointer(&b, large + 200 * KIB, TA_ERROR_FOREIGN);          /* perhaps committed */
        check_bad_pointer(&b, small + ta_pool_capacity_of(b.pool, small), TA_ERROR_FOREIGN);
        check_bad_pointer(&b, small + 200 * KIB, TA_ERROR_FOREIGN);
        check_bad_pointer(&b, large - 1, TA_ERROR_FOREIGN);                  /* before the first block */
        if (in_range) {
            check_bad_pointer(&b, large + 100 * MIB, TA_ERROR_FOREIGN);      /* not committed */
            check_bad_pointer(&b, large + 100 * MIB + 17, TA_ERROR_FOREIGN);
            check_bad_pointer(&b, small + 10 * MIB, TA_ERROR_FOREIGN);
        }
        CHECK_OK(ta_pool_free(b.pool, small));
        CHECK_OK(ta_pool_free(b.pool, large));
        check_bad_pointer(&b, large, TA_ERROR_STALE);
        check_bad_pointer(&b, large + 64, TA_ERROR_STALE);
        CHECK_OK(ta_pool_empty_cache(b.pool)); /* the pages of a range are gone, its addresses are not forgotten */
        check_bad_pointer(&b, large, in_range ? TA_ERROR_STALE : TA_ERROR_FOREIGN);
        check_bad_pointer(&b, small, in_range ? TA_ERROR_STALE : TA_ERROR_FOREIGN);
        CHECK_OK(ta_pool_destroy(b.pool));
    }
}

static void blocks_of_others(void)
{
    bench pools[3];
    ta_arena *arena = NULL;
    ta_pool_desc desc = plain_desc();
    void *ptr[3][2], *of_arena, *of_arena_large;
    int i, j, k;
    memset(pools, 0, sizeof pools);
    CHECK_OK(ta_arena_create(NULL, &arena));
    of_arena = ta_arena_alloc(arena, 100, NULL);
    of_arena_large = ta_arena_alloc(arena, 100000, NULL);
    for (i = 0; i < 3; i++) {
        desc.disable_ranges = i == 1;
        desc.single_threaded = i == 2;
        CHECK_OK(ta_pool_create(&desc, &pools[i].pool));
        pools[i].allocator = ta_pool_allocator(pools[i].pool);
        ptr[i][0] = ta_pool_alloc(pools[i].pool, 100, NULL);
        ptr[i][1] = ta_pool_alloc(pools[i].pool, 100000, NULL);
    }
    for (i = 0; i < 3; i++) {
        bench b;
        memset(&b, 0, sizeof b);
        b.allocator = ta_arena_allocator(arena);
        for (j = 0; j < 2; j++) {
            for (k = 0; k < 3; k++) {
                if (k != i) {
                    check_bad_pointer(&pools[i], ptr[k][j], TA_ERROR_FOREIGN);
                }
            }
            check_bad_pointer(&b, ptr[i][j], TA_ERROR_FOREIGN);
        }
        check_bad_pointer(&pools[i], of_arena, TA_ERROR_FOREIGN);
        check_bad_pointer(&pools[i], of_arena_large, TA_ERROR_FOREIGN);
    }
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_pool_free(pools[i].pool, ptr[i][0]));
        CHECK_OK(ta_pool_free(pools[i].pool, ptr[i][1]));
        CHECK_OK(ta_pool_destroy(pools[i].pool));
    }
    CHECK_OK(ta_arena_destroy(arena));
}

/* Freed by one thread into its own cache, then by another: the second is told so. */
typedef struct helper {
    ta_pool *pool;
    void *blocks[40];
    ta_result results[40];
} helper;

static void *freeing_thread(void *argument)
{
    helper *h = (helper *)argument;
    int i;
    for (i = 0; i < 40; i++) {
        h->results[i] = ta_pool_free(h->pool, h->blocks[i]);
    }
    return NULL;
}

static void freed_by_another_thread(void)
{
    helper h;
    pthread_t thread;
    bench b;
    ta_pool_desc desc = plain_desc();
    int i;
    memset(&b, 0, sizeof b);
    memset(&h, 0, sizeof h);
    CHECK_OK(ta_pool_create(&desc, &b.pool));
    b.allocator = ta_pool_allocator(b.pool);
    h.pool = b.pool;
    for (i = 0; i < 40; i++) {
        h.blocks[i] = ta_pool_alloc(b.pool, (size_t)50 << (i % 12), NULL);
        CHECK(h.blocks[i] != NULL);
    }
    for (i = 0; i < 10; i++) {
        CHECK_OK(ta_pool_free(b.pool, h.blocks[i]));
    }
    CHECK_EQ(pthread_create(&thread, NULL, freeing_thread, &h), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (i = 0; i < 40; i++) {
        CHECK_RESULT(h.results[i], i < 10 ? TA_ERROR_STALE : TA_OK);
        check_bad_pointer(&b, h.blocks[i], TA_ERROR_STALE);
    }
    CHECK_OK(ta_pool_destroy(b.pool));
}

/* ---- buffers */
static void check_stale_buffer(ta_allocator allocator, const ta_buffer *buffer, ta_result expected)
{
    ta_buffer copy = *buffer;
    ta_stats before, after;
    CHECK_OK(ta_allocator_get_stats(allocator, &before));
    CHECK_RESULT(ta_allocator_check_buffer(allocator, &copy), expected);
    CHECK_RESULT(ta_allocator_free_buffer(allocator, &copy, 0), expected);
    CHECK_EQ(memcmp(&copy, buffer, sizeof copy), 0);
    CHECK_OK(ta_allocator_get_stats(allocator, &after));
    CHECK_EQ(memcmp(&before, &after, sizeof after), 0);
}

static void check_buffers(const ta_pool_desc *desc)
{
    static const size_t sizes[] = {100, 4096, 65536, 300000};
    ta_pool *pool = NULL, *other = NULL;
    ta_allocator allocator, others;
    size_t i;
    CHECK_OK(ta_pool_create(desc, &pool));
    CHECK_OK(ta_pool_create(NULL, &other));
    allocator = ta_pool_allocator(pool);
    others = ta_pool_allocator(other);
    for (i = 0; i < 4; i++) {
        ta_request request;
        ta_buffer buffer, copy, again, forged;
        memset(&request, 0, sizeof request);
        request.size_bytes = sizes[i];
        CHECK_OK(ta_allocator_alloc_buffer(allocator, &request, &buffer));
        copy = buffer;
        CHECK_OK(ta_allocator_check_buffer(allocator, &copy));
        check_stale_buffer(others, &copy, TA_ERROR_FOREIGN);
        forged = copy;
        forged.id.generation++;
        check_stale_buffer(allocator, &forged, TA_ERROR_STALE);
        forged = copy;
        forged.id.owner++;
        check_stale_buffer(allocator, &forged, TA_ERROR_FOREIGN);
        forged = copy;
        forged.data = (char *)forged.data + 64;
        check_stale_buffer(allocator, &forged, TA_ERROR_STALE);
        CHECK_OK(ta_allocator_free_buffer(allocator, &buffer, 0));
        CHECK(buffer.data == NULL && buffer.size_bytes == 0);
        CHECK_OK(ta_allocator_free_buffer(allocator, &buffer, 0));
        check_stale_buffer(allocator, &copy, TA_ERROR_STALE);
        CHECK_OK(ta_allocator_alloc_buffer(allocator, &request, &again)); /* the same place, another life */
        CHECK(again.data == copy.data);
        check_stale_buffer(allocator, &copy, TA_ERROR_STALE);
        CHECK_OK(ta_allocator_check_buffer(allocator, &again));
        CHECK_OK(ta_pool_free(pool, again.data)); /* freed by its pointer: the buffer knows */
        check_stale_buffer(allocator, &again, TA_ERROR_STALE);
        CHECK_OK(ta_allocator_alloc_buffer(allocator, &request, &again));
        CHECK_OK(ta_pool_clear(pool));
        check_stale_buffer(allocator, &again, TA_ERROR_STALE);
    }
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_pool_destroy(other));
}

static void buffers_go_stale(void)
{
    int i;
    for (i = 0; i < 5; i++) { /* each frees in another way */
        ta_pool_desc desc = i == 0 ? ta_pool_desc_spec() : plain_desc();
        desc.huge_pages = TA_HUGE_PAGES_OFF;
        desc.disable_thread_caches = i == 2;
        desc.disable_ranges = i == 3;
        desc.single_threaded = i == 4;
        check_buffers(&desc);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Bad sizes, alignments, requests.
  -------------------------------------------------------------------------------------------------------*/
static void check_refused(bench *b, size_t size, size_t alignment, ta_result expected)
{
    ta_request request;
    ta_buffer buffer;
    ta_result result = TA_OK;
    remember(b);
    memset(&request, 0, sizeof request);
    memset(&buffer, 0xA5, sizeof buffer);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    CHECK(ta_allocator_alloc(b->allocator, &request, &result) == NULL);
    CHECK_RESULT(result, expected);
    CHECK(ta_allocator_alloc(b->allocator, &request, NULL) == NULL);
    CHECK_RESULT(ta_allocator_alloc_buffer(b->allocator, &request, &buffer), expected);
    CHECK(buffer.data == NULL && buffer.size_bytes == 0 && buffer.capacity_bytes == 0 && buffer.id.owner == 0);
    if (b->pool != NULL) {
        CHECK(ta_pool_alloc_request(b->pool, &request, &result) == NULL);
        CHECK_RESULT(result, expected);
        if (alignment != 0) {
            CHECK(ta_pool_alloc_aligned(b->pool, size, alignment, &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK(ta_pool_get_aligned(b->pool, size, alignment, &result) == NULL);
            CHECK_RESULT(result, expected);
        } else {
            CHECK(ta_pool_alloc(b->pool, size, &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK(ta_pool_alloc(b->pool, size, NULL) == NULL);
            CHECK(ta_pool_alloc_zeroed(b->pool, size, &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK(ta_pool_get(b->pool, size, &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK(ta_pool_get_or_alloc(b->pool, size, &result) == NULL);
            CHECK_RESULT(result, expected);
            CHECK(ta_pool_realloc(b->pool, NULL, size, &result) == NULL);
            CHECK_RESULT(result, expected);
        }
    }
    check_unchanged(b);
}

static void check_bad_requests(bench *b)
{
    size_t shift;
    ta_request request;
    ta_result result = TA_OK;
    check_refused(b, 0, 0, TA_ERROR_INVALID_SIZE);
    check_refused(b, 0, 64, TA_ERROR_INVALID_SIZE);
    check_refused(b, 1, 3, TA_ERROR_INVALID_ALIGNMENT);
    check_refused(b, 1, 63, TA_ERROR_INVALID_ALIGNMENT);
    check_refused(b, 100000, 65, TA_ERROR_INVALID_ALIGNMENT);
    check_refused(b, 1, SIZE_MAX, TA_ERROR_INVALID_ALIGNMENT);
    for (shift = 31; shift < sizeof(size_t) * 8; shift++) {
        check_refused(b, 1, (size_t)1 << shift, TA_ERROR_INVALID_ALIGNMENT);
    }
    for (shift = 0; shift < 30; shift++) {
        check_refused(b, SIZE_MAX - ((size_t)1 << shift) + 1, 0, TA_ERROR_OVERFLOW);
        check_refused(b, SIZE_MAX - ((size_t)1 << shift) + 1, (size_t)1 << shift, TA_ERROR_OVERFLOW);
    }
    check_refused(b, (size_t)PTRDIFF_MAX, 0, TA_ERROR_OVERFLOW);
    check_refused(b, (size_t)PTRDIFF_MAX + 1, 4096, TA_ERROR_OVERFLOW);
    remember(b);
    memset(&request, 0, sizeof request);
    request.size_bytes = 1;
    request.reserved = 1;
    CHECK(ta_allocator_alloc(b->allocator, &request, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    request.reserved = 0;
    for (shift = 3; shift < 32; shift++) {
        request.flags = (uint32_t)1 << shift;
        CHECK(ta_allocator_alloc(b->allocator, &request, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ARGUMENT);
    }
    check_unchanged(b);
}

static void bad_requests(void)
{
    ta_pool_desc desc = plain_desc();
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_result result = TA_OK;
    bench b;
    int i;
    for (i = 0; i < 3; i++) {
        memset(&b, 0, sizeof b);
        desc.single_threaded = i == 1;
        desc.disable_ranges = i == 2;
        CHECK_OK(ta_pool_create(&desc, &b.pool));
        b.allocator = ta_pool_allocator(b.pool);
        check_bad_requests(&b);
        remember(&b);
        CHECK(ta_pool_alloc_array(b.pool, SIZE_MAX / 2, 3, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OVERFLOW);
        CHECK(ta_pool_alloc_array(b.pool, SIZE_MAX / 8 + 1, 8, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OVERFLOW);
        CHECK(ta_pool_alloc_array(b.pool, 0, 8, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
        CHECK(ta_pool_alloc_array(b.pool, 8, 0, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
        CHECK(ta_pool_alloc_aligned(b.pool, 8, 0, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
        CHECK(ta_pool_get_aligned(b.pool, 8, 0, &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
        check_unchanged(&b);
        CHECK_OK(ta_pool_destroy(b.pool));
    }
    memset(&b, 0, sizeof b);
    CHECK_OK(ta_arena_create(NULL, &arena));
    b.allocator = ta_arena_allocator(arena);
    check_bad_requests(&b);
    CHECK(ta_arena_alloc_array(arena, SIZE_MAX / 2, 3, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OVERFLOW);
    CHECK(ta_arena_alloc(arena, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_SIZE);
    CHECK(ta_arena_alloc_aligned(arena, 1, 0, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_INVALID_ALIGNMENT);
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    b.allocator = ta_direct_allocator(direct);
    check_bad_requests(&b);
    CHECK_OK(ta_direct_destroy(direct));
}

static void check_bad_desc(const ta_pool_desc *desc)
{
    ta_pool *pool = (ta_pool *)(void *)&pool;
    CHECK_RESULT(ta_pool_create(desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    CHECK(pool == NULL);
}

static void bad_descs(void)
{
    ta_pool_desc desc = plain_desc();
    desc.classes_per_doubling = 3;
    check_bad_desc(&desc);
    desc.classes_per_doubling = 16;
    check_bad_desc(&desc);
    desc = plain_desc();
    desc.thread_cache_block_bytes = 65537;
    check_bad_desc(&desc);
    desc.thread_cache_block_bytes = TA_UNLIMITED;
    check_bad_desc(&desc);
    desc = plain_desc();
    desc.huge_pages = (ta_huge_pages)3;
    check_bad_desc(&desc);
    desc = plain_desc();
    desc.block_count_max = 1;
    check_bad_desc(&desc);
    desc.block_count_max = TA_UNLIMITED;
    check_bad_desc(&desc);
}

/* ---- a backend table with one entry missing after the other */
static void no_info(void *self, ta_backend_info *out)
{
    *out = *(const ta_backend_info *)self;
}

static void check_bad_backend(ta_backend backend)
{
    ta_pool_desc pool_desc = plain_desc();
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_budget_desc budget_desc;
    ta_pool *pool = (ta_pool *)(void *)&pool;
    ta_arena *arena = (ta_arena *)(void *)&arena;
    ta_direct *direct = (ta_direct *)(void *)&direct;
    ta_budget *budget = (ta_budget *)(void *)&budget;
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(&budget_desc, 0, sizeof budget_desc);
    pool_desc.backend = arena_desc.backend = direct_desc.backend = budget_desc.backend = backend;
    CHECK_NE(ta_backend_check(backend), TA_OK);
    CHECK_NE(ta_pool_create(&pool_desc, &pool), TA_OK);
    CHECK_NE(ta_arena_create(&arena_desc, &arena), TA_OK);
    CHECK_NE(ta_direct_create(&direct_desc, &direct), TA_OK);
    CHECK_NE(ta_budget_create(&budget_desc, &budget), TA_OK);
    CHECK(pool == NULL && arena == NULL && direct == NULL && budget == NULL);
}

static void bad_backends(void)
{
    ta_backend host = ta_backend_host(), backend;
    ta_backend_vtable table;
    ta_backend_info info, good;
    int i;
    memset(&good, 0, sizeof good);
    host.vtable->info(host.self, &good);
    backend.vtable = &table;
    backend.self = &info;
    table = *host.vtable;
    table.info = no_info;
    info = good;
    CHECK_OK(ta_backend_check(backend));
    table.struct_bytes--;
    check_bad_backend(backend);
    table.struct_bytes++;
    table.name = NULL;
    check_bad_backend(backend);
    table.name = "bad";
    table.info = NULL;
    check_bad_backend(backend);
    for (i = 0; i < 6; i++) {
        table = *host.vtable;
        table.info = no_info;
        info.caps = TA_CAP_SEGMENTS | TA_CAP_RANGES | TA_CAP_HOST_ACCESS;
        switch (i) {
        case 0: table.alloc = NULL; break;
        case 1: table.free = NULL; break;
        case 2: table.reserve = NULL; break;
        case 3: table.release = NULL; break;
        case 4: table.commit = NULL; break;
        default: table.decommit = NULL; break;
        }
        check_bad_backend(backend);
    }
    table = *host.vtable;
    table.info = no_info;
    info.caps = good.caps | TA_CAP_ORDERED; /* without mark, is_done, wait, sync */
    check_bad_backend(backend);
    info.caps = good.caps & ~(uint32_t)TA_CAP_HOST_ACCESS; /* without zero and copy */
    check_bad_backend(backend);
    info.caps = TA_CAP_HOST_ACCESS; /* with neither ranges nor segments */
    check_bad_backend(backend);
    info = good;
    info.granularity_bytes = 3000;
    check_bad_backend(backend);
    info.granularity_bytes = 0;
    check_bad_backend(backend);
    info = good;
    info.alignment_bytes = 8;
    check_bad_backend(backend);
    info.alignment_bytes = 48;
    check_bad_backend(backend);
    info.alignment_bytes = good.granularity_bytes * 2;
    check_bad_backend(backend);
}

/*---------------------------------------------------------------------------------------------------------
  Null arguments, to every public function. The order is that of the header.
  -------------------------------------------------------------------------------------------------------*/
static int visit_nothing(void *user, const ta_block_info *block)
{
    (void)user;
    (void)block;
    return 0;
}

#define CHECK_NO_POINTER(call, expected) \
    do { \
        result = TA_OK; \
        CHECK((call) == NULL); \
        CHECK_RESULT(result, expected); \
    } while (0)

static void null_to_backends_and_budgets(void)
{
    char bytes[512];
    ta_fixed_buffer state;
    ta_backend backend, none = {NULL, NULL};
    ta_budget *budget = NULL;
    ta_budget_stats stats;
    CHECK_EQ(ta_version(), TENSORALLOC_VERSION);
    CHECK_STRING(ta_result_text(TA_RESULT_COUNT), "unknown result");
    CHECK_OK(ta_backend_check(none)); /* stands for the host */
    CHECK_RESULT(ta_backend_fixed(NULL, bytes, sizeof bytes, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, NULL, sizeof bytes, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, bytes, sizeof bytes, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, bytes, 255, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_fixed(&state, bytes, 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_budget_destroy(NULL));
    CHECK_RESULT(ta_budget_set_limit(NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_get_stats(NULL, &stats), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_budget_create(NULL, &budget));
    CHECK_RESULT(ta_budget_get_stats(budget, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_get_stats(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_budget_destroy(budget));
}

static void check_no_allocator(ta_allocator allocator, ta_result of_destroy)
{
    ta_request request;
    ta_result result;
    ta_stats stats;
    ta_device device;
    ta_block_info info;
    ta_buffer buffer, zero;
    ta_upstream upstream;
    ta_backend backend;
    ta_tensor tensor;
    int64_t dim = 4;
    size_t released;
    char byte = 0;
    memset(&request, 0, sizeof request);
    memset(&buffer, 0, sizeof buffer);
    memset(&zero, 0, sizeof zero);
    request.size_bytes = 1;
    CHECK_NO_POINTER(ta_allocator_alloc(allocator, &request, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_alloc(allocator, &request, NULL) == NULL);
    CHECK_RESULT(ta_allocator_free(allocator, &byte, 1, 0, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_free(allocator, NULL, 1, 0, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_resize_in_place(allocator, &byte, 1, 2), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_allocator_remap(allocator, &byte, 1, 2, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_empty_cache(allocator), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_trim(allocator, 0, &released), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_stats(allocator, &stats), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_device(allocator, &device), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_dispose(allocator), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_destroy(allocator), of_destroy);
    CHECK_RESULT(ta_allocator_describe(allocator, &byte, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_alloc_buffer(allocator, &request, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(memcmp(&buffer, &zero, sizeof buffer), 0);
    buffer.data = &byte;
    CHECK_RESULT(ta_allocator_check_buffer(allocator, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_free_buffer(allocator, &buffer, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&upstream, allocator, 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_tensor_create(allocator, TA_F32, &dim, 1, 0, 0, &tensor), TA_ERROR_INVALID_ARGUMENT);
    CHECK(tensor.buffer.data == NULL && tensor.rank == 0);
    CHECK_EQ(ta_report(allocator, NULL, 0), 0);
}

static void null_to_allocators(void)
{
    ta_allocator allocator = {NULL, NULL};
    ta_allocator_vtable table;
    ta_pool *pool = NULL;
    ta_buffer buffer;
    ta_request request;
    ta_result result;
    ta_block_info info;
    ta_upstream upstream;
    ta_backend backend;
    bench b;
    check_no_allocator(allocator, TA_OK);
    CHECK_OK(ta_pool_create(NULL, &pool));
    allocator.vtable = ta_pool_allocator(pool).vtable;
    check_no_allocator(allocator, TA_OK); /* a table without a pointer */
    check_no_allocator(ta_pool_allocator(NULL), TA_OK);
    check_no_allocator(ta_arena_allocator(NULL), TA_OK);
    check_no_allocator(ta_direct_allocator(NULL), TA_OK);
    table = *allocator.vtable;
    table.struct_bytes--;
    allocator.vtable = &table;
    allocator.self = pool;
    check_no_allocator(allocator, TA_ERROR_INVALID_ARGUMENT); /* a table of another version */
    allocator = ta_pool_allocator(pool);
    b.allocator = allocator;
    b.pool = pool;
    remember(&b);
    memset(&request, 0, sizeof request);
    memset(&buffer, 0xA5, sizeof buffer);
    CHECK_NO_POINTER(ta_allocator_alloc(allocator, NULL, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_allocator_alloc(allocator, NULL, NULL) == NULL);
    CHECK_OK(ta_allocator_free(allocator, NULL, 0, 0, 0));
    CHECK_OK(ta_allocator_free(allocator, NULL, 77, 3, 9));
    CHECK_RESULT(ta_allocator_resize_in_place(allocator, NULL, 0, 10), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_allocator_remap(allocator, NULL, 0, 10, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_allocator_trim(allocator, 0, NULL));
    CHECK_RESULT(ta_allocator_get_stats(allocator, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_get_device(allocator, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_describe(allocator, NULL, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_describe(allocator, &info, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_alloc_buffer(allocator, NULL, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK(buffer.data == NULL);
    CHECK_RESULT(ta_allocator_alloc_buffer(allocator, &request, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_check_buffer(allocator, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_check_buffer(allocator, &buffer), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_allocator_free_buffer(allocator, NULL, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_allocator_free_buffer(allocator, &buffer, 0));
    CHECK_RESULT(ta_backend_upstream(NULL, allocator, 0, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&upstream, allocator, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&upstream, allocator, 3000, &backend), TA_ERROR_INVALID_ARGUMENT);
    check_unchanged(&b);
    CHECK_RESULT(ta_direct_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_direct_destroy(NULL));
    CHECK_OK(ta_pool_destroy(pool));
}

static void null_to_pools(void)
{
    ta_pool *pool = NULL;
    ta_pool_desc desc;
    ta_request request;
    ta_result result;
    ta_block_info info;
    ta_failure failure;
    ta_stats stats;
    ta_bucket_stats bucket;
    size_t released;
    char byte = 0;
    bench b;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1;
    CHECK_RESULT(ta_pool_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_destroy(NULL));
    CHECK_RESULT(ta_pool_dispose(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_desc(NULL, &desc), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc(NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_pool_alloc(NULL, 1, NULL) == NULL);
    CHECK_NO_POINTER(ta_pool_alloc(NULL, 100000, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc_aligned(NULL, 1, 64, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc_array(NULL, 1, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc_zeroed(NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc_request(NULL, &request, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_free(NULL, &byte), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_free(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_free_sized(NULL, &byte, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_clear(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_get(NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_get_aligned(NULL, 1, 64, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_get_or_alloc(NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_put(NULL, &byte, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_put_aligned(NULL, &byte, 1, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_resize_in_place(NULL, &byte, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_realloc(NULL, NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_realloc(NULL, &byte, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(ta_pool_capacity_of(NULL, &byte), 0);
    CHECK_EQ(ta_pool_owns(NULL, &byte), 0);
    CHECK_RESULT(ta_pool_describe(NULL, &byte, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_record_use(NULL, &byte, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_thread_flush(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_empty_cache(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_trim(NULL, 0, &released), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_trim(NULL, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_seal(NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_for_each_live(NULL, visit_nothing, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_walk(NULL, visit_nothing, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_check(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_failure(NULL, &failure), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_stats(NULL, &stats), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_reset_peaks(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(NULL, 0, &bucket), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_create(NULL, &pool));
    b.pool = pool;
    b.allocator = ta_pool_allocator(pool);
    remember(&b);
    CHECK_RESULT(ta_pool_get_desc(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_pool_alloc_request(pool, NULL, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_free(pool, NULL));
    CHECK_OK(ta_pool_free_sized(pool, NULL, 0));
    CHECK_OK(ta_pool_free_sized(pool, NULL, 100));
    CHECK_OK(ta_pool_put(pool, NULL, 100));
    CHECK_OK(ta_pool_put_aligned(pool, NULL, 100, 64));
    CHECK_RESULT(ta_pool_resize_in_place(pool, NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(ta_pool_capacity_of(pool, NULL), 0);
    CHECK_EQ(ta_pool_owns(pool, NULL), 0);
    CHECK_NE(ta_pool_describe(pool, NULL, &info), TA_OK);
    CHECK_RESULT(ta_pool_describe(pool, &byte, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NE(ta_pool_record_use(pool, NULL, 0), TA_OK);
    CHECK_OK(ta_pool_trim(pool, 0, NULL));
    CHECK_RESULT(ta_pool_for_each_live(pool, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_walk(pool, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_failure(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_stats(pool, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, -1, &bucket), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_get_bucket_stats(pool, TA_BUCKET_COUNT, &bucket), TA_ERROR_INVALID_ARGUMENT);
    check_unchanged(&b);
    CHECK_OK(ta_pool_destroy(pool));
}

static void null_to_arenas(void)
{
    ta_arena *arena = NULL, *other = NULL;
    ta_arena_mark zero, mark, strange;
    ta_result result;
    memset(&zero, 0, sizeof zero);
    CHECK_RESULT(ta_arena_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_arena_destroy(NULL));
    CHECK_NO_POINTER(ta_arena_alloc(NULL, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_arena_alloc_aligned(NULL, 1, 64, &result), TA_ERROR_INVALID_ARGUMENT);
    CHECK_NO_POINTER(ta_arena_alloc_array(NULL, 1, 1, &result), TA_ERROR_INVALID_ARGUMENT);
    mark = ta_arena_get_mark(NULL);
    CHECK_EQ(memcmp(&mark, &zero, sizeof mark), 0);
    CHECK_RESULT(ta_arena_rewind(NULL, mark), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_arena_reset(NULL, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_arena_create(NULL, &arena));
    CHECK_OK(ta_arena_create(NULL, &other));
    CHECK(ta_arena_alloc(arena, 100, NULL) != NULL);
    mark = ta_arena_get_mark(arena);
    strange = ta_arena_get_mark(other);
    CHECK_RESULT(ta_arena_rewind(arena, zero), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_arena_rewind(arena, strange), TA_ERROR_FOREIGN);
    strange = mark;
    strange.block_count += 5;
    CHECK_RESULT(ta_arena_rewind(arena, strange), TA_ERROR_STALE);
    CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
    CHECK_RESULT(ta_arena_rewind(arena, mark), TA_ERROR_STALE);
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_arena_destroy(other));
}

static void null_to_tensors_and_reports(void)
{
    static const int64_t dims[2] = {3, 4}, negative[2] = {3, -4}, huge[2] = {INT64_MAX, 2}, strides[2] = {4, 1};
    static const int64_t index[2] = {2, 3}, outside[2] = {2, 4};
    ta_pool *pool = NULL;
    ta_tensor tensor, zero;
    ta_failure failure;
    ta_dtype none = (ta_dtype)TA_DTYPE_COUNT;
    int64_t elements = 0, offset = 0, out_strides[2];
    size_t bytes = 0;
    char text[64];
    memset(&failure, 0, sizeof failure);
    memset(&zero, 0, sizeof zero);
    CHECK_EQ(ta_dtype_size(none), 0);
    CHECK_EQ(ta_dtype_size((ta_dtype)31), 0);
    CHECK_EQ(ta_dtype_alignment(none), 0);
    CHECK_STRING(ta_dtype_name(none), "?");
    CHECK_RESULT(ta_shape_elements(NULL, 1, &elements), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(dims, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(dims, -1, &elements), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(dims, TA_RANK_MAX + 1, &elements), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(negative, 2, &elements), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(huge, 2, &elements), TA_ERROR_OVERFLOW);
    CHECK_OK(ta_shape_elements(NULL, 0, &elements));
    CHECK_EQ(elements, 1);
    CHECK_RESULT(ta_shape_bytes(NULL, 1, TA_F32, &bytes), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_bytes(dims, 2, TA_F32, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_bytes(dims, 2, none, &bytes), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_bytes(huge, 1, TA_F32, &bytes), TA_ERROR_OVERFLOW);
    CHECK_RESULT(ta_strides_row_major(NULL, 2, out_strides), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_strides_row_major(dims, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_strides_row_major(negative, 2, out_strides), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(NULL, strides, index, 2, &offset), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, NULL, index, 2, &offset), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, strides, NULL, 2, &offset), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, strides, outside, 2, &offset), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_RESULT(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 0, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    memset(&tensor, 0xA5, sizeof tensor);
    CHECK_RESULT(ta_tensor_create(ta_pool_allocator(pool), TA_F32, NULL, 2, 0, 0, &tensor), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(memcmp(&tensor, &zero, sizeof tensor), 0);
    CHECK_RESULT(ta_tensor_create(ta_pool_allocator(pool), none, dims, 2, 0, 0, &tensor), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 3, 0, &tensor), TA_ERROR_INVALID_ALIGNMENT);
    CHECK_RESULT(ta_tensor_create(ta_pool_allocator(pool), TA_F32, huge, 2, 0, 0, &tensor), TA_ERROR_OVERFLOW);
    CHECK_EQ(memcmp(&tensor, &zero, sizeof tensor), 0);
    CHECK_OK(ta_tensor_destroy(NULL, 0));
    CHECK_OK(ta_tensor_destroy(&zero, 0));
    CHECK(ta_tensor_at(NULL, index) == NULL);
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 0, 0, &tensor));
    CHECK(ta_tensor_at(&tensor, NULL) == NULL);
    CHECK(ta_tensor_at(&tensor, outside) == NULL);
    CHECK(ta_tensor_at(&tensor, index) == (void *)((float *)tensor.buffer.data + 11));
    CHECK_EQ(ta_tensor_is_contiguous(NULL), 0);
    CHECK_OK(ta_tensor_destroy(&tensor, 0));
    CHECK(ta_stats_hit_rate(NULL) <= 0.0);
    CHECK_EQ(ta_report(ta_pool_allocator(pool), NULL, 10), 0);
    CHECK_GT(ta_report(ta_pool_allocator(pool), NULL, 0), 0);
    CHECK_EQ(ta_failure_report(NULL, text, sizeof text), 0);
    CHECK_EQ(ta_failure_report(&failure, NULL, 10), 0);
    CHECK_OK(ta_pool_destroy(pool));
}

/* ---- after dispose */
static void calls_after_dispose(void)
{
    ta_pool *pool = NULL;
    ta_result result;
    ta_stats stats;
    ta_block_info info;
    void *small, *large;
    CHECK_OK(ta_pool_create(NULL, &pool));
    small = ta_pool_alloc(pool, 100, NULL);
    large = ta_pool_alloc(pool, 100000, NULL);
    CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, 200, NULL)));
    CHECK_OK(ta_pool_dispose(pool));
    CHECK_NO_POINTER(ta_pool_alloc(pool, 100, &result), TA_ERROR_DISPOSED);
    CHECK_NO_POINTER(ta_pool_alloc(pool, 100000, &result), TA_ERROR_DISPOSED);
    CHECK_NO_POINTER(ta_pool_alloc_aligned(pool, 100, 4096, &result), TA_ERROR_DISPOSED);
    CHECK_NO_POINTER(ta_pool_get(pool, 200, &result), TA_ERROR_DISPOSED);
    CHECK_NO_POINTER(ta_pool_realloc(pool, large, 200, &result), TA_ERROR_DISPOSED);
    CHECK_NO_POINTER(ta_pool_alloc_zeroed(pool, 200, &result), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_free(pool, small), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_free(pool, large), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_free_sized(pool, small, 100), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_put(pool, large, 100000), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_resize_in_place(pool, small, 10), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_describe(pool, small, &info), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_record_use(pool, small, 1), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_clear(pool), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_thread_flush(pool), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_empty_cache(pool), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_trim(pool, 0, NULL), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_seal(pool, 1), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_walk(pool, visit_nothing, NULL), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_for_each_live(pool, visit_nothing, NULL), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_check(pool), TA_ERROR_DISPOSED);
    CHECK_EQ(ta_pool_owns(pool, small), 0);
    CHECK_EQ(ta_pool_capacity_of(pool, small), 0);
    CHECK_OK(ta_pool_dispose(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.allocation_count, 3);
    CHECK_EQ(stats.deallocation_count, 3);
    CHECK_EQ(stats.live_count + stats.in_use_bytes + stats.reserved_bytes + stats.cached_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

TEST_MAIN(TEST_CASE(bad_pointers_in_a_default_pool), TEST_CASE(bad_pointers_in_other_pools),
          TEST_CASE(bad_pointers_in_a_fixed_buffer), TEST_CASE(bad_pointers_in_an_arena),
          TEST_CASE(bad_pointers_in_a_direct_allocator), TEST_CASE(addresses_never_handed_out),
          TEST_CASE(blocks_of_others), TEST_CASE(freed_by_another_thread), TEST_CASE(buffers_go_stale),
          TEST_CASE(bad_requests), TEST_CASE(bad_descs), TEST_CASE(bad_backends),
          TEST_CASE(null_to_backends_and_budgets), TEST_CASE(null_to_allocators), TEST_CASE(null_to_pools),
          TEST_CASE(null_to_arenas), TEST_CASE(null_to_tensors_and_reports), TEST_CASE(calls_after_dispose))
