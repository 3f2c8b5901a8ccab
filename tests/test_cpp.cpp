/* test_cpp.cpp - [TA:CPP]: handles that destroy themselves, regions, std::pmr::memory_resource; with and without
   exceptions and RTTI, from C++11 on. */
#define TENSORALLOC_CPP
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#ifdef TA_CPP_MEMORY_RESOURCE
    #include <map>
    #include <string>
    #include <vector>
#endif

static int destroyed;

static ta_result count_destroyed(int *object)
{
    destroyed += object != NULL;
    return TA_OK;
}

typedef ta::unique<int, count_destroyed> counted;

static void handles_destroy_once()
{
    int one = 1, two = 2;
    destroyed = 0;
    {
        counted a(&one), b;
        CHECK(a && !b && a.get() == &one);
        b = static_cast<counted &&>(a);
        CHECK(!a && b.get() == &one);
        counted c(static_cast<counted &&>(b));
        CHECK(!b && c);
        counted &same = c;
        c = static_cast<counted &&>(same);
        CHECK(c.get() == &one);
        CHECK_EQ(destroyed, 0);
        c.reset(&two);
        CHECK_EQ(destroyed, 1);
        *c.out() = &one;
        CHECK_EQ(destroyed, 2);
        CHECK(c.release() == &one && !c);
    }
    CHECK_EQ(destroyed, 2);
    {
        counted a(&one);
    }
    CHECK_EQ(destroyed, 3);
}

static void objects_and_regions()
{
    ta::trace trace;
    ta::pool pool;
    ta::arena arena;
    ta::dynamic dynamic;
    ta_pool_desc desc = ta_pool_desc();
    CHECK_OK(ta_trace_create(NULL, trace.out()));
    desc.trace = trace.get();
    CHECK_OK(ta_pool_create(&desc, pool.out()));
    CHECK_OK(ta_arena_create(NULL, arena.out()));
    CHECK_OK(ta_dynamic_create(NULL, dynamic.out()));
    ta_block_info info = ta_block_info();
    void *ptr;
    {
        ta::tag outer("outer");
        ta::tag inner("inner");
        ptr = ta_pool_alloc(pool.get(), 100, NULL);
    }
    CHECK(ta_tag_get() == NULL);
    CHECK_OK(ta_pool_describe(pool.get(), ptr, &info));
    CHECK_STRING(info.tag, "outer/inner");
}

#ifdef TA_CPP_MEMORY_RESOURCE
static void containers()
{
    ta::pool pool;
    ta_pool_desc desc = ta_pool_desc();
    ta_stats stats;
    desc.limit_bytes = std::size_t(64) << 20;
    CHECK_OK(ta_pool_create(&desc, pool.out()));
    {
        ta::memory_resource memory(ta_pool_allocator(pool.get())), other(ta_pool_allocator(pool.get()));
        std::pmr::vector<int> numbers(&memory);
        std::pmr::map<int, std::pmr::string> names(&memory);
        for (int i = 0; i < 1000; i++) {
            numbers.push_back(i);
            names[i] = "a name that is too long for the string itself";
        }
        CHECK_EQ(numbers[999], 999);
        CHECK_OK(ta_pool_get_stats(pool.get(), &stats));
        CHECK_GE(stats.live_count, 2000);
        CHECK(memory.is_equal(memory) && !memory.is_equal(other));
        void *wide = memory.allocate(100, 4096);
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(wide) % 4096, 0);
        memory.deallocate(wide, 100, 4096);
        void *nothing = memory.allocate(0, 1);
        CHECK(nothing != nullptr);
        memory.deallocate(nothing, 0, 1);
#if defined(__cpp_exceptions)
        bool thrown = false;
        try {
            (void)memory.allocate(std::size_t(1) << 30, 64);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(thrown);
        thrown = false;
        try {
            (void)memory.allocate(64, std::size_t(-1) / 2 + 1);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(thrown);
#endif
    }
    CHECK_OK(ta_pool_get_stats(pool.get(), &stats));
    CHECK_EQ(stats.live_count, 0);
}
    #define CONTAINERS , TEST_CASE(containers)
#else
    #define CONTAINERS
#endif

TEST_MAIN(TEST_CASE(handles_destroy_once), TEST_CASE(objects_and_regions) CONTAINERS)
