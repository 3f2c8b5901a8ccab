/* kernels.c - modules, the kernels that are known by name, and running operations on memory. */
#include "driver.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct module {
    struct object object;
    struct context *context;
    char *text;
};
typedef char module_fits[sizeof(struct module) <= OBJECT_BYTES ? 1 : -1];
struct function {
    struct object object;
    struct module *module;
    const struct kernel *kernel;
};
typedef char function_fits[sizeof(struct function) <= OBJECT_BYTES ? 1 : -1];

/* ---- the kernels: which memory their arguments mean, and what they do to it */
static uint32_t put_range(struct range *ranges, uint32_t count, uint64_t address, uint64_t words, int write)
{
    ranges[count].address = address;
    ranges[count].bytes = (size_t)(words * 4);
    ranges[count].write = write;
    return count + 1;
}

static uint32_t load(const char *memory, uint32_t i)
{
    uint32_t value;
    memcpy(&value, memory + (size_t)i * 4, 4);
    return value;
}

static void store(char *memory, uint32_t i, uint32_t value)
{
    memcpy(memory + (size_t)i * 4, &value, 4);
}

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t as_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static uint32_t one_range(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, 0, a[0], a[2], 1);
}

static void run_fill32(const uint64_t *a, char *const *memory)
{
    uint32_t i;
    for (i = 0; i < (uint32_t)a[2]; i++) {
        store(memory[0], i, (uint32_t)a[1]);
    }
}

static void run_add32(const uint64_t *a, char *const *memory)
{
    uint32_t i;
    for (i = 0; i < (uint32_t)a[2]; i++) {
        store(memory[0], i, load(memory[0], i) + (uint32_t)a[1]);
    }
}

static uint32_t copy_ranges(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, put_range(ranges, 0, a[0], a[2], 1), a[1], a[2], 0);
}

static void run_copy32(const uint64_t *a, char *const *memory)
{
    memmove(memory[0], memory[1], (size_t)(uint32_t)a[2] * 4);
}

static uint32_t axpy_ranges(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, put_range(ranges, 0, a[0], a[3], 1), a[1], a[3], 0);
}

static void run_axpy(const uint64_t *a, char *const *memory)
{
    const float factor = as_float((uint32_t)a[2]);
    uint32_t i;
    for (i = 0; i < (uint32_t)a[3]; i++) {
        volatile float product = factor * as_float(load(memory[1], i)); /* rounded: not one fused operation */
        store(memory[0], i, as_bits(as_float(load(memory[0], i)) + product));
    }
}

static uint32_t mul_ranges(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, axpy_ranges(a, ranges), a[2], a[3], 0);
}

static void run_mul(const uint64_t *a, char *const *memory)
{
    uint32_t i;
    for (i = 0; i < (uint32_t)a[3]; i++) {
        store(memory[0], i, as_bits(as_float(load(memory[1], i)) * as_float(load(memory[2], i))));
    }
}

static uint32_t check_ranges(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, put_range(ranges, 0, a[0], 1, 1), a[1], a[3], 0);
}

static void run_check32(const uint64_t *a, char *const *memory)
{
    uint32_t i, errors = 0;
    for (i = 0; i < (uint32_t)a[3]; i++) {
        errors += load(memory[1], i) != (uint32_t)a[2];
    }
    store(memory[0], 0, load(memory[0], 0) + errors);
}

static uint32_t sum_ranges(const uint64_t *a, struct range *ranges)
{
    return put_range(ranges, put_range(ranges, 0, a[0], 1, 1), a[1], a[2], 0);
}

static void run_sum32(const uint64_t *a, char *const *memory)
{
    uint32_t i, sum = 0;
    for (i = 0; i < (uint32_t)a[2]; i++) {
        sum += load(memory[1], i);
    }
    store(memory[0], 0, sum);
}

static uint32_t no_ranges(const uint64_t *a, struct range *ranges)
{
    (void)a;
    (void)ranges;
    return 0;
}

static const struct kernel kernels[] = {
    {"fill32", 3, {8, 4, 4}, one_range, run_fill32},
    {"add32", 3, {8, 4, 4}, one_range, run_add32},
    {"copy32", 3, {8, 8, 4}, copy_ranges, run_copy32},
    {"axpy", 4, {8, 8, 4, 4}, axpy_ranges, run_axpy},
    {"mul", 4, {8, 8, 8, 4}, mul_ranges, run_mul},
    {"check32", 4, {8, 8, 4, 4}, check_ranges, run_check32},
    {"sum32", 3, {8, 8, 4}, sum_ranges, run_sum32},
    {"spin", 1, {8}, no_ranges, NULL}, /* the scheduler knows what time means */
};

const struct kernel *kernel_find(const char *name)
{
    size_t i;
    for (i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (strcmp(kernels[i].name, name) == 0) {
            return &kernels[i];
        }
    }
    return NULL;
}

/* ---- running */
static CUresult run_copy(const struct work *work, int device)
{
    char *to = work->to_pageable ? (char *)(uintptr_t)work->to : memory_access(device, work->to, work->bytes, 1);
    const char *from = work->staging != NULL ? work->staging
                       : work->from_pageable ? (const char *)(uintptr_t)work->from
                                             : memory_access(device, work->from, work->bytes, 0);
    if (to == NULL || from == NULL) {
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    memmove(to, from, work->bytes);
    return CUDA_SUCCESS;
}

static CUresult run_set(const struct work *work, int device)
{
    char *to = memory_access(device, work->to, work->bytes, 1);
    size_t i;
    if (to == NULL) {
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    if (work->element_bytes == 1) {
        memset(to, (int)work->value, work->bytes);
    } else {
        for (i = 0; i < work->bytes; i += 4) {
            memcpy(to + i, &work->value, 4);
        }
    }
    return CUDA_SUCCESS;
}

/* The memory of a pool stays mapped while anything is pending, but its contents are gone. */
static void run_pool_free(const struct work *work)
{
    if (memory_in_window(work->to, work->bytes) && memory_page(work->to)->device != 0 &&
        memory_page(work->to + work->bytes - 1)->device != 0) {
        memory_spoil(work->to, work->bytes);
    }
}

CUresult work_run(const struct work *work, int device)
{
    struct range ranges[RANGES_MAX];
    char *memory[RANGES_MAX] = {NULL};
    uint32_t count, i;
    switch (work->kind) {
    case WORK_SET: return run_set(work, device);
    case WORK_COPY: return run_copy(work, device);
    case WORK_POOL_FREE: run_pool_free(work); return CUDA_SUCCESS;
    case WORK_KERNEL:
        count = work_ranges(work, ranges);
        for (i = 0; i < count; i++) {
            if (ranges[i].bytes == 0) {
                continue;
            }
            memory[i] = memory_access(device, ranges[i].address, ranges[i].bytes, ranges[i].write);
            if (memory[i] == NULL) {
                return CUDA_ERROR_ILLEGAL_ADDRESS;
            }
        }
        if (count == 0 || ranges[count - 1].bytes != 0) { /* the last range is empty when there is nothing to do */
            work->kernel->run(work->arguments, memory);
        }
        return CUDA_SUCCESS;
    case WORK_NOTHING:
    case WORK_HOST:
    case WORK_EXEC_END: break;
    }
    return CUDA_SUCCESS;
}

/* ---- modules and launches */
static CUresult module_load(CUmodule *handle, const void *image)
{
    struct module *module;
    if (handle == NULL || image == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (strncmp(image, ".version", 8) != 0 && strstr(image, "\n.version") == NULL) {
        return CUDA_ERROR_INVALID_IMAGE;
    }
    module = object_new(OBJECT_MODULE);
    module->context = context_now();
    module->text = need(strdup(image));
    *handle = (CUmodule)(void *)module;
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    DRIVER_CALL(cuModuleLoadData, ENTER_CONTEXT | ENTER_UNSAFE, module_load(module, image));
}

static CUresult module_unload(CUmodule handle)
{
    struct module *module = object_find(handle, OBJECT_MODULE);
    struct object *object, *next;
    if (module == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    for (object = object_first(OBJECT_FUNCTION); object != NULL; object = next) {
        next = object_next(object);
        if (((struct function *)(void *)object)->module == module) {
            object_free(object);
        }
    }
    free(module->text);
    object_free(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module)
{
    DRIVER_CALL(cuModuleUnload, ENTER_CONTEXT | ENTER_UNSAFE, module_unload(module));
}

/* ".entry NAME(" occurs in the text */
static int has_entry(const char *text, const char *name)
{
    const size_t length = strlen(name);
    while ((text = strstr(text, ".entry")) != NULL) {
        text += 6;
        while (isspace((unsigned char)*text)) {
            text++;
        }
        if (strncmp(text, name, length) == 0 && !isalnum((unsigned char)text[length]) && text[length] != '_') {
            return 1;
        }
    }
    return 0;
}

static CUresult module_function(CUfunction *handle, CUmodule module_handle, const char *name)
{
    struct module *module = object_find(module_handle, OBJECT_MODULE);
    const struct kernel *kernel = name != NULL ? kernel_find(name) : NULL;
    struct function *function;
    if (handle == NULL || name == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (module == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (kernel == NULL || !has_entry(module->text, name)) {
        return CUDA_ERROR_NOT_FOUND;
    }
    function = object_new(OBJECT_FUNCTION);
    function->module = module;
    function->kernel = kernel;
    *handle = (CUfunction)(void *)function;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    DRIVER_CALL(cuModuleGetFunction, ENTER_CONTEXT, module_function(function, module, name));
}

static CUresult launch(CUfunction handle, uint64_t blocks, uint64_t threads, CUstream stream, void **parameters,
                       void **extra)
{
    const struct function *function = object_find(handle, OBJECT_FUNCTION);
    struct work work;
    uint32_t i;
    if (function == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (blocks == 0 || threads == 0 || threads > 1024 || parameters == NULL || extra != NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    memset(&work, 0, sizeof work);
    work.kind = WORK_KERNEL;
    work.node_type = CU_GRAPH_NODE_TYPE_KERNEL;
    work.kernel = function->kernel;
    for (i = 0; i < work.kernel->argument_count; i++) {
        memcpy(&work.arguments[i], parameters[i], work.kernel->argument_bytes[i]);
    }
    work_label(&work, work.kernel->name);
    return stream_submit(stream, &work);
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                        unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                        CUstream stream, void **parameters, void **extra)
{
    const uint64_t blocks = (uint64_t)grid_x * grid_y * grid_z, threads = (uint64_t)block_x * block_y * block_z;
    (void)shared_bytes;
    DRIVER_CALL(cuLaunchKernel, ENTER_ALWAYS_LEGAL, launch(function, blocks, threads, stream, parameters, extra));
}

void modules_reset(void)
{
    struct object *object = object_first(OBJECT_MODULE);
    for (; object != NULL; object = object_next(object)) {
        free(((struct module *)(void *)object)->text);
    }
}
