/* test_hidden.c - what AddressSanitizer and Valgrind see of host memory: live blocks are whole, free and cached ones are
   hidden, memory that went back to where it came from is as before. Built with -fsanitize=address, or run under Valgrind
   with TENSORALLOC_VALGRIND; elsewhere it says that it is skipped. */
#include "test.h"
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#if defined(TENSORALLOC_VALGRIND)
    #include <valgrind/memcheck.h>
static int can_look(void) { return RUNNING_ON_VALGRIND != 0; }

static int is_hidden(const void *ptr)
{
    unsigned char bits;
    return VALGRIND_GET_VBITS(ptr, &bits, 1) == 3;
}
#elif defined(__SANITIZE_ADDRESS__)
    #define LOOKS_AT_SHADOW 1
#elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
        #define LOOKS_AT_SHADOW 1
    #endif
#endif
#ifdef LOOKS_AT_SHADOW
    #include <sanitizer/asan_interface.h>
static int can_look(void) { return 1; }
static int is_hidden(const void *ptr) { return __asan_address_is_poisoned(ptr); }
#elif !defined(TENSORALLOC_VALGRIND)
static int can_look(void) { return 0; }

static int is_hidden(const void *ptr)
{
    (void)ptr;
    return 0;
}
#endif

#define SKIP_UNLESS_SEEN() \
    do { if (!can_look()) { TEST_SKIP("neither AddressSanitizer nor Valgrind is here"); return; } } while (0)

enum { NONE, SOME, ALL };

/* How much of these bytes is hidden, looking at every 64th and the last. */
static int hidden(const void *ptr, size_t bytes)
{
    const char *at = (const char *)ptr;
    size_t i, count = 0, looks = 0;
    for (i = 0; i < bytes; i += 64, looks++) {
        count += is_hidden(at + i) != 0;
    }
    count += is_hidden(at + bytes - 1) != 0;
    return count == 0 ? NONE : count == looks + 1 ? ALL : SOME;
}

static const size_t sizes[] = {1, 64, 1000, 5000, 65536, 65537, 300000, 5000000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void check_pool(ta_pool *pool)
{
    size_t i, round;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < SIZES; i++) {
            char *a, *b, *c;
            size_t capacity;
            test_context("size %lu, round %lu", (unsigned long)sizes[i], (unsigned long)round);
            a = (char *)ta_pool_alloc(pool, sizes[i], NULL);
            b = (char *)ta_pool_alloc_zeroed(pool, sizes[i], NULL);
            c = (char *)ta_pool_alloc_aligned(pool, sizes[i], 4096, NULL);
            REQUIRE(a != NULL && b != NULL && c != NULL);
            capacity = ta_pool_capacity_of(pool, a);
            CHECK_EQ(hidden(a, capacity), NONE);
            CHECK_EQ(hidden(b, ta_pool_capacity_of(pool, b)), NONE);
            CHECK_EQ(hidden(c, ta_pool_capacity_of(pool, c)), NONE);
            memset(a, 1, capacity);
            CHECK(b[0] == 0 && b[sizes[i] - 1] == 0);
            CHECK_OK(ta_pool_free(pool, a));
            CHECK_EQ(hidden(a, capacity), ALL);
            CHECK_OK(ta_pool_free_sized(pool, b, sizes[i]));
            CHECK_OK(ta_pool_free(pool, c));
            CHECK_EQ(hidden(b, sizes[i]), ALL);
            CHECK_EQ(hidden(c, sizes[i]), ALL);
        }
        CHECK_OK(round == 0 ? ta_pool_thread_flush(pool) : ta_pool_empty_cache(pool));
    }
    test_context("%s", "");
}

static void pools_hide_what_is_free(void)
{
    int way;
    SKIP_UNLESS_SEEN();
    for (way = 0; way < 6; way++) {
        ta_trace *trace;
        ta_pool_desc desc;
        ta_pool *pool;
        memset(&desc, 0, sizeof desc);
        CHECK_OK(ta_trace_create(NULL, &trace));
        desc.single_threaded = way == 1;
        desc.disable_thread_caches = way == 2;
        desc.disable_ranges = way == 3;
        desc.trace = way == 4 ? trace : NULL;
        desc.zeroed = way == 5;
        CHECK_OK(ta_pool_create(&desc, &pool));
        check_pool(pool);
        CHECK_OK(ta_pool_destroy(pool));
        CHECK_OK(ta_trace_destroy(trace));
    }
}

static void resizing_in_place_moves_the_border(void)
{
    ta_pool *pool;
    char *ptr;
    SKIP_UNLESS_SEEN();
    CHECK_OK(ta_pool_create(NULL, &pool));
    ptr = (char *)ta_pool_alloc(pool, 1000000, NULL);
    CHECK_OK(ta_pool_resize_in_place(pool, ptr, 200000));
    CHECK_EQ(hidden(ptr, 200000), NONE);
    CHECK_EQ(hidden(ptr + 200064, 700000), ALL);
    CHECK_OK(ta_pool_resize_in_place(pool, ptr, 600000));
    CHECK_EQ(hidden(ptr, 600000), NONE);
    CHECK_EQ(hidden(ptr + 600064, 300000), ALL);
    ptr = (char *)ta_pool_realloc(pool, ptr, 5000000, NULL);
    memset(ptr, 1, 5000000);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_EQ(hidden(ptr, 5000000), ALL);
    CHECK_OK(ta_pool_destroy(pool));
}

static void buffers_come_back_whole(void)
{
    static char buffer[1 << 20];
    ta_fixed_buffer state;
    ta_pool_desc desc;
    ta_pool *pool;
    void *ptr;
    SKIP_UNLESS_SEEN();
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_backend_fixed(&state, buffer, sizeof buffer, &desc.backend));
    CHECK_OK(ta_pool_create(&desc, &pool));
    ptr = ta_pool_alloc(pool, 200000, NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_EQ(hidden(ptr, 200000), ALL);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_EQ(hidden(buffer, sizeof buffer), NONE);
}

static void pools_over_pools(void)
{
    ta_pool_desc desc;
    ta_upstream state;
    ta_pool *upstream, *pool;
    void *ptr;
    SKIP_UNLESS_SEEN();
    CHECK_OK(ta_pool_create(NULL, &upstream));
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_backend_upstream(&state, ta_pool_allocator(upstream), 0, &desc.backend));
    CHECK_OK(ta_pool_create(&desc, &pool));
    check_pool(pool);
    ptr = ta_pool_alloc(pool, 100, NULL);
    CHECK_EQ(hidden(ptr, 100), NONE);
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_EQ(hidden(ptr, 100), ALL); /* upstream has it, free */
    check_pool(upstream);
    CHECK_OK(ta_pool_destroy(upstream));
}

/* Freed at the end, in the middle, by rewind and reset; in ranges, segments and buffers; and grown and shrunk. */
static void arenas_hide_what_is_free(void)
{
    static char buffer[1 << 23];
    int way;
    SKIP_UNLESS_SEEN();
    for (way = 0; way < 5; way++) {
        ta_arena_desc desc;
        ta_fixed_buffer state;
        ta_upstream above;
        ta_pool *upstream = NULL;
        ta_arena *arena = NULL;
        ta_arena_mark mark;
        ta_allocator self;
        char *first = NULL;
        int round;
        memset(&desc, 0, sizeof desc);
        test_context("way %d", way);
        desc.zeroed = way == 1;
        if (way == 2) {
            CHECK_OK(ta_backend_fixed(&state, buffer, sizeof buffer, &desc.backend));
        } else if (way == 3) {
            CHECK_OK(ta_pool_create(NULL, &upstream));
            CHECK_OK(ta_backend_upstream(&above, ta_pool_allocator(upstream), 0, &desc.backend));
        }
        CHECK_OK(ta_arena_create(&desc, &arena));
        self = ta_arena_allocator(arena);
        for (round = 0; round < 3; round++) {
            char *a = (char *)ta_arena_alloc(arena, 1000, NULL), *b, *c, *d;
            b = (char *)ta_arena_alloc_aligned(arena, 300000, 4096, NULL);
            c = (char *)ta_arena_alloc(arena, 50000, NULL);
            REQUIRE(a != NULL && b != NULL && c != NULL);
            first = first == NULL ? a : first;
            CHECK_EQ(hidden(a, 1000), NONE);
            CHECK_EQ(hidden(b, 300000), NONE);
            CHECK_EQ(hidden(c, 50000), NONE);
            memset(a, 1, 1000);
            memset(b, 1, 300000);
            memset(c, 1, 50000);
            CHECK_OK(ta_allocator_free(self, b, 0, 0, 0)); /* in the middle */
            CHECK_EQ(hidden(b, 300000), ALL);
            CHECK_EQ(hidden(a, 1000), NONE);
            CHECK_EQ(hidden(c, 50000), NONE);
            mark = ta_arena_get_mark(arena);
            d = (char *)ta_arena_alloc(arena, 200000, NULL);
            CHECK_OK(ta_allocator_resize_in_place(self, d, 0, 100000));
            CHECK_EQ(hidden(d, 100000), NONE);
            CHECK_EQ(hidden(d + 100032, 90000), ALL);
            CHECK_OK(ta_allocator_resize_in_place(self, d, 0, 180000));
            CHECK_EQ(hidden(d, 180000), NONE);
            CHECK_OK(ta_arena_rewind(arena, mark));
            CHECK_EQ(hidden(d, 180000), ALL);
            d = (char *)ta_arena_alloc(arena, 250000, NULL);
            CHECK_EQ(hidden(d, 250000), NONE);
            CHECK(way != 1 || (d[0] == 0 && d[249999] == 0));
            CHECK_OK(ta_arena_reset(arena, round == 1 ? (size_t)0 : TA_UNLIMITED));
            if (round != 1) { /* else memory has gone back, and may be anybody's */
                CHECK_EQ(hidden(a, 1000), ALL);
                CHECK_EQ(hidden(c, 50000), ALL);
                CHECK_EQ(hidden(d, 250000), ALL);
            }
        }
        CHECK_OK(ta_arena_destroy(arena));
        if (way == 2) {
            CHECK_EQ(hidden(buffer, sizeof buffer), NONE);
        }
        CHECK_OK(ta_pool_destroy(upstream));
    }
    test_context("%s", "");
}

/* Ranges of freed tensors; what comes back out of them is whole, and what goes back to the system too. */
static void warm_ranges_are_hidden(void)
{
    const int64_t least = 0, most = 8000000;
    ta_dynamic *dynamic = NULL;
    ta_shape_bounds bounds;
    ta_handle handle;
    int round;
    SKIP_UNLESS_SEEN();
    CHECK_OK(ta_dynamic_create(NULL, &dynamic));
    for (round = 0; round < 6; round++) {
        int64_t now = 1000000 + 500000 * (round % 3), next = 3000000;
        char *data;
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
        CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
        data = (char *)ta_dynamic_get_data(dynamic, handle);
        CHECK_EQ(hidden(data, (size_t)now), NONE);
        memset(data, 1, (size_t)now);
        CHECK_OK(ta_dynamic_resize(dynamic, handle, &next, 1));
        CHECK_EQ(hidden(data, 3000000), NONE);
        memset(data, 2, 3000000);
        next = 100;
        CHECK_OK(ta_dynamic_resize(dynamic, handle, &next, 1));
        CHECK_EQ(data[99], 2);
        CHECK_EQ(hidden(data, 100), NONE);
        CHECK_OK(ta_dynamic_free(dynamic, handle));
        CHECK_EQ(hidden(data, 100), ALL);
        if (round == 3) {
            CHECK_OK(ta_allocator_empty_cache(ta_dynamic_allocator(dynamic)));
        }
    }
    CHECK_OK(ta_dynamic_destroy(dynamic)); /* with a warm range: its addresses are the next one's */
    CHECK_OK(ta_dynamic_create(NULL, &dynamic));
    for (round = 0; round < 20; round++) {
        const int64_t now = 3000000;
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
        CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
        CHECK_EQ(hidden(ta_dynamic_get_data(dynamic, handle), (size_t)now), NONE);
    }
    CHECK_OK(ta_dynamic_destroy(dynamic));
}

TEST_MAIN(TEST_CASE(arenas_hide_what_is_free), TEST_CASE(warm_ranges_are_hidden), TEST_CASE(pools_hide_what_is_free), TEST_CASE(resizing_in_place_moves_the_border),
          TEST_CASE(buffers_come_back_whole), TEST_CASE(pools_over_pools))
