/* tafake.h - the side channel of the software driver: what a test may ask of it beyond the CUDA driver interface.

   A real driver has none of these; driver_load (loader.h) leaves the members null there and tests skip. Every
   function may be called from any thread at any time and is not counted as a driver call. README.md of this
   directory explains the whole. */
#ifndef TAFAKE_H
#define TAFAKE_H

#include "cuda_abi.h"

/* How many of each the program holds; all 0 once everything has been given back. */
typedef struct tafake_live {
    uint64_t allocations;      /* cuMemAlloc, also what is live in pools */
    uint64_t host_allocations; /* cuMemHostAlloc, managed, registered */
    uint64_t reservations;     /* cuMemAddressReserve */
    uint64_t mappings;         /* cuMemMap */
    uint64_t handles;          /* cuMemCreate, not yet released by the program */
    uint64_t pools;            /* cuMemPoolCreate */
    uint64_t contexts;         /* retained primary ones and created ones */
    uint64_t streams, events, modules;
    uint64_t graphs, execs, user_objects;
    uint64_t captures;         /* begun, not ended */
    uint64_t pending;          /* operations enqueued and not yet run */
    uint64_t used_bytes;       /* physical device memory in use, over all devices, without context overhead */
} tafake_live;

/* X(result, name, parameters) */
#define TAFAKE_FUNCTIONS(X) \
    /* Everything back to the beginning (objects, memory, counters, reports), with TAFAKE_CONFIG and then `config`, \
       which may be null. What is pending is dropped. Whether cuInit was called is kept. No other thread may be in \
       the driver. 0, or -1: bad text. */ \
    X(int, tafake_reset, (const char *config)) \
    /* Changes settings in flight, all but the sizes and number of devices (cap, gran, window, devices), which only \
       a reset changes. 0, or -1 for a text that it does not understand. */ \
    X(int, tafake_configure, (const char *config)) \
    /* The n-th call from now (1 = the next) of `symbol` ("*" = of any) answers `code` and does nothing else; n = 0: \
       none. 0, or -1 for a symbol that the driver does not have. */ \
    X(int, tafake_fail, (const char *symbol, uint64_t n, int code)) \
    /* The n-th call from now, and the m-th after that one. */ \
    X(int, tafake_fail_twice, (const char *symbol, uint64_t n, uint64_t m, int code)) \
    /* As the first, and every later call too, until tafake_fail(symbol, 0, 0). */ \
    X(int, tafake_fail_from, (const char *symbol, uint64_t n, int code)) \
    /* Calls of `symbol` ("*" = of all) since the last tafake_calls_clear or reset; failed ones count. */ \
    X(uint64_t, tafake_calls, (const char *symbol)) \
    X(void, tafake_calls_clear, (void)) \
    /* Of those, the calls made while some capture was open by a thread that was not in relaxed mode, without the \
       calls that are always legal (capture status, capture mode, work on the capturing streams themselves). */ \
    X(uint64_t, tafake_calls_unrelaxed, (const char *symbol)) \
    /* Reports of the happens-before checker: how many, and the text of the first 64 (null beyond). */ \
    X(uint64_t, tafake_race_count, (void)) \
    X(const char *, tafake_race_text, (uint64_t index)) \
    X(void, tafake_races_clear, (void)) \
    /* Says that the host reads or writes pinned, registered or managed memory here, which the driver cannot see. */ \
    X(void, tafake_host_read, (const void *memory, size_t bytes)) \
    X(void, tafake_host_write, (void *memory, size_t bytes)) \
    /* Names what this thread enqueues from now on in reports; null ends that. The text is copied. */ \
    X(void, tafake_label, (const char *text)) \
    /* Runs one operation: the oldest of `stream` that may run (null: of any). 1 if one ran. */ \
    X(int, tafake_step, (CUstream stream)) \
    /* Runs everything that is pending, and waits for destructors of user objects. The host learns nothing by it: \
       for the checker nothing is ordered. */ \
    X(void, tafake_settle, (void)) \
    X(void, tafake_count_live, (tafake_live *live)) \
    /* Context loss: from now on the device's primary context answers `code` (e.g. 719), until it is reset. */ \
    X(void, tafake_lose_context, (CUdevice device, int code)) \
    /* As at process exit: from now on every call answers CUDA_ERROR_DEINITIALIZED, until tafake_reset. */ \
    X(void, tafake_deinitialize, (void)) \
    /* Hides a symbol from tafake_resolve (on = 1) or shows it again. */ \
    X(int, tafake_hide, (const char *symbol, int on)) \
    /* A resolver, for programs that take one: the function of that name, or null where unknown or hidden. */ \
    X(void *, tafake_resolve, (const char *symbol)) \
    /* This thread's capture mode; tests assert that it is CU_STREAM_CAPTURE_MODE_GLOBAL again. */ \
    X(int, tafake_capture_mode, (void)) \
    /* Reads or writes device memory as it is now, behind the back of streams and checker. 0, or -1 if nothing is \
       there. */ \
    X(int, tafake_peek, (void *to, CUdeviceptr from, size_t bytes)) \
    X(int, tafake_poke, (CUdeviceptr to, const void *from, size_t bytes)) \
    /* Whether the address lies in the window of device addresses, where the host must not touch it. */ \
    X(int, tafake_is_device_address, (CUdeviceptr address))

#define TAFAKE_PROTOTYPE(result, name, parameters) result name parameters;
TAFAKE_FUNCTIONS(TAFAKE_PROTOTYPE)
#undef TAFAKE_PROTOTYPE

#endif /* TAFAKE_H */
