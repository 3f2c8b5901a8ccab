/* test_cuda_ladder.c - memory that runs out: which rung of the ladder gives it, told by the calls of the driver and by
   the pool's own counters; each rung in a scene where no other one could. And what is said when none does. */
#include "cuda.h"

enum { CAPACITY_MIB = 64 };
static const size_t capacity = (size_t)CAPACITY_MIB << 20;
static CUstream s, t;
static ta_pool *other;
static ta_budget *budget;
static const ta_cuda_kind kinds[] = {TA_CUDA_RANGES, TA_CUDA_SEGMENTS};

/* What was asked of the driver since the last look. */
typedef struct calls {
    uint64_t grown, asked, given, released, records, waits, queries, syncs;
} calls;

static calls look(ta_cuda_kind kind)
{
    calls c;
    const int ranges = kind == TA_CUDA_RANGES;
    c.grown = fake.tafake_calls(ranges ? "cuMemMap" : "cuMemAlloc_v2");
    c.asked = ranges ? fake.tafake_calls("cuMemCreate") : c.grown;
    c.given = fake.tafake_calls(ranges ? "cuMemUnmap" : "cuMemFree_v2");
    c.released = fake.tafake_calls("cuMemRelease");
    c.records = fake.tafake_calls("cuEventRecord");
    c.waits = fake.tafake_calls("cuStreamWaitEvent");
    c.queries = fake.tafake_calls("cuEventQuery");
    c.syncs = fake.tafake_calls("cuEventSynchronize") + fake.tafake_calls("cuCtxSynchronize") +
              fake.tafake_calls("cuStreamSynchronize");
    return c;
}

/* A device of 64 MiB, two streams, two pools over one budget. */
static int scene_open(ta_cuda_kind kind, const ta_pool_desc *options)
{
    ta_budget_desc shared;
    ta_pool_desc desc;
    if (!fake_open("sched=lazy;cap=64M;fill=4096")) {
        return 0;
    }
    test_context("kind %d", (int)kind);
    cuda = cuda_new(kind);
    memset(&shared, 0, sizeof shared);
    memset(&desc, 0, sizeof desc);
    shared.backend = ta_cuda_backend(cuda);
    CHECK_OK(ta_budget_create(&shared, &budget));
    if (options != NULL) {
        desc = *options;
    }
    desc.budget = budget;
    desc.name = "asks";
    pool = pool_new(cuda, &desc);
    memset(&desc, 0, sizeof desc);
    desc.budget = budget;
    desc.name = "sibling";
    other = pool_new(cuda, &desc);
    s = stream_new();
    t = stream_new();
    return 1;
}

static void scene_close(void)
{
    CHECK_OK(ta_pool_destroy(other));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_budget_destroy(budget));
    CHECK_OK(ta_cuda_destroy(cuda));
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    device_close();
    check_quiet();
    check_nothing_live();
    test_context("%s", "");
}

static void *take(ta_pool *of, size_t mib, CUstream stream)
{
    ta_result result = TA_OK;
    void *ptr = ta_pool_alloc_stream(of, mib * MIB, STREAM(stream), &result);
    CHECK_RESULT(result, TA_OK);
    if (ptr != NULL) {
        OK(fill(ADDRESS(ptr), (uint32_t)mib, 1024, stream));
    }
    return ptr;
}

static void give(ta_pool *of, void *ptr)
{
    CHECK_OK(ta_pool_free(of, ptr));
}

/* Blocks of 32 KiB on one stream until the device is full of them; freed, they are in the thread's cache. A block of
   another size class is made of two: no memory moves, nobody waits. */
static void own_cache(void)
{
    enum { COUNT = CAPACITY_MIB * 32 };
    static void *at[COUNT];
    size_t k;
    for (k = 0; k < 2; k++) {
        ta_pool_desc desc;
        ta_stats before, after;
        void *ptr;
        calls c;
        int i, count = 0;
        memset(&desc, 0, sizeof desc);
        desc.thread_cache_bytes = capacity;
        if (!scene_open(kinds[k], &desc)) {
            return;
        }
        while (count < COUNT && (at[count] = ta_pool_alloc_stream(pool, 32 * KIB, STREAM(s), NULL)) != NULL) {
            count++;
        }
        CHECK_GE(count, COUNT - COUNT / 8);
        for (i = 0; i < count; i++) {
            give(pool, at[i]);
        }
        before = check_books(pool);
        CHECK_EQ(before.thread_cached_bytes, (uint64_t)count * 32 * KIB);
        fake.tafake_calls_clear();
        ptr = ta_pool_alloc_stream(pool, 64 * KIB, STREAM(s), NULL);
        CHECK(ptr != NULL);
        c = look(kinds[k]);
        after = check_books(pool);
        CHECK_GE(c.asked, 1); /* the device was asked first */
        CHECK_EQ(c.given + c.released + c.records + c.waits + c.syncs, 0);
        CHECK_EQ(after.reserved_bytes, before.reserved_bytes);
        CHECK_LE(after.thread_cached_bytes, 4 * MIB); /* what came back with the block */
        give(pool, ptr);
        scene_close();
    }
}

/* Freed while another stream used it; that work is finished, which one question tells. */
static void other_streams_proven(void)
{
    size_t k;
    for (k = 0; k < 2; k++) {
        void *ptr, *again;
        calls c;
        if (!scene_open(kinds[k], NULL)) {
            return;
        }
        ptr = take(pool, 40, s);
        order(s, t);
        OK(add(ADDRESS(ptr), 1, 1024, t));
        CHECK_OK(ta_pool_record_use(pool, ptr, STREAM(t)));
        give(pool, ptr);
        CHECK_GE(check_books(pool).pending_bytes, 40 * MIB);
        OK(cu.cuStreamSynchronize(t));
        fake.tafake_calls_clear();
        again = take(pool, 40, s);
        c = look(kinds[k]);
        CHECK(again == ptr);
        CHECK_GE(c.queries, 1);
        CHECK_EQ(c.grown + c.asked + c.given + c.records + c.waits + c.syncs, 0);
        CHECK_EQ(check_books(pool).pending_bytes, 0);
        give(pool, again);
        scene_close();
    }
}

/* Freed on another stream, whose work goes on: taken, and the device waits, not the host. */
static void stolen_with_a_wait(void)
{
    size_t k;
    for (k = 0; k < 2; k++) {
        void *ptr, *again;
        calls c;
        if (!scene_open(kinds[k], NULL)) {
            return;
        }
        ptr = take(pool, 40, s);
        give(pool, ptr);
        fake.tafake_calls_clear();
        again = take(pool, 40, t);
        c = look(kinds[k]);
        CHECK(again == ptr);
        CHECK_EQ(c.records, 1);
        CHECK_EQ(c.waits, 1);
        CHECK_EQ(c.grown + c.asked + c.given + c.syncs, 0);
        CHECK_EQ(check_books(pool).steal_count, 1);
        give(pool, again);
        scene_close();
    }
}

/* Halves on two streams, neither of them enough, or stealing forbidden: after waiting they are one, and the search
   begins anew. */
static void synchronised_and_searched_again(void)
{
    int steal;
    for (steal = 0; steal < 2; steal++) {
        ta_pool_desc desc;
        void *a, *b, *all;
        calls c;
        memset(&desc, 0, sizeof desc);
        desc.disable_stealing = !steal;
        if (!scene_open(TA_CUDA_RANGES, &desc)) {
            return;
        }
        a = take(pool, 32, s);
        b = take(pool, steal ? 30 : 32, steal ? t : s);
        give(pool, a);
        give(pool, b);
        fake.tafake_calls_clear();
        all = take(pool, 62, steal ? NULL : t);
        c = look(TA_CUDA_RANGES);
        CHECK(all == a);
        CHECK_GE(c.asked, 1);
        CHECK_EQ(c.syncs, steal ? 2 : 1); /* one for each stream with freed memory */
        CHECK_EQ(c.records, c.syncs);
        CHECK_EQ(c.grown + c.given + c.waits, 0);
        CHECK_EQ(check_books(pool).steal_count, 0);
        give(pool, all);
        scene_close();
    }
}

/* What a sibling over the same budget has cached is unmapped (freed, for segments) and taken from the device anew. */
static void siblings_give(void)
{
    size_t k;
    for (k = 0; k < 2; k++) {
        void *ptr, *kept;
        calls c;
        if (!scene_open(kinds[k], NULL)) {
            return;
        }
        kept = take(other, 8, s);
        give(other, take(other, 48, s));
        fake.tafake_calls_clear();
        ptr = take(pool, 40, t);
        c = look(kinds[k]);
        CHECK_GE(c.asked, 2); /* in vain, then not */
        CHECK_GE(c.given, 1);
        CHECK_GE(c.syncs, 1); /* not under the kernel that writes there */
        CHECK_EQ(c.waits, 0);
        CHECK_EQ(check_books(other).in_use_bytes, 8 * MIB); /* live blocks stay */
        CHECK_LE(check_books(other).reserved_bytes, 24 * MIB);
        CHECK_GT(check_books(other).trimmed_bytes, 32 * MIB);
        CHECK_EQ(check_books(pool).trimmed_bytes, 0);
        OK(fill(ADDRESS(kept), 1, 1024, s));
        give(other, kept);
        give(pool, ptr);
        scene_close();
    }
}

/* A hole in the middle pays for growth at the end. */
static void own_free_pages(void)
{
    void *low, *live, *ptr;
    calls c;
    if (!scene_open(TA_CUDA_RANGES, NULL)) {
        return;
    }
    low = take(pool, 32, s);
    live = take(pool, 16, s);
    give(pool, low);
    fake.tafake_calls_clear();
    ptr = take(pool, 40, s);
    c = look(TA_CUDA_RANGES);
    CHECK_GE(c.asked, 2);
    CHECK_GE(c.given, 1);
    CHECK_GE(c.grown, 1);
    CHECK_GE(c.syncs, 1);
    CHECK_GE(check_books(pool).trimmed_bytes, 24 * MIB);
    CHECK_EQ(check_books(other).trimmed_bytes, 0);
    give(pool, live);
    give(pool, ptr);
    scene_close();
}

/* Physical memory that is kept unmapped in other sizes makes room: below the ladder, no rung is climbed. */
static void the_chunk_cache_makes_room(void)
{
    ta_cuda_info info;
    void *ptr;
    calls c;
    if (!scene_open(TA_CUDA_RANGES, NULL)) {
        return;
    }
    give(other, take(other, 60, s));
    CHECK_OK(ta_pool_empty_cache(other));
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_GE(info.chunk_cached_bytes, 56 * MIB);
    fake.tafake_calls_clear();
    ptr = take(pool, 50, t);
    c = look(TA_CUDA_RANGES);
    CHECK_GE(c.asked, 2);
    CHECK_GE(c.released, 1);
    CHECK_EQ(c.given + c.syncs + c.waits + c.records, 0);
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_LE(info.chunk_cached_bytes, 14 * MIB);
    give(pool, ptr);
    scene_close();
}

/* The program's own rung, the last one. */
typedef struct helper {
    void *live;
    int helps, calls;
    ta_failure failure;
} helper;

static int on_out_of_memory(void *user, const ta_failure *failure)
{
    helper *h = (helper *)user;
    h->calls++;
    h->failure = *failure;
    if (h->helps && h->live != NULL) {
        CHECK_OK(ta_pool_free(pool, h->live));
        h->live = NULL;
        return 1;
    }
    return 0;
}

static void the_callback_is_last(void)
{
    size_t k;
    int helps;
    for (k = 0; k < 2; k++) {
        for (helps = 0; helps < 2; helps++) {
            ta_pool_desc desc;
            ta_result result = TA_OK;
            helper h;
            void *ptr;
            calls c;
            memset(&desc, 0, sizeof desc);
            memset(&h, 0, sizeof h);
            h.helps = helps;
            desc.on_out_of_memory = on_out_of_memory;
            desc.on_out_of_memory_user = &h;
            if (!scene_open(kinds[k], &desc)) {
                return;
            }
            h.live = take(pool, 48, s);
            give(pool, take(pool, 4, s));
            fake.tafake_calls_clear();
            ptr = ta_pool_alloc_stream(pool, 40 * MIB, STREAM(t), &result);
            c = look(kinds[k]);
            CHECK_EQ(h.calls, 1);
            CHECK_EQ(h.failure.requested_bytes, 40 * MIB);
            CHECK_EQ(h.failure.in_use_bytes, 48 * MIB);
            CHECK_EQ(h.failure.backend_code, CUDA_ERROR_OUT_OF_MEMORY);
            CHECK_EQ(h.failure.backend_total_bytes, capacity);
            CHECK_GE(c.asked, 1);
            CHECK_GE(c.syncs, 1); /* every rung before it was tried */
            CHECK_EQ(ptr != NULL, helps);
            CHECK_RESULT(result, helps ? TA_OK : TA_ERROR_OUT_OF_MEMORY);
            CHECK_EQ(check_books(pool).live_count, 1);
            CHECK_EQ(check_books(pool).failure_count, !helps);
            CHECK_OK(ta_pool_free(pool, ptr));
            CHECK_OK(ta_pool_free(pool, h.live));
            scene_close();
        }
    }
}

/* The end of the ladder: the program itself holds the device's memory, by calls of its own. The sentence says so, with
   the driver's figures. */
static void outside_our_control(void)
{
    static const ta_cuda_kind all[] = {TA_CUDA_RANGES, TA_CUDA_SEGMENTS, TA_CUDA_ASYNC};
    size_t k;
    for (k = 0; k < 3; k++) {
        ta_failure failure;
        ta_result result = TA_OK;
        CUdeviceptr theirs;
        void *ptr;
        char text[512];
        if (!scene_open(all[k], NULL)) {
            return;
        }
        theirs = alloc(48 * MIB);
        ptr = take(pool, 4, s);
        CHECK(ta_pool_alloc_stream(pool, 40 * MIB, STREAM(s), &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
        CHECK_OK(ta_pool_get_failure(pool, &failure));
        CHECK_EQ(failure.verdict, TA_VERDICT_OUTSIDE);
        CHECK_EQ(failure.action, TA_ACTION_FREE_OUTSIDE);
        CHECK_EQ(failure.backend_code, CUDA_ERROR_OUT_OF_MEMORY);
        CHECK_EQ(failure.backend_total_bytes, capacity);
        CHECK_EQ(failure.backend_free_bytes, capacity - live_now().used_bytes);
        CHECK_EQ(failure.outside_bytes, capacity - failure.backend_free_bytes - failure.budget_used_bytes);
        CHECK_GE(failure.outside_bytes, 48 * MIB);
        CHECK_LE(failure.outside_bytes, 52 * MIB);
        CHECK_GE(failure.action_bytes, 40 * MIB - failure.backend_free_bytes);
        (void)ta_failure_report(&failure, text, sizeof text);
        CHECK_TEXT("the sentence", strstr(text, "free of 64.00 MiB, and others have 48.00 MiB: free memory outside") != NULL
                                       ? "the sentence" : text, "the sentence");
        OK(cu.cuMemFree_v2(theirs));
        give(pool, take(pool, 40, s));
        give(pool, ptr);
        scene_close();
    }
}

/* And when it is our own memory: what the budget holds is all that there is. */
static void full_of_our_own(void)
{
    ta_failure failure;
    ta_result result = TA_OK;
    void *ptr, *theirs;
    if (!scene_open(TA_CUDA_RANGES, NULL)) {
        return;
    }
    ptr = take(pool, 30, s);
    theirs = take(other, 30, s);
    CHECK(ta_pool_alloc_stream(pool, 20 * MIB, STREAM(s), &result) == NULL);
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_OK(ta_pool_get_failure(pool, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_FULL);
    CHECK_EQ(failure.outside_bytes, 0);
    CHECK_EQ(failure.sibling_reserved_bytes, check_books(other).reserved_bytes);
    give(pool, ptr);
    give(other, theirs);
    scene_close();
}

TEST_MAIN(TEST_CASE(own_cache), TEST_CASE(other_streams_proven), TEST_CASE(stolen_with_a_wait),
          TEST_CASE(synchronised_and_searched_again), TEST_CASE(siblings_give), TEST_CASE(own_free_pages),
          TEST_CASE(the_chunk_cache_makes_room), TEST_CASE(the_callback_is_last), TEST_CASE(outside_our_control),
          TEST_CASE(full_of_our_own))
