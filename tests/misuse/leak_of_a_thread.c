/* leak_of_a_thread.c - a thread leaves a block behind.
   checked: TA_ERROR_LEAK
   release: TA_OK */
#include "misuse.h"
#include <pthread.h>

static void *leave_one(void *pool)
{
    (void)new_block((ta_pool *)pool, 100);
    return NULL;
}

int main(void)
{
    ta_pool *pool = new_pool();
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, leave_one, pool) == 0 && pthread_join(thread, NULL) == 0);
    SOUND(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
