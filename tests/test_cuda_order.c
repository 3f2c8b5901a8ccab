/* test_cuda_order.c - memory that crosses streams: what each call promises about order, held to by the happens-before
   checker of the software driver and by data that flows through kernels; random programs, and the same with one call
   left out. */
#include "cuda.h"

enum { WORDS = 4096, BYTES = WORDS * 4 };
static CUstream s, t;
static CUdeviceptr errors; /* a word for each stream of the random programs */

static int two_streams(const char *config, ta_cuda_kind kind, const ta_pool_desc *options)
{
    if (!world_open(config, kind, options)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    return 1;
}

/* The same on any driver. */
static int two_streams_any(const char *config, ta_cuda_kind kind, const ta_pool_desc *options)
{
    if (!world_open_any(config, kind, options)) {
        return 0;
    }
    s = stream_new();
    t = stream_new();
    return 1;
}

static void two_streams_end(void)
{
    OK(cu.cuStreamDestroy_v2(s));
    OK(cu.cuStreamDestroy_v2(t));
    world_close();
}

static CUdeviceptr take(size_t bytes, CUstream stream)
{
    ta_result result;
    void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(stream), &result);
    CHECK_OK(result);
    return ADDRESS(ptr);
}

static void give(CUdeviceptr ptr)
{
    CHECK_OK(ta_pool_free(pool, (void *)(uintptr_t)ptr));
}

/* A block of s is used on t and freed, and its memory is wanted on s. With and without the announcement. */
static uint64_t reuse_after_another_stream(int announced)
{
    CUdeviceptr a, b;
    uint64_t races = 0;
    if (two_streams_any("sched=lazy", TA_CUDA_RANGES, NULL)) {
        a = take(BYTES, s);
        OK(fill(a, 1, WORDS, s));
        order(s, t);
        OK(add(a, 1, WORDS, t));
        if (announced) {
            CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)a, STREAM(t)));
        }
        give(a);
        b = take(BYTES, s);
        OK(fill(b, 7, WORDS, s));
        OK(cu.cuCtxSynchronize());
        CHECK_EQ(read32(b), 7);
        give(b);
        races = fake.tafake_race_count();
        fake.tafake_races_clear();
        two_streams_end();
    }
    return races;
}

static void announced_uses_are_waited_for(void)
{
    CHECK_EQ(reuse_after_another_stream(1), 0);
    if (fake.tafake_reset == NULL) {
        return;
    }
    CHECK_GT(reuse_after_another_stream(0), 0); /* the checker sees what is missing */
}

/* With stealing, a block of s goes to t with a wait on the device; without, memory is fresh. */
static void stealing(void)
{
    int steal;
    for (steal = 0; steal <= 1; steal++) {
        ta_pool_desc desc;
        CUdeviceptr a, b;
        memset(&desc, 0, sizeof desc);
        desc.disable_stealing = !steal;
        if (!two_streams("sched=lazy", TA_CUDA_RANGES, &desc)) {
            return;
        }
        a = take(BYTES, s); /* through the thread's cache, */
        OK(fill(a, 3, WORDS, s));
        give(a);
        a = take(3 * MIB, s); /* and beside it */
        OK(fill(a, 3, WORDS, s));
        give(a);
        fake.tafake_calls_clear();
        b = take(3 * MIB, t);
        OK(fill(b, 4, WORDS, t));
        CHECK_EQ(b == a, steal);
        CHECK_EQ(fake.tafake_calls("cuStreamWaitEvent"), (uint64_t)steal);
        CHECK_EQ(fake.tafake_calls("cuEventRecord"), (uint64_t)steal);
        CHECK_EQ(check_books(pool).steal_count, (uint64_t)steal);
        CHECK_EQ(fake.tafake_calls("cuCtxSynchronize") + fake.tafake_calls("cuEventSynchronize"), 0);
        give(b);
        two_streams_end();
    }
}

static void free_after_an_event(void)
{
    CUdeviceptr a, b;
    CUevent event;
    if (!two_streams_any("sched=lazy", TA_CUDA_RANGES, NULL)) {
        return;
    }
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    order(s, t);
    OK(add(a, 1, WORDS, t));
    event = event_new();
    OK(cu.cuEventRecord(event, t));
    CHECK_OK(ta_pool_free_after(pool, (void *)(uintptr_t)a, (uint64_t)(uintptr_t)event));
    CHECK_RESULT(ta_pool_free_after(pool, (void *)(uintptr_t)a, (uint64_t)(uintptr_t)event), TA_ERROR_STALE);
    OK(cu.cuEventDestroy_v2(event));
    CHECK_EQ(check_books(pool).pending_bytes, BYTES);
    b = take(BYTES, s);
    OK(fill(b, 7, WORDS, s));
    OK(cu.cuCtxSynchronize());
    give(b);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).pending_bytes, 0);
    CHECK_OK(ta_pool_free_after(pool, NULL, 0));
    two_streams_end();
}

/* The event lies on a stream that is being captured: there is nothing to wait for, and asking breaks that capture,
   as it would anywhere; but the block stays live, and no stream of ours is drawn into a capture. */
static void free_after_an_event_in_a_capture(void)
{
    CUdeviceptr a;
    CUevent event;
    CUgraph graph = NULL;
    if (!two_streams_any("sched=lazy", TA_CUDA_RANGES, NULL)) {
        return;
    }
    a = take(BYTES, s);
    event = event_new();
    OK(cu.cuStreamBeginCapture_v2(t, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(fill(a, 1, WORDS, t));
    OK(cu.cuEventRecord(event, t));
    CHECK_RESULT(ta_pool_free_after(pool, (void *)(uintptr_t)a, (uint64_t)(uintptr_t)event), TA_ERROR_CAPTURE);
    CHECK_CU(cu.cuStreamEndCapture(t, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK(graph == NULL);
    CHECK_EQ(live_now().captures, 0);
    OK(cu.cuEventRecord(event, s));
    CHECK_OK(ta_pool_free_after(pool, (void *)(uintptr_t)a, (uint64_t)(uintptr_t)event));
    OK(cu.cuEventDestroy_v2(event));
    two_streams_end();
}

/* The other use cannot be marked: nothing has changed, and the block is freed later. */
static void free_after_that_fails_changes_nothing(void)
{
    CUdeviceptr a, b;
    CUevent event;
    if (!two_streams("sched=lazy", TA_CUDA_RANGES, NULL)) {
        return;
    }
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)a, STREAM(t)));
    event = event_new();
    OK(cu.cuEventRecord(event, s));
    CHECK_EQ(fake.tafake_fail("cuEventRecord", 2, CUDA_ERROR_INVALID_VALUE), 0);
    CHECK_RESULT(ta_pool_free_after(pool, (void *)(uintptr_t)a, (uint64_t)(uintptr_t)event), TA_ERROR_BACKEND);
    CHECK_EQ(fake.tafake_fail("cuEventRecord", 0, 0), 0);
    CHECK_EQ(check_books(pool).live_count, 1);
    give(a);
    CHECK_OK(ta_pool_empty_cache(pool));
    a = take(BYTES, s);
    b = take(BYTES, t);
    CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)a, STREAM(t)));
    CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)b, STREAM(s)));
    give(a);
    give(b); /* two tickets, two events: none is in two places */
    OK(cu.cuEventDestroy_v2(event));
    two_streams_end();
}

/* The free says where the block was used last. */
static void freed_on_another_stream_than_home(void)
{
    CUdeviceptr a, b;
    ta_allocator allocator;
    if (!two_streams_any("sched=lazy", TA_CUDA_RANGES, NULL)) {
        return;
    }
    allocator = ta_pool_allocator(pool);
    a = take(BYTES, s);
    OK(fill(a, 1, WORDS, s));
    order(s, t);
    OK(add(a, 1, WORDS, t));
    CHECK_OK(ta_allocator_free(allocator, (void *)(uintptr_t)a, BYTES, 0, STREAM(t)));
    b = take(BYTES, s);
    OK(fill(b, 7, WORDS, s));
    CHECK_OK(ta_allocator_free(allocator, (void *)(uintptr_t)b, BYTES, 0, STREAM(s)));
    two_streams_end();
}

/* What a retired stream freed serves others once its work is done; its handle may come back as another stream. */
static void retired_streams(void)
{
    CUdeviceptr a, b, used;
    CUstream again;
    if (!two_streams("sched=lazy;recycle=1", TA_CUDA_RANGES, NULL)) {
        return;
    }
    a = take(BYTES, s);
    b = take(3 * MIB, s);
    used = take(BYTES, t);
    OK(fill(a, 1, WORDS, s));
    OK(fill(b, 1, WORDS, s));
    order(t, s);
    OK(fill(used, 1, WORDS, s));
    CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)used, STREAM(s)));
    give(b);
    CHECK_RESULT(ta_pool_retire_stream(pool, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(s)));
    OK(cu.cuStreamDestroy_v2(s));
    again = stream_new();
    CHECK(again == s);
    give(a); /* allocated on a stream that is gone, */
    give(used); /* used on one */
    a = take(BYTES, again);
    b = take(3 * MIB, again);
    OK(fill(a, 2, WORDS, again));
    OK(fill(b, 2, WORDS, again));
    used = take(BYTES, t);
    OK(fill(used, 2, WORDS, t));
    OK(cu.cuCtxSynchronize());
    CHECK_EQ(read32(a) + read32(b), 4);
    check_books(pool);
    give(a);
    give(b);
    give(used);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).reserved_bytes, 0);
    two_streams_end();
}

/* Streams come and go by the thousand: the pool does not keep something for each of them. */
static void many_retired_streams(void)
{
    size_t before = 0;
    int i;
    if (!world_open_any("sched=eager", TA_CUDA_RANGES, NULL)) {
        return;
    }
    for (i = 0; i < 3000; i++) {
        CUstream one = stream_new();
        CUdeviceptr a = take(BYTES, one), b = take(100 * KIB, one);
        OK(fill(a, 1, WORDS, one));
        give(a);
        give(b);
        CHECK_OK(ta_pool_retire_stream(pool, STREAM(one)));
        OK(cu.cuStreamDestroy_v2(one));
        if (i == 100) {
            before = check_books(pool).record_bytes;
        }
    }
    CHECK_LE(check_books(pool).record_bytes, before + 64 * KIB);
    CHECK_LE(check_books(pool).reserved_bytes, 8 * MIB);
    world_close();
}

/* Nobody said that the stream would be destroyed, and its handle is another stream now. */
static void streams_that_vanish(void)
{
    CUdeviceptr a, b;
    if (!two_streams("sched=lazy;recycle=1", TA_CUDA_RANGES, NULL)) {
        return;
    }
    a = take(3 * MIB, s);
    b = take(3 * MIB, s);
    OK(fill(a, 1, WORDS, s));
    give(a);
    a = take(3 * MIB, t); /* stolen: the pool has seen both */
    OK(cu.cuStreamDestroy_v2(s));
    give(b);
    give(a);
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_EQ(check_books(pool).reserved_bytes, 0);
    s = stream_new();
    a = take(3 * MIB, s);
    OK(fill(a, 1, WORDS, s));
    give(a);
    two_streams_end();
}

/* 0 and 1 are the legacy default stream, 2 the one of the thread. */
static void default_streams(void)
{
    static const char *const schedulers[] = {"sched=lazy", "sched=eager", "sched=random:5"};
    size_t c;
    for (c = 0; c < 3; c++) {
        const CUstream all[] = {NULL, (CUstream)1, (CUstream)2};
        CUdeviceptr at[3];
        int i, round;
        if (!world_open_any(schedulers[c], TA_CUDA_RANGES, NULL)) {
            return;
        }
        for (round = 0; round < 3; round++) {
            for (i = 0; i < 3; i++) {
                at[i] = take(2 * MIB, all[i]);
                OK(fill(at[i], (uint32_t)i, WORDS, all[i]));
                if (round == 1) {
                    CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)at[i], STREAM(all[(i + 1) % 3])));
                    order(all[i], all[(i + 1) % 3]);
                    OK(add(at[i], 1, WORDS, all[(i + 1) % 3]));
                }
            }
            for (i = 0; i < 3; i++) {
                give(at[i]);
            }
        }
        CHECK_OK(ta_pool_trim(pool, 0, NULL));
        world_close();
    }
}

/* The per-thread default stream is another one on each thread: the first one that uses it is the only one. */
static void *use_the_default_of_the_thread(void *argument)
{
    void *theirs = argument, *own;
    ta_result result = TA_OK;
    size_t wrong = 0;
    own = ta_pool_alloc_stream(pool, 3 * MIB, 2, &result);
    wrong += own != NULL || result != TA_ERROR_UNSUPPORTED;
    own = ta_pool_alloc_stream(pool, 1000, 2, &result);
    wrong += own != NULL || result != TA_ERROR_UNSUPPORTED;
    own = ta_pool_realloc(pool, theirs, 9 * MIB, &result); /* a copy on a stream that is not at hand */
    wrong += own != NULL || result != TA_ERROR_UNSUPPORTED;
    own = ta_pool_alloc_stream(pool, 3 * MIB, 0, NULL); /* steals: the host waits */
    wrong += own == NULL || ta_pool_free(pool, own) != TA_OK;
    wrong += ta_pool_free(pool, theirs) != TA_OK || ta_pool_trim(pool, 0, NULL) != TA_OK;
    return (void *)wrong;
}

static void default_of_a_thread(ta_capture_check check_captures)
{
    CUdeviceptr ours, theirs, last, again;
    ta_pool_desc desc;
    pthread_t id;
    void *wrong = NULL;
    memset(&desc, 0, sizeof desc);
    desc.capture_check = check_captures;
    if (!world_open("sched=lazy", TA_CUDA_RANGES, &desc)) {
        return;
    }
    ours = take(3 * MIB, (CUstream)2);
    theirs = take(3 * MIB, (CUstream)2);
    last = take(3 * MIB, (CUstream)2); /* so that theirs cannot grow */
    OK(fill(ours, 1, WORDS, (CUstream)2));
    OK(fill(theirs, 1, WORDS, (CUstream)2));
    give(ours);
    CHECK_EQ(pthread_create(&id, NULL, use_the_default_of_the_thread, (void *)(uintptr_t)theirs), 0);
    CHECK_EQ(pthread_join(id, &wrong), 0);
    CHECK_EQ((uintptr_t)wrong, 0);
    again = take(3 * MIB, (CUstream)2);
    OK(fill(again, 2, WORDS, (CUstream)2));
    give(again);
    fake.tafake_calls_clear();
    again = take(3 * MIB, (CUstream)2);
    CHECK_EQ(fake.tafake_calls("cuStreamGetCaptureInfo"), check_captures == TA_CAPTURE_STRICT);
    give(again);
    give(last);
    world_close();
}

/* Also where captures are not asked for: the question is put when a thread comes to the stream. */
static void per_thread_default_stream(void)
{
    default_of_a_thread(TA_CAPTURE_STRICT);
    default_of_a_thread(TA_CAPTURE_SCOPES_ONLY);
}

/* Not asking begins after the first allocation of a thread on a stream: a capture that is there then is seen. */
static void a_captured_stream_at_first_sight(void)
{
    ta_pool_desc desc;
    CUgraph graph = NULL;
    ta_result result = TA_OK;
    int traced;
    for (traced = 0; traced < 2; traced++) {
        memset(&desc, 0, sizeof desc);
        desc.capture_check = TA_CAPTURE_SCOPES_ONLY;
        desc.tag_blocks = traced;
        if (!two_streams("sched=lazy", TA_CUDA_RANGES, &desc)) {
            return;
        }
        OK(cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
        CHECK(ta_pool_alloc_stream(pool, 1000, STREAM(s), &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_CAPTURE);
        CHECK(ta_pool_alloc_stream(pool, 3 * MIB, STREAM(s), &result) == NULL);
        CHECK_RESULT(result, TA_ERROR_CAPTURE);
        give(take(1000, t));
        OK(cu.cuStreamEndCapture(s, &graph));
        OK(cu.cuGraphDestroy(graph));
        give(take(1000, s));
        fake.tafake_calls_clear();
        give(take(1000, s));
        give(take(1000, t));
        CHECK_EQ(fake.tafake_calls("*"), 0);
        two_streams_end();
    }
}

/*---------------------------------------------------------------------------------------------------------
  Random programs. Each orders its own work rightly: a block is at one stream at a time, and goes to the next with an
  event. What the pool is told is what it needs; with `drop` one of these calls is left out.
  -------------------------------------------------------------------------------------------------------*/
enum { STREAMS = 5, BLOCKS = 16, HANDLES = 3, STEPS = 60 };

typedef struct piece {
    CUdeviceptr ptr;
    uint32_t words, value;
    int home, at;
    int after; /* its last stream was not announced: it is to be freed after an event */
} piece;

typedef struct grown {
    ta_handle handle;
    CUdeviceptr ptr;
    uint32_t words, value;
    int at;
} grown;

static struct program {
    uint64_t random;
    CUstream streams[STREAMS];
    piece blocks[BLOCKS];
    grown handles[HANDLES];
    ta_dynamic *dynamic;
    int announcements, drop; /* the number of the call that is left out, 0: none */
    int tight;               /* memory may run out */
    int pressing;            /* blocks of one size, used again at once and moved to higher streams only, so that hardly
                                anything else orders what the pool does not */
    uint64_t refused;
} run;

static uint32_t below(uint32_t n)
{
    return test_below(&run.random, n);
}

static void announce(CUdeviceptr ptr, int stream)
{
    if (++run.announcements != run.drop) {
        CHECK_OK(ta_pool_record_use(pool, (void *)(uintptr_t)ptr, STREAM(run.streams[stream])));
    }
}

static void verify(CUdeviceptr ptr, uint32_t value, uint32_t words, int at)
{
    OK(check(errors + 4 * (CUdeviceptr)at, ptr, value, words, run.streams[at]));
}

/* Memory has run out where it may. */
static int refused(ta_result result)
{
    const int out = run.tight && (result == TA_ERROR_OUT_OF_MEMORY || result == TA_ERROR_FRAGMENTED);
    CHECK(result == TA_OK || out);
    run.refused += (uint64_t)out;
    return result != TA_OK;
}

static void block_new(piece *p)
{
    ta_result result;
    static const uint32_t sizes[] = {300, 4096, 4096, 70000, 300000};
    p->words = run.pressing ? 4096 : sizes[below(5)];
    p->home = p->at = (int)below(STREAMS);
    p->after = 0;
    p->value = below(1000);
    p->ptr = ADDRESS(ta_pool_alloc_stream(pool, p->words * 4, STREAM(run.streams[p->home]), &result));
    if (!refused(result)) {
        OK(fill(p->ptr, p->value, p->words, run.streams[p->home]));
    }
}

/* The block is used on another stream from now on. */
static void block_move(piece *p, int to)
{
    if (to != p->at && !p->after && (!run.pressing || to > p->at)) {
        order(run.streams[p->at], run.streams[to]);
        p->at = to;
        if (below(5) == 0) {
            p->after = 1;
        } else if (to != p->home) {
            announce(p->ptr, to);
        }
        OK(add(p->ptr, 1, p->words, run.streams[to]));
        p->value++;
    }
}

static void block_free(piece *p)
{
    CUevent event;
    verify(p->ptr, p->value, p->words, p->at);
    if (p->after || below(8) == 0) {
        event = event_new();
        OK(cu.cuEventRecord(event, run.streams[p->at]));
        CHECK_OK(ta_pool_free_after(pool, (void *)(uintptr_t)p->ptr, (uint64_t)(uintptr_t)event));
        OK(cu.cuEventDestroy_v2(event));
    } else if (below(3) == 0) {
        CHECK_OK(ta_allocator_free(ta_pool_allocator(pool), (void *)(uintptr_t)p->ptr, 0, 0,
                                   STREAM(run.streams[p->at])));
    } else {
        give(p->ptr);
    }
    memset(p, 0, sizeof *p);
}

static void block_copy(piece *to, piece *from)
{
    uint32_t words = to->words < from->words ? to->words : from->words;
    if (to == from || to->after || from->after) {
        return;
    }
    order(run.streams[from->at], run.streams[to->at]);
    if (from->home != to->at) {
        announce(from->ptr, to->at);
    }
    OK(copy(to->ptr, from->ptr, words, run.streams[to->at]));
    order(run.streams[to->at], run.streams[from->at]);
    verify(to->ptr, from->value, words, to->at);
    OK(fill(to->ptr, to->value, to->words, run.streams[to->at]));
}

/* A stream ends; what is there goes elsewhere first. */
static void retire(int stream)
{
    int i;
    for (i = 0; i < BLOCKS; i++) {
        piece *p = &run.blocks[i];
        if (p->ptr != 0 && p->at == stream) {
            if (p->after || below(2) == 0) {
                block_free(p);
            } else {
                block_move(p, stream == 1 ? 2 : 1);
            }
        }
        if (p->ptr != 0 && p->home == stream) {
            p->home = -1; /* a new stream of this handle is another one */
        }
    }
    for (i = 0; i < HANDLES; i++) {
        if (run.handles[i].ptr != 0 && run.handles[i].at == stream) {
            CHECK_OK(ta_dynamic_free(run.dynamic, run.handles[i].handle));
            memset(&run.handles[i], 0, sizeof run.handles[i]);
        }
    }
    CHECK_OK(ta_pool_retire_stream(pool, STREAM(run.streams[stream])));
    OK(cu.cuStreamSynchronize(run.streams[stream])); /* handles of the dynamic allocator know the stream too */
    OK(cu.cuStreamDestroy_v2(run.streams[stream]));
    run.streams[stream] = stream_new();
}

/* Grows, shrinks, and keeps the bytes that both shapes have. */
static void handle_step(grown *g)
{
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    int64_t min = 0, expected = 1 << 18, max = 3 << 20, dims = (int64_t)1 + below(3u << 20);
    ta_handle_info info;
    uint32_t kept;
    void *before;
    if (g->ptr != 0 && below(4) == 0) {
        verify(g->ptr, g->value, g->words, g->at);
        CHECK_OK(ta_dynamic_free(run.dynamic, g->handle));
        memset(g, 0, sizeof *g);
        return;
    }
    if (g->ptr == 0) {
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_F32, 1, &min, &expected, &max));
        memset(&request, 0, sizeof request);
        request.bounds = &bounds;
        request.dims = &dims;
        g->at = (int)below(STREAMS);
        request.stream = STREAM(run.streams[g->at]);
        if (refused(ta_dynamic_alloc_request(run.dynamic, &request, &g->handle))) {
            return;
        }
    } else {
        before = ta_dynamic_get_data(run.dynamic, g->handle);
        if (refused(ta_dynamic_resize(run.dynamic, g->handle, &dims, 1))) {
            verify(g->ptr, g->value, g->words, g->at); /* as it was */
            return;
        }
        CHECK_OK(ta_dynamic_get_handle(run.dynamic, g->handle, &info));
        CHECK(before == info.data || !info.in_range); /* else moved, with a copy on the home stream */
        g->ptr = ADDRESS(info.data);
        kept = (uint32_t)dims < g->words ? (uint32_t)dims : g->words;
        verify(g->ptr, g->value, kept, g->at);
    }
    g->ptr = ADDRESS(ta_dynamic_get_data(run.dynamic, g->handle));
    g->words = (uint32_t)dims < 100000 ? (uint32_t)dims : 100000;
    g->value = below(1000);
    if (g->ptr != 0) {
        OK(fill(g->ptr, g->value, g->words, run.streams[g->at]));
    }
}

static void program_step(void)
{
    const uint32_t blocks = run.pressing ? 5 : BLOCKS;
    piece *p = &run.blocks[below(blocks)], *q = &run.blocks[below(blocks)];
    uint32_t what = below(40);
    if (run.pressing && ((what >= 12 && what < 17) || (what >= 33 && what < 36))) { /* nothing that orders streams */
        what = 20;
    }
    if (p->ptr == 0) {
        block_new(p);
    } else if (what < 12) {
        block_move(p, (int)below(STREAMS));
    } else if (what < 17) {
        if (q->ptr != 0) {
            block_copy(p, q);
        }
    } else if (what < 32) {
        block_free(p);
    } else if (what < 33) {
        CHECK_OK(ta_pool_trim(pool, below(2) * MIB, NULL));
    } else if (what < 34) {
        retire((int)(1 + below(STREAMS - 1)));
    } else if (what < 35) {
        OK(cu.cuStreamSynchronize(run.streams[below(STREAMS)]));
    } else if (what < 36) {
        (void)fake.tafake_step(NULL);
    } else {
        handle_step(&run.handles[below(HANDLES)]);
    }
}

static int tight, pressing;
static uint64_t all_refused;

/* Pools whose order is broken on purpose: one entry of the backend's table does not do what it says. */
typedef enum fault {
    SOUND, WAITS_FOR_NOTHING, ALWAYS_DONE, SYNCS_NOTHING, MARKS_AN_IDLE_STREAM, ADOPTS_NO_EVENT, FAULTS
} fault;
static const char *const fault_names[] = {"sound", "waits for nothing", "says that all is done", "returns before it is",
                                          "marks a stream that is idle", "forgets the program's event"};
static fault broken;
static ta_backend_vtable broken_table;
static CUstream idle;

static ta_result wait_for_nothing(void *self, ta_stream stream, uint64_t ticket)
{
    (void)self;
    (void)stream;
    (void)ticket;
    return TA_OK;
}

static ta_result always_done(void *self, uint64_t ticket)
{
    (void)self;
    (void)ticket;
    return TA_OK;
}

static ta_result mark_an_idle_stream(void *self, ta_stream stream, uint64_t *out_ticket)
{
    (void)stream;
    return ta_cuda_backend((ta_cuda *)self).vtable->mark(self, STREAM(idle), out_ticket);
}

static ta_result adopt_no_event(void *self, uint64_t event, uint64_t *out_ticket)
{
    return mark_an_idle_stream(self, event, out_ticket);
}

static ta_backend backend_now(void)
{
    ta_backend backend = ta_cuda_backend(cuda);
    broken_table = *backend.vtable;
    if (broken == WAITS_FOR_NOTHING) {
        broken_table.wait = wait_for_nothing;
    } else if (broken == ALWAYS_DONE) {
        broken_table.is_done = always_done;
    } else if (broken == SYNCS_NOTHING) {
        broken_table.sync = always_done;
    } else if (broken == MARKS_AN_IDLE_STREAM) {
        broken_table.mark = mark_an_idle_stream;
    } else if (broken == ADOPTS_NO_EVENT) {
        broken_table.adopt = adopt_no_event;
    }
    backend.vtable = &broken_table;
    return backend;
}

static void program_begin(uint64_t seed, int drop)
{
    ta_dynamic_desc desc;
    ta_pool_desc options;
    int i;
    memset(&run, 0, sizeof run);
    run.random = seed;
    run.drop = drop;
    run.tight = tight;
    run.pressing = pressing;
    memset(&options, 0, sizeof options);
    options.disable_stealing = (int)below(3) == 0;
    options.cached_bytes_max = below(4) == 0 ? 4 * MIB : 0;
    options.capture_check = below(2) == 0 ? TA_CAPTURE_STRICT : TA_CAPTURE_SCOPES_ONLY;
    cuda = cuda_new(below(3) == 0 ? TA_CUDA_SEGMENTS : below(8) == 0 ? TA_CUDA_ASYNC : TA_CUDA_RANGES);
    memset(&desc, 0, sizeof desc);
    options.backend = desc.backend = broken == SOUND ? ta_cuda_backend(cuda) : backend_now();
    CHECK_OK(ta_pool_create(&options, &pool));
    CHECK_OK(ta_dynamic_create(&desc, &run.dynamic));
    for (i = 1; i < STREAMS; i++) { /* 0: the default stream */
        run.streams[i] = stream_new();
    }
}

static void program_end(void)
{
    int i;
    for (i = 0; i < BLOCKS; i++) {
        if (run.blocks[i].ptr != 0 && below(2) == 0) {
            block_free(&run.blocks[i]);
        }
    }
    check_books(pool);
    CHECK_OK(ta_dynamic_destroy(run.dynamic)); /* with what is live */
    for (i = 0; i < BLOCKS; i++) { /* live blocks that were not announced: their work is waited for here */
        if (run.blocks[i].ptr != 0) {
            OK(cu.cuStreamSynchronize(run.streams[run.blocks[i].at]));
        }
    }
    world_end();
    for (i = 1; i < STREAMS; i++) {
        OK(cu.cuStreamDestroy_v2(run.streams[i]));
    }
}

/* Returns the reports; more than that is wrong only if nothing was left out. */
static uint64_t program(uint64_t seed, int drop)
{
    int i;
    uint64_t races;
    program_begin(seed, drop);
    for (i = 0; i < (run.pressing ? 4 * STEPS : STEPS); i++) {
        program_step();
    }
    program_end();
    all_refused += run.refused;
    races = fake.tafake_race_count();
    if (drop == 0 && races != 0) {
        CHECK_STRING(fake.tafake_race_text(0), "no report");
    }
    fake.tafake_races_clear();
    return races;
}

static int errors_open(const char *config)
{
    uint32_t zero[STREAMS] = {0};
    if (!(strstr(config, "cap=") != NULL ? fake_open(config) : any_open(config))) {
        return 0;
    }
    errors = alloc(sizeof zero);
    OK(cu.cuMemcpyHtoD_v2(errors, zero, sizeof zero));
    return 1;
}

static uint32_t errors_close(void)
{
    uint32_t sum = 0, found[STREAMS] = {0};
    int i;
    OK(cu.cuCtxSynchronize());
    OK(cu.cuMemcpyDtoH_v2(found, errors, sizeof found));
    OK(cu.cuMemFree_v2(errors));
    for (i = 0; i < STREAMS; i++) {
        sum += found[i];
    }
    device_close();
    check_quiet();
    check_nothing_live();
    return sum;
}

/* Each scheduler has seeds of its own: 1,200 programs in all. The kinds of scheduler that take a seed get one for each
   program. */
enum { RANDOM = 500, LAZY = 250, EAGER = 150, ON_THREADS = 100, TIGHT = 200, BROKEN = 40 };

static void programs(const char *kind, const char *more, uint64_t first, uint64_t count)
{
    const int seeded = kind[strlen(kind) - 1] == ':';
    uint64_t i;
    char config[64];
    for (i = 0; i < count && test_now.failures == 0; i++) {
        const uint64_t seed = test_now.seed + first + i;
        if (i % 100 == 0) {
            if (i != 0) {
                CHECK_EQ(errors_close(), 0);
            }
            (void)snprintf(config, sizeof config, seeded ? "%s1%s" : "%s%s", kind, more);
            if (!errors_open(config)) {
                return;
            }
        }
        test_context("%s, seed %llu", kind, (unsigned long long)seed);
        if (seeded) {
            (void)snprintf(config, sizeof config, "%s%llu", kind, (unsigned long long)i + 1);
            CHECK_EQ(fake.tafake_configure(config), 0);
        }
        CHECK_EQ(program(seed, 0), 0);
    }
    CHECK_EQ(errors_close(), 0);
}

static void random_programs_random(void)
{
    programs("sched=random:", ";fill=4096", 0, RANDOM);
}

static void random_programs_lazy(void)
{
    programs("sched=lazy", ";fill=4096", RANDOM, LAZY);
}

static void random_programs_eager(void)
{
    programs("sched=eager", ";fill=4096", RANDOM + LAZY, EAGER);
}

static void random_programs_threads(void)
{
    programs("sched=threads:", ";fill=4096", RANDOM + LAZY + EAGER, ON_THREADS);
}

/* On a small device: what has been freed must come back from other streams, chunks and the other allocator. */
static void random_programs_without_memory(void)
{
    tight = 1;
    programs("sched=random:", ";fill=4096;cap=24M", RANDOM + LAZY + EAGER + ON_THREADS, TIGHT);
    tight = 0;
    if (test_now.skip == NULL) {
        CHECK_GT(all_refused, 100);
    }
}

/* One announcement left out: many of these programs are wrong then, and are found out whatever the schedule was. */
static void random_programs_without_an_announcement(void)
{
    uint64_t seed, wrong = 0, runs = 0;
    if (!errors_open("sched=eager;fill=4096;cap=1G")) { /* needs the checker's reports */
        return;
    }
    pressing = 1;
    for (seed = 0; seed < 40; seed++) {
        int calls, drop;
        test_context("seed %llu", (unsigned long long)(test_now.seed + seed));
        CHECK_EQ(program(test_now.seed + seed, 0), 0);
        calls = run.announcements;
        for (drop = 1; drop <= calls && drop <= 4; drop++) {
            runs++;
            wrong += program(test_now.seed + seed, drop) != 0;
        }
    }
    pressing = 0;
    printf("%llu of %llu found out ... ", (unsigned long long)wrong, (unsigned long long)runs);
    CHECK_GE(wrong, runs / 5);
    (void)errors_close();
}

/* The order of the pool broken in one place: that is found out, so no broken pool can pass the programs above. */
static void random_programs_over_broken_order(void)
{
    int f;
    for (f = WAITS_FOR_NOTHING; f < FAULTS; f++) {
        uint64_t seed, wrong = 0;
        if (!errors_open("sched=eager;fill=4096;cap=1G")) {
            return;
        }
        idle = stream_new();
        broken = (fault)f;
        pressing = 1;
        for (seed = 0; seed < BROKEN; seed++) {
            test_context("%s, seed %llu", fault_names[f], (unsigned long long)(test_now.seed + seed));
            wrong += program(test_now.seed + seed, -1) != 0;
        }
        broken = SOUND;
        pressing = 0;
        printf("%s: %llu of %d ... ", fault_names[f], (unsigned long long)wrong, (int)BROKEN);
        CHECK_GE(wrong, BROKEN / 20);
        OK(cu.cuStreamDestroy_v2(idle));
        (void)errors_close();
    }
}

/*---------------------------------------------------------------------------------------------------------
  Threads
  -------------------------------------------------------------------------------------------------------*/
enum { THREADS = 4, ROUNDS = 150 };

typedef struct worker {
    uint64_t random;
    CUstream stream, other;
    CUdeviceptr bad; /* counts words that are not what they should be */
    int wrong;
} worker;

/* Each thread has a stream, uses its blocks on another thread's stream now and then, and trims. */
static void *work(void *argument)
{
    worker *w = (worker *)argument;
    int i;
    w->wrong += cu.cuCtxSetCurrent(on.context) != CUDA_SUCCESS;
    for (i = 0; i < ROUNDS; i++) {
        static const uint32_t sizes[] = {300, 4096, 70000, 300000};
        uint32_t words = sizes[test_below(&w->random, 4)], value = test_below(&w->random, 1000);
        void *ptr = ta_pool_alloc_stream(pool, words * 4, STREAM(w->stream), NULL);
        CUevent event = NULL;
        w->wrong += ptr == NULL || fill(ADDRESS(ptr), value, words, w->stream) != CUDA_SUCCESS;
        w->wrong += check(w->bad, ADDRESS(ptr), value, words, w->stream) != CUDA_SUCCESS;
        if (test_below(&w->random, 3) == 0) {
            w->wrong += cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS;
            w->wrong += cu.cuEventRecord(event, w->stream) != CUDA_SUCCESS;
            w->wrong += cu.cuStreamWaitEvent(w->other, event, 0) != CUDA_SUCCESS;
            w->wrong += ta_pool_record_use(pool, ptr, STREAM(w->other)) != TA_OK;
            w->wrong += add(ADDRESS(ptr), 1, words, w->other) != CUDA_SUCCESS;
            w->wrong += cu.cuEventDestroy_v2(event) != CUDA_SUCCESS;
        }
        if (test_below(&w->random, 40) == 0) {
            w->wrong += ta_pool_trim(pool, 0, NULL) != TA_OK;
        }
        w->wrong += ta_pool_free(pool, ptr) != TA_OK;
    }
    return NULL;
}

static void threads_with_streams_of_their_own(void)
{
    static const char *const schedulers[] = {"sched=lazy;fill=4096", "sched=threads;fill=4096"};
    size_t c;
    for (c = 0; c < 2; c++) {
        worker workers[THREADS];
        pthread_t ids[THREADS];
        CUstream streams[THREADS];
        uint32_t zero = 0;
        int i;
        if (!world_open_any(schedulers[c], TA_CUDA_RANGES, NULL)) {
            return;
        }
        memset(workers, 0, sizeof workers);
        for (i = 0; i < THREADS; i++) {
            streams[i] = stream_new();
            workers[i].random = test_now.seed + (uint64_t)i;
            workers[i].bad = alloc(4);
            OK(cu.cuMemcpyHtoD_v2(workers[i].bad, &zero, 4));
        }
        for (i = 0; i < THREADS; i++) {
            workers[i].stream = streams[i];
            workers[i].other = streams[(i + 1) % THREADS];
            CHECK_EQ(pthread_create(&ids[i], NULL, work, &workers[i]), 0);
        }
        for (i = 0; i < THREADS; i++) {
            CHECK_EQ(pthread_join(ids[i], NULL), 0);
            CHECK_EQ(workers[i].wrong, 0);
        }
        OK(cu.cuCtxSynchronize());
        check_books(pool);
        CHECK_OK(ta_pool_empty_cache(pool));
        CHECK_EQ(check_books(pool).reserved_bytes, 0);
        for (i = 0; i < THREADS; i++) {
            CHECK_EQ(read32(workers[i].bad), 0);
            OK(cu.cuMemFree_v2(workers[i].bad));
        }
        world_end();
        for (i = 0; i < THREADS; i++) {
            OK(cu.cuStreamDestroy_v2(streams[i]));
        }
        device_close();
        check_quiet();
        check_nothing_live();
    }
}

TEST_MAIN(TEST_CASE(announced_uses_are_waited_for), TEST_CASE(stealing), TEST_CASE(free_after_an_event),
          TEST_CASE(free_after_an_event_in_a_capture), TEST_CASE(free_after_that_fails_changes_nothing),
          TEST_CASE(freed_on_another_stream_than_home), TEST_CASE(retired_streams), TEST_CASE(many_retired_streams),
          TEST_CASE(streams_that_vanish), TEST_CASE(default_streams), TEST_CASE(per_thread_default_stream),
          TEST_CASE(a_captured_stream_at_first_sight),
          TEST_CASE(random_programs_random), TEST_CASE(random_programs_lazy), TEST_CASE(random_programs_eager),
          TEST_CASE(random_programs_threads), TEST_CASE(random_programs_without_memory),
          TEST_CASE(threads_with_streams_of_their_own),
          TEST_CASE(random_programs_without_an_announcement), TEST_CASE(random_programs_over_broken_order))
