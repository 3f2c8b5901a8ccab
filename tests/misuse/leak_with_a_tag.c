/* leak_with_a_tag.c - destroys a pool with a live block that has a tag.
   checked: TA_ERROR_LEAK
   release: TA_OK
   says: model: a block was never freed: 12345 bytes */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = NULL;
    ta_pool_desc desc;
    ta_request request;
    memset(&desc, 0, sizeof desc);
    desc.name = "model";
    NEED(ta_pool_create(&desc, &pool) == TA_OK);
    memset(&request, 0, sizeof request);
    request.size_bytes = 12345;
    request.tag = "weights";
    NEED(ta_pool_alloc_request(pool, &request, NULL) != NULL);
    SOUND(pool);
    BUG(ta_pool_destroy(pool));
    return 0;
}
