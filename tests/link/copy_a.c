#define TENSORALLOC_STATIC
#define TENSORALLOC_IMPLEMENTATION
#include "copy.h"

const copy *copy_a(void)
{
    static const copy table = COPY_TABLE;
    return &table;
}
