/* interior_arena.c - frees a pointer into a block of an arena.
   checked: TA_ERROR_INTERIOR
   release: TA_ERROR_INTERIOR */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    char *block = new_arena_block(arena, 1000);
    BUG(ta_allocator_free(ta_arena_allocator(arena), block + 64, 0, 0, 0));
    NEED(ta_arena_destroy(arena) == TA_OK);
    printf("sound\n");
    return 0;
}
