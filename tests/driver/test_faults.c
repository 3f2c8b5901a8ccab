/* test_faults.c - the software driver on bad days: failing calls, lost contexts, the end of the driver, forks. */
#include "testing.h"

#include <sys/wait.h>
#include <unistd.h>

/* A session that calls every function; what it answers is not looked at. Data for all the arguments. */
struct everything {
    CUdevice device;
    CUcontext context, made;
    CUstream stream;
    CUevent event;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node;
    CUuserObject object;
    CUmemoryPool pool;
    CUmodule module;
    CUfunction function;
    CUdeviceptr address;
    CUmemGenericAllocationHandle handle;
    CUmemAllocationProp prop;
    CUmemPoolProps pool_props;
    CUmemAccessDesc access;
    CUmemAccess_flags access_flags;
    CUmemLocation location;
    CUstreamCaptureStatus status;
    CUstreamCaptureMode mode;
    CUgraphNodeType type;
    CUuuid uuid;
    cuuint64_t id;
    unsigned long long wide;
    size_t size, size2;
    const CUgraphNode *nodes;
    const char *text;
    void *memory;
    float time;
    int number, number2, shareable;
    unsigned flags;
    char bytes[512];
};

static void nothing(void *data)
{
    (void)data;
}

/* Arguments that are legal in form, for each. */
#define ARGUMENTS_cuInit (0)
#define ARGUMENTS_cuDriverGetVersion (&e->number)
#define ARGUMENTS_cuGetErrorName (CUDA_SUCCESS, &e->text)
#define ARGUMENTS_cuGetErrorString (CUDA_SUCCESS, &e->text)
#define ARGUMENTS_cuDeviceGetCount (&e->number)
#define ARGUMENTS_cuDeviceGet (&e->device, 0)
#define ARGUMENTS_cuDeviceGetName (e->bytes, 64, 0)
#define ARGUMENTS_cuDeviceGetAttribute (&e->number, CU_DEVICE_ATTRIBUTE_INTEGRATED, 0)
#define ARGUMENTS_cuDeviceTotalMem_v2 (&e->size, 0)
#define ARGUMENTS_cuDeviceGetUuid_v2 (&e->uuid, 0)
#define ARGUMENTS_cuDeviceCanAccessPeer (&e->number, 0, 0)
#define ARGUMENTS_cuDevicePrimaryCtxRetain (&e->context, 0)
#define ARGUMENTS_cuDevicePrimaryCtxRelease (0)
#define ARGUMENTS_cuDevicePrimaryCtxRelease_v2 (0)
#define ARGUMENTS_cuDevicePrimaryCtxReset_v2 (0)
#define ARGUMENTS_cuDevicePrimaryCtxGetState (0, &e->flags, &e->number)
#define ARGUMENTS_cuCtxCreate_v2 (&e->made, 0, 0)
#define ARGUMENTS_cuCtxDestroy_v2 (e->made)
#define ARGUMENTS_cuCtxGetCurrent (&e->context)
#define ARGUMENTS_cuCtxSetCurrent (e->context)
#define ARGUMENTS_cuCtxPushCurrent_v2 (e->context)
#define ARGUMENTS_cuCtxPopCurrent_v2 (&e->made)
#define ARGUMENTS_cuCtxGetDevice (&e->device)
#define ARGUMENTS_cuCtxSynchronize ()
#define ARGUMENTS_cuCtxEnablePeerAccess (e->context, 0)
#define ARGUMENTS_cuCtxDisablePeerAccess (e->context)
#define ARGUMENTS_cuMemGetInfo_v2 (&e->size, &e->size2)
#define ARGUMENTS_cuMemAlloc_v2 (&e->address, 64)
#define ARGUMENTS_cuMemFree_v2 (e->address)
#define ARGUMENTS_cuMemGetAddressRange_v2 (&e->address, &e->size, e->address)
#define ARGUMENTS_cuMemHostAlloc (&e->memory, 64, 0)
#define ARGUMENTS_cuMemFreeHost (e->memory)
#define ARGUMENTS_cuMemHostGetDevicePointer_v2 (&e->address, e->memory, 0)
#define ARGUMENTS_cuMemHostRegister_v2 (e->bytes, 64, 0)
#define ARGUMENTS_cuMemHostUnregister (e->bytes)
#define ARGUMENTS_cuMemAllocManaged (&e->address, 64, 1)
#define ARGUMENTS_cuPointerGetAttribute (e->bytes, CU_POINTER_ATTRIBUTE_BUFFER_ID, e->address)
#define ARGUMENTS_cuPointerGetAttributes (1, &attribute, data, e->address)
#define ARGUMENTS_cuMemcpyHtoD_v2 (e->address, e->bytes, 4)
#define ARGUMENTS_cuMemcpyDtoH_v2 (e->bytes, e->address, 4)
#define ARGUMENTS_cuMemcpyHtoDAsync_v2 (e->address, e->bytes, 4, e->stream)
#define ARGUMENTS_cuMemcpyDtoHAsync_v2 (e->bytes, e->address, 4, e->stream)
#define ARGUMENTS_cuMemcpyDtoDAsync_v2 (e->address, e->address, 4, e->stream)
#define ARGUMENTS_cuMemcpyAsync (e->address, e->address, 4, e->stream)
#define ARGUMENTS_cuMemsetD8_v2 (e->address, 0, 4)
#define ARGUMENTS_cuMemsetD8Async (e->address, 0, 4, e->stream)
#define ARGUMENTS_cuMemsetD32Async (e->address, 0, 1, e->stream)
#define ARGUMENTS_cuStreamCreate (&e->stream, 0)
#define ARGUMENTS_cuStreamDestroy_v2 (e->stream)
#define ARGUMENTS_cuStreamSynchronize (e->stream)
#define ARGUMENTS_cuStreamQuery (e->stream)
#define ARGUMENTS_cuStreamWaitEvent (e->stream, e->event, 0)
#define ARGUMENTS_cuStreamGetCtx (e->stream, &e->context)
#define ARGUMENTS_cuStreamGetId (e->stream, &e->wide)
#define ARGUMENTS_cuEventCreate (&e->event, 0)
#define ARGUMENTS_cuEventDestroy_v2 (e->event)
#define ARGUMENTS_cuEventRecord (e->event, e->stream)
#define ARGUMENTS_cuEventQuery (e->event)
#define ARGUMENTS_cuEventSynchronize (e->event)
#define ARGUMENTS_cuEventElapsedTime (&e->time, e->event, e->event)
#define ARGUMENTS_cuLaunchHostFunc (e->stream, nothing, NULL)
#define ARGUMENTS_cuModuleLoadData (&e->module, kernels_ptx())
#define ARGUMENTS_cuModuleUnload (e->module)
#define ARGUMENTS_cuModuleGetFunction (&e->function, e->module, "spin")
#define ARGUMENTS_cuLaunchKernel (e->function, 1, 1, 1, 1, 1, 1, 0, e->stream, parameters, NULL)
#define ARGUMENTS_cuMemAddressReserve (&e->address, 2 << 20, 0, 0, 0)
#define ARGUMENTS_cuMemAddressFree (e->address, 2 << 20)
#define ARGUMENTS_cuMemCreate (&e->handle, 2 << 20, &e->prop, 0)
#define ARGUMENTS_cuMemRelease (e->handle)
#define ARGUMENTS_cuMemRetainAllocationHandle (&e->handle, (void *)(uintptr_t)e->address)
#define ARGUMENTS_cuMemMap (e->address, 2 << 20, 0, e->handle, 0)
#define ARGUMENTS_cuMemUnmap (e->address, 2 << 20)
#define ARGUMENTS_cuMemSetAccess (e->address, 2 << 20, &e->access, 1)
#define ARGUMENTS_cuMemGetAccess (&e->wide, &e->location, e->address)
#define ARGUMENTS_cuMemGetAllocationGranularity (&e->size, &e->prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM)
#define ARGUMENTS_cuMemGetAllocationPropertiesFromHandle (&e->prop, e->handle)
#define ARGUMENTS_cuMemExportToShareableHandle (&e->shareable, e->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0)
#define ARGUMENTS_cuMemImportFromShareableHandle (&e->handle, (void *)-1, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
#define ARGUMENTS_cuMemAllocAsync (&e->address, 64, e->stream)
#define ARGUMENTS_cuMemAllocFromPoolAsync (&e->address, 64, e->pool, e->stream)
#define ARGUMENTS_cuMemFreeAsync (e->address, e->stream)
#define ARGUMENTS_cuMemPoolCreate (&e->pool, &e->pool_props)
#define ARGUMENTS_cuMemPoolDestroy (e->pool)
#define ARGUMENTS_cuMemPoolTrimTo (e->pool, 0)
#define ARGUMENTS_cuMemPoolSetAttribute (e->pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &e->wide)
#define ARGUMENTS_cuMemPoolGetAttribute (e->pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &e->wide)
#define ARGUMENTS_cuMemPoolSetAccess (e->pool, &e->access, 1)
#define ARGUMENTS_cuMemPoolGetAccess (&e->access_flags, e->pool, &e->location)
#define ARGUMENTS_cuDeviceGetDefaultMemPool (&e->pool, 0)
#define ARGUMENTS_cuDeviceGetMemPool (&e->pool, 0)
#define ARGUMENTS_cuDeviceSetMemPool (0, e->pool)
#define ARGUMENTS_cuStreamBeginCapture_v2 (e->stream, CU_STREAM_CAPTURE_MODE_GLOBAL)
#define ARGUMENTS_cuStreamEndCapture (e->stream, &e->graph)
#define ARGUMENTS_cuStreamIsCapturing (e->stream, &e->status)
#define ARGUMENTS_cuStreamGetCaptureInfo (e->stream, &e->status, &e->id)
#define ARGUMENTS_cuStreamGetCaptureInfo_v2 (e->stream, &e->status, &e->id, &e->graph, &e->nodes, &e->size)
#define ARGUMENTS_cuThreadExchangeStreamCaptureMode (&e->mode)
#define ARGUMENTS_cuGraphDestroy (e->graph)
#define ARGUMENTS_cuGraphGetNodes (e->graph, NULL, &e->size)
#define ARGUMENTS_cuGraphNodeGetType (e->node, &e->type)
#define ARGUMENTS_cuGraphInstantiateWithFlags (&e->exec, e->graph, 0)
#define ARGUMENTS_cuGraphLaunch (e->exec, e->stream)
#define ARGUMENTS_cuGraphExecDestroy (e->exec)
#define ARGUMENTS_cuUserObjectCreate (&e->object, NULL, nothing, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
#define ARGUMENTS_cuUserObjectRetain (e->object, 1)
#define ARGUMENTS_cuUserObjectRelease (e->object, 1)
#define ARGUMENTS_cuGraphRetainUserObject (e->graph, e->object, 1, 0)
#define ARGUMENTS_cuGraphReleaseUserObject (e->graph, e->object, 1)
#define ARGUMENTS_cuDeviceGraphMemTrim (0)
#define ARGUMENTS_cuDeviceGetGraphMemAttribute (0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &e->wide)
#define ARGUMENTS_cuDeviceSetGraphMemAttribute (0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &e->wide)

/* One call of each, whatever it answers; results in the order of the list. */
static void call_each(CUresult *results, struct everything *e)
{
    void *parameters[8] = {&e->address, &e->number, &e->number, &e->number};
    CUpointer_attribute attribute = CU_POINTER_ATTRIBUTE_MAPPED;
    void *data[1] = {e->bytes};
    uint32_t i = 0;
#define TRY(name, version, parameters_) results[i++] = cu.name ARGUMENTS_##name;
    CUDA_FUNCTIONS(TRY)
#undef TRY
}

#define NAME(name, version, parameters) #name,
static const char *const names[] = {CUDA_FUNCTIONS(NAME)};
#undef NAME
enum { NAMES = sizeof names / sizeof names[0] };

static struct everything fresh(void)
{
    struct everything e;
    memset(&e, 0, sizeof e);
    e.prop = device_prop(0);
    e.access = read_write(0);
    e.location = e.access.location;
    return e;
}

/* Each symbol can be made to fail, once, with a code of its own, and only it fails. */
static void every_symbol_can_fail(void)
{
    CUresult results[NAMES];
    struct everything e;
    int i, k;
    for (i = 0; i < NAMES; i++) {
        if (!fake_open("sched=lazy;cap=64M")) { return; }
        e = fresh();
        test_context("%s", names[i]);
        CHECK_EQ(fake.tafake_fail(names[i], 1, CUDA_ERROR_UNKNOWN), 0);
        fake.tafake_calls_clear();
        call_each(results, &e);
        for (k = 0; k < NAMES; k++) {
            CHECK_EQ(results[k] == CUDA_ERROR_UNKNOWN, k == i);
        }
        CHECK_EQ(fake.tafake_calls(names[i]), 1);
        CHECK_EQ(fake.tafake_calls("*"), NAMES);
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_fail("cuNoSuchThing", 1, 2), (uint64_t)-1);
    CHECK_EQ(fake.tafake_calls("cuNoSuchThing"), UINT64_MAX);
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

static void the_nth_call_fails(void)
{
    CUdeviceptr a = 0;
    if (!fake_open("fail=cuMemAlloc_v2@3:2")) { return; }
    OK(cu.cuMemAlloc_v2(&a, 16));
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_CU(cu.cuMemAlloc_v2(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_EQ(fake.tafake_fail_from("cuMemAlloc_v2", 2, CUDA_ERROR_OUT_OF_MEMORY), 0);
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_CU(cu.cuMemAlloc_v2(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(cu.cuMemAlloc_v2(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(fake.tafake_fail("cuMemAlloc_v2", 0, 0), 0);
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_EQ(fake.tafake_fail("*", 2, CUDA_ERROR_UNKNOWN), 0);
    CHECK_EQ(cu.cuMemAlloc_v2(&a, 16), CUDA_SUCCESS);
    CHECK_EQ(cu.cuCtxSynchronize(), CUDA_ERROR_UNKNOWN); /* of any symbol; looking up names would count too */
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(fake.tafake_fail_twice("cuMemAlloc_v2", 1, 2, CUDA_ERROR_OUT_OF_MEMORY), 0);
    CHECK_CU(cu.cuMemAlloc_v2(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_CU(cu.cuMemAlloc_v2(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cu.cuMemAlloc_v2(&a, 16));
    CHECK_EQ(fake.tafake_calls("cuMemAlloc_v2"), 13);
    device_close();
}

/* No call may crash on arguments of nothing, before and after cuInit was called, or after the driver has gone. */
static void nothing_crashes_without_a_context(void)
{
    CUresult results[NAMES];
    struct everything e;
    int i;
    if (!fake_open("")) { return; }
    device_close();
    e = fresh();
    call_each(results, &e);
    fake.tafake_deinitialize();
    e = fresh();
    call_each(results, &e);
    for (i = 0; i < NAMES; i++) {
        test_context("%s", names[i]);
        CHECK_EQ(results[i], CUDA_ERROR_DEINITIALIZED);
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

static void illegal_access_is_sticky(void)
{
    static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:4", "sched=threads"};
    int k;
    for (k = 0; k < 4; k++) {
        CUstream s;
        CUdeviceptr a, b = 0;
        CUcontext context = NULL;
        int count = 0;
        if (!fake_open(schedulers[k])) { return; }
        s = stream_new();
        a = alloc(4 << 20);
        (void)fill(a + (4 << 20), 1, 4, s); /* beyond its end */
        CHECK_CU(cu.cuStreamSynchronize(s), CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK_CU(cu.cuMemAlloc_v2(&b, 16), CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK_CU(cu.cuStreamQuery(s), CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK_CU(fill(a, 1, 1, s), CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK_CU(cu.cuStreamDestroy_v2(s), CUDA_ERROR_ILLEGAL_ADDRESS);
        OK(cu.cuCtxGetCurrent(&context)); /* what asks for no work goes on */
        OK(cu.cuDeviceGetCount(&count));
        CHECK_NE(fake.tafake_race_count(), 0); /* and the checker has told of it */
        OK(cu.cuDevicePrimaryCtxReset_v2(0));
        a = alloc(16);
        OK(cu.cuMemFree_v2(a));
        device_close();
    }
}

static void lost_contexts(void)
{
    CUmemAllocationProp prop = device_prop(0);
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr a;
    if (!fake_open("")) { return; }
    a = alloc(16);
    fake.tafake_lose_context(0, CUDA_ERROR_LAUNCH_FAILED);
    CHECK_CU(cu.cuMemFree_v2(a), CUDA_ERROR_LAUNCH_FAILED);
    CHECK_CU(cu.cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
    CHECK_CU(cu.cuMemCreate(&handle, 2 << 20, &prop, 0), CUDA_ERROR_LAUNCH_FAILED);
    on.module = NULL;
    device_close();
    CHECK_EQ(fake.tafake_reset("init=0"), (uint64_t)-1); /* not a key */
    CHECK_EQ(fake.tafake_reset(NULL), 0);
}

static void the_child_of_a_fork_has_no_driver(void)
{
    int status = -1;
    pid_t child;
    if (!fake_open("sched=lazy")) { return; }
    child = fork();
    if (child == 0) {
        CUdeviceptr a = 0;
        _exit(cu.cuMemAlloc_v2(&a, 16) == CUDA_ERROR_NOT_INITIALIZED ? 42 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    device_close();
}

static void hidden_symbols(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (!fake_open("hide=cuMemAllocAsync;version=11020")) { return; }
    CHECK(fake.tafake_resolve("cuMemAllocAsync") == NULL);
    CHECK(fake.tafake_resolve("cuStreamGetId") == NULL); /* of a later version */
    CHECK(fake.tafake_resolve("cuMemFreeAsync") != NULL);
    CHECK(fake.tafake_resolve("cuNoSuchThing") == NULL);
    CHECK_EQ(fake.tafake_hide("cuMemAllocAsync", 0), 0);
    CHECK(fake.tafake_resolve("cuMemAllocAsync") != NULL);
    CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
    CHECK_EQ(fake.tafake_capture_mode(), CU_STREAM_CAPTURE_MODE_RELAXED);
    OK(cu.cuThreadExchangeStreamCaptureMode(&mode));
    device_close();
}

static void no_device(void)
{
    if (!driver_load() || fake.tafake_reset == NULL) {
        TEST_SKIP("this is not the software driver");
        return;
    }
    CHECK_EQ(fake.tafake_reset("devices=0"), 0);
    CHECK_CU(cu.cuInit(0), CUDA_ERROR_NO_DEVICE);
    CHECK_EQ(fake.tafake_reset(NULL), 0);
    OK(cu.cuInit(0));
    CHECK_CU(cu.cuInit(1), CUDA_ERROR_INVALID_VALUE);
}

TEST_MAIN(TEST_CASE(no_device), TEST_CASE(every_symbol_can_fail), TEST_CASE(the_nth_call_fails),
          TEST_CASE(nothing_crashes_without_a_context), TEST_CASE(illegal_access_is_sticky), TEST_CASE(lost_contexts),
          TEST_CASE(the_child_of_a_fork_has_no_driver), TEST_CASE(hidden_symbols))
