/* predict.c - how much capacity a tensor gets when its size changes from use to use: policies compared on real sizes.

   build   cc -O2 -DNDEBUG -I. bench/predict.c -o predict -pthread
   run     ./predict [--csv] [--smoke] [file ...]         without files: three built-in streams

   A file is one stream, named by the file: one size per line (words), or lines DATE TIME,CONTEXT,GENERATED as in the
   Azure LLM inference traces (tokens). Sizes of 0 are skipped in W1, W3 and W4.
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
       predictive_growth_l1, _l16, _l64   W2: the default strategy told TA_DYNAMIC_GROWING, on blocks, at three prices of
                          a change (l16 is the default)
   Columns
       waste_percent               sum of capacity - used over sum of used, over uses (W2: over tokens)
       resizes_per_1000            changes of capacity in 1000 uses (W2: requests); of ranges only those downwards
       copied_per_used             bytes copied over bytes used (W2: over bytes at the end of each request)
       recommit_per_used           ranges: bytes committed over bytes used, less the first time that each was needed
       peak_capacity_over_peak_used
       declared_max_exceeded       uses with more capacity than the declared maximum
   The strategies run in the library, through ta_dynamic; the backend under it only hands out numbers as addresses, so
   that no policy needs memory. The last lines say what a decision of the default strategy costs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
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
    RANGE_BYTES_MIN = 65536,
    GRANULARITY_BYTES = 4096,
    COPIES = 64           /* states that one decision is timed on */
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

/* The next power of two for a cache that grows; it does not shrink. */
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

typedef struct request {
    double time_s;
    size_t index; /* for a stable order */
    int64_t context, generated;
} request;

typedef struct stream {
    char name[128];
    int has_columns;
    size_t count;
    request *requests;
} stream;

static request *add_request(stream *s, size_t *room)
{
    if (s->count == *room) {
        *room = *room < 1024 ? 1024 : *room * 2;
        s->requests = realloc(s->requests, *room * sizeof(request));
        if (s->requests == NULL) {
            fail("no memory", s->name);
        }
    }
    memset(&s->requests[s->count], 0, sizeof(request));
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
    const request *x = a, *y = b;
    return x->time_s != y->time_s ? (x->time_s > y->time_s) - (x->time_s < y->time_s)
                                  : (x->index > y->index) - (x->index < y->index);
}

static void name_stream(stream *s, const char *path)
{
    const char *base = strrchr(path, '/');
    char *dot;
    (void)snprintf(s->name, sizeof s->name, "%s", base != NULL ? base + 1 : path);
    dot = strrchr(s->name, '.');
    if (dot != NULL) {
        *dot = 0;
    }
    for (dot = s->name; *dot != 0; ++dot) {
        *dot = *dot == ',' ? '_' : *dot;
    }
}

static void read_stream(stream *s, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[512];
    size_t room = 0, number = 0;
    memset(s, 0, sizeof *s);
    name_stream(s, path);
    if (file == NULL) {
        fail("cannot be opened", path);
    }
    while (fgets(line, sizeof line, file) != NULL) {
        int year, month, day, hour, minute;
        double second;
        long long context, generated;
        char rest;
        ++number;
        if (sscanf(line, "%d-%d-%d%*[ T]%d:%d:%lf%*[^,],%lld,%lld", &year, &month, &day, &hour, &minute, &second,
                   &context, &generated) == 8 ||
            sscanf(line, "%d-%d-%d%*[ T]%d:%d:%lf,%lld,%lld", &year, &month, &day, &hour, &minute, &second, &context,
                   &generated) == 8) {
            request *r = add_request(s, &room);
            r->time_s = (double)days_of(year, month, day) * 86400.0 + hour * 3600.0 + minute * 60.0 + second;
            r->context = context < 0 ? 0 : context;
            r->generated = generated < 1 ? 1 : generated;
            s->has_columns = 1;
        } else if (sscanf(line, "%lld %c", &context, &rest) == 1) {
            add_request(s, &room)->context = context < 0 ? 0 : context;
        } else if (number > 1 && line[strspn(line, " \t\r\n")] != 0) { /* line 1 may be a header */
            fprintf(stderr, "predict: %s: line %zu is no size and has no columns\n", path, number);
            exit(1);
        }
    }
    fclose(file);
    if (s->count == 0) {
        fail("no sizes", path);
    }
    qsort(s->requests, s->count, sizeof(request), compare_requests);
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
        request *r = add_request(s, &room);
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
        const request *first = &s->requests[i];
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

/* One tensor, one size after the other. */
static figures run_sizes(const policy *p, const int64_t *sizes, size_t count, int64_t unit_bytes)
{
    figures f;
    runner r;
    ta_handle handle;
    int64_t max = 0;
    double sum = 0, first_sum = 0;
    size_t i, before = 0, first_count = count < EXPECTED_COUNT ? count : EXPECTED_COUNT;
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

/* Each use is made by COPIES equal states, and their time is divided. Fills the medians in ns. */
static void time_decisions(const int64_t *sizes, size_t count, int64_t unit_bytes, int in_range, double out[2])
{
    static predictor_copy copies[COPIES];
    ta_strategy s = ta_strategy_predictive(NULL);
    ta_strategy_input in;
    double *observe_ns, *decide_ns;
    size_t capacity = 0, i;
    int k;
    count = count < 20000 ? count : 20000;
    observe_ns = new_array(count, sizeof(double));
    decide_ns = new_array(count, sizeof(double));
    memset(copies, 0, sizeof copies);
    memset(&in, 0, sizeof in);
    in.in_range = in_range;
    in.min_bytes = (size_t)unit_bytes;
    in.max_bytes = TA_UNLIMITED;
    in.expected_bytes = (size_t)(sizes[0] * unit_bytes);
    for (i = 0; i < count; ++i) {
        uint64_t start = now_ns();
        in.size_bytes = (size_t)(sizes[i] * unit_bytes);
        in.capacity_bytes = capacity;
        for (k = 0; k < COPIES; ++k) {
            if (in.size_bytes > in.capacity_bytes || s.vtable->should_resize(s.config, copies[k].state, &in)) {
                capacity = s.vtable->required_size(s.config, copies[k].state, &in);
            }
        }
        decide_ns[i] = (double)(now_ns() - start) / COPIES;
        in.capacity_bytes = capacity;
        start = now_ns();
        for (k = 0; k < COPIES; ++k) {
            s.vtable->observe(s.config, copies[k].state, &in);
        }
        observe_ns[i] = (double)(now_ns() - start) / COPIES;
    }
    qsort(observe_ns, count, sizeof(double), compare_doubles);
    qsort(decide_ns, count, sizeof(double), compare_doubles);
    out[0] = observe_ns[count / 2];
    out[1] = decide_ns[count / 2];
    free(observe_ns);
    free(decide_ns);
}

/*---------------------------------------------------------------------------------------------------------
  Output and command line
  -------------------------------------------------------------------------------------------------------*/

typedef struct options {
    int csv, smoke;
} options;

static void print_header(const options *o, int workload, const stream *s, const policy *p)
{
    static const char *const titles[] = {"W1: one tensor, each request's context in turn", "W2: caches that grow by tokens",
                                         "W3: one tensor, batches of 50 ms", "W4: one tensor, each line in turn"};
    if (!o->csv && p == NULL) {
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

static void print_costs(const options *o, const stream *s, const int64_t *sizes, size_t count)
{
    static const char *const uses[] = {"blocks", "ranges"};
    double ns[2];
    int in_range;
    for (in_range = 0; !o->csv && in_range < 2; ++in_range) {
        time_decisions(sizes, count, TOKEN_BYTES, in_range, ns);
        printf("%s, %s: observing a size takes %.0f ns, deciding %.0f ns (medians); %zu bytes of state\n", s->name,
               uses[in_range], ns[0], ns[1], ta_strategy_predictive(NULL).vtable->state_bytes);
    }
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
        print_header(o, workload, s, NULL);
        for (i = 0; i < POLICY_COUNT; ++i) {
            const policy *p = &policies[i];
            if (workload == 2 || !p->only_w2) {
                figures f = workload == 2 ? run_caches(p, s)
                                          : run_sizes(p, sizes, count, workload == 4 ? WORD_BYTES : TOKEN_BYTES);
                print_row(o, workload, s, p, &f);
            }
        }
    }
    count = sizes_of(s, 1, sizes);
    if (count > 0) {
        print_costs(o, s, sizes, count);
    }
    free(sizes);
}

int main(int argc, char **argv)
{
    options o = {0, 0};
    policy policies[POLICY_COUNT];
    stream s;
    int i, files = 0;
    for (i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--csv") == 0) {
            o.csv = 1;
        } else if (strcmp(argv[i], "--smoke") == 0) {
            o.smoke = 1;
        } else if (argv[i][0] == '-') {
            fputs("usage: predict [--csv] [--smoke] [file ...]\n", stderr);
            return 2;
        } else {
            ++files;
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
    for (i = 1; i < argc; ++i) {
        if (argv[i][0] != '-') {
            read_stream(&s, argv[i]);
            run_stream(&o, &s, policies);
            free(s.requests);
        }
    }
    for (i = 0; files == 0 && i < 3; ++i) {
        make_stream(&s, i, o.smoke ? 600 : 6000);
        run_stream(&o, &s, policies);
        free(s.requests);
    }
    return 0;
}
