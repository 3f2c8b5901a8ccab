/* The implementation that the programs of this folder run on: checked, checked with a trap, or neither. */
#include <stdio.h>
#include <stdlib.h>

#ifdef MISUSE_TRAP
    #define TENSORALLOC_TRAP(result) abort()
#endif
#define TENSORALLOC_LOG(result, text) (printf("report %d %s\n", (int)(result), (text)), (void)fflush(stdout))
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"

extern const int misuse_checked;
#ifdef TENSORALLOC_CHECKED
const int misuse_checked = 1;
#else
const int misuse_checked = 0;
#endif
