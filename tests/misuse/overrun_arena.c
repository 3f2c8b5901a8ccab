/* overrun_arena.c - writes behind a block of an arena and frees it.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    char *block = new_arena_block(arena, 100);
    block[100] = 0;
    BUG(ta_allocator_free(ta_arena_allocator(arena), block, 100, 0, 0));
    printf("sound\n");
    return 0;
}
