/* SPDX-License-Identifier: Apache-2.0 */
/* kafka, eventhubs: Apache Kafka and Azure Event Hubs through librdkafka.
 *
 * One handle per direction, made at the first call and again after anything that leaves holes in
 * its numbering.  The library reconnects by itself; what no reconnect mends (password, authority,
 * rights) is told once as an error of the configuration. */
#include "base/clock.h"
#include "stream/connectors/kafka_int.h"

#include <stdio.h>
#include <stdlib.h>

#define SLICE_MS 200

static enum fb_code kafka_open(struct connector **out, const struct connector_setup *setup,
                               struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    c->setup = *setup;
    c->is_fenced = setup->was_fenced;
    snprintf(c->id, sizeof c->id, "foldback-%.60s-%.60s", setup->node, setup->name);
    enum fb_code code = kafka_conf_read(c, err);
    if (code == FB_OK)
        code = kafka_start(c, err);
    if (code != FB_OK) {
        kafka_drop(c);
        free(c);
        return code;
    }
    /* A session is prepared by the calls that need it. */
    if (c->is_transactional)
        kafka_drop(c);
    *out = c;
    return FB_OK;
}

static void kafka_close(struct connector *c)
{
    kafka_drop(c);
    free(c);
}

/* Topics of the cluster that are asked for, one by one; NULL and *code when there is no answer. */
static const struct rd_kafka_metadata *ask(struct connector *c, const char *topic,
                                           uint64_t until_us, enum fb_code *code,
                                           struct fb_err *err)
{
    const struct rd_kafka_metadata *m = NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(c->rk, topic, NULL);
    *code = t ? FB_OK : fb_fail(err, FB_E_CONFIG, "topic %.200s: not a name of a topic", topic);
    while (*code == FB_OK && !m) {
        rd_kafka_resp_err_t got = rd_kafka_metadata(c->rk, 0, t, &m, SLICE_MS);
        if (c->setup.is_source) {
            rd_kafka_message_t *none = rd_kafka_consumer_poll(c->rk, 0);
            if (none)
                rd_kafka_message_destroy(none);
        } else {
            rd_kafka_poll(c->rk, 0);
        }
        *code = kafka_complaint(c, err);
        if (got == RD_KAFKA_RESP_ERR_NO_ERROR || *code != FB_OK)
            break;
        m = NULL;
        if (fb_mono_us() >= until_us || c->setup.is_stopping(c->setup.ctx))
            *code = kafka_no_answer(c, FB_E_TIMEOUT, err);
    }
    if (t)
        rd_kafka_topic_destroy(t);
    return m;
}

static enum fb_code kafka_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                                void *arg, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + (uint64_t)timeout_ms * US_PER_MS;
    char text[900], topic[256];
    bool is_first = true;
    enum fb_code code = kafka_start(c, err);
    for (struct span rest = span_of(c->topics); rest.len && code == FB_OK;) {
        struct span one = span_cut(rest, ',', &rest);
        snprintf(topic, sizeof topic, "%.*s", SPAN_ARG(one));
        const struct rd_kafka_metadata *m = ask(c, topic, until_us, &code, err);
        if (!m)
            break;
        if (is_first) {
            snprintf(text, sizeof text, "%.500s answered as node %d of a cluster of %d",
                     m->orig_broker_name, m->orig_broker_id, m->broker_cnt);
            step(arg, true, text);
        }
        is_first = false;
        if (m->topic_cnt == 1 && m->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            snprintf(text, sizeof text, "topic %s has %d partitions", topic,
                     m->topics[0].partition_cnt);
            step(arg, true, text);
        } else {
            code = fb_fail(err, FB_E_NOT_FOUND,
                           "topic %s: %s; create it, correct `topic`, or give the user rights",
                           topic, m->topic_cnt ? rd_kafka_err2str(m->topics[0].err) : "unknown");
        }
        rd_kafka_metadata_destroy(m);
    }
    if (code != FB_OK)
        step(arg, false, err->text);
    return code;
}

#ifdef FB_EVENTHUBS
#define TYPE_NAME "eventhubs"
#define TYPE_CAN (CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED | CONNECTOR_IDEMPOTENT)
#else
#define TYPE_NAME "kafka"
#define TYPE_CAN                                                                                   \
    (CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED | CONNECTOR_IDEMPOTENT |                \
     CONNECTOR_TRANSACTIONAL)
#endif

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = TYPE_NAME,
                    .can = TYPE_CAN,
                    .send_max = 4096,
                    .record_bytes_max = 900 * KIB,
                    .send_bytes_max = 16 * MIB,
                    .open = kafka_open,
                    .close = kafka_close,
                    .check = kafka_check,
                    .send = kafka_send,
                    .receive = kafka_receive,
                    .commit = kafka_commit,
                    .mark = kafka_mark,
                    .place = kafka_place};
