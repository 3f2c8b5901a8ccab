/* json.h - a strict reader of JSON (RFC 8259) for tests: the whole text must be one value and valid UTF-8, or json_read
   says where it is not. C99 and C++11. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define JSON_STATIC TEST_STATIC
#define JSON_DEPTH_MAX 32

/* kind: one of { [ s (string) n (number) t (true) f (false) 0 (null). Values follow their container in the order of
   the text; keys are strings before their value. next: the value after this one and all it contains. */
typedef struct json_node {
    char kind;
    size_t start, end; /* of the text; strings without their quotes */
    size_t next;
} json_node;

typedef struct json {
    const char *text;
    size_t length, at;
    json_node *nodes;
    size_t count, room;
} json;

static size_t json_add(json *j, char kind)
{
    json_node *node;
    if (j->count == j->room) {
        j->room = j->room == 0 ? 256 : 2 * j->room;
        j->nodes = (json_node *)realloc(j->nodes, j->room * sizeof *j->nodes);
        if (j->nodes == NULL) {
            abort();
        }
    }
    node = &j->nodes[j->count];
    node->kind = kind;
    node->start = node->end = j->at;
    node->next = 0;
    return j->count++;
}

static void json_space(json *j)
{
    while (j->at < j->length && j->text[j->at] != 0 && strchr(" \t\n\r", j->text[j->at]) != NULL) {
        j->at++;
    }
}

static int json_is(const json *j, char c)
{
    return j->at < j->length && j->text[j->at] == c;
}

/* Bytes of the UTF-8 character at text, 0 if there is none. */
static size_t json_utf8(const unsigned char *text, size_t room)
{
    uint32_t code;
    size_t length = text[0] < 0x80 ? 1 : (text[0] & 0xe0) == 0xc0 ? 2 : (text[0] & 0xf0) == 0xe0 ? 3
                  : (text[0] & 0xf8) == 0xf0 ? 4 : 0, i;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 0 || length > room) {
        return 0;
    }
    code = length == 1 ? text[0] : text[0] & (0xffu >> (length + 1));
    for (i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (text[i] & 0x3f);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : length;
}

static int json_string(json *j)
{
    size_t node, i;
    if (!json_is(j, '"')) {
        return 0;
    }
    j->at++;
    node = json_add(j, 's');
    while (j->at < j->length && j->text[j->at] != '"') {
        size_t length = json_utf8((const unsigned char *)j->text + j->at, j->length - j->at);
        if (length == 0 || (unsigned char)j->text[j->at] < 0x20) {
            return 0;
        }
        if (j->text[j->at] == '\\') {
            j->at++;
            if (j->at == j->length || j->text[j->at] == 0 || strchr("\"\\/bfnrtu", j->text[j->at]) == NULL) {
                return 0;
            }
            for (i = 0; j->text[j->at] == 'u' && i < 4; i++) {
                if (j->at + 1 + i >= j->length || j->text[j->at + 1 + i] == 0 ||
                    strchr("0123456789abcdefABCDEF", j->text[j->at + 1 + i]) == NULL) {
                    return 0;
                }
            }
            j->at += i;
            length = 1;
        }
        j->at += length;
    }
    j->nodes[node].end = j->at;
    j->nodes[node].next = j->count;
    return json_is(j, '"') && (j->at++, 1);
}

static size_t json_digits(json *j)
{
    size_t from = j->at;
    while (j->at < j->length && j->text[j->at] >= '0' && j->text[j->at] <= '9') {
        j->at++;
    }
    return j->at - from;
}

static int json_number(json *j)
{
    size_t node = json_add(j, 'n'), digits;
    int zero;
    j->at += (size_t)json_is(j, '-');
    zero = json_is(j, '0');
    digits = json_digits(j);
    if (digits == 0 || (zero && digits > 1)) {
        return 0;
    }
    if (json_is(j, '.') && (j->at++, json_digits(j) == 0)) {
        return 0;
    }
    if (json_is(j, 'e') || json_is(j, 'E')) {
        j->at++;
        j->at += (size_t)(json_is(j, '-') || json_is(j, '+'));
        if (json_digits(j) == 0) {
            return 0;
        }
    }
    j->nodes[node].end = j->at;
    j->nodes[node].next = j->count;
    return 1;
}

static int json_value(json *j, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t node, i;
    char close;
    json_space(j);
    if (json_is(j, '"')) {
        return json_string(j);
    }
    if (!json_is(j, '{') && !json_is(j, '[')) {
        for (i = 0; i < 3; i++) {
            size_t length = strlen(words[i]);
            if (j->length - j->at >= length && memcmp(j->text + j->at, words[i], length) == 0) {
                node = json_add(j, "tf0"[i]);
                j->at += length;
                j->nodes[node].end = j->at;
                j->nodes[node].next = j->count;
                return 1;
            }
        }
        return json_number(j);
    }
    if (depth == JSON_DEPTH_MAX) {
        return 0;
    }
    close = j->text[j->at] == '{' ? '}' : ']';
    node = json_add(j, j->text[j->at++]);
    json_space(j);
    if (!json_is(j, close)) {
        do {
            json_space(j);
            if (close == '}') {
                if (!json_string(j)) {
                    return 0;
                }
                json_space(j);
                if (!json_is(j, ':')) {
                    return 0;
                }
                j->at++;
            }
            if (!json_value(j, depth + 1)) {
                return 0;
            }
            json_space(j);
        } while (json_is(j, ',') && (j->at++, 1));
        if (!json_is(j, close)) {
            return 0;
        }
    }
    j->at++;
    j->nodes[node].end = j->at;
    j->nodes[node].next = j->count;
    return 1;
}

/* 1: the text is one value, nodes[0]; else 0, and j->at is where it goes wrong. json_free in both cases. */
JSON_STATIC int json_read(json *j, const char *text, size_t length)
{
    memset(j, 0, sizeof *j);
    j->text = text;
    j->length = length;
    if (!json_value(j, 0)) {
        return 0;
    }
    json_space(j);
    return j->at == length;
}

JSON_STATIC void json_free(json *j)
{
    free(j->nodes);
    memset(j, 0, sizeof *j);
}

/* Member of an object; 0 if there is none, or node is no object. */
JSON_STATIC size_t json_get(const json *j, size_t node, const char *key)
{
    size_t i, length = strlen(key);
    if (j->count == 0 || j->nodes[node].kind != '{') {
        return 0;
    }
    for (i = node + 1; i < j->nodes[node].next; i = j->nodes[i + 1].next) {
        if (j->nodes[i].end - j->nodes[i].start == length && memcmp(j->text + j->nodes[i].start, key, length) == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* First element of an array, and the one after it; 0 at the end. */
JSON_STATIC size_t json_first(const json *j, size_t array)
{
    return array != 0 && j->nodes[array].kind == '[' && array + 1 < j->nodes[array].next ? array + 1 : 0;
}

JSON_STATIC size_t json_after(const json *j, size_t array, size_t element)
{
    return j->nodes[element].next < j->nodes[array].next ? j->nodes[element].next : 0;
}

/* A whole number, or a string of one in hexadecimal; UINT64_MAX for everything else, null included. */
JSON_STATIC uint64_t json_u64(const json *j, size_t node)
{
    if (node == 0 || (j->nodes[node].kind != 'n' && j->nodes[node].kind != 's')) {
        return UINT64_MAX;
    }
    return strtoull(j->text + j->nodes[node].start, NULL, j->nodes[node].kind == 's' ? 16 : 10);
}

JSON_STATIC uint64_t json_get_u64(const json *j, size_t node, const char *key)
{
    return json_u64(j, json_get(j, node, key));
}

/* 1 if the node is a string with this text between its quotes. */
JSON_STATIC int json_says(const json *j, size_t node, const char *text)
{
    return node != 0 && j->nodes[node].kind == 's' && j->nodes[node].end - j->nodes[node].start == strlen(text) &&
           memcmp(j->text + j->nodes[node].start, text, strlen(text)) == 0;
}

#endif /* JSON_H */
