/* SPDX-License-Identifier: Apache-2.0 */
/* digest: hashes that a protocol asks for by name.
 *
 * Threads: any. */
#ifndef FB_IO_DIGEST_H
#define FB_IO_DIGEST_H
#include "base/span.h"

/* The answer to the key of a WebSocket handshake (RFC 6455 section 4.2.2), without a NUL. */
#define DIGEST_ACCEPT_BYTES 28
/* False: <key> is not one, or the library cannot. */
bool digest_websocket_accept(struct span key, char accept[DIGEST_ACCEPT_BYTES]);
#endif
