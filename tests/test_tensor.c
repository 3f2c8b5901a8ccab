/* test_tensor.c - [TA:TENSOR]: dtypes, shapes, strides, offsets, tensors over blocks. */
#include "implementation.h"
#include "backends.h"

#define I64_MAX INT64_MAX
#define I64_MIN INT64_MIN

static void dtypes(void)
{
    static const struct {
        ta_dtype dtype;
        const char *name;
        size_t size, alignment;
    } table[] = {
        {TA_F16, "f16", 2, 2}, {TA_BF16, "bf16", 2, 2}, {TA_F32, "f32", 4, 4}, {TA_F64, "f64", 8, 8},
        {TA_F8_E4M3, "f8_e4m3", 1, 1}, {TA_F8_E5M2, "f8_e5m2", 1, 1}, {TA_I8, "i8", 1, 1}, {TA_I16, "i16", 2, 2},
        {TA_I32, "i32", 4, 4}, {TA_I64, "i64", 8, 8}, {TA_U8, "u8", 1, 1}, {TA_U16, "u16", 2, 2},
        {TA_U32, "u32", 4, 4}, {TA_U64, "u64", 8, 8}, {TA_BOOL, "bool", 1, 1}, {TA_C64, "c64", 8, 4}, {TA_C128, "c128", 16, 8}
    };
    size_t i;
    CHECK_EQ(sizeof table / sizeof table[0], (size_t)TA_DTYPE_COUNT);
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        test_context("%s", table[i].name);
        CHECK_EQ(ta_dtype_size(table[i].dtype), table[i].size);
        CHECK_EQ(ta_dtype_alignment(table[i].dtype), table[i].alignment);
        CHECK_STRING(ta_dtype_name(table[i].dtype), table[i].name);
    }
    CHECK_EQ(TA_SIMD_256_BYTES, 32);
    CHECK_EQ(TA_SIMD_512_BYTES, 64);
}

static void no_dtypes(void)
{
    static const int bad[] = {-1, (int)TA_DTYPE_COUNT, 1000, -1000000};
    size_t i, bytes = 77;
    const int64_t dims[] = {2};
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(ta_dtype_size((ta_dtype)bad[i]), 0);
        CHECK_EQ(ta_dtype_alignment((ta_dtype)bad[i]), 0);
        CHECK_STRING(ta_dtype_name((ta_dtype)bad[i]), "?");
        CHECK_RESULT(ta_shape_bytes(dims, 1, (ta_dtype)bad[i], &bytes), TA_ERROR_INVALID_ARGUMENT);
        CHECK_EQ(bytes, 77);
    }
}

static void elements_of_shapes(void)
{
    static const struct {
        int rank;
        int64_t dims[4], elements;
    } table[] = {
        {0, {0, 0, 0, 0}, 1}, {1, {7, 0, 0, 0}, 7}, {1, {0, 0, 0, 0}, 0}, {1, {1, 0, 0, 0}, 1}, {3, {2, 3, 4, 0}, 24},
        {2, {0, 5, 0, 0}, 0}, {2, {5, 0, 0, 0}, 0}, {3, {5, 0, 7, 0}, 0}, {4, {1, 1, 1, 1}, 1}, {4, {0, 0, 0, 0}, 0},
        {1, {I64_MAX, 0, 0, 0}, I64_MAX}, {2, {I64_MAX, 1, 0, 0}, I64_MAX}, {2, {1, I64_MAX, 0, 0}, I64_MAX},
        {2, {I64_MAX, 0, 0, 0}, 0}, {2, {0, I64_MAX, 0, 0}, 0},
        {2, {3037000499, 3037000499, 0, 0}, 9223372030926249001}
    };
    size_t i;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t elements = -5;
        test_context("row %u", (unsigned)i);
        CHECK_OK(ta_shape_elements(table[i].dims, table[i].rank, &elements));
        CHECK_EQ(elements, table[i].elements);
    }
}

/* Every pair and triple of the numbers around which products begin to overflow, against division. */
static void overflow_at_every_boundary(void)
{
    static const int64_t edge[] = {0, 1, 2, 3, 4, 255, 256, 65535, 65536, 2147483647, 2147483648, 4294967295,
                                   4294967296, 3037000499, 3037000500, I64_MAX / 4, I64_MAX / 4 + 1, I64_MAX / 3, I64_MAX / 3 + 1,
                                   I64_MAX / 2, I64_MAX / 2 + 1, I64_MAX - 1, I64_MAX};
    const size_t count = sizeof edge / sizeof edge[0];
    size_t i, k, m;
    for (i = 0; i < count; i++) {
        for (k = 0; k < count; k++) {
            for (m = 0; m < count; m++) {
                const int64_t dims[3] = {edge[i], edge[k], edge[m]};
                int64_t product = 1, elements = -5, strides[3] = {-5, -5, -5};
                int d, fits = 1, empty = 0;
                for (d = 0; d < 3; d++) {
                    empty = empty || dims[d] == 0;
                    if (fits && dims[d] != 0) {
                        fits = product <= I64_MAX / dims[d];
                        product = fits ? product * dims[d] : product;
                    }
                }
                if (fits) {
                    CHECK_OK(ta_shape_elements(dims, 3, &elements));
                    CHECK_EQ(elements, empty ? 0 : product);
                    CHECK_OK(ta_strides_row_major(dims, 3, strides));
                    CHECK_EQ(strides[2], 1);
                    CHECK_EQ(strides[1], dims[2] == 0 ? 1 : dims[2]);
                    CHECK_EQ(strides[0], strides[1] * (dims[1] == 0 ? 1 : dims[1]));
                } else {
                    CHECK_RESULT(ta_shape_elements(dims, 3, &elements), TA_ERROR_OVERFLOW);
                    CHECK_EQ(elements, -5); /* nothing has changed */
                    CHECK_RESULT(ta_strides_row_major(dims, 3, strides), TA_ERROR_OVERFLOW);
                    CHECK_EQ(strides[0], -5);
                }
            }
        }
    }
}

static void overflow_does_not_depend_on_order(void)
{
    const int64_t a[] = {0, I64_MAX, 2}, b[] = {I64_MAX, 2, 0}, c[] = {I64_MAX, 0, 2};
    int64_t elements;
    size_t bytes;
    CHECK_RESULT(ta_shape_elements(a, 3, &elements), TA_ERROR_OVERFLOW);
    CHECK_RESULT(ta_shape_elements(b, 3, &elements), TA_ERROR_OVERFLOW);
    CHECK_RESULT(ta_shape_elements(c, 3, &elements), TA_ERROR_OVERFLOW);
    CHECK_RESULT(ta_shape_bytes(a, 3, TA_I8, &bytes), TA_ERROR_OVERFLOW);
    CHECK_RESULT(ta_shape_bytes(b, 3, TA_I8, &bytes), TA_ERROR_OVERFLOW);
}

/* For each dtype: the largest count whose bytes fit into PTRDIFF_MAX, and one more. */
static void bytes_at_their_boundary(void)
{
    int d;
    for (d = 0; d < (int)TA_DTYPE_COUNT; d++) {
        const ta_dtype dtype = (ta_dtype)d;
        const size_t size = ta_dtype_size(dtype);
        const int64_t most = (int64_t)((size_t)PTRDIFF_MAX / size);
        int64_t dims[2];
        size_t bytes = 77;
        test_context("%s", ta_dtype_name(dtype));
        dims[0] = most;
        dims[1] = 1;
        CHECK_OK(ta_shape_bytes(dims, 2, dtype, &bytes));
        CHECK_EQ(bytes, (size_t)most * size);
        CHECK_LE(bytes, PTRDIFF_MAX);
        bytes = 77;
        if (most < I64_MAX) {
            dims[0] = most + 1;
            CHECK_RESULT(ta_shape_bytes(dims, 2, dtype, &bytes), TA_ERROR_OVERFLOW);
            CHECK_EQ(bytes, 77);
        }
        dims[0] = most / 2 + 1;
        dims[1] = 2;
        CHECK_RESULT(ta_shape_bytes(dims, 2, dtype, &bytes), TA_ERROR_OVERFLOW);
        dims[0] = 3;
        dims[1] = 5;
        CHECK_OK(ta_shape_bytes(dims, 2, dtype, &bytes));
        CHECK_EQ(bytes, 15 * size);
        dims[1] = 0;
        CHECK_OK(ta_shape_bytes(dims, 2, dtype, &bytes));
        CHECK_EQ(bytes, 0);
        CHECK_OK(ta_shape_bytes(NULL, 0, dtype, &bytes));
        CHECK_EQ(bytes, size);
    }
}

static void ranks(void)
{
    int64_t dims[TA_RANK_MAX + 1], strides[TA_RANK_MAX + 1], index[TA_RANK_MAX + 1], elements = -5, offset = -5;
    size_t bytes;
    int i;
    TEST_ALLOW_ASSERTS();
    CHECK_EQ(TA_RANK_MAX, 16);
    for (i = 0; i <= TA_RANK_MAX; i++) {
        dims[i] = 2;
        index[i] = 1;
        strides[i] = -5;
    }
    CHECK_OK(ta_shape_elements(dims, 16, &elements));
    CHECK_EQ(elements, 65536);
    CHECK_OK(ta_strides_row_major(dims, 16, strides));
    for (i = 0; i < 16; i++) {
        CHECK_EQ(strides[i], (int64_t)1 << (15 - i));
    }
    CHECK_EQ(strides[16], -5);
    CHECK_OK(ta_shape_offset(dims, strides, index, 16, &offset));
    CHECK_EQ(offset, 65535);
    CHECK_OK(ta_shape_elements(NULL, 0, &elements)); /* a scalar */
    CHECK_EQ(elements, 1);
    CHECK_OK(ta_strides_row_major(NULL, 0, NULL));
    CHECK_OK(ta_shape_offset(NULL, NULL, NULL, 0, &offset));
    CHECK_EQ(offset, 0);
    for (i = 0; i < 2; i++) {
        const int rank = i == 0 ? 17 : -1;
        elements = offset = -5;
        bytes = 77;
        CHECK_RESULT(ta_shape_elements(dims, rank, &elements), TA_ERROR_INVALID_ARGUMENT);
        CHECK_RESULT(ta_shape_bytes(dims, rank, TA_F32, &bytes), TA_ERROR_INVALID_ARGUMENT);
        CHECK_RESULT(ta_strides_row_major(dims, rank, strides), TA_ERROR_INVALID_ARGUMENT);
        CHECK_RESULT(ta_shape_offset(dims, strides, index, rank, &offset), TA_ERROR_INVALID_ARGUMENT);
        CHECK_EQ(elements, -5);
        CHECK_EQ(offset, -5);
        CHECK_EQ(bytes, 77);
    }
}

static void negative_dimensions(void)
{
    static const int64_t bad[] = {-1, -2, I64_MIN, I64_MIN + 1};
    size_t i;
    int place;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < 4; i++) {
        for (place = 0; place < 3; place++) {
            int64_t dims[3] = {0, I64_MAX, 4}, elements = -5, strides[3] = {-5, -5, -5};
            size_t bytes = 77;
            dims[place] = bad[i]; /* also next to a zero, and to what would overflow */
            CHECK_RESULT(ta_shape_elements(dims, 3, &elements), TA_ERROR_INVALID_ARGUMENT);
            CHECK_RESULT(ta_shape_bytes(dims, 3, TA_F32, &bytes), TA_ERROR_INVALID_ARGUMENT);
            CHECK_RESULT(ta_strides_row_major(dims, 3, strides), TA_ERROR_INVALID_ARGUMENT);
            CHECK_EQ(elements, -5);
            CHECK_EQ(bytes, 77);
            CHECK_EQ(strides[0], -5);
        }
    }
}

/* The layout of the specification: shape [2, 3, 4], offset of [i, j, k] = i * 12 + j * 4 + k. */
static void row_major_layout(void)
{
    const int64_t dims[] = {2, 3, 4};
    int64_t strides[3], offset, i, j, k, next = 0;
    CHECK_OK(ta_strides_row_major(dims, 3, strides));
    CHECK_EQ(strides[0], 12);
    CHECK_EQ(strides[1], 4);
    CHECK_EQ(strides[2], 1);
    for (i = 0; i < 2; i++) {
        for (j = 0; j < 3; j++) {
            for (k = 0; k < 4; k++) {
                const int64_t index[] = {i, j, k};
                CHECK_OK(ta_shape_offset(dims, strides, index, 3, &offset));
                CHECK_EQ(offset, i * 12 + j * 4 + k);
                CHECK_EQ(offset, next++); /* one behind the other */
            }
        }
    }
}

static void strides_of_empty_shapes_stay_positive(void)
{
    const int64_t dims[] = {3, 0, 5}, zeros[] = {0, 0, 0};
    int64_t strides[3];
    CHECK_OK(ta_strides_row_major(dims, 3, strides));
    CHECK_EQ(strides[0], 5);
    CHECK_EQ(strides[1], 5);
    CHECK_EQ(strides[2], 1);
    CHECK_OK(ta_strides_row_major(zeros, 3, strides));
    CHECK_EQ(strides[0], 1);
    CHECK_EQ(strides[1], 1);
    CHECK_EQ(strides[2], 1);
}

static void offsets_outside_are_errors(void)
{
    const int64_t dims[] = {2, 3}, strides[] = {3, 1};
    static const int64_t bad[][2] = {{2, 0}, {0, 3}, {-1, 0}, {0, -1}, {I64_MIN, 0}, {I64_MAX, I64_MAX}};
    int64_t offset = -5;
    size_t i;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_RESULT(ta_shape_offset(dims, strides, bad[i], 2, &offset), TA_ERROR_INVALID_ARGUMENT);
        CHECK_EQ(offset, -5);
    }
    {
        const int64_t empty[] = {0, 3}, index[] = {0, 0};
        CHECK_RESULT(ta_shape_offset(empty, strides, index, 2, &offset), TA_ERROR_INVALID_ARGUMENT);
    }
}

static void offsets_with_strange_strides(void)
{
    const int64_t dims[] = {I64_MAX, 4};
    int64_t index[2] = {0, 0}, strides[2] = {1, 1}, offset = -5;
    index[0] = I64_MAX - 1;
    CHECK_OK(ta_shape_offset(dims, strides, index, 2, &offset));
    CHECK_EQ(offset, I64_MAX - 1);
    index[1] = 1;
    CHECK_OK(ta_shape_offset(dims, strides, index, 2, &offset));
    CHECK_EQ(offset, I64_MAX);
    index[1] = 2;
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, &offset), TA_ERROR_OVERFLOW);
    strides[0] = 2;
    index[1] = 0;
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, &offset), TA_ERROR_OVERFLOW);
    strides[0] = -1; /* backwards, as in a flipped view */
    strides[1] = 0;  /* and broadcast */
    index[1] = 3;
    CHECK_OK(ta_shape_offset(dims, strides, index, 2, &offset));
    CHECK_EQ(offset, -(I64_MAX - 1));
    strides[1] = -1;
    index[1] = 2;
    CHECK_OK(ta_shape_offset(dims, strides, index, 2, &offset));
    CHECK_EQ(offset, I64_MIN);
    index[1] = 3;
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, &offset), TA_ERROR_OVERFLOW);
    strides[0] = I64_MIN;
    index[0] = 2;
    index[1] = 0;
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, &offset), TA_ERROR_OVERFLOW);
    index[0] = 0;
    strides[0] = I64_MAX;
    strides[1] = 5;
    index[1] = 3;
    CHECK_OK(ta_shape_offset(dims, strides, index, 2, &offset));
    CHECK_EQ(offset, 15);
}

static void null_arguments(void)
{
    const int64_t dims[] = {2, 3}, strides[] = {3, 1}, index[] = {0, 0};
    int64_t out[2] = {-5, -5};
    ta_tensor tensor;
    size_t bytes = 77;
    ta_allocator none;
    TEST_ALLOW_ASSERTS();
    memset(&none, 0, sizeof none);
    memset(&tensor, 0, sizeof tensor);
    CHECK_RESULT(ta_shape_elements(NULL, 2, out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_elements(dims, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_bytes(NULL, 2, TA_F32, &bytes), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_bytes(dims, 2, TA_F32, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_strides_row_major(NULL, 2, out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_strides_row_major(dims, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(NULL, strides, index, 2, out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, NULL, index, 2, out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, strides, NULL, 2, out), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_shape_offset(dims, strides, index, 2, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(out[0], -5);
    CHECK_EQ(bytes, 77);
    CHECK_RESULT(ta_tensor_create(none, TA_F32, dims, 2, 0, 0, NULL), TA_ERROR_INVALID_ARGUMENT);
    CHECK_RESULT(ta_tensor_create(none, TA_F32, dims, 2, 0, 0, &tensor), TA_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ta_tensor_destroy(NULL, 0));
    CHECK_OK(ta_tensor_destroy(&tensor, 0));
    CHECK(ta_tensor_at(NULL, index) == NULL);
    CHECK(ta_tensor_at(&tensor, index) == NULL); /* a zero tensor */
    CHECK(!ta_tensor_is_contiguous(NULL));
}

static ta_stats stats_of(ta_pool *pool)
{
    ta_stats s;
    memset(&s, 0, sizeof s);
    CHECK_OK(ta_pool_get_stats(pool, &s));
    return s;
}

static void tensors_hold_their_elements(void)
{
    const int64_t dims[] = {3, 5, 7};
    ta_pool *pool = NULL;
    ta_tensor t;
    int64_t i, j, k, next = 0;
    TEST_ALLOW_ASSERTS(); /* indices outside */
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 3, 0, 0, &t));
    CHECK_EQ(t.rank, 3);
    CHECK_EQ(t.dtype, TA_F32);
    CHECK_EQ(t.buffer.size_bytes, 3 * 5 * 7 * 4);
    CHECK_EQ((uintptr_t)t.buffer.data % 64, 0);
    CHECK(memcmp(t.dims, dims, sizeof dims) == 0);
    CHECK(ta_tensor_is_contiguous(&t));
    for (i = 0; i < 3; i++) {
        for (j = 0; j < 5; j++) {
            for (k = 0; k < 7; k++) {
                const int64_t index[] = {i, j, k};
                float *at = (float *)ta_tensor_at(&t, index);
                CHECK(at == (float *)t.buffer.data + next);
                *at = (float)next++;
            }
        }
    }
    {
        const int64_t outside[] = {3, 0, 0}, below[] = {0, -1, 0};
        CHECK(ta_tensor_at(&t, outside) == NULL);
        CHECK(ta_tensor_at(&t, below) == NULL);
        CHECK(ta_tensor_at(&t, NULL) == NULL);
    }
    CHECK_EQ(stats_of(pool).live_count, 1);
    CHECK_OK(ta_tensor_destroy(&t, 0));
    CHECK(t.buffer.data == NULL && t.rank == 0);
    CHECK_EQ(stats_of(pool).live_count, 0);
    CHECK_OK(ta_tensor_destroy(&t, 0));
    CHECK_OK(ta_pool_destroy(pool));
}

static void tensors_of_rank_zero_and_without_elements(void)
{
    const int64_t empty[] = {4, 0, 2};
    ta_pool *pool = NULL;
    ta_tensor t;
    TEST_ALLOW_ASSERTS(); /* an index into nothing */
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F64, NULL, 0, 0, 0, &t)); /* one element */
    CHECK_EQ(t.buffer.size_bytes, 8);
    CHECK(ta_tensor_at(&t, NULL) == t.buffer.data);
    CHECK(ta_tensor_is_contiguous(&t));
    CHECK_OK(ta_tensor_destroy(&t, 0));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F64, empty, 3, 0, 0, &t));
    CHECK(t.buffer.data == NULL);
    CHECK_EQ(t.rank, 3);
    CHECK_EQ(t.dims[1], 0);
    CHECK_EQ(t.strides[0], 2);
    CHECK(ta_tensor_is_contiguous(&t));
    CHECK_EQ(stats_of(pool).allocation_count, 1); /* it took no memory */
    {
        const int64_t index[] = {0, 0, 0};
        CHECK(ta_tensor_at(&t, index) == NULL);
    }
    CHECK_OK(ta_tensor_destroy(&t, 0));
    CHECK_EQ(t.rank, 0);
    CHECK_OK(ta_pool_destroy(pool));
}

static void tensors_are_aligned_as_asked(void)
{
    const int64_t dims[] = {1000};
    ta_pool *pool = NULL;
    size_t alignment;
    CHECK_OK(ta_pool_create(NULL, &pool));
    for (alignment = 1; alignment <= 65536; alignment *= 2) {
        ta_tensor t;
        CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_C128, dims, 1, alignment, 0, &t));
        CHECK_EQ((uintptr_t)t.buffer.data % alignment, 0);
        CHECK_EQ((uintptr_t)t.buffer.data % ta_dtype_alignment(TA_C128), 0);
        CHECK_OK(ta_tensor_destroy(&t, 0));
    }
    CHECK_OK(ta_pool_destroy(pool));
}

static void failed_tensors_leave_nothing(void)
{
    const int64_t large[] = {I64_MAX, 2}, negative[] = {3, -1}, big[] = {1 << 20}, fine[] = {10};
    int64_t many[17];
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_allocator a;
    ta_tensor t, zero;
    int i;
    TEST_ALLOW_ASSERTS();
    for (i = 0; i < 17; i++) {
        many[i] = 1;
    }
    memset(&zero, 0, sizeof zero);
    memset(&desc, 0, sizeof desc);
    desc.limit_bytes = 1 << 20;
    CHECK_OK(ta_pool_create(&desc, &pool));
    a = ta_pool_allocator(pool);
#define FAILS(call, want) \
    do { \
        memset(&t, 0xff, sizeof t); \
        CHECK_RESULT(call, want); \
        CHECK(memcmp(&t, &zero, sizeof t) == 0); \
    } while (0)
    FAILS(ta_tensor_create(a, TA_F32, large, 2, 0, 0, &t), TA_ERROR_OVERFLOW);
    FAILS(ta_tensor_create(a, TA_F32, negative, 2, 0, 0, &t), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_tensor_create(a, TA_F32, NULL, 2, 0, 0, &t), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_tensor_create(a, TA_F32, many, 17, 0, 0, &t), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_tensor_create(a, TA_F32, many, -1, 0, 0, &t), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_tensor_create(a, TA_DTYPE_COUNT, fine, 1, 0, 0, &t), TA_ERROR_INVALID_ARGUMENT);
    FAILS(ta_tensor_create(a, TA_F32, fine, 1, 3, 0, &t), TA_ERROR_INVALID_ALIGNMENT);
    FAILS(ta_tensor_create(a, TA_F32, big, 1, 0, 0, &t), TA_ERROR_LIMIT);
#undef FAILS
    CHECK_EQ(stats_of(pool).live_count, 0);
    CHECK_EQ(stats_of(pool).allocation_count, 0);
    CHECK_OK(ta_tensor_create(a, TA_F32, fine, 1, 0, 0, &t));
    {
        ta_tensor copy = t;
        CHECK_OK(ta_tensor_destroy(&t, 0));
        CHECK_RESULT(ta_tensor_destroy(&copy, 0), TA_ERROR_STALE);
        CHECK(copy.buffer.data != NULL); /* nothing has changed */
    }
    CHECK_OK(ta_pool_destroy(pool));
}

static void contiguity_of_views(void)
{
    const int64_t dims[] = {4, 1, 6};
    ta_pool *pool = NULL;
    ta_tensor t, view;
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_I16, dims, 3, 0, 0, &t));
    CHECK(ta_tensor_is_contiguous(&t));
    view = t; /* transposed */
    view.dims[0] = 6;
    view.dims[2] = 4;
    view.strides[0] = 1;
    view.strides[2] = 6;
    CHECK(!ta_tensor_is_contiguous(&view));
    {
        const int64_t index[] = {5, 0, 3}, same[] = {3, 0, 5};
        CHECK(ta_tensor_at(&view, index) == ta_tensor_at(&t, same));
    }
    view = t; /* the stride of a dimension of 1 says nothing */
    view.strides[1] = 12345;
    CHECK(ta_tensor_is_contiguous(&view));
    view = t; /* every other row */
    view.dims[0] = 2;
    view.strides[0] = 12;
    CHECK(!ta_tensor_is_contiguous(&view));
    CHECK_OK(ta_tensor_destroy(&t, 0));
    CHECK_OK(ta_pool_destroy(pool));
}

static void tensors_on_a_stream(void)
{
    const int64_t dims[] = {100, 100};
    const ta_stream home = 5, other = 6;
    tb_clock clock;
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    ta_block_info info;
    ta_tensor t;
    memset(&desc, 0, sizeof desc);
    desc.backend = tb_clock_init(&clock, TA_CAP_RANGES, 0);
    CHECK_OK(ta_pool_create(&desc, &pool));
    CHECK_OK(ta_tensor_create(ta_pool_allocator(pool), TA_F16, dims, 2, 0, home, &t));
    CHECK_EQ((uintptr_t)t.buffer.data % 256, 0);
    CHECK_OK(ta_pool_describe(pool, t.buffer.data, &info));
    CHECK_EQ(info.stream, home);
    tb_clock_use(&clock, other, t.buffer.data, t.buffer.size_bytes);
    CHECK_OK(ta_tensor_destroy(&t, other)); /* where it was used last */
    CHECK_GT(stats_of(pool).pending_bytes, 0);
    CHECK_OK(ta_pool_destroy(pool));
    tb_clock_check(&clock);
    tb_clock_end(&clock);
}

static void tensors_over_every_allocator(void)
{
    const int64_t dims[] = {17, 3};
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_allocator all[3];
    int i;
    CHECK_OK(ta_pool_create(NULL, &pool));
    CHECK_OK(ta_arena_create(NULL, &arena));
    CHECK_OK(ta_direct_create(NULL, &direct));
    all[0] = ta_pool_allocator(pool);
    all[1] = ta_arena_allocator(arena);
    all[2] = ta_direct_allocator(direct);
    for (i = 0; i < 3; i++) {
        ta_tensor t;
        CHECK_OK(ta_tensor_create(all[i], TA_BF16, dims, 2, TA_SIMD_512_BYTES, 0, &t));
        memset(t.buffer.data, 1, t.buffer.size_bytes);
        CHECK_EQ(t.buffer.size_bytes, 102);
        CHECK_OK(ta_tensor_destroy(&t, 0));
        CHECK_OK(ta_allocator_destroy(all[i]));
    }
}

TEST_MAIN(TEST_CASE(dtypes), TEST_CASE(no_dtypes), TEST_CASE(elements_of_shapes),
          TEST_CASE(overflow_at_every_boundary), TEST_CASE(overflow_does_not_depend_on_order),
          TEST_CASE(bytes_at_their_boundary), TEST_CASE(ranks), TEST_CASE(negative_dimensions),
          TEST_CASE(row_major_layout), TEST_CASE(strides_of_empty_shapes_stay_positive),
          TEST_CASE(offsets_outside_are_errors), TEST_CASE(offsets_with_strange_strides),
          TEST_CASE(null_arguments), TEST_CASE(tensors_hold_their_elements),
          TEST_CASE(tensors_of_rank_zero_and_without_elements), TEST_CASE(tensors_are_aligned_as_asked),
          TEST_CASE(failed_tensors_leave_nothing), TEST_CASE(contiguity_of_views),
          TEST_CASE(tensors_on_a_stream), TEST_CASE(tensors_over_every_allocator))
