/* SPDX-License-Identifier: Apache-2.0 */
/* h2_mem: the memory of the HTTP/2 library for one thread: free lists by size, last in first out.
 *
 * A stream of the library costs about ten small pieces; from here they come back warm and without
 * a lock.  What the lists hold is bounded; larger pieces go to malloc.  Inside proto/ only.
 * Threads: one h2_mem belongs to one thread.  Errors: NULL without memory. */
#ifndef FB_PROTO_H2_MEM_H
#define FB_PROTO_H2_MEM_H
#include "base/base.h"

#define H2_MEM_STEP_BYTES 64
#define H2_MEM_CLASSES 17 /* up to 1,088 bytes with the head of a piece */

struct h2_mem {
    struct h2_mem_class {
        void *free;
        uint32_t count;
    } classes[H2_MEM_CLASSES];
};
void *h2_mem_take(struct h2_mem *m, size_t bytes);
void *h2_mem_take_zeroed(struct h2_mem *m, size_t count, size_t size); /* <count> of them */
void *h2_mem_resize(struct h2_mem *m, void *piece, size_t bytes);
void h2_mem_give(struct h2_mem *m, void *piece);
void h2_mem_fini(struct h2_mem *m); /* all pieces must be back */
#endif
