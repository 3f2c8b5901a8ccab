/* leak.c - destroys a pool with a live block.
   checked: TA_ERROR_LEAK
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    (void)new_block(pool, 100);
    SOUND(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
