/* arena_block_to_pool.c - frees a block of an arena to a pool.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_arena_block(new_arena(), 100);
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
