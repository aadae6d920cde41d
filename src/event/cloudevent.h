/* SPDX-License-Identifier: Apache-2.0 */
/* cloudevent: an event as a CloudEvent 1.0 in structured JSON, for connectors, handlers and export.
 *
 *   {"specversion": "1.0", "type": "foldback.request.v1", "source":
 * "/foldback/nodes/00000000deadbeef", "id": "00000000deadbeef/4711", "time":
 * "2026-11-22T17:00:00.000001Z", "datacontenttype": "application/json", "dataschema":
 * "urn:foldback:schema:request:1", "subject": "shop", "sequence": "00000000000000004711", "data":
 * {... as ev_to_json ...}}
 *
 * The id is the deduplication key: node and offset name one event of one log for ever, so a
 * receiver that keeps ids sees each event once however often it is sent.  The schema that
 * dataschema names is the one in `foldback reference asyncapi`.  Pure.  Threads: any. */
#ifndef FB_EVENT_CLOUDEVENT_H
#define FB_EVENT_CLOUDEVENT_H
#include "event/event.h"

/* What the record itself does not say. */
struct cloudevent_place {
    uint64_t node;       /* of the log: in the block header, log_reader_node */
    uint64_t offset;     /* in the log */
    uint64_t wall_us;    /* since 1970, log_reader_wall_us; 0: the stream time of the record */
    const char *subject; /* what it is about, such as the name of a service; NULL or "": none */
    bool is_redacted;    /* PERSONAL fields are written as "-" */
};

#define CLOUDEVENT_CONTENT_TYPE "application/cloudevents+json; charset=utf-8"
#define CLOUDEVENT_BATCH_TYPE "application/cloudevents-batch+json; charset=utf-8"

/* The room that the texts below need, their end included. */
#define CLOUDEVENT_ID_BYTES 40     /* "00000000deadbeef/18446744073709551615" */
#define CLOUDEVENT_SOURCE_BYTES 40 /* "/foldback/nodes/00000000deadbeef" */
#define CLOUDEVENT_TYPE_BYTES 48   /* "foldback.cache_sample.v1" */
#define CLOUDEVENT_SCHEMA_BYTES 56 /* "urn:foldback:schema:cache_sample:1" */
#define CLOUDEVENT_TIME_BYTES 32   /* "2026-11-22T17:00:00.000001Z" */

/* One object.  <ev> must be valid (ev_is_valid). */
void cloudevent_put(struct json *j, const struct ev_head *ev, const struct cloudevent_place *at);

/* The attributes one by one, for binary mode (headers ce-id, ce-type, ...; the body is then
 * ev_to_json). */
void cloudevent_id(char text[CLOUDEVENT_ID_BYTES], uint64_t node, uint64_t offset);
void cloudevent_source(char text[CLOUDEVENT_SOURCE_BYTES], uint64_t node);
void cloudevent_type(char text[CLOUDEVENT_TYPE_BYTES], const struct ev_head *ev);
void cloudevent_schema(char text[CLOUDEVENT_SCHEMA_BYTES], const struct ev_head *ev);
/* RFC 3339 with microseconds, UTC; years 1970 to 9999. */
void cloudevent_time(char text[CLOUDEVENT_TIME_BYTES], uint64_t wall_us);
#endif
