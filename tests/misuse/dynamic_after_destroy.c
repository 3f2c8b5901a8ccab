/* dynamic_after_destroy.c - frees a tensor after its allocator was destroyed.
   checked: TA_ERROR_DISPOSED
   release: undefined */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic);
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK && ta_dynamic_destroy(dynamic) == TA_OK);
    BUG(ta_dynamic_free(dynamic, tensor));
    return 0;
}
