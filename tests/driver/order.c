/* order.c - the happens-before checker: vector clocks, and who accessed which bytes of physical memory.

   Agents: the host (one, on purpose: races among host threads are for thread sanitizers), each stream, and each
   captured stream of each executable graph. Clocks are taken when work is enqueued, not when it runs, since
   everything that orders work is known by then; so what is reported does not depend on the schedule.

   The shadow has one cell for 512 bytes of physical memory. A cell lists accesses that later ones must be ordered
   after; an access knows its exact bytes, so neighbours in one granule do not disturb each other. */
#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRANULE = 512, LEAF_CELLS = 2048, REPORTS_MAX = 64, REPORT_BYTES = 600, INLINE_IDS = 2 };

struct access {
    uint32_t references, agent; /* references of cells; with none it is in the list of free ones */
    uint64_t time, low, high, address, sequence;
    struct shadow *shadow;
    enum access_kind kind;
    char label[LABEL_BYTES * 2];
};
struct cell {
    uint32_t count, capacity; /* capacity 0: the inline ids are used */
    union { uint32_t few[INLINE_IDS]; uint32_t *many; } ids;
};
struct shadow {
    uint64_t bytes;
    size_t leaf_count;
    struct cell **leaves;
};

static struct access *accesses;
static uint32_t access_count, access_capacity, *free_accesses, free_count, free_capacity;
static uint32_t agent_count = 1;
static uint64_t report_count;
static char *reports[REPORTS_MAX];

void clock_free(struct clock *clock)
{
    free(clock->at);
    clock->at = NULL;
    clock->count = clock->capacity = 0;
}

static void clock_reach(struct clock *clock, uint32_t count)
{
    if (count > clock->capacity) {
        clock->capacity = clock->capacity * 2 > count ? clock->capacity * 2 : count + 4;
        clock->at = need(realloc(clock->at, clock->capacity * sizeof *clock->at));
    }
    if (count > clock->count) {
        memset(clock->at + clock->count, 0, (count - clock->count) * sizeof *clock->at);
        clock->count = count;
    }
}

void clock_join(struct clock *into, const struct clock *from)
{
    uint32_t i;
    if (into == from) {
        return;
    }
    clock_reach(into, from->count);
    for (i = 0; i < from->count; i++) {
        if (from->at[i] > into->at[i]) {
            into->at[i] = from->at[i];
        }
    }
}

void clock_copy(struct clock *to, const struct clock *from)
{
    if (to->count != 0) {
        memset(to->at, 0, to->count * sizeof *to->at);
    }
    clock_join(to, from);
}

uint64_t clock_tick(struct clock *clock, uint32_t agent)
{
    clock_reach(clock, agent + 1);
    return ++clock->at[agent];
}

int clock_covers(const struct clock *clock, uint32_t agent, uint64_t time)
{
    return agent < clock->count && clock->at[agent] >= time;
}

int clock_within(const struct clock *clock, const struct clock *a, const struct clock *b)
{
    uint32_t i;
    for (i = 0; i < clock->count; i++) {
        if (clock->at[i] != 0 && !clock_covers(a, i, clock->at[i]) &&
            (b == NULL || !clock_covers(b, i, clock->at[i]))) {
            return 0;
        }
    }
    return 1;
}

uint32_t order_new_agent(void)
{
    return agent_count++;
}

/* ---- reports */
void order_report(const char *format, ...)
{
    char text[REPORT_BYTES];
    va_list arguments;
    if (report_count < REPORTS_MAX) {
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        free(reports[report_count]);
        reports[report_count] = need(strdup(text));
    }
    report_count++;
}

static const char *kind_text(enum access_kind kind)
{
    return kind == ACCESS_READ ? "read" : kind == ACCESS_WRITE ? "write" : "free";
}

static void report_pair(const struct access *now, const struct access *before)
{
    uint64_t low = now->low > before->low ? now->low : before->low;
    uint64_t high = now->high < before->high ? now->high : before->high;
    uint64_t address = now->address + (low - now->low);
    order_report("not ordered: %s of %llu bytes at 0x%llx by %s (call %llu) after %s by %s (call %llu)",
                 kind_text(now->kind), (unsigned long long)(high - low), (unsigned long long)address, now->label,
                 (unsigned long long)now->sequence, kind_text(before->kind), before->label,
                 (unsigned long long)before->sequence);
}

/* ---- cells */
struct shadow *shadow_new(uint64_t bytes)
{
    struct shadow *shadow = need(calloc(1, sizeof *shadow));
    shadow->bytes = bytes;
    shadow->leaf_count = (size_t)((bytes + (uint64_t)GRANULE * LEAF_CELLS - 1) / ((uint64_t)GRANULE * LEAF_CELLS));
    shadow->leaves = need(calloc(shadow->leaf_count + 1, sizeof *shadow->leaves));
    return shadow;
}

static uint32_t *cell_ids(struct cell *cell)
{
    return cell->capacity != 0 ? cell->ids.many : cell->ids.few;
}

static void access_drop(uint32_t id)
{
    if (--accesses[id].references == 0) {
        free_accesses = array_grow(free_accesses, free_count, &free_capacity, sizeof *free_accesses);
        free_accesses[free_count++] = id;
    }
}

static uint32_t access_new(void)
{
    uint32_t id;
    if (free_count != 0) {
        id = free_accesses[--free_count];
    } else {
        accesses = array_grow(accesses, access_count, &access_capacity, sizeof *accesses);
        id = access_count++;
    }
    memset(&accesses[id], 0, sizeof accesses[id]);
    accesses[id].references = 1; /* of the caller */
    return id;
}

static void cell_add(struct cell *cell, uint32_t id)
{
    if (cell->capacity == 0 && cell->count == INLINE_IDS) {
        uint32_t *many = need(malloc(8 * sizeof *many));
        memcpy(many, cell->ids.few, sizeof cell->ids.few);
        cell->ids.many = many;
        cell->capacity = 8;
    } else if (cell->capacity != 0 && cell->count == cell->capacity) {
        cell->capacity *= 2;
        cell->ids.many = need(realloc(cell->ids.many, cell->capacity * sizeof(uint32_t)));
    }
    cell_ids(cell)[cell->count++] = id;
    accesses[id].references++;
}

void shadow_free(struct shadow *shadow)
{
    size_t leaf;
    uint32_t i, k;
    for (leaf = 0; shadow != NULL && leaf < shadow->leaf_count; leaf++) {
        struct cell *cells = shadow->leaves[leaf];
        for (i = 0; cells != NULL && i < LEAF_CELLS; i++) {
            for (k = 0; k < cells[i].count; k++) {
                access_drop(cell_ids(&cells[i])[k]);
            }
            if (cells[i].capacity != 0) {
                free(cells[i].ids.many);
            }
        }
        free(cells);
    }
    if (shadow != NULL) {
        free(shadow->leaves);
        free(shadow);
    }
}

struct marker {
    const struct clock *clock;
    uint32_t agent;
    enum access_kind kind;
    const char *label;
    uint64_t reported[32]; /* older work told of: one report for a pair */
    uint32_t reported_count;
};

static int first_time(struct marker *marker, const struct access *old)
{
    const uint64_t key = old->sequence << 16 | old->agent;
    uint32_t i;
    for (i = 0; i < marker->reported_count && i < 32; i++) {
        if (marker->reported[i] == key) {
            return 0;
        }
    }
    marker->reported[marker->reported_count++ % 32] = key;
    return 1;
}

/* Compares the new access with those of a cell, drops those that it stands for from now on, and adds it. */
static void mark_cell(struct marker *marker, struct cell *cell, uint64_t cell_low, uint32_t id)
{
    const struct access *now = &accesses[id];
    const uint64_t cell_high = cell_low + GRANULE;
    uint32_t i, kept = 0, *ids = cell_ids(cell);
    for (i = 0; i < cell->count; i++) {
        const struct access *old = &accesses[ids[i]];
        const int overlaps = old->low < now->high && now->low < old->high;
        const int conflicts = overlaps && (old->kind != ACCESS_READ || now->kind != ACCESS_READ);
        const int ordered = clock_covers(marker->clock, old->agent, old->time);
        const uint64_t low = old->low > cell_low ? old->low : cell_low;
        const uint64_t high = old->high < cell_high ? old->high : cell_high;
        const int inside = now->low <= low && high <= now->high;
        if (conflicts && !ordered && first_time(marker, old)) {
            report_pair(now, old);
        }
        /* What is ordered after the new one is ordered after the old one too, or the pair has been told of. A write
           stays beside the reads that follow it: other reads may be unordered with it alone. */
        if (overlaps && inside && (now->kind != ACCESS_READ || (ordered && old->kind == ACCESS_READ))) {
            access_drop(ids[i]);
        } else {
            ids[kept++] = ids[i];
        }
    }
    cell->count = kept;
    cell_add(cell, id);
}

static void mark_piece(void *user, struct shadow *shadow, uint64_t offset, uint64_t address, size_t bytes)
{
    struct marker *marker = user;
    uint32_t id = access_new();
    uint64_t granule;
    accesses[id].agent = marker->agent;
    accesses[id].time = marker->clock->at[marker->agent];
    accesses[id].low = offset;
    accesses[id].high = offset + bytes;
    accesses[id].address = address;
    accesses[id].sequence = driver.sequence;
    accesses[id].kind = marker->kind;
    (void)snprintf(accesses[id].label, sizeof accesses[id].label, "%s", marker->label);
    for (granule = offset / GRANULE; granule * GRANULE < offset + bytes; granule++) {
        struct cell **leaf = &shadow->leaves[granule / LEAF_CELLS];
        if (*leaf == NULL) {
            *leaf = need(calloc(LEAF_CELLS, sizeof **leaf));
        }
        mark_cell(marker, &(*leaf)[granule % LEAF_CELLS], granule * GRANULE, id);
    }
    access_drop(id);
}

void order_access(const struct clock *clock, uint32_t agent, enum access_kind kind, const char *label, uint64_t address,
                  size_t bytes)
{
    struct marker marker;
    memset(&marker, 0, sizeof marker);
    marker.clock = clock;
    marker.agent = agent;
    marker.kind = kind;
    marker.label = label;
    if (bytes != 0 && !memory_pieces(address, bytes, mark_piece, &marker)) {
        order_report("not allocated: %s of %llu bytes at 0x%llx by %s (call %llu) touches memory that is not there",
                     kind_text(kind), (unsigned long long)bytes, (unsigned long long)address, label,
                     (unsigned long long)driver.sequence);
    }
}

void order_host(enum access_kind kind, const char *label, uint64_t address, size_t bytes)
{
    clock_tick(&driver.host, 0);
    order_access(&driver.host, 0, kind, label, address, bytes);
}

void order_reset(void)
{
    uint32_t i;
    for (i = 0; i < REPORTS_MAX; i++) {
        free(reports[i]);
        reports[i] = NULL;
    }
    free(accesses);
    free(free_accesses);
    accesses = NULL;
    free_accesses = NULL;
    access_count = access_capacity = free_count = free_capacity = 0;
    report_count = 0;
    agent_count = 1;
    clock_free(&driver.host);
}

uint64_t tafake_race_count(void)
{
    uint64_t count;
    pthread_mutex_lock(&driver.lock);
    count = report_count;
    pthread_mutex_unlock(&driver.lock);
    return count;
}

const char *tafake_race_text(uint64_t index)
{
    const char *text;
    pthread_mutex_lock(&driver.lock);
    text = index < report_count && index < REPORTS_MAX ? reports[index] : NULL;
    pthread_mutex_unlock(&driver.lock);
    return text;
}

void tafake_races_clear(void)
{
    pthread_mutex_lock(&driver.lock);
    report_count = 0;
    pthread_mutex_unlock(&driver.lock);
}
