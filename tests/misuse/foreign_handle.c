/* foreign_handle.c - frees a tensor of another allocator.
   checked: TA_ERROR_FOREIGN
   release: TA_ERROR_FOREIGN */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic(), *other = new_dynamic();
    ta_handle tensor = new_tensor(other);
    BUG(ta_dynamic_free(dynamic, tensor));
    NEED(ta_dynamic_free(other, tensor) == TA_OK);
    NEED(ta_dynamic_destroy(dynamic) == TA_OK && ta_dynamic_destroy(other) == TA_OK);
    printf("sound\n");
    return 0;
}
