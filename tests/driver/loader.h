/* loader.h - for programs that call the driver: a table of its functions and of the side channel, filled by dlopen.

       if (!driver_load()) { no driver here: skip }
       CHECK_EQ(cu.cuMemAlloc_v2(&address, bytes), CUDA_SUCCESS);
       if (fake.tafake_reset != NULL) { it is the software driver }

   On any other driver, what the side channel could report is never there: those functions of it that only look answer
   "nothing", so that a test that asks them runs everywhere. With TAFAKE_PLAIN=1 in the environment the software driver
   is taken for another one, to see what such a test does there.

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

/* What the side channel answers where there is none. */
static uint64_t driver_none(void) { return 0; }
static const char *driver_no_text(uint64_t index) { return (void)index, NULL; }
static void driver_nothing(void) { }
static void driver_no_label(const char *text) { (void)text; }
static int driver_no_step(CUstream stream) { return (void)stream, 0; }
static int driver_no_change(const char *config) { return (void)config, 0; }
static int driver_global(void) { return CU_STREAM_CAPTURE_MODE_GLOBAL; }
static void driver_no_objects(tafake_live *live) { memset(live, 0, sizeof *live); }
static void driver_touched(const void *memory, size_t bytes) { (void)memory; (void)bytes; }
static void driver_written(void *memory, size_t bytes) { (void)memory; (void)bytes; }

static void driver_stand_in(void)
{
    memset(&fake, 0, sizeof fake);
    fake.tafake_race_count = driver_none;
    fake.tafake_race_text = driver_no_text;
    fake.tafake_races_clear = driver_nothing;
    fake.tafake_label = driver_no_label;
    fake.tafake_step = driver_no_step;
    fake.tafake_configure = driver_no_change;
    fake.tafake_capture_mode = driver_global;
    fake.tafake_count_live = driver_no_objects;
    fake.tafake_host_read = driver_touched;
    fake.tafake_host_write = driver_written;
}

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
    if (fake.tafake_reset == NULL || getenv("TAFAKE_PLAIN") != NULL) {
        driver_stand_in();
    }
    return 1;
}

#endif /* LOADER_H */
