/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving, in a consumer group.  Where a partition goes on: behind what is in our own state, or
 * where the group is when another member went further. */
#include "base/clock.h"
#include "stream/connectors/kafka_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define COMMITTED_MS 3000
#define COMMITTED_TRIES_EXACT 5 /* what another member took must not be taken again */
#define GIVE_BACK_MS 3000       /* for the group to take the last positions */
#define SLICE_MS 100
#define ASK_EACH_US US_PER_S
#define ASK_MS 100
#define FIRST_ANSWER_US (1500 * US_PER_MS)

enum fb_code kafka_subscribe(struct connector *c, struct fb_err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    char name[256];
    rd_kafka_poll_set_consumer(c->rk);
    for (struct span rest = span_of(c->topics); rest.len;) {
        struct span one = span_cut(rest, ',', &rest);
        snprintf(name, sizeof name, "%.*s", SPAN_ARG(one));
        rd_kafka_topic_partition_list_add(list, name, RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(c->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? fb_fail(err, FB_E_CONFIG, "connectors.%s: %s", c->setup.name,
                          rd_kafka_err2str(code))
                : FB_OK;
}

/* Before another member goes on: what came in here is settled, and the group knows how far. */
static void give_back(struct connector *c)
{
    if (!c->setup.give_back || rd_kafka_assignment_lost(c->rk))
        return; /* lost: the group takes no position of us any more */
    c->is_giving_back = true;
    c->setup.give_back(c->setup.ctx);
    c->is_giving_back = false;
}

static bool read_group(struct connector *c, rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list)
{
    int tries = c->is_transactional ? COMMITTED_TRIES_EXACT : 1;
    while (tries-- > 0 && !c->setup.is_stopping(c->setup.ctx))
        if (rd_kafka_committed(rk, list, COMMITTED_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
            return true;
    return false;
}

void kafka_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what,
                     rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct connector *c = opaque;
    if (what != RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        give_back(c);
        rd_kafka_assign(rk, NULL);
        kafka_assigned(c, NULL);
        return;
    }
    /* Without an answer our own positions are used; they are never behind what we acknowledged. */
    if (!read_group(c, rk, list))
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = RD_KAFKA_OFFSET_INVALID;
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_t *p = &list->elems[i];
        char own[CONNECTOR_POSITION_BYTES];
        if (!c->setup.position(c->setup.ctx, p->topic, (uint32_t)p->partition, own))
            continue;
        int64_t next = strtoll(own, NULL, 10) + 1;
        if (next > p->offset)
            p->offset = next;
    }
    rd_kafka_assign(rk, list);
    kafka_assigned(c, list);
}

/* A topic whose times are those of producers (CreateTime, the default) says nothing of how long a
 * message waits: their clocks are anybody's. */
static bool give(struct connector *c, const rd_kafka_message_t *m, connector_each *each, void *arg)
{
    rd_kafka_timestamp_type_t kind;
    int64_t wall_ms = rd_kafka_message_timestamp(m, &kind);
    bool is_broker = kind == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
    struct connector_message out = {.topic = rd_kafka_topic_name(m->rkt),
                                    .partition = (uint32_t)m->partition,
                                    .key = {m->key, m->key_len},
                                    .value = {m->payload, m->len},
                                    .wall_ms = is_broker && wall_ms > 0 ? (uint64_t)wall_ms : 0};
    snprintf(out.position, sizeof out.position, "%" PRId64, m->offset);
    (void)c;
    return each(arg, &out);
}

static enum fb_code message_fault(struct connector *c, const rd_kafka_message_t *m,
                                  struct fb_err *err)
{
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        kafka_is_at_end(c, m);
        return FB_OK;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return fb_fail(err, FB_E_DENIED, "%.200s: %s; see the rights of the user of connectors.%s",
                       c->brokers, rd_kafka_err2str(m->err), c->setup.name);
    default:
        return fb_fail(err, FB_E_AGAIN, "%.200s, topic %.100s: %s", c->brokers, c->topics,
                       rd_kafka_err2str(m->err));
    }
}

/* A silent topic and a broker that cannot be reached look the same: but for the error that the
 * library tells once, and before the first answer of the cluster. */
static enum fb_code is_reached(struct connector *c, struct fb_err *err)
{
    char *cluster = c->is_reached ? NULL : rd_kafka_clusterid(c->rk, 0);
    c->is_reached |= cluster != NULL;
    if (cluster)
        rd_kafka_mem_free(c->rk, cluster);
    if (c->is_down && fb_mono_us() - c->call_us > ASK_EACH_US) { /* told once: is it over? */
        const struct rd_kafka_metadata *m;
        kafka_call(c);
        c->is_down = rd_kafka_metadata(c->rk, 0, NULL, &m, ASK_MS) != RD_KAFKA_RESP_ERR_NO_ERROR;
        if (!c->is_down)
            rd_kafka_metadata_destroy(m);
    }
    bool is_late = !c->is_reached && fb_mono_us() - c->started_us > FIRST_ANSWER_US;
    if (!c->is_down && !is_late)
        return FB_OK;
    return kafka_no_answer(c, FB_E_AGAIN, err);
}

enum fb_code kafka_receive(struct connector *c, connector_each *each, void *arg,
                           uint32_t timeout_ms, struct fb_err *err)
{
    enum fb_code code = kafka_start(c, err);
    uint64_t until_us = fb_mono_us() + (uint64_t)timeout_ms * US_PER_MS;
    bool gave = false;
    while (code == FB_OK) {
        if (!c->held) {
            uint64_t now_us = fb_mono_us();
            int wait_ms = gave || now_us >= until_us ? 0 : (int)((until_us - now_us) / 1000);
            c->held = rd_kafka_consumer_poll(c->rk, wait_ms > 50 ? 50 : wait_ms);
        }
        code = kafka_complaint(c, err);
        if (!c->held) {
            if (gave || fb_mono_us() >= until_us || c->setup.is_stopping(c->setup.ctx))
                break;
            continue;
        }
        if (c->held->err)
            code = message_fault(c, c->held, err);
        else if (!give(c, c->held, each, arg))
            return FB_OK; /* the same again, when there is room */
        else
            gave = true;
        rd_kafka_message_destroy(c->held);
        c->held = NULL;
    }
    if (gave) {
        c->passing_text[0] = '\0';
        kafka_moves(c);
    }
    return code == FB_OK && !gave ? is_reached(c, err) : code;
}

/* Waits for the answer, a bounded time: who gets the partition next reads it. */
static rd_kafka_resp_err_t commit_now(struct connector *c, rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_queue_t *answers = rd_kafka_queue_new(c->rk);
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(c->rk, list, answers, NULL, NULL);
    rd_kafka_event_t *answer = NULL;
    for (int ms = 0; !code && !answer && ms < GIVE_BACK_MS; ms += SLICE_MS) {
        answer = rd_kafka_queue_poll(answers, SLICE_MS);
        if (!answer && c->setup.is_stopping(c->setup.ctx))
            break;
    }
    if (answer)
        rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(answers);
    return code;
}

enum fb_code kafka_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                          struct fb_err *err)
{
    (void)err;
    if (!c->rk || count == 0)
        return FB_OK;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (uint32_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, done[i].topic, (int32_t)done[i].partition)->offset =
            strtoll(done[i].position, NULL, 10) + 1;
    /* Not waited for: our own state has the position, the group's is for others and for tools. */
    rd_kafka_resp_err_t code =
        c->is_giving_back ? commit_now(c, list) : rd_kafka_commit(c->rk, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
    (void)code;
    return FB_OK;
}
