/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: produce all, wait for the reports; a transaction around them when that is asked for. */
#include "base/clock.h"
#include "stream/connectors/kafka_int.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __clang__ /* librdkafka's RD_KAFKA_V_* check their types with statement expressions */
#pragma clang diagnostic ignored "-Wgnu-statement-expression"
#endif

#define POLL_MS 50

static enum connector_result result_of(struct connector *c, rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return CONNECTOR_DELIVERED;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return CONNECTOR_TOO_LARGE;
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR__BAD_MSG:
        return CONNECTOR_POISON;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        c->record_code = FB_E_DENIED;
        break;
    default:
        break;
    }
    snprintf(c->record_text, sizeof c->record_text, "topic %.80s: %s", c->topics,
             rd_kafka_err2str(code));
    return CONNECTOR_RETRY;
}

void kafka_delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct connector *c = opaque;
    (void)rk;
    uintptr_t at = (uintptr_t)message->_private;
    if (!c->batch || at >= c->batch->count)
        return; /* of a send that was given up */
    c->batch->at[at].result = result_of(c, message->err);
    c->open--;
    if (!message->err)
        kafka_moves(c);
}

static rd_kafka_headers_t *headers_of(const struct connector_record *r)
{
    rd_kafka_headers_t *h = rd_kafka_headers_new(r->header_count);
    for (uint32_t i = 0; h && i < r->header_count; i++)
        rd_kafka_header_add(h, r->headers[i].name, -1, r->headers[i].value.at,
                            (ssize_t)r->headers[i].value.len);
    return h;
}

/* One record into the library's queue.  The value is borrowed: send waits for its report. */
static rd_kafka_resp_err_t produce(struct connector *c, uint32_t at)
{
    const struct connector_record *r = &c->batch->at[at];
    rd_kafka_headers_t *headers = headers_of(r);
    rd_kafka_resp_err_t code = rd_kafka_producev(
        c->rk, RD_KAFKA_V_TOPIC(c->topics), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY((void *)(uintptr_t)r->key.at, r->key.len),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)r->value.at, r->value.len),
        RD_KAFKA_V_TIMESTAMP((int64_t)r->wall_ms), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_OPAQUE((void *)(uintptr_t)at), RD_KAFKA_V_END);
    if (code && headers)
        rd_kafka_headers_destroy(headers); /* not taken */
    return code;
}

static void produce_all(struct connector *c, uint64_t until_us)
{
    for (uint32_t i = 0; i < c->batch->count; i++) {
        rd_kafka_resp_err_t code;
        while ((code = produce(c, i)) == RD_KAFKA_RESP_ERR__QUEUE_FULL &&
               !kafka_must_give_up(c, until_us))
            rd_kafka_poll(c->rk, POLL_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            c->open++;
            continue;
        }
        c->batch->at[i].result = result_of(c, code);
        if (c->batch->at[i].result == CONNECTOR_RETRY)
            return; /* what follows must not come before it */
    }
}

/* With the mark in it.  What is not committed for certain is dropped with its session: the next one
 * ends it at the broker.  (Not by an abort: librdkafka 2.0 then purges the records of the next
 * transaction when one of this was refused.) */
static enum fb_code end_transaction(struct connector *c, bool is_good, uint64_t until_us,
                                    struct fb_err *err)
{
    enum fb_code code = FB_OK;
    c->is_begun = false;
    if (is_good && c->batch->mark) {
        c->mark = *c->batch->mark;
        code = kafka_step(c, KAFKA_MARK, until_us, err);
    }
    if (is_good && code == FB_OK)
        code = kafka_step(c, KAFKA_COMMIT, until_us, err);
    if (is_good && code == FB_OK) {
        c->marked = c->mark.offset;
        return FB_OK;
    }
    for (uint32_t i = 0; i < c->batch->count; i++) /* none of it is visible, or that is not known */
        if (c->batch->at[i].result == CONNECTOR_DELIVERED)
            c->batch->at[i].result = CONNECTOR_RETRY;
    c->is_fenced = true; /* maybe: the next session looks first */
    kafka_drop(c);
    return code;
}

/* Why not all of it was delivered. */
static enum fb_code why(struct connector *c, bool is_late, struct fb_err *err)
{
    enum fb_code code = kafka_complaint(c, err);
    if (code != FB_OK)
        return code;
    if (c->record_text[0])
        return fb_fail(err, c->record_code, "%s", c->record_text);
    if (is_late)
        return fb_fail(err, FB_E_TIMEOUT, "%.200s did not take the records in time%s%.200s",
                       c->brokers, c->passing_text[0] ? ": " : "", c->passing_text);
    return FB_OK;
}

enum fb_code kafka_send(struct connector *c, struct connector_batch *batch, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + (uint64_t)batch->timeout_ms * US_PER_MS;
    enum fb_code code = c->is_transactional ? kafka_session(c, until_us, err) : kafka_start(c, err);
    if (code == FB_OK && c->is_transactional)
        code = kafka_begin(c, err);
    if (code != FB_OK)
        return code;
    kafka_call(c); /* how long it takes is counted from here */
    c->batch = batch;
    c->open = 0;
    c->record_text[0] = '\0';
    c->record_code = FB_E_AGAIN;
    produce_all(c, until_us);
    while (c->open > 0 && !kafka_must_give_up(c, until_us)) {
        rd_kafka_poll(c->rk, POLL_MS);
        kafka_waits(c);
    }
    bool is_late = c->open > 0;
    if (is_late) { /* reports of what is purged come at once: nothing of it is sent later */
        rd_kafka_purge(c->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        for (int i = 0; i < 20 && c->open > 0; i++)
            rd_kafka_poll(c->rk, 10);
        c->record_text[0] = '\0'; /* "purged" is our own word */
    }
    code = why(c, is_late, err);
    if (c->is_begun) { /* also when late: what was acknowledged in it is not visible */
        bool is_good = code == FB_OK;
        for (uint32_t i = 0; i < batch->count; i++)
            is_good &= batch->at[i].result == CONNECTOR_DELIVERED;
        enum fb_code ended = end_transaction(c, is_good, until_us, err);
        code = code == FB_OK ? ended : code;
    }
    c->batch = NULL;
    /* After a purge or a fatal error the session's numbering has holes: a new one. */
    if (c->rk && (is_late || rd_kafka_fatal_error(c->rk, NULL, 0))) {
        c->is_fenced = true;
        kafka_drop(c);
    }
    return code;
}
