/* cuda_stale_handle.c - frees a tensor on a device twice.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "device.h"

int main(void)
{
    ta_dynamic *dynamic = new_device_dynamic(new_cuda());
    ta_handle tensor = new_device_tensor(dynamic);
    NEED(ta_dynamic_free(dynamic, tensor) == TA_OK);
    BUG(ta_dynamic_free(dynamic, tensor));
    NEED(ta_dynamic_destroy(dynamic) == TA_OK);
    printf("sound\n");
    return 0;
}
