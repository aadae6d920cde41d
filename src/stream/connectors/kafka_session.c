/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions, and the mark that travels in them: the sink's own offset, as the committed offset
 * of a group that nobody else uses, so that records and mark become visible together or not at all.
 *
 *   session: init (ends what an earlier process left) -> read the mark -> claim it -> transactions
 *   fenced:  the mark is read without a session: ours -> a new session; another's -> it stays down
 *
 * The mark is the offset of partition 0; its metadata names the owner of the offsets and the
 * process that claimed them.  Each session begins with a claim, so the mark tells a second process
 * (which claimed it after us) from a transaction that the broker ended because it took too long:
 * both look the same in librdkafka, and only the first must not be answered by a new session, or
 * two processes would take the topic from each other for ever. */
#include "base/clock.h"
#include "base/rng.h"
#include "stream/connectors/kafka_int.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLICE_MS 150 /* of one call: a stop is seen in between */
#define MARK_MS 15000
/* Of it, for a pending transaction to be decided, when somebody may have fenced us: the claim of
 * another process takes milliseconds; our own, which a broker left open when it died, is only ended
 * by our next session or by its time-out, a minute and more. */
#define PENDING_MS 4000
#define PROCESS_BYTES 120

/* HOST, process and a number that tells apart what has the same of both. */
static char process_text[PROCESS_BYTES];
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void name_process(void)
{
    char host[80] = "";
    struct rng rng;
    if (gethostname(host, sizeof host - 1) != 0 || !host[0])
        snprintf(host, sizeof host, "unknown");
    for (char *at = host; *at; at++)
        *at = *at == ' ' ? '_' : *at;
    rng_init(&rng, fb_mono_us() ^ fb_wall_us() << 20 ^ (uint64_t)getpid() << 40);
    snprintf(process_text, sizeof process_text, "%s/%d/%08x", host, (int)getpid(),
             (unsigned)rng_u64(&rng));
}

static const char *process_name(void)
{
    pthread_once(&process_once, name_process);
    return process_text;
}

bool kafka_must_give_up(const struct connector *c, uint64_t until_us)
{
    return fb_mono_us() >= until_us || c->bad != FB_OK || c->setup.is_stopping(c->setup.ctx);
}

static bool is_fencing(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

static rd_kafka_topic_partition_list_t *mark_list(const struct connector *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, c->topics, 0);
    return list;
}

static rd_kafka_error_t *send_mark(struct connector *c)
{
    char text[CONNECTOR_OWNER_BYTES + PROCESS_BYTES + 2];
    rd_kafka_topic_partition_list_t *list = mark_list(c);
    int len = snprintf(text, sizeof text, "%s %s", c->mark.owner, process_name());
    list->elems[0].offset = (int64_t)c->mark.offset;
    list->elems[0].metadata = strdup(text);
    list->elems[0].metadata_size = list->elems[0].metadata ? (size_t)len : 0;
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(c->id);
    rd_kafka_error_t *e = rd_kafka_send_offsets_to_transaction(c->rk, list, group, SLICE_MS);
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(list);
    return e;
}

static rd_kafka_error_t *step_once(struct connector *c, enum kafka_step step)
{
    switch (step) {
    case KAFKA_INIT:
        return rd_kafka_init_transactions(c->rk, SLICE_MS);
    case KAFKA_MARK:
        return send_mark(c);
    case KAFKA_COMMIT:
        break;
    }
    return rd_kafka_commit_transaction(c->rk, SLICE_MS);
}

enum fb_code kafka_step(struct connector *c, enum kafka_step step, uint64_t until_us,
                        struct fb_err *err)
{
    static const char *const doing[] = {"prepared", "given its mark", "committed"};
    for (;;) {
        rd_kafka_error_t *e = step_once(c, step);
        if (!e) {
            kafka_moves(c);
            return FB_OK;
        }
        bool is_again = rd_kafka_error_is_retriable(e) && !kafka_must_give_up(c, until_us);
        rd_kafka_poll(c->rk, is_again ? 5 : 0); /* errors of the connection are told there */
        kafka_waits(c);
        if (!is_again) {
            enum fb_code code = kafka_complaint(c, err);
            c->is_fenced |= is_fencing(rd_kafka_error_code(e)) ||
                            is_fencing(rd_kafka_fatal_error(c->rk, NULL, 0));
            if (code == FB_OK)
                code =
                    fb_fail(err, FB_E_AGAIN, "%.150s: the transaction was not %s: %.120s%s%.120s",
                            c->brokers, doing[step], rd_kafka_error_string(e),
                            c->passing_text[0] ? "; " : "", c->passing_text);
            rd_kafka_error_destroy(e);
            return code;
        }
        rd_kafka_error_destroy(e);
    }
}

enum fb_code kafka_session(struct connector *c, uint64_t until_us, struct fb_err *err)
{
    enum fb_code code = kafka_start(c, err);
    if (code != FB_OK || c->is_session)
        return code;
    code = kafka_step(c, KAFKA_INIT, until_us, err);
    c->is_session = code == FB_OK;
    if (code != FB_OK)
        kafka_drop(c);
    return code;
}

enum fb_code kafka_begin(struct connector *c, struct fb_err *err)
{
    rd_kafka_error_t *e = rd_kafka_begin_transaction(c->rk);
    c->is_begun = e == NULL;
    if (!e)
        return FB_OK;
    c->is_fenced |=
        is_fencing(rd_kafka_error_code(e)) || is_fencing(rd_kafka_fatal_error(c->rk, NULL, 0));
    enum fb_code code = fb_fail(err, FB_E_AGAIN, "%.200s: no transaction: %.200s", c->brokers,
                                rd_kafka_error_string(e));
    rd_kafka_error_destroy(e);
    kafka_drop(c);
    return code;
}

/* ---- the mark ---- */
struct stored {
    bool is_there;
    uint64_t offset;
    char owner[CONNECTOR_OWNER_BYTES], process[PROCESS_BYTES];
};

static void parse_stored(const rd_kafka_topic_partition_t *at, struct stored *out)
{
    struct span text = {at->metadata, at->metadata_size}, process;
    *out = (struct stored){.is_there = at->offset >= 0};
    if (!out->is_there)
        return;
    struct span owner = span_cut(text, ' ', &process);
    out->offset = (uint64_t)at->offset;
    snprintf(out->owner, sizeof out->owner, "%.*s", SPAN_ARG(owner));
    snprintf(out->process, sizeof out->process, "%.*s", SPAN_ARG(process));
}

static enum fb_code read_stored(struct connector *c, bool is_stable, uint64_t until_us,
                                struct stored *out, struct fb_err *err)
{
    rd_kafka_t *asker;
    enum fb_code code = kafka_asker(c, c->id, is_stable, &asker, err);
    if (code != FB_OK)
        return code;
    rd_kafka_topic_partition_list_t *list = mark_list(c);
    for (;;) {
        rd_kafka_resp_err_t got = rd_kafka_committed(asker, list, SLICE_MS);
        if (!got)
            got = list->elems[0].err;
        rd_kafka_poll(asker, got ? 5 : 0);
        if (got)
            kafka_waits(c);
        code = kafka_complaint(c, err);
        if (!got || code != FB_OK)
            break;
        if (got == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
            code = fb_fail(err, FB_E_DENIED,
                           "%.150s: %s: transactions keep their mark in the group %s; give the "
                           "user the right to read it",
                           c->brokers, rd_kafka_err2str(got), c->id);
        else if (kafka_must_give_up(c, until_us))
            code = fb_fail(err, FB_E_AGAIN, "%.150s: the mark in group %s cannot be read: %s",
                           c->brokers, c->id, rd_kafka_err2str(got));
        if (code != FB_OK)
            break;
    }
    if (code == FB_OK)
        parse_stored(&list->elems[0], out);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy_flags(asker, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return code;
}

/* Somebody claimed it after us: said, and left to a person. */
static enum fb_code look_who_fenced(struct connector *c, uint64_t until_us, struct fb_err *err)
{
    struct stored stored;
    uint64_t pending_us = fb_min_u64(until_us, fb_mono_us() + PENDING_MS * US_PER_MS);
    enum fb_code code = read_stored(c, true, pending_us, &stored, err);
    if (code == FB_E_AGAIN && !kafka_must_give_up(c, until_us))
        code = read_stored(c, false, until_us, &stored, err);
    if (code != FB_OK)
        return code;
    if (stored.is_there && strcmp(stored.process, process_name()) != 0)
        return fb_fail(err, FB_E_CONFLICT,
                       "another process writes as transactional.id %s (host/pid/number %s): give "
                       "each node its own `node:` or stop that one, then `foldback connector "
                       "resume %s`",
                       c->id, stored.process, c->setup.name);
    c->is_fenced = false;
    return FB_OK;
}

static enum fb_code claim(struct connector *c, uint64_t until_us, struct fb_err *err)
{
    enum fb_code code = kafka_begin(c, err);
    if (code == FB_OK)
        code = kafka_step(c, KAFKA_MARK, until_us, err);
    if (code == FB_OK)
        code = kafka_step(c, KAFKA_COMMIT, until_us, err);
    c->is_begun = false;
    c->is_claimed |= code == FB_OK;
    c->marked = c->mark.offset;
    return code;
}

enum fb_code kafka_mark(struct connector *c, struct connector_mark *mark, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + MARK_MS * US_PER_MS;
    struct stored stored = {.offset = 0};
    kafka_call(c);
    if (!c->is_transactional)
        return fb_fail(err, FB_E_NOT_FOUND, "connectors.%s keeps no mark", c->setup.name);
    c->bad = c->rk ? c->bad : FB_OK;
    if (!c->rk) /* what was wrong with an earlier session is not why the next one waits */
        c->passing_text[0] = '\0';
    if (c->is_session) { /* what failed was ended; what was committed last is known */
        mark->offset = fb_max_u64(mark->offset, c->marked);
        return FB_OK;
    }
    bool must_look = c->is_fenced && (c->is_claimed || c->setup.was_fenced);
    enum fb_code code = must_look ? look_who_fenced(c, until_us, err) : FB_OK;
    if (code == FB_OK)
        code = kafka_session(c, until_us, err);
    if (code == FB_OK)
        code = read_stored(c, true, until_us, &stored, err);
    if (code == FB_OK) {
        bool is_own = strcmp(stored.process, process_name()) == 0;
        bool is_ours = stored.is_there && strcmp(stored.owner, mark->owner) == 0;
        if (is_ours && !is_own && stored.offset > mark->limit)
            mark->beyond = stored.offset; /* the claim takes its place */
        else if (is_ours)
            mark->offset = fb_max_u64(mark->offset, stored.offset);
        c->mark = *mark;
        code = claim(c, until_us, err);
    }
    if (code != FB_OK)
        kafka_drop(c);
    return code;
}
