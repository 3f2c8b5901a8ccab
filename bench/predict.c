/* predict.c - how much capacity a tensor gets when its size changes from use to use: policies compared on real sizes.

   build   cc -O2 -DNDEBUG -I. bench/predict.c -o predict -pthread
   run     ./predict [--csv] [--smoke] [file ...]         without files: three built-in streams
           ./predict [--csv] --held-out COUNT [file ...]  W1 on streams that no setting was made for

   A file is one stream, named by the file: one size per line (words), or lines DATE TIME,CONTEXT,GENERATED as in the
   Azure LLM inference traces (tokens), where the first line may name the columns. Empty lines are skipped, and sizes of
   0 in W1, W3 and W4; nothing generated counts as one token. A file that cannot be read, or has a line that is none of
   these, is named on standard error with the line; the others are run, and the exit status is 1.
   Workloads
       W1   one tensor takes the context of each request in turn: tokens x 8192 bytes
       W2   key-value caches, one per request: made with the context, one token of 8192 bytes more every 25 ms, freed
            when all is generated; requests arrive by their time stamps. (Needs the columns.)
       W3   requests within 50 ms are a batch: requests x longest context x 8192 bytes, one tensor. (Needs the columns.)
       W4   one tensor takes each line in turn: words x 3072 bytes. (One size per line.)
     Declared are: minimum 1 token or word, maximum that of the stream, expected the mean of the first 100.
   Policies
       exact              what is needed, at every change
       max                the declared maximum
       pow2               the next power of two, but not more than the maximum
       spec_static        1.2 x expected, then x 1.5; shrinks after 8 uses below half. Expected is the stream's mean
       spec_learned       the same; expected is the mean of what was seen
       predictive_heap    the default strategy on a block that moves when its capacity changes
       predictive_range   the default strategy on an address range: grows in place
       predictive_growth_l1, _l16, _l64   W2: the default strategy on blocks, told TA_DYNAMIC_GROWING (which the heap
                          row is not), at three prices of a change; l16 is the default
   Columns
       waste_percent               sum of capacity - used over sum of used, over uses (W2: over tokens)
       resizes_per_1000            changes of capacity in 1000 uses (W2: requests); of ranges only those downwards
       copied_per_used             bytes copied over bytes used (W2: over bytes at the end of each request). One tensor
                                   alone grows in place in its pool, so that nothing is copied in W1, W3 and W4
       recommit_per_used           ranges: bytes committed over bytes used, less the first time that each was needed
       peak_capacity_over_peak_used
       declared_max_exceeded       uses with more capacity than the declared maximum
   Held out are streams of COUNT uses by integer arithmetic alone, the same everywhere: sizes drawn independently from
   narrow, wide and heavy-tailed distributions, of a few kinds, rare large ones, walks, teeth, days, regimes, and ten
   times as many or as large ones; and the sizes of the files in random order, of which nothing in time is left. What
   could be had there is measured beside the strategy, from the whole stream at once:
       fixed_range, fixed_heap            the best of all fixed levels kept (heap: after so many uses below it), or two
                                          in turn, at the limits: recommitted 0.11 of used, 112 changes in 1000
       fixed_range_same, fixed_heap_same  the same at the rate that the strategy had
       clairvoyant_range                  the least waste that is possible at 0.11: who knows the future gives each
                                          byte back, or not, after each use, the longest unneeded ones first. Nobody
                                          that commits 0.11 again wastes less
   The strategies run in the library, through ta_dynamic; the backend under it only hands out numbers as addresses, so
   that no policy needs memory.
   Without --csv it also shows what happens when the sizes change for good: for each two files that follow each other,
   W1 of one after the other, both ways. Back to normal: the waste of uses 400 to 799 after the change over that of
   the second stream alone, in the same uses and as a whole. The last lines say what a decision of the default strategy
   costs (with --csv on standard error). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

enum {
    TOKEN_BYTES = 8192,
    WORD_BYTES = 3072,
    EXPECTED_COUNT = 100, /* the expected size is the mean of the first ones */
    RANGE_BYTES_MIN = 1,
    GRANULARITY_BYTES = 4096,
    COPIES = 64,          /* states that one decision is timed on */
    COUNT_MAX = 1000000000 /* tokens or words */
};
#define STEP_S 0.025
#define WINDOW_S 0.050

static void fail(const char *what, const char *about)
{
    fprintf(stderr, "predict: %s: %s\n", about, what);
    exit(1);
}

static void check(ta_result result, const char *about)
{
    if (result != TA_OK) {
        fail(ta_result_text(result), about);
    }
}

static void *new_array(size_t count, size_t bytes)
{
    void *ptr = calloc(count != 0 ? count : 1, bytes);
    if (ptr == NULL) {
        fail("no memory", "calloc");
    }
    return ptr;
}

/*---------------------------------------------------------------------------------------------------------
  A backend that hands out numbers as addresses: nothing is ever read or written there
  -------------------------------------------------------------------------------------------------------*/

typedef struct ledger {
    uintptr_t next;
} ledger;

static void ledger_info(void *self, ta_backend_info *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_RANGES;
    out->device.type = TA_DEVICE_OTHER;
    out->granularity_bytes = GRANULARITY_BYTES;
    out->alignment_bytes = 64;
}

static ta_result ledger_reserve(void *self, size_t size_bytes, size_t alignment_bytes, uint32_t flags, void **out)
{
    ledger *l = self;
    uintptr_t at = (l->next + alignment_bytes - 1) & ~(uintptr_t)(alignment_bytes - 1);
    (void)flags;
    if (at < l->next || size_bytes > UINTPTR_MAX / 2 - at) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    l->next = at + size_bytes;
    *out = (void *)at;
    return TA_OK;
}

static ta_result ledger_alloc(void *self, size_t size_bytes, void **out)
{
    return ledger_reserve(self, size_bytes, GRANULARITY_BYTES, 0, out);
}

static ta_result ledger_nothing(void *self, void *ptr, size_t size_bytes)
{
    (void)self;
    (void)ptr;
    (void)size_bytes;
    return TA_OK;
}

static ta_result ledger_zero(void *self, void *ptr, size_t size_bytes, ta_stream stream)
{
    (void)stream;
    return ledger_nothing(self, ptr, size_bytes);
}

static ta_result ledger_copy(void *self, void *dst, const void *src, size_t size_bytes, ta_stream stream)
{
    (void)src;
    (void)stream;
    return ledger_nothing(self, dst, size_bytes);
}

static ta_backend ledger_backend(ledger *l)
{
    static ta_backend_vtable vtable;
    ta_backend backend;
    vtable.struct_bytes = (uint32_t)sizeof(vtable);
    vtable.name = "ledger";
    vtable.info = ledger_info;
    vtable.alloc = ledger_alloc;
    vtable.free = ledger_nothing;
    vtable.reserve = ledger_reserve;
    vtable.release = ledger_nothing;
    vtable.commit = ledger_nothing;
    vtable.decommit = ledger_nothing;
    vtable.discard = ledger_nothing; /* memory by touch, as on the host */
    vtable.zero = ledger_zero;
    vtable.copy = ledger_copy;
    l->next = (uintptr_t)1 << 24;
    backend.vtable = &vtable;
    backend.self = l;
    return backend;
}

/*---------------------------------------------------------------------------------------------------------
  Policies: max and pow2 are strategies of this file, the others are the library's
  -------------------------------------------------------------------------------------------------------*/

static size_t max_required(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)state;
    return in->max_bytes;
}

static size_t pow2_required(const void *config, void *state, const ta_strategy_input *in)
{
    size_t bytes = 1;
    (void)config;
    (void)state;
    while (bytes < in->size_bytes) {
        bytes *= 2;
    }
    return bytes < in->max_bytes ? bytes : in->max_bytes;
}

static int pow2_should_resize(const void *config, void *state, const ta_strategy_input *in)
{
    return pow2_required(config, state, in) != in->capacity_bytes;
}

static const ta_strategy_vtable max_vtable = {sizeof(ta_strategy_vtable), "max", 0, max_required, NULL, NULL};
static const ta_strategy_vtable pow2_vtable = {sizeof(ta_strategy_vtable), "pow2", 0, pow2_required,
                                               pow2_should_resize, NULL};
static const ta_adaptive_config spec_static = {0.0, 0.0, 0.0, 0, 1};
static const ta_predictive_config price_1 = {0, 1, 0}, price_16 = {0, 16, 0}, price_64 = {0, 64, 0};

typedef struct policy {
    const char *name;
    ta_strategy strategy;
    int in_range;
    int hindsight; /* the expected size is the mean of the whole stream */
    int only_w2;
    int alone;     /* W2: the tensors are not said to be growing */
} policy;

enum { POLICY_COUNT = 10, POLICY_RANGE = 6 };

static void list_policies(policy *p)
{
    static const ta_strategy max_strategy = {&max_vtable, NULL}, pow2_strategy = {&pow2_vtable, NULL};
    const policy all[POLICY_COUNT] = {
        {"exact", ta_strategy_exact(), 0, 0, 0, 0},
        {"max", max_strategy, 0, 0, 0, 0},
        {"pow2", pow2_strategy, 0, 0, 0, 0},
        {"spec_static", ta_strategy_adaptive(&spec_static), 0, 1, 0, 0},
        {"spec_learned", ta_strategy_adaptive(NULL), 0, 0, 0, 0},
        {"predictive_heap", ta_strategy_predictive(NULL), 0, 0, 0, 1},
        {"predictive_range", ta_strategy_predictive(NULL), 1, 0, 0, 0},
        {"predictive_growth_l1", ta_strategy_predictive(&price_1), 0, 0, 1, 0},
        {"predictive_growth_l16", ta_strategy_predictive(&price_16), 0, 0, 1, 0},
        {"predictive_growth_l64", ta_strategy_predictive(&price_64), 0, 0, 1, 0},
    };
    memcpy(p, all, sizeof all);
}

/*---------------------------------------------------------------------------------------------------------
  Streams
  -------------------------------------------------------------------------------------------------------*/

typedef struct arrival {
    double time_s;
    size_t index; /* for a stable order */
    int64_t context, generated;
} arrival;

typedef struct stream {
    char name[256];
    int has_columns;
    size_t count;
    arrival *requests;
} stream;

static arrival *add_request(stream *s, size_t *room)
{
    if (s->count == *room) {
        *room = *room < 1024 ? 1024 : *room * 2;
        s->requests = realloc(s->requests, *room * sizeof(arrival));
        if (s->requests == NULL) {
            fail("no memory", s->name);
        }
    }
    memset(&s->requests[s->count], 0, sizeof(arrival));
    s->requests[s->count].index = s->count;
    return &s->requests[s->count++];
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int compare_requests(const void *a, const void *b)
{
    const arrival *x = a, *y = b;
    return x->time_s != y->time_s ? (x->time_s > y->time_s) - (x->time_s < y->time_s)
                                  : (x->index > y->index) - (x->index < y->index);
}

static void name_stream(stream *s, const char *path)
{
    const char *base = strrchr(path, '/');
    char *at;
    (void)snprintf(s->name, sizeof s->name, "%s", base != NULL ? base + 1 : path);
    for (at = s->name; *at != 0; ++at) {
        *at = strchr(",\"\r\n", *at) != NULL ? '_' : *at;
    }
}

/* Steps over blanks, then over the character c; 0 if it is not there. */
static int skip_mark(const char **at, char c)
{
    *at += strspn(*at, " \t");
    if (**at != c) {
        return 0;
    }
    ++*at;
    return 1;
}

/* A whole number from least to most at *at, which moves behind it; 0 if there is none. */
static int read_number(const char **at, int64_t least, int64_t most, int64_t *out)
{
    int64_t value = 0;
    const char *digit = *at + strspn(*at, " \t");
    if (*digit < '0' || *digit > '9') {
        return 0;
    }
    for (; *digit >= '0' && *digit <= '9'; ++digit) {
        value = value > COUNT_MAX ? value : value * 10 + (*digit - '0');
    }
    *at = digit;
    *out = value;
    return value >= least && value <= most;
}

/* DATE TIME, with T or blanks between them; a zone may follow and is not looked at. */
static int read_time(const char **at, double *out_s)
{
    int64_t year, month, day, hour, minute, second;
    char *end;
    if (!read_number(at, 1, 9999, &year) || !skip_mark(at, '-') || !read_number(at, 1, 12, &month) ||
        !skip_mark(at, '-') || !read_number(at, 1, 31, &day)) {
        return 0;
    }
    *at += **at == 'T';
    if (!read_number(at, 0, 23, &hour) || !skip_mark(at, ':') || !read_number(at, 0, 59, &minute) ||
        !skip_mark(at, ':') || !read_number(at, 0, 60, &second)) {
        return 0;
    }
    *out_s = (double)days_of(year, month, day) * 86400.0 + (double)hour * 3600.0 + (double)minute * 60.0 +
             (double)second;
    if (**at == '.') {
        *out_s += strtod(*at, &end);
        *at = end;
    }
    *at += strspn(*at, " +-:Z0123456789");
    return 1;
}

typedef enum line_kind { LINE_BAD, LINE_EMPTY, LINE_NAMES, LINE_SIZE, LINE_COLUMNS } line_kind;

static int at_end(const char *at)
{
    return at[strspn(at, " \t\r\n")] == 0;
}

static line_kind read_line(const char *line, arrival *r)
{
    const char *at = line;
    int commas = 0;
    memset(r, 0, sizeof *r);
    if (at_end(at)) {
        return LINE_EMPTY;
    }
    if (read_number(&at, 0, COUNT_MAX, &r->context) && at_end(at)) {
        return LINE_SIZE;
    }
    at = line;
    if (read_time(&at, &r->time_s) && skip_mark(&at, ',') && read_number(&at, 0, COUNT_MAX, &r->context) &&
        skip_mark(&at, ',') && read_number(&at, 0, COUNT_MAX, &r->generated) && at_end(at)) {
        r->generated = r->generated == 0 ? 1 : r->generated;
        return LINE_COLUMNS;
    }
    for (at = line; *at != 0; ++at) { /* names: three, without digits */
        commas += *at == ',';
        if ((*at >= '0' && *at <= '9') || (*at == ',' && (at[1] == ',' || at_end(at + 1) || at == line))) {
            return LINE_BAD;
        }
    }
    return commas == 2 ? LINE_NAMES : LINE_BAD;
}

/* Says what is wrong, with file and line; returns 0. */
static int refuse(const char *path, size_t number, const char *what)
{
    fprintf(stderr, "predict: %s:", path);
    if (number != 0) {
        fprintf(stderr, "%zu:", number);
    }
    fprintf(stderr, " %s\n", what);
    return 0;
}

static int read_lines(stream *s, const char *path, FILE *file)
{
    char line[512];
    size_t room = 0, number = 0;
    line_kind first = LINE_EMPTY;
    while (fgets(line, sizeof line, file) != NULL) {
        arrival r;
        line_kind kind;
        ++number;
        if (strchr(line, '\n') == NULL && !feof(file)) {
            return refuse(path, number, "the line is too long, or not text");
        }
        kind = read_line(line, &r);
        if (kind == LINE_BAD || (kind == LINE_NAMES && first != LINE_EMPTY)) {
            return refuse(path, number, "neither a size nor DATE TIME,CONTEXT,GENERATED (0 to 1000000000 each)");
        }
        if (kind != LINE_EMPTY && first != LINE_EMPTY && kind != first && (first != LINE_NAMES || kind == LINE_SIZE)) {
            return refuse(path, number, "columns and single sizes do not mix");
        }
        first = kind == LINE_EMPTY ? first : kind;
        if (kind == LINE_SIZE || kind == LINE_COLUMNS) {
            arrival *added = add_request(s, &room);
            r.index = added->index;
            *added = r;
        }
    }
    s->has_columns = first == LINE_COLUMNS;
    if (ferror(file)) {
        return refuse(path, number, strerror(errno));
    }
    return s->count != 0 ? 1 : refuse(path, 0, "no sizes in it");
}

/* Returns 0 when the file is not what it should be, which was said then. */
static int read_stream(stream *s, const char *path)
{
    FILE *file = fopen(path, "r");
    int is_good;
    memset(s, 0, sizeof *s);
    name_stream(s, path);
    if (file == NULL) {
        return refuse(path, 0, strerror(errno));
    }
    is_good = read_lines(s, path, file);
    fclose(file);
    if (is_good) {
        qsort(s->requests, s->count, sizeof(arrival), compare_requests);
    } else {
        free(s->requests);
        s->requests = NULL;
    }
    return is_good;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

/* Long tailed: the product of four even ones, scaled. */
static int64_t long_tailed(uint64_t *state, int64_t scale)
{
    int64_t value = scale;
    int i;
    for (i = 0; i < 4; ++i) {
        value = value * (int64_t)(256 + next_random(state) % 1024) / 640;
    }
    return value < 1 ? 1 : value;
}

/* 0: requests of a chat, which drift; 1: of another kind, in two sorts; 2: words of lines. */
static void make_stream(stream *s, int kind, size_t count)
{
    static const char *const names[] = {"synthetic_chat", "synthetic_code", "synthetic_lines"};
    uint64_t state = UINT64_C(88172645463325252) + (uint64_t)kind;
    size_t room = 0, i;
    double time_s = 0;
    memset(s, 0, sizeof *s);
    (void)snprintf(s->name, sizeof s->name, "%s", names[kind]);
    s->has_columns = kind < 2;
    for (i = 0; i < count; ++i) {
        arrival *r = add_request(s, &room);
        int long_one = next_random(&state) % 3 == 0;
        time_s += (double)(next_random(&state) % 1000) * 0.0004;
        r->time_s = time_s;
        r->context = kind == 0   ? long_tailed(&state, 600 + (int64_t)(i % (count / 2)) * 600 / (int64_t)count)
                     : kind == 1 ? long_tailed(&state, long_one ? 4000 : 900)
                                 : long_tailed(&state, long_one ? 4 : 120);
        r->generated = kind == 2 ? 0 : 1 + long_tailed(&state, kind == 0 ? 150 : 20);
    }
}

/* The sizes of W1, W3 and W4 in units (tokens, words); returns how many. */
static size_t sizes_of(const stream *s, int workload, int64_t *out)
{
    size_t count = 0, i = 0;
    while (i < s->count) {
        const arrival *first = &s->requests[i];
        int64_t longest = 0, requests = 0;
        int64_t window = (int64_t)((first->time_s - s->requests[0].time_s) / WINDOW_S);
        do {
            longest = s->requests[i].context > longest ? s->requests[i].context : longest;
            ++requests;
            ++i;
        } while (workload == 3 && i < s->count &&
                 (int64_t)((s->requests[i].time_s - s->requests[0].time_s) / WINDOW_S) == window);
        if (longest > 0) {
            out[count++] = requests * longest;
        }
    }
    return count;
}

/*---------------------------------------------------------------------------------------------------------
  Streams held out
  -------------------------------------------------------------------------------------------------------*/

static int64_t below(uint64_t *state, uint64_t count)
{
    return (int64_t)(next_random(state) % count);
}

/* scale x 2^(octaves / 1024), in straight lines between the powers. */
static int64_t scaled(int64_t scale, int64_t octaves_1024)
{
    int64_t whole = octaves_1024 >= 0 ? octaves_1024 / 1024 : -((1023 - octaves_1024) / 1024), value;
    value = scale * (1024 + octaves_1024 - whole * 1024) / 1024;
    value = whole >= 0 ? value * ((int64_t)1 << whole) : value / ((int64_t)1 << -whole);
    return value < 1 ? 1 : value;
}

/* A bell: mean 0, standard deviation 1024. */
static int64_t bell(uint64_t *state)
{
    int64_t sum = 0;
    int i;
    for (i = 0; i < 12; ++i) {
        sum += below(state, 1024);
    }
    return sum - 6 * 1023;
}

/* A logarithm of base 2 that is long-tailed: as many draws above each whole number as below it. In 1024ths. */
static int64_t tail(uint64_t *state)
{
    int64_t value = below(state, 1024);
    while (value < 20 * 1024 && below(state, 2) == 0) {
        value += 1024;
    }
    return value;
}

enum {
    HELD_LOGNORMAL_NARROW, HELD_LOGNORMAL, HELD_LOGNORMAL_WIDE, HELD_LOGNORMAL_LARGE, HELD_LOGNORMAL_LONG,
    HELD_EXPONENTIAL, HELD_UNIFORM, HELD_LOG_UNIFORM, HELD_PARETO, HELD_BIMODAL, HELD_BIMODAL_NEAR, HELD_BIMODAL_RARE,
    HELD_SPIKES, HELD_IMAGES, HELD_BATCHES, HELD_CONSTANT, HELD_ALTERNATING, HELD_WALK, HELD_TEETH_SHORT,
    HELD_TEETH_LONG, HELD_DAYS, HELD_REGIMES, HELD_REGIMES_SHORT, HELD_SWITCH, HELD_DRIFT, HELD_COUNT
};

static const char *const held_out_names[HELD_COUNT] = {
    "lognormal_narrow", "lognormal", "lognormal_wide", "lognormal_large", "lognormal_long", "exponential", "uniform",
    "log_uniform", "pareto", "bimodal", "bimodal_near", "bimodal_rare", "spikes", "image_sizes", "batches", "constant",
    "alternating", "random_walk", "sawtooth_50", "sawtooth_500", "days", "regimes", "regimes_short", "switch_once",
    "drift"
};

/* Independent draws. */
static int64_t drawn_size(int kind, uint64_t *state)
{
    static const int64_t pixels[] = {224 * 224, 512 * 512, 480 * 640, 640 * 480, 1280 * 720, 1920 * 1080, 3840 * 2160};
    static const int64_t in_1000[] = {100, 120, 150, 300, 200, 120, 10};
    int64_t value = 0, more, pick, k;
    switch (kind) {
    case HELD_LOGNORMAL_NARROW: return scaled(1000, bell(state) / 2);
    case HELD_LOGNORMAL_WIDE: return scaled(1000, bell(state) * 9 / 4);
    case HELD_LOGNORMAL_LARGE: return scaled(10000, bell(state) * 7 / 5);
    case HELD_EXPONENTIAL: return 1 + tail(state) * 2 / 3;
    case HELD_UNIFORM: return 1 + below(state, 2000);
    case HELD_LOG_UNIFORM: return scaled(4, below(state, 12 * 1024));
    case HELD_PARETO: return scaled(100, tail(state) * 2 / 3);
    case HELD_BIMODAL: return below(state, 10) < 7 ? 200 + below(state, 50) : 2000 + below(state, 500);
    case HELD_BIMODAL_NEAR: return below(state, 10) < 7 ? 200 + below(state, 50) : 600 + below(state, 60);
    case HELD_BIMODAL_RARE: return below(state, 20) != 0 ? 200 + below(state, 50) : 4000 + below(state, 1000);
    case HELD_SPIKES: return below(state, 100) != 0 ? 100 : 5000 + below(state, 5000);
    case HELD_IMAGES:
        pick = below(state, 1000);
        for (k = 0; pick >= in_1000[k]; ++k) {
            pick -= in_1000[k];
        }
        return pixels[k] / 64;
    case HELD_BATCHES: /* so many of the longest */
        pick = 1 + below(state, 8);
        for (k = 0; k < pick; ++k) {
            more = scaled(300, bell(state) * 7 / 5);
            value = more > value ? more : value;
        }
        return pick * value;
    case HELD_CONSTANT: return 777;
    default: return scaled(1000, bell(state) * 7 / 5);
    }
}

/* Sizes that depend on when it is: use i of count. *level is the stream's own. */
static int64_t held_out_size(int kind, uint64_t *state, size_t i, size_t count, int64_t *level)
{
    int64_t at = (int64_t)i, half = (int64_t)count / 2, phase;
    switch (kind) {
    case HELD_ALTERNATING: return i % 2 != 0 ? 2000 : 300;
    case HELD_WALK:
        *level += bell(state) / 16;
        *level = *level > 3072 ? 3072 : *level < -3072 ? -3072 : *level;
        return scaled(1000, *level);
    case HELD_TEETH_SHORT: return 100 + at % 50 * 100 + below(state, 50);
    case HELD_TEETH_LONG: return 100 + at % 500 * 10 + below(state, 50);
    case HELD_DAYS:
        phase = at % 1500;
        phase = phase < 750 ? phase : 1500 - phase;
        return scaled(1000, (phase - 375) * 8 + bell(state) * 2 / 3);
    case HELD_REGIMES:
    case HELD_REGIMES_SHORT:
        *level = i % (kind == HELD_REGIMES ? 700u : 150u) == 0 ? below(state, 6) * 1024 - 3072 : *level;
        return scaled(1000, *level + bell(state) * 7 / 8);
    case HELD_SWITCH: return scaled(at < half ? 8000 : 500, bell(state) * 7 / 6);
    case HELD_DRIFT: return scaled(300, (at < half ? at : (int64_t)count - at) * 2048 / half + bell(state) * 3 / 2);
    default: return drawn_size(kind, state);
    }
}

/* Returns how many sizes there are. */
static size_t make_held_out(int kind, size_t count, int64_t **out)
{
    uint64_t state = UINT64_C(88172645463325252) + (uint64_t)kind * UINT64_C(0x9E3779B97F4A7C15);
    int64_t level = 0;
    size_t i;
    count = kind == HELD_LOGNORMAL_LONG ? 10 * count : count;
    *out = new_array(count, sizeof(int64_t));
    for (i = 0; i < 16; ++i) {
        (void)next_random(&state);
    }
    for (i = 0; i < count; ++i) {
        (*out)[i] = held_out_size(kind, &state, i, count, &level);
    }
    return count;
}

static void shuffle_sizes(int64_t *sizes, size_t count)
{
    uint64_t state = UINT64_C(88172645463325252);
    size_t i, k;
    for (i = count; i > 1; --i) {
        int64_t size = sizes[i - 1];
        k = (size_t)below(&state, i);
        sizes[i - 1] = sizes[k];
        sizes[k] = size;
    }
}

/*---------------------------------------------------------------------------------------------------------
  What could be had: fixed levels, and the future
  -------------------------------------------------------------------------------------------------------*/

enum { LEVEL_MAX = 96, POINT_MAX = 1024 };
#define LIMIT_RECOMMIT 0.11
#define LIMIT_CHANGES 112.0

/* A policy's place: recommitted per used, or changes in 1000 uses, and held idle per used. */
typedef struct point {
    double rate, waste;
} point;

static int compare_sizes(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double sum_of(const int64_t *sizes, size_t count)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < count; ++i) {
        sum += (double)sizes[i];
    }
    return sum;
}

/* Sizes that occur, rising: even parts of the stream, and finer and finer ones toward the largest. */
static int list_levels(const int64_t *sizes, size_t count, int64_t *out)
{
    int64_t *sorted = new_array(count, sizeof(int64_t));
    size_t above = count / 20;
    int i, levels = 0;
    memcpy(sorted, sizes, count * sizeof(int64_t));
    qsort(sorted, count, sizeof(int64_t), compare_sizes);
    for (i = 0; i < 60; ++i) {
        out[levels++] = sorted[(count - 1) * (size_t)i / 60];
    }
    for (; above > 0 && levels < LEVEL_MAX - 1; above -= above / 4 + 1) {
        out[levels++] = sorted[count - 1 - above];
    }
    out[levels++] = sorted[count - 1];
    qsort(out, (size_t)levels, sizeof(int64_t), compare_sizes);
    free(sorted);
    return levels;
}

/* Range: what is above the level goes back when it is not needed. */
static point fixed_range(const int64_t *sizes, size_t count, int64_t level)
{
    int64_t capacity = 0, peak = 0;
    double committed = 0, held = 0, used = sum_of(sizes, count);
    point p;
    size_t i;
    for (i = 0; i < count; ++i) {
        int64_t kept = capacity < level ? capacity : level;
        committed += sizes[i] > capacity ? (double)(sizes[i] - capacity) : 0.0;
        capacity = sizes[i] > kept ? sizes[i] : kept;
        peak = capacity > peak ? capacity : peak;
        held += (double)capacity;
    }
    p.rate = (committed - (double)peak) / used;
    p.waste = (held - used) / used;
    return p;
}

/* Block: grows to the level, or what is needed; goes back there after so many uses in a row that need less. */
static point fixed_heap(const int64_t *sizes, size_t count, int64_t level, int uses)
{
    int64_t capacity = 0;
    double held = 0, used = sum_of(sizes, count), changes = -1;
    point p;
    size_t i;
    int low = 0;
    for (i = 0; i < count; ++i) {
        int64_t target = sizes[i] > level ? sizes[i] : level;
        low = sizes[i] <= capacity && target < capacity ? low + 1 : 0;
        if (sizes[i] > capacity || low >= uses) {
            capacity = target;
            changes += 1;
            low = 0;
        }
        held += (double)capacity;
    }
    p.rate = 1000.0 * changes / (double)count;
    p.waste = (held - used) / used;
    return p;
}

/* Bytes that are not needed in so many uses, before one that needs them again. */
typedef struct gap {
    int64_t bytes, uses;
} gap;

static int compare_gaps(const void *a, const void *b)
{
    const gap *x = a, *y = b;
    return (x->uses > y->uses) - (x->uses < y->uses);
}

typedef struct need {
    int64_t size;
    size_t use;
} need;

/* All gaps of the stream. below[0..n-1] are the sizes that were needed last at falling heights, with the use that did:
   a new one ends the gaps of all bytes up to its own, and stands for them from then on. Returns how many there are. */
static size_t list_gaps(const int64_t *sizes, size_t count, gap *out)
{
    need *below = new_array(count, sizeof(need));
    size_t gaps = 0, n = 0, i;
    for (i = 0; i < count; ++i) {
        int64_t from = 0;
        while (n > 0 && from < sizes[i]) {
            int64_t to = below[n - 1].size < sizes[i] ? below[n - 1].size : sizes[i];
            out[gaps].bytes = to - from;
            out[gaps].uses = (int64_t)(i - below[n - 1].use - 1);
            gaps += out[gaps].uses != 0;
            from = to;
            n -= below[n - 1].size <= sizes[i];
        }
        below[n].size = sizes[i];
        below[n++].use = i;
    }
    free(below);
    return gaps;
}

/* The least waste at this rate, of all that is possible. Giving back bytes over a gap costs them again, and saves
   them in each of its uses: the longest are given back, and of the last that the rate allows a part. */
static double least_possible_waste(const int64_t *sizes, size_t count, double rate)
{
    gap *gaps = new_array(2 * count, sizeof(gap));
    size_t n = list_gaps(sizes, count, gaps), i;
    double used = sum_of(sizes, count), left = rate * used, waste = 0;
    qsort(gaps, n, sizeof(gap), compare_gaps);
    for (i = n; i-- > 0;) {
        double bytes = (double)gaps[i].bytes, given = bytes < left ? bytes : left;
        left -= given;
        waste += (bytes - given) * (double)gaps[i].uses;
    }
    free(gaps);
    return waste / used;
}

/* The least waste at this rate, by one of the policies or two of them in turn. */
static double least_waste(const point *points, int count, double rate)
{
    double least = 1e300;
    int i, k;
    for (i = 0; i < count; ++i) {
        for (k = 0; points[i].rate <= rate && k < count; ++k) {
            double part = points[k].rate > rate ? (rate - points[i].rate) / (points[k].rate - points[i].rate) : 0.0;
            double waste = points[i].waste + part * (points[k].waste - points[i].waste);
            least = waste < least ? waste : least;
        }
    }
    return least;
}

/*---------------------------------------------------------------------------------------------------------
  Runs
  -------------------------------------------------------------------------------------------------------*/

/* What a run adds up. */
typedef struct figures {
    double used, capacity;     /* over uses */
    double peak_used, peak_capacity;
    double copied, copied_base;
    double recommitted;
    uint64_t uses, changes, change_base, exceeded;
} figures;

typedef struct runner {
    ledger memory;
    ta_dynamic *dynamic;
    ta_shape_bounds bounds;
    size_t max_bytes;
    const policy *policy;
} runner;

static void open_runner(runner *r, const policy *p, int64_t unit_bytes, int64_t expected, int64_t max)
{
    ta_dynamic_desc desc;
    int64_t low[2], middle[2], high[2];
    memset(&desc, 0, sizeof desc);
    r->policy = p;
    desc.backend = ledger_backend(&r->memory);
    desc.strategy = p->strategy;
    desc.disable_ranges = !p->in_range;
    desc.range_bytes_min = RANGE_BYTES_MIN;
    desc.single_threaded = 1;
    desc.strict = 1;
    check(ta_dynamic_create(&desc, &r->dynamic), p->name);
    low[0] = 1;
    middle[0] = expected < 1 ? 1 : expected > max ? max : expected;
    high[0] = max;
    low[1] = middle[1] = high[1] = unit_bytes;
    check(ta_shape_bounds_init(&r->bounds, TA_U8, 2, low, middle, high), p->name);
    r->max_bytes = (size_t)max * (size_t)unit_bytes;
}

static void close_runner(runner *r, figures *f)
{
    ta_dynamic_stats stats;
    check(ta_dynamic_get_stats(r->dynamic, &stats), r->policy->name);
    if (stats.handle_count != 0 || stats.capacity_bytes != 0 || stats.failure_count != 0) {
        fail("the library's figures disagree", r->policy->name);
    }
    f->copied = (double)stats.moved_bytes;
    f->recommitted = (double)stats.committed_bytes;
    check(ta_dynamic_destroy(r->dynamic), r->policy->name);
}

static ta_handle make_tensor(runner *r, int64_t units, uint32_t flags)
{
    ta_dynamic_request request;
    ta_handle handle;
    int64_t dims[2];
    memset(&request, 0, sizeof request);
    dims[0] = units;
    dims[1] = r->bounds.max[1];
    request.bounds = &r->bounds;
    request.dims = dims;
    request.site = 1;
    request.flags = flags;
    check(ta_dynamic_alloc_request(r->dynamic, &request, &handle), r->policy->name);
    return handle;
}

static void resize_tensor(runner *r, ta_handle handle, int64_t units)
{
    int64_t dims[2];
    dims[0] = units;
    dims[1] = r->bounds.max[1];
    check(ta_dynamic_resize(r->dynamic, handle, dims, 2), r->policy->name);
}

static size_t capacity_of(runner *r, ta_handle handle, size_t used)
{
    ta_handle_info info;
    check(ta_dynamic_get_handle(r->dynamic, handle, &info), r->policy->name);
    if (info.effective_bytes != used || info.capacity_bytes < used || info.in_range != r->policy->in_range) {
        fail("the tensor is not what it should be", r->policy->name);
    }
    return info.capacity_bytes;
}

/* Uses from..to-1 of a run, looked at apart. */
typedef struct window {
    size_t from, to;
    double used, capacity;
} window;

/* One tensor, one size after the other. */
static figures run_sizes(const policy *p, const int64_t *sizes, size_t count, int64_t unit_bytes, window *windows,
                         size_t window_count)
{
    figures f;
    runner r;
    ta_handle handle;
    int64_t max = 0;
    double sum = 0, first_sum = 0;
    size_t i, k, before = 0, first_count = count < EXPECTED_COUNT ? count : EXPECTED_COUNT;
    memset(&f, 0, sizeof f);
    memset(&handle, 0, sizeof handle);
    for (i = 0; i < count; ++i) {
        max = sizes[i] > max ? sizes[i] : max;
        sum += (double)sizes[i];
        first_sum += i < first_count ? (double)sizes[i] : 0.0;
    }
    open_runner(&r, p, unit_bytes,
                (int64_t)(p->hindsight ? sum / (double)count : first_sum / (double)first_count), max);
    for (i = 0; i < count; ++i) {
        size_t used = (size_t)sizes[i] * (size_t)unit_bytes, capacity;
        if (i == 0) {
            handle = make_tensor(&r, sizes[i], 0);
        } else {
            resize_tensor(&r, handle, sizes[i]);
        }
        capacity = capacity_of(&r, handle, used);
        f.changes += i > 0 && (p->in_range ? capacity < before : capacity != before);
        f.exceeded += capacity > r.max_bytes;
        f.used += (double)used;
        f.capacity += (double)capacity;
        f.peak_used = (double)used > f.peak_used ? (double)used : f.peak_used;
        f.peak_capacity = (double)capacity > f.peak_capacity ? (double)capacity : f.peak_capacity;
        before = capacity;
        for (k = 0; k < window_count; ++k) {
            int within = i >= windows[k].from && i < windows[k].to;
            windows[k].used += within ? (double)used : 0.0;
            windows[k].capacity += within ? (double)capacity : 0.0;
        }
    }
    f.uses = f.change_base = count;
    f.copied_base = f.used;
    check(ta_dynamic_free(r.dynamic, handle), p->name);
    close_runner(&r, &f);
    f.recommitted = f.recommitted > f.peak_capacity ? f.recommitted - f.peak_capacity : 0.0;
    return f;
}

/* A live cache, in a heap of those whose turn is next. */
typedef struct cache {
    double start_s, next_s;
    int64_t context, generated, done;
    size_t capacity;
    ta_handle handle;
} cache;

static void push_cache(cache *heap, size_t *count, const cache *c)
{
    size_t i = (*count)++;
    while (i > 0 && heap[(i - 1) / 2].next_s > c->next_s) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = *c;
}

static cache pop_cache(cache *heap, size_t *count)
{
    cache top = heap[0], last = heap[--*count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < *count) {
        child += child + 1 < *count && heap[child + 1].next_s < heap[child].next_s;
        if (heap[child].next_s >= last.next_s) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* W2: what all live caches use and hold. */
typedef struct live_bytes {
    double used, capacity;
} live_bytes;

static void note_peak(figures *f, const live_bytes *live)
{
    f->peak_used = live->used > f->peak_used ? live->used : f->peak_used;
    f->peak_capacity = live->capacity > f->peak_capacity ? live->capacity : f->peak_capacity;
}

/* One token more. Returns 0 when that was the last, and the cache is freed. */
static int step_cache(runner *r, cache *c, figures *f, live_bytes *live)
{
    size_t used, capacity;
    ++c->done;
    used = (size_t)(c->context + c->done) * TOKEN_BYTES;
    resize_tensor(r, c->handle, c->context + c->done);
    capacity = capacity_of(r, c->handle, used);
    f->changes += r->policy->in_range ? capacity < c->capacity : capacity != c->capacity;
    f->exceeded += capacity > r->max_bytes;
    f->used += (double)used;
    f->capacity += (double)capacity;
    ++f->uses;
    live->used += TOKEN_BYTES;
    live->capacity += (double)capacity - (double)c->capacity;
    note_peak(f, live);
    c->capacity = capacity;
    if (c->done < c->generated) {
        c->next_s = c->start_s + (double)(c->done + 1) * STEP_S;
        return 1;
    }
    check(ta_dynamic_free(r->dynamic, c->handle), r->policy->name);
    f->copied_base += (double)used;
    live->used -= (double)used;
    live->capacity -= (double)capacity;
    return 0;
}

static figures run_caches(const policy *p, const stream *s)
{
    figures f;
    runner r;
    live_bytes live = {0, 0};
    int64_t max = 0;
    double sum = 0, first_sum = 0;
    size_t i = 0, count = 0, first_count = s->count < EXPECTED_COUNT ? s->count : EXPECTED_COUNT;
    cache *heap = new_array(s->count, sizeof(cache));
    memset(&f, 0, sizeof f);
    for (i = 0; i < s->count; ++i) {
        int64_t tokens = s->requests[i].context + s->requests[i].generated;
        max = tokens > max ? tokens : max;
        sum += (double)tokens;
        first_sum += i < first_count ? (double)tokens : 0.0;
    }
    open_runner(&r, p, TOKEN_BYTES,
                (int64_t)(p->hindsight ? sum / (double)s->count : first_sum / (double)first_count), max);
    r.bounds.min[0] = 0;
    for (i = 0; i < s->count || count > 0;) {
        cache c;
        memset(&c, 0, sizeof c);
        if (count > 0 && (i == s->count || heap[0].next_s <= s->requests[i].time_s)) {
            c = pop_cache(heap, &count);
            if (step_cache(&r, &c, &f, &live)) {
                push_cache(heap, &count, &c);
            }
            continue;
        }
        c.start_s = s->requests[i].time_s;
        c.next_s = c.start_s + STEP_S;
        c.context = s->requests[i].context;
        c.generated = s->requests[i].generated;
        c.handle = make_tensor(&r, c.context, p->alone ? 0 : (uint32_t)TA_DYNAMIC_GROWING);
        c.capacity = capacity_of(&r, c.handle, (size_t)c.context * TOKEN_BYTES);
        f.exceeded += c.capacity > r.max_bytes;
        live.used += (double)c.context * TOKEN_BYTES;
        live.capacity += (double)c.capacity;
        note_peak(&f, &live);
        push_cache(heap, &count, &c);
        ++i;
    }
    f.change_base = s->count;
    close_runner(&r, &f);
    f.recommitted = f.recommitted > f.peak_capacity ? f.recommitted - f.peak_capacity : 0.0;
    free(heap);
    return f;
}

/*---------------------------------------------------------------------------------------------------------
  What a decision costs
  -------------------------------------------------------------------------------------------------------*/

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct predictor_copy {
    uint64_t state[TA_STRATEGY_STATE_BYTES / 8];
} predictor_copy;

/* What is timed: in is asked of COPIES equal states, and the time is divided. */
typedef struct timing {
    ta_strategy strategy;
    ta_strategy_input in;
    predictor_copy copies[COPIES];
    double *observe_ns, *decide_ns;
    size_t observed, decided;
} timing;

static void time_decision(timing *t)
{
    const ta_strategy_vtable *v = t->strategy.vtable;
    size_t capacity = t->in.capacity_bytes;
    uint64_t start = now_ns();
    int k;
    for (k = 0; k < COPIES; ++k) {
        void *state = t->copies[k].state;
        if (t->in.size_bytes > t->in.capacity_bytes || v->should_resize(t->strategy.config, state, &t->in)) {
            capacity = v->required_size(t->strategy.config, state, &t->in);
        }
    }
    t->decide_ns[t->decided++] = (double)(now_ns() - start) / COPIES;
    t->in.capacity_bytes = capacity;
}

static void time_observation(timing *t)
{
    uint64_t start = now_ns();
    int k;
    for (k = 0; k < COPIES; ++k) {
        t->strategy.vtable->observe(t->strategy.config, t->copies[k].state, &t->in);
    }
    t->observe_ns[t->observed++] = (double)(now_ns() - start) / COPIES;
}

/* Growing: each request in turn is a cache; decisions are those that give it capacity, first and later. Caches of more
   than 64 capacities are left there. */
static void time_cache(timing *t, const arrival *r)
{
    size_t end = (size_t)(r->context + r->generated) * TOKEN_BYTES;
    int decisions;
    t->in.capacity_bytes = 0;
    t->in.use_count = 0;
    t->in.start_bytes = t->in.size_bytes = (size_t)r->context * TOKEN_BYTES;
    for (decisions = 0; decisions < 64 && t->in.capacity_bytes < end; ++decisions) {
        t->in.size_bytes = t->in.capacity_bytes == 0 ? t->in.size_bytes : t->in.capacity_bytes + TOKEN_BYTES;
        time_decision(t);
    }
    t->in.size_bytes = end;
    t->in.use_count = (uint64_t)r->generated + 1;
    time_observation(t);
}

enum { TIME_BLOCKS, TIME_RANGES, TIME_GROWING, TIME_COUNT };

/* Fills the medians in ns. */
static void time_strategy(const stream *s, int what, double out[2])
{
    static timing t;
    size_t count = s->count < 20000 ? s->count : 20000, i;
    memset(&t, 0, sizeof t);
    t.strategy = ta_strategy_predictive(NULL);
    t.observe_ns = new_array(count, sizeof(double));
    t.decide_ns = new_array(count * 64, sizeof(double));
    t.in.in_range = what == TIME_RANGES;
    t.in.growing = what == TIME_GROWING;
    t.in.min_bytes = TOKEN_BYTES;
    t.in.max_bytes = TA_UNLIMITED;
    t.in.expected_bytes = (size_t)(s->requests[0].context * TOKEN_BYTES);
    for (i = 0; i < count; ++i) {
        if (what == TIME_GROWING) {
            time_cache(&t, &s->requests[i]);
        } else if (s->requests[i].context > 0) {
            t.in.size_bytes = (size_t)(s->requests[i].context * TOKEN_BYTES);
            time_decision(&t);
            time_observation(&t);
        }
    }
    qsort(t.observe_ns, t.observed, sizeof(double), compare_doubles);
    qsort(t.decide_ns, t.decided, sizeof(double), compare_doubles);
    out[0] = t.observe_ns[t.observed / 2];
    out[1] = t.decide_ns[t.decided / 2];
    free(t.observe_ns);
    free(t.decide_ns);
}

/*---------------------------------------------------------------------------------------------------------
  Output and command line
  -------------------------------------------------------------------------------------------------------*/

typedef struct options {
    int csv, smoke;
    size_t held_out_count; /* 0: no */
} options;

static void print_header(const options *o, int workload, const stream *s)
{
    static const char *const titles[] = {"W1: one tensor, each request's context in turn",
                                         "W2: caches that grow by tokens", "W3: one tensor, batches of 50 ms",
                                         "W4: one tensor, each line in turn"};
    if (!o->csv) {
        printf("\n%s - %s\n%-22s %10s %12s %12s %12s %12s %9s\n", titles[workload - 1], s->name, "policy", "waste %",
               "changes/1000", "copied/used", "recommitted", "peak", "over max");
    }
}

static void print_row(const options *o, int workload, const stream *s, const policy *p, const figures *f)
{
    double waste = 100.0 * (f->capacity - f->used) / f->used;
    double changes = 1000.0 * (double)f->changes / (double)f->change_base;
    double copied = f->copied / f->copied_base;
    double recommitted = p->in_range ? f->recommitted / f->used : 0.0;
    double peak = f->peak_capacity / f->peak_used;
    if (o->csv) {
        printf("W%d,%s,%s,%.2f,%.2f,%.4f,%.4f,%.4f,%llu\n", workload, s->name, p->name, waste, changes, copied,
               recommitted, peak, (unsigned long long)f->exceeded);
    } else {
        printf("%-22s %10.1f %12.1f %12.3f %12.3f %12.3f %9llu\n", p->name, waste, changes, copied, recommitted, peak,
               (unsigned long long)f->exceeded);
    }
    fflush(stdout);
    if (f->exceeded != 0 || (p->in_range && f->copied > 0.0)) {
        fail(f->exceeded != 0 ? "capacity above the declared maximum" : "a range has moved", p->name);
    }
}

static void print_costs(const options *o, const stream *s)
{
    static const char *const names[TIME_COUNT] = {"blocks", "ranges", "growing blocks"};
    FILE *out = o->csv ? stderr : stdout; /* the columns are for other things */
    double ns[2];
    int what;
    for (what = 0; what < (s->has_columns ? TIME_COUNT : TIME_GROWING); ++what) {
        time_strategy(s, what, ns);
        fprintf(out, "%s, %s: observing a size takes %.0f ns, deciding %.0f ns (medians); %zu bytes of state\n",
                s->name, names[what], ns[0], ns[1], ta_strategy_predictive(NULL).vtable->state_bytes);
    }
}

static figures frontier_figures(double rate, double waste)
{
    figures f;
    memset(&f, 0, sizeof f);
    f.used = f.copied_base = f.peak_used = f.peak_capacity = 1;
    f.capacity = 1 + waste;
    f.change_base = 1000000;
    f.changes = (uint64_t)(rate * 1000.0 + 0.5);
    f.recommitted = rate;
    return f;
}

static void print_frontier(const options *o, const stream *s, const char *name, int in_range, const point *points,
                           int count, double rate)
{
    policy p;
    figures f = frontier_figures(rate, least_waste(points, count, rate));
    memset(&p, 0, sizeof p);
    p.name = name;
    p.in_range = in_range;
    f.changes = in_range ? 0 : f.changes;
    print_row(o, 1, s, &p, &f);
}

/* W1 on one stream, and what could be had there. */
static void run_held_out(const options *o, const char *name, const int64_t *sizes, size_t count,
                         const policy *policies)
{
    static point points[POINT_MAX];
    int64_t levels[LEVEL_MAX];
    int level_count = list_levels(sizes, count, levels), point_count = 0, i, uses;
    double rates[2] = {0, 0};
    point least;
    stream s;
    memset(&s, 0, sizeof s);
    (void)snprintf(s.name, sizeof s.name, "%s", name);
    s.count = count;
    print_header(o, 1, &s);
    for (i = 0; i <= POLICY_RANGE; ++i) {
        figures f = run_sizes(&policies[i], sizes, count, TOKEN_BYTES, NULL, 0);
        rates[i == POLICY_RANGE] = i == POLICY_RANGE ? f.recommitted / f.used
                                                     : 1000.0 * (double)f.changes / (double)f.change_base;
        print_row(o, 1, &s, &policies[i], &f);
    }
    for (i = 0; i < level_count; ++i) {
        for (uses = 1; uses <= 512; uses *= uses < 16 ? 2 : 4) {
            points[point_count++] = fixed_heap(sizes, count, levels[i], uses);
        }
    }
    print_frontier(o, &s, "fixed_heap", 0, points, point_count, LIMIT_CHANGES);
    print_frontier(o, &s, "fixed_heap_same", 0, points, point_count, rates[0]);
    for (i = point_count = 0; i < level_count; ++i) {
        points[point_count++] = fixed_range(sizes, count, levels[i]);
    }
    points[point_count++] = fixed_range(sizes, count, 0);
    print_frontier(o, &s, "fixed_range", 1, points, point_count, LIMIT_RECOMMIT);
    print_frontier(o, &s, "fixed_range_same", 1, points, point_count, rates[1]);
    least.rate = LIMIT_RECOMMIT;
    least.waste = least_possible_waste(sizes, count, LIMIT_RECOMMIT);
    print_frontier(o, &s, "clairvoyant_range", 1, &least, 1, LIMIT_RECOMMIT);
}

static void run_all_held_out(const options *o, const policy *policies)
{
    int kind;
    for (kind = HELD_LOGNORMAL_NARROW; kind < HELD_COUNT; kind = kind + 1) {
        int64_t *sizes;
        size_t count = make_held_out(kind, o->held_out_count, &sizes);
        run_held_out(o, held_out_names[kind], sizes, count, policies);
        free(sizes);
    }
}

static void run_shuffled(const options *o, const stream *s, const policy *policies)
{
    int64_t *sizes = new_array(s->count, sizeof(int64_t));
    char name[sizeof s->name + 16];
    size_t count = sizes_of(s, 1, sizes);
    (void)snprintf(name, sizeof name, "shuffled_%s", s->name);
    shuffle_sizes(sizes, count);
    if (count != 0) {
        run_held_out(o, name, sizes, count, policies);
    }
    free(sizes);
}

static double waste_of(const window *w)
{
    return 100.0 * (w->capacity - w->used) / w->used;
}

static void print_switch_row(const policy *p, const int64_t *sizes, size_t at, size_t count)
{
    window w[4] = {{0, at, 0, 0}, {at, at + 100, 0, 0}, {at + 100, at + 400, 0, 0}, {at + 400, at + 800, 0, 0}};
    window alone[2] = {{400, 800, 0, 0}, {0, count - at, 0, 0}};
    size_t i;
    (void)run_sizes(p, sizes, count, TOKEN_BYTES, w, 4);
    (void)run_sizes(p, sizes + at, count - at, TOKEN_BYTES, alone, 2);
    printf("%-22s", p->name);
    for (i = 0; i < 4; ++i) {
        printf(" %9.1f", waste_of(&w[i]));
    }
    for (i = 0; i < 2; ++i) {
        if (alone[i].capacity > alone[i].used) {
            printf(" %11.1f %9.2f", waste_of(&alone[i]), waste_of(&w[3]) / waste_of(&alone[i]));
        } else {
            printf(" %11.1f %9s", 0.0, "-");
        }
    }
    putchar('\n');
}

/* W1 of before, then of after, on one tensor. */
static void print_switch(const stream *before, const stream *after, const policy *policies)
{
    int64_t *sizes = new_array(before->count + after->count, sizeof(int64_t));
    size_t at = sizes_of(before, 1, sizes), count = at + sizes_of(after, 1, sizes + at);
    int i;
    if (at > 0 && count - at >= 800) {
        printf("\nW1: after %zu uses of %s come those of %s. Waste in %%, by uses after the change;\n"
               "  that of the second stream alone, and how near 400-799 comes to it: back to normal\n"
               "%-22s %9s %9s %9s %9s %11s %9s %11s %9s\n", at, before->name, after->name, "policy", "before", "0-99",
               "100-399", "400-799", "400-799", "normal", "whole", "normal");
        for (i = 0; i < POLICY_COUNT; ++i) {
            if (!policies[i].only_w2) {
                print_switch_row(&policies[i], sizes, at, count);
            }
        }
    }
    free(sizes);
}

static void run_stream(const options *o, const stream *s, const policy *policies)
{
    int64_t *sizes = new_array(s->count, sizeof(int64_t));
    int workload, i;
    size_t count;
    for (workload = s->has_columns ? 1 : 4; workload <= (s->has_columns ? 3 : 4); ++workload) {
        count = sizes_of(s, workload, sizes);
        if (count == 0 && workload != 2) {
            continue;
        }
        print_header(o, workload, s);
        for (i = 0; i < POLICY_COUNT; ++i) {
            const policy *p = &policies[i];
            if (workload == 2 || !p->only_w2) {
                figures f = workload == 2 ? run_caches(p, s)
                                          : run_sizes(p, sizes, count, workload == 4 ? WORD_BYTES : TOKEN_BYTES,
                                                      NULL, 0);
                print_row(o, workload, s, p, &f);
            }
        }
    }
    if (sizes_of(s, 1, sizes) >= EXPECTED_COUNT) {
        print_costs(o, s);
    }
    free(sizes);
}

/* The next stream has been read; the one before it is let go. */
static void run_next(const options *o, stream *last, const stream *next, const policy *policies)
{
    run_stream(o, next, policies);
    if (!o->csv && last->count != 0) {
        print_switch(last, next, policies);
        print_switch(next, last, policies);
    }
    free(last->requests);
    *last = *next;
}

static int read_count(const char *text, size_t *out)
{
    int64_t count;
    int is_good = read_number(&text, 1000, 1000000, &count) && at_end(text);
    *out = (size_t)count;
    return is_good;
}

int main(int argc, char **argv)
{
    options o = {0, 0, 0};
    policy policies[POLICY_COUNT];
    stream last, next;
    char *files[64];
    int i, file_count = 0, refused = 0;
    for (i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--csv") == 0) {
            o.csv = 1;
        } else if (strcmp(argv[i], "--smoke") == 0) {
            o.smoke = 1;
        } else if (strcmp(argv[i], "--held-out") == 0 && i + 1 < argc && read_count(argv[i + 1], &o.held_out_count)) {
            ++i;
        } else if (argv[i][0] == '-' || file_count == 64) {
            fputs("usage: predict [--csv] [--smoke] [--held-out COUNT] [file ...]     (64 files at most)\n", stderr);
            return 2;
        } else {
            files[file_count++] = argv[i];
        }
    }
    list_policies(policies);
    if (o.csv) {
        puts("workload,stream,policy,waste_percent,resizes_per_1000,copied_per_used,recommit_per_used,"
             "peak_capacity_over_peak_used,declared_max_exceeded");
    } else {
        puts("A tensor's size changes from use to use. A policy says how much capacity it has: little means many\n"
             "changes (and copies, where growing means moving), much means memory held idle. Best is little of all.");
    }
    memset(&last, 0, sizeof last);
    for (i = 0; i < file_count; ++i) {
        if (!read_stream(&next, files[i])) {
            refused = 1;
        } else if (o.held_out_count != 0) {
            run_shuffled(&o, &next, policies);
            free(next.requests);
        } else {
            run_next(&o, &last, &next, policies);
        }
    }
    for (i = 0; file_count == 0 && o.held_out_count == 0 && i < 3; ++i) {
        make_stream(&next, i, o.smoke ? 1000 : 6000);
        run_next(&o, &last, &next, policies);
    }
    if (o.held_out_count != 0) {
        run_all_held_out(&o, policies);
    }
    free(last.requests);
    return refused;
}
