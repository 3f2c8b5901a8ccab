/* capture.c - stream capture: who captures, what is legal meanwhile, forks and joins.

   A capture has an origin stream and the streams that waited for its events. Each captured stream keeps a fringe:
   the nodes that its next node depends on. A recorded event keeps a copy of it; waiting for the event adds that
   copy to another fringe. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

static uint64_t last_capture_id;

struct capture *capture_by_id(uint64_t id)
{
    struct capture *capture;
    for (capture = driver.captures; capture != NULL && capture->id != id; capture = capture->next) {}
    return capture;
}

uint64_t capture_count(void)
{
    const struct capture *capture;
    uint64_t count = 0;
    for (capture = driver.captures; capture != NULL; capture = capture->next) {
        count++;
    }
    return count;
}

void capture_invalidate(struct capture *capture)
{
    capture->status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

/* ---- what is legal */
static int prohibits(const struct capture *capture, const struct thread *thread)
{
    if (thread->mode == CU_STREAM_CAPTURE_MODE_RELAXED || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) {
        return 0;
    }
    return capture->thread == thread->id ||
           (thread->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
}

int capture_exposed(const struct thread *thread)
{
    const struct capture *capture;
    for (capture = driver.captures; capture != NULL; capture = capture->next) {
        if (prohibits(capture, thread)) {
            return 1;
        }
    }
    return 0;
}

CUresult capture_guard(const struct thread *thread)
{
    CUresult result = CUDA_SUCCESS;
    struct capture *capture;
    for (capture = driver.captures; capture != NULL; capture = capture->next) {
        if (prohibits(capture, thread)) {
            capture_invalidate(capture);
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return result;
}

/* Whether a stream of the context is captured; blocking ones only where `blocking`. Invalidates where asked to. */
static int context_captures(const struct context *context, int blocking, int invalidate)
{
    const struct stream *stream;
    int found = 0;
    for (stream = context->streams; stream != NULL; stream = stream->next) {
        if (stream->capture != NULL && !(blocking && (stream->flags & CU_STREAM_NON_BLOCKING) != 0)) {
            found = 1;
            if (invalidate) {
                capture_invalidate(stream->capture);
            }
        }
    }
    return found;
}

CUresult capture_legacy(struct context *context)
{
    return context_captures(context, 1, 1) ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_SUCCESS;
}

int capture_blocks_legacy(const struct context *context)
{
    return context_captures(context, 1, 0);
}

int capture_invalidate_context(struct context *context)
{
    return context_captures(context, 0, 1);
}

/* ---- nodes */
void array_nodes(struct node ***to, uint32_t *to_count, struct node *const *from, uint32_t count)
{
    uint32_t i, k;
    *to = need(realloc(*to, (*to_count + count + 1u) * sizeof(struct node *)));
    for (i = 0; i < count; i++) {
        for (k = 0; k < *to_count && (*to)[k] != from[i]; k++) {}
        if (k == *to_count) {
            (*to)[(*to_count)++] = from[i];
        }
    }
}

CUresult capture_add(struct stream *stream, struct work *work, struct node **node)
{
    struct node *added;
    if (stream->capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    added = graph_add(stream->capture->graph, work, stream->fringe, stream->fringe_count, stream->lane);
    stream->fringe_count = 0;
    array_nodes(&stream->fringe, &stream->fringe_count, &added, 1);
    if (node != NULL) {
        *node = added;
    }
    return CUDA_SUCCESS;
}

void event_forget_nodes(struct event *event)
{
    free(event->nodes);
    event->nodes = NULL;
    event->node_count = 0;
    event->capture_id = 0;
}

CUresult capture_record(struct stream *stream, struct event *event)
{
    if (stream->capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    event->capture_id = stream->capture->id;
    array_nodes(&event->nodes, &event->node_count, stream->fringe, stream->fringe_count);
    return CUDA_SUCCESS;
}

static CUresult fork_into(struct stream *stream, const struct event *event, struct capture *capture)
{
    if (capture == NULL) {
        return CUDA_ERROR_CAPTURED_EVENT; /* that capture has ended */
    }
    if (capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream == stream->context->legacy) {
        capture_invalidate(capture);
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    stream->capture = capture;
    stream->lane = capture->lanes++;
    stream->fringe_count = 0;
    array_nodes(&stream->fringe, &stream->fringe_count, event->nodes, event->node_count);
    return CUDA_SUCCESS;
}

CUresult capture_wait(struct stream *stream, struct event *event)
{
    struct capture *capture = stream->capture;
    struct capture *other = event->capture_id != 0 ? capture_by_id(event->capture_id) : NULL;
    if (capture == NULL) {
        return fork_into(stream, event, other);
    }
    if (capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    if (event->capture_id == 0) {
        if (event->op == NULL) {
            return CUDA_SUCCESS; /* never recorded: nothing to wait for */
        }
        capture_invalidate(capture);
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (other == NULL) {
        capture_invalidate(capture);
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (other != capture) {
        capture_invalidate(capture);
        capture_invalidate(other);
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    array_nodes(&stream->fringe, &stream->fringe_count, event->nodes, event->node_count);
    return CUDA_SUCCESS;
}

void capture_forget_stream(struct stream *stream)
{
    struct capture *capture = stream->capture, **link = &driver.captures;
    if (capture == NULL) {
        return;
    }
    capture_invalidate(capture);
    stream->capture = NULL;
    if (capture->origin == stream) { /* nobody can end it any more */
        struct object *object = object_first(OBJECT_STREAM);
        for (; object != NULL; object = object_next(object)) {
            struct stream *other = (struct stream *)(void *)object;
            other->capture = other->capture == capture ? NULL : other->capture;
        }
        while (*link != capture) {
            link = &(*link)->next;
        }
        *link = capture->next;
        graph_delete(capture->graph);
        free(capture);
    }
}

void capture_reset(void)
{
    while (driver.captures != NULL) {
        capture_forget_stream(driver.captures->origin);
    }
    last_capture_id = 0;
}

/* ---- calls */
static CUresult begin(CUstream handle, int mode)
{
    const struct thread *thread = thread_now();
    struct capture *capture;
    struct stream *stream;
    CUresult result = stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (mode < 0 || mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream == stream->context->legacy) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (stream->capture != NULL) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    capture = need(calloc(1, sizeof *capture));
    capture->id = ++last_capture_id;
    capture->mode = (CUstreamCaptureMode)mode;
    capture->status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    capture->thread = thread->id;
    capture->origin = stream;
    capture->graph = graph_new(stream->context->device);
    capture->lanes = 1;
    capture->next = driver.captures;
    driver.captures = capture;
    stream->capture = capture;
    stream->lane = 0;
    stream->fringe_count = 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    DRIVER_CALL(cuStreamBeginCapture_v2, ENTER_ALWAYS_LEGAL, begin(stream, (int)mode));
}

/* Whether all that forked streams did comes before what the origin stream would do next. */
static int joined(const struct capture *capture)
{
    uint8_t *before = graph_ancestors(capture->graph, capture->origin->fringe, capture->origin->fringe_count);
    struct object *object = object_first(OBJECT_STREAM);
    int all = 1;
    uint32_t i;
    for (; object != NULL; object = object_next(object)) {
        const struct stream *stream = (struct stream *)(void *)object;
        for (i = 0; stream->capture == capture && i < stream->fringe_count; i++) {
            all &= before[stream->fringe[i]->index];
        }
    }
    free(before);
    return all;
}

static CUresult end(CUstream handle, CUgraph *graph)
{
    struct capture *capture, **link = &driver.captures;
    struct object *object;
    struct stream *stream;
    CUresult result = graph == NULL ? CUDA_ERROR_INVALID_VALUE : stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    *graph = NULL;
    capture = stream->capture;
    if (capture == NULL) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    if (capture->origin != stream) {
        capture_invalidate(capture);
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != thread_now()->id) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    result = capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
             : !joined(capture)                                 ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED
                                                                : CUDA_SUCCESS;
    for (object = object_first(OBJECT_STREAM); object != NULL; object = object_next(object)) {
        struct stream *other = (struct stream *)(void *)object;
        other->capture = other->capture == capture ? NULL : other->capture;
    }
    while (*link != capture) {
        link = &(*link)->next;
    }
    *link = capture->next;
    if (result == CUDA_SUCCESS) {
        *graph = (CUgraph)(void *)capture->graph;
    } else {
        graph_delete(capture->graph);
    }
    free(capture);
    return result;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    DRIVER_CALL(cuStreamEndCapture, ENTER_ALWAYS_LEGAL, end(stream, graph));
}

static CUresult info(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, const struct stream **captured)
{
    struct stream *stream;
    CUresult result = status == NULL ? CUDA_ERROR_INVALID_VALUE : stream_get(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (stream == stream->context->legacy && capture_blocks_legacy(stream->context)) {
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT; /* tells, and harms nothing */
    }
    *status = stream->capture != NULL ? stream->capture->status : CU_STREAM_CAPTURE_STATUS_NONE;
    if (*status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id != NULL) {
        *id = stream->capture->id;
    }
    if (captured != NULL) {
        *captured = *status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? stream : NULL;
    }
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
    DRIVER_CALL(cuStreamIsCapturing, ENTER_ALWAYS_LEGAL, info(stream, status, NULL, NULL));
}

CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id)
{
    DRIVER_CALL(cuStreamGetCaptureInfo, ENTER_ALWAYS_LEGAL, info(stream, status, id, NULL));
}

static CUresult info_v2(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                        const CUgraphNode **dependencies, size_t *count)
{
    const struct stream *stream = NULL;
    CUresult result = info(handle, status, id, &stream);
    if (result == CUDA_SUCCESS && stream != NULL) {
        if (graph != NULL) {
            *graph = (CUgraph)(void *)stream->capture->graph;
        }
        if (dependencies != NULL) { /* valid until the next call on the stream */
            *dependencies = (const CUgraphNode *)(const void *)stream->fringe;
        }
        if (count != NULL) {
            *count = stream->fringe_count;
        }
    }
    return result;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, size_t *count)
{
    DRIVER_CALL(cuStreamGetCaptureInfo_v2, ENTER_ALWAYS_LEGAL, info_v2(stream, status, id, graph, dependencies, count));
}

static CUresult exchange(CUstreamCaptureMode *mode)
{
    struct thread *thread = thread_now();
    CUstreamCaptureMode before = thread->mode;
    if (mode == NULL || (int)*mode < 0 || (int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    thread->mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    DRIVER_CALL(cuThreadExchangeStreamCaptureMode, ENTER_ALWAYS_LEGAL, exchange(mode));
}
