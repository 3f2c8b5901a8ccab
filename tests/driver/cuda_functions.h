/* cuda_functions.h - lists: the results of the driver, and its functions that these tests use, with exported name,
   driver version that brought it, and parameters.

   Used for the prototypes (cuda_abi.h), the table of a program (loader.h), the version scripts (exports.py) and the
   comparison with cuda.h (test_cuda_abi.c). It needs only the type names, ours or those of cuda.h. */
#ifndef CUDA_FUNCTIONS_H
#define CUDA_FUNCTIONS_H

/* X(name, number, what cuGetErrorString says) */
#define CUDA_RESULTS(X) \
    X(CUDA_SUCCESS, 0, "no error") \
    X(CUDA_ERROR_INVALID_VALUE, 1, "invalid argument") \
    X(CUDA_ERROR_OUT_OF_MEMORY, 2, "out of memory") \
    X(CUDA_ERROR_NOT_INITIALIZED, 3, "initialization error") \
    X(CUDA_ERROR_DEINITIALIZED, 4, "driver shutting down") \
    X(CUDA_ERROR_STUB_LIBRARY, 34, "CUDA driver is a stub library") \
    X(CUDA_ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected") \
    X(CUDA_ERROR_INVALID_DEVICE, 101, "invalid device ordinal") \
    X(CUDA_ERROR_INVALID_IMAGE, 200, "device kernel image is invalid") \
    X(CUDA_ERROR_INVALID_CONTEXT, 201, "invalid device context") \
    X(CUDA_ERROR_INVALID_PTX, 218, "a PTX JIT compilation failed") \
    X(CUDA_ERROR_INVALID_HANDLE, 400, "invalid resource handle") \
    X(CUDA_ERROR_ILLEGAL_STATE, 401, "the operation cannot be performed in the present state") \
    X(CUDA_ERROR_NOT_FOUND, 500, "named symbol not found") \
    X(CUDA_ERROR_NOT_READY, 600, "device not ready") \
    X(CUDA_ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered") \
    X(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, 704, "peer access is already enabled") \
    X(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, 705, "peer access has not been enabled") \
    X(CUDA_ERROR_CONTEXT_IS_DESTROYED, 709, "context is destroyed") \
    X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712, "part or all of the requested memory range is already mapped") \
    X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713, "pointer does not correspond to a registered memory region") \
    X(CUDA_ERROR_LAUNCH_FAILED, 719, "unspecified launch failure") \
    X(CUDA_ERROR_NOT_PERMITTED, 800, "operation not permitted") \
    X(CUDA_ERROR_NOT_SUPPORTED, 801, "operation not supported") \
    X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803, "system has unsupported display driver / cuda driver combination") \
    X(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, 804, "forward compatibility was attempted on non supported HW") \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900, "operation not permitted when stream is capturing") \
    X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901, "operation failed due to a previous error during capture") \
    X(CUDA_ERROR_STREAM_CAPTURE_MERGE, 902, "operation would result in a merge of separate capture sequences") \
    X(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, 903, "capture was not ended in the same stream as it began") \
    X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, 904, "capturing stream has unjoined work") \
    X(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, 905, "dependency created on uncaptured work in another stream") \
    X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, 906, "operation would make the legacy stream depend on a capturing stream") \
    X(CUDA_ERROR_CAPTURED_EVENT, 907, "operation not permitted on an event last recorded in a capturing stream") \
    X(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 908, "attempt to terminate a thread-local capture sequence from " \
                                                   "another thread") \
    X(CUDA_ERROR_UNKNOWN, 999, "unknown error")

/* clang-format off */
#define CUDA_FUNCTIONS_CORE(F) \
    F(cuInit, 2000, (unsigned int flags)) \
    F(cuDriverGetVersion, 2020, (int *version)) \
    F(cuGetErrorName, 6000, (CUresult error, const char **text)) \
    F(cuGetErrorString, 6000, (CUresult error, const char **text)) \
    F(cuDeviceGetCount, 2000, (int *count)) \
    F(cuDeviceGet, 2000, (CUdevice *device, int ordinal)) \
    F(cuDeviceGetName, 2000, (char *name, int bytes, CUdevice device)) \
    F(cuDeviceGetAttribute, 2000, (int *value, CUdevice_attribute attribute, CUdevice device)) \
    F(cuDeviceTotalMem_v2, 3020, (size_t *bytes, CUdevice device)) \
    F(cuDeviceGetUuid_v2, 11040, (CUuuid *uuid, CUdevice device)) \
    F(cuDeviceCanAccessPeer, 4000, (int *can, CUdevice device, CUdevice peer)) \
    F(cuDevicePrimaryCtxRetain, 7000, (CUcontext *context, CUdevice device)) \
    F(cuDevicePrimaryCtxRelease, 7000, (CUdevice device)) \
    F(cuDevicePrimaryCtxRelease_v2, 11000, (CUdevice device)) \
    F(cuDevicePrimaryCtxReset_v2, 11000, (CUdevice device)) \
    F(cuDevicePrimaryCtxGetState, 7000, (CUdevice device, unsigned int *flags, int *active)) \
    F(cuCtxCreate_v2, 3020, (CUcontext *context, unsigned int flags, CUdevice device)) \
    F(cuCtxDestroy_v2, 4000, (CUcontext context)) \
    F(cuCtxGetCurrent, 4000, (CUcontext *context)) \
    F(cuCtxSetCurrent, 4000, (CUcontext context)) \
    F(cuCtxPushCurrent_v2, 4000, (CUcontext context)) \
    F(cuCtxPopCurrent_v2, 4000, (CUcontext *context)) \
    F(cuCtxGetDevice, 2000, (CUdevice *device)) \
    F(cuCtxSynchronize, 2000, (void)) \
    F(cuCtxEnablePeerAccess, 4000, (CUcontext peer, unsigned int flags)) \
    F(cuCtxDisablePeerAccess, 4000, (CUcontext peer))

#define CUDA_FUNCTIONS_MEMORY(F) \
    F(cuMemGetInfo_v2, 3020, (size_t *free_bytes, size_t *total_bytes)) \
    F(cuMemAlloc_v2, 3020, (CUdeviceptr *address, size_t bytes)) \
    F(cuMemFree_v2, 3020, (CUdeviceptr address)) \
    F(cuMemGetAddressRange_v2, 3020, (CUdeviceptr *base, size_t *bytes, CUdeviceptr address)) \
    F(cuMemHostAlloc, 2020, (void **memory, size_t bytes, unsigned int flags)) \
    F(cuMemFreeHost, 2000, (void *memory)) \
    F(cuMemHostGetDevicePointer_v2, 3020, (CUdeviceptr *address, void *memory, unsigned int flags)) \
    F(cuMemHostRegister_v2, 6050, (void *memory, size_t bytes, unsigned int flags)) \
    F(cuMemHostUnregister, 4000, (void *memory)) \
    F(cuMemAllocManaged, 6000, (CUdeviceptr *address, size_t bytes, unsigned int flags)) \
    F(cuPointerGetAttribute, 4000, (void *data, CUpointer_attribute attribute, CUdeviceptr address)) \
    F(cuPointerGetAttributes, 7000, (unsigned int count, CUpointer_attribute *attributes, void **data, \
                                     CUdeviceptr address)) \
    F(cuMemcpyHtoD_v2, 3020, (CUdeviceptr to, const void *from, size_t bytes)) \
    F(cuMemcpyDtoH_v2, 3020, (void *to, CUdeviceptr from, size_t bytes)) \
    F(cuMemcpyHtoDAsync_v2, 3020, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream)) \
    F(cuMemcpyDtoHAsync_v2, 3020, (void *to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    F(cuMemcpyDtoDAsync_v2, 3020, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    F(cuMemcpyAsync, 4000, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    F(cuMemsetD8_v2, 3020, (CUdeviceptr to, unsigned char value, size_t count)) \
    F(cuMemsetD8Async, 3020, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream)) \
    F(cuMemsetD32Async, 3020, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream))

#define CUDA_FUNCTIONS_STREAMS(F) \
    F(cuStreamCreate, 2000, (CUstream *stream, unsigned int flags)) \
    F(cuStreamDestroy_v2, 4000, (CUstream stream)) \
    F(cuStreamSynchronize, 2000, (CUstream stream)) \
    F(cuStreamQuery, 2000, (CUstream stream)) \
    F(cuStreamWaitEvent, 3020, (CUstream stream, CUevent event, unsigned int flags)) \
    F(cuStreamGetCtx, 9020, (CUstream stream, CUcontext *context)) \
    F(cuStreamGetId, 12000, (CUstream stream, unsigned long long *id)) \
    F(cuEventCreate, 2000, (CUevent *event, unsigned int flags)) \
    F(cuEventDestroy_v2, 4000, (CUevent event)) \
    F(cuEventRecord, 2000, (CUevent event, CUstream stream)) \
    F(cuEventQuery, 2000, (CUevent event)) \
    F(cuEventSynchronize, 2000, (CUevent event)) \
    F(cuEventElapsedTime, 2000, (float *milliseconds, CUevent start, CUevent end)) \
    F(cuLaunchHostFunc, 10000, (CUstream stream, CUhostFn function, void *data)) \
    F(cuModuleLoadData, 2000, (CUmodule *module, const void *image)) \
    F(cuModuleUnload, 2000, (CUmodule module)) \
    F(cuModuleGetFunction, 2000, (CUfunction *function, CUmodule module, const char *name)) \
    F(cuLaunchKernel, 4000, (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, \
                             unsigned int block_x, unsigned int block_y, unsigned int block_z, \
                             unsigned int shared_bytes, CUstream stream, void **parameters, void **extra))

#define CUDA_FUNCTIONS_VMM(F) \
    F(cuMemAddressReserve, 10020, (CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint, \
                                   unsigned long long flags)) \
    F(cuMemAddressFree, 10020, (CUdeviceptr address, size_t bytes)) \
    F(cuMemCreate, 10020, (CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop, \
                           unsigned long long flags)) \
    F(cuMemRelease, 10020, (CUmemGenericAllocationHandle handle)) \
    F(cuMemRetainAllocationHandle, 11000, (CUmemGenericAllocationHandle *handle, void *address)) \
    F(cuMemMap, 10020, (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, \
                        unsigned long long flags)) \
    F(cuMemUnmap, 10020, (CUdeviceptr address, size_t bytes)) \
    F(cuMemSetAccess, 10020, (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *descs, size_t count)) \
    F(cuMemGetAccess, 10020, (unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address)) \
    F(cuMemGetAllocationGranularity, 10020, (size_t *bytes, const CUmemAllocationProp *prop, \
                                             CUmemAllocationGranularity_flags option)) \
    F(cuMemGetAllocationPropertiesFromHandle, 10020, (CUmemAllocationProp *prop, \
                                                      CUmemGenericAllocationHandle handle)) \
    F(cuMemExportToShareableHandle, 10020, (void *shareable, CUmemGenericAllocationHandle handle, \
                                            CUmemAllocationHandleType type, unsigned long long flags)) \
    F(cuMemImportFromShareableHandle, 10020, (CUmemGenericAllocationHandle *handle, void *shareable, \
                                              CUmemAllocationHandleType type))

#define CUDA_FUNCTIONS_POOLS(F) \
    F(cuMemAllocAsync, 11020, (CUdeviceptr *address, size_t bytes, CUstream stream)) \
    F(cuMemAllocFromPoolAsync, 11020, (CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)) \
    F(cuMemFreeAsync, 11020, (CUdeviceptr address, CUstream stream)) \
    F(cuMemPoolCreate, 11020, (CUmemoryPool *pool, const CUmemPoolProps *props)) \
    F(cuMemPoolDestroy, 11020, (CUmemoryPool pool)) \
    F(cuMemPoolTrimTo, 11020, (CUmemoryPool pool, size_t bytes_to_keep)) \
    F(cuMemPoolSetAttribute, 11020, (CUmemoryPool pool, CUmemPool_attribute attribute, void *value)) \
    F(cuMemPoolGetAttribute, 11020, (CUmemoryPool pool, CUmemPool_attribute attribute, void *value)) \
    F(cuMemPoolSetAccess, 11020, (CUmemoryPool pool, const CUmemAccessDesc *descs, size_t count)) \
    F(cuMemPoolGetAccess, 11020, (CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location)) \
    F(cuDeviceGetDefaultMemPool, 11020, (CUmemoryPool *pool, CUdevice device)) \
    F(cuDeviceGetMemPool, 11020, (CUmemoryPool *pool, CUdevice device)) \
    F(cuDeviceSetMemPool, 11020, (CUdevice device, CUmemoryPool pool))

#define CUDA_FUNCTIONS_CAPTURE(F) \
    F(cuStreamBeginCapture_v2, 10010, (CUstream stream, CUstreamCaptureMode mode)) \
    F(cuStreamEndCapture, 10000, (CUstream stream, CUgraph *graph)) \
    F(cuStreamIsCapturing, 10000, (CUstream stream, CUstreamCaptureStatus *status)) \
    F(cuStreamGetCaptureInfo, 10010, (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id)) \
    F(cuStreamGetCaptureInfo_v2, 11030, (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, \
                                         CUgraph *graph, const CUgraphNode **dependencies, size_t *count)) \
    F(cuThreadExchangeStreamCaptureMode, 10010, (CUstreamCaptureMode *mode)) \
    F(cuGraphDestroy, 10000, (CUgraph graph)) \
    F(cuGraphGetNodes, 10000, (CUgraph graph, CUgraphNode *nodes, size_t *count)) \
    F(cuGraphNodeGetType, 10000, (CUgraphNode node, CUgraphNodeType *type)) \
    F(cuGraphInstantiateWithFlags, 11040, (CUgraphExec *exec, CUgraph graph, unsigned long long flags)) \
    F(cuGraphLaunch, 10000, (CUgraphExec exec, CUstream stream)) \
    F(cuGraphExecDestroy, 10000, (CUgraphExec exec)) \
    F(cuUserObjectCreate, 11030, (CUuserObject *object, void *data, CUhostFn destroy, \
                                  unsigned int references, unsigned int flags)) \
    F(cuUserObjectRetain, 11030, (CUuserObject object, unsigned int count)) \
    F(cuUserObjectRelease, 11030, (CUuserObject object, unsigned int count)) \
    F(cuGraphRetainUserObject, 11030, (CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags)) \
    F(cuGraphReleaseUserObject, 11030, (CUgraph graph, CUuserObject object, unsigned int count)) \
    F(cuDeviceGraphMemTrim, 11040, (CUdevice device)) \
    F(cuDeviceGetGraphMemAttribute, 11040, (CUdevice device, CUgraphMem_attribute attribute, void *value)) \
    F(cuDeviceSetGraphMemAttribute, 11040, (CUdevice device, CUgraphMem_attribute attribute, void *value))
/* clang-format on */

#define CUDA_FUNCTIONS(F) \
    CUDA_FUNCTIONS_CORE(F) \
    CUDA_FUNCTIONS_MEMORY(F) \
    CUDA_FUNCTIONS_STREAMS(F) \
    CUDA_FUNCTIONS_VMM(F) \
    CUDA_FUNCTIONS_POOLS(F) \
    CUDA_FUNCTIONS_CAPTURE(F)

#endif /* CUDA_FUNCTIONS_H */
