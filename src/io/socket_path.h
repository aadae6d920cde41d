/* SPDX-License-Identifier: Apache-2.0 */
/* socket_path: paths of Unix sockets as numbers, so that an address stays as small as one of IPv6.
 *
 * A table of the process that only grows: a path that is known once keeps its number and its text
 * for as long as the process lives, so that any thread may read it without a lock.  Only what a
 * configuration or the admin API names gets in, never what a client says: the table is bounded.
 * "/run/app.sock", or "@name" in the abstract space (no file; Linux).
 *
 * Threads: any. */
#ifndef FB_IO_SOCKET_PATH_H
#define FB_IO_SOCKET_PATH_H
#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

/* sockaddr_un has 108 bytes, one of which ends the path, or begins an abstract name. */
#define SOCKET_PATH_BYTES_MAX 107
/* In the life of a process; a thousand releases of an application whose socket bears their name. */
#define SOCKET_PATHS_MAX 8192

/* From 1 on; 0: it is empty, too long, begins with neither / nor @, has a byte 0, or the table is
 * full. */
uint32_t socket_path_number(struct span path);
/* Terminated; "" for 0. */
const char *socket_path_text(uint32_t number);

/* Why a connection to such a socket could not be made, for its errno: what is wrong and what to
 * look at, without a full stop. */
const char *socket_path_why(int why);
/* What can be said of it without a connection: 0, or ENOENT, EACCES, ENOTSOCK and others.  An
 * abstract name is always 0: it is nowhere to be seen. */
int socket_path_look(const char *path);
#endif
