/* SPDX-License-Identifier: Apache-2.0 */
/* tls_mem: the memory of OpenSSL: free lists by size for each thread, last in first out.
 *
 * A handshake takes some 700 pieces, most of them for less than a microsecond, and some of them of
 * several KiB; from here they come back warm, without a lock and without being joined and cut
 * again. What the lists hold is bounded; larger pieces go to malloc. Threads: any; a piece may be
 * given back by another thread than took it. */
#ifndef FB_IO_TLS_MEM_H
#define FB_IO_TLS_MEM_H
#include <stdbool.h>

/* Before OpenSSL has taken any memory, for the life of the process; false: it has. */
bool tls_mem_begin(void);
#endif
