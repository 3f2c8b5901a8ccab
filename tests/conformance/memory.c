/* memory.c - memory, contexts, VMM and pools of a CUDA driver: documented behaviour, and open questions as probes. */
#include "probe.h"

static void before_init(void)
{
    CUdeviceptr address = 0;
    int version = 0;
    if (!driver_load()) {
        TEST_SKIP("there is no CUDA driver");
        return;
    }
    CHECK_EQ(cu.cuMemAlloc_v2(&address, 16), CUDA_ERROR_NOT_INITIALIZED);
    OK(cu.cuDriverGetVersion(&version)); /* legal before */
    CHECK_GE(version, 10020);
    PROBE("version", "%d", version);
}

static void devices(void)
{
    CUcontext context = NULL;
    char name[100] = "";
    size_t free_bytes = 0, total = 0, all = 0;
    int count = 0, value = -1, active = 0;
    CUdevice device = -1;
    unsigned flags = 0;
    if (!device_open()) { return; }
    OK(cu.cuDeviceGetCount(&count));
    CHECK_GE(count, 1);
    CHECK_CU(cu.cuDeviceGet(&device, count), CUDA_ERROR_INVALID_DEVICE);
    CHECK_CU(cu.cuDeviceGet(&device, -1), CUDA_ERROR_INVALID_DEVICE);
    CHECK_CU(cu.cuDevicePrimaryCtxRetain(&context, count), CUDA_ERROR_INVALID_DEVICE);
    CHECK_CU(cu.cuDeviceGetAttribute(&value, (CUdevice_attribute)9999, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 0));
    CHECK_EQ(value, 1);
    OK(cu.cuDeviceGetName(name, (int)sizeof name, 0));
    PROBE("device", "%s", name);
    OK(cu.cuDeviceTotalMem_v2(&all, 0));
    OK(cu.cuMemGetInfo_v2(&free_bytes, &total));
    CHECK_LE(free_bytes, total);
    CHECK_LE(total, all);
    OK(cu.cuDevicePrimaryCtxGetState(0, &flags, &active));
    CHECK_EQ(active, 1);
    OK(cu.cuCtxGetDevice(&device));
    CHECK_EQ(device, 0);
    device_close();
}

static void current_contexts(void)
{
    CUcontext context = NULL;
    CUdeviceptr address = 0;
    if (!device_open()) { return; }
    OK(cu.cuCtxSetCurrent(NULL));
    CHECK_CU(cu.cuMemAlloc_v2(&address, 16), CUDA_ERROR_INVALID_CONTEXT);
    OK(cu.cuCtxGetCurrent(&context));
    CHECK(context == NULL);
    OK(cu.cuDevicePrimaryCtxRetain(&context, 0)); /* retains, and does not make it current */
    CHECK(context == on.context);
    OK(cu.cuDevicePrimaryCtxRelease_v2(0));
    OK(cu.cuCtxGetCurrent(&context));
    CHECK(context == NULL);
    OK(cu.cuCtxPushCurrent_v2(on.context));
    address = alloc(16);
    OK(cu.cuMemFree_v2(address));
    OK(cu.cuCtxPopCurrent_v2(&context));
    CHECK(context == on.context);
    OK(cu.cuCtxSetCurrent(on.context));
    device_close();
}

static void allocations(void)
{
    CUdeviceptr a = 0, base = 0;
    size_t bytes = 0, i;
    unsigned type = 0;
    if (!device_open()) { return; }
    CHECK_CU(cu.cuMemAlloc_v2(NULL, 16), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemAlloc_v2(&a, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemAlloc_v2(&a, (size_t)1 << 60), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(cu.cuMemFree_v2((CUdeviceptr)12345), CUDA_ERROR_INVALID_VALUE);
    for (i = 1; i < 100000; i = i * 3 + 1) {
        a = alloc(i);
        CHECK_EQ(a % 256, 0);
        OK(cu.cuMemGetAddressRange_v2(&base, &bytes, a + i / 2));
        CHECK_EQ(base, a);
        CHECK_EQ(bytes, i);
        OK(cu.cuMemFree_v2(a));
    }
    CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_INVALID_VALUE);
    a = alloc(4096);
    CHECK_CU(cu.cuMemFree_v2(a + 256), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, a));
    CHECK_EQ(type, CU_MEMORYTYPE_DEVICE);
    OK(cu.cuMemFree_v2(a));
    PROBE("P10 cuMemFree(0)", "%s", cu_text(cu.cuMemFree_v2(0)));
    PROBE("P10 address range of nothing", "%s", cu_text(cu.cuMemGetAddressRange_v2(&base, &bytes, 12345)));
    device_close();
}

static void host_memory(void)
{
    static char mine[8192];
    CUdeviceptr seen = 0;
    void *memory = NULL;
    if (!device_open()) { return; }
    CHECK_CU(cu.cuMemHostAlloc(NULL, 16, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemHostAlloc(&memory, 4096, CU_MEMHOSTALLOC_PORTABLE));
    OK(cu.cuMemHostGetDevicePointer_v2(&seen, memory, 0));
    CHECK_EQ(seen, (uintptr_t)memory); /* unified addressing, not write-combined */
    memset(memory, 1, 4096);
    OK(cu.cuMemFreeHost(memory));
    CHECK_CU(cu.cuMemFreeHost(mine), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemHostAlloc(&memory, 4096, CU_MEMHOSTALLOC_WRITECOMBINED));
    OK(cu.cuMemHostGetDevicePointer_v2(&seen, memory, 0));
    PROBE("write-combined", "device address %s host address", seen == (uintptr_t)memory ? "is the" : "is not the");
    OK(cu.cuMemFreeHost(memory));
    OK(cu.cuMemHostRegister_v2(mine, sizeof mine, 0));
    CHECK_CU(cu.cuMemHostRegister_v2(mine, sizeof mine, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    OK(cu.cuMemHostUnregister(mine));
    CHECK_CU(cu.cuMemHostUnregister(mine), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    device_close();
}

static int has_vmm(void)
{
    int vmm = 0;
    if (cu.cuMemCreate != NULL) {
        (void)cu.cuDeviceGetAttribute(&vmm, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0);
    }
    return vmm;
}

static void virtual_memory(void)
{
    CUmemAllocationProp prop = device_prop(0), bad = device_prop(0);
    CUmemAccessDesc access = read_write(0);
    CUmemGenericAllocationHandle one = 0, two = 0;
    CUdeviceptr base = 0;
    size_t page = 0, recommended = 0;
    unsigned long long flags = 0;
    uint32_t value = 7;
    if (!device_open()) { return; }
    if (!has_vmm()) {
        TEST_SKIP("no virtual memory management");
        device_close();
        return;
    }
    OK(cu.cuMemGetAllocationGranularity(&page, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    OK(cu.cuMemGetAllocationGranularity(&recommended, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
    PROBE("P9 granularity", "minimum %zu, recommended %zu", page, recommended);
    OK(cu.cuMemAddressReserve(&base, 8 * page, 0, 0, 0));
    CHECK_CU(cu.cuMemCreate(&one, page + 1, &prop, 0), CUDA_ERROR_INVALID_VALUE);
    bad.type = CU_MEM_ALLOCATION_TYPE_INVALID;
    CHECK_CU(cu.cuMemCreate(&one, page, &bad, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cu.cuMemCreate(&one, page, &prop, 0));
    OK(cu.cuMemCreate(&two, page, &prop, 0));
    CHECK_CU(cu.cuMemMap(base, page, page, one, 0), CUDA_ERROR_INVALID_VALUE); /* an offset */
    OK(cu.cuMemMap(base, page, 0, one, 0));
    CHECK_CU(cu.cuMemMap(base, page, 0, two, 0), CUDA_ERROR_INVALID_VALUE); /* mapped already */
    CHECK_CU(cu.cuMemSetAccess(base, 2 * page, &access, 1), CUDA_ERROR_INVALID_VALUE); /* not all mapped */
    OK(cu.cuMemMap(base + page, page, 0, two, 0));
    OK(cu.cuMemGetAccess(&flags, &access.location, base));
    CHECK_EQ(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    OK(cu.cuMemSetAccess(base, 2 * page, &access, 1));
    OK(cu.cuMemGetAccess(&flags, &access.location, base));
    CHECK_EQ(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    OK(cu.cuMemRelease(one)); /* legal while mapped: it lives until unmapped */
    OK(cu.cuMemRelease(two));
    OK(cu.cuMemcpyHtoD_v2(base + page - 2, &value, 4)); /* across both */
    value = 0;
    OK(cu.cuMemcpyDtoH_v2(&value, base + page - 2, 4));
    CHECK_EQ(value, 7);
    if (page >= 8192) {
        CHECK_CU(cu.cuMemUnmap(base, page / 2), CUDA_ERROR_INVALID_VALUE);
    }
    PROBE("P13 cuMemAddressFree while mapped", "%s",
          is_software() ? cu_text(cu.cuMemAddressFree(base, 8 * page)) : "not tried");
    OK(cu.cuCtxSynchronize());
    OK(cu.cuMemUnmap(base, 2 * page)); /* several neighbours in one call */
    CHECK_CU(cu.cuMemUnmap(base, page), CUDA_ERROR_INVALID_VALUE);
    PROBE("P13 cuMemAddressFree of a part", "%s",
          is_software() ? cu_text(cu.cuMemAddressFree(base, page)) : "not tried");
    OK(cu.cuMemAddressFree(base, 8 * page));
    device_close();
}

static void reservations(void)
{
    static const struct { const char *text; size_t bytes, alignment; } tries[] = {
        {"no bytes", 0, 0}, {"1 byte", 1, 0}, {"alignment 3", 2 << 20, 3}, {"1 TiB", (size_t)1 << 40, 0},
        {"16 TiB", (size_t)1 << 44, 0}};
    size_t i;
    if (!device_open()) { return; }
    if (!has_vmm()) {
        TEST_SKIP("no virtual memory management");
        device_close();
        return;
    }
    CHECK_CU(cu.cuMemAddressReserve(NULL, 2 << 20, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
    for (i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        CUdeviceptr base = 0;
        CUresult result = cu.cuMemAddressReserve(&base, tries[i].bytes, tries[i].alignment, 0, 0);
        PROBE("P9 reserve", "%s: %s", tries[i].text, cu_text(result));
        if (result == CUDA_SUCCESS) {
            OK(cu.cuMemAddressFree(base, tries[i].bytes));
        }
    }
    device_close();
}

static int has_pools(void)
{
    int pools = 0;
    return cu.cuMemAllocAsync != NULL &&
           cu.cuDeviceGetAttribute(&pools, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 0) == CUDA_SUCCESS && pools;
}

static void pools(void)
{
    CUmemPoolProps props;
    CUmemoryPool pool = NULL, first = NULL;
    CUdeviceptr a = 0;
    CUstream s;
    uint64_t value = 1;
    int yes = 0;
    if (!device_open()) { return; }
    if (!has_pools()) {
        TEST_SKIP("no memory pools");
        device_close();
        return;
    }
    s = stream_new();
    OK(cu.cuDeviceGetDefaultMemPool(&first, 0));
    OK(cu.cuDeviceGetMemPool(&pool, 0));
    CHECK(pool == first);
    OK(cu.cuMemPoolGetAttribute(first, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
    CHECK_EQ(value, 0);
    OK(cu.cuMemPoolGetAttribute(first, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &yes));
    CHECK_EQ(yes, 1);
    value = 1; /* it can only be set to 0 */
    CHECK_CU(cu.cuMemPoolSetAttribute(first, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemPoolSetAttribute(first, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemPoolDestroy(first), CUDA_ERROR_INVALID_VALUE);
    memset(&props, 0, sizeof props);
    CHECK_CU(cu.cuMemPoolCreate(&pool, &props), CUDA_ERROR_INVALID_VALUE);
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    OK(cu.cuMemPoolCreate(&pool, &props));
    OK(cu.cuMemAllocFromPoolAsync(&a, 1 << 20, pool, s));
    OK(fill(a, 5, 16, s));
    OK(cu.cuStreamSynchronize(s));
    CHECK_EQ(read32(a), 5);
    OK(cu.cuMemFreeAsync(a, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuMemPoolDestroy(pool));
    CHECK_CU(cu.cuMemAllocAsync(&a, 0, s), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemAllocAsync(NULL, 16, s), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(cu.cuMemAllocAsync(&a, (size_t)1 << 60, s), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(cu.cuMemFreeAsync(0, s), CUDA_ERROR_INVALID_VALUE);
    a = alloc(4096);
    PROBE("P10 cuMemFreeAsync of cuMemAlloc", "%s", is_software() ? cu_text(cu.cuMemFreeAsync(a, s)) : "not tried");
    OK(cu.cuMemFree_v2(a));
    OK(cu.cuMemAllocAsync(&a, 4096, s));
    OK(cu.cuStreamSynchronize(s));
    OK(cu.cuMemFree_v2(a)); /* the other way is legal */
    OK(cu.cuStreamDestroy_v2(s));
    device_close();
}

static void managed_memory(void)
{
    CUdeviceptr a = 0;
    int managed = 0;
    CUresult result;
    if (!device_open()) { return; }
    OK(cu.cuDeviceGetAttribute(&managed, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0));
    result = cu.cuMemAllocManaged(&a, 4096, CU_MEM_ATTACH_GLOBAL);
    CHECK_CU(result, managed ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED);
    if (managed) {
        OK(fill(a, 6, 4, NULL));
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(*(uint32_t *)(uintptr_t)a, 6);
        OK(cu.cuMemFree_v2(a));
        CHECK_CU(cu.cuMemAllocManaged(&a, 4096, 0), CUDA_ERROR_INVALID_VALUE);
        CHECK_CU(cu.cuMemAllocManaged(&a, 0, CU_MEM_ATTACH_GLOBAL), CUDA_ERROR_INVALID_VALUE);
    }
    device_close();
}

TEST_MAIN(TEST_CASE(before_init), TEST_CASE(devices), TEST_CASE(current_contexts), TEST_CASE(allocations),
          TEST_CASE(host_memory), TEST_CASE(virtual_memory), TEST_CASE(reservations), TEST_CASE(pools),
          TEST_CASE(managed_memory))
