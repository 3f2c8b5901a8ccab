/* fuzz.h - what the fuzz targets share. Each is one function over any bytes; a fault ends the process.

     clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/NAME.c -o build/fuzz-NAME -pthread
     build/fuzz-NAME tests/fuzz/corpus/NAME             searches (tests/fuzz.py does it for a given time)

   Without libFuzzer (-DFUZZ_REPLAY, any compiler) it is a program that runs the files it is given, and --random N SEED
   that many inputs of its own. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

/* The input, taken from its beginning; zeros behind its end. */
typedef struct fuzz_input {
    const uint8_t *data;
    size_t size, at;
} fuzz_input;

static inline uint8_t fuzz_byte(fuzz_input *in)
{
    return in->at < in->size ? in->data[in->at++] : 0;
}

static inline uint64_t fuzz_number(fuzz_input *in, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0) {
        value = value << 8 | fuzz_byte(in);
    }
    return value;
}

/* Sizes of all magnitudes: a byte says how many bits, two more which ones. */
static inline size_t fuzz_size(fuzz_input *in, unsigned bits_max)
{
    unsigned bits = fuzz_byte(in) % (bits_max + 1);
    uint64_t low = fuzz_number(in, 2);
    return (size_t)(((uint64_t)1 << bits) - 1 + (bits >= 16 ? low << (bits - 16) : low & (((uint64_t)1 << bits) - 1)));
}

#ifdef FUZZ_REPLAY
static uint8_t fuzz_data[1 << 20];

static int fuzz_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t size;
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    size = fread(fuzz_data, 1, sizeof fuzz_data, file);
    fclose(file);
    return LLVMFuzzerTestOneInput(fuzz_data, size);
}

int main(int argc, char **argv)
{
    unsigned long long count = 0, i, seed = 1, made = 0;
    int a;
    for (a = 1; a < argc; a++) {
        if (strcmp(argv[a], "--random") == 0 && a + 2 < argc) {
            made = strtoull(argv[a + 1], NULL, 10);
            seed = strtoull(argv[a + 2], NULL, 10);
            a += 2;
        } else {
            (void)fuzz_file(argv[a]);
            count++;
        }
    }
    for (i = 0; i < made; i++) {
        uint64_t state = seed + i * UINT64_C(0x9E3779B97F4A7C15);
        size_t size, at;
        for (size = 0, at = 1; at != 0; at = 0) {
            state = (state ^ (state >> 31)) * UINT64_C(0xBF58476D1CE4E5B9);
            size = (size_t)(state >> 40) % 4000;
        }
        for (at = 0; at < size; at++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            fuzz_data[at] = (uint8_t)(state >> 56);
        }
        (void)LLVMFuzzerTestOneInput(fuzz_data, size);
    }
    printf("%llu inputs\n", count + made);
    return count + made == 0;
}
#endif

#endif /* FUZZ_H */
