/* test_core.c - odd cases of the core: arguments at the edge of what is allowed, backends that break the rules, upstreams
   that are not there, memory at the end of all addresses. */
#include "test.h"
static void *counted_malloc(size_t size);
static void counted_free(void *ptr);
#define TENSORALLOC_MALLOC(size) counted_malloc(size)
#define TENSORALLOC_FREE(ptr) counted_free(ptr)
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "backends.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

/* Memory of objects and records: how many bytes of it there are now. */
static size_t counted_bytes;

static void *counted_malloc(size_t size)
{
    size_t *at = size <= SIZE_MAX - 64 ? (size_t *)malloc(size + 64) : NULL;
    if (at == NULL) {
        return NULL;
    }
    *at = size;
    counted_bytes += size;
    return (char *)at + 64;
}

static void counted_free(void *ptr)
{
    if (ptr != NULL) {
        size_t *at = (size_t *)(void *)((char *)ptr - 64);
        counted_bytes -= *at;
        free(at);
    }
}

static void arguments_of_backends(void)
{
    static char memory[8192];
    ta_backend backend = ta_backend_host();
    ta_fixed_buffer state;
    ta_budget *budget = NULL;
    ta_budget_desc desc;
    void *ptr = NULL;
    if (backend.vtable->reserve != NULL) {
        CHECK_RESULT(backend.vtable->reserve(backend.self, SIZE_MAX - 4095, MIB, 0, &ptr), TA_ERROR_OUT_OF_MEMORY);
        CHECK_RESULT(backend.vtable->release(backend.self, (char *)memory + 1, 4096), TA_ERROR_BACKEND);
    }
    memset(&state, 0xA5, sizeof state);
    CHECK_OK(ta_backend_fixed(&state, memory, sizeof memory, &backend));
    CHECK_EQ(state.padding + state.reserved, 0);
    {
        ta_backend_info info;
        size_t larger = 128;
        backend.vtable->info(backend.self, &info);
        while ((state.base & (larger - 1)) == 0) {
            larger *= 2;
        }
        CHECK_RESULT(backend.vtable->reserve(backend.self, info.range_bytes_max, larger, 0, &ptr), TA_ERROR_OUT_OF_MEMORY);
        CHECK_OK(backend.vtable->reserve(backend.self, info.range_bytes_max, 64, 0, &ptr));
        CHECK_RESULT(backend.vtable->reserve(backend.self, info.range_bytes_max, 64, 0, &ptr), TA_ERROR_OUT_OF_MEMORY);
        CHECK_OK(backend.vtable->release(backend.self, ptr, info.range_bytes_max));
    }
    CHECK_OK(ta_budget_create(NULL, &budget));
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_budget_get_desc(budget, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_get_desc(NULL, &desc), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_budget_destroy(budget));
}

static void arguments_of_pools(void)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_direct_desc direct_desc;
    ta_arena_desc arena_desc;
    ta_block_info info;
    ta_result result = TA_OK;
    void *ptr;
    TEST_ALLOW_ASSERTS();
    CHECK(ta_pool_alloc_aligned(NULL, 100, 3, &result) == NULL && result == TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_pool_get_aligned(NULL, 100, 3, &result) == NULL && result == TA_ERROR_INVALID_ARGUMENT);
    CHECK(ta_pool_alloc_stream(NULL, 100, 5, &result) == NULL && result == TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_put_aligned(NULL, (char *)&result + 1, 100, 64), TA_ERROR_FOREIGN);
    memset(&desc, 0, sizeof desc);
    desc.thread_cache_block_bytes = 65537;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc.thread_cache_block_bytes = 1023;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc.thread_cache_block_bytes = 0;
    desc.block_count_max = (size_t)0xfffffff1u;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc.block_count_max = 0;
    desc.huge_pages = (ta_huge_pages)3;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc.huge_pages = TA_HUGE_PAGES_DEFAULT;
    desc.classes_per_doubling = 3;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    desc.classes_per_doubling = 16;
    CHECK_RESULT(ta_pool_create(&desc, &pool), TA_ERROR_INVALID_ARGUMENT);
    CHECK(pool == NULL);
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_RESULT(ta_pool_free_after(pool, NULL, 1), TA_OK);
    ptr = ta_pool_alloc(pool, 100, &result);
    CHECK_RESULT(ta_pool_free_after(pool, ptr, 1), TA_ERROR_UNSUPPORTED); /* no streams on the host */
    CHECK_RESULT(ta_pool_retire_stream(pool, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_retire_stream(pool, UINT64_MAX), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_pool_retire_stream(pool, UINT64_MAX - 1), TA_ERROR_INVALID_ARGUMENT); /* the last that is none */
    CHECK_OK(ta_pool_retire_stream(pool, UINT64_MAX - 2));
    CHECK_OK(ta_pool_retire_stream(pool, 7)); /* never seen, and without order there is nothing to do */
    CHECK_OK(ta_pool_free(pool, ptr));
    ptr = ta_pool_alloc_zeroed(pool, SIZE_MAX - 5, &result);
    CHECK(ptr == NULL && result == TA_ERROR_OVERFLOW);
    CHECK_OK(ta_pool_dispose(pool));
    CHECK_RESULT(ta_pool_retire_stream(pool, 7), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_pool_free_after(pool, &desc, 1), TA_ERROR_DISPOSED);
    CHECK(ta_pool_realloc(pool, &desc, 10, &result) == NULL && result == TA_ERROR_DISPOSED);
    CHECK_OK(ta_pool_reset_peaks(pool)); /* as statistics, which stay readable */
    CHECK_OK(ta_pool_destroy(pool));

    CHECK_OK(ta_arena_create(NULL, &arena));
    CHECK_RESULT(ta_arena_get_desc(arena, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_arena_get_desc(NULL, &arena_desc), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_allocator_dispose(ta_arena_allocator(arena)));
    CHECK_OK(ta_arena_reset_peaks(arena));
    CHECK_OK(ta_arena_destroy(arena));
    memset(&direct_desc, 0, sizeof direct_desc);
    direct_desc.name = "named";
    CHECK_OK(ta_direct_create(&direct_desc, &direct));
    CHECK_OK(ta_direct_get_desc(direct, &direct_desc));
    CHECK_STRING(direct_desc.name, "named");
    CHECK_RESULT(ta_allocator_describe(ta_direct_allocator(direct), &info, &info), TA_ERROR_FOREIGN);
    CHECK_OK(ta_direct_destroy(direct));
}

/* ---- an allocator of the program's own over a pool, which fails where it is told to */
static ta_result alloc_fails, describe_fails, device_fails;
static ta_device_type device_is;

static void *own_alloc(void *self, const ta_request *request, ta_result *result)
{
    if (alloc_fails != TA_OK) {
        *result = alloc_fails;
        return NULL;
    }
    return ta_pool_alloc_request((ta_pool *)self, request, result);
}

static ta_result own_describe(void *self, const void *ptr, ta_block_info *out)
{
    return describe_fails != TA_OK ? describe_fails : ta_pool_describe((ta_pool *)self, ptr, out);
}

static ta_result own_device(void *self, ta_device *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->type = device_is;
    return device_fails;
}

static ta_allocator own_allocator(ta_pool *pool, ta_allocator_vtable *table)
{
    ta_allocator allocator = ta_pool_allocator(pool);
    *table = *allocator.vtable;
    table->alloc = own_alloc;
    table->describe = own_describe;
    table->device = own_device;
    allocator.vtable = table;
    alloc_fails = describe_fails = device_fails = TA_OK;
    device_is = TA_DEVICE_HOST;
    return allocator;
}

static void upstreams_and_buffers(void)
{
    ta_allocator_vtable table;
    ta_allocator own;
    ta_upstream upstream;
    ta_backend backend;
    ta_pool *below = NULL, *above = NULL;
    ta_pool_desc desc;
    ta_request request;
    ta_buffer buffer;
    ta_result result = TA_OK;
    memset(&desc, 0, sizeof desc);
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    CHECK_OK(ta_pool_create(NULL, &below));
    own = own_allocator(below, &table);
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_backend_upstream(&upstream, own, 128, &backend), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_upstream(&upstream, own, (size_t)1 << 31, &backend), TA_ERROR_INVALID_ARGUMENT);
    device_is = TA_DEVICE_OTHER;
    CHECK_RESULT(ta_backend_upstream(&upstream, own, 0, &backend), TA_ERROR_UNSUPPORTED);
    device_is = TA_DEVICE_HOST;
    device_fails = TA_ERROR_DISPOSED;
    CHECK_RESULT(ta_backend_upstream(&upstream, own, 0, &backend), TA_ERROR_DISPOSED);
    device_fails = TA_OK;
    CHECK_OK(ta_backend_upstream(&upstream, own, 0, &backend));
    desc.backend = backend;
    CHECK_OK(ta_pool_create(&desc, &above));
    alloc_fails = TA_ERROR_BACKEND;
    CHECK(ta_pool_alloc(above, MIB, &result) == NULL && result == TA_ERROR_BACKEND);
    alloc_fails = TA_ERROR_SEALED; /* whatever the reason of an upstream is */
    CHECK(ta_pool_alloc(above, MIB, &result) == NULL && result == TA_ERROR_OUT_OF_MEMORY);
    alloc_fails = TA_OK;
    CHECK_OK(ta_pool_destroy(above));
    describe_fails = TA_ERROR_BUSY;
    CHECK_RESULT(ta_allocator_alloc_buffer(own, &request, &buffer), TA_ERROR_BUSY);
    CHECK(buffer.data == NULL);
    {
        ta_stats stats;
        CHECK_OK(ta_pool_get_stats(below, &stats));
        CHECK_EQ(stats.live_count, 0); /* it was given back */
    }
    CHECK_OK(ta_pool_destroy(below));
}

static void tensors_of_other_devices(void)
{
    static const int32_t devices[] = {1, 2, 3, 13};
    ta_allocator_vtable table;
    ta_allocator own;
    ta_pool *pool = NULL;
    ta_tensor tensor, view;
    ta_dlpack *object = NULL;
    ta_dlpack_versioned *newer = NULL, future;
    ta_dlpack_tensor shown;
    int64_t dims[2] = {3, 4}, strides[1];
    size_t i;
    CHECK_OK(ta_pool_create(NULL, &pool));
    own = own_allocator(pool, &table);
    CHECK_OK(ta_tensor_create(own, TA_F32, dims, 2, 0, 0, &tensor));
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_dlpack_export_versioned(&tensor, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    device_is = TA_DEVICE_OTHER;
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, &object), TA_ERROR_UNSUPPORTED);
    device_fails = TA_ERROR_FORKED;
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, &object), TA_ERROR_FORKED);
    device_fails = TA_OK;
    tensor.dtype = TA_DTYPE_COUNT;
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, &object), TA_ERROR_INVALID_ARGUMENT);
    CHECK(object == NULL);
    tensor.dtype = TA_F32;
    tensor.rank = -1;
    CHECK(!ta_tensor_is_contiguous(&tensor));
    CHECK(!ta_tensor_is_contiguous(NULL));
    tensor.rank = 2;
    device_is = TA_DEVICE_CUDA;
    CHECK_OK(ta_dlpack_export_versioned(&tensor, 0, &newer));
    CHECK_EQ(newer->tensor.device_type, 2);
    shown = newer->tensor;
    for (i = 0; i < 4; i++) {
        shown.device_type = devices[i];
        CHECK_OK(ta_dlpack_import(&shown, &view));
        CHECK(view.buffer.data == shown.data);
    }
    shown.device_type = 4;
    CHECK_RESULT(ta_dlpack_import(&shown, &view), TA_ERROR_UNSUPPORTED);
    shown.device_type = 1;
    shown.byte_offset = (uint64_t)PTRDIFF_MAX + 1;
    CHECK_RESULT(ta_dlpack_import(&shown, &view), TA_ERROR_INVALID_ARGUMENT);
    shown.byte_offset = 0;
    shown.rank = 1;
    shown.strides = strides;
    dims[0] = 5;
    shown.dims = dims;
    strides[0] = INT64_MAX; /* four of them are more than there are addresses */
    CHECK_RESULT(ta_dlpack_import(&shown, &view), TA_ERROR_OVERFLOW);
    dims[0] = 2;
    strides[0] = (int64_t)(PTRDIFF_MAX / 4) + 1; /* elements fit, bytes are more than half of all addresses */
    CHECK_RESULT(ta_dlpack_import(&shown, &view), TA_ERROR_OVERFLOW);
    future = *newer;
    future.major = 9;
    CHECK_RESULT(ta_dlpack_import_versioned(&future, NULL), TA_ERROR_UNSUPPORTED);
    CHECK_RESULT(ta_dlpack_import_versioned(&future, &view), TA_ERROR_UNSUPPORTED);
    newer->deleter(NULL);
    newer->deleter(newer);
    device_is = TA_DEVICE_HOST;
    CHECK_OK(ta_tensor_create(own, TA_F32, dims, 1, 0, 0, &tensor));
    CHECK_OK(ta_dlpack_export(&tensor, 0, &object));
    object->deleter(NULL);
    object->deleter(object);
    CHECK_OK(ta_pool_destroy(pool));
}

/* ---- memory at the end of all addresses, which nobody touches: sums and roundings go beyond it */
typedef struct edge { ta_backend_vtable table; uintptr_t base; size_t size; int taken; } edge;

static void edge_info(void *self, ta_backend_info *out)
{
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_RANGES;
    out->device.type = TA_DEVICE_OTHER;
    out->granularity_bytes = 4096;
    out->alignment_bytes = 64;
    out->range_bytes_max = ((const edge *)self)->size;
}

static ta_result edge_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    edge *e = (edge *)self;
    (void)flags;
    if (e->taken || size > e->size || (e->base & (alignment - 1)) != 0) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    e->taken = 1;
    *out = (void *)e->base;
    return TA_OK;
}

static ta_result edge_release(void *self, void *ptr, size_t size)
{
    (void)ptr;
    (void)size;
    ((edge *)self)->taken = 0;
    return TA_OK;
}

static ta_result edge_nothing(void *self, void *ptr, size_t size)
{
    (void)self;
    (void)ptr;
    (void)size;
    return TA_OK;
}

static ta_result edge_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    (void)stream;
    return edge_nothing(self, ptr, size);
}

static ta_result edge_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    (void)src;
    (void)stream;
    return edge_nothing(self, dst, size);
}

static ta_backend edge_backend(edge *e)
{
    ta_backend backend;
    memset(e, 0, sizeof *e);
    e->size = 16 * MIB;
    e->base = (uintptr_t)0 - 32 * MIB; /* the next multiple of 64 MiB is beyond the end */
    e->table.struct_bytes = sizeof e->table;
    e->table.name = "edge";
    e->table.info = edge_info;
    e->table.reserve = edge_reserve;
    e->table.release = edge_release;
    e->table.commit = edge_nothing;
    e->table.decommit = edge_nothing;
    e->table.zero = edge_zero;
    e->table.copy = edge_copy;
    backend.vtable = &e->table;
    backend.self = e;
    return backend;
}

static void the_end_of_all_addresses(void)
{
    edge e;
    ta_pool_desc desc;
    ta_arena_desc arena_desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_result result = TA_OK;
    void *ptr;
    memset(&desc, 0, sizeof desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    desc.backend = edge_backend(&e);
    CHECK_OK(ta_pool_create(&desc, &pool));
    ptr = ta_pool_alloc(pool, 100 * KIB, &result);
    CHECK_OK(result);
    CHECK(ta_pool_alloc_aligned(pool, 100 * KIB, 64 * MIB, &result) == NULL);
    CHECK(result != TA_OK);
    CHECK_OK(ta_pool_check(pool));
    CHECK(ta_pool_alloc_aligned(pool, 100 * KIB, MIB, &result) != NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_destroy(pool));
    arena_desc.backend = edge_backend(&e);
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    ptr = ta_arena_alloc(arena, 100 * KIB, &result);
    CHECK_OK(result);
    CHECK(ta_arena_alloc_aligned(arena, 100 * KIB, 64 * MIB, &result) == NULL);
    CHECK(result != TA_OK);
    CHECK(ta_arena_alloc_aligned(arena, 100 * KIB, MIB, &result) != NULL);
    CHECK_OK(ta_arena_reset(arena, 0));
    CHECK_OK(ta_arena_destroy(arena));
}

/* ---- backends that break a rule: they call the allocator above. It answers with an error, and goes on. */
typedef struct caller {
    ta_backend inner;
    ta_pool *pool;
    ta_arena *arena;
    void *live, *last;
    int armed, called;
} caller;

static ta_backend_vtable caller_table;

static void call_above(caller *c)
{
    ta_result result = TA_OK;
    size_t released = 0;
    if (!c->armed) {
        return;
    }
    c->armed = 0;
    c->called++;
    if (c->pool != NULL) {
        CHECK(ta_pool_alloc(c->pool, 64 * MIB, &result) == NULL && result != TA_OK);
        CHECK_RESULT(ta_pool_trim(c->pool, 0, &released), TA_OK);
        CHECK_EQ(released, 0);
        CHECK_RESULT(ta_pool_resize_in_place(c->pool, c->last, 48 * MIB), TA_ERROR_WOULD_MOVE);
        CHECK(ta_pool_alloc(c->pool, 2 * MIB, &result) == NULL && result != TA_OK); /* into the holes */
    }
    if (c->arena != NULL) {
        CHECK(ta_arena_alloc(c->arena, 64 * MIB, &result) == NULL && result != TA_OK);
        CHECK(ta_allocator_resize_in_place(ta_arena_allocator(c->arena), c->last, 0, 48 * MIB) != TA_OK);
        (void)ta_allocator_trim(ta_arena_allocator(c->arena), 0, &released);
        CHECK_EQ(released, 0);
    }
}

static ta_result caller_commit(void *self, void *ptr, size_t size)
{
    caller *c = (caller *)self;
    call_above(c);
    return c->inner.vtable->commit(c->inner.self, ptr, size);
}

static ta_backend caller_backend(caller *c)
{
    ta_backend backend;
    memset(c, 0, sizeof *c);
    c->inner = ta_backend_host();
    caller_table = *c->inner.vtable;
    caller_table.commit = caller_commit;
    backend.vtable = &caller_table;
    backend.self = c;
    return backend;
}

static void backends_that_call_above(void)
{
    caller c;
    ta_pool_desc desc;
    ta_arena_desc arena_desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_result result = TA_OK;
    void *hole;
    if (ta_backend_host().vtable->commit == NULL) {
        TEST_SKIP("no ranges here");
        return;
    }
    memset(&desc, 0, sizeof desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    desc.backend = caller_backend(&c);
    desc.range_bytes = (size_t)256 * MIB;
    CHECK_OK(ta_pool_create(&desc, &pool));
    hole = ta_pool_alloc(pool, 2 * MIB, &result);
    c.live = ta_pool_alloc(pool, MIB, &result);
    CHECK_OK(result);
    CHECK_OK(ta_pool_free(pool, hole));
    CHECK_OK(ta_pool_trim(pool, 0, NULL)); /* its pages are gone */
    c.last = ta_pool_alloc(pool, 16 * MIB, &result);
    CHECK_OK(result);
    c.pool = pool;
    c.armed = 1;
    hole = ta_pool_alloc(pool, 128 * MIB, &result);
    CHECK_OK(result);
    CHECK_EQ(c.called, 1);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_free(pool, hole));
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_destroy(pool));

    arena_desc.backend = caller_backend(&c);
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    c.last = ta_arena_alloc(arena, MIB, &result);
    CHECK_OK(result);
    c.arena = arena;
    c.armed = 1;
    CHECK(ta_arena_alloc(arena, 128 * MIB, &result) != NULL);
    CHECK_OK(result);
    CHECK_EQ(c.called, 1);
    CHECK_OK(ta_arena_destroy(arena));
}

/* ---- a backend with streams over the host's memory: work ends a few marks later */
typedef struct lagging { ta_backend_vtable table; ta_backend inner; uint64_t marked, captures; } lagging;

static void lagging_info(void *self, ta_backend_info *out)
{
    const lagging *l = (const lagging *)self;
    l->inner.vtable->info(l->inner.self, out);
    out->caps |= TA_CAP_ORDERED;
}

static ta_result lagging_mark(void *self, ta_stream stream, uint64_t *out)
{
    (void)stream;
    *out = ++((lagging *)self)->marked;
    return TA_OK;
}

static ta_result lagging_adopt(void *self, uint64_t event, uint64_t *out)
{
    (void)event;
    *out = ++((lagging *)self)->marked;
    return TA_OK;
}

static ta_result lagging_is_done(void *self, uint64_t ticket)
{
    return ticket + 5 <= ((const lagging *)self)->marked ? TA_OK : TA_ERROR_NOT_READY;
}

static ta_result lagging_wait(void *self, ta_stream stream, uint64_t ticket)
{
    (void)self;
    (void)stream;
    (void)ticket;
    return TA_OK;
}

static ta_result lagging_sync(void *self, uint64_t ticket)
{
    lagging *l = (lagging *)self;
    l->marked = l->marked < ticket + 5 ? ticket + 5 : l->marked;
    return TA_OK;
}

static ta_result lagging_capture(void *self, ta_stream stream, uint64_t *out)
{
    (void)stream;
    ((lagging *)self)->captures++;
    *out = 0;
    return TA_OK;
}

static ta_backend lagging_backend(lagging *l, int captures)
{
    ta_backend backend;
    memset(l, 0, sizeof *l);
    l->inner = ta_backend_host();
    l->table = *l->inner.vtable;
    l->table.info = lagging_info;
    l->table.mark = lagging_mark;
    l->table.adopt = lagging_adopt;
    l->table.is_done = lagging_is_done;
    l->table.wait = lagging_wait;
    l->table.sync = lagging_sync;
    l->table.capture = captures ? lagging_capture : NULL;
    backend.vtable = &l->table;
    backend.self = l;
    return backend;
}

/* ---- pools with options as a seed chooses them, every pair many times; contents and figures hold in all */
#define LIVE_MAX 48

typedef struct live_block { unsigned char *ptr; size_t size; unsigned char mark; } live_block;

static uint64_t told_events;

static void count_event(void *user, const ta_event *event)
{
    (void)user;
    told_events += event->kind <= TA_EVENT_MISUSE;
}

static void choose_options(uint64_t *seed, ta_pool_desc *desc, ta_trace *trace, lagging *l)
{
    uint32_t bits = (uint32_t)(test_random(seed) >> 32);
    memset(desc, 0, sizeof *desc);
    if (bits & 1) {
        desc->backend = lagging_backend(l, (bits & 2) != 0);
    }
    desc->range_bytes = bits & 4 ? 4 * MIB : (size_t)256 * MIB;
    desc->single_threaded = (bits & 8) != 0;
    desc->disable_ranges = (bits & 0x30) == 0;
    desc->disable_thread_caches = (bits & 0xc0) == 0;
    desc->disable_stealing = (bits & 0x100) != 0;
    desc->limit_bytes = (bits & 0x600) == 0 ? 24 * MIB : 0;
    desc->cached_bytes_max = (bits & 0x1800) == 0 ? MIB : 0;
    desc->buffers_per_bucket_max = (bits & 0x6000) == 0 ? 2 : 0;
    desc->slack_bytes_max = (bits & 0x18000) == 0 ? 4096 : 0;
    desc->classes_per_doubling = 1u << (bits >> 17 & 3);
    desc->initial_bytes = (bits & 0x180000) == 0 ? 3 * MIB : (bits & 0x180000) == 0x80000 ? 1000 : 0;
    desc->zeroed = (bits & 0x600000) == 0;
    desc->trace = (bits & 0x1800000) == 0 ? trace : NULL;
    desc->tag_blocks = (bits & 0x6000000) == 0;
    desc->on_event = (bits & 0x18000000) == 0 ? count_event : NULL;
    desc->thread_cache_bytes = (bits & 0x20000000) != 0 ? 256 * KIB : 0;
    desc->thread_cache_block_bytes = (bits & 0xc0000000) == 0 ? 1024 : 0;
    desc->capture_check = (bits & 0x40000000) != 0 ? TA_CAPTURE_SCOPES_ONLY : TA_CAPTURE_STRICT;
}

static int is_marked(const live_block *b)
{
    return b->ptr[0] == b->mark && b->ptr[b->size / 2] == b->mark && b->ptr[b->size - 1] == b->mark;
}

static void mark_block(live_block *b, unsigned char *ptr, size_t size, unsigned char mark)
{
    b->ptr = ptr;
    b->size = size;
    b->mark = mark;
    memset(ptr, mark, size < 4096 ? size : 4096);
    ptr[size / 2] = ptr[size - 1] = mark;
}

static size_t any_size(uint64_t *seed)
{
    uint32_t r = test_below(seed, 16);
    return 1 + test_below(seed, r < 8 ? 1500 : r < 13 ? 70000 : 3000000);
}

static void take_block(ta_pool *pool, live_block *b, uint64_t *seed, int zeroed)
{
    size_t size = any_size(seed);
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.stream = test_below(seed, 4);
    request.tag = "core";
    switch (test_below(seed, 10)) {
    case 0: ptr = ta_pool_alloc_stream(pool, size, request.stream, &result); break;
    case 1: ptr = ta_pool_alloc_aligned(pool, size, (size_t)64 << test_below(seed, 9), &result); break;
    case 2: ptr = ta_pool_alloc_zeroed(pool, size, &result); zeroed = 1; break;
    case 3: ptr = ta_pool_get(pool, size, &result); break;
    case 4: ptr = ta_pool_get_or_alloc(pool, size, &result); break;
    case 5: request.flags = TA_REQUEST_WITHIN_BUDGET; ptr = ta_pool_alloc_request(pool, &request, &result); break;
    case 6:
        request.alignment_bytes = 4096;
        ptr = ta_pool_alloc_request(pool, &request, NULL);
        result = ptr != NULL ? TA_OK : result;
        break;
    default:
        ptr = ta_pool_alloc(pool, size, test_below(seed, 4) == 0 ? NULL : &result);
        result = ptr != NULL ? TA_OK : result;
    }
    CHECK(ptr != NULL ? result == TA_OK : result != TA_OK);
    if (ptr != NULL) {
        CHECK(!zeroed || (((unsigned char *)ptr)[0] == 0 && ((unsigned char *)ptr)[size - 1] == 0));
        mark_block(b, (unsigned char *)ptr, size, (unsigned char)test_below(seed, 255));
    }
}

static void drop_block(ta_pool *pool, live_block *b, uint64_t *seed)
{
    ta_result result;
    CHECK(is_marked(b));
    switch (test_below(seed, 8)) {
    case 0: result = ta_pool_free_sized(pool, b->ptr, b->size); break;
    case 1: result = ta_pool_put(pool, b->ptr, b->size); break;
    case 2: result = ta_allocator_free(ta_pool_allocator(pool), b->ptr, b->size, 0, test_below(seed, 4)); break;
    case 3:
        result = ta_pool_free_after(pool, b->ptr, 1);
        result = result == TA_ERROR_UNSUPPORTED ? ta_pool_free(pool, b->ptr) : result;
        break;
    case 4:
        CHECK_OK(ta_pool_record_use(pool, b->ptr, 1 + test_below(seed, 3)));
        result = ta_pool_free(pool, b->ptr);
        break;
    default: result = ta_pool_free(pool, b->ptr);
    }
    CHECK_OK(result);
    b->ptr = NULL;
}

static void change_block(ta_pool *pool, live_block *b, uint64_t *seed)
{
    size_t size = test_below(seed, 2) ? any_size(seed) : b->size + test_below(seed, 70000);
    unsigned char *ptr = b->ptr;
    ta_result result = TA_OK;
    CHECK(is_marked(b));
    if (test_below(seed, 2)) {
        result = ta_pool_resize_in_place(pool, ptr, size);
    } else {
        ptr = (unsigned char *)ta_pool_realloc(pool, ptr, size, &result);
        CHECK(ptr == NULL || ptr[0] == b->mark);
        CHECK((ptr != NULL) == (result == TA_OK));
    }
    if (result == TA_OK) {
        mark_block(b, ptr, size, b->mark);
    }
}

static void use_options(uint64_t *seed, ta_trace *trace)
{
    static lagging l; /* pools are gone before the next */
    live_block blocks[LIVE_MAX];
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_stats stats;
    size_t released = 0;
    int i, live = 0;
    memset(blocks, 0, sizeof blocks);
    choose_options(seed, &desc, trace, &l);
    CHECK_OK(ta_pool_create(&desc, &pool));
    if (pool == NULL) {
        return;
    }
    for (i = 0; i < 250; i++) {
        live_block *b = &blocks[test_below(seed, LIVE_MAX)];
        uint32_t what = test_below(seed, 100);
        if (what < 2) {
            CHECK_OK(ta_pool_trim(pool, test_below(seed, 2) ? 0 : MIB, &released));
        } else if (what < 3) {
            CHECK_OK(ta_pool_empty_cache(pool));
        } else if (what < 4) {
            CHECK_OK(ta_pool_thread_flush(pool));
        } else if (what < 5) {
            CHECK_OK(ta_pool_seal(pool, test_below(seed, 2) != 0));
        } else if (what < 6) {
            CHECK_OK(ta_pool_retire_stream(pool, 1 + test_below(seed, 3)));
        } else if (b->ptr == NULL) {
            take_block(pool, b, seed, desc.zeroed);
        } else if (what < 30) {
            change_block(pool, b, seed);
        } else {
            drop_block(pool, b, seed);
        }
    }
    CHECK_OK(ta_pool_check(pool));
    for (i = 0; i < LIVE_MAX; i++) {
        live += blocks[i].ptr != NULL;
    }
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_EQ(stats.live_count, live);
    CHECK_LE(stats.reserved_bytes, desc.limit_bytes != 0 ? desc.limit_bytes : TA_UNLIMITED);
    for (i = 0; i < LIVE_MAX; i++) {
        if (blocks[i].ptr != NULL) {
            drop_block(pool, &blocks[i], seed);
        }
    }
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK(stats.live_count == 0 && stats.requested_bytes == 0);
    CHECK_OK(ta_pool_destroy(pool));
}

static void options_in_all_pairs(void)
{
    ta_trace *trace = NULL;
    uint64_t round;
    CHECK_OK(ta_trace_create(NULL, &trace));
    for (round = 0; round < 300; round++) {
        uint64_t seed = test_now.seed + round;
        test_context("seed %llu", (unsigned long long)seed);
        use_options(&seed, trace);
    }
    CHECK_GT(told_events, 0);
    CHECK_OK(ta_trace_destroy(trace));
}

/* ---- records run out */
static void records_run_out(void)
{
    static lagging l;
    void *ptr[400];
    ta_pool_desc desc;
    int ordered, i, count;
    for (ordered = 0; ordered < 2; ordered++) {
        ta_pool *pool = NULL;
        ta_result result = TA_OK;
        uint64_t failed;
        ta_stats stats;
        memset(&desc, 0, sizeof desc);
        if (ordered) {
            desc.backend = lagging_backend(&l, 0);
        }
        desc.block_count_max = 64;
        CHECK_OK(ta_pool_create(&desc, &pool));
        for (count = 0, i = 0; count < 400 && i < 2;) { /* the first failure may set records free */
            ptr[count] = ordered ? ta_pool_alloc_stream(pool, 100 * KIB, (ta_stream)(count % 3), &result)
                                 : ta_pool_alloc(pool, 100 * KIB, &result);
            i = result == TA_OK ? 0 : i + 1;
            count += result == TA_OK;
        }
        CHECK_RESULT(result, TA_ERROR_RECORDS);
        CHECK_GE(count, 60);
        while (count < 400 && (ptr[count] = ta_pool_alloc(pool, 100 * KIB, NULL)) != NULL) { /* of the default stream */
            count++;
        }
        CHECK_OK(ta_pool_get_stats(pool, &stats));
        failed = stats.failure_count;
        CHECK(ta_pool_alloc(pool, 100 * KIB, &result) == NULL && result == TA_ERROR_RECORDS);
        CHECK(ta_pool_alloc(pool, 100, &result) == NULL && result == TA_ERROR_RECORDS);
        CHECK_OK(ta_pool_get_stats(pool, &stats));
        CHECK_EQ(stats.failure_count, failed + 2);
        /* a block that shrinks keeps what a second record would hold */
        CHECK_OK(ta_pool_resize_in_place(pool, ptr[count - 1], 10 * KIB));
#ifndef TENSORALLOC_CHECKED /* the rest is a red zone there */
        CHECK_GE(ta_pool_capacity_of(pool, ptr[count - 1]), 100 * KIB);
#endif
        for (i = 0; ordered && i < 64 * 40; i++) { /* uses by streams have records of their own */
            result = ta_pool_record_use(pool, ptr[i % (count - 1)], (ta_stream)(10 + i / (count - 1)));
            if (result != TA_OK) {
                break;
            }
        }
        if (ordered) {
            CHECK_RESULT(result, TA_ERROR_RECORDS);
            result = ta_pool_free_after(pool, ptr[count - 1], 1);
            CHECK_RESULT(result, TA_ERROR_RECORDS); /* still ours */
            result = ta_allocator_free(ta_pool_allocator(pool), ptr[count - 1], 0, 0, 77);
            CHECK_RESULT(result, TA_ERROR_RECORDS);
        }
        CHECK_OK(ta_pool_check(pool));
        for (i = 0; i < count; i++) {
            CHECK_OK(ta_pool_free(pool, ptr[i]));
        }
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_get_stats(pool, &stats));
        CHECK_EQ(stats.live_count, 0);
        CHECK_OK(ta_pool_destroy(pool));
    }
}

static void streams_run_out(void)
{
    static lagging l;
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    uint32_t count, room;
    memset(&desc, 0, sizeof desc);
    desc.backend = lagging_backend(&l, 0);
    CHECK_OK(ta_pool_create(&desc, &pool));
    count = pool->space.stream_count;
    room = pool->space.stream_room;
    pool->space.stream_count = pool->space.stream_room = 40000; /* twice as many are more than blocks can name */
    CHECK_EQ(tai_stream_room(&pool->space), 0);
    pool->space.stream_count = count;
    pool->space.stream_room = room;
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

/* ---- who is in the way: more tags than are counted apart */
static void many_tags_block(void)
{
    static char memory[3 * 1024 * 1024], names[40][8];
    ta_fixed_buffer state;
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_request request;
    ta_failure failure;
    ta_result result = TA_OK;
    void *gaps[40];
    int i;
    memset(&desc, 0, sizeof desc);
    memset(&request, 0, sizeof request);
    CHECK_OK(ta_backend_fixed(&state, memory, sizeof memory, &desc.backend));
    CHECK_OK(ta_pool_create(&desc, &pool));
    for (i = 0; i < 40; i++) { /* a large gap, and a little one of the tag behind it */
        (void)snprintf(names[i], sizeof names[i], "tag%d", i);
        gaps[i] = ta_pool_alloc(pool, 66 * KIB, NULL);
        request.size_bytes = 2 * KIB;
        request.tag = names[i];
        CHECK(ta_pool_alloc_request(pool, &request, NULL) != NULL);
    }
    for (i = 0; i < 40; i++) {
        CHECK_OK(ta_pool_free(pool, gaps[i]));
    }
    CHECK(ta_pool_alloc(pool, 2 * MIB, &result) == NULL);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_FRAGMENTED);
    CHECK_GT(failure.blocking_count, 16);
    CHECK_NE(failure.blocking_tag_bytes, 0);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

/* What an allocator says that its records take is what it has of the two kinds of memory for them: whole pages of
   tables, and what malloc was asked for. */
static void record_bytes_are_all_there_are(void)
{
    static tb_clock clock;
    int ranges, op;
    for (ranges = 0; ranges < 2; ranges++) {
        ta_pool_desc desc;
        ta_pool *pool = NULL;
        ta_stats s;
        void *ptrs[64];
        size_t first, most = 0;
        uint64_t random = test_now.seed;
        memset(&desc, 0, sizeof desc);
        memset(ptrs, 0, sizeof ptrs);
        desc.backend = tb_clock_init(&clock, ranges ? TA_CAP_RANGES | TA_CAP_SEGMENTS : TA_CAP_SEGMENTS, 0);
        desc.single_threaded = 1;
        desc.range_bytes = 4 * MIB; /* more of them are chained */
        desc.block_count_max = 4096;
        CHECK_OK(ta_pool_create(&desc, &pool));
        CHECK_OK(ta_pool_get_stats(pool, &s));
        first = s.record_bytes - counted_bytes;
        for (op = 0; op < 3000; op++) {
            const uint32_t i = test_below(&random, 64);
            if (ptrs[i] != NULL) {
                CHECK_OK(ta_pool_free(pool, ptrs[i]));
                ptrs[i] = NULL;
            } else {
                ptrs[i] = ta_pool_alloc_stream(pool, 1 + test_below(&random, 400000), test_below(&random, 12), NULL);
            }
            CHECK_OK(ta_pool_get_stats(pool, &s));
            CHECK_EQ((s.record_bytes - counted_bytes - first) % 4096, 0);
            CHECK_LE(s.record_bytes - counted_bytes - first, (size_t)4 << 20); /* never less than at first */
            most = s.record_bytes > most ? s.record_bytes : most;
            if (op % 500 == 499) {
                CHECK_OK(ta_pool_empty_cache(pool));
            }
        }
        CHECK_GT(most, 12 * sizeof(tai_bins)); /* each stream has some */
        CHECK_OK(ta_pool_clear(pool));
        CHECK_OK(ta_pool_destroy(pool));
        tb_clock_end(&clock);
    }
}

static ta_result append(void *user, const char *text, size_t bytes)
{
    char *at = (char *)user + strlen((const char *)user);
    if ((size_t)(at - (char *)user) + bytes >= 65536) {
        return TA_ERROR_BACKEND;
    }
    memcpy(at, text, bytes);
    at[bytes] = 0;
    return TA_OK;
}

/* Every character that a JSON string must not have as it is. */
static void control_characters_are_escaped(void)
{
    static char text[65536];
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_allocator a;
    char want[16], name[3] = {0, 'x', 0};
    int c;
    for (c = 1; c < 0x20; c++) {
        memset(&desc, 0, sizeof desc);
        name[0] = (char)c;
        desc.name = name;
        CHECK_OK(ta_pool_create(&desc, &pool));
        a = ta_pool_allocator(pool);
        text[0] = 0;
        CHECK_OK(ta_snapshot_write(&a, 1, NULL, append, text));
        (void)snprintf(want, sizeof want, "\"\\u%04xx\"", (unsigned)c);
        CHECK(strstr(text, want) != NULL);
        CHECK_OK(ta_pool_destroy(pool));
    }
}

/* Which first bytes, second bytes and so on make a character, as the table of the Unicode standard has it. */
static void utf8_is_that_of_the_standard(void)
{
    static const unsigned char table[][5] = { /* first bytes from, to, second byte from, to, length */
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}
    };
    static const unsigned char edges[] = {0x41, 0x7f, 0x80, 0xbf, 0xc0, 0};
    unsigned first, second, third, fourth;
    uint64_t wrong = 0;
    for (first = 0x80; first < 0x100; first++) {
        const unsigned char *row = NULL;
        size_t i;
        for (i = 0; i < sizeof table / sizeof table[0]; i++) {
            row = first >= table[i][0] && first <= table[i][1] ? table[i] : row;
        }
        for (second = 0; second < 0x100 * 36; second++) {
            unsigned char text[5] = {0, 0, 0, 0, 0};
            size_t want = 1, length;
            int valid = -1;
            third = edges[second / 0x100 % 6];
            fourth = edges[second / 0x600];
            text[0] = (unsigned char)first;
            text[1] = (unsigned char)second;
            text[2] = (unsigned char)third;
            text[3] = (unsigned char)fourth;
            if (row != NULL && text[1] >= row[2] && text[1] <= row[3]) {
                for (want = 2; want < row[4] && text[want] >= 0x80 && text[want] <= 0xbf; want++) {
                }
            }
            length = tai_utf8_length(text, &valid);
            wrong += length != want || valid != (row != NULL && want == row[4]);
        }
    }
    CHECK_EQ(wrong, 0);
}

TEST_MAIN(TEST_CASE(arguments_of_backends), TEST_CASE(arguments_of_pools), TEST_CASE(upstreams_and_buffers),
          TEST_CASE(tensors_of_other_devices), TEST_CASE(the_end_of_all_addresses), TEST_CASE(backends_that_call_above),
          TEST_CASE(options_in_all_pairs), TEST_CASE(records_run_out), TEST_CASE(streams_run_out),
          TEST_CASE(many_tags_block), TEST_CASE(utf8_is_that_of_the_standard),
          TEST_CASE(record_bytes_are_all_there_are), TEST_CASE(control_characters_are_escaped))
