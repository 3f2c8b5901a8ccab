/* leak_direct.c - destroys a direct allocator with a live block.
   checked: TA_ERROR_LEAK
   release: TA_OK
   says: tag direct block */
#include "misuse.h"

int main(void)
{
    ta_direct *direct = new_direct();
    (void)new_direct_block(direct, 100);
    printf("sound\n");
    BUG(ta_direct_destroy(direct));
    return 0;
}
