/* Two private copies of the library in one program: copy_a.c and copy_b.c. Each shows the calls that the test makes. */
#ifndef COPY_H
#define COPY_H

#include "tensoralloc.h"

typedef struct copy {
    ta_result (*pool_create)(const ta_pool_desc *desc, ta_pool **out);
    ta_result (*pool_destroy)(ta_pool *pool);
    void *(*pool_alloc)(ta_pool *pool, size_t size_bytes, ta_result *result);
    ta_result (*pool_free)(ta_pool *pool, void *ptr);
    ta_result (*pool_thread_flush)(ta_pool *pool);
    ta_result (*pool_get_stats)(ta_pool *pool, ta_stats *out);
    ta_result (*pool_check)(ta_pool *pool);
    void (*process_detach)(void);
} copy;

const copy *copy_a(void);
const copy *copy_b(void);

#define COPY_TABLE \
    { ta_pool_create, ta_pool_destroy, ta_pool_alloc, ta_pool_free, ta_pool_thread_flush, ta_pool_get_stats, \
      ta_pool_check, ta_process_detach }

#endif
