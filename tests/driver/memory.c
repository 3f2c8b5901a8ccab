/* memory.c - addresses, physical memory, regions; cuMemAlloc, pinned, registered and managed memory.

   Two windows of addresses of equal size:   D  what the program gets: nothing may be touched there, ever
                                             M  the mirror, at the same offsets: where the driver reads and writes
   The memory of a device is a memory file of `capacity` bytes in pages of `granularity`; mapping a page puts a
   piece of the file at its mirror, so one piece mapped at two addresses is the same memory. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    UNIT = 256,              /* alignment of small allocations: no more than is promised */
    WINDOW_SLACK = 1 << 26,  /* to align windows to the granularity */
    PAGES_MAX = 1 << 20      /* the table of pages stays small where pages are */
};

struct span { uint64_t low, high; };
struct slab { /* one page that small allocations share */
    struct slab *next;
    uint64_t address;
    uint32_t page, live;
    uint8_t *taken; /* per unit */
};

static char *window_device, *window_mirror;
static uint64_t window_reserved, window_bytes; /* of each; the part in use */
static struct page *pages;
static struct span *spans; /* reserved addresses, sorted, as offsets */
static uint32_t span_count, span_capacity;
static struct span recent[64]; /* given back, the last one last */
static uint32_t recent_count;
static uint64_t quarantine_next;
static struct region **regions; /* sorted by address */
static uint32_t region_count, region_capacity;

/* ---- windows and pages */
static void *reserve_system(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Once for the life of the program: other tools on the address space, such as sanitizers, bear huge mappings but
   not their coming and going. */
static void window_open(void)
{
    for (window_reserved = driver.config.window; window_reserved >= (1u << 28); window_reserved /= 2) {
        window_device = reserve_system(window_reserved * 2 + WINDOW_SLACK);
        if (window_device != NULL) {
            break;
        }
    }
    need(window_device);
    window_mirror = window_device + window_reserved;
}

/* A table of pages for the granularity of now. */
static void pages_open(void)
{
    static size_t bytes;
    if (pages != NULL) {
        munmap(pages, bytes);
    }
    window_bytes = driver.config.window < window_reserved ? driver.config.window : window_reserved;
    while (window_bytes / driver.config.granularity > PAGES_MAX) {
        window_bytes /= 2;
    }
    bytes = (size_t)(window_bytes / driver.config.granularity * sizeof *pages);
    pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    need(pages == MAP_FAILED ? NULL : pages);
}

/* The page before the first device address that is a multiple of the granularity: offset 0 is never given out. */
static uint64_t window_base(void)
{
    const uint64_t page = driver.config.granularity;
    return ((uint64_t)(uintptr_t)window_device + page - 1) / page * page;
}

uint64_t memory_page_bytes(void)
{
    return driver.config.granularity;
}

int memory_in_window(uint64_t address, size_t bytes)
{
    const uint64_t base = window_base();
    return address >= base && bytes <= window_bytes && address - base <= window_bytes - bytes;
}

struct page *memory_page(uint64_t address)
{
    return &pages[(address - window_base()) / driver.config.granularity];
}

char *memory_mirror(uint64_t address)
{
    return window_mirror + (address - (uint64_t)(uintptr_t)window_device);
}

int memory_start(void)
{
    int d;
    if (window_device == NULL) {
        window_open();
    }
    pages_open();
    for (d = 0; d < driver.config.devices; d++) {
        struct device *device = &driver.devices[d];
        device->page_count = (uint32_t)(driver.config.capacity / driver.config.granularity);
        device->page_taken = need(calloc(device->page_count + 1u, 1));
        device->shadow = shadow_new(driver.config.capacity);
        device->memory_fd = memfd_create("device memory", MFD_CLOEXEC);
        if (device->memory_fd < 0 || ftruncate(device->memory_fd, (off_t)driver.config.capacity) != 0) {
            return 0;
        }
    }
    return 1;
}

static void region_delete(struct region *region)
{
    if (region->kind >= REGION_HOST && !region->second) {
        shadow_free(region->shadow);
        if (region->kind != REGION_REGISTERED) {
            munmap(region->mirror, region->bytes);
        }
    }
    free(region);
}

void memory_stop(void)
{
    uint32_t i;
    int d;
    for (i = 0; i < region_count; i++) {
        region_delete(regions[i]);
    }
    for (i = 0; i < span_count; i++) {
        memory_unmap(window_base() + spans[i].low,
                     (uint32_t)((spans[i].high - spans[i].low) / driver.config.granularity));
    }
    region_count = span_count = recent_count = 0;
    quarantine_next = 0;
    for (d = 0; d < DEVICES_MAX; d++) {
        struct device *device = &driver.devices[d];
        while (device->slabs != NULL) {
            struct slab *slab = device->slabs;
            device->slabs = slab->next;
            free(slab->taken);
            free(slab);
        }
        free(device->page_taken);
        shadow_free(device->shadow);
        if (device->memory_fd > 0) {
            close(device->memory_fd);
        }
        memset(device, 0, sizeof *device);
    }
}

uint64_t memory_used_bytes(void)
{
    uint64_t used = 0;
    int d;
    for (d = 0; d < DEVICES_MAX; d++) {
        used += driver.devices[d].pages_used * driver.config.granularity;
    }
    return used;
}

static uint64_t overhead_bytes(const struct device *device)
{
    return device->primary != NULL && device->primary->references != 0 ? driver.config.overhead : 0;
}

size_t memory_free_bytes(int device)
{
    const struct device *d = &driver.devices[device];
    const uint64_t used = d->pages_used * driver.config.granularity + overhead_bytes(d);
    return used < driver.config.capacity ? (size_t)(driver.config.capacity - used) : 0;
}

/* First-fit run of free pages; page_count if there is none. */
static uint32_t find_run(const struct device *device, uint32_t count)
{
    uint32_t i, run = 0;
    for (i = 0; i < device->page_count; i++) {
        run = device->page_taken[i] ? 0 : run + 1;
        if (run == count) {
            return i + 1 - count;
        }
    }
    return device->page_count;
}

int memory_take_pages(int ordinal, uint32_t count, uint32_t *taken)
{
    struct device *device = &driver.devices[ordinal];
    uint32_t i, next, first;
    if (memory_free_bytes(ordinal) / driver.config.granularity < count) {
        return 0;
    }
    first = find_run(device, count);
    if (first == device->page_count && driver.config.contiguous) {
        return 0;
    }
    next = first == device->page_count ? 0 : first;
    for (i = 0; i < count; i++, next++) {
        while (device->page_taken[next]) {
            next++;
        }
        device->page_taken[next] = 1;
        taken[i] = next;
    }
    device->pages_used += count;
    return 1;
}

void memory_give_pages(int ordinal, uint32_t count, const uint32_t *given)
{
    struct device *device = &driver.devices[ordinal];
    uint32_t i;
    for (i = 0; i < count; i++) {
        device->page_taken[given[i]] = 0;
    }
    device->pages_used -= count;
}

/* ---- addresses */
/* The place of the first span that ends after `offset`. */
static uint32_t span_place(uint64_t offset)
{
    uint32_t low = 0, high = span_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (spans[middle].high <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int span_free(uint64_t low, uint64_t high)
{
    uint32_t place = span_place(low);
    return high <= window_bytes && low < high && (place == span_count || spans[place].low >= high);
}

static uint64_t round_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

/* Offsets are aligned as addresses. */
static uint64_t align_offset(uint64_t offset, uint64_t alignment)
{
    return round_up(window_base() + offset, alignment) - window_base();
}

static uint64_t first_fit(uint64_t from, uint64_t bytes, uint64_t alignment)
{
    uint64_t offset = align_offset(from, alignment);
    uint32_t i;
    for (i = span_place(offset); i < span_count && spans[i].low < offset + bytes; i++) {
        offset = align_offset(spans[i].high, alignment);
    }
    return offset + bytes <= window_bytes - driver.config.granularity ? offset : 0;
}

static uint64_t recent_fit(uint64_t bytes, uint64_t alignment)
{
    uint32_t i;
    for (i = recent_count; i-- > 0;) {
        const uint64_t low = recent[i].low;
        if (recent[i].high - low == bytes && align_offset(low, alignment) == low && span_free(low, recent[i].high)) {
            return low;
        }
    }
    return 0;
}

static uint64_t choose_offset(uint64_t bytes, uint64_t alignment)
{
    const uint64_t page = driver.config.granularity;
    uint64_t offset;
    int tries;
    if (bytes > window_bytes - 2 * page) {
        return 0;
    }
    if (driver.config.addresses == ADDRESSES_QUARANTINE) {
        offset = first_fit(quarantine_next > page ? quarantine_next : page, bytes, alignment);
        quarantine_next = offset != 0 ? offset + bytes + page : 0;
        return offset;
    }
    if (driver.config.addresses == ADDRESSES_SCRAMBLE) {
        for (tries = 0; tries < 64; tries++) {
            offset = page + random_next(&driver.config.address_seed) % (window_bytes - page - bytes);
            offset = align_offset(offset, alignment);
            if (span_free(offset, offset + bytes)) {
                return offset;
            }
        }
    }
    offset = driver.config.addresses == ADDRESSES_LIFO ? recent_fit(bytes, alignment) : 0;
    return offset != 0 ? offset : first_fit(page, bytes, alignment);
}

uint64_t memory_reserve(size_t bytes, size_t alignment, uint64_t hint)
{
    const uint64_t page = driver.config.granularity;
    uint64_t offset = 0;
    uint32_t place;
    if (alignment < page) {
        alignment = (size_t)page;
    }
    if (hint % alignment == 0 && memory_in_window(hint, bytes) && hint - window_base() >= page &&
        span_free(hint - window_base(), hint - window_base() + bytes)) {
        offset = hint - window_base();
    }
    offset = offset != 0 ? offset : choose_offset(bytes, alignment);
    if (offset == 0) {
        return 0;
    }
    spans = array_grow(spans, span_count, &span_capacity, sizeof *spans);
    place = span_place(offset);
    memmove(&spans[place + 1], &spans[place], (span_count - place) * sizeof *spans);
    spans[place].low = offset;
    spans[place].high = offset + bytes;
    span_count++;
    return window_base() + offset;
}

void memory_unreserve(uint64_t address, size_t bytes)
{
    const uint64_t low = address - window_base();
    uint32_t place = span_place(low);
    memmove(&spans[place], &spans[place + 1], (span_count - place - 1) * sizeof *spans);
    span_count--;
    if (recent_count == sizeof recent / sizeof recent[0]) {
        memmove(recent, recent + 1, sizeof recent - sizeof recent[0]);
        recent_count--;
    }
    recent[recent_count].low = low;
    recent[recent_count++].high = low + bytes;
}

int memory_map(uint64_t address, int device, uint32_t count, const uint32_t *physical)
{
    const uint64_t page = driver.config.granularity;
    uint32_t i, run;
    for (i = 0; i < count; i += run) {
        for (run = 1; i + run < count && physical[i + run] == physical[i] + run; run++) {}
        if (mmap(memory_mirror(address + i * page), (size_t)(run * page), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, driver.devices[device].memory_fd, (off_t)(physical[i] * page)) == MAP_FAILED) {
            memory_unmap(address, i);
            return 0;
        }
    }
    for (i = 0; i < count; i++) {
        struct page *entry = memory_page(address + i * page);
        memset(entry, 0, sizeof *entry);
        entry->physical = physical[i];
        entry->device = (uint8_t)(device + 1);
    }
    return 1;
}

void memory_unmap(uint64_t address, uint32_t count)
{
    if (count != 0) {
        const size_t bytes = (size_t)(count * driver.config.granularity);
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
        need(mmap(memory_mirror(address), bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED ? NULL : &driver);
        memset(memory_page(address), 0, count * sizeof(struct page));
    }
}

static void fill_bytes(char *memory, size_t bytes, uint64_t seed)
{
    const uint64_t word = random_next(&seed) | 0x0101010101010101u; /* no byte is 0: a program that counts on 0 fails */
    char block[1024];
    size_t i, length;
    for (i = 0; i < sizeof block; i += sizeof word) {
        memcpy(block + i, &word, sizeof word);
    }
    for (i = 0; i < bytes; i += length) {
        length = bytes - i < sizeof block ? bytes - i : sizeof block;
        memcpy(memory + i, block, length);
    }
}

void memory_fill(uint64_t address, size_t bytes, uint64_t seed)
{
    const uint64_t page = driver.config.granularity, fill = driver.config.fill;
    uint64_t at, length;
    for (at = 0; at < bytes; at += length) { /* the first `fill` bytes of each page */
        length = bytes - at < page ? bytes - at : page;
        fill_bytes(memory_mirror(address + at), (size_t)(length < fill ? length : fill), seed);
    }
}

void memory_spoil(uint64_t address, size_t bytes)
{
    const uint64_t page = driver.config.granularity, fill = driver.config.fill;
    uint64_t at, length;
    for (at = 0; at < bytes; at += length) {
        length = bytes - at < page ? bytes - at : page;
        memset(memory_mirror(address + at), 0xDD, (size_t)(length < fill ? length : fill));
    }
}

/* ---- regions */
/* The place of the first region that ends after the address. */
static uint32_t region_place(uint64_t address)
{
    uint32_t low = 0, high = region_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (regions[middle]->address + regions[middle]->bytes <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct region *region_find(uint64_t address)
{
    uint32_t place = region_place(address);
    return place < region_count && regions[place]->address <= address ? regions[place] : NULL;
}

struct region *region_at(uint64_t address)
{
    struct region *region = region_find(address);
    return region != NULL && region->address == address ? region : NULL;
}

static int region_overlaps(uint64_t address, size_t bytes)
{
    uint32_t place = region_place(address);
    return place < region_count && regions[place]->address < address + bytes;
}

struct region *region_add(enum region_kind kind, uint64_t address, size_t bytes, int device)
{
    struct region *region = need(calloc(1, sizeof *region));
    uint32_t place = region_place(address);
    region->kind = kind;
    region->address = address;
    region->bytes = bytes;
    region->device = device;
    region->id = ++driver.next_id;
    regions = array_grow(regions, region_count, &region_capacity, sizeof *regions);
    memmove(&regions[place + 1], &regions[place], (region_count - place) * sizeof *regions);
    regions[place] = region;
    region_count++;
    return region;
}

void region_remove(struct region *region)
{
    uint32_t place = region_place(region->address);
    memmove(&regions[place], &regions[place + 1], (region_count - place - 1) * sizeof *regions);
    region_count--;
    region_delete(region);
}

uint64_t memory_owner_id(uint64_t address)
{
    const struct region *region = region_find(address);
    return region != NULL ? region->id : 0;
}

static int page_allows(const struct page *page, int device, int write)
{
    unsigned access;
    if (page->device == 0) {
        return 0;
    }
    access = page->access[device];
    if (page->follows_peers && context_peers(device, page->device - 1)) {
        access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    }
    return access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE || (!write && access == CU_MEM_ACCESS_FLAGS_PROT_READ);
}

char *memory_access(int device, uint64_t address, size_t bytes, int write)
{
    const uint64_t page = driver.config.granularity;
    struct region *region;
    uint64_t at;
    int mapped = memory_in_window(address, bytes) && bytes != 0;
    for (at = address / page * page; mapped && at < address + bytes; at += page) {
        mapped = page_allows(memory_page(at), device, write);
    }
    if (mapped) {
        return memory_mirror(address);
    }
    region = region_find(address);
    if (region == NULL || region->kind < REGION_HOST || bytes > region->bytes - (address - region->address) ||
        (write && region->kind == REGION_REGISTERED && (region->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0)) {
        return NULL;
    }
    return region->mirror + (address - region->address);
}

int memory_pieces(uint64_t address, size_t bytes, memory_piece *piece, void *user)
{
    const uint64_t page = driver.config.granularity;
    const uint64_t end = address + bytes;
    while (address < end) {
        const struct region *region = region_find(address);
        uint64_t stop, first, length;
        if (region == NULL) {
            return 0;
        }
        stop = region->address + region->bytes < end ? region->address + region->bytes : end;
        if (region->kind >= REGION_HOST) {
            piece(user, region->shadow, region->shadow_offset + (address - region->address), address,
                  (size_t)(stop - address));
            address = stop;
            continue;
        }
        first = memory_page(address)->physical * page + address % page;
        length = page - address % page;
        while (address + length < stop && memory_page(address + length)->physical * page == first + length &&
               memory_page(address + length)->device == memory_page(address)->device) {
            length += page;
        }
        length = address + length < stop ? length : stop - address;
        if (memory_page(address)->device == 0) {
            return 0;
        }
        piece(user, driver.devices[memory_page(address)->device - 1].shadow, first, address, (size_t)length);
        address += length;
    }
    return 1;
}

/* ---- cuMemAlloc and cuMemFree */
static void map_owned(uint64_t address, uint32_t count, int device)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        struct page *entry = memory_page(address + i * driver.config.granularity);
        entry->follows_peers = 1;
        entry->access[device] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    }
}

/* Whole pages at fresh addresses, readable and writable by their device. */
uint64_t memory_new_pages(int device, uint32_t count)
{
    const uint64_t page = driver.config.granularity;
    uint32_t *taken = need(malloc(count * sizeof *taken));
    uint64_t address = 0;
    if (memory_take_pages(device, count, taken)) {
        address = memory_reserve((size_t)(count * page), 0, 0);
        if (address == 0 || !memory_map(address, device, count, taken)) {
            if (address != 0) {
                memory_unreserve(address, (size_t)(count * page));
            }
            memory_give_pages(device, count, taken);
            address = 0;
        } else {
            map_owned(address, count, device);
        }
    }
    free(taken);
    return address;
}

void memory_delete_pages(int device, uint64_t address, uint32_t count)
{
    const uint64_t page = driver.config.granularity;
    uint32_t i;
    for (i = 0; i < count; i++) {
        memory_give_pages(device, 1, &memory_page(address + i * page)->physical);
    }
    memory_unmap(address, count);
    memory_unreserve(address, (size_t)(count * page));
}

static uint64_t slab_take(struct slab *slab, uint32_t units)
{
    const uint32_t slab_units = (uint32_t)(driver.config.granularity / UNIT);
    uint32_t i, run = 0;
    for (i = 0; i < slab_units; i++) {
        run = slab->taken[i] ? 0 : run + 1;
        if (run == units) {
            memset(slab->taken + (i + 1 - units), 1, units);
            slab->live++;
            return slab->address + (i + 1 - units) * (uint64_t)UNIT;
        }
    }
    return 0;
}

static uint64_t new_small(int ordinal, size_t bytes)
{
    struct device *device = &driver.devices[ordinal];
    const uint32_t units = (uint32_t)((bytes + UNIT - 1) / UNIT);
    struct slab *slab;
    uint64_t address;
    for (slab = device->slabs; slab != NULL; slab = slab->next) {
        address = slab_take(slab, units);
        if (address != 0) {
            return address;
        }
    }
    address = memory_new_pages(ordinal, 1);
    if (address == 0) {
        return 0;
    }
    slab = need(calloc(1, sizeof *slab));
    slab->address = address;
    slab->taken = need(calloc((size_t)(driver.config.granularity / UNIT), 1));
    slab->next = device->slabs;
    device->slabs = slab;
    return slab_take(slab, units);
}

static void delete_small(int ordinal, uint64_t address, size_t bytes)
{
    struct slab **link = &driver.devices[ordinal].slabs;
    struct slab *slab;
    while ((*link)->address != address / driver.config.granularity * driver.config.granularity) {
        link = &(*link)->next;
    }
    slab = *link;
    if (driver.config.addresses != ADDRESSES_QUARANTINE) {
        memset(slab->taken + (address - slab->address) / UNIT, 0, (bytes + UNIT - 1) / UNIT);
    }
    if (--slab->live == 0) {
        memory_delete_pages(ordinal, slab->address, 1);
        *link = slab->next;
        free(slab->taken);
        free(slab);
    }
}

CUresult memory_new(struct context *context, int device, size_t bytes, uint64_t *address)
{
    const uint64_t page = driver.config.granularity;
    const int small = bytes <= page / 2;
    struct region *region;
    if (bytes > driver.config.capacity) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = small ? new_small(device, bytes) : memory_new_pages(device, (uint32_t)(round_up(bytes, page) / page));
    if (*address == 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    region = region_add(REGION_ALLOC, *address, bytes, device);
    region->context = context;
    region->suballocated = small;
    memory_fill(*address, bytes, region->id);
    return CUDA_SUCCESS;
}

static void memory_delete(struct region *region)
{
    const uint64_t page = driver.config.granularity, address = region->address;
    const size_t bytes = region->bytes;
    const int device = region->device, small = region->suballocated;
    region_remove(region);
    if (small) {
        memory_spoil(address, bytes);
        delete_small(device, address, bytes);
    } else {
        memory_delete_pages(device, address, (uint32_t)(round_up(bytes, page) / page));
    }
}

void memory_delete_context(struct context *context)
{
    uint32_t i = 0;
    while (i < region_count) {
        struct region *region = regions[i];
        if (region->context == context && region->kind == REGION_ALLOC) {
            memory_delete(region);
        } else if (region->context == context && region->kind >= REGION_HOST) {
            region_remove(region);
        } else {
            i++;
        }
    }
}

static CUresult alloc(CUdeviceptr *address, size_t bytes)
{
    uint64_t found = 0;
    CUresult result;
    if (address == NULL || bytes == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    result = memory_new(context_now(), context_now()->device, bytes, &found);
    if (result == CUDA_SUCCESS) {
        *address = found;
    }
    return result;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    DRIVER_CALL(cuMemAlloc_v2, ENTER_CONTEXT | ENTER_UNSAFE, alloc(address, bytes));
}

static CUresult free_memory(CUdeviceptr address)
{
    struct region *region = region_at(address);
    if (address == 0) {
        return CUDA_SUCCESS;
    }
    if (region == NULL || region->kind == REGION_MAPPING || region->kind == REGION_HOST ||
        region->kind == REGION_REGISTERED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (graph_owns(region)) {
        return graph_free_eager(region, NULL);
    }
    if (region->kind == REGION_POOL) {
        return pool_free_region(region, NULL);
    }
    if (driver.config.free_waits) { /* some drivers do; that it happened to wait orders nothing for the checker */
        schedule_all();
        region = region_at(address);
        if (region == NULL) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    order_host(ACCESS_FREE, "cuMemFree", region->address, region->bytes);
    if (region->kind == REGION_MANAGED) {
        region_remove(region);
    } else {
        memory_delete(region);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    DRIVER_CALL(cuMemFree_v2, ENTER_CONTEXT | ENTER_UNSAFE, free_memory(address));
}

static CUresult get_info(size_t *free_bytes, size_t *total_bytes)
{
    if (free_bytes == NULL || total_bytes == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *free_bytes = memory_free_bytes(context_now()->device);
    *total_bytes = (size_t)driver.config.capacity;
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    DRIVER_CALL(cuMemGetInfo_v2, ENTER_CONTEXT, get_info(free_bytes, total_bytes));
}

static CUresult address_range(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    const struct region *region = region_find(address);
    if (region == NULL) {
        return CUDA_ERROR_NOT_FOUND;
    }
    if (base != NULL) {
        *base = region->address;
    }
    if (bytes != NULL) {
        *bytes = region->bytes;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    DRIVER_CALL(cuMemGetAddressRange_v2, ENTER_CONTEXT, address_range(base, bytes, address));
}

/* ---- host memory */
static struct region *add_host(enum region_kind kind, void *memory, size_t bytes, unsigned flags)
{
    struct region *region = region_add(kind, (uint64_t)(uintptr_t)memory, bytes, context_now()->device);
    region->context = context_now();
    region->mirror = memory;
    region->flags = flags;
    region->shadow = shadow_new(bytes);
    return region;
}

static void *map_host(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    fill_bytes(memory, bytes < driver.config.fill ? bytes : (size_t)driver.config.fill, ++driver.next_id);
    return memory;
}

static CUresult host_alloc(void **memory, size_t bytes, unsigned flags)
{
    const size_t page = (size_t)driver.config.granularity;
    struct region *region, *second;
    if (memory == NULL || bytes == 0 || (flags & ~7u) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (bytes > ((size_t)1 << 40) || (*memory = map_host(bytes)) == NULL) {
        *memory = NULL;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    region = add_host(REGION_HOST, *memory, bytes, flags);
    if ((flags & CU_MEMHOSTALLOC_WRITECOMBINED) != 0) { /* another address for the device */
        uint64_t address = memory_reserve((bytes + page - 1) / page * page, 0, 0);
        if (address == 0) {
            region_remove(region);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        second = region_add(REGION_HOST, address, bytes, region->device);
        second->context = region->context;
        second->second = 1;
        second->mirror = region->mirror;
        second->shadow = region->shadow;
        second->flags = flags;
        second->twin = region->address;
        region->twin = address;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags)
{
    DRIVER_CALL(cuMemHostAlloc, ENTER_CONTEXT | ENTER_UNSAFE, host_alloc(memory, bytes, flags));
}

static CUresult free_host(void *memory)
{
    const size_t page = (size_t)driver.config.granularity;
    struct region *region = region_at((uint64_t)(uintptr_t)memory);
    if (region == NULL || region->kind != REGION_HOST || region->second) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    order_host(ACCESS_FREE, "cuMemFreeHost", region->address, region->bytes);
    if (region->twin != 0) {
        memory_unreserve(region->twin, (region->bytes + page - 1) / page * page);
        region_remove(region_at(region->twin));
    }
    region_remove(region);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *memory)
{
    DRIVER_CALL(cuMemFreeHost, ENTER_CONTEXT | ENTER_UNSAFE, free_host(memory));
}

static CUresult host_pointer(CUdeviceptr *address, void *memory, unsigned flags)
{
    const struct region *region = region_find((uint64_t)(uintptr_t)memory);
    if (address == NULL || flags != 0 || region == NULL || region->second ||
        (region->kind != REGION_HOST && region->kind != REGION_REGISTERED)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *address = (region->twin != 0 ? region->twin : region->address) + ((uint64_t)(uintptr_t)memory - region->address);
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *memory, unsigned int flags)
{
    DRIVER_CALL(cuMemHostGetDevicePointer_v2, ENTER_CONTEXT, host_pointer(address, memory, flags));
}

static CUresult host_register(void *memory, size_t bytes, unsigned flags)
{
    if (memory == NULL || bytes == 0 || (flags & ~15u) != 0 || memory_in_window((uint64_t)(uintptr_t)memory, 1)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (region_overlaps((uint64_t)(uintptr_t)memory, bytes)) {
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
    (void)add_host(REGION_REGISTERED, memory, bytes, flags);
    return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags)
{
    DRIVER_CALL(cuMemHostRegister_v2, ENTER_CONTEXT | ENTER_UNSAFE, host_register(memory, bytes, flags));
}

static CUresult host_unregister(void *memory)
{
    struct region *region = region_at((uint64_t)(uintptr_t)memory);
    if (memory == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (region == NULL || region->kind != REGION_REGISTERED) {
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    order_host(ACCESS_FREE, "cuMemHostUnregister", region->address, region->bytes);
    region_remove(region);
    return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *memory)
{
    DRIVER_CALL(cuMemHostUnregister, ENTER_CONTEXT | ENTER_UNSAFE, host_unregister(memory));
}

static CUresult alloc_managed(CUdeviceptr *address, size_t bytes, unsigned flags)
{
    void *memory;
    int managed = 0;
    if (address == NULL || bytes == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (device_attribute(&managed, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY) != CUDA_SUCCESS || !managed) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (bytes > ((size_t)1 << 40) || (memory = map_host(bytes)) == NULL) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    (void)add_host(REGION_MANAGED, memory, bytes, flags);
    *address = (CUdeviceptr)(uintptr_t)memory;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags)
{
    DRIVER_CALL(cuMemAllocManaged, ENTER_CONTEXT | ENTER_UNSAFE, alloc_managed(address, bytes, flags));
}

/* ---- what is known of a pointer */
static void put_number(void *data, uint64_t value, size_t bytes)
{
    memcpy(data, &value, bytes); /* little-endian, as every machine that this runs on */
}

static CUresult pointer_attribute(void *data, CUpointer_attribute attribute, CUdeviceptr address)
{
    const struct region *region = region_find(address);
    const int host = region != NULL && (region->kind == REGION_HOST || region->kind == REGION_REGISTERED);
    if (data == NULL || (region == NULL && attribute != CU_POINTER_ATTRIBUTE_MAPPED)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        memcpy(data, &region->context, sizeof region->context);
        return region->context != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        put_number(data, host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE, 4);
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        address = region->twin != 0 && !region->second ? region->twin + (address - region->address) : address;
        put_number(data, address, 8);
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        put_number(data, (uint64_t)(uintptr_t)region->mirror + (address - region->address), 8);
        return region->mirror != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: put_number(data, region->id, 8); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: put_number(data, region->kind == REGION_MANAGED, 4); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: put_number(data, (uint64_t)region->device, 4); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: put_number(data, region->address, 8); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: put_number(data, region->bytes, 8); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MAPPED: put_number(data, region != NULL, 4); return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        put_number(data, region->kind == REGION_POOL ? (uint64_t)(uintptr_t)pool_of_region(region) : 0, 8);
        return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address)
{
    DRIVER_CALL(cuPointerGetAttribute, ENTER_CONTEXT, pointer_attribute(data, attribute, address));
}

static CUresult pointer_attributes(unsigned count, const CUpointer_attribute *attributes, void **data,
                                   CUdeviceptr address)
{
    unsigned i;
    if (attributes == NULL || data == NULL || count == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (i = 0; i < count; i++) { /* what is not known of this pointer is left as 0 */
        if (pointer_attribute(data[i], attributes[i], address) != CUDA_SUCCESS && data[i] != NULL) {
            put_number(data[i], 0, 4);
        }
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **data, CUdeviceptr address)
{
    DRIVER_CALL(cuPointerGetAttributes, ENTER_CONTEXT, pointer_attributes(count, attributes, data, address));
}

int tafake_peek(void *to, CUdeviceptr from, size_t bytes)
{
    const struct region *region;
    int found;
    pthread_mutex_lock(&driver.lock);
    region = region_find(from);
    found = region != NULL && bytes <= region->bytes - (from - region->address);
    if (found) {
        memcpy(to, region->mirror != NULL ? region->mirror + (from - region->address) : memory_mirror(from), bytes);
    }
    pthread_mutex_unlock(&driver.lock);
    return found ? 0 : -1;
}

int tafake_poke(CUdeviceptr to, const void *from, size_t bytes)
{
    const struct region *region;
    int found;
    pthread_mutex_lock(&driver.lock);
    region = region_find(to);
    found = region != NULL && bytes <= region->bytes - (to - region->address);
    if (found) {
        memcpy(region->mirror != NULL ? region->mirror + (to - region->address) : memory_mirror(to), from, bytes);
    }
    pthread_mutex_unlock(&driver.lock);
    return found ? 0 : -1;
}

int tafake_is_device_address(CUdeviceptr address)
{
    return window_device != NULL && address - (CUdeviceptr)(uintptr_t)window_device < window_reserved;
}

void memory_count(tafake_live *live)
{
    uint32_t i;
    for (i = 0; i < region_count; i++) {
        live->allocations += regions[i]->kind == REGION_ALLOC;
        live->allocations += regions[i]->kind == REGION_POOL && !graph_owns(regions[i]);
        live->host_allocations += regions[i]->kind >= REGION_HOST && !regions[i]->second;
        live->mappings += regions[i]->kind == REGION_MAPPING;
    }
}
