/* arena_destroy_twice.c - destroys an arena twice.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    NEED(ta_arena_destroy(arena) == TA_OK);
    BUG(ta_arena_destroy(arena));
    return 0;
}
