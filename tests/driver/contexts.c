/* contexts.c - initialisation, devices, contexts, the contexts current on a thread. */
#include "driver.h"

#include <stdio.h>
#include <string.h>

static __thread struct thread this_thread;
static int thread_count;
static uint8_t peers[DEVICES_MAX][DEVICES_MAX]; /* [accessing][accessed] */

struct thread *thread_now(void)
{
    struct thread *thread = &this_thread;
    if (thread->generation != driver.generation) { /* a reset took place: what was current has gone */
        const int in_callback = thread->in_callback;
        memset(thread, 0, sizeof *thread);
        thread->generation = driver.generation;
        thread->in_callback = in_callback;
        thread->id = ++thread_count;
    }
    return thread;
}

struct context *context_now(void)
{
    struct thread *thread = thread_now();
    struct context *context = thread->depth == 0 ? NULL : object_find(thread->stack[thread->depth - 1], OBJECT_CONTEXT);
    return context != NULL && context->references != 0 ? context : NULL; /* a released primary one is not there */
}

CUresult cuInit(unsigned int flags)
{
    CUresult result = driver_enter(SYMBOL_cuInit, ENTER_BEFORE_INIT | ENTER_ALWAYS_LEGAL);
    if (result == CUDA_SUCCESS) {
        result = flags != 0                   ? CUDA_ERROR_INVALID_VALUE
                 : driver.config.devices == 0 ? CUDA_ERROR_NO_DEVICE
                                              : CUDA_SUCCESS;
        driver.initialized |= result == CUDA_SUCCESS;
    }
    return driver_leave(result);
}

static CUresult put_int(int *to, int value)
{
    if (to == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *to = value;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version)
{
    DRIVER_CALL(cuDriverGetVersion, ENTER_BEFORE_INIT | ENTER_CALLBACK | ENTER_ALWAYS_LEGAL,
                put_int(version, driver.config.version));
}

static CUresult result_text(CUresult error, const char **text, int name)
{
    if (text == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *text = NULL;
    switch ((int)error) {
#define RESULT_TEXT(constant, number, says) \
    case number: *text = name ? #constant : says; return CUDA_SUCCESS;
        CUDA_RESULTS(RESULT_TEXT)
#undef RESULT_TEXT
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuGetErrorName(CUresult error, const char **text)
{
    DRIVER_CALL(cuGetErrorName, ENTER_BEFORE_INIT | ENTER_CALLBACK | ENTER_ALWAYS_LEGAL, result_text(error, text, 1));
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    DRIVER_CALL(cuGetErrorString, ENTER_BEFORE_INIT | ENTER_CALLBACK | ENTER_ALWAYS_LEGAL, result_text(error, text, 0));
}

/* ---- devices */
CUresult cuDeviceGetCount(int *count)
{
    DRIVER_CALL(cuDeviceGetCount, 0, put_int(count, driver.config.devices));
}

static CUresult device_get(CUdevice *device, int ordinal)
{
    return device_valid(ordinal) ? put_int(device, ordinal) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    DRIVER_CALL(cuDeviceGet, 0, device_get(device, ordinal));
}

static CUresult device_name(char *name, int bytes, CUdevice device)
{
    if (name == NULL || bytes <= 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    (void)snprintf(name, (size_t)bytes, "Software device %d", device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device)
{
    DRIVER_CALL(cuDeviceGetName, 0, device_name(name, bytes, device));
}

CUresult device_attribute(int *value, int attribute)
{
    static const struct { int attribute, value, since; } known[] = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024, 0},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32, 0},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1, 0},
        {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0, 0},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1, 0},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1, 0},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 7, 0},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 5, 0},
        {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1, 0},
        {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0, 0},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1, 0},
        {CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, 0, 0},
        {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1, 10020},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1, 10020},
        {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 0, 11000},
        {CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 1, 11000},
        {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1, 11020},
        {CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, 0, 11030},
        {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, 0, 12040},
    };
    size_t i;
    int k;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].attribute == attribute && known[i].since <= driver.config.version) {
            *value = known[i].value;
            for (k = 0; k < driver.config.attribute_count; k++) {
                if (driver.config.attributes[k].attribute == attribute) {
                    *value = driver.config.attributes[k].value;
                }
            }
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_INVALID_VALUE;
}

static CUresult get_attribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    int found = 0;
    CUresult result = device_attribute(&found, (int)attribute);
    if (value == NULL || result != CUDA_SUCCESS) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return device_valid(device) ? put_int(value, found) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    DRIVER_CALL(cuDeviceGetAttribute, 0, get_attribute(value, attribute, device));
}

static CUresult total_mem(size_t *bytes, CUdevice device)
{
    if (bytes == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *bytes = (size_t)driver.config.capacity;
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    DRIVER_CALL(cuDeviceTotalMem_v2, 0, total_mem(bytes, device));
}

static CUresult get_uuid(CUuuid *uuid, CUdevice device)
{
    if (uuid == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    memcpy(uuid->bytes, "software device", 15);
    uuid->bytes[15] = (char)('0' + device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    DRIVER_CALL(cuDeviceGetUuid_v2, 0, get_uuid(uuid, device));
}

static CUresult can_access_peer(int *can, CUdevice device, CUdevice peer)
{
    if (!device_valid(device) || !device_valid(peer)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    return put_int(can, device != peer && driver.config.peers);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    DRIVER_CALL(cuDeviceCanAccessPeer, 0, can_access_peer(can, device, peer));
}

int context_peers(int from, int to)
{
    return peers[from][to];
}

static CUresult change_peer(CUcontext handle, unsigned flags, int enable)
{
    const struct context *peer = object_find(handle, OBJECT_CONTEXT);
    uint8_t *entry;
    if (peer == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (flags != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (peer->device == context_now()->device || !driver.config.peers) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    entry = &peers[context_now()->device][peer->device];
    if (*entry == enable) {
        return enable ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    }
    *entry = (uint8_t)enable;
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
    DRIVER_CALL(cuCtxEnablePeerAccess, ENTER_CONTEXT, change_peer(peer, flags, 1));
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
    DRIVER_CALL(cuCtxDisablePeerAccess, ENTER_CONTEXT, change_peer(peer, 0, 0));
}

/* ---- contexts */
static struct context *context_new(int device, unsigned flags, int primary)
{
    struct context *context = object_new(OBJECT_CONTEXT);
    context->device = device;
    context->flags = flags;
    context->primary = primary;
    context->references = 1;
    context->legacy = stream_new(context, CU_STREAM_DEFAULT, 1);
    return context;
}

/* What is in flight is finished, unless the context is lost; then all that belongs to it goes. */
static void context_empty(struct context *context)
{
    schedule_all();
    streams_delete(context);
    memory_delete_context(context);
    context->legacy = NULL;
}

static CUresult primary_retain(CUcontext *handle, CUdevice ordinal)
{
    struct device *device;
    if (handle == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(ordinal)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    device = &driver.devices[ordinal];
    if (device->primary == NULL || device->primary->references == 0) {
        if (memory_free_bytes(ordinal) < driver.config.overhead) {
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (device->primary == NULL) {
            device->primary = context_new(ordinal, 0, 1);
        } else { /* the handle of a primary context stays the same */
            device->primary->references = 1;
            device->primary->legacy = stream_new(device->primary, CU_STREAM_DEFAULT, 1);
        }
    } else {
        device->primary->references++;
    }
    *handle = (CUcontext)(void *)device->primary;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    DRIVER_CALL(cuDevicePrimaryCtxRetain, 0, primary_retain(context, device));
}

static CUresult primary_release(CUdevice ordinal)
{
    struct context *primary;
    if (!device_valid(ordinal)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    primary = driver.devices[ordinal].primary;
    if (primary == NULL || primary->references == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (--primary->references == 0) {
        context_empty(primary);
        primary->lost = CUDA_SUCCESS;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    DRIVER_CALL(cuDevicePrimaryCtxRelease, 0, primary_release(device));
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    DRIVER_CALL(cuDevicePrimaryCtxRelease_v2, 0, primary_release(device));
}

static CUresult primary_reset(CUdevice ordinal)
{
    struct context *primary;
    if (!device_valid(ordinal)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    primary = driver.devices[ordinal].primary;
    if (primary != NULL && primary->references != 0) {
        context_empty(primary);
        primary->lost = CUDA_SUCCESS;
        primary->legacy = stream_new(primary, CU_STREAM_DEFAULT, 1);
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    DRIVER_CALL(cuDevicePrimaryCtxReset_v2, 0, primary_reset(device));
}

static CUresult primary_state(CUdevice device, unsigned *flags, int *active)
{
    const struct context *primary;
    if (flags == NULL || active == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    primary = driver.devices[device].primary;
    *flags = 0;
    *active = primary != NULL && primary->references != 0;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
    DRIVER_CALL(cuDevicePrimaryCtxGetState, 0, primary_state(device, flags, active));
}

static CUresult push(struct context *context)
{
    struct thread *thread = thread_now();
    if (thread->depth == CONTEXT_STACK_MAX) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    thread->stack[thread->depth++] = context;
    return CUDA_SUCCESS;
}

static CUresult context_create(CUcontext *handle, unsigned flags, CUdevice device)
{
    struct context *context;
    CUresult result;
    if (handle == NULL || flags > 0xFF) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    context = context_new(device, flags, 0);
    result = push(context); /* a created context is current at once; a retained one is not */
    *handle = (CUcontext)(void *)context;
    return result;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
    DRIVER_CALL(cuCtxCreate_v2, 0, context_create(context, flags, device));
}

static CUresult context_destroy(CUcontext handle)
{
    struct context *context = object_find(handle, OBJECT_CONTEXT);
    struct thread *thread = thread_now();
    if (context == NULL || context->primary) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    context_empty(context);
    object_free(context);
    if (thread->depth != 0 && thread->stack[thread->depth - 1] == context) {
        thread->depth--;
    }
    return CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    DRIVER_CALL(cuCtxDestroy_v2, 0, context_destroy(context));
}

static CUresult get_current(CUcontext *handle)
{
    const struct thread *thread = thread_now();
    if (handle == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *handle = (CUcontext)(void *)(thread->depth == 0 ? NULL : thread->stack[thread->depth - 1]);
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    DRIVER_CALL(cuCtxGetCurrent, ENTER_ALWAYS_LEGAL, get_current(context));
}

static CUresult set_current(CUcontext handle)
{
    struct thread *thread = thread_now();
    struct context *context = object_find(handle, OBJECT_CONTEXT);
    if (handle != NULL && context == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    thread->depth -= thread->depth != 0;
    return context != NULL ? push(context) : CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    DRIVER_CALL(cuCtxSetCurrent, ENTER_ALWAYS_LEGAL, set_current(context));
}

static CUresult push_current(CUcontext handle)
{
    struct context *context = object_find(handle, OBJECT_CONTEXT);
    return context == NULL ? CUDA_ERROR_INVALID_CONTEXT : push(context);
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    DRIVER_CALL(cuCtxPushCurrent_v2, ENTER_ALWAYS_LEGAL, push_current(context));
}

static CUresult pop_current(CUcontext *handle)
{
    struct thread *thread = thread_now();
    if (thread->depth == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    thread->depth--;
    if (handle != NULL) {
        *handle = (CUcontext)(void *)thread->stack[thread->depth];
    }
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    DRIVER_CALL(cuCtxPopCurrent_v2, ENTER_ALWAYS_LEGAL, pop_current(context));
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    const struct context *context;
    CUresult result = driver_enter(SYMBOL_cuCtxGetDevice, ENTER_ALWAYS_LEGAL);
    if (result == CUDA_SUCCESS) {
        context = context_now();
        result = context == NULL ? CUDA_ERROR_INVALID_CONTEXT : put_int(device, context->device);
    }
    return driver_leave(result);
}

static CUresult synchronize(void)
{
    struct context *context = context_now();
    if (capture_invalidate_context(context)) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    context_wait(context);
    return context->lost;
}

CUresult cuCtxSynchronize(void)
{
    DRIVER_CALL(cuCtxSynchronize, ENTER_CONTEXT, synchronize());
}

/* For calls that name a device and need no current context: lost with the device's primary context. */
CUresult context_of_device(int device)
{
    const struct context *primary = driver.devices[device].primary;
    return primary != NULL && primary->references != 0 ? primary->lost : CUDA_SUCCESS;
}

void contexts_reset(void)
{
    struct context *context = (struct context *)(void *)object_first(OBJECT_CONTEXT);
    for (; context != NULL; context = (struct context *)(void *)object_next(&context->object)) {
        streams_delete(context);
        memory_delete_context(context);
    }
    memset(peers, 0, sizeof peers);
}

void tafake_count_live(tafake_live *live)
{
    struct context *context;
    memset(live, 0, sizeof *live);
    pthread_mutex_lock(&driver.lock);
    if (driver.started) {
        memory_count(live);
        vmm_count(live);
        live->pools = pool_program_pools();
        live->pending = schedule_pending();
        live->events = object_count(OBJECT_EVENT);
        live->modules = object_count(OBJECT_MODULE);
        live->graphs = object_count(OBJECT_GRAPH);
        live->execs = object_count(OBJECT_EXEC);
        live->user_objects = object_count(OBJECT_USER_OBJECT);
        live->captures = capture_count();
        live->streams = streams_count();
        live->used_bytes = memory_used_bytes();
        context = (struct context *)(void *)object_first(OBJECT_CONTEXT);
        for (; context != NULL; context = (struct context *)(void *)object_next(&context->object)) {
            live->contexts += context->references != 0;
        }
    }
    pthread_mutex_unlock(&driver.lock);
}
