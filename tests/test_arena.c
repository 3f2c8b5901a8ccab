/* test_arena.c - [TA:ARENA]: bump allocation, marks, resets, chunks, arenas in arenas. */
#include "implementation.h"
#include "backends.h"

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)
#if defined(__wasi__)
    #define HAS_CLOCK 0
#else
    #define HAS_CLOCK 1
#endif

/* What events tell, added up; and the blocks that they leave live. */
typedef struct tally {
    uint64_t of[TA_EVENT_MISUSE + 1];
    uint64_t hits, grown, trimmed;
    struct {
        void *ptr;
        size_t size, capacity;
    } live[1024];
    size_t live_count;
    int wrong;        /* a block that is told of and is not there, or is there twice */
    ta_event last;
    ta_allocator a;   /* where the callback allocates, once, when kind comes next */
    ta_event_kind kind;
    void *got;
} tally;

static void tally_event(void *user, const ta_event *event)
{
    tally *t = (tally *)user;
    size_t i = 0;
    t->of[event->kind]++;
    t->last = *event;
    t->wrong += event->name == NULL || (event->time_ns == 0 && HAS_CLOCK);
    t->hits += event->kind == TA_EVENT_ALLOC && event->hit != 0;
    t->grown += event->kind == TA_EVENT_GROW ? event->size_bytes : 0;
    t->trimmed += event->kind == TA_EVENT_TRIM ? event->size_bytes : 0;
    while (i < t->live_count && t->live[i].ptr != event->ptr) {
        i++;
    }
    if (event->kind == TA_EVENT_ALLOC) {
        t->wrong += i != t->live_count || i == 1024;
        if (i == t->live_count && i < 1024) {
            t->live[t->live_count++].ptr = event->ptr;
        }
    } else if (event->kind == TA_EVENT_FREE || event->kind == TA_EVENT_RESIZE) {
        t->wrong += i == t->live_count;
    }
    if (i < t->live_count && event->kind == TA_EVENT_FREE) {
        t->wrong += t->live[i].size != event->size_bytes || t->live[i].capacity != event->capacity_bytes;
        t->live[i] = t->live[--t->live_count];
    } else if (i < t->live_count) {
        t->live[i].size = event->size_bytes;
        t->live[i].capacity = event->capacity_bytes;
    }
    if (t->a.vtable != NULL && event->kind == t->kind) {
        ta_request request;
        ta_allocator a = t->a;
        memset(&t->a, 0, sizeof t->a);
        memset(&request, 0, sizeof request);
        request.size_bytes = 3000;
        t->got = ta_allocator_alloc(a, &request, NULL);
    }
}

/* The events say what the statistics say. */
static void tally_check(const tally *t, const ta_stats *s)
{
    size_t i, requested = 0, capacity = 0;
    for (i = 0; i < t->live_count; i++) {
        requested += t->live[i].size;
        capacity += t->live[i].capacity;
    }
    CHECK_EQ(t->wrong, 0);
    CHECK_EQ(t->live_count, s->live_count);
    CHECK_EQ(requested, s->requested_bytes);
    CHECK_EQ(capacity, s->in_use_bytes);
    CHECK_EQ(t->grown - t->trimmed, s->reserved_bytes);
    CHECK_EQ(t->of[TA_EVENT_ALLOC], s->allocation_count);
    CHECK_EQ(t->of[TA_EVENT_FREE], s->deallocation_count);
    CHECK_EQ(t->of[TA_EVENT_RESIZE], s->resize_count);
    CHECK_EQ(t->of[TA_EVENT_FAILURE], s->failure_count);
    CHECK_EQ(t->of[TA_EVENT_LIMIT], s->failure_limit_count);
    CHECK_EQ(t->hits, s->hit_count);
}

/* An arena over a watched host backend. */
typedef struct fixture {
    tb_counting counting;
    tally events; /* where the desc asks for them */
    ta_arena *arena;
    ta_allocator a;
} fixture;

enum { RANGES, SEGMENTS, SHORT_RANGES, MEMORY_COUNT };
static const char *const memory_names[] = {"ranges", "segments", "short ranges"};

/* memory: RANGES or SEGMENTS, or address ranges so short that they chain. desc may be NULL. */
static void open_arena(fixture *f, int memory, const ta_arena_desc *given)
{
    ta_arena_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(f, 0, sizeof *f);
    if (given != NULL) {
        desc = *given;
    }
    desc.backend = tb_counting_init(&f->counting, ta_backend_host(), memory == SEGMENTS ? TA_CAP_RANGES : 0);
    desc.range_bytes = memory == SHORT_RANGES ? 2 * MIB : desc.range_bytes;
    desc.on_event_user = &f->events;
    CHECK_OK(ta_arena_create(&desc, &f->arena));
    f->a = ta_arena_allocator(f->arena);
}

static void close_arena(fixture *f)
{
    CHECK_OK(ta_arena_destroy(f->arena));
    tb_counting_check(&f->counting, 1);
    tb_counting_end(&f->counting);
}

static ta_stats stats_of(fixture *f)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_allocator_get_stats(f->a, &s));
    CHECK_EQ(s.reserved_bytes, s.in_use_bytes + s.cached_bytes);
    CHECK_EQ(s.wasted_bytes, s.in_use_bytes - s.requested_bytes);
    CHECK_EQ(s.reserved_bytes, tb_counting_held(&f->counting));
    return s;
}

static unsigned char *must_alloc(fixture *f, size_t size)
{
    ta_result result = TA_ERROR_CORRUPT;
    unsigned char *ptr = (unsigned char *)ta_arena_alloc(f->arena, size, &result);
    CHECK_OK(result);
    CHECK(ptr != NULL);
    return ptr;
}

static ta_result free_ptr(fixture *f, void *ptr)
{
    return ta_allocator_free(f->a, ptr, 0, 0, 0);
}

static int is_filled(const void *ptr, int value, size_t size)
{
    const unsigned char *at = (const unsigned char *)ptr;
    return size == 0 || (at[0] == (unsigned char)value && memcmp(at, at + 1, size - 1) == 0);
}

static uint64_t backend_calls(const fixture *f)
{
    return f->counting.calls[TB_ALLOC] + f->counting.calls[TB_COMMIT] + f->counting.calls[TB_RESERVE];
}

static int has_ranges(const fixture *f)
{
    return (f->counting.given.caps & TA_CAP_RANGES) != 0;
}

/*---------------------------------------------------------------------------------------------------------
  Allocation.
  -------------------------------------------------------------------------------------------------------*/
static void blocks_lie_one_behind_the_other(void)
{
    static const size_t sizes[] = {1, 64, 65, 1000, 100000, 3, 5000000};
    fixture f;
    unsigned char *last = NULL;
    size_t last_capacity = 0, i;
    open_arena(&f, RANGES, NULL);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *ptr = must_alloc(&f, sizes[i]);
        ta_block_info info;
        CHECK_EQ((uintptr_t)ptr % 64, 0);
        CHECK_OK(ta_allocator_describe(f.a, ptr, &info));
        CHECK_EQ(info.requested_bytes, sizes[i]);
        CHECK_GE(info.capacity_bytes, sizes[i]);
        CHECK_LT(info.capacity_bytes, sizes[i] + 64);
        CHECK_EQ(info.committed_bytes, info.capacity_bytes);
        if (last != NULL && has_ranges(&f)) {
            CHECK(ptr == last + last_capacity);
        }
        last = ptr;
        last_capacity = info.capacity_bytes;
        memset(ptr, 1, sizes[i]);
    }
    CHECK_EQ(stats_of(&f).live_count, sizeof sizes / sizeof sizes[0]);
    close_arena(&f);
}

static void pointers_never_move(void)
{
    static unsigned char *ptrs[400];
    int memory, i;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        for (i = 0; i < 400; i++) {
            ptrs[i] = must_alloc(&f, 20000 + (size_t)i * 100);
            memset(ptrs[i], i & 255, 20000 + (size_t)i * 100);
        }
        for (i = 0; i < 400; i++) {
            CHECK(is_filled(ptrs[i], i & 255, 20000 + (size_t)i * 100));
        }
        CHECK_EQ(stats_of(&f).live_count, 400);
        CHECK_LE(stats_of(&f).reserved_bytes, 2 * stats_of(&f).in_use_bytes + MIB);
        close_arena(&f);
    }
}

static void bad_requests_are_errors(void)
{
    static const size_t top = (size_t)-1;
    fixture f;
    ta_result result = TA_OK;
    float *x;
    TEST_ALLOW_ASSERTS();
    open_arena(&f, RANGES, NULL);
#define FAILS(call, want) \
    do { \
        result = TA_OK; \
        CHECK((call) == NULL); \
        CHECK_RESULT(result, want); \
    } while (0)
    FAILS(ta_arena_alloc(f.arena, 0, &result), TA_ERROR_INVALID_SIZE);
    FAILS(ta_arena_alloc(NULL, 10, &result), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_arena_alloc_aligned(f.arena, 10, 3, &result), TA_ERROR_INVALID_ALIGNMENT);
    FAILS(ta_arena_alloc_aligned(f.arena, 10, (size_t)1 << 31, &result), TA_ERROR_INVALID_ALIGNMENT);
    FAILS(ta_arena_alloc_aligned(NULL, 10, 64, &result), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_arena_alloc(f.arena, top, &result), TA_ERROR_OVERFLOW);
    FAILS(ta_arena_alloc_array(f.arena, top / 2, 3, &result), TA_ERROR_OVERFLOW);
    FAILS(ta_arena_alloc_array(f.arena, 3, top / 2, &result), TA_ERROR_OVERFLOW);
    FAILS(ta_arena_alloc_array(f.arena, 0, 4, &result), TA_ERROR_INVALID_SIZE);
    FAILS(ta_arena_alloc_array(NULL, 1, 4, &result), TA_ERROR_INVALID_ARGUMENT);
#undef FAILS
    CHECK_RESULT(ta_arena_reset(NULL, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_arena_rewind(NULL, ta_arena_get_mark(f.arena)), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(ta_arena_get_mark(NULL).owner, 0);
    CHECK_EQ(stats_of(&f).allocation_count, 0);
    x = TA_ARENA_NEW(f.arena, float, 100);
    CHECK(x != NULL);
    x[99] = 1.0f;
    CHECK_EQ(stats_of(&f).requested_bytes, 400);
    close_arena(&f);
}

static void aligned_blocks(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        size_t alignment;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        for (alignment = 1; alignment <= MIB; alignment *= 2) {
            ta_result result = TA_OK;
            unsigned char *ptr = (unsigned char *)ta_arena_alloc_aligned(f.arena, 100, alignment, &result);
            CHECK_OK(result);
            CHECK(ptr != NULL && (uintptr_t)ptr % alignment == 0);
            memset(ptr, 1, 100);
            (void)must_alloc(&f, 1);
        }
        (void)stats_of(&f);
        close_arena(&f);
    }
}

static void zeroed_arenas_and_requests(void)
{
    int memory, option;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        for (option = 0; option < 2; option++) {
            ta_arena_desc desc;
            fixture f;
            int round;
            test_context("%s, %s", memory_names[memory], option ? "desc" : "request");
            memset(&desc, 0, sizeof desc);
            desc.zeroed = option;
            open_arena(&f, memory, &desc);
            for (round = 0; round < 3; round++) { /* the second and third time the memory is dirty */
                size_t size;
                for (size = 100; size < 2000000; size *= 5) {
                    ta_request request;
                    unsigned char *ptr;
                    memset(&request, 0, sizeof request);
                    request.size_bytes = size;
                    request.flags = option ? 0 : TA_REQUEST_ZEROED;
                    ptr = (unsigned char *)ta_allocator_alloc(f.a, &request, NULL);
                    CHECK(ptr != NULL && is_filled(ptr, 0, size));
                    memset(ptr, 0xff, size);
                }
                CHECK_OK(ta_arena_reset(f.arena, round == 0 ? TA_UNLIMITED : 500000));
            }
            close_arena(&f);
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  Free and resize.
  -------------------------------------------------------------------------------------------------------*/
static void free_gives_bytes_back_from_the_end(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        unsigned char *a, *b, *c;
        ta_stats s;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        a = must_alloc(&f, 1000);
        b = must_alloc(&f, 1000);
        c = must_alloc(&f, 1000);
        CHECK_OK(free_ptr(&f, c));
        CHECK(must_alloc(&f, 1000) == c); /* the last one: its place is free again */
        CHECK_OK(free_ptr(&f, b)); /* in the middle: bookkeeping */
        s = stats_of(&f);
        CHECK_EQ(s.live_count, 2);
        CHECK_EQ(s.requested_bytes, 2000);
        CHECK_RESULT(free_ptr(&f, b), TA_ERROR_STALE);
        CHECK(must_alloc(&f, 1000) > c);
        CHECK_OK(free_ptr(&f, c + (c - b)));
        CHECK_OK(free_ptr(&f, c)); /* with it goes the dead one before it */
        CHECK(must_alloc(&f, 1000) == b);
        CHECK_OK(free_ptr(&f, a));
        CHECK_OK(free_ptr(&f, b));
        s = stats_of(&f);
        CHECK_EQ(s.live_count, 0);
        CHECK_EQ(s.in_use_bytes, 0);
        CHECK_EQ(s.requested_bytes, 0);
        CHECK(must_alloc(&f, 1000) == a); /* from the start */
        close_arena(&f);
    }
}

static void last_block_resizes_in_place(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        unsigned char *a, *b;
        ta_stats s;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        a = must_alloc(&f, 1000);
        b = must_alloc(&f, 1000);
        memset(a, 1, 1000);
        memset(b, 2, 1000);
        CHECK_OK(ta_allocator_resize_in_place(f.a, b, 1000, 100000));
        CHECK(is_filled(b, 2, 1000));
        memset(b, 2, 100000);
        CHECK_EQ(stats_of(&f).requested_bytes, 101000);
        if (memory == RANGES && has_ranges(&f)) { /* as long as the range goes */
            CHECK_OK(ta_allocator_resize_in_place(f.a, b, 100000, 20 * MIB));
            CHECK(is_filled(b, 2, 100000));
            b[20 * MIB - 1] = 2;
            CHECK_OK(ta_allocator_resize_in_place(f.a, b, 20 * MIB, 100000));
        }
        CHECK_RESULT(ta_allocator_resize_in_place(f.a, a, 1000, 2000), TA_ERROR_WOULD_MOVE); /* not the last */
        CHECK_OK(ta_allocator_resize_in_place(f.a, a, 1000, 10));
        CHECK_EQ(stats_of(&f).requested_bytes, 100010);
        CHECK_OK(ta_allocator_resize_in_place(f.a, b, 100000, 64)); /* shrinking gives the end back */
        CHECK(must_alloc(&f, 1000) == b + 64);
        CHECK_RESULT(ta_allocator_resize_in_place(f.a, b, 64, 65), TA_ERROR_WOULD_MOVE);
        CHECK_RESULT(ta_allocator_resize_in_place(f.a, b, 63, 10), TA_ERROR_SIZE_MISMATCH);
        CHECK(is_filled(a, 1, 10) && is_filled(b, 2, 64));
        s = stats_of(&f);
        CHECK_EQ(s.live_count, 3);
        CHECK_EQ(s.requested_bytes, 10 + 64 + 1000);
        CHECK_GE(s.resize_count, 3);
        close_arena(&f);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Marks and resets.
  -------------------------------------------------------------------------------------------------------*/
static void rewind_frees_what_came_after(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        unsigned char *before, *ptrs[50];
        ta_arena_mark mark;
        uint64_t calls = 0;
        int round, i;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        before = must_alloc(&f, 500);
        memset(before, 9, 500);
        mark = ta_arena_get_mark(f.arena);
        for (round = 0; round < 4; round++) {
            for (i = 0; i < 50; i++) {
                unsigned char *ptr = must_alloc(&f, (size_t)(i + 1) * 2000);
                if (round > 0) {
                    CHECK(ptr == ptrs[i]); /* a repeated step comes back to the same addresses */
                }
                ptrs[i] = ptr;
                memset(ptr, i, (size_t)(i + 1) * 2000);
            }
            if (round == 1) {
                calls = backend_calls(&f);
            }
            CHECK_EQ(stats_of(&f).live_count, 51);
            CHECK_OK(ta_arena_rewind(f.arena, mark));
            CHECK_EQ(stats_of(&f).live_count, 1);
            CHECK_EQ(stats_of(&f).requested_bytes, 500);
            CHECK(is_filled(before, 9, 500));
            CHECK(free_ptr(&f, ptrs[0]) != TA_OK);
        }
        CHECK_EQ(backend_calls(&f), calls); /* and takes nothing more */
        CHECK_OK(ta_arena_rewind(f.arena, mark)); /* nothing to do */
        CHECK_EQ(stats_of(&f).deallocation_count, 200);
        close_arena(&f);
    }
}

static void marks_nest(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        ta_arena_mark marks[20], start;
        int i;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        start = ta_arena_get_mark(f.arena); /* of an empty arena */
        for (i = 0; i < 20; i++) {
            marks[i] = ta_arena_get_mark(f.arena);
            (void)must_alloc(&f, 300000);
        }
        for (i = 19; i >= 10; i--) {
            CHECK_OK(ta_arena_rewind(f.arena, marks[i]));
            CHECK_EQ(stats_of(&f).live_count, (size_t)i);
        }
        CHECK_OK(ta_arena_rewind(f.arena, marks[3])); /* past some of them */
        CHECK_EQ(stats_of(&f).live_count, 3);
        for (i = 4; i < 20; i++) {
            CHECK_RESULT(ta_arena_rewind(f.arena, marks[i]), TA_ERROR_STALE);
        }
        CHECK_EQ(stats_of(&f).live_count, 3);
        for (i = 0; i < 10; i++) { /* as many blocks as before: still not the same places */
            (void)must_alloc(&f, 1000);
        }
        for (i = 4; i < 20; i++) {
            CHECK_RESULT(ta_arena_rewind(f.arena, marks[i]), TA_ERROR_STALE);
        }
        CHECK_EQ(stats_of(&f).live_count, 13);
        CHECK_OK(ta_arena_rewind(f.arena, marks[1]));
        CHECK_OK(ta_arena_rewind(f.arena, start));
        CHECK_EQ(stats_of(&f).live_count, 0);
        CHECK_EQ(stats_of(&f).in_use_bytes, 0);
        close_arena(&f);
    }
}

static void stale_and_foreign_marks(void)
{
    fixture f, other;
    ta_arena_mark zero, mark, early;
    open_arena(&f, RANGES, NULL);
    open_arena(&other, RANGES, NULL);
    memset(&zero, 0, sizeof zero);
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_arena_rewind(f.arena, zero), TA_ERROR_FOREIGN);
    CHECK_RESULT(ta_arena_rewind(f.arena, ta_arena_get_mark(other.arena)), TA_ERROR_FOREIGN);
    early = ta_arena_get_mark(f.arena);
    (void)must_alloc(&f, 100);
    mark = ta_arena_get_mark(f.arena);
    CHECK_OK(ta_arena_reset(f.arena, TA_UNLIMITED));
    CHECK_RESULT(ta_arena_rewind(f.arena, mark), TA_ERROR_STALE);
    CHECK_RESULT(ta_arena_rewind(f.arena, early), TA_ERROR_STALE); /* a reset voids them all */
    (void)must_alloc(&f, 100);
    (void)must_alloc(&f, 100);
    CHECK_RESULT(ta_arena_rewind(f.arena, mark), TA_ERROR_STALE);
    CHECK_RESULT(ta_arena_rewind(f.arena, early), TA_ERROR_STALE);
    CHECK_EQ(stats_of(&f).live_count, 2);
    CHECK_OK(ta_allocator_dispose(f.a));
    CHECK_RESULT(ta_arena_rewind(f.arena, mark), TA_ERROR_DISPOSED);
    CHECK_RESULT(ta_arena_reset(f.arena, 0), TA_ERROR_DISPOSED);
    CHECK_EQ(ta_arena_get_mark(f.arena).owner, 0);
    close_arena(&f);
    close_arena(&other);
}

/* What is freed below a mark must not let later blocks slip under it. */
static void free_below_a_mark(void)
{
    fixture f;
    unsigned char *a, *b, *c;
    ta_arena_mark mark;
    open_arena(&f, RANGES, NULL);
    a = must_alloc(&f, 1000);
    b = must_alloc(&f, 1000);
    mark = ta_arena_get_mark(f.arena);
    CHECK_OK(free_ptr(&f, b)); /* it was the last one */
    c = must_alloc(&f, 5000);
    memset(c, 3, 5000);
    CHECK_EQ(stats_of(&f).live_count, 2);
    CHECK_OK(ta_arena_rewind(f.arena, mark)); /* c came after the mark, wherever it lies */
    CHECK_EQ(stats_of(&f).live_count, 1);
    CHECK(free_ptr(&f, c) != TA_OK);
    CHECK_OK(free_ptr(&f, a));
    CHECK_EQ(stats_of(&f).in_use_bytes, 0);
    mark = ta_arena_get_mark(f.arena);
    (void)must_alloc(&f, 100);
    CHECK_OK(ta_arena_rewind(f.arena, mark));
    CHECK_EQ(stats_of(&f).live_count, 0);
    close_arena(&f);
}

static void resets(void)
{
    static const size_t retain[] = {TA_UNLIMITED, 3 * MIB, 100000, 1, 0};
    int memory;
    size_t r;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        for (r = 0; r < sizeof retain / sizeof retain[0]; r++) {
            fixture f;
            ta_stats before, after;
            unsigned char *first, *again;
            uint64_t calls;
            int i;
            test_context("%s, retain %llu", memory_names[memory], (unsigned long long)retain[r]);
            open_arena(&f, memory, NULL);
            CHECK_OK(ta_arena_reset(f.arena, retain[r])); /* of nothing */
            first = must_alloc(&f, 700000);
            for (i = 0; i < 9; i++) {
                memset(must_alloc(&f, 700000), i, 700000);
            }
            CHECK_OK(free_ptr(&f, first));
            before = stats_of(&f);
            CHECK_OK(ta_arena_reset(f.arena, retain[r]));
            after = stats_of(&f);
            CHECK_EQ(after.live_count, 0);
            CHECK_EQ(after.in_use_bytes, 0);
            CHECK_EQ(after.freed_bytes, after.allocated_bytes);
            CHECK_LE(after.cached_bytes, retain[r]);
            if (retain[r] == TA_UNLIMITED) {
                CHECK_EQ(after.cached_bytes, before.reserved_bytes);
            } else if (memory == RANGES && has_ranges(&f)) { /* and as much of it as there are whole pages */
                CHECK_GT(after.cached_bytes + f.counting.given.granularity_bytes, retain[r]);
            }
            CHECK_EQ(after.reserved_bytes, before.reserved_bytes - (after.trimmed_bytes - before.trimmed_bytes));
            calls = backend_calls(&f);
            again = must_alloc(&f, 700000);
            memset(again, 1, 700000);
            if (retain[r] >= 3 * MIB) {
                CHECK_EQ(backend_calls(&f), calls);
                CHECK_EQ(stats_of(&f).hit_count, after.hit_count + 1);
            }
            close_arena(&f);
        }
    }
}

/* Memory that a small first chunk or range holds must go back as well, though a later one was the last in use. */
static void empty_cache_reaches_every_chunk(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        fixture f;
        unsigned char *large;
        test_context("%s", memory_names[memory]);
        open_arena(&f, memory, NULL);
        (void)must_alloc(&f, 100);
        CHECK_OK(ta_arena_reset(f.arena, TA_UNLIMITED));
        large = must_alloc(&f, 10 * MIB); /* does not fit into the first chunk, which stays empty */
        CHECK_OK(free_ptr(&f, large));
        CHECK_OK(ta_allocator_empty_cache(f.a));
        CHECK_EQ(stats_of(&f).reserved_bytes, 0);
        (void)must_alloc(&f, 1 * MIB);
        (void)must_alloc(&f, 5 * MIB);
        (void)must_alloc(&f, 1 * MIB);
        CHECK_OK(ta_arena_reset(f.arena, 0));
        CHECK_EQ(stats_of(&f).reserved_bytes, 0);
        (void)must_alloc(&f, 100);
        (void)stats_of(&f);
        close_arena(&f);
    }
}

static void many_small_blocks(void)
{
    fixture f;
    ta_arena_mark mark;
    int i;
    open_arena(&f, RANGES, NULL);
    mark = ta_arena_get_mark(f.arena);
    for (i = 0; i < 100000; i++) {
        CHECK(ta_arena_alloc(f.arena, 64, NULL) != NULL);
    }
    CHECK_EQ(stats_of(&f).live_count, 100000);
    CHECK_EQ(stats_of(&f).in_use_bytes, 6400000);
    CHECK_OK(ta_arena_rewind(f.arena, mark));
    CHECK_EQ(stats_of(&f).live_count, 0);
    close_arena(&f);
}

/*---------------------------------------------------------------------------------------------------------
  Where the memory comes from.
  -------------------------------------------------------------------------------------------------------*/
static void chunks_grow_and_large_blocks_get_their_own(void)
{
    ta_arena_desc desc;
    fixture f;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.chunk_bytes = 64 * KIB;
    open_arena(&f, SEGMENTS, &desc);
    (void)must_alloc(&f, 100);
    CHECK_EQ(stats_of(&f).reserved_bytes, 64 * KIB);
    for (i = 0; i < 1000; i++) {
        (void)must_alloc(&f, 10000);
    }
    CHECK_LE(f.counting.calls[TB_ALLOC], 10); /* they double */
    (void)must_alloc(&f, 100 * MIB); /* untouched */
    CHECK_GE(stats_of(&f).reserved_bytes, 110 * MIB);
    i = (int)f.counting.calls[TB_FREE];
    CHECK_EQ(i, 0);
    CHECK_OK(ta_arena_destroy(f.arena)); /* all in one call */
    f.arena = NULL;
    close_arena(&f);
}

static void limits(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        ta_arena_desc desc;
        fixture f;
        ta_arena_mark mark;
        ta_result result = TA_OK;
        int count = 0;
        test_context("%s", memory_names[memory]);
        memset(&desc, 0, sizeof desc);
        desc.limit_bytes = 5 * MIB;
        open_arena(&f, memory, &desc);
        mark = ta_arena_get_mark(f.arena);
        while (ta_arena_alloc(f.arena, 200000, &result) != NULL) {
            count++;
            CHECK_LE(stats_of(&f).reserved_bytes, 5 * MIB);
        }
        CHECK_RESULT(result, TA_ERROR_LIMIT);
        CHECK_GE(count, 15);
        CHECK_EQ(stats_of(&f).failure_limit_count, 1);
        CHECK_OK(ta_arena_rewind(f.arena, mark));
        while (count-- > 0) {
            (void)must_alloc(&f, 200000); /* as many as before */
        }
        CHECK_LE(stats_of(&f).peak_reserved_bytes, 5 * MIB);
        close_arena(&f);
    }
}

static void no_range_to_be_had(void)
{
    fixture f;
    open_arena(&f, RANGES, NULL);
    tb_counting_fail(&f.counting, TB_RESERVE, 1, 1);
    memset(must_alloc(&f, 3000000), 1, 3000000); /* segments will do */
    CHECK_EQ(f.counting.ranges.count, 0);
    CHECK_GT(f.counting.segments.count, 0);
    close_arena(&f);
}

static void fixed_buffer(void)
{
    static unsigned char memory[100000];
    ta_fixed_buffer state;
    ta_arena_desc desc;
    ta_arena *arena = NULL;
    ta_result result = TA_OK;
    size_t sum = 0;
    unsigned char *ptr;
    memset(&desc, 0, sizeof desc);
    memset(memory, 0xa5, sizeof memory);
    CHECK_OK(ta_backend_fixed(&state, memory + 64, sizeof memory - 128, &desc.backend));
    CHECK_OK(ta_arena_create(&desc, &arena));
    while ((ptr = (unsigned char *)ta_arena_alloc(arena, 640, &result)) != NULL) {
        CHECK(ptr >= memory + 64 && ptr + 640 <= memory + sizeof memory - 64);
        sum += 640;
    }
    CHECK_RESULT(result, TA_ERROR_OUT_OF_MEMORY);
    CHECK_GE(sum, sizeof memory - 128 - 64 - 640);
    CHECK(is_filled(memory, 0xa5, sizeof memory)); /* nobody but the user writes there */
    CHECK_OK(ta_arena_reset(arena, TA_UNLIMITED));
    CHECK(ta_arena_alloc(arena, 99000, &result) != NULL);
    CHECK_OK(ta_arena_destroy(arena));
}

/* Arenas as the specification uses them: one per evaluation, over the program's allocator, and one in another. */
static void arena_over_a_pool(void)
{
    ta_pool *pool = NULL;
    ta_upstream upstream;
    ta_arena_desc desc;
    ta_stats s;
    int step;
    CHECK_OK(ta_pool_create(NULL, &pool));
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_backend_upstream(&upstream, ta_pool_allocator(pool), 0, &desc.backend));
    for (step = 0; step < 5; step++) {
        ta_arena *arena = NULL;
        float *a, *b, *c;
        CHECK_OK(ta_arena_create(&desc, &arena));
        a = TA_ARENA_NEW(arena, float, 1000);
        b = TA_ARENA_NEW(arena, float, 2000);
        c = TA_ARENA_NEW(arena, float, 3000);
        CHECK(a != NULL && b != NULL && c != NULL);
        a[999] = b[1999] = c[2999] = 1.0f;
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.live_count, 1); /* one chunk for all three */
        CHECK_OK(ta_arena_destroy(arena));
        CHECK_OK(ta_pool_get_stats(pool, &s));
        CHECK_EQ(s.live_count, 0);
    }
    CHECK_EQ(s.miss_count, 1); /* the pool keeps the chunk from step to step */
    CHECK_OK(ta_pool_destroy(pool));
}

static void arenas_in_arenas(void)
{
    fixture f;
    ta_upstream upstream[3];
    ta_arena *inner[3];
    ta_arena_mark mark;
    ta_stats s;
    unsigned char *ptr, *outer_ptr;
    int depth;
    open_arena(&f, RANGES, NULL);
    outer_ptr = must_alloc(&f, 1000);
    memset(outer_ptr, 5, 1000);
    mark = ta_arena_get_mark(f.arena);
    for (depth = 0; depth < 3; depth++) {
        ta_arena_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.chunk_bytes = (size_t)(256 >> (2 * depth)) * KIB;
        CHECK_OK(ta_backend_upstream(&upstream[depth], depth == 0 ? f.a : ta_arena_allocator(inner[depth - 1]), 4096,
                                     &desc.backend));
        CHECK_OK(ta_arena_create(&desc, &inner[depth]));
        ptr = (unsigned char *)ta_arena_alloc(inner[depth], 2000, NULL);
        CHECK(ptr != NULL);
        memset(ptr, depth, 2000);
    }
    CHECK_OK(ta_allocator_get_stats(ta_arena_allocator(inner[0]), &s));
    CHECK_EQ(s.live_count, 2); /* its own block, and a chunk of the next one */
    CHECK_EQ(stats_of(&f).live_count, 2);
    for (depth = 2; depth >= 0; depth--) { /* innermost first */
        CHECK_OK(ta_arena_destroy(inner[depth]));
    }
    CHECK_EQ(stats_of(&f).live_count, 1);
    CHECK_OK(ta_arena_rewind(f.arena, mark));
    CHECK(is_filled(outer_ptr, 5, 1000));
    close_arena(&f);
}

static void shared_budget_takes_what_an_arena_retains(void)
{
    ta_budget_desc budget_desc;
    ta_budget *budget = NULL;
    ta_arena_desc desc;
    ta_arena *a = NULL, *b = NULL;
    ta_result result = TA_OK;
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&desc, 0, sizeof desc);
    budget_desc.limit_bytes = 4 * MIB;
    CHECK_OK(ta_budget_create(&budget_desc, &budget));
    desc.budget = budget;
    CHECK_OK(ta_arena_create(&desc, &a));
    CHECK_OK(ta_arena_create(&desc, &b));
    CHECK(ta_arena_alloc(a, 3 * MIB, &result) != NULL);
    CHECK(ta_arena_alloc(b, 3 * MIB, &result) == NULL); /* live there */
    CHECK_RESULT(result, TA_ERROR_LIMIT);
    CHECK_OK(ta_arena_reset(a, TA_UNLIMITED));
    CHECK(ta_arena_alloc(b, 3 * MIB, &result) != NULL); /* retained there: it is given */
    CHECK_OK(result);
    CHECK_OK(ta_arena_destroy(a));
    CHECK_OK(ta_arena_destroy(b));
    CHECK_OK(ta_budget_destroy(budget));
}

/*---------------------------------------------------------------------------------------------------------
  Random programs against a list of what is live.
  -------------------------------------------------------------------------------------------------------*/
#define PROGRAM_COUNT 150
#define LIVE_MAX 200
#define MARK_MAX 20

typedef struct live_block {
    unsigned char *ptr;
    size_t size;
    unsigned char fill;
    int freed;
} live_block;

typedef struct program {
    fixture f;
    uint64_t random;
    live_block blocks[LIVE_MAX]; /* in the order of allocation */
    size_t count;
    struct {
        ta_arena_mark mark;
        size_t count;
    } marks[MARK_MAX]; /* those that are valid, outermost first */
    size_t mark_count;
    unsigned char next_fill;
    int with_events;
} program;

static void program_check(program *p)
{
    ta_stats s = stats_of(&p->f);
    size_t i, live = 0, requested = 0;
    for (i = 0; i < p->count; i++) {
        if (!p->blocks[i].freed) {
            live++;
            requested += p->blocks[i].size;
            CHECK(is_filled(p->blocks[i].ptr, p->blocks[i].fill, p->blocks[i].size));
        }
    }
    CHECK_EQ(s.live_count, live);
    CHECK_EQ(s.requested_bytes, requested);
    CHECK_EQ(s.allocation_count - s.deallocation_count, live);
    CHECK_EQ(s.hit_count + s.miss_count, s.allocation_count);
    if (p->with_events) {
        tally_check(&p->f.events, &s);
    }
}

static void program_alloc(program *p)
{
    live_block *block = &p->blocks[p->count];
    ta_request request;
    if (p->count == LIVE_MAX) {
        return;
    }
    memset(&request, 0, sizeof request);
    request.size_bytes = (size_t)1 + test_below(&p->random, 1u << (4 + test_below(&p->random, 14)));
    request.alignment_bytes = test_below(&p->random, 4) == 0 ? (size_t)1 << test_below(&p->random, 15) : 0;
    request.flags = test_below(&p->random, 8) == 0 ? TA_REQUEST_ZEROED : 0;
    block->ptr = (unsigned char *)ta_allocator_alloc(p->f.a, &request, NULL);
    REQUIRE(block->ptr != NULL);
    CHECK(request.alignment_bytes == 0 || (uintptr_t)block->ptr % request.alignment_bytes == 0);
    CHECK(request.flags == 0 || is_filled(block->ptr, 0, request.size_bytes));
    block->size = request.size_bytes;
    block->fill = ++p->next_fill;
    block->freed = 0;
    memset(block->ptr, block->fill, block->size);
    p->count++;
}

static void program_free(program *p)
{
    live_block *block;
    if (p->count == 0) {
        return;
    }
    block = &p->blocks[test_below(&p->random, 3) == 0 ? test_below(&p->random, (uint32_t)p->count) : p->count - 1];
    if (block->freed) {
        CHECK(free_ptr(&p->f, block->ptr) != TA_OK);
    } else {
        CHECK_OK(ta_allocator_free(p->f.a, block->ptr, block->size, 0, 0));
        block->freed = 1;
    }
    /* Trailing dead blocks are forgotten, down to the last mark: their addresses may be given out again. */
    while (p->count > (p->mark_count == 0 ? 0 : p->marks[p->mark_count - 1].count) && p->blocks[p->count - 1].freed) {
        p->count--;
    }
}

static void program_resize(program *p)
{
    live_block *block;
    size_t size = (size_t)1 + test_below(&p->random, 300000), old;
    ta_result result;
    if (p->count == 0 || p->blocks[p->count - 1].freed) {
        return;
    }
    block = &p->blocks[p->count - 1];
    old = block->size;
    result = ta_allocator_resize_in_place(p->f.a, block->ptr, old, size);
    CHECK(result == TA_OK || (result == TA_ERROR_WOULD_MOVE && size > old));
    if (result == TA_OK) {
        CHECK(is_filled(block->ptr, block->fill, old < size ? old : size));
        block->size = size;
        memset(block->ptr, block->fill, size);
    }
}

static void program_mark(program *p)
{
    if (p->mark_count < MARK_MAX) {
        p->marks[p->mark_count].mark = ta_arena_get_mark(p->f.arena);
        p->marks[p->mark_count++].count = p->count;
    }
}

static void program_rewind(program *p)
{
    if (p->mark_count > 0) {
        size_t m = test_below(&p->random, (uint32_t)p->mark_count);
        m = test_below(&p->random, 2) == 0 ? p->mark_count - 1 : m;
        CHECK_OK(ta_arena_rewind(p->f.arena, p->marks[m].mark));
        CHECK_LE(p->marks[m].count, p->count);
        p->count = p->marks[m].count;
        p->mark_count = m + 1; /* it can be used again */
    }
}

static void random_programs(void)
{
    static program p;
    int i, k;
    for (i = 0; i < PROGRAM_COUNT; i++) {
        const uint64_t seed = test_now.seed + (uint64_t)i, failures = test_now.failures;
        ta_arena_desc desc;
        memset(&p, 0, sizeof p);
        memset(&desc, 0, sizeof desc);
        p.random = seed;
        test_context("--seed %llu", (unsigned long long)seed);
        desc.single_threaded = (int)test_below(&p.random, 2);
        p.with_events = i % 2;
        desc.on_event = p.with_events ? tally_event : NULL;
        open_arena(&p.f, (int)test_below(&p.random, MEMORY_COUNT), &desc);
        for (k = 0; k < 200 && test_now.failures == failures; k++) {
            const uint32_t what = test_below(&p.random, 100);
            if (what < 50) {
                program_alloc(&p);
            } else if (what < 70) {
                program_free(&p);
            } else if (what < 78) {
                program_resize(&p);
            } else if (what < 86) {
                program_mark(&p);
            } else if (what < 94) {
                program_rewind(&p);
            } else if (what < 97) {
                CHECK_OK(ta_allocator_trim(p.f.a, test_below(&p.random, 1000000), NULL));
            } else if (what == 99) {
                const size_t retain = test_below(&p.random, 1000000);
                CHECK_OK(ta_arena_reset(p.f.arena, test_below(&p.random, 3) == 0 ? 0 : retain));
                p.count = p.mark_count = 0;
            }
            if (k % 8 == 0) {
                program_check(&p);
            }
        }
        program_check(&p);
        close_arena(&p.f);
        if (test_now.failures != failures) {
            return;
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  Events, peaks, options.
  -------------------------------------------------------------------------------------------------------*/
static void event_is(const tally *t, ta_event_kind kind, const void *ptr, size_t size, size_t capacity)
{
    CHECK_EQ(t->last.kind, kind);
    CHECK(t->last.ptr == ptr);
    CHECK_EQ(t->last.size_bytes, size);
    CHECK_EQ(t->last.capacity_bytes, capacity);
}

static void events_of_an_arena(void)
{
    int memory;
    for (memory = 0; memory < MEMORY_COUNT; memory++) {
        ta_arena_desc desc;
        ta_arena_mark mark;
        ta_request request;
        ta_stats s;
        fixture f;
        unsigned char *x, *y;
        test_context("%s", memory_names[memory]);
        memset(&desc, 0, sizeof desc);
        desc.limit_bytes = 8 * MIB;
        desc.chunk_bytes = 2 * MIB;
        desc.on_event = tally_event;
        desc.name = "steps";
        open_arena(&f, memory, &desc);
        x = must_alloc(&f, 100);
        event_is(&f.events, TA_EVENT_ALLOC, x, 100, 128);
        CHECK_EQ(f.events.last.hit, 0);
        CHECK_EQ(strcmp(f.events.last.name, "steps"), 0);
        CHECK_EQ(f.events.of[TA_EVENT_GROW], 1);
        memset(&request, 0, sizeof request);
        request.size_bytes = 1000;
        request.tag = "forward";
        request.stream = 7;
        y = (unsigned char *)ta_allocator_alloc(f.a, &request, NULL);
        event_is(&f.events, TA_EVENT_ALLOC, y, 1000, 1024);
        CHECK_EQ(f.events.last.hit, 1);
        CHECK_EQ(f.events.last.stream, 7);
        CHECK(f.events.last.tag != NULL && strcmp(f.events.last.tag, "forward") == 0);
        CHECK_OK(ta_allocator_resize_in_place(f.a, y, 1000, 1500000)); /* memory may have to come first */
        event_is(&f.events, TA_EVENT_RESIZE, y, 1500000, (1500000 + 63) / 64 * 64);
        CHECK(f.events.last.tag != NULL && strcmp(f.events.last.tag, "forward") == 0);
        CHECK_OK(ta_allocator_resize_in_place(f.a, x, 100, 10)); /* in the middle: its capacity stays */
        event_is(&f.events, TA_EVENT_RESIZE, x, 10, 128);
        s = stats_of(&f);
        tally_check(&f.events, &s);
        CHECK(ta_arena_alloc(f.arena, 100 * MIB, NULL) == NULL);
        event_is(&f.events, TA_EVENT_FAILURE, NULL, 100 * MIB, 0);
        CHECK_RESULT(f.events.last.result, TA_ERROR_LIMIT);
        CHECK_EQ(f.events.of[TA_EVENT_LIMIT], 1);
        CHECK_RESULT(ta_allocator_free(f.a, x, 11, 0, 0), TA_ERROR_SIZE_MISMATCH); /* no event */
        CHECK_EQ(f.events.of[TA_EVENT_FREE], 0);
        CHECK_OK(ta_allocator_free(f.a, x, 10, 0, 0));
        event_is(&f.events, TA_EVENT_FREE, x, 10, 128);
        mark = ta_arena_get_mark(f.arena);
        (void)must_alloc(&f, 200);
        (void)must_alloc(&f, 300);
        CHECK_OK(ta_arena_rewind(f.arena, mark));
        CHECK_EQ(f.events.of[TA_EVENT_FREE], 3);
        CHECK_EQ(f.events.last.size_bytes, 200); /* the last one first */
        CHECK_EQ(f.events.of[TA_EVENT_TRIM], 0);
        CHECK_OK(ta_arena_reset(f.arena, 0));
        CHECK_EQ(f.events.of[TA_EVENT_FREE], 4);
        CHECK_GE(f.events.of[TA_EVENT_TRIM], 1);
        s = stats_of(&f);
        tally_check(&f.events, &s);
        f.events.a = f.a; /* the callback allocates while the arena is trimmed, and grows it */
        f.events.kind = TA_EVENT_TRIM;
        (void)must_alloc(&f, 100);
        CHECK_OK(ta_arena_reset(f.arena, 0));
        CHECK(f.events.got != NULL);
        s = stats_of(&f);
        CHECK_EQ(s.live_count, 1);
        tally_check(&f.events, &s);
        close_arena(&f);
    }
}

static void events_of_a_direct_allocator(void)
{
    static tally t;
    tb_counting counting;
    ta_direct_desc desc;
    ta_direct *direct;
    ta_allocator a;
    ta_request request;
    ta_stats s;
    char *x;
    memset(&t, 0, sizeof t);
    memset(&desc, 0, sizeof desc);
    desc.backend = tb_counting_init(&counting, ta_backend_host(), TA_CAP_RANGES);
    desc.limit_bytes = MIB;
    desc.on_event = tally_event;
    desc.on_event_user = &t;
    CHECK_OK(ta_direct_create(&desc, &direct));
    a = ta_direct_allocator(direct);
    memset(&request, 0, sizeof request);
    request.size_bytes = 5000;
    request.tag = "tag";
    x = (char *)ta_allocator_alloc(a, &request, NULL);
    CHECK_OK(ta_allocator_get_stats(a, &s));
    event_is(&t, TA_EVENT_ALLOC, x, 5000, s.in_use_bytes);
    CHECK_EQ(counting.calls[TB_ZERO], 0); /* nobody asked for zeroes */
    tally_check(&t, &s);
    CHECK_OK(ta_allocator_resize_in_place(a, x, 5000, 100));
    event_is(&t, TA_EVENT_RESIZE, x, 100, s.in_use_bytes);
    request.size_bytes = 2 * MIB;
    CHECK(ta_allocator_alloc(a, &request, NULL) == NULL);
    event_is(&t, TA_EVENT_FAILURE, NULL, 2 * MIB, 0);
    CHECK_EQ(t.of[TA_EVENT_LIMIT], 1);
    CHECK_RESULT(ta_allocator_free(a, x + 1, 0, 0, 0), TA_ERROR_INTERIOR);
    CHECK_EQ(t.of[TA_EVENT_FREE], 0);
    t.a = a; /* the callback allocates while a block is freed */
    t.kind = TA_EVENT_FREE;
    CHECK_OK(ta_allocator_free(a, x, 100, 0, 0));
    CHECK_EQ(t.of[TA_EVENT_TRIM], 1); /* of what was freed; the callback's block came behind it */
    event_is(&t, TA_EVENT_ALLOC, t.got, 3000, s.in_use_bytes / 2);
    CHECK_OK(ta_allocator_get_stats(a, &s));
    CHECK_EQ(s.live_count, 1);
    tally_check(&t, &s);
    CHECK_OK(ta_allocator_free(a, t.got, 0, 0, 0));
    CHECK_OK(ta_allocator_get_stats(a, &s));
    CHECK_EQ(s.reserved_bytes, 0);
    tally_check(&t, &s);
    CHECK_OK(ta_direct_destroy(direct));
    tb_counting_check(&counting, 1);
    tb_counting_end(&counting);
}

static void peaks_start_again(void)
{
    ta_direct *direct, *no_direct = NULL;
    ta_arena *no_arena = NULL;
    ta_request request;
    ta_stats s;
    fixture f;
    void *x;
    open_arena(&f, RANGES, NULL);
    (void)must_alloc(&f, 3 * MIB);
    CHECK_OK(ta_arena_reset(f.arena, 0));
    (void)must_alloc(&f, 1000);
    s = stats_of(&f);
    CHECK_EQ(s.peak_in_use_upper_bytes, 3 * MIB);
    CHECK_GE(s.peak_reserved_bytes, 3 * MIB);
    CHECK_OK(ta_arena_reset_peaks(f.arena));
    s = stats_of(&f);
    CHECK_EQ(s.peak_in_use_upper_bytes, 1024);
    CHECK_EQ(s.peak_reserved_bytes, s.reserved_bytes);
    CHECK_OK(ta_allocator_dispose(f.a));
    CHECK_OK(ta_arena_reset_peaks(f.arena));
    close_arena(&f);
    CHECK_OK(ta_direct_create(NULL, &direct));
    memset(&request, 0, sizeof request);
    request.size_bytes = MIB;
    x = ta_allocator_alloc(ta_direct_allocator(direct), &request, NULL);
    CHECK_OK(ta_allocator_free(ta_direct_allocator(direct), x, 0, 0, 0));
    CHECK_OK(ta_direct_reset_peaks(direct));
    CHECK_OK(ta_allocator_get_stats(ta_direct_allocator(direct), &s));
    CHECK_EQ(s.peak_in_use_upper_bytes, 0);
    CHECK_EQ(s.peak_reserved_bytes, 0);
    CHECK_OK(ta_direct_destroy(direct));
    CHECK_RESULT(ta_arena_reset_peaks(no_arena), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_direct_reset_peaks(no_direct), TA_ERROR_INVALID_ARGUMENT);
}

/* Each 0 that stands for something is replaced; what was given is kept. */
static void options_in_force(void)
{
    ta_budget_desc of_budget;
    ta_direct_desc of_direct;
    ta_arena_desc of_arena;
    ta_budget *budget, *no_budget = NULL;
    ta_direct *direct, *no_direct = NULL;
    ta_arena *arena, *no_arena = NULL;
    tally t;
    char name[8] = "mine";
    CHECK_OK(ta_arena_create(NULL, &arena));
    CHECK_OK(ta_arena_get_desc(arena, &of_arena));
    CHECK(of_arena.backend.vtable == ta_backend_host().vtable);
    CHECK(of_arena.budget == NULL && of_arena.on_event == NULL && !of_arena.zeroed && !of_arena.single_threaded);
    CHECK_EQ(of_arena.limit_bytes, TA_UNLIMITED);
    CHECK_EQ(of_arena.chunk_bytes, MIB);
    CHECK_GT(of_arena.range_bytes, 0);
    CHECK_EQ(strcmp(of_arena.name, "arena"), 0);
    CHECK_OK(ta_arena_destroy(arena));
    memset(&of_budget, 0, sizeof of_budget);
    of_budget.limit_bytes = 5 * MIB;
    CHECK_OK(ta_budget_create(&of_budget, &budget));
    memset(&of_budget, 0, sizeof of_budget);
    CHECK_OK(ta_budget_get_desc(budget, &of_budget));
    CHECK(of_budget.backend.vtable == ta_backend_host().vtable);
    CHECK_EQ(of_budget.limit_bytes, 5 * MIB);
    CHECK_OK(ta_budget_set_limit(budget, TA_UNLIMITED));
    CHECK_OK(ta_budget_get_desc(budget, &of_budget));
    CHECK_EQ(of_budget.limit_bytes, TA_UNLIMITED);
    memset(&of_arena, 0, sizeof of_arena);
    of_arena.budget = budget;
    of_arena.chunk_bytes = 4096;
    of_arena.range_bytes = 64 * MIB;
    of_arena.zeroed = of_arena.single_threaded = 1;
    of_arena.name = name;
    of_arena.on_event = tally_event;
    of_arena.on_event_user = &t;
    CHECK_OK(ta_arena_create(&of_arena, &arena));
    memset(name, 'x', 4); /* it was copied */
    memset(&of_arena, 0, sizeof of_arena);
    CHECK_OK(ta_allocator_dispose(ta_arena_allocator(arena)));
    CHECK_OK(ta_arena_get_desc(arena, &of_arena));
    CHECK(of_arena.budget == budget && of_arena.on_event == tally_event && of_arena.on_event_user == (void *)&t);
    CHECK(of_arena.zeroed && of_arena.single_threaded && strcmp(of_arena.name, "mine") == 0);
    CHECK_EQ(of_arena.chunk_bytes, 4096);
    CHECK_EQ(of_arena.range_bytes, 64 * MIB);
    CHECK_OK(ta_arena_destroy(arena));
    CHECK_OK(ta_budget_destroy(budget));
    memset(&of_direct, 0, sizeof of_direct);
    of_direct.limit_bytes = MIB;
    CHECK_OK(ta_direct_create(&of_direct, &direct));
    CHECK_OK(ta_direct_get_desc(direct, &of_direct));
    CHECK(of_direct.backend.vtable == ta_backend_host().vtable && of_direct.on_event == NULL);
    CHECK_EQ(of_direct.limit_bytes, MIB);
    CHECK_EQ(strcmp(of_direct.name, "direct"), 0);
    CHECK_RESULT(ta_direct_get_desc(direct, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_direct_destroy(direct));
    CHECK_RESULT(ta_direct_get_desc(no_direct, &of_direct), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_arena_get_desc(no_arena, &of_arena), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_budget_get_desc(no_budget, &of_budget), TA_ERROR_INVALID_ARGUMENT);
}

TEST_MAIN(TEST_CASE(blocks_lie_one_behind_the_other), TEST_CASE(pointers_never_move),
          TEST_CASE(bad_requests_are_errors), TEST_CASE(aligned_blocks),
          TEST_CASE(zeroed_arenas_and_requests), TEST_CASE(free_gives_bytes_back_from_the_end),
          TEST_CASE(last_block_resizes_in_place), TEST_CASE(rewind_frees_what_came_after),
          TEST_CASE(marks_nest), TEST_CASE(stale_and_foreign_marks), TEST_CASE(free_below_a_mark),
          TEST_CASE(resets), TEST_CASE(empty_cache_reaches_every_chunk), TEST_CASE(many_small_blocks),
          TEST_CASE(chunks_grow_and_large_blocks_get_their_own), TEST_CASE(limits),
          TEST_CASE(no_range_to_be_had), TEST_CASE(fixed_buffer), TEST_CASE(arena_over_a_pool),
          TEST_CASE(arenas_in_arenas), TEST_CASE(shared_budget_takes_what_an_arena_retains),
          TEST_CASE(events_of_an_arena), TEST_CASE(events_of_a_direct_allocator), TEST_CASE(peaks_start_again),
          TEST_CASE(options_in_force), TEST_CASE(random_programs))
