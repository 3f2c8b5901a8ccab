/* foreign_mark.c - rewinds to a mark of another arena.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    BUG(ta_arena_rewind(arena, ta_arena_get_mark(new_arena())));
    NEED(ta_arena_destroy(arena) == TA_OK);
    printf("sound\n");
    return 0;
}
