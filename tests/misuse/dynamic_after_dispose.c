/* dynamic_after_dispose.c - frees a tensor after its allocator was disposed.
   checked: TA_ERROR_DISPOSED
   release: TA_ERROR_DISPOSED */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic);
    NEED(ta_allocator_dispose(ta_dynamic_allocator(dynamic)) == TA_OK);
    BUG(ta_dynamic_free(dynamic, tensor));
    NEED(ta_dynamic_destroy(dynamic) == TA_OK);
    printf("sound\n");
    return 0;
}
