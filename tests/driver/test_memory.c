/* test_memory.c - the software driver's memory: windows, garbage, capacity, kinds of memory, VMM, pools. */
#include "testing.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child process that touches the memory dies of. */
static int signal_of_touch(CUdeviceptr address, int write)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        volatile char *memory = (volatile char *)(uintptr_t)address;
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (write) {
            *memory = 1;
        } else {
            (void)*memory;
        }
        _exit(0);
    }
    (void)waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void host_access_faults(void)
{
    CUdeviceptr a;
    if (!fake_open("sched=lazy")) { return; }
    a = alloc(1 << 20);
    CHECK(fake.tafake_is_device_address(a));
    CHECK_EQ(signal_of_touch(a, 0), SIGSEGV);
    CHECK_EQ(signal_of_touch(a + 4096, 1), SIGSEGV);
    OK(cu.cuMemFree_v2(a));
    CHECK_EQ(signal_of_touch(a, 0), SIGSEGV);
    device_close();
}

static void fresh_memory_is_garbage(void)
{
    static unsigned char bytes[100000];
    size_t i, zeros = 0;
    CUdeviceptr a;
    if (!fake_open("")) { return; }
    a = alloc(sizeof bytes);
    OK(cu.cuMemcpyDtoH_v2(bytes, a, sizeof bytes));
    for (i = 0; i < sizeof bytes; i++) {
        zeros += bytes[i] == 0;
    }
    CHECK_EQ(zeros, 0);
    CHECK_EQ(a % 256, 0);
    OK(cu.cuMemFree_v2(a));
    CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemFree_v2(0));
    device_close();
}

/* A neighbour in the same page keeps it mapped, so that what was freed can be looked at. */
static void freed_memory_is_overwritten(void)
{
    unsigned char byte = 0;
    CUdeviceptr a, b;
    if (!fake_open("")) { return; }
    a = alloc(4096);
    b = alloc(4096);
    OK(cu.cuMemFree_v2(a));
    a = alloc(256); /* the same place */
    CHECK_EQ(fake.tafake_peek(&byte, a + 255, 1), 0);
    CHECK_NE(byte, 0);
    CHECK_EQ(fake.tafake_peek(&byte, a + 256, 1), (uint64_t)-1);
    OK(cu.cuMemFree_v2(a));
    OK(cu.cuMemFree_v2(b));
    device_close();
}

static void capacity_and_its_end(void)
{
    size_t free_before = 0, free_after = 0, total = 0;
    CUdeviceptr a[8], b = 0;
    int i;
    if (!fake_open("cap=16M;overhead=2M")) { return; }
    OK(cu.cuMemGetInfo_v2(&free_before, &total));
    CHECK_EQ(total, 16 << 20);
    CHECK_EQ(free_before, 14 << 20);
    for (i = 0; i < 7; i++) {
        a[i] = alloc(2 << 20);
    }
    CHECK_CU(cu.cuMemAlloc_v2(&b, 1), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(b, 0);
    OK(cu.cuMemFree_v2(a[1]));
    OK(cu.cuMemFree_v2(a[3]));
    b = alloc(4 << 20); /* pages need not lie together */
    OK(cu.cuMemFree_v2(b));
    CHECK_EQ(fake.tafake_configure("contiguous=1"), 0);
    CHECK_CU(cu.cuMemAlloc_v2(&b, 4 << 20), CUDA_ERROR_OUT_OF_MEMORY);
    for (i = 0; i < 7; i++) {
        if (i != 1 && i != 3) {
            OK(cu.cuMemFree_v2(a[i]));
        }
    }
    OK(cu.cuMemGetInfo_v2(&free_after, &total));
    CHECK_EQ(free_after, free_before);
    CHECK_CU(cu.cuMemAlloc_v2(&b, (size_t)1 << 60), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(cu.cuMemAlloc_v2(&b, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
    device_close();
}

static void address_policies(void)
{
    static const char *const policies[] = {"addresses=lifo", "addresses=quarantine", "addresses=scramble:7"};
    int p, i;
    for (p = 0; p < 3; p++) {
        CUdeviceptr first, again = 0;
        int same = 0;
        if (!fake_open(policies[p])) { return; }
        first = alloc(4 << 20);
        for (i = 0; i < 50; i++) {
            OK(cu.cuMemFree_v2(again != 0 ? again : first));
            again = alloc(4 << 20);
            same += again == first;
        }
        test_context("%s", policies[p]);
        CHECK_EQ(same, p == 0 ? 50 : 0);
        OK(cu.cuMemFree_v2(again));
        device_close();
    }
}

static void pinned_memory(void)
{
    uint32_t *host = NULL, *combined = NULL;
    CUdeviceptr seen = 0, device;
    unsigned type = 0;
    if (!fake_open("sched=lazy")) { return; }
    OK(cu.cuMemHostAlloc((void **)&host, 4096, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
    OK(cu.cuMemHostGetDevicePointer_v2(&seen, host, 0));
    CHECK_EQ(seen, (uintptr_t)host);
    OK(cu.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, seen));
    CHECK_EQ(type, CU_MEMORYTYPE_HOST);
    OK(cu.cuMemHostAlloc((void **)&combined, 4096, CU_MEMHOSTALLOC_WRITECOMBINED));
    OK(cu.cuMemHostGetDevicePointer_v2(&seen, combined, 0));
    CHECK_NE(seen, (uintptr_t)combined);
    combined[3] = 77;
    device = alloc(4096);
    OK(copy(device, seen, 16, NULL)); /* a kernel reads it at the device's address */
    OK(cu.cuMemcpyDtoHAsync_v2(host, device, 64, NULL));
    CHECK_NE(host[3], 77); /* nothing has run yet */
    OK(cu.cuStreamSynchronize(NULL));
    CHECK_EQ(host[3], 77);
    OK(cu.cuMemFreeHost(host));
    OK(cu.cuMemFreeHost(combined));
    CHECK_CU(cu.cuMemFreeHost(host), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemFree_v2(device));
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

static void registered_and_managed_memory(void)
{
    static uint32_t mine[4096];
    CUdeviceptr managed = 0, device = 0;
    if (!fake_open("sched=lazy")) { return; }
    OK(cu.cuMemHostRegister_v2(mine, sizeof mine, 0));
    CHECK_CU(cu.cuMemHostRegister_v2(mine + 100, 64, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    OK(cu.cuMemHostGetDevicePointer_v2(&device, mine + 8, 0));
    OK(fill(device, 5, 8, NULL));
    CHECK_EQ(mine[8], 0);
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(mine[8], 5);
    OK(cu.cuMemHostUnregister(mine));
    CHECK_CU(cu.cuMemHostUnregister(mine), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    CHECK_CU(cu.cuMemAllocManaged(&managed, 4096, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    OK(fill(managed, 9, 4, NULL));
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(*(uint32_t *)(uintptr_t)managed, 9);
    OK(cu.cuMemFree_v2(managed));
    CHECK_EQ(fake.tafake_configure("attr=83:0"), 0);
    CHECK_CU(cu.cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL), CUDA_ERROR_NOT_SUPPORTED);
    device_close();
}

static void vmm_aliases_and_access(void)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr base = 0;
    tafake_live live;
    size_t page = 0;
    if (!fake_open("sched=eager")) { return; }
    OK(cu.cuMemGetAllocationGranularity(&page, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    OK(cu.cuMemAddressReserve(&base, 4 * page, 0, 0, 0));
    OK(cu.cuMemCreate(&handle, page, &prop, 0));
    OK(cu.cuMemMap(base, page, 0, handle, 0));
    OK(cu.cuMemMap(base + 2 * page, page, 0, handle, 0));
    OK(cu.cuMemRelease(handle)); /* the mappings keep it */
    CHECK_CU(cu.cuMemSetAccess(base, 3 * page, &access, 1), CUDA_ERROR_INVALID_VALUE); /* there is a hole */
    OK(cu.cuMemSetAccess(base, page, &access, 1));
    OK(cu.cuMemSetAccess(base + 2 * page, page, &access, 1));
    OK(fill(base, 42, 4, NULL));
    CHECK_EQ(read32(base + 2 * page), 42);
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READ;
    OK(cu.cuMemSetAccess(base, page, &access, 1));
    CHECK_CU(cu.cuMemcpyHtoD_v2(base, &page, 4), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQ(read32(base), 42);
    CHECK_CU(cu.cuMemUnmap(base, 3 * page), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemAddressFree(base, 4 * page), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuCtxSynchronize());
    OK(cu.cuMemUnmap(base, page));
    OK(cu.cuMemUnmap(base + 2 * page, page));
    OK(cu.cuMemAddressFree(base, 4 * page));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.used_bytes + live.handles + live.mappings + live.reservations, 0);
    CHECK_EQ(fake.tafake_race_count(), 0);
    device_close();
}

static void granularities(void)
{
    static const char *const configs[] = {"gran=64K;cap=8M", "gran=2M;cap=8M", "gran=4M;cap=8M"};
    static const size_t sizes[] = {64 << 10, 2 << 20, 4 << 20};
    CUmemAllocationProp prop = device_prop(0);
    int i;
    for (i = 0; i < 3; i++) {
        CUmemGenericAllocationHandle handle = 0;
        size_t page = 0;
        if (!fake_open(configs[i])) { return; }
        OK(cu.cuMemGetAllocationGranularity(&page, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
        CHECK_EQ(page, sizes[i]);
        CHECK_CU(cu.cuMemCreate(&handle, page / 2, &prop, 0), CUDA_ERROR_INVALID_VALUE);
        CHECK_CU(cu.cuMemCreate(&handle, 16 << 20, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
        OK(cu.cuMemCreate(&handle, 8 << 20, &prop, 0));
        OK(cu.cuMemRelease(handle));
        CHECK_CU(cu.cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE);
        device_close();
    }
}

static void shareable_handles(void)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemGenericAllocationHandle handle = 0, other = 0;
    tafake_live live;
    int fd = -1;
    if (!fake_open("")) { return; }
    OK(cu.cuMemCreate(&handle, 2 << 20, &prop, 0));
    CHECK_CU(cu.cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
             CUDA_ERROR_INVALID_VALUE); /* that must be asked for when it is created */
    OK(cu.cuMemRelease(handle));
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    OK(cu.cuMemCreate(&handle, 2 << 20, &prop, 0));
    OK(cu.cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    OK(cu.cuMemImportFromShareableHandle(&other, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    CHECK_EQ(close(fd), 0);
    OK(cu.cuMemRelease(handle));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.used_bytes, 2 << 20);
    OK(cu.cuMemRelease(other));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.used_bytes, 0);
    device_close();
}

static uint64_t pool_number(CUmemoryPool pool, CUmemPool_attribute attribute)
{
    uint64_t value = 0;
    OK(cu.cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
}

static void pools_release_by_threshold(void)
{
    CUmemoryPool pool = NULL;
    CUdeviceptr a = 0, b = 0;
    CUstream stream;
    uint64_t keep = UINT64_MAX;
    if (!fake_open("sched=lazy")) { return; }
    stream = stream_new();
    OK(cu.cuDeviceGetDefaultMemPool(&pool, 0));
    CHECK_CU(cu.cuMemPoolDestroy(pool), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemAllocAsync(&a, 3 << 20, stream));
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 3 << 20);
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 4 << 20);
    OK(cu.cuMemFreeAsync(a, stream));
    OK(cu.cuMemPoolTrimTo(pool, 0)); /* the host has not seen the free */
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 4 << 20);
    OK(cu.cuStreamSynchronize(stream));
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    OK(cu.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    OK(cu.cuMemAllocAsync(&a, 1 << 20, stream));
    OK(cu.cuMemFreeAsync(a, stream));
    CHECK_CU(cu.cuMemFreeAsync(a, stream), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuStreamSynchronize(stream));
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 2 << 20);
    OK(cu.cuMemAllocAsync(&b, 1 << 20, stream));
    CHECK_EQ(b, a);
    OK(cu.cuMemFree_v2(b)); /* legal too, and waits for nothing */
    OK(cu.cuMemPoolTrimTo(pool, 0));
    CHECK_EQ(pool_number(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    CHECK_EQ(fake.tafake_race_count(), 0);
    OK(cu.cuStreamDestroy_v2(stream));
    device_close();
}

/* Reuse by another stream is ordered by the driver: no report, and the data of each is right. */
static void pools_order_reuse(void)
{
    CUstream s, t;
    CUdeviceptr a = 0, b = 0, errors;
    int i;
    if (!fake_open("sched=lazy;cap=64M")) { return; }
    s = stream_new();
    t = stream_new();
    errors = alloc(4);
    OK(cu.cuMemsetD32Async(errors, 0, 1, s));
    order(s, t);
    for (i = 0; i < 20; i++) {
        OK(cu.cuMemAllocAsync(&a, 2 << 20, s));
        OK(fill(a, 1, 1000, s));
        OK(check(errors, a, 1, 1000, s));
        OK(cu.cuMemFreeAsync(a, s));
        order(s, t); /* for the sake of `errors` */
        OK(cu.cuMemAllocAsync(&b, 2 << 20, t));
        CHECK_EQ(a, b);
        OK(fill(b, 2, 1000, t));
        OK(check(errors, b, 2, 1000, t));
        OK(cu.cuMemFreeAsync(b, t));
        order(t, s);
    }
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(read32(errors), 0);
    CHECK_EQ(fake.tafake_race_count(), 0);
    OK(cu.cuMemFree_v2(errors));
    device_close();
}

static void pools_of_the_program(void)
{
    CUmemPoolProps props;
    CUmemoryPool pool = NULL, current = NULL;
    CUdeviceptr a = 0, b = 0;
    tafake_live live;
    if (!fake_open("sched=eager")) { return; }
    memset(&props, 0, sizeof props);
    CHECK_CU(cu.cuMemPoolCreate(&pool, &props), CUDA_ERROR_INVALID_VALUE);
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    props.maxSize = 4 << 20;
    OK(cu.cuMemPoolCreate(&pool, &props));
    OK(cu.cuMemAllocFromPoolAsync(&a, 3 << 20, pool, NULL));
    CHECK_CU(cu.cuMemAllocFromPoolAsync(&b, 3 << 20, pool, NULL), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cu.cuDeviceSetMemPool(0, pool));
    OK(cu.cuDeviceGetMemPool(&current, 0));
    CHECK(current == pool);
    OK(cu.cuMemPoolDestroy(pool)); /* what is live keeps it */
    CHECK_CU(cu.cuMemPoolDestroy(pool), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuDeviceGetMemPool(&current, 0));
    CHECK(current != pool);
    OK(fill(a, 1, 100, NULL));
    OK(cu.cuMemFreeAsync(a, NULL));
    OK(cu.cuCtxSynchronize());
    fake.tafake_count_live(&live);
    CHECK_EQ(live.used_bytes, 0);
    CHECK_EQ(live.pools, 0);
    device_close();
}

static void two_devices(void)
{
    CUcontext second = NULL;
    CUdeviceptr a, b;
    CUstream stream = NULL;
    int count = 0, can = 1;
    if (!fake_open("devices=2;sched=eager;cap=64M")) { return; }
    OK(cu.cuDeviceGetCount(&count));
    CHECK_EQ(count, 2);
    a = alloc(4096);
    OK(cu.cuDevicePrimaryCtxRetain(&second, 1));
    OK(cu.cuCtxPushCurrent_v2(second));
    b = alloc(4096);
    OK(cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(fill(b, 3, 16, stream));
    OK(cu.cuDeviceCanAccessPeer(&can, 1, 0));
    CHECK_EQ(can, 0);
    OK(cu.cuStreamSynchronize(stream));
    OK(fill(a, 3, 16, stream)); /* the other device's memory: a fault, and only of this context */
    CHECK_CU(cu.cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_CU(cu.cuMemFree_v2(b), CUDA_ERROR_ILLEGAL_ADDRESS);
    OK(cu.cuCtxPopCurrent_v2(NULL));
    OK(fill(a, 4, 16, NULL));
    CHECK_EQ(read32(a), 4);
    OK(cu.cuMemFree_v2(a));
    device_close();
}

TEST_MAIN(TEST_CASE(host_access_faults), TEST_CASE(fresh_memory_is_garbage), TEST_CASE(freed_memory_is_overwritten),
          TEST_CASE(capacity_and_its_end), TEST_CASE(address_policies), TEST_CASE(pinned_memory),
          TEST_CASE(registered_and_managed_memory), TEST_CASE(vmm_aliases_and_access), TEST_CASE(granularities),
          TEST_CASE(shareable_handles), TEST_CASE(pools_release_by_threshold), TEST_CASE(pools_order_reuse),
          TEST_CASE(pools_of_the_program), TEST_CASE(two_devices))
