/* test.h - the harness of these tests: named cases, checks that go on after a failure, seeds. C99 and C++11.

     static void adds_up(void) { CHECK_EQ(1 + 1, 2); }
     TEST_MAIN(TEST_CASE(adds_up), TEST_CASE(...))

   prog [--list] [--seed N] [PART...] runs the cases whose names contain one of the PARTs, or all; =NAME is that case
   alone. The last line is "N passed, N failed". Status: 0 all passed, 1 some failed, 2 nothing matched or bad usage, 77 all were skipped.
   A case that checks nothing fails. Checks are for one thread: others hand their findings to it.
   Needs no fork, no signals and no threads, so it runs under emulation. */
#ifndef TEST_H
#define TEST_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
    #define TEST_ATTRIBUTE(x) __attribute__(x)
#else
    #define TEST_ATTRIBUTE(x)
#endif
#define TEST_STATIC TEST_ATTRIBUTE((unused)) static
#define TEST_STATUS_SKIP 77
#define TEST_SEED_DEFAULT 20250611u
#define TEST_FAILURES_SHOWN 20 /* per case; all are counted */
#ifndef TEST_CASE_ENDS /* for tests of the tests (tests/mutate.py): called after each case, and after each failed check */
    #define TEST_CASE_ENDS(name) ((void)0)
    #define TEST_CHECK_FAILED() ((void)0)
#endif

typedef struct test_case { const char *name; void (*run)(void); int threads; } test_case;

typedef struct test_state {
    FILE *out;
    uint64_t seed; /* as given by --seed; cases derive theirs from it */
    uint64_t checks, failures;
    int passed, failed;
    int asserts_allowed; /* the case passes bad arguments on purpose */
    const char *skip;
    char context[160]; /* shown with each failure */
} test_state;

static test_state test_now;

/* Says where the case is, e.g. which seed or which allocator; an empty text ends that. */
TEST_ATTRIBUTE((format(printf, 1, 2))) TEST_STATIC void test_context(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(test_now.context, sizeof test_now.context, format, arguments);
    va_end(arguments);
}

static int test_check(int ok, const char *file, int line, const char *text, const char *values)
{
    test_now.checks++;
    if (!ok && ++test_now.failures <= TEST_FAILURES_SHOWN) {
        fprintf(test_now.out, "\n%s:%d: %s%s%s%s%s%s", file, line, text, values[0] != 0 ? ": " : "", values,
                test_now.context[0] != 0 ? " [" : "", test_now.context, test_now.context[0] != 0 ? "]" : "");
        fflush(test_now.out);
        TEST_CHECK_FAILED();
    }
    return ok;
}

TEST_STATIC int test_compare(int ok, const char *file, int line, const char *text, uint64_t a, uint64_t b)
{
    char values[80] = "";
    if (!ok) {
        (void)snprintf(values, sizeof values, "%llu and %llu", (unsigned long long)a, (unsigned long long)b);
    }
    return test_check(ok, file, line, text, values);
}

TEST_STATIC int test_strings(const char *file, int line, const char *text, const char *a, const char *b)
{
    char values[400] = "";
    int ok = a != NULL && b != NULL && strcmp(a, b) == 0;
    if (!ok) {
        (void)snprintf(values, sizeof values, "\"%.180s\" and \"%.180s\"", a != NULL ? a : "(null)",
                       b != NULL ? b : "(null)");
    }
    return test_check(ok, file, line, text, values);
}

/* Checks go on when they fail; REQUIRE leaves the (void) function. Each argument is evaluated once. Comparisons are
   those of uint64_t: order is for values that are not negative. */
#define CHECK(condition) ((void)test_check(!!(condition), __FILE__, __LINE__, #condition, ""))
#define REQUIRE(condition) \
    do { if (!test_check(!!(condition), __FILE__, __LINE__, #condition, "")) { return; } } while (0)
#define TEST_COMPARE(a, op, b) \
    do { \
        const uint64_t test_a = (uint64_t)(a), test_b = (uint64_t)(b); \
        (void)test_compare(test_a op test_b, __FILE__, __LINE__, #a " " #op " " #b, test_a, test_b); \
    } while (0)
#define CHECK_EQ(a, b) TEST_COMPARE(a, ==, b)
#define CHECK_NE(a, b) TEST_COMPARE(a, !=, b)
#define CHECK_LE(a, b) TEST_COMPARE(a, <=, b)
#define CHECK_LT(a, b) TEST_COMPARE(a, <, b)
#define CHECK_GE(a, b) TEST_COMPARE(a, >=, b)
#define CHECK_GT(a, b) TEST_COMPARE(a, >, b)
#define CHECK_TEXT(text, a, b) ((void)test_strings(__FILE__, __LINE__, text, (a), (b)))
#define CHECK_STRING(a, b) CHECK_TEXT(#a " is " #b, a, b)
#define CHECK_RESULT(call, want) CHECK_TEXT(#call " is " #want, ta_result_text(call), ta_result_text(want))
#define CHECK_OK(call) CHECK_RESULT(call, TA_OK)

/* For TENSORALLOC_ASSERT: it fails the case, unless that has said that it passes bad arguments. */
#define TEST_ASSERT(condition) \
    ((void)(test_now.asserts_allowed || (condition) || test_check(0, __FILE__, __LINE__, "assert: " #condition, "")))
#ifdef TEST_SHARED /* the same, out of an implementation that was compiled apart */
void test_assert(const char *file, int line, const char *text);
void test_assert(const char *file, int line, const char *text)
{
    (void)(test_now.asserts_allowed || test_check(0, file, line, text, ""));
}
#endif
#define TEST_ALLOW_ASSERTS() (test_now.asserts_allowed = 1)
#define TEST_SKIP(why) (test_now.skip = (why)) /* the case cannot run here; return from it afterwards */

/* splitmix64: the same numbers on every machine. */
TEST_STATIC uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A number below n > 0. */
TEST_STATIC uint32_t test_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((test_random(state) >> 32) * n >> 32);
}

static void test_run(const test_case *one, int only_list)
{
    test_now.checks = test_now.failures = 0;
    test_now.asserts_allowed = 0;
    test_now.skip = NULL;
    test_now.context[0] = 0;
    fprintf(test_now.out, only_list ? "%s\n" : "%s ... ", one->name);
    fflush(test_now.out);
    if (only_list) {
        return;
    }
#ifdef TENSORALLOC_NO_THREADS
    if (one->threads) {
        fprintf(test_now.out, "skipped: needs threads\n");
        return;
    }
#endif
    one->run();
    TEST_CASE_ENDS(one->name);
    if (test_now.failures == 0 && test_now.skip != NULL) {
        fprintf(test_now.out, "skipped: %s\n", test_now.skip);
    } else if (test_now.failures != 0 || test_now.checks == 0) {
        test_now.failed++;
        fprintf(test_now.out, "%sFAILED: %llu of %llu checks\n", test_now.failures != 0 ? "\n" : "",
                (unsigned long long)test_now.failures, (unsigned long long)test_now.checks);
    } else {
        test_now.passed++;
        fprintf(test_now.out, "ok, %llu checks\n", (unsigned long long)test_now.checks);
    }
    fflush(test_now.out);
}

TEST_STATIC int test_main(int argc, char **argv, const test_case *cases, size_t case_count)
{
    FILE *out = test_now.out;
    size_t c, matched = 0;
    int i = 1, list = 0;
    char *end = NULL;
    memset(&test_now, 0, sizeof test_now);
    test_now.out = out != NULL ? out : stdout;
    test_now.seed = TEST_SEED_DEFAULT;
    for (; i < argc && argv[i][0] == '-' && (end == NULL || *end == 0); i++) {
        if (strcmp(argv[i], "--list") == 0) {
            list = 1;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc && argv[i + 1][0] != 0) {
            test_now.seed = strtoull(argv[++i], &end, 0);
        } else {
            end = argv[i];
        }
    }
    if (end != NULL && *end != 0) {
        fprintf(test_now.out, "usage: [--list] [--seed N] [PART OF A NAME...]\n");
        return 2;
    }
    if (!list) {
        fprintf(test_now.out, "seed %llu\n", (unsigned long long)test_now.seed);
    }
    for (c = 0; c < case_count; c++) {
        int part, chosen = i >= argc;
        for (part = i; part < argc; part++) {
            chosen |= argv[part][0] == '=' ? strcmp(cases[c].name, argv[part] + 1) == 0
                                           : strstr(cases[c].name, argv[part]) != NULL;
        }
        if (chosen) {
            matched++;
            test_run(&cases[c], list);
        }
    }
    if (!list) {
        fprintf(test_now.out, "%d passed, %d failed\n", test_now.passed, test_now.failed);
    }
    return matched == 0 ? 2 : test_now.failed != 0 ? 1 : !list && test_now.passed == 0 ? TEST_STATUS_SKIP : 0;
}

#define TEST_CASE(function) {#function, function, 0}
#define TEST_CASE_THREADS(function) {#function, function, 1} /* starts threads that use the library */
#define TEST_MAIN(...) \
    int main(int argc, char **argv) \
    { \
        static const test_case cases[] = {__VA_ARGS__}; \
        return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]); \
    }

#endif /* TEST_H */
