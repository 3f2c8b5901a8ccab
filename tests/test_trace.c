/* test_trace.c - [TA:TRACE]: tags nest and stay with blocks; a trace has every event, in the order in which they
   happened, whatever path served them, and is written in formats that are read back. Made to be run under
   ThreadSanitizer as well. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

static void *records_malloc(size_t size);
static void records_free(void *ptr);
#include "test.h"
#define TENSORALLOC_MALLOC(size) records_malloc(size)
#define TENSORALLOC_FREE(ptr) records_free(ptr)
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define BLOCKS_MAX 512
#define TEXT_MAX ((size_t)1 << 22)

static int64_t records_left = -1; /* < 0: no end */

static void *records_malloc(size_t size)
{
    int64_t left = __atomic_load_n(&records_left, __ATOMIC_RELAXED);
    if (left >= 0 && __atomic_fetch_sub(&records_left, 1, __ATOMIC_RELAXED) <= 0) {
        __atomic_store_n(&records_left, (int64_t)0, __ATOMIC_RELAXED);
        return NULL;
    }
    return malloc(size);
}

static void records_free(void *ptr)
{
    free(ptr);
}

/* ---- a sink that keeps what it is given, and may fail at one call */
typedef struct sink {
    char *text;
    size_t length;
    uint64_t calls;
    uint64_t fails_at; /* counted from 1; 0: never */
    ta_trace *flushed; /* the sink flushes too; must be TA_ERROR_BUSY */
    ta_pool *used;     /* the sink allocates here */
} sink;

static ta_result sink_write(void *user, const char *text, size_t bytes)
{
    sink *s = (sink *)user;
    if (++s->calls == s->fails_at) {
        return TA_ERROR_BACKEND;
    }
    if (s->flushed != NULL) {
        CHECK_RESULT(ta_trace_flush(s->flushed, TA_TRACE_TEXT, sink_write, user), TA_ERROR_BUSY);
        CHECK_RESULT(ta_trace_clear(s->flushed), TA_ERROR_BUSY);
        CHECK_RESULT(ta_trace_destroy(s->flushed), TA_ERROR_BUSY);
    }
    if (s->used != NULL) {
        CHECK_OK(ta_pool_free(s->used, ta_pool_alloc(s->used, 100, NULL)));
    }
    if (s->length + bytes < TEXT_MAX) {
        memcpy(s->text + s->length, text, bytes);
        s->length += bytes;
        s->text[s->length] = 0;
    }
    return TA_OK;
}

static void sink_open(sink *s)
{
    memset(s, 0, sizeof *s);
    s->text = (char *)malloc(TEXT_MAX);
    s->text[0] = 0;
}

static void sink_close(sink *s)
{
    free(s->text);
}

/* ---- what a text says, read as strictly as bench/replay.c does */
typedef struct reading {
    uint64_t allocs, frees, steps, bytes, comments, unknown, dropped, live_bytes;
    uint64_t *sizes; /* by id; 0: not live */
    size_t id_max;
} reading;

static int read_number(const char **at, uint64_t *out)
{
    char *end;
    if (**at < '0' || **at > '9') {
        return 0;
    }
    *out = strtoull(*at, &end, 10);
    *at = end;
    return 1;
}

/* One line; 0 where it is wrong. */
static int read_line(reading *r, const char *at)
{
    uint64_t id = 0, size = 0, alignment = 0;
    if (at[0] == 'a' && at[1] == ' ') {
        at += 2;
        if (!read_number(&at, &id) || *at++ != ' ' || !read_number(&at, &size) || *at++ != ' ' || size == 0 ||
            id > r->id_max || r->sizes[id] != 0) {
            return 0;
        }
        if (read_number(&at, &alignment) && ((alignment & (alignment - 1)) != 0 || *at++ != ' ')) {
            return 0;
        }
        r->sizes[id] = size;
        r->live_bytes += size;
        r->allocs++;
        r->bytes += size;
    } else if (at[0] == 'f' && at[1] == ' ') {
        at += 2;
        if (!read_number(&at, &id) || id > r->id_max || r->sizes[id] == 0) {
            return 0;
        }
        r->live_bytes -= r->sizes[id];
        r->sizes[id] = 0;
        r->frees++;
        at += *at == ' ';
    } else if (at[0] == 's' && at[1] == ' ') {
        r->steps++;
        at += 2;
    } else {
        r->comments++;
        r->unknown += strstr(at, " free of ") != NULL;
        if (strncmp(at, "# dropped here: ", 16) == 0) {
            r->dropped += strtoull(at + 16, NULL, 10);
        }
        return *at == '#';
    }
    return *at == '#' || *at == 0;
}

static int read_text(reading *r, const char *text)
{
    char line[1024];
    memset(r, 0, sizeof *r);
    r->id_max = 1u << 20;
    r->sizes = (uint64_t *)calloc(r->id_max + 1, sizeof *r->sizes);
    while (*text != 0) {
        const char *end = strchr(text, '\n');
        size_t length = end != NULL ? (size_t)(end - text) : sizeof line;
        if (length >= sizeof line) {
            break;
        }
        memcpy(line, text, length);
        line[length] = 0;
        if (!read_line(r, line)) {
            fprintf(stderr, "wrong: %s\n", line);
            break;
        }
        text = end + 1;
    }
    free(r->sizes);
    return *text == 0;
}

/* ---- a pool that is traced */
typedef struct fixture {
    ta_trace *trace;
    ta_pool *pool;
} fixture;

static void open_traced(fixture *f, size_t events, const ta_pool_desc *given)
{
    ta_trace_desc trace_desc;
    ta_pool_desc desc;
    memset(&trace_desc, 0, sizeof trace_desc);
    memset(&desc, 0, sizeof desc);
    memset(f, 0, sizeof *f);
    trace_desc.event_count_max = events;
    CHECK_OK(ta_trace_create(&trace_desc, &f->trace));
    if (given != NULL) {
        desc = *given;
    }
    desc.trace = f->trace;
    CHECK_OK(ta_pool_create(&desc, &f->pool));
}

static void close_traced(fixture *f)
{
    CHECK_RESULT(ta_trace_destroy(f->trace), TA_ERROR_BUSY);
    CHECK_OK(ta_pool_destroy(f->pool));
    CHECK_OK(ta_trace_destroy(f->trace));
}

/* ---- what for_each shows, kept */
typedef struct seen {
    ta_event *events;
    size_t count, capacity;
} seen;

static void see(void *user, const ta_event *event)
{
    seen *s = (seen *)user;
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 1024 : 2 * s->capacity;
        s->events = (ta_event *)realloc(s->events, s->capacity * sizeof *s->events);
    }
    s->events[s->count++] = *event;
}

static seen look(ta_trace *trace)
{
    seen s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_trace_for_each(trace, see, &s));
    return s;
}

static size_t count_kind(const seen *s, ta_event_kind kind)
{
    size_t i, count = 0;
    for (i = 0; i < s->count; i++) {
        count += s->events[i].kind == kind;
    }
    return count;
}

static const ta_event *last_of(const seen *s, ta_event_kind kind)
{
    size_t i = s->count;
    while (i-- > 0) {
        if (s->events[i].kind == kind) {
            return &s->events[i];
        }
    }
    return NULL;
}

/*---------------------------------------------------------------------------------------------------------
  Tags
  -------------------------------------------------------------------------------------------------------*/
static void regions_nest(void)
{
    const char *outer, *inner, *nothing;
    char name[8] = "ffn";
    CHECK(ta_tag_get() == NULL);
    outer = ta_tag_begin("forward");
    CHECK_STRING(ta_tag_get(), "forward");
    inner = ta_tag_begin(name);
    memset(name, 'x', sizeof name); /* the name was copied */
    CHECK_STRING(ta_tag_get(), "forward/ffn");
    nothing = ta_tag_begin(NULL);
    CHECK(ta_tag_get() == NULL);
    ta_tag_end(nothing);
    CHECK_STRING(ta_tag_get(), "forward/ffn");
    ta_tag_end(inner);
    CHECK_STRING(ta_tag_get(), "forward");
    ta_tag_end(outer);
    CHECK(ta_tag_get() == NULL);
}

static void the_same_name_is_the_same_text(void)
{
    const char *first, *again, *previous = ta_tag_begin("a/b");
    first = ta_tag_get();
    ta_tag_end(previous);
    previous = ta_tag_begin("a");
    (void)ta_tag_begin("b");
    again = ta_tag_get();
    ta_tag_end(previous);
    CHECK(first == again);
    CHECK_STRING(again, "a/b");
}

static void long_names_are_cut_between_characters(void)
{
    char name[600];
    size_t lead, i;
    for (lead = 250; lead < 256; lead++) {
        const char *previous, *tag;
        memset(name, 'n', lead);
        for (i = lead; i + 3 < sizeof name; i += 3) {
            memcpy(name + i, "\xe2\x82\xac", 3); /* the sign of the euro */
        }
        name[i] = 0;
        previous = ta_tag_begin(name);
        tag = ta_tag_get();
        CHECK_LE(strlen(tag), TA_TAG_BYTES_MAX);
        CHECK_GT(strlen(tag), TA_TAG_BYTES_MAX - 3);
        CHECK_EQ((strlen(tag) - lead) % 3, 0);
        (void)ta_tag_begin("inside"); /* no room is left for it */
        CHECK_LE(strlen(ta_tag_get()), TA_TAG_BYTES_MAX);
        ta_tag_end(previous);
    }
    memset(name, 0x80, sizeof name); /* no characters at all */
    name[sizeof name - 1] = 0;
    CHECK(ta_tag_begin(name) == NULL);
    CHECK_GE(strlen(ta_tag_get()), TA_TAG_BYTES_MAX - 4);
    ta_tag_end(NULL);
}

static const char *tag_in(ta_pool *pool, void *ptr)
{
    ta_block_info info;
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_pool_describe(pool, ptr, &info));
    return info.tag;
}

static void blocks_take_tags(void)
{
    static const size_t sizes[] = {100, 5000, 65536, 65537, 3000000};
    ta_pool_desc desc;
    ta_pool *pool, *plain;
    size_t i, round;
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_pool_create(NULL, &plain));
    desc.tag_blocks = 1;
    CHECK_OK(ta_pool_create(&desc, &pool));
    for (round = 0; round < 3; round++) { /* a miss, and hits */
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            char own[8] = "own";
            ta_request request;
            void *a, *b, *c, *d;
            const char *previous = ta_tag_begin("region");
            memset(&request, 0, sizeof request);
            request.size_bytes = sizes[i];
            request.tag = own;
            a = ta_pool_alloc(pool, sizes[i], NULL);
            b = ta_pool_alloc_request(pool, &request, NULL);
            memset(own, 'x', sizeof own - 1);
            d = ta_pool_alloc(plain, sizes[i], NULL);
            ta_tag_end(previous);
            c = ta_pool_alloc(pool, sizes[i], NULL);
            CHECK_STRING(tag_in(pool, a), "region");
            CHECK_STRING(tag_in(pool, b), "own"); /* of a pool that copies them */
            CHECK(tag_in(pool, c) == NULL);
            CHECK(tag_in(plain, d) == NULL);
            CHECK_OK(ta_pool_free(pool, a));
            CHECK_OK(ta_pool_free(pool, b));
            CHECK_OK(ta_pool_free_sized(pool, c, sizes[i]));
            CHECK_OK(ta_pool_free(plain, d));
        }
    }
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_pool_destroy(plain));
}

static void events_and_realloc_keep_tags(void)
{
    ta_pool_desc desc;
    ta_pool *pool;
    seen s;
    void *ptr, *moved;
    const char *previous;
    memset(&s, 0, sizeof s);
    memset(&desc, 0, sizeof desc);
    desc.on_event = see;
    desc.on_event_user = &s;
    CHECK_OK(ta_pool_create(&desc, &pool));
    previous = ta_tag_begin("made here");
    ptr = ta_pool_alloc(pool, 1000, NULL);
    ta_tag_end(previous);
    (void)ta_pool_alloc(pool, 1000, NULL); /* in its way */
    previous = ta_tag_begin("moved here");
    moved = ta_pool_realloc(pool, ptr, 100000, NULL);
    ta_tag_end(previous);
    CHECK_STRING(tag_in(pool, moved), "made here");
    CHECK_OK(ta_pool_free(pool, moved));
    CHECK_STRING(last_of(&s, TA_EVENT_FREE)->tag, "made here");
    CHECK_STRING(last_of(&s, TA_EVENT_ALLOC)->tag, "made here");
    CHECK_OK(ta_pool_destroy(pool));
    free(s.events);
}

static void tags_of_tensors_with_bounds(void)
{
    int64_t least[1] = {1}, now[1] = {1000}, most[1] = {1000000};
    ta_shape_bounds bounds;
    ta_dynamic *dynamic;
    ta_handle handle;
    ta_handle_info info;
    const char *previous;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, least, now, most));
    CHECK_OK(ta_dynamic_create(NULL, &dynamic));
    previous = ta_tag_begin("cache");
    CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
    ta_tag_end(previous);
    memset(&info, 0, sizeof info);
    CHECK_OK(ta_dynamic_get_handle(dynamic, handle, &info));
    CHECK_STRING(info.tag, "cache");
    CHECK_OK(ta_dynamic_destroy(dynamic));
}

static void without_memory_tags_have_a_common_name(void)
{
    int64_t n;
    for (n = 0; n < 2; n++) {
        const char *previous;
        char name[32];
        (void)snprintf(name, sizeof name, "new name %d", (int)n);
        if (n == 0) {
            ta_process_detach(); /* the table is made anew */
        }
        records_left = n;
        previous = ta_tag_begin(name);
        records_left = -1;
        CHECK_STRING(ta_tag_get(), "other tags");
        ta_tag_end(previous);
    }
}

static void too_many_tags_have_a_common_name(void)
{
    char name[32];
    const char *previous;
    int i, others = 0;
    for (i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof name, "many %d", i);
        previous = ta_tag_begin(name);
        others += strcmp(ta_tag_get(), "other tags") == 0;
        CHECK(strcmp(ta_tag_get(), name) == 0 || strcmp(ta_tag_get(), "other tags") == 0);
        ta_tag_end(previous);
    }
    CHECK_GE(others, 5000 - 4096);
    CHECK_LT(others, 5000 - 4000);
    previous = ta_tag_begin("many 7"); /* those there are stay */
    CHECK_STRING(ta_tag_get(), "many 7");
    ta_tag_end(previous);
    ta_process_detach();
    previous = ta_tag_begin("many 4999");
    CHECK_STRING(ta_tag_get(), "many 4999");
    ta_tag_end(previous);
}

/*---------------------------------------------------------------------------------------------------------
  The ring
  -------------------------------------------------------------------------------------------------------*/
static void every_path_is_recorded(void)
{
    static const size_t sizes[] = {1, 64, 1000, 1024, 30000, 65536, 65537, 1000000, 5000000};
    fixture f;
    seen s;
    size_t i, round, events = 0;
    open_traced(&f, 0, NULL);
    for (round = 0; round < 4; round++) {
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            ta_request request;
            void *ptr[6];
            int k;
            memset(&request, 0, sizeof request);
            request.size_bytes = sizes[i];
            request.tag = "requested";
            ptr[0] = ta_pool_alloc(f.pool, sizes[i], NULL);
            ptr[1] = ta_pool_alloc_aligned(f.pool, sizes[i], 4096, NULL);
            ptr[2] = ta_pool_alloc_zeroed(f.pool, sizes[i], NULL);
            ptr[3] = ta_pool_alloc_stream(f.pool, sizes[i], 5, NULL);
            ptr[4] = ta_pool_alloc_request(f.pool, &request, NULL);
            ptr[5] = ta_pool_get_or_alloc(f.pool, sizes[i], NULL);
            s = look(f.trace);
            events += 6;
            CHECK_EQ(count_kind(&s, TA_EVENT_ALLOC), events);
            CHECK(last_of(&s, TA_EVENT_ALLOC)->ptr == ptr[5]);
            CHECK_EQ(last_of(&s, TA_EVENT_ALLOC)->size_bytes, sizes[i]);
            CHECK_EQ(last_of(&s, TA_EVENT_ALLOC)->capacity_bytes, ta_pool_capacity_of(f.pool, ptr[5]));
            CHECK_STRING(last_of(&s, TA_EVENT_ALLOC)->name, "pool");
            free(s.events);
            for (k = 0; k < 6; k++) {
                CHECK_OK((k & 1) != 0 ? ta_pool_free(f.pool, ptr[k]) : ta_pool_free_sized(f.pool, ptr[k], sizes[i]));
                s = look(f.trace);
                CHECK(last_of(&s, TA_EVENT_FREE)->ptr == ptr[k]);
                CHECK_EQ(last_of(&s, TA_EVENT_FREE)->size_bytes, sizes[i]);
                CHECK(k != 4 || strcmp(last_of(&s, TA_EVENT_FREE)->tag, "requested") == 0);
                free(s.events);
            }
        }
    }
    s = look(f.trace);
    CHECK_EQ(count_kind(&s, TA_EVENT_FREE), events);
    CHECK_GT(count_kind(&s, TA_EVENT_GROW), 0);
    free(s.events);
    CHECK_OK(ta_pool_check(f.pool));
    close_traced(&f);
}

static void what_failed_is_recorded(void)
{
    ta_pool_desc desc;
    fixture f;
    seen s;
    void *ptr;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 4 * MIB;
    open_traced(&f, 0, &desc);
    ptr = ta_pool_alloc(f.pool, MIB, NULL);
    CHECK(ta_pool_alloc(f.pool, 8 * MIB, &result) == NULL);
    CHECK_RESULT(ta_pool_free(f.pool, &f), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_pool_free_sized(f.pool, ptr, 5), TA_ERROR_SIZE_MISMATCH);
    CHECK_OK(ta_pool_free(f.pool, ptr));
    CHECK_RESULT(ta_pool_free(f.pool, ptr), TA_ERROR_STALE);
    s = look(f.trace);
    CHECK_EQ(count_kind(&s, TA_EVENT_ALLOC), 1);
    CHECK_EQ(count_kind(&s, TA_EVENT_FREE), 1);
    CHECK_EQ(count_kind(&s, TA_EVENT_FAILURE), 1);
    CHECK_EQ(last_of(&s, TA_EVENT_FAILURE)->size_bytes, 8 * MIB);
    CHECK_RESULT(last_of(&s, TA_EVENT_FAILURE)->result, result);
    free(s.events);
    close_traced(&f);
}

/* A random program on a pool that is traced and on one that is not: the same addresses, the same counters. */
static void tracing_changes_nothing(void)
{
    ta_pool_desc desc;
    fixture f;
    ta_pool *plain;
    ta_stats a, b;
    void *blocks[2][BLOCKS_MAX];
    uintptr_t base[2] = {0, 0};
    uint64_t state = test_now.seed;
    int i, different = 0;
    memset(&desc, 0, sizeof desc);
    memset(blocks, 0, sizeof blocks);
    CHECK_OK(ta_pool_create(&desc, &plain));
    open_traced(&f, 1024, &desc);
    for (i = 0; i < 20000; i++) {
        ta_pool *pools[2];
        uint32_t slot = test_below(&state, BLOCKS_MAX);
        size_t size = (size_t)1 << test_below(&state, 18);
        int p;
        size += test_below(&state, (uint32_t)size);
        pools[0] = plain;
        pools[1] = f.pool;
        for (p = 0; p < 2; p++) {
            if (blocks[p][slot] != NULL) {
                CHECK_OK(ta_pool_free(pools[p], blocks[p][slot]));
                blocks[p][slot] = NULL;
            } else {
                blocks[p][slot] = ta_pool_alloc(pools[p], size, NULL);
                base[p] = size > 65536 && base[p] == 0 ? (uintptr_t)blocks[p][slot] : base[p];
            }
        }
        different += size > 65536 && blocks[0][slot] != NULL &&
                     (uintptr_t)blocks[0][slot] - base[0] != (uintptr_t)blocks[1][slot] - base[1];
    }
    CHECK_EQ(different, 0);
    CHECK_OK(ta_pool_get_stats(plain, &a));
    CHECK_OK(ta_pool_get_stats(f.pool, &b));
    CHECK_EQ(a.allocation_count, b.allocation_count);
    CHECK_EQ(a.freed_bytes, b.freed_bytes);
    CHECK_EQ(a.in_use_bytes, b.in_use_bytes);
    CHECK_EQ(a.reserved_bytes, b.reserved_bytes);
    CHECK_EQ(a.thread_hit_count, b.thread_hit_count);
    CHECK_OK(ta_pool_check(f.pool));
    CHECK_OK(ta_pool_destroy(plain));
    close_traced(&f);
}

static void a_full_ring_drops_the_oldest(void)
{
    fixture f;
    ta_trace_stats stats;
    seen s;
    sink text;
    reading r;
    void *kept, *old;
    int i;
    sink_open(&text);
    open_traced(&f, 16, NULL);
    old = ta_pool_alloc(f.pool, 777, NULL);
    for (i = 0; i < 50; i++) {
        CHECK_OK(ta_pool_free(f.pool, ta_pool_alloc(f.pool, 100, NULL)));
    }
    kept = ta_pool_alloc(f.pool, 4000, NULL);
    CHECK_OK(ta_pool_free(f.pool, old));
    CHECK_OK(ta_trace_get_stats(f.trace, &stats));
    CHECK_EQ(stats.event_count, stats.held_count + stats.dropped_count);
    CHECK_EQ(stats.held_count, 16);
    CHECK_GE(stats.dropped_count, 103 - 16);
    s = look(f.trace);
    CHECK_EQ(s.count, 16);
    CHECK(s.events[15].kind == TA_EVENT_FREE && s.events[15].ptr == old);
    free(s.events);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.dropped, stats.dropped_count);
    CHECK_GE(r.unknown, 1); /* old: its allocation was dropped */
    CHECK_EQ(r.live_bytes, 4000);
    CHECK_OK(ta_trace_get_stats(f.trace, &stats));
    CHECK_EQ(stats.held_count, 0);
    CHECK_EQ(stats.flushed_count, 16);
    CHECK_EQ(stats.event_count, stats.flushed_count + stats.dropped_count);
    CHECK_OK(ta_pool_free(f.pool, kept));
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text)); /* both flushes, as one trace */
    CHECK_EQ(r.live_bytes, 0);
    close_traced(&f);
    sink_close(&text);
}

static void a_text_is_a_trace(void)
{
    fixture f;
    sink text;
    reading r;
    void *a, *b;
    const char *previous;
    sink_open(&text);
    open_traced(&f, 0, NULL);
    previous = ta_tag_begin("line\nfeed \"quoted\" \xff\x80 \xe2\x82\xac");
    a = ta_pool_alloc(f.pool, 200000, NULL);
    ta_tag_end(previous);
    CHECK_OK(ta_trace_step(f.trace));
    b = ta_pool_alloc_aligned(f.pool, 100, 8192, NULL);
    CHECK_OK(ta_pool_resize_in_place(f.pool, a, 70000));
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK_OK(ta_trace_step(f.trace));
    CHECK_OK(ta_pool_free(f.pool, a));
    CHECK_OK(ta_pool_free(f.pool, b));
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.allocs, 3); /* the resize is one */
    CHECK_EQ(r.frees, 3);
    CHECK_EQ(r.steps, 2);
    CHECK_EQ(r.bytes, 200000 + 100 + 70000);
    CHECK_EQ(r.live_bytes, 0);
    CHECK_EQ(r.unknown, 0);
    CHECK(strstr(text.text, "a 1 200000 # ") != NULL);
    CHECK(strstr(text.text, "a 2 100 8192 # ") != NULL);
    CHECK(strstr(text.text, "f 1\na 3 70000 # ") != NULL);
    CHECK(strstr(text.text, "tag line feed \"quoted\" \xef\xbf\xbd\xef\xbf\xbd \xe2\x82\xac\n") != NULL);
    CHECK(strstr(text.text, "pool grow of ") != NULL);
    close_traced(&f);
    sink_close(&text);
}

/* The short way for large blocks of traced pools of one thread was open after dispose, and gave memory that was gone. */
static void disposed_pools_of_one_thread_give_nothing(void)
{
    ta_pool_desc desc;
    ta_trace *trace = NULL;
    ta_pool *pool = NULL;
    ta_result result = TA_OK;
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_trace_create(NULL, &trace));
    desc.trace = trace;
    desc.single_threaded = 1;
    CHECK_OK(ta_pool_create(&desc, &pool));
    CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, 100000, NULL)));
    CHECK_OK(ta_pool_dispose(pool));
    CHECK(ta_pool_alloc(pool, 100000, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_DISPOSED);
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_trace_destroy(trace));
}

static void clear_and_dispose_free_what_lives(void)
{
    fixture f;
    sink text;
    reading r;
    int i;
    sink_open(&text);
    open_traced(&f, 0, NULL);
    for (i = 0; i < 100; i++) {
        CHECK(ta_pool_alloc(f.pool, (size_t)i * 1000 + 1, NULL) != NULL);
    }
    CHECK_OK(ta_pool_clear(f.pool));
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.allocs, 100);
    CHECK_EQ(r.live_bytes, 0);
    CHECK(ta_pool_alloc(f.pool, 5000, NULL) != NULL);
    CHECK(ta_pool_alloc(f.pool, 500000, NULL) != NULL);
    CHECK_OK(ta_pool_dispose(f.pool));
    CHECK_RESULT(ta_pool_free(f.pool, &f), TA_ERROR_DISPOSED);
    CHECK(ta_pool_alloc(f.pool, 100, NULL) == NULL);
    CHECK(ta_pool_alloc(f.pool, 100000, NULL) == NULL);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.allocs, 102);
    CHECK_EQ(r.live_bytes, 0);
    CHECK_OK(ta_trace_destroy(f.trace)); /* nobody records into it any more */
    CHECK_OK(ta_pool_destroy(f.pool));
    sink_close(&text);
}

/* The text without what stands behind #: times differ. */
static void strip(char *text)
{
    char *to = text;
    while (*text != 0) {
        if (*text == '#') {
            while (*text != '\n') {
                text++;
            }
        }
        *to++ = *text++;
    }
    *to = 0;
}

static void fill(fixture *f)
{
    int i;
    void *kept[8];
    for (i = 0; i < 8; i++) {
        const char *previous = ta_tag_begin(i % 2 == 0 ? "even, and the name of it is rather long" : "odd");
        kept[i] = ta_pool_alloc(f->pool, (size_t)(i + 1) * 100, NULL);
        ta_tag_end(previous);
    }
    for (i = 0; i < 60; i++) {
        CHECK_OK(ta_pool_free(f->pool, ta_pool_alloc(f->pool, (size_t)i + 1, NULL)));
    }
    for (i = 0; i < 8; i++) {
        CHECK_OK(ta_pool_free(f->pool, kept[i]));
    }
}

static void a_sink_that_fails_loses_nothing(void)
{
    char *whole = NULL;
    uint64_t n, calls = 1;
    for (n = 0; n <= calls; n++) { /* first without a failure, then at each call */
        fixture f;
        sink text;
        reading r;
        int flushes = 0;
        test_context("failing at %d", (int)n);
        sink_open(&text);
        text.fails_at = n;
        open_traced(&f, 0, NULL);
        fill(&f);
        while (ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text) == TA_ERROR_BACKEND) {
            flushes++;
        }
        CHECK_EQ(flushes, n != 0);
        CHECK(read_text(&r, text.text));
        CHECK_EQ(r.allocs, 68);
        CHECK_EQ(r.frees, 68);
        strip(text.text);
        if (n == 0) {
            calls = text.calls;
            CHECK_GT(calls, 3);
            whole = text.text;
        } else {
            CHECK_STRING(text.text, whole);
            sink_close(&text);
        }
        close_traced(&f);
    }
    free(whole);
}

static void a_sink_may_use_the_pool(void)
{
    fixture f;
    sink text;
    reading r;
    sink_open(&text);
    open_traced(&f, 0, NULL);
    fill(&f);
    text.flushed = f.trace;
    text.used = f.pool;
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_GT(r.allocs, 68);
    close_traced(&f);
    sink_close(&text);
}

static void formats_may_change(void)
{
    fixture f;
    sink text, json;
    reading r;
    sink_open(&text);
    sink_open(&json);
    open_traced(&f, 0, NULL);
    fill(&f);
    json.fails_at = 2;
    CHECK_RESULT(ta_trace_flush(f.trace, TA_TRACE_CHROME, sink_write, &json), TA_ERROR_BACKEND);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(strstr(text.text, "traceEvents") == NULL); /* nothing of the document that was cut off */
    CHECK(read_text(&r, text.text));
    fill(&f);
    text.fails_at = text.calls + 1;
    CHECK_RESULT(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text), TA_ERROR_BACKEND);
    json.length = 0;
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_CHROME, sink_write, &json));
    CHECK(strncmp(json.text, "{\"traceEvents\":[", 16) == 0);
    CHECK(strstr(json.text, "\n],\"otherData\":{\"dropped\":0}}\n") != NULL);
    text.length = 0;
    fill(&f);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text)); /* frees nothing that no text has allocated */
    CHECK_EQ(r.allocs, 68);
    close_traced(&f);
    sink_close(&text);
    sink_close(&json);
}

/* Ids and counters hold over a change of formats and over blocks whose memory is used again. */
static void other_allocators_tell_too(void)
{
    ta_dynamic_desc desc;
    ta_shape_bounds bounds;
    ta_dynamic *dynamic;
    ta_handle handle;
    ta_trace *trace;
    int64_t least[1] = {1}, now[1] = {1000}, most[1] = {1000000};
    seen s;
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_trace_create(NULL, &trace));
    desc.on_event = ta_trace_event;
    desc.on_event_user = trace;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, least, now, most));
    CHECK_OK(ta_dynamic_create(&desc, &dynamic));
    CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
    now[0] = 5000;
    CHECK_OK(ta_dynamic_resize(dynamic, handle, now, 1));
    CHECK_OK(ta_dynamic_free(dynamic, handle));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    s = look(trace);
    CHECK_EQ(count_kind(&s, TA_EVENT_ALLOC), 1);
    CHECK_EQ(count_kind(&s, TA_EVENT_RESIZE), 1);
    CHECK_EQ(count_kind(&s, TA_EVENT_FREE), 1);
    CHECK_EQ(last_of(&s, TA_EVENT_RESIZE)->size_bytes, 20000);
    CHECK_STRING(last_of(&s, TA_EVENT_FREE)->name, "dynamic");
    free(s.events);
    CHECK_OK(ta_trace_destroy(trace));
}

static void many_names_share_one(void)
{
    ta_trace *trace;
    seen s;
    char name[40];
    int i;
    CHECK_OK(ta_trace_create(NULL, &trace));
    for (i = 0; i < 100; i++) {
        ta_event event;
        memset(&event, 0, sizeof event);
        (void)snprintf(name, sizeof name, "%d allocator with a long name", i);
        event.name = name;
        ta_trace_event(trace, &event);
    }
    ta_trace_event(trace, NULL);
    ta_trace_event(NULL, NULL);
    s = look(trace);
    CHECK_EQ(s.count, 100);
    CHECK_STRING(s.events[0].name, "0 allocator with a long name");
    CHECK_STRING(s.events[61].name, "61 allocator with a long name");
    CHECK_STRING(s.events[62].name, "others");
    CHECK_STRING(s.events[99].name, "others");
    free(s.events);
    CHECK_OK(ta_trace_destroy(trace));
}

static void bad_arguments(void)
{
    ta_trace_desc desc;
    ta_trace_stats stats;
    ta_trace *trace = (ta_trace *)(void *)&desc;
    ta_trace_format no_format;
    sink text;
    TEST_ALLOW_ASSERTS();
    memset(&no_format, 0x7f, sizeof no_format);
    sink_open(&text);
    memset(&desc, 0, sizeof desc);
    CHECK_RESULT(ta_trace_create(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    desc.event_count_max = 15;
    CHECK_RESULT(ta_trace_create(&desc, &trace), TA_ERROR_INVALID_ARGUMENT);
    CHECK(trace == NULL);
    desc.event_count_max = ((size_t)1 << 24) + 1;
    CHECK_RESULT(ta_trace_create(&desc, &trace), TA_ERROR_INVALID_ARGUMENT);
    desc.event_count_max = 17;
    CHECK_OK(ta_trace_create(&desc, &trace));
    CHECK_RESULT(ta_trace_step(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_clear(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_get_stats(NULL, &stats), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_get_stats(trace, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_for_each(NULL, see, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_for_each(trace, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_flush(NULL, TA_TRACE_TEXT, sink_write, &text), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_flush(trace, TA_TRACE_TEXT, NULL, &text), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_trace_flush(trace, no_format, sink_write, &text), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_trace_flush(trace, TA_TRACE_TEXT, sink_write, &text)); /* nothing to write */
    CHECK_EQ(text.calls, 0);
    CHECK_OK(ta_trace_flush(trace, TA_TRACE_CHROME, sink_write, &text));
    CHECK_STRING(text.text, "{\"traceEvents\":[],\"otherData\":{\"dropped\":0}}\n");
    CHECK_OK(ta_trace_destroy(NULL));
    CHECK_OK(ta_trace_destroy(trace));
    sink_close(&text);
}

static void without_memory(void)
{
    fixture f;
    sink text;
    reading r;
    ta_trace *trace;
    sink_open(&text);
    records_left = 0;
    CHECK_RESULT(ta_trace_create(NULL, &trace), TA_ERROR_RECORDS);
    records_left = -1;
    CHECK(trace == NULL);
    open_traced(&f, 0, NULL);
    fill(&f);
    records_left = 0;
    CHECK_RESULT(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text), TA_ERROR_RECORDS);
    records_left = -1;
    {
        seen s;
        memset(&s, 0, sizeof s);
        records_left = 0;
        CHECK_RESULT(ta_trace_for_each(f.trace, see, &s), TA_ERROR_RECORDS);
        records_left = -1;
        free(s.events);
    }
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.allocs, 68);
    close_traced(&f);
    sink_close(&text);
}

static void clear_forgets(void)
{
    fixture f;
    sink text;
    reading r;
    seen s;
    void *kept;
    sink_open(&text);
    open_traced(&f, 0, NULL);
    kept = ta_pool_alloc(f.pool, 100, NULL);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    fill(&f);
    CHECK_OK(ta_trace_clear(f.trace));
    s = look(f.trace);
    CHECK_EQ(s.count, 0);
    CHECK_OK(ta_pool_free(f.pool, kept));
    text.length = 0;
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.unknown, 1);
    CHECK_EQ(r.frees, 0);
    close_traced(&f);
    sink_close(&text);
}

/*---------------------------------------------------------------------------------------------------------
  Threads
  -------------------------------------------------------------------------------------------------------*/
enum { THREADS = 4, MAILBOXES = 64 };

typedef struct worker {
    ta_pool *pool;
    void **mailboxes; /* blocks pass from thread to thread */
    uint64_t seed;
    int count;
    int wrong;
} worker;

static void *work(void *argument)
{
    worker *w = (worker *)argument;
    uint64_t state = w->seed;
    int i;
    for (i = 0; i < w->count; i++) {
        void **box = &w->mailboxes[test_below(&state, MAILBOXES)];
        size_t size = (size_t)1 << test_below(&state, 18);
        const char *previous = ta_tag_begin((i & 1) != 0 ? "one" : "two");
        void *ptr = ta_pool_alloc(w->pool, size, NULL);
        ta_tag_end(previous);
        w->wrong += ptr == NULL;
        ptr = __atomic_exchange_n(box, ptr, __ATOMIC_ACQ_REL);
        w->wrong += ta_pool_free(w->pool, ptr) != TA_OK;
    }
    return NULL;
}

static void run_workers(ta_pool *pool, ta_trace *trace, sink *text, int count)
{
    void *mailboxes[MAILBOXES];
    worker workers[THREADS];
    pthread_t threads[THREADS];
    int i, wrong = 0;
    memset(mailboxes, 0, sizeof mailboxes);
    for (i = 0; i < THREADS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].pool = pool;
        workers[i].mailboxes = mailboxes;
        workers[i].seed = test_now.seed + (uint64_t)i;
        workers[i].count = count;
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (i = 0; i < 50 && text != NULL; i++) {
        CHECK_OK(ta_trace_flush(trace, TA_TRACE_TEXT, sink_write, text));
        CHECK_OK(ta_trace_step(trace));
    }
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        wrong += workers[i].wrong;
    }
    CHECK_EQ(wrong, 0);
    for (i = 0; i < MAILBOXES; i++) {
        CHECK_OK(ta_pool_free(pool, mailboxes[i]));
    }
}

static int by_address(const void *a, const void *b)
{
    const ta_event *x = *(const ta_event *const *)a, *y = *(const ta_event *const *)b;
    return x->ptr != y->ptr ? ((uintptr_t)x->ptr < (uintptr_t)y->ptr ? -1 : 1) : x < y ? -1 : 1;
}

/* Blocks go from thread to thread, and memory from block to block: at each address allocations and frees take turns. */
static void events_stand_in_their_order(void)
{
    fixture f;
    seen s;
    const ta_event **order;
    size_t i, count = 0, wrong = 0, threads = 0;
    ta_trace_stats stats;
    open_traced(&f, 65536, NULL);
    run_workers(f.pool, f.trace, NULL, 4000);
    CHECK_OK(ta_trace_get_stats(f.trace, &stats));
    CHECK_EQ(stats.dropped_count, 0);
    s = look(f.trace);
    order = (const ta_event **)malloc(s.count * sizeof *order);
    for (i = 0; i < s.count; i++) {
        wrong += i > 0 && s.events[i].time_ns < s.events[i - 1].time_ns;
        threads = s.events[i].thread > threads ? s.events[i].thread : threads;
        if (s.events[i].kind == TA_EVENT_ALLOC || s.events[i].kind == TA_EVENT_FREE) {
            order[count++] = &s.events[i];
        }
    }
    CHECK_EQ(count, 2 * THREADS * 4000);
    CHECK_GE(threads, THREADS);
    qsort((void *)order, count, sizeof *order, by_address);
    for (i = 0; i < count; i++) {
        int first = i == 0 || order[i]->ptr != order[i - 1]->ptr;
        wrong += order[i]->kind != (first || order[i - 1]->kind == TA_EVENT_FREE ? TA_EVENT_ALLOC : TA_EVENT_FREE);
        wrong += order[i]->kind == TA_EVENT_FREE && !first && (order[i]->size_bytes != order[i - 1]->size_bytes ||
                                                               order[i]->tag != order[i - 1]->tag);
    }
    CHECK_EQ(wrong, 0);
    free((void *)order);
    free(s.events);
    close_traced(&f);
}

static void flushes_while_others_allocate(void)
{
    fixture f;
    sink text;
    reading r;
    ta_trace_stats stats;
    sink_open(&text);
    open_traced(&f, 65536, NULL);
    run_workers(f.pool, f.trace, &text, 4000);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_EQ(r.allocs, THREADS * 4000);
    CHECK_EQ(r.frees, THREADS * 4000);
    CHECK_EQ(r.unknown, 0);
    CHECK_EQ(r.dropped, 0);
    CHECK_EQ(r.live_bytes, 0);
    CHECK_OK(ta_trace_get_stats(f.trace, &stats));
    CHECK_EQ(stats.event_count, stats.flushed_count);
    close_traced(&f);
    sink_close(&text);
}

/* A small ring that is lapped all the time: what is written is true, and everything is accounted for. */
static void a_lapped_ring_tells_no_lies(void)
{
    fixture f;
    sink text;
    reading r;
    ta_trace_stats stats;
    sink_open(&text);
    open_traced(&f, 16, NULL);
    run_workers(f.pool, f.trace, &text, 4000);
    CHECK_OK(ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(read_text(&r, text.text));
    CHECK_OK(ta_trace_get_stats(f.trace, &stats));
    CHECK_EQ(stats.event_count, stats.flushed_count + stats.dropped_count);
    CHECK_EQ(r.dropped, stats.dropped_count);
    CHECK_GT(r.dropped, 0);
    close_traced(&f);
    sink_close(&text);
}

static void a_forked_child_can_write_it(void)
{
#if defined(__SANITIZE_THREAD__)
    TEST_SKIP("ThreadSanitizer and fork");
#else
    fixture f;
    int status = -1;
    pid_t child;
    open_traced(&f, 0, NULL);
    fill(&f);
    child = fork();
    if (child == 0) {
        sink text;
        const char *previous;
        sink_open(&text);
        previous = ta_tag_begin("child");
        status = ta_trace_step(f.trace) == TA_OK && ta_pool_alloc(f.pool, 100, NULL) == NULL &&
                 ta_trace_flush(f.trace, TA_TRACE_TEXT, sink_write, &text) == TA_OK && text.length > 100;
        ta_tag_end(previous);
        _exit(status ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    close_traced(&f);
#endif
}

/* Whatever an event of one's own holds: kinds that there are have their word, others are left out. */
static void events_of_every_kind(void)
{
    static const int kinds[] = {-1, TA_EVENT_MISUSE, TA_EVENT_MISUSE + 1, 255, 256 + TA_EVENT_STEP};
    int format;
    for (format = 0; format < 2; format++) {
        ta_trace *trace = NULL;
        ta_trace_stats stats;
        sink text;
        size_t i;
        CHECK_OK(ta_trace_create(NULL, &trace));
        for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            ta_event event;
            memset(&event, 0, sizeof event);
            memcpy(&event.kind, &kinds[i], sizeof event.kind);
            event.result = TA_ERROR_OVERRUN;
            event.name = "mine";
            event.size_bytes = 1000;
            ta_trace_event(trace, &event);
            memset(&event.result, 0xff, sizeof event.result);
            ta_trace_event(trace, &event);
        }
        CHECK_OK(ta_trace_get_stats(trace, &stats));
        CHECK_EQ(stats.event_count, 1);
        sink_open(&text);
        CHECK_OK(ta_trace_flush(trace, format == 0 ? TA_TRACE_TEXT : TA_TRACE_CHROME, sink_write, &text));
        CHECK(strstr(text.text, "misuse") != NULL);
        CHECK(strstr(text.text, ta_result_text(TA_ERROR_OVERRUN)) != NULL);
        sink_close(&text);
        CHECK_OK(ta_trace_destroy(trace));
    }
}

static void texts_are_utf8(void)
{
    ta_trace *trace = NULL;
    ta_event event;
    sink text;
    REQUIRE(ta_trace_create(NULL, &trace) == TA_OK);
    memset(&event, 0, sizeof event);
    event.kind = TA_EVENT_GROW;
    event.size_bytes = 64;
    event.name = "\xc3(\xe2\x82\xac)";
    event.tag = "\xff" "a\n\xe2\x82 \xc3\xa9";
    ta_trace_event(trace, &event);
    sink_open(&text);
    CHECK_OK(ta_trace_flush(trace, TA_TRACE_TEXT, sink_write, &text));
    CHECK(strstr(text.text, " \xef\xbf\xbd(\xe2\x82\xac) grow of 64") != NULL);
    CHECK(strstr(text.text, " tag \xef\xbf\xbd" "a \xef\xbf\xbd \xc3\xa9\n") != NULL);
    sink_close(&text);
    CHECK_OK(ta_trace_destroy(trace));
}

TEST_MAIN(TEST_CASE(events_of_every_kind), TEST_CASE(regions_nest), TEST_CASE(the_same_name_is_the_same_text),
          TEST_CASE(long_names_are_cut_between_characters), TEST_CASE(blocks_take_tags),
          TEST_CASE(events_and_realloc_keep_tags), TEST_CASE(tags_of_tensors_with_bounds),
          TEST_CASE(without_memory_tags_have_a_common_name), TEST_CASE(too_many_tags_have_a_common_name),
          TEST_CASE(every_path_is_recorded), TEST_CASE(what_failed_is_recorded), TEST_CASE(tracing_changes_nothing),
          TEST_CASE(a_full_ring_drops_the_oldest), TEST_CASE(a_text_is_a_trace),
          TEST_CASE(clear_and_dispose_free_what_lives), TEST_CASE(disposed_pools_of_one_thread_give_nothing), TEST_CASE(a_sink_that_fails_loses_nothing),
          TEST_CASE(a_sink_may_use_the_pool), TEST_CASE(formats_may_change), TEST_CASE(other_allocators_tell_too),
          TEST_CASE(many_names_share_one), TEST_CASE(bad_arguments), TEST_CASE(without_memory),
          TEST_CASE(clear_forgets), TEST_CASE_THREADS(events_stand_in_their_order),
          TEST_CASE_THREADS(flushes_while_others_allocate), TEST_CASE_THREADS(a_lapped_ring_tells_no_lies),
          TEST_CASE_THREADS(a_forked_child_can_write_it), TEST_CASE(texts_are_utf8))
