/* stale_buffer_of_same_size.c - frees a stale copy of a buffer whose place may be taken.
   checked: TA_ERROR_STALE
   release: TA_ERROR_STALE */
#include "misuse.h"

int main(void)
{
    ta_pool *pool = new_pool();
    ta_request request;
    ta_buffer buffer, copy, other;
    memset(&request, 0, sizeof request);
    request.size_bytes = 1000;
    NEED(ta_allocator_alloc_buffer(ta_pool_allocator(pool), &request, &buffer) == TA_OK);
    copy = buffer;
    NEED(ta_allocator_free_buffer(ta_pool_allocator(pool), &buffer, 0) == TA_OK);
    NEED(ta_allocator_alloc_buffer(ta_pool_allocator(pool), &request, &other) == TA_OK);
    BUG(ta_allocator_free_buffer(ta_pool_allocator(pool), &copy, 0));
    NEED(ta_allocator_free_buffer(ta_pool_allocator(pool), &other, 0) == TA_OK);
    SOUND(pool);
    return 0;
}
