/* SPDX-License-Identifier: Apache-2.0 */
/* pubsub_proto: the messages of google.pubsub.v1 that we speak, as protobuf bytes.
 *
 * Field numbers are those of google/pubsub/v1/pubsub.proto.  Reading trusts nothing: a length that
 * leaves its message, a wrong wire type of a field that we use, or a text longer than its bound
 * makes the whole answer unreadable.
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_PUBSUB_PROTO_H
#define FB_STREAM_CONNECTORS_PUBSUB_PROTO_H
#include "base/buf.h"
#include "stream/connectors/connector.h"

/* ---- requests: appended to <b> ---- */
void proto_text(struct buf *b, uint32_t field, struct span text); /* also bytes and messages */
void proto_number(struct buf *b, uint32_t field, uint64_t value);
/* One PubsubMessage as field 2 of a PublishRequest; without <is_ordered> it has no ordering key. */
void proto_publish_message(struct buf *b, const struct connector_record *record, bool is_ordered);

/* ---- answers ---- */
struct proto_reader {
    struct span rest;
    bool is_bad; /* set for good by the first broken field */
};
struct proto_field {
    uint32_t number;
    bool is_bytes;
    uint64_t value;    /* not bytes */
    struct span bytes; /* borrowed */
};
/* False: the end, or broken (is_bad). */
bool proto_next(struct proto_reader *r, struct proto_field *field);

/* How many message ids a PublishResponse has; UINT32_MAX: not readable. */
uint32_t proto_published(struct span answer);

struct proto_received {
    struct span ack_id, data, message_id, ordering_key; /* borrowed */
    uint64_t wall_ms;
    uint32_t attempt; /* 0 when the subscription does not count them */
};
/* One ReceivedMessage, field 1 of a PullResponse; false: not readable. */
FB_MUST_USE
bool proto_received(struct span message, struct proto_received *out);

struct proto_subscription {
    struct span topic;
    uint32_t ack_deadline_s;
    bool is_push, is_ordered, is_exactly_once, is_detached;
};
FB_MUST_USE
bool proto_subscription(struct span answer, struct proto_subscription *out);

/* True when a TestIamPermissionsResponse grants <permission>. */
bool proto_is_granted(struct span answer, const char *permission);

/* How many acknowledge ids a google.rpc.Status (grpc-status-details-bin) names as failed:
 * for ever (expired, unknown), and for now. */
struct proto_ack_failures {
    uint32_t permanent, transient;
};
struct proto_ack_failures proto_ack_failures(struct span status);
/* True when <status> names <ack_id> as failed for now: it is acknowledged once more. */
bool proto_ack_may_retry(struct span status, struct span ack_id);
#endif
