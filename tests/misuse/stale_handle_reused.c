/* stale_handle_reused.c - frees a tensor by a handle whose record is another tensor's now.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic), other;
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK);
    other = new_tensor(dynamic);
    BUG(ta_dynamic_free(dynamic, tensor));
    NEED(ta_dynamic_get_data(dynamic, other) != NULL && ta_dynamic_free(dynamic, other) == TA_OK);
    NEED(ta_dynamic_destroy(dynamic) == TA_OK);
    printf("sound\n");
    return 0;
}
