/* misuse.h - what the programs of this folder share. Each has one bug; its first comment says what it is and what the
   header must answer, in a checked build and in a release build:
     checked: RESULT   the answer of the call marked with BUG, which the log must have told too
     release: RESULT   the same; "undefined": documented so, and not run
     says: TEXT        what the report must contain (optional)
     also: RESULT      what else checked builds tell (optional)
   BUG prints the answer. SOUND prints "sound" if the rest still works. The programs see declarations only: one object
   serves every build. */
#ifndef MISUSE_H
#define MISUSE_H

#include "tensoralloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *misuse_name(ta_result result)
{
    static const char *const names[] = {
#define MISUSE_NAME(name, text) #name,
        TA_RESULT_LIST(MISUSE_NAME)
#undef MISUSE_NAME
    };
    return result < TA_RESULT_COUNT ? names[result] : "nonsense";
}

#define BUG(call) (printf("answer %s\n", misuse_name(call)), (void)fflush(stdout))
#define NEED(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: not %s\n", __LINE__, #condition); \
            exit(3); \
        } \
    } while (0)

/* The pool still works, as far as it can tell. */
#define SOUND(pool) \
    do { \
        char *sound = (char *)ta_pool_alloc((pool), 3000, NULL); \
        NEED(sound != NULL); \
        memset(sound, 1, 3000); \
        NEED(ta_pool_free((pool), sound) == TA_OK); \
        NEED(ta_pool_check(pool) == TA_OK || MISUSE_CHECKED); \
        printf("sound\n"); \
    } while (0)

extern const int misuse_checked;
#define MISUSE_CHECKED misuse_checked

static inline ta_pool *new_pool(void)
{
    ta_pool *pool = NULL;
    NEED(ta_pool_create(NULL, &pool) == TA_OK);
    return pool;
}

static inline char *new_block(ta_pool *pool, size_t size)
{
    char *block = (char *)ta_pool_alloc(pool, size, NULL);
    NEED(block != NULL);
    memset(block, 1, size);
    return block;
}

static inline ta_arena *new_arena(void)
{
    ta_arena *arena = NULL;
    NEED(ta_arena_create(NULL, &arena) == TA_OK);
    return arena;
}

static inline char *new_arena_block(ta_arena *arena, size_t size)
{
    char *block = (char *)ta_arena_alloc(arena, size, NULL);
    NEED(block != NULL);
    memset(block, 1, size);
    return block;
}

static inline ta_direct *new_direct(void)
{
    ta_direct *direct = NULL;
    NEED(ta_direct_create(NULL, &direct) == TA_OK);
    return direct;
}

static inline char *new_direct_block(ta_direct *direct, size_t size)
{
    ta_request request;
    char *block;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.tag = "direct block";
    block = (char *)ta_allocator_alloc(ta_direct_allocator(direct), &request, NULL);
    NEED(block != NULL);
    memset(block, 1, size);
    return block;
}

static inline ta_dynamic *new_dynamic(void)
{
    ta_dynamic *dynamic = NULL;
    NEED(ta_dynamic_create(NULL, &dynamic) == TA_OK);
    return dynamic;
}

/* 1 MiB of at most 4 MiB: an address range of its own. */
static inline ta_handle new_tensor(ta_dynamic *dynamic)
{
    int64_t least = 1, now = 1 << 18, most = 1 << 20;
    ta_shape_bounds bounds;
    ta_handle handle;
    NEED(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &now, &most) == TA_OK);
    NEED(ta_dynamic_alloc(dynamic, &bounds, &handle) == TA_OK);
    memset(ta_dynamic_get_data(dynamic, handle), 1, (size_t)now * 4);
    return handle;
}

#endif /* MISUSE_H */
