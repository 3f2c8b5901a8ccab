/* test_golden.c - a life of a pool, an arena and tensors with bounds over a device with a clock, as it was when this was
   committed: where blocks come from, events, figures, reports and the snapshot, as lines. Nothing here is right by
   itself; but what changes without a reason is a fault that other tests may not see, and with one the new lines are
   committed with it:

     test_golden --write >tests/golden.h */
#define TENSORALLOC_CLOCK_NS() ((uint64_t)1000000)
#define TENSORALLOC_WALL_CLOCK_NS() ((uint64_t)2000000)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"
#include "backends.h"

static const char *const golden[] = {
#include "golden.h"
};

#define MIB ((size_t)1 << 20)
#define LIVE_MAX 96
#define NAMES_MAX 65536

static struct {
    char text[1 << 16]; /* the lines */
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

__attribute__((format(printf, 1, 2))) static void line(const char *format, ...)
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

static void on_event(void *user, const ta_event *event)
{
    (void)user;
    add((uint64_t)event->kind);
    add((uint64_t)event->result);
    add(name_of(event->ptr));
    add(event->size_bytes);
    add(event->capacity_bytes);
    add(event->stream);
    add(event->tag != NULL ? (uint64_t)event->tag[0] : 0);
    add((uint64_t)event->hit);
}

static void stats_line(const char *what, ta_allocator a)
{
    ta_stats s;
    CHECK_OK(ta_allocator_get_stats(a, &s));
    line("%s %016llx reserved %llu in use %llu cached %llu requested %llu live %llu hits %llu failures %llu\n", what,
         (unsigned long long)life.sum, (unsigned long long)s.reserved_bytes, (unsigned long long)s.in_use_bytes,
         (unsigned long long)s.cached_bytes, (unsigned long long)s.requested_bytes, (unsigned long long)s.live_count,
         (unsigned long long)s.hit_count, (unsigned long long)s.failure_count);
}

/* Random work on an allocator; the same for all of them. */
static void work(const char *what, ta_allocator a, uint64_t seed, int streams, tb_clock *clock)
{
    void *ptrs[LIVE_MAX];
    size_t sizes[LIVE_MAX];
    int op;
    memset(ptrs, 0, sizeof ptrs);
    for (op = 1; op <= 1500; op++) {
        const uint32_t i = test_below(&seed, LIVE_MAX), kind = test_below(&seed, 10);
        const ta_stream stream = (ta_stream)test_below(&seed, (uint32_t)streams + 1);
        ta_result result = TA_OK;
        if (ptrs[i] == NULL) {
            static const uint32_t scales[] = {200, 4000, 60000, 400000, 3000000};
            ta_request request;
            memset(&request, 0, sizeof request);
            request.size_bytes = sizes[i] = 1 + test_below(&seed, scales[test_below(&seed, 5)]);
            request.alignment_bytes = kind == 0 ? (size_t)64 << test_below(&seed, 8) : 0;
            request.flags = kind == 1 ? (uint32_t)TA_REQUEST_CACHED_ONLY : 0;
            request.stream = stream;
            request.tag = kind == 2 ? "tag" : NULL;
            ptrs[i] = ta_allocator_alloc(a, &request, &result);
        } else if (kind < 2) {
            const size_t size = 1 + sizes[i] / 2 + test_below(&seed, (uint32_t)sizes[i]);
            result = ta_allocator_resize_in_place(a, ptrs[i], sizes[i], size);
            sizes[i] = result == TA_OK ? size : sizes[i];
        } else {
            ta_block_info info;
            CHECK_OK(ta_allocator_describe(a, ptrs[i], &info));
            add(info.capacity_bytes);
            add(info.requested_bytes);
            add(info.committed_bytes);
            result = ta_allocator_free(a, ptrs[i], kind == 3 ? sizes[i] : 0, 0, kind == 4 ? stream : 0);
            ptrs[i] = result == TA_OK ? NULL : ptrs[i];
        }
        add((uint64_t)result);
        add(name_of(ptrs[i]));
        if (op % 60 == 0) {
            tb_clock_complete(clock, (ta_stream)test_below(&seed, (uint32_t)streams + 1));
        }
        if (op % 250 == 0) {
            size_t freed = 0;
            stats_line(what, a);
            add((uint64_t)ta_allocator_trim(a, (size_t)test_below(&seed, 8) * MIB, &freed));
            add(freed);
        }
    }
}

static ta_result write_snapshot(void *user, const char *text, size_t bytes)
{
    char *all = (char *)user;
    const size_t at = strlen(all);
    if (at + bytes + 1 > (size_t)1 << 20) {
        return TA_ERROR_BACKEND;
    }
    memcpy(all + at, text, bytes);
    all[at + bytes] = 0;
    return TA_OK;
}

/* The ranges and handles of the snapshot, addresses named; a line for each 4000 characters. Not the figures in front of
   them, to which others are added. */
static void snapshot_lines(const char *what, ta_allocator a)
{
    static char text[1 << 20];
    char *at;
    int count = 0;
    text[0] = 0;
    CHECK_OK(ta_snapshot_write(&a, 1, NULL, write_snapshot, text));
    forget_names();
    at = strstr(text, "\"ranges\":");
    at = at != NULL ? at : strstr(text, "\"handles\":");
    REQUIRE(at != NULL);
    while (*at != 0) {
        if (strncmp(at, "\"0x", 3) == 0 && strlen(at) > 12 && at[11] != '"') {
            add(name_of((const void *)(uintptr_t)strtoull(at + 1, &at, 16)));
        } else {
            add((unsigned char)*at++);
        }
        if (++count % 4000 == 0 || *at == 0) {
            line("%s snapshot %d %016llx\n", what, count, (unsigned long long)life.sum);
        }
    }
}

static void report_lines(ta_allocator a)
{
    static char text[8192];
    CHECK_LT(ta_report(a, text, sizeof text), sizeof text);
    REQUIRE(strstr(text, ", records") != NULL); /* how large records are changes with every field */
    line("%.*s\n", (int)(strstr(text, ", records") - text), text);
}

static void life_of_a_pool(const char *what, uint32_t caps, ta_pool_desc desc, int streams)
{
    static tb_clock clock;
    ta_pool *pool;
    ta_failure failure;
    char text[1024];
    desc.backend = tb_clock_init(&clock, caps, 0);
    desc.range_bytes = 32 * MIB;
    desc.block_count_max = 4096;
    desc.limit_bytes = 24 * MIB;
    desc.single_threaded = 1;
    CHECK_OK(ta_pool_create(&desc, &pool));
    forget_names();
    work(what, ta_pool_allocator(pool), 17, streams, &clock);
    CHECK(ta_pool_alloc(pool, 23 * MIB, NULL) == NULL);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    (void)ta_failure_report(&failure, text, sizeof text);
    line("%s\n", text);
    report_lines(ta_pool_allocator(pool));
    snapshot_lines(what, ta_pool_allocator(pool));
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
    tb_clock_end(&clock);
}

static void life_of_tensors(const char *what, uint32_t caps)
{
    static tb_clock clock;
    ta_budget_desc limit;
    ta_budget *budget;
    ta_pool_desc blocks;
    ta_pool *pool;
    ta_dynamic_desc desc;
    ta_dynamic *dynamic;
    ta_handle handles[12];
    int64_t sizes[12];
    uint64_t seed = 23;
    int op;
    memset(&limit, 0, sizeof limit);
    memset(&blocks, 0, sizeof blocks);
    memset(&desc, 0, sizeof desc);
    memset(handles, 0, sizeof handles);
    limit.backend = tb_clock_init(&clock, caps, 0);
    limit.limit_bytes = 48 * MIB;
    CHECK_OK(ta_budget_create(&limit, &budget));
    blocks.budget = desc.budget = budget;
    blocks.range_bytes = 32 * MIB;
    blocks.block_count_max = 4096;
    blocks.single_threaded = desc.single_threaded = 1;
    CHECK_OK(ta_pool_create(&blocks, &pool));
    desc.upstream = ta_pool_allocator(pool);
    desc.range_bytes = desc.unbounded_bytes = 64 * MIB; /* the default depends on the machine */
    desc.handle_count_max = 1024;
    CHECK_OK(ta_dynamic_create(&desc, &dynamic));
    forget_names();
    for (op = 1; op <= 1500; op++) {
        const uint32_t i = test_below(&seed, 12), kind = test_below(&seed, 12);
        int64_t least = 1, most = (int64_t)1000 << (2 * (i % 6)), dims;
        ta_result result;
        ta_handle_info info;
        if (handles[i].owner == 0) {
            ta_dynamic_request request;
            ta_shape_bounds bounds;
            dims = sizes[i] = 1 + most / 10 + (int64_t)test_below(&seed, (uint32_t)most / 2);
            CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &dims, &most));
            memset(&request, 0, sizeof request);
            request.bounds = &bounds;
            request.site = kind < 6 ? 1 + i % 4 : 0;
            request.flags = kind == 0 ? (uint32_t)TA_DYNAMIC_GROWING : 0;
            request.site = kind == 0 ? 9 : request.site;
            request.stream = (ta_stream)(i % 3);
            result = ta_dynamic_alloc_request(dynamic, &request, &handles[i]);
        } else if (kind == 0) {
            result = ta_dynamic_free(dynamic, handles[i]);
            memset(&handles[i], 0, sizeof handles[i]);
        } else {
            dims = kind < 8 ? sizes[i] + (int64_t)test_below(&seed, (uint32_t)most / 20 + 1)
                            : 1 + (int64_t)test_below(&seed, (uint32_t)most);
            sizes[i] = dims = dims < most ? dims : most;
            result = ta_dynamic_resize(dynamic, handles[i], &dims, 1);
        }
        add((uint64_t)result);
        if (handles[i].owner != 0 && ta_dynamic_get_handle(dynamic, handles[i], &info) == TA_OK) {
            add(info.capacity_bytes);
            add(info.in_place_bytes);
            add(name_of(info.data));
            add(info.use_count);
        }
        if (op % 50 == 0) {
            tb_clock_complete(&clock, (ta_stream)(op / 50 % 3));
        }
        if (op % 250 == 0) {
            stats_line(what, ta_dynamic_allocator(dynamic));
        }
    }
    {
        static char text[8192];
        CHECK_LT(ta_dynamic_report(dynamic, text, sizeof text), sizeof text);
        line("%s", text);
    }
    snapshot_lines(what, ta_dynamic_allocator(dynamic));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    tb_clock_end(&clock);
}

static void live(void)
{
    ta_pool_desc desc;
    memset(&life, 0, sizeof life);
    memset(&desc, 0, sizeof desc);
    life_of_a_pool("ranges", (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS, desc, 0);
    life_of_a_pool("ranges, streams", (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS, desc, 3);
    life_of_a_pool("segments", (uint32_t)TA_CAP_SEGMENTS, desc, 3);
    desc.disable_stealing = 1;
    desc.slack_bytes_max = 4096;
    desc.on_event = on_event;
    life_of_a_pool("events", (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS, desc, 3);
    desc = ta_pool_desc_spec();
    life_of_a_pool("specification", (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS, desc, 2);
    life_of_tensors("tensors", (uint32_t)TA_CAP_RANGES | (uint32_t)TA_CAP_SEGMENTS);
    life_of_tensors("tensors in segments", (uint32_t)TA_CAP_SEGMENTS);
}

static void everything_is_as_it_was(void)
{
    const char *is = life.text;
    size_t number;
#if defined(TENSORALLOC_CHECKED) || defined(TENSORALLOC_MALLOC_BACKEND) || defined(TENSORALLOC_NO_THREADS) || \
    !defined(__x86_64__) || !defined(__linux__)
    TEST_SKIP("the lines are those of x86-64 Linux without options");
    return;
#endif
    live();
    for (number = 0; number < sizeof golden / sizeof golden[0]; number++) { /* to show the first that differs */
        const size_t n = strcspn(is, "\n");
        char now[400];
        (void)snprintf(now, sizeof now, "%.*s", (int)n, is);
        test_context("line %u", (unsigned)number + 1);
        CHECK_STRING(now, golden[number]);
        if (strcmp(now, golden[number]) != 0) {
            printf("if that is meant: test_golden --write >tests/golden.h\n");
            return;
        }
        is += n + (is[n] != 0);
    }
    CHECK_EQ(*is, 0);
    test_context("%s", "");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {TEST_CASE(everything_is_as_it_was)};
    const char *at;
    if (argc != 2 || strcmp(argv[1], "--write") != 0) {
        return test_main(argc, argv, cases, 1);
    }
    live();
    printf("/* golden.h - written by test_golden --write: see there. */\n\"");
    for (at = life.text; *at != 0; at++) {
        if (*at == '\n' && at[1] != 0) {
            printf("\",\n\"");
        } else if (*at != '\n') {
            printf(*at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
        }
    }
    printf("\"\n");
    return test_now.failures != 0;
}
