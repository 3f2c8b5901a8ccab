/* graphs.c - graphs, executable graphs and their launches, memory that belongs to graphs, user objects.

   A launch becomes operations of its own, which depend on each other as the nodes do and lie between two operations
   of the stream; launches of one executable graph come one after the other. For the checker each captured stream of
   each executable graph is an agent. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

struct user_object {
    struct object object;
    void *data;
    CUhostFn destroy;
    uint64_t references; /* of the program, of graphs and of executable graphs */
};
typedef char user_object_fits[sizeof(struct user_object) <= OBJECT_BYTES ? 1 : -1];
struct held { struct user_object *object; uint64_t count; };
struct graph_allocation {
    uint64_t address;
    size_t bytes;
    struct block *block;
    int freed_inside, live; /* by a node of the graph; by launches, not yet freed */
};
/* The memory of alloc nodes: of the graph, and of the one executable graph that it may have. */
struct arena {
    struct arena *next;
    int references, launched, device;
    struct clock before, after; /* what uses come after; what the uses are */
    struct graph_allocation *items;
    uint32_t count, capacity;
};
struct graph {
    struct object object;
    struct node **nodes;
    uint32_t node_count, node_capacity, lanes;
    struct held *held;
    uint32_t held_count, held_capacity;
    struct arena *arena; /* null: no alloc nodes */
    int instantiated, device;
};
typedef char graph_fits[sizeof(struct graph) <= OBJECT_BYTES ? 1 : -1];
struct exec_node {
    struct work work;
    uint32_t lane, dep_count, *deps, has_dependents;
    uint64_t owners; /* identity of the memory that it touched when the graph was made */
};
struct exec {
    struct object object;
    struct exec_node *nodes;
    uint32_t node_count, *agents, in_flight;
    uint32_t lanes;
    struct held *held;
    uint32_t held_count;
    struct arena *arena;
    struct op *last;
    struct clock clock; /* of the last launch's end */
    int destroyed, frees_on_launch, device;
};
typedef char exec_fits[sizeof(struct exec) <= OBJECT_BYTES ? 1 : -1];

static struct arena *arenas;
static int destructors_running;

/* ---- user objects */
struct destruction { CUhostFn destroy; void *data; };

static void *destructor(void *given)
{
    struct destruction *one = given;
    pthread_mutex_lock(&driver.lock);
    schedule_unlocked(one->destroy, one->data); /* marks the thread: it may call nothing */
    destructors_running--;
    pthread_cond_broadcast(&driver.changed);
    pthread_mutex_unlock(&driver.lock);
    free(one);
    return NULL;
}

static void object_release(struct user_object *object, uint64_t count)
{
    struct destruction *one;
    pthread_t thread;
    object->references -= count;
    if (object->references == 0) {
        one = need(malloc(sizeof *one));
        one->destroy = object->destroy;
        one->data = object->data;
        destructors_running++;
        need(pthread_create(&thread, NULL, destructor, one) == 0 ? one : NULL);
        pthread_detach(thread);
        object_free(object);
    }
}

void graphs_settle(void)
{
    while (destructors_running != 0) {
        pthread_cond_wait(&driver.changed, &driver.lock);
    }
}

static CUresult object_create(CUuserObject *handle, void *data, CUhostFn destroy, unsigned references, unsigned flags)
{
    struct user_object *object;
    if (handle == NULL || destroy == NULL || references == 0 || references > INT32_MAX ||
        flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    object = object_new(OBJECT_USER_OBJECT);
    object->data = data;
    object->destroy = destroy;
    object->references = references;
    *handle = (CUuserObject)(void *)object;
    return CUDA_SUCCESS;
}

CUresult cuUserObjectCreate(CUuserObject *object, void *data, CUhostFn destroy, unsigned int references,
                            unsigned int flags)
{
    DRIVER_CALL(cuUserObjectCreate, ENTER_ALWAYS_LEGAL, object_create(object, data, destroy, references, flags));
}

static CUresult object_change(CUuserObject handle, unsigned count, int retain)
{
    struct user_object *object = object_find(handle, OBJECT_USER_OBJECT);
    if (object == NULL || count == 0 || (!retain && count > object->references)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (retain) {
        object->references += count;
    } else {
        object_release(object, count);
    }
    return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned int count)
{
    DRIVER_CALL(cuUserObjectRetain, ENTER_ALWAYS_LEGAL, object_change(object, count, 1));
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned int count)
{
    DRIVER_CALL(cuUserObjectRelease, ENTER_ALWAYS_LEGAL, object_change(object, count, 0));
}

static struct held *graph_held(struct graph *graph, const struct user_object *object)
{
    uint32_t i;
    for (i = 0; i < graph->held_count && graph->held[i].object != object; i++) {}
    return i < graph->held_count ? &graph->held[i] : NULL;
}

static struct graph *graph_get(CUgraph handle)
{
    return object_find(handle, OBJECT_GRAPH);
}

static CUresult graph_retain(CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags)
{
    struct user_object *object = object_find(handle, OBJECT_USER_OBJECT);
    struct graph *graph = graph_get(graph_handle);
    struct held *held;
    if (graph == NULL || object == NULL || count == 0 || flags > CU_GRAPH_USER_OBJECT_MOVE) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    held = graph_held(graph, object);
    if (held == NULL) {
        graph->held = array_grow(graph->held, graph->held_count, &graph->held_capacity, sizeof *graph->held);
        held = &graph->held[graph->held_count++];
        held->object = object;
        held->count = 0;
    }
    held->count += count;
    if ((flags & CU_GRAPH_USER_OBJECT_MOVE) == 0) {
        object->references += count;
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags)
{
    DRIVER_CALL(cuGraphRetainUserObject, ENTER_ALWAYS_LEGAL, graph_retain(graph, object, count, flags));
}

static CUresult graph_release(CUgraph graph_handle, CUuserObject handle, unsigned count)
{
    struct user_object *object = object_find(handle, OBJECT_USER_OBJECT);
    struct graph *graph = graph_get(graph_handle);
    struct held *held = graph != NULL && object != NULL ? graph_held(graph, object) : NULL;
    if (held == NULL || count == 0 || count > held->count) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    held->count -= count;
    if (held->count == 0) {
        *held = graph->held[--graph->held_count];
    }
    object_release(object, count);
    return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count)
{
    DRIVER_CALL(cuGraphReleaseUserObject, ENTER_ALWAYS_LEGAL, graph_release(graph, object, count));
}

/* ---- memory of graphs */
static struct graph_allocation *find_allocation(uint64_t address, struct arena **arena)
{
    uint32_t i;
    for (*arena = arenas; *arena != NULL; *arena = (*arena)->next) {
        for (i = 0; i < (*arena)->count; i++) {
            if ((*arena)->items[i].address == address) {
                return &(*arena)->items[i];
            }
        }
    }
    return NULL;
}

int graph_owns(const struct region *region)
{
    struct arena *arena;
    return region->kind == REGION_POOL && find_allocation(region->address, &arena) != NULL;
}

static struct arena *arena_of(struct graph *graph)
{
    if (graph->arena == NULL) {
        graph->arena = need(calloc(1, sizeof *graph->arena));
        graph->arena->references = 1;
        graph->arena->device = graph->device;
        graph->arena->next = arenas;
        arenas = graph->arena;
    }
    return graph->arena;
}

static void arena_drop(struct arena *arena)
{
    struct arena **link = &arenas;
    uint32_t i;
    if (arena == NULL || --arena->references != 0) {
        return;
    }
    while (*link != arena) {
        link = &(*link)->next;
    }
    *link = arena->next;
    clock_join(&arena->after, &arena->before);
    for (i = 0; i < arena->count; i++) {
        pool_give(arena->items[i].block, &arena->after);
    }
    clock_free(&arena->before);
    clock_free(&arena->after);
    free(arena->items);
    free(arena);
}

CUresult graph_alloc(struct stream *stream, size_t bytes, uint64_t *address)
{
    struct graph_allocation *item;
    struct arena *arena;
    struct work work;
    if (stream->capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    arena = arena_of(stream->capture->graph);
    arena->items = array_grow(arena->items, arena->count, &arena->capacity, sizeof *arena->items);
    item = &arena->items[arena->count];
    memset(item, 0, sizeof *item);
    item->block = pool_take(pool_for_graphs(stream->context->device), bytes, &arena->before, &item->address);
    if (item->block == NULL) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    item->bytes = bytes;
    arena->count++;
    *address = item->address;
    memset(&work, 0, sizeof work);
    work.node_type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    work_label(&work, "alloc node");
    return capture_add(stream, &work, NULL);
}

CUresult graph_free_node(struct stream *stream, struct region *region)
{
    struct arena *arena;
    struct graph_allocation *item = find_allocation(region->address, &arena);
    struct work work;
    CUresult result;
    if (item == NULL || arena != stream->capture->graph->arena || item->freed_inside) {
        return CUDA_ERROR_INVALID_VALUE; /* only memory that this graph allocates */
    }
    memset(&work, 0, sizeof work);
    work.kind = WORK_POOL_FREE;
    work.node_type = CU_GRAPH_NODE_TYPE_MEM_FREE;
    work.to = item->address;
    work.bytes = item->bytes;
    work_label(&work, "free node");
    result = capture_add(stream, &work, NULL);
    item->freed_inside = result == CUDA_SUCCESS;
    return result;
}

CUresult graph_free_eager(struct region *region, struct stream *stream)
{
    struct arena *arena;
    struct graph_allocation *item = find_allocation(region->address, &arena);
    struct work work;
    if (!item->live) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    item->live = 0;
    if (stream == NULL) {
        order_host(ACCESS_FREE, "cuMemFree", item->address, item->bytes);
        clock_join(&arena->after, &driver.host);
        return CUDA_SUCCESS;
    }
    memset(&work, 0, sizeof work);
    work.kind = WORK_POOL_FREE;
    work.to = item->address;
    work.bytes = item->bytes;
    work_label(&work, "cuMemFreeAsync");
    (void)stream_enqueue(stream, &work);
    clock_join(&arena->after, &stream->clock);
    return CUDA_SUCCESS;
}

/* ---- graphs */
struct graph *graph_new(int device)
{
    struct graph *graph = object_new(OBJECT_GRAPH);
    graph->device = device;
    return graph;
}

static void held_drop(struct held *held, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        object_release(held[i].object, held[i].count);
    }
    free(held);
}

void graph_delete(struct graph *graph)
{
    uint32_t i;
    for (i = 0; i < graph->node_count; i++) {
        free(graph->nodes[i]->deps);
        object_free(graph->nodes[i]);
    }
    free(graph->nodes);
    held_drop(graph->held, graph->held_count);
    arena_drop(graph->arena);
    object_free(graph);
}

struct node *graph_add(struct graph *graph, const struct work *work, struct node *const *deps, uint32_t count,
                       uint32_t lane)
{
    struct node *node = object_new(OBJECT_NODE);
    node->graph = graph;
    node->work = *work;
    node->lane = lane;
    node->index = graph->node_count;
    array_nodes(&node->deps, &node->dep_count, deps, count);
    graph->nodes = array_grow(graph->nodes, graph->node_count, &graph->node_capacity, sizeof(struct node *));
    graph->nodes[graph->node_count++] = node;
    graph->lanes = lane >= graph->lanes ? lane + 1 : graph->lanes;
    return node;
}

uint8_t *graph_ancestors(const struct graph *graph, struct node *const *fringe, uint32_t count)
{
    uint8_t *before = need(calloc(graph->node_count + 1u, 1));
    uint32_t i, k;
    for (i = 0; i < count; i++) {
        before[fringe[i]->index] = 1;
    }
    for (i = graph->node_count; i-- > 0;) { /* nodes are in an order that respects dependencies */
        for (k = 0; before[i] && k < graph->nodes[i]->dep_count; k++) {
            before[graph->nodes[i]->deps[k]->index] = 1;
        }
    }
    return before;
}

static int is_captured(const struct graph *graph)
{
    const struct capture *capture;
    for (capture = driver.captures; capture != NULL && capture->graph != graph; capture = capture->next) {}
    return capture != NULL;
}

static CUresult graph_destroy(CUgraph handle)
{
    struct graph *graph = graph_get(handle);
    if (graph == NULL || is_captured(graph)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    graph_delete(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
    DRIVER_CALL(cuGraphDestroy, ENTER_ALWAYS_LEGAL, graph_destroy(graph));
}

static CUresult graph_get_nodes(CUgraph handle, CUgraphNode *nodes, size_t *count)
{
    const struct graph *graph = graph_get(handle);
    size_t i;
    if (graph == NULL || count == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (i = 0; nodes != NULL && i < *count; i++) {
        nodes[i] = i < graph->node_count ? (CUgraphNode)(void *)graph->nodes[i] : NULL;
    }
    if (nodes == NULL || *count > graph->node_count) {
        *count = graph->node_count;
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    DRIVER_CALL(cuGraphGetNodes, ENTER_ALWAYS_LEGAL, graph_get_nodes(graph, nodes, count));
}

static CUresult node_type(CUgraphNode handle, CUgraphNodeType *type)
{
    const struct node *node = object_find(handle, OBJECT_NODE);
    if (node == NULL || type == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *type = node->work.node_type;
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
    DRIVER_CALL(cuGraphNodeGetType, ENTER_ALWAYS_LEGAL, node_type(node, type));
}

/* ---- executable graphs */
/* Which allocations a piece of work touches, as one number: it changes when memory is freed and allocated again. */
static uint64_t owners_of(const struct work *work)
{
    struct range ranges[RANGES_MAX];
    const uint32_t count = work_ranges(work, ranges);
    uint64_t owners = 0;
    uint32_t i;
    for (i = 0; i < count; i++) {
        uint64_t address = ranges[i].address;
        const uint64_t end = address + ranges[i].bytes;
        while (address < end) {
            const struct region *region = region_find(address);
            if (region == NULL) {
                break;
            }
            owners = owners * 0x9E3779B97F4A7C15u + region->id;
            address = region->address + region->bytes;
        }
    }
    return owners;
}

static void copy_node(struct exec_node *to, const struct node *from, struct exec_node *all)
{
    uint32_t i;
    to->work = from->work;
    to->lane = from->lane;
    to->dep_count = from->dep_count;
    to->deps = need(malloc((from->dep_count + 1u) * sizeof *to->deps));
    for (i = 0; i < from->dep_count; i++) {
        to->deps[i] = from->deps[i]->index;
        all[to->deps[i]].has_dependents = 1;
    }
    to->owners = owners_of(&to->work);
}

static CUresult instantiate(CUgraphExec *handle, CUgraph graph_handle, unsigned long long flags)
{
    struct graph *graph = graph_get(graph_handle);
    struct exec *exec;
    uint32_t i;
    if (handle == NULL || graph == NULL || is_captured(graph) ||
        flags > CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (graph->arena != NULL && graph->instantiated) {
        return CUDA_ERROR_NOT_SUPPORTED; /* one executable graph for a graph that allocates */
    }
    graph->instantiated = 1;
    exec = object_new(OBJECT_EXEC);
    exec->device = graph->device;
    exec->frees_on_launch = flags != 0;
    exec->node_count = graph->node_count;
    exec->nodes = need(calloc(graph->node_count + 1u, sizeof *exec->nodes));
    for (i = 0; i < graph->node_count; i++) {
        copy_node(&exec->nodes[i], graph->nodes[i], exec->nodes);
    }
    exec->lanes = graph->lanes;
    exec->agents = need(malloc((graph->lanes + 1u) * sizeof *exec->agents));
    for (i = 0; i < graph->lanes; i++) {
        exec->agents[i] = order_new_agent();
    }
    exec->held = need(malloc((graph->held_count + 1u) * sizeof *exec->held));
    exec->held_count = graph->held_count;
    for (i = 0; i < graph->held_count; i++) {
        exec->held[i] = graph->held[i];
        exec->held[i].object->references += exec->held[i].count;
    }
    exec->arena = graph->arena;
    if (exec->arena != NULL) {
        exec->arena->references++;
    }
    *handle = (CUgraphExec)(void *)exec;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    DRIVER_CALL(cuGraphInstantiateWithFlags, ENTER_CONTEXT, instantiate(exec, graph, flags));
}

static void exec_delete(struct exec *exec)
{
    uint32_t i;
    for (i = 0; i < exec->node_count; i++) {
        free(exec->nodes[i].deps);
    }
    free(exec->nodes);
    free(exec->agents);
    op_drop(exec->last);
    clock_free(&exec->clock);
    arena_drop(exec->arena);
    held_drop(exec->held, exec->held_count);
    object_free(exec);
}

void exec_finished(void *finished)
{
    struct exec *exec = finished;
    if (--exec->in_flight == 0 && exec->destroyed) {
        exec_delete(exec);
    }
}

static struct exec *exec_get(CUgraphExec handle)
{
    struct exec *exec = object_find(handle, OBJECT_EXEC);
    return exec == NULL || exec->destroyed ? NULL : exec;
}

/* What is in flight is finished first; until then its user objects live. */
static CUresult exec_destroy(CUgraphExec handle)
{
    struct exec *exec = exec_get(handle);
    if (exec == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    exec->destroyed = 1;
    if (exec->in_flight == 0) {
        exec_delete(exec);
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    DRIVER_CALL(cuGraphExecDestroy, ENTER_ALWAYS_LEGAL, exec_destroy(exec));
}

/* Alloc nodes allocate; what an earlier launch left allocated must have been freed. */
static CUresult launch_memory(struct exec *exec)
{
    struct arena *arena = exec->arena;
    uint32_t i;
    for (i = 0; arena != NULL && i < arena->count; i++) {
        if (arena->items[i].live && !exec->frees_on_launch) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    for (i = 0; arena != NULL && i < arena->count; i++) {
        arena->items[i].live = !arena->items[i].freed_inside;
    }
    return CUDA_SUCCESS;
}

static void launch_node(struct exec *exec, uint32_t index, struct stream *stream, struct op **ops, struct clock *clocks,
                        const struct clock *start)
{
    const struct exec_node *node = &exec->nodes[index];
    const uint32_t agent = exec->agents[node->lane];
    uint32_t i;
    ops[index] = op_new(stream->context, stream, &node->work);
    op_depend(ops[index], stream->tail);
    clock_join(&clocks[index], start);
    for (i = 0; i < node->dep_count; i++) {
        op_depend(ops[index], ops[node->deps[i]]);
        clock_join(&clocks[index], &clocks[node->deps[i]]);
    }
    clock_tick(&clocks[index], agent); /* nodes of one captured stream are a chain, through all launches */
    if (node->owners != owners_of(&node->work)) {
        order_report("replaced: a replay of %s (call %llu) touches memory that was freed or mapped anew since the "
                     "graph was made", node->work.label, (unsigned long long)driver.sequence);
    }
    work_check(&node->work, &clocks[index], agent, 0);
    op_keep(ops[index]);
    op_submit(ops[index]);
}

/* The stream goes on after every node that no other waits for. */
static void launch_end(struct exec *exec, struct stream *stream, struct op **ops, struct clock *clocks)
{
    struct work work;
    uint32_t i;
    memset(&work, 0, sizeof work);
    for (i = 0; i < exec->node_count; i++) {
        if (!exec->nodes[i].has_dependents) {
            (void)stream_enqueue_after(stream, &work, ops[i], &clocks[i]);
        }
        op_drop(ops[i]);
        clock_free(&clocks[i]);
    }
    work.kind = WORK_EXEC_END;
    work.object = exec;
    exec->in_flight++;
    (void)stream_enqueue(stream, &work);
    op_drop(exec->last);
    exec->last = op_keep(stream->tail);
    clock_copy(&exec->clock, &stream->clock);
    if (exec->arena != NULL) {
        exec->arena->launched = 1;
        clock_join(&exec->arena->after, &stream->clock);
    }
}

static CUresult launch(CUgraphExec handle, CUstream stream_handle)
{
    struct exec *exec = exec_get(handle);
    struct clock start = {NULL, 0, 0};
    struct stream *stream;
    struct clock *clocks;
    struct op **ops;
    struct work work;
    uint32_t i;
    CUresult result = exec == NULL ? CUDA_ERROR_INVALID_VALUE : stream_start(stream_handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (stream->capture != NULL) {
        capture_invalidate(stream->capture);
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; /* child graphs are not emulated */
    }
    result = launch_memory(exec);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    memset(&work, 0, sizeof work);
    clock_join(&start, &exec->clock);
    if (exec->arena != NULL) {
        clock_join(&start, &exec->arena->before);
    }
    (void)stream_enqueue_after(stream, &work, exec->last, &start);
    ops = need(calloc(exec->node_count + 1u, sizeof *ops));
    clocks = need(calloc(exec->node_count + 1u, sizeof *clocks));
    clock_copy(&start, &stream->clock);
    for (i = 0; i < exec->node_count; i++) {
        launch_node(exec, i, stream, ops, clocks, &start);
    }
    launch_end(exec, stream, ops, clocks);
    clock_free(&start);
    free(clocks);
    free(ops);
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    DRIVER_CALL(cuGraphLaunch, ENTER_ALWAYS_LEGAL, launch(exec, stream));
}

/* ---- memory of graphs, per device */
static CUresult mem_trim(CUdevice device)
{
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    pool_trim_graphs(device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    DRIVER_CALL(cuDeviceGraphMemTrim, ENTER_UNSAFE, mem_trim(device));
}

static CUresult mem_attribute(CUdevice device, int attribute, void *value, int set)
{
    uint64_t numbers[4];
    if (value == NULL || attribute < 0 || attribute > CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    pool_numbers(pool_for_graphs(device), numbers);
    if (set) {
        memcpy(numbers, value, sizeof numbers[0]);
        if (numbers[0] != 0 || (attribute & 1) == 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        pool_reset_high(pool_for_graphs(device), attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH);
        return CUDA_SUCCESS;
    }
    memcpy(value, &numbers[attribute], sizeof numbers[0]);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
    DRIVER_CALL(cuDeviceGetGraphMemAttribute, 0, mem_attribute(device, (int)attribute, value, 0));
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
    DRIVER_CALL(cuDeviceSetGraphMemAttribute, 0, mem_attribute(device, (int)attribute, value, 1));
}

/* Before pools and objects: no destructor of the program is called for what it left behind. */
void graphs_reset(void)
{
    struct object *object, *next;
    for (object = object_first(OBJECT_USER_OBJECT); object != NULL; object = object_next(object)) {
        ((struct user_object *)(void *)object)->references = UINT64_MAX / 2;
    }
    for (object = object_first(OBJECT_EXEC); object != NULL; object = next) {
        next = object_next(object);
        exec_delete((struct exec *)(void *)object);
    }
    for (object = object_first(OBJECT_GRAPH); object != NULL; object = next) {
        struct graph *graph = (struct graph *)(void *)object;
        next = object_next(object);
        if (!is_captured(graph)) {
            graph_delete(graph);
        }
    }
}
