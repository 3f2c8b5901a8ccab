/* snapshot.c - whatever allocators hold, and whatever bytes their tags and names are, a snapshot of them is valid JSON
   and tells the figures that they tell themselves; a trace of it, too, in both of its forms. */
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

#include "../test.h"

#include "../json.h"
#include "fuzz.h"

#define BLOCKS 24
#define TAGS 8

typedef struct sink {
    char *text;
    size_t length, room, fail_at;
} sink;

static ta_result take(void *user, const char *text, size_t bytes)
{
    sink *s = (sink *)user;
    if (s->length + bytes > s->fail_at) {
        return TA_ERROR_BACKEND;
    }
    if (s->length + bytes > s->room) {
        s->room = 2 * (s->length + bytes);
        s->text = (char *)realloc(s->text, s->room);
        FUZZ_CHECK(s->text != NULL);
    }
    memcpy(s->text + s->length, text, bytes);
    s->length += bytes;
    return TA_OK;
}

static void check_snapshot(const ta_allocator *allocators, size_t count, fuzz_input *in)
{
    static uint64_t scratch[8192];
    ta_snapshot_desc desc;
    sink s = {NULL, 0, 0, SIZE_MAX};
    json j;
    size_t i, element, list;
    uint8_t how = fuzz_byte(in);
    ta_result result;
    memset(&desc, 0, sizeof desc);
    desc.disable_blocks = how & 1;
    desc.scratch = (how & 2) != 0 ? scratch : NULL;
    desc.scratch_bytes = (how & 2) != 0 ? (how & 4) != 0 ? sizeof scratch : 300 : 0;
    s.fail_at = (how & 0x38) == 0x38 ? fuzz_size(in, 14) : SIZE_MAX;
    result = ta_snapshot_write(allocators, count, &desc, take, &s);
    if (s.fail_at != SIZE_MAX && result != TA_OK) {
        FUZZ_CHECK(result == TA_ERROR_BACKEND);
        free(s.text);
        return;
    }
    FUZZ_CHECK(result == TA_OK);
    FUZZ_CHECK(json_read(&j, s.text, s.length));
    list = json_get(&j, 0, "allocators");
    for (i = 0, element = json_first(&j, list); i < count; i++, element = json_after(&j, list, element)) {
        ta_stats stats;
        size_t told = json_get(&j, element, "stats");
        FUZZ_CHECK(element != 0 && told != 0);
        FUZZ_CHECK(ta_allocator_get_stats(allocators[i], &stats) == TA_OK);
        FUZZ_CHECK(json_get_u64(&j, told, "live_count") == stats.live_count);
        FUZZ_CHECK(json_get_u64(&j, told, "requested_bytes") == stats.requested_bytes);
        if (json_says(&j, json_get(&j, element, "kind"), "dynamic")) {
            break; /* a pool of its own follows it */
        }
    }
    json_free(&j);
    free(s.text);
}

static void check_flush(ta_trace *trace, fuzz_input *in)
{
    sink s = {NULL, 0, 0, SIZE_MAX};
    json j;
    uint8_t how = fuzz_byte(in);
    if ((how & 1) != 0) {
        FUZZ_CHECK(ta_trace_flush(trace, TA_TRACE_CHROME, take, &s) == TA_OK);
        FUZZ_CHECK(json_read(&j, s.text, s.length));
        json_free(&j);
    } else {
        size_t i;
        FUZZ_CHECK(ta_trace_flush(trace, TA_TRACE_TEXT, take, &s) == TA_OK);
        for (i = 0; i < s.length; i++) { /* every line is an event or a comment */
            FUZZ_CHECK(s.text[i] != 0);
            FUZZ_CHECK((i != 0 && s.text[i - 1] != '\n') || strchr("afs#\n", s.text[i]) != NULL);
        }
        FUZZ_CHECK(s.length == 0 || s.text[s.length - 1] == '\n');
    }
    free(s.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size, 0};
    static char tags[TAGS][24], name[32];
    void *blocks[BLOCKS];
    ta_pool_desc desc;
    ta_dynamic_desc dynamic_desc;
    ta_allocator all[4];
    ta_pool *pool = NULL;
    ta_arena *arena = NULL;
    ta_direct *direct = NULL;
    ta_dynamic *dynamic = NULL;
    ta_trace *trace = NULL;
    size_t i;
    int steps = 0;
    memset(blocks, 0, sizeof blocks);
    memset(&desc, 0, sizeof desc);
    memset(&dynamic_desc, 0, sizeof dynamic_desc);
    for (i = 0; i < sizeof name - 1; i++) {
        name[i] = (char)fuzz_byte(&in);
    }
    for (i = 0; i < TAGS * sizeof tags[0]; i++) {
        tags[i / sizeof tags[0]][i % sizeof tags[0]] = i % sizeof tags[0] == sizeof tags[0] - 1 ? 0 : (char)fuzz_byte(&in);
    }
    FUZZ_CHECK(ta_trace_create(NULL, &trace) == TA_OK);
    desc.name = name;
    desc.trace = (fuzz_byte(&in) & 1) != 0 ? trace : NULL;
    desc.range_bytes = dynamic_desc.range_bytes = (size_t)64 << 20;
    dynamic_desc.name = name;
    desc.limit_bytes = (size_t)8 << 20;
    desc.block_count_max = 4096;
    FUZZ_CHECK(ta_pool_create(&desc, &pool) == TA_OK && ta_arena_create(NULL, &arena) == TA_OK &&
               ta_direct_create(NULL, &direct) == TA_OK && ta_dynamic_create(&dynamic_desc, &dynamic) == TA_OK);
    all[0] = ta_pool_allocator(pool);
    all[1] = ta_arena_allocator(arena);
    all[2] = ta_direct_allocator(direct);
    all[3] = ta_dynamic_allocator(dynamic);
    while (in.at < in.size && steps++ < 200) {
        uint8_t what = fuzz_byte(&in), which = fuzz_byte(&in) % BLOCKS;
        ta_allocator allocator = all[which % 4];
        if (what < 200 && blocks[which] == NULL) {
            ta_request request;
            memset(&request, 0, sizeof request);
            request.size_bytes = 1 + fuzz_size(&in, 19);
            request.tag = what % 3 == 0 ? NULL : tags[what % TAGS];
            blocks[which] = ta_allocator_alloc(allocator, &request, NULL);
        } else if (what < 200) {
            FUZZ_CHECK(ta_allocator_free(allocator, blocks[which], 0, 0, 0) == TA_OK);
            blocks[which] = NULL;
        } else if (what < 210) {
            FUZZ_CHECK(ta_allocator_trim(allocator, 0, NULL) == TA_OK);
        } else if (what < 220) {
            FUZZ_CHECK(ta_trace_step(trace) == TA_OK);
        } else if (what < 230) {
            check_flush(trace, &in);
        } else if (steps < 60) {
            check_snapshot(all, 4, &in);
        }
    }
    check_snapshot(all, 4, &in);
    FUZZ_CHECK(ta_dynamic_destroy(dynamic) == TA_OK && ta_direct_destroy(direct) == TA_OK);
    FUZZ_CHECK(ta_arena_destroy(arena) == TA_OK && ta_pool_destroy(pool) == TA_OK);
    FUZZ_CHECK(ta_trace_destroy(trace) == TA_OK);
    return 0;
}
