/* test_cuda_torch.c - PyTorch's two functions, from a library made with the one line that the header gives:

     test_cuda_torch 'COMPILER' tensoralloc.h      the line is read from the header's documentation */
#include "test.h"

#include "driver/loader.h"

#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *compiler = "cc", *header = "tensoralloc.h";
static void *(*torch_alloc)(ptrdiff_t size, int device, void *stream);
static void (*torch_free)(void *ptr, ptrdiff_t size, int device, void *stream);

/* The documented line, with this compiler, and paths for header and library. */
static int read_line(char *command, size_t bytes, const char *library)
{
    char line[512];
    FILE *file = fopen(header, "r");
    int found = 0;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char *options = strstr(line, "cc -shared");
        char *name = options != NULL ? strstr(options, "tensoralloc.h -o libta.so") : NULL;
        if (name != NULL) {
            *name = 0;
            name += strlen("tensoralloc.h -o libta.so");
            name[strcspn(name, "\n")] = 0;
            found = snprintf(command, bytes, "%s %s %s -o %s %s", compiler, options + 3, header, library, name) <
                    (int)bytes;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static void one_line_makes_the_library(void)
{
    char folder[] = "/tmp/test_torch_XXXXXX", library[64], command[2048];
    void *handle = NULL;
    REQUIRE(mkdtemp(folder) != NULL);
    (void)snprintf(library, sizeof library, "%s/libta.so", folder);
    CHECK(read_line(command, sizeof command, library));
    CHECK_EQ(system(command), 0);
    handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    CHECK(handle != NULL);
    (void)remove(library);
    (void)remove(folder);
    REQUIRE(handle != NULL);
    {
        void *alloc_symbol = dlsym(handle, "ta_torch_alloc"), *free_symbol = dlsym(handle, "ta_torch_free");
        memcpy(&torch_alloc, &alloc_symbol, sizeof alloc_symbol);
        memcpy(&torch_free, &free_symbol, sizeof free_symbol);
    }
    REQUIRE(torch_alloc != NULL && torch_free != NULL);
}

/* As PyTorch calls them: with the number of a device, and streams of its own. */
static void blocks_come_and_go(void)
{
    CUcontext context = NULL;
    CUstream stream = NULL;
    unsigned ordinal = 99;
    void *a, *b;
    int device;
    REQUIRE(torch_alloc != NULL);
    CHECK_EQ(fake.tafake_reset("devices=2"), 0);
    CHECK_EQ(cu.cuInit(0), CUDA_SUCCESS);
    for (device = 0; device < 2; device++) {
        CHECK_EQ(cu.cuDevicePrimaryCtxRetain(&context, device), CUDA_SUCCESS);
        CHECK_EQ(cu.cuCtxSetCurrent(context), CUDA_SUCCESS);
        CHECK_EQ(cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
        a = torch_alloc(5 << 20, device, stream);
        CHECK(a != NULL && fake.tafake_is_device_address((CUdeviceptr)(uintptr_t)a));
        CHECK_EQ(cu.cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, (CUdeviceptr)(uintptr_t)a),
                 CUDA_SUCCESS);
        CHECK_EQ(ordinal, device);
        CHECK_EQ(cu.cuMemsetD8Async((CUdeviceptr)(uintptr_t)a, 7, 5 << 20, stream), CUDA_SUCCESS);
        torch_free(a, 5 << 20, device, stream);
        fake.tafake_calls_clear();
        b = torch_alloc(5 << 20, device, stream);
        CHECK(a == b);
        CHECK_EQ(fake.tafake_calls("*"), 1); /* whether a capture is open */
        torch_free(b, 5 << 20, device, stream);
        CHECK(torch_alloc(0, device, stream) == NULL);
        torch_free(NULL, 0, device, stream);
        a = torch_alloc(100, device, NULL);
        CHECK(a != NULL);
        torch_free(a, 100, device, NULL);
        CHECK_EQ(cu.cuStreamSynchronize(stream), CUDA_SUCCESS);
    }
    CHECK(torch_alloc(100, 2, NULL) == NULL); /* no such device */
    CHECK(torch_alloc(100, -1, NULL) == NULL);
    CHECK(torch_alloc(100, 64, NULL) == NULL);
    CHECK(torch_alloc((ptrdiff_t)1 << 50, 0, NULL) == NULL);
    CHECK(torch_alloc(-1, 0, NULL) == NULL);
    CHECK_EQ(fake.tafake_race_count(), 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {TEST_CASE(one_line_makes_the_library), TEST_CASE(blocks_come_and_go)};
    if (argc > 2) {
        compiler = argv[1];
        header = argv[2];
    }
    if (!driver_load() || fake.tafake_reset == NULL) {
        printf("skipped: this is not the software driver\n");
        return TEST_STATUS_SKIP;
    }
    return test_main(1, argv, cases, 2);
}
