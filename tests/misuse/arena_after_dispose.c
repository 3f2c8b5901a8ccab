/* arena_after_dispose.c - allocates from an arena that was disposed.
   checked: TA_ERROR_DISPOSED
   release: TA_ERROR_DISPOSED */
#include "misuse.h"

int main(void)
{
    ta_arena *arena = new_arena();
    ta_result result = TA_OK;
    NEED(ta_allocator_dispose(ta_arena_allocator(arena)) == TA_OK);
    NEED(ta_arena_alloc(arena, 100, &result) == NULL);
    BUG(result);
    NEED(ta_arena_destroy(arena) == TA_OK);
    printf("sound\n");
    return 0;
}
