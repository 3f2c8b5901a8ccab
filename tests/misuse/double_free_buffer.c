/* double_free_buffer.c - frees a buffer through a copy of it that is stale.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_request request;
    ta_buffer buffer, copy;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    NEED(ta_allocator_alloc_buffer(ta_pool_allocator(pool), &request, &buffer) == TA_OK);
    copy = buffer;
    NEED(ta_allocator_free_buffer(ta_pool_allocator(pool), &buffer, 0) == TA_OK);
    BUG(ta_allocator_free_buffer(ta_pool_allocator(pool), &copy, 0));
    SOUND(pool);
    return 0;
}
