/* test_cuda_advice.c - the programs of test_advice.c on memory of the software driver: freed blocks wait for streams, and
   whole chunks alone go back. */
#include "cuda.h"
#define ADVICE_CUDA
#include "test_advice.c"

static ta_result wait_for_all(void)
{
    return cu.cuCtxSynchronize() == CUDA_SUCCESS ? TA_OK : TA_ERROR_BACKEND;
}

static void cuda_with(ta_cuda_kind kind, const char *config, int unlimited, uint64_t first)
{
    CUstream streams[2];
    int i;
    if (!fake_open(config)) {
        return;
    }
    memset(&world, 0, sizeof world);
    cuda = cuda_new(kind);
    world.backend = ta_cuda_backend(cuda);
    world.unit = 24 * MIB;
    world.walls = 1;
    world.unlimited = unlimited;
    world.wait = wait_for_all;
    for (i = 0; i < 2; i++) {
        streams[i] = stream_new();
        world.streams[i] = STREAM(streams[i]);
    }
    world.stream_count = 2;
    run_programs(first, 40);
    for (i = 0; i < 2; i++) {
        OK(cu.cuStreamDestroy_v2(streams[i]));
    }
    CHECK_OK(ta_cuda_destroy(cuda));
    device_close();
    check_quiet();
    check_nothing_live();
}

static void over_ranges(void)
{
    cuda_with(TA_CUDA_RANGES, "sched=lazy;cap=1G;fill=0", 0, 11000);
}

static void over_segments(void)
{
    cuda_with(TA_CUDA_SEGMENTS, "sched=lazy;cap=1G;fill=0", 0, 12000);
}

static void over_pools_of_the_driver(void)
{
    cuda_with(TA_CUDA_ASYNC, "sched=lazy;cap=1G;fill=0", 0, 13000);
}

static void over_pinned_memory(void)
{
    cuda_with(TA_CUDA_PINNED, "sched=lazy;cap=1G;fill=0", 0, 14000);
}

/* The device is the limit. */
static void on_a_small_device(void)
{
    cuda_with(TA_CUDA_RANGES, "sched=lazy;cap=64M;fill=0", 1, 15000);
}

TEST_MAIN(TEST_CASE(over_ranges), TEST_CASE(over_segments), TEST_CASE(over_pools_of_the_driver),
          TEST_CASE(over_pinned_memory), TEST_CASE(on_a_small_device))
