/* driver.h - private declarations of the software driver. README.md has the picture; each .c file says what it is
   about.

   Everything here is guarded by one lock, taken by driver_enter and released by driver_leave; only host callbacks,
   delays of workers and destructors of user objects run outside it. */
#ifndef DRIVER_H
#define DRIVER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_abi.h"
#include "tafake.h"

/* OBJECT_BYTES: room for a handle's object of a type that only one file knows. */
enum { OBJECT_BYTES = 384 };
enum { DEVICES_MAX = 4, CONTEXT_STACK_MAX = 16, LABEL_BYTES = 40, KERNEL_ARGUMENTS_MAX = 6, RANGES_MAX = 4 };

/* ---- handles (control.c): objects are never given back to the system, so a stale handle is recognised, not
   followed */
enum object_kind {
    OBJECT_CONTEXT, OBJECT_STREAM, OBJECT_EVENT, OBJECT_MODULE, OBJECT_FUNCTION, OBJECT_POOL, OBJECT_PHYSICAL,
    OBJECT_GRAPH, OBJECT_NODE, OBJECT_EXEC, OBJECT_USER_OBJECT, OBJECT_KINDS
};
struct object {
    enum object_kind kind;
    int alive;
    struct object *next_free; /* the last one freed is reused first, as real drivers do */
    struct object *next;      /* all of this kind */
};

void *object_new(enum object_kind kind);
void object_free(void *object);
void *object_find(const void *handle, enum object_kind kind); /* null unless alive and of that kind */
struct object *object_first(enum object_kind kind);           /* alive ones only */
struct object *object_next(struct object *object);
uint64_t object_count(enum object_kind kind);

/* ---- vector clocks (order.c) */
struct clock { uint64_t *at; uint32_t count, capacity; };

void clock_free(struct clock *clock);
void clock_join(struct clock *into, const struct clock *from);
void clock_copy(struct clock *to, const struct clock *from);
uint64_t clock_tick(struct clock *clock, uint32_t agent);
int clock_within(const struct clock *clock, const struct clock *a, const struct clock *b); /* of both together */
int clock_covers(const struct clock *clock, uint32_t agent, uint64_t time);

/* ---- the happens-before checker (order.c) */
struct shadow; /* who accessed which bytes of some physical memory */
enum access_kind { ACCESS_READ, ACCESS_WRITE, ACCESS_FREE };
struct range { uint64_t address; size_t bytes; int write; };

uint32_t order_new_agent(void);
struct shadow *shadow_new(uint64_t bytes);
void shadow_free(struct shadow *shadow);
/* One access of `agent`, whose clock has been ticked for it; reports what it is not ordered after. */
void order_access(const struct clock *clock, uint32_t agent, enum access_kind kind, const char *label, uint64_t address,
                  size_t bytes);
void order_host(enum access_kind kind, const char *label, uint64_t address, size_t bytes);
void order_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void order_reset(void);

/* ---- physical memory, addresses, regions (memory.c) */
struct device {
    int memory_fd;
    uint32_t page_count, pages_used;
    uint8_t *page_taken;
    struct shadow *shadow;
    struct context *primary;
    struct pool *pool_default, *pool_current, *pool_graphs;
    struct slab *slabs;
};
/* One page of the device window. 0 in `device`: nothing mapped; else ordinal + 1. */
struct page {
    uint32_t physical;
    uint8_t device, follows_peers; /* peers by cuCtxEnablePeerAccess, not by access descriptors */
    uint8_t access[DEVICES_MAX];
};
enum region_kind { REGION_ALLOC, REGION_POOL, REGION_MAPPING, REGION_HOST, REGION_REGISTERED, REGION_MANAGED };
/* What the program knows by one base address. Device kinds lie in the device window, at their mirror; host kinds
   where the host sees them. A write-combined host allocation has a second region, for its device address. */
struct region {
    uint64_t address;
    size_t bytes;
    uint64_t id;
    enum region_kind kind;
    int device, second, suballocated;
    unsigned flags;
    struct context *context;
    char *mirror;
    struct shadow *shadow;
    uint64_t shadow_offset;
    uint64_t twin; /* write-combined: the other region's address */
    void *owner;   /* pool block or physical handle */
};

int memory_start(void);
void memory_stop(void);
uint64_t memory_page_bytes(void);
struct page *memory_page(uint64_t address);
int memory_in_window(uint64_t address, size_t bytes);
char *memory_mirror(uint64_t address);
uint64_t memory_used_bytes(void);
void memory_count(tafake_live *live);
size_t memory_free_bytes(int device);
/* Takes pages, together where possible; 0 if there are too few. */
int memory_take_pages(int device, uint32_t count, uint32_t *pages);
void memory_give_pages(int device, uint32_t count, const uint32_t *pages);
uint64_t memory_reserve(size_t bytes, size_t alignment, uint64_t hint); /* addresses; 0 if there are none */
void memory_unreserve(uint64_t address, size_t bytes);
int memory_map(uint64_t address, int device, uint32_t count, const uint32_t *pages);
void memory_unmap(uint64_t address, uint32_t count);
void memory_fill(uint64_t address, size_t bytes, uint64_t seed); /* garbage */
void memory_spoil(uint64_t address, size_t bytes); /* 0xDD: it has been freed */
struct region *region_add(enum region_kind kind, uint64_t address, size_t bytes, int device);
void region_remove(struct region *region);
struct region *region_find(uint64_t address); /* the one that holds it */
struct region *region_at(uint64_t address);   /* the one that starts there */
/* Where the driver finds these bytes for work on a device, or null: an illegal access. */
char *memory_access(int device, uint64_t address, size_t bytes, int write);
/* Calls back with the pieces of shadow below a range; 0 if part of it belongs to nobody. */
typedef void memory_piece(void *user, struct shadow *shadow, uint64_t offset, uint64_t address, size_t bytes);
int memory_pieces(uint64_t address, size_t bytes, memory_piece *piece, void *user);
uint64_t memory_owner_id(uint64_t address);
/* Whole pages or parts of one, for cuMemAlloc and pools. */
CUresult memory_new(struct context *context, int device, size_t bytes, uint64_t *address);
uint64_t memory_new_pages(int device, uint32_t count);
void memory_delete_pages(int device, uint64_t address, uint32_t count);
void memory_delete_context(struct context *context);

/* ---- contexts (contexts.c) */
struct context {
    struct object object;
    int device, primary;
    unsigned references, flags;
    CUresult lost; /* not 0: every call fails with it */
    struct stream *legacy;
    struct stream *streams; /* all, also the default ones */
    struct retired { struct clock clock; struct op **ops; uint32_t count, capacity; } retired[2]; /* gone streams */
};
struct thread {
    uint64_t generation;
    struct context *stack[CONTEXT_STACK_MAX];
    int depth;
    int id;
    int in_callback;
    CUstreamCaptureMode mode;
    char label[LABEL_BYTES];
};

struct thread *thread_now(void);
struct context *context_now(void); /* null: none */
CUresult context_of_device(int device);
int context_peers(int from, int to);
CUresult device_attribute(int *value, int attribute);
void contexts_reset(void);

/* ---- operations and schedulers (schedule.c) */
enum work_kind { WORK_NOTHING, WORK_SET, WORK_COPY, WORK_KERNEL, WORK_HOST, WORK_POOL_FREE, WORK_EXEC_END };
struct work {
    enum work_kind kind;
    CUgraphNodeType node_type;
    char label[LABEL_BYTES];
    uint64_t to, from;
    size_t bytes;
    uint32_t value, element_bytes;
    int to_pageable, from_pageable; /* host memory that the driver did not know when this was enqueued */
    void *staging; /* a copy of pageable memory, owned */
    const struct kernel *kernel;
    uint64_t arguments[KERNEL_ARGUMENTS_MAX];
    CUhostFn host;
    void *host_data;
    void *object; /* pool block, exec */
};
enum op_state { OP_PENDING, OP_RUNNING, OP_DONE };
struct op {
    struct op *next, *previous; /* pending ones, oldest first */
    uint64_t sequence, done_ns, visit;
    enum op_state state;
    int references, device;
    struct context *context;
    struct stream *stream; /* identity only: it may be gone */
    struct op **deps, **dependents;
    uint32_t dep_count, dep_capacity, dependent_count, dependent_capacity, waiting, ready_index;
    struct work work;
};
enum scheduler { SCHEDULER_LAZY, SCHEDULER_EAGER, SCHEDULER_RANDOM, SCHEDULER_THREADS };

struct op *op_new(struct context *context, struct stream *stream, const struct work *work);
void op_depend(struct op *op, struct op *on); /* null and done ones do not count */
void op_submit(struct op *op);                /* gives the caller's reference to the schedule */
struct op *op_keep(struct op *op);
void op_drop(struct op *op);
int op_done(const struct op *op); /* null is done */
void schedule_wait(struct op *op);
void schedule_poll(struct op *op); /* a query that found it pending: a little progress */
void schedule_progress(void);      /* some random progress, at each call under SCHEDULER_RANDOM */
int schedule_step(const struct stream *stream);
void schedule_all(void);
uint64_t schedule_pending(void);
void schedule_pump(void); /* after enqueueing: run at once under SCHEDULER_EAGER */
void schedule_start(void);
void schedule_stop(void);
void schedule_unlocked(CUhostFn function, void *data); /* calls back outside the lock */

/* ---- streams and events (streams.c) */
struct stream {
    struct object object;
    struct context *context;
    struct stream *next; /* in its context */
    unsigned flags;
    int is_default; /* the legacy one or a thread's; not destroyed by the program */
    int thread;     /* a per-thread default stream: whose */
    uint64_t id;
    uint32_t agent;
    struct clock clock;
    struct op *tail;
    struct capture *capture;
    uint32_t lane; /* within the capture */
    struct node **fringe; /* captured: what the next node depends on */
    uint32_t fringe_count, fringe_capacity;
};
struct event {
    struct object object;
    struct context *context;
    unsigned flags;
    struct op *op; /* the last record; null: never */
    struct clock clock;
    uint64_t capture_id; /* not 0: last recorded in that capture */
    struct node **nodes;
    uint32_t node_count;
};

CUresult stream_get(CUstream handle, struct stream **stream);
struct stream *stream_new(struct context *context, unsigned flags, int is_default);
void stream_delete(struct stream *stream);
void streams_delete(struct context *context);
uint64_t streams_count(void); /* those that the program made */
/* Enqueues; the stream must not be capturing. Returns the op, valid until the lock is released. */
struct op *stream_enqueue(struct stream *stream, const struct work *work);
/* As a work of the program: captured or enqueued. */
struct op *stream_enqueue_after(struct stream *stream, const struct work *work, struct op *after,
                                const struct clock *clock);
CUresult stream_submit(CUstream handle, struct work *work);
CUresult stream_start(CUstream handle, struct stream **stream); /* legality of any work on it */
void stream_wait(struct stream *stream); /* the host waits for all of it */
void context_wait(struct context *context);
uint32_t work_ranges(const struct work *work, struct range ranges[RANGES_MAX]);
/* Tells the checker of it; stream_id 0: a node of a graph. */
void work_check(const struct work *work, const struct clock *clock, uint32_t agent, uint64_t stream_id);
void work_label(struct work *work, const char *name);

/* ---- kernels (kernels.c) */
struct kernel {
    const char *name;
    uint32_t argument_count;
    uint32_t argument_bytes[KERNEL_ARGUMENTS_MAX];
    uint32_t (*ranges)(const uint64_t *arguments, struct range *ranges);
    void (*run)(const uint64_t *arguments, char *const *memory); /* one pointer for each range */
};
const struct kernel *kernel_find(const char *name);
void modules_reset(void);
CUresult work_run(const struct work *work, int device);

/* ---- pools (pools.c) */
struct block;
CUresult pool_alloc(struct pool *pool, size_t bytes, struct stream *stream, uint64_t *address);
CUresult pool_free_region(struct region *region, struct stream *stream); /* null stream: by the host */
void pool_trim_graphs(int device);
void pool_numbers(const struct pool *pool, uint64_t numbers[4]); /* used, its peak, reserved, its peak */
void pool_reset_high(struct pool *pool, int used);
/* For graphs: memory that stays with a graph; `clock` receives what its uses must be ordered after. */
struct block *pool_take(struct pool *pool, size_t bytes, struct clock *clock, uint64_t *address);
void pool_give(struct block *block, const struct clock *clock);
int pool_squeeze(int device);  /* gives back what is free, when memory runs out; 1 if anything */
void pool_observe_all(void);   /* the host has synchronised: memory above thresholds goes back */
struct pool *pool_for_graphs(int device);
uint64_t pool_program_pools(void);
struct pool *pool_of_region(const struct region *region);
void pools_reset(void);

/* ---- VMM (vmm.c) */
void vmm_reset(void);
void vmm_count(tafake_live *live);

/* ---- capture and graphs (capture.c, graphs.c) */
struct capture {
    struct capture *next;
    uint64_t id;
    CUstreamCaptureMode mode;
    CUstreamCaptureStatus status;
    int thread;
    struct stream *origin;
    struct graph *graph;
    uint32_t lanes;
};
struct node {
    struct object object;
    struct graph *graph;
    struct work work;
    uint32_t index, lane;
    struct node **deps;
    uint32_t dep_count;
};
void array_nodes(struct node ***to, uint32_t *to_count, struct node *const *from, uint32_t count);
CUresult capture_guard(const struct thread *thread); /* a call that is unsafe while capturing */
int capture_exposed(const struct thread *thread);    /* such a call would fail */
CUresult capture_legacy(struct context *context);    /* use of the legacy stream: invalidates */
int capture_blocks_legacy(const struct context *context);
void capture_invalidate(struct capture *capture);
int capture_invalidate_context(struct context *context);
struct capture *capture_by_id(uint64_t id);
uint64_t capture_count(void);
CUresult capture_add(struct stream *stream, struct work *work, struct node **node);
CUresult capture_record(struct stream *stream, struct event *event);
CUresult capture_wait(struct stream *stream, struct event *event);
void capture_forget_stream(struct stream *stream);
void event_forget_nodes(struct event *event);
void capture_reset(void);
struct graph *graph_new(int device);
void graph_delete(struct graph *graph);
struct node *graph_add(struct graph *graph, const struct work *work, struct node *const *deps, uint32_t count,
                       uint32_t lane);
/* 1 for each node that others of `fringe` come after, or that is in it; by index, to be freed by the caller. */
uint8_t *graph_ancestors(const struct graph *graph, struct node *const *fringe, uint32_t count);
CUresult graph_alloc(struct stream *stream, size_t bytes, uint64_t *address);
CUresult graph_free_node(struct stream *stream, struct region *region); /* a free that is captured */
CUresult graph_free_eager(struct region *region, struct stream *stream); /* null stream: by the host */
int graph_owns(const struct region *region);
void exec_finished(void *exec);
void graphs_settle(void);
void graphs_reset(void);

/* ---- control.c */
enum symbol {
#define SYMBOL(name, version, parameters) SYMBOL_##name,
    CUDA_FUNCTIONS(SYMBOL)
#undef SYMBOL
    SYMBOLS
};
enum {
    ENTER_BEFORE_INIT = 1,  /* legal before cuInit */
    ENTER_CONTEXT = 2,      /* needs a current context, one that is not lost */
    ENTER_UNSAFE = 4,       /* potentially unsafe while somebody captures */
    ENTER_CALLBACK = 8,     /* legal in host callbacks */
    ENTER_ALWAYS_LEGAL = 16 /* in captures; not counted as unrelaxed */
};
struct symbol_state {
    uint64_t calls, unrelaxed;
    uint64_t fail_in; /* calls until the one that fails; 0: none */
    uint64_t again;   /* calls from that one to another one that fails; 0: none */
    int code, for_ever, hidden;
};
struct config {
    uint64_t capacity, overhead, granularity, window, fill;
    int devices, version, peers, query_steps, recycle;
    enum scheduler scheduler;
    uint64_t seed;
    enum { ADDRESSES_LIFO, ADDRESSES_QUARANTINE, ADDRESSES_SCRAMBLE } addresses;
    uint64_t address_seed;
    int contiguous, free_waits, report;
    int attribute_count;
    struct { int attribute, value; } attributes[16];
};
struct driver {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int started, initialized, deinitialized, forked, in_reset;
    uint64_t generation, sequence, next_id;
    struct config config;
    struct device devices[DEVICES_MAX];
    struct clock host;
    struct capture *captures;
};
extern struct driver driver;
extern const int driver_version_built;

CUresult driver_enter(enum symbol symbol, unsigned flags);
CUresult driver_leave(CUresult result);
/* Body of an exported function: `call` runs only if the call is legal. */
#define DRIVER_CALL(name, flags, call) \
    do { \
        CUresult driver_result = driver_enter(SYMBOL_##name, flags); \
        if (driver_result == CUDA_SUCCESS) { driver_result = (call); } \
        return driver_leave(driver_result); \
    } while (0)
uint64_t random_next(uint64_t *state);
int device_valid(int device);
/* Grows an array by one place; stops the program when there is no memory: this is a test tool. */
void *array_grow(void *array, uint32_t count, uint32_t *capacity, size_t item_bytes);
void *need(void *memory);
uint64_t now_ns(void);

#endif /* DRIVER_H */
