/* write_after_rewind.c - writes into a block that a rewind has freed.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    ta_arena_mark mark = ta_arena_get_mark(arena);
    char *block = new_arena_block(arena, 1000);
    NEED(ta_arena_rewind(arena, mark) == TA_OK);
    block[500] = 0;
    (void)ta_arena_alloc(arena, 1000, NULL);
    BUG(ta_arena_reset(arena, 0));
    printf("sound\n");
    return 0;
}
