/* test_selftest.c - proves that the harness can fail: runs cases that fail on purpose and looks at the report. */
#include "test.h"

static int selftest_runs;

static void inner_passes(void)
{
    selftest_runs++;
    CHECK(1);
    CHECK_EQ(2, 2);
    CHECK_NE(1, 2);
    CHECK_LT(1, 2);
    CHECK_LE(2, 2);
    CHECK_GT(2, 1);
    CHECK_GE(2, 2);
    CHECK_STRING("a", "a");
    TEST_ASSERT(1);
    REQUIRE(1);
}

static void inner_check_fails(void)
{
    CHECK(1 > 2);
}

static void inner_compare_fails(void)
{
    CHECK_EQ(40 + 1, 42);
}

static void inner_every_comparison_fails(void)
{
    CHECK_EQ(1, 2);
    CHECK_NE(1, 1);
    CHECK_LT(2, 2);
    CHECK_LE(3, 2);
    CHECK_GT(2, 2);
    CHECK_GE(1, 2);
    CHECK_STRING("abc", "abd");
    CHECK_STRING(NULL, "");
}

static void inner_require_leaves(void)
{
    REQUIRE(selftest_runs < 0);
    selftest_runs = 1000; /* not reached */
}

static void inner_checks_nothing(void)
{
    selftest_runs++;
}

static void inner_skips(void)
{
    TEST_SKIP("on purpose");
}

static void inner_fails_then_skips(void)
{
    CHECK(0);
    TEST_SKIP("a skip hides no failure");
}

static void inner_has_context(void)
{
    test_context("seed %d", 77);
    CHECK(0);
}

static void inner_assert_fails(void)
{
    TEST_ASSERT(0);
}

static void inner_assert_allowed(void)
{
    TEST_ALLOW_ASSERTS();
    TEST_ASSERT(0);
    CHECK(1);
}

static void inner_fails_often(void)
{
    int i;
    for (i = 0; i < 1000; i++) {
        CHECK(i < 0);
    }
}

static const test_case inner[] = {
    TEST_CASE(inner_passes), TEST_CASE(inner_check_fails), TEST_CASE(inner_compare_fails),
    TEST_CASE(inner_every_comparison_fails), TEST_CASE(inner_require_leaves), TEST_CASE(inner_checks_nothing),
    TEST_CASE(inner_skips), TEST_CASE(inner_fails_then_skips), TEST_CASE(inner_has_context),
    TEST_CASE(inner_assert_fails), TEST_CASE(inner_assert_allowed), TEST_CASE(inner_fails_often)
};

/* What one run of the inner cases did. */
typedef struct run_result {
    int status;
    test_state state;
    char text[65536];
} run_result;

static run_result ran;

/* Runs the inner cases with these arguments (separated by blanks); the outer run goes on afterwards. */
static void run_inner(const char *arguments)
{
    char words[256] = "self", *argv[16];
    test_state outer = test_now;
    FILE *out = tmpfile();
    int argc = 1;
    char *word;
    size_t length = 0;
    argv[0] = words;
    (void)snprintf(words + 5, sizeof words - 5, "%s", arguments);
    for (word = strtok(words + 5, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    selftest_runs = 0;
    test_now.out = out != NULL ? out : stderr;
    ran.status = test_main(argc, argv, inner, sizeof inner / sizeof inner[0]);
    ran.state = test_now;
    test_now = outer;
    if (out != NULL) {
        rewind(out);
        length = fread(ran.text, 1, sizeof ran.text - 1, out);
        fclose(out);
    }
    ran.text[length] = 0;
    CHECK(out != NULL);
}

static int count_of(const char *part)
{
    const char *at = ran.text;
    int count = 0;
    while ((at = strstr(at, part)) != NULL) {
        at++;
        count++;
    }
    return count;
}

/* The last line of the output. */
static const char *last_line(void)
{
    size_t length = strlen(ran.text);
    if (length > 0 && ran.text[length - 1] == '\n') {
        ran.text[--length] = 0;
    }
    while (length > 0 && ran.text[length - 1] != '\n') {
        length--;
    }
    return ran.text + length;
}

static void passing_run(void)
{
    run_inner("inner_passes");
    CHECK_EQ(ran.status, 0);
    CHECK_EQ(selftest_runs, 1);
    CHECK_EQ(count_of("inner_passes ... ok, 9 checks\n"), 1);
    CHECK_STRING(last_line(), "1 passed, 0 failed");
}

static void failing_check(void)
{
    run_inner("inner_check_fails");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(count_of("test_selftest.c:"), 1);
    CHECK_EQ(count_of(": 1 > 2"), 1);
    CHECK_STRING(last_line(), "0 passed, 1 failed");
}

static void failing_comparison_shows_both_values(void)
{
    run_inner("inner_compare_fails");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(count_of("40 + 1 == 42: 41 and 42"), 1);
}

static void each_failing_comparison_counts(void)
{
    run_inner("inner_every_comparison_fails");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(ran.state.failures, 8);
    CHECK_EQ(count_of("test_selftest.c:"), 8);
    CHECK_EQ(count_of("\"abc\" and \"abd\""), 1);
    CHECK_EQ(count_of("\"(null)\" and \"\""), 1);
    CHECK_STRING(last_line(), "0 passed, 1 failed");
}

static void require_leaves_the_case(void)
{
    run_inner("inner_require_leaves");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(selftest_runs, 0);
    CHECK_EQ(ran.state.checks, 1);
}

static void case_without_checks_fails(void)
{
    run_inner("inner_checks_nothing");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(selftest_runs, 1);
    CHECK_STRING(last_line(), "0 passed, 1 failed");
}

static void skipped_run(void)
{
    run_inner("inner_skips inner_passes");
    CHECK_EQ(ran.status, 0);
    CHECK_EQ(count_of("skipped: on purpose\n"), 1);
    CHECK_STRING(last_line(), "1 passed, 0 failed");
    run_inner("inner_fails_then_skips");
    CHECK_EQ(ran.status, 1);
    CHECK_STRING(last_line(), "0 passed, 1 failed");
}

static void all_skipped_is_status_77(void)
{
    run_inner("inner_skips");
    CHECK_EQ(ran.status, TEST_STATUS_SKIP);
    CHECK_STRING(last_line(), "0 passed, 0 failed");
}

static void context_is_shown_and_ends_with_the_case(void)
{
    run_inner("inner_has_context");
    CHECK_EQ(count_of(" [seed 77]"), 1);
    run_inner("inner_has_context inner_assert_fails");
    CHECK_EQ(count_of(" [seed 77]"), 1);
}

static void asserts_fail_the_case_unless_allowed(void)
{
    run_inner("inner_assert_fails");
    CHECK_EQ(ran.status, 1);
    run_inner("inner_assert_allowed");
    CHECK_EQ(ran.status, 0);
    run_inner("inner_assert"); /* the permission does not outlive the case */
    CHECK_STRING(last_line(), "1 passed, 1 failed");
}

static void many_failures_are_counted_and_not_all_shown(void)
{
    run_inner("inner_fails_often");
    CHECK_EQ(ran.state.failures, 1000);
    CHECK_EQ(count_of("test_selftest.c:"), TEST_FAILURES_SHOWN);
    CHECK_EQ(count_of("FAILED: 1000 of 1000 checks"), 1);
}

static void whole_run_counts_cases(void)
{
    run_inner("");
    CHECK_EQ(ran.status, 1);
    CHECK_EQ(ran.state.passed, 2);
    CHECK_EQ(ran.state.failed, 9);
    CHECK_STRING(last_line(), "2 passed, 9 failed");
}

static void names_select_cases(void)
{
    run_inner("inner_passes inner_assert_allowed");
    CHECK_EQ(ran.status, 0);
    CHECK_STRING(last_line(), "2 passed, 0 failed");
    run_inner("no_such_case");
    CHECK_EQ(ran.status, 2);
    run_inner("--list");
    CHECK_EQ(ran.status, 0);
    CHECK_EQ(selftest_runs, 0);
    CHECK_EQ(count_of("\n"), (int)(sizeof inner / sizeof inner[0]));
    run_inner("--list inner_p");
    CHECK_STRING(last_line(), "inner_passes");
}

static void seeds(void)
{
    run_inner("inner_passes");
    CHECK_EQ(ran.state.seed, TEST_SEED_DEFAULT);
    CHECK_EQ(count_of("seed "), 1);
    run_inner("--seed 12345 inner_passes");
    CHECK_EQ(ran.status, 0);
    CHECK_EQ(ran.state.seed, 12345);
    CHECK_EQ(count_of("seed 12345\n"), 1);
    run_inner("--seed 0xff inner_passes");
    CHECK_EQ(ran.state.seed, 255);
    run_inner("--seed x1 inner_passes");
    CHECK_EQ(ran.status, 2);
    run_inner("--seed 1x inner_passes");
    CHECK_EQ(ran.status, 2);
    run_inner("--seed");
    CHECK_EQ(ran.status, 2);
    run_inner("--no-such-option");
    CHECK_EQ(ran.status, 2);
}

static void random_numbers_repeat(void)
{
    uint64_t a = 1, b = 1, c = 2;
    uint32_t i, below = 0, different = 0;
    int seen[10] = {0};
    CHECK_EQ(test_random(&a), 0x910a2dec89025cc1u); /* splitmix64 of seed 1, as published */
    CHECK_EQ(test_random(&b), 0x910a2dec89025cc1u);
    for (i = 0; i < 1000; i++) {
        uint32_t number = test_below(&a, 10);
        below += number < 10;
        seen[number < 10 ? number : 0] = 1;
        different += test_random(&b) != test_random(&c);
    }
    CHECK_EQ(below, 1000);
    CHECK_EQ(different, 1000);
    for (i = 0; i < 10; i++) {
        CHECK(seen[i]);
    }
}

TEST_MAIN(TEST_CASE(passing_run), TEST_CASE(failing_check), TEST_CASE(failing_comparison_shows_both_values),
          TEST_CASE(each_failing_comparison_counts), TEST_CASE(require_leaves_the_case),
          TEST_CASE(case_without_checks_fails), TEST_CASE(skipped_run), TEST_CASE(all_skipped_is_status_77),
          TEST_CASE(context_is_shown_and_ends_with_the_case), TEST_CASE(asserts_fail_the_case_unless_allowed),
          TEST_CASE(many_failures_are_counted_and_not_all_shown), TEST_CASE(whole_run_counts_cases),
          TEST_CASE(names_select_cases), TEST_CASE(seeds), TEST_CASE(random_numbers_repeat))
