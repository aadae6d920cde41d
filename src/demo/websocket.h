/* SPDX-License-Identifier: Apache-2.0 */
/* websocket: just enough of RFC 6455 for the demo's editors: single-frame messages below 126 bytes.
 *
 * Threads: any. */
#ifndef FB_DEMO_WEBSOCKET_H
#define FB_DEMO_WEBSOCKET_H
#include "base/span.h"

#define WS_MESSAGE_MAX 125
#define WS_HEAD_MAX 6
#define WS_ACCEPT_BYTES 32

/* Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2), terminated. */
void ws_accept_key(struct span key, char out[WS_ACCEPT_BYTES]);
/* One whole frame at the front of <in>: bytes used, 0 when more are needed, -1 for a close or
 * anything that is not a short text or binary message. */
int ws_read(struct span in, char message[WS_MESSAGE_MAX], uint32_t *bytes);
/* Writes one frame, masked with <mask> unless 0 (clients mask); returns its length. */
size_t ws_write(char *out, struct span message, uint32_t mask);
#endif
