/* SPDX-License-Identifier: Apache-2.0 */
/* intake: what comes from outside becomes events of the application (EV_CUSTOM).
 *
 *   {"name": "order.placed", "value": 19.9, "text": "..."}     one object, or one per line, or a
 * list
 *   {"specversion": "1.0", "type": "shop.order", "source": "/shop", "data": {"value": 19.9}}
 *
 * name: `name`, or `event`, of a CloudEvent its type; else <name>.  Bytes that a name cannot have
 * become `_`, capitals small.  value: `value`, of a CloudEvent data.value, or data when it is a
 * number.  text: `text` or `message`, else all other members as JSON; cut to 191 bytes at a
 * character.
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_INTAKE_H
#define FB_STREAM_CONNECTORS_INTAKE_H
#include "event/event.h"

struct intake {
    const char *name; /* of events that have none, such as the topic */
    uint64_t now_us;  /* stamped on each */
    struct buf *out;  /* records, one after another */
    uint32_t events, bad;
    char reason[160]; /* of the last bad one */
};
/* Appends the events of <bytes>; what is no event is counted in <bad>, and the rest is still taken.
 * False: <out> has no room for all of them (it is as before). */
FB_MUST_USE
bool intake_read(struct intake *in, struct span bytes);
#endif
