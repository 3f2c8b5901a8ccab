/* arena_after_destroy.c - allocates from an arena that was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    ta_result result = TA_OK;
    NEED(ta_arena_destroy(arena) == TA_OK);
    NEED(ta_arena_alloc(arena, 100, &result) == NULL);
    BUG(result);
    return 0;
}
