/* implementation.h - the header with its implementation; a failed assert of it fails the case. Programs for which meson.build
   compiles the implementation once (TEST_SHARED, shared.c) get the declarations alone, as most files of a user do. */
#ifndef TEST_IMPLEMENTATION_H
#define TEST_IMPLEMENTATION_H

#include "test.h"
#ifndef TEST_SHARED
    #define TENSORALLOC_ASSERT(x) TEST_ASSERT(x)
    #define TENSORALLOC_IMPLEMENTATION
#endif
#include "tensoralloc.h"

#endif
