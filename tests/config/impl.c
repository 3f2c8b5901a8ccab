/* The implementation under test, with the hooks of hooks.h. Compiled as C and as C++. */
#ifdef CONFIG_SYSTEM_FIRST /* under -std=c99 these hide MAP_ANONYMOUS and madvise before the header comes */
    #include <stdio.h>
    #include <sys/mman.h>
#endif
#include "hooks.h"

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

static config_counts config_count;

#if defined(CONFIG_HOOK_MALLOC) || defined(CONFIG_HOOK_LOCK) || defined(CONFIG_HOOK_ATOMICS) || \
    defined(CONFIG_HOOK_CLOCK) || defined(CONFIG_HOOK_LOG) || defined(CONFIG_HOOK_ASSERT) || \
    defined(CONFIG_HOOK_WALL_CLOCK) || defined(CONFIG_HOOK_TRAP)
    #define CONFIG_COUNT(field) __atomic_fetch_add(&config_count.field, 1, __ATOMIC_RELAXED)
#endif


config_counts config_get_counts(void)
{
    return config_count;
}

#ifdef CONFIG_HOOK_MALLOC
void *config_malloc(size_t size)
{
    CONFIG_COUNT(mallocs);
    return malloc(size);
}

void config_free(void *ptr)
{
    if (ptr != NULL) {
        CONFIG_COUNT(frees);
    }
    free(ptr);
}
#endif

#ifdef CONFIG_HOOK_LOCK
void config_lock_init(pthread_mutex_t *lock)
{
    (void)pthread_mutex_init(lock, NULL);
}

void config_lock_acquire(pthread_mutex_t *lock)
{
    (void)pthread_mutex_lock(lock);
    CONFIG_COUNT(locks);
}

void config_lock_release(pthread_mutex_t *lock)
{
    CONFIG_COUNT(unlocks);
    (void)pthread_mutex_unlock(lock);
}
#endif

#ifdef CONFIG_HOOK_ATOMICS
void config_atomic_used(void)
{
    CONFIG_COUNT(atomics);
}
#endif

#ifdef CONFIG_HOOK_CLOCK
uint64_t config_clock(void)
{
    return 1000 * (uint64_t)(CONFIG_COUNT(clocks) + 1); /* small and round: no real clock says this */
}
#endif

#ifdef CONFIG_HOOK_WALL_CLOCK
uint64_t config_wall_clock(void)
{
    CONFIG_COUNT(wall_clocks);
    return 12345;
}
#endif

#ifdef CONFIG_HOOK_TRAP
void config_trap(int result)
{
    if (result != 0) {
        CONFIG_COUNT(traps);
    }
}
#endif

#ifdef CONFIG_HOOK_LOG
void config_log(int result, const char *text)
{
    if (result != 0 && text != NULL) {
        CONFIG_COUNT(logs);
    }
}
#endif

#ifdef CONFIG_HOOK_ASSERT
void config_assert(int holds)
{
    CONFIG_COUNT(asserts);
    if (!holds) {
        CONFIG_COUNT(failed_asserts);
    }
}
#endif
