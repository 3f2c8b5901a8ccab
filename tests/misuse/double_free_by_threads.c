/* double_free_by_threads.c - two threads free one block, one after the other.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"
#include <pthread.h>

static struct {
    ta_pool *pool;
    char *block;
    ta_result result;
} shared;

static void *free_it(void *argument)
{
    shared.result = ta_pool_free(shared.pool, shared.block);
    return argument;
}

int main(void)
{
    ta_pool *pool = new_pool();
    pthread_t thread;
    shared.pool = pool;
    shared.block = new_block(pool, 100);
    NEED(pthread_create(&thread, NULL, free_it, NULL) == 0 && pthread_join(thread, NULL) == 0);
    NEED(shared.result == TA_OK);
    BUG(ta_pool_free(pool, shared.block));
    SOUND(pool);
    return 0;
}
