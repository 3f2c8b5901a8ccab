/* The override macros of the header, each chosen by a CONFIG_HOOK_* define and each counting its uses. */
#ifndef CONFIG_HOOKS_H
#define CONFIG_HOOKS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct config_counts {
    size_t mallocs, frees, locks, unlocks, atomics, clocks, wall_clocks, logs, traps, asserts, failed_asserts;
} config_counts;

/* Counts of the implementation under test so far. */
config_counts config_get_counts(void);

#ifdef CONFIG_HOOK_MALLOC
void *config_malloc(size_t size);
void config_free(void *ptr);
    #define TENSORALLOC_MALLOC(size) config_malloc(size)
    #define TENSORALLOC_FREE(ptr) config_free(ptr)
#endif

#ifdef CONFIG_HOOK_LOCK
    #include <pthread.h>
void config_lock_init(pthread_mutex_t *lock);
void config_lock_acquire(pthread_mutex_t *lock);
void config_lock_release(pthread_mutex_t *lock);
    #define TENSORALLOC_LOCK_TYPE pthread_mutex_t
    #define TENSORALLOC_LOCK_INIT(l) config_lock_init(l)
    #define TENSORALLOC_LOCK_ACQUIRE(l) config_lock_acquire(l)
    #define TENSORALLOC_LOCK_RELEASE(l) config_lock_release(l)
#endif

#ifdef CONFIG_HOOK_ATOMICS
void config_atomic_used(void);
    #define TENSORALLOC_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define TENSORALLOC_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define TENSORALLOC_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define TENSORALLOC_STORE_RELEASE(p, v) (config_atomic_used(), __atomic_store_n((p), (v), __ATOMIC_SEQ_CST))
    #define TENSORALLOC_EXCHANGE32(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #define TENSORALLOC_ADD32(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
    #define TENSORALLOC_CAS32(p, expected, desired) \
        __atomic_compare_exchange_n((p), (expected), (desired), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    #define TENSORALLOC_CASZ(p, expected, desired) TENSORALLOC_CAS32(p, expected, desired)
    #define TENSORALLOC_COMPILER_BARRIER() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

#ifdef CONFIG_HOOK_CLOCK
uint64_t config_clock(void);
    #define TENSORALLOC_CLOCK_NS() config_clock()
#endif

#ifdef CONFIG_HOOK_WALL_CLOCK
uint64_t config_wall_clock(void);
    #define TENSORALLOC_WALL_CLOCK_NS() config_wall_clock()
#endif

#ifdef CONFIG_HOOK_TRAP
void config_trap(int result);
    #define TENSORALLOC_TRAP(result) config_trap((int)(result))
#endif

#ifdef CONFIG_HOOK_LOG
void config_log(int result, const char *text);
    #define TENSORALLOC_LOG(result, text) config_log((int)(result), (text))
#endif

#ifdef CONFIG_HOOK_ASSERT
void config_assert(int holds);
    #define TENSORALLOC_ASSERT(x) config_assert((x) ? 1 : 0)
#endif

#ifdef CONFIG_HOOK_THREAD_LOCAL
    #if defined(__cplusplus)
        #define TENSORALLOC_THREAD_LOCAL thread_local
    #elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
        #define TENSORALLOC_THREAD_LOCAL _Thread_local
    #else
        #define TENSORALLOC_THREAD_LOCAL __thread
    #endif
#endif

#ifdef __cplusplus
}
#endif
#endif
