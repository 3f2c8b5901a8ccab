/* free_after_dispose.c - frees a block after its pool was disposed.
   checked: TA_ERROR_DISPOSED
   release: TA_ERROR_DISPOSED */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    char *block = new_block(pool, 100);
    NEED(ta_pool_dispose(pool) == TA_OK);
    BUG(ta_pool_free(pool, block));
    NEED(ta_pool_destroy(pool) == TA_OK);
    printf("sound\n");
    return 0;
}
