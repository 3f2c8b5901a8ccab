/* probe.h - questions that the documentation leaves open: PROBE prints what this driver answers, and decides nothing.

   After a run on a real driver the answer becomes a check, and the software driver gives the same one. */
#ifndef PROBE_H
#define PROBE_H

#include <time.h>

#include "driver/testing.h"

#define PROBE(number, ...) (printf("PROBE %s: ", number), printf(__VA_ARGS__), printf("\n"), (void)test_now.checks++)

/* Whether the library under test is the software driver, whose time means nothing. */
__attribute__((unused)) static int is_software(void)
{
    return fake.tafake_reset != NULL;
}

__attribute__((unused)) static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif /* PROBE_H */
