/* overrun_seen_by_reset.c - writes behind a block of an arena and resets it.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    char *block = new_arena_block(arena, 100);
    block[100] = 0;
    BUG(ta_arena_reset(arena, TA_UNLIMITED));
    printf("sound\n");
    return 0;
}
