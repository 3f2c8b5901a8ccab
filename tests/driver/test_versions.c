/* test_versions.c VERSION - a library that plays an older driver: it says so, and dlsym does not find what came
   later. */
#include "testing.h"

int main(int argc, char **argv)
{
    const int version = argc > 1 ? atoi(argv[1]) : 0;
    int said = 0, missing = 0, wrong = 0, attribute = -1;
    if (!driver_load() || fake.tafake_reset == NULL || version == 0) {
        printf("usage: TAFAKE_LIBRARY=... test_versions VERSION\n");
        return TEST_STATUS_SKIP;
    }
#define LOOK(name, since, parameters) \
    missing += cu.name == NULL; \
    wrong += (cu.name == NULL) != (since > version);
    CUDA_FUNCTIONS(LOOK)
#undef LOOK
    wrong += cu.cuDriverGetVersion(&said) != CUDA_SUCCESS || said != version;
    wrong += cu.cuInit(0) != CUDA_SUCCESS;
    wrong += (cu.cuDeviceGetAttribute(&attribute, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 0) == CUDA_SUCCESS) !=
             (version >= 11020);
    wrong += dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != driver_handle; /* it bears that name */
    printf("version %d, %d functions missing, %d wrong\n", said, missing, wrong);
    (void)fake_open;
    return wrong != 0;
}
