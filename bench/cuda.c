/* cuda.c - the CUDA backend beside the driver's own allocators: hot pairs, steals, pinned memory, growth, traces.

   build   cc -O2 -DNDEBUG -I.. -o cuda cuda.c -lpthread -ldl        Linux; no toolkit is needed
   run     ./cuda [--smoke] [--host | --csv] [file.trace ...]     --csv: a line for each number, the device in the first

   A number is nanoseconds of the host for one operation. On the software driver of tests/driver time means nothing, and
   a number is driver calls. Steady state: each row runs once before it is measured.

   --host measures the pool alone, on any driver: what a hit costs the host beside the same hit of a host pool, and what
   an allocation in a capture costs beside the same hit outside of captures. The driver's answer about captures is taken
   out (a function that answers as told is called in its place). Eleven batches of each row in turn; the median batch
   counts. tests/cost.py counts the instructions of the same rows. */
#define _POSIX_C_SOURCE 200809L
#define TENSORALLOC_CUDA
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "../tests/driver/loader.h"

#include <stdarg.h>
#include <time.h>

#define MIB ((size_t)1 << 20)
#define STREAM(handle) ((ta_stream)(uintptr_t)(handle))

static int counts; /* driver calls instead of time */
static int csv;
static size_t rounds = 10000;
static CUstream s, t;
static ta_cuda *cuda;
static ta_pool *pool;
static CUmemoryPool theirs;

static void stop(const char *what)
{
    fprintf(stderr, "cuda: %s\n", what);
    exit(1);
}

static void need_ok(CUresult result, const char *what)
{
    if (result != CUDA_SUCCESS) {
        stop(what);
    }
}

/* One number; on its own line where a file is wanted. */
static double put(const char *what, size_t bytes, const char *who, double value, const char *unit)
{
    if (csv) {
        printf("%s,%zu,\"%s\",%.3f,%s\n", what, bytes, who, value, unit);
    }
    return value;
}

/* Not printed where a file is wanted; the numbers among its arguments are. */
__attribute__((format(printf, 1, 2))) static void text(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!csv) {
        vprintf(format, arguments);
    }
    va_end(arguments);
}

#define UNIT (counts ? "calls" : "ns")

static double now(void)
{
    struct timespec time;
    if (counts) {
        return (double)fake.tafake_calls("*");
    }
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* ---- one operation of each kind, on a size */
static void pair_ours(size_t bytes)
{
    void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(s), NULL);
    if (ptr == NULL || ta_pool_free(pool, ptr) != TA_OK) {
        stop("the pool gives nothing");
    }
}

static void pair_segment(size_t bytes)
{
    CUdeviceptr ptr = 0;
    need_ok(cu.cuMemAlloc_v2(&ptr, bytes), "cuMemAlloc");
    need_ok(cu.cuMemFree_v2(ptr), "cuMemFree");
}

static void pair_async(size_t bytes)
{
    CUdeviceptr ptr = 0;
    need_ok(cu.cuMemAllocFromPoolAsync(&ptr, bytes, theirs, s), "cuMemAllocFromPoolAsync");
    need_ok(cu.cuMemFreeAsync(ptr, s), "cuMemFreeAsync");
}

static void pair_pinned(size_t bytes)
{
    void *ptr = NULL;
    need_ok(cu.cuMemHostAlloc(&ptr, bytes, 1), "cuMemHostAlloc");
    need_ok(cu.cuMemFreeHost(ptr), "cuMemFreeHost");
}

/* A block goes from stream to stream: each time it is taken from the other one's list. */
static void pair_steal(size_t bytes)
{
    static int turn;
    void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM((turn ^= 1) != 0 ? s : t), NULL);
    if (ptr == NULL || ta_pool_free(pool, ptr) != TA_OK) {
        stop("the pool gives nothing");
    }
}

/* A block that another stream used. */
static void pair_recorded(size_t bytes)
{
    void *ptr = ta_pool_alloc_stream(pool, bytes, STREAM(s), NULL);
    if (ptr == NULL || ta_pool_record_use(pool, ptr, STREAM(t)) != TA_OK || ta_pool_free(pool, ptr) != TA_OK) {
        stop("the pool gives nothing");
    }
}

static double measure(void (*operation)(size_t bytes), size_t bytes, size_t times)
{
    double start;
    size_t i;
    for (i = 0; i < 4; i++) {
        operation(bytes);
    }
    need_ok(cu.cuCtxSynchronize(), "cuCtxSynchronize");
    start = now();
    for (i = 0; i < times; i++) {
        operation(bytes);
    }
    return (now() - start) / (double)times;
}

static void open_pool(ta_cuda_kind kind, ta_capture_check check)
{
    ta_cuda_desc desc;
    ta_pool_desc options;
    const char *why = "";
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    desc.kind = kind;
    if (ta_cuda_create(&desc, &cuda, &why) != TA_OK) {
        stop(why);
    }
    options.backend = ta_cuda_backend(cuda);
    options.capture_check = check;
    if (ta_pool_create(&options, &pool) != TA_OK) {
        stop("no pool");
    }
}

static void close_pool(void)
{
    if (ta_pool_destroy(pool) != TA_OK || ta_cuda_destroy(cuda) != TA_OK) {
        stop("the pool cannot be closed");
    }
}

static void hot(void)
{
    static const size_t sizes[] = {512, 65536, 1 << 20, 16 << 20, 256 << 20};
    double ours[5][2], pinned[5];
    size_t i;
    int check;
    for (check = 0; check < 2; check++) {
        open_pool(TA_CUDA_DEVICE, check ? TA_CAPTURE_SCOPES_ONLY : TA_CAPTURE_STRICT);
        for (i = 0; i < 5; i++) {
            ours[i][check] = measure(pair_ours, sizes[i], rounds);
        }
        close_pool();
    }
    open_pool(TA_CUDA_PINNED, TA_CAPTURE_STRICT);
    for (i = 0; i < 4; i++) {
        pinned[i] = measure(pair_ours, sizes[i], rounds);
    }
    close_pool();
    text("alloc + free, steady        pool  pool, scopes only     cuMemAlloc  cuMemAllocFromPoolAsync   pinned pool"
         "  cuMemHostAlloc\n");
    for (i = 0; i < 5; i++) {
        size_t bytes = sizes[i];
        double segment = put("pair", bytes, "cuMemAlloc", measure(pair_segment, bytes, rounds / 100 + 2), UNIT);
        double async = cu.cuMemAllocFromPoolAsync != NULL ? measure(pair_async, bytes, rounds) : 0.0;
        text("%12zu bytes %14.1f %18.1f %14.1f %24.1f", bytes, put("pair", bytes, "pool", ours[i][0], UNIT),
             put("pair", bytes, "pool, scopes only", ours[i][1], UNIT), segment,
             put("pair", bytes, "cuMemAllocFromPoolAsync", async, UNIT));
        if (i < 4) {
            double theirs_pinned = measure(pair_pinned, bytes, rounds / 1000 + 2);
            text(" %13.1f %15.1f", put("pair", bytes, "pinned pool", pinned[i], UNIT),
                 put("pair", bytes, "cuMemHostAlloc", theirs_pinned, UNIT));
        }
        text("\n");
    }
}

/* ---- what the host does for a hit, without the driver */
static ta_pool *host_pool, *strict_pool, *scopes_pool;
static ta_graph_pool *graph_pool; /* of strict_pool */
static size_t host_pairs = 20000;
static ta_cuda *told_device;

static int none(void *stream, int *status, uint64_t *id)
{
    (void)stream;
    (void)id;
    *status = 0;
    return 0;
}

static uint64_t captures;

static int captured(void *stream, int *status, uint64_t *id)
{
    (void)stream;
    *status = 1;
    *id = captures;
    return 0;
}

static void *without_question(void *user, const char *name)
{
    int (*answer)(void *stream, int *status, uint64_t *id) = none;
    void *symbol = NULL;
    (void)user;
    if (strcmp(name, "cuStreamGetCaptureInfo") == 0) {
        memcpy(&symbol, &answer, sizeof symbol);
    } else {
        driver_symbol(&symbol, name);
    }
    return symbol;
}

/* 64 live blocks; a random one is freed and replaced. */
#define ROW(name, allocation, of) \
    static __attribute__((noinline)) void rows_##name(void) \
    { \
        static void *live[64]; \
        uint32_t random = 1; \
        size_t i; \
        for (i = 0; i < host_pairs; i++) { \
            void **at = &live[(random = random * 1664525u + 1013904223u) >> 26]; \
            (void)ta_pool_free(of, *at); \
            *at = allocation; \
        } \
        for (i = 0; i < 64; i++) { \
            (void)ta_pool_free(of, live[i]); \
            live[i] = NULL; \
        } \
    }
#define EITHER (at - live < 32 ? STREAM(s) : STREAM(t))
ROW(small_host, ta_pool_alloc(host_pool, 4096, NULL), host_pool)
ROW(small_strict, ta_pool_alloc(strict_pool, 4096, NULL), strict_pool)
ROW(small_scopes, ta_pool_alloc(scopes_pool, 4096, NULL), scopes_pool)
ROW(small_stream, ta_pool_alloc_stream(strict_pool, 4096, STREAM(s), NULL), strict_pool)
ROW(small_two_streams, ta_pool_alloc_stream(strict_pool, 4096, EITHER, NULL), strict_pool)
ROW(small_capture, ta_pool_alloc_stream(strict_pool, 4096, STREAM(s), NULL), strict_pool)
ROW(small_two_captured, ta_pool_alloc_stream(strict_pool, 4096, EITHER, NULL), strict_pool)
ROW(large_host, ta_pool_alloc(host_pool, 1 << 20, NULL), host_pool)
ROW(large_strict, ta_pool_alloc(strict_pool, 1 << 20, NULL), strict_pool)
ROW(large_scopes, ta_pool_alloc(scopes_pool, 1 << 20, NULL), scopes_pool)
ROW(large_stream, ta_pool_alloc_stream(strict_pool, 1 << 20, STREAM(s), NULL), strict_pool)
ROW(large_two_streams, ta_pool_alloc_stream(strict_pool, 1 << 20, EITHER, NULL), strict_pool)
ROW(large_capture, ta_pool_alloc_stream(strict_pool, 1 << 20, STREAM(s), NULL), strict_pool)
ROW(large_two_captured, ta_pool_alloc_stream(strict_pool, 1 << 20, EITHER, NULL), strict_pool)

static const struct row {
    const char *name;
    void (*run)(void);
    int captured;
} host_rows[] = {
    {"host pool, 4 KiB", rows_small_host, 0}, {"strict", rows_small_strict, 0}, {"scopes only", rows_small_scopes, 0},
    {"strict, a stream", rows_small_stream, 0}, {"strict, two streams in turn", rows_small_two_streams, 0},
    {"in a capture", rows_small_capture, 1}, {"in a capture of two streams", rows_small_two_captured, 1},
    {"host pool, 1 MiB", rows_large_host, 0}, {"strict", rows_large_strict, 0}, {"scopes only", rows_large_scopes, 0},
    {"strict, a stream", rows_large_stream, 0}, {"strict, two streams in turn", rows_large_two_streams, 0},
    {"in a capture", rows_large_capture, 1}, {"in a capture of two streams", rows_large_two_captured, 1}
};
enum { HOST_ROWS = sizeof host_rows / sizeof host_rows[0], BATCHES = 11 };

static int compare_times(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* From now on the driver says this of every stream. */
static void say(int (*answer)(void *stream, int *status, uint64_t *id))
{
    told_device->query = told_device->cu.capture_info = answer;
}

/* One batch of a row, in a capture of its own where it wants one; ns for a pair. */
static double batch_of(const struct row *row)
{
    double start;
    captures += (uint64_t)row->captured;
    say(row->captured ? captured : none);
    if (row->captured && ta_capture_enter(graph_pool, STREAM(s)) != TA_OK) {
        stop("no scope");
    }
    start = cpu_ns();
    row->run();
    start = cpu_ns() - start;
    say(none);
    if (row->captured && ta_capture_leave(graph_pool, STREAM(s), 0, NULL) != TA_OK) {
        stop("no scope to leave");
    }
    return start / (double)host_pairs;
}

static ta_pool *pool_over(ta_backend backend, ta_capture_check check)
{
    ta_pool_desc options;
    ta_pool *made = NULL;
    memset(&options, 0, sizeof options);
    options.backend = backend;
    options.capture_check = check;
    if (ta_pool_create(&options, &made) != TA_OK) {
        stop("no pool");
    }
    return made;
}

static void host_cost(void)
{
    static double at[HOST_ROWS][BATCHES];
    ta_cuda_desc desc;
    ta_graph_pool_desc graph_desc;
    double host = 1, eager = 1;
    size_t r;
    int b;
    memset(&desc, 0, sizeof desc);
    memset(&graph_desc, 0, sizeof graph_desc);
    desc.resolve = without_question;
    if (ta_cuda_create(&desc, &told_device, NULL) != TA_OK) {
        stop("no device");
    }
    host_pool = pool_over(ta_backend_host(), TA_CAPTURE_STRICT);
    strict_pool = pool_over(ta_cuda_backend(told_device), TA_CAPTURE_STRICT);
    scopes_pool = pool_over(ta_cuda_backend(told_device), TA_CAPTURE_SCOPES_ONLY);
    graph_desc.pool = strict_pool;
    graph_desc.share_sequential = 1;
    if (ta_graph_pool_create(&graph_desc, &graph_pool) != TA_OK) {
        stop("no graph pool");
    }
    text("what a hit costs the host: pairs of alloc and free, %zu for each row\n", host_pairs * BATCHES);
    for (b = 0; b < BATCHES; b++) {
        for (r = 0; r < HOST_ROWS; r++) {
            at[r][b] = batch_of(&host_rows[r]);
        }
    }
    for (r = 0; r < HOST_ROWS; r++) {
        qsort(at[r], BATCHES, sizeof at[r][0], compare_times);
        host = r % (HOST_ROWS / 2) == 0 ? at[r][BATCHES / 2] : host;
        eager = strcmp(host_rows[r].name, "strict, a stream") == 0 ? at[r][BATCHES / 2] : eager;
        text("%30s %8.1f ns  %5.2f of %s\n", host_rows[r].name,
             put("host cost", r < HOST_ROWS / 2 ? 4096 : MIB, host_rows[r].name, at[r][BATCHES / 2], "ns"),
             at[r][BATCHES / 2] / (host_rows[r].captured ? eager : host),
             host_rows[r].captured ? "the same outside of it (strict, a stream)" : "the host pool's");
    }
    if (ta_graph_pool_destroy(graph_pool) != TA_OK || ta_pool_destroy(host_pool) != TA_OK || ta_pool_destroy(strict_pool) != TA_OK ||
        ta_pool_destroy(scopes_pool) != TA_OK || ta_cuda_destroy(told_device) != TA_OK) {
        stop("the pools cannot be closed");
    }
}

static void across_streams(void)
{
    ta_stats stats;
    double stolen, recorded;
    open_pool(TA_CUDA_DEVICE, TA_CAPTURE_STRICT);
    stolen = put("across streams", 4 * MIB, "stolen", measure(pair_steal, 4 * MIB, rounds / 10), UNIT);
    recorded = put("across streams", 4 * MIB, "used", measure(pair_recorded, 4 * MIB, rounds / 10), UNIT);
    (void)ta_pool_get_stats(pool, &stats);
    text("\nacross streams, 4 MiB        stolen %.1f    used on another one %.1f    (%llu steals)\n", stolen, recorded,
         (unsigned long long)stats.steal_count);
    close_pool();
}

/* ---- from 64 MiB to the end in steps of 64 MiB: in place, and by a larger block and a copy */
static double grow_in_place(size_t end)
{
    ta_dynamic_desc desc;
    ta_dynamic *dynamic = NULL;
    ta_shape_bounds bounds;
    ta_handle handle;
    ta_strategy exact = ta_strategy_exact();
    int64_t min = 0, most = (int64_t)end, dims;
    double start;
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    desc.strategy = exact;
    dims = (int64_t)(64 * MIB);
    if (ta_dynamic_create(&desc, &dynamic) != TA_OK ||
        ta_shape_bounds_init(&bounds, TA_U8, 1, &min, &dims, &most) != TA_OK ||
        ta_dynamic_alloc(dynamic, &bounds, &handle) != TA_OK) {
        stop("no tensor to grow");
    }
    start = now();
    for (dims += (int64_t)(64 * MIB); dims <= most; dims += (int64_t)(64 * MIB)) {
        if (ta_dynamic_resize(dynamic, handle, &dims, 1) != TA_OK) {
            stop("it does not grow");
        }
    }
    need_ok(cu.cuCtxSynchronize(), "cuCtxSynchronize");
    start = now() - start;
    (void)ta_dynamic_destroy(dynamic);
    (void)ta_cuda_trim(cuda);
    return start;
}

static double grow_by_copy(size_t end)
{
    CUdeviceptr from = 0, to = 0;
    size_t bytes = 64 * MIB;
    double start;
    need_ok(cu.cuMemAlloc_v2(&from, bytes), "cuMemAlloc");
    start = now();
    for (bytes += 64 * MIB; bytes <= end; bytes += 64 * MIB) {
        need_ok(cu.cuMemAlloc_v2(&to, bytes), "cuMemAlloc");
        need_ok(cu.cuMemcpyDtoDAsync_v2(to, from, bytes - 64 * MIB, NULL), "cuMemcpyDtoDAsync");
        need_ok(cu.cuStreamSynchronize(NULL), "cuStreamSynchronize");
        need_ok(cu.cuMemFree_v2(from), "cuMemFree");
        from = to;
    }
    need_ok(cu.cuCtxSynchronize(), "cuCtxSynchronize");
    start = now() - start;
    need_ok(cu.cuMemFree_v2(from), "cuMemFree");
    return start;
}

static void growth(size_t end)
{
    const double steps = (double)(end / (64 * MIB) - 1);
    open_pool(TA_CUDA_DEVICE, TA_CAPTURE_STRICT);
    text("\ngrowth to %zu MiB, a step of 64 MiB: in place %.1f    larger block and copy %.1f\n", end / MIB,
         put("growth", end, "in place", grow_in_place(end) / steps, UNIT),
         put("growth", end, "block and copy", grow_by_copy(end) / steps, UNIT));
    close_pool();
}

/* ---- a recorded trace, see replay.c */
enum { IDS = 1 << 17 };

static size_t replay_pass(FILE *file, void **at, size_t *sizes, size_t *events)
{
    char line[256], what;
    unsigned long long id, size;
    size_t i, live = 0, peak = 0;
    rewind(file);
    *events = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        size = 0;
        if (sscanf(line, "%c %llu %llu", &what, &id, &size) < 2 || id >= IDS) {
            continue;
        }
        if (what == 'a') {
            at[id] = ta_pool_alloc_stream(pool, (size_t)size, STREAM(s), NULL);
            sizes[id] = (size_t)size;
            live += (size_t)size;
            peak = live > peak ? live : peak;
            ++*events;
        } else if (what == 'f') {
            (void)ta_pool_free(pool, at[id]);
            at[id] = NULL;
            live -= sizes[id];
        }
    }
    for (i = 0; i < IDS; i++) {
        (void)ta_pool_free(pool, at[i]);
        at[i] = NULL;
    }
    return peak;
}

static void replay(const char *path)
{
    static void *at[IDS];
    static size_t sizes[IDS];
    FILE *file = fopen(path, "r");
    size_t events = 0, peak, i;
    double start, cold, best = 0;
    ta_stats stats;
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    if (file == NULL) {
        stop(path);
    }
    open_pool(TA_CUDA_DEVICE, TA_CAPTURE_STRICT);
    start = now();
    peak = replay_pass(file, at, sizes, &events);
    cold = (now() - start) / (double)events;
    for (i = 0; i < 3; i++) {
        start = now();
        (void)replay_pass(file, at, sizes, &events);
        start = (now() - start) / (double)events;
        best = i == 0 || start < best ? start : best;
    }
    (void)ta_pool_get_stats(pool, &stats);
    text("%-32s %10zu pairs, first pass %.3f, steady %.3f a pair (reading included), reserved / live %.3f"
         " (peak + %.2f MiB)\n", name, events, put("first pass", events, name, cold, UNIT),
         put("steady", events, name, best, UNIT),
         put("reserved / live", peak, name, (double)stats.peak_reserved_bytes / (double)peak, "ratio"),
         ((double)stats.peak_reserved_bytes - (double)peak) / (double)MIB);
    close_pool();
    fclose(file);
}

int main(int argc, char **argv)
{
    CUcontext context = NULL;
    CUmemPoolProps props;
    uint64_t keep = UINT64_MAX;
    char device[100] = "";
    int i = 1, version = 0, smoke = 0, host = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        smoke |= strcmp(argv[i], "--smoke") == 0;
        host |= strcmp(argv[i], "--host") == 0;
        csv |= strcmp(argv[i], "--csv") == 0;
        if (strcmp(argv[i], "--smoke") != 0 && strcmp(argv[i], "--host") != 0 && strcmp(argv[i], "--csv") != 0) {
            fprintf(stderr, "usage: cuda [--smoke] [--host | --csv] [file.trace ...]\n");
            return 2;
        }
    }
    if (!driver_load() || cu.cuInit(0) != CUDA_SUCCESS || cu.cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS) {
        printf("skipped: there is no CUDA device\n");
        return 77;
    }
    counts = fake.tafake_reset != NULL; /* else real, or played as if it were */
    rounds = smoke ? 100 : counts ? 1000 : rounds;
    if (counts) {
        (void)fake.tafake_reset("cap=8G;fill=0;sched=eager");
        need_ok(cu.cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
    }
    need_ok(cu.cuCtxSetCurrent(context), "cuCtxSetCurrent");
    need_ok(cu.cuStreamCreate(&s, 1), "cuStreamCreate");
    need_ok(cu.cuStreamCreate(&t, 1), "cuStreamCreate");
    if (host) {
        host_cost();
        return 0;
    }
    memset(&props, 0, sizeof props);
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    if (cu.cuMemAllocFromPoolAsync != NULL) {
        need_ok(cu.cuMemPoolCreate(&theirs, &props), "cuMemPoolCreate");
        need_ok(cu.cuMemPoolSetAttribute(theirs, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep), "cuMemPoolSetAttribute");
    }
    (void)cu.cuDeviceGetName(device, sizeof device, 0);
    (void)cu.cuDriverGetVersion(&version);
    printf("%s%s, driver interface %d: numbers are %s\n", csv ? "# bench/cuda.c --csv; " : "", device, version,
           counts ? "driver calls" : "nanoseconds");
    if (csv) {
        printf("what,bytes,who,value,unit\n");
    }
    hot();
    across_streams();
    growth(smoke ? 256 * MIB : counts ? 1024 * MIB : 16384 * MIB);
    host_pairs = smoke ? 100 : host_pairs;
    text("\n");
    host_cost();
    text("\n");
    for (; i < argc; i++) {
        replay(argv[i]);
    }
    return 0;
}
