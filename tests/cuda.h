/* cuda.h - what the tests of the CUDA backend share: a device of the software driver with a pool over it, and a look at
   what is left at the end. */
#ifndef TEST_CUDA_H
#define TEST_CUDA_H

#include "test.h"
#define TENSORALLOC_CUDA
#include "implementation.h"
#include "driver/testing.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)
#define STREAM(handle) ((ta_stream)(uintptr_t)(handle))
#define ADDRESS(pointer) ((CUdeviceptr)(uintptr_t)(pointer))

static ta_cuda *cuda;
static ta_pool *pool;

TEST_STATIC tafake_live live_now(void)
{
    tafake_live live;
    fake.tafake_count_live(&live);
    return live;
}

TEST_STATIC ta_cuda *cuda_new(ta_cuda_kind kind)
{
    ta_cuda_desc desc;
    ta_cuda *made = NULL;
    const char *why = NULL;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    CHECK_RESULT(ta_cuda_create(&desc, &made, &why), TA_OK);
    CHECK_STRING(why, "");
    return made;
}

TEST_STATIC ta_pool *pool_new(ta_cuda *over, const ta_pool_desc *options)
{
    ta_pool_desc desc;
    ta_pool *made = NULL;
    memset(&desc, 0, sizeof desc);
    if (options != NULL) {
        desc = *options;
    }
    desc.backend = ta_cuda_backend(over);
    CHECK_OK(ta_pool_create(&desc, &made));
    return made;
}

/* The software driver as just loaded, its device current on this thread, and a pool over it. 0 and a skipped case
   without. */
TEST_STATIC int world_open(const char *config, ta_cuda_kind kind, const ta_pool_desc *options)
{
    cuda = NULL;
    pool = NULL;
    if (!fake_open(config)) {
        return 0;
    }
    cuda = cuda_new(kind);
    pool = pool_new(cuda, options);
    return pool != NULL;
}

/* The same on any driver: for cases that need nothing of the side channel. */
TEST_STATIC int world_open_any(const char *config, ta_cuda_kind kind, const ta_pool_desc *options)
{
    cuda = NULL;
    pool = NULL;
    if (!any_open(config)) {
        return 0;
    }
    cuda = cuda_new(kind);
    pool = pool_new(cuda, options);
    return pool != NULL;
}

TEST_STATIC void check_quiet(void)
{
    uint64_t i;
    for (i = 0; i < 3 && fake.tafake_race_text(i) != NULL; i++) {
        CHECK_STRING(fake.tafake_race_text(i), "no report");
    }
    CHECK_EQ(fake.tafake_race_count(), 0);
    CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_GLOBAL);
}

TEST_STATIC void check_nothing_live(void)
{
    tafake_live live = live_now();
    CHECK_EQ(live.allocations, 0);
    CHECK_EQ(live.host_allocations, 0);
    CHECK_EQ(live.reservations, 0);
    CHECK_EQ(live.mappings, 0);
    CHECK_EQ(live.handles, 0);
    CHECK_EQ(live.pools, 0);
    CHECK_EQ(live.contexts, 0);
    CHECK_EQ(live.streams, 0);
    CHECK_EQ(live.events, 0);
    CHECK_EQ(live.used_bytes, 0);
}

/* reserved = in use + cached, and the budget is of the same opinion. */
TEST_STATIC ta_stats check_books(ta_pool *of)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_pool_get_stats(of, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_LE(s.pending_bytes + s.thread_cached_bytes, s.cached_bytes);
    CHECK_EQ(s.hit_count + s.miss_count, s.allocation_count);
    CHECK_OK(ta_pool_check(of));
    return s;
}

TEST_STATIC void world_end(void)
{
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_cuda_destroy(cuda));
    pool = NULL;
    cuda = NULL;
}

/* Everything given back, and nothing left behind; streams of the case are gone before. */
TEST_STATIC void world_close(void)
{
    world_end();
    device_close();
    check_quiet();
    check_nothing_live();
}

#endif /* TEST_CUDA_H */
