/* test_cuda_abi.c - our declarations of the CUDA driver against those of a cuda.h, where there is one.
   Signatures are compared when driver/abi_theirs.c is compiled; here sizes, offsets and constants are. */
#include "driver/cuda_abi.h"

#include "driver/abi_numbers.h"
#include "test.h"

extern const struct abi_number abi_theirs[];
extern const int abi_theirs_version;

static const struct abi_number abi_ours[] = {ABI_NUMBERS{NULL, 0}};

/* Known without a cuda.h too: what the layout of 64-bit programs makes of the structs. */
static void sizes_are_known(void)
{
    CHECK_EQ(sizeof(CUresult), 4);
    CHECK_EQ(sizeof(CUdeviceptr), 8);
    CHECK_EQ(sizeof(CUmemLocation), 8);
    CHECK_EQ(sizeof(CUmemAccessDesc), 12);
    CHECK_EQ(sizeof(CUmemAllocationProp), 32);
    CHECK_EQ(sizeof(CUmemPoolProps), 88);
    CHECK_EQ(offsetof(CUmemPoolProps, maxSize), 24);
}

static void same_as_cuda_h(void)
{
    size_t i;
    if (abi_theirs_version == 0) {
        TEST_SKIP("no cuda.h was found when this was built");
        return;
    }
    printf("(cuda.h %d) ", abi_theirs_version);
    for (i = 0; abi_ours[i].text != NULL; i++) {
        test_context("%s", abi_ours[i].text);
        CHECK_STRING(abi_ours[i].text, abi_theirs[i].text);
        CHECK_EQ(abi_ours[i].number, abi_theirs[i].number);
    }
    CHECK(abi_theirs[i].text == NULL);
}

TEST_MAIN(TEST_CASE(sizes_are_known), TEST_CASE(same_as_cuda_h))
