/* test_golden_checked.c - the lives of test_golden in a checked build, with what it finds; see there. */
#ifndef TENSORALLOC_CHECKED
    #define TENSORALLOC_CHECKED 2
#endif
#define GOLDEN_CHECKED 2
#include "test_golden.c"
