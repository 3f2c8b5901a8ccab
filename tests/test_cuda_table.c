/* test_cuda_table.c - the driver's table: each function missing, each code that it can answer, functions that answer
   something odd, and two threads in the same place at the same time, which a function that calls back plays. */
#include "cuda.h"

#include <pthread.h>

enum { NAMES_MAX = 128 };
static const char *names[NAMES_MAX]; /* what the header asks for, in order */
static int name_count, hidden = -1;
static const char *replaced; /* this function is ours */
static void *replacement;

static void *resolve(void *user, const char *name)
{
    (void)user;
    if (hidden >= 0 && strcmp(name, names[hidden]) == 0) {
        return NULL;
    }
    return replaced != NULL && strcmp(name, replaced) == 0 ? replacement : fake.tafake_resolve(name);
}

static void *resolve_and_note(void *user, const char *name)
{
    names[name_count] = name;
    name_count += name_count < NAMES_MAX - 1;
    return resolve(user, name);
}

/* A function of the driver's as the table holds it, and back. */
#define AS_ADDRESS(function, address) memcpy(&(address), &(function), sizeof(address))

static ta_result open_with(ta_cuda_resolve_fn by, ta_cuda_kind kind, const char **why)
{
    ta_cuda_desc desc;
    ta_result result;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    desc.resolve = by;
    cuda = NULL;
    result = ta_cuda_create(&desc, &cuda, why);
    CHECK_EQ(cuda != NULL, result == TA_OK);
    return result;
}

/* A little of everything; what needs a function that is missing says so. */
static void use(void)
{
    static char mine[4096];
    ta_backend backend = ta_cuda_backend(cuda);
    uint32_t gone = 0;
    ta_result result = TA_OK;
    CUstream stream = stream_new();
    void *ptr, *more;
    pool = pool_new(cuda, NULL);
    ptr = ta_pool_alloc_zeroed(pool, 3 * MIB, &result);
    CHECK_OK(result);
    more = ta_pool_alloc_stream(pool, 3 * MIB, STREAM(stream), &result);
    CHECK_OK(result);
    CHECK_OK(ta_pool_record_use(pool, more, 0));
    ptr = ta_pool_realloc(pool, ptr, 9 * MIB, &result); /* copies */
    CHECK_OK(result);
    CHECK_OK(ta_pool_free(pool, more));
    CHECK_OK(ta_pool_free(pool, ta_pool_alloc_stream(pool, 3 * MIB, 2, &result))); /* whose thread it is */
    CHECK_OK(result);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_OK(ta_cuda_register(cuda, mine, sizeof mine));
    CHECK_OK(ta_cuda_unregister(cuda, mine));
    if (hidden >= 0 && strstr(names[hidden], "UserObject") != NULL) {
        CHECK_RESULT(backend.vtable->attach(backend.self, 4711, &gone), TA_ERROR_UNSUPPORTED);
        CHECK_EQ(gone, 1);
    }
    CHECK_OK(ta_pool_empty_cache(pool));
    check_books(pool);
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_cuda_destroy(cuda));
    OK(cu.cuStreamDestroy_v2(stream));
}

/* Without a function either everything works, or creation names it; and without a feature its kind is refused. */
static void every_function_missing(void)
{
    const char *why = NULL;
    int opened = 0, old = 0;
    if (!fake_open("sched=lazy;fill=4096")) {
        return;
    }
    name_count = 0;
    hidden = -1;
    CHECK_OK(open_with(resolve_and_note, TA_CUDA_DEVICE, &why));
    use();
    CHECK_GT(name_count, 50);
    for (hidden = 0; hidden < name_count && test_now.failures < 10; hidden++) {
        ta_result result = open_with(resolve, TA_CUDA_DEVICE, &why);
        test_context("without %s", names[hidden]);
        if (result == TA_OK) {
            ta_cuda_info info;
            CHECK_OK(ta_cuda_get_info(cuda, &info));
            CHECK_EQ(info.kind, info.has_ranges ? TA_CUDA_RANGES : TA_CUDA_SEGMENTS);
            CHECK_EQ(info.has_stream_ids, strcmp(names[hidden], "cuStreamGetId") != 0);
            opened++;
            use();
            result = open_with(resolve, TA_CUDA_RANGES, &why);
            CHECK_RESULT(result, info.has_ranges ? TA_OK : TA_ERROR_UNSUPPORTED);
            CHECK_OK(ta_cuda_destroy(cuda));
            result = open_with(resolve, TA_CUDA_ASYNC, &why);
            CHECK_RESULT(result, info.has_pools ? TA_OK : TA_ERROR_UNSUPPORTED);
            CHECK_OK(ta_cuda_destroy(cuda));
        } else {
            CHECK_RESULT(result, TA_ERROR_UNAVAILABLE);
            CHECK_TEXT("it is named", strstr(why, names[hidden]) != NULL ? "it is named" : why, "it is named");
            old++;
        }
    }
    test_context("%s", "");
    hidden = -1;
    CHECK_GT(opened, 15);
    CHECK_GT(old, 25);
    device_close();
    check_quiet();
    check_nothing_live();
}

/* Which codes end everything, and what each of them is called here. */
static void every_code(void)
{
    static const int lasting[] = {4, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719};
    int code;
    size_t i;
    for (code = 1; code < 1000 && test_now.failures < 10; code++) {
        ta_result result = TA_OK, want = TA_ERROR_BACKEND;
        ta_cuda_info info;
        ta_backend_error error;
        int lasts = 0;
        if (!fake_open("sched=lazy;fill=4096")) {
            return;
        }
        test_context("code %d", code);
        for (i = 0; i < sizeof lasting / sizeof lasting[0]; i++) {
            lasts |= lasting[i] == code;
        }
        want = code == 2 ? TA_ERROR_OUT_OF_MEMORY : code >= 900 && code <= 908 ? TA_ERROR_CAPTURE
               : code == 801 ? TA_ERROR_UNSUPPORTED : code == 600 ? TA_ERROR_NOT_READY : TA_ERROR_BACKEND;
        CHECK_OK(open_with(NULL, TA_CUDA_SEGMENTS, NULL));
        CHECK_EQ(fake.tafake_fail("cuMemAlloc_v2", 1, code), 0);
        {
            ta_backend backend = ta_cuda_backend(cuda);
            void *ptr = NULL;
            result = backend.vtable->alloc(backend.self, MIB, &ptr);
            CHECK_RESULT(result, want);
            backend.vtable->last_error(backend.self, &error);
        }
        CHECK_OK(ta_cuda_get_info(cuda, &info));
        CHECK_EQ(info.is_lost, lasts);
        CHECK_EQ(info.last_code, code == 600 ? 0 : code);
        CHECK_EQ(error.code, info.last_code);
        CHECK(error.text != NULL && error.text[0] != 0);
        CHECK_OK(ta_cuda_destroy(cuda));
        (void)cu.cuCtxSetCurrent(NULL);
        on.context = NULL;
        on.module = NULL;
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(""), 0);
}

/*---------------------------------------------------------------------------------------------------------
  Odd answers
  -------------------------------------------------------------------------------------------------------*/
static size_t odd_granularity;

static int granularity(size_t *bytes, const void *prop, int option)
{
    (void)prop;
    (void)option;
    *bytes = odd_granularity;
    return 0;
}

static void odd_granularities(void)
{
    static const size_t odd[] = {0, 128, 3000, 3 << 20};
    int (*function)(size_t *, const void *, int) = granularity;
    const char *why = NULL;
    size_t i;
    if (!fake_open("sched=lazy;fill=4096")) {
        return;
    }
    AS_ADDRESS(function, replacement);
    replaced = "cuMemGetAllocationGranularity";
    for (i = 0; i < 4; i++) {
        odd_granularity = odd[i];
        CHECK_RESULT(open_with(resolve, TA_CUDA_RANGES, &why), TA_ERROR_UNSUPPORTED);
        CHECK_STRING(why, "the driver or the device does not support this kind of memory");
    }
    odd_granularity = 2 * MIB;
    CHECK_OK(open_with(resolve, TA_CUDA_RANGES, &why));
    CHECK_OK(ta_cuda_destroy(cuda));
    replaced = NULL;
    device_close();
}

static int no_text(int code, const char **text)
{
    *text = NULL;
    return code >= 0 ? 0 : 1;
}

static int no_devices(int *count)
{
    *count = 0;
    return 0;
}

/* Success without what was asked for. */
static void empty_answers(void)
{
    int (*text)(int, const char **) = no_text;
    int (*count)(int *) = no_devices;
    ta_backend_error error;
    const char *why = NULL;
    if (!fake_open("sched=lazy;fill=4096")) {
        return;
    }
    AS_ADDRESS(text, replacement);
    replaced = "cuGetErrorString";
    CHECK_OK(open_with(resolve, TA_CUDA_DEVICE, &why));
    ta_cuda_backend(cuda).vtable->last_error(cuda, &error);
    CHECK_STRING(error.text, "unknown error");
    CHECK_OK(ta_cuda_destroy(cuda));
    AS_ADDRESS(count, replacement);
    replaced = "cuDeviceGetCount";
    CHECK_RESULT(open_with(resolve, TA_CUDA_DEVICE, &why), TA_ERROR_UNAVAILABLE);
    CHECK_STRING(why, "there is no CUDA device");
    replaced = NULL;
    device_close();
}

static void *on_the_default_of_another(void *ptr)
{
    ta_backend backend = ta_cuda_backend(cuda);
    char *at = (char *)ptr;
    size_t wrong = backend.vtable->zero(backend.self, at, 1000, 2) != TA_ERROR_UNSUPPORTED;
    wrong += backend.vtable->copy(backend.self, at, at + MIB, 1000, 2) != TA_ERROR_UNSUPPORTED;
    return (void *)wrong;
}

/* What the table says of streams that are captured, broken, of another thread, or that the driver is silent about. */
static void streams_that_cannot(void)
{
    ta_backend backend;
    CUstream stream;
    CUgraph graph = NULL;
    pthread_t id;
    void *wrong = NULL;
    char *ptr;
    uint64_t ticket = 0, capture = 99;
    if (!world_open("sched=lazy;fill=4096", TA_CUDA_SEGMENTS, NULL)) {
        return;
    }
    backend = ta_cuda_backend(cuda);
    stream = stream_new();
    ptr = (char *)ta_pool_alloc(pool, 3 * MIB, NULL);
    CHECK_OK(backend.vtable->zero(backend.self, ptr, 1000, 2)); /* whose stream it is now */
    CHECK_OK(backend.vtable->copy(backend.self, ptr, ptr + MIB, 1000, 2));
    CHECK_EQ(pthread_create(&id, NULL, on_the_default_of_another, ptr), 0);
    CHECK_EQ(pthread_join(id, &wrong), 0);
    CHECK_EQ((uintptr_t)wrong, 0);
    CHECK_OK(backend.vtable->mark(backend.self, 0, &ticket));
    OK(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK_OK(backend.vtable->capture(backend.self, STREAM(stream), &capture));
    CHECK_NE(capture, 0);
    CHECK_RESULT(backend.vtable->wait(backend.self, STREAM(stream), ticket), TA_ERROR_CAPTURE);
    CHECK_RESULT(backend.vtable->mark(backend.self, STREAM(stream), &capture), TA_ERROR_CAPTURE);
    CHECK_NE(cu.cuStreamSynchronize(stream), CUDA_SUCCESS); /* breaks it */
    CHECK_RESULT(backend.vtable->capture(backend.self, STREAM(stream), &capture), TA_ERROR_CAPTURE);
    CHECK_EQ(capture, 0);
    CHECK_NE(cu.cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
    CHECK_EQ(fake.tafake_fail_from("cuStreamGetCaptureInfo", 1, CUDA_ERROR_INVALID_VALUE), 0);
    CHECK_RESULT(backend.vtable->capture(backend.self, STREAM(stream), &capture), TA_ERROR_BACKEND);
    CHECK_RESULT(backend.vtable->capture(backend.self, 2, &capture), TA_ERROR_BACKEND);
    CHECK_EQ(fake.tafake_fail("cuStreamGetCaptureInfo", 0, 0), 0);
    backend.vtable->drop(backend.self, ticket);
    CHECK_OK(ta_pool_free(pool, ptr));
    OK(cu.cuStreamDestroy_v2(stream));
    world_close();
}

static void drivers_that_say_little(void)
{
    static const struct { const char *config; ta_cuda_kind kind; ta_result want; } cases[] = {
        {"devices=0", TA_CUDA_DEVICE, TA_ERROR_UNAVAILABLE}, {"version=10010", TA_CUDA_RANGES, TA_ERROR_UNSUPPORTED},
        {"version=10010", TA_CUDA_DEVICE, TA_OK}, {"version=11010", TA_CUDA_ASYNC, TA_ERROR_UNSUPPORTED},
        {"version=11020", TA_CUDA_ASYNC, TA_OK}, {"attr=102:0", TA_CUDA_RANGES, TA_ERROR_UNSUPPORTED},
        {"attr=115:0", TA_CUDA_ASYNC, TA_ERROR_UNSUPPORTED}, {"attr=83:0", TA_CUDA_MANAGED, TA_ERROR_UNSUPPORTED}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!driver_load() || fake.tafake_reset == NULL) {
            TEST_SKIP("this is not the software driver");
            return;
        }
        CHECK_EQ(fake.tafake_reset(cases[i].config), 0);
        test_context("%s, kind %d", cases[i].config, (int)cases[i].kind);
        CHECK_RESULT(open_with(NULL, cases[i].kind, NULL), cases[i].want);
        if (cuda != NULL) {
            pool = pool_new(cuda, NULL);
            CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, MIB, NULL)));
            /* old pools reuse memory wrongly on their own: they are told not to */
            CHECK_EQ(fake.tafake_calls("cuMemPoolSetAttribute"), cases[i].kind == TA_CUDA_ASYNC ? 2 : 0);
            world_end();
        }
    }
    test_context("%s", "");
    CHECK_EQ(fake.tafake_reset(""), 0);
}

/* Addresses that were never reserved; the backend's table is there for everybody. */
static void foreign_addresses(void)
{
    static char nowhere[64];
    ta_backend backend;
    void *ptr = nowhere;
    size_t size = 2 * MIB;
    if (!world_open("sched=lazy;fill=4096", TA_CUDA_RANGES, NULL)) {
        return;
    }
    backend = ta_cuda_backend(cuda);
    CHECK_OK(ta_pool_free(pool, ta_pool_alloc(pool, 3 * MIB, NULL)));
    fake.tafake_calls_clear();
    CHECK_RESULT(backend.vtable->commit(backend.self, ptr, size), TA_ERROR_OUT_OF_MEMORY);
    CHECK_RESULT(backend.vtable->decommit(backend.self, ptr, size), TA_ERROR_BACKEND);
    CHECK_RESULT(backend.vtable->release(backend.self, ptr, size), TA_ERROR_BACKEND);
    backend.vtable->pieces(backend.self, &ptr, &size);
    CHECK_EQ(size, 2 * MIB);
    CHECK_EQ(fake.tafake_calls("*"), 0);
    world_close();
}

static void bad_arguments(void)
{
    static char mine[64];
    ta_cuda_info info;
    ta_cuda_desc desc;
    if (!fake_open("sched=lazy;fill=4096")) {
        return;
    }
    TEST_ALLOW_ASSERTS();
    CHECK_OK(ta_cuda_create(NULL, &cuda, NULL)); /* the driver is found by its name: all-zero is the default */
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_EQ(info.kind, TA_CUDA_RANGES);
    CHECK_RESULT(ta_cuda_get_info(cuda, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_get_info(NULL, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_trim(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_register(cuda, NULL, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_register(cuda, mine, 0), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_register(NULL, mine, 64), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_unregister(cuda, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_unregister(NULL, mine), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_create(NULL, NULL, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_cuda_destroy(cuda));
    memset(&desc, 0, sizeof desc);
    desc.kind = (ta_cuda_kind)-1;
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, NULL), TA_ERROR_INVALID_ARGUMENT);
    desc.kind = (ta_cuda_kind)(TA_CUDA_MANAGED + 1);
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, NULL), TA_ERROR_INVALID_ARGUMENT);
    desc.kind = TA_CUDA_RANGES;
    desc.exportable = 1;
    CHECK_EQ(fake.tafake_fail("cuDeviceGetAttribute", 3, CUDA_ERROR_INVALID_VALUE), 0); /* whether it exports */
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, NULL), TA_ERROR_UNSUPPORTED);
    device_close();
    check_nothing_live();
}

/* Addresses that the driver would not take back, and then it is gone: they are forgotten. */
static void refused_and_lost(void)
{
    ta_backend backend;
    void *ptr = NULL;
    if (!fake_open("sched=lazy;fill=4096")) {
        return;
    }
    CHECK_OK(open_with(NULL, TA_CUDA_RANGES, NULL));
    backend = ta_cuda_backend(cuda);
    CHECK_OK(backend.vtable->reserve(backend.self, 64 * MIB, 0, 0, &ptr));
    CHECK_RESULT(ta_cuda_destroy(cuda), TA_ERROR_BUSY);
    CHECK_OK(backend.vtable->commit(backend.self, ptr, 4 * MIB));
    CHECK_EQ(fake.tafake_fail("cuMemAddressFree", 1, CUDA_ERROR_INVALID_VALUE), 0);
    CHECK_RESULT(backend.vtable->release(backend.self, ptr, 64 * MIB), TA_ERROR_BACKEND);
    CHECK_EQ(fake.tafake_fail_from("cuMemAddressFree", 1, CUDA_ERROR_INVALID_VALUE), 0);
    CHECK_RESULT(ta_cuda_destroy(cuda), TA_ERROR_BACKEND); /* tried once more, and still there */
    CHECK_EQ(fake.tafake_fail_from("cuMemAddressFree", 1, CUDA_ERROR_ILLEGAL_ADDRESS), 0);
    CHECK_OK(ta_cuda_destroy(cuda));
    fake.tafake_lose_context(0, CUDA_ERROR_ILLEGAL_ADDRESS);
    (void)cu.cuCtxSetCurrent(NULL);
    on.context = NULL;
    on.module = NULL;
    CHECK_EQ(fake.tafake_reset(""), 0);
}

/*---------------------------------------------------------------------------------------------------------
  Another thread was first: while the driver makes what we asked for, somebody else asks for the same and gets it.
  -------------------------------------------------------------------------------------------------------*/
static int depth;
static void *first_segment;

static void another_thread(void)
{
    if (depth++ == 0) {
        ta_backend backend = ta_cuda_backend(cuda);
        CHECK_OK(backend.vtable->alloc(backend.self, MIB, &first_segment));
    }
}

static int context_retain(CUcontext *out, CUdevice device)
{
    another_thread();
    return (int)cu.cuDevicePrimaryCtxRetain(out, device);
}

static int stream_create(CUstream *out, unsigned flags)
{
    another_thread();
    return (int)cu.cuStreamCreate(out, flags);
}

static int pool_create(CUmemoryPool *out, const CUmemPoolProps *props)
{
    another_thread();
    return (int)cu.cuMemPoolCreate(out, props);
}

static void another_thread_is_first(void)
{
    int (*context)(CUcontext *, CUdevice) = context_retain;
    int (*stream)(CUstream *, unsigned) = stream_create;
    int (*driver_pool)(CUmemoryPool *, const CUmemPoolProps *) = pool_create;
    static const char *const of[] = {"cuDevicePrimaryCtxRetain", "cuStreamCreate", "cuMemPoolCreate"};
    int i, released;
    for (i = 0; i < 3; i++) {
        for (released = 0; released < 2; released++) { /* by the newer function, and by the old one */
            ta_backend backend;
            void *ptr = NULL;
            if (!fake_open("sched=lazy;fill=4096")) {
                return;
            }
            test_context("%s", of[i]);
            CHECK_EQ(fake.tafake_hide("cuDevicePrimaryCtxRelease_v2", released), 0);
            if (i == 0) {
                AS_ADDRESS(context, replacement);
            } else if (i == 1) {
                AS_ADDRESS(stream, replacement);
            } else {
                AS_ADDRESS(driver_pool, replacement);
            }
            replaced = of[i];
            depth = 0;
            CHECK_OK(open_with(resolve, TA_CUDA_ASYNC, NULL));
            backend = ta_cuda_backend(cuda);
            CHECK_OK(backend.vtable->alloc(backend.self, MIB, &ptr));
            CHECK_EQ(depth, 2);
            CHECK(ptr != NULL && first_segment != NULL && ptr != first_segment);
            CHECK_OK(backend.vtable->free(backend.self, ptr, MIB));
            CHECK_OK(backend.vtable->free(backend.self, first_segment, MIB));
            CHECK_OK(ta_cuda_destroy(cuda));
            replaced = NULL;
            device_close();
            check_quiet();
            check_nothing_live(); /* what came second was given back */
        }
    }
    test_context("%s", "");
}

TEST_MAIN(TEST_CASE(every_function_missing), TEST_CASE(every_code), TEST_CASE(odd_granularities),
          TEST_CASE(drivers_that_say_little), TEST_CASE(foreign_addresses), TEST_CASE(bad_arguments),
          TEST_CASE(refused_and_lost), TEST_CASE(empty_answers), TEST_CASE(streams_that_cannot),
          TEST_CASE(another_thread_is_first))
