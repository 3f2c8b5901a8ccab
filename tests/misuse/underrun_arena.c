/* underrun_arena.c - writes in front of a block of an arena.
   checked: TA_ERROR_UNDERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    char *block;
    (void)new_arena_block(arena, 100);
    block = new_arena_block(arena, 100);
    block[-1] = 0;
    BUG(ta_allocator_free(ta_arena_allocator(arena), block, 100, 0, 0));
    printf("sound\n");
    return 0;
}
