/* backends.h - backends for tests, each a ta_backend through the public table. C99 and C++11. Include it after test.h
   and tensoralloc.h.

     tb_counting  wraps another backend: counts calls, knows what is outstanding, holds the caller to the contract of
                  the table, and fails any call on demand
     tb_clock     ordered memory (TA_CAP_ORDERED, no TA_CAP_HOST_ACCESS) over made-up device addresses or host pages,
                  with streams that make progress when the test says so, and a check of happens-before between uses

   Both serialise themselves. Violations of the contract are counted; tb_counting_check and tb_clock_check report
   them. */
#ifndef TEST_BACKENDS_H
#define TEST_BACKENDS_H

#include <pthread.h>

typedef struct tb_span {
    uintptr_t from, to;
} tb_span;

/* Disjoint spans of addresses, sorted. */
typedef struct tb_spans {
    tb_span *at;
    size_t count, room;
    size_t bytes;
} tb_spans;

/* Index of the first span that ends behind addr. */
static size_t tb_spans_index(const tb_spans *spans, uintptr_t addr)
{
    size_t low = 0, high = spans->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spans->at[middle].to > addr) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int tb_spans_touch(const tb_spans *spans, uintptr_t from, uintptr_t to)
{
    size_t i = tb_spans_index(spans, from);
    return i < spans->count && spans->at[i].from < to;
}

/* 1: every byte of [from, to) is in one of the spans. */
static int tb_spans_cover(const tb_spans *spans, uintptr_t from, uintptr_t to)
{
    size_t i = tb_spans_index(spans, from);
    for (; from < to && i < spans->count && spans->at[i].from <= from; i++) {
        from = spans->at[i].to;
    }
    return from >= to;
}

/* 1: [from, to) lies in a single span. */
static int tb_spans_hold(const tb_spans *spans, uintptr_t from, uintptr_t to)
{
    size_t i = tb_spans_index(spans, from);
    return i < spans->count && spans->at[i].from <= from && spans->at[i].to >= to;
}

static int tb_spans_exact(const tb_spans *spans, uintptr_t from, uintptr_t to)
{
    size_t i = tb_spans_index(spans, from);
    return i < spans->count && spans->at[i].from == from && spans->at[i].to == to;
}

static void tb_spans_insert(tb_spans *spans, size_t i, uintptr_t from, uintptr_t to)
{
    if (spans->count == spans->room) {
        spans->room = spans->room == 0 ? 16 : spans->room * 2;
        spans->at = (tb_span *)realloc(spans->at, spans->room * sizeof(tb_span));
        if (spans->at == NULL) {
            abort(); /* the test program itself has no memory */
        }
    }
    memmove(&spans->at[i + 1], &spans->at[i], (spans->count - i) * sizeof(tb_span));
    spans->at[i].from = from;
    spans->at[i].to = to;
    spans->count++;
}

/* Adds [from, to), which touches none of them. */
static void tb_spans_add(tb_spans *spans, uintptr_t from, uintptr_t to)
{
    tb_spans_insert(spans, tb_spans_index(spans, from), from, to);
    spans->bytes += (size_t)(to - from);
}

/* Takes what lies in [from, to) out. */
static void tb_spans_cut(tb_spans *spans, uintptr_t from, uintptr_t to)
{
    size_t i = tb_spans_index(spans, from);
    while (i < spans->count && spans->at[i].from < to) {
        const tb_span was = spans->at[i];
        uintptr_t cut_from = was.from > from ? was.from : from, cut_to = was.to < to ? was.to : to;
        spans->bytes -= (size_t)(cut_to - cut_from);
        spans->count--;
        memmove(&spans->at[i], &spans->at[i + 1], (spans->count - i) * sizeof(tb_span));
        if (was.from < cut_from) {
            tb_spans_insert(spans, i++, was.from, cut_from);
        }
        if (cut_to < was.to) {
            tb_spans_insert(spans, i++, cut_to, was.to);
        }
    }
}

static void tb_spans_free(tb_spans *spans)
{
    free(spans->at);
    memset(spans, 0, sizeof *spans);
}

/* What the contract says and a call did not keep: counted, the first one by its text. */
typedef struct tb_violations {
    uint64_t count;
    const char *first;
} tb_violations;

static void tb_violate(tb_violations *violations, const char *text)
{
    if (violations->count++ == 0) {
        violations->first = text;
    }
}

#define TB_CONTRACT(state, condition) \
    ((condition) ? (void)0 : tb_violate(&(state)->violations, "contract: " #condition))

/*---------------------------------------------------------------------------------------------------------
  tb_counting
  -------------------------------------------------------------------------------------------------------*/
typedef enum tb_entry {
    TB_ANY = 0, /* for tb_counting_fail: whichever entry */
    TB_ALLOC, TB_FREE, TB_RESERVE, TB_RELEASE, TB_COMMIT, TB_DECOMMIT, TB_DISCARD, TB_MEMORY_INFO,
    TB_MARK, TB_IS_DONE, TB_WAIT, TB_SYNC, TB_ZERO, TB_COPY,
    TB_ADOPT, TB_CAPTURE,
    TB_INFO, TB_LAST_ERROR, TB_DROP, TB_PIECES, /* these cannot fail */
    TB_ENTRY_COUNT
} tb_entry;

#define TB_ERROR_CODE 4711 /* what last_error says after a failure on demand */

typedef struct tb_counting {
    ta_backend inner;
    ta_backend_vtable table;
    ta_backend_info given; /* what the allocators see */
    pthread_mutex_t lock;
    tb_violations violations;
    /* outstanding */
    tb_spans segments, ranges, committed;
    size_t tickets;
    uint32_t range_flags; /* of all reservations together */
    /* counts; failed calls included */
    uint64_t calls[TB_ENTRY_COUNT];
    uint64_t failed[TB_ENTRY_COUNT]; /* on demand */
    uint64_t call_count;             /* of entries that can fail */
    /* failing */
    uint64_t fail_at, fail_seen;
    int fail_on;
    tb_entry fail_entry;
    int failed_last;
    /* options, zero after init: */
    size_t memory_max_bytes;                     /* more than that is refused; 0: no bound */
    void (*on_call)(void *user, tb_entry entry); /* before each call, without a lock held */
    void *on_call_user;
} tb_counting;

/* Bytes taken and not given back: what the allocators above must call reserved. Not so after
   tb_counting_let_discard: what is committed takes no memory then. */
TEST_STATIC size_t tb_counting_held(tb_counting *c)
{
    size_t bytes;
    pthread_mutex_lock(&c->lock);
    bytes = c->segments.bytes + c->committed.bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

/* The at-th call from now on of entry (TB_ANY: of all that can fail) fails; with on != 0 also all after it.
   at 0: no more failures. */
TEST_STATIC void tb_counting_fail(tb_counting *c, tb_entry entry, uint64_t at, int on)
{
    pthread_mutex_lock(&c->lock);
    c->fail_entry = entry;
    c->fail_at = at;
    c->fail_on = on;
    c->fail_seen = 0;
    pthread_mutex_unlock(&c->lock);
}

/* Calls that failed on demand so far. */
TEST_STATIC uint64_t tb_counting_failed(tb_counting *c)
{
    uint64_t sum = 0;
    int entry;
    pthread_mutex_lock(&c->lock);
    for (entry = 0; entry < TB_ENTRY_COUNT; entry++) {
        sum += c->failed[entry];
    }
    pthread_mutex_unlock(&c->lock);
    return sum;
}

/* Counts the call and takes the lock. 1: it is to fail. */
static int tb_counting_enter(tb_counting *c, tb_entry entry)
{
    int fails = 0;
    if (c->on_call != NULL) {
        c->on_call(c->on_call_user, entry);
    }
    pthread_mutex_lock(&c->lock);
    c->calls[entry]++;
    if (entry < TB_INFO) {
        c->call_count++;
        if (c->fail_at != 0 && (c->fail_entry == TB_ANY || c->fail_entry == entry)) {
            c->fail_seen++;
            fails = c->fail_on ? c->fail_seen >= c->fail_at : c->fail_seen == c->fail_at;
        }
        c->failed[entry] += (uint64_t)fails;
        c->failed_last = fails;
    }
    return fails;
}

static void tb_counting_leave(tb_counting *c)
{
    pthread_mutex_unlock(&c->lock);
}

static int tb_counting_whole(const tb_counting *c, uintptr_t addr, size_t size)
{
    return size != 0 && size % c->given.granularity_bytes == 0 && addr % c->given.granularity_bytes == 0;
}

static int tb_counting_fits(const tb_counting *c, size_t size)
{
    return c->memory_max_bytes == 0 || c->segments.bytes + c->committed.bytes + size <= c->memory_max_bytes;
}

static void tb_counting_info(void *self, ta_backend_info *out)
{
    tb_counting *c = (tb_counting *)self;
    (void)tb_counting_enter(c, TB_INFO);
    *out = c->given;
    tb_counting_leave(c);
}

static ta_result tb_counting_alloc(void *self, size_t size, void **out)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_ALLOC) || !tb_counting_fits(c, size);
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    void *ptr = NULL;
    TB_CONTRACT(c, tb_counting_whole(c, 0, size) && out != NULL);
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->alloc(c->inner.self, size, &ptr)) == TA_OK) {
        uintptr_t addr = (uintptr_t)ptr;
        pthread_mutex_lock(&c->lock);
        TB_CONTRACT(c, tb_counting_whole(c, addr, size) && !tb_spans_touch(&c->segments, addr, addr + size));
        tb_spans_add(&c->segments, addr, addr + size);
        pthread_mutex_unlock(&c->lock);
        *out = ptr;
    }
    if (result != TA_OK && result != TA_ERROR_OUT_OF_MEMORY && result != TA_ERROR_BACKEND) {
        pthread_mutex_lock(&c->lock);
        tb_violate(&c->violations, "contract: alloc fails with out of memory or backend, nothing else");
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_free(void *self, void *ptr, size_t size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t addr = (uintptr_t)ptr;
    int fails = tb_counting_enter(c, TB_FREE);
    ta_result result = TA_ERROR_BACKEND;
    int known = tb_spans_exact(&c->segments, addr, addr + size);
    TB_CONTRACT(c, known);
    if (!fails && known) { /* first out of the books: once it is back another thread may get it */
        tb_spans_cut(&c->segments, addr, addr + size);
    }
    tb_counting_leave(c);
    if (!fails && known && (result = c->inner.vtable->free(c->inner.self, ptr, size)) != TA_OK) {
        pthread_mutex_lock(&c->lock);
        tb_spans_add(&c->segments, addr, addr + size);
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_RESERVE);
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    void *ptr = NULL;
    TB_CONTRACT(c, tb_counting_whole(c, 0, size) && out != NULL);
    TB_CONTRACT(c, alignment >= c->given.granularity_bytes && (alignment & (alignment - 1)) == 0);
    TB_CONTRACT(c, (flags & ~(uint32_t)TA_RANGE_HUGE_PAGES) == 0);
    c->range_flags |= flags;
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->reserve(c->inner.self, size, alignment, flags, &ptr)) == TA_OK) {
        uintptr_t addr = (uintptr_t)ptr;
        pthread_mutex_lock(&c->lock);
        TB_CONTRACT(c, addr % alignment == 0 && !tb_spans_touch(&c->ranges, addr, addr + size));
        tb_spans_add(&c->ranges, addr, addr + size);
        pthread_mutex_unlock(&c->lock);
        *out = ptr;
    }
    return result;
}

static ta_result tb_counting_release(void *self, void *ptr, size_t size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t addr = (uintptr_t)ptr;
    int fails = tb_counting_enter(c, TB_RELEASE);
    ta_result result = TA_ERROR_BACKEND;
    int known = tb_spans_exact(&c->ranges, addr, addr + size);
    TB_CONTRACT(c, known);
    if (!fails && known) {
        tb_spans_cut(&c->ranges, addr, addr + size);
        tb_spans_cut(&c->committed, addr, addr + size);
    }
    tb_counting_leave(c);
    return !fails && known ? c->inner.vtable->release(c->inner.self, ptr, size) : result;
}

static ta_result tb_counting_commit(void *self, void *ptr, size_t size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t addr = (uintptr_t)ptr;
    int fails = tb_counting_enter(c, TB_COMMIT) || (c->table.discard == NULL && !tb_counting_fits(c, size));
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    TB_CONTRACT(c, tb_counting_whole(c, addr, size));
    TB_CONTRACT(c, tb_spans_hold(&c->ranges, addr, addr + size));
    TB_CONTRACT(c, !tb_spans_touch(&c->committed, addr, addr + size));
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->commit(c->inner.self, ptr, size)) == TA_OK) {
        pthread_mutex_lock(&c->lock);
        tb_spans_add(&c->committed, addr, addr + size);
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_decommit(void *self, void *ptr, size_t size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t addr = (uintptr_t)ptr;
    int fails = tb_counting_enter(c, TB_DECOMMIT);
    ta_result result = TA_ERROR_BACKEND;
    TB_CONTRACT(c, tb_counting_whole(c, addr, size));
    TB_CONTRACT(c, tb_spans_hold(&c->ranges, addr, addr + size));
    TB_CONTRACT(c, tb_spans_cover(&c->committed, addr, addr + size));
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->decommit(c->inner.self, ptr, size)) == TA_OK) {
        pthread_mutex_lock(&c->lock);
        tb_spans_cut(&c->committed, addr, addr + size);
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_discard(void *self, void *ptr, size_t size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t addr = (uintptr_t)ptr;
    int fails = tb_counting_enter(c, TB_DISCARD);
    TB_CONTRACT(c, tb_counting_whole(c, addr, size));
    TB_CONTRACT(c, tb_spans_hold(&c->ranges, addr, addr + size));
    TB_CONTRACT(c, tb_spans_cover(&c->committed, addr, addr + size));
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->discard(c->inner.self, ptr, size);
}

static ta_result tb_counting_memory_info(void *self, size_t *out_free_bytes, size_t *out_total_bytes)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_MEMORY_INFO);
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->memory_info(c->inner.self, out_free_bytes, out_total_bytes);
}

static void tb_counting_last_error(void *self, ta_backend_error *out)
{
    tb_counting *c = (tb_counting *)self;
    int failed;
    (void)tb_counting_enter(c, TB_LAST_ERROR);
    failed = c->failed_last;
    tb_counting_leave(c);
    if (failed || c->inner.vtable->last_error == NULL) {
        out->code = failed ? TB_ERROR_CODE : 0;
        out->text = failed ? "failed on demand" : "none";
    } else {
        c->inner.vtable->last_error(c->inner.self, out);
    }
}

static ta_result tb_counting_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_MARK);
    ta_result result = TA_ERROR_BACKEND;
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->mark(c->inner.self, stream, out_ticket)) == TA_OK) {
        pthread_mutex_lock(&c->lock);
        c->tickets++;
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_is_done(void *self, uint64_t ticket)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_IS_DONE);
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->is_done(c->inner.self, ticket);
}

static ta_result tb_counting_wait(void *self, ta_stream stream, uint64_t ticket)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_WAIT);
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->wait(c->inner.self, stream, ticket);
}

static ta_result tb_counting_sync(void *self, uint64_t ticket)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_SYNC);
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->sync(c->inner.self, ticket);
}

static void tb_counting_drop(void *self, uint64_t ticket)
{
    tb_counting *c = (tb_counting *)self;
    (void)tb_counting_enter(c, TB_DROP);
    TB_CONTRACT(c, c->tickets != 0);
    c->tickets--;
    tb_counting_leave(c);
    c->inner.vtable->drop(c->inner.self, ticket);
}

static ta_result tb_counting_adopt(void *self, uint64_t event, uint64_t *out_ticket)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_ADOPT);
    ta_result result = TA_ERROR_BACKEND;
    tb_counting_leave(c);
    if (!fails && (result = c->inner.vtable->adopt(c->inner.self, event, out_ticket)) == TA_OK) {
        pthread_mutex_lock(&c->lock);
        c->tickets++;
        pthread_mutex_unlock(&c->lock);
    }
    return result;
}

static ta_result tb_counting_capture(void *self, ta_stream stream, uint64_t *out_id)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_CAPTURE);
    tb_counting_leave(c);
    return fails ? TA_ERROR_BACKEND : c->inner.vtable->capture(c->inner.self, stream, out_id);
}

static void tb_counting_pieces(void *self, void **ptr, size_t *size)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t from = (uintptr_t)*ptr, to = from + *size;
    (void)tb_counting_enter(c, TB_PIECES);
    TB_CONTRACT(c, tb_counting_whole(c, from, *size) && tb_spans_cover(&c->committed, from, to));
    tb_counting_leave(c);
    c->inner.vtable->pieces(c->inner.self, ptr, size);
    pthread_mutex_lock(&c->lock);
    TB_CONTRACT(c, *size == 0 || ((uintptr_t)*ptr >= from && (uintptr_t)*ptr + *size <= to));
    pthread_mutex_unlock(&c->lock);
}

static int tb_counting_usable(const tb_counting *c, const void *ptr, size_t size)
{
    uintptr_t addr = (uintptr_t)ptr;
    return size != 0 &&
           (tb_spans_cover(&c->committed, addr, addr + size) || tb_spans_cover(&c->segments, addr, addr + size));
}

static ta_result tb_counting_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    tb_counting *c = (tb_counting *)self;
    int fails = tb_counting_enter(c, TB_ZERO);
    TB_CONTRACT(c, tb_counting_usable(c, ptr, size));
    tb_counting_leave(c);
    if (fails) {
        return TA_ERROR_BACKEND;
    }
    if (c->inner.vtable->zero != NULL) {
        return c->inner.vtable->zero(c->inner.self, ptr, size, stream);
    }
    memset(ptr, 0, size);
    return TA_OK;
}

static ta_result tb_counting_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    tb_counting *c = (tb_counting *)self;
    uintptr_t to = (uintptr_t)dst, from = (uintptr_t)src;
    int fails = tb_counting_enter(c, TB_COPY);
    TB_CONTRACT(c, tb_counting_usable(c, dst, size) && tb_counting_usable(c, src, size));
    TB_CONTRACT(c, to + size <= from || from + size <= to);
    tb_counting_leave(c);
    if (fails) {
        return TA_ERROR_BACKEND;
    }
    if (c->inner.vtable->copy != NULL) {
        return c->inner.vtable->copy(c->inner.self, dst, src, size, stream);
    }
    memcpy(dst, src, size);
    return TA_OK;
}

/* hide: capabilities of the inner backend that the allocators are not to see. Zero and copy are always there, so that
   they are counted and can fail. */
TEST_STATIC ta_backend tb_counting_init(tb_counting *c, ta_backend inner, uint32_t hide)
{
    const ta_backend_vtable *t = inner.vtable;
    ta_backend backend;
    memset(c, 0, sizeof *c);
    c->inner = inner;
    pthread_mutex_init(&c->lock, NULL);
    t->info(inner.self, &c->given);
    c->given.caps &= ~hide;
    c->table.struct_bytes = sizeof(ta_backend_vtable);
    c->table.name = "counting";
    c->table.info = tb_counting_info;
    if ((c->given.caps & TA_CAP_SEGMENTS) != 0) {
        c->table.alloc = tb_counting_alloc;
        c->table.free = tb_counting_free;
    }
    if ((c->given.caps & TA_CAP_RANGES) != 0) {
        c->table.reserve = tb_counting_reserve;
        c->table.release = tb_counting_release;
        c->table.commit = tb_counting_commit;
        c->table.decommit = tb_counting_decommit;
        c->table.pieces = t->pieces != NULL ? tb_counting_pieces : NULL;
    }
    c->table.memory_info = t->memory_info != NULL ? tb_counting_memory_info : NULL;
    c->table.last_error = tb_counting_last_error;
    if ((c->given.caps & TA_CAP_ORDERED) != 0) {
        c->table.mark = tb_counting_mark;
        c->table.is_done = tb_counting_is_done;
        c->table.wait = tb_counting_wait;
        c->table.sync = tb_counting_sync;
        c->table.drop = t->drop != NULL ? tb_counting_drop : NULL;
        c->table.adopt = t->adopt != NULL ? tb_counting_adopt : NULL;
        c->table.capture = t->capture != NULL ? tb_counting_capture : NULL;
    }
    c->table.zero = tb_counting_zero;
    c->table.copy = tb_counting_copy;
    backend.vtable = &c->table;
    backend.self = c;
    return backend;
}

/* The allocators may see discard, if the inner backend has it. 1: it has. To be called before they are made. */
TEST_STATIC int tb_counting_let_discard(tb_counting *c)
{
    int has = (c->given.caps & TA_CAP_RANGES) != 0 && c->inner.vtable->discard != NULL;
    c->table.discard = has ? tb_counting_discard : NULL;
    return has;
}

/* Checks that the contract was kept and, with gone != 0, that everything has come back. */
TEST_STATIC void tb_counting_check(tb_counting *c, int gone)
{
    CHECK_STRING(c->violations.count != 0 ? c->violations.first : "contract kept", "contract kept");
    if (gone) {
        CHECK_EQ(c->segments.count, 0);
        CHECK_EQ(c->ranges.count, 0);
        CHECK_EQ(c->committed.count, 0);
        CHECK_EQ(c->tickets, 0);
    }
}

TEST_STATIC void tb_counting_end(tb_counting *c)
{
    tb_spans_free(&c->segments);
    tb_spans_free(&c->ranges);
    tb_spans_free(&c->committed);
    pthread_mutex_destroy(&c->lock);
}

/*---------------------------------------------------------------------------------------------------------
  tb_clock

  Work is a sequence of items on each stream. Item p of stream s carries a vector: for every stream the last item that
  comes before it for certain (order in the stream, waits, and what the host knew to be finished when it submitted).
  Memory carries, per granule and stream, the last item that used it. Memory may go to new work exactly if every
  old use of it is in the vector of that work; it may go back to the system if the host knows every use to be
  finished.
  -------------------------------------------------------------------------------------------------------*/
#define TB_STREAMS_MAX 20
#define TB_CLOCK_GRANULARITY ((size_t)65536)
#define TB_CLOCK_ALIGNMENT ((size_t)256)
#define TB_CLOCK_SPACE_BYTES ((size_t)512 << 20)
#define TB_CLOCK_RANGE_MAX_BYTES ((size_t)64 << 20) /* larger reservations are refused */
#define TB_CLOCK_PAGE_BYTES ((size_t)1 << 20)       /* of addresses whose uses are kept together */
#define TB_CLOCK_PAGE_COUNT (TB_CLOCK_SPACE_BYTES / TB_CLOCK_PAGE_BYTES)

typedef struct tb_vector {
    uint32_t at[TB_STREAMS_MAX];
} tb_vector;

typedef struct tb_stream {
    ta_stream id;
    uint32_t count;   /* items submitted; the first is 1 */
    uint32_t done;    /* items finished */
    uint32_t room;
    tb_vector *order; /* order[p]: vector of item p; order[0] is zero */
} tb_stream;

typedef struct tb_ticket {
    uint32_t stream, position;
    int dropped;
} tb_ticket;

typedef struct tb_clock {
    ta_backend_vtable table;
    ta_backend_info given;
    pthread_mutex_t lock;
    tb_violations violations;
    tb_stream streams[TB_STREAMS_MAX];
    uint32_t stream_count;
    tb_ticket *tickets;
    size_t ticket_count, ticket_room, tickets_live;
    tb_vector host;    /* what the host knows to be finished */
    uintptr_t base;
    tb_spans used;     /* segments and reservations */
    tb_spans held;     /* segments and what is committed */
    tb_vector *uses[TB_CLOCK_PAGE_COUNT]; /* a vector per granule; NULL: no uses there */
    void *host_memory; /* behind the addresses, or NULL: they are made up */
    uint64_t mark_count, poll_count, wait_count, sync_count, zero_count, copy_count;
    size_t memory_max_bytes; /* option: more than that is refused; 0: no bound */
} tb_clock;

static void tb_vector_join(tb_vector *into, const tb_vector *from)
{
    int s;
    for (s = 0; s < TB_STREAMS_MAX; s++) {
        into->at[s] = from->at[s] > into->at[s] ? from->at[s] : into->at[s];
    }
}

static int tb_vector_below(const tb_vector *a, const tb_vector *b)
{
    int s, below = 1;
    for (s = 0; s < TB_STREAMS_MAX; s++) {
        below = below && a->at[s] <= b->at[s];
    }
    return below;
}

static uint32_t tb_clock_stream(tb_clock *clock, ta_stream id)
{
    uint32_t s;
    for (s = 0; s < clock->stream_count; s++) {
        if (clock->streams[s].id == id) {
            return s;
        }
    }
    if (s == TB_STREAMS_MAX) {
        abort(); /* the test uses more streams than it has */
    }
    clock->streams[s].room = 64;
    clock->streams[s].order = (tb_vector *)calloc(64, sizeof(tb_vector));
    if (clock->streams[s].order == NULL) {
        abort();
    }
    clock->streams[s].id = id;
    return clock->stream_count++;
}

/* A new item at the end of a stream; after: what it waits for besides, or NULL. */
static uint32_t tb_clock_item(tb_clock *clock, uint32_t s, const tb_vector *after)
{
    tb_stream *stream = &clock->streams[s];
    tb_vector vector = stream->order[stream->count];
    tb_vector_join(&vector, &clock->host);
    if (after != NULL) {
        tb_vector_join(&vector, after);
    }
    stream->count++;
    if (stream->count == stream->room) {
        stream->room *= 2;
        stream->order = (tb_vector *)realloc(stream->order, stream->room * sizeof(tb_vector));
        if (stream->order == NULL) {
            abort();
        }
    }
    vector.at[s] = stream->count;
    stream->order[stream->count] = vector;
    return stream->count;
}

/* Finishes the items of a stream up to position, and what they wait for. */
static void tb_clock_finish(tb_clock *clock, uint32_t s, uint32_t position)
{
    tb_stream *stream = &clock->streams[s];
    while (stream->done < position) {
        const tb_vector *order = &stream->order[stream->done + 1];
        uint32_t other;
        for (other = 0; other < clock->stream_count; other++) {
            if (other != s && order->at[other] > clock->streams[other].done) {
                tb_clock_finish(clock, other, order->at[other]);
            }
        }
        stream->done++;
    }
}

/* Writes down that an item uses memory. */
static void tb_clock_note_use(tb_clock *clock, uint32_t s, uint32_t position, const void *ptr, size_t size)
{
    size_t offset = (size_t)((uintptr_t)ptr - clock->base), end = offset + size;
    for (; offset < end; offset += TB_CLOCK_ALIGNMENT) {
        tb_vector **page = &clock->uses[offset / TB_CLOCK_PAGE_BYTES];
        if (*page == NULL) {
            *page = (tb_vector *)calloc(TB_CLOCK_PAGE_BYTES / TB_CLOCK_ALIGNMENT, sizeof(tb_vector));
        }
        if (*page == NULL) {
            abort();
        }
        (*page)[offset % TB_CLOCK_PAGE_BYTES / TB_CLOCK_ALIGNMENT].at[s] = position;
    }
}

/* 1: every use of the memory so far is in the vector. */
static int tb_clock_uses_below(tb_clock *clock, uintptr_t addr, size_t size, const tb_vector *vector)
{
    size_t offset = (size_t)(addr - clock->base), end = offset + size;
    while (offset < end) {
        const tb_vector *page = clock->uses[offset / TB_CLOCK_PAGE_BYTES];
        if (page == NULL) {
            offset = (offset / TB_CLOCK_PAGE_BYTES + 1) * TB_CLOCK_PAGE_BYTES;
            continue;
        }
        if (!tb_vector_below(&page[offset % TB_CLOCK_PAGE_BYTES / TB_CLOCK_ALIGNMENT], vector)) {
            return 0;
        }
        offset += TB_CLOCK_ALIGNMENT;
    }
    return 1;
}

/* 1: new work on the stream would come after every use of the memory so far. */
static int tb_clock_ordered(tb_clock *clock, uint32_t s, const void *ptr, size_t size)
{
    tb_vector vector = clock->streams[s].order[clock->streams[s].count];
    tb_vector_join(&vector, &clock->host);
    return tb_clock_uses_below(clock, (uintptr_t)ptr, size, &vector);
}

/* ---- the table */
static void tb_clock_info(void *self, ta_backend_info *out)
{
    *out = ((tb_clock *)self)->given;
}

/* The first free place of size bytes; 0 if there is none. */
static uintptr_t tb_clock_place(const tb_clock *clock, size_t size, size_t alignment)
{
    uintptr_t addr = (clock->base + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size_t i;
    for (i = 0; i < clock->used.count; i++) {
        if (clock->used.at[i].to <= addr) {
            continue;
        }
        if (clock->used.at[i].from >= addr && size <= (size_t)(clock->used.at[i].from - addr)) {
            break;
        }
        addr = (clock->used.at[i].to + alignment - 1) & ~(uintptr_t)(alignment - 1);
    }
    return size <= TB_CLOCK_SPACE_BYTES && (size_t)(addr - clock->base) <= TB_CLOCK_SPACE_BYTES - size ? addr : 0;
}

/* Puts memory behind addresses, in the books and, over host pages, in fact. */
static ta_result tb_clock_hold(tb_clock *clock, void *ptr, size_t size)
{
    ta_backend host = ta_backend_host();
    if (clock->memory_max_bytes != 0 && clock->held.bytes + size > clock->memory_max_bytes) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    if (clock->host_memory != NULL && host.vtable->commit != NULL &&
        host.vtable->commit(host.self, ptr, size) != TA_OK) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    tb_spans_add(&clock->held, (uintptr_t)ptr, (uintptr_t)ptr + size);
    return TA_OK;
}

/* Takes away what memory there is in a span; all work on it must be finished. */
static void tb_clock_let_go(tb_clock *clock, void *ptr, size_t size)
{
    ta_backend host = ta_backend_host();
    uintptr_t from = (uintptr_t)ptr, to = from + size;
    TB_CONTRACT(clock, tb_clock_uses_below(clock, from, size, &clock->host));
    if (clock->host_memory != NULL && host.vtable->decommit != NULL) {
        size_t i;
        for (i = tb_spans_index(&clock->held, from); i < clock->held.count && clock->held.at[i].from < to; i++) {
            uintptr_t cut_from = clock->held.at[i].from > from ? clock->held.at[i].from : from;
            uintptr_t cut_to = clock->held.at[i].to < to ? clock->held.at[i].to : to;
            (void)host.vtable->decommit(host.self, (void *)cut_from, (size_t)(cut_to - cut_from));
        }
    }
    tb_spans_cut(&clock->held, from, to);
}

static ta_result tb_clock_alloc(void *self, size_t size, void **out)
{
    tb_clock *clock = (tb_clock *)self;
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    uintptr_t addr;
    pthread_mutex_lock(&clock->lock);
    addr = tb_clock_place(clock, size, TB_CLOCK_GRANULARITY);
    if (addr != 0 && (result = tb_clock_hold(clock, (void *)addr, size)) == TA_OK) {
        tb_spans_add(&clock->used, addr, addr + size);
        *out = (void *)addr;
    }
    pthread_mutex_unlock(&clock->lock);
    return result;
}

static ta_result tb_clock_free(void *self, void *ptr, size_t size)
{
    tb_clock *clock = (tb_clock *)self;
    uintptr_t addr = (uintptr_t)ptr;
    pthread_mutex_lock(&clock->lock);
    TB_CONTRACT(clock, tb_spans_exact(&clock->used, addr, addr + size));
    tb_clock_let_go(clock, ptr, size);
    tb_spans_cut(&clock->used, addr, addr + size);
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

static ta_result tb_clock_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    tb_clock *clock = (tb_clock *)self;
    uintptr_t addr = 0;
    (void)flags;
    pthread_mutex_lock(&clock->lock);
    if (size <= TB_CLOCK_RANGE_MAX_BYTES || size == clock->given.range_bytes_max) {
        addr = tb_clock_place(clock, size, alignment);
    }
    if (addr != 0) {
        tb_spans_add(&clock->used, addr, addr + size);
        *out = (void *)addr;
    }
    pthread_mutex_unlock(&clock->lock);
    return addr != 0 ? TA_OK : TA_ERROR_OUT_OF_MEMORY;
}

static ta_result tb_clock_release(void *self, void *ptr, size_t size)
{
    tb_clock *clock = (tb_clock *)self;
    uintptr_t addr = (uintptr_t)ptr;
    pthread_mutex_lock(&clock->lock);
    TB_CONTRACT(clock, tb_spans_exact(&clock->used, addr, addr + size));
    tb_clock_let_go(clock, ptr, size);
    tb_spans_cut(&clock->used, addr, addr + size);
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

static ta_result tb_clock_commit(void *self, void *ptr, size_t size)
{
    tb_clock *clock = (tb_clock *)self;
    ta_result result;
    pthread_mutex_lock(&clock->lock);
    result = tb_clock_hold(clock, ptr, size);
    pthread_mutex_unlock(&clock->lock);
    return result;
}

static ta_result tb_clock_decommit(void *self, void *ptr, size_t size)
{
    tb_clock *clock = (tb_clock *)self;
    pthread_mutex_lock(&clock->lock);
    tb_clock_let_go(clock, ptr, size);
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

static ta_result tb_clock_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    tb_clock *clock = (tb_clock *)self;
    tb_ticket *ticket;
    pthread_mutex_lock(&clock->lock);
    if (clock->ticket_count == clock->ticket_room) {
        clock->ticket_room = clock->ticket_room == 0 ? 64 : clock->ticket_room * 2;
        clock->tickets = (tb_ticket *)realloc(clock->tickets, clock->ticket_room * sizeof(tb_ticket));
        if (clock->tickets == NULL) {
            abort();
        }
    }
    ticket = &clock->tickets[clock->ticket_count++];
    ticket->stream = tb_clock_stream(clock, stream);
    ticket->position = clock->streams[ticket->stream].count;
    ticket->dropped = 0;
    clock->tickets_live++;
    clock->mark_count++;
    *out_ticket = clock->ticket_count; /* 0 is none */
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

/* The ticket, if it may be used. */
static tb_ticket *tb_clock_ticket(tb_clock *clock, uint64_t number)
{
    tb_ticket *ticket = number != 0 && number <= clock->ticket_count ? &clock->tickets[number - 1] : NULL;
    TB_CONTRACT(clock, ticket != NULL && !ticket->dropped);
    return ticket;
}

static const tb_vector *tb_clock_ticket_vector(const tb_clock *clock, const tb_ticket *ticket)
{
    return &clock->streams[ticket->stream].order[ticket->position];
}

static ta_result tb_clock_is_done(void *self, uint64_t number)
{
    tb_clock *clock = (tb_clock *)self;
    ta_result result = TA_ERROR_BACKEND;
    const tb_ticket *ticket;
    pthread_mutex_lock(&clock->lock);
    clock->poll_count++;
    ticket = tb_clock_ticket(clock, number);
    if (ticket != NULL) {
        result = clock->streams[ticket->stream].done >= ticket->position ? TA_OK : TA_ERROR_NOT_READY;
        if (result == TA_OK) {
            tb_vector_join(&clock->host, tb_clock_ticket_vector(clock, ticket));
        }
    }
    pthread_mutex_unlock(&clock->lock);
    return result;
}

static ta_result tb_clock_wait(void *self, ta_stream stream, uint64_t number)
{
    tb_clock *clock = (tb_clock *)self;
    const tb_ticket *ticket;
    pthread_mutex_lock(&clock->lock);
    clock->wait_count++;
    ticket = tb_clock_ticket(clock, number);
    if (ticket != NULL) {
        tb_vector after = *tb_clock_ticket_vector(clock, ticket);
        (void)tb_clock_item(clock, tb_clock_stream(clock, stream), &after);
    }
    pthread_mutex_unlock(&clock->lock);
    return ticket != NULL ? TA_OK : TA_ERROR_BACKEND;
}

static ta_result tb_clock_sync(void *self, uint64_t number)
{
    tb_clock *clock = (tb_clock *)self;
    const tb_ticket *ticket;
    pthread_mutex_lock(&clock->lock);
    clock->sync_count++;
    ticket = tb_clock_ticket(clock, number);
    if (ticket != NULL) {
        tb_clock_finish(clock, ticket->stream, ticket->position);
        tb_vector_join(&clock->host, tb_clock_ticket_vector(clock, ticket));
    }
    pthread_mutex_unlock(&clock->lock);
    return ticket != NULL ? TA_OK : TA_ERROR_BACKEND;
}

static void tb_clock_drop(void *self, uint64_t number)
{
    tb_clock *clock = (tb_clock *)self;
    tb_ticket *ticket;
    pthread_mutex_lock(&clock->lock);
    ticket = tb_clock_ticket(clock, number);
    if (ticket != NULL) {
        ticket->dropped = 1;
        clock->tickets_live--;
    }
    pthread_mutex_unlock(&clock->lock);
}

static ta_result tb_clock_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    tb_clock *clock = (tb_clock *)self;
    uint32_t s;
    pthread_mutex_lock(&clock->lock);
    clock->zero_count++;
    s = tb_clock_stream(clock, stream);
    TB_CONTRACT(clock, tb_clock_ordered(clock, s, ptr, size)); /* else it wipes what others still use */
    tb_clock_note_use(clock, s, tb_clock_item(clock, s, NULL), ptr, size);
    if (clock->host_memory != NULL) {
        memset(ptr, 0, size);
    }
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

static ta_result tb_clock_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    tb_clock *clock = (tb_clock *)self;
    uint32_t s, position;
    pthread_mutex_lock(&clock->lock);
    clock->copy_count++;
    s = tb_clock_stream(clock, stream);
    TB_CONTRACT(clock, tb_clock_ordered(clock, s, dst, size));
    position = tb_clock_item(clock, s, NULL);
    tb_clock_note_use(clock, s, position, dst, size);
    tb_clock_note_use(clock, s, position, src, size);
    if (clock->host_memory != NULL) {
        memcpy(dst, src, size);
    }
    pthread_mutex_unlock(&clock->lock);
    return TA_OK;
}

/* Host pages for one clock at a time; kept for the next one, since there may be many clocks in turn. */
#define TB_CLOCK_HOST_BYTES (TB_CLOCK_SPACE_BYTES + ((size_t)2 << 20))
static void *tb_clock_pages;
static int tb_clock_pages_taken;

static void *tb_clock_take_pages(void)
{
    ta_backend host = ta_backend_host();
    if (tb_clock_pages == NULL) {
        ta_result result = host.vtable->reserve != NULL
                         ? host.vtable->reserve(host.self, TB_CLOCK_HOST_BYTES, (size_t)2 << 20, 0, &tb_clock_pages)
                         : host.vtable->alloc(host.self, TB_CLOCK_HOST_BYTES, &tb_clock_pages);
        if (result != TA_OK) {
            abort();
        }
    }
    if (tb_clock_pages_taken) {
        abort(); /* the test has two clocks over host pages */
    }
    tb_clock_pages_taken = 1;
    return tb_clock_pages;
}

/* ---- for the test program */
/* caps: TA_CAP_RANGES, TA_CAP_SEGMENTS or both. host_pages: the addresses are real, zero and copy act (at once), and
   the test may look at the bytes; else touching them faults on 64-bit machines. */
TEST_STATIC ta_backend tb_clock_init(tb_clock *clock, uint32_t caps, int host_pages)
{
    ta_backend backend;
    memset(clock, 0, sizeof *clock);
    pthread_mutex_init(&clock->lock, NULL);
    clock->base = sizeof(void *) > 4 ? (uintptr_t)((uint64_t)1 << 48) : (uintptr_t)0x40000000u;
    if (host_pages) {
        clock->host_memory = tb_clock_take_pages();
        clock->base = ((uintptr_t)clock->host_memory + ((uintptr_t)2 << 20) - 1) & ~(((uintptr_t)2 << 20) - 1);
    }
    clock->given.caps = TA_CAP_ORDERED | (caps & (uint32_t)(TA_CAP_RANGES | TA_CAP_SEGMENTS));
    clock->given.device.type = host_pages ? TA_DEVICE_HOST : TA_DEVICE_OTHER;
    clock->given.device.index = host_pages ? 0 : 3;
    clock->given.granularity_bytes = TB_CLOCK_GRANULARITY;
    clock->given.alignment_bytes = TB_CLOCK_ALIGNMENT;
    clock->table.struct_bytes = sizeof(ta_backend_vtable);
    clock->table.name = "clock";
    clock->table.info = tb_clock_info;
    clock->table.alloc = tb_clock_alloc;
    clock->table.free = tb_clock_free;
    clock->table.reserve = tb_clock_reserve;
    clock->table.release = tb_clock_release;
    clock->table.commit = tb_clock_commit;
    clock->table.decommit = tb_clock_decommit;
    clock->table.mark = tb_clock_mark;
    clock->table.is_done = tb_clock_is_done;
    clock->table.wait = tb_clock_wait;
    clock->table.sync = tb_clock_sync;
    clock->table.drop = tb_clock_drop;
    clock->table.zero = tb_clock_zero;
    clock->table.copy = tb_clock_copy;
    backend.vtable = &clock->table;
    backend.self = clock;
    return backend;
}

/* Checks that the contract was kept and that all addresses and tickets are back. */
TEST_STATIC void tb_clock_check(tb_clock *clock)
{
    CHECK_STRING(clock->violations.count != 0 ? clock->violations.first : "contract kept", "contract kept");
    CHECK_EQ(clock->used.count, 0);
    CHECK_EQ(clock->held.count, 0);
    CHECK_EQ(clock->tickets_live, 0);
}

TEST_STATIC void tb_clock_end(tb_clock *clock)
{
    size_t i;
    for (i = 0; i < clock->stream_count; i++) {
        free(clock->streams[i].order);
    }
    for (i = 0; i < TB_CLOCK_PAGE_COUNT; i++) {
        free(clock->uses[i]);
    }
    free(clock->tickets);
    tb_spans_free(&clock->used);
    tb_spans_free(&clock->held);
    tb_clock_pages_taken = clock->host_memory != NULL ? 0 : tb_clock_pages_taken;
    pthread_mutex_destroy(&clock->lock);
}

/* Work on a stream that uses [ptr, ptr + size). */
TEST_STATIC void tb_clock_use(tb_clock *clock, ta_stream stream, const void *ptr, size_t size)
{
    uint32_t s;
    pthread_mutex_lock(&clock->lock);
    s = tb_clock_stream(clock, stream);
    tb_clock_note_use(clock, s, tb_clock_item(clock, s, NULL), ptr, size);
    pthread_mutex_unlock(&clock->lock);
}

/* Later work on stream comes after all work on other up to now: what a careful program says for itself. */
TEST_STATIC void tb_clock_after(tb_clock *clock, ta_stream stream, ta_stream other)
{
    uint32_t s, o;
    tb_vector after;
    pthread_mutex_lock(&clock->lock);
    s = tb_clock_stream(clock, stream);
    o = tb_clock_stream(clock, other);
    after = clock->streams[o].order[clock->streams[o].count];
    (void)tb_clock_item(clock, s, &after);
    pthread_mutex_unlock(&clock->lock);
}

/* The device finishes all work on a stream, and what it waits for. The host does not know of it. */
TEST_STATIC void tb_clock_complete(tb_clock *clock, ta_stream stream)
{
    uint32_t s;
    pthread_mutex_lock(&clock->lock);
    s = tb_clock_stream(clock, stream);
    tb_clock_finish(clock, s, clock->streams[s].count);
    pthread_mutex_unlock(&clock->lock);
}

/* The device finishes one item of a stream if nothing holds it up. 1: it did. */
TEST_STATIC int tb_clock_step(tb_clock *clock, ta_stream stream)
{
    tb_stream *at;
    uint32_t s, other;
    int ready;
    pthread_mutex_lock(&clock->lock);
    s = tb_clock_stream(clock, stream);
    at = &clock->streams[s];
    ready = at->done < at->count;
    for (other = 0; ready && other < clock->stream_count; other++) {
        ready = other == s || at->order[at->done + 1].at[other] <= clock->streams[other].done;
    }
    at->done += (uint32_t)ready;
    pthread_mutex_unlock(&clock->lock);
    return ready;
}

/* Happens-before: 1 if new work on the stream comes after every use of the memory so far, whatever the device
   does. */
TEST_STATIC int tb_clock_is_ordered(tb_clock *clock, ta_stream stream, const void *ptr, size_t size)
{
    int ordered;
    pthread_mutex_lock(&clock->lock);
    ordered = tb_clock_ordered(clock, tb_clock_stream(clock, stream), ptr, size);
    pthread_mutex_unlock(&clock->lock);
    return ordered;
}

#endif /* TEST_BACKENDS_H */
