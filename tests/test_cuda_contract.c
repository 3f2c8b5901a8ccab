/* test_cuda_contract.c - the contract suite over every allocator, graph pools too, on every kind of CUDA memory, with
   the software driver. What blocks hold is looked at behind the back of the driver: device memory faults when the host
   touches it. */
#define TENSORALLOC_CUDA
#define CUDA_SOURCES(kind, name, options) \
    {name ", ranges", kind, SOURCE_CUDA_RANGES, options}, {name ", segments", kind, SOURCE_CUDA_SEGMENTS, options}, \
    {name ", async", kind, SOURCE_CUDA_ASYNC, options}, {name ", pinned", kind, SOURCE_CUDA_PINNED, options}, \
    {name ", managed", kind, SOURCE_CUDA_MANAGED, options}
#define CONTRACT_CUDA \
    CUDA_SOURCES(KIND_POOL, "pool", 0), CUDA_SOURCES(KIND_POOL, "pool, single-threaded", SINGLE | NO_STEALING), \
    CUDA_SOURCES(KIND_ARENA, "arena", 0), {"direct, segments", KIND_DIRECT, SOURCE_CUDA_SEGMENTS, 0}, \
    {"direct, async", KIND_DIRECT, SOURCE_CUDA_ASYNC, 0}, {"direct, pinned", KIND_DIRECT, SOURCE_CUDA_PINNED, 0}, \
    {"dynamic, ranges", KIND_DYNAMIC, SOURCE_CUDA_RANGES, 0}, \
    {"dynamic, pinned", KIND_DYNAMIC, SOURCE_CUDA_PINNED, 0}, CUDA_SOURCES(KIND_GRAPH, "graph pool", 0), \
    {"graph pool, single-threaded", KIND_GRAPH, SOURCE_CUDA_RANGES, SINGLE}, \
    {"graph pool, segments by option", KIND_GRAPH, SOURCE_CUDA_RANGES, NO_RANGES}
#include "test_contract.c"

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST_CASE(allocate_returns_valid_buffer), TEST_CASE(allocate_zero_size_is_an_error),
        TEST_CASE(free_allows_reuse), TEST_CASE(empty_cache_leaves_nothing_cached), TEST_CASE(dispose_cleans_up),
        TEST_CASE(reserved_is_in_use_plus_cached_after_each_call), TEST_CASE(alignments_up_to_a_mebibyte),
        TEST_CASE(absurd_alignments_are_errors), TEST_CASE(absurd_sizes_are_errors),
        TEST_CASE(unknown_flags_are_errors), TEST_CASE(resize_in_place_keeps_contents_and_never_moves),
        TEST_CASE(remap_keeps_contents), TEST_CASE(trim_to_a_target), TEST_CASE(limit_is_never_exceeded),
        TEST_CASE(cached_only_never_asks_the_backend), TEST_CASE(zeroed_requests_read_as_zero),
        TEST_CASE(device_is_the_backends), TEST_CASE(null_arguments_are_errors),
        TEST_CASE(bad_pointers_are_errors_and_change_nothing), TEST_CASE(copies_of_a_buffer_go_stale_together),
        TEST_CASE(backend_fails_once_at_every_call), TEST_CASE(backend_fails_from_every_call_on),
        TEST_CASE(threads_free_each_others_blocks)};
    if (!driver_load() || fake.tafake_reset == NULL) {
        printf("skipped: this is not the software driver\n");
        return TEST_STATUS_SKIP;
    }
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
