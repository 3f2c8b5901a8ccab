/* test_cuda_torch_calls.c - PyTorch's two functions from inside: devices, streams and sizes that are none, the first
   call that fails, two first calls at once. The pools stay as long as the process: one driver for all cases. */
#include <stddef.h>
#include <stdlib.h>

static long refuse_after = -1; /* so many requests for records from now are met; -1: all */
static void (*meanwhile)(void);

static void *record_new(size_t bytes)
{
    void (*call)(void) = meanwhile;
    if (call != NULL) {
        meanwhile = NULL;
        call();
    }
    if (refuse_after == 0) {
        return NULL;
    }
    refuse_after -= refuse_after > 0;
    return malloc(bytes);
}

#define TENSORALLOC_MALLOC(bytes) record_new(bytes)
#define TENSORALLOC_FREE(ptr) free(ptr)
#define TENSORALLOC_TORCH
#include "cuda.h"

enum { DEVICES = 4 };

static int begin(void)
{
    static int begun;
    if (!driver_load() || fake.tafake_reset == NULL) {
        TEST_SKIP("this is not the software driver");
        return 0;
    }
    if (!begun) {
        CHECK_EQ(fake.tafake_reset("sched=lazy;devices=4;fill=4096;cap=256M"), 0);
        OK(cu.cuInit(0));
        begun = 1;
    }
    return 1;
}

static void what_cannot_be(void)
{
    static const int none[] = {-1, DEVICES, 63, 64, 1 << 30};
    size_t i;
    if (!begin()) {
        return;
    }
    for (i = 0; i < sizeof none / sizeof none[0]; i++) {
        CHECK(ta_torch_alloc(1000, none[i], NULL) == NULL);
        ta_torch_free((void *)16, 1000, none[i], NULL);
    }
    CHECK(ta_torch_alloc(0, 0, NULL) == NULL);
    CHECK(ta_torch_alloc(-1, 0, NULL) == NULL);
    CHECK(ta_torch_alloc(PTRDIFF_MAX, 0, NULL) == NULL);
    ta_torch_free(NULL, 0, 0, NULL);
}

/* Every request for records of a first call, until it succeeds. Nothing is left by one that failed. */
static void the_first_call_fails(void)
{
    const tafake_live before = (begin(), live_now());
    void *ptr = NULL;
    long n;
    if (test_now.skip != NULL) {
        return;
    }
    for (n = 0; ptr == NULL && n < 1000; n++) {
        tafake_live after;
        refuse_after = n;
        ptr = ta_torch_alloc(3 << 20, 1, NULL);
        refuse_after = -1;
        after = live_now();
        if (ptr == NULL) {
            CHECK_EQ(after.used_bytes, before.used_bytes);
        }
    }
    CHECK_GT(n, 3);
    CHECK(ptr != NULL);
    ta_torch_free(ptr, 3 << 20, 1, NULL);
}

static void *theirs;

static void another_first_call(void)
{
    theirs = ta_torch_alloc(1000, 2, NULL);
}

/* While the pool of a device is being made, another thread asks for it: both get memory of the same pool. */
static void two_first_calls(void)
{
    void *ours;
    ta_result result = TA_OK;
    if (!begin()) {
        return;
    }
    meanwhile = another_first_call;
    ours = ta_torch_alloc(1000, 2, NULL);
    CHECK(ours != NULL && theirs != NULL && ours != theirs);
    CHECK_EQ(ta_pool_owns(tai_torch_pools[2], ours), 1);
    CHECK_EQ(ta_pool_owns(tai_torch_pools[2], theirs), 1);
    result = ta_pool_check(tai_torch_pools[2]);
    CHECK_OK(result);
    ta_torch_free(ours, 1000, 2, NULL);
    ta_torch_free(theirs, 1000, 2, NULL);
}

/* The free names the stream of the last use; a captured stream gets nothing; pools of devices are apart. */
static void streams_and_devices(void)
{
    CUcontext context = NULL;
    CUstream s = NULL, t = NULL;
    CUgraph graph = NULL;
    void *ptr, *again, *other;
    if (!begin()) {
        return;
    }
    OK(cu.cuDevicePrimaryCtxRetain(&context, 0));
    OK(cu.cuCtxSetCurrent(context));
    OK(cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    OK(cu.cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
    ptr = ta_torch_alloc(5 << 20, 0, s);
    other = ta_torch_alloc(5 << 20, 3, NULL);
    CHECK(ptr != NULL && other != NULL);
    ta_torch_free(ptr, 5 << 20, 0, s);
    again = ta_torch_alloc(5 << 20, 0, s);
    CHECK(again == ptr);
    ta_torch_free(again, 5 << 20, 0, t); /* used on t: not at once for s */
    CHECK_GE(check_books(tai_torch_pools[0]).pending_bytes, 5 << 20);
    ta_torch_free(again, 5 << 20, 0, s); /* twice: nothing happens */
    CHECK_EQ(check_books(tai_torch_pools[0]).live_count, 0);
    CHECK_EQ(check_books(tai_torch_pools[3]).live_count, 1);
    ta_torch_free(other, 5 << 20, 3, NULL);
    OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK(ta_torch_alloc(1000, 0, s) == NULL);
    OK(cu.cuStreamEndCapture(s, &graph));
    OK(cu.cuGraphDestroy(graph));
    CHECK_OK(ta_pool_empty_cache(tai_torch_pools[0]));
    CHECK_EQ(fake.tafake_race_count(), 0);
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    OK(cu.cuCtxSetCurrent(NULL));
    OK(cu.cuDevicePrimaryCtxRelease(0));
}

TEST_MAIN(TEST_CASE(what_cannot_be), TEST_CASE(the_first_call_fails), TEST_CASE(two_first_calls),
          TEST_CASE(streams_and_devices))
