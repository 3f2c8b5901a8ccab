/* vmm.c - virtual memory management: addresses are reserved, memory is created, one is mapped to the other, access
   is granted. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct physical { /* a CUmemGenericAllocationHandle */
    struct object object;
    int device;
    uint32_t page_count, references, mappings; /* references of the program; memory lives while either is not 0 */
    uint32_t *pages;
    int filled;
    uint64_t id;
    CUmemAllocationProp prop;
};
typedef char physical_fits[sizeof(struct physical) <= OBJECT_BYTES ? 1 : -1];
struct reservation { uint64_t address; size_t bytes; };

static struct reservation *reservations;
static uint32_t reservation_count, reservation_capacity;

static struct reservation *reservation_of(uint64_t address)
{
    uint32_t i;
    for (i = 0; i < reservation_count; i++) {
        if (address - reservations[i].address < reservations[i].bytes) {
            return &reservations[i];
        }
    }
    return NULL;
}

static int vmm_supported(void)
{
    int supported = 0;
    return device_attribute(&supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) == CUDA_SUCCESS &&
           supported;
}

/* Whole pages within one reservation. */
static struct reservation *reserved_range(uint64_t address, size_t bytes)
{
    struct reservation *reservation = reservation_of(address);
    return reservation != NULL && bytes != 0 && address % memory_page_bytes() == 0 &&
                   bytes % memory_page_bytes() == 0 && bytes <= reservation->bytes - (address - reservation->address)
               ? reservation
               : NULL;
}

static CUresult reserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint,
                        unsigned long long flags)
{
    uint64_t found;
    if (!vmm_supported()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (address == NULL || bytes == 0 || bytes % memory_page_bytes() != 0 || flags != 0 ||
        (alignment & (alignment - 1)) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    found = memory_reserve(bytes, alignment, hint);
    if (found == 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    reservations = array_grow(reservations, reservation_count, &reservation_capacity, sizeof *reservations);
    reservations[reservation_count].address = found;
    reservations[reservation_count++].bytes = bytes;
    *address = found;
    return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint,
                             unsigned long long flags)
{
    DRIVER_CALL(cuMemAddressReserve, ENTER_UNSAFE, reserve(address, bytes, alignment, hint, flags));
}

static CUresult address_free(CUdeviceptr address, size_t bytes)
{
    struct reservation *reservation = reservation_of(address);
    uint64_t at;
    if (reservation == NULL || reservation->address != address || reservation->bytes != bytes) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (at = address; at < address + bytes; at += memory_page_bytes()) {
        if (memory_page(at)->device != 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    memory_unreserve(address, bytes);
    *reservation = reservations[--reservation_count];
    return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
    DRIVER_CALL(cuMemAddressFree, ENTER_UNSAFE, address_free(address, bytes));
}

static CUresult check_prop(const CUmemAllocationProp *prop)
{
    if (prop == NULL || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        prop->win32HandleMetaData != NULL || !device_valid(prop->location.id)) {
        return CUDA_ERROR_INVALID_VALUE; /* also for a device that does not exist */
    }
    if (prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE &&
        prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

static struct physical *handle_get(CUmemGenericAllocationHandle handle)
{
    struct physical *physical = object_find((const void *)(uintptr_t)handle, OBJECT_PHYSICAL);
    return physical == NULL || physical->references == 0 ? NULL : physical;
}

static CUresult create(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                       unsigned long long flags)
{
    struct physical *physical;
    uint32_t count = (uint32_t)(bytes / memory_page_bytes());
    uint32_t *pages;
    CUresult result;
    if (!vmm_supported()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    result = check_prop(prop);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (handle == NULL || bytes == 0 || bytes % memory_page_bytes() != 0 || flags != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (context_of_device(prop->location.id) != CUDA_SUCCESS) {
        return context_of_device(prop->location.id);
    }
    if (bytes > driver.config.capacity) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pages = need(malloc(count * sizeof *pages));
    if (!memory_take_pages(prop->location.id, count, pages)) {
        free(pages);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    physical = object_new(OBJECT_PHYSICAL);
    physical->device = prop->location.id;
    physical->page_count = count;
    physical->pages = pages;
    physical->references = 1;
    physical->id = ++driver.next_id;
    physical->prop = *prop;
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
    return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                     unsigned long long flags)
{
    DRIVER_CALL(cuMemCreate, ENTER_UNSAFE, create(handle, bytes, prop, flags));
}

static void physical_drop(struct physical *physical)
{
    if (physical->references == 0 && physical->mappings == 0) {
        memory_give_pages(physical->device, physical->page_count, physical->pages);
        free(physical->pages);
        object_free(physical);
    }
}

static CUresult release(CUmemGenericAllocationHandle handle)
{
    struct physical *physical = handle_get(handle);
    if (physical == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    physical->references--;
    physical_drop(physical);
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    DRIVER_CALL(cuMemRelease, ENTER_UNSAFE, release(handle));
}

static CUresult retain(CUmemGenericAllocationHandle *handle, void *address)
{
    const struct region *region = region_find((uint64_t)(uintptr_t)address);
    struct physical *physical;
    if (handle == NULL || region == NULL || region->kind != REGION_MAPPING) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    physical = region->owner;
    physical->references++;
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
    return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
    DRIVER_CALL(cuMemRetainAllocationHandle, ENTER_UNSAFE, retain(handle, address));
}

static CUresult map(CUdeviceptr address, size_t bytes, size_t offset, struct physical *physical,
                    unsigned long long flags)
{
    const uint64_t page = memory_page_bytes();
    const uint32_t count = (uint32_t)(bytes / page);
    struct region *region;
    uint32_t i;
    if (physical == NULL || offset != 0 || flags != 0 || reserved_range(address, bytes) == NULL ||
        count > physical->page_count) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (context_of_device(physical->device) != CUDA_SUCCESS) {
        return context_of_device(physical->device);
    }
    for (i = 0; i < count; i++) {
        if (memory_page(address + i * page)->device != 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    if (!memory_map(address, physical->device, count, physical->pages)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    region = region_add(REGION_MAPPING, address, bytes, physical->device);
    region->owner = physical;
    physical->mappings++;
    if (!physical->filled) {
        physical->filled = count == physical->page_count;
        memory_fill(address, bytes, physical->id);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags)
{
    DRIVER_CALL(cuMemMap, ENTER_UNSAFE, map(address, bytes, offset, handle_get(handle), flags));
}

/* A range that whole mappings fill without gaps; 0 if it is not one. */
static int whole_mappings(uint64_t address, size_t bytes)
{
    const uint64_t end = address + bytes;
    while (address < end) {
        const struct region *region = region_at(address);
        if (region == NULL || region->kind != REGION_MAPPING || region->address + region->bytes > end) {
            return 0;
        }
        address = region->address + region->bytes;
    }
    return 1;
}

static CUresult unmap(CUdeviceptr address, size_t bytes)
{
    const uint64_t end = address + bytes;
    CUresult lost = CUDA_SUCCESS;
    if (reserved_range(address, bytes) == NULL || !whole_mappings(address, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    while (address < end) { /* waits for nothing: what still uses it will fault, or see what comes next */
        struct region *region = region_at(address);
        struct physical *physical = region->owner;
        order_host(ACCESS_FREE, "cuMemUnmap", address, region->bytes);
        memory_unmap(address, (uint32_t)(region->bytes / memory_page_bytes()));
        lost = lost != CUDA_SUCCESS ? lost : context_of_device(physical->device);
        address += region->bytes;
        region_remove(region);
        physical->mappings--;
        physical_drop(physical);
    }
    return lost;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    DRIVER_CALL(cuMemUnmap, ENTER_UNSAFE, unmap(address, bytes));
}

static CUresult check_descs(const CUmemAccessDesc *descs, size_t count, int owner)
{
    size_t i;
    for (i = 0; i < count; i++) {
        const int device = descs[i].location.id;
        if (descs[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || !device_valid(device) ||
            (descs[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && descs[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
             descs[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (device != owner && !driver.config.peers && descs[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE) {
            return CUDA_ERROR_INVALID_DEVICE;
        }
    }
    return CUDA_SUCCESS;
}

static CUresult set_access(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *descs, size_t count)
{
    const uint64_t page = memory_page_bytes();
    CUresult result;
    uint64_t at;
    size_t i;
    if (descs == NULL || count == 0 || reserved_range(address, bytes) == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (at = address; at < address + bytes; at += page) {
        if (memory_page(at)->device == 0) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    result = check_descs(descs, count, memory_page(address)->device - 1);
    result = result != CUDA_SUCCESS ? result : context_of_device(memory_page(address)->device - 1);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    for (at = address; at < address + bytes; at += page) {
        for (i = 0; i < count; i++) {
            memory_page(at)->access[descs[i].location.id] = (uint8_t)descs[i].flags;
        }
    }
    return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *descs, size_t count)
{
    DRIVER_CALL(cuMemSetAccess, ENTER_UNSAFE, set_access(address, bytes, descs, count));
}

static CUresult get_access(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address)
{
    if (flags == NULL || location == NULL || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
        !device_valid(location->id) ||
        reservation_of(address) == NULL || memory_page(address)->device == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *flags = memory_page(address)->access[location->id];
    return CUDA_SUCCESS;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address)
{
    DRIVER_CALL(cuMemGetAccess, 0, get_access(flags, location, address));
}

static CUresult granularity(size_t *bytes, const CUmemAllocationProp *prop, int option)
{
    CUresult result = vmm_supported() ? check_prop(prop) : CUDA_ERROR_NOT_SUPPORTED;
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (bytes == NULL ||
        (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *bytes = (size_t)memory_page_bytes();
    return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option)
{
    DRIVER_CALL(cuMemGetAllocationGranularity, 0, granularity(bytes, prop, (int)option));
}

static CUresult handle_prop(CUmemAllocationProp *prop, const struct physical *physical)
{
    if (prop == NULL || physical == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *prop = physical->prop;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop, CUmemGenericAllocationHandle handle)
{
    DRIVER_CALL(cuMemGetAllocationPropertiesFromHandle, 0, handle_prop(prop, handle_get(handle)));
}

/* ---- sharing, within this process: the file holds the handle and who it was */
struct shared { uint64_t handle, id, process; };

static CUresult export_handle(void *shareable, CUmemGenericAllocationHandle handle, int type, unsigned long long flags)
{
    const struct physical *physical = handle_get(handle);
    struct shared shared;
    int fd;
    if (shareable == NULL || physical == NULL || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
        physical->prop.requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    shared.handle = handle;
    shared.id = physical->id;
    shared.process = (uint64_t)getpid();
    fd = memfd_create("shared allocation", MFD_CLOEXEC);
    if (fd < 0 || write(fd, &shared, sizeof shared) != (ssize_t)sizeof shared) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memcpy(shareable, &fd, sizeof fd);
    return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags)
{
    DRIVER_CALL(cuMemExportToShareableHandle, ENTER_UNSAFE, export_handle(shareable, handle, (int)type, flags));
}

static CUresult import_handle(CUmemGenericAllocationHandle *handle, const void *shareable, int type)
{
    const int fd = (int)(intptr_t)shareable; /* the descriptor itself, as a pointer */
    struct physical *physical;
    struct shared shared;
    if (handle == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
        pread(fd, &shared, sizeof shared, 0) != (ssize_t)sizeof shared || shared.process != (uint64_t)getpid()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    physical = object_find((const void *)(uintptr_t)shared.handle, OBJECT_PHYSICAL);
    if (physical == NULL || physical->id != shared.id) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    physical->references++;
    *handle = shared.handle;
    return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
                                        CUmemAllocationHandleType type)
{
    DRIVER_CALL(cuMemImportFromShareableHandle, ENTER_UNSAFE, import_handle(handle, shareable, (int)type));
}

void vmm_count(tafake_live *live)
{
    struct object *object = object_first(OBJECT_PHYSICAL);
    live->reservations = reservation_count;
    for (; object != NULL; object = object_next(object)) {
        live->handles += ((struct physical *)(void *)object)->references;
    }
}

void vmm_reset(void)
{
    struct object *object = object_first(OBJECT_PHYSICAL);
    for (; object != NULL; object = object_next(object)) {
        free(((struct physical *)(void *)object)->pages);
    }
    reservation_count = 0;
}
