/* replay.c - replays recorded allocations on tensoralloc.h and on what it competes with, side by side in one run.

   build   cc -O2 -DNDEBUG -I. bench/replay.c -o replay -pthread
   run     ./replay [options] [file.trace ...]            ./replay --help lists the options

   A trace is text, one event a line:
       a ID SIZE [ALIGN]    allocate SIZE bytes (ALIGN: a power of two) and call them ID
       f ID                 free them; ID may then be used again
       s                    end of a step; ids live across it
       # ...                comment, also behind an event
   A pass is one run through a file; what is live at its end is freed then, oldest first. A file without s is one step.

   Rows
       ta_pool         ta_pool_free without a size; default options, thread-safe
       ta_pool_sized   the same with ta_pool_free_sized
       ta_pool_spec    options of ta_pool_desc_spec(): power-of-two classes, at most 64 MiB cached
       malloc          malloc and free, or whatever is preloaded in their place
       p2              the yardstick: one stack of free blocks per power of two, no lock, no limit, never gives back
       exact           the same with one stack per exact size
       null            no allocator: what the loop itself costs. It is not subtracted from the other rows
   p2, exact and null ignore ALIGN.

   How it measures: every row is called through the same kind of function pointer, and pointers are kept outside the
   blocks. The rows take turns, in an order drawn anew each time: first one cold pass of each, then eight times some of
   the others (all of one, if there are but eight), so that what disturbs the machine disturbs all alike. Times are CPU
   time of the thread, so what other programs do meanwhile is not counted.
   Each file is measured in a process of its own, so that malloc is fresh for each; the harness itself takes its memory
   from mmap. */
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

enum {
    PASSES_DEFAULT = 100,     /* without touching */
    PASSES_MIN = 8,           /* one cold, seven steady */
    TURNS_DEFAULT = 8,
    LATENCY_PASSES = 10,
    TOUCH_STEP_BYTES = 4096,
    VARY_FROM_BYTES = 65536,  /* --vary changes sizes from here on */
    SCALE_ABOVE_BYTES = 65536 /* --scale divides sizes above, not to below */
};
#define SIZE_BYTES_MAX ((uint64_t)1 << (sizeof(size_t) > 4 ? 40 : 30))
#define MIB 1048576.0

typedef enum touch_mode { TOUCH_NONE, TOUCH_PAGE, TOUCH_FULL } touch_mode;
static const char *const touch_names[] = {"none", "page", "full"};

typedef struct options {
    int csv;
    int smoke;
    int keep;
    int vary;
    int latency;
    int alternate;
    int thp;
    uint64_t limit_percent; /* of the live peak; 0: none */
    touch_mode touch;
    uint64_t steps;  /* 0: default */
    uint64_t scale;
    uint64_t turns;
    uint64_t jitter; /* of 1000 events */
    const char *rows; /* NULL: all */
    int legend;       /* explain the table */
    uint64_t *awake_bytes; /* see wake_memory; shared by all processes */
} options;

/* Passes after which memory is read, and passes in all. */
static size_t counted_passes(const options *o)
{
    if (o->steps > 0) {
        return (size_t)o->steps;
    }
    return o->smoke || o->touch != TOUCH_NONE ? PASSES_MIN : PASSES_DEFAULT;
}

static size_t total_passes(const options *o)
{
    size_t counted = counted_passes(o);
    return counted < PASSES_MIN ? PASSES_MIN : counted;
}

/*---------------------------------------------------------------------------------------------------------
  Small tools
  -------------------------------------------------------------------------------------------------------*/

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fputs("replay: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

/* Memory of the harness comes from here, so that malloc is as untouched as in a fresh program. Zeroed. */
static void *map_bytes(size_t bytes)
{
    void *ptr = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ptr == MAP_FAILED) {
        fail("no memory for the harness itself: %s", strerror(errno));
    }
    return ptr;
}

static void unmap_bytes(void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        munmap(ptr, bytes > 0 ? bytes : 1);
    }
}

/* Makes room for one more element of an array from map_bytes. */
static void *grow_array(void *array, size_t count, size_t *capacity, size_t element_bytes)
{
    void *grown;
    size_t wanted;
    if (LIKELY(count < *capacity)) {
        return array;
    }
    wanted = *capacity > 0 ? *capacity * 4 : 1024;
    grown = map_bytes(wanted * element_bytes);
    if (count > 0) {
        memcpy(grown, array, count * element_bytes);
        unmap_bytes(array, *capacity * element_bytes);
    }
    *capacity = wanted;
    return grown;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
static uint64_t wall_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint64_t fault_count(void)
{
    struct rusage usage;
#ifdef RUSAGE_THREAD
    getrusage(RUSAGE_THREAD, &usage);
#else
    getrusage(RUSAGE_SELF, &usage);
#endif
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

/* xorshift64; a fixed seed makes runs comparable. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) % below);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts values. */
static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static uint64_t read_number_from(const char *path, const char *key)
{
    char text[4096];
    const char *at = text;
    size_t length;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return UINT64_MAX;
    }
    length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = 0;
    if (key != NULL) {
        at = strstr(text, key);
        if (at == NULL) {
            return UINT64_MAX;
        }
        at += strlen(key);
    }
    at += strspn(at, " \t");
    return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : UINT64_MAX;
}

/* What may be touched without risking to be killed: 80 % of the machine, of its control group, and of what is free. */
static uint64_t memory_budget_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t least = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
    uint64_t available_kib = read_number_from("/proc/meminfo", "MemAvailable:");
    uint64_t group = read_number_from("/sys/fs/cgroup/memory.max", NULL);
    uint64_t group_v1 = read_number_from("/sys/fs/cgroup/memory/memory.limit_in_bytes", NULL);
    if (available_kib < least / 1024) {
        least = available_kib * 1024;
    }
    least = group < least ? group : least;
    least = group_v1 < least ? group_v1 : least;
    return least / 5 * 4;
}

/* One line on stderr: at once on a terminal, else when it takes long. */
static void show_progress(const char *trace, const char *row, size_t done, size_t total)
{
    static uint64_t start_ns;
    static uint64_t shown_ns;
    static int shown;
    static int terminal = -1;
    uint64_t now = wall_ns();
    uint64_t wait_ns;
    if (terminal < 0) {
        terminal = isatty(STDERR_FILENO);
        start_ns = shown_ns = now;
    }
    wait_ns = (uint64_t)(terminal ? 1 : 5) * 500000000u;
    if (row == NULL) {
        if (shown && terminal) {
            fputs("\r\033[K", stderr);
        }
        shown = 0;
        shown_ns = now;
    } else if (now - shown_ns >= wait_ns && (terminal || now - start_ns >= 5000000000u)) {
        fprintf(stderr, terminal ? "\r\033[K%s: %s, pass %zu of %zu" : "%s: %s, pass %zu of %zu\n", trace, row, done,
                total);
        fflush(stderr);
        shown = 1;
        shown_ns = now;
    }
}

/* Gives every key a number, counted from 0 in the order in which they are first seen. */
typedef struct dictionary {
    struct dictionary_entry {
        uint64_t key_plus_1;
        size_t number;
    } *entries;
    size_t capacity; /* power of two */
    size_t count;
} dictionary;

static size_t dictionary_probe(const dictionary *dict, uint64_t key)
{
    size_t mask = dict->capacity - 1;
    size_t at = (size_t)((key + 1) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    while (dict->entries[at].key_plus_1 != key + 1 && dict->entries[at].key_plus_1 != 0) {
        at = (at + 1) & mask;
    }
    return at;
}

static NOINLINE void dictionary_grow(dictionary *dict)
{
    dictionary grown = {NULL, dict->capacity > 0 ? dict->capacity * 4 : 1024, dict->count};
    size_t i;
    grown.entries = map_bytes(grown.capacity * sizeof(*grown.entries));
    for (i = 0; i < dict->capacity; ++i) {
        if (dict->entries[i].key_plus_1 != 0) {
            grown.entries[dictionary_probe(&grown, dict->entries[i].key_plus_1 - 1)] = dict->entries[i];
        }
    }
    unmap_bytes(dict->entries, dict->capacity * sizeof(*dict->entries));
    *dict = grown;
}

static size_t dictionary_number(dictionary *dict, uint64_t key)
{
    size_t at;
    if (dict->count * 2 >= dict->capacity) {
        dictionary_grow(dict);
    }
    at = dictionary_probe(dict, key);
    if (dict->entries[at].key_plus_1 == 0) {
        dict->entries[at].key_plus_1 = key + 1;
        dict->entries[at].number = dict->count++;
    }
    return dict->entries[at].number;
}

static void dictionary_clear(dictionary *dict)
{
    unmap_bytes(dict->entries, dict->capacity * sizeof(*dict->entries));
    memset(dict, 0, sizeof(*dict));
}

/*---------------------------------------------------------------------------------------------------------
  Traces: a list of events. Each id has a slot, which is where a row keeps its pointer.
  -------------------------------------------------------------------------------------------------------*/

typedef enum event_op { OP_ALLOC, OP_ALLOC_ALIGNED, OP_FREE } event_op;

typedef struct event {
    uint64_t size_bytes; /* of frees too */
    uint32_t slot;
    uint8_t op;
    uint8_t alignment_log2;
    uint16_t part; /* which file, for --alternate */
} event;

typedef struct slot {
    uint64_t size_bytes;
    size_t born; /* number of the event that allocated it, from 1; 0: not live */
    size_t line;
} slot;

typedef struct trace {
    char name[512];
    event *events; /* one pass, closing frees included */
    size_t event_count;
    size_t event_capacity;
    event *kept; /* --keep: allocated once, before the first pass */
    size_t kept_count;
    size_t kept_capacity;
    slot *slots;
    size_t slot_count;
    size_t slot_capacity;
    dictionary ids; /* of the file being read */
    size_t ids_base;
    size_t part_start;
    uint16_t part_count;
    size_t pair_count;
    size_t step_count;
    uint64_t scale;
    uint64_t kept_bytes;
    uint64_t largest_bytes;
    uint64_t peak_live_bytes;
} trace;

static slot *trace_slot(trace *t, uint64_t id)
{
    size_t index = t->ids_base + dictionary_number(&t->ids, id);
    if (index >= t->slot_count) {
        t->slots = grow_array(t->slots, t->slot_count, &t->slot_capacity, sizeof(*t->slots));
        t->slot_count = index + 1;
    }
    return &t->slots[index];
}

static void trace_push(trace *t, size_t slot_index, event_op op, unsigned alignment_log2)
{
    event *e;
    t->events = grow_array(t->events, t->event_count, &t->event_capacity, sizeof(*t->events));
    e = &t->events[t->event_count++];
    e->size_bytes = t->slots[slot_index].size_bytes;
    e->slot = (uint32_t)slot_index;
    e->op = (uint8_t)op;
    e->alignment_log2 = (uint8_t)alignment_log2;
    e->part = t->part_count;
}

/* 0, or the line on which the id became live. */
static size_t trace_alloc(trace *t, uint64_t id, uint64_t size_bytes, unsigned alignment_log2, size_t line)
{
    slot *s = trace_slot(t, id);
    if (s->born != 0) {
        return s->line;
    }
    if (size_bytes > SCALE_ABOVE_BYTES) {
        size_bytes /= t->scale;
        size_bytes = size_bytes < SCALE_ABOVE_BYTES ? SCALE_ABOVE_BYTES : size_bytes;
    }
    s->size_bytes = size_bytes;
    s->line = line;
    s->born = t->event_count + 1;
    t->largest_bytes = size_bytes > t->largest_bytes ? size_bytes : t->largest_bytes;
    trace_push(t, (size_t)(s - t->slots), alignment_log2 > 0 ? OP_ALLOC_ALIGNED : OP_ALLOC, alignment_log2);
    return 0;
}

/* 0 if the id is not live. */
static int trace_free(trace *t, uint64_t id)
{
    slot *s = trace_slot(t, id);
    if (s->born == 0) {
        return 0;
    }
    s->born = 0;
    trace_push(t, (size_t)(s - t->slots), OP_FREE, 0);
    return 1;
}

/* Frees what is live, oldest first. With keep, what was allocated before the first free is taken out instead. */
static void trace_end_part(trace *t, int keep)
{
    size_t end = t->event_count;
    size_t first_free = t->part_start;
    size_t out = t->part_start;
    size_t i;
    while (first_free < end && t->events[first_free].op != OP_FREE) {
        ++first_free;
    }
    for (i = t->part_start; i < end; ++i) {
        if (t->events[i].op != OP_FREE && t->slots[t->events[i].slot].born == i + 1 && !(keep && i < first_free)) {
            trace_push(t, t->events[i].slot, OP_FREE, 0);
        }
    }
    for (i = t->part_start; i < t->event_count; ++i) {
        event e = t->events[i];
        if (keep && i < first_free && t->slots[e.slot].born == i + 1) {
            t->kept = grow_array(t->kept, t->kept_count, &t->kept_capacity, sizeof(*t->kept));
            t->kept[t->kept_count++] = e;
            t->kept_bytes += e.size_bytes;
        } else {
            t->events[out++] = e;
            t->pair_count += e.op != OP_FREE;
        }
    }
    t->event_count = out;
    t->part_start = out;
    t->part_count++;
    t->ids_base = t->slot_count;
    dictionary_clear(&t->ids);
}

/* Largest sum of live requested bytes in a pass, kept ones included. */
static uint64_t peak_of(const trace *t, const event *events)
{
    uint64_t live = t->kept_bytes;
    uint64_t peak = live;
    size_t i;
    for (i = 0; i < t->event_count; ++i) {
        if (events[i].op == OP_FREE) {
            live -= events[i].size_bytes;
        } else {
            live += events[i].size_bytes;
            peak = live > peak ? live : peak;
        }
    }
    return peak;
}

/* Where the reader is, for its messages. */
typedef struct position {
    const char *path;
    size_t line;
    const char *at;
} position;

__attribute__((noreturn, format(printf, 2, 3))) static void fail_at(const position *p, const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "%s:%zu: ", p->path, p->line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static void skip_blanks(position *p) { p->at += strspn(p->at, " \t\r"); }
static int at_end(const position *p) { return *p->at == 0 || *p->at == '#'; }

static uint64_t read_field(position *p, const char *what, uint64_t max)
{
    uint64_t value = 0;
    skip_blanks(p);
    if (at_end(p)) {
        fail_at(p, "%s is missing", what);
    }
    if (*p->at < '0' || *p->at > '9') {
        fail_at(p, "%s is not a number", what);
    }
    for (; *p->at >= '0' && *p->at <= '9'; ++p->at) {
        uint64_t digit = (uint64_t)(*p->at - '0');
        if (value > (max - digit) / 10) {
            fail_at(p, "%s is above %llu", what, (unsigned long long)max);
        }
        value = value * 10 + digit;
    }
    if (!at_end(p) && strchr(" \t\r", *p->at) == NULL) {
        fail_at(p, "%s is not a number", what);
    }
    return value;
}

static void read_alloc(trace *t, position *p)
{
    uint64_t id = read_field(p, "ID", UINT64_MAX / 2);
    uint64_t size_bytes = read_field(p, "SIZE", SIZE_BYTES_MAX);
    unsigned alignment_log2 = 0;
    size_t other_line;
    if (size_bytes == 0) {
        fail_at(p, "SIZE is 0");
    }
    skip_blanks(p);
    if (!at_end(p)) {
        uint64_t alignment = read_field(p, "ALIGN", (uint64_t)1 << 30);
        if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
            fail_at(p, "ALIGN is not a power of two");
        }
        alignment_log2 = (unsigned)__builtin_ctzll(alignment);
    }
    other_line = trace_alloc(t, id, size_bytes, alignment_log2, p->line);
    if (other_line != 0) {
        fail_at(p, "id %llu is live since line %zu", (unsigned long long)id, other_line);
    }
    if (t->event_count > UINT32_MAX / 2) {
        fail_at(p, "too many events");
    }
}

static void read_event(trace *t, position *p)
{
    char letter;
    skip_blanks(p);
    if (at_end(p)) {
        return;
    }
    letter = *p->at++;
    if (strchr("afs", letter) == NULL || (!at_end(p) && strchr(" \t\r", *p->at) == NULL)) {
        fail_at(p, "unknown event: expected a, f, s or #");
    }
    if (letter == 'a') {
        read_alloc(t, p);
    } else if (letter == 'f') {
        uint64_t id = read_field(p, "ID", UINT64_MAX / 2);
        if (!trace_free(t, id)) {
            fail_at(p, "id %llu is not live", (unsigned long long)id);
        }
    } else {
        t->step_count++;
    }
    skip_blanks(p);
    if (!at_end(p)) {
        fail_at(p, "text behind the event");
    }
}

static void read_file(trace *t, const char *path, int keep)
{
    char *text = NULL;
    size_t length = 0;
    size_t capacity = 0;
    size_t got;
    size_t first_event = t->event_count;
    size_t steps_before = t->step_count;
    position p = {path, 0, NULL};
    char *line;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail("%s: %s", path, strerror(errno));
    }
    setvbuf(file, NULL, _IONBF, 0);
    do {
        text = grow_array(text, length, &capacity, 1);
        got = fread(text + length, 1, capacity - length, file);
        length += got;
    } while (got > 0);
    if (ferror(file)) {
        fail("%s: %s", path, strerror(errno));
    }
    fclose(file);
    text = grow_array(text, length, &capacity, 1);
    text[length] = 0;
    for (line = text; line < text + length;) {
        char *end = memchr(line, '\n', length - (size_t)(line - text));
        end = end != NULL ? end : text + length;
        *end = 0;
        p.at = line;
        p.line++;
        read_event(t, &p);
        if (*p.at == 0 && p.at != end) {
            fail_at(&p, "a zero byte: this is not text");
        }
        line = end + 1;
    }
    if (t->event_count == first_event) {
        p.line = p.line > 0 ? p.line : 1;
        fail_at(&p, "no events in this file");
    }
    if (t->step_count == steps_before) {
        t->step_count++;
    }
    unmap_bytes(text, capacity);
    trace_end_part(t, keep);
}

/* The step that is replayed when no file is given: one training step of a small transformer. */
static void make_built_in(trace *t, int keep)
{
    enum { LAYERS = 8, WIDTH = 256, TOKENS = 384, HEADS = 4, PARAMETERS = 6, SAVED = 5 };
    static const uint64_t parameter_elements[PARAMETERS] = {
        WIDTH * WIDTH * 3, WIDTH * 3, WIDTH * WIDTH, WIDTH, WIDTH * WIDTH * 4, WIDTH * WIDTH * 4};
    static const uint64_t saved_elements[SAVED] = {TOKENS * WIDTH, TOKENS * WIDTH * 3, HEADS * TOKENS * TOKENS,
                                                   TOKENS * WIDTH * 4, TOKENS};
    uint64_t id = 0;
    uint64_t saved_first;
    uint64_t layer;
    uint64_t i;
    for (i = 0; i < LAYERS * PARAMETERS; ++i) {
        trace_alloc(t, id++, 4 * parameter_elements[i % PARAMETERS], 0, 0);
    }
    saved_first = id;
    for (layer = 0; layer < LAYERS; ++layer) { /* forward: keeps what backward needs, with scratch in between */
        for (i = 0; i < SAVED; ++i) {
            trace_alloc(t, saved_first + layer * SAVED + i, 4 * saved_elements[i], 0, 0);
            trace_alloc(t, 1000 + i, 4 * saved_elements[(i + 1) % SAVED], 0, 0);
            trace_alloc(t, 2000 + i, 4 * TOKENS, 0, 0);
            trace_free(t, 1000 + i);
            trace_free(t, 2000 + i);
        }
    }
    for (layer = LAYERS; layer-- > 0;) { /* backward: newest first */
        for (i = SAVED; i-- > 0;) {
            trace_alloc(t, 1000, 4 * saved_elements[i], 0, 0);
            trace_alloc(t, 3000 + layer * PARAMETERS + i, 4 * parameter_elements[i], 0, 0);
            trace_free(t, saved_first + layer * SAVED + i);
            trace_free(t, 1000);
        }
    }
    for (layer = 0; layer < LAYERS; ++layer) { /* update */
        for (i = 0; i < SAVED; ++i) {
            trace_alloc(t, 1000, 4 * parameter_elements[i], 0, 0);
            trace_free(t, 3000 + layer * PARAMETERS + i);
            trace_free(t, 1000);
        }
    }
    t->step_count = 1;
    trace_end_part(t, keep);
}

/* The events of a pass. From the second on --vary gives the sizes of each file a factor, and --jitter lets some events
   change places. The same pass is the same for every row. Returns 0 if events were left as they were. */
static int make_events(const trace *t, event *events, const options *o, size_t pass)
{
    uint64_t seed = (pass + 1) * UINT64_C(0x9E3779B97F4A7C15);
    uint16_t part = UINT16_MAX;
    uint64_t factor = 1024;
    size_t i;
    if (pass > 0 && !o->vary && o->jitter == 0) {
        return 0;
    }
    memcpy(events, t->events, t->event_count * sizeof(*events));
    for (i = 0; o->vary && pass > 0 && i < t->event_count; ++i) {
        if (events[i].part != part) {
            part = events[i].part;
            factor = 512 + draw(&seed, 512);
        }
        if (events[i].size_bytes >= VARY_FROM_BYTES) {
            events[i].size_bytes = events[i].size_bytes * factor / 1024;
        }
    }
    for (i = 0; o->jitter > 0 && pass > 0 && i + 1 < t->event_count; ++i) {
        if (draw(&seed, 1000) < o->jitter && events[i].slot != events[i + 1].slot) {
            event moved = events[i];
            events[i] = events[i + 1];
            events[i + 1] = moved;
            ++i;
        }
    }
    return 1;
}

/*---------------------------------------------------------------------------------------------------------
  The baselines p2, exact and null carve fresh blocks from one region of addresses. Its memory comes by touch.
  -------------------------------------------------------------------------------------------------------*/

typedef struct free_stack {
    void **blocks;
    size_t count;
    size_t capacity;
} free_stack;

typedef struct baseline {
    char *region;
    size_t region_bytes;
    size_t used_bytes;
    uint64_t carve_count;
    free_stack *stacks; /* by power of two, or by number of the size */
    size_t stack_count;
    size_t stack_capacity;
    dictionary sizes;
} baseline;

/* What the region may hold, and how. */
typedef struct region_desc {
    uint64_t bytes_max; /* 0: nothing is touched, so it may be as large as it likes */
    uint64_t largest_bytes;
    int thp;
    uint64_t limit_bytes; /* what a pool may reserve; 0: no limit */
} region_desc;

static NOINLINE void *carve(baseline *b, size_t bytes)
{
    size_t alignment = bytes >= 4096 ? 4096 : 64;
    size_t at = (b->used_bytes + alignment - 1) & ~(alignment - 1);
    if (at > b->region_bytes || bytes > b->region_bytes - at) {
        return NULL;
    }
    b->used_bytes = at + bytes;
    b->carve_count++;
    return b->region + at;
}

static void push_block(free_stack *s, void *ptr)
{
    s->blocks = grow_array(s->blocks, s->count, &s->capacity, sizeof(*s->blocks));
    s->blocks[s->count++] = ptr;
}

static unsigned p2_class(size_t bytes) { return bytes <= 64 ? 6 : 64 - (unsigned)__builtin_clzll(bytes - 1); }

static void *p2_alloc(void *self, size_t size_bytes)
{
    baseline *b = self;
    unsigned class_index = p2_class(size_bytes);
    free_stack *s = &b->stacks[class_index];
    return LIKELY(s->count > 0) ? s->blocks[--s->count] : carve(b, (size_t)1 << class_index);
}

static void p2_free(void *self, void *ptr, size_t size_bytes)
{
    baseline *b = self;
    push_block(&b->stacks[p2_class(size_bytes)], ptr);
}

static free_stack *exact_stack(baseline *b, size_t size_bytes)
{
    size_t number = dictionary_number(&b->sizes, size_bytes);
    if (number >= b->stack_count) {
        b->stacks = grow_array(b->stacks, b->stack_count, &b->stack_capacity, sizeof(*b->stacks));
        b->stack_count = number + 1;
    }
    return &b->stacks[number];
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

static void *p2_alloc_aligned(void *self, size_t size_bytes, size_t alignment_bytes)
{
    (void)alignment_bytes;
    return p2_alloc(self, size_bytes);
}

static void *exact_alloc_aligned(void *self, size_t size_bytes, size_t alignment_bytes)
{
    (void)alignment_bytes;
    return exact_alloc(self, size_bytes);
}

static void *null_alloc_aligned(void *self, size_t size_bytes, size_t alignment_bytes)
{
    (void)alignment_bytes;
    return null_alloc(self, size_bytes);
}

/* Huge pages need a start that is aligned to them; one more of them is mapped for that. */
static int map_region(baseline *b, const region_desc *desc)
{
    size_t huge_bytes = (size_t)2 << 20;
    int access = desc->bytes_max > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
    size_t bytes = desc->bytes_max > 0 ? (size_t)desc->bytes_max : (size_t)1 << (sizeof(size_t) > 4 ? 44 : 29);
    for (; bytes >= huge_bytes; bytes /= 8) { /* addresses may be limited, and others want some too */
        void *ptr = mmap(NULL, bytes + huge_bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ptr != MAP_FAILED) {
            b->used_bytes = (size_t)(-(uintptr_t)ptr & (huge_bytes - 1));
            b->region = (char *)ptr + b->used_bytes;
            b->region_bytes = bytes;
            b->used_bytes = 0;
#ifdef MADV_HUGEPAGE
            if (desc->thp) {
                madvise(b->region, bytes, MADV_HUGEPAGE);
            }
#endif
            return 1;
        }
    }
    return 0;
}

static void *open_baseline(const region_desc *desc)
{
    baseline *b = map_bytes(sizeof(*b));
    b->stacks = grow_array(NULL, 0, &b->stack_capacity, sizeof(*b->stacks)); /* 1024: more than powers of two */
    if (!map_region(b, desc)) {
        return NULL;
    }
    return b;
}

static void *open_null(const region_desc *desc)
{
    region_desc one = *desc;
    one.bytes_max = desc->bytes_max > 0 ? desc->largest_bytes + ((uint64_t)2 << 20) : 0;
    return open_baseline(&one);
}

static void close_baseline(void *self)
{
    baseline *b = self;
    size_t i;
    for (i = 0; i < b->stack_capacity; ++i) {
        unmap_bytes(b->stacks[i].blocks, b->stacks[i].capacity * sizeof(*b->stacks[i].blocks));
    }
    unmap_bytes(b->stacks, b->stack_capacity * sizeof(*b->stacks));
    dictionary_clear(&b->sizes);
    munmap(b->region, b->region_bytes);
    unmap_bytes(b, sizeof(*b));
}

/*---------------------------------------------------------------------------------------------------------
  malloc and the pools
  -------------------------------------------------------------------------------------------------------*/

static void *malloc_open(const region_desc *desc)
{
    static int token;
    (void)desc;
    return &token;
}

static void malloc_close(void *self)
{
    (void)self;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void *malloc_alloc(void *self, size_t size_bytes)
{
    (void)self;
    return malloc(size_bytes);
}

static void *malloc_alloc_aligned(void *self, size_t size_bytes, size_t alignment_bytes)
{
    void *ptr;
    (void)self;
    alignment_bytes = alignment_bytes < sizeof(void *) ? sizeof(void *) : alignment_bytes;
    return posix_memalign(&ptr, alignment_bytes, size_bytes) == 0 ? ptr : NULL;
}

static void malloc_free(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)size_bytes;
    free(ptr);
}

static void *pool_open(const region_desc *desc)
{
    ta_pool_desc with = {0};
    ta_pool *pool;
    with.limit_bytes = (size_t)desc->limit_bytes;
    return ta_pool_create(&with, &pool) == TA_OK ? pool : NULL;
}

static void *pool_open_spec(const region_desc *desc)
{
    ta_pool_desc spec = ta_pool_desc_spec();
    ta_pool *pool;
    spec.limit_bytes = (size_t)desc->limit_bytes;
    return ta_pool_create(&spec, &pool) == TA_OK ? pool : NULL;
}

static void pool_close(void *self) { (void)ta_pool_destroy(self); }

static void *pool_alloc(void *self, size_t size_bytes) { return ta_pool_alloc(self, size_bytes, NULL); }

static void *pool_alloc_aligned(void *self, size_t size_bytes, size_t alignment_bytes)
{
    return ta_pool_alloc_aligned(self, size_bytes, alignment_bytes, NULL);
}

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
  Rows
  -------------------------------------------------------------------------------------------------------*/

typedef enum row_family { FAMILY_POOL, FAMILY_MALLOC, FAMILY_BASELINE, FAMILY_NULL } row_family;

typedef struct row_kind {
    const char *name;
    row_family family;
    int pack_order; /* who shares memory with whom, when not all can be held at once */
    void *(*open)(const region_desc *desc); /* NULL: no memory */
    void (*close)(void *self);
    void *(*alloc)(void *self, size_t size_bytes);
    void *(*alloc_aligned)(void *self, size_t size_bytes, size_t alignment_bytes);
    void (*free)(void *self, void *ptr, size_t size_bytes);
} row_kind;

static const row_kind row_kinds[] = {
    {"ta_pool", FAMILY_POOL, 0, pool_open, pool_close, pool_alloc, pool_alloc_aligned, pool_free},
    {"ta_pool_sized", FAMILY_POOL, 4, pool_open, pool_close, pool_alloc, pool_alloc_aligned, pool_free_sized},
    {"ta_pool_spec", FAMILY_POOL, 5, pool_open_spec, pool_close, pool_alloc, pool_alloc_aligned, pool_free},
    {"malloc", FAMILY_MALLOC, 6, malloc_open, malloc_close, malloc_alloc, malloc_alloc_aligned, malloc_free},
    {"p2", FAMILY_BASELINE, 1, open_baseline, close_baseline, p2_alloc, p2_alloc_aligned, p2_free},
    {"exact", FAMILY_BASELINE, 2, open_baseline, close_baseline, exact_alloc, exact_alloc_aligned, exact_free},
    {"null", FAMILY_NULL, 3, open_null, close_baseline, null_alloc, null_alloc_aligned, null_free},
};
enum { ROW_COUNT = sizeof(row_kinds) / sizeof(row_kinds[0]), ROW_P2 = 4 };

typedef struct row_result {
    int measured;
    double cold_ns;
    double steady_ns;
    double least_ns;
    double most_ns;
    double faults_per_pass;
    int knows_memory;
    uint64_t reserved_bytes;
    double hit_rate;
    int knows_records;
    uint64_t record_bytes;
    double latency_p999_ns;
    double latency_max_ns;
    double latency_typical_max_ns;   /* median over passes of the longest call of a pass */
    double latency_hit_max_ns;       /* longest call that did not need the backend */
} row_result;

typedef struct row {
    const row_kind *kind;
    void *self;
    void **pointers; /* by slot */
    double *pass_ns;
    double *pass_faults;
    uint64_t alloc_count;
    uint64_t need_bytes; /* of memory, when it is touched */
    char problem[160];   /* why it is not measured */
    row_result result;
} row;

static void touch_block(void *ptr, size_t size_bytes, touch_mode touch)
{
    volatile char *bytes = ptr;
    size_t i;
    if (touch == TOUCH_FULL) {
        memset(ptr, 1, size_bytes);
        return;
    }
    for (i = 0; i < size_bytes; i += TOUCH_STEP_BYTES) {
        bytes[i] = 1;
    }
    bytes[size_bytes - 1] = 1;
}

/* The measured loop. Returns event_count, or the number of the event that got no memory. */
static NOINLINE size_t replay_pass(const row *r, const event *events, size_t event_count, touch_mode touch)
{
    void *(*const alloc)(void *, size_t) = r->kind->alloc;
    void (*const release)(void *, void *, size_t) = r->kind->free;
    void *const self = r->self;
    void **const pointers = r->pointers;
    size_t i;
    for (i = 0; i < event_count; ++i) {
        const event *e = &events[i];
        void *ptr;
        if (e->op == OP_FREE) {
            release(self, pointers[e->slot], (size_t)e->size_bytes);
            continue;
        }
        ptr = LIKELY(e->op == OP_ALLOC)
                  ? alloc(self, (size_t)e->size_bytes)
                  : r->kind->alloc_aligned(self, (size_t)e->size_bytes, (size_t)1 << e->alignment_log2);
        pointers[e->slot] = ptr;
        if (!LIKELY(ptr != NULL)) {
            return i;
        }
        if (touch != TOUCH_NONE) {
            touch_block(ptr, (size_t)e->size_bytes, touch);
        }
    }
    return event_count;
}

/* The rest of a pass after an allocation failed: only frees. */
static void drain_pass(const row *r, const event *events, size_t from, size_t event_count)
{
    size_t i;
    for (i = from; i < event_count; ++i) {
        void **ptr = &r->pointers[events[i].slot];
        if (events[i].op != OP_FREE) {
            *ptr = NULL;
        } else if (*ptr != NULL) {
            r->kind->free(r->self, *ptr, (size_t)events[i].size_bytes);
        }
    }
}

static void note_failure(row *r, const event *failed, size_t index, size_t pass)
{
    const char *why = "no memory";
    ta_failure failure;
    if (r->kind->family == FAMILY_POOL && ta_pool_get_failure(r->self, &failure) == TA_OK) {
        why = ta_result_text(failure.result);
    } else if (r->kind->family == FAMILY_BASELINE) {
        why = "its region is full";
    }
    snprintf(r->problem, sizeof(r->problem), "no %.1f MiB in pass %zu, event %zu: %s",
             (double)failed->size_bytes / MIB, pass + 1, index + 1, why);
}

/* Runs one pass and returns its CPU time. On failure r->problem says why. */
static double timed_pass(row *r, const trace *t, const event *events, touch_mode touch, size_t pass)
{
    uint64_t faults = fault_count();
    uint64_t start = cpu_ns();
    size_t done = replay_pass(r, events, t->event_count, touch);
    double ns = (double)(cpu_ns() - start);
    r->pass_faults[pass] = (double)(fault_count() - faults);
    if (done < t->event_count) {
        note_failure(r, &events[done], done, pass);
        drain_pass(r, events, done + 1, t->event_count);
    }
    r->alloc_count += t->pair_count;
    return ns;
}

/* Bytes, hits and records after the passes that count for them. */
static void read_figures(row *r)
{
    row_result *out = &r->result;
    if (r->kind->family == FAMILY_POOL) {
        ta_stats stats;
        if (ta_pool_get_stats(r->self, &stats) == TA_OK) {
            out->knows_memory = 1;
            out->reserved_bytes = stats.peak_reserved_bytes;
            out->hit_rate = ta_stats_hit_rate(&stats);
            out->knows_records = 1;
            out->record_bytes = stats.record_bytes;
        }
    } else if (r->kind->family == FAMILY_BASELINE) {
        const baseline *b = r->self;
        out->knows_memory = 1;
        out->reserved_bytes = b->used_bytes;
        out->hit_rate = r->alloc_count > 0 ? 1.0 - (double)b->carve_count / (double)r->alloc_count : 0.0;
    }
}

/* NULL if the pool's own figures agree with each other and with what was replayed. */
static const char *pool_inconsistency(const row *r, size_t live_count)
{
    ta_stats stats;
    if (ta_pool_check(r->self) != TA_OK) {
        return "ta_pool_check found a broken invariant";
    }
    if (ta_pool_get_stats(r->self, &stats) != TA_OK) {
        return "no statistics";
    }
    if (stats.reserved_bytes != stats.in_use_bytes + stats.cached_bytes) {
        return "reserved is not in use + cached";
    }
    if (stats.peak_reserved_bytes < stats.reserved_bytes) {
        return "peak reserved is below reserved";
    }
    if (stats.live_count != live_count) {
        return "wrong number of live blocks";
    }
    if (stats.allocation_count != r->alloc_count || stats.deallocation_count != r->alloc_count - live_count) {
        return "wrong number of allocations or frees";
    }
    if (stats.hit_count + stats.miss_count != stats.allocation_count) {
        return "hits and misses are not all allocations";
    }
    return NULL;
}

/*---------------------------------------------------------------------------------------------------------
  --latency: single calls
  -------------------------------------------------------------------------------------------------------*/

/* Calls for which the pool went to its backend, so far. */
static uint64_t backend_call_count(const row *r)
{
    ta_stats stats;
    if (r->kind->family != FAMILY_POOL || ta_pool_get_stats(r->self, &stats) != TA_OK) {
        return 0;
    }
    return stats.miss_count + stats.trim_count;
}

static void call_one(const row *r, const event *e)
{
    void **ptr = &r->pointers[e->slot];
    if (e->op == OP_FREE) {
        r->kind->free(r->self, *ptr, (size_t)e->size_bytes);
    } else if (e->op == OP_ALLOC) {
        *ptr = r->kind->alloc(r->self, (size_t)e->size_bytes);
    } else {
        *ptr = r->kind->alloc_aligned(r->self, (size_t)e->size_bytes, (size_t)1 << e->alignment_log2);
    }
}

/* A call's time is the lesser of wall time and CPU time: wall is exact, CPU leaves out that other programs ran. */
static uint64_t time_one(const row *r, const event *e, uint64_t cpu_clock_cost_ns)
{
    uint64_t cpu_start = cpu_ns();
    uint64_t wall_start = wall_ns();
    uint64_t wall;
    uint64_t cpu;
    call_one(r, e);
    wall = wall_ns() - wall_start;
    cpu = cpu_ns() - cpu_start;
    cpu = cpu > cpu_clock_cost_ns ? cpu - cpu_clock_cost_ns : 0;
    return cpu < wall ? cpu : wall;
}

/* CPU time between the two readings of time_one when nothing is called in between. */
static uint64_t cpu_clock_cost(void)
{
    uint64_t least = UINT64_MAX;
    int i;
    for (i = 0; i < 1000; ++i) {
        uint64_t start = cpu_ns();
        uint64_t ns;
        (void)wall_ns();
        (void)wall_ns();
        ns = cpu_ns() - start;
        least = ns < least ? ns : least;
    }
    return least;
}

/* One pass with a clock around each call. Returns the longest call, or < 0 on failure. */
static double latency_pass(row *r, const trace *t, const event *events, size_t pass, uint32_t *call_ns,
                           uint64_t clock_cost_ns)
{
    enum { SUSPECT_NS = 1000 }; /* no backend call is faster */
    uint64_t backend_calls = backend_call_count(r);
    double longest = 0;
    size_t i;
    for (i = 0; i < t->event_count; ++i) {
        uint64_t ns = time_one(r, &events[i], clock_cost_ns);
        if (events[i].op != OP_FREE && r->pointers[events[i].slot] == NULL) {
            note_failure(r, &events[i], i, pass);
            drain_pass(r, events, i + 1, t->event_count);
            return -1;
        }
        call_ns[i] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
        longest = (double)ns > longest ? (double)ns : longest;
        if ((double)ns > r->result.latency_hit_max_ns) {
            uint64_t calls = ns >= SUSPECT_NS ? backend_call_count(r) : backend_calls;
            if (calls == backend_calls) {
                r->result.latency_hit_max_ns = (double)ns;
            }
            backend_calls = calls;
        }
    }
    return longest;
}

static void measure_latency(row *rows, const size_t *group, size_t group_count, const trace *t, event *events,
                            const options *o)
{
    size_t call_count = t->event_count * LATENCY_PASSES;
    uint64_t clock_cost_ns = cpu_clock_cost();
    uint32_t *call_ns[ROW_COUNT];
    double longest[ROW_COUNT][LATENCY_PASSES];
    size_t pass;
    size_t g;
    for (g = 0; g < group_count; ++g) {
        call_ns[g] = map_bytes(call_count * sizeof(uint32_t));
        memset(call_ns[g], 0, call_count * sizeof(uint32_t));
    }
    for (pass = 0; pass < LATENCY_PASSES; ++pass) {
        (void)make_events(t, events, o, total_passes(o) + pass);
        for (g = 0; g < group_count; ++g) {
            row *r = &rows[group[g]];
            if (r->problem[0] == 0) {
                show_progress(t->name, r->kind->name, pass + 1, LATENCY_PASSES);
                longest[g][pass] = latency_pass(r, t, events, total_passes(o) + pass,
                                                call_ns[g] + pass * t->event_count, clock_cost_ns);
                r->alloc_count += t->pair_count;
            }
        }
    }
    for (g = 0; g < group_count; ++g) {
        row_result *out = &rows[group[g]].result;
        if (rows[group[g]].problem[0] == 0) {
            qsort(call_ns[g], call_count, sizeof(uint32_t), compare_u32);
            out->latency_p999_ns = call_ns[g][call_count - 1 - call_count / 1000];
            out->latency_max_ns = call_ns[g][call_count - 1];
            out->latency_typical_max_ns = median(longest[g], LATENCY_PASSES);
        }
        unmap_bytes(call_ns[g], call_count * sizeof(uint32_t));
    }
}

/*---------------------------------------------------------------------------------------------------------
  Measuring one trace
  -------------------------------------------------------------------------------------------------------*/

/* What a baseline carves over a whole run, found by running it once without touching. UINT64_MAX: too much. */
static uint64_t carved_bytes(const row_kind *kind, const trace *t, const options *o)
{
    region_desc desc = {0, 0, 0, 0};
    size_t passes = total_passes(o) + (o->latency ? LATENCY_PASSES : 0);
    event *events = map_bytes(t->event_count * sizeof(*events));
    uint64_t bytes = UINT64_MAX;
    size_t pass;
    row r;
    memset(&r, 0, sizeof(r));
    r.kind = kind;
    r.self = kind->open(&desc);
    if (r.self != NULL) {
        int good;
        r.pointers = map_bytes(t->slot_count * sizeof(*r.pointers));
        good = replay_pass(&r, t->kept, t->kept_count, TOUCH_NONE) == t->kept_count;
        for (pass = 0; pass < passes && good; ++pass) {
            (void)make_events(t, events, o, pass);
            good = replay_pass(&r, events, t->event_count, TOUCH_NONE) == t->event_count;
        }
        bytes = good ? ((baseline *)r.self)->used_bytes : UINT64_MAX;
        unmap_bytes(r.pointers, t->slot_count * sizeof(*r.pointers));
        kind->close(r.self);
    }
    unmap_bytes(events, t->event_count * sizeof(*events));
    return bytes;
}

/* Most memory that the row may touch. */
static uint64_t need_bytes(const row_kind *kind, const trace *t, const options *o)
{
    uint64_t bytes = t->largest_bytes;
    if (kind->family == FAMILY_POOL) {
        bytes = t->peak_live_bytes / 4 * 5;
    } else if (kind->family == FAMILY_MALLOC) {
        bytes = t->peak_live_bytes / 2 * 3;
    } else if (kind->family == FAMILY_BASELINE) {
        bytes = carved_bytes(kind, t, o);
    }
    return bytes < UINT64_MAX / 2 ? bytes + ((uint64_t)32 << 20) : UINT64_MAX;
}

/* Touches as much memory as the rows will and gives it back: on a virtual machine the very first touch of a page costs
   much more than any later one, and would be charged to whichever row comes first. */
static void wake_memory(uint64_t bytes, const options *o)
{
    size_t i;
    char *ptr;
    if (bytes <= *o->awake_bytes) {
        return;
    }
    ptr = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ptr == MAP_FAILED) {
        return;
    }
#ifdef MADV_HUGEPAGE
    madvise(ptr, (size_t)bytes, MADV_HUGEPAGE);
#endif
    for (i = 0; i < bytes; i += TOUCH_STEP_BYTES) {
        ((volatile char *)ptr)[i] = 1;
    }
    munmap(ptr, (size_t)bytes);
    *o->awake_bytes = bytes;
}

/* Opens the row, allocates what --keep keeps, and makes its arrays present. */
static void open_row(row *r, const trace *t, const options *o)
{
    size_t passes = total_passes(o);
    region_desc desc = {0, 0, 0, 0};
    size_t done;
    desc.bytes_max = r->need_bytes;
    desc.largest_bytes = t->largest_bytes;
    desc.thp = o->thp;
    desc.limit_bytes = t->peak_live_bytes / 100 * o->limit_percent;
    r->pass_ns = map_bytes(passes * sizeof(*r->pass_ns));
    memset(r->pass_ns, 0, passes * sizeof(*r->pass_ns));
    r->pass_faults = map_bytes(passes * sizeof(*r->pass_faults));
    memset(r->pass_faults, 0, passes * sizeof(*r->pass_faults));
    r->pointers = map_bytes(t->slot_count * sizeof(*r->pointers));
    memset(r->pointers, 0, t->slot_count * sizeof(*r->pointers));
    r->self = r->kind->open(&desc);
    if (r->self == NULL) {
        snprintf(r->problem, sizeof(r->problem), "cannot be created on this machine");
        return;
    }
    done = replay_pass(r, t->kept, t->kept_count, o->touch);
    r->alloc_count += t->kept_count;
    if (done < t->kept_count) {
        note_failure(r, &t->kept[done], done, 0);
    }
}

static void close_row(row *r, const trace *t, const options *o)
{
    size_t i;
    if (r->self != NULL && r->kind->family == FAMILY_MALLOC) {
        for (i = 0; i < t->kept_count; ++i) {
            r->kind->free(r->self, r->pointers[t->kept[i].slot], (size_t)t->kept[i].size_bytes);
        }
    }
    if (r->self != NULL) {
        r->kind->close(r->self);
    }
    unmap_bytes(r->pointers, t->slot_count * sizeof(*r->pointers));
    unmap_bytes(r->pass_ns, total_passes(o) * sizeof(*r->pass_ns));
    unmap_bytes(r->pass_faults, total_passes(o) * sizeof(*r->pass_faults));
}

static void shuffle(size_t *values, size_t count, uint64_t *seed)
{
    size_t i;
    for (i = count; i > 1; --i) {
        size_t other = draw(seed, (uint32_t)i);
        size_t value = values[i - 1];
        values[i - 1] = values[other];
        values[other] = value;
    }
}

/* Passes [first, end) of one row. */
static void run_turn(row *r, trace *t, event *events, const options *o, size_t first, size_t end)
{
    size_t counted = counted_passes(o);
    size_t pass;
    for (pass = first; pass < end && r->problem[0] == 0; ++pass) {
        if (make_events(t, events, o, pass) && pass < counted) {
            uint64_t peak = peak_of(t, events);
            t->peak_live_bytes = peak > t->peak_live_bytes ? peak : t->peak_live_bytes;
        }
        show_progress(t->name, r->kind->name, pass + 1, total_passes(o));
        r->pass_ns[pass] = timed_pass(r, t, events, o->touch, pass) / (double)t->pair_count;
        if (pass + 1 == counted) {
            read_figures(r);
        }
    }
}

/* Checks the row and gives it its result. */
static void finish_row(row *r, const trace *t, const options *o)
{
    size_t passes = total_passes(o);
    row_result *out = &r->result;
    const char *wrong = r->kind->family == FAMILY_POOL ? pool_inconsistency(r, t->kept_count) : NULL;
    if (wrong != NULL) {
        snprintf(r->problem, sizeof(r->problem), "inconsistent: %s", wrong);
        return;
    }
    out->measured = 1;
    out->cold_ns = r->pass_ns[0];
    out->steady_ns = median(r->pass_ns + 1, passes - 1);
    out->least_ns = r->pass_ns[1];
    out->most_ns = r->pass_ns[passes - 1];
    out->faults_per_pass = median(r->pass_faults + 1, passes - 1);
}

/* Runs the rows of a group: the first pass of each, then their turns. */
static void measure_group(row *rows, const size_t *group, size_t group_count, trace *t, const options *o)
{
    size_t steady_passes = total_passes(o) - 1;
    size_t turns = o->turns < steady_passes ? (size_t)o->turns : steady_passes;
    event *events = map_bytes(t->event_count * sizeof(*events));
    size_t order[ROW_COUNT];
    uint64_t order_seed = UINT64_C(0xD1B54A32D192ED03);
    size_t turn;
    size_t g;
    for (g = 0; g < group_count; ++g) {
        order[g] = group[g];
        open_row(&rows[group[g]], t, o);
    }
    for (turn = 0; turn <= turns; ++turn) {
        size_t first = turn == 0 ? 0 : 1 + steady_passes * (turn - 1) / turns;
        size_t end = 1 + steady_passes * turn / turns;
        shuffle(order, group_count, &order_seed);
        for (g = 0; g < group_count; ++g) {
            run_turn(&rows[order[g]], t, events, o, first, end);
        }
    }
    if (o->latency) {
        measure_latency(rows, group, group_count, t, events, o);
    }
    show_progress(t->name, NULL, 0, 0);
    for (g = 0; g < group_count; ++g) {
        if (rows[group[g]].problem[0] == 0) {
            finish_row(&rows[group[g]], t, o);
        }
        close_row(&rows[group[g]], t, o);
    }
    unmap_bytes(events, t->event_count * sizeof(*events));
}

static int row_wanted(const row_kind *kind, const options *o)
{
    size_t length = strlen(kind->name);
    const char *at = o->rows;
    while (at != NULL && *at != 0) {
        size_t item = strcspn(at, ",");
        if (item == length && strncmp(at, kind->name, length) == 0) {
            return 1;
        }
        at += item + (at[item] == ',');
    }
    return o->rows == NULL;
}

/* All rows at once where that fits into memory, else in groups, one after another. */
static void measure_trace(row *rows, trace *t, const options *o)
{
    uint64_t budget = o->touch != TOUCH_NONE ? memory_budget_bytes() : UINT64_MAX;
    size_t waiting[ROW_COUNT] = {0};
    size_t waiting_count = 0;
    size_t group_number = 0;
    size_t i;
    for (i = 0; i < ROW_COUNT * ROW_COUNT; ++i) { /* in pack order */
        row *r = &rows[i % ROW_COUNT];
        if ((size_t)r->kind->pack_order == i / ROW_COUNT && row_wanted(r->kind, o)) {
            r->need_bytes = o->touch != TOUCH_NONE ? need_bytes(r->kind, t, o) : 0;
            if (r->need_bytes > budget) {
                snprintf(r->problem, sizeof(r->problem),
                         "skipped: touching needs up to %.1f GiB, and %.1f GiB may be used",
                         (double)r->need_bytes / MIB / 1024, (double)budget / MIB / 1024);
            } else {
                waiting[waiting_count++] = i % ROW_COUNT;
            }
        }
    }
    while (waiting_count > 0) {
        size_t group[ROW_COUNT] = {0};
        size_t group_count = 0;
        size_t left_count = 0;
        uint64_t used = 0;
        for (i = 0; i < waiting_count; ++i) {
            uint64_t need = rows[waiting[i]].need_bytes;
            if (left_count == 0 && need <= budget - used) {
                group[group_count++] = waiting[i];
                used += need;
            } else {
                waiting[left_count++] = waiting[i];
            }
        }
        waiting_count = left_count;
        if (++group_number == 2) {
            fprintf(stderr, "replay: %s: memory does not hold all rows at once, so they run in groups\n", t->name);
        }
        wake_memory(used, o);
        measure_group(rows, group, group_count, t, o);
    }
}

/*---------------------------------------------------------------------------------------------------------
  Output
  -------------------------------------------------------------------------------------------------------*/

static void print_csv_header(void)
{
    puts("trace,allocator,touch,pairs,cold_ns_per_pair,steady_ns_per_pair,peak_live_bytes,peak_reserved_bytes,"
         "reserved_over_live,hit_rate,record_bytes");
}

static void print_csv(const row *rows, const trace *t, const options *o)
{
    size_t i;
    for (i = 0; i < ROW_COUNT; ++i) {
        const row_result *r = &rows[i].result;
        if (!r->measured) {
            continue;
        }
        printf("%s,%s,%s,%zu,%.2f,%.2f,%llu,", t->name, rows[i].kind->name, touch_names[o->touch], t->pair_count,
               r->cold_ns, r->steady_ns, (unsigned long long)t->peak_live_bytes);
        if (r->knows_memory) {
            printf("%llu,%.4f,%.4f,", (unsigned long long)r->reserved_bytes,
                   (double)r->reserved_bytes / (double)t->peak_live_bytes, r->hit_rate);
        } else {
            fputs(",,,", stdout);
        }
        if (r->knows_records) {
            printf("%llu", (unsigned long long)r->record_bytes);
        }
        putchar('\n');
    }
}

static void print_legend(const options *o)
{
    puts("A pair is one allocation and its free. Times are ns per pair, CPU time of the thread; the loop itself\n"
         "(row null) is part of them.\n"
         "  cold      first pass, when the allocator has no memory yet\n"
         "  steady    median of the later passes, then the fastest and the slowest of them\n"
         "  x p2      steady, divided by that of p2: a stack of free blocks per power of two, about the least work\n"
         "  reserved  memory taken from the system, at its peak; / live: divided by the most held at one time\n"
         "  hits      share of allocations served from memory that the allocator had already\n"
         "  records   memory for bookkeeping, outside reserved\n"
         "Rows: ta_pool as it comes; ta_pool_sized gives the size back on free; ta_pool_spec keeps at most 64 MiB and\n"
         "so goes to the system in every pass of a larger step; malloc of this process (what it reserves is not known);\n"
         "p2 and exact: free stacks per power of two and per size, no lock, no limit; null: the loop alone.");
    if (o->touch != TOUCH_NONE) {
        puts("  faults    page faults in a steady pass, median");
    }
    if (o->thp) {
        puts("  p2, exact and null ask for huge pages");
    }
}

static void print_title(const trace *t, const options *o)
{
    printf("\n%s: %zu pairs per pass, %zu step%s, live at peak %.1f MiB, touch %s, %zu passes", t->name, t->pair_count,
           t->step_count, t->step_count == 1 ? "" : "s", (double)t->peak_live_bytes / MIB, touch_names[o->touch],
           total_passes(o));
    if (counted_passes(o) < total_passes(o)) {
        printf(" (memory after %zu)", counted_passes(o));
    }
    if (t->kept_count > 0) {
        printf(", %zu blocks of %.1f MiB kept alive", t->kept_count, (double)t->kept_bytes / MIB);
    }
    if (o->jitter > 0) {
        printf(", %llu of 1000 events out of order", (unsigned long long)o->jitter);
    }
    if (o->vary) {
        printf(", sizes vary");
    }
    putchar('\n');
}

static void print_table(const row *rows, const trace *t, const options *o)
{
    const row_result *p2 = &rows[ROW_P2].result;
    size_t i;
    if (o->legend) {
        print_legend(o);
    }
    print_title(t, o);
    printf("%-14s %10s %10s %6s %18s %12s %7s %7s %9s%s\n", "", "cold ns", "steady ns", "x p2", "fastest..slowest",
           "reserved MiB", "/ live", "hits", "records", o->touch != TOUCH_NONE ? "     faults" : "");
    for (i = 0; i < ROW_COUNT; ++i) {
        const row_result *r = &rows[i].result;
        if (!r->measured) {
            continue;
        }
        printf("%-14s %10.1f %10.1f ", rows[i].kind->name, r->cold_ns, r->steady_ns);
        if (p2->measured) {
            printf("%6.2f", r->steady_ns / p2->steady_ns);
        } else {
            printf("%6s", "");
        }
        printf(" %8.1f..%8.1f", r->least_ns, r->most_ns);
        if (r->knows_memory) {
            printf(" %12.1f %7.4f %6.2f%%", (double)r->reserved_bytes / MIB,
                   (double)r->reserved_bytes / (double)t->peak_live_bytes, 100 * r->hit_rate);
        } else {
            printf(" %12s %7s %7s", "", "", "");
        }
        if (r->knows_records) {
            printf(" %5.0f KiB", (double)r->record_bytes / 1024);
        } else {
            printf(" %9s", "");
        }
        if (o->touch != TOUCH_NONE) {
            printf(" %10.1f", r->faults_per_pass);
        }
        putchar('\n');
    }
}

static void print_latency(const row *rows)
{
    size_t i;
    printf("single calls, ns over %d more passes: 999 of 1000 are below p99.9; without backend: the longest that did\n"
           "not go to the system\n%-14s %12s %12s %20s %16s\n",
           LATENCY_PASSES, "", "p99.9", "longest", "longest, typical pass", "without backend");
    for (i = 0; i < ROW_COUNT; ++i) {
        const row_result *r = &rows[i].result;
        if (r->measured) {
            printf("%-14s %12.0f %12.0f %21.0f", rows[i].kind->name, r->latency_p999_ns, r->latency_max_ns,
                   r->latency_typical_max_ns);
            if (rows[i].kind->family == FAMILY_POOL) {
                printf(" %16.0f", r->latency_hit_max_ns);
            }
            putchar('\n');
        }
    }
}

/* Measures and prints; 0 if a pool failed. */
static int run_trace(trace *t, const options *o)
{
    row rows[ROW_COUNT];
    int good = 1;
    size_t i;
    memset(rows, 0, sizeof(rows));
    for (i = 0; i < ROW_COUNT; ++i) {
        rows[i].kind = &row_kinds[i];
    }
    t->peak_live_bytes = peak_of(t, t->events);
    if (t->pair_count == 0) {
        fail("%s: --keep leaves no events", t->name);
    }
    measure_trace(rows, t, o);
    if (o->csv) {
        print_csv(rows, t, o);
    } else {
        print_table(rows, t, o);
        if (o->latency) {
            print_latency(rows);
        }
    }
    fflush(stdout);
    for (i = 0; i < ROW_COUNT; ++i) {
        if (rows[i].problem[0] != 0) {
            fprintf(stderr, "replay: %s: %s: %s\n", t->name, rows[i].kind->name, rows[i].problem);
            if (rows[i].kind->family == FAMILY_POOL && strncmp(rows[i].problem, "skipped", 7) != 0) {
                good = 0;
            }
        }
    }
    return good;
}

/*---------------------------------------------------------------------------------------------------------
  Command line
  -------------------------------------------------------------------------------------------------------*/

static const char help_text[] =
    "usage: replay [options] [file.trace ...]      without a file: one built-in training step\n"
    "  --csv                    comma separated values instead of tables\n"
    "  --steps N                passes per row (default 100; 8 with --touch). Memory is read after N; times need\n"
    "                           at least 8, so that many are run\n"
    "  --touch none|page|full   write nothing, one byte per 4096 (and the last), or every byte of each block\n"
    "  --scale D                divide sizes above 64 KiB by D, though not to below 64 KiB\n"
    "  --smoke                  few passes, as a test\n"
    "  --turns N                rows take turns N times over the run (default 8). With N = passes, after each pass:\n"
    "                           small traces then show what it costs to come back to a cold processor cache\n"
    "  --rows LIST              only these rows, e.g. ta_pool,malloc,p2\n"
    "  --thp                    p2, exact and null ask for huge pages\n"
    "  --limit N                pools may reserve N percent of the live peak at most, e.g. 102\n"
    "irregular work, drawn anew in each pass but the first:\n"
    "  --jitter N               N of 1000 events change places with their neighbour\n"
    "  --vary                   sizes from 64 KiB on times one random factor in [0.5, 1)\n"
    "other shapes of work:\n"
    "  --keep                   what is allocated before the first free and never freed lives through all passes\n"
    "  --alternate              all files are one pass, one after another in the same pool\n"
    "  --latency                longest single calls, in passes of their own\n"
    "exit status: 0; 1 if a pool fails or its figures disagree; 2 for bad options or files\n";

static uint64_t option_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    unsigned long long value;
    errno = 0;
    value = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != 0 || errno != 0 || value < min || value > max) {
        fail("%s needs a number from %llu to %llu", name, (unsigned long long)min, (unsigned long long)max);
    }
    return value;
}

static touch_mode option_touch(const char *text)
{
    int mode;
    for (mode = TOUCH_NONE; mode <= TOUCH_FULL; ++mode) {
        if (text != NULL && strcmp(text, touch_names[mode]) == 0) {
            return (touch_mode)mode;
        }
    }
    fail("--touch needs none, page or full");
}

static const char *option_rows(const char *list)
{
    const char *at = list;
    while (at != NULL && *at != 0) {
        size_t item = strcspn(at, ",");
        int known = 0;
        size_t i;
        for (i = 0; i < ROW_COUNT; ++i) {
            known |= strlen(row_kinds[i].name) == item && strncmp(row_kinds[i].name, at, item) == 0;
        }
        if (!known) {
            fail("--rows: no row is called %.*s", (int)item, at);
        }
        at += item + (at[item] == ',');
    }
    if (list == NULL || *list == 0) {
        fail("--rows needs names, separated by commas");
    }
    return list;
}

/* Fills *o and moves the file names to the front of argv; returns their number. */
static int read_options(int argc, char **argv, options *o)
{
    int file_count = 0;
    int i;
    for (i = 1; i < argc; ++i) {
        const char *arg = argv[i];
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--csv") == 0) {
            o->csv = 1;
        } else if (strcmp(arg, "--smoke") == 0) {
            o->smoke = 1;
        } else if (strcmp(arg, "--keep") == 0) {
            o->keep = 1;
        } else if (strcmp(arg, "--vary") == 0) {
            o->vary = 1;
        } else if (strcmp(arg, "--latency") == 0) {
            o->latency = 1;
        } else if (strcmp(arg, "--alternate") == 0) {
            o->alternate = 1;
        } else if (strcmp(arg, "--thp") == 0) {
            o->thp = 1;
        } else if (strcmp(arg, "--steps") == 0) {
            o->steps = option_number(arg, next, 1, 1000000);
            ++i;
        } else if (strcmp(arg, "--scale") == 0) {
            o->scale = option_number(arg, next, 1, SIZE_BYTES_MAX);
            ++i;
        } else if (strcmp(arg, "--turns") == 0) {
            o->turns = option_number(arg, next, 1, 1000000);
            ++i;
        } else if (strcmp(arg, "--jitter") == 0) {
            o->jitter = option_number(arg, next, 0, 1000);
            ++i;
        } else if (strcmp(arg, "--limit") == 0) {
            o->limit_percent = option_number(arg, next, 100, 10000);
            ++i;
        } else if (strcmp(arg, "--touch") == 0) {
            o->touch = option_touch(next);
            ++i;
        } else if (strcmp(arg, "--rows") == 0) {
            o->rows = option_rows(next);
            ++i;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            fputs(help_text, stdout);
            exit(0);
        } else if (arg[0] == '-' && arg[1] != 0) {
            fail("unknown option %s; --help lists them", arg);
        } else {
            argv[file_count++] = argv[i];
        }
    }
    return file_count;
}

/* The file's name without folder and ending joins the trace's name. A comma would break the columns. */
static void add_name(trace *t, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t length = strlen(base);
    size_t used = strlen(t->name);
    size_t i;
    if (length > 6 && strcmp(base + length - 6, ".trace") == 0) {
        length -= 6;
    }
    snprintf(t->name + used, sizeof(t->name) - used, "%s%.*s", used > 0 ? "+" : "", (int)length, base);
    for (i = used; t->name[i] != 0; ++i) {
        t->name[i] = t->name[i] == ',' || t->name[i] == '"' ? '_' : t->name[i];
    }
}

/* Reads the files into one trace and measures it; without files the built-in one. Returns the exit status. */
static int measure_files(char **paths, int count, const options *o)
{
    trace t;
    int i;
    memset(&t, 0, sizeof(t));
    t.scale = o->scale;
    if (count == 0) {
        add_name(&t, "built_in");
        make_built_in(&t, o->keep);
    }
    for (i = 0; i < count; ++i) {
        add_name(&t, paths[i]);
        read_file(&t, paths[i], o->keep);
    }
    return run_trace(&t, o) ? 0 : 1;
}

/* measure_files in a process of its own. */
static int measure_apart(char **paths, int count, const options *o)
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child < 0) {
        fail("cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        show_progress("", NULL, 0, 0); /* silence lasts from here */
        status = measure_files(paths, count, o);
        fflush(stdout);
        _exit(status);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "replay: %s: ended by signal %d\n", count > 0 ? paths[0] : "built_in", WTERMSIG(status));
        return 1;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    static char output_buffer[65536]; /* else stdio takes one from malloc */
    options o;
    int result = 0;
    int file_count;
    int step;
    int i;
    memset(&o, 0, sizeof(o));
    o.scale = 1;
    o.turns = TURNS_DEFAULT;
    o.legend = 1;
    o.awake_bytes = mmap(NULL, sizeof(*o.awake_bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o.awake_bytes == MAP_FAILED) {
        fail("no memory for the harness itself: %s", strerror(errno));
    }
    setvbuf(stdout, output_buffer, _IOFBF, sizeof(output_buffer));
    file_count = read_options(argc, argv, &o);
    step = o.alternate ? file_count : 1;
    if (file_count > UINT16_MAX) {
        fail("at most %d files", UINT16_MAX);
    }
    if (!o.csv && file_count == 0) {
        puts("No file given: replaying a built-in training step of a small transformer.");
    }
    if (o.csv) {
        print_csv_header();
    }
    show_progress("", NULL, 0, 0); /* the clock starts */
    for (i = 0; i == 0 || i < file_count; i += step > 0 ? step : 1) {
        int status = measure_apart(argv + i, file_count == 0 ? 0 : step, &o);
        if (status == 2) {
            return 2;
        }
        result |= status;
        o.legend = 0;
    }
    return result;
}
