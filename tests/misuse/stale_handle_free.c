/* stale_handle_free.c - frees a tensor twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic);
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK);
    BUG(ta_dynamic_free(dynamic, tensor));
    NEED(ta_dynamic_destroy(dynamic) == TA_OK);
    printf("sound\n");
    return 0;
}
