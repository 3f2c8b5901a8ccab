/* leak_dynamic.c - destroys a dynamic allocator with a live tensor.
   checked: TA_ERROR_LEAK
   release: TA_OK */
#include "misuse.h"

int main(void)
{
    ta_dynamic *dynamic = new_dynamic();
    (void)new_tensor(dynamic);
    printf("sound\n");
    BUG(ta_dynamic_destroy(dynamic));
    return 0;
}
