/* SPDX-License-Identifier: Apache-2.0 */
/* link: the bytes of one connection, whatever carries them.
 *
 * Each call has the meaning and the errno of the socket call that it is named after, so that a
 * caller need not know whether TLS lies between: -1 with EAGAIN means that the loop will report
 * LOOP_READ or LOOP_WRITE when it is worth another try.  A link does not own its descriptor.
 * Threads: one.  Errors: errno. */
#ifndef FB_IO_LINK_H
#define FB_IO_LINK_H
#include "base/span.h"

#include <sys/types.h>

struct iovec;
struct tls_conn;

struct link {
    int fd;
    struct tls_conn *tls; /* NULL: the bytes go as they are */
};

FB_MUST_USE
ssize_t link_recv(struct link *l, void *at, size_t room);
FB_MUST_USE
ssize_t link_peek(struct link *l, void *at, size_t room); /* as link_recv; the bytes stay */
/* Never raises SIGPIPE.  May take a part. */
FB_MUST_USE
ssize_t link_write(struct link *l, struct iovec *iov, int count);
/* The next link_write is the last, if it takes all: TLS says goodbye with it. */
void link_end_next(struct link *l);
/* The peer has not spoken for a while: the link needs less memory from now on. */
bool link_rest(struct link *l); /* true: it does */
/* Nothing more will be written: the peer reads an end, and may go on sending. */
void link_shutdown(struct link *l);
/* Before the descriptor is closed.  <is_clean>: the peer may take what it has for the whole. */
void link_fini(struct link *l, bool is_clean);
#endif
