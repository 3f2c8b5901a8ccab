/* overrun_seen_by_rewind.c - writes behind a block of an arena and rewinds.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    ta_arena_mark mark = ta_arena_get_mark(arena);
    char *block = new_arena_block(arena, 100);
    block[100] = 0;
    BUG(ta_arena_rewind(arena, mark));
    printf("sound\n");
    return 0;
}
