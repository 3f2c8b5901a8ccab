/* trace.c - what a ta_trace costs: threads that live long, each with its own blocks, on a pool with and without one.

   build   cc -O2 -DNDEBUG -I. bench/trace.c -o trace -pthread
   run     ./trace [--csv] [--smoke]

   Each thread is pinned to a processor where there are enough of them, keeps 64 live blocks, and frees and replaces a
   random one: two events. The rows take turns in every thread, in batches of a few hundred microseconds; the median of
   two hundred counts. An event costs half of what a pair costs more with the trace than without; records of a ring are
   written for the first time before anything is measured. The last lines say what it costs to write them out. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

enum { THREADS_MAX = 2, WINDOW = 64, BATCHES = 200, SMOKE_BATCHES = 3, PAIRS = 4000, WARM_PAIRS = 70000 };
enum { PLAIN, TAGGED, TRACED, ROWS };
static const char *const names[ROWS] = {"ta_pool", "tag_blocks", "trace"};
static const size_t sizes_bytes[] = {256, 4096, 65536, 1048576};
enum { SIZES = sizeof(sizes_bytes) / sizeof(sizes_bytes[0]) };

typedef struct worker {
    pthread_t thread;
    pthread_barrier_t *start;
    ta_pool *const *pools;
    size_t size_bytes;
    int processor; /* < 0: any */
    int batches;
    int failed;
    double ns[ROWS]; /* per pair */
} worker;

static uint64_t clock_of(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* CPU ns per pair. */
static double run_pairs(worker *w, ta_pool *pool, void **window, int pairs)
{
    uint64_t seed = UINT64_C(88172645463325252);
    uint64_t start = clock_of(CLOCK_THREAD_CPUTIME_ID);
    int i;
    for (i = 0; i < pairs; ++i) {
        void **ptr;
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ptr = &window[(seed >> 33) % WINDOW];
        w->failed |= ta_pool_free(pool, *ptr) != TA_OK;
        *ptr = ta_pool_alloc(pool, w->size_bytes, NULL);
        w->failed |= *ptr == NULL;
    }
    return (double)(clock_of(CLOCK_THREAD_CPUTIME_ID) - start) / pairs;
}

static void *work(void *argument)
{
    worker *w = argument;
    void *windows[ROWS][WINDOW];
    double ns[ROWS][BATCHES];
    int batch;
    int row;
    if (w->processor >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)w->processor, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
    }
    memset(windows, 0, sizeof(windows));
    for (row = 0; row < ROWS; ++row) {
        (void)run_pairs(w, w->pools[row], windows[row], WARM_PAIRS);
    }
    pthread_barrier_wait(w->start);
    for (batch = 0; batch < w->batches; ++batch) {
        for (row = 0; row < ROWS; ++row) {
            ns[row][batch] = run_pairs(w, w->pools[row], windows[row], PAIRS);
        }
    }
    for (row = 0; row < ROWS; ++row) {
        int i;
        for (i = 0; i < WINDOW; ++i) {
            w->failed |= ta_pool_free(w->pools[row], windows[row][i]) != TA_OK;
        }
        qsort(ns[row], (size_t)w->batches, sizeof(double), compare_doubles);
        w->ns[row] = ns[row][w->batches / 2];
    }
    return NULL;
}

static int measure(int threads, size_t size_bytes, int batches, ta_pool *const *pools, double *ns)
{
    static worker workers[THREADS_MAX];
    pthread_barrier_t start;
    int failed = 0;
    int i;
    int row;
    memset(workers, 0, sizeof(workers));
    memset(ns, 0, ROWS * sizeof(*ns));
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (i = 0; i < threads; ++i) {
        worker *w = &workers[i];
        w->start = &start;
        w->pools = pools;
        w->size_bytes = size_bytes;
        w->batches = batches;
        w->processor = sysconf(_SC_NPROCESSORS_ONLN) >= threads ? i : -1;
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            fputs("trace: no thread\n", stderr);
            exit(1);
        }
    }
    for (i = 0; i < threads; ++i) {
        pthread_join(workers[i].thread, NULL);
        failed |= workers[i].failed;
        for (row = 0; row < ROWS; ++row) {
            ns[row] += workers[i].ns[row] / threads;
        }
    }
    pthread_barrier_destroy(&start);
    return failed;
}

static ta_result count_bytes(void *user, const char *text, size_t text_bytes)
{
    (void)text;
    *(size_t *)user += text_bytes;
    return TA_OK;
}

/* Writes what the trace holds; ns per event. */
static double measure_flush(ta_trace *trace, ta_trace_format format, int *failed)
{
    ta_trace_stats before;
    size_t bytes = 0;
    uint64_t start = clock_of(CLOCK_MONOTONIC);
    *failed |= ta_trace_get_stats(trace, &before) != TA_OK;
    *failed |= ta_trace_flush(trace, format, count_bytes, &bytes) != TA_OK || bytes == 0 || before.held_count == 0;
    return (double)(clock_of(CLOCK_MONOTONIC) - start) / (double)before.held_count;
}

int main(int argc, char **argv)
{
    ta_pool *pools[ROWS] = {NULL, NULL, NULL};
    ta_pool_desc desc;
    int csv = 0;
    int smoke = 0;
    int failed = 0;
    int threads;
    int i;
    for (i = 1; i < argc; ++i) {
        csv |= strcmp(argv[i], "--csv") == 0;
        smoke |= strcmp(argv[i], "--smoke") == 0;
        if (strcmp(argv[i], "--csv") != 0 && strcmp(argv[i], "--smoke") != 0) {
            fputs("usage: trace [--csv] [--smoke]\n", stderr);
            return 2;
        }
    }
    memset(&desc, 0, sizeof(desc));
    failed |= ta_pool_create(&desc, &pools[PLAIN]) != TA_OK;
    desc.tag_blocks = 1;
    failed |= ta_pool_create(&desc, &pools[TAGGED]) != TA_OK;
    failed |= ta_trace_create(NULL, &desc.trace) != TA_OK || ta_pool_create(&desc, &pools[TRACED]) != TA_OK;
    if (failed) {
        fputs("trace: no memory\n", stderr);
        return 1;
    }
    printf(csv ? "threads,size,allocator,ns_per_pair\n"
               : "CPU ns per pair of allocation and free, and what the trace adds per event\n\n"
                 "threads      size    ta_pool tag_blocks      trace  per event\n");
    for (threads = 1; threads <= THREADS_MAX; ++threads) {
        for (i = 0; i < SIZES; ++i) {
            double ns[ROWS];
            int row;
            failed |= measure(threads, sizes_bytes[i], smoke ? SMOKE_BATCHES : BATCHES, pools, ns);
            for (row = 0; csv && row < ROWS; ++row) {
                printf("%d,%zu,%s,%.2f\n", threads, sizes_bytes[i], names[row], ns[row]);
            }
            if (!csv) {
                printf("%7d %9zu %10.1f %10.1f %10.1f %10.1f\n", threads, sizes_bytes[i], ns[PLAIN], ns[TAGGED],
                       ns[TRACED], (ns[TRACED] - ns[PLAIN]) / 2);
            }
        }
    }
    {
        double text = measure_flush(desc.trace, TA_TRACE_TEXT, &failed);
        failed |= ta_pool_free(pools[TRACED], ta_pool_alloc(pools[TRACED], 100, NULL)) != TA_OK;
        if (!csv) {
            printf("\nwritten as text: %.0f ns per event\n", text);
        }
    }
    for (i = 0; i < ROWS; ++i) {
        failed |= ta_pool_check(pools[i]) != TA_OK || ta_pool_destroy(pools[i]) != TA_OK;
    }
    failed |= ta_trace_destroy(desc.trace) != TA_OK;
    if (failed) {
        fputs("trace: a call failed, or figures disagree\n", stderr);
    }
    return failed;
}
