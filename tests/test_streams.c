/* test_streams.c - order between streams, on a backend with a logical clock: memory goes to another stream only if
   the new work comes after the old, whatever the device does. */
#include "implementation.h"
#include "backends.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

/* Streams are opaque; 0 is one like the others. */
static const ta_stream A = 0x10, B = 0xdeadbeefcafef00du, C = 0;

typedef struct fixture {
    tb_clock clock;
    tb_counting counting;
    ta_pool *pool;
    ta_allocator a;
} fixture;

static ta_backend open_clock(fixture *f, uint32_t caps)
{
    memset(f, 0, sizeof *f);
    return tb_counting_init(&f->counting, tb_clock_init(&f->clock, caps, 0), 0);
}

static void close_clock(fixture *f)
{
    tb_counting_check(&f->counting, 1);
    tb_counting_end(&f->counting);
    tb_clock_check(&f->clock);
    tb_clock_end(&f->clock);
}

static ta_pool_desc zero_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

/* desc->backend is filled in. */
static void open_pool(fixture *f, ta_pool_desc *desc)
{
    desc->backend = open_clock(f, TA_CAP_RANGES | TA_CAP_SEGMENTS);
    CHECK_OK(ta_pool_create(desc, &f->pool));
    f->a = ta_pool_allocator(f->pool);
}

static void close_pool(fixture *f)
{
    CHECK_OK(ta_pool_check(f->pool));
    CHECK_OK(ta_pool_destroy(f->pool));
    close_clock(f);
}

static ta_stats stats_of(fixture *f)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_pool_get_stats(f->pool, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_LE(s.pending_bytes + s.thread_cached_bytes, s.cached_bytes);
    CHECK_EQ(s.reserved_bytes, tb_counting_held(&f->counting));
    return s;
}

static void *alloc_flags(fixture *f, ta_stream stream, size_t size, uint32_t flags, ta_result *result)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.stream = stream;
    request.flags = flags;
    return ta_pool_alloc_request(f->pool, &request, result);
}

/* Allocates on a stream and checks that work on it may begin. */
static void *alloc_on(fixture *f, ta_stream stream, size_t size)
{
    ta_result result = TA_ERROR_CORRUPT;
    void *ptr = alloc_flags(f, stream, size, 0, &result);
    CHECK_OK(result);
    CHECK(ptr != NULL && tb_clock_is_ordered(&f->clock, stream, ptr, size));
    return ptr;
}

/* A block that its home stream has used, freed again; the device has not finished. */
static void *use_and_free(fixture *f, ta_stream stream, size_t size)
{
    void *ptr = alloc_on(f, stream, size);
    tb_clock_use(&f->clock, stream, ptr, size);
    CHECK_OK(ta_pool_free(f->pool, ptr));
    return ptr;
}

/* The pool may take no more from the backend; allocates what is there on a stream. 1: ptr was among it. */
static int drain_gives(fixture *f, ta_stream stream, size_t size, const void *ptr)
{
    int found = 0, count = 0;
    ta_result result = TA_OK;
    void *got;
    CHECK_OK(ta_pool_seal(f->pool, 1));
    while (count++ < 10000 && (got = alloc_flags(f, stream, size, 0, &result)) != NULL) {
        CHECK(tb_clock_is_ordered(&f->clock, stream, got, size));
        found += got == ptr;
    }
    CHECK_RESULT(result, TA_ERROR_SEALED);
    CHECK_OK(ta_pool_seal(f->pool, 0));
    return found;
}

/*---------------------------------------------------------------------------------------------------------
  The clock itself: it has to see what it is there to see.
  -------------------------------------------------------------------------------------------------------*/
static void clock_tells_order_from_luck(void)
{
    tb_clock clock;
    ta_backend b = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    const size_t size = 4 * TB_CLOCK_GRANULARITY;
    uint64_t ticket = 0;
    void *ptr = NULL;
    CHECK_OK(b.vtable->reserve(b.self, size, TB_CLOCK_GRANULARITY, 0, &ptr));
    CHECK_OK(b.vtable->commit(b.self, ptr, size));
    CHECK(tb_clock_is_ordered(&clock, B, ptr, size)); /* nobody has used it */
    tb_clock_use(&clock, A, ptr, size);
    CHECK(tb_clock_is_ordered(&clock, A, ptr, size)); /* a stream is in order with itself */
    CHECK(!tb_clock_is_ordered(&clock, B, ptr, size));
    tb_clock_complete(&clock, A);
    CHECK(!tb_clock_is_ordered(&clock, B, ptr, size)); /* finished, but nobody had to wait for that: luck */
    CHECK_OK(b.vtable->mark(b.self, A, &ticket));
    CHECK_OK(b.vtable->is_done(b.self, ticket));
    b.vtable->drop(b.self, ticket);
    CHECK(tb_clock_is_ordered(&clock, B, ptr, size)); /* the host knows now */
    tb_clock_use(&clock, B, ptr, size);
    CHECK(!tb_clock_is_ordered(&clock, A, ptr, size));
    CHECK_OK(b.vtable->mark(b.self, B, &ticket));
    CHECK_RESULT(b.vtable->is_done(b.self, ticket), TA_ERROR_NOT_READY);
    CHECK_OK(b.vtable->wait(b.self, A, ticket));
    CHECK(tb_clock_is_ordered(&clock, A, ptr, size)); /* through the wait, although nothing is finished */
    CHECK(!tb_clock_is_ordered(&clock, C, ptr, size));
    tb_clock_after(&clock, C, A);
    CHECK(tb_clock_is_ordered(&clock, C, ptr, size)); /* through two waits */
    tb_clock_use(&clock, B, (char *)ptr + size / 2, 1);
    CHECK(tb_clock_is_ordered(&clock, C, ptr, size / 2));
    CHECK(!tb_clock_is_ordered(&clock, C, ptr, size)); /* one granule is enough */
    b.vtable->drop(b.self, ticket);
    CHECK_OK(b.vtable->mark(b.self, B, &ticket));
    CHECK_OK(b.vtable->sync(b.self, ticket));
    CHECK(tb_clock_is_ordered(&clock, C, ptr, size));
    b.vtable->drop(b.self, ticket);
    CHECK_EQ(clock.violations.count, 0);
    CHECK_OK(b.vtable->release(b.self, ptr, size));
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

static void clock_makes_progress_in_order(void)
{
    tb_clock clock;
    ta_backend b = tb_clock_init(&clock, TA_CAP_SEGMENTS, 0);
    uint64_t early = 0, late = 0;
    void *ptr = NULL;
    CHECK_OK(b.vtable->alloc(b.self, TB_CLOCK_GRANULARITY, &ptr));
    CHECK(!tb_clock_step(&clock, A)); /* nothing to do */
    tb_clock_use(&clock, A, ptr, 1);
    CHECK_OK(b.vtable->mark(b.self, A, &early));
    tb_clock_after(&clock, B, A);
    tb_clock_use(&clock, B, ptr, 1);
    CHECK_OK(b.vtable->mark(b.self, B, &late));
    CHECK(!tb_clock_step(&clock, B)); /* it waits for A */
    CHECK(tb_clock_step(&clock, A));
    CHECK_OK(b.vtable->is_done(b.self, early));
    CHECK_RESULT(b.vtable->is_done(b.self, late), TA_ERROR_NOT_READY);
    CHECK(tb_clock_step(&clock, B));
    CHECK(tb_clock_step(&clock, B));
    CHECK(!tb_clock_step(&clock, B));
    CHECK_OK(b.vtable->is_done(b.self, late));
    tb_clock_after(&clock, A, B);
    tb_clock_use(&clock, B, ptr, 1); /* behind what A waits for */
    tb_clock_complete(&clock, A);
    CHECK(tb_clock_step(&clock, B)); /* that one was left */
    b.vtable->drop(b.self, early);
    b.vtable->drop(b.self, late);
    CHECK_EQ(clock.violations.count, 0);
    CHECK_OK(b.vtable->mark(b.self, B, &late));
    CHECK_OK(b.vtable->is_done(b.self, late));
    b.vtable->drop(b.self, late);
    CHECK_OK(b.vtable->free(b.self, ptr, TB_CLOCK_GRANULARITY));
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

static void clock_catches_violations(void)
{
    tb_clock clock;
    ta_backend b = tb_clock_init(&clock, TA_CAP_RANGES | TA_CAP_SEGMENTS, 0);
    uint64_t ticket = 0, seen = 0;
    void *ptr = NULL;
#define VIOLATES(call) \
    do { \
        (void)(call); \
        CHECK_EQ(clock.violations.count, seen + 1); \
        seen = clock.violations.count; \
    } while (0)
    CHECK_OK(b.vtable->alloc(b.self, TB_CLOCK_GRANULARITY, &ptr));
    tb_clock_use(&clock, A, ptr, 1);
    VIOLATES(b.vtable->zero(b.self, ptr, 1, B)); /* wipes what A works on */
    tb_clock_complete(&clock, A);
    tb_clock_complete(&clock, B);
    VIOLATES(b.vtable->free(b.self, ptr, TB_CLOCK_GRANULARITY)); /* done, but nobody asked */
    CHECK_OK(b.vtable->mark(b.self, A, &ticket));
    b.vtable->drop(b.self, ticket);
    VIOLATES(b.vtable->is_done(b.self, ticket));
    VIOLATES(b.vtable->sync(b.self, ticket));
    VIOLATES(b.vtable->wait(b.self, B, ticket));
    VIOLATES(b.vtable->is_done(b.self, 0));
    VIOLATES(b.vtable->is_done(b.self, 99));
#undef VIOLATES
    CHECK_EQ(clock.tickets_live, 0);
    CHECK_EQ(clock.used.count, 0);
    tb_clock_end(&clock);
}

/*---------------------------------------------------------------------------------------------------------
  Reuse.
  -------------------------------------------------------------------------------------------------------*/
static void same_stream_needs_no_order(void)
{
    static const size_t sizes[] = {300, 5000, 70000, 400000};
    int variant;
    for (variant = 0; variant < 3; variant++) {
        ta_pool_desc desc = zero_desc();
        fixture f;
        size_t i;
        test_context("variant %d", variant);
        desc.single_threaded = variant == 1;
        desc.disable_thread_caches = variant == 2;
        open_pool(&f, &desc);
        for (i = 0; i < 4; i++) {
            void *ptr = use_and_free(&f, A, sizes[i]), *again = alloc_on(&f, A, sizes[i]);
            CHECK(again == ptr || sizes[i] <= 65536); /* at once, while the device is still at it */
        }
        CHECK_EQ(f.clock.mark_count + f.clock.wait_count + f.clock.sync_count, 0);
        CHECK_EQ(stats_of(&f).hit_count, 4);
        CHECK_EQ(stats_of(&f).steal_count, 0);
        close_pool(&f);
    }
}

/* What a stream freed at the end of a range is, for that stream alone, the beginning of what is not used yet. */
static void last_hole_grows_on_its_stream(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    void *ptr, *more, *other;
    desc.disable_stealing = 1;
    open_pool(&f, &desc);
    ptr = use_and_free(&f, A, 400000);
    more = alloc_on(&f, A, 4000000);
    CHECK(more == ptr);
    CHECK_LE(stats_of(&f).reserved_bytes, 4 << 20);
    CHECK_OK(ta_pool_free(f.pool, more));
    other = alloc_on(&f, B, 5000000);
    CHECK(other != NULL && other != ptr);
    CHECK_EQ(f.clock.mark_count + f.clock.wait_count + f.clock.sync_count, 0);
    close_pool(&f);
}

static void other_stream_steals_with_a_wait(void)
{
    ta_pool_desc desc = zero_desc();
    ta_stats s;
    fixture f;
    void *ptr;
    open_pool(&f, &desc);
    ptr = use_and_free(&f, A, 300000);
    CHECK_EQ(drain_gives(&f, B, 300000, ptr), 1);
    s = stats_of(&f);
    CHECK_GE(s.steal_count, 1);
    CHECK_EQ(f.clock.wait_count, s.steal_count);
    CHECK_EQ(f.clock.sync_count, 0); /* the device waits, not the host */
    CHECK_EQ(f.clock.poll_count, 0);
    close_pool(&f);
}

static void stealing_can_be_turned_off(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    void *ptr;
    desc.disable_stealing = 1;
    desc.limit_bytes = 4 * MIB;
    open_pool(&f, &desc);
    ptr = use_and_free(&f, A, 3 * MIB);
    CHECK_EQ(drain_gives(&f, B, 300000, ptr), 0); /* what A used stays A's */
    CHECK_EQ(f.clock.wait_count, 0);
    CHECK_EQ(stats_of(&f).steal_count, 0);
    CHECK(alloc_flags(&f, B, 2 * MIB, TA_REQUEST_CACHED_ONLY, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    (void)alloc_on(&f, B, 2 * MIB); /* no other way: the host waits, then it is everybody's */
    CHECK_GT(f.clock.sync_count, 0);
    CHECK_EQ(stats_of(&f).steal_count, 0);
    close_pool(&f);
}

/* Memory that is ready for all streams stays so when a request looks at it and cannot have it. */
static void asking_claims_nothing_for_a_stream(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    void *ptr, *got;
    desc.disable_stealing = 1;
    open_pool(&f, &desc);
    ptr = alloc_on(&f, A, 3 * MIB);
    (void)alloc_on(&f, A, 100000); /* behind it */
    CHECK_OK(ta_pool_free(f.pool, ptr));
    CHECK_OK(ta_pool_empty_cache(f.pool)); /* waits: addresses without memory, for whoever comes */
    CHECK(alloc_flags(&f, B, 3 * MIB, TA_REQUEST_CACHED_ONLY, &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_NOT_CACHED);
    CHECK_OK(ta_pool_check(f.pool));
    got = alloc_on(&f, C, 3 * MIB);
    CHECK(got == ptr);
    close_pool(&f);
}

static void small_blocks_stay_on_their_stream(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    int i;
    open_pool(&f, &desc);
    for (i = 0; i < 50; i++) {
        (void)use_and_free(&f, i % 2 == 0 ? A : B, 1000); /* by the thread's caches of both streams in turn */
        (void)alloc_on(&f, i % 3 == 0 ? A : C, 1000);
    }
    CHECK_OK(ta_pool_thread_flush(f.pool));
    CHECK_EQ(stats_of(&f).thread_cached_bytes, 0);
    close_pool(&f);
}

/* What this thread's caches hold for one stream is the first thing to look at when another one has no memory left. */
static void caches_of_other_streams_are_found_before_failing(void)
{
    int stealing;
    for (stealing = 0; stealing < 2; stealing++) {
        ta_pool_desc desc = zero_desc();
        void *held[200];
        fixture f;
        int count = 0;
        test_context(stealing ? "stealing" : "no stealing");
        desc.limit_bytes = 512 * KIB;
        desc.disable_stealing = !stealing;
        open_pool(&f, &desc);
        while (count < 200 && (held[count] = alloc_flags(&f, A, 4096, 0, NULL)) != NULL) {
            tb_clock_use(&f.clock, A, held[count++], 4096);
        }
        CHECK_GE(count, 30);
        while (count > 0) {
            CHECK_OK(ta_pool_free(f.pool, held[--count]));
        }
        CHECK_EQ(stats_of(&f).in_use_bytes, 0);
        (void)alloc_on(&f, B, 4096);
        (void)alloc_on(&f, B, 200000);
        close_pool(&f);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Uses by other streams than home.
  -------------------------------------------------------------------------------------------------------*/
/* A block of A that B uses too, which A does not wait for. */
static void *block_used_by_b(fixture *f, size_t size)
{
    void *ptr = alloc_on(f, A, size);
    tb_clock_use(&f->clock, A, ptr, size);
    tb_clock_after(&f->clock, B, A);
    tb_clock_use(&f->clock, B, ptr, size);
    return ptr;
}

static int find_state(void *user, const ta_block_info *block)
{
    ta_block_info *want = (ta_block_info *)user;
    if (block->ptr == want->ptr) {
        *want = *block;
        return 1;
    }
    return 0;
}

/* way 0: record_use, 1: free through the table with the stream, 2: clear. */
static void free_used_by_b(fixture *f, void *ptr, int way)
{
    if (way == 1) {
        CHECK_OK(ta_allocator_free(f->a, ptr, 0, 0, B));
        return;
    }
    CHECK_OK(ta_pool_record_use(f->pool, ptr, B));
    CHECK_OK(ta_pool_record_use(f->pool, ptr, B)); /* once is enough */
    CHECK_OK(ta_pool_record_use(f->pool, ptr, A)); /* home: nothing to do */
    if (way == 2) {
        CHECK_OK(ta_pool_clear(f->pool));
    } else {
        CHECK_OK(ta_pool_free(f->pool, ptr));
    }
}

static void recorded_uses_delay_reuse(void)
{
    static const size_t sizes[] = {2000, 300000};
    int way;
    for (way = 0; way < 6; way++) {
        const size_t size = sizes[way / 3];
        ta_pool_desc desc = zero_desc();
        ta_block_info info;
        ta_stats s;
        fixture f;
        size_t capacity;
        ta_buffer copy;
        void *ptr;
        test_context("way %d, %u bytes", way % 3, (unsigned)size);
        open_pool(&f, &desc);
        ptr = block_used_by_b(&f, size);
        capacity = ta_pool_capacity_of(f.pool, ptr);
        memset(&copy, 0, sizeof copy);
        CHECK_OK(ta_pool_describe(f.pool, ptr, &info));
        copy.data = ptr;
        copy.id = info.id;
        CHECK_OK(ta_allocator_check_buffer(f.a, &copy));
        free_used_by_b(&f, ptr, way % 3);
        CHECK_EQ(f.clock.mark_count, 1);
        s = stats_of(&f);
        CHECK_EQ(s.pending_bytes, capacity);
        CHECK_GE(s.cached_bytes, capacity);
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.in_use_bytes, 0);
        CHECK_EQ(s.deallocation_count, 1);
        CHECK_RESULT(ta_pool_free(f.pool, ptr), TA_ERROR_STALE);
        CHECK(!ta_pool_owns(f.pool, ptr));
        memset(&info, 0, sizeof info);
        info.ptr = ptr;
        CHECK_OK(ta_pool_walk(f.pool, find_state, &info));
        CHECK_EQ(info.state, TA_BLOCK_PENDING);
        CHECK_EQ(info.capacity_bytes, capacity);
        CHECK_OK(ta_pool_check(f.pool));
        CHECK_EQ(drain_gives(&f, A, size, ptr), 0); /* not while B is at it */
        CHECK_EQ(drain_gives(&f, C, size, ptr), 0);
        CHECK_EQ(stats_of(&f).pending_bytes, capacity);
        tb_clock_complete(&f.clock, B);
        CHECK_EQ(drain_gives(&f, A, size, ptr), 1); /* now it is found by asking */
        CHECK_EQ(stats_of(&f).pending_bytes, 0);
        CHECK_RESULT(ta_allocator_check_buffer(f.a, &copy), TA_ERROR_STALE); /* the place lives again, that block not */
        CHECK_EQ(f.clock.sync_count, 0);
        close_pool(&f);
    }
}

static void free_on_the_home_stream_is_not_delayed(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    void *ptr;
    open_pool(&f, &desc);
    ptr = alloc_on(&f, A, 300000);
    tb_clock_use(&f.clock, A, ptr, 300000);
    CHECK_OK(ta_allocator_free(f.a, ptr, 300000, 0, A));
    CHECK_EQ(stats_of(&f).pending_bytes, 0);
    CHECK_EQ(f.clock.mark_count, 0);
    CHECK(alloc_on(&f, A, 300000) == ptr);
    close_pool(&f);
}

static void several_streams_are_all_waited_for(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    void *ptr;
    open_pool(&f, &desc);
    ptr = block_used_by_b(&f, 300000);
    tb_clock_after(&f.clock, C, A);
    tb_clock_use(&f.clock, C, ptr, 300000);
    CHECK_OK(ta_pool_record_use(f.pool, ptr, C));
    CHECK_OK(ta_allocator_free(f.a, ptr, 0, 0, B));
    CHECK_EQ(f.clock.mark_count, 2);
    tb_clock_complete(&f.clock, B);
    CHECK_EQ(drain_gives(&f, A, 300000, ptr), 0); /* C is not done */
    CHECK_GT(stats_of(&f).pending_bytes, 0);
    tb_clock_complete(&f.clock, C);
    CHECK_EQ(drain_gives(&f, A, 300000, ptr), 1);
    close_pool(&f);
}

static void asking_is_once_per_stream(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    uint64_t polls;
    int i;
    open_pool(&f, &desc);
    for (i = 0; i < 100; i++) {
        free_used_by_b(&f, block_used_by_b(&f, 100000), 0);
    }
    polls = f.clock.poll_count;
    CHECK_OK(ta_pool_seal(f.pool, 1));
    while (alloc_flags(&f, A, 100000, 0, NULL) != NULL) {
    }
    polls = f.clock.poll_count;
    CHECK(alloc_flags(&f, A, 100000, 0, NULL) == NULL);
    CHECK_LE(f.clock.poll_count - polls, 2); /* the oldest of each stream speaks for the others */
    tb_clock_complete(&f.clock, B);
    CHECK_OK(ta_pool_seal(f.pool, 0));
    (void)alloc_on(&f, A, 100000);
    CHECK_EQ(stats_of(&f).pending_bytes, 0);
    close_pool(&f);
}

static void record_use_checks_its_pointer(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    void *ptr;
    int x;
    TEST_ALLOW_ASSERTS();
    open_pool(&f, &desc);
    ptr = alloc_on(&f, A, 1000);
    CHECK_RESULT(ta_pool_record_use(f.pool, &x, B), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_pool_record_use(f.pool, (char *)ptr + 1, B), TA_ERROR_INTERIOR);
    CHECK_OK(ta_pool_free(f.pool, ptr));
    CHECK_RESULT(ta_pool_record_use(f.pool, ptr, B), TA_ERROR_STALE);
    CHECK_EQ(stats_of(&f).pending_bytes, 0);
    close_pool(&f);
}

/*---------------------------------------------------------------------------------------------------------
  The ladder, trim, dispose.
  -------------------------------------------------------------------------------------------------------*/
static void ladder_waits_before_it_fails(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    void *ptr;
    desc.limit_bytes = 4 * MIB;
    open_pool(&f, &desc);
    ptr = block_used_by_b(&f, 3 * MIB);
    free_used_by_b(&f, ptr, 0);
    CHECK(alloc_flags(&f, A, 2 * MIB, TA_REQUEST_WITHIN_BUDGET, &result) == NULL); /* that one does not wait */
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_EQ(f.clock.sync_count, 0);
    CHECK_GT(stats_of(&f).pending_bytes, 0);
    (void)alloc_on(&f, A, 2 * MIB);
    CHECK_GT(f.clock.sync_count, 0);
    CHECK_EQ(stats_of(&f).pending_bytes, 0);
    CHECK_LE(stats_of(&f).peak_reserved_bytes, 4 * MIB);
    close_pool(&f);
}

static void failure_tells_what_is_pending(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    ta_failure failure;
    fixture f;
    desc.limit_bytes = 4 * MIB;
    open_pool(&f, &desc);
    free_used_by_b(&f, block_used_by_b(&f, 3 * MIB), 0);
    CHECK(alloc_flags(&f, A, 2 * MIB, TA_REQUEST_WITHIN_BUDGET, &result) == NULL);
    CHECK_OK(ta_pool_get_failure(f.pool, &failure));
    CHECK_GE(failure.pending_bytes, 3 * MIB);
    CHECK_EQ(failure.stream, A);
    CHECK_EQ(failure.in_use_bytes, 0);
    close_pool(&f);
}

static void empty_cache_waits_for_the_work(void)
{
    uint32_t caps;
    for (caps = TA_CAP_SEGMENTS; caps <= TA_CAP_RANGES; caps++) {
        ta_pool_desc desc = zero_desc();
        fixture f;
        test_context(caps == TA_CAP_SEGMENTS ? "segments" : "ranges");
        desc.backend = open_clock(&f, caps);
        CHECK_OK(ta_pool_create(&desc, &f.pool));
        f.a = ta_pool_allocator(f.pool);
        (void)use_and_free(&f, A, 1000);
        (void)use_and_free(&f, A, 300000);
        free_used_by_b(&f, block_used_by_b(&f, 500000), 0);
        (void)use_and_free(&f, C, 40000);
        CHECK_OK(ta_pool_empty_cache(f.pool)); /* the clock objects if pages go back too early */
        CHECK_EQ(stats_of(&f).reserved_bytes, 0);
        (void)alloc_on(&f, B, 1000);
        close_pool(&f);
    }
}

/* Above the cap memory goes back by itself: not before the work on it is done. */
static void cap_waits_for_the_work(void)
{
    uint32_t caps;
    for (caps = TA_CAP_SEGMENTS; caps <= TA_CAP_RANGES; caps++) {
        ta_pool_desc desc = zero_desc();
        fixture f;
        int i;
        test_context(caps == TA_CAP_SEGMENTS ? "segments" : "ranges");
        desc.backend = open_clock(&f, caps);
        desc.cached_bytes_max = 1;
        CHECK_OK(ta_pool_create(&desc, &f.pool));
        f.a = ta_pool_allocator(f.pool);
        for (i = 0; i < 4; i++) { /* blocks that are a whole segment each; the clock objects if one goes too early */
            (void)use_and_free(&f, i % 2 == 0 ? A : B, 20 * MIB);
        }
        tb_clock_complete(&f.clock, A);
        tb_clock_complete(&f.clock, B);
        CHECK_OK(ta_pool_empty_cache(f.pool));
        CHECK_EQ(stats_of(&f).reserved_bytes, 0);
        close_pool(&f);
    }
}

static void dispose_waits_for_the_work(void)
{
    int kind;
    for (kind = 0; kind < 4; kind++) {
        ta_pool_desc desc = zero_desc();
        fixture f;
        void *ptr;
        test_context("kind %d", kind);
        desc.backend = open_clock(&f, kind % 2 == 0 ? TA_CAP_RANGES : TA_CAP_SEGMENTS);
        desc.single_threaded = kind >= 2;
        CHECK_OK(ta_pool_create(&desc, &f.pool));
        f.a = ta_pool_allocator(f.pool);
        ptr = block_used_by_b(&f, 300000); /* live, and B has work on it */
        CHECK_OK(ta_pool_record_use(f.pool, ptr, B));
        free_used_by_b(&f, block_used_by_b(&f, 200000), 0); /* pending */
        (void)use_and_free(&f, C, 1000);
        ptr = alloc_on(&f, C, 100000);
        tb_clock_use(&f.clock, C, ptr, 100000);
        CHECK_OK(ta_pool_dispose(f.pool));
        CHECK_EQ(tb_counting_held(&f.counting), 0);
        CHECK_RESULT(ta_pool_free(f.pool, ptr), TA_ERROR_DISPOSED);
        CHECK_OK(ta_pool_destroy(f.pool));
        close_clock(&f);
    }
}

static void arena_and_direct_wait_as_well(void)
{
    int kind;
    for (kind = 0; kind < 6; kind++) {
        ta_arena_desc arena_desc;
        ta_direct_desc direct_desc;
        ta_arena *arena = NULL;
        ta_direct *direct = NULL;
        ta_request request;
        fixture f;
        void *ptr;
        static const char *const names[] = {"arena, ranges, destroy", "arena, segments, destroy", "direct, destroy",
                                            "arena, ranges, reset", "arena, segments, reset", "direct, free"};
        test_context("%s", names[kind]);
        memset(&arena_desc, 0, sizeof arena_desc);
        memset(&direct_desc, 0, sizeof direct_desc);
        memset(&request, 0, sizeof request);
        arena_desc.backend = direct_desc.backend = open_clock(&f, kind % 3 == 0 ? TA_CAP_RANGES : TA_CAP_SEGMENTS);
        if (kind % 3 == 2) {
            CHECK_OK(ta_direct_create(&direct_desc, &direct));
            f.a = ta_direct_allocator(direct);
        } else {
            CHECK_OK(ta_arena_create(&arena_desc, &arena));
            f.a = ta_arena_allocator(arena);
        }
        request.size_bytes = 300000;
        request.stream = A;
        ptr = ta_allocator_alloc(f.a, &request, NULL);
        CHECK(ptr != NULL);
        tb_clock_use(&f.clock, A, ptr, 300000);
        if (kind != 5) { /* work that begins after the allocator has waited once counts as well */
            CHECK_OK(ta_allocator_empty_cache(f.a));
            tb_clock_use(&f.clock, A, ptr, 300000);
        }
        if (kind == 5) {
            CHECK_OK(ta_allocator_free(f.a, ptr, 0, 0, A));
        } else if (kind >= 3) {
            CHECK_OK(ta_arena_reset(arena, 0));
        }
        CHECK_OK(ta_allocator_destroy(f.a));
        close_clock(&f);
    }
}

static void arenas_remember_many_streams(void)
{
    int kind;
    for (kind = 0; kind < 2; kind++) {
        ta_arena_desc desc;
        ta_arena *arena = NULL;
        ta_request request;
        fixture f;
        void *ptrs[TB_STREAMS_MAX];
        int i, round;
        test_context(kind == 0 ? "ranges" : "segments");
        memset(&desc, 0, sizeof desc);
        memset(&request, 0, sizeof request);
        desc.backend = open_clock(&f, kind == 0 ? TA_CAP_RANGES : TA_CAP_SEGMENTS);
        CHECK_OK(ta_arena_create(&desc, &arena));
        f.a = ta_arena_allocator(arena);
        request.size_bytes = 100000;
        for (i = 0; i < TB_STREAMS_MAX; i++) {
            request.stream = (ta_stream)i * 7;
            ptrs[i] = ta_allocator_alloc(f.a, &request, NULL);
            REQUIRE(ptrs[i] != NULL);
        }
        for (round = 0; round < 2; round++) { /* the first ones have work again when the last ones have come */
            for (i = 0; i < TB_STREAMS_MAX; i++) {
                tb_clock_use(&f.clock, (ta_stream)i * 7, ptrs[i], request.size_bytes);
            }
        }
        CHECK_OK(ta_arena_reset(arena, 0)); /* the clock objects if it forgot one */
        CHECK_EQ(tb_counting_held(&f.counting), 0);
        CHECK_OK(ta_arena_destroy(arena));
        close_clock(&f);
    }
}

static void few_records_are_enough(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    desc.block_count_max = 64;
    open_pool(&f, &desc);
    REQUIRE(f.pool != NULL);
    free_used_by_b(&f, block_used_by_b(&f, 3000), 0);
    (void)alloc_on(&f, C, 100000);
    close_pool(&f);
}

static void siblings_wait_before_they_give(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_pool *other = NULL;
    ta_stats s;
    fixture f;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.backend = open_clock(&f, TA_CAP_RANGES);
    budget_desc.limit_bytes = 4 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    CHECK_OK(ta_pool_create(&desc, &f.pool));
    CHECK_OK(ta_pool_create(&desc, &other));
    f.a = ta_pool_allocator(f.pool);
    free_used_by_b(&f, block_used_by_b(&f, 2 * MIB), 0);
    (void)use_and_free(&f, A, 1 * MIB);
    CHECK(ta_pool_alloc(other, 3 * MIB, NULL) != NULL); /* the clock objects if pages go back too early */
    CHECK_OK(ta_pool_get_stats(f.pool, &s));
    CHECK_GT(s.trimmed_bytes, 0);
    CHECK_OK(ta_pool_destroy(other));
    CHECK_OK(ta_pool_destroy(f.pool));
    CHECK_OK(ta_budget_destroy(budget));
    close_clock(&f);
}

/*---------------------------------------------------------------------------------------------------------
  Resize, realloc, zero: work of the pool's own.
  -------------------------------------------------------------------------------------------------------*/
static void growth_takes_no_neighbour_of_another_stream(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    char *x, *y;
    ta_result result;
    open_pool(&f, &desc);
    x = (char *)alloc_on(&f, A, 200000);
    y = (char *)alloc_on(&f, B, 200000);
    CHECK(y > x);
    tb_clock_use(&f.clock, B, y, 200000);
    CHECK_OK(ta_pool_free(f.pool, y));
    result = ta_pool_resize_in_place(f.pool, x, 300000);
    CHECK(result == TA_ERROR_WOULD_MOVE || (result == TA_OK && tb_clock_is_ordered(&f.clock, A, x, 300000)));
    CHECK_OK(ta_pool_empty_cache(f.pool)); /* waits: now it is everybody's */
    CHECK_OK(ta_pool_resize_in_place(f.pool, x, 100000));
    CHECK_OK(ta_pool_resize_in_place(f.pool, x, 190000)); /* into its own end */
    CHECK(tb_clock_is_ordered(&f.clock, A, x, 190000));
    close_pool(&f);
}

static void shrinking_a_block_that_others_use(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    char *x, *fence;
    size_t size;
    open_pool(&f, &desc);
    x = (char *)block_used_by_b(&f, 400000);
    fence = (char *)alloc_on(&f, A, 1000);
    CHECK_OK(ta_pool_record_use(f.pool, x, B));
    CHECK_OK(ta_pool_resize_in_place(f.pool, x, 100000));
    for (size = 200000; size > 1000; size /= 2) { /* its end must not go to anybody who does not wait for B */
        (void)alloc_on(&f, A, size);
        (void)alloc_on(&f, C, size);
    }
    CHECK(fence != NULL);
    close_pool(&f);
}

static void realloc_copies_on_the_home_stream(void)
{
    ta_pool_desc desc = zero_desc();
    ta_block_info info;
    fixture f;
    ta_result result = TA_OK;
    void *x, *fence, *moved;
    open_pool(&f, &desc);
    x = alloc_on(&f, B, 100000);
    fence = alloc_on(&f, B, 1000000);
    tb_clock_use(&f.clock, B, x, 100000);
    moved = ta_pool_realloc(f.pool, x, 500000, &result);
    CHECK_OK(result);
    CHECK(moved != NULL && moved != x && fence != NULL);
    CHECK_EQ(f.clock.copy_count, 1);
    CHECK(tb_clock_is_ordered(&f.clock, B, moved, 500000));
    CHECK_OK(ta_pool_describe(f.pool, moved, &info));
    CHECK_EQ(info.stream, B);
    (void)alloc_on(&f, A, 90000); /* if that is where x was, it waits for the copy */
    CHECK_EQ(stats_of(&f).live_count, 3);
    close_pool(&f);
}

static void zeroing_is_ordered(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    int i;
    open_pool(&f, &desc);
    for (i = 0; i < 20; i++) { /* the clock objects if zeros are written before the old work is done */
        (void)use_and_free(&f, i % 2 == 0 ? A : B, 300000);
        CHECK(alloc_flags(&f, i % 3 == 0 ? A : C, 250000, TA_REQUEST_ZEROED, &result) != NULL);
        CHECK_OK(result);
    }
    CHECK_EQ(f.clock.zero_count, 20);
    close_pool(&f);
}

/*---------------------------------------------------------------------------------------------------------
  A backend that fails at the calls of order.
  -------------------------------------------------------------------------------------------------------*/
static void failing_mark_leaves_the_block_live(void)
{
    ta_pool_desc desc = zero_desc();
    fixture f;
    void *ptr;
    open_pool(&f, &desc);
    ptr = block_used_by_b(&f, 300000);
    CHECK_OK(ta_pool_record_use(f.pool, ptr, B));
    CHECK_OK(ta_pool_record_use(f.pool, ptr, C));
    tb_counting_fail(&f.counting, TB_MARK, 2, 0); /* the second of two */
    CHECK_RESULT(ta_pool_free(f.pool, ptr), TA_ERROR_BACKEND);
    CHECK(ta_pool_owns(f.pool, ptr));
    CHECK_EQ(stats_of(&f).live_count, 1);
    CHECK_EQ(stats_of(&f).pending_bytes, 0);
    CHECK_EQ(f.counting.tickets, 0);
    CHECK_OK(ta_pool_check(f.pool));
    CHECK_OK(ta_pool_free(f.pool, ptr)); /* again, and now it works */
    CHECK_GT(stats_of(&f).pending_bytes, 0);
    tb_counting_fail(&f.counting, TB_MARK, 1, 0);
    ptr = alloc_on(&f, A, 1000);
    CHECK_RESULT(ta_allocator_free(f.a, ptr, 0, 0, B), TA_ERROR_BACKEND);
    CHECK(ta_pool_owns(f.pool, ptr));
    CHECK_OK(ta_pool_free(f.pool, ptr));
    close_pool(&f);
}

/* The old block has to go somewhere: if it cannot, nothing may have changed. */
static void failing_mark_in_realloc_leaks_nothing(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    void *ptr, *moved;
    open_pool(&f, &desc);
    ptr = block_used_by_b(&f, 100000);
    (void)alloc_on(&f, A, 1000000); /* in the way */
    CHECK_OK(ta_pool_record_use(f.pool, ptr, B));
    tb_clock_after(&f.clock, A, B);
    tb_counting_fail(&f.counting, TB_MARK, 1, 1);
    moved = ta_pool_realloc(f.pool, ptr, 500000, &result);
    CHECK((moved != NULL) == (result == TA_OK));
    CHECK_EQ(stats_of(&f).live_count, 2);
    CHECK(ta_pool_owns(f.pool, moved != NULL ? moved : ptr));
    CHECK_OK(ta_pool_check(f.pool));
    tb_counting_fail(&f.counting, TB_ANY, 0, 0);
    moved = ta_pool_realloc(f.pool, moved != NULL ? moved : ptr, 600000, &result);
    CHECK_OK(result);
    CHECK(moved != NULL);
    CHECK_EQ(stats_of(&f).live_count, 2);
    close_pool(&f);
}

static void failing_wait_steals_nothing(void)
{
    static const tb_entry entries[] = {TB_WAIT, TB_MARK};
    size_t i;
    for (i = 0; i < 2; i++) {
        ta_pool_desc desc = zero_desc();
        ta_result result = TA_OK;
        fixture f;
        void *ptr;
        test_context("%s", i == 0 ? "wait" : "mark");
        open_pool(&f, &desc);
        ptr = use_and_free(&f, A, 3 * MIB);
        CHECK_OK(ta_pool_seal(f.pool, 1));
        tb_counting_fail(&f.counting, entries[i], 1, 1);
        CHECK(alloc_flags(&f, B, 2 * MIB, 0, &result) == NULL);
        CHECK(result == TA_ERROR_SEALED || result == TA_ERROR_BACKEND);
        CHECK_EQ(stats_of(&f).steal_count, 0);
        CHECK_EQ(stats_of(&f).in_use_bytes, 0);
        CHECK_EQ(f.counting.tickets, 0);
        CHECK_OK(ta_pool_check(f.pool));
        CHECK(alloc_on(&f, A, 3 * MIB) == ptr); /* still A's */
        CHECK_OK(ta_pool_free(f.pool, ptr));
        tb_counting_fail(&f.counting, TB_ANY, 0, 0);
        (void)alloc_on(&f, B, 2 * MIB);
        close_pool(&f);
    }
}

static void failing_sync_keeps_memory(void)
{
    ta_pool_desc desc = zero_desc();
    ta_result result = TA_OK;
    fixture f;
    desc.limit_bytes = 4 * MIB;
    desc.disable_stealing = 1;
    open_pool(&f, &desc);
    (void)use_and_free(&f, A, 3 * MIB);
    tb_counting_fail(&f.counting, TB_SYNC, 1, 1);
    CHECK(alloc_flags(&f, B, 2 * MIB, 0, &result) == NULL);
    CHECK_OK(ta_pool_check(f.pool));
    CHECK(ta_pool_empty_cache(f.pool) != TA_OK);
    CHECK_GE(stats_of(&f).cached_bytes, 3 * MIB); /* nobody knows whether A is done */
    CHECK_EQ(f.counting.tickets, 0);
    tb_counting_fail(&f.counting, TB_ANY, 0, 0);
    CHECK_OK(ta_pool_empty_cache(f.pool));
    CHECK_EQ(stats_of(&f).reserved_bytes, 0);
    close_pool(&f);
}

/*---------------------------------------------------------------------------------------------------------
  Random programs.
  -------------------------------------------------------------------------------------------------------*/
#define PROGRAM_COUNT 320
#define BLOCK_MAX 40
#define STREAM_COUNT 5

typedef struct program_block {
    char *ptr;
    size_t size;
    int home;
    int foreign;    /* some other stream has used it */
    int told_later; /* stream that is named when it is freed, or -1 */
} program_block;

typedef struct program {
    fixture f;
    uint64_t random;
    ta_stream streams[STREAM_COUNT];
    program_block blocks[BLOCK_MAX];
    int limited, failing;
} program;

static uint32_t pick(program *p, uint32_t n)
{
    return test_below(&p->random, n);
}

static int is_allowed(const program *p, ta_result result)
{
    return result == TA_OK || (p->limited && result == TA_ERROR_LIMIT) ||
           (p->failing && (result == TA_ERROR_BACKEND || result == TA_ERROR_OUT_OF_MEMORY));
}

static void program_open(program *p, uint64_t seed)
{
    static const uint32_t caps[] = {TA_CAP_RANGES, TA_CAP_SEGMENTS, TA_CAP_RANGES | TA_CAP_SEGMENTS};
    ta_pool_desc desc = zero_desc();
    int i;
    memset(p, 0, sizeof *p);
    p->random = seed;
    for (i = 0; i < STREAM_COUNT; i++) {
        p->streams[i] = i == 0 ? 0 : test_random(&p->random);
    }
    p->limited = pick(p, 3) == 0;
    p->failing = pick(p, 4) == 0;
    desc.backend = open_clock(&p->f, caps[pick(p, 3)]);
    desc.disable_stealing = pick(p, 2) == 0;
    desc.single_threaded = pick(p, 3) == 0;
    desc.disable_thread_caches = pick(p, 3) == 0;
    desc.cached_bytes_max = pick(p, 4) == 0 ? 500000 : 0;
    desc.slack_bytes_max = pick(p, 4) == 0 ? 4096 : 0;
    desc.zeroed = pick(p, 6) == 0;
    desc.limit_bytes = p->limited ? 2 * MIB : 0;
    if (pick(p, 5) == 0) {
        p->f.clock.given.range_bytes_max = p->f.counting.given.range_bytes_max = 64 * MIB;
    }
    CHECK_OK(ta_pool_create(&desc, &p->f.pool));
    p->f.a = ta_pool_allocator(p->f.pool);
}

static void program_alloc(program *p, program_block *block)
{
    ta_request request;
    ta_result result = TA_ERROR_CORRUPT;
    ta_stream stream;
    memset(&request, 0, sizeof request);
    block->home = (int)pick(p, STREAM_COUNT);
    stream = p->streams[block->home];
    request.size_bytes = (size_t)1 + pick(p, 1u << (8 + pick(p, 11)));
    request.alignment_bytes = pick(p, 6) == 0 ? (size_t)256 << pick(p, 8) : 0;
    request.flags = pick(p, 8) == 0 ? TA_REQUEST_ZEROED : pick(p, 12) == 0 ? TA_REQUEST_WITHIN_BUDGET : 0;
    request.stream = stream;
    block->ptr = (char *)ta_pool_alloc_request(p->f.pool, &request, &result);
    block->size = request.size_bytes;
    block->foreign = 0;
    block->told_later = -1;
    CHECK(is_allowed(p, result) && (block->ptr != NULL) == (result == TA_OK));
    if (block->ptr != NULL) {
        CHECK(tb_clock_is_ordered(&p->f.clock, stream, block->ptr, block->size));
        if (pick(p, 8) != 0) {
            tb_clock_use(&p->f.clock, stream, block->ptr, block->size);
        }
    }
}

/* What a program that shares a block says: to its streams, and to the pool. */
static void program_share(program *p, program_block *block)
{
    const int other = (int)pick(p, STREAM_COUNT);
    const ta_stream home = p->streams[block->home], stream = p->streams[other];
    tb_clock_after(&p->f.clock, stream, home);
    tb_clock_use(&p->f.clock, stream, block->ptr, block->size);
    if (other == block->home) {
        return;
    }
    block->foreign = 1;
    switch ((int)pick(p, 3)) {
    case 0:
        CHECK_OK(ta_pool_record_use(p->f.pool, block->ptr, stream));
        break;
    case 1: /* home waits: the pool needs not know */
        tb_clock_after(&p->f.clock, home, stream);
        break;
    default: /* named when freed; only one can be */
        if (block->told_later >= 0 && block->told_later != other) {
            CHECK_OK(ta_pool_record_use(p->f.pool, block->ptr, p->streams[block->told_later]));
        }
        block->told_later = other;
        break;
    }
}

static void program_free(program *p, program_block *block)
{
    ta_result result;
    if (block->told_later >= 0) {
        const size_t size = pick(p, 2) == 0 ? block->size : 0;
        result = ta_allocator_free(p->f.a, block->ptr, size, 0, p->streams[block->told_later]);
    } else if (pick(p, 2) == 0) {
        result = ta_allocator_free(p->f.a, block->ptr, block->size, 0, p->streams[block->home]);
    } else {
        result = ta_pool_free(p->f.pool, block->ptr);
    }
    CHECK(is_allowed(p, result));
    if (result == TA_OK) {
        block->ptr = NULL;
    }
}

static void program_resize(program *p, program_block *block)
{
    const size_t size = (size_t)1 + pick(p, 1u << (8 + pick(p, 11)));
    const size_t old = ta_pool_capacity_of(p->f.pool, block->ptr);
    const ta_stream home = p->streams[block->home];
    ta_result result = TA_OK;
    if (block->foreign) { /* who uses it elsewhere waits first */
        int s;
        for (s = 0; s < STREAM_COUNT; s++) {
            tb_clock_after(&p->f.clock, home, p->streams[s]);
        }
        block->foreign = 0;
        block->told_later = -1;
    }
    if (pick(p, 2) == 0) {
        result = ta_pool_resize_in_place(p->f.pool, block->ptr, size);
        CHECK(is_allowed(p, result) || result == TA_ERROR_WOULD_MOVE);
        if (result == TA_OK && size > old) {
            CHECK(tb_clock_is_ordered(&p->f.clock, home, block->ptr + old, size - old));
        }
    } else {
        char *moved = (char *)ta_pool_realloc(p->f.pool, block->ptr, size, &result);
        CHECK(is_allowed(p, result));
        if (moved != NULL) {
            CHECK(tb_clock_is_ordered(&p->f.clock, home, moved, size));
            block->ptr = moved;
        }
    }
    if (result == TA_OK) {
        block->size = size;
        tb_clock_use(&p->f.clock, home, block->ptr, size);
    }
}

static void program_step(program *p)
{
    static const tb_entry order[] = {TB_MARK, TB_IS_DONE, TB_WAIT, TB_SYNC, TB_ANY};
    program_block *block = &p->blocks[pick(p, BLOCK_MAX)];
    const uint32_t what = pick(p, 100);
    if (p->failing && pick(p, 10) == 0) { /* now and then one call fails */
        tb_counting_fail(&p->f.counting, order[pick(p, 5)], 1 + pick(p, 3), 0);
    }
    if (what < 70) {
        if (block->ptr == NULL) {
            program_alloc(p, block);
        } else if (what < 35) {
            program_free(p, block);
        } else if (what < 60) {
            program_share(p, block);
        } else {
            program_resize(p, block);
        }
    } else if (what < 90) {
        (void)tb_clock_step(&p->f.clock, p->streams[pick(p, STREAM_COUNT)]);
    } else if (what < 93) {
        tb_clock_complete(&p->f.clock, p->streams[pick(p, STREAM_COUNT)]);
    } else if (what < 96) {
        tb_clock_after(&p->f.clock, p->streams[pick(p, STREAM_COUNT)], p->streams[pick(p, STREAM_COUNT)]);
    } else if (what < 98) {
        ta_result result = ta_pool_trim(p->f.pool, pick(p, 1000000), NULL);
        CHECK(is_allowed(p, result));
    } else {
        (void)stats_of(&p->f);
        CHECK_OK(ta_pool_check(p->f.pool));
    }
}

static void random_programs(void)
{
    static program p;
    int i, k;
    for (i = 0; i < PROGRAM_COUNT; i++) {
        uint64_t seed = test_now.seed + (uint64_t)i, failures = test_now.failures;
        test_context("--seed %llu", (unsigned long long)seed);
        program_open(&p, seed);
        for (k = 0; k < 300 && test_now.failures == failures; k++) {
            program_step(&p);
        }
        tb_counting_fail(&p.f.counting, TB_ANY, 0, 0);
        p.failing = 0;
        if (seed % 2 == 0) {
            for (k = 0; k < BLOCK_MAX; k++) {
                if (p.blocks[k].ptr != NULL) {
                    program_free(&p, &p.blocks[k]);
                }
            }
            CHECK_EQ(stats_of(&p.f).live_count, 0);
            CHECK_OK(ta_pool_empty_cache(p.f.pool));
            CHECK_EQ(stats_of(&p.f).reserved_bytes, 0);
        } else { /* live blocks at the end: the program says what it knows, then dispose waits */
            for (k = 0; k < BLOCK_MAX; k++) {
                if (p.blocks[k].ptr != NULL && p.blocks[k].told_later >= 0) {
                    CHECK_OK(ta_pool_record_use(p.f.pool, p.blocks[k].ptr, p.streams[p.blocks[k].told_later]));
                }
            }
        }
        close_pool(&p.f);
        if (test_now.failures != failures) {
            return; /* one seed is enough to look at */
        }
    }
}

TEST_MAIN(TEST_CASE(clock_tells_order_from_luck), TEST_CASE(clock_makes_progress_in_order),
          TEST_CASE(clock_catches_violations), TEST_CASE(same_stream_needs_no_order),
          TEST_CASE(last_hole_grows_on_its_stream),
          TEST_CASE(other_stream_steals_with_a_wait), TEST_CASE(stealing_can_be_turned_off),
          TEST_CASE(small_blocks_stay_on_their_stream), TEST_CASE(asking_claims_nothing_for_a_stream),
          TEST_CASE(caches_of_other_streams_are_found_before_failing), TEST_CASE(recorded_uses_delay_reuse),
          TEST_CASE(free_on_the_home_stream_is_not_delayed), TEST_CASE(several_streams_are_all_waited_for),
          TEST_CASE(asking_is_once_per_stream), TEST_CASE(record_use_checks_its_pointer),
          TEST_CASE(ladder_waits_before_it_fails), TEST_CASE(failure_tells_what_is_pending),
          TEST_CASE(empty_cache_waits_for_the_work), TEST_CASE(cap_waits_for_the_work),
          TEST_CASE(dispose_waits_for_the_work), TEST_CASE(arena_and_direct_wait_as_well),
          TEST_CASE(arenas_remember_many_streams), TEST_CASE(few_records_are_enough),
          TEST_CASE(siblings_wait_before_they_give), TEST_CASE(growth_takes_no_neighbour_of_another_stream),
          TEST_CASE(shrinking_a_block_that_others_use), TEST_CASE(realloc_copies_on_the_home_stream),
          TEST_CASE(zeroing_is_ordered), TEST_CASE(failing_mark_leaves_the_block_live),
          TEST_CASE(failing_mark_in_realloc_leaks_nothing), TEST_CASE(failing_wait_steals_nothing),
          TEST_CASE(failing_sync_keeps_memory), TEST_CASE(random_programs))
