/* snapshot.c - what ta_snapshot_write costs, by the number of blocks.

   build   cc -O2 -DNDEBUG -I. bench/snapshot.c -o snapshot -pthread
   run     ./snapshot [--csv] [--smoke] [--write FILE]

   A pool of BLOCKS blocks of 1 byte to 8 KiB, a fifth of them free again and trimmed, two thirds with a tag; the
   sink counts bytes. Rows
       pieces   64 blocks at a time, as without a desc
       scratch  with scratch for all of them: one look, one moment
       figures  without blocks
   CPU time of the thread, the median of eleven; "gate us" is the longest that the pool's gate was held, from the time
   between two calls of the sink: an upper bound. --write leaves the snapshot of the last pool in a file. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

enum { ROUNDS = 11, SMOKE_ROUNDS = 3 };

typedef struct sink {
    size_t bytes;
    uint64_t last_ns, gap_ns;
} sink;

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static ta_result count(void *user, const char *text, size_t text_bytes)
{
    sink *s = (sink *)user;
    uint64_t now = cpu_ns();
    (void)text;
    s->bytes += text_bytes;
    s->gap_ns = now - s->last_ns > s->gap_ns ? now - s->last_ns : s->gap_ns;
    s->last_ns = cpu_ns();
    return TA_OK;
}

static ta_pool *make_pool(size_t blocks)
{
    static const char *const tags[3] = {NULL, "forward/attention", "optimizer state"};
    void **ptrs = (void **)malloc(blocks * sizeof *ptrs);
    uint64_t random = 1;
    ta_pool *pool = NULL;
    size_t i;
    if (ptrs == NULL || ta_pool_create(NULL, &pool) != TA_OK) {
        exit(1);
    }
    for (i = 0; i < blocks; i++) {
        ta_request request;
        memset(&request, 0, sizeof request);
        random = random * 6364136223846793005u + 1442695040888963407u;
        request.size_bytes = 1 + (size_t)((random >> 33) % ((size_t)64 << (random >> 28) % 8));
        request.tag = tags[i % 3];
        ptrs[i] = ta_pool_alloc_request(pool, &request, NULL);
        if (ptrs[i] == NULL) {
            fprintf(stderr, "snapshot: no memory for %zu blocks\n", blocks);
            exit(1);
        }
    }
    for (i = 0; i < blocks; i += 5) {
        (void)ta_pool_free(pool, ptrs[i]);
    }
    (void)ta_pool_trim(pool, 0, NULL);
    free(ptrs);
    return pool;
}

static int compare(const void *a, const void *b)
{
    return *(const uint64_t *)a < *(const uint64_t *)b ? -1 : *(const uint64_t *)a > *(const uint64_t *)b;
}

static void measure(ta_pool *pool, size_t blocks, const char *row, const ta_snapshot_desc *desc, int rounds, int csv)
{
    ta_allocator a = ta_pool_allocator(pool);
    uint64_t times[ROUNDS], gap_ns = UINT64_MAX;
    sink s;
    int i;
    for (i = 0; i < rounds; i++) {
        uint64_t start = cpu_ns();
        memset(&s, 0, sizeof s);
        s.last_ns = start;
        if (ta_snapshot_write(&a, 1, desc, count, &s) != TA_OK) {
            exit(1);
        }
        times[i] = cpu_ns() - start;
        gap_ns = s.gap_ns < gap_ns ? s.gap_ns : gap_ns;
    }
    qsort(times, (size_t)rounds, sizeof *times, compare);
    printf(csv ? "%zu,%s,%.3f,%.1f,%zu,%.1f\n" : "%9zu  %-8s %9.2f %9.0f %11zu %9.0f\n", blocks, row,
           (double)times[rounds / 2] / 1e6, (double)times[rounds / 2] / (double)blocks, s.bytes, (double)gap_ns / 1e3);
}

int main(int argc, char **argv)
{
    int csv = 0, smoke = 0, i;
    const char *write = NULL;
    size_t blocks;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0) {
            csv = 1;
        } else if (strcmp(argv[i], "--smoke") == 0) {
            smoke = 1;
        } else if (strcmp(argv[i], "--write") == 0 && i + 1 < argc) {
            write = argv[++i];
        } else {
            fprintf(stderr, "usage: snapshot [--csv] [--smoke] [--write FILE]\n");
            return 2;
        }
    }
    puts(csv ? "blocks,row,ms,ns_per_block,bytes,gate_us" : "   blocks  row             ms  ns/block       bytes   gate us");
    for (blocks = 1000; blocks <= (smoke ? 10000u : 1000000u); blocks *= 10) {
        ta_pool *pool = make_pool(blocks);
        ta_snapshot_desc desc;
        memset(&desc, 0, sizeof desc);
        measure(pool, blocks, "pieces", NULL, smoke ? SMOKE_ROUNDS : ROUNDS, csv);
        desc.scratch_bytes = blocks * 64 + 65536;
        desc.scratch = calloc(1, desc.scratch_bytes);
        if (desc.scratch == NULL) {
            fprintf(stderr, "snapshot: no memory for scratch\n");
            return 1;
        }
        measure(pool, blocks, "scratch", &desc, smoke ? SMOKE_ROUNDS : ROUNDS, csv);
        free(desc.scratch);
        memset(&desc, 0, sizeof desc);
        desc.disable_blocks = 1;
        measure(pool, blocks, "figures", &desc, smoke ? SMOKE_ROUNDS : ROUNDS, csv);
        if (write != NULL) {
            ta_allocator a = ta_pool_allocator(pool);
            FILE *file = fopen(write, "wb");
            if (file == NULL || ta_snapshot_write(&a, 1, NULL, ta_file_write, file) != TA_OK || fclose(file) != 0) {
                perror(write);
                return 1;
            }
        }
        (void)ta_pool_destroy(pool);
    }
    return 0;
}
