/* free_constant.c - frees a string constant.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    BUG(ta_pool_free(pool, (void *)(uintptr_t)(const void *)"constant"));
    SOUND(pool);
    return 0;
}
