/* test_explain.c - what is said of a failure is true: each verdict is provoked, what it advises is done, and the same
   request succeeds. */
#include "implementation.h"
#include "backends.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static ta_pool_desc zero_desc(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    return desc;
}

static ta_pool *open_pool(const ta_pool_desc *desc)
{
    ta_pool *pool = NULL;
    CHECK_OK(ta_pool_create(desc, &pool));
    return pool;
}

static void close_pool(ta_pool *pool)
{
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

static ta_request request_of(size_t size, uint32_t flags, const char *tag)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.flags = flags;
    request.tag = tag;
    return request;
}

static void *must(ta_pool *pool, size_t size, const char *tag)
{
    ta_request request = request_of(size, 0, tag);
    ta_result result = TA_OK;
    void *ptr = ta_pool_alloc_request(pool, &request, &result);
    CHECK_OK(result);
    return ptr;
}

/* The request fails with this result and this verdict; the words are in the sentence. */
static ta_failure fails_in(ta_allocator of, const ta_request *request, ta_result want, ta_verdict verdict,
                           const char *words)
{
    ta_result result = TA_OK;
    ta_failure failure;
    char text[512], cut[40];
    size_t length;
    memset(&failure, 0, sizeof failure);
    CHECK(ta_allocator_alloc(of, request, &result) == NULL);
    CHECK_RESULT(result, want);
    CHECK_OK(ta_allocator_get_failure(of, &failure));
    CHECK_RESULT(failure.result, want);
    CHECK_EQ(failure.requested_bytes, request->size_bytes);
    CHECK(failure.tag == request->tag);
    CHECK_STRING(ta_verdict_text(failure.verdict), ta_verdict_text(verdict));
    CHECK_EQ(failure.verdict, verdict);
    CHECK_EQ(failure.action, (int)verdict); /* each has its own */
    CHECK(verdict == TA_VERDICT_BACKEND || verdict < TA_VERDICT_WAITING || failure.action_bytes != 0);
    length = ta_failure_report(&failure, text, sizeof text);
    CHECK_EQ(length, strlen(text));
    CHECK(strstr(text, words) != NULL);
    CHECK(strstr(text, ta_action_text(failure.action)) != NULL);
    if (strstr(text, words) == NULL) {
        printf("%s\n", text);
    }
    CHECK_EQ(ta_failure_report(&failure, cut, sizeof cut), length);
    CHECK(strncmp(cut, text, sizeof cut - 1) == 0 && cut[sizeof cut - 1] == 0);
    return failure;
}

static ta_failure fails(ta_pool *pool, const ta_request *request, ta_result want, ta_verdict verdict, const char *words)
{
    ta_failure failure, same;
    failure = fails_in(ta_pool_allocator(pool), request, want, verdict, words);
    CHECK_OK(ta_pool_get_failure(pool, &same));
    CHECK(memcmp(&failure, &same, sizeof same) == 0);
    return failure;
}

static void succeeds_in(ta_allocator in, const ta_request *request)
{
    ta_result result = TA_OK;
    CHECK(ta_allocator_alloc(in, request, &result) != NULL);
    CHECK_OK(result);
}

static void succeeds(ta_pool *pool, const ta_request *request)
{
    succeeds_in(ta_pool_allocator(pool), request);
}

static void words_for_everything(void)
{
    ta_verdict no_verdict;
    ta_action no_action;
    int i, k;
    memset(&no_verdict, 0xff, sizeof no_verdict);
    memset(&no_action, 0xff, sizeof no_action);
    for (i = 0; i < (int)TA_VERDICT_COUNT; i++) {
        for (k = 0; k < i; k++) {
            CHECK(strcmp(ta_verdict_text((ta_verdict)i), ta_verdict_text((ta_verdict)k)) != 0);
            CHECK(strcmp(ta_action_text((ta_action)i), ta_action_text((ta_action)k)) != 0);
        }
    }
    CHECK_STRING(ta_verdict_text(TA_VERDICT_COUNT), "unknown");
    CHECK_STRING(ta_action_text(TA_ACTION_COUNT), "unknown");
    CHECK_STRING(ta_verdict_text(no_verdict), "unknown");
    CHECK_STRING(ta_action_text(no_action), "unknown");
}

/* What the program has forbidden. */
static void requests_that_forbid_it(void)
{
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(2 * MIB, TA_REQUEST_CACHED_ONLY, "asked");
    ta_pool *pool;
    desc.block_count_max = 1024;
    pool = open_pool(&desc);
    (void)fails(pool, &request, TA_ERROR_NOT_CACHED, TA_VERDICT_NOT_CACHED, "only the cache was asked");
    request.flags = 0;
    CHECK_OK(ta_pool_seal(pool, 1));
    (void)fails(pool, &request, TA_ERROR_SEALED, TA_VERDICT_SEALED, "sealed");
    CHECK_OK(ta_pool_seal(pool, 0));
    succeeds(pool, &request);
    request.size_bytes = 100;
    while (ta_pool_alloc_request(pool, &request, NULL) != NULL) {
    }
    (void)fails(pool, &request, TA_ERROR_RECORDS, TA_VERDICT_RECORDS, "records");
    CHECK_OK(ta_pool_destroy(pool));
    desc.block_count_max = 1 << 20;
    pool = open_pool(&desc);
    succeeds(pool, &request);
    close_pool(pool);
}

static void memory_that_waits_for_streams(void)
{
    const ta_stream home = 0x10, other = 0x20;
    tb_clock clock;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(3 * MIB, TA_REQUEST_WITHIN_BUDGET, NULL);
    ta_failure failure;
    ta_pool *pool;
    void *x;
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    desc.limit_bytes = 4 * MIB;
    pool = open_pool(&desc);
    x = ta_pool_alloc_stream(pool, 3 * MIB, home, NULL);
    REQUIRE(x != NULL);
    tb_clock_use(&clock, other, x, 3 * MIB);
    CHECK_OK(ta_pool_record_use(pool, x, other));
    CHECK_OK(ta_pool_free(pool, x));
    request.stream = home;
    failure = fails(pool, &request, TA_ERROR_LIMIT, TA_VERDICT_WAITING, "3.00 MiB are freed and wait for streams");
    CHECK_EQ(failure.pending_bytes, 3 * MIB);
    tb_clock_complete(&clock, other);
    succeeds(pool, &request);
    close_pool(pool);
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

/* Free pages that a request within the budget may not give back. */
static void pages_of_its_own(void)
{
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(2 * MIB, TA_REQUEST_WITHIN_BUDGET, NULL);
    ta_pool *pool;
    void *ptrs[8];
    int i;
    desc.limit_bytes = 8 * MIB;
    pool = open_pool(&desc);
    for (i = 0; i < 8; i++) {
        ptrs[i] = must(pool, 1 * MIB, NULL);
    }
    for (i = 0; i < 8; i += 2) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
    }
    (void)fails(pool, &request, TA_ERROR_LIMIT, TA_VERDICT_OWN_CACHE, "trim the allocator");
    CHECK_OK(ta_pool_trim(pool, 0, NULL));
    succeeds(pool, &request);
    close_pool(pool);
}

/* A sibling of each kind caches what is asked for. */
static void memory_that_siblings_cache(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(6 * MIB, TA_REQUEST_WITHIN_BUDGET, NULL);
    int kind;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = 8 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    for (kind = 0; kind < 3; kind++) {
        ta_allocator sibling;
        ta_pool *pool, *other = NULL;
        ta_arena *arena = NULL;
        ta_dynamic *dynamic = NULL;
        ta_failure failure;
        test_context("kind %d", kind);
        pool = open_pool(&desc);
        if (kind == 0) {
            other = open_pool(&desc);
            sibling = ta_pool_allocator(other);
            CHECK_OK(ta_pool_free(other, must(other, 6 * MIB, NULL)));
        } else if (kind == 1) {
            ta_arena_desc arena_desc;
            memset(&arena_desc, 0, sizeof arena_desc);
            arena_desc.budget = budget;
            CHECK_OK(ta_arena_create(&arena_desc, &arena));
            sibling = ta_arena_allocator(arena);
            CHECK(ta_arena_alloc(arena, 6 * MIB, NULL) != NULL);
            CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
        } else {
            const int64_t least[1] = {1}, most[1] = {8 * 1024 * 1024}, now[1] = {6 * 1024 * 1024};
            ta_dynamic_desc dynamic_desc;
            ta_shape_bounds bounds;
            ta_handle handle;
            memset(&dynamic_desc, 0, sizeof dynamic_desc);
            dynamic_desc.budget = budget;
            CHECK_OK(ta_dynamic_create(&dynamic_desc, &dynamic));
            sibling = ta_dynamic_allocator(dynamic);
            CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, least, now, most));
            CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
            CHECK_OK(ta_dynamic_free(dynamic, handle));
        }
        failure = fails(pool, &request, TA_ERROR_LIMIT, TA_VERDICT_SIBLINGS, "other allocators over the budget hold");
        CHECK_GE(failure.sibling_cached_bytes, 6 * MIB);
        CHECK_LE(failure.sibling_cached_bytes, failure.sibling_reserved_bytes);
        CHECK_EQ(failure.sibling_reserved_bytes + failure.reserved_bytes, failure.budget_used_bytes);
        CHECK_OK(ta_allocator_empty_cache(sibling));
        succeeds(pool, &request);
        close_pool(pool);
        CHECK_OK(ta_allocator_destroy(sibling));
    }
    CHECK_OK(ta_budget_destroy(budget));
}

#ifndef TENSORALLOC_NO_THREADS
/* A thread that fills its cache, and flushes it when it is told to. */
typedef struct hoarder {
    ta_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int stage; /* 1: the cache is full; 2: flush; 3: flushed; 4: end */
} hoarder;

static void reach(hoarder *h, int stage)
{
    pthread_mutex_lock(&h->lock);
    h->stage = stage;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void await(hoarder *h, int stage)
{
    pthread_mutex_lock(&h->lock);
    while (h->stage < stage) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

static void *hoard(void *user)
{
    hoarder *h = (hoarder *)user;
    void *ptrs[64];
    int i;
    for (i = 0; i < 64; i++) {
        ptrs[i] = ta_pool_alloc(h->pool, 28 * KIB, NULL);
    }
    for (i = 0; i < 64; i++) {
        (void)ta_pool_free(h->pool, ptrs[i]);
    }
    reach(h, 1);
    await(h, 2);
    (void)ta_pool_empty_cache(h->pool);
    reach(h, 3);
    await(h, 4);
    return NULL;
}

static void memory_that_threads_cache(void)
{
    int in_sibling;
    for (in_sibling = 0; in_sibling < 2; in_sibling++) {
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_pool_desc desc = zero_desc();
        ta_request request = request_of(3 * MIB, 0, NULL);
        ta_pool *pool;
        ta_failure failure;
        hoarder h;
        pthread_t thread;
        memset(&budget_desc, 0, sizeof budget_desc);
        budget_desc.limit_bytes = 4 * MIB;
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        desc.budget = budget;
        memset(&h, 0, sizeof h);
        pool = open_pool(&desc);
        h.pool = in_sibling ? open_pool(&desc) : pool;
        CHECK_EQ(pthread_mutex_init(&h.lock, NULL), 0);
        CHECK_EQ(pthread_cond_init(&h.changed, NULL), 0);
        REQUIRE(pthread_create(&thread, NULL, hoard, &h) == 0);
        await(&h, 1);
        failure = fails(pool, &request, TA_ERROR_LIMIT, in_sibling ? TA_VERDICT_SIBLINGS : TA_VERDICT_THREAD_CACHES,
                        in_sibling ? "other allocators" : "threads cache");
        CHECK_GE(in_sibling ? failure.sibling_cached_bytes : failure.thread_cached_bytes, failure.action_bytes);
        reach(&h, 2);
        await(&h, 3);
        succeeds(pool, &request);
        reach(&h, 4);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        if (in_sibling) {
            close_pool(h.pool);
        }
        close_pool(pool);
        CHECK_OK(ta_budget_destroy(budget));
        CHECK_EQ(pthread_cond_destroy(&h.changed), 0);
        CHECK_EQ(pthread_mutex_destroy(&h.lock), 0);
    }
}
#else
static void memory_that_threads_cache(void)
{
    TEST_SKIP("no threads");
}
#endif

typedef struct place {
    ta_pool *pool;
    uintptr_t from, to;
    size_t freed;
} place;

static int free_there(void *user, const ta_block_info *block)
{
    place *p = (place *)user;
    if ((uintptr_t)block->ptr >= p->from && (uintptr_t)block->ptr < p->to) {
        p->freed += block->capacity_bytes;
        CHECK_OK(ta_pool_free(p->pool, block->ptr));
    }
    return 0;
}

/* Frees what lies where the failure says that it would be cheapest. */
static void free_what_blocks(ta_pool *pool, const ta_failure *failure)
{
    place p;
    p.pool = pool;
    p.from = (uintptr_t)failure->blocking_ptr;
    p.to = p.from + failure->blocking_span_bytes;
    p.freed = 0;
    CHECK_GT(failure->blocking_count, 0);
    CHECK_OK(ta_pool_for_each_live(pool, free_there, &p));
    CHECK_EQ(p.freed, failure->blocking_bytes);
}

static void memory_in_pieces(void)
{
    ta_fixed_buffer state;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(200000, 0, NULL);
    ta_failure failure;
    ta_pool *pool;
    char *buffer = (char *)malloc(MIB);
    void *ptrs[64];
    int i, count = 0;
    REQUIRE(buffer != NULL);
    CHECK_OK(ta_backend_fixed(&state, buffer, MIB, &desc.backend));
    pool = open_pool(&desc);
    /* large and small ones in turn: 40 KB hold the pieces of 80 KB apart */
    while (count < 64) {
        ta_request one = request_of(count % 2 == 0 ? 80000 : 40000, 0, count < 2 ? "weights" : "kv \"cache\"");
        ptrs[count] = ta_pool_alloc_request(pool, &one, NULL);
        if (ptrs[count] == NULL) {
            break;
        }
        count++;
    }
    CHECK_GT(count, 10);
    for (i = 0; i < count; i += 2) {
        CHECK_OK(ta_pool_free(pool, ptrs[i]));
    }
    failure = fails(pool, &request, TA_ERROR_FRAGMENTED, TA_VERDICT_FRAGMENTED, "in the way are 40.00 KiB in 1 blocks");
    CHECK_EQ(failure.blocking_count, 1); /* one of them between two pieces of 80 KB */
    CHECK_EQ(failure.blocking_bytes, ta_pool_capacity_of(pool, ptrs[1]));
    CHECK_EQ(failure.blocking_tag_bytes, failure.blocking_bytes);
    CHECK_GE(failure.blocking_span_bytes, 200000);
    CHECK(failure.blocking_tag != NULL);
    free_what_blocks(pool, &failure);
    succeeds(pool, &request);
    request = request_of(300000, 0, NULL);
    request.alignment_bytes = 32768; /* room for that too */
    failure = fails(pool, &request, TA_ERROR_FRAGMENTED, TA_VERDICT_FRAGMENTED, "\"kv \"cache\"\"");
    CHECK_GE(failure.blocking_span_bytes, 300000);
    CHECK_STRING(failure.blocking_tag, "kv \"cache\"");
    free_what_blocks(pool, &failure);
    succeeds(pool, &request);
    close_pool(pool);
    free(buffer);
}

/* Segments cannot be given back in part: a limit and fragmentation at once. */
static void pieces_of_segments_under_a_limit(void)
{
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(6 * MIB, 0, NULL);
    ta_failure failure;
    ta_pool *pool;
    void *ptrs[16];
    int i;
    desc.disable_ranges = 1;
    desc.limit_bytes = 16 * MIB;
    pool = open_pool(&desc);
    for (i = 0; i < 16; i++) {
        ptrs[i] = must(pool, 1 * MIB, i == 8 ? "stays" : NULL);
    }
    for (i = 0; i < 16; i++) {
        if (i % 4 != 0) {
            CHECK_OK(ta_pool_free(pool, ptrs[i]));
        }
    }
    failure = fails(pool, &request, TA_ERROR_LIMIT, TA_VERDICT_FRAGMENTED, "in the way are 1.00 MiB in 1 blocks");
    CHECK_GE(failure.free_bytes, 12 * MIB);
    free_what_blocks(pool, &failure);
    succeeds(pool, &request);
    close_pool(pool);
}

/* The limit that is named is enough, whatever the size, the alignment and the backend. */
static void the_limit_that_would_do(void)
{
    uint64_t random = test_now.seed;
    int round;
    for (round = 0; round < 400; round++) {
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_pool_desc desc = zero_desc();
        ta_request request;
        ta_result result = TA_OK;
        ta_failure failure;
        ta_pool *pool;
        memset(&budget_desc, 0, sizeof budget_desc);
        budget_desc.limit_bytes = MIB + test_below(&random, 32) * MIB / 4;
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        desc.budget = budget;
        desc.disable_ranges = round % 3 == 0;
        desc.huge_pages = round % 5 == 0 ? TA_HUGE_PAGES_OFF : TA_HUGE_PAGES_DEFAULT;
        pool = open_pool(&desc);
        request = request_of(1, 0, NULL);
        do {
            request.size_bytes = 1 + test_below(&random, (uint32_t)(3 * MIB >> test_below(&random, 16)));
            request.alignment_bytes = test_below(&random, 4) == 0 ? (size_t)64 << test_below(&random, 13) : 0;
        } while (ta_pool_alloc_request(pool, &request, &result) != NULL);
        CHECK_RESULT(result, TA_ERROR_LIMIT);
        CHECK_OK(ta_pool_get_failure(pool, &failure));
        if (failure.verdict == TA_VERDICT_LIMIT) {
            CHECK_GT(failure.action_bytes, budget_desc.limit_bytes);
            CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
        } else {
            CHECK_EQ(failure.verdict, TA_VERDICT_FRAGMENTED);
            free_what_blocks(pool, &failure);
        }
        test_context("round %d: %zu bytes at %zu, %s", round, request.size_bytes, request.alignment_bytes,
                     ta_verdict_text(failure.verdict));
        succeeds(pool, &request);
        close_pool(pool);
        CHECK_OK(ta_budget_destroy(budget));
    }
}

/* A backend whose memory others use as well. */
typedef struct shared_device {
    ta_backend_vtable table;
    size_t total_bytes, others_bytes, ours_bytes;
    int is_silent; /* memory_info fails */
    int migrates;  /* half of what it gave is elsewhere, and it speaks of the rest */
    int is_stubborn;
} shared_device;

static ta_result device_alloc(void *self, size_t size, void **out)
{
    shared_device *d = (shared_device *)self;
    if (d->is_stubborn || size > d->total_bytes - d->others_bytes - d->ours_bytes) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    d->ours_bytes += size;
    return ta_backend_host().vtable->alloc(NULL, size, out);
}

static ta_result device_free(void *self, void *ptr, size_t size)
{
    ((shared_device *)self)->ours_bytes -= size;
    return ta_backend_host().vtable->free(NULL, ptr, size);
}

static void device_info(void *self, ta_backend_info *out)
{
    (void)self;
    ta_backend_host().vtable->info(NULL, out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_HOST_ACCESS;
}

static ta_result device_memory(void *self, size_t *out_free, size_t *out_total)
{
    const shared_device *d = (const shared_device *)self;
    *out_total = d->total_bytes;
    *out_free = d->total_bytes - d->others_bytes - d->ours_bytes;
    if (d->migrates) {
        *out_total = d->ours_bytes / 2;
        *out_free = 0;
    }
    return d->is_silent ? TA_ERROR_BACKEND : TA_OK;
}

static void memory_that_others_have(void)
{
    shared_device device;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(20 * MIB, 0, NULL);
    ta_failure failure;
    ta_pool *pool;
    void *ours;
    memset(&device, 0, sizeof device);
    device.table.struct_bytes = sizeof device.table;
    device.table.name = "shared";
    device.table.info = device_info;
    device.table.alloc = device_alloc;
    device.table.free = device_free;
    device.table.memory_info = device_memory;
    device.total_bytes = 64 * MIB;
    device.others_bytes = 30 * MIB;
    desc.backend.vtable = &device.table;
    desc.backend.self = &device;
    pool = open_pool(&desc);
    ours = must(pool, 24 * MIB, NULL);
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_OUTSIDE,
                    "it has 10.00 MiB free of 64.00 MiB, and others have 30.00 MiB");
    CHECK_EQ(failure.outside_bytes, 30 * MIB);
    CHECK_EQ(failure.backend_free_bytes, 10 * MIB);
    CHECK_EQ(failure.backend_total_bytes, 64 * MIB);
    CHECK_EQ(failure.action_bytes, 10 * MIB);
    device.others_bytes -= failure.action_bytes;
    succeeds(pool, &request);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    device.others_bytes = 0; /* nobody else: ours is all there is */
    ours = must(pool, 50 * MIB, NULL);
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_FULL, "no more than this budget holds");
    CHECK_EQ(failure.action_bytes, 6 * MIB);
    device.migrates = 1;
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_FULL, "no more than this budget holds");
    CHECK_EQ(failure.outside_bytes, 0);
    device.migrates = 0;
    CHECK_OK(ta_pool_free(pool, ours));
    succeeds(pool, &request);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_empty_cache(pool));
    device.is_stubborn = 1; /* it says that it has memory, and gives none */
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_BACKEND, "refused");
    CHECK_EQ(failure.backend_free_bytes, 64 * MIB);
    device.is_silent = 1; /* or does not say */
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_BACKEND, "refused");
    CHECK_EQ(failure.backend_free_bytes, TA_UNLIMITED);
    CHECK_EQ(failure.outside_bytes, 0);
    device.is_stubborn = 0;
    succeeds(pool, &request);
    close_pool(pool);
}

static void bounded_backends_that_are_full(void)
{
    ta_fixed_buffer state;
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(100000, 0, NULL);
    ta_failure failure;
    ta_pool *pool;
    char *buffer = (char *)malloc(MIB);
    void *last = NULL, *ptr;
    REQUIRE(buffer != NULL);
    CHECK_OK(ta_backend_fixed(&state, buffer, MIB, &desc.backend));
    pool = open_pool(&desc);
    while ((ptr = ta_pool_alloc(pool, 100000, NULL)) != NULL) {
        last = ptr;
    }
    failure = fails(pool, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_FULL, "no more than this budget holds");
    CHECK_LE(failure.action_bytes, 100032);
    CHECK_OK(ta_pool_free(pool, last));
    succeeds(pool, &request);
    close_pool(pool);
    free(buffer);
}

/* ta_dynamic: which limit it was, and what would do. Tensors in ranges and as blocks, new ones and such that grow. */
static void tensors_with_bounds(void)
{
    const int64_t least[1] = {1}, most[1] = {64 * 1024 * 1024}, first[1] = {1024 * 1024};
    uint64_t random = test_now.seed;
    int round;
    for (round = 0; round < 120; round++) {
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_dynamic_desc desc;
        ta_dynamic *dynamic = NULL;
        ta_shape_bounds bounds;
        ta_handle handles[3];
        ta_failure failure;
        ta_result result = TA_OK;
        int64_t dims[1] = {0};
        char text[512];
        int i, by_capacity = round % 2, blocks = round / 2 % 2, grow = round / 4 % 2;
        memset(&desc, 0, sizeof desc);
        memset(&budget_desc, 0, sizeof budget_desc);
        memset(&failure, 0x5a, sizeof failure);
        memset(handles, 0, sizeof handles);
        budget_desc.limit_bytes = by_capacity ? 0 : (8 + test_below(&random, 8)) * MIB;
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        desc.budget = budget;
        desc.capacity_bytes_max = by_capacity ? (8 + test_below(&random, 8)) * MIB : 0;
        desc.disable_ranges = blocks;
        desc.strategy = ta_strategy_exact();
        CHECK_OK(ta_dynamic_create(&desc, &dynamic));
        CHECK_OK(ta_dynamic_get_failure(dynamic, &failure));
        CHECK_EQ(failure.count, 0);
        test_context("round %d", round);
        for (i = 0; i < 3; i++) {
            CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, least, first, most));
            CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handles[i]));
        }
        if (grow) {
            do {
                dims[0] += 1 + (int64_t)test_below(&random, (uint32_t)(3 * MIB));
                result = ta_dynamic_resize(dynamic, handles[0], dims, 1);
            } while (result == TA_OK);
        } else {
            int64_t expected[1];
            expected[0] = 14 * 1024 * 1024 + (int64_t)test_below(&random, (uint32_t)MIB);
            CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, least, expected, most));
            result = ta_dynamic_alloc(dynamic, &bounds, &handles[1]);
        }
        CHECK_RESULT(result, TA_ERROR_LIMIT);
        CHECK_OK(ta_dynamic_get_failure(dynamic, &failure));
        CHECK_EQ(failure.count, 1);
        CHECK_STRING(ta_verdict_text(failure.verdict),
                     ta_verdict_text(by_capacity ? TA_VERDICT_CAPACITY : TA_VERDICT_LIMIT));
        CHECK_GT(ta_failure_report(&failure, text, sizeof text), 0);
        CHECK(strstr(text, by_capacity ? "raise capacity_bytes_max to" : "raise the limit to") != NULL);
        if (!by_capacity) {
            CHECK_GT(failure.action_bytes, budget_desc.limit_bytes);
            CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
            result = grow ? ta_dynamic_resize(dynamic, handles[0], dims, 1)
                          : ta_dynamic_alloc(dynamic, &bounds, &handles[1]);
            CHECK_OK(result);
        } else {
            CHECK_GT(failure.action_bytes, desc.capacity_bytes_max);
            CHECK_LE(failure.action_bytes, 2 * MIB + (size_t)(grow ? dims[0] : 15 * 1024 * 1024) + 1 * MIB);
        }
        CHECK_OK(ta_dynamic_destroy(dynamic));
        CHECK_OK(ta_budget_destroy(budget));
    }
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_dynamic_get_failure(NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
}

/* The callback is told the same, before the failure is final. */
static int look(void *user, const ta_failure *failure)
{
    *(ta_failure *)user = *failure;
    return 0;
}

static void callbacks_are_told(void)
{
    ta_pool_desc desc = zero_desc();
    ta_request request = request_of(8 * MIB, 0, "big");
    ta_failure seen, failure;
    ta_pool *pool;
    memset(&seen, 0, sizeof seen);
    desc.limit_bytes = 4 * MIB;
    desc.on_out_of_memory = look;
    desc.on_out_of_memory_user = &seen;
    pool = open_pool(&desc);
    failure = fails(pool, &request, TA_ERROR_LIMIT, TA_VERDICT_LIMIT, "raise the limit to 8.00 MiB");
    CHECK_EQ(failure.action_bytes, 8 * MIB);
    CHECK_EQ(seen.verdict, TA_VERDICT_LIMIT);
    CHECK_EQ(seen.action, TA_ACTION_RAISE_LIMIT);
    CHECK_EQ(seen.action_bytes, 8 * MIB);
    close_pool(pool);
}

/* All-zero is no failure, and not one of the capacity. */
static void nothing_failed(void)
{
    ta_failure failure;
    char text[128];
    memset(&failure, 0, sizeof failure);
    CHECK_EQ(ta_failure_report(&failure, text, sizeof text), strlen("nothing failed"));
    CHECK_STRING(text, "nothing failed");
}

/* Memory that freed tensors keep warm is not touched either within the budget; what is advised helps. */
static void warm_ranges_within_the_budget(void)
{
    ta_dynamic_desc desc;
    ta_dynamic *d = NULL;
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    ta_handle handle;
    ta_failure failure;
    int64_t least = 0, now = 6 * (int64_t)MIB, most = 7 * (int64_t)MIB;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 8 * MIB;
    desc.strategy = ta_strategy_exact();
    CHECK_OK(ta_dynamic_create(&desc, &d));
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
    CHECK_OK(ta_dynamic_alloc(d, &bounds, &handle));
    memset(ta_dynamic_get_data(d, handle), 1, 6 * MIB);
    CHECK_OK(ta_dynamic_free(d, handle));
    now = 5 * (int64_t)MIB;
    most = 64 * (int64_t)MIB;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.flags = TA_REQUEST_WITHIN_BUDGET;
    if (ta_dynamic_alloc_request(d, &request, &handle) == TA_ERROR_LIMIT) { /* without ranges nothing stays warm */
        CHECK_OK(ta_dynamic_get_failure(d, &failure));
        CHECK_EQ(failure.verdict, TA_VERDICT_OWN_CACHE);
        CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(d), 0, NULL));
        CHECK_OK(ta_dynamic_alloc_request(d, &request, &handle));
    }
    CHECK_OK(ta_dynamic_free(d, handle));
    CHECK_OK(ta_dynamic_destroy(d));
}

/* A dynamic over a budget that it shares with nobody: its pool's cache and its ranges are its own, whoever of the two
   needs memory. What is advised helps. */
static ta_dynamic *alone(size_t limit, ta_handle *big, int64_t big_bytes)
{
    const int64_t least = 0, most = 64 * (int64_t)MIB;
    ta_dynamic_desc desc;
    ta_dynamic *d = NULL;
    ta_shape_bounds bounds;
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = limit;
    desc.strategy = ta_strategy_exact();
    CHECK_OK(ta_dynamic_create(&desc, &d));
    if (big != NULL) {
        CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &big_bytes, &most));
        CHECK_OK(ta_dynamic_alloc(d, &bounds, big));
    }
    return d;
}

static ta_result within_budget(ta_dynamic *d, int64_t now, int64_t most, ta_handle *out)
{
    const int64_t least = 0;
    ta_shape_bounds bounds;
    ta_dynamic_request request;
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
    memset(&request, 0, sizeof request);
    request.bounds = &bounds;
    request.flags = TA_REQUEST_WITHIN_BUDGET;
    return ta_dynamic_alloc_request(d, &request, out);
}

/* Blocks of 32 KB of the dynamic's pool, taken and freed by this thread. */
static void fill_and_free(ta_dynamic *d, int count)
{
    ta_request request = request_of(32000, 0, NULL);
    ta_allocator self = ta_dynamic_allocator(d);
    void *ptrs[200];
    int i;
    for (i = 0; i < count; i++) {
        ptrs[i] = ta_allocator_alloc(self, &request, NULL);
        CHECK(ptrs[i] != NULL);
    }
    for (i = 0; i < count; i++) {
        CHECK_OK(ta_allocator_free(self, ptrs[i], 0, 0, 0));
    }
}

static void a_dynamic_and_its_own_pool(void)
{
    ta_failure failure;
    ta_dynamic *d = alone(8 * MIB, NULL, 0);
    ta_handle handle;
    ta_request request = request_of(5 * MIB, TA_REQUEST_WITHIN_BUDGET, NULL);
    void *ptr;
    fill_and_free(d, 200); /* 6 MiB in the pool's heap and cache, and a range wants 5 */
    if (within_budget(d, 5 * (int64_t)MIB, 64 * (int64_t)MIB, &handle) == TA_ERROR_LIMIT) {
        CHECK_OK(ta_dynamic_get_failure(d, &failure));
        CHECK_STRING(ta_verdict_text(failure.verdict), ta_verdict_text(TA_VERDICT_OWN_CACHE));
        CHECK_EQ(failure.sibling_reserved_bytes, 0);
        CHECK_EQ(failure.sibling_cached_bytes, 0);
        CHECK_EQ(failure.reserved_bytes, failure.budget_used_bytes);
        CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(d), 0, NULL));
        CHECK_OK(within_budget(d, 5 * (int64_t)MIB, 64 * (int64_t)MIB, &handle));
    }
    CHECK_OK(ta_dynamic_free(d, handle)); /* warm now; a block wants 5 */
    ptr = ta_allocator_alloc(ta_dynamic_allocator(d), &request, NULL);
    if (ptr == NULL) {
        CHECK_OK(ta_dynamic_get_failure(d, &failure));
        CHECK_STRING(ta_verdict_text(failure.verdict), ta_verdict_text(TA_VERDICT_OWN_CACHE));
        CHECK_EQ(failure.action, TA_ACTION_TRIM);
        CHECK_EQ(failure.sibling_reserved_bytes, 0);
        CHECK_GE(failure.free_bytes, failure.action_bytes);
        CHECK_OK(ta_allocator_trim(ta_dynamic_allocator(d), 0, NULL));
        ptr = ta_allocator_alloc(ta_dynamic_allocator(d), &request, NULL);
    }
    CHECK(ptr != NULL);
    CHECK_OK(ta_dynamic_destroy(d));
    d = alone(8 * MIB, &handle, 6 * (int64_t)MIB); /* all in use: nothing of its own would help */
    CHECK_RESULT(within_budget(d, 5 * (int64_t)MIB, 64 * (int64_t)MIB, &handle), TA_ERROR_LIMIT);
    CHECK_OK(ta_dynamic_get_failure(d, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_LIMIT);
    CHECK(ta_allocator_alloc(ta_dynamic_allocator(d), &request, NULL) == NULL);
    CHECK_OK(ta_dynamic_get_failure(d, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_LIMIT);
    CHECK_EQ(failure.sibling_reserved_bytes, 0);
    CHECK_OK(ta_dynamic_destroy(d));
}

#ifndef TENSORALLOC_NO_THREADS
/* A thread that leaves small blocks of a dynamic in its cache, and gives them back when it is told to. */
typedef struct keeper {
    hoarder h; /* pool: not used */
    ta_dynamic *d;
} keeper;

static void *keep(void *user)
{
    keeper *k = (keeper *)user;
    fill_and_free(k->d, 60);
    reach(&k->h, 1);
    await(&k->h, 2);
    (void)ta_allocator_empty_cache(ta_dynamic_allocator(k->d));
    reach(&k->h, 3);
    await(&k->h, 4);
    return NULL;
}

static void threads_cache_of_a_dynamic(void)
{
    keeper k;
    pthread_t thread;
    ta_handle handle;
    ta_shape_bounds bounds;
    ta_failure failure;
    const int64_t least = 0, now = 3 * (int64_t)MIB, most = 64 * (int64_t)MIB;
    int failed;
    memset(&k, 0, sizeof k);
    k.d = alone(4 * MIB, NULL, 0);
    CHECK_EQ(pthread_mutex_init(&k.h.lock, NULL), 0);
    CHECK_EQ(pthread_cond_init(&k.h.changed, NULL), 0);
    failed = pthread_create(&thread, NULL, keep, &k);
    if (failed == 0) { /* it checks, too: one after the other */
        await(&k.h, 1);
    }
    REQUIRE(failed == 0);
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
    CHECK_RESULT(ta_dynamic_alloc(k.d, &bounds, &handle), TA_ERROR_LIMIT);
    CHECK_OK(ta_dynamic_get_failure(k.d, &failure));
    CHECK_STRING(ta_verdict_text(failure.verdict), ta_verdict_text(TA_VERDICT_THREAD_CACHES));
    CHECK_GE(failure.thread_cached_bytes, failure.action_bytes);
    CHECK_EQ(failure.sibling_reserved_bytes, 0);
    reach(&k.h, 2);
    await(&k.h, 3);
    CHECK_OK(ta_dynamic_alloc(k.d, &bounds, &handle));
    reach(&k.h, 4);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_OK(ta_dynamic_destroy(k.d));
    CHECK_EQ(pthread_cond_destroy(&k.h.changed), 0);
    CHECK_EQ(pthread_mutex_destroy(&k.h.lock), 0);
}
#else
static void threads_cache_of_a_dynamic(void)
{
    TEST_SKIP("no threads");
}
#endif

/* ---- arenas and direct allocators */
static ta_arena *open_arena(const ta_arena_desc *desc)
{
    ta_arena *arena = NULL;
    CHECK_OK(ta_arena_create(desc, &arena));
    return arena;
}

static ta_allocator open_direct(ta_budget *budget)
{
    ta_direct_desc desc;
    ta_direct *direct = NULL;
    memset(&desc, 0, sizeof desc);
    desc.budget = budget;
    CHECK_OK(ta_direct_create(&desc, &direct));
    return ta_direct_allocator(direct);
}

/* The limit that is named is enough, in ranges and in segments, whatever size and alignment. */
static void limits_of_arenas_and_direct_allocators(void)
{
    tb_counting segments;
    uint64_t random = test_now.seed;
    int round;
    for (round = 0; round < 300; round++) {
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_arena_desc desc;
        ta_allocator of;
        ta_request request = request_of(1, 0, "big");
        ta_result result = TA_OK;
        ta_failure failure;
        memset(&budget_desc, 0, sizeof budget_desc);
        budget_desc.limit_bytes = MIB + test_below(&random, 32) * MIB / 4;
        if (round % 3 == 1) {
            budget_desc.backend = tb_counting_init(&segments, ta_backend_host(), TA_CAP_RANGES);
        }
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        memset(&desc, 0, sizeof desc);
        desc.budget = budget;
        of = round % 3 == 2 ? open_direct(budget) : ta_arena_allocator(open_arena(&desc));
        test_context("round %d", round);
        do {
            request.size_bytes = 1 + test_below(&random, (uint32_t)(3 * MIB >> test_below(&random, 10)));
            request.alignment_bytes = test_below(&random, 4) == 0 ? (size_t)64 << test_below(&random, 13) : 0;
        } while (ta_allocator_alloc(of, &request, &result) != NULL);
        CHECK_RESULT(result, TA_ERROR_LIMIT);
        failure = fails_in(of, &request, TA_ERROR_LIMIT, TA_VERDICT_LIMIT, "raise the limit to");
        CHECK_GT(failure.action_bytes, budget_desc.limit_bytes);
        CHECK_EQ(failure.budget_used_bytes, failure.reserved_bytes);
        CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
        succeeds_in(of, &request);
        CHECK_OK(ta_allocator_destroy(of));
        CHECK_OK(ta_budget_destroy(budget));
        if (round % 3 == 1) {
            tb_counting_end(&segments);
        }
    }
    test_context("%s", "");
}

/* What the program forbids; what siblings cache; what its own spare segments hold. */
static void other_reasons_of_arenas_and_direct_allocators(void)
{
    tb_counting segments;
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_arena_desc arena_desc;
    ta_request request = request_of(6 * MIB, 0, NULL);
    ta_failure failure;
    ta_arena *arena;
    ta_pool *pool;
    int kind;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    budget_desc.limit_bytes = 8 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = arena_desc.budget = budget;
    for (kind = 0; kind < 2; kind++) {
        ta_allocator of;
        test_context("kind %d", kind);
        pool = open_pool(&desc);
        of = kind == 0 ? ta_arena_allocator(open_arena(&arena_desc)) : open_direct(budget);
        CHECK_OK(ta_allocator_get_failure(of, &failure));
        CHECK_EQ(failure.count, 0);
        request.flags = TA_REQUEST_CACHED_ONLY;
        failure = fails_in(of, &request, TA_ERROR_NOT_CACHED, TA_VERDICT_NOT_CACHED, "only the cache was asked");
        CHECK_EQ(failure.count, 1);
        CHECK_OK(ta_pool_free(pool, must(pool, 6 * MIB, NULL)));
        request.flags = TA_REQUEST_WITHIN_BUDGET;
        failure = fails_in(of, &request, TA_ERROR_LIMIT, TA_VERDICT_SIBLINGS, "other allocators over the budget");
        CHECK_EQ(failure.count, 2);
        CHECK_GE(failure.sibling_cached_bytes, 6 * MIB);
        CHECK_OK(ta_pool_empty_cache(pool));
        succeeds_in(of, &request);
        CHECK_OK(ta_allocator_dispose(of));
        CHECK_OK(ta_allocator_get_failure(of, &failure)); /* still readable */
        CHECK_EQ(failure.count, 2);
        CHECK_OK(ta_allocator_destroy(of));
        close_pool(pool);
    }
    test_context("%s", "");
    CHECK_OK(ta_budget_destroy(budget));
    budget_desc.backend = tb_counting_init(&segments, ta_backend_host(), TA_CAP_RANGES);
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    arena_desc.budget = budget;
    arena = open_arena(&arena_desc);
    CHECK(ta_arena_alloc(arena, 1 * MIB, NULL) != NULL);
    CHECK(ta_arena_alloc(arena, 2 * MIB, NULL) != NULL);
    CHECK(ta_arena_alloc(arena, 4 * MIB, NULL) != NULL);
    CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
    request.flags = 0;
    (void)fails_in(ta_arena_allocator(arena), &request, TA_ERROR_LIMIT, TA_VERDICT_OWN_CACHE, "trim the allocator");
    CHECK_OK(ta_allocator_trim(ta_arena_allocator(arena), 0, NULL));
    succeeds_in(ta_arena_allocator(arena), &request);
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_budget_destroy(budget));
    tb_counting_end(&segments);
}

/* Frees what lies behind the freed blocks of an arena: from blocking_ptr on. */
static void free_the_end(ta_arena *arena, void **ptrs, int count, const ta_failure *failure)
{
    uintptr_t from = (uintptr_t)failure->blocking_ptr, to = from + failure->blocking_span_bytes;
    size_t freed = 0, blocks = 0;
    ta_block_info info;
    int i;
    for (i = 0; i < count; i++) {
        if ((uintptr_t)ptrs[i] >= from && (uintptr_t)ptrs[i] < to &&
            ta_allocator_describe(ta_arena_allocator(arena), ptrs[i], &info) == TA_OK) {
            freed += info.capacity_bytes;
            blocks++;
            CHECK_OK(ta_allocator_free(ta_arena_allocator(arena), ptrs[i], 0, 0, 0));
        }
    }
    CHECK_EQ(freed, failure->blocking_bytes);
    CHECK_EQ(blocks, failure->blocking_count);
    CHECK_EQ(failure->action_bytes, failure->blocking_bytes);
}

/* Freed blocks in the middle of an arena are of no use until those behind them are free: under a limit, in a bounded
   buffer, in segments. Without freed ones, or where a mark protects them, the reason is another one. */
static void freed_blocks_inside_of_arenas(void)
{
    tb_counting segments;
    int way;
    for (way = 0; way < 4; way++) {
        ta_arena_desc desc;
        ta_fixed_buffer state;
        ta_arena *arena;
        ta_arena_mark mark;
        ta_request request = request_of(3 * MIB, 0, "late");
        ta_failure failure;
        char *buffer = (char *)malloc(8 * MIB);
        void *ptrs[8];
        int i, bounded = way == 1;
        REQUIRE(buffer != NULL);
        memset(&desc, 0, sizeof desc);
        desc.limit_bytes = bounded ? 0 : 8 * MIB;
        if (bounded) {
            CHECK_OK(ta_backend_fixed(&state, buffer, 8 * MIB, &desc.backend));
        } else if (way == 2) {
            desc.backend = tb_counting_init(&segments, ta_backend_host(), TA_CAP_RANGES);
            desc.chunk_bytes = 8 * MIB;
        }
        arena = open_arena(&desc);
        test_context("way %d", way);
        for (i = 0; i < 7; i++) {
            ta_request one = request_of(1 * MIB, 0, i < 4 ? "early" : i == 5 ? "one" : "more");
            ptrs[i] = ta_allocator_alloc(ta_arena_allocator(arena), &one, NULL);
            CHECK(ptrs[i] != NULL);
        }
        (void)fails_in(ta_arena_allocator(arena), &request, bounded ? TA_ERROR_OUT_OF_MEMORY : TA_ERROR_LIMIT,
                       bounded ? TA_VERDICT_FULL : TA_VERDICT_LIMIT, bounded ? "free blocks" : "raise the limit to");
        CHECK_OK(ta_allocator_free(ta_arena_allocator(arena), ptrs[2], 0, 0, 0));
        CHECK_OK(ta_allocator_free(ta_arena_allocator(arena), ptrs[3], 0, 0, 0));
        CHECK_OK(ta_allocator_free(ta_arena_allocator(arena), ptrs[4], 0, 0, 0));
        memset(&mark, 0, sizeof mark);
        if (way == 3) { /* before a mark nothing is used again */
            mark = ta_arena_get_mark(arena);
            (void)fails_in(ta_arena_allocator(arena), &request, TA_ERROR_LIMIT, TA_VERDICT_LIMIT, "raise the limit to");
            CHECK_OK(ta_arena_destroy(arena));
            free(buffer);
            continue;
        }
        request.size_bytes = 4 * MIB;
        failure = fails_in(ta_arena_allocator(arena), &request, bounded ? TA_ERROR_OUT_OF_MEMORY : TA_ERROR_LIMIT,
                           TA_VERDICT_FRAGMENTED, "in the way are 2.00 MiB in 2 blocks");
        CHECK_EQ(failure.blocking_tag_bytes, 1 * MIB);
        CHECK_STRING(failure.blocking_tag, "more");
        CHECK(failure.blocking_ptr <= ptrs[4]);
        free_the_end(arena, ptrs, 7, &failure);
        succeeds_in(ta_arena_allocator(arena), &request);
        CHECK_OK(ta_arena_destroy(arena));
        if (way == 2) {
            tb_counting_end(&segments);
        }
        free(buffer);
    }
    test_context("%s", "");
}

/* Memory that others have, that is not there, and what the backend does not explain. */
static void what_backends_refuse(void)
{
    int kind;
    for (kind = 0; kind < 2; kind++) {
        shared_device device;
        ta_budget_desc budget_desc;
        ta_budget *budget = NULL;
        ta_arena_desc desc;
        ta_allocator of;
        ta_request request = request_of(20 * MIB, 0, NULL);
        ta_failure failure;
        void *ours;
        ta_request first = request_of(24 * MIB, 0, NULL);
        memset(&device, 0, sizeof device);
        device.table.struct_bytes = sizeof device.table;
        device.table.name = "shared";
        device.table.info = device_info;
        device.table.alloc = device_alloc;
        device.table.free = device_free;
        device.table.memory_info = device_memory;
        device.total_bytes = 64 * MIB;
        device.others_bytes = 30 * MIB;
        memset(&budget_desc, 0, sizeof budget_desc);
        budget_desc.backend.vtable = &device.table;
        budget_desc.backend.self = &device;
        CHECK_OK(ta_budget_create(&budget_desc, &budget));
        memset(&desc, 0, sizeof desc);
        desc.budget = budget;
        of = kind == 0 ? ta_arena_allocator(open_arena(&desc)) : open_direct(budget);
        test_context("kind %d", kind);
        ours = ta_allocator_alloc(of, &first, NULL);
        CHECK(ours != NULL);
        failure = fails_in(of, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_OUTSIDE, "others have 30.00 MiB");
        device.others_bytes -= failure.action_bytes;
        succeeds_in(of, &request);
        device.others_bytes = 0;
        request.size_bytes = 30 * MIB;
        failure = fails_in(of, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_FULL, "no more than this budget holds");
        CHECK_EQ(failure.backend_code, 0);
        device.is_stubborn = 1;
        request.size_bytes = 1 * MIB;
        (void)fails_in(of, &request, TA_ERROR_OUT_OF_MEMORY, TA_VERDICT_BACKEND, "refused");
        CHECK_OK(ta_allocator_destroy(of));
        CHECK_OK(ta_budget_destroy(budget));
    }
    test_context("%s", "");
}

static void tables_without_reasons(void)
{
    ta_allocator_vtable table;
    ta_allocator theirs;
    ta_failure failure;
    ta_arena *arena = open_arena(NULL);
    memcpy(&table, ta_arena_allocator(arena).vtable, sizeof table);
    table.failure = NULL;
    theirs.vtable = &table;
    theirs.self = arena;
    memset(&failure, 1, sizeof failure);
    CHECK_RESULT(ta_allocator_get_failure(theirs, &failure), TA_ERROR_UNSUPPORTED);
    CHECK_EQ(failure.count, 0);
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_allocator_get_failure(theirs, NULL), TA_ERROR_INVALID_ARGUMENT);
    table.struct_bytes = 5;
    CHECK_RESULT(ta_allocator_get_failure(theirs, &failure), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_arena_destroy(arena));
}

/* ---- threads that fail at the same time, on the same allocators */
#ifndef TENSORALLOC_NO_THREADS
typedef struct failing {
    ta_allocator *of;
    uint64_t state;
    size_t wrong;
} failing;

static void *fail_often(void *user)
{
    failing *f = (failing *)user;
    int i;
    for (i = 0; i < 400; i++) {
        ta_allocator of = f->of[test_below(&f->state, 4)];
        ta_request request = request_of(1 + test_below(&f->state, (uint32_t)(2 * MIB)),
                                        test_below(&f->state, 2) != 0 ? TA_REQUEST_WITHIN_BUDGET : 0, "threads");
        ta_failure failure;
        void *ptr = ta_allocator_alloc(of, &request, NULL);
        f->wrong += ta_allocator_get_failure(of, &failure) != TA_OK;
        f->wrong += failure.count != 0 && (failure.verdict < TA_VERDICT_WAITING || failure.pending_bytes > 64 * MIB ||
                                           failure.free_bytes > 64 * MIB || failure.sibling_cached_bytes > 64 * MIB);
        f->wrong += ptr != NULL && ta_allocator_free(of, ptr, 0, 0, 0) != TA_OK;
    }
    return NULL;
}

static void threads_fail_together(void)
{
    enum { THREADS = 3 };
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc pool_desc = zero_desc();
    ta_arena_desc arena_desc;
    ta_direct_desc direct_desc;
    ta_dynamic_desc dynamic_desc;
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic = NULL;
    ta_allocator of[4];
    pthread_t ids[THREADS];
    failing workers[THREADS];
    int i, started = 0;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&direct_desc, 0, sizeof direct_desc);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    budget_desc.limit_bytes = 3 * MIB;
    REQUIRE(ta_budget_create(&budget_desc, &budget) == TA_OK);
    pool_desc.budget = arena_desc.budget = direct_desc.budget = dynamic_desc.budget = budget;
    CHECK_OK(ta_pool_create(&pool_desc, &pool));
    CHECK_OK(ta_arena_create(&arena_desc, &arena));
    CHECK_OK(ta_direct_create(&direct_desc, &direct));
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &dynamic));
    of[0] = ta_pool_allocator(pool);
    of[1] = ta_arena_allocator(arena);
    of[2] = ta_direct_allocator(direct);
    of[3] = ta_dynamic_allocator(dynamic);
    for (i = 0; i < THREADS; i++) {
        workers[i].of = of;
        workers[i].state = (uint64_t)i + 1;
        workers[i].wrong = 0;
        started += pthread_create(&ids[i], NULL, fail_often, &workers[i]) == 0;
        CHECK_EQ(started, i + 1);
    }
    for (i = 0; i < started; i++) {
        CHECK_EQ(pthread_join(ids[i], NULL), 0);
        CHECK_EQ(workers[i].wrong, 0);
    }
    for (i = 0; i < 4; i++) {
        ta_stats stats;
        CHECK_OK(ta_allocator_get_stats(of[i], &stats));
        CHECK_EQ(stats.live_count, 0);
        CHECK_GT(stats.failure_count, 0);
        CHECK_OK(ta_allocator_destroy(of[i]));
    }
    CHECK_OK(ta_budget_destroy(budget));
}
#else
static void threads_fail_together(void) { TEST_SKIP("needs threads"); }
#endif

/* ---- figures */
/* What is free in a bounded backend is all that is not in use, asked of a pool or of a dynamic over it. */
static void free_bytes_of_bounded_backends(void)
{
    static char memory[2][4 * 1024 * 1024];
    ta_fixed_buffer state[2];
    ta_pool_desc pool_desc = zero_desc();
    ta_dynamic_desc dynamic_desc;
    ta_dynamic *dynamic = NULL;
    ta_pool *pool;
    ta_allocator of[2];
    size_t free_bytes[2];
    int i, k;
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    memset(state, 0, sizeof state);
    CHECK_OK(ta_backend_fixed(&state[0], memory[0], sizeof memory[0], &pool_desc.backend));
    CHECK_OK(ta_backend_fixed(&state[1], memory[1], sizeof memory[1], &dynamic_desc.backend));
    pool = open_pool(&pool_desc);
    CHECK_OK(ta_dynamic_create(&dynamic_desc, &dynamic));
    of[0] = ta_pool_allocator(pool);
    of[1] = ta_dynamic_allocator(dynamic);
    for (i = 0; i < 2; i++) {
        ta_request request = request_of(400000, 0, "bounded");
        void *ptrs[4];
        ta_failure failure;
        for (k = 0; k < 4; k++) {
            ptrs[k] = ta_allocator_alloc(of[i], &request, NULL);
            CHECK(ptrs[k] != NULL);
        }
        CHECK_OK(ta_allocator_free(of[i], ptrs[1], 0, 0, 0));
        request.size_bytes = 2900000;
        failure = fails_in(of[i], &request, TA_ERROR_FRAGMENTED, TA_VERDICT_FRAGMENTED, "in the way");
        free_bytes[i] = failure.free_bytes;
        CHECK_GT(failure.free_bytes, request.size_bytes);
    }
    CHECK(free_bytes[0] > free_bytes[1] ? free_bytes[0] - free_bytes[1] < 4096 : free_bytes[1] - free_bytes[0] < 4096);
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_pool_destroy(pool));
}

/* The limit was lowered below what is reserved: what has to come back is more than the request. */
static void limits_below_what_is_reserved(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_pool_desc desc = zero_desc();
    ta_pool *pool, *sibling;
    ta_request request = request_of(2 * MIB, TA_REQUEST_WITHIN_BUDGET, NULL);
    ta_failure failure;
    void *ptr;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = 32 * MIB;
    REQUIRE(ta_budget_create(&budget_desc, &budget) == TA_OK);
    desc.budget = budget;
    pool = open_pool(&desc);
    sibling = open_pool(&desc);
    (void)must(pool, 16 * MIB, NULL);
    CHECK_OK(ta_pool_free(sibling, must(sibling, 4 * MIB, NULL)));
    CHECK_OK(ta_budget_set_limit(budget, 10 * MIB));
    failure = fails_in(ta_pool_allocator(pool), &request, TA_ERROR_LIMIT, TA_VERDICT_LIMIT, "raise the limit");
    CHECK_GE(failure.sibling_cached_bytes, 4 * MIB); /* not enough */
    CHECK_GE(failure.action_bytes, 20 * MIB);
    CHECK_OK(ta_budget_set_limit(budget, 16 * MIB + 256 * KIB)); /* as much as is live, and a little: cached is enough */
    ptr = must(sibling, 3 * MIB, NULL);
    CHECK_OK(ta_pool_free(sibling, ptr));
    CHECK_OK(ta_budget_set_limit(budget, 19 * MIB));
    (void)fails_in(ta_pool_allocator(pool), &request, TA_ERROR_LIMIT, TA_VERDICT_SIBLINGS, "other allocators");
    CHECK_OK(ta_pool_empty_cache(sibling));
    CHECK(ta_pool_alloc_request(pool, &request, NULL) != NULL);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_pool_destroy(sibling));
    CHECK_OK(ta_budget_destroy(budget));
}

/* A tensor that must move needs all of its new size: what it has in its range stays there. */
static void tensors_that_must_move(void)
{
    ta_budget_desc budget_desc;
    ta_dynamic_desc desc;
    ta_budget *budget;
    ta_dynamic *dynamic = NULL;
    ta_shape_bounds bounds;
    ta_handle handle;
    ta_failure failure;
    int64_t least = 1, expected = 3 << 20, most = 4 << 20, more = 20 << 20;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&desc, 0, sizeof desc);
    budget_desc.limit_bytes = 16 * MIB;
    REQUIRE(ta_budget_create(&budget_desc, &budget) == TA_OK);
    desc.budget = budget;
    REQUIRE(ta_dynamic_create(&desc, &dynamic) == TA_OK);
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &expected, &most));
    CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle));
    CHECK_RESULT(ta_dynamic_resize(dynamic, handle, &more, 1), TA_ERROR_LIMIT);
    CHECK_OK(ta_dynamic_get_failure(dynamic, &failure));
    CHECK_EQ(failure.verdict, TA_VERDICT_LIMIT);
    CHECK_GE(failure.action_bytes, failure.budget_used_bytes + 20 * MIB);
    CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
    CHECK_OK(ta_dynamic_resize(dynamic, handle, &more, 1));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    CHECK_OK(ta_budget_destroy(budget));
}

/* A trimmed free block is handed out whole where slack allows it only if that costs nothing. */
static void slack_is_not_worth_memory(void)
{
    ta_pool_desc desc = zero_desc();
    ta_budget_desc budget_desc;
    ta_budget *budget;
    ta_pool *pool;
    ta_request request = request_of(100 * KIB, 0, NULL);
    ta_failure failure;
    ta_stats stats;
    void *first, *second;
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = 16 * MIB;
    REQUIRE(ta_budget_create(&budget_desc, &budget) == TA_OK);
    desc.budget = budget;
    desc.slack_bytes_max = 64 * KIB;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    pool = open_pool(&desc);
    first = must(pool, 160 * KIB, NULL);
    second = must(pool, 160 * KIB, NULL);
    CHECK_OK(ta_pool_free(pool, first));
    CHECK_OK(ta_pool_empty_cache(pool));
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    CHECK_OK(ta_budget_set_limit(budget, stats.reserved_bytes + 16 * KIB));
    if (stats.reserved_bytes + 16 * KIB < 320 * KIB) { /* pages are small enough, and nothing else is kept */
        failure = fails_in(ta_pool_allocator(pool), &request, TA_ERROR_LIMIT, TA_VERDICT_LIMIT, "raise the limit");
        CHECK_OK(ta_budget_set_limit(budget, failure.action_bytes));
        first = must(pool, 100 * KIB, NULL);
        CHECK(first != NULL);
        CHECK_OK(ta_pool_check(pool));
        CHECK_OK(ta_pool_free(pool, first));
    }
    CHECK_OK(ta_pool_free(pool, second));
    close_pool(pool);
    CHECK_OK(ta_budget_destroy(budget));
}

static void long_tags_are_cut_between_characters(void)
{
    ta_failure failure;
    char tag[80], text[512], want[80];
    size_t lead;
    memset(&failure, 0, sizeof failure);
    failure.result = TA_ERROR_FRAGMENTED;
    failure.verdict = TA_VERDICT_FRAGMENTED;
    failure.action = TA_ACTION_FREE_BLOCKING;
    failure.blocking_tag = tag;
    for (lead = 55; lead < 62; lead++) {
        const size_t whole = lead > 57 && lead < 60 ? lead : 60; /* 58, 59: the character does not fit */
        memset(tag, 'n', lead);
        memcpy(tag + lead, "\xe2\x82\xac" "and more", 12); /* the sign of the euro */
        want[0] = '"';
        memcpy(want + 1, tag, whole);
        want[whole + 1] = '"';
        want[whole + 2] = 0;
        CHECK_GT(ta_failure_report(&failure, text, sizeof text), 60);
        CHECK(strstr(text, want) != NULL);
    }
    memset(tag, 0x80, sizeof tag); /* no characters at all */
    tag[sizeof tag - 1] = 0;
    CHECK_GT(ta_failure_report(&failure, text, sizeof text), 56);
}

/* A sibling has too little headroom for all that is missing, and is asked first; another one gives a part. */
static void siblings_give_together(void)
{
    const double factor = 4;
    ta_budget_desc budget_desc;
    ta_dynamic_desc dynamic_desc;
    ta_pool_desc desc = zero_desc();
    ta_budget *budget;
    ta_pool *pool, *sibling;
    ta_dynamic *dynamic = NULL;
    ta_shape_bounds bounds;
    ta_handle handle;
    ta_budget_stats stats;
    int64_t least = 1, now = 2 << 20, most = 32 << 20;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    budget_desc.limit_bytes = 64 * MIB;
    REQUIRE(ta_budget_create(&budget_desc, &budget) == TA_OK);
    desc.budget = dynamic_desc.budget = budget;
    pool = open_pool(&desc);
    sibling = open_pool(&desc);
    dynamic_desc.strategy = ta_strategy_padding(&factor);
    REQUIRE(ta_dynamic_create(&dynamic_desc, &dynamic) == TA_OK);
    CHECK_OK(ta_shape_bounds_init(&bounds, TA_U8, 1, &least, &now, &most));
    CHECK_OK(ta_dynamic_alloc(dynamic, &bounds, &handle)); /* 8 MiB, of which it needs 2 */
    CHECK_OK(ta_pool_free(sibling, must(sibling, 10 * MIB, NULL)));
    CHECK_OK(ta_budget_get_stats(budget, &stats));
    CHECK_OK(ta_budget_set_limit(budget, stats.reserved_bytes));
    CHECK(must(pool, 14 * MIB, NULL) != NULL);
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_dynamic_destroy(dynamic));
    close_pool(sibling);
    close_pool(pool);
    CHECK_OK(ta_budget_destroy(budget));
}

TEST_MAIN(TEST_CASE(limits_of_arenas_and_direct_allocators), TEST_CASE(other_reasons_of_arenas_and_direct_allocators),
          TEST_CASE(freed_blocks_inside_of_arenas), TEST_CASE(what_backends_refuse), TEST_CASE(tables_without_reasons),
          TEST_CASE(warm_ranges_within_the_budget), TEST_CASE(a_dynamic_and_its_own_pool),
          TEST_CASE(threads_cache_of_a_dynamic), TEST_CASE_THREADS(threads_fail_together), TEST_CASE(free_bytes_of_bounded_backends),
          TEST_CASE(limits_below_what_is_reserved), TEST_CASE(nothing_failed), TEST_CASE(words_for_everything),
          TEST_CASE(requests_that_forbid_it), TEST_CASE(memory_that_waits_for_streams),
          TEST_CASE(pages_of_its_own), TEST_CASE(memory_that_siblings_cache), TEST_CASE(memory_that_threads_cache),
          TEST_CASE(memory_in_pieces), TEST_CASE(pieces_of_segments_under_a_limit), TEST_CASE(the_limit_that_would_do),
          TEST_CASE(memory_that_others_have), TEST_CASE(bounded_backends_that_are_full),
          TEST_CASE(tensors_with_bounds), TEST_CASE(callbacks_are_told),
          TEST_CASE(tensors_that_must_move), TEST_CASE(slack_is_not_worth_memory),
          TEST_CASE(long_tags_are_cut_between_characters), TEST_CASE(siblings_give_together))
