/* free_static.c - frees static memory.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    static char block[256];
    BUG(ta_pool_free(pool, block));
    SOUND(pool);
    return 0;
}
