/* test_snapshot.c - snapshots: always valid JSON, blocks that tile their ranges, sums that the statistics confirm,
   sinks that fail or use the allocator, other threads at work.

   With --write DIRECTORY it writes documents for tests/snapshot.py instead of testing. */
#include "implementation.h"
#include "backends.h"
#include "snapshot.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static ta_pool *open_pool(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    CHECK_OK(ta_pool_create(desc, &pool));
    return pool;
}

static ta_pool_desc zero_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

static void *tagged(ta_allocator allocator, size_t size, const char *tag)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.tag = tag;
    return ta_allocator_alloc(allocator, &request, NULL);
}

/* A pool with live, cached and free blocks, holes among them. */
static void fill_pool(ta_pool *pool, size_t count, uint64_t *random)
{
    void **ptrs = (void **)malloc(count * sizeof *ptrs);
    size_t i;
    REQUIRE(ptrs != NULL);
    for (i = 0; i < count; i++) {
        size_t size = test_below(random, 8) == 0 ? 65537 + test_below(random, 400000) : 1 + test_below(random, 20000);
        ptrs[i] = tagged(ta_pool_allocator(pool), size, i % 2 == 0 ? NULL : i % 3 == 0 ? "weights" : "kv cache");
        CHECK(ptrs[i] != NULL);
    }
    for (i = 0; i < count; i++) {
        if (test_below(random, 3) == 0) {
            CHECK_OK(ta_pool_free(pool, ptrs[i]));
        }
        if (i == count / 2) {
            CHECK_OK(ta_pool_trim(pool, 0, NULL));
        }
    }
    free(ptrs);
}

/*---------------------------------------------------------------------------------------------------------
  What it says.
  -------------------------------------------------------------------------------------------------------*/
static void the_reader_refuses_what_is_no_json(void)
{
    static const char *const bad[] = {"", "{", "[1,]", "{\"a\" 1}", "{\"a\":1,}", "01", "1.", "-", "\"\x01\"", "\"\\x\"",
                                      "\"\\u12g4\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "nul", "[1] 2",
                                      "\"\xf4\x90\x80\x80\"", "\"abc", "{1:2}", "+1", "1e"};
    static const char *const good[] = {"null", " [ ] ", "{\"a\":[1,-2.5e+3,true,{}],\"\":\"\\u00e9\\n\xf0\x9f\x98\x80\"}"};
    json j;
    size_t i;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_context("%s", bad[i]);
        CHECK(!json_read(&j, bad[i], strlen(bad[i])));
        json_free(&j);
    }
    for (i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(json_read(&j, good[i], strlen(good[i])));
        json_free(&j);
    }
}

static void pools_are_told_as_they_are(void)
{
    ta_pool_desc desc = zero_desc();
    document d;
    uint64_t random = test_now.seed;
    int variant;
    memset(&d, 0, sizeof d);
    for (variant = 0; variant < 5; variant++) {
        ta_pool *pool;
        ta_allocator a;
        const json *j = &d.tree;
        size_t node, buckets, bucket;
        int i;
        test_context("variant %d", variant);
        desc = zero_desc();
        desc.single_threaded = variant == 1;
        desc.disable_ranges = variant == 2;
        desc.disable_thread_caches = variant == 3;
        desc.limit_bytes = variant == 4 ? 512 * MIB : 0;
        desc.name = "a pool \"with\" a name";
        pool = open_pool(&desc);
        a = ta_pool_allocator(pool);
        fill_pool(pool, 3000, &random);
        REQUIRE(take_snapshot(&d, &a, 1, NULL));
        CHECK(json_says(j, json_get(j, 0, "format"), "tensoralloc-snapshot"));
        CHECK_EQ(json_get_u64(j, 0, "version"), 1);
        CHECK_EQ(json_get_u64(j, 0, "library"), TENSORALLOC_VERSION);
        node = allocator_at(j, 0);
        CHECK(json_says(j, json_get(j, node, "kind"), "pool"));
        CHECK(json_says(j, json_get(j, node, "name"), "a pool \\\"with\\\" a name"));
        check_sums(j, node, a);
        CHECK_EQ(allocator_at(j, 1), 0);
        CHECK_EQ(json_get_u64(j, json_first(j, json_get(j, 0, "budgets")), "limit_bytes"),
                 variant == 4 ? 512 * MIB : UINT64_MAX);
        buckets = json_get(j, node, "buckets");
        for (i = 0, bucket = json_first(j, buckets); i < TA_BUCKET_COUNT; i++) {
            ta_bucket_stats want;
            REQUIRE(bucket != 0);
            CHECK_OK(ta_pool_get_bucket_stats(pool, i, &want));
            CHECK_EQ(json_get_u64(j, bucket, "size_min_bytes"), want.size_min_bytes);
            CHECK_EQ(json_get_u64(j, bucket, "live_count"), want.live_count);
            CHECK_EQ(json_get_u64(j, bucket, "live_bytes"), want.live_bytes);
            CHECK_EQ(json_get_u64(j, bucket, "cached_count"), want.cached_count);
            CHECK_EQ(json_get_u64(j, bucket, "cached_bytes"), want.cached_bytes);
            bucket = json_after(j, buckets, bucket);
        }
        CHECK_EQ(bucket, 0);
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_destroy(pool));
    }
    forget(&d);
}

static void streams_and_pending_blocks_are_told(void)
{
    tb_clock clock;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    ta_allocator a;
    document d;
    void *x, *y;
    size_t node, streams, stream, seen = 0;
    memset(&d, 0, sizeof d);
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    pool = open_pool(&desc);
    a = ta_pool_allocator(pool);
    x = ta_pool_alloc_stream(pool, 1 * MIB, 0x10, NULL);
    y = ta_pool_alloc_stream(pool, 2 * MIB, 0xdeadbeefcafef00du, NULL);
    REQUIRE(x != NULL && y != NULL);
    tb_clock_use(&clock, 0x10, x, 1 * MIB);
    tb_clock_use(&clock, 0xdeadbeefcafef00du, x, 1 * MIB);
    CHECK_OK(ta_pool_record_use(pool, x, 0xdeadbeefcafef00du));
    CHECK_OK(ta_pool_free(pool, x));
    REQUIRE(take_snapshot(&d, &a, 1, NULL));
    node = allocator_at(&d.tree, 0);
    check_sums(&d.tree, node, a);
    CHECK_EQ(add_up(&d.tree, node).pending, 1 * MIB);
    CHECK(strstr(d.text, "\"state\":\"pending\",\"stream\":\"0x10\",\"waits_for\":1}") != NULL);
    CHECK(strstr(d.text, "\"stream\":\"0xdeadbeefcafef00d\"") != NULL);
    streams = json_get(&d.tree, node, "streams");
    for (stream = json_first(&d.tree, streams); stream != 0; stream = json_after(&d.tree, streams, stream)) {
        uint64_t id = json_get_u64(&d.tree, stream, "id");
        seen += id == 0x10 ? 1 : id == 0xdeadbeefcafef00du ? 100 : 0;
    }
    CHECK_EQ(seen, 101);
    CHECK_OK(ta_pool_destroy(pool));
    tb_clock_check(&clock);
    tb_clock_end(&clock);
    forget(&d);
}

static void arenas_and_direct_allocators_are_told(void)
{
    ta_arena *arena = NULL;
    ta_arena_desc arena_desc;
    ta_direct *direct = NULL;
    ta_allocator list[2];
    document d;
    void *middle, *gone;
    int segments, i;
    memset(&d, 0, sizeof d);
    CHECK_OK(ta_direct_create(NULL, &direct));
    list[1] = ta_direct_allocator(direct);
    gone = tagged(list[1], 5000, "gone");
    CHECK(tagged(list[1], 100000, "direct") != NULL && gone != NULL);
    CHECK_OK(ta_allocator_free(list[1], gone, 0, 0, 0));
    for (segments = 0; segments < 2; segments++) {
        ta_fixed_buffer state;
        char *buffer = (char *)malloc(MIB);
        REQUIRE(buffer != NULL);
        memset(&arena_desc, 0, sizeof arena_desc);
        if (segments) {
            arena_desc.chunk_bytes = 65536;
            arena_desc.range_bytes = 65536;
        } else {
            CHECK_OK(ta_backend_fixed(&state, buffer, MIB, &arena_desc.backend));
        }
        CHECK_OK(ta_arena_create(&arena_desc, &arena));
        list[0] = ta_arena_allocator(arena);
        CHECK(ta_arena_alloc(arena, 100, NULL) != NULL && ta_arena_alloc_aligned(arena, 5000, 4096, NULL) != NULL);
        middle = tagged(list[0], 7000, "dead");
        CHECK(middle != NULL && tagged(list[0], 3000, "arena") != NULL);
        CHECK_OK(ta_allocator_free(list[0], middle, 0, 0, 0));
        for (i = 0; i < 300 && segments; i++) {
            CHECK(ta_arena_alloc(arena, 1000, NULL) != NULL);
        }
        REQUIRE(take_snapshot(&d, list, 2, NULL));
        check_sums(&d.tree, allocator_at(&d.tree, 0), list[0]);
        check_sums(&d.tree, allocator_at(&d.tree, 1), list[1]);
        CHECK(strstr(d.text, "\"tag\":\"arena\"") != NULL && strstr(d.text, "\"tag\":\"direct\"") != NULL);
        CHECK(strstr(d.text, "\"dead\"") == NULL && strstr(d.text, "\"gone\"") == NULL);
        CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
        REQUIRE(take_snapshot(&d, list, 1, NULL));
        check_sums(&d.tree, allocator_at(&d.tree, 0), list[0]);
        CHECK_OK(ta_arena_destroy(arena));
        free(buffer);
    }
    CHECK_OK(ta_direct_destroy(direct));
    forget(&d);
}

/* Three tensors: one in a range, one warm, one a block of the pool. */
static ta_dynamic *make_dynamic(ta_handle *out)
{
    const int64_t least[2] = {1, 1024}, expected[2] = {100, 1024}, most[2] = {8192, 1024}, few[2] = {8, 1024};
    ta_shape_bounds bounds;
    ta_dynamic *dynamic = NULL;
    ta_dynamic_request request;
    ta_handle gone, small;
    memset(&request, 0, sizeof request);
    CHECK_OK(ta_dynamic_create(NULL, &dynamic));
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F16, 2, least, expected, most));
    request.bounds = &bounds;
    request.site = 0xabc;
    request.tag = "kv";
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, out));
    CHECK_OK(ta_dynamic_alloc_request(dynamic, &request, &gone));
    CHECK_OK(ta_dynamic_free(dynamic, gone)); /* now the site has learned */
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 2, least, least, few));
    CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &small));
    return dynamic;
}

static int host_has_ranges(void)
{
    ta_backend host = ta_backend_host();
    ta_backend_info info;
    memset(&info, 0, sizeof info);
    host.vtable->info(host.self, &info);
    return (info.caps & TA_CAP_RANGES) != 0;
}

static void tensors_with_bounds_are_told(void)
{
    document d;
    const json *j = &d.tree;
    ta_handle handle;
    ta_dynamic *dynamic;
    ta_allocator list[2];
    size_t node, handles, first, site, i;
    int64_t dims[2] = {500, 1024};
    if (!host_has_ranges()) {
        TEST_SKIP("no ranges here");
        return;
    }
    dynamic = make_dynamic(&handle);
    memset(&d, 0, sizeof d);
    CHECK_OK(ta_dynamic_resize(dynamic, handle, dims, 2));
    list[0] = ta_dynamic_allocator(dynamic);
    REQUIRE(take_snapshot(&d, list, 1, NULL));
    node = allocator_at(j, 0);
    handles = json_get(j, node, "handles");
    first = json_first(j, handles);
    CHECK(json_says(j, json_get(j, first, "tag"), "kv") && json_says(j, json_get(j, first, "dtype"), "f16"));
    CHECK_EQ(json_u64(j, json_first(j, json_get(j, first, "dims"))), 500);
    CHECK_EQ(json_u64(j, json_first(j, json_get(j, first, "max"))), 8192);
    CHECK_EQ(json_get_u64(j, first, "effective_bytes"), 500 * 2048);
    CHECK_EQ(json_get_u64(j, first, "ptr"), (uintptr_t)ta_dynamic_get_data(dynamic, handle));
    for (i = 0; first != 0; first = json_after(j, handles, first)) {
        i++;
    }
    CHECK_EQ(i, 3);
    CHECK(strstr(d.text, "\"state\":\"warm\"") != NULL);
    site = json_first(j, json_get(j, node, "sites"));
    CHECK_EQ(json_get_u64(j, site, "number"), 0xabc);
    CHECK(json_says(j, json_get(j, json_get(j, site, "predictor"), "learns"), "sizes"));
    CHECK(add_up(j, node).tiles);
    CHECK_EQ(add_up(j, node).ranges, 2);
    CHECK_EQ(add_up(j, node).requested, 500 * 2048);
    CHECK(allocator_at(j, 1) != 0 && allocator_at(j, 2) == 0); /* its pool */
    CHECK_EQ(json_get_u64(j, node, "upstream"), json_get_u64(j, allocator_at(j, 1), "id"));
    CHECK_EQ(add_up(j, allocator_at(j, 1)).live_count, 1);
    { /* a pool that is in the list is not shown twice */
        ta_dynamic_desc desc;
        CHECK_OK(ta_dynamic_get_desc(dynamic, &desc));
        list[1] = desc.upstream;
        REQUIRE(take_snapshot(&d, list, 2, NULL));
        CHECK(allocator_at(j, 1) != 0 && allocator_at(j, 2) == 0);
    }
    CHECK_OK(ta_dynamic_destroy(dynamic));
    forget(&d);
}

static void shared_budgets_and_backends_are_told_once(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_allocator list[3];
    document d;
    size_t array, first;
    int i;
    memset(&d, 0, sizeof d);
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = 64 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    for (i = 0; i < 3; i++) {
        desc.budget = i < 2 ? budget : NULL;
        list[i] = ta_pool_allocator(open_pool(&desc));
    }
    CHECK(tagged(list[0], 5 * MIB, NULL) != NULL);
    REQUIRE(take_snapshot(&d, list, 3, NULL));
    array = json_get(&d.tree, 0, "budgets");
    first = json_first(&d.tree, array);
    CHECK_EQ(json_get_u64(&d.tree, first, "limit_bytes"), 64 * MIB);
    CHECK_EQ(json_get_u64(&d.tree, first, "allocator_count"), 2);
    CHECK_GE(json_get_u64(&d.tree, first, "reserved_bytes"), 5 * MIB);
    CHECK_EQ(json_get_u64(&d.tree, first, "id"), json_get_u64(&d.tree, allocator_at(&d.tree, 1), "budget"));
    first = json_after(&d.tree, array, first);
    CHECK_EQ(json_get_u64(&d.tree, first, "id"), json_get_u64(&d.tree, allocator_at(&d.tree, 2), "budget"));
    CHECK(first != 0 && json_after(&d.tree, array, first) == 0);
    array = json_get(&d.tree, 0, "backends");
    first = json_first(&d.tree, array);
    CHECK(json_after(&d.tree, array, first) == 0);
    CHECK_EQ(json_get_u64(&d.tree, first, "id"),
             json_get_u64(&d.tree, json_first(&d.tree, json_get(&d.tree, 0, "budgets")), "backend"));
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_allocator_destroy(list[i]));
    }
    CHECK_OK(ta_budget_destroy(budget));
    forget(&d);
}

/* Nobody wakes up a device to ask how much memory it has. */
static void idle_backends_are_not_asked(void)
{
    tb_counting counting;
    ta_pool_desc desc = zero_desc();
    ta_allocator a;
    document d;
    memset(&d, 0, sizeof d);
    desc.backend = tb_counting_init(&counting, ta_backend_host(), 0);
    a = ta_pool_allocator(open_pool(&desc));
    REQUIRE(take_snapshot(&d, &a, 1, NULL));
    CHECK_EQ(counting.calls[TB_MEMORY_INFO], 0);
    CHECK(tagged(a, 100, NULL) != NULL);
    REQUIRE(take_snapshot(&d, &a, 1, NULL));
    CHECK_EQ(counting.calls[TB_MEMORY_INFO], ta_backend_host().vtable->memory_info != NULL);
    tb_counting_fail(&counting, TB_MEMORY_INFO, 1, 0);
    REQUIRE(take_snapshot(&d, &a, 1, NULL));
    CHECK(strstr(d.text, "\"free_bytes\":null,\"total_bytes\":null") != NULL);
    CHECK_OK(ta_allocator_destroy(a));
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
    forget(&d);
}

static ta_result their_stats(void *self, ta_stats *out)
{
    memset(out, 0, sizeof *out);
    out->live_count = *(size_t *)self;
    return TA_OK;
}

static ta_result their_device(void *self, ta_device *out)
{
    (void)self;
    out->type = TA_DEVICE_OTHER;
    out->index = 3;
    return TA_OK;
}

static void other_peoples_allocators_show_what_they_say(void)
{
    ta_allocator_vtable table;
    size_t live = 42;
    ta_allocator a;
    document d;
    memset(&d, 0, sizeof d);
    memset(&table, 0, sizeof table);
    table.struct_bytes = sizeof table;
    table.kind = "their \xff kind";
    table.stats = their_stats;
    table.device = their_device;
    a.vtable = &table;
    a.self = &live;
    REQUIRE(take_snapshot(&d, &a, 1, NULL));
    CHECK(json_says(&d.tree, json_get(&d.tree, allocator_at(&d.tree, 0), "kind"), "their \xef\xbf\xbd kind"));
    CHECK_EQ(json_get_u64(&d.tree, json_get(&d.tree, allocator_at(&d.tree, 0), "stats"), "live_count"), 42);
    CHECK(json_get(&d.tree, allocator_at(&d.tree, 0), "ranges") == 0);
    forget(&d);
}

/* A pool whose events are kept; frees, growth in place, a failure and a step among them. */
static ta_pool *open_traced(ta_trace *trace)
{
    ta_pool_desc desc = zero_desc();
    ta_pool *pool;
    void *ptrs[20];
    int i;
    desc.trace = trace;
    desc.name = "traced";
    desc.limit_bytes = 8 * MIB;
    pool = open_pool(&desc);
    for (i = 0; i < 20; i++) {
        ptrs[i] = tagged(ta_pool_allocator(pool), 1000 + 9000 * (size_t)i, i % 2 == 0 ? "even" : NULL);
    }
    for (i = 0; i < 20; i += 3) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
    }
    CHECK_OK(ta_pool_resize_in_place(pool, ptrs[19], 100000));
    CHECK(ta_pool_alloc(pool, 100 * MIB, NULL) == NULL);
    CHECK_OK(ta_trace_step(trace));
    CHECK_OK(ta_pool_trim(pool, 0, NULL));
    return pool;
}

static void count_event(void *user, const ta_event *event)
{
    ((size_t *)user)[event->kind]++;
}

static void events_are_told(void)
{
    static const char *const kinds[] = {"alloc", "free", "resize", "grow", "trim", "limit", "failure", "step", "misuse"};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    size_t want[KINDS], got[KINDS], events, event, i;
    ta_trace *trace = NULL;
    ta_snapshot_desc options;
    ta_pool *pool;
    ta_allocator a;
    ta_event misuse;
    document d;
    uint64_t last = 0;
    memset(&d, 0, sizeof d);
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    memset(&options, 0, sizeof options);
    CHECK_OK(ta_trace_create(NULL, &trace));
    pool = open_traced(trace);
    a = ta_pool_allocator(pool);
    options.trace = trace;
    memset(&misuse, 0, sizeof misuse); /* pools tell it in checked builds only */
    misuse.kind = TA_EVENT_MISUSE;
    misuse.result = TA_ERROR_OVERRUN;
    misuse.name = "mine";
    ta_trace_event(trace, &misuse);
    REQUIRE(take_snapshot(&d, &a, 1, &options));
    CHECK_OK(ta_trace_for_each(trace, count_event, want));
    events = json_get(&d.tree, 0, "events");
    for (event = json_first(&d.tree, events); event != 0; event = json_after(&d.tree, events, event)) {
        uint64_t time = json_get_u64(&d.tree, event, "time_ns");
        for (i = 0; i < KINDS; i++) {
            got[i] += (size_t)json_says(&d.tree, json_get(&d.tree, event, "kind"), kinds[i]);
        }
        CHECK_GE(time, last);
        last = time;
    }
    for (i = 0; i < KINDS; i++) {
        test_context("%s", kinds[i]);
        CHECK_EQ(got[i], want[i]);
        CHECK_GT(got[i], 0);
    }
    CHECK(strstr(d.text, "\"name\":\"traced\",\"tag\":\"even\",\"hit\":") != NULL);
    d.fail_at = d.calls; /* a sink that fails among the events */
    d.calls = 0;
    d.fail_with = TA_ERROR_BACKEND;
    CHECK_RESULT(ta_snapshot_write(&a, 1, &options, keep, &d), TA_ERROR_BACKEND);
    CHECK(!d.is_over);
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_trace_destroy(trace));
    forget(&d);
}

/*---------------------------------------------------------------------------------------------------------
  Bad input and faults.
  -------------------------------------------------------------------------------------------------------*/
/* Segments of an arena, blocks behind an alignment, more of each than are looked at at once, dimensions without an end,
   and a dynamic that is gone. */
static void many_of_every_kind(void)
{
    tb_counting segments;
    ta_arena_desc arena_desc;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic = NULL;
    ta_dynamic_desc dynamic_desc;
    ta_allocator list[3];
    ta_request request;
    ta_shape_bounds bounds;
    ta_handle handle;
    document d;
    const int64_t least = 1, most = TA_DIM_UNBOUNDED;
    int64_t now = 100000;
    sums sum;
    void *ptr = NULL;
    int i, with_ranges = host_has_ranges();
    memset(&d, 0, sizeof d);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    memset(&request, 0, sizeof request);
    arena_desc.backend = tb_counting_init(&segments, ta_backend_host(), TA_CAP_RANGES);
    arena_desc.chunk_bytes = 64 * KIB;
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    dynamic_desc.unbounded_bytes = 4 * MIB;
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &dynamic));
    list[0] = ta_arena_allocator(arena);
    list[1] = ta_direct_allocator(direct);
    list[2] = ta_dynamic_allocator(dynamic);
    for (i = 0; i < 100; i++) {
        request.size_bytes = 10000;
        request.alignment_bytes = i % 10 == 0 ? 4096 : 0;
        ptr = ta_allocator_alloc(list[0], &request, NULL);
        CHECK(ptr != NULL);
        if (i % 7 == 3) {
            CHECK_OK(ta_allocator_free(list[0], ptr, 0, 0, 0));
        }
        request.alignment_bytes = i % 10 == 0 ? 2 * MIB : 0;
        CHECK(ta_allocator_alloc(list[1], &request, NULL) != NULL);
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
        CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
    }
    if (take_snapshot(&d, list, 3, NULL)) {
        size_t at = allocator_at(&d.tree, 0);
        check_sums(&d.tree, at, list[0]);
        CHECK_GT(add_up(&d.tree, at).ranges, 2);
        CHECK(json_says(&d.tree, json_get(&d.tree, json_first(&d.tree, json_get(&d.tree, at, "ranges")), "kind"), "segment"));
        at = allocator_at(&d.tree, 1);
        check_sums(&d.tree, at, list[1]);
        CHECK_EQ(add_up(&d.tree, at).ranges, 100);
        CHECK_GE(add_up(&d.tree, at).free_bytes, 1); /* in front of those that are aligned */
        at = allocator_at(&d.tree, 2);
        sum = add_up(&d.tree, at);
        CHECK(sum.tiles);
        CHECK(!with_ranges || (sum.ranges == 100 && sum.live_count == 100));
        at = json_get(&d.tree, at, "handles");
        CHECK_EQ(d.tree.nodes[json_first(&d.tree, json_get(&d.tree, json_first(&d.tree, at), "max"))].kind, '0');
    }
    CHECK_OK(ta_allocator_dispose(list[2]));
    if (take_snapshot(&d, &list[2], 1, NULL)) {
        size_t at = allocator_at(&d.tree, 0);
        CHECK_EQ(d.tree.nodes[json_get(&d.tree, at, "disposed")].kind, 't');
        CHECK_EQ(json_get(&d.tree, at, "handles"), 0);
        CHECK(json_get(&d.tree, at, "options") != 0);
    }
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_allocator_destroy(list[i]));
    }
    tb_counting_end(&segments);
    forget(&d);
}

static void arguments_are_checked(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_allocator list[2];
    document d;
    memset(&d, 0, sizeof d);
    TEST_ALLOW_ASSERTS();
    list[0] = ta_pool_allocator(pool);
    memset(&list[1], 0, sizeof list[1]);
    CHECK_RESULT(ta_snapshot_write(NULL, 1, NULL, keep, &d), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_snapshot_write(list, 1, NULL, NULL, &d), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_snapshot_write(list, 2, NULL, keep, &d), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(d.calls, 0);
    REQUIRE(take_snapshot(&d, NULL, 0, NULL));
    CHECK(allocator_at(&d.tree, 0) == 0);
    CHECK_RESULT(ta_file_write(NULL, "x", 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_file_write(stdout, NULL, 1), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_file_write(stdout, NULL, 0));
    CHECK_OK(ta_pool_dispose(pool));
    REQUIRE(take_snapshot(&d, list, 1, NULL)); /* figures only */
    CHECK(strstr(d.text, "\"disposed\":true") != NULL && strstr(d.text, "\"ranges\":") == NULL);
    CHECK_OK(ta_pool_destroy(pool));
    forget(&d);
}

static void figures_without_blocks(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_allocator a = ta_pool_allocator(pool);
    ta_snapshot_desc desc;
    document d;
    memset(&d, 0, sizeof d);
    memset(&desc, 0, sizeof desc);
    desc.disable_blocks = 1;
    CHECK(tagged(a, 100, NULL) != NULL);
    REQUIRE(take_snapshot(&d, &a, 1, &desc));
    CHECK(strstr(d.text, "\"ranges\":") == NULL && strstr(d.text, "\"live_count\":1") != NULL);
    CHECK_OK(ta_pool_destroy(pool));
    forget(&d);
}

/* Texts that no parser may stumble over. */
static const char *const nasty[] = {
    "", "plain", "quote\"", "back\\slash", "\"", "\\", "\n", "tab\tnewline\nreturn\rbell\a\x01\x1f\x7f", "</script>",
    "\xc3\xa9t\xc3\xa9", "\xf0\x9f\x98\x80", "\xe2\x80\xa8", "\xff", "\xfe\xfe\xff\xff", "\x80", "\xc3", "a\xc3",
    "\xe2\x82", "\xe2\x82z", "\xf0\x9f\x98", "\xf0\x9f\x98z", "\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80",
    "\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
    "%s%n%d", "{\"a\":1}", "\xef\xbf\xbd"
};
#define NASTY_COUNT (sizeof nasty / sizeof nasty[0])

static void tags_and_names_may_hold_anything(void)
{
    enum { RANDOM_TAGS = 200, TAG_BYTES = 40 };
    static char texts[RANDOM_TAGS][TAG_BYTES];
    char long_text[10000];
    ta_pool_desc desc = zero_desc();
    document d;
    uint64_t random = test_now.seed;
    size_t i, k;
    memset(&d, 0, sizeof d);
    for (i = 0; i < NASTY_COUNT; i++) { /* as a tag and as a name */
        ta_allocator a;
        test_context("text %d", (int)i);
        desc.name = nasty[i];
        a = ta_pool_allocator(open_pool(&desc));
        CHECK(tagged(a, 100, nasty[i]) != NULL);
        REQUIRE(take_snapshot(&d, &a, 1, NULL));
        CHECK_OK(ta_allocator_destroy(a));
    }
    desc.name = NULL;
    {
        ta_allocator a = ta_pool_allocator(open_pool(&desc));
        for (i = 0; i < RANDOM_TAGS; i++) {
            for (k = 0; k + 1 < TAG_BYTES; k++) {
                texts[i][k] = (char)(test_below(&random, 3) == 0 ? test_below(&random, 256) : 0x78 + test_below(&random, 72));
            }
            CHECK(tagged(a, 100, texts[i]) != NULL);
        }
        memset(long_text, '"', sizeof long_text); /* longer than the buffer it goes through */
        long_text[sizeof long_text - 1] = 0;
        CHECK(tagged(a, 100, long_text) != NULL);
        REQUIRE(take_snapshot(&d, &a, 1, NULL));
        CHECK_EQ(add_up(&d.tree, allocator_at(&d.tree, 0)).live_count, RANDOM_TAGS + 1);
        CHECK_OK(ta_allocator_destroy(a));
    }
    forget(&d);
}

static void sinks_that_fail_end_it(void)
{
    ta_handle handle;
    ta_pool *pool = open_pool(NULL);
    ta_dynamic *dynamic = make_dynamic(&handle);
    ta_allocator list[2];
    document whole, d;
    uint64_t random = test_now.seed, calls, at;
    memset(&d, 0, sizeof d);
    memset(&whole, 0, sizeof whole);
    fill_pool(pool, 400, &random);
    list[0] = ta_pool_allocator(pool);
    list[1] = ta_dynamic_allocator(dynamic);
    REQUIRE(take_snapshot(&whole, list, 2, NULL));
    calls = whole.calls;
    CHECK_GT(calls, 10);
    for (at = 1; at <= calls; at++) {
        d.calls = d.length = 0;
        d.fail_at = at;
        d.fail_with = at % 2 == 0 ? TA_ERROR_BACKEND : TA_ERROR_BUSY;
        CHECK_RESULT(ta_snapshot_write(list, 2, NULL, keep, &d), d.fail_with);
        CHECK_EQ(d.calls, at);
        CHECK(!d.is_over);
    }
    d.fail_at = 0;
    REQUIRE(take_snapshot(&d, list, 2, NULL)); /* and nothing is left behind */
    CHECK_EQ(d.calls, calls);
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_pool_destroy(pool));
    forget(&d);
    forget(&whole);
}

static void files_take_it(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_allocator a = ta_pool_allocator(pool);
    FILE *file = tmpfile(), *full = fopen("/dev/full", "w");
    document d;
    int c;
    memset(&d, 0, sizeof d);
    if (file != NULL) {
        CHECK_OK(ta_snapshot_write(&a, 1, NULL, ta_file_write, file));
        rewind(file);
        while ((c = fgetc(file)) != EOF) {
            char byte = (char)c;
            CHECK_OK(keep(&d, &byte, 1));
        }
        CHECK(json_read(&d.tree, d.text, d.length));
        fclose(file);
    }
    if (full != NULL) {
        (void)setvbuf(full, NULL, _IONBF, 0);
        CHECK_RESULT(ta_snapshot_write(&a, 1, NULL, ta_file_write, full), TA_ERROR_BACKEND);
        fclose(full);
    }
    CHECK(file != NULL || full != NULL);
    CHECK_OK(ta_pool_destroy(pool));
    forget(&d);
}

/*---------------------------------------------------------------------------------------------------------
  While others go on.
  -------------------------------------------------------------------------------------------------------*/
typedef struct churn {
    ta_pool *pool;
    void *held[64];
    uint64_t random;
    int stop;
    unsigned long rounds;
} churn;

static void churn_once(void *user)
{
    churn *c = (churn *)user;
    uint32_t i = test_below(&c->random, 64), what = test_below(&c->random, 40);
    (void)ta_pool_free(c->pool, c->held[i]);
    c->held[i] = tagged(ta_pool_allocator(c->pool),
                        what == 0 ? 3 * MIB : what < 6 ? 70000 + what * 9000 : 1 + test_below(&c->random, 30000), "churn");
    if (what == 1) {
        (void)ta_pool_trim(c->pool, 0, NULL);
    }
    c->rounds++;
}

static void churn_more(void *user)
{
    int i;
    for (i = 0; i < 12; i++) {
        churn_once(user);
    }
}

static void the_sink_may_use_the_pool(void)
{
    ta_pool_desc desc = zero_desc();
    ta_snapshot_desc options;
    document d;
    int round, segments;
    memset(&d, 0, sizeof d);
    for (segments = 0; segments < 2; segments++) {
        churn c;
        ta_allocator a;
        uint64_t changed = 0;
        memset(&c, 0, sizeof c);
        desc.disable_ranges = segments;
        c.pool = open_pool(&desc);
        c.random = test_now.seed;
        a = ta_pool_allocator(c.pool);
        fill_pool(c.pool, 500, &c.random);
        d.meanwhile = churn_more;
        d.user = &c;
        for (round = 0; round < 60; round++) {
            REQUIRE(take_snapshot(&d, &a, 1, NULL));
            CHECK(add_up(&d.tree, allocator_at(&d.tree, 0)).tiles);
            changed += add_up(&d.tree, allocator_at(&d.tree, 0)).changed;
        }
        CHECK(segments || changed != 0); /* pieces were taken apart, and said so */
        memset(&options, 0, sizeof options); /* with room for everything there is nothing to take apart */
        options.scratch_bytes = MIB;
        options.scratch = malloc(MIB);
        REQUIRE(options.scratch != NULL);
        for (round = 0; round < 20; round++) {
            REQUIRE(take_snapshot(&d, &a, 1, &options));
            CHECK(add_up(&d.tree, allocator_at(&d.tree, 0)).tiles);
            CHECK_EQ(add_up(&d.tree, allocator_at(&d.tree, 0)).changed, 0);
            CHECK_EQ(json_get_u64(&d.tree, json_get(&d.tree, allocator_at(&d.tree, 0), "totals"), "visits"), 1);
        }
        d.meanwhile = NULL;
        REQUIRE(take_snapshot(&d, &a, 1, &options));
        check_sums(&d.tree, allocator_at(&d.tree, 0), a);
        free(options.scratch);
        CHECK_OK(ta_pool_check(c.pool));
        CHECK_OK(ta_pool_destroy(c.pool));
    }
    forget(&d);
}

static void scratch_of_any_size_and_place_is_used(void)
{
    ta_pool *pool = open_pool(NULL);
    ta_allocator a = ta_pool_allocator(pool);
    ta_snapshot_desc options;
    document d;
    char *memory = (char *)malloc(64 * KIB + 16);
    uint64_t random = test_now.seed;
    size_t bytes;
    memset(&d, 0, sizeof d);
    memset(&options, 0, sizeof options);
    REQUIRE(memory != NULL);
    fill_pool(pool, 300, &random);
    for (bytes = 0; bytes < 64 * KIB; bytes = bytes < 20 ? bytes + 3 : bytes + bytes / 2) {
        memset(memory, 0x5a, 64 * KIB + 16);
        options.scratch = memory + bytes % 13;
        options.scratch_bytes = bytes;
        REQUIRE(take_snapshot(&d, &a, 1, &options));
        check_sums(&d.tree, allocator_at(&d.tree, 0), a);
        CHECK_EQ(memory[bytes % 13 + bytes], 0x5a); /* not beyond its end */
        CHECK(bytes % 13 == 0 || memory[bytes % 13 - 1] == 0x5a);
    }
    CHECK_OK(ta_pool_destroy(pool));
    free(memory);
    forget(&d);
}

#ifndef TENSORALLOC_NO_THREADS
static void *churn_thread(void *user)
{
    churn *c = (churn *)user;
    while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE)) {
        churn_once(c);
    }
    return NULL;
}

typedef struct resizer {
    ta_dynamic *dynamic;
    ta_arena *arena;
    ta_allocator direct;
    uint64_t random;
    int stop;
} resizer;

static void *resize_thread(void *user)
{
    resizer *r = (resizer *)user;
    const int64_t least[2] = {0, 1024}, expected[2] = {50, 1024}, most[2] = {4096, 1024};
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    memset(&request, 0, sizeof request);
    (void)ta_shape_bounds_init(&bounds, TA_F32, 2, least, expected, most);
    request.bounds = &bounds;
    request.site = 7;
    request.tag = "resized";
    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
        ta_handle handle;
        int64_t dims[2] = {0, 1024};
        ta_arena_mark mark = ta_arena_get_mark(r->arena);
        void *ptr = tagged(r->direct, 100 + test_below(&r->random, 100000), "direct");
        int i;
        (void)ta_dynamic_alloc_request(r->dynamic, &request, &handle);
        for (i = 0; i < 10; i++) {
            dims[0] = test_below(&r->random, 4096);
            (void)ta_dynamic_resize(r->dynamic, handle, dims, 2);
            (void)ta_arena_alloc(r->arena, 1 + test_below(&r->random, 100000), NULL);
        }
        (void)ta_dynamic_free(r->dynamic, handle);
        (void)ta_arena_rewind(r->arena, mark);
        (void)ta_allocator_free(r->direct, ptr, 0, 0, 0);
    }
    return NULL;
}

static void other_threads_may_go_on(void)
{
    churn c[2];
    resizer r;
    pthread_t threads[3];
    ta_direct *direct = NULL;
    ta_allocator list[4];
    ta_snapshot_desc options;
    document d;
    int i, round;
    memset(&d, 0, sizeof d);
    memset(c, 0, sizeof c);
    memset(&r, 0, sizeof r);
    memset(&options, 0, sizeof options);
    options.scratch_bytes = MIB;
    options.scratch = malloc(MIB);
    c[0].pool = c[1].pool = open_pool(NULL);
    CHECK_OK(ta_dynamic_create(NULL, &r.dynamic));
    CHECK_OK(ta_arena_create(NULL, &r.arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    r.direct = list[3] = ta_direct_allocator(direct);
    list[0] = ta_pool_allocator(c[0].pool);
    list[1] = ta_arena_allocator(r.arena);
    list[2] = ta_dynamic_allocator(r.dynamic);
    c[0].random = test_now.seed;
    c[1].random = test_now.seed + 1;
    r.random = test_now.seed + 2;
    for (i = 0; i < 2; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, churn_thread, &c[i]) == 0);
    }
    REQUIRE(pthread_create(&threads[2], NULL, resize_thread, &r) == 0);
    for (round = 0; round < 200 / SLOWER; round++) {
        REQUIRE(take_snapshot(&d, list, 4, round % 2 == 0 ? NULL : &options));
        for (i = 0; i < 5; i++) {
            sums sum = add_up(&d.tree, allocator_at(&d.tree, i));
            CHECK(sum.tiles);
            CHECK(round % 2 == 0 || sum.changed == 0);
        }
    }
    for (i = 0; i < 2; i++) {
        __atomic_store_n(&c[i].stop, 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&r.stop, 1, __ATOMIC_RELEASE);
    for (i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    REQUIRE(take_snapshot(&d, list, 4, NULL));
    check_sums(&d.tree, allocator_at(&d.tree, 0), list[0]);
    check_sums(&d.tree, allocator_at(&d.tree, 1), list[1]);
    check_sums(&d.tree, allocator_at(&d.tree, 4), list[3]); /* behind the dynamic and its pool */
    free(options.scratch);
    CHECK_OK(ta_dynamic_destroy(r.dynamic));
    CHECK_OK(ta_arena_destroy(r.arena));
    CHECK_OK(ta_direct_destroy(direct));
    CHECK_OK(ta_pool_check(c[0].pool));
    CHECK_OK(ta_pool_destroy(c[0].pool));
    forget(&d);
}
#else
static void other_threads_may_go_on(void)
{
    TEST_SKIP("no threads");
}
#endif

/*---------------------------------------------------------------------------------------------------------
  Documents for tests/snapshot.py.
  -------------------------------------------------------------------------------------------------------*/
static int write_documents(const char *directory)
{
    ta_pool_desc desc = zero_desc();
    tb_clock clock;
    ta_handle handle;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic;
    ta_allocator list[5], device, names, traced;
    ta_trace *trace = NULL;
    void *x;
    uint64_t random = 1;
    size_t i;
    int ok;
    test_now.out = stdout;
    desc.limit_bytes = 256 * MIB;
    list[0] = ta_pool_allocator(open_pool(&desc));
    fill_pool((ta_pool *)list[0].self, 500, &random);
    (void)ta_allocator_alloc(list[0], NULL, NULL);
    (void)tagged(list[0], 512 * MIB, "too much");
    (void)ta_arena_create(NULL, &arena);
    (void)ta_arena_alloc_aligned(arena, 5000, 4096, NULL);
    (void)ta_direct_create(NULL, &direct);
    dynamic = make_dynamic(&handle);
    list[1] = ta_arena_allocator(arena);
    list[2] = ta_direct_allocator(direct);
    list[3] = ta_dynamic_allocator(dynamic);
    (void)tagged(list[2], 100000, "direct");
    desc = zero_desc();
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    device = ta_pool_allocator(open_pool(&desc));
    x = ta_pool_alloc_stream((ta_pool *)device.self, 1 * MIB, 0x10, NULL);
    (void)ta_pool_alloc_stream((ta_pool *)device.self, 1 * MIB, 0xfffffffffffffff0u, NULL);
    tb_clock_use(&clock, 0x20, x, 1 * MIB);
    (void)ta_pool_record_use((ta_pool *)device.self, x, 0x20);
    (void)ta_pool_free((ta_pool *)device.self, x);
    list[4] = device;
    names = ta_pool_allocator(open_pool(NULL));
    for (i = 0; i < NASTY_COUNT; i++) {
        (void)tagged(names, 100 + 256 * i, nasty[i]);
    }
    (void)ta_trace_create(NULL, &trace);
    traced = ta_pool_allocator(open_traced(trace));
    ok = write_one(directory, "all", list, 5, NULL) && write_one(directory, "empty", NULL, 0, NULL) &&
         write_one(directory, "nasty", &names, 1, NULL) && write_one(directory, "traced", &traced, 1, trace) &&
         ta_pool_dispose((ta_pool *)list[0].self) == TA_OK && write_one(directory, "disposed", list, 1, NULL);
    for (i = 0; i < 5; i++) {
        (void)ta_allocator_destroy(list[i]);
    }
    (void)ta_allocator_destroy(names);
    (void)ta_allocator_destroy(traced);
    (void)ta_trace_destroy(trace);
    tb_clock_end(&clock);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST_CASE(the_reader_refuses_what_is_no_json), TEST_CASE(pools_are_told_as_they_are),
        TEST_CASE(streams_and_pending_blocks_are_told), TEST_CASE(arenas_and_direct_allocators_are_told),
        TEST_CASE(tensors_with_bounds_are_told), TEST_CASE(shared_budgets_and_backends_are_told_once),
        TEST_CASE(idle_backends_are_not_asked), TEST_CASE(other_peoples_allocators_show_what_they_say),
        TEST_CASE(events_are_told), TEST_CASE(many_of_every_kind),
        TEST_CASE(arguments_are_checked), TEST_CASE(figures_without_blocks),
        TEST_CASE(tags_and_names_may_hold_anything), TEST_CASE(sinks_that_fail_end_it), TEST_CASE(files_take_it),
        TEST_CASE(the_sink_may_use_the_pool), TEST_CASE(scratch_of_any_size_and_place_is_used),
        TEST_CASE(other_threads_may_go_on)
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_documents(argv[2]);
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
