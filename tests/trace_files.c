/* trace_files.c - writes what tests/trace.py reads: a program's trace as text, in three flushes, and as JSON.

     trace_files FILE.trace FILE.json */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include <stdio.h>

static const char *const tags[] = {"forward", "\"quoted\", \\ and \x01\x1f\x7f", "line\nfeed\ttab",
                                   "broken \xff\xc3\x28\xe2\x82", "\xe2\x82\xac", "", "[{]}"};
enum { TAGS = sizeof tags / sizeof tags[0], BLOCKS = 64 };

/* A step, the same each time but for sizes. */
static void run_step(ta_trace *trace, ta_pool *pool, size_t step)
{
    void *blocks[BLOCKS];
    size_t i;
    for (i = 0; i < BLOCKS; i++) {
        const char *outer = ta_tag_begin(tags[i % TAGS]), *inner = ta_tag_begin("inside");
        size_t size = (size_t)1 << (i % 20);
        blocks[i] = i % 3 == 0 ? ta_pool_alloc_aligned(pool, size + step, (size_t)1 << (6 + i % 8), NULL)
                               : ta_pool_alloc(pool, size + step, NULL);
        ta_tag_end(inner);
        if (i % 5 == 0) {
            (void)ta_pool_resize_in_place(pool, blocks[i], size / 2 + 1);
        }
        ta_tag_end(outer);
    }
    (void)ta_pool_alloc(pool, (size_t)1 << 40, NULL);
    for (i = 0; i < BLOCKS; i++) {
        (void)ta_pool_free(pool, blocks[(i * 7) % BLOCKS]);
    }
    (void)ta_trace_step(trace);
}

int main(int argc, char **argv)
{
    ta_pool_desc desc;
    ta_trace *json, *text;
    ta_pool *pool;
    size_t step, t;
    int failed = 0;
    if (argc != 3) {
        return 2;
    }
    for (t = 0; t < 2; t++) {
        FILE *file = fopen(argv[1 + t], "wb");
        ta_trace **trace = t == 0 ? &text : &json;
        failed |= file == NULL || ta_trace_create(NULL, trace) != TA_OK;
        memset(&desc, 0, sizeof desc);
        desc.limit_bytes = (size_t)256 << 20;
        desc.trace = *trace;
        desc.name = "the \"pool\"";
        failed |= ta_pool_create(&desc, &pool) != TA_OK;
        for (step = 0; step < 6 && !failed; step++) {
            run_step(*trace, pool, step);
            if (t == 0 && step % 2 == 0) {
                failed |= ta_trace_flush(*trace, TA_TRACE_TEXT, ta_file_write, file) != TA_OK;
            }
        }
        failed |= ta_pool_destroy(pool) != TA_OK;
        failed |= ta_trace_flush(*trace, t == 0 ? TA_TRACE_TEXT : TA_TRACE_CHROME, ta_file_write, file) != TA_OK;
        failed |= ta_trace_destroy(*trace) != TA_OK || fclose(file) != 0;
    }
    return failed;
}
