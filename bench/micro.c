/* micro.c - one block size at a time: what a pair of alloc and free costs from 64 bytes to 256 MiB.

   build   cc -O2 -DNDEBUG -I. bench/micro.c -o micro -pthread
   run     ./micro [--csv] [--smoke] [--touch none|page]

   Patterns
       lifo       allocate, free, again: the same block each time
       window64   64 live blocks; a random one is freed and replaced. Where memory is touched and 64 blocks of each row
                  are more than half of what the machine may give, fewer are live, and the name says how many
   Rows
       ta_pool         ta_pool_free without a size; default options, thread-safe
       ta_pool_sized   the same with ta_pool_free_sized
       ta_pool_st      ta_pool for one thread: single_threaded, no locks
       ta_pool_traced  ta_pool that records into a ta_trace: two events a pair
       malloc          malloc and free, or whatever is preloaded in their place
       p2              one stack of free blocks per power of two, no lock: about the least work there is
       exact           one stack of free blocks per size
       null            no allocator: what the loop itself costs. It is not subtracted from the other rows

   How it measures: all rows are called through the same kind of function pointer; batches of a few milliseconds, those
   of the rows in turn, eleven times; the median batch counts. Times are CPU time of the thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
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
#define MIB 1048576.0

enum {
    WINDOW = 64,
    BATCHES = 11,
    BATCH_NS = 2000000,
    SMOKE_BATCHES = 3,
    SMOKE_BATCH_NS = 50000,
    TOUCH_STEP_BYTES = 4096
};

typedef enum pattern { PATTERN_LIFO, PATTERN_WINDOW, PATTERN_COUNT } pattern;

typedef struct options {
    int csv;
    int smoke;
    int touch;
} options;

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/*---------------------------------------------------------------------------------------------------------
  Baselines: free blocks on stacks beside the blocks, fresh ones carved from one region that is committed by touch
  -------------------------------------------------------------------------------------------------------*/

enum { STACK_BLOCKS_MAX = 2 * WINDOW, STACK_COUNT = 64 };

typedef struct free_stack {
    size_t key; /* exact: the size; 0: not used */
    size_t count;
    void *blocks[STACK_BLOCKS_MAX];
} free_stack;

typedef struct baseline {
    char *region;
    size_t region_bytes;
    size_t used_bytes;
    free_stack stacks[STACK_COUNT];
} baseline;

static NOINLINE void *carve(baseline *b, size_t bytes)
{
    size_t alignment = bytes >= 4096 ? 4096 : 64;
    size_t at = (b->used_bytes + alignment - 1) & ~(alignment - 1);
    if (at > b->region_bytes || bytes > b->region_bytes - at) {
        return NULL;
    }
    b->used_bytes = at + bytes;
    return b->region + at;
}

static unsigned p2_class(size_t bytes) { return bytes <= 64 ? 6 : 64 - (unsigned)__builtin_clzll(bytes - 1); }

static void *p2_alloc(void *self, size_t size_bytes)
{
    baseline *b = self;
    unsigned class_index = p2_class(size_bytes);
    free_stack *s = &b->stacks[class_index];
    return LIKELY(s->count > 0) ? s->blocks[--s->count] : carve(b, (size_t)1 << class_index);
}

static void push_block(free_stack *s, void *ptr)
{
    if (LIKELY(s->count < STACK_BLOCKS_MAX)) { /* always: never more than WINDOW blocks are live */
        s->blocks[s->count++] = ptr;
    }
}

static void p2_free(void *self, void *ptr, size_t size_bytes)
{
    push_block(&((baseline *)self)->stacks[p2_class(size_bytes)], ptr);
}

static free_stack *exact_stack(baseline *b, size_t rounded_bytes)
{
    size_t at = (size_t)((uint64_t)rounded_bytes * UINT64_C(0x9E3779B97F4A7C15) >> 58);
    while (b->stacks[at].key != rounded_bytes) {
        if (b->stacks[at].key == 0) {
            b->stacks[at].key = rounded_bytes;
            break;
        }
        at = (at + 1) % STACK_COUNT;
    }
    return &b->stacks[at];
}

static void *exact_alloc(void *self, size_t size_bytes)
{
    baseline *b = self;
    size_t rounded = (size_bytes + 63) & ~(size_t)63;
    free_stack *s = exact_stack(b, rounded);
    return LIKELY(s->count > 0) ? s->blocks[--s->count] : carve(b, rounded);
}

static void exact_free(void *self, void *ptr, size_t size_bytes)
{
    push_block(exact_stack(self, (size_bytes + 63) & ~(size_t)63), ptr);
}

static void *null_alloc(void *self, size_t size_bytes)
{
    (void)size_bytes;
    return ((baseline *)self)->region;
}

static void null_free(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)ptr;
    (void)size_bytes;
}

static void *baseline_open(void)
{
    size_t bytes = (size_t)1 << (sizeof(size_t) > 4 ? 38 : 29);
    baseline *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b == MAP_FAILED) {
        return NULL;
    }
    memset(b, 0, sizeof(*b)); /* present, so that no batch pays for it */
    for (; bytes >= 65536; bytes /= 8) { /* addresses may be limited, and others want some too */
        void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ptr != MAP_FAILED) {
            b->region = ptr;
            b->region_bytes = bytes;
            return b;
        }
    }
    munmap(b, sizeof(*b));
    return NULL;
}

static void baseline_close(void *self)
{
    baseline *b = self;
    munmap(b->region, b->region_bytes);
    munmap(b, sizeof(*b));
}

/*---------------------------------------------------------------------------------------------------------
  malloc and the pools
  -------------------------------------------------------------------------------------------------------*/

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

static void *pool_open_st(void)
{
    ta_pool_desc desc;
    ta_pool *pool;
    memset(&desc, 0, sizeof(desc));
    desc.single_threaded = 1;
    return ta_pool_create(&desc, &pool) == TA_OK ? pool : NULL;
}

static void *pool_open_traced(void)
{
    ta_pool_desc desc;
    ta_pool *pool;
    memset(&desc, 0, sizeof(desc));
    if (ta_trace_create(NULL, &desc.trace) == TA_OK && ta_pool_create(&desc, &pool) == TA_OK) {
        return pool;
    }
    (void)ta_trace_destroy(desc.trace);
    return NULL;
}

static void pool_close(void *self) { (void)ta_pool_destroy(self); }

static void pool_close_traced(void *self)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof(desc));
    (void)ta_pool_get_desc(self, &desc);
    (void)ta_pool_destroy(self);
    (void)ta_trace_destroy(desc.trace);
}

static void *pool_alloc(void *self, size_t size_bytes) { return ta_pool_alloc(self, size_bytes, NULL); }

static void pool_free(void *self, void *ptr, size_t size_bytes)
{
    (void)size_bytes;
    (void)ta_pool_free(self, ptr);
}

static void pool_free_sized(void *self, void *ptr, size_t size_bytes)
{
    (void)ta_pool_free_sized(self, ptr, size_bytes);
}

/*---------------------------------------------------------------------------------------------------------
  Rows and loops
  -------------------------------------------------------------------------------------------------------*/

typedef struct row_kind {
    const char *name;
    int is_pool;
    void *(*open)(void);
    void (*close)(void *self);
    void *(*alloc)(void *self, size_t size_bytes);
    void (*free)(void *self, void *ptr, size_t size_bytes);
} row_kind;

static const row_kind row_kinds[] = {
    {"ta_pool", 1, pool_open, pool_close, pool_alloc, pool_free},
    {"ta_pool_sized", 1, pool_open, pool_close, pool_alloc, pool_free_sized},
    {"ta_pool_st", 1, pool_open_st, pool_close, pool_alloc, pool_free},
    {"ta_pool_traced", 1, pool_open_traced, pool_close_traced, pool_alloc, pool_free},
    {"malloc", 0, malloc_open, malloc_close, malloc_alloc, malloc_free},
    {"p2", 0, baseline_open, baseline_close, p2_alloc, p2_free},
    {"exact", 0, baseline_open, baseline_close, exact_alloc, exact_free},
    {"null", 0, baseline_open, baseline_close, null_alloc, null_free},
};
enum { ROW_COUNT = sizeof(row_kinds) / sizeof(row_kinds[0]), ROW_P2 = 5 };

typedef struct row {
    const row_kind *kind;
    void *self;
    void *window[WINDOW];
    uint64_t seed;
    uint64_t pairs;          /* per batch */
    double batch_ns[BATCHES]; /* per pair */
    int failed;
} row;

/* What is measured: one pattern at one size. */
typedef struct cell {
    pattern pattern;
    size_t size_bytes;
    unsigned window; /* power of two */
    int touch;
} cell;

static void touch_block(void *ptr, size_t size_bytes)
{
    volatile char *bytes = ptr;
    size_t i;
    for (i = 0; i < size_bytes; i += TOUCH_STEP_BYTES) {
        bytes[i] = 1;
    }
    bytes[size_bytes - 1] = 1;
}

/* The compiler must take it that ptr is used. */
static void keep(void *ptr) { __asm__ volatile("" : : "r"(ptr) : "memory"); }

/* Both loops return CPU ns of the batch, and set row->failed when memory ends. */
static NOINLINE double run_lifo(row *r, const cell *c, uint64_t pairs)
{
    void *(*const alloc)(void *, size_t) = r->kind->alloc;
    void (*const release)(void *, void *, size_t) = r->kind->free;
    uint64_t start = cpu_ns();
    uint64_t i;
    for (i = 0; i < pairs; ++i) {
        void *ptr = alloc(r->self, c->size_bytes);
        if (!LIKELY(ptr != NULL)) {
            r->failed = 1;
            break;
        }
        keep(ptr);
        if (c->touch) {
            touch_block(ptr, c->size_bytes);
        }
        release(r->self, ptr, c->size_bytes);
    }
    return (double)(cpu_ns() - start);
}

static NOINLINE double run_window(row *r, const cell *c, uint64_t pairs)
{
    void *(*const alloc)(void *, size_t) = r->kind->alloc;
    void (*const release)(void *, void *, size_t) = r->kind->free;
    unsigned mask = c->window - 1;
    uint64_t seed = r->seed;
    uint64_t start = cpu_ns();
    uint64_t i;
    for (i = 0; i < pairs; ++i) {
        void **ptr;
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ptr = &r->window[(seed >> 33) & mask];
        release(r->self, *ptr, c->size_bytes);
        *ptr = alloc(r->self, c->size_bytes);
        if (!LIKELY(*ptr != NULL)) {
            r->failed = 1;
            break;
        }
        keep(*ptr);
        if (c->touch) {
            touch_block(*ptr, c->size_bytes);
        }
    }
    r->seed = seed;
    return (double)(cpu_ns() - start);
}

static double run_batch(row *r, const cell *c, uint64_t pairs)
{
    return c->pattern == PATTERN_LIFO ? run_lifo(r, c, pairs) : run_window(r, c, pairs);
}

/* Fills the window and finds how many pairs take batch_ns. */
static void prepare_row(row *r, const cell *c, double batch_ns)
{
    unsigned i;
    double ns = 0;
    r->seed = UINT64_C(88172645463325252);
    r->self = r->kind->open();
    r->failed = r->self == NULL;
    for (i = 0; c->pattern == PATTERN_WINDOW && i < c->window && !r->failed; ++i) {
        r->window[i] = r->kind->alloc(r->self, c->size_bytes);
        r->failed = r->window[i] == NULL;
        if (c->touch && !r->failed) {
            touch_block(r->window[i], c->size_bytes);
        }
    }
    for (r->pairs = 1; !r->failed; r->pairs *= 4) {
        ns = run_batch(r, c, r->pairs);
        if (ns * 4 > batch_ns || r->pairs > ((uint64_t)1 << 24)) {
            break;
        }
    }
    if (ns > 0 && ns < batch_ns) {
        r->pairs = (uint64_t)((double)r->pairs * batch_ns / ns) + 1;
    }
}

static void finish_row(row *r, const cell *c)
{
    unsigned i;
    for (i = 0; c->pattern == PATTERN_WINDOW && i < c->window && r->self != NULL; ++i) {
        if (r->window[i] != NULL) {
            r->kind->free(r->self, r->window[i], c->size_bytes);
        }
    }
    if (r->self != NULL && r->kind->is_pool) {
        ta_stats stats;
        if (ta_pool_check(r->self) != TA_OK || ta_pool_get_stats(r->self, &stats) != TA_OK || stats.live_count != 0 ||
            stats.reserved_bytes != stats.in_use_bytes + stats.cached_bytes) {
            fprintf(stderr, "micro: %s: the pool's figures disagree\n", r->kind->name);
            exit(1);
        }
    }
    if (r->self != NULL) {
        r->kind->close(r->self);
    }
}

static void measure_cell(row *rows, const cell *c, const options *o)
{
    int batches = o->smoke ? SMOKE_BATCHES : BATCHES;
    int batch;
    int i;
    memset(rows, 0, ROW_COUNT * sizeof(*rows));
    for (i = 0; i < ROW_COUNT; ++i) {
        rows[i].kind = &row_kinds[i];
        prepare_row(&rows[i], c, o->smoke ? SMOKE_BATCH_NS : BATCH_NS);
    }
    for (batch = 0; batch < batches; ++batch) {
        for (i = 0; i < ROW_COUNT; ++i) {
            row *r = &rows[(i + batch) % ROW_COUNT];
            if (!r->failed) {
                r->batch_ns[batch] = run_batch(r, c, r->pairs) / (double)r->pairs;
            }
        }
    }
    for (i = 0; i < ROW_COUNT; ++i) {
        finish_row(&rows[i], c);
        qsort(rows[i].batch_ns, (size_t)batches, sizeof(double), compare_doubles);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Output and command line
  -------------------------------------------------------------------------------------------------------*/

static void print_csv(const row *rows, const cell *c, int batches)
{
    int i;
    for (i = 0; i < ROW_COUNT; ++i) {
        if (rows[i].failed) {
            continue;
        }
        fputs(c->pattern == PATTERN_LIFO ? "lifo" : "window", stdout);
        if (c->pattern == PATTERN_WINDOW) {
            printf("%u", c->window);
        }
        printf(",%zu,%s,%s,%.2f,%.2f,%.2f\n", c->size_bytes, rows[i].kind->name, c->touch ? "page" : "none",
               rows[i].batch_ns[batches / 2], rows[i].batch_ns[0], rows[i].batch_ns[batches - 1]);
    }
}

static void print_header(pattern p, int touch)
{
    int i;
    printf("\n%s%s\n%10s", p == PATTERN_LIFO ? "lifo: allocate and free the same size again and again"
                                             : "window: a random one of 64 live blocks is freed and replaced",
           touch ? ", one byte per 4096 written" : "", "size");
    for (i = 0; i < ROW_COUNT; ++i) {
        printf(" %13s", row_kinds[i].name);
    }
    printf(" %14s\n", "ta_pool x p2");
}

static void print_line(const row *rows, const cell *c, int batches)
{
    static const char *const units[] = {"B", "KiB", "MiB"};
    size_t size = c->size_bytes;
    size_t unit = 0;
    int i;
    for (; size >= 1024; size /= 1024) {
        ++unit;
    }
    printf("%6zu %-3s", size, units[unit]);
    for (i = 0; i < ROW_COUNT; ++i) {
        if (rows[i].failed) {
            printf(" %13s", "no memory");
        } else {
            printf(" %13.1f", rows[i].batch_ns[batches / 2]);
        }
    }
    if (!rows[0].failed && !rows[ROW_P2].failed) {
        printf(" %14.2f", rows[0].batch_ns[batches / 2] / rows[ROW_P2].batch_ns[batches / 2]);
    }
    if (c->pattern == PATTERN_WINDOW && c->window < WINDOW) {
        printf("   (window of %u)", c->window);
    }
    putchar('\n');
}

/* Half of the memory that is free now, for all rows together. */
static double memory_budget_bytes(void)
{
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double available_kib;
    char line[256];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemAvailable: %lf", &available_kib) == 1 && available_kib * 1024 < bytes) {
            bytes = available_kib * 1024;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return bytes / 2;
}

static void read_options(int argc, char **argv, options *o)
{
    int i;
    for (i = 1; i < argc; ++i) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--csv") == 0) {
            o->csv = 1;
        } else if (strcmp(argv[i], "--smoke") == 0) {
            o->smoke = 1;
        } else if (strcmp(argv[i], "--touch") == 0 && (strcmp(next, "none") == 0 || strcmp(next, "page") == 0)) {
            o->touch = strcmp(next, "page") == 0;
            ++i;
        } else {
            fputs("usage: micro [--csv] [--smoke] [--touch none|page]\n", stderr);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static row rows[ROW_COUNT];
    options o = {0, 0, 0};
    double budget_bytes;
    int batches;
    int failures = 0;
    int p;
    int i;
    read_options(argc, argv, &o);
    batches = o.smoke ? SMOKE_BATCHES : BATCHES;
    budget_bytes = memory_budget_bytes();
    if (o.csv) {
        puts("pattern,size,allocator,touch,ns_per_pair,min,max");
    } else {
        puts("A pair is one allocation and its free. Numbers are ns per pair, CPU time of the thread, median of\n"
             "the batches; the loop itself (null) is included. p2: a stack of free blocks per power of two, about the\n"
             "least work there is.");
    }
    for (p = 0; p < PATTERN_COUNT; ++p) {
        size_t size_bytes;
        if (!o.csv) {
            print_header((pattern)p, o.touch);
        }
        for (size_bytes = 64; size_bytes <= (size_t)256 << 20; size_bytes *= o.smoke ? 1024 : 4) {
            cell c = {(pattern)p, size_bytes, WINDOW, o.touch};
            while (c.touch && c.window > 1 && (double)c.size_bytes * c.window * ROW_COUNT > budget_bytes) {
                c.window /= 2;
            }
            measure_cell(rows, &c, &o);
            if (o.csv) {
                print_csv(rows, &c, batches);
            } else {
                print_line(rows, &c, batches);
            }
            fflush(stdout);
            for (i = 0; i < ROW_COUNT; ++i) {
                if (rows[i].failed) {
                    fprintf(stderr, "micro: %s: no memory at %zu bytes\n", rows[i].kind->name, size_bytes);
                    failures += rows[i].kind->is_pool;
                }
            }
        }
    }
    return failures > 0;
}
