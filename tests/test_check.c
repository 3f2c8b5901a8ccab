/* test_check.c - ta_pool_check finds every invariant that is broken: each is broken here, in the records, and mended. */
#include "test.h"
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#define KIB ((size_t)1024)

/* Does something to an object, which the check must find, and undoes it. */
#define BREAK(object, ...) \
    do { \
        unsigned char kept[sizeof(object)]; \
        memcpy(kept, (void *)&(object), sizeof kept); \
        __VA_ARGS__; \
        test_context("%s", #__VA_ARGS__); \
        CHECK_RESULT(ta_pool_check(pool), TA_ERROR_CORRUPT); \
        memcpy((void *)&(object), kept, sizeof kept); \
        CHECK_OK(ta_pool_check(pool)); \
    } while (0)

#define PAIRS 96
static void *live[PAIRS], *small;

/* A pool with live blocks between free ones of like size, holes in some of these, and blocks in the thread's cache. */
static ta_pool *make_pool(void)
{
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    void *gaps[PAIRS], *cached[3];
    size_t i;
    memset(&desc, 0, sizeof desc);
    CHECK_OK(ta_pool_create(&desc, &pool));
    for (i = 0; i < PAIRS; i++) {
        live[i] = ta_pool_alloc(pool, 80 * KIB, NULL);
        gaps[i] = ta_pool_alloc(pool, 80 * KIB, NULL);
    }
    for (i = 0; i < 3; i++) {
        cached[i] = ta_pool_alloc(pool, 200, NULL);
    }
    small = ta_pool_alloc(pool, 200, NULL);
    for (i = 0; i < PAIRS; i++) {
        CHECK_OK(ta_pool_free(pool, gaps[i]));
    }
    CHECK_OK(ta_pool_trim(pool, 0, NULL));
    for (i = 0; i < 3; i++) {
        CHECK_OK(ta_pool_free(pool, cached[i]));
    }
    CHECK_OK(ta_pool_check(pool));
    return pool;
}

static void drop_pool(ta_pool *pool)
{
    test_context("%s", "");
    CHECK_OK(ta_pool_check(pool));
    CHECK_OK(ta_pool_clear(pool));
    CHECK_OK(ta_pool_destroy(pool));
}

static void records_of_blocks(void)
{
    ta_pool *pool = make_pool();
    tai_space *space = &pool->space;
    tai_block *at = space->blocks.at, *block = &at[tai_space_find(space, (uintptr_t)live[3])], *hole = &at[block->next];
    tai_block *tiny = &at[tai_space_find(space, (uintptr_t)small)];
    tai_region *region = space->regions[block->place.region];
    uintptr_t page;
    uint32_t *entry = &region->map[(size_t)(block->addr - region->base) >> region->map_shift];
    REQUIRE(block->state == TAI_LIVE && hole->state == TAI_FREE && at[hole->next].state == TAI_LIVE);
    BREAK(*block, block->addr += 64);
    BREAK(*block, block->prev = 0);
    BREAK(*block, block->place.region = (block->place.region + 1) & 0xff);
    BREAK(at[region->last], at[region->last].size = 0);
    BREAK(at[region->last], at[region->last].size -= 1);
    BREAK(*block, block->state = TAI_VACANT);
    BREAK(*block, block->state = TAI_FREE); /* two free ones are one */
    BREAK(*entry, *entry = 0);
    BREAK(*entry, *entry = (uint32_t)(hole - at));
    BREAK(*block, block->requested = 0);
    BREAK(*block, block->requested = block->size + 1);
    if (tiny->place.class_index != 0) { /* thread caches are there */
        BREAK(*tiny, tiny->place.class_index = (uint8_t)(tiny->place.class_index + 1));
    }
    if ((space->info.caps & TA_CAP_RANGES) == 0) {
        drop_pool(pool);
        return; /* no holes in segments */
    }
    CHECK_NE(region->hole_bytes, 0);
    BREAK(*hole, hole->place.flags = (uint8_t)(hole->place.flags & ~TAI_FLAG_HOLES));
    page = tai_round_up(block->addr, space->granularity);
    tai_holes_set(space, region, page, page + space->granularity, 1);
    test_context("%s", "a page of a live block is a hole");
    CHECK_RESULT(ta_pool_check(pool), TA_ERROR_CORRUPT);
    tai_holes_set(space, region, page, page + space->granularity, 0);
    drop_pool(pool);
}

static void regions_and_sums(void)
{
    ta_pool *pool = make_pool();
    tai_space *space = &pool->space;
    tai_region *region = space->regions[space->blocks.at[tai_space_find(space, (uintptr_t)live[0])].place.region];
    BREAK(*region, region->last = 0);
    BREAK(*region, region->top += space->granule);
    BREAK(*region, region->commit_end = region->top - space->granule);
    BREAK(*region, region->size = (size_t)(region->commit_end - region->base) - 1);
    BREAK(*region, region->hole_bytes += space->granularity);
    BREAK(space->used, space->used[TAI_LARGE] += 64);
    BREAK(space->pending_bytes, space->pending_bytes += 64);
    BREAK(space->reserved, space->reserved -= space->granularity);
    BREAK(pool->passing_bytes, pool->passing_bytes += 64);
    BREAK(pool->count, pool->count.allocation_count++);
    BREAK(pool->count, pool->count.allocated_bytes++);
    drop_pool(pool);
}

/* A tree of free blocks, one of its nodes with children on both sides, and the leaf on its left. */
typedef struct tree_place {
    tai_bins *bins;
    uint32_t bin, node, leaf;
} tree_place;

static uint32_t find_node(const tai_block *at, uint32_t tree)
{
    uint32_t found;
    if (tree == 0 || (at[tree].left != 0 && at[tree].right != 0)) {
        return tree;
    }
    found = find_node(at, at[tree].left);
    return found != 0 ? found : find_node(at, at[tree].right);
}

static tree_place find_tree(const tai_space *space)
{
    tree_place place;
    uint32_t bin;
    memset(&place, 0, sizeof place);
    place.bins = space->bins[TAI_LARGE];
    for (bin = 0; bin < sizeof place.bins->roots / sizeof *place.bins->roots && place.node == 0; bin++) {
        place.bin = bin;
        place.node = find_node(space->blocks.at, place.bins->roots[bin]);
    }
    place.leaf = space->blocks.at[place.node].left;
    while (place.leaf != 0 && (space->blocks.at[place.leaf].left != 0 || space->blocks.at[place.leaf].right != 0)) {
        const tai_block *block = &space->blocks.at[place.leaf];
        place.leaf = block->left != 0 ? block->left : block->right;
    }
    return place;
}

static void trees_of_free_blocks(void)
{
    ta_pool *pool = make_pool();
    tai_space *space = &pool->space;
    tai_block *at = space->blocks.at, *node, *parent;
    tree_place place = find_tree(space);
    uint32_t *root = &place.bins->roots[place.bin], *link, empty = place.bin, i;
    REQUIRE(place.node != 0 && place.leaf != 0);
    node = &at[place.node];
    while (place.bins->roots[empty] != 0) {
        empty++;
    }
    BREAK(*place.bins, place.bins->words[place.bin >> 6] ^= (uint64_t)1 << (place.bin & 63));
    BREAK(*place.bins, place.bins->words[empty >> 6] |= (uint64_t)1 << (empty & 63));
    BREAK(*place.bins, place.bins->summary ^= (uint64_t)1 << (place.bin >> 6));
    BREAK(*place.bins, place.bins->summary = ~place.bins->summary);
    BREAK(*root, *root = space->blocks.end);
    BREAK(*node, node->place.stream = 7);
    BREAK(*node, node->requested++);
    BREAK(*node, node->place.heap = TAI_TINY);
    BREAK(*root, *root = tai_space_find(space, (uintptr_t)live[0])); /* of a live block */
    BREAK(*node, node->left = space->blocks.end);
    BREAK(*node, node->right = space->blocks.end);
    BREAK(*node, i = node->left, node->left = node->right, node->right = i);
    BREAK(*node, node->right = node->left);
    BREAK(*node, node->left = place.node); /* of itself */
    parent = node;
    for (i = 1; i < space->blocks.end && at[i].left != place.leaf && at[i].right != place.leaf; i++) {
    }
    parent = &at[i];
    BREAK(*parent, *(parent->left == place.leaf ? &parent->left : &parent->right) = 0); /* one that no tree has */
    /* a node under one of lower priority, on either side: the order by size is kept */
    link = root;
    while (*link != place.node) {
        link = tai_block_before(node, &at[*link]) ? &at[*link].left : &at[*link].right;
    }
    for (i = 0; i < 2; i++) {
        uint32_t *near = i == 0 ? &node->left : &node->right, child = *near;
        uint32_t *far = i == 0 ? &at[child].right : &at[child].left;
        *near = *far;
        *far = place.node;
        *link = child;
        test_context("rotated to the %s", i == 0 ? "right" : "left");
        CHECK_RESULT(ta_pool_check(pool), TA_ERROR_CORRUPT);
        *link = place.node;
        *far = *near;
        *near = child;
        CHECK_OK(ta_pool_check(pool));
    }
    drop_pool(pool);
}

TEST_MAIN(TEST_CASE(records_of_blocks), TEST_CASE(regions_and_sums), TEST_CASE(trees_of_free_blocks))
