/* free_malloc.c - frees a block of malloc.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = (char *)malloc(100);
    BUG(ta_pool_free(pool, block));
    free(block);
    SOUND(pool);
    return 0;
}
