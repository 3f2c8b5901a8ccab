/* snapshot.h - what the tests of snapshots share: a sink, a reader, and sums of what was written. */
#ifndef TEST_SNAPSHOT_H
#define TEST_SNAPSHOT_H

#include "json.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    #define SLOWER 4
#else
    #define SLOWER 1
#endif

/* A text in memory; a sink of it may be told to fail. */
typedef struct document {
    char *text;
    size_t length, room;
    uint64_t calls, fail_at; /* the call that answers fail_with; 0: none */
    ta_result fail_with;
    int is_over;             /* called again after that */
    void (*meanwhile)(void *user);
    void *user;
    json tree;
} document;

TEST_STATIC ta_result keep(void *user, const char *text, size_t text_bytes)
{
    document *d = (document *)user;
    d->calls++;
    d->is_over |= d->fail_at != 0 && d->calls > d->fail_at;
    if (d->calls == d->fail_at) {
        return d->fail_with;
    }
    if (d->meanwhile != NULL) {
        d->meanwhile(d->user);
    }
    if (d->room - d->length < text_bytes + 1) {
        d->room = 2 * d->room + text_bytes + 1;
        d->text = (char *)realloc(d->text, d->room);
        if (d->text == NULL) {
            abort();
        }
    }
    memcpy(d->text + d->length, text, text_bytes);
    d->length += text_bytes;
    d->text[d->length] = 0;
    return TA_OK;
}

TEST_STATIC void forget(document *d)
{
    json_free(&d->tree);
    free(d->text);
    memset(d, 0, sizeof *d);
}

TEST_STATIC int is_state(const json *j, size_t block, const char *state)
{
    return json_says(j, json_get(j, block, "state"), state);
}

typedef struct sums {
    uint64_t live, live_count, requested, free_bytes, cached, pending, held, busy, hole, changed, ranges, committed;
    uint64_t buckets[TA_BUCKET_COUNT]; /* bytes of live blocks */
    int tiles;                         /* every range is covered by its blocks, from one end to the other */
} sums;

/* The specification's table: 0 is below 128 bytes, 1 below 256, ...; the last has all above. */
TEST_STATIC int bucket_of(uint64_t size)
{
    int bucket = 0;
    while (bucket < TA_BUCKET_COUNT - 1 && size >= (uint64_t)128 << bucket) {
        bucket++;
    }
    return bucket;
}

TEST_STATIC void add_block(const json *j, size_t block, sums *out)
{
    uint64_t size = json_get_u64(j, block, "size_bytes");
    if (is_state(j, block, "live")) {
        out->live += size;
        out->live_count++;
        out->requested += json_get_u64(j, block, "requested_bytes");
        out->tiles &= json_get_u64(j, block, "requested_bytes") <= size;
        out->buckets[bucket_of(size)] += size;
    }
    out->free_bytes += is_state(j, block, "free") ? size : 0;
    out->cached += is_state(j, block, "cached") ? size : 0;
    out->pending += is_state(j, block, "pending") ? size : 0;
    out->held += is_state(j, block, "held") ? size : 0;
    out->busy += is_state(j, block, "busy") ? size : 0;
    out->hole += is_state(j, block, "hole") ? size : 0;
    out->changed += is_state(j, block, "changed") ? size : 0;
}

/* What the blocks of one allocator add up to. */
TEST_STATIC sums add_up(const json *j, size_t allocator)
{
    sums out;
    size_t ranges = json_get(j, allocator, "ranges"), range, blocks, block;
    memset(&out, 0, sizeof out);
    out.tiles = 1;
    for (range = json_first(j, ranges); range != 0; range = json_after(j, ranges, range)) {
        uint64_t at = json_get_u64(j, range, "ptr"), end = at + json_get_u64(j, range, "size_bytes");
        out.ranges++;
        out.committed += json_get_u64(j, range, "committed_bytes");
        blocks = json_get(j, range, "blocks");
        for (block = json_first(j, blocks); block != 0; block = json_after(j, blocks, block)) {
            out.tiles &= json_get_u64(j, block, "ptr") == at && json_get_u64(j, block, "size_bytes") != 0;
            at += json_get_u64(j, block, "size_bytes");
            add_block(j, block, &out);
        }
        out.tiles &= at == end;
    }
    return out;
}

/* The index-th allocator of the text; 0 if there is none. */
TEST_STATIC size_t allocator_at(const json *j, int index)
{
    size_t array = json_get(j, 0, "allocators"), element = json_first(j, array);
    while (index-- > 0 && element != 0) {
        element = json_after(j, array, element);
    }
    return element;
}

/* Writes the snapshot into *d and reads it. */
TEST_STATIC int take_snapshot(document *d, const ta_allocator *allocators, size_t count, const ta_snapshot_desc *desc)
{
    ta_result result;
    d->length = 0;
    d->calls = 0;
    json_free(&d->tree);
    result = ta_snapshot_write(allocators, count, desc, keep, d);
    CHECK_OK(result);
    CHECK(result != TA_OK || json_read(&d->tree, d->text, d->length));
    return result == TA_OK && d->tree.count != 0;
}

/* That the blocks of an allocator that is not being used say what its statistics say. */
TEST_STATIC void check_sums(const json *j, size_t node, ta_allocator allocator)
{
    ta_stats now;
    sums sum = add_up(j, node);
    size_t totals = json_get(j, node, "totals"), stats = json_get(j, node, "stats");
    CHECK_OK(ta_allocator_get_stats(allocator, &now));
    CHECK(sum.tiles);
    CHECK_EQ(sum.changed, 0);
    CHECK_EQ(sum.busy, 0);
    CHECK_EQ(sum.live, now.in_use_bytes);
    CHECK_EQ(sum.live_count, now.live_count);
    CHECK_EQ(sum.requested, now.requested_bytes);
    CHECK_EQ(sum.cached, now.thread_cached_bytes);
    CHECK_EQ(sum.pending + sum.held, now.pending_bytes);
    CHECK_EQ(sum.live + sum.free_bytes + sum.cached + sum.pending + sum.held, now.reserved_bytes);
    CHECK_EQ(sum.committed, now.reserved_bytes);
    CHECK_EQ(json_get_u64(j, totals, "live_bytes"), sum.live);
    CHECK_EQ(json_get_u64(j, totals, "live_count"), sum.live_count);
    CHECK_EQ(json_get_u64(j, totals, "free_bytes"), sum.free_bytes);
    CHECK_EQ(json_get_u64(j, totals, "cached_bytes"), sum.cached);
    CHECK_EQ(json_get_u64(j, totals, "pending_bytes"), sum.pending);
    CHECK_EQ(json_get_u64(j, totals, "held_bytes"), sum.held);
    CHECK_EQ(json_get_u64(j, totals, "hole_bytes"), sum.hole);
    CHECK_EQ(json_get_u64(j, stats, "in_use_bytes"), now.in_use_bytes);
    CHECK_EQ(json_get_u64(j, stats, "reserved_bytes"), now.reserved_bytes);
    CHECK_EQ(json_get_u64(j, stats, "allocation_count"), now.allocation_count);
    CHECK_EQ(json_get_u64(j, stats, "trimmed_bytes"), now.trimmed_bytes);
}

/* A document for tests/snapshot.py. */
TEST_STATIC int write_one(const char *directory, const char *name, const ta_allocator *list, size_t count, ta_trace *trace)
{
    ta_snapshot_desc options;
    char path[1000];
    FILE *file;
    int ok;
    (void)snprintf(path, sizeof path, "%s/%s.json", directory, name);
    file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return 0;
    }
    memset(&options, 0, sizeof options);
    options.trace = trace;
    ok = ta_snapshot_write(list, count, &options, ta_file_write, file) == TA_OK;
    return fclose(file) == 0 && ok;
}

#endif /* TEST_SNAPSHOT_H */
