/* shapes.c - sizes, strides, offsets and bounds of any shape against arithmetic of 128 bits. */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "fuzz.h"

__extension__ typedef unsigned __int128 wide;

/* Dimensions near powers of two are where products overflow. */
static int64_t take_dim(fuzz_input *in)
{
    uint8_t how = fuzz_byte(in);
    unsigned bits = how & 63;
    uint64_t value = ((uint64_t)1 << bits) + fuzz_byte(in) - 128u;
    if (how >= 192) {
        value = fuzz_byte(in);
    } else if (how >= 128) {
        value &= 15;
    }
    return (int64_t)value;
}

/* The product as the header says it: dimensions of 0 count as 1 for overflow. 0: overflow. */
static int product(const int64_t *dims, int rank, wide most, wide *out)
{
    wide all = 1;
    int i, empty = 0;
    for (i = 0; i < rank; i++) {
        empty |= dims[i] == 0;
        all *= dims[i] == 0 ? 1u : (wide)(uint64_t)dims[i];
        if (all > most) {
            return 0;
        }
    }
    *out = empty ? 0 : all;
    return 1;
}

static void check_shape(const int64_t *dims, int rank, ta_dtype dtype)
{
    int64_t elements = -7, strides[TA_RANK_MAX + 2], index[TA_RANK_MAX + 2], offset = 0;
    size_t bytes = 7;
    wide expected = 0;
    int i, negative = 0, ok_rank = rank >= 0 && rank <= TA_RANK_MAX;
    ta_result result = ta_shape_elements(dims, rank, &elements);
    for (i = 0; ok_rank && i < rank; i++) {
        negative |= dims[i] < 0;
    }
    if (!ok_rank || negative) {
        FUZZ_CHECK(result == TA_ERROR_INVALID_ARGUMENT);
        FUZZ_CHECK(ta_shape_bytes(dims, rank, dtype, &bytes) == TA_ERROR_INVALID_ARGUMENT);
        FUZZ_CHECK(ta_strides_row_major(dims, rank, strides) == TA_ERROR_INVALID_ARGUMENT);
        return;
    }
    if (!product(dims, rank, INT64_MAX, &expected)) {
        FUZZ_CHECK(result == TA_ERROR_OVERFLOW);
        FUZZ_CHECK(ta_shape_bytes(dims, rank, dtype, &bytes) == (ta_dtype_size(dtype) == 0 ? TA_ERROR_INVALID_ARGUMENT
                                                                                          : TA_ERROR_OVERFLOW));
        return;
    }
    FUZZ_CHECK(result == TA_OK && (wide)(uint64_t)elements == expected);
    result = ta_shape_bytes(dims, rank, dtype, &bytes);
    if (ta_dtype_size(dtype) == 0) {
        FUZZ_CHECK(result == TA_ERROR_INVALID_ARGUMENT);
    } else if (result == TA_OK) {
        FUZZ_CHECK(expected * ta_dtype_size(dtype) == bytes && bytes <= PTRDIFF_MAX);
    } else { /* an empty shape may overflow, too: the answer does not depend on the order of dimensions */
        wide nonzero = 1;
        for (i = 0; i < rank; i++) {
            nonzero *= dims[i] == 0 ? 1u : (wide)(uint64_t)dims[i];
        }
        FUZZ_CHECK(result == TA_ERROR_OVERFLOW && nonzero * ta_dtype_size(dtype) > PTRDIFF_MAX);
    }
    FUZZ_CHECK(ta_strides_row_major(dims, rank, strides) == TA_OK);
    for (i = 0; i < rank; i++) {
        index[i] = dims[i] == 0 ? 0 : dims[i] - 1;
        FUZZ_CHECK(strides[i] > 0);
    }
    result = ta_shape_offset(dims, strides, index, rank, &offset);
    FUZZ_CHECK(expected == 0 ? result != TA_OK : result == TA_OK && (wide)(uint64_t)offset == expected - 1);
}

static void check_bounds(fuzz_input *in, int rank, ta_dtype dtype)
{
    int64_t min[TA_RANK_MAX], expected[TA_RANK_MAX], max[TA_RANK_MAX], dims[TA_RANK_MAX];
    ta_shape_bounds bounds;
    ta_bounds_sizes sizes;
    ta_result result;
    int i, step, inside = 1, negative = 0, bad = 0;
    rank = rank < 0 || rank > TA_RANK_MAX ? 3 : rank;
    memset(min, 0, sizeof min);
    memset(expected, 0, sizeof expected);
    memset(max, 0, sizeof max);
    memset(dims, 0, sizeof dims);
    for (i = 0; i < rank; i++) {
        min[i] = take_dim(in);
        expected[i] = take_dim(in);
        max[i] = (fuzz_byte(in) & 7) == 0 ? TA_DIM_UNBOUNDED : take_dim(in);
        if ((fuzz_byte(in) & 3) != 0) { /* mostly in order */
            min[i] &= 7;
            expected[i] = min[i] + (expected[i] & 15);
            max[i] = max[i] == TA_DIM_UNBOUNDED ? max[i] : expected[i] + (max[i] & 0xffffff);
        }
        step = (fuzz_byte(in) & 3) - 1; /* a little below and above, where there are such numbers */
        dims[i] = min[i] > INT64_MAX - 2 || min[i] == INT64_MIN ? min[i] : min[i] + step;
        negative |= dims[i] < 0;
        inside = inside && dims[i] >= min[i] && (max[i] == TA_DIM_UNBOUNDED || dims[i] <= max[i]);
        bad |= min[i] < 0 || expected[i] < min[i] || (max[i] != TA_DIM_UNBOUNDED && max[i] < expected[i]) || max[i] == 0;
    }
    result = ta_shape_bounds_init(&bounds, dtype, rank, min, expected, max);
    FUZZ_CHECK(!bad || result != TA_OK);
    if (result != TA_OK) {
        const unsigned char *all = (const unsigned char *)&bounds;
        FUZZ_CHECK(bad || result == TA_ERROR_OVERFLOW || ta_dtype_size(dtype) == 0);
        FUZZ_CHECK(all[0] == 0 && memcmp(all, all + 1, sizeof bounds - 1) == 0);
        return;
    }
    FUZZ_CHECK(ta_shape_bounds_get_sizes(&bounds, &sizes) == TA_OK);
    FUZZ_CHECK(sizes.min_bytes <= sizes.expected_bytes && sizes.expected_bytes <= sizes.max_bytes && sizes.max_bytes > 0);
    FUZZ_CHECK(sizes.min_elements <= sizes.expected_elements && sizes.expected_elements <= sizes.max_elements);
    result = ta_shape_bounds_contains(&bounds, dims, rank);
    FUZZ_CHECK(result == (negative ? TA_ERROR_INVALID_ARGUMENT : inside ? TA_OK : TA_ERROR_SHAPE));
    FUZZ_CHECK(ta_shape_bounds_contains(&bounds, expected, rank) == TA_OK);
}

/* A tensor with such bounds: what it holds stays. */
static void check_tensor(fuzz_input *in)
{
    int64_t min[2] = {1, 1}, now[2], max[2];
    ta_dynamic_desc desc;
    ta_dynamic *dynamic = NULL;
    ta_shape_bounds bounds;
    ta_handle handle;
    int steps;
    memset(&desc, 0, sizeof desc);
    desc.range_bytes = (size_t)64 << 20;
    desc.unbounded_bytes = (size_t)16 << 20;
    desc.limit_bytes = (size_t)16 << 20;
    desc.strict = fuzz_byte(in) & 1;
    now[0] = 1 + fuzz_byte(in);
    now[1] = 1 + fuzz_byte(in) % 16;
    max[0] = (fuzz_byte(in) & 3) == 0 ? TA_DIM_UNBOUNDED : now[0] + (int64_t)fuzz_size(in, 16);
    max[1] = 16;
    FUZZ_CHECK(ta_dynamic_create(&desc, &dynamic) == TA_OK);
    if (ta_shape_bounds_init(&bounds, TA_U8, 2, min, now, max) == TA_OK &&
        ta_dynamic_alloc(dynamic, &bounds, &handle) == TA_OK) {
        unsigned char *data = (unsigned char *)ta_dynamic_get_data(dynamic, handle);
        size_t bytes = (size_t)(now[0] * now[1]);
        FUZZ_CHECK(data != NULL);
        memset(data, 9, bytes);
        for (steps = 0; in->at < in->size && steps < 32; steps++) {
            ta_result result;
            size_t wanted, i;
            now[0] = (int64_t)fuzz_size(in, 17);
            now[1] = fuzz_byte(in) % 18;
            result = ta_dynamic_resize(dynamic, handle, now, 2);
            wanted = (size_t)(now[0] * now[1]);
            if (result != TA_OK) {
                FUZZ_CHECK(result == TA_ERROR_SHAPE || result == TA_ERROR_LIMIT || result == TA_ERROR_OUT_OF_MEMORY ||
                           result == TA_ERROR_OVERFLOW || result == TA_ERROR_FRAGMENTED);
                wanted = bytes;
            }
            data = (unsigned char *)ta_dynamic_get_data(dynamic, handle);
            for (i = 0; i < wanted && i < bytes; i += 61) {
                FUZZ_CHECK(data[i] == 9);
            }
            if (wanted != 0) {
                memset(data, 9, wanted);
            }
            bytes = wanted;
        }
        FUZZ_CHECK(ta_dynamic_free(dynamic, handle) == TA_OK);
    }
    FUZZ_CHECK(ta_dynamic_destroy(dynamic) == TA_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size, 0};
    int64_t dims[TA_RANK_MAX + 2];
    int i, rank = (int)(fuzz_byte(&in) % (TA_RANK_MAX + 3)) - 1;
    ta_dtype dtype = (ta_dtype)(fuzz_byte(&in) % (TA_DTYPE_COUNT + 1));
    memset(dims, 0, sizeof dims);
    for (i = 0; i < rank; i++) {
        dims[i] = take_dim(&in);
    }
    check_shape(dims, rank, dtype);
    check_bounds(&in, rank, dtype);
    check_tensor(&in);
    return 0;
}
