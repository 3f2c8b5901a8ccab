/* stale_handle_resize.c - resizes a tensor that was freed.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic);
    int64_t dims = 100;
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK);
    BUG(ta_dynamic_resize(dynamic, tensor, &dims, 1));
    NEED(ta_dynamic_destroy(dynamic) == TA_OK);
    printf("sound\n");
    return 0;
}
