/* write_after_free_in_a_fixed_buffer.c - writes into a freed block of a fixed buffer.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    static char memory[1 << 20];
    ta_fixed_buffer fixed;
    ta_pool_desc desc;
    ta_pool *pool = NULL;
    char *block;
    memset(&desc, 0, sizeof desc);
    NEED(ta_backend_fixed(&fixed, memory, sizeof memory, &desc.backend) == TA_OK);
    NEED(ta_pool_create(&desc, &pool) == TA_OK);
    block = new_block(pool, 1000);
    NEED(ta_pool_free(pool, block) == TA_OK);
    block[500] = 0;
    BUG(ta_pool_check(pool));
    SOUND(pool);
    return 0;
}
