/* explorer.c - every interleaving of two threads, up to a number of preemptions. The real header runs in two fibres;
   its atomics and locks are replaced by ones that ask a scheduler first, its memory by a region that is put back before
   each run. A schedule is a list of places where a fibre is interrupted; depth-first search tries all of them, with at
   most --bound interruptions (3). Each pair of operations starts from a new pool; afterwards its invariants, its books
   and the contents of its blocks are checked.

     explorer [--bound N] [--part I/N] [--list] [--all] [--plant NAME] [PART OF A NAME...]

   What it explores is sequentially consistent: stores are seen at once and in order. Weaker orders are not, and so
   the barrier on all threads, which orders the plain stores of a favoured thread against the load of another one, is
   nothing here: it is what makes that protocol sequentially consistent on real machines.
   Only accesses to addresses that both fibres use, and one of them writes, are places to interrupt: others commute.
   Those are found on the way; a pair whose set has grown is explored anew.
   Schedules that differ only in the order of accesses that commute lead to the same state, and a state is gone on from
   once: it is known by which access each fibre has come to and, for each access, by which writes came before it (the
   relation "happens before", hashed, as CHESS does). A state is left only where it has been gone on from with at least
   as many interruptions to spare, so nothing within the bound is lost, as long as plain accesses are ordered by the
   atomics and locks, which TSan checks. --all goes on from every state; a case below compares.
   --part I/N takes every Nth pair, from the Ith (0) on: for several processes.
   --plant makes the scheduler break a promise: locks that do not exclude (lock), compare-and-swap (cas) and exchange
   (exchange) that can be interrupted between their load and their store. That each is noticed is a case below. */
#undef _FORTIFY_SOURCE /* it takes jumps between fibres for mistakes */
#include <sched.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void explorer_schedule(const void *address, int writes);
static void explorer_record(const void *address, int writes);
static void explorer_access(const void *address, int writes);
static void explorer_wait(void);
static int explorer_yield(void);
static int explorer_thread(void);
static void *explorer_malloc(size_t size);
static void explorer_free(void *ptr);
static void *explorer_map(size_t size);
static int explorer_commit(void *ptr, size_t size, int access);
static int explorer_discard(void *ptr, size_t size, int advice);
static long explorer_syscall(long number, ...);
static void *explorer_copy(void *to, const void *from, size_t size);
static void *explorer_fill(void *ptr, int value, size_t size);
static uint32_t explorer_exchange32(uint32_t *p, uint32_t value);
static int explorer_cas32(uint32_t *p, uint32_t *expected, uint32_t desired);
static int explorer_casz(size_t *p, size_t *expected, size_t desired);

typedef struct explorer_lock { int held; } explorer_lock;
static void explorer_acquire(explorer_lock *lock);
static void explorer_release(explorer_lock *lock);

/* The system's own, before the header is given others. Zero. */
static void *system_map(size_t size)
{
    int flags = MAP_PRIVATE | 0x20 | 0x4000; /* anonymous, no reserve */
    void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return ptr == MAP_FAILED ? NULL : ptr;
}

/* They are zero again. */
static int system_clear(void *ptr, size_t size)
{
    return madvise(ptr, size, MADV_DONTNEED);
}

#define sched_yield() explorer_yield()
#define syscall explorer_syscall /* the barrier */
#define mmap(address, size, access, flags, file, at) explorer_map(size)
#define munmap(ptr, size) ((void)(ptr), (void)(size), 0) /* its addresses are not given again in this run */
#define mprotect(ptr, size, access) explorer_commit((ptr), (size), (access))
#define madvise explorer_discard
#define memcpy(to, from, size) explorer_copy((to), (from), (size))
#define memset(ptr, value, size) explorer_fill((ptr), (value), (size))
#define TENSORALLOC_MALLOC(size) explorer_malloc(size)
#define TENSORALLOC_FREE(ptr) explorer_free(ptr)
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

#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#undef memcpy
#undef memset

#include "test.h"

/*---------------------------------------------------------------------------------------------------------
  Memory. What the program has written (its variables, records, the marks in blocks) is copied once a pair is set up,
  and put back before each run; nothing is mapped or unmapped.
  -------------------------------------------------------------------------------------------------------*/
#define REGION_BYTES ((size_t)1 << 30)
#define HEAP_BYTES ((size_t)4 << 20)   /* of the region, for explorer_malloc */
#define MAPS_MAX 256
#define SPOTS_MAX 4096
#define SPOT_STRIDE ((size_t)4096)     /* of the marks in blocks */

typedef struct spot { unsigned char *ptr; size_t size, step; } spot; /* step 0: all of it; else each step-th byte */

/* Kept out of what is put back. */
typedef struct explorer_memory {
    unsigned char *region, *shadow; /* the same addresses, as they were when the copy was taken */
    unsigned char *image;           /* the program's variables, likewise */
    unsigned char *pristine;        /* and before anything was set up */
    spot spots[SPOTS_MAX];          /* what may differ from the copy */
    uint32_t kept, count;           /* of them: written before the copy was taken (records); so far */
} explorer_memory;

typedef struct heap_node { size_t size; struct heap_node *next; } heap_node;

static explorer_memory *memory;
static struct { /* put back with the rest */
    size_t heap_used, mapped;
    heap_node *freed;
    struct { unsigned char *ptr; size_t size; int holds_blocks; } maps[MAPS_MAX];
    int map_count;
} region;

extern char __data_start[], _end[]; /* of the program's variables */

static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "explorer: %s\n", what);
        abort();
    }
}

static int map_of(const void *ptr)
{
    int i = 0;
    while (i < region.map_count && ((const unsigned char *)ptr < region.maps[i].ptr ||
                                    (const unsigned char *)ptr >= region.maps[i].ptr + region.maps[i].size)) {
        i++;
    }
    return i < region.map_count ? i : -1;
}

/* What holds blocks is put back where it was written; else all that is used. */
static int holds_blocks(const void *ptr)
{
    int map = map_of(ptr);
    return map >= 0 && region.maps[map].holds_blocks;
}

static void memory_touch(void *ptr, size_t size, size_t step)
{
    spot *last = &memory->spots[memory->count];
    must(memory->count < SPOTS_MAX, "too many writes");
    last->ptr = (unsigned char *)ptr;
    last->size = size;
    last->step = step;
    memory->count++;
    if (step != 0 && map_of(ptr) >= 0) {
        region.maps[map_of(ptr)].holds_blocks = 1;
    }
}

/* Like malloc, with the most recently freed of that size first. */
static void *explorer_malloc(size_t size)
{
    heap_node **link = &region.freed, *node;
    explorer_record(&region, 1);
    size = (size + 63) / 64 * 64;
    for (; *link != NULL; link = &(*link)->next) {
        if ((*link)->size == size) {
            node = *link;
            *link = node->next;
            return (unsigned char *)node + 64;
        }
    }
    must(region.heap_used + size + 64 <= HEAP_BYTES, "more records than there is room for");
    node = (heap_node *)(void *)(memory->region + region.heap_used);
    region.heap_used += size + 64;
    memory_touch(node, size + 64, 0);
    node->size = size;
    return (unsigned char *)node + 64;
}

static void explorer_free(void *ptr)
{
    if (ptr != NULL) {
        heap_node *node = (heap_node *)(void *)((unsigned char *)ptr - 64);
        explorer_record(&region, 1);
        node->next = region.freed;
        region.freed = node;
    }
}

/* More than there is room for is refused, as systems do. */
static void *explorer_map(size_t size)
{
    unsigned char *ptr = memory->region + HEAP_BYTES + region.mapped;
    if (size > REGION_BYTES - HEAP_BYTES - region.mapped - 65536) {
        return MAP_FAILED;
    }
    must(region.map_count < MAPS_MAX, "more maps than there is room for");
    explorer_record(&region, 1);
    region.mapped += (size + 65535) / 65536 * 65536;
    region.maps[region.map_count].ptr = ptr;
    region.maps[region.map_count++].size = size;
    return ptr;
}

static int explorer_commit(void *ptr, size_t size, int access)
{
    if ((access & PROT_WRITE) != 0 && !holds_blocks(ptr)) {
        memory_touch(ptr, size, 0);
    }
    return 0;
}

static int explorer_discard(void *ptr, size_t size, int advice)
{
    if (advice == 4 /* MADV_DONTNEED */) {
        if (holds_blocks(ptr)) {
            memory_touch(ptr, size, 0);
        }
        memset(ptr, 0, size);
    }
    return 0;
}

/* What the header itself writes into blocks. */
static void *explorer_copy(void *to, const void *from, size_t size)
{
    if (holds_blocks(to)) {
        memory_touch(to, size, 0);
    }
    return memcpy(to, from, size);
}

static void *explorer_fill(void *ptr, int value, size_t size)
{
    if (holds_blocks(ptr)) {
        memory_touch(ptr, size, 0);
    }
    return memset(ptr, value, size);
}

static long explorer_syscall(long number, ...)
{
    (void)number;
    return 0;
}

static void spot_copy(const spot *one, ptrdiff_t to, ptrdiff_t from)
{
    size_t i;
    if (one->step == 0) {
        memcpy(one->ptr + to, one->ptr + from, one->size);
        return;
    }
    for (i = 0; i < one->size; i += one->step) {
        one->ptr[to + (ptrdiff_t)i] = one->ptr[from + (ptrdiff_t)i];
    }
    one->ptr[to + (ptrdiff_t)one->size - 1] = one->ptr[from + (ptrdiff_t)one->size - 1];
}

static size_t image_bytes(void) { return (size_t)(_end - __data_start); }

/* Takes the copy: from here on restore() leads back to this moment. */
static void memory_keep(void)
{
    ptrdiff_t shadow = memory->shadow - memory->region;
    uint32_t i, kept = 0;
    for (i = 0; i < memory->count; i++) {
        spot_copy(&memory->spots[i], shadow, 0);
        if (memory->spots[i].step == 0 && !holds_blocks(memory->spots[i].ptr)) {
            memory->spots[kept++] = memory->spots[i];
        }
    }
    memory->kept = memory->count = kept;
    memcpy(memory->image, __data_start, image_bytes());
}

static void memory_restore(void)
{
    ptrdiff_t shadow = memory->shadow - memory->region;
    uint32_t i;
    for (i = 0; i < memory->count; i++) {
        spot_copy(&memory->spots[i], 0, shadow);
    }
    memory->count = memory->kept;
    memcpy(__data_start, memory->image, image_bytes());
}

/* That nothing was forgotten: memory is as it was kept. */
static int memory_is_back(void)
{
    ptrdiff_t shadow = memory->shadow - memory->region;
    int i, same = memcmp(memory->region, memory->shadow, region.heap_used) == 0;
    for (i = 0; i < region.map_count && same; i++) {
        same = region.maps[i].size > REGION_BYTES / 64 ||
               memcmp(region.maps[i].ptr, region.maps[i].ptr + shadow, region.maps[i].size) == 0;
    }
    return same;
}

/* Back to before anything was set up; counts of checks are left alone. */
static void memory_forget(void)
{
    test_state now = test_now;
    must(system_clear(memory->region, REGION_BYTES) == 0 && system_clear(memory->shadow, REGION_BYTES) == 0, "clear");
    memory->kept = memory->count = 0;
    memcpy(__data_start, memory->pristine, image_bytes());
    test_now = now;
}

static void memory_begin(void)
{
    memory = (explorer_memory *)system_map(sizeof *memory + 2 * image_bytes());
    must(memory != NULL, "no memory");
    memory->image = (unsigned char *)(memory + 1);
    memory->pristine = memory->image + image_bytes();
    memory->region = (unsigned char *)system_map(REGION_BYTES);
    memory->shadow = (unsigned char *)system_map(REGION_BYTES);
    must(memory->region != NULL && memory->shadow != NULL, "no memory");
}

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
    ucontext_t context;       /* to enter it the first time */
    jmp_buf top, here;        /* its beginning; where it was left */
    char *stack;
    int entered, done, waits; /* waits: until the other one has moved or let go */
    const explorer_lock *wants;
    const void *spin;         /* address of the last load */
    int spins;
    uint64_t past;            /* all that happened before its latest access, hashed */
} fibre;

/* An address that was seen, and what happened to it in this run. */
typedef struct place {
    uintptr_t address;
    uint64_t run;               /* the two below are of it */
    uint64_t written, read;     /* pasts of the last write, and of the reads since, added up */
    uint8_t used_by, written_by;
} place;

typedef struct state { uint64_t key; uint32_t spare, taken; } state; /* spare: interruptions that were left, and 1 */

typedef enum explorer_plant { PLANT_NONE, PLANT_LOCK, PLANT_CAS, PLANT_EXCHANGE, PLANT_COUNT } explorer_plant;
static const char *const plant_names[] = {"none", "lock", "cas", "exchange"};

/* Kept out of what is put back. */
typedef struct explorer {
    int on;                      /* fibres run, and are scheduled */
    int now;                     /* the fibre that runs */
    fibre fibres[FIBRES];
    jmp_buf home;
    ucontext_t home_context;
    void (*body)(int fibre);
    int bound, preemptions;      /* allowed; so far in this run */
    uint8_t choices[CHOICES_MAX]; /* 1: interrupted there */
    uint8_t could[CHOICES_MAX];  /* there was somebody to go on with */
    int choice_count, given;     /* in this run; those that are prescribed */
    int steps, every, known;     /* every: state is gone on from; known: this run was left, for one was */
    const char *failed;
    explorer_plant plant;
    uint64_t runs, finished;     /* finished: to the end */
    place places[PLACES];        /* addresses are the same in each run, for runs repeat exactly */
    uint32_t shared_count, seen_count;
    state *states;               /* those that were gone on from; open addressing */
    uint32_t state_count, state_max;
} explorer;

static explorer *ex;

/* What is a thread's own; put back with the rest. */
static struct { tai_slot *slots[THREAD_SLOTS], *list; tai_thread_note note; } own[FIBRES];

static int explorer_thread(void) { return ex->now; }

static void fibre_swap_own(int from, int to)
{
    memcpy(own[from].slots, tai_thread_slots, sizeof tai_thread_slots);
    own[from].list = tai_thread_list;
    own[from].note = tai_here;
    memcpy(tai_thread_slots, own[to].slots, sizeof tai_thread_slots);
    tai_thread_list = own[to].list;
    tai_here = own[to].note;
}

static int fibre_can_run(int f)
{
    const fibre *one = &ex->fibres[f];
    return !one->done && !one->waits && (one->wants == NULL || one->wants->held == 0);
}

static TEST_ATTRIBUTE((noinline)) void fibre_main(void)
{
    int f = ex->now;
    if (_setjmp(ex->fibres[f].top) == 0) {
        _longjmp(ex->home, 1);
    }
    f = ex->now;
    ex->body(f);
    ex->fibres[f].done = 1;
    if (!ex->fibres[1 - f].done) {
        ex->fibres[1 - f].waits = 0;
        if (!fibre_can_run(1 - f)) {
            ex->failed = "a thread is left waiting";
        } else {
            fibre_swap_own(f, 1 - f);
            ex->now = 1 - f;
            ex->fibres[1 - f].spins = 0;
            _longjmp(ex->fibres[1 - f].entered ? ex->fibres[1 - f].here : ex->fibres[1 - f].top, 1);
        }
    }
    _longjmp(ex->home, 1);
}

static void fibre_switch(int to)
{
    fibre *from = &ex->fibres[ex->now], *next = &ex->fibres[to];
    if (to == ex->now) {
        return;
    }
    fibre_swap_own(ex->now, to);
    ex->now = to;
    from->spins = 0;
    from->entered = 1;
    if (_setjmp(from->here) == 0) {
        _longjmp(next->entered ? next->here : next->top, 1);
    }
}

/* The run is over; what it was about is told. */
static void explorer_fail(const char *why)
{
    ex->failed = why;
    _longjmp(ex->home, 1);
}

/* This fibre cannot go on: another one must. */
static void fibre_give_way(void)
{
    int other = 1 - ex->now;
    ex->fibres[other].waits = 0; /* whatever it waits for may have happened */
    if (!fibre_can_run(other)) {
        if (fibre_can_run(ex->now)) {
            return;
        }
        explorer_fail("nobody can go on");
    }
    fibre_switch(other);
}

static place *explorer_place(const void *address)
{
    uint32_t at = (uint32_t)(tai_mix((uint64_t)(uintptr_t)address) % PLACES);
    place *p;
    while (ex->places[at].address != 0 && ex->places[at].address != (uintptr_t)address) {
        at = (at + 1) % PLACES;
    }
    p = &ex->places[at];
    if (p->address == 0 && ++ex->seen_count > PLACES / 2) {
        explorer_fail("runs do not repeat: too many addresses");
    }
    p->address = (uintptr_t)address;
    if (p->run != ex->runs) {
        p->run = ex->runs;
        p->written = p->read = 0;
    }
    return p;
}

static void explorer_grow_states(void)
{
    state *old = ex->states;
    uint32_t i, at, old_max = ex->state_max, mask = 2 * old_max - 1;
    ex->states = (state *)calloc(2 * (size_t)old_max, sizeof *old);
    must(ex->states != NULL, "no memory for states");
    ex->state_max = 2 * old_max;
    for (i = 0; i < old_max; i++) {
        if (old[i].taken) {
            for (at = (uint32_t)old[i].key & mask; ex->states[at].taken; at = (at + 1) & mask) {
            }
            ex->states[at] = old[i];
        }
    }
    free(old);
}

/* Whether the state was met before, with as many interruptions to spare; it is from now on. */
static int explorer_meets(uint64_t key, uint32_t spare)
{
    uint32_t at;
    if (4 * (uint64_t)ex->state_count >= 3 * (uint64_t)ex->state_max) {
        explorer_grow_states();
    }
    for (at = (uint32_t)key & (ex->state_max - 1); ex->states[at].taken; at = (at + 1) & (ex->state_max - 1)) {
        if (ex->states[at].key == key) {
            int known = ex->states[at].spare >= spare;
            ex->states[at].spare = known ? ex->states[at].spare : spare;
            return known;
        }
    }
    ex->states[at].key = key;
    ex->states[at].spare = spare;
    ex->states[at].taken = 1;
    ex->state_count++;
    return 0;
}

/* What has happened so far, in which order as far as that matters. */
static uint64_t explorer_past(void)
{
    return tai_mix(ex->fibres[0].past) + 3 * tai_mix(ex->fibres[1].past + 1);
}

/* Whether this very state was gone on from before. */
static int explorer_knows(void)
{
    const fibre *me = &ex->fibres[ex->now], *other = &ex->fibres[1 - ex->now];
    uint64_t key = explorer_past();
    key += (uint64_t)ex->now + 2 * (uint64_t)(other->wants != NULL) + 4 * (uint64_t)other->waits;
    key += 8 * (uint64_t)me->spins + 64 * (uint64_t)other->spins;
    key = tai_mix(key + (me->spins != 0 ? (uint64_t)(uintptr_t)me->spin << 9 : 0));
    return explorer_meets(key, (uint32_t)(ex->bound - ex->preemptions) + 1);
}

/* Before an access: perhaps another fibre goes on here. */
static void explorer_schedule(const void *address, int writes)
{
    int other = 1 - ex->now, was_shared, is_shared;
    fibre *me = &ex->fibres[ex->now];
    place *p;
    if (!ex->on) {
        return;
    }
    if (++ex->steps > STEPS_MAX) {
        explorer_fail("no end");
    }
    p = explorer_place(address);
    was_shared = p->used_by == 3 && p->written_by != 0;
    p->used_by |= (uint8_t)(1u << ex->now);
    p->written_by |= (uint8_t)(writes ? 1u << ex->now : 0);
    is_shared = p->used_by == 3 && p->written_by != 0;
    ex->shared_count += (uint32_t)(is_shared && !was_shared);
    if (!writes && me->spin == address && ++me->spins >= SPINS_MAX && !ex->fibres[other].done) {
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
        ex->fibres[other].waits = 0;
    }
    if (was_shared && fibre_can_run(other) && ex->choice_count < CHOICES_MAX) {
        int here = ex->choice_count;
        if (here >= ex->given) {
            if (!ex->every && explorer_knows()) {
                ex->known = 1;
                _longjmp(ex->home, 1);
            }
            ex->choices[here] = 0;
        }
        ex->could[here] = ex->preemptions < ex->bound;
        ex->choice_count++;
        if (ex->choices[here]) {
            ex->preemptions++;
            fibre_switch(other);
        }
    }
}

/* At the access itself: what happened before it. */
static void explorer_record(const void *address, int writes)
{
    if (ex->on) {
        place *p = explorer_place(address);
        fibre *me = &ex->fibres[ex->now];
        uint64_t past = tai_mix(me->past * 5 + (uint64_t)ex->now + 1);
        past = tai_mix(past + p->written + (uint64_t)(uintptr_t)address * 8 + (uint64_t)(writes != 0));
        if (writes) {
            past = tai_mix(past + p->read);
            p->written = past;
            p->read = 0;
        } else {
            p->read += past;
        }
        me->past = past;
    }
}

static void explorer_access(const void *address, int writes)
{
    explorer_schedule(address, writes);
    explorer_record(address, writes);
}

static uint32_t explorer_exchange32(uint32_t *p, uint32_t value)
{
    uint32_t was;
    explorer_access(p, 1);
    was = *p;
    if (ex->plant == PLANT_EXCHANGE) {
        explorer_access(p, 1);
    }
    *p = value;
    return was;
}

static int explorer_cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    int equal;
    explorer_schedule(p, 1);
    equal = *p == *expected;
    explorer_record(p, equal);
    if (!equal) {
        *expected = *p;
        return 0;
    }
    if (ex->plant == PLANT_CAS) {
        explorer_access(p, 1);
    }
    *p = desired;
    return 1;
}

static int explorer_casz(size_t *p, size_t *expected, size_t desired)
{
    int equal;
    explorer_schedule(p, 1);
    equal = *p == *expected;
    explorer_record(p, equal);
    if (!equal) {
        *expected = *p;
        return 0;
    }
    if (ex->plant == PLANT_CAS) {
        explorer_access(p, 1);
    }
    *p = desired;
    return 1;
}

static int explorer_yield(void)
{
    explorer_wait();
    return 0;
}

static void explorer_wait(void)
{
    if (ex->on && !ex->fibres[1 - ex->now].done) {
        fibre *me = &ex->fibres[ex->now];
        me->waits = 1;
        fibre_give_way();
        me->waits = 0;
    }
}

static void explorer_acquire(explorer_lock *lock)
{
    explorer_schedule(lock, 1);
    while (ex->on && lock->held && ex->plant != PLANT_LOCK) {
        ex->fibres[ex->now].wants = lock;
        fibre_give_way();
        ex->fibres[ex->now].wants = NULL;
    }
    lock->held = 1;
    explorer_record(lock, 1);
}

static void explorer_release(explorer_lock *lock)
{
    explorer_access(lock, 1);
    lock->held = 0;
}

/* As fibre f, outside of runs. */
static void explorer_become(int f)
{
    fibre_swap_own(ex->now, f);
    ex->now = f;
}

static void explorer_begin(void)
{
    int f;
    memory_begin();
    ex = (explorer *)system_map(sizeof *ex);
    must(ex != NULL, "no memory");
    ex->state_max = 4096;
    ex->states = (state *)calloc(ex->state_max, sizeof *ex->states);
    must(ex->states != NULL, "no memory");
    ex->bound = 3;
    for (f = 0; f < FIBRES; f++) {
        fibre *one = &ex->fibres[f];
        memcpy(own[f].slots, tai_thread_slots, sizeof tai_thread_slots);
        one->stack = (char *)system_map(STACK_BYTES);
        must(one->stack != NULL, "no memory");
        ex->now = f;
        (void)getcontext(&one->context);
        one->context.uc_stack.ss_sp = one->stack;
        one->context.uc_stack.ss_size = STACK_BYTES;
        one->context.uc_link = NULL;
        makecontext(&one->context, fibre_main, 0);
        if (_setjmp(ex->home) == 0) {
            (void)setcontext(&one->context);
        }
    }
    ex->now = 0;
}

/* One run, from what memory_keep kept, with the first fibre first, which was the thread then. */
static void explorer_run(void (*body)(int), int first)
{
    int f;
    memory_restore();
    ex->runs++;
    ex->body = body;
    ex->choice_count = ex->preemptions = ex->steps = ex->known = 0;
    ex->now = first;
    for (f = 0; f < FIBRES; f++) {
        fibre *one = &ex->fibres[f];
        one->entered = one->done = one->waits = one->spins = 0;
        one->wants = NULL;
        one->spin = NULL;
        one->past = 0;
    }
    ex->on = 1;
    if (_setjmp(ex->home) == 0) {
        _longjmp(ex->fibres[first].top, 1);
    }
    ex->on = 0;
    ex->finished += !ex->known && ex->failed == NULL;
}

/* The next schedule; 0: there is none. */
static int explorer_next(void)
{
    int at = ex->choice_count;
    while (at-- > 0) {
        if (!ex->choices[at] && ex->could[at]) {
            ex->choices[at] = 1;
            ex->given = at + 1;
            return 1;
        }
    }
    return 0;
}

static void explorer_forget_places(void)
{
    memset(ex->places, 0, sizeof ex->places);
    ex->shared_count = ex->seen_count = 0;
}

static void explorer_forget_states(void)
{
    memset(ex->states, 0, ex->state_max * sizeof *ex->states);
    ex->state_count = 0;
}

/*---------------------------------------------------------------------------------------------------------
  Operations, each on a pool that both threads have used
  -------------------------------------------------------------------------------------------------------*/
#define MANY 3 /* blocks at a time for the other one */
static struct {
    ta_pool *pool;
    ta_pool *sibling;         /* over the same budget */
    ta_pool *other;           /* over its own */
    ta_budget *budget;
    ta_arena *arena;
    ta_direct *direct;
    ta_dynamic *dynamic;
    ta_handle tensor;
    int tensor_freed;         /* how often */
    const char *tags[2];
    unsigned char *many[2][MANY];
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

/* Of a block's owner, at its ends and every so many bytes. */
static void put_marks(unsigned char *block, size_t size, int mark)
{
    size_t i;
    if (block != NULL) {
        memory_touch(block, size, SPOT_STRIDE);
        for (i = 0; i < size; i += SPOT_STRIDE) {
            block[i] = (unsigned char)mark;
        }
        block[size - 1] = (unsigned char)mark;
    }
}

static int has_marks(const unsigned char *block, size_t size, int mark)
{
    size_t i;
    int kept = block != NULL && block[size - 1] == mark;
    for (i = 0; i < size && kept; i += SPOT_STRIDE) {
        kept = block[i] == mark;
    }
    return kept;
}

static unsigned char *take(size_t size)
{
    unsigned char *block = (unsigned char *)ta_pool_alloc(world.pool, size, NULL);
    expect(block != NULL, "allocated");
    put_marks(block, size, ex->now + 1);
    return block;
}

static void give(unsigned char *block, size_t size, int mark)
{
    expect(has_marks(block, size, mark), "contents kept");
    expect(ta_pool_free_sized(world.pool, block, size) == TA_OK, "freed");
}

#define SMALL 200
#define LARGE 70000
#define LIMITED ((size_t)300000)
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
    unsigned char *block = take(LARGE);
    expect(ta_pool_resize_in_place(world.pool, block, LARGE / 2) == TA_OK, "shrunk");
    put_marks(block, LARGE / 2, me + 1);
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
    unsigned char *block = (unsigned char *)ta_pool_alloc_zeroed(world.pool, SMALL, NULL);
    expect(has_marks(block, SMALL, 0), "zeroed");
    put_marks(block, SMALL, me + 1);
    give(block, SMALL, me + 1);
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
    expect(count >= 0 && count <= 16, "a walk sees what there is");
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
    void *block = ta_pool_alloc(world.sibling, LIMITED, NULL);
    expect(block == NULL || ta_pool_free(world.sibling, block) == TA_OK, "freed");
    (void)me;
}

static void op_arena(int me)
{
    unsigned char *block = (unsigned char *)ta_arena_alloc(world.arena, 500, NULL);
    expect(block != NULL, "allocated");
    put_marks(block, 500, me + 1);
    expect(has_marks(block, 500, me + 1), "contents kept");
    expect(ta_allocator_free(ta_arena_allocator(world.arena), block, 500, 0, 0) == TA_OK, "freed");
}

static void op_direct(int me)
{
    ta_allocator direct = ta_direct_allocator(world.direct);
    ta_request request;
    unsigned char *block;
    memset(&request, 0, sizeof request);
    request.size_bytes = 8000;
    block = (unsigned char *)ta_allocator_alloc(direct, &request, NULL);
    expect(block != NULL, "allocated");
    put_marks(block, 8000, me + 1);
    expect(has_marks(block, 8000, me + 1), "contents kept");
    expect(ta_allocator_free(direct, block, 8000, 0, 0) == TA_OK, "freed");
}

static void op_free_others_many(int me) /* comes back to the one who allocated, who takes some again */
{
    int i;
    for (i = 0; i < MANY; i++) {
        give(world.many[me][i], SMALL, 2 - me);
    }
    op_small(me);
}

static void op_tag(int me) /* both for the first time */
{
    const char *before = ta_tag_begin("a name");
    world.tags[me] = ta_tag_get();
    expect(world.tags[me] != NULL && strcmp(world.tags[me], "a name") == 0, "named");
    ta_tag_end(before);
}

static void op_destroy(int me) /* a pool that both have used, while the other one may exit */
{
    expect(ta_pool_destroy(world.other) == TA_OK, "destroyed");
    world.other = NULL;
    (void)me;
}

static void bounds_of(ta_shape_bounds *bounds, int64_t expected, int64_t max)
{
    int64_t min = 1;
    expect(ta_shape_bounds_init(bounds, TA_U8, 1, &min, &expected, &max) == TA_OK, "bounds");
}

static void use_tensor(int me, int64_t first, int64_t then, int64_t max) /* begins, grows, ends */
{
    ta_shape_bounds bounds;
    ta_handle handle;
    unsigned char *data;
    bounds_of(&bounds, first, max);
    expect(ta_dynamic_alloc(world.dynamic, &bounds, &handle) == TA_OK, "allocated");
    put_marks((unsigned char *)ta_dynamic_get_data(world.dynamic, handle), (size_t)first, me + 1);
    data = (unsigned char *)ta_dynamic_resize_data(world.dynamic, handle, &then, 1, NULL);
    expect(has_marks(data, (size_t)first, me + 1), "contents kept");
    put_marks(data, (size_t)then, me + 1);
    expect(has_marks(data, (size_t)then, me + 1), "contents kept");
    expect(ta_dynamic_free(world.dynamic, handle) == TA_OK, "freed");
}

static void op_dynamic(int me) { use_tensor(me, 3000, 70000, 200000); }       /* in a range */
static void op_dynamic_small(int me) { use_tensor(me, 100, 150, 200); }       /* in a block */

static void op_dynamic_resize(int me) /* of a tensor that both have */
{
    int64_t size = me == 0 ? 5000 : 9000;
    ta_result result = ta_dynamic_resize(world.dynamic, world.tensor, &size, 1);
    expect(result == TA_OK || result == TA_ERROR_STALE, "resized");
}

static void op_dynamic_free(int me) /* the same; one of two comes too late */
{
    ta_result result = ta_dynamic_free(world.dynamic, world.tensor);
    expect(result == TA_OK || result == TA_ERROR_STALE, "freed once");
    world.tensor_freed += result == TA_OK;
    (void)me;
}

static void op_dynamic_stats(int me)
{
    ta_dynamic_stats s;
    expect(ta_dynamic_get_stats(world.dynamic, &s) == TA_OK && s.wasted_bytes == s.capacity_bytes - s.effective_bytes,
           "statistics");
    (void)me;
}

static const struct operation {
    const char *name;
    void (*run)(int me);
} operations[] = {
    {"small", op_small}, {"large", op_large}, {"free_others_small", op_free_others_small},
    {"free_others_large", op_free_others_large}, {"other_size", op_other_size}, {"resize", op_resize},
    {"realloc", op_realloc}, {"zeroed", op_zeroed}, {"flush", op_flush}, {"trim", op_trim}, {"stats", op_stats},
    {"walk", op_walk}, {"describe", op_describe}, {"bad_free", op_bad_free}, {"exit", op_exit}, {"limit", op_limit},
    {"arena", op_arena}, {"direct", op_direct}, {"free_others_many", op_free_others_many},
    {"tag", op_tag}, {"destroy", op_destroy}, {"dynamic", op_dynamic}, {"dynamic_small", op_dynamic_small},
    {"dynamic_resize", op_dynamic_resize}, {"dynamic_free", op_dynamic_free}, {"dynamic_stats", op_dynamic_stats},
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

static int operation_of(const char *name)
{
    int i = 0;
    while (i < OPERATIONS && strcmp(operations[i].name, name) != 0) {
        i++;
    }
    must(i < OPERATIONS, name);
    return i;
}

static int takes_part(void (*operation)(int))
{
    return operations[world.operation[0]].run == operation || operations[world.operation[1]].run == operation;
}

static void run_operation(int me) { operations[world.operation[me]].run(me); }

/* Beside the pool, what only some operations need. */
static void set_up_more(const ta_pool_desc *pool_desc)
{
    int f;
    if (takes_part(op_limit)) {
        CHECK_OK(ta_pool_create(pool_desc, &world.sibling));
    }
    if (takes_part(op_destroy)) {
        ta_pool_desc desc = *pool_desc;
        desc.budget = NULL;
        CHECK_OK(ta_pool_create(&desc, &world.other));
        for (f = 1; f >= 0; f--) {
            explorer_become(f);
            CHECK_OK(ta_pool_free(world.other, ta_pool_alloc(world.other, SMALL, NULL)));
        }
    }
    if (takes_part(op_arena)) {
        ta_arena_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.range_bytes = (size_t)1 << 20;
        CHECK_OK(ta_arena_create(&desc, &world.arena));
    }
    if (takes_part(op_direct)) {
        CHECK_OK(ta_direct_create(NULL, &world.direct));
    }
    if (takes_part(op_dynamic) || takes_part(op_dynamic_small) || takes_part(op_dynamic_resize) ||
        takes_part(op_dynamic_free) || takes_part(op_dynamic_stats)) {
        ta_dynamic_desc desc;
        ta_shape_bounds bounds;
        memset(&desc, 0, sizeof desc);
        desc.budget = pool_desc->budget;
        desc.upstream = ta_pool_allocator(world.pool);
        desc.range_bytes = (size_t)1 << 20;
        desc.handle_count_max = 64;
        CHECK_OK(ta_dynamic_create(&desc, &world.dynamic));
        bounds_of(&bounds, 4000, 100000);
        CHECK_OK(ta_dynamic_alloc(world.dynamic, &bounds, &world.tensor));
        put_marks((unsigned char *)ta_dynamic_get_data(world.dynamic, world.tensor), 4000, 7);
    }
}

/* A pool that both have used, with blocks of each for the other; the first thread is favoured at its gate. */
static void set_up(void)
{
    ta_pool_desc desc;
    ta_budget_desc budget_desc;
    ta_budget_stats budget;
    unsigned char *spare[4];
    int f, i;
    memset(&desc, 0, sizeof desc);
    memset(&budget_desc, 0, sizeof budget_desc);
    budget_desc.limit_bytes = (size_t)4 << 20;
    CHECK_OK(ta_budget_create(&budget_desc, &world.budget));
    desc.budget = world.budget;
    desc.range_bytes = (size_t)1 << 20;
    desc.block_count_max = 64;
    desc.huge_pages = TA_HUGE_PAGES_OFF;
    CHECK_OK(ta_pool_create(&desc, &world.pool));
    for (f = 1; f >= 0; f--) {
        explorer_become(f);
        world.small[1 - f] = take(SMALL);
        world.large[1 - f] = take(LARGE);
        for (i = 0; i < MANY; i++) {
            world.many[1 - f][i] = take(SMALL);
        }
        op_small(f);
        for (i = 0; i < 12; i++) {
            op_large(f);
        }
    }
    set_up_more(&desc);
    for (i = 0; i < 4 && world.sibling != NULL; i++) { /* to be given back; the other one has enough without it */
        spare[i] = take(LARGE);
    }
    for (i = 0; i < 4 && world.sibling != NULL; i++) {
        give(spare[i], LARGE, ex->now + 1);
    }
    world.live = 4 + 2 * MANY;
    for (f = 0; f < 2; f++) {
        const char *name = operations[world.operation[f]].name;
        world.live -= strcmp(name, "free_others_many") == 0 ? MANY : strncmp(name, "free_others", 11) == 0;
    }
    if (world.sibling != NULL) { /* what it takes is to be had only where the pool gives some back */
        CHECK_OK(ta_budget_get_stats(world.budget, &budget));
        CHECK_OK(ta_budget_set_limit(world.budget, budget.reserved_bytes + LIMITED - LARGE));
    }
}

/* The books of what the operations used beside the pool. */
static void tear_down_more(void)
{
    ta_dynamic_stats d;
    expect(world.sibling == NULL || ta_pool_check(world.sibling) == TA_OK, "the sibling is sound");
    expect(world.tags[0] == NULL || world.tags[1] == NULL || world.tags[0] == world.tags[1], "one name, one tag");
    if (world.dynamic != NULL) {
        expect(world.tensor_freed <= 1, "freed once");
        expect(ta_dynamic_get_stats(world.dynamic, &d) == TA_OK, "statistics");
        expect(d.allocation_count - d.free_count == d.handle_count &&
               d.handle_count == 1 - (size_t)world.tensor_freed, "tensors are counted");
        expect(world.tensor_freed || *(unsigned char *)ta_dynamic_get_data(world.dynamic, world.tensor) == 7,
               "contents kept");
    }
}

static void tear_down(void)
{
    ta_stats s, t;
    ta_budget_stats budget;
    memset(&t, 0, sizeof t);
    expect(ta_pool_check(world.pool) == TA_OK, "the pool is sound");
    expect(ta_pool_get_stats(world.pool, &s) == TA_OK && s.live_count == world.live, "live blocks are counted");
    expect(s.allocation_count - s.deallocation_count == s.live_count, "calls are counted");
    tear_down_more();
    expect(world.sibling == NULL || ta_pool_get_stats(world.sibling, &t) == TA_OK, "statistics");
    expect(world.dynamic != NULL || (ta_budget_get_stats(world.budget, &budget) == TA_OK &&
           budget.reserved_bytes == s.reserved_bytes + t.reserved_bytes), "the budget adds up");
    expect(ta_dynamic_destroy(world.dynamic) == TA_OK && ta_arena_destroy(world.arena) == TA_OK &&
           ta_direct_destroy(world.direct) == TA_OK && ta_pool_destroy(world.sibling) == TA_OK &&
           ta_pool_destroy(world.other) == TA_OK && ta_pool_destroy(world.pool) == TA_OK &&
           ta_budget_destroy(world.budget) == TA_OK, "destroyed");
}

/* Which operations, which first, where interrupted. */
static void tell_schedule(int first)
{
    int i;
    test_context("%s against %s, %s first, interrupted at", operations[world.operation[0]].name,
                 operations[world.operation[1]].name, operations[world.operation[first]].name);
    for (i = 0; i < ex->choice_count; i++) {
        size_t length = strlen(test_now.context);
        if (ex->choices[i]) {
            (void)snprintf(test_now.context + length, sizeof test_now.context - length, " %d", i);
        }
    }
    CHECK_STRING(world.wrong != NULL ? world.wrong : ex->failed, "");
    test_context("%s", "");
}

/* All that a run has left behind, hashed. */
static uint64_t memory_hash(void)
{
    uint64_t hash = 0, word;
    size_t at;
    uint32_t i;
    for (at = 0; at + 8 <= image_bytes(); at += 8) {
        memcpy(&word, __data_start + at, 8);
        hash = tai_mix(hash + word);
    }
    for (i = 0; i < memory->kept; i++) {
        for (at = 0; at + 8 <= memory->spots[i].size; at += 8) {
            memcpy(&word, memory->spots[i].ptr + at, 8);
            hash = tai_mix(hash + word);
        }
    }
    return hash;
}

/* How runs have ended: what happened before what, and what was left behind. */
#define ENDS_MAX 65536
typedef struct end { uint64_t past, memory; } end;
typedef struct end_set { end ends[ENDS_MAX]; uint32_t count, unlike; } end_set;

static void note_end(end_set *set)
{
    uint64_t past = explorer_past();
    uint32_t at = (uint32_t)past % ENDS_MAX;
    explorer_become(0);
    memset(&own[0], 0, sizeof own[0]); /* what it was when the fibre was left last */
    while (set->ends[at].past != 0 && set->ends[at].past != past) {
        at = (at + 1) % ENDS_MAX;
    }
    if (set->ends[at].past == 0) {
        set->ends[at].past = past;
        set->ends[at].memory = memory_hash();
        set->count++;
        must(set->count < ENDS_MAX / 2, "too many ends");
    }
    set->unlike += set->ends[at].memory != memory_hash();
}

/* All schedules of two operations; 0: one went wrong, and was told. ends: NULL, or filled. */
static int explore_pair(int a, int b, end_set *ends)
{
    uint32_t shared;
    int first;
    explorer_forget_places();
    do {
        shared = ex->shared_count;
        explorer_forget_states();
        if (ends != NULL) {
            memset(ends, 0, sizeof *ends);
        }
        memory_forget();
        world.operation[0] = a;
        world.operation[1] = b;
        set_up();
        for (first = 0; first < 2; first++) {
            explorer_become(first);
            memory_keep();
            ex->given = 0;
            do {
                explorer_run(run_operation, first);
                if (ex->failed == NULL && !ex->known) {
                    if (ends != NULL) {
                        note_end(ends);
                    }
                    if (ex->every || !explorer_meets(~explorer_past(), 1)) { /* else it has ended like this before */
                        tear_down();
                    }
                }
                if (world.wrong != NULL || ex->failed != NULL) {
                    tell_schedule(first);
                    ex->failed = NULL;
                    return 0;
                }
            } while (explorer_next());
            memory_restore();
            ex->now = first;
            must(memory_is_back(), "a run has written where nobody knows");
        }
    } while (ex->shared_count != shared);
    return 1;
}

static char **only;
static int only_count, list_only, part, parts = 1;

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
    memory_forget();
    memory_keep();
    explorer_forget_places();
    do {
        shared = ex->shared_count;
        explorer_forget_states();
        ex->given = 0;
        do {
            explorer_run(lose_a_step, 0);
            lost += !ex->known && counter == 1;
            kept += !ex->known && counter == 2;
        } while (explorer_next());
    } while (ex->shared_count != shared);
    memory_restore();
    CHECK(lost > 0);
    CHECK(kept > 0);
}

/* What is left out leads nowhere else: the same ends are reached when no state is recognised. */
static void leaves_out_only_what_is_known(void)
{
    static const char *const pairs[][2] = {{"large", "large"}, {"trim", "large"}, {"resize", "exit"},
        {"free_others_large", "resize"}, {"other_size", "stats"}, {"walk", "small"}};
    end_set *all = (end_set *)system_map(sizeof *all), *some = (end_set *)system_map(sizeof *some);
    int bound = ex->bound;
    size_t i;
    must(all != NULL && some != NULL, "no memory");
    ex->bound = 2;
    for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        int a = operation_of(pairs[i][0]), b = operation_of(pairs[i][1]);
        uint64_t finished = ex->finished, between;
        ex->every = 1;
        CHECK(explore_pair(a, b, all));
        between = ex->finished;
        ex->every = 0;
        CHECK(explore_pair(a, b, some));
        test_context("%s against %s", pairs[i][0], pairs[i][1]);
        CHECK_EQ(some->count, all->count);
        CHECK_EQ(all->unlike + some->unlike, 0);
        CHECK_LT(ex->finished - between, between - finished);
        if (list_only) {
            printf("%s: %llu schedules to the end, %llu without those known, %u ends\n", test_now.context,
                   (unsigned long long)(between - finished), (unsigned long long)(ex->finished - between), all->count);
        }
        test_context("%s", "");
    }
    ex->bound = bound;
}

/* A scheduler that breaks a promise is found out: in a process of its own, for the header may do anything then. */
static void finds_what_is_planted(void)
{
    int plant, a;
    for (plant = PLANT_LOCK; plant < PLANT_COUNT; plant++) {
        int status = 0;
        pid_t child;
        fflush(test_now.out);
        child = fork();
        if (child == 0) {
            int fine = 1;
            test_now.out = fopen("/dev/null", "w");
            (void)alarm(60);
            ex->plant = (explorer_plant)plant;
            ex->bound = 2;
            for (a = 0; a < OPERATIONS && fine; a++) {
                fine = explore_pair(a, operations[a].run == op_destroy ? operation_of("exit") : a, NULL);
            }
            _exit(fine ? 0 : 1);
        }
        CHECK(child > 0);
        CHECK(waitpid(child, &status, 0) == child);
        test_context("%s", plant_names[plant]);
        CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
        CHECK(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM);
        test_context("%s", "");
    }
}

static void every_pair_of_operations(void)
{
    int a, b, pairs = 0, number = 0;
    uint64_t runs = ex->runs, finished = ex->finished, most = 0;
    for (a = 0; a < OPERATIONS; a++) {
        for (b = a; b < OPERATIONS && test_now.failures == 0; b++) {
            int is_allowed = operations[a].run != op_destroy || a != b; /* by one of them */
            if (is_allowed && (is_asked_for(a) || is_asked_for(b)) && number++ % parts == part) {
                uint64_t before = ex->runs, count;
                CHECK(explore_pair(a, b, NULL));
                count = ex->runs - before;
                most = count > most ? count : most;
                pairs++;
                if (list_only) {
                    printf("%-20s %-20s %8llu schedules %8u states\n", operations[a].name, operations[b].name,
                           (unsigned long long)count, ex->state_count);
                }
            }
        }
    }
    CHECK(pairs > 0);
    printf("%d pairs, %llu schedules, %llu of them to the end, at most %llu of one, at most %d interruptions: ", pairs,
           (unsigned long long)(ex->runs - runs), (unsigned long long)(ex->finished - finished),
           (unsigned long long)most, ex->bound);
}

static int plant_of(const char *name)
{
    int i;
    for (i = 0; i < PLANT_COUNT; i++) {
        if (strcmp(plant_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {TEST_CASE(finds_a_lost_update), TEST_CASE(leaves_out_only_what_is_known),
        TEST_CASE(finds_what_is_planted), TEST_CASE(every_pair_of_operations)};
    char *none[] = {argv[0], NULL};
    int i;
    explorer_begin();
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--bound") == 0 && i + 1 < argc) {
            ex->bound = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--part") == 0 && i + 1 < argc && sscanf(argv[i + 1], "%d/%d", &part, &parts) == 2 &&
                   part >= 0 && part < parts) {
            i++;
        } else if (strcmp(argv[i], "--list") == 0) {
            list_only = 1;
        } else if (strcmp(argv[i], "--all") == 0) {
            ex->every = 1;
        } else if (strcmp(argv[i], "--plant") == 0 && i + 1 < argc && plant_of(argv[i + 1]) >= 0) {
            ex->plant = (explorer_plant)plant_of(argv[++i]);
        } else {
            printf("usage: [--bound N] [--part I/N] [--list] [--all] [--plant lock|cas|exchange] [PART...]\n");
            return 2;
        }
    }
    only = argv + i;
    only_count = argc - i;
    tai_process_init(); /* a key for threads, once */
    memcpy(memory->pristine, __data_start, image_bytes());
    return test_main(1, none, cases, sizeof cases / sizeof cases[0]);
}
