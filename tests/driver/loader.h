/* loader.h - for programs that call the driver: a table of its functions and of the side channel, filled by dlopen.

       if (!driver_load()) { no driver here: skip }
       CHECK_EQ(cu.cuMemAlloc_v2(&address, bytes), CUDA_SUCCESS);
       if (fake.tafake_reset != NULL) { it is the software driver }

   The library is that of the environment variable TAFAKE_LIBRARY, else libcuda.so.1. Whoever opens libcuda.so.1
   later in the same program gets the same library, since it bears that name. */
#ifndef LOADER_H
#define LOADER_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_abi.h"
#include "tafake.h"

#define DRIVER_MEMBER(name, version, parameters) CUresult (*name) parameters;
#define DRIVER_FAKE_MEMBER(result, name, parameters) result (*name) parameters;
static struct driver_table { CUDA_FUNCTIONS(DRIVER_MEMBER) } cu;
static struct driver_side_channel { TAFAKE_FUNCTIONS(DRIVER_FAKE_MEMBER) } fake;

static void *driver_handle;

__attribute__((unused)) static void driver_symbol(void *member, const char *name)
{
    void *symbol = dlsym(driver_handle, name);
    memcpy(member, &symbol, sizeof symbol);
}

/* 1 if there is a driver; members that it lacks are null. */
__attribute__((unused)) static int driver_load(void)
{
    const char *path = getenv("TAFAKE_LIBRARY");
    if (driver_handle == NULL) {
        driver_handle = dlopen(path != NULL && path[0] != 0 ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    }
    if (driver_handle == NULL) {
        printf("%s\n", dlerror());
        return 0;
    }
#define DRIVER_LOAD(name, version, parameters) driver_symbol(&cu.name, #name);
#define DRIVER_LOAD_FAKE(result, name, parameters) driver_symbol(&fake.name, #name);
    CUDA_FUNCTIONS(DRIVER_LOAD)
    TAFAKE_FUNCTIONS(DRIVER_LOAD_FAKE)
    return 1;
}

#endif /* LOADER_H */
