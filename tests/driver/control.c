/* control.c - what every call passes through, handles, configuration, and most of the side channel. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
    #define WINDOW_BITS 38 /* more does not fit beside its shadow memory */
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define WINDOW_BITS 38
    #endif
#endif
#ifndef WINDOW_BITS
    #define WINDOW_BITS 40
#endif

struct driver driver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct symbol_state states[SYMBOLS + 1]; /* the last one stands for any symbol */
static const char *const symbol_names[SYMBOLS + 1] = {
#define SYMBOL(name, version, parameters) #name,
    CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
    "*"
};

/* ---- helpers */
void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "software driver: the machine has no memory left\n");
        abort();
    }
    return memory;
}

void *array_grow(void *array, uint32_t count, uint32_t *capacity, size_t item_bytes)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity == 0 ? 8 : *capacity * 2;
    return need(realloc(array, *capacity * item_bytes));
}

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int device_valid(int device)
{
    return device >= 0 && device < driver.config.devices;
}

/* ---- handles */
static struct object *objects_all[OBJECT_KINDS], *objects_free[OBJECT_KINDS];
static uint64_t objects_alive[OBJECT_KINDS];
static const void **known; /* a hash set of all objects ever made */
static size_t known_size, known_count;
static const size_t object_bytes[OBJECT_KINDS] = {
    [OBJECT_CONTEXT] = sizeof(struct context), [OBJECT_STREAM] = sizeof(struct stream),
    [OBJECT_EVENT] = sizeof(struct event),     [OBJECT_NODE] = sizeof(struct node),
    [OBJECT_MODULE] = OBJECT_BYTES,            [OBJECT_FUNCTION] = OBJECT_BYTES,
    [OBJECT_POOL] = OBJECT_BYTES,              [OBJECT_PHYSICAL] = OBJECT_BYTES,
    [OBJECT_GRAPH] = OBJECT_BYTES,             [OBJECT_EXEC] = OBJECT_BYTES,
    [OBJECT_USER_OBJECT] = OBJECT_BYTES,
};

static size_t known_place(const void *object)
{
    size_t place = (size_t)((uintptr_t)object * 0x9E3779B97F4A7C15u >> 20) & (known_size - 1);
    while (known[place] != NULL && known[place] != object) {
        place = (place + 1) & (known_size - 1);
    }
    return place;
}

static void known_add(const void *object)
{
    if (known_count * 2 >= known_size) {
        const void **old = known;
        size_t i, old_size = known_size;
        known_size = known_size == 0 ? 1024 : known_size * 2;
        known = need(calloc(known_size, sizeof *known));
        for (i = 0; i < old_size; i++) {
            if (old[i] != NULL) {
                known[known_place(old[i])] = old[i];
            }
        }
        free(old);
    }
    known[known_place(object)] = object;
    known_count++;
}

void *object_new(enum object_kind kind)
{
    struct object *object = driver.config.recycle ? objects_free[kind] : NULL;
    struct object *next;
    if (object != NULL) {
        objects_free[kind] = object->next_free;
        next = object->next;
    } else {
        object = need(malloc(object_bytes[kind]));
        next = objects_all[kind];
        objects_all[kind] = object;
        known_add(object);
    }
    memset(object, 0, object_bytes[kind]);
    object->kind = kind;
    object->alive = 1;
    object->next = next;
    objects_alive[kind]++;
    return object;
}

void object_free(void *freed)
{
    struct object *object = freed;
    object->alive = 0;
    object->next_free = objects_free[object->kind];
    objects_free[object->kind] = object;
    objects_alive[object->kind]--;
}

void *object_find(const void *handle, enum object_kind kind)
{
    size_t place;
    if (handle == NULL || known_size == 0) {
        return NULL;
    }
    place = known_place(handle);
    if (known[place] == NULL) {
        return NULL;
    } else {
        struct object *object = (struct object *)(uintptr_t)handle;
        return object->alive && object->kind == kind ? object : NULL;
    }
}

struct object *object_next(struct object *object)
{
    for (object = object->next; object != NULL && !object->alive; object = object->next) {}
    return object;
}

struct object *object_first(enum object_kind kind)
{
    struct object *object = objects_all[kind];
    return object == NULL || object->alive ? object : object_next(object);
}

uint64_t object_count(enum object_kind kind)
{
    return objects_alive[kind];
}

/* ---- configuration: "key=value;key=value" */
static void config_defaults(struct config *config)
{
    memset(config, 0, sizeof *config);
    config->capacity = (uint64_t)1 << 30;
    config->granularity = (uint64_t)2 << 20;
    config->window = (uint64_t)1 << WINDOW_BITS;
    config->fill = UINT64_MAX;
    config->devices = 1;
    config->version = driver_version_built;
    config->query_steps = 1;
    config->recycle = 1;
}

static int parse_number(const char *text, uint64_t *value)
{
    char *end;
    *value = strtoull(text, &end, 0);
    if (end == text) {
        return 0;
    }
    if (*end == 'K' || *end == 'M' || *end == 'G') {
        *value <<= *end == 'K' ? 10 : *end == 'M' ? 20 : 30;
        end++;
    }
    return *end == 0 || *end == ':';
}

static int symbol_find(const char *name, size_t length)
{
    int i;
    for (i = 0; i <= SYMBOLS; i++) {
        if (strlen(symbol_names[i]) == length && memcmp(symbol_names[i], name, length) == 0) {
            return i;
        }
    }
    return -1;
}

/* fail=cuMemCreate@3:2 - the 3rd call answers 2; with a + at the end: and all later ones */
static int parse_fail(const char *text)
{
    const char *at = strchr(text, '@');
    int symbol = at != NULL ? symbol_find(text, (size_t)(at - text)) : -1;
    unsigned long long n;
    int code;
    char more = 0;
    if (symbol < 0 || sscanf(at, "@%llu:%d%c", &n, &code, &more) < 2) {
        return 0;
    }
    states[symbol].fail_in = n;
    states[symbol].code = code;
    states[symbol].again = 0;
    states[symbol].for_ever = more == '+';
    return 1;
}

static int parse_scheduler(struct config *config, const char *text)
{
    static const char *const names[] = {"lazy", "eager", "random", "threads"};
    const char *colon = strchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);
    int i;
    for (i = 0; i < 4; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0) {
            config->scheduler = (enum scheduler)i;
            config->seed = 0;
            return colon == NULL || parse_number(colon + 1, &config->seed);
        }
    }
    return 0;
}

static int parse_addresses(struct config *config, const char *text)
{
    if (strcmp(text, "lifo") == 0) {
        config->addresses = ADDRESSES_LIFO;
    } else if (strcmp(text, "quarantine") == 0) {
        config->addresses = ADDRESSES_QUARANTINE;
    } else if (strncmp(text, "scramble", 8) == 0) {
        config->addresses = ADDRESSES_SCRAMBLE;
        return text[8] == 0 || (text[8] == ':' && parse_number(text + 9, &config->address_seed));
    } else {
        return 0;
    }
    return 1;
}

static int parse_attribute(struct config *config, const char *text)
{
    int attribute, value, i;
    if (sscanf(text, "%d:%d", &attribute, &value) != 2) {
        return 0;
    }
    for (i = 0; i < config->attribute_count && config->attributes[i].attribute != attribute; i++) {}
    if (i == 16) {
        return 0;
    }
    config->attributes[i].attribute = attribute;
    config->attributes[i].value = value;
    config->attribute_count = i == config->attribute_count ? i + 1 : config->attribute_count;
    return 1;
}

static int parse_sizes(struct config *config, const char *key, uint64_t n)
{
    const struct { const char *key; uint64_t *value; } sizes[] = {
        {"cap", &config->capacity}, {"overhead", &config->overhead}, {"gran", &config->granularity},
        {"window", &config->window}, {"fill", &config->fill}};
    const struct { const char *key; int *value; } numbers[] = {
        {"devices", &config->devices}, {"version", &config->version}, {"peers", &config->peers},
        {"query", &config->query_steps}, {"recycle", &config->recycle}, {"contiguous", &config->contiguous},
        {"free_waits", &config->free_waits}, {"report", &config->report}};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (strcmp(key, sizes[i].key) == 0) {
            *sizes[i].value = n;
            return 1;
        }
    }
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(key, numbers[i].key) == 0) {
            *numbers[i].value = (int)n;
            return 1;
        }
    }
    return 0;
}

static int parse_item(struct config *config, const char *key, const char *value)
{
    uint64_t n;
    int symbol;
    if (strcmp(key, "sched") == 0) { return parse_scheduler(config, value); }
    if (strcmp(key, "addresses") == 0) { return parse_addresses(config, value); }
    if (strcmp(key, "fail") == 0) { return parse_fail(value); }
    if (strcmp(key, "attr") == 0) { return parse_attribute(config, value); }
    if (strcmp(key, "hide") == 0) {
        symbol = symbol_find(value, strlen(value));
        if (symbol >= 0) {
            states[symbol].hidden = 1;
        }
        return symbol >= 0;
    }
    return parse_number(value, &n) && parse_sizes(config, key, n);
}

static int config_parse(struct config *config, const char *text)
{
    char item[128], *equals;
    while (text != NULL && *text != 0) {
        size_t length = strcspn(text, ";");
        if (length != 0) {
            if (length >= sizeof item) {
                return 0;
            }
            memcpy(item, text, length);
            item[length] = 0;
            equals = strchr(item, '=');
            if (equals == NULL) {
                return 0;
            }
            *equals = 0;
            if (!parse_item(config, item, equals + 1)) {
                return 0;
            }
        }
        text += length + (text[length] == ';');
    }
    return config->devices >= 0 && config->devices <= DEVICES_MAX && config->granularity >= 65536 &&
           config->granularity <= (1u << 26) && (config->granularity & (config->granularity - 1)) == 0 &&
           config->capacity >= config->granularity;
}

static void after_fork(void)
{
    driver.forked = 1; /* the child of a program that uses the driver may not use it */
    pthread_mutex_init(&driver.lock, NULL);
}

static int start(const char *config)
{
    static int prepared;
    config_defaults(&driver.config);
    if (!config_parse(&driver.config, getenv("TAFAKE_CONFIG")) || !config_parse(&driver.config, config)) {
        return 0;
    }
    driver.config.capacity -= driver.config.capacity % driver.config.granularity;
    if (!prepared) {
        prepared = 1;
        pthread_atfork(NULL, NULL, after_fork);
    }
    driver.generation++;
    driver.started = 1;
    need(memory_start() ? &driver : NULL);
    schedule_start();
    return 1;
}

static void start_once(void)
{
    if (!driver.started && !start(NULL)) {
        fprintf(stderr, "software driver: TAFAKE_CONFIG is not understood: %s\n", getenv("TAFAKE_CONFIG"));
        abort();
    }
}

static void objects_reset(void)
{
    int kind;
    for (kind = 0; kind < OBJECT_KINDS; kind++) {
        struct object *object = object_first((enum object_kind)kind), *next;
        for (; object != NULL; object = next) {
            next = object_next(object);
            object_free(object);
        }
    }
}

static void stop(void)
{
    schedule_stop();
    graphs_settle();
    graphs_reset();
    capture_reset();
    contexts_reset();
    modules_reset();
    pools_reset();
    vmm_reset();
    objects_reset();
    memory_stop();
    order_reset();
    driver.sequence = driver.next_id = 0;
    driver.deinitialized = 0;
    memset(states, 0, sizeof states);
}

int tafake_reset(const char *config)
{
    int ok;
    pthread_mutex_lock(&driver.lock);
    driver.in_reset = 1;
    if (driver.started) {
        stop();
    }
    driver.in_reset = driver.started = 0;
    ok = start(config);
    pthread_mutex_unlock(&driver.lock);
    return ok ? 0 : -1;
}

int tafake_configure(const char *config)
{
    struct config changed;
    int ok;
    pthread_mutex_lock(&driver.lock);
    start_once();
    changed = driver.config;
    ok = config_parse(&changed, config);
    if (ok && changed.scheduler != driver.config.scheduler) {
        schedule_stop();
        driver.config.scheduler = changed.scheduler;
        schedule_start();
    }
    if (ok) {
        changed.capacity = driver.config.capacity;
        changed.granularity = driver.config.granularity;
        changed.window = driver.config.window;
        changed.devices = driver.config.devices;
        driver.config = changed;
        schedule_pump();
    }
    pthread_mutex_unlock(&driver.lock);
    return ok ? 0 : -1;
}

/* ---- every call */
static int fails_now(struct symbol_state *state)
{
    if (state->fail_in == 0) {
        return 0;
    }
    if (state->fail_in > 1) {
        state->fail_in--;
        return 0;
    }
    if (!state->for_ever) {
        state->fail_in = state->again;
        state->again = 0;
    }
    return 1;
}

static CUresult injected(enum symbol symbol)
{
    struct symbol_state *state = &states[symbol], *any = &states[SYMBOLS];
    int one = fails_now(state), all = fails_now(any);
    return one ? (CUresult)state->code : all ? (CUresult)any->code : CUDA_SUCCESS;
}

/* The lock is held from here on whatever it answers; driver_leave releases it. */
CUresult driver_enter(enum symbol symbol, unsigned flags)
{
    struct thread *thread;
    struct context *context;
    CUresult result;
    pthread_mutex_lock(&driver.lock);
    start_once();
    thread = thread_now();
    driver.sequence++;
    states[symbol].calls++;
    if (thread->in_callback && (flags & ENTER_CALLBACK) == 0) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    if (driver.deinitialized) {
        return CUDA_ERROR_DEINITIALIZED;
    }
    if (driver.forked || (!driver.initialized && (flags & ENTER_BEFORE_INIT) == 0)) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if ((flags & ENTER_ALWAYS_LEGAL) == 0 && capture_exposed(thread)) {
        states[symbol].unrelaxed++;
    }
    result = injected(symbol);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    schedule_progress();
    if ((flags & ENTER_CONTEXT) != 0) {
        context = context_now();
        if (context == NULL) {
            return thread->depth == 0 || thread->stack[thread->depth - 1] == NULL ? CUDA_ERROR_INVALID_CONTEXT
                                                                                  : CUDA_ERROR_CONTEXT_IS_DESTROYED;
        }
        if (context->lost != CUDA_SUCCESS) {
            return context->lost;
        }
    }
    return (flags & ENTER_UNSAFE) != 0 ? capture_guard(thread) : CUDA_SUCCESS;
}

CUresult driver_leave(CUresult result)
{
    schedule_pump();
    pthread_mutex_unlock(&driver.lock);
    return result;
}

/* ---- the side channel */
static int set_fail(const char *symbol, uint64_t n, uint64_t again, int code, int for_ever)
{
    int found = symbol_find(symbol, strlen(symbol));
    pthread_mutex_lock(&driver.lock);
    if (found >= 0) {
        states[found].fail_in = n;
        states[found].again = again;
        states[found].code = code;
        states[found].for_ever = for_ever;
    }
    pthread_mutex_unlock(&driver.lock);
    return found >= 0 ? 0 : -1;
}

int tafake_fail(const char *symbol, uint64_t n, int code)
{
    return set_fail(symbol, n, 0, code, 0);
}

int tafake_fail_twice(const char *symbol, uint64_t n, uint64_t m, int code)
{
    return set_fail(symbol, n, m, code, 0);
}

int tafake_fail_from(const char *symbol, uint64_t n, int code)
{
    return set_fail(symbol, n, 0, code, 1);
}

static uint64_t count_calls(const char *symbol, int unrelaxed)
{
    int found = symbol_find(symbol, strlen(symbol)), i;
    uint64_t calls = 0;
    pthread_mutex_lock(&driver.lock);
    for (i = 0; i < SYMBOLS; i++) {
        if (i == found || found == SYMBOLS) {
            calls += unrelaxed ? states[i].unrelaxed : states[i].calls;
        }
    }
    pthread_mutex_unlock(&driver.lock);
    return found < 0 ? UINT64_MAX : calls;
}

uint64_t tafake_calls(const char *symbol)
{
    return count_calls(symbol, 0);
}

uint64_t tafake_calls_unrelaxed(const char *symbol)
{
    return count_calls(symbol, 1);
}

void tafake_calls_clear(void)
{
    int i;
    pthread_mutex_lock(&driver.lock);
    for (i = 0; i < SYMBOLS; i++) {
        states[i].calls = states[i].unrelaxed = 0;
    }
    pthread_mutex_unlock(&driver.lock);
}

static void host_touches(enum access_kind kind, const void *memory, size_t bytes)
{
    pthread_mutex_lock(&driver.lock);
    start_once();
    driver.sequence++;
    order_host(kind, "the host", (uint64_t)(uintptr_t)memory, bytes);
    pthread_mutex_unlock(&driver.lock);
}

void tafake_host_read(const void *memory, size_t bytes)
{
    host_touches(ACCESS_READ, memory, bytes);
}

void tafake_host_write(void *memory, size_t bytes)
{
    host_touches(ACCESS_WRITE, memory, bytes);
}

void tafake_label(const char *text)
{
    struct thread *thread;
    pthread_mutex_lock(&driver.lock);
    thread = thread_now();
    (void)snprintf(thread->label, sizeof thread->label, "%s", text != NULL ? text : "");
    pthread_mutex_unlock(&driver.lock);
}

int tafake_step(CUstream handle)
{
    struct stream *stream = NULL;
    int ran = 0;
    pthread_mutex_lock(&driver.lock);
    if (handle == NULL || stream_get(handle, &stream) == CUDA_SUCCESS) {
        ran = schedule_step(stream);
    }
    pthread_mutex_unlock(&driver.lock);
    return ran;
}

void tafake_settle(void)
{
    pthread_mutex_lock(&driver.lock);
    if (driver.started) {
        schedule_all();
        graphs_settle();
    }
    pthread_mutex_unlock(&driver.lock);
}

void tafake_lose_context(CUdevice device, int code)
{
    pthread_mutex_lock(&driver.lock);
    if (driver.started && device_valid(device) && driver.devices[device].primary != NULL) {
        driver.devices[device].primary->lost = (CUresult)code;
    }
    pthread_mutex_unlock(&driver.lock);
}

void tafake_deinitialize(void)
{
    pthread_mutex_lock(&driver.lock);
    driver.deinitialized = 1;
    pthread_mutex_unlock(&driver.lock);
}

int tafake_hide(const char *symbol, int on)
{
    int found = symbol_find(symbol, strlen(symbol));
    pthread_mutex_lock(&driver.lock);
    if (found >= 0) {
        states[found].hidden = on;
    }
    pthread_mutex_unlock(&driver.lock);
    return found >= 0 ? 0 : -1;
}

void *tafake_resolve(const char *symbol)
{
    static void (*const functions[])(void) = {
#define SYMBOL(name, version, parameters) (void (*)(void))name,
        CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
    };
    static const int versions[] = {
#define SYMBOL(name, version, parameters) version,
        CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
    };
    int found = symbol_find(symbol, strlen(symbol));
    void *address = NULL;
    pthread_mutex_lock(&driver.lock);
    start_once();
    if (found >= 0 && found < SYMBOLS && !states[found].hidden && versions[found] <= driver.config.version) {
        memcpy(&address, &functions[found], sizeof address);
    }
    pthread_mutex_unlock(&driver.lock);
    return address;
}

int tafake_capture_mode(void)
{
    int mode;
    pthread_mutex_lock(&driver.lock);
    mode = (int)thread_now()->mode;
    pthread_mutex_unlock(&driver.lock);
    return mode;
}

/* report=1: what a program that knows nothing of the side channel got wrong, on stderr when it ends. */
__attribute__((destructor)) static void report_at_exit(void)
{
    uint64_t i, count;
    tafake_live live;
    if (!driver.started || driver.forked || !driver.config.report) {
        return;
    }
    count = tafake_race_count();
    tafake_count_live(&live);
    fprintf(stderr, "software driver: %llu reports\n", (unsigned long long)count);
    for (i = 0; i < count && tafake_race_text(i) != NULL; i++) {
        fprintf(stderr, "  %s\n", tafake_race_text(i));
    }
    fprintf(stderr,
            "  left: %llu allocations, %llu of the host, %llu reservations, %llu mappings, %llu handles, %llu bytes\n"
            "  %llu contexts, %llu streams, %llu events, %llu pools, %llu graphs, %llu executable graphs\n",
            (unsigned long long)live.allocations, (unsigned long long)live.host_allocations,
            (unsigned long long)live.reservations, (unsigned long long)live.mappings, (unsigned long long)live.handles,
            (unsigned long long)live.used_bytes, (unsigned long long)live.contexts, (unsigned long long)live.streams,
            (unsigned long long)live.events, (unsigned long long)live.pools, (unsigned long long)live.graphs,
            (unsigned long long)live.execs);
}
