/* stale_mark.c - rewinds to a mark that an earlier rewind has made void.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    ta_arena_mark early = ta_arena_get_mark(arena), late;
    (void)new_arena_block(arena, 100);
    late = ta_arena_get_mark(arena);
    NEED(ta_arena_rewind(arena, early) == TA_OK);
    BUG(ta_arena_rewind(arena, late));
    NEED(ta_arena_destroy(arena) == TA_OK);
    printf("sound\n");
    return 0;
}
