/* Declarations, then the implementation, then both again, all in one file: only one implementation comes of it. */
#include "tensoralloc.h"
#define TENSORALLOC_IMPLEMENTATION
#include "tensoralloc.h"
#include "tensoralloc.h"
