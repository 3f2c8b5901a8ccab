/* test_windows.c - what is different on Windows: threads of the system itself, their exit, the end of the process, pages
   and reservations. */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

#if !defined(_WIN32)
static void elsewhere(void)
{
    TEST_SKIP("not Windows");
}

TEST_MAIN(TEST_CASE(elsewhere))
#else
    #define KIB ((size_t)1 << 10)
    #define MIB ((size_t)1 << 20)

typedef struct worker { ta_pool *pool; HANDLE go; int bad; int rounds; } worker;

/* Leaves blocks in its caches and exits. */
static DWORD WINAPI exits_with_a_cache(LPVOID user)
{
    worker *w = (worker *)user;
    int i;
    for (i = 0; i < w->rounds; i++) {
        void *small = ta_pool_alloc(w->pool, 64 + 64 * (size_t)(i % 50), NULL);
        void *large = ta_pool_alloc(w->pool, 100 * KIB, NULL);
        w->bad += small == NULL || large == NULL;
        w->bad += ta_pool_free(w->pool, small) != TA_OK || ta_pool_free(w->pool, large) != TA_OK;
    }
    return 0;
}

static void threads_of_the_system_hand_their_caches_back(void)
{
    ta_pool *pool = NULL;
    ta_stats stats;
    worker w[4];
    HANDLE threads[4];
    int i, round;
    CHECK_OK(ta_pool_create(NULL, &pool));
    for (round = 0; round < 20; round++) {
        for (i = 0; i < 4; i++) {
            memset(&w[i], 0, sizeof w[i]);
            w[i].pool = pool;
            w[i].rounds = 300;
            threads[i] = CreateThread(NULL, 0, exits_with_a_cache, &w[i], 0, NULL);
            REQUIRE(threads[i] != NULL);
        }
        for (i = 0; i < 4; i++) {
            CHECK_EQ(WaitForSingleObject(threads[i], INFINITE), WAIT_OBJECT_0);
            CHECK(CloseHandle(threads[i]));
            CHECK_EQ(w[i].bad, 0);
        }
        CHECK_OK(ta_pool_get_stats(pool, &stats));
        CHECK_EQ(stats.thread_cached_bytes, 0);
        CHECK_EQ(stats.live_count, 0);
        CHECK_OK(ta_pool_check(pool));
    }
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.reserved_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

/* A thread whose slots another thread's detach must leave alone. */
static DWORD WINAPI waits_in_between(LPVOID user)
{
    worker *w = (worker *)user;
    (void)exits_with_a_cache(w);
    SetEvent(w->go);
    Sleep(50);
    return exits_with_a_cache(w);
}

static void detach_leaves_other_threads_alone(void)
{
    ta_pool *pool = NULL;
    worker w;
    HANDLE thread;
    CHECK_OK(ta_pool_create(NULL, &pool));
    memset(&w, 0, sizeof w);
    w.pool = pool;
    w.rounds = 100;
    w.go = CreateEventA(NULL, TRUE, FALSE, NULL);
    CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, 64, NULL)));
    thread = CreateThread(NULL, 0, waits_in_between, &w, 0, NULL);
    REQUIRE(thread != NULL && w.go != NULL);
    CHECK_EQ(WaitForSingleObject(w.go, INFINITE), WAIT_OBJECT_0);
    ta_process_detach(); /* FlsFree calls the function of the key for both threads, in this one */
    CHECK_EQ(WaitForSingleObject(thread, INFINITE), WAIT_OBJECT_0);
    CHECK_EQ(w.bad, 0);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK(CloseHandle(thread) && CloseHandle(w.go));
}

/* A fiber that goes away takes the caches of the thread that deletes it along, and no more. */
static LPVOID main_fiber;
static ta_pool *fiber_pool;

static VOID CALLBACK in_a_fiber(LPVOID user)
{
    int *bad = (int *)user;
    void *ptr = ta_pool_alloc(fiber_pool, 128, NULL);
    *bad += ptr == NULL || ta_pool_free(fiber_pool, ptr) != TA_OK;
    SwitchToFiber(main_fiber);
}

static void fibers_come_and_go(void)
{
    int bad = 0, i;
    CHECK_OK(ta_pool_create(NULL, &fiber_pool));
    main_fiber = ConvertThreadToFiber(NULL);
    REQUIRE(main_fiber != NULL);
    for (i = 0; i < 50; i++) {
        LPVOID fiber = CreateFiber(0, in_a_fiber, &bad);
        void *before = ta_pool_alloc(fiber_pool, 128, NULL);
        REQUIRE(fiber != NULL && before != NULL);
        SwitchToFiber(fiber);
        CHECK_OK(ta_pool_free(fiber_pool, before));
        DeleteFiber(fiber);
        CHECK_OK(ta_pool_free(fiber_pool, ta_pool_alloc(fiber_pool, 128, NULL)));
    }
    CHECK_EQ(bad, 0);
    CHECK(ConvertFiberToThread());
    CHECK_OK(ta_pool_check(fiber_pool));
    CHECK_OK(ta_pool_destroy(fiber_pool));
}

static size_t state_of(const void *ptr, DWORD *state)
{
    MEMORY_BASIC_INFORMATION info;
    memset(&info, 0, sizeof info);
    (void)VirtualQuery(ptr, &info, sizeof info);
    *state = info.State;
    return info.RegionSize;
}

/* The host backend's ranges: aligned as asked, committed by pages, released whole. */
static void ranges_of_the_host(void)
{
    static const size_t alignments[] = {4 * KIB, 64 * KIB, 128 * KIB, 2 * MIB, 256 * MIB};
    ta_backend host = ta_backend_host();
    ta_backend_info info;
    SYSTEM_INFO system;
    size_t i, page;
    GetSystemInfo(&system);
    host.vtable->info(host.self, &info);
    page = info.granularity_bytes;
    CHECK_EQ(page, system.dwPageSize);
    for (i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        void *ptr = NULL;
        unsigned char *at;
        DWORD state = 0;
        test_context("alignment %llu", (unsigned long long)alignments[i]);
        CHECK_OK(host.vtable->reserve(host.self, 16 * MIB + page, alignments[i], 0, &ptr));
        REQUIRE(ptr != NULL);
        at = (unsigned char *)ptr;
        CHECK_EQ((uintptr_t)ptr & (alignments[i] - 1), 0);
        CHECK_GE(state_of(at, &state), 16 * MIB + page);
        CHECK_EQ(state, MEM_RESERVE);
        CHECK_OK(host.vtable->commit(host.self, at + 3 * page, 2 * page));
        CHECK_OK(host.vtable->commit(host.self, at + 4 * page, 2 * page)); /* some of it already is */
        CHECK_EQ(at[3 * page] | at[6 * page - 1], 0);
        memset(at + 3 * page, 0x5a, 3 * page);
        CHECK_OK(host.vtable->decommit(host.self, at + 4 * page, page));
        CHECK_EQ(state_of(at + 4 * page, &state), page);
        CHECK_EQ(state, MEM_RESERVE);
        CHECK_OK(host.vtable->commit(host.self, at + 4 * page, page));
        CHECK_EQ(at[4 * page] | at[5 * page - 1], 0); /* fresh pages are zero */
        CHECK_EQ(at[4 * page - 1] & at[5 * page], 0x5a);
        CHECK_OK(host.vtable->commit(host.self, at + 16 * MIB, page));
        CHECK_OK(host.vtable->release(host.self, ptr, 16 * MIB + page));
        (void)state_of(at, &state);
        CHECK_EQ(state, MEM_FREE);
    }
    test_context("%s", "");
}

/* Run as a child: threads churn in a pool that the first thread uses too; it returns from main meanwhile. */
static int end_while_threads_are_inside(void)
{
    static worker w[4];
    ta_pool *pool = NULL;
    int i;
    if (ta_pool_create(NULL, &pool) != TA_OK) {
        return 1;
    }
    for (i = 0; i < 4; i++) {
        w[i].pool = pool;
        w[i].rounds = 1 << 30;
        if (CreateThread(NULL, 0, exits_with_a_cache, &w[i], 0, NULL) == NULL) {
            return 1;
        }
    }
    for (i = 0; i < 2000; i++) {
        if (ta_pool_free(pool, ta_pool_alloc(pool, i % 2 ? 64 : 100 * KIB, NULL)) != TA_OK) {
            return 1;
        }
    }
    return 23; /* stops them wherever they are */
}

static void process_ends_while_threads_are_inside(void)
{
    char path[MAX_PATH], line[MAX_PATH + 16];
    int i;
    REQUIRE(GetModuleFileNameA(NULL, path, sizeof path) != 0);
    (void)snprintf(line, sizeof line, "\"%s\" --end", path);
    for (i = 0; i < 6; i++) {
        STARTUPINFOA startup;
        PROCESS_INFORMATION process;
        DWORD code = 0;
        memset(&startup, 0, sizeof startup);
        startup.cb = sizeof startup;
        REQUIRE(CreateProcessA(NULL, line, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &process));
        CHECK_EQ(WaitForSingleObject(process.hProcess, 30000), WAIT_OBJECT_0); /* only one that hangs meets this */
        CHECK(GetExitCodeProcess(process.hProcess, &code));
        CHECK_EQ(code, 23);
        (void)TerminateProcess(process.hProcess, 1);
        (void)CloseHandle(process.hThread);
        (void)CloseHandle(process.hProcess);
    }
}

static const test_case cases[] = {
    TEST_CASE(threads_of_the_system_hand_their_caches_back), TEST_CASE(detach_leaves_other_threads_alone),
    TEST_CASE(fibers_come_and_go), TEST_CASE(ranges_of_the_host), TEST_CASE(process_ends_while_threads_are_inside)
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--end") == 0) {
        return end_while_threads_are_inside();
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
#endif
