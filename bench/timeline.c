/* timeline.c - draws what an allocator does with a recorded trace, as one SVG file.

   build   cc -O2 -DNDEBUG -I. bench/timeline.c -o timeline -pthread
   run     ./timeline TRACE -o FILE.svg [options]         ./timeline --help lists the options

   A trace is text, one event a line, as bench/replay.c reads it:
       a ID SIZE [ALIGN]    allocate SIZE bytes (ALIGN: a power of two) and call them ID
       f ID                 free them; ID may then be used again
       s                    end of a step; ids live across it
       # ...                comment, also behind an event
   The last line ends like every other: a file that was cut off in the middle of a line is refused. So is one with fewer
   events than its own head says (bench/record_torch.py writes "# 15081 events: 7859 allocations, 7217 frees, ...").

   The trace is replayed once, from its first event, without touching the memory. The picture has one time axis, counted
   in allocations and frees, and
       memory    live (requested), wasted (in use - live), cached: the largest free piece and the others, reserved;
                 each column of pixels shows its moment with the most live. Below: reserved / peak live so far
       blocks    each block a rectangle: from allocation to free, at its addresses. Wide gaps between addresses are cut
                 out, so that a pool's ranges stand above each other, each in its own scale. Grey: free, between
                 the lowest and the highest address used so far.
                 More than BLOCKS_DRAWN blocks are drawn as cells: the colour is that of most of its live memory, the
                 shade says which part of it is live
   Free pieces are known of ta_pool only (by ta_pool_walk), reserved memory of malloc only with glibc 2.33 or newer. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

enum {
    BLOCKS_DRAWN = 8192,      /* as rectangles */
    WIDTH_DEFAULT = 1100,     /* pixels of the picture */
    WIDTH_MIN = 640,
    WIDTH_MAX = 4000,
    CELL = 2,                 /* pixels of a cell's side */
    RANGES_MAX = 6,
    GROUPS = 6,               /* of sizes or lifetimes */
    SHADES = 4,
    LOOKS_PER_EVENT = 8,      /* blocks walked for each event replayed, at most, to know the free pieces */
    SMOKE_BYTES_MAX = 2000000 /* no picture is larger */
};
#define SIZE_BYTES_MAX ((uint64_t)1 << (sizeof(size_t) > 4 ? 40 : 30))
#define NONE SIZE_MAX
#ifndef TIMELINE_REFUSE /* what happens after the message about a bad trace; tests/fuzz/trace.c goes on */
#define TIMELINE_REFUSE() exit(2)
#define TIMELINE_QUIET 0
#endif

/*---------------------------------------------------------------------------------------------------------
  Small tools
  -------------------------------------------------------------------------------------------------------*/

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    fputs("timeline: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

/* Memory of this program comes from here, so that malloc serves the trace alone. Zeroed. */
static void *map_bytes(size_t bytes)
{
    void *ptr = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ptr == MAP_FAILED) {
        fail("no memory for the picture: %s", strerror(errno));
    }
    return ptr;
}

static void unmap_bytes(void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        munmap(ptr, bytes > 0 ? bytes : 1);
    }
}

/* Makes room for some more elements of an array from map_bytes. */
static void *grow_array(void *array, size_t count, size_t more, size_t *capacity, size_t element_bytes)
{
    void *grown;
    size_t wanted = *capacity > 0 ? *capacity : 1024;
    if (count + more <= *capacity) {
        return array;
    }
    while (wanted < count + more) {
        wanted *= 4;
    }
    grown = map_bytes(wanted * element_bytes);
    if (count > 0) {
        memcpy(grown, array, count * element_bytes);
    }
    unmap_bytes(array, *capacity * element_bytes);
    *capacity = wanted;
    return grown;
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

static void dictionary_grow(dictionary *dict)
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

/*---------------------------------------------------------------------------------------------------------
  Traces
  -------------------------------------------------------------------------------------------------------*/

typedef struct event {
    uint64_t size_bytes;
    size_t block; /* the how manieth allocation: this one, or the one that is freed */
    size_t line;
    unsigned alignment_log2;
    int is_free;
} event;

typedef struct slot {
    size_t block;
    size_t line; /* on which the id became live; 0: not live */
} slot;

typedef struct trace {
    const char *name;
    event *events;
    size_t event_count;
    size_t event_capacity;
    size_t block_count; /* = allocations */
    size_t *step_ends;  /* numbers of events before the ends */
    size_t step_count;
    size_t step_capacity;
    slot *slots; /* by number of the id */
    size_t slot_count;
    size_t slot_capacity;
    dictionary ids;
    size_t promised_allocs; /* by the head of the file; NONE */
    size_t promised_frees;
} trace;

static slot *trace_slot(trace *t, uint64_t id)
{
    size_t index = dictionary_number(&t->ids, id);
    if (index >= t->slot_count) {
        t->slots = grow_array(t->slots, t->slot_count, 1, &t->slot_capacity, sizeof(*t->slots));
        t->slot_count = index + 1;
    }
    return &t->slots[index];
}

static event *trace_push(trace *t, size_t block, size_t line)
{
    event *e;
    t->events = grow_array(t->events, t->event_count, 1, &t->event_capacity, sizeof(*t->events));
    e = &t->events[t->event_count++];
    e->block = block;
    e->line = line;
    return e;
}

/* 0, or the line on which the id became live. */
static size_t trace_alloc(trace *t, uint64_t id, uint64_t size_bytes, unsigned alignment_log2, size_t line)
{
    slot *s = trace_slot(t, id);
    event *e;
    if (s->line != 0) {
        return s->line;
    }
    s->line = line;
    s->block = t->block_count++;
    e = trace_push(t, s->block, line);
    e->size_bytes = size_bytes;
    e->alignment_log2 = alignment_log2;
    return 0;
}

/* 0 if the id is not live. */
static int trace_free(trace *t, uint64_t id, size_t line)
{
    slot *s = trace_slot(t, id);
    if (s->line == 0) {
        return 0;
    }
    s->line = 0;
    trace_push(t, s->block, line)->is_free = 1;
    return 1;
}

static void trace_end_step(trace *t)
{
    t->step_ends = grow_array(t->step_ends, t->step_count, 1, &t->step_capacity, sizeof(*t->step_ends));
    t->step_ends[t->step_count++] = t->event_count;
}

static void trace_dispose(trace *t)
{
    unmap_bytes(t->events, t->event_capacity * sizeof(*t->events));
    unmap_bytes(t->slots, t->slot_capacity * sizeof(*t->slots));
    unmap_bytes(t->step_ends, t->step_capacity * sizeof(*t->step_ends));
    unmap_bytes(t->ids.entries, t->ids.capacity * sizeof(*t->ids.entries));
    memset(t, 0, sizeof(*t));
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
    char text[256];
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!TIMELINE_QUIET) {
        fprintf(stderr, "%s:%zu: %s\n", p->path, p->line, text);
    }
    TIMELINE_REFUSE();
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
        if (!trace_free(t, id, p->line)) {
            fail_at(p, "id %llu is not live", (unsigned long long)id);
        }
    } else {
        trace_end_step(t);
    }
    skip_blanks(p);
    if (!at_end(p)) {
        fail_at(p, "text behind the event");
    }
}

/* One line of a file, without its end. */
static void read_line(trace *t, position *p, const char *line, size_t length)
{
    p->at = line;
    p->line++;
    if (memchr(line, 0, length) != NULL) {
        fail_at(p, "a zero byte: this is not text");
    }
    if (t->event_count == 0 && t->promised_allocs == NONE) {
        size_t allocs;
        size_t frees;
        if (sscanf(line, "# %*u events: %zu allocations, %zu frees", &allocs, &frees) == 2) {
            t->promised_allocs = allocs;
            t->promised_frees = frees;
        }
    }
    read_event(t, p);
}

static void check_complete(const trace *t, position *p)
{
    size_t frees = t->event_count - t->block_count;
    if (t->event_count == 0) {
        p->line = p->line > 0 ? p->line : 1;
        fail_at(p, "no events in this file");
    }
    if (t->promised_allocs != NONE && (t->promised_allocs > t->block_count || t->promised_frees > frees)) {
        fail_at(p, "the file ends here with %zu allocations and %zu frees, its head says %zu and %zu: it was cut off",
                t->block_count, frees, t->promised_allocs, t->promised_frees);
    }
}

/* A whole file; there is room for one more byte behind it. */
static void read_text(trace *t, position *p, char *text, size_t length)
{
    char *line;
    t->promised_allocs = NONE;
    for (line = text; line < text + length;) {
        char *end = memchr(line, '\n', length - (size_t)(line - text));
        int cut_off = end == NULL;
        end = cut_off ? text + length : end;
        *end = 0;
        read_line(t, p, line, (size_t)(end - line));
        if (cut_off) {
            fail_at(p, "the line has no end: the file was cut off here (if it was not, add a line feed)");
        }
        line = end + 1;
    }
    check_complete(t, p);
}

static void read_file(trace *t, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    size_t capacity = 0;
    size_t got;
    position p = {path, 0, NULL};
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail("%s: %s", path, strerror(errno));
    }
    setvbuf(file, NULL, _IONBF, 0);
    do {
        text = grow_array(text, length, 65536, &capacity, 1);
        got = fread(text + length, 1, capacity - length - 1, file);
        length += got;
    } while (got > 0);
    if (ferror(file)) {
        fail("%s: %s", path, strerror(errno));
    }
    fclose(file);
    read_text(t, &p, text, length);
    unmap_bytes(text, capacity);
}

/* xorshift64 */
static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state >> 16) % below;
}

/* Random steps for --smoke: blocks of 16 B to 16 MiB, most of which live shortly, some through the step, few on. */
static void make_trace(trace *t, size_t event_count)
{
    uint64_t seed = 88172645463325252u + event_count;
    uint64_t id = 0;
    uint64_t live[512];
    size_t live_count = 0;
    t->name = "built_in";
    while (t->event_count < event_count) {
        if (live_count < 1 + draw(&seed, 512)) {
            unsigned bits = 4 + (unsigned)draw(&seed, 20);
            trace_alloc(t, id, ((uint64_t)1 << bits) + draw(&seed, (uint64_t)1 << bits), bits == 10 ? 12 : 0, 1);
            live[live_count++] = id++;
        } else {
            uint64_t reach = draw(&seed, 8) == 0 ? live_count : (live_count + 7) / 8;
            size_t from_end = (size_t)draw(&seed, reach);
            size_t victim = live_count - 1 - from_end;
            trace_free(t, live[victim], 1);
            live[victim] = live[--live_count];
        }
        if (t->event_count % (event_count / 5 + 1) == event_count / 5) {
            trace_end_step(t);
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  Allocators
  -------------------------------------------------------------------------------------------------------*/

/* What an allocator says of itself. NONE: it does not know. */
typedef struct figures {
    size_t reserved_bytes;
    size_t peak_reserved_bytes;
    size_t cost; /* pieces that were looked at to answer */
} figures;

typedef struct allocator_kind {
    const char *name;
    const char *title;
    void *(*open)(void); /* NULL: no memory */
    void (*close)(void *self);
    void *(*alloc)(void *self, size_t size_bytes, size_t alignment_bytes); /* alignment 1: any */
    void (*free)(void *self, void *ptr, size_t size_bytes);
    size_t (*capacity_of)(void *self, void *ptr, size_t size_bytes);
    void (*get_figures)(void *self, figures *out);
    int is_pool;
} allocator_kind;

static void *pool_open(void)
{
    ta_pool *pool;
    return ta_pool_create(NULL, &pool) == TA_OK ? pool : NULL;
}

static void *pool_open_spec(void)
{
    ta_pool_desc spec = ta_pool_desc_spec();
    ta_pool *pool;
    return ta_pool_create(&spec, &pool) == TA_OK ? pool : NULL;
}

static void pool_close(void *self) { (void)ta_pool_destroy(self); }

static void *pool_alloc(void *self, size_t size_bytes, size_t alignment_bytes)
{
    return alignment_bytes > 1 ? ta_pool_alloc_aligned(self, size_bytes, alignment_bytes, NULL)
                               : ta_pool_alloc(self, size_bytes, NULL);
}

static void pool_free(void *self, void *ptr, size_t size_bytes)
{
    (void)size_bytes;
    (void)ta_pool_free(self, ptr);
}

static size_t pool_capacity_of(void *self, void *ptr, size_t size_bytes)
{
    (void)size_bytes;
    return ta_pool_capacity_of(self, ptr);
}

static void pool_get_figures(void *self, figures *out)
{
    ta_stats stats;
    if (ta_pool_get_stats(self, &stats) == TA_OK) {
        out->reserved_bytes = stats.reserved_bytes;
        out->peak_reserved_bytes = stats.peak_reserved_bytes;
    }
}

static void *malloc_open(void)
{
    static int token;
    return &token;
}

static void malloc_close(void *self) { (void)self; }

static void *malloc_alloc(void *self, size_t size_bytes, size_t alignment_bytes)
{
    void *ptr;
    (void)self;
    if (alignment_bytes <= sizeof(void *)) {
        return malloc(size_bytes);
    }
    return posix_memalign(&ptr, alignment_bytes, size_bytes) == 0 ? ptr : NULL;
}

static void malloc_free(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)size_bytes;
    free(ptr);
}

static size_t malloc_capacity_of(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
#ifdef __GLIBC__
    (void)size_bytes;
    return malloc_usable_size(ptr);
#else
    (void)ptr;
    return size_bytes;
#endif
}

static void malloc_get_figures(void *self, figures *out)
{
    (void)self;
    (void)out;
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 33)
    {
        struct mallinfo2 info = mallinfo2();
        out->reserved_bytes = info.arena + info.hblkhd;
        out->cost = info.ordblks + info.smblks;
    }
#endif
#endif
}

/* One stack of free blocks per power of two, in a region of addresses without memory. */
typedef struct p2_stacks {
    char *region;
    size_t region_bytes;
    size_t used_bytes;
    struct p2_stack {
        void **blocks;
        size_t count;
        size_t capacity;
    } stacks[64];
} p2_stacks;

static void *p2_open(void)
{
    p2_stacks *p = map_bytes(sizeof(*p));
    p->region_bytes = (size_t)1 << (sizeof(size_t) > 4 ? 44 : 29);
    for (; p->region_bytes >= 1048576; p->region_bytes /= 8) { /* addresses may be limited */
        void *ptr = mmap(NULL, p->region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ptr != MAP_FAILED) {
            p->region = ptr;
            return p;
        }
    }
    return NULL;
}

static void p2_close(void *self)
{
    p2_stacks *p = self;
    size_t i;
    for (i = 0; i < 64; ++i) {
        unmap_bytes(p->stacks[i].blocks, p->stacks[i].capacity * sizeof(void *));
    }
    munmap(p->region, p->region_bytes);
    unmap_bytes(p, sizeof(*p));
}

static unsigned p2_class(size_t bytes)
{
    return bytes <= 64 ? 6 : 64 - (unsigned)__builtin_clzll((unsigned long long)bytes - 1);
}

static void *p2_alloc(void *self, size_t size_bytes, size_t alignment_bytes)
{
    p2_stacks *p = self;
    size_t bytes = size_bytes > alignment_bytes ? size_bytes : alignment_bytes;
    unsigned class_index = p2_class(bytes);
    size_t capacity = (size_t)1 << class_index;
    size_t alignment = capacity < 4096 ? 64 : 4096;
    struct p2_stack *s = &p->stacks[class_index];
    size_t at = (p->used_bytes + alignment - 1) & ~(alignment - 1);
    if (s->count > 0) {
        return s->blocks[--s->count];
    }
    if (capacity > p->region_bytes - at) {
        return NULL;
    }
    p->used_bytes = at + capacity;
    return p->region + at;
}

static void p2_free(void *self, void *ptr, size_t size_bytes)
{
    p2_stacks *p = self;
    struct p2_stack *s = &p->stacks[p2_class(size_bytes)];
    s->blocks = grow_array(s->blocks, s->count, 1, &s->capacity, sizeof(*s->blocks));
    s->blocks[s->count++] = ptr;
}

static size_t p2_capacity_of(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)ptr;
    return (size_t)1 << p2_class(size_bytes);
}

static void p2_get_figures(void *self, figures *out)
{
    out->reserved_bytes = ((p2_stacks *)self)->used_bytes;
    out->peak_reserved_bytes = out->reserved_bytes;
}

static const allocator_kind allocator_kinds[] = {
    {"pool", "ta_pool", pool_open, pool_close, pool_alloc, pool_free, pool_capacity_of, pool_get_figures, 1},
    {"spec", "ta_pool, options of ta_pool_desc_spec()", pool_open_spec, pool_close, pool_alloc, pool_free,
     pool_capacity_of, pool_get_figures, 1},
    {"malloc", "malloc", malloc_open, malloc_close, malloc_alloc, malloc_free, malloc_capacity_of, malloc_get_figures,
     0},
    {"p2", "a free stack per power of two", p2_open, p2_close, p2_alloc, p2_free, p2_capacity_of, p2_get_figures, 0},
};
enum { ALLOCATOR_COUNT = sizeof(allocator_kinds) / sizeof(allocator_kinds[0]) };

/*---------------------------------------------------------------------------------------------------------
  Replay: the life of each block, and the figures of each column of pixels
  -------------------------------------------------------------------------------------------------------*/

typedef struct options {
    const char *path;
    const char *out_path; /* NULL: standard output */
    const allocator_kind *kind;
    size_t step_first;    /* from 1; 0: all steps */
    size_t step_last;
    size_t width;
    int by_life;
    int smoke;
} options;

typedef struct block {
    uintptr_t address;
    size_t size_bytes;
    size_t capacity_bytes;
    size_t born; /* number of the event, from 0 */
    size_t died; /* number of events if it did not */
} block;

/* The moment with the most live in some consecutive events. */
typedef struct column {
    size_t event;
    uint64_t live_bytes;
    uint64_t live_least_bytes; /* over all its events */
    uint64_t peak_bytes;       /* most live so far */
    uint64_t in_use_bytes;
    uint64_t reserved_bytes; /* NONE: not known */
    uint64_t largest_bytes;  /* largest free piece; NONE: not known */
} column;

typedef struct story {
    const trace *t;
    const options *o;
    size_t first; /* the events that are drawn: first <= event < end */
    size_t end;
    block *blocks;
    column *columns;
    size_t column_count;
    size_t peak_column;
    uint64_t peak_live_bytes; /* from the first event of the trace on, until end */
    uint64_t peak_reserved_bytes;
} story;

static size_t column_start(const story *s, size_t index)
{
    return s->first + (size_t)((uint64_t)index * (s->end - s->first) / s->column_count);
}

/* Which events are drawn, in how many columns, and what is known of them without an allocator. */
static void plan_story(story *s, const trace *t, const options *o, size_t plot_width)
{
    uint64_t live = 0;
    uint64_t peak = 0;
    size_t at = 0;
    size_t c;
    s->t = t;
    s->o = o;
    s->end = t->event_count;
    if (o->step_first > 0) {
        size_t steps = t->step_count > 0 ? t->step_count : 1;
        if (o->step_last > steps) {
            fail("--steps %zu..%zu: %s has %zu step%s", o->step_first, o->step_last, t->name, steps,
                 steps == 1 ? "" : "s");
        }
        s->first = o->step_first > 1 ? t->step_ends[o->step_first - 2] : 0;
        s->end = t->step_count > 0 ? t->step_ends[o->step_last - 1] : t->event_count;
    }
    if (s->end == s->first) {
        fail("%s: no events in these steps", t->name);
    }
    s->column_count = s->end - s->first < plot_width ? s->end - s->first : plot_width;
    s->columns = map_bytes(s->column_count * sizeof(*s->columns));
    s->blocks = map_bytes(t->block_count * sizeof(*s->blocks));
    for (c = 0; c < s->column_count; ++c) {
        column *col = &s->columns[c];
        size_t start = column_start(s, c);
        size_t end = column_start(s, c + 1);
        col->live_least_bytes = UINT64_MAX;
        for (; at < end; ++at) {
            const event *e = &t->events[at];
            block *b = &s->blocks[e->block];
            if (!e->is_free) {
                b->size_bytes = (size_t)e->size_bytes;
                b->born = at;
                b->died = t->event_count;
            } else {
                b->died = at;
            }
            live = e->is_free ? live - b->size_bytes : live + b->size_bytes;
            peak = live > peak ? live : peak;
            if (at >= start) {
                col->live_least_bytes = live < col->live_least_bytes ? live : col->live_least_bytes;
                if (at == start || live > col->live_bytes) {
                    col->live_bytes = live;
                    col->event = at;
                }
            }
        }
        col->peak_bytes = peak;
        s->peak_column = col->live_bytes > s->columns[s->peak_column].live_bytes ? c : s->peak_column;
    }
    s->peak_live_bytes = peak;
}

typedef struct free_pieces {
    uint64_t largest_bytes;
    uint64_t walked_bytes;
    size_t block_count;
} free_pieces;

static int visit_block(void *user, const ta_block_info *info)
{
    free_pieces *pieces = user;
    pieces->block_count++;
    pieces->walked_bytes += info->committed_bytes;
    if (info->state == TA_BLOCK_FREE && info->committed_bytes > pieces->largest_bytes) {
        pieces->largest_bytes = info->committed_bytes;
    }
    return 0;
}

/* Fills what only the allocator knows. What is slow is rationed: then a column repeats what was known before. */
static void sample(story *s, void *self, column *col, figures *known, uint64_t *largest, size_t *next_look)
{
    const allocator_kind *kind = s->o->kind;
    if (known->cost == 0 || col->event >= *next_look) {
        kind->get_figures(self, known);
    }
    col->reserved_bytes = known->reserved_bytes;
    if (known->reserved_bytes != NONE && known->reserved_bytes > s->peak_reserved_bytes) {
        s->peak_reserved_bytes = known->reserved_bytes;
    }
    if (kind->is_pool && col->event >= *next_look) {
        free_pieces pieces = {0, 0, 0};
        uint64_t end_bytes;
        (void)ta_pool_walk(self, visit_block, &pieces);
        end_bytes = known->reserved_bytes > pieces.walked_bytes ? known->reserved_bytes - pieces.walked_bytes : 0;
        *largest = end_bytes > pieces.largest_bytes ? end_bytes : pieces.largest_bytes; /* never used: one piece */
        *next_look = col->event + pieces.block_count / LOOKS_PER_EVENT;
    } else if (!kind->is_pool && col->event >= *next_look) {
        *next_look = col->event + known->cost / LOOKS_PER_EVENT;
    }
    col->largest_bytes = *largest;
}

static void fail_alloc(const story *s, void *self, const event *e)
{
    const char *why = "no memory";
    ta_failure failure;
    if (s->o->kind->is_pool && ta_pool_get_failure(self, &failure) == TA_OK) {
        why = ta_result_text(failure.result);
    }
    fprintf(stderr, "%s:%zu: no %llu bytes from %s: %s\n", s->t->name, e->line, (unsigned long long)e->size_bytes,
            s->o->kind->title, why);
    exit(1);
}

static void play(story *s)
{
    const allocator_kind *kind = s->o->kind;
    void *self = kind->open();
    uint64_t in_use = 0;
    figures known = {NONE, NONE, 0};
    uint64_t largest = NONE;
    size_t next_look = 0;
    size_t c = 0;
    size_t i;
    if (self == NULL) {
        fail("%s cannot be made", kind->title);
    }
    for (i = 0; i < s->end; ++i) {
        const event *e = &s->t->events[i];
        block *b = &s->blocks[e->block];
        if (e->is_free) {
            kind->free(self, (void *)b->address, b->size_bytes);
            in_use -= b->capacity_bytes;
        } else {
            void *ptr = kind->alloc(self, b->size_bytes, (size_t)1 << e->alignment_log2);
            if (ptr == NULL) {
                fail_alloc(s, self, e);
            }
            b->address = (uintptr_t)ptr;
            b->capacity_bytes = kind->capacity_of(self, ptr, b->size_bytes);
            in_use += b->capacity_bytes;
        }
        if (c < s->column_count && i == s->columns[c].event) {
            s->columns[c].in_use_bytes = in_use;
            sample(s, self, &s->columns[c++], &known, &largest, &next_look);
        }
    }
    kind->get_figures(self, &known);
    s->peak_reserved_bytes = known.peak_reserved_bytes != NONE ? known.peak_reserved_bytes : s->peak_reserved_bytes;
    if (kind->is_pool && ta_pool_check(self) != TA_OK) {
        fprintf(stderr, "timeline: ta_pool_check found a broken invariant\n");
        exit(1);
    }
    for (i = 0; i < s->t->block_count; ++i) {
        if (s->blocks[i].address != 0 && s->blocks[i].died >= s->end) {
            kind->free(self, (void *)s->blocks[i].address, s->blocks[i].size_bytes);
        }
    }
    kind->close(self);
}

/*---------------------------------------------------------------------------------------------------------
  Canvas: the file in memory, and the numbers and words on it
  -------------------------------------------------------------------------------------------------------*/

typedef struct canvas {
    char *text;
    size_t length;
    size_t capacity;
} canvas;

__attribute__((format(printf, 2, 3))) static void put(canvas *c, const char *format, ...)
{
    va_list args;
    int length;
    c->text = grow_array(c->text, c->length, 2048, &c->capacity, 1);
    va_start(args, format);
    length = vsnprintf(c->text + c->length, 2048, format, args);
    va_end(args);
    c->length += length < 2048 ? (size_t)length : 2047;
}

/* A coordinate, to a tenth of a pixel, after a letter of a path. */
static void put_at(canvas *c, char letter, double value)
{
    long tenths = (long)(value * 10 + (value < 0 ? -0.5 : 0.5));
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%c%s%ld", letter, tenths < 0 ? "-" : "", labs(tenths) / 10);
    if (tenths % 10 != 0) {
        length += snprintf(digits + length, sizeof(digits) - (size_t)length, ".%ld", labs(tenths) % 10);
    }
    c->text = grow_array(c->text, c->length, sizeof(digits), &c->capacity, 1);
    memcpy(c->text + c->length, digits, (size_t)length);
    c->length += (size_t)length;
}

/* Bytes of the character of UTF-8 that starts here, 0 if it is none that XML allows. */
static size_t utf8_length(const unsigned char *at)
{
    static const uint32_t least[] = {0, 0x20, 0x80, 0x800, 0x10000};
    size_t length = *at < 0x80 ? 1 : *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : *at >= 0xc0 ? 2 : 0;
    uint32_t code = length <= 1 ? *at : *at & (0xffu >> (length + 1));
    size_t i;
    for (i = 1; i < length; ++i) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (at[i] & 0x3fu);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) || (code & 0xfffe) == 0xfffe
               ? 0 : length;
}

/* Text of others as XML; at most bytes_max of it. */
static void put_escaped(canvas *c, const char *text, size_t bytes_max)
{
    const char *at = text;
    while (*at != 0 && (size_t)(at - text) < bytes_max) {
        size_t length = utf8_length((const unsigned char *)at);
        if (length == 1 && strchr("&<>\"'", *at) != NULL) {
            put(c, "&#%d;", *at);
        } else if (length > 0) {
            put(c, "%.*s", (int)length, at);
        } else {
            put(c, "?");
        }
        at += length > 0 ? length : 1;
    }
    put(c, *at != 0 ? "..." : "");
}

/* Thousands are set apart by commas. */
static const char *count_text(uint64_t value, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    int out = 0;
    int i;
    for (i = 0; i < length; ++i) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[out++] = ',';
        }
        text[out++] = digits[i];
    }
    text[out] = 0;
    return text;
}

/* Three digits at least, no more behind the point than needed. */
static const char *bytes_text(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1023.95 && unit < 4) {
        value /= 1024;
        ++unit;
    }
    snprintf(text, 32, "%.*f", unit == 0 ? 0 : value < 9.995 ? 2 : 1, value);
    if (strchr(text, '.') != NULL) {
        size_t end = strlen(text);
        while (text[end - 1] == '0') {
            text[--end] = 0;
        }
        if (text[end - 1] == '.') {
            text[end - 1] = 0;
        }
    }
    strcat(text, " ");
    strcat(text, units[unit]);
    return text;
}

typedef enum anchor { LEFT, MIDDLE, RIGHT } anchor;

#define INK "#1a1a1a"
#define FAINT "#5a5a5a"
#define FREE_COLOUR "#e3e3e3"

__attribute__((format(printf, 7, 8))) static void write_text(canvas *c, double x, double y, anchor a, double size,
                                                             const char *style, const char *format, ...)
{
    static const char *const anchors[] = {"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
    char words[512];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    put(c, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%g\"%s %s>%s</text>\n", x, y, size, anchors[a], style, words);
}

/* Widths of fonts differ; this is the widest of those asked for. */
static double text_width(const char *text, double size) { return 0.61 * size * (double)strlen(text); }

typedef struct legend_item {
    const char *colour;
    char label[64];
    int is_line; /* 2: dashed */
} legend_item;

/* Draws (canvas NULL: does not) the items from x to right, and returns the number of rows. */
static int legend(canvas *c, const legend_item *items, size_t count, double x, double right, double y)
{
    double at = x;
    int rows = 1;
    size_t i;
    for (i = 0; i < count; ++i) {
        double width = 20 + text_width(items[i].label, 11.5) + 14;
        if (at > x && at + width - 14 > right) {
            at = x;
            y += 18;
            ++rows;
        }
        if (c != NULL && items[i].is_line) {
            put(c, "<path d=\"M%.1f %.1fh14\" stroke=\"%s\" stroke-width=\"1.6\"%s/>\n", at, y - 4, items[i].colour,
                items[i].is_line == 2 ? " stroke-dasharray=\"4 2.5\"" : "");
        } else if (c != NULL) {
            put(c, "<path d=\"M%.1f %.1fh14v10h-14z\" fill=\"%s\" stroke=\"#888\" stroke-width=\".5\"/>\n", at, y - 9,
                items[i].colour);
        }
        if (c != NULL) {
            write_text(c, at + 19, y, LEFT, 11.5, "fill=\"" INK "\"", "%s", items[i].label);
        }
        at += width;
    }
    return rows;
}

/*---------------------------------------------------------------------------------------------------------
  Ranges of addresses
  -------------------------------------------------------------------------------------------------------*/

typedef struct range {
    uintptr_t low;
    uintptr_t high;
    size_t size_min_bytes; /* of the blocks in it, requested */
    size_t size_max_bytes;
    size_t height;         /* pixels, a multiple of CELL */
    double top;
} range;

typedef struct ranges {
    range items[RANGES_MAX];
    size_t count;
} ranges;

typedef struct span {
    uintptr_t low;
    uintptr_t high;
} span;

static int is_visible(const story *s, const block *b)
{
    return b->address != 0 && b->born < s->end && b->died > s->first;
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a;
    const span *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

static uintptr_t block_end(const block *b) { return b->address + b->capacity_bytes; }

/* What the visible blocks covered at some time, as spans in order that do not touch. Returns their number. */
static size_t cover(const story *s, span *spans, uintptr_t *out_bytes)
{
    size_t count = 0;
    size_t merged = 0;
    size_t i;
    for (i = 0; i < s->t->block_count; ++i) {
        if (is_visible(s, &s->blocks[i])) {
            spans[count].low = s->blocks[i].address;
            spans[count++].high = block_end(&s->blocks[i]);
        }
    }
    qsort(spans, count, sizeof(*spans), compare_spans);
    for (i = 1; i < count; ++i) {
        if (spans[i].low <= spans[merged].high) {
            spans[merged].high = spans[i].high > spans[merged].high ? spans[i].high : spans[merged].high;
        } else {
            spans[++merged] = spans[i];
        }
    }
    count = count > 0 ? merged + 1 : 0;
    *out_bytes = 0;
    for (i = 0; i < count; ++i) {
        *out_bytes += spans[i].high - spans[i].low;
    }
    return count;
}

/* Cuts at the widest gaps that are wider than a quarter of all that was covered. */
static void find_ranges(const story *s, ranges *r)
{
    size_t capacity = s->t->block_count;
    span *spans = map_bytes(capacity * sizeof(*spans));
    uintptr_t covered;
    size_t count = cover(s, spans, &covered);
    uintptr_t gaps[RANGES_MAX]; /* widest first; gaps[RANGES_MAX - 1] is not cut */
    size_t gap_count = 0;
    uintptr_t least = covered / 4;
    size_t i;
    for (i = 1; i < count; ++i) {
        uintptr_t gap = spans[i].low - spans[i - 1].high;
        if (gap > covered / 4) {
            size_t at = gap_count < RANGES_MAX ? gap_count++ : RANGES_MAX;
            for (; at > 0 && gaps[at - 1] < gap; --at) {
                if (at < RANGES_MAX) {
                    gaps[at] = gaps[at - 1];
                }
            }
            if (at < RANGES_MAX) {
                gaps[at] = gap;
            }
        }
    }
    if (gap_count == RANGES_MAX) {
        least = gaps[RANGES_MAX - 1];
    }
    r->count = 0;
    for (i = 0; i < count; ++i) {
        if (i == 0 || (spans[i].low - spans[i - 1].high > least && r->count < RANGES_MAX)) {
            memset(&r->items[r->count], 0, sizeof(r->items[0]));
            r->items[r->count].low = spans[i].low;
            r->items[r->count++].size_min_bytes = SIZE_MAX;
        }
        r->items[r->count - 1].high = spans[i].high;
    }
    unmap_bytes(spans, capacity * sizeof(*spans));
    for (i = 0; i < s->t->block_count; ++i) {
        const block *b = &s->blocks[i];
        size_t k;
        for (k = 0; is_visible(s, b) && k < r->count; ++k) {
            range *in = &r->items[k];
            if (b->address >= in->low && b->address < in->high) {
                in->size_min_bytes = b->size_bytes < in->size_min_bytes ? b->size_bytes : in->size_min_bytes;
                in->size_max_bytes = b->size_bytes > in->size_max_bytes ? b->size_bytes : in->size_max_bytes;
            }
        }
    }
}

enum { RANGE_CAPTION = 20, RANGE_HEIGHT_MIN = 40 };

/* Heights by bytes, though none below RANGE_HEIGHT_MIN; low addresses at the bottom. Returns the height of all. */
static double place_ranges(ranges *r, double top, size_t height)
{
    size_t spare = height > r->count * RANGE_HEIGHT_MIN ? height - r->count * RANGE_HEIGHT_MIN : 0;
    double bytes = 0;
    double at = top;
    size_t i;
    for (i = 0; i < r->count; ++i) {
        bytes += (double)(r->items[i].high - r->items[i].low);
    }
    for (i = r->count; i-- > 0;) {
        range *one = &r->items[i];
        double share = (double)(one->high - one->low) / bytes;
        one->height = RANGE_HEIGHT_MIN + (size_t)(share * (double)spare);
        one->height -= one->height % CELL;
        one->top = at + RANGE_CAPTION;
        at = one->top + (double)one->height;
    }
    return at - top;
}

/*---------------------------------------------------------------------------------------------------------
  The picture: axes and steps
  -------------------------------------------------------------------------------------------------------*/

typedef struct picture {
    canvas c;
    const story *s;
    ranges r;
    double x;     /* of the plots */
    double width;
    double memory_top;
    double memory_height;
    double ratio_top;
    double ratio_height;
    double blocks_bottom;
} picture;

static double x_of_event(const picture *p, size_t number)
{
    const story *s = p->s;
    size_t inside = number < s->first ? s->first : number > s->end ? s->end : number;
    return p->x + p->width * (double)(inside - s->first) / (double)(s->end - s->first);
}

/* Starts and ends at columns, so that both panels agree. */
static double x_of_column(const picture *p, size_t index) { return x_of_event(p, column_start(p->s, index)); }

static uint64_t byte_tick(uint64_t bytes, unsigned ticks_max)
{
    uint64_t tick = 1;
    while (bytes / tick > ticks_max) {
        tick *= 2;
    }
    return tick;
}

static void draw_frame(picture *p, double top, double height)
{
    put(&p->c, "<path d=\"M%.1f %.1fv%.1fh%.1f\" fill=\"none\" stroke=\"#888\" stroke-width=\".8\"/>\n", p->x, top,
        height, p->width);
}

/* The next of 1, 2, 5, 10, 20, 50 ... */
static size_t nicer_tick(size_t tick)
{
    size_t power = 1;
    while (power * 10 <= tick) {
        power *= 10;
    }
    return tick == power ? 2 * power : tick == 2 * power ? 5 * power : 10 * power;
}

static void draw_event_axis(picture *p)
{
    const story *s = p->s;
    size_t count = s->end - s->first;
    size_t tick = 1;
    size_t at;
    char text[32];
    while (count / tick > (size_t)(p->width / 100)) {
        tick = nicer_tick(tick);
    }
    for (at = (s->first + tick - 1) / tick * tick; at <= s->end; at += tick) {
        double x = x_of_event(p, at);
        put(&p->c, "<path d=\"M%.1f %.1fv5\" stroke=\"#888\" stroke-width=\".8\"/>\n", x, p->blocks_bottom);
        write_text(&p->c, x, p->blocks_bottom + 18, MIDDLE, 11, "fill=\"" INK "\"", "%s", count_text(at, text));
    }
    write_text(&p->c, p->x + p->width / 2, p->blocks_bottom + 36, MIDDLE, 12, "fill=\"" INK "\"",
               "time: allocations and frees");
}

static size_t step_start(const trace *t, size_t index) { return index > 0 ? t->step_ends[index - 1] : 0; }

/* Through the plots, not through the words between them. */
static void draw_step_line(picture *p, double x)
{
    size_t i;
    put(&p->c, "<path d=\"M%.1f %.1fV%.1f", x, p->memory_top - 14, p->memory_top + p->memory_height);
    if (p->ratio_height > 0) {
        put(&p->c, "M%.1f %.1fV%.1f", x, p->ratio_top, p->ratio_top + p->ratio_height);
    }
    for (i = 0; i < p->r.count; ++i) {
        put(&p->c, "M%.1f %.1fV%.1f", x, p->r.items[i].top, p->r.items[i].top + (double)p->r.items[i].height);
    }
    put(&p->c, "\" stroke=\"#000\" stroke-opacity=\".55\" stroke-width=\".7\"/>\n");
}

/* Lines at the ends of steps, numbers between them. Of many steps only every second, fifth, tenth ... has them. */
static void draw_steps(picture *p)
{
    const story *s = p->s;
    const trace *t = s->t;
    size_t visible = 0;
    size_t every = 1;
    double free_from = p->x;
    size_t k;
    for (k = 0; k < t->step_count; ++k) {
        visible += t->step_ends[k] > s->first && step_start(t, k) < s->end;
    }
    while (visible > 0 && p->width / (double)visible * (double)every < 30) {
        every = nicer_tick(every);
    }
    if (visible > 0) {
        write_text(&p->c, p->x - 8, p->memory_top - 5, RIGHT, 11, "fill=\"" FAINT "\"", "step");
    }
    for (k = 0; k < t->step_count; ++k) {
        double start = x_of_event(p, step_start(t, k));
        double end = x_of_event(p, t->step_ends[k]);
        char text[32];
        double width;
        if (t->step_ends[k] <= s->first || step_start(t, k) >= s->end || (k + 1) % every != 0) {
            continue;
        }
        width = text_width(count_text(k + 1, text), 11);
        if (end > p->x && end < p->x + p->width - 0.5) {
            draw_step_line(p, end);
        }
        if ((start + end - width) / 2 >= free_from && (start + end + width) / 2 <= p->x + p->width + 8) {
            write_text(&p->c, (start + end) / 2, p->memory_top - 5, MIDDLE, 11, "fill=\"" INK "\"", "%s", text);
            free_from = (start + end + width) / 2 + 6;
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  Panel: memory
  -------------------------------------------------------------------------------------------------------*/

typedef enum curve { CURVE_LIVE_LEAST, CURVE_LIVE, CURVE_IN_USE, CURVE_PIECES, CURVE_RESERVED, CURVE_PEAK } curve;

static uint64_t curve_value(const column *col, curve which)
{
    uint64_t cached;
    switch (which) {
    case CURVE_LIVE_LEAST:
        return col->live_least_bytes;
    case CURVE_LIVE:
        return col->live_bytes;
    case CURVE_IN_USE:
        return col->in_use_bytes;
    case CURVE_RESERVED:
        return col->reserved_bytes;
    case CURVE_PEAK:
        return col->peak_bytes;
    case CURVE_PIECES:
    default:
        cached = col->reserved_bytes > col->in_use_bytes ? col->reserved_bytes - col->in_use_bytes : 0;
        return col->in_use_bytes + (cached > col->largest_bytes ? cached - col->largest_bytes : 0);
    }
}

/* Steps through the columns; with a base line an area. */
static void draw_curve(picture *p, curve which, uint64_t top_bytes, int is_area, const char *style)
{
    double base = p->memory_top + p->memory_height;
    double last = -1;
    size_t i;
    put(&p->c, "<path %s d=\"", style);
    put_at(&p->c, 'M', p->x);
    for (i = 0; i < p->s->column_count; ++i) {
        uint64_t value = curve_value(&p->s->columns[i], which);
        double y = base - p->memory_height * (double)value / (double)top_bytes;
        y = (double)(long)(y * 10 + 0.5) / 10;
        if (i == 0) {
            put_at(&p->c, ' ', is_area ? base : y);
            put_at(&p->c, 'V', y);
        } else if (y != last) {
            put_at(&p->c, 'H', x_of_column(p, i));
            put_at(&p->c, 'V', y);
        }
        last = y;
    }
    put_at(&p->c, 'H', p->x + p->width);
    if (is_area) {
        put_at(&p->c, 'V', base);
        put(&p->c, "z");
    }
    put(&p->c, "\"/>\n");
}

#define COLOUR_LIVE "#56b4e9"
#define COLOUR_LIVE_ALWAYS "#2f8fca"
#define COLOUR_WASTED "#f0c000"
#define COLOUR_PIECES "#e0763a"
#define COLOUR_RESERVED "#1a1a1a"
#define COLOUR_PEAK "#00467f"

static int knows_reserved(const story *s) { return s->columns[0].reserved_bytes != NONE; }
static int knows_pieces(const story *s) { return s->columns[0].largest_bytes != NONE; }

/* Waste that is too thin to be seen is not explained either. */
static int shows_waste(const story *s)
{
    uint64_t wasted = 0;
    size_t i;
    for (i = 0; i < s->column_count; ++i) {
        uint64_t now = s->columns[i].in_use_bytes - s->columns[i].live_bytes;
        wasted = now > wasted ? now : wasted;
    }
    return wasted >= s->peak_live_bytes / 200;
}

static size_t memory_legend(const story *s, legend_item items[8])
{
    size_t n = 0;
    memset(items, 0, 8 * sizeof(*items));
#define ITEM(colour_, label_, line_) \
    (items[n].colour = colour_, items[n].is_line = line_, strcpy(items[n].label, label_), ++n)
    ITEM(s->column_count < s->end - s->first ? COLOUR_LIVE : COLOUR_LIVE_ALWAYS, "live (requested)", 0);
    if (s->column_count < s->end - s->first) {
        ITEM(COLOUR_LIVE_ALWAYS, "live all through a pixel", 0);
    }
    if (shows_waste(s)) {
        ITEM(COLOUR_WASTED, "wasted (capacity - requested)", 0);
    }
    if (knows_pieces(s)) {
        ITEM(COLOUR_PIECES, "free in smaller pieces", 0);
        ITEM(FREE_COLOUR, "largest free piece", 0);
    } else if (knows_reserved(s)) {
        ITEM(FREE_COLOUR, "free", 0);
    }
    if (knows_reserved(s)) {
        ITEM(COLOUR_RESERVED, "reserved", 1);
    }
    ITEM(COLOUR_PEAK, "peak live so far", 2);
#undef ITEM
    return n;
}

static void draw_peak(picture *p, uint64_t top_bytes)
{
    const column *peak = &p->s->columns[p->s->peak_column];
    double x = (x_of_event(p, peak->event) + x_of_event(p, peak->event + 1)) / 2;
    double y = p->memory_top + p->memory_height * (1 - (double)peak->live_bytes / (double)top_bytes);
    int right = x > p->x + p->width * 0.6;
    char bytes[32];
    char event_number[32];
    put(&p->c, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"" INK "\" stroke-width=\".8\"/>\n", x, y, p->memory_top + 4);
    put(&p->c, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\" fill=\"#fff\" stroke=\"" INK "\" stroke-width=\"1.4\"/>\n", x,
        y);
    write_text(&p->c, right ? x - 6 : x + 6, p->memory_top + 13, right ? RIGHT : LEFT, 12,
               "fill=\"" INK "\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\"",
               "peak live %s (event %s)", bytes_text(peak->live_bytes, bytes),
               count_text(peak->event + 1, event_number));
}

static void draw_memory(picture *p)
{
    const story *s = p->s;
    uint64_t most = 1;
    uint64_t top;
    uint64_t tick;
    uint64_t at;
    char text[32];
    size_t i;
    for (i = 0; i < s->column_count; ++i) {
        const column *col = &s->columns[i];
        most = col->in_use_bytes > most ? col->in_use_bytes : most;
        most = col->peak_bytes > most ? col->peak_bytes : most;
        most = col->reserved_bytes != NONE && col->reserved_bytes > most ? col->reserved_bytes : most;
    }
    top = most + most / 5 + 1; /* room for the words of the peak */
    if (knows_reserved(s)) {
        draw_curve(p, CURVE_RESERVED, top, 1, "fill=\"" FREE_COLOUR "\"");
    }
    if (knows_pieces(s)) {
        draw_curve(p, CURVE_PIECES, top, 1, "fill=\"" COLOUR_PIECES "\"");
    }
    draw_curve(p, CURVE_IN_USE, top, 1, "fill=\"" COLOUR_WASTED "\"");
    draw_curve(p, CURVE_LIVE, top, 1, "fill=\"" COLOUR_LIVE "\"");
    draw_curve(p, CURVE_LIVE_LEAST, top, 1, "fill=\"" COLOUR_LIVE_ALWAYS "\"");
    draw_curve(p, CURVE_PEAK, top, 0,
               "fill=\"none\" stroke=\"" COLOUR_PEAK "\" stroke-width=\"1.4\" stroke-dasharray=\"4 2.5\"");
    if (knows_reserved(s)) {
        uint64_t last = s->columns[s->column_count - 1].reserved_bytes;
        double y = p->memory_top + p->memory_height * (1 - (double)last / (double)top);
        draw_curve(p, CURVE_RESERVED, top, 0, "fill=\"none\" stroke=\"" COLOUR_RESERVED "\" stroke-width=\"1.6\"");
        write_text(&p->c, p->x + p->width + 6, y - 3, LEFT, 11, "fill=\"" INK "\"", "reserved");
        write_text(&p->c, p->x + p->width + 6, y + 10, LEFT, 11, "fill=\"" INK "\"", "%s", bytes_text(last, text));
    }
    tick = byte_tick(top, 5);
    for (at = 0; at <= top; at += tick) {
        double y = p->memory_top + p->memory_height * (1 - (double)at / (double)top);
        put(&p->c, "<path d=\"M%.1f %.1fh-5\" stroke=\"#888\" stroke-width=\".8\"/>\n", p->x, y);
        write_text(&p->c, p->x - 8, y + 4, RIGHT, 11, "fill=\"" INK "\"", "%s", at > 0 ? bytes_text(at, text) : "0");
    }
    draw_frame(p, p->memory_top, p->memory_height);
    draw_peak(p, top);
}

/* Where the ratio is above the plot: a line along its top. Returns the most it reaches; 0 if it never leaves. */
static double draw_cut(picture *p, double most)
{
    const story *s = p->s;
    double highest = 0;
    uint64_t reserved = 0;
    size_t i;
    for (i = 0; i < s->column_count; ++i) {
        const column *col = &s->columns[i];
        reserved = col->reserved_bytes > reserved ? col->reserved_bytes : reserved;
        if (col->peak_bytes > 0 && (double)reserved / (double)col->peak_bytes > most) {
            double ratio = (double)reserved / (double)col->peak_bytes;
            put(&p->c, highest > 0 ? "" : "<path stroke=\"#c00000\" stroke-width=\"3\" d=\"");
            highest = ratio > highest ? ratio : highest;
            put(&p->c, "M%.1f %.1fH%.1f", x_of_column(p, i), p->ratio_top + 1.5,
                i + 1 < s->column_count ? x_of_column(p, i + 1) : p->x + p->width);
        }
    }
    put(&p->c, highest > 0 ? "\"/>\n" : "");
    return highest;
}

/* Reserved / peak live so far. Before half of the peak is reached the ratio says little and may leave the plot, which
   is marked. */
static void draw_ratio(picture *p)
{
    const story *s = p->s;
    double base = p->ratio_top + p->ratio_height;
    double most = 1.1;
    double last = 0;
    double highest;
    char text[80] = "";
    uint64_t reserved = 0;
    size_t i;
    for (i = 0; i < s->column_count; ++i) {
        const column *col = &s->columns[i];
        reserved = col->reserved_bytes > reserved ? col->reserved_bytes : reserved;
        if (col->peak_bytes >= s->peak_live_bytes / 2 && col->peak_bytes > 0) {
            double ratio = (double)reserved / (double)col->peak_bytes;
            most = ratio > most ? ratio : most;
        }
    }
    most = most > 3 ? 3 : 1 + (most - 1) * 1.15;
    put(&p->c, "<path fill=\"#efd3c2\" stroke=\"#a04000\" stroke-width=\"1.2\" d=\"");
    put_at(&p->c, 'M', p->x);
    put_at(&p->c, ' ', base);
    reserved = 0;
    for (i = 0; i < s->column_count; ++i) {
        const column *col = &s->columns[i];
        double ratio;
        reserved = col->reserved_bytes > reserved ? col->reserved_bytes : reserved;
        last = col->peak_bytes > 0 ? (double)reserved / (double)col->peak_bytes : most;
        ratio = last > most ? most : last < 1 ? 1 : last;
        put_at(&p->c, 'H', x_of_column(p, i));
        put_at(&p->c, 'V', base - p->ratio_height * (ratio - 1) / (most - 1));
    }
    put_at(&p->c, 'H', p->x + p->width);
    put_at(&p->c, 'V', base);
    put(&p->c, "z\"/>\n");
    highest = draw_cut(p, most);
    if (highest > 0) {
        snprintf(text, sizeof text, "; above %.2f, up to %.4g, where the top is red", most, highest);
    }
    draw_frame(p, p->ratio_top, p->ratio_height);
    write_text(&p->c, p->x - 8, base + 4, RIGHT, 11, "fill=\"" INK "\"", "1.00");
    write_text(&p->c, p->x - 8, p->ratio_top + 7, RIGHT, 11, "fill=\"" INK "\"", "%.2f", most);
    write_text(&p->c, p->x, p->ratio_top - 6, LEFT, 11.5, "fill=\"" INK "\"",
               "Fragmentation: reserved / peak live so far%s", text);
    write_text(&p->c, p->x + p->width + 6, base - p->ratio_height * ((last > most ? most : last) - 1) / (most - 1) + 4,
               LEFT, 11, "fill=\"" INK "\"", "%.3f", last);
}

/*---------------------------------------------------------------------------------------------------------
  Panel: blocks
  -------------------------------------------------------------------------------------------------------*/

/* Dark to light as sizes grow; the order and the steps in lightness hold for colour-blind eyes too. */
static const uint32_t group_colours[GROUPS] = {0x3b0f5c, 0x3f4a8a, 0x26798e, 0x22a884, 0x7ad151, 0xfde725};
#define NOT_FREED_COLOUR 0x9db4d3u
static const char *const size_labels[GROUPS] = {"below 1 KiB", "1 to 16 KiB", "16 to 256 KiB",
                                                "256 KiB to 4 MiB", "4 to 64 MiB", "from 64 MiB"};
static const char *const life_labels[GROUPS] = {"up to 10 events", "up to 100", "up to 1,000", "up to 10,000",
                                                "longer", "not freed"};

static unsigned group_of(const story *s, const block *b)
{
    unsigned group = 0;
    size_t value = s->o->by_life ? b->died - b->born : b->size_bytes >> 10;
    size_t limit = s->o->by_life ? 11 : 1;
    if (s->o->by_life && b->died == s->t->event_count) {
        return GROUPS - 1;
    }
    for (; value >= limit && group < (s->o->by_life ? 4u : 5u); ++group) {
        limit = s->o->by_life ? (limit - 1) * 10 + 1 : limit * 16;
    }
    return group;
}

/* A group's colour, mixed with that of free memory. */
static void shade_colour(const story *s, unsigned group, unsigned shade, char text[16])
{
    static const unsigned percents[SHADES] = {100, 72, 46, 22};
    uint32_t colour = s->o->by_life && group == GROUPS - 1 ? NOT_FREED_COLOUR : group_colours[group];
    unsigned channels[3];
    int i;
    for (i = 0; i < 3; ++i) {
        channels[i] = ((colour >> (16 - 8 * i) & 0xff) * percents[shade] + 0xe3 * (100 - percents[shade])) / 100;
    }
    snprintf(text, 16, "#%02x%02x%02x", channels[0] & 0xff, channels[1] & 0xff, channels[2] & 0xff);
}

static size_t visible_count(const story *s)
{
    size_t count = 0;
    size_t i;
    for (i = 0; i < s->t->block_count; ++i) {
        count += (size_t)is_visible(s, &s->blocks[i]);
    }
    return count;
}

static double y_of(const range *r, uintptr_t address)
{
    uintptr_t inside = address < r->low ? r->low : address > r->high ? r->high : address;
    return r->top + (double)r->height * (1 - (double)(inside - r->low) / (double)(r->high - r->low));
}

static int is_in(const range *r, const block *b) { return b->address >= r->low && b->address < r->high; }

/* From the lowest to the highest address that was used so far. */
static void draw_used_before(picture *p, const range *r)
{
    const story *s = p->s;
    size_t columns = s->column_count;
    double *low = map_bytes(2 * columns * sizeof(*low));
    double *high = low + columns;
    size_t i;
    for (i = 0; i < columns; ++i) {
        low[i] = r->top;
        high[i] = r->top + (double)r->height;
    }
    for (i = 0; i < s->t->block_count; ++i) {
        const block *b = &s->blocks[i];
        if (b->address != 0 && is_in(r, b)) {
            size_t born = b->born < s->first ? 0 : b->born - s->first;
            size_t at = (size_t)((uint64_t)born * columns / (s->end - s->first));
            double bottom = y_of(r, b->address);
            double top = y_of(r, block_end(b));
            low[at] = bottom > low[at] ? bottom : low[at];
            high[at] = top < high[at] ? top : high[at];
        }
    }
    put(&p->c, "<path fill=\"" FREE_COLOUR "\" d=\"");
    for (i = 0; i < columns; ++i) {
        int grows = i == 0 || high[i] < high[i - 1] - 0.05;
        high[i] = grows ? high[i] : high[i - 1];
        low[i] = i == 0 || low[i] > low[i - 1] ? low[i] : low[i - 1];
        if (i == 0) {
            put_at(&p->c, 'M', p->x);
            put_at(&p->c, ' ', high[i] < low[i] ? high[i] : low[i]);
        } else if (grows) {
            put_at(&p->c, 'H', x_of_column(p, i));
            put_at(&p->c, 'V', high[i]);
        }
    }
    put_at(&p->c, 'H', p->x + p->width);
    for (i = columns; i-- > 0;) {
        if (i + 1 == columns || low[i] < low[i + 1] - 0.05) {
            if (i + 1 < columns) {
                put_at(&p->c, 'H', x_of_column(p, i + 1));
            }
            put_at(&p->c, 'V', low[i]);
        }
    }
    put_at(&p->c, 'H', p->x);
    put(&p->c, "z\"/>\n");
    unmap_bytes(low, 2 * columns * sizeof(*low));
}

/* Rectangles of one colour; large ones get an outline, so that neighbours stay apart. */
static void draw_rectangles(picture *p, unsigned group, int outlined)
{
    const story *s = p->s;
    char colour[16];
    size_t i;
    shade_colour(s, group, 0, colour);
    put(&p->c, "<path fill=\"%s\"%s d=\"", colour, outlined ? " stroke=\"#fff\" stroke-width=\".5\"" : "");
    for (i = 0; i < s->t->block_count; ++i) {
        const block *b = &s->blocks[i];
        size_t k;
        for (k = 0; is_visible(s, b) && group_of(s, b) == group && k < p->r.count; ++k) {
            const range *r = &p->r.items[k];
            if (is_in(r, b)) {
                double left = x_of_event(p, b->born);
                double width = x_of_event(p, b->died) - left;
                double top = y_of(r, block_end(b));
                double height = y_of(r, b->address) - top;
                if ((width >= 3 && height >= 3) == outlined) {
                    width = width < 0.3 ? 0.3 : width;
                    height = height < 0.3 ? 0.3 : height;
                    put_at(&p->c, 'M', left);
                    put_at(&p->c, ' ', top);
                    put_at(&p->c, 'h', width);
                    put_at(&p->c, 'v', height);
                    put_at(&p->c, 'h', -width);
                    put(&p->c, "z");
                }
            }
        }
    }
    put(&p->c, "\"/>\n");
}

static double overlap(double a_low, double a_high, double b_low, double b_high)
{
    double low = a_low > b_low ? a_low : b_low;
    double high = a_high < b_high ? a_high : b_high;
    return high > low ? high - low : 0;
}

/* Adds the part of each cell that the block covers. */
static void cover_cells(const picture *p, const range *r, const block *b, float *cells, size_t columns)
{
    double left = (x_of_event(p, b->born) - p->x) / CELL;
    double right = (x_of_event(p, b->died) - p->x) / CELL;
    double top = (y_of(r, block_end(b)) - r->top) / CELL;
    double bottom = (y_of(r, b->address) - r->top) / CELL;
    size_t rows = r->height / CELL;
    unsigned group = group_of(p->s, b);
    size_t row;
    size_t col;
    for (row = (size_t)top; row < rows && (double)row < bottom; ++row) {
        double share = overlap(top, bottom, (double)row, (double)row + 1);
        for (col = (size_t)left; col < columns && (double)col < right; ++col) {
            cells[(row * columns + col) * GROUPS + group] +=
                (float)(share * overlap(left, right, (double)col, (double)col + 1));
        }
    }
}

/* The number of a cell's colour from 1; 0: free. */
static unsigned char cell_colour(const float *cell)
{
    static const float limits[SHADES] = {0.75f, 0.4f, 0.15f, 0.01f};
    float sum = 0;
    unsigned group = 0;
    unsigned shade = 0;
    unsigned i;
    for (i = 0; i < GROUPS; ++i) {
        sum += cell[i];
        group = cell[i] > cell[group] ? i : group;
    }
    while (shade < SHADES && sum < limits[shade]) {
        ++shade;
    }
    return (unsigned char)(shade < SHADES ? 1 + group * SHADES + shade : 0);
}

static void draw_cells(picture *p, const range *r)
{
    const story *s = p->s;
    size_t columns = (size_t)p->width / CELL;
    size_t rows = r->height / CELL;
    size_t bytes = rows * columns * GROUPS * sizeof(float);
    float *cells = map_bytes(bytes);
    unsigned char *colours = map_bytes(rows * columns);
    unsigned number;
    size_t i;
    for (i = 0; i < s->t->block_count; ++i) {
        if (is_visible(s, &s->blocks[i]) && is_in(r, &s->blocks[i])) {
            cover_cells(p, r, &s->blocks[i], cells, columns);
        }
    }
    for (i = 0; i < rows * columns; ++i) {
        colours[i] = cell_colour(&cells[i * GROUPS]);
    }
    put(&p->c, "<g transform=\"translate(%.1f %.1f) scale(%d)\" shape-rendering=\"crispEdges\">\n", p->x,
        r->top + CELL / 2.0, CELL);
    for (number = 1; number <= GROUPS * SHADES; ++number) {
        char colour[16];
        int started = 0;
        shade_colour(s, (number - 1) / SHADES, (number - 1) % SHADES, colour);
        for (i = 0; i < rows * columns;) {
            size_t start = i;
            size_t row_end = (i / columns + 1) * columns;
            while (i < row_end && colours[i] == number) {
                ++i;
            }
            if (i > start) {
                if (!started) {
                    put(&p->c, "<path stroke=\"%s\" d=\"", colour);
                    started = 1;
                }
                put(&p->c, "M%zu %zuh%zu", start % columns, start / columns, i - start);
            } else {
                ++i;
            }
        }
        put(&p->c, started ? "\"/>\n" : "");
    }
    put(&p->c, "</g>\n");
    unmap_bytes(cells, bytes);
    unmap_bytes(colours, rows * columns);
}

static void draw_range_axis(picture *p, size_t index)
{
    const range *r = &p->r.items[index];
    uint64_t bytes = r->high - r->low;
    uint64_t tick = byte_tick(bytes, r->height < 80 ? 2 : (unsigned)(r->height / 36));
    uint64_t at;
    char text[32];
    char least[32];
    char most[32];
    draw_frame(p, r->top, (double)r->height);
    for (at = 0; at <= bytes; at += tick) {
        double y = r->top + (double)r->height * (1 - (double)at / (double)bytes);
        put(&p->c, "<path d=\"M%.1f %.1fh-5\" stroke=\"#888\" stroke-width=\".8\"/>\n", p->x, y);
        write_text(&p->c, p->x - 8, y + 4, RIGHT, 11, "fill=\"" INK "\"", "%s", at > 0 ? bytes_text(at, text) : "0");
    }
    bytes_text(r->size_min_bytes, least);
    bytes_text(r->size_max_bytes, most);
    write_text(&p->c, p->x, r->top - 6, LEFT, 11.5, "fill=\"" INK "\"",
               "Range %zu: %s of addresses, blocks of %s%s%s", index + 1, bytes_text(bytes, text), least,
               strcmp(least, most) == 0 ? "" : " to ", strcmp(least, most) == 0 ? "" : most);
}

static size_t blocks_legend(const story *s, legend_item items[GROUPS + 1])
{
    static char colours[GROUPS][16];
    size_t counts[GROUPS] = {0};
    size_t n = 0;
    size_t i;
    for (i = 0; i < s->t->block_count; ++i) {
        if (is_visible(s, &s->blocks[i])) {
            counts[group_of(s, &s->blocks[i])]++;
        }
    }
    memset(items, 0, (GROUPS + 1) * sizeof(*items));
    for (i = 0; i < GROUPS; ++i) {
        if (counts[i] > 0) {
            shade_colour(s, (unsigned)i, 0, colours[i]);
            items[n].colour = colours[i];
            strcpy(items[n++].label, s->o->by_life ? life_labels[i] : size_labels[i]);
        }
    }
    items[n].colour = FREE_COLOUR;
    strcpy(items[n++].label, "free, among addresses used so far");
    return n;
}

static void draw_blocks(picture *p, int as_cells)
{
    size_t i;
    unsigned group;
    for (i = 0; i < p->r.count; ++i) {
        draw_used_before(p, &p->r.items[i]);
        if (as_cells) {
            draw_cells(p, &p->r.items[i]);
        }
    }
    for (group = 0; group < GROUPS && !as_cells; ++group) {
        draw_rectangles(p, group, 0);
        draw_rectangles(p, group, 1);
    }
    for (i = 0; i < p->r.count; ++i) {
        draw_range_axis(p, i);
    }
}

/*---------------------------------------------------------------------------------------------------------
  The whole picture
  -------------------------------------------------------------------------------------------------------*/

enum { MARGIN_LEFT = 84, MARGIN_RIGHT = 78, BLOCKS_HEIGHT = 380 };

/* Returns where to go on. */
static double draw_title(picture *p)
{
    const story *s = p->s;
    canvas *c = &p->c;
    size_t frees = 0;
    char text[4][32];
    char events[160];
    char memory[120];
    int used;
    size_t i;
    for (i = s->first; i < s->end; ++i) {
        frees += (size_t)s->t->events[i].is_free;
    }
    put(c, "<text x=\"%.1f\" y=\"28\" font-size=\"17\" font-weight=\"bold\" fill=\"" INK "\">", p->x);
    put_escaped(c, s->t->name, 80);
    put(c, " on %s</text>\n", s->o->kind->title);
    used = snprintf(events, sizeof(events), "%s events: %s allocations, %s frees",
                    count_text(s->end - s->first, text[0]), count_text(s->end - s->first - frees, text[1]),
                    count_text(frees, text[2]));
    if (s->o->step_first > 0) {
        snprintf(events + used, sizeof(events) - (size_t)used, "; steps %zu to %zu of %zu",
                 s->o->step_first, s->o->step_last, s->t->step_count);
    } else if (s->t->step_count > 0) {
        snprintf(events + used, sizeof(events) - (size_t)used, "; %s step%s", count_text(s->t->step_count, text[3]),
                 s->t->step_count == 1 ? "" : "s");
    }
    used = snprintf(memory, sizeof(memory), "Peak live %s", bytes_text(s->peak_live_bytes, text[0]));
    if (knows_reserved(s)) {
        snprintf(memory + used, sizeof(memory) - (size_t)used, ", reserved %s = %.3f x peak live",
                 bytes_text(s->peak_reserved_bytes, text[0]),
                 (double)s->peak_reserved_bytes / (double)s->peak_live_bytes);
    }
    if (text_width(events, 12) + text_width(memory, 12) > (double)s->o->width - p->x) {
        write_text(c, p->x, 48, LEFT, 12, "fill=\"" INK "\"", "%s.", events);
        write_text(c, p->x, 64, LEFT, 12, "fill=\"" INK "\"", "%s.", memory);
        return 90;
    }
    write_text(c, p->x, 48, LEFT, 12, "fill=\"" INK "\"", "%s. %s.", events, memory);
    return 74;
}

static void draw_caption(picture *p, double y, const char *text)
{
    write_text(&p->c, p->x, y, LEFT, 13.5, "font-weight=\"bold\" fill=\"" INK "\"", "%s", text);
}

/* Draws everything; the caller unmaps the canvas. */
static canvas draw_picture(const story *s)
{
    picture p;
    legend_item memory_items[8];
    legend_item block_items[GROUPS + 1];
    size_t memory_count = memory_legend(s, memory_items);
    size_t block_count = blocks_legend(s, block_items);
    int as_cells = visible_count(s) > BLOCKS_DRAWN;
    double y;
    memset(&p, 0, sizeof(p));
    p.s = s;
    p.x = MARGIN_LEFT;
    p.width = (double)(s->o->width - MARGIN_LEFT - MARGIN_RIGHT);
    p.width -= (double)((size_t)p.width % CELL);
    find_ranges(s, &p.r);
    put(&p.c, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"HHHH\" viewBox=\"0 0 %zu HHHH\" "
        "font-family=\"Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif\">\n", s->o->width, s->o->width);
    put(&p.c, "<path d=\"M0 0h%zuv9999h-%zuz\" fill=\"#fff\"/>\n", s->o->width, s->o->width);
    y = draw_title(&p);
    draw_caption(&p, y, "Memory");
    y += 18;
    y += 18 * legend(&p.c, memory_items, memory_count, p.x, p.x + p.width, y);
    p.memory_top = y + 8;
    p.memory_height = 190;
    y = p.memory_top + p.memory_height;
    draw_memory(&p);
    if (knows_reserved(s)) {
        p.ratio_top = y + 26;
        p.ratio_height = 44;
        y = p.ratio_top + p.ratio_height;
        draw_ratio(&p);
    }
    y += 30;
    draw_caption(&p, y, s->o->by_life ? "Blocks by address, coloured by lifetime"
                                      : "Blocks by address, coloured by size");
    y += 18;
    y += 18 * legend(&p.c, block_items, block_count, p.x, p.x + p.width, y) - 12;
    p.blocks_bottom = y + place_ranges(&p.r, y, BLOCKS_HEIGHT);
    draw_blocks(&p, as_cells);
    draw_steps(&p);
    draw_event_axis(&p);
    if (as_cells) {
        write_text(&p.c, p.x + p.width, p.blocks_bottom + 36, RIGHT, 11, "fill=\"" FAINT "\"",
                   "pale cell: live for a part of its time or addresses");
    }
    put(&p.c, "</svg>\n");
    {
        char height[24];
        char *at = p.c.text;
        int i;
        snprintf(height, sizeof(height), "%4d", (int)p.blocks_bottom + 48);
        for (i = 0; i < 2; ++i) {
            at = strstr(at, "HHHH");
            memcpy(at, height, 4);
        }
    }
    return p.c;
}

static canvas tell(const trace *t, const options *o)
{
    story s;
    canvas c;
    memset(&s, 0, sizeof(s));
    plan_story(&s, t, o, o->width - MARGIN_LEFT - MARGIN_RIGHT);
    play(&s);
    c = draw_picture(&s);
    unmap_bytes(s.columns, s.column_count * sizeof(*s.columns));
    unmap_bytes(s.blocks, t->block_count * sizeof(*s.blocks));
    return c;
}

static void write_file(const canvas *c, const char *path)
{
    FILE *file = path != NULL ? fopen(path, "wb") : stdout;
    if (file == NULL) {
        fail("%s: %s", path, strerror(errno));
    }
    if (fwrite(c->text, 1, c->length, file) != c->length || fflush(file) != 0) {
        fail("%s: %s", path != NULL ? path : "standard output", strerror(errno));
    }
    if (path != NULL && fclose(file) != 0) {
        fail("%s: %s", path, strerror(errno));
    }
}

/*---------------------------------------------------------------------------------------------------------
  Command line
  -------------------------------------------------------------------------------------------------------*/

static const char help_text[] =
    "usage: timeline TRACE -o FILE.svg [options]\n"
    "  -o FILE                            the picture; without it: standard output\n"
    "  --allocator pool|spec|malloc|p2    who serves the trace (default pool: ta_pool as it comes; spec: options of\n"
    "                                     ta_pool_desc_spec(); p2: one free stack per power of two)\n"
    "  --steps A..B                       only these steps, from 1; what was before is replayed, but not drawn\n"
    "  --colour size|life                 what the colours of blocks mean (default size)\n"
    "  --width PIXELS                     of the picture (default 1100)\n"
    "  --smoke                            without TRACE: draws random ones of several lengths to nowhere, as a test\n"
    "exit status: 0; 1 if the allocator fails; 2 for bad options or files\n";

static size_t option_number(const char *name, const char **text, size_t min, size_t max)
{
    char *end = NULL;
    unsigned long long value = 0;
    errno = 0;
    if (*text != NULL && **text >= '0' && **text <= '9') {
        value = strtoull(*text, &end, 10);
    }
    if (end == NULL || errno != 0 || value < min || value > max) {
        fail("%s needs a number from %zu to %zu", name, min, max);
    }
    *text = end;
    return (size_t)value;
}

static void option_steps(options *o, const char *text)
{
    const char *at = text;
    o->step_first = o->step_last = option_number("--steps", &at, 1, SIZE_MAX / 2);
    if (strncmp(at, "..", 2) == 0) {
        at += 2;
        o->step_last = option_number("--steps A..B with B", &at, o->step_first, SIZE_MAX / 2);
    }
    if (*at != 0) {
        fail("--steps needs A..B, as in 2..4");
    }
}

static const allocator_kind *option_allocator(const char *text)
{
    size_t i;
    for (i = 0; text != NULL && i < ALLOCATOR_COUNT; ++i) {
        if (strcmp(text, allocator_kinds[i].name) == 0) {
            return &allocator_kinds[i];
        }
    }
    fail("--allocator needs pool, spec, malloc or p2");
}

static int option_colour(const char *text)
{
    if (text == NULL || (strcmp(text, "size") != 0 && strcmp(text, "life") != 0)) {
        fail("--colour needs size or life");
    }
    return strcmp(text, "life") == 0;
}

static void read_options(int argc, char **argv, options *o)
{
    int i;
    for (i = 1; i < argc; ++i) {
        const char *arg = argv[i];
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--smoke") == 0) {
            o->smoke = 1;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            fputs(help_text, stdout);
            exit(0);
        } else if (strcmp(arg, "-o") == 0) {
            if (next == NULL) {
                fail("-o needs a file");
            }
            o->out_path = strcmp(next, "-") == 0 ? NULL : next;
            ++i;
        } else if (strcmp(arg, "--allocator") == 0) {
            o->kind = option_allocator(next);
            ++i;
        } else if (strcmp(arg, "--steps") == 0) {
            option_steps(o, next);
            ++i;
        } else if (strcmp(arg, "--colour") == 0 || strcmp(arg, "--color") == 0) {
            o->by_life = option_colour(next);
            ++i;
        } else if (strcmp(arg, "--width") == 0) {
            o->width = option_number("--width", &next, WIDTH_MIN, WIDTH_MAX);
            if (*next != 0) {
                fail("--width needs a number");
            }
            ++i;
        } else if (arg[0] == '-') {
            fail("unknown option %s; --help lists them", arg);
        } else if (o->path != NULL) {
            fail("one trace at a time: %s and %s", o->path, arg);
        } else {
            o->path = arg;
        }
    }
}

/* Random traces on every allocator; 1 if a picture is too large. */
static int smoke(options o)
{
    static const size_t counts[] = {1, 2, 100, 5000, 60000};
    size_t i;
    size_t k;
    for (i = 0; i < sizeof(counts) / sizeof(counts[0]); ++i) {
        trace t;
        memset(&t, 0, sizeof(t));
        make_trace(&t, counts[i]);
        for (k = 0; k < ALLOCATOR_COUNT; ++k) {
            canvas c;
            o.kind = &allocator_kinds[k];
            o.by_life = (int)(i + k) % 2;
            c = tell(&t, &o);
            printf("%zu events on %s: %zu bytes\n", counts[i], o.kind->name, c.length);
            if (c.length > SMOKE_BYTES_MAX) {
                fprintf(stderr, "timeline: that is too large\n");
                return 1;
            }
            unmap_bytes(c.text, c.capacity);
        }
        trace_dispose(&t);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static char output_buffer[65536]; /* else stdio takes one from malloc */
    const char *slash;
    options o;
    trace t;
    canvas c;
    memset(&o, 0, sizeof(o));
    memset(&t, 0, sizeof(t));
    o.kind = &allocator_kinds[0];
    o.width = WIDTH_DEFAULT;
    setvbuf(stdout, output_buffer, _IOFBF, sizeof(output_buffer));
    read_options(argc, argv, &o);
    if (o.path == NULL && o.smoke) {
        return smoke(o);
    }
    if (o.path == NULL) {
        fail("which trace? usage: timeline TRACE -o FILE.svg, --help tells more");
    }
    slash = strrchr(o.path, '/');
    t.name = slash != NULL ? slash + 1 : o.path;
    read_file(&t, o.path);
    c = tell(&t, &o);
    write_file(&c, o.out_path);
    trace_dispose(&t);
    unmap_bytes(c.text, c.capacity);
    return 0;
}
