/* pool_block_to_direct.c - frees a block of a pool to a direct allocator.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    BUG(ta_allocator_free(ta_direct_allocator(new_direct()), block, 100, 0, 0));
    NEED(ta_pool_free(pool, block) == TA_OK);
    SOUND(pool);
    return 0;
}
