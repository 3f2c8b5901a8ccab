/* testing.h - what tests that call the driver share: a device, streams, events, kernels, and checks of results by
   name. */
#ifndef TESTING_H
#define TESTING_H

#include "loader.h"

#include "kernels.h"
#include "test.h"

static struct testing {
    CUcontext context;
    CUmodule module;
    CUfunction fill32, add32, copy32, axpy, mul, check32, sum32, spin;
} on;

__attribute__((unused)) static const char *cu_text(CUresult result)
{
    const char *text = NULL;
    cu.cuGetErrorName(result, &text);
    return text != NULL ? text : "an unknown result";
}

#define CHECK_CU(call, want) CHECK_TEXT(#call " is " #want, cu_text(call), cu_text(want))
#define OK(call) CHECK_CU(call, CUDA_SUCCESS)

/* The first device, current; kernels loaded. 0 and a skipped case where there is none. */
__attribute__((unused)) static int device_open(void)
{
    memset(&on, 0, sizeof on);
    if (!driver_load()) {
        TEST_SKIP("there is no CUDA driver");
        return 0;
    }
    if (cu.cuInit(0) != CUDA_SUCCESS || cu.cuDevicePrimaryCtxRetain(&on.context, 0) != CUDA_SUCCESS) {
        TEST_SKIP("the driver has no device");
        return 0;
    }
    OK(cu.cuCtxSetCurrent(on.context));
    if (cu.cuModuleLoadData(&on.module, kernels_ptx()) == CUDA_SUCCESS) {
        OK(cu.cuModuleGetFunction(&on.fill32, on.module, "fill32"));
        OK(cu.cuModuleGetFunction(&on.add32, on.module, "add32"));
        OK(cu.cuModuleGetFunction(&on.copy32, on.module, "copy32"));
        OK(cu.cuModuleGetFunction(&on.axpy, on.module, "axpy"));
        OK(cu.cuModuleGetFunction(&on.mul, on.module, "mul"));
        OK(cu.cuModuleGetFunction(&on.check32, on.module, "check32"));
        OK(cu.cuModuleGetFunction(&on.sum32, on.module, "sum32"));
        OK(cu.cuModuleGetFunction(&on.spin, on.module, "spin"));
    }
    return on.spin != NULL;
}

/* The software driver as just loaded, with this configuration, and opened. */
__attribute__((unused)) static int fake_open(const char *config)
{
    if (!driver_load() || fake.tafake_reset == NULL) {
        TEST_SKIP("this is not the software driver");
        return 0;
    }
    CHECK_EQ(fake.tafake_reset(config), 0);
    return device_open();
}

/* The software driver as before, or whatever driver there is: for tests that need nothing of the side channel. */
__attribute__((unused)) static int any_open(const char *config)
{
    return driver_load() && fake.tafake_reset == NULL ? device_open() : fake_open(config);
}

__attribute__((unused)) static void device_close(void)
{
    if (on.context != NULL) {
        if (on.module != NULL) {
            (void)cu.cuModuleUnload(on.module);
        }
        OK(cu.cuCtxSetCurrent(NULL));
        OK(cu.cuDevicePrimaryCtxRelease(0));
    }
    on.context = NULL;
}

__attribute__((unused)) static CUresult launch(CUfunction function, CUstream stream, void **parameters)
{
    return cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);
}

__attribute__((unused)) static CUresult fill(CUdeviceptr to, uint32_t value, uint32_t n, CUstream stream)
{
    void *parameters[] = {&to, &value, &n};
    return launch(on.fill32, stream, parameters);
}

__attribute__((unused)) static CUresult add(CUdeviceptr to, uint32_t value, uint32_t n, CUstream stream)
{
    void *parameters[] = {&to, &value, &n};
    return launch(on.add32, stream, parameters);
}

__attribute__((unused)) static CUresult copy(CUdeviceptr to, CUdeviceptr from, uint32_t n, CUstream stream)
{
    void *parameters[] = {&to, &from, &n};
    return launch(on.copy32, stream, parameters);
}

__attribute__((unused)) static CUresult check(CUdeviceptr errors, CUdeviceptr from, uint32_t value, uint32_t n,
                                              CUstream stream)
{
    void *parameters[] = {&errors, &from, &value, &n};
    return launch(on.check32, stream, parameters);
}

__attribute__((unused)) static CUresult spin_ns(uint64_t ns, CUstream stream)
{
    void *parameters[] = {&ns};
    return launch(on.spin, stream, parameters);
}

__attribute__((unused)) static CUdeviceptr alloc(size_t bytes)
{
    CUdeviceptr address = 0;
    OK(cu.cuMemAlloc_v2(&address, bytes));
    return address;
}

__attribute__((unused)) static CUstream stream_new(void)
{
    CUstream stream = NULL;
    OK(cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    return stream;
}

__attribute__((unused)) static CUevent event_new(void)
{
    CUevent event = NULL;
    OK(cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    return event;
}

/* `after` goes on when `before` has come to where it is now. */
__attribute__((unused)) static void order(CUstream before, CUstream after)
{
    CUevent event = event_new();
    OK(cu.cuEventRecord(event, before));
    OK(cu.cuStreamWaitEvent(after, event, 0));
    OK(cu.cuEventDestroy_v2(event));
}

__attribute__((unused)) static uint32_t read32(CUdeviceptr from)
{
    uint32_t value = 0;
    OK(cu.cuMemcpyDtoH_v2(&value, from, sizeof value));
    return value;
}

__attribute__((unused)) static CUmemAllocationProp device_prop(int device)
{
    CUmemAllocationProp prop;
    memset(&prop, 0, sizeof prop);
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = device;
    return prop;
}

__attribute__((unused)) static CUmemAccessDesc read_write(int device)
{
    CUmemAccessDesc desc;
    memset(&desc, 0, sizeof desc);
    desc.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    desc.location.id = device;
    desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return desc;
}

#endif /* TESTING_H */
