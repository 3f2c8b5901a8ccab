/* test_dlpack.c - [TA:DLPACK]: tensors go out with a deleter, and come in as they are; bad ones are refused. */
#include "test.h"

static int64_t records_left = -1; /* < 0: no end */

static void *records_malloc(size_t size)
{
    return records_left < 0 || records_left-- > 0 ? malloc(size) : NULL;
}
#define TENSORALLOC_MALLOC(size) records_malloc(size)
#define TENSORALLOC_FREE(ptr) free(ptr)
#define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

/* The layout of the structs in DLPack's header, on machines with 64-bit pointers. */
static void layouts_are_those_of_dlpack(void)
{
    CHECK_EQ(offsetof(ta_dlpack_tensor, data), 0);
    CHECK_EQ(offsetof(ta_dlpack_tensor, device_type), sizeof(void *));
    CHECK_EQ(offsetof(ta_dlpack_tensor, device_index), sizeof(void *) + 4);
    CHECK_EQ(offsetof(ta_dlpack_tensor, rank), sizeof(void *) + 8);
    CHECK_EQ(offsetof(ta_dlpack_tensor, dtype_code), sizeof(void *) + 12);
    CHECK_EQ(offsetof(ta_dlpack_tensor, dtype_bits), sizeof(void *) + 13);
    CHECK_EQ(offsetof(ta_dlpack_tensor, dtype_lanes), sizeof(void *) + 14);
    CHECK_EQ(offsetof(ta_dlpack_tensor, dims), sizeof(void *) + 16);
    CHECK_EQ(offsetof(ta_dlpack_tensor, strides), 2 * sizeof(void *) + 16);
    if (sizeof(void *) == 8) {
        CHECK_EQ(offsetof(ta_dlpack_tensor, byte_offset), 40);
        CHECK_EQ(sizeof(ta_dlpack_tensor), 48);
        CHECK_EQ(offsetof(ta_dlpack, context), 48);
        CHECK_EQ(offsetof(ta_dlpack, deleter), 56);
        CHECK_EQ(offsetof(ta_dlpack_versioned, context), 8);
        CHECK_EQ(offsetof(ta_dlpack_versioned, deleter), 16);
        CHECK_EQ(offsetof(ta_dlpack_versioned, flags), 24);
        CHECK_EQ(offsetof(ta_dlpack_versioned, tensor), 32);
        CHECK_EQ(sizeof(ta_dlpack_versioned), 80);
    }
}

static size_t live(ta_pool *pool)
{
    ta_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_OK(ta_pool_get_stats(pool, &stats));
    return stats.live_count;
}

static void every_dtype_goes_out_and_comes_back(void)
{
    ta_pool *pool;
    int dtype, versioned;
    CHECK_OK(ta_pool_create(NULL, &pool));
    for (dtype = 0; dtype < (int)TA_DTYPE_COUNT; dtype++) {
        for (versioned = 0; versioned < 2; versioned++) {
            int64_t dims[3] = {2, 3, 5};
            ta_tensor tensor, view;
            ta_dlpack *object = NULL;
            ta_dlpack_versioned *newer = NULL;
            void *data;
            test_context("%s", ta_dtype_name((ta_dtype)dtype));
            CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), (ta_dtype)dtype, dims, 3, 0, 0, &tensor));
            data = tensor.buffer.data;
            if (versioned) {
                CHECK_OK(ta_dlpack_export_versioned(&tensor, 0, &newer));
                CHECK(newer->major == 1 && newer->flags == 0);
                CHECK_OK(ta_dlpack_import_versioned(newer, &view));
            } else {
                CHECK_OK(ta_dlpack_export(&tensor, 0, &object));
                CHECK_OK(ta_dlpack_import(&object->tensor, &view));
            }
            CHECK(tensor.buffer.data == NULL && tensor.allocator.vtable == NULL);
            CHECK_OK(ta_tensor_destroy(&tensor, 0)); /* it is not ours any more */
            CHECK(view.buffer.data == data);
            CHECK_EQ(view.buffer.size_bytes, 30 * ta_dtype_size((ta_dtype)dtype));
            CHECK_EQ(view.dtype, dtype);
            CHECK(view.rank == 3 && view.dims[2] == 5 && view.strides[0] == 15 && ta_tensor_is_contiguous(&view));
            TEST_ALLOW_ASSERTS();
            CHECK(ta_tensor_destroy(&view, 0) != TA_OK); /* it borrows */
            CHECK_EQ(live(pool), 1);
            if (versioned) {
                newer->deleter(newer);
            } else {
                object->deleter(object);
            }
            CHECK_EQ(live(pool), 0);
        }
    }
    CHECK_OK(ta_pool_destroy(pool));
}

static void empty_tensors_and_scalars(void)
{
    int64_t dims[2] = {0, 7};
    ta_tensor tensor, view;
    ta_dlpack *object;
    ta_pool *pool;
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 0, 0, &tensor));
    CHECK_OK(ta_dlpack_export(&tensor, 0, &object));
    CHECK_OK(ta_dlpack_import(&object->tensor, &view));
    CHECK(view.buffer.data == NULL && view.dims[1] == 7);
    object->deleter(object);
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, NULL, 0, 0, 0, &tensor));
    CHECK_OK(ta_dlpack_export(&tensor, 0, &object));
    CHECK_OK(ta_dlpack_import(&object->tensor, &view));
    CHECK_EQ(view.buffer.size_bytes, 4);
    object->deleter(object);
    CHECK_EQ(live(pool), 0);
    CHECK_OK(ta_pool_destroy(pool));
}

/* What others may send. */
static void foreign_tensors(void)
{
    float data[24];
    int64_t dims[2] = {3, 4}, strides[2] = {8, 2};
    ta_dlpack_tensor shown;
    ta_tensor view;
    memset(&shown, 0, sizeof shown);
    shown.data = data;
    shown.device_type = 1;
    shown.rank = 2;
    shown.dtype_code = 2;
    shown.dtype_bits = 32;
    shown.dtype_lanes = 1;
    shown.dims = dims;
    CHECK_OK(ta_dlpack_import(&shown, &view)); /* no strides: row-major */
    CHECK(view.strides[0] == 4 && view.strides[1] == 1 && view.buffer.size_bytes == 48);
    shown.strides = strides;
    shown.byte_offset = 4;
    CHECK_OK(ta_dlpack_import(&shown, &view));
    CHECK(view.buffer.data == &data[1] && view.buffer.size_bytes == 4 * (2 * 8 + 3 * 2 + 1));
    CHECK(!ta_tensor_is_contiguous(&view));
    strides[1] = -2;
    CHECK_OK(ta_dlpack_import(&shown, &view));
    CHECK_EQ(view.buffer.size_bytes, 4 * (2 * 8 + 1));
    strides[0] = INT64_MAX / 2;
    CHECK_RESULT(ta_dlpack_import(&shown, &view), TA_ERROR_OVERFLOW);
    CHECK(view.buffer.data == NULL && view.rank == 0);
}

static void bad_ones_are_refused(void)
{
    float data[4];
    int64_t dims[TA_RANK_MAX + 1];
    ta_dlpack_tensor good, shown;
    ta_dlpack_versioned object;
    ta_dlpack *out = NULL;
    ta_tensor tensor;
    int i;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i <= TA_RANK_MAX; i++) {
        dims[i] = 1;
    }
    memset(&good, 0, sizeof good);
    memset(&object, 0, sizeof object);
    good.data = data;
    good.device_type = 1;
    good.rank = 1;
    good.dtype_code = 2;
    good.dtype_bits = 32;
    good.dtype_lanes = 1;
    good.dims = dims;
    CHECK_OK(ta_dlpack_import(&good, &tensor));
    CHECK_RESULT(ta_dlpack_import(&good, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dlpack_import(NULL, &tensor), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dlpack_import_versioned(NULL, &tensor), TA_ERROR_INVALID_ARGUMENT);
    for (i = 0; i < 9; i++) {
        ta_result want = TA_ERROR_UNSUPPORTED;
        test_context("%d", i);
        shown = good;
        switch (i) {
        case 0: shown.device_type = 7; break;
        case 1: shown.dtype_code = 3; break;
        case 2: shown.dtype_bits = 24; break;
        case 3: shown.dtype_lanes = 4; break;
        case 4: shown.rank = TA_RANK_MAX + 1; break;
        case 5: shown.rank = -1; want = TA_ERROR_INVALID_ARGUMENT; break;
        case 6: shown.dims = NULL; want = TA_ERROR_INVALID_ARGUMENT; break;
        case 7: shown.data = NULL; want = TA_ERROR_INVALID_ARGUMENT; break;
        default: dims[0] = -1; want = TA_ERROR_INVALID_ARGUMENT; break;
        }
        memset(&tensor, 1, sizeof tensor);
        CHECK_RESULT(ta_dlpack_import(&shown, &tensor), want);
        CHECK(tensor.buffer.data == NULL && tensor.rank == 0);
    }
    object.major = 2;
    object.tensor = good;
    CHECK_RESULT(ta_dlpack_import_versioned(&object, &tensor), TA_ERROR_UNSUPPORTED);
    memset(&tensor, 0, sizeof tensor);
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, &out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dlpack_export(NULL, 0, &out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK(out == NULL);
}

static void without_memory_the_tensor_stays(void)
{
    int64_t dims[1] = {100};
    ta_tensor tensor;
    ta_dlpack *object;
    ta_pool *pool;
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 1, 0, 0, &tensor));
    records_left = 0;
    CHECK_RESULT(ta_dlpack_export(&tensor, 0, &object), TA_ERROR_RECORDS);
    records_left = -1;
    CHECK(object == NULL && tensor.buffer.data != NULL);
    CHECK_OK(ta_tensor_destroy(&tensor, 0));
    CHECK_OK(ta_pool_destroy(pool));
}

TEST_MAIN(TEST_CASE(layouts_are_those_of_dlpack), TEST_CASE(every_dtype_goes_out_and_comes_back),
          TEST_CASE(empty_tensors_and_scalars), TEST_CASE(foreign_tensors), TEST_CASE(bad_ones_are_refused),
          TEST_CASE(without_memory_the_tensor_stays))
