/* test_golden.c - lives of pools, arenas, tensors with bounds, traces and graph pools over a device with a clock, as
   they were when this was committed: where blocks come from, what the backend is asked, events, figures, failures,
   reports and snapshots, as lines. Nothing here is right by itself; but what changes without a reason is a fault that
   other tests may not see, and with one the new lines are committed with it:

     test_golden --write >tests/golden.h
     test_golden_checked --write >tests/golden_checked.h */
#ifdef TENSORALLOC_CHECKED
    #define CHECKED (TENSORALLOC_CHECKED + 0 >= 2 ? 2 : 1)
#else
    #define CHECKED 0
#endif
#ifndef GOLDEN_CHECKED
    #define GOLDEN_CHECKED 0 /* which build the lines are of */
#endif
#if defined(__x86_64__) && defined(__linux__) && CHECKED == GOLDEN_CHECKED && \
    !defined(TENSORALLOC_NO_THREADS) && !defined(TENSORALLOC_MALLOC_BACKEND)
    #define TENSORALLOC_CUDA /* graph pools; no driver is asked */
    #define GOLDEN 1
#else
    #define GOLDEN 0
#endif
static unsigned long long golden_now;
static void golden_log(int result, const char *text);
#define TENSORALLOC_LOG(result, text) golden_log((int)(result), text)
#define TENSORALLOC_CLOCK_NS() ((uint64_t)(golden_now += 1000))
#define TENSORALLOC_WALL_CLOCK_NS() ((uint64_t)2000000)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"
#include "backends.h"

static const char *const golden[] = {
#if GOLDEN_CHECKED
    #include "golden_checked.h"
#else
    #include "golden.h"
#endif
};

#define MIB ((size_t)1 << 20)
#define LIVE_MAX 96
#define NAMES_MAX 65536

static struct {
    char text[1 << 18]; /* the lines */
    size_t length;
    uint64_t sum;       /* of what happened since the last line */
    uintptr_t names[NAMES_MAX]; /* addresses, numbered in the order of their first appearance */
    uint64_t numbers[NAMES_MAX], count;
} life;

/* A new beginning: malloc may give the address of an object that is gone again, or not. */
static void forget_names(void)
{
    memset(life.names, 0, sizeof life.names);
    life.count = life.sum = 0;
}

TEST_ATTRIBUTE((format(printf, 1, 2))) static void line(const char *format, ...)
{
    va_list arguments;
    int written;
    va_start(arguments, format);
    written = vsnprintf(life.text + life.length, sizeof life.text - life.length, format, arguments);
    va_end(arguments);
    life.length += written > 0 ? (size_t)written : 0;
    REQUIRE(life.length < sizeof life.text);
}

static void add(uint64_t value)
{
    life.sum = (life.sum ^ value) * 0x100000001B3u;
    life.sum ^= life.sum >> 29;
}

static void add_text(const char *text)
{
    for (; text != NULL && *text != 0; text++) {
        add((unsigned char)*text);
    }
}

static void golden_log(int result, const char *text)
{
    const char *address = strstr(text, "0x");
    add('!');
    add((uint64_t)result);
    for (; *text != 0 && text != address; text++) { /* what follows an address is left out */
        add((unsigned char)*text);
    }
}

/* The same for the same address, and no address. */
static uint64_t name_of(const void *ptr)
{
    const uintptr_t addr = (uintptr_t)ptr;
    size_t i = (size_t)((addr >> 6) * 0x9E3779B1u) % NAMES_MAX;
    if (addr == 0) {
        return 0;
    }
    while (life.names[i] != 0 && life.names[i] != addr) {
        i = (i + 1) % NAMES_MAX;
    }
    if (life.names[i] == 0) {
        life.names[i] = addr;
        life.numbers[i] = ++life.count;
    }
    return life.numbers[i];
}

/* What answers TA_OK, but in checked builds, where it may tell of leaks and of what was written. */
static void sound(ta_result result)
{
    add((uint64_t)result);
    CHECK(CHECKED > 0 || result == TA_OK);
}

/* A struct of numbers of 8 bytes. */
static void add_words(const void *at, size_t bytes)
{
    size_t i;
    for (i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, (const char *)at + i, 8);
        add(word);
    }
}

/* ---- a device: a clock that knows captures and graphs, and fails at times. What it is asked is a part of the life */
static struct device {
    tb_clock clock; /* the first */
    ta_backend_vtable table;
    uint32_t calls, fails_each; /* 0: never */
    int64_t code;
    ta_backend_info info;
    uint64_t captures[TB_STREAMS_MAX]; /* of each stream; 0: none */
    uint64_t capture_count;
    uint32_t *gone[64]; /* of each graph */
    uint32_t gone_count, all_gone, read_count;
} device;

static ta_result asked(int entry, const void *ptr, size_t size)
{
    add((uint64_t)entry);
    add(name_of(ptr));
    add(size);
    if (device.fails_each != 0 && ++device.calls % device.fails_each == 0) {
        device.code++;
        return entry == 'D' || entry == 'F' ? TA_ERROR_BACKEND : TA_ERROR_OUT_OF_MEMORY;
    }
    return TA_OK;
}

static void device_info(void *self, ta_backend_info *out)
{
    (void)self;
    *out = device.info;
}

static ta_result device_alloc(void *self, size_t size, void **out)
{
    const ta_result result = asked('A', NULL, size);
    return result != TA_OK ? result : tb_clock_alloc(self, size, out);
}

static ta_result device_free(void *self, void *ptr, size_t size)
{
    const ta_result result = asked('F', ptr, size);
    return result != TA_OK ? result : tb_clock_free(self, ptr, size);
}

static ta_result device_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    const ta_result result = asked('R', NULL, size);
    add(alignment);
    add(flags);
    return result != TA_OK ? result : tb_clock_reserve(self, size, alignment, flags, out);
}

static ta_result device_release(void *self, void *ptr, size_t size)
{
    add(name_of(ptr));
    add(size);
    return tb_clock_release(self, ptr, size);
}

static ta_result device_commit(void *self, void *ptr, size_t size)
{
    const ta_result result = asked('C', ptr, size);
    return result != TA_OK ? result : tb_clock_commit(self, ptr, size);
}

static ta_result device_decommit(void *self, void *ptr, size_t size)
{
    const ta_result result = asked('D', ptr, size);
    return result != TA_OK ? result : tb_clock_decommit(self, ptr, size);
}

static ta_result device_memory_info(void *self, size_t *out_free_bytes, size_t *out_total_bytes)
{
    (void)self;
    *out_total_bytes = 256 * MIB;
    *out_free_bytes = 200 * MIB - device.clock.held.bytes;
    return TA_OK;
}

static void device_last_error(void *self, ta_backend_error *out)
{
    (void)self;
    out->code = device.code;
    out->text = "weather";
}

static int captured(ta_stream stream)
{
    return stream < TB_STREAMS_MAX && device.captures[stream] != 0;
}

static ta_result device_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    add('m');
    add(stream);
    return captured(stream) ? TA_ERROR_CAPTURE : tb_clock_mark(self, stream, out_ticket);
}

static ta_result device_wait(void *self, ta_stream stream, uint64_t ticket)
{
    add('w');
    add(stream);
    return captured(stream) ? TA_ERROR_CAPTURE : tb_clock_wait(self, stream, ticket);
}

static ta_result device_is_done(void *self, uint64_t ticket)
{
    add('?');
    return tb_clock_is_done(self, ticket);
}

static ta_result device_sync(void *self, uint64_t ticket)
{
    add('s');
    return tb_clock_sync(self, ticket);
}

static void device_drop(void *self, uint64_t ticket)
{
    add('d');
    tb_clock_drop(self, ticket);
}

static ta_result device_adopt(void *self, uint64_t event, uint64_t *out_ticket) /* an event is a stream here */
{
    add('a');
    return tb_clock_mark(self, event, out_ticket);
}

static ta_result device_capture(void *self, ta_stream stream, uint64_t *out_id)
{
    (void)self;
    add('q');
    *out_id = stream < TB_STREAMS_MAX ? device.captures[stream] : 0;
    return TA_OK;
}

static int on_host(void)
{
    return device.clock.host_memory != NULL;
}

static ta_result device_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    add('z');
    add(name_of(ptr));
    add(size);
    add(stream);
    if (on_host()) {
        memset(ptr, 0, size);
        return TA_OK;
    }
    return captured(stream) ? TA_OK : tb_clock_zero(self, ptr, size, stream);
}

static ta_result device_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    add('c');
    add(size);
    add(stream);
    if (on_host()) {
        memcpy(dst, src, size);
        return TA_OK;
    }
    if ((uintptr_t)dst - device.clock.base >= TB_CLOCK_SPACE_BYTES) { /* to look at it: was it written? */
        memset(dst, ++device.read_count % 64 == 0, size);
        return TA_OK;
    }
    add(name_of(dst));
    add(name_of(src));
    return captured(stream) ? TA_OK : tb_clock_copy(self, dst, src, size, stream);
}

static ta_result device_attach(void *self, uint64_t graph, uint32_t *gone)
{
    (void)self;
    add('t');
    add(graph);
    if (device.gone_count == 64) {
        *gone = 1;
        return TA_ERROR_UNSUPPORTED;
    }
    *gone = device.all_gone;
    device.gone[device.gone_count++] = gone;
    return TA_OK;
}

static ta_backend device_open(uint32_t caps)
{
    ta_backend backend;
    memset(&device, 0, sizeof device);
    backend = tb_clock_init(&device.clock, caps, (caps & (uint32_t)TA_CAP_HOST_ACCESS) != 0);
    device.info = device.clock.given;
    if ((caps & (uint32_t)TA_CAP_HOST_ACCESS) != 0) { /* as the host, without order */
        device.info.caps = caps;
        device.info.alignment_bytes = 64;
    }
    device.table = device.clock.table;
    device.table.info = device_info;
    device.table.alloc = device_alloc;
    device.table.free = device_free;
    device.table.reserve = device_reserve;
    device.table.release = device_release;
    device.table.commit = device_commit;
    device.table.decommit = device_decommit;
    device.table.memory_info = device_memory_info;
    device.table.last_error = device_last_error;
    device.table.mark = device_mark;
    device.table.wait = device_wait;
    device.table.is_done = device_is_done;
    device.table.sync = device_sync;
    device.table.drop = device_drop;
    device.table.adopt = device_adopt;
    device.table.capture = device_capture;
    device.table.zero = device_zero;
    device.table.copy = device_copy;
    device.table.attach = device_attach;
    backend.vtable = &device.table;
    backend.self = &device;
    forget_names();
    return backend;
}

static void device_close(void)
{
    tb_clock_check(&device.clock);
    tb_clock_end(&device.clock);
}

/* Work on a stream, and at times the end of some. */
static void device_works(uint64_t *seed, int streams)
{
    const ta_stream stream = (ta_stream)test_below(seed, (uint32_t)streams + 1);
    if (!captured(stream)) {
        (void)tb_clock_item(&device.clock, tb_clock_stream(&device.clock, stream), NULL);
        if (test_below(seed, 6) == 0) {
            tb_clock_complete(&device.clock, stream);
        }
    }
}

/* ---- what can be seen of an allocator, as lines and sums */
static void on_event(void *user, const ta_event *event)
{
    if (user != NULL) {
        ta_trace_event(user, event);
    }
    add((uint64_t)event->kind);
    add((uint64_t)event->result);
    add(name_of(event->ptr));
    add(event->size_bytes);
    add(event->capacity_bytes);
    add(event->stream);
    add_text(event->tag);
    add_text(event->name);
    add(event->time_ns);
    add((uint64_t)event->hit);
    add(event->thread);
}

static void add_stats(const ta_stats *stats)
{
    ta_stats s = *stats;
    s.record_bytes = 0; /* changes with every field */
    add_words(&s, sizeof s);
}

static void add_budget(ta_budget *budget)
{
    ta_budget_stats s;
    memset(&s, 0xA5, sizeof s);
    CHECK_OK(ta_budget_get_stats(budget, &s));
    add_words(&s, sizeof s);
}

static void stats_line(const char *what, ta_allocator a)
{
    ta_stats s;
    memset(&s, 0xA5, sizeof s);
    CHECK_OK(ta_allocator_get_stats(a, &s));
    CHECK_NE(s.record_bytes, 0);
    add_stats(&s);
    line("%s %016llx reserved %llu in use %llu cached %llu requested %llu live %llu hits %llu failures %llu\n", what,
         (unsigned long long)life.sum, (unsigned long long)s.reserved_bytes, (unsigned long long)s.in_use_bytes,
         (unsigned long long)s.cached_bytes, (unsigned long long)s.requested_bytes, (unsigned long long)s.live_count,
         (unsigned long long)s.hit_count, (unsigned long long)s.failure_count);
}

static void add_block(const ta_block_info *block)
{
    add(name_of(block->ptr));
    add(block->requested_bytes);
    add(block->capacity_bytes);
    add((uint64_t)block->state);
    add(block->stream);
    add_text(block->tag);
    add(block->id.index);
    add(block->id.generation);
    add(block->committed_bytes);
}

static int add_walked(void *user, const ta_block_info *block)
{
    add_block(block);
    return user != NULL && --*(int *)user == 0;
}

static void failure_line(ta_allocator a)
{
    ta_failure f;
    char text[1024];
    memset(&f, 0xA5, sizeof f);
    CHECK_OK(ta_allocator_get_failure(a, &f));
    add((uint64_t)f.result);
    add(f.requested_bytes);
    add(f.alignment_bytes);
    add(f.stream);
    add_text(f.tag);
    add_words(&f.limit_bytes, (size_t)((char *)&f.verdict - (char *)&f.limit_bytes));
    add((uint64_t)f.verdict);
    add((uint64_t)f.action);
    add(f.action_bytes);
    add_words(&f.thread_cached_bytes, (size_t)((char *)&f.blocking_ptr - (char *)&f.thread_cached_bytes));
    add(name_of(f.blocking_ptr));
    add_words(&f.blocking_span_bytes, (size_t)((char *)&f.blocking_tag - (char *)&f.blocking_span_bytes));
    add_text(f.blocking_tag);
    add(f.blocking_tag_bytes);
    (void)ta_failure_report(&f, text, sizeof text);
    line("%016llx %s\n", (unsigned long long)life.sum, text);
}

typedef struct text_sink {
    char text[1 << 21];
    size_t length;
} text_sink;
static text_sink sink;

static ta_result write_text(void *user, const char *text, size_t bytes)
{
    (void)user;
    if (sink.length + bytes + 1 > sizeof sink.text) {
        return TA_ERROR_BACKEND;
    }
    memcpy(sink.text + sink.length, text, bytes);
    sink.length += bytes;
    sink.text[sink.length] = 0;
    return TA_OK;
}

/* What was written, addresses named; a line for each 4000 characters. Not how large records are, versions and ids. */
static void sink_lines(const char *what)
{
    static const char *const left_out[] = {
        "\"record_bytes\":", "\"library\":", "\"id\":\"", "\"budget\":\"", "\"upstream\":\"", "\"backend\":\"",
        "\"beside\":\"", "\"allocator\":\"", "\"thread\":", "# tensoralloc"
    };
    const char *at = sink.text;
    int count = 0;
    size_t i;
    while (*at != 0) {
        for (i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
            if (strncmp(at, left_out[i], strlen(left_out[i])) == 0) {
                add(i);
                at += strlen(left_out[i]);
                at += strcspn(at, ",\n}\"");
            }
        }
        if (strncmp(at, "\"0x", 3) == 0 && strcspn(at + 1, "\"") > 10) {
            char *end;
            add(name_of((const void *)(uintptr_t)strtoull(at + 1, &end, 16)));
            at = end;
        } else if (*at != 0) {
            add((unsigned char)*at++);
        }
        if (++count % 4000 == 0 || *at == 0) {
            line("%s %d %016llx\n", what, count, (unsigned long long)life.sum);
        }
    }
    sink.length = 0;
    sink.text[0] = 0;
}

static void snapshot_lines(const ta_allocator *of, size_t count)
{
    const ta_result result = ta_snapshot_write(of, count, NULL, write_text, NULL);
    CHECK_OK(result);
    sink_lines("snapshot");
}

static void report_lines(ta_allocator a)
{
    static char text[8192];
    char *records;
    CHECK_LT(ta_report(a, text, sizeof text), sizeof text);
    records = strstr(text, ", records");
    REQUIRE(records != NULL);
    line("%.*s\n", (int)(records - text), text);
}

static void pool_lines(ta_pool *pool)
{
    int i, stop = 3;
    add_budget(pool->space.budget);
    for (i = -1; i <= TA_BUCKET_COUNT; i++) {
        ta_bucket_stats bucket;
        memset(&bucket, 0xA5, sizeof bucket);
        add((uint64_t)ta_pool_get_bucket_stats(pool, i, &bucket));
        if (i >= 0 && i < TA_BUCKET_COUNT) {
            add_words(&bucket, sizeof bucket);
        }
    }
    add((uint64_t)ta_pool_walk(pool, add_walked, NULL));
    add((uint64_t)ta_pool_walk(pool, add_walked, &stop));
    add((uint64_t)ta_pool_for_each_live(pool, add_walked, NULL));
    sound(ta_pool_check(pool));
}

/* ---- random work on an allocator; the same for all of them */
typedef struct bench {
    void *ptrs[LIVE_MAX];
    size_t sizes[LIVE_MAX];
    int streams, ops;
    uint64_t seed;
} bench;

/* Over memory of the host: blocks are written, and are as they were when they are freed. At times, in checked builds,
   the byte behind a block is written; what free says of that is a part of the life. */
static void fill(const bench *b, uint32_t i, size_t from)
{
    if (on_host() && b->ptrs[i] != NULL && from < b->sizes[i]) {
        memset((char *)b->ptrs[i] + from, (int)i + 1, b->sizes[i] - from);
    }
}

static void look(const bench *b, uint32_t i, size_t bytes)
{
    if (on_host() && b->ptrs[i] != NULL && bytes != 0) {
        const unsigned char *at = (const unsigned char *)b->ptrs[i];
        CHECK_EQ(at[0], i + 1);
        CHECK_EQ(at[bytes - 1], i + 1);
    }
}

static void spoil(bench *b, ta_allocator a, uint32_t i)
{
    if (CHECKED > 0 && on_host() && b->ops % 16 == 3) {
        unsigned char *at = (unsigned char *)b->ptrs[i] + b->sizes[i];
        const unsigned char was = *at;
        ta_result result;
        *at = (unsigned char)(was + 1);
        add((uint64_t)ta_allocator_resize_in_place(a, b->ptrs[i], 0, b->sizes[i]));
        result = ta_allocator_free(a, b->ptrs[i], 0, 0, 0);
        add((uint64_t)result);
        if (result == TA_OK) { /* that is not seen here */
            b->ptrs[i] = NULL;
        } else {
            *at = was;
        }
    }
}

static void *work_alloc(bench *b, ta_allocator a, uint32_t i, uint32_t kind, ta_result *result)
{
    static const uint32_t scales[] = {200, 4000, 60000, 400000, 3000000};
    static const char *const tags[] = {"tag", "forward", "backward", NULL};
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = b->sizes[i] = 1 + test_below(&b->seed, scales[test_below(&b->seed, 5)]);
    request.alignment_bytes = kind == 0 ? (size_t)64 << test_below(&b->seed, 12) : 0;
    request.flags = kind == 1 ? (uint32_t)TA_REQUEST_CACHED_ONLY : kind == 5 ? (uint32_t)TA_REQUEST_WITHIN_BUDGET : 0;
    request.flags |= kind == 6 ? (uint32_t)TA_REQUEST_ZEROED : 0;
    request.stream = (ta_stream)test_below(&b->seed, (uint32_t)b->streams + 1);
    request.tag = kind >= 2 && kind <= 4 ? tags[test_below(&b->seed, 4)] : NULL;
    return ta_allocator_alloc(a, &request, result);
}

static ta_result work_change(bench *b, ta_allocator a, uint32_t i, uint32_t kind)
{
    const size_t size = 1 + b->sizes[i] / 2 + test_below(&b->seed, (uint32_t)b->sizes[i]), was = b->sizes[i];
    ta_result result = TA_OK;
    look(b, i, was);
    if (kind == 0) {
        result = ta_allocator_resize_in_place(a, b->ptrs[i], b->sizes[i], size);
    } else {
        void *moved = ta_allocator_remap(a, b->ptrs[i], 0, size, &result);
        b->ptrs[i] = moved != NULL ? moved : b->ptrs[i];
    }
    b->sizes[i] = result == TA_OK ? size : was;
    look(b, i, size < was ? size : was);
    fill(b, i, 0);
    return result;
}

/* What is none of its live blocks. */
static void work_wrong(ta_allocator a, bench *b, uint32_t i)
{
    ta_block_info info;
    memset(&info, 0xA5, sizeof info);
    add((uint64_t)ta_allocator_free(a, (char *)b->ptrs[i] + 32, 0, 0, 0));
    add((uint64_t)ta_allocator_free(a, b->ptrs[i], b->sizes[i] + 1, 0, 0));
    add((uint64_t)ta_allocator_free(a, b, 0, 0, 0));
    add((uint64_t)ta_allocator_resize_in_place(a, b->ptrs[i], 0, 0));
    add((uint64_t)ta_allocator_describe(a, (char *)b->ptrs[i] + 256, &info));
    add(info.capacity_bytes);
}

/* What pools can do besides. */
static void work_pool(ta_pool *pool, bench *b, uint32_t i, uint32_t kind)
{
    ta_result result = TA_OK;
    void *ptr = b->ptrs[i];
    const size_t size = 1 + test_below(&b->seed, 100000);
    const ta_stream other = (ta_stream)test_below(&b->seed, (uint32_t)b->streams + 1);
    size_t freed = 0xA5;
    switch (kind) {
    case 0:
        result = ta_pool_record_use(pool, ptr, other);
        if (ptr != NULL && !captured(other)) {
            (void)tb_clock_item(&device.clock, tb_clock_stream(&device.clock, other), NULL);
        }
        break;
    case 1:
        result = ta_pool_free_after(pool, ptr, other);
        b->ptrs[i] = result == TA_OK ? NULL : ptr;
        break;
    case 2:
        result = ta_pool_free_sized(pool, ptr, b->sizes[i]);
        b->ptrs[i] = result == TA_OK ? NULL : ptr;
        break;
    case 3:
        result = ta_pool_put(pool, ptr, b->sizes[i]);
        b->ptrs[i] = result == TA_OK ? NULL : ptr;
        break;
    case 4:
    case 5:
    case 6:
        if (ptr == NULL) {
            b->sizes[i] = size;
            b->ptrs[i] = kind == 4   ? ta_pool_get(pool, size, &result)
                         : kind == 5 ? ta_pool_get_aligned(pool, size, 4096, &result)
                                     : ta_pool_alloc_zeroed(pool, size, &result);
        }
        break;
    case 7:
        add(ta_pool_capacity_of(pool, ptr));
        add((uint64_t)ta_pool_owns(pool, ptr));
        ptr = (void *)((uintptr_t)ptr + 256);
        add(ta_pool_capacity_of(pool, ptr));
        add((uint64_t)ta_pool_owns(pool, ptr));
        break;
    case 8:
        result = b->seed % 4 == 0 ? ta_pool_thread_flush(pool) : ta_pool_reset_peaks(pool);
        break;
    case 9:
        result = ta_pool_seal(pool, test_below(&b->seed, 6) == 0);
        break;
    case 10:
        result = b->seed % 8 == 0 ? ta_pool_retire_stream(pool, other) : ta_pool_trim(pool, 4 * MIB, &freed);
        break;
    case 11:
        result = b->seed % 8 == 0 ? ta_pool_empty_cache(pool) : TA_OK;
        break;
    default:
        if (ptr != NULL) {
            const size_t more = 1 + test_below(&b->seed, (uint32_t)b->sizes[i] * 2);
            void *moved = ta_pool_realloc(pool, ptr, more, &result);
            b->sizes[i] = moved != NULL ? more : b->sizes[i];
            b->ptrs[i] = moved != NULL ? moved : ptr;
        }
        break;
    }
    fill(b, i, 0);
    add((uint64_t)result);
    add(name_of(b->ptrs[i]));
    add(freed);
}

static void work(const char *what, ta_allocator a, ta_pool *pool, bench *b, int ops)
{
    for (ops += b->ops; b->ops < ops;) {
        const uint32_t i = test_below(&b->seed, LIVE_MAX), kind = test_below(&b->seed, 10);
        ta_result result = TA_OK;
        if (pool != NULL && kind == 9 && test_below(&b->seed, 2) == 0) {
            work_pool(pool, b, i, test_below(&b->seed, 13));
        } else if (b->ptrs[i] == NULL) {
            b->ptrs[i] = work_alloc(b, a, i, kind, &result);
            fill(b, i, 0);
        } else if (kind < 2) {
            result = work_change(b, a, i, kind);
        } else {
            ta_block_info info;
            memset(&info, 0xA5, sizeof info);
            CHECK_OK(ta_allocator_describe(a, b->ptrs[i], &info));
            add_block(&info);
            look(b, i, b->sizes[i]);
            if (kind == 5) {
                work_wrong(a, b, i);
            }
            spoil(b, a, i);
            result = ta_allocator_free(a, b->ptrs[i], kind == 3 ? b->sizes[i] : 0, 0, kind == 4 ? info.stream : 0);
            b->ptrs[i] = result == TA_OK ? NULL : b->ptrs[i];
        }
        add((uint64_t)result);
        add(name_of(b->ptrs[i]));
        device_works(&b->seed, b->streams);
        if (pool != NULL && b->ops % 8 == 0) {
            sound(ta_pool_check(pool));
        }
        if (++b->ops % 250 == 0) {
            size_t freed = 0;
            stats_line(what, a);
            add((uint64_t)ta_allocator_trim(a, (size_t)test_below(&b->seed, 8) * MIB, &freed));
            add(freed);
            if (pool != NULL) {
                pool_lines(pool);
            }
        }
    }
}

/* Leaves nothing live. */
static void work_ends(ta_allocator a, bench *b)
{
    int i;
    for (i = 0; i < LIVE_MAX; i++) {
        sound(ta_allocator_free(a, b->ptrs[i], 0, 0, 0));
        b->ptrs[i] = NULL;
    }
    sound(ta_allocator_empty_cache(a));
}

static void pool_after_dispose(ta_pool *pool)
{
    static const size_t sizes[] = {0, 64, 4000, 100000, 3000000};
    ta_pool_desc desc;
    ta_stats stats;
    ta_bucket_stats bucket;
    ta_result result = TA_OK;
    size_t i;
    for (i = 0; i < 5; i++) {
        CHECK(ta_pool_alloc(pool, sizes[i], &result) == NULL);
        add((uint64_t)result);
        CHECK(ta_pool_alloc_stream(pool, sizes[i], i % 3, &result) == NULL);
        add((uint64_t)result);
        CHECK(ta_pool_alloc_aligned(pool, sizes[i], 4096, &result) == NULL);
        add((uint64_t)result);
        CHECK(ta_pool_alloc_zeroed(pool, sizes[i], &result) == NULL);
        add((uint64_t)result);
        CHECK(ta_pool_get(pool, sizes[i], &result) == NULL);
        add((uint64_t)result);
        add((uint64_t)ta_pool_free(pool, (void *)(device.clock.base + sizes[i])));
        add((uint64_t)ta_pool_free_sized(pool, (void *)(device.clock.base + sizes[i]), 64));
        add((uint64_t)ta_pool_put(pool, (void *)(device.clock.base + sizes[i]), 64));
        add((uint64_t)ta_pool_resize_in_place(pool, (void *)(device.clock.base + sizes[i]), 64));
        CHECK(ta_pool_realloc(pool, (void *)(device.clock.base + sizes[i]), 64, &result) == NULL);
        add((uint64_t)result);
        add(ta_pool_capacity_of(pool, (void *)(device.clock.base + sizes[i])));
        add((uint64_t)ta_pool_owns(pool, (void *)(device.clock.base + sizes[i])));
        add((uint64_t)ta_pool_record_use(pool, (void *)(device.clock.base + sizes[i]), 1));
        add((uint64_t)ta_pool_free_after(pool, (void *)(device.clock.base + sizes[i]), 1));
    }
    add((uint64_t)ta_pool_get_bucket_stats(pool, 3, &bucket));
    add((uint64_t)ta_pool_walk(pool, add_walked, NULL));
    add((uint64_t)ta_pool_for_each_live(pool, add_walked, NULL));
    add((uint64_t)ta_pool_check(pool));
    add((uint64_t)ta_pool_clear(pool));
    add((uint64_t)ta_pool_seal(pool, 1));
    add((uint64_t)ta_pool_trim(pool, 0, NULL));
    add((uint64_t)ta_pool_empty_cache(pool));
    add((uint64_t)ta_pool_thread_flush(pool));
    add((uint64_t)ta_pool_retire_stream(pool, 1));
    CHECK_OK(ta_pool_reset_peaks(pool));
    memset(&stats, 0xA5, sizeof stats);
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    add_stats(&stats);
    memset(&desc, 0xA5, sizeof desc);
    CHECK_OK(ta_pool_get_desc(pool, &desc));
    add_text(desc.name);
    add(desc.range_bytes);
    add(desc.block_count_max);
    add_budget(pool->space.budget);
}

/* The end of an allocator; what it still answers. */
static void dies(const char *what, ta_allocator a, ta_pool *pool)
{
    ta_block_info info;
    ta_result result = TA_OK;
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = 64;
    sound(ta_allocator_dispose(a));
    add((uint64_t)(ta_allocator_alloc(a, &request, &result) == NULL));
    add((uint64_t)result);
    add((uint64_t)ta_allocator_free(a, &request, 0, 0, 0));
    add((uint64_t)ta_allocator_describe(a, &request, &info));
    add((uint64_t)ta_allocator_trim(a, 0, NULL));
    add((uint64_t)ta_allocator_empty_cache(a));
    stats_line(what, a);
    failure_line(a);
    report_lines(a);
    snapshot_lines(&a, 1);
    if (pool != NULL) {
        pool_after_dispose(pool);
    }
    sound(ta_allocator_dispose(a));
    sound(ta_allocator_destroy(a));
    device_close();
}

/* ---- pools */
#define RANGES ((uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS)
#define SEGMENTS ((uint32_t)TA_CAP_SEGMENTS)

static void life_of_a_pool(const char *what, uint32_t caps, ta_pool_desc desc, int streams, uint32_t fails_each)
{
    bench b;
    ta_pool *pool;
    ta_allocator a;
    memset(&b, 0, sizeof b);
    b.seed = 17;
    b.streams = streams;
    desc.backend = device_open(caps);
    desc.range_bytes = 32 * MIB;
    desc.block_count_max = 4096;
    desc.limit_bytes = 24 * MIB;
    CHECK_OK(ta_pool_create(&desc, &pool));
    a = ta_pool_allocator(pool);
    device.fails_each = fails_each;
    work(what, a, pool, &b, 1000);
    device.fails_each = 0;
    CHECK(ta_pool_alloc(pool, 23 * MIB, NULL) == NULL);
    failure_line(a);
    report_lines(a);
    snapshot_lines(&a, 1);
    sound(ta_pool_clear(pool));
    memset(b.ptrs, 0, sizeof b.ptrs);
    stats_line(what, a);
    work(what, a, pool, &b, 250);
    dies(what, a, pool);
}

static ta_pool_desc pool_plain(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.single_threaded = 1;
    return desc;
}

static void pools(void)
{
    ta_pool_desc desc = pool_plain();
    life_of_a_pool("ranges", RANGES, desc, 0, 0);
    life_of_a_pool("ranges, streams", RANGES, desc, 3, 0);
}

static void pools_of_the_host(void)
{
    ta_pool_desc desc = pool_plain();
    life_of_a_pool("host", RANGES | (uint32_t)TA_CAP_HOST_ACCESS, desc, 0, 0);
    desc.on_event = on_event;
    desc.slack_bytes_max = 1000;
    life_of_a_pool("host, segments", SEGMENTS | (uint32_t)TA_CAP_HOST_ACCESS, desc, 0, 4);
}

static void pools_with_locks(void)
{
    ta_pool_desc desc = pool_plain();
    desc.single_threaded = 0;
    life_of_a_pool("locks", RANGES, desc, 3, 0);
    desc.thread_cache_bytes = 65536;
    desc.thread_cache_block_bytes = 8192;
    desc.cached_bytes_max = 4 * MIB;
    desc.classes_per_doubling = 2;
    life_of_a_pool("small caches", RANGES, desc, 3, 0);
}

static void pools_of_segments(void)
{
    ta_pool_desc desc = pool_plain();
    life_of_a_pool("segments", SEGMENTS, desc, 3, 0);
    desc.initial_bytes = 8 * MIB;
    desc.slack_bytes_max = 65536;
    life_of_a_pool("segments with slack", SEGMENTS, desc, 0, 0);
}

static void pools_with_events(void)
{
    ta_pool_desc desc = pool_plain();
    desc.disable_stealing = 1;
    desc.slack_bytes_max = 4096;
    desc.on_event = on_event;
    life_of_a_pool("events", RANGES, desc, 3, 0);
    desc.name = "a name that is longer than thirty-one bytes";
    desc.initial_bytes = 16 * MIB;
    life_of_a_pool("events and failures", SEGMENTS, desc, 2, 5);
}

static void pools_in_bad_weather(void)
{
    ta_pool_desc desc = pool_plain();
    life_of_a_pool("bad weather", RANGES, desc, 3, 4);
    life_of_a_pool("bad weather, segments", SEGMENTS, desc, 3, 3);
}

static void pools_zeroed(void)
{
    ta_pool_desc desc = pool_plain();
    desc.zeroed = 1;
    life_of_a_pool("zeroed", RANGES, desc, 2, 0);
    desc.zeroed = 0;
    desc.disable_thread_caches = desc.tag_blocks = 1;
    desc.huge_pages = TA_HUGE_PAGES_ON;
    desc.initial_bytes = 16 * MIB;
    life_of_a_pool("no caches", RANGES, desc, 2, 0);
}

static void pools_as_specified(void)
{
    ta_pool_desc desc = ta_pool_desc_spec();
    desc.single_threaded = 1;
    life_of_a_pool("specification", RANGES, desc, 2, 0);
    desc.disable_ranges = 1;
    desc.buffers_per_bucket_max = 2;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    life_of_a_pool("specification, segments", RANGES, desc, 2, 0);
}

/* ---- a pool, an arena and a direct allocator over one budget, which ask each other */
static int give_some(void *user, const ta_failure *failure)
{
    add((uint64_t)failure->verdict);
    add(failure->action_bytes);
    if (--*(int *)user % 2 != 0) { /* every other time nothing can be done */
        return 0;
    }
    add((uint64_t)failure->count);
    return 1;
}

static void life_of_siblings(const char *what, uint32_t caps)
{
    bench benches[3];
    ta_budget_desc limit;
    ta_budget *budget;
    ta_pool_desc pool_desc;
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_pool *pool;
    ta_arena *arena;
    ta_direct *direct;
    ta_allocator all[3];
    int i, patience = 1000;
    memset(&limit, 0, sizeof limit);
    memset(&pool_desc, 0, sizeof pool_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(benches, 0, sizeof benches);
    limit.backend = device_open(caps);
    limit.limit_bytes = 24 * MIB;
    CHECK_OK(ta_budget_create(&limit, &budget));
    pool_desc.budget = arena_desc.budget = direct_desc.budget = budget;
    pool_desc.range_bytes = arena_desc.range_bytes = 32 * MIB;
    pool_desc.block_count_max = 4096;
    pool_desc.on_event = arena_desc.on_event = direct_desc.on_event = on_event;
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    pool_desc.on_out_of_memory = give_some;
    pool_desc.on_out_of_memory_user = &patience;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    CHECK_OK(ta_direct_create(&direct_desc, &direct));
    all[0] = ta_pool_allocator(pool);
    all[1] = ta_arena_allocator(arena);
    all[2] = ta_direct_allocator(direct);
    for (i = 0; i < 3; i++) {
        benches[i].seed = 5 + (uint64_t)i;
        benches[i].streams = 0;
    }
    for (i = 0; i < 8; i++) {
        work(what, all[0], pool, &benches[0], 125);
        memset(benches[1].ptrs, 0, sizeof benches[1].ptrs); /* the pool may have reset it */
        CHECK_OK(ta_arena_reset(arena, i % 2 ? 4 * MIB : TA_UNLIMITED));
        work(what, all[1], NULL, &benches[1], 125);
        work(what, all[2], NULL, &benches[2], 125);
        work_ends(all[i % 2 ? 2 : 0], &benches[i % 2 ? 2 : 0]);
        add_budget(budget);
        CHECK_OK(ta_budget_set_limit(budget, (size_t)(20 + i) * MIB));
    }
    for (i = 0; i < 3; i++) {
        stats_line(what, all[i]);
        failure_line(all[i]);
        report_lines(all[i]);
    }
    snapshot_lines(all, 3);
    sound(ta_direct_destroy(direct));
    sound(ta_arena_destroy(arena));
    sound(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    device_close();
}

static void siblings(void)
{
    life_of_siblings("siblings", RANGES);
    life_of_siblings("siblings in segments", SEGMENTS);
    life_of_siblings("siblings on the host", RANGES | (uint32_t)TA_CAP_HOST_ACCESS);
}

/* ---- arenas */
static void life_of_an_arena(const char *what, uint32_t caps, ta_arena_desc desc, uint32_t fails_each)
{
    ta_arena *arena;
    ta_allocator a;
    ta_arena_mark marks[3];
    bench b;
    int i;
    memset(marks, 0, sizeof marks);
    memset(&b, 0, sizeof b);
    b.seed = 31;
    desc.backend = device_open(caps);
    desc.range_bytes = 16 * MIB;
    desc.limit_bytes = 40 * MIB;
    CHECK_OK(ta_arena_create(&desc, &arena));
    a = ta_arena_allocator(arena);
    device.fails_each = fails_each;
    for (i = 0; i < 24; i++) {
        work(what, a, NULL, &b, 25 + i);
        add((uint64_t)ta_arena_rewind(arena, marks[i % 3]));
        if (i % 3 == 0) { /* what was allocated since is gone: forget all that is not live */
            int k;
            for (k = 0; k < LIVE_MAX; k++) {
                ta_block_info info;
                b.ptrs[k] = b.ptrs[k] != NULL && ta_allocator_describe(a, b.ptrs[k], &info) == TA_OK ? b.ptrs[k] : NULL;
            }
        }
        marks[(i + 1) % 3] = ta_arena_get_mark(arena);
        add(marks[(i + 1) % 3].block_count);
        add(marks[(i + 1) % 3].epoch);
        add_budget(arena->common.budget);
        if (i % 6 == 5) {
            add((uint64_t)ta_arena_reset(arena, i == 5 ? 0 : i == 11 ? TA_UNLIMITED : 3 * MIB));
            add((uint64_t)ta_arena_reset_peaks(arena));
            memset(b.ptrs, 0, sizeof b.ptrs);
        }
        if (i % 3 != 0) {
            int k;
            for (k = 0; k < LIVE_MAX; k++) {
                ta_block_info info;
                b.ptrs[k] = b.ptrs[k] != NULL && ta_allocator_describe(a, b.ptrs[k], &info) == TA_OK ? b.ptrs[k] : NULL;
            }
        }
        stats_line(what, a);
    }
    device.fails_each = 0;
    CHECK(ta_arena_alloc(arena, 39 * MIB, NULL) == NULL || caps == SEGMENTS);
    failure_line(a);
    snapshot_lines(&a, 1);
    dies(what, a, NULL);
}

static void arenas(void)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    life_of_an_arena("arena", RANGES, desc, 0);
    desc.on_event = on_event;
    life_of_an_arena("arena in segments", SEGMENTS, desc, 0);
    desc.zeroed = desc.single_threaded = 1;
    desc.chunk_bytes = 65536;
    life_of_an_arena("arena zeroed", SEGMENTS, desc, 0);
    desc.chunk_bytes = 0;
    life_of_an_arena("arena of the host", RANGES | (uint32_t)TA_CAP_HOST_ACCESS, desc, 0);
    desc.chunk_bytes = 65536;
    life_of_an_arena("arena in bad weather", RANGES, desc, 3);
    life_of_an_arena("arena in bad weather, segments", SEGMENTS, desc, 2);
}

static void directs(void)
{
    ta_direct_desc desc;
    ta_direct *direct;
    ta_allocator a;
    bench b;
    int i;
    for (i = 0; i < 3; i++) {
        memset(&desc, 0, sizeof desc);
        memset(&b, 0, sizeof b);
        b.seed = 41;
        b.streams = 2;
        desc.backend = device_open(i < 2 ? SEGMENTS : SEGMENTS | (uint32_t)TA_CAP_HOST_ACCESS);
        desc.limit_bytes = 24 * MIB;
        desc.on_event = i != 0 ? on_event : NULL;
        device.info.alignment_bytes = 64;
        CHECK_OK(ta_direct_create(&desc, &direct));
        device.fails_each = i == 1 ? 5 : 0;
        work("direct", ta_direct_allocator(direct), NULL, &b, 600);
        device.fails_each = 0;
        failure_line(ta_direct_allocator(direct));
        add_budget(direct->common.budget);
        a = ta_direct_allocator(direct);
        snapshot_lines(&a, 1);
        CHECK_OK(ta_direct_reset_peaks(direct));
        dies("direct", a, NULL);
    }
}

/* ---- tensors with bounds */
typedef struct tensors {
    ta_handle handles[12];
    int64_t sizes[12];
    uint64_t seed;
    ta_dynamic *dynamic;
} tensors;

static void dynamic_line(const char *what, ta_dynamic *dynamic)
{
    ta_dynamic_stats s;
    memset(&s, 0xA5, sizeof s);
    CHECK_OK(ta_dynamic_get_stats(dynamic, &s));
    add_words(&s.handle_count, (size_t)((char *)&s.average_utilization - (char *)&s.handle_count));
    add((uint64_t)(s.average_utilization * 1e6));
    add_words(&s.allocation_count, (size_t)((char *)&s.regret - (char *)&s.allocation_count));
    add((uint64_t)(s.regret * 1e6));
    stats_line(what, ta_dynamic_allocator(dynamic));
}

static void add_handle(const ta_handle_info *info)
{
    add(name_of(info->data));
    add(info->effective_bytes);
    add(info->capacity_bytes);
    add(info->in_place_bytes);
    add((uint64_t)(info->utilization * 1e6));
    add((uint64_t)info->rank);
    add((uint64_t)info->in_range);
    add_words(info->dims, sizeof info->dims);
    add((uint64_t)info->bounds.dtype);
    add((uint64_t)info->bounds.max[0]);
    add(info->allocation_time_ns);
    add(info->use_count);
    add(info->stream);
    add_text(info->tag);
    add_text(info->strategy.vtable != NULL ? info->strategy.vtable->name : "none");
}

static ta_result tensor_new(tensors *all, uint32_t i, uint32_t kind, int64_t most)
{
    static const char *const tags[] = {"cache", "tokens", NULL};
    const int64_t least = 1;
    ta_dynamic_request request;
    ta_shape_bounds bounds;
    int64_t dims = all->sizes[i] = 1 + most / 10 + (int64_t)test_below(&all->seed, (uint32_t)most / 2);
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &dims, &most));
    bounds.max[0] = i == 11 ? TA_DIM_UNBOUNDED : most;
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.dims = kind == 5 ? &least : NULL;
    request.site = kind < 6 ? 1 + i % 4 : 0;
    request.flags = kind == 0 ? (uint32_t)TA_DYNAMIC_GROWING : kind == 4 ? (uint32_t)TA_REQUEST_ZEROED : 0;
    request.flags |= kind == 8 ? (uint32_t)TA_REQUEST_WITHIN_BUDGET : 0;
    request.site = kind == 0 ? 9 : request.site;
    request.stream = (ta_stream)(i % 3);
    request.alignment_bytes = kind == 7 ? (size_t)256 << test_below(&all->seed, 10) : 0;
    request.tag = tags[i % 3];
    if (kind == 9 || kind == 10) {
        request.strategy = kind == 9 ? ta_strategy_adaptive(NULL) : ta_strategy_padding(NULL);
    }
    return ta_dynamic_alloc_request(all->dynamic, &request, &all->handles[i]);
}

static ta_result tensor_does(tensors *all, uint32_t i, uint32_t kind, int64_t most)
{
    ta_dynamic *d = all->dynamic;
    int64_t dims[2] = {0, 1};
    ta_result result;
    dims[0] = kind < 8 ? all->sizes[i] + (int64_t)test_below(&all->seed, (uint32_t)most / 20 + 1)
                       : 1 + (int64_t)test_below(&all->seed, (uint32_t)most);
    dims[0] = kind == 11 ? dims[0] + most / 2 : dims[0] < most ? dims[0] : most;
    switch (kind) {
    case 0:
        result = ta_dynamic_free(d, all->handles[i]);
        if (result == TA_OK) {
            add((uint64_t)ta_dynamic_free(d, all->handles[i]));
            add((uint64_t)(ta_dynamic_get_data(d, all->handles[i]) == NULL));
            memset(&all->handles[i], 0, sizeof all->handles[i]);
        }
        return result;
    case 1:
        return ta_dynamic_record_use(d, all->handles[i], (ta_stream)test_below(&all->seed, 4));
    case 2:
        return ta_dynamic_observe(d, all->handles[i], dims, 1);
    case 3:
        return ta_dynamic_will_fit_in_place(d, all->handles[i], dims, 1);
    case 4:
        add((uint64_t)(ta_dynamic_resize_data(d, all->handles[i], dims, 2, &result) == NULL));
        return result;
    default:
        result = ta_dynamic_resize(d, all->handles[i], dims, 1);
        all->sizes[i] = result == TA_OK ? dims[0] : all->sizes[i];
        return result;
    }
}

static void tensors_ask(tensors *all)
{
    ta_shape_bounds bounds[2];
    ta_fit fit;
    const int64_t least[2] = {1, 3}, most[2] = {5000000, 64};
    int64_t now[2] = {0, 7};
    size_t freed = 0, keep;
    now[0] = 1 + (int64_t)test_below(&all->seed, 4000000);
    CHECK_OK(ta_shape_bounds_init(&bounds[0], TA_F32, 1, least, now, most));
    CHECK_OK(ta_shape_bounds_init(&bounds[1], TA_F16, 2, least, now, most));
    memset(&fit, 0xA5, sizeof fit);
    add((uint64_t)ta_dynamic_would_fit(all->dynamic, bounds, 2, &fit));
    add_words(&fit, sizeof(size_t) * 4);
    add((uint64_t)(fit.fits_min + 2 * fit.fits_expected + 4 * fit.fits_max));
    keep = (size_t)test_below(&all->seed, 4) * MIB;
    add((uint64_t)ta_allocator_trim(ta_dynamic_allocator(all->dynamic), keep, &freed));
    add(freed);
}

static void tensors_work(const char *what, tensors *all, int ops)
{
    int op;
    for (op = 1; op <= ops; op++) {
        const uint32_t i = test_below(&all->seed, 12), kind = test_below(&all->seed, 12);
        const int64_t most = (int64_t)1000 << (2 * (i % 6));
        const ta_result result =
            all->handles[i].owner == 0 ? tensor_new(all, i, kind, most) : tensor_does(all, i, kind, most);
        ta_handle_info info;
        ta_tensor tensor;
        memset(&info, 0xA5, sizeof info);
        add((uint64_t)result);
        add((uint64_t)ta_dynamic_get_handle(all->dynamic, all->handles[i], &info));
        add_handle(&info);
        add((uint64_t)ta_dynamic_get_tensor(all->dynamic, all->handles[i], &tensor));
        add(tensor.buffer.size_bytes);
        add(tensor.buffer.capacity_bytes);
        device_works(&all->seed, 2);
        if (all->dynamic->pool != NULL && op % 8 == 0) {
            sound(ta_pool_check(all->dynamic->pool));
        }
        if (op % 250 == 0) {
            dynamic_line(what, all->dynamic);
            add_budget(all->dynamic->common.budget);
            tensors_ask(all);
        }
    }
}

/* kind: 0 over a pool of the same budget, 1 over its own, 2 a device whose addresses are few, 3 over an arena alone */
/* Plain blocks are handles too. */
static void blocks_of_tensors(ta_dynamic *dynamic)
{
    const ta_allocator a = ta_dynamic_allocator(dynamic);
    bench b;
    memset(&b, 0, sizeof b);
    b.seed = 29;
    b.streams = 2;
    work("plain", a, NULL, &b, 500);
    snapshot_lines(&a, 1);
    work_ends(a, &b);
}

static void life_of_tensors(const char *what, uint32_t caps, int kind, ta_dynamic_desc desc, uint32_t fails_each)
{
    static char text[8192];
    ta_budget_desc limit;
    ta_budget *budget = NULL;
    ta_pool_desc blocks = pool_plain();
    ta_pool *pool = NULL;
    ta_allocator seen[2];
    tensors all;
    memset(&limit, 0, sizeof limit);
    memset(&all, 0, sizeof all);
    all.seed = 23;
    limit.backend = device_open(caps);
    limit.limit_bytes = 48 * MIB;
    blocks.range_bytes = 32 * MIB;
    blocks.block_count_max = 4096;
    if (kind == 2) {
        device.info.range_bytes_max = 256 * MIB;
    }
    if (kind == 3) {
        blocks.backend = limit.backend;
        blocks.limit_bytes = 32 * MIB;
        desc.backend.vtable = NULL;
        CHECK_OK(ta_pool_create(&blocks, &pool));
        desc.upstream = ta_pool_allocator(pool);
    } else {
        CHECK_OK(ta_budget_create(&limit, &budget));
        blocks.budget = desc.budget = budget;
        if (kind == 0) {
            CHECK_OK(ta_pool_create(&blocks, &pool));
            desc.upstream = ta_pool_allocator(pool);
        }
    }
    desc.range_bytes = desc.unbounded_bytes = 64 * MIB; /* the default depends on the machine */
    desc.handle_count_max = 1024;
    CHECK_OK(ta_dynamic_create(&desc, &all.dynamic));
    device.fails_each = fails_each;
    tensors_work(what, &all, 1250);
    device.fails_each = 0;
    blocks_of_tensors(all.dynamic);
    CHECK_LT(ta_dynamic_report(all.dynamic, text, sizeof text), sizeof text);
    line("%s", text);
    failure_line(ta_dynamic_allocator(all.dynamic));
    seen[0] = ta_dynamic_allocator(all.dynamic);
    if (pool != NULL) {
        seen[1] = ta_pool_allocator(pool);
        stats_line("blocks", seen[1]);
    }
    snapshot_lines(seen, pool != NULL ? 2 : 1);
    sound(ta_allocator_dispose(seen[0]));
    dynamic_line(what, all.dynamic);
    add_budget(all.dynamic->common.budget);
    sound(ta_dynamic_destroy(all.dynamic));
    sound(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    device_close();
}

static ta_dynamic_desc tensors_plain(void)
{
    ta_dynamic_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

static void tensors_over_a_pool(void)
{
    ta_dynamic_desc desc = tensors_plain();
    desc.single_threaded = 1;
    life_of_tensors("tensors on the host", RANGES | (uint32_t)TA_CAP_HOST_ACCESS, 0, desc, 0);
    life_of_tensors("tensors", RANGES, 0, desc, 0);
    life_of_tensors("tensors in segments", SEGMENTS, 0, desc, 0);
}

static void tensors_alone(void)
{
    ta_dynamic_desc desc = tensors_plain();
    desc.range_bytes_min = 65536;
    desc.capacity_bytes_max = 24 * MIB;
    desc.on_event = on_event;
    life_of_tensors("tensors alone", RANGES, 1, desc, 0);
    desc.cached_bytes_max = 2 * MIB;
    desc.capacity_bytes_max = 0;
    desc.strict = 1;
    desc.strategy = ta_strategy_exact();
    life_of_tensors("tensors exact", RANGES, 2, desc, 0);
}

static void tensors_in_bad_weather(void)
{
    ta_dynamic_desc desc = tensors_plain();
    desc.range_bytes_min = 65536;
    desc.on_event = on_event;
    life_of_tensors("tensors in bad weather", RANGES, 1, desc, 3);
    desc.huge_pages = TA_HUGE_PAGES_ON;
    life_of_tensors("tensors on huge pages", RANGES, 2, desc, 7);
}

static void tensors_of_others(void)
{
    ta_dynamic_desc desc = tensors_plain();
    desc.disable_ranges = 1;
    desc.strategy = ta_strategy_adaptive(NULL);
    life_of_tensors("tensors in blocks", RANGES, 1, desc, 0);
    life_of_tensors("tensors of a pool alone", RANGES | (uint32_t)TA_CAP_HOST_ACCESS, 3, desc, 0);
    life_of_tensors("tensors in bad weather", SEGMENTS | (uint32_t)TA_CAP_HOST_ACCESS, 3, desc, 4);
}

/* ---- traces */
static void traces(void)
{
    enum { MANY = 600 };
    static const char *const regions[] = {"forward", "backward", "step"};
    static void *many[MANY];
    ta_trace_desc desc;
    ta_trace_stats stats;
    ta_trace *trace;
    ta_pool_desc pool_desc = pool_plain();
    ta_pool *pool;
    ta_allocator a;
    bench b;
    int i;
    memset(&desc, 0, sizeof desc);
    memset(&b, 0, sizeof b);
    desc.event_count_max = 100;
    CHECK_OK(ta_trace_create(&desc, &trace));
    b.seed = 61;
    pool_desc.backend = device_open(RANGES);
    pool_desc.range_bytes = 32 * MIB;
    pool_desc.block_count_max = 4096;
    pool_desc.limit_bytes = 24 * MIB;
    pool_desc.trace = trace;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    a = ta_pool_allocator(pool);
    for (i = 0; i < 24; i++) {
        const char *outer = ta_tag_begin(regions[i % 3]), *inner = ta_tag_begin(i % 4 == 0 ? "layer" : NULL);
        ta_event event;
        char name[40];
        work("traced", a, pool, &b, 12 + i * 2);
        memset(&event, 0, sizeof event);
        (void)snprintf(name, sizeof name, "allocator %d of those with long names", i % 6);
        event.name = name;
        event.kind = (ta_event_kind)(i % 9);
        event.result = (ta_result)(i % 3);
        event.ptr = (void *)(uintptr_t)(4096 * (unsigned)(1 + i % 5));
        event.size_bytes = (size_t)(100 * i);
        event.capacity_bytes = (size_t)(128 * i);
        event.tag = i % 2 ? "a tag" : NULL;
        event.stream = (ta_stream)i;
        event.time_ns = (uint64_t)i * 1000003;
        ta_trace_event(trace, &event);
        CHECK_OK(ta_trace_step(trace));
        ta_tag_end(inner);
        ta_tag_end(outer);
        memset(&stats, 0xA5, sizeof stats);
        CHECK_OK(ta_trace_get_stats(trace, &stats));
        add_words(&stats, sizeof stats);
        if (i % 8 == 2) {
            CHECK_OK(ta_trace_for_each(trace, on_event, NULL));
        } else if (i % 4 == 3) {
            CHECK_OK(ta_trace_flush(trace, i % 8 == 3 ? TA_TRACE_TEXT : TA_TRACE_CHROME, write_text, NULL));
            sink_lines(i % 8 == 3 ? "text" : "chrome");
        } else if (i == 13) {
            CHECK_OK(ta_trace_clear(trace));
        }
    }
    for (i = 0; i < 2 * MANY; i++) { /* more live blocks than it has places for at first */
        if (i < MANY) {
            many[i] = ta_pool_alloc(pool, (size_t)(64 + i), NULL);
        } else {
            sound(ta_pool_free(pool, many[i - MANY]));
        }
        if (i % 60 == 59) {
            CHECK_OK(ta_trace_flush(trace, TA_TRACE_TEXT, write_text, NULL));
            sink_lines("many");
        }
    }
    sound(ta_pool_destroy(pool));
    CHECK_OK(ta_trace_flush(trace, TA_TRACE_CHROME, write_text, NULL));
    sink_lines("chrome");
    CHECK_OK(ta_trace_destroy(trace));
    device_close();
}

/* ---- graph pools */
#ifdef TENSORALLOC_CUDA
enum { GRAPH_POOLS = 2, GRAPHS_MAX = 64 };

typedef struct graphs {
    ta_pool *pool;
    ta_graph_pool *of[GRAPH_POOLS];
    ta_stream scopes[GRAPH_POOLS]; /* the stream of each one's scope; 0: none */
    ta_dynamic *dynamic;
    ta_handle handle;
    ta_tensor tensor;
    ta_trace *trace; /* or NULL */
    bench b;
    uint64_t graph_count;
} graphs;

static void graph_pool_line(const char *what, graphs *g)
{
    ta_memory_usage usage;
    char text[100];
    int i;
    for (i = 0; i < GRAPH_POOLS; i++) {
        ta_graph_pool_stats s;
        memset(&s, 0xA5, sizeof s);
        CHECK_OK(ta_graph_pool_get_stats(g->of[i], &s));
        add_words(&s.memory, sizeof s.memory);
        add_words(&s.graph_count, (size_t)((char *)&s.is_referenced - (char *)&s.graph_count));
        add((uint64_t)s.is_referenced);
        stats_line(what, ta_graph_pool_allocator(g->of[i]));
        failure_line(ta_graph_pool_allocator(g->of[i]));
        report_lines(ta_graph_pool_allocator(g->of[i]));
    }
    memset(&usage, 0xA5, sizeof usage);
    CHECK_OK(ta_pool_get_memory_usage(g->pool, &usage));
    add_words(&usage, sizeof usage.base + sizeof usage.graph + 8);
    (void)ta_memory_usage_report(&usage, text, sizeof text);
    line("%s, %llu graph pools\n", text, (unsigned long long)usage.graph_pool_count);
    pool_lines(g->pool);
}

static void graph_scope(graphs *g, uint32_t k)
{
    const ta_stream stream = (ta_stream)(1 + test_below(&g->b.seed, 2));
    if (g->scopes[k] == 0) {
        const ta_result result = ta_capture_enter(g->of[k], stream);
        add((uint64_t)result);
        if (result == TA_OK) {
            g->scopes[k] = stream;
            if (device.captures[stream] == 0) {
                device.captures[stream] = ++device.capture_count;
            }
            if (device.captures[3] == 0 && test_below(&g->b.seed, 2) == 0) {
                device.captures[3] = device.captures[stream]; /* it joins */
            }
        }
    } else if (test_below(&g->b.seed, 4) == 0) {
        const uint32_t how = test_below(&g->b.seed, 8);
        ta_capture_report report;
        ta_stream at;
        if (how != 0) {
            const uint64_t capture = device.captures[g->scopes[k]];
            for (at = 0; at < TB_STREAMS_MAX; at++) {
                device.captures[at] = device.captures[at] == capture ? 0 : device.captures[at];
            }
        }
        memset(&report, 0xA5, sizeof report);
        add((uint64_t)ta_capture_leave(g->of[k], g->scopes[k], how == 1 || how == 2, &report));
        add_words(&report, sizeof report);
        g->scopes[k] = 0;
        if (how > 3) {
            add((uint64_t)ta_graph_pool_attach(g->of[k], ++g->graph_count));
        } else if (how == 3) {
            add((uint64_t)ta_graph_pool_reset(g->of[k]));
        }
    }
}

static void graph_goes(uint32_t graph)
{
    uint32_t *gone = device.gone[graph];
    device.gone[graph] = NULL;
    if (gone != NULL) {
        TENSORALLOC_STORE_RELEASE(gone, 1);
    }
}

static void graph_work(graphs *g, uint32_t kind, uint32_t k, uint32_t i)
{
    ta_graph_pool *of = g->of[k];
    ta_result result = TA_OK;
    ta_graph_compatible how;
    ta_tensor copy;
    const ta_stream other = (ta_stream)test_below(&g->b.seed, 4);
    ta_request request;
    switch (kind) {
    case 0:
        result = ta_graph_pool_trim(of);
        break;
    case 1:
        result = ta_graph_pool_reserve(of, (size_t)test_below(&g->b.seed, 6) * MIB);
        break;
    case 2:
        result = ta_graph_pool_hold(of, g->pool, g->b.ptrs[i]);
        break;
    case 3:
        result = test_below(&g->b.seed, 2) ? ta_graph_pool_retain(of) : ta_graph_pool_release(of);
        break;
    case 4:
        result = ta_pool_record_use(g->pool, g->b.ptrs[i], other);
        break;
    case 5:
        if (device.gone_count != 0) {
            graph_goes(test_below(&g->b.seed, device.gone_count));
        }
        break;
    case 6:
        result = ta_graph_pool_hold_handle(of, g->dynamic, g->handle);
        break;
    case 7: {
        int64_t dims = 1 + (int64_t)test_below(&g->b.seed, 1000000);
        result = ta_dynamic_resize(g->dynamic, g->handle, &dims, 1);
        break;
    }
    case 8:
        if (g->tensor.buffer.data == NULL) {
            int64_t dims = 1 + (int64_t)test_below(&g->b.seed, 100000);
            result = ta_tensor_create(ta_pool_allocator(g->pool), TA_F32, &dims, 1, 0, other, &g->tensor);
        } else {
            add((uint64_t)ta_tensor_is_graph_compatible(&g->tensor, of));
            how = (ta_graph_compatible)test_below(&g->b.seed, 3);
            memset(&copy, 0xA5, sizeof copy);
            result = ta_tensor_with_graph_memory(&g->tensor, of, other, &copy);
            add((uint64_t)result);
            add(name_of(copy.buffer.data));
            add(copy.buffer.size_bytes);
            add((uint64_t)copy.rank);
            add((uint64_t)copy.dims[0]);
            add((uint64_t)copy.strides[0]);
            add((uint64_t)ta_tensor_destroy(&copy, other));
            result = ta_tensor_ensure_graph_compatible(&g->tensor, of, other, how);
            add((uint64_t)result);
            add(name_of(g->tensor.buffer.data));
            result = test_below(&g->b.seed, 3) == 0 ? ta_tensor_destroy(&g->tensor, 0) : TA_OK;
        }
        break;
    case 9:
        result = g->scopes[k] == 0 ? ta_graph_pool_reset(of) : TA_OK;
        break;
    default:
        memset(&request, 0, sizeof request);
        request.size_bytes = g->b.sizes[i];
        request.stream = other;
        request.tag = "graph";
        if (g->b.ptrs[i] == NULL && request.size_bytes != 0) {
            g->b.ptrs[i] = ta_graph_pool_alloc(of, &request, &result);
        }
        break;
    }
    add(kind);
    add((uint64_t)result);
    add(name_of(g->b.ptrs[i]));
}

/* Blocks that went with a reset, or with a scope that failed. */
static void graphs_forget(graphs *g)
{
    int i;
    for (i = 0; i < LIVE_MAX; i++) {
        g->b.ptrs[i] = ta_pool_owns(g->pool, g->b.ptrs[i]) ? g->b.ptrs[i] : NULL;
    }
}

static void graphs_open(graphs *g, uint32_t caps, int share)
{
    ta_pool_desc desc = pool_plain();
    ta_graph_pool_desc graph_desc;
    ta_dynamic_desc dynamic_desc = tensors_plain();
    ta_shape_bounds bounds;
    const int64_t least = 1, now = 300000, most = 1000000;
    int i;
    memset(g, 0, sizeof *g);
    memset(&graph_desc, 0, sizeof graph_desc);
    g->b.seed = 71;
    g->b.streams = 3;
    desc.backend = dynamic_desc.backend = device_open(caps);
    desc.range_bytes = 32 * MIB;
    desc.block_count_max = 4096;
    desc.limit_bytes = 40 * MIB;
    desc.single_threaded = 0;
    desc.on_event = share && caps == SEGMENTS ? on_event : NULL;
    if (share && caps == RANGES) {
        CHECK_OK(ta_trace_create(NULL, &g->trace));
    }
    desc.trace = g->trace;
    CHECK_OK(ta_pool_create(&desc, &g->pool));
    graph_desc.pool = g->pool;
    graph_desc.range_bytes = 8 * MIB;
    for (i = 0; i < GRAPH_POOLS; i++) {
        graph_desc.share_sequential = share || i == 1;
        graph_desc.initial_bytes = (size_t)i * MIB;
        CHECK_OK(ta_graph_pool_create(&graph_desc, &g->of[i]));
    }
    dynamic_desc.range_bytes = dynamic_desc.unbounded_bytes = 32 * MIB;
    dynamic_desc.range_bytes_min = 65536;
    dynamic_desc.handle_count_max = 1024;
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &g->dynamic));
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &least, &now, &most));
    CHECK_OK(ta_dynamic_alloc(g->dynamic, &bounds, &g->handle));
}

static void graphs_end(graphs *g)
{
    uint32_t i;
    for (i = 0; i < device.gone_count; i++) {
        graph_goes(i);
    }
    (void)ta_tensor_destroy(&g->tensor, 0);
    graph_pool_line("graphs", g); /* a look for what is gone */
    for (i = 0; i < GRAPH_POOLS; i++) {
        while (ta_graph_pool_release(g->of[i]) == TA_OK) {
            add(i);
        }
    }
    add((uint64_t)ta_graph_pool_reset(g->of[1])); /* each may hold blocks of the other */
    add((uint64_t)ta_graph_pool_reset(g->of[0]));
    graph_pool_line("graphs", g);
    for (i = 0; i < GRAPH_POOLS; i++) {
        sound(ta_graph_pool_destroy(g->of[i]));
    }
    sound(ta_dynamic_destroy(g->dynamic));
    dies("graphs", ta_pool_allocator(g->pool), g->pool);
    CHECK_OK(ta_trace_destroy(g->trace));
}

static void life_of_graphs(const char *what, uint32_t caps, int share, uint32_t fails_each)
{
    graphs g;
    ta_allocator seen[4];
    int op, i;
    graphs_open(&g, caps, share);
    device.fails_each = fails_each;
    for (op = 1; op <= 1500; op++) {
        const uint32_t kind = test_below(&g.b.seed, 3), k = test_below(&g.b.seed, GRAPH_POOLS);
        const uint32_t at = test_below(&g.b.seed, LIVE_MAX / 2);
        if (kind == 0 && test_below(&g.b.seed, 4) == 0) {
            graph_scope(&g, k);
            graphs_forget(&g);
        } else if (kind == 1 && test_below(&g.b.seed, 3) == 0) {
            graph_work(&g, test_below(&g.b.seed, 13), k, at);
            graphs_forget(&g);
        } else if (g.b.ptrs[at] == NULL) {
            const uint32_t scale = test_below(&g.b.seed, 3);
            ta_result result = TA_OK;
            g.b.sizes[at] = 1 + test_below(&g.b.seed, scale == 0 ? 800 : scale == 1 ? 50000 : 800000);
            g.b.ptrs[at] = ta_pool_alloc_stream(g.pool, g.b.sizes[at], (ta_stream)test_below(&g.b.seed, 4), &result);
            add((uint64_t)result);
        } else {
            const ta_result result = ta_allocator_free(ta_pool_allocator(g.pool), g.b.ptrs[at], 0, 0,
                                                       (ta_stream)test_below(&g.b.seed, 4));
            g.b.ptrs[at] = result == TA_OK ? NULL : g.b.ptrs[at];
            add((uint64_t)result);
        }
        add(name_of(g.b.ptrs[at]));
        device_works(&g.b.seed, 3);
        if (op % 8 == 0) {
            sound(ta_pool_check(g.pool));
            sound(ta_pool_check(g.of[k]->memory));
        }
        if (op % 150 == 0) {
            graph_pool_line(what, &g);
        }
        if (op == 777) {
            seen[0] = ta_pool_allocator(g.pool);
            seen[1] = ta_dynamic_allocator(g.dynamic);
            snapshot_lines(seen, 2);
        }
        if (g.trace != NULL && op % 500 == 0) {
            CHECK_OK(ta_trace_flush(g.trace, op == 500 ? TA_TRACE_TEXT : TA_TRACE_CHROME, write_text, NULL));
            sink_lines("trace");
        }
    }
    device.fails_each = 0;
    memset(device.captures, 0, sizeof device.captures);
    for (i = 0; i < GRAPH_POOLS; i++) {
        if (g.scopes[i] != 0) {
            add((uint64_t)ta_capture_leave(g.of[i], g.scopes[i], 0, NULL));
        }
    }
    graphs_end(&g);
}

static void graph_pools(void)
{
    life_of_graphs("graphs", RANGES, 0, 0);
}

static void graph_pools_shared(void)
{
    life_of_graphs("graphs shared", RANGES, 1, 0);
}

static void graph_pools_of_segments(void)
{
    life_of_graphs("graphs in segments", SEGMENTS, 1, 0);
}

static void graph_pools_in_bad_weather(void)
{
    life_of_graphs("graphs in bad weather", RANGES, 0, 5);
}
#endif

/* ---- comparing */
#define LIFE(name) static void name##_as_before(void) { as_before(#name, name); }

/* A life, line by line with what stands behind its name in golden.h. */
static void as_before(const char *name, void (*live)(void))
{
    const size_t count = sizeof golden / sizeof golden[0];
    const char *is = life.text;
    size_t number = 0;
    if (!GOLDEN) {
        TEST_SKIP("the lines are those of x86-64 Linux without other options");
        return;
    }
    life.length = 0;
    golden_now = 0;
    live();
    while (number < count && (strncmp(golden[number], "= ", 2) != 0 || strcmp(golden[number] + 2, name) != 0)) {
        number++;
    }
    for (number++; number < count && golden[number][0] != '='; number++) { /* to show the first that differs */
        const size_t n = strcspn(is, "\n");
        char now[400];
        (void)snprintf(now, sizeof now, "%.*s", (int)n, is);
        test_context("line %u", (unsigned)number + 1);
        CHECK_STRING(now, golden[number]);
        if (strcmp(now, golden[number]) != 0) {
            printf("if that is meant: test_golden%s --write >tests/golden%s.h\n", GOLDEN_CHECKED ? "_checked" : "",
                   GOLDEN_CHECKED ? "_checked" : "");
            return;
        }
        is += n + (is[n] != 0);
    }
    CHECK_EQ(*is, 0);
    test_context("%s", "");
}

#define LIVES(X) \
    X(pools) X(pools_of_the_host) X(pools_with_locks) X(pools_of_segments) X(pools_with_events) \
    X(pools_in_bad_weather) X(pools_zeroed) X(pools_as_specified) X(siblings) X(arenas) X(directs) \
    X(tensors_over_a_pool) X(tensors_alone) X(tensors_in_bad_weather) X(tensors_of_others) X(traces)
#ifdef TENSORALLOC_CUDA
    #define GRAPH_LIVES(X) X(graph_pools) X(graph_pools_shared) X(graph_pools_of_segments) X(graph_pools_in_bad_weather)
#else
    #define GRAPH_LIVES(X)
#endif
LIVES(LIFE)
GRAPH_LIVES(LIFE)

static void write_all(void)
{
    static const struct { const char *name; void (*live)(void); } lives[] = {
#define ROW(name) {#name, name},
        LIVES(ROW) GRAPH_LIVES(ROW)
    };
    size_t i;
    test_now.out = stderr;
    printf("/* written by test_golden --write: see there. */\n");
    for (i = 0; i < sizeof lives / sizeof lives[0]; i++) {
        const char *at = life.text;
        life.length = 0;
        golden_now = 0;
        lives[i].live();
        printf("%s\"= %s\",\n\"", i != 0 ? ",\n" : "", lives[i].name);
        for (; *at != 0; at++) {
            if (*at == '\n' && at[1] != 0) {
                printf("\",\n\"");
            } else if (*at != '\n') {
                printf(*at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
            }
        }
        printf("\"");
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
#define CASE(name) TEST_CASE(name##_as_before),
        LIVES(CASE) GRAPH_LIVES(CASE)
    };
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        write_all();
        return test_now.failures != 0;
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
