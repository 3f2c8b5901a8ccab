/* write_after_tensor_free.c - writes into a tensor with a range that was freed.
   checked: TA_ERROR_USE_AFTER_FREE
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    ta_handle tensor = new_tensor(dynamic);
    char *data = (char *)ta_dynamic_get_data(dynamic, tensor);
    NEED(data != NULL && ta_dynamic_free(dynamic, tensor) == TA_OK);
    data[5000] = 0;
    printf("sound\n");
    BUG(ta_dynamic_destroy(dynamic));
    return 0;
}
