/* shared.c - the implementation for the programs that share one: see implementation.h. */
void test_assert(const char *file, int line, const char *text); /* of test.h */
#define TENSORALLOC_ASSERT(x) ((x) ? (void)0 : test_assert(__FILE__, __LINE__, "assert: " #x))
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
