/* pools.c - the driver's own stream-ordered allocator: cuMemAllocAsync and memory pools.

   A pool has segments of whole pages; a segment has blocks, live and free, in order of address. A free block
   remembers what its next use must come after: the operation that freed it, and that operation's clock. It goes to
   another stream only by one of the three ways that the attributes allow, and back to the device only when the host
   has seen its freeing finish. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_UNIT = 512 };

struct block {
    struct segment *segment;
    struct block *next, *previous;
    uint64_t address;
    size_t bytes;
    int live;
    uint32_t agent;     /* the stream that freed it; 0: the host, or never used */
    struct op *op;      /* the freeing; null or done: over */
    struct clock clock; /* of the freeing */
};
struct segment {
    struct segment *next;
    struct pool *pool;
    uint64_t address;
    uint32_t page_count;
    struct block *blocks;
};
struct pool {
    struct object object;
    int device, is_internal, destroyed;
    int reuse[3]; /* follow event dependencies, opportunistic, internal dependencies */
    uint64_t max_bytes, threshold, reserved, reserved_high, used, used_high;
    struct segment *segments;
    uint8_t access[DEVICES_MAX];
};
typedef char pool_fits[sizeof(struct pool) <= OBJECT_BYTES ? 1 : -1];

static struct pool *pool_new(int device, int is_internal)
{
    struct pool *pool = object_new(OBJECT_POOL);
    pool->device = device;
    pool->is_internal = is_internal;
    pool->reuse[0] = pool->reuse[1] = pool->reuse[2] = 1;
    pool->access[device] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return pool;
}

static struct pool *pool_default(int ordinal)
{
    struct device *device = &driver.devices[ordinal];
    if (device->pool_default == NULL) {
        device->pool_default = device->pool_current = pool_new(ordinal, 1);
    }
    return device->pool_default;
}

struct pool *pool_for_graphs(int ordinal)
{
    struct device *device = &driver.devices[ordinal];
    if (device->pool_graphs == NULL) {
        device->pool_graphs = pool_new(ordinal, 1);
        device->pool_graphs->threshold = UINT64_MAX;
    }
    return device->pool_graphs;
}

static struct pool *pool_get(CUmemoryPool handle)
{
    struct pool *pool = object_find(handle, OBJECT_POOL);
    return pool == NULL || pool->destroyed ? NULL : pool;
}

struct pool *pool_of_region(const struct region *region)
{
    return ((const struct block *)region->owner)->segment->pool;
}

void pool_numbers(const struct pool *pool, uint64_t numbers[4])
{
    numbers[0] = pool->used;
    numbers[1] = pool->used_high;
    numbers[2] = pool->reserved;
    numbers[3] = pool->reserved_high;
}

void pool_reset_high(struct pool *pool, int used)
{
    if (used) {
        pool->used_high = pool->used;
    } else {
        pool->reserved_high = pool->reserved;
    }
}

/* ---- blocks and segments */
static void block_delete(struct block *block)
{
    *(block->previous != NULL ? &block->previous->next : &block->segment->blocks) = block->next;
    if (block->next != NULL) {
        block->next->previous = block->previous;
    }
    op_drop(block->op);
    clock_free(&block->clock);
    free(block);
}

static void segment_access(const struct segment *segment)
{
    uint32_t i;
    for (i = 0; i < segment->page_count; i++) {
        struct page *page = memory_page(segment->address + i * memory_page_bytes());
        page->follows_peers = 0;
        memcpy(page->access, segment->pool->access, sizeof page->access);
    }
}

static struct block *segment_new(struct pool *pool, size_t bytes)
{
    const uint64_t page = memory_page_bytes();
    const uint32_t count = (uint32_t)((bytes + page - 1) / page);
    struct segment *segment;
    uint64_t address;
    if (bytes > driver.config.capacity || (pool->max_bytes != 0 && pool->reserved + count * page > pool->max_bytes)) {
        return NULL;
    }
    address = memory_new_pages(pool->device, count);
    if (address == 0 && pool_squeeze(pool->device)) {
        address = memory_new_pages(pool->device, count);
    }
    if (address == 0) {
        return NULL;
    }
    segment = need(calloc(1, sizeof *segment));
    segment->pool = pool;
    segment->address = address;
    segment->page_count = count;
    segment->next = pool->segments;
    pool->segments = segment;
    segment_access(segment);
    memory_fill(address, (size_t)(count * page), ++driver.next_id);
    segment->blocks = need(calloc(1, sizeof *segment->blocks));
    segment->blocks->segment = segment;
    segment->blocks->address = address;
    segment->blocks->bytes = (size_t)(count * page);
    pool->reserved += count * page;
    pool->reserved_high = pool->reserved > pool->reserved_high ? pool->reserved : pool->reserved_high;
    return segment->blocks;
}

/* Neighbours whose freeing is over become one, which must be used after both. */
static void segment_merge(struct segment *segment)
{
    struct block *block = segment->blocks;
    while (block->next != NULL) {
        struct block *next = block->next;
        if (!block->live && !next->live && op_done(block->op) && op_done(next->op)) {
            block->agent = block->agent == next->agent ? block->agent : UINT32_MAX;
            clock_join(&block->clock, &next->clock);
            block->bytes += next->bytes;
            block_delete(next);
        } else {
            block = next;
        }
    }
}

/* Back to the device: a segment that is free, where the host knows that all use of it is over. */
static uint64_t pool_release(struct pool *pool, uint64_t keep_bytes)
{
    struct segment **link = &pool->segments;
    uint64_t released = 0;
    while (*link != NULL) {
        struct segment *segment = *link;
        const uint64_t bytes = segment->page_count * memory_page_bytes();
        segment_merge(segment);
        if (pool->reserved <= keep_bytes || segment->blocks->live || segment->blocks->next != NULL ||
            !op_done(segment->blocks->op) || !clock_within(&segment->blocks->clock, &driver.host, NULL)) {
            link = &segment->next;
            continue;
        }
        *link = segment->next;
        block_delete(segment->blocks);
        memory_delete_pages(pool->device, segment->address, segment->page_count);
        free(segment);
        pool->reserved -= bytes;
        released += bytes;
    }
    if (pool->destroyed && pool->segments == NULL) {
        object_free(pool);
    }
    return released;
}

void pool_observe_all(void)
{
    struct object *object = object_first(OBJECT_POOL), *next;
    for (; object != NULL; object = next) {
        struct pool *pool = (struct pool *)(void *)object;
        next = object_next(object);
        if (pool->reserved > pool->threshold || pool->destroyed) {
            (void)pool_release(pool, pool->destroyed ? 0 : pool->threshold);
        }
    }
}

int pool_squeeze(int device)
{
    struct object *object = object_first(OBJECT_POOL), *next;
    uint64_t released = 0;
    for (; object != NULL; object = next) {
        struct pool *pool = (struct pool *)(void *)object;
        next = object_next(object);
        if (pool->device == device) {
            released += pool_release(pool, 0);
        }
    }
    return released != 0;
}

void pool_trim_graphs(int device)
{
    (void)pool_release(pool_for_graphs(device), 0);
}

/* ---- which free block a stream may have */
enum way { WAY_SAME_STREAM, WAY_EVENTS, WAY_OPPORTUNISTIC, WAY_INTERNAL, WAYS };

static int allowed(const struct pool *pool, const struct block *block, const struct stream *stream, enum way way)
{
    switch (way) {
    case WAY_SAME_STREAM: return block->clock.count == 0 || block->agent == stream->agent;
    case WAY_EVENTS: return pool->reuse[0] && clock_within(&block->clock, &stream->clock, &driver.host);
    case WAY_OPPORTUNISTIC: return pool->reuse[1] && op_done(block->op);
    case WAY_INTERNAL: return pool->reuse[2] && block->agent != 0;
    case WAYS: break;
    }
    return 0;
}

static struct block *best_block(const struct pool *pool, size_t bytes, const struct stream *stream, enum way way)
{
    const struct segment *segment;
    struct block *block, *best = NULL;
    for (segment = pool->segments; segment != NULL; segment = segment->next) {
        for (block = segment->blocks; block != NULL; block = block->next) {
            if (!block->live && block->bytes >= bytes && (best == NULL || block->bytes < best->bytes) &&
                allowed(pool, block, stream, way)) {
                best = block;
            }
        }
    }
    return best;
}

static void block_split(struct block *block, size_t bytes)
{
    struct block *rest;
    if (block->bytes == bytes) {
        return;
    }
    rest = need(calloc(1, sizeof *rest));
    rest->segment = block->segment;
    rest->address = block->address + bytes;
    rest->bytes = block->bytes - bytes;
    rest->agent = block->agent;
    rest->op = block->op != NULL ? op_keep(block->op) : NULL;
    clock_join(&rest->clock, &block->clock);
    rest->next = block->next;
    rest->previous = block;
    if (rest->next != NULL) {
        rest->next->previous = rest;
    }
    block->next = rest;
    block->bytes = bytes;
}

static void count_used(struct pool *pool, const struct block *block)
{
    pool->used += block->bytes;
    pool->used_high = pool->used > pool->used_high ? pool->used : pool->used_high;
}

static struct block *find_block(struct pool *pool, size_t bytes, const struct stream *stream)
{
    struct segment *segment;
    struct block *block = NULL;
    int way;
    for (segment = pool->segments; segment != NULL; segment = segment->next) {
        segment_merge(segment);
    }
    for (way = 0; way < WAYS && block == NULL; way++) {
        block = best_block(pool, bytes, stream, (enum way)way);
    }
    return block != NULL ? block : segment_new(pool, bytes);
}

CUresult pool_alloc(struct pool *pool, size_t bytes, struct stream *stream, uint64_t *address)
{
    const size_t rounded = (bytes + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
    struct region *region;
    struct block *block;
    struct work work;
    if (rounded < bytes || (block = find_block(pool, rounded, stream)) == NULL) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    block_split(block, rounded);
    memset(&work, 0, sizeof work);
    work_label(&work, "cuMemAllocAsync");
    (void)stream_enqueue_after(stream, &work, block->op, &block->clock);
    op_drop(block->op);
    block->op = NULL;
    clock_free(&block->clock);
    block->live = 1;
    count_used(pool, block);
    region = region_add(REGION_POOL, block->address, bytes, pool->device);
    region->owner = block;
    *address = block->address;
    return CUDA_SUCCESS;
}

static void block_freed(struct block *block)
{
    struct pool *pool = block->segment->pool;
    block->live = 0;
    pool->used -= block->bytes;
}

CUresult pool_free_region(struct region *region, struct stream *stream)
{
    struct block *block = region->owner;
    struct work work;
    if (stream == NULL) {
        order_host(ACCESS_FREE, "cuMemFree", region->address, region->bytes);
        memory_spoil(region->address, region->bytes);
        clock_copy(&block->clock, &driver.host);
        block->agent = 0;
    } else {
        memset(&work, 0, sizeof work);
        work.kind = WORK_POOL_FREE;
        work.to = region->address;
        work.bytes = region->bytes;
        work_label(&work, "cuMemFreeAsync");
        block->op = op_keep(stream_enqueue(stream, &work));
        clock_copy(&block->clock, &stream->clock);
        block->agent = stream->agent;
    }
    region_remove(region);
    block_freed(block);
    return CUDA_SUCCESS;
}

struct block *pool_take(struct pool *pool, size_t bytes, struct clock *clock, uint64_t *address)
{
    const size_t rounded = (bytes + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
    struct segment *segment;
    struct block *block, *best = NULL;
    for (segment = pool->segments; segment != NULL; segment = segment->next) {
        segment_merge(segment);
        for (block = segment->blocks; block != NULL; block = block->next) {
            if (!block->live && block->bytes >= rounded && (best == NULL || block->bytes < best->bytes)) {
                best = block;
            }
        }
    }
    best = best != NULL ? best : segment_new(pool, rounded);
    if (best == NULL) {
        return NULL;
    }
    block_split(best, rounded);
    clock_join(clock, &best->clock);
    clock_free(&best->clock);
    best->live = 1;
    count_used(pool, best);
    *address = best->address;
    region_add(REGION_POOL, best->address, bytes, pool->device)->owner = best;
    return best;
}

void pool_give(struct block *block, const struct clock *clock)
{
    region_remove(region_at(block->address));
    clock_copy(&block->clock, clock);
    block->agent = UINT32_MAX;
    block_freed(block);
}

uint64_t pool_program_pools(void)
{
    struct object *object = object_first(OBJECT_POOL);
    uint64_t count = 0;
    for (; object != NULL; object = object_next(object)) {
        const struct pool *pool = (struct pool *)(void *)object;
        count += !pool->is_internal && !pool->destroyed;
    }
    return count;
}

/* The pages go with the devices; here only what describes them. */
void pools_reset(void)
{
    struct object *object = object_first(OBJECT_POOL);
    for (; object != NULL; object = object_next(object)) {
        struct pool *pool = (struct pool *)(void *)object;
        while (pool->segments != NULL) {
            struct segment *segment = pool->segments;
            pool->segments = segment->next;
            while (segment->blocks != NULL) {
                block_delete(segment->blocks);
            }
            free(segment);
        }
    }
}

/* ---- calls */
static int pools_supported(void)
{
    int supported = 0;
    return device_attribute(&supported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED) == CUDA_SUCCESS && supported;
}

static CUresult alloc_async(CUdeviceptr *address, size_t bytes, struct pool *pool, int any_pool, CUstream handle)
{
    struct stream *stream;
    uint64_t found = 0;
    CUresult result = stream_start(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (!pools_supported()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (address == NULL || bytes == 0 || (pool == NULL && !any_pool)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (pool == NULL) {
        (void)pool_default(stream->context->device);
        pool = driver.devices[stream->context->device].pool_current;
    }
    result = stream->capture != NULL ? graph_alloc(stream, bytes, &found) : pool_alloc(pool, bytes, stream, &found);
    if (result == CUDA_SUCCESS) {
        *address = found;
    }
    return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
    DRIVER_CALL(cuMemAllocAsync, ENTER_ALWAYS_LEGAL, alloc_async(address, bytes, NULL, 1, stream));
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    DRIVER_CALL(cuMemAllocFromPoolAsync, ENTER_ALWAYS_LEGAL, alloc_async(address, bytes, pool_get(pool), 0, stream));
}

static CUresult free_async(CUdeviceptr address, CUstream handle)
{
    struct region *region = region_at(address);
    struct stream *stream;
    CUresult result = stream_start(handle, &stream);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (region == NULL || region->kind != REGION_POOL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream->capture != NULL) {
        return graph_free_node(stream, region);
    }
    return graph_owns(region) ? graph_free_eager(region, stream) : pool_free_region(region, stream);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
    DRIVER_CALL(cuMemFreeAsync, ENTER_ALWAYS_LEGAL, free_async(address, stream));
}

static CUresult pool_create(CUmemoryPool *handle, const CUmemPoolProps *props)
{
    struct pool *pool;
    size_t i;
    if (handle == NULL || props == NULL || props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
        props->location.type != CU_MEM_LOCATION_TYPE_DEVICE || props->win32SecurityAttributes != NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(props->location.id)) {
        return CUDA_ERROR_INVALID_VALUE; /* not INVALID_DEVICE */
    }
    /* Older drivers see only reserved bytes here, and want zeros. */
    if ((props->maxSize != 0 && driver.config.version < 12020) ||
        (props->usage != 0 && driver.config.version < 12080)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (i = 0; i < sizeof props->reserved; i++) {
        if (props->reserved[i] != 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    if (!pools_supported()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    pool = pool_new(props->location.id, 0);
    pool->max_bytes = props->maxSize;
    *handle = (CUmemoryPool)(void *)pool;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
    DRIVER_CALL(cuMemPoolCreate, ENTER_UNSAFE, pool_create(pool, props));
}

/* Memory that is still live keeps it; the handle is void at once. */
static CUresult pool_destroy(CUmemoryPool handle)
{
    struct pool *pool = pool_get(handle);
    if (pool == NULL || pool->is_internal) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (driver.devices[pool->device].pool_current == pool) {
        driver.devices[pool->device].pool_current = pool_default(pool->device);
    }
    pool->destroyed = 1;
    (void)pool_release(pool, 0);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    DRIVER_CALL(cuMemPoolDestroy, ENTER_UNSAFE, pool_destroy(pool));
}

static CUresult pool_trim(CUmemoryPool handle, size_t keep_bytes)
{
    struct pool *pool = pool_get(handle);
    if (pool == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    (void)pool_release(pool, keep_bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t bytes_to_keep)
{
    DRIVER_CALL(cuMemPoolTrimTo, ENTER_UNSAFE, pool_trim(pool, bytes_to_keep));
}

static CUresult set_attribute(struct pool *pool, int attribute, const void *value)
{
    uint64_t wide = 0;
    int narrow;
    if (pool == NULL || value == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        memcpy(&narrow, value, sizeof narrow);
        pool->reuse[attribute - 1] = narrow != 0;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: memcpy(&pool->threshold, value, 8); return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: /* these can only be set back to what there is now */
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        memcpy(&wide, value, 8);
        if (wide != 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        pool_reset_high(pool, attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH);
        return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value)
{
    DRIVER_CALL(cuMemPoolSetAttribute, ENTER_UNSAFE, set_attribute(pool_get(pool), (int)attribute, value));
}

static CUresult get_attribute(const struct pool *pool, int attribute, void *value)
{
    const uint64_t *wide;
    if (pool == NULL || value == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        memcpy(value, &pool->reuse[attribute - 1], sizeof(int));
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: wide = &pool->threshold; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: wide = &pool->reserved; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: wide = &pool->reserved_high; break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: wide = &pool->used; break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: wide = &pool->used_high; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    memcpy(value, wide, 8);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value)
{
    DRIVER_CALL(cuMemPoolGetAttribute, ENTER_UNSAFE, get_attribute(pool_get(pool), (int)attribute, value));
}

static CUresult set_access(struct pool *pool, const CUmemAccessDesc *descs, size_t count)
{
    const struct segment *segment;
    size_t i;
    if (pool == NULL || (descs == NULL && count != 0)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (i = 0; i < count; i++) {
        const CUmemAccessDesc *desc = &descs[i];
        if (desc->location.type != CU_MEM_LOCATION_TYPE_DEVICE || !device_valid(desc->location.id) ||
            (desc->location.id == pool->device && desc->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) ||
            (desc->location.id != pool->device && !driver.config.peers)) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        pool->access[desc->location.id] = (uint8_t)desc->flags;
    }
    for (segment = pool->segments; segment != NULL; segment = segment->next) {
        segment_access(segment);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *descs, size_t count)
{
    DRIVER_CALL(cuMemPoolSetAccess, ENTER_UNSAFE, set_access(pool_get(pool), descs, count));
}

static CUresult get_access(CUmemAccess_flags *flags, const struct pool *pool, const CUmemLocation *location)
{
    if (flags == NULL || pool == NULL || location == NULL || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
        !device_valid(location->id)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *flags = (CUmemAccess_flags)pool->access[location->id];
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location)
{
    DRIVER_CALL(cuMemPoolGetAccess, 0, get_access(flags, pool_get(pool), location));
}

static CUresult device_pool(CUmemoryPool *handle, CUdevice device, int current)
{
    if (handle == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (!pools_supported()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    *handle = (CUmemoryPool)(void *)pool_default(device);
    if (current) {
        *handle = (CUmemoryPool)(void *)driver.devices[device].pool_current;
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
    DRIVER_CALL(cuDeviceGetDefaultMemPool, ENTER_UNSAFE, device_pool(pool, device, 0));
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
    DRIVER_CALL(cuDeviceGetMemPool, ENTER_UNSAFE, device_pool(pool, device, 1));
}

static CUresult set_device_pool(CUdevice device, struct pool *pool)
{
    if (!device_valid(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (pool == NULL || pool->device != device) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    (void)pool_default(device);
    driver.devices[device].pool_current = pool;
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
    DRIVER_CALL(cuDeviceSetMemPool, ENTER_UNSAFE, set_device_pool(device, pool_get(pool)));
}
