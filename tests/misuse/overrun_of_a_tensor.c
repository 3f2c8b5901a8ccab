/* overrun_of_a_tensor.c - writes behind a tensor.
   checked: TA_ERROR_OVERRUN
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_tensor tensor;
    const int64_t dims[2] = {3, 5};
    NEED(ta_tensor_create(ta_pool_allocator(pool), TA_F32, dims, 2, 0, 0, &tensor) == TA_OK);
    ((char *)tensor.buffer.data)[60] = 1;
    BUG(ta_tensor_destroy(&tensor, 0));
    SOUND(pool);
    return 0;
}
