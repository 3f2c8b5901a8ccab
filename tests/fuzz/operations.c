/* operations.c - any sequence of calls on a pool, an arena or a direct allocator against a model: which blocks are live,
   what is in them, and what the statistics must say. The first bytes choose the allocator and its options. Also built
   with TENSORALLOC_CHECKED. */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "fuzz.h"

#define BLOCKS 48

typedef struct block {
    unsigned char *ptr;
    size_t size, alignment;
    unsigned char mark;
} block;

typedef struct model {
    ta_allocator allocator;
    ta_pool *pool;
    ta_arena *arena;
    ta_arena_mark arena_mark;
    uint64_t marked; /* which blocks were live then */
    int has_mark;
    block blocks[BLOCKS];
    uint64_t allocations, frees;
    size_t requested, live;
    size_t limit;
} model;

static void touch(block *b)
{
    b->ptr[0] = b->ptr[b->size / 2] = b->ptr[b->size - 1] = b->mark;
}

static void check_block(const block *b)
{
    FUZZ_CHECK(b->ptr[0] == b->mark && b->ptr[b->size / 2] == b->mark && b->ptr[b->size - 1] == b->mark);
    FUZZ_CHECK((uintptr_t)b->ptr % (b->alignment == 0 ? 64 : b->alignment) == 0);
}

static void check_apart(const model *m, const block *b)
{
    int i;
    for (i = 0; i < BLOCKS; i++) {
        const block *other = &m->blocks[i];
        FUZZ_CHECK(other == b || other->ptr == NULL || other->ptr + other->size <= b->ptr || b->ptr + b->size <= other->ptr);
    }
}

static void forget(model *m, block *b)
{
    m->frees++;
    m->live--;
    m->requested -= b->size;
    m->marked &= ~((uint64_t)1 << (b - m->blocks));
    memset(b, 0, sizeof *b);
}

static void do_alloc(model *m, fuzz_input *in, block *b)
{
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    uint8_t how = fuzz_byte(in);
    size_t i;
    memset(&request, 0, sizeof request);
    request.size_bytes = fuzz_size(in, 21);
    request.alignment_bytes = (how & 7) < 5 ? 0 : (size_t)1 << (how >> 3) % 18;
    request.flags = (how & 64) != 0 ? TA_REQUEST_ZEROED : 0;
    request.flags |= (how & 160) == 160 ? TA_REQUEST_CACHED_ONLY : 0;
    request.tag = (how & 1) != 0 ? "odd" : NULL;
    b->ptr = m->pool != NULL && how == 0 ? (unsigned char *)ta_pool_alloc(m->pool, request.size_bytes, &result)
                                         : (unsigned char *)ta_allocator_alloc(m->allocator, &request, &result);
    FUZZ_CHECK((b->ptr != NULL) == (result == TA_OK));
    if (b->ptr == NULL) {
        FUZZ_CHECK(request.size_bytes != 0 ? result == TA_ERROR_LIMIT || result == TA_ERROR_NOT_CACHED ||
                                             result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED ||
                                             result == TA_ERROR_SEALED || result == TA_ERROR_RECORDS
                                           : result == TA_ERROR_INVALID_SIZE);
        FUZZ_CHECK(result != TA_ERROR_LIMIT || m->limit != 0);
        return;
    }
    b->size = request.size_bytes;
    b->alignment = request.alignment_bytes;
    b->mark = fuzz_byte(in);
    for (i = 0; (request.flags & TA_REQUEST_ZEROED) != 0 && i < b->size; i += i < 4096 ? 1 : 509) {
        FUZZ_CHECK(b->ptr[i] == 0);
    }
    touch(b);
    check_apart(m, b);
    check_block(b);
    m->allocations++;
    m->live++;
    m->requested += b->size;
}

static void do_free(model *m, fuzz_input *in, block *b)
{
    uint8_t how = fuzz_byte(in);
    unsigned char *ptr = b->ptr;
    size_t size = b->size;
    check_block(b);
    if ((how & 15) == 1) { /* bad ones first: nothing may change */
        FUZZ_CHECK(ta_allocator_free(m->allocator, ptr, size + 1, 0, 0) == TA_ERROR_SIZE_MISMATCH);
        FUZZ_CHECK(size < 2 || ta_allocator_free(m->allocator, ptr + 1, 0, 0, 0) == TA_ERROR_INTERIOR);
        FUZZ_CHECK(ta_allocator_free(m->allocator, m, 0, 0, 0) == TA_ERROR_FOREIGN);
    }
    FUZZ_CHECK(ta_allocator_free(m->allocator, ptr, (how & 16) != 0 ? size : 0, b->alignment, 0) == TA_OK);
    forget(m, b);
    if ((how & 32) != 0) {
        ta_result again = ta_allocator_free(m->allocator, ptr, 0, 0, 0);
        FUZZ_CHECK(again == TA_ERROR_STALE || again == TA_ERROR_FOREIGN); /* FOREIGN: its memory is gone */
    }
}

static void do_resize(model *m, fuzz_input *in, block *b)
{
    size_t size = fuzz_size(in, 21);
    uint8_t how = fuzz_byte(in);
    ta_result result = TA_OK;
    check_block(b);
    if (size == 0) {
        FUZZ_CHECK(ta_allocator_resize_in_place(m->allocator, b->ptr, b->size, 0) == TA_ERROR_INVALID_SIZE);
        return;
    }
    if (m->pool != NULL && (how & 1) != 0) {
        unsigned char *moved = (unsigned char *)ta_pool_realloc(m->pool, b->ptr, size, &result);
        FUZZ_CHECK((moved != NULL) == (result == TA_OK));
        if (moved == NULL) {
            check_block(b);
            return;
        }
        if (moved != b->ptr) {
            m->allocations++;
            m->frees++;
        }
        b->ptr = moved;
    } else {
        result = ta_allocator_resize_in_place(m->allocator, b->ptr, b->size, size);
        if (result != TA_OK) {
            FUZZ_CHECK(result == TA_ERROR_WOULD_MOVE);
            check_block(b);
            return;
        }
    }
    FUZZ_CHECK(b->ptr[0] == b->mark);
    FUZZ_CHECK(b->size / 2 >= size || b->ptr[b->size / 2] == b->mark);
    m->requested += size - b->size;
    b->size = size;
    touch(b);
    check_apart(m, b);
}

static void do_rewind(model *m, fuzz_input *in)
{
    int i;
    if (m->arena == NULL) {
        return;
    }
    if (!m->has_mark || (fuzz_byte(in) & 1) != 0) {
        m->arena_mark = ta_arena_get_mark(m->arena);
        m->has_mark = 1;
        for (i = 0, m->marked = 0; i < BLOCKS; i++) {
            m->marked |= (uint64_t)(m->blocks[i].ptr != NULL) << i;
        }
        return;
    }
    m->has_mark = 0;
    FUZZ_CHECK(ta_arena_rewind(m->arena, m->arena_mark) == TA_OK);
    for (i = 0; i < BLOCKS; i++) {
        if (m->blocks[i].ptr != NULL && (m->marked >> i & 1) == 0) {
            forget(m, &m->blocks[i]);
        }
    }
}

static void check_stats(const model *m)
{
    ta_stats s;
    FUZZ_CHECK(ta_allocator_get_stats(m->allocator, &s) == TA_OK);
    FUZZ_CHECK(s.live_count == m->live && s.requested_bytes == m->requested);
    FUZZ_CHECK(s.allocation_count == m->allocations && s.deallocation_count == m->frees);
    FUZZ_CHECK(s.reserved_bytes == s.in_use_bytes + s.cached_bytes && s.in_use_bytes >= m->requested);
    FUZZ_CHECK(s.wasted_bytes == s.in_use_bytes - s.requested_bytes && s.peak_reserved_bytes >= s.reserved_bytes);
    FUZZ_CHECK(m->limit == 0 || s.peak_reserved_bytes <= m->limit);
    FUZZ_CHECK(m->pool == NULL || ta_pool_check(m->pool) == TA_OK);
}

static int make(model *m, fuzz_input *in)
{
    static unsigned char memory[3 << 20];
    static ta_fixed_buffer fixed;
    ta_pool_desc desc;
    ta_arena_desc arena_desc;
    ta_direct *direct = NULL;
    uint8_t kind = fuzz_byte(in), options = fuzz_byte(in), more = fuzz_byte(in);
    memset(m, 0, sizeof *m);
    memset(&desc, 0, sizeof desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    m->limit = (more & 1) != 0 ? (size_t)3 << 20 : 0;
    desc.range_bytes = arena_desc.range_bytes = (more & 2) != 0 ? (size_t)4 << 20 : (size_t)64 << 20;
    if ((more & 4) != 0) {
        FUZZ_CHECK(ta_backend_fixed(&fixed, memory, sizeof memory, &desc.backend) == TA_OK);
        arena_desc.backend = desc.backend;
        m->limit = m->limit == 0 ? sizeof memory : m->limit;
    }
    desc.limit_bytes = arena_desc.limit_bytes = m->limit;
    if (kind % 8 == 7) {
        ta_direct_desc direct_desc;
        memset(&direct_desc, 0, sizeof direct_desc);
        direct_desc.limit_bytes = m->limit = (more & 4) != 0 ? 0 : m->limit;
        FUZZ_CHECK(ta_direct_create(&direct_desc, &direct) == TA_OK);
        m->allocator = ta_direct_allocator(direct);
    } else if (kind % 8 >= 5) {
        arena_desc.single_threaded = options & 1;
        arena_desc.zeroed = (options & 2) != 0;
        arena_desc.chunk_bytes = (options & 4) != 0 ? 65536 : 0;
        FUZZ_CHECK(ta_arena_create(&arena_desc, &m->arena) == TA_OK);
        m->allocator = ta_arena_allocator(m->arena);
    } else {
        desc.single_threaded = options & 1;
        desc.zeroed = (options & 2) != 0;
        desc.disable_thread_caches = (options & 4) != 0;
        desc.disable_ranges = (options & 8) != 0 && (more & 4) == 0;
        desc.slack_bytes_max = (options & 16) != 0 ? 4096 : 0;
        desc.buffers_per_bucket_max = (options & 32) != 0 ? 2 : 0;
        desc.cached_bytes_max = (options & 64) != 0 ? 1 << 20 : 0;
        desc.classes_per_doubling = 1u << (options >> 7);
        desc.thread_cache_bytes = (more & 8) != 0 ? 65536 : 0;
        desc.huge_pages = TA_HUGE_PAGES_OFF;
        desc.block_count_max = (more & 16) != 0 ? 64 : 4096;
        FUZZ_CHECK(ta_pool_create(&desc, &m->pool) == TA_OK);
        m->allocator = ta_pool_allocator(m->pool);
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size, 0};
    model m;
    int steps = 0;
    make(&m, &in);
    while (in.at < in.size && steps++ < 400) {
        uint8_t what = fuzz_byte(&in);
        block *b = &m.blocks[fuzz_byte(&in) % BLOCKS];
        if (what < 160) {
            if (b->ptr == NULL) {
                do_alloc(&m, &in, b);
            } else if (what < 120) {
                do_free(&m, &in, b);
            } else {
                do_resize(&m, &in, b);
            }
        } else if (what < 176) {
            size_t released = 0;
            FUZZ_CHECK(ta_allocator_trim(m.allocator, fuzz_size(&in, 22), &released) == TA_OK);
        } else if (what < 184) {
            FUZZ_CHECK(ta_allocator_empty_cache(m.allocator) == TA_OK);
        } else if (what < 200) {
            do_rewind(&m, &in);
        } else if (what < 204 && m.pool != NULL) {
            FUZZ_CHECK(ta_pool_seal(m.pool, what & 1) == TA_OK);
        } else if (what < 206 && m.pool != NULL) {
            int i;
            FUZZ_CHECK(ta_pool_clear(m.pool) == TA_OK);
            for (i = 0; i < BLOCKS; i++) {
                if (m.blocks[i].ptr != NULL) {
                    forget(&m, &m.blocks[i]);
                }
            }
        } else if (what < 224) {
            check_stats(&m);
        }
    }
    check_stats(&m);
    for (steps = 0; steps < BLOCKS; steps++) {
        if (m.blocks[steps].ptr != NULL) {
            do_free(&m, &in, &m.blocks[steps]);
        }
    }
    check_stats(&m);
    FUZZ_CHECK(ta_allocator_destroy(m.allocator) == TA_OK);
    return 0;
}
