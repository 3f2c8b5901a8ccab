/* threads.c - several threads on one allocator, without touching the memory.

   build   cc -O2 -DNDEBUG -I. bench/threads.c -o threads -pthread
   run     ./threads [--csv] [--smoke] [--threads N]        1 to N threads, default 4

   Modes
       own                 each thread keeps 64 live blocks; a random one of its own is freed and replaced
       producer_consumer   one thread allocates and hands the block over a ring of 256 places, another frees it;
                           four threads are two such pairs
   Rows
       ta_pool   one pool for all threads; default options, ta_pool_free without a size
       malloc    malloc and free, or whatever is preloaded in their place
       p2_tls    each thread has its own stacks of free blocks, one per power of two: about the least work there is. Not
                 for producer_consumer, where it would never get a block back
       p2_spin   the same stacks, one set for all under a spin lock

   How it measures: wall time from a common start until a thread has done its pairs, per pair, mean over the threads;
   median of eleven rounds, those of the rows in turn. Threads are pinned to processors if there are enough of them;
   with more threads than processors, waiting for a turn is part of the time. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define NOINLINE __attribute__((noinline))
#define LINE_BYTES 128 /* two cache lines: processors fetch them in pairs */

enum {
    THREADS_MAX = 64,
    THREADS_DEFAULT = 4,
    WINDOW = 64,
    RING = 256,
    ROUNDS = 11,
    ROUND_NS = 10000000,
    SMOKE_ROUNDS = 2,
    SMOKE_ROUND_NS = 100000,
    PAIRS_MIN = 200,
    PAIRS_MAX = 3000000
};

static const size_t sizes_bytes[] = {256, 4096, 65536, 1048576, 16777216};
enum { SIZE_COUNT = sizeof(sizes_bytes) / sizeof(sizes_bytes[0]) };

typedef enum bench_mode { MODE_OWN, MODE_RING, MODE_COUNT } bench_mode;
static const char *const mode_names[] = {"own", "producer_consumer"};

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Waits a little; gives the processor away when that has not helped, for the other thread may need it. */
static void relax(unsigned *spins)
{
    if (++*spins % 1024 == 0) {
        sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/*---------------------------------------------------------------------------------------------------------
  p2: free blocks on stacks beside the blocks, fresh ones carved from one region of addresses
  -------------------------------------------------------------------------------------------------------*/

enum { STACK_BLOCKS_MAX = 4096, STACK_COUNT = 64 };

typedef struct free_stack {
    size_t count;
    void *blocks[STACK_BLOCKS_MAX];
} free_stack;

typedef struct p2 {
    char *region;
    size_t region_bytes;
    size_t used_bytes;
    free_stack stacks[STACK_COUNT];
    char padding[LINE_BYTES];
    char locked;
    char padding_after[LINE_BYTES];
} p2;

static NOINLINE void *p2_carve(p2 *heap, size_t bytes)
{
    size_t alignment = bytes >= 4096 ? 4096 : 64;
    size_t at = (heap->used_bytes + alignment - 1) & ~(alignment - 1);
    if (at > heap->region_bytes || bytes > heap->region_bytes - at) {
        return NULL;
    }
    heap->used_bytes = at + bytes;
    return heap->region + at;
}

static unsigned p2_class(size_t bytes) { return bytes <= 64 ? 6 : 64 - (unsigned)__builtin_clzll(bytes - 1); }

static inline void *p2_take(p2 *heap, size_t size_bytes)
{
    unsigned class_index = p2_class(size_bytes);
    free_stack *s = &heap->stacks[class_index];
    return LIKELY(s->count > 0) ? s->blocks[--s->count] : p2_carve(heap, (size_t)1 << class_index);
}

static inline void p2_give(p2 *heap, void *ptr, size_t size_bytes)
{
    free_stack *s = &heap->stacks[p2_class(size_bytes)];
    if (LIKELY(s->count < STACK_BLOCKS_MAX)) { /* always: fewer blocks are live */
        s->blocks[s->count++] = ptr;
    }
}

static p2 *p2_open(void)
{
    size_t bytes = (size_t)1 << (sizeof(size_t) > 4 ? 38 : 28);
    p2 *heap = mmap(NULL, sizeof(*heap), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED) {
        return NULL;
    }
    for (; bytes >= 65536; bytes /= 8) { /* addresses may be limited, and others want some too */
        void *ptr = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ptr != MAP_FAILED) {
            heap->region = ptr;
            heap->region_bytes = bytes;
            return heap;
        }
    }
    munmap(heap, sizeof(*heap));
    return NULL;
}

static void p2_close(p2 *heap)
{
    if (heap != NULL) {
        munmap(heap->region, heap->region_bytes);
        munmap(heap, sizeof(*heap));
    }
}

/*---------------------------------------------------------------------------------------------------------
  Rows
  -------------------------------------------------------------------------------------------------------*/

static __thread p2 *own_p2; /* of p2_tls, set when a thread starts */

static void *spin_open(void) { return p2_open(); }
static void spin_close(void *self) { p2_close(self); }

static inline void spin_lock(p2 *heap)
{
    unsigned spins = 0;
    while (__atomic_test_and_set(&heap->locked, __ATOMIC_ACQUIRE)) {
        relax(&spins);
    }
}

static void *spin_alloc(void *self, size_t size_bytes)
{
    void *ptr;
    spin_lock(self);
    ptr = p2_take(self, size_bytes);
    __atomic_clear(&((p2 *)self)->locked, __ATOMIC_RELEASE);
    return ptr;
}

static void spin_free(void *self, void *ptr, size_t size_bytes)
{
    spin_lock(self);
    p2_give(self, ptr, size_bytes);
    __atomic_clear(&((p2 *)self)->locked, __ATOMIC_RELEASE);
}

/* self: one p2 for each thread. */
static void *tls_open(void)
{
    static p2 *heaps[THREADS_MAX];
    int i;
    for (i = 0; i < THREADS_MAX; ++i) {
        heaps[i] = NULL;
    }
    return heaps;
}

static void tls_close(void *self)
{
    p2 **heaps = self;
    int i;
    for (i = 0; i < THREADS_MAX; ++i) {
        p2_close(heaps[i]);
    }
}

static int tls_enter(void *self, int thread_index)
{
    p2 **heaps = self;
    if (heaps[thread_index] == NULL) {
        heaps[thread_index] = p2_open();
    }
    own_p2 = heaps[thread_index];
    return own_p2 != NULL;
}

static void *tls_alloc(void *self, size_t size_bytes)
{
    (void)self;
    return p2_take(own_p2, size_bytes);
}

static void tls_free(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    p2_give(own_p2, ptr, size_bytes);
}

static void *malloc_open(void)
{
    static int token;
    return &token;
}

static void malloc_close(void *self) { (void)self; }

static void *malloc_alloc(void *self, size_t size_bytes)
{
    (void)self;
    return malloc(size_bytes);
}

static void malloc_free(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)size_bytes;
    free(ptr);
}

static void *pool_open(void)
{
    ta_pool *pool;
    return ta_pool_create(NULL, &pool) == TA_OK ? pool : NULL;
}

static void pool_close(void *self) { (void)ta_pool_destroy(self); }

static void *pool_alloc(void *self, size_t size_bytes) { return ta_pool_alloc(self, size_bytes, NULL); }

static void pool_free(void *self, void *ptr, size_t size_bytes)
{
    (void)size_bytes;
    (void)ta_pool_free(self, ptr);
}

typedef struct row_kind {
    const char *name;
    int is_pool;
    int can_hand_over; /* a block may be freed by another thread and used again */
    void *(*open)(void);
    void (*close)(void *self);
    int (*enter)(void *self, int thread_index); /* NULL, or called first in each thread; 0: no memory */
    void *(*alloc)(void *self, size_t size_bytes);
    void (*free)(void *self, void *ptr, size_t size_bytes);
} row_kind;

static const row_kind row_kinds[] = {
    {"ta_pool", 1, 1, pool_open, pool_close, NULL, pool_alloc, pool_free},
    {"malloc", 0, 1, malloc_open, malloc_close, NULL, malloc_alloc, malloc_free},
    {"p2_tls", 0, 0, tls_open, tls_close, tls_enter, tls_alloc, tls_free},
    {"p2_spin", 0, 1, spin_open, spin_close, NULL, spin_alloc, spin_free},
};
enum { ROW_COUNT = sizeof(row_kinds) / sizeof(row_kinds[0]) };

/*---------------------------------------------------------------------------------------------------------
  One round: threads start together and do their pairs
  -------------------------------------------------------------------------------------------------------*/

typedef struct ring {
    uint64_t head; /* written by the producer */
    char padding_head[LINE_BYTES];
    uint64_t tail; /* written by the consumer */
    char padding_tail[LINE_BYTES];
    void *blocks[RING];
    char padding_blocks[LINE_BYTES];
} ring;

typedef struct start_line {
    int arrived;
    int expected;
} start_line;

typedef struct worker {
    const row_kind *kind;
    void *self;
    size_t size_bytes;
    uint64_t pairs;
    start_line *start;
    ring *ring;
    int index;
    int processor; /* -1: not pinned */
    int failed;
    double ns; /* per pair; < 0: this thread does not count */
    char padding[LINE_BYTES];
} worker;

static void wait_for_start(start_line *line)
{
    unsigned spins = 0;
    __atomic_add_fetch(&line->arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&line->arrived, __ATOMIC_ACQUIRE) < line->expected) {
        relax(&spins);
    }
}

static void enter_thread(worker *w)
{
#ifdef __linux__
    if (w->processor >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)w->processor, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
    }
#endif
    if (w->kind->enter != NULL && !w->kind->enter(w->self, w->index)) {
        fputs("threads: no memory for p2_tls\n", stderr);
        exit(1);
    }
}

/* The compiler must take it that ptr is used. */
static void keep(void *ptr) { __asm__ volatile("" : : "r"(ptr) : "memory"); }

static void *run_own(void *arg)
{
    worker *w = arg;
    void *(*const alloc)(void *, size_t) = w->kind->alloc;
    void (*const release)(void *, void *, size_t) = w->kind->free;
    uint64_t seed = UINT64_C(0x9E3779B97F4A7C15) * (uint64_t)(w->index + 1);
    void *window[WINDOW];
    uint64_t start;
    uint64_t i;
    enter_thread(w);
    for (i = 0; i < WINDOW; ++i) {
        window[i] = alloc(w->self, w->size_bytes);
    }
    wait_for_start(w->start);
    start = wall_ns();
    for (i = 0; i < w->pairs; ++i) {
        void **ptr;
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ptr = &window[(seed >> 33) % WINDOW];
        if (LIKELY(*ptr != NULL)) {
            release(w->self, *ptr, w->size_bytes);
        }
        *ptr = alloc(w->self, w->size_bytes);
        keep(*ptr);
    }
    w->ns = (double)(wall_ns() - start) / (double)w->pairs;
    for (i = 0; i < WINDOW; ++i) {
        w->failed |= window[i] == NULL;
        if (window[i] != NULL) {
            release(w->self, window[i], w->size_bytes);
        }
    }
    return NULL;
}

static void *run_producer(void *arg)
{
    worker *w = arg;
    ring *r = w->ring;
    uint64_t head = 0;
    uint64_t tail = 0;
    unsigned spins = 0;
    uint64_t start;
    enter_thread(w);
    wait_for_start(w->start);
    start = wall_ns();
    while (head < w->pairs) {
        void *ptr = w->kind->alloc(w->self, w->size_bytes);
        w->failed |= ptr == NULL;
        while (head - tail >= RING) {
            tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
            if (head - tail >= RING) {
                relax(&spins);
            }
        }
        r->blocks[head % RING] = ptr;
        __atomic_store_n(&r->head, ++head, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) != head) {
        relax(&spins);
    }
    w->ns = (double)(wall_ns() - start) / (double)w->pairs;
    return NULL;
}

static void *run_consumer(void *arg)
{
    worker *w = arg;
    ring *r = w->ring;
    uint64_t head = 0;
    uint64_t tail = 0;
    unsigned spins = 0;
    enter_thread(w);
    wait_for_start(w->start);
    while (tail < w->pairs) {
        void *ptr;
        while (tail == head) {
            head = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);
            if (tail == head) {
                relax(&spins);
            }
        }
        ptr = r->blocks[tail % RING];
        if (LIKELY(ptr != NULL)) {
            w->kind->free(w->self, ptr, w->size_bytes);
        }
        __atomic_store_n(&r->tail, ++tail, __ATOMIC_RELEASE);
    }
    w->ns = -1;
    return NULL;
}

/* The processors of this process; returns their number. */
static int list_processors(int *processors)
{
    int count = 0;
#ifdef __linux__
    cpu_set_t set;
    size_t i;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        for (i = 0; i < CPU_SETSIZE && count < THREADS_MAX; ++i) {
            if (CPU_ISSET(i, &set)) {
                processors[count++] = (int)i;
            }
        }
    }
#else
    (void)processors;
#endif
    return count;
}

/* What is measured: a mode with a number of threads at one size. */
typedef struct cell {
    bench_mode mode;
    int threads;
    size_t size_bytes;
} cell;

typedef struct row {
    const row_kind *kind;
    void *self;
    uint64_t pairs;
    double round_ns[ROUNDS];
    int used;
    int failed;
} row;

/* Wall ns per pair, mean over the threads that count. */
static double run_round(row *r, const cell *c)
{
    static worker workers[THREADS_MAX];
    static ring rings[THREADS_MAX / 2];
    static int processors[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    void *(*const bodies[2])(void *) = {c->mode == MODE_OWN ? run_own : run_producer,
                                        c->mode == MODE_OWN ? run_own : run_consumer};
    start_line start = {0, 0};
    int pinned = list_processors(processors) >= c->threads;
    double sum = 0;
    int counted = 0;
    int i;
    start.expected = c->threads;
    memset(rings, 0, sizeof(rings));
    memset(workers, 0, sizeof(workers));
    for (i = 0; i < c->threads; ++i) {
        worker *w = &workers[i];
        w->kind = r->kind;
        w->self = r->self;
        w->size_bytes = c->size_bytes;
        w->pairs = r->pairs;
        w->start = &start;
        w->ring = &rings[i / 2];
        w->index = i;
        w->processor = pinned ? processors[i] : -1;
        if (pthread_create(&ids[i], NULL, bodies[i % 2], w) != 0) {
            fputs("threads: cannot start a thread\n", stderr);
            exit(1);
        }
    }
    for (i = 0; i < c->threads; ++i) {
        pthread_join(ids[i], NULL);
        r->failed |= workers[i].failed;
        if (workers[i].ns >= 0) {
            sum += workers[i].ns;
            ++counted;
        }
    }
    return sum / counted;
}

static void check_pool(const row *r)
{
    ta_stats stats;
    if (ta_pool_check(r->self) != TA_OK || ta_pool_get_stats(r->self, &stats) != TA_OK || stats.live_count != 0 ||
        stats.reserved_bytes != stats.in_use_bytes + stats.cached_bytes || stats.thread_cached_bytes != 0) {
        fprintf(stderr, "threads: the pool's figures disagree\n");
        exit(1);
    }
}

static void measure_cell(row *rows, const cell *c, int smoke)
{
    double target_ns = smoke ? SMOKE_ROUND_NS : ROUND_NS;
    int rounds = smoke ? SMOKE_ROUNDS : ROUNDS;
    int round;
    int i;
    memset(rows, 0, ROW_COUNT * sizeof(*rows));
    for (i = 0; i < ROW_COUNT; ++i) {
        row *r = &rows[i];
        r->kind = &row_kinds[i];
        r->used = c->mode == MODE_OWN || r->kind->can_hand_over;
        r->self = r->used ? r->kind->open() : NULL;
        r->failed = r->self == NULL;
        r->pairs = smoke ? PAIRS_MIN : 10 * PAIRS_MIN;
        if (!r->failed) {
            double pairs = target_ns / run_round(r, c);
            r->pairs = pairs > PAIRS_MAX ? PAIRS_MAX : pairs < PAIRS_MIN ? PAIRS_MIN : (uint64_t)pairs;
        }
    }
    for (round = 0; round < rounds; ++round) {
        for (i = 0; i < ROW_COUNT; ++i) {
            row *r = &rows[(i + round) % ROW_COUNT];
            if (!r->failed) {
                r->round_ns[round] = run_round(r, c);
            }
        }
    }
    for (i = 0; i < ROW_COUNT; ++i) {
        row *r = &rows[i];
        qsort(r->round_ns, (size_t)rounds, sizeof(double), compare_doubles);
        if (r->self != NULL) {
            if (r->kind->is_pool) {
                check_pool(r);
            }
            r->kind->close(r->self);
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  Output and command line
  -------------------------------------------------------------------------------------------------------*/

static void print_csv(const row *rows, const cell *c, int rounds)
{
    int i;
    for (i = 0; i < ROW_COUNT; ++i) {
        if (!rows[i].failed) {
            printf("%s,%d,%zu,%s,%.2f,%.2f,%.2f\n", mode_names[c->mode], c->threads, c->size_bytes, rows[i].kind->name,
                   rows[i].round_ns[rounds / 2], rows[i].round_ns[0], rows[i].round_ns[rounds - 1]);
        }
    }
}

static void print_header(const cell *c)
{
    int processors[THREADS_MAX];
    int i;
    printf("\n%s, %d thread%s%s\n%10s", mode_names[c->mode], c->threads, c->threads == 1 ? "" : "s",
           list_processors(processors) >= c->threads ? "" : " (more than processors)", "size");
    for (i = 0; i < ROW_COUNT; ++i) {
        if (c->mode == MODE_OWN || row_kinds[i].can_hand_over) {
            printf(" %26s", row_kinds[i].name);
        }
    }
    putchar('\n');
}

static void print_line(const row *rows, const cell *c, int rounds)
{
    int mib = c->size_bytes >= 1048576;
    int kib = !mib && c->size_bytes >= 1024;
    int i;
    printf("%6zu %-3s", c->size_bytes / (mib ? 1048576u : kib ? 1024u : 1u), mib ? "MiB" : kib ? "KiB" : "B");
    for (i = 0; i < ROW_COUNT; ++i) {
        char text[64];
        if (!rows[i].used) {
            continue;
        }
        if (rows[i].failed) {
            snprintf(text, sizeof(text), "no memory");
        } else {
            snprintf(text, sizeof(text), "%.1f [%.1f..%.1f]", rows[i].round_ns[rounds / 2], rows[i].round_ns[0],
                     rows[i].round_ns[rounds - 1]);
        }
        printf(" %26s", text);
    }
    putchar('\n');
}

static int read_options(int argc, char **argv, int *csv, int *smoke)
{
    int threads = 0;
    int i;
    for (i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--csv") == 0) {
            *csv = 1;
        } else if (strcmp(argv[i], "--smoke") == 0) {
            *smoke = 1;
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc && atoi(argv[i + 1]) >= 1 &&
                   atoi(argv[i + 1]) <= THREADS_MAX) {
            threads = atoi(argv[++i]);
        } else {
            fprintf(stderr, "usage: threads [--csv] [--smoke] [--threads 1..%d]\n", THREADS_MAX);
            exit(2);
        }
    }
    return threads > 0 ? threads : *smoke ? 2 : THREADS_DEFAULT;
}

int main(int argc, char **argv)
{
    static row rows[ROW_COUNT];
    int csv = 0;
    int smoke = 0;
    int threads_max = read_options(argc, argv, &csv, &smoke);
    int rounds = smoke ? SMOKE_ROUNDS : ROUNDS;
    int failures = 0;
    int mode;
    if (csv) {
        puts("mode,threads,size,allocator,ns_per_pair,min,max");
    } else {
        puts("A pair is one allocation and its free. Numbers are wall time in ns per pair and thread:\n"
             "median [fastest..slowest]. p2_tls: stacks of free blocks for each thread, about the least work there\n"
             "is. p2_spin: the same, one set for all under a spin lock.");
    }
    for (mode = MODE_OWN; mode < MODE_COUNT; ++mode) {
        int threads;
        for (threads = mode == MODE_OWN ? 1 : 2; threads <= threads_max; threads += mode == MODE_OWN ? 1 : 2) {
            size_t s;
            for (s = 0; s < SIZE_COUNT; s += smoke ? 2 : 1) {
                cell c = {(bench_mode)mode, threads, sizes_bytes[s]};
                int i;
                if (!csv && s == 0) {
                    print_header(&c);
                }
                measure_cell(rows, &c, smoke);
                if (csv) {
                    print_csv(rows, &c, rounds);
                } else {
                    print_line(rows, &c, rounds);
                }
                fflush(stdout);
                for (i = 0; i < ROW_COUNT; ++i) {
                    if (rows[i].used && rows[i].failed) {
                        fprintf(stderr, "threads: %s: no memory at %zu bytes\n", rows[i].kind->name, c.size_bytes);
                        failures += rows[i].kind->is_pool;
                    }
                }
            }
        }
    }
    return failures > 0;
}
