/* tensoralloc.h 0.1.0 - memory for tensors: pool, arena, tensors that grow, backends - MIT OR Unlicense (at the end)

   CONTENTS (search for the tag)
     How to use it, options, words, picture ........ this comment
     [TA:CONFIG]       linkage, version, limits
     [TA:TYPES]        results, streams, devices, requests, buffers
     [TA:HOOKS]        callbacks: events, out of memory, walking
     [TA:TRACE]        tags: names for what code does; the trace: what happened, in a ring
     [TA:BACKEND-API]  where bytes come from; budgets; your own backend
     [TA:ALLOCATOR]    the one interface that every allocator implements
     [TA:POOL]         caches over a best-fit heap; the one most people use
     [TA:ARENA]        bump, mark, rewind, reset
     [TA:TENSOR]       dtypes, shapes, strides, a small tensor over a block
     [TA:DLPACK]       tensors for other libraries, and theirs
     [TA:DYNAMIC]      tensors with bounds that grow in place; sizes that are learned
     [TA:CUDA]         device and pinned memory through the driver
     [TA:GRAPH]        memory whose addresses live in CUDA graphs: capture scopes, graph pools
     [TA:STATS]        counters, buckets, reports, snapshots
     [TA:CPP]          opt-in, C++: handles that destroy themselves, std::pmr::memory_resource
     Implementation: [TA:PLATFORM] [TA:CHECKS] [TA:ATOMICS] [TA:MATH] [TA:WRITER] [TA:TRACE-IMPL] [TA:HOST] [TA:BUDGET]
     [TA:GUARD] [TA:BLOCKS] [TA:CUDA-IMPL] [TA:HEAP] [TA:SLOTS] [TA:POOL-IMPL] [TA:ARENA-IMPL] [TA:DIRECT]
     [TA:ALLOCATOR-IMPL] [TA:TENSOR-IMPL] [TA:PREDICT] [TA:DYNAMIC-IMPL] [TA:GRAPH-IMPL] [TA:TORCH] [TA:REPORT]
     [TA:SNAPSHOT]
     [TA:MANUAL]       how it works, threads, streams, failures, where the specified names live, versions, licences

   QUICK START
     // in exactly one source file
     #define TENSORALLOC_IMPLEMENTATION
     #include "tensoralloc.h"

     // anywhere
     #include "tensoralloc.h"
     ta_pool *pool;
     if (ta_pool_create(NULL, &pool) != TA_OK) { return 1; }     // host memory, thread-safe, no limit
     float *x = (float *)ta_pool_alloc(pool, 1024 * sizeof(float), NULL);
     ta_pool_free(pool, x);                                       // stays in the pool, ready for reuse
     ta_pool_destroy(pool);

     // a cache of tokens that grows in place up to its bounds: the pointer stays, nothing is copied
     int64_t now[2] = {512, 1024}, least[2] = {1, 1024}, most[2] = {32768, 1024};
     ta_shape_bounds bounds;
     ta_dynamic *dynamic;
     ta_handle cache;
     ta_shape_bounds_init(&bounds, TA_F16, 2, least, now, most);
     ta_dynamic_create(NULL, &dynamic);
     ta_dynamic_alloc(dynamic, &bounds, &cache);
     void *tokens = ta_dynamic_get_data(dynamic, cache);
     now[0] = 513;
     ta_dynamic_resize(dynamic, cache, now, 2);
     ta_dynamic_destroy(dynamic);                                 // tensors too

   TO GO ON
   Link with -pthread, nothing else. Ignore streams and pass 0: only device backends look at them. Read ta_pool_desc in
   [TA:POOL] (limits first), ta_tensor_create in [TA:TENSOR], and the manual.

   OPTIONS (all optional; "impl" = needed only where TENSORALLOC_IMPLEMENTATION is defined, "all" = the same everywhere)
     TENSORALLOC_IMPLEMENTATION    impl   compiles the implementation into this file
     TENSORALLOC_STATIC            impl   every function is static: define it with TENSORALLOC_IMPLEMENTATION in each
                                          file that includes the header; each gets its own copy
     TENSORALLOC_API               all    linkage of the public functions, e.g. __declspec(dllexport); default extern
     TENSORALLOC_CUDA              impl   compiles the CUDA backends and graph pools; the driver is loaded at run time
     TENSORALLOC_TORCH             impl   the functions of PyTorch's pluggable allocator; implies TENSORALLOC_CUDA
     TENSORALLOC_CUDA_LINK         impl   with it: the program is linked with the driver, nothing is loaded
     TENSORALLOC_CPP               all    where it is wanted, before the include: the C++ part [TA:CPP]
     TENSORALLOC_MALLOC_BACKEND    impl   the host backend uses malloc instead of mmap/VirtualAlloc
     TENSORALLOC_NO_THREADS        impl   no locks, no atomics, no thread caches; chosen by itself where there are no
                                          threads
     TENSORALLOC_DEBUG             impl   0..3: 1 asserts on bad arguments, 2 and invariants, 3 and a full check of
                                          single-threaded pools after each call that goes to the heap; default 0
     TENSORALLOC_CHECKED           impl   finds misuse, at a price: red zones, fills, freed blocks held back, leaks; see
                                          the manual. 2: memory that the host cannot reach is filled and read back, too
     TENSORALLOC_TRAP(result)      impl   with it: called after each report of misuse, e.g. abort(); default nothing
     TENSORALLOC_VALGRIND          impl   tells Valgrind which host memory of pools is free (needs valgrind/memcheck.h).
                                          AddressSanitizer is told without it: free and cached blocks are poisoned
     TENSORALLOC_ASSERT(x)         impl   default assert(x); used at TENSORALLOC_DEBUG >= 1 only
     TENSORALLOC_LOG(result, name) impl   called without a lock when an allocation fails, with the ta_result and the
                                          name of the allocator; in checked builds for each misuse, too, with a
                                          sentence that begins with that name; default nothing
     TENSORALLOC_MALLOC(size), TENSORALLOC_FREE(ptr)             impl   memory of objects and records; give both or none
     TENSORALLOC_LOAD_RELAXED and the others of [TA:ATOMICS]      impl   atomics, all or none
     TENSORALLOC_LOCK_TYPE, _LOCK_INIT(l), _LOCK_ACQUIRE(l), _LOCK_RELEASE(l)   impl   the short lock; all or none
     TENSORALLOC_THREAD_LOCAL      impl   storage class of thread slots; default __thread or its like
     TENSORALLOC_CLOCK_NS()        impl   monotonic time in ns for events; default the system's
     TENSORALLOC_WALL_CLOCK_NS()   impl   time in ns since 1970 for handles; default the system's

   WORDS (the same word means the same thing in code, documentation, statistics and tests)
     requested      bytes the caller asked for; kept in the block's record
     capacity       bytes usable behind the pointer; capacity >= requested
     in use         sum of the capacity of live blocks
     cached         bytes held free inside an allocator, ready for reuse without asking the backend
     reserved       in use + cached: memory taken from the backend and not yet returned; granularity included,
                    records not
     wasted         capacity - requested, over live blocks
     address range  virtual addresses set aside; costs no memory; never counted in reserved
     committed      the part of an address range that has memory behind it
     bucket         power-of-two size group as users see it: bucket i holds capacities in [64 * 2^i, 128 * 2^i)
     size class     a finer step inside a bucket; an implementation detail
     backend        where bytes come from: host pages, a fixed buffer, CUDA memory of several kinds, the user's own
     upstream       the allocator from which another allocator takes its memory
     budget         limit, and list of those who can give memory back, of one backend instance
     stream         an opaque 64-bit order of work; 0 is the default one; on the host everything is one stream
     home stream    the stream on which a block was allocated
     step           one iteration of the user's loop
     effective      bytes that the current shape of a tensor with bounds needs: what is requested for it
     headroom       capacity - effective
     handle         names one tensor with bounds; goes stale when it is freed
     site           a place in the program whose tensors learn together
     warm range     addresses of a freed tensor, with the memory behind them; cached
     capture        the recording of a stream's work, and of streams that wait for it, into a graph
     scope          while it is open a graph pool serves the allocations of a capture
     held           a block or range that graphs use: it stays in place, freed or not, until they are gone

   PICTURE (data goes down once and comes up once; a layer uses only what is below it)

      your program
      -----------------------------------------------------------------------------------
      ta_tensor      shape, dtype, strides over a block
      ta_dynamic     bounds -> address range + predictor: grows in place
      ta_graph_pool  a pool beside a pool, for what is allocated while a stream is captured
      ta_pool        thread caches over a heap            ta_arena   bump, mark, rewind
      ta_direct      one backend segment per block
      ---- ta_allocator: {vtable, self}; each of the above implements it -----------------
      heap           best fit with coalescing over growing address ranges     (private)
      blocks         records out of band, pointer -> record by a window map   (private)
      ta_budget      limit and reclaim, one per backend instance
      ta_backend     a table of functions: host, fixed buffer, an allocator, yours
      -----------------------------------------------------------------------------------
      operating system
*/
#ifndef TENSORALLOC_H
#define TENSORALLOC_H

/*=========================================================================================================
  [TA:CONFIG] linkage, version, limits
  =======================================================================================================*/
#include <stddef.h>
#include <stdint.h>

#define TENSORALLOC_VERSION_MAJOR 0
#define TENSORALLOC_VERSION_MINOR 1
#define TENSORALLOC_VERSION_PATCH 0
#define TENSORALLOC_VERSION \
    (TENSORALLOC_VERSION_MAJOR * 10000 + TENSORALLOC_VERSION_MINOR * 100 + TENSORALLOC_VERSION_PATCH)

#ifdef TENSORALLOC_STATIC
    #if defined(__GNUC__) || defined(__clang__)
        #define TENSORALLOC_DEF static __attribute__((unused))
    #else
        #define TENSORALLOC_DEF static
    #endif
#elif defined(TENSORALLOC_API)
    #define TENSORALLOC_DEF TENSORALLOC_API
#else
    #define TENSORALLOC_DEF extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The largest rank of shapes in this header. */
#define TA_RANK_MAX 16
/* Stands for "no limit" in byte and count options, where 0 means the default. */
#define TA_UNLIMITED ((size_t)-1)

/* Version of the compiled implementation, as TENSORALLOC_VERSION. Threads: any. Pure. */
TENSORALLOC_DEF int ta_version(void);

/*=========================================================================================================
  [TA:TYPES] results, streams, devices, requests, buffers
  =======================================================================================================*/

/* Every result with its text. TA_OK is 0, everything else is an error and leaves the state as it was. */
#define TA_RESULT_LIST(X) \
    X(TA_OK, "ok") \
    X(TA_ERROR_INVALID_ARGUMENT, "invalid argument") \
    X(TA_ERROR_INVALID_SIZE, "size is zero") \
    X(TA_ERROR_INVALID_ALIGNMENT, "alignment is not a power of two or too large") \
    X(TA_ERROR_OVERFLOW, "size arithmetic overflows") \
    X(TA_ERROR_OUT_OF_MEMORY, "the backend has no more memory") \
    X(TA_ERROR_LIMIT, "the limit of the budget is reached") \
    X(TA_ERROR_FRAGMENTED, "enough bytes are free, but not in one piece") \
    X(TA_ERROR_NOT_CACHED, "nothing cached fits, and only the cache was asked") \
    X(TA_ERROR_SEALED, "the allocator is sealed and the backend would be needed") \
    X(TA_ERROR_FOREIGN, "the pointer or buffer is not of this allocator") \
    X(TA_ERROR_INTERIOR, "the pointer points into a block, not at its start") \
    X(TA_ERROR_STALE, "the block was freed before") \
    X(TA_ERROR_SIZE_MISMATCH, "the size given back is not the size of the block") \
    X(TA_ERROR_WOULD_MOVE, "the block cannot be resized in place") \
    X(TA_ERROR_NOT_READY, "the work before the ticket is not finished") \
    X(TA_ERROR_BUSY, "the object is in use") \
    X(TA_ERROR_DISPOSED, "the allocator was disposed") \
    X(TA_ERROR_FORKED, "the allocator belongs to the parent process") \
    X(TA_ERROR_UNSUPPORTED, "the backend or allocator cannot do this") \
    X(TA_ERROR_UNAVAILABLE, "the backend is not available on this machine") \
    X(TA_ERROR_BACKEND, "the backend failed") \
    X(TA_ERROR_RECORDS, "no more memory or room for records") \
    X(TA_ERROR_CORRUPT, "a check found a broken invariant") \
    X(TA_ERROR_BOUNDS, "the bounds contradict themselves, or their maximum holds nothing") \
    X(TA_ERROR_SHAPE, "the shape is outside the bounds, or of another rank") \
    X(TA_ERROR_CAPTURE, "the stream is being captured into a graph") \
    X(TA_ERROR_OVERRUN, "bytes behind the block were written") \
    X(TA_ERROR_UNDERRUN, "bytes in front of the block were written") \
    X(TA_ERROR_USE_AFTER_FREE, "the block was written after it was freed") \
    X(TA_ERROR_LEAK, "a block was never freed") \
    X(TA_ERROR_NO_GRAPH_POOL, "no graph pool was given, or its scope was not entered")

typedef enum ta_result {
#define TA_RESULT_ENUM(name, text) name,
    TA_RESULT_LIST(TA_RESULT_ENUM)
#undef TA_RESULT_ENUM
    TA_RESULT_COUNT
} ta_result;

/* In every function, where nothing else is said: a NULL object, table or out pointer is TA_ERROR_INVALID_ARGUMENT;
   a call on an allocator may answer TA_ERROR_DISPOSED or _FORKED; on error nothing has changed, and created objects
   are NULL. Any thread may call, and only a call that needs the backend may block. Foreign, interior, stale and
   double frees are results and never assert. */

/* Text of a result, never NULL; "unknown result" for values that are none. Threads: any. Pure. */
TENSORALLOC_DEF const char *ta_result_text(ta_result result);

/* An order of work, opaque to this library; 0 is the default one. Only backends with TA_CAP_ORDERED look at it. */
typedef uint64_t ta_stream;

typedef enum ta_device_type { TA_DEVICE_HOST = 0, TA_DEVICE_CUDA = 1, TA_DEVICE_OTHER = 2 } ta_device_type;

/* Where memory lives. */
typedef struct ta_device {
    ta_device_type type;
    int32_t index; /* ordinal of the device; 0 for the host */
} ta_device;

/* Flags of a request. */
enum {
    TA_REQUEST_ZEROED = 1,        /* the bytes [0, size_bytes) read as zero */
    TA_REQUEST_CACHED_ONLY = 2,   /* never asks the backend; else TA_ERROR_NOT_CACHED */
    TA_REQUEST_WITHIN_BUDGET = 4  /* takes what the budget has left: nobody is asked to give back, no callback */
};

/* One request for memory. All-zero but for size_bytes is the usual one. */
typedef struct ta_request {
    size_t size_bytes;      /* > 0 */
    size_t alignment_bytes; /* power of two; 0: the backend's (64 on the host) */
    ta_stream stream;       /* home stream of the block; ignored by backends without order */
    const char *tag;        /* NULL, or a string that outlives the block, and the pool if a request to it may fail
                               (failures show tags, those of blocks that were in the way too): use literals */
    uint32_t flags;         /* TA_REQUEST_* */
    uint32_t reserved;      /* 0 */
} ta_request;

/* Names one block of one allocator. The generation changes when the block is freed, so copies go stale together. */
typedef struct ta_block_id {
    uint64_t owner;      /* id of the allocator */
    uint32_t index;      /* record of the block in its allocator */
    uint32_t generation; /* life of the record */
} ta_block_id;

/* A block with its sizes. Whether it is still valid is asked of its owner: ta_allocator_check_buffer. */
typedef struct ta_buffer {
    void *data;            /* device memory must not be dereferenced on the host */
    size_t size_bytes;     /* requested, exactly */
    size_t capacity_bytes; /* usable */
    ta_block_id id;
} ta_buffer;

typedef struct ta_stats ta_stats; /* [TA:STATS] */

/*=========================================================================================================
  [TA:HOOKS] callbacks. None of them is called with a lock held: each may allocate, free and trim on the allocator
  that calls it, and state is looked at afresh afterwards. Such calls raise events and call on_out_of_memory again: a
  callback that uses its own pool must guard against its own recursion (in on_out_of_memory allocate with
  TA_REQUEST_WITHIN_BUDGET: that never calls back). None may clear, dispose or destroy that allocator, throw or longjmp.
  =======================================================================================================*/

typedef enum ta_event_kind {
    TA_EVENT_ALLOC,   /* a block became live; hit tells whether the backend was needed */
    TA_EVENT_FREE,    /* a block was freed */
    TA_EVENT_RESIZE,  /* a live block changed its size in place */
    TA_EVENT_GROW,    /* size_bytes were taken from the backend */
    TA_EVENT_TRIM,    /* size_bytes went back to the backend */
    TA_EVENT_LIMIT,   /* the budget refused size_bytes */
    TA_EVENT_FAILURE, /* an allocation of size_bytes failed with result */
    TA_EVENT_STEP,    /* of a trace: ta_trace_step */
    TA_EVENT_MISUSE   /* TENSORALLOC_CHECKED: the program did what result says, with ptr */
} ta_event_kind;

typedef struct ta_event {
    ta_event_kind kind;
    ta_result result;      /* TA_EVENT_FAILURE, _MISUSE: why; else TA_OK */
    void *ptr;             /* the block, or NULL */
    size_t size_bytes;     /* requested bytes of blocks; bytes moved for grow, trim and limit */
    size_t capacity_bytes; /* capacity of the block, or 0 */
    ta_stream stream;
    const char *tag;
    const char *name;      /* of the allocator */
    uint64_t time_ns;      /* monotonic */
    int hit;               /* TA_EVENT_ALLOC: served without asking the backend */
    uint32_t thread;       /* small numbers that tell threads apart; out of a trace, else 0 */
} ta_event;

typedef void (*ta_event_fn)(void *user, const ta_event *event);

/* What stood in the way of an allocation, and what would have helped: verdict, its text, action, its text. The first
   that holds is told: memory that is there and only in the wrong place comes before memory that has to be found. */
#define TA_VERDICT_LIST(X) \
    X(TA_VERDICT_NONE, "nothing failed", TA_ACTION_NONE, "nothing") \
    X(TA_VERDICT_NOT_CACHED, "only the cache was asked", TA_ACTION_ASK_BACKEND, "ask without TA_REQUEST_CACHED_ONLY") \
    X(TA_VERDICT_SEALED, "the pool is sealed", TA_ACTION_UNSEAL, "unseal it, or let it see this size before") \
    X(TA_VERDICT_RECORDS, "there is no room for records", TA_ACTION_RAISE_RECORDS, "raise block_count_max") \
    X(TA_VERDICT_WAITING, "freed memory waits for streams", TA_ACTION_SYNCHRONIZE, "synchronize these streams") \
    X(TA_VERDICT_OWN_CACHE, "its own free pages were not to be touched", TA_ACTION_TRIM, "trim the allocator") \
    X(TA_VERDICT_SIBLINGS, "other allocators over the budget cache it", TA_ACTION_EMPTY_SIBLINGS, \
      "call ta_allocator_empty_cache on them, in the threads that use them") \
    X(TA_VERDICT_THREAD_CACHES, "threads cache it", TA_ACTION_FLUSH_THREADS, "call ta_pool_thread_flush in them") \
    X(TA_VERDICT_FRAGMENTED, "free memory is in pieces", TA_ACTION_FREE_BLOCKING, "free the blocks between them") \
    X(TA_VERDICT_GRAPHS, "graphs hold it", TA_ACTION_DESTROY_GRAPHS, \
      "destroy graphs that are not replayed any more, and trim their graph pools") \
    X(TA_VERDICT_CAPACITY, "capacity_bytes_max is reached", TA_ACTION_RAISE_CAPACITY, "raise capacity_bytes_max") \
    X(TA_VERDICT_LIMIT, "the limit of the budget is reached", TA_ACTION_RAISE_LIMIT, "raise the limit") \
    X(TA_VERDICT_OUTSIDE, "others than this budget have it", TA_ACTION_FREE_OUTSIDE, "free memory outside") \
    X(TA_VERDICT_FULL, "the backend has no more than this budget holds", TA_ACTION_FREE, "free blocks") \
    X(TA_VERDICT_BACKEND, "the backend refused and does not say why", TA_ACTION_LOOK_UP, "look up backend_code")

typedef enum ta_verdict {
#define TA_VERDICT_ENUM(verdict, text, action, action_text) verdict,
    TA_VERDICT_LIST(TA_VERDICT_ENUM)
#undef TA_VERDICT_ENUM
    TA_VERDICT_COUNT
} ta_verdict;

/* Each verdict has its action. */
typedef enum ta_action {
#define TA_ACTION_ENUM(verdict, text, action, action_text) action,
    TA_VERDICT_LIST(TA_ACTION_ENUM)
#undef TA_ACTION_ENUM
    TA_ACTION_COUNT
} ta_action;

/* Text of a verdict and of an action, never NULL; "unknown" for values that are none. Threads: any. Pure. */
TENSORALLOC_DEF const char *ta_verdict_text(ta_verdict verdict);
TENSORALLOC_DEF const char *ta_action_text(ta_action action);

/* Why an allocation failed. */
typedef struct ta_failure {
    ta_result result;           /* e.g. TA_ERROR_LIMIT, _FRAGMENTED, _OUT_OF_MEMORY, _SEALED, _NOT_CACHED */
    size_t requested_bytes;
    size_t alignment_bytes;
    ta_stream stream;
    const char *tag;
    size_t limit_bytes;         /* of the budget; TA_UNLIMITED when there is none */
    size_t budget_used_bytes;   /* reserved by all allocators over the budget */
    size_t reserved_bytes;      /* by this allocator */
    size_t in_use_bytes;        /* live blocks and what thread caches hold */
    size_t free_bytes;          /* free and committed in the heap; a bounded backend: all that is not in use */
    size_t largest_free_bytes;  /* in one piece */
    size_t pending_bytes;       /* freed, but work on other streams may still use them */
    int64_t backend_code;       /* the backend's own code (CUresult, yours); 0 if it tells none, as the host's */
    uint64_t count;             /* failures so far, this one included */
    ta_verdict verdict;
    ta_action action;
    size_t action_bytes;        /* to raise a limit or capacity_bytes_max: one that would do; else what is missing */
    /* for memory failures (limit, fragmented, out of memory, backend); else 0 */
    size_t thread_cached_bytes; /* in thread caches of this allocator */
    size_t sibling_reserved_bytes; /* by other allocators over the budget */
    size_t sibling_cached_bytes;   /* of that, what they could give back; single-threaded ones are not asked */
    size_t graph_bytes;         /* reserved by graph pools beside this pool (part of sibling_reserved_bytes), and freed
                                   blocks of this one that graphs use (part of pending_bytes) */
    size_t backend_free_bytes;  /* memory_info; TA_UNLIMITED: it does not say, or was not asked (limit) */
    size_t backend_total_bytes;
    size_t outside_bytes;       /* total - free - what the budget holds; 0 if not known */
    /* fragmented: the cheapest place for the request, once what lies there is freed */
    void *blocking_ptr;
    size_t blocking_span_bytes;
    size_t blocking_bytes;      /* of blocks in it that are not free */
    size_t blocking_count;
    const char *blocking_tag;   /* the tag with most of these bytes; NULL: blocks without one */
    size_t blocking_tag_bytes;
} ta_failure;

/* Called at the end of the ladder. Return nonzero after having freed something: the allocation is tried again,
   from the first rung. Return 0 to let it fail. */
typedef int (*ta_out_of_memory_fn)(void *user, const ta_failure *failure);

typedef enum ta_block_state {
    TA_BLOCK_LIVE,    /* held by the program */
    TA_BLOCK_CACHED,  /* in a thread cache */
    TA_BLOCK_FREE,    /* in the heap */
    TA_BLOCK_PENDING, /* freed, waiting for work on other streams */
    TA_BLOCK_BUSY     /* between the heap and the backend for a moment */
} ta_block_state;

/* One block as walks show it. */
typedef struct ta_block_info {
    void *ptr;
    size_t requested_bytes; /* 0 unless live */
    size_t capacity_bytes;
    ta_block_state state;
    ta_stream stream;
    const char *tag;
    ta_block_id id;
    size_t committed_bytes; /* the part of the capacity with memory behind it; less in trimmed free blocks */
} ta_block_info;

/* Return 0 to go on, anything else to stop the walk. */
typedef int (*ta_walk_fn)(void *user, const ta_block_info *block);

/* Takes the next text_bytes of a text that is being written (UTF-8, no final 0). Return TA_OK to go on; anything else
   ends the writing, and is what the writing function answers. */
typedef ta_result (*ta_write_fn)(void *user, const char *text, size_t text_bytes);

/* A ta_write_fn that appends to a FILE * of the C library, given as user. Errors: TA_ERROR_INVALID_ARGUMENT (NULL),
   _BACKEND (fwrite failed). What is still in the file's buffer fails or not when you close it. Threads: as the file.
   May block. */
TENSORALLOC_DEF ta_result ta_file_write(void *file, const char *text, size_t text_bytes);

/*=========================================================================================================
  [TA:TRACE] tags: names for what code does; the trace: what happened, in a ring. Seen in events, walks, snapshots.
  =======================================================================================================*/

#define TA_TAG_BYTES_MAX 255 /* a longer tag is cut there */

/* From now on, what this thread allocates belongs to the region of code called name: blocks take it as their tag where
   their request has none of its own, in tensors with bounds and in pools that ask for it (tag_blocks, trace or on_event
   in ta_pool_desc). Regions nest: "attention" inside of "forward" is the tag "forward/attention". NULL: no tag in here.
   Returns what ta_tag_end must be given; regions of one thread end in the opposite order. name is copied, once: texts
   of tags stay until ta_process_detach. Any bytes will do. There are 4096 of them; what comes later is called
   "other tags". Threads: any, each its own regions. Cost: a look-up; a lock and memory at the first sight of a name. */
TENSORALLOC_DEF const char *ta_tag_begin(const char *name);
/* Ends the region: previous is what its ta_tag_begin returned. */
TENSORALLOC_DEF void ta_tag_end(const char *previous);
/* The tag of this thread's innermost region, NULL outside of any. Stays valid until ta_process_detach. */
TENSORALLOC_DEF const char *ta_tag_get(void);

/* The last events of the pools that record into it (trace in ta_pool_desc): 8 rings of records of 64 bytes; a thread
   writes into one of them. Recording takes no lock and calls nobody; when a ring is full its oldest record goes, and is
   counted as dropped unless it was flushed before. What reads puts events into the order in which they happened: a free
   before the allocation that got its memory. */
typedef struct ta_trace ta_trace;

typedef struct ta_trace_desc {
    size_t event_count_max; /* records in each ring, rounded up to a power of two, 16 to 2^24; 0: 65536 (4096 without
                               virtual memory). Rings that nobody writes into take addresses only */
} ta_trace_desc;

typedef struct ta_trace_stats {
    uint64_t event_count;   /* recorded since creation */
    uint64_t flushed_count; /* of these: written by ta_trace_flush */
    uint64_t dropped_count; /* of these: gone before they were */
    size_t held_count;      /* of these: waiting to be */
    size_t record_bytes;    /* memory of the trace */
} ta_trace_stats;

typedef enum ta_trace_format {
    TA_TRACE_TEXT,  /* a line for each event, as bench/replay and bench/timeline read it; flushes may follow each other
                       in one file: "a ID SIZE [ALIGN]", "f ID", "s" for a step. The rest stands behind a # */
    TA_TRACE_CHROME /* one JSON document for Perfetto or chrome://tracing: live and reserved bytes of each allocator,
                       and live bytes of each tag, as counters; steps and failures as instants */
} ta_trace_format;

/* Makes a trace. desc may be NULL. Errors: TA_ERROR_INVALID_ARGUMENT, _RECORDS. Threads: any. */
TENSORALLOC_DEF ta_result ta_trace_create(const ta_trace_desc *desc, ta_trace **out);
/* NULL is TA_OK. TA_ERROR_BUSY while a pool that records into it is not disposed. No other thread may be in a call. */
TENSORALLOC_DEF ta_result ta_trace_destroy(ta_trace *trace);
/* Marks the end of a step. Threads: any. Never blocks. */
TENSORALLOC_DEF ta_result ta_trace_step(ta_trace *trace);
/* A ta_event_fn with the trace as user: records the events of other allocators (on_event of their descs, your
   own), in the order in which they tell them. Tag and name are copied at their first sight; names of allocators above
   the 63rd are "others". Threads: any. Never blocks. */
TENSORALLOC_DEF void ta_trace_event(void *trace, const ta_event *event);
/* Writes the events recorded so far that were not flushed before, oldest first, and takes them out. What a text calls
   a block (ID) holds over all flushes. A block resized in place is freed and allocated again in it; frees of blocks
   from before the trace, or whose allocation was dropped, are comments. A sink that fails ends the flush with its
   result: the lines it did not take come first in the next flush of that format; a JSON document is cut off there, and
   the next flush begins another. Errors: TA_ERROR_INVALID_ARGUMENT, _BUSY (another flush is in progress, or the sink
   calls), _RECORDS. Threads: any; others may record, also into the pool that the sink uses. Allocates records. */
TENSORALLOC_DEF ta_result ta_trace_flush(ta_trace *trace, ta_trace_format format, ta_write_fn write, void *user);
/* Calls fn for every event that the rings hold, oldest first, and leaves them in: what was flushed is seen as long as
   nothing came in its place. Others may record meanwhile. Errors: TA_ERROR_INVALID_ARGUMENT, _RECORDS (some may have
   been shown then). Threads: any. Allocates records. */
TENSORALLOC_DEF ta_result ta_trace_for_each(ta_trace *trace, ta_event_fn fn, void *user);
/* Forgets all events without writing them, and what is known of live blocks. Errors: TA_ERROR_BUSY (a flush). */
TENSORALLOC_DEF ta_result ta_trace_clear(ta_trace *trace);
/* Threads: any. Never blocks. */
TENSORALLOC_DEF ta_result ta_trace_get_stats(ta_trace *trace, ta_trace_stats *out);

/*=========================================================================================================
  [TA:BACKEND-API] where bytes come from
  =======================================================================================================*/

/* What a backend can do. The core never asks which backend it has, only this. */
enum {
    TA_CAP_SEGMENTS = 1,    /* alloc and free of whole segments */
    TA_CAP_RANGES = 2,      /* reserve, commit, decommit, release */
    TA_CAP_ORDERED = 4,     /* work is asynchronous: mark, is_done, wait, sync */
    TA_CAP_HOST_ACCESS = 8, /* the host may read and write the memory */
    TA_CAP_FRESH_ZERO = 16  /* fresh memory reads as zero */
};

/* Flags of reserve. */
enum { TA_RANGE_HUGE_PAGES = 1 /* a hint: huge pages are wanted where the range is committed */ };

typedef struct ta_backend_info {
    uint32_t caps;                /* TA_CAP_* */
    ta_device device;
    size_t granularity_bytes;     /* power of two: segments and commits are multiples of it */
    size_t alignment_bytes;       /* power of two, 64 <= it <= granularity_bytes: alignment and step of blocks
                                     (host 64, CUDA 256) */
    size_t range_bytes_max;       /* TA_CAP_RANGES: sum of all reservations, a multiple of granularity_bytes;
                                     0: plenty */
} ta_backend_info;

/* What a backend says about its last failure on this thread, or in general where it cannot tell threads apart. */
typedef struct ta_backend_error {
    int64_t code;      /* errno, GetLastError, CUresult; 0 if none */
    const char *text;  /* static string, never NULL */
} ta_backend_error;

/* The table. Every entry takes the backend's own pointer. Entries are called without any lock of this library,
   from any thread, several at once; a backend serialises itself where it must. ptr and sizes are multiples of
   granularity_bytes except in zero and copy. An entry that fails leaves everything as it was. "R" = required with
   the capability named, "O" = optional (NULL). An entry must not call into allocators above it. */
typedef struct ta_backend_vtable {
    uint32_t struct_bytes; /* sizeof(ta_backend_vtable): tells versions apart */
    const char *name;      /* static, e.g. "host" */

    /* R always. Fills *out; constant over the life of the backend. */
    void (*info)(void *self, ta_backend_info *out);

    /* R SEGMENTS. *out = size_bytes of memory, aligned to granularity_bytes.
       TA_ERROR_OUT_OF_MEMORY when there is none, TA_ERROR_BACKEND when something else is wrong. */
    ta_result (*alloc)(void *self, size_t size_bytes, void **out);
    /* R SEGMENTS. Gives back exactly what alloc returned. All work on it is finished. Errors: TA_ERROR_BACKEND. */
    ta_result (*free)(void *self, void *ptr, size_t size_bytes);

    /* R RANGES. *out = size_bytes of addresses with nothing behind them, aligned to alignment_bytes (a power of two
       >= granularity_bytes). Refusal is normal (TA_ERROR_OUT_OF_MEMORY): the caller asks for less. */
    ta_result (*reserve)(void *self, size_t size_bytes, size_t alignment_bytes, uint32_t flags, void **out);
    /* R RANGES. Gives back a whole reservation, committed or not. All work on it is finished. */
    ta_result (*release)(void *self, void *ptr, size_t size_bytes);
    /* R RANGES. Puts memory behind [ptr, ptr + size_bytes) of a reservation, none of which is committed.
       Contents are unspecified unless FRESH_ZERO. Errors: TA_ERROR_OUT_OF_MEMORY. */
    ta_result (*commit)(void *self, void *ptr, size_t size_bytes);
    /* R RANGES. Takes the memory away again; the addresses stay reserved. The span is wholly committed, perhaps by
       several commits, and all work on it is finished. */
    ta_result (*decommit)(void *self, void *ptr, size_t size_bytes);

    /* O RANGES. Where memory can be taken away only in pieces: shrinks the committed span to the whole pieces in it
       (*size_bytes 0: there is none). decommit is called with such spans then. */
    void (*pieces)(void *self, void **ptr, size_t *size_bytes);
    /* O RANGES. Memory comes at the first touch: the span, wholly committed, loses what is behind it and stays
       committed. A backend that has this commits without taking memory, so a whole range may be committed at once.
       Contents are lost. All work on the span is finished. */
    ta_result (*discard)(void *self, void *ptr, size_t size_bytes);

    /* O. Bytes the backend could still give, and its total; either may be TA_UNLIMITED when unknown. For the program;
       the allocators do not ask. Errors: TA_ERROR_BACKEND. */
    ta_result (*memory_info)(void *self, size_t *out_free_bytes, size_t *out_total_bytes);
    /* O. The last failure. */
    void (*last_error)(void *self, ta_backend_error *out);

    /* R ORDERED. *out = a ticket for all work on stream up to now. */
    ta_result (*mark)(void *self, ta_stream stream, uint64_t *out_ticket);
    /* R ORDERED. TA_OK when the work before the ticket is finished, TA_ERROR_NOT_READY when not, else an error. */
    ta_result (*is_done)(void *self, uint64_t ticket);
    /* R ORDERED. Later work on stream waits for the ticket; the host does not. */
    ta_result (*wait)(void *self, ta_stream stream, uint64_t ticket);
    /* R ORDERED. The host waits for the ticket. */
    ta_result (*sync)(void *self, uint64_t ticket);
    /* O ORDERED. The ticket is not used again. */
    void (*drop)(void *self, uint64_t ticket);
    /* O ORDERED. *out = a ticket for an event of the program's own, which is not used any more afterwards. */
    ta_result (*adopt)(void *self, uint64_t event, uint64_t *out_ticket);
    /* O ORDERED. *out = number of the capture into a graph that the stream is in, 0: none. May be called on every
       allocation. TA_ERROR_CAPTURE when the capture is broken, or the stream must not be used beside one. */
    ta_result (*capture)(void *self, ta_stream stream, uint64_t *out_id);

    /* O; R without HOST_ACCESS. Writes zeros on stream. Any ptr and size inside committed memory. */
    ta_result (*zero)(void *self, void *ptr, size_t size_bytes, ta_stream stream);
    /* O; R without HOST_ACCESS. Copies on stream; the spans do not overlap. TENSORALLOC_CHECKED=2 copies to host memory
       with it. */
    ta_result (*copy)(void *self, void *dst, const void *src, size_t size_bytes, ta_stream stream);

    /* O ORDERED. Ties a flag to a graph: *gone, 0 now, becomes 1 with an atomic store, on any thread, when the graph
       and all that was made of it are gone and no replay is in flight; until then it stays valid. On an error it is 1
       already or becomes so. TA_ERROR_UNSUPPORTED when the driver cannot tell. */
    ta_result (*attach)(void *self, uint64_t graph, uint32_t *gone);
} ta_backend_vtable;

/* A backend is a table and its pointer, passed by value. It must outlive every allocator and budget over it. */
typedef struct ta_backend {
    const ta_backend_vtable *vtable; /* NULL: the host backend */
    void *self;
} ta_backend;

/* Host memory: mmap on POSIX, VirtualAlloc on Windows (ranges and segments), malloc elsewhere or with
   TENSORALLOC_MALLOC_BACKEND (segments only). Has no state; nothing to destroy. Threads: any. */
TENSORALLOC_DEF ta_backend ta_backend_host(void);

/* A backend over the caller's memory, which is neither read nor written. One allocator at a time can reserve it.
   state: caller's storage that lives as long as the backend. buffer may be unaligned; up to 64 bytes at either
   end may be lost to alignment. Errors: TA_ERROR_INVALID_ARGUMENT (null, or less than 256 bytes), _OVERFLOW.
   Threads: one at a time for this call, any for the backend. Never blocks. */
typedef struct ta_fixed_buffer {
    uintptr_t base;
    size_t size_bytes;
    uint32_t reserved; /* 1 while an allocator has it */
    uint32_t padding;
} ta_fixed_buffer;
TENSORALLOC_DEF ta_result ta_backend_fixed(ta_fixed_buffer *state, void *buffer, size_t size_bytes, ta_backend *out);

/* Checks the table against its contract: required entries present for the capabilities, powers of two.
   TA_OK or TA_ERROR_INVALID_ARGUMENT. Every create function calls it. Threads: any. */
TENSORALLOC_DEF ta_result ta_backend_check(ta_backend backend);

/* A budget: limit and reclaim for all allocators over one backend instance. */
typedef struct ta_budget ta_budget;

typedef struct ta_budget_desc {
    ta_backend backend; /* zero: the host backend */
    size_t limit_bytes; /* of reserved memory, over all allocators together; 0: TA_UNLIMITED */
} ta_budget_desc;

typedef struct ta_budget_stats {
    size_t limit_bytes;         /* TA_UNLIMITED when there is none */
    size_t reserved_bytes;      /* exact at every moment; never above the limit */
    size_t peak_reserved_bytes; /* exact */
    size_t allocator_count;
} ta_budget_stats;

/* Makes a budget. desc may be NULL. The budget must outlive its allocators. On error *out is NULL.
   Errors: TA_ERROR_INVALID_ARGUMENT, TA_ERROR_RECORDS. Threads: any. */
TENSORALLOC_DEF ta_result ta_budget_create(const ta_budget_desc *desc, ta_budget **out);
/* Frees a budget; NULL is TA_OK. TA_ERROR_BUSY while allocators are over it. */
TENSORALLOC_DEF ta_result ta_budget_destroy(ta_budget *budget);
/* Changes the limit; TA_UNLIMITED lifts it, 0 is TA_ERROR_INVALID_ARGUMENT. Below what is reserved it stops growth and
   takes nothing away. Threads: any. */
TENSORALLOC_DEF ta_result ta_budget_set_limit(ta_budget *budget, size_t limit_bytes);
/* Reads the figures. Threads: any. */
TENSORALLOC_DEF ta_result ta_budget_get_stats(ta_budget *budget, ta_budget_stats *out);
/* The options in force: the backend, and the limit as it is now (TA_UNLIMITED: none). Threads: any. */
TENSORALLOC_DEF ta_result ta_budget_get_desc(ta_budget *budget, ta_budget_desc *out);

/*=========================================================================================================
  [TA:ALLOCATOR] the one interface, for code that takes any allocator (where you know that it is a pool or an arena,
  use the calls of its own). Functions ta_allocator_* call through the table and check their arguments.
  Contract (a test suite runs over every allocator and backend):
    - alloc gives exactly requested bytes or more, aligned as asked; size 0 is TA_ERROR_INVALID_SIZE.
    - free of NULL is TA_OK; of anything that is not a live block's start an error that changes nothing.
    - empty_cache leaves nothing cached that could go back; it is a no-op where there is no cache.
    - reserved = in use + cached, always.
    - after dispose everything but stats and destroy answers TA_ERROR_DISPOSED.
  =======================================================================================================*/

typedef struct ta_allocator_vtable {
    uint32_t struct_bytes; /* sizeof(ta_allocator_vtable) */
    const char *kind;      /* "pool", "arena", "direct", yours */
    /* NULL and *result (may be NULL) on failure. */
    void *(*alloc)(void *self, const ta_request *request, ta_result *result);
    /* Never moves. old_bytes: requested size, 0 if not known. Else TA_ERROR_WOULD_MOVE. */
    ta_result (*resize_in_place)(void *self, void *ptr, size_t old_bytes, size_t new_bytes);
    /* May move, but only where that is cheap (no copy of the bytes). Else NULL and TA_ERROR_WOULD_MOVE. */
    void *(*remap)(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result);
    /* size_bytes and alignment_bytes as requested, or 0 if not known. stream: where the block was used last. */
    ta_result (*free)(void *self, void *ptr, size_t size_bytes, size_t alignment_bytes, ta_stream stream);
    ta_result (*empty_cache)(void *self);
    /* Gives memory back until at most keep_bytes are cached, as far as whole pages allow. */
    ta_result (*trim)(void *self, size_t keep_bytes, size_t *out_released_bytes);
    ta_result (*stats)(void *self, ta_stats *out);
    ta_result (*device)(void *self, ta_device *out);
    ta_result (*dispose)(void *self);
    ta_result (*destroy)(void *self);
    /* What is known of the live block at ptr: sizes, id. Errors as free; out->id.owner is set then too. */
    ta_result (*describe)(void *self, const void *ptr, ta_block_info *out);
} ta_allocator_vtable;

/* An allocator is a table and its pointer, passed by value. */
typedef struct ta_allocator {
    const ta_allocator_vtable *vtable;
    void *self;
} ta_allocator;

/* Allocates. request->size_bytes > 0; alignment 0 or a power of two up to 1 GiB. NULL on failure, *result (optional)
   says why. Ownership: the caller's until freed. Threads: as the allocator. May block in the backend on a miss. */
TENSORALLOC_DEF void *ta_allocator_alloc(ta_allocator allocator, const ta_request *request, ta_result *result);
/* Frees. size_bytes and alignment_bytes: as requested, or 0 if not known; a wrong size is TA_ERROR_SIZE_MISMATCH,
   alignment is not looked at. stream: the one that used the block last, 0 on the host; others are announced with
   ta_pool_record_use. NULL is TA_OK. Errors: TA_ERROR_FOREIGN, _INTERIOR, _STALE, _SIZE_MISMATCH, _DISPOSED;
   nothing has changed then. */
TENSORALLOC_DEF ta_result ta_allocator_free(ta_allocator allocator, void *ptr, size_t size_bytes,
                                            size_t alignment_bytes, ta_stream stream);
/* Grows or shrinks a live block without moving it: requested becomes new_bytes (> 0). Else TA_ERROR_WOULD_MOVE. */
TENSORALLOC_DEF ta_result ta_allocator_resize_in_place(ta_allocator allocator, void *ptr, size_t old_bytes,
                                                       size_t new_bytes);
/* As resize_in_place, but may return another pointer where the move is cheap; ptr is gone then. NULL: nothing
   changed. */
TENSORALLOC_DEF void *ta_allocator_remap(ta_allocator allocator, void *ptr, size_t old_bytes, size_t new_bytes,
                                         ta_result *result);
/* Gives everything cached back to the backend or upstream, as far as whole pages allow. TA_OK without a cache. */
TENSORALLOC_DEF ta_result ta_allocator_empty_cache(ta_allocator allocator);
/* Gives memory back until at most keep_bytes are cached. out_released_bytes may be NULL. */
TENSORALLOC_DEF ta_result ta_allocator_trim(ta_allocator allocator, size_t keep_bytes, size_t *out_released_bytes);
/* Reads the statistics; also after dispose. */
TENSORALLOC_DEF ta_result ta_allocator_get_stats(ta_allocator allocator, ta_stats *out);
/* The device the memory is on. */
TENSORALLOC_DEF ta_result ta_allocator_get_device(ta_allocator allocator, ta_device *out);
/* Returns everything, live blocks too, to the backend. No other thread may be in a call. Statistics stay readable. */
TENSORALLOC_DEF ta_result ta_allocator_dispose(ta_allocator allocator);
/* Disposes if that has not happened, and frees the object. NULL self is TA_OK. */
TENSORALLOC_DEF ta_result ta_allocator_destroy(ta_allocator allocator);
/* What is known of a live block. Errors as ta_allocator_free. */
TENSORALLOC_DEF ta_result ta_allocator_describe(ta_allocator allocator, const void *ptr, ta_block_info *out);

/* Allocates into *out (all-zero on failure). */
TENSORALLOC_DEF ta_result ta_allocator_alloc_buffer(ta_allocator allocator, const ta_request *request,
                                                    ta_buffer *out);
/* TA_OK while the buffer is live here; TA_ERROR_STALE after it was freed, also through a copy; TA_ERROR_FOREIGN. */
TENSORALLOC_DEF ta_result ta_allocator_check_buffer(ta_allocator allocator, const ta_buffer *buffer);
/* Frees and clears *buffer. A zero buffer is TA_OK. Errors as check_buffer; nothing has changed then. */
TENSORALLOC_DEF ta_result ta_allocator_free_buffer(ta_allocator allocator, ta_buffer *buffer, ta_stream stream);

/* A host allocator as a backend (segments only): how an allocator becomes upstream of another. state: caller's
   storage that lives as long as the backend; the allocator must outlive it too. granularity_bytes: a power of two
   from 256 to 1 GiB; 0: 64 KiB. The upstream's streams are not used: segments are allocated and freed on stream 0
   with no work pending. A refusal of the upstream, its limit included, comes up as TA_ERROR_OUT_OF_MEMORY: ask the
   upstream why. Its callbacks must not use what stands above it. Errors: TA_ERROR_INVALID_ARGUMENT, _UNSUPPORTED
   (not on the host), _DISPOSED, _FORKED; *out is a backend then that can do nothing. */
typedef struct ta_upstream {
    ta_allocator allocator;
    size_t granularity_bytes;
} ta_upstream;
TENSORALLOC_DEF ta_result ta_backend_upstream(ta_upstream *state, ta_allocator allocator, size_t granularity_bytes,
                                              ta_backend *out);

/* Pass-through: each block is one segment of the backend and goes back at once. No cache: hits are 0. Blocks are
   rounded up to the backend's granularity. Thread-safe. For backends with SEGMENTS (else TA_ERROR_UNSUPPORTED). */
typedef struct ta_direct ta_direct;
typedef struct ta_direct_desc {
    ta_backend backend; /* zero: the host backend; ignored when budget is given */
    ta_budget *budget;  /* NULL: a private one */
    size_t limit_bytes; /* of the private budget; ignored when budget is given; 0: TA_UNLIMITED */
    const char *name;   /* copied, 31 bytes at most; NULL: "direct" */
    ta_event_fn on_event; /* NULL: none */
    void *on_event_user;
} ta_direct_desc;
/* Makes a direct allocator. desc may be NULL. On error *out is NULL: TA_ERROR_INVALID_ARGUMENT, _RECORDS,
   _UNSUPPORTED. */
TENSORALLOC_DEF ta_result ta_direct_create(const ta_direct_desc *desc, ta_direct **out);
/* Gives back all blocks, live ones too; NULL is TA_OK. No other thread may be in a call. */
TENSORALLOC_DEF ta_result ta_direct_destroy(ta_direct *direct);
/* The direct allocator as an allocator: its only calls. Alignment above the granularity takes a larger segment;
   what that adds counts as cached. */
TENSORALLOC_DEF ta_allocator ta_direct_allocator(ta_direct *direct);
/* The options in force: a 0 that stands for another value is replaced by it; also after dispose. limit_bytes means
   nothing when budget was given: ask ta_budget_get_stats. name points into the object. Threads: any. */
TENSORALLOC_DEF ta_result ta_direct_get_desc(ta_direct *direct, ta_direct_desc *out);
/* As ta_pool_reset_peaks. */
TENSORALLOC_DEF ta_result ta_direct_reset_peaks(ta_direct *direct);

/*=========================================================================================================
  [TA:POOL] caches over a heap
  =======================================================================================================*/

typedef struct ta_pool ta_pool;

typedef enum ta_huge_pages { TA_HUGE_PAGES_DEFAULT = 0, TA_HUGE_PAGES_ON = 1, TA_HUGE_PAGES_OFF = 2 } ta_huge_pages;

/* Memory that is allocated while a stream is captured into a graph is used at every replay: a pool must not give it. */
typedef enum ta_capture_check {
    TA_CAPTURE_STRICT = 0,     /* asks the driver at every allocation: a graph pool serves a capturing stream, or it is
                                  TA_ERROR_CAPTURE */
    TA_CAPTURE_SCOPES_ONLY = 1 /* asks when a thread comes to a stream first, and then not while no scope is open: a
                                  capture outside of one corrupts memory */
} ta_capture_check;

/* Options of a pool. All-zero is the default pool: host memory, thread-safe, unlimited. */
typedef struct ta_pool_desc {
    ta_backend backend;              /* zero: the host backend; ignored when budget is given */
    ta_budget *budget;               /* NULL: a private one over backend */
    size_t limit_bytes;              /* hard limit on reserved bytes of the private budget; 0: TA_UNLIMITED */
    size_t initial_bytes;            /* committed at creation, rounded up: 1/64 for blocks up to 1 KiB (at most
                                        1 MiB), 1/8 for middle ones (at most 8 MiB), the rest large; 0: none */
    size_t cached_bytes_max;         /* free bytes kept: above it whole pages go back, highest first; 0: TA_UNLIMITED */
    size_t buffers_per_bucket_max;   /* blocks kept uncoalesced per size class and thread; 0: TA_UNLIMITED */
    size_t slack_bytes_max;          /* a free block at most this much larger is handed out whole; 0: always split */
    size_t thread_cache_bytes;       /* what one thread may hold; 0: 2 MiB */
    size_t thread_cache_block_bytes; /* largest block that thread caches hold, 1 to 64 KiB; 0: 64 KiB */
    size_t range_bytes;              /* first range of addresses for large blocks, 5/16 as much more for smaller
                                        ones, less where addresses are scarce; more are chained when needed, each
                                        twice as large. 0: physical memory rounded up to a power of two, at most
                                        64 GiB (32 bits: 64 MiB), so that no number of pools takes the addresses
                                        from the rest of the program */
    size_t block_count_max;          /* records to reserve addresses for, at least 64; 0: 16 Mi (64 Ki without virtual
                                        memory, 128 Ki on 32 bits) */
    uint32_t classes_per_doubling;   /* of what thread caches hold: 1, 2, 4 or 8; 0: 8 */
    ta_huge_pages huge_pages;        /* default: on for blocks above 1 KiB */
    int disable_thread_caches;       /* every call goes to the heap */
    int disable_ranges;              /* segments even where the backend has ranges */
    int disable_stealing;            /* TA_CAP_ORDERED: never take a block from another stream with a wait */
    int single_threaded;             /* one thread at a time: no locks, peak in use is exact; siblings of
                                        its budget cannot make it give memory back */
    int zeroed;                      /* every allocation reads as zero, growth too; no thread caches then */
    ta_capture_check capture_check;  /* whether each allocation asks if its stream is being captured */
    const char *name;                /* copied, 31 bytes at most; NULL: "pool" */
    ta_event_fn on_event;            /* NULL: none. With it the pool shows every call and keeps no thread caches */
    void *on_event_user;
    ta_out_of_memory_fn on_out_of_memory; /* NULL: none */
    void *on_out_of_memory_user;
    ta_trace *trace;                 /* NULL: none. Records every call; thread caches stay. Must outlive the pool */
    int tag_blocks;                  /* blocks take the tag of the thread's region (ta_tag_begin), and tags of requests
                                        are copied; by itself with trace, but for the copies with on_event too */
} ta_pool_desc;

/* The configuration of the specification: 64 MiB cached at most, 8 buffers per bucket, power-of-two classes. */
TENSORALLOC_DEF ta_pool_desc ta_pool_desc_spec(void);

/* Makes a pool. desc may be NULL; it is copied. On error *out is NULL. Errors: TA_ERROR_INVALID_ARGUMENT, _RECORDS,
   _LIMIT, _OUT_OF_MEMORY (initial_bytes), _UNSUPPORTED (backend with neither ranges nor segments).
   Threads: any. Cost: a few system calls. */
TENSORALLOC_DEF ta_result ta_pool_create(const ta_pool_desc *desc, ta_pool **out);
/* Disposes and frees the pool; NULL is TA_OK. No other thread may be in a call or start one; threads that used it
   before may still be running or exit at any time. With TENSORALLOC_CHECKED it answers what it finds (manual, 9), and
   the pool is gone all the same; so do dispose and the other allocators. TA_ERROR_BUSY as ta_pool_dispose. */
TENSORALLOC_DEF ta_result ta_pool_destroy(ta_pool *pool);
/* Gives everything back, live blocks too (ordered backends: after their work). Afterwards get_stats, get_desc,
   get_failure, reset_peaks, ta_report, dispose and destroy still work, capacity_of and owns answer 0, and every
   other call answers TA_ERROR_DISPOSED. No other thread may be in a call. Disposing twice is TA_OK. TA_ERROR_BUSY, and
   nothing has changed: graph pools stand beside it, used or not, or graphs use its blocks. It is not done later by
   itself, since the driver says that a graph is gone where nothing may be freed; after the last one call it again. */
TENSORALLOC_DEF ta_result ta_pool_dispose(ta_pool *pool);
/* The pool as an allocator. */
TENSORALLOC_DEF ta_allocator ta_pool_allocator(ta_pool *pool);
/* The options in force: a 0 that stands for another value is replaced by it. limit_bytes means nothing when budget
   was given: ask ta_budget_get_stats. name points into the pool. Threads: any. */
TENSORALLOC_DEF ta_result ta_pool_get_desc(ta_pool *pool, ta_pool_desc *out);

/* Allocates size_bytes > 0, aligned to 64 bytes on the host. NULL on failure; result (optional) says why:
   TA_ERROR_INVALID_SIZE (0), _OVERFLOW, _LIMIT, _OUT_OF_MEMORY, _FRAGMENTED, _RECORDS, _SEALED, _BACKEND.
   Ownership: the caller's until ta_pool_free. Threads: any. Cost: a hit makes no system call; up to
   thread_cache_block_bytes it takes no lock. A miss may block in the backend. Systems that overcommit (Linux by
   default) grant host memory here and find it missing when it is touched: only a limit makes a host pool fail in
   time. */
TENSORALLOC_DEF void *ta_pool_alloc(ta_pool *pool, size_t size_bytes, ta_result *result);
/* As ta_pool_alloc with an alignment: a power of two up to 1 GiB. */
TENSORALLOC_DEF void *ta_pool_alloc_aligned(ta_pool *pool, size_t size_bytes, size_t alignment_bytes,
                                            ta_result *result);
/* count elements of element_bytes each; TA_ERROR_OVERFLOW when the product does not fit. */
TENSORALLOC_DEF void *ta_pool_alloc_array(ta_pool *pool, size_t count, size_t element_bytes, ta_result *result);
/* As ta_pool_alloc; the bytes read as zero. */
TENSORALLOC_DEF void *ta_pool_alloc_zeroed(ta_pool *pool, size_t size_bytes, ta_result *result);
/* The full entry point. */
TENSORALLOC_DEF void *ta_pool_alloc_request(ta_pool *pool, const ta_request *request, ta_result *result);
/* As ta_pool_alloc for a home stream other than the default one. */
TENSORALLOC_DEF void *ta_pool_alloc_stream(ta_pool *pool, size_t size_bytes, ta_stream stream, ta_result *result);
/* Typed allocation: float *x = TA_POOL_NEW(pool, float, 1024); */
#define TA_POOL_NEW(pool, type, count) ((type *)ta_pool_alloc_array((pool), (count), sizeof(type), NULL))

/* Frees a block; NULL is TA_OK. The size need not be known. Errors: TA_ERROR_FOREIGN (also what was never handed out,
   and what went back to the backend with its segment), _INTERIOR, _STALE (also what waits in a thread cache for its
   first use), _DISPOSED, _FORKED; nothing has changed then. Two threads freeing one block at the same moment are told
   apart for certain with TENSORALLOC_CHECKED. Threads: any, also another than the one that allocated. */
TENSORALLOC_DEF ta_result ta_pool_free(ta_pool *pool, void *ptr);
/* As ta_pool_free; size_bytes must be the requested size, else TA_ERROR_SIZE_MISMATCH. */
TENSORALLOC_DEF ta_result ta_pool_free_sized(ta_pool *pool, void *ptr, size_t size_bytes);
/* Frees all live blocks. No other thread may be in a call. Pointers and buffers from before are stale. O(blocks). */
TENSORALLOC_DEF ta_result ta_pool_clear(ta_pool *pool);

/* The buffer pool of the specification, under its names: get = cached or NULL (TA_ERROR_NOT_CACHED; counted as a
   failure), put = free with the requested size, back to the pool. get_or_alloc is ta_pool_alloc. put of what is not
   of this pool, or not at that alignment, is TA_ERROR_FOREIGN. Alignments: powers of two. Threads, cost: as alloc
   and free. */
TENSORALLOC_DEF void *ta_pool_get(ta_pool *pool, size_t size_bytes, ta_result *result);
TENSORALLOC_DEF void *ta_pool_get_aligned(ta_pool *pool, size_t size_bytes, size_t alignment_bytes,
                                          ta_result *result);
TENSORALLOC_DEF void *ta_pool_get_or_alloc(ta_pool *pool, size_t size_bytes, ta_result *result);
TENSORALLOC_DEF ta_result ta_pool_put(ta_pool *pool, void *ptr, size_t size_bytes);
TENSORALLOC_DEF ta_result ta_pool_put_aligned(ta_pool *pool, void *ptr, size_t size_bytes, size_t alignment_bytes);

/* Resizes a live block without moving it: requested becomes new_bytes (> 0). Shrinking always succeeds; it gives
   the tail back for blocks above thread_cache_block_bytes, down to that size, others keep their capacity. Growing
   may take memory from the backend. Errors, nothing has changed then: TA_ERROR_WOULD_MOVE, _INVALID_SIZE,
   _OVERFLOW, _INVALID_ARGUMENT (NULL), _FOREIGN, _INTERIOR, _STALE, _DISPOSED, _FORKED. Threads: any. */
TENSORALLOC_DEF ta_result ta_pool_resize_in_place(ta_pool *pool, void *ptr, size_t new_bytes);
/* In place, or a new block with min(old, new) bytes copied. NULL: nothing has changed, ptr is still valid.
   ptr NULL allocates; new_bytes 0 is TA_ERROR_INVALID_SIZE. The alignment is kept. */
TENSORALLOC_DEF void *ta_pool_realloc(ta_pool *pool, void *ptr, size_t new_bytes, ta_result *result);
/* Usable bytes of the live block at ptr; 0 if there is none. */
TENSORALLOC_DEF size_t ta_pool_capacity_of(ta_pool *pool, const void *ptr);
/* 1 if ptr is the start of a live block of this pool, else 0. */
TENSORALLOC_DEF int ta_pool_owns(ta_pool *pool, const void *ptr);
/* Sizes, state, stream, tag and id of the live block at ptr. */
TENSORALLOC_DEF ta_result ta_pool_describe(ta_pool *pool, const void *ptr, ta_block_info *out);
/* Work on stream uses the block: after free it is reused only when that work is finished. Home stream: nothing to do.
   Without TA_CAP_ORDERED it only checks ptr. Errors: TA_ERROR_FOREIGN, _INTERIOR, _STALE, _RECORDS, _CAPTURE (the
   stream is captured, and no graph pool serves it). Threads: any. Never waits. Cost: one question about captures, a
   short lock; the free of such a block records an event on each stream announced, and is TA_ERROR_BACKEND, with the
   block still live, where the driver refuses. */
TENSORALLOC_DEF ta_result ta_pool_record_use(ta_pool *pool, void *ptr, ta_stream stream);

/* Frees; the block is used again only when an event of the program's own (a CUevent cast to uint64_t, recorded after
   the last use) has happened. The event may be destroyed afterwards. It must not be recorded in a capture, but for
   blocks that this capture allocated: they wait for its end. Errors as ta_pool_free, and _UNSUPPORTED (a backend
   without order or events), _RECORDS, _BACKEND, _CAPTURE. Threads: any. Does not wait. Cost: a few driver calls. */
TENSORALLOC_DEF ta_result ta_pool_free_after(ta_pool *pool, void *ptr, uint64_t event);
/* The stream is about to be destroyed: call it before that, with no block of the stream in the caches of other
   threads. What it freed is ready for all streams when its work is done. 0 cannot be retired. Ordered backends only
   (else TA_OK). Errors: TA_ERROR_INVALID_ARGUMENT, _BACKEND, _RECORDS, _CAPTURE (it is being captured). Threads: any.
   Does not wait for its work. Cost: an event on the stream, a short lock; threads look their streams up anew. */
TENSORALLOC_DEF ta_result ta_pool_retire_stream(ta_pool *pool, ta_stream stream);

/* The calling thread's cache goes back to the heap. */
TENSORALLOC_DEF ta_result ta_pool_thread_flush(ta_pool *pool);
/* Flushes the calling thread's cache and gives all whole free pages back to the backend. What other threads' caches
   hold stays (at most thread_cache_bytes each). Ordered backends: waits for the work on freed blocks first. */
TENSORALLOC_DEF ta_result ta_pool_empty_cache(ta_pool *pool);
/* As empty_cache, but stops when at most keep_bytes are cached. out_released_bytes may be NULL. */
TENSORALLOC_DEF ta_result ta_pool_trim(ta_pool *pool, size_t keep_bytes, size_t *out_released_bytes);
/* sealed != 0: from now on an allocation that would need the backend fails with TA_ERROR_SEALED and is counted. */
TENSORALLOC_DEF ta_result ta_pool_seal(ta_pool *pool, int sealed);

/* Calls fn for each live block, in no promised order. fn sees a copy, taken up to 64 blocks ahead: a block that fn
   or another thread has freed since may still be shown, so ask ta_pool_describe before touching any but those known
   to be live. fn may free the block it is shown, and allocate. Returns TA_OK also when fn stopped the walk.
   Threads: any. O(blocks). */
TENSORALLOC_DEF ta_result ta_pool_for_each_live(ta_pool *pool, ta_walk_fn fn, void *user);
/* Calls fn for every block, by address within each range or segment: without calls in between they tile its used
   part (the committed, never used end of a range is no block, though it counts as cached). fn sees copies, as
   above. */
TENSORALLOC_DEF ta_result ta_pool_walk(ta_pool *pool, ta_walk_fn fn, void *user);
/* Checks every invariant of the pool; TA_OK or TA_ERROR_CORRUPT. No other thread may be in a call. O(blocks). */
TENSORALLOC_DEF ta_result ta_pool_check(ta_pool *pool);

/* Why the last failed allocation of this pool failed; all-zero if none did. Bad arguments leave it as it is, for the
   result says all. Threads: any. */
TENSORALLOC_DEF ta_result ta_pool_get_failure(ta_pool *pool, ta_failure *out);

/* Tells the library that this process is a fresh child of fork. From now on allocators of the parent answer
   TA_ERROR_FORKED, but single-threaded ones over host memory go on working, and so do new ones. Done for you where
   pthread_atfork exists. Call it yourself in the child after a bare clone that copies memory, never after vfork.
   Threads: the child's only one. Never blocks. */
TENSORALLOC_DEF void ta_after_fork_child(void);
/* Removes this copy's thread key and the texts of tags: call it before dlclose of the library that holds it, when no
   pool is left and no thread is in a region (ta_tag_begin). */
TENSORALLOC_DEF void ta_process_detach(void);

/*=========================================================================================================
  [TA:ARENA] bump allocation; everything freed together
  =======================================================================================================*/

typedef struct ta_arena ta_arena;

typedef struct ta_arena_desc {
    ta_backend backend;    /* zero: the host backend; ignored when budget is given */
    ta_budget *budget;     /* NULL: a private one over backend */
    size_t limit_bytes;    /* of the private budget; ignored when budget is given; 0: TA_UNLIMITED */
    size_t range_bytes;    /* first range of addresses; 0: as ta_pool_desc. Without ranges: ignored */
    size_t chunk_bytes;    /* without ranges: smallest segment; 0: 1 MiB. Segments double up to 64 MiB */
    int single_threaded;   /* one thread at a time: no lock */
    int zeroed;            /* every allocation reads as zero */
    const char *name;      /* copied, 31 bytes at most; NULL: "arena" */
    ta_event_fn on_event;  /* NULL: none. rewind and reset tell of each block that they free, the last one first */
    void *on_event_user;
} ta_arena_desc;

/* A place in an arena to go back to. */
typedef struct ta_arena_mark {
    uint64_t owner;
    uint32_t block_count;
    uint32_t epoch;
} ta_arena_mark;

/* Makes an arena. desc may be NULL. On error *out is NULL. Errors as ta_pool_create. */
TENSORALLOC_DEF ta_result ta_arena_create(const ta_arena_desc *desc, ta_arena **out);
/* Frees everything; NULL is TA_OK. */
TENSORALLOC_DEF ta_result ta_arena_destroy(ta_arena *arena);
/* The arena as an allocator: statistics, trim, dispose, free and resize are called through it. free is bookkeeping:
   bytes in the middle count as cached, but only the end, down to the latest mark, can be used again. */
TENSORALLOC_DEF ta_allocator ta_arena_allocator(ta_arena *arena);
/* Allocates at the end. NULL on failure, result (optional) says why: TA_ERROR_INVALID_SIZE, _OVERFLOW, _LIMIT,
   _OUT_OF_MEMORY, _RECORDS. Alignment: the backend's (64 on the host), or a power of two. Ownership: until free,
   rewind, reset or destroy. With ranges pointers never move and blocks lie one behind the other. Threads: any. May
   block in the backend. */
TENSORALLOC_DEF void *ta_arena_alloc(ta_arena *arena, size_t size_bytes, ta_result *result);
TENSORALLOC_DEF void *ta_arena_alloc_aligned(ta_arena *arena, size_t size_bytes, size_t alignment_bytes,
                                             ta_result *result);
TENSORALLOC_DEF void *ta_arena_alloc_array(ta_arena *arena, size_t count, size_t element_bytes, ta_result *result);
#define TA_ARENA_NEW(arena, type, count) ((type *)ta_arena_alloc_array((arena), (count), sizeof(type), NULL))
/* Marks the end; ta_arena_rewind frees everything allocated since. A mark is void after a rewind to an earlier one
   or a reset: TA_ERROR_STALE. Marks nest. */
TENSORALLOC_DEF ta_arena_mark ta_arena_get_mark(ta_arena *arena);
TENSORALLOC_DEF ta_result ta_arena_rewind(ta_arena *arena, ta_arena_mark mark);
/* Frees everything; keeps at most retain_bytes committed for reuse (TA_UNLIMITED: all of it, 0: nothing). Without
   ranges, segments are kept whole. */
TENSORALLOC_DEF ta_result ta_arena_reset(ta_arena *arena, size_t retain_bytes);
/* The options in force: a 0 that stands for another value is replaced by it; also after dispose. limit_bytes means
   nothing when budget was given: ask ta_budget_get_stats. name points into the object. Threads: any. */
TENSORALLOC_DEF ta_result ta_arena_get_desc(ta_arena *arena, ta_arena_desc *out);
/* As ta_pool_reset_peaks. */
TENSORALLOC_DEF ta_result ta_arena_reset_peaks(ta_arena *arena);

/*=========================================================================================================
  [TA:TENSOR] dtypes, shapes, strides
  =======================================================================================================*/

/* name, bytes */
#define TA_DTYPE_LIST(X) \
    X(F16, 2) X(BF16, 2) X(F32, 4) X(F64, 8) X(F8_E4M3, 1) X(F8_E5M2, 1) \
    X(I8, 1) X(I16, 2) X(I32, 4) X(I64, 8) X(U8, 1) X(U16, 2) X(U32, 4) X(U64, 8) X(BOOL, 1) X(C64, 8) X(C128, 16)

typedef enum ta_dtype {
#define TA_DTYPE_ENUM(name, bytes) TA_##name,
    TA_DTYPE_LIST(TA_DTYPE_ENUM)
#undef TA_DTYPE_ENUM
    TA_DTYPE_COUNT
} ta_dtype;

enum { TA_SIMD_256_BYTES = 32, TA_SIMD_512_BYTES = 64 }; /* alignments for vector loads */

/* Bytes of one element; 0 for values that are no dtype. Pure. */
TENSORALLOC_DEF size_t ta_dtype_size(ta_dtype dtype);
/* Natural alignment of one element (of its real part for complex ones); 0 for values that are no dtype. Pure. */
TENSORALLOC_DEF size_t ta_dtype_alignment(ta_dtype dtype);
/* Lower-case name, e.g. "f32"; "?" for values that are no dtype. Pure. */
TENSORALLOC_DEF const char *ta_dtype_name(ta_dtype dtype);

/* dims[rank], each >= 0; rank 0..TA_RANK_MAX. *out = product, 1 for rank 0, 0 if any dimension is 0.
   Errors: TA_ERROR_INVALID_ARGUMENT (null, rank, negative), TA_ERROR_OVERFLOW (the product of the nonzero ones too,
   so that the answer does not depend on their order). Pure. */
TENSORALLOC_DEF ta_result ta_shape_elements(const int64_t *dims, int rank, int64_t *out);
/* As ta_shape_elements, in bytes of dtype; overflow beyond PTRDIFF_MAX. Pure. */
TENSORALLOC_DEF ta_result ta_shape_bytes(const int64_t *dims, int rank, ta_dtype dtype, size_t *out);
/* strides[rank] in elements, row-major: the last dimension has stride 1; dimensions of 0 count as 1, so strides stay
   positive. Errors as ta_shape_elements. Pure. */
TENSORALLOC_DEF ta_result ta_strides_row_major(const int64_t *dims, int rank, int64_t *strides);
/* *out = sum index[i] * strides[i], in elements. Errors: TA_ERROR_INVALID_ARGUMENT (an index outside its dimension),
   TA_ERROR_OVERFLOW. Pure. */
TENSORALLOC_DEF ta_result ta_shape_offset(const int64_t *dims, const int64_t *strides, const int64_t *index,
                                          int rank, int64_t *out);

/* A tensor over a block of an allocator. Plain data; fields may be read freely. */
typedef struct ta_tensor {
    ta_buffer buffer;            /* zero for empty tensors */
    ta_allocator allocator;
    ta_dtype dtype;
    int rank;
    int64_t dims[TA_RANK_MAX];
    int64_t strides[TA_RANK_MAX]; /* in elements */
} ta_tensor;

/* Allocates a contiguous row-major tensor; alignment_bytes 0: the allocator's. A shape without elements takes no
   memory. Errors as ta_shape_bytes and alloc; *out is all-zero then. */
TENSORALLOC_DEF ta_result ta_tensor_create(ta_allocator allocator, ta_dtype dtype, const int64_t *dims, int rank,
                                           size_t alignment_bytes, ta_stream stream, ta_tensor *out);
/* Frees the block and clears *tensor; NULL and zero tensors are TA_OK. Errors as ta_allocator_free_buffer. */
TENSORALLOC_DEF ta_result ta_tensor_destroy(ta_tensor *tensor, ta_stream stream);
/* Address of the element at index[rank]; NULL if the index is outside. Not to be dereferenced for device memory. */
TENSORALLOC_DEF void *ta_tensor_at(const ta_tensor *tensor, const int64_t *index);
/* 1 if the strides are the row-major ones of the shape. Pure. */
TENSORALLOC_DEF int ta_tensor_is_contiguous(const ta_tensor *tensor);

/*=========================================================================================================
  [TA:DLPACK] tensors for other libraries, and theirs. The structs are those of DLPack: same layout, own names.
  =======================================================================================================*/

enum { TA_DLPACK_MAJOR = 1, TA_DLPACK_MINOR = 1 };
/* Flags of ta_dlpack_versioned. */
enum { TA_DLPACK_READ_ONLY = 1, TA_DLPACK_IS_COPIED = 2 };

typedef struct ta_dlpack_tensor {
    void *data;
    int32_t device_type; /* 1 host, 2 CUDA, 3 pinned by CUDA, 13 managed by CUDA */
    int32_t device_index;
    int32_t rank;
    uint8_t dtype_code;  /* 0 int, 1 unsigned, 2 float, 4 bfloat, 5 complex, 6 bool, 10 f8_e4m3, 12 f8_e5m2 */
    uint8_t dtype_bits;
    uint16_t dtype_lanes;
    int64_t *dims;
    int64_t *strides;    /* in elements; NULL: row-major */
    uint64_t byte_offset;
} ta_dlpack_tensor;

/* DLManagedTensor: what a capsule "dltensor" holds. */
typedef struct ta_dlpack {
    ta_dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct ta_dlpack *self);
} ta_dlpack;

/* DLManagedTensorVersioned: what a capsule "dltensor_versioned" holds. */
typedef struct ta_dlpack_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct ta_dlpack_versioned *self);
    uint64_t flags;
    ta_dlpack_tensor tensor;
} ta_dlpack_versioned;

/* Moves a tensor into an object for another library: *tensor is cleared, and the deleter destroys it on stream, on
   whatever thread calls it; the allocator must still be there. Errors, nothing has changed then:
   TA_ERROR_INVALID_ARGUMENT (zero tensors too), _UNSUPPORTED (a device that is neither host nor CUDA), _RECORDS.
   Threads: as the tensor. */
TENSORALLOC_DEF ta_result ta_dlpack_export(ta_tensor *tensor, ta_stream stream, ta_dlpack **out);
/* As export, with version 1.1 and no flags. */
TENSORALLOC_DEF ta_result ta_dlpack_export_versioned(ta_tensor *tensor, ta_stream stream, ta_dlpack_versioned **out);
/* Shows another library's tensor as *out, without an allocator: it borrows. Call the deleter of the object when you are
   done with it; ta_tensor_destroy refuses it. size_bytes spans what the strides reach; data stands at the first
   element, and strides may be negative (then buffer says nothing of what lies before). Errors, *out is zero then:
   TA_ERROR_INVALID_ARGUMENT (null, a negative rank or dimension), _UNSUPPORTED (dtype, lanes, device, rank above
   TA_RANK_MAX), _OVERFLOW. Pure. */
TENSORALLOC_DEF ta_result ta_dlpack_import(const ta_dlpack_tensor *tensor, ta_tensor *out);
/* The same; _UNSUPPORTED for another major version. Heed TA_DLPACK_READ_ONLY in its flags. */
TENSORALLOC_DEF ta_result ta_dlpack_import_versioned(const ta_dlpack_versioned *object, ta_tensor *out);

/*=========================================================================================================
  [TA:DYNAMIC] tensors with bounds that grow in place; sizes that are learned
  =======================================================================================================*/

#define TA_DIM_UNBOUNDED ((int64_t)-1) /* as a maximum: no bound */

/* A dimension that several bounds have in common ("batch", "tokens"), held once by the program. It must outlive the
   bounds and handles that name it. Read through ta_shape_bounds; changed by ta_symbol_set. */
typedef struct ta_symbol {
    const char *name; /* for people; may be NULL */
    int64_t min, expected, max; /* of the dimension, as in ta_shape_bounds */
} ta_symbol;

/* Sets the numbers; all bounds that use the symbol mean the new ones from now on, those of live handles too: a handle
   is held to them at its next call. 0 <= min <= expected <= max, max >= 1 or TA_DIM_UNBOUNDED; else TA_ERROR_BOUNDS.
   The name is left as it is: begin with a zeroed struct.
   Threads: no other thread may be in a call that uses the symbol. Pure otherwise. */
TENSORALLOC_DEF ta_result ta_symbol_set(ta_symbol *symbol, int64_t min, int64_t expected, int64_t max);

/* Bounds of a shape. Plain data: fill it by hand or with ta_shape_bounds_init. */
typedef struct ta_shape_bounds {
    ta_dtype dtype;
    int rank;
    int64_t min[TA_RANK_MAX];      /* 0 <= min <= expected <= max in each dimension */
    int64_t expected[TA_RANK_MAX];
    int64_t max[TA_RANK_MAX];      /* >= 1, or TA_DIM_UNBOUNDED */
    const ta_symbol *symbols[TA_RANK_MAX]; /* not NULL: the symbol's numbers count for this dimension instead */
} ta_shape_bounds;

/* Elements and bytes of the three shapes. An unbounded maximum has INT64_MAX elements and TA_UNLIMITED bytes. */
typedef struct ta_bounds_sizes {
    int64_t min_elements, expected_elements, max_elements;
    size_t min_bytes, expected_bytes, max_bytes;
} ta_bounds_sizes;

/* Fills *out, without symbols (where one is to count give 1, 1, 1 and set symbols[i] afterwards), and checks it as
   ta_shape_bounds_get_sizes does; on error *out is all-zero.
   min, expected, max: [rank]. Pure. */
TENSORALLOC_DEF ta_result ta_shape_bounds_init(ta_shape_bounds *out, ta_dtype dtype, int rank, const int64_t *min,
                                               const int64_t *expected, const int64_t *max);
/* Checks the bounds and computes their sizes. Errors: TA_ERROR_INVALID_ARGUMENT (NULL, rank, dtype, a negative
   dimension), TA_ERROR_BOUNDS (min > expected or expected > max somewhere, or a maximum of no elements),
   TA_ERROR_OVERFLOW (bytes beyond PTRDIFF_MAX). Pure. */
TENSORALLOC_DEF ta_result ta_shape_bounds_get_sizes(const ta_shape_bounds *bounds, ta_bounds_sizes *out);
/* TA_OK if dims[rank] is within the bounds; else TA_ERROR_SHAPE (also another rank), _INVALID_ARGUMENT (a negative
   dimension), or what get_sizes says of the bounds. Pure. */
TENSORALLOC_DEF ta_result ta_shape_bounds_contains(const ta_shape_bounds *bounds, const int64_t *dims, int rank);

/* What a strategy is asked about. All in bytes. */
typedef struct ta_strategy_input {
    size_t size_bytes;     /* needed now: the effective size of the shape that is asked for, or was used */
    size_t capacity_bytes; /* what the handle has; 0 when it is made */
    size_t start_bytes;    /* effective size when the handle was made */
    size_t min_bytes, expected_bytes, max_bytes; /* of the bounds; max TA_UNLIMITED: unbounded */
    uint32_t *own;         /* a word of the handle's own, zero at first, whoever shares the state; NULL: none */
    uint64_t use_count;    /* of the handle so far: 1 when it was made, 1 for each resize; not the one asked about */
    int in_range;          /* growth moves nothing and costs no more than the pages: an address range */
    int growing;           /* the handle was declared with TA_DYNAMIC_GROWING */
} ta_strategy_input;

#define TA_STRATEGY_STATE_BYTES 200

/* How much capacity a tensor gets. state: state_bytes of memory, zero at first, of one handle or of one site (which
   see), never used by two threads at once. Entries compute from their arguments: they are called without a lock, but
   with the handle and its site claimed, and must not call the allocator they work for (TA_ERROR_BUSY at best).
   Whatever they answer, capacity is at least the size needed and never above the declared maximum. */
typedef struct ta_strategy_vtable {
    uint32_t struct_bytes; /* sizeof(ta_strategy_vtable) */
    const char *name;
    size_t state_bytes;    /* at most TA_STRATEGY_STATE_BYTES */
    /* Capacity to have for in->size_bytes: when a handle is made, grows, or should_resize said yes. */
    size_t (*required_size)(const void *config, void *state, const ta_strategy_input *in);
    /* Nonzero: change the capacity although the size fits into it. NULL: never. */
    int (*should_resize)(const void *config, void *state, const ta_strategy_input *in);
    /* in->size_bytes was used: after each resize and ta_dynamic_observe; of growing handles instead when they are
       freed (and after ta_dynamic_observe). NULL: nothing. */
    void (*observe)(const void *config, void *state, const ta_strategy_input *in);
} ta_strategy_vtable;

/* A table and its settings (which must live as long as what uses them). */
typedef struct ta_strategy {
    const ta_strategy_vtable *vtable; /* NULL: the default of where it is given */
    const void *config;
} ta_strategy;

/* Settings of the predictive strategy; zero: the defaults; at most 4096 each. They say how many bytes held idle for one
   use a change of capacity is worth. */
typedef struct ta_predictive_config {
    uint32_t block_price;   /* of a block, in means of the sizes seen; 0: regulated, about 4 at first, such that 108
                               uses in 1000 change the capacity, or fewer (1 to 230) */
    uint32_t growing_price; /* of a growing block, in means of its sizes; 0: 16. What such blocks grow by is learned by
                               their size at the start, in four groups */
    uint32_t range_uses;    /* of a range: memory that fewer than one in so many uses needs goes back; 0: regulated,
                               about 7 at first, such that 0.106 of the bytes used are committed again, or fewer
                               (3 to 3500) */
} ta_predictive_config;

/* Settings of the specification's strategy; zero: its defaults. */
typedef struct ta_adaptive_config {
    double padding_factor;   /* first capacity = factor x expected size; 0: 1.2 */
    double growth_factor;    /* 0: 1.5 */
    double shrink_threshold; /* 0: 0.5 */
    uint32_t shrink_uses;    /* uses in a row below the threshold before it shrinks; 0: 8 */
    int disable_learning;    /* the expected size stays that of the bounds; else it is the mean of what is observed */
} ta_adaptive_config;

/* The strategies of this library. config, factor: NULL, or settings, read at each decision and never written, that live
   as long as what uses the strategy. Threads: any. Pure.
   predictive: learns the distribution of sizes; the default. A decision and an observation take some tens of ns. */
TENSORALLOC_DEF ta_strategy ta_strategy_predictive(const ta_predictive_config *config);
/* Exactly what is needed, at every resize. */
TENSORALLOC_DEF ta_strategy ta_strategy_exact(void);
/* factor x what is needed, when it grows; never shrinks. What is not above 1 counts as 1; NULL: 1.2. */
TENSORALLOC_DEF ta_strategy ta_strategy_padding(const double *factor);
/* AdaptivePaddingStrategy of the specification. */
TENSORALLOC_DEF ta_strategy ta_strategy_adaptive(const ta_adaptive_config *config);

/* An allocator of tensors with bounds. Each tensor whose maximum is large gets addresses for that maximum and memory
   for what it needs: it grows in place. Small ones are blocks of an upstream at full size, and what cannot have
   addresses of its own is a block that moves with a copy when it outgrows its capacity. */
typedef struct ta_dynamic ta_dynamic;

/* Names one tensor; plain data, copies go stale together. All-zero names none. */
typedef ta_block_id ta_handle;

typedef struct ta_dynamic_desc {
    ta_backend backend;          /* zero: the host backend; ignored when budget is given */
    ta_budget *budget;           /* NULL: a private one over backend */
    size_t limit_bytes;          /* of the private budget: hard limit on reserved bytes; 0: TA_UNLIMITED */
    size_t capacity_bytes_max;   /* sum of the capacities of all handles (MaxCapacity); 0: TA_UNLIMITED */
    ta_allocator upstream;       /* where tensors without a range come from; zero: a pool of its own over the budget.
                                    Given without budget and backend, everything comes from it. Must outlive this,
                                    and must not be cleared, reset or disposed while tensors live */
    size_t range_bytes_min;      /* least maximum that gets a range; 0: 64 KiB on the host, 8 MiB elsewhere */
    size_t range_bytes;          /* addresses reserved first, more are chained; 0: as ta_pool_desc */
    size_t unbounded_bytes;      /* addresses for an unbounded maximum; 0: physical memory rounded up to a power of
                                    two, at most 64 GiB, less where addresses are scarce */
    size_t cached_bytes_max;     /* what freed ranges keep warm; above it the oldest goes back; 0: TA_UNLIMITED */
    size_t handle_count_max;     /* records for tensors and warm ranges, and as many sites; 0: 1 Mi (fewer where
                                    addresses are scarce) */
    ta_strategy strategy;        /* of handles that bring none of their own; zero: predictive. Must outlive this */
    ta_huge_pages huge_pages;    /* of ranges: whole ones are committed then; default: off */
    int disable_ranges;          /* blocks only */
    int strict;                  /* a shape outside the bounds is TA_ERROR_SHAPE; else it is granted, but may move */
    int single_threaded;         /* one thread at a time: no locks */
    const char *name;            /* copied, 31 bytes at most; NULL: "dynamic" */
    ta_event_fn on_event;        /* NULL: none */
    void *on_event_user;
} ta_dynamic_desc;

/* Flags of a request for a handle, together with TA_REQUEST_ZEROED (bytes that come into the effective size read as
   zero) and TA_REQUEST_WITHIN_BUDGET. */
enum { TA_DYNAMIC_GROWING = 256 /* starts small and grows until it is freed (a cache of tokens): its growth is learned
                                   when it is freed, and matters only together with site */ };

typedef struct ta_dynamic_request {
    const ta_shape_bounds *bounds; /* copied */
    const int64_t *dims;           /* first shape; NULL: the expected one */
    size_t alignment_bytes;        /* power of two up to 1 GiB; 0: the backend's */
    uintptr_t site;                /* handles with the same number (not 0) learn together, also from those that are
                                      gone: one per place in the program. 0: this handle learns alone */
    ta_stream stream;              /* home stream */
    const char *tag;               /* NULL, or a string that outlives the handle */
    ta_strategy strategy;          /* zero: that of the site if others are there already, else the object's. Those of a
                                      site have one strategy: another is TA_ERROR_INVALID_ARGUMENT. Its settings must
                                      live as long as the handle, with a site as long as the object */
    uint32_t flags;                /* TA_DYNAMIC_GROWING, TA_REQUEST_ZEROED, TA_REQUEST_WITHIN_BUDGET */
    uint32_t reserved;             /* 0 */
} ta_dynamic_request;

/* What is known of a handle. */
typedef struct ta_handle_info {
    void *data;                  /* NULL only while an empty tensor has never had memory */
    size_t effective_bytes;      /* of the current shape: these are yours, and what a resize preserves */
    size_t capacity_bytes;       /* usable without a change of capacity; never above the declared maximum, or the
                                    effective size where that is larger */
    size_t in_place_bytes;       /* grows at least to this without moving, if memory is to be had */
    double utilization;          /* effective / capacity; 1 without capacity */
    int rank;
    int in_range;                /* has addresses of its own */
    int64_t dims[TA_RANK_MAX];   /* current shape */
    ta_shape_bounds bounds;
    uint64_t allocation_time_ns; /* wall clock, ns since 1970 */
    uint64_t use_count;          /* allocation and resizes */
    ta_stream stream;            /* home stream */
    const char *tag;
    ta_strategy strategy;        /* the one in force; zero for plain blocks */
} ta_handle_info;

/* Makes one. desc may be NULL; it is copied, what it points to is not. On error *out is NULL. Errors:
   TA_ERROR_INVALID_ARGUMENT, _RECORDS, _UNSUPPORTED (an upstream on a device without the backend whose copy moves its
   bytes). Ownership: the caller's until ta_dynamic_destroy. Threads: any. May block in the backend: records; addresses
   are reserved with the first tensor that wants some. */
TENSORALLOC_DEF ta_result ta_dynamic_create(const ta_dynamic_desc *desc, ta_dynamic **out);
/* Frees everything, live tensors too, when the work on them is finished; NULL is TA_OK. Handles, views and data are
   not to be used any more. Errors: TA_ERROR_FORKED. Threads: no other one may be in a call. May block in the backend.
   O(tensors). */
TENSORALLOC_DEF ta_result ta_dynamic_destroy(ta_dynamic *dynamic);
/* As an allocator: trim and empty_cache give back what freed ranges keep warm; dispose; and plain blocks, which are
   handles too (their id is the handle). Owns nothing: valid as long as the object. Pure. */
TENSORALLOC_DEF ta_allocator ta_dynamic_allocator(ta_dynamic *dynamic);
/* The options in force: a 0 that stands for another value is replaced by it. name points into the object. Threads:
   any. Pure. */
TENSORALLOC_DEF ta_result ta_dynamic_get_desc(ta_dynamic *dynamic, ta_dynamic_desc *out);

/* Makes a tensor of the expected shape. On error *out is all-zero. Errors: those of ta_shape_bounds_get_sizes,
   TA_ERROR_LIMIT (limit or capacity_bytes_max), _OUT_OF_MEMORY, _RECORDS, _SHAPE (first shape, when strict).
   Ownership: the caller's until ta_dynamic_free. Threads: any. May block in the backend; a warm range that has enough
   spares that. O(1), but for the pages. */
TENSORALLOC_DEF ta_result ta_dynamic_alloc(ta_dynamic *dynamic, const ta_shape_bounds *bounds, ta_handle *out);
/* The full entry point. As ta_dynamic_alloc; also TA_ERROR_INVALID_ARGUMENT (flags, strategy), _INVALID_ALIGNMENT,
   _BUSY (called from a strategy of this very site). */
TENSORALLOC_DEF ta_result ta_dynamic_alloc_request(ta_dynamic *dynamic, const ta_dynamic_request *request,
                                                   ta_handle *out);
/* Gives the tensor another shape of the same rank. Preserves the first min(old, new) effective bytes; in a row-major
   tensor those are whole elements in order, the same indices as before only if no dimension but the first changed.
   Within in_place_bytes nothing moves and nothing is copied; else the bytes are copied on the home stream. Errors,
   nothing has changed then: TA_ERROR_SHAPE (rank; outside the bounds when strict), _INVALID_ARGUMENT (negative),
   _OVERFLOW, _LIMIT, _OUT_OF_MEMORY, _BOUNDS (a symbol has changed), _STALE, _FOREIGN, _BUSY (called from a strategy
   of this very handle or site), _UNSUPPORTED (a plain block). Threads: any; two threads that resize one handle, or two
   of one site, do so one after the other. May block in the backend. O(1) where nothing moves, but for the pages. */
TENSORALLOC_DEF ta_result ta_dynamic_resize(ta_dynamic *dynamic, ta_handle handle, const int64_t *dims, int rank);
/* As ta_dynamic_resize, and says where the tensor is then: NULL on failure with *result (may be NULL itself), and with
   TA_OK for an empty tensor that never had memory. The address is that of this resize, whatever other threads do. */
TENSORALLOC_DEF void *ta_dynamic_resize_data(ta_dynamic *dynamic, ta_handle handle, const int64_t *dims, int rank,
                                             ta_result *result);
/* Frees the tensor; a zero handle is TA_OK. Its memory stays warm for tensors with similar bounds. Errors:
   TA_ERROR_STALE, _FOREIGN, _BUSY. Work on the home stream need not be finished, other streams are announced with
   ta_dynamic_record_use. Threads: any; of two that free one handle the second gets TA_ERROR_STALE. O(1); may block in
   the backend above cached_bytes_max. */
TENSORALLOC_DEF ta_result ta_dynamic_free(ta_dynamic *dynamic, ta_handle handle);
/* Tells that the tensor, or one like it, is used with this shape, without resizing it (UpdateExpectations): its
   strategy learns, capacity and figures stay. Errors: as ta_dynamic_resize, but for memory. Threads: any. Never blocks
   in the backend. O(1). */
TENSORALLOC_DEF ta_result ta_dynamic_observe(ta_dynamic *dynamic, ta_handle handle, const int64_t *dims, int rank);
/* Address of the tensor; NULL if the handle is stale or foreign, or the tensor never had memory. Valid until a resize
   that moves, or the free. Not to be dereferenced on the host for device memory. Threads: any. Pure. O(1). */
TENSORALLOC_DEF void *ta_dynamic_get_data(ta_dynamic *dynamic, ta_handle handle);
/* The tensor as it is now: address, shape, row-major strides, dtype, effective and capacity bytes. A view: it owns
   nothing and is not told of changes. The next resize makes its shape an old one, and its address too if that moves
   the tensor; after ta_dynamic_free nothing of it may be used, and ta_allocator_check_buffer on its buffer says so. An
   empty tensor has an all-zero buffer. ta_tensor_destroy on a view that is not empty frees the tensor. Errors:
   TA_ERROR_STALE, _FOREIGN, _UNSUPPORTED (a plain block); *out is all-zero then. Threads: any. Never blocks in the
   backend. */
TENSORALLOC_DEF ta_result ta_dynamic_get_tensor(ta_dynamic *dynamic, ta_handle handle, ta_tensor *out);
/* All that is known of a handle, as of one moment; *out is all-zero on error. Errors: TA_ERROR_STALE, _FOREIGN.
   Threads: any. Pure. O(1). */
TENSORALLOC_DEF ta_result ta_dynamic_get_handle(ta_dynamic *dynamic, ta_handle handle, ta_handle_info *out);
/* Asks whether a resize to this shape will move the tensor: TA_OK if it would stay where it is (memory permitting),
   TA_ERROR_WOULD_MOVE if it may have to be copied; errors as ta_dynamic_resize. Changes nothing, learns nothing.
   Threads: any; the answer holds until the next change of the tensor. Pure. O(1). */
TENSORALLOC_DEF ta_result ta_dynamic_will_fit_in_place(ta_dynamic *dynamic, ta_handle handle, const int64_t *dims,
                                                       int rank);
/* Work on stream uses the tensor: memory is taken away from it, and given to others after free, only when that work
   is finished. Home stream: nothing to do. Without TA_CAP_ORDERED it only checks the handle. Errors: TA_ERROR_STALE,
   _FOREIGN, _BUSY, _RECORDS, what the backend says. Threads: any. O(1). */
TENSORALLOC_DEF ta_result ta_dynamic_record_use(ta_dynamic *dynamic, ta_handle handle, ta_stream stream);

/* Whether tensors with these bounds would fit beside what is there. */
typedef struct ta_fit {
    size_t min_bytes, expected_bytes, max_bytes; /* together, rounded as they would be (small tensors have their
                                                    maximum at once); TA_UNLIMITED: unbounded */
    size_t available_bytes;                      /* by limit, capacity_bytes_max and backend, with what is cached and
                                                    the headroom of other tensors; TA_UNLIMITED where nobody knows:
                                                    ask an upstream of your own yourself */
    int fits_min, fits_expected, fits_max;
} ta_fit;
/* Asks before allocating. bounds[count]; symbols count as they are now. Errors as ta_shape_bounds_get_sizes of the
   first that is wrong; *out is all-zero then. Takes nothing and promises nothing: other threads may be faster. Threads:
   any. May ask the backend how much it has. O(count). */
TENSORALLOC_DEF ta_result ta_dynamic_would_fit(ta_dynamic *dynamic, const ta_shape_bounds *bounds, size_t count,
                                               ta_fit *out);

typedef struct ta_dynamic_stats {
    /* now */
    size_t handle_count;
    size_t effective_bytes;      /* of the current shapes */
    size_t capacity_bytes;
    size_t wasted_bytes;         /* capacity - effective over live handles */
    size_t cached_bytes;         /* committed, and in no handle's capacity */
    size_t peak_capacity_bytes;
    size_t peak_wasted_bytes;
    double average_utilization;  /* effective / capacity; 1 when there are none */
    /* cumulative */
    uint64_t allocation_count;
    uint64_t free_count;
    uint64_t resize_count;       /* ta_dynamic_resize that succeeded */
    uint64_t capacity_change_count; /* of those, the ones that changed the capacity */
    uint64_t allocated_bytes;    /* capacity: first ones and growth */
    uint64_t move_count;         /* resizes that copied */
    uint64_t moved_bytes;
    uint64_t committed_bytes;    /* memory put behind ranges */
    uint64_t decommitted_bytes;
    uint64_t warm_count;         /* handles that took over a warm range */
    uint64_t failure_count;
    /* prediction error, over all uses (allocations and resizes) */
    uint64_t use_count;
    uint64_t used_bytes;             /* effective */
    uint64_t over_allocated_bytes;   /* capacity - effective */
    uint64_t under_prediction_count; /* uses whose size did not fit into the capacity before; growing tensors in ranges
                                        need no prediction and do not count */
    uint64_t avoided_change_count;   /* uses with a new size that exact fit would have changed capacity for */
    double regret;                   /* over_allocated / used: what holding exactly the size would have saved */
} ta_dynamic_stats;

/* Reads the statistics, as of one moment; also after dispose. Errors: TA_ERROR_FORKED. Threads: any. Pure. O(1). */
TENSORALLOC_DEF ta_result ta_dynamic_get_stats(ta_dynamic *dynamic, ta_dynamic_stats *out);
/* Why the last allocation or resize that failed for want of memory or room failed; all-zero if none did. Its own pool's
   failures are told as that pool tells them. Threads: any. */
TENSORALLOC_DEF ta_result ta_dynamic_get_failure(ta_dynamic *dynamic, ta_failure *out);
/* AllocationStats as text, in the manner of ta_report. Threads: any. Pure. */
TENSORALLOC_DEF size_t ta_dynamic_report(ta_dynamic *dynamic, char *text, size_t text_bytes);

/*=========================================================================================================
  [TA:CUDA] NVIDIA GPUs and pinned host memory through the driver, which is loaded at run time: no toolkit, no -lcuda.
  Compile the implementation with TENSORALLOC_CUDA. A stream is a CUstream cast to ta_stream; 0 and 1 are the legacy
  default stream, 2 the per-thread one. That is another stream on each thread, under one name: the first thread that
  allocates on it with a ta_cuda is the only one that may; others get TA_ERROR_UNSUPPORTED (a pool with single_threaded
  and TA_CAPTURE_SCOPES_ONLY does not ask). What it freed there others can free, trim and destroy: the host waits for
  the device then. Give each thread a stream of its own instead.
  A driver does not live on in a child of fork: there whatever is over a ta_cuda, and all that follows, answers
  TA_ERROR_FORKED, and the driver is not called.
  =======================================================================================================*/

typedef struct ta_cuda ta_cuda;

typedef enum ta_cuda_kind {
    TA_CUDA_DEVICE = 0, /* ranges where driver and device have virtual memory management, else segments */
    TA_CUDA_RANGES,     /* addresses reserved, physical memory mapped as needed: grows in place */
    TA_CUDA_SEGMENTS,   /* cuMemAlloc: for legacy IPC, NCCL and GPUDirect peers that do not take mapped memory */
    TA_CUDA_ASYNC,      /* the driver's own pool as upstream */
    TA_CUDA_PINNED,     /* page-locked host memory that every device can reach */
    TA_CUDA_MANAGED     /* memory that migrates between host and device */
} ta_cuda_kind;

/* Gives the address of a driver function by its exact exported name, or NULL. */
typedef void *(*ta_cuda_resolve_fn)(void *user, const char *name);

typedef struct ta_cuda_desc {
    ta_cuda_kind kind;
    int32_t device_index;
    ta_cuda_resolve_fn resolve; /* NULL: libcuda.so.1 or nvcuda.dll is loaded (TENSORALLOC_CUDA_LINK: is linked) */
    void *resolve_user;
    size_t chunk_cache_bytes;   /* ranges: physical memory kept after it is unmapped, for the next commit; outside
                                   reserved; 0: 64 MiB */
    int exportable;             /* ranges: the program can export memory as a file descriptor, by the driver's
                                   cuMemRetainAllocationHandle and cuMemExportToShareableHandle: a chunk of at most
                                   32 MiB each */
    int disable_chunk_cache;    /* what is unmapped is released at once */
} ta_cuda_desc;

typedef struct ta_cuda_info {
    ta_cuda_kind kind;          /* in force */
    int driver_version;         /* e.g. 12040 */
    char device_name[64];
    size_t device_bytes;
    size_t granularity_bytes;
    size_t chunk_cached_bytes;  /* physical memory kept unmapped; not what the driver's own pool (async) keeps */
    int has_ranges, has_pools, has_stream_ids; /* of driver and device */
    int is_lost;                /* a sticky error or the end of the driver: nothing works any more, frees succeed */
    int64_t last_code;          /* CUresult of the last failure; 0: none */
} ta_cuda_info;

/* Opens a device, with nothing allocated and no context made before memory is needed. desc may be NULL. On error
   *out is NULL. Errors: TA_ERROR_UNAVAILABLE (no driver, a driver too old, no such device, compiled without
   TENSORALLOC_CUDA: *why, optional, says it; a static string), _UNSUPPORTED (the kind, exportable), _RECORDS,
   _INVALID_ARGUMENT. Threads: any. Blocks: the driver is loaded and initialised, at first perhaps for seconds. */
TENSORALLOC_DEF ta_result ta_cuda_create(const ta_cuda_desc *desc, ta_cuda **out, const char **why);
/* Closes it; NULL is TA_OK. No allocator may be over it. Never call it at process exit: just leave. Errors, it is
   still there then: TA_ERROR_BUSY (an allocator holds addresses), _BACKEND (the driver refused to take something).
   No other thread may be in a call with it. Blocks as long as the driver takes to free what is kept; freeing may wait
   for the device, so not while a stream of it is captured. Cost: a driver call for each event and each chunk kept. */
TENSORALLOC_DEF ta_result ta_cuda_destroy(ta_cuda *cuda);
/* The backend: for ta_pool_desc, ta_arena_desc, ta_dynamic_desc, ta_budget_desc; any number of them, as long as cuda
   lives. NULL: a backend over which nothing can be created. Threads: any. Pure. */
TENSORALLOC_DEF ta_backend ta_cuda_backend(ta_cuda *cuda);
/* What is known of it. Errors: TA_ERROR_INVALID_ARGUMENT, _UNAVAILABLE (compiled without TENSORALLOC_CUDA). Threads:
   any, during captures too. Never blocks. Cost: two questions to the driver. */
TENSORALLOC_DEF ta_result ta_cuda_get_info(ta_cuda *cuda, ta_cuda_info *out);
/* Releases physical memory that is kept unmapped (async: what the driver's own pool keeps). Pools do so themselves
   before memory is said to have run out. TA_ERROR_BACKEND: the driver did not take all of it; the rest stays. Threads:
   any, during captures too. Blocks as long as the driver takes, for no work. Cost: a driver call for each chunk; none
   where nothing is kept. */
TENSORALLOC_DEF ta_result ta_cuda_trim(ta_cuda *cuda);
/* Page-locks memory of the caller, [ptr, ptr + size_bytes), so that devices reach it; unregister with the same ptr
   before it is freed, when no work uses it. Any kind of ta_cuda will do, and it does not count it. Errors, nothing has
   changed then: TA_ERROR_BACKEND, _OUT_OF_MEMORY, _BUSY (registered already), _FOREIGN (is not), _INVALID_ARGUMENT.
   Threads: any, for different memory, during captures too. Blocks: the driver pins each page, and may wait for the
   device. Cost: grows with the pages; keep what is used again registered. */
TENSORALLOC_DEF ta_result ta_cuda_register(ta_cuda *cuda, void *ptr, size_t size_bytes);
TENSORALLOC_DEF ta_result ta_cuda_unregister(ta_cuda *cuda, void *ptr);

/* With TENSORALLOC_TORCH, which implies TENSORALLOC_CUDA: the two functions that torch.cuda.memory's
   CUDAPluggableAllocator asks for, over one pool for each device that lives as long as the process. alloc answers NULL
   on failure, and always without the define; size 0 is NULL, and so is a stream in a capture. Make the library with
     cc -shared -fPIC -O2 -DTENSORALLOC_IMPLEMENTATION -DTENSORALLOC_TORCH -x c tensoralloc.h -o libta.so -pthread
   Threads: any. Blocking, cost: as ta_pool_alloc_stream and ta_allocator_free; the first call for a device opens it. */
TENSORALLOC_DEF void *ta_torch_alloc(ptrdiff_t size_bytes, int device_index, void *stream);
TENSORALLOC_DEF void ta_torch_free(void *ptr, ptrdiff_t size_bytes, int device_index, void *stream);

/*=========================================================================================================
  [TA:GRAPH] memory whose addresses live in CUDA graphs. Compile the implementation with TENSORALLOC_CUDA. Works over
  any backend with TA_CAP_ORDERED and `capture`; only ta_graph_pool_attach needs `attach` too.

  A capture writes addresses into a graph, and every replay uses them again. So what is allocated while a stream is
  captured must come from memory that nothing else gets while the graph lives: a graph pool. It stands beside a pool
  and shares its backend and budget. While a scope is open the pool serves that capture's allocations from it:

      ta_capture_enter(graph_pool, s)
      begin capture of s                    ta_pool_alloc_stream(pool, n, s)  -->  graph pool
        work, allocations, forks            ta_pool_alloc_stream(pool, n, t)  -->  graph pool, if t joined the capture
      end capture of s                      ta_pool_alloc_stream(pool, n, u)  -->  pool: nobody captures u
      ta_capture_leave(graph_pool, s, 0, &report)
      ta_graph_pool_attach(graph_pool, graph)        now the memory lives as long as the graph and its executables

  Routing is by the capture that a stream is in, so forked streams need no word, and other threads and streams go on
  with eager memory. Freeing is by the owner of the block, at any time, through the pool: ta_pool_free knows. What a
  capture frees it may have again on the same stream; when it is over, all captures into this graph pool may.
  A capture without a scope is TA_ERROR_CAPTURE; so is one whose scope was left before its end, from then on.

  Unless said otherwise, any thread may make any of these calls, while captures are open too: none of them breaks a
  capture. They take the lock of the graph pools beside a pool. attach makes a few driver calls, retain none. Those
  that look for graphs that are gone (create, destroy, release, trim, get_stats, the end of the last scope) end what
  these held, and give back the memory of graph pools that the program has destroyed: that waits for the work on their
  streams.
  =======================================================================================================*/

typedef struct ta_graph_pool ta_graph_pool;

typedef struct ta_graph_pool_desc {
    ta_pool *pool;        /* whose captured streams it serves; it stands beside it and must go before it. Not NULL */
    size_t initial_bytes; /* as ta_graph_pool_reserve; 0: none */
    size_t range_bytes;   /* first range of addresses, more are chained; 0: a quarter of the pool's */
    int share_sequential; /* several graphs use the same memory in turn: you order their replays one after the other, on
                             one stream or with events, and read what one left before the next runs */
    const char *name;     /* copied, 31 bytes at most; NULL: "graph" */
} ta_graph_pool_desc;

/* Makes a graph pool. On error *out is NULL. Errors: TA_ERROR_INVALID_ARGUMENT, _RECORDS, _UNSUPPORTED (a backend
   without order or `capture`), _LIMIT, _OUT_OF_MEMORY (initial_bytes), _UNAVAILABLE (compiled without
   TENSORALLOC_CUDA: so do all functions of this section). Threads: any. Cost: a few driver calls, none in a capture. */
TENSORALLOC_DEF ta_result ta_graph_pool_create(const ta_graph_pool_desc *desc, ta_graph_pool **out);
/* Ends the program's use; NULL is TA_OK. Its memory goes back once no graph refers to it (attached, or retained):
   at this call, or a later one that looks (trim of the pool, growth, any call of this section); blocks that are still
   live go with it. Waits for the work on its streams. Errors, nothing has changed then: TA_ERROR_BUSY (a scope is
   open), _FORKED. */
TENSORALLOC_DEF ta_result ta_graph_pool_destroy(ta_graph_pool *graph_pool);
/* As an allocator: alloc is ta_graph_pool_alloc; trim and empty_cache are ta_graph_pool_trim; destroy is
   ta_graph_pool_destroy, as is dispose but for the object, which destroy frees after that. What its blocks are freed
   with may also be the pool, and is where they may outlive a call of ta_graph_pool_destroy: this one is not to be used
   after it. */
TENSORALLOC_DEF ta_allocator ta_graph_pool_allocator(ta_graph_pool *graph_pool);
/* Allocates from it, in its scope or outside of any capture (inputs and outputs of graphs): then, while there are
   graphs, only memory that none of them has had, so that no replay writes into it. A block that graphs use is freed
   when they are gone. Alignment: 256 on CUDA
   devices, or a power of two up to 1 GiB. Errors as ta_pool_alloc, and TA_ERROR_CAPTURE (another scope's capture). */
TENSORALLOC_DEF void *ta_graph_pool_alloc(ta_graph_pool *graph_pool, const ta_request *request, ta_result *result);

/* Takes memory until size_bytes are reserved in all, from the beginning of its range, so that a capture need not grow:
   give it the reserve_bytes of a report. Exact with ranges: what does not fit into the first one, of range_bytes, is
   taken in one piece beside it, and what the first one has that was never used goes back for that (not while a scope is
   open: then there may be more in all). Segments may fall otherwise the second time.
   Errors: TA_ERROR_LIMIT, _OUT_OF_MEMORY; what was there stays. May block. */
TENSORALLOC_DEF ta_result ta_graph_pool_reserve(ta_graph_pool *graph_pool, size_t size_bytes);
/* Frees all blocks and lets go of what is held, for a new capture: call it when nothing will be replayed that used
   them, and the replays that did are over: it does not wait for them. The memory stays. TA_ERROR_BUSY while a scope
   is open or graphs refer to it. No other thread may be in a call with this graph pool. */
TENSORALLOC_DEF ta_result ta_graph_pool_reset(ta_graph_pool *graph_pool);
/* Gives whole free pages back, after the work on its streams. TA_ERROR_BUSY while graphs may use them: since a capture
   succeeded neither its graphs are gone nor was there a reset; or a scope is open. Other threads may free blocks
   meanwhile: these stay until their work is done. */
TENSORALLOC_DEF ta_result ta_graph_pool_trim(ta_graph_pool *graph_pool);

/* Ties the memory, and what is held, to a graph (a CUgraph cast to uint64_t) and all that is made of it: until the last
   executable is destroyed and its last replay is finished. Call it once for each graph, after the capture, before or
   after its scope is left, and before the graph is instantiated. Errors: TA_ERROR_UNSUPPORTED (a driver before
   11.3: retain and release by hand), _BACKEND, _RECORDS. */
TENSORALLOC_DEF ta_result ta_graph_pool_attach(ta_graph_pool *graph_pool, uint64_t graph);
/* The same by hand: release when the graph and its executables are destroyed and their replays finished.
   TA_ERROR_INVALID_ARGUMENT: released more often than retained; TA_ERROR_FORKED. */
TENSORALLOC_DEF ta_result ta_graph_pool_retain(ta_graph_pool *graph_pool);
TENSORALLOC_DEF ta_result ta_graph_pool_release(ta_graph_pool *graph_pool);
/* A block of an ordered pool (the pool's, that of another graph pool, pinned memory's) is used by graphs: freed or
   not, nobody else gets it while they live; that pool cannot be disposed until then (TA_ERROR_BUSY). In a scope
   ta_pool_record_use with a captured stream does the same, as does freeing a block whose home stream, or the stream
   named, is captured. What an earlier use on a stream that is captured now has to wait for is asked after the capture.
   A hold is for the graphs there are and for the next capture that succeeds, and ends when all of these are gone, or
   with reset or destroy; one that is made in a scope, and there alone, ends with a scope that failed too. Twice is
   once, and counts anew. Errors: TA_ERROR_FOREIGN, _INTERIOR, _STALE, _RECORDS, _UNSUPPORTED (without order, or on
   another device). */
TENSORALLOC_DEF ta_result ta_graph_pool_hold(ta_graph_pool *graph_pool, ta_pool *pool, void *ptr);
/* A tensor with bounds is used by graphs: until they are gone it may grow in place, but keeps its address and its
   memory. A smaller shape, the strategy, trim and reclaim take nothing from it; what would move it is
   TA_ERROR_WOULD_MOVE; freed, its range waits. Replays use the sizes that were captured. `dynamic` cannot be
   disposed until then (TA_ERROR_BUSY). Errors: TA_ERROR_STALE, _FOREIGN, _RECORDS, _UNSUPPORTED (without order, on
   another device, or a block of an upstream of the program's). */
TENSORALLOC_DEF ta_result ta_graph_pool_hold_handle(ta_graph_pool *graph_pool, ta_dynamic *dynamic, ta_handle handle);

/* Figures of memory; ta_allocator_get_stats has all of them for each pool and graph pool. */
typedef struct ta_memory_share {
    size_t reserved_bytes;
    size_t in_use_bytes;
    size_t peak_reserved_bytes;    /* of several graph pools: the sum of their peaks */
    size_t peak_in_use_upper_bytes;
    size_t block_count;            /* live */
} ta_memory_share;

typedef struct ta_graph_pool_stats {
    ta_memory_share memory;     /* of the graph pool alone */
    size_t graph_count;         /* attached and not gone */
    size_t retain_count;
    size_t scope_count;         /* open */
    size_t held_count;          /* blocks and handles */
    uint64_t capture_count;     /* scopes left after success */
    uint64_t failed_count;      /* scopes left after failure */
    int is_referenced;          /* graphs may replay: trim and automatic reclaim take nothing */
} ta_graph_pool_stats;
/* Reads the statistics, after a look for graphs that are gone: what they held is held no more, and graph pools that
   were destroyed may go, for which it waits. Threads: any. */
TENSORALLOC_DEF ta_result ta_graph_pool_get_stats(ta_graph_pool *graph_pool, ta_graph_pool_stats *out);

/* What a scope needed. */
typedef struct ta_capture_report {
    uint64_t capture;            /* number of the capture; 0: none was seen */
    size_t reserve_bytes;        /* for ta_graph_pool_reserve: with it the same capture does not grow */
    size_t peak_in_use_bytes;
    size_t in_use_bytes;         /* left live */
    size_t live_count;
    uint64_t allocation_count;
    uint64_t allocated_bytes;    /* requested */
    uint64_t deallocation_count;
    uint64_t growth_count;       /* allocations that had to ask the backend */
    size_t grown_bytes;          /* what it gave */
    size_t held_count;           /* blocks of others that the capture uses */
    uint64_t failure_count;      /* allocations that failed */
    size_t missing_bytes;        /* the last of them wanted so much more than reserve_bytes */
} ta_capture_report;

/* Opens a scope: the stream's capture, begun already or to begin next, is served by the graph pool. Scopes nest: the
   newest counts, and the one before counts again when it is left. Never begins a capture. Errors: TA_ERROR_BUSY (the
   graph pool has a scope on another stream; or, without share_sequential, graphs may still use what it holds: reset
   first, or destroy them), TA_ERROR_CAPTURE (the stream's capture is broken), _RECORDS. Threads: any. Asks for the
   state of the capture, and whether eager work on blocks of the graph pool that were freed outside of captures is done;
   makes no other driver call. */
TENSORALLOC_DEF ta_result ta_capture_enter(ta_graph_pool *graph_pool, ta_stream stream);
/* Closes the newest scope of the graph pool on the stream, after the end of the capture. One that went well leaves a
   graph, and the graph pool is in use until that was attached, or reset; but where no capture was seen and nothing is
   held, nothing has happened. Blocks that are live then are from now on as those allocated outside of captures; with
   share_sequential the next capture has them as soon as they are freed: eager work on them, too, comes before the next
   replay. failed: the capture has come to nothing, and all blocks allocated in this scope are freed; those of a scope
   around it are not. Said before the end of the capture, that may still become a graph: the graph pool is then in use
   as after success. report may be NULL. Errors:
   TA_ERROR_NO_GRAPH_POOL (no such scope). No other driver call than to ask for the state of the capture, while any
   capture of the pool is open. */
TENSORALLOC_DEF ta_result ta_capture_leave(ta_graph_pool *graph_pool, ta_stream stream, int failed,
                                           ta_capture_report *report);

/* A scope in words, for ta_with_graph_pool. */
typedef struct ta_capture_scope {
    ta_graph_pool *graph_pool;
    ta_stream stream;
    ta_capture_report *report; /* filled in at the end; NULL: none */
} ta_capture_scope;
/* Calls fn(user) with the scope open and closes it on every path: as failed, if fn answers anything but TA_OK. fn
   begins the capture of the stream and ends it, both, whatever happens in between; then it answers.
   Returns what fn answered, or why the scope could not be opened (then fn is not called). fn must not throw. */
TENSORALLOC_DEF ta_result ta_with_graph_pool(const ta_capture_scope *scope, ta_result (*fn)(void *user), void *user);

/* The interface of the specification, as wrappers: the graph pool of a pool (NULL: none), and graph mode for a stream:
   on opens a scope of that graph pool, off closes the scope that on has opened, as one that went well: a capture that
   can fail is better left by ta_capture_leave, or followed by ta_graph_pool_reset. On and off without a capture between
   them do nothing. The property may change while a mode
   is on or blocks are live: each goes back where it came from. Errors: TA_ERROR_NO_GRAPH_POOL (on without a graph pool,
   off without on), those of ta_capture_enter, _INVALID_ARGUMENT (a graph pool of another pool). */
TENSORALLOC_DEF ta_result ta_pool_set_graph_pool(ta_pool *pool, ta_graph_pool *graph_pool);
TENSORALLOC_DEF ta_graph_pool *ta_pool_get_graph_pool(ta_pool *pool);
TENSORALLOC_DEF ta_result ta_pool_set_graph_mode(ta_pool *pool, ta_stream stream, int enabled);
/* Both at once: graph_pool becomes the graph pool of the pool, and graph mode is on for the stream. On error neither
   has changed. Errors: those of the two; graph_pool NULL is TA_ERROR_NO_GRAPH_POOL. */
TENSORALLOC_DEF ta_result ta_pool_configure_for_graph(ta_pool *pool, ta_graph_pool *graph_pool, ta_stream stream);
/* 1 if a scope is open on the stream, else 0. */
TENSORALLOC_DEF int ta_pool_is_graph_mode(ta_pool *pool, ta_stream stream);

/* Memory of a pool and of the graph pools beside it, each figure for itself, whatever mode is on. */
typedef struct ta_memory_usage {
    ta_memory_share base, graph;
    size_t graph_pool_count;
    int is_graph_mode;             /* a scope is open on some stream */
} ta_memory_usage;
/* Reads them. Threads: any. */
TENSORALLOC_DEF ta_result ta_pool_get_memory_usage(ta_pool *pool, ta_memory_usage *out);
/* In the manner of ta_report: "Memory: 1.50 MB, Blocks: 3, GraphMode: true": what is in use, base and graph together,
   in units of 1024 x 1024 bytes. */
TENSORALLOC_DEF size_t ta_memory_usage_report(const ta_memory_usage *usage, char *text, size_t text_bytes);

/* Makes *out as the tensor is, shape, strides, dtype and size of its block, in memory of the graph pool. The contents
   are not copied; the tensor stays as it is. Ownership: *out is the caller's, for ta_tensor_destroy, before or after
   ta_graph_pool_destroy; its allocator is the pool's. Once the memory has gone back, with the last graph of a graph
   pool that was destroyed, ta_tensor_destroy answers TA_ERROR_FOREIGN, as for any block that is gone. Errors as
   ta_graph_pool_alloc; *out is all-zero then. */
TENSORALLOC_DEF ta_result ta_tensor_with_graph_memory(const ta_tensor *tensor, ta_graph_pool *graph_pool,
                                                      ta_stream stream, ta_tensor *out);

typedef enum ta_graph_compatible {
    TA_GRAPH_PIN = 0,         /* the block stays where it is, held by the graph pool: inputs, weights */
    TA_GRAPH_COPY = 1,        /* moves into the graph pool now, before the capture begins */
    TA_GRAPH_COPY_RECORDED = 2 /* the same in a capture: each replay copies the old place again, which is held */
} ta_graph_compatible;
/* Makes graphs able to use the tensor: its address stays good as long as they live. Pin: the tensor stays the
   program's, and may be destroyed at any time: its memory waits for the graphs. Copy: all bytes of its block, so that
   strides stay what they are, are copied on the stream; the old block is freed after that, the tensor owns the new one.
   Nothing to do where it lies in the graph pool already, or is empty. Errors, nothing has changed then: those of
   ta_graph_pool_hold and ta_graph_pool_alloc, TA_ERROR_CAPTURE (copy on a captured stream), _UNSUPPORTED (pin: not a
   tensor of a pool or of ta_dynamic; copy: another device). */
TENSORALLOC_DEF ta_result ta_tensor_ensure_graph_compatible(ta_tensor *tensor, ta_graph_pool *graph_pool,
                                                            ta_stream stream, ta_graph_compatible how);
/* 1 if that was done and is in force: the tensor lies in the graph pool, or is held by it, or is empty; else 0. Asks
   no driver. Cost: a look at everything that the graph pool holds. */
TENSORALLOC_DEF int ta_tensor_is_graph_compatible(const ta_tensor *tensor, ta_graph_pool *graph_pool);

/*=========================================================================================================
  [TA:STATS] counters, buckets, reports, snapshots. Counters are exact when no call is in progress.
  =======================================================================================================*/

struct ta_stats {
    /* now */
    size_t requested_bytes;      /* of live blocks */
    size_t in_use_bytes;         /* capacity of live blocks */
    size_t cached_bytes;
    size_t reserved_bytes;       /* = in use + cached; exact at every moment */
    size_t wasted_bytes;         /* capacity - requested of live blocks */
    size_t live_count;
    size_t thread_cached_bytes;  /* the part of cached that thread caches hold */
    size_t pending_bytes;        /* the part of cached that waits for other streams */
    size_t address_range_bytes;  /* reserved addresses; no memory */
    size_t record_bytes;         /* bookkeeping: records, maps, thread caches, objects; outside reserved */
    /* peaks since creation or ta_pool_reset_peaks, ta_arena_reset_peaks, ta_direct_reset_peaks */
    size_t peak_reserved_bytes;  /* exact; of ta_dynamic over a budget that others share: an upper bound */
    size_t peak_in_use_upper_bytes; /* exact for single-threaded allocators; else thread caches count as in use */
    /* cumulative, never less than before; bytes are requested bytes: what a block gains or loses in place counts too */
    uint64_t allocation_count;
    uint64_t deallocation_count;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    uint64_t hit_count;          /* allocations served without asking the backend */
    uint64_t miss_count;         /* = of which grew + of which recommitted */
    uint64_t miss_grow_count;    /* the backend gave new memory */
    uint64_t miss_recommit_count;/* trimmed pages were needed again */
    uint64_t thread_hit_count;   /* the part of hits that thread caches served */
    uint64_t steal_count;        /* blocks taken from another stream with a wait */
    uint64_t resize_count;       /* resizes in place that succeeded */
    uint64_t failure_count;      /* allocations that failed, but for bad arguments */
    uint64_t failure_limit_count;
    uint64_t failure_sealed_count;
    uint64_t failure_not_cached_count;
    uint64_t trim_count;         /* spans given back to the backend */
    uint64_t trimmed_bytes;
};

/* Hits / allocations, 0 when there were none. Pure. */
TENSORALLOC_DEF double ta_stats_hit_rate(const ta_stats *stats);

/* Reads the statistics; also after dispose. Threads: any. O(threads). */
TENSORALLOC_DEF ta_result ta_pool_get_stats(ta_pool *pool, ta_stats *out);
/* Peaks start again from now; also after dispose. Errors: TA_ERROR_INVALID_ARGUMENT, _FORKED. Threads: any. */
TENSORALLOC_DEF ta_result ta_pool_reset_peaks(ta_pool *pool);

#define TA_BUCKET_COUNT 22 /* 0: 64-127 B (and less) ... 20: 64-128 MiB, 21: everything above */

typedef struct ta_bucket_stats {
    size_t size_min_bytes; /* capacities in [min, max] */
    size_t size_max_bytes; /* TA_UNLIMITED for the last bucket */
    size_t live_count;
    size_t live_bytes;     /* capacity */
    size_t cached_count;   /* free blocks, in thread caches or in the heap; what is free at the end of a range is one */
    size_t cached_bytes;
} ta_bucket_stats;

/* Counts the blocks of bucket bucket_index (0..TA_BUCKET_COUNT-1) now. O(blocks). Threads: any; consistent when no
   call is in progress. */
TENSORALLOC_DEF ta_result ta_pool_get_bucket_stats(ta_pool *pool, int bucket_index, ta_bucket_stats *out);

/* Writes a text report of the allocator, with a final 0, into text[text_bytes] and returns the length it would have
   without the bound (as snprintf), 0 on bad arguments. text may be NULL when text_bytes is 0. Allocates nothing. */
TENSORALLOC_DEF size_t ta_report(ta_allocator allocator, char *text, size_t text_bytes);
/* As ta_report: one sentence that says why an allocation failed. */
TENSORALLOC_DEF size_t ta_failure_report(const ta_failure *failure, char *text, size_t text_bytes);

/* Options of a snapshot. All-zero: everything, 64 blocks at a time. */
typedef struct ta_snapshot_desc {
    void *scratch;        /* memory for the time of the call, or NULL: with 64 bytes for each block, stream, range and
                             run of trimmed pages each allocator is seen at one moment */
    size_t scratch_bytes;
    int disable_blocks;   /* figures only: no ranges, no blocks */
    ta_trace *trace;      /* NULL, or whose events are written too, as ta_trace_for_each gives them */
} ta_snapshot_desc;

/* Writes all that is known of allocators[count] as JSON. desc may be NULL. Errors: TA_ERROR_INVALID_ARGUMENT, _FORKED
   (nothing was written), and whatever write answers: then it has been called for the last time.
   Threads: any; others may go on. write is called without a lock and may use the allocators, but not dispose of them.
   Blocks are copied as many at a time as there is room for: those are seen at one moment, but for what thread caches
   give and take meanwhile; between two looks others may change the rest. Pieces tile their range whatever happens.
   Tags of blocks that other threads free meanwhile must outlive the call. Allocates nothing, and needs 10 KiB of stack.
   Cost: about 0.2 us a block. Asks backends in use for memory_info: may block there.
   The text is UTF-8; what in tags and names is not becomes U+FFFD. Quantities are numbers (null: unlimited, unknown);
   addresses, ids and streams are strings "0x...". Members without a comment are those of the struct named:
     format "tensoralloc-snapshot", version 1 (goes up when a member changes its meaning or goes), library
     (TENSORALLOC_VERSION), time_ns (since 1970), monotonic_ns (as in events)
     backends[]    id, name, device {type "host", "cuda", "other"; index}, capabilities ["segments", "ranges",
                   "ordered", "host_access", "fresh_zero"], and ta_backend_info; free_bytes, total_bytes (memory_info)
     budgets[]     id, backend (id), and ta_budget_stats
     allocators[]  in the order given; a pool that a dynamic has made for itself follows it
       kind, id (ta_block_id.owner), name, disposed, budget (id), device, stats (ta_stats); user-made allocators, and
       those of another copy of this file, have kind, device and stats only
       options     of its desc; pools: sealed; dynamic: strategy (its name)
       failure     pools and dynamics, after one: text (ta_failure_report), ta_failure; result, verdict, action as text
       streams[]   pools on ordered backends: id, retired
       ranges[]    ptr, size_bytes, kind "range" or "segment", heap "tiny", "middle", "large", committed_bytes, blocks[]
         blocks[]  tile the range by address: ptr, size_bytes, state, stream (if not 0)
                     live     held by the program: requested_bytes, generation, tag (if it has one)
                     free     in the allocator, with memory behind it
                     cached   in a thread cache, or on its way between two
                     pending  freed, waits_for so many uses on streams
                     busy     between allocator and backend for a moment
                     hole     addresses only: trimmed, or not used yet
                     changed  a live block that is not whole: others have changed it between two looks
       totals      visits (looks), live_count, and the bytes of each state, of what was written
       buckets[]   pools: ta_bucket_stats of what was written
       dynamic allocators also: upstream (id)
       handles[]   index, generation, state "live" or "warm", ptr, in_place_bytes, in_range; live ones: effective_bytes,
                   capacity_bytes, dtype, dims[], min[], expected[], max[], site (index), use_count,
                   allocation_time_ns, stream, tag
       sites[]     index, number, busy; predictor {learns "sizes", "growth" or null, observation_count, mean_bytes,
                   target_bytes, step_bytes, block_price_sixteenths, range_uses_sixteenths (as they are now),
                   weights [{size_max_bytes, weight}]} if the strategy is the predictive one and the site is not busy
     events[]      with a trace, oldest first: ptr, size_bytes, capacity_bytes, stream, time_ns, thread, name, tag, kind
                   ("alloc", "free", "resize", "grow", "trim", "limit", "failure", "step", "misuse"), hit (alloc),
                   result (failure, misuse)
   tests/snapshot.schema.json is the same as a JSON Schema; bench/memory_viz.py makes of it what PyTorch's memory_viz
   page reads. */
TENSORALLOC_DEF ta_result ta_snapshot_write(const ta_allocator *allocators, size_t count,
                                            const ta_snapshot_desc *desc, ta_write_fn write, void *user);

#ifdef __cplusplus
}
#endif
/*=========================================================================================================
  [TA:CPP] opt-in, C++: handles that destroy themselves, std::pmr::memory_resource. Works without exceptions and RTTI.
  =======================================================================================================*/
#if defined(TENSORALLOC_CPP) && defined(__cplusplus)
#include <cstdlib>
#include <new>
#if defined(__has_include) && __cplusplus >= 201703L
    #if __has_include(<memory_resource>)
        #include <memory_resource>
        #define TA_CPP_MEMORY_RESOURCE 1
    #endif
#endif

namespace ta {

/* Owns an object of this library. Give out() to its create function, get() to all others. */
template <class T, ta_result (*destroy)(T *)> class unique {
public:
    unique() noexcept : object(nullptr) {}
    explicit unique(T *owned) noexcept : object(owned) {}
    unique(unique &&other) noexcept : object(other.release()) {}
    unique &operator=(unique &&other) noexcept
    {
        if (this != &other) {
            reset(other.release());
        }
        return *this;
    }
    unique(const unique &) = delete;
    unique &operator=(const unique &) = delete;
    ~unique() { reset(); }
    T *get() const noexcept { return object; }
    explicit operator bool() const noexcept { return object != nullptr; }
    /* For create functions; what was owned before is destroyed. */
    T **out() noexcept
    {
        reset();
        return &object;
    }
    T *release() noexcept
    {
        T *released = object;
        object = nullptr;
        return released;
    }
    void reset(T *owned = nullptr) noexcept
    {
        (void)destroy(object);
        object = owned;
    }

private:
    T *object;
};

using pool = unique<ta_pool, ta_pool_destroy>;
using arena = unique<ta_arena, ta_arena_destroy>;
using dynamic = unique<ta_dynamic, ta_dynamic_destroy>;
using trace = unique<ta_trace, ta_trace_destroy>; /* declare it before the pools that record into it */

/* A region of code: ta::tag forward("forward"); until the end of the block. */
class tag {
public:
    explicit tag(const char *name) noexcept : previous(ta_tag_begin(name)) {}
    ~tag() { ta_tag_end(previous); }
    tag(const tag &) = delete;
    tag &operator=(const tag &) = delete;

private:
    const char *previous;
};

#ifdef TA_CPP_MEMORY_RESOURCE
/* An allocator for containers of std::pmr. It must outlive what uses it. Without memory: std::bad_alloc, or abort
   where exceptions are off. Equal is only what is the same object. Host memory only. */
class memory_resource final : public std::pmr::memory_resource {
public:
    explicit memory_resource(ta_allocator from) noexcept : allocator(from) {}

private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        ta_request request = ta_request();
        request.size_bytes = bytes != 0 ? bytes : 1;
        request.alignment_bytes = alignment;
        void *ptr = ta_allocator_alloc(allocator, &request, nullptr);
        if (ptr == nullptr) {
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
            throw std::bad_alloc();
#else
            std::abort();
#endif
        }
        return ptr;
    }
    void do_deallocate(void *ptr, std::size_t bytes, std::size_t alignment) override
    {
        (void)ta_allocator_free(allocator, ptr, bytes != 0 ? bytes : 1, alignment, 0);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override { return this == &other; }

    ta_allocator allocator;
};
#endif

} // namespace ta
#endif /* TENSORALLOC_CPP */
#endif /* TENSORALLOC_H */

/*=========================================================================================================
  IMPLEMENTATION
  =======================================================================================================*/
#ifdef TENSORALLOC_IMPLEMENTATION
#ifndef TENSORALLOC_IMPLEMENTATION_ONCE
#define TENSORALLOC_IMPLEMENTATION_ONCE

#if defined(TENSORALLOC_TORCH) && !defined(TENSORALLOC_CUDA)
    #define TENSORALLOC_CUDA
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*---------------------------------------------------------------------------------------------------------
  [TA:PLATFORM] the only place that knows compilers and operating systems.
  Gives: tai_vm_* (address ranges), tai_thread_*, tai_yield, tai_clock_ns, tai_process_id, tai_barrier_*.
  Uses: nothing.
  Invariants: every function here is safe from any thread.
  -------------------------------------------------------------------------------------------------------*/
#if defined(_WIN32)
    #define TAI_OS_WINDOWS 1
    #ifndef WIN32_LEAN_AND_MEAN
        #define WIN32_LEAN_AND_MEAN
    #endif
    #include <windows.h>
#elif defined(__unix__) || defined(__unix) || (defined(__APPLE__) && defined(__MACH__))
    #define TAI_OS_POSIX 1
    #include <pthread.h>
    #include <sched.h>
    #include <sys/mman.h>
    #include <sys/resource.h>
    #include <unistd.h>
    #if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
        #define TAI_MAP_ANONYMOUS MAP_ANON
    #elif defined(MAP_ANONYMOUS)
        #define TAI_MAP_ANONYMOUS MAP_ANONYMOUS
    #elif defined(__linux__) /* hidden by -std=c99 when the user's file included libc headers first */
        #define TAI_MAP_ANONYMOUS 0x20
    #else
        #define TAI_MAP_ANONYMOUS 0x1000
    #endif
    #if defined(MAP_NORESERVE)
        #define TAI_MAP_NORESERVE MAP_NORESERVE
    #elif defined(__linux__)
        #define TAI_MAP_NORESERVE 0x4000
    #else
        #define TAI_MAP_NORESERVE 0
    #endif
    #if !defined(MADV_DONTNEED) && !defined(__cplusplus)
extern int madvise(void *addr, size_t length, int advice);
    #endif
    #if !defined(CLOCK_MONOTONIC) && !defined(__cplusplus)
extern int clock_gettime(int clock, struct timespec *out);
        #define CLOCK_MONOTONIC 1
    #endif
    #if defined(__linux__)
        #if defined(__has_include) /* some installations lack what it includes for -m32 */
            #if __has_include(<asm/unistd.h>)
                #include <sys/syscall.h>
            #endif
        #else
            #include <sys/syscall.h>
        #endif
        #if !defined(__cplusplus)
extern long syscall(long number, ...);
        #endif
    #endif
#else
    #define TAI_OS_NONE 1
#endif

#if !defined(TAI_OS_NONE)
    #define TAI_HAS_VM 1 /* address ranges of the system; known to this section and to HOST only */
#endif
#if !defined(TENSORALLOC_NO_THREADS) && (defined(TAI_OS_NONE) || defined(__TINYC__))
    #define TENSORALLOC_NO_THREADS
#endif

#if defined(__GNUC__) || defined(__clang__)
    #define TAI_LIKELY(x) __builtin_expect(!!(x), 1)
    #define TAI_UNLIKELY(x) __builtin_expect(!!(x), 0)
    #define TAI_NOINLINE __attribute__((noinline))
    #define TAI_COLD __attribute__((cold, noinline))
    #define TAI_INLINE static inline __attribute__((always_inline))
#else
    #define TAI_LIKELY(x) (x)
    #define TAI_UNLIKELY(x) (x)
    #define TAI_NOINLINE
    #define TAI_COLD
    #define TAI_INLINE static inline
#endif

/* What AddressSanitizer and Valgrind are told of host memory: hidden while it is free or cached. Checked builds fill
   and look at such memory themselves. */
#if defined(__SANITIZE_ADDRESS__)
    #define TAI_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
        #define TAI_ADDRESS_SANITIZER 1
    #endif
#endif
#if defined(TENSORALLOC_CHECKED)
    #undef TAI_ADDRESS_SANITIZER
#endif
#if defined(TENSORALLOC_VALGRIND) && !defined(TENSORALLOC_CHECKED)
    #include <valgrind/memcheck.h>
    #define TAI_HIDES 1
    #define TAI_VALGRIND(request) ((void)(request))
#else
    #define TAI_VALGRIND(request) ((void)0)
#endif
#ifdef TAI_ADDRESS_SANITIZER
    #include <sanitizer/asan_interface.h>
    #define TAI_HIDES 1
    #define TAI_POISON(ptr, size) __asan_poison_memory_region((ptr), (size))
    #define TAI_UNPOISON(ptr, size) __asan_unpoison_memory_region((ptr), (size))
#else
    #define TAI_POISON(ptr, size) ((void)0)
    #define TAI_UNPOISON(ptr, size) ((void)0)
#endif
#ifdef TAI_HIDES
static void tai_hide(uint32_t caps, uintptr_t addr, size_t size)
{
    if ((caps & TA_CAP_HOST_ACCESS) != 0 && size != 0) {
        TAI_POISON((void *)addr, size);
        TAI_VALGRIND(VALGRIND_MAKE_MEM_NOACCESS(addr, size));
    }
}

static void tai_show(uint32_t caps, uintptr_t addr, size_t size)
{
    if ((caps & TA_CAP_HOST_ACCESS) != 0 && size != 0) {
        TAI_UNPOISON((void *)addr, size);
        TAI_VALGRIND(VALGRIND_MAKE_MEM_UNDEFINED(addr, size));
    }
}

static void tai_show_zeroed(uint32_t caps, uintptr_t addr, size_t size)
{
    (void)caps;
    (void)addr;
    (void)size;
    TAI_VALGRIND((caps & TA_CAP_HOST_ACCESS) != 0 ? VALGRIND_MAKE_MEM_DEFINED(addr, size) : 0);
}
    #define TAI_HIDE(space, addr, size) tai_hide((space)->info.caps, (addr), (size))
    #define TAI_SHOW(space, addr, size) tai_show((space)->info.caps, (addr), (size))
    #define TAI_SHOW_ZEROED(space, addr, size) tai_show_zeroed((space)->info.caps, (addr), (size))
#else
    #define TAI_HIDE(space, addr, size) ((void)0)
    #define TAI_SHOW(space, addr, size) ((void)0)
    #define TAI_SHOW_ZEROED(space, addr, size) ((void)0)
#endif

#if defined(TENSORALLOC_MALLOC) != defined(TENSORALLOC_FREE)
    #error "give both TENSORALLOC_MALLOC and TENSORALLOC_FREE, or none"
#endif
#ifndef TENSORALLOC_MALLOC
    #define TENSORALLOC_MALLOC(size) malloc(size)
    #define TENSORALLOC_FREE(ptr) free(ptr)
#endif

#ifdef TAI_HAS_VM
static size_t tai_page_bytes(void)
{
#ifdef TAI_OS_WINDOWS
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (size_t)info.dwPageSize; /* of commits; reservations begin at multiples of 64 KiB */
#else
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 4096;
#endif
}

/* Addresses only; NULL on refusal. */
static TAI_COLD void *tai_vm_reserve(size_t size)
{
#ifdef TAI_OS_WINDOWS
    return VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_NOACCESS);
#else
    void *ptr = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | TAI_MAP_ANONYMOUS | TAI_MAP_NORESERVE, -1, 0);
    return ptr == MAP_FAILED ? NULL : ptr;
#endif
}

static TAI_COLD int tai_vm_commit(void *ptr, size_t size)
{
#ifdef TAI_OS_WINDOWS
    return VirtualAlloc(ptr, size, MEM_COMMIT, PAGE_READWRITE) != NULL;
#else
    return mprotect(ptr, size, PROT_READ | PROT_WRITE) == 0;
#endif
}

static TAI_COLD int tai_vm_release(void *ptr, size_t size)
{
#ifdef TAI_OS_WINDOWS
    MEMORY_BASIC_INFORMATION info; /* reservations go whole, and ptr may be an aligned place within one */
    (void)size;
    return VirtualQuery(ptr, &info, sizeof info) != 0 && VirtualFree(info.AllocationBase, 0, MEM_RELEASE) != 0;
#else
    return munmap(ptr, size) == 0;
#endif
}

#ifndef TENSORALLOC_MALLOC_BACKEND
static TAI_COLD int tai_vm_decommit(void *ptr, size_t size)
{
#ifdef TAI_OS_WINDOWS
    return VirtualFree(ptr, size, MEM_DECOMMIT) != 0;
#else
    if (mprotect(ptr, size, PROT_NONE) != 0) { /* may split a mapping and be refused: then nothing has changed */
        return 0;
    }
    (void)madvise(ptr, size, 4 /* MADV_DONTNEED on every POSIX system that has it */);
    return 1;
#endif
}

#ifndef TAI_OS_WINDOWS
/* The memory goes, the pages stay usable. */
static TAI_COLD int tai_vm_discard(void *ptr, size_t size)
{
    return madvise(ptr, size, 4 /* MADV_DONTNEED */) == 0;
}
#endif
#endif /* TENSORALLOC_MALLOC_BACKEND */

static TAI_COLD void tai_vm_want_huge_pages(void *ptr, size_t size)
{
#if defined(__linux__)
    (void)madvise(ptr, size, 14 /* MADV_HUGEPAGE */);
#else
    (void)ptr;
    (void)size;
#endif
}

/* Physical memory; 8 GiB where it cannot be asked. */
static TAI_COLD size_t tai_physical_bytes(void)
{
#ifdef TAI_OS_WINDOWS
    MEMORYSTATUSEX status;
    status.dwLength = sizeof status;
    if (GlobalMemoryStatusEx(&status)) {
        return (size_t)status.ullTotalPhys;
    }
#elif defined(_SC_PHYS_PAGES)
    long pages = sysconf(_SC_PHYS_PAGES);
    if (pages > 0) { /* more than fits on 32-bit machines with extended addresses */
        return (size_t)pages > SIZE_MAX / tai_page_bytes() ? SIZE_MAX / 2 : (size_t)pages * tai_page_bytes();
    }
#endif
    return sizeof(size_t) > 4 ? (size_t)1 << 33 : (size_t)1 << 30;
}

/* What the process may map, TA_UNLIMITED if nothing says. */
static TAI_COLD size_t tai_address_limit_bytes(void)
{
#if defined(TAI_OS_POSIX) && defined(RLIMIT_AS)
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 &&
        limit.rlim_cur < (RLIM_INFINITY < (rlim_t)TA_UNLIMITED ? RLIM_INFINITY : (rlim_t)TA_UNLIMITED)) {
        return (size_t)limit.rlim_cur;
    }
            #endif
    return TA_UNLIMITED;
}

/* ThreadSanitizer has little room for the addresses of a program; emulators that go through them page by page are given
   less from the command line. */
#if defined(__SANITIZE_THREAD__)
    #define TAI_RANGE_BITS 30
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define TAI_RANGE_BITS 30
    #endif
#endif
#ifndef TAI_RANGE_BITS
    #define TAI_RANGE_BITS 36
#endif
/* Addresses that are left to the rest of the process, and to pools that come later: 4 GiB, of 32 bits a quarter. */
#define TAI_ROOM_BITS (sizeof(size_t) == 4 ? 30 : TAI_RANGE_BITS < 32 ? TAI_RANGE_BITS : 32)
/* So many are there for everybody. */
#define TAI_ROOM_SMALL_BYTES (sizeof(size_t) == 4 ? (size_t)1 << 19 : (size_t)1 << 20)
#ifndef TAI_ROOM_TIMES
    #define TAI_ROOM_TIMES (sizeof(size_t) == 4 ? 32u : 16u)
#endif

/* Whether TAI_ROOM_TIMES x size addresses could be had in one piece, and 2^TAI_ROOM_BITS: who takes a large size only
   then leaves some to the others. Each takes a part of what is left, so thousands of pools find room, in 4 GiB or under
   a tool that has few addresses (valgrind) hundreds: the first ones as much as they like, the last ones little. */
static int tai_vm_has_room(size_t size)
{
    void *ptr;
    if (size <= TAI_ROOM_SMALL_BYTES) {
        return 1;
    }
    size = size > SIZE_MAX / TAI_ROOM_TIMES ? SIZE_MAX / 2 : size * TAI_ROOM_TIMES;
    if (tai_address_limit_bytes() == TA_UNLIMITED && size < (size_t)1 << TAI_ROOM_BITS) {
        size = (size_t)1 << TAI_ROOM_BITS;
    }
    ptr = tai_vm_reserve(size);
    return ptr != NULL && tai_vm_release(ptr, size);
}

#ifndef TAI_BLOCK_COUNT_DEFAULT
    #define TAI_BLOCK_COUNT_DEFAULT (sizeof(size_t) > 4 ? (size_t)1 << 24 : (size_t)1 << 17)
#endif
#define TAI_TRACE_COUNT_DEFAULT 65536u
#else /* no address ranges: a table is a piece of memory that is whole from the beginning */
#define TAI_RANGE_BITS 30
#define TAI_TRACE_COUNT_DEFAULT 4096u
#ifndef TAI_BLOCK_COUNT_DEFAULT
    #define TAI_BLOCK_COUNT_DEFAULT ((size_t)1 << 16)
#endif

static size_t tai_page_bytes(void)
{
    return 4096;
}

static TAI_COLD void *tai_vm_reserve(size_t size)
{
    void *ptr = TENSORALLOC_MALLOC(size);
    if (ptr != NULL) {
        memset(ptr, 0, size);
    }
    return ptr;
}

static TAI_COLD int tai_vm_commit(void *ptr, size_t size)
{
    (void)size;
    return ptr != NULL;
}

static TAI_COLD int tai_vm_release(void *ptr, size_t size)
{
    (void)size;
    TENSORALLOC_FREE(ptr);
    return 1;
}

static TAI_COLD void tai_vm_want_huge_pages(void *ptr, size_t size)
{
    (void)ptr;
    (void)size;
}

static TAI_COLD int tai_vm_has_room(size_t size)
{
    (void)size;
    return 1;
}

static TAI_COLD size_t tai_physical_bytes(void)
{
    return (size_t)1 << 28;
}

static TAI_COLD size_t tai_address_limit_bytes(void)
{
    return TA_UNLIMITED;
}
#endif /* TAI_HAS_VM */

#ifndef TENSORALLOC_CLOCK_NS
static TAI_COLD uint64_t tai_clock_ns(void)
{
#if defined(TAI_OS_WINDOWS)
    LARGE_INTEGER now, hz;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&hz);
    return (uint64_t)now.QuadPart / (uint64_t)hz.QuadPart * 1000000000u +
           (uint64_t)now.QuadPart % (uint64_t)hz.QuadPart * 1000000000u / (uint64_t)hz.QuadPart;
#elif defined(TAI_OS_POSIX)
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) == 0) {
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    return 0;
#else
    return 0;
#endif
}
    #define TENSORALLOC_CLOCK_NS() tai_clock_ns()
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(__TINYC__)
        #include <cpuid.h>
        #define TAI_TICKS_OF_PROCESSOR 1
    #endif
#endif
/* Time for the trace: ticks of the processor where they never stop nor change their pace, which cost a third of what
   a look at the clock does; else ns. */
static TAI_COLD int tai_ticks_known(void)
{
#ifdef TAI_TICKS_OF_PROCESSOR
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d >> 8 & 1) != 0;
#else
    return 0;
#endif
}

TAI_INLINE uint64_t tai_ticks(int known)
{
#ifdef TAI_TICKS_OF_PROCESSOR
    if (TAI_LIKELY(known)) {
        return __builtin_ia32_rdtsc();
    }
#endif
    (void)known;
    return TENSORALLOC_CLOCK_NS();
}
#ifndef TENSORALLOC_WALL_CLOCK_NS
    #define TENSORALLOC_WALL_CLOCK_NS() ((uint64_t)time(NULL) * 1000000000u)
#endif

#ifndef TENSORALLOC_NO_THREADS
static void tai_yield(void)
{
#ifdef TAI_OS_WINDOWS
    SwitchToThread();
#else
    sched_yield();
#endif
}

static uint32_t tai_process_id(void)
{
#ifdef TAI_OS_WINDOWS
    return (uint32_t)GetCurrentProcessId();
#else
    return (uint32_t)getpid();
#endif
}

/* A key whose function runs when a thread that has set it exits. */
#ifdef TAI_OS_WINDOWS
    #define TAI_THREAD_EXIT_CALL NTAPI
typedef DWORD tai_key;

typedef BOOLEAN(NTAPI *tai_question)(void);
static tai_question tai_ask_whether_ending;

static TAI_COLD int tai_thread_key_make(tai_key *key, void(NTAPI *on_exit)(void *))
{
    HMODULE ntdll = GetModuleHandleA("ntdll.dll"); /* here, for functions of keys must not take the loader's lock */
    FARPROC found = ntdll != NULL ? GetProcAddress(ntdll, "RtlDllShutdownInProgress") : NULL;
    memcpy(&tai_ask_whether_ending, &found, sizeof tai_ask_whether_ending);
    *key = FlsAlloc(on_exit);
    return *key != FLS_OUT_OF_INDEXES;
}

static TAI_COLD int tai_thread_key_set(tai_key key, void *value)
{
    return FlsSetValue(key, value) != 0;
}

static TAI_COLD void tai_thread_key_delete(tai_key key)
{
    FlsFree(key); /* and calls the function, here, for every thread that has set the key */
}

/* The process ends: the other threads have been stopped wherever they were, with locks that nobody will release. */
static TAI_COLD int tai_process_is_ending(void)
{
    return tai_ask_whether_ending != NULL && tai_ask_whether_ending() != 0;
}

static TAI_COLD void tai_on_fork_child(void (*fn)(void))
{
    (void)fn;
}
#else
    #define TAI_THREAD_EXIT_CALL
typedef pthread_key_t tai_key;

static TAI_COLD int tai_thread_key_make(tai_key *key, void (*on_exit)(void *))
{
    return pthread_key_create(key, on_exit) == 0;
}

static TAI_COLD int tai_thread_key_set(tai_key key, void *value)
{
    return pthread_setspecific(key, value) == 0;
}

static TAI_COLD void tai_thread_key_delete(tai_key key)
{
    pthread_key_delete(key);
}

static TAI_COLD int tai_process_is_ending(void)
{
    return 0; /* keys have no functions then */
}

static TAI_COLD void tai_on_fork_child(void (*fn)(void))
{
    (void)pthread_atfork(NULL, NULL, fn);
}
#endif

/* A barrier on all threads of the process, asked for by one of them: what makes a biased lock possible. */
static TAI_COLD int tai_barrier_prepare(void)
{
#if defined(TAI_OS_WINDOWS) /* Wine has had a FlushProcessWriteBuffers that does nothing */
    HMODULE ntdll = GetModuleHandleA("ntdll.dll");
    return ntdll != NULL && GetProcAddress(ntdll, "wine_get_version") == NULL;
#elif defined(__linux__) && defined(SYS_membarrier)
    return syscall(SYS_membarrier, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0) == 0;
#else
    return 0;
#endif
}

static TAI_COLD void tai_barrier_all_threads(void)
{
#if defined(TAI_OS_WINDOWS)
    FlushProcessWriteBuffers();
#elif defined(__linux__) && defined(SYS_membarrier)
    (void)syscall(SYS_membarrier, 8 /* PRIVATE_EXPEDITED */, 0, 0);
#endif
}

#if defined(TAI_OS_WINDOWS)
    #define TAI_PAUSE() YieldProcessor()
#elif defined(__i386__) || defined(__x86_64__)
    #define TAI_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
    #define TAI_PAUSE() __asm__ volatile("yield")
#else
    #define TAI_PAUSE() ((void)0)
#endif

/* gcc for Windows emulates __thread with memory that may be gone before the functions of keys run. */
#if defined(TAI_OS_WINDOWS) && defined(__GNUC__) && !defined(__clang__) && !defined(TENSORALLOC_THREAD_LOCAL)
    #define TAI_THREAD_INDEX 1
#endif
#ifndef TENSORALLOC_THREAD_LOCAL
    #if defined(_MSC_VER) && !defined(__clang__)
        #define TENSORALLOC_THREAD_LOCAL __declspec(thread)
    #else
        #define TENSORALLOC_THREAD_LOCAL __thread
    #endif
#endif
#else
    #define tai_process_id() 0u /* fork is not noticed */
#endif /* TENSORALLOC_NO_THREADS */

/*---------------------------------------------------------------------------------------------------------
  [TA:CHECKS] asserts and log. Bad arguments assert at TENSORALLOC_DEBUG >= 1 and return an error always.
  Uses: nothing.
  -------------------------------------------------------------------------------------------------------*/
#ifndef TENSORALLOC_DEBUG
    #define TENSORALLOC_DEBUG 0
#endif
#if TENSORALLOC_DEBUG >= 1 && !defined(TENSORALLOC_ASSERT)
    #include <assert.h>
    #define TENSORALLOC_ASSERT(x) assert(x)
#endif
#if TENSORALLOC_DEBUG >= 1
    #define TAI_ASSERT(x) TENSORALLOC_ASSERT(x)
#else
    #define TAI_ASSERT(x) ((void)0)
#endif
#if TENSORALLOC_DEBUG >= 2
    #define TAI_INVARIANT(x) TENSORALLOC_ASSERT(x)
#else
    #define TAI_INVARIANT(x) ((void)0)
#endif
/* What cannot be true, as far as is known; if it is, the function does the safe thing all the same. Asserts with the
   invariants; tests/coverage.py, which counts these, compiles them away. Each says why beside it. */
#ifndef TAI_NEVER
    #if TENSORALLOC_DEBUG >= 2
TAI_INLINE int tai_never(int holds)
{
    TAI_INVARIANT(!holds);
    return holds;
}
        #define TAI_NEVER(x) tai_never((x) ? 1 : 0)
    #else
        #define TAI_NEVER(x) (x)
    #endif
#endif
/* A bad argument: an assert in debug builds, and the error in all. */
#define TAI_BAD(why) (TAI_ASSERT(!"bad argument"), (ta_result)(why))
#if TENSORALLOC_DEBUG >= 3
    #define TAI_FULL_CHECK 1
#else
    #define TAI_FULL_CHECK 0
#endif
#ifndef TENSORALLOC_LOG
    #define TENSORALLOC_LOG(result, text) ((void)0)
#endif
#ifndef TENSORALLOC_TRAP
    #define TENSORALLOC_TRAP(result) ((void)0)
#endif
#ifdef TENSORALLOC_CHECKED
    #define TAI_CHECKED 1
#else
    #define TAI_CHECKED 0
#endif

static void *tai_fail_null(ta_result why, ta_result *result)
{
    if (result != NULL) {
        *result = why;
    }
    return NULL;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:ATOMICS] loads, stores, exchange, compare-and-swap on 32 and 64 bits; the short lock.
  All macros can be replaced together (an interleaving explorer does). p points to an 8-aligned field.
  Uses: PLATFORM.
  Invariants: no other atomic operation exists in this file.
  -------------------------------------------------------------------------------------------------------*/
#if defined(__SANITIZE_THREAD__)
    #define TAI_THREAD_SANITIZER 1
#elif defined(__has_feature)
    #if __has_feature(thread_sanitizer)
        #define TAI_THREAD_SANITIZER 1
    #endif
#endif
#ifndef TAI_THREAD_SANITIZER
    #define TAI_THREAD_SANITIZER 0 /* it does not look into assembly */
#endif
#ifndef TENSORALLOC_LOAD_RELAXED
    #if defined(TENSORALLOC_NO_THREADS)
        #define TENSORALLOC_LOAD_RELAXED(p) (*(p))
        #define TENSORALLOC_LOAD_ACQUIRE(p) (*(p))
        #define TENSORALLOC_STORE_RELAXED(p, v) (*(p) = (v))
        #define TENSORALLOC_STORE_RELEASE(p, v) (*(p) = (v))
    #elif defined(__GNUC__) || defined(__clang__)
        #define TENSORALLOC_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
        #define TENSORALLOC_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
        #define TENSORALLOC_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
        #define TENSORALLOC_STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
        #define TENSORALLOC_EXCHANGE32(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
        #define TENSORALLOC_CAS32(p, expected, desired) \
            __atomic_compare_exchange_n((p), (expected), (desired), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
        #define TENSORALLOC_CASZ(p, expected, desired) TENSORALLOC_CAS32(p, expected, desired) /* size_t */
        #define TENSORALLOC_ADDZ(p, by) __atomic_fetch_add((p), (by), __ATOMIC_ACQ_REL) /* size_t; can do without */
        #define TENSORALLOC_COMPILER_BARRIER() __atomic_signal_fence(__ATOMIC_SEQ_CST)
        #if defined(__x86_64__) && !defined(__ILP32__) && !TAI_THREAD_SANITIZER
            #define TAI_BUMP_IN_PLACE 1
        #endif
    #elif defined(_MSC_VER) && (defined(_M_IX86) || defined(_M_X64))
        /* A plain access of an aligned word is one instruction, and the processor orders loads as acquire and stores as
           release; _ReadWriteBarrier keeps the compiler from moving, merging or keeping them, with any /volatile. */
        #include <intrin.h>
        #define TENSORALLOC_LOAD_RELAXED(p) (_ReadWriteBarrier(), *(p))
        #define TENSORALLOC_LOAD_ACQUIRE(p) (_ReadWriteBarrier(), *(p))
        #define TENSORALLOC_STORE_RELAXED(p, v) (_ReadWriteBarrier(), *(p) = (v), _ReadWriteBarrier())
        #define TENSORALLOC_STORE_RELEASE(p, v) (_ReadWriteBarrier(), *(p) = (v), _ReadWriteBarrier())
        #define TENSORALLOC_EXCHANGE32(p, v) ((uint32_t)_InterlockedExchange((volatile long *)(p), (long)(v)))
        #define TENSORALLOC_CAS32(p, expected, desired) tai_cas32((p), (expected), (desired))
        #define TENSORALLOC_COMPILER_BARRIER() _ReadWriteBarrier()
/* As the builtins of the others: *expected becomes what was there. */
static int tai_cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    uint32_t wanted = *expected;
    *expected = (uint32_t)_InterlockedCompareExchange((volatile long *)p, (long)desired, (long)wanted);
    return *expected == wanted;
}
        #if defined(_WIN64)
            #define TENSORALLOC_CASZ(p, expected, desired) tai_casz((p), (expected), (desired))
static int tai_casz(size_t *p, size_t *expected, size_t desired)
{
    size_t wanted = *expected;
    *expected = (size_t)_InterlockedCompareExchange64((volatile __int64 *)p, (__int64)desired, (__int64)wanted);
    return *expected == wanted;
}
        #else
            #define TENSORALLOC_CASZ(p, expected, desired) \
                tai_cas32((uint32_t *)(p), (uint32_t *)(expected), (desired))
        #endif
    #elif defined(_MSC_VER)
        #error "MSVC for ARM: compile with clang-cl, or define TENSORALLOC_NO_THREADS or the TENSORALLOC_ atomics"
    #else
        #error "no atomics known for this compiler: define TENSORALLOC_NO_THREADS or the TENSORALLOC_ atomics"
    #endif
#endif

/* Counters with one writer and any reader. Compilers make three instructions of a relaxed load and a relaxed store;
   one is enough where an aligned store is seen whole and nobody else writes. */
#if defined(TAI_BUMP_IN_PLACE)
    #define TAI_BUMP64(field, by) __asm__("{addq\t%1, %0|add\t%0, %1}" : "+m"(field) : "er"((uint64_t)(by)))
    #define TAI_DROP64(field, by) __asm__("{subq\t%1, %0|sub\t%0, %1}" : "+m"(field) : "er"((uint64_t)(by)))
    #define TAI_BUMP32(field, by) __asm__("{addl\t%1, %0|add\t%0, %1}" : "+m"(field) : "ir"((uint32_t)(by)))
#else
    #define TAI_BUMP64(field, by) TENSORALLOC_STORE_RELAXED(&(field), TENSORALLOC_LOAD_RELAXED(&(field)) + (by))
    #define TAI_DROP64(field, by) TENSORALLOC_STORE_RELAXED(&(field), TENSORALLOC_LOAD_RELAXED(&(field)) - (by))
    #define TAI_BUMP32(field, by) TAI_BUMP64(field, by)
#endif

#if defined(TENSORALLOC_NO_THREADS)
typedef struct tai_lock { int unused; } tai_lock;
    #define TAI_LOCK_INIT(l) ((l)->unused = 0)
    #define TAI_LOCK_ACQUIRE(l) ((void)(l))
    #define TAI_LOCK_RELEASE(l) ((void)(l))
#elif defined(TENSORALLOC_LOCK_TYPE)
typedef TENSORALLOC_LOCK_TYPE tai_lock;
    #define TAI_LOCK_INIT(l) TENSORALLOC_LOCK_INIT(l)
    #define TAI_LOCK_ACQUIRE(l) TENSORALLOC_LOCK_ACQUIRE(l)
    #define TAI_LOCK_RELEASE(l) TENSORALLOC_LOCK_RELEASE(l)
#else
typedef struct tai_lock { uint32_t held; uint32_t padding; } tai_lock;

/* The holder never blocks, so a short spin is right; a waiter that was unlucky gives its processor away. */
static TAI_NOINLINE void tai_lock_wait(tai_lock *lock)
{
    int round = 0;
    for (;;) {
        while (TENSORALLOC_LOAD_RELAXED(&lock->held) != 0) {
            if (++round < 64) {
                TAI_PAUSE();
            } else {
                round = 0;
                tai_yield();
            }
        }
        if (TENSORALLOC_EXCHANGE32(&lock->held, 1u) == 0) {
            return;
        }
    }
}

TAI_INLINE void tai_lock_acquire(tai_lock *lock)
{
    if (TAI_UNLIKELY(TENSORALLOC_EXCHANGE32(&lock->held, 1u) != 0)) {
        tai_lock_wait(lock);
    }
}
    #define TAI_LOCK_INIT(l) ((l)->held = 0, (l)->padding = 0)
    #define TAI_LOCK_ACQUIRE(l) tai_lock_acquire(l)
    #define TAI_LOCK_RELEASE(l) TENSORALLOC_STORE_RELEASE(&(l)->held, 0u)
#endif

#ifdef TENSORALLOC_NO_THREADS
    #define TAI_WAIT_A_MOMENT() ((void)0)
#else
    #define TAI_WAIT_A_MOMENT() tai_yield()
#endif

/* What the trace needs: tickets, claims of records, and who is the only one. */
#ifdef TENSORALLOC_NO_THREADS
TAI_INLINE size_t tai_next(size_t *counter)
{
    return (*counter)++;
}

static uint32_t tai_next32(uint32_t *counter)
{
    return (*counter)++;
}

TAI_INLINE int tai_claim(size_t *state, size_t old, size_t claimed)
{
    (void)old;
    *state = claimed;
    return 1;
}

static int tai_try_take(uint32_t *taken)
{
    int free = *taken == 0;
    *taken = 1;
    return free;
}
#else
TAI_INLINE size_t tai_next(size_t *counter)
{
#ifdef TENSORALLOC_ADDZ
    return TENSORALLOC_ADDZ(counter, (size_t)1);
#else
    size_t old = TENSORALLOC_LOAD_RELAXED(counter);
    while (!TENSORALLOC_CASZ(counter, &old, old + 1)) {
        old = TENSORALLOC_LOAD_RELAXED(counter);
    }
    return old;
#endif
}

static uint32_t tai_next32(uint32_t *counter)
{
    uint32_t old = TENSORALLOC_LOAD_RELAXED(counter);
    while (!TENSORALLOC_CAS32(counter, &old, old + 1)) {
        old = TENSORALLOC_LOAD_RELAXED(counter);
    }
    return old;
}

TAI_INLINE int tai_claim(size_t *state, size_t old, size_t claimed)
{
    return TENSORALLOC_CASZ(state, &old, claimed);
}

static int tai_try_take(uint32_t *taken)
{
    return TENSORALLOC_EXCHANGE32(taken, 1u) == 0;
}
#endif

static void tai_take(uint32_t *taken)
{
    while (!tai_try_take(taken)) {
        TAI_WAIT_A_MOMENT();
    }
}

static void tai_give(uint32_t *taken)
{
    TENSORALLOC_STORE_RELEASE(taken, 0u);
}

/* Tells threads apart; never 0. */
#ifdef TENSORALLOC_NO_THREADS
static uintptr_t tai_thread_id(void)
{
    return 1;
}
#elif defined(TAI_THREAD_INDEX)
static uintptr_t tai_thread_id(void)
{
    return (uintptr_t)GetCurrentThreadId();
}
#elif defined(TAI_THREAD_ID) /* tests: threads that the system does not know */
static uintptr_t tai_thread_id(void)
{
    return (uintptr_t)TAI_THREAD_ID();
}
#else
static uintptr_t tai_thread_id(void)
{
    static TENSORALLOC_THREAD_LOCAL char mark;
    return (uintptr_t)&mark;
}
#endif

/* The gate: a short lock that leans to the thread that uses it most. While a thread is favoured it enters with two
   plain stores and a load; any other thread first takes the lock, withdraws the favour, makes every thread of the
   process pass a barrier, and waits until the favoured one is outside. Where there is no such barrier nobody is ever
   favoured. An atomic exchange costs more than a whole best-fit search on the machines this was measured on. */
typedef struct tai_holder {
    uint32_t inside; /* the favoured thread is in; written by it alone */
    uint32_t padding;
} tai_holder;

typedef struct tai_gate {
    tai_lock lock;
    tai_holder *favoured; /* NULL: nobody */
    tai_holder *last;     /* who took the lock last; guarded by it */
    uint32_t streak;      /* how often in a row */
    uint32_t streak_needed;
    int can_favour;
    int single_threaded;  /* one thread at a time by contract: nothing to do */
} tai_gate;

#define TAI_STREAK_FIRST 8u
#define TAI_STREAK_MAX 65536u

static TAI_COLD void tai_gate_init(tai_gate *gate, int single_threaded)
{
    memset(gate, 0, sizeof *gate);
    TAI_LOCK_INIT(&gate->lock);
    gate->streak_needed = TAI_STREAK_FIRST;
    gate->single_threaded = single_threaded;
#ifdef TENSORALLOC_NO_THREADS
    gate->single_threaded = 1;
#else
    gate->can_favour = !single_threaded && tai_barrier_prepare();
#endif
}

#ifdef TENSORALLOC_NO_THREADS
static void tai_gate_enter(tai_gate *gate, tai_holder *me)
{
    (void)gate;
    (void)me;
}

static void tai_gate_leave(tai_gate *gate, tai_holder *me)
{
    (void)gate;
    (void)me;
}
    #define tai_gate_enter_hot(gate, me) tai_gate_enter(gate, me)
    #define tai_gate_leave_hot(gate, me) tai_gate_leave(gate, me)
#else
static TAI_NOINLINE void tai_gate_enter_slow(tai_gate *gate, tai_holder *me)
{
    tai_holder *favoured;
    TAI_LOCK_ACQUIRE(&gate->lock);
    favoured = TENSORALLOC_LOAD_RELAXED(&gate->favoured);
    if (favoured != NULL) {
        int round = 0;
        TENSORALLOC_STORE_RELAXED(&gate->favoured, (tai_holder *)NULL);
        tai_barrier_all_threads();
        while (TENSORALLOC_LOAD_ACQUIRE(&favoured->inside) != 0) {
            if (++round < 64) {
                TAI_PAUSE();
            } else {
                tai_yield();
            }
        }
        if (gate->streak_needed < TAI_STREAK_MAX) {
            gate->streak_needed *= 2;
        }
        gate->streak = 0;
    }
    if (gate->last != me) {
        gate->last = me;
        gate->streak = 0;
    } else if (me != NULL && gate->can_favour && ++gate->streak >= gate->streak_needed) {
        gate->streak = 0;
        TENSORALLOC_STORE_RELAXED(&gate->favoured, me);
    }
}

/* me: the calling thread's holder, or NULL if it has none. The hot ones are inlined. */
TAI_INLINE void tai_gate_enter_hot(tai_gate *gate, tai_holder *me)
{
    if (TAI_LIKELY(me != NULL)) {
        TENSORALLOC_STORE_RELAXED(&me->inside, 1u);
        TENSORALLOC_COMPILER_BARRIER();
        if (TAI_LIKELY(TENSORALLOC_LOAD_RELAXED(&gate->favoured) == me)) {
            TENSORALLOC_COMPILER_BARRIER();
            return;
        }
        TENSORALLOC_STORE_RELAXED(&me->inside, 0u);
    }
    if (!gate->single_threaded) {
        tai_gate_enter_slow(gate, me);
    }
}

TAI_INLINE void tai_gate_leave_hot(tai_gate *gate, tai_holder *me)
{
    if (TAI_LIKELY(me != NULL && me->inside != 0)) {
        TENSORALLOC_STORE_RELEASE(&me->inside, 0u);
    } else if (!gate->single_threaded) {
        TAI_LOCK_RELEASE(&gate->lock);
    }
}

static TAI_NOINLINE void tai_gate_enter(tai_gate *gate, tai_holder *me)
{
    tai_gate_enter_hot(gate, me);
}

static TAI_NOINLINE void tai_gate_leave(tai_gate *gate, tai_holder *me)
{
    tai_gate_leave_hot(gate, me);
}
#endif

/*---------------------------------------------------------------------------------------------------------
  [TA:MATH] checked arithmetic and bits. Pure.
  -------------------------------------------------------------------------------------------------------*/
TAI_INLINE int tai_is_power_of_two(size_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/* Rounds up to a power of two; 0 on overflow (x > 0). */
TAI_INLINE size_t tai_round_up(size_t x, size_t to)
{
    return (x + (to - 1)) & ~(to - 1);
}

TAI_INLINE size_t tai_round_down(size_t x, size_t to)
{
    return x & ~(to - 1);
}

static int tai_add(size_t a, size_t b, size_t *out)
{
    *out = a + b;
    return a <= SIZE_MAX - b;
}

static size_t tai_add_saturated(size_t a, size_t b)
{
    return a > TA_UNLIMITED - b ? TA_UNLIMITED : a + b;
}

static int tai_mul(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a) {
        *out = 0;
        return 0;
    }
    *out = a * b;
    return 1;
}

/* Index of the highest bit of x > 0. */
TAI_INLINE uint32_t tai_high_bit(uint64_t x)
{
#if defined(__GNUC__) || defined(__clang__)
    return 63u - (uint32_t)__builtin_clzll(x);
#else
    uint32_t bit = 0;
    while (x >>= 1) {
        bit++;
    }
    return bit;
#endif
}

/* Index of the lowest bit of x > 0. */
TAI_INLINE uint32_t tai_low_bit(uint64_t x)
{
#if defined(__GNUC__) || defined(__clang__)
    return (uint32_t)__builtin_ctzll(x);
#else
    uint32_t bit = 0;
    while ((x & 1) == 0) {
        x >>= 1;
        bit++;
    }
    return bit;
#endif
}

static TAI_COLD size_t tai_power_of_two_at_least(size_t x)
{
    return x <= 1 ? 1 : (size_t)1 << (tai_high_bit((uint64_t)(x - 1)) + 1);
}

static uint64_t tai_mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9E3779B97F4A7C15ull;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9ull;
    return x ^ (x >> 32);
}

TENSORALLOC_DEF TAI_COLD int ta_version(void)
{
    return TENSORALLOC_VERSION;
}

TENSORALLOC_DEF TAI_COLD const char *ta_result_text(ta_result result)
{
    static const char *const text[] = {
#define TAI_RESULT_TEXT(name, words) words,
        TA_RESULT_LIST(TAI_RESULT_TEXT)
#undef TAI_RESULT_TEXT
    };
    int index = (int)result;
    return index >= 0 && index < (int)TA_RESULT_COUNT ? text[index] : "unknown result";
}

TENSORALLOC_DEF TAI_COLD const char *ta_verdict_text(ta_verdict verdict)
{
    static const char *const text[] = {
#define TAI_VERDICT_TEXT(name, words, action, action_words) words,
        TA_VERDICT_LIST(TAI_VERDICT_TEXT)
#undef TAI_VERDICT_TEXT
    };
    int index = (int)verdict;
    return index >= 0 && index < (int)TA_VERDICT_COUNT ? text[index] : "unknown";
}

TENSORALLOC_DEF TAI_COLD const char *ta_action_text(ta_action action)
{
    static const char *const text[] = {
#define TAI_ACTION_TEXT(name, words, action_name, action_words) action_words,
        TA_VERDICT_LIST(TAI_ACTION_TEXT)
#undef TAI_ACTION_TEXT
    };
    int index = (int)action;
    return index >= 0 && index < (int)TA_ACTION_COUNT ? text[index] : "unknown";
}

/*---------------------------------------------------------------------------------------------------------
  [TA:WRITER] text for a sink of the program's, through a buffer on the stack; JSON.
  Uses: MATH.
  Invariants: after the sink's first error it is not called again, and everything more is dropped. JSON is valid
  whatever strings hold: what is no UTF-8 becomes U+FFFD.
  -------------------------------------------------------------------------------------------------------*/
#define TAI_WRITER_BYTES 2048
#define TAI_PUT(w, literal) tai_put((w), (literal), sizeof(literal) - 1)

typedef struct tai_writer {
    ta_write_fn write;
    void *user;
    ta_result result;
    int follows; /* a value stands before in this object or array */
    size_t used;
    char text[TAI_WRITER_BYTES];
} tai_writer;

TENSORALLOC_DEF TAI_COLD ta_result ta_file_write(void *file, const char *text, size_t text_bytes)
{
    if (file == NULL || (text == NULL && text_bytes != 0)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return text_bytes == 0 || fwrite(text, 1, text_bytes, (FILE *)file) == text_bytes ? TA_OK : TA_ERROR_BACKEND;
}

static TAI_COLD void tai_writer_open(tai_writer *w, ta_write_fn write, void *user)
{
    w->write = write;
    w->user = user;
    w->result = TA_OK;
    w->follows = 0;
    w->used = 0;
}

/* Hands over what is in the buffer. Returns what the sink has said so far. */
static TAI_COLD ta_result tai_writer_flush(tai_writer *w)
{
    if (w->used != 0 && w->result == TA_OK) {
        w->result = w->write(w->user, w->text, w->used);
    }
    w->used = 0;
    return w->result;
}

/* Not cold: what writes each block is to be fast. */
static TAI_NOINLINE void tai_put(tai_writer *w, const char *text, size_t bytes)
{
    while (bytes != 0) {
        size_t room = TAI_WRITER_BYTES - w->used, part = bytes < room ? bytes : room;
        memcpy(w->text + w->used, text, part);
        w->used += part;
        text += part;
        bytes -= part;
        if (w->used == TAI_WRITER_BYTES) {
            (void)tai_writer_flush(w);
        }
    }
}

static TAI_NOINLINE void tai_put_decimal(tai_writer *w, uint64_t value)
{
    char digits[20], *at = digits + sizeof digits;
    uint32_t low;
    for (; value > 0xffffffffu; value /= 10) {
        *--at = (char)('0' + value % 10);
    }
    low = (uint32_t)value;
    do {
        uint32_t rest = (uint32_t)((uint64_t)low * 0xcccccccdu >> 35); /* low / 10 without a division */
        *--at = (char)('0' + (low - rest * 10));
        low = rest;
    } while (low != 0);
    tai_put(w, at, (size_t)(digits + sizeof digits - at));
}

static TAI_NOINLINE void tai_put_hex(tai_writer *w, uint64_t value)
{
    char digits[16], *at = digits + sizeof digits;
    do {
        *--at = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    tai_put(w, at, (size_t)(digits + sizeof digits - at));
}

/* Length of the UTF-8 sequence at text, which is not ASCII; *valid 0: of its longest part that could begin one. */
static TAI_COLD size_t tai_utf8_length(const unsigned char *text, int *valid)
{
    unsigned char lead = text[0];
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* below: longer than needed */
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* above: surrogates, beyond U+10FFFF */
    size_t i, more = lead < 0xc2 || lead > 0xf4 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    *valid = more != 0;
    for (i = 1; i <= more; i++) {
        if (text[i] < low || text[i] > high) {
            *valid = 0;
            return i;
        }
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

/* A JSON string; NULL is null. */
static TAI_COLD void tai_put_string(tai_writer *w, const char *string)
{
    const unsigned char *text = (const unsigned char *)string;
    if (string == NULL) {
        tai_put(w, "null", 4);
        return;
    }
    tai_put(w, "\"", 1);
    while (*text != 0) {
        int valid = 1;
        size_t length = 0;
        while (text[length] >= 0x20 && text[length] < 0x80 && text[length] != '"' && text[length] != '\\') {
            length++;
        }
        if (length != 0) {
            tai_put(w, (const char *)text, length);
        } else if (*text < 0x20) {
            TAI_PUT(w, "\\u00");
            tai_put(w, *text < 0x10 ? "0" : "1", 1);
            tai_put_hex(w, *text & 15u);
            length = 1;
        } else if (*text < 0x80) {
            TAI_PUT(w, "\\");
            tai_put(w, (const char *)text, length = 1);
        } else {
            length = tai_utf8_length(text, &valid);
            tai_put(w, valid ? (const char *)text : "\xef\xbf\xbd", valid ? length : 3);
        }
        text += length;
    }
    tai_put(w, "\"", 1);
}

/* The comma between values, and the key: NULL in arrays. Keys are names of this file: nothing to escape. */
static TAI_COLD void tai_json_key(tai_writer *w, const char *key)
{
    if (w->follows) {
        tai_put(w, ",", 1);
    }
    w->follows = 1;
    if (key != NULL) {
        tai_put(w, "\"", 1);
        tai_put(w, key, strlen(key));
        tai_put(w, "\":", 2);
    }
}

/* bracket: "{" or "[". */
static TAI_COLD void tai_json_begin(tai_writer *w, const char *key, const char *bracket)
{
    tai_json_key(w, key);
    tai_put(w, bracket, 1);
    w->follows = 0;
}

/* bracket: "}" or "]". */
static TAI_COLD void tai_json_end(tai_writer *w, const char *bracket)
{
    tai_put(w, bracket, 1);
    w->follows = 1;
}

static TAI_COLD void tai_json_u64(tai_writer *w, const char *key, uint64_t value)
{
    tai_json_key(w, key);
    tai_put_decimal(w, value);
}

/* A number, or null for TA_UNLIMITED. */
static TAI_COLD void tai_json_size(tai_writer *w, const char *key, size_t value)
{
    if (value == TA_UNLIMITED) {
        tai_json_key(w, key);
        tai_put(w, "null", 4);
    } else {
        tai_json_u64(w, key, (uint64_t)value);
    }
}

/* A string "0x...": for what is no quantity, and may need all 64 bits. */
static TAI_COLD void tai_json_hex(tai_writer *w, const char *key, uint64_t value)
{
    tai_json_key(w, key);
    tai_put(w, "\"0x", 3);
    tai_put_hex(w, value);
    tai_put(w, "\"", 1);
}

static TAI_COLD void tai_json_bool(tai_writer *w, const char *key, int value)
{
    tai_json_key(w, key);
    tai_put(w, value ? "true" : "false", value ? 4 : 5);
}

static TAI_COLD void tai_json_text(tai_writer *w, const char *key, const char *string)
{
    tai_json_key(w, key);
    tai_put_string(w, string);
}

/*---------------------------------------------------------------------------------------------------------
  [TA:TRACE-IMPL] tags and the trace.
  Uses: PLATFORM, ATOMICS, MATH, WRITER.

  Tags: a table of texts that are never changed nor freed; looked up without a lock, a short lock to add one.
  A trace: a few rings, so that threads do not get into each other's way. Whoever records takes the next ticket of its
  thread's ring; ticket & mask is its record. The stamp of a record tells its state:
     2 * ticket + 2   written by that ticket; the fields can be read, if the stamp is still the same afterwards
     odd              being written: who comes to it a lap later, or reads, waits a while
     less             not yet written; or never, if who had the ticket gave up
  Readers merge the rings by time. Processors look at their ticks a little early sometimes: where memory contradicts
  the ticks (a free of what is not live, an allocation of what is), the event waits for its match in another ring.
  Invariants: records are made before a block is freed and after it was allocated; only what flushes touches what
  stands behind busy.
  -------------------------------------------------------------------------------------------------------*/
#define TAI_TAG_COUNT 4096u /* and twice as many slots */
#define TAI_SOURCES 64u
#define TAI_RINGS 8u
#define TAI_EARLY_NS 20000u /* by more than that nobody is early */
#define TAI_PATIENCE 100000 /* yields until somebody who writes a record is taken for dead, as after a fork */
#define TAI_TRACE_LINE 448u /* the longest line of a text, at most */

typedef struct tai_tag {
    uint32_t hash;
    char text[TA_TAG_BYTES_MAX + 1]; /* as long as needed */
} tai_tag;

typedef struct tai_tags {
    uint32_t count; /* guarded by tai_tags_taken */
    uint32_t padding;
    const tai_tag *slots[2 * TAI_TAG_COUNT];
} tai_tags;

/* Mutable globals, since regions know no allocator: the texts of tags, and what this thread is in. */
static tai_tags *tai_tags_all;
static uint32_t tai_tags_taken;
static uint32_t tai_thread_numbers;
typedef struct tai_thread_note {
    const char *tag;
    uint32_t number; /* 0: none yet */
} tai_thread_note;
#ifdef TENSORALLOC_NO_THREADS
static tai_thread_note tai_here;
#else
static TENSORALLOC_THREAD_LOCAL tai_thread_note tai_here;
#endif

static TAI_COLD uint32_t tai_thread_number_make(void)
{
    uint32_t number = tai_next32(&tai_thread_numbers) + 1;
    tai_here.number = number;
    return number;
}

TAI_INLINE uint32_t tai_thread_number(void)
{
    uint32_t number = tai_here.number;
    return TAI_LIKELY(number != 0) ? number : tai_thread_number_make();
}

/* The tag of this text, or NULL; *slot: where it would be. */
static const tai_tag *tai_tag_find(const tai_tags *tags, const char *text, uint32_t hash, uint32_t *slot)
{
    uint32_t at = hash;
    for (;; at++) {
        const tai_tag *tag = TENSORALLOC_LOAD_ACQUIRE(&tags->slots[at % (2 * TAI_TAG_COUNT)]);
        if (tag == NULL || (tag->hash == hash && strcmp(tag->text, text) == 0)) {
            *slot = at % (2 * TAI_TAG_COUNT);
            return tag;
        }
    }
}

/* The table, made at the first use; NULL without memory. */
static TAI_COLD tai_tags *tai_tags_make(void)
{
    tai_tags *made = (tai_tags *)TENSORALLOC_MALLOC(sizeof *made), *tags;
    if (made == NULL) {
        return NULL;
    }
    memset(made, 0, sizeof *made);
    tai_take(&tai_tags_taken);
    tags = tai_tags_all;
    if (tags == NULL) {
        TENSORALLOC_STORE_RELEASE(&tai_tags_all, made);
        tags = made;
        made = NULL;
    }
    tai_give(&tai_tags_taken);
    if (made != NULL) {
        TENSORALLOC_FREE(made);
    }
    return tags;
}

static TAI_COLD const char *tai_tag_add(tai_tags *tags, const char *text, size_t length, uint32_t hash)
{
    static const char other[] = "other tags";
    tai_tag *made = (tai_tag *)TENSORALLOC_MALLOC(offsetof(tai_tag, text) + length + 1);
    const tai_tag *tag;
    uint32_t slot;
    if (made == NULL) {
        return other;
    }
    made->hash = hash;
    memcpy(made->text, text, length + 1);
    tai_take(&tai_tags_taken);
    tag = tai_tag_find(tags, text, hash, &slot);
    if (tag == NULL && tags->count < TAI_TAG_COUNT) {
        tags->count++;
        tag = made;
        made = NULL;
        TENSORALLOC_STORE_RELEASE(&tags->slots[slot], tag);
    }
    tai_give(&tai_tags_taken);
    if (made != NULL) {
        TENSORALLOC_FREE(made);
    }
    return tag != NULL ? tag->text : other;
}

/* The text that stands for parent/name, or for name alone; cut between characters where it is too long. */
static TAI_NOINLINE const char *tai_tag_intern(const char *parent, const char *name)
{
    char text[TA_TAG_BYTES_MAX + 1];
    size_t length = 0;
    uint32_t hash = 2166136261u, slot;
    tai_tags *tags = TENSORALLOC_LOAD_ACQUIRE(&tai_tags_all);
    const tai_tag *tag;
    const char *from;
    for (from = parent != NULL ? parent : name; length < TA_TAG_BYTES_MAX; from++) {
        char c = *from;
        if (c == 0 && parent == NULL) {
            break;
        }
        if (c == 0) {
            parent = NULL;
            from = name - 1;
            c = '/';
        }
        text[length++] = c;
        hash = (hash ^ (unsigned char)c) * 16777619u;
    }
    if (length == TA_TAG_BYTES_MAX && (parent != NULL || *from != 0)) {
        while (length > TA_TAG_BYTES_MAX - 4 && ((unsigned char)*from & 0xc0) == 0x80) {
            from--; /* in the middle of a character */
            length--;
        }
        for (hash = 2166136261u, slot = 0; slot < length; slot++) {
            hash = (hash ^ (unsigned char)text[slot]) * 16777619u;
        }
    }
    text[length] = 0;
    if (TAI_UNLIKELY(tags == NULL) && (tags = tai_tags_make()) == NULL) {
        return "other tags";
    }
    tag = tai_tag_find(tags, text, hash, &slot);
    return tag != NULL ? tag->text : tai_tag_add(tags, text, length, hash);
}

TENSORALLOC_DEF const char *ta_tag_begin(const char *name)
{
    const char *previous = tai_here.tag;
    tai_here.tag = name != NULL ? tai_tag_intern(previous, name) : NULL;
    return previous;
}

TENSORALLOC_DEF void ta_tag_end(const char *previous)
{
    tai_here.tag = previous;
}

TENSORALLOC_DEF const char *ta_tag_get(void)
{
    return tai_here.tag;
}

/* No pool is left: the texts go, and what this thread was in. */
static TAI_COLD void tai_tags_free(void)
{
    tai_tags *tags = tai_tags_all;
    uint32_t i;
    tai_here.tag = NULL;
    TENSORALLOC_STORE_RELEASE(&tai_tags_all, (tai_tags *)NULL);
    for (i = 0; tags != NULL && i < 2 * TAI_TAG_COUNT; i++) {
        if (tags->slots[i] != NULL) {
            TENSORALLOC_FREE((void *)(uintptr_t)tags->slots[i]);
        }
    }
    TENSORALLOC_FREE(tags);
}

/* ---- the ring */
typedef struct tai_record {
    size_t stamp;
    const char *tag;
    uint64_t ticks;
    uint64_t addr, size, capacity, stream;
    uint64_t about; /* thread << 32 | source << 24 | log2 of the alignment << 16 | kind << 8 | result << 1 | hit */
} tai_record;

/* A live block as readers know it; or the live bytes of a tag, with addr that of its text and number 0. */
typedef struct tai_known {
    uint64_t addr;
    uint64_t number; /* counted from 1; 0: its allocation stands in no text */
    uint64_t size;
    const char *tag;
    uint32_t source; /* 0: the entry is free */
    uint32_t padding;
} tai_known;

typedef struct tai_known_set {
    tai_known *at;
    size_t count, capacity; /* a power of two, or 0 */
} tai_known_set;

typedef struct tai_ring {
    tai_record *records;
    char padding[120];
    size_t head;          /* the next ticket; written by the ring's threads */
    char more_padding[120];
    size_t next, cleared; /* tickets: the first to be flushed, of who has taken busy; the first to be shown */
} tai_ring;

struct ta_trace {
    tai_ring rings[TAI_RINGS];
    size_t mask;
    int ticks_of_processor;
    uint32_t users;          /* pools */
    void *memory;            /* of the records */
    size_t memory_bytes;
    uint64_t ticks_first, time_first;
    /* of who has taken busy */
    uint32_t busy, source_count;
    uint64_t flushed, lost, numbers, time_last;
    tai_known_set known;
    int unsent;              /* the writer's text is that of a sink that failed */
    tai_writer writer;
    uint64_t live[TAI_SOURCES], reserved[TAI_SOURCES];
    char names[TAI_SOURCES][32]; /* [0] is not used; guarded by tai_tags_taken */
};

/* Never blocks for long. Inside a gate too: calls nobody. */
static TAI_NOINLINE void tai_trace_put(ta_trace *trace, uint64_t about, const void *ptr, size_t size, size_t capacity,
                                       ta_stream stream, const char *tag)
{
    uint32_t thread = tai_thread_number();
    tai_ring *ring = &trace->rings[thread % TAI_RINGS];
    size_t ticket = tai_next(&ring->head), stamp = 2 * ticket + 2, old;
    tai_record *record = &ring->records[ticket & trace->mask];
    int patience = TAI_PATIENCE;
    for (;;) {
        old = TENSORALLOC_LOAD_RELAXED(&record->stamp);
        if ((old & 1) == 0) {
            if ((ptrdiff_t)(old - stamp) > 0) { /* a lap behind everybody */
                return;
            }
            if (TAI_LIKELY(tai_claim(&record->stamp, old, stamp - 1))) {
                break;
            }
        } else if (patience-- == 0) {
            return;
        } else {
            TAI_WAIT_A_MOMENT();
        }
    }
    TENSORALLOC_STORE_RELEASE(&record->tag, tag); /* release: after the claim, for who reads meanwhile */
    TENSORALLOC_STORE_RELEASE(&record->ticks, tai_ticks(trace->ticks_of_processor));
    TENSORALLOC_STORE_RELEASE(&record->addr, (uint64_t)(uintptr_t)ptr);
    TENSORALLOC_STORE_RELEASE(&record->size, (uint64_t)size);
    TENSORALLOC_STORE_RELEASE(&record->capacity, (uint64_t)capacity);
    TENSORALLOC_STORE_RELEASE(&record->stream, stream);
    TENSORALLOC_STORE_RELEASE(&record->about, about | (uint64_t)thread << 32);
    TENSORALLOC_STORE_RELEASE(&record->stamp, stamp);
}

/* Copies the record of a ticket. 1: done; 0: it has been overwritten; -1: nobody has written it. */
static TAI_COLD int tai_trace_get(const ta_trace *trace, const tai_ring *ring, size_t ticket, tai_record *out)
{
    const tai_record *record = &ring->records[ticket & trace->mask];
    size_t stamp = 2 * ticket + 2;
    int patience = TAI_PATIENCE;
    for (;;) {
        size_t old = TENSORALLOC_LOAD_ACQUIRE(&record->stamp);
        if (old == stamp) {
            break;
        }
        if ((ptrdiff_t)(old - stamp) > 0) {
            return 0;
        }
        if (patience-- == 0) {
            return -1;
        }
        TAI_WAIT_A_MOMENT();
    }
    out->tag = TENSORALLOC_LOAD_ACQUIRE(&record->tag);
    out->ticks = TENSORALLOC_LOAD_ACQUIRE(&record->ticks);
    out->addr = TENSORALLOC_LOAD_ACQUIRE(&record->addr);
    out->size = TENSORALLOC_LOAD_ACQUIRE(&record->size);
    out->capacity = TENSORALLOC_LOAD_ACQUIRE(&record->capacity);
    out->stream = TENSORALLOC_LOAD_ACQUIRE(&record->stream);
    out->about = TENSORALLOC_LOAD_ACQUIRE(&record->about);
    return TENSORALLOC_LOAD_RELAXED(&record->stamp) == stamp;
}

/* How ticks become ns: two looks at both clocks. */
typedef struct tai_pace {
    uint64_t ticks_first, time_first;
    double ns_per_tick;
} tai_pace;

static TAI_COLD tai_pace tai_trace_pace(const ta_trace *trace)
{
    tai_pace pace;
    pace.ticks_first = trace->ticks_first;
    pace.time_first = trace->time_first;
    pace.ns_per_tick = 1.0;
    if (trace->ticks_of_processor) {
        uint64_t time = TENSORALLOC_CLOCK_NS(), ticks = tai_ticks(1);
        pace.ns_per_tick = ticks > trace->ticks_first && time > trace->time_first
                                ? (double)(time - trace->time_first) / (double)(ticks - trace->ticks_first) : 0.0;
    }
    return pace;
}

static TAI_COLD uint64_t tai_pace_time(const tai_pace *pace, uint64_t ticks)
{
    return ticks <= pace->ticks_first
               ? pace->time_first
               : pace->time_first + (uint64_t)((double)(ticks - pace->ticks_first) * pace->ns_per_tick);
}

/* The number by which records name an allocator: one for each name. */
static TAI_COLD uint32_t tai_trace_source(ta_trace *trace, const char *name)
{
    uint32_t source;
    char cut[32];
    size_t length = 0;
    while (name != NULL && length < 31 && name[length] != 0) {
        cut[length] = name[length];
        length++;
    }
    cut[length] = 0;
    tai_take(&tai_tags_taken);
    for (source = 1; source <= trace->source_count && strcmp(trace->names[source], cut) != 0;) {
        source++;
    }
    if (source > trace->source_count) {
        if (source < TAI_SOURCES - 1) {
            memcpy(trace->names[source], cut, length + 1);
            TENSORALLOC_STORE_RELAXED(&trace->source_count, source);
        } else {
            source = TAI_SOURCES - 1;
        }
    }
    tai_give(&tai_tags_taken);
    return source;
}

static uint64_t tai_trace_about(ta_event_kind kind, ta_result result, int hit, uint32_t source)
{
    return (uint64_t)source << 24 | (uint64_t)kind << 8 | (uint64_t)result << 1 | (uint64_t)(hit != 0);
}

static ta_event_kind tai_record_kind(const tai_record *record)
{
    return (ta_event_kind)(record->about >> 8 & 0xff);
}

static uint32_t tai_record_source(const tai_record *record)
{
    return (uint32_t)(record->about >> 24 & 0xff);
}

static ta_result tai_record_result(const tai_record *record)
{
    return (ta_result)(record->about >> 1 & 0x7f);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_create(const ta_trace_desc *desc, ta_trace **out)
{
    size_t count = desc == NULL || desc->event_count_max == 0 ? TAI_TRACE_COUNT_DEFAULT : desc->event_count_max, i;
    ta_trace *trace;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    if (count < 16 || count > (size_t)1 << 24) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    trace = (ta_trace *)TENSORALLOC_MALLOC(sizeof *trace);
    if (trace == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(trace, 0, sizeof *trace);
    count = tai_power_of_two_at_least(count);
    if (tai_mul(count, TAI_RINGS * sizeof(tai_record), &trace->memory_bytes)) {
        trace->memory = tai_vm_reserve(trace->memory_bytes);
    }
    if (trace->memory == NULL || !tai_vm_commit(trace->memory, trace->memory_bytes)) {
        if (trace->memory != NULL) {
            (void)tai_vm_release(trace->memory, trace->memory_bytes);
        }
        TENSORALLOC_FREE(trace);
        return TA_ERROR_RECORDS;
    }
    tai_vm_want_huge_pages(trace->memory, trace->memory_bytes); /* or every 64th event is a page fault, at first */
    for (i = 0; i < TAI_RINGS; i++) {
        trace->rings[i].records = (tai_record *)trace->memory + i * count;
    }
    trace->mask = count - 1;
    memcpy(trace->names[TAI_SOURCES - 1], "others", 7);
    trace->ticks_of_processor = tai_ticks_known();
    trace->time_first = trace->time_last = TENSORALLOC_CLOCK_NS();
    trace->ticks_first = trace->ticks_of_processor ? tai_ticks(1) : trace->time_first;
    *out = trace;
    return TA_OK;
}

static TAI_COLD void tai_trace_join(ta_trace *trace, int joins)
{
    tai_take(&tai_tags_taken);
    TENSORALLOC_STORE_RELEASE(&trace->users, joins ? trace->users + 1 : trace->users - 1);
    tai_give(&tai_tags_taken);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_destroy(ta_trace *trace)
{
    if (trace == NULL) {
        return TA_OK;
    }
    if (TENSORALLOC_LOAD_ACQUIRE(&trace->users) != 0 || TENSORALLOC_LOAD_ACQUIRE(&trace->busy) != 0) {
        return TA_ERROR_BUSY;
    }
    TENSORALLOC_FREE(trace->known.at);
    (void)tai_vm_release(trace->memory, trace->memory_bytes);
    TENSORALLOC_FREE(trace);
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_trace_step(ta_trace *trace)
{
    if (trace == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    tai_trace_put(trace, tai_trace_about(TA_EVENT_STEP, TA_OK, 0, 0), NULL, 0, 0, 0, tai_here.tag);
    return TA_OK;
}

TENSORALLOC_DEF void ta_trace_event(void *trace, const ta_event *event)
{
    if (trace != NULL && event != NULL && (uint32_t)event->kind <= (uint32_t)TA_EVENT_MISUSE &&
        (uint32_t)event->result < (uint32_t)TA_RESULT_COUNT) {
        ta_trace *to = (ta_trace *)trace;
        tai_trace_put(to, tai_trace_about(event->kind, event->result, event->hit, tai_trace_source(to, event->name)),
                      event->ptr, event->size_bytes, event->capacity_bytes, event->stream,
                      event->tag != NULL ? tai_tag_intern(NULL, event->tag) : NULL);
    }
}

/* The first ticket whose record the ring still has. */
static size_t tai_trace_oldest(const ta_trace *trace, size_t head, size_t first)
{
    return head - first > trace->mask + 1 ? head - trace->mask - 1 : first;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_clear(ta_trace *trace)
{
    uint32_t i;
    if (trace == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!tai_try_take(&trace->busy)) {
        return TA_ERROR_BUSY;
    }
    for (i = 0; i < TAI_RINGS; i++) {
        size_t head = TENSORALLOC_LOAD_ACQUIRE(&trace->rings[i].head);
        TENSORALLOC_STORE_RELAXED(&trace->lost, trace->lost + (head - trace->rings[i].next));
        TENSORALLOC_STORE_RELEASE(&trace->rings[i].next, head);
        TENSORALLOC_STORE_RELAXED(&trace->rings[i].cleared, head);
    }
    TENSORALLOC_FREE(trace->known.at);
    memset(&trace->known, 0, sizeof trace->known);
    trace->unsent = 0;
    memset(trace->live, 0, sizeof trace->live);
    memset(trace->reserved, 0, sizeof trace->reserved);
    tai_give(&trace->busy);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_get_stats(ta_trace *trace, ta_trace_stats *out)
{
    uint32_t i;
    if (trace == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    out->flushed_count = TENSORALLOC_LOAD_RELAXED(&trace->flushed);
    out->dropped_count = TENSORALLOC_LOAD_RELAXED(&trace->lost);
    for (i = 0; i < TAI_RINGS; i++) {
        size_t next = TENSORALLOC_LOAD_ACQUIRE(&trace->rings[i].next); /* first: it never overtakes head */
        size_t head = TENSORALLOC_LOAD_ACQUIRE(&trace->rings[i].head);
        size_t held = head - tai_trace_oldest(trace, head, next);
        out->event_count += head;
        out->held_count += held;
        out->dropped_count += head - next - held;
    }
    out->record_bytes = sizeof *trace + trace->memory_bytes +
                        TENSORALLOC_LOAD_RELAXED(&trace->known.capacity) * sizeof(tai_known);
    return TA_OK;
}

/* ---- what readers know of live blocks */
static TAI_COLD size_t tai_known_home(const tai_known_set *set, uint64_t addr, uint32_t source)
{
    return (size_t)tai_mix(addr ^ (uint64_t)source << 57) & (set->capacity - 1);
}

static TAI_COLD tai_known *tai_known_find(const tai_known_set *set, uint64_t addr, uint32_t source)
{
    size_t at;
    if (set->capacity == 0) {
        return NULL;
    }
    at = tai_known_home(set, addr, source);
    while (set->at[at].source != 0) {
        if (set->at[at].addr == addr && set->at[at].source == source) {
            return &set->at[at];
        }
        at = (at + 1) & (set->capacity - 1);
    }
    return NULL;
}

/* There is room, and it is not known. */
static TAI_COLD tai_known *tai_known_put(tai_known_set *set, uint64_t addr, uint32_t source)
{
    size_t at = tai_known_home(set, addr, source);
    while (set->at[at].source != 0) {
        at = (at + 1) & (set->capacity - 1);
    }
    memset(&set->at[at], 0, sizeof set->at[at]);
    set->at[at].addr = addr;
    set->at[at].source = source;
    set->count++;
    return &set->at[at];
}

/* Room for two more. */
static TAI_COLD int tai_known_ensure(tai_known_set *set)
{
    tai_known *old = set->at, *grown;
    size_t i, count = set->capacity, bytes;
    if (set->count + 2 < count - count / 4) {
        return 1;
    }
    if (!tai_mul(count == 0 ? 256 : 2 * count, sizeof *grown, &bytes) ||
        (grown = (tai_known *)TENSORALLOC_MALLOC(bytes)) == NULL) {
        return 0;
    }
    memset(grown, 0, bytes);
    set->at = grown;
    TENSORALLOC_STORE_RELAXED(&set->capacity, bytes / sizeof *grown);
    set->count = 0;
    for (i = 0; i < count; i++) {
        if (old[i].source != 0) {
            *tai_known_put(set, old[i].addr, old[i].source) = old[i];
        }
    }
    TENSORALLOC_FREE(old);
    return 1;
}

/* Whoever had to go past the hole moves up. */
static TAI_COLD void tai_known_remove(tai_known_set *set, tai_known *entry)
{
    size_t mask = set->capacity - 1, hole = (size_t)(entry - set->at), at = hole;
    for (;;) {
        const tai_known *next;
        at = (at + 1) & mask;
        next = &set->at[at];
        if (next->source == 0) {
            break;
        }
        if (((at - tai_known_home(set, next->addr, next->source)) & mask) >= ((at - hole) & mask)) {
            set->at[hole] = *next;
            hole = at;
        }
    }
    set->at[hole].source = 0;
    set->count--;
}

/* ---- reading: the rings as one */
typedef struct tai_merge {
    tai_pace pace;
    uint64_t ticks_end;                       /* what is younger is left */
    size_t next[TAI_RINGS], end[TAI_RINGS];
    tai_record heads[TAI_RINGS];
    uint64_t times[TAI_RINGS];                /* of the heads */
    uint64_t time_last;
    uint64_t lost;                            /* since somebody set it to 0 */
    int ready[TAI_RINGS];                     /* there is a head */
} tai_merge;

/* flushes: from the first that was not flushed on; else all that can be shown. */
static TAI_COLD void tai_merge_open(tai_merge *m, const ta_trace *trace, int flushes)
{
    uint32_t r;
    memset(m, 0, sizeof *m);
    m->pace = tai_trace_pace(trace);
    m->ticks_end = tai_ticks(trace->ticks_of_processor); /* before heads are looked at: no cause without its effect */
    for (r = 0; r < TAI_RINGS; r++) {
        const tai_ring *ring = &trace->rings[r];
        m->next[r] = flushes ? ring->next : TENSORALLOC_LOAD_RELAXED(&ring->cleared);
        m->end[r] = TENSORALLOC_LOAD_ACQUIRE(&ring->head);
        if (!flushes) {
            m->next[r] = tai_trace_oldest(trace, m->end[r], m->next[r]);
        }
    }
}

/* Gets the next record of a ring, past those that are gone. */
static TAI_COLD void tai_merge_fill(tai_merge *m, const ta_trace *trace, uint32_t r)
{
    const tai_ring *ring = &trace->rings[r];
    while (!m->ready[r] && m->next[r] != m->end[r]) {
        size_t first = tai_trace_oldest(trace, TENSORALLOC_LOAD_ACQUIRE(&ring->head), m->next[r]);
        if ((ptrdiff_t)(m->end[r] - first) < 0) {
            first = m->end[r];
        }
        m->lost += first - m->next[r];
        m->next[r] = first;
        if (first == m->end[r]) {
            return;
        }
        if (tai_trace_get(trace, ring, first, &m->heads[r]) != 1) {
            m->lost++;
            m->next[r]++;
        } else if ((int64_t)(m->heads[r].ticks - m->ticks_end) > 0) {
            m->end[r] = first;
        } else {
            m->ready[r] = 1;
            m->times[r] = tai_pace_time(&m->pace, m->heads[r].ticks);
        }
    }
}

/* Memory contradicts the record: its match may follow in another ring. */
static TAI_COLD int tai_record_waits(const tai_record *record, const tai_known_set *known)
{
    ta_event_kind kind = tai_record_kind(record);
    if (kind != TA_EVENT_ALLOC && kind != TA_EVENT_FREE && kind != TA_EVENT_RESIZE) {
        return 0;
    }
    return (tai_known_find(known, record->addr, tai_record_source(record)) != NULL) == (kind == TA_EVENT_ALLOC);
}

/* The ring whose record is the next one; TAI_RINGS: there is none. */
static uint32_t tai_merge_pick(tai_merge *m, const ta_trace *trace, const tai_known_set *known)
{
    uint32_t r, first = TAI_RINGS, chosen = TAI_RINGS;
    for (r = 0; r < TAI_RINGS; r++) {
        tai_merge_fill(m, trace, r);
        if (m->ready[r] && (first == TAI_RINGS || m->times[r] < m->times[first])) {
            first = r;
        }
    }
    if (first == TAI_RINGS || !tai_record_waits(&m->heads[first], known)) {
        return first;
    }
    for (r = 0; r < TAI_RINGS; r++) {
        if (m->ready[r] && m->times[r] - m->times[first] <= TAI_EARLY_NS &&
            (chosen == TAI_RINGS || m->times[r] < m->times[chosen]) && !tai_record_waits(&m->heads[r], known)) {
            chosen = r;
        }
    }
    return chosen != TAI_RINGS ? chosen : first;
}

/* The record has been read. Returns its time. */
static uint64_t tai_merge_pass(tai_merge *m, uint32_t r)
{
    m->time_last = m->times[r] > m->time_last ? m->times[r] : m->time_last;
    m->ready[r] = 0;
    m->next[r]++;
    return m->time_last;
}

static void tai_record_show(const ta_trace *trace, const tai_record *record, uint64_t time, ta_event *out)
{
    memset(out, 0, sizeof *out);
    out->kind = tai_record_kind(record);
    out->result = tai_record_result(record);
    out->ptr = (void *)(uintptr_t)record->addr;
    out->size_bytes = (size_t)record->size;
    out->capacity_bytes = (size_t)record->capacity;
    out->stream = record->stream;
    out->tag = record->tag;
    out->name = tai_record_source(record) != 0 ? trace->names[tai_record_source(record)] : NULL;
    out->time_ns = time;
    out->hit = (int)(record->about & 1);
    out->thread = (uint32_t)(record->about >> 32);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_for_each(ta_trace *trace, ta_event_fn fn, void *user)
{
    tai_merge m;
    tai_known_set known;
    ta_event event;
    ta_result result = TA_OK;
    if (trace == NULL || fn == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(&known, 0, sizeof known);
    tai_merge_open(&m, trace, 0);
    while (result == TA_OK) {
        uint32_t r = tai_merge_pick(&m, trace, &known);
        if (r == TAI_RINGS) {
            break;
        }
        tai_record_show(trace, &m.heads[r], tai_merge_pass(&m, r), &event);
        result = tai_known_ensure(&known) ? TA_OK : TA_ERROR_RECORDS;
        if (result == TA_OK) {
            tai_known *block = tai_known_find(&known, m.heads[r].addr, tai_record_source(&m.heads[r]));
            if (event.kind == TA_EVENT_ALLOC && block == NULL) {
                (void)tai_known_put(&known, m.heads[r].addr, tai_record_source(&m.heads[r]));
            } else if (event.kind == TA_EVENT_FREE && block != NULL) {
                tai_known_remove(&known, block);
            }
            fn(user, &event);
        }
    }
    TENSORALLOC_FREE(known.at);
    return result;
}

/* ---- the two formats */
#define TAI_TAG_SOURCE 255u /* of entries that are tags */

/* A record that is being written, and what the block was before. */
typedef struct tai_line {
    ta_event_kind kind;
    uint32_t source;
    uint64_t time;
    uint64_t was, is;       /* live bytes */
    uint64_t number, freed; /* what the block is called now and was called; 0: nothing */
    const char *tag;        /* of the block */
    uint64_t tag_live;
} tai_line;

/* The live bytes of the tag of a block. There is room for an entry. */
static TAI_COLD void tai_trace_follow_tag(ta_trace *trace, tai_line *line)
{
    tai_known *known;
    if (line->tag == NULL || line->is == line->was) {
        return;
    }
    known = tai_known_find(&trace->known, (uint64_t)(uintptr_t)line->tag, TAI_TAG_SOURCE);
    known = known != NULL ? known : tai_known_put(&trace->known, (uint64_t)(uintptr_t)line->tag, TAI_TAG_SOURCE);
    known->size += line->is - line->was;
    line->tag_live = known->size;
}

/* What the record does to what is known. There is room for two entries. Only texts call blocks by numbers. */
static TAI_COLD void tai_trace_follow(ta_trace *trace, const tai_record *record, tai_line *line, int text)
{
    tai_known *known = NULL;
    int lives = line->kind == TA_EVENT_ALLOC || line->kind == TA_EVENT_RESIZE;
    if (lives || line->kind == TA_EVENT_FREE) {
        known = tai_known_find(&trace->known, record->addr, line->source);
        line->was = known != NULL ? known->size : 0;
        line->freed = known != NULL ? known->number : 0;
        line->tag = known != NULL ? known->tag : record->tag;
    }
    if (lives) {
        known = known != NULL ? known : tai_known_put(&trace->known, record->addr, line->source);
        known->tag = line->tag;
        line->is = known->size = record->size;
        line->number = known->number = text ? ++trace->numbers : 0;
    } else if (known != NULL) {
        tai_known_remove(&trace->known, known);
    }
    trace->live[line->source] += line->is - line->was;
    tai_trace_follow_tag(trace, line);
    if (line->kind == TA_EVENT_GROW) {
        trace->reserved[line->source] += record->size;
    } else if (line->kind == TA_EVENT_TRIM) {
        uint64_t *reserved = &trace->reserved[line->source];
        *reserved -= record->size < *reserved ? record->size : *reserved;
    }
}

static TAI_COLD void tai_put_text(tai_writer *w, const char *text)
{
    tai_put(w, text, strlen(text));
}

/* Text of the user's in a comment: on one line. */
static TAI_COLD void tai_put_comment(tai_writer *w, const char *text)
{
    for (; *text != 0; text++) {
        char c = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
        tai_put(w, &c, 1);
    }
}

/* Of the kind of an event; NULL for none that there is. */
static TAI_COLD const char *tai_event_word(uint32_t kind)
{
    static const char *const words[] = {"alloc", "free", "resize", "grow", "trim", "limit", "failure", "step",
                                        "misuse"};
    return kind < sizeof words / sizeof *words ? words[kind] : NULL;
}

static TAI_COLD void tai_trace_text(ta_trace *trace, const tai_record *record, const tai_line *line)
{
    tai_writer *w = &trace->writer;
    uint32_t alignment = (uint32_t)(record->about >> 16 & 0xff);
    if (line->freed != 0) {
        tai_put_text(w, "f ");
        tai_put_decimal(w, line->freed);
        tai_put_text(w, line->number != 0 ? "\n" : " ");
    }
    if (line->number != 0) {
        tai_put_text(w, "a ");
        tai_put_decimal(w, line->number);
        tai_put_text(w, " ");
        tai_put_decimal(w, line->is);
        if (alignment != 0) {
            tai_put_text(w, " ");
            tai_put_decimal(w, (uint64_t)1 << alignment);
        }
        tai_put_text(w, " ");
    } else if (line->kind == TA_EVENT_STEP) {
        tai_put_text(w, "s ");
    }
    tai_put_text(w, "# ");
    tai_put_decimal(w, line->time);
    tai_put_text(w, " ns thread ");
    tai_put_decimal(w, record->about >> 32);
    if (line->source != 0) {
        tai_put_text(w, " ");
        tai_put_comment(w, trace->names[line->source]);
        tai_put_text(w, " ");
        tai_put_text(w, tai_event_word((uint32_t)line->kind));
    }
    if (line->number == 0 && line->source != 0) {
        tai_put_text(w, " of ");
        tai_put_decimal(w, record->size);
    }
    if (record->stream != 0) {
        tai_put_text(w, " stream ");
        tai_put_decimal(w, record->stream);
    }
    if (line->kind == TA_EVENT_FAILURE || line->kind == TA_EVENT_MISUSE) {
        tai_put_text(w, ": ");
        tai_put_text(w, ta_result_text(tai_record_result(record)));
    }
    if (record->tag != NULL) {
        tai_put_text(w, " tag ");
        tai_put_comment(w, record->tag);
    }
    tai_put_text(w, "\n");
}

/* The head of one event of the document, up to its arguments. name, of at most 255 bytes, stands behind word. */
static TAI_COLD void tai_chrome_begin(tai_writer *w, const char *word, const char *name, const char *phase,
                                      uint64_t time, uint64_t thread)
{
    uint64_t rest = time % 1000;
    char joined[TA_TAG_BYTES_MAX + 16], digits[4] = {'.', '0', '0', '0'};
    size_t length = strlen(word);
    digits[1] = (char)('0' + rest / 100);
    digits[2] = (char)('0' + rest / 10 % 10);
    digits[3] = (char)('0' + rest % 10);
    memcpy(joined, word, length);
    memcpy(joined + length, name, strlen(name) + 1);
    tai_json_begin(w, NULL, "{");
    tai_json_text(w, "name", joined);
    tai_json_text(w, "ph", phase);
    tai_json_u64(w, "ts", time / 1000);
    tai_put(w, digits, sizeof digits);
    tai_json_u64(w, "pid", 1);
    tai_json_u64(w, "tid", thread);
    if (phase[0] == 'i') {
        tai_json_text(w, "s", "g");
    }
    tai_json_begin(w, "args", "{");
}

static TAI_COLD void tai_chrome_end(tai_writer *w)
{
    tai_json_end(w, "}");
    tai_json_end(w, "}");
    tai_put(w, "\n", 1);
}

static TAI_COLD void tai_trace_chrome(ta_trace *trace, const tai_record *record, const tai_line *line)
{
    tai_writer *w = &trace->writer;
    uint64_t thread = record->about >> 32;
    if (line->kind == TA_EVENT_STEP) {
        tai_chrome_begin(w, "", "step", "i", line->time, thread);
    } else if (line->kind == TA_EVENT_FAILURE || line->kind == TA_EVENT_LIMIT || line->kind == TA_EVENT_MISUSE) {
        tai_chrome_begin(w, line->kind == TA_EVENT_MISUSE ? "misuse: " : "failure: ",
                         line->kind == TA_EVENT_LIMIT ? "limit" : ta_result_text(tai_record_result(record)), "i",
                         line->time, thread);
        tai_json_text(w, "allocator", trace->names[line->source]);
        tai_json_u64(w, "size", record->size);
        tai_json_text(w, "tag", record->tag);
    } else {
        tai_chrome_begin(w, "", trace->names[line->source], "C", line->time, 0);
        tai_json_u64(w, "live", trace->live[line->source]);
        tai_json_u64(w, "reserved", trace->reserved[line->source]);
    }
    tai_chrome_end(w);
    if (line->tag != NULL && line->is != line->was) {
        tai_chrome_begin(w, "tag ", line->tag, "C", line->time, 0);
        tai_json_u64(w, "live", line->tag_live);
        tai_chrome_end(w);
    }
}

/* Hands over what the writer holds; keeps it if the sink fails. */
static ta_result tai_trace_send(ta_trace *trace)
{
    tai_writer *w = &trace->writer;
    ta_result result = w->result;
    if (result == TA_OK && w->used != 0) {
        result = w->write(w->user, w->text, w->used);
        trace->unsent = result != TA_OK;
        w->used = result != TA_OK ? w->used : 0;
    }
    return result;
}

/* Records that nobody will write any more. */
static void tai_trace_lose(ta_trace *trace, ta_trace_format format, size_t count)
{
    TENSORALLOC_STORE_RELAXED(&trace->lost, trace->lost + count);
    if (format == TA_TRACE_TEXT) {
        tai_put_text(&trace->writer, "# dropped here: ");
        tai_put_decimal(&trace->writer, count);
        tai_put_text(&trace->writer, "\n");
    }
}

/* Writes what has been recorded so far. With busy taken. */
static TAI_COLD ta_result tai_trace_write(ta_trace *trace, ta_trace_format format)
{
    tai_merge m;
    tai_line line;
    tai_merge_open(&m, trace, 1);
    m.time_last = trace->time_last;
    for (;;) {
        uint32_t r = tai_merge_pick(&m, trace, &trace->known);
        ta_result result = trace->writer.used > TAI_WRITER_BYTES - TAI_TRACE_LINE ? tai_trace_send(trace) : TA_OK;
        if (result == TA_OK && !tai_known_ensure(&trace->known)) {
            result = TA_ERROR_RECORDS;
        }
        if (result != TA_OK) {
            return result;
        }
        if (m.lost != 0) {
            uint32_t i;
            tai_trace_lose(trace, format, (size_t)m.lost);
            for (i = 0; i < TAI_RINGS; i++) {
                TENSORALLOC_STORE_RELEASE(&trace->rings[i].next, m.next[i]);
            }
            m.lost = 0;
            continue; /* that was a line */
        }
        if (r == TAI_RINGS) {
            return TA_OK;
        }
        memset(&line, 0, sizeof line);
        line.kind = tai_record_kind(&m.heads[r]);
        line.source = tai_record_source(&m.heads[r]);
        line.time = trace->time_last = tai_merge_pass(&m, r);
        tai_trace_follow(trace, &m.heads[r], &line, format == TA_TRACE_TEXT);
        (format == TA_TRACE_TEXT ? tai_trace_text : tai_trace_chrome)(trace, &m.heads[r], &line);
        TENSORALLOC_STORE_RELAXED(&trace->flushed, trace->flushed + 1);
        TENSORALLOC_STORE_RELEASE(&trace->rings[r].next, m.next[r]);
    }
}

TENSORALLOC_DEF TAI_COLD ta_result ta_trace_flush(ta_trace *trace, ta_trace_format format, ta_write_fn write,
                                                  void *user)
{
    ta_result result;
    tai_writer *w;
    size_t unsent, i;
    if (trace == NULL || write == NULL || (format != TA_TRACE_TEXT && format != TA_TRACE_CHROME)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!tai_try_take(&trace->busy)) {
        return TA_ERROR_BUSY;
    }
    w = &trace->writer;
    unsent = trace->unsent && format == TA_TRACE_TEXT ? w->used : 0;
    for (i = 0; trace->unsent && unsent == 0 && i < trace->known.capacity; i++) {
        trace->known.at[i].number = 0; /* what stood in the text that nobody took */
    }
    tai_writer_open(w, write, user);
    w->used = unsent;
    result = tai_trace_send(trace);
    if (result == TA_OK && format == TA_TRACE_CHROME) {
        tai_json_begin(w, NULL, "{");
        tai_json_begin(w, "traceEvents", "[");
    }
    if (result == TA_OK) {
        result = tai_trace_write(trace, format);
    }
    if (result == TA_OK && format == TA_TRACE_CHROME) {
        tai_json_end(w, "]");
        tai_json_begin(w, "otherData", "{");
        tai_json_u64(w, "dropped", trace->lost);
        tai_json_end(w, "}");
        tai_json_end(w, "}");
        tai_put(w, "\n", 1);
    }
    if (result == TA_OK) {
        result = tai_trace_send(trace);
    }
    trace->unsent = trace->unsent && format == TA_TRACE_TEXT;
    tai_give(&trace->busy);
    return result;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:HOST] host backends: pages of the system (or malloc), and the caller's fixed buffer.
  Uses: PLATFORM, MATH.
  Invariants: no state but the fixed buffer's.
  -------------------------------------------------------------------------------------------------------*/
#if defined(TENSORALLOC_MALLOC_BACKEND) || !defined(TAI_HAS_VM)
    #define TAI_HOST_GRANULARITY 4096

static TAI_COLD void tai_host_info(void *self, ta_backend_info *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_HOST_ACCESS;
    out->granularity_bytes = TAI_HOST_GRANULARITY;
    out->alignment_bytes = 64;
}

/* The pointer that malloc gave stands just behind the segment. */
static TAI_COLD ta_result tai_host_alloc(void *self, size_t size, void **out)
{
    size_t total;
    char *raw, *ptr;
    (void)self;
    if (!tai_add(size, TAI_HOST_GRANULARITY + sizeof(void *), &total) || (raw = (char *)malloc(total)) == NULL) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    ptr = raw + (tai_round_up((size_t)(uintptr_t)raw, TAI_HOST_GRANULARITY) - (size_t)(uintptr_t)raw);
    memcpy(ptr + size, &raw, sizeof raw);
    *out = ptr;
    return TA_OK;
}

static TAI_COLD ta_result tai_host_free(void *self, void *ptr, size_t size)
{
    void *raw;
    (void)self;
    memcpy(&raw, (char *)ptr + size, sizeof raw);
    free(raw);
    return TA_OK;
}

static const ta_backend_vtable tai_host_vtable = {
    sizeof(ta_backend_vtable), "host-malloc", tai_host_info, tai_host_alloc, tai_host_free,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};
#else
static TAI_COLD void tai_host_info(void *self, ta_backend_info *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_RANGES | TA_CAP_HOST_ACCESS | TA_CAP_FRESH_ZERO;
    out->granularity_bytes = tai_page_bytes();
    out->alignment_bytes = 64;
}

static TAI_COLD ta_result tai_host_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    size_t page = tai_page_bytes(), total = size;
    char *ptr;
    (void)self;
    if (alignment > page && !tai_add(size, alignment - page, &total)) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    ptr = (char *)tai_vm_reserve(total);
    if (ptr == NULL) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    if (total != size) {
        size_t front = (size_t)(0 - (uintptr_t)ptr) & (alignment - 1);
#ifndef TAI_OS_WINDOWS /* there what is too much stays: it costs addresses only */
        if (front != 0) {
            (void)tai_vm_release(ptr, front);
        }
        if (total - front != size) {
            (void)tai_vm_release(ptr + front + size, total - front - size);
        }
#endif
        ptr += front;
    }
    if ((flags & TA_RANGE_HUGE_PAGES) != 0) {
        tai_vm_want_huge_pages(ptr, size);
    }
    *out = ptr;
    return TA_OK;
}

static TAI_COLD ta_result tai_host_release(void *self, void *ptr, size_t size)
{
    (void)self;
    return tai_vm_release(ptr, size) ? TA_OK : TA_ERROR_BACKEND;
}

static TAI_COLD ta_result tai_host_commit(void *self, void *ptr, size_t size)
{
    (void)self;
    return tai_vm_commit(ptr, size) ? TA_OK : TA_ERROR_OUT_OF_MEMORY;
}

static TAI_COLD ta_result tai_host_decommit(void *self, void *ptr, size_t size)
{
    (void)self;
    return tai_vm_decommit(ptr, size) ? TA_OK : TA_ERROR_BACKEND;
}

static TAI_COLD ta_result tai_host_alloc(void *self, size_t size, void **out)
{
    void *ptr = NULL;
    ta_result result = tai_host_reserve(self, size, tai_page_bytes(), 0, &ptr);
    if (result == TA_OK && !tai_vm_commit(ptr, size)) {
        (void)tai_vm_release(ptr, size);
        result = TA_ERROR_OUT_OF_MEMORY;
    }
    if (result == TA_OK) {
        *out = ptr;
    }
    return result;
}

static TAI_COLD ta_result tai_host_free(void *self, void *ptr, size_t size)
{
    return tai_host_release(self, ptr, size);
}

#ifdef TAI_OS_WINDOWS
    #define TAI_HOST_DISCARD NULL /* committed memory counts there, touched or not */
#else
    #define TAI_HOST_DISCARD tai_host_discard
static TAI_COLD ta_result tai_host_discard(void *self, void *ptr, size_t size)
{
    (void)self;
    return tai_vm_discard(ptr, size) ? TA_OK : TA_ERROR_BACKEND;
}
#endif

static TAI_COLD ta_result tai_host_memory_info(void *self, size_t *out_free, size_t *out_total)
{
    (void)self;
    *out_total = tai_physical_bytes();
    *out_free = TA_UNLIMITED;
#if defined(TAI_OS_WINDOWS)
    {
        MEMORYSTATUSEX status;
        status.dwLength = sizeof status;
        if (GlobalMemoryStatusEx(&status)) {
            *out_free = (size_t)status.ullAvailPhys;
        }
    }
#elif defined(_SC_AVPHYS_PAGES)
    {
        long pages = sysconf(_SC_AVPHYS_PAGES);
        if (pages >= 0) {
            *out_free = (size_t)pages * tai_page_bytes();
        }
    }
#endif
    return TA_OK;
}

static const ta_backend_vtable tai_host_vtable = {
    sizeof(ta_backend_vtable), "host", tai_host_info, tai_host_alloc, tai_host_free,
    tai_host_reserve, tai_host_release, tai_host_commit, tai_host_decommit, NULL, TAI_HOST_DISCARD,
    tai_host_memory_info, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};
#endif

TENSORALLOC_DEF TAI_COLD ta_backend ta_backend_host(void)
{
    ta_backend backend;
    backend.vtable = &tai_host_vtable;
    backend.self = NULL;
    return backend;
}

/* The fixed buffer: one reservation of everything; commit and decommit have nothing to do. */
static TAI_COLD void tai_fixed_info(void *self, ta_backend_info *out)
{
    const ta_fixed_buffer *state = (const ta_fixed_buffer *)self;
    memset(out, 0, sizeof *out);
    out->caps = TA_CAP_RANGES | TA_CAP_HOST_ACCESS;
    out->granularity_bytes = 64;
    out->alignment_bytes = 64;
    out->range_bytes_max = state->size_bytes;
}

static TAI_COLD ta_result tai_fixed_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    ta_fixed_buffer *state = (ta_fixed_buffer *)self;
    (void)flags;
    if (size > state->size_bytes || (state->base & (alignment - 1)) != 0) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
#ifdef TENSORALLOC_NO_THREADS
    if (state->reserved != 0) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    state->reserved = 1;
#else
    if (TENSORALLOC_EXCHANGE32(&state->reserved, 1u) != 0) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
#endif
    *out = (void *)state->base;
    return TA_OK;
}

static TAI_COLD ta_result tai_fixed_release(void *self, void *ptr, size_t size)
{
    (void)ptr;
    (void)size;
    TENSORALLOC_STORE_RELEASE(&((ta_fixed_buffer *)self)->reserved, 0u);
    return TA_OK;
}

static TAI_COLD ta_result tai_fixed_nothing(void *self, void *ptr, size_t size)
{
    (void)self;
    (void)ptr;
    (void)size;
    return TA_OK;
}

static const ta_backend_vtable tai_fixed_vtable = {
    sizeof(ta_backend_vtable), "fixed", tai_fixed_info, NULL, NULL,
    tai_fixed_reserve, tai_fixed_release, tai_fixed_nothing, tai_fixed_nothing, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};

TENSORALLOC_DEF TAI_COLD ta_result ta_backend_fixed(ta_fixed_buffer *state, void *buffer, size_t size_bytes,
                                                    ta_backend *out)
{
    size_t front = (size_t)(0 - (uintptr_t)buffer) & 63;
    if (state == NULL || buffer == NULL || out == NULL || size_bytes < 256) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (size_bytes > UINTPTR_MAX - (uintptr_t)buffer) {
        return TAI_BAD(TA_ERROR_OVERFLOW);
    }
    state->base = (uintptr_t)buffer + front;
    state->size_bytes = tai_round_down(size_bytes - front, 64);
    state->reserved = 0;
    state->padding = 0;
    out->vtable = &tai_fixed_vtable;
    out->self = state;
    return TA_OK;
}

static void tai_no_backend_info(void *self, ta_backend_info *out)
{
    (void)self;
    memset(out, 0, sizeof *out);
    out->granularity_bytes = out->alignment_bytes = 64;
}

/* Every create function refuses it. */
static const ta_backend_vtable tai_no_backend_vtable = {
    sizeof(ta_backend_vtable), "none", tai_no_backend_info, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};

static TAI_COLD ta_backend tai_backend_or_host(ta_backend backend)
{
    return backend.vtable == NULL ? ta_backend_host() : backend;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_backend_check(ta_backend backend)
{
    const ta_backend_vtable *t = tai_backend_or_host(backend).vtable;
    ta_backend_info info;
    if (t->struct_bytes != sizeof(ta_backend_vtable) || t->name == NULL || t->info == NULL) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    memset(&info, 0, sizeof info);
    t->info(backend.self, &info);
    if (!tai_is_power_of_two(info.granularity_bytes) || !tai_is_power_of_two(info.alignment_bytes) ||
        info.alignment_bytes < 64 || info.alignment_bytes > info.granularity_bytes) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if ((info.caps & TA_CAP_SEGMENTS) != 0 && (t->alloc == NULL || t->free == NULL)) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if ((info.caps & TA_CAP_RANGES) != 0 &&
        (t->reserve == NULL || t->release == NULL || t->commit == NULL || t->decommit == NULL)) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if (info.range_bytes_max % info.granularity_bytes != 0) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if ((info.caps & TA_CAP_ORDERED) != 0 &&
        (t->mark == NULL || t->is_done == NULL || t->wait == NULL || t->sync == NULL)) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if ((info.caps & TA_CAP_HOST_ACCESS) == 0 && (t->zero == NULL || t->copy == NULL)) {
        return TA_ERROR_INVALID_ARGUMENT;
    }
    if ((info.caps & (TA_CAP_SEGMENTS | TA_CAP_RANGES)) == 0) {
        return TA_ERROR_UNSUPPORTED;
    }
    return TA_OK;
}

static ta_result tai_backend_zero(ta_backend backend, void *ptr, size_t size, ta_stream stream)
{
    if (backend.vtable->zero != NULL) {
        return backend.vtable->zero(backend.self, ptr, size, stream);
    }
    memset(ptr, 0, size);
    return TA_OK;
}

static ta_result tai_backend_copy(ta_backend backend, void *dst, const void *src, size_t size, ta_stream stream)
{
    if (backend.vtable->copy != NULL) {
        return backend.vtable->copy(backend.self, dst, src, size, stream);
    }
    memcpy(dst, src, size);
    return TA_OK;
}

/* Takes what whole pieces allow of the committed span away. *from and *to become what was taken (empty: nothing). */
static TAI_COLD ta_result tai_backend_decommit(ta_backend backend, uintptr_t *from, uintptr_t *to)
{
    void *ptr = (void *)*from;
    size_t size = (size_t)(*to - *from);
    if (backend.vtable->pieces != NULL) {
        backend.vtable->pieces(backend.self, &ptr, &size);
        *from = (uintptr_t)ptr;
        *to = *from + size;
    }
    return size == 0 ? TA_OK : backend.vtable->decommit(backend.self, ptr, size);
}

static TAI_COLD int64_t tai_backend_code(ta_backend backend)
{
    ta_backend_error error;
    if (backend.vtable->last_error == NULL) {
        return 0;
    }
    memset(&error, 0, sizeof error);
    backend.vtable->last_error(backend.self, &error);
    return error.code;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:BUDGET] limit and reclaim of one backend instance.
  Uses: ATOMICS, HOST.
  Invariants: reserved_bytes never exceeds limit_bytes by a charge; a member is not removed while its reclaim runs.
  Locks: lock guards the list of members; it is not held while reclaim runs. Charging takes no lock.
  -------------------------------------------------------------------------------------------------------*/
typedef struct tai_member {
    struct tai_member *next;
    /* Gives back at least want_bytes if it can, without waiting for others; returns what it gave. */
    size_t (*reclaim)(void *self, size_t want_bytes);
    /* Bytes that it caches where reclaim does not reach (thread caches), with pages != 0 also where it does. NULL:
       none, or it cannot be asked. */
    size_t (*cached)(void *self, int pages);
    void *self;
    uint32_t serial;  /* order of joining */
    uint32_t running; /* reclaims inside */
} tai_member;

struct ta_budget {
    ta_backend backend;
    ta_backend_info info;
    size_t limit;    /* TA_UNLIMITED for none */
    size_t reserved; /* charged */
    size_t peak;
    tai_lock lock;
    tai_member *members;
    size_t member_count;
    uint32_t serial;
    uint32_t padding;
};

TENSORALLOC_DEF TAI_COLD ta_result ta_budget_create(const ta_budget_desc *desc, ta_budget **out)
{
    ta_budget *budget;
    ta_backend backend;
    ta_result result;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    backend = ta_backend_host();
    if (desc != NULL) {
        backend = tai_backend_or_host(desc->backend);
    }
    result = ta_backend_check(backend);
    if (result != TA_OK) {
        return result;
    }
    budget = (ta_budget *)TENSORALLOC_MALLOC(sizeof *budget);
    if (budget == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(budget, 0, sizeof *budget);
    budget->backend = backend;
    backend.vtable->info(backend.self, &budget->info);
    budget->limit = desc == NULL || desc->limit_bytes == 0 ? TA_UNLIMITED : desc->limit_bytes;
    TAI_LOCK_INIT(&budget->lock);
    *out = budget;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_budget_destroy(ta_budget *budget)
{
    if (budget == NULL) {
        return TA_OK;
    }
    if (budget->member_count != 0) {
        return TA_ERROR_BUSY;
    }
    TENSORALLOC_FREE(budget);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_budget_set_limit(ta_budget *budget, size_t limit_bytes)
{
    if (budget == NULL || limit_bytes == 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    TENSORALLOC_STORE_RELAXED(&budget->limit, limit_bytes);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_budget_get_stats(ta_budget *budget, ta_budget_stats *out)
{
    if (budget == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    out->limit_bytes = TENSORALLOC_LOAD_RELAXED(&budget->limit);
    out->reserved_bytes = TENSORALLOC_LOAD_RELAXED(&budget->reserved);
    out->peak_reserved_bytes = TENSORALLOC_LOAD_RELAXED(&budget->peak);
    TAI_LOCK_ACQUIRE(&budget->lock);
    out->allocator_count = budget->member_count;
    TAI_LOCK_RELEASE(&budget->lock);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_budget_get_desc(ta_budget *budget, ta_budget_desc *out)
{
    if (budget == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    out->backend = budget->backend;
    out->limit_bytes = TENSORALLOC_LOAD_RELAXED(&budget->limit);
    return TA_OK;
}

/* Replaces *field by value if it is still *seen; else loads it into *seen. */
static int tai_swap_size(size_t *field, size_t *seen, size_t value)
{
#ifdef TENSORALLOC_NO_THREADS
    (void)seen;
    *field = value;
    return 1;
#else
    size_t expected = *seen;
    if (TENSORALLOC_CASZ(field, &expected, value)) {
        return 1;
    }
    *seen = TENSORALLOC_LOAD_ACQUIRE(field);
    return 0;
#endif
}

/* Takes bytes out of the budget, or nothing. */
static int tai_budget_charge(ta_budget *budget, size_t bytes)
{
    size_t seen = TENSORALLOC_LOAD_ACQUIRE(&budget->reserved), peak;
    do {
        size_t limit = TENSORALLOC_LOAD_RELAXED(&budget->limit);
        if (bytes > limit || seen > limit - bytes) {
            return 0;
        }
    } while (!tai_swap_size(&budget->reserved, &seen, seen + bytes));
    seen += bytes;
    peak = TENSORALLOC_LOAD_ACQUIRE(&budget->peak);
    while (peak < seen && !tai_swap_size(&budget->peak, &peak, seen)) {
    }
    return 1;
}

/* Whether bytes fit at all beside what is in use, if everything else were given back. */
static TAI_COLD int tai_budget_may_hold(const ta_budget *budget, size_t in_use, size_t bytes)
{
    size_t limit = TENSORALLOC_LOAD_RELAXED(&budget->limit);
    return in_use <= limit && bytes <= limit - in_use;
}

static void tai_budget_refund(ta_budget *budget, size_t bytes)
{
    size_t seen = TENSORALLOC_LOAD_ACQUIRE(&budget->reserved);
    while (!tai_swap_size(&budget->reserved, &seen, seen - bytes)) {
    }
}

static TAI_COLD void tai_budget_join(ta_budget *budget, tai_member *member)
{
    TAI_LOCK_ACQUIRE(&budget->lock);
    member->serial = ++budget->serial;
    member->next = budget->members;
    budget->members = member;
    budget->member_count++;
    TAI_LOCK_RELEASE(&budget->lock);
}

/* Waits until no reclaim runs inside the member. */
static TAI_COLD void tai_budget_leave(ta_budget *budget, tai_member *member)
{
    for (;;) {
        tai_member **link;
        TAI_LOCK_ACQUIRE(&budget->lock);
        if (member->running == 0) {
            for (link = &budget->members; *link != NULL; link = &(*link)->next) {
                if (*link == member) {
                    *link = member->next;
                    budget->member_count--;
                    break;
                }
            }
            TAI_LOCK_RELEASE(&budget->lock);
            return;
        }
        TAI_LOCK_RELEASE(&budget->lock);
        TAI_WAIT_A_MOMENT();
    }
}

/* What every member but one caches: where reclaim does not reach, or (pages) in all. With give != 0 each is made to
   give it back instead, until want_bytes have come together. */
static TAI_COLD size_t tai_budget_ask(ta_budget *budget, const tai_member *except, size_t want_bytes, int give,
                                      int pages)
{
    size_t got = 0;
    uint32_t below = 0xffffffffu; /* the list goes from the youngest to the oldest */
    TAI_LOCK_ACQUIRE(&budget->lock);
    while (got < want_bytes) {
        tai_member *member = budget->members;
        while (member != NULL && (member == except || member->serial >= below)) {
            member = member->next;
        }
        if (member == NULL) {
            break;
        }
        below = member->serial;
        member->running++;
        TAI_LOCK_RELEASE(&budget->lock);
        if (give) {
            got += member->reclaim(member->self, want_bytes - got);
        } else if (member->cached != NULL) {
            got += member->cached(member->self, pages);
        }
        TAI_LOCK_ACQUIRE(&budget->lock);
        member->running--;
    }
    TAI_LOCK_RELEASE(&budget->lock);
    return got;
}

static TAI_COLD size_t tai_budget_reclaim(ta_budget *budget, const tai_member *except, size_t want_bytes)
{
    return tai_budget_ask(budget, except, want_bytes, 1, 1);
}

/* What the backend and siblings say of a request that needs bytes more of them. The result, what the budget held and
   what the allocator had reserved are known. Outside the gate. Asked: siblings have been made to give. */
static TAI_COLD void tai_budget_explain(ta_budget *budget, const tai_member *member, size_t need, int asked,
                                        ta_failure *out)
{
    const ta_backend_vtable *backend = budget->backend.vtable;
    size_t used = out->budget_used_bytes, room = 0;
    out->backend_free_bytes = out->backend_total_bytes = TA_UNLIMITED;
    if (out->result == TA_ERROR_LIMIT) {
        room = out->limit_bytes > used ? out->limit_bytes - used : 0;
    } else if (budget->info.range_bytes_max != 0) {
        room = out->free_bytes;
    } else if (backend->memory_info != NULL && backend->memory_info(budget->backend.self, &out->backend_free_bytes,
                                                                    &out->backend_total_bytes) != TA_OK) {
        out->backend_free_bytes = out->backend_total_bytes = TA_UNLIMITED;
    } else if (out->backend_free_bytes != TA_UNLIMITED) {
        room = out->backend_free_bytes;
    }
    if (out->backend_total_bytes != TA_UNLIMITED && used <= out->backend_total_bytes && /* managed memory can be more */
        out->backend_total_bytes - used >= out->backend_free_bytes) {
        out->outside_bytes = out->backend_total_bytes - used - out->backend_free_bytes;
    }
    out->sibling_reserved_bytes = used > out->reserved_bytes ? used - out->reserved_bytes : 0;
    out->sibling_cached_bytes = tai_budget_ask(budget, member, TA_UNLIMITED, 0, !asked);
    out->action_bytes = need > room ? need - room : need;
}

/* The verdict where nothing that is cached, waits or is in pieces would do. */
static TAI_COLD ta_verdict tai_budget_verdict(const ta_budget *budget, size_t need, ta_failure *out)
{
    if (out->result == TA_ERROR_LIMIT) {
        out->action_bytes = tai_add_saturated(out->budget_used_bytes, need);
        return TA_VERDICT_LIMIT;
    }
    if (budget->info.range_bytes_max == 0 &&
        (out->backend_free_bytes == TA_UNLIMITED || out->backend_free_bytes >= need)) {
        return TA_VERDICT_BACKEND;
    }
    return out->outside_bytes >= out->action_bytes ? TA_VERDICT_OUTSIDE : TA_VERDICT_FULL;
}

/* Each verdict has its action. */
static TAI_COLD void tai_failure_conclude(ta_failure *failure, ta_verdict verdict)
{
    static const ta_action actions[] = {
#define TAI_VERDICT_ACTION(name, text, action, action_text) action,
        TA_VERDICT_LIST(TAI_VERDICT_ACTION)
#undef TAI_VERDICT_ACTION
    };
    failure->verdict = verdict;
    failure->action = actions[verdict];
}

/* The budget of a desc: the shared one, or a new private one. */
static TAI_COLD ta_result tai_budget_resolve(ta_budget *shared, ta_backend backend, size_t limit, ta_budget **out,
                                             int *out_owned)
{
    ta_budget_desc desc;
    *out = shared;
    *out_owned = 0;
    if (shared != NULL) {
        return TA_OK;
    }
    memset(&desc, 0, sizeof desc);
    desc.backend = backend;
    desc.limit_bytes = limit;
    *out_owned = 1;
    return ta_budget_create(&desc, out);
}

/*---------------------------------------------------------------------------------------------------------
  [TA:GUARD] checked builds: reports of misuse, red zones behind blocks, fills of freed ones, objects that are gone.
  Nothing of it is compiled without TENSORALLOC_CHECKED.
  Uses: ATOMICS, HOST, BUDGET.

     live    addr | requested bytes | red zone, 64 bytes or more | next block     an underrun is seen in the red zone
     freed   addr | filled, red zone too                         | next block     of the block in front
  Invariants: none of these functions is called with a lock held, but for those that only look at bytes.
  -------------------------------------------------------------------------------------------------------*/
#ifdef TENSORALLOC_CHECKED
    #define TAI_RED_BYTES ((size_t)64)
    #define TAI_RED_END ((size_t)2048) /* of a longer one only this much at each end is looked at */
    #define TAI_RED 0xb5               /* the byte that red zones are made of */
    #define TAI_DEAD 0xdb              /* and freed blocks */
    #define TAI_DEAD_BYTES ((size_t)64 << 20) /* of a larger block only the beginning is filled */
    #define TAI_HELD_BYTES ((size_t)16 << 20) /* freed blocks that a pool holds back; the latest one always */
    #define TAI_GRAVES 64u             /* destroyed objects that are remembered */
    #define TAI_REPORTS_MAX 64         /* leaks that are told one by one */

/* What an allocator knows of misuse. */
typedef struct tai_guard {
    int on;               /* 0: not in this memory, 1: red zones and fills by the host, 2: fills by the backend */
    int closed;           /* the last look has been taken */
    ta_result found;      /* damage that no call could answer with when it was found: check, dispose and destroy do */
    uint32_t first, last; /* pools: freed blocks held back, the oldest first, linked by right */
    size_t bytes;         /* their capacity */
} tai_guard;

static int tai_guard_mode(const ta_backend_info *info)
{
    int device = TENSORALLOC_CHECKED + 0 >= 2 ? 2 : 0;
    return (info->caps & (TA_CAP_HOST_ACCESS | TA_CAP_ORDERED)) == TA_CAP_HOST_ACCESS ? 1 : device;
}

    #define tai_guard_held(pool) ((pool)->guard.bytes)

static size_t tai_guard_padded(const tai_guard *guard, size_t size)
{
    return guard->on == 1 ? size + TAI_RED_BYTES : size;
}

/* Tells of misuse; other results are none. Returns why. */
static TAI_COLD ta_result tai_misuse(const char *name, ta_event_fn on_event, void *user, ta_result why,
                                     const void *ptr, size_t size, const char *tag)
{
    ta_event event;
    char text[256];
    if (why != TA_ERROR_FOREIGN && why != TA_ERROR_INTERIOR && why != TA_ERROR_STALE && why != TA_ERROR_SIZE_MISMATCH &&
        why != TA_ERROR_DISPOSED && why != TA_ERROR_OVERRUN && why != TA_ERROR_UNDERRUN &&
        why != TA_ERROR_USE_AFTER_FREE && why != TA_ERROR_LEAK) {
        return why;
    }
    memset(&event, 0, sizeof event);
    event.kind = TA_EVENT_MISUSE;
    event.result = why;
    event.ptr = (void *)(uintptr_t)ptr;
    event.size_bytes = size;
    event.tag = tag;
    event.name = name;
    event.time_ns = TENSORALLOC_CLOCK_NS();
    if (on_event != NULL) {
        on_event(user, &event);
    }
    (void)snprintf(text, sizeof text, "%.31s: %s: %.0f bytes at %p%s%.99s", name, ta_result_text(why), (double)size,
                   event.ptr, tag != NULL ? ", tag " : "", tag != NULL ? tag : "");
    TENSORALLOC_LOG(why, text);
    TENSORALLOC_TRAP(why);
    return why;
}

/* How much of a freed block is filled: a huge one may never have been touched. */
static size_t tai_dead_bytes(size_t size)
{
    return size < TAI_DEAD_BYTES ? size : TAI_DEAD_BYTES;
}

static int tai_is_filled(uintptr_t addr, size_t bytes, int with)
{
    const unsigned char *at = (const unsigned char *)addr;
    return bytes == 0 || (at[0] == with && memcmp(at, at + 1, bytes - 1) == 0);
}

static void tai_red_paint(uintptr_t addr, size_t requested, size_t capacity)
{
    size_t gap = capacity - requested, part = gap <= 2 * TAI_RED_END ? gap : TAI_RED_END;
    memset((void *)(addr + requested), TAI_RED, part);
    memset((void *)(addr + capacity - part), TAI_RED, part);
}

static int tai_red_is_whole(uintptr_t addr, size_t requested, size_t capacity)
{
    size_t gap = capacity - requested, part = gap <= 2 * TAI_RED_END ? gap : TAI_RED_END;
    return tai_is_filled(addr + requested, part, TAI_RED) && tai_is_filled(addr + capacity - part, part, TAI_RED);
}

/* Whether what lies in front of end was written from behind: its last byte is gone, the first of 64 is not. */
static int tai_red_is_underrun(uintptr_t end, size_t bytes, int with)
{
    const unsigned char *at = (const unsigned char *)end;
    bytes = bytes < TAI_RED_BYTES ? bytes : TAI_RED_BYTES;
    return bytes > 1 && at[-1] != with && *(at - bytes) == with;
}

/* Objects that were destroyed stay for a while, so that a use of them is an answer and no crash. */
static size_t tai_graves[TAI_GRAVES];

static TAI_COLD void tai_bury(void *object)
{
    size_t other = (size_t)(uintptr_t)object;
    uint32_t i;
    for (i = 0; i < TAI_GRAVES && other != 0; i++) { /* each moves on by one; the oldest falls out */
        size_t before = TENSORALLOC_LOAD_ACQUIRE(&tai_graves[i]);
        while (!tai_swap_size(&tai_graves[i], &before, other)) {
        }
        other = before;
    }
    TENSORALLOC_FREE((void *)(uintptr_t)other);
}
#else
    #define tai_guard_padded(guard, size) (size)
    #define tai_guard_held(pool) 0u
    #define tai_bury(object) TENSORALLOC_FREE(object)
#endif

/*---------------------------------------------------------------------------------------------------------
  [TA:BLOCKS] records of blocks, out of band: a table that never moves, indexed from 1.
  Uses: PLATFORM, MATH.
  Invariants: a record is in exactly one state; its generation changes when its block is freed.

     live      addr size requested tag | prev next | left = recorded uses | class, stream, region
     cached    addr size               | prev next | right = next in the cache list; left = 0
     free      addr size requested=bin | prev next | left, right = tree in that bin
     pending   addr size               | prev next | right = uses to wait for
     busy      addr size               | prev next | (in no list; one thread works on it)
     vacant                                          left = next vacant
  -------------------------------------------------------------------------------------------------------*/
enum { TAI_VACANT = 0, TAI_LIVE = 1, TAI_CACHED = 2, TAI_FREE = 3, TAI_PENDING = 4, TAI_BUSY = 5 };
enum {
    TAI_FLAG_HOLES = 1,          /* free or busy: pages of it may be uncommitted */
    TAI_FLAG_ALIGNMENT_SHIFT = 3 /* live: from this bit on log2 of an alignment above the granule */
};

/* What a block has in common with the one it is cut from. */
typedef struct tai_place {
    uint8_t class_index;  /* of thread caches; 0: never cached there */
    uint8_t flags;
    uint16_t stream;      /* index of the home stream; 0: ready for all */
    uint32_t region : 30; /* index */
    uint32_t heap : 2;
} tai_place;

typedef struct tai_block {
    uintptr_t addr;
    size_t size;      /* capacity */
    size_t requested; /* live: what the caller asked for */
    const char *tag;  /* live */
    uint32_t prev, next;  /* neighbours by address in the region, 0 at its ends */
    uint32_t left, right; /* see above */
    uint32_t generation;
    uint32_t state;       /* TAI_*; changes between live and cached without the gate, by the owner of the block */
    tai_place place;
} tai_block;

/* Zeroed memory that grows at its end and never moves: addresses first, pages as needed. */
typedef struct tai_table {
    char *base;
    size_t committed;
    size_t reserved;
} tai_table;

/* Tries want_bytes, then halves down to least_bytes. */
static TAI_COLD int tai_table_init(tai_table *table, size_t want_bytes, size_t least_bytes)
{
    size_t page = tai_page_bytes(), want = tai_round_up(want_bytes, page), least = tai_round_up(least_bytes, page);
    memset(table, 0, sizeof *table);
    while (table->base == NULL && want >= least) { /* least > 0 */
        table->base = want == least || tai_vm_has_room(want) ? (char *)tai_vm_reserve(want) : NULL;
        table->reserved = want;
        want = want == least ? 0 : want / 2 < least ? least : tai_round_up(want / 2, page);
    }
    return table->base != NULL;
}

static TAI_COLD void tai_table_free(tai_table *table)
{
    if (table->base != NULL) {
        (void)tai_vm_release(table->base, table->reserved);
    }
    memset(table, 0, sizeof *table);
}

/* Makes the first bytes usable. */
static int tai_table_ensure(tai_table *table, size_t bytes)
{
    size_t step = tai_page_bytes(), end;
    if (TAI_LIKELY(bytes <= table->committed)) {
        return 1;
    }
    step = tai_round_up(table->committed / 4 > step ? table->committed / 4 : step, step);
    end = tai_round_up(bytes, step);
    if (end > table->reserved) {
        end = table->reserved;
    }
    if (bytes > end || !tai_vm_commit(table->base + table->committed, end - table->committed)) {
        return 0;
    }
    table->committed = end;
    return 1;
}

typedef struct tai_blocks {
    tai_block *at;      /* at[0] is never used */
    uint32_t end;       /* records handed out so far */
    uint32_t unused;    /* list of those that came back */
    uint32_t unused_count;
    uint32_t padding;
    tai_table table;
} tai_blocks;

static TAI_COLD int tai_blocks_init(tai_blocks *blocks, size_t count_max)
{
    memset(blocks, 0, sizeof *blocks);
    if (!tai_table_init(&blocks->table, count_max * sizeof(tai_block),
                        (count_max < 1024 ? count_max : 1024) * sizeof(tai_block))) {
        return 0;
    }
    blocks->at = (tai_block *)(void *)blocks->table.base;
    blocks->end = 1;
    return tai_table_ensure(&blocks->table, 2 * sizeof(tai_block));
}

/* So that the next count calls of tai_block_new cannot fail. */
TAI_INLINE int tai_blocks_ensure(tai_blocks *blocks, uint32_t count)
{
    if (TAI_LIKELY(blocks->unused_count >= count)) {
        return 1;
    }
    return tai_table_ensure(&blocks->table, ((size_t)blocks->end + count) * sizeof(tai_block));
}

/* A record in state busy with addr, size and neighbours to be filled in. */
static uint32_t tai_block_new(tai_blocks *blocks)
{
    uint32_t index = blocks->unused;
    if (TAI_LIKELY(index != 0)) {
        blocks->unused = blocks->at[index].left;
        blocks->unused_count--;
    } else {
        index = blocks->end++;
    }
    TENSORALLOC_STORE_RELAXED(&blocks->at[index].state, (uint32_t)TAI_BUSY);
    return index;
}

static void tai_block_recycle(tai_blocks *blocks, uint32_t index)
{
    TENSORALLOC_STORE_RELAXED(&blocks->at[index].state, (uint32_t)TAI_VACANT);
    blocks->at[index].left = blocks->unused;
    blocks->unused = index;
    blocks->unused_count++;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:CUDA-IMPL] the driver's table and the backends over it. The only place that knows CUDA.
  Uses: PLATFORM, ATOMICS, MATH, BLOCKS (tables).

  A reservation of a range backend, in granules (2 MiB or what the device wants); a chunk is one physical allocation:

      | chunk 0: 1 granule | chunk 1: 4 granules            | nothing | chunk 2 ...
        pages[0]             pages[1] first   [2] [3] [4] inside
      pages[i].handle: the driver's handle, at the first granule; count: granules of the chunk there, 0 elsewhere

  A ticket is the address of an event. Events are made once, per context, and go round.
  Every call that is not a question about capture runs with the device's primary context current and this thread's
  capture mode relaxed; both are put back on every path.
  Locks: lock guards chunks, events and reservations; it is not held while the driver is called.
  Invariants: a granule is mapped if and only if it is in a chunk; mapped bytes are what commit gave.
  -------------------------------------------------------------------------------------------------------*/
#ifdef TENSORALLOC_CUDA
#define TAI_GRAPHS 1 /* pools may have graph pools beside them */
#if defined(TAI_OS_WINDOWS)
    #define TAI_CUDA_CALL __stdcall
#else
    #include <dlfcn.h>
    #define TAI_CUDA_CALL
#endif

/* The driver's types, as wide as its own. */
typedef struct tai_cu_location {
    int type, id;
} tai_cu_location;

typedef struct tai_cu_access {
    tai_cu_location location;
    int flags;
} tai_cu_access;

typedef struct tai_cu_prop {
    int type, handle_types;
    tai_cu_location location;
    void *win32;
    unsigned char compression, rdma;
    unsigned short usage;
    unsigned char reserved[4];
} tai_cu_prop;

typedef struct tai_cu_pool_props {
    int alloc_type, handle_types;
    tai_cu_location location;
    void *win32;
    size_t size_max;
    unsigned short usage;
    unsigned char reserved[54];
} tai_cu_pool_props;

/* member, exported name, feature, parameters. Every function answers with a CUresult. */
enum { TAI_CU_CORE = 0, TAI_CU_OPTIONAL = 1, TAI_CU_RANGES = 2, TAI_CU_POOLS = 4 };
#define TAI_CU_LIST(X) \
    X(init, "cuInit", CORE, (unsigned flags)) \
    X(driver_version, "cuDriverGetVersion", CORE, (int *version)) \
    X(error_string, "cuGetErrorString", CORE, (int code, const char **text)) \
    X(device_count, "cuDeviceGetCount", CORE, (int *count)) \
    X(device_get, "cuDeviceGet", CORE, (int *device, int ordinal)) \
    X(device_name, "cuDeviceGetName", CORE, (char *name, int bytes, int device)) \
    X(device_attribute, "cuDeviceGetAttribute", CORE, (int *value, int attribute, int device)) \
    X(device_bytes, "cuDeviceTotalMem_v2", CORE, (size_t *bytes, int device)) \
    X(context_retain, "cuDevicePrimaryCtxRetain", CORE, (void **context, int device)) \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", OPTIONAL, (int device)) \
    X(context_release_old, "cuDevicePrimaryCtxRelease", OPTIONAL, (int device)) \
    X(context_current, "cuCtxGetCurrent", CORE, (void **context)) \
    X(context_push, "cuCtxPushCurrent_v2", CORE, (void *context)) \
    X(context_pop, "cuCtxPopCurrent_v2", CORE, (void **context)) \
    X(context_sync, "cuCtxSynchronize", CORE, (void)) \
    X(mem_info, "cuMemGetInfo_v2", CORE, (size_t *free_bytes, size_t *total_bytes)) \
    X(mem_alloc, "cuMemAlloc_v2", CORE, (uint64_t *ptr, size_t bytes)) \
    X(mem_free, "cuMemFree_v2", CORE, (uint64_t ptr)) \
    X(host_alloc, "cuMemHostAlloc", CORE, (void **ptr, size_t bytes, unsigned flags)) \
    X(host_free, "cuMemFreeHost", CORE, (void *ptr)) \
    X(host_register, "cuMemHostRegister_v2", CORE, (void *ptr, size_t bytes, unsigned flags)) \
    X(host_unregister, "cuMemHostUnregister", CORE, (void *ptr)) \
    X(managed_alloc, "cuMemAllocManaged", CORE, (uint64_t *ptr, size_t bytes, unsigned flags)) \
    X(memset8, "cuMemsetD8Async", CORE, (uint64_t ptr, unsigned char value, size_t bytes, void *stream)) \
    X(copy_any, "cuMemcpyAsync", OPTIONAL, (uint64_t dst, uint64_t src, size_t bytes, void *stream)) \
    X(copy_device, "cuMemcpyDtoDAsync_v2", CORE, (uint64_t dst, uint64_t src, size_t bytes, void *stream)) \
    X(stream_create, "cuStreamCreate", CORE, (void **stream, unsigned flags)) \
    X(stream_destroy, "cuStreamDestroy_v2", CORE, (void *stream)) \
    X(stream_sync, "cuStreamSynchronize", CORE, (void *stream)) \
    X(stream_wait, "cuStreamWaitEvent", CORE, (void *stream, void *event, unsigned flags)) \
    X(stream_id, "cuStreamGetId", OPTIONAL, (void *stream, unsigned long long *id)) \
    X(event_create, "cuEventCreate", CORE, (void **event, unsigned flags)) \
    X(event_record, "cuEventRecord", CORE, (void *event, void *stream)) \
    X(event_query, "cuEventQuery", CORE, (void *event)) \
    X(event_sync, "cuEventSynchronize", CORE, (void *event)) \
    X(event_destroy, "cuEventDestroy_v2", CORE, (void *event)) \
    X(capture_info, "cuStreamGetCaptureInfo", CORE, (void *stream, int *status, uint64_t *id)) \
    X(capture_mode, "cuThreadExchangeStreamCaptureMode", CORE, (int *mode)) \
    X(object_create, "cuUserObjectCreate", OPTIONAL, \
      (void **object, void *user, void(TAI_CUDA_CALL *destroy)(void *user), unsigned count, unsigned flags)) \
    X(object_release, "cuUserObjectRelease", OPTIONAL, (void *object, unsigned count)) \
    X(graph_retain, "cuGraphRetainUserObject", OPTIONAL, (void *graph, void *object, unsigned count, unsigned flags)) \
    X(range_reserve, "cuMemAddressReserve", RANGES, \
      (uint64_t *ptr, size_t bytes, size_t alignment, uint64_t at, unsigned long long flags)) \
    X(range_free, "cuMemAddressFree", RANGES, (uint64_t ptr, size_t bytes)) \
    X(chunk_create, "cuMemCreate", RANGES, \
      (uint64_t *handle, size_t bytes, const tai_cu_prop *prop, unsigned long long flags)) \
    X(chunk_release, "cuMemRelease", RANGES, (uint64_t handle)) \
    X(chunk_map, "cuMemMap", RANGES, \
      (uint64_t ptr, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags)) \
    X(chunk_unmap, "cuMemUnmap", RANGES, (uint64_t ptr, size_t bytes)) \
    X(range_access, "cuMemSetAccess", RANGES, \
      (uint64_t ptr, size_t bytes, const tai_cu_access *access, size_t count)) \
    X(chunk_granularity, "cuMemGetAllocationGranularity", RANGES, \
      (size_t *bytes, const tai_cu_prop *prop, int option)) \
    X(pool_create, "cuMemPoolCreate", POOLS, (void **pool, const tai_cu_pool_props *props)) \
    X(pool_destroy, "cuMemPoolDestroy", POOLS, (void *pool)) \
    X(pool_set, "cuMemPoolSetAttribute", POOLS, (void *pool, int attribute, void *value)) \
    X(pool_trim, "cuMemPoolTrimTo", POOLS, (void *pool, size_t keep_bytes)) \
    X(pool_alloc, "cuMemAllocFromPoolAsync", POOLS, (uint64_t *ptr, size_t bytes, void *pool, void *stream)) \
    X(pool_free, "cuMemFreeAsync", POOLS, (uint64_t ptr, void *stream))

typedef struct tai_cu_driver {
#define TAI_CU_MEMBER(member, name, feature, parameters) int(TAI_CUDA_CALL *member) parameters;
    TAI_CU_LIST(TAI_CU_MEMBER)
#undef TAI_CU_MEMBER
} tai_cu_driver;

enum {
    TAI_CU_OK = 0, TAI_CU_OUT_OF_MEMORY = 2, TAI_CU_DEINITIALIZED = 4, TAI_CU_INVALID_CONTEXT = 201,
    TAI_CU_INVALID_HANDLE = 400, TAI_CU_NOT_READY = 600, TAI_CU_ILLEGAL_ADDRESS = 700, TAI_CU_LAUNCH_TIMEOUT = 702,
    TAI_CU_CONTEXT_DESTROYED = 709, TAI_CU_ASSERT = 710, TAI_CU_HOST_REGISTERED = 712, TAI_CU_HOST_NOT_REGISTERED = 713,
    TAI_CU_HARDWARE_STACK = 714, TAI_CU_LAUNCH_FAILED = 719, TAI_CU_NOT_SUPPORTED = 801,
    TAI_CU_CAPTURE_FIRST = 900, TAI_CU_CAPTURE_LAST = 908
};

typedef struct tai_cu_page {
    uint64_t handle;
    uint32_t count;
    uint32_t back; /* granules to the first of the chunk */
} tai_cu_page;

typedef struct tai_cu_range {
    struct tai_cu_range *next;
    uintptr_t base;
    size_t size;
    tai_table pages; /* tai_cu_page for each granule */
    int unwanted;    /* was to be released, and the driver refused */
} tai_cu_range;

/* A physical chunk or an event that waits for its next use. */
typedef struct tai_cu_spare {
    struct tai_cu_spare *next;
    uint64_t handle;
    size_t bytes;
} tai_cu_spare;

/* Streams whose identity was seen. */
typedef struct tai_cu_seen {
    struct tai_cu_seen *next;
    ta_stream stream;
    unsigned long long id;
} tai_cu_seen;

struct ta_cuda {
    tai_cu_driver cu;
    ta_cuda_desc desc;
    ta_backend_info info;
    int device;
    int driver_version;
    int has_ranges, has_pools;
    uint32_t process_id;
    tai_lock lock;
    void *context; /* retained when it is needed first */
    void *stream;  /* our own, for driver pools and foreign events */
    void *pool;
    tai_cu_range *ranges;
    tai_cu_spare *chunks; /* unmapped, kept */
    size_t chunk_bytes;
    tai_cu_spare *events; /* free ones */
    tai_cu_seen *seen;
    uint64_t thread_stream; /* who may say stream 2; 0: nobody has yet */
    uint32_t lost;
    int32_t last_code;
};

#define TAI_CU_CHUNK_MAX ((size_t)32 << 20)

/* ---- the table */
static TAI_COLD void *tai_cu_symbol(void *library, const char *name)
{
#if defined(TAI_OS_WINDOWS)
    FARPROC found = GetProcAddress((HMODULE)library, name);
    void *address = NULL;
    memcpy(&address, &found, sizeof address);
    return address;
#else
    return dlsym(library, name);
#endif
}

/* The driver's library; NULL if there is none. Never closed. */
static TAI_COLD void *tai_cu_library(void)
{
#if defined(TAI_OS_WINDOWS)
    #ifdef TENSORALLOC_CUDA_LINK
    return (void *)GetModuleHandleA("nvcuda.dll");
    #else
    return (void *)LoadLibraryExA("nvcuda.dll", NULL, 0x800 /* LOAD_LIBRARY_SEARCH_SYSTEM32 */);
    #endif
#elif defined(TENSORALLOC_CUDA_LINK)
    return dlopen(NULL, RTLD_NOW); /* the program is linked with it */
#else
    return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
#endif
}

/* Fills the table. NULL, or what is missing. */
static TAI_COLD const char *tai_cu_load(ta_cuda *c)
{
    void *library = NULL, *address;
    c->has_ranges = c->has_pools = 1;
    if (c->desc.resolve == NULL && (library = tai_cu_library()) == NULL) {
        return "no NVIDIA driver: libcuda.so.1 or nvcuda.dll cannot be loaded";
    }
#define TAI_CU_FILL(member, name, feature, parameters) \
    address = c->desc.resolve != NULL ? c->desc.resolve(c->desc.resolve_user, name) : tai_cu_symbol(library, name); \
    memcpy(&c->cu.member, &address, sizeof address); \
    if (address == NULL) { \
        if (TAI_CU_##feature == TAI_CU_CORE) { return "the NVIDIA driver is too old: " name " is missing"; } \
        c->has_ranges = TAI_CU_##feature == TAI_CU_RANGES ? 0 : c->has_ranges; \
        c->has_pools = TAI_CU_##feature == TAI_CU_POOLS ? 0 : c->has_pools; \
    }
    TAI_CU_LIST(TAI_CU_FILL)
#undef TAI_CU_FILL
    return c->cu.context_release == NULL && c->cu.context_release_old == NULL
               ? "the NVIDIA driver is too old: cuDevicePrimaryCtxRelease is missing" : NULL;
}

/* What the public functions ask first: in a child of fork nothing of the driver may be called. Allocators ask the same
   before they come here. */
static TAI_COLD ta_result tai_cuda_usable(const ta_cuda *c)
{
    if (c == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return c->process_id != tai_process_id() ? TA_ERROR_FORKED : TA_OK;
}

/* ---- errors */
static ta_result tai_cu_result(ta_cuda *c, int code)
{
    if (TAI_LIKELY(code == TAI_CU_OK)) {
        return TA_OK;
    }
    if (code == TAI_CU_NOT_READY) {
        return TA_ERROR_NOT_READY;
    }
    TENSORALLOC_STORE_RELAXED(&c->last_code, (int32_t)code);
    if (code == TAI_CU_DEINITIALIZED || code == TAI_CU_ILLEGAL_ADDRESS || code == TAI_CU_LAUNCH_TIMEOUT ||
        code == TAI_CU_CONTEXT_DESTROYED || code == TAI_CU_ASSERT ||
        (code >= TAI_CU_HARDWARE_STACK && code <= TAI_CU_LAUNCH_FAILED)) {
        TENSORALLOC_STORE_RELEASE(&c->lost, 1u); /* the context, or the driver, is gone for good */
    }
    return code == TAI_CU_OUT_OF_MEMORY ? TA_ERROR_OUT_OF_MEMORY
           : code >= TAI_CU_CAPTURE_FIRST && code <= TAI_CU_CAPTURE_LAST ? TA_ERROR_CAPTURE
           : code == TAI_CU_NOT_SUPPORTED ? TA_ERROR_UNSUPPORTED : TA_ERROR_BACKEND;
}

static int tai_cu_lost(const ta_cuda *c)
{
    return TENSORALLOC_LOAD_ACQUIRE(&c->lost) != 0;
}

/* ---- the calling thread's context and capture mode */
typedef struct tai_cu_scope {
    int pushed;
    int mode;
} tai_cu_scope;

/* Exchanges this thread's capture mode. What is refused is tried once more: a mode that stays is the thread's. */
static int tai_cu_exchange(const ta_cuda *c, int *mode)
{
    int wanted = *mode, code = c->cu.capture_mode(mode);
    if (code != TAI_CU_OK) {
        *mode = wanted;
        code = c->cu.capture_mode(mode);
    }
    return code;
}

static void tai_cu_leave(const ta_cuda *c, const tai_cu_scope *scope)
{
    int mode = scope->mode;
    void *context;
    if (scope->pushed && c->cu.context_pop(&context) != TAI_CU_OK) {
        (void)c->cu.context_pop(&context); /* as with the mode */
    }
    (void)tai_cu_exchange(c, &mode);
}

/* On failure nothing has changed, and no call may be made: it could break the capture of another thread. */
static ta_result tai_cu_enter(ta_cuda *c, tai_cu_scope *scope)
{
    void *current = NULL, *context;
    int code;
    scope->pushed = 0;
    scope->mode = 2; /* relaxed */
    if (tai_cu_lost(c)) {
        return TA_ERROR_BACKEND;
    }
    code = tai_cu_exchange(c, &scope->mode);
    if (code != TAI_CU_OK) {
        return tai_cu_result(c, code);
    }
    TAI_LOCK_ACQUIRE(&c->lock);
    context = c->context;
    TAI_LOCK_RELEASE(&c->lock);
    if (context == NULL) { /* counted by the driver: two threads here retain it twice, one gives it back */
        code = c->cu.context_retain(&context, c->device);
        if (code == TAI_CU_OK) {
            int mine;
            TAI_LOCK_ACQUIRE(&c->lock);
            mine = c->context == NULL;
            c->context = context;
            TAI_LOCK_RELEASE(&c->lock);
            if (!mine) {
                (void)(c->cu.context_release != NULL ? c->cu.context_release : c->cu.context_release_old)(c->device);
            }
        }
    }
    if (code == TAI_CU_OK) {
        code = c->cu.context_current(&current);
    }
    if (code == TAI_CU_OK && current != context) {
        code = c->cu.context_push(context);
        scope->pushed = code == TAI_CU_OK;
    }
    if (code != TAI_CU_OK) {
        tai_cu_leave(c, scope);
    }
    return tai_cu_result(c, code);
}

/* As enter, for addresses alone: they need no context, and it is not made for them. */
static TAI_COLD ta_result tai_cu_enter_bare(ta_cuda *c, tai_cu_scope *scope)
{
    void *context;
    TAI_LOCK_ACQUIRE(&c->lock);
    context = c->context;
    TAI_LOCK_RELEASE(&c->lock);
    if (context != NULL || tai_cu_lost(c)) {
        return tai_cu_enter(c, scope);
    }
    scope->pushed = 0;
    scope->mode = 2; /* relaxed */
    return tai_cu_result(c, tai_cu_exchange(c, &scope->mode));
}

static void *tai_cu_stream(ta_stream stream)
{
    return (void *)(uintptr_t)stream;
}

/* Our own stream, made at its first use; NULL with *code. Inside a scope. */
static TAI_COLD void *tai_cu_own_stream(ta_cuda *c, int *code)
{
    void *stream = NULL, *mine;
    TAI_LOCK_ACQUIRE(&c->lock);
    mine = c->stream;
    TAI_LOCK_RELEASE(&c->lock);
    if (mine != NULL) {
        return mine;
    }
    *code = c->cu.stream_create(&stream, 1 /* not synchronised with the legacy stream */);
    if (*code == TAI_CU_OK) {
        TAI_LOCK_ACQUIRE(&c->lock);
        mine = c->stream != NULL ? c->stream : stream;
        c->stream = mine;
        TAI_LOCK_RELEASE(&c->lock);
        if (mine != stream) { /* another thread was first */
            (void)c->cu.stream_destroy(stream);
        }
    }
    return mine;
}

/* The driver's pool that keeps its memory, made at its first use; NULL with *code. Inside a scope. */
static TAI_COLD void *tai_cu_own_pool(ta_cuda *c, int *code)
{
    tai_cu_pool_props props;
    uint64_t keep = UINT64_MAX;
    int off = 0;
    void *pool = NULL, *mine;
    TAI_LOCK_ACQUIRE(&c->lock);
    mine = c->pool;
    TAI_LOCK_RELEASE(&c->lock);
    if (mine != NULL) {
        return mine;
    }
    memset(&props, 0, sizeof props);
    props.alloc_type = 1; /* pinned: device memory */
    props.location.type = 1;
    props.location.id = c->device;
    *code = c->cu.pool_create(&pool, &props);
    if (*code != TAI_CU_OK) {
        return NULL;
    }
    *code = c->cu.pool_set(pool, 4 /* release threshold */, &keep);
    if (*code == TAI_CU_OK && c->driver_version < 11050) {
        *code = c->cu.pool_set(pool, 2 /* opportunistic reuse: wrong in these drivers */, &off);
    }
    if (*code == TAI_CU_OK) {
        TAI_LOCK_ACQUIRE(&c->lock);
        mine = c->pool != NULL ? c->pool : pool;
        c->pool = mine;
        TAI_LOCK_RELEASE(&c->lock);
    }
    if (mine != pool) {
        (void)c->cu.pool_destroy(pool);
    }
    return mine;
}

/* ---- whole segments */
static TAI_COLD ta_result tai_cuda_alloc(void *self, size_t size, void **out)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    uint64_t ptr = 0;
    int code = TAI_CU_OK;
    void *pool, *stream;
    ta_result result = tai_cu_enter(c, &scope);
    if (result != TA_OK) {
        return result;
    }
    switch ((int)c->desc.kind) {
    case TA_CUDA_PINNED:
        code = c->cu.host_alloc(out, size, 1 /* portable */ | 2 /* mapped */);
        break;
    case TA_CUDA_MANAGED:
        code = c->cu.managed_alloc(&ptr, size, 1 /* attached to all */);
        break;
    case TA_CUDA_ASYNC: /* usable by every stream when the call returns */
        pool = tai_cu_own_pool(c, &code);
        stream = pool != NULL ? tai_cu_own_stream(c, &code) : NULL;
        code = stream != NULL ? c->cu.pool_alloc(&ptr, size, pool, stream) : code;
        if (stream != NULL && code == TAI_CU_OK && (code = c->cu.stream_sync(stream)) != TAI_CU_OK) {
            (void)c->cu.pool_free(ptr, stream);
        }
        break;
    default:
        code = c->cu.mem_alloc(&ptr, size);
        break;
    }
    tai_cu_leave(c, &scope);
    if (code == TAI_CU_OK && c->desc.kind != TA_CUDA_PINNED) {
        *out = (void *)(uintptr_t)ptr;
    }
    return tai_cu_result(c, code);
}

static TAI_COLD ta_result tai_cuda_free(void *self, void *ptr, size_t size)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    (void)size;
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND; /* it went with the context */
    }
    if (c->desc.kind == TA_CUDA_PINNED) {
        code = c->cu.host_free(ptr);
    } else if (c->desc.kind == TA_CUDA_ASYNC) {
        code = c->cu.pool_free((uint64_t)(uintptr_t)ptr, c->stream);
        if (code == TAI_CU_OK) { /* it is the driver's again, whatever this says */
            (void)tai_cu_result(c, c->cu.stream_sync(c->stream));
        }
    } else {
        code = c->cu.mem_free((uint64_t)(uintptr_t)ptr);
    }
    tai_cu_leave(c, &scope);
    return tai_cu_result(c, code) == TA_OK || tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND;
}

/* ---- ranges */
static TAI_COLD void tai_cu_prop_of(const ta_cuda *c, tai_cu_prop *prop)
{
    memset(prop, 0, sizeof *prop);
    prop->type = 1; /* pinned: device memory */
    prop->handle_types = c->desc.exportable ? 1 /* file descriptor */ : 0;
    prop->location.type = 1; /* device */
    prop->location.id = c->device;
}

/* The reservation that holds addr. With the lock. */
static TAI_COLD tai_cu_range *tai_cu_range_of(ta_cuda *c, uintptr_t addr)
{
    tai_cu_range *range = c->ranges;
    while (range != NULL && (size_t)(addr - range->base) >= range->size) {
        range = range->next;
    }
    return range;
}

static TAI_COLD tai_cu_page *tai_cu_page_of(const ta_cuda *c, const tai_cu_range *range, uintptr_t addr)
{
    return (tai_cu_page *)(void *)range->pages.base + (addr - range->base) / c->info.granularity_bytes;
}

static TAI_COLD ta_result tai_cuda_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_range *range = (tai_cu_range *)TENSORALLOC_MALLOC(sizeof *range);
    tai_cu_scope scope;
    uint64_t ptr = 0;
    size_t bytes = size / c->info.granularity_bytes * sizeof(tai_cu_page);
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    (void)flags;
    if (range == NULL) {
        return result;
    }
    memset(range, 0, sizeof *range);
    if (tai_table_init(&range->pages, bytes, bytes) && tai_cu_enter_bare(c, &scope) == TA_OK) {
        int code = c->cu.range_reserve(&ptr, size, alignment, 0, 0);
        tai_cu_leave(c, &scope);
        result = tai_cu_result(c, code) == TA_OK ? TA_OK : TA_ERROR_OUT_OF_MEMORY;
    }
    if (result != TA_OK) {
        tai_table_free(&range->pages);
        TENSORALLOC_FREE(range);
        return result;
    }
    range->base = (uintptr_t)ptr;
    range->size = size;
    TAI_LOCK_ACQUIRE(&c->lock);
    range->next = c->ranges;
    c->ranges = range;
    TAI_LOCK_RELEASE(&c->lock);
    *out = (void *)(uintptr_t)ptr;
    return TA_OK;
}

/* A kept chunk of exactly these bytes; 0 if there is none. */
static TAI_COLD uint64_t tai_cu_chunk_reuse(ta_cuda *c, size_t bytes)
{
    tai_cu_spare **link, *spare = NULL;
    uint64_t handle = 0;
    TAI_LOCK_ACQUIRE(&c->lock);
    for (link = &c->chunks; *link != NULL; link = &(*link)->next) {
        if ((*link)->bytes == bytes) {
            spare = *link;
            *link = spare->next;
            c->chunk_bytes -= bytes;
            break;
        }
    }
    TAI_LOCK_RELEASE(&c->lock);
    if (spare != NULL) {
        handle = spare->handle;
        TENSORALLOC_FREE(spare);
    }
    return handle;
}

static TAI_COLD void tai_cu_chunk_hold(ta_cuda *c, tai_cu_spare *spare)
{
    TAI_LOCK_ACQUIRE(&c->lock);
    spare->next = c->chunks;
    c->chunks = spare;
    c->chunk_bytes += spare->bytes;
    TAI_LOCK_RELEASE(&c->lock);
}

/* Keeps an unmapped chunk for later, or releases it. Inside a scope. */
static TAI_COLD void tai_cu_chunk_keep(ta_cuda *c, uint64_t handle, size_t bytes)
{
    tai_cu_spare *spare = (tai_cu_spare *)TENSORALLOC_MALLOC(sizeof *spare);
    int keep = 0;
    if (spare != NULL) {
        spare->handle = handle;
        spare->bytes = bytes;
        TAI_LOCK_ACQUIRE(&c->lock);
        keep = !c->desc.disable_chunk_cache && bytes <= c->desc.chunk_cache_bytes &&
               c->chunk_bytes <= c->desc.chunk_cache_bytes - bytes;
        TAI_LOCK_RELEASE(&c->lock);
        if (keep) {
            tai_cu_chunk_hold(c, spare);
        }
    }
    if (!keep && tai_cu_result(c, c->cu.chunk_release(handle)) != TA_OK && spare != NULL) {
        tai_cu_chunk_hold(c, spare); /* not taken: ours as before */
    } else if (!keep) {
        TENSORALLOC_FREE(spare);
    }
}

/* Releases all kept chunks; what is refused stays (*code). Inside a scope. Returns the bytes. */
static TAI_COLD size_t tai_cu_chunks_release(ta_cuda *c, int *code)
{
    tai_cu_spare *spare, *next;
    size_t bytes = 0;
    int one;
    TAI_LOCK_ACQUIRE(&c->lock);
    spare = c->chunks;
    c->chunks = NULL;
    c->chunk_bytes = 0;
    TAI_LOCK_RELEASE(&c->lock);
    for (; spare != NULL; spare = next) {
        next = spare->next;
        one = c->cu.chunk_release(spare->handle);
        if (tai_cu_result(c, one) != TA_OK) {
            *code = one;
            tai_cu_chunk_hold(c, spare);
        } else {
            bytes += spare->bytes;
            TENSORALLOC_FREE(spare);
        }
    }
    return bytes;
}

/* Takes the chunks of [from, to), all whole, away; the addresses stay. Neighbours go in one call: of a span without
   gaps all goes, or nothing. Inside a scope. */
static TAI_COLD int tai_cu_unmap(ta_cuda *c, tai_cu_range *range, uintptr_t from, uintptr_t to)
{
    size_t granule = c->info.granularity_bytes;
    int code = TAI_CU_OK;
    while (from < to && code == TAI_CU_OK) {
        tai_cu_page *page = tai_cu_page_of(c, range, from);
        uintptr_t end = from;
        while (end < to && page->count != 0) {
            end += page->count * granule;
            page += page->count;
        }
        code = end != from ? c->cu.chunk_unmap(from, (size_t)(end - from)) : TAI_CU_OK;
        while (from < end && code == TAI_CU_OK) {
            uint32_t count;
            page = tai_cu_page_of(c, range, from);
            count = page->count;
            tai_cu_chunk_keep(c, page->handle, count * granule);
            memset(page, 0, count * sizeof *page);
            from += count * granule;
        }
        from += granule; /* there is nothing at end */
    }
    return code;
}

/* One chunk of bytes at addr. Inside a scope. */
static TAI_COLD int tai_cu_map(ta_cuda *c, tai_cu_range *range, uintptr_t addr, size_t bytes)
{
    tai_cu_prop prop;
    tai_cu_page *page = tai_cu_page_of(c, range, addr);
    uint64_t handle = tai_cu_chunk_reuse(c, bytes);
    uint32_t count = (uint32_t)(bytes / c->info.granularity_bytes), i;
    int code = TAI_CU_OK, refused = TAI_CU_OK;
    if (handle == 0) {
        tai_cu_prop_of(c, &prop);
        code = c->cu.chunk_create(&handle, bytes, &prop, 0);
        if (code == TAI_CU_OUT_OF_MEMORY && tai_cu_chunks_release(c, &refused) != 0) {
            code = c->cu.chunk_create(&handle, bytes, &prop, 0);
        }
    }
    if (code == TAI_CU_OK) {
        code = c->cu.chunk_map(addr, bytes, 0, handle, 0);
        if (code != TAI_CU_OK) {
            tai_cu_chunk_keep(c, handle, bytes);
        }
    }
    if (code == TAI_CU_OK) {
        page->handle = handle;
        page->count = count;
        for (i = 1; i < count; i++) {
            page[i].back = i;
        }
    }
    return code;
}

/* Several chunks, access for all of them at once. What was mapped is unmapped if one of them fails. */
static TAI_COLD ta_result tai_cuda_commit(void *self, void *ptr, size_t size)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    tai_cu_range *range;
    tai_cu_access access;
    uintptr_t from = (uintptr_t)ptr, to = from + size, at = from;
    int code = TAI_CU_OK, known;
    ta_result result;
    TAI_LOCK_ACQUIRE(&c->lock);
    range = tai_cu_range_of(c, from);
    known = range != NULL && tai_table_ensure(&range->pages, (to - range->base) / c->info.granularity_bytes *
                                                                 sizeof(tai_cu_page));
    TAI_LOCK_RELEASE(&c->lock);
    if (!known) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    result = tai_cu_enter(c, &scope);
    if (result != TA_OK) {
        return result;
    }
    while (at < to && code == TAI_CU_OK) {
        const size_t there = tai_cu_page_of(c, range, at)->count * c->info.granularity_bytes;
        size_t bytes = (size_t)(to - at) < TAI_CU_CHUNK_MAX ? (size_t)(to - at) : TAI_CU_CHUNK_MAX;
        bytes = bytes < c->info.granularity_bytes ? c->info.granularity_bytes : bytes;
        if (there != 0) { /* the driver refused to take it back when a commit had failed */
            bytes = there;
        } else {
            code = tai_cu_map(c, range, at, bytes);
        }
        at += code == TAI_CU_OK ? bytes : 0;
    }
    if (code == TAI_CU_OK) {
        memset(&access, 0, sizeof access);
        access.location.type = 1;
        access.location.id = c->device;
        access.flags = 3; /* read and write */
        code = c->cu.range_access(from, size, &access, 1);
    }
    if (code != TAI_CU_OK) {
        (void)tai_cu_unmap(c, range, from, at);
    }
    tai_cu_leave(c, &scope);
    return tai_cu_result(c, code);
}

static TAI_COLD ta_result tai_cuda_decommit(void *self, void *ptr, size_t size)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    tai_cu_range *range;
    int code;
    TAI_LOCK_ACQUIRE(&c->lock);
    range = tai_cu_range_of(c, (uintptr_t)ptr);
    TAI_LOCK_RELEASE(&c->lock);
    if (range == NULL) {
        return TA_ERROR_BACKEND;
    }
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND;
    }
    code = tai_cu_unmap(c, range, (uintptr_t)ptr, (uintptr_t)ptr + size);
    tai_cu_leave(c, &scope);
    return tai_cu_result(c, code) == TA_OK || tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND;
}

/* Whole chunks only. */
static TAI_COLD void tai_cuda_pieces(void *self, void **ptr, size_t *size)
{
    ta_cuda *c = (ta_cuda *)self;
    size_t granule = c->info.granularity_bytes;
    uintptr_t from = (uintptr_t)*ptr, to = from + *size;
    tai_cu_range *range;
    TAI_LOCK_ACQUIRE(&c->lock);
    range = tai_cu_range_of(c, from);
    if (range != NULL) {
        while (from < to && tai_cu_page_of(c, range, from)->back != 0) {
            from += granule;
        }
        if (from < to) { /* the last chunk may reach beyond the end */
            tai_cu_page *last = tai_cu_page_of(c, range, to - granule), *first = last - last->back;
            size_t behind = last->back + 1;
            to -= first->count > behind ? behind * granule : 0;
        }
    }
    TAI_LOCK_RELEASE(&c->lock);
    *ptr = (void *)from;
    *size = to > from ? (size_t)(to - from) : 0;
}

static TAI_COLD ta_result tai_cuda_release(void *self, void *ptr, size_t size)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    tai_cu_range **link, *range = NULL;
    size_t pages;
    int code = -1; /* not even the context */
    TAI_LOCK_ACQUIRE(&c->lock);
    for (link = &c->ranges; *link != NULL; link = &(*link)->next) {
        if ((*link)->base == (uintptr_t)ptr) {
            range = *link;
            *link = range->next;
            break;
        }
    }
    TAI_LOCK_RELEASE(&c->lock);
    if (range == NULL) {
        return TA_ERROR_BACKEND;
    }
    if (tai_cu_enter_bare(c, &scope) == TA_OK) {
        pages = range->pages.committed / sizeof(tai_cu_page);
        pages = pages < size / c->info.granularity_bytes ? pages : size / c->info.granularity_bytes;
        code = tai_cu_unmap(c, range, range->base, range->base + pages * c->info.granularity_bytes);
        if (code == TAI_CU_OK) {
            code = c->cu.range_free(range->base, size);
        }
        tai_cu_leave(c, &scope);
    }
    if (code != TAI_CU_OK && (code < 0 || tai_cu_result(c, code) != TA_OK) && !tai_cu_lost(c)) {
        TAI_LOCK_ACQUIRE(&c->lock);
        range->unwanted = 1;
        range->next = c->ranges;
        c->ranges = range;
        TAI_LOCK_RELEASE(&c->lock);
        return TA_ERROR_BACKEND;
    }
    tai_table_free(&range->pages);
    TENSORALLOC_FREE(range);
    return TA_OK;
}

/* ---- order. A ticket is an event; marking takes one out of those that are free. */
static TAI_COLD tai_cu_spare *tai_cu_spare_pop(ta_cuda *c, tai_cu_spare **list)
{
    tai_cu_spare *spare;
    TAI_LOCK_ACQUIRE(&c->lock);
    spare = *list;
    if (spare != NULL) {
        *list = spare->next;
    }
    TAI_LOCK_RELEASE(&c->lock);
    return spare;
}

static TAI_COLD void tai_cuda_drop(void *self, uint64_t ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_spare *spare = (tai_cu_spare *)(uintptr_t)ticket;
    TAI_LOCK_ACQUIRE(&c->lock);
    spare->next = c->events;
    c->events = spare;
    TAI_LOCK_RELEASE(&c->lock);
}

/* A free event. Inside a scope. */
static TAI_COLD tai_cu_spare *tai_cu_event(ta_cuda *c, int *code)
{
    tai_cu_spare *spare = tai_cu_spare_pop(c, &c->events);
    void *event = NULL;
    *code = TAI_CU_OK;
    if (spare == NULL && (spare = (tai_cu_spare *)TENSORALLOC_MALLOC(sizeof *spare)) != NULL) {
        *code = c->cu.event_create(&event, 2 /* without timing */);
        spare->handle = (uint64_t)(uintptr_t)event;
        if (*code != TAI_CU_OK) {
            TENSORALLOC_FREE(spare);
            spare = NULL;
        }
    }
    return spare;
}

static void *tai_cu_event_of(uint64_t ticket)
{
    return (void *)(uintptr_t)((tai_cu_spare *)(uintptr_t)ticket)->handle;
}

/* Whether the stream is another one under an old handle: the driver gives handles out again. Inside a scope; the
   stream is not being captured. */
static TAI_COLD int tai_cu_stream_changed(ta_cuda *c, ta_stream stream)
{
    unsigned long long id = 0;
    tai_cu_seen *seen;
    int changed = 0;
    if (stream <= 2 || c->cu.stream_id == NULL || c->cu.stream_id(tai_cu_stream(stream), &id) != TAI_CU_OK) {
        return 0;
    }
    TAI_LOCK_ACQUIRE(&c->lock);
    for (seen = c->seen; seen != NULL && seen->stream != stream; seen = seen->next) {
    }
    if (seen != NULL) {
        changed = seen->id != id;
        seen->id = id;
    }
    TAI_LOCK_RELEASE(&c->lock);
    if (seen == NULL && (seen = (tai_cu_seen *)TENSORALLOC_MALLOC(sizeof *seen)) != NULL) {
        seen->stream = stream;
        seen->id = id;
        TAI_LOCK_ACQUIRE(&c->lock);
        seen->next = c->seen;
        c->seen = seen;
        TAI_LOCK_RELEASE(&c->lock);
    }
    return changed;
}

/* What the driver says of a capture on the stream. */
static int tai_cu_capture(ta_cuda *c, ta_stream stream, int *status, uint64_t *id)
{
    int code = c->cu.capture_info(tai_cu_stream(stream), status, id);
    if (code == TAI_CU_INVALID_CONTEXT) { /* the default stream is that of the thread's context, and it has none */
        tai_cu_scope scope;
        if (tai_cu_enter(c, &scope) == TA_OK) {
            code = c->cu.capture_info(tai_cu_stream(stream), status, id);
            tai_cu_leave(c, &scope);
        }
    }
    return code;
}

/* Whether the calling thread may say 2, the per-thread default stream: the first one that does so, and no other, for
   there it would be another stream. Threads are told apart by the id of that stream where the driver has one. The
   stream is not being captured. */
static TAI_COLD int tai_cu_own_default(ta_cuda *c)
{
    unsigned long long id = 0;
    uint64_t mine;
    int is_mine;
    if (c->cu.stream_id == NULL || c->cu.stream_id(tai_cu_stream(2), &id) != TAI_CU_OK) {
        id = (unsigned long long)tai_thread_id();
    }
    mine = (uint64_t)id + 1;
    TAI_LOCK_ACQUIRE(&c->lock);
    c->thread_stream = c->thread_stream == 0 ? mine : c->thread_stream;
    is_mine = c->thread_stream == mine;
    TAI_LOCK_RELEASE(&c->lock);
    return is_mine;
}

/* The answer about a stream that is being captured, or that something else is to be said about. */
static TAI_COLD ta_result tai_cu_captured(ta_cuda *c, ta_stream stream, uint64_t *out_id)
{
    int status = 0, code;
    *out_id = 0;
    if (tai_cu_lost(c)) {
        return TA_ERROR_BACKEND;
    }
    code = tai_cu_capture(c, stream, &status, out_id);
    if (code == TAI_CU_OK && status == 0 && stream == 2 && !tai_cu_own_default(c)) {
        return TA_ERROR_UNSUPPORTED;
    }
    *out_id = code == TAI_CU_OK && status == 1 ? *out_id : 0;
    return code == TAI_CU_OK ? (status <= 1 ? TA_OK : TA_ERROR_CAPTURE /* broken */) : tai_cu_result(c, code);
}

/* Id of the capture that the stream is in, 0: none. Every instruction here counts. */
static ta_result tai_cuda_capture(void *self, ta_stream stream, uint64_t *out_id)
{
    ta_cuda *c = (ta_cuda *)self;
    int status = 0;
    if (TAI_LIKELY(!tai_cu_lost(c) && stream != 2 &&
                   c->cu.capture_info(tai_cu_stream(stream), &status, out_id) == TAI_CU_OK)) {
        if (TAI_LIKELY(status == 0)) {
            *out_id = 0;
            return TA_OK;
        }
        if (status == 1) { /* in this capture */
            return TA_OK;
        }
    }
    return tai_cu_captured(c, stream, out_id);
}

/* A ticket for what is finished because the context is gone: no event. */
static TAI_COLD ta_result tai_cu_lost_ticket(uint64_t *out_ticket)
{
    tai_cu_spare *none = (tai_cu_spare *)TENSORALLOC_MALLOC(sizeof *none);
    if (none != NULL) {
        memset(none, 0, sizeof *none);
    }
    *out_ticket = (uint64_t)(uintptr_t)none;
    return none != NULL ? TA_OK : TA_ERROR_RECORDS;
}

/* What a call that makes a ticket answers. Outside of a scope. */
static TAI_COLD ta_result tai_cu_ticket(ta_cuda *c, tai_cu_spare *event, int code, uint64_t *out_ticket)
{
    ta_result result = tai_cu_result(c, code);
    if (result == TA_OK && event != NULL) {
        *out_ticket = (uint64_t)(uintptr_t)event;
        return TA_OK;
    }
    if (event != NULL) {
        tai_cuda_drop(c, (uint64_t)(uintptr_t)event);
    }
    return tai_cu_lost(c) ? tai_cu_lost_ticket(out_ticket) : result == TA_OK ? TA_ERROR_RECORDS : result;
}

/* Records an event. A capture of the stream that another thread has begun since we asked has it now: then it cannot be
   asked, and who waited for it would join that capture; it is thrown away (*event NULL). Inside a scope. */
static TAI_COLD int tai_cu_record(ta_cuda *c, tai_cu_spare **event, ta_stream stream)
{
    uint64_t capture = 0;
    int status = 0, code = c->cu.event_record(tai_cu_event_of((uint64_t)(uintptr_t)*event), tai_cu_stream(stream));
    if (code == TAI_CU_OK && tai_cu_capture(c, stream, &status, &capture) == TAI_CU_OK && status != 0) {
        (void)c->cu.event_destroy(tai_cu_event_of((uint64_t)(uintptr_t)*event));
        TENSORALLOC_FREE(*event);
        *event = NULL;
    }
    return code;
}

static TAI_COLD ta_result tai_cuda_mark(void *self, ta_stream stream, uint64_t *out_ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    tai_cu_spare *event = NULL;
    uint64_t capture = 0;
    int status = 0, code = TAI_CU_OK, vanished, captured = 0;
    if (!tai_cu_lost(c)) {
        code = tai_cu_capture(c, stream, &status, &capture);
    }
    vanished = code == TAI_CU_INVALID_HANDLE && stream > 2;
    if ((code != TAI_CU_OK && !vanished) || status != 0) { /* an event of a capture could not be asked any more */
        return status != 0 ? TA_ERROR_CAPTURE : tai_cu_ticket(c, NULL, code, out_ticket);
    }
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? tai_cu_lost_ticket(out_ticket) : TA_ERROR_BACKEND;
    }
    event = tai_cu_event(c, &code);
    vanished |= stream == 2 && !tai_cu_own_default(c); /* another thread's: out of reach here */
    if (event != NULL && (vanished || tai_cu_stream_changed(c, stream))) { /* work of a stream that is gone may run */
        code = c->cu.context_sync();
    }
    if (event != NULL && code == TAI_CU_OK && !vanished) { /* else the event's last work is finished as well */
        code = tai_cu_record(c, &event, stream);
        captured = event == NULL;
    }
    tai_cu_leave(c, &scope);
    return captured ? TA_ERROR_CAPTURE : tai_cu_ticket(c, event, code, out_ticket);
}

/* When the context is gone, so is its work. */
static TAI_COLD ta_result tai_cu_finished(ta_cuda *c, int code)
{
    ta_result result = tai_cu_result(c, code);
    return result != TA_OK && tai_cu_lost(c) ? TA_OK : result;
}

static TAI_COLD ta_result tai_cuda_is_done(void *self, uint64_t ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND;
    }
    code = c->cu.event_query(tai_cu_event_of(ticket));
    tai_cu_leave(c, &scope);
    return tai_cu_finished(c, code);
}

static TAI_COLD ta_result tai_cuda_wait(void *self, ta_stream stream, uint64_t ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    uint64_t capture = 0;
    int code;
    ta_result result = tai_cuda_capture(c, stream, &capture);
    if (result == TA_OK && capture != 0) {
        result = TA_ERROR_CAPTURE;
    }
    result = result == TA_OK ? tai_cu_enter(c, &scope) : result;
    if (result != TA_OK) {
        return result;
    }
    code = c->cu.stream_wait(tai_cu_stream(stream), tai_cu_event_of(ticket), 0);
    tai_cu_leave(c, &scope);
    return tai_cu_result(c, code);
}

static TAI_COLD ta_result tai_cuda_sync(void *self, uint64_t ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? TA_OK : TA_ERROR_BACKEND;
    }
    code = c->cu.event_sync(tai_cu_event_of(ticket));
    tai_cu_leave(c, &scope);
    return tai_cu_finished(c, code);
}

/* A ticket for the caller's own event, which may be recorded anew or destroyed afterwards. */
static TAI_COLD ta_result tai_cuda_adopt(void *self, uint64_t event, uint64_t *out_ticket)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    tai_cu_spare *own;
    int code;
    if (tai_cu_enter(c, &scope) != TA_OK) {
        return tai_cu_lost(c) ? tai_cu_lost_ticket(out_ticket) : TA_ERROR_BACKEND;
    }
    own = tai_cu_event(c, &code);
    if (own != NULL) {
        void *stream = tai_cu_own_stream(c, &code);
        if (stream != NULL) { /* waiting for an event of a capture would take our stream into it */
            code = c->cu.event_query((void *)(uintptr_t)event);
        }
        if (code == TAI_CU_NOT_READY) {
            code = c->cu.stream_wait(stream, (void *)(uintptr_t)event, 0);
        }
        if (code == TAI_CU_OK) {
            code = c->cu.event_record(tai_cu_event_of((uint64_t)(uintptr_t)own), stream);
        }
    }
    tai_cu_leave(c, &scope);
    return tai_cu_ticket(c, own, code, out_ticket);
}

/* Whether work of ours may be put on the stream by this thread. */
static TAI_COLD ta_result tai_cu_usable(ta_cuda *c, ta_stream stream)
{
    uint64_t ignored;
    return stream == 2 && tai_cuda_capture(c, stream, &ignored) == TA_ERROR_UNSUPPORTED ? TA_ERROR_UNSUPPORTED : TA_OK;
}

/* Recorded into a capture if the stream is in one. */
static TAI_COLD ta_result tai_cuda_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    ta_result result = tai_cu_usable(c, stream);
    result = result == TA_OK ? tai_cu_enter(c, &scope) : result;
    if (result == TA_OK) {
        code = c->cu.memset8((uint64_t)(uintptr_t)ptr, 0, size, tai_cu_stream(stream));
        tai_cu_leave(c, &scope);
        result = tai_cu_result(c, code);
    }
    return result;
}

static TAI_COLD ta_result tai_cuda_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    ta_result result = tai_cu_usable(c, stream);
    result = result == TA_OK ? tai_cu_enter(c, &scope) : result;
    if (result == TA_OK) {
        code = (c->cu.copy_any != NULL ? c->cu.copy_any : c->cu.copy_device)(
            (uint64_t)(uintptr_t)dst, (uint64_t)(uintptr_t)src, size, tai_cu_stream(stream));
        tai_cu_leave(c, &scope);
        result = tai_cu_result(c, code);
    }
    return result;
}

/* Called by the driver on a thread of its own, where nothing of the driver may be called. */
static void TAI_CUDA_CALL tai_cu_graph_gone(void *user)
{
    TENSORALLOC_STORE_RELEASE((uint32_t *)user, 1u);
}

/* The graph holds an object of ours, and so does all that is made of the graph; the last one to go tells. */
static TAI_COLD ta_result tai_cuda_attach(void *self, uint64_t graph, uint32_t *gone)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    void *object = NULL;
    int code = TAI_CU_NOT_SUPPORTED;
    if (c->cu.object_create != NULL && c->cu.object_release != NULL && c->cu.graph_retain != NULL) {
        ta_result result = tai_cu_enter(c, &scope);
        if (result != TA_OK) {
            *gone = 1;
            return result;
        }
        code = c->cu.object_create(&object, gone, tai_cu_graph_gone, 1, 1 /* the destructor waits for nobody */);
        if (code == TAI_CU_OK) {
            code = c->cu.graph_retain((void *)(uintptr_t)graph, object, 1, 1 /* our reference becomes the graph's */);
            if (code != TAI_CU_OK && c->cu.object_release(object, 1) != TAI_CU_OK) {
                (void)c->cu.object_release(object, 1);
            }
        }
        tai_cu_leave(c, &scope);
    }
    if (object == NULL) {
        *gone = 1;
    }
    return tai_cu_result(c, code);
}

static TAI_COLD void tai_cuda_info_entry(void *self, ta_backend_info *out)
{
    *out = ((const ta_cuda *)self)->info;
}

static TAI_COLD ta_result tai_cuda_memory_info(void *self, size_t *out_free, size_t *out_total)
{
    ta_cuda *c = (ta_cuda *)self;
    tai_cu_scope scope;
    int code;
    ta_result result;
    *out_free = *out_total = TA_UNLIMITED;
    if (c->desc.kind == TA_CUDA_PINNED) {
        *out_total = tai_physical_bytes();
        return TA_OK;
    }
    result = tai_cu_enter(c, &scope);
    if (result == TA_OK) {
        code = c->cu.mem_info(out_free, out_total);
        tai_cu_leave(c, &scope);
        result = tai_cu_result(c, code);
    }
    return result;
}

static TAI_COLD void tai_cuda_last_error(void *self, ta_backend_error *out)
{
    const ta_cuda *c = (const ta_cuda *)self;
    const char *text = NULL;
    out->code = TENSORALLOC_LOAD_RELAXED(&c->last_code);
    if (c->cu.error_string((int)out->code, &text) != TAI_CU_OK || text == NULL) {
        text = "unknown error";
    }
    out->text = text;
}

static const ta_backend_vtable tai_cuda_vtable = {
    sizeof(ta_backend_vtable), "cuda", tai_cuda_info_entry, tai_cuda_alloc, tai_cuda_free,
    tai_cuda_reserve, tai_cuda_release, tai_cuda_commit, tai_cuda_decommit, tai_cuda_pieces, NULL, tai_cuda_memory_info,
    tai_cuda_last_error, tai_cuda_mark, tai_cuda_is_done, tai_cuda_wait, tai_cuda_sync, tai_cuda_drop, tai_cuda_adopt,
    tai_cuda_capture, tai_cuda_zero, tai_cuda_copy, tai_cuda_attach
};

/* ---- life */
/* What the device can; NULL, or why it cannot be used. */
static TAI_COLD const char *tai_cuda_probe(ta_cuda *c)
{
    int count = 0, ranges = 0, pools = 0, code = c->cu.init(0);
    if (code != TAI_CU_OK) {
        return code == 34 ? "the CUDA library is a stub without a driver"
               : code == 100 ? "there is no CUDA device" : "the NVIDIA driver cannot be initialised";
    }
    if (c->cu.driver_version(&c->driver_version) != TAI_CU_OK || c->cu.device_count(&count) != TAI_CU_OK ||
        count == 0) {
        return "there is no CUDA device";
    }
    if (c->desc.device_index < 0 || c->desc.device_index >= count ||
        c->cu.device_get(&c->device, c->desc.device_index) != TAI_CU_OK) {
        return "there is no CUDA device of this index";
    }
    c->has_ranges = c->has_ranges && c->driver_version >= 10020 &&
                    c->cu.device_attribute(&ranges, 102, c->device) == TAI_CU_OK && ranges != 0;
    c->has_pools = c->has_pools && c->driver_version >= 11020 &&
                   c->cu.device_attribute(&pools, 115, c->device) == TAI_CU_OK && pools != 0;
    return NULL;
}

/* Granularity and capabilities of the kind. */
static TAI_COLD ta_result tai_cuda_describe(ta_cuda *c)
{
    ta_backend_info *info = &c->info;
    info->device.type = c->desc.kind == TA_CUDA_PINNED ? TA_DEVICE_HOST : TA_DEVICE_CUDA;
    info->device.index = c->desc.kind == TA_CUDA_PINNED ? 0 : c->desc.device_index;
    info->caps = TA_CAP_ORDERED | TA_CAP_SEGMENTS;
    info->alignment_bytes = info->granularity_bytes = 256;
    if (c->desc.kind == TA_CUDA_DEVICE) {
        c->desc.kind = c->has_ranges ? TA_CUDA_RANGES : TA_CUDA_SEGMENTS;
    }
    if (c->desc.kind == TA_CUDA_RANGES) {
        tai_cu_prop prop;
        size_t granule = 0;
        int exports = 1;
        tai_cu_prop_of(c, &prop);
        if (c->desc.exportable &&
            (c->cu.device_attribute(&exports, 103 /* file descriptor */, c->device) != TAI_CU_OK || exports == 0)) {
            return TA_ERROR_UNSUPPORTED;
        }
        if (!c->has_ranges || c->cu.chunk_granularity(&granule, &prop, 0 /* least */) != TAI_CU_OK ||
            !tai_is_power_of_two(granule) || granule < 256) {
            return TA_ERROR_UNSUPPORTED;
        }
        info->caps = TA_CAP_ORDERED | TA_CAP_RANGES;
        info->granularity_bytes = granule;
    } else if (c->desc.kind == TA_CUDA_ASYNC && !c->has_pools) {
        return TA_ERROR_UNSUPPORTED;
    } else if (c->desc.kind == TA_CUDA_PINNED || c->desc.kind == TA_CUDA_MANAGED) {
        int managed = 0;
        info->caps |= TA_CAP_HOST_ACCESS;
        info->granularity_bytes = 4096;
        if (c->desc.kind == TA_CUDA_MANAGED &&
            (c->cu.device_attribute(&managed, 83, c->device) != TAI_CU_OK || managed == 0)) {
            return TA_ERROR_UNSUPPORTED;
        }
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_create(const ta_cuda_desc *desc, ta_cuda **out, const char **why)
{
    ta_cuda *c;
    const char *text = NULL;
    ta_result result = TA_OK;
    if (why != NULL) {
        *why = "";
    }
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    c = (ta_cuda *)TENSORALLOC_MALLOC(sizeof *c);
    if (c == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(c, 0, sizeof *c);
    if (desc != NULL) {
        c->desc = *desc;
    }
    c->desc.chunk_cache_bytes = c->desc.chunk_cache_bytes != 0 ? c->desc.chunk_cache_bytes : (size_t)64 << 20;
    c->process_id = tai_process_id();
    TAI_LOCK_INIT(&c->lock);
    if (sizeof(void *) < 8) {
        text = "CUDA needs a 64-bit program";
    } else if ((int)c->desc.kind < 0 || c->desc.kind > TA_CUDA_MANAGED) {
        result = TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    } else if ((text = tai_cu_load(c)) == NULL && (text = tai_cuda_probe(c)) == NULL) {
        result = tai_cuda_describe(c);
    }
    if (text != NULL) {
        result = TA_ERROR_UNAVAILABLE;
    } else if (result == TA_ERROR_UNSUPPORTED) {
        text = "the driver or the device does not support this kind of memory";
    }
    if (why != NULL && text != NULL) {
        *why = text;
    }
    if (result != TA_OK) {
        TENSORALLOC_FREE(c);
        return result;
    }
    *out = c;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_trim(ta_cuda *cuda)
{
    tai_cu_scope scope;
    size_t bytes;
    void *pool;
    int code = TAI_CU_OK;
    ta_result result = tai_cuda_usable(cuda);
    if (result != TA_OK) {
        return result;
    }
    TAI_LOCK_ACQUIRE(&cuda->lock);
    bytes = cuda->chunk_bytes;
    pool = cuda->pool;
    TAI_LOCK_RELEASE(&cuda->lock);
    if (bytes == 0 && pool == NULL) {
        return TA_OK;
    }
    if (tai_cu_enter(cuda, &scope) != TA_OK) {
        return TA_ERROR_BACKEND;
    }
    if (pool != NULL) { /* it has seen the frees: each was waited for */
        code = cuda->cu.pool_trim(pool, 0);
    }
    (void)tai_cu_chunks_release(cuda, &code);
    tai_cu_leave(cuda, &scope);
    return tai_cu_result(cuda, code) == TA_OK ? TA_OK : TA_ERROR_BACKEND;
}

/* Gives everything back to the driver; what it does not take stays for another try. */
static TAI_COLD ta_result tai_cuda_close(ta_cuda *c)
{
    tai_cu_scope scope;
    tai_cu_spare *spare;
    tai_cu_range *range, *next;
    int refused = TAI_CU_OK;
    ta_result result = tai_cu_enter(c, &scope);
    if (result != TA_OK) {
        return result;
    }
    for (range = c->ranges; range != NULL; range = next) { /* a release that failed */
        next = range->next;
        (void)tai_cuda_release(c, (void *)range->base, range->size);
    }
    (void)tai_cu_chunks_release(c, &refused);
    while ((spare = tai_cu_spare_pop(c, &c->events)) != NULL) {
        (void)c->cu.event_destroy((void *)(uintptr_t)spare->handle);
        TENSORALLOC_FREE(spare);
    }
    if (c->pool != NULL && c->cu.pool_destroy(c->pool) == TAI_CU_OK) {
        c->pool = NULL;
    }
    if (c->stream != NULL && c->cu.stream_destroy(c->stream) == TAI_CU_OK) {
        c->stream = NULL;
    }
    tai_cu_leave(c, &scope);
    if (c->ranges != NULL || c->chunks != NULL || c->pool != NULL || c->stream != NULL) {
        return TA_ERROR_BACKEND;
    }
    return tai_cu_result(c, (c->cu.context_release != NULL ? c->cu.context_release
                                                           : c->cu.context_release_old)(c->device));
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_destroy(ta_cuda *cuda)
{
    tai_cu_spare *spare;
    tai_cu_range *range;
    tai_cu_seen *seen;
    if (cuda == NULL) {
        return TA_OK;
    }
    if (tai_cuda_usable(cuda) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    for (range = cuda->ranges; range != NULL; range = range->next) {
        if (!range->unwanted) {
            return TA_ERROR_BUSY;
        }
    }
    if (cuda->context != NULL && tai_cuda_close(cuda) != TA_OK && !tai_cu_lost(cuda)) {
        return TA_ERROR_BACKEND;
    }
    while ((range = cuda->ranges) != NULL) {
        cuda->ranges = range->next;
        tai_table_free(&range->pages);
        TENSORALLOC_FREE(range);
    }
    while ((spare = tai_cu_spare_pop(cuda, &cuda->chunks)) != NULL) {
        TENSORALLOC_FREE(spare);
    }
    while ((spare = tai_cu_spare_pop(cuda, &cuda->events)) != NULL) {
        TENSORALLOC_FREE(spare);
    }
    while ((seen = cuda->seen) != NULL) {
        cuda->seen = seen->next;
        TENSORALLOC_FREE(seen);
    }
    TENSORALLOC_FREE(cuda);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_backend ta_cuda_backend(ta_cuda *cuda)
{
    ta_backend backend;
    backend.vtable = cuda != NULL ? &tai_cuda_vtable : &tai_no_backend_vtable;
    backend.self = cuda;
    return backend;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_get_info(ta_cuda *cuda, ta_cuda_info *out)
{
    ta_result result = out != NULL ? tai_cuda_usable(cuda) : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    if (result != TA_OK) {
        return result;
    }
    memset(out, 0, sizeof *out);
    out->kind = cuda->desc.kind;
    out->driver_version = cuda->driver_version;
    out->granularity_bytes = cuda->info.granularity_bytes;
    out->has_ranges = cuda->has_ranges;
    out->has_pools = cuda->has_pools;
    out->has_stream_ids = cuda->cu.stream_id != NULL;
    out->is_lost = tai_cu_lost(cuda);
    out->last_code = TENSORALLOC_LOAD_RELAXED(&cuda->last_code);
    TAI_LOCK_ACQUIRE(&cuda->lock);
    out->chunk_cached_bytes = cuda->chunk_bytes;
    TAI_LOCK_RELEASE(&cuda->lock);
    if (!out->is_lost) {
        (void)cuda->cu.device_name(out->device_name, (int)sizeof out->device_name, cuda->device);
        (void)cuda->cu.device_bytes(&out->device_bytes, cuda->device);
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_register(ta_cuda *cuda, void *ptr, size_t size_bytes)
{
    tai_cu_scope scope;
    int code;
    ta_result result = ptr != NULL && size_bytes != 0 ? tai_cuda_usable(cuda) : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    result = result == TA_OK ? tai_cu_enter(cuda, &scope) : result;
    if (result != TA_OK) {
        return result;
    }
    code = cuda->cu.host_register(ptr, size_bytes, 1 /* portable */ | 2 /* mapped */);
    tai_cu_leave(cuda, &scope);
    return code == TAI_CU_HOST_REGISTERED ? TA_ERROR_BUSY : tai_cu_result(cuda, code);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_unregister(ta_cuda *cuda, void *ptr)
{
    tai_cu_scope scope;
    int code;
    ta_result result = ptr != NULL ? tai_cuda_usable(cuda) : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    if (result != TA_OK) {
        return result;
    }
    if (tai_cu_enter(cuda, &scope) != TA_OK) {
        return tai_cu_lost(cuda) ? TA_OK : TA_ERROR_BACKEND;
    }
    code = cuda->cu.host_unregister(ptr);
    tai_cu_leave(cuda, &scope);
    return code == TAI_CU_HOST_NOT_REGISTERED ? TA_ERROR_FOREIGN : tai_cu_finished(cuda, code);
}
#else
#define TAI_GRAPHS 0
TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_create(const ta_cuda_desc *desc, ta_cuda **out, const char **why)
{
    (void)desc;
    if (out != NULL) {
        *out = NULL;
    }
    if (why != NULL) {
        *why = "compiled without TENSORALLOC_CUDA";
    }
    return out == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_destroy(ta_cuda *cuda)
{
    return cuda == NULL ? TA_OK : TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_backend ta_cuda_backend(ta_cuda *cuda)
{
    ta_backend none;
    (void)cuda;
    none.vtable = &tai_no_backend_vtable;
    none.self = NULL;
    return none;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_get_info(ta_cuda *cuda, ta_cuda_info *out)
{
    (void)cuda;
    if (out != NULL) {
        memset(out, 0, sizeof *out);
    }
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_trim(ta_cuda *cuda)
{
    (void)cuda;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_register(ta_cuda *cuda, void *ptr, size_t size_bytes)
{
    (void)cuda;
    (void)ptr;
    (void)size_bytes;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_cuda_unregister(ta_cuda *cuda, void *ptr)
{
    (void)cuda;
    (void)ptr;
    return TA_ERROR_UNAVAILABLE;
}
#endif /* TENSORALLOC_CUDA */

/*---------------------------------------------------------------------------------------------------------
  [TA:HEAP] best fit with coalescing over growing address ranges (segments where there are none).
  Uses: BLOCKS, BUDGET.

  A space is what one pool has: up to two heaps (small blocks apart from large ones, so that what thread caches hold
  never stands between large blocks), their regions, and the free blocks in bins. A region is one reservation:

      base                         top              commit_end                     base + size
      | live | free | live | free  | tail, committed | addresses only               |
      '- blocks tile this part ----'
                    ^ pages of free blocks that were trimmed are holes: a bit each

  Placement: the smallest free block that is large enough, the lowest address among equals; the tail counts as endless
  and is taken only if nothing else fits. It does not look at holes, so it is a function of the set of live blocks
  alone, and a step that repeats comes back to the same addresses. Free neighbours are merged at once.
  Pointer -> record: each region has a map with one entry per window; a window is no larger than the smallest live
  block of the heap, so at most one live block starts in it. An entry is a hint that the record confirms.
  Streams: bins are kept per stream, index 0 holds what is ready for all. Only blocks of one stream merge. Backends
  without order have only index 0.
  Locks: everything here runs inside the gate, except that the gate is left around each call of the backend. Calls
  that commit or decommit additionally take the turn, so that there is one at a time in a space.
  Invariants: blocks tile [base, top) of each region; no two free neighbours of one stream; reserved = what the
  regions have committed; the gate is never held while the backend runs.
  -------------------------------------------------------------------------------------------------------*/
enum { TAI_TINY = 0, TAI_MIDDLE = 1, TAI_LARGE = 2, TAI_HEAPS = 3 };
#define TAI_TINY_BYTES ((size_t)1024)
#define TAI_SUBS 16
#define TAI_BINS (60 * TAI_SUBS) /* up to 2^64 */
#define TAI_LARGE_WINDOW_BYTES ((size_t)65536)
#define TAI_HUGE_PAGE_BYTES ((size_t)2 << 20)
#define TAI_ALIGNMENT_MAX ((size_t)1 << 30)
#define TAI_STREAM_EVENTS (~(ta_stream)0) /* the list of blocks that wait for events of the program's */
#define TAI_STREAM_GRAPHS (~(ta_stream)1) /* the list of blocks that graphs hold */
#define TAI_RIGHT_SHARED 0xffffffffu /* block->right: of a capture that is over, in memory that graphs share */

/* Free blocks of one stream in one heap: 16 bins per doubling, each a treap ordered by (size, address). A bit per bin
   that is not empty, and a bit per word of those that is not 0. */
typedef struct tai_bins {
    uint64_t summary;
    uint64_t words[TAI_BINS / 64];
    uint32_t roots[TAI_BINS];
} tai_bins;

/* What a free outside the gate reads of a region: apart from what the gate's holder writes there. */
typedef struct tai_window {
    uintptr_t base;
    size_t mapped;
    const uint32_t *map;
    size_t map_shift;
} tai_window;

typedef struct tai_region {
    uintptr_t base;
    size_t size;
    uintptr_t top;
    uintptr_t commit_end;
    uintptr_t touched_end; /* never handed out from here on: still as the backend gave it */
    uintptr_t floor;       /* of graph pools: replays may write into what is free below */
    uint32_t first, last;  /* blocks by address */
    uint32_t index;        /* in the space's table */
    uint32_t heap;
    uint32_t map_shift;
    size_t mapped;         /* bytes from base that the map covers; read outside the gate */
    uint32_t *map;
    tai_window *window;    /* kept as mapped is; or NULL */
    tai_table map_table;
    tai_table hole_table;  /* bit per granularity_bytes; empty until the first trim */
    size_t hole_bytes;     /* uncommitted inside [base, commit_end) */
    int is_segment;
    int is_live;
} tai_region;

typedef struct tai_stream {
    ta_stream id;
    uint32_t pending_first, pending_last; /* uses whose tickets are marked on this stream, oldest first */
    uint64_t last_ticket; /* retired: of all its work */
    int retired;          /* 1: waits for that ticket; 2: is done: what it freed is ready for all */
    int named;            /* for a look at who names it */
} tai_stream;

/* A stream that uses a block: in a list of the live block, or in the pending list of the stream. */
typedef struct tai_use {
    uint64_t ticket;
    uint32_t next;
    uint32_t block;
    uint32_t stream;
    uint32_t has_ticket; /* 1: an event of the program's; 2: that of its stream, which has retired: nothing to mark;
                            3: none: it ends when somebody says so (of a graph pool: ticket is its id);
                            4: none yet: its stream was being captured */
} tai_use;

typedef struct tai_heap {
    size_t block_bytes_min; /* smallest capacity: the window */
    size_t segment_bytes;
    uint32_t map_shift;
    uint32_t flags; /* of reserve */
} tai_heap;

typedef struct tai_space {
    tai_gate gate;
    tai_blocks blocks;
    tai_region *primary[TAI_HEAPS]; /* first region of each heap: the ones that are looked at outside the gate */
    tai_heap heaps[TAI_HEAPS]; /* [TAI_LARGE] alone when undivided */
    tai_bins **bins;        /* of stream s and heap h at [TAI_HEAPS * s + h] */
    tai_stream *streams;    /* [0] is "ready for all" */
    uint32_t stream_count;
    uint32_t stream_room;
    tai_region **regions;
    uint32_t region_count;
    uint32_t region_room;
    uint32_t granule_shift;
    uintptr_t turn;         /* the thread that is committing or decommitting; 0: nobody */
    size_t granule;
    size_t granularity;
    size_t slack;
    size_t range_bytes;
    int undivided;          /* one heap for all sizes */
    int tiny;               /* heap of tiny blocks: with the middle ones where each heap would hold a chunk of MiBs */
    int use_ranges;
    int ordered;
    int stealing;
    int parks;              /* uses by captured streams wait to be told: there is nothing to mark (graph pools) */
    int polling;            /* a thread is asking for tickets */
    uint32_t capturing;     /* scopes that are open (graph pools): only memory that none was given is eager's */
    uint64_t unproven;      /* blocks freed unmarked although eager work may use them, since all work was waited for */
    ta_backend backend;
    ta_backend_info info;
    ta_budget *budget;
    int budget_owned;
    int padding;
    tai_table uses;
    uint32_t use_end, use_unused;
    size_t reserved, peak_reserved;
    size_t used[TAI_HEAPS]; /* bytes of blocks out of each heap: live, in thread caches, busy */
    size_t pending_bytes;
    size_t address_range_bytes;
    size_t object_bytes;    /* malloced records: regions, bins, streams */
    uint64_t steal_count, trim_count, trimmed_bytes;
} tai_space;

/* Bytes that are live, in thread caches, or busy. Inside the gate. */
TAI_INLINE size_t tai_space_used(const tai_space *space)
{
    return space->used[TAI_TINY] + space->used[TAI_MIDDLE] + space->used[TAI_LARGE];
}

/* Bytes that are free and committed. A block whose pages are on their way back is counted as used before they are
   here. Inside the gate. */
TAI_INLINE size_t tai_space_cached(const tai_space *space)
{
    size_t used = tai_space_used(space);
    return space->reserved > used ? space->reserved - used : 0;
}

/* ---- bins */
/* Bin of a size >= 16 (blocks have at least 64): 16 steps per doubling. */
TAI_INLINE uint32_t tai_bin_of(size_t size)
{
    uint32_t shift = tai_high_bit((uint64_t)size) - 4;
    return (shift << 4) + (uint32_t)(size >> shift) - TAI_SUBS;
}

TAI_INLINE int tai_block_before(const tai_block *a, const tai_block *b)
{
    return a->size < b->size || (a->size == b->size && a->addr < b->addr);
}

/* Heap order of the treap: spreads consecutive indices. */
TAI_INLINE uint32_t tai_priority(uint32_t index)
{
    return index * 0x9E3779B1u;
}

static TAI_NOINLINE void tai_tree_insert(tai_block *at, uint32_t *link, uint32_t index)
{
    const tai_block *block = &at[index];
    uint32_t priority = tai_priority(index), *left, *right, tree;
    while (*link != 0 && tai_priority(*link) >= priority) {
        link = tai_block_before(block, &at[*link]) ? &at[*link].left : &at[*link].right;
    }
    tree = *link;
    *link = index;
    left = &at[index].left;
    right = &at[index].right;
    while (tree != 0) { /* what is below is cut in two */
        if (tai_block_before(&at[tree], block)) {
            *left = tree;
            left = &at[tree].right;
            tree = *left;
        } else {
            *right = tree;
            right = &at[tree].left;
            tree = *right;
        }
    }
    *left = 0;
    *right = 0;
}

static TAI_NOINLINE void tai_tree_remove(tai_block *at, uint32_t *link, uint32_t index)
{
    const tai_block *block = &at[index];
    uint32_t left = block->left, right = block->right;
    while (*link != index) {
        TAI_INVARIANT(*link != 0);
        link = tai_block_before(block, &at[*link]) ? &at[*link].left : &at[*link].right;
    }
    while (left != 0 && right != 0) {
        if (tai_priority(left) >= tai_priority(right)) {
            *link = left;
            link = &at[left].right;
            left = *link;
        } else {
            *link = right;
            link = &at[right].left;
            right = *link;
        }
    }
    *link = left != 0 ? left : right;
}

/* Most bins hold one block or none: those cases stay short. */
TAI_INLINE void tai_bins_insert(tai_space *space, tai_bins *bins, uint32_t index)
{
    tai_block *block = &space->blocks.at[index];
    uint32_t bin = tai_bin_of(block->size);
    TENSORALLOC_STORE_RELAXED(&block->requested, (size_t)bin);
    if (TAI_LIKELY(bins->roots[bin] == 0)) {
        bins->roots[bin] = index;
        bins->words[bin >> 6] |= (uint64_t)1 << (bin & 63);
        bins->summary |= (uint64_t)1 << (bin >> 6);
        block->left = 0;
        block->right = 0;
    } else {
        tai_tree_insert(space->blocks.at, &bins->roots[bin], index);
    }
}

TAI_INLINE void tai_bins_remove(tai_space *space, tai_bins *bins, uint32_t index)
{
    const tai_block *block = &space->blocks.at[index];
    uint32_t bin = (uint32_t)block->requested;
    if (TAI_LIKELY((block->left | block->right) == 0 && bins->roots[bin] == index)) {
        uint64_t word = bins->words[bin >> 6] & ~((uint64_t)1 << (bin & 63));
        bins->roots[bin] = 0;
        bins->words[bin >> 6] = word;
        bins->summary &= ~((uint64_t)(word == 0) << (bin >> 6));
    } else {
        tai_tree_remove(space->blocks.at, &bins->roots[bin], index);
    }
}

/* A free block gets another place and size. */
TAI_INLINE void tai_bins_change(tai_space *space, tai_bins *bins, uint32_t index, uintptr_t addr, size_t size)
{
    tai_bins_remove(space, bins, index);
    space->blocks.at[index].addr = addr;
    space->blocks.at[index].size = size;
    tai_bins_insert(space, bins, index);
}

/* The smallest block of at least size bytes, the lowest address among equals; 0 if there is none. */
TAI_INLINE uint32_t tai_bins_find(const tai_space *space, const tai_bins *bins, size_t size)
{
    const tai_block *at = space->blocks.at;
    uint32_t bin = tai_bin_of(size), word = bin >> 6, tree, best = 0;
    uint64_t mask;
    for (tree = bins->roots[bin]; tree != 0;) {
        if (at[tree].size >= size) {
            best = tree;
            tree = at[tree].left;
        } else {
            tree = at[tree].right;
        }
    }
    if (best != 0) {
        return best;
    }
    mask = bins->words[word] & ((~(uint64_t)0 << (bin & 63)) << 1);
    if (mask == 0) {
        mask = bins->summary & (~(uint64_t)1 << word);
        if (mask == 0) {
            return 0;
        }
        word = tai_low_bit(mask);
        mask = bins->words[word];
    }
    for (tree = bins->roots[(word << 6) + tai_low_bit(mask)]; at[tree].left != 0; tree = at[tree].left) {
    }
    return tree;
}

/* The largest block; 0 if there is none. */
static TAI_COLD uint32_t tai_bins_largest(const tai_space *space, const tai_bins *bins)
{
    const tai_block *at = space->blocks.at;
    uint32_t word, tree;
    if (bins->summary == 0) {
        return 0;
    }
    word = tai_high_bit(bins->summary);
    for (tree = bins->roots[(word << 6) + tai_high_bit(bins->words[word])]; at[tree].right != 0;
         tree = at[tree].right) {
    }
    return tree;
}

TAI_INLINE tai_bins *tai_bins_of(const tai_space *space, const tai_block *block)
{
    return space->bins[TAI_HEAPS * (uint32_t)block->place.stream + block->place.heap];
}

/* Heap of a block that thread caches may hold. */
TAI_INLINE int tai_space_heap_of(const tai_space *space, size_t size)
{
    return space->undivided ? TAI_LARGE : size <= TAI_TINY_BYTES ? space->tiny : TAI_MIDDLE;
}

/* ---- streams */
/* Room for one more stream in both tables. */
static TAI_COLD int tai_stream_room(tai_space *space)
{
    uint32_t room = space->stream_room == 0 ? 4 : space->stream_room * 2;
    tai_stream *streams;
    tai_bins **bins;
    if (space->stream_count < space->stream_room) {
        return 1;
    }
    streams = room > 65535 ? NULL : (tai_stream *)TENSORALLOC_MALLOC(room * sizeof *streams);
    bins = streams == NULL ? NULL : (tai_bins **)TENSORALLOC_MALLOC(TAI_HEAPS * room * sizeof *bins);
    if (bins == NULL) {
        TENSORALLOC_FREE(streams);
        return 0;
    }
    if (space->stream_count != 0) {
        memcpy(streams, space->streams, space->stream_count * sizeof *streams);
        memcpy(bins, space->bins, TAI_HEAPS * space->stream_count * sizeof *bins);
    }
    TENSORALLOC_FREE(space->streams);
    TENSORALLOC_FREE(space->bins);
    space->object_bytes += (room - space->stream_room) * (sizeof *streams + TAI_HEAPS * sizeof *bins);
    space->streams = streams;
    space->bins = bins;
    space->stream_room = room;
    return 1;
}

/* A retired stream that no block and no use names any more; 0 if there is none. */
static TAI_COLD uint32_t tai_stream_unused(tai_space *space)
{
    const tai_use *at = (const tai_use *)(const void *)space->uses.base;
    uint32_t index, use, s;
    for (s = 1; s < space->stream_count; s++) {
        space->streams[s].named = space->streams[s].retired != 2 || space->streams[s].pending_first != 0;
    }
    for (index = 1; index < space->blocks.end; index++) {
        const tai_block *block = &space->blocks.at[index];
        uint32_t state = TENSORALLOC_LOAD_RELAXED(&block->state);
        if (state == TAI_BUSY) {
            return 0; /* on its way, who knows from where */
        }
        space->streams[block->place.stream].named |= state != TAI_VACANT;
        for (use = state == TAI_LIVE ? block->left : 0; use != 0; use = at[use].next) {
            space->streams[at[use].stream].named = 1;
        }
    }
    for (s = 1; s < space->stream_count && space->streams[s].named; s++) {
    }
    return s < space->stream_count ? s : 0;
}

static TAI_COLD int tai_stream_add(tai_space *space, ta_stream id, uint32_t *out)
{
    tai_bins *bins;
    uint32_t heaps = space->undivided ? 1 : TAI_HEAPS, h, unused;
    unused = space->stream_count >= 8 && space->stream_count == space->stream_room ? tai_stream_unused(space) : 0;
    if (unused != 0) {
        space->streams[unused].id = id;
        space->streams[unused].retired = 0;
        *out = unused;
        return 1;
    }
    if (!tai_stream_room(space) || (bins = (tai_bins *)TENSORALLOC_MALLOC(heaps * sizeof *bins)) == NULL) {
        return 0;
    }
    memset(bins, 0, heaps * sizeof *bins);
    space->object_bytes += heaps * sizeof *bins;
    memset(&space->streams[space->stream_count], 0, sizeof *space->streams);
    space->streams[space->stream_count].id = id;
    for (h = 0; h < TAI_HEAPS; h++) { /* one piece of memory for all */
        space->bins[TAI_HEAPS * space->stream_count + h] = bins + (h < heaps ? h : heaps - 1);
    }
    *out = space->stream_count++;
    return 1;
}

/* Index of a stream, made at first sight; 0 without order, or (with *ok = 0) when there is no memory for it. */
static uint32_t tai_stream_index(tai_space *space, ta_stream id, int *ok)
{
    uint32_t index;
    *ok = 1;
    if (!space->ordered) {
        return 0;
    }
    for (index = 1; index < space->stream_count; index++) {
        if (space->streams[index].id == id && !space->streams[index].retired) {
            return index;
        }
    }
    *ok = tai_stream_add(space, id, &index);
    return *ok ? index : 0;
}

/* ---- holes: bits of pages that went back to the backend; beyond what is written down there are none */
TAI_INLINE uint64_t tai_hole_word(const tai_region *region, size_t page)
{
    size_t offset = (page >> 6) * sizeof(uint64_t);
    return offset < region->hole_table.committed
               ? *(const uint64_t *)(const void *)(region->hole_table.base + offset)
               : 0;
}

static int tai_holes_any(const tai_space *space, const tai_region *region, uintptr_t from, uintptr_t to)
{
    size_t page, last;
    if (region->hole_bytes == 0) {
        return 0;
    }
    page = (size_t)(from - region->base) / space->granularity;
    last = (size_t)(to - 1 - region->base) / space->granularity;
    while (page <= last) {
        uint64_t word = tai_hole_word(region, page) >> (page & 63);
        if (word != 0) {
            return page + tai_low_bit(word) <= last;
        }
        page = (page | 63) + 1;
    }
    return 0;
}

/* The next run of whole pages over [from, to) that are holes (want = 1) or not (want = 0); 0 if there is none. */
static int tai_holes_run(const tai_space *space, const tai_region *region, uintptr_t from, uintptr_t to, int want,
                         uintptr_t *out_from, uintptr_t *out_to)
{
    size_t page = (size_t)(from - region->base) / space->granularity;
    size_t end = (size_t)(to - region->base + space->granularity - 1) / space->granularity, first;
    uint64_t none = want ? 0 : ~(uint64_t)0; /* a word without a page that is wanted */
    while (page < end && (int)(tai_hole_word(region, page) >> (page & 63) & 1) != want) {
        page = tai_hole_word(region, page) == none ? (page | 63) + 1 : page + 1;
    }
    if (page >= end) {
        return 0;
    }
    first = page;
    while (page < end && (int)(tai_hole_word(region, page) >> (page & 63) & 1) == want) {
        page = tai_hole_word(region, page) == ~none ? (page | 63) + 1 : page + 1;
    }
    page = page > end ? end : page;
    *out_from = region->base + first * space->granularity;
    *out_to = region->base + page * space->granularity;
    return 1;
}

/* Bytes of [from, to) that are holes. */
static TAI_COLD size_t tai_holes_bytes(const tai_space *space, const tai_region *region, uintptr_t from, uintptr_t to)
{
    size_t bytes = 0;
    uintptr_t run, run_end;
    while (from < to && tai_holes_run(space, region, from, to, 1, &run, &run_end)) {
        run = run < from ? from : run;
        bytes += (size_t)((run_end > to ? to : run_end) - run);
        from = run_end;
    }
    return bytes;
}

static void tai_holes_set(tai_space *space, tai_region *region, uintptr_t from, uintptr_t to, int value)
{
    uint64_t *bits = (uint64_t *)(void *)region->hole_table.base;
    size_t page = (size_t)(from - region->base) / space->granularity,
           end = (size_t)(to - region->base) / space->granularity;
    for (; page < end; page++) {
        uint64_t bit = (uint64_t)1 << (page & 63);
        if (((bits[page >> 6] & bit) != 0) != (value != 0)) {
            bits[page >> 6] ^= bit;
            region->hole_bytes =
                value ? region->hole_bytes + space->granularity : region->hole_bytes - space->granularity;
        }
    }
}

/* So that holes in [base, end) can be written down. */
static TAI_COLD int tai_holes_ensure(tai_space *space, tai_region *region, uintptr_t end)
{
    size_t pages = region->size / space->granularity, needed = (size_t)(end - region->base) / space->granularity;
    if (region->hole_table.base == NULL && !tai_table_init(&region->hole_table, pages / 8 + 16, pages / 8 + 16)) {
        return 0;
    }
    return tai_table_ensure(&region->hole_table, needed / 8 + 16 < region->hole_table.reserved
                                                     ? needed / 8 + 16
                                                     : region->hole_table.reserved);
}

/* ---- blocks in regions */
static TAI_NOINLINE void tai_heap_make_free(tai_space *space, uint32_t index)
{
    TENSORALLOC_STORE_RELAXED(&space->blocks.at[index].state, (uint32_t)TAI_FREE);
    tai_bins_insert(space, tai_bins_of(space, &space->blocks.at[index]), index);
}

/* A new block with the bytes [addr, addr + size) between prev and next. The caller has ensured a record. */
static uint32_t tai_heap_add(tai_space *space, tai_region *region, uint32_t region_index, uintptr_t addr, size_t size,
                             uint32_t prev, uint32_t next)
{
    uint32_t index = tai_block_new(&space->blocks);
    tai_block *at = space->blocks.at, *block = &at[index];
    block->addr = addr;
    block->size = size;
    block->prev = prev;
    block->next = next;
    block->place.class_index = 0;
    block->place.flags = 0;
    block->place.stream = 0;
    block->place.region = region_index & 0x3fffffffu;
    block->place.heap = region->heap & 3u;
    if (prev != 0) {
        at[prev].next = index;
    } else {
        region->first = index;
    }
    if (next != 0) {
        at[next].prev = index;
    } else {
        region->last = index;
    }
    return index;
}

/* Cuts the block (in no bin) down to [addr, addr + size); what is in front and behind becomes free. Two records. */
static void tai_heap_carve(tai_space *space, uint32_t index, uintptr_t addr, size_t size)
{
    tai_block *block = &space->blocks.at[index];
    tai_region *region = space->regions[block->place.region];
    size_t rest;
    uint32_t other;
    if (TAI_UNLIKELY(block->addr != addr)) {
        other = tai_heap_add(space, region, block->place.region, block->addr, (size_t)(addr - block->addr),
                             block->prev, index);
        space->blocks.at[other].place = block->place;
        block->size -= (size_t)(addr - block->addr);
        block->addr = addr;
        tai_heap_make_free(space, other);
    }
    rest = block->size - size;
    if (rest > space->slack) {
        other = tai_heap_add(space, region, block->place.region, addr + size, rest, index, block->next);
        space->blocks.at[other].place = block->place;
        block->size = size;
        tai_heap_make_free(space, other);
    }
}

/* The record of the tail's first bytes: [aligned top, + size) becomes a busy block. Two records. 0 if no room. */
static uint32_t tai_heap_take_tail(tai_space *space, uint32_t region_index, size_t size, size_t alignment)
{
    tai_region *region = space->regions[region_index];
    uintptr_t addr = (uintptr_t)tai_round_up((size_t)region->top, alignment);
    uint32_t index;
    if (addr < region->top || addr > region->commit_end || size > (size_t)(region->commit_end - addr)) {
        return 0;
    }
    if (addr != region->top) {
        index = tai_heap_add(space, region, region_index, region->top, (size_t)(addr - region->top), region->last, 0);
        space->blocks.at[index].place.flags = region->hole_bytes != 0 ? TAI_FLAG_HOLES : 0;
        tai_heap_make_free(space, index);
    }
    index = tai_heap_add(space, region, region_index, addr, size, region->last, 0);
    space->blocks.at[index].place.flags = region->hole_bytes != 0 ? TAI_FLAG_HOLES : 0;
    region->top = addr + size;
    return index;
}

TAI_INLINE int tai_heap_merges(const tai_space *space, uint32_t index, uint32_t stream)
{
    const tai_block *block = &space->blocks.at[index];
    return index != 0 && TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_FREE && block->place.stream == stream;
}

/* With order: the last block of a range, if it is free and the stream's: for that stream the tail begins there. */
TAI_INLINE uint32_t tai_heap_last_of(const tai_space *space, const tai_region *region, uint32_t stream)
{
    return stream != 0 && !region->is_segment && tai_heap_merges(space, region->last, stream) ? region->last : 0;
}

/* With order: the last block of a range, free, the stream's and smaller than size, grows into the tail; busy. 0 if that
   cannot be. */
static TAI_COLD uint32_t tai_heap_take_last(tai_space *space, uint32_t region_index, size_t size, uint32_t stream)
{
    tai_region *region = space->regions[region_index];
    uint32_t index = tai_heap_last_of(space, region, stream);
    tai_block *block = &space->blocks.at[index];
    if (index == 0 || block->size >= size || size - block->size > (size_t)(region->commit_end - region->top)) {
        return 0;
    }
    tai_bins_remove(space, tai_bins_of(space, block), index);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
    region->top += size - block->size;
    block->size = size;
    block->place.flags |= region->hole_bytes != 0 ? TAI_FLAG_HOLES : 0;
    return index;
}

/* The front of a free block becomes a busy block; the free one keeps its record and what is left. One record. */
TAI_INLINE uint32_t tai_heap_take_front(tai_space *space, tai_bins *bins, uint32_t hole_index, size_t size)
{
    tai_block *at = space->blocks.at, *hole = &at[hole_index], *block;
    size_t rest = hole->size - size;
    uint32_t index;
    if (rest <= space->slack) {
        tai_bins_remove(space, bins, hole_index);
        TENSORALLOC_STORE_RELAXED(&hole->state, (uint32_t)TAI_BUSY);
        return hole_index;
    }
    index = tai_block_new(&space->blocks);
    block = &at[index];
    block->addr = hole->addr;
    block->size = size;
    block->prev = hole->prev;
    block->next = hole_index;
    block->place = hole->place;
    if (TAI_LIKELY(block->prev != 0)) {
        at[block->prev].next = index;
    } else {
        space->regions[block->place.region]->first = index;
    }
    hole->prev = index;
    tai_bins_change(space, bins, hole_index, hole->addr + size, rest);
    return index;
}

/* An aligned piece of size bytes out of the free block that fits best; returns it busy. Two records. */
static TAI_NOINLINE uint32_t tai_heap_take_bin(tai_space *space, tai_bins *bins, size_t size, size_t alignment)
{
    uint32_t index;
    if (TAI_LIKELY(alignment == space->granule)) {
        index = tai_bins_find(space, bins, size);
        return index == 0 ? 0 : tai_heap_take_front(space, bins, index, size);
    }
    index = tai_bins_find(space, bins, size + (alignment - space->granule)); /* plans end at PTRDIFF_MAX */
    if (index != 0) {
        tai_bins_remove(space, bins, index);
        TENSORALLOC_STORE_RELAXED(&space->blocks.at[index].state, (uint32_t)TAI_BUSY);
        tai_heap_carve(space, index, (uintptr_t)tai_round_up((size_t)space->blocks.at[index].addr, alignment), size);
    }
    return index;
}

/* A busy block, still of the stream it was free on: counted, and looked at for holes. */
TAI_INLINE void tai_heap_taken(tai_space *space, uint32_t index)
{
    tai_block *block = &space->blocks.at[index];
    space->used[block->place.heap] += block->size;
    if (TAI_UNLIKELY(block->place.flags != 0)) {
        const tai_region *region = space->regions[block->place.region];
        if (!tai_holes_any(space, region, block->addr, block->addr + block->size)) {
            block->place.flags = 0;
        }
    }
}

/* Takes size bytes (a multiple of the granule) without asking the backend. Returns a busy block, or 0 with
   *result. */
static TAI_NOINLINE uint32_t tai_heap_take(tai_space *space, int heap, size_t size, size_t alignment,
                                           uint32_t stream, ta_result *result)
{
    uint32_t index, region;
    if (TAI_UNLIKELY(!tai_blocks_ensure(&space->blocks, 2))) {
        *result = TA_ERROR_RECORDS;
        return 0;
    }
    *result = TA_ERROR_NOT_CACHED;
    index = tai_heap_take_bin(space, space->bins[TAI_HEAPS * stream + (uint32_t)heap], size, alignment);
    if (index == 0 && stream != 0) {
        index = tai_heap_take_bin(space, space->bins[(uint32_t)heap], size, alignment);
    }
    for (region = 0; index == 0 && region < space->region_count; region++) {
        if (space->regions[region]->is_live && space->regions[region]->heap == (uint32_t)heap) {
            index = stream != 0 && alignment == space->granule ? tai_heap_take_last(space, region, size, stream) : 0;
            index = index != 0 ? index : tai_heap_take_tail(space, region, size, alignment);
        }
    }
    if (index != 0) {
        tai_heap_taken(space, index);
        *result = TA_OK;
    }
    return index;
}

/* As take, for large blocks in the common case: the granule's alignment, committed memory out of a bin or at the end of
   the first range. 0: take the long way. */
TAI_INLINE uint32_t tai_heap_take_quick(tai_space *space, size_t size, uint32_t stream)
{
    tai_bins *bins = space->bins[TAI_HEAPS * stream + TAI_LARGE];
    tai_region *region;
    uint32_t index;
    if (TAI_UNLIKELY(!tai_blocks_ensure(&space->blocks, 1))) {
        return 0;
    }
    index = tai_bins_find(space, bins, size);
    if (stream != 0 && index == 0) {
        bins = space->bins[TAI_LARGE];
        index = tai_bins_find(space, bins, size);
    }
    if (TAI_LIKELY(index != 0)) {
        if (TAI_UNLIKELY(space->blocks.at[index].place.flags != 0)) {
            return 0;
        }
        index = tai_heap_take_front(space, bins, index, size);
        space->used[TAI_LARGE] += space->blocks.at[index].size;
        return index;
    }
    region = space->primary[TAI_LARGE];
    if (region == NULL || (stream != 0 && tai_heap_last_of(space, region, stream) != 0)) {
        return 0;
    }
    if (region->hole_bytes != 0 || size > (size_t)(region->commit_end - region->top)) {
        return 0;
    }
    index = tai_heap_add(space, region, region->index, region->top, size, region->last, 0);
    region->top += size;
    space->used[TAI_LARGE] += size;
    return index;
}

/* Writes the block into the map: from now on pointers find it. */
TAI_INLINE void tai_heap_publish(tai_space *space, uint32_t index)
{
    const tai_block *block = &space->blocks.at[index];
    tai_region *region = space->regions[block->place.region];
    TENSORALLOC_STORE_RELAXED(&region->map[(size_t)(block->addr - region->base) >> region->map_shift], index);
    if (block->addr + block->size > region->touched_end) {
        region->touched_end = block->addr + block->size;
    }
}

/* The last block of a range goes back to the tail. */
static TAI_NOINLINE uint32_t tai_heap_give_tail(tai_space *space, uint32_t index)
{
    tai_block *at = space->blocks.at, *block = &at[index];
    tai_region *region = space->regions[block->place.region];
    if (block->state == TAI_FREE) {
        tai_bins_remove(space, tai_bins_of(space, block), index);
    }
    region->top = block->addr;
    region->last = block->prev;
    if (block->prev != 0) {
        at[block->prev].next = 0;
    } else {
        region->first = 0;
    }
    tai_block_recycle(&space->blocks, index);
    return 0;
}

/* Takes a block that its predecessor has swallowed out of the order of addresses. */
TAI_INLINE void tai_heap_unlink(tai_space *space, uint32_t index)
{
    tai_block *at = space->blocks.at;
    uint32_t prev = at[index].prev, next = at[index].next;
    at[prev].next = next;
    if (TAI_LIKELY(next != 0)) {
        at[next].prev = prev;
    } else {
        space->regions[at[index].place.region]->last = prev;
    }
    tai_block_recycle(&space->blocks, index);
}

/* Gives a busy block back: merges it with free neighbours of its stream, the last one of a range with the tail.
   Returns the free block it is part of now, 0 for the tail. */
static TAI_NOINLINE uint32_t tai_heap_give(tai_space *space, uint32_t index)
{
    tai_block *at = space->blocks.at, *block = &at[index];
    tai_bins *bins = tai_bins_of(space, block);
    uint32_t prev = block->prev, next = block->next, stream = block->place.stream;
    size_t size = block->size;
    uint8_t flags = block->place.flags & TAI_FLAG_HOLES;
    block->place.class_index = 0;
    if (tai_heap_merges(space, next, stream)) {
        flags |= at[next].place.flags;
        if (!tai_heap_merges(space, prev, stream)) { /* the next one grows downwards */
            at[next].place.flags = flags;
            at[next].prev = prev;
            if (TAI_LIKELY(prev != 0)) {
                at[prev].next = next;
            } else {
                space->regions[block->place.region]->first = next;
            }
            tai_bins_change(space, bins, next, block->addr, at[next].size + size);
            tai_block_recycle(&space->blocks, index);
            return next;
        }
        size += at[next].size;
        tai_bins_remove(space, bins, next);
        tai_heap_unlink(space, next);
    }
    if (tai_heap_merges(space, prev, stream)) {
        at[prev].place.flags |= flags;
        tai_heap_unlink(space, index);
        tai_bins_change(space, bins, prev, at[prev].addr, at[prev].size + size);
        index = prev;
    } else {
        block->place.flags = flags;
        if (TAI_LIKELY(block->next != 0) || stream != 0 || space->regions[block->place.region]->is_segment) {
            TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_FREE);
            tai_bins_insert(space, bins, index);
            return index;
        }
    }
    if (TAI_UNLIKELY(at[index].next == 0) && stream == 0 && !space->regions[at[index].place.region]->is_segment) {
        return tai_heap_give_tail(space, index);
    }
    return index;
}

/* As give, for a block that was counted as used. */
TAI_INLINE void tai_heap_put(tai_space *space, uint32_t index)
{
    space->used[space->blocks.at[index].place.heap] -= space->blocks.at[index].size;
    tai_heap_give(space, index);
}

/* ---- pointer -> record */
static uint32_t tai_region_find(const tai_space *space, const tai_region *region, uintptr_t addr)
{
    uint32_t index;
    if ((size_t)(addr - region->base) >= TENSORALLOC_LOAD_ACQUIRE(&region->mapped)) {
        return 0;
    }
    index = TENSORALLOC_LOAD_RELAXED(&region->map[(size_t)(addr - region->base) >> region->map_shift]);
    return index != 0 && space->blocks.at[index].addr == addr ? index : 0;
}

/* The record whose block started at addr when it was last handed out; 0 if none. Inside the gate. */
static uint32_t tai_space_find(const tai_space *space, uintptr_t addr)
{
    uint32_t r;
    for (r = 0; r < space->region_count; r++) {
        const tai_region *region = space->regions[r];
        if (region->is_live && (size_t)(addr - region->base) < region->size) {
            return tai_region_find(space, region, addr);
        }
    }
    return 0;
}

/* What is wrong with a pointer that is no live block's start. Inside the gate. O(blocks of the region). */
static TAI_NOINLINE ta_result tai_space_explain(const tai_space *space, uintptr_t addr)
{
    uint32_t r, index;
    for (r = 0; r < space->region_count; r++) {
        const tai_region *region = space->regions[r];
        if (!region->is_live || (size_t)(addr - region->base) >= region->size) {
            continue;
        }
        for (index = region->first; index != 0; index = space->blocks.at[index].next) {
            const tai_block *block = &space->blocks.at[index];
            if ((size_t)(addr - block->addr) < block->size && addr < region->touched_end) {
                return TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE ? TA_ERROR_INTERIOR : TA_ERROR_STALE;
            }
        }
        return addr < region->touched_end ? TA_ERROR_STALE : TA_ERROR_FOREIGN;
    }
    return TA_ERROR_FOREIGN;
}

/* ---- the turn: one commit or decommit at a time in a space */
static TAI_COLD int tai_turn_try(tai_space *space, tai_holder *me)
{
    int got;
    tai_gate_enter(&space->gate, me);
    got = space->turn == 0;
    if (got) {
        space->turn = tai_thread_id();
    }
    tai_gate_leave(&space->gate, me);
    return got;
}

/* 0: this thread has the turn already: the backend it called, or what lies below, came back to us. */
static TAI_COLD int tai_turn_take(tai_space *space, tai_holder *me)
{
    while (!tai_turn_try(space, me)) {
        int mine;
        tai_gate_enter(&space->gate, me);
        mine = space->turn == tai_thread_id();
        tai_gate_leave(&space->gate, me);
        if (mine) {
            return 0;
        }
        TAI_WAIT_A_MOMENT();
    }
    return 1;
}

static TAI_COLD void tai_turn_end(tai_space *space, tai_holder *me)
{
    tai_gate_enter(&space->gate, me);
    space->turn = 0;
    tai_gate_leave(&space->gate, me);
}

/* ---- growth */
static TAI_COLD void tai_space_count_reserved(tai_space *space, size_t bytes)
{
    space->reserved += bytes;
    if (space->reserved > space->peak_reserved) {
        space->peak_reserved = space->reserved;
    }
}

static TAI_COLD void tai_region_free(tai_region *region)
{
    tai_table_free(&region->map_table);
    tai_table_free(&region->hole_table);
    TENSORALLOC_FREE(region);
}

/* A region over [ptr, ptr + size) that is not yet known to the space. NULL without memory for it. */
static TAI_COLD tai_region *tai_region_new(tai_space *space, int heap, void *ptr, size_t size, int is_segment)
{
    tai_region *region = (tai_region *)TENSORALLOC_MALLOC(sizeof *region);
    uint32_t shift = space->heaps[heap].map_shift;
    size_t map_bytes = ((size >> shift) + 1) * sizeof(uint32_t);
    if (region == NULL) {
        return NULL;
    }
    memset(region, 0, sizeof *region);
    if (!tai_table_init(&region->map_table, map_bytes, map_bytes)) {
        TENSORALLOC_FREE(region);
        return NULL;
    }
    region->base = region->top = region->commit_end = region->touched_end = (uintptr_t)ptr;
    region->size = size;
    region->heap = (uint32_t)heap;
    region->map_shift = shift;
    region->map = (uint32_t *)(void *)region->map_table.base;
    region->is_segment = is_segment;
    region->is_live = 1;
    return region;
}

/* Makes the region known, in the place of a dead one or behind the others. Inside the gate. */
static TAI_COLD int tai_space_add_region(tai_space *space, tai_region *region, uint32_t *out)
{
    uint32_t slot = 0;
    while (slot < space->region_count && space->regions[slot]->is_live) {
        slot++;
    }
    if (slot == space->region_room) {
        uint32_t room = space->region_room == 0 ? 8 : space->region_room * 2;
        tai_region **larger = (tai_region **)TENSORALLOC_MALLOC(room * sizeof *larger);
        if (larger == NULL) {
            return 0;
        }
        if (slot != 0) {
            memcpy(larger, space->regions, slot * sizeof *larger);
            TENSORALLOC_FREE(space->regions);
        }
        space->object_bytes += (room - space->region_room) * sizeof *larger;
        space->regions = larger;
        space->region_room = room;
    }
    if (slot == space->region_count) {
        space->region_count++;
    } else {
        space->object_bytes -= sizeof(tai_region);
        tai_region_free(space->regions[slot]);
    }
    space->regions[slot] = region;
    space->object_bytes += sizeof *region;
    region->index = slot;
    *out = slot;
    return 1;
}

/* So that the map covers [base, end). Inside the gate. */
static TAI_COLD int tai_region_map(tai_region *region, uintptr_t end)
{
    size_t bytes = (size_t)(end - region->base);
    if (bytes > region->mapped) {
        if (!tai_table_ensure(&region->map_table, (((bytes - 1) >> region->map_shift) + 1) * sizeof(uint32_t))) {
            return 0;
        }
        TENSORALLOC_STORE_RELEASE(&region->mapped, bytes);
        if (region->window != NULL) {
            TENSORALLOC_STORE_RELEASE(&region->window->mapped, bytes);
        }
    }
    return 1;
}

/* Down to what a range of want bytes is halved when it is refused. Where addresses are scarce that is little for the
   first range of a heap, which claims them before they are needed, and a segment for those that are chained. */
static TAI_COLD size_t tai_space_least(const tai_space *space, int heap, size_t want)
{
    size_t least = want < ((size_t)64 << 20) ? want : (size_t)64 << 20;
    if (space->info.device.type == TA_DEVICE_HOST && !tai_vm_has_room(least)) {
        least = space->primary[heap] == NULL ? (size_t)16384 << 2 * heap : space->heaps[heap].segment_bytes;
    }
    return least < want ? least : want;
}

/* Ranges of some size begin where huge pages do. */
static TAI_COLD size_t tai_range_alignment(const tai_space *space, size_t size)
{
    int huge = space->info.range_bytes_max == 0 && size >= 8 * TAI_HUGE_PAGE_BYTES;
    return huge && space->granularity < TAI_HUGE_PAGE_BYTES ? TAI_HUGE_PAGE_BYTES : space->granularity;
}

/* Reserves a range for a heap: want bytes, or less, but what is needed. Not inside the gate. */
static TAI_COLD ta_result tai_space_reserve(tai_space *space, int heap, size_t want, size_t need, tai_holder *me,
                                            uint32_t *out)
{
    size_t align = tai_range_alignment(space, want), least, size;
    void *ptr = NULL;
    tai_region *region;
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    int added;
    if (space->info.range_bytes_max == 0) {
        want = tai_round_up(want, align);
        least = tai_space_least(space, heap, want);
        least = tai_round_up(least, tai_range_alignment(space, least));
        need = tai_round_up(need, tai_range_alignment(space, need));
    } else {
        least = want = space->info.range_bytes_max;
    }
    if (TAI_NEVER(need == 0)) { /* rounded beyond the end: plans end at PTRDIFF_MAX, granularities are small */
        return TA_ERROR_OVERFLOW;
    }
    least = least < need ? need : least;
    for (size = want < least ? least : want; size >= least; size = tai_round_down(size / 2, align)) {
        align = tai_range_alignment(space, size);
        if (size == least || space->info.device.type != TA_DEVICE_HOST || tai_vm_has_room(size)) {
            result = space->backend.vtable->reserve(space->backend.self, size, align, space->heaps[heap].flags, &ptr);
        }
        if (result == TA_OK || size == least) {
            break;
        }
        if (size / 2 < least) {
            size = least * 2;
        }
    }
    if (result != TA_OK) {
        return result;
    }
    region = tai_region_new(space, heap, ptr, size, 0);
    added = 0;
    if (region != NULL) {
        tai_gate_enter(&space->gate, me);
        added = tai_space_add_region(space, region, out);
        space->address_range_bytes += added ? size : 0;
        tai_gate_leave(&space->gate, me);
    }
    if (!added) {
        if (region != NULL) {
            tai_region_free(region);
        }
        (void)space->backend.vtable->release(space->backend.self, ptr, size);
        return TA_ERROR_RECORDS;
    }
    return TA_OK;
}

/* How far to commit for target: a little more, at most a sixteenth; from 8 MiB on whole huge pages, where there may be
   any: the system has none for a page of which a part is not committed, and small ones cost four times as much. */
static TAI_COLD uintptr_t tai_growth_end(const tai_space *space, const tai_region *region, uintptr_t target)
{
    size_t bytes = (size_t)(target - region->base), step = (size_t)128 << 10;
    int huge = (space->heaps[region->heap].flags & TA_RANGE_HUGE_PAGES) != 0 && bytes > 4 * TAI_HUGE_PAGE_BYTES;
    uintptr_t end;
    while (step < TAI_HUGE_PAGE_BYTES && (huge || step * 16 <= bytes)) {
        step *= 2;
    }
    step = step < space->granularity ? space->granularity : step;
    end = region->base + tai_round_up(bytes, step);
    return (size_t)(end - region->base) > region->size ? region->base + region->size : end;
}

/* Commits [commit_end, end) of a region. With the turn, not inside the gate. */
static TAI_COLD ta_result tai_region_commit(tai_space *space, tai_region *region, uintptr_t end, tai_holder *me)
{
    uintptr_t from = region->commit_end;
    size_t bytes = (size_t)(end - from);
    ta_result result = TA_OK;
    if (!tai_budget_charge(space->budget, bytes)) {
        return TA_ERROR_LIMIT;
    }
    tai_gate_enter(&space->gate, me);
    if (!tai_region_map(region, end)) {
        result = TA_ERROR_RECORDS;
    }
    tai_gate_leave(&space->gate, me);
    if (result == TA_OK) {
        result = space->backend.vtable->commit(space->backend.self, (void *)from, bytes);
    }
    if (result != TA_OK) {
        tai_budget_refund(space->budget, bytes);
        return result;
    }
    tai_gate_enter(&space->gate, me);
    region->commit_end = end;
    tai_space_count_reserved(space, bytes);
    tai_gate_leave(&space->gate, me);
    return TA_OK;
}

/* The whole pages between what is committed and addr (a far alignment) need no memory: holes. With the turn. */
static TAI_COLD void tai_region_skip(tai_space *space, tai_region *region, uintptr_t addr, tai_holder *me)
{
    uintptr_t to = region->base + tai_round_down((size_t)(addr - region->base), space->granularity);
    tai_gate_enter(&space->gate, me);
    if (to > region->commit_end && tai_holes_ensure(space, region, to) && tai_region_map(region, to)) {
        uintptr_t from = region->commit_end;
        region->commit_end = to;
        tai_holes_set(space, region, from, to, 1);
    }
    tai_gate_leave(&space->gate, me);
}

/* How large the next range of a heap is to be: twice the last one. */
static TAI_COLD size_t tai_space_chain_bytes(const tai_space *space, int heap)
{
    size_t bytes = 0;
    uint32_t r;
    for (r = 0; r < space->region_count; r++) { /* the table changes only with the turn, which we have */
        const tai_region *region = space->regions[r];
        if (region->is_live && !region->is_segment && region->heap == (uint32_t)heap && region->size > bytes) {
            bytes = region->size;
        }
    }
    return bytes == 0 ? space->range_bytes : bytes > SIZE_MAX / 4 ? bytes : bytes * 2;
}

/* Grows the tail of a range so that an aligned piece of size fits; chains a range when all are full. */
static TAI_COLD ta_result tai_space_grow_range(tai_space *space, int heap, size_t size, size_t alignment,
                                               uint32_t stream, tai_holder *me, size_t *out_bytes)
{
    tai_region *region = NULL;
    uint32_t r, index = 0;
    uintptr_t target = 0, end, exact;
    ta_result result;
    for (;;) {
        tai_gate_enter(&space->gate, me);
        for (r = 0, region = NULL; r < space->region_count && region == NULL; r++) {
            tai_region *candidate = space->regions[r];
            uintptr_t addr = (uintptr_t)tai_round_up((size_t)candidate->top, alignment), top = candidate->top;
            uint32_t last = candidate->is_live && alignment == space->granule
                                ? tai_heap_last_of(space, candidate, stream) : 0;
            if (last != 0 && space->blocks.at[last].size < size) {
                addr = top = space->blocks.at[last].addr;
            }
            if (candidate->is_live && !candidate->is_segment && candidate->heap == (uint32_t)heap && addr >= top &&
                (size_t)(addr - candidate->base) <= candidate->size &&
                size <= candidate->size - (size_t)(addr - candidate->base)) {
                region = candidate;
                target = addr + size;
            }
        }
        tai_gate_leave(&space->gate, me);
        if (region != NULL) {
            break;
        }
        result = tai_space_reserve(space, heap, tai_space_chain_bytes(space, heap),
                                   size + alignment + TAI_HUGE_PAGE_BYTES, me, &index); /* plans end at PTRDIFF_MAX */
        if (result != TA_OK) {
            return result;
        }
    }
    *out_bytes = 0;
    if (target <= region->commit_end) {
        return TA_OK; /* somebody gave the tail back meanwhile */
    }
    tai_region_skip(space, region, target - size, me);
    exact = region->base + tai_round_up((size_t)(target - region->base), space->granularity);
    exact = (size_t)(exact - region->base) > region->size ? region->base + region->size : exact;
    end = tai_growth_end(space, region, target);
    *out_bytes = (size_t)(end - region->commit_end);
    result = tai_region_commit(space, region, end, me);
    if (result != TA_OK && end != exact) {
        *out_bytes = (size_t)(exact - region->commit_end);
        result = tai_region_commit(space, region, exact, me);
    }
    return result;
}

/* A new segment with one free block in it. */
static TAI_COLD ta_result tai_space_grow_segment(tai_space *space, int heap, size_t size, size_t alignment,
                                                 tai_holder *me, size_t *out_bytes)
{
    size_t want = space->heaps[heap].segment_bytes, need = size, bytes;
    void *ptr = NULL;
    tai_region *region = NULL;
    uint32_t index = 0;
    ta_result result = TA_ERROR_LIMIT;
    int attempt, ok;
    if (alignment > space->granule) {
        need += alignment; /* what take looks for */
    }
    if (TAI_NEVER(need > SIZE_MAX - space->granularity)) { /* plans end at PTRDIFF_MAX; granularities are small */
        return TA_ERROR_OVERFLOW;
    }
    need = tai_round_up(need, space->granularity);
    want = tai_round_up(want, space->granularity);
    for (attempt = want > need ? 0 : 1; attempt < 2; attempt++) {
        bytes = attempt == 0 ? want : need;
        *out_bytes = bytes;
        if (!tai_budget_charge(space->budget, bytes)) {
            result = TA_ERROR_LIMIT;
            continue;
        }
        result = space->backend.vtable->alloc(space->backend.self, bytes, &ptr);
        if (result == TA_OK) {
            break;
        }
        tai_budget_refund(space->budget, bytes);
    }
    if (result != TA_OK) {
        return result;
    }
    bytes = *out_bytes;
    region = tai_region_new(space, heap, ptr, bytes, 1);
    tai_gate_enter(&space->gate, me);
    ok = region != NULL && tai_region_map(region, region->base + bytes) && tai_blocks_ensure(&space->blocks, 1) &&
         tai_space_add_region(space, region, &index);
    if (ok) {
        uint32_t block = tai_heap_add(space, region, index, region->base, bytes, 0, 0);
        region->top = region->commit_end = region->base + bytes;
        tai_heap_make_free(space, block);
        tai_space_count_reserved(space, bytes);
    }
    tai_gate_leave(&space->gate, me);
    if (!ok) {
        if (region != NULL) {
            tai_region_free(region);
        }
        (void)space->backend.vtable->free(space->backend.self, ptr, bytes);
        tai_budget_refund(space->budget, bytes);
        return TA_ERROR_RECORDS;
    }
    return TA_OK;
}

/* Gets more memory from the backend for a piece of size bytes. TA_OK: look again. Not inside the gate. */
static TAI_NOINLINE ta_result tai_space_grow(tai_space *space, int heap, size_t size, size_t alignment,
                                             uint32_t stream, tai_holder *me, size_t *out_bytes)
{
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    *out_bytes = 0;
    if (!tai_turn_take(space, me)) {
        return result;
    }
    if (space->use_ranges) {
        result = tai_space_grow_range(space, heap, size, alignment, stream, me, out_bytes);
    }
    if (result != TA_OK && result != TA_ERROR_LIMIT && (space->info.caps & TA_CAP_SEGMENTS) != 0) {
        result = tai_space_grow_segment(space, heap, size, alignment, me, out_bytes);
    }
    tai_turn_end(space, me);
    return result;
}

/* Commits the holes under a busy block. Not inside the gate. On failure the block is still busy, holes and all. */
static TAI_NOINLINE ta_result tai_space_recommit(tai_space *space, uint32_t index, tai_holder *me, size_t *out_bytes)
{
    tai_block *block = &space->blocks.at[index];
    tai_region *region;
    uintptr_t from = block->addr, to = block->addr + block->size, run = 0, run_end = 0;
    ta_result result = TA_OK;
    int more;
    *out_bytes = 0;
    if (!tai_turn_take(space, me)) {
        return TA_ERROR_OUT_OF_MEMORY;
    }
    region = space->regions[block->place.region]; /* the table of regions changes only with the turn */
    for (;;) {
        tai_gate_enter(&space->gate, me);
        more = tai_holes_run(space, region, from, to, 1, &run, &run_end);
        tai_gate_leave(&space->gate, me);
        if (!more) {
            break;
        }
        result = TA_ERROR_LIMIT;
        if (tai_budget_charge(space->budget, (size_t)(run_end - run))) {
            result = space->backend.vtable->commit(space->backend.self, (void *)run, (size_t)(run_end - run));
            if (result != TA_OK) {
                tai_budget_refund(space->budget, (size_t)(run_end - run));
            }
        }
        if (result != TA_OK) {
            break;
        }
        tai_gate_enter(&space->gate, me);
        tai_holes_set(space, region, run, run_end, 0);
        tai_space_count_reserved(space, (size_t)(run_end - run));
        tai_gate_leave(&space->gate, me);
        *out_bytes += (size_t)(run_end - run);
        if (run_end >= to) {
            break;
        }
        from = run_end;
    }
    tai_turn_end(space, me);
    if (result == TA_OK) {
        block->place.flags = 0;
    }
    return result;
}

/* ---- giving back */
/* Decommits the committed pages of [from, to), which nobody else can reach now, and writes them down as holes. With
   the turn, not inside the gate. Returns 1 if all of it is gone, 2 if only whole pieces of it went, 0 if the backend
   refused. */
static TAI_COLD int tai_region_decommit(tai_space *space, tai_region *region, uintptr_t from, uintptr_t to,
                                        tai_holder *me, size_t *released)
{
    uintptr_t run = 0, run_end = 0, next;
    int more, all = 1;
    for (;;) {
        tai_gate_enter(&space->gate, me);
        more = from < to && tai_holes_run(space, region, from, to, 0, &run, &run_end);
        if (more && !tai_holes_ensure(space, region, run_end)) {
            tai_gate_leave(&space->gate, me);
            return 0;
        }
        tai_gate_leave(&space->gate, me);
        if (!more) {
            return all;
        }
        next = run_end;
        run = run < from ? from : run;
        run_end = run_end > to ? to : run_end;
        all = space->backend.vtable->pieces != NULL ? 2 : all;
        if (tai_backend_decommit(space->backend, &run, &run_end) != TA_OK) {
            return 0;
        }
        tai_gate_enter(&space->gate, me);
        tai_holes_set(space, region, run, run_end, 1);
        space->reserved -= (size_t)(run_end - run);
        space->trim_count += run != run_end;
        space->trimmed_bytes += (size_t)(run_end - run);
        tai_gate_leave(&space->gate, me);
        tai_budget_refund(space->budget, (size_t)(run_end - run));
        *released += (size_t)(run_end - run);
        from = next;
    }
}

/* Bytes that are to go: free and committed, beyond keep. Inside the gate. */
static TAI_COLD size_t tai_space_excess(const tai_space *space, size_t keep)
{
    size_t cached = tai_space_cached(space);
    return cached > keep ? cached - keep : 0;
}

/* The committed tail, from its end down. */
static TAI_COLD void tai_region_trim_tail(tai_space *space, tai_region *region, size_t keep, tai_holder *me,
                                          size_t *released)
{
    uintptr_t end, old_end, top;
    size_t excess;
    tai_gate_enter(&space->gate, me);
    old_end = region->commit_end;
    top = region->base + tai_round_up((size_t)(region->top - region->base), space->granularity);
    excess = tai_round_up(tai_space_excess(space, keep), space->granularity);
    end = top < old_end && (size_t)(old_end - top) > excess ? old_end - excess : top;
    while (region->hole_bytes != 0 && end > top && excess != 0) { /* holes do not count: further down */
        size_t holes = tai_holes_bytes(space, region, end, old_end), hidden = excess + holes - (size_t)(old_end - end);
        if ((size_t)(old_end - end) >= excess + holes) {
            break;
        }
        end = (size_t)(end - top) > hidden ? end - tai_round_up(hidden, space->granularity) : top;
    }
    end = end > old_end ? old_end : end;
    region->commit_end = end; /* out of everybody's reach */
    tai_gate_leave(&space->gate, me);
    if (end != old_end) {
        int all = tai_region_decommit(space, region, end, old_end, me, released);
        tai_gate_enter(&space->gate, me);
        if (all == 1) {
            tai_holes_set(space, region, end, old_end, 0);
        } else {
            region->commit_end = old_end;
        }
        tai_gate_leave(&space->gate, me);
    }
}

/* Whole pages inside free blocks, from the highest address down. */
static TAI_COLD void tai_region_trim_blocks(tai_space *space, tai_region *region, size_t keep, tai_holder *me,
                                            size_t *released)
{
    size_t page = space->granularity, excess;
    uint32_t index;
    tai_gate_enter(&space->gate, me);
    index = region->last;
    while (index != 0 && (excess = tai_space_excess(space, keep)) != 0) {
        tai_block *block = &space->blocks.at[index];
        uintptr_t from = region->base + tai_round_up((size_t)(block->addr - region->base), page);
        uintptr_t to = region->base + tai_round_down((size_t)(block->addr + block->size - region->base), page);
        uintptr_t run, run_end;
        int all;
        if (TENSORALLOC_LOAD_RELAXED(&block->state) != TAI_FREE || block->place.stream != 0 || from >= to ||
            !tai_holes_run(space, region, from, to, 0, &run, &run_end)) {
            index = block->prev;
            continue;
        }
        if ((block->place.flags & TAI_FLAG_HOLES) == 0 && (size_t)(to - from) > tai_round_up(excess, page)) {
            from = to - tai_round_up(excess, page);
        }
        tai_bins_remove(space, tai_bins_of(space, block), index);
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
        tai_gate_leave(&space->gate, me);
        all = tai_region_decommit(space, region, from, to, me, released);
        tai_gate_enter(&space->gate, me);
        block->place.flags |= TAI_FLAG_HOLES;
        index = tai_heap_give(space, index);
        index = index != 0 ? space->blocks.at[index].prev : region->last;
        if (!all) {
            break;
        }
    }
    tai_gate_leave(&space->gate, me);
}

/* A segment without a live block goes back whole. */
static TAI_COLD void tai_region_trim_segment(tai_space *space, tai_region *region, size_t keep, tai_holder *me,
                                             size_t *released)
{
    uint32_t index;
    int go;
    tai_gate_enter(&space->gate, me);
    index = region->first;
    go = index != 0 && index == region->last &&
         TENSORALLOC_LOAD_RELAXED(&space->blocks.at[index].state) == TAI_FREE &&
         space->blocks.at[index].place.stream == 0 && tai_space_excess(space, keep) != 0;
    if (go) {
        tai_bins_remove(space, tai_bins_of(space, &space->blocks.at[index]), index);
        TENSORALLOC_STORE_RELAXED(&space->blocks.at[index].state, (uint32_t)TAI_BUSY);
    }
    tai_gate_leave(&space->gate, me);
    if (!go) {
        return;
    }
    TAI_SHOW(space, region->base, (size_t)(region->touched_end - region->base));
    if (space->backend.vtable->free(space->backend.self, (void *)region->base, region->size) != TA_OK) {
        TAI_HIDE(space, region->base, (size_t)(region->touched_end - region->base));
        tai_gate_enter(&space->gate, me);
        tai_heap_make_free(space, index);
        tai_gate_leave(&space->gate, me);
        return;
    }
    tai_gate_enter(&space->gate, me);
    tai_block_recycle(&space->blocks, index);
    region->is_live = 0;
    space->reserved -= region->size;
    space->trim_count++;
    space->trimmed_bytes += region->size;
    tai_gate_leave(&space->gate, me);
    tai_budget_refund(space->budget, region->size);
    *released += region->size;
}

#define TAI_ALL_HEAPS 7u

/* Gives whole free pages of some heaps (a bit each) back, highest first, until at most keep bytes are free in all.
   With the turn, outside the gate. */
static TAI_COLD size_t tai_space_trim(tai_space *space, uint32_t heaps, size_t keep, tai_holder *me)
{
    size_t released = 0;
    uint32_t r = space->region_count; /* changes only with the turn */
    while (r-- > 0) {
        tai_region *region = space->regions[r];
        if (!region->is_live || (heaps >> region->heap & 1) == 0) {
            continue;
        }
        if (region->is_segment) {
            tai_region_trim_segment(space, region, keep, me, &released);
        } else {
            tai_region_trim_tail(space, region, keep, me, &released);
            tai_region_trim_blocks(space, region, keep, me, &released);
        }
    }
    if (keep != 0 && space->backend.vtable->pieces != NULL) { /* only whole pieces went: rather one too many */
        size_t cached;
        tai_gate_enter(&space->gate, me);
        cached = tai_space_cached(space);
        tai_gate_leave(&space->gate, me);
        released += cached > keep ? tai_space_trim(space, heaps, 0, me) : 0;
    }
    return released;
}

/* ---- order between streams. Nothing here is reached without TA_CAP_ORDERED. */
static uint32_t tai_use_new(tai_space *space, uint32_t stream, uint32_t next)
{
    uint32_t index = space->use_unused;
    tai_use *at = (tai_use *)(void *)space->uses.base;
    if (index != 0) {
        space->use_unused = at[index].next;
    } else if (tai_table_ensure(&space->uses, ((size_t)space->use_end + 1) * sizeof(tai_use))) {
        index = space->use_end++;
    } else {
        return 0;
    }
    at[index].stream = stream;
    at[index].next = next;
    at[index].has_ticket = 0;
    return index;
}

static void tai_use_recycle(tai_space *space, uint32_t index)
{
    tai_use *at = (tai_use *)(void *)space->uses.base;
    at[index].next = space->use_unused;
    space->use_unused = index;
}

/* Writes down that a stream uses a live block. Inside the gate. */
static ta_result tai_space_record_use(tai_space *space, uint32_t index, ta_stream id)
{
    tai_block *block = &space->blocks.at[index];
    const tai_use *at = (const tai_use *)(const void *)space->uses.base;
    int ok = 1;
    uint32_t stream = tai_stream_index(space, id, &ok), use;
    if (!ok) {
        return TA_ERROR_RECORDS;
    }
    if (stream == block->place.stream) {
        return TA_OK;
    }
    for (use = block->left; use != 0; use = at[use].next) {
        if (at[use].stream == stream) {
            return TA_OK;
        }
    }
    use = tai_use_new(space, stream, block->left);
    if (use == 0) {
        return TA_ERROR_RECORDS;
    }
    block->left = use;
    block->place.class_index = 0; /* not into a thread cache: it has to wait */
    return TA_OK;
}

/* Writes down that a live block may be used again only after a ticket. Inside the gate. */
static TAI_COLD ta_result tai_space_record_ticket(tai_space *space, uint32_t index, uint64_t ticket)
{
    tai_block *block = &space->blocks.at[index];
    int ok = 1;
    uint32_t stream = tai_stream_index(space, TAI_STREAM_EVENTS, &ok), use;
    use = ok ? tai_use_new(space, stream, block->left) : 0;
    if (use == 0) {
        return TA_ERROR_RECORDS;
    }
    ((tai_use *)(void *)space->uses.base)[use].ticket = ticket;
    ((tai_use *)(void *)space->uses.base)[use].has_ticket = 1;
    block->left = use;
    block->place.class_index = 0;
    return TA_OK;
}

static TAI_COLD void tai_space_drop(tai_space *space, uint64_t ticket)
{
    if (space->backend.vtable->drop != NULL) {
        space->backend.vtable->drop(space->backend.self, ticket);
    }
}

/* Frees a busy block that streams still use: marks each of them, then the block waits in their lists. Outside the
   gate. patient: a stream that is being captured is marked later, when its block is looked at. On failure nothing has
   changed but the marks made so far, which are dropped. */
static ta_result tai_space_give_later(tai_space *space, uint32_t index, int patient, tai_holder *me)
{
    tai_use *at = (tai_use *)(void *)space->uses.base;
    tai_block *block = &space->blocks.at[index];
    uint32_t use, next, count = 0;
    ta_result result = TA_OK;
    for (use = block->left; use != 0 && result == TA_OK; use = at[use].next) {
        ta_stream id;
        tai_gate_enter(&space->gate, me);
        id = space->streams[at[use].stream].id;
        at[use].has_ticket = at[use].has_ticket == 3 || (at[use].has_ticket != 1 && id >= TAI_STREAM_GRAPHS) ? 3u
                             : space->streams[at[use].stream].retired ? 2u
                             : at[use].has_ticket == 4 ? 0u : at[use].has_ticket;
        tai_gate_leave(&space->gate, me);
        if (!at[use].has_ticket) {
            result = space->backend.vtable->mark(space->backend.self, id, &at[use].ticket);
            if (TAI_GRAPHS && result == TA_ERROR_CAPTURE && (patient || space->parks)) {
                at[use].has_ticket = block->right != 0 ? 3 : 4; /* what no capture owns was used before it, too */
                result = TA_OK;
            }
        }
        count += result == TA_OK;
    }
    if (result != TA_OK) {
        for (use = block->left; count != 0; use = at[use].next, count--) {
            if (!at[use].has_ticket) {
                tai_space_drop(space, at[use].ticket);
            }
        }
        if (at[block->left].has_ticket == 1) { /* the caller's, and the newest: it is not waited for any more */
            tai_gate_enter(&space->gate, me);
            use = block->left;
            block->left = at[use].next;
            tai_use_recycle(space, use);
            tai_gate_leave(&space->gate, me);
        }
        return result;
    }
    tai_gate_enter(&space->gate, me);
    for (use = block->left; use != 0; use = next) {
        tai_stream *stream = &space->streams[at[use].stream];
        next = at[use].next;
        at[use].next = 0;
        at[use].block = index;
        if (stream->pending_last != 0) {
            at[stream->pending_last].next = use;
        } else {
            stream->pending_first = use;
        }
        stream->pending_last = use;
    }
    block->left = 0;
    block->right = count;
    TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
    space->used[block->place.heap] -= block->size;
    space->pending_bytes += block->size;
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_PENDING);
    tai_gate_leave(&space->gate, me);
    return TA_OK;
}

/* All free blocks of one stream, linked by left, out of the bins and busy. Inside the gate. */
static TAI_COLD uint32_t tai_stream_drain(tai_space *space, uint32_t stream)
{
    uint32_t list = 0, index;
    int heap;
    for (heap = space->undivided ? TAI_LARGE : TAI_TINY; heap <= TAI_LARGE; heap++) {
        while ((index = tai_bins_largest(space, space->bins[TAI_HEAPS * stream + (uint32_t)heap])) != 0) {
            tai_bins_remove(space, space->bins[TAI_HEAPS * stream + (uint32_t)heap], index);
            TENSORALLOC_STORE_RELAXED(&space->blocks.at[index].state, (uint32_t)TAI_BUSY);
            space->blocks.at[index].left = list;
            list = index;
        }
    }
    return list;
}

/* The blocks of a drained list are free again: for every stream, or for theirs. Inside the gate. */
static TAI_COLD uint32_t tai_stream_refill(tai_space *space, uint32_t list, int for_all)
{
    uint32_t next, count = 0;
    for (; list != 0; list = next, count++) {
        next = space->blocks.at[list].left;
        if (for_all) {
            space->blocks.at[list].place.stream = 0;
        }
        tai_heap_give(space, list);
    }
    return count;
}

/* What a retired stream freed becomes ready for all once its work is done. Returns how many blocks. Inside the gate,
   which is left around the question. */
static TAI_COLD uint32_t tai_space_poll_retired(tai_space *space, uint32_t s, int wait, tai_holder *me)
{
    uint64_t ticket = space->streams[s].last_ticket;
    ta_result result;
    if (space->streams[s].retired == 1) {
        tai_gate_leave(&space->gate, me);
        result = wait ? space->backend.vtable->sync(space->backend.self, ticket)
                      : space->backend.vtable->is_done(space->backend.self, ticket);
        if (result == TA_OK) {
            tai_space_drop(space, ticket);
        }
        tai_gate_enter(&space->gate, me);
        space->streams[s].retired = result == TA_OK ? 2 : 1;
    }
    return space->streams[s].retired == 2 ? tai_stream_refill(space, tai_stream_drain(space, s), 1) : 0;
}

/* Takes finished blocks out of the pending lists, asking only for the head of each; blocks: waits for all of them.
   Returns how many came free. Outside the gate. */
static uint32_t tai_space_poll(tai_space *space, int wait_for_all, tai_holder *me)
{
    uint32_t s, freed = 0;
    tai_gate_enter(&space->gate, me);
    while (space->polling) {
        tai_gate_leave(&space->gate, me);
        if (!wait_for_all) {
            return 0;
        }
        TAI_WAIT_A_MOMENT();
        tai_gate_enter(&space->gate, me);
    }
    space->polling = 1;
    for (s = 1; s < space->stream_count; s++) {
        freed += tai_space_poll_retired(space, s, wait_for_all, me);
        while (space->streams[s].pending_first != 0) {
            tai_use *at = (tai_use *)(void *)space->uses.base;
            uint32_t use = space->streams[s].pending_first;
            uint64_t ticket = at[use].ticket;
            tai_block *block = &space->blocks.at[at[use].block];
            ta_result result = space->streams[s].retired == 2 ? TA_OK : TA_ERROR_NOT_READY;
            int asked = at[use].has_ticket < 2; /* else: when the whole stream is done, or somebody says so */
            int late = TAI_GRAPHS && at[use].has_ticket == 4 && !space->streams[s].retired;
            ta_stream id = space->streams[s].id;
            tai_gate_leave(&space->gate, me);
            if (late) {
                result = space->backend.vtable->mark(space->backend.self, id, &ticket);
            } else if (asked) {
                result = wait_for_all ? space->backend.vtable->sync(space->backend.self, ticket)
                                      : space->backend.vtable->is_done(space->backend.self, ticket);
                if (result == TA_OK) {
                    tai_space_drop(space, ticket);
                }
            }
            tai_gate_enter(&space->gate, me);
            if (result != TA_OK) {
                break;
            }
            if (late) {
                at[use].ticket = ticket;
                at[use].has_ticket = 0;
                continue;
            }
            space->streams[s].pending_first = at[use].next;
            if (at[use].next == 0) {
                space->streams[s].pending_last = 0;
            }
            if (--block->right == 0) {
                TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
                space->pending_bytes -= block->size;
                tai_heap_give(space, at[use].block);
                freed++;
            }
            tai_use_recycle(space, use);
        }
    }
    space->polling = 0;
    tai_gate_leave(&space->gate, me);
    return freed;
}

/* Takes a free block of another stream; later work on ours waits for that stream, on the device. Outside the gate. */
static uint32_t tai_space_steal(tai_space *space, int heap, size_t size, size_t alignment, uint32_t stream,
                                tai_holder *me)
{
    uint32_t s, donor = 0, best = 0, index;
    size_t need = size + (alignment - space->granule); /* plans end at PTRDIFF_MAX */
    ta_stream from, to;
    uint64_t ticket = 0;
    ta_result result;
    tai_gate_enter(&space->gate, me);
    if (!tai_blocks_ensure(&space->blocks, 2)) {
        tai_gate_leave(&space->gate, me);
        return 0;
    }
    for (s = 1; s < space->stream_count; s++) {
        index = s == stream || space->streams[s].retired
                    ? 0 : tai_bins_find(space, space->bins[TAI_HEAPS * s + (uint32_t)heap], need);
        if (index != 0 && (best == 0 || tai_block_before(&space->blocks.at[index], &space->blocks.at[best]))) {
            best = index;
            donor = s;
        }
    }
    index =
        best == 0 ? 0 : tai_heap_take_bin(space, space->bins[TAI_HEAPS * donor + (uint32_t)heap], size, alignment);
    from = space->streams[donor].id;
    to = space->streams[stream].id;
    if (index != 0) {
        space->used[heap] += space->blocks.at[index].size;
    }
    tai_gate_leave(&space->gate, me);
    if (index == 0) {
        return 0;
    }
    result = space->backend.vtable->mark(space->backend.self, from, &ticket);
    if (result == TA_OK) {
        result = space->backend.vtable->wait(space->backend.self, to, ticket);
        tai_space_drop(space, ticket);
    }
    tai_gate_enter(&space->gate, me);
    if (result == TA_OK) {
        space->blocks.at[index].place.stream = (uint16_t)stream;
        space->steal_count++;
    } else {
        tai_heap_put(space, index);
        index = 0;
    }
    tai_gate_leave(&space->gate, me);
    return index;
}

/* Waits for the work on all freed blocks; afterwards they are ready for every stream. Outside the gate. */
static TAI_COLD ta_result tai_space_synchronize(tai_space *space, tai_holder *me)
{
    ta_result result = TA_OK, one;
    uint32_t s, list;
    uint64_t ticket = 0;
    ta_stream id;
    (void)tai_space_poll(space, 1, me);
    tai_gate_enter(&space->gate, me);
    for (s = 1; s < space->stream_count; s++) {
        list = space->streams[s].retired ? 0 : tai_stream_drain(space, s);
        if (list == 0) {
            continue;
        }
        id = space->streams[s].id;
        tai_gate_leave(&space->gate, me);
        one = space->backend.vtable->mark(space->backend.self, id, &ticket);
        if (one == TA_OK) {
            one = space->backend.vtable->sync(space->backend.self, ticket);
            tai_space_drop(space, ticket);
        }
        result = result == TA_OK ? one : result;
        tai_gate_enter(&space->gate, me);
        (void)tai_stream_refill(space, list, one == TA_OK);
    }
    tai_gate_leave(&space->gate, me);
    return result;
}

/* ---- life of a space */
typedef struct tai_space_desc {
    ta_backend backend;
    ta_budget *budget;
    size_t limit;
    size_t small_bytes;   /* largest block of the small heap */
    size_t range_bytes;   /* 0: default */
    size_t slack;
    size_t block_count_max; /* 0: default */
    int huge_pages;
    int disable_ranges;
    int stealing;
    int single_threaded;
    int undivided;
    int parks;
} tai_space_desc;

/* A power of two of at least the physical memory, up to 64 GiB; little where addresses are scarce (32 bits, a limit on
   what the process may map). Not more: with four times the physical memory of a machine of 32 GiB, 780 pools took the
   128 TiB of a process, and malloc failed in the rest of the program. A pool that needs more loses nothing: ranges are
   chained, each twice as large as the one before, and best fit looks over all of them. */
static TAI_COLD size_t tai_range_default(void)
{
    size_t physical = tai_physical_bytes(), limit = tai_address_limit_bytes();
    size_t cap = sizeof(size_t) > 4 ? (size_t)1 << (sizeof(size_t) > 4 ? TAI_RANGE_BITS : 0) : (size_t)64 << 20;
    if (limit != TA_UNLIMITED) {
        cap = limit / 8192 > 65536 ? tai_power_of_two_at_least(limit / 8192) : 65536;
    }
    return physical >= cap ? cap : tai_power_of_two_at_least(physical);
}

static TAI_COLD size_t tai_block_count_default(void)
{
    size_t limit = tai_address_limit_bytes(), count = TAI_BLOCK_COUNT_DEFAULT;
    if (limit != TA_UNLIMITED && limit / 262144 < count) {
        count = limit / 262144 > 1024 ? limit / 262144 : 1024;
    }
    return count;
}

static TAI_COLD void tai_space_free_records(tai_space *space)
{
    uint32_t i;
    for (i = 0; i < space->region_count; i++) {
        tai_region_free(space->regions[i]);
    }
    TENSORALLOC_FREE(space->regions);
    for (i = 0; i < space->stream_count; i++) {
        TENSORALLOC_FREE(space->bins[TAI_HEAPS * i]);
    }
    TENSORALLOC_FREE(space->streams);
    TENSORALLOC_FREE(space->bins);
    space->bins = NULL;
    tai_table_free(&space->blocks.table);
    tai_table_free(&space->uses);
    space->regions = NULL;
    space->streams = NULL;
    space->region_count = space->region_room = space->stream_count = space->stream_room = 0;
    memset(space->primary, 0, sizeof space->primary);
    space->object_bytes = 0;
}

static TAI_COLD void tai_heaps_init(tai_space *space, const tai_space_desc *desc)
{
    tai_heap *tiny = &space->heaps[TAI_TINY], *middle = &space->heaps[TAI_MIDDLE], *large = &space->heaps[TAI_LARGE];
    tiny->map_shift = space->granule_shift;
    middle->map_shift = space->tiny == TAI_MIDDLE ? space->granule_shift : tai_high_bit((uint64_t)TAI_TINY_BYTES);
    large->map_shift = space->undivided ? space->granule_shift : tai_high_bit((uint64_t)desc->small_bytes);
    tiny->block_bytes_min = (size_t)1 << tiny->map_shift;
    middle->block_bytes_min = (size_t)1 << middle->map_shift;
    large->block_bytes_min = (size_t)1 << large->map_shift;
    tiny->segment_bytes = (size_t)256 << 10;
    middle->segment_bytes = (size_t)1 << 20;
    large->segment_bytes = space->undivided ? (size_t)1 << 20 : (size_t)16 << 20;
    middle->flags = large->flags = desc->huge_pages ? (uint32_t)TA_RANGE_HUGE_PAGES : 0u;
}

static TAI_COLD void tai_space_release(tai_space *space)
{
    uint32_t r;
    for (r = 0; r < space->region_count; r++) {
        tai_region *region = space->regions[r];
        if (region->is_live) {
            TAI_SHOW(space, region->base, (size_t)(region->touched_end - region->base));
            if (region->is_segment) {
                (void)space->backend.vtable->free(space->backend.self, (void *)region->base, region->size);
            } else {
                (void)space->backend.vtable->release(space->backend.self, (void *)region->base, region->size);
            }
            region->is_live = 0;
            TENSORALLOC_STORE_RELEASE(&region->mapped, (size_t)0);
        }
    }
    tai_budget_refund(space->budget, space->reserved);
    memset(space->used, 0, sizeof space->used);
    space->reserved = space->pending_bytes = space->address_range_bytes = 0;
}

/* Reserves the first range of each heap where the backend has ranges; falls back to segments. */
static TAI_COLD ta_result tai_space_first_ranges(tai_space *space)
{
    int heap;
    uint32_t index = 0;
    ta_result result = TA_OK;
    for (heap = space->undivided ? TAI_LARGE : space->tiny; space->use_ranges && heap <= TAI_LARGE; heap++) {
        size_t want = heap == TAI_TINY     ? space->range_bytes / 16
                      : heap == TAI_MIDDLE ? space->range_bytes / 4
                                           : space->range_bytes;
        result = tai_space_reserve(space, heap, want, space->granularity, NULL, &index);
        if (result == TA_OK) {
            space->primary[heap] = space->regions[index];
        } else if ((space->info.caps & TA_CAP_SEGMENTS) != 0) {
            space->use_ranges = 0;
            result = TA_OK;
        } else {
            return result;
        }
    }
    return result;
}

static TAI_COLD ta_result tai_space_init(tai_space *space, const tai_space_desc *desc)
{
    size_t count = desc->block_count_max != 0 ? desc->block_count_max : tai_block_count_default();
    uint32_t index;
    ta_result result;
    memset(space, 0, sizeof *space);
    result = tai_budget_resolve(desc->budget, desc->backend, desc->limit, &space->budget, &space->budget_owned);
    if (result != TA_OK) {
        return result;
    }
    space->backend = space->budget->backend;
    space->info = space->budget->info;
    space->granule = space->info.alignment_bytes;
    space->granule_shift = tai_high_bit((uint64_t)space->granule);
    space->granularity = space->info.granularity_bytes;
    space->slack = desc->slack;
    space->ordered = (space->info.caps & TA_CAP_ORDERED) != 0;
    space->stealing = desc->stealing;
    space->parks = desc->parks;
    space->use_ranges = (space->info.caps & TA_CAP_RANGES) != 0 &&
                        (!desc->disable_ranges || (space->info.caps & TA_CAP_SEGMENTS) == 0);
    space->undivided = desc->undivided || (space->use_ranges && space->info.range_bytes_max != 0);
    space->tiny = space->use_ranges && space->granularity >= TAI_HUGE_PAGE_BYTES / 2 ? TAI_MIDDLE : TAI_TINY;
    space->range_bytes = desc->range_bytes != 0 ? desc->range_bytes : tai_range_default();
    tai_gate_init(&space->gate, desc->single_threaded);
    tai_heaps_init(space, desc);
    result = TA_ERROR_RECORDS;
    if (tai_blocks_init(&space->blocks, count) && tai_stream_add(space, 0, &index) &&
        (!space->ordered ||
         (tai_table_init(&space->uses, (count / 16 + 256) * sizeof(tai_use), 256 * sizeof(tai_use)) &&
                             tai_table_ensure(&space->uses, sizeof(tai_use))))) {
        space->use_end = 1;
        result = tai_space_first_ranges(space);
    }
    if (result != TA_OK) {
        tai_space_release(space);
        tai_space_free_records(space);
        if (space->budget_owned) {
            (void)ta_budget_destroy(space->budget);
        }
    }
    return result;
}

/* Bytes of bookkeeping. Inside the gate. */
static TAI_COLD size_t tai_space_record_bytes(const tai_space *space)
{
    size_t bytes = space->object_bytes + space->blocks.table.committed + space->uses.committed;
    uint32_t r;
    for (r = 0; r < space->region_count; r++) {
        bytes += space->regions[r]->map_table.committed + space->regions[r]->hole_table.committed;
    }
    return bytes;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:SLOTS] what a thread holds of a pool: its cache of small and middle blocks, its counters, its place at the gate.
  Uses: HEAP.

  A slot belongs to its thread and is in two lists: the thread's (its own memory, so that an exiting thread never
  looks at a pool that is gone) and the pool's (for statistics and for dispose). Whoever lets go first tells the other
  through state:   attached --thread exits--> leaving --flushed, out of the pool's list--> freed
                   attached --pool goes-----> detached; the thread frees it when it exits or attaches again
  With order a thread has a slot for each stream that it uses, found by the stream's name when it allocates and by its
  index when it frees; all of them stand at the gate as one.
  Blocks that one thread frees and another allocates pass from cache to cache: a full cache hands a batch of a class
  over if another thread was the last to miss that class, and who misses it next takes the batch whole.
  Invariants: heads[] and counters are written by the owner only; in use = used_bytes of the space - sum of
  cached_bytes - passing_bytes; a cached block is in state TAI_CACHED.
  -------------------------------------------------------------------------------------------------------*/
#define TAI_CLASS_MAX 80
#define TAI_UNITS_MAX 1024
#define TAI_THREAD_SLOTS 32
#define TAI_FLUSH_COUNT 32u
#define TAI_REFILL_BYTES ((size_t)8192)
#define TAI_PASSING_BATCHES 4u
enum { TAI_SLOT_ATTACHED = 0, TAI_SLOT_LEAVING = 1, TAI_SLOT_DETACHED = 2 };

typedef struct tai_counters {
    uint64_t allocation_count, allocated_bytes;
    uint64_t deallocation_count, freed_bytes;
} tai_counters;

/* allocated - freed is what is requested now, also when a block was resized in place. */
static void tai_count_resize(tai_counters *count, size_t was, size_t now)
{
    count->allocated_bytes += now > was ? now - was : 0;
    count->freed_bytes += now < was ? was - now : 0;
}

typedef struct tai_slot {
    tai_holder holder;
    ta_pool *quick;        /* the pool, where the shortest paths will do: no order, no room[], several threads */
    size_t cached_bytes;
    size_t bytes_max;
    tai_counters count;
    ta_pool *pool;         /* NULL when detached */
    ta_stream stream_id;
    uint32_t retired_seen; /* retired_count of the pool when stream was looked up */
    uint32_t stream;       /* index of the stream whose blocks it holds */
    uint32_t state;        /* TAI_SLOT_* */
    tai_holder *me;        /* its place at the gate: that of the thread's first slot of the pool */
    ta_pool *ordered;      /* the pool, where the short paths with order will do: no room[], several threads, and no
                              stream retired since it was looked up */
    size_t cached_low;     /* lowest cached_bytes since the last look: for the exact peak of one-thread pools */
    struct tai_slot *pool_next;   /* guarded by the gate */
    struct tai_slot *thread_next; /* the thread's own */
    uint32_t victim;       /* class to flush next */
    uint32_t heads[TAI_CLASS_MAX];
    uint32_t room[TAI_CLASS_MAX]; /* blocks that may still be added; only with a limit on them */
} tai_slot;

/* Batches of one class on their way from cache to cache. A batch is linked by right; its first block has the next
   batch in left and the number of blocks in requested. */
typedef struct tai_passing {
    uintptr_t missed_by; /* the slot that missed this class last; 0: none since the list was full */
    uint32_t first;
    uint32_t batches;
} tai_passing;

/* What GRAPH-IMPL does for a pool that has graph pools beside it. */
typedef struct tai_graph_hooks {
    /* Serves an allocation on a stream that is being captured. */
    void *(*alloc)(ta_pool *pool, const ta_request *request, uint64_t capture, ta_result *result);
    /* The memory of the graph pool that ptr lies in, or NULL; stays until it is let go. */
    ta_pool *(*find)(ta_pool *pool, const void *ptr);
    /* Frees a block of a graph pool that needs nothing special; 0: it is none. */
    int (*give)(ta_pool *pool, const void *ptr, size_t size, const ta_stream *stream);
    void (*let_go)(ta_pool *pool, const ta_pool *memory);
    /* Work of a capture uses a block of ours, or (freed) may use it because it is of a captured stream. */
    ta_result (*use)(ta_pool *pool, void *ptr, ta_stream stream, int freed);
    void (*retire)(ta_pool *pool, ta_stream stream);
    /* Lets go of what graphs that are gone used; nonzero: something. */
    size_t (*collect)(ta_pool *pool);
    /* 0: there still are graph pools. */
    int (*close)(ta_pool *pool);
    /* Bytes of all graph pools. */
    size_t (*reserved)(ta_pool *pool);
} tai_graph_hooks;

struct ta_pool {
    tai_space space; /* first: its gate and tables are the hottest */
    tai_slot *single_slot;       /* single-threaded pools: &slot0 */
    uint32_t class_count;
    int limited;                 /* blocks per class are: room[] counts */
    int plain;                   /* large blocks need nothing special: not observed, watched, zeroed, disposed */
    int disposed;
    uint32_t process_id;         /* whose it is; 0: single-threaded, without a driver: a child's copy is as good */
    uint32_t retired_count;      /* streams that were retired: slots look their stream up anew */
    int alert;                   /* TAI_ALERT_*: what every allocation but those of the shortest paths must do */
    int scopes;                  /* a capture scope is open: frees look whether their stream is in it */
    uint32_t held;               /* by graph pools: blocks of ours */
    const tai_graph_hooks *hooks; /* NULL: no graph pool */
    struct tai_graphs *graphs;
    uint64_t id;
    ta_pool_desc desc;           /* resolved */
    tai_member member;
    tai_slot *slots;
    tai_counters count;          /* of large blocks and of slots that are gone */
    uint64_t miss_grow_count, miss_recommit_count, resize_count, thread_hit_base;
    uint64_t failure_count, failure_limit_count, failure_sealed_count, failure_not_cached_count;
    size_t peak_in_use;
    int sealed;
    int observed;
    uint32_t trace_source;
    ta_failure failure;
    tai_slot slot0;
    tai_passing passing[TAI_CLASS_MAX];
    size_t passing_bytes;
    char name[32];
    size_t class_bytes[TAI_CLASS_MAX];
    /* What the shortest paths read, away from what anybody writes. */
    tai_block *at;               /* the records; they never move */
    size_t cacheable_bytes;      /* largest request for thread caches; 0: none */
    size_t hot_bytes;            /* the same for the shortest path; 0 with order, and in watched pools */
    size_t watched_bytes;        /* the same for the path of watched pools */
    size_t large_above;          /* as desc.thread_cache_block_bytes; 0 in watched pools, TA_UNLIMITED with order */
    tai_window windows[6];       /* primary ranges: two where blocks of thread caches lie; large ones, where frees need
                                    nothing special (as plain, and no cap on cached bytes). Or nothing. Then the same
                                    three of watched pools, and of those with order */
    uint32_t slot_hint;
    uint8_t class_of[TAI_UNITS_MAX]; /* by (bytes - 1) / 64 */
#ifdef TENSORALLOC_CHECKED
    tai_guard guard;
#endif
};

enum {
    TAI_ALERT_CAPTURE = 1, /* asks whether the stream is being captured */
    TAI_ALERT_TAG = 2,     /* observed or watched: the block takes the thread's tag */
    TAI_ALERT_WATCHED = 4, /* a trace records it, or tags alone: thread caches stay */
    TAI_ALERT_LARGE = 8,   /* watched, and large blocks need nothing special else */
    TAI_ALERT_COPY = 16,   /* tags of requests are copied: a trace may outlive them */
    TAI_ALERT_ORDER = 32,  /* order between streams, and nothing else that is special */
    TAI_ALERT_FIRST = 64   /* asks about captures when a thread comes to a stream, and not again */
};
#define TAI_ALERTS(pool) TENSORALLOC_LOAD_RELAXED(&(pool)->alert) /* graph pools change it beside calls */

TAI_INLINE ta_stream tai_pool_stream(const ta_pool *pool, ta_stream stream)
{
    return pool->space.ordered ? stream : 0;
}

/* The peak of what is in use; called before and after that changes. Inside the gate. */
TAI_INLINE void tai_pool_note_peak(ta_pool *pool)
{
    size_t in_use = tai_space_used(&pool->space);
    if (pool->single_slot != NULL) {
        in_use -= pool->slot0.cached_low;
        pool->slot0.cached_low = pool->slot0.cached_bytes;
    }
    in_use -= tai_guard_held(pool);
    if (in_use > pool->peak_in_use) {
        pool->peak_in_use = in_use;
    }
}

/* Opens the short paths with order where they will do. Inside the gate. */
static TAI_COLD void tai_slot_shorten(ta_pool *pool, tai_slot *slot)
{
    int fits = (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0 && !pool->limited && pool->single_slot == NULL;
    TENSORALLOC_STORE_RELAXED(&slot->ordered, fits ? pool : NULL);
}

static TAI_COLD void tai_slot_reset(tai_slot *slot, ta_pool *pool, ta_stream id, uint32_t stream)
{
    uint32_t c;
    memset(slot, 0, sizeof *slot);
    slot->pool = pool;
    slot->me = &slot->holder;
    slot->quick = pool->space.ordered || pool->limited || pool->single_slot != NULL ? NULL : pool;
    tai_slot_shorten(pool, slot);
    slot->stream_id = id;
    slot->retired_seen = TENSORALLOC_LOAD_RELAXED(&pool->retired_count);
    slot->stream = stream;
    /* With a cap on cached bytes a slot gets its share when it first frees. */
    slot->bytes_max = pool->cacheable_bytes == 0 || pool->desc.cached_bytes_max != TA_UNLIMITED
                          ? 0
                          : pool->desc.thread_cache_bytes;
    for (c = 0; c < TAI_CLASS_MAX; c++) {
        slot->room[c] = pool->desc.buffers_per_bucket_max > 0x7fffffff ? 0x7fffffffu
                                                                      : (uint32_t)pool->desc.buffers_per_bucket_max;
    }
}

/* Takes a block from the cache; 0 if there is none. Owner only. */
TAI_INLINE uint32_t tai_slot_pop(ta_pool *pool, tai_slot *slot, uint32_t c)
{
    uint32_t index = slot->heads[c];
    if (TAI_LIKELY(index != 0)) {
        const tai_block *block = &pool->space.blocks.at[index];
        size_t cached = slot->cached_bytes - block->size;
        slot->heads[c] = block->right;
        slot->room[c] += (uint32_t)pool->limited;
        TENSORALLOC_STORE_RELAXED(&slot->cached_bytes, cached);
        if (cached < slot->cached_low) {
            slot->cached_low = cached;
        }
    }
    return index;
}

/* Puts a block that is in state cached into the cache. Owner only; the caller has looked for room. */
TAI_INLINE void tai_slot_push(ta_pool *pool, tai_slot *slot, uint32_t index)
{
    tai_block *block = &pool->space.blocks.at[index];
    uint32_t c = block->place.class_index;
    block->right = slot->heads[c];
    slot->heads[c] = index;
    slot->room[c] -= (uint32_t)pool->limited;
    TENSORALLOC_STORE_RELAXED(&slot->cached_bytes, slot->cached_bytes + block->size);
}

/* Gives up to count blocks back to the heap, class after class, but keeps keep_bytes. Inside the gate, by the
   owner, or with the owner known to be in no call. Returns how many. */
static uint32_t tai_slot_flush(ta_pool *pool, tai_slot *slot, uint32_t count, size_t keep_bytes)
{
    uint32_t flushed = 0, empty = 0, index;
    tai_pool_note_peak(pool);
    while (flushed < count && slot->cached_bytes > keep_bytes && empty < pool->class_count) {
        if (slot->victim >= pool->class_count) {
            slot->victim = 0;
        }
        index = tai_slot_pop(pool, slot, slot->victim);
        if (index == 0) {
            slot->victim++;
            empty++;
            continue;
        }
        empty = 0;
        TENSORALLOC_STORE_RELAXED(&pool->space.blocks.at[index].state, (uint32_t)TAI_BUSY);
        tai_heap_put(&pool->space, index);
        flushed++;
    }
    slot->cached_low = slot->cached_bytes;
    if (pool->desc.cached_bytes_max != TA_UNLIMITED && slot->bytes_max > slot->cached_bytes) {
        slot->bytes_max = slot->cached_bytes; /* what went to the heap uses up the cap: a new share is needed */
    }
    return flushed;
}

/* Takes the next batch out of a list; 0 if there is none. Inside the gate. */
static uint32_t tai_passing_take(ta_pool *pool, uint32_t c, size_t *bytes)
{
    tai_passing *passing = &pool->passing[c];
    uint32_t first = passing->first;
    if (first != 0) {
        tai_block *block = &pool->at[first];
        *bytes = block->requested * pool->class_bytes[c];
        passing->first = block->left;
        passing->batches--;
        block->left = 0;
        pool->passing_bytes -= *bytes;
    }
    return first;
}

/* Puts the next batch into the cache of a thread that has missed the class, if it may hold that much. Inside the
   gate. */
static int tai_passing_receive(ta_pool *pool, tai_slot *slot, uint32_t c)
{
    size_t bytes = pool->at[pool->passing[c].first].requested * pool->class_bytes[c];
    if (slot->cached_bytes > slot->bytes_max || bytes > slot->bytes_max - slot->cached_bytes) {
        return 0;
    }
    slot->heads[c] = tai_passing_take(pool, c, &bytes);
    TAI_BUMP64(slot->cached_bytes, bytes);
    return 1;
}

/* All batches go to the heap, one in each visit to the gate. Returns how many. Outside the gate. */
static TAI_COLD uint32_t tai_passing_flush(ta_pool *pool, tai_holder *me)
{
    uint32_t c = 1, index, next, count = 0;
    size_t ignored;
    while (c < pool->class_count) {
        tai_gate_enter(&pool->space.gate, me);
        while (c < pool->class_count && pool->passing[c].first == 0) {
            c++;
        }
        index = c < pool->class_count ? tai_passing_take(pool, c, &ignored) : 0;
        for (count += index != 0; index != 0; index = next) {
            next = pool->at[index].right;
            TENSORALLOC_STORE_RELAXED(&pool->at[index].state, (uint32_t)TAI_BUSY);
            tai_heap_put(&pool->space, index);
        }
        tai_gate_leave(&pool->space.gate, me);
    }
    return count;
}

/* The cache is full: hands up to a quarter of it, at most 32 blocks of class c, over to others, if one of them was the
   last to miss that class. Returns whether. Owner only, outside the gate. */
static TAI_NOINLINE int tai_passing_give(ta_pool *pool, tai_slot *slot, uint32_t c)
{
    tai_passing *passing = &pool->passing[c];
    uintptr_t missed_by = TENSORALLOC_LOAD_RELAXED(&passing->missed_by);
    uint32_t first = slot->heads[c], last = first, count = 1;
    size_t bytes = pool->class_bytes[c];
    int fits;
    if (missed_by == 0 || missed_by == (uintptr_t)slot || first == 0 || slot->quick == NULL ||
        pool->desc.cached_bytes_max != TA_UNLIMITED) {
        return 0;
    }
    while (count < TAI_FLUSH_COUNT && pool->at[last].right != 0 && bytes * (count + 1) <= slot->bytes_max / 4) {
        last = pool->at[last].right;
        count++;
    }
    bytes *= count;
    tai_gate_enter(&pool->space.gate, &slot->holder);
    fits = passing->batches < TAI_PASSING_BATCHES && pool->passing_bytes + bytes <= pool->desc.thread_cache_bytes / 2;
    if (fits) {
        slot->heads[c] = pool->at[last].right;
        pool->at[last].right = 0;
        pool->at[first].left = passing->first;
        TENSORALLOC_STORE_RELAXED(&pool->at[first].requested, (size_t)count);
        passing->first = first;
        passing->batches++;
        pool->passing_bytes += bytes;
        TAI_DROP64(slot->cached_bytes, bytes);
    } else {
        TENSORALLOC_STORE_RELAXED(&passing->missed_by, (uintptr_t)0);
    }
    tai_gate_leave(&pool->space.gate, &slot->holder);
    return fits;
}

#ifndef TENSORALLOC_NO_THREADS
/* Adds the counters of a slot that goes away. Inside the gate. */
static TAI_COLD void tai_slot_fold(ta_pool *pool, tai_slot *slot)
{
    pool->count.allocation_count += slot->count.allocation_count;
    pool->thread_hit_base += slot->count.allocation_count;
    pool->count.allocated_bytes += slot->count.allocated_bytes;
    pool->count.deallocation_count += slot->count.deallocation_count;
    pool->count.freed_bytes += slot->count.freed_bytes;
}

static TAI_COLD void tai_pool_unlink_slot(ta_pool *pool, const tai_slot *slot)
{
    tai_slot **link = &pool->slots;
    while (*link != slot) {
        link = &(*link)->pool_next;
    }
    *link = slot->pool_next;
    pool->space.object_bytes -= sizeof *slot;
}

/* The mutable globals of this file: the thread's slots, the thread key, the process they belong to. */
static tai_slot tai_no_slot; /* of no pool; never written */
#define TAI_NO_SLOTS_8 \
    &tai_no_slot, &tai_no_slot, &tai_no_slot, &tai_no_slot, &tai_no_slot, &tai_no_slot, &tai_no_slot, &tai_no_slot
#define TAI_NO_SLOTS {TAI_NO_SLOTS_8, TAI_NO_SLOTS_8, TAI_NO_SLOTS_8, TAI_NO_SLOTS_8}
#ifdef TAI_THREAD_INDEX
typedef struct tai_thread { tai_slot *slots[TAI_THREAD_SLOTS], *list; } tai_thread;
static tai_thread tai_no_thread = {TAI_NO_SLOTS, NULL}; /* of threads without one; stays empty */
static uint32_t tai_thread_index = TLS_OUT_OF_INDEXES;

static tai_thread *tai_thread_here(void)
{
    tai_thread *thread = (tai_thread *)TlsGetValue(TENSORALLOC_LOAD_RELAXED(&tai_thread_index));
    return thread != NULL ? thread : &tai_no_thread;
}

static TAI_COLD int tai_thread_make(void)
{
    tai_thread *thread = tai_thread_here();
    if (thread == &tai_no_thread) {
        thread = (tai_thread *)TENSORALLOC_MALLOC(sizeof *thread);
        if (thread == NULL || !TlsSetValue(tai_thread_index, thread)) {
            TENSORALLOC_FREE(thread);
            return 0;
        }
        *thread = tai_no_thread;
    }
    return 1;
}

static TAI_COLD void tai_thread_unmake(void)
{
    tai_thread *thread = tai_thread_here();
    if (thread != &tai_no_thread) {
        (void)TlsSetValue(tai_thread_index, NULL);
        TENSORALLOC_FREE(thread);
    }
}

static TAI_COLD int tai_thread_index_make(void)
{
    TENSORALLOC_STORE_RELAXED(&tai_thread_index, (uint32_t)TlsAlloc());
    return tai_thread_index != TLS_OUT_OF_INDEXES;
}

static TAI_COLD void tai_thread_index_delete(void)
{
    (void)TlsFree(tai_thread_index);
    TENSORALLOC_STORE_RELAXED(&tai_thread_index, (uint32_t)TLS_OUT_OF_INDEXES);
}
    #define tai_thread_slots (tai_thread_here()->slots) /* last used, by hint */
    #define tai_thread_list (tai_thread_here()->list)   /* all */
#else
static TENSORALLOC_THREAD_LOCAL tai_slot *tai_thread_slots[TAI_THREAD_SLOTS] = TAI_NO_SLOTS; /* last used, by hint */
static TENSORALLOC_THREAD_LOCAL tai_slot *tai_thread_list;                    /* all */
    #define tai_thread_make() 1
    #define tai_thread_unmake() ((void)0)
    #define tai_thread_index_make() 1
    #define tai_thread_index_delete() ((void)0)
#endif
static tai_key tai_thread_key;
static uint32_t tai_thread_key_state; /* 0 none, 1 being made, 2 ready, 3 not to be had */
static uint32_t tai_process;          /* id of this process as of the last fork we know of */

static TAI_COLD void tai_thread_forget_slots(const tai_slot *slot)
{
    uint32_t i;
    for (i = 0; i < TAI_THREAD_SLOTS; i++) {
        if (slot == NULL || tai_thread_slots[i] == slot) {
            tai_thread_slots[i] = &tai_no_slot;
        }
    }
}

/* A thread exits: what it holds goes back to the pools that still exist. */
static TAI_COLD void tai_thread_exit(tai_slot *list)
{
    while (list != NULL) {
        tai_slot *slot = list;
        uint32_t expected = TAI_SLOT_ATTACHED;
        list = slot->thread_next;
        if (TENSORALLOC_CAS32(&slot->state, &expected, (uint32_t)TAI_SLOT_LEAVING)) {
            ta_pool *pool = slot->pool;
            tai_gate_enter(&pool->space.gate, NULL);
            (void)tai_slot_flush(pool, slot, 0xffffffffu, 0);
            tai_gate_leave(&pool->space.gate, NULL);
            (void)tai_passing_flush(pool, NULL);
            if (pool->desc.cached_bytes_max != TA_UNLIMITED && tai_turn_take(&pool->space, NULL)) {
                (void)tai_space_trim(&pool->space, TAI_ALL_HEAPS, pool->desc.cached_bytes_max, NULL);
                tai_turn_end(&pool->space, NULL);
            }
            tai_gate_enter(&pool->space.gate, NULL); /* as nobody: no holder is favoured or remembered any more */
            tai_slot_fold(pool, slot);
            tai_pool_unlink_slot(pool, slot);
            tai_gate_leave(&pool->space.gate, NULL);
        } else { /* the pool is letting go of it at this moment, or has done so */
            while (TENSORALLOC_LOAD_ACQUIRE(&slot->state) != TAI_SLOT_DETACHED) {
                tai_yield();
            }
        }
        TENSORALLOC_FREE(slot);
    }
}

static void TAI_THREAD_EXIT_CALL tai_thread_key_exit(void *value)
{
    tai_slot *list = tai_thread_list;
    (void)value;
    if (tai_process_is_ending()) {
        return;
    }
    tai_thread_list = NULL;
    tai_thread_forget_slots(NULL);
    tai_thread_exit(list);
    tai_thread_unmake();
}

TENSORALLOC_DEF TAI_COLD void ta_after_fork_child(void)
{
    /* The thread's slots belong to pools of the parent: they are left alone, memory and all. */
    tai_thread_forget_slots(NULL);
    tai_thread_list = NULL;
    TENSORALLOC_STORE_RELAXED(&tai_process, tai_process_id());
    tai_give(&tai_tags_taken); /* another thread may have had it */
}

/* Makes the thread key and hooks fork, once. */
static void tai_process_init(void)
{
    uint32_t expected = 0;
    if (TENSORALLOC_LOAD_ACQUIRE(&tai_thread_key_state) >= 2) {
        return;
    }
    if (TENSORALLOC_CAS32(&tai_thread_key_state, &expected, 1u)) {
        int ok;
        TENSORALLOC_STORE_RELAXED(&tai_process, tai_process_id());
        ok = tai_thread_index_make() && tai_thread_key_make(&tai_thread_key, tai_thread_key_exit);
        tai_on_fork_child(ta_after_fork_child);
        TENSORALLOC_STORE_RELEASE(&tai_thread_key_state, ok ? 2u : 3u);
    }
    while (TENSORALLOC_LOAD_ACQUIRE(&tai_thread_key_state) == 1) {
        tai_yield();
    }
}

/* So that tai_thread_key_exit runs when this thread exits. 0: it will not. */
static TAI_COLD int tai_thread_watch(void)
{
    tai_process_init();
    if (TENSORALLOC_LOAD_ACQUIRE(&tai_thread_key_state) != 2 || !tai_thread_make()) {
        return 0;
    }
    return tai_thread_key_set(tai_thread_key, tai_thread_slots);
}

TENSORALLOC_DEF TAI_COLD void ta_process_detach(void)
{
    if (TENSORALLOC_LOAD_ACQUIRE(&tai_thread_key_state) == 2) {
        tai_slot *list = tai_thread_list;
        tai_thread_list = NULL;
        tai_thread_forget_slots(NULL);
        tai_thread_key_delete(tai_thread_key);
        tai_thread_unmake();
        tai_thread_index_delete();
        TENSORALLOC_STORE_RELEASE(&tai_thread_key_state, 0u);
        tai_thread_exit(list);
    }
    tai_tags_free();
}

/* Frees this thread's slots whose pools are gone. */
static TAI_COLD void tai_thread_sweep(void)
{
    tai_slot **link = &tai_thread_list;
    while (*link != NULL) {
        tai_slot *slot = *link;
        if (TENSORALLOC_LOAD_ACQUIRE(&slot->state) == TAI_SLOT_DETACHED) {
            tai_thread_forget_slots(slot);
            *link = slot->thread_next;
            TENSORALLOC_FREE(slot);
        } else {
            link = &slot->thread_next;
        }
    }
}

/* Streams have been retired since the slot was looked at: what it holds goes back, and its stream may be another one
   under an old number. 0 without memory. Owner only. */
static TAI_COLD int tai_slot_renew(ta_pool *pool, tai_slot *slot)
{
    int ok = 1;
    tai_gate_enter(&pool->space.gate, slot->me);
    (void)tai_slot_flush(pool, slot, 0xffffffffu, 0);
    slot->stream = tai_stream_index(&pool->space, slot->stream_id, &ok);
    if (ok) {
        slot->retired_seen = TENSORALLOC_LOAD_RELAXED(&pool->retired_count);
        tai_slot_shorten(pool, slot);
    }
    tai_gate_leave(&pool->space.gate, slot->me);
    return ok;
}

/* Where this thread looks first for its slot of a pool with order: by the name of the stream, by its index. Never where
   slots of pools without order lie. */
TAI_INLINE uint32_t tai_slot_place(const ta_pool *pool, ta_stream id)
{
    return (pool->slot_hint + 1 + (uint32_t)(id * 0xD6E8FEB86659FD93u >> 60)) % TAI_THREAD_SLOTS;
}

TAI_INLINE uint32_t tai_slot_place_of(const ta_pool *pool, uint32_t stream)
{
    return (pool->slot_hint + 16 + stream % 16) % TAI_THREAD_SLOTS;
}

static void tai_slot_remember(const ta_pool *pool, tai_slot *slot)
{
    if (pool->single_slot != NULL) {
        return;
    }
    if (pool->space.ordered) {
        tai_thread_slots[tai_slot_place(pool, slot->stream_id)] = slot;
        tai_thread_slots[tai_slot_place_of(pool, slot->stream)] = slot;
    } else {
        tai_thread_slots[pool->slot_hint] = slot;
    }
}

/* This thread's slot of the pool and stream: found in its list, or made. NULL without memory or thread key. */
static TAI_NOINLINE tai_slot *tai_slot_attach(ta_pool *pool, ta_stream id)
{
    tai_slot *slot, *spare = NULL; /* spare: of a stream that was retired */
    tai_holder *me = NULL;
    int ok = 1;
    uint32_t stream;
    for (slot = tai_thread_list; slot != NULL; slot = slot->thread_next) {
        if (TENSORALLOC_LOAD_RELAXED(&slot->pool) == pool) {
            me = slot->me;
            if (slot->stream_id == id) {
                break;
            }
            spare = slot->stream_id == TAI_STREAM_EVENTS ? slot : spare;
        }
    }
    slot = slot != NULL ? slot : spare;
    if (slot != NULL) {
        slot->retired_seen -= slot == spare; /* another stream than the one it was for */
        slot->stream_id = id;
        if (slot->retired_seen != TENSORALLOC_LOAD_RELAXED(&pool->retired_count) && !tai_slot_renew(pool, slot)) {
            return NULL;
        }
        tai_slot_remember(pool, slot);
        return slot;
    }
    tai_thread_sweep();
    if (!tai_thread_watch() || (slot = (tai_slot *)TENSORALLOC_MALLOC(sizeof *slot)) == NULL) {
        return NULL;
    }
    tai_gate_enter(&pool->space.gate, me);
    stream = tai_stream_index(&pool->space, id, &ok);
    if (ok) {
        tai_slot_reset(slot, pool, id, stream);
        slot->me = me != NULL ? me : slot->me;
        slot->pool_next = pool->slots;
        pool->slots = slot;
        pool->space.object_bytes += sizeof *slot;
    }
    tai_gate_leave(&pool->space.gate, me);
    if (!ok) {
        TENSORALLOC_FREE(slot);
        return NULL;
    }
    slot->thread_next = tai_thread_list;
    tai_thread_list = slot;
    tai_slot_remember(pool, slot);
    return slot;
}

/* This thread's slot if it was the last one used; else NULL. */
TAI_INLINE tai_slot *tai_slot_last(const ta_pool *pool)
{
    tai_slot *slot = pool->single_slot;
    if (slot == NULL) {
        slot = tai_thread_slots[pool->slot_hint];
        if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->pool) != pool)) {
            return NULL;
        }
    }
    return slot;
}

/* A slot that is this thread's of the pool if its quick is the pool. */
TAI_INLINE tai_slot *tai_slot_quick(ta_pool *pool)
{
    return tai_thread_slots[pool->slot_hint];
}

/* Where a look through all slots of this thread begins. */
static tai_slot *tai_slot_first(const ta_pool *pool)
{
    return pool->single_slot != NULL ? pool->single_slot : tai_thread_list;
}

/* With order: what may be this thread's slot for a stream, by its name and by its index. */
TAI_INLINE tai_slot *tai_slot_guess(const ta_pool *pool, ta_stream id)
{
    return tai_thread_slots[tai_slot_place(pool, id)];
}

TAI_INLINE tai_slot *tai_slot_guess_of(const ta_pool *pool, uint32_t stream)
{
    return tai_thread_slots[tai_slot_place_of(pool, stream)];
}

/* Lets go of all slots of threads. No other thread is in a call; some may be exiting. Outside the gate. */
static TAI_COLD void tai_pool_detach_slots(ta_pool *pool)
{
    for (;;) {
        tai_slot *slot;
        uint32_t expected = TAI_SLOT_ATTACHED;
        tai_gate_enter(&pool->space.gate, NULL);
        for (slot = pool->slots; slot != NULL && TENSORALLOC_LOAD_ACQUIRE(&slot->state) != TAI_SLOT_ATTACHED;) {
            slot = slot->pool_next;
        }
        if (slot == NULL) {
            int done = pool->slots == NULL;
            tai_gate_leave(&pool->space.gate, NULL);
            if (done) {
                return;
            }
            tai_yield(); /* a thread is leaving: it takes its slot out itself */
            continue;
        }
        if (TENSORALLOC_CAS32(&slot->state, &expected, (uint32_t)TAI_SLOT_LEAVING)) {
            (void)tai_slot_flush(pool, slot, 0xffffffffu, 0);
            tai_slot_fold(pool, slot);
            tai_pool_unlink_slot(pool, slot);
            TENSORALLOC_STORE_RELAXED(&slot->pool, (ta_pool *)NULL);
            TENSORALLOC_STORE_RELAXED(&slot->quick, (ta_pool *)NULL);
            TENSORALLOC_STORE_RELAXED(&slot->ordered, (ta_pool *)NULL);
            TENSORALLOC_STORE_RELEASE(&slot->state, (uint32_t)TAI_SLOT_DETACHED);
        }
        tai_gate_leave(&pool->space.gate, NULL);
    }
}

/* Forked: the pool belongs to the parent. */
static int tai_pool_forked(const ta_pool *pool)
{
    tai_process_init();
    return pool->process_id != 0 && pool->process_id != TENSORALLOC_LOAD_RELAXED(&tai_process);
}
#else
TENSORALLOC_DEF TAI_COLD void ta_after_fork_child(void)
{
}

TENSORALLOC_DEF TAI_COLD void ta_process_detach(void)
{
    tai_tags_free();
}

static tai_slot *tai_slot_attach(ta_pool *pool, ta_stream id)
{
    (void)pool;
    (void)id;
    return NULL;
}

TAI_INLINE tai_slot *tai_slot_last(const ta_pool *pool)
{
    return pool->single_slot;
}

TAI_INLINE tai_slot *tai_slot_quick(ta_pool *pool)
{
    return &pool->slot0;
}

static tai_slot *tai_slot_first(const ta_pool *pool)
{
    return pool->single_slot;
}

TAI_INLINE tai_slot *tai_slot_guess(const ta_pool *pool, ta_stream id)
{
    (void)id;
    return pool->single_slot;
}

TAI_INLINE tai_slot *tai_slot_guess_of(const ta_pool *pool, uint32_t stream)
{
    (void)stream;
    return pool->single_slot;
}

static void tai_slot_remember(const ta_pool *pool, tai_slot *slot)
{
    (void)pool;
    (void)slot;
}

static TAI_COLD void tai_pool_detach_slots(ta_pool *pool)
{
    (void)pool;
}

static int tai_pool_forked(const ta_pool *pool)
{
    (void)pool;
    return 0;
}
#endif

/* A slot's place at the gate; NULL without a slot. */
TAI_INLINE tai_holder *tai_slot_me(const tai_slot *slot)
{
    return slot != NULL ? slot->me : NULL;
}

/* With order: this thread's slot for a stream, by its name or its index; NULL if it has none. */
static TAI_NOINLINE tai_slot *tai_slot_search(const ta_pool *pool, int by_id, ta_stream id, uint32_t stream)
{
    uint32_t retired = TENSORALLOC_LOAD_RELAXED(&pool->retired_count);
    tai_slot *slot = tai_slot_first(pool);
    for (; slot != NULL; slot = pool->single_slot != NULL ? NULL : slot->thread_next) {
        if (TENSORALLOC_LOAD_RELAXED(&slot->pool) == pool && slot->retired_seen == retired &&
            (by_id ? slot->stream_id == id : slot->stream == stream)) {
            tai_slot_remember(pool, slot);
            break;
        }
    }
    return slot;
}

/* With order: some slot that this thread has of the pool; NULL if it has none. */
static tai_slot *tai_slot_any(const ta_pool *pool)
{
    tai_slot *slot = tai_slot_first(pool);
    while (slot != NULL && TENSORALLOC_LOAD_RELAXED(&slot->pool) != pool) {
        slot = slot->thread_next;
    }
    return slot;
}

/* Empties the caches that this thread has of the pool, for whatever stream. Returns how many blocks. Outside the
   gate. */
static TAI_COLD uint32_t tai_pool_flush_thread(ta_pool *pool)
{
    tai_slot *slot = tai_slot_last(pool);
    uint32_t flushed = tai_passing_flush(pool, tai_slot_me(slot));
    slot = tai_slot_first(pool);
    for (; slot != NULL; slot = pool->single_slot != NULL ? NULL : slot->thread_next) {
        if (TENSORALLOC_LOAD_RELAXED(&slot->pool) == pool && slot->cached_bytes != 0) {
            tai_gate_enter(&pool->space.gate, slot->me);
            flushed += tai_slot_flush(pool, slot, 0xffffffffu, 0);
            tai_gate_leave(&pool->space.gate, slot->me);
        }
    }
    return flushed;
}

/* This thread's slot for a stream; NULL if there can be none (the call goes on without). */
static tai_slot *tai_slot_for(ta_pool *pool, ta_stream id)
{
    tai_slot *slot;
    if (pool->single_slot != NULL) {
        return pool->single_slot;
    }
    slot = pool->space.ordered ? tai_slot_guess(pool, id) : tai_slot_last(pool);
    return slot != NULL && TENSORALLOC_LOAD_RELAXED(&slot->pool) == pool && slot->stream_id == id &&
                   slot->retired_seen == TENSORALLOC_LOAD_RELAXED(&pool->retired_count)
               ? slot : tai_slot_attach(pool, id);
}

/* This thread uses a stream no more: its slot is free for another one. */
static TAI_COLD void tai_slot_retire(ta_pool *pool, ta_stream id)
{
    tai_slot *slot = tai_slot_first(pool);
    for (; slot != NULL && pool->single_slot == NULL; slot = slot->thread_next) {
        if (TENSORALLOC_LOAD_RELAXED(&slot->pool) == pool && slot->stream_id == id) {
            slot->stream_id = TAI_STREAM_EVENTS;
        }
    }
}

/*---------------------------------------------------------------------------------------------------------
  [TA:POOL-IMPL] the pool: fast paths, the ladder, free, resize, walks, life.
  Uses: SLOTS.

  The life of a block:  heap --take--> busy --publish--> live --free--> cached (thread cache) --alloc--> live ...
                                                             '--free--> heap (large, over-aligned, resized, observed)
                                                             '--free, used by other streams--> pending --done--> heap
  A hit in a thread cache takes no lock and no atomic read-modify-write. Everything else goes through the gate.
  Invariants: class_index != 0 only for blocks whose capacity is that class's; such blocks alone enter thread caches.
  -------------------------------------------------------------------------------------------------------*/
static TAI_NOINLINE void tai_pool_put_record(ta_pool *pool, ta_event_kind kind, const tai_block *block, int hit)
{
    uint64_t alignment = (uint64_t)block->place.flags >> TAI_FLAG_ALIGNMENT_SHIFT;
    tai_trace_put(pool->desc.trace, tai_trace_about(kind, TA_OK, hit, pool->trace_source) | alignment << 16,
                  (void *)block->addr, block->requested, block->size, pool->space.streams[block->place.stream].id,
                  block->tag);
}

/* A free is recorded before anybody else can have the block, an allocation after: both by who does it. */
TAI_INLINE void tai_pool_record(ta_pool *pool, ta_event_kind kind, const tai_block *block, int hit)
{
    if (TAI_UNLIKELY(pool->desc.trace != NULL)) {
        tai_pool_put_record(pool, kind, block, hit);
    }
}

static void tai_pool_event(ta_pool *pool, ta_event_kind kind, ta_result result, void *ptr, size_t size,
                           size_t capacity, ta_stream stream, const char *tag, int hit)
{
    ta_event event;
    if (pool->desc.trace != NULL && kind != TA_EVENT_ALLOC && kind != TA_EVENT_FREE && kind != TA_EVENT_RESIZE) {
        tai_trace_put(pool->desc.trace, tai_trace_about(kind, result, 0, pool->trace_source), ptr, size, capacity,
                      stream, tag);
    }
    if (pool->desc.on_event == NULL) {
        return;
    }
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.result = result;
    event.ptr = ptr;
    event.size_bytes = size;
    event.capacity_bytes = capacity;
    event.stream = stream;
    event.tag = tag;
    event.name = pool->name;
    event.time_ns = TENSORALLOC_CLOCK_NS();
    event.hit = hit;
    pool->desc.on_event(pool->desc.on_event_user, &event);
}

/* The memory of a graph pool beside the pool, if a pointer that is not the pool's own lies there. To be let go. */
TAI_INLINE ta_pool *tai_pool_beside(ta_pool *pool, const void *ptr, ta_result result)
{
    return TAI_GRAPHS && result == TA_ERROR_FOREIGN && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL
               ? pool->hooks->find(pool, ptr) : NULL;
}

/* Lets go of what graphs that are gone used. Outside the gate. */
TAI_INLINE size_t tai_pool_collect(ta_pool *pool)
{
    return TAI_GRAPHS && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL ? pool->hooks->collect(pool) : 0;
}

#ifdef TENSORALLOC_CHECKED
/* Tells of misuse in which no block of the pool is known. Returns why. */
static TAI_COLD ta_result tai_pool_told(const ta_pool *pool, ta_result why)
{
    return tai_misuse(pool->name, pool->desc.on_event, pool->desc.on_event_user, why, NULL, 0, NULL);
}
#else
    #define tai_pool_told(pool, why) (why)
#endif

/* What every call but the fast paths asks first. */
static ta_result tai_pool_usable(const ta_pool *pool)
{
    if (pool == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (pool->disposed) {
        return tai_pool_told(pool, TA_ERROR_DISPOSED);
    }
    return tai_pool_forked(pool) ? TA_ERROR_FORKED : TA_OK;
}

/* Bytes that all thread caches hold. Inside the gate. */
static size_t tai_pool_thread_cached(const ta_pool *pool)
{
    const tai_slot *slot;
    size_t bytes = pool->slot0.cached_bytes + pool->passing_bytes + tai_guard_held(pool);
    for (slot = pool->slots; slot != NULL; slot = slot->pool_next) {
        bytes += TENSORALLOC_LOAD_RELAXED(&slot->cached_bytes);
    }
    return bytes;
}

/* ---- checked builds */
#ifdef TENSORALLOC_CHECKED
/* Tells of misuse of the block at ptr, if why is that. Returns why. Outside the gate. */
static TAI_COLD ta_result tai_pool_blame(const ta_pool *pool, ta_result why, const void *ptr, size_t size,
                                         const char *tag)
{
    return tai_misuse(pool->name, pool->desc.on_event, pool->desc.on_event_user, why, ptr, size, tag);
}

/* Damage that is found when it is too late for an answer: told, and kept for check, dispose and destroy. */
static TAI_COLD void tai_guard_found(ta_pool *pool, ta_result why, const tai_block *block)
{
    pool->guard.found = why;
    (void)tai_pool_blame(pool, why, (const void *)block->addr, block->requested, block->tag);
}

/* Whether bytes around a live block were written. Inside the gate. */
static ta_result tai_guard_test(const ta_pool *pool, uint32_t index)
{
    const tai_block *at = pool->space.blocks.at, *block = &at[index], *prev = &at[block->prev];
    if (pool->guard.on != 1) {
        return TA_OK;
    }
    if (!tai_red_is_whole(block->addr, block->requested, block->size)) {
        return TA_ERROR_OVERRUN;
    }
    if (block->prev != 0 && (prev->state == TAI_LIVE || prev->state == TAI_CACHED) &&
        (prev->state == TAI_LIVE || prev->size <= TAI_DEAD_BYTES) &&
        tai_red_is_underrun(block->addr, prev->state == TAI_LIVE ? prev->size - prev->requested : prev->size,
                            prev->state == TAI_LIVE ? TAI_RED : TAI_DEAD)) {
        return TA_ERROR_UNDERRUN;
    }
    return TA_OK;
}

/* As test, for the block that is to be freed or resized; what was done to it is told. Outside the gate. */
static ta_result tai_guard_look(ta_pool *pool, const void *ptr)
{
    tai_block was;
    ta_result result;
    uint32_t index;
    memset(&was, 0, sizeof was);
    tai_gate_enter(&pool->space.gate, NULL);
    index = tai_space_find(&pool->space, (uintptr_t)ptr);
    result = index != 0 && TENSORALLOC_LOAD_RELAXED(&pool->space.blocks.at[index].state) == TAI_LIVE
                 ? tai_guard_test(pool, index) : TA_OK;
    was = pool->space.blocks.at[index];
    tai_gate_leave(&pool->space.gate, NULL);
    return tai_pool_blame(pool, result, ptr, was.requested, was.tag);
}

/* A busy block becomes live with a red zone behind it. */
static void tai_guard_paint(const ta_pool *pool, uint32_t index, size_t requested)
{
    if (pool->guard.on == 1) {
        tai_red_paint(pool->space.blocks.at[index].addr, requested, pool->space.blocks.at[index].size);
    }
}

/* Fills a freed block on the device, but never as a part of a graph. */
static TAI_COLD ta_result tai_guard_zero(ta_pool *pool, const tai_block *block, ta_stream stream)
{
    const ta_backend *backend = &pool->space.backend;
    uint64_t capture = 0;
    ta_result result = backend->vtable->capture == NULL
                           ? TA_OK : backend->vtable->capture(backend->self, stream, &capture);
    if (result == TA_OK && capture != 0) {
        return TA_ERROR_CAPTURE;
    }
    return result != TA_OK ? result
                           : tai_backend_zero(*backend, (void *)block->addr, tai_dead_bytes(block->size), stream);
}

/* Whether memory that was set to zero on the device still reads so. What cannot be read counts as whole. */
static TAI_COLD int tai_guard_read_back(ta_pool *pool, const tai_block *block, ta_stream stream)
{
    const ta_backend *backend = &pool->space.backend;
    size_t done, part = 65536, bytes = tai_dead_bytes(block->size);
    uint64_t ticket = 0;
    int whole = 1, ordered = pool->space.ordered;
    char *copy = (char *)TENSORALLOC_MALLOC(part);
    for (done = 0; copy != NULL && whole && done < bytes; done += part) {
        part = bytes - done < part ? bytes - done : part;
        memset(copy, 0, part);
        if (tai_backend_copy(*backend, copy, (const void *)(block->addr + done), part, stream) != TA_OK ||
            (ordered && backend->vtable->mark(backend->self, stream, &ticket) != TA_OK)) {
            break;
        }
        if (ordered) {
            whole = backend->vtable->sync(backend->self, ticket) != TA_OK || tai_is_filled((uintptr_t)copy, part, 0);
            tai_space_drop(&pool->space, ticket);
        } else {
            whole = tai_is_filled((uintptr_t)copy, part, 0);
        }
    }
    TENSORALLOC_FREE(copy);
    return whole;
}

/* Freed blocks go on to the heap, the oldest first, until at most keep bytes are held back. What was written into them
   meanwhile is told. Returns how many went. Outside the gate. */
static TAI_COLD size_t tai_guard_release(ta_pool *pool, size_t keep)
{
    tai_guard *guard = &pool->guard;
    tai_space *space = &pool->space;
    size_t count = 0;
    for (;;) {
        tai_block *block;
        uint32_t index;
        ta_stream stream;
        int whole;
        tai_gate_enter(&space->gate, NULL);
        index = guard->first;
        block = &space->blocks.at[index];
        if (index == 0 || guard->bytes <= keep || (keep != 0 && index == guard->last)) {
            tai_gate_leave(&space->gate, NULL);
            return count;
        }
        guard->first = block->right;
        guard->last = guard->first == 0 ? 0 : guard->last;
        guard->bytes -= block->size;
        stream = space->streams[block->place.stream].id;
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
        tai_gate_leave(&space->gate, NULL);
        whole = guard->on == 1 ? tai_is_filled(block->addr, tai_dead_bytes(block->size), TAI_DEAD)
                               : tai_guard_read_back(pool, block, stream);
        if (!whole) {
            tai_guard_found(pool, TA_ERROR_USE_AFTER_FREE, block);
        }
        tai_gate_enter(&space->gate, NULL);
        tai_heap_put(space, index);
        tai_gate_leave(&space->gate, NULL);
        count++;
    }
}

/* A busy block was freed: it is held back. Inside the gate: 0 if this pool does not do that. */
static int tai_guard_take(ta_pool *pool, uint32_t index)
{
    tai_block *block = &pool->space.blocks.at[index];
    if (pool->guard.on == 0) {
        return 0;
    }
    TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
    pool->count.deallocation_count++;
    pool->count.freed_bytes += block->requested;
    return 1;
}

/* The rest of it, outside the gate. */
static void tai_guard_hold(ta_pool *pool, uint32_t index)
{
    tai_guard *guard = &pool->guard;
    tai_block *block = &pool->space.blocks.at[index];
    ta_result filled = TA_OK;
    if (guard->on == 0) {
        return;
    }
    if (guard->on == 1) {
        memset((void *)block->addr, TAI_DEAD, tai_dead_bytes(block->size));
    } else {
        filled = tai_guard_zero(pool, block, pool->space.streams[block->place.stream].id);
    }
    tai_gate_enter(&pool->space.gate, NULL);
    if (filled == TA_OK) {
        block->right = block->left = 0;
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_CACHED);
        if (guard->last != 0) {
            pool->space.blocks.at[guard->last].right = index;
        } else {
            guard->first = index;
        }
        guard->last = index;
        guard->bytes += block->size;
    } else {
        tai_heap_put(&pool->space, index);
    }
    tai_gate_leave(&pool->space.gate, NULL);
    (void)tai_guard_release(pool, TAI_HELD_BYTES);
}

/* Looks at every block, and holds none back any more; leaks != 0: those that are live are told of, too. Returns the
   worst. Outside the gate. */
static TAI_COLD ta_result tai_guard_check(ta_pool *pool, int leaks)
{
    uint32_t index;
    ta_result result = TA_OK;
    int told = 0;
    (void)tai_guard_release(pool, 0);
    for (index = 1; index < pool->space.blocks.end; index++) {
        tai_block was;
        ta_result one = TA_OK;
        tai_gate_enter(&pool->space.gate, NULL);
        was = pool->space.blocks.at[index];
        if (was.state == TAI_LIVE) {
            one = tai_guard_test(pool, index);
            one = one == TA_OK && leaks ? TA_ERROR_LEAK : one;
        }
        tai_gate_leave(&pool->space.gate, NULL);
        if (one != TA_OK && (one != TA_ERROR_LEAK || ++told <= TAI_REPORTS_MAX)) {
            (void)tai_pool_blame(pool, one, (const void *)was.addr, was.requested, was.tag);
        }
        result = one != TA_OK && (result == TA_OK || result == TA_ERROR_LEAK) ? one : result;
    }
    return pool->guard.found != TA_OK ? pool->guard.found : result;
}

static TAI_COLD int tai_guard_is_on(const ta_pool *pool)
{
    return pool->guard.on != 0;
}

/* The pool is destroyed: nobody is told of events any more. */
static TAI_COLD void tai_guard_mark_gone(ta_pool *pool)
{
    pool->disposed = 2;
    pool->desc.on_event = NULL;
}

/* As check, before the pool goes. */
static TAI_COLD ta_result tai_guard_close(ta_pool *pool, int leaks)
{
    if (pool->disposed || pool->guard.closed || tai_pool_forked(pool)) {
        return TA_OK;
    }
    pool->guard.closed = 1;
    return tai_guard_check(pool, leaks);
}
#else
    #define tai_pool_blame(pool, why, ptr, size, tag) (why)
    #define tai_guard_look(pool, ptr) TA_OK
    #define tai_guard_paint(pool, index, requested) ((void)0)
    #define tai_guard_release(pool, keep) 0u
    #define tai_guard_take(pool, index) 0
    #define tai_guard_hold(pool, index) ((void)0)
    #define tai_guard_check(pool, leaks) TA_OK
    #define tai_guard_close(pool, leaks) TA_OK
    #define tai_guard_is_on(pool) 0
    #define tai_guard_mark_gone(pool) ((void)0)
#endif

/* ---- checks */
/* Depth-first over one bin; counts blocks and finds order or place wrong. Depth is that of a treap: small. */
/* Priorities fall on every way down, so broken links end it, too. */
static TAI_COLD int tai_check_tree(const tai_space *space, uint32_t tree, uint32_t bin, uint32_t stream, int heap,
                                   uint32_t *count)
{
    const tai_block *at = space->blocks.at, *block = &at[tree];
    uint32_t end = space->blocks.end;
    if (tree == 0) {
        return 1;
    }
    if (tree >= end || block->state != TAI_FREE || block->place.stream != stream || block->requested != bin ||
        tai_bin_of(block->size) != bin || block->place.heap != (uint32_t)heap) {
        return 0;
    }
    if (block->left != 0 && (block->left >= end || !tai_block_before(&at[block->left], block) ||
                             tai_priority(block->left) > tai_priority(tree))) {
        return 0;
    }
    if (block->right != 0 && (block->right >= end || !tai_block_before(block, &at[block->right]) ||
                              tai_priority(block->right) > tai_priority(tree))) {
        return 0;
    }
    ++*count;
    return tai_check_tree(space, block->left, bin, stream, heap, count) &&
           tai_check_tree(space, block->right, bin, stream, heap, count);
}

static TAI_COLD int tai_check_bins(const tai_space *space, uint32_t *count)
{
    uint32_t s, bin;
    int heap;
    for (s = 0; s < space->stream_count; s++) {
        for (heap = space->undivided ? TAI_LARGE : TAI_TINY; heap <= TAI_LARGE; heap++) {
            const tai_bins *bins = space->bins[TAI_HEAPS * s + (uint32_t)heap];
            for (bin = 0; bin < TAI_BINS; bin++) {
                int filled = bins->roots[bin] != 0;
                if ((int)(bins->words[bin >> 6] >> (bin & 63) & 1) != filled ||
                    (int)(bins->summary >> (bin >> 6) & 1) != (bins->words[bin >> 6] != 0) ||
                    !tai_check_tree(space, bins->roots[bin], bin, s, heap, count)) {
                    return 0;
                }
            }
        }
    }
    return 1;
}

typedef struct tai_check {
    size_t used, cached, pending, requested, committed;
    uint32_t free_count, live_count;
} tai_check;

static TAI_COLD int tai_check_region(const ta_pool *pool, uint32_t region_index, tai_check *sum)
{
    const tai_space *space = &pool->space;
    const tai_region *region = space->regions[region_index];
    uintptr_t addr = region->base;
    uint32_t index, prev = 0;
    for (index = region->first; index != 0; prev = index, index = space->blocks.at[index].next) {
        const tai_block *block = &space->blocks.at[index];
        if (block->addr != addr || block->prev != prev || block->place.region != region_index || block->size == 0 ||
            block->size % space->granule != 0) {
            return 0;
        }
        addr += block->size;
        if (block->state == TAI_FREE) {
            sum->free_count++;
            if (prev != 0 && space->blocks.at[prev].state == TAI_FREE &&
                space->blocks.at[prev].place.stream == block->place.stream) {
                return 0;
            }
            if ((block->place.flags & TAI_FLAG_HOLES) == 0 && tai_holes_any(space, region, block->addr, addr)) {
                return 0;
            }
        } else if (block->state == TAI_PENDING) {
            sum->pending += block->size;
        } else if (block->state == TAI_LIVE || block->state == TAI_CACHED) {
            sum->used += block->size;
            if (tai_region_find(space, region, block->addr) != index ||
                tai_holes_any(space, region, block->addr, addr)) {
                return 0;
            }
            if (block->place.class_index != 0 && block->size != pool->class_bytes[block->place.class_index]) {
                return 0;
            }
            if (block->state == TAI_CACHED) {
                sum->cached += block->size;
            } else {
                sum->requested += block->requested;
                sum->live_count++;
                if (block->requested == 0 || block->requested > block->size) {
                    return 0;
                }
            }
        } else {
            return 0;
        }
    }
    sum->committed += (size_t)(region->commit_end - region->base) - region->hole_bytes;
    return prev == region->last && addr == region->top && region->top <= region->commit_end &&
           (size_t)(region->commit_end - region->base) <= region->size;
}

/* Sums the counters of all threads. Inside the gate. */
static TAI_COLD tai_counters tai_pool_count(const ta_pool *pool)
{
    tai_counters sum = pool->count;
    const tai_slot *slot = &pool->slot0;
    const tai_slot *next = pool->slots;
    for (;;) {
        sum.allocation_count += TENSORALLOC_LOAD_RELAXED(&slot->count.allocation_count);
        sum.allocated_bytes += TENSORALLOC_LOAD_RELAXED(&slot->count.allocated_bytes);
        sum.deallocation_count += TENSORALLOC_LOAD_RELAXED(&slot->count.deallocation_count);
        sum.freed_bytes += TENSORALLOC_LOAD_RELAXED(&slot->count.freed_bytes);
        if (next == NULL) {
            return sum;
        }
        slot = next;
        next = next->pool_next;
    }
}

/* Every invariant of a pool in which no other thread is. Inside the gate. */
static TAI_COLD int tai_pool_sound(const ta_pool *pool)
{
    tai_check sum;
    tai_counters count = tai_pool_count(pool);
    uint32_t region, in_bins = 0;
    memset(&sum, 0, sizeof sum);
    for (region = 0; region < pool->space.region_count; region++) {
        if (pool->space.regions[region]->is_live && !tai_check_region(pool, region, &sum)) {
            return 0;
        }
    }
    return tai_check_bins(&pool->space, &in_bins) && in_bins == sum.free_count &&
           sum.used == tai_space_used(&pool->space) && sum.pending == pool->space.pending_bytes &&
           sum.committed == pool->space.reserved && sum.cached == tai_pool_thread_cached(pool) &&
           count.allocation_count - count.deallocation_count == sum.live_count &&
           count.allocated_bytes - count.freed_bytes == (uint64_t)sum.requested;
}

/* TENSORALLOC_DEBUG 3: after each call that goes to the heap. Outside the gate. */
static void tai_pool_debug(ta_pool *pool)
{
    if (TAI_FULL_CHECK && pool->single_slot != NULL) {
        TAI_ASSERT(tai_pool_sound(pool));
    }
    (void)pool;
}

/* ---- allocation */
/* How a request is served. */
typedef struct tai_plan {
    size_t size;      /* capacity to take */
    size_t alignment;
    int heap;
    uint32_t class_index; /* 0: not from thread caches */
    uint32_t flags;
} tai_plan;

static ta_result tai_pool_plan(const ta_pool *pool, const ta_request *request, tai_plan *plan)
{
    const tai_space *space = &pool->space;
    size_t size = request->size_bytes, alignment = request->alignment_bytes;
    if (size == 0) {
        return TAI_BAD(TA_ERROR_INVALID_SIZE);
    }
    if (alignment == 0) {
        alignment = space->granule;
    }
    if (!tai_is_power_of_two(alignment) || alignment > TAI_ALIGNMENT_MAX) {
        return TAI_BAD(TA_ERROR_INVALID_ALIGNMENT);
    }
    if (size > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return TA_ERROR_OVERFLOW;
    }
    if (request->reserved != 0 ||
        (request->flags & ~(uint32_t)(TA_REQUEST_ZEROED | TA_REQUEST_CACHED_ONLY | TA_REQUEST_WITHIN_BUDGET)) != 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    plan->alignment = alignment < space->granule ? space->granule : alignment;
    plan->flags = request->flags | (pool->desc.zeroed ? (uint32_t)TA_REQUEST_ZEROED : 0u);
    plan->class_index = 0;
    plan->heap = TAI_LARGE;
    size = tai_guard_padded(&pool->guard, size);
    plan->size = tai_round_up(size, space->granule);
    if (size <= pool->desc.thread_cache_block_bytes) {
        plan->heap = tai_space_heap_of(space, size);
        if (size <= pool->cacheable_bytes && plan->alignment == space->granule) {
            plan->class_index = pool->class_of[(size - 1) / 64];
            plan->size = pool->class_bytes[plan->class_index];
        }
    }
    if (plan->size < space->heaps[plan->heap].block_bytes_min) {
        plan->size = space->heaps[plan->heap].block_bytes_min;
    }
    return TA_OK;
}

/* Makes a busy block live. Inside the gate. */
TAI_INLINE void tai_pool_make_live(ta_pool *pool, uint32_t index, size_t requested, const char *tag,
                                   uint32_t class_index, size_t alignment, uint32_t stream)
{
    tai_block *block = &pool->space.blocks.at[index];
    block->requested = requested;
    block->tag = tag;
    block->left = 0;
    block->right = 0;
    block->place.class_index = (uint8_t)class_index;
    block->place.stream = (uint16_t)stream;
    block->place.flags =
        (uint8_t)(alignment > pool->space.granule ? tai_high_bit((uint64_t)alignment) << TAI_FLAG_ALIGNMENT_SHIFT
                                                  : 0);
    tai_heap_publish(&pool->space, index);
    TAI_SHOW(&pool->space, block->addr, block->size);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
}

/* On a miss of the cache: a few more blocks of the class for it, so that the gate is entered less often. */
static void tai_pool_refill(ta_pool *pool, tai_slot *slot, const tai_plan *plan)
{
    size_t want = TAI_REFILL_BYTES / plan->size;
    ta_result ignored;
    want = want > 16 ? 16 : want;
    while (want-- > 0 && slot->room[plan->class_index] > 1 && plan->size <= slot->bytes_max - slot->cached_bytes) {
        uint32_t index = tai_heap_take(&pool->space, plan->heap, plan->size, plan->alignment, slot->stream, &ignored);
        if (index == 0) {
            return;
        }
        if (pool->space.blocks.at[index].place.flags != 0 || pool->space.blocks.at[index].size != plan->size) {
            tai_heap_put(&pool->space, index);
            return;
        }
        tai_pool_make_live(pool, index, 0, NULL, plan->class_index, 0, slot->stream);
        TAI_HIDE(&pool->space, pool->space.blocks.at[index].addr, plan->size);
        TENSORALLOC_STORE_RELAXED(&pool->space.blocks.at[index].state, (uint32_t)TAI_CACHED);
        tai_slot_push(pool, slot, index);
    }
}

/* A run of neighbours; bytes: of it that can be used once it is free. */
typedef struct tai_run {
    uint32_t first, last;
    size_t bytes, blocked, count;
} tai_run;

/* Adds a block to the run, or takes it out of it. Trimmed pages are nothing to have under a limit, and their
   neighbours not much. */
static TAI_COLD void tai_run_count(tai_run *run, const tai_space *space, uint32_t index, int add)
{
    const tai_block *block = &space->blocks.at[index];
    const tai_region *region = space->regions[block->place.region];
    uint32_t state = TENSORALLOC_LOAD_RELAXED(&block->state);
    size_t bytes = block->size, holes = 0;
    if (state == TAI_FREE && (block->place.flags & TAI_FLAG_HOLES) != 0 && space->info.range_bytes_max == 0) {
        holes = tai_holes_bytes(space, region, block->addr, block->addr + block->size);
        holes += holes != 0 ? 2 * space->granularity : 0;
    }
    bytes = bytes > holes ? bytes - holes : 0;
    if (index == region->last) {
        bytes += (size_t)((space->info.range_bytes_max != 0 ? region->base + region->size : region->commit_end) -
                          region->top);
    }
    run->bytes = add ? run->bytes + bytes : run->bytes - bytes;
    if (state == TAI_LIVE) {
        run->blocked = add ? run->blocked + block->size : run->blocked - block->size;
        run->count = add ? run->count + 1 : run->count - 1;
    }
}

/* The run of which need bytes can be used once its live blocks are free, with as few bytes to free as possible. What
   threads cache is in no run. Inside the gate. O(blocks). */
static TAI_COLD void tai_region_find_run(const tai_space *space, const tai_region *region, size_t need, tai_run *best)
{
    const tai_block *at = space->blocks.at;
    tai_run run;
    memset(&run, 0, sizeof run);
    run.first = region->first;
    for (run.last = region->first; run.last != 0; run.last = at[run.last].next) {
        tai_run less;
        uint32_t state = TENSORALLOC_LOAD_RELAXED(&at[run.last].state);
        if (state == TAI_CACHED || state == TAI_BUSY) {
            run.bytes = run.blocked = run.count = 0;
            run.first = at[run.last].next;
            continue;
        }
        tai_run_count(&run, space, run.last, 1);
        while (run.bytes >= need) {
            if (run.blocked != 0 && (best->first == 0 || run.blocked < best->blocked)) {
                *best = run;
            }
            less = run;
            tai_run_count(&less, space, run.first, 0);
            if (run.first == run.last || less.bytes < need) {
                break;
            }
            less.first = at[run.first].next;
            run = less;
        }
    }
}

/* What is in the way, by tag. 0: no place would be large enough. Inside the gate. */
static TAI_COLD int tai_pool_find_blocking(const ta_pool *pool, const tai_plan *plan, ta_failure *out)
{
    enum { TAGS = 16 }; /* others do not count */
    const tai_space *space = &pool->space;
    const tai_block *at = space->blocks.at;
    const char *tags[TAGS];
    size_t bytes[TAGS], need = plan->size + (plan->alignment > space->granule ? plan->alignment : 0);
    uint32_t r, index, tag, count = 0;
    tai_run best;
    memset(&best, 0, sizeof best);
    for (r = 0; r < space->region_count; r++) {
        if (space->regions[r]->is_live && space->regions[r]->heap == (uint32_t)plan->heap) {
            tai_region_find_run(space, space->regions[r], need, &best);
        }
    }
    if (best.first == 0) {
        return 0;
    }
    out->blocking_ptr = (void *)at[best.first].addr;
    out->blocking_span_bytes = (size_t)(at[best.last].addr + at[best.last].size - at[best.first].addr);
    out->blocking_bytes = best.blocked;
    out->blocking_count = best.count;
    for (index = best.first;; index = at[index].next) {
        if (TENSORALLOC_LOAD_RELAXED(&at[index].state) == TAI_LIVE) {
            const char *of = TENSORALLOC_LOAD_RELAXED(&at[index].tag);
            for (tag = 0; tag < count && tags[tag] != of; tag++) {
            }
            if (tag == count && count < TAGS) {
                tags[count] = of;
                bytes[count++] = 0;
            }
            if (tag < count) {
                bytes[tag] += at[index].size;
                if (bytes[tag] > out->blocking_tag_bytes) {
                    out->blocking_tag_bytes = bytes[tag];
                    out->blocking_tag = of;
                }
            }
        }
        if (index == best.last) {
            return 1;
        }
    }
}

/* Freed blocks that graphs use. Inside the gate. */
static TAI_COLD size_t tai_space_graph_bytes(const tai_space *space)
{
    const tai_use *at = (const tai_use *)(const void *)space->uses.base;
    size_t bytes = 0;
    uint32_t s, use;
    for (s = 1; TAI_GRAPHS && s < space->stream_count; s++) {
        use = space->streams[s].id == TAI_STREAM_GRAPHS ? space->streams[s].pending_first : 0;
        for (; use != 0; use = at[use].next) {
            bytes += space->blocks.at[at[use].block].size;
        }
    }
    return bytes < space->pending_bytes ? bytes : space->pending_bytes; /* several graphs may use one block */
}

/* Memory was missing: where it is. The ladder has been climbed, or was not to be. Outside the gate. */
static TAI_COLD ta_verdict tai_pool_judge_memory(ta_pool *pool, const tai_plan *plan, tai_holder *me, ta_failure *out)
{
    tai_space *space = &pool->space;
    size_t need = tai_round_up(plan->size + (plan->alignment > space->granule ? plan->alignment : 0),
                               space->granularity);
    int asked = (plan->flags & TA_REQUEST_WITHIN_BUDGET) == 0, bounded = space->info.range_bytes_max != 0;
    size_t held;
    ta_verdict verdict;
    tai_budget_explain(space->budget, &pool->member, need, asked, out);
    if (TAI_GRAPHS && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        out->graph_bytes = pool->hooks->reserved(pool);
    }
    if (asked) {
        (void)tai_pool_flush_thread(pool); /* what is in the caches now is others' */
    }
    tai_gate_enter(&space->gate, me);
    out->thread_cached_bytes = tai_pool_thread_cached(pool);
    held = tai_space_graph_bytes(space);
    held = held < out->pending_bytes ? held : out->pending_bytes;
    out->graph_bytes += held;
    if (out->pending_bytes - held >= out->action_bytes) {
        verdict = TA_VERDICT_WAITING;
    } else if (!asked && !bounded && out->free_bytes >= out->action_bytes) {
        verdict = TA_VERDICT_OWN_CACHE;
    } else if (out->sibling_cached_bytes >= out->action_bytes) {
        verdict = TA_VERDICT_SIBLINGS;
    } else if (out->thread_cached_bytes >= out->action_bytes) {
        verdict = TA_VERDICT_THREAD_CACHES;
    } else if ((out->result == TA_ERROR_FRAGMENTED || (!bounded && out->free_bytes >= out->action_bytes)) &&
               tai_pool_find_blocking(pool, plan, out)) {
        verdict = TA_VERDICT_FRAGMENTED;
        out->action_bytes = out->blocking_bytes;
    } else if (out->graph_bytes >= out->action_bytes) {
        verdict = TA_VERDICT_GRAPHS;
    } else {
        verdict = tai_budget_verdict(space->budget, need, out);
    }
    tai_gate_leave(&space->gate, me);
    return verdict;
}

/* The verdict on a failure whose figures are known. Outside the gate. */
static TAI_COLD void tai_pool_judge(ta_pool *pool, const tai_plan *plan, tai_holder *me, ta_failure *out)
{
    ta_verdict verdict = TA_VERDICT_BACKEND;
    out->backend_free_bytes = out->backend_total_bytes = TA_UNLIMITED;
    if (out->result == TA_ERROR_NOT_CACHED) {
        verdict = TA_VERDICT_NOT_CACHED;
    } else if (out->result == TA_ERROR_SEALED) {
        verdict = TA_VERDICT_SEALED;
    } else if (out->result == TA_ERROR_RECORDS) {
        verdict = TA_VERDICT_RECORDS;
    } else if (out->result == TA_ERROR_LIMIT || out->result == TA_ERROR_OUT_OF_MEMORY ||
               out->result == TA_ERROR_FRAGMENTED) {
        verdict = tai_pool_judge_memory(pool, plan, me, out);
    }
    tai_failure_conclude(out, verdict);
}

/* Fills in why an allocation fails. Outside the gate. */
static TAI_COLD void tai_pool_diagnose(ta_pool *pool, const ta_request *request, const tai_plan *plan,
                                       ta_result why, tai_holder *me, ta_failure *out)
{
    tai_space *space = &pool->space;
    uint32_t s;
    int exhausted = why == TA_ERROR_OUT_OF_MEMORY;
    memset(out, 0, sizeof *out);
    out->requested_bytes = request->size_bytes;
    out->alignment_bytes = plan->alignment;
    out->stream = request->stream;
    out->tag = request->tag;
    out->limit_bytes = TENSORALLOC_LOAD_RELAXED(&space->budget->limit);
    out->budget_used_bytes = TENSORALLOC_LOAD_RELAXED(&space->budget->reserved);
    out->backend_code = exhausted || why == TA_ERROR_BACKEND ? tai_backend_code(space->backend) : 0;
    tai_gate_enter(&space->gate, me);
    out->reserved_bytes = space->reserved;
    out->in_use_bytes = tai_space_used(space);
    out->pending_bytes = space->pending_bytes;
    out->free_bytes = tai_space_cached(space);
    out->free_bytes -= space->pending_bytes < out->free_bytes ? space->pending_bytes : out->free_bytes;
    for (s = 0; s < space->stream_count; s++) {
        uint32_t index = tai_bins_largest(space, space->bins[TAI_HEAPS * s + (uint32_t)plan->heap]);
        if (index != 0 && space->blocks.at[index].size > out->largest_free_bytes) {
            out->largest_free_bytes = space->blocks.at[index].size;
        }
    }
    for (s = 0; s < space->region_count; s++) {
        const tai_region *region = space->regions[s];
        if (region->is_live && region->commit_end > region->top && region->heap == (uint32_t)plan->heap &&
            (size_t)(region->commit_end - region->top) > out->largest_free_bytes) {
            out->largest_free_bytes = (size_t)(region->commit_end - region->top);
        }
    }
    if (space->info.range_bytes_max != 0) { /* a bounded backend: what is not in use is free, committed or not */
        const tai_region *only = space->primary[TAI_LARGE];
        size_t used = tai_space_used(space) + space->pending_bytes;
        out->free_bytes = used < space->info.range_bytes_max ? space->info.range_bytes_max - used : 0;
        if (only != NULL && only->base + only->size - only->top > out->largest_free_bytes) {
            out->largest_free_bytes = (size_t)(only->base + only->size - only->top);
        }
    }
    if (exhausted && out->free_bytes >= plan->size) {
        why = TA_ERROR_FRAGMENTED;
    }
    out->result = why;
    out->count = pool->failure_count + 1;
    tai_gate_leave(&space->gate, me);
    tai_pool_judge(pool, plan, me, out);
}

/* The end of an allocation that failed: counted, kept, told. Returns the result, perhaps more exact. */
static TAI_COLD ta_result tai_pool_fail(ta_pool *pool, const ta_request *request, const tai_plan *plan,
                                        ta_result why, tai_holder *me)
{
    ta_failure failure;
    tai_pool_diagnose(pool, request, plan, why, me, &failure);
    why = failure.result;
    tai_gate_enter(&pool->space.gate, me);
    failure.count = ++pool->failure_count;
    pool->failure_limit_count += why == TA_ERROR_LIMIT;
    pool->failure_sealed_count += why == TA_ERROR_SEALED;
    pool->failure_not_cached_count += why == TA_ERROR_NOT_CACHED;
    pool->failure = failure;
    tai_gate_leave(&pool->space.gate, me);
    TENSORALLOC_LOG(why, pool->name);
    tai_pool_event(pool, TA_EVENT_FAILURE, why, NULL, request->size_bytes, 0, request->stream, request->tag, 0);
    return why;
}

/* One pass over what needs no new memory: the heap, finished blocks, blocks of other streams. Outside the gate.
   Returns a busy block and refills the cache, or 0. */
static uint32_t tai_pool_take(ta_pool *pool, const tai_plan *plan, tai_slot *slot, uint32_t stream, ta_result *result)
{
    tai_space *space = &pool->space;
    tai_holder *me = tai_slot_me(slot);
    uint32_t index;
    tai_gate_enter(&space->gate, me);
    tai_pool_note_peak(pool);
    index = tai_heap_take(space, plan->heap, plan->size, plan->alignment, stream, result);
    if (index != 0 && plan->class_index != 0 && slot != NULL && slot->stream == stream && slot->bytes_max > 0) {
        tai_pool_refill(pool, slot, plan);
        slot->cached_low = slot->cached_bytes;
    }
    tai_gate_leave(&space->gate, me);
    if (index == 0 && space->ordered && *result == TA_ERROR_NOT_CACHED) {
        if (tai_space_poll(space, 0, me) != 0) {
            tai_gate_enter(&space->gate, me);
            index = tai_heap_take(space, plan->heap, plan->size, plan->alignment, stream, result);
            tai_gate_leave(&space->gate, me);
        }
        if (index == 0 && space->stealing) {
            index = tai_space_steal(space, plan->heap, plan->size, plan->alignment, stream, me);
        }
        if (index != 0) {
            *result = TA_OK;
        }
    }
    return index;
}

/* What the pool itself can give back to the backend, apart from keep bytes. Waits for the turn unless told not to. */
static TAI_COLD size_t tai_pool_trim(ta_pool *pool, uint32_t heaps, size_t keep, int wait, tai_slot *slot)
{
    tai_holder *me = tai_slot_me(slot);
    size_t released;
    if (!(wait ? tai_turn_take(&pool->space, me) : tai_turn_try(&pool->space, me))) {
        return 0;
    }
    released = tai_space_trim(&pool->space, heaps, keep, me);
    tai_turn_end(&pool->space, me);
    if (released != 0) {
        tai_pool_event(pool, TA_EVENT_TRIM, TA_OK, NULL, released, 0, 0, NULL, 0);
    }
    return released;
}

/* With a cap on cached bytes: what this thread's cache may hold so that the cap is kept, whatever others come to
   hold. Inside the gate. */
static void tai_pool_share_cap(ta_pool *pool, tai_slot *slot)
{
    size_t cap = pool->desc.cached_bytes_max, others = tai_space_cached(&pool->space), room;
    const tai_slot *other;
    for (other = pool->slots; other != NULL; other = other->pool_next) {
        size_t held = TENSORALLOC_LOAD_RELAXED(&other->cached_bytes);
        if (other != slot) {
            others += held > other->bytes_max ? held : other->bytes_max;
        }
    }
    room = cap > others ? cap - others : 0;
    if (pool->cacheable_bytes != 0) {
        slot->bytes_max = room < pool->desc.thread_cache_bytes ? room : pool->desc.thread_cache_bytes;
    }
}

/* What this thread's cache holds and others hold or may come to hold without asking. Inside the gate. */
static size_t tai_pool_thread_claims(const ta_pool *pool, const tai_slot *slot)
{
    size_t bytes = pool->slot0.cached_bytes + tai_guard_held(pool);
    const tai_slot *other;
    for (other = pool->slots; other != NULL; other = other->pool_next) {
        size_t held = TENSORALLOC_LOAD_RELAXED(&other->cached_bytes);
        bytes += other != slot && other->bytes_max > held ? other->bytes_max : held;
    }
    return bytes;
}

/* Keeps cached bytes under the cap: this thread's cache first, then whole pages. Outside the gate. */
static TAI_NOINLINE void tai_pool_keep_cap(ta_pool *pool, tai_slot *slot)
{
    tai_space *space = &pool->space;
    tai_holder *me = tai_slot_me(slot);
    size_t cap = pool->desc.cached_bytes_max, held;
    int over;
    tai_gate_enter(&space->gate, me);
    held = tai_pool_thread_claims(pool, slot);
    over = tai_space_cached(space) + held > cap;
    if (over && slot != NULL) {
        held -= slot->cached_bytes;
        (void)tai_slot_flush(pool, slot, 0xffffffffu, 0);
    }
    tai_gate_leave(&space->gate, me);
    if (over) {
        (void)tai_guard_release(pool, 0);
        if (space->ordered) {
            (void)tai_space_poll(space, 0, me);
        }
        (void)tai_pool_trim(pool, TAI_ALL_HEAPS, cap > held ? cap - held : 0, 1, slot);
    }
    if (slot != NULL) {
        tai_gate_enter(&space->gate, me);
        tai_pool_share_cap(pool, slot);
        tai_gate_leave(&space->gate, me);
    }
}

/* Before one heap grows beyond what the pool ever needed by more than a 25th and 1 MiB, others that are mostly
   free give pages back: tensors that shrink from step to step until they change the heap would else be paid for
   twice. A heap that is in use keeps its free pages: it will want them in this very step. */
static TAI_COLD void tai_pool_balance(ta_pool *pool, const tai_plan *plan, size_t used_already, tai_slot *slot)
{
    tai_space *space = &pool->space;
    tai_holder *me = tai_slot_me(slot);
    size_t needed, cached, committed[TAI_HEAPS] = {0, 0, 0};
    uint32_t r, h, idle = 0;
    tai_gate_enter(&space->gate, me);
    needed = tai_space_used(space) + plan->size - used_already;
    needed = needed < pool->peak_in_use ? pool->peak_in_use : needed;
    needed += needed / 25 + ((size_t)1 << 20);
    needed = space->reserved + plan->size > needed ? space->reserved + plan->size - needed : 0;
    cached = tai_space_cached(space);
    for (r = 0; needed != 0 && r < space->region_count; r++) {
        const tai_region *region = space->regions[r];
        if (region->is_live) {
            committed[region->heap] += (size_t)(region->commit_end - region->base) - region->hole_bytes;
        }
    }
    for (h = 0; h < TAI_HEAPS; h++) {
        if (h != (uint32_t)plan->heap && committed[h] > ((size_t)1 << 20) && space->used[h] <= committed[h] / 4) {
            idle |= 1u << h;
        }
    }
    tai_gate_leave(&space->gate, me);
    if (idle != 0) {
        (void)tai_pool_trim(pool, idle, cached > needed ? cached - needed : 0, 1, slot);
    }
}

/* Whether another allocator of the budget may reach into the pool: its own thread may be inside of one that has but
   one, unless there are no threads at all. */
static TAI_COLD int tai_pool_is_open(ta_pool *pool)
{
#ifdef TENSORALLOC_NO_THREADS
    return !pool->disposed;
#else
    return !pool->disposed && pool->single_slot == NULL && !tai_pool_forked(pool);
#endif
}

/* Asked by the budget for another allocator. */
static TAI_COLD size_t tai_pool_reclaim(void *self, size_t want_bytes)
{
    ta_pool *pool = (ta_pool *)self;
    size_t cached;
    if (!tai_pool_is_open(pool)) {
        return 0;
    }
    (void)tai_pool_collect(pool);
    (void)tai_pool_flush_thread(pool);
    if (pool->space.ordered) {
        (void)tai_space_synchronize(&pool->space, NULL);
    }
    (void)tai_passing_flush(pool, NULL);
    (void)tai_guard_release(pool, 0);
    tai_gate_enter(&pool->space.gate, NULL);
    cached = tai_space_cached(&pool->space);
    tai_gate_leave(&pool->space.gate, NULL);
    return tai_pool_trim(pool, TAI_ALL_HEAPS, cached > want_bytes ? cached - want_bytes : 0, 0, NULL);
}

/* Asked by the budget for another allocator that has failed. */
static TAI_COLD size_t tai_pool_cached(void *self, int pages)
{
    ta_pool *pool = (ta_pool *)self;
    size_t bytes;
    if (!tai_pool_is_open(pool)) {
        return 0;
    }
    tai_gate_enter(&pool->space.gate, NULL);
    bytes = tai_pool_thread_cached(pool) + (pages ? tai_space_cached(&pool->space) : 0);
    tai_gate_leave(&pool->space.gate, NULL);
    return bytes;
}

/* Whether the request could not be served if all that is free anywhere came together: nobody's caches are emptied in
   vain then. */
static TAI_COLD int tai_pool_is_hopeless(ta_pool *pool, const tai_plan *plan, tai_holder *me)
{
    tai_space *space = &pool->space;
    size_t live, cached, available, total;
    tai_gate_enter(&space->gate, me);
    live = tai_space_used(space);
    cached = tai_pool_thread_cached(pool) + tai_guard_held(pool);
    tai_gate_leave(&space->gate, me);
    live = live > cached ? live - cached : 0;
    if (!tai_budget_may_hold(space->budget, live, plan->size)) {
        return 1;
    }
    return space->backend.vtable->memory_info != NULL &&
           space->backend.vtable->memory_info(space->backend.self, &available, &total) == TA_OK && total != 0 &&
           plan->size > total;
}

/* The ladder: one rung after the other until one of them gave something. 0: the end. */
static TAI_COLD int tai_pool_climb(ta_pool *pool, int *rung, const ta_request *request, const tai_plan *plan,
                                   ta_result why, tai_slot *slot)
{
    tai_space *space = &pool->space;
    tai_holder *me = tai_slot_me(slot);
    size_t want = plan->size + (plan->alignment > space->granule ? plan->alignment : 0) + space->granularity;
    if (*rung == 0 && why != TA_ERROR_RECORDS && tai_pool_is_hopeless(pool, plan, me)) {
        *rung = 4;
    } else if (*rung >= 1 && *rung <= 3 && why == TA_ERROR_RECORDS) { /* blocks that merge free records, no more */
        *rung = 4;
    }
    for (;;) {
        int helped = 0;
        switch ((*rung)++) {
        case 0: /* own cache */
            helped = tai_pool_flush_thread(pool) + tai_guard_release(pool, 0) != 0;
            break;
        case 1: /* graphs that are gone, other streams */
            helped = tai_pool_collect(pool) != 0;
            helped |= space->ordered && tai_space_synchronize(space, me) == TA_OK;
            break;
        case 2: /* siblings */
            helped = tai_budget_reclaim(space->budget, &pool->member, want) != 0;
            break;
        case 3: /* own free pages: holes in the middle pay for growth at the end */
            helped = tai_pool_trim(pool, TAI_ALL_HEAPS, 0, 1, slot) != 0;
            break;
        case 4: /* the user */
            if (pool->desc.on_out_of_memory != NULL) {
                ta_failure failure;
                tai_pool_diagnose(pool, request, plan, why, me, &failure);
                helped = pool->desc.on_out_of_memory(pool->desc.on_out_of_memory_user, &failure) != 0;
                if (helped) {
                    *rung = 0;
                }
            }
            break;
        default:
            return 0;
        }
        if (helped) {
            return 1;
        }
    }
}

/* Whether a request must be served from what the pool has. */
TAI_INLINE int tai_pool_is_bound(const ta_pool *pool, const tai_plan *plan)
{
    return (plan->flags & TA_REQUEST_CACHED_ONLY) != 0 || TENSORALLOC_LOAD_RELAXED(&pool->sealed);
}

/* Finds a busy, committed block for the plan, going to the backend where it must. 0 with *result.
   *missed: bit 0 the heap grew, bit 1 trimmed pages came back. Outside the gate. */
static uint32_t tai_pool_obtain(ta_pool *pool, const ta_request *request, const tai_plan *plan, tai_slot *slot,
                                uint32_t stream, int *missed, ta_result *result)
{
    tai_space *space = &pool->space;
    tai_holder *me = tai_slot_me(slot);
    int rung = 0;
    size_t bytes = 0;
    for (;;) {
        uint32_t index = tai_pool_take(pool, plan, slot, stream, result);
        int backend_needed = index == 0 || space->blocks.at[index].place.flags != 0;
        if (!backend_needed) {
            return index;
        }
        if (TAI_CHECKED && *result == TA_ERROR_RECORDS && tai_guard_release(pool, 0) != 0) {
            continue;
        }
        if (index == 0 && TAI_CHECKED && tai_pool_is_bound(pool, plan) && tai_guard_release(pool, 0) != 0) {
            continue;
        }
        if (*result == TA_ERROR_RECORDS) {
            if (tai_pool_is_bound(pool, plan)) {
                return 0;
            }
        } else if (tai_pool_is_bound(pool, plan)) {
            *result = (plan->flags & TA_REQUEST_CACHED_ONLY) != 0 ? TA_ERROR_NOT_CACHED : TA_ERROR_SEALED;
        } else if (index != 0) {
            tai_pool_balance(pool, plan, plan->size, slot);
            *result = tai_space_recommit(space, index, me, &bytes);
            if (bytes != 0) {
                tai_pool_event(pool, TA_EVENT_GROW, TA_OK, NULL, bytes, 0, 0, NULL, 0);
            }
            if (*result == TA_OK) {
                *missed |= 2;
                return index;
            }
        } else if (tai_pool_collect(pool) != 0) {
            continue;
        } else {
            tai_pool_balance(pool, plan, 0, slot);
            *result = tai_space_grow(space, plan->heap, plan->size, plan->alignment, stream, me, &bytes);
            if (*result == TA_OK) {
                *missed |= bytes != 0;
                if (bytes != 0) {
                    tai_pool_event(pool, TA_EVENT_GROW, TA_OK, NULL, bytes, 0, 0, NULL, 0);
                }
                continue;
            }
        }
        if (index != 0) {
            tai_gate_enter(&space->gate, me);
            tai_heap_put(space, index);
            tai_gate_leave(&space->gate, me);
        }
        if (*result == TA_ERROR_LIMIT) {
            tai_pool_event(pool, TA_EVENT_LIMIT, TA_OK, NULL, plan->size, 0, request->stream, request->tag, 0);
        }
        if (*result == TA_ERROR_NOT_CACHED || *result == TA_ERROR_SEALED || *result == TA_ERROR_OVERFLOW ||
            (plan->flags & TA_REQUEST_WITHIN_BUDGET) != 0 ||
            !tai_pool_climb(pool, &rung, request, plan, *result, slot)) {
            return 0;
        }
    }
}

/* A block from this thread's cache; 0 if there is none. */
TAI_INLINE void *tai_pool_hit(ta_pool *pool, tai_slot *slot, uint32_t c, size_t size, const char *tag)
{
    uint32_t index = tai_slot_pop(pool, slot, c);
    tai_block *block;
    if (TAI_UNLIKELY(index == 0)) {
        return NULL;
    }
    block = &pool->space.blocks.at[index];
    TAI_SHOW(&pool->space, block->addr, block->size);
    TENSORALLOC_STORE_RELAXED(&block->requested, size); /* a walk may be looking */
    TENSORALLOC_STORE_RELAXED(&block->tag, tag);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
    TAI_BUMP64(slot->count.allocation_count, 1);
    TAI_BUMP64(slot->count.allocated_bytes, size);
    return (void *)block->addr;
}

/* From a busy block to the caller's: zeroed where asked, live, counted. On failure the block is free again. */
static ta_result tai_pool_finish(ta_pool *pool, uint32_t index, const ta_request *request, const tai_plan *plan,
                                 uint32_t stream, int missed, tai_holder *me)
{
    tai_space *space = &pool->space;
    const tai_block *block = &space->blocks.at[index];
    ta_result result = TA_OK;
    if ((plan->flags & TA_REQUEST_ZEROED) != 0) {
        int fresh = 0;
        if ((space->info.caps & TA_CAP_FRESH_ZERO) != 0) {
            tai_gate_enter(&space->gate, me);
            fresh = block->addr >= space->regions[block->place.region]->touched_end;
            tai_gate_leave(&space->gate, me);
        }
        if (!fresh) {
            TAI_SHOW(space, block->addr, block->size);
            result = tai_backend_zero(space->backend, (void *)block->addr, request->size_bytes, request->stream);
        }
    }
    if (result == TA_OK) {
        tai_guard_paint(pool, index, request->size_bytes);
    }
    tai_gate_enter(&space->gate, me);
    if (result == TA_OK) {
        tai_pool_make_live(pool, index, request->size_bytes, request->tag,
                           block->size == plan->size ? plan->class_index : 0, plan->alignment, stream);
        tai_pool_note_peak(pool);
        pool->count.allocation_count++;
        pool->count.allocated_bytes += request->size_bytes;
        pool->miss_grow_count += (missed & 1) != 0;
        pool->miss_recommit_count += missed == 2;
        if ((plan->flags & TA_REQUEST_ZEROED) != 0) {
            TAI_SHOW_ZEROED(space, block->addr, request->size_bytes);
        }
        tai_pool_record(pool, TA_EVENT_ALLOC, block, missed == 0);
    } else {
        tai_heap_put(space, index);
    }
    tai_gate_leave(&space->gate, me);
    return result;
}

/* As tai_pool_hit, zeroed where asked. */
TAI_INLINE void *tai_pool_hit_request(ta_pool *pool, tai_slot *slot, const ta_request *request, const tai_plan *plan)
{
    void *ptr;
    if (slot == NULL || plan->class_index == 0 || slot->stream_id != tai_pool_stream(pool, request->stream)) {
        return NULL;
    }
    if ((plan->flags & TA_REQUEST_ZEROED) != 0) {
        uint32_t index = slot->heads[plan->class_index];
        TAI_SHOW(&pool->space, pool->at[index].addr, pool->at[index].size); /* at[0] is empty */
        if (index == 0 || tai_backend_zero(pool->space.backend, (void *)pool->space.blocks.at[index].addr,
                                           request->size_bytes, request->stream) != TA_OK) {
            return NULL;
        }
    }
    ptr = tai_pool_hit(pool, slot, plan->class_index, request->size_bytes, request->tag);
    if ((plan->flags & TA_REQUEST_ZEROED) != 0) {
        TAI_SHOW_ZEROED(&pool->space, (uintptr_t)ptr, request->size_bytes);
    }
    return ptr;
}

/* The one question about captures of an allocation: whether nothing stands in the way of ordinary memory. Else *why is
   an error, or TA_OK and *capture the number of the capture. */
TAI_INLINE int tai_pool_is_eager(const ta_pool *pool, ta_stream stream, uint64_t *capture, ta_result *why)
{
    *capture = 0;
    *why = TA_OK;
    if ((TENSORALLOC_LOAD_RELAXED(&pool->alert) & TAI_ALERT_CAPTURE) != 0) {
        *why = pool->space.backend.vtable->capture(pool->space.backend.self, stream, capture);
    }
    return *why == TA_OK && *capture == 0;
}

/* The tag of a request in pools that show it. A hit of a watched pool is served here. */
static TAI_COLD void *tai_pool_tag(ta_pool *pool, ta_request *request, const tai_plan *plan)
{
    void *ptr = NULL;
    if (request->tag == NULL) {
        request->tag = tai_here.tag;
    } else if ((TAI_ALERTS(pool) & TAI_ALERT_COPY) != 0) {
        request->tag = tai_tag_intern(NULL, request->tag);
    }
    if ((TAI_ALERTS(pool) & TAI_ALERT_WATCHED) != 0) {
        ta_stream stream = tai_pool_stream(pool, request->stream);
        ptr = tai_pool_hit_request(pool, tai_slot_for(pool, stream), request, plan);
        if (ptr != NULL && pool->desc.trace != NULL) {
            tai_trace_put(pool->desc.trace, tai_trace_about(TA_EVENT_ALLOC, TA_OK, 1, pool->trace_source), ptr,
                          request->size_bytes, plan->size, stream, request->tag);
        }
    }
    return ptr;
}

/* Where every allocation ends that is not eager. A graph pool may serve it; else nothing is given to a stream that is
   being captured: a replay would write into it long after it was freed. */
static TAI_COLD void *tai_pool_alloc_captured(ta_pool *pool, const ta_request *request, uint64_t capture,
                                              ta_result why, ta_result *result)
{
    if (TAI_GRAPHS && capture != 0 && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        return pool->hooks->alloc(pool, request, capture, result);
    }
    return tai_fail_null(capture != 0 ? TA_ERROR_CAPTURE : why, result);
}

/* What the short paths do not do, once the request is understood and known to be eager. */
static TAI_NOINLINE void *tai_pool_alloc_planned(ta_pool *pool, const ta_request *request, const tai_plan *plan,
                                                 ta_result *result)
{
    tai_slot *slot = tai_slot_for(pool, tai_pool_stream(pool, request->stream));
    tai_holder *me = tai_slot_me(slot);
    uint32_t index = 0, stream = 0;
    int missed = 0, ok = 1;
    void *ptr = tai_pool_hit_request(pool, slot, request, plan);
    ta_result why;
    if (ptr == NULL) {
        if (pool->space.ordered) {
            tai_gate_enter(&pool->space.gate, me);
            stream = tai_stream_index(&pool->space, request->stream, &ok);
            tai_gate_leave(&pool->space.gate, me);
        }
        why = TA_ERROR_RECORDS;
        if (ok) {
            index = tai_pool_obtain(pool, request, plan, slot, stream, &missed, &why);
        }
        if (index != 0) {
            ptr = (void *)pool->space.blocks.at[index].addr;
            why = tai_pool_finish(pool, index, request, plan, stream, missed, me);
        }
        if (index == 0 || why != TA_OK) {
            if (pool->desc.cached_bytes_max != TA_UNLIMITED) {
                tai_pool_keep_cap(pool, slot);
            }
            return tai_fail_null(tai_pool_fail(pool, request, plan, why, me), result);
        }
        tai_pool_event(pool, TA_EVENT_ALLOC, TA_OK, ptr, request->size_bytes, plan->size, request->stream,
                       request->tag, missed == 0);
        if (missed != 0 && pool->desc.cached_bytes_max != TA_UNLIMITED) {
            tai_pool_keep_cap(pool, slot);
        }
        tai_pool_debug(pool);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* Everything that the short paths do not do. */
static TAI_NOINLINE void *tai_pool_alloc_request(ta_pool *pool, const ta_request *request, ta_result *result)
{
    tai_plan plan;
    ta_request tagged;
    uint64_t capture;
    ta_result why = tai_pool_usable(pool);
    if (why == TA_OK && request == NULL) {
        why = TA_ERROR_INVALID_ARGUMENT;
    }
    if (why == TA_OK) {
        why = tai_pool_plan(pool, request, &plan);
    }
    if (why != TA_OK) {
        return tai_fail_null(why, result);
    }
    if (!tai_pool_is_eager(pool, request->stream, &capture, &why)) {
        return tai_pool_alloc_captured(pool, request, capture, why, result);
    }
    if ((TAI_ALERTS(pool) & TAI_ALERT_FIRST) != 0 && tai_slot_search(pool, 1, request->stream, 0) == NULL &&
        ((why = pool->space.backend.vtable->capture(pool->space.backend.self, request->stream, &capture)) != TA_OK ||
         capture != 0)) {
        return tai_pool_alloc_captured(pool, request, capture, why, result);
    }
    if ((TAI_ALERTS(pool) & TAI_ALERT_TAG) != 0) {
        void *ptr;
        tagged = *request;
        request = &tagged;
        ptr = tai_pool_tag(pool, &tagged, &plan);
        if (ptr != NULL) {
            (void)tai_fail_null(TA_OK, result);
            return ptr;
        }
    }
    return tai_pool_alloc_planned(pool, request, &plan, result);
}

static TAI_NOINLINE void *tai_pool_alloc_simple(ta_pool *pool, size_t size, size_t alignment, uint32_t flags,
                                                ta_result *result)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = alignment;
    request.flags = flags;
    return tai_pool_alloc_request(pool, &request, result);
}

/* A large block from the heap, in one visit to the gate; whatever is not simple goes the long way. watched: whether the
   pool is; a constant. */
TAI_INLINE void *tai_pool_alloc_at_once(ta_pool *pool, tai_slot *slot, size_t size, ta_result *result, int watched)
{
    tai_space *space = &pool->space;
    size_t rounded = tai_round_up(size, space->granule);
    uint32_t index;
    void *ptr;
    ta_result why;
    tai_gate_enter_hot(&space->gate, &slot->holder);
    if (TAI_UNLIKELY(pool->single_slot != NULL)) {
        tai_pool_note_peak(pool);
    }
    index = tai_heap_take_quick(space, rounded, 0);
    if (TAI_UNLIKELY(index == 0)) {
        index = tai_heap_take(space, TAI_LARGE, rounded, space->granule, 0, &why);
        if (TAI_UNLIKELY(index == 0 || space->blocks.at[index].place.flags != 0)) {
            if (index != 0) {
                tai_heap_put(space, index);
            }
            tai_gate_leave_hot(&space->gate, &slot->holder);
            return tai_pool_alloc_simple(pool, size, 0, 0, result);
        }
    }
    tai_pool_note_peak(pool);
    tai_pool_make_live(pool, index, size, watched ? tai_here.tag : NULL, 0, 0, 0);
    pool->count.allocation_count++;
    pool->count.allocated_bytes += size;
    ptr = (void *)space->blocks.at[index].addr;
    if (watched) {
        tai_pool_record(pool, TA_EVENT_ALLOC, &space->blocks.at[index], 1);
    }
    tai_gate_leave_hot(&space->gate, &slot->holder);
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* The short ways of watched pools. */
static TAI_COLD void *tai_pool_alloc_watched(ta_pool *pool, size_t size, ta_result *result)
{
    tai_slot *slot = tai_slot_last(pool);
    if (slot != NULL && size - 1 < pool->watched_bytes && slot->stream_id == 0) {
        uint32_t c = pool->class_of[(size - 1) / 64];
        const char *tag = tai_here.tag;
        void *ptr = tai_pool_hit(pool, slot, c, size, tag);
        if (TAI_LIKELY(ptr != NULL)) {
            if (pool->desc.trace != NULL) {
                tai_trace_put(pool->desc.trace, tai_trace_about(TA_EVENT_ALLOC, TA_OK, 1, pool->trace_source), ptr,
                              size, pool->class_bytes[c], 0, tag);
            }
            (void)tai_fail_null(TA_OK, result);
            return ptr;
        }
    } else if (slot != NULL && size > pool->desc.thread_cache_block_bytes &&
               size <= (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX && (TAI_ALERTS(pool) & TAI_ALERT_LARGE) != 0) {
        return tai_pool_alloc_at_once(pool, slot, size, result, 1);
    }
    return tai_pool_alloc_simple(pool, size, 0, 0, result);
}

static TAI_NOINLINE void *tai_pool_alloc_large(ta_pool *pool, size_t size, ta_result *result)
{
    tai_slot *slot = tai_slot_last(pool);
    if (TAI_UNLIKELY(slot == NULL || !pool->plain || size > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX)) {
        return (TAI_ALERTS(pool) & TAI_ALERT_WATCHED) != 0 ? tai_pool_alloc_watched(pool, size, result)
                                                      : tai_pool_alloc_simple(pool, size, 0, 0, result);
    }
    return tai_pool_alloc_at_once(pool, slot, size, result, 0);
}

/* A block for the size classes that the cache does not have: out of a bin, in one visit to the gate, and a few
   more for the cache; or the long way. */
static TAI_NOINLINE void *tai_pool_alloc_miss(ta_pool *pool, size_t size, ta_result *result)
{
    tai_space *space = &pool->space;
    tai_slot *slot = tai_slot_last(pool);
    tai_plan plan;
    uint32_t index = 0, c = pool->class_of[(size - 1) / 64];
    void *ptr;
    ta_result why;
    if (TAI_UNLIKELY(slot == NULL || !pool->plain)) {
        return tai_pool_alloc_simple(pool, size, 0, 0, result);
    }
    plan.size = pool->class_bytes[c];
    plan.alignment = space->granule;
    plan.heap = tai_space_heap_of(space, plan.size);
    plan.class_index = c;
    plan.flags = 0;
    tai_gate_enter_hot(&space->gate, &slot->holder);
    TENSORALLOC_STORE_RELAXED(&pool->passing[c].missed_by, (uintptr_t)slot);
    if (pool->passing[c].first != 0 && tai_passing_receive(pool, slot, c)) {
        tai_gate_leave_hot(&space->gate, &slot->holder);
        if (result != NULL) {
            *result = TA_OK;
        }
        return tai_pool_hit(pool, slot, c, size, NULL);
    }
    tai_pool_note_peak(pool);
    if (space->slack == 0) {
        index = tai_heap_take(space, plan.heap, plan.size, plan.alignment, 0, &why);
    }
    if (TAI_UNLIKELY(index == 0 || space->blocks.at[index].place.flags != 0)) {
        if (index != 0) {
            tai_heap_put(space, index);
        }
        tai_gate_leave_hot(&space->gate, &slot->holder);
        return tai_pool_alloc_simple(pool, size, 0, 0, result);
    }
    tai_pool_note_peak(pool);
    tai_pool_make_live(pool, index, size, NULL, c, 0, slot->stream);
    if (plan.size <= TAI_REFILL_BYTES) {
        tai_pool_refill(pool, slot, &plan);
        slot->cached_low = slot->cached_bytes;
    }
    pool->count.allocation_count++;
    pool->count.allocated_bytes += size;
    ptr = (void *)space->blocks.at[index].addr;
    tai_gate_leave_hot(&space->gate, &slot->holder);
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* A block for the size classes, in pools and on streams where the shortest path is not enough. */
static TAI_NOINLINE void *tai_pool_alloc_small(ta_pool *pool, size_t size, ta_result *result)
{
    tai_slot *slot = tai_slot_last(pool);
    if (TAI_LIKELY(slot != NULL && slot->stream_id == 0)) {
        void *ptr = tai_pool_hit(pool, slot, pool->class_of[(size - 1) / 64], size, NULL);
        if (TAI_LIKELY(ptr != NULL)) {
            if (result != NULL) {
                *result = TA_OK;
            }
            return ptr;
        }
        return tai_pool_alloc_miss(pool, size, result);
    }
    return tai_pool_alloc_simple(pool, size, 0, 0, result);
}

/* A block for the size classes: from this thread's cache, or a longer way. Every instruction here counts. */
TAI_INLINE void *tai_pool_alloc_quick(ta_pool *pool, size_t size, ta_result *result)
{
    tai_slot *slot = tai_slot_quick(pool);
    tai_block *block;
    uint32_t *head, index;
    if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->quick) != pool)) {
        return tai_pool_alloc_small(pool, size, result);
    }
    head = &slot->heads[pool->class_of[(size - 1) / 64]];
    index = *head;
    if (TAI_UNLIKELY(index == 0)) {
        return tai_pool_alloc_miss(pool, size, result);
    }
    block = &pool->at[index];
    *head = block->right;
    TAI_DROP64(slot->cached_bytes, block->size);
    TAI_SHOW(&pool->space, block->addr, block->size);
    TENSORALLOC_STORE_RELAXED(&block->requested, size); /* a walk may be looking */
    TENSORALLOC_STORE_RELAXED(&block->tag, (const char *)NULL);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
    TAI_BUMP64(slot->count.allocation_count, 1);
    TAI_BUMP64(slot->count.allocated_bytes, size);
    if (result != NULL) {
        *result = TA_OK;
    }
    return (void *)block->addr;
}

/* ---- the same with order between streams */
/* Eager is known; the rest is not simple. */
static TAI_NOINLINE void *tai_pool_alloc_long(ta_pool *pool, size_t size, ta_stream stream, ta_result *result)
{
    ta_request request;
    tai_plan plan;
    ta_result why;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.stream = stream;
    why = tai_pool_plan(pool, &request, &plan);
    return why == TA_OK ? tai_pool_alloc_planned(pool, &request, &plan, result) : tai_fail_null(why, result);
}

/* An allocation that is not eager. */
static TAI_COLD void *tai_pool_alloc_not_eager(ta_pool *pool, size_t size, ta_stream stream, uint64_t capture,
                                               ta_result why, ta_result *result)
{
    ta_request request;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.stream = stream;
    return size == 0 ? tai_fail_null(TAI_BAD(TA_ERROR_INVALID_SIZE), result)
                     : tai_pool_alloc_captured(pool, &request, capture, why, result);
}

/* As tai_pool_alloc_large, on the stream of the slot. */
static TAI_NOINLINE void *tai_pool_alloc_large_on(ta_pool *pool, tai_slot *slot, size_t size, ta_result *result)
{
    tai_space *space = &pool->space;
    size_t rounded = tai_round_up(size, space->granule);
    uint32_t index;
    void *ptr = NULL;
    tai_gate_enter_hot(&space->gate, slot->me);
    tai_pool_note_peak(pool);
    index = tai_heap_take_quick(space, rounded, slot->stream);
    if (TAI_LIKELY(index != 0)) {
        tai_pool_note_peak(pool);
        tai_pool_make_live(pool, index, size, NULL, 0, 0, slot->stream);
        pool->count.allocation_count++;
        pool->count.allocated_bytes += size;
        ptr = (void *)space->blocks.at[index].addr;
    }
    tai_gate_leave_hot(&space->gate, slot->me);
    if (TAI_UNLIKELY(ptr == NULL)) {
        return tai_pool_alloc_long(pool, size, slot->stream_id, result);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* With order: the slot is not at hand, or not of the simple kind. */
static TAI_NOINLINE void *tai_pool_alloc_far(ta_pool *pool, size_t size, ta_stream stream, ta_result *result)
{
    tai_slot *slot = (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0 ? tai_slot_search(pool, 1, stream, 0) : NULL;
    uint64_t capture;
    ta_result why;
    void *ptr = NULL;
    if (slot == NULL) { /* perhaps the thread's first look at this stream */
        ta_request request;
        memset(&request, 0, sizeof request);
        request.size_bytes = size;
        request.stream = stream;
        return tai_pool_alloc_request(pool, &request, result);
    }
    if (TAI_UNLIKELY(pool->single_slot != NULL && tai_pool_forked(pool))) { /* others lose their slots */
        return tai_fail_null(TA_ERROR_FORKED, result);
    }
    if (TAI_UNLIKELY(!tai_pool_is_eager(pool, stream, &capture, &why))) {
        return tai_pool_alloc_not_eager(pool, size, stream, capture, why, result);
    }
    if (size > pool->desc.thread_cache_block_bytes && size <= (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return tai_pool_alloc_large_on(pool, slot, size, result);
    }
    if (size - 1 < pool->cacheable_bytes) { /* not 0 either */
        ptr = tai_pool_hit(pool, slot, pool->class_of[(size - 1) / 64], size, NULL);
    }
    if (ptr == NULL) {
        return tai_pool_alloc_long(pool, size, stream, result);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* With order: one question about captures, then as fast as without. Every instruction here counts. */
static TAI_NOINLINE void *tai_pool_alloc_on(ta_pool *pool, size_t size, ta_stream stream, ta_result *result)
{
    tai_slot *slot = tai_slot_guess(pool, stream);
    tai_block *block;
    uint32_t *head, index;
    uint64_t capture = 0;
    ta_result why = TA_OK;
    if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->ordered) != pool || slot->stream_id != stream)) {
        return tai_pool_alloc_far(pool, size, stream, result);
    }
    if (TAI_UNLIKELY(!tai_pool_is_eager(pool, stream, &capture, &why))) {
        return tai_pool_alloc_not_eager(pool, size, stream, capture, why, result);
    }
    if (TAI_UNLIKELY(size - 1 >= pool->cacheable_bytes)) { /* 0, too */
        return size > pool->desc.thread_cache_block_bytes && size <= (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX
                   ? tai_pool_alloc_large_on(pool, slot, size, result)
                   : tai_pool_alloc_long(pool, size, stream, result);
    }
    head = &slot->heads[pool->class_of[(size - 1) / 64]];
    index = *head;
    if (TAI_UNLIKELY(index == 0)) {
        return tai_pool_alloc_long(pool, size, stream, result);
    }
    block = &pool->at[index];
    *head = block->right;
    TAI_DROP64(slot->cached_bytes, block->size);
    TENSORALLOC_STORE_RELAXED(&block->requested, size); /* a walk may be looking */
    TENSORALLOC_STORE_RELAXED(&block->tag, (const char *)NULL);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
    TAI_BUMP64(slot->count.allocation_count, 1);
    TAI_BUMP64(slot->count.allocated_bytes, size);
    if (result != NULL) {
        *result = TA_OK;
    }
    return (void *)block->addr;
}

TENSORALLOC_DEF void *ta_pool_alloc(ta_pool *pool, size_t size_bytes, ta_result *result)
{
    if (TAI_UNLIKELY(pool == NULL)) {
        return tai_fail_null(TAI_BAD(TA_ERROR_INVALID_ARGUMENT), result);
    }
    if (TAI_LIKELY(size_bytes - 1 < pool->hot_bytes)) { /* not 0 either */
        return tai_pool_alloc_quick(pool, size_bytes, result);
    }
    if (TAI_LIKELY(size_bytes > pool->large_above)) {
        return tai_pool_alloc_large(pool, size_bytes, result);
    }
    return (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0 ? tai_pool_alloc_on(pool, size_bytes, 0, result)
                                                : tai_pool_alloc_simple(pool, size_bytes, 0, 0, result);
}

TENSORALLOC_DEF void *ta_pool_alloc_aligned(ta_pool *pool, size_t size_bytes, size_t alignment_bytes,
                                            ta_result *result)
{
    if (!tai_is_power_of_two(alignment_bytes)) {
        return tai_fail_null(TAI_BAD(pool == NULL ? TA_ERROR_INVALID_ARGUMENT : TA_ERROR_INVALID_ALIGNMENT), result);
    }
    return tai_pool_alloc_simple(pool, size_bytes, alignment_bytes, 0, result);
}

TENSORALLOC_DEF void *ta_pool_alloc_array(ta_pool *pool, size_t count, size_t element_bytes, ta_result *result)
{
    size_t size;
    if (!tai_mul(count, element_bytes, &size)) {
        return tai_fail_null(TA_ERROR_OVERFLOW, result);
    }
    return ta_pool_alloc(pool, size, result);
}

TENSORALLOC_DEF void *ta_pool_alloc_zeroed(ta_pool *pool, size_t size_bytes, ta_result *result)
{
    return tai_pool_alloc_simple(pool, size_bytes, 0, TA_REQUEST_ZEROED, result);
}

TENSORALLOC_DEF void *ta_pool_alloc_stream(ta_pool *pool, size_t size_bytes, ta_stream stream, ta_result *result)
{
    ta_request request;
    if (pool != NULL && (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0) {
        return tai_pool_alloc_on(pool, size_bytes, stream, result);
    }
    memset(&request, 0, sizeof request);
    request.size_bytes = size_bytes;
    request.stream = stream;
    return tai_pool_alloc_request(pool, &request, result);
}

TENSORALLOC_DEF void *ta_pool_alloc_request(ta_pool *pool, const ta_request *request, ta_result *result)
{
    return tai_pool_alloc_request(pool, request, result);
}

TENSORALLOC_DEF void *ta_pool_get(ta_pool *pool, size_t size_bytes, ta_result *result)
{
    return tai_pool_alloc_simple(pool, size_bytes, 0, TA_REQUEST_CACHED_ONLY, result);
}

TENSORALLOC_DEF void *ta_pool_get_aligned(ta_pool *pool, size_t size_bytes, size_t alignment_bytes, ta_result *result)
{
    if (!tai_is_power_of_two(alignment_bytes)) {
        return tai_fail_null(TAI_BAD(pool == NULL ? TA_ERROR_INVALID_ARGUMENT : TA_ERROR_INVALID_ALIGNMENT), result);
    }
    return tai_pool_alloc_simple(pool, size_bytes, alignment_bytes, TA_REQUEST_CACHED_ONLY, result);
}

TENSORALLOC_DEF void *ta_pool_get_or_alloc(ta_pool *pool, size_t size_bytes, ta_result *result)
{
    return ta_pool_alloc(pool, size_bytes, result);
}

/* ---- free */
/* Finds the live block at ptr and makes it busy. Inside the gate. 0 with *result. */
static uint32_t tai_pool_claim(ta_pool *pool, const void *ptr, size_t size, ta_result *result)
{
    tai_space *space = &pool->space;
    uint32_t index = tai_space_find(space, (uintptr_t)ptr);
    tai_block *block = &space->blocks.at[index];
    if (index == 0 || TENSORALLOC_LOAD_RELAXED(&block->state) != TAI_LIVE) {
        *result = tai_space_explain(space, (uintptr_t)ptr);
        return 0;
    }
    if (size != 0 && size != TENSORALLOC_LOAD_RELAXED(&block->requested)) {
        *result = TA_ERROR_SIZE_MISMATCH;
        return 0;
    }
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
    *result = TA_OK;
    return index;
}

/* Frees a busy block that nobody else uses: into this thread's cache if it may go there, else into the heap.
   Inside the gate. */
static void tai_pool_give_block(ta_pool *pool, uint32_t index, tai_slot *slot)
{
    tai_block *block = &pool->space.blocks.at[index];
    TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
    pool->count.deallocation_count++;
    pool->count.freed_bytes += block->requested;
    TAI_HIDE(&pool->space, block->addr, block->size);
    if (block->place.class_index != 0 && slot != NULL && slot->stream == block->place.stream &&
        block->size <= slot->bytes_max && slot->room[block->place.class_index] != 0) {
        if (slot->cached_bytes > slot->bytes_max - block->size) {
            (void)tai_slot_flush(pool, slot, TAI_FLUSH_COUNT, (slot->bytes_max - block->size) / 4 * 3);
        }
        if (block->size <= slot->bytes_max && slot->cached_bytes <= slot->bytes_max - block->size) {
            TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_CACHED);
            tai_slot_push(pool, slot, index);
            return;
        }
    }
    tai_heap_put(&pool->space, index);
}

/* Frees a busy block that other streams use. Outside the gate. */
static ta_result tai_pool_give_later(ta_pool *pool, uint32_t index, tai_holder *me)
{
    tai_block *block = &pool->space.blocks.at[index];
    size_t requested = block->requested;
    int patient = TAI_GRAPHS && TENSORALLOC_LOAD_RELAXED(&pool->scopes) != 0;
    ta_result result = tai_space_give_later(&pool->space, index, patient, me);
    tai_gate_enter(&pool->space.gate, me);
    if (result == TA_OK) {
        pool->count.deallocation_count++;
        pool->count.freed_bytes += requested;
    } else {
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
    }
    tai_gate_leave(&pool->space.gate, me);
    return result;
}

/* A block of a graph pool that no capture allocated: eager work on its own stream comes before whoever is next, on
   whatever stream that will be. Inside the gate. */
static TAI_COLD ta_result tai_space_record_home(tai_space *space, uint32_t index)
{
    tai_block *block = &space->blocks.at[index];
    uint32_t use = tai_use_new(space, block->place.stream, block->left);
    block->left = use != 0 ? use : block->left;
    return use != 0 ? TA_OK : TA_ERROR_RECORDS;
}

/* Writes down what a block that is being freed was used by last. Inside the gate. */
TAI_INLINE ta_result tai_space_record_last(tai_space *space, uint32_t index, const ta_stream *stream,
                                           const uint64_t *ticket)
{
    ta_result result = stream != NULL && space->ordered ? tai_space_record_use(space, index, *stream) : TA_OK;
    if (TAI_GRAPHS && result == TA_OK && space->parks) {
        if (space->blocks.at[index].right == 0) {
            result = tai_space_record_home(space, index);
        }
        space->unproven += space->blocks.at[index].right == TAI_RIGHT_SHARED;
    }
    return ticket != NULL ? tai_space_record_ticket(space, index, *ticket) : result;
}

/* Frees a block of a graph pool beside the pool in the usual case; 0: it is none, or not that simple. */
TAI_INLINE int tai_pool_give_beside(ta_pool *pool, const void *ptr, size_t size, const ta_stream *stream)
{
    return TAI_GRAPHS && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL && pool->hooks->give(pool, ptr, size, stream);
}

/* A scope is open: a block that is freed on a captured stream is used by that capture, and *stream is said by that. Its
   home stream may be captured as well. */
static TAI_COLD ta_result tai_pool_freed_in_scope(ta_pool *pool, void *ptr, const ta_stream **stream)
{
    ta_result result = TA_OK;
    uint64_t capture = 0;
    if (*stream != NULL && **stream < TAI_STREAM_GRAPHS && !tai_pool_is_eager(pool, **stream, &capture, &result)) {
        if (result == TA_OK) {
            result = pool->hooks->use(pool, ptr, **stream, 0);
        }
        if (result == TA_ERROR_CAPTURE || result == TA_ERROR_RECORDS) {
            return result;
        }
        *stream = NULL; /* held; or no block, which turns out later */
    }
    return pool->hooks->use(pool, ptr, 0, 1);
}

/* Before a block is freed: a capture may use it, and guards are looked at. Outside the gate. */
TAI_INLINE ta_result tai_pool_freed(ta_pool *pool, void *ptr, const ta_stream **stream)
{
    ta_result result = TA_OK;
    if (TAI_GRAPHS && TENSORALLOC_LOAD_RELAXED(&pool->scopes) != 0) {
        result = tai_pool_freed_in_scope(pool, ptr, stream);
    }
    return result == TA_OK ? tai_guard_look(pool, ptr) : result;
}

/* The long way of free. stream, if there is one: where the block was used last; size 0: not known; ticket, if there is
   one: what must have happened before it is used again. */
static TAI_NOINLINE ta_result tai_pool_free_ordered(ta_pool *pool, void *ptr, size_t size, const ta_stream *stream,
                                                    const uint64_t *ticket)
{
    tai_space *space = &pool->space;
    ta_pool *beside;
    tai_slot *slot;
    tai_holder *me;
    tai_block *block, was;
    uint32_t index;
    ta_stream home = 0;
    int later = 0;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK || ptr == NULL || (ticket == NULL && tai_pool_give_beside(pool, ptr, size, stream))) {
        return result;
    }
    result = tai_pool_freed(pool, ptr, &stream);
    if ((TAI_GRAPHS || TAI_CHECKED) && result != TA_OK) {
        return result;
    }
    memset(&was, 0, sizeof was);
    slot = space->ordered ? tai_slot_any(pool) : tai_slot_for(pool, 0);
    me = tai_slot_me(slot);
    tai_gate_enter(&space->gate, me);
    tai_pool_note_peak(pool);
    index = tai_pool_claim(pool, ptr, size, &result);
    if (index != 0) {
        block = &space->blocks.at[index];
        result = tai_space_record_last(space, index, stream, ticket);
        if (result == TA_OK) {
            was = *block;
            slot = space->ordered ? tai_slot_search(pool, 0, 0, was.place.stream) : slot;
            home = space->streams[was.place.stream].id;
            later = block->left != 0;
            tai_pool_record(pool, TA_EVENT_FREE, &was, 0);
            if (!later && !tai_guard_take(pool, index)) {
                tai_pool_give_block(pool, index, slot);
            }
        } else {
            TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_LIVE);
        }
    }
    tai_gate_leave(&space->gate, me);
    if (later) {
        result = tai_pool_give_later(pool, index, me);
        if (result != TA_OK) {
            tai_pool_record(pool, TA_EVENT_ALLOC, &was, 1); /* it is live again */
        }
    }
    beside = tai_pool_beside(pool, ptr, result);
    if (beside != NULL) { /* it goes back to where it came from, whatever stream or mode is on */
        result = tai_pool_free_ordered(beside, ptr, size, stream, ticket);
        pool->hooks->let_go(pool, beside);
        return result;
    }
    if (result != TA_OK) {
        if (!TAI_CHECKED) {
            TENSORALLOC_LOG(result, pool->name);
        }
        return tai_pool_blame(pool, result, ptr, size, NULL);
    }
    if (TAI_CHECKED && !later) {
        tai_guard_hold(pool, index);
    }
    tai_pool_event(pool, TA_EVENT_FREE, TA_OK, ptr, was.requested, was.size, home, was.tag, 0);
    if (pool->desc.cached_bytes_max != TA_UNLIMITED) {
        tai_pool_keep_cap(pool, slot);
    }
    tai_pool_debug(pool);
    return TA_OK;
}

static ta_result tai_pool_free_slow(ta_pool *pool, void *ptr, size_t size, const ta_stream *stream)
{
    return tai_pool_free_ordered(pool, ptr, size, stream, NULL);
}

/* A large block back to the heap, in one visit to the gate; 0: it goes the long way. Inlined, watched a constant. */
TAI_INLINE int tai_pool_free_at_once(ta_pool *pool, void *ptr, size_t size, int watched)
{
    tai_space *space = &pool->space;
    const tai_window *window = &pool->windows[watched ? 5 : 2];
    size_t offset = (size_t)((uintptr_t)ptr - window->base);
    tai_slot *slot;
    tai_block *block;
    uint32_t index;
    if (TAI_UNLIKELY(offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped))) {
        return 0;
    }
    slot = tai_slot_last(pool);
    if (TAI_LIKELY(slot != NULL)) {
        tai_gate_enter_hot(&space->gate, &slot->holder);
        index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
        block = &pool->at[index];
        if (TAI_LIKELY(block->addr == (uintptr_t)ptr && TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE &&
                       (size == 0 || size == block->requested))) {
            if (TAI_UNLIKELY(pool->single_slot != NULL)) {
                tai_pool_note_peak(pool);
            }
            if (watched) {
                tai_pool_record(pool, TA_EVENT_FREE, block, 0);
            }
            TAI_HIDE(space, block->addr, block->size);
            TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
            TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
            pool->count.deallocation_count++;
            pool->count.freed_bytes += block->requested;
            space->used[TAI_LARGE] -= block->size;
            (void)tai_heap_give(space, index);
            tai_gate_leave_hot(&space->gate, &slot->holder);
            return 1;
        }
        tai_gate_leave_hot(&space->gate, &slot->holder);
    }
    return 0;
}

/* A small block into this thread's cache, without the gate, where the shortest path is not enough; 0: it goes the long
   way. Inlined, watched a constant. */
TAI_INLINE int tai_pool_free_cached(ta_pool *pool, tai_slot *slot, void *ptr, size_t size, uint32_t index, int watched)
{
    tai_block *block = &pool->at[index];
    uint32_t c = block->place.class_index;
    if (TAI_LIKELY(block->addr == (uintptr_t)ptr && TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE &&
                   slot != NULL && slot->stream == block->place.stream && c != 0 && slot->room[c] != 0 &&
                   (size == 0 || size == block->requested) &&
                   (slot->cached_bytes + block->size <= slot->bytes_max || tai_passing_give(pool, slot, c)))) {
        if (watched) {
            tai_pool_record(pool, TA_EVENT_FREE, block, 0);
        }
        TAI_HIDE(&pool->space, block->addr, block->size);
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_CACHED);
        TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
        TAI_BUMP64(slot->count.deallocation_count, 1);
        TAI_BUMP64(slot->count.freed_bytes, block->requested);
        tai_slot_push(pool, slot, index);
        return 1;
    }
    return 0;
}

/* The short ways of watched pools. */
static TAI_COLD ta_result tai_pool_free_watched(ta_pool *pool, void *ptr, size_t size)
{
    int w;
    for (w = 3; w < 5 && !TAI_CHECKED; w++) {
        const tai_window *window = &pool->windows[w];
        size_t offset = (size_t)((uintptr_t)ptr - window->base);
        if (offset < TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
            uint32_t index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
            return tai_pool_free_cached(pool, tai_slot_last(pool), ptr, size, index, 1)
                       ? TA_OK : tai_pool_free_slow(pool, ptr, size, NULL);
        }
    }
    return tai_pool_free_at_once(pool, ptr, size, 1) ? TA_OK : tai_pool_free_slow(pool, ptr, size, NULL);
}

/* ---- the same with order between streams: blocks that no other stream uses */
/* With order: a large block that no other stream uses goes back to the heap, in one visit to the gate. */
static TAI_NOINLINE ta_result tai_pool_free_large_on(ta_pool *pool, void *ptr, size_t size)
{
    tai_space *space = &pool->space;
    const tai_window *window = &pool->windows[5];
    size_t offset = (size_t)((uintptr_t)ptr - window->base);
    tai_block *block;
    tai_slot *slot;
    uint32_t index;
    if (TAI_UNLIKELY(offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped))) {
        return tai_pool_free_slow(pool, ptr, size, NULL);
    }
    index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
    block = &pool->at[index];
    slot = tai_slot_guess_of(pool, block->place.stream);
    if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->ordered) != pool ||
                     slot->stream != block->place.stream)) {
        slot = (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0 ? tai_slot_search(pool, 0, 0, block->place.stream) : NULL;
        if (slot == NULL) {
            return tai_pool_free_slow(pool, ptr, size, NULL);
        }
    }
    tai_gate_enter_hot(&space->gate, slot->me);
    if (TAI_LIKELY(block->addr == (uintptr_t)ptr && TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE &&
                   block->left == 0 && (size == 0 || size == block->requested))) {
        if (TAI_UNLIKELY(pool->single_slot != NULL)) {
            tai_pool_note_peak(pool);
        }
        TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
        TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
        pool->count.deallocation_count++;
        pool->count.freed_bytes += block->requested;
        space->used[TAI_LARGE] -= block->size;
        (void)tai_heap_give(space, index);
        tai_gate_leave_hot(&space->gate, slot->me);
        return TA_OK;
    }
    tai_gate_leave_hot(&space->gate, slot->me);
    return tai_pool_free_slow(pool, ptr, size, NULL);
}

/* A small block into this thread's cache for its stream, which is not at hand, or not of the simple kind. */
static TAI_NOINLINE ta_result tai_pool_free_far(ta_pool *pool, void *ptr, size_t size, uint32_t index)
{
    int order = (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0;
    tai_slot *slot = order ? tai_slot_search(pool, 0, 0, pool->at[index].place.stream) : NULL;
    return tai_pool_free_cached(pool, slot, ptr, size, index, 0) ? TA_OK : tai_pool_free_slow(pool, ptr, size, NULL);
}

/* A small block into this thread's cache for its stream. Every instruction here counts. */
static TAI_NOINLINE ta_result tai_pool_free_on(ta_pool *pool, void *ptr, size_t size)
{
    const tai_window *window = &pool->windows[3];
    tai_slot *slot;
    tai_block *block;
    uint32_t index, c;
    size_t offset = (size_t)((uintptr_t)ptr - window->base), cached;
    if (offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
        window = &pool->windows[4];
        offset = (size_t)((uintptr_t)ptr - window->base);
        if (offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
            return tai_pool_free_large_on(pool, ptr, size);
        }
    }
    index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
    block = &pool->at[index];
    slot = tai_slot_guess_of(pool, block->place.stream);
    cached = slot->cached_bytes + block->size;
    c = block->place.class_index;
    if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->ordered) != pool || slot->stream != block->place.stream ||
                     block->addr != (uintptr_t)ptr || TENSORALLOC_LOAD_RELAXED(&block->state) != TAI_LIVE || c == 0 ||
                     cached > slot->bytes_max || (size != 0 && size != block->requested))) {
        return tai_pool_free_far(pool, ptr, size, index);
    }
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_CACHED);
    TAI_BUMP32(block->generation, 1);
    TAI_BUMP64(slot->count.deallocation_count, 1);
    TAI_BUMP64(slot->count.freed_bytes, block->requested);
    TENSORALLOC_STORE_RELAXED(&slot->cached_bytes, cached);
    block->right = slot->heads[c];
    slot->heads[c] = index;
    return TA_OK;
}

static TAI_NOINLINE ta_result tai_pool_free_large(ta_pool *pool, void *ptr, size_t size)
{
    if (TAI_LIKELY(tai_pool_free_at_once(pool, ptr, size, 0))) {
        return TA_OK;
    }
    return (TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0     ? tai_pool_free_on(pool, ptr, size)
           : (TAI_ALERTS(pool) & TAI_ALERT_WATCHED) != 0 ? tai_pool_free_watched(pool, ptr, size)
                                                    : tai_pool_free_slow(pool, ptr, size, NULL);
}

static TAI_NOINLINE ta_result tai_pool_free_small(ta_pool *pool, void *ptr, size_t size, uint32_t index)
{
    return TAI_LIKELY(tai_pool_free_cached(pool, tai_slot_last(pool), ptr, size, index, 0))
               ? TA_OK : tai_pool_free_slow(pool, ptr, size, NULL);
}

/* Every instruction here counts. */
TAI_INLINE ta_result tai_pool_free_any(ta_pool *pool, void *ptr, size_t size)
{
    const tai_window *window = &pool->windows[0];
    tai_slot *slot;
    tai_block *block;
    uint32_t index;
    size_t c, offset, capacity, requested;
    if (TAI_CHECKED) { /* one free after the other, so that of two for one block exactly one is right */
        return tai_pool_free_slow(pool, ptr, size, NULL);
    }
    offset = (size_t)((uintptr_t)ptr - window->base);
    if (offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
        window = &pool->windows[1];
        offset = (size_t)((uintptr_t)ptr - window->base);
        if (offset >= TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
            return tai_pool_free_large(pool, ptr, size);
        }
    }
    index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
    block = &pool->at[index];
    slot = tai_slot_quick(pool);
    capacity = block->size;
    requested = block->requested;
    c = block->place.class_index;
    if (TAI_UNLIKELY(TENSORALLOC_LOAD_RELAXED(&slot->quick) != pool || block->addr != (uintptr_t)ptr ||
                     TENSORALLOC_LOAD_RELAXED(&block->state) != TAI_LIVE || c == 0 ||
                     capacity + slot->cached_bytes > slot->bytes_max || (size != 0 && size != requested))) {
        return tai_pool_free_small(pool, ptr, size, index);
    }
    TAI_HIDE(&pool->space, block->addr, capacity);
    TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_CACHED);
    TAI_BUMP32(block->generation, 1);
    TAI_BUMP64(slot->count.deallocation_count, 1);
    TAI_BUMP64(slot->count.freed_bytes, requested);
    TAI_BUMP64(slot->cached_bytes, capacity);
    block->right = slot->heads[c];
    slot->heads[c] = index;
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_pool_free(ta_pool *pool, void *ptr)
{
    if (TAI_UNLIKELY(pool == NULL)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return tai_pool_free_any(pool, ptr, 0);
}

TENSORALLOC_DEF ta_result ta_pool_free_sized(ta_pool *pool, void *ptr, size_t size_bytes)
{
    if (TAI_UNLIKELY(pool == NULL)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (TAI_UNLIKELY(size_bytes == 0 && ptr != NULL)) {
        return tai_pool_blame(pool, TA_ERROR_SIZE_MISMATCH, ptr, 0, NULL);
    }
    return tai_pool_free_any(pool, ptr, size_bytes);
}

TENSORALLOC_DEF ta_result ta_pool_put(ta_pool *pool, void *ptr, size_t size_bytes)
{
    return ta_pool_free_sized(pool, ptr, size_bytes);
}

TENSORALLOC_DEF ta_result ta_pool_put_aligned(ta_pool *pool, void *ptr, size_t size_bytes, size_t alignment_bytes)
{
    if (!tai_is_power_of_two(alignment_bytes)) {
        return TAI_BAD(TA_ERROR_INVALID_ALIGNMENT);
    }
    if (((uintptr_t)ptr & (alignment_bytes - 1)) != 0) {
        return pool == NULL ? TA_ERROR_FOREIGN : tai_pool_blame(pool, TA_ERROR_FOREIGN, ptr, size_bytes, NULL);
    }
    return ta_pool_free_sized(pool, ptr, size_bytes);
}

/* ---- one live block */
static void tai_block_show(const ta_pool *pool, uint32_t index, ta_block_info *out)
{
    static const ta_block_state shown[] = {/* by TAI_VACANT to TAI_BUSY */
                                           TA_BLOCK_BUSY, TA_BLOCK_LIVE, TA_BLOCK_CACHED,
                                           TA_BLOCK_FREE, TA_BLOCK_PENDING, TA_BLOCK_BUSY};
    const tai_block *block = &pool->space.blocks.at[index];
    uint32_t state = TENSORALLOC_LOAD_RELAXED(&block->state);
    memset(out, 0, sizeof *out);
    out->ptr = (void *)block->addr;
    out->capacity_bytes = block->size;
    out->state = shown[state];
    out->stream = pool->space.streams[block->place.stream].id;
    out->id.owner = pool->id;
    out->id.index = index;
    out->id.generation = TENSORALLOC_LOAD_RELAXED(&block->generation);
    out->committed_bytes = block->size;
    if (state == TAI_FREE && (block->place.flags & TAI_FLAG_HOLES) != 0) {
        out->committed_bytes -= tai_holes_bytes(&pool->space, pool->space.regions[block->place.region], block->addr,
                                                block->addr + block->size);
    }
    if (state == TAI_LIVE) {
        out->requested_bytes = TENSORALLOC_LOAD_RELAXED(&block->requested);
        out->tag = TENSORALLOC_LOAD_RELAXED(&block->tag);
    }
}

/* The live block at ptr. Inside the gate. 0 with *result. */
static uint32_t tai_pool_live(const ta_pool *pool, const void *ptr, ta_result *result)
{
    uint32_t index = ptr == NULL ? 0 : tai_space_find(&pool->space, (uintptr_t)ptr);
    if (index == 0 || TENSORALLOC_LOAD_RELAXED(&pool->space.blocks.at[index].state) != TAI_LIVE) {
        *result = tai_space_explain(&pool->space, (uintptr_t)ptr);
        return 0;
    }
    *result = TA_OK;
    return index;
}

TENSORALLOC_DEF ta_result ta_pool_describe(ta_pool *pool, const void *ptr, ta_block_info *out)
{
    ta_result result = tai_pool_usable(pool);
    ta_pool *beside;
    tai_slot *slot;
    uint32_t index;
    if (result != TA_OK || out == NULL) {
        return result != TA_OK ? result : TA_ERROR_INVALID_ARGUMENT;
    }
    slot = tai_slot_last(pool);
    tai_gate_enter(&pool->space.gate, tai_slot_me(slot));
    index = tai_pool_live(pool, ptr, &result);
    if (index != 0) {
        tai_block_show(pool, index, out);
        if (tai_guard_padded(&pool->guard, 1) != 1) { /* the rest is the red zone */
            out->capacity_bytes = out->requested_bytes;
        }
    } else {
        memset(out, 0, sizeof *out);
        out->id.owner = pool->id;
    }
    tai_gate_leave(&pool->space.gate, tai_slot_me(slot));
    beside = tai_pool_beside(pool, ptr, result);
    if (beside != NULL) {
        result = ta_pool_describe(beside, ptr, out);
        pool->hooks->let_go(pool, beside);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD size_t ta_pool_capacity_of(ta_pool *pool, const void *ptr)
{
    ta_block_info info;
    if (TAI_CHECKED && pool != NULL && pool->disposed == 1) { /* to ask is right */
        return 0;
    }
    return ta_pool_describe(pool, ptr, &info) == TA_OK ? info.capacity_bytes : 0;
}

TENSORALLOC_DEF TAI_COLD int ta_pool_owns(ta_pool *pool, const void *ptr)
{
    ta_block_info info;
    if (TAI_CHECKED && pool != NULL && pool->disposed == 1) {
        return 0;
    }
    return ta_pool_describe(pool, ptr, &info) == TA_OK;
}

/* Whether the pointer lies in the pool's own memory. */
static TAI_COLD int tai_pool_has(ta_pool *pool, const void *ptr)
{
    ta_result why;
    tai_gate_enter(&pool->space.gate, NULL);
    (void)tai_pool_live(pool, ptr, &why);
    tai_gate_leave(&pool->space.gate, NULL);
    return why != TA_ERROR_FOREIGN;
}

/* A live block in memory of graphs that no open capture has: eager work uses it. Inside the gate. */
TAI_INLINE int tai_block_outside(const tai_space *space, const tai_block *block)
{
    return TAI_GRAPHS && space->parks && (block->right == 0 || block->right == TAI_RIGHT_SHARED);
}

/* Whether it is a block of a graph pool that a capture has which goes on: it waits for the end of that in any case. */
static TAI_COLD int tai_pool_is_captured(ta_pool *pool, const void *ptr)
{
    ta_pool *beside = tai_pool_has(pool, ptr) ? NULL : pool->hooks->find(pool, ptr);
    ta_result why;
    uint32_t index;
    int captured;
    if (beside == NULL) {
        return 0;
    }
    tai_gate_enter(&beside->space.gate, NULL);
    index = tai_pool_live(beside, ptr, &why);
    captured = index != 0 && !tai_block_outside(&beside->space, &beside->space.blocks.at[index]);
    tai_gate_leave(&beside->space.gate, NULL);
    pool->hooks->let_go(pool, beside);
    return captured;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_free_after(ta_pool *pool, void *ptr, uint64_t event)
{
    const ta_backend_vtable *backend;
    uint64_t ticket = 0;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK || ptr == NULL) {
        return result;
    }
    backend = pool->space.backend.vtable;
    if (!pool->space.ordered || backend->adopt == NULL) {
        return TA_ERROR_UNSUPPORTED;
    }
    if (TAI_GRAPHS && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL && tai_pool_is_captured(pool, ptr)) {
        ta_stream nobody = TAI_STREAM_EVENTS; /* to ask for an event of the capture would break that */
        return tai_pool_free_slow(pool, ptr, 0, &nobody);
    }
    result = backend->adopt(pool->space.backend.self, event, &ticket);
    if (result == TA_OK) {
        result = tai_pool_free_ordered(pool, ptr, 0, NULL, &ticket);
        if (result != TA_OK) {
            tai_space_drop(&pool->space, ticket);
        }
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_retire_stream(ta_pool *pool, ta_stream stream)
{
    tai_space *space;
    tai_slot *slot;
    uint32_t s;
    uint64_t ticket = 0;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK || stream == 0 || stream >= TAI_STREAM_GRAPHS) {
        return result != TA_OK ? result : TA_ERROR_INVALID_ARGUMENT;
    }
    space = &pool->space;
    if (!space->ordered) {
        return TA_OK;
    }
    (void)ta_pool_thread_flush(pool);
    result = space->backend.vtable->mark(space->backend.self, stream, &ticket);
    if (result != TA_OK) {
        return result;
    }
    if (TAI_GRAPHS && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        pool->hooks->retire(pool, stream);
    }
    tai_gate_enter(&space->gate, NULL);
    for (s = 1; s < space->stream_count && (space->streams[s].id != stream || space->streams[s].retired); s++) {
    }
    if (s < space->stream_count) {
        space->streams[s].retired = 1;
        space->streams[s].last_ticket = ticket;
        TENSORALLOC_STORE_RELEASE(&pool->retired_count, pool->retired_count + 1);
        for (slot = pool->slots; slot != NULL; slot = slot->pool_next) {
            TENSORALLOC_STORE_RELAXED(&slot->ordered, (ta_pool *)NULL);
        }
        tai_slot_retire(pool, stream);
        pool->slot0.retired_seen = pool->retired_count; /* the default stream of a pool for one thread stays */
    }
    tai_gate_leave(&space->gate, NULL);
    if (s == space->stream_count) { /* never seen */
        tai_space_drop(space, ticket);
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_record_use(ta_pool *pool, void *ptr, ta_stream stream)
{
    ta_result result = tai_pool_usable(pool);
    uint32_t index;
    uint64_t capture = 0;
    if (result != TA_OK) {
        return result;
    }
    if (TAI_GRAPHS && !tai_pool_is_eager(pool, stream, &capture, &result)) {
        if (result == TA_OK) { /* not until the work is done: as long as it can be replayed */
            result = TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL ? pool->hooks->use(pool, ptr, stream, 0)
                                                                    : TA_ERROR_CAPTURE;
        }
        return tai_pool_blame(pool, result, ptr, 0, NULL);
    }
    tai_gate_enter(&pool->space.gate, NULL);
    index = tai_pool_live(pool, ptr, &result);
    if (index != 0 && pool->space.ordered) {
        result = tai_space_record_use(&pool->space, index, stream);
    }
    tai_gate_leave(&pool->space.gate, NULL);
    if (result != TA_OK) {
        ta_pool *beside = tai_pool_beside(pool, ptr, result);
        if (beside != NULL) {
            result = ta_pool_record_use(beside, ptr, stream);
            pool->hooks->let_go(pool, beside);
        }
    }
    return tai_pool_blame(pool, result, ptr, 0, NULL);
}

/* Gives the end of a live block back where that is more than slack. Inside the gate. */
static void tai_pool_shrink(ta_pool *pool, uint32_t index, size_t size)
{
    tai_space *space = &pool->space;
    tai_block *block = &space->blocks.at[index];
    uint32_t rest;
    if (block->place.class_index != 0 || block->left != 0 || block->size <= size ||
        tai_block_outside(space, block) || /* eager work may use the end, and nobody would wait for it */
        block->size - size <= space->slack || !tai_blocks_ensure(&space->blocks, 1)) {
        return;
    }
    rest = tai_heap_add(space, space->regions[block->place.region], block->place.region, block->addr + size,
                        block->size - size, index, block->next);
    space->blocks.at[rest].place.stream = block->place.stream;
    TAI_HIDE(space, block->addr + size, block->size - size);
    block->size = size;
    tai_heap_put(space, rest);
}

/* Grows a live block into what follows it. Inside the gate. 0: not possible without the backend. */
static int tai_pool_expand(ta_pool *pool, uint32_t index, size_t size)
{
    tai_space *space = &pool->space;
    tai_block *at = space->blocks.at, *block = &at[index];
    tai_region *region = space->regions[block->place.region];
    size_t more = size - block->size;
    uint32_t next = block->next;
    if (tai_block_outside(space, block) &&
        (space->capturing != 0 ? next != 0 || region->top < region->touched_end
                               : block->addr + block->size < region->floor)) { /* what follows may be in a graph */
        return 0;
    }
    if (next == 0) { /* the tail */
        if (region->is_segment || region->commit_end - region->top < more ||
            tai_holes_any(space, region, region->top, region->top + more)) {
            return 0;
        }
        region->top += more;
    } else {
        uintptr_t from = at[next].addr;
        if (TENSORALLOC_LOAD_RELAXED(&at[next].state) != TAI_FREE || at[next].size < more ||
            (at[next].place.stream != 0 && at[next].place.stream != block->place.stream) ||
            !tai_blocks_ensure(&space->blocks, 1) ||
            ((at[next].place.flags & TAI_FLAG_HOLES) != 0 &&
             tai_holes_any(space, region, from,
                           from + (at[next].size - more <= space->slack ? at[next].size : more)))) {
            return 0;
        }
        tai_bins_remove(space, tai_bins_of(space, &at[next]), next);
        TENSORALLOC_STORE_RELAXED(&at[next].state, (uint32_t)TAI_BUSY);
        tai_heap_carve(space, next, from, more);
        more = at[next].size;
        block->next = at[next].next;
        if (block->next != 0) {
            at[block->next].prev = index;
        } else {
            region->last = index;
        }
        tai_block_recycle(&space->blocks, next);
    }
    TAI_SHOW(space, block->addr + block->size, more);
    block->size += more;
    block->place.class_index = 0;
    space->used[block->place.heap] += more;
    if (block->addr + block->size > region->touched_end) {
        region->touched_end = block->addr + block->size;
    }
    return 1;
}

/* Commits more tail behind the last block of a range, so that it can grow to size. Outside the gate. */
static TAI_COLD ta_result tai_pool_extend_tail(ta_pool *pool, const void *ptr, size_t size, tai_holder *me,
                                               size_t *out_bytes)
{
    tai_space *space = &pool->space;
    tai_region *region = NULL;
    uintptr_t end = 0, target = 0;
    uint32_t index;
    ta_result result = TA_ERROR_WOULD_MOVE, ignored;
    if (!tai_turn_take(space, me)) {
        return result;
    }
    tai_gate_enter(&space->gate, me);
    index = tai_pool_live(pool, ptr, &ignored);
    if (index != 0 && space->blocks.at[index].next == 0) {
        uintptr_t addr = space->blocks.at[index].addr;
        region = space->regions[space->blocks.at[index].place.region];
        if (region->is_segment || size > region->size - (size_t)(addr - region->base)) {
            region = NULL;
        } else {
            target = addr + size;
            end = tai_growth_end(space, region, target);
        }
    }
    tai_gate_leave(&space->gate, me);
    if (region != NULL) {
        result = TA_OK;
        if (end > region->commit_end) {
            uintptr_t exact = region->base + tai_round_up((size_t)(target - region->base), space->granularity);
            *out_bytes = (size_t)(end - region->commit_end);
            result = tai_region_commit(space, region, end, me);
            if (result != TA_OK && exact < end && exact > region->commit_end) {
                *out_bytes = (size_t)(exact - region->commit_end);
                result = tai_region_commit(space, region, exact, me);
            }
        }
    }
    tai_turn_end(space, me);
    return result;
}

/* One try to resize in place. Inside the gate. */
static ta_result tai_pool_resize_once(ta_pool *pool, const void *ptr, size_t old_bytes, size_t new_bytes,
                                      size_t *out_was)
{
    tai_space *space = &pool->space;
    ta_result result;
    uint32_t index = tai_pool_live(pool, ptr, &result);
    tai_block *block = &space->blocks.at[index];
    size_t size;
    if (index == 0) {
        return result;
    }
    if (old_bytes != 0 && old_bytes != block->requested) {
        return TA_ERROR_SIZE_MISMATCH;
    }
    tai_pool_note_peak(pool);
    size = tai_round_up(tai_guard_padded(&pool->guard, new_bytes), space->granule);
    if (size < space->heaps[block->place.heap].block_bytes_min) {
        size = space->heaps[block->place.heap].block_bytes_min;
    }
    if (size > block->size && !tai_pool_expand(pool, index, size)) {
        return TA_ERROR_WOULD_MOVE;
    }
    *out_was = block->requested;
    tai_pool_shrink(pool, index, size);
    tai_count_resize(&pool->count, block->requested, new_bytes);
    block->requested = new_bytes;
    tai_guard_paint(pool, index, new_bytes);
    tai_pool_record(pool, TA_EVENT_RESIZE, block, 0);
    pool->resize_count++;
    tai_pool_note_peak(pool);
    return TA_OK;
}

/* Pools whose memory reads as zero: what a block has grown by, too. On failure the block is as large as before. */
static TAI_COLD ta_result tai_pool_zero_more(ta_pool *pool, void *ptr, size_t was, size_t is, tai_holder *me)
{
    ta_block_info info;
    size_t ignored;
    ta_result result = ta_pool_describe(pool, ptr, &info);
    if (TAI_GRAPHS && result == TA_OK && pool->space.backend.vtable->capture != NULL) {
        const tai_block *block = &pool->space.blocks.at[info.id.index];
        uint64_t capture = 0;
        result = pool->space.backend.vtable->capture(pool->space.backend.self, info.stream, &capture);
        if (capture != 0 && (!pool->space.parks || tai_block_outside(&pool->space, block))) {
            result = TA_ERROR_CAPTURE; /* each replay would write zeros into it */
        }
    }
    if (result == TA_OK) {
        result = tai_backend_zero(pool->space.backend, (char *)ptr + was, is - was, info.stream);
    }
    if (result != TA_OK) {
        tai_gate_enter(&pool->space.gate, me);
        (void)tai_pool_resize_once(pool, ptr, 0, was, &ignored);
        tai_gate_leave(&pool->space.gate, me);
    }
    return result;
}

static ta_result tai_pool_resize(ta_pool *pool, void *ptr, size_t old_bytes, size_t new_bytes)
{
    ta_result result = tai_pool_usable(pool);
    ta_pool *beside;
    tai_slot *slot;
    tai_holder *me;
    size_t bytes = 0, was = 0;
    if (result != TA_OK || ptr == NULL || new_bytes == 0 || new_bytes > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return result != TA_OK ? result : ptr == NULL ? TA_ERROR_INVALID_ARGUMENT
             : new_bytes == 0 ? TA_ERROR_INVALID_SIZE : TA_ERROR_OVERFLOW;
    }
    result = tai_guard_look(pool, ptr);
    if (TAI_CHECKED && result != TA_OK) {
        return result;
    }
    slot = pool->space.ordered ? tai_slot_any(pool) : tai_slot_for(pool, 0);
    me = tai_slot_me(slot);
    tai_gate_enter(&pool->space.gate, me);
    result = tai_pool_resize_once(pool, ptr, old_bytes, new_bytes, &was);
    tai_gate_leave(&pool->space.gate, me);
    beside = tai_pool_beside(pool, ptr, result);
    if (beside != NULL) {
        result = tai_pool_resize(beside, ptr, old_bytes, new_bytes);
        pool->hooks->let_go(pool, beside);
        return result;
    }
    if (result == TA_ERROR_WOULD_MOVE && !TENSORALLOC_LOAD_RELAXED(&pool->sealed) &&
        tai_pool_extend_tail(pool, ptr, tai_guard_padded(&pool->guard, new_bytes), me, &bytes) == TA_OK) {
        tai_gate_enter(&pool->space.gate, me);
        result = tai_pool_resize_once(pool, ptr, old_bytes, new_bytes, &was);
        tai_gate_leave(&pool->space.gate, me);
        if (bytes != 0) {
            tai_pool_event(pool, TA_EVENT_GROW, TA_OK, NULL, bytes, 0, 0, NULL, 0);
        }
    }
    if (result == TA_OK) {
        if (pool->desc.zeroed && new_bytes > was) {
            result = tai_pool_zero_more(pool, ptr, was, new_bytes, me);
        }
        tai_pool_event(pool, TA_EVENT_RESIZE, TA_OK, ptr, new_bytes, 0, 0, NULL, 0);
    }
    if ((result == TA_OK || bytes != 0) && pool->desc.cached_bytes_max != TA_UNLIMITED) {
        tai_pool_keep_cap(pool, slot);
    }
    tai_pool_debug(pool);
    return tai_pool_blame(pool, result, ptr, old_bytes, NULL);
}

TENSORALLOC_DEF ta_result ta_pool_resize_in_place(ta_pool *pool, void *ptr, size_t new_bytes)
{
    return tai_pool_resize(pool, ptr, 0, new_bytes);
}

/* Frees a block that the caller never saw, so that the counters do not show it. */
static TAI_COLD void tai_pool_take_back(ta_pool *pool, void *ptr, size_t requested)
{
    if (ta_pool_free(pool, ptr) == TA_OK) {
        tai_gate_enter(&pool->space.gate, NULL);
        pool->count.allocation_count--;
        pool->count.deallocation_count--;
        pool->count.allocated_bytes -= requested;
        pool->count.freed_bytes -= requested;
        tai_gate_leave(&pool->space.gate, NULL);
    }
}

/* The alignment a live block of the caller's was asked for. */
static size_t tai_pool_alignment_of(ta_pool *pool, const void *ptr, const ta_block_info *info)
{
    ta_pool *beside = TAI_GRAPHS && info->id.owner != pool->id ? tai_pool_beside(pool, ptr, TA_ERROR_FOREIGN) : NULL;
    const ta_pool *owner = beside != NULL ? beside : pool;
    uint32_t shift = (uint32_t)owner->space.blocks.at[info->id.index].place.flags >> TAI_FLAG_ALIGNMENT_SHIFT;
    if (beside != NULL) {
        pool->hooks->let_go(pool, beside);
    }
    return shift == 0 ? 0 : (size_t)1 << shift;
}

TENSORALLOC_DEF void *ta_pool_realloc(ta_pool *pool, void *ptr, size_t new_bytes, ta_result *result)
{
    ta_block_info info;
    ta_request request;
    ta_result why;
    void *moved;
    if (ptr == NULL) {
        return ta_pool_alloc(pool, new_bytes, result);
    }
    why = tai_pool_resize(pool, ptr, 0, new_bytes);
    if (why == TA_OK) {
        if (result != NULL) {
            *result = TA_OK;
        }
        return ptr;
    }
    if (why != TA_ERROR_WOULD_MOVE) {
        return tai_fail_null(why, result);
    }
    why = ta_pool_describe(pool, ptr, &info);
    if (why != TA_OK) {
        return tai_fail_null(why, result);
    }
    memset(&request, 0, sizeof request);
    request.size_bytes = new_bytes;
    request.alignment_bytes = tai_pool_alignment_of(pool, ptr, &info);
    request.stream = info.stream;
    request.tag = info.tag;
    moved = tai_pool_alloc_request(pool, &request, result);
    if (moved == NULL) {
        return NULL;
    }
    why = tai_backend_copy(pool->space.backend, moved, ptr,
                           info.requested_bytes < new_bytes ? info.requested_bytes : new_bytes, info.stream);
    if (why == TA_OK) {
        why = ta_pool_free(pool, ptr);
    }
    if (why != TA_OK) { /* not copied, or a stream that uses the old block could not be marked: that one stays */
        tai_pool_take_back(pool, moved, new_bytes);
        return tai_fail_null(why, result);
    }
    return moved;
}

/* ---- giving back */
TENSORALLOC_DEF TAI_COLD ta_result ta_pool_thread_flush(ta_pool *pool)
{
    ta_result result = tai_pool_usable(pool);
    if (result == TA_OK) {
        (void)tai_pool_flush_thread(pool);
        (void)tai_guard_release(pool, 0);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_trim(ta_pool *pool, size_t keep_bytes, size_t *out_released_bytes)
{
    ta_result result = ta_pool_thread_flush(pool);
    tai_slot *slot;
    size_t held, released;
    if (out_released_bytes != NULL) {
        *out_released_bytes = 0;
    }
    if (result != TA_OK) {
        return result;
    }
    slot = tai_slot_last(pool);
    (void)tai_pool_collect(pool);
    if (pool->space.ordered) {
        result = tai_space_synchronize(&pool->space, tai_slot_me(slot));
    }
    tai_gate_enter(&pool->space.gate, tai_slot_me(slot));
    held = tai_pool_thread_cached(pool);
    tai_gate_leave(&pool->space.gate, tai_slot_me(slot));
    released = tai_pool_trim(pool, TAI_ALL_HEAPS, keep_bytes > held ? keep_bytes - held : 0, 1, slot);
    if (out_released_bytes != NULL) {
        *out_released_bytes = released;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_empty_cache(ta_pool *pool)
{
    return ta_pool_trim(pool, 0, NULL);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_seal(ta_pool *pool, int sealed)
{
    ta_result result = tai_pool_usable(pool);
    if (result == TA_OK) {
        tai_gate_enter(&pool->space.gate, NULL);
        TENSORALLOC_STORE_RELAXED(&pool->sealed, sealed != 0);
        tai_gate_leave(&pool->space.gate, NULL);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_clear(ta_pool *pool)
{
    ta_result result = tai_pool_usable(pool), one;
    uint32_t index, end;
    if (result != TA_OK) {
        return result;
    }
    end = pool->space.blocks.end;
    for (index = 1; index < end; index++) {
        tai_block *block = &pool->space.blocks.at[index];
        if (TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE) {
            one = tai_pool_free_slow(pool, (void *)block->addr, 0, NULL);
            result = result == TA_OK ? one : result;
        }
    }
    return result;
}

/* ---- walks */
#define TAI_WALK_BATCH 64

/* Copies up to TAI_WALK_BATCH blocks of a region from address *from on. Returns how many; *from is where to go on,
   0 at the end. hint: the record at *from, if it is still there. */
static TAI_COLD int tai_walk_batch(ta_pool *pool, uint32_t region_index, uintptr_t *from, uint32_t *hint,
                                   ta_block_info *out)
{
    const tai_space *space = &pool->space;
    const tai_block *at = space->blocks.at;
    int count = 0;
    uint32_t index = 0;
    tai_gate_enter(&pool->space.gate, NULL);
    if (region_index < space->region_count && space->regions[region_index]->is_live) {
        index = *hint;
        if (index == 0 || TENSORALLOC_LOAD_RELAXED(&at[index].state) == TAI_VACANT ||
            at[index].place.region != region_index || at[index].addr != *from) {
            for (index = space->regions[region_index]->first; index != 0 && at[index].addr < *from;
                 index = at[index].next) {
            }
        }
        for (; index != 0 && count < TAI_WALK_BATCH; index = at[index].next) {
            tai_block_show(pool, index, &out[count++]);
        }
    }
    *from = index != 0 ? at[index].addr : 0;
    *hint = index;
    tai_gate_leave(&pool->space.gate, NULL);
    return count;
}

static TAI_COLD ta_result tai_pool_walk(ta_pool *pool, ta_walk_fn fn, void *user, int live_only)
{
    ta_block_info batch[TAI_WALK_BATCH];
    ta_result result = tai_pool_usable(pool);
    uint32_t region, region_count;
    if (result != TA_OK || fn == NULL) {
        return result != TA_OK ? result : TA_ERROR_INVALID_ARGUMENT;
    }
    tai_gate_enter(&pool->space.gate, NULL);
    region_count = pool->space.region_count;
    tai_gate_leave(&pool->space.gate, NULL);
    for (region = 0; region < region_count; region++) {
        uintptr_t from = 0;
        uint32_t hint = 0;
        do {
            int i, count = tai_walk_batch(pool, region, &from, &hint, batch);
            for (i = 0; i < count; i++) {
                if ((!live_only || batch[i].state == TA_BLOCK_LIVE) && fn(user, &batch[i]) != 0) {
                    return TA_OK;
                }
            }
        } while (from != 0);
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_walk(ta_pool *pool, ta_walk_fn fn, void *user)
{
    return tai_pool_walk(pool, fn, user, 0);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_for_each_live(ta_pool *pool, ta_walk_fn fn, void *user)
{
    return tai_pool_walk(pool, fn, user, 1);
}

/* ---- the public check */
TENSORALLOC_DEF TAI_COLD ta_result ta_pool_check(ta_pool *pool)
{
    int sound;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK) {
        return result;
    }
    tai_gate_enter(&pool->space.gate, NULL);
    sound = tai_pool_sound(pool);
    tai_gate_leave(&pool->space.gate, NULL);
    return sound ? tai_guard_check(pool, 0) : TA_ERROR_CORRUPT;
}

/* ---- statistics */
TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_failure(ta_pool *pool, ta_failure *out)
{
    if (pool == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!pool->disposed && tai_pool_forked(pool)) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&pool->space.gate, NULL);
    *out = pool->failure;
    tai_gate_leave(&pool->space.gate, NULL);
    return TA_OK;
}

/* Allocations that thread caches served: what slots counted, those that are gone included. Inside the gate. */
static TAI_COLD uint64_t tai_pool_thread_hits(const ta_pool *pool)
{
    return tai_pool_count(pool).allocation_count - pool->count.allocation_count + pool->thread_hit_base;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_stats(ta_pool *pool, ta_stats *out)
{
    const tai_space *space;
    tai_counters count;
    tai_slot *slot;
    if (pool == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    if (TAI_CHECKED && pool->disposed == 2) {
        return tai_pool_told(pool, TA_ERROR_DISPOSED);
    }
    space = &pool->space;
    if (!pool->disposed && tai_pool_forked(pool)) {
        return TA_ERROR_FORKED;
    }
    slot = tai_slot_last(pool);
    tai_gate_enter(&pool->space.gate, tai_slot_me(slot));
    tai_pool_note_peak(pool);
    count = tai_pool_count(pool);
    out->thread_cached_bytes = tai_pool_thread_cached(pool);
    out->reserved_bytes = space->reserved;
    out->in_use_bytes = tai_space_used(space) - out->thread_cached_bytes;
    if (out->in_use_bytes > out->reserved_bytes) { /* pages are on their way back to a block at this moment */
        out->in_use_bytes = out->reserved_bytes;
    }
    out->cached_bytes = out->reserved_bytes - out->in_use_bytes;
    out->requested_bytes = (size_t)(count.allocated_bytes - count.freed_bytes);
    out->wasted_bytes = out->in_use_bytes - out->requested_bytes;
    out->live_count = (size_t)(count.allocation_count - count.deallocation_count);
    out->pending_bytes = space->pending_bytes;
    out->address_range_bytes = space->address_range_bytes;
    out->record_bytes = tai_space_record_bytes(space) + sizeof *pool;
    out->peak_reserved_bytes = space->peak_reserved;
    out->peak_in_use_upper_bytes = pool->peak_in_use;
    out->allocation_count = count.allocation_count;
    out->deallocation_count = count.deallocation_count;
    out->allocated_bytes = count.allocated_bytes;
    out->freed_bytes = count.freed_bytes;
    out->miss_grow_count = pool->miss_grow_count;
    out->miss_recommit_count = pool->miss_recommit_count;
    out->miss_count = pool->miss_grow_count + pool->miss_recommit_count;
    out->hit_count = count.allocation_count - out->miss_count;
    out->thread_hit_count = tai_pool_thread_hits(pool);
    out->steal_count = space->steal_count;
    out->resize_count = pool->resize_count;
    out->failure_count = pool->failure_count;
    out->failure_limit_count = pool->failure_limit_count;
    out->failure_sealed_count = pool->failure_sealed_count;
    out->failure_not_cached_count = pool->failure_not_cached_count;
    out->trim_count = space->trim_count;
    out->trimmed_bytes = space->trimmed_bytes;
    tai_gate_leave(&pool->space.gate, tai_slot_me(slot));
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_reset_peaks(ta_pool *pool)
{
    if (pool == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!pool->disposed && tai_pool_forked(pool)) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&pool->space.gate, pool->single_slot != NULL ? &pool->slot0.holder : NULL);
    pool->space.peak_reserved = pool->space.reserved;
    pool->slot0.cached_low = pool->slot0.cached_bytes;
    pool->peak_in_use = tai_space_used(&pool->space) - (pool->single_slot != NULL ? pool->slot0.cached_bytes : 0);
    tai_gate_leave(&pool->space.gate, pool->single_slot != NULL ? &pool->slot0.holder : NULL);
    return TA_OK;
}

/* Bucket of a capacity. Pure. */
static int tai_bucket_of(size_t capacity)
{
    uint32_t high = capacity < 64 ? 6 : tai_high_bit((uint64_t)capacity);
    return high - 6 < TA_BUCKET_COUNT - 1 ? (int)(high - 6) : TA_BUCKET_COUNT - 1;
}

typedef struct tai_bucket_walk {
    ta_bucket_stats *out;
    int bucket;
} tai_bucket_walk;

static TAI_COLD int tai_bucket_visit(void *user, const ta_block_info *block)
{
    const tai_bucket_walk *walk = (const tai_bucket_walk *)user;
    if (tai_bucket_of(block->capacity_bytes) == walk->bucket) {
        if (block->state == TA_BLOCK_LIVE) {
            walk->out->live_count++;
            walk->out->live_bytes += block->capacity_bytes;
        } else {
            walk->out->cached_count++;
            walk->out->cached_bytes += block->committed_bytes;
        }
    }
    return 0;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_bucket_stats(ta_pool *pool, int bucket_index, ta_bucket_stats *out)
{
    tai_bucket_walk walk;
    ta_result result;
    uint32_t r;
    if (pool == NULL || out == NULL || bucket_index < 0 || bucket_index >= TA_BUCKET_COUNT) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    out->size_min_bytes = (size_t)64 << bucket_index;
    out->size_max_bytes = bucket_index == TA_BUCKET_COUNT - 1 ? TA_UNLIMITED : ((size_t)128 << bucket_index) - 1;
    walk.out = out;
    walk.bucket = bucket_index;
    result = tai_pool_walk(pool, tai_bucket_visit, &walk, 0);
    if (result != TA_OK) {
        return result;
    }
    tai_gate_enter(&pool->space.gate, NULL);
    for (r = 0; r < pool->space.region_count; r++) { /* what lies free at the end of a range */
        const tai_region *region = pool->space.regions[r];
        size_t size = (size_t)(region->commit_end - region->top);
        if (region->is_live && region->commit_end > region->top && tai_bucket_of(size) == bucket_index) {
            out->cached_count++;
            out->cached_bytes += size;
        }
    }
    tai_gate_leave(&pool->space.gate, NULL);
    return result;
}

/* ---- life */
TENSORALLOC_DEF TAI_COLD ta_pool_desc ta_pool_desc_spec(void)
{
    ta_pool_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.cached_bytes_max = (size_t)64 << 20;
    desc.buffers_per_bucket_max = 8;
    desc.classes_per_doubling = 1;
    return desc;
}

/* Every 0 becomes what it stands for. */
static TAI_COLD ta_result tai_pool_resolve(const ta_pool_desc *desc, ta_pool_desc *out)
{
    memset(out, 0, sizeof *out);
    if (desc != NULL) {
        *out = *desc;
    }
    if (out->cached_bytes_max == 0) {
        out->cached_bytes_max = TA_UNLIMITED;
    }
    if (out->buffers_per_bucket_max == 0) {
        out->buffers_per_bucket_max = TA_UNLIMITED;
    }
    if (out->thread_cache_bytes == 0) {
        out->thread_cache_bytes = (size_t)2 << 20;
    }
    if (out->thread_cache_block_bytes == 0) {
        out->thread_cache_block_bytes = 65536;
    }
    if (out->range_bytes == 0) {
        out->range_bytes = tai_range_default();
    }
    if (out->block_count_max == 0) {
        out->block_count_max = tai_block_count_default();
    }
    if (out->classes_per_doubling == 0) {
        out->classes_per_doubling = 8;
    }
    if (out->huge_pages == TA_HUGE_PAGES_DEFAULT) {
        out->huge_pages = TA_HUGE_PAGES_ON;
    }
    if (out->limit_bytes == 0) {
        out->limit_bytes = TA_UNLIMITED;
    }
    if (out->name == NULL) {
        out->name = "pool";
    }
    if (out->thread_cache_block_bytes > 65536 || out->thread_cache_block_bytes < 1024 ||
        out->classes_per_doubling > 8 || !tai_is_power_of_two(out->classes_per_doubling) ||
        out->block_count_max < 64 || out->block_count_max > 0xfffffff0u || (int)out->huge_pages < 0 ||
        (int)out->huge_pages > 2 || (uint32_t)out->capture_check > (uint32_t)TA_CAPTURE_SCOPES_ONLY ||
        out->initial_bytes > PTRDIFF_MAX) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return TA_OK;
}

/* Size classes of thread caches: by granules, rounded up to classes_per_doubling steps. */
static TAI_COLD void tai_pool_make_classes(ta_pool *pool)
{
    uint32_t bits = tai_high_bit(pool->desc.classes_per_doubling), units, c = 0;
    uint32_t end = (uint32_t)(pool->desc.thread_cache_block_bytes >> pool->space.granule_shift);
    for (units = 1; units <= end; units++) {
        uint32_t high = tai_high_bit(units), step = high > bits ? 1u << (high - bits) : 1u;
        uint32_t rounded = (units + step - 1) & ~(step - 1);
        size_t bytes = (size_t)rounded << pool->space.granule_shift;
        if (rounded > end) {
            bytes = (size_t)end << pool->space.granule_shift;
        }
        if (c == 0 || pool->class_bytes[c] != bytes) {
            pool->class_bytes[++c] = bytes;
        }
        memset(&pool->class_of[((size_t)(units - 1) << pool->space.granule_shift) / 64], (int)c,
               pool->space.granule / 64);
    }
    pool->class_count = c + 1;
    pool->cacheable_bytes = pool->desc.disable_thread_caches || pool->observed || pool->desc.zeroed ||
                                    tai_guard_is_on(pool)
                          ? 0 : (size_t)end << pool->space.granule_shift;
}

static TAI_COLD void tai_copy_name(char *out, const char *name)
{
    size_t length = strlen(name);
    length = length > 31 ? 31 : length;
    memcpy(out, name, length);
    out[length] = 0;
}

/* Commits bytes ahead: a 64th for tiny blocks, an eighth for middle ones (at most 1 and 8 MiB), the rest for large
   ones. */
static TAI_COLD ta_result tai_pool_reserve_initial(ta_pool *pool, size_t bytes)
{
    size_t share[TAI_HEAPS] = {0, 0, 0}, page = pool->space.granularity, got = 0, sum = 0;
    int heap;
    ta_result result = TA_OK;
    if (!pool->space.undivided) {
        share[TAI_TINY] = tai_round_down(bytes / 64 > ((size_t)1 << 20) ? (size_t)1 << 20 : bytes / 64, page);
        share[TAI_MIDDLE] = tai_round_down(bytes / 8 > ((size_t)8 << 20) ? (size_t)8 << 20 : bytes / 8, page);
    }
    if (pool->space.tiny == TAI_MIDDLE) {
        share[TAI_MIDDLE] += share[TAI_TINY];
        share[TAI_TINY] = 0;
    }
    for (heap = TAI_TINY; heap <= TAI_LARGE && result == TA_OK; heap++) { /* commits may come in larger steps */
        if (heap == TAI_LARGE) {
            share[heap] = sum < bytes ? tai_round_up(bytes - sum, pool->space.granule) : 0;
        }
        if (share[heap] != 0) {
            result = tai_space_grow(&pool->space, heap, share[heap], pool->space.granule, 0, NULL, &got);
            sum += got;
        }
    }
    if (sum != 0) {
        tai_pool_event(pool, TA_EVENT_GROW, result, NULL, sum, 0, 0, NULL, 0);
    }
    return result;
}

/* A region that free looks at without the gate. */
static TAI_COLD void tai_pool_open_window(tai_window *window, tai_region *region)
{
    if (region != NULL) {
        window->base = region->base;
        window->map = region->map;
        window->map_shift = region->map_shift;
        window->mapped = region->mapped;
        region->window = window;
    }
}

/* Who sees what: which paths are open. */
static TAI_COLD void tai_pool_open_paths(ta_pool *pool)
{
    const ta_pool_desc *desc = &pool->desc;
    int capture = pool->space.ordered && pool->space.backend.vtable->capture != NULL &&
                  desc->capture_check == TA_CAPTURE_STRICT;
    int first = pool->space.ordered && pool->space.backend.vtable->capture != NULL && !capture;
    int watched = !pool->observed && (desc->trace != NULL || desc->tag_blocks);
    int plain = !pool->observed && !desc->zeroed && !pool->space.ordered && !tai_guard_is_on(pool);
    int order = !pool->observed && !desc->zeroed && pool->space.ordered && !tai_guard_is_on(pool) && !watched;
    int w = watched || order ? 3 : 0;
    pool->alert = (capture ? TAI_ALERT_CAPTURE : 0) | (pool->observed || watched ? TAI_ALERT_TAG : 0) |
                  (watched ? TAI_ALERT_WATCHED : 0) | (watched && plain ? TAI_ALERT_LARGE : 0) |
                  (desc->trace != NULL || desc->tag_blocks ? TAI_ALERT_COPY : 0) | (order ? TAI_ALERT_ORDER : 0) |
                  (first ? TAI_ALERT_FIRST : 0);
    pool->plain = plain && !watched;
    pool->hot_bytes = pool->space.ordered || watched ? 0 : pool->cacheable_bytes;
    pool->watched_bytes = capture || !watched ? 0 : pool->cacheable_bytes;
    pool->large_above = watched ? 0 : order ? TA_UNLIMITED : desc->thread_cache_block_bytes;
    tai_pool_open_window(&pool->windows[w], pool->space.primary[pool->space.undivided ? TAI_LARGE : TAI_TINY]);
    tai_pool_open_window(&pool->windows[w + 1], pool->space.primary[TAI_MIDDLE]);
    if ((plain || order) && desc->cached_bytes_max == TA_UNLIMITED && !pool->space.undivided) {
        tai_pool_open_window(&pool->windows[w + 2], pool->space.primary[TAI_LARGE]);
    }
    if (desc->trace != NULL) {
        pool->trace_source = tai_trace_source(desc->trace, pool->name);
        tai_trace_join(desc->trace, 1);
    }
}

static TAI_COLD void tai_pool_free_object(ta_pool *pool)
{
    tai_space_free_records(&pool->space);
    if (pool->space.budget_owned) {
        (void)ta_budget_destroy(pool->space.budget);
    }
    if (TAI_GRAPHS) {
        TENSORALLOC_FREE(pool->graphs);
    }
    tai_guard_mark_gone(pool);
    tai_bury(pool);
}

static TAI_COLD void tai_pool_space_desc(const ta_pool_desc *desc, tai_space_desc *out)
{
    memset(out, 0, sizeof *out);
    out->backend = desc->backend;
    out->budget = desc->budget;
    out->limit = desc->limit_bytes == TA_UNLIMITED ? 0 : desc->limit_bytes;
    out->small_bytes = desc->thread_cache_block_bytes;
    out->range_bytes = desc->range_bytes;
    out->slack = desc->slack_bytes_max;
    out->block_count_max = desc->block_count_max;
    out->huge_pages = desc->huge_pages == TA_HUGE_PAGES_ON;
    out->disable_ranges = desc->disable_ranges;
    out->stealing = !desc->disable_stealing;
    out->single_threaded = desc->single_threaded;
}

/* What the memory of a graph pool has that no pool of the program's has. */
typedef struct tai_pool_kind {
    int parks;
    size_t (*reclaim)(void *self, size_t want_bytes);
    void *reclaim_self;
} tai_pool_kind;

static TAI_COLD ta_result tai_pool_make(const ta_pool_desc *desc, const tai_pool_kind *kind, ta_pool **out)
{
    ta_pool *pool;
    tai_space_desc space_desc;
    ta_pool_desc resolved;
    ta_result result;
    int ok;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    result = tai_pool_resolve(desc, &resolved);
    if (result != TA_OK) {
        return result;
    }
    pool = (ta_pool *)TENSORALLOC_MALLOC(sizeof *pool);
    if (pool == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(pool, 0, sizeof *pool);
    pool->desc = resolved;
    tai_copy_name(pool->name, resolved.name);
    pool->desc.name = pool->name;
    tai_pool_space_desc(&resolved, &space_desc);
    space_desc.parks = space_desc.undivided = kind->parks;
    result = tai_space_init(&pool->space, &space_desc);
    if (result != TA_OK) {
        TENSORALLOC_FREE(pool);
        return result;
    }
    pool->desc.backend = pool->space.backend;
    pool->observed = resolved.on_event != NULL;
#ifdef TENSORALLOC_CHECKED
    pool->guard.on = kind->parks ? 0 : tai_guard_mode(&pool->space.info);
#endif
    pool->id = tai_mix((uint64_t)(uintptr_t)pool ^ TENSORALLOC_CLOCK_NS()) | 1;
    pool->slot_hint = (uint32_t)tai_mix((uint64_t)(uintptr_t)pool) % TAI_THREAD_SLOTS;
    tai_pool_make_classes(pool);
    pool->at = pool->space.blocks.at;
    tai_pool_open_paths(pool);
    pool->limited = resolved.buffers_per_bucket_max <= 0x7fffffff;
    tai_slot_reset(&pool->slot0, pool, 0, tai_stream_index(&pool->space, 0, &ok));
    pool->slot0.quick = pool->slot0.ordered = NULL;
    pool->slot0.stream_id = ok ? 0 : TAI_STREAM_EVENTS;
#ifdef TENSORALLOC_NO_THREADS
    pool->single_slot = &pool->slot0;
#else
    if (resolved.single_threaded) {
        pool->single_slot = &pool->slot0;
        pool->space.gate.favoured = &pool->slot0.holder;
    }
    tai_process_init();
    pool->process_id = pool->single_slot == NULL || pool->space.ordered ? TENSORALLOC_LOAD_RELAXED(&tai_process) : 0;
#endif
    pool->alert &= pool->single_slot != NULL ? ~TAI_ALERT_FIRST : ~0;
    pool->member.self = kind->reclaim != NULL ? kind->reclaim_self : pool;
    pool->member.reclaim = kind->reclaim != NULL ? kind->reclaim : tai_pool_reclaim;
    pool->member.cached = kind->reclaim != NULL ? NULL : tai_pool_cached;
    tai_budget_join(pool->space.budget, &pool->member);
    if (resolved.initial_bytes != 0) {
        result = tai_pool_reserve_initial(pool, resolved.initial_bytes);
        if (result != TA_OK) {
            (void)ta_pool_destroy(pool);
            return result;
        }
    }
    *out = pool;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_create(const ta_pool_desc *desc, ta_pool **out)
{
    static const tai_pool_kind usual = {0, NULL, NULL};
    return tai_pool_make(desc, &usual, out);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_desc(ta_pool *pool, ta_pool_desc *out)
{
    if (pool == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = pool->desc;
    return TA_OK;
}

/* Live blocks are freed in the books, so that the statistics say what is true: nothing is live. */
static TAI_COLD void tai_pool_forget_blocks(ta_pool *pool)
{
    tai_counters count = tai_pool_count(pool);
    pool->count.deallocation_count += count.allocation_count - count.deallocation_count;
    pool->count.freed_bytes += count.allocated_bytes - count.freed_bytes;
    memset(pool->slot0.heads, 0, sizeof pool->slot0.heads);
    pool->slot0.cached_bytes = pool->slot0.cached_low = pool->slot0.bytes_max = 0;
}

/* Live blocks and all memory go back: what a trace sees of dispose. */
static TAI_COLD void tai_pool_record_all_free(ta_pool *pool)
{
    uint32_t index, end = pool->desc.trace != NULL ? pool->space.blocks.end : 0;
    for (index = 1; index < end; index++) {
        if (TENSORALLOC_LOAD_RELAXED(&pool->space.blocks.at[index].state) == TAI_LIVE) {
            tai_pool_record(pool, TA_EVENT_FREE, &pool->space.blocks.at[index], 0);
        }
    }
    if (end != 0) {
        tai_trace_put(pool->desc.trace, tai_trace_about(TA_EVENT_TRIM, TA_OK, 0, pool->trace_source), NULL,
                      pool->space.reserved, 0, 0, NULL);
    }
}

/* Waits for all work on the device that may use blocks of the pool. */
static TAI_COLD void tai_pool_drain(ta_pool *pool)
{
    uint32_t s;
    uint64_t ticket = 0;
    const ta_backend *backend = &pool->space.backend;
    if (!pool->space.ordered) {
        return;
    }
    (void)tai_space_synchronize(&pool->space, NULL);
    for (s = 1; s < pool->space.stream_count; s++) {
        if (pool->space.streams[s].id < TAI_STREAM_GRAPHS && /* a real one */
            backend->vtable->mark(backend->self, pool->space.streams[s].id, &ticket) == TA_OK) {
            (void)backend->vtable->sync(backend->self, ticket);
            tai_space_drop(&pool->space, ticket);
        }
    }
}

/* Whether there are graph pools beside it, or graphs use its blocks. */
static TAI_COLD int tai_pool_is_tied(ta_pool *pool)
{
    return TAI_GRAPHS && ((pool->hooks != NULL && !pool->hooks->close(pool)) || pool->held != 0);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_dispose(ta_pool *pool)
{
    int w;
    ta_result found;
    if (pool == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (pool->disposed) {
        return TAI_CHECKED && pool->disposed == 2 ? tai_pool_told(pool, TA_ERROR_DISPOSED) : TA_OK;
    }
    if (tai_pool_forked(pool)) {
        return TA_ERROR_FORKED;
    }
    if (tai_pool_is_tied(pool)) {
        return TA_ERROR_BUSY;
    }
    found = tai_guard_close(pool, 0);
    tai_pool_detach_slots(pool);
    (void)tai_passing_flush(pool, NULL);
    tai_budget_leave(pool->space.budget, &pool->member);
    tai_pool_note_peak(pool);
    tai_pool_drain(pool);
    tai_pool_record_all_free(pool);
    pool->disposed = 1;
    pool->plain = 0;
    pool->alert &= ~(TAI_ALERT_ORDER | TAI_ALERT_LARGE);
    pool->cacheable_bytes = pool->hot_bytes = pool->watched_bytes = 0;
    for (w = 0; w < 6; w++) {
        TENSORALLOC_STORE_RELEASE(&pool->windows[w].mapped, (size_t)0);
    }
    tai_space_release(&pool->space);
    tai_pool_forget_blocks(pool);
    if (pool->desc.trace != NULL) {
        tai_trace_join(pool->desc.trace, 0);
        pool->desc.trace = NULL;
    }
    return found;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_destroy(ta_pool *pool)
{
    ta_result result, found;
    if (pool == NULL) {
        return TA_OK;
    }
    if (!pool->disposed && !tai_pool_forked(pool) && tai_pool_is_tied(pool)) {
        return TA_ERROR_BUSY;
    }
    found = tai_guard_close(pool, 1);
    result = ta_pool_dispose(pool);
    if (result == TA_OK || (TAI_CHECKED && result != TA_ERROR_FORKED && result != TA_ERROR_DISPOSED)) {
        tai_pool_free_object(pool);
    }
    return result == TA_OK ? found : result;
}

/* ---- the pool as an allocator */
static void *tai_pool_v_alloc(void *self, const ta_request *request, ta_result *result)
{
    ta_pool *pool = (ta_pool *)self;
    if (request->alignment_bytes == 0 && request->stream == 0 && request->tag == NULL && request->flags == 0 &&
        request->reserved == 0) {
        return ta_pool_alloc(pool, request->size_bytes, result);
    }
    if ((TAI_ALERTS(pool) & TAI_ALERT_ORDER) != 0 && request->alignment_bytes == 0 && request->tag == NULL &&
        request->flags == 0 && request->reserved == 0) {
        return tai_pool_alloc_on(pool, request->size_bytes, request->stream, result);
    }
    return tai_pool_alloc_request(pool, request, result);
}

static ta_result tai_pool_v_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    return tai_pool_resize((ta_pool *)self, ptr, old_bytes, new_bytes);
}

/* A pool knows no cheap move: in place, or not at all. */
static void *tai_pool_v_remap(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    ta_result why = tai_pool_resize((ta_pool *)self, ptr, old_bytes, new_bytes);
    if (result != NULL) {
        *result = why;
    }
    return why == TA_OK ? ptr : NULL;
}

/* With order: whether what may be the block at ptr has the stream of the slot as its home. */
static int tai_pool_is_home(const ta_pool *pool, const void *ptr, const tai_slot *slot)
{
    int w;
    for (w = 3; w < 6; w++) {
        const tai_window *window = &pool->windows[w];
        size_t offset = (size_t)((uintptr_t)ptr - window->base);
        if (offset < TENSORALLOC_LOAD_ACQUIRE(&window->mapped)) {
            uint32_t index = TENSORALLOC_LOAD_RELAXED(&window->map[offset >> window->map_shift]);
            return pool->at[index].place.stream == slot->stream;
        }
    }
    return 0;
}

static ta_result tai_pool_v_free(void *self, void *ptr, size_t size, size_t alignment, ta_stream stream)
{
    ta_pool *pool = (ta_pool *)self;
    (void)alignment;
    if (pool->space.ordered) {
        const tai_slot *slot = tai_slot_guess(pool, stream);
        return !TAI_CHECKED && TENSORALLOC_LOAD_RELAXED(&slot->ordered) == pool && slot->stream_id == stream &&
                       tai_pool_is_home(pool, ptr, slot)
                   ? tai_pool_free_on(pool, ptr, size) : tai_pool_free_slow(pool, ptr, size, &stream);
    }
    return size != 0 ? ta_pool_free_sized(pool, ptr, size) : ta_pool_free(pool, ptr);
}

static ta_result tai_pool_v_empty_cache(void *self)
{
    return ta_pool_empty_cache((ta_pool *)self);
}

static ta_result tai_pool_v_trim(void *self, size_t keep_bytes, size_t *out_released_bytes)
{
    return ta_pool_trim((ta_pool *)self, keep_bytes, out_released_bytes);
}

static ta_result tai_pool_v_stats(void *self, ta_stats *out)
{
    return ta_pool_get_stats((ta_pool *)self, out);
}

static ta_result tai_pool_v_device(void *self, ta_device *out)
{
    *out = ((ta_pool *)self)->space.info.device;
    return tai_pool_usable((ta_pool *)self);
}

static ta_result tai_pool_v_dispose(void *self)
{
    return ta_pool_dispose((ta_pool *)self);
}

static ta_result tai_pool_v_destroy(void *self)
{
    return ta_pool_destroy((ta_pool *)self);
}

static ta_result tai_pool_v_describe(void *self, const void *ptr, ta_block_info *out)
{
    return ta_pool_describe((ta_pool *)self, ptr, out);
}

static const ta_allocator_vtable tai_pool_vtable = {sizeof(ta_allocator_vtable),
                                                    "pool",
                                                    tai_pool_v_alloc,
                                                    tai_pool_v_resize,
                                                    tai_pool_v_remap,
                                                    tai_pool_v_free,
                                                    tai_pool_v_empty_cache,
                                                    tai_pool_v_trim,
                                                    tai_pool_v_stats,
                                                    tai_pool_v_device,
                                                    tai_pool_v_dispose,
                                                    tai_pool_v_destroy,
                                                    tai_pool_v_describe};

TENSORALLOC_DEF TAI_COLD ta_allocator ta_pool_allocator(ta_pool *pool)
{
    ta_allocator allocator;
    allocator.vtable = &tai_pool_vtable;
    allocator.self = pool;
    return allocator;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:ARENA-IMPL] bump allocation. Also what the arena and the direct allocator have in common.
  Uses: BUDGET, BLOCKS (tables).

     chunk:  base        blocks, one behind the other        top        commit_end             base + size
             | live | dead | live | ... | last live block    | ready    | addresses only       |
  A chunk is an address range (normally the only one) or a segment. Records lie in the order of allocation, so the
  blocks of a chunk are a run of them, sorted by address. The last block is never dead unless a mark protects it.
  Locks: the gate, left around calls of the backend; those are made with the turn.
  Invariants: chunks[i].first <= chunks[i + 1].first; reserved = what the chunks have committed.
  -------------------------------------------------------------------------------------------------------*/
typedef struct tai_common {
    tai_gate gate;
    ta_budget *budget;
    ta_backend backend;
    ta_backend_info info;
    tai_member member;
    tai_counters count;
    uint64_t id;
    uint64_t miss_count, resize_count, failure_count, failure_limit_count, failure_not_cached_count;
    uint64_t trim_count, trimmed_bytes;
    size_t in_use, reserved, peak_in_use, peak_reserved, object_bytes, address_range_bytes;
    uint32_t process_id; /* as in pools */
    uintptr_t turn; /* as in a space */
    int budget_owned;
    int disposed;
    int single_threaded;
    uint32_t stream_count, stream_room;
    ta_stream *streams; /* ordered backends: whose work must be over before memory goes back */
    ta_event_fn on_event; /* NULL: none */
    void *on_event_user;
    size_t untold_grown, untold_trimmed; /* moved; the events follow when nothing is held */
    char name[32];
#ifdef TENSORALLOC_CHECKED
    tai_guard guard;
#endif
} tai_common;

#ifdef TENSORALLOC_CHECKED
/* Tells of misuse, if why is that. Returns why. Outside the gate. */
static TAI_COLD ta_result tai_common_blame(const tai_common *common, ta_result why, const void *ptr, size_t size,
                                           const char *tag)
{
    return tai_misuse(common->name, common->on_event, common->on_event_user, why, ptr, size, tag);
}

static void tai_common_paint(const tai_common *common, uintptr_t addr, size_t requested, size_t capacity)
{
    if (common->guard.on) {
        tai_red_paint(addr, requested, capacity);
    }
}

static TAI_COLD void tai_common_bury(tai_common *common, void *object)
{
    common->disposed = 2;
    common->on_event = NULL;
    tai_bury(object);
}

/* Of two findings the first, but a leak only where there is nothing worse. */
static ta_result tai_guard_worse(ta_result one, ta_result other)
{
    return one == TA_OK || (one == TA_ERROR_LEAK && other != TA_OK) ? other : one;
}
#else
    #define tai_common_blame(common, why, ptr, size, tag) (why)
    #define tai_common_paint(common, addr, requested, capacity) ((void)0)
    #define tai_common_bury(common, object) TENSORALLOC_FREE(object)
#endif

static TAI_COLD ta_result tai_common_init(tai_common *common, void *self, ta_budget *budget, ta_backend backend,
                                          size_t limit, const char *name, int single_threaded)
{
    ta_result result = tai_budget_resolve(budget, backend, limit, &common->budget, &common->budget_owned);
    if (result != TA_OK) {
        return result;
    }
    common->backend = common->budget->backend;
    common->info = common->budget->info;
#ifdef TENSORALLOC_CHECKED
    common->guard.on = tai_guard_mode(&common->info) == 1;
#endif
    common->single_threaded = single_threaded;
    tai_gate_init(&common->gate, single_threaded);
    tai_copy_name(common->name, name);
    common->id = tai_mix((uint64_t)(uintptr_t)self ^ TENSORALLOC_CLOCK_NS()) | 1;
    common->member.self = self;
#ifndef TENSORALLOC_NO_THREADS
    tai_process_init();
    common->process_id =
        single_threaded && (common->info.caps & TA_CAP_ORDERED) == 0 ? 0 : TENSORALLOC_LOAD_RELAXED(&tai_process);
#endif
    return TA_OK;
}

static ta_result tai_common_usable(const tai_common *common)
{
    if (common->disposed) {
        return tai_common_blame(common, TA_ERROR_DISPOSED, NULL, 0, NULL);
    }
#ifndef TENSORALLOC_NO_THREADS
    tai_process_init();
    if (common->process_id != 0 && common->process_id != TENSORALLOC_LOAD_RELAXED(&tai_process)) {
        return TA_ERROR_FORKED;
    }
#endif
    return TA_OK;
}

/* The host waits for all work on the stream. */
static TAI_COLD ta_result tai_common_sync(tai_common *common, ta_stream stream)
{
    uint64_t ticket = 0;
    ta_result result = common->backend.vtable->mark(common->backend.self, stream, &ticket);
    if (result == TA_OK) {
        result = common->backend.vtable->sync(common->backend.self, ticket);
        if (common->backend.vtable->drop != NULL) {
            common->backend.vtable->drop(common->backend.self, ticket);
        }
    }
    return result;
}

/* Ordered backends: work on the stream may use our memory from now on. 0 without room to write that down. */
static int tai_common_use_stream(tai_common *common, ta_stream stream)
{
    uint32_t i, room;
    ta_stream *larger = NULL;
    int ok = 1;
    if ((common->info.caps & TA_CAP_ORDERED) == 0) {
        return 1;
    }
    tai_gate_enter(&common->gate, NULL);
    for (i = 0; i < common->stream_count && common->streams[i] != stream; i++) {
    }
    if (i == common->stream_room) {
        room = common->stream_room == 0 ? 8 : common->stream_room * 2;
        larger = (ta_stream *)TENSORALLOC_MALLOC(room * sizeof *larger);
        ok = larger != NULL;
        if (ok) {
            if (i != 0) {
                memcpy(larger, common->streams, i * sizeof *larger);
            }
            TENSORALLOC_FREE(common->streams);
            common->object_bytes += (room - common->stream_room) * sizeof *larger;
            common->streams = larger;
            common->stream_room = room;
        }
    }
    if (ok && i == common->stream_count) {
        common->streams[common->stream_count++] = stream;
    }
    tai_gate_leave(&common->gate, NULL);
    return ok;
}

/* Waits for the work on all streams that were used; forgets them when nothing is live. */
static TAI_COLD ta_result tai_common_sync_all(tai_common *common)
{
    ta_result result = TA_OK;
    uint32_t i = 0, count = 0;
    do {
        ta_stream stream = 0;
        tai_gate_enter(&common->gate, NULL);
        count = common->stream_count;
        if (i < count) {
            stream = common->streams[i];
        } else if (common->in_use == 0) {
            common->stream_count = 0;
        }
        tai_gate_leave(&common->gate, NULL);
        if (i < count) {
            result = tai_common_sync(common, stream);
        }
    } while (i++ < count && result == TA_OK);
    return result;
}

/* Size and alignment of a request, checked. */
static ta_result tai_common_plan(const tai_common *common, const ta_request *request, size_t *out_alignment)
{
    size_t alignment = request->alignment_bytes == 0 ? common->info.alignment_bytes : request->alignment_bytes;
    if (request->size_bytes == 0) {
        return TAI_BAD(TA_ERROR_INVALID_SIZE);
    }
    if (!tai_is_power_of_two(alignment) || alignment > TAI_ALIGNMENT_MAX) {
        return TAI_BAD(TA_ERROR_INVALID_ALIGNMENT);
    }
    if (request->size_bytes > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return TA_ERROR_OVERFLOW;
    }
    if (request->reserved != 0 ||
        (request->flags & ~(uint32_t)(TA_REQUEST_ZEROED | TA_REQUEST_CACHED_ONLY | TA_REQUEST_WITHIN_BUDGET)) != 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out_alignment = alignment < common->info.alignment_bytes ? common->info.alignment_bytes : alignment;
    return TA_OK;
}

/* A block became live. Inside the gate. */
static void tai_common_count_alloc(tai_common *common, size_t requested, size_t capacity)
{
    common->count.allocation_count++;
    common->count.allocated_bytes += requested;
    common->in_use += capacity;
    if (common->in_use > common->peak_in_use) {
        common->peak_in_use = common->in_use;
    }
}

static void tai_common_count_free(tai_common *common, size_t requested, size_t capacity)
{
    common->count.deallocation_count++;
    common->count.freed_bytes += requested;
    common->in_use -= capacity;
}

/* Inside the gate. */
static TAI_COLD void tai_common_count_reserved(tai_common *common, size_t bytes)
{
    common->reserved += bytes;
    if (common->reserved > common->peak_reserved) {
        common->peak_reserved = common->reserved;
    }
}

/* As count_reserved, for an event to come. */
static TAI_COLD void tai_common_count_grown(tai_common *common, size_t bytes)
{
    tai_common_count_reserved(common, bytes);
    common->untold_grown += common->on_event != NULL ? bytes : 0;
}

/* Bytes went back. Inside the gate. */
static TAI_COLD void tai_common_count_returned(tai_common *common, size_t bytes)
{
    common->reserved -= bytes;
    common->untold_trimmed += common->on_event != NULL ? bytes : 0;
}

/* ---- events: told outside the gate, without the turn, with nothing claimed */
static TAI_COLD void tai_common_tell(const tai_common *common, ta_event *event, ta_event_kind kind, ta_result result,
                                     size_t size)
{
    event->kind = kind;
    event->result = result;
    event->size_bytes = size;
    event->name = common->name;
    event->time_ns = TENSORALLOC_CLOCK_NS();
    common->on_event(common->on_event_user, event);
    event->hit = 0;
}

/* Tells what went to and came from the backend since the last time. */
static TAI_COLD void tai_common_tell_moved(tai_common *common)
{
    ta_event event;
    size_t grown, trimmed;
    if (common->on_event == NULL) {
        return;
    }
    tai_gate_enter(&common->gate, NULL);
    grown = common->untold_grown;
    trimmed = common->untold_trimmed;
    common->untold_grown = common->untold_trimmed = 0;
    tai_gate_leave(&common->gate, NULL);
    memset(&event, 0, sizeof event);
    if (trimmed != 0) {
        tai_common_tell(common, &event, TA_EVENT_TRIM, TA_OK, trimmed);
    }
    if (grown != 0) {
        tai_common_tell(common, &event, TA_EVENT_GROW, TA_OK, grown);
    }
}

/* Tells of a block, after what its memory took and before what its going gave. */
static TAI_COLD void tai_common_tell_block(tai_common *common, ta_event_kind kind, uintptr_t addr, size_t requested,
                                           size_t capacity, ta_stream stream, const char *tag, int hit)
{
    ta_event event;
    if (kind != TA_EVENT_FREE) {
        tai_common_tell_moved(common);
    }
    memset(&event, 0, sizeof event);
    event.ptr = (void *)addr;
    event.capacity_bytes = capacity;
    event.stream = stream;
    event.tag = tag;
    event.hit = hit;
    tai_common_tell(common, &event, kind, TA_OK, requested);
    if (kind == TA_EVENT_FREE) {
        tai_common_tell_moved(common);
    }
}

static TAI_COLD void tai_common_tell_failure(tai_common *common, ta_result why, size_t size, ta_stream stream,
                                             const char *tag)
{
    ta_event event;
    if (common->on_event != NULL) {
        tai_common_tell_moved(common);
        memset(&event, 0, sizeof event);
        event.stream = stream;
        event.tag = tag;
        if (why == TA_ERROR_LIMIT) {
            tai_common_tell(common, &event, TA_EVENT_LIMIT, TA_OK, size);
        }
        tai_common_tell(common, &event, TA_EVENT_FAILURE, why, size);
    }
}

static TAI_COLD ta_result tai_common_reset_peaks(tai_common *common)
{
    if (!common->disposed && tai_common_usable(common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&common->gate, NULL);
    common->peak_reserved = common->reserved;
    common->peak_in_use = common->in_use;
    tai_gate_leave(&common->gate, NULL);
    return TA_OK;
}

static TAI_COLD void *tai_common_fail(tai_common *common, const ta_request *request, ta_result why, ta_result *result)
{
    tai_gate_enter(&common->gate, NULL);
    common->failure_count++;
    common->failure_limit_count += why == TA_ERROR_LIMIT;
    common->failure_not_cached_count += why == TA_ERROR_NOT_CACHED;
    tai_gate_leave(&common->gate, NULL);
    TENSORALLOC_LOG(why, common->name);
    tai_common_tell_failure(common, why, request->size_bytes, request->stream, request->tag);
    return tai_fail_null(why, result);
}

static TAI_COLD ta_result tai_common_stats(tai_common *common, const tai_table *table, size_t object_bytes,
                                           ta_stats *out)
{
    memset(out, 0, sizeof *out);
    if (TAI_CHECKED && common->disposed == 2) {
        return tai_common_usable(common);
    }
    if (!common->disposed && tai_common_usable(common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&common->gate, NULL);
    out->requested_bytes = (size_t)(common->count.allocated_bytes - common->count.freed_bytes);
    out->in_use_bytes = common->in_use;
    out->reserved_bytes = common->reserved;
    out->cached_bytes = common->reserved - common->in_use;
    out->wasted_bytes = out->in_use_bytes - out->requested_bytes;
    out->live_count = (size_t)(common->count.allocation_count - common->count.deallocation_count);
    out->address_range_bytes = common->address_range_bytes;
    out->record_bytes = common->object_bytes + table->committed + object_bytes;
    out->peak_reserved_bytes = common->peak_reserved;
    out->peak_in_use_upper_bytes = common->peak_in_use;
    out->allocation_count = common->count.allocation_count;
    out->deallocation_count = common->count.deallocation_count;
    out->allocated_bytes = common->count.allocated_bytes;
    out->freed_bytes = common->count.freed_bytes;
    out->miss_count = out->miss_grow_count = common->miss_count;
    out->hit_count = common->count.allocation_count - common->miss_count;
    out->resize_count = common->resize_count;
    out->failure_count = common->failure_count;
    out->failure_limit_count = common->failure_limit_count;
    out->failure_not_cached_count = common->failure_not_cached_count;
    out->trim_count = common->trim_count;
    out->trimmed_bytes = common->trimmed_bytes;
    tai_gate_leave(&common->gate, NULL);
    return TA_OK;
}

/* Everything is gone: in the books too. */
static TAI_COLD void tai_common_dispose(tai_common *common)
{
    tai_budget_leave(common->budget, &common->member);
    tai_budget_refund(common->budget, common->reserved);
    common->count.deallocation_count = common->count.allocation_count;
    common->count.freed_bytes = common->count.allocated_bytes;
    common->in_use = common->reserved = common->address_range_bytes = 0;
    common->disposed = 1;
}

static TAI_COLD int tai_common_turn_try(tai_common *common)
{
    int got;
    tai_gate_enter(&common->gate, NULL);
    got = common->turn == 0;
    if (got) {
        common->turn = tai_thread_id();
    }
    tai_gate_leave(&common->gate, NULL);
    return got;
}

/* 0: this thread has it already. */
static TAI_COLD int tai_common_turn_take(tai_common *common)
{
    while (!tai_common_turn_try(common)) {
        int mine;
        tai_gate_enter(&common->gate, NULL);
        mine = common->turn == tai_thread_id();
        tai_gate_leave(&common->gate, NULL);
        if (mine) {
            return 0;
        }
        TAI_WAIT_A_MOMENT();
    }
    return 1;
}

static TAI_COLD void tai_common_turn_end(tai_common *common)
{
    tai_gate_enter(&common->gate, NULL);
    common->turn = 0;
    tai_gate_leave(&common->gate, NULL);
}

/* Takes bytes from the budget; asks the others to give back first if it must and may. */
static TAI_COLD int tai_common_charge(tai_common *common, size_t bytes, uint32_t flags)
{
    if (tai_budget_charge(common->budget, bytes)) {
        return 1;
    }
    return (flags & TA_REQUEST_WITHIN_BUDGET) == 0 && tai_budget_may_hold(common->budget, common->in_use, bytes) &&
           tai_budget_reclaim(common->budget, &common->member, bytes) != 0 &&
           tai_budget_charge(common->budget, bytes);
}

/* ---- pointer -> record, for blocks that come from anywhere: chains by a hash of the address. A record begins with
   its link. Inside the gate. */
typedef struct tai_link {
    uintptr_t addr;
    uint32_t next;       /* in the chain, or the next vacant one */
    uint32_t state;      /* TAI_* */
    uint32_t generation; /* stays with the record */
    uint32_t padding;
} tai_link;

typedef struct tai_records {
    tai_table table;
    size_t record_bytes;
    uint32_t *heads;
    uint32_t bits;
    uint32_t end, vacant;
    uint32_t count; /* in chains */
} tai_records;

static tai_link *tai_record_at(const tai_records *records, uint32_t index)
{
    return (tai_link *)(void *)(records->table.base + (size_t)index * records->record_bytes);
}

static uint32_t *tai_record_chain(const tai_records *records, uintptr_t addr)
{
    return &records->heads[tai_mix((uint64_t)addr) >> (64 - records->bits)];
}

/* Bytes of bookkeeping besides the table. */
static TAI_COLD size_t tai_records_bytes(const tai_records *records)
{
    return records->heads == NULL ? 0 : sizeof(uint32_t) << records->bits;
}

static TAI_COLD void tai_records_free(tai_records *records)
{
    tai_table_free(&records->table);
    TENSORALLOC_FREE(records->heads);
    memset(records, 0, sizeof *records);
}

static TAI_COLD int tai_records_init(tai_records *records, size_t record_bytes, size_t count_max)
{
    memset(records, 0, sizeof *records);
    records->record_bytes = record_bytes;
    records->bits = 8;
    records->end = 1; /* [0] is never used */
    records->heads = (uint32_t *)TENSORALLOC_MALLOC(sizeof(uint32_t) << records->bits);
    if (records->heads == NULL ||
        !tai_table_init(&records->table, count_max * record_bytes,
                        (count_max < 1024 ? count_max : 1024) * record_bytes) ||
        !tai_table_ensure(&records->table, record_bytes)) {
        tai_records_free(records);
        return 0;
    }
    memset(records->heads, 0, sizeof(uint32_t) << records->bits);
    return 1;
}

/* A busy record in no chain; 0 without memory for it. */
static uint32_t tai_record_new(tai_records *records)
{
    uint32_t index = records->vacant;
    if (index != 0) {
        records->vacant = tai_record_at(records, index)->next;
    } else if (tai_table_ensure(&records->table, ((size_t)records->end + 1) * records->record_bytes)) {
        index = records->end++;
    }
    if (index != 0) {
        tai_link *link = tai_record_at(records, index);
        link->state = TAI_BUSY;
        link->next = 0;
        link->addr = 0;
    }
    return index;
}

static void tai_record_drop(tai_records *records, uint32_t index)
{
    tai_link *link = tai_record_at(records, index);
    link->state = TAI_VACANT;
    link->next = records->vacant;
    records->vacant = index;
}

/* Twice as many chains. Without memory for them longer ones will do. */
static TAI_COLD void tai_records_spread(tai_records *records)
{
    uint32_t bits = records->bits + 1, *old = records->heads, i, index, next;
    uint32_t *heads = (uint32_t *)TENSORALLOC_MALLOC(sizeof(uint32_t) << bits);
    if (heads == NULL) {
        return;
    }
    memset(heads, 0, sizeof(uint32_t) << bits);
    records->heads = heads;
    records->bits = bits;
    for (i = 0; i < (uint32_t)1 << (bits - 1); i++) {
        for (index = old[i]; index != 0; index = next) {
            tai_link *link = tai_record_at(records, index);
            uint32_t *chain = tai_record_chain(records, link->addr);
            next = link->next;
            link->next = *chain;
            *chain = index;
        }
    }
    TENSORALLOC_FREE(old);
}

/* Puts a record into the chain of its address. */
static void tai_record_link(tai_records *records, uint32_t index)
{
    tai_link *link = tai_record_at(records, index);
    uint32_t *chain;
    if (records->count >= (uint32_t)1 << records->bits) {
        tai_records_spread(records);
    }
    chain = tai_record_chain(records, link->addr);
    link->next = *chain;
    *chain = index;
    records->count++;
}

static void tai_record_unlink(tai_records *records, uint32_t index)
{
    uint32_t *link = tai_record_chain(records, tai_record_at(records, index)->addr);
    while (*link != index) {
        link = &tai_record_at(records, *link)->next;
    }
    *link = tai_record_at(records, index)->next;
    records->count--;
}

/* The live record of addr; 0 if there is none. */
static uint32_t tai_record_find(const tai_records *records, uintptr_t addr)
{
    uint32_t index = *tai_record_chain(records, addr);
    while (index != 0 && (tai_record_at(records, index)->addr != addr ||
                          tai_record_at(records, index)->state != TAI_LIVE)) {
        index = tai_record_at(records, index)->next;
    }
    return index;
}

typedef struct tai_arena_block {
    uintptr_t addr;
    size_t size;         /* capacity */
    size_t requested;
    const char *tag;
    uint32_t generation; /* stays with the record */
    uint32_t epoch;      /* of the arena when it was allocated */
    uint32_t state;      /* TAI_LIVE, TAI_BUSY (being zeroed) or TAI_VACANT (freed, but not at the end) */
    uint32_t padding;
} tai_arena_block;

typedef struct tai_chunk {
    uintptr_t base, top, commit_end, touched_end;
    size_t size;
    uint32_t first; /* record of its first block */
    int is_segment;
#ifdef TENSORALLOC_CHECKED
    uintptr_t fill_end; /* what is free below it is filled */
#endif
} tai_chunk;

struct ta_arena {
    tai_common common;
    tai_table table;
    tai_arena_block *blocks;
    uint32_t block_count;
    uint32_t epoch;       /* goes up with each rewind and reset */
    uint32_t reset_epoch; /* of the last reset */
    uint32_t floor;       /* blocks below the latest mark are not taken away by free */
    tai_chunk *chunks;
    uint32_t chunk_count, chunk_room;
    uint32_t chunk;       /* the one that is being filled */
    int use_ranges;
    ta_arena_desc desc;
};

/* ---- checked builds. Inside the gate, but for the last two. */
#ifdef TENSORALLOC_CHECKED
/* Whether bytes around a live block were written. */
static ta_result tai_arena_test(const ta_arena *arena, const tai_arena_block *block)
{
    const tai_arena_block *prev = block - 1;
    if (!arena->common.guard.on) {
        return TA_OK;
    }
    if (!tai_red_is_whole(block->addr, block->requested, block->size)) {
        return TA_ERROR_OVERRUN;
    }
    if (block != arena->blocks && prev->state == TAI_LIVE && prev->addr + prev->size == block->addr &&
        tai_red_is_underrun(block->addr, prev->size - prev->requested, TAI_RED)) {
        return TA_ERROR_UNDERRUN;
    }
    return TA_OK;
}

/* [from, to) of a chunk is free now. */
static void tai_arena_fill(const ta_arena *arena, tai_chunk *chunk, uintptr_t from, uintptr_t to)
{
    if (arena->common.guard.on && from < to && (size_t)(to - from) <= TAI_DEAD_BYTES) {
        memset((void *)from, TAI_DEAD, (size_t)(to - from));
        chunk->fill_end = to > chunk->fill_end ? to : chunk->fill_end;
    } else if (arena->common.guard.on && from < to) {
        chunk->fill_end = from < chunk->fill_end ? from : chunk->fill_end;
    }
}

/* [from, to) of a chunk is about to be used, or filled again. */
static void tai_arena_unfill(ta_arena *arena, const tai_chunk *chunk, uintptr_t from, uintptr_t to)
{
    to = to < chunk->fill_end ? to : chunk->fill_end;
    if (arena->common.guard.on && from < to && !tai_is_filled(from, (size_t)(to - from), TAI_DEAD)) {
        arena->common.guard.found = TA_ERROR_USE_AFTER_FREE;
    }
}

static uint32_t tai_arena_chunk_of(const ta_arena *arena, uintptr_t addr)
{
    uint32_t c = 0;
    while (c + 1 < arena->chunk_count && (size_t)(addr - arena->chunks[c].base) >= arena->chunks[c].size) {
        c++;
    }
    return c;
}

/* A block was taken away from the end. */
static void tai_arena_fill_popped(ta_arena *arena, const tai_arena_block *block)
{
    tai_chunk *chunk = &arena->chunks[tai_arena_chunk_of(arena, block->addr)];
    if (block->state == TAI_VACANT) {
        tai_arena_unfill(arena, chunk, block->addr, block->addr + block->size);
    }
    tai_arena_fill(arena, chunk, chunk->top, block->addr + block->size);
}

static void tai_arena_set_fill_end(tai_chunk *chunk, uintptr_t end)
{
    chunk->fill_end = chunk->fill_end < end ? chunk->fill_end : end;
}

/* As test for the block at ptr, told. Outside the gate. */
static ta_result tai_arena_look(ta_arena *arena, const void *ptr)
{
    tai_arena_block was;
    ta_result result = TA_OK;
    uint32_t i;
    memset(&was, 0, sizeof was);
    tai_gate_enter(&arena->common.gate, NULL);
    for (i = arena->block_count; i-- > 0;) {
        if (arena->blocks[i].addr == (uintptr_t)ptr && arena->blocks[i].state == TAI_LIVE) {
            was = arena->blocks[i];
            result = tai_arena_test(arena, &arena->blocks[i]);
            break;
        }
    }
    tai_gate_leave(&arena->common.gate, NULL);
    return tai_common_blame(&arena->common, result, ptr, was.requested, was.tag);
}

/* Looks at the blocks from index on; each that was damaged is told. What was found before counts, too. Outside. */
static TAI_COLD ta_result tai_arena_look_all(ta_arena *arena, uint32_t index)
{
    ta_result found;
    tai_gate_enter(&arena->common.gate, NULL);
    found = arena->common.guard.found;
    arena->common.guard.found = TA_OK;
    tai_gate_leave(&arena->common.gate, NULL);
    (void)tai_common_blame(&arena->common, found, NULL, 0, NULL);
    tai_gate_enter(&arena->common.gate, NULL);
    for (; index < arena->block_count; index++) {
        tai_arena_block was = arena->blocks[index];
        ta_result one = was.state == TAI_LIVE ? tai_arena_test(arena, &arena->blocks[index])
                      : was.state == TAI_VACANT && arena->common.guard.on && was.size <= TAI_DEAD_BYTES &&
                                !tai_is_filled(was.addr, was.size, TAI_DEAD) ? TA_ERROR_USE_AFTER_FREE : TA_OK;
        if (one != TA_OK) {
            tai_gate_leave(&arena->common.gate, NULL);
            found = tai_guard_worse(found, tai_common_blame(&arena->common, one, (const void *)was.addr,
                                                            was.requested, was.tag));
            tai_gate_enter(&arena->common.gate, NULL);
        }
    }
    tai_gate_leave(&arena->common.gate, NULL);
    return found;
}
#else
    #define tai_arena_fill(arena, chunk, from, to) ((void)0)
    #define tai_arena_unfill(arena, chunk, from, to) ((void)0)
    #define tai_arena_fill_popped(arena, block) ((void)0)
    #define tai_arena_set_fill_end(chunk, end) ((void)0)
    #define tai_arena_look(arena, ptr) TA_OK
    #define tai_arena_look_all(arena, index) TA_OK
#endif

/* Takes size bytes out of what is committed; NULL chunk index moves on to chunks kept by a reset. Inside the gate. */
static tai_arena_block *tai_arena_bump(ta_arena *arena, size_t size, size_t alignment)
{
    uint32_t c;
    for (c = arena->chunk; c < arena->chunk_count; c++) {
        tai_chunk *chunk = &arena->chunks[c];
        uintptr_t addr = (uintptr_t)tai_round_up((size_t)chunk->top, alignment);
        tai_arena_block *block;
        if (addr < chunk->top || addr > chunk->commit_end || size > (size_t)(chunk->commit_end - addr)) {
            continue;
        }
        for (; arena->chunk < c; arena->chunk++) {
            arena->chunks[arena->chunk + 1].first = arena->block_count;
        }
        block = &arena->blocks[arena->block_count++];
        block->addr = addr;
        block->size = size;
        block->epoch = arena->epoch;
        block->state = TAI_BUSY;
        tai_arena_unfill(arena, chunk, chunk->top, addr + size);
        chunk->top = addr + size;
        return block;
    }
    return NULL;
}

/* Room for one more chunk. */
static TAI_COLD int tai_arena_chunk_room(ta_arena *arena)
{
    uint32_t room = arena->chunk_room == 0 ? 4 : arena->chunk_room * 2;
    tai_chunk *larger;
    if (arena->chunk_count < arena->chunk_room) {
        return 1;
    }
    larger = (tai_chunk *)TENSORALLOC_MALLOC(room * sizeof *larger);
    if (larger == NULL) {
        return 0;
    }
    if (arena->chunk_count != 0) {
        memcpy(larger, arena->chunks, arena->chunk_count * sizeof *larger);
    }
    TENSORALLOC_FREE(arena->chunks);
    arena->common.object_bytes += (room - arena->chunk_room) * sizeof *larger;
    arena->chunks = larger;
    arena->chunk_room = room;
    return 1;
}

static TAI_COLD void tai_arena_add_chunk(ta_arena *arena, void *ptr, size_t size, int is_segment)
{
    tai_chunk *chunk = &arena->chunks[arena->chunk_count++];
    memset(chunk, 0, sizeof *chunk);
    chunk->base = chunk->top = chunk->touched_end = (uintptr_t)ptr;
    chunk->commit_end = is_segment ? chunk->base + size : chunk->base;
    chunk->size = size;
    chunk->first = arena->block_count;
    chunk->is_segment = is_segment;
}

/* Reserves a range that can hold need bytes. With the turn. */
static TAI_COLD ta_result tai_arena_add_range(ta_arena *arena, size_t need)
{
    tai_common *common = &arena->common;
    size_t align = common->info.granularity_bytes, size = arena->desc.range_bytes, least = need;
    void *ptr = NULL;
    ta_result result;
    if (common->info.range_bytes_max != 0) {
        size = least = common->info.range_bytes_max;
    } else {
        align = align < TAI_HUGE_PAGE_BYTES ? TAI_HUGE_PAGE_BYTES : align;
        least = tai_round_up(need, align);
        size = tai_round_up(size < least ? least : size, align);
    }
    for (;;) {
        result = TA_ERROR_OUT_OF_MEMORY;
        if (common->info.range_bytes_max != 0 || common->info.device.type != TA_DEVICE_HOST || tai_vm_has_room(size)) {
            result = common->backend.vtable->reserve(common->backend.self, size, align, 0, &ptr);
        }
        if (result == TA_OK || size == least) {
            break;
        }
        size = tai_round_down(size / 2, align);
        size = size < least ? least : size;
    }
    if (result == TA_OK) {
        tai_gate_enter(&common->gate, NULL);
        if (tai_arena_chunk_room(arena)) {
            tai_arena_add_chunk(arena, ptr, size, 0);
            common->address_range_bytes += size;
        } else {
            result = TA_ERROR_RECORDS;
        }
        tai_gate_leave(&common->gate, NULL);
        if (result != TA_OK) {
            (void)common->backend.vtable->release(common->backend.self, ptr, size);
        }
    }
    return result;
}

/* Commits the chunk that is being filled up to end, a little more where the budget has it. With the turn. */
static TAI_COLD ta_result tai_arena_commit(ta_arena *arena, uint32_t c, uintptr_t target)
{
    tai_common *common = &arena->common;
    size_t granularity = common->info.granularity_bytes, step = (size_t)128 << 10, bytes, attempt;
    uintptr_t base = arena->chunks[c].base, from = arena->chunks[c].commit_end;
    ta_result result = TA_ERROR_LIMIT;
    while (step < TAI_HUGE_PAGE_BYTES && step * 32 <= (size_t)(target - base)) {
        step *= 2;
    }
    for (attempt = 0; attempt < 2 && result != TA_OK; attempt++) {
        size_t end = tai_round_up((size_t)(target - base), attempt == 0 && step > granularity ? step : granularity);
        end = end > arena->chunks[c].size ? arena->chunks[c].size : end;
        bytes = base + end - from;
        result = TA_ERROR_LIMIT;
        if (tai_budget_charge(common->budget, bytes)) {
            result = common->backend.vtable->commit(common->backend.self, (void *)from, bytes);
            if (result != TA_OK) {
                tai_budget_refund(common->budget, bytes);
            } else {
                tai_gate_enter(&common->gate, NULL);
                arena->chunks[c].commit_end = from + bytes;
                tai_common_count_grown(common, bytes);
                tai_gate_leave(&common->gate, NULL);
            }
        }
    }
    return result;
}

/* A new segment for need bytes. With the turn. */
static TAI_COLD ta_result tai_arena_add_segment(ta_arena *arena, size_t need)
{
    tai_common *common = &arena->common;
    size_t granularity = common->info.granularity_bytes, bytes = 0, want = arena->desc.chunk_bytes;
    void *ptr = NULL;
    ta_result result = TA_ERROR_LIMIT;
    uint32_t c;
    int attempt;
    for (c = 0; c < arena->chunk_count && want < ((size_t)64 << 20); c++) {
        want *= 2;
    }
    for (attempt = 0; attempt < 2 && result != TA_OK; attempt++) {
        bytes = tai_round_up(attempt == 0 && want > need ? want : need, granularity);
        result = TA_ERROR_LIMIT;
        if (tai_budget_charge(common->budget, bytes)) {
            result = common->backend.vtable->alloc(common->backend.self, bytes, &ptr);
            if (result != TA_OK) {
                tai_budget_refund(common->budget, bytes);
            }
        }
    }
    if (result != TA_OK) {
        return result;
    }
    tai_gate_enter(&common->gate, NULL);
    if (tai_arena_chunk_room(arena)) {
        tai_arena_add_chunk(arena, ptr, bytes, 1);
        tai_common_count_grown(common, bytes);
    } else {
        result = TA_ERROR_RECORDS;
    }
    tai_gate_leave(&common->gate, NULL);
    if (result != TA_OK) {
        (void)common->backend.vtable->free(common->backend.self, ptr, bytes);
        tai_budget_refund(common->budget, bytes);
    }
    return result;
}

/* More memory for size bytes. TA_OK: look again. */
static TAI_COLD ta_result tai_arena_grow(ta_arena *arena, size_t size, size_t alignment)
{
    tai_common *common = &arena->common;
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    size_t need = size + alignment; /* plans end at PTRDIFF_MAX */
    if (!tai_common_turn_take(common)) {
        return result;
    }
    if (arena->use_ranges) {
        int round;
        for (round = 0; round < 2; round++) {
            uint32_t c = 0;
            uintptr_t addr = 0;
            int fits = 0;
            tai_gate_enter(&common->gate, NULL);
            for (c = arena->chunk; c < arena->chunk_count && !fits; c++) {
                const tai_chunk *chunk = &arena->chunks[c];
                addr = (uintptr_t)tai_round_up((size_t)chunk->top, alignment);
                fits = !chunk->is_segment && (size_t)(addr - chunk->base) <= chunk->size &&
                       size <= chunk->size - (size_t)(addr - chunk->base);
            }
            tai_gate_leave(&common->gate, NULL);
            if (fits) {
                c--;
                result = addr + size <= arena->chunks[c].commit_end
                             ? TA_OK
                             : tai_arena_commit(arena, c, addr + size);
                break;
            }
            result = round == 0 ? tai_arena_add_range(arena, need) : TA_ERROR_OUT_OF_MEMORY;
            if (result != TA_OK) {
                break;
            }
        }
    }
    if (result != TA_OK && result != TA_ERROR_LIMIT && (common->info.caps & TA_CAP_SEGMENTS) != 0) {
        result = tai_arena_add_segment(arena, alignment > common->info.granularity_bytes ? need : size);
    }
    tai_common_turn_end(common);
    return result;
}

/* Takes the last record away, and the chunk's end back to where it began. Inside the gate. */
static void tai_arena_pop(ta_arena *arena)
{
    tai_arena_block *block = &arena->blocks[--arena->block_count];
    tai_chunk *chunk;
    while (arena->chunk > 0 && arena->chunks[arena->chunk].first >= arena->block_count) { /* empty now */
        arena->chunks[arena->chunk].top = arena->chunks[arena->chunk].base;
        arena->chunk--;
    }
    chunk = &arena->chunks[arena->chunk];
    chunk->top = arena->block_count == chunk->first
                     ? chunk->base
                     : arena->blocks[arena->block_count - 1].addr + arena->blocks[arena->block_count - 1].size;
    tai_arena_fill_popped(arena, block);
    if (block->state == TAI_LIVE) {
        tai_common_count_free(&arena->common, block->requested, block->size);
        block->state = TAI_VACANT;
        block->generation++;
    }
}

/* Takes all blocks from index count on away. Those that were live are told, with the gate left. Inside the gate. */
static void tai_arena_pop_to(ta_arena *arena, uint32_t count)
{
    tai_common *common = &arena->common;
    while (arena->block_count > count) {
        const tai_arena_block *last = &arena->blocks[arena->block_count - 1];
        if (TAI_UNLIKELY(common->on_event != NULL) && last->state == TAI_LIVE) {
            tai_arena_block was = *last;
            tai_arena_pop(arena);
            tai_gate_leave(&common->gate, NULL);
            tai_common_tell_block(common, TA_EVENT_FREE, was.addr, was.requested, was.size, 0, was.tag, 0);
            tai_gate_enter(&common->gate, NULL);
        } else {
            tai_arena_pop(arena);
        }
    }
}

/* Takes freed blocks away from the end, down to the latest mark. Inside the gate. */
static void tai_arena_pop_vacant(ta_arena *arena)
{
    while (arena->block_count > arena->floor && arena->blocks[arena->block_count - 1].state == TAI_VACANT) {
        tai_arena_pop(arena);
    }
}

/* A busy record for the plan, from what is committed or after growing. NULL with *why. *fresh: its bytes were
   never used. */
static tai_arena_block *tai_arena_obtain(ta_arena *arena, const ta_request *request, size_t size, size_t alignment,
                                         int *fresh, int *missed, ta_result *why)
{
    tai_common *common = &arena->common;
    int asked = 0;
    for (;;) {
        tai_arena_block *block = NULL;
        tai_gate_enter(&common->gate, NULL);
        *why = TA_ERROR_NOT_CACHED;
        if (!tai_table_ensure(&arena->table, ((size_t)arena->block_count + 1) * sizeof(tai_arena_block))) {
            *why = TA_ERROR_RECORDS;
        } else if ((block = tai_arena_bump(arena, size, alignment)) != NULL) {
            tai_chunk *chunk = &arena->chunks[arena->chunk];
            *fresh = (common->info.caps & TA_CAP_FRESH_ZERO) != 0 && block->addr >= chunk->touched_end;
            chunk->touched_end = chunk->top > chunk->touched_end ? chunk->top : chunk->touched_end;
            *why = TA_OK;
        }
        tai_gate_leave(&common->gate, NULL);
        if (block != NULL || *why == TA_ERROR_RECORDS || (request->flags & TA_REQUEST_CACHED_ONLY) != 0) {
            return block;
        }
        *why = tai_arena_grow(arena, size, alignment);
        if (*why == TA_ERROR_LIMIT && !asked && (request->flags & TA_REQUEST_WITHIN_BUDGET) == 0 &&
            tai_budget_may_hold(common->budget, common->in_use, size)) {
            asked = 1; /* not with the turn: siblings and their callbacks run */
            if (tai_budget_reclaim(common->budget, &common->member,
                                   size + alignment + common->info.granularity_bytes) != 0) {
                continue;
            }
        }
        if (*why != TA_OK) {
            return NULL;
        }
        *missed = 1;
    }
}

static void *tai_arena_alloc_request(ta_arena *arena, const ta_request *request, ta_result *result)
{
    tai_common *common = &arena->common;
    tai_arena_block *block = NULL;
    size_t alignment = 0, size;
    uintptr_t addr = 0;
    int missed = 0, fresh = 0;
    ta_result why = tai_common_usable(common);
    if (why == TA_OK) {
        why = tai_common_plan(common, request, &alignment);
    }
    if (why != TA_OK) {
        return tai_fail_null(why, result);
    }
    if (!tai_common_use_stream(common, request->stream)) {
        return tai_common_fail(common, request, TA_ERROR_RECORDS, result);
    }
    size = tai_round_up(tai_guard_padded(&common->guard, request->size_bytes), common->info.alignment_bytes);
    block = tai_arena_obtain(arena, request, size, alignment, &fresh, &missed, &why);
    if (block == NULL) {
        return tai_common_fail(common, request, why, result);
    }
    addr = block->addr; /* a busy record stays where it is */
    if (((request->flags & TA_REQUEST_ZEROED) != 0 || arena->desc.zeroed) && !fresh) {
        why = tai_backend_zero(common->backend, (void *)addr, request->size_bytes, request->stream);
    }
    tai_common_paint(common, addr, request->size_bytes, size);
    tai_gate_enter(&common->gate, NULL);
    if (why == TA_OK) {
        block->requested = request->size_bytes;
        block->tag = request->tag;
        block->state = TAI_LIVE;
        tai_common_count_alloc(common, request->size_bytes, size);
        common->miss_count += missed != 0;
    } else {
        block->state = TAI_VACANT;
        tai_arena_pop_vacant(arena);
    }
    tai_gate_leave(&common->gate, NULL);
    if (why != TA_OK) {
        return tai_common_fail(common, request, why, result);
    }
    if (TAI_UNLIKELY(common->on_event != NULL)) {
        tai_common_tell_block(common, TA_EVENT_ALLOC, addr, request->size_bytes, size, request->stream, request->tag,
                              !missed);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return (void *)addr;
}

/* The block that starts at ptr; NULL with *result. Inside the gate. */
static tai_arena_block *tai_arena_find(ta_arena *arena, const void *ptr, ta_result *result)
{
    uintptr_t addr = (uintptr_t)ptr;
    uint32_t c;
    *result = TA_ERROR_FOREIGN;
    for (c = 0; c < arena->chunk_count; c++) {
        const tai_chunk *chunk = &arena->chunks[c];
        uint32_t low = chunk->first, high = c < arena->chunk ? arena->chunks[c + 1].first : arena->block_count;
        if ((size_t)(addr - chunk->base) >= chunk->size) {
            continue;
        }
        if (c > arena->chunk || low >= high || addr >= chunk->top) {
            *result = addr < chunk->touched_end ? TA_ERROR_STALE : TA_ERROR_FOREIGN;
            return NULL;
        }
        while (high - low > 1) { /* the last block that starts at or before addr */
            uint32_t middle = low + (high - low) / 2;
            if (arena->blocks[middle].addr <= addr) {
                low = middle;
            } else {
                high = middle;
            }
        }
        if (arena->blocks[low].addr == addr && arena->blocks[low].state == TAI_LIVE) {
            *result = TA_OK;
            return &arena->blocks[low];
        }
        *result = arena->blocks[low].state == TAI_LIVE && addr > arena->blocks[low].addr &&
                          addr - arena->blocks[low].addr < arena->blocks[low].size
                ? TA_ERROR_INTERIOR : TA_ERROR_STALE;
        return NULL;
    }
    return NULL;
}

static ta_result tai_arena_v_free(void *self, void *ptr, size_t size, size_t alignment, ta_stream stream)
{
    ta_arena *arena = (ta_arena *)self;
    tai_arena_block *block, was;
    ta_result result = tai_common_usable(&arena->common);
    (void)alignment;
    if (result != TA_OK || ptr == NULL) {
        return result;
    }
    if (!tai_common_use_stream(&arena->common, stream)) {
        return TA_ERROR_RECORDS;
    }
    result = tai_arena_look(arena, ptr);
    if (TAI_CHECKED && result != TA_OK) {
        return result;
    }
    memset(&was, 0, sizeof was);
    tai_gate_enter(&arena->common.gate, NULL);
    block = tai_arena_find(arena, ptr, &result);
    if (block != NULL && size != 0 && size != block->requested) {
        result = TA_ERROR_SIZE_MISMATCH;
    } else if (block != NULL) {
        was = *block;
        tai_common_count_free(&arena->common, block->requested, block->size);
        block->state = TAI_VACANT;
        block->generation++;
        tai_arena_fill(arena, &arena->chunks[tai_arena_chunk_of(arena, block->addr)], block->addr,
                       block->addr + block->size);
        tai_arena_pop_vacant(arena);
    }
    tai_gate_leave(&arena->common.gate, NULL);
    if (TAI_UNLIKELY(arena->common.on_event != NULL) && result == TA_OK) {
        tai_common_tell_block(&arena->common, TA_EVENT_FREE, was.addr, was.requested, was.size, stream, was.tag, 0);
    }
    return tai_common_blame(&arena->common, result, ptr, size, NULL);
}

/* The chunk that the last block lies in; there is one. Inside the gate. */
static uint32_t tai_arena_last_chunk(const ta_arena *arena)
{
    uint32_t c = arena->chunk;
    while (c > 0 && arena->chunks[c].first >= arena->block_count) {
        c--;
    }
    return c;
}

/* Inside the gate. TA_OK with *out = the block, or TA_ERROR_WOULD_MOVE with *out_more = bytes to commit first, 0 if
   that would not help. */
static TAI_COLD ta_result tai_arena_resize_once(ta_arena *arena, void *ptr, size_t old_bytes, size_t new_bytes,
                                                size_t *out_more, tai_arena_block *out)
{
    ta_result result;
    tai_arena_block *block = tai_arena_find(arena, ptr, &result);
    size_t size = tai_round_up(tai_guard_padded(&arena->common.guard, new_bytes),
                               arena->common.info.alignment_bytes);
    *out_more = 0;
    if (block == NULL) {
        return result;
    }
    if (old_bytes != 0 && old_bytes != block->requested) {
        return TA_ERROR_SIZE_MISMATCH;
    }
    if (block == &arena->blocks[arena->block_count - 1]) {
        tai_chunk *chunk = &arena->chunks[tai_arena_last_chunk(arena)];
        if (size > (size_t)(chunk->commit_end - block->addr)) {
            *out_more = !chunk->is_segment && size <= chunk->size - (size_t)(block->addr - chunk->base) ? size : 0;
            return TA_ERROR_WOULD_MOVE;
        }
        arena->common.in_use += size - block->size;
        if (arena->common.in_use > arena->common.peak_in_use) {
            arena->common.peak_in_use = arena->common.in_use;
        }
        block->size = size;
        tai_arena_unfill(arena, chunk, chunk->top, block->addr + size);
        tai_arena_fill(arena, chunk, block->addr + size, chunk->top);
        chunk->top = block->addr + size;
        chunk->touched_end = chunk->top > chunk->touched_end ? chunk->top : chunk->touched_end;
    } else if (size > block->size) {
        return TA_ERROR_WOULD_MOVE;
    }
    tai_count_resize(&arena->common.count, block->requested, new_bytes);
    block->requested = new_bytes;
    tai_common_paint(&arena->common, block->addr, new_bytes, block->size);
    arena->common.resize_count++;
    *out = *block;
    return TA_OK;
}

static ta_result tai_arena_v_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    ta_arena *arena = (ta_arena *)self;
    tai_common *common = &arena->common;
    ta_result result = tai_common_usable(common);
    tai_arena_block now;
    size_t more = 0;
    uint32_t c;
    if (result != TA_OK || ptr == NULL || new_bytes == 0 || new_bytes > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return result != TA_OK ? result : ptr == NULL ? TA_ERROR_INVALID_ARGUMENT
             : new_bytes == 0 ? TA_ERROR_INVALID_SIZE : TA_ERROR_OVERFLOW;
    }
    result = tai_arena_look(arena, ptr);
    if (TAI_CHECKED && result != TA_OK) {
        return result;
    }
    memset(&now, 0, sizeof now);
    tai_gate_enter(&common->gate, NULL);
    result = tai_arena_resize_once(arena, ptr, old_bytes, new_bytes, &more, &now);
    tai_gate_leave(&common->gate, NULL);
    if (more != 0) {
        int last;
        if (!tai_common_turn_take(common)) {
            return result;
        }
        tai_gate_enter(&common->gate, NULL);
        c = arena->block_count != 0 ? tai_arena_last_chunk(arena) : 0;
        last = arena->block_count != 0 && arena->blocks[arena->block_count - 1].addr == (uintptr_t)ptr;
        tai_gate_leave(&common->gate, NULL);
        if (last && (arena->chunks[c].commit_end >= (uintptr_t)ptr + more ||
                     tai_arena_commit(arena, c, (uintptr_t)ptr + more) == TA_OK)) {
            tai_gate_enter(&common->gate, NULL);
            result = tai_arena_resize_once(arena, ptr, old_bytes, new_bytes, &more, &now);
            tai_gate_leave(&common->gate, NULL);
        }
        tai_common_turn_end(common);
    }
    if (TAI_UNLIKELY(common->on_event != NULL)) {
        if (result == TA_OK) {
            tai_common_tell_block(common, TA_EVENT_RESIZE, now.addr, new_bytes, now.size, 0, now.tag, 0);
        }
        tai_common_tell_moved(common);
    }
    return tai_common_blame(common, result, ptr, old_bytes, NULL);
}

static void *tai_arena_v_remap(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    ta_result why = tai_arena_v_resize(self, ptr, old_bytes, new_bytes);
    if (result != NULL) {
        *result = why;
    }
    return why == TA_OK ? ptr : NULL;
}

/* Gives the free end of one chunk back, as far as more than keep bytes are free: pages of a range, a segment whole.
   With the turn. 0 if the backend refused. */
static TAI_COLD int tai_arena_trim_chunk(ta_arena *arena, uint32_t c, size_t keep, size_t *released)
{
    tai_common *common = &arena->common;
    size_t granularity = common->info.granularity_bytes, cached, excess;
    tai_chunk chunk;
    uintptr_t end, to;
    int ok;
    tai_gate_enter(&common->gate, NULL);
    chunk = arena->chunks[c];
    to = chunk.commit_end;
    cached = common->reserved - common->in_use;
    excess = cached > keep ? tai_round_up(cached - keep, granularity) : 0;
    end = chunk.base + tai_round_up((size_t)(chunk.top - chunk.base), granularity);
    end = end < chunk.commit_end && (size_t)(chunk.commit_end - end) > excess ? chunk.commit_end - excess : end;
    end = end > chunk.commit_end ? chunk.commit_end : end;
    if (chunk.is_segment) { /* only from the end of the list, and only if no block is in it */
        int spare = c == arena->chunk_count - 1 && (c > arena->chunk || c == 0) && chunk.top == chunk.base;
        end = spare && excess != 0 ? chunk.base : chunk.commit_end;
        arena->chunk_count -= end == chunk.base;
    } else {
        arena->chunks[c].commit_end = end; /* out of reach */
        tai_arena_set_fill_end(&arena->chunks[c], end);
    }
    tai_gate_leave(&common->gate, NULL);
    if (end == chunk.commit_end) {
        return 1;
    }
    ok = TA_OK == (chunk.is_segment
                       ? common->backend.vtable->free(common->backend.self, (void *)chunk.base, chunk.size)
                       : tai_backend_decommit(common->backend, &end, &to)); /* end: that of a piece now */
    tai_gate_enter(&common->gate, NULL);
    if (ok) {
        tai_common_count_returned(common, (size_t)(chunk.commit_end - end));
        common->trim_count += end != chunk.commit_end;
        common->trimmed_bytes += (size_t)(chunk.commit_end - end);
        arena->chunks[c].commit_end = chunk.is_segment ? arena->chunks[c].commit_end : end;
    } else if (chunk.is_segment) {
        arena->chunks[arena->chunk_count++] = chunk;
    } else {
        arena->chunks[c].commit_end = chunk.commit_end;
    }
    tai_gate_leave(&common->gate, NULL);
    if (ok) {
        tai_budget_refund(common->budget, (size_t)(chunk.commit_end - end));
        *released += (size_t)(chunk.commit_end - end);
    }
    return ok;
}

/* Gives committed memory that no block is in back until at most keep bytes are free, the last chunk first. With
   the turn. */
static TAI_COLD size_t tai_arena_trim_turn(ta_arena *arena, size_t keep)
{
    size_t released = 0;
    uint32_t c = arena->chunk_count; /* changes only with the turn */
    if (tai_common_sync_all(&arena->common) != TA_OK) {
        return 0;
    }
    while (c-- > 0 && tai_arena_trim_chunk(arena, c, keep, &released)) {
    }
    return released;
}

static ta_result tai_arena_v_trim(void *self, size_t keep_bytes, size_t *out_released_bytes)
{
    ta_arena *arena = (ta_arena *)self;
    ta_result result = tai_common_usable(&arena->common);
    size_t released = 0;
    if (result == TA_OK) {
        if (tai_common_turn_take(&arena->common)) {
            released = tai_arena_trim_turn(arena, keep_bytes);
            tai_common_turn_end(&arena->common);
            tai_common_tell_moved(&arena->common);
        }
    }
    if (out_released_bytes != NULL) {
        *out_released_bytes = released;
    }
    return result;
}

static ta_result tai_arena_v_empty_cache(void *self)
{
    return tai_arena_v_trim(self, 0, NULL);
}

static TAI_COLD size_t tai_arena_cached(void *self, int pages)
{
    ta_arena *arena = (ta_arena *)self;
    size_t cached = 0;
    if (pages && !arena->common.single_threaded && tai_common_usable(&arena->common) == TA_OK) {
        tai_gate_enter(&arena->common.gate, NULL);
        cached = arena->common.reserved - arena->common.in_use;
        tai_gate_leave(&arena->common.gate, NULL);
    }
    return cached;
}

static TAI_COLD size_t tai_arena_reclaim(void *self, size_t want_bytes)
{
    ta_arena *arena = (ta_arena *)self;
    size_t released, cached;
    if (arena->common.single_threaded || tai_common_usable(&arena->common) != TA_OK ||
        !tai_common_turn_try(&arena->common)) {
        return 0;
    }
    tai_gate_enter(&arena->common.gate, NULL);
    cached = arena->common.reserved - arena->common.in_use;
    tai_gate_leave(&arena->common.gate, NULL);
    released = tai_arena_trim_turn(arena, cached > want_bytes ? cached - want_bytes : 0);
    tai_common_turn_end(&arena->common);
    tai_common_tell_moved(&arena->common);
    return released;
}

static ta_result tai_arena_v_stats(void *self, ta_stats *out)
{
    ta_arena *arena = (ta_arena *)self;
    return tai_common_stats(&arena->common, &arena->table, sizeof *arena, out);
}

static ta_result tai_arena_v_device(void *self, ta_device *out)
{
    *out = ((ta_arena *)self)->common.info.device;
    return tai_common_usable(&((ta_arena *)self)->common);
}

static ta_result tai_arena_v_dispose(void *self)
{
    ta_arena *arena = (ta_arena *)self;
    tai_common *common = &arena->common;
    uint32_t c;
    ta_result found;
    if (common->disposed) {
        return TAI_CHECKED && common->disposed == 2 ? tai_common_usable(common) : TA_OK;
    }
    if (tai_common_usable(common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    found = tai_arena_look_all(arena, 0);
    tai_budget_leave(common->budget, &common->member);
    (void)tai_common_sync_all(common);
    for (c = 0; c < arena->chunk_count; c++) {
        const tai_chunk *chunk = &arena->chunks[c];
        if (chunk->is_segment) {
            (void)common->backend.vtable->free(common->backend.self, (void *)chunk->base, chunk->size);
        } else {
            (void)common->backend.vtable->release(common->backend.self, (void *)chunk->base, chunk->size);
        }
    }
    tai_common_dispose(common);
    TENSORALLOC_FREE(arena->chunks);
    TENSORALLOC_FREE(common->streams);
    common->streams = NULL;
    common->stream_count = common->stream_room = 0;
    arena->chunks = NULL;
    arena->chunk_count = arena->chunk_room = arena->block_count = 0;
    tai_table_free(&arena->table);
    common->object_bytes = 0;
    return found;
}

static ta_result tai_arena_v_destroy(void *self)
{
    return ta_arena_destroy((ta_arena *)self);
}

static ta_result tai_arena_v_describe(void *self, const void *ptr, ta_block_info *out)
{
    ta_arena *arena = (ta_arena *)self;
    const tai_arena_block *block;
    ta_result result = tai_common_usable(&arena->common);
    if (result != TA_OK) {
        return result;
    }
    memset(out, 0, sizeof *out);
    out->id.owner = arena->common.id;
    tai_gate_enter(&arena->common.gate, NULL);
    block = tai_arena_find(arena, ptr, &result);
    if (block != NULL) {
        out->committed_bytes = block->size;
        out->ptr = (void *)block->addr;
        out->requested_bytes = block->requested;
        out->capacity_bytes = tai_guard_padded(&arena->common.guard, 1) == 1 ? block->size : block->requested;
        out->state = TA_BLOCK_LIVE;
        out->tag = block->tag;
        out->id.index = (uint32_t)(block - arena->blocks);
        out->id.generation = block->generation;
    }
    tai_gate_leave(&arena->common.gate, NULL);
    return result;
}

static void *tai_arena_v_alloc(void *self, const ta_request *request, ta_result *result)
{
    return tai_arena_alloc_request((ta_arena *)self, request, result);
}

static const ta_allocator_vtable tai_arena_vtable = {sizeof(ta_allocator_vtable), "arena",
                                                     tai_arena_v_alloc,           tai_arena_v_resize,
                                                     tai_arena_v_remap,           tai_arena_v_free,
                                                     tai_arena_v_empty_cache,     tai_arena_v_trim,
                                                     tai_arena_v_stats,           tai_arena_v_device,
                                                     tai_arena_v_dispose,         tai_arena_v_destroy,
                                                     tai_arena_v_describe};

TENSORALLOC_DEF TAI_COLD ta_allocator ta_arena_allocator(ta_arena *arena)
{
    ta_allocator allocator;
    allocator.vtable = &tai_arena_vtable;
    allocator.self = arena;
    return allocator;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_arena_create(const ta_arena_desc *desc, ta_arena **out)
{
    ta_arena *arena;
    ta_result result;
    size_t count = tai_block_count_default();
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    arena = (ta_arena *)TENSORALLOC_MALLOC(sizeof *arena);
    if (arena == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(arena, 0, sizeof *arena);
    if (desc != NULL) {
        arena->desc = *desc;
    }
    arena->desc.range_bytes = arena->desc.range_bytes != 0 ? arena->desc.range_bytes : tai_range_default();
    arena->desc.chunk_bytes = arena->desc.chunk_bytes != 0 ? arena->desc.chunk_bytes : (size_t)1 << 20;
    arena->desc.limit_bytes = arena->desc.limit_bytes != 0 ? arena->desc.limit_bytes : TA_UNLIMITED;
    result = tai_common_init(&arena->common, arena, arena->desc.budget, arena->desc.backend, arena->desc.limit_bytes,
                             arena->desc.name != NULL ? arena->desc.name : "arena", arena->desc.single_threaded);
    if (result == TA_OK &&
        !tai_table_init(&arena->table, count * sizeof(tai_arena_block), 1024 * sizeof(tai_arena_block))) {
        result = TA_ERROR_RECORDS;
        if (arena->common.budget_owned) {
            (void)ta_budget_destroy(arena->common.budget);
        }
    }
    if (result != TA_OK) {
        TENSORALLOC_FREE(arena);
        return result;
    }
    arena->desc.backend = arena->common.backend;
    arena->desc.name = arena->common.name;
    arena->common.on_event = arena->desc.on_event;
    arena->common.on_event_user = arena->desc.on_event_user;
    arena->blocks = (tai_arena_block *)(void *)arena->table.base;
    arena->use_ranges = (arena->common.info.caps & TA_CAP_RANGES) != 0;
    arena->common.member.reclaim = tai_arena_reclaim;
    arena->common.member.cached = tai_arena_cached;
    tai_budget_join(arena->common.budget, &arena->common.member);
    *out = arena;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_arena_get_desc(ta_arena *arena, ta_arena_desc *out)
{
    if (arena == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = arena->desc;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_arena_reset_peaks(ta_arena *arena)
{
    return arena == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_common_reset_peaks(&arena->common);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_arena_destroy(ta_arena *arena)
{
    ta_result result;
    if (arena == NULL) {
        return TA_OK;
    }
    result = tai_arena_v_dispose(arena);
    if (result == TA_OK || (TAI_CHECKED && result != TA_ERROR_FORKED && result != TA_ERROR_DISPOSED)) {
        if (arena->common.budget_owned) {
            (void)ta_budget_destroy(arena->common.budget);
        }
        tai_common_bury(&arena->common, arena);
    }
    return result;
}

TENSORALLOC_DEF void *ta_arena_alloc_aligned(ta_arena *arena, size_t size_bytes, size_t alignment_bytes,
                                             ta_result *result)
{
    ta_request request;
    if (arena == NULL) {
        return tai_fail_null(TAI_BAD(TA_ERROR_INVALID_ARGUMENT), result);
    }
    if (!tai_is_power_of_two(alignment_bytes)) {
        return tai_fail_null(TAI_BAD(TA_ERROR_INVALID_ALIGNMENT), result);
    }
    memset(&request, 0, sizeof request);
    request.size_bytes = size_bytes;
    request.alignment_bytes = alignment_bytes;
    return tai_arena_alloc_request(arena, &request, result);
}

TENSORALLOC_DEF void *ta_arena_alloc(ta_arena *arena, size_t size_bytes, ta_result *result)
{
    return ta_arena_alloc_aligned(arena, size_bytes, 1, result);
}

TENSORALLOC_DEF void *ta_arena_alloc_array(ta_arena *arena, size_t count, size_t element_bytes, ta_result *result)
{
    size_t size;
    if (!tai_mul(count, element_bytes, &size)) {
        return tai_fail_null(TA_ERROR_OVERFLOW, result);
    }
    return ta_arena_alloc_aligned(arena, size, 1, result);
}

TENSORALLOC_DEF ta_arena_mark ta_arena_get_mark(ta_arena *arena)
{
    ta_arena_mark mark;
    memset(&mark, 0, sizeof mark);
    if (arena != NULL && tai_common_usable(&arena->common) == TA_OK) {
        tai_gate_enter(&arena->common.gate, NULL);
        mark.owner = arena->common.id;
        mark.block_count = arena->block_count;
        mark.epoch = arena->epoch;
        arena->floor = arena->block_count;
        tai_gate_leave(&arena->common.gate, NULL);
    }
    return mark;
}

TENSORALLOC_DEF ta_result ta_arena_rewind(ta_arena *arena, ta_arena_mark mark)
{
    ta_result result = arena == NULL ? TA_ERROR_INVALID_ARGUMENT : tai_common_usable(&arena->common);
    if (result != TA_OK) {
        return result;
    }
    if (mark.owner != arena->common.id) {
        return tai_common_blame(&arena->common, TA_ERROR_FOREIGN, NULL, 0, NULL);
    }
    result = tai_arena_look_all(arena, mark.block_count);
    if (TAI_CHECKED && result != TA_OK) {
        return result;
    }
    tai_gate_enter(&arena->common.gate, NULL);
    if (mark.block_count > arena->block_count || mark.epoch < arena->reset_epoch ||
        (mark.block_count != 0 && arena->blocks[mark.block_count - 1].epoch > mark.epoch)) {
        result = TA_ERROR_STALE;
    } else {
        tai_arena_pop_to(arena, mark.block_count);
        arena->floor = mark.block_count;
        arena->epoch++;
    }
    tai_gate_leave(&arena->common.gate, NULL);
    return tai_common_blame(&arena->common, result, NULL, 0, NULL);
}

TENSORALLOC_DEF ta_result ta_arena_reset(ta_arena *arena, size_t retain_bytes)
{
    ta_result result = arena == NULL ? TA_ERROR_INVALID_ARGUMENT : tai_common_usable(&arena->common);
    if (result != TA_OK) {
        return result;
    }
    result = tai_arena_look_all(arena, 0);
    if (TAI_CHECKED && result != TA_OK) {
        return result;
    }
    tai_gate_enter(&arena->common.gate, NULL);
    arena->floor = 0;
    tai_arena_pop_to(arena, 0);
    if (arena->chunk_count != 0) {
        arena->chunk = 0;
        arena->chunks[0].top = arena->chunks[0].base;
    }
    arena->reset_epoch = ++arena->epoch;
    tai_gate_leave(&arena->common.gate, NULL);
    return tai_arena_v_trim(arena, retain_bytes, NULL);
}

/*---------------------------------------------------------------------------------------------------------
  [TA:DIRECT] pass-through: one backend segment per block, nothing kept.
  Uses: ARENA-IMPL (common part, records).
  Locks: the gate, left around calls of the backend.
  Invariants: exactly the live records are in chains; reserved = the segments of all records that are not vacant.
  -------------------------------------------------------------------------------------------------------*/
typedef struct tai_direct_block {
    tai_link link;       /* state: TAI_VACANT, TAI_LIVE, TAI_CACHED (live, being given back), TAI_BUSY (not live
                            yet), TAI_PENDING (never was, but the backend would not take its segment back) */
    uintptr_t segment;
    size_t segment_bytes;
    size_t requested;
    const char *tag;
    ta_stream stream;    /* home */
} tai_direct_block;

struct ta_direct {
    tai_common common;
    tai_records records;
    ta_direct_desc desc;
};

static tai_direct_block *tai_direct_at(const ta_direct *direct, uint32_t index)
{
    return (tai_direct_block *)(void *)tai_record_at(&direct->records, index);
}

/* ---- checked builds: a red zone on either side of a block */
#ifdef TENSORALLOC_CHECKED
static size_t tai_direct_front(const ta_direct *direct)
{
    return direct->common.guard.on ? TAI_RED_BYTES : 0;
}

static void tai_direct_paint(const ta_direct *direct, const tai_direct_block *block, size_t requested)
{
    size_t front = (size_t)(block->link.addr - block->segment);
    if (direct->common.guard.on) {
        tai_red_paint(block->segment, 0, front);
        tai_red_paint(block->link.addr, requested, block->segment_bytes - front);
    }
}

/* Whether bytes around a live block were written, told. Outside the gate; the block is busy, or nobody else uses it. */
static TAI_COLD ta_result tai_direct_look(const ta_direct *direct, const tai_direct_block *block)
{
    size_t front = (size_t)(block->link.addr - block->segment);
    ta_result result = TA_OK;
    if (direct->common.guard.on) {
        result = !tai_red_is_whole(block->link.addr, block->requested, block->segment_bytes - front)
                     ? TA_ERROR_OVERRUN
               : !tai_red_is_whole(block->segment, 0, front) ? TA_ERROR_UNDERRUN : TA_OK;
    }
    return tai_common_blame(&direct->common, result, (const void *)block->link.addr, block->requested, block->tag);
}

/* Before it goes: damage, and blocks that were never freed. */
static TAI_COLD ta_result tai_direct_close(ta_direct *direct, int leaks)
{
    ta_result found = TA_OK, one;
    uint32_t i;
    int told = 0;
    if (direct->common.disposed || direct->common.guard.closed || tai_common_usable(&direct->common) != TA_OK) {
        return TA_OK;
    }
    direct->common.guard.closed = 1;
    for (i = 1; i < direct->records.end; i++) {
        const tai_direct_block *block = tai_direct_at(direct, i);
        if (block->link.state == TAI_LIVE) {
            one = tai_direct_look(direct, block);
            if (one == TA_OK && leaks) {
                one = TA_ERROR_LEAK;
                if (++told <= TAI_REPORTS_MAX) {
                    (void)tai_common_blame(&direct->common, one, (const void *)block->link.addr, block->requested,
                                           block->tag);
                }
            }
            found = tai_guard_worse(found, one);
        }
    }
    return found;
}
#else
    #define tai_direct_front(direct) 0u
    #define tai_direct_paint(direct, block, requested) ((void)0)
    #define tai_direct_look(direct, block) TA_OK
    #define tai_direct_close(direct, leaks) TA_OK
#endif

static TAI_COLD uint32_t tai_direct_find(ta_direct *direct, const void *ptr, ta_result *result)
{
    uint32_t index = tai_record_find(&direct->records, (uintptr_t)ptr);
    *result = TA_OK;
    if (index == 0) { /* why: a slow look over all records */
        *result = TA_ERROR_FOREIGN;
        for (index = 1; index < direct->records.end; index++) {
            const tai_direct_block *block = tai_direct_at(direct, index);
            if (block->link.state == TAI_LIVE && (uintptr_t)ptr - block->segment < block->segment_bytes) {
                *result = TA_ERROR_INTERIOR;
                return 0;
            }
            if (block->link.state != TAI_LIVE && block->link.addr == (uintptr_t)ptr) {
                *result = TA_ERROR_STALE;
            }
        }
        index = 0;
    }
    return index;
}

/* The segment of a record that never became live goes back; if the backend refuses, the record keeps it (pending,
   counted as cached) for a later trim or dispose. Returns the bytes that went. Outside the gate. */
static size_t tai_direct_give_segment(ta_direct *direct, uint32_t index)
{
    tai_common *common = &direct->common;
    tai_direct_block *block = tai_direct_at(direct, index);
    size_t bytes = block->segment_bytes;
    int ok = common->backend.vtable->free(common->backend.self, (void *)block->segment, bytes) == TA_OK;
    tai_gate_enter(&common->gate, NULL);
    if (ok) {
        tai_common_count_returned(common, bytes);
        tai_record_drop(&direct->records, index);
    } else {
        block->link.state = TAI_PENDING;
    }
    tai_gate_leave(&common->gate, NULL);
    if (ok) {
        tai_budget_refund(common->budget, bytes);
    }
    return ok ? bytes : 0;
}

/* A segment for a busy record. Outside the gate. */
static ta_result tai_direct_take_segment(ta_direct *direct, uint32_t index, size_t bytes, size_t alignment,
                                         uint32_t flags)
{
    tai_common *common = &direct->common;
    tai_direct_block *block = tai_direct_at(direct, index);
    void *ptr = NULL;
    ta_result result;
    if (!tai_common_charge(common, bytes, flags)) {
        return TA_ERROR_LIMIT;
    }
    result = common->backend.vtable->alloc(common->backend.self, bytes, &ptr);
    if (result != TA_OK) {
        tai_budget_refund(common->budget, bytes);
        return result;
    }
    tai_gate_enter(&common->gate, NULL);
    block->segment = (uintptr_t)ptr;
    block->segment_bytes = bytes;
    block->link.addr = (uintptr_t)tai_round_up((size_t)(uintptr_t)ptr + tai_direct_front(direct), alignment);
    tai_common_count_grown(common, bytes);
    tai_gate_leave(&common->gate, NULL);
    return TA_OK;
}

static void *tai_direct_v_alloc(void *self, const ta_request *request, ta_result *result)
{
    ta_direct *direct = (ta_direct *)self;
    tai_common *common = &direct->common;
    size_t alignment = 0, bytes;
    uint32_t index;
    tai_direct_block *block;
    void *ptr;
    ta_result why = tai_common_usable(common);
    if (why == TA_OK) {
        why = tai_common_plan(common, request, &alignment);
    }
    if (why != TA_OK) {
        return tai_fail_null(why, result);
    }
    if ((request->flags & TA_REQUEST_CACHED_ONLY) != 0) {
        return tai_common_fail(common, request, TA_ERROR_NOT_CACHED, result);
    }
    tai_gate_enter(&common->gate, NULL);
    index = tai_record_new(&direct->records);
    tai_gate_leave(&common->gate, NULL);
    if (index == 0) {
        return tai_common_fail(common, request, TA_ERROR_RECORDS, result);
    }
    block = tai_direct_at(direct, index);
    bytes = request->size_bytes + (alignment > common->info.granularity_bytes ? alignment : 0);
    if (TAI_CHECKED) { /* in front, behind */
        bytes = tai_guard_padded(&common->guard, tai_round_up(tai_direct_front(direct), alignment) + bytes);
    }
    why = tai_direct_take_segment(direct, index, tai_round_up(bytes, common->info.granularity_bytes), alignment,
                                  request->flags);
    if (why != TA_OK) {
        tai_gate_enter(&common->gate, NULL);
        tai_record_drop(&direct->records, index);
        tai_gate_leave(&common->gate, NULL);
        return tai_common_fail(common, request, why, result);
    }
    ptr = (void *)block->link.addr;
    if ((request->flags & TA_REQUEST_ZEROED) != 0 && (common->info.caps & TA_CAP_FRESH_ZERO) == 0) {
        why = tai_backend_zero(common->backend, ptr, request->size_bytes, request->stream);
    }
    if (why != TA_OK) {
        (void)tai_direct_give_segment(direct, index);
        return tai_common_fail(common, request, why, result);
    }
    tai_direct_paint(direct, block, request->size_bytes);
    tai_gate_enter(&common->gate, NULL);
    block->requested = request->size_bytes;
    block->tag = request->tag;
    block->stream = request->stream;
    block->link.state = TAI_LIVE;
    tai_record_link(&direct->records, index);
    bytes = block->segment_bytes - (size_t)(block->link.addr - block->segment);
    tai_common_count_alloc(common, request->size_bytes, bytes);
    common->miss_count++;
    tai_gate_leave(&common->gate, NULL);
    if (TAI_UNLIKELY(common->on_event != NULL)) {
        tai_common_tell_block(common, TA_EVENT_ALLOC, (uintptr_t)ptr, request->size_bytes, bytes, request->stream,
                              request->tag, 0);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* Takes the record of a block out of its chain. Inside the gate. */
static void tai_direct_remove(ta_direct *direct, uint32_t index)
{
    tai_direct_block *block = tai_direct_at(direct, index);
    tai_record_unlink(&direct->records, index);
    block->link.generation++;
    tai_common_count_returned(&direct->common, block->segment_bytes);
    tai_common_count_free(&direct->common, block->requested,
                          block->segment_bytes - (size_t)(block->link.addr - block->segment));
    tai_record_drop(&direct->records, index);
}

/* Ordered backends: work on the stream is waited for. */
static TAI_COLD ta_result tai_direct_wait(tai_common *common, ta_stream stream)
{
    return (common->info.caps & TA_CAP_ORDERED) == 0 ? TA_OK : tai_common_sync(common, stream);
}

static ta_result tai_direct_v_free(void *self, void *ptr, size_t size, size_t alignment, ta_stream stream)
{
    ta_direct *direct = (ta_direct *)self;
    tai_common *common = &direct->common;
    tai_direct_block was;
    uint32_t index;
    ta_result result = tai_common_usable(common);
    (void)alignment;
    if (result != TA_OK || ptr == NULL) {
        return result;
    }
    memset(&was, 0, sizeof was);
    tai_gate_enter(&common->gate, NULL);
    index = tai_direct_find(direct, ptr, &result);
    if (index != 0 && size != 0 && size != tai_direct_at(direct, index)->requested) {
        result = TA_ERROR_SIZE_MISMATCH;
    } else if (index != 0) {
        was = *tai_direct_at(direct, index);
        tai_direct_at(direct, index)->link.state = TAI_CACHED; /* nobody else frees it meanwhile */
    }
    tai_gate_leave(&common->gate, NULL);
    if (result != TA_OK) {
        return tai_common_blame(common, result, ptr, size, NULL);
    }
    result = tai_direct_look(direct, &was);
    if (TAI_CHECKED && result != TA_OK) {
        tai_gate_enter(&common->gate, NULL);
        tai_direct_at(direct, index)->link.state = TAI_LIVE;
        tai_gate_leave(&common->gate, NULL);
        return result;
    }
    result = tai_direct_wait(common, was.stream);
    if (result == TA_OK && stream != was.stream) {
        result = tai_direct_wait(common, stream);
    }
    if (result == TA_OK &&
        common->backend.vtable->free(common->backend.self, (void *)was.segment, was.segment_bytes) != TA_OK) {
        result = TA_ERROR_BACKEND;
    }
    tai_gate_enter(&common->gate, NULL);
    if (result == TA_OK) {
        tai_direct_remove(direct, index);
    } else {
        tai_direct_at(direct, index)->link.state = TAI_LIVE;
    }
    tai_gate_leave(&common->gate, NULL);
    if (result == TA_OK) {
        tai_budget_refund(common->budget, was.segment_bytes);
        if (TAI_UNLIKELY(common->on_event != NULL)) {
            tai_common_tell_block(common, TA_EVENT_FREE, was.link.addr, was.requested,
                                  was.segment_bytes - (size_t)(was.link.addr - was.segment), stream, was.tag, 0);
        }
    }
    return result;
}

static ta_result tai_direct_v_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    ta_direct *direct = (ta_direct *)self;
    tai_direct_block now;
    uint32_t index;
    ta_result result = tai_common_usable(&direct->common);
    if (result != TA_OK || ptr == NULL || new_bytes == 0 || new_bytes > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return result != TA_OK ? result : ptr == NULL ? TA_ERROR_INVALID_ARGUMENT
             : new_bytes == 0 ? TA_ERROR_INVALID_SIZE : TA_ERROR_OVERFLOW;
    }
    memset(&now, 0, sizeof now);
    tai_gate_enter(&direct->common.gate, NULL);
    index = tai_direct_find(direct, ptr, &result);
    if (index != 0) {
        tai_direct_block *block = tai_direct_at(direct, index);
        if (old_bytes != 0 && old_bytes != block->requested) {
            result = TA_ERROR_SIZE_MISMATCH;
        } else if (tai_guard_padded(&direct->common.guard, new_bytes) >
                   block->segment_bytes - (size_t)(block->link.addr - block->segment)) {
            result = TA_ERROR_WOULD_MOVE;
        } else {
            tai_count_resize(&direct->common.count, block->requested, new_bytes);
            block->requested = new_bytes;
            tai_direct_paint(direct, block, new_bytes);
            direct->common.resize_count++;
            now = *block;
        }
    }
    tai_gate_leave(&direct->common.gate, NULL);
    if (TAI_UNLIKELY(direct->common.on_event != NULL) && result == TA_OK) {
        tai_common_tell_block(&direct->common, TA_EVENT_RESIZE, now.link.addr, new_bytes,
                              now.segment_bytes - (size_t)(now.link.addr - now.segment), now.stream, now.tag, 0);
    }
    return tai_common_blame(&direct->common, result, ptr, old_bytes, NULL);
}

static void *tai_direct_v_remap(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    ta_result why = tai_direct_v_resize(self, ptr, old_bytes, new_bytes);
    if (result != NULL) {
        *result = why;
    }
    return why == TA_OK ? ptr : NULL;
}

/* There is no cache; but segments that the backend would not take back are offered again. */
static ta_result tai_direct_v_trim(void *self, size_t keep_bytes, size_t *out_released_bytes)
{
    ta_direct *direct = (ta_direct *)self;
    ta_result result = tai_common_usable(&direct->common);
    size_t released = 0;
    uint32_t i, end = 0;
    (void)keep_bytes;
    if (result == TA_OK) {
        tai_gate_enter(&direct->common.gate, NULL);
        end = direct->records.end;
        tai_gate_leave(&direct->common.gate, NULL);
    }
    for (i = 1; i < end; i++) {
        int mine;
        tai_gate_enter(&direct->common.gate, NULL);
        mine = tai_direct_at(direct, i)->link.state == TAI_PENDING;
        tai_direct_at(direct, i)->link.state = mine ? (uint32_t)TAI_BUSY : tai_direct_at(direct, i)->link.state;
        tai_gate_leave(&direct->common.gate, NULL);
        if (mine) {
            released += tai_direct_give_segment(direct, i);
        }
    }
    tai_common_tell_moved(&direct->common);
    if (out_released_bytes != NULL) {
        *out_released_bytes = released;
    }
    return result;
}

static ta_result tai_direct_v_empty_cache(void *self)
{
    return tai_direct_v_trim(self, 0, NULL);
}

static TAI_COLD size_t tai_direct_reclaim(void *self, size_t want_bytes)
{
    (void)self;
    (void)want_bytes;
    return 0;
}

static ta_result tai_direct_v_stats(void *self, ta_stats *out)
{
    ta_direct *direct = (ta_direct *)self;
    return tai_common_stats(&direct->common, &direct->records.table,
                            sizeof *direct + tai_records_bytes(&direct->records), out);
}

static ta_result tai_direct_v_device(void *self, ta_device *out)
{
    *out = ((ta_direct *)self)->common.info.device;
    return tai_common_usable(&((ta_direct *)self)->common);
}

static ta_result tai_direct_v_dispose(void *self)
{
    ta_direct *direct = (ta_direct *)self;
    tai_common *common = &direct->common;
    uint32_t i;
    ta_result found;
    if (common->disposed) {
        return TAI_CHECKED && common->disposed == 2 ? tai_common_usable(common) : TA_OK;
    }
    if (tai_common_usable(common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    found = tai_direct_close(direct, 0);
    for (i = 1; i < direct->records.end; i++) {
        const tai_direct_block *block = tai_direct_at(direct, i);
        if (block->link.state != TAI_VACANT) {
            (void)tai_direct_wait(common, block->stream);
            (void)common->backend.vtable->free(common->backend.self, (void *)block->segment, block->segment_bytes);
        }
    }
    tai_common_dispose(common);
    tai_records_free(&direct->records);
    return found;
}

static ta_result tai_direct_v_destroy(void *self)
{
    return ta_direct_destroy((ta_direct *)self);
}

static ta_result tai_direct_v_describe(void *self, const void *ptr, ta_block_info *out)
{
    ta_direct *direct = (ta_direct *)self;
    uint32_t index;
    ta_result result = tai_common_usable(&direct->common);
    if (result != TA_OK) {
        return result;
    }
    memset(out, 0, sizeof *out);
    out->id.owner = direct->common.id;
    tai_gate_enter(&direct->common.gate, NULL);
    index = tai_direct_find(direct, ptr, &result);
    if (index != 0) {
        const tai_direct_block *block = tai_direct_at(direct, index);
        out->ptr = (void *)block->link.addr;
        out->requested_bytes = block->requested;
        out->capacity_bytes = block->segment_bytes - (size_t)(block->link.addr - block->segment);
        out->committed_bytes = out->capacity_bytes;
        if (tai_guard_padded(&direct->common.guard, 1) != 1) {
            out->capacity_bytes = block->requested;
        }
        out->state = TA_BLOCK_LIVE;
        out->stream = block->stream;
        out->tag = block->tag;
        out->id.index = index;
        out->id.generation = block->link.generation;
    }
    tai_gate_leave(&direct->common.gate, NULL);
    return result;
}

static const ta_allocator_vtable tai_direct_vtable = {sizeof(ta_allocator_vtable), "direct",
                                                      tai_direct_v_alloc,          tai_direct_v_resize,
                                                      tai_direct_v_remap,          tai_direct_v_free,
                                                      tai_direct_v_empty_cache,    tai_direct_v_trim,
                                                      tai_direct_v_stats,          tai_direct_v_device,
                                                      tai_direct_v_dispose,        tai_direct_v_destroy,
                                                      tai_direct_v_describe};

TENSORALLOC_DEF TAI_COLD ta_allocator ta_direct_allocator(ta_direct *direct)
{
    ta_allocator allocator;
    allocator.vtable = &tai_direct_vtable;
    allocator.self = direct;
    return allocator;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_direct_create(const ta_direct_desc *desc, ta_direct **out)
{
    ta_direct *direct;
    ta_direct_desc d;
    ta_result result;
    size_t count = tai_block_count_default();
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    memset(&d, 0, sizeof d);
    if (desc != NULL) {
        d = *desc;
    }
    direct = (ta_direct *)TENSORALLOC_MALLOC(sizeof *direct);
    if (direct == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(direct, 0, sizeof *direct);
    result = tai_common_init(&direct->common, direct, d.budget, d.backend, d.limit_bytes,
                             d.name != NULL ? d.name : "direct", 0);
    if (result != TA_OK) {
        TENSORALLOC_FREE(direct);
        return result;
    }
    if ((direct->common.info.caps & TA_CAP_SEGMENTS) == 0) {
        result = TA_ERROR_UNSUPPORTED;
    } else if (!tai_records_init(&direct->records, sizeof(tai_direct_block), count)) {
        result = TA_ERROR_RECORDS;
    }
    if (result != TA_OK) {
        if (direct->common.budget_owned) {
            (void)ta_budget_destroy(direct->common.budget);
        }
        TENSORALLOC_FREE(direct);
        return result;
    }
    d.backend = direct->common.backend;
    d.limit_bytes = d.limit_bytes != 0 ? d.limit_bytes : TA_UNLIMITED;
    d.name = direct->common.name;
    direct->desc = d;
    direct->common.on_event = d.on_event;
    direct->common.on_event_user = d.on_event_user;
    direct->common.member.reclaim = tai_direct_reclaim;
    tai_budget_join(direct->common.budget, &direct->common.member);
    *out = direct;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_direct_get_desc(ta_direct *direct, ta_direct_desc *out)
{
    if (direct == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = direct->desc;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_direct_reset_peaks(ta_direct *direct)
{
    return direct == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_common_reset_peaks(&direct->common);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_direct_destroy(ta_direct *direct)
{
    ta_result result, found;
    if (direct == NULL) {
        return TA_OK;
    }
    found = tai_direct_close(direct, 1);
    result = tai_direct_v_dispose(direct);
    if (result == TA_OK || (TAI_CHECKED && result != TA_ERROR_FORKED && result != TA_ERROR_DISPOSED)) {
        if (direct->common.budget_owned) {
            (void)ta_budget_destroy(direct->common.budget);
        }
        tai_common_bury(&direct->common, direct);
    }
    return result == TA_OK ? found : result;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:ALLOCATOR-IMPL] calls through the table, buffers, and an allocator as a backend.
  Uses: nothing but the public interface.
  Invariants: no state.
  -------------------------------------------------------------------------------------------------------*/
static int tai_allocator_ok(ta_allocator allocator)
{
    return allocator.vtable != NULL && allocator.self != NULL &&
           allocator.vtable->struct_bytes == sizeof(ta_allocator_vtable);
}

TENSORALLOC_DEF void *ta_allocator_alloc(ta_allocator allocator, const ta_request *request, ta_result *result)
{
    if (!tai_allocator_ok(allocator) || request == NULL) {
        return tai_fail_null(TAI_BAD(TA_ERROR_INVALID_ARGUMENT), result);
    }
    return allocator.vtable->alloc(allocator.self, request, result);
}

TENSORALLOC_DEF ta_result ta_allocator_free(ta_allocator allocator, void *ptr, size_t size_bytes,
                                            size_t alignment_bytes, ta_stream stream)
{
    if (!tai_allocator_ok(allocator)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return allocator.vtable->free(allocator.self, ptr, size_bytes, alignment_bytes, stream);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_resize_in_place(ta_allocator allocator, void *ptr, size_t old_bytes,
                                                                size_t new_bytes)
{
    if (!tai_allocator_ok(allocator)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return allocator.vtable->resize_in_place(allocator.self, ptr, old_bytes, new_bytes);
}

TENSORALLOC_DEF TAI_COLD void *ta_allocator_remap(ta_allocator allocator, void *ptr, size_t old_bytes,
                                                  size_t new_bytes, ta_result *result)
{
    if (!tai_allocator_ok(allocator)) {
        return tai_fail_null(TAI_BAD(TA_ERROR_INVALID_ARGUMENT), result);
    }
    return allocator.vtable->remap(allocator.self, ptr, old_bytes, new_bytes, result);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_empty_cache(ta_allocator allocator)
{
    return tai_allocator_ok(allocator) ? allocator.vtable->empty_cache(allocator.self) : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_trim(ta_allocator allocator, size_t keep_bytes,
                                                     size_t *out_released_bytes)
{
    if (!tai_allocator_ok(allocator)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return allocator.vtable->trim(allocator.self, keep_bytes, out_released_bytes);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_get_stats(ta_allocator allocator, ta_stats *out)
{
    return tai_allocator_ok(allocator) && out != NULL ? allocator.vtable->stats(allocator.self, out)
                                                      : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_get_device(ta_allocator allocator, ta_device *out)
{
    return tai_allocator_ok(allocator) && out != NULL ? allocator.vtable->device(allocator.self, out)
                                                      : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_dispose(ta_allocator allocator)
{
    return tai_allocator_ok(allocator) ? allocator.vtable->dispose(allocator.self) : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_allocator_destroy(ta_allocator allocator)
{
    if (allocator.self == NULL) {
        return TA_OK;
    }
    return tai_allocator_ok(allocator) ? allocator.vtable->destroy(allocator.self) : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF ta_result ta_allocator_describe(ta_allocator allocator, const void *ptr, ta_block_info *out)
{
    if (!tai_allocator_ok(allocator) || ptr == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return allocator.vtable->describe(allocator.self, ptr, out);
}

TENSORALLOC_DEF ta_result ta_allocator_alloc_buffer(ta_allocator allocator, const ta_request *request, ta_buffer *out)
{
    ta_result result = TA_OK;
    ta_block_info info;
    void *ptr;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    ptr = ta_allocator_alloc(allocator, request, &result);
    if (ptr == NULL) {
        return result;
    }
    result = ta_allocator_describe(allocator, ptr, &info);
    if (result != TA_OK) {
        (void)ta_allocator_free(allocator, ptr, request->size_bytes, request->alignment_bytes, request->stream);
        return result;
    }
    out->data = ptr;
    out->size_bytes = request->size_bytes;
    out->capacity_bytes = info.capacity_bytes;
    out->id = info.id;
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_allocator_check_buffer(ta_allocator allocator, const ta_buffer *buffer)
{
    ta_block_info info;
    ta_result result;
    if (buffer == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (buffer->data == NULL) { /* cleared by free_buffer, or never filled */
        return TA_ERROR_INVALID_ARGUMENT;
    }
    memset(&info, 0, sizeof info);
    result = ta_allocator_describe(allocator, buffer->data, &info);
    if (result != TA_OK && result != TA_ERROR_FOREIGN && result != TA_ERROR_INTERIOR) {
        return result;
    }
    if (info.id.owner != buffer->id.owner) {
        return TA_ERROR_FOREIGN;
    }
    if (result != TA_OK || info.id.index != buffer->id.index || info.id.generation != buffer->id.generation) {
        return TA_ERROR_STALE; /* its place is gone, or part of another block */
    }
    return TA_OK;
}

#ifdef TENSORALLOC_CHECKED
static TAI_COLD ta_result tai_buffer_blame(ta_allocator allocator, ta_result why, const ta_buffer *buffer)
{
    return tai_misuse(allocator.vtable != NULL ? allocator.vtable->kind : "no allocator", NULL, NULL, why, buffer->data,
                      buffer->size_bytes, NULL);
}
#else
    #define tai_buffer_blame(allocator, why, buffer) (why)
#endif

TENSORALLOC_DEF ta_result ta_allocator_free_buffer(ta_allocator allocator, ta_buffer *buffer, ta_stream stream)
{
    ta_result result;
    if (buffer == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (buffer->data == NULL) {
        return TA_OK;
    }
    result = ta_allocator_check_buffer(allocator, buffer);
    if (TAI_CHECKED && result != TA_OK && result != TA_ERROR_DISPOSED) { /* describe tells of that */
        return tai_buffer_blame(allocator, result, buffer);
    }
    if (result == TA_OK) {
        result = ta_allocator_free(allocator, buffer->data, 0, 0, stream);
    }
    if (result == TA_OK) {
        memset(buffer, 0, sizeof *buffer);
    }
    return result;
}

/* ---- an allocator as a backend: each segment is a block of it */
static TAI_COLD void tai_upstream_info(void *self, ta_backend_info *out)
{
    const ta_upstream *state = (const ta_upstream *)self;
    memset(out, 0, sizeof *out);
    (void)ta_allocator_get_device(state->allocator, &out->device);
    out->caps = TA_CAP_SEGMENTS | TA_CAP_HOST_ACCESS; /* upstreams of other devices are refused */
    out->granularity_bytes = state->granularity_bytes;
    out->alignment_bytes = 64;
}

static TAI_COLD ta_result tai_upstream_alloc(void *self, size_t size, void **out)
{
    const ta_upstream *state = (const ta_upstream *)self;
    ta_request request;
    ta_result result = TA_OK;
    memset(&request, 0, sizeof request);
    request.size_bytes = size;
    request.alignment_bytes = state->granularity_bytes;
    *out = ta_allocator_alloc(state->allocator, &request, &result);
    return result == TA_OK || result == TA_ERROR_BACKEND ? result : TA_ERROR_OUT_OF_MEMORY; /* whatever its reason */
}

static TAI_COLD ta_result tai_upstream_free(void *self, void *ptr, size_t size)
{
    const ta_upstream *state = (const ta_upstream *)self;
    return ta_allocator_free(state->allocator, ptr, size, state->granularity_bytes, 0);
}

static const ta_backend_vtable tai_upstream_vtable = {
    sizeof(ta_backend_vtable), "upstream", tai_upstream_info, tai_upstream_alloc, tai_upstream_free,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
};

TENSORALLOC_DEF TAI_COLD ta_result ta_backend_upstream(ta_upstream *state, ta_allocator allocator,
                                                       size_t granularity_bytes, ta_backend *out)
{
    ta_device device;
    ta_result result;
    if (granularity_bytes == 0) {
        granularity_bytes = 65536;
    }
    if (out != NULL) {
        out->vtable = &tai_no_backend_vtable;
        out->self = NULL;
    }
    if (state == NULL || out == NULL || !tai_allocator_ok(allocator) || !tai_is_power_of_two(granularity_bytes) ||
        granularity_bytes < 256 || granularity_bytes > TAI_ALIGNMENT_MAX) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    result = ta_allocator_get_device(allocator, &device);
    if (result != TA_OK || device.type != TA_DEVICE_HOST) {
        return result != TA_OK ? result : TA_ERROR_UNSUPPORTED; /* zero and copy would need the upstream's backend */
    }
    state->allocator = allocator;
    state->granularity_bytes = granularity_bytes;
    out->vtable = &tai_upstream_vtable;
    out->self = state;
    return TA_OK;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:TENSOR-IMPL] dtypes, shapes, strides. Pure but for create and destroy.
  Uses: ALLOCATOR-IMPL.
  Invariants: no state.
  -------------------------------------------------------------------------------------------------------*/
TENSORALLOC_DEF size_t ta_dtype_size(ta_dtype dtype)
{
    static const uint8_t bytes[] = {
#define TAI_DTYPE_BYTES(name, size) size,
        TA_DTYPE_LIST(TAI_DTYPE_BYTES)
#undef TAI_DTYPE_BYTES
    };
    return (int)dtype >= 0 && (int)dtype < (int)TA_DTYPE_COUNT ? bytes[(int)dtype] : 0;
}

TENSORALLOC_DEF TAI_COLD size_t ta_dtype_alignment(ta_dtype dtype)
{
    size_t size = ta_dtype_size(dtype);
    return dtype == TA_C64 || dtype == TA_C128 ? size / 2 : size;
}

TENSORALLOC_DEF TAI_COLD const char *ta_dtype_name(ta_dtype dtype)
{
    static const char *const names[] = {"f16", "bf16", "f32", "f64", "f8_e4m3", "f8_e5m2", "i8", "i16", "i32", "i64",
                                        "u8", "u16", "u32", "u64", "bool", "c64", "c128"};
    return (int)dtype >= 0 && (int)dtype < (int)TA_DTYPE_COUNT ? names[(int)dtype] : "?";
}

static int tai_mul_i64(int64_t a, int64_t b, int64_t *out) /* both >= 0 */
{
    if (a != 0 && b > INT64_MAX / a) {
        return 0;
    }
    *out = a * b;
    return 1;
}

TENSORALLOC_DEF ta_result ta_shape_elements(const int64_t *dims, int rank, int64_t *out)
{
    int64_t product = 1;
    int i, empty = 0;
    if (out == NULL || rank < 0 || rank > TA_RANK_MAX || (dims == NULL && rank != 0)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    for (i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
    }
    for (i = 0; i < rank; i++) {
        if (dims[i] == 0) {
            empty = 1;
        } else if (!tai_mul_i64(product, dims[i], &product)) {
            return TA_ERROR_OVERFLOW;
        }
    }
    *out = empty ? 0 : product;
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_shape_bytes(const int64_t *dims, int rank, ta_dtype dtype, size_t *out)
{
    int64_t elements = 0;
    size_t size = ta_dtype_size(dtype);
    ta_result result = ta_shape_elements(dims, rank, &elements);
    if (out == NULL || size == 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (result == TA_OK) {
        if ((uint64_t)elements > (uint64_t)PTRDIFF_MAX / size) {
            return TA_ERROR_OVERFLOW;
        }
        *out = (size_t)elements * size;
    }
    return result;
}

TENSORALLOC_DEF ta_result ta_strides_row_major(const int64_t *dims, int rank, int64_t *strides)
{
    int64_t elements = 0, stride = 1;
    int i;
    ta_result result = ta_shape_elements(dims, rank, &elements);
    if (strides == NULL && rank != 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (result != TA_OK) {
        return result;
    }
    for (i = rank; i-- > 0;) {
        strides[i] = stride;
        stride *= dims[i] == 0 ? 1 : dims[i]; /* the product of the nonzero ones fits */
    }
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_shape_offset(const int64_t *dims, const int64_t *strides, const int64_t *index,
                                          int rank, int64_t *out)
{
    int64_t offset = 0;
    int i;
    if (out == NULL || rank < 0 || rank > TA_RANK_MAX ||
        (rank != 0 && (dims == NULL || strides == NULL || index == NULL))) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    for (i = 0; i < rank; i++) {
        if (index[i] < 0 || index[i] >= dims[i]) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
    }
    for (i = 0; i < rank; i++) {
        int64_t step = 0;
        int negative = strides[i] < 0;
        if (strides[i] == INT64_MIN || !tai_mul_i64(index[i], negative ? -strides[i] : strides[i], &step)) {
            return TA_ERROR_OVERFLOW;
        }
        step = negative ? -step : step;
        if ((step > 0 && offset > INT64_MAX - step) || (step < 0 && offset < INT64_MIN - step)) {
            return TA_ERROR_OVERFLOW;
        }
        offset += step;
    }
    *out = offset;
    return TA_OK;
}

TENSORALLOC_DEF ta_result ta_tensor_create(ta_allocator allocator, ta_dtype dtype, const int64_t *dims, int rank,
                                           size_t alignment_bytes, ta_stream stream, ta_tensor *out)
{
    ta_tensor tensor;
    ta_request request;
    size_t bytes = 0;
    ta_result result;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    memset(&tensor, 0, sizeof tensor);
    memset(&request, 0, sizeof request);
    result = ta_shape_bytes(dims, rank, dtype, &bytes);
    if (result == TA_OK) {
        result = ta_strides_row_major(dims, rank, tensor.strides);
    }
    if (result == TA_OK && bytes != 0) {
        request.size_bytes = bytes;
        request.alignment_bytes = alignment_bytes;
        request.stream = stream;
        result = ta_allocator_alloc_buffer(allocator, &request, &tensor.buffer);
    }
    if (result == TA_OK) {
        tensor.allocator = allocator;
        tensor.dtype = dtype;
        tensor.rank = rank;
        if (rank != 0) {
            memcpy(tensor.dims, dims, (size_t)rank * sizeof *dims);
        }
        *out = tensor;
    }
    return result;
}

TENSORALLOC_DEF ta_result ta_tensor_destroy(ta_tensor *tensor, ta_stream stream)
{
    ta_result result = TA_OK;
    if (tensor == NULL) {
        return TA_OK;
    }
    if (tensor->buffer.data != NULL) {
        result = ta_allocator_free_buffer(tensor->allocator, &tensor->buffer, stream);
    }
    if (result == TA_OK) {
        memset(tensor, 0, sizeof *tensor);
    }
    return result;
}

TENSORALLOC_DEF void *ta_tensor_at(const ta_tensor *tensor, const int64_t *index)
{
    int64_t offset = 0;
    if (tensor == NULL || tensor->buffer.data == NULL ||
        ta_shape_offset(tensor->dims, tensor->strides, index, tensor->rank, &offset) != TA_OK) {
        return NULL;
    }
    return (char *)tensor->buffer.data + offset * (int64_t)ta_dtype_size(tensor->dtype);
}

TENSORALLOC_DEF TAI_COLD int ta_tensor_is_contiguous(const ta_tensor *tensor)
{
    int64_t strides[TA_RANK_MAX];
    int i;
    if (tensor == NULL || ta_strides_row_major(tensor->dims, tensor->rank, strides) != TA_OK) {
        return 0;
    }
    for (i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] > 1 && tensor->strides[i] != strides[i]) {
            return 0;
        }
    }
    return 1;
}

/* ---- DLPack */
/* What the deleter needs, behind the object. */
typedef struct tai_dlpack {
    ta_dlpack legacy;
    ta_dlpack_versioned versioned;
    ta_tensor tensor;
    ta_stream stream;
} tai_dlpack;

static const uint8_t tai_dlpack_codes[] = {2, 4, 2, 2, 10, 12, 0, 0, 0, 0, 1, 1, 1, 1, 6, 5, 5}; /* by ta_dtype */

static TAI_COLD void tai_dlpack_end(tai_dlpack *object)
{
    (void)ta_tensor_destroy(&object->tensor, object->stream);
    TENSORALLOC_FREE(object);
}

static TAI_COLD void tai_dlpack_delete(ta_dlpack *self)
{
    if (self != NULL) {
        tai_dlpack_end((tai_dlpack *)self->context);
    }
}

static TAI_COLD void tai_dlpack_delete_versioned(ta_dlpack_versioned *self)
{
    if (self != NULL) {
        tai_dlpack_end((tai_dlpack *)self->context);
    }
}

static TAI_COLD ta_result tai_dlpack_make(ta_tensor *tensor, ta_stream stream, tai_dlpack **out)
{
    tai_dlpack *object;
    ta_dlpack_tensor *shown;
    ta_device device;
    ta_result result;
    if (tensor == NULL || tensor->allocator.vtable == NULL || (int)tensor->dtype < 0 ||
        tensor->dtype >= TA_DTYPE_COUNT) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    result = ta_allocator_get_device(tensor->allocator, &device);
    if (result == TA_OK && device.type == TA_DEVICE_OTHER) {
        result = TA_ERROR_UNSUPPORTED;
    }
    if (result != TA_OK) {
        return result;
    }
    object = (tai_dlpack *)TENSORALLOC_MALLOC(sizeof *object);
    if (object == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(object, 0, sizeof *object);
    object->tensor = *tensor;
    object->stream = stream;
    shown = &object->legacy.tensor;
    shown->data = tensor->buffer.data;
    shown->device_type = device.type == TA_DEVICE_HOST ? 1 : 2;
    shown->device_index = device.index;
    shown->rank = tensor->rank;
    shown->dtype_code = tai_dlpack_codes[tensor->dtype];
    shown->dtype_bits = (uint8_t)(8 * ta_dtype_size(tensor->dtype));
    shown->dtype_lanes = 1;
    shown->dims = object->tensor.dims;
    shown->strides = object->tensor.strides;
    object->versioned.tensor = *shown;
    object->versioned.major = TA_DLPACK_MAJOR;
    object->versioned.minor = TA_DLPACK_MINOR;
    object->legacy.context = object->versioned.context = object;
    object->legacy.deleter = tai_dlpack_delete;
    object->versioned.deleter = tai_dlpack_delete_versioned;
    memset(tensor, 0, sizeof *tensor);
    *out = object;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dlpack_export(ta_tensor *tensor, ta_stream stream, ta_dlpack **out)
{
    tai_dlpack *object = NULL;
    ta_result result = out != NULL ? tai_dlpack_make(tensor, stream, &object) : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    if (out != NULL) {
        *out = object != NULL ? &object->legacy : NULL;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dlpack_export_versioned(ta_tensor *tensor, ta_stream stream,
                                                              ta_dlpack_versioned **out)
{
    tai_dlpack *object = NULL;
    ta_result result = out != NULL ? tai_dlpack_make(tensor, stream, &object) : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    if (out != NULL) {
        *out = object != NULL ? &object->versioned : NULL;
    }
    return result;
}

/* The bytes from the first element to behind the last one that positive strides reach. */
static TAI_COLD ta_result tai_dlpack_span(const ta_tensor *tensor, size_t *out)
{
    size_t span = 1, reach;
    int i;
    for (i = 0; i < tensor->rank; i++) {
        int64_t stride = tensor->strides[i] < 0 ? 0 : tensor->strides[i];
        if (tensor->dims[i] == 0) {
            *out = 0;
            return TA_OK;
        }
        if ((uint64_t)stride > SIZE_MAX || !tai_mul((size_t)(tensor->dims[i] - 1), (size_t)stride, &reach) ||
            !tai_add(span, reach, &span)) {
            return TA_ERROR_OVERFLOW;
        }
    }
    return tai_mul(span, ta_dtype_size(tensor->dtype), out) && *out <= (size_t)PTRDIFF_MAX ? TA_OK : TA_ERROR_OVERFLOW;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dlpack_import(const ta_dlpack_tensor *shown, ta_tensor *out)
{
    ta_tensor tensor;
    size_t bytes;
    ta_result result;
    int i, dtype = 0;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    if (shown == NULL || shown->rank < 0 || (shown->rank > 0 && shown->dims == NULL)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    while (dtype < (int)TA_DTYPE_COUNT && (tai_dlpack_codes[dtype] != shown->dtype_code ||
                                           8 * ta_dtype_size((ta_dtype)dtype) != shown->dtype_bits)) {
        dtype++;
    }
    if (dtype == (int)TA_DTYPE_COUNT || shown->dtype_lanes != 1 || shown->rank > TA_RANK_MAX ||
        (shown->device_type != 1 && shown->device_type != 2 && shown->device_type != 3 && shown->device_type != 13)) {
        return TA_ERROR_UNSUPPORTED;
    }
    memset(&tensor, 0, sizeof tensor);
    tensor.dtype = (ta_dtype)dtype;
    tensor.rank = shown->rank;
    result = ta_shape_bytes(shown->dims, shown->rank, tensor.dtype, &bytes);
    if (result == TA_OK) {
        result = ta_strides_row_major(shown->dims, shown->rank, tensor.strides);
    }
    for (i = 0; i < shown->rank && result == TA_OK; i++) {
        tensor.dims[i] = shown->dims[i];
        tensor.strides[i] = shown->strides != NULL ? shown->strides[i] : tensor.strides[i];
    }
    if (result == TA_OK) {
        result = tai_dlpack_span(&tensor, &bytes);
    }
    if (result == TA_OK && bytes != 0) {
        if (shown->data == NULL || shown->byte_offset > (uint64_t)PTRDIFF_MAX) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
        tensor.buffer.data = (char *)shown->data + shown->byte_offset;
        tensor.buffer.size_bytes = tensor.buffer.capacity_bytes = bytes;
    }
    if (result == TA_OK) {
        *out = tensor;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dlpack_import_versioned(const ta_dlpack_versioned *object, ta_tensor *out)
{
    if (object != NULL && object->major != TA_DLPACK_MAJOR) {
        if (out != NULL) {
            memset(out, 0, sizeof *out);
        }
        return TA_ERROR_UNSUPPORTED;
    }
    return ta_dlpack_import(object != NULL ? &object->tensor : NULL, out);
}

/*---------------------------------------------------------------------------------------------------------
  [TA:PREDICT] bounds of shapes, and the strategies: how much capacity a tensor gets.
  The predictive one keeps a histogram of sizes on a logarithmic scale; old observations fade. One histogram answers
  three questions: which capacity is cheapest for a block, how much of a range is worth keeping, and how far a growing
  block should grow next, having come this far.
  Uses: MATH, TENSOR-IMPL.
  Invariants: pure: no memory but the state, no clock, no lock. Integers only (factors of settings are taken apart
  exactly): the same decisions on every machine. A capacity is never below the need and never above the declared
  maximum. weight_total is the sum of the weights; tops[i] < 2^shift.
  -------------------------------------------------------------------------------------------------------*/

static int64_t tai_bounds_max(const ta_shape_bounds *bounds, int i)
{
    return bounds->symbols[i] != NULL ? bounds->symbols[i]->max : bounds->max[i];
}

static int64_t tai_bounds_expected(const ta_shape_bounds *bounds, int i)
{
    return bounds->symbols[i] != NULL ? bounds->symbols[i]->expected : bounds->expected[i];
}

static int64_t tai_bounds_min(const ta_shape_bounds *bounds, int i)
{
    return bounds->symbols[i] != NULL ? bounds->symbols[i]->min : bounds->min[i];
}

TENSORALLOC_DEF TAI_COLD ta_result ta_symbol_set(ta_symbol *symbol, int64_t min, int64_t expected, int64_t max)
{
    if (symbol == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (min < 0 || min > expected || max == 0 || (expected > max && max != TA_DIM_UNBOUNDED)) {
        return TA_ERROR_BOUNDS;
    }
    symbol->min = min;
    symbol->expected = expected;
    symbol->max = max;
    return TA_OK;
}

/* All of get_sizes but the sizes. *unbounded: some maximum is. */
static ta_result tai_bounds_check(const ta_shape_bounds *bounds, int *unbounded)
{
    ta_result result = TA_OK;
    int i;
    *unbounded = 0;
    if (bounds == NULL || bounds->rank < 0 || bounds->rank > TA_RANK_MAX || ta_dtype_size(bounds->dtype) == 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    for (i = 0; i < bounds->rank; i++) {
        int64_t min = tai_bounds_min(bounds, i), expected = tai_bounds_expected(bounds, i);
        int64_t max = tai_bounds_max(bounds, i);
        if (min < 0 || expected < 0 || (max < 0 && max != TA_DIM_UNBOUNDED)) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
        *unbounded |= max == TA_DIM_UNBOUNDED;
        if (min > expected || (max != TA_DIM_UNBOUNDED && (expected > max || max == 0))) {
            result = TA_ERROR_BOUNDS;
        }
    }
    return result;
}

TENSORALLOC_DEF ta_result ta_shape_bounds_get_sizes(const ta_shape_bounds *bounds, ta_bounds_sizes *out)
{
    int64_t dims[3][TA_RANK_MAX];
    ta_bounds_sizes sizes;
    int i, unbounded;
    ta_result result = tai_bounds_check(bounds, &unbounded);
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (result != TA_OK) {
        return result;
    }
    for (i = 0; i < bounds->rank; i++) {
        dims[0][i] = tai_bounds_min(bounds, i);
        dims[1][i] = tai_bounds_expected(bounds, i);
        dims[2][i] = tai_bounds_max(bounds, i);
    }
    sizes.max_elements = INT64_MAX;
    sizes.max_bytes = TA_UNLIMITED;
    result = ta_shape_bytes(dims[0], bounds->rank, bounds->dtype, &sizes.min_bytes);
    if (result == TA_OK) {
        result = ta_shape_bytes(dims[1], bounds->rank, bounds->dtype, &sizes.expected_bytes);
    }
    if (result == TA_OK && !unbounded) {
        result = ta_shape_bytes(dims[2], bounds->rank, bounds->dtype, &sizes.max_bytes);
        sizes.max_elements = (int64_t)(sizes.max_bytes / ta_dtype_size(bounds->dtype));
    }
    if (result == TA_OK) {
        sizes.min_elements = (int64_t)(sizes.min_bytes / ta_dtype_size(bounds->dtype));
        sizes.expected_elements = (int64_t)(sizes.expected_bytes / ta_dtype_size(bounds->dtype));
        *out = sizes;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_shape_bounds_init(ta_shape_bounds *out, ta_dtype dtype, int rank,
                                                        const int64_t *min, const int64_t *expected,
                                                        const int64_t *max)
{
    ta_shape_bounds bounds;
    ta_bounds_sizes sizes;
    ta_result result;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    if (rank < 0 || rank > TA_RANK_MAX || (rank != 0 && (min == NULL || expected == NULL || max == NULL))) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(&bounds, 0, sizeof bounds);
    bounds.dtype = dtype;
    bounds.rank = rank;
    if (rank != 0) {
        memcpy(bounds.min, min, (size_t)rank * sizeof *min);
        memcpy(bounds.expected, expected, (size_t)rank * sizeof *expected);
        memcpy(bounds.max, max, (size_t)rank * sizeof *max);
    }
    result = ta_shape_bounds_get_sizes(&bounds, &sizes);
    if (result == TA_OK) {
        *out = bounds;
    }
    return result;
}

TENSORALLOC_DEF ta_result ta_shape_bounds_contains(const ta_shape_bounds *bounds, const int64_t *dims, int rank)
{
    ta_bounds_sizes sizes;
    ta_result result = ta_shape_bounds_get_sizes(bounds, &sizes);
    int i;
    if (result != TA_OK) {
        return result;
    }
    if (dims == NULL && rank > 0) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (rank != bounds->rank) {
        return TA_ERROR_SHAPE;
    }
    for (i = 0; i < rank; i++) {
        int64_t max = tai_bounds_max(bounds, i);
        if (dims[i] < 0) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
        if (dims[i] < tai_bounds_min(bounds, i) || (max != TA_DIM_UNBOUNDED && dims[i] > max)) {
            result = TA_ERROR_SHAPE;
        }
    }
    return result;
}

/* The capacity that a strategy wants, held to what is allowed. */
static size_t tai_strategy_clamp(const ta_strategy_input *in, uint64_t bytes)
{
    if (bytes > in->max_bytes) {
        bytes = in->max_bytes;
    }
    return bytes > in->size_bytes ? (size_t)bytes : in->size_bytes;
}

/* The histogram.

      size                base                               base + (bins << shift)
      1024 positions   ---|----|----|----|----|----|----|----|---
      per doubling         w0   w1   w2  ...                   weight: 16 for each observation in the bin; all are
                             t0    t1                          halved whenever together they pass a limit
                                                               top: where in the bin its largest observation lies
   shift 5: 32 bins to a doubling; shift 8: 4 to a doubling, 8 doublings in all. Bins get wider when sizes spread and
   narrower when they come together. What lies below 8 doublings under the largest is counted in bin 0.

   Valid for sizes: weights, tops, mean and what is in of.sizes.

   Growth (of growing blocks: what they had when freed less what they had when made) often depends on the size at the
   start. Four groups of blocks, parted where a quarter, half and three quarters of the starts lie below, count how
   often they ended in each of eight zones of four bins:

      zones[0]   ---|---------|---------|----                   the short starts
      zones[3]   ---|---------|---------|----                   the long ones
      weights    ---|--|--|--|--|--|--|--|---                   all

   What a group is expected to do: its own counts say how the zones are shared out, all together what a zone looks like
   inside; a group that has seen little does as all do.
   Valid for growth: weights, tops, mean and what is in of.growth. */
enum {
    TAI_PREDICT_BINS = 32,
    TAI_PREDICT_WEIGHT = 16,
    TAI_PREDICT_WEIGHT_EXPECTED = 32,  /* what the expected size of the bounds counts, at first */
    TAI_PREDICT_WEIGHT_MAX = 8,        /* and the maximum */
    TAI_PREDICT_TOTAL = 4096,          /* sizes: the last 128 to 256 count most */
    TAI_PREDICT_TOTAL_GROWING = 14336,
    TAI_PREDICT_GROUPS = 4,
    TAI_PREDICT_ZONES = 8,
    TAI_PREDICT_ZONE_BINS = TAI_PREDICT_BINS / TAI_PREDICT_ZONES,
    TAI_PREDICT_GROUP_TOTAL = 255,     /* counts of a group; all are halved above it */
    TAI_PREDICT_GROUP_ALL = 50,        /* all together count as so many of a group's own */
    TAI_PREDICT_EDGE_STEP = 4,         /* by which the edges between groups move, and how often times that at first */
    TAI_PREDICT_EDGE_HASTE = 4,
    TAI_PREDICT_SHIFT_MIN = 5,
    TAI_PREDICT_SHIFT_MAX = 8,
    TAI_PREDICT_LAZY = 32,             /* observations until a plan is made anew */
    TAI_PREDICT_UNKNOWN = 255,         /* the plan is for other bins */
    TAI_PREDICT_MEAN_USES = 512,
    TAI_PREDICT_RECENT = 64,
    TAI_CHANGE_ONE = 1024,             /* of blocks: what a change of capacity costs */
    TAI_CHANGE_ALLOWED = 111,          /* what each use pays: 108 changes in 1000 uses are paid for */
    TAI_CHANGE_DOUBLES = 45,           /* a debt of so many changes doubles the price; above 31 a third as many do */
    TAI_CHANGE_STEEP = 31500,
    TAI_CHANGE_DEBT_MAX = 112500,      /* of the debt, and of what is paid ahead */
    TAI_CHANGE_PRICE = 6016,           /* the price without debt: position of 60 sixteenths of the mean size */
    TAI_COMMIT_ALLOWED = 109,          /* of ranges: what each 1024 bytes used pay, in bytes committed again */
    TAI_COMMIT_STEPS = 64,             /* positions for a debt of one mean size: sixteen of them double the uses */
    TAI_COMMIT_AHEAD_MAX = 19,         /* mean sizes paid ahead: down to 3 uses */
    TAI_COMMIT_DEBT_MAX = 144,         /* mean sizes of debt: nothing goes back that has not been forgotten */
    TAI_COMMIT_CARRIED_MAX = 32,       /* of a debt when sizes have fallen for good: in the largest that still occur */
    TAI_RANGE_USES = 6864,             /* uses without debt: position of 109 sixteenths */
    TAI_RANGE_MEAN_USES = 128
};

typedef struct tai_predictor_sizes {
    uint64_t target_bytes;  /* the cheapest capacity of a block */
    int64_t commit_debt_bytes; /* of ranges: committed again, beyond what is allowed; below 0: that much less */
    int32_t change_debt;    /* changes of blocks beyond what is allowed, likewise */
    uint32_t given_top;     /* position of the largest capacity that was given back; where handles have no word */
    uint8_t creep_count;    /* changes of blocks that grew by little, less the others */
} tai_predictor_sizes;

typedef struct tai_predictor_growth {
    uint64_t step_bytes;    /* growth per use */
    uint32_t stops[TAI_PREDICT_GROUPS]; /* the plan: bit i: grow to the top of bin i before growing farther */
    uint16_t edges[TAI_PREDICT_GROUPS - 1]; /* positions of the largest starts of the groups but the last */
    uint8_t zones[TAI_PREDICT_GROUPS][TAI_PREDICT_ZONES];
} tai_predictor_growth;

typedef struct tai_predictor {
    union {
        tai_predictor_sizes sizes;
        tai_predictor_growth growth;
    } of;
    uint64_t mean_bytes;    /* of sizes; growing: at the end */
    uint32_t weight_total;
    uint16_t count;         /* observations, at most TAI_PREDICT_MEAN_USES */
    uint16_t base;          /* position of bin 0, a multiple of 2^shift */
    uint16_t recent_top;    /* the largest of the last recent_count observations */
    uint8_t recent_count;
    uint8_t shift;
    uint8_t unplanned;      /* observations that target_bytes or stops do not know yet; or TAI_PREDICT_UNKNOWN */
    uint8_t growing;        /* which of the two it is; another use begins anew */
    uint8_t tops[TAI_PREDICT_BINS];
    uint16_t weights[TAI_PREDICT_BINS];
} tai_predictor;

/* Position of a size on the scale, rounded up: tai_position_size of it is at least size. */
static uint32_t tai_size_position(uint64_t size)
{
    uint32_t bit;
    if (size - 1 >= (uint64_t)1 << 62) {
        size = size == 0 ? 1 : (uint64_t)1 << 62;
    }
    bit = tai_high_bit(size);
    if (bit <= 10) {
        return bit * 1024 + (uint32_t)(size << (10 - bit)) - 1024;
    }
    return bit * 1024 + (uint32_t)((size + ((uint64_t)1 << (bit - 10)) - 1) >> (bit - 10)) - 1024;
}

static uint64_t tai_position_size(uint32_t position)
{
    uint32_t bit = position >> 10;
    uint64_t mantissa = 1024 + (position & 1023);
    return bit >= 10 ? mantissa << (bit - 10) : (mantissa + (1u << (10 - bit)) - 1) >> (10 - bit);
}

static uint32_t tai_bin_top(const tai_predictor *p, uint32_t i)
{
    return p->base + (i << p->shift) + p->tops[i];
}

static uint64_t tai_bin_size(const tai_predictor *p, uint32_t i)
{
    return tai_position_size(tai_bin_top(p, i));
}

/* The bins are laid anew: what was in bin i, of this weight, went to bin to[i]. The counts of the zones go with it. */
static TAI_COLD void tai_predictor_fit_zones(tai_predictor *p, const uint16_t *weights, const uint8_t *to)
{
    uint32_t total[TAI_PREDICT_ZONES], moved[TAI_PREDICT_ZONES], group, i;
    memset(total, 0, sizeof total);
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        total[i / TAI_PREDICT_ZONE_BINS] += weights[i];
    }
    for (group = 0; group < TAI_PREDICT_GROUPS; group++) {
        uint8_t *zones = p->of.growth.zones[group];
        memset(moved, 0, sizeof moved);
        for (i = 0; i < TAI_PREDICT_BINS; i++) {
            uint32_t zone = i / TAI_PREDICT_ZONE_BINS;
            if (weights[i] != 0) {
                moved[to[i] / TAI_PREDICT_ZONE_BINS] += 16u * zones[zone] * weights[i] / total[zone];
            }
        }
        for (i = 0; i < TAI_PREDICT_ZONES; i++) {
            zones[i] = (uint8_t)((moved[i] + 8) / 16);
        }
    }
}

/* Lays the bins anew so that position and all that have weight are inside, as narrow as that goes from shift on. */
static TAI_COLD void tai_predictor_fit(tai_predictor *p, uint32_t position, uint32_t shift)
{
    uint32_t tops[TAI_PREDICT_BINS];
    uint16_t weights[TAI_PREDICT_BINS];
    uint8_t to[TAI_PREDICT_BINS];
    uint32_t i, low = position, high = position, base, spare;
    memset(to, 0, sizeof to);
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        tops[i] = tai_bin_top(p, i);
        weights[i] = p->weights[i];
        if (weights[i] != 0) {
            low = tops[i] < low ? tops[i] : low;
            high = tops[i] > high ? tops[i] : high;
        }
    }
    while (shift < TAI_PREDICT_SHIFT_MAX && (high >> shift) - (low >> shift) >= TAI_PREDICT_BINS) {
        shift++;
    }
    spare = (high >> shift) - (low >> shift);
    spare = spare < TAI_PREDICT_BINS ? (TAI_PREDICT_BINS - 1 - spare) / 2 : 0;
    base = (high >> shift) + spare;
    base = base < TAI_PREDICT_BINS ? 0 : (base - (TAI_PREDICT_BINS - 1)) << shift;
    memset(p->weights, 0, sizeof p->weights);
    memset(p->tops, 0, sizeof p->tops);
    p->base = (uint16_t)base;
    p->shift = (uint8_t)shift;
    p->unplanned = TAI_PREDICT_UNKNOWN;
    for (i = 0; i < TAI_PREDICT_BINS; i++) { /* tops rise with i: the last one in a bin is its largest */
        uint32_t top = tops[i] < base ? base : tops[i];
        uint32_t k = (top - base) >> shift;
        if (weights[i] != 0) {
            p->weights[k] = (uint16_t)(p->weights[k] + weights[i]);
            p->tops[k] = (uint8_t)(top - base - (k << shift));
            to[i] = (uint8_t)k;
        }
    }
    if (p->growing) {
        tai_predictor_fit_zones(p, weights, to);
    }
}

/* Halves all weights. Bins get narrower when what is left lies close together. */
static TAI_COLD void tai_predictor_fade(tai_predictor *p)
{
    uint32_t i, low = TAI_PREDICT_BINS, high = 0;
    p->weight_total = 0;
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        p->weights[i] = (uint16_t)(p->weights[i] >> 1);
        p->weight_total += p->weights[i];
        if (p->weights[i] != 0) {
            low = low < i ? low : i;
            high = i;
        }
    }
    if (high - low < TAI_PREDICT_BINS / 4 && p->shift > TAI_PREDICT_SHIFT_MIN) {
        tai_predictor_fit(p, tai_bin_top(p, high), p->shift - 1u);
    }
}

/* Returns the bin. */
static uint32_t tai_predictor_put(tai_predictor *p, uint32_t position, uint32_t weight)
{
    uint32_t i, top;
    if (p->weight_total == 0 || position - p->base >= (uint32_t)TAI_PREDICT_BINS << p->shift) {
        tai_predictor_fit(p, position, p->weight_total == 0 ? (uint32_t)TAI_PREDICT_SHIFT_MIN : p->shift);
        position = position < p->base ? p->base : position;
    }
    i = (position - p->base) >> p->shift;
    top = (position - p->base) & ((1u << p->shift) - 1);
    if (p->weights[i] == 0 || top > p->tops[i]) {
        p->tops[i] = (uint8_t)top;
    }
    p->weights[i] = (uint16_t)(p->weights[i] + weight);
    p->weight_total += weight;
    p->unplanned = (uint8_t)(p->unplanned + (p->unplanned < TAI_PREDICT_UNKNOWN));
    return i;
}

/* A size as debts count it: products with what they are held to fit. */
static uint64_t tai_predictor_bounded(uint64_t size)
{
    return size >> 54 != 0 ? (uint64_t)1 << 54 : size;
}

/* Sizes have fallen for good: what is owed in large ones is not paid off in small ones. */
static TAI_COLD void tai_predictor_forgive(tai_predictor *p)
{
    int64_t most = TAI_COMMIT_CARRIED_MAX * (int64_t)tai_predictor_bounded(tai_position_size(p->recent_top));
    if (p->of.sizes.commit_debt_bytes > most) {
        p->of.sizes.commit_debt_bytes = most;
    }
}

/* Sizes may have fallen for good: when a quarter of the weight is above all of the last 64, that is forgotten, and the
   rest counts less. */
static TAI_COLD void tai_predictor_review(tai_predictor *p)
{
    uint32_t i, above = 0;
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        if (tai_bin_top(p, i) > p->recent_top) {
            above += p->weights[i];
        }
    }
    if (above > p->weight_total / 4) {
        p->weight_total = 0;
        for (i = 0; i < TAI_PREDICT_BINS; i++) {
            p->weights[i] = tai_bin_top(p, i) > p->recent_top ? (uint16_t)0 : (uint16_t)(p->weights[i] / 4);
            p->weight_total += p->weights[i];
        }
        tai_predictor_fit(p, p->recent_top, TAI_PREDICT_SHIFT_MIN);
        (void)tai_predictor_put(p, p->recent_top, TAI_PREDICT_WEIGHT);
        tai_predictor_forgive(p);
    }
    p->recent_count = 0;
    p->recent_top = 0;
}

static void tai_predictor_add(tai_predictor *p, uint64_t size, uint32_t weight)
{
    uint32_t position = tai_size_position(size);
    if (p->recent_count == TAI_PREDICT_RECENT) {
        tai_predictor_review(p);
    }
    p->recent_count = (uint8_t)(p->recent_count + 1);
    p->recent_top = p->recent_top > position ? p->recent_top : (uint16_t)position;
    (void)tai_predictor_put(p, position, weight);
    if (p->weight_total > TAI_PREDICT_TOTAL) {
        tai_predictor_fade(p);
    }
}

/* The group of a block that began at this position. */
static uint32_t tai_predictor_group(const tai_predictor *p, uint32_t position)
{
    uint32_t group = 0;
    while (group < TAI_PREDICT_GROUPS - 1 && position > p->of.growth.edges[group]) {
        group++;
    }
    return group;
}

/* Moves the edges toward the quarters of all starts: each goes up by as many steps as groups are to be below it, or
   down by as many as above. */
static void tai_predictor_move_edges(tai_predictor *p, uint32_t position)
{
    uint32_t step = (uint32_t)TAI_PREDICT_EDGE_STEP * (p->count < 128 ? (uint32_t)TAI_PREDICT_EDGE_HASTE : 1u);
    uint32_t least = 0, i;
    for (i = 0; i < TAI_PREDICT_GROUPS - 1; i++) {
        uint32_t edge = p->of.growth.edges[i], down = step * (TAI_PREDICT_GROUPS - 1 - i);
        edge = position > edge ? edge + step * (i + 1) : position == edge ? edge : edge > down ? edge - down : 0;
        edge = p->count == 1 ? position : edge < least ? least : edge;
        p->of.growth.edges[i] = (uint16_t)edge;
        least = edge;
    }
}

/* A block has grown by so much. Nothing is reviewed as sizes are: of those that began together the short end first. */
static TAI_COLD void tai_predictor_add_growth(tai_predictor *p, uint64_t start, uint64_t growth)
{
    uint32_t position = tai_size_position(start), group = tai_predictor_group(p, position), total = 0, i;
    uint8_t *zones = p->of.growth.zones[group];
    tai_predictor_move_edges(p, position);
    i = tai_predictor_put(p, tai_size_position(growth), TAI_PREDICT_WEIGHT) / TAI_PREDICT_ZONE_BINS;
    zones[i] = (uint8_t)(zones[i] + 1);
    for (i = 0; i < TAI_PREDICT_ZONES; i++) {
        total += zones[i];
    }
    for (i = 0; total >= TAI_PREDICT_GROUP_TOTAL && i < TAI_PREDICT_ZONES; i++) {
        zones[i] = (uint8_t)(zones[i] / 2);
    }
    if (p->weight_total > TAI_PREDICT_TOTAL_GROWING) {
        tai_predictor_fade(p);
    }
}

/* A mean that follows; count includes size. */
static uint64_t tai_mean_toward(uint64_t mean, uint64_t size, uint32_t count)
{
    return size > mean ? mean + (size - mean) / count : mean - (mean - size) / count;
}

/* A new state. What the bounds say counts as a few sizes, so that the first decisions are sensible ones; of growth they
   say too little. */
static TAI_COLD void tai_predictor_begin(tai_predictor *p, const ta_strategy_input *in)
{
    memset(p, 0, sizeof *p);
    p->growing = (uint8_t)(in->growing != 0);
    p->mean_bytes = in->growing ? 0 : tai_predictor_bounded(in->expected_bytes);
    if (!in->growing && in->expected_bytes != 0) {
        tai_predictor_add(p, in->expected_bytes, TAI_PREDICT_WEIGHT_EXPECTED);
        if (in->max_bytes / 64 < in->expected_bytes) { /* else it is a mere precaution */
            tai_predictor_add(p, in->max_bytes, TAI_PREDICT_WEIGHT_MAX);
        }
    }
}

static tai_predictor *tai_predictor_of(void *state, const ta_strategy_input *in)
{
    tai_predictor *p = (tai_predictor *)state;
    if (p->weight_total == 0 || (p->growing != 0) != (in->growing != 0)) {
        tai_predictor_begin(p, in);
    }
    return p;
}

/* Whether to plan anew. */
static int tai_predictor_is_due(const tai_predictor *p)
{
    return p->unplanned >= TAI_PREDICT_LAZY || (p->unplanned != 0 && p->count < 64);
}

static uint32_t tai_setting(uint32_t value)
{
    return value > 4096 ? 4096 : value;
}

/* Prices are regulated: what is beyond the allowed rate is a debt, and the price follows the debt, so that over many
   uses the rate is the allowed one whatever the sizes are, or below it where even a low price has few changes. What
   the past has left is bounded on both sides. */
static void tai_predictor_pay(tai_predictor *p, int32_t changes)
{
    int32_t debt = p->of.sizes.change_debt + changes;
    debt = debt < -TAI_CHANGE_DEBT_MAX ? -TAI_CHANGE_DEBT_MAX : debt;
    p->of.sizes.change_debt = debt > TAI_CHANGE_DEBT_MAX ? TAI_CHANGE_DEBT_MAX : debt;
}

static void tai_predictor_pay_range(tai_predictor *p, int64_t bytes)
{
    int64_t mean = (int64_t)p->mean_bytes, debt = p->of.sizes.commit_debt_bytes + bytes;
    debt = debt < -TAI_COMMIT_AHEAD_MAX * mean ? -TAI_COMMIT_AHEAD_MAX * mean : debt;
    p->of.sizes.commit_debt_bytes = debt > TAI_COMMIT_DEBT_MAX * mean ? TAI_COMMIT_DEBT_MAX * mean : debt;
}

/* What a change of a block's capacity is worth, in sixteenths of the mean size held idle for one use. */
static uint32_t tai_predictor_price(const tai_predictor *p, const ta_predictive_config *c)
{
    int32_t debt = p->of.sizes.change_debt;
    if (c != NULL && c->block_price != 0) {
        return 16 * tai_setting(c->block_price);
    }
    debt += debt > TAI_CHANGE_STEEP ? 2 * (debt - TAI_CHANGE_STEEP) : 0;
    return (uint32_t)tai_position_size((uint32_t)(TAI_CHANGE_PRICE + debt / TAI_CHANGE_DOUBLES));
}

/* Shift that leaves at most 29 bits of size, so that products with weights and prices fit. */
static uint32_t tai_scale(uint64_t size)
{
    uint32_t bit = tai_high_bit(size | 1);
    return bit > 28 ? bit - 28 : 0;
}

/* Block: the target is the bin top c with the least E[(c - x)+] + 2 price P(x > c): a size that does not fit costs a
   change to grow and one to shrink again. */
static TAI_COLD void tai_predictor_plan_block(tai_predictor *p, uint64_t price)
{
    uint64_t sizes[TAI_PREDICT_BINS], sum = 0, below = 0, best = UINT64_MAX;
    uint32_t i, high = 0, weight = 0, scale;
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        sizes[i] = tai_bin_size(p, i);
        high = p->weights[i] == 0 ? high : i;
    }
    scale = tai_scale(sizes[high]);
    for (i = 0; i <= high; i++) {
        sum += p->weights[i] * (sizes[i] >> scale);
    }
    sum /= p->weight_total;
    p->mean_bytes = sum << scale;
    price = price * sum / 8;
    for (i = 0; i <= high; i++) {
        uint64_t size = sizes[i] >> scale, cost;
        weight += p->weights[i];
        below += p->weights[i] * size;
        cost = size * weight - below + price * (p->weight_total - weight);
        if (p->weights[i] != 0 && cost < best) {
            best = cost;
            p->of.sizes.target_bytes = sizes[i];
        }
    }
    p->unplanned = 0;
}

/* Block: whether to shrink to target: what is then held idle, against what is held idle now. A shrink that is regretted
   costs the way back too, and the next size may be regretted again: three changes (calibrated on streams). */
static int tai_predictor_block_shrinks(const tai_predictor *p, uint64_t capacity, uint64_t target, uint64_t price)
{
    uint64_t saved = 0;
    uint32_t i, within = 0, within_target = 0, scale = tai_scale(capacity);
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        uint64_t size = tai_bin_size(p, i);
        if (size <= target) {
            within_target += p->weights[i];
        } else if (size <= capacity) {
            within += p->weights[i];
            saved += p->weights[i] * ((capacity - size) >> scale);
        }
    }
    within += within_target;
    saved += within_target * ((capacity - target) >> scale);
    price = price * (p->mean_bytes >> scale) / 16;
    return saved + price * (p->weight_total - within) > 3 * price * (p->weight_total - within_target);
}

/* Range: what fewer than one in so many uses need goes back. In sixteenths. */
static uint32_t tai_predictor_uses(const tai_predictor *p, const ta_predictive_config *c)
{
    int64_t steps;
    if (c != NULL && c->range_uses != 0) {
        return 16 * tai_setting(c->range_uses);
    }
    steps = p->of.sizes.commit_debt_bytes / (int64_t)(p->mean_bytes / TAI_COMMIT_STEPS + 1);
    steps = steps < -TAI_COMMIT_STEPS * TAI_COMMIT_AHEAD_MAX ? -TAI_COMMIT_STEPS * TAI_COMMIT_AHEAD_MAX : steps;
    steps = steps > TAI_COMMIT_STEPS * TAI_COMMIT_DEBT_MAX ? TAI_COMMIT_STEPS * TAI_COMMIT_DEBT_MAX : steps;
    return (uint32_t)tai_position_size((uint32_t)(TAI_RANGE_USES + (int32_t)steps));
}

/* Range: the size that one use in so many exceeds. */
static uint64_t tai_predictor_quantile(const tai_predictor *p, const ta_predictive_config *c)
{
    uint32_t i = TAI_PREDICT_BINS, above = 0, least = p->weight_total * 16 / tai_predictor_uses(p, c);
    while (i > 0 && above <= least) {
        above += p->weights[--i];
    }
    return tai_bin_size(p, i);
}

/* Range: position of the largest capacity of which the handle gave something back. */
static uint32_t *tai_predictor_given_top(tai_predictor *p, const ta_strategy_input *in)
{
    return in->own != NULL ? in->own : &p->of.sizes.given_top;
}

/* Range: it grows. What it had before, up to its largest capacity, is committed again. */
static void tai_predictor_commit(tai_predictor *p, const ta_strategy_input *in)
{
    uint64_t top = *tai_predictor_given_top(p, in);
    top = top == 0 ? 0 : tai_position_size((uint32_t)top);
    top = top < in->size_bytes ? top : in->size_bytes;
    if (top > in->capacity_bytes) {
        tai_predictor_pay_range(p, (int64_t)tai_predictor_bounded(top - in->capacity_bytes));
    }
}

/* Range: what is to be kept; the rest goes back. */
static size_t tai_predictor_give(tai_predictor *p, const ta_predictive_config *c, const ta_strategy_input *in)
{
    uint32_t *top = tai_predictor_given_top(p, in), position = tai_size_position(in->capacity_bytes);
    *top = *top > position ? *top : position;
    return tai_strategy_clamp(in, tai_predictor_quantile(p, c));
}

/* a * b * c / 2^shift, at most 2^47; c < 2^17. */
static TAI_COLD uint64_t tai_scaled_product(uint64_t a, uint64_t b, uint32_t c, uint32_t shift)
{
    uint64_t product;
    uint32_t lost = 0;
    for (; a >> 23 != 0; lost++) {
        a >>= 1;
    }
    for (; b >> 23 != 0; lost++) {
        b >>= 1;
    }
    product = a * b * c;
    for (; lost < shift; lost++) {
        product >>= 1;
    }
    for (; lost > shift && product >> 46 == 0 && product != 0; lost--) {
        product <<= 1;
    }
    return lost > shift && product != 0 ? (uint64_t)1 << 47 : product >> 47 != 0 ? (uint64_t)1 << 47 : product;
}

/* Growing: what the group is expected to do, as weights of the bins; together at most 2^18. */
static TAI_COLD void tai_predictor_expect(const tai_predictor *p, uint32_t group, uint32_t *out)
{
    uint32_t i, k;
    for (i = 0; i < TAI_PREDICT_BINS; i += TAI_PREDICT_ZONE_BINS) {
        uint32_t total = 0, own = 512u * p->of.growth.zones[group][i / TAI_PREDICT_ZONE_BINS];
        for (k = i; k < i + TAI_PREDICT_ZONE_BINS; k++) {
            total += p->weights[k];
        }
        for (k = i; k < i + TAI_PREDICT_ZONE_BINS; k++) {
            uint32_t weight = p->weights[k];
            out[k] = weight == 0 ? 0 : weight * own / total + weight * (512u * TAI_PREDICT_GROUP_ALL) / p->weight_total;
        }
    }
}

/* Growing: the bins at whose tops the group is to stop. Growth is taken as even, so that what is held idle is an area
   over growth. cost[i]: held idle by, and for changes of, all that outgrow level i, when the best is done from there
   on; it is found from the last level backwards. change: the price of one.

      alive |-----__                   area[i]: integral of alive over growth up to level i
            |       --__               moment[i]: integral of growth * alive
            |           ---___         held idle from i to k: level[k] * (area[k] - area[i]) - (moment[k] - moment[i])
            +--+----+-------+--> growth
               1    2       3 (levels: the tops of the bins) */
static TAI_COLD uint32_t tai_predictor_plan_group(const tai_predictor *p, const uint32_t *weights, uint32_t scale,
                                                  uint64_t change)
{
    uint64_t level[TAI_PREDICT_BINS + 1], area[TAI_PREDICT_BINS + 1], moment[TAI_PREDICT_BINS + 1];
    uint64_t cost[TAI_PREDICT_BINS + 1];
    uint32_t alive[TAI_PREDICT_BINS + 1], bins[TAI_PREDICT_BINS + 1], next[TAI_PREDICT_BINS + 1];
    uint32_t i, k, count = 0, stops = 0;
    level[0] = area[0] = moment[0] = 0;
    alive[0] = 0;
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        alive[0] += weights[i];
    }
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        uint64_t from = tai_position_size(p->base + (i << p->shift)) >> scale, to = tai_bin_size(p, i) >> scale;
        uint64_t before = level[count], width, s = alive[count], w = weights[i];
        if (w != 0) {
            from = i == 0 || from < before ? before : from;
            width = to - from; /* those of the bin end evenly between from and to */
            area[count + 1] = area[count] + s * (to - before) - w * width / 2;
            moment[count + 1] = moment[count] + s * (to * to - before * before) / 2 -
                                w * (from * width / 2 + width * width / 3);
            count++;
            level[count] = to;
            alive[count] = (uint32_t)(s - w);
            bins[count] = i;
        }
    }
    cost[count] = 0;
    for (i = count; i-- > 0;) {
        cost[i] = UINT64_MAX;
        for (k = i + 1; k <= count; k++) {
            uint64_t sum = level[k] * (area[k] - area[i]) - (moment[k] - moment[i]) + alive[k] * change + cost[k];
            if (sum < cost[i]) {
                cost[i] = sum;
                next[i] = k;
            }
        }
    }
    for (i = 0; i < count;) {
        i = next[i];
        stops |= 1u << bins[i];
    }
    return stops;
}

/* Growing: plans for all groups. A plan keeps less than it promises, the more so the dearer a change: dear ones are
   weighed for less than they are said to be worth (calibrated on traces). */
static TAI_COLD void tai_predictor_plan_growing(tai_predictor *p, uint32_t price)
{
    uint32_t weights[TAI_PREDICT_BINS], group, i, high = 0, scale;
    uint64_t change;
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        high = p->weights[i] != 0 ? i : high;
    }
    scale = tai_high_bit(tai_bin_size(p, high));
    scale = scale > 19 ? scale - 19 : 0;
    price = price < 24 ? 33 * price : 24 * price + 216; /* in parts of 32 */
    change = tai_scaled_product(p->mean_bytes, p->of.growth.step_bytes, price, 2 * scale) / 32;
    for (group = 0; group < TAI_PREDICT_GROUPS; group++) {
        tai_predictor_expect(p, group, weights);
        p->of.growth.stops[group] = tai_predictor_plan_group(p, weights, scale, change);
    }
    p->unplanned = 0;
}

/* Growing: the next capacity, by the plan: its first stop that is far enough; but who has come more than half of the
   way there, as where plans have changed, goes on to the one after it. */
static uint64_t tai_predictor_grow(const tai_predictor *p, const ta_strategy_input *in)
{
    uint64_t start = in->start_bytes, growth = in->size_bytes > start ? in->size_bytes - start : 0, target = 0;
    if (p->weight_total == 0) { /* nothing is known */
        target = (start > in->expected_bytes ? start : in->expected_bytes) / 16;
    } else {
        uint32_t stops = p->of.growth.stops[tai_predictor_group(p, tai_size_position(start))], i;
        uint64_t before = 0;
        i = 0;
        while (i < TAI_PREDICT_BINS && (target < growth || target == 0 || target - growth < growth - before)) {
            if (stops >> i & 1) {
                before = target < growth ? target : growth;
                target = tai_bin_size(p, i);
            }
            i++;
        }
    }
    if (target < growth) { /* farther than any before */
        target = growth + growth / 4;
    }
    return start > UINT64_MAX - target ? UINT64_MAX : start + target;
}

/* Block: its next capacity; counts the change. Sizes that creep up, beyond what was planned for, are not drawn from
   any distribution: a little headroom then saves a change at each of them. */
static uint64_t tai_predictor_change(tai_predictor *p, const ta_strategy_input *in)
{
    size_t size = in->size_bytes, capacity = in->capacity_bytes;
    int creeps = size > capacity && size - capacity <= capacity / 16;
    uint32_t count = p->of.sizes.creep_count;
    tai_predictor_pay(p, TAI_CHANGE_ONE);
    count = creeps ? count + (count < 8) : count / 2;
    p->of.sizes.creep_count = (uint8_t)count;
    return creeps && count >= 3 && p->of.sizes.target_bytes < size ? (uint64_t)size + size / 8
                                                                   : p->of.sizes.target_bytes;
}

static size_t tai_predictive_required(const void *config, void *state, const ta_strategy_input *in)
{
    const ta_predictive_config *c = (const ta_predictive_config *)config;
    tai_predictor *p;
    int fits = in->size_bytes <= in->capacity_bytes;
    if (in->in_range && in->growing) {
        return in->size_bytes;
    }
    if (in->in_range && !fits && in->own != NULL && *in->own == 0) {
        return in->size_bytes; /* of this handle nothing was given back */
    }
    p = tai_predictor_of(state, in);
    if (in->in_range && !fits) {
        tai_predictor_commit(p, in);
        return in->size_bytes;
    }
    if (in->growing) {
        if (p->weight_total != 0 && (p->unplanned == TAI_PREDICT_UNKNOWN || tai_predictor_is_due(p))) {
            tai_predictor_plan_growing(p, c == NULL || c->growing_price == 0 ? 16 : tai_setting(c->growing_price));
        }
        return tai_strategy_clamp(in, tai_predictor_grow(p, in));
    }
    if (p->weight_total == 0) {
        return in->size_bytes;
    }
    if (in->in_range) {
        return tai_predictor_give(p, c, in);
    }
    if (!fits && p->unplanned != 0) {
        tai_predictor_plan_block(p, tai_predictor_price(p, c));
    }
    return tai_strategy_clamp(in, in->capacity_bytes != 0 ? tai_predictor_change(p, in) : p->of.sizes.target_bytes);
}

static int tai_predictive_should_resize(const void *config, void *state, const ta_strategy_input *in)
{
    const ta_predictive_config *c = (const ta_predictive_config *)config;
    tai_predictor *p;
    size_t target;
    uint32_t price;
    if (in->growing || in->size_bytes >= in->capacity_bytes) {
        return 0;
    }
    p = tai_predictor_of(state, in);
    if (p->count == 0) {
        return 0;
    }
    if (in->in_range) {
        target = tai_strategy_clamp(in, tai_predictor_quantile(p, c));
        return target < in->capacity_bytes && in->capacity_bytes - target > in->size_bytes / 8;
    }
    price = tai_predictor_price(p, c);
    if (tai_predictor_is_due(p)) {
        tai_predictor_plan_block(p, price);
    }
    target = tai_strategy_clamp(in, p->of.sizes.target_bytes);
    if (p->of.sizes.target_bytes < in->size_bytes && in->capacity_bytes - in->size_bytes <= in->size_bytes / 7) {
        return 0; /* the headroom of a size that creeps up */
    }
    return target < in->capacity_bytes && tai_predictor_block_shrinks(p, in->capacity_bytes, target, price);
}

static void tai_predictive_observe(const void *config, void *state, const ta_strategy_input *in)
{
    tai_predictor *p;
    uint64_t growth = in->size_bytes > in->start_bytes ? in->size_bytes - in->start_bytes : 0;
    (void)config;
    if (in->growing && in->in_range) {
        return;
    }
    p = tai_predictor_of(state, in);
    p->count = (uint16_t)(p->count + (p->count < TAI_PREDICT_MEAN_USES));
    if (!in->growing) {
        if (in->in_range) {
            uint64_t size = tai_predictor_bounded(in->size_bytes);
            p->mean_bytes = p->mean_bytes == 0 ? size : tai_mean_toward(p->mean_bytes, size, TAI_RANGE_MEAN_USES);
            tai_predictor_pay_range(p, -(int64_t)(size * TAI_COMMIT_ALLOWED / 1024));
        } else {
            tai_predictor_pay(p, -TAI_CHANGE_ALLOWED);
        }
        tai_predictor_add(p, in->size_bytes, TAI_PREDICT_WEIGHT);
        return;
    }
    tai_predictor_add_growth(p, in->start_bytes, growth);
    p->mean_bytes = tai_mean_toward(p->mean_bytes, in->size_bytes, p->count);
    if (in->use_count > 1) {
        p->of.growth.step_bytes = tai_mean_toward(p->of.growth.step_bytes, growth / (in->use_count - 1), p->count);
    }
}

TENSORALLOC_DEF TAI_COLD ta_strategy ta_strategy_predictive(const ta_predictive_config *config)
{
    static const ta_strategy_vtable vtable = {
        (uint32_t)sizeof(ta_strategy_vtable), "predictive", sizeof(tai_predictor), tai_predictive_required,
        tai_predictive_should_resize, tai_predictive_observe
    };
    ta_strategy strategy;
    strategy.vtable = &vtable;
    strategy.config = config;
    return strategy;
}

static size_t tai_exact_required(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)state;
    return in->size_bytes;
}

static int tai_exact_should_resize(const void *config, void *state, const ta_strategy_input *in)
{
    (void)config;
    (void)state;
    return in->size_bytes != in->capacity_bytes;
}

TENSORALLOC_DEF TAI_COLD ta_strategy ta_strategy_exact(void)
{
    static const ta_strategy_vtable vtable = {
        (uint32_t)sizeof(ta_strategy_vtable), "exact", 0, tai_exact_required, tai_exact_should_resize, NULL
    };
    ta_strategy strategy;
    strategy.vtable = &vtable;
    strategy.config = NULL;
    return strategy;
}

/* factor * size to the nearest, UINT64_MAX on overflow. Factors that are none (0, negative, not a number) are
   if_invalid. Whole part and fraction (32 bits) are split exactly. */
static uint64_t tai_factor_times(double factor, double if_invalid, uint64_t size)
{
    uint64_t whole, fraction, low;
    factor = factor > 0.0 ? factor : if_invalid;
    factor = factor < 65536.0 ? factor : 65536.0;
    whole = (uint64_t)factor;
    fraction = (uint64_t)((factor - (double)whole) * 4294967296.0);
    if (size > UINT64_MAX / (whole + 2)) {
        return UINT64_MAX;
    }
    low = (size & 0xFFFFFFFFu) * fraction;
    return size * whole + (size >> 32) * fraction + (low >> 32) + (low >> 31 & 1);
}

static size_t tai_padding_required(const void *config, void *state, const ta_strategy_input *in)
{
    double factor = config == NULL ? 1.2 : *(const double *)config;
    (void)state;
    if (in->capacity_bytes != 0 && in->size_bytes <= in->capacity_bytes) {
        return tai_strategy_clamp(in, in->capacity_bytes);
    }
    return tai_strategy_clamp(in, tai_factor_times(factor, 1.2, in->size_bytes));
}

TENSORALLOC_DEF TAI_COLD ta_strategy ta_strategy_padding(const double *factor)
{
    static const ta_strategy_vtable vtable = {
        (uint32_t)sizeof(ta_strategy_vtable), "padding", 0, tai_padding_required, NULL, NULL
    };
    ta_strategy strategy;
    strategy.vtable = &vtable;
    strategy.config = factor;
    return strategy;
}

typedef struct tai_adaptive {
    uint64_t mean_bytes; /* of the expected size and all that was observed, rounded down */
    uint64_t rest;       /* mean * count + rest is their sum */
    uint64_t count;      /* 0: nothing observed */
    uint32_t low_count;  /* uses in a row below the threshold */
} tai_adaptive;

static const ta_adaptive_config *tai_adaptive_settings(const void *config)
{
    static const ta_adaptive_config defaults = {1.2, 1.5, 0.5, 8, 0};
    return config == NULL ? &defaults : (const ta_adaptive_config *)config;
}

static uint32_t tai_adaptive_uses(const ta_adaptive_config *c)
{
    return c->shrink_uses == 0 ? 8 : c->shrink_uses;
}

/* Uses in a row below the threshold: of the handle, not of its site. */
static uint32_t *tai_adaptive_low(tai_adaptive *a, const ta_strategy_input *in)
{
    return in->own != NULL ? in->own : &a->low_count;
}

static int tai_adaptive_is_low(const ta_adaptive_config *c, const ta_strategy_input *in)
{
    return in->size_bytes < tai_factor_times(c->shrink_threshold, 0.5, in->capacity_bytes);
}

/* The first capacity, and the one to shrink to. */
static size_t tai_adaptive_padded(const ta_adaptive_config *c, const tai_adaptive *a, const ta_strategy_input *in)
{
    uint64_t expected = c->disable_learning || a->count == 0 ? in->expected_bytes : a->mean_bytes;
    return tai_strategy_clamp(in, tai_factor_times(c->padding_factor, 1.2, expected));
}

static size_t tai_adaptive_required(const void *config, void *state, const ta_strategy_input *in)
{
    const ta_adaptive_config *c = tai_adaptive_settings(config);
    tai_adaptive *a = (tai_adaptive *)state;
    *tai_adaptive_low(a, in) = 0;
    if (in->capacity_bytes == 0 || in->size_bytes <= in->capacity_bytes) {
        return tai_adaptive_padded(c, a, in);
    }
    return tai_strategy_clamp(in, tai_factor_times(c->growth_factor, 1.5, in->capacity_bytes));
}

/* This use would be the last of a low row, and there is something to win. */
static int tai_adaptive_should_resize(const void *config, void *state, const ta_strategy_input *in)
{
    const ta_adaptive_config *c = tai_adaptive_settings(config);
    tai_adaptive *a = (tai_adaptive *)state;
    return tai_adaptive_is_low(c, in) && *tai_adaptive_low(a, in) + 1 >= tai_adaptive_uses(c) &&
           tai_adaptive_padded(c, a, in) < in->capacity_bytes;
}

static void tai_adaptive_observe(const void *config, void *state, const ta_strategy_input *in)
{
    const ta_adaptive_config *c = tai_adaptive_settings(config);
    tai_adaptive *a = (tai_adaptive *)state;
    uint64_t size = in->size_bytes, less, down;
    uint32_t *low = tai_adaptive_low(a, in);
    *low = tai_adaptive_is_low(c, in) ? *low + 1 : 0;
    *low = *low >= tai_adaptive_uses(c) ? 0 : *low;
    if (a->count == 0) {
        a->mean_bytes = in->expected_bytes != 0 ? in->expected_bytes : size;
        a->count = 1;
    }
    a->count++;
    if (size >= a->mean_bytes) {
        a->rest += size - a->mean_bytes;
        a->mean_bytes += a->rest / a->count;
        a->rest %= a->count;
    } else {
        less = a->mean_bytes - size;
        down = less <= a->rest ? 0 : (less - a->rest - 1) / a->count + 1;
        a->mean_bytes -= down;
        a->rest = a->rest + down * a->count - less;
    }
}

TENSORALLOC_DEF TAI_COLD ta_strategy ta_strategy_adaptive(const ta_adaptive_config *config)
{
    static const ta_strategy_vtable vtable = {
        (uint32_t)sizeof(ta_strategy_vtable), "adaptive", sizeof(tai_adaptive), tai_adaptive_required,
        tai_adaptive_should_resize, tai_adaptive_observe
    };
    ta_strategy strategy;
    strategy.vtable = &vtable;
    strategy.config = config;
    return strategy;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:DYNAMIC-IMPL] tensors with bounds: address ranges committed as needed, blocks that move, sites that learn.
  Uses: ARENA-IMPL (common part, records), HEAP (for addresses), POOL-IMPL, PREDICT.

  A tensor with a range (a piece of a large reservation; the pieces are blocks of a space that has only addresses):

      addr           effective     capacity      committed                 addr + span_bytes
      | the shape    | headroom    | surplus     | addresses only          |
      '- in use -------------------'- cached ----'
      accessible: how far the backend has committed; = committed, or (by_touch) the whole range where memory comes at
      the first touch (backends with discard): then commit and decommit of a few pages change no mappings.

  A tensor without: a block of the upstream; capacity is what was asked of it, held what it gave.
  A record is vacant; busy (being made, or its warm range being given back); live; or cached: a freed tensor whose range
  is kept warm, in a list by size and a list by age. generation goes up when the tensor is freed.
  Locks: the gate, left around every call of the backend, the upstream, a strategy, an event. Whoever changes a live
  tensor claims it and its site first (busy = the thread); others wait, the thread itself gets TA_ERROR_BUSY. Events are
  told when nothing is claimed any more. Fields of live and cached records change inside the gate only.
  Invariants: live records are in the chain of their address if they have one; common.reserved = sum of committed;
  common.in_use = sum of held; capacity <= max(declared maximum, effective).
  -------------------------------------------------------------------------------------------------------*/
typedef struct tai_site {
    tai_link link;     /* addr: the caller's number, 0: of one handle alone */
    uintptr_t busy;    /* the thread that uses the state */
    ta_strategy strategy;
    int full_size;     /* the predictive strategy: small tensors get their maximum at once */
    uint32_t padding;  /* state lies at a multiple of 8, on 32 bits too */
    uint64_t state[TA_STRATEGY_STATE_BYTES / 8];
} tai_site;

typedef struct tai_handle {
    tai_link link;     /* addr: data, 0 if there is none */
    size_t effective, capacity, held;
    size_t committed, accessible, span_bytes; /* ranges; span_bytes 0: a block of the upstream */
    size_t start;      /* effective when it was made */
    size_t keep;       /* ordered backends: a shrink that waits for ticket; TA_UNLIMITED: none */
    uint64_t ticket;
    uint64_t time_ns, use_count;
    const char *tag;
    size_t alignment;
    ta_stream stream;
    uintptr_t busy;    /* the thread that changes it; 0: nobody */
    uint32_t span;     /* block of the space of addresses */
    uint32_t site;
    uint32_t flags;
    uint32_t size_prev, size_next, age_prev, age_next; /* cached */
    size_t grown;      /* bytes that an event is still to tell of */
    int by_touch;      /* the whole range is accessible; memory comes at the first touch */
    int fresh;         /* a range that no stream has used */
    int all_streams;   /* used by other streams too */
    int flat;          /* a plain block: no bounds */
    uint32_t holds;    /* by graph pools: it stays where it is, with all its memory */
    int orphan;        /* freed while held: its range is nobody's until that ends */
    uint32_t strategy_word;
    int rank;
    int has_symbols;   /* then sizes are asked for anew each time */
    ta_bounds_sizes sizes; /* of the bounds */
    int64_t dims[TA_RANK_MAX];
    ta_shape_bounds bounds;
#ifdef TENSORALLOC_CHECKED
    size_t dead; /* cached: so much of it is filled */
#endif
} tai_handle;

struct ta_dynamic {
    tai_common common;
    tai_records handles, sites;
    tai_space spans;
    ta_backend addresses;  /* what spans sees: ours, but commit and decommit do nothing */
    size_t span_granule;
    int use_ranges;
    int full_size;         /* of the strategy of sites that have no other */
    ta_allocator upstream;
    ta_pool *pool;         /* the upstream if it is ours */
    ta_dynamic_desc desc;
    uint32_t warm_by_size[TAI_BINS], warm_first, warm_last; /* by age: first is the oldest */
    size_t warm_bytes;     /* committed by cached records */
    size_t block_bytes;    /* held by blocks of the upstream */
    uint32_t squeezed;     /* the tensor that gave last */
    uint32_t held;         /* holds of graph pools */
    size_t effective, capacity, peak_capacity, peak_wasted;
    ta_dynamic_stats sum;  /* the cumulative part */
    ta_failure failure;    /* the last one */
    uint64_t pool_failure_count; /* of our pool, up to the last one of ours */
};

static tai_handle *tai_handle_at(const ta_dynamic *d, uint32_t index)
{
    return (tai_handle *)(void *)tai_record_at(&d->handles, index);
}

static tai_site *tai_site_at(const ta_dynamic *d, uint32_t index)
{
    return (tai_site *)(void *)tai_record_at(&d->sites, index);
}

/* ---- checked builds: what is written into a tensor that was freed */
#ifdef TENSORALLOC_CHECKED
static void tai_range_kill(const ta_dynamic *d, tai_handle *h)
{
    h->dead = 0;
    if (d->common.guard.on) {
        h->dead = tai_dead_bytes(h->committed);
        memset((void *)h->link.addr, TAI_DEAD, h->dead);
    }
}

/* The range is used again, or goes. Outside the gate, by the only one who knows it. */
static void tai_range_revive(ta_dynamic *d, tai_handle *h)
{
    if (!tai_is_filled(h->link.addr, h->dead, TAI_DEAD)) {
        d->common.guard.found = TA_ERROR_USE_AFTER_FREE;
        (void)tai_common_blame(&d->common, TA_ERROR_USE_AFTER_FREE, (const void *)h->link.addr, h->dead, NULL);
    }
    h->dead = 0;
}

/* Before it goes: tensors that were written after they were freed, and those that never were. */
static TAI_COLD ta_result tai_dynamic_look(ta_dynamic *d, int leaks)
{
    ta_result found = TA_OK;
    uint32_t i;
    int told = 0;
    if (d->common.disposed || d->common.guard.closed || tai_common_usable(&d->common) != TA_OK) {
        return TA_OK;
    }
    d->common.guard.closed = 1;
    for (i = 1; i < d->handles.end; i++) {
        tai_handle *h = tai_handle_at(d, i);
        if (h->link.state == TAI_CACHED) {
            tai_range_revive(d, h);
        } else if (h->link.state == TAI_LIVE && leaks) {
            found = TA_ERROR_LEAK;
            if (++told <= TAI_REPORTS_MAX) {
                (void)tai_common_blame(&d->common, found, (const void *)h->link.addr, h->effective, h->tag);
            }
        }
    }
    return tai_guard_worse(found, d->common.guard.found);
}
#else
    #define tai_range_kill(d, h) ((void)0)
    #define tai_range_revive(d, h) ((void)0)
    #define tai_dynamic_look(d, leaks) TA_OK
#endif

/* What events tell of a tensor: taken while it is claimed, told afterwards. */
typedef struct tai_news {
    ta_event event;
    size_t grown;
    uintptr_t addr;
} tai_news;

static void tai_news_take(const ta_dynamic *d, tai_handle *h, tai_news *news)
{
    news->addr = h->link.addr;
    if (TAI_UNLIKELY(d->common.on_event != NULL)) {
        memset(&news->event, 0, sizeof news->event);
        news->event.ptr = (void *)h->link.addr;
        news->event.capacity_bytes = h->capacity;
        news->event.stream = h->stream;
        news->event.tag = h->tag;
        news->grown = h->grown;
        h->grown = 0;
    }
}

/* Outside the gate, with nothing claimed. kind: besides growth and trimming; TRIM: only those. */
static void tai_news_tell(ta_dynamic *d, tai_news *news, ta_event_kind kind, ta_result result, size_t size)
{
    if (TAI_UNLIKELY(d->common.on_event != NULL)) {
        tai_common_tell_moved(&d->common);
        news->event.hit = kind == TA_EVENT_ALLOC && news->grown == 0;
        if (news->grown != 0) {
            tai_common_tell(&d->common, &news->event, TA_EVENT_GROW, TA_OK, news->grown);
        }
        if (kind != TA_EVENT_TRIM) {
            tai_common_tell(&d->common, &news->event, kind, result, size);
        }
    }
}

/* ---- addresses: the backend that the space of ranges sees */
static TAI_COLD void tai_addresses_info(void *self, ta_backend_info *out)
{
    const ta_dynamic *d = (const ta_dynamic *)self;
    *out = d->common.info;
    out->caps = TA_CAP_RANGES | (out->caps & TA_CAP_HOST_ACCESS);
    out->granularity_bytes = out->alignment_bytes = d->span_granule;
}

static TAI_COLD ta_result tai_addresses_reserve(void *self, size_t size, size_t alignment, uint32_t flags, void **out)
{
    const ta_dynamic *d = (const ta_dynamic *)self;
    return d->common.backend.vtable->reserve(d->common.backend.self, size, alignment, flags, out);
}

static TAI_COLD ta_result tai_addresses_release(void *self, void *ptr, size_t size)
{
    const ta_dynamic *d = (const ta_dynamic *)self;
    return d->common.backend.vtable->release(d->common.backend.self, ptr, size);
}

static ta_result tai_addresses_nothing(void *self, void *ptr, size_t size)
{
    (void)self;
    (void)ptr;
    (void)size;
    return TA_OK;
}

static TAI_COLD ta_result tai_addresses_zero(void *self, void *ptr, size_t size, ta_stream stream)
{
    (void)stream;
    return tai_addresses_nothing(self, ptr, size);
}

static TAI_COLD ta_result tai_addresses_copy(void *self, void *dst, const void *src, size_t size, ta_stream stream)
{
    (void)src;
    return tai_addresses_zero(self, dst, size, stream);
}

static const ta_backend_vtable tai_addresses_vtable = {
    sizeof(ta_backend_vtable), "addresses", tai_addresses_info, NULL, NULL, tai_addresses_reserve,
    tai_addresses_release, tai_addresses_nothing, tai_addresses_nothing, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, tai_addresses_zero, tai_addresses_copy, NULL
};

/* A piece of addresses; 0 with *result. Outside the gates. */
static TAI_COLD uint32_t tai_span_take(ta_dynamic *d, size_t bytes, size_t alignment, ta_result *result)
{
    size_t grown = 0;
    uint32_t index;
    for (;;) {
        tai_gate_enter(&d->spans.gate, NULL);
        index = tai_heap_take(&d->spans, TAI_LARGE, bytes, alignment, 0, result);
        tai_gate_leave(&d->spans.gate, NULL);
        if (index != 0 || *result == TA_ERROR_RECORDS) {
            return index;
        }
        *result = tai_space_grow(&d->spans, TAI_LARGE, bytes, alignment, 0, NULL, &grown);
        if (*result != TA_OK) {
            return 0;
        }
    }
}

static TAI_COLD void tai_span_give(ta_dynamic *d, uint32_t index)
{
    tai_gate_enter(&d->spans.gate, NULL);
    tai_heap_put(&d->spans, index);
    tai_gate_leave(&d->spans.gate, NULL);
}

/* ---- warm ranges. Inside the gate. */
static void tai_warm_add(ta_dynamic *d, uint32_t index)
{
    tai_handle *h = tai_handle_at(d, index);
    uint32_t *head = &d->warm_by_size[tai_bin_of(h->span_bytes)];
    h->link.state = TAI_CACHED;
    h->size_prev = 0;
    h->size_next = *head;
    if (*head != 0) {
        tai_handle_at(d, *head)->size_prev = index;
    }
    *head = index;
    h->age_next = 0;
    h->age_prev = d->warm_last;
    if (d->warm_last != 0) {
        tai_handle_at(d, d->warm_last)->age_next = index;
    } else {
        d->warm_first = index;
    }
    d->warm_last = index;
    d->warm_bytes += h->committed;
}

/* The record becomes busy. */
static void tai_warm_remove(ta_dynamic *d, uint32_t index)
{
    tai_handle *h = tai_handle_at(d, index);
    if (h->size_prev != 0) {
        tai_handle_at(d, h->size_prev)->size_next = h->size_next;
    } else {
        d->warm_by_size[tai_bin_of(h->span_bytes)] = h->size_next;
    }
    if (h->size_next != 0) {
        tai_handle_at(d, h->size_next)->size_prev = h->size_prev;
    }
    if (h->age_prev != 0) {
        tai_handle_at(d, h->age_prev)->age_next = h->age_next;
    } else {
        d->warm_first = h->age_next;
    }
    if (h->age_next != 0) {
        tai_handle_at(d, h->age_next)->age_prev = h->age_prev;
    } else {
        d->warm_last = h->age_prev;
    }
    d->warm_bytes -= h->committed;
    h->link.state = TAI_BUSY;
}

/* The youngest warm range of bytes to twice that; 0 if there is none. */
static uint32_t tai_warm_find(const ta_dynamic *d, size_t bytes, size_t alignment)
{
    uint32_t bin = tai_bin_of(bytes), end = bin + TAI_SUBS, index, look;
    for (; bin <= end && bin < TAI_BINS; bin++) {
        for (index = d->warm_by_size[bin], look = 0; index != 0 && look < 8; look++) {
            const tai_handle *h = tai_handle_at(d, index);
            if (h->span_bytes >= bytes && (h->link.addr & (alignment - 1)) == 0) {
                return index;
            }
            index = h->size_next;
        }
    }
    return 0;
}

/* ---- memory behind a range. The record is busy by this thread; outside the gate. */
/* Waits for the work that may use the range. */
static TAI_COLD ta_result tai_handle_sync(ta_dynamic *d, const tai_handle *h)
{
    if ((d->common.info.caps & TA_CAP_ORDERED) == 0) {
        return TA_OK;
    }
    return h->all_streams ? tai_common_sync_all(&d->common) : tai_common_sync(&d->common, h->stream);
}

/* Takes the memory behind [keep, committed) away; no work uses it. whole: the addresses go too. Returns the bytes. */
static TAI_COLD size_t tai_range_cut(ta_dynamic *d, tai_handle *h, size_t keep, int whole)
{
    const ta_backend_vtable *backend = d->common.backend.vtable;
    size_t from = tai_round_up(keep, d->common.info.granularity_bytes);
    size_t bytes = from < h->committed ? h->committed - from : 0;
    ta_result result = TA_OK;
    if (TAI_GRAPHS && h->holds != 0) {
        return 0;
    }
    tai_range_revive(d, h);
    if (h->by_touch && !whole) {
        result = bytes == 0 ? TA_OK : backend->discard(d->common.backend.self, (void *)(h->link.addr + from), bytes);
    } else if (from < h->accessible) {
        uintptr_t at = h->link.addr + from, to = h->link.addr + h->accessible;
        result = tai_backend_decommit(d->common.backend, &at, &to);
        from = (size_t)(at - h->link.addr); /* the end is that of a piece */
        bytes = from < h->committed ? h->committed - from : 0;
    }
    if (result != TA_OK || (bytes == 0 && !whole)) {
        return 0;
    }
    tai_gate_enter(&d->common.gate, NULL);
    h->accessible = h->by_touch && !whole ? h->accessible : from;
    h->by_touch = h->by_touch && !whole;
    h->committed -= bytes;
    tai_common_count_returned(&d->common, bytes);
    d->common.trim_count += bytes != 0;
    d->common.trimmed_bytes += bytes;
    d->sum.decommitted_bytes += bytes;
    tai_gate_leave(&d->common.gate, NULL);
    tai_budget_refund(d->common.budget, bytes);
    return bytes;
}

/* As cut, after waiting for the work that may use the range. */
static TAI_COLD size_t tai_range_shrink(ta_dynamic *d, tai_handle *h, size_t keep, int whole)
{
    return tai_handle_sync(d, h) == TA_OK ? tai_range_cut(d, h, keep, whole) : 0;
}

/* Gives warm ranges back, the oldest first, until warm_bytes <= keep or want bytes came; addresses: all of them, those
   without memory too. Returns how many. */
static TAI_COLD size_t tai_dynamic_cool(ta_dynamic *d, size_t keep, size_t want, int addresses, size_t *bytes)
{
    size_t count = 0, got = 0;
    for (;;) {
        uint32_t index;
        tai_handle *h;
        tai_gate_enter(&d->common.gate, NULL);
        index = addresses || (d->warm_bytes > keep && got < want) ? d->warm_first : 0;
        if (index != 0) {
            tai_warm_remove(d, index);
        }
        tai_gate_leave(&d->common.gate, NULL);
        if (index == 0) {
            break;
        }
        h = tai_handle_at(d, index);
        got += tai_range_shrink(d, h, 0, 1);
        if (h->accessible != 0) { /* the backend refused */
            tai_gate_enter(&d->common.gate, NULL);
            tai_warm_add(d, index);
            tai_gate_leave(&d->common.gate, NULL);
            break;
        }
        tai_span_give(d, h->span);
        tai_gate_enter(&d->common.gate, NULL);
        tai_record_drop(&d->handles, index);
        tai_gate_leave(&d->common.gate, NULL);
        count++;
    }
    if (bytes != NULL) {
        *bytes += got;
    }
    return count;
}

/* A busy record; warm ranges make room. Outside the gate. */
static TAI_COLD uint32_t tai_handle_record(ta_dynamic *d)
{
    uint32_t index;
    do {
        tai_gate_enter(&d->common.gate, NULL);
        index = tai_record_new(&d->handles);
        tai_gate_leave(&d->common.gate, NULL);
    } while (index == 0 && tai_dynamic_cool(d, 0, 0, 1, NULL) != 0);
    return index;
}

static TAI_COLD size_t tai_handle_held(const ta_dynamic *d, const void *ptr, size_t capacity)
{
    ta_block_info info;
    memset(&info, 0, sizeof info);
    return d->upstream.vtable->describe(d->upstream.self, ptr, &info) == TA_OK ? info.capacity_bytes : capacity;
}

/* What squeeze takes, and by what it counts. */
enum { TAI_SURPLUS = 0, TAI_HEADROOM = 1, TAI_CAPACITY = 2 };

/* Cuts a claimed tensor down to what it needs; returns what became free: memory, or capacity. */
static TAI_COLD size_t tai_handle_squeeze(ta_dynamic *d, tai_handle *h, int what)
{
    size_t held = h->held, capacity = h->capacity, memory = 0, keep = what == TAI_SURPLUS ? h->held : h->effective;
    if (h->span_bytes != 0) {
        memory = tai_range_shrink(d, h, keep, 0);
        held = h->committed < held ? h->committed : held;
        capacity = h->committed < capacity ? h->committed : capacity;
    } else if (d->upstream.vtable->resize_in_place(d->upstream.self, (void *)h->link.addr, capacity,
                                                   keep + (keep == 0)) == TA_OK) {
        capacity = keep;
        held = tai_handle_held(d, (const void *)h->link.addr, keep);
        memory = held < h->held ? h->held - held : 0;
    }
    tai_gate_enter(&d->common.gate, NULL);
    d->common.in_use -= h->held - held;
    d->block_bytes -= h->span_bytes == 0 ? h->held - held : 0;
    d->capacity -= h->capacity - capacity;
    keep = h->capacity - capacity;
    h->held = held;
    h->capacity = capacity;
    tai_gate_leave(&d->common.gate, NULL);
    return what == TAI_CAPACITY ? keep : memory;
}

/* Takes what live tensors do not need: what is committed above their capacity, or also the capacity above their
   shapes if that suffices, from one tensor after the other, beginning where it ended the last time. Returns what
   became free. */
static TAI_COLD size_t tai_dynamic_squeeze(ta_dynamic *d, size_t want, int what)
{
    size_t got = 0;
    uint32_t count, seen = 0;
    do {
        tai_handle *h = NULL;
        int mine = 0;
        tai_gate_enter(&d->common.gate, NULL);
        count = d->handles.end;
        if (what != TAI_SURPLUS && want - got > d->capacity - d->effective) {
            count = 0; /* it would not suffice */
        }
        if (seen < count) {
            d->squeezed = d->squeezed + 1 < count ? d->squeezed + 1 : 1;
            h = tai_handle_at(d, d->squeezed);
            if (count > 1 && h->link.state == TAI_LIVE && h->busy == 0 && (!TAI_GRAPHS || h->holds == 0)) {
                mine = h->span_bytes != 0 ? h->committed > tai_round_up(what == TAI_SURPLUS ? h->held : h->effective,
                                                                       d->common.info.granularity_bytes)
                                          : what != TAI_SURPLUS && !h->flat && h->link.addr != 0 &&
                                                h->capacity - h->effective > (what == TAI_CAPACITY ? 0u : 65536u);
            }
            if (mine) {
                h->busy = tai_thread_id();
            }
        }
        tai_gate_leave(&d->common.gate, NULL);
        if (mine) {
            got += tai_handle_squeeze(d, h, what);
            tai_gate_enter(&d->common.gate, NULL);
            h->busy = 0;
            tai_gate_leave(&d->common.gate, NULL);
        }
    } while (++seen < count && got < want);
    return got;
}

/* Gives back warm ranges, and what a pool of our own holds free, this thread's cache too; with headroom also the
   headroom of other tensors. Returns the bytes. */
static TAI_COLD size_t tai_dynamic_give_back(ta_dynamic *d, size_t want, int what)
{
    size_t got = 0, part = 0;
    (void)tai_dynamic_cool(d, 0, want, 0, &got);
    got += got < want ? tai_dynamic_squeeze(d, want - got, what) : 0;
    if (got < want && d->pool != NULL && ta_pool_thread_flush(d->pool) == TA_OK &&
        ta_pool_trim(d->pool, 0, &part) == TA_OK) {
        got += part;
    }
    return got;
}

/* Takes bytes out of the budget, with what must be given back for that: ours, the siblings' free memory, the
   headroom of other tensors. */
static TAI_COLD int tai_dynamic_charge(ta_dynamic *d, size_t bytes, uint32_t flags)
{
    ta_budget *budget = d->common.budget;
    if (tai_budget_charge(budget, bytes)) {
        return 1;
    }
    if ((flags & TA_REQUEST_WITHIN_BUDGET) != 0 || !tai_budget_may_hold(budget, 0, bytes)) {
        return 0;
    }
    return (tai_dynamic_give_back(d, bytes, TAI_SURPLUS) != 0 && tai_budget_charge(budget, bytes)) ||
           (tai_budget_reclaim(budget, &d->common.member, bytes) != 0 && tai_budget_charge(budget, bytes)) ||
           (tai_dynamic_give_back(d, bytes, TAI_HEADROOM) != 0 && tai_budget_charge(budget, bytes));
}

/* With an upstream of the program's: its blocks are part of what is reserved. Inside the gate. */
static void tai_dynamic_note_peak(ta_dynamic *d)
{
    if (d->pool == NULL && d->common.reserved + d->block_bytes > d->common.peak_reserved) {
        d->common.peak_reserved = d->common.reserved + d->block_bytes;
    }
}

/* Puts memory behind the first want bytes of the range (at most span_bytes). */
static ta_result tai_range_grow(ta_dynamic *d, tai_handle *h, size_t want)
{
    size_t step = d->common.info.granularity_bytes, end, bytes, accessible = h->accessible;
    ta_result result = TA_OK;
    if (!h->by_touch) { /* each commit is a call: fewer of them, for at most a sixteenth more */
        while (step < ((size_t)64 << 20) && step * 32 <= want) {
            step *= 2;
        }
    }
    if (d->desc.huge_pages == TA_HUGE_PAGES_ON && step < TAI_HUGE_PAGE_BYTES) {
        step = TAI_HUGE_PAGE_BYTES;
    }
    end = tai_round_up(want, step);
    end = end > h->span_bytes || end < want ? h->span_bytes : end;
    if (want <= h->committed) {
        return TA_OK;
    }
    bytes = end - h->committed;
    if (!tai_dynamic_charge(d, bytes, h->flags)) {
        end = tai_round_up(want, d->common.info.granularity_bytes);
        if (end - h->committed == bytes || !tai_dynamic_charge(d, end - h->committed, h->flags)) {
            return TA_ERROR_LIMIT;
        }
        bytes = end - h->committed;
    }
    if (end > accessible) {
        result = d->common.backend.vtable->commit(d->common.backend.self, (void *)(h->link.addr + accessible),
                                                  end - accessible);
        accessible = end;
    }
    if (result != TA_OK) {
        tai_budget_refund(d->common.budget, bytes);
        return result;
    }
    tai_gate_enter(&d->common.gate, NULL);
    h->accessible = accessible;
    h->committed = end;
    h->grown += bytes;
    tai_common_count_reserved(&d->common, bytes);
    tai_dynamic_note_peak(d);
    d->sum.committed_bytes += bytes;
    tai_gate_leave(&d->common.gate, NULL);
    return TA_OK;
}

/* ---- capacity */
/* Counts the tensor's capacity as new_capacity if capacity_bytes_max allows it. */
static int tai_dynamic_claim(ta_dynamic *d, size_t old_capacity, size_t new_capacity)
{
    int ok;
    tai_gate_enter(&d->common.gate, NULL);
    ok = new_capacity <= old_capacity || (new_capacity <= d->desc.capacity_bytes_max &&
         d->capacity - old_capacity <= d->desc.capacity_bytes_max - new_capacity);
    if (ok) {
        d->capacity = d->capacity - old_capacity + new_capacity;
    }
    tai_gate_leave(&d->common.gate, NULL);
    return ok;
}

/* By how much a claim fails. */
static TAI_COLD size_t tai_dynamic_missing(ta_dynamic *d, size_t old_capacity, size_t new_capacity)
{
    size_t others, room;
    tai_gate_enter(&d->common.gate, NULL);
    others = d->capacity - old_capacity;
    room = d->desc.capacity_bytes_max > others ? d->desc.capacity_bytes_max - others : 0;
    tai_gate_leave(&d->common.gate, NULL);
    return new_capacity > room ? new_capacity - room : 0;
}

static void tai_dynamic_unclaim(ta_dynamic *d, size_t bytes)
{
    tai_gate_enter(&d->common.gate, NULL);
    d->capacity -= bytes;
    tai_gate_leave(&d->common.gate, NULL);
}

/* What is in use. Inside the gate. */
static void tai_handle_hold(ta_dynamic *d, tai_handle *h, size_t held)
{
    d->common.in_use = d->common.in_use - h->held + held;
    if (h->span_bytes == 0) {
        d->block_bytes = d->block_bytes - h->held + held;
        tai_dynamic_note_peak(d);
    }
    h->held = held;
    if (d->common.in_use > d->common.peak_in_use) {
        d->common.peak_in_use = d->common.in_use;
    }
}

/* A range gets this capacity, which has been claimed. */
static ta_result tai_handle_set_range(ta_dynamic *d, tai_handle *h, size_t capacity)
{
    size_t held = tai_round_up(capacity, d->common.info.granularity_bytes);
    ta_result result = tai_range_grow(d, h, capacity);
    if (result == TA_OK) {
        tai_gate_enter(&d->common.gate, NULL);
        tai_handle_hold(d, h, held < h->committed ? held : h->committed);
        h->capacity = capacity;
        tai_gate_leave(&d->common.gate, NULL);
    }
    return result;
}

/* Fills a new place on the tensor's stream: a copy of the first keep bytes, then zeros up to size if it asked for
   them. */
static TAI_COLD ta_result tai_handle_fill(const ta_dynamic *d, const tai_handle *h, void *dst, size_t keep,
                                          size_t size)
{
    ta_result result = TA_OK;
    if (keep != 0) {
        result = tai_backend_copy(d->common.backend, dst, (const void *)h->link.addr, keep, h->stream);
    }
    if (result == TA_OK && size > keep && (h->flags & (uint32_t)TA_REQUEST_ZEROED) != 0) {
        result = tai_backend_zero(d->common.backend, (char *)dst + keep, size - keep, h->stream);
    }
    return result;
}

static TAI_COLD void *tai_block_take(ta_dynamic *d, const tai_handle *h, size_t capacity, uint32_t flags,
                                     ta_result *result)
{
    ta_request request;
    void *ptr;
    memset(&request, 0, sizeof request);
    request.size_bytes = capacity;
    request.alignment_bytes = h->alignment;
    request.stream = h->stream;
    request.tag = h->tag;
    request.flags = flags;
    ptr = d->upstream.vtable->alloc(d->upstream.self, &request, result);
    if (ptr == NULL && flags == 0 && d->pool != NULL && d->common.single_threaded &&
        tai_dynamic_give_back(d, capacity, TAI_HEADROOM) != 0) { /* nobody else asks us */
        ptr = d->upstream.vtable->alloc(d->upstream.self, &request, result);
    }
    return ptr;
}

/* The old place of a tensor that has moved, or of one that is freed. */
static TAI_COLD ta_result tai_block_give(ta_dynamic *d, const tai_handle *h)
{
    if (h->all_streams && d->pool == NULL) {
        (void)tai_handle_sync(d, h);
    }
    return d->upstream.vtable->free(d->upstream.self, (void *)h->link.addr, h->capacity, h->alignment, h->stream);
}

/* Another place for the tensor. Inside the gate. */
static TAI_COLD void tai_handle_place(ta_dynamic *d, tai_handle *h, uint32_t index, uintptr_t addr)
{
    int live = h->link.state == TAI_LIVE;
    if (live && h->link.addr != 0) {
        tai_record_unlink(&d->handles, index);
    }
    h->link.addr = addr;
    if (live && addr != 0) {
        tai_record_link(&d->handles, index);
    }
}

/* A block gets this capacity, which has been claimed: in place, or cheaply elsewhere, or, if size does not fit into
   what it has, with a copy of keep bytes. TA_ERROR_WOULD_MOVE: size fits, and it stays as it is. */
static TAI_COLD ta_result tai_handle_set_block(ta_dynamic *d, tai_handle *h, uint32_t index, size_t capacity,
                                               size_t keep, size_t size)
{
    ta_result result = TA_ERROR_WOULD_MOVE;
    void *ptr = (void *)h->link.addr, *moved = NULL;
    size_t held;
    uint32_t copied = 0;
    tai_handle old;
    if (ptr != NULL) { /* an empty tensor keeps its place: a byte */
        result = d->upstream.vtable->resize_in_place(d->upstream.self, ptr, h->capacity, capacity + (capacity == 0));
        moved = result == TA_OK ? ptr : NULL;
        if (result != TA_OK && size > h->capacity && (!TAI_GRAPHS || h->holds == 0)) {
            moved = d->upstream.vtable->remap(d->upstream.self, ptr, h->capacity, capacity, &result);
        }
    }
    if (moved == NULL && (capacity == 0 || (ptr != NULL && (size <= h->capacity || (TAI_GRAPHS && h->holds != 0))))) {
        return TA_ERROR_WOULD_MOVE;
    }
    if (moved == NULL) {
        moved = tai_block_take(d, h, capacity, h->flags & (uint32_t)TA_REQUEST_WITHIN_BUDGET, &result);
        if (moved == NULL) {
            return result;
        }
        result = tai_handle_fill(d, h, moved, keep, size);
        if (result != TA_OK) {
            (void)d->upstream.vtable->free(d->upstream.self, moved, capacity, h->alignment, h->stream);
            return result;
        }
        copied = ptr != NULL;
    }
    held = tai_handle_held(d, moved, capacity);
    old = *h;
    tai_gate_enter(&d->common.gate, NULL);
    tai_handle_hold(d, h, held);
    h->capacity = capacity;
    if (moved != ptr) {
        tai_handle_place(d, h, index, (uintptr_t)moved);
        h->all_streams = 0;
    }
    d->sum.move_count += copied;
    d->sum.moved_bytes += copied ? keep : 0;
    tai_gate_leave(&d->common.gate, NULL);
    if (copied) { /* when nobody finds it under its old address any more */
        (void)tai_block_give(d, &old);
    }
    return TA_OK;
}

/* Addresses for a tensor of max_bytes (TA_UNLIMITED: unbounded) that needs size now; 0: it gets a block. */
static TAI_COLD size_t tai_span_bytes(const ta_dynamic *d, size_t max_bytes, size_t size, size_t alignment)
{
    size_t want = max_bytes == TA_UNLIMITED ? d->desc.unbounded_bytes : max_bytes;
    want = want < size ? size : want;
    if (!d->use_ranges || want < d->desc.range_bytes_min || want > (size_t)PTRDIFF_MAX - 2 * TAI_ALIGNMENT_MAX ||
        alignment > TAI_ALIGNMENT_MAX) {
        return 0;
    }
    return tai_round_up(want, d->span_granule);
}

/* A warm or new range for at least least bytes, in a record of its own: busy, with addr, span and what is committed;
   0 with *result. */
static TAI_COLD uint32_t tai_range_take(ta_dynamic *d, size_t bytes, size_t least, size_t alignment, ta_result *result)
{
    tai_handle *h;
    uint32_t index, span = 0;
    alignment = alignment < d->span_granule ? d->span_granule : alignment;
    tai_gate_enter(&d->common.gate, NULL);
    index = tai_warm_find(d, bytes, alignment);
    if (index != 0) {
        tai_warm_remove(d, index);
        d->sum.warm_count++;
    }
    tai_gate_leave(&d->common.gate, NULL);
    if (index != 0) {
        tai_range_revive(d, tai_handle_at(d, index));
        return index;
    }
    for (; span == 0; bytes = tai_round_up(bytes / 4, d->span_granule)) {
        span = tai_span_take(d, bytes, alignment, result);
        if (span == 0 && tai_dynamic_cool(d, 0, 0, 1, NULL) != 0) {
            span = tai_span_take(d, bytes, alignment, result);
        }
        if (span != 0 || bytes / 4 < least || bytes <= d->span_granule) {
            break;
        }
    }
    if (span == 0) {
        return 0;
    }
    index = tai_handle_record(d);
    if (index == 0) {
        tai_span_give(d, span);
        *result = TA_ERROR_RECORDS;
        return 0;
    }
    h = tai_handle_at(d, index);
    memset((char *)h + sizeof(tai_link), 0, sizeof *h - sizeof(tai_link));
    h->fresh = 1;
    h->link.addr = d->spans.blocks.at[span].addr;
    h->span = span;
    h->span_bytes = d->spans.blocks.at[span].size;
    if (d->common.backend.vtable->discard != NULL &&
        d->common.backend.vtable->commit(d->common.backend.self, (void *)h->link.addr, h->span_bytes) == TA_OK) {
        h->accessible = h->span_bytes;
        h->by_touch = 1;
    }
    return index;
}

/* A range that is not used after all, or whose tensor was freed. */
static TAI_COLD void tai_range_give(ta_dynamic *d, uint32_t index)
{
    tai_gate_enter(&d->common.gate, NULL);
    tai_warm_add(d, index);
    tai_gate_leave(&d->common.gate, NULL);
    if (d->desc.cached_bytes_max != TA_UNLIMITED) {
        (void)tai_dynamic_cool(d, d->desc.cached_bytes_max, TA_UNLIMITED, 0, NULL);
    }
}

/* Later work on stream waits for all work on from. */
static TAI_COLD ta_result tai_dynamic_wait(ta_dynamic *d, ta_stream stream, ta_stream from)
{
    const ta_backend_vtable *backend = d->common.backend.vtable;
    uint64_t ticket = 0;
    ta_result result;
    if (from == stream) {
        return TA_OK;
    }
    result = backend->mark(d->common.backend.self, from, &ticket);
    if (result == TA_OK) {
        result = backend->wait(d->common.backend.self, stream, ticket);
        if (backend->drop != NULL) {
            backend->drop(d->common.backend.self, ticket);
        }
    }
    return result;
}

/* Work on stream may use a range from now on that other streams used before. */
static TAI_COLD ta_result tai_range_order(ta_dynamic *d, const tai_handle *was, ta_stream stream)
{
    uint32_t i = 0, count = 0;
    ta_result result;
    if ((d->common.info.caps & TA_CAP_ORDERED) == 0 || was->fresh) {
        return TA_OK;
    }
    result = tai_dynamic_wait(d, stream, was->stream);
    do {
        ta_stream from = stream;
        tai_gate_enter(&d->common.gate, NULL);
        count = was->all_streams ? d->common.stream_count : 0;
        if (i < count) {
            from = d->common.streams[i];
        }
        tai_gate_leave(&d->common.gate, NULL);
        result = result == TA_OK && from != was->stream ? tai_dynamic_wait(d, stream, from) : result;
    } while (++i < count && result == TA_OK);
    return result;
}

/* Exchanges the places of two records that are in no chain. Inside the gate. */
static TAI_COLD void tai_range_swap(tai_handle *a, tai_handle *b)
{
    tai_handle was = *a;
    a->link.addr = b->link.addr;
    a->span = b->span;
    a->span_bytes = b->span_bytes;
    a->committed = b->committed;
    a->accessible = b->accessible;
    a->by_touch = b->by_touch;
    b->by_touch = was.by_touch;
    b->fresh = was.fresh;
    b->link.addr = was.link.addr;
    b->span = was.span;
    b->span_bytes = was.span_bytes;
    b->committed = was.committed;
    b->accessible = was.accessible;
    b->stream = was.stream;
    b->all_streams = was.all_streams;
}

/* A place for capacity bytes in a record of its own, busy: a range with memory, or a block; 0 with *result. */
static TAI_COLD uint32_t tai_place_new(ta_dynamic *d, const tai_handle *h, size_t max_bytes, size_t capacity,
                                       ta_result *result)
{
    void *ptr;
    size_t bytes = tai_span_bytes(d, max_bytes, capacity, h->alignment);
    uint32_t index = bytes == 0 ? 0 : tai_range_take(d, bytes, max_bytes == TA_UNLIMITED ? capacity : bytes,
                                                     h->alignment, result);
    if (index != 0) {
        tai_handle *to = tai_handle_at(d, index);
        to->flags = h->flags;
        *result = tai_range_order(d, to, h->stream);
        *result = *result == TA_OK ? tai_range_grow(d, to, capacity) : *result;
        if (*result != TA_OK) {
            tai_range_give(d, index);
            index = 0;
        }
        return index;
    }
    index = tai_handle_record(d);
    *result = TA_ERROR_RECORDS;
    if (index != 0) {
        tai_handle *to = tai_handle_at(d, index);
        memset((char *)to + sizeof(tai_link), 0, sizeof *to - sizeof(tai_link));
        ptr = tai_block_take(d, h, capacity, h->flags & (uint32_t)TA_REQUEST_WITHIN_BUDGET, result);
        to->link.addr = (uintptr_t)ptr;
        if (to->link.addr == 0) {
            tai_gate_enter(&d->common.gate, NULL);
            tai_record_drop(&d->handles, index);
            tai_gate_leave(&d->common.gate, NULL);
            index = 0;
        }
    }
    return index;
}

/* A shrink that was put off is forgotten. */
static TAI_COLD void tai_handle_forget_shrink(ta_dynamic *d, tai_handle *h)
{
    if (h->keep != TA_UNLIMITED && d->common.backend.vtable->drop != NULL) {
        d->common.backend.vtable->drop(d->common.backend.self, h->ticket);
    }
    h->keep = TA_UNLIMITED;
}

/* The tensor outgrows its range for good: another place, with a copy of keep bytes. capacity has been claimed. */
static TAI_COLD ta_result tai_handle_move(ta_dynamic *d, tai_handle *h, uint32_t index, size_t max_bytes,
                                          size_t capacity, size_t keep, size_t size)
{
    ta_result result = TA_OK;
    uint32_t other = tai_place_new(d, h, max_bytes, capacity, &result);
    tai_handle *to = tai_handle_at(d, other);
    size_t held;
    if (other == 0) {
        return result;
    }
    result = tai_handle_fill(d, h, (void *)to->link.addr, keep, size);
    if (result != TA_OK) {
        if (to->span_bytes != 0) { /* our stream has waited for its former users, and may be at work on it */
            to->fresh = to->all_streams = 0;
            to->stream = h->stream;
            tai_range_give(d, other);
        } else {
            (void)d->upstream.vtable->free(d->upstream.self, (void *)to->link.addr, capacity, h->alignment, h->stream);
            tai_gate_enter(&d->common.gate, NULL);
            tai_record_drop(&d->handles, other);
            tai_gate_leave(&d->common.gate, NULL);
        }
        return result;
    }
    held = to->span_bytes == 0 ? tai_handle_held(d, (void *)to->link.addr, capacity)
                               : tai_round_up(capacity, d->common.info.granularity_bytes);
    tai_gate_enter(&d->common.gate, NULL);
    tai_handle_hold(d, h, 0);
    if (h->link.state == TAI_LIVE) {
        tai_record_unlink(&d->handles, index);
    }
    tai_range_swap(h, to);
    h->all_streams = h->fresh = 0;
    h->grown += to->grown;
    if (h->link.state == TAI_LIVE) {
        tai_record_link(&d->handles, index);
    }
    tai_handle_hold(d, h, held);
    h->capacity = capacity;
    d->sum.move_count++;
    d->sum.moved_bytes += keep;
    tai_gate_leave(&d->common.gate, NULL);
    tai_handle_forget_shrink(d, h);
    tai_range_give(d, other);
    return TA_OK;
}

/* ---- shapes */
/* A tensor whose shrink was put off until its stream had passed a ticket. */
static TAI_COLD void tai_handle_settle(ta_dynamic *d, tai_handle *h)
{
    ta_result result = d->common.backend.vtable->is_done(d->common.backend.self, h->ticket);
    if (result == TA_OK) {
        (void)tai_range_cut(d, h, h->keep, 0);
    }
    if (result != TA_ERROR_NOT_READY) {
        tai_handle_forget_shrink(d, h);
    }
}

/* The memory above the capacity of a range goes back: at once, or when its stream has passed here. */
static TAI_COLD void tai_handle_give_surplus(ta_dynamic *d, tai_handle *h)
{
    if ((d->common.info.caps & TA_CAP_ORDERED) == 0) {
        (void)tai_range_cut(d, h, h->held, 0);
        return;
    }
    tai_handle_forget_shrink(d, h); /* work since then may have used what was to go */
    if (!h->all_streams &&
        d->common.backend.vtable->mark(d->common.backend.self, h->stream, &h->ticket) == TA_OK) {
        h->keep = h->held;
    }
}

/* Gives a claimed or new tensor the capacity target, or just size if that much cannot be had. */
static ta_result tai_handle_fit(ta_dynamic *d, tai_handle *h, uint32_t index, size_t max_bytes, size_t target,
                                size_t size)
{
    size_t old = h->capacity, keep = h->effective < size ? h->effective : size;
    ta_result result = TA_ERROR_LIMIT;
    uint32_t flags = h->flags;
    int attempt;
    for (attempt = 0; attempt < 3; attempt++) {
        size_t capacity = attempt == 0 ? target : size;
        if (TAI_GRAPHS && h->holds != 0) { /* graphs use all of it, where it is */
            capacity = capacity < old ? old : capacity;
            if (h->span_bytes != 0 && capacity > h->span_bytes) {
                return TA_ERROR_WOULD_MOVE;
            }
        }
        if (attempt != 0 && result != TA_ERROR_LIMIT && (target == size || result == TA_ERROR_WOULD_MOVE)) {
            break;
        }
        if (capacity > old && !tai_dynamic_claim(d, old, capacity)) {
            if (attempt == 1 && ((h->flags & (uint32_t)TA_REQUEST_WITHIN_BUDGET) != 0 ||
                                 tai_dynamic_squeeze(d, tai_dynamic_missing(d, old, capacity), TAI_CAPACITY) == 0)) {
                break;
            }
            continue;
        }
        if (capacity > size) { /* headroom is not worth others' memory */
            h->flags |= (uint32_t)TA_REQUEST_WITHIN_BUDGET;
        }
        result = h->span_bytes == 0          ? tai_handle_set_block(d, h, index, capacity, keep, size)
                 : capacity <= h->span_bytes ? tai_handle_set_range(d, h, capacity)
                                             : tai_handle_move(d, h, index, max_bytes, capacity, keep, size);
        h->flags = flags;
        if (result == TA_OK && capacity < old) {
            tai_dynamic_unclaim(d, old - capacity);
            if (h->span_bytes != 0) {
                tai_handle_give_surplus(d, h);
            }
            return TA_OK;
        }
        if (result == TA_OK) {
            if (h->held > h->keep) {
                tai_handle_forget_shrink(d, h);
            }
            return TA_OK;
        }
        tai_dynamic_unclaim(d, capacity > old ? capacity - old : 0);
        if (attempt == 1) {
            break;
        }
    }
    return result == TA_ERROR_WOULD_MOVE && size <= old ? TA_OK : result; /* it stays as it is */
}

static void tai_handle_input(tai_handle *h, const ta_bounds_sizes *sizes, size_t size, ta_strategy_input *in)
{
    in->size_bytes = size;
    in->capacity_bytes = h->capacity;
    in->start_bytes = h->start;
    in->min_bytes = sizes->min_bytes;
    in->expected_bytes = sizes->expected_bytes;
    in->max_bytes = sizes->max_bytes;
    in->own = &h->strategy_word;
    in->use_count = h->use_count;
    in->in_range = h->span_bytes != 0;
    in->growing = (h->flags & (uint32_t)TA_DYNAMIC_GROWING) != 0;
}

/* The capacity that a tensor with bounds and this size is to have. */
static size_t tai_handle_target(const ta_dynamic *d, tai_handle *h, const ta_bounds_sizes *sizes, size_t size)
{
    size_t most = sizes->max_bytes < size ? size : sizes->max_bytes, target;
    tai_site *site = tai_site_at(d, h->site);
    const ta_strategy_vtable *strategy = site->strategy.vtable;
    ta_strategy_input in;
    if (h->span_bytes == 0 && most < d->desc.range_bytes_min && site->full_size) {
        return most;
    }
    tai_handle_input(h, sizes, size, &in);
    if (size <= h->capacity && h->use_count != 0 && h->capacity <= most &&
        (strategy->should_resize == NULL || !strategy->should_resize(site->strategy.config, site->state, &in))) {
        return h->capacity;
    }
    target = strategy->required_size(site->strategy.config, site->state, &in);
    target = target < size ? size : target > most ? most : target;
    if (target > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        target = size;
    }
    if (h->span_bytes != 0) {
        target = target > h->span_bytes && size <= h->span_bytes ? h->span_bytes : target;
        target = tai_round_up(target, d->common.info.granularity_bytes);
    }
    return target > most ? most : target;
}

static void tai_handle_observe(const ta_dynamic *d, tai_handle *h, const ta_bounds_sizes *sizes, size_t size)
{
    tai_site *site = tai_site_at(d, h->site);
    ta_strategy_input in;
    if (site->strategy.vtable->observe != NULL) {
        tai_handle_input(h, sizes, size, &in);
        site->strategy.vtable->observe(site->strategy.config, site->state, &in);
    }
}

/* One use with this size, after one of from bytes: figures. Inside the gate. */
static void tai_dynamic_count_use(ta_dynamic *d, tai_handle *h, size_t size, size_t from, size_t old_capacity,
                                  int first)
{
    d->sum.use_count++;
    d->sum.used_bytes += size;
    d->sum.over_allocated_bytes += h->capacity - size;
    if (!first) {
        d->sum.resize_count++;
        d->sum.capacity_change_count += h->capacity != old_capacity;
        d->sum.under_prediction_count +=
            size > old_capacity && !(h->span_bytes != 0 && (h->flags & (uint32_t)TA_DYNAMIC_GROWING) != 0);
        d->sum.avoided_change_count += size != from && h->capacity == old_capacity;
    }
    d->effective = d->effective - h->effective + size;
    h->effective = size;
    h->use_count++;
    if (d->capacity > d->peak_capacity) {
        d->peak_capacity = d->capacity;
    }
    if (d->capacity - d->effective > d->peak_wasted) {
        d->peak_wasted = d->capacity - d->effective;
    }
}

/* Another shape, in the books. Inside the gate. */
static void tai_handle_set_shape(ta_dynamic *d, tai_handle *h, size_t size, const int64_t *dims)
{
    d->effective = d->effective - h->effective + size;
    h->effective = size;
    if (h->rank != 0) {
        memcpy(h->dims, dims, (size_t)h->rank * sizeof *dims);
    }
}

/* Another shape before the capacity follows it: it is never less than the shape needs. */
static TAI_COLD void tai_handle_shape_first(ta_dynamic *d, tai_handle *h, size_t size, const int64_t *dims)
{
    tai_gate_enter(&d->common.gate, NULL);
    tai_handle_set_shape(d, h, size, dims);
    tai_gate_leave(&d->common.gate, NULL);
}

/* The new part of a tensor that stayed where it is could not be zeroed: its capacity is as before. */
static TAI_COLD void tai_handle_undo(ta_dynamic *d, tai_handle *h, size_t capacity)
{
    size_t held = tai_round_up(capacity, d->common.info.granularity_bytes);
    if (capacity >= h->capacity) {
        return; /* it has shrunk: nothing that others might have wanted was taken */
    }
    if (h->span_bytes == 0) {
        if (capacity == 0 || d->upstream.vtable->resize_in_place(d->upstream.self, (void *)h->link.addr, h->capacity,
                                                                 capacity) != TA_OK) {
            return;
        }
        held = tai_handle_held(d, (const void *)h->link.addr, capacity);
    }
    tai_gate_enter(&d->common.gate, NULL);
    d->capacity = d->capacity - h->capacity + capacity;
    tai_handle_hold(d, h, held);
    h->capacity = capacity;
    tai_gate_leave(&d->common.gate, NULL);
}

/* Inside the gate. */
static void tai_handle_unclaim(const ta_dynamic *d, tai_handle *h)
{
    h->busy = 0;
    if (h->site != 0) {
        tai_site_at(d, h->site)->busy = 0;
    }
}

/* A new size for a claimed or new tensor; dims become its shape. On success a claimed one is released. */
static ta_result tai_handle_resize(ta_dynamic *d, tai_handle *h, uint32_t index, const ta_bounds_sizes *sizes,
                                   size_t size, const int64_t *dims, tai_news *news)
{
    size_t old = h->capacity, target, from = h->effective, committed = h->committed;
    uintptr_t addr = h->link.addr;
    int64_t was[TA_RANK_MAX];
    int first = h->use_count == 0;
    ta_result result = TA_OK;
    if (TAI_UNLIKELY(h->keep != TA_UNLIMITED)) {
        tai_handle_settle(d, h);
    }
    target = tai_handle_target(d, h, sizes, size);
    target = TAI_GRAPHS && h->holds != 0 && target < old ? old : target;
    if (target < old && size < from) {
        memcpy(was, h->dims, sizeof was);
        tai_handle_shape_first(d, h, size, dims);
    }
    if (target != old || size > old) {
        result = tai_common_use_stream(&d->common, h->stream)
                     ? tai_handle_fit(d, h, index, sizes->max_bytes, target, size)
                     : TA_ERROR_RECORDS;
    }
    if (result == TA_OK && size > from && h->link.addr == addr && (h->flags & (uint32_t)TA_REQUEST_ZEROED) != 0) {
        result = tai_backend_zero(d->common.backend, (void *)(addr + from), size - from, h->stream);
        if (result != TA_OK) {
            tai_handle_undo(d, h, old);
        }
    }
    if (result != TA_OK) {
        if (h->effective != from) {
            tai_handle_shape_first(d, h, from, was);
        }
        return result;
    }
    if ((h->flags & (uint32_t)TA_DYNAMIC_GROWING) == 0) {
        tai_handle_observe(d, h, sizes, size);
    }
    tai_news_take(d, h, news);
    tai_gate_enter(&d->common.gate, NULL);
    if (first) {
        d->common.count.allocation_count++;
        d->common.count.allocated_bytes += size;
        d->common.miss_count += h->committed > committed;
        d->sum.allocation_count++;
    } else {
        d->common.resize_count++;
        tai_count_resize(&d->common.count, from, size);
    }
    d->sum.allocated_bytes += h->capacity > old ? h->capacity - old : 0;
    tai_dynamic_count_use(d, h, size, from, old, first);
    tai_handle_set_shape(d, h, size, dims);
    if (!first) {
        tai_handle_unclaim(d, h);
    }
    tai_gate_leave(&d->common.gate, NULL);
    return TA_OK;
}

/* With nothing claimed. */
/* Why size bytes could not be had by a tensor that has capacity bytes, of which kept stay where they are. */
static TAI_COLD void tai_dynamic_diagnose(ta_dynamic *d, ta_result why, size_t size, size_t capacity, size_t kept,
                                          uint32_t flags, ta_failure *out)
{
    ta_budget *budget = d->common.budget;
    size_t need = tai_round_up(size - (kept < size ? kept : 0), d->common.info.granularity_bytes), missing;
    ta_verdict verdict;
    ta_stats stats;
    memset(out, 0, sizeof *out);
    if (d->pool != NULL && ta_pool_get_failure(d->pool, out) == TA_OK && out->result == why &&
        out->requested_bytes >= size && out->count != d->pool_failure_count) {
        d->pool_failure_count = out->count;
        return; /* it is the pool's, which knows better */
    }
    memset(out, 0, sizeof *out);
    memset(&stats, 0, sizeof stats);
    (void)ta_allocator_get_stats(ta_dynamic_allocator(d), &stats);
    out->result = why;
    out->requested_bytes = size;
    out->limit_bytes = TENSORALLOC_LOAD_RELAXED(&budget->limit);
    out->budget_used_bytes = TENSORALLOC_LOAD_RELAXED(&budget->reserved);
    out->reserved_bytes = stats.reserved_bytes;
    out->in_use_bytes = stats.in_use_bytes;
    out->free_bytes = stats.cached_bytes;
    if (why == TA_ERROR_OUT_OF_MEMORY || why == TA_ERROR_BACKEND) {
        out->backend_code = tai_backend_code(d->common.backend);
    }
    out->backend_free_bytes = out->backend_total_bytes = TA_UNLIMITED;
    verdict = why == TA_ERROR_RECORDS ? TA_VERDICT_RECORDS : TA_VERDICT_BACKEND;
    missing = why == TA_ERROR_LIMIT ? tai_dynamic_missing(d, capacity, size) : 0;
    if (why == TA_ERROR_LIMIT && (missing != 0 || (d->desc.capacity_bytes_max != TA_UNLIMITED &&
                                                   tai_budget_may_hold(budget, out->budget_used_bytes, need)))) {
        out->action_bytes = tai_add_saturated(d->desc.capacity_bytes_max, missing); /* others may have freed since */
        verdict = TA_VERDICT_CAPACITY;
    } else if (why == TA_ERROR_LIMIT || why == TA_ERROR_OUT_OF_MEMORY) {
        tai_budget_explain(budget, &d->common.member, need, (flags & TA_REQUEST_WITHIN_BUDGET) == 0, out);
        if ((flags & TA_REQUEST_WITHIN_BUDGET) != 0 && stats.cached_bytes >= out->action_bytes) {
            verdict = TA_VERDICT_OWN_CACHE;
        } else {
            verdict = out->sibling_cached_bytes >= out->action_bytes ? TA_VERDICT_SIBLINGS
                                                                     : tai_budget_verdict(budget, need, out);
        }
    }
    tai_failure_conclude(out, verdict);
}

static TAI_COLD ta_result tai_dynamic_fail(ta_dynamic *d, ta_result why, size_t size, size_t capacity, size_t kept,
                                           uint32_t flags)
{
    ta_failure failure;
    tai_dynamic_diagnose(d, why, size, capacity, kept, flags, &failure);
    tai_gate_enter(&d->common.gate, NULL);
    d->sum.failure_count++;
    failure.count = d->sum.failure_count;
    d->failure = failure;
    d->common.failure_count++;
    d->common.failure_limit_count += why == TA_ERROR_LIMIT;
    d->common.failure_not_cached_count += why == TA_ERROR_NOT_CACHED;
    tai_gate_leave(&d->common.gate, NULL);
    TENSORALLOC_LOG(why, d->common.name);
    tai_common_tell_failure(&d->common, why, size, 0, NULL);
    return why;
}

/* ---- claims */
static ta_result tai_dynamic_usable(const ta_dynamic *d)
{
    return d == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_common_usable(&d->common);
}

/* The live record of a handle; NULL with *result. Inside the gate. */
static tai_handle *tai_handle_find(const ta_dynamic *d, ta_handle handle, ta_result *result)
{
    tai_handle *h = NULL;
    *result = TA_ERROR_FOREIGN;
    if (handle.owner == d->common.id && handle.index != 0 && handle.index < d->handles.end) {
        h = tai_handle_at(d, handle.index);
        *result = TA_OK;
        if (h->link.state != TAI_LIVE || h->link.generation != handle.generation) {
            *result = TA_ERROR_STALE;
            h = NULL;
        }
    }
    return h;
}

/* Makes the calling thread the only one that works on the tensor and its site. */
static ta_result tai_handle_claim(ta_dynamic *d, ta_handle handle, tai_handle **out)
{
    uintptr_t me = tai_thread_id();
    for (;;) {
        ta_result result;
        tai_handle *h;
        uintptr_t busy = 0;
        tai_gate_enter(&d->common.gate, NULL);
        h = tai_handle_find(d, handle, &result);
        if (h != NULL) {
            busy = h->busy != 0 || h->site == 0 ? h->busy : tai_site_at(d, h->site)->busy;
            if (busy == 0) {
                h->busy = me;
                if (h->site != 0) {
                    tai_site_at(d, h->site)->busy = me;
                }
            }
        }
        tai_gate_leave(&d->common.gate, NULL);
        if (busy == 0 || busy == me) {
            *out = h;
            return busy == me ? TA_ERROR_BUSY : tai_common_blame(&d->common, result, NULL, 0, NULL);
        }
        TAI_WAIT_A_MOMENT();
    }
}

static void tai_handle_release(ta_dynamic *d, tai_handle *h)
{
    tai_gate_enter(&d->common.gate, NULL);
    tai_handle_unclaim(d, h);
    tai_gate_leave(&d->common.gate, NULL);
}

/* A new site; number 0: of one handle alone. 0: there is no room. Inside the gate. */
static TAI_COLD uint32_t tai_site_new(ta_dynamic *d, uintptr_t number, const ta_strategy *strategy)
{
    uint32_t index = tai_record_new(&d->sites);
    if (index != 0) {
        tai_site *site = tai_site_at(d, index);
        memset(site->state, 0, sizeof site->state);
        site->strategy = strategy->vtable != NULL ? *strategy : d->desc.strategy;
        site->full_size = site->strategy.vtable == ta_strategy_predictive(NULL).vtable;
        site->link.addr = number;
        site->link.state = TAI_LIVE;
        if (number != 0) {
            tai_record_link(&d->sites, index);
        }
    }
    return index;
}

/* The site of a number (0: a new one of its own), claimed; 0 with *result. */
static TAI_COLD uint32_t tai_site_claim(ta_dynamic *d, uintptr_t number, const ta_strategy *strategy, ta_result *result)
{
    uintptr_t me = tai_thread_id(), busy;
    uint32_t index;
    int is_other = 0;
    do {
        tai_gate_enter(&d->common.gate, NULL);
        index = number != 0 ? tai_record_find(&d->sites, number) : 0;
        busy = index != 0 ? tai_site_at(d, index)->busy : 0;
        if (index != 0 && strategy->vtable != NULL) {
            const ta_strategy *own = &tai_site_at(d, index)->strategy;
            is_other = own->vtable != strategy->vtable || own->config != strategy->config;
        }
        if (index == 0 && d->sites.count >= d->desc.handle_count_max) {
            number = 0; /* no room to remember it: this handle learns alone */
        }
        if (index == 0) {
            index = tai_site_new(d, number, strategy);
        }
        if (index != 0 && busy == 0 && !is_other) {
            tai_site_at(d, index)->busy = me;
        }
        tai_gate_leave(&d->common.gate, NULL);
        if (busy != 0 && busy != me && !is_other) {
            TAI_WAIT_A_MOMENT();
        }
    } while (busy != 0 && busy != me && !is_other);
    *result = index == 0   ? TA_ERROR_RECORDS
              : is_other   ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT)
              : busy == me ? TA_ERROR_BUSY
                           : TA_OK;
    return *result == TA_OK ? index : 0;
}

/* A handle lets go of its claimed site. Inside the gate. */
static TAI_COLD void tai_site_leave(ta_dynamic *d, uint32_t index)
{
    if (index != 0) {
        tai_site_at(d, index)->busy = 0;
        if (tai_site_at(d, index)->link.addr == 0) {
            tai_record_drop(&d->sites, index);
        }
    }
}

/* ---- calls */
/* A busy record without capacity: with a range of span_bytes, or least if that is refused, or (0) with nothing yet. */
static TAI_COLD uint32_t tai_handle_new(ta_dynamic *d, size_t span_bytes, size_t least, size_t alignment,
                                        ta_stream stream, ta_result *result)
{
    uint32_t index = 0;
    tai_handle *h;
    tai_handle place;
    memset(&place, 0, sizeof place);
    if (span_bytes != 0) {
        index = tai_range_take(d, span_bytes, least, alignment, result);
    }
    if (index != 0) {
        place = *tai_handle_at(d, index);
        *result = tai_range_order(d, &place, stream);
        if (*result != TA_OK) {
            tai_range_give(d, index);
            return 0;
        }
    } else {
        index = tai_handle_record(d);
        *result = TA_ERROR_RECORDS;
        if (index == 0) {
            return 0;
        }
    }
    h = tai_handle_at(d, index);
    memset((char *)h + sizeof(tai_link), 0, sizeof *h - sizeof(tai_link));
    h->span = place.span;
    h->span_bytes = place.span_bytes;
    h->committed = place.committed;
    h->accessible = place.accessible;
    h->by_touch = place.by_touch;
    h->keep = TA_UNLIMITED;
    h->stream = stream;
    h->alignment = alignment;
    h->time_ns = TENSORALLOC_WALL_CLOCK_NS();
    *result = TA_OK;
    return index;
}

/* A new record that does not come alive. */
static TAI_COLD void tai_handle_drop(ta_dynamic *d, uint32_t index)
{
    tai_handle *h = tai_handle_at(d, index);
    tai_gate_enter(&d->common.gate, NULL);
    tai_site_leave(d, h->site);
    d->capacity -= h->capacity;
    tai_handle_hold(d, h, 0);
    tai_gate_leave(&d->common.gate, NULL);
    tai_handle_forget_shrink(d, h);
    if (h->span_bytes != 0) {
        tai_range_give(d, index);
        return;
    }
    if (h->link.addr != 0) {
        (void)tai_block_give(d, h);
    }
    tai_gate_enter(&d->common.gate, NULL);
    tai_record_drop(&d->handles, index);
    tai_gate_leave(&d->common.gate, NULL);
}

/* A new record comes alive. */
static TAI_COLD void tai_handle_publish(ta_dynamic *d, uint32_t index, ta_handle *out)
{
    tai_handle *h = tai_handle_at(d, index);
    tai_gate_enter(&d->common.gate, NULL);
    h->link.state = TAI_LIVE;
    if (h->link.addr != 0) {
        tai_record_link(&d->handles, index);
    }
    if (h->site != 0) {
        tai_site_at(d, h->site)->busy = 0;
    }
    out->owner = d->common.id;
    out->index = index;
    out->generation = h->link.generation;
    tai_gate_leave(&d->common.gate, NULL);
}

/* Zero, or a table that can be used. */
static TAI_COLD int tai_strategy_is_good(const ta_strategy *strategy)
{
    const ta_strategy_vtable *vtable = strategy->vtable;
    return vtable == NULL || (vtable->struct_bytes == sizeof(ta_strategy_vtable) && vtable->required_size != NULL &&
                              vtable->state_bytes <= TA_STRATEGY_STATE_BYTES);
}

/* First shape and size of a request, checked. */
static TAI_COLD ta_result tai_dynamic_plan(const ta_dynamic *d, const ta_dynamic_request *request,
                                           ta_bounds_sizes *sizes, int64_t *dims, size_t *out_size)
{
    const uint32_t flags = TA_REQUEST_ZEROED | TA_REQUEST_WITHIN_BUDGET | (uint32_t)TA_DYNAMIC_GROWING;
    const ta_shape_bounds *bounds = request->bounds;
    ta_result result = bounds == NULL ? TA_ERROR_INVALID_ARGUMENT : ta_shape_bounds_get_sizes(bounds, sizes);
    int i;
    if (result != TA_OK) {
        return result;
    }
    if (request->reserved != 0 || (request->flags & ~flags) != 0 || !tai_strategy_is_good(&request->strategy)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (request->alignment_bytes > TAI_ALIGNMENT_MAX ||
        (request->alignment_bytes != 0 && !tai_is_power_of_two(request->alignment_bytes))) {
        return TAI_BAD(TA_ERROR_INVALID_ALIGNMENT);
    }
    for (i = 0; i < bounds->rank; i++) {
        dims[i] = request->dims != NULL      ? request->dims[i]
                  : bounds->symbols[i] != NULL ? bounds->symbols[i]->expected
                                               : bounds->expected[i];
    }
    result = ta_shape_bytes(dims, bounds->rank, bounds->dtype, out_size);
    return result == TA_OK && d->desc.strict ? ta_shape_bounds_contains(bounds, dims, bounds->rank) : result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_alloc_request(ta_dynamic *d, const ta_dynamic_request *request,
                                                            ta_handle *out)
{
    ta_bounds_sizes sizes;
    int64_t dims[TA_RANK_MAX];
    size_t size = 0, alignment, span;
    uint32_t index = 0, site = 0;
    int i;
    tai_handle *h;
    tai_news news;
    ta_result result = tai_dynamic_usable(d);
    if (out != NULL) {
        memset(out, 0, sizeof *out);
    }
    if (out == NULL || request == NULL) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(&sizes, 0, sizeof sizes);
    result = result == TA_OK ? tai_dynamic_plan(d, request, &sizes, dims, &size) : result;
    if (result != TA_OK) {
        return result;
    }
    alignment = request->alignment_bytes < d->common.info.alignment_bytes ? d->common.info.alignment_bytes
                                                                          : request->alignment_bytes;
    if (tai_common_use_stream(&d->common, request->stream)) {
        span = tai_span_bytes(d, sizes.max_bytes, size, alignment);
        index = tai_handle_new(d, span, sizes.max_bytes == TA_UNLIMITED ? size : span, alignment, request->stream,
                               &result);
        site = index != 0 ? tai_site_claim(d, request->site, &request->strategy, &result) : 0;
    } else {
        result = TA_ERROR_RECORDS;
    }
    if (index == 0) {
        return tai_dynamic_fail(d, result, size, 0, 0, request->flags);
    }
    h = tai_handle_at(d, index);
    h->bounds = *request->bounds;
    h->rank = h->bounds.rank;
    h->sizes = sizes;
    for (i = 0; i < h->rank; i++) {
        h->has_symbols |= h->bounds.symbols[i] != NULL;
    }
    h->tag = request->tag != NULL ? request->tag : tai_here.tag;
    h->flags = request->flags;
    h->start = size;
    h->site = site;
    result = site != 0 ? tai_handle_resize(d, h, index, &sizes, size, dims, &news) : result;
    if (result != TA_OK) {
        tai_handle_drop(d, index);
        return tai_dynamic_fail(d, result, size, 0, 0, request->flags);
    }
    tai_handle_publish(d, index, out);
    tai_news_tell(d, &news, TA_EVENT_ALLOC, TA_OK, size);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_alloc(ta_dynamic *d, const ta_shape_bounds *bounds, ta_handle *out)
{
    ta_dynamic_request request;
    memset(&request, 0, sizeof request);
    request.bounds = bounds;
    return ta_dynamic_alloc_request(d, &request, out);
}

/* Sizes of the bounds of a claimed tensor. */
static ta_result tai_handle_sizes(const tai_handle *h, ta_bounds_sizes *sizes)
{
    *sizes = h->sizes;
    return h->has_symbols ? ta_shape_bounds_get_sizes(&h->bounds, sizes) : TA_OK;
}

/* Sizes of the bounds and of a shape, for a claimed tensor. */
static ta_result tai_handle_measure(const ta_dynamic *d, const tai_handle *h, const int64_t *dims, int rank,
                                    ta_bounds_sizes *sizes, size_t *out_size)
{
    ta_result result = ta_shape_bytes(dims, rank, h->bounds.dtype, out_size);
    if (result == TA_OK && rank != h->rank) {
        result = TA_ERROR_SHAPE;
    }
    if (result == TA_OK) {
        result = tai_handle_sizes(h, sizes);
    }
    return result == TA_OK && d->desc.strict ? ta_shape_bounds_contains(&h->bounds, dims, rank) : result;
}

/* *out: the address afterwards, 0 on failure. */
static ta_result tai_dynamic_resize(ta_dynamic *d, ta_handle handle, const int64_t *dims, int rank, uintptr_t *out)
{
    ta_bounds_sizes sizes;
    size_t size = 0;
    tai_handle *h = NULL;
    tai_news news;
    ta_result result = tai_dynamic_usable(d);
    *out = 0;
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result != TA_OK) {
        return result;
    }
    result = h->flat ? TA_ERROR_UNSUPPORTED : tai_handle_measure(d, h, dims, rank, &sizes, &size);
    if (result != TA_OK) {
        tai_handle_release(d, h);
        return result;
    }
    result = tai_handle_resize(d, h, handle.index, &sizes, size, dims, &news);
    if (result == TA_OK) {
        *out = news.addr;
        tai_news_tell(d, &news, TA_EVENT_RESIZE, TA_OK, size);
    } else {
        size_t capacity = h->capacity, kept = h->span_bytes != 0 ? h->capacity : 0;
        uint32_t flags = h->flags;
        tai_news_take(d, h, &news);
        tai_handle_release(d, h);
        tai_news_tell(d, &news, TA_EVENT_TRIM, TA_OK, 0); /* what came before it failed */
        (void)tai_dynamic_fail(d, result, size, capacity, kept, flags);
    }
    return result;
}

TENSORALLOC_DEF ta_result ta_dynamic_resize(ta_dynamic *d, ta_handle handle, const int64_t *dims, int rank)
{
    uintptr_t addr;
    return tai_dynamic_resize(d, handle, dims, rank, &addr);
}

TENSORALLOC_DEF void *ta_dynamic_resize_data(ta_dynamic *d, ta_handle handle, const int64_t *dims, int rank,
                                             ta_result *result)
{
    uintptr_t addr;
    ta_result why = tai_dynamic_resize(d, handle, dims, rank, &addr);
    if (result != NULL) {
        *result = why;
    }
    return (void *)addr;
}

TENSORALLOC_DEF ta_result ta_dynamic_observe(ta_dynamic *d, ta_handle handle, const int64_t *dims, int rank)
{
    ta_bounds_sizes sizes;
    size_t size = 0;
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result == TA_OK) {
        result = h->flat ? TA_ERROR_UNSUPPORTED : tai_handle_measure(d, h, dims, rank, &sizes, &size);
        if (result == TA_OK) {
            tai_handle_observe(d, h, &sizes, size);
        }
        tai_handle_release(d, h);
    }
    return result;
}

/* Whether the range of a tensor that was freed has to wait for graphs. */
static TAI_COLD int tai_handle_orphan(ta_dynamic *d, tai_handle *h)
{
    int waits;
    tai_gate_enter(&d->common.gate, NULL);
    waits = h->holds != 0;
    h->orphan = waits;
    tai_gate_leave(&d->common.gate, NULL);
    return waits;
}

/* Frees a claimed tensor. On failure it is still claimed. */
static TAI_COLD ta_result tai_handle_free(ta_dynamic *d, tai_handle *h, uint32_t index)
{
    ta_bounds_sizes sizes;
    ta_result result = TA_OK;
    tai_news news;
    size_t size = h->effective;
    int in_range = h->span_bytes != 0;
    if ((h->flags & (uint32_t)TA_DYNAMIC_GROWING) != 0 && tai_handle_sizes(h, &sizes) == TA_OK) {
        tai_handle_observe(d, h, &sizes, h->effective);
    }
    tai_gate_enter(&d->common.gate, NULL);
    if (h->link.addr != 0) { /* first of all: others may get this address next */
        tai_record_unlink(&d->handles, index);
    }
    tai_gate_leave(&d->common.gate, NULL);
    if (!in_range && h->link.addr != 0) {
        result = tai_block_give(d, h);
        if (result != TA_OK) {
            tai_gate_enter(&d->common.gate, NULL);
            tai_record_link(&d->handles, index);
            tai_gate_leave(&d->common.gate, NULL);
            return result;
        }
    }
    tai_handle_forget_shrink(d, h);
    tai_news_take(d, h, &news);
    tai_gate_enter(&d->common.gate, NULL);
    d->common.count.deallocation_count++;
    d->common.count.freed_bytes += h->effective;
    d->sum.free_count++;
    d->capacity -= h->capacity;
    d->effective -= h->effective;
    tai_handle_hold(d, h, 0);
    h->link.generation++;
    h->link.state = TAI_BUSY;
    tai_site_leave(d, h->site);
    h->busy = 0;
    if (!in_range) {
        tai_record_drop(&d->handles, index);
    }
    tai_gate_leave(&d->common.gate, NULL);
    if (in_range && (!TAI_GRAPHS || !tai_handle_orphan(d, h))) {
        tai_range_kill(d, h);
        tai_range_give(d, index);
    }
    tai_news_tell(d, &news, TA_EVENT_FREE, TA_OK, size);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_free(ta_dynamic *d, ta_handle handle)
{
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    if (result != TA_OK || (handle.owner == 0 && handle.index == 0)) {
        return result;
    }
    result = tai_handle_claim(d, handle, &h);
    if (result == TA_OK) {
        result = tai_handle_free(d, h, handle.index);
        if (result != TA_OK) {
            tai_handle_release(d, h);
        }
    }
    return result;
}

TENSORALLOC_DEF void *ta_dynamic_get_data(ta_dynamic *d, ta_handle handle)
{
    ta_result result = tai_dynamic_usable(d);
    void *data = NULL;
    if (result == TA_OK) {
        const tai_handle *h;
        tai_gate_enter(&d->common.gate, NULL);
        h = tai_handle_find(d, handle, &result);
        data = h != NULL ? (void *)h->link.addr : NULL;
        tai_gate_leave(&d->common.gate, NULL);
        (void)tai_common_blame(&d->common, result, NULL, 0, NULL);
    }
    return data;
}

/* Inside the gate. */
static TAI_COLD void tai_handle_show(const ta_dynamic *d, const tai_handle *h, ta_handle_info *out)
{
    out->data = (void *)h->link.addr;
    out->effective_bytes = h->effective;
    out->capacity_bytes = h->capacity;
    out->in_place_bytes = h->span_bytes != 0 ? h->span_bytes : h->capacity;
    out->utilization = h->capacity == 0 ? 1.0 : (double)h->effective / (double)h->capacity;
    out->rank = h->rank;
    out->in_range = h->span_bytes != 0;
    memcpy(out->dims, h->dims, sizeof h->dims);
    out->bounds = h->bounds;
    out->allocation_time_ns = h->time_ns;
    out->use_count = h->use_count;
    out->stream = h->stream;
    out->tag = h->tag;
    if (h->site != 0 && h->link.state == TAI_LIVE) {
        out->strategy = tai_site_at(d, h->site)->strategy;
    }
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_get_handle(ta_dynamic *d, ta_handle handle, ta_handle_info *out)
{
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    if (result != TA_OK || out == NULL) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    tai_gate_enter(&d->common.gate, NULL);
    h = tai_handle_find(d, handle, &result);
    if (h != NULL) {
        tai_handle_show(d, h, out);
    }
    tai_gate_leave(&d->common.gate, NULL);
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_get_tensor(ta_dynamic *d, ta_handle handle, ta_tensor *out)
{
    const tai_handle *h;
    ta_result result = tai_dynamic_usable(d);
    if (out == NULL) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    if (result != TA_OK) {
        return result;
    }
    tai_gate_enter(&d->common.gate, NULL);
    h = tai_handle_find(d, handle, &result);
    if (h != NULL && h->flat) {
        result = TA_ERROR_UNSUPPORTED;
    } else if (h != NULL) {
        out->allocator = ta_dynamic_allocator(d);
        out->dtype = h->bounds.dtype;
        out->rank = h->rank;
        memcpy(out->dims, h->dims, sizeof h->dims);
        if (h->effective != 0) {
            out->buffer.data = (void *)h->link.addr;
            out->buffer.size_bytes = h->effective;
            out->buffer.capacity_bytes = h->capacity;
            out->buffer.id = handle;
        }
    }
    tai_gate_leave(&d->common.gate, NULL);
    return result == TA_OK ? ta_strides_row_major(out->dims, out->rank, out->strides) : result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_will_fit_in_place(ta_dynamic *d, ta_handle handle, const int64_t *dims,
                                                                int rank)
{
    ta_bounds_sizes sizes;
    size_t size = 0;
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result == TA_OK) {
        result = h->flat ? TA_ERROR_UNSUPPORTED : tai_handle_measure(d, h, dims, rank, &sizes, &size);
        if (result == TA_OK && size > h->capacity && size > h->span_bytes) {
            result = TA_ERROR_WOULD_MOVE;
        }
        tai_handle_release(d, h);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_record_use(ta_dynamic *d, ta_handle handle, ta_stream stream)
{
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result != TA_OK) {
        return result;
    }
    if ((d->common.info.caps & TA_CAP_ORDERED) != 0 && stream != h->stream) {
        if (!tai_common_use_stream(&d->common, stream)) {
            result = TA_ERROR_RECORDS;
        } else if (h->span_bytes == 0 && h->link.addr != 0 && d->pool != NULL) {
            result = ta_pool_record_use(d->pool, (void *)h->link.addr, stream);
        } else {
            tai_handle_forget_shrink(d, h);
            h->all_streams = 1;
        }
    }
    tai_handle_release(d, h);
    return result;
}

/* What a tensor of these bytes takes from the backend; small ones get their maximum at once. */
static TAI_COLD size_t tai_dynamic_rounded(const ta_dynamic *d, size_t max_bytes, size_t size)
{
    size_t to;
    size = max_bytes < d->desc.range_bytes_min && d->full_size ? max_bytes : size;
    to = tai_span_bytes(d, max_bytes, size, d->common.info.alignment_bytes) != 0
                    ? d->common.info.granularity_bytes : d->common.info.alignment_bytes;
    return size > TA_UNLIMITED - to ? TA_UNLIMITED : tai_round_up(size, to);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_would_fit(ta_dynamic *d, const ta_shape_bounds *bounds, size_t count,
                                                        ta_fit *out)
{
    ta_budget_stats budget;
    ta_stats stats;
    size_t i, given = TA_UNLIMITED, total, room;
    ta_result result = tai_dynamic_usable(d);
    if (result != TA_OK || out == NULL || (bounds == NULL && count != 0)) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    memset(&stats, 0, sizeof stats);
    for (i = 0; i < count && result == TA_OK; i++) {
        ta_bounds_sizes sizes;
        result = ta_shape_bounds_get_sizes(&bounds[i], &sizes);
        if (result == TA_OK) {
            size_t max = sizes.max_bytes;
            out->min_bytes = tai_add_saturated(out->min_bytes, tai_dynamic_rounded(d, max, sizes.min_bytes));
            out->expected_bytes =
                tai_add_saturated(out->expected_bytes, tai_dynamic_rounded(d, max, sizes.expected_bytes));
            out->max_bytes = tai_add_saturated(out->max_bytes, tai_dynamic_rounded(d, max, max));
        }
    }
    result = result == TA_OK ? ta_allocator_get_stats(ta_dynamic_allocator(d), &stats) : result;
    if (result != TA_OK) {
        memset(out, 0, sizeof *out);
        return result;
    }
    (void)ta_budget_get_stats(d->common.budget, &budget);
    out->available_bytes = budget.limit_bytes == TA_UNLIMITED       ? TA_UNLIMITED
                           : budget.limit_bytes > budget.reserved_bytes ? budget.limit_bytes - budget.reserved_bytes
                                                                        : 0;
    if (d->pool == NULL && !d->use_ranges) {
        given = TA_UNLIMITED; /* only the program's upstream knows */
    } else if (d->common.info.range_bytes_max != 0) {
        given = d->common.info.range_bytes_max - budget.reserved_bytes;
    } else if (d->common.backend.vtable->memory_info == NULL ||
               d->common.backend.vtable->memory_info(d->common.backend.self, &given, &total) != TA_OK) {
        given = TA_UNLIMITED;
    }
    out->available_bytes = given < out->available_bytes ? given : out->available_bytes;
    tai_gate_enter(&d->common.gate, NULL); /* when it comes to it, others lose their headroom */
    out->available_bytes = tai_add_saturated(out->available_bytes, stats.cached_bytes + d->capacity - d->effective);
    room = d->desc.capacity_bytes_max == TA_UNLIMITED ? TA_UNLIMITED : d->desc.capacity_bytes_max - d->effective;
    tai_gate_leave(&d->common.gate, NULL);
    out->available_bytes = room < out->available_bytes ? room : out->available_bytes;
    out->fits_min = out->min_bytes != TA_UNLIMITED && out->min_bytes <= out->available_bytes;
    out->fits_expected = out->expected_bytes != TA_UNLIMITED && out->expected_bytes <= out->available_bytes;
    out->fits_max = out->max_bytes != TA_UNLIMITED && out->max_bytes <= out->available_bytes;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_get_stats(ta_dynamic *d, ta_dynamic_stats *out)
{
    if (d == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!d->common.disposed && tai_common_usable(&d->common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&d->common.gate, NULL);
    *out = d->sum;
    out->handle_count = (size_t)(d->common.count.allocation_count - d->common.count.deallocation_count);
    out->effective_bytes = d->effective;
    out->capacity_bytes = d->capacity;
    out->wasted_bytes = d->capacity - d->effective;
    out->cached_bytes = d->common.reserved + d->block_bytes - d->common.in_use;
    out->peak_capacity_bytes = d->peak_capacity;
    out->peak_wasted_bytes = d->peak_wasted;
    tai_gate_leave(&d->common.gate, NULL);
    out->average_utilization =
        out->capacity_bytes == 0 ? 1.0 : (double)out->effective_bytes / (double)out->capacity_bytes;
    out->regret = out->used_bytes == 0 ? 0.0 : (double)out->over_allocated_bytes / (double)out->used_bytes;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_get_failure(ta_dynamic *d, ta_failure *out)
{
    if (d == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (!d->common.disposed && tai_common_usable(&d->common) != TA_OK) {
        return TA_ERROR_FORKED;
    }
    tai_gate_enter(&d->common.gate, NULL);
    *out = d->failure;
    tai_gate_leave(&d->common.gate, NULL);
    return TA_OK;
}

/* ---- as an allocator */
/* The record of a live block's start; 0 with *result. Inside the gate. */
static TAI_COLD uint32_t tai_dynamic_find(const ta_dynamic *d, const void *ptr, ta_result *result)
{
    uint32_t index = tai_record_find(&d->handles, (uintptr_t)ptr), i;
    *result = TA_OK;
    if (index == 0) { /* why: a slow look over all records */
        *result = TA_ERROR_FOREIGN;
        for (i = 1; i < d->handles.end && *result != TA_ERROR_INTERIOR; i++) {
            const tai_handle *h = tai_handle_at(d, i);
            if (h->link.state == TAI_LIVE &&
                (uintptr_t)ptr - h->link.addr < (h->span_bytes != 0 ? h->span_bytes : h->capacity)) {
                *result = TA_ERROR_INTERIOR;
            } else if ((h->link.state == TAI_CACHED || h->link.state == TAI_VACANT) &&
                       h->link.addr == (uintptr_t)ptr) {
                *result = TA_ERROR_STALE;
            }
        }
    }
    return index;
}

/* The handle of a live block's start. */
static TAI_COLD ta_result tai_dynamic_handle_of(ta_dynamic *d, const void *ptr, ta_handle *out)
{
    ta_result result = tai_dynamic_usable(d);
    memset(out, 0, sizeof *out);
    if (result == TA_OK) {
        uint32_t index;
        tai_gate_enter(&d->common.gate, NULL);
        index = tai_dynamic_find(d, ptr, &result);
        out->owner = d->common.id;
        out->index = index;
        out->generation = index != 0 ? tai_record_at(&d->handles, index)->generation : 0;
        tai_gate_leave(&d->common.gate, NULL);
    }
    return result;
}

/* Plain blocks are blocks of the upstream. */
static TAI_COLD void *tai_dynamic_v_alloc(void *self, const ta_request *request, ta_result *result)
{
    ta_dynamic *d = (ta_dynamic *)self;
    size_t alignment = 0, held;
    uint32_t index = 0;
    tai_handle *h;
    void *ptr = NULL;
    ta_handle handle;
    tai_news news;
    ta_result why = tai_dynamic_usable(d);
    if (why == TA_OK) {
        why = tai_common_plan(&d->common, request, &alignment);
    }
    if (why != TA_OK) {
        return tai_fail_null(why, result);
    }
    why = tai_common_use_stream(&d->common, request->stream) ? TA_ERROR_LIMIT : TA_ERROR_RECORDS;
    if (why != TA_ERROR_RECORDS && tai_dynamic_claim(d, 0, request->size_bytes)) {
        ptr = d->upstream.vtable->alloc(d->upstream.self, request, &why);
        if (ptr != NULL) { /* no addresses: it has its place */
            index = tai_handle_new(d, 0, 0, alignment, request->stream, &why);
        }
        if (index == 0) {
            if (ptr != NULL) {
                (void)d->upstream.vtable->free(d->upstream.self, ptr, request->size_bytes, alignment,
                                               request->stream);
            }
            tai_gate_enter(&d->common.gate, NULL);
            d->capacity -= request->size_bytes;
            tai_gate_leave(&d->common.gate, NULL);
        }
    }
    if (index == 0) {
        return tai_fail_null(tai_dynamic_fail(d, why, request->size_bytes, 0, 0, request->flags), result);
    }
    held = tai_handle_held(d, ptr, request->size_bytes);
    h = tai_handle_at(d, index);
    h->flat = 1;
    h->tag = request->tag != NULL ? request->tag : tai_here.tag;
    h->start = h->capacity = request->size_bytes;
    h->link.addr = (uintptr_t)ptr;
    tai_gate_enter(&d->common.gate, NULL);
    tai_handle_hold(d, h, held);
    d->common.count.allocation_count++;
    d->common.count.allocated_bytes += request->size_bytes;
    d->sum.allocation_count++;
    d->sum.allocated_bytes += request->size_bytes;
    tai_dynamic_count_use(d, h, request->size_bytes, 0, 0, 1);
    tai_gate_leave(&d->common.gate, NULL);
    tai_news_take(d, h, &news);
    tai_handle_publish(d, index, &handle);
    tai_news_tell(d, &news, TA_EVENT_ALLOC, TA_OK, request->size_bytes);
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

static TAI_COLD ta_result tai_dynamic_v_free(void *self, void *ptr, size_t size, size_t alignment, ta_stream stream)
{
    ta_dynamic *d = (ta_dynamic *)self;
    ta_handle handle;
    tai_handle *h = NULL;
    ta_result result = tai_dynamic_usable(d);
    (void)alignment;
    if (result != TA_OK || ptr == NULL) {
        return result;
    }
    result = tai_dynamic_handle_of(d, ptr, &handle);
    result = tai_common_blame(&d->common, result, ptr, 0, NULL);
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result != TA_OK) {
        return result;
    }
    if (size != 0 && size != h->effective) {
        result = TA_ERROR_SIZE_MISMATCH;
    } else if ((d->common.info.caps & TA_CAP_ORDERED) != 0 && stream != h->stream) {
        if (!tai_common_use_stream(&d->common, stream)) {
            result = TA_ERROR_RECORDS;
        } else if (h->span_bytes != 0 || d->pool == NULL) {
            h->all_streams = 1;
        } else {
            result = ta_pool_record_use(d->pool, ptr, stream);
        }
    }
    result = result == TA_OK ? tai_handle_free(d, h, handle.index) : result;
    if (result != TA_OK) {
        tai_handle_release(d, h);
    }
    return result == TA_ERROR_SIZE_MISMATCH ? tai_common_blame(&d->common, result, ptr, size, NULL) : result;
}

/* In place as far as the upstream can. Tensors with bounds are resized by their shape. */
static TAI_COLD ta_result tai_dynamic_v_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    ta_dynamic *d = (ta_dynamic *)self;
    ta_handle handle;
    tai_handle *h = NULL;
    size_t old;
    ta_result result = tai_dynamic_usable(d);
    if (result != TA_OK || ptr == NULL || new_bytes == 0 || new_bytes > (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX) {
        return result != TA_OK ? result : ptr == NULL ? TA_ERROR_INVALID_ARGUMENT
             : new_bytes == 0 ? TA_ERROR_INVALID_SIZE : TA_ERROR_OVERFLOW;
    }
    result = tai_dynamic_handle_of(d, ptr, &handle);
    result = tai_common_blame(&d->common, result, ptr, 0, NULL);
    if (result == TA_OK) {
        result = tai_handle_claim(d, handle, &h);
    }
    if (result != TA_OK) {
        return result;
    }
    old = h->capacity;
    if (old_bytes != 0 && old_bytes != h->effective) {
        result = TA_ERROR_SIZE_MISMATCH;
    } else if (!h->flat) {
        result = TA_ERROR_UNSUPPORTED;
    } else if (new_bytes > old && !tai_dynamic_claim(d, old, new_bytes)) {
        result = TA_ERROR_WOULD_MOVE;
    } else {
        result = d->upstream.vtable->resize_in_place(d->upstream.self, ptr, old, new_bytes);
        if (result == TA_OK) {
            size_t held = tai_handle_held(d, ptr, new_bytes);
            tai_gate_enter(&d->common.gate, NULL);
            tai_handle_hold(d, h, held);
            d->capacity -= new_bytes < old ? old - new_bytes : 0;
            d->common.resize_count++;
            tai_count_resize(&d->common.count, h->effective, new_bytes);
            d->sum.allocated_bytes += new_bytes > old ? new_bytes - old : 0;
            h->capacity = new_bytes;
            tai_dynamic_count_use(d, h, new_bytes, h->effective, old, 0);
        } else {
            tai_gate_enter(&d->common.gate, NULL);
            d->capacity -= new_bytes > old ? new_bytes - old : 0;
        }
        tai_gate_leave(&d->common.gate, NULL);
    }
    tai_handle_release(d, h);
    return result;
}

static TAI_COLD void *tai_dynamic_v_remap(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    ta_result why = tai_dynamic_v_resize(self, ptr, old_bytes, new_bytes);
    if (result != NULL) {
        *result = why;
    }
    return why == TA_OK ? ptr : NULL;
}

/* Cached: what warm ranges and live tensors hold beyond capacities, and what a pool of our own holds free. */
static TAI_COLD ta_result tai_dynamic_v_trim(void *self, size_t keep_bytes, size_t *out_released_bytes)
{
    ta_dynamic *d = (ta_dynamic *)self;
    ta_result result = tai_dynamic_usable(d);
    size_t released = 0, part = 0, cached;
    ta_stats stats;
    if (out_released_bytes != NULL) {
        *out_released_bytes = 0;
    }
    if (result == TA_OK && d->pool != NULL) {
        result = ta_pool_trim(d->pool, keep_bytes, &released);
    }
    if (result != TA_OK) {
        return result;
    }
    cached = 0;
    if (d->pool != NULL && ta_pool_get_stats(d->pool, &stats) == TA_OK) {
        cached = stats.cached_bytes;
    }
    keep_bytes = keep_bytes > cached ? keep_bytes - cached : 0;
    tai_gate_enter(&d->common.gate, NULL);
    cached = d->common.reserved + d->block_bytes - d->common.in_use;
    tai_gate_leave(&d->common.gate, NULL);
    if (cached > keep_bytes) {
        (void)tai_dynamic_cool(d, 0, cached - keep_bytes, keep_bytes == 0, &part);
        part += part < cached - keep_bytes ? tai_dynamic_squeeze(d, cached - keep_bytes - part, TAI_SURPLUS) : 0;
    } else if (keep_bytes == 0) {
        (void)tai_dynamic_cool(d, 0, 0, 1, &part); /* addresses */
    }
    if (out_released_bytes != NULL) {
        *out_released_bytes = released + part;
    }
    tai_common_tell_moved(&d->common);
    return TA_OK;
}

static TAI_COLD ta_result tai_dynamic_v_empty_cache(void *self)
{
    return tai_dynamic_v_trim(self, 0, NULL);
}

static TAI_COLD size_t tai_dynamic_reclaim(void *self, size_t want_bytes)
{
    ta_dynamic *d = (ta_dynamic *)self;
    size_t got = 0;
    if (d->common.single_threaded || tai_common_usable(&d->common) != TA_OK) {
        return 0;
    }
    (void)tai_dynamic_cool(d, 0, want_bytes, 0, &got);
    got += got < want_bytes ? tai_dynamic_squeeze(d, want_bytes - got, TAI_SURPLUS) : 0;
    return got + (got < want_bytes ? tai_dynamic_squeeze(d, want_bytes - got, TAI_HEADROOM) : 0);
}

/* Warm ranges and what is committed beyond capacities; the headroom of tensors is not counted. */
static TAI_COLD size_t tai_dynamic_cached(void *self, int pages)
{
    ta_dynamic *d = (ta_dynamic *)self;
    size_t cached = 0;
    if (pages && !d->common.single_threaded && tai_common_usable(&d->common) == TA_OK) {
        tai_gate_enter(&d->common.gate, NULL);
        cached = d->common.reserved + d->block_bytes - d->common.in_use;
        tai_gate_leave(&d->common.gate, NULL);
    }
    return cached;
}

static TAI_COLD ta_result tai_dynamic_v_stats(void *self, ta_stats *out)
{
    ta_dynamic *d = (ta_dynamic *)self;
    size_t records = 0;
    ta_result result;
    if (d->use_ranges && !d->common.disposed && tai_common_usable(&d->common) == TA_OK) {
        tai_gate_enter(&d->spans.gate, NULL);
        records = tai_space_record_bytes(&d->spans);
        tai_gate_leave(&d->spans.gate, NULL);
    }
    records += sizeof *d + tai_records_bytes(&d->handles) + d->sites.table.committed + tai_records_bytes(&d->sites);
    result = tai_common_stats(&d->common, &d->handles.table, records, out);
    if (result != TA_OK) {
        return result;
    }
    out->address_range_bytes += d->use_ranges && !d->common.disposed ? d->spans.address_range_bytes : 0;
    if (d->pool == NULL) {
        out->reserved_bytes += d->block_bytes;
    } else {
        ta_stats pool;
        result = ta_pool_get_stats(d->pool, &pool);
        out->reserved_bytes += pool.reserved_bytes;
        out->peak_reserved_bytes += pool.peak_reserved_bytes;
        out->thread_cached_bytes = pool.thread_cached_bytes;
        out->pending_bytes = pool.pending_bytes;
        out->address_range_bytes += pool.address_range_bytes;
        out->record_bytes += pool.record_bytes;
        out->miss_grow_count += pool.miss_grow_count;
        out->miss_recommit_count = pool.miss_recommit_count;
        out->thread_hit_count = pool.thread_hit_count;
        out->steal_count = pool.steal_count;
        out->trim_count += pool.trim_count;
        out->trimmed_bytes += pool.trimmed_bytes;
        if (d->common.budget_owned || out->peak_reserved_bytes > TENSORALLOC_LOAD_RELAXED(&d->common.budget->peak)) {
            out->peak_reserved_bytes = TENSORALLOC_LOAD_RELAXED(&d->common.budget->peak);
        }
    }
    out->cached_bytes = out->reserved_bytes - out->in_use_bytes;
    out->miss_recommit_count = out->miss_recommit_count < out->allocation_count ? out->miss_recommit_count
                                                                               : out->allocation_count;
    out->hit_count = out->allocation_count - out->miss_recommit_count; /* a pool of ours counts moves as well */
    out->miss_grow_count = out->miss_grow_count < out->hit_count ? out->miss_grow_count : out->hit_count;
    out->hit_count -= out->miss_grow_count;
    out->miss_count = out->miss_grow_count + out->miss_recommit_count;
    return result;
}

static TAI_COLD ta_result tai_dynamic_v_device(void *self, ta_device *out)
{
    *out = ((ta_dynamic *)self)->common.info.device;
    return tai_common_usable(&((ta_dynamic *)self)->common);
}

static TAI_COLD ta_result tai_dynamic_v_dispose(void *self)
{
    ta_dynamic *d = (ta_dynamic *)self;
    ta_result result;
    uint32_t i;
    if (d->common.disposed) {
        return TAI_CHECKED && d->common.disposed == 2 ? tai_common_usable(&d->common) : TA_OK;
    }
    result = tai_common_usable(&d->common);
    if (result == TA_OK && TAI_GRAPHS && d->held != 0) {
        result = TA_ERROR_BUSY;
    }
    if (result != TA_OK) {
        return result;
    }
    result = tai_dynamic_look(d, 0);
    (void)tai_common_sync_all(&d->common);
    for (i = 1; i < d->handles.end; i++) {
        tai_handle *h = tai_handle_at(d, i);
        if (h->link.state == TAI_LIVE) {
            tai_handle_forget_shrink(d, h);
            if (h->span_bytes == 0 && h->link.addr != 0 && d->pool == NULL) {
                (void)tai_block_give(d, h);
            }
        }
    }
    tai_budget_leave(d->common.budget, &d->common.member);
    if (d->pool != NULL) {
        ta_result below = ta_pool_dispose(d->pool);
        result = TAI_CHECKED && result == TA_OK ? below : result;
    }
    if (d->use_ranges) {
        tai_space_release(&d->spans);
        tai_space_free_records(&d->spans);
    }
    tai_common_dispose(&d->common);
    tai_records_free(&d->handles);
    tai_records_free(&d->sites);
    TENSORALLOC_FREE(d->common.streams);
    d->common.streams = NULL;
    d->common.stream_count = d->common.stream_room = 0;
    d->common.object_bytes = 0;
    d->sum.free_count = d->sum.allocation_count;
    d->warm_bytes = d->block_bytes = d->effective = d->capacity = 0;
    return result;
}

static TAI_COLD ta_result tai_dynamic_v_destroy(void *self)
{
    return ta_dynamic_destroy((ta_dynamic *)self);
}

static TAI_COLD ta_result tai_dynamic_v_describe(void *self, const void *ptr, ta_block_info *out)
{
    ta_dynamic *d = (ta_dynamic *)self;
    ta_result result = tai_dynamic_usable(d);
    uint32_t index;
    memset(out, 0, sizeof *out);
    if (result != TA_OK) {
        return result;
    }
    out->id.owner = d->common.id;
    tai_gate_enter(&d->common.gate, NULL);
    index = tai_dynamic_find(d, ptr, &result);
    if (index != 0) {
        const tai_handle *h = tai_handle_at(d, index);
        out->ptr = (void *)h->link.addr;
        out->requested_bytes = h->effective;
        out->capacity_bytes = h->flat ? h->held : h->capacity;
        out->state = TA_BLOCK_LIVE;
        out->stream = h->stream;
        out->tag = h->tag;
        out->id.index = index;
        out->id.generation = h->link.generation;
        out->committed_bytes = h->span_bytes != 0 ? h->committed : h->held;
    }
    tai_gate_leave(&d->common.gate, NULL);
    return result;
}

static const ta_allocator_vtable tai_dynamic_vtable = {sizeof(ta_allocator_vtable), "dynamic",
                                                       tai_dynamic_v_alloc,         tai_dynamic_v_resize,
                                                       tai_dynamic_v_remap,         tai_dynamic_v_free,
                                                       tai_dynamic_v_empty_cache,   tai_dynamic_v_trim,
                                                       tai_dynamic_v_stats,         tai_dynamic_v_device,
                                                       tai_dynamic_v_dispose,       tai_dynamic_v_destroy,
                                                       tai_dynamic_v_describe};

TENSORALLOC_DEF TAI_COLD ta_allocator ta_dynamic_allocator(ta_dynamic *d)
{
    ta_allocator allocator;
    allocator.vtable = &tai_dynamic_vtable;
    allocator.self = d;
    return allocator;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_get_desc(ta_dynamic *d, ta_dynamic_desc *out)
{
    if (d == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = d->desc;
    return TA_OK;
}

/* ---- life */
/* Replaces the 0 of each option by what it stands for. */
static TAI_COLD void tai_dynamic_resolve(ta_dynamic *d, const ta_dynamic_desc *desc)
{
    int host = d->common.info.device.type == TA_DEVICE_HOST;
    size_t count = tai_block_count_default() / 16, huge = host ? (size_t)65536 : (size_t)8 << 20;
    d->desc = *desc;
    d->common.on_event = desc->on_event;
    d->common.on_event_user = desc->on_event_user;
    d->desc.backend = d->common.backend;
    d->desc.name = d->common.name;
    d->desc.capacity_bytes_max = desc->capacity_bytes_max != 0 ? desc->capacity_bytes_max : TA_UNLIMITED;
    d->desc.limit_bytes = desc->limit_bytes != 0 ? desc->limit_bytes : TA_UNLIMITED;
    d->desc.cached_bytes_max = desc->cached_bytes_max != 0 ? desc->cached_bytes_max : TA_UNLIMITED;
    d->desc.range_bytes_min = desc->range_bytes_min != 0 ? desc->range_bytes_min : huge;
    d->desc.range_bytes = desc->range_bytes != 0 ? desc->range_bytes : tai_range_default();
    d->desc.unbounded_bytes = desc->unbounded_bytes != 0 ? desc->unbounded_bytes : tai_range_default();
    d->desc.handle_count_max = desc->handle_count_max != 0 ? desc->handle_count_max : count > 256 ? count : 256;
    d->desc.huge_pages = desc->huge_pages == TA_HUGE_PAGES_ON ? TA_HUGE_PAGES_ON : TA_HUGE_PAGES_OFF;
    if (desc->strategy.vtable == NULL) {
        d->desc.strategy = ta_strategy_predictive(NULL);
    }
    d->full_size = d->desc.strategy.vtable == ta_strategy_predictive(NULL).vtable;
}

/* Addresses for ranges, where the backend has ranges that cost only addresses. */
static TAI_COLD void tai_dynamic_open_ranges(ta_dynamic *d, int wanted)
{
    tai_space_desc space;
    const ta_backend_info *info = &d->common.info;
    if (!wanted || d->desc.disable_ranges || (info->caps & TA_CAP_RANGES) == 0 || info->range_bytes_max != 0) {
        return;
    }
    d->span_granule = info->granularity_bytes > 65536 ? info->granularity_bytes : 65536;
    d->addresses.vtable = &tai_addresses_vtable;
    d->addresses.self = d;
    memset(&space, 0, sizeof space);
    space.backend = d->addresses;
    space.range_bytes = d->desc.range_bytes;
    space.block_count_max = d->desc.handle_count_max < (size_t)1 << 24 ? 2 * d->desc.handle_count_max : 0;
    space.undivided = 1;
    space.huge_pages = d->desc.huge_pages == TA_HUGE_PAGES_ON;
    space.single_threaded = d->common.single_threaded;
    d->use_ranges = tai_space_init(&d->spans, &space) == TA_OK; /* else blocks will do */
}

/* A pool of our own if no upstream was given. */
static TAI_COLD ta_result tai_dynamic_open_upstream(ta_dynamic *d)
{
    ta_pool_desc pool;
    ta_result result;
    ta_device device;
    if (d->desc.upstream.vtable != NULL) {
        d->upstream = d->desc.upstream;
        if (d->upstream.self == NULL || d->upstream.vtable->struct_bytes != sizeof(ta_allocator_vtable)) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
        memset(&device, 0, sizeof device);
        result = d->upstream.vtable->device(d->upstream.self, &device);
        return result != TA_OK ? result
               : device.type != d->common.info.device.type || device.index != d->common.info.device.index
                   ? TA_ERROR_UNSUPPORTED : TA_OK;
    }
    memset(&pool, 0, sizeof pool);
    pool.budget = d->common.budget;
    pool.single_threaded = d->common.single_threaded;
    pool.name = d->common.name;
    result = ta_pool_create(&pool, &d->pool);
    if (result == TA_OK) {
        d->upstream = ta_pool_allocator(d->pool);
    }
    return result;
}

/* Frees what a create that failed, or destroy, leaves. */
static TAI_COLD void tai_dynamic_close(ta_dynamic *d)
{
    if (d->use_ranges && d->spans.budget_owned) {
        (void)ta_budget_destroy(d->spans.budget);
    }
    (void)ta_pool_destroy(d->pool);
    if (d->common.budget_owned) {
        (void)ta_budget_destroy(d->common.budget);
    }
    tai_common_bury(&d->common, d);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_create(const ta_dynamic_desc *desc, ta_dynamic **out)
{
    ta_dynamic_desc zero;
    ta_dynamic *d;
    ta_result result;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    memset(&zero, 0, sizeof zero);
    desc = desc == NULL ? &zero : desc;
    if (!tai_strategy_is_good(&desc->strategy)) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    d = (ta_dynamic *)TENSORALLOC_MALLOC(sizeof *d);
    if (d == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(d, 0, sizeof *d);
    result = tai_common_init(&d->common, d, desc->budget, desc->backend, desc->limit_bytes,
                             desc->name != NULL ? desc->name : "dynamic", desc->single_threaded);
    if (result != TA_OK) {
        TENSORALLOC_FREE(d);
        return result;
    }
    tai_dynamic_resolve(d, desc);
    result = tai_dynamic_open_upstream(d);
    if (result == TA_OK && (!tai_records_init(&d->handles, sizeof(tai_handle), d->desc.handle_count_max + 2) ||
                            !tai_records_init(&d->sites, sizeof(tai_site), 2 * d->desc.handle_count_max + 2))) {
        tai_records_free(&d->handles);
        result = TA_ERROR_RECORDS;
    }
    if (result != TA_OK) {
        tai_dynamic_close(d);
        return result;
    }
    tai_dynamic_open_ranges(d, desc->upstream.vtable == NULL || desc->budget != NULL || desc->backend.vtable != NULL);
    d->desc.upstream = d->upstream;
    d->common.member.reclaim = tai_dynamic_reclaim;
    d->common.member.cached = tai_dynamic_cached;
    tai_budget_join(d->common.budget, &d->common.member);
    *out = d;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_dynamic_destroy(ta_dynamic *d)
{
    ta_result result, found;
    if (d == NULL) {
        return TA_OK;
    }
    if (TAI_GRAPHS && d->held != 0 && tai_common_usable(&d->common) == TA_OK) {
        return TA_ERROR_BUSY;
    }
    found = tai_dynamic_look(d, 1);
    result = tai_dynamic_v_dispose(d);
    if (result == TA_OK || (TAI_CHECKED && result != TA_ERROR_FORKED && result != TA_ERROR_DISPOSED)) {
        tai_dynamic_close(d);
    }
    return result == TA_OK ? found : result;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:GRAPH-IMPL] graph pools, capture scopes, what graphs hold.
  Uses: POOL-IMPL, DYNAMIC-IMPL, TENSOR-IMPL.

  Who owns what:
      ta_pool --hooks, graphs--> tai_graphs: lock, list of graph pools, list of open scopes (newest first)
                  ta_graph_pool: memory (a pool of its own: same backend and budget, one heap, no thread caches),
                                 ties (one flag for each attached graph), holds (blocks and handles of others)

  The life of a block in a capture:
      pool: stream is captured --number--> newest scope of that number (or of a stream whose capture has just begun)
        --> graph pool's heap, on the list of its stream --> live; right = the scope's serial number
      freed on its stream: on that stream's list, at once reusable there (the capture is a FIFO too)
      freed, used by forked streams: parked, in no list
      allocated or used outside of captures, and freed: as in a pool, pending until that work is done
      left after success: live blocks of the serial are as those allocated outside (right = 0). Where graphs share the
        memory (TAI_RIGHT_SHARED) they are not marked when freed, for the order is the program's, but counted: unproven
      left after failure: live blocks of the serial are freed, parked
      end of the capture (leave, or the next enter): lists and parked blocks become ready for all: settled
      memory goes back: all streams are waited for, until nothing unproven was freed meanwhile
  What is allocated outside of captures while graphs may replay comes from above the floors: each region's end of what
  had been handed out when the last capture succeeded. Below it is what replays write.
  Nothing a capture does marks, asks or waits: the order is that of the graph, and of replays the program's affair.
  Growth in a capture commits; it asks nobody to give back. Backend memory is given back only after drain: a mark and a
  wait on each stream.

  Owners and frees: a pointer that the pool does not know is looked up in the graph pools beside it. A block of the
  pool's own that a capture uses is held: a use without a ticket (has_ticket 3, ticket = id of the graph pool), so
  that a free leaves it pending until the graph pool lets go.

  Who keeps a graph pool: the program until destroy; open scopes; ties; retains; blocks of it that others hold;
  visitors for the length of a call. loose counts captures that succeeded and were neither attached nor retained:
  nothing is taken back by itself while there are any, and destroy and reset end them. The driver's thread writes one
  flag and nothing else; collect reads the flags, lets go of holds when no graph is left (of those alone that a capture
  has followed: what is held first and captured then must not be lost in between), and destroys what is unwanted.

  Locks: tai_graphs.lock guards lists and counts of all graph pools beside one pool; it is not held while a pool, a
  backend or a dynamic is called. The gate of a pool guards its blocks, as ever.
  Invariants: a scope's graph pool exists; a hold is in exactly one list; memory with ties, retains, loose captures or
  open scopes is never decommitted; free memory that eager work may still use is pending, or unproven and for captures.
  -------------------------------------------------------------------------------------------------------*/
#ifdef TENSORALLOC_CUDA
/* A graph that is attached. */
typedef struct tai_tie {
    struct tai_tie *next;
    uint64_t graph, captures; /* and how many captures had succeeded: so that twice is once */
    uint32_t gone; /* written by the backend, once */
    uint32_t padding;
} tai_tie;

/* A block of a pool, or a handle, that graphs use. */
typedef struct tai_hold {
    struct tai_hold *next;
    ta_pool *pool;       /* NULL: a handle */
    ta_dynamic *dynamic;
    uint32_t index, generation;
    uint64_t captures;   /* that had succeeded when it was asked for last: it waits for the next one */
    uint32_t serial;     /* scope in which it was made; 0: none, or asked for again since */
    uint32_t padding;
} tai_hold;

typedef struct tai_capture {
    struct tai_capture *next;
    ta_graph_pool *owner;
    ta_stream stream;
    uint64_t capture; /* 0: not begun when we looked last */
    uint32_t serial;
    int by_mode;      /* opened by ta_pool_set_graph_mode */
    int tied;         /* its graph was attached or retained before it was left */
    int left;         /* is being left: serves nobody any more */
    size_t peak_before, reserved_before;
    uintptr_t high_before;
    uint64_t failures_before, growth_before, holds_before;
    tai_counters before;
} tai_capture;

struct ta_graph_pool {
    ta_graph_pool *next;
    ta_pool *parent;
    ta_pool *memory;
    uint64_t id;
    tai_tie *ties;
    tai_hold *holds;
    uint64_t hold_count, capture_count, failed_count;
    uint64_t last_capture; /* whose blocks are in the lists of its streams */
    ta_stream last_stream;
    uintptr_t high;        /* end of what was handed out in the first range */
    uint32_t retains, loose, open, visitors, serial;
    int unfinished;        /* last_capture went on when its scope was left */
    uintptr_t trimmer;     /* the thread that takes memory back: no scope is opened; 0: nobody */
    int share, unwanted;
    int disposed;          /* through its allocator: the object stays until it is destroyed */
    int ready; /* in the list */
};

/* How an allocation outside of captures keeps away from what replays write: not at all while there are no graphs; above
   the floors of the regions; or, while a capture goes on, above all that was ever handed out. */
typedef enum tai_apart { TAI_APART_NOT, TAI_APART_GRAPHS, TAI_APART_OPEN } tai_apart;

/* For whom a block is. */
typedef struct tai_graph_for {
    uint32_t serial; /* of the scope; 0: outside of any capture */
    tai_apart apart;
} tai_graph_for;

typedef struct tai_graphs {
    tai_lock lock;
    ta_graph_pool *pools;
    tai_capture *scopes; /* newest first */
    ta_graph_pool *chosen; /* the graph pool of the specification's property */
    uint32_t open, serial;
    int strict;            /* what the pool's own options say */
    int padding;
} tai_graphs;

/* ---- memory of a graph pool */
/* Blocks that wait for the end of captures go to the lists of their streams: they are over. Inside the gate, and nobody
   polls. */
static TAI_COLD void tai_graph_unpark(tai_space *space)
{
    tai_use *at = (tai_use *)(void *)space->uses.base;
    uint32_t s;
    for (s = 1; s < space->stream_count; s++) {
        tai_stream *stream = &space->streams[s];
        uint32_t *link = &stream->pending_first, use, last = 0;
        while (stream->id != TAI_STREAM_GRAPHS && (use = *link) != 0) {
            uint32_t index = at[use].block;
            tai_block *block = &space->blocks.at[index];
            if (at[use].has_ticket != 3) {
                last = use;
                link = &at[use].next;
                continue;
            }
            *link = at[use].next;
            if (--block->right == 0) {
                TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
                space->pending_bytes -= block->size;
                (void)tai_heap_give(space, index);
            }
            tai_use_recycle(space, use);
        }
        stream->pending_last = stream->id != TAI_STREAM_GRAPHS ? last : stream->pending_last;
    }
}

static TAI_COLD void tai_graph_enter_unpolled(tai_space *space)
{
    tai_gate_enter(&space->gate, NULL);
    while (space->polling) {
        tai_gate_leave(&space->gate, NULL);
        TAI_WAIT_A_MOMENT();
        tai_gate_enter(&space->gate, NULL);
    }
}

/* What was freed in captures is ready for all streams. What waits for eager work goes on to wait. unproven: all that
   was freed unmarked until that count has been waited for; NULL: the program orders it before the next replay.
   0: more was freed since, and nothing has changed. */
static TAI_COLD int tai_graph_settle(ta_graph_pool *g, const uint64_t *unproven)
{
    tai_space *space = &g->memory->space;
    uint32_t s;
    int ok;
    tai_graph_enter_unpolled(space);
    tai_graph_unpark(space);
    tai_gate_leave(&space->gate, NULL);
    (void)tai_space_poll(space, 0, NULL);
    tai_gate_enter(&space->gate, NULL);
    ok = unproven == NULL || space->unproven == *unproven;
    if (ok && unproven != NULL) {
        space->unproven = 0;
    }
    for (s = 1; ok && s < space->stream_count; s++) {
        (void)tai_stream_refill(space, tai_stream_drain(space, s), 1);
    }
    tai_gate_leave(&space->gate, NULL);
    return ok;
}

/* Waits for the work on every stream of a space. With polling taken: the ticket of a retired stream is dropped once. */
static TAI_COLD ta_result tai_graph_drain_streams(tai_space *space)
{
    const ta_backend *backend = &space->backend;
    uint32_t s;
    for (s = 1;; s++) {
        ta_stream id = TAI_STREAM_EVENTS;
        uint64_t ticket = 0;
        int retired = 0, end;
        ta_result result = TA_OK;
        tai_gate_enter(&space->gate, NULL);
        end = s >= space->stream_count;
        if (!end) {
            id = space->streams[s].id;
            retired = space->streams[s].retired;
            ticket = space->streams[s].last_ticket;
        }
        tai_gate_leave(&space->gate, NULL);
        if (end) {
            return TA_OK;
        }
        if (id >= TAI_STREAM_GRAPHS || retired == 2) {
            continue;
        }
        if (!retired) {
            result = backend->vtable->mark(backend->self, id, &ticket);
            if (result != TA_OK) {
                return result;
            }
        }
        result = backend->vtable->sync(backend->self, ticket);
        if (!retired || result == TA_OK) {
            tai_space_drop(space, ticket);
        }
        if (result != TA_OK) {
            return result;
        }
        if (retired) {
            tai_gate_enter(&space->gate, NULL);
            space->streams[s].retired = 2;
            tai_gate_leave(&space->gate, NULL);
        }
    }
}

/* Waits for the work on every stream that the memory was used on, until none of it was freed unmarked meanwhile, and
   settles. Fails where one of the streams is being captured. */
static TAI_COLD ta_result tai_graph_drain(ta_graph_pool *g)
{
    tai_space *space = &g->memory->space;
    uint64_t unproven;
    ta_result result;
    do {
        tai_graph_enter_unpolled(space);
        space->polling = 1;
        unproven = space->unproven;
        tai_gate_leave(&space->gate, NULL);
        result = tai_graph_drain_streams(space);
        tai_gate_enter(&space->gate, NULL);
        space->polling = 0;
        tai_gate_leave(&space->gate, NULL);
    } while (result == TA_OK && !tai_graph_settle(g, &unproven));
    return result;
}

/* A busy block gets the memory it lacks, and is free again. Returns what it is part of then. Inside the gate, which is
   left meanwhile. */
static TAI_COLD uint32_t tai_graph_fill_block(tai_space *space, uint32_t index, ta_result *result)
{
    size_t ignored;
    space->used[TAI_LARGE] += space->blocks.at[index].size;
    tai_gate_leave(&space->gate, NULL);
    *result = tai_space_recommit(space, index, NULL, &ignored);
    tai_gate_enter(&space->gate, NULL);
    space->used[TAI_LARGE] -= space->blocks.at[index].size;
    return tai_heap_give(space, index);
}

/* What trimming took of the free memory of a range below end comes back. Outside the gate. */
static TAI_COLD ta_result tai_graph_fill(tai_space *space, tai_region *region, uintptr_t end)
{
    tai_block *at = space->blocks.at;
    ta_result result = TA_OK;
    uint32_t index;
    tai_gate_enter(&space->gate, NULL);
    for (index = region->first; index != 0 && at[index].addr < end && result == TA_OK; index = at[index].next) {
        if (TENSORALLOC_LOAD_RELAXED(&at[index].state) == TAI_FREE && (at[index].place.flags & TAI_FLAG_HOLES) != 0) {
            tai_bins_remove(space, tai_bins_of(space, &at[index]), index);
            TENSORALLOC_STORE_RELAXED(&at[index].state, (uint32_t)TAI_BUSY);
            index = tai_graph_fill_block(space, index, &result);
        }
    }
    end = end < region->commit_end ? end : region->commit_end;
    if (result == TA_OK && end > region->top && tai_holes_any(space, region, region->top, end)) {
        result = TA_ERROR_RECORDS;
        if (tai_blocks_ensure(&space->blocks, 2)) {
            index = tai_heap_take_tail(space, region->index, (size_t)(end - region->top), space->granule);
            (void)tai_graph_fill_block(space, index, &result);
        }
    }
    tai_gate_leave(&space->gate, NULL);
    return result;
}

/* Commits bytes more, in one piece, of a range that is not the first. With the turn, outside the gate. */
static TAI_COLD ta_result tai_graph_commit_beside(tai_space *space, size_t bytes)
{
    uint32_t r, index;
    for (;;) {
        ta_result result;
        for (r = 0; r < space->region_count; r++) { /* changes only with the turn */
            tai_region *region = space->regions[r];
            if (region != space->primary[TAI_LARGE] && region->is_live && !region->is_segment &&
                bytes <= region->size - (size_t)(region->commit_end - region->base)) {
                return tai_region_commit(space, region, region->commit_end + bytes, NULL);
            }
        }
        result = tai_space_reserve(space, TAI_LARGE, tai_space_chain_bytes(space, TAI_LARGE), bytes, NULL, &index);
        if (result != TA_OK) {
            return result;
        }
    }
}

/* Commits the first range up to its first bytes bytes; more than it has: bytes more beside it. Outside the gate. */
static TAI_COLD ta_result tai_graph_commit(tai_space *space, size_t bytes)
{
    tai_region *region = space->primary[TAI_LARGE];
    ta_result result = TA_ERROR_OUT_OF_MEMORY;
    if (region != NULL && bytes <= region->size && region->hole_bytes != 0) {
        result = tai_graph_fill(space, region, region->base + bytes);
        if (result != TA_OK) {
            return result;
        }
    }
    if (!tai_turn_take(space, NULL)) {
        return result;
    }
    if (region != NULL && bytes <= region->size) {
        uintptr_t end = region->base + bytes;
        result = end > region->commit_end ? tai_region_commit(space, region, end, NULL) : TA_OK;
    } else {
        size_t ignored;
        result = region != NULL ? tai_graph_commit_beside(space, bytes)
                                : tai_space_grow_segment(space, TAI_LARGE, bytes, space->granule, NULL, &ignored);
    }
    tai_turn_end(space, NULL);
    return result;
}

/* Siblings may give back, and what is idle of our own, where that harms no capture. */
static TAI_COLD int tai_graph_make_room(ta_graph_pool *g, ta_result why, size_t want)
{
    tai_graphs *all = g->parent->graphs;
    int quiet;
    TAI_LOCK_ACQUIRE(&all->lock);
    quiet = all->open == 0;
    TAI_LOCK_RELEASE(&all->lock);
    return quiet && (why == TA_ERROR_LIMIT || why == TA_ERROR_OUT_OF_MEMORY) &&
           (tai_budget_reclaim(g->memory->space.budget, &g->memory->member, want) != 0 ||
            g->memory->member.reclaim(g, want) != 0);
}

/* Memory for the plan from the backend, or back behind a busy block. TA_OK: look again, or the block is whole. */
static TAI_COLD ta_result tai_graph_grow(ta_graph_pool *g, const tai_plan *plan, uint32_t index, uint32_t stream,
                                         tai_holder *me, int *missed)
{
    tai_space *space = &g->memory->space;
    size_t bytes = 0;
    ta_result result;
    if ((plan->flags & TA_REQUEST_CACHED_ONLY) != 0 || TENSORALLOC_LOAD_RELAXED(&g->parent->sealed)) {
        return (plan->flags & TA_REQUEST_CACHED_ONLY) != 0 ? TA_ERROR_NOT_CACHED : TA_ERROR_SEALED;
    }
    if (index == 0 && TENSORALLOC_LOAD_RELAXED(&space->pending_bytes) != 0 && tai_space_poll(space, 0, me) != 0) {
        return TA_OK;
    }
    do {
        result = index != 0 ? tai_space_recommit(space, index, me, &bytes)
                            : tai_space_grow(space, plan->heap, plan->size, plan->alignment, stream, me, &bytes);
    } while (result != TA_OK && (plan->flags & TA_REQUEST_WITHIN_BUDGET) == 0 &&
             tai_graph_make_room(g, result, plan->size));
    if (result == TA_OK) {
        *missed |= index != 0 ? 2 : bytes != 0;
        if (bytes != 0) {
            tai_pool_event(g->memory, TA_EVENT_GROW, TA_OK, NULL, bytes, 0, 0, NULL, 0);
        }
    }
    return result;
}

/* What is free in a region below it may be in a graph. */
static uintptr_t tai_graph_floor(const tai_region *region, tai_apart apart)
{
    return apart == TAI_APART_OPEN ? region->touched_end : region->floor;
}

/* A piece of a free block of a region that no graph has, busy; or of its tail. 0: none. Inside the gate. */
static TAI_COLD uint32_t tai_graph_take_region(tai_space *space, tai_region *region, const tai_plan *plan,
                                               uint32_t stream, tai_apart apart)
{
    tai_block *at = space->blocks.at;
    uintptr_t floor = tai_graph_floor(region, apart), addr, end;
    uint32_t index;
    for (index = region->last; index != 0 && at[index].addr + at[index].size > floor; index = at[index].prev) {
        if (TENSORALLOC_LOAD_RELAXED(&at[index].state) == TAI_FREE &&
            (at[index].place.stream == 0 || at[index].place.stream == stream)) {
            addr = at[index].addr > floor ? at[index].addr : floor;
            addr = (uintptr_t)tai_round_up((size_t)addr, plan->alignment);
            end = at[index].addr + at[index].size;
            if (addr <= end && plan->size <= (size_t)(end - addr)) {
                tai_bins_remove(space, tai_bins_of(space, &at[index]), index);
                TENSORALLOC_STORE_RELAXED(&at[index].state, (uint32_t)TAI_BUSY);
                tai_heap_carve(space, index, addr, plan->size);
                return index;
            }
        }
    }
    addr = (uintptr_t)tai_round_up((size_t)(region->top > floor ? region->top : floor), plan->alignment);
    if (region->is_segment || addr > region->commit_end || plan->size > (size_t)(region->commit_end - addr)) {
        return 0;
    }
    index = tai_heap_take_tail(space, region->index, (size_t)(addr + plan->size - region->top), space->granule);
    if (index != 0 && at[index].addr != addr) {
        tai_heap_carve(space, index, addr, plan->size);
    }
    return index;
}

/* As tai_heap_take, of memory that no graph has. *more: what growth must bring beyond the size. Inside the gate. */
static TAI_COLD uint32_t tai_graph_take_apart(tai_space *space, const tai_plan *plan, uint32_t stream, tai_apart apart,
                                              size_t *more, ta_result *result)
{
    uint32_t r, index = 0;
    *more = 0;
    if (!tai_blocks_ensure(&space->blocks, 3)) {
        *result = TA_ERROR_RECORDS;
        return 0;
    }
    for (r = 0; r < space->region_count && index == 0; r++) {
        tai_region *region = space->regions[r];
        uintptr_t floor = (uintptr_t)tai_round_up((size_t)tai_graph_floor(region, apart), plan->alignment);
        if (region->is_live) {
            index = tai_graph_take_region(space, region, plan, stream, apart);
        }
        if (region->is_live && !region->is_segment && floor > region->top && (size_t)(floor - region->top) > *more) {
            *more = (size_t)(floor - region->top);
        }
    }
    *result = index != 0 ? TA_OK : TA_ERROR_NOT_CACHED;
    if (index != 0) {
        tai_heap_taken(space, index);
    }
    return index;
}

/* A capture has succeeded (or none can be replayed any more): all that was handed out until now may be in its graph. */
static TAI_COLD void tai_graph_set_floors(ta_graph_pool *g, int raise)
{
    tai_space *space = &g->memory->space;
    uint32_t r;
    tai_gate_enter(&space->gate, NULL);
    for (r = 0; r < space->region_count; r++) {
        space->regions[r]->floor = raise ? space->regions[r]->touched_end : 0;
    }
    tai_gate_leave(&space->gate, NULL);
}

/* The long way: memory is missing, or zeros are wanted, or it must be memory that no graph has. */
static TAI_COLD void *tai_graph_take_slow(ta_graph_pool *g, const ta_request *request, const tai_plan *plan,
                                          const tai_graph_for *whom, tai_holder *me, ta_result *result)
{
    tai_plan wanted = *plan;
    size_t more = 0;
    ta_pool *memory = g->memory;
    tai_space *space = &memory->space;
    tai_region *first = space->primary[TAI_LARGE];
    uint32_t index = 0, stream;
    int missed = 0, ok = 1;
    void *ptr = NULL;
    ta_result why = TA_ERROR_RECORDS;
    tai_gate_enter(&space->gate, me);
    stream = tai_stream_index(space, request->stream, &ok);
    tai_gate_leave(&space->gate, me);
    while (ok && index == 0) {
        tai_gate_enter(&space->gate, me);
        tai_pool_note_peak(memory);
        index = whom->apart == TAI_APART_NOT
                    ? tai_heap_take(space, plan->heap, plan->size, plan->alignment, stream, &why)
                    : tai_graph_take_apart(space, plan, stream, whom->apart, &more, &why);
        tai_gate_leave(&space->gate, me);
        wanted.size = plan->size + more;
        if (why == TA_ERROR_RECORDS || (index != 0 && space->blocks.at[index].place.flags == 0)) {
            break;
        }
        why = tai_graph_grow(g, &wanted, index, whom->apart == TAI_APART_NOT ? stream : 0, me, &missed);
        if (why != TA_OK) {
            if (index != 0) {
                tai_gate_enter(&space->gate, me);
                tai_heap_put(space, index);
                tai_gate_leave(&space->gate, me);
            }
            index = 0;
            break;
        }
    }
    if (index != 0) {
        ptr = (void *)space->blocks.at[index].addr;
        why = tai_pool_finish(memory, index, request, plan, stream, missed, me);
    }
    if (index == 0 || why != TA_OK) {
        return tai_fail_null(tai_pool_fail(memory, request, plan, why, me), result);
    }
    tai_gate_enter(&space->gate, me);
    space->blocks.at[index].right = whom->serial;
    if (first != NULL && (size_t)((uintptr_t)ptr - first->base) < first->size &&
        (uintptr_t)ptr + space->blocks.at[index].size > g->high) {
        g->high = (uintptr_t)ptr + space->blocks.at[index].size;
    }
    tai_gate_leave(&space->gate, me);
    tai_pool_event(memory, TA_EVENT_ALLOC, TA_OK, ptr, request->size_bytes, plan->size, request->stream, request->tag,
                   missed == 0);
    if (result != NULL) {
        *result = TA_OK;
    }
    return ptr;
}

/* A block of the graph pool: free and whole, in one visit to the gate; or the long way. */
static void *tai_graph_take(ta_graph_pool *g, const ta_request *request, const tai_graph_for *whom, ta_result *result)
{
    ta_pool *memory = g->memory;
    tai_space *space = &memory->space;
    const tai_region *first = space->primary[TAI_LARGE];
    tai_holder *me = NULL; /* a short lock: looking for the thread's place at the gate costs more */
    tai_plan plan;
    size_t size = request->size_bytes;
    uint32_t index = 0, stream;
    int ok;
    uintptr_t ptr = 0;
    ta_result why;
    if (TAI_LIKELY((request->alignment_bytes | request->flags | request->reserved) == 0 &&
                   (memory->alert & TAI_ALERT_TAG) == 0 && whom->apart == TAI_APART_NOT &&
                   size - 1 < (size_t)PTRDIFF_MAX - TAI_ALIGNMENT_MAX && !memory->desc.zeroed)) {
        tai_gate_enter_hot(&space->gate, me);
        stream = tai_stream_index(space, request->stream, &ok);
        index = ok ? tai_heap_take(space, TAI_LARGE, tai_round_up(size, space->granule), space->granule, stream, &why)
                   : 0;
        if (index != 0 && space->blocks.at[index].place.flags != 0) {
            tai_heap_put(space, index);
            index = 0;
        }
        if (index != 0) {
            tai_pool_note_peak(memory);
            tai_pool_make_live(memory, index, size, request->tag, 0, 0, stream);
            space->blocks.at[index].right = whom->serial;
            memory->count.allocation_count++;
            memory->count.allocated_bytes += size;
            ptr = space->blocks.at[index].addr;
            if (first != NULL && (size_t)(ptr - first->base) < first->size &&
                ptr + space->blocks.at[index].size > g->high) {
                g->high = ptr + space->blocks.at[index].size;
            }
        }
        tai_gate_leave_hot(&space->gate, me);
    }
    if (index == 0) {
        why = tai_pool_plan(memory, request, &plan);
        return why == TA_OK ? tai_graph_take_slow(g, request, &plan, whom, me, result) : tai_fail_null(why, result);
    }
    if (result != NULL) {
        *result = TA_OK;
    }
    return (void *)ptr;
}

/* ---- tensors with bounds that graphs use */
static TAI_COLD ta_result tai_dynamic_hold(ta_dynamic *d, ta_handle handle)
{
    tai_handle *h = NULL;
    ta_result result = tai_handle_claim(d, handle, &h);
    if (result != TA_OK) {
        return result;
    }
    tai_handle_forget_shrink(d, h);
    tai_gate_enter(&d->common.gate, NULL);
    h->holds++;
    d->held++;
    tai_handle_unclaim(d, h);
    tai_gate_leave(&d->common.gate, NULL);
    return TA_OK;
}

/* The record is as it was when it was held, or that tensor has been freed and its range waits; or it had none, and
   its block is held apart. */
static TAI_COLD void tai_dynamic_unhold(ta_dynamic *d, uint32_t index, uint32_t generation)
{
    tai_handle *h = tai_handle_at(d, index);
    int give = 0;
    tai_gate_enter(&d->common.gate, NULL);
    if (h->link.generation == generation + (h->orphan ? 1u : 0u) && (h->orphan || h->link.state == TAI_LIVE)) {
        h->holds--;
        give = h->orphan && h->holds == 0;
        h->orphan = h->orphan && !give;
    }
    d->held--;
    tai_gate_leave(&d->common.gate, NULL);
    if (give) {
        tai_range_give(d, index);
    }
}

/* ---- holds */
/* The use by which a graph pool holds a live block, or the link where it would be. Inside the gate. */
static TAI_COLD uint32_t *tai_hold_link(const tai_space *space, tai_block *block, uint64_t id)
{
    tai_use *at = (tai_use *)(void *)space->uses.base;
    uint32_t *link = &block->left;
    while (*link != 0 && (at[*link].has_ticket != 3 || at[*link].ticket != id)) {
        link = &at[*link].next;
    }
    return link;
}

/* Makes the live block at ptr held. *hold: filled in. TA_OK and *hold.pool NULL: it was already; index 0: not here. */
static TAI_COLD ta_result tai_hold_block(ta_pool *pool, const void *ptr, uint64_t id, tai_hold *hold)
{
    tai_space *space = &pool->space;
    ta_result result;
    uint32_t index, stream, use;
    int ok = 1;
    tai_gate_enter(&space->gate, NULL);
    index = tai_pool_live(pool, ptr, &result);
    if (index != 0) {
        tai_block *block = &space->blocks.at[index];
        hold->index = index;
        hold->generation = block->generation;
        if (*tai_hold_link(space, block, id) == 0) {
            stream = tai_stream_index(space, TAI_STREAM_GRAPHS, &ok);
            use = ok ? tai_use_new(space, stream, block->left) : 0;
            result = use != 0 ? TA_OK : TA_ERROR_RECORDS;
            if (use != 0) {
                tai_use *at = (tai_use *)(void *)space->uses.base;
                at[use].ticket = id;
                at[use].has_ticket = 3;
                block->left = use;
                block->place.class_index = 0; /* not into a thread cache: it has to wait */
                hold->pool = pool;
                TENSORALLOC_STORE_RELAXED(&pool->held, pool->held + 1); /* read outside the gate */
            }
        }
    }
    tai_gate_leave(&space->gate, NULL);
    return result;
}

/* A freed block is held by one less. Inside the gate. */
static TAI_COLD void tai_hold_end_pending(tai_space *space, uint64_t id, uint32_t index)
{
    tai_use *at = (tai_use *)(void *)space->uses.base;
    uint32_t s, use, before = 0;
    for (s = 1; s < space->stream_count && space->streams[s].id != TAI_STREAM_GRAPHS; s++) {
    }
    use = s < space->stream_count ? space->streams[s].pending_first : 0;
    while (use != 0 && (at[use].ticket != id || at[use].block != index)) {
        before = use;
        use = at[use].next;
    }
    if (use == 0) {
        return;
    }
    if (before != 0) {
        at[before].next = at[use].next;
    } else {
        space->streams[s].pending_first = at[use].next;
    }
    if (space->streams[s].pending_last == use) {
        space->streams[s].pending_last = before;
    }
    if (--space->blocks.at[index].right == 0) {
        TENSORALLOC_STORE_RELAXED(&space->blocks.at[index].state, (uint32_t)TAI_BUSY);
        space->pending_bytes -= space->blocks.at[index].size;
        (void)tai_heap_give(space, index);
    }
    tai_use_recycle(space, use);
}

/* The graphs that used it are gone. */
static TAI_COLD void tai_hold_end(const tai_hold *hold, uint64_t id)
{
    tai_space *space;
    tai_block *block;
    if (hold->pool == NULL) {
        tai_dynamic_unhold(hold->dynamic, hold->index, hold->generation);
        return;
    }
    space = &hold->pool->space;
    block = &space->blocks.at[hold->index];
    tai_gate_enter(&space->gate, NULL);
    while (TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_BUSY && block->generation == hold->generation) {
        tai_gate_leave(&space->gate, NULL); /* on its way into the lists */
        TAI_WAIT_A_MOMENT();
        tai_gate_enter(&space->gate, NULL);
    }
    if (TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE && block->generation == hold->generation) {
        uint32_t *link = tai_hold_link(space, block, id), use = *link;
        if (use != 0) {
            *link = ((const tai_use *)(const void *)space->uses.base)[use].next;
            tai_use_recycle(space, use);
        }
    } else {
        tai_hold_end_pending(space, id, hold->index);
    }
    TENSORALLOC_STORE_RELAXED(&hold->pool->held, hold->pool->held - 1);
    tai_gate_leave(&space->gate, NULL);
}

/* Graphs that somebody told us of, or that are being made. With the lock. */
static int tai_graph_referenced(const ta_graph_pool *g)
{
    return g->ties != NULL || g->retains != 0 || g->open != 0;
}

/* Which holds end. */
typedef enum tai_hold_why { TAI_HOLDS_ALL, TAI_HOLDS_OF_SCOPE, TAI_HOLDS_OVER } tai_hold_why;

/* Whether graphs that may have used it were there, and are gone. With the lock. */
static int tai_hold_over(const ta_graph_pool *g, const tai_hold *hold)
{
    return !tai_graph_referenced(g) && g->loose == 0 && (g->unwanted || hold->captures < g->capture_count);
}

static int tai_hold_ends(const ta_graph_pool *g, const tai_hold *hold, tai_hold_why why, uint32_t serial)
{
    return why == TAI_HOLDS_ALL || (why == TAI_HOLDS_OF_SCOPE ? hold->serial == serial : tai_hold_over(g, hold));
}

/* Ends holds: all, those of one scope, or those whose graphs are gone. */
static TAI_COLD void tai_graph_let_go(ta_graph_pool *g, tai_hold_why why, uint32_t serial)
{
    tai_graphs *all = g->parent->graphs;
    for (;;) {
        tai_hold **link, *hold;
        TAI_LOCK_ACQUIRE(&all->lock);
        for (link = &g->holds; *link != NULL && !tai_hold_ends(g, *link, why, serial); link = &(*link)->next) {
        }
        hold = *link;
        if (hold != NULL) {
            *link = hold->next;
            g->hold_count--;
        }
        TAI_LOCK_RELEASE(&all->lock);
        if (hold == NULL) {
            return;
        }
        tai_hold_end(hold, g->id);
        TENSORALLOC_FREE(hold);
    }
}

/* Whether memory on this device, of an ordered backend, can be in graphs of the graph pool's. */
static TAI_COLD int tai_graph_reaches(const ta_graph_pool *g, const ta_backend_info *info)
{
    const ta_device *mine = &g->memory->space.info.device;
    return (info->caps & TA_CAP_ORDERED) != 0 &&
           (info->device.type == TA_DEVICE_HOST ||
            (info->device.type == mine->type && info->device.index == mine->index));
}

/* A block that is held is asked for again: it stays for what comes next, whatever becomes of the scope it was held in.
   0: its hold is not in the list, but on its way there or out of it. */
static TAI_COLD int tai_hold_again(ta_graph_pool *g, const ta_pool *pool, const tai_hold *like)
{
    tai_graphs *all = g->parent->graphs;
    tai_hold *hold;
    TAI_LOCK_ACQUIRE(&all->lock);
    for (hold = g->holds; hold != NULL; hold = hold->next) {
        if (hold->pool == pool && hold->index == like->index && hold->generation == like->generation) {
            hold->serial = hold->serial == like->serial ? hold->serial : 0;
            hold->captures = g->capture_count;
            break;
        }
    }
    TAI_LOCK_RELEASE(&all->lock);
    return hold != NULL;
}

static TAI_COLD ta_result tai_graph_hold(ta_graph_pool *g, ta_pool *pool, const void *ptr, uint32_t serial)
{
    tai_graphs *all = g->parent->graphs;
    tai_hold *hold;
    ta_pool *beside;
    ta_result result = tai_pool_usable(pool);
    if (result == TA_OK && !tai_graph_reaches(g, &pool->space.info)) {
        result = TA_ERROR_UNSUPPORTED;
    }
    if (result != TA_OK || pool == g->memory) {
        return result;
    }
    hold = (tai_hold *)TENSORALLOC_MALLOC(sizeof *hold);
    if (hold == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(hold, 0, sizeof *hold);
    hold->serial = serial;
    result = tai_hold_block(pool, ptr, g->id, hold);
    while (result == TA_OK && hold->pool == NULL && !tai_hold_again(g, pool, hold)) {
        TAI_WAIT_A_MOMENT();
        result = tai_hold_block(pool, ptr, g->id, hold);
    }
    if (hold->pool != NULL) {
        TAI_LOCK_ACQUIRE(&all->lock);
        hold->captures = g->capture_count;
        hold->next = g->holds;
        g->holds = hold;
        g->hold_count++;
        TAI_LOCK_RELEASE(&all->lock);
        return TA_OK;
    }
    TENSORALLOC_FREE(hold);
    beside = tai_pool_beside(pool, ptr, result);
    if (beside != NULL) { /* memory of another graph pool, or our own */
        result = beside == g->memory ? TA_OK : tai_graph_hold(g, beside, ptr, serial);
        pool->hooks->let_go(pool, beside);
    }
    return result;
}

/* ---- graphs that are gone, graph pools that nobody wants */
/* Takes out the ties of graphs that are gone, for the caller to free. With the lock. */
static TAI_COLD tai_tie *tai_graph_untie(ta_graph_pool *g)
{
    tai_tie **link = &g->ties, *gone = NULL, *tie;
    while ((tie = *link) != NULL) {
        if (TENSORALLOC_LOAD_ACQUIRE(&tie->gone) != 0) {
            *link = tie->next;
            tie->next = gone;
            gone = tie;
        } else {
            link = &tie->next;
        }
    }
    return gone;
}

static TAI_COLD void tai_ties_free(tai_tie *tie)
{
    while (tie != NULL) {
        tai_tie *next = tie->next;
        TENSORALLOC_FREE(tie);
        tie = next;
    }
}

/* Something may be replayed that uses the memory, or others hold blocks of it. With the lock. */
static int tai_graph_in_use(const ta_graph_pool *g)
{
    return tai_graph_referenced(g) || g->loose != 0 || TENSORALLOC_LOAD_RELAXED(&g->memory->held) != 0;
}

/* Gives an unwanted graph pool that is out of every list back. 0: not now. What a checked build finds at the end is
   told, and the memory is gone. */
static TAI_COLD int tai_graph_destroy(ta_graph_pool *g)
{
    ta_result result;
    if (!g->memory->disposed && tai_graph_drain(g) != TA_OK) {
        return 0;
    }
    if (g->disposed) { /* back into the list, until it is destroyed */
        (void)ta_pool_dispose(g->memory);
        return 0;
    }
    result = ta_pool_destroy(g->memory);
    if (result == TA_ERROR_BUSY || result == TA_ERROR_FORKED) {
        return 0;
    }
    TENSORALLOC_FREE(g);
    return 1;
}

/* Whether holds can end because their graphs are gone. With the lock. */
static TAI_COLD int tai_graph_holds_too_much(const ta_graph_pool *g)
{
    const tai_hold *hold = g->holds;
    while (hold != NULL && !tai_hold_over(g, hold)) {
        hold = hold->next;
    }
    return hold != NULL;
}

/* One graph pool for which something can be done: *destroy, out of the list, or holds of it ended. NULL: none. */
static TAI_COLD ta_graph_pool *tai_graphs_next(tai_graphs *all, int *destroy)
{
    ta_graph_pool **link, *g = NULL;
    tai_tie *gone;
    do {
        TAI_LOCK_ACQUIRE(&all->lock);
        gone = NULL;
        for (link = &all->pools; *link != NULL && gone == NULL; link = &(*link)->next) {
            gone = tai_graph_untie(*link);
        }
        for (link = &all->pools; gone == NULL && *link != NULL; link = &(*link)->next) {
            g = *link;
            *destroy = g->unwanted && !(g->disposed && g->memory->disposed) && g->holds == NULL &&
                       !tai_graph_in_use(g) && g->visitors == 0 && all->open == 0;
            if (*destroy) {
                *link = g->next;
                break;
            }
            if (tai_graph_holds_too_much(g)) {
                g->visitors++;
                break;
            }
            g = NULL;
        }
        TAI_LOCK_RELEASE(&all->lock);
        tai_ties_free(gone);
    } while (gone != NULL);
    return g;
}

static TAI_COLD size_t tai_graphs_collect(ta_pool *pool)
{
    tai_graphs *all = pool->graphs;
    ta_graph_pool *g, *stuck = NULL;
    size_t count = 0;
    int destroy = 0;
    while ((g = tai_graphs_next(all, &destroy)) != NULL) {
        if (!destroy) {
            tai_graph_let_go(g, TAI_HOLDS_OVER, 0);
            TAI_LOCK_ACQUIRE(&all->lock);
            g->visitors--;
            TAI_LOCK_RELEASE(&all->lock);
            count++;
        } else if (tai_graph_destroy(g)) {
            count++;
        } else { /* one of its streams is being captured, or the driver refuses: another time */
            g->next = stuck;
            stuck = g;
        }
    }
    TAI_LOCK_ACQUIRE(&all->lock);
    while ((g = stuck) != NULL) {
        stuck = g->next;
        g->next = all->pools;
        all->pools = g;
    }
    TAI_LOCK_RELEASE(&all->lock);
    return count;
}

/* ---- routing */
/* The newest scope below a serial number that serves the capture, or has seen none yet (*asks). With the lock. */
static tai_capture *tai_scope_of(const tai_graphs *all, uint64_t capture, uint32_t below, int *asks)
{
    tai_capture *scope = all->scopes;
    while (scope != NULL && (scope->left || scope->serial >= below ||
                             (scope->capture != capture && scope->capture != 0))) {
        scope = scope->next;
    }
    *asks = scope != NULL && scope->capture == 0;
    return scope;
}

/* The graph pool that serves a capture, as a visitor, with the serial number of its scope; NULL: none. */
static ta_graph_pool *tai_graphs_route(ta_pool *pool, uint64_t capture, uint32_t *serial)
{
    tai_graphs *all = pool->graphs;
    const ta_backend *backend = &pool->space.backend;
    uint32_t below = 0xffffffffu;
    for (;;) {
        tai_capture *scope;
        ta_graph_pool *g = NULL;
        ta_stream stream = 0;
        uint64_t id = 0;
        int asks;
        TAI_LOCK_ACQUIRE(&all->lock);
        scope = tai_scope_of(all, capture, below, &asks);
        if (scope != NULL) {
            *serial = below = scope->serial;
            stream = scope->stream;
            g = asks ? NULL : scope->owner;
            if (g != NULL) {
                g->visitors++;
            }
        }
        TAI_LOCK_RELEASE(&all->lock);
        if (g != NULL || scope == NULL) {
            return g;
        }
        if (backend->vtable->capture(backend->self, stream, &id) == TA_OK && id == capture) { /* it has begun */
            TAI_LOCK_ACQUIRE(&all->lock);
            for (scope = all->scopes; scope != NULL && scope->serial != below; scope = scope->next) {
            }
            if (scope != NULL) {
                scope->capture = capture;
                scope->owner->last_capture = capture;
                scope->owner->last_stream = stream;
            }
            TAI_LOCK_RELEASE(&all->lock);
            below++;
        }
    }
}

static void tai_graph_visited(ta_graph_pool *g)
{
    tai_graphs *all = g->parent->graphs;
    TAI_LOCK_ACQUIRE(&all->lock);
    g->visitors--;
    TAI_LOCK_RELEASE(&all->lock);
}

static void *tai_graphs_alloc(ta_pool *pool, const ta_request *request, uint64_t capture, ta_result *result)
{
    tai_graph_for whom = {0, TAI_APART_NOT};
    ta_result why = TA_OK;
    ta_graph_pool *g = tai_graphs_route(pool, capture, &whom.serial);
    ta_request tagged;
    void *ptr;
    if (g == NULL) {
        return tai_fail_null(TA_ERROR_CAPTURE, result);
    }
    if ((TENSORALLOC_LOAD_RELAXED(&pool->alert) & TAI_ALERT_TAG) != 0 && request->tag == NULL) {
        tagged = *request;
        tagged.tag = tai_here.tag;
        request = &tagged;
    }
    ptr = tai_graph_take(g, request, &whom, &why);
    tai_graph_visited(g);
    if (ptr == NULL) { /* the program asks the pool it called */
        ta_failure failure;
        if (ta_pool_get_failure(g->memory, &failure) == TA_OK && failure.result == why) {
            tai_gate_enter(&pool->space.gate, NULL);
            failure.count = ++pool->failure_count;
            pool->failure_limit_count += why == TA_ERROR_LIMIT;
            pool->failure = failure;
            tai_gate_leave(&pool->space.gate, NULL);
        }
    }
    if (result != NULL) {
        *result = why;
    }
    return ptr;
}

static ta_pool *tai_graphs_find(ta_pool *pool, const void *ptr)
{
    tai_graphs *all = pool->graphs;
    ta_graph_pool *g;
    TAI_LOCK_ACQUIRE(&all->lock);
    for (g = all->pools; g != NULL; g = g->next) {
        const tai_region *first = g->memory->space.primary[TAI_LARGE]; /* constant */
        if (first != NULL && (size_t)((uintptr_t)ptr - first->base) < first->size && !g->memory->disposed) {
            g->visitors++;
            break;
        }
    }
    TAI_LOCK_RELEASE(&all->lock);
    if (g != NULL) {
        return g->memory;
    }
    for (;;) { /* segments, and ranges that were chained: one graph pool after the other */
        ta_graph_pool *next;
        int here = 0;
        TAI_LOCK_ACQUIRE(&all->lock);
        next = g == NULL ? all->pools : g->next;
        if (g != NULL) {
            g->visitors--;
        }
        if (next != NULL) {
            next->visitors++;
        }
        TAI_LOCK_RELEASE(&all->lock);
        g = next;
        if (g == NULL) {
            return NULL;
        }
        here = tai_pool_has(g->memory, ptr);
        if (here) {
            return g->memory;
        }
    }
}

/* The usual free: of a block in the first range that no other stream uses, in one visit to the gate. */
static int tai_graphs_give(ta_pool *pool, const void *ptr, size_t size, const ta_stream *stream)
{
    tai_graphs *all = pool->graphs;
    const tai_region *first = NULL;
    tai_space *space;
    ta_graph_pool *g;
    uint32_t index;
    int given = 0;
    TAI_LOCK_ACQUIRE(&all->lock);
    for (g = all->pools; g != NULL; g = g->next) {
        first = g->memory->space.primary[TAI_LARGE]; /* constant */
        if (first != NULL && (size_t)((uintptr_t)ptr - first->base) < first->size && !g->memory->disposed) {
            g->visitors++;
            break;
        }
    }
    TAI_LOCK_RELEASE(&all->lock);
    if (g == NULL) {
        return 0;
    }
    space = &g->memory->space;
    tai_gate_enter_hot(&space->gate, NULL);
    index = tai_region_find(space, first, (uintptr_t)ptr);
    if (index != 0) {
        tai_block *block = &space->blocks.at[index];
        given = TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE && (size == 0 || size == block->requested) &&
                block->left == 0 && block->right != 0 && block->right != TAI_RIGHT_SHARED &&
                (g->memory->alert & TAI_ALERT_TAG) == 0 &&
                (stream == NULL || *stream == space->streams[block->place.stream].id);
        if (given) {
            TENSORALLOC_STORE_RELAXED(&block->state, (uint32_t)TAI_BUSY);
            TENSORALLOC_STORE_RELAXED(&block->generation, block->generation + 1);
            g->memory->count.deallocation_count++;
            g->memory->count.freed_bytes += block->requested;
            tai_heap_put(space, index);
        }
    }
    tai_gate_leave_hot(&space->gate, NULL);
    TAI_LOCK_ACQUIRE(&all->lock);
    g->visitors--;
    TAI_LOCK_RELEASE(&all->lock);
    return given;
}

static void tai_graphs_let_go(ta_pool *pool, const ta_pool *memory)
{
    tai_graphs *all = pool->graphs;
    ta_graph_pool *g;
    TAI_LOCK_ACQUIRE(&all->lock);
    for (g = all->pools; g->memory != memory; g = g->next) {
    }
    g->visitors--;
    TAI_LOCK_RELEASE(&all->lock);
}

/* The home stream of a live block of the pool's own; 0 without one, or if it has retired: its name may be another's. */
static TAI_COLD int tai_graphs_home(ta_pool *pool, const void *ptr, ta_stream *home)
{
    ta_result why;
    uint32_t index, stream;
    int ok;
    tai_gate_enter(&pool->space.gate, NULL);
    index = tai_pool_live(pool, ptr, &why);
    stream = pool->space.blocks.at[index].place.stream;
    *home = pool->space.streams[stream].id;
    ok = index != 0 && !pool->space.streams[stream].retired;
    tai_gate_leave(&pool->space.gate, NULL);
    return ok;
}

static TAI_COLD ta_result tai_graphs_use(ta_pool *pool, void *ptr, ta_stream stream, int freed)
{
    const ta_backend *backend = &pool->space.backend;
    ta_graph_pool *g;
    uint32_t serial = 0;
    uint64_t capture = 0;
    ta_result result;
    if (freed && !tai_graphs_home(pool, ptr, &stream)) {
        return TA_OK; /* what is wrong with it, or whose it is, turns out later */
    }
    result = backend->vtable->capture(backend->self, stream, &capture);
    if (freed && (result != TA_OK || capture == 0)) {
        return TA_OK;
    }
    if (result != TA_OK) {
        return result;
    }
    g = tai_graphs_route(pool, capture, &serial);
    if (g == NULL) {
        return freed ? TA_OK : TA_ERROR_CAPTURE;
    }
    if (tai_pool_has(g->memory, ptr)) {
        result = ta_pool_record_use(g->memory, ptr, stream);
    } else {
        result = tai_graph_hold(g, pool, ptr, serial);
    }
    tai_graph_visited(g);
    return result;
}

static TAI_COLD void tai_graphs_retire(ta_pool *pool, ta_stream stream)
{
    tai_graphs *all = pool->graphs;
    ta_graph_pool *g = NULL, *next;
    do {
        TAI_LOCK_ACQUIRE(&all->lock);
        next = g == NULL ? all->pools : g->next;
        if (g != NULL) {
            g->visitors--;
        }
        if (next != NULL) {
            next->visitors++;
            next->unfinished = next->last_stream == stream ? 0 : next->unfinished;
        }
        TAI_LOCK_RELEASE(&all->lock);
        g = next;
        if (g != NULL) {
            (void)ta_pool_retire_stream(g->memory, stream);
        }
    } while (g != NULL);
}

static TAI_COLD int tai_graphs_close(ta_pool *pool)
{
    (void)tai_graphs_collect(pool);
    return pool->graphs->pools == NULL;
}

/* What all graph pools together have from the backend. */
static TAI_COLD size_t tai_graphs_reserved(ta_pool *pool)
{
    tai_graphs *all = pool->graphs;
    ta_graph_pool *g = NULL;
    size_t bytes = 0;
    do {
        ta_graph_pool *next;
        ta_stats stats;
        TAI_LOCK_ACQUIRE(&all->lock);
        next = g == NULL ? all->pools : g->next;
        if (g != NULL) {
            g->visitors--;
        }
        if (next != NULL) {
            next->visitors++;
        }
        TAI_LOCK_RELEASE(&all->lock);
        g = next;
        if (g != NULL && ta_pool_get_stats(g->memory, &stats) == TA_OK) {
            bytes += stats.reserved_bytes;
        }
    } while (g != NULL);
    return bytes;
}

static const tai_graph_hooks tai_graphs_hooks = {
    tai_graphs_alloc, tai_graphs_find, tai_graphs_give, tai_graphs_let_go, tai_graphs_use, tai_graphs_retire,
    tai_graphs_collect, tai_graphs_close, tai_graphs_reserved
};

/* ---- life */
/* 1: no scope is opened until the end, and nothing can be replayed. wait: for another thread that trims. */
static TAI_COLD int tai_graph_trim_begin(ta_graph_pool *g, int wait)
{
    tai_graphs *all = g->parent->graphs;
    tai_tie *gone;
    int idle;
    TAI_LOCK_ACQUIRE(&all->lock);
    while (g->trimmer != 0 && g->trimmer != tai_thread_id() && wait) {
        TAI_LOCK_RELEASE(&all->lock);
        TAI_WAIT_A_MOMENT();
        TAI_LOCK_ACQUIRE(&all->lock);
    }
    gone = tai_graph_untie(g);
    idle = g->ready && !tai_graph_in_use(g) && g->trimmer == 0 && (wait || g->visitors == 0);
    g->trimmer = idle ? tai_thread_id() : g->trimmer;
    TAI_LOCK_RELEASE(&all->lock);
    tai_ties_free(gone);
    return idle;
}

static TAI_COLD void tai_graph_trim_end(ta_graph_pool *g)
{
    TAI_LOCK_ACQUIRE(&g->parent->graphs->lock);
    g->trimmer = 0;
    TAI_LOCK_RELEASE(&g->parent->graphs->lock);
}

/* Asked by the budget for another allocator. */
static TAI_COLD size_t tai_graph_reclaim(void *self, size_t want_bytes)
{
    ta_graph_pool *g = (ta_graph_pool *)self;
    size_t released = 0;
    (void)want_bytes;
    if (!tai_graph_trim_begin(g, 0)) {
        return 0;
    }
    if (tai_graph_drain(g) == TA_OK) {
        tai_graph_set_floors(g, 0);
        released = tai_pool_trim(g->memory, TAI_ALL_HEAPS, 0, 0, NULL);
    }
    tai_graph_trim_end(g);
    return released;
}

/* What a pool needs to have graph pools beside it. */
static TAI_COLD ta_result tai_graphs_open(ta_pool *pool)
{
    tai_graphs *all;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK) {
        return result;
    }
    if (!pool->space.ordered || pool->space.backend.vtable->capture == NULL) {
        return TA_ERROR_UNSUPPORTED;
    }
    if (TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        return TA_OK;
    }
    all = (tai_graphs *)TENSORALLOC_MALLOC(sizeof *all);
    if (all == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(all, 0, sizeof *all);
    TAI_LOCK_INIT(&all->lock);
    all->strict = pool->alert & TAI_ALERT_CAPTURE;
    tai_gate_enter(&pool->space.gate, NULL);
    if (pool->graphs == NULL) {
        pool->graphs = all;
        TENSORALLOC_STORE_RELEASE(&pool->hooks, &tai_graphs_hooks);
        all = NULL;
    }
    tai_gate_leave(&pool->space.gate, NULL);
    TENSORALLOC_FREE(all);
    return TA_OK;
}

static TAI_COLD void tai_graph_desc(const ta_graph_pool_desc *desc, ta_pool_desc *out)
{
    const ta_pool_desc *parent = &desc->pool->desc;
    memset(out, 0, sizeof *out);
    out->budget = desc->pool->space.budget;
    out->range_bytes = desc->range_bytes != 0 ? desc->range_bytes : parent->range_bytes / 4;
    out->block_count_max = parent->block_count_max;
    out->slack_bytes_max = parent->slack_bytes_max;
    out->huge_pages = parent->huge_pages;
    out->disable_thread_caches = 1;
    out->disable_ranges = parent->disable_ranges;
    out->disable_stealing = 1;
    out->single_threaded = parent->single_threaded;
    out->zeroed = parent->zeroed;
    out->capture_check = TA_CAPTURE_SCOPES_ONLY;
    out->name = desc->name != NULL ? desc->name : "graph";
    out->on_event = parent->on_event;
    out->on_event_user = parent->on_event_user;
    out->trace = parent->trace;
    out->tag_blocks = parent->tag_blocks;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_create(const ta_graph_pool_desc *desc, ta_graph_pool **out)
{
    tai_pool_kind kind;
    ta_pool_desc memory;
    ta_graph_pool *g;
    tai_graphs *all;
    ta_result result;
    if (out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    *out = NULL;
    result = desc == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_graphs_open(desc->pool);
    if (result != TA_OK) {
        return result;
    }
    all = desc->pool->graphs;
    (void)tai_graphs_collect(desc->pool);
    g = (ta_graph_pool *)TENSORALLOC_MALLOC(sizeof *g);
    if (g == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(g, 0, sizeof *g);
    g->parent = desc->pool;
    g->share = desc->share_sequential;
    tai_graph_desc(desc, &memory);
    kind.parks = 1;
    kind.reclaim = tai_graph_reclaim;
    kind.reclaim_self = g;
    result = tai_pool_make(&memory, &kind, &g->memory);
    if (result == TA_OK) {
        g->id = g->memory->id;
        if (desc->initial_bytes != 0 &&
            (result = tai_graph_commit(&g->memory->space, tai_round_up(desc->initial_bytes,
                                                                       g->memory->space.granularity))) != TA_OK) {
            (void)ta_pool_destroy(g->memory);
        }
    }
    if (result != TA_OK) {
        TENSORALLOC_FREE(g);
        return result;
    }
    TAI_LOCK_ACQUIRE(&all->lock);
    g->ready = 1;
    g->next = all->pools;
    all->pools = g;
    TAI_LOCK_RELEASE(&all->lock);
    *out = g;
    return TA_OK;
}

static TAI_COLD ta_result tai_graph_give_up(ta_graph_pool *g, int disposed)
{
    tai_graphs *all;
    ta_pool *parent;
    ta_result result = TA_OK;
    parent = g->parent;
    all = parent->graphs;
    if (tai_pool_forked(parent)) { /* nor is the lock asked: a thread that is not here may have it */
        return TA_ERROR_FORKED;
    }
    TAI_LOCK_ACQUIRE(&all->lock);
    if (g->open != 0 || (g->unwanted && !g->disposed)) {
        result = TA_ERROR_BUSY;
    } else {
        g->unwanted = 1;
        g->disposed = disposed;
        g->loose = 0;
        all->chosen = all->chosen == g ? NULL : all->chosen;
    }
    TAI_LOCK_RELEASE(&all->lock);
    if (result == TA_OK) {
        (void)tai_graphs_collect(parent);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_destroy(ta_graph_pool *g)
{
    return g != NULL ? tai_graph_give_up(g, 0) : TA_OK;
}

static ta_result tai_graph_usable(const ta_graph_pool *g)
{
    return g == NULL ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT)
           : g->unwanted ? TA_ERROR_DISPOSED : tai_pool_usable(g->memory);
}

/* Whether what is allocated outside of captures must keep away from graphs; those that are gone do not count. */
static TAI_COLD tai_apart tai_graph_apart(ta_graph_pool *g)
{
    tai_graphs *all = g->parent->graphs;
    tai_tie *gone;
    tai_apart apart;
    TAI_LOCK_ACQUIRE(&all->lock);
    gone = tai_graph_untie(g);
    apart = g->open != 0 || g->unfinished ? TAI_APART_OPEN
            : tai_graph_referenced(g) || g->loose != 0 || g->memory->space.unproven != 0 ? TAI_APART_GRAPHS
                                                                                       : TAI_APART_NOT;
    TAI_LOCK_RELEASE(&all->lock);
    tai_ties_free(gone);
    return apart;
}

TENSORALLOC_DEF void *ta_graph_pool_alloc(ta_graph_pool *g, const ta_request *request, ta_result *result)
{
    tai_graph_for whom = {0, TAI_APART_NOT};
    tai_apart apart;
    void *ptr = NULL;
    uint64_t capture = 0;
    ta_result why = tai_graph_usable(g);
    if (why == TA_OK && request == NULL) {
        why = TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (why == TA_OK) {
        const ta_backend *backend = &g->memory->space.backend;
        why = backend->vtable->capture(backend->self, request->stream, &capture);
    }
    if (why == TA_OK && capture != 0) {
        ta_graph_pool *serves = tai_graphs_route(g->parent, capture, &whom.serial);
        if (serves != NULL) {
            tai_graph_visited(serves);
        }
        why = serves == g ? TA_OK : TA_ERROR_CAPTURE;
    } else if (why == TA_OK) {
        whom.apart = tai_graph_apart(g);
    }
    while (why == TA_OK && (ptr = tai_graph_take(g, request, &whom, &why)) != NULL && capture == 0 &&
           (apart = tai_graph_apart(g)) > whom.apart) { /* a capture may have had it meanwhile */
        (void)tai_pool_free_slow(g->memory, ptr, 0, NULL);
        whom.apart = apart;
    }
    if (result != NULL) {
        *result = why;
    }
    return ptr;
}

/* What the first range has beyond all that was ever handed out goes back; nothing else can use it, and nobody waits. */
static TAI_COLD void tai_graph_cut_tail(ta_graph_pool *g)
{
    tai_space *space = &g->memory->space;
    tai_region *region = space->primary[TAI_LARGE];
    tai_graphs *all = g->parent->graphs;
    size_t released = 0;
    uintptr_t end = 0, old_end = 0;
    int quiet;
    TAI_LOCK_ACQUIRE(&all->lock);
    quiet = all->open == 0;
    TAI_LOCK_RELEASE(&all->lock);
    if (!quiet || region == NULL || !tai_turn_take(space, NULL)) {
        return;
    }
    tai_gate_enter(&space->gate, NULL);
    old_end = region->commit_end;
    end = region->touched_end > region->top ? region->touched_end : region->top;
    end = region->base + tai_round_up((size_t)(end - region->base), space->granularity);
    end = end < old_end ? end : old_end;
    region->commit_end = end; /* out of everybody's reach */
    tai_gate_leave(&space->gate, NULL);
    if (end != old_end && tai_region_decommit(space, region, end, old_end, NULL, &released) != 1) {
        region->commit_end = old_end; /* with holes, as far as it went */
    } else if (end != old_end) {
        tai_gate_enter(&space->gate, NULL);
        tai_holes_set(space, region, end, old_end, 0);
        tai_gate_leave(&space->gate, NULL);
    }
    tai_turn_end(space, NULL);
}

/* Bytes reserved elsewhere than in the first range, and (first) those there. */
static TAI_COLD size_t tai_graph_others(tai_space *space, size_t *first)
{
    const tai_region *region;
    size_t others;
    tai_gate_enter(&space->gate, NULL);
    region = space->primary[TAI_LARGE];
    *first = region == NULL ? 0 : (size_t)(region->commit_end - region->base) - region->hole_bytes;
    others = space->reserved - *first;
    tai_gate_leave(&space->gate, NULL);
    return others;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_reserve(ta_graph_pool *g, size_t size_bytes)
{
    tai_space *space;
    size_t others, first, bytes;
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK) {
        return result;
    }
    space = &g->memory->space;
    if (size_bytes > (size_t)PTRDIFF_MAX) {
        return TA_ERROR_OVERFLOW;
    }
    bytes = tai_round_up(size_bytes, space->granularity);
    others = tai_graph_others(space, &first);
    if (bytes <= others || (others != 0 && bytes <= others + first)) {
        return TA_OK;
    }
    bytes -= others;
    if (space->primary[TAI_LARGE] != NULL && bytes > space->primary[TAI_LARGE]->size) { /* one piece beside it */
        tai_graph_cut_tail(g);
        (void)tai_graph_others(space, &first);
        bytes -= first;
    }
    do {
        result = tai_graph_commit(space, bytes);
    } while (result != TA_OK && tai_graph_make_room(g, result, bytes));
    return result;
}

/* Whether something may be replayed, or is being captured; the ties of graphs that are gone do not count. */
static TAI_COLD int tai_graph_busy(ta_graph_pool *g, int loose_too)
{
    tai_graphs *all = g->parent->graphs;
    tai_tie *gone;
    int busy;
    TAI_LOCK_ACQUIRE(&all->lock);
    gone = tai_graph_untie(g);
    busy = tai_graph_referenced(g) || TENSORALLOC_LOAD_RELAXED(&g->memory->held) != 0 || (loose_too && g->loose != 0);
    TAI_LOCK_RELEASE(&all->lock);
    tai_ties_free(gone);
    return busy;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_reset(ta_graph_pool *g)
{
    ta_result result = tai_graph_usable(g);
    if (result == TA_OK && tai_graph_busy(g, 0)) {
        result = TA_ERROR_BUSY;
    }
    if (result == TA_OK) {
        tai_graph_let_go(g, TAI_HOLDS_ALL, 0);
        result = ta_pool_clear(g->memory);
        (void)tai_graph_settle(g, NULL);
        if (g->memory->space.unproven == 0) { /* else only captures get it, until it was waited for */
            tai_graph_set_floors(g, 0);
        }
        g->loose = 0;
        g->unfinished = 0;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_trim(ta_graph_pool *g)
{
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK) {
        return result;
    }
    (void)tai_graphs_collect(g->parent);
    if (!tai_graph_trim_begin(g, 1)) {
        return TA_ERROR_BUSY;
    }
    result = tai_graph_drain(g);
    if (result == TA_OK) {
        tai_graph_set_floors(g, 0);
        result = ta_pool_trim(g->memory, 0, NULL);
    }
    tai_graph_trim_end(g);
    return result;
}

/* A capture that succeeded is no longer loose; or one whose scope has not been left will not be. With the lock. */
static TAI_COLD void tai_graph_tied(ta_graph_pool *g)
{
    tai_capture *scope = g->parent->graphs->scopes;
    if (g->loose != 0) {
        g->loose--;
        return;
    }
    while (scope != NULL && (scope->owner != g || scope->tied)) {
        scope = scope->next;
    }
    if (scope != NULL) {
        scope->tied = 1;
    }
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_attach(ta_graph_pool *g, uint64_t graph)
{
    const tai_tie *twin;
    tai_tie *tie;
    const ta_backend *backend;
    tai_graphs *all;
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK || graph == 0) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    backend = &g->memory->space.backend;
    all = g->parent->graphs;
    if (backend->vtable->attach == NULL) {
        return TA_ERROR_UNSUPPORTED;
    }
    tie = (tai_tie *)TENSORALLOC_MALLOC(sizeof *tie);
    if (tie == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(tie, 0, sizeof *tie);
    result = backend->vtable->attach(backend->self, graph, &tie->gone);
    TAI_LOCK_ACQUIRE(&all->lock);
    tie->graph = result == TA_OK ? graph : 0;
    tie->captures = g->capture_count;
    for (twin = g->ties; twin != NULL; twin = twin->next) {
        if (twin->graph == graph && twin->captures == tie->captures && TENSORALLOC_LOAD_ACQUIRE(&twin->gone) == 0) {
            break;
        }
    }
    if (result == TA_OK && twin == NULL) {
        tai_graph_tied(g);
    }
    tie->next = g->ties; /* after an error too: until the backend has let it go */
    g->ties = tie;
    TAI_LOCK_RELEASE(&all->lock);
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_retain(ta_graph_pool *g)
{
    ta_result result = tai_graph_usable(g);
    if (result == TA_OK) {
        TAI_LOCK_ACQUIRE(&g->parent->graphs->lock);
        g->retains++;
        tai_graph_tied(g);
        TAI_LOCK_RELEASE(&g->parent->graphs->lock);
    }
    return result;
}

/* Also after destroy: what was retained keeps it alive. */
TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_release(ta_graph_pool *g)
{
    ta_pool *parent;
    int ok;
    if (g == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    parent = g->parent;
    if (tai_pool_forked(parent)) {
        return TA_ERROR_FORKED;
    }
    TAI_LOCK_ACQUIRE(&parent->graphs->lock);
    ok = g->retains != 0;
    g->retains -= (uint32_t)ok;
    TAI_LOCK_RELEASE(&parent->graphs->lock);
    (void)tai_graphs_collect(parent);
    return ok ? TA_OK : TA_ERROR_INVALID_ARGUMENT;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_hold(ta_graph_pool *g, ta_pool *pool, void *ptr)
{
    ta_result result = tai_graph_usable(g);
    if (result == TA_OK && ptr == NULL) {
        result = TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    return result == TA_OK ? tai_pool_blame(pool, tai_graph_hold(g, pool, ptr, 0), ptr, 0, NULL) : result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_hold_handle(ta_graph_pool *g, ta_dynamic *dynamic, ta_handle handle)
{
    ta_handle_info info;
    tai_hold *hold;
    ta_result result = tai_graph_usable(g);
    result = result == TA_OK ? tai_dynamic_usable(dynamic) : result;
    if (result == TA_OK && !tai_graph_reaches(g, &dynamic->common.info)) {
        result = TA_ERROR_UNSUPPORTED;
    }
    if (result == TA_OK) {
        result = ta_dynamic_get_handle(dynamic, handle, &info);
        result = tai_common_blame(&dynamic->common, result, NULL, 0, NULL);
    }
    if (result != TA_OK) {
        return result;
    }
    hold = (tai_hold *)TENSORALLOC_MALLOC(sizeof *hold);
    if (hold == NULL) {
        return TA_ERROR_RECORDS;
    }
    memset(hold, 0, sizeof *hold);
    hold->dynamic = dynamic;
    hold->index = handle.index;
    hold->generation = handle.generation;
    if (!info.in_range && (dynamic->pool == NULL || info.data == NULL)) {
        result = TA_ERROR_UNSUPPORTED;
    } else if (!info.in_range) {
        result = tai_graph_hold(g, dynamic->pool, info.data, 0);
    }
    if (result == TA_OK) {
        result = tai_dynamic_hold(dynamic, handle);
    }
    if (result != TA_OK) {
        TENSORALLOC_FREE(hold);
        return result;
    }
    TAI_LOCK_ACQUIRE(&g->parent->graphs->lock);
    hold->captures = g->capture_count;
    hold->next = g->holds;
    g->holds = hold;
    g->hold_count++;
    TAI_LOCK_RELEASE(&g->parent->graphs->lock);
    return TA_OK;
}

/* Adds the figures of a pool. */
static TAI_COLD ta_result tai_memory_share(ta_pool *pool, ta_memory_share *sum)
{
    ta_stats s;
    ta_result result = ta_pool_get_stats(pool, &s);
    if (result == TA_OK) {
        sum->reserved_bytes += s.reserved_bytes;
        sum->in_use_bytes += s.in_use_bytes;
        sum->peak_reserved_bytes += s.peak_reserved_bytes;
        sum->peak_in_use_upper_bytes += s.peak_in_use_upper_bytes;
        sum->block_count += s.live_count;
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_get_stats(ta_graph_pool *g, ta_graph_pool_stats *out)
{
    tai_graphs *all;
    tai_tie *gone;
    const tai_tie *tie;
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK || out == NULL) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    (void)tai_graphs_collect(g->parent);
    result = tai_memory_share(g->memory, &out->memory);
    all = g->parent->graphs;
    TAI_LOCK_ACQUIRE(&all->lock);
    gone = tai_graph_untie(g);
    for (tie = g->ties; tie != NULL; tie = tie->next) {
        out->graph_count++;
    }
    out->retain_count = g->retains;
    out->scope_count = g->open;
    out->held_count = (size_t)g->hold_count;
    out->capture_count = g->capture_count;
    out->failed_count = g->failed_count;
    out->is_referenced = tai_graph_in_use(g);
    TAI_LOCK_RELEASE(&all->lock);
    tai_ties_free(gone);
    return result;
}

/* ---- scopes */
/* While a scope is open every free looks whether the block's stream is in its capture, and every allocation whether it
   is in any. */
static TAI_COLD void tai_graphs_divert(ta_pool *pool)
{
    tai_graphs *all = pool->graphs;
    tai_space *space = &pool->space;
    int w, h, on;
    tai_gate_enter(&space->gate, NULL);
    TAI_LOCK_ACQUIRE(&all->lock); /* what is true now, whoever comes last */
    on = all->open != 0;
    TAI_LOCK_RELEASE(&all->lock);
    for (w = 0; w < (int)(sizeof pool->windows / sizeof pool->windows[0]); w++) { /* shut: no free takes a short path */
        tai_window *window = &pool->windows[w];
        for (h = TAI_TINY; h < TAI_HEAPS && window->map != NULL; h++) {
            tai_region *region = space->primary[h];
            if (region != NULL && region->map == window->map) {
                region->window = on ? NULL : window;
                TENSORALLOC_STORE_RELEASE(&window->mapped, on ? (size_t)0 : region->mapped);
            }
        }
    }
    TENSORALLOC_STORE_RELAXED(&pool->scopes, on);
    if (!all->strict) {
        TENSORALLOC_STORE_RELAXED(&pool->alert, (pool->alert & ~TAI_ALERT_CAPTURE) | (on ? TAI_ALERT_CAPTURE : 0));
    }
    tai_gate_leave(&space->gate, NULL);
}

/* What the memory has done so far, to be taken off later. */
static TAI_COLD void tai_scope_begin(tai_capture *scope)
{
    ta_pool *memory = scope->owner->memory;
    const tai_region *first = memory->space.primary[TAI_LARGE];
    tai_gate_enter(&memory->space.gate, NULL);
    tai_pool_note_peak(memory);
    scope->before = tai_pool_count(memory);
    scope->failures_before = memory->failure_count;
    scope->growth_before = memory->miss_grow_count + memory->miss_recommit_count;
    scope->reserved_before = memory->space.reserved;
    scope->peak_before = memory->peak_in_use;
    memory->peak_in_use = tai_space_used(&memory->space);
    scope->high_before = scope->owner->high;
    scope->owner->high = first != NULL ? first->top : 0;
    memory->space.capturing++;
    tai_gate_leave(&memory->space.gate, NULL);
}

static TAI_COLD void tai_scope_report(tai_capture *scope, ta_capture_report *report)
{
    ta_graph_pool *g = scope->owner;
    ta_pool *memory = g->memory;
    tai_space *space = &memory->space;
    const tai_region *first = space->primary[TAI_LARGE];
    tai_counters now;
    tai_gate_enter(&space->gate, NULL);
    now = tai_pool_count(memory);
    report->capture = scope->capture;
    report->reserve_bytes = space->reserved;
    if (first != NULL) { /* up to the highest block, whatever is committed of it */
        report->reserve_bytes -= (size_t)(first->commit_end - first->base) - first->hole_bytes;
        report->reserve_bytes += tai_round_up((size_t)(g->high - first->base), space->granularity);
    }
    report->peak_in_use_bytes = memory->peak_in_use;
    report->in_use_bytes = tai_space_used(space);
    report->live_count = (size_t)(now.allocation_count - now.deallocation_count);
    report->allocation_count = now.allocation_count - scope->before.allocation_count;
    report->allocated_bytes = now.allocated_bytes - scope->before.allocated_bytes;
    report->deallocation_count = now.deallocation_count - scope->before.deallocation_count;
    report->growth_count = memory->miss_grow_count + memory->miss_recommit_count - scope->growth_before;
    report->grown_bytes = space->reserved - scope->reserved_before;
    report->held_count = (size_t)(g->hold_count - scope->holds_before);
    report->failure_count = memory->failure_count - scope->failures_before;
    if (report->failure_count != 0) {
        report->missing_bytes = tai_round_up(memory->failure.requested_bytes, space->granularity);
    }
    memory->peak_in_use = memory->peak_in_use < scope->peak_before ? scope->peak_before : memory->peak_in_use;
    g->high = g->high < scope->high_before ? scope->high_before : g->high;
    tai_gate_leave(&space->gate, NULL);
}

/* Whether a graph pool can serve another scope. With the lock. */
static TAI_COLD ta_result tai_scope_allowed(const tai_graphs *all, const ta_graph_pool *g, ta_stream stream)
{
    const tai_capture *scope;
    if (g->unwanted) {
        return TA_ERROR_DISPOSED;
    }
    for (scope = all->scopes; scope != NULL; scope = scope->next) {
        if (scope->owner == g && (scope->stream != stream || scope->left)) {
            return TA_ERROR_BUSY;
        }
    }
    return g->open == 0 && !g->share && tai_graph_in_use(g) ? TA_ERROR_BUSY : TA_OK;
}

/* The capture whose scope was left before its end still goes on, and it is not this one. */
static TAI_COLD int tai_graph_unfinished(ta_graph_pool *g, uint64_t capture)
{
    const ta_backend *backend = &g->memory->space.backend;
    uint64_t id = 0;
    return g->unfinished && capture != g->last_capture &&
           backend->vtable->capture(backend->self, g->last_stream, &id) == TA_OK && id == g->last_capture;
}

static TAI_COLD ta_result tai_scope_enter(ta_graph_pool *g, ta_stream stream, int by_mode)
{
    const ta_backend *backend;
    tai_graphs *all;
    tai_capture *scope;
    tai_tie *gone;
    uint64_t capture = 0;
    int first = 0, settle = 0;
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK) {
        return result;
    }
    backend = &g->memory->space.backend;
    all = g->parent->graphs;
    result = backend->vtable->capture(backend->self, stream, &capture);
    if (result == TA_OK && tai_graph_unfinished(g, capture)) {
        result = TA_ERROR_BUSY;
    }
    scope = result == TA_OK ? (tai_capture *)TENSORALLOC_MALLOC(sizeof *scope) : NULL;
    if (scope == NULL) {
        return result == TA_OK ? TA_ERROR_RECORDS : result;
    }
    memset(scope, 0, sizeof *scope);
    scope->owner = g;
    scope->stream = stream;
    scope->capture = capture;
    scope->by_mode = by_mode;
    TAI_LOCK_ACQUIRE(&all->lock);
    while (g->trimmer != 0 && g->trimmer != tai_thread_id()) {
        TAI_LOCK_RELEASE(&all->lock);
        TAI_WAIT_A_MOMENT();
        TAI_LOCK_ACQUIRE(&all->lock);
    }
    gone = tai_graph_untie(g);
    result = g->trimmer != 0 ? TA_ERROR_BUSY : tai_scope_allowed(all, g, stream);
    if (result == TA_OK) {
        settle = g->open == 0 && (capture == 0 || capture != g->last_capture);
        first = all->open++ == 0;
        g->open++;
        g->last_capture = capture != 0 ? capture : settle ? 0 : g->last_capture;
        g->last_stream = stream;
        scope->holds_before = g->hold_count;
        scope->serial = ++all->serial; /* in the order of the list */
        scope->next = all->scopes;     /* at once: two threads do not both find that there is none */
        all->scopes = scope;
    }
    TAI_LOCK_RELEASE(&all->lock);
    tai_ties_free(gone);
    if (result != TA_OK) {
        TENSORALLOC_FREE(scope);
        return result;
    }
    if (settle) {
        (void)tai_graph_settle(g, NULL);
    }
    tai_scope_begin(scope);
    if (first) {
        tai_graphs_divert(g->parent);
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_capture_enter(ta_graph_pool *g, ta_stream stream)
{
    return tai_scope_enter(g, stream, 0);
}

/* The newest scope on the stream, of a graph pool (NULL: of any, opened by graph mode), for the caller to leave; or
   NULL. It stays in the list until all is done, so that the graph pool gets no other scope before. */
static TAI_COLD tai_capture *tai_scope_take(tai_graphs *all, const ta_graph_pool *g, ta_stream stream)
{
    tai_capture *scope;
    TAI_LOCK_ACQUIRE(&all->lock);
    for (scope = all->scopes; scope != NULL; scope = scope->next) {
        if (scope->stream == stream && !scope->left && (g == NULL ? scope->by_mode : scope->owner == g)) {
            scope->left = 1;
            break;
        }
    }
    TAI_LOCK_RELEASE(&all->lock);
    return scope;
}

/* The scope around one of the same graph pool's, where that goes on in the same capture; or NULL. With the lock. */
static TAI_COLD tai_capture *tai_scope_around(const tai_graphs *all, const tai_capture *scope)
{
    tai_capture *around = all->scopes;
    while (around != NULL && (around->left || around->owner != scope->owner ||
                              (around->capture != scope->capture && around->capture != 0 && scope->capture != 0))) {
        around = around->next;
    }
    return around;
}

/* All live blocks of a scope that failed are freed: parked, since its capture may still go on (still: it does, and what
   it holds may be in a graph yet). */
static TAI_COLD void tai_scope_take_back(const tai_capture *scope, int still)
{
    ta_pool *memory = scope->owner->memory;
    tai_graphs *all = scope->owner->parent->graphs;
    ta_stream nobody = TAI_STREAM_EVENTS;
    tai_hold *hold;
    uint32_t index, end;
    tai_gate_enter(&memory->space.gate, NULL);
    end = memory->space.blocks.end;
    tai_gate_leave(&memory->space.gate, NULL);
    for (index = 1; index < end; index++) {
        const tai_block *block = &memory->space.blocks.at[index];
        if (TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE && block->right == scope->serial) {
            (void)tai_pool_free_slow(memory, (void *)block->addr, 0, &nobody);
        }
    }
    TAI_LOCK_ACQUIRE(&all->lock);
    for (hold = scope->owner->holds; still && hold != NULL; hold = hold->next) {
        hold->serial = hold->serial == scope->serial ? 0 : hold->serial;
    }
    TAI_LOCK_RELEASE(&all->lock);
    tai_graph_let_go(scope->owner, TAI_HOLDS_OF_SCOPE, scope->serial);
}

/* What a scope leaves live is the outputs of its graph, and used by eager work from now on; or belongs to the scope
   around it. */
static TAI_COLD void tai_scope_hand_over(const tai_capture *scope, uint32_t serial)
{
    tai_space *space = &scope->owner->memory->space;
    uint32_t index;
    tai_gate_enter(&space->gate, NULL);
    for (index = 1; index < space->blocks.end; index++) {
        tai_block *block = &space->blocks.at[index];
        if (TENSORALLOC_LOAD_RELAXED(&block->state) == TAI_LIVE && block->right == scope->serial) {
            block->right = serial;
        }
    }
    tai_gate_leave(&space->gate, NULL);
}

/* A capture has succeeded, or may yet (still), and waits to be attached, unless it was already, or goes on in a scope
   around this one, or has nothing of the graph pool's. With the lock. */
static TAI_COLD void tai_scope_succeeded(const tai_graphs *all, const tai_capture *scope)
{
    tai_capture *around = tai_scope_around(all, scope);
    if (around != NULL) {
        around->tied |= scope->tied;
    } else if (scope->capture != 0 || scope->owner->holds != NULL) {
        scope->owner->loose += !scope->tied;
    }
}

/* Takes it out of the list. *last: of all graph pools'. */
static TAI_COLD void tai_scope_end(tai_capture *scope, int failed, int still, int *last)
{
    ta_graph_pool *g = scope->owner;
    tai_graphs *all = g->parent->graphs;
    tai_capture **link = &all->scopes;
    tai_gate_enter(&g->memory->space.gate, NULL);
    g->memory->space.capturing--;
    tai_gate_leave(&g->memory->space.gate, NULL);
    TAI_LOCK_ACQUIRE(&all->lock);
    while (*link != scope) {
        link = &(*link)->next;
    }
    *link = scope->next;
    g->open--;
    *last = --all->open == 0;
    if (!failed || still) {
        tai_scope_succeeded(all, scope);
    }
    g->capture_count += !failed;
    g->failed_count += failed != 0;
    g->unfinished = still;
    if (g->open == 0 && !still) {
        g->last_capture = 0;
    }
    TAI_LOCK_RELEASE(&all->lock);
}

static TAI_COLD ta_result tai_scope_leave(ta_pool *parent, tai_capture *scope, int failed, ta_capture_report *report)
{
    tai_graphs *all = parent->graphs;
    ta_graph_pool *g = scope->owner;
    const ta_backend *backend = &parent->space.backend;
    const tai_capture *other;
    ta_capture_report ignored;
    uint64_t capture = 0;
    uint32_t serial;
    int still, last;
    report = report != NULL ? report : &ignored;
    memset(report, 0, sizeof *report);
    tai_scope_report(scope, report);
    still = scope->capture != 0 && backend->vtable->capture(backend->self, scope->stream, &capture) == TA_OK &&
            capture == scope->capture;
    TAI_LOCK_ACQUIRE(&all->lock);
    other = tai_scope_around(all, scope);
    serial = other != NULL && still ? other->serial : g->share ? TAI_RIGHT_SHARED : 0;
    for (other = all->scopes; other != NULL && (other->left || other->owner != g); other = other->next) {
    }
    TAI_LOCK_RELEASE(&all->lock);
    if (failed) {
        tai_scope_take_back(scope, still);
    } else {
        tai_scope_hand_over(scope, serial);
    }
    if (!failed || still) {
        tai_graph_set_floors(g, 1);
    }
    if (other == NULL && !still) {
        (void)tai_graph_settle(g, NULL);
    }
    tai_scope_end(scope, failed, still, &last);
    TENSORALLOC_FREE(scope);
    if (last) {
        tai_graphs_divert(parent);
        if (!still) {
            (void)tai_graphs_collect(parent);
        }
    }
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_capture_leave(ta_graph_pool *g, ta_stream stream, int failed,
                                                    ta_capture_report *report)
{
    tai_capture *scope;
    ta_result result = tai_graph_usable(g);
    if (report != NULL) {
        memset(report, 0, sizeof *report);
    }
    if (result != TA_OK) {
        return result;
    }
    scope = tai_scope_take(g->parent->graphs, g, stream);
    return scope == NULL ? TA_ERROR_NO_GRAPH_POOL : tai_scope_leave(g->parent, scope, failed, report);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_with_graph_pool(const ta_capture_scope *scope, ta_result (*fn)(void *user),
                                                      void *user)
{
    ta_result result, left;
    if (scope == NULL || fn == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    result = ta_capture_enter(scope->graph_pool, scope->stream);
    if (result != TA_OK) {
        return result;
    }
    result = fn(user);
    left = ta_capture_leave(scope->graph_pool, scope->stream, result != TA_OK, scope->report);
    return result != TA_OK ? result : left;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_set_graph_pool(ta_pool *pool, ta_graph_pool *g)
{
    ta_result result = tai_pool_usable(pool);
    if (result == TA_OK && g != NULL) {
        result = g->parent != pool ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_graph_usable(g);
    }
    if (result == TA_OK && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        TAI_LOCK_ACQUIRE(&pool->graphs->lock);
        pool->graphs->chosen = g;
        TAI_LOCK_RELEASE(&pool->graphs->lock);
    }
    return result;
}

TENSORALLOC_DEF TAI_COLD ta_graph_pool *ta_pool_get_graph_pool(ta_pool *pool)
{
    ta_graph_pool *g = NULL;
    if (tai_pool_usable(pool) == TA_OK && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        TAI_LOCK_ACQUIRE(&pool->graphs->lock);
        g = pool->graphs->chosen;
        TAI_LOCK_RELEASE(&pool->graphs->lock);
    }
    return g;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_set_graph_mode(ta_pool *pool, ta_stream stream, int enabled)
{
    tai_capture *scope;
    ta_graph_pool *g;
    ta_result result = tai_pool_usable(pool);
    if (result != TA_OK) {
        return result;
    }
    if (enabled) {
        g = ta_pool_get_graph_pool(pool);
        return g == NULL ? TA_ERROR_NO_GRAPH_POOL : tai_scope_enter(g, stream, 1);
    }
    scope = TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL ? tai_scope_take(pool->graphs, NULL, stream) : NULL;
    return scope == NULL ? TA_ERROR_NO_GRAPH_POOL : tai_scope_leave(pool, scope, 0, NULL);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_configure_for_graph(ta_pool *pool, ta_graph_pool *g, ta_stream stream)
{
    ta_result result = tai_pool_usable(pool);
    if (result == TA_OK) {
        result = g == NULL ? TA_ERROR_NO_GRAPH_POOL
                 : g->parent != pool ? TAI_BAD(TA_ERROR_INVALID_ARGUMENT) : tai_scope_enter(g, stream, 1);
    }
    return result == TA_OK ? ta_pool_set_graph_pool(pool, g) : result;
}

TENSORALLOC_DEF TAI_COLD int ta_pool_is_graph_mode(ta_pool *pool, ta_stream stream)
{
    const tai_capture *scope = NULL;
    if (tai_pool_usable(pool) == TA_OK && TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) != NULL) {
        TAI_LOCK_ACQUIRE(&pool->graphs->lock);
        for (scope = pool->graphs->scopes; scope != NULL && scope->stream != stream; scope = scope->next) {
        }
        TAI_LOCK_RELEASE(&pool->graphs->lock);
    }
    return scope != NULL;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_memory_usage(ta_pool *pool, ta_memory_usage *out)
{
    ta_graph_pool *g = NULL;
    ta_result result;
    if (pool == NULL || out == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    memset(out, 0, sizeof *out);
    result = tai_memory_share(pool, &out->base);
    if (result != TA_OK || TENSORALLOC_LOAD_ACQUIRE(&pool->hooks) == NULL || pool->disposed) {
        return result;
    }
    do {
        tai_graphs *all = pool->graphs;
        ta_graph_pool *next;
        TAI_LOCK_ACQUIRE(&all->lock);
        next = g == NULL ? all->pools : g->next;
        if (g != NULL) {
            g->visitors--;
        }
        if (next != NULL) {
            next->visitors++;
            out->graph_pool_count++;
        }
        out->is_graph_mode = all->open != 0;
        TAI_LOCK_RELEASE(&all->lock);
        g = next;
        if (g != NULL) {
            (void)tai_memory_share(g->memory, &out->graph);
        }
    } while (g != NULL);
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD size_t ta_memory_usage_report(const ta_memory_usage *usage, char *text, size_t text_bytes)
{
    size_t bytes, rest;
    int length;
    if (usage == NULL || (text == NULL && text_bytes != 0)) {
        return 0;
    }
    bytes = usage->base.in_use_bytes + usage->graph.in_use_bytes;
    rest = ((bytes & 0xfffff) * 100 + 0x80000) >> 20; /* hundredths, without the decimal point of a locale */
    length = snprintf(text, text_bytes, "Memory: %llu.%02u MB, Blocks: %llu, GraphMode: %s",
                      (unsigned long long)(bytes >> 20) + rest / 100, (unsigned)(rest % 100),
                      (unsigned long long)(usage->base.block_count + usage->graph.block_count),
                      usage->is_graph_mode ? "true" : "false");
    return length > 0 ? (size_t)length : 0;
}

/* ---- as an allocator */
static void *tai_graph_v_alloc(void *self, const ta_request *request, ta_result *result)
{
    return ta_graph_pool_alloc((ta_graph_pool *)self, request, result);
}

static TAI_COLD ta_result tai_graph_v_resize(void *self, void *ptr, size_t old_bytes, size_t new_bytes)
{
    ta_result result = tai_graph_usable((ta_graph_pool *)self);
    return result == TA_OK ? tai_pool_resize(((ta_graph_pool *)self)->memory, ptr, old_bytes, new_bytes) : result;
}

static TAI_COLD void *tai_graph_v_remap(void *self, void *ptr, size_t old_bytes, size_t new_bytes, ta_result *result)
{
    ta_result why = tai_graph_v_resize(self, ptr, old_bytes, new_bytes);
    if (result != NULL) {
        *result = why;
    }
    return why == TA_OK ? ptr : NULL;
}

static TAI_COLD ta_result tai_graph_v_free(void *self, void *ptr, size_t size, size_t alignment, ta_stream stream)
{
    ta_result result = tai_graph_usable((ta_graph_pool *)self);
    (void)alignment;
    return result == TA_OK ? tai_pool_free_slow(((ta_graph_pool *)self)->memory, ptr, size, &stream) : result;
}

static TAI_COLD ta_result tai_graph_v_empty_cache(void *self)
{
    return ta_graph_pool_trim((ta_graph_pool *)self);
}

static TAI_COLD ta_result tai_graph_v_trim(void *self, size_t keep_bytes, size_t *out_released_bytes)
{
    ta_graph_pool *g = (ta_graph_pool *)self;
    ta_stats before, after;
    ta_result result = tai_graph_usable(g);
    if (out_released_bytes != NULL) {
        *out_released_bytes = 0;
    }
    if (result == TA_OK) {
        result = ta_pool_get_stats(g->memory, &before);
    }
    if (result == TA_OK && before.cached_bytes > keep_bytes) {
        result = ta_graph_pool_trim(g);
        if (result == TA_OK && out_released_bytes != NULL && ta_pool_get_stats(g->memory, &after) == TA_OK) {
            *out_released_bytes = before.reserved_bytes - after.reserved_bytes;
        }
    }
    return result;
}

static TAI_COLD ta_result tai_graph_v_stats(void *self, ta_stats *out)
{
    return ta_pool_get_stats(((ta_graph_pool *)self)->memory, out);
}

static TAI_COLD ta_result tai_graph_v_device(void *self, ta_device *out)
{
    *out = ((ta_graph_pool *)self)->memory->space.info.device;
    return tai_graph_usable((ta_graph_pool *)self);
}

static TAI_COLD ta_result tai_graph_v_dispose(void *self)
{
    return tai_graph_give_up((ta_graph_pool *)self, 1);
}

static TAI_COLD ta_result tai_graph_v_destroy(void *self)
{
    return ta_graph_pool_destroy((ta_graph_pool *)self);
}

static TAI_COLD ta_result tai_graph_v_describe(void *self, const void *ptr, ta_block_info *out)
{
    ta_result result = tai_graph_usable((ta_graph_pool *)self);
    return result == TA_OK ? ta_pool_describe(((ta_graph_pool *)self)->memory, ptr, out) : result;
}

static const ta_allocator_vtable tai_graph_vtable = {sizeof(ta_allocator_vtable), "graph pool",
                                                     tai_graph_v_alloc,           tai_graph_v_resize,
                                                     tai_graph_v_remap,           tai_graph_v_free,
                                                     tai_graph_v_empty_cache,     tai_graph_v_trim,
                                                     tai_graph_v_stats,           tai_graph_v_device,
                                                     tai_graph_v_dispose,         tai_graph_v_destroy,
                                                     tai_graph_v_describe};

TENSORALLOC_DEF TAI_COLD ta_allocator ta_graph_pool_allocator(ta_graph_pool *g)
{
    ta_allocator allocator;
    allocator.vtable = &tai_graph_vtable;
    allocator.self = g;
    return allocator;
}

/* ---- tensors */
TENSORALLOC_DEF TAI_COLD ta_result ta_tensor_with_graph_memory(const ta_tensor *tensor, ta_graph_pool *g,
                                                               ta_stream stream, ta_tensor *out)
{
    ta_tensor made;
    ta_request request;
    ta_result result = tai_graph_usable(g);
    if (out != NULL && out != tensor) {
        memset(out, 0, sizeof *out);
    }
    if (result != TA_OK || tensor == NULL || out == NULL || out == tensor) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    made = *tensor;
    made.allocator = ta_pool_allocator(g->parent); /* outlives the graph pool, and frees by the owner of the block */
    memset(&made.buffer, 0, sizeof made.buffer);
    if (tensor->buffer.size_bytes != 0) {
        memset(&request, 0, sizeof request);
        request.size_bytes = tensor->buffer.size_bytes;
        request.stream = stream;
        result = ta_allocator_alloc_buffer(ta_graph_pool_allocator(g), &request, &made.buffer);
    }
    if (result == TA_OK) {
        *out = made;
    }
    return result;
}

static TAI_COLD ta_result tai_tensor_pin(const ta_tensor *tensor, ta_graph_pool *g)
{
    ta_allocator from = tensor->allocator;
    if (from.vtable == &tai_pool_vtable) {
        return tai_graph_hold(g, (ta_pool *)from.self, tensor->buffer.data, 0);
    }
    if (from.vtable == &tai_graph_vtable) {
        return tai_graph_hold(g, ((ta_graph_pool *)from.self)->memory, tensor->buffer.data, 0);
    }
    if (from.vtable == &tai_dynamic_vtable) {
        ta_dynamic *d = (ta_dynamic *)from.self;
        ta_handle handle = {0, 0, 0};
        ta_result result = tai_dynamic_usable(d);
        result = result == TA_OK ? tai_dynamic_handle_of(d, tensor->buffer.data, &handle) : result;
        return result == TA_OK ? ta_graph_pool_hold_handle(g, d, handle) : result;
    }
    return TA_ERROR_UNSUPPORTED;
}

/* Copies are enqueued now, or (recorded) become part of the graph. */
static TAI_COLD ta_result tai_tensor_move(ta_tensor *tensor, ta_graph_pool *g, ta_stream stream, int recorded)
{
    const ta_backend *backend = &g->memory->space.backend;
    ta_tensor made;
    ta_device device;
    ta_block_info info;
    uint64_t capture = 0;
    ta_result result = backend->vtable->capture(backend->self, stream, &capture);
    if (result == TA_OK && capture != 0 && !recorded) {
        result = TA_ERROR_CAPTURE; /* each replay would read the old place */
    }
    if (result == TA_OK) {
        result = ta_allocator_get_device(tensor->allocator, &device);
    }
    if (result == TA_OK && device.type != TA_DEVICE_HOST && device.index != g->memory->space.info.device.index) {
        result = TA_ERROR_UNSUPPORTED;
    }
    if (result == TA_OK) {
        result = ta_tensor_with_graph_memory(tensor, g, stream, &made);
    }
    if (result != TA_OK) {
        return result;
    }
    result = capture != 0 ? tai_tensor_pin(tensor, g) : TA_OK;
    if (result == TA_OK) {
        result = tai_backend_copy(*backend, made.buffer.data, tensor->buffer.data, tensor->buffer.size_bytes, stream);
    }
    if (capture != 0 && ta_allocator_describe(tensor->allocator, tensor->buffer.data, &info) == TA_OK) {
        stream = info.stream; /* the hold keeps it for the copy; its owner may know nothing of the capture */
    }
    if (result == TA_OK) {
        result = ta_allocator_free_buffer(tensor->allocator, &tensor->buffer, stream);
    }
    if (result != TA_OK) {
        (void)ta_tensor_destroy(&made, stream);
        return result;
    }
    *tensor = made;
    return TA_OK;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_tensor_ensure_graph_compatible(ta_tensor *tensor, ta_graph_pool *g,
                                                                     ta_stream stream, ta_graph_compatible how)
{
    ta_result result = tai_graph_usable(g);
    if (result != TA_OK || tensor == NULL || (int)how < 0 || how > TA_GRAPH_COPY_RECORDED) {
        return result != TA_OK ? result : TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    if (tensor->buffer.data == NULL || ta_pool_owns(g->memory, tensor->buffer.data)) {
        return TA_OK;
    }
    result = ta_allocator_check_buffer(tensor->allocator, &tensor->buffer);
    if (result != TA_OK) {
        return result;
    }
    return how == TA_GRAPH_PIN ? tai_tensor_pin(tensor, g)
                               : tai_tensor_move(tensor, g, stream, how == TA_GRAPH_COPY_RECORDED);
}

TENSORALLOC_DEF TAI_COLD int ta_tensor_is_graph_compatible(const ta_tensor *tensor, ta_graph_pool *g)
{
    const tai_hold *hold;
    ta_block_info info;
    if (tensor == NULL || tai_graph_usable(g) != TA_OK) {
        return 0;
    }
    if (tensor->buffer.data == NULL) {
        return 1;
    }
    if (ta_allocator_check_buffer(tensor->allocator, &tensor->buffer) != TA_OK ||
        ta_allocator_describe(tensor->allocator, tensor->buffer.data, &info) != TA_OK) {
        return 0;
    }
    TAI_LOCK_ACQUIRE(&g->parent->graphs->lock);
    for (hold = g->holds; hold != NULL; hold = hold->next) {
        if (info.id.owner == (hold->pool != NULL ? hold->pool->id : hold->dynamic->common.id) &&
            info.id.index == hold->index && info.id.generation == hold->generation) {
            break;
        }
    }
    TAI_LOCK_RELEASE(&g->parent->graphs->lock);
    return hold != NULL || info.id.owner == g->memory->id;
}
#else
TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_create(const ta_graph_pool_desc *desc, ta_graph_pool **out)
{
    (void)desc;
    if (out != NULL) {
        *out = NULL;
    }
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_destroy(ta_graph_pool *graph_pool)
{
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_allocator ta_graph_pool_allocator(ta_graph_pool *graph_pool)
{
    ta_allocator none;
    (void)graph_pool;
    memset(&none, 0, sizeof none);
    return none;
}

TENSORALLOC_DEF TAI_COLD void *ta_graph_pool_alloc(ta_graph_pool *graph_pool, const ta_request *request,
                                                   ta_result *result)
{
    (void)graph_pool;
    (void)request;
    return tai_fail_null(TA_ERROR_UNAVAILABLE, result);
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_reserve(ta_graph_pool *graph_pool, size_t size_bytes)
{
    (void)graph_pool;
    (void)size_bytes;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_reset(ta_graph_pool *graph_pool)
{
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_trim(ta_graph_pool *graph_pool)
{
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_attach(ta_graph_pool *graph_pool, uint64_t graph)
{
    (void)graph_pool;
    (void)graph;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_retain(ta_graph_pool *graph_pool)
{
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_release(ta_graph_pool *graph_pool)
{
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_hold(ta_graph_pool *graph_pool, ta_pool *pool, void *ptr)
{
    (void)graph_pool;
    (void)pool;
    (void)ptr;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_hold_handle(ta_graph_pool *graph_pool, ta_dynamic *dynamic,
                                                             ta_handle handle)
{
    (void)graph_pool;
    (void)dynamic;
    (void)handle;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_graph_pool_get_stats(ta_graph_pool *graph_pool, ta_graph_pool_stats *out)
{
    (void)graph_pool;
    (void)out;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_capture_enter(ta_graph_pool *graph_pool, ta_stream stream)
{
    (void)graph_pool;
    (void)stream;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_capture_leave(ta_graph_pool *graph_pool, ta_stream stream, int failed,
                                                    ta_capture_report *report)
{
    (void)graph_pool;
    (void)stream;
    (void)failed;
    (void)report;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_with_graph_pool(const ta_capture_scope *scope, ta_result (*fn)(void *user),
                                                      void *user)
{
    (void)scope;
    (void)fn;
    (void)user;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_set_graph_pool(ta_pool *pool, ta_graph_pool *graph_pool)
{
    (void)pool;
    (void)graph_pool;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_graph_pool *ta_pool_get_graph_pool(ta_pool *pool)
{
    (void)pool;
    return NULL;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_set_graph_mode(ta_pool *pool, ta_stream stream, int enabled)
{
    (void)pool;
    (void)stream;
    (void)enabled;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_configure_for_graph(ta_pool *pool, ta_graph_pool *graph_pool,
                                                               ta_stream stream)
{
    (void)pool;
    (void)graph_pool;
    (void)stream;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD int ta_pool_is_graph_mode(ta_pool *pool, ta_stream stream)
{
    (void)pool;
    (void)stream;
    return 0;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_pool_get_memory_usage(ta_pool *pool, ta_memory_usage *out)
{
    (void)pool;
    (void)out;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD size_t ta_memory_usage_report(const ta_memory_usage *usage, char *text, size_t text_bytes)
{
    (void)usage;
    (void)text;
    (void)text_bytes;
    return 0;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_tensor_with_graph_memory(const ta_tensor *tensor, ta_graph_pool *graph_pool,
                                                               ta_stream stream, ta_tensor *out)
{
    (void)tensor;
    (void)graph_pool;
    (void)stream;
    (void)out;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD ta_result ta_tensor_ensure_graph_compatible(ta_tensor *tensor, ta_graph_pool *graph_pool,
                                                                     ta_stream stream, ta_graph_compatible how)
{
    (void)tensor;
    (void)graph_pool;
    (void)stream;
    (void)how;
    return TA_ERROR_UNAVAILABLE;
}

TENSORALLOC_DEF TAI_COLD int ta_tensor_is_graph_compatible(const ta_tensor *tensor, ta_graph_pool *graph_pool)
{
    (void)tensor;
    (void)graph_pool;
    return 0;
}
#endif /* TENSORALLOC_CUDA */

/*---------------------------------------------------------------------------------------------------------
  [TA:TORCH] the pluggable allocator of PyTorch. The only place with a pool that nobody made.
  Uses: CUDA-IMPL, POOL-IMPL.
  Invariants: a pool, once there, stays.
  -------------------------------------------------------------------------------------------------------*/
#ifdef TENSORALLOC_TORCH
#define TAI_TORCH_DEVICES 64

static ta_pool *tai_torch_pools[TAI_TORCH_DEVICES];
static tai_lock tai_torch_lock;

/* The pool of a device, made at its first use; NULL without a driver or memory for it. */
static TAI_COLD ta_pool *tai_torch_make(int device_index)
{
    ta_cuda_desc device;
    ta_pool_desc desc;
    ta_cuda *cuda = NULL;
    ta_pool *pool = NULL, *mine;
    memset(&device, 0, sizeof device);
    device.device_index = device_index;
    if (ta_cuda_create(&device, &cuda, NULL) != TA_OK) {
        return NULL;
    }
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    desc.name = "torch";
    if (ta_pool_create(&desc, &pool) != TA_OK) {
        (void)ta_cuda_destroy(cuda);
        return NULL;
    }
    TAI_LOCK_ACQUIRE(&tai_torch_lock);
    mine = tai_torch_pools[device_index] != NULL ? tai_torch_pools[device_index] : pool;
    TENSORALLOC_STORE_RELEASE(&tai_torch_pools[device_index], mine);
    TAI_LOCK_RELEASE(&tai_torch_lock);
    if (mine != pool) { /* another thread was first */
        (void)ta_pool_destroy(pool);
        (void)ta_cuda_destroy(cuda);
    }
    return mine;
}

static ta_pool *tai_torch_pool(int device_index)
{
    ta_pool *pool;
    if (device_index < 0 || device_index >= TAI_TORCH_DEVICES) {
        return NULL;
    }
    pool = TENSORALLOC_LOAD_ACQUIRE(&tai_torch_pools[device_index]);
    return pool != NULL ? pool : tai_torch_make(device_index);
}

TENSORALLOC_DEF void *ta_torch_alloc(ptrdiff_t size_bytes, int device_index, void *stream)
{
    ta_pool *pool = size_bytes > 0 ? tai_torch_pool(device_index) : NULL;
    return pool == NULL ? NULL
                        : ta_pool_alloc_stream(pool, (size_t)size_bytes, (ta_stream)(uintptr_t)stream, NULL);
}

TENSORALLOC_DEF void ta_torch_free(void *ptr, ptrdiff_t size_bytes, int device_index, void *stream)
{
    ta_pool *pool = ptr != NULL ? tai_torch_pool(device_index) : NULL;
    (void)size_bytes;
    if (pool != NULL) {
        (void)ta_allocator_free(ta_pool_allocator(pool), ptr, 0, 0, (ta_stream)(uintptr_t)stream);
    }
}
#else
TENSORALLOC_DEF TAI_COLD void *ta_torch_alloc(ptrdiff_t size_bytes, int device_index, void *stream)
{
    (void)size_bytes;
    (void)device_index;
    (void)stream;
    return NULL;
}

TENSORALLOC_DEF TAI_COLD void ta_torch_free(void *ptr, ptrdiff_t size_bytes, int device_index, void *stream)
{
    (void)ptr;
    (void)size_bytes;
    (void)device_index;
    (void)stream;
}
#endif /* TENSORALLOC_TORCH */

/*---------------------------------------------------------------------------------------------------------
  [TA:REPORT] text for people.
  Uses: the public interface, snprintf.
  Invariants: no state, no allocation.
  -------------------------------------------------------------------------------------------------------*/
TENSORALLOC_DEF TAI_COLD double ta_stats_hit_rate(const ta_stats *stats)
{
    return stats == NULL || stats->allocation_count == 0
               ? 0.0
               : (double)stats->hit_count / (double)stats->allocation_count;
}

/* A size with its unit, 4 digits: "1.500 MiB". */
static TAI_COLD const char *tai_size_text(size_t bytes, char *out, size_t out_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    if (bytes == TA_UNLIMITED) {
        (void)snprintf(out, out_bytes, "unlimited");
        return out;
    }
    while (value >= 1024.0 && unit < 4) {
        value /= 1024.0;
        unit++;
    }
    (void)snprintf(out, out_bytes, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
    return out;
}

TENSORALLOC_DEF TAI_COLD size_t ta_report(ta_allocator allocator, char *text, size_t text_bytes)
{
    ta_stats s;
    char a[7][32];
    int length;
    if ((text == NULL && text_bytes != 0) || ta_allocator_get_stats(allocator, &s) != TA_OK) {
        return 0;
    }
    length = snprintf(
        text, text_bytes,
        "%s: %s in use in %llu blocks (%s requested, %s wasted), %s cached, %s reserved (peak %s)\n"
        "  allocations %llu, frees %llu, hit rate %.2f %% (%llu grew, %llu recommitted), failures %llu\n"
        "  thread caches %llu B, pending %llu B, trimmed %llu B, address range %llu MiB, records %s\n",
        allocator.vtable->kind, tai_size_text(s.in_use_bytes, a[0], sizeof a[0]), (unsigned long long)s.live_count,
        tai_size_text(s.requested_bytes, a[1], sizeof a[1]), tai_size_text(s.wasted_bytes, a[2], sizeof a[2]),
        tai_size_text(s.cached_bytes, a[3], sizeof a[3]), tai_size_text(s.reserved_bytes, a[4], sizeof a[4]),
        tai_size_text(s.peak_reserved_bytes, a[5], sizeof a[5]), (unsigned long long)s.allocation_count,
        (unsigned long long)s.deallocation_count, 100.0 * ta_stats_hit_rate(&s),
        (unsigned long long)s.miss_grow_count, (unsigned long long)s.miss_recommit_count,
        (unsigned long long)s.failure_count, (unsigned long long)s.thread_cached_bytes,
        (unsigned long long)s.pending_bytes, (unsigned long long)s.trimmed_bytes,
        (unsigned long long)(s.address_range_bytes >> 20), tai_size_text(s.record_bytes, a[6], sizeof a[6]));
    return length > 0 ? (size_t)length : 0;
}

TENSORALLOC_DEF TAI_COLD size_t ta_dynamic_report(ta_dynamic *d, char *text, size_t text_bytes)
{
    ta_dynamic_stats s;
    char a[7][32];
    int length;
    if ((text == NULL && text_bytes != 0) || ta_dynamic_get_stats(d, &s) != TA_OK) {
        return 0;
    }
    length = snprintf(
        text, text_bytes,
        "%s: %llu tensors, %s of shapes in %s of capacity (utilization %.1f %%), %s wasted (peak %s), %s cached\n"
        "  allocations %llu, frees %llu, resizes %llu: %llu changed the capacity, %llu copied %s; failures %llu\n"
        "  capacity allocated in all: %s\n"
        "  prediction: %.1f %% more than exact fit over %llu uses, %llu sizes not foreseen, %llu changes avoided\n",
        d->common.name, (unsigned long long)s.handle_count, tai_size_text(s.effective_bytes, a[0], sizeof a[0]),
        tai_size_text(s.capacity_bytes, a[1], sizeof a[1]), 100.0 * s.average_utilization,
        tai_size_text(s.wasted_bytes, a[2], sizeof a[2]), tai_size_text(s.peak_wasted_bytes, a[3], sizeof a[3]),
        tai_size_text(s.cached_bytes, a[4], sizeof a[4]), (unsigned long long)s.allocation_count,
        (unsigned long long)s.free_count, (unsigned long long)s.resize_count,
        (unsigned long long)s.capacity_change_count, (unsigned long long)s.move_count,
        tai_size_text((size_t)s.moved_bytes, a[5], sizeof a[5]), (unsigned long long)s.failure_count,
        tai_size_text((size_t)s.allocated_bytes, a[6], sizeof a[6]), 100.0 * s.regret, (unsigned long long)s.use_count,
        (unsigned long long)s.under_prediction_count, (unsigned long long)s.avoided_change_count);
    return length > 0 ? (size_t)length : 0;
}

/* The second half of the sentence. */
static TAI_COLD void tai_verdict_sentence(const ta_failure *f, char *text, size_t text_bytes)
{
    char a[32], b[32], c[32];
    text[0] = 0;
    switch ((int)f->verdict) {
    case TA_VERDICT_NONE:
        break;
    case TA_VERDICT_WAITING:
        (void)snprintf(text, text_bytes, "; %s are freed and wait for streams: %s",
                       tai_size_text(f->pending_bytes, a, sizeof a), ta_action_text(f->action));
        break;
    case TA_VERDICT_SIBLINGS:
        (void)snprintf(text, text_bytes, "; other allocators over the budget hold %s and cache %s of it: %s",
                       tai_size_text(f->sibling_reserved_bytes, a, sizeof a),
                       tai_size_text(f->sibling_cached_bytes, b, sizeof b), ta_action_text(f->action));
        break;
    case TA_VERDICT_THREAD_CACHES:
        (void)snprintf(text, text_bytes, "; threads cache %s: %s",
                       tai_size_text(f->thread_cached_bytes, a, sizeof a), ta_action_text(f->action));
        break;
    case TA_VERDICT_GRAPHS:
        (void)snprintf(text, text_bytes, "; graph pools hold %s: %s", tai_size_text(f->graph_bytes, a, sizeof a),
                       ta_action_text(f->action));
        break;
    case TA_VERDICT_FRAGMENTED:
        (void)snprintf(text, text_bytes, "; in the way are %s in %llu blocks, %s of them tagged %s%.60s%s: %s",
                       tai_size_text(f->blocking_bytes, a, sizeof a), (unsigned long long)f->blocking_count,
                       tai_size_text(f->blocking_tag_bytes, b, sizeof b), f->blocking_tag != NULL ? "\"" : "",
                       f->blocking_tag != NULL ? f->blocking_tag : "nothing", f->blocking_tag != NULL ? "\"" : "",
                       ta_action_text(f->action));
        break;
    case TA_VERDICT_CAPACITY:
    case TA_VERDICT_LIMIT:
        (void)snprintf(text, text_bytes, ": %s to %s, or free as much as is missing", ta_action_text(f->action),
                       tai_size_text(f->action_bytes, a, sizeof a));
        break;
    case TA_VERDICT_OUTSIDE:
        (void)snprintf(text, text_bytes, "; it has %s free of %s, and others have %s: %s",
                       tai_size_text(f->backend_free_bytes, a, sizeof a),
                       tai_size_text(f->backend_total_bytes, b, sizeof b),
                       tai_size_text(f->outside_bytes, c, sizeof c), ta_action_text(f->action));
        break;
    default:
        (void)snprintf(text, text_bytes, "; %s: %s", ta_verdict_text(f->verdict), ta_action_text(f->action));
        break;
    }
}

TENSORALLOC_DEF TAI_COLD size_t ta_failure_report(const ta_failure *failure, char *text, size_t text_bytes)
{
    char size[32], a[32], b[32], c[32], verdict[256];
    int length = 0;
    if (failure == NULL || (text == NULL && text_bytes != 0)) {
        return 0;
    }
    tai_size_text(failure->requested_bytes, size, sizeof size);
    tai_verdict_sentence(failure, verdict, sizeof verdict);
    switch ((int)failure->result) {
    case TA_OK:
        length = snprintf(text, text_bytes, "nothing failed");
        break;
    case TA_ERROR_LIMIT:
        if (failure->verdict == TA_VERDICT_CAPACITY) {
            length = snprintf(text, text_bytes, "%s do not fit: capacity_bytes_max is reached%s", size, verdict);
            break;
        }
        length = snprintf(text, text_bytes,
                          "%s do not fit: the limit is %s, %s of it are reserved (%s by this allocator)%s", size,
                          tai_size_text(failure->limit_bytes, a, sizeof a),
                          tai_size_text(failure->budget_used_bytes, b, sizeof b),
                          tai_size_text(failure->reserved_bytes, c, sizeof c), verdict);
        break;
    case TA_ERROR_FRAGMENTED:
        length = snprintf(text, text_bytes,
                          "%s do not fit in one piece: %s are free, the largest free block has %s%s", size,
                          tai_size_text(failure->free_bytes, a, sizeof a),
                          tai_size_text(failure->largest_free_bytes, b, sizeof b), verdict);
        break;
    case TA_ERROR_OUT_OF_MEMORY:
    case TA_ERROR_BACKEND:
        length = snprintf(text, text_bytes,
                          "%s do not fit: the backend refused (code %lld) with %s reserved, %s of it in use%s", size,
                          (long long)failure->backend_code, tai_size_text(failure->reserved_bytes, a, sizeof a),
                          tai_size_text(failure->in_use_bytes, b, sizeof b), verdict);
        break;
    default:
        length = snprintf(text, text_bytes, "%s: %s%s", size, ta_result_text(failure->result), verdict);
        break;
    }
    return length > 0 ? (size_t)length : 0;
}

/*---------------------------------------------------------------------------------------------------------
  [TA:SNAPSHOT] everything that is known of allocators, as JSON.
  Uses: WRITER, TRACE-IMPL, BUDGET, POOL-IMPL, ARENA-IMPL, DIRECT, PREDICT, DYNAMIC-IMPL, ALLOCATOR-IMPL.

  Blocks are copied to records (shots) inside the gate and written outside: as many at a time as there is room for, so
  with room for all of them an allocator is seen at one moment. Between two visits to the gate ranges may grow, blocks
  may be split and merged: the next visit goes on at the address where the last one ended, within the range as it was
  first seen. So the shots of a range always tile it.
  Invariants: nothing is allocated; the sink is called without a lock.
  -------------------------------------------------------------------------------------------------------*/
enum {
    TAI_SHOT_LIVE, TAI_SHOT_FREE, TAI_SHOT_CACHED, TAI_SHOT_PENDING, TAI_SHOT_BUSY, TAI_SHOT_HOLE, TAI_SHOT_CHANGED,
    TAI_SHOT_STATES,
    TAI_SHOT_RANGE = TAI_SHOT_STATES, TAI_SHOT_STREAM
};
#define TAI_SHOTS 64 /* on the stack */

/* A piece of a range, a range (its pieces follow), or a stream of a pool. */
typedef struct tai_shot {
    uintptr_t addr;
    size_t size;
    size_t requested;  /* live: bytes; range: committed bytes; others: size of the block this is a piece of, or 0 */
    ta_stream stream;
    const char *tag;   /* live */
    uint32_t kind;
    uint32_t detail;   /* live: generation; pending: streams to wait for; range: heap, 8 for segments; stream: retired;
                          others: 1 for the first piece of a block */
} tai_shot;

typedef struct tai_snap {
    tai_writer writer;
    const ta_snapshot_desc *desc;
    tai_shot *shots;
    uint32_t room, count;
    /* where the next visit goes on */
    uint32_t stream, range, hint;
    uintptr_t base, at, end; /* of the range; base 0: not begun */
    /* what was written of this allocator */
    uint32_t visits;
    int opened;              /* what is open: 1 streams, 2 ranges, 3 blocks of a range */
    size_t state_count[TAI_SHOT_STATES], state_bytes[TAI_SHOT_STATES];
    ta_bucket_stats buckets[TA_BUCKET_COUNT];
    tai_shot stack[TAI_SHOTS];
} tai_snap;

/* What allocators of this file have in common here. */
typedef struct tai_face {
    const char *name;
    uint64_t id;
    ta_budget *budget; /* NULL: none to be seen */
    tai_gate *gate;    /* NULL: not of this file, or nothing to walk */
    int (*shoot)(tai_snap *snap, const void *self);
    int disposed;
    int forked;
    ta_dynamic *dynamic;
    ta_pool *pool;
} tai_face;

static TAI_COLD void tai_snap_add(tai_snap *s, uint32_t kind, uintptr_t from, uintptr_t to, size_t requested,
                                  uint32_t detail)
{
    tai_shot *shot = &s->shots[s->count++];
    memset(shot, 0, sizeof *shot);
    shot->kind = kind;
    shot->addr = from;
    shot->size = (size_t)(to - from);
    shot->requested = requested;
    shot->detail = detail;
}

/* ---- taking shots. Inside the gate. Each returns 1 when it has seen everything. */
static TAI_COLD void tai_snap_begin_range(tai_snap *s, uintptr_t base, size_t size, size_t committed, uint32_t detail)
{
    tai_snap_add(s, TAI_SHOT_RANGE, base, base + size, committed, detail);
    s->base = s->at = base;
    s->end = base + size;
    s->hint = 0;
}

/* The block of the pool's region over at, which is below top. */
static TAI_COLD uint32_t tai_snap_block_over(const tai_space *space, uint32_t region, uintptr_t at, uint32_t hint)
{
    const tai_block *blocks = space->blocks.at;
    if (hint != 0 && TENSORALLOC_LOAD_RELAXED(&blocks[hint].state) != TAI_VACANT &&
        blocks[hint].place.region == region && (size_t)(at - blocks[hint].addr) < blocks[hint].size) {
        return hint;
    }
    for (hint = space->regions[region]->first; blocks[hint].addr + blocks[hint].size <= at; hint = blocks[hint].next) {
    }
    return hint;
}

/* The next piece of a region: at most one block, or one run of pages of it. */
static TAI_COLD void tai_pool_shoot_piece(tai_snap *s, const tai_space *space, const tai_region *region)
{
    static const uint32_t kinds[] = {/* by TAI_VACANT to TAI_BUSY */
                                     TAI_SHOT_BUSY, TAI_SHOT_LIVE, TAI_SHOT_CACHED,
                                     TAI_SHOT_FREE, TAI_SHOT_PENDING, TAI_SHOT_BUSY};
    uintptr_t at = s->at, stop = s->end, run, run_end;
    uint32_t kind = at < region->commit_end ? TAI_SHOT_FREE : TAI_SHOT_HOLE;
    const tai_block *block = NULL;
    tai_shot *shot;
    size_t whole = 0;
    if (at < region->top) {
        uint32_t index = tai_snap_block_over(space, region->index, at, s->hint);
        block = &space->blocks.at[index];
        kind = kinds[TENSORALLOC_LOAD_RELAXED(&block->state)];
        whole = block->size;
        stop = block->addr + whole;
        s->hint = block->next;
    } else if (at < region->commit_end) {
        whole = (size_t)(region->commit_end - region->top);
        stop = region->commit_end;
    }
    stop = stop > s->end ? s->end : stop;
    if (kind == TAI_SHOT_FREE && region->hole_bytes != 0 &&
        tai_holes_run(space, region, at, stop, 1, &run, &run_end)) {
        if (run <= at) {
            kind = TAI_SHOT_HOLE;
            run = run_end;
        }
        s->hint = run < stop && block != NULL ? (uint32_t)(block - space->blocks.at) : s->hint;
        stop = run < stop ? run : stop;
    }
    if (kind == TAI_SHOT_LIVE && (at != block->addr || stop != block->addr + block->size)) {
        kind = TAI_SHOT_CHANGED;
    }
    tai_snap_add(s, kind, at, stop, whole, at == (block != NULL ? block->addr : region->top));
    shot = &s->shots[s->count - 1];
    if (block != NULL) {
        shot->stream = space->streams[block->place.stream].id;
        shot->detail = kind == TAI_SHOT_PENDING ? block->right : shot->detail;
    }
    if (kind == TAI_SHOT_LIVE) {
        shot->requested = TENSORALLOC_LOAD_RELAXED(&block->requested);
        shot->tag = TENSORALLOC_LOAD_RELAXED(&block->tag);
        shot->detail = TENSORALLOC_LOAD_RELAXED(&block->generation);
    }
    s->at = stop;
}

static TAI_COLD int tai_pool_shoot(tai_snap *s, const void *self)
{
    const tai_space *space = &((const ta_pool *)self)->space;
    for (; space->ordered && s->stream < space->stream_count; s->stream++) { /* [0] is none */
        if (s->stream != 0) {
            if (s->count == s->room) {
                return 0;
            }
            tai_snap_add(s, TAI_SHOT_STREAM, 0, 0, 0, (uint32_t)(space->streams[s->stream].retired != 0));
            s->shots[s->count - 1].stream = space->streams[s->stream].id;
        }
    }
    for (; s->range < space->region_count; s->range++, s->base = 0) {
        const tai_region *region = space->regions[s->range];
        if (s->base == 0 && !region->is_live) {
            continue;
        }
        if (s->base == 0 && s->count < s->room) {
            tai_snap_begin_range(s, region->base, region->size,
                                 (size_t)(region->commit_end - region->base) - region->hole_bytes,
                                 region->heap | (region->is_segment ? 8u : 0u));
        }
        while (s->base == 0 || s->at < s->end) {
            if (s->count == s->room) {
                return 0;
            }
            if (region->is_live && region->base == s->base) {
                tai_pool_shoot_piece(s, space, region);
            } else { /* went back to the backend since */
                tai_snap_add(s, TAI_SHOT_HOLE, s->at, s->end, 0, 0);
                s->at = s->end;
            }
        }
    }
    return 1;
}

/* The next piece of a chunk: a block, or what lies between two. first, end: its records. */
static TAI_COLD void tai_arena_shoot_piece(tai_snap *s, const ta_arena *arena, const tai_chunk *chunk, uint32_t first,
                                           uint32_t end)
{
    const tai_arena_block *block;
    uintptr_t at = s->at, stop = s->end;
    uint32_t kind = at < chunk->commit_end ? TAI_SHOT_FREE : TAI_SHOT_HOLE, middle, last = end;
    while (first < last) { /* the first block that ends behind at */
        middle = first + (last - first) / 2;
        if (arena->blocks[middle].addr + arena->blocks[middle].size <= at) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    block = first < end ? &arena->blocks[first] : NULL;
    if (block != NULL && block->addr > at) { /* lost to alignment */
        stop = block->addr;
        block = NULL;
    } else if (block != NULL) {
        kind = block->state == TAI_LIVE ? TAI_SHOT_LIVE : block->state == TAI_BUSY ? TAI_SHOT_BUSY : TAI_SHOT_FREE;
        stop = block->addr + block->size;
    } else if (at < chunk->commit_end) {
        stop = chunk->commit_end;
    }
    stop = stop > s->end ? s->end : stop;
    if (kind == TAI_SHOT_LIVE && (at != block->addr || stop != block->addr + block->size)) {
        kind = TAI_SHOT_CHANGED;
    }
    tai_snap_add(s, kind, at, stop, block != NULL ? block->size : 0, block != NULL && at == block->addr);
    if (kind == TAI_SHOT_LIVE) {
        s->shots[s->count - 1].requested = block->requested;
        s->shots[s->count - 1].tag = block->tag;
        s->shots[s->count - 1].detail = block->generation;
    }
    s->at = stop;
}

static TAI_COLD int tai_arena_shoot(tai_snap *s, const void *self)
{
    const ta_arena *arena = (const ta_arena *)self;
    for (; s->range < arena->chunk_count; s->range++, s->base = 0) {
        const tai_chunk *chunk = &arena->chunks[s->range];
        uint32_t end = s->range < arena->chunk ? chunk[1].first : arena->block_count;
        if (s->base == 0 && s->count < s->room) {
            tai_snap_begin_range(s, chunk->base, chunk->size, (size_t)(chunk->commit_end - chunk->base),
                                 TAI_LARGE | (chunk->is_segment ? 8u : 0u));
        }
        while (s->base == 0 || s->at < s->end) {
            if (s->count == s->room) {
                return 0;
            }
            if (chunk->base == s->base) {
                tai_arena_shoot_piece(s, arena, chunk, s->range <= arena->chunk ? chunk->first : end, end);
            } else {
                tai_snap_add(s, TAI_SHOT_HOLE, s->at, s->end, 0, 0);
                s->at = s->end;
            }
        }
    }
    return 1;
}

static TAI_COLD int tai_direct_shoot(tai_snap *s, const void *self)
{
    const ta_direct *direct = (const ta_direct *)self;
    for (s->range += s->range == 0; s->range < direct->records.end; s->range++) {
        const tai_direct_block *block = tai_direct_at(direct, s->range);
        uintptr_t end = block->segment + block->segment_bytes;
        uint32_t state = block->link.state;
        if (s->room - s->count < 3) {
            return 0;
        }
        if (state != TAI_LIVE && state != TAI_CACHED && state != TAI_PENDING) {
            continue;
        }
        tai_snap_add(s, TAI_SHOT_RANGE, block->segment, end, block->segment_bytes, TAI_LARGE | 8u);
        if (state == TAI_PENDING) {
            tai_snap_add(s, TAI_SHOT_FREE, block->segment, end, block->segment_bytes, 1);
            continue;
        }
        if (block->link.addr != block->segment) {
            tai_snap_add(s, TAI_SHOT_FREE, block->segment, block->link.addr, 0, 0);
        }
        tai_snap_add(s, TAI_SHOT_LIVE, block->link.addr, end, block->requested, block->link.generation);
        s->shots[s->count - 1].stream = block->stream;
        s->shots[s->count - 1].tag = block->tag;
    }
    return 1;
}

/* Ranges of tensors; those without are blocks of the upstream. */
static TAI_COLD int tai_dynamic_shoot(tai_snap *s, const void *self)
{
    const ta_dynamic *d = (const ta_dynamic *)self;
    for (s->range += s->range == 0; s->range < d->handles.end; s->range++) {
        const tai_handle *h = tai_handle_at(d, s->range);
        uintptr_t base = h->link.addr, held;
        if (s->room - s->count < 4) {
            return 0;
        }
        if ((h->link.state != TAI_LIVE && h->link.state != TAI_CACHED) || h->span_bytes == 0) {
            continue;
        }
        tai_snap_add(s, TAI_SHOT_RANGE, base, base + h->span_bytes, h->committed, TAI_LARGE);
        held = base + (h->link.state == TAI_LIVE ? h->held : 0);
        if (held != base) {
            tai_snap_add(s, TAI_SHOT_LIVE, base, held, h->effective, h->link.generation);
            s->shots[s->count - 1].stream = h->stream;
            s->shots[s->count - 1].tag = h->tag;
        }
        if (held != base + h->committed) {
            tai_snap_add(s, TAI_SHOT_FREE, held, base + h->committed, 0, 0);
        }
        if (h->committed != h->span_bytes) {
            tai_snap_add(s, TAI_SHOT_HOLE, base + h->committed, base + h->span_bytes, 0, 0);
        }
    }
    return 1;
}

static TAI_COLD void tai_face_common(tai_face *out, tai_common *common)
{
    out->name = common->name;
    out->id = common->id;
    out->disposed = common->disposed;
    out->forked = !common->disposed && tai_common_usable(common) != TA_OK;
    out->budget = common->budget;
    out->gate = &common->gate;
}

static TAI_COLD void tai_face_of(ta_allocator allocator, tai_face *out)
{
    memset(out, 0, sizeof *out);
    if (allocator.vtable == &tai_pool_vtable) {
        ta_pool *pool = (ta_pool *)allocator.self;
        out->pool = pool;
        out->name = pool->name;
        out->id = pool->id;
        out->disposed = pool->disposed;
        out->forked = !pool->disposed && tai_pool_forked(pool);
        out->budget = pool->space.budget;
        out->gate = &pool->space.gate;
        out->shoot = tai_pool_shoot;
    } else if (allocator.vtable == &tai_arena_vtable) {
        tai_face_common(out, &((ta_arena *)allocator.self)->common);
        out->shoot = tai_arena_shoot;
    } else if (allocator.vtable == &tai_direct_vtable) {
        tai_face_common(out, &((ta_direct *)allocator.self)->common);
        out->shoot = tai_direct_shoot;
    } else if (allocator.vtable == &tai_dynamic_vtable) {
        out->dynamic = (ta_dynamic *)allocator.self;
        tai_face_common(out, &out->dynamic->common);
        out->shoot = tai_dynamic_shoot;
    }
    if (out->disposed) { /* a shared budget may be gone */
        out->budget = NULL;
    }
}

/* ---- writing */
/* A member of a struct that is written under its own name: tables are smaller than calls. */
typedef struct tai_field {
    const char *name;
    size_t offset;
    int kind; /* TAI_FIELD_* */
} tai_field;
enum { TAI_IS_SIZE, TAI_IS_U64, TAI_IS_U32, TAI_IS_BOOL, TAI_IS_HEX, TAI_IS_PTR, TAI_IS_TEXT };

/* Sizes: TA_UNLIMITED is null. */
static TAI_COLD void tai_snap_fields(tai_writer *w, const void *object, const tai_field *fields, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) {
        const char *name = fields[i].name;
        const void *at = (const char *)object + fields[i].offset;
        switch (fields[i].kind) {
        case TAI_IS_SIZE:
            tai_json_size(w, name, *(const size_t *)at);
            break;
        case TAI_IS_U64:
            tai_json_u64(w, name, *(const uint64_t *)at);
            break;
        case TAI_IS_U32:
            tai_json_u64(w, name, *(const uint32_t *)at);
            break;
        case TAI_IS_BOOL:
            tai_json_bool(w, name, *(const int *)at);
            break;
        case TAI_IS_HEX:
            tai_json_hex(w, name, *(const uint64_t *)at);
            break;
        case TAI_IS_PTR:
            tai_json_hex(w, name, (uint64_t)(uintptr_t)*(void *const *)at);
            break;
        default:
            tai_json_text(w, name, *(const char *const *)at);
            break;
        }
    }
}
#define TAI_FIELD(type, kind, member) {#member, offsetof(type, member), TAI_IS_##kind},
#define TAI_FIELDS(w, object, fields) tai_snap_fields((w), (object), (fields), sizeof(fields) / sizeof *(fields))

static TAI_COLD void tai_snap_stats(tai_writer *w, const ta_stats *stats)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_stats, SIZE, requested_bytes) TAI_FIELD(ta_stats, SIZE, in_use_bytes)
        TAI_FIELD(ta_stats, SIZE, cached_bytes) TAI_FIELD(ta_stats, SIZE, reserved_bytes)
        TAI_FIELD(ta_stats, SIZE, wasted_bytes) TAI_FIELD(ta_stats, SIZE, live_count)
        TAI_FIELD(ta_stats, SIZE, thread_cached_bytes) TAI_FIELD(ta_stats, SIZE, pending_bytes)
        TAI_FIELD(ta_stats, SIZE, address_range_bytes) TAI_FIELD(ta_stats, SIZE, record_bytes)
        TAI_FIELD(ta_stats, SIZE, peak_reserved_bytes) TAI_FIELD(ta_stats, SIZE, peak_in_use_upper_bytes)
        TAI_FIELD(ta_stats, U64, allocation_count) TAI_FIELD(ta_stats, U64, deallocation_count)
        TAI_FIELD(ta_stats, U64, allocated_bytes) TAI_FIELD(ta_stats, U64, freed_bytes)
        TAI_FIELD(ta_stats, U64, hit_count) TAI_FIELD(ta_stats, U64, miss_count)
        TAI_FIELD(ta_stats, U64, miss_grow_count) TAI_FIELD(ta_stats, U64, miss_recommit_count)
        TAI_FIELD(ta_stats, U64, thread_hit_count) TAI_FIELD(ta_stats, U64, steal_count)
        TAI_FIELD(ta_stats, U64, resize_count) TAI_FIELD(ta_stats, U64, failure_count)
        TAI_FIELD(ta_stats, U64, failure_limit_count) TAI_FIELD(ta_stats, U64, failure_sealed_count)
        TAI_FIELD(ta_stats, U64, failure_not_cached_count) TAI_FIELD(ta_stats, U64, trim_count)
        TAI_FIELD(ta_stats, U64, trimmed_bytes)
    };
    tai_json_begin(w, "stats", "{");
    TAI_FIELDS(w, stats, fields);
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_device(tai_writer *w, ta_device device)
{
    tai_json_begin(w, "device", "{");
    tai_json_text(w, "type", device.type == TA_DEVICE_HOST ? "host" : device.type == TA_DEVICE_CUDA ? "cuda" : "other");
    tai_json_u64(w, "index", (uint64_t)(uint32_t)device.index);
    tai_json_end(w, "}");
}

static TAI_COLD uint64_t tai_backend_id(ta_backend backend)
{
    return tai_mix((uint64_t)(uintptr_t)backend.vtable) ^ (uint64_t)(uintptr_t)backend.self;
}

static TAI_COLD uint64_t tai_budget_id(const ta_budget *budget)
{
    return tai_mix((uint64_t)(uintptr_t)budget);
}

/* Whether memory is known to be taken: only then a backend is asked about memory, or a device would be woken up. */
static TAI_COLD void tai_snap_backend(tai_writer *w, const ta_budget *budget, int in_use)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_backend_info, SIZE, granularity_bytes) TAI_FIELD(ta_backend_info, SIZE, alignment_bytes)
    };
    static const char *const capabilities[] = {"segments", "ranges", "ordered", "host_access", "fresh_zero"};
    const ta_backend backend = budget->backend;
    const ta_backend_info *info = &budget->info;
    size_t free_bytes = TA_UNLIMITED, total_bytes = TA_UNLIMITED;
    uint32_t i;
    if (in_use && backend.vtable->memory_info != NULL &&
        backend.vtable->memory_info(backend.self, &free_bytes, &total_bytes) != TA_OK) {
        free_bytes = total_bytes = TA_UNLIMITED;
    }
    tai_json_begin(w, NULL, "{");
    tai_json_hex(w, "id", tai_backend_id(backend));
    tai_json_text(w, "name", backend.vtable->name);
    tai_snap_device(w, info->device);
    tai_json_begin(w, "capabilities", "[");
    for (i = 0; i < 5; i++) {
        if ((info->caps >> i & 1) != 0) {
            tai_json_text(w, NULL, capabilities[i]);
        }
    }
    tai_json_end(w, "]");
    TAI_FIELDS(w, info, fields);
    tai_json_size(w, "range_bytes_max", info->range_bytes_max == 0 ? TA_UNLIMITED : info->range_bytes_max);
    tai_json_size(w, "free_bytes", free_bytes);
    tai_json_size(w, "total_bytes", total_bytes);
    tai_json_end(w, "}");
}

/* Each backend and each budget once. */
static TAI_COLD void tai_snap_budgets(tai_writer *w, const ta_allocator *allocators, size_t count, int backends)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_budget_stats, SIZE, limit_bytes) TAI_FIELD(ta_budget_stats, SIZE, reserved_bytes)
        TAI_FIELD(ta_budget_stats, SIZE, peak_reserved_bytes) TAI_FIELD(ta_budget_stats, SIZE, allocator_count)
    };
    size_t i, j;
    tai_json_begin(w, backends ? "backends" : "budgets", "[");
    for (i = 0; i < count && w->result == TA_OK; i++) {
        ta_budget_stats stats;
        tai_face face, other;
        int seen = 0, in_use = 0;
        tai_face_of(allocators[i], &face);
        for (j = 0; face.budget != NULL && j < count; j++) {
            int same;
            tai_face_of(allocators[j], &other);
            same = other.budget != NULL && (backends ? tai_backend_id(other.budget->backend) ==
                                                           tai_backend_id(face.budget->backend)
                                                     : other.budget == face.budget);
            seen |= same && j < i;
            in_use |= same && TENSORALLOC_LOAD_RELAXED(&other.budget->reserved) != 0;
        }
        if (face.budget == NULL || seen) {
            continue;
        }
        if (backends) {
            tai_snap_backend(w, face.budget, in_use);
            continue;
        }
        (void)ta_budget_get_stats(face.budget, &stats);
        tai_json_begin(w, NULL, "{");
        tai_json_hex(w, "id", tai_budget_id(face.budget));
        tai_json_hex(w, "backend", tai_backend_id(face.budget->backend));
        TAI_FIELDS(w, &stats, fields);
        tai_json_end(w, "}");
    }
    tai_json_end(w, "]");
}

/* Closes what stands open, down to level. */
static TAI_COLD void tai_snap_close(tai_snap *s, int level)
{
    if (s->opened == 3 && level < 3) {
        tai_json_end(&s->writer, "]");
        tai_json_end(&s->writer, "}");
        s->opened = 2;
    }
    if (s->opened > level) {
        tai_json_end(&s->writer, "]");
        s->opened = 0;
    }
}

static TAI_COLD void tai_snap_put_range(tai_snap *s, const tai_shot *shot)
{
    static const char *const heaps[] = {"tiny", "middle", "large"};
    tai_writer *w = &s->writer;
    tai_snap_close(s, 2);
    if (s->opened != 2) {
        tai_snap_close(s, 0);
        tai_json_begin(w, "ranges", "[");
    }
    tai_json_key(w, NULL);
    w->follows = 0;
    tai_put(w, "\n{", 2);
    tai_json_hex(w, "ptr", (uint64_t)shot->addr);
    tai_json_u64(w, "size_bytes", (uint64_t)shot->size);
    tai_json_text(w, "kind", (shot->detail & 8) != 0 ? "segment" : "range");
    tai_json_text(w, "heap", heaps[shot->detail & 3]);
    tai_json_u64(w, "committed_bytes", (uint64_t)shot->requested);
    tai_json_begin(w, "blocks", "[");
    s->opened = 3;
}

/* What statistics count of a piece. */
static TAI_COLD void tai_snap_count(tai_snap *s, const tai_shot *shot)
{
    int live = shot->kind == TAI_SHOT_LIVE, bucket;
    size_t whole = live ? shot->size : shot->requested;
    s->state_count[shot->kind]++;
    s->state_bytes[shot->kind] += shot->size;
    if (whole != 0 && shot->kind != TAI_SHOT_CHANGED) {
        bucket = tai_bucket_of(whole);
        if (live) {
            s->buckets[bucket].live_count++;
            s->buckets[bucket].live_bytes += shot->size;
        } else {
            s->buckets[bucket].cached_count += shot->kind == TAI_SHOT_PENDING || shot->detail != 0;
            s->buckets[bucket].cached_bytes += shot->kind != TAI_SHOT_HOLE ? shot->size : 0;
        }
    }
}

static TAI_COLD void tai_snap_put(tai_snap *s, const tai_shot *shot)
{
    static const char *const states[] = {"live", "free", "cached", "pending", "busy", "hole", "changed"};
    tai_writer *w = &s->writer;
    if (shot->kind == TAI_SHOT_RANGE) {
        tai_snap_put_range(s, shot);
        return;
    }
    if (shot->kind == TAI_SHOT_STREAM) {
        if (s->opened == 0) {
            tai_json_begin(w, "streams", "[");
            s->opened = 1;
        }
        tai_json_begin(w, NULL, "{");
        tai_json_hex(w, "id", shot->stream);
        tai_json_bool(w, "retired", (int)shot->detail);
        tai_json_end(w, "}");
        return;
    }
    tai_snap_count(s, shot);
    tai_put(w, &",\n{\"ptr\":\"0x"[!w->follows], w->follows ? 12 : 11);
    tai_put_hex(w, (uint64_t)shot->addr);
    TAI_PUT(w, "\",\"size_bytes\":");
    tai_put_decimal(w, (uint64_t)shot->size);
    TAI_PUT(w, ",\"state\":\"");
    tai_put(w, states[shot->kind], strlen(states[shot->kind]));
    TAI_PUT(w, "\"");
    w->follows = 1;
    if (shot->kind == TAI_SHOT_LIVE) {
        TAI_PUT(w, ",\"requested_bytes\":");
        tai_put_decimal(w, (uint64_t)shot->requested);
        TAI_PUT(w, ",\"generation\":");
        tai_put_decimal(w, shot->detail);
        if (shot->tag != NULL) {
            tai_json_text(w, "tag", shot->tag);
        }
    }
    if (shot->stream != 0) {
        tai_json_hex(w, "stream", shot->stream);
    }
    if (shot->kind == TAI_SHOT_PENDING) {
        tai_json_u64(w, "waits_for", (uint64_t)shot->detail);
    }
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_totals(tai_snap *s)
{
    static const char *const names[TAI_SHOT_STATES] = {"live_bytes", "free_bytes", "cached_bytes", "pending_bytes",
                                                       "busy_bytes", "hole_bytes", "changed_bytes"};
    static const tai_field fields[] = {
        TAI_FIELD(ta_bucket_stats, SIZE, size_min_bytes) TAI_FIELD(ta_bucket_stats, SIZE, size_max_bytes)
        TAI_FIELD(ta_bucket_stats, SIZE, live_count) TAI_FIELD(ta_bucket_stats, SIZE, live_bytes)
        TAI_FIELD(ta_bucket_stats, SIZE, cached_count) TAI_FIELD(ta_bucket_stats, SIZE, cached_bytes)
    };
    tai_writer *w = &s->writer;
    int i;
    tai_json_begin(w, "totals", "{");
    tai_json_u64(w, "visits", s->visits);
    tai_json_u64(w, "live_count", (uint64_t)s->state_count[TAI_SHOT_LIVE]);
    for (i = 0; i < TAI_SHOT_STATES; i++) {
        tai_json_u64(w, names[i], (uint64_t)s->state_bytes[i]);
    }
    tai_json_end(w, "}");
    tai_json_begin(w, "buckets", "[");
    for (i = 0; i < TA_BUCKET_COUNT; i++) {
        s->buckets[i].size_min_bytes = (size_t)64 << i;
        s->buckets[i].size_max_bytes = i == TA_BUCKET_COUNT - 1 ? TA_UNLIMITED : ((size_t)128 << i) - 1;
        tai_json_begin(w, NULL, "{");
        TAI_FIELDS(w, &s->buckets[i], fields);
        tai_json_end(w, "}");
    }
    tai_json_end(w, "]");
}

/* Streams, ranges with their blocks, and what they add up to. */
static TAI_COLD void tai_snap_blocks(tai_snap *s, const tai_face *face, const void *self)
{
    int done;
    uint32_t i;
    s->stream = s->range = s->hint = s->visits = 0;
    s->base = 0;
    s->opened = 0;
    memset(s->state_count, 0, sizeof s->state_count);
    memset(s->state_bytes, 0, sizeof s->state_bytes);
    memset(s->buckets, 0, sizeof s->buckets);
    do {
        s->count = 0;
        tai_gate_enter(face->gate, NULL);
        done = face->shoot(s, self);
        tai_gate_leave(face->gate, NULL);
        s->visits++;
        for (i = 0; i < s->count && s->writer.result == TA_OK; i++) {
            tai_snap_put(s, &s->shots[i]);
        }
    } while (!done && s->writer.result == TA_OK);
    tai_snap_close(s, 2);
    if (s->opened != 2) {
        tai_snap_close(s, 0);
        tai_json_begin(&s->writer, "ranges", "[");
        s->opened = 2;
    }
    tai_snap_close(s, 0);
    tai_snap_totals(s);
}

static TAI_COLD void tai_snap_failure(tai_writer *w, const ta_failure *failure)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_failure, SIZE, requested_bytes) TAI_FIELD(ta_failure, SIZE, alignment_bytes)
        TAI_FIELD(ta_failure, SIZE, limit_bytes) TAI_FIELD(ta_failure, SIZE, budget_used_bytes)
        TAI_FIELD(ta_failure, SIZE, reserved_bytes) TAI_FIELD(ta_failure, SIZE, in_use_bytes)
        TAI_FIELD(ta_failure, SIZE, free_bytes) TAI_FIELD(ta_failure, SIZE, largest_free_bytes)
        TAI_FIELD(ta_failure, SIZE, pending_bytes) TAI_FIELD(ta_failure, U64, count)
        TAI_FIELD(ta_failure, SIZE, action_bytes) TAI_FIELD(ta_failure, SIZE, thread_cached_bytes)
        TAI_FIELD(ta_failure, SIZE, sibling_reserved_bytes) TAI_FIELD(ta_failure, SIZE, sibling_cached_bytes)
        TAI_FIELD(ta_failure, SIZE, graph_bytes)
        TAI_FIELD(ta_failure, SIZE, backend_free_bytes) TAI_FIELD(ta_failure, SIZE, backend_total_bytes)
        TAI_FIELD(ta_failure, SIZE, outside_bytes) TAI_FIELD(ta_failure, SIZE, blocking_span_bytes)
        TAI_FIELD(ta_failure, SIZE, blocking_bytes) TAI_FIELD(ta_failure, SIZE, blocking_count)
        TAI_FIELD(ta_failure, SIZE, blocking_tag_bytes) TAI_FIELD(ta_failure, HEX, stream)
        TAI_FIELD(ta_failure, TEXT, tag) TAI_FIELD(ta_failure, HEX, backend_code)
        TAI_FIELD(ta_failure, PTR, blocking_ptr) TAI_FIELD(ta_failure, TEXT, blocking_tag)
    };
    char text[512];
    if (failure->count == 0) {
        return;
    }
    (void)ta_failure_report(failure, text, sizeof text);
    tai_json_begin(w, "failure", "{");
    tai_json_text(w, "result", ta_result_text(failure->result));
    tai_json_text(w, "text", text);
    TAI_FIELDS(w, failure, fields);
    tai_json_text(w, "verdict", ta_verdict_text(failure->verdict));
    tai_json_text(w, "action", ta_action_text(failure->action));
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_pool(tai_writer *w, ta_pool *pool)
{
    static const tai_field options[] = {
        TAI_FIELD(ta_pool_desc, SIZE, cached_bytes_max) TAI_FIELD(ta_pool_desc, SIZE, buffers_per_bucket_max)
        TAI_FIELD(ta_pool_desc, SIZE, slack_bytes_max) TAI_FIELD(ta_pool_desc, SIZE, thread_cache_bytes)
        TAI_FIELD(ta_pool_desc, SIZE, thread_cache_block_bytes) TAI_FIELD(ta_pool_desc, SIZE, range_bytes)
        TAI_FIELD(ta_pool_desc, SIZE, block_count_max) TAI_FIELD(ta_pool_desc, BOOL, single_threaded)
        TAI_FIELD(ta_pool_desc, BOOL, zeroed)
    };
    ta_failure failure;
    tai_json_begin(w, "options", "{");
    TAI_FIELDS(w, &pool->desc, options);
    tai_json_bool(w, "sealed", TENSORALLOC_LOAD_RELAXED(&pool->sealed));
    tai_json_end(w, "}");
    (void)ta_pool_get_failure(pool, &failure);
    tai_snap_failure(w, &failure);
}

static TAI_COLD void tai_snap_dims(tai_writer *w, const char *key, const int64_t *dims, int rank)
{
    int i;
    tai_json_begin(w, key, "[");
    for (i = 0; i < rank; i++) {
        tai_json_size(w, NULL, dims[i] == TA_DIM_UNBOUNDED ? TA_UNLIMITED : (size_t)dims[i]);
    }
    tai_json_end(w, "]");
}

/* A tensor, or a warm range. */
static TAI_COLD void tai_snap_handle(tai_snap *s, ta_dynamic *d, uint32_t index)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_handle_info, SIZE, effective_bytes) TAI_FIELD(ta_handle_info, SIZE, capacity_bytes)
        TAI_FIELD(ta_handle_info, U64, use_count) TAI_FIELD(ta_handle_info, U64, allocation_time_ns)
        TAI_FIELD(ta_handle_info, HEX, stream) TAI_FIELD(ta_handle_info, TEXT, tag)
    };
    tai_writer *w = &s->writer;
    ta_handle_info info;
    uint32_t state = TAI_VACANT, generation = 0, site = 0;
    int i;
    memset(&info, 0, sizeof info);
    tai_gate_enter(&d->common.gate, NULL);
    if (index < d->handles.end) {
        const tai_handle *h = tai_handle_at(d, index);
        state = h->link.state;
        if (state == TAI_LIVE || state == TAI_CACHED) {
            tai_handle_show(d, h, &info);
            generation = h->link.generation;
            site = h->site;
        }
    }
    tai_gate_leave(&d->common.gate, NULL);
    if (state != TAI_LIVE && state != TAI_CACHED) {
        return;
    }
    tai_json_begin(w, NULL, "{");
    tai_json_u64(w, "index", index);
    tai_json_u64(w, "generation", generation);
    tai_json_text(w, "state", state == TAI_LIVE ? "live" : "warm");
    tai_json_hex(w, "ptr", (uint64_t)(uintptr_t)info.data);
    tai_json_u64(w, "in_place_bytes", (uint64_t)info.in_place_bytes);
    tai_json_bool(w, "in_range", info.in_range);
    if (state == TAI_LIVE) {
        TAI_FIELDS(w, &info, fields);
        tai_json_text(w, "dtype", ta_dtype_name(info.bounds.dtype));
        tai_snap_dims(w, "dims", info.dims, info.rank);
        for (i = 0; i < info.rank; i++) {
            info.dims[i] = tai_bounds_max(&info.bounds, i);
            info.bounds.min[i] = tai_bounds_min(&info.bounds, i);
            info.bounds.expected[i] = tai_bounds_expected(&info.bounds, i);
        }
        tai_snap_dims(w, "min", info.bounds.min, info.rank);
        tai_snap_dims(w, "expected", info.bounds.expected, info.rank);
        tai_snap_dims(w, "max", info.dims, info.rank);
        tai_json_u64(w, "site", site);
    }
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_predictor(tai_writer *w, const tai_predictor *p, const ta_predictive_config *c)
{
    uint32_t i;
    int growing = p->growing;
    tai_json_begin(w, "predictor", "{");
    tai_json_text(w, "learns", p->weight_total == 0 ? NULL : p->growing ? "growth" : "sizes");
    tai_json_u64(w, "observation_count", p->count);
    tai_json_u64(w, "mean_bytes", p->mean_bytes);
    tai_json_u64(w, "target_bytes", growing ? 0 : p->of.sizes.target_bytes);
    tai_json_u64(w, "step_bytes", growing ? p->of.growth.step_bytes : 0);
    tai_json_u64(w, "block_price_sixteenths", growing ? 0 : tai_predictor_price(p, c));
    tai_json_u64(w, "range_uses_sixteenths", growing ? 0 : tai_predictor_uses(p, c));
    tai_json_begin(w, "weights", "[");
    for (i = 0; i < TAI_PREDICT_BINS; i++) {
        if (p->weights[i] != 0) {
            tai_json_begin(w, NULL, "{");
            tai_json_u64(w, "size_max_bytes", tai_bin_size(p, i));
            tai_json_u64(w, "weight", p->weights[i]);
            tai_json_end(w, "}");
        }
    }
    tai_json_end(w, "]");
    tai_json_end(w, "}");
}

/* What a site has learned. One that is being used is waited for, but not for long: it may be the caller's. */
static TAI_COLD void tai_snap_site(tai_snap *s, ta_dynamic *d, uint32_t index)
{
    tai_writer *w = &s->writer;
    tai_predictor predictor;
    const void *config = NULL;
    uintptr_t number = 0, busy = 1;
    int round, is_live = 0, is_predictor = 0;
    for (round = 0; round < 100 && busy != 0; round++) {
        tai_gate_enter(&d->common.gate, NULL);
        is_live = index < d->sites.end && tai_site_at(d, index)->link.state == TAI_LIVE;
        busy = is_live ? tai_site_at(d, index)->busy : 0;
        if (is_live) {
            number = tai_site_at(d, index)->link.addr;
            if (busy == 0) {
                is_predictor = tai_site_at(d, index)->full_size;
                config = tai_site_at(d, index)->strategy.config;
                memcpy(&predictor, tai_site_at(d, index)->state, sizeof predictor);
            }
        }
        tai_gate_leave(&d->common.gate, NULL);
        if (busy != 0) {
            TAI_WAIT_A_MOMENT();
        }
    }
    if (!is_live) {
        return;
    }
    tai_json_begin(w, NULL, "{");
    tai_json_u64(w, "index", index);
    tai_json_hex(w, "number", (uint64_t)number);
    tai_json_bool(w, "busy", busy != 0);
    if (busy == 0 && is_predictor) {
        tai_snap_predictor(w, &predictor, (const ta_predictive_config *)config);
    }
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_dynamic(tai_snap *s, ta_dynamic *d)
{
    static const tai_field options[] = {
        TAI_FIELD(ta_dynamic_desc, SIZE, capacity_bytes_max) TAI_FIELD(ta_dynamic_desc, SIZE, cached_bytes_max)
        TAI_FIELD(ta_dynamic_desc, SIZE, range_bytes_min) TAI_FIELD(ta_dynamic_desc, SIZE, range_bytes)
        TAI_FIELD(ta_dynamic_desc, SIZE, unbounded_bytes) TAI_FIELD(ta_dynamic_desc, SIZE, handle_count_max)
        TAI_FIELD(ta_dynamic_desc, BOOL, disable_ranges) TAI_FIELD(ta_dynamic_desc, BOOL, strict)
        TAI_FIELD(ta_dynamic_desc, BOOL, single_threaded)
    };
    tai_writer *w = &s->writer;
    ta_failure failure;
    uint32_t i, end;
    tai_json_begin(w, "options", "{");
    TAI_FIELDS(w, &d->desc, options);
    tai_json_text(w, "strategy", d->desc.strategy.vtable->name);
    tai_json_end(w, "}");
    (void)ta_dynamic_get_failure(d, &failure);
    tai_snap_failure(w, &failure);
    if (d->common.disposed) {
        return;
    }
    tai_gate_enter(&d->common.gate, NULL);
    end = d->handles.end;
    tai_gate_leave(&d->common.gate, NULL);
    tai_json_begin(w, "handles", "[");
    for (i = 1; i < end && w->result == TA_OK; i++) {
        tai_snap_handle(s, d, i);
    }
    tai_json_end(w, "]");
    tai_gate_enter(&d->common.gate, NULL);
    end = d->sites.end;
    tai_gate_leave(&d->common.gate, NULL);
    tai_json_begin(w, "sites", "[");
    for (i = 1; i < end && w->result == TA_OK; i++) {
        tai_snap_site(s, d, i);
    }
    tai_json_end(w, "]");
}

static TAI_COLD void tai_snap_allocator(tai_snap *s, ta_allocator allocator)
{
    tai_writer *w = &s->writer;
    ta_device device;
    ta_stats stats;
    tai_face face, upstream;
    tai_face_of(allocator, &face);
    memset(&device, 0, sizeof device);
    tai_json_key(w, NULL);
    w->follows = 0;
    tai_put(w, "\n{", 2);
    tai_json_text(w, "kind", allocator.vtable->kind);
    if (face.gate != NULL) {
        tai_json_hex(w, "id", face.id);
        tai_json_text(w, "name", face.name);
        tai_json_bool(w, "disposed", face.disposed);
    }
    if (face.budget != NULL) {
        tai_json_hex(w, "budget", tai_budget_id(face.budget));
    }
    if (allocator.vtable->device(allocator.self, &device) == TA_OK) {
        tai_snap_device(w, device);
    }
    if (allocator.vtable->stats(allocator.self, &stats) == TA_OK) {
        tai_snap_stats(w, &stats);
    }
    if (face.pool != NULL) {
        tai_snap_pool(w, face.pool);
    }
    if (face.gate != NULL && !face.disposed && !s->desc->disable_blocks) {
        tai_snap_blocks(s, &face, allocator.self);
    }
    if (face.dynamic != NULL) {
        tai_face_of(face.dynamic->upstream, &upstream);
        if (upstream.gate != NULL) {
            tai_json_hex(w, "upstream", upstream.id);
        }
        tai_snap_dynamic(s, face.dynamic);
    }
    tai_json_end(w, "}");
}

/* The pool of a dynamic, unless it is in the list as well. */
static TAI_COLD void tai_snap_own_pool(tai_snap *s, const ta_dynamic *d, const ta_allocator *allocators, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) {
        if (allocators[i].self == d->pool) {
            return;
        }
    }
    tai_snap_allocator(s, ta_pool_allocator(d->pool));
}

static TAI_COLD void tai_snap_event(void *user, const ta_event *event)
{
    static const tai_field fields[] = {
        TAI_FIELD(ta_event, PTR, ptr) TAI_FIELD(ta_event, SIZE, size_bytes) TAI_FIELD(ta_event, SIZE, capacity_bytes)
        TAI_FIELD(ta_event, HEX, stream) TAI_FIELD(ta_event, U64, time_ns) TAI_FIELD(ta_event, U32, thread)
        TAI_FIELD(ta_event, TEXT, name) TAI_FIELD(ta_event, TEXT, tag)
    };
    tai_writer *w = (tai_writer *)user;
    if (w->result != TA_OK) {
        return;
    }
    tai_json_begin(w, NULL, "{");
    tai_json_text(w, "kind", tai_event_word((uint32_t)event->kind));
    TAI_FIELDS(w, event, fields);
    if (event->kind == TA_EVENT_ALLOC) {
        tai_json_bool(w, "hit", event->hit);
    }
    if (event->kind == TA_EVENT_FAILURE || event->kind == TA_EVENT_MISUSE) {
        tai_json_text(w, "result", ta_result_text(event->result));
    }
    tai_json_end(w, "}");
}

static TAI_COLD void tai_snap_open(tai_snap *s, const ta_snapshot_desc *desc, ta_write_fn write, void *user)
{
    size_t room = desc->scratch_bytes, front = (size_t)(0 - (uintptr_t)desc->scratch) & (sizeof(uint64_t) - 1);
    tai_writer_open(&s->writer, write, user);
    s->desc = desc;
    s->shots = s->stack;
    s->room = TAI_SHOTS;
    room = desc->scratch == NULL || room < front ? 0 : (room - front) / sizeof(tai_shot);
    if (room > TAI_SHOTS) {
        s->shots = (tai_shot *)(void *)((char *)desc->scratch + front);
        s->room = room > 0x7fffffff ? 0x7fffffffu : (uint32_t)room;
    }
}

TENSORALLOC_DEF TAI_COLD ta_result ta_snapshot_write(const ta_allocator *allocators, size_t count,
                                                     const ta_snapshot_desc *desc, ta_write_fn write, void *user)
{
    ta_snapshot_desc zero;
    tai_snap snap;
    tai_face face;
    size_t i;
    if ((allocators == NULL && count != 0) || write == NULL) {
        return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
    }
    for (i = 0; i < count; i++) {
        if (!tai_allocator_ok(allocators[i])) {
            return TAI_BAD(TA_ERROR_INVALID_ARGUMENT);
        }
        tai_face_of(allocators[i], &face);
        if (face.forked) {
            return TA_ERROR_FORKED;
        }
    }
    memset(&zero, 0, sizeof zero);
    tai_snap_open(&snap, desc != NULL ? desc : &zero, write, user);
    tai_json_begin(&snap.writer, NULL, "{");
    tai_json_text(&snap.writer, "format", "tensoralloc-snapshot");
    tai_json_u64(&snap.writer, "version", 1);
    tai_json_u64(&snap.writer, "library", TENSORALLOC_VERSION);
    tai_json_u64(&snap.writer, "time_ns", TENSORALLOC_WALL_CLOCK_NS());
    tai_json_u64(&snap.writer, "monotonic_ns", TENSORALLOC_CLOCK_NS());
    tai_snap_budgets(&snap.writer, allocators, count, 1);
    tai_snap_budgets(&snap.writer, allocators, count, 0);
    tai_json_begin(&snap.writer, "allocators", "[");
    for (i = 0; i < count && snap.writer.result == TA_OK; i++) {
        tai_face_of(allocators[i], &face);
        tai_snap_allocator(&snap, allocators[i]);
        if (face.dynamic != NULL && face.dynamic->pool != NULL) {
            tai_snap_own_pool(&snap, face.dynamic, allocators, count);
        }
    }
    tai_json_end(&snap.writer, "]");
    if (snap.desc->trace != NULL) {
        tai_json_begin(&snap.writer, "events", "[");
        (void)ta_trace_for_each(snap.desc->trace, tai_snap_event, &snap.writer);
        tai_json_end(&snap.writer, "]");
    }
    tai_json_end(&snap.writer, "}");
    tai_put(&snap.writer, "\n", 1);
    return tai_writer_flush(&snap.writer);
}

/* Private macros end here. */
#undef TAI_ADDRESS_SANITIZER
#undef TAI_ALERTS
#undef TAI_ALIGNMENT_MAX
#undef TAI_ALL_HEAPS
#undef TAI_ASSERT
#undef TAI_BAD
#undef TAI_BINS
#undef TAI_BLOCK_COUNT_DEFAULT
#undef TAI_BUMP32
#undef TAI_BUMP64
#undef TAI_BUMP_IN_PLACE
#undef TAI_CHECKED
#undef TAI_CLASS_MAX
#undef TAI_COLD
#undef TAI_COMMON_STREAMS
#undef TAI_CUDA_CALL
#undef TAI_CU_CHUNK_MAX
#undef TAI_CU_FILL
#undef TAI_CU_LIST
#undef TAI_CU_MEMBER
#undef TAI_DEAD
#undef TAI_DEAD_BYTES
#undef TAI_DROP64
#undef TAI_DTYPE_BYTES
#undef TAI_FIELD
#undef TAI_FIELDS
#undef TAI_FLUSH_COUNT
#undef TAI_FULL_CHECK
#undef TAI_GRAVES
#undef TAI_HAS_VM
#undef TAI_HIDE
#undef TAI_HIDES
#undef TAI_HELD_BYTES
#undef TAI_HOST_DISCARD
#undef TAI_HOST_GRANULARITY
#undef TAI_HUGE_PAGE_BYTES
#undef TAI_INLINE
#undef TAI_INVARIANT
#undef TAI_LARGE_WINDOW_BYTES
#undef TAI_LIKELY
#undef TAI_LOCK_ACQUIRE
#undef TAI_LOCK_INIT
#undef TAI_LOCK_RELEASE
#undef TAI_MAP_ANONYMOUS
#undef TAI_MAP_NORESERVE
#undef TAI_NEVER
#undef TAI_NOINLINE
#undef TAI_NO_SLOTS
#undef TAI_NO_SLOTS_8
#undef TAI_OS_NONE
#undef TAI_OS_POSIX
#undef TAI_OS_WINDOWS
#undef TAI_PASSING_BATCHES
#undef TAI_PATIENCE
#undef TAI_EARLY_NS
#undef TAI_RINGS
#undef TAI_PAUSE
#undef TAI_POISON
#undef TAI_PUT
#undef TAI_RANGE_BITS
#undef TAI_RED
#undef TAI_RED_BYTES
#undef TAI_RED_END
#undef TAI_REFILL_BYTES
#undef TAI_REPORTS_MAX
#undef TAI_RESULT_TEXT
#undef TAI_ROOM_BITS
#undef TAI_ROOM_SMALL_BYTES
#undef TAI_ROOM_TIMES
#undef TAI_SHOTS
#undef TAI_SOURCES
#undef TAI_SHOW
#undef TAI_SHOW_ZEROED
#undef TAI_STREAK_FIRST
#undef TAI_STREAK_MAX
#undef TAI_STREAM_EVENTS
#undef TAI_RIGHT_SHARED
#undef TAI_STREAM_GRAPHS
#undef TAI_GRAPHS
#undef TAI_SUBS
#undef TAI_TAG_COUNT
#undef TAI_TAG_SOURCE
#undef TAI_THREAD_EXIT_CALL
#undef TAI_THREAD_INDEX
#undef TAI_THREAD_SANITIZER
#undef TAI_THREAD_SLOTS
#undef TAI_TICKS_OF_PROCESSOR
#undef TAI_TINY_BYTES
#undef TAI_TORCH_DEVICES
#undef TAI_TRACE_COUNT_DEFAULT
#undef TAI_TRACE_LINE
#undef TAI_UNITS_MAX
#undef TAI_UNLIKELY
#undef TAI_UNPOISON
#undef TAI_VALGRIND
#undef TAI_WAIT_A_MOMENT
#undef TAI_WALK_BATCH
#undef TAI_WRITER_BYTES
#undef tai_arena_fill
#undef tai_arena_fill_popped
#undef tai_arena_look
#undef tai_arena_look_all
#undef tai_arena_set_fill_end
#undef tai_arena_unfill
#undef tai_buffer_blame
#undef tai_bury
#undef tai_common_blame
#undef tai_common_bury
#undef tai_common_paint
#undef tai_direct_close
#undef tai_direct_front
#undef tai_direct_look
#undef tai_direct_paint
#undef tai_dynamic_look
#undef tai_gate_enter_hot
#undef tai_gate_leave_hot
#undef tai_guard_check
#undef tai_guard_close
#undef tai_guard_held
#undef tai_guard_hold
#undef tai_guard_is_on
#undef tai_guard_look
#undef tai_guard_mark_gone
#undef tai_guard_padded
#undef tai_guard_paint
#undef tai_guard_release
#undef tai_guard_take
#undef tai_pool_blame
#undef tai_pool_told
#undef tai_process_id
#undef tai_range_kill
#undef tai_range_revive
#undef tai_thread_index_delete
#undef tai_thread_index_make
#undef tai_thread_list
#undef tai_thread_make
#undef tai_thread_slots
#undef tai_thread_unmake

#endif /* TENSORALLOC_IMPLEMENTATION_ONCE */
#endif /* TENSORALLOC_IMPLEMENTATION */

/*=========================================================================================================
  [TA:MANUAL]

  1. How the pool works
     Requests up to thread_cache_block_bytes (64 KiB) are rounded to size classes (8 per doubling) and served
     from the calling thread's cache: a stack of records per class. A hit takes no lock and no atomic
     read-modify-write. What a cache holds is bounded by thread_cache_bytes (2 MiB) per thread, counts as
     cached, and goes back when the thread exits or calls ta_pool_thread_flush. Where one thread frees what
     another allocates, blocks pass from cache to cache in batches; up to half of thread_cache_bytes may be on
     the way, and goes back when any thread exits, flushes or trims. Larger requests, and what caches
     do not have, go to a heap: best fit, lowest address among equals, free neighbours merged at once, and the
     end of the range taken only if nothing else fits. So placement is a function of the set of live blocks
     alone: a training step that repeats comes back to the same addresses, and reserved stays within a few
     percent of the live peak. There are three heaps, each with its own address range: up to 1 KiB, up to
     thread_cache_block_bytes, and above. Blocks that sit in thread caches therefore never stand between large
     blocks. (A backend with one bounded range has one heap for all sizes.) Records of blocks lie outside the
     managed memory, which is never read or written (but for zeroing): host and device share all code, and a
     buffer overflow in your program cannot break the heap.

  2. Threads
     ta_pool, ta_arena, ta_direct, ta_budget: any thread, any function, at any time, except where a function
     says "no other thread may be in a call" (clear, check, dispose, destroy). With single_threaded: one thread
     at a time. The short lock of a pool leans to the thread that uses it most: that thread enters with plain
     stores, others withdraw the favour first (a barrier on all threads: membarrier, FlushProcessWriteBuffers;
     where there is none, nobody is favoured). It is never held while a backend or a callback runs, so callbacks
     may use the pool that calls them. Freeing in another thread than the one that allocated is normal: the
     block goes to the freeing thread's cache, which is bounded. Threads that are still in a call when
     ta_pool_destroy runs: undefined. Threads that are not, but used the pool before, may exit at any time, also
     at that very moment.

  3. Processes
     After fork a child may use only allocators that it creates: older ones answer TA_ERROR_FORKED, since a
     thread of the parent may have been inside them. Single-threaded ones over host memory go on working. At exit
     nothing runs. Before dlclose of a library that contains the implementation: destroy the pools, end the
     threads, call ta_process_detach. Two copies of the implementation in one program (TENSORALLOC_STATIC in two
     libraries) can share a pool.

  4. Limits and running out of memory
     A limit belongs to a budget; several allocators over one budget share it. reserved never exceeds it, not
     for a moment. When memory is needed and the budget or the backend says no, the pool climbs a ladder: this
     thread's caches, blocks that wait for other streams, free memory of siblings over the same budget, its own
     free pages, on_out_of_memory, and then the error. The result says why:
       TA_ERROR_LIMIT          the budget is used up: free something, or raise it
       TA_ERROR_OUT_OF_MEMORY  the backend refused: ta_failure.backend_code has its own code, if it tells one
       TA_ERROR_FRAGMENTED     enough bytes are free in a bounded backend, but not in one piece
       TA_ERROR_RECORDS        no memory or room for bookkeeping: raise block_count_max
     What caches of other threads hold (thread_cache_bytes each) cannot be taken from them. ta_pool_get_failure
     keeps the last failure, ta_failure_report makes a sentence of it. On failure nothing has changed, in any
     function. ta_failure.verdict is finer than the result: it tells memory that is there, and only in the wrong place,
     from memory that has to be found (TA_VERDICT_LIST, in the order in which they are looked for), action and
     action_bytes what would have made this request succeed. Free memory in pieces is said with the cheapest place for
     the request: blocking_ptr, and how much of what tag would have to go from there.

  5. Giving memory back
     Nothing goes back by itself, except above cached_bytes_max, and when one heap grows while another is mostly
     idle and the pool would take notably more than it ever needed. ta_pool_trim gives whole free pages back,
     the highest first, anywhere; their addresses are committed again when the heap needs them (counted as
     miss_recommit_count). Segments go back whole.

  6. Streams
     Backends without TA_CAP_ORDERED (the host) ignore streams. With it a freed block is reused at once on its
     home stream (work there is in order), by others only after the work is known to be finished, or with a wait
     that the device carries out (stealing). Work on another stream that uses a block is announced with
     ta_pool_record_use before the block is freed. Arenas do not follow streams: after a rewind or reset the
     next user's stream must be ordered after the last one's; memory goes back to the backend only after all
     work.

  7. CUDA
     ta_cuda_create opens a device; ta_cuda_backend is its backend for any pool, arena, dynamic or budget: the same
     calls as for host memory, plus a stream (ta_pool_alloc_stream, ta_request.stream). Nothing is linked, no context is
     made before memory is needed, and nothing is called at process exit. A block that is freed may be used again at
     once on its own stream; other streams that used it are announced with ta_pool_record_use, or it is freed with
     ta_pool_free_after and an event of yours. Before a stream is destroyed call ta_pool_retire_stream: the driver
     gives handles out again. Streams are those of the device's primary context, which the CUDA runtime and PyTorch
     use too. While a stream is being captured into a graph allocation on it comes from a graph pool (chapter 13), or is
     TA_ERROR_CAPTURE: a replay would use the memory long after it was freed. Each allocation asks for that (one driver
     call); TA_CAPTURE_SCOPES_ONLY leaves the question out while no scope is open. After an error that ends the context
     (ta_cuda_info.is_lost) frees succeed and nothing else does.

  8. Your own backend
     A pool over segments takes them in pieces of 256 KiB (blocks up to 1 KiB), 1 MiB (up to 64 KiB) and 16 MiB
     (above), less only if the backend or the budget refuses; larger blocks get one of their own. They go back
     when wholly free. What a backend refuses to take back stays reserved and is offered again by the next trim.
     Fill a ta_backend_vtable; each entry's contract stands at its declaration, ta_backend_check looks for gaps.
     Segments are enough; with ranges the heap grows in place. ta_backend_fixed carves a buffer of yours;
     ta_backend_upstream takes segments from any allocator.

  9. Bad calls
     Foreign, interior, stale and doubly freed pointers get their result code and change nothing, in all builds,
     as long as the place was not handed out again; ta_buffer carries a generation and is told apart even then.
     Two threads that free one block at the very same moment are told apart for certain with
     TENSORALLOC_CHECKED; without it the block may end up in two caches.
     A checked build (TENSORALLOC_CHECKED where the implementation is compiled) finds more, at the price of speed and
     of some memory, and tells of it: TA_EVENT_MISUSE to on_event, a sentence with the allocator's name, the size,
     the address and the tag to TENSORALLOC_LOG, then TENSORALLOC_TRAP, and the result of the call.
       TA_ERROR_OVERRUN, _UNDERRUN   on the host every block ends in a red zone of 64 bytes or more, so capacity is
                                     what was requested. Looked at by free, resize, rewind, reset, check, dispose and
                                     destroy; a damaged block stays live. Bytes in front of the first block of a range
                                     are not seen.
       TA_ERROR_USE_AFTER_FREE       freed blocks are filled (the first 64 MiB of each) and held back, 16 MiB of
                                     them: their addresses are not given out again meanwhile, and a second free is
                                     TA_ERROR_STALE for certain. A write is seen when the block leaves, and by
                                     ta_pool_check; dispose and destroy answer it, too. Arenas are filled where they are
                                     rewound, ranges of tensors while they are warm. Memory that the host does not reach
                                     only with TENSORALLOC_CHECKED=2: zeros, read back.
       TA_ERROR_LEAK                 from the destroy of a pool, direct or dynamic allocator with live blocks, each of
                                     them told (64 at most). It is gone all the same. Clear or dispose before, if you
                                     mean it.
       TA_ERROR_DISPOSED             also after destroy, as long as the object is among the last 64 of them.
     There are no thread caches then, red zones count as in use and wasted, blocks held back as cached; out of memory,
     or asked for what is cached, the pool lets them go.

  10. Tensors that grow
     ta_dynamic_alloc takes bounds: min, expected and max of each dimension; the maximum may be unbounded. A tensor
     whose maximum reaches range_bytes_min gets addresses for its maximum (for an unbounded one as many as the
     machine has memory), carved out of one large reservation, and memory for what it needs: resizing it within
     them never moves and never copies, so pointers to it, in CUDA graphs too, stay good. On systems where memory
     comes at the first touch (POSIX) growth is not even a system call. Smaller ones are blocks of a pool at full
     size; with disable_ranges, backends without ranges or an upstream of yours they are blocks that move with a
     copy when they outgrow their capacity: ta_handle_info.in_place_bytes and ta_dynamic_will_fit_in_place tell.
     A resize preserves the first min(old, new) bytes: with row-major tensors whole elements, at the same indices
     only if nothing but the first dimension changed. To grow the second dimension and keep the indices, make it
     the first one.
     How much capacity a tensor has is its strategy's affair. The default one learns the sizes that occur, in under
     200 bytes for each tensor or each site (a number that you give to the places in your program that make
     tensors): a range gives memory back that fewer than one use in eight needs; a block is as large as pays; a
     tensor that grows until it is freed (TA_DYNAMIC_GROWING, a cache of tokens) grows in the steps that its
     predecessors needed. What is predicted never exceeds the declared maximum. Freed ranges stay warm: the next
     tensor with similar bounds takes one over with its pages. They count as cached and go back when a limit is
     reached, and by ta_allocator_empty_cache. When a limit is reached the headroom of other tensors goes as well, as
     far as it is needed. A site is for one kind of tensor: sizes of one order, growing or not. A growing tensor in a
     range takes what each step needs; growing matters for blocks. Unless strict, a shape beyond the declared maximum
     is granted as a size of its own: limits bind then.
     Bounds may name symbols (ta_symbol): numbers that several bounds share, held once.

  11. Seeing memory
     ta_snapshot_write writes what is known of allocators as JSON: its members are described where it is declared.
     Blocks are looked at 64 at a time, or with scratch as many as it holds, inside the gate (25 ns for each); they are
     written outside of it. So other threads go on, the sink may use the allocators, and what is written is exact when
     nobody else is in a call. bench/memory_viz.py turns a snapshot, with the events of a trace if there are any, into
     what https://pytorch.org/memory_viz reads.

  12. Where the specified names live
     IMemoryAllocator: Allocate, Free, CacheSize, AllocatedSize, EmptyCache, Device, Dispose
                          ta_allocator_alloc_buffer, _free_buffer, ta_stats.cached_bytes, .reserved_bytes,
                          _empty_cache, _get_device, _dispose
     IMemoryBuffer: Size, IsValid, Dispose
                          ta_buffer.size_bytes, ta_allocator_check_buffer, ta_allocator_free_buffer
     TensorAllocator, PoolAllocator: init, deinit, allocator, alloc(T, n), free, clear, getStats, Config
                          ta_pool_create, _destroy, _allocator, TA_POOL_NEW, _free, _clear, _get_stats, ta_pool_desc /
                          ta_pool_desc_spec
     BufferPool: get, getAligned, getOrAlloc, put, putAligned, clear, buckets 0 to 20
                          ta_pool_get, _get_aligned, _get_or_alloc, _put, _put_aligned, _clear, _get_bucket_stats
     std.mem.Allocator: alloc, resize, remap, free
                          ta_allocator_alloc, _resize_in_place, _remap, _free
     ArenaAllocator: init, deinit, allocator, alloc, reset
                          ta_arena_create, _destroy, _allocator, TA_ARENA_NEW, _reset, and _get_mark, _rewind
     computeStrides, tensor layout, alignment by type
                          ta_strides_row_major, ta_tensor, ta_dtype_alignment
     ShapeBounds: MinShape, MaxShape, ExpectedShape, CalculateMaxElements, CalculateExpectedElements, Contains
                          ta_shape_bounds, ta_shape_bounds_get_sizes, ta_shape_bounds_contains
     PredictiveAllocator, IDynamicMemoryAllocator: Allocate, Resize, Free, GetAllocationStats, UpdateExpectations,
     PaddingFactor, MaxCapacity
                          ta_dynamic_alloc, _resize, _free, _get_stats, _observe, ta_strategy_padding and
                          ta_adaptive_config, ta_dynamic_desc.capacity_bytes_max
     MemoryHandle: Pointer, CapacityBytes, CurrentShape, ShapeBounds, AllocationTime, Resize, GetEffectiveSize,
     GetUtilization       ta_handle; ta_dynamic_get_data, ta_handle_info, ta_dynamic_resize
     IPaddingStrategy: CalculateRequiredSize, ShouldResize; AdaptivePaddingStrategy: GrowthFactor, ShrinkThreshold
                          ta_strategy_vtable; ta_strategy_adaptive, ta_adaptive_config
     AllocationStats: TotalAllocations, TotalResizes, TotalBytesAllocated, TotalBytesWasted, AverageUtilization,
     ToReport
                          ta_dynamic_stats: allocation_count, resize_count, allocated_bytes, wasted_bytes,
                          average_utilization; ta_dynamic_report
     ICUDAMemoryAllocator, GraphCompatibleMemoryAllocator: Allocate, Free, GraphPool, IsGraphMode, SetGraphMode,
     ResetGraphPool, GetStats, Dispose
                          ta_pool_alloc_stream, ta_pool_free, ta_pool_set_graph_pool / _get_graph_pool,
                          ta_pool_is_graph_mode, ta_pool_set_graph_mode, ta_graph_pool_reset, ta_pool_get_memory_usage,
                          ta_pool_dispose
     ConfigureForGraph, EnableGraphMode, DisableGraphMode, WithGraphMode
                          ta_pool_configure_for_graph, ta_pool_set_graph_mode; ta_with_graph_pool
     MemoryUsageStats: TotalAllocated, PoolSize, BlockCount, IsGraphMode, ToString
                          ta_memory_usage: in_use_bytes, reserved_bytes, block_count of base and graph, is_graph_mode;
                          ta_memory_usage_report
     WithGraphMemory, EnsureGraphCompatible
                          ta_tensor_with_graph_memory, ta_tensor_ensure_graph_compatible,
                          ta_tensor_is_graph_compatible

  13. CUDA graphs
     A graph repeats addresses. What a capture allocates comes from a graph pool beside the pool, for as long as a scope
     is open; the code that allocates does not change, and need not know. Order of calls: ta_capture_enter, begin
     capture, work, end capture, ta_capture_leave (failed or not), ta_graph_pool_attach, instantiate. Then the graph
     pool may be destroyed at once: its memory goes when the last executable has gone and its last replay is over.
       What a capture may use      its own allocations; memory allocated from the graph pool before; anything eager that
                                   is held: ta_pool_record_use or ta_graph_pool_hold, ta_graph_pool_hold_handle for
                                   tensors that grow, ta_tensor_ensure_graph_compatible for tensors. A block that is
                                   freed on a captured stream is held by itself.
       Reuse within a capture      at once on the same stream; not on forked ones: what they used is announced with
                                   ta_pool_record_use, as ever, and waits for the end of the capture.
       Reuse by later captures     everything that is free when a capture begins; replays must then be in order
                                   (share_sequential). Memory that is live (outputs) is no graph's but its own.
       No driver calls             but questions about the capture, when enough is reserved: ta_capture_report
                                   .reserve_bytes after a first try, ta_graph_pool_reset, ta_graph_pool_reserve, and
                                   capture again. Else it grows; it never waits, unmaps or frees in a capture, and asks
                                   nobody to give back: TA_ERROR_LIMIT or _OUT_OF_MEMORY then, with missing_bytes.
       A failed capture            leave it with failed = 1: all its blocks are freed, pointers to them are stale.
       Several pools in a capture  pinned memory, another device: each has its own graph pool and scope.
     Without user objects (drivers before 11.3), or for graphs that the program hides: ta_graph_pool_retain while they
     live. Without either, what was captured is taken by ta_graph_pool_reset and _destroy alone, and by nothing else.
     An event of the program's (ta_pool_free_after) that was recorded in a capture cannot be asked and breaks it: for
     memory of graph pools it is not asked at all.

  14. Versions (semantic versioning at source level; the last ten)
     0.1.0  backends, CUDA and its graphs, budgets, pool, arena, direct, tensors, tensors with bounds, statistics

  tensoralloc.h is available under either of the two licences below; choose the one you prefer.

  ------------------------------------------------------------------------------
  ALTERNATIVE A - MIT License

  Copyright (c) the tensoralloc.h authors

  Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
  documentation files (the "Software"), to deal in the Software without restriction, including without limitation
  the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
  to permit persons to whom the Software is furnished to do so, subject to the following conditions:

  The above copyright notice and this permission notice shall be included in all copies or substantial portions of
  the Software.

  THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
  THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
  AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
  CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
  DEALINGS IN THE SOFTWARE.

  ------------------------------------------------------------------------------
  ALTERNATIVE B - Unlicense (public domain, www.unlicense.org)

  This is free and unencumbered software released into the public domain.

  Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software, either in source code
  form or as a compiled binary, for any purpose, commercial or non-commercial, and by any means.

  In jurisdictions that recognize copyright laws, the author or authors of this software dedicate any and all
  copyright interest in the software to the public domain. We make this dedication for the benefit of the public
  at large and to the detriment of our heirs and successors. We intend this dedication to be an overt act of
  relinquishment in perpetuity of all present and future rights to this software under copyright law.

  THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
  THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
  AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
  OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
  =======================================================================================================*/
