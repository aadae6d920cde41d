/* SPDX-License-Identifier: Apache-2.0 */
/* dead: the line of a dead letter: what nobody takes, why, and where it stands.
 *
 *   {"time_ms", "connector", "reason", "offset", "events", "wall_ms" and "headers" {name:
 *    text}, or "topic" and "position", "key_base64", "value_base64"}
 *
 * What a sink buries is all that is needed to send it again as it was: resend.h.
 *
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_DEAD_H
#define FB_STREAM_CONNECTORS_DEAD_H
#include "base/buf.h"

struct connector_header;
struct dead_letter {
    const char *topic, *position; /* "" none: it is of a sink */
    uint64_t offset;
    uint32_t count;
    uint64_t wall_ms; /* of its first event */
    const struct connector_header *headers;
    uint32_t header_count;
    struct span key, value;
    const char *reason; /* one sentence */
};
/* Appends one line, its end included; <failed> of the buffer: no room. */
void dead_put(const struct dead_letter *letter, const char *connector, uint64_t time_ms,
              struct buf *out);
#endif
