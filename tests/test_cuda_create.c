/* test_cuda_create.c - where there is no driver, an old one, one that is handed over, one that is linked: what can be
   opened, and the reason where it cannot.

     test_cuda_create VERSION     the driver that TAFAKE_LIBRARY names plays that version, e.g. 11020
     test_cuda_create absent      no driver can be loaded
     test_cuda_create compiled    without TENSORALLOC_CUDA nothing is available
   Compiled with TENSORALLOC_CUDA_LINK the program is linked with the driver, and VERSION is what it plays. */
#include "test.h"
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "driver/loader.h"

static int version;

static ta_result try_kind(ta_cuda_kind kind, ta_cuda **out, const char **why)
{
    ta_cuda_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.kind = kind;
    *out = (ta_cuda *)&desc; /* has to be overwritten */
    return ta_cuda_create(&desc, out, why);
}

static void expect(ta_cuda_kind kind, ta_result want, const char *text)
{
    ta_cuda *cuda = NULL;
    const char *why = NULL;
    test_context("kind %d of driver %d", (int)kind, version);
    CHECK_RESULT(try_kind(kind, &cuda, &why), want);
    CHECK((cuda != NULL) == (want == TA_OK));
    CHECK_STRING(why, text);
    CHECK_OK(ta_cuda_destroy(cuda));
    test_context("%s", "");
}

/* A pool over the kind gives memory and takes it back. */
static void works(ta_cuda_kind kind, ta_cuda_kind in_force)
{
    ta_cuda *cuda = NULL;
    ta_cuda_info info;
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    void *ptr;
    const char *why = NULL;
    tafake_live live;
    test_context("kind %d of driver %d", (int)kind, version);
    CHECK_OK(try_kind(kind, &cuda, &why));
    CHECK_STRING(why, "");
    memset(&desc, 0, sizeof desc);
    desc.backend = ta_cuda_backend(cuda);
    CHECK_OK(ta_pool_create(&desc, &pool));
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_EQ(info.kind, in_force);
    CHECK_EQ(info.driver_version, version);
    CHECK_EQ(info.has_pools, version >= 11020);
    CHECK_EQ(info.has_ranges, version >= 10020);
    CHECK_EQ(info.has_stream_ids, version >= 12000);
    ptr = ta_pool_alloc_zeroed(pool, 3 << 20, NULL);
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_record_use(pool, ptr, 1));
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_OK(ta_pool_destroy(pool));
    CHECK_OK(ta_cuda_destroy(cuda));
    fake.tafake_count_live(&live);
    CHECK_EQ(live.used_bytes + live.contexts + live.reservations + live.host_allocations + live.pools, 0);
    test_context("%s", "");
}

#define UNSUPPORTED "the driver or the device does not support this kind of memory"

static void kinds_of_the_version(void)
{
    CHECK_EQ(fake.tafake_reset(""), 0);
    works(TA_CUDA_DEVICE, TA_CUDA_RANGES);
    works(TA_CUDA_RANGES, TA_CUDA_RANGES);
    works(TA_CUDA_SEGMENTS, TA_CUDA_SEGMENTS);
    works(TA_CUDA_PINNED, TA_CUDA_PINNED);
    works(TA_CUDA_MANAGED, TA_CUDA_MANAGED);
    if (version >= 11020) {
        works(TA_CUDA_ASYNC, TA_CUDA_ASYNC);
    } else {
        expect(TA_CUDA_ASYNC, TA_ERROR_UNSUPPORTED, UNSUPPORTED);
    }
}

/* The device cannot, whatever the driver has. */
static void kinds_of_the_device(void)
{
    CHECK_EQ(fake.tafake_reset("attr=102:0;attr=115:0;attr=83:0"), 0);
    expect(TA_CUDA_RANGES, TA_ERROR_UNSUPPORTED, UNSUPPORTED);
    expect(TA_CUDA_ASYNC, TA_ERROR_UNSUPPORTED, UNSUPPORTED);
    expect(TA_CUDA_MANAGED, TA_ERROR_UNSUPPORTED, UNSUPPORTED);
    expect(TA_CUDA_DEVICE, TA_OK, "");
    CHECK_EQ(fake.tafake_reset(""), 0);
}

static void bad_initialisation(void)
{
    static const struct { int code; const char *why; } all[] = {
        {34, "the CUDA library is a stub without a driver"}, {100, "there is no CUDA device"},
        {3, "the NVIDIA driver cannot be initialised"}, {46, "the NVIDIA driver cannot be initialised"},
        {803, "the NVIDIA driver cannot be initialised"}, {804, "the NVIDIA driver cannot be initialised"}};
    size_t i;
    for (i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK_EQ(fake.tafake_reset(""), 0);
        CHECK_EQ(fake.tafake_fail_from("cuInit", 1, all[i].code), 0);
        expect(TA_CUDA_DEVICE, TA_ERROR_UNAVAILABLE, all[i].why);
        CHECK_EQ(fake.tafake_fail_from("cuInit", 0, 0), 0);
    }
    CHECK_EQ(fake.tafake_fail("cuDeviceGetCount", 1, 999), 0);
    expect(TA_CUDA_DEVICE, TA_ERROR_UNAVAILABLE, "there is no CUDA device");
    CHECK_EQ(fake.tafake_fail("cuMemGetAllocationGranularity", 1, 1), 0);
    expect(TA_CUDA_RANGES, TA_ERROR_UNSUPPORTED, UNSUPPORTED);
}

static void *resolve(void *user, const char *name)
{
    ++*(int *)user;
    return fake.tafake_resolve(name);
}

/* The program hands the functions over; some of them are missing. */
static void resolver(void)
{
    ta_cuda_desc desc;
    ta_cuda *cuda = NULL;
    ta_cuda_info info;
    const char *why = NULL;
    int asked = 0;
    memset(&desc, 0, sizeof desc);
    desc.resolve = resolve;
    desc.resolve_user = &asked;
    CHECK_EQ(fake.tafake_reset(""), 0);
    CHECK_OK(ta_cuda_create(&desc, &cuda, &why));
    CHECK_GT(asked, 50);
    CHECK_OK(ta_cuda_destroy(cuda));
    CHECK_EQ(fake.tafake_hide("cuMemMap", 1), 0);
    CHECK_OK(ta_cuda_create(&desc, &cuda, NULL)); /* falls back */
    CHECK_OK(ta_cuda_get_info(cuda, &info));
    CHECK_EQ(info.kind, TA_CUDA_SEGMENTS);
    CHECK_OK(ta_cuda_destroy(cuda));
    CHECK_EQ(fake.tafake_hide("cuDevicePrimaryCtxRelease_v2", 1), 0);
    CHECK_OK(ta_cuda_create(&desc, &cuda, &why)); /* the older one will do, */
    CHECK_OK(ta_cuda_destroy(cuda));
    CHECK_EQ(fake.tafake_hide("cuDevicePrimaryCtxRelease", 1), 0);
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, &why), TA_ERROR_UNAVAILABLE); /* one must be there */
    CHECK_STRING(why, "the NVIDIA driver is too old: cuDevicePrimaryCtxRelease is missing");
    CHECK_EQ(fake.tafake_hide("cuMemAlloc_v2", 1), 0);
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, &why), TA_ERROR_UNAVAILABLE);
    CHECK(cuda == NULL);
    CHECK_STRING(why, "the NVIDIA driver is too old: cuMemAlloc_v2 is missing");
    CHECK_EQ(fake.tafake_reset(""), 0);
}

static void bad_arguments(void)
{
    ta_cuda_desc desc;
    ta_cuda *cuda = NULL;
    ta_cuda_info info;
    const char *why = NULL;
    memset(&desc, 0, sizeof desc);
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_cuda_create(&desc, NULL, &why), TA_ERROR_INVALID_ARGUMENT);
    desc.kind = (ta_cuda_kind)77;
    CHECK_RESULT(ta_cuda_create(&desc, &cuda, &why), TA_ERROR_INVALID_ARGUMENT);
    CHECK(cuda == NULL);
    CHECK_RESULT(ta_cuda_get_info(NULL, &info), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_cuda_trim(NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_backend_check(ta_cuda_backend(NULL)), TA_ERROR_INVALID_ARGUMENT);
}

/* The program goes on with the host. */
static void host_goes_on(void)
{
    ta_pool *pool = NULL;
    void *ptr;
    CHECK_OK(ta_pool_create(NULL, &pool));
    ptr = ta_pool_alloc(pool, 100, NULL);
    CHECK(ptr != NULL);
    CHECK_OK(ta_pool_free(pool, ptr));
    CHECK_OK(ta_pool_destroy(pool));
}

static void absent(void)
{
    ta_cuda *cuda = NULL;
    const char *why = NULL;
    ta_result result = try_kind(TA_CUDA_DEVICE, &cuda, &why);
    if (result == TA_OK) {
        CHECK_OK(ta_cuda_destroy(cuda));
        TEST_SKIP("this machine has a driver");
        return;
    }
    CHECK_RESULT(result, TA_ERROR_UNAVAILABLE);
    CHECK(cuda == NULL);
    if (sizeof(void *) < 8) {
        CHECK_STRING(why, "CUDA needs a 64-bit program");
    } else if (strcmp(why, "there is no CUDA device") != 0) {
        CHECK_STRING(why, "no NVIDIA driver: libcuda.so.1 or nvcuda.dll cannot be loaded");
    }
    host_goes_on();
}

static void compiled_without(void)
{
    ta_cuda_info info;
    expect(TA_CUDA_DEVICE, TA_ERROR_UNAVAILABLE, "compiled without TENSORALLOC_CUDA");
    CHECK_RESULT(ta_cuda_get_info(NULL, &info), TA_ERROR_UNAVAILABLE);
    CHECK_RESULT(ta_cuda_trim(NULL), TA_ERROR_UNAVAILABLE);
    CHECK_RESULT(ta_cuda_register(NULL, &info, 1), TA_ERROR_UNAVAILABLE);
    CHECK_RESULT(ta_cuda_unregister(NULL, &info), TA_ERROR_UNAVAILABLE);
    TEST_ALLOW_ASSERTS();
    CHECK_RESULT(ta_backend_check(ta_cuda_backend(NULL)), TA_ERROR_INVALID_ARGUMENT);
    host_goes_on();
}

int main(int argc, char **argv)
{
    static const test_case there[] = {TEST_CASE(kinds_of_the_version), TEST_CASE(kinds_of_the_device),
                                      TEST_CASE(bad_initialisation), TEST_CASE(resolver), TEST_CASE(bad_arguments)};
    static const test_case missing[] = {TEST_CASE(absent)};
    static const test_case off[] = {TEST_CASE(compiled_without)};
    const char *what = argc > 1 ? argv[1] : "absent";
    argv[argc > 1] = argv[0];
    if (strcmp(what, "absent") == 0) {
        return test_main(argc - (argc > 1), argv + (argc > 1), missing, 1);
    }
    if (strcmp(what, "compiled") == 0) {
        return test_main(argc - 1, argv + 1, off, 1);
    }
    version = atoi(what);
    if (!driver_load() || fake.tafake_reset == NULL) {
        printf("skipped: this is not the software driver\n");
        return TEST_STATUS_SKIP;
    }
    return test_main(argc - 1, argv + 1, there, sizeof there / sizeof there[0]);
}
