/* test_system.c - what is below the header misbehaves: each call of the system fails in turn, the system says nothing of
   itself, and other threads are always faster (atomics lose against others that are not there). Needs mmap. */
#include "test.h"

#if defined(__x86_64__) || defined(__i386__)
    #include <cpuid.h>
    #define HAS_CPUID 1
#endif
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef enum system_call {
    SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MADVISE, SYS_SYSCONF, SYS_GETRLIMIT, SYS_CLOCK, SYS_MEMBARRIER,
    SYS_KEY_CREATE, SYS_KEY_SET, SYS_CPUID, SYS_COUNT
} system_call;

static const char *const call_names[] = {
    "mmap", "mprotect", "munmap", "madvise", "sysconf", "getrlimit", "clock_gettime", "membarrier",
    "pthread_key_create", "pthread_setspecific", "cpuid"
};

static struct {
    uint64_t calls[SYS_COUNT];
    uint64_t fail_at[SYS_COUNT]; /* that call, counted from 1; 0: none */
    int always[SYS_COUNT];
    uint64_t fired;
    long pages;                  /* if not 0: what _SC_PHYS_PAGES says */
    size_t address_limit;        /* if not 0: RLIMIT_AS */
    size_t mapped;               /* by mmap and not given back */
    unsigned unlucky;            /* every so many atomic exchanges are lost to others; 0: none */
    unsigned exchanges;
} sys;

static int fails(system_call call)
{
    int now = sys.always[call] || ++sys.calls[call] == sys.fail_at[call];
    sys.fired += (uint64_t)now;
    return now;
}

static void *sys_mmap(void *addr, size_t size, int protection, int flags, int file, off_t offset)
{
    void *ptr = fails(SYS_MMAP) ? MAP_FAILED : mmap(addr, size, protection, flags, file, offset);
    sys.mapped += ptr != MAP_FAILED ? size : 0;
    return ptr;
}

static int sys_mprotect(void *ptr, size_t size, int protection)
{
    return fails(SYS_MPROTECT) ? -1 : mprotect(ptr, size, protection);
}

static int sys_munmap(void *ptr, size_t size)
{
    if (fails(SYS_MUNMAP)) {
        return -1;
    }
    sys.mapped -= size;
    return munmap(ptr, size);
}

static int sys_madvise(void *ptr, size_t size, int advice)
{
    return fails(SYS_MADVISE) ? -1 : madvise(ptr, size, advice);
}

static long sys_sysconf(int what)
{
    return fails(SYS_SYSCONF) ? -1 : what == _SC_PHYS_PAGES && sys.pages != 0 ? sys.pages : sysconf(what);
}

static int sys_getrlimit(int what, struct rlimit *limit)
{
    int result = fails(SYS_GETRLIMIT) ? -1 : getrlimit(RLIMIT_AS, limit);
    if (what == (int)RLIMIT_AS && sys.address_limit != 0) {
        limit->rlim_cur = (rlim_t)sys.address_limit;
    }
    return result;
}

static int sys_clock_gettime(clockid_t clock, struct timespec *out)
{
    return fails(SYS_CLOCK) ? -1 : clock_gettime(clock, out);
}

static long sys_syscall(long number, ...)
{
    va_list arguments;
    long first;
    va_start(arguments, number);
    first = va_arg(arguments, int);
    va_end(arguments);
    return fails(SYS_MEMBARRIER) ? -1 : syscall(number, (int)first, 0, 0);
}

static int sys_key_create(pthread_key_t *key, void (*on_exit)(void *))
{
    return fails(SYS_KEY_CREATE) ? -1 : pthread_key_create(key, on_exit);
}

static int sys_key_set(pthread_key_t key, const void *value)
{
    return fails(SYS_KEY_SET) ? -1 : pthread_setspecific(key, value);
}

#ifdef HAS_CPUID
static int sys_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d)
{
    if (fails(SYS_CPUID)) {
        *d = 0;
        return sys.always[SYS_CPUID] > 1; /* it answers, and says that ticks change their pace */
    }
    return __get_cpuid(leaf, a, b, c, d);
}
    #define __get_cpuid sys_cpuid
#endif

static int is_unlucky(void)
{
    return sys.unlucky != 0 && ++sys.exchanges % sys.unlucky == 0;
}

static uint32_t exchange32(uint32_t *p, uint32_t value)
{
    return is_unlucky() ? 1u : __atomic_exchange_n(p, value, __ATOMIC_ACQ_REL); /* it was taken, and is free again */
}

/* States change once: who loses looks at the state of the winner, which must be there. */
static int cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static int casz(size_t *p, size_t *expected, size_t desired)
{
    return !is_unlucky() && __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

#define TENSORALLOC_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define TENSORALLOC_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define TENSORALLOC_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define TENSORALLOC_STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define TENSORALLOC_EXCHANGE32(p, v) exchange32((p), (v))
#define TENSORALLOC_CAS32(p, expected, desired) cas32((p), (expected), (desired))
#define TENSORALLOC_CASZ(p, expected, desired) casz((p), (expected), (desired))
#define TENSORALLOC_COMPILER_BARRIER() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#define mmap sys_mmap
#define mprotect sys_mprotect
#define munmap sys_munmap
#define madvise sys_madvise
#define sysconf sys_sysconf
#define getrlimit(what, limit) sys_getrlimit((int)(what), (limit))
#define clock_gettime sys_clock_gettime
#define syscall sys_syscall
#define pthread_key_create sys_key_create
#define pthread_setspecific sys_key_set
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static void well(void)
{
    memset(&sys.fail_at, 0, sizeof sys.fail_at);
    memset(&sys.always, 0, sizeof sys.always);
    memset(&sys.calls, 0, sizeof sys.calls);
    sys.fired = 0;
    sys.pages = 0;
    sys.address_limit = 0;
    sys.unlucky = 0;
    test_context("%s", "");
}

#define EDGE ((size_t)4 * 1024)

/* Of large blocks both ends are enough. */
static void fill(unsigned char *ptr, size_t size)
{
    memset(ptr, 0x5a, size < EDGE ? size : EDGE);
    memset(ptr + size - (size < EDGE ? size : EDGE), 0x5a, size < EDGE ? size : EDGE);
}

static int is_full(const unsigned char *ptr, size_t size)
{
    size_t i;
    for (i = 0; i < size && i < EDGE && ptr[i] == 0x5a && ptr[size - 1 - i] == 0x5a; i++) {
    }
    return i == size || i == EDGE;
}

/* Allocates if it can, and looks at what it got; the result must be one that is said of a system that fails. */
static void *take(ta_pool *pool, size_t size, size_t alignment)
{
    ta_result result = TA_ERROR_CORRUPT;
    unsigned char *ptr = (unsigned char *)ta_pool_alloc_aligned(pool, size, alignment, &result);
    if (ptr != NULL) {
        CHECK_OK(result);
        CHECK_EQ((uintptr_t)ptr % alignment, 0);
        fill(ptr, size);
    } else {
        CHECK(result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_RECORDS || result == TA_ERROR_BACKEND ||
              result == TA_ERROR_FRAGMENTED);
    }
    return ptr;
}

static void use_pool(int disable_ranges)
{
    static const size_t sizes[] = {100, 3000, 70 * KIB, 5 * MIB, 200, 64 * KIB, 20 * MIB, 1};
    void *ptr[8];
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_result result;
    size_t i, released;
    memset(&desc, 0, sizeof desc);
    desc.disable_ranges = disable_ranges;
    desc.range_bytes = 64 * MIB;
    desc.block_count_max = 4096;
    result = ta_pool_create(&desc, &pool);
    if (pool == NULL) {
        CHECK(result != TA_OK);
        return;
    }
    CHECK_OK(result);
    for (i = 0; i < 8; i++) {
        ptr[i] = take(pool, sizes[i], i == 3 ? 64 * KIB : 64);
    }
    CHECK_OK(ta_pool_check(pool));
    for (i = 0; i < 8; i += 2) {
        CHECK_OK(ta_pool_free(pool, ptr[i]));
    }
    (void)ta_pool_trim(pool, 0, &released);
    CHECK_OK(ta_pool_check(pool));
    for (i = 0; i < 8; i += 2) {
        ptr[i] = take(pool, 2 * sizes[i], 64);
    }
    for (i = 0; i < 8; i++) {
        CHECK(ptr[i] == NULL || is_full((unsigned char *)ptr[i], i % 2 == 0 ? 2 * sizes[i] : sizes[i]));
        CHECK_OK(ta_pool_free(pool, ptr[i]));
    }
    (void)ta_pool_empty_cache(pool);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

static void use_others(void)
{
    ta_trace *trace = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic = NULL;
    ta_result result;
    if (ta_trace_create(NULL, &trace) == TA_OK) {
        CHECK_OK(ta_trace_step(trace));
        CHECK_OK(ta_trace_destroy(trace));
    }
    if (ta_arena_create(NULL, &arena) == TA_OK) {
        void *ptr = ta_arena_alloc(arena, 3 * MIB, &result);
        CHECK((ptr != NULL) == (result == TA_OK));
        (void)ta_arena_reset(arena, 0);
        CHECK_OK(ta_arena_destroy(arena));
    }
    if (ta_direct_create(NULL, &direct) == TA_OK) {
        ta_request request;
        memset(&request, 0, sizeof request);
        request.size_bytes = 100 * KIB;
        (void)ta_allocator_free(ta_direct_allocator(direct), ta_allocator_alloc(ta_direct_allocator(direct), &request, &result),
                                request.size_bytes, 0, 0);
        (void)ta_direct_destroy(direct);
    }
    if (ta_dynamic_create(NULL, &dynamic) == TA_OK) {
        int64_t least = 1, now = 1000, most = 4000000;
        ta_shape_bounds bounds;
        ta_handle handle;
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &now, &most));
        if (ta_dynamic_alloc(dynamic, &bounds, &handle) == TA_OK) {
            (void)ta_dynamic_resize(dynamic, handle, &most, 1);
            (void)ta_dynamic_resize(dynamic, handle, &least, 1);
            CHECK_OK(ta_dynamic_free(dynamic, handle));
        }
        (void)ta_dynamic_destroy(dynamic);
    }
}

static void use_all(void)
{
    use_pool(0);
    use_pool(1);
    use_others();
}

/* As a process that begins. A thread key that could not be had is not asked for again: here it is. */
static void detach(void)
{
    ta_process_detach();
    tai_thread_key_state = 0;
}

/* What the process keeps is there from now on. */
static size_t warm_up(void)
{
    well();
    use_all();
    detach();
    return sys.mapped;
}

static void calls_fail_one_by_one(void)
{
    size_t mapped = warm_up();
    int call;
    for (call = 0; call < SYS_COUNT; call++) {
        uint64_t n = 1, fired;
        do {
            well();
            test_context("%s fails the %llu. time", call_names[call], (unsigned long long)n);
            sys.fail_at[call] = n;
            use_all();
            detach();
            fired = sys.fired;
            if (call != SYS_MUNMAP) {
                CHECK_EQ(sys.mapped, mapped);
            }
            mapped = sys.mapped; /* what could not be given back stays */
            n += 1 + n / 8; /* every one of the first, and some of the later ones */
        } while (fired != 0);
        CHECK(n > 2 || call == SYS_CPUID || call == SYS_CLOCK);
    }
    well();
    use_all();
    detach();
    CHECK_EQ(sys.mapped, mapped);
}

static void each_call_fails_always(void)
{
    size_t mapped = warm_up();
    int call;
    for (call = 0; call < SYS_COUNT; call++) {
        well();
        test_context("%s fails always", call_names[call]);
        sys.always[call] = 1;
        use_all();
        detach();
        CHECK_GT(sys.fired + (call == SYS_CPUID || call == SYS_CLOCK), 0);
        if (call != SYS_MUNMAP) {
            CHECK_EQ(sys.mapped, mapped);
        }
        mapped = sys.mapped;
    }
    well();
}

static void a_system_that_says_nothing_of_itself(void)
{
    size_t all = 0, left = 0;
    ta_backend host = ta_backend_host();
    well();
    CHECK_OK(host.vtable->memory_info(host.self, &left, &all));
    CHECK_GT(all, left);
    CHECK_GT(left, 0);
    sys.always[SYS_SYSCONF] = 1;
    CHECK_EQ(tai_page_bytes(), 4096);
    CHECK_OK(host.vtable->memory_info(host.self, &left, &all));
    CHECK_EQ(all, sizeof(size_t) > 4 ? (uint64_t)1 << 33 : (uint64_t)1 << 30);
    CHECK_EQ(left, TA_UNLIMITED); /* unknown */
    use_all();
    well();
    sys.pages = sizeof(long) > 4 ? (long)((uint64_t)1 << 60) : 0x7fffffff; /* more than addresses can tell */
    CHECK_OK(host.vtable->memory_info(host.self, &left, &all));
    CHECK_EQ(all, SIZE_MAX / 2);
    well();
    sys.always[SYS_GETRLIMIT] = 1;
    CHECK_EQ(tai_address_limit_bytes(), TA_UNLIMITED);
    well();
    sys.address_limit = 1 << 30;
    CHECK_EQ(tai_address_limit_bytes(), (size_t)1 << 30);
    use_all();
    well();
}

static void time_is_told_or_is_zero(void)
{
    ta_trace *trace = NULL;
    uint64_t before;
    well();
    before = tai_clock_ns();
    CHECK_GE(tai_clock_ns(), before);
    sys.always[SYS_CLOCK] = 1;
    CHECK_EQ(tai_clock_ns(), 0);
    well();
    CHECK(tai_ticks_known() == 0 || tai_ticks_known() == 1);
    for (sys.always[SYS_CPUID] = 1; sys.always[SYS_CPUID] <= 2; sys.always[SYS_CPUID]++) { /* no answer; ticks that vary */
        CHECK_EQ(tai_ticks_known(), 0);
        before = tai_clock_ns();
        CHECK_GE(tai_ticks(0), before); /* ns then */
        CHECK_OK(ta_trace_create(NULL, &trace));
        CHECK_OK(ta_trace_step(trace));
        CHECK_OK(ta_trace_destroy(trace));
    }
    well();
}

static void others_are_faster(void)
{
    unsigned every;
    for (every = 2; every <= 7; every++) {
        ta_budget_desc desc;
        ta_budget *budget = NULL;
        ta_pool_desc pool_desc;
        ta_pool *pools[3] = {NULL, NULL, NULL};
        ta_budget_stats stats;
        ta_trace *trace = NULL;
        ta_trace_stats traced;
        void *ptr;
        int i, k;
        well();
        test_context("every %u. exchange is lost", every);
        sys.unlucky = every;
        memset(&desc, 0, sizeof desc);
        memset(&pool_desc, 0, sizeof pool_desc);
        desc.limit_bytes = 8 * MIB;
        CHECK_OK(ta_budget_create(&desc, &budget));
        CHECK_OK(ta_trace_create(NULL, &trace));
        pool_desc.budget = budget;
        pool_desc.range_bytes = 16 * MIB;
        pool_desc.on_event = ta_trace_event;
        pool_desc.on_event_user = trace;
        for (i = 0; i < 3; i++) {
            CHECK_OK(ta_pool_create(&pool_desc, &pools[i]));
            pool_desc.on_event = NULL;
        }
        for (k = 0; k < 40; k++) { /* each takes what the one before caches */
            ta_result result;
            ptr = ta_pool_alloc(pools[k % 3], 7 * MIB, &result);
            CHECK_OK(result);
            CHECK_OK(ta_pool_free(pools[k % 3], ptr));
            ptr = ta_pool_alloc(pools[k % 3], 1000, &result);
            CHECK_OK(result);
            CHECK_OK(ta_pool_free(pools[k % 3], ptr));
            CHECK_OK(ta_pool_check(pools[k % 3]));
        }
        CHECK_OK(ta_budget_get_stats(budget, &stats));
        CHECK_LE(stats.reserved_bytes, desc.limit_bytes);
        CHECK_LE(stats.peak_reserved_bytes, desc.limit_bytes);
        CHECK_EQ(stats.allocator_count, 3);
        CHECK_OK(ta_trace_get_stats(trace, &traced));
        CHECK_GT(traced.event_count, 0);
        for (i = 0; i < 3; i++) {
            CHECK_OK(ta_pool_destroy(pools[i]));
        }
        CHECK_OK(ta_budget_get_stats(budget, &stats));
        CHECK_EQ(stats.reserved_bytes, 0);
        CHECK_OK(ta_budget_destroy(budget));
        CHECK_OK(ta_trace_destroy(trace));
        use_all();
    }
    well();
}

TEST_MAIN(TEST_CASE(calls_fail_one_by_one), TEST_CASE(each_call_fails_always),
          TEST_CASE(a_system_that_says_nothing_of_itself), TEST_CASE(time_is_told_or_is_zero),
          TEST_CASE(others_are_faster))
