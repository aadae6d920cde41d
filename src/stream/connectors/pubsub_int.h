/* SPDX-License-Identifier: Apache-2.0 */
/* pubsub_int: one Google Pub/Sub connector, shared by pubsub.c (sink, check) and pubsub_pull.c
 * (source).  Threads: the connector's own. */
#ifndef FB_STREAM_CONNECTORS_PUBSUB_INT_H
#define FB_STREAM_CONNECTORS_PUBSUB_INT_H
#include "stream/connectors/connector.h"
#include "stream/connectors/pubsub_proto.h"
#include "stream/connectors/pubsub_token.h"

/* Of the service: 1,000 messages and 10,000,000 bytes a request.  The rest is room for attributes:
 * seven of at most 100 bytes each per message. */
#define PUBSUB_MESSAGES_MAX 1000
#define PUBSUB_BYTES_MAX 9000000u

struct pending; /* pubsub_pull.c */
struct connector {
    struct connector_setup setup;
    char base[300]; /* "https://pubsub.googleapis.com" */
    char path[512]; /* "projects/P/topics/T" */
    char metadata[300];
    const char *short_name;     /* T */
    bool is_ordered, has_token; /* without TLS nobody gets a token */
    uint32_t ack_deadline_s, pull_max;
    struct calls calls;
    struct token token;
    /* source */
    struct call *pull; /* under way, or done and not yet all given */
    struct span given; /* what of its answer is left */
    uint64_t pull_us; /* not before: a server that answers "nothing" at once is not asked at once */
    struct call *extend; /* modifyAckDeadline under way */
    struct pending *pending;
    uint32_t pending_count, pending_cap, pending_free, generation;
    uint32_t extend_from; /* where the next look at deadlines goes on */
    uint64_t look_us;     /* when */
    bool has_said_expired;
};

/* A call begins, with a fresh token; NULL: <err> says why.  Takes <request>. */
struct call *pubsub_begin(struct connector *c, const char *method, struct buf *request,
                          uint32_t timeout_ms, struct fb_err *err);
/* Waits for what pubsub_begin gave (free it, also after an error); FB_OK for an OK. */
FB_MUST_USE
enum fb_code pubsub_wait(struct connector *c, struct call *call, struct fb_err *err);
/* What a finished call means for the runner; FB_OK for an OK with a whole message. */
FB_MUST_USE
enum fb_code pubsub_outcome(struct connector *c, const struct call *call, struct fb_err *err);

enum fb_code pubsub_receive(struct connector *c, connector_each *each, void *arg,
                            uint32_t timeout_ms, struct fb_err *err);
enum fb_code pubsub_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                           struct fb_err *err);
uint64_t pubsub_behind(struct connector *c);
void pubsub_pull_fini(struct connector *c);
#endif
