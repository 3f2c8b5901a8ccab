/* A small program that uses every part of the header, for the configurations of config.py. It sees the declarations
   only; the implementation is in impl.c. Compiled as C and as C++. Defines CONFIG_* say what it should find. */
#ifdef CONFIG_SYSTEM_FIRST
    #include <stdio.h>
    #include <sys/mman.h>
#endif
#ifdef TENSORALLOC_STATIC /* private copies: the implementation must be in this file */
    #include "impl.c"
#else
    #include "hooks.h"
    #include "tensoralloc.h" /* before every other header where nothing was asked for: it needs none */
#endif
#include <stdio.h>
#include <string.h>
#ifndef TENSORALLOC_NO_THREADS
    #include <pthread.h>
#endif

#define CHECK(x) \
    do { \
        if (!(x)) { \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #x); \
            return 1; \
        } \
    } while (0)

typedef struct seen {
    size_t events;
    size_t timed; /* with a time that the clock of hooks.h gives */
} seen;

static void on_event(void *user, const ta_event *event)
{
    seen *s = (seen *)user;
    s->events++;
    s->timed += event->time_ns != 0 && event->time_ns % 1000 == 0 && event->time_ns < 1000000000;
}

static int pool_works(void)
{
    static const size_t sizes[] = {1, 64, 1000, 65536, 70000, 5000000};
    unsigned char *blocks[6];
    ta_pool *pool = NULL;
    ta_result result = TA_OK;
    ta_stats stats;
    size_t i;
    CHECK(ta_version() == TENSORALLOC_VERSION);
    CHECK(ta_pool_create(NULL, &pool) == TA_OK);
    for (i = 0; i < 6; i++) {
        blocks[i] = (unsigned char *)ta_pool_alloc(pool, sizes[i], &result);
        CHECK(blocks[i] != NULL && result == TA_OK && (uintptr_t)blocks[i] % 64 == 0);
        memset(blocks[i], (int)i + 1, sizes[i]);
    }
    blocks[2] = (unsigned char *)ta_pool_realloc(pool, blocks[2], 300000, &result);
    CHECK(blocks[2] != NULL && blocks[2][0] == 3 && blocks[2][999] == 3);
    for (i = 0; i < 6; i++) {
        CHECK(blocks[i][0] == i + 1 && ta_pool_owns(pool, blocks[i]));
        CHECK(ta_pool_free(pool, blocks[i]) == TA_OK);
    }
    CHECK(ta_pool_get_stats(pool, &stats) == TA_OK);
    CHECK(stats.live_count == 0 && stats.in_use_bytes == 0 && stats.reserved_bytes == stats.cached_bytes);
    CHECK(stats.allocation_count >= 6 && stats.allocation_count == stats.deallocation_count);
    CHECK(ta_pool_check(pool) == TA_OK);
    CHECK(ta_pool_destroy(pool) == TA_OK);
    return 0;
}

static int failures_are_told(void)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_result result = TA_OK;
    ta_failure failure;
    char text[256];
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 1 << 20;
    CHECK(ta_pool_create(&desc, &pool) == TA_OK);
    CHECK(ta_pool_alloc(pool, 2 << 20, &result) == NULL && result == TA_ERROR_LIMIT);
    CHECK(ta_pool_get_failure(pool, &failure) == TA_OK && failure.requested_bytes == 2 << 20);
    CHECK(ta_failure_report(&failure, text, sizeof text) > 0 && text[0] != 0);
    CHECK(ta_pool_destroy(pool) == TA_OK);
    return 0;
}

static int events_are_told(seen *s)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    memset(&desc, 0, sizeof desc);
    desc.on_event = on_event;
    desc.on_event_user = s;
    CHECK(ta_pool_create(&desc, &pool) == TA_OK);
    CHECK(ta_pool_free(pool, ta_pool_alloc(pool, 100, NULL)) == TA_OK);
    CHECK(s->events >= 2);
    CHECK(ta_pool_destroy(pool) == TA_OK);
    return 0;
}

static int arena_works(void)
{
    ta_arena *arena = NULL;
    ta_arena_mark mark;
    char *first, *second;
    CHECK(ta_arena_create(NULL, &arena) == TA_OK);
    first = (char *)ta_arena_alloc(arena, 1000, NULL);
    CHECK(first != NULL);
    memset(first, 7, 1000);
    mark = ta_arena_get_mark(arena);
    second = (char *)ta_arena_alloc_aligned(arena, 100000, 4096, NULL);
    CHECK(second != NULL && (uintptr_t)second % 4096 == 0);
    memset(second, 8, 100000);
    CHECK(ta_arena_rewind(arena, mark) == TA_OK);
    CHECK(first[0] == 7 && first[999] == 7);
    CHECK(ta_arena_reset(arena, TA_UNLIMITED) == TA_OK);
    CHECK(ta_arena_destroy(arena) == TA_OK);
    return 0;
}

static int tensor_works(ta_allocator allocator)
{
    const int64_t dims[3] = {2, 3, 4}, last[3] = {1, 2, 3};
    ta_tensor tensor;
    float *x;
    CHECK(ta_tensor_create(allocator, TA_F32, dims, 3, 0, 0, &tensor) == TA_OK);
    CHECK(tensor.buffer.size_bytes == 24 * sizeof(float) && ta_tensor_is_contiguous(&tensor));
    x = (float *)ta_tensor_at(&tensor, last);
    CHECK(x == (float *)tensor.buffer.data + 23);
    *x = 1;
    CHECK(ta_tensor_destroy(&tensor, 0) == TA_OK);
    return 0;
}

static int tensors_work(void)
{
    ta_pool *pool = NULL;
    ta_direct *direct = NULL;
    char text[2000];
    CHECK(ta_pool_create(NULL, &pool) == TA_OK && ta_direct_create(NULL, &direct) == TA_OK);
    CHECK(tensor_works(ta_pool_allocator(pool)) == 0);
    CHECK(tensor_works(ta_direct_allocator(direct)) == 0);
    CHECK(ta_report(ta_pool_allocator(pool), text, sizeof text) > 0 && text[0] != 0);
    CHECK(ta_direct_destroy(direct) == TA_OK && ta_pool_destroy(pool) == TA_OK);
    return 0;
}

#ifndef TENSORALLOC_NO_THREADS
static void *churn(void *user)
{
    ta_pool *pool = (ta_pool *)user;
    size_t i;
    for (i = 0; i < 2000; i++) {
        void *small = ta_pool_alloc(pool, 64 + i % 5000, NULL), *large = ta_pool_alloc(pool, 70000 + 64 * i, NULL);
        if (small == NULL || large == NULL || ta_pool_free(pool, small) != TA_OK || ta_pool_free(pool, large) != TA_OK) {
            return user;
        }
    }
    return NULL;
}

static int threads_work(void)
{
    ta_pool *pool = NULL;
    pthread_t threads[2];
    void *failed[2];
    ta_stats stats;
    int i;
    CHECK(ta_pool_create(NULL, &pool) == TA_OK);
    for (i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, pool) == 0);
    }
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], &failed[i]) == 0 && failed[i] == NULL);
    }
    CHECK(ta_pool_get_stats(pool, &stats) == TA_OK && stats.live_count == 0 && stats.allocation_count == 8000);
    CHECK(ta_pool_check(pool) == TA_OK && ta_pool_destroy(pool) == TA_OK);
    return 0;
}
#else
static int threads_work(void)
{
    return 0;
}
#endif

/* Bad arguments are answered at every level of TENSORALLOC_DEBUG; an assert that returns shows that it was asked. */
static int bad_arguments_are_answered(void)
{
#if !defined(TENSORALLOC_DEBUG) || defined(CONFIG_HOOK_ASSERT) /* a real assert would end this program */
    ta_pool *pool = NULL;
    ta_result result = TA_OK;
    size_t asserted[4];
    CHECK(ta_pool_create(NULL, &pool) == TA_OK);
    asserted[0] = config_get_counts().failed_asserts;
    CHECK(ta_pool_alloc(pool, 0, &result) == NULL && result == TA_ERROR_INVALID_SIZE);
    asserted[1] = config_get_counts().failed_asserts;
    CHECK(ta_pool_alloc_aligned(pool, 64, 3, &result) == NULL && result == TA_ERROR_INVALID_ALIGNMENT);
    asserted[2] = config_get_counts().failed_asserts;
    CHECK(ta_pool_create(NULL, NULL) == TA_ERROR_INVALID_ARGUMENT);
    asserted[3] = config_get_counts().failed_asserts;
    CHECK(ta_pool_destroy(pool) == TA_OK);
    CHECK(asserted[0] == 0); /* nothing before was a bad argument */
    #if defined(TENSORALLOC_DEBUG) && TENSORALLOC_DEBUG >= 1
    CHECK(asserted[1] > asserted[0] && asserted[2] > asserted[1] && asserted[3] > asserted[2]);
    #else
    CHECK(asserted[3] == 0);
    #endif
#endif
    return 0;
}

/* A tensor that grows; its time is that of the wall clock. */
static int tensors_grow(void)
{
    int64_t least = 1, now = 1000, most = 1 << 20;
    ta_shape_bounds bounds;
    ta_dynamic *dynamic = NULL;
    ta_handle handle;
    ta_handle_info info;
    float *data;
    CHECK(ta_dynamic_create(NULL, &dynamic) == TA_OK);
    CHECK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &now, &most) == TA_OK);
    CHECK(ta_dynamic_alloc(dynamic, &bounds, &handle) == TA_OK);
    data = (float *)ta_dynamic_get_data(dynamic, handle);
    CHECK(data != NULL);
    data[999] = 1;
    now = 100000;
    CHECK(ta_dynamic_resize(dynamic, handle, &now, 1) == TA_OK);
    data = (float *)ta_dynamic_get_data(dynamic, handle);
    CHECK(data != NULL && data[999] > 0);
    data[99999] = 1;
    CHECK(ta_dynamic_get_handle(dynamic, handle, &info) == TA_OK);
#ifdef CONFIG_HOOK_WALL_CLOCK
    CHECK(info.allocation_time_ns == 12345);
#endif
    CHECK(ta_dynamic_free(dynamic, handle) == TA_OK && ta_dynamic_destroy(dynamic) == TA_OK);
    return 0;
}

/* What a double free and an overrun are answered. */
static int misuse_is_answered(void)
{
    ta_pool *pool = NULL;
    char *block;
    CHECK(ta_pool_create(NULL, &pool) == TA_OK);
    block = (char *)ta_pool_alloc(pool, 100, NULL);
    CHECK(block != NULL && ta_pool_free(pool, block) == TA_OK);
    CHECK(ta_pool_free(pool, block) == TA_ERROR_STALE);
#ifdef TENSORALLOC_CHECKED
    block = (char *)ta_pool_alloc(pool, 100, NULL);
    CHECK(block != NULL);
    block[100] = 0;
    CHECK(ta_pool_free(pool, block) == TA_ERROR_OVERRUN && ta_pool_destroy(pool) == TA_ERROR_OVERRUN);
#else
    CHECK(ta_pool_destroy(pool) == TA_OK);
#endif
    return 0;
}

/* Device memory: where there is a driver it works, elsewhere the answer is clean. */
static int devices_are_answered(void)
{
    ta_cuda *cuda = NULL;
#ifndef CONFIG_NO_DRIVER /* linked with one that is not there: nothing may be called */
    ta_result result = ta_cuda_create(NULL, &cuda, NULL);
    #if defined(TENSORALLOC_CUDA) || defined(TENSORALLOC_TORCH)
    CHECK(result == TA_OK || result == TA_ERROR_UNAVAILABLE || result == TA_ERROR_BACKEND);
    #else
    CHECK(result == TA_ERROR_UNAVAILABLE || result == TA_ERROR_UNSUPPORTED);
    #endif
#endif
    CHECK(ta_cuda_destroy(cuda) == TA_OK);
    return 0;
}

static int hooks_were_used(const seen *s)
{
    config_counts count = config_get_counts();
    (void)s;
    (void)count;
#ifdef CONFIG_HOOK_MALLOC
    #ifdef TENSORALLOC_CHECKED /* some objects stay, so that their use after destroy is found */
    CHECK(count.mallocs > count.frees && count.mallocs - count.frees <= 64);
    #else
    CHECK(count.mallocs > 0 && count.mallocs == count.frees);
    #endif
#endif
#if defined(CONFIG_HOOK_LOCK) && !defined(TENSORALLOC_NO_THREADS)
    CHECK(count.locks > 0 && count.locks == count.unlocks);
#endif
#if defined(CONFIG_HOOK_ATOMICS) && !defined(TENSORALLOC_NO_THREADS)
    CHECK(count.atomics > 0);
#endif
#ifdef CONFIG_HOOK_CLOCK
    CHECK(count.clocks > 0 && s->timed == s->events);
#endif
#ifdef CONFIG_HOOK_LOG
    CHECK(count.logs > 0);
#endif
#if defined(CONFIG_HOOK_TRAP) && defined(TENSORALLOC_CHECKED)
    CHECK(count.traps > 0);
#elif defined(CONFIG_HOOK_TRAP)
    CHECK(count.traps == 0);
#endif
#ifdef CONFIG_HOOK_WALL_CLOCK
    CHECK(count.wall_clocks > 0);
#endif
    return 0;
}

int main(void)
{
    seen s = {0, 0};
    int failed = pool_works() + failures_are_told() + events_are_told(&s) + arena_works() + tensors_work() +
                 threads_work() + tensors_grow() + bad_arguments_are_answered() + devices_are_answered() +
                 misuse_is_answered();
    ta_process_detach();
    return failed + hooks_were_used(&s) != 0;
}
