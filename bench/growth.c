/* growth.c - what it costs to let a buffer grow: one buffer, and eight in turn, by a factor and by fixed steps.

   build   cc -O2 -DNDEBUG -I. bench/growth.c -o growth -pthread
   run     ./growth [--csv] [--smoke] [--rows a,b] [--to MIB] [--rounds N]     the table (Linux: some minutes)
           ./growth --calls [--csv] [--smoke]     one resize, in its kinds; from which size on a range pays
           ./growth --demo [--svg FILE] [--smoke] a workspace that grows with every token, four ways, and its picture

   Rows
       ta_dynamic        a tensor with bounds: a range for the largest size, default options
       ta_dynamic_huge   the same with huge_pages on
       ta_pool_realloc   default pool
       realloc           of the C library, or of whatever is preloaded in its place
       mremap            one mapping for each buffer, grown by the system (Linux)
       copy              malloc of the new size, memcpy, free
       doubling          the same, but to twice the capacity, and only when that is outgrown: a C++ vector

   A pass is the life of the buffers: made small, grown in turn until all have the largest size, freed. Times are CPU
   time of the thread from making to the last growth, over the bytes grown by; freeing has its own column. A row that
   has copied 1 GiB, or taken 3 s, is stopped; its figures are for what it reached until then, which is kind to it:
   later steps cost more.
   cold    the first pass of a fresh process: nothing has been taken from the system yet
   warm    later passes in it: what was freed before may be reused
   Each row runs in a process of its own, the rows in turn, several rounds; the median counts.

   Columns of --csv (after a line that begins with # and names command and machine)
       buffers           1 or 8
       growth            x1.2, +64KiB or +8KiB
       from_bytes,to_bytes   size of each buffer at the beginning and at the end
       touch             none, or page: of each new 4096 bytes one is written
       row,state         see above
       ns_per_byte       median over the passes; min and max follow
       ns_per_step       the same times over the number of growths
       free_ns_per_byte  freeing all buffers, per byte
       reached_bytes     size of each buffer when the row was stopped; else to_bytes
       copied_bytes      by the pass. Of realloc: the old size when the address changes, but 0 where glibc remaps
       moves             growths after which the buffer had another address
       page_faults
       reserved_over_used  the larger of what the row holds at its peak as far as it says (statistics of the library,
                         malloc_usable_size) and what became resident, over the sizes reached */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define NOINLINE __attribute__((noinline))
#define KIB 1024.0
#define MIB 1048576.0

enum {
    BUFFERS_MAX = 8,
    ROUNDS_DEFAULT = 3,
    ROUNDS_MAX = 15,
    WARM_PASSES = 4,
    FROM_BYTES = 1 << 20,
    TO_MIB_DEFAULT = 256,
    PAGE_BYTES = 4096,
    STOP_SECONDS = 3,     /* of CPU: a pass ends here at the latest */
    SMOKE_STOP_BYTES = 1 << 24,
    CHILD_NS = 1500000000 /* no further warm pass after this */
};

#define STOP_BYTES ((uint64_t)1 << 30) /* and when so much has been copied */

typedef enum mode { MODE_TABLE, MODE_CALLS, MODE_DEMO } mode;

typedef struct options {
    int csv;
    int smoke;
    mode mode;
    unsigned rounds;
    size_t to_bytes;
    const char *rows; /* NULL: all */
    const char *svg;  /* NULL: no picture */
} options;

/*---------------------------------------------------------------------------------------------------------
  Small tools
  -------------------------------------------------------------------------------------------------------*/

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fputs("growth: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static void *map_bytes(size_t bytes, int shared)
{
    void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
    if (ptr == MAP_FAILED) {
        fail("no memory: %s", strerror(errno));
    }
    return ptr;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t fault_count(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts values. */
static double median(double *values, size_t count)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* The number in KiB behind a key of a file such as /proc/meminfo, in bytes; 0 if it is not there. */
static double read_kib(const char *path, const char *key)
{
    char line[256];
    double kib = 0;
    size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, length) == 0) {
            kib = strtod(line + length, NULL);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * KIB;
}

/* A line of a file from behind its first key and colon or space; "" if there is none. */
static void read_text(const char *path, const char *key, char *out, size_t out_bytes)
{
    char line[512];
    FILE *file = fopen(path, "r");
    *out = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            char *at = line + strlen(key);
            at += strspn(at, " \t:");
            at[strcspn(at, "\n")] = 0;
            snprintf(out, out_bytes, "%s", at);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static void print_machine(int argc, char **argv)
{
    struct utsname name;
    char cpu[256];
    char huge[256];
    const char *preload = getenv("LD_PRELOAD");
    time_t now = time(NULL);
    const struct tm *day = localtime(&now);
    char date[32] = "";
    int i;
    read_text("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
    read_text("/sys/kernel/mm/transparent_hugepage/enabled", "", huge, sizeof(huge));
    if (day != NULL) {
        strftime(date, sizeof(date), "%Y-%m-%d", day);
    }
    printf("# growth");
    for (i = 1; i < argc; ++i) {
        printf(" %s", argv[i]);
    }
    printf("   (compiler %s", __VERSION__);
    if (preload != NULL && *preload != 0) {
        printf("; preloaded %s", preload);
    }
    printf("; %ld CPUs", sysconf(_SC_NPROCESSORS_ONLN));
    if (*cpu != 0) {
        printf(", %s", cpu);
    }
    if (uname(&name) == 0) {
        printf("; %s %s", name.sysname, name.release);
    }
    if (*huge != 0) {
        printf("; huge pages %s", huge);
    }
    printf("; %s)\n", date);
}

/* "64 KiB" */
static const char *size_text(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    while (unit < 3 && bytes >= 1024) {
        bytes /= 1024;
        ++unit;
    }
    snprintf(out, 32, bytes < 9.95 && bytes != (double)(int)bytes ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}

/* 3 digits */
static const char *number_text(double value, char out[32])
{
    snprintf(out, 32,
             value == 0       ? "0"
             : value < 0.0995 ? "%.4f"
             : value < 9.95   ? "%.2f"
             : value < 99.5   ? "%.1f"
                              : "%.0f",
             value);
    return out;
}

/*---------------------------------------------------------------------------------------------------------
  Rows: each can make buffer i as large as told (from nothing too), and free it
  -------------------------------------------------------------------------------------------------------*/

typedef struct buffer {
    char *ptr;
    size_t size_bytes;
    size_t capacity_bytes; /* what is held for it, as far as known */
    ta_handle handle;
} buffer;

typedef struct state {
    ta_dynamic *dynamic;
    ta_pool *pool;
    size_t from_bytes;
    size_t to_bytes;
    size_t held_bytes; /* by the rows without statistics */
    size_t peak_held_bytes;
    uint64_t copied_bytes;
    uint64_t moves;
    buffer buffers[BUFFERS_MAX];
} state;

static void hold(state *s, buffer *b, size_t capacity_bytes)
{
    s->held_bytes = s->held_bytes - b->capacity_bytes + capacity_bytes;
    b->capacity_bytes = capacity_bytes;
    if (s->held_bytes > s->peak_held_bytes) {
        s->peak_held_bytes = s->held_bytes;
    }
}

static void open_nothing(state *s) { (void)s; }

static void open_dynamic_with(state *s, ta_huge_pages huge_pages)
{
    ta_dynamic_desc desc;
    memset(&desc, 0, sizeof(desc));
    desc.huge_pages = huge_pages;
    if (ta_dynamic_create(&desc, &s->dynamic) != TA_OK) {
        fail("no ta_dynamic");
    }
}

static void open_dynamic(state *s) { open_dynamic_with(s, TA_HUGE_PAGES_DEFAULT); }
static void open_dynamic_huge(state *s) { open_dynamic_with(s, TA_HUGE_PAGES_ON); }

static void open_pool(state *s)
{
    if (ta_pool_create(NULL, &s->pool) != TA_OK) {
        fail("no ta_pool");
    }
}

/* Bounds of a tensor of bytes. */
static ta_shape_bounds byte_bounds(size_t min_bytes, size_t max_bytes)
{
    const int64_t min = (int64_t)min_bytes;
    const int64_t max = max_bytes == TA_UNLIMITED ? TA_DIM_UNBOUNDED : (int64_t)max_bytes;
    ta_shape_bounds bounds;
    memset(&bounds, 0, sizeof(bounds));
    bounds.dtype = TA_U8;
    bounds.rank = 1;
    bounds.min[0] = bounds.expected[0] = min;
    bounds.max[0] = max;
    return bounds;
}

static int grow_dynamic(state *s, buffer *b, size_t bytes)
{
    const int64_t dims[1] = {(int64_t)bytes};
    if (LIKELY(b->ptr != NULL)) { /* within the bounds it stays where it is; the end of the pass checks that */
        return ta_dynamic_resize(s->dynamic, b->handle, dims, 1) == TA_OK;
    } else {
        const ta_shape_bounds bounds = byte_bounds(s->from_bytes, s->to_bytes);
        if (ta_dynamic_alloc(s->dynamic, &bounds, &b->handle) != TA_OK) {
            return 0;
        }
        b->ptr = ta_dynamic_get_data(s->dynamic, b->handle);
        return b->ptr != NULL;
    }
}

static void free_dynamic(state *s, buffer *b)
{
    if (ta_dynamic_get_data(s->dynamic, b->handle) != b->ptr || ta_dynamic_free(s->dynamic, b->handle) != TA_OK) {
        fail("ta_dynamic: the tensor is not where it was");
    }
}

static void count_move(state *s, const buffer *b, const void *moved, int remapped)
{
    if (b->ptr != NULL && moved != b->ptr) {
        s->moves++;
        s->copied_bytes += remapped ? 0 : b->size_bytes;
    }
}

static int grow_pool(state *s, buffer *b, size_t bytes)
{
    void *moved = ta_pool_realloc(s->pool, b->ptr, bytes, NULL);
    if (moved == NULL) {
        return 0;
    }
    count_move(s, b, moved, 0);
    b->ptr = moved;
    return 1;
}

static void free_pool(state *s, buffer *b)
{
    if (ta_pool_free(s->pool, b->ptr) != TA_OK) {
        fail("ta_pool: a block cannot be freed");
    }
}

static size_t usable_bytes(void *ptr, size_t asked)
{
#ifdef __GLIBC__
    size_t usable = malloc_usable_size(ptr); /* the preloaded one's, too */
    return usable > asked ? usable : asked;
#else
    (void)ptr;
    return asked;
#endif
}

/* Whether a block of malloc is a mapping of its own, which realloc can move without a copy: glibc's stand 16 bytes
   behind the start of a page and have a bit for it in the word before. No other malloc's do. */
static int is_mapped_by_glibc(const void *ptr)
{
#ifdef __GLIBC__
    size_t word = 0;
    if (ptr != NULL && ((uintptr_t)ptr & (PAGE_BYTES - 1)) == 16) {
        memcpy(&word, (const void *)((uintptr_t)ptr - sizeof(word)), sizeof(word));
    }
    return (word & 2) != 0;
#else
    (void)ptr;
    return 0;
#endif
}

static int grow_realloc(state *s, buffer *b, size_t bytes)
{
    int remapped = is_mapped_by_glibc(b->ptr);
    uintptr_t old = (uintptr_t)b->ptr;
    char *moved = realloc(b->ptr, bytes);
    if (moved == NULL) {
        return 0;
    }
    if (old != 0 && (uintptr_t)moved != old) {
        s->moves++;
        s->copied_bytes += remapped && is_mapped_by_glibc(moved) ? 0 : b->size_bytes;
    }
    b->ptr = moved;
    hold(s, b, usable_bytes(moved, bytes));
    return 1;
}

static int grow_by_copy(state *s, buffer *b, size_t bytes, size_t capacity_bytes)
{
    char *moved = malloc(capacity_bytes);
    size_t capacity = moved == NULL ? 0 : usable_bytes(moved, capacity_bytes);
    if (moved == NULL) {
        return 0;
    }
    (void)bytes;
    if (b->ptr != NULL) {
        hold(s, b, b->capacity_bytes + capacity); /* both, for a moment */
        memcpy(moved, b->ptr, b->size_bytes);
        count_move(s, b, moved, 0);
        free(b->ptr);
    }
    b->ptr = moved;
    hold(s, b, capacity);
    return 1;
}

static int grow_copy(state *s, buffer *b, size_t bytes) { return grow_by_copy(s, b, bytes, bytes); }

static int grow_doubling(state *s, buffer *b, size_t bytes)
{
    size_t capacity = b->capacity_bytes * 2;
    return bytes <= b->capacity_bytes || grow_by_copy(s, b, bytes, bytes > capacity ? bytes : capacity);
}

static void free_malloc(state *s, buffer *b)
{
    free(b->ptr);
    hold(s, b, 0);
}

#ifdef __linux__
static int grow_mremap(state *s, buffer *b, size_t bytes)
{
    size_t capacity = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    void *moved = b->ptr;
    if (capacity != b->capacity_bytes) {
        moved = b->ptr == NULL ? mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                               : mremap(b->ptr, b->capacity_bytes, capacity, MREMAP_MAYMOVE);
    }
    if (moved == MAP_FAILED) {
        return 0;
    }
    count_move(s, b, moved, 1);
    b->ptr = moved;
    hold(s, b, capacity);
    return 1;
}

static void free_mremap(state *s, buffer *b)
{
    munmap(b->ptr, b->capacity_bytes);
    hold(s, b, 0);
}
#endif

typedef struct row_kind {
    const char *name;
    void (*open)(state *s);
    int (*grow)(state *s, buffer *b, size_t bytes);
    void (*free)(state *s, buffer *b);
} row_kind;

static const row_kind row_kinds[] = {
    {"ta_dynamic", open_dynamic, grow_dynamic, free_dynamic},
    {"ta_dynamic_huge", open_dynamic_huge, grow_dynamic, free_dynamic},
    {"ta_pool_realloc", open_pool, grow_pool, free_pool},
    {"realloc", open_nothing, grow_realloc, free_malloc},
#ifdef __linux__
    {"mremap", open_nothing, grow_mremap, free_mremap},
#endif
    {"copy", open_nothing, grow_copy, free_malloc},
    {"doubling", open_nothing, grow_doubling, free_malloc},
};
enum { ROW_COUNT = sizeof(row_kinds) / sizeof(row_kinds[0]) };

static int row_wanted(const options *o, const row_kind *kind)
{
    const char *at = o->rows;
    size_t length = strlen(kind->name);
    while (at != NULL && *at != 0) {
        size_t item = strcspn(at, ",");
        if (item == length && strncmp(at, kind->name, length) == 0) {
            return 1;
        }
        at += item + (at[item] == ',');
    }
    return o->rows == NULL;
}

/*---------------------------------------------------------------------------------------------------------
  A pass, and the process it runs in
  -------------------------------------------------------------------------------------------------------*/

typedef struct growth_case {
    const char *name;
    size_t step_bytes; /* 0: by a factor of 1.2 */
    unsigned buffers;
    size_t from_bytes;
    size_t to_bytes;
    int touch;
    int smoke;
} growth_case;

static const growth_case growth_cases[] = {
    {"x1.2", 0, 1, 0, 0, 0, 0}, {"+64KiB", 65536, 1, 0, 0, 0, 0}, {"+8KiB", 8192, 1, 0, 0, 0, 0},
    {"x1.2", 0, 8, 0, 0, 0, 0}, {"+64KiB", 65536, 8, 0, 0, 0, 0}, {"+8KiB", 8192, 8, 0, 0, 0, 0},
};
enum { CASE_COUNT = sizeof(growth_cases) / sizeof(growth_cases[0]) };

typedef struct pass {
    double grow_ns;
    double free_ns;
    size_t grown_bytes;
    size_t reached_bytes;
    uint64_t steps;
    uint64_t copied_bytes;
    uint64_t moves;
    uint64_t faults;
    double reserved_over_used;
} pass;

/* What a process reports. */
typedef struct report {
    int failed;
    unsigned count; /* passes; the first is cold */
    pass passes[1 + WARM_PASSES];
} report;

static size_t next_size(const growth_case *c, size_t bytes)
{
    size_t next = c->step_bytes != 0 ? bytes + c->step_bytes : (bytes + bytes / 5 + 63) & ~(size_t)63;
    return next < c->to_bytes ? next : c->to_bytes;
}

static void touch_new(buffer *b, size_t bytes)
{
    volatile char *at = b->ptr;
    size_t i;
    for (i = (b->size_bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1); i < bytes; i += PAGE_BYTES) {
        at[i] = 1;
    }
}

/* Grows all buffers in turn; the sizes reached are in the buffers. Returns 0 when memory ends. */
static NOINLINE int grow_all(const row_kind *kind, state *s, const growth_case *c, pass *p)
{
    uint64_t start = cpu_ns();
    size_t bytes = c->from_bytes;
    unsigned since_check = 0;
    unsigned i;
    for (;;) {
        for (i = 0; i < c->buffers; ++i) {
            buffer *b = &s->buffers[i];
            if (!LIKELY(kind->grow(s, b, bytes))) {
                return 0;
            }
            if (c->touch) {
                touch_new(b, bytes);
            }
            b->size_bytes = bytes;
        }
        p->steps += c->buffers;
        since_check += c->buffers;
        if (bytes == c->to_bytes) {
            break;
        }
        if (s->copied_bytes > (c->smoke ? SMOKE_STOP_BYTES : STOP_BYTES)) {
            break;
        }
        if (since_check >= 1024) {
            since_check = 0;
            if (cpu_ns() - start > (uint64_t)STOP_SECONDS * 1000000000u) {
                break;
            }
        }
        bytes = next_size(c, bytes);
    }
    p->grow_ns = (double)(cpu_ns() - start);
    p->reached_bytes = bytes;
    p->grown_bytes = bytes * c->buffers;
    return 1;
}

static double peak_reserved(const state *s, double resident_before)
{
    double resident = read_kib("/proc/self/status", "VmHWM:") - resident_before;
    double held = (double)s->peak_held_bytes;
    ta_stats stats;
    memset(&stats, 0, sizeof(stats));
    if (s->dynamic != NULL && ta_allocator_get_stats(ta_dynamic_allocator(s->dynamic), &stats) != TA_OK) {
        fail("ta_dynamic has no statistics");
    }
    if (s->pool != NULL && ta_pool_get_stats(s->pool, &stats) != TA_OK) {
        fail("ta_pool has no statistics");
    }
    held = stats.peak_reserved_bytes > 0 ? (double)stats.peak_reserved_bytes : held;
    return resident > held ? resident : held;
}

static int run_pass(const row_kind *kind, state *s, const growth_case *c, double resident_before, pass *p)
{
    uint64_t faults = fault_count();
    uint64_t start;
    ta_dynamic_stats before;
    ta_dynamic_stats after;
    unsigned i;
    memset(&before, 0, sizeof(before));
    memset(&after, 0, sizeof(after));
    memset(s->buffers, 0, sizeof(s->buffers));
    s->copied_bytes = s->moves = 0;
    if (s->dynamic != NULL) {
        (void)ta_dynamic_get_stats(s->dynamic, &before);
    }
    if (!grow_all(kind, s, c, p)) {
        return 0;
    }
    p->faults = fault_count() - faults;
    start = cpu_ns();
    for (i = 0; i < c->buffers; ++i) {
        kind->free(s, &s->buffers[i]);
    }
    p->free_ns = (double)(cpu_ns() - start);
    if (s->dynamic != NULL) {
        (void)ta_dynamic_get_stats(s->dynamic, &after);
        s->moves = after.move_count - before.move_count;
        s->copied_bytes = after.moved_bytes - before.moved_bytes;
    }
    p->copied_bytes = s->copied_bytes;
    p->moves = s->moves;
    p->reserved_over_used = peak_reserved(s, resident_before) / (double)p->grown_bytes;
    return 1;
}

static void run_child(const row_kind *kind, const growth_case *c, report *out)
{
    static state s;
    double resident_before = read_kib("/proc/self/status", "VmRSS:");
    uint64_t start = cpu_ns();
    unsigned wanted = c->smoke ? 2 : 1 + WARM_PASSES;
    s.from_bytes = c->from_bytes;
    s.to_bytes = c->to_bytes;
    kind->open(&s);
    while (out->count < wanted && (out->count < 2 || cpu_ns() - start < CHILD_NS)) {
        if (!run_pass(kind, &s, c, resident_before, &out->passes[out->count])) {
            out->failed = 1;
            return;
        }
        out->count++;
    }
    if (ta_dynamic_destroy(s.dynamic) != TA_OK || ta_pool_destroy(s.pool) != TA_OK) {
        out->failed = 1;
    }
}

static void run_apart(const row_kind *kind, const growth_case *c, report *out)
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    memset(out, 0, sizeof(*out));
    child = fork();
    if (child < 0) {
        fail("cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        run_child(kind, c, out);
        fflush(stdout);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    out->failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/*---------------------------------------------------------------------------------------------------------
  The table
  -------------------------------------------------------------------------------------------------------*/

/* Of all passes of a row in one state. */
typedef struct summary {
    double ns_per_byte, min, max;
    double ns_per_step;
    double free_ns_per_byte;
    pass last; /* medians are of times; the rest hardly differs between passes */
    size_t count;
} summary;

static summary summarise(const report *reports, unsigned rounds, int warm)
{
    static double grow[ROUNDS_MAX * WARM_PASSES];
    static double release[ROUNDS_MAX * WARM_PASSES];
    static double step[ROUNDS_MAX * WARM_PASSES];
    summary s;
    unsigned round;
    unsigned i;
    memset(&s, 0, sizeof(s));
    for (round = 0; round < rounds; ++round) {
        const report *r = &reports[round];
        for (i = warm ? 1 : 0; i < (warm ? r->count : 1); ++i) {
            const pass *p = &r->passes[i];
            grow[s.count] = p->grow_ns / (double)p->grown_bytes;
            step[s.count] = p->grow_ns / (double)p->steps;
            release[s.count] = p->free_ns / (double)p->grown_bytes;
            s.count++;
            s.last = *p;
        }
    }
    s.ns_per_byte = median(grow, s.count);
    s.ns_per_step = median(step, s.count);
    s.free_ns_per_byte = median(release, s.count);
    s.min = s.count > 0 ? grow[0] : 0;
    s.max = s.count > 0 ? grow[s.count - 1] : 0;
    return s;
}

static void print_case(const growth_case *c)
{
    char from[32];
    char to[32];
    size_text((double)c->from_bytes, from);
    size_text((double)c->to_bytes, to);
    printf("\n%s, %s a step, %s to %s%s, %s\n", c->buffers == 1 ? "one buffer" : "eight buffers in turn", c->name, from,
           to, c->buffers == 1 ? "" : " each", c->touch ? "each new page is touched" : "not touched");
    printf("  %-16s %10s %10s %10s %10s  %10s %7s %9s %9s\n", "", "cold ns/B", "warm ns/B", "warm ns", "free ns/B",
           "copied", "moves", "faults", "reserved");
    printf("  %-16s %10s %10s %10s %10s  %10s %7s %9s %9s\n", "", "", "", "per step", "warm", "warm", "warm", "warm",
           "/ used");
}

static void print_row(const row_kind *kind, const growth_case *c, const summary *cold, const summary *warm)
{
    const pass *p = &warm->last;
    char text[5][32];
    printf("  %-16s %10s %10s %10s %10s  %10s %7llu %9llu %9.2f", kind->name, number_text(cold->ns_per_byte, text[0]),
           number_text(warm->ns_per_byte, text[1]), number_text(warm->ns_per_step, text[2]),
           number_text(warm->free_ns_per_byte, text[3]), size_text((double)p->copied_bytes, text[4]),
           (unsigned long long)p->moves, (unsigned long long)p->faults, p->reserved_over_used);
    if (p->reached_bytes != c->to_bytes) {
        printf("   stopped at %s", size_text((double)p->reached_bytes, text[0]));
    }
    putchar('\n');
}

static void print_csv(const row_kind *kind, const growth_case *c, const summary *s, const char *state_name)
{
    const pass *p = &s->last;
    printf("%u,%s,%zu,%zu,%s,%s,%s,%.5f,%.5f,%.5f,%.1f,%.5f,%zu,%llu,%llu,%llu,%.3f\n", c->buffers, c->name,
           c->from_bytes, c->to_bytes, c->touch ? "page" : "none", kind->name, state_name, s->ns_per_byte, s->min,
           s->max, s->ns_per_step, s->free_ns_per_byte, p->reached_bytes, (unsigned long long)p->copied_bytes,
           (unsigned long long)p->moves, (unsigned long long)p->faults, p->reserved_over_used);
}

/* Returns the number of rows of the library that failed. */
static int measure_case(const growth_case *c, const options *o, report *reports, report *shared)
{
    int failures = 0;
    unsigned round;
    int i;
    memset(reports, 0, sizeof(report) * ROW_COUNT * ROUNDS_MAX);
    for (round = 0; round < o->rounds; ++round) {
        for (i = 0; i < ROW_COUNT; ++i) {
            int row = (i + (int)round * 3) % ROW_COUNT;
            if (row_wanted(o, &row_kinds[row])) {
                run_apart(&row_kinds[row], c, shared);
                reports[row * ROUNDS_MAX + (int)round] = *shared;
            }
        }
    }
    if (!o->csv) {
        print_case(c);
    }
    for (i = 0; i < ROW_COUNT; ++i) {
        const report *r = reports + i * ROUNDS_MAX;
        int failed = 0;
        for (round = 0; round < o->rounds; ++round) {
            failed |= r[round].failed;
        }
        if (!row_wanted(o, &row_kinds[i])) {
            continue;
        }
        if (failed) {
            fprintf(stderr, "growth: %s: no memory, or the process ended (%s, %u buffers)\n", row_kinds[i].name,
                    c->name, c->buffers);
            failures += strncmp(row_kinds[i].name, "ta_", 3) == 0;
        } else {
            summary cold = summarise(r, o->rounds, 0);
            summary warm = summarise(r, o->rounds, 1);
            if (o->csv) {
                print_csv(&row_kinds[i], c, &cold, "cold");
                print_csv(&row_kinds[i], c, &warm, "warm");
            } else {
                print_row(&row_kinds[i], c, &cold, &warm);
            }
        }
    }
    fflush(stdout);
    return failures;
}

/* Touches memory and gives it back: on a virtual machine the very first touch of a page costs much more than any later
   one, and would be charged to whichever row comes first. */
static void wake_memory(size_t bytes)
{
    size_t i;
    char *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ptr == MAP_FAILED) {
        return;
    }
#ifdef MADV_HUGEPAGE
    madvise(ptr, bytes, MADV_HUGEPAGE);
#endif
    for (i = 0; i < bytes; i += PAGE_BYTES) {
        ((volatile char *)ptr)[i] = 1;
    }
    munmap(ptr, bytes);
}

static int measure_table(const options *o)
{
    report *shared = map_bytes(sizeof(report), 1);
    report *reports = map_bytes(sizeof(report) * ROW_COUNT * ROUNDS_MAX, 0);
    double available = read_kib("/proc/meminfo", "MemAvailable:");
    int failures = 0;
    int touch;
    int i;
    if (o->csv) {
        puts("buffers,growth,from_bytes,to_bytes,touch,row,state,ns_per_byte,min,max,ns_per_step,free_ns_per_byte,"
             "reached_bytes,copied_bytes,moves,page_faults,reserved_over_used");
    } else {
        puts("Medians of CPU time. cold: a fresh process; warm: what was freed before is reused. ns/B: making and\n"
             "growing, over the bytes of all buffers at the end. reserved: at its peak.");
    }
    if (!o->smoke && available > 0) {
        double most = (double)o->to_bytes * 12;
        wake_memory((size_t)(most < available / 2 ? most : available / 2));
    }
    for (touch = 0; touch < 2; ++touch) {
        for (i = 0; i < CASE_COUNT; ++i) {
            growth_case c = growth_cases[i];
            c.from_bytes = FROM_BYTES;
            c.to_bytes = c.buffers == 1 ? o->to_bytes : o->to_bytes / 2;
            c.touch = touch;
            c.smoke = o->smoke;
            while (available > 0 && c.to_bytes > 2 * c.from_bytes &&
                   (double)c.to_bytes * c.buffers * 4 > available * 0.8) {
                c.to_bytes /= 2; /* malloc may hold several times what is used */
            }
            failures += measure_case(&c, o, reports, shared);
        }
    }
    return failures > 0;
}

/*---------------------------------------------------------------------------------------------------------
  --calls: single calls, and from which maximum on a range is the better place
  -------------------------------------------------------------------------------------------------------*/

enum { BATCHES = 15, CALL_BATCH_NS = 3000000, CALL_BUFFER_BYTES = 1 << 20, CALL_TO_BYTES = 64 << 20 };

typedef struct call_kind {
    const char *name;
    /* One batch on s: returns ns per call. */
    double (*batch)(state *s, uint64_t calls);
    uint64_t calls; /* 0: as many as CALL_BATCH_NS take */
    void (*open)(state *s);
    int (*grow)(state *s, buffer *b, size_t bytes);
    void (*free)(state *s, buffer *b);
} call_kind;

static const call_kind *calling; /* the one at work */

static double batch_within(state *s, uint64_t calls)
{
    buffer *b = &s->buffers[0];
    uint64_t start;
    uint64_t i;
    if (b->ptr == NULL && !calling->grow(s, b, CALL_BUFFER_BYTES)) {
        fail("%s: no memory", calling->name);
    }
    start = cpu_ns();
    for (i = 0; i < calls; ++i) { /* to another size in the last page, and back */
        if (!calling->grow(s, b, CALL_BUFFER_BYTES - 256 - (size_t)(~i & 1) * 64)) {
            fail("%s: no memory", calling->name);
        }
    }
    return (double)(cpu_ns() - start) / (double)calls;
}

/* From 1 MiB on by a page for each call. */
static double batch_growing(state *s, uint64_t calls)
{
    buffer *b = &s->buffers[0];
    uint64_t start;
    uint64_t i;
    double ns;
    memset(b, 0, sizeof(*b));
    if (!calling->grow(s, b, CALL_BUFFER_BYTES)) {
        fail("%s: no memory", calling->name);
    }
    start = cpu_ns();
    for (i = 1; i <= calls; ++i) {
        if (!calling->grow(s, b, CALL_BUFFER_BYTES + (size_t)i * PAGE_BYTES)) {
            fail("%s: no memory", calling->name);
        }
    }
    ns = (double)(cpu_ns() - start) / (double)calls;
    calling->free(s, b);
    memset(b, 0, sizeof(*b));
    return ns;
}

static double batch_growing_fresh(state *s, uint64_t calls)
{
    (void)ta_allocator_empty_cache(ta_dynamic_allocator(s->dynamic));
    return batch_growing(s, calls);
}

enum { PAGE_STEPS = (CALL_TO_BYTES - CALL_BUFFER_BYTES) / PAGE_BYTES };
static const call_kind call_kinds[] = {
    {"ta_dynamic: within the capacity", batch_within, 0, open_dynamic, grow_dynamic, free_dynamic},
    {"ta_dynamic: one page more, warm", batch_growing, PAGE_STEPS, open_dynamic, grow_dynamic, free_dynamic},
    {"ta_dynamic: one page more, fresh", batch_growing_fresh, PAGE_STEPS, open_dynamic, grow_dynamic, free_dynamic},
    {"ta_pool_realloc: within the capacity", batch_within, 0, open_pool, grow_pool, free_pool},
    {"ta_pool_realloc: one page more, warm", batch_growing, PAGE_STEPS, open_pool, grow_pool, free_pool},
    {"realloc: within the capacity", batch_within, 0, open_nothing, grow_realloc, free_malloc},
#ifdef __linux__
    {"mremap: one page more", batch_growing, PAGE_STEPS, open_nothing, grow_mremap, free_mremap},
#endif
};
enum { CALL_COUNT = sizeof(call_kinds) / sizeof(call_kinds[0]) };

static void measure_calls(const options *o)
{
    static state states[CALL_COUNT];
    static double ns[CALL_COUNT][BATCHES];
    uint64_t calls[CALL_COUNT];
    size_t batches = o->smoke ? 2 : BATCHES;
    size_t batch;
    size_t i;
    for (i = 0; i < CALL_COUNT; ++i) {
        double first;
        calling = &call_kinds[i];
        states[i].from_bytes = CALL_BUFFER_BYTES / 2;
        states[i].to_bytes = CALL_TO_BYTES;
        calling->open(&states[i]);
        first = calling->batch(&states[i], 200);
        calls[i] = o->smoke ? 200 : calling->calls != 0 ? calling->calls : (uint64_t)(CALL_BATCH_NS / first) + 200;
        calling->batch(&states[i], calls[i]);
    }
    for (batch = 0; batch < batches; ++batch) {
        for (i = 0; i < CALL_COUNT; ++i) {
            calling = &call_kinds[i];
            ns[i][batch] = calling->batch(&states[i], calls[i]);
        }
    }
    puts(o->csv ? "call,ns,min,max" : "One call, ns: median of the batches (least, most). Not touched");
    for (i = 0; i < CALL_COUNT; ++i) {
        double middle = median(ns[i], batches);
        printf(o->csv ? "%s,%.1f,%.1f,%.1f\n" : "  %-40s %10.1f   (%.1f, %.1f)\n", call_kinds[i].name, middle, ns[i][0],
               ns[i][batches - 1]);
        calling = &call_kinds[i];
        if (states[i].buffers[0].ptr != NULL) {
            calling->free(&states[i], &states[i].buffers[0]);
        }
        (void)ta_dynamic_destroy(states[i].dynamic);
        (void)ta_pool_destroy(states[i].pool);
    }
}

/* Where tensors live. */
typedef struct place_kind {
    const char *name;
    int disable_ranges;
    size_t range_bytes_min; /* under it, and without ranges, blocks have their full size at once */
} place_kind;

static const place_kind place_kinds[] = {
    {"range", 0, 1}, {"block", 1, (size_t)1 << 30}, {"block_that_moves", 1, 1}};
enum { PLACE_COUNT = sizeof(place_kinds) / sizeof(place_kinds[0]) };

/* Made with half of the maximum, grown to all of it, freed. */
static double batch_cycles(state *s, int touch, uint64_t cycles)
{
    uint64_t start = cpu_ns();
    uint64_t i;
    for (i = 0; i < cycles; ++i) {
        buffer *b = &s->buffers[0];
        memset(b, 0, sizeof(*b));
        if (!grow_dynamic(s, b, s->from_bytes)) {
            fail("ta_dynamic: no memory");
        }
        if (touch) {
            touch_new(b, s->from_bytes);
            b->size_bytes = s->from_bytes;
        }
        if (!grow_dynamic(s, b, s->to_bytes)) {
            fail("ta_dynamic: no memory");
        }
        b->ptr = ta_dynamic_get_data(s->dynamic, b->handle); /* blocks may have moved */
        if (touch) {
            touch_new(b, s->to_bytes);
        }
        if (ta_dynamic_free(s->dynamic, b->handle) != TA_OK) {
            fail("ta_dynamic: cannot free");
        }
    }
    return (double)(cpu_ns() - start) / (double)cycles;
}

static void measure_places(size_t max_bytes, int touch, const options *o)
{
    static state states[PLACE_COUNT];
    static double ns[PLACE_COUNT][BATCHES];
    double middle[PLACE_COUNT];
    uint64_t cycles[PLACE_COUNT];
    size_t batches = o->smoke ? 2 : BATCHES;
    size_t batch;
    size_t i;
    char text[32];
    memset(states, 0, sizeof(states));
    for (i = 0; i < PLACE_COUNT; ++i) {
        ta_dynamic_desc desc;
        memset(&desc, 0, sizeof(desc));
        desc.disable_ranges = place_kinds[i].disable_ranges;
        desc.range_bytes_min = place_kinds[i].range_bytes_min;
        if (ta_dynamic_create(&desc, &states[i].dynamic) != TA_OK) {
            fail("no ta_dynamic");
        }
        states[i].from_bytes = max_bytes / 2;
        states[i].to_bytes = max_bytes;
        batch_cycles(&states[i], touch, 20);
        cycles[i] = 20 + (o->smoke ? 0 : (uint64_t)(CALL_BATCH_NS / batch_cycles(&states[i], touch, 20)));
    }
    for (batch = 0; batch < batches; ++batch) {
        for (i = 0; i < PLACE_COUNT; ++i) {
            ns[i][batch] = batch_cycles(&states[i], touch, cycles[i]);
        }
    }
    for (i = 0; i < PLACE_COUNT; ++i) {
        middle[i] = median(ns[i], batches);
        if (o->csv) {
            printf("%zu,%s,%s,%.1f,%.1f,%.1f\n", max_bytes, touch ? "page" : "none", place_kinds[i].name, middle[i],
                   ns[i][0], ns[i][batches - 1]);
        }
        (void)ta_dynamic_destroy(states[i].dynamic);
    }
    if (!o->csv) {
        printf("  %10s %-5s %12.0f %12.0f %18.0f %14.2f\n", size_text((double)max_bytes, text), touch ? "page" : "none",
               middle[0], middle[1], middle[2], middle[0] / middle[1]);
    }
}

static int run_calls(const options *o)
{
    size_t max_bytes;
    int touch;
    measure_calls(o);
    puts(o->csv ? "max_bytes,touch,place,ns_per_life,min,max"
                : "\nA life in ns, warm: made with half of the maximum, grown to all of it, freed. block: of the pool,\n"
                  "in full size at once; block_that_moves: of the size needed\n"
                  "     maximum touch        range        block   block_that_moves  range / block");
    for (touch = 0; touch < 2; ++touch) {
        for (max_bytes = 4096; max_bytes <= (size_t)64 << 20; max_bytes *= o->smoke ? 64 : max_bytes < 262144 ? 2 : 4) {
            measure_places(max_bytes, touch, o);
        }
    }
    return 0;
}

/*---------------------------------------------------------------------------------------------------------
  --demo: the workspace of a decode loop. It grows by a token's bytes at each token and keeps its contents; a new
  conversation frees it and starts with its prompt.
  -------------------------------------------------------------------------------------------------------*/

enum {
    TOKEN_BYTES = 8192,      /* keys and values: 2 x 8 heads x 128 floats */
    CONTEXT_TOKENS = 2048,   /* the most that the program lets a conversation have */
    CACHED_BUFFERS_MAX = 256 /* of the caching pools: a freed buffer beyond goes back to the system */
};

typedef struct conversation {
    unsigned prompt_tokens;
    unsigned decode_tokens;
} conversation;

static const conversation conversations[] = {{256, 1024}, {128, 1408}, {384, 768}};
enum { CONVERSATION_COUNT = sizeof(conversations) / sizeof(conversations[0]), TOKENS_MAX = 8192 };

/* A pool that caches freed buffers as they are and gives out the smallest that is large enough. */
typedef struct caching_pool {
    void *cached[CACHED_BUFFERS_MAX];
    size_t cached_sizes[CACHED_BUFFERS_MAX];
    size_t count;
    size_t reserved_bytes;
    uint64_t system_calls; /* buffers asked of the system */
} caching_pool;

static void *caching_pool_alloc(caching_pool *p, size_t bytes, size_t *out_bytes)
{
    size_t best = p->count;
    size_t i;
    void *ptr;
    for (i = 0; i < p->count; ++i) {
        if (p->cached_sizes[i] >= bytes && (best == p->count || p->cached_sizes[i] < p->cached_sizes[best])) {
            best = i;
        }
    }
    if (best < p->count) {
        ptr = p->cached[best];
        *out_bytes = p->cached_sizes[best];
        p->count--;
        p->cached[best] = p->cached[p->count];
        p->cached_sizes[best] = p->cached_sizes[p->count];
        return ptr;
    }
    *out_bytes = bytes;
    p->reserved_bytes += bytes;
    p->system_calls++;
    return map_bytes(bytes, 0);
}

static void caching_pool_free(caching_pool *p, void *ptr, size_t bytes)
{
    if (p->count < CACHED_BUFFERS_MAX) {
        p->cached[p->count] = ptr;
        p->cached_sizes[p->count++] = bytes;
    } else {
        munmap(ptr, bytes);
        p->reserved_bytes -= bytes;
    }
}

/* One way to hold the workspace. */
typedef struct demo_way {
    const char *name;
    const char *color;
    double factor;    /* of the caching pools: new capacity = at least factor x the old one; 0: ta_dynamic */
    size_t max_bytes; /* of ta_dynamic */
} demo_way;

static const demo_way demo_ways[] = {
    {"caching pool, exact sizes", "#c2410c", 1, 0},
    {"caching pool, growth x1.5", "#b8860b", 1.5, 0},
    {"ta_dynamic, no bound", "#2563eb", 0, TA_UNLIMITED},
    {"ta_dynamic, bounded", "#047857", 0, (size_t)CONTEXT_TOKENS *TOKEN_BYTES},
};
enum { WAY_COUNT = sizeof(demo_ways) / sizeof(demo_ways[0]) };

typedef struct demo_result {
    size_t reserved_bytes[TOKENS_MAX]; /* after each token */
    size_t peak_reserved_bytes;
    size_t in_place_bytes;             /* grows to this without a move */
    uint64_t copied_bytes;
    uint64_t moves;
    uint64_t system_calls;
    size_t cached_count;
    uint64_t faults;
    double ms;
} demo_result;

typedef struct workspace {
    caching_pool pool;
    ta_dynamic *dynamic;
    buffer now;
} workspace;

static void workspace_reserve_dynamic(workspace *w, const demo_way *way, size_t bytes)
{
    const int64_t dims[1] = {(int64_t)bytes};
    if (w->now.ptr == NULL) {
        const ta_shape_bounds bounds = byte_bounds(TOKEN_BYTES, way->max_bytes);
        ta_dynamic_request request;
        memset(&request, 0, sizeof(request));
        request.bounds = &bounds;
        request.dims = dims;
        request.site = 1;
        request.flags = TA_DYNAMIC_GROWING;
        if (ta_dynamic_alloc_request(w->dynamic, &request, &w->now.handle) != TA_OK) {
            fail("demo: no memory");
        }
    } else if (ta_dynamic_resize(w->dynamic, w->now.handle, dims, 1) != TA_OK) {
        fail("demo: no memory");
    }
    w->now.ptr = ta_dynamic_get_data(w->dynamic, w->now.handle);
}

static void workspace_reserve_cached(workspace *w, const demo_way *way, size_t bytes, demo_result *out)
{
    buffer *b = &w->now;
    size_t wanted = (size_t)((double)b->capacity_bytes * way->factor) / 64 * 64;
    size_t capacity;
    char *moved;
    if (bytes <= b->capacity_bytes) {
        return;
    }
    moved = caching_pool_alloc(&w->pool, wanted > bytes ? wanted : bytes, &capacity);
    if (b->ptr != NULL) {
        memcpy(moved, b->ptr, b->size_bytes);
        out->copied_bytes += b->size_bytes;
        out->moves++;
        caching_pool_free(&w->pool, b->ptr, b->capacity_bytes);
    }
    b->ptr = moved;
    b->capacity_bytes = capacity;
}

static void workspace_free(workspace *w, const demo_way *way)
{
    if (way->factor > 0) {
        caching_pool_free(&w->pool, w->now.ptr, w->now.capacity_bytes);
    } else if (ta_dynamic_free(w->dynamic, w->now.handle) != TA_OK) {
        fail("demo: cannot free");
    }
    memset(&w->now, 0, sizeof(w->now));
}

/* Caches and statistics at the end; everything goes. */
static void workspace_close(workspace *w, const demo_way *way, demo_result *out)
{
    ta_dynamic_stats stats;
    ta_stats all;
    if (way->factor > 0) {
        out->cached_count = w->pool.count;
        out->system_calls = w->pool.system_calls;
        while (w->pool.count > 0) {
            w->pool.count--;
            munmap(w->pool.cached[w->pool.count], w->pool.cached_sizes[w->pool.count]);
        }
        return;
    }
    if (ta_dynamic_get_stats(w->dynamic, &stats) != TA_OK ||
        ta_allocator_get_stats(ta_dynamic_allocator(w->dynamic), &all) != TA_OK) {
        fail("demo: no statistics");
    }
    out->copied_bytes = stats.moved_bytes;
    out->moves = stats.move_count;
    out->system_calls = stats.allocation_count - stats.warm_count; /* ranges made */
    out->cached_count = (size_t)out->system_calls;
    out->peak_reserved_bytes = all.peak_reserved_bytes;
    if (ta_dynamic_destroy(w->dynamic) != TA_OK) {
        fail("demo: cannot destroy");
    }
}

static size_t workspace_reserved(const workspace *w, const demo_way *way)
{
    ta_stats stats;
    if (way->factor > 0) {
        return w->pool.reserved_bytes;
    }
    if (ta_allocator_get_stats(ta_dynamic_allocator(w->dynamic), &stats) != TA_OK) {
        fail("demo: no statistics");
    }
    return stats.reserved_bytes;
}

static size_t need_bytes_max(const size_t *need_bytes, size_t count)
{
    size_t need = 0;
    size_t i;
    for (i = 0; i < count; ++i) {
        need = need_bytes[i] > need ? need_bytes[i] : need;
    }
    return need;
}

/* Fills out and need_bytes[TOKENS_MAX]; returns the number of tokens. */
static size_t run_way(const demo_way *way, int smoke, demo_result *out, size_t *need_bytes)
{
    static workspace w;
    ta_handle_info info;
    size_t count = 0;
    uint64_t faults = fault_count();
    double ns = 0;
    size_t c;
    memset(&w, 0, sizeof(w));
    if (way->factor <= 0 && ta_dynamic_create(NULL, &w.dynamic) != TA_OK) {
        fail("no ta_dynamic");
    }
    for (c = 0; c < CONVERSATION_COUNT; ++c) {
        unsigned tokens = conversations[c].prompt_tokens / (smoke ? 16 : 1);
        unsigned end = tokens + conversations[c].decode_tokens / (smoke ? 16 : 1);
        for (; tokens <= end; ++tokens) {
            size_t bytes = (size_t)tokens * TOKEN_BYTES;
            uint64_t start = cpu_ns();
            if (way->factor > 0) {
                workspace_reserve_cached(&w, way, bytes, out);
            } else {
                workspace_reserve_dynamic(&w, way, bytes);
            }
            touch_new(&w.now, bytes);
            w.now.size_bytes = bytes;
            ns += (double)(cpu_ns() - start);
            need_bytes[count] = bytes;
            out->reserved_bytes[count] = workspace_reserved(&w, way);
            if (out->reserved_bytes[count] > out->peak_reserved_bytes) {
                out->peak_reserved_bytes = out->reserved_bytes[count];
            }
            ++count;
        }
        if (way->factor <= 0 && ta_dynamic_get_handle(w.dynamic, w.now.handle, &info) == TA_OK) {
            out->in_place_bytes = info.in_place_bytes;
        }
        workspace_free(&w, way);
    }
    out->ms = ns / 1e6;
    out->faults = fault_count() - faults;
    workspace_close(&w, way, out);
    return count;
}

static void print_demo(const demo_result *results, const size_t *need_bytes, size_t count, const options *o)
{
    size_t need = need_bytes_max(need_bytes, count);
    char text[4][32];
    size_t i;
    if (o->csv) {
        puts("way,tokens,need_bytes,peak_reserved_bytes,copied_bytes,moves,buffers_cached,buffers_made,page_faults,"
             "in_place_bytes,cpu_ms");
    } else {
        printf("A workspace that grows by %d KiB with every token, %zu tokens in %d conversations; at most %s are\n"
               "needed. Each page is touched.\n\n",
               TOKEN_BYTES / 1024, count, (int)CONVERSATION_COUNT, size_text((double)need, text[0]));
        printf("%-27s %13s %8s %10s %6s %8s %8s %8s %8s %9s\n", "", "peak reserved", "/ needed", "copied", "moves",
               "buffers", "buffers", "page", "CPU ms", "grows in");
        printf("%-27s %13s %8s %10s %6s %8s %8s %8s %8s %9s\n", "", "", "", "", "", "made", "cached", "faults", "",
               "place to");
    }
    for (i = 0; i < WAY_COUNT; ++i) {
        const demo_result *r = &results[i];
        if (o->csv) {
            printf("\"%s\",%zu,%zu,%zu,%llu,%llu,%zu,%llu,%llu,%zu,%.1f\n", demo_ways[i].name, count, need,
                   r->peak_reserved_bytes, (unsigned long long)r->copied_bytes, (unsigned long long)r->moves,
                   r->cached_count, (unsigned long long)r->system_calls, (unsigned long long)r->faults,
                   r->in_place_bytes, r->ms);
        } else {
            printf("%-27s %13s %8.2f %10s %6llu %8llu %8zu %8llu %8.1f %9s\n", demo_ways[i].name,
                   size_text((double)r->peak_reserved_bytes, text[0]), (double)r->peak_reserved_bytes / (double)need,
                   size_text((double)r->copied_bytes, text[1]), (unsigned long long)r->moves,
                   (unsigned long long)r->system_calls, r->cached_count, (unsigned long long)r->faults, r->ms,
                   r->in_place_bytes == 0 ? "-" : size_text((double)r->in_place_bytes, text[2]));
        }
    }
}

/* ---- the picture: reserved memory over tokens, on a logarithmic axis */
enum { SVG_WIDTH = 880, SVG_HEIGHT = 440, SVG_LEFT = 84, SVG_TOP = 66, SVG_RIGHT = 222, SVG_BOTTOM = 56 };

typedef struct axes {
    double tokens;
    double least_bytes, most_bytes; /* powers of two */
} axes;

static double svg_x(const axes *a, double token)
{
    return SVG_LEFT + token / a->tokens * (SVG_WIDTH - SVG_LEFT - SVG_RIGHT);
}

/* log2 without the mathematics library: sizes need no more than a thousandth */
static double log2_of(double x)
{
    double result = 0;
    double bit = 1;
    int i;
    for (; x >= 2; x /= 2) {
        result += 1;
    }
    for (i = 0; i < 12; ++i) {
        bit /= 2;
        x *= x;
        if (x >= 2) {
            x /= 2;
            result += bit;
        }
    }
    return result;
}

static double svg_y(const axes *a, double bytes)
{
    double at = bytes <= a->least_bytes ? 0 : log2_of(bytes / a->least_bytes) / log2_of(a->most_bytes / a->least_bytes);
    return SVG_HEIGHT - SVG_BOTTOM - at * (SVG_HEIGHT - SVG_BOTTOM - SVG_TOP);
}

static void svg_text(FILE *f, double x, double y, const char *anchor, const char *style, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y, anchor, style, text);
}

static void svg_axes(FILE *f, const axes *a)
{
    char text[32];
    double bytes;
    double token;
    for (bytes = a->least_bytes; bytes <= a->most_bytes; bytes *= 4) {
        double y = svg_y(a, bytes);
        fprintf(f, "<path d=\"M%d %.1fH%d\" stroke=\"#e5e7eb\"/>\n", SVG_LEFT, y, SVG_WIDTH - SVG_RIGHT);
        svg_text(f, SVG_LEFT - 8, y + 4, "end", "class=\"small\"", size_text(bytes, text));
    }
    for (token = 0; token <= a->tokens; token += 500) {
        double x = svg_x(a, token);
        fprintf(f, "<path d=\"M%.1f %dv5\" stroke=\"#374151\"/>\n", x, SVG_HEIGHT - SVG_BOTTOM);
        snprintf(text, sizeof(text), "%.0f", token);
        svg_text(f, x, SVG_HEIGHT - SVG_BOTTOM + 19, "middle", "class=\"small\"", text);
    }
    fprintf(f, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#374151\"/>\n", SVG_LEFT, SVG_TOP,
            SVG_HEIGHT - SVG_BOTTOM, SVG_WIDTH - SVG_RIGHT);
    svg_text(f, (SVG_LEFT + SVG_WIDTH - SVG_RIGHT) / 2.0, SVG_HEIGHT - 14, "middle", "class=\"small\"",
             "tokens decoded");
    fprintf(f,
            "<text transform=\"translate(20 %.1f) rotate(-90)\" text-anchor=\"middle\" class=\"small\">reserved memory "
            "(logarithmic)</text>\n",
            (SVG_TOP + SVG_HEIGHT - SVG_BOTTOM) / 2.0);
}

/* One value for each of about 500 columns, the largest in it; equal ones in a row are left out. */
static void svg_line(FILE *f, const axes *a, const size_t *bytes, size_t count, const char *color, const char *style)
{
    size_t step = count / 500 + 1;
    double last_y = -1;
    size_t i;
    fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" %s points=\"", color, style);
    for (i = 0; i < count; i += step) {
        size_t most = 0;
        size_t k;
        double y;
        for (k = i; k < i + step && k < count; ++k) {
            most = bytes[k] > most ? bytes[k] : most;
        }
        y = svg_y(a, (double)most);
        if (y - last_y > 0.05 || last_y - y > 0.05) {
            if (i > 0) { /* a corner: the way there is level */
                fprintf(f, "%.1f,%.1f ", svg_x(a, (double)i), last_y);
            }
            fprintf(f, "%.1f,%.1f ", svg_x(a, (double)i), y);
            last_y = y;
        }
    }
    fprintf(f, "%.1f,%.1f\"/>\n", svg_x(a, (double)count), last_y);
}

/* Names and peaks at the right, beside the ends of the lines, but never on each other. */
static void svg_labels(FILE *f, const axes *a, const demo_result *results, const size_t *need_bytes, size_t count)
{
    double y[WAY_COUNT + 1];
    size_t order[WAY_COUNT + 1];
    char style[64];
    char text[96];
    char size[32];
    size_t i;
    size_t k;
    for (i = 0; i <= WAY_COUNT; ++i) {
        y[i] = svg_y(a, (double)(i < WAY_COUNT ? results[i].reserved_bytes[count - 1] : need_bytes[count - 1])) - 4;
        for (k = i; k > 0 && y[order[k - 1]] > y[i]; --k) {
            order[k] = order[k - 1];
        }
        order[k] = i;
    }
    for (k = 1; k <= WAY_COUNT; ++k) {
        if (y[order[k]] < y[order[k - 1]] + 36) {
            y[order[k]] = y[order[k - 1]] + 36;
        }
    }
    for (k = WAY_COUNT + 1; k-- > 0;) { /* up again where the last ones left the picture */
        double lowest = k == WAY_COUNT ? SVG_HEIGHT - SVG_BOTTOM - 12 : y[order[k + 1]] - 36;
        y[order[k]] = y[order[k]] > lowest ? lowest : y[order[k]];
    }
    for (i = 0; i <= WAY_COUNT; ++i) {
        snprintf(style, sizeof(style), "fill=\"%s\" font-weight=\"600\"",
                 i < WAY_COUNT ? demo_ways[i].color : "#4b5563");
        svg_text(f, SVG_WIDTH - SVG_RIGHT + 10, y[i], "start", style,
                 i < WAY_COUNT ? demo_ways[i].name : "what is needed");
        if (i < WAY_COUNT) {
            snprintf(text, sizeof(text), "peak %s, %s", size_text((double)results[i].peak_reserved_bytes, size),
                     results[i].copied_bytes == 0 ? "nothing copied" : "copied ");
            if (results[i].copied_bytes != 0) {
                strncat(text, size_text((double)results[i].copied_bytes, size), sizeof(text) - strlen(text) - 1);
            }
        } else {
            snprintf(text, sizeof(text), "at most %s", size_text((double)need_bytes_max(need_bytes, count), size));
        }
        svg_text(f, SVG_WIDTH - SVG_RIGHT + 10, y[i] + 15, "start", "class=\"small\"", text);
    }
}

static void write_svg(const char *path, const demo_result *results, const size_t *need_bytes, size_t count)
{
    axes a = {0, MIB, MIB};
    size_t need = need_bytes_max(need_bytes, count);
    size_t least = SIZE_MAX;
    size_t most = 0;
    char text[32];
    char title[128];
    FILE *f = fopen(path, "w");
    size_t i;
    if (f == NULL) {
        fail("%s: %s", path, strerror(errno));
    }
    for (i = 0; i < count; ++i) {
        least = need_bytes[i] < least ? need_bytes[i] : least;
    }
    for (i = 0; i < WAY_COUNT; ++i) {
        most = results[i].peak_reserved_bytes > most ? results[i].peak_reserved_bytes : most;
    }
    a.tokens = (double)count;
    while (a.least_bytes > (double)least && a.least_bytes > 1024) {
        a.least_bytes /= 4;
    }
    while (a.most_bytes < (double)most) {
        a.most_bytes *= 4;
    }
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
               "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\">\n"
               "<style>.small{font-size:12px;fill:#374151}</style>\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            SVG_WIDTH, SVG_HEIGHT, SVG_WIDTH, SVG_HEIGHT);
    snprintf(title, sizeof(title), "A workspace that grows by %d KiB with every token and is never larger than %s",
             TOKEN_BYTES / 1024, size_text((double)need, text));
    svg_text(f, SVG_LEFT, 28, "start", "font-size=\"16\" font-weight=\"600\" fill=\"#111827\"", title);
    snprintf(title, sizeof(title), "%d conversations; a new one frees the workspace and starts with its prompt",
             (int)CONVERSATION_COUNT);
    svg_text(f, SVG_LEFT, 47, "start", "class=\"small\"", title);
    svg_axes(f, &a);
    svg_line(f, &a, need_bytes, count, "#4b5563", "stroke-width=\"1.5\" stroke-dasharray=\"3 3\"");
    for (i = 0; i < WAY_COUNT; ++i) { /* the last one shows both where it lies on the one before */
        svg_line(f, &a, results[i].reserved_bytes, count, demo_ways[i].color,
                 i + 1 == WAY_COUNT ? "stroke-width=\"2.5\" stroke-dasharray=\"9 7\"" : "stroke-width=\"2.5\"");
    }
    svg_labels(f, &a, results, need_bytes, count);
    fputs("</svg>\n", f);
    if (fclose(f) != 0) {
        fail("%s: %s", path, strerror(errno));
    }
}

static int run_demo(const options *o)
{
    demo_result *results = map_bytes(sizeof(demo_result) * WAY_COUNT, 0);
    static size_t need_bytes[TOKENS_MAX];
    size_t count = 0;
    size_t i;
    for (i = 0; i < WAY_COUNT; ++i) {
        count = run_way(&demo_ways[i], o->smoke, &results[i], need_bytes);
    }
    print_demo(results, need_bytes, count, o);
    if (o->svg != NULL) {
        write_svg(o->svg, results, need_bytes, count);
    }
    return 0;
}

/*---------------------------------------------------------------------------------------------------------
  Command line
  -------------------------------------------------------------------------------------------------------*/

static const char help_text[] =
    "usage: growth [--csv] [--smoke] [--rows a,b] [--to MIB] [--rounds N]     growing buffers, all rows\n"
    "       growth --calls [--csv] [--smoke]       single resizes; from which size on a range pays\n"
    "       growth --demo [--svg FILE] [--csv]     the workspace that grows with every token\n"
    "  --rows a,b     only these rows: ta_dynamic, ta_dynamic_huge, ta_pool_realloc, realloc, mremap, copy, doubling\n"
    "  --to MIB       largest size of one buffer; default 256, and half of it for each of eight\n"
    "  --rounds N     processes per row and case; default 3\n"
    "  --svg FILE     write the demonstration's picture there\n"
    "  --smoke        small and short, as a test\n"
    "  --csv          for programs; the head of the source says what the columns mean\n";

static unsigned option_number(const char *name, const char *text, unsigned min, unsigned max)
{
    char *end = NULL;
    unsigned long value = text != NULL ? strtoul(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != 0 || value < min || value > max) {
        fail("%s needs a number from %u to %u", name, min, max);
    }
    return (unsigned)value;
}

static void read_options(int argc, char **argv, options *o)
{
    int i;
    memset(o, 0, sizeof(*o));
    o->rounds = ROUNDS_DEFAULT;
    o->to_bytes = (size_t)TO_MIB_DEFAULT << 20;
    for (i = 1; i < argc; ++i) {
        const char *arg = argv[i];
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--csv") == 0) {
            o->csv = 1;
        } else if (strcmp(arg, "--smoke") == 0) {
            o->smoke = 1;
        } else if (strcmp(arg, "--calls") == 0) {
            o->mode = MODE_CALLS;
        } else if (strcmp(arg, "--demo") == 0) {
            o->mode = MODE_DEMO;
        } else if (strcmp(arg, "--svg") == 0 && next != NULL) {
            o->mode = MODE_DEMO;
            o->svg = next;
            ++i;
        } else if (strcmp(arg, "--rows") == 0 && next != NULL) {
            o->rows = next;
            ++i;
        } else if (strcmp(arg, "--to") == 0) {
            o->to_bytes = (size_t)option_number(arg, next, 2, 1024) << 20;
            ++i;
        } else if (strcmp(arg, "--rounds") == 0) {
            o->rounds = option_number(arg, next, 1, ROUNDS_MAX);
            ++i;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            fputs(help_text, stdout);
            exit(0);
        } else {
            fail("unknown option %s; --help lists them", arg);
        }
    }
    if (o->smoke) {
        o->rounds = 1;
        o->to_bytes = (size_t)4 << 20;
    }
}

int main(int argc, char **argv)
{
    static char output_buffer[65536]; /* else stdio takes one from malloc */
    options o;
    int result = 0;
    setvbuf(stdout, output_buffer, _IOFBF, sizeof(output_buffer));
    read_options(argc, argv, &o);
    print_machine(argc, argv);
    if (o.mode == MODE_TABLE) {
        result = measure_table(&o);
    }
    if (o.mode == MODE_CALLS || (o.smoke && o.mode == MODE_TABLE)) {
        result |= run_calls(&o);
    }
    if (o.mode == MODE_DEMO || (o.smoke && o.mode == MODE_TABLE)) {
        result |= run_demo(&o);
    }
    return result;
}
