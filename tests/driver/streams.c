/* streams.c - streams, events, and the work that is enqueued on them.

   Two orders are kept side by side: operations depend on operations (what the scheduler obeys), and clocks join
   clocks (what the checker judges by). Each place that adds one adds the other. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life of streams */
struct stream *stream_new(struct context *context, unsigned flags, int is_default)
{
    struct stream *stream = object_new(OBJECT_STREAM);
    stream->context = context;
    stream->flags = flags;
    stream->is_default = is_default;
    stream->id = ++driver.next_id;
    stream->agent = order_new_agent();
    stream->next = context->streams;
    context->streams = stream;
    return stream;
}

/* A destroyed stream finishes its work: whoever waits for the context waits for that too. */
static void retire(struct stream *stream)
{
    struct retired *retired = &stream->context->retired[stream->flags & CU_STREAM_NON_BLOCKING];
    uint32_t i, kept = 0;
    clock_join(&retired->clock, &stream->clock);
    for (i = 0; i < retired->count; i++) {
        if (op_done(retired->ops[i])) {
            op_drop(retired->ops[i]);
        } else {
            retired->ops[kept++] = retired->ops[i];
        }
    }
    retired->count = kept;
    if (!op_done(stream->tail)) {
        retired->ops = array_grow(retired->ops, retired->count, &retired->capacity, sizeof(struct op *));
        retired->ops[retired->count++] = op_keep(stream->tail);
    }
}

void stream_delete(struct stream *stream)
{
    struct stream **link = &stream->context->streams;
    capture_forget_stream(stream);
    retire(stream);
    while (*link != stream) {
        link = &(*link)->next;
    }
    *link = stream->next;
    op_drop(stream->tail);
    clock_free(&stream->clock);
    free(stream->fringe);
    object_free(stream);
}

static void event_delete(struct event *event)
{
    op_drop(event->op);
    clock_free(&event->clock);
    event_forget_nodes(event);
    object_free(event);
}

/* All that belongs to a context that goes. */
void streams_delete(struct context *context)
{
    struct object *object, *next;
    uint32_t i, k;
    while (context->streams != NULL) {
        stream_delete(context->streams);
    }
    for (object = object_first(OBJECT_EVENT); object != NULL; object = next) {
        struct event *event = (struct event *)(void *)object;
        next = object_next(object);
        if (event->context == context) {
            event_delete(event);
        }
    }
    for (k = 0; k < 2; k++) {
        struct retired *retired = &context->retired[k];
        for (i = 0; i < retired->count; i++) {
            op_drop(retired->ops[i]);
        }
        free(retired->ops);
        clock_free(&retired->clock);
        memset(retired, 0, sizeof *retired);
    }
}

uint64_t streams_count(void)
{
    struct object *object = object_first(OBJECT_STREAM);
    uint64_t count = 0;
    for (; object != NULL; object = object_next(object)) {
        count += !((struct stream *)(void *)object)->is_default;
    }
    return count;
}

/* ---- handles */
static struct stream *per_thread_stream(struct context *context)
{
    const int thread = thread_now()->id;
    struct stream *stream;
    for (stream = context->streams; stream != NULL && stream->thread != thread; stream = stream->next) {}
    if (stream == NULL) {
        stream = stream_new(context, CU_STREAM_DEFAULT, 1);
        stream->thread = thread;
    }
    return stream;
}

CUresult stream_get(CUstream handle, struct stream **stream)
{
    struct context *context = context_now();
    if (handle == NULL || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
        if (context == NULL || context->legacy == NULL) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        *stream = handle == CU_STREAM_PER_THREAD ? per_thread_stream(context) : context->legacy;
    } else {
        *stream = object_find(handle, OBJECT_STREAM);
        if (*stream == NULL) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
    }
    return (*stream)->context->lost;
}

static int is_legacy(const struct stream *stream)
{
    return stream == stream->context->legacy;
}

CUresult stream_start(CUstream handle, struct stream **stream)
{
    CUresult result = stream_get(handle, stream);
    if (result == CUDA_SUCCESS && is_legacy(*stream)) {
        result = capture_legacy((*stream)->context);
    }
    return result;
}

/* ---- enqueueing */
static void depend_on_stream(struct op *op, struct clock *clock, struct stream *on)
{
    op_depend(op, on->tail);
    clock_join(clock, &on->clock);
}

/* The legacy stream waits for all blocking streams of its context, and they wait for it. */
static void depend_on_legacy(struct op *op, struct stream *stream)
{
    struct context *context = stream->context;
    const struct retired *retired = &context->retired[0];
    struct stream *other;
    uint32_t i;
    if (!is_legacy(stream)) {
        if ((stream->flags & CU_STREAM_NON_BLOCKING) == 0) {
            depend_on_stream(op, &stream->clock, context->legacy);
        }
        return;
    }
    for (other = context->streams; other != NULL; other = other->next) {
        if ((other->flags & CU_STREAM_NON_BLOCKING) == 0 && other != stream) {
            depend_on_stream(op, &stream->clock, other);
        }
    }
    for (i = 0; i < retired->count; i++) {
        op_depend(op, retired->ops[i]);
    }
    clock_join(&stream->clock, &retired->clock);
}

struct op *stream_enqueue_after(struct stream *stream, const struct work *work, struct op *after,
                                const struct clock *clock)
{
    struct op *op = op_new(stream->context, stream, work);
    op_depend(op, stream->tail);
    clock_join(&stream->clock, &driver.host);
    op_depend(op, after);
    if (clock != NULL) {
        clock_join(&stream->clock, clock);
    }
    depend_on_legacy(op, stream);
    clock_tick(&stream->clock, stream->agent);
    work_check(work, &stream->clock, stream->agent, stream->id);
    op_drop(stream->tail);
    stream->tail = op_keep(op);
    op_submit(op);
    return op;
}

struct op *stream_enqueue(struct stream *stream, const struct work *work)
{
    return stream_enqueue_after(stream, work, NULL, NULL);
}

void work_label(struct work *work, const char *name)
{
    const char *label = thread_now()->label;
    (void)snprintf(work->label, sizeof work->label, label[0] != 0 ? "%s '%s'" : "%s%s", name, label);
}

static CUresult submit_to(struct stream *stream, struct work *work)
{
    if (stream->capture != NULL) {
        return capture_add(stream, work, NULL);
    }
    (void)stream_enqueue(stream, work);
    return CUDA_SUCCESS;
}

CUresult stream_submit(CUstream handle, struct work *work)
{
    struct stream *stream;
    CUresult result = stream_start(handle, &stream);
    if (result == CUDA_SUCCESS) {
        result = submit_to(stream, work);
    }
    if (result != CUDA_SUCCESS) {
        free(work->staging);
    }
    return result;
}

uint32_t work_ranges(const struct work *work, struct range ranges[RANGES_MAX])
{
    uint32_t count = 0;
    if (work->kind == WORK_KERNEL) {
        return work->kernel->ranges(work->arguments, ranges);
    }
    if (work->kind == WORK_SET || work->kind == WORK_COPY || work->kind == WORK_POOL_FREE) {
        ranges[count].address = work->to;
        ranges[count].bytes = work->bytes;
        ranges[count++].write = 1;
    }
    if (work->kind == WORK_COPY) {
        ranges[count].address = work->from;
        ranges[count].bytes = work->bytes;
        ranges[count++].write = 0;
    }
    return count;
}

/* Pageable host memory is not followed: a copy from it takes the bytes at once, a copy to it makes the host wait. */
static int is_pageable(uint64_t address)
{
    return !memory_in_window(address, 1) && region_find(address) == NULL;
}

void work_check(const struct work *work, const struct clock *clock, uint32_t agent, uint64_t stream_id)
{
    struct range ranges[RANGES_MAX];
    const uint32_t count = work_ranges(work, ranges);
    char label[LABEL_BYTES + 32];
    uint32_t i;
    if (stream_id != 0) {
        (void)snprintf(label, sizeof label, "%s on stream %llu", work->label, (unsigned long long)stream_id);
    } else {
        (void)snprintf(label, sizeof label, "%s in a replay", work->label);
    }
    for (i = 0; i < count; i++) {
        if (!(ranges[i].write ? work->to_pageable : work->from_pageable)) {
            enum access_kind kind = work->kind == WORK_POOL_FREE ? ACCESS_FREE
                                    : ranges[i].write            ? ACCESS_WRITE
                                                                 : ACCESS_READ;
            order_access(clock, agent, kind, label, ranges[i].address, ranges[i].bytes);
        }
    }
}

/* ---- waiting */
void stream_wait(struct stream *stream)
{
    struct clock clock = {NULL, 0, 0};
    struct op *tail;
    if (is_legacy(stream)) { /* an operation of its own, which waits for all blocking streams */
        struct work nothing;
        memset(&nothing, 0, sizeof nothing);
        (void)stream_enqueue(stream, &nothing);
    }
    clock_join(&clock, &stream->clock);
    if (!op_done(stream->tail)) {
        tail = op_keep(stream->tail);
        schedule_wait(tail);
        op_drop(tail);
    }
    clock_join(&driver.host, &clock);
    clock_free(&clock);
    pool_observe_all();
}

void context_wait(struct context *context)
{
    struct clock clock = {NULL, 0, 0};
    struct op **ops = NULL;
    uint32_t count = 0, capacity = 0, i, k;
    struct stream *stream;
    for (stream = context->streams; stream != NULL; stream = stream->next) {
        clock_join(&clock, &stream->clock);
        if (!op_done(stream->tail)) {
            ops = array_grow(ops, count, &capacity, sizeof *ops);
            ops[count++] = op_keep(stream->tail);
        }
    }
    for (k = 0; k < 2; k++) {
        clock_join(&clock, &context->retired[k].clock);
        for (i = 0; i < context->retired[k].count; i++) {
            ops = array_grow(ops, count, &capacity, sizeof *ops);
            ops[count++] = op_keep(context->retired[k].ops[i]);
        }
    }
    for (i = 0; i < count; i++) {
        schedule_wait(ops[i]);
        op_drop(ops[i]);
    }
    free(ops);
    clock_join(&driver.host, &clock);
    clock_free(&clock);
    pool_observe_all();
}

/* ---- calls on streams */
static CUresult stream_create(CUstream *handle, unsigned flags)
{
    if (handle == NULL || flags > CU_STREAM_NON_BLOCKING) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *handle = (CUstream)(void *)stream_new(context_now(), flags, 0);
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
    DRIVER_CALL(cuStreamCreate, ENTER_CONTEXT, stream_create(stream, flags));
}

static CUresult stream_destroy(CUstream handle)
{
    struct stream *stream = object_find(handle, OBJECT_STREAM);
    CUresult lost;
    if (stream == NULL || stream->is_default) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (stream->capture != NULL) {
        capture_invalidate(stream->capture);
    }
    lost = stream->context->lost;
    stream_delete(stream);
    return lost;
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    DRIVER_CALL(cuStreamDestroy_v2, 0, stream_destroy(stream));
}

/* Waiting for or asking about a stream: never while it is captured, and unsafe while others are. */
static CUresult may_wait(CUstream handle, struct stream **stream)
{
    CUresult result = stream_start(handle, stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if ((*stream)->capture != NULL) {
        result = (*stream)->capture->status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
                                                                              : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        capture_invalidate((*stream)->capture);
        return result;
    }
    return capture_guard(thread_now());
}

static CUresult stream_synchronize(CUstream handle)
{
    struct stream *stream;
    struct context *context;
    CUresult result = may_wait(handle, &stream);
    if (result == CUDA_SUCCESS) {
        context = stream->context;
        stream_wait(stream);
        result = context->lost;
    }
    return result;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    DRIVER_CALL(cuStreamSynchronize, 0, stream_synchronize(stream));
}

/* Whether the legacy stream and all blocking streams have nothing left to do. */
static struct op *legacy_unfinished(const struct stream *legacy)
{
    const struct stream *stream;
    for (stream = legacy->context->streams; stream != NULL; stream = stream->next) {
        if ((stream->flags & CU_STREAM_NON_BLOCKING) == 0 && !op_done(stream->tail)) {
            return stream->tail;
        }
    }
    return op_done(legacy->tail) ? NULL : legacy->tail;
}

static CUresult stream_query(CUstream handle)
{
    struct stream *stream;
    struct op *unfinished;
    CUresult result = may_wait(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    unfinished = is_legacy(stream) ? legacy_unfinished(stream) : op_done(stream->tail) ? NULL : stream->tail;
    if (unfinished == NULL) {
        stream_wait(stream);
        return CUDA_SUCCESS;
    }
    schedule_poll(unfinished);
    return CUDA_ERROR_NOT_READY;
}

CUresult cuStreamQuery(CUstream stream)
{
    DRIVER_CALL(cuStreamQuery, 0, stream_query(stream));
}

/* Asking a capturing stream for these fails and spoils the capture. */
static CUresult not_capturing(CUstream handle, struct stream **stream)
{
    CUresult result = stream_get(handle, stream);
    if (result == CUDA_SUCCESS && (*stream)->capture != NULL) {
        capture_invalidate((*stream)->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}

static CUresult get_context(CUstream handle, CUcontext *context)
{
    struct stream *stream;
    CUresult result = context == NULL ? CUDA_ERROR_INVALID_VALUE : not_capturing(handle, &stream);
    if (result == CUDA_SUCCESS) {
        *context = (CUcontext)(void *)stream->context;
    }
    return result;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context)
{
    DRIVER_CALL(cuStreamGetCtx, 0, get_context(stream, context));
}

static CUresult get_id(CUstream handle, unsigned long long *id)
{
    struct stream *stream;
    CUresult result = id == NULL ? CUDA_ERROR_INVALID_VALUE : not_capturing(handle, &stream);
    if (result == CUDA_SUCCESS) {
        *id = stream->id;
    }
    return result;
}

CUresult cuStreamGetId(CUstream stream, unsigned long long *id)
{
    DRIVER_CALL(cuStreamGetId, 0, get_id(stream, id));
}

/* ---- events */
static CUresult event_create(CUevent *handle, unsigned flags)
{
    struct event *event;
    if (handle == NULL || flags > 7 ||
        ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    event = object_new(OBJECT_EVENT);
    event->context = context_now();
    event->flags = flags;
    *handle = (CUevent)(void *)event;
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
    DRIVER_CALL(cuEventCreate, ENTER_CONTEXT, event_create(event, flags));
}

static CUresult event_destroy(CUevent handle)
{
    struct event *event = object_find(handle, OBJECT_EVENT);
    CUresult lost;
    if (event == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    lost = event->context->lost;
    event_delete(event);
    return lost;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    DRIVER_CALL(cuEventDestroy_v2, 0, event_destroy(event));
}

static CUresult event_record(CUevent handle, CUstream stream_handle)
{
    struct event *event = object_find(handle, OBJECT_EVENT);
    struct stream *stream;
    struct work nothing;
    CUresult result = event == NULL ? CUDA_ERROR_INVALID_HANDLE : stream_start(stream_handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (event->context != stream->context) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    event_forget_nodes(event);
    if (stream->capture != NULL) {
        return capture_record(stream, event);
    }
    memset(&nothing, 0, sizeof nothing);
    (void)stream_enqueue(stream, &nothing);
    op_drop(event->op);
    event->op = op_keep(stream->tail);
    clock_copy(&event->clock, &stream->clock);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    DRIVER_CALL(cuEventRecord, ENTER_ALWAYS_LEGAL, event_record(event, stream));
}

static CUresult stream_wait_event(CUstream stream_handle, CUevent handle, unsigned flags)
{
    struct event *event = object_find(handle, OBJECT_EVENT);
    struct stream *stream;
    struct work nothing;
    CUresult result = event == NULL ? CUDA_ERROR_INVALID_HANDLE : stream_start(stream_handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (flags > 1) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream->capture != NULL || event->capture_id != 0) {
        return capture_wait(stream, event);
    }
    memset(&nothing, 0, sizeof nothing);
    (void)stream_enqueue_after(stream, &nothing, event->op, &event->clock);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags)
{
    DRIVER_CALL(cuStreamWaitEvent, ENTER_ALWAYS_LEGAL, stream_wait_event(stream, event, flags));
}

static CUresult event_start(CUevent handle, struct event **event)
{
    struct capture *capture;
    *event = object_find(handle, OBJECT_EVENT);
    if (*event == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if ((*event)->capture_id != 0) { /* such an event has no state that one could ask for, in any mode */
        capture = capture_by_id((*event)->capture_id);
        if (capture != NULL) {
            capture_invalidate(capture);
        }
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if ((*event)->context->lost != CUDA_SUCCESS) {
        return (*event)->context->lost;
    }
    return capture_guard(thread_now());
}

static CUresult event_query(CUevent handle)
{
    struct event *event;
    CUresult result = event_start(handle, &event);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (!op_done(event->op)) {
        schedule_poll(event->op);
        return CUDA_ERROR_NOT_READY;
    }
    clock_join(&driver.host, &event->clock);
    return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event)
{
    DRIVER_CALL(cuEventQuery, 0, event_query(event));
}

static CUresult event_synchronize(CUevent handle)
{
    struct event *event;
    struct context *context;
    struct clock clock = {NULL, 0, 0};
    struct op *op;
    CUresult result = event_start(handle, &event);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    context = event->context;
    clock_join(&clock, &event->clock);
    if (!op_done(event->op)) {
        op = op_keep(event->op);
        schedule_wait(op);
        op_drop(op);
    }
    clock_join(&driver.host, &clock);
    clock_free(&clock);
    pool_observe_all();
    return context->lost;
}

CUresult cuEventSynchronize(CUevent event)
{
    DRIVER_CALL(cuEventSynchronize, 0, event_synchronize(event));
}

static CUresult elapsed(float *milliseconds, CUevent start_handle, CUevent end_handle)
{
    const struct event *start = object_find(start_handle, OBJECT_EVENT), *end = object_find(end_handle, OBJECT_EVENT);
    if (milliseconds == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (start == NULL || end == NULL || start->op == NULL || end->op == NULL ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!op_done(start->op) || !op_done(end->op)) {
        return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = (float)((double)(int64_t)(end->op->done_ns - start->op->done_ns) * 1e-6);
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    DRIVER_CALL(cuEventElapsedTime, ENTER_ALWAYS_LEGAL, elapsed(milliseconds, start, end));
}

/* ---- memset, memcpy, host functions */
static struct work set_work(uint64_t to, uint32_t value, size_t count, uint32_t element_bytes)
{
    struct work work;
    memset(&work, 0, sizeof work);
    work.kind = WORK_SET;
    work.node_type = CU_GRAPH_NODE_TYPE_MEMSET;
    work.to = to;
    work.value = value;
    work.bytes = count * element_bytes;
    work.element_bytes = element_bytes;
    work_label(&work, "memset");
    return work;
}

static CUresult set_async(CUdeviceptr to, uint32_t value, size_t count, uint32_t element_bytes, CUstream stream)
{
    struct work work = set_work(to, value, count, element_bytes);
    if (region_find(to) == NULL || to % element_bytes != 0) {
        return CUDA_ERROR_INVALID_VALUE; /* checked when called, as by real drivers */
    }
    return count == 0 ? CUDA_SUCCESS : stream_submit(stream, &work);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
    DRIVER_CALL(cuMemsetD8Async, ENTER_ALWAYS_LEGAL, set_async(to, value, count, 1, stream));
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream)
{
    DRIVER_CALL(cuMemsetD32Async, ENTER_ALWAYS_LEGAL, set_async(to, value, count, 4, stream));
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
    DRIVER_CALL(cuMemsetD8_v2, ENTER_CONTEXT, set_async(to, value, count, 1, NULL));
}

/* Copies whose source the host may overwrite at once take the bytes along; those to pageable memory wait. */
static CUresult copy(uint64_t to, uint64_t from, size_t bytes, CUstream handle, int host_waits)
{
    struct work work;
    struct stream *stream;
    CUresult result;
    memset(&work, 0, sizeof work);
    work.kind = WORK_COPY;
    work.node_type = CU_GRAPH_NODE_TYPE_MEMCPY;
    work.to = to;
    work.from = from;
    work.bytes = bytes;
    work.to_pageable = is_pageable(to);
    work.from_pageable = is_pageable(from);
    work_label(&work, "memcpy");
    result = stream_start(handle, &stream);
    if (result == CUDA_SUCCESS && host_waits) { /* a call that waits: as unsafe as waiting for a stream */
        result = capture_guard(thread_now());
    }
    if (result != CUDA_SUCCESS || bytes == 0) {
        return result;
    }
    if (work.from_pageable && stream->capture == NULL) {
        work.staging = need(malloc(bytes));
        memcpy(work.staging, (const void *)(uintptr_t)from, bytes);
    }
    host_waits |= work.to_pageable;
    result = stream_submit(handle, &work);
    if (result == CUDA_SUCCESS && host_waits && stream->capture == NULL) {
        stream_wait(stream);
        result = stream->context->lost;
    }
    return result;
}

/* A side that must be memory of the driver, and where access rights were granted they must suffice. */
static int is_device(CUdeviceptr address, size_t bytes, int write)
{
    const struct region *region = region_find(address);
    const struct context *context = context_now();
    if (region != NULL && region->kind == REGION_MAPPING && context != NULL) {
        return bytes == 0 || memory_access(context->device, address, bytes, write) != NULL;
    }
    return bytes == 0 || region != NULL;
}

static CUresult to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream stream, int host_waits)
{
    const uint64_t source = (uint64_t)(uintptr_t)from;
    if (from == NULL || !is_device(to, bytes, 1) || memory_in_window(source, 1)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(to, source, bytes, stream, host_waits);
}

static CUresult to_host(void *to, CUdeviceptr from, size_t bytes, CUstream stream, int host_waits)
{
    const uint64_t target = (uint64_t)(uintptr_t)to;
    if (to == NULL || !is_device(from, bytes, 0) || memory_in_window(target, 1)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(target, from, bytes, stream, host_waits);
}

static CUresult within_device(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    if (!is_device(to, bytes, 1) || !is_device(from, bytes, 0)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(to, from, bytes, stream, 0);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    DRIVER_CALL(cuMemcpyHtoDAsync_v2, ENTER_ALWAYS_LEGAL, to_device(to, from, bytes, stream, 0));
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    DRIVER_CALL(cuMemcpyDtoHAsync_v2, ENTER_ALWAYS_LEGAL, to_host(to, from, bytes, stream, 0));
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    DRIVER_CALL(cuMemcpyDtoDAsync_v2, ENTER_ALWAYS_LEGAL, within_device(to, from, bytes, stream));
}

/* Either side may be host memory, pageable too. */
static CUresult anywhere(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    if ((!is_pageable(to) && !is_device(to, bytes, 1)) || (!is_pageable(from) && !is_device(from, bytes, 0))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(to, from, bytes, stream, 0);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    DRIVER_CALL(cuMemcpyAsync, ENTER_ALWAYS_LEGAL, anywhere(to, from, bytes, stream));
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    DRIVER_CALL(cuMemcpyHtoD_v2, ENTER_CONTEXT, to_device(to, from, bytes, NULL, 1));
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    DRIVER_CALL(cuMemcpyDtoH_v2, ENTER_CONTEXT, to_host(to, from, bytes, NULL, 1));
}

static CUresult host_function(CUstream stream, CUhostFn function, void *data)
{
    struct work work;
    memset(&work, 0, sizeof work);
    work.kind = WORK_HOST;
    work.node_type = CU_GRAPH_NODE_TYPE_HOST;
    work.host = function;
    work.host_data = data;
    work_label(&work, "host function");
    return function == NULL ? CUDA_ERROR_INVALID_VALUE : stream_submit(stream, &work);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data)
{
    DRIVER_CALL(cuLaunchHostFunc, ENTER_ALWAYS_LEGAL, host_function(stream, function, data));
}
