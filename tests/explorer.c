/* explorer.c - every interleaving of two threads, up to a number of preemptions. The real header runs in two fibres; its
   atomics and its lock are replaced by ones that ask a scheduler first. A schedule is a list of places where a fibre is
   interrupted; depth-first search tries all of them, with at most --bound interruptions (3). Each pair of operations
   starts from a new pool; afterwards its invariants, its books and the contents of its blocks are checked.

     explorer [--bound N] [--list] [PART OF A NAME...]

   What it explores is sequentially consistent: stores are seen at once and in order. Weaker orders are not, and so
   the barrier on all threads, which orders the plain stores of a favoured thread against the load of another one, is
   nothing here: it is what makes that protocol sequentially consistent on real machines.
   Only accesses to addresses that both fibres use, and one of them writes, are places to interrupt: others commute.
   Those are found on the way; a pair whose set has grown is explored anew. */
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

static void explorer_access(const void *address, int writes);
static void explorer_wait(void);
static int explorer_yield(void);
static int explorer_thread(void);

typedef struct explorer_lock { int held; } explorer_lock;
static void explorer_acquire(explorer_lock *lock);
static void explorer_release(explorer_lock *lock);

#define sched_yield() explorer_yield()
#define TAI_THREAD_ID() (explorer_thread() + 1)
#define TENSORALLOC_THREAD_LOCAL /* swapped with the fibres */
#define TENSORALLOC_LOAD_RELAXED(p) (explorer_access((p), 0), *(p))
#define TENSORALLOC_LOAD_ACQUIRE(p) (explorer_access((p), 0), *(p))
#define TENSORALLOC_STORE_RELAXED(p, v) (explorer_access((p), 1), *(p) = (v))
#define TENSORALLOC_STORE_RELEASE(p, v) (explorer_access((p), 1), *(p) = (v))
#define TENSORALLOC_EXCHANGE32(p, v) explorer_exchange32((p), (v))
#define TENSORALLOC_CAS32(p, expected, desired) explorer_cas32((p), (expected), (desired))
#define TENSORALLOC_CASZ(p, expected, desired) explorer_casz((p), (expected), (desired))
#define TENSORALLOC_COMPILER_BARRIER() ((void)0)
#define TENSORALLOC_LOCK_TYPE explorer_lock
#define TENSORALLOC_LOCK_INIT(l) ((l)->held = 0)
#define TENSORALLOC_LOCK_ACQUIRE(l) explorer_acquire(l)
#define TENSORALLOC_LOCK_RELEASE(l) explorer_release(l)

static inline uint32_t explorer_exchange32(uint32_t *p, uint32_t value)
{
    uint32_t was;
    explorer_access(p, 1);
    was = *p;
    *p = value;
    return was;
}

static inline int explorer_cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    explorer_access(p, 1);
    if (*p == *expected) {
        *p = desired;
        return 1;
    }
    *expected = *p;
    return 0;
}

static inline int explorer_casz(size_t *p, size_t *expected, size_t desired)
{
    explorer_access(p, 1);
    if (*p == *expected) {
        *p = desired;
        return 1;
    }
    *expected = *p;
    return 0;
}

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "test.h"

/*---------------------------------------------------------------------------------------------------------
  Fibres and schedules
  -------------------------------------------------------------------------------------------------------*/
#define FIBRES 2
#define THREAD_SLOTS ((int)(sizeof tai_thread_slots / sizeof tai_thread_slots[0]))
#define STACK_BYTES (256 * 1024)
#define STEPS_MAX 20000   /* accesses of one run: more is a loop without an end */
#define CHOICES_MAX 4096  /* places to interrupt in one run */
#define PLACES 16384      /* addresses of one run; a power of two */
#define SPINS_MAX 3       /* loads of one address in a row, before another fibre must move */

typedef struct fibre {
    ucontext_t context;
    char *stack;
    int done, waits;                        /* waits: until the other one has moved or let go */
    const explorer_lock *wants;
    const void *spin;                       /* address of the last load */
    int spins;
    tai_slot *slots[THREAD_SLOTS], *list; /* what is the thread's own */
    tai_thread_note note;
} fibre;

static struct {
    int on;                      /* fibres run, and are scheduled */
    int now;                     /* the fibre that runs */
    fibre fibres[FIBRES];
    ucontext_t home;
    void (*body)(int fibre);
    int bound, preemptions;      /* allowed; so far in this run */
    uint8_t choices[CHOICES_MAX]; /* 1: interrupted there */
    uint8_t could[CHOICES_MAX];  /* there was somebody to go on with */
    int choice_count, given;     /* in this run; those that are prescribed */
    int steps, failed;
    uint64_t runs;
    /* addresses that both use: kept by what they are relative to a run, since runs repeat exactly */
    uintptr_t seen[PLACES];
    uint8_t used_by[PLACES], written_by[PLACES];
    uint32_t shared_count, seen_count;
} ex;

static int explorer_thread(void) { return ex.now; }

static void fibre_swap_own(fibre *from, fibre *to)
{
    memcpy(from->slots, tai_thread_slots, sizeof tai_thread_slots);
    from->list = tai_thread_list;
    from->note = tai_here;
    memcpy(tai_thread_slots, to->slots, sizeof tai_thread_slots);
    tai_thread_list = to->list;
    tai_here = to->note;
}

static int fibre_can_run(int f)
{
    const fibre *one = &ex.fibres[f];
    return !one->done && !one->waits && (one->wants == NULL || one->wants->held == 0);
}

static void fibre_switch(int to)
{
    fibre *from = &ex.fibres[ex.now];
    if (to == ex.now) {
        return;
    }
    fibre_swap_own(from, &ex.fibres[to]);
    ex.now = to;
    from->spins = 0;
    (void)swapcontext(&from->context, &ex.fibres[to].context);
}

/* The run is over; what it was about is told. */
static void explorer_fail(const char *why)
{
    ex.failed = 1;
    CHECK_STRING(why, "");
    ex.on = 0;
    (void)setcontext(&ex.home);
}

/* This fibre cannot go on: another one must. */
static void fibre_give_way(void)
{
    int other = 1 - ex.now;
    ex.fibres[other].waits = 0; /* whatever it waits for may have happened */
    if (!fibre_can_run(other)) {
        if (fibre_can_run(ex.now)) {
            return;
        }
        explorer_fail("nobody can go on");
    }
    fibre_switch(other);
}

static uint32_t explorer_place(uintptr_t address)
{
    uint32_t at = (uint32_t)(tai_mix((uint64_t)address) % PLACES);
    while (ex.seen[at] != 0 && ex.seen[at] != address) {
        at = (at + 1) % PLACES;
    }
    if (ex.seen[at] == 0 && ++ex.seen_count > PLACES / 2) {
        explorer_fail("runs do not repeat: too many addresses");
    }
    ex.seen[at] = address;
    return at;
}

/* Before each access: perhaps another fibre goes on here. */
static void explorer_access(const void *address, int writes)
{
    uint32_t at, bit = 1u << ex.now;
    int other = 1 - ex.now, was_shared, is_shared;
    fibre *me = &ex.fibres[ex.now];
    if (!ex.on) {
        return;
    }
    if (++ex.steps > STEPS_MAX) {
        explorer_fail("no end");
    }
    at = explorer_place((uintptr_t)address);
    was_shared = ex.used_by[at] == 3 && ex.written_by[at] != 0;
    ex.used_by[at] |= (uint8_t)bit;
    ex.written_by[at] |= (uint8_t)(writes ? bit : 0);
    is_shared = ex.used_by[at] == 3 && ex.written_by[at] != 0;
    ex.shared_count += (uint32_t)(is_shared && !was_shared);
    if (!writes && me->spin == address && ++me->spins >= SPINS_MAX && !ex.fibres[other].done) {
        me->spins = 0;
        me->waits = 1; /* it looks at the same thing again and again */
        fibre_give_way();
        me->waits = 0;
        return;
    }
    if (writes || me->spin != address) {
        me->spins = 0;
        me->spin = writes ? NULL : address;
    }
    if (writes) {
        ex.fibres[other].waits = 0;
    }
    if (was_shared && fibre_can_run(other) && ex.choice_count < CHOICES_MAX) {
        int here = ex.choice_count++;
        ex.could[here] = ex.preemptions < ex.bound;
        if (here >= ex.given) {
            ex.choices[here] = 0;
        }
        if (ex.choices[here]) {
            ex.preemptions++;
            fibre_switch(other);
        }
    }
}

static int explorer_yield(void)
{
    explorer_wait();
    return 0;
}

static void explorer_wait(void)
{
    if (ex.on && !ex.fibres[1 - ex.now].done) {
        fibre *me = &ex.fibres[ex.now];
        me->waits = 1;
        fibre_give_way();
        me->waits = 0;
    }
}

static void explorer_acquire(explorer_lock *lock)
{
    explorer_access(lock, 1);
#ifdef EXPLORER_BROKEN_LOCK /* to see that it is missed */
    return;
#endif
    while (ex.on && lock->held) {
        ex.fibres[ex.now].wants = lock;
        fibre_give_way();
        ex.fibres[ex.now].wants = NULL;
    }
    lock->held = 1;
}

static void explorer_release(explorer_lock *lock)
{
    explorer_access(lock, 1);
    lock->held = 0;
}

static void fibre_main(int f)
{
    ex.body(f);
    ex.fibres[f].done = 1;
    if (!ex.fibres[1 - f].done) {
        ex.fibres[1 - f].waits = 0;
        if (!fibre_can_run(1 - f)) {
            explorer_fail("a thread is left waiting");
        }
        fibre_swap_own(&ex.fibres[f], &ex.fibres[1 - f]);
        ex.now = 1 - f;
        (void)setcontext(&ex.fibres[1 - f].context);
    }
    ex.on = 0;
    (void)setcontext(&ex.home);
}

/* As fibre f, outside of runs. */
static void explorer_become(int f)
{
    fibre_swap_own(&ex.fibres[ex.now], &ex.fibres[f]);
    ex.now = f;
}

/* One run. What a thread owns is kept from before it to after it. */
static void explorer_run(void (*body)(int), int first)
{
    int f;
    volatile int returned = 0;
    ex.body = body;
    ex.choice_count = ex.preemptions = ex.steps = 0;
    for (f = 0; f < FIBRES; f++) {
        fibre *one = &ex.fibres[f];
        if (one->stack == NULL) {
            one->stack = (char *)malloc(STACK_BYTES);
        }
        one->done = one->waits = one->spins = 0;
        one->wants = NULL;
        one->spin = NULL;
        (void)getcontext(&one->context);
        one->context.uc_stack.ss_sp = one->stack;
        one->context.uc_stack.ss_size = STACK_BYTES;
        one->context.uc_link = NULL;
        makecontext(&one->context, (void (*)(void))fibre_main, 1, f);
    }
    explorer_become(first);
    (void)getcontext(&ex.home);
    if (!returned) {
        returned = 1;
        ex.on = 1;
        (void)setcontext(&ex.fibres[first].context);
    }
    ex.runs++;
}

/* The next schedule; 0: there is none. */
static int explorer_next(void)
{
    int at = ex.choice_count;
    while (at-- > 0) {
        if (!ex.choices[at] && ex.could[at]) {
            ex.choices[at] = 1;
            ex.given = at + 1;
            return 1;
        }
    }
    return 0;
}

/*---------------------------------------------------------------------------------------------------------
  Operations, each on a pool that both threads have used
  -------------------------------------------------------------------------------------------------------*/
static struct {
    ta_pool *pool;
    ta_pool *sibling;         /* over the same budget */
    ta_budget *budget;
    ta_arena *arena;
    unsigned char *small[2], *large[2]; /* allocated by the other one */
    size_t live;              /* blocks that must be live afterwards */
    int operation[2];
    const char *wrong;
} world;

static void expect(int holds, const char *what)
{
    if (!holds && world.wrong == NULL) {
        world.wrong = what;
    }
}

static void *take(size_t size)
{
    unsigned char *block = (unsigned char *)ta_pool_alloc(world.pool, size, NULL);
    expect(block != NULL, "allocated");
    if (block != NULL) {
        memset(block, ex.now + 1, size);
    }
    return block;
}

static void give(void *block, size_t size, int mark)
{
    const unsigned char *bytes = (const unsigned char *)block;
    expect(bytes != NULL && bytes[0] == mark && bytes[size - 1] == mark, "contents kept");
    expect(ta_pool_free_sized(world.pool, block, size) == TA_OK, "freed");
}

#define SMALL 200
#define LARGE 70000
static void op_small(int me) { give(take(SMALL), SMALL, me + 1); }
static void op_large(int me) { give(take(LARGE), LARGE, me + 1); }
static void op_free_others_small(int me) { give(world.small[me], SMALL, 2 - me); }
static void op_free_others_large(int me) { give(world.large[me], LARGE, 2 - me); }

static void op_other_size(int me) /* nothing of its class is cached */
{
    give(take(3000), 3000, me + 1);
}

static void op_resize(int me)
{
    void *block = take(LARGE);
    expect(ta_pool_resize_in_place(world.pool, block, LARGE / 2) == TA_OK, "shrunk");
    give(block, LARGE / 2, me + 1);
}

static void op_realloc(int me)
{
    unsigned char *block = (unsigned char *)ta_pool_realloc(world.pool, take(SMALL), LARGE, NULL);
    expect(block != NULL && block[0] == me + 1 && block[SMALL - 1] == me + 1, "contents moved");
    expect(ta_pool_free(world.pool, block) == TA_OK, "freed");
}

static void op_zeroed(int me)
{
    const unsigned char *block = (const unsigned char *)ta_pool_alloc_zeroed(world.pool, SMALL, NULL);
    expect(block != NULL && block[0] == 0 && block[SMALL - 1] == 0, "zeroed");
    expect(ta_pool_free(world.pool, (void *)(uintptr_t)block) == TA_OK, "freed");
    (void)me;
}

static void op_flush(int me)
{
    expect(ta_pool_thread_flush(world.pool) == TA_OK, "flushed");
    (void)me;
}

static void op_trim(int me)
{
    expect(ta_pool_trim(world.pool, 0, NULL) == TA_OK, "trimmed");
    (void)me;
}

static void op_stats(int me)
{
    ta_stats s;
    expect(ta_pool_get_stats(world.pool, &s) == TA_OK, "statistics");
    expect(s.reserved_bytes == s.in_use_bytes + s.cached_bytes, "reserved is in use and cached");
    (void)me;
}

static int count_live(void *user, const ta_block_info *block)
{
    ++*(int *)user;
    return block->ptr == NULL;
}

static void op_walk(int me)
{
    int count = 0;
    expect(ta_pool_for_each_live(world.pool, count_live, &count) == TA_OK, "walked");
    expect(count >= 0 && count <= 8, "a walk sees what there is");
    (void)me;
}

static void op_describe(int me)
{
    ta_block_info info;
    ta_result result = ta_pool_describe(world.pool, world.large[1 - me], &info); /* the other one may free it */
    expect(result == TA_OK || result == TA_ERROR_STALE || result == TA_ERROR_INTERIOR, "described");
}

static void op_bad_free(int me)
{
    expect(ta_pool_free(world.pool, &me) == TA_ERROR_FOREIGN, "foreign");
}

static void op_exit(int me) /* as a thread that ends; it comes back as a new one */
{
    tai_thread_key_exit(NULL);
    (void)me;
}

static void op_limit(int me) /* asks the sibling to give back */
{
    void *block = ta_pool_alloc(world.sibling, (size_t)1 << 20, NULL);
    expect(block == NULL || ta_pool_free(world.sibling, block) == TA_OK, "freed");
    (void)me;
}

static void op_arena(int me)
{
    unsigned char *block = (unsigned char *)ta_arena_alloc(world.arena, 500, NULL);
    expect(block != NULL, "allocated");
    memset(block, me + 1, 500);
    expect(ta_allocator_free(ta_arena_allocator(world.arena), block, 500, 0, 0) == TA_OK, "freed");
}

static const struct operation {
    const char *name;
    void (*run)(int me);
} operations[] = {
    {"small", op_small}, {"large", op_large}, {"free_others_small", op_free_others_small},
    {"free_others_large", op_free_others_large}, {"other_size", op_other_size}, {"resize", op_resize},
    {"realloc", op_realloc}, {"zeroed", op_zeroed}, {"flush", op_flush}, {"trim", op_trim}, {"stats", op_stats},
    {"walk", op_walk}, {"describe", op_describe}, {"bad_free", op_bad_free}, {"exit", op_exit}, {"limit", op_limit},
    {"arena", op_arena},
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

static int takes_part(void (*operation)(int))
{
    return operations[world.operation[0]].run == operation || operations[world.operation[1]].run == operation;
}

static void run_operation(int me) { operations[world.operation[me]].run(me); }

/* A pool that both have used, with blocks of each for the other; the first thread is favoured at its gate. */
static void set_up(void)
{
    ta_pool_desc desc;
    ta_arena_desc arena_desc;
    ta_budget_desc budget_desc;
    int f, i;
    memset(&desc, 0, sizeof desc);
    memset(&arena_desc, 0, sizeof arena_desc);
    memset(&budget_desc, 0, sizeof budget_desc);
    memset(&world.small, 0, sizeof world.small);
    budget_desc.limit_bytes = (size_t)4 << 20;
    world.sibling = NULL;
    world.arena = NULL;
    world.budget = NULL;
    if (takes_part(op_limit)) {
        CHECK_OK(ta_budget_create(&budget_desc, &world.budget));
        desc.budget = world.budget;
    }
    desc.range_bytes = (size_t)1 << 20;
    desc.block_count_max = 64;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    CHECK_OK(ta_pool_create(&desc, &world.pool));
    if (world.budget != NULL) {
        CHECK_OK(ta_pool_create(&desc, &world.sibling));
    }
    if (takes_part(op_arena)) {
        arena_desc.range_bytes = (size_t)1 << 20;
        CHECK_OK(ta_arena_create(&arena_desc, &world.arena));
    }
    for (f = 1; f >= 0; f--) {
        explorer_become(f);
        world.small[1 - f] = (unsigned char *)take(SMALL);
        world.large[1 - f] = (unsigned char *)take(LARGE);
        op_small(f);
        for (i = 0; i < 12; i++) {
            op_large(f);
        }
    }
    world.live = 4;
    for (f = 0; f < 2; f++) {
        const char *name = operations[world.operation[f]].name;
        world.live -= strncmp(name, "free_others", 11) == 0;
    }
}

static void tear_down(void)
{
    ta_stats s;
    expect(ta_pool_check(world.pool) == TA_OK, "the pool is sound");
    expect(ta_pool_get_stats(world.pool, &s) == TA_OK && s.live_count == world.live, "live blocks are counted");
    expect(s.allocation_count - s.deallocation_count == s.live_count, "calls are counted");
    expect(world.sibling == NULL || ta_pool_check(world.sibling) == TA_OK, "the sibling is sound");
    expect(ta_arena_destroy(world.arena) == TA_OK && ta_pool_destroy(world.sibling) == TA_OK &&
           ta_pool_destroy(world.pool) == TA_OK && ta_budget_destroy(world.budget) == TA_OK, "destroyed");
}

/* All schedules of two operations; how many. */
static uint64_t explore_pair(int a, int b)
{
    uint64_t runs = ex.runs;
    uint32_t shared;
    int first, i;
    world.operation[0] = a;
    world.operation[1] = b;
    memset(ex.seen, 0, sizeof ex.seen);
    memset(ex.used_by, 0, sizeof ex.used_by);
    memset(ex.written_by, 0, sizeof ex.written_by);
    ex.shared_count = ex.seen_count = 0;
    do {
        shared = ex.shared_count;
        for (first = 0; first < 2; first++) {
            ex.given = 0;
            do {
                set_up();
                world.wrong = NULL;
                explorer_run(run_operation, first);
                if (!ex.failed) {
                    tear_down();
                }
                if (world.wrong != NULL || ex.failed) {
                    test_context("%s against %s, %s first, interrupted at", operations[a].name, operations[b].name,
                                 operations[first == 0 ? a : b].name);
                    for (i = 0; i < ex.choice_count; i++) {
                        size_t length = strlen(test_now.context);
                        if (ex.choices[i]) {
                            (void)snprintf(test_now.context + length, sizeof test_now.context - length, " %d", i);
                        }
                    }
                    CHECK_STRING(world.wrong != NULL ? world.wrong : "ended", "");
                    test_context("%s", "");
                    return ex.runs - runs;
                }
            } while (explorer_next());
        }
    } while (ex.shared_count != shared);
    CHECK(ex.runs > runs);
    return ex.runs - runs;
}

static char **only;
static int only_count, list_only;

static int is_asked_for(int operation)
{
    int i;
    for (i = 0; i < only_count; i++) {
        if (strstr(operations[operation].name, only[i]) != NULL) {
            return 1;
        }
    }
    return only_count == 0;
}

/* That it finds something: a counter that is read and written without a lock loses a step in some schedule. */
static uint32_t counter;
static void lose_a_step(int me)
{
    uint32_t seen = TENSORALLOC_LOAD_RELAXED(&counter);
    TENSORALLOC_STORE_RELAXED(&counter, seen + 1);
    (void)me;
}

static void finds_a_lost_update(void)
{
    int lost = 0, kept = 0;
    uint32_t shared;
    memset(ex.seen, 0, sizeof ex.seen);
    memset(ex.used_by, 0, sizeof ex.used_by);
    memset(ex.written_by, 0, sizeof ex.written_by);
    ex.shared_count = ex.seen_count = 0;
    do {
        shared = ex.shared_count;
        ex.given = 0;
        do {
            counter = 0;
            explorer_run(lose_a_step, 0);
            lost += counter == 1;
            kept += counter == 2;
        } while (explorer_next());
    } while (ex.shared_count != shared);
    CHECK(lost > 0);
    CHECK(kept > 0);
}

static void every_pair_of_operations(void)
{
    int a, b, pairs = 0;
    uint64_t runs = 0, most = 0;
    for (a = 0; a < OPERATIONS; a++) {
        for (b = a; b < OPERATIONS && test_now.failures == 0; b++) {
            if (is_asked_for(a) || is_asked_for(b)) {
                uint64_t count = explore_pair(a, b);
                runs += count;
                most = count > most ? count : most;
                pairs++;
                if (list_only) {
                    printf("%-20s %-20s %8llu schedules\n", operations[a].name, operations[b].name,
                           (unsigned long long)count);
                }
            }
        }
    }
    CHECK(pairs > 0);
    printf("%d pairs, %llu schedules, at most %llu of one, at most %d interruptions: ", pairs, (unsigned long long)runs,
           (unsigned long long)most, ex.bound);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {TEST_CASE(finds_a_lost_update), TEST_CASE(every_pair_of_operations)};
    char *none[] = {argv[0], NULL};
    int i, f;
    ex.bound = 3;
    for (f = 0; f < FIBRES; f++) {
        for (i = 0; i < THREAD_SLOTS; i++) {
            ex.fibres[f].slots[i] = tai_thread_slots[i];
        }
    }
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--bound") == 0 && i + 1 < argc) {
            ex.bound = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--list") == 0) {
            list_only = 1;
        } else {
            printf("usage: [--bound N] [--list] [PART OF A NAME...]\n");
            return 2;
        }
    }
    only = argv + i;
    only_count = argc - i;
    return test_main(1, none, cases, sizeof cases / sizeof cases[0]);
}
