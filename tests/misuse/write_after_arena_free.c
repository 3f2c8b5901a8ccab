/* write_after_arena_free.c - writes into a block of an arena that was freed.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    char *block = new_arena_block(arena, 1000);
    (void)new_arena_block(arena, 1000);
    NEED(ta_allocator_free(ta_arena_allocator(arena), block, 1000, 0, 0) == TA_OK);
    block[500] = 0;
    BUG(ta_arena_reset(arena, 0));
    printf("sound\n");
    return 0;
}
