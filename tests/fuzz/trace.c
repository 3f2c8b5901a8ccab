/* trace.c - any text given to the reader of traces (bench/timeline.c): it is refused with a message, or what it says is
   consistent, and written again it reads the same. */
#include <setjmp.h>
#include <stddef.h>

static jmp_buf fuzz_refused;
static int fuzz_refusals;
#define TIMELINE_REFUSE() (fuzz_refusals++, longjmp(fuzz_refused, 1))
#define TIMELINE_QUIET 1
#define main timeline_main
#include "../../bench/timeline.c"
#undef main

#include "fuzz.h"

/* 1 and the trace, or 0. */
static int read_bytes(trace *t, const char *bytes, size_t size)
{
    size_t capacity = 0;
    char *text = grow_array(NULL, 0, size + 1, &capacity, 1);
    position p = {"input", 0, NULL};
    int read = 0;
    memcpy(text, bytes, size);
    memset(t, 0, sizeof *t);
    if (setjmp(fuzz_refused) == 0) {
        read_text(t, &p, text, size);
        read = 1;
    }
    unmap_bytes(text, capacity);
    return read;
}

static char *write_again(const trace *t, size_t *length)
{
    size_t i, step = 0, room = 64 * (t->event_count + t->step_count) + 1;
    char *text = malloc(room), *end = text;
    uint64_t *ids = calloc(t->block_count + 1, sizeof *ids);
    FUZZ_CHECK(text != NULL && ids != NULL);
    for (i = 0; i <= t->event_count; i++) {
        for (; step < t->step_count && t->step_ends[step] == i; step++) {
            end += sprintf(end, "s\n");
        }
        if (i == t->event_count) {
            break;
        }
        if (t->events[i].is_free) {
            end += sprintf(end, "f %zu\n", t->events[i].block);
        } else {
            end += sprintf(end, "a %zu %llu %llu\n", t->events[i].block, (unsigned long long)t->events[i].size_bytes,
                           1ull << t->events[i].alignment_log2);
        }
    }
    FUZZ_CHECK(step == t->step_count && (size_t)(end - text) < room);
    *length = (size_t)(end - text);
    free(ids);
    return text;
}

static void check_trace(const trace *t)
{
    unsigned char *state = calloc(t->block_count + 1, 1); /* 1 live, 2 freed */
    size_t i, allocations = 0;
    FUZZ_CHECK(state != NULL && t->event_count > 0);
    for (i = 0; i < t->event_count; i++) {
        const event *e = &t->events[i];
        FUZZ_CHECK(e->block < t->block_count && e->line != 0 && (i == 0 || e->line > t->events[i - 1].line));
        if (e->is_free) {
            FUZZ_CHECK(state[e->block] == 1);
            state[e->block] = 2;
        } else {
            FUZZ_CHECK(e->block == allocations && state[e->block] == 0);
            FUZZ_CHECK(e->size_bytes > 0 && e->size_bytes <= SIZE_BYTES_MAX && e->alignment_log2 <= 30);
            state[allocations++] = 1;
        }
    }
    FUZZ_CHECK(allocations == t->block_count);
    free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    trace first, second;
    if (read_bytes(&first, (const char *)data, size)) {
        size_t length = 0, i;
        char *text;
        check_trace(&first);
        text = write_again(&first, &length);
        FUZZ_CHECK(read_bytes(&second, text, length));
        FUZZ_CHECK(second.event_count == first.event_count && second.block_count == first.block_count);
        FUZZ_CHECK(second.step_count == first.step_count);
        for (i = 0; i < first.event_count; i++) {
            FUZZ_CHECK(first.events[i].block == second.events[i].block &&
                       first.events[i].size_bytes == second.events[i].size_bytes &&
                       first.events[i].alignment_log2 == second.events[i].alignment_log2 &&
                       first.events[i].is_free == second.events[i].is_free);
        }
        free(text);
        trace_dispose(&second);
    }
    trace_dispose(&first);
    return 0;
}
