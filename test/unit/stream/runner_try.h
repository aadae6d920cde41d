/* SPDX-License-Identifier: Apache-2.0 */
/* runner_try: the runner of connectors with a receiver that does as it is told instead of a
 * library, and what the brain is to it. */
#ifndef FB_TEST_UNIT_STREAM_RUNNER_TRY_H
#define FB_TEST_UNIT_STREAM_RUNNER_TRY_H
#include "base/clock.h"
#include "event/ingress.h"
#include "log_dir.h"
#include "stream/connectors/anchor.h"
#include "stream/connectors/connector.h"
#include "stream/connectors/load.h"
#include "stream/connectors/runner.h"
#include "stream/state.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define EVENTS_MAX 4096
#define PATIENCE_MS 60000

/* ---- a receiver and a sender ---- */
static struct {
    pthread_mutex_t lock;
    uint32_t can;
    bool keeps_mark, is_fenced, is_troubled;
    bool is_session_over;                   /* something failed: the mark is asked for first */
    bool is_of_before;                      /* the mark was left by another process */
    bool is_poison;                         /* refuses each record for ever */
    uint64_t fails_below;                   /* a command: ends badly at records of before it */
    uint32_t lose_each, refuse_each, sends; /* answers that get lost; sends that are refused */
    uint64_t got[EVENTS_MAX];
    uint32_t count;
    struct connector_mark mark;
    uint32_t fenced_opens;
    uint32_t slow_ms; /* each that is sent again takes so long */
    /* a source */
    uint32_t messages, given, bad_at; /* how many there are; how many this connector gave */
    uint32_t per_message;             /* events of each; 0: one */
    uint32_t refused, commits, opens, at_give_back;
    bool gives_back; /* at the next receive */
    char committed[CONNECTOR_POSITION_BYTES];
    uint64_t behind, wall_ms, waits_us; /* what its broker says of what waits */
    struct connector_place place;       /* ... by its numbers */
    uint32_t checks;
    bool is_away; /* for a check */
} peer;

struct connector {
    struct connector_setup setup;
    uint32_t next;
};

static enum fb_code peer_open(struct connector **out, const struct connector_setup *setup,
                              struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    char at[CONNECTOR_POSITION_BYTES];
    (void)err;
    c->setup = *setup;
    if (setup->is_source && setup->position(setup->ctx, "t", 0, at))
        c->next = (uint32_t)strtoul(at, NULL, 10); /* that one again: it must be dropped */
    pthread_mutex_lock(&peer.lock);
    peer.fenced_opens += setup->was_fenced;
    peer.opens++;
    pthread_mutex_unlock(&peer.lock);
    *out = c;
    return FB_OK;
}

static void peer_close(struct connector *c)
{
    free(c);
}

static uint64_t first_offset(const struct connector_record *r)
{
    uint64_t first = 0;
    for (uint32_t i = 0; i < r->header_count; i++)
        if (strcmp(r->headers[i].name, "foldback-offset") == 0)
            assert_true(span_to_u64(r->headers[i].value, &first));
    return first;
}

static void store(const struct connector_record *r)
{
    uint64_t first = first_offset(r), count = 0;
    for (uint32_t i = 0; i < r->header_count; i++)
        if (strcmp(r->headers[i].name, "foldback-count") == 0)
            assert_true(span_to_u64(r->headers[i].value, &count));
    for (uint64_t i = 0; i < count; i++)
        peer.got[peer.count++ % EVENTS_MAX] = first + i;
}

static enum fb_code peer_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&peer.lock);
    uint32_t slow_ms = batch->is_resent ? peer.slow_ms : 0;
    pthread_mutex_unlock(&peer.lock);
    nanosleep(&(struct timespec){.tv_nsec = slow_ms * 1000000L}, NULL);
    pthread_mutex_lock(&peer.lock);
    peer.sends++;
    bool is_lost = peer.lose_each && peer.sends % peer.lose_each == 0;
    bool is_refused = peer.refuse_each && peer.sends % peer.refuse_each == 0;
    assert_int_equal(batch->mark != NULL, peer.keeps_mark && !batch->is_resent);
    assert_false(peer.keeps_mark && peer.is_session_over);
    if (peer.is_poison) {
        for (uint32_t i = 0; i < batch->count; i++)
            batch->at[i].result = CONNECTOR_POISON;
        peer.is_session_over = true;
        pthread_mutex_unlock(&peer.lock);
        return FB_OK;
    }
    if (peer.fails_below && first_offset(&batch->at[0]) < peer.fails_below) {
        batch->at[0].result = batch->is_resent ? CONNECTOR_POISON : CONNECTOR_RETRY;
        code = batch->is_resent ? FB_OK : fb_fail(err, FB_E_AGAIN, "ended with code 3");
        peer.is_session_over = true;
        pthread_mutex_unlock(&peer.lock);
        return code;
    }
    for (uint32_t i = 0; i < batch->count && !is_refused; i++)
        store(&batch->at[i]);
    if (batch->mark && !is_refused)
        peer.mark = *batch->mark;
    peer.is_session_over |= is_lost || is_refused;
    if (is_lost || is_refused)
        code = fb_fail(err, FB_E_AGAIN, "no answer");
    else
        for (uint32_t i = 0; i < batch->count; i++)
            batch->at[i].result = CONNECTOR_DELIVERED;
    bool is_troubled = peer.is_troubled;
    pthread_mutex_unlock(&peer.lock);
    if (is_troubled) {
        struct fb_err why = {.code = FB_E_AGAIN, .text = "nobody answers"};
        c->setup.trouble(c->setup.ctx, &why);
        while (!c->setup.is_stopping(c->setup.ctx))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return code;
}

static enum fb_code peer_mark(struct connector *c, struct connector_mark *mark, struct fb_err *err)
{
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&peer.lock);
    peer.is_session_over = false;
    if (!peer.keeps_mark)
        code = FB_E_NOT_FOUND;
    else if (peer.is_fenced)
        code = fb_fail(err, FB_E_CONFLICT, "another one took over");
    else if (strcmp(mark->owner, peer.mark.owner) == 0 && peer.is_of_before &&
             peer.mark.offset > mark->limit)
        mark->beyond = peer.mark.offset;
    else if (strcmp(mark->owner, peer.mark.owner) == 0 && peer.mark.offset > mark->offset)
        mark->offset = peer.mark.offset;
    if (code == FB_OK && peer.is_of_before) { /* claimed */
        peer.is_of_before = false;
        peer.mark.offset = mark->offset;
    }
    pthread_mutex_unlock(&peer.lock);
    (void)c;
    return code;
}

static uint64_t read_peer(const uint64_t *at)
{
    pthread_mutex_lock(&peer.lock);
    uint64_t value = *at;
    pthread_mutex_unlock(&peer.lock);
    return value;
}

static enum fb_code peer_receive(struct connector *c, connector_each *each, void *arg,
                                 uint32_t timeout_ms, struct fb_err *err)
{
    char text[4000];
    (void)timeout_ms, (void)err;
    pthread_mutex_lock(&peer.lock);
    uint32_t messages = peer.messages, bad_at = peer.bad_at;
    uint32_t per = peer.per_message ? peer.per_message : 1;
    pthread_mutex_unlock(&peer.lock);
    for (; c->next < messages; c->next++) {
        for (uint32_t i = 0, at = 0; i < per; i++)
            at += (uint32_t)snprintf(text + at, sizeof text - at,
                                     "{\"name\":\"order\",\"value\":%u}\n", c->next * per + i);
        struct connector_message m = {
            .topic = "t", .value = span_of(text), .wall_ms = read_peer(&peer.wall_ms)};
        if (bad_at && c->next == bad_at)
            m.value = SPAN("rubbish");
        snprintf(m.position, sizeof m.position, "%u", c->next);
        if (!each(arg, &m)) {
            pthread_mutex_lock(&peer.lock);
            peer.refused++;
            pthread_mutex_unlock(&peer.lock);
            return FB_OK;
        }
        pthread_mutex_lock(&peer.lock);
        peer.given++;
        pthread_mutex_unlock(&peer.lock);
    }
    pthread_mutex_lock(&peer.lock);
    bool gives_back = peer.gives_back && c->next > 0;
    peer.gives_back &= !gives_back;
    pthread_mutex_unlock(&peer.lock);
    if (gives_back) {
        c->setup.give_back(c->setup.ctx);
        pthread_mutex_lock(&peer.lock);
        peer.at_give_back = (uint32_t)strtoul(peer.committed, NULL, 10);
        pthread_mutex_unlock(&peer.lock);
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return FB_OK;
}

static enum fb_code peer_commit(struct connector *c, const struct connector_done *done,
                                uint32_t count, struct fb_err *err)
{
    (void)c, (void)err;
    pthread_mutex_lock(&peer.lock);
    peer.commits += count;
    if (count)
        snprintf(peer.committed, sizeof peer.committed, "%s", done[count - 1].position);
    pthread_mutex_unlock(&peer.lock);
    return FB_OK;
}

static enum fb_code peer_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                               void *arg, struct fb_err *err)
{
    (void)c, (void)timeout_ms;
    pthread_mutex_lock(&peer.lock);
    peer.checks++;
    bool is_away = peer.is_away;
    pthread_mutex_unlock(&peer.lock);
    step(arg, !is_away, "looked");
    return is_away ? fb_fail(err, FB_E_AGAIN, "nobody is there") : FB_OK;
}

static uint64_t peer_behind(struct connector *c)
{
    (void)c;
    return read_peer(&peer.behind);
}

static uint64_t peer_waits_us(struct connector *c)
{
    (void)c;
    return read_peer(&peer.waits_us);
}

static inline bool peer_place(struct connector *c, struct connector_place *place)
{
    (void)c;
    pthread_mutex_lock(&peer.lock);
    *place = peer.place;
    pthread_mutex_unlock(&peer.lock);
    return true;
}

static struct connector_type peer_type = {.abi = CONNECTOR_ABI,
                                          .bytes = sizeof(struct connector_type),
                                          .name = "kafka",
                                          .send_max = 64,
                                          .open = peer_open,
                                          .close = peer_close,
                                          .check = peer_check,
                                          .send = peer_send,
                                          .receive = peer_receive,
                                          .commit = peer_commit,
                                          .behind = peer_behind,
                                          .waits_us = peer_waits_us,
                                          .mark = peer_mark};

enum fb_code connector_load(const char *type, const char *package,
                            const struct connector_type **out, struct fb_err *err)
{
    (void)type, (void)package, (void)err;
    peer_type.can = CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED;
    *out = &peer_type;
    return FB_OK;
}

/* ---- what the brain is to the connectors ---- */
struct world {
    char state_dir[80], log_dir[96];
    struct log *log;
    struct ingress *ingress;
    struct conf *conf;
    struct connectors *cs;
    uint64_t next;            /* offset */
    bool is_blind, is_unsure; /* takes nothing; never says what is durable */
    uint32_t take_max;        /* events that reach the log: then the power fails */
    double value[EVENTS_MAX]; /* of the events that came in */
    uint32_t count;
};

static void world_begin(struct world *w)
{
    *w = (struct world){.take_max = UINT32_MAX};
    memset(&peer, 0, sizeof peer);
    peer.behind = peer.waits_us = UINT64_MAX;
    pthread_mutex_init(&peer.lock, NULL);
    snprintf(w->state_dir, sizeof w->state_dir, "%s/fb-runner-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(w->state_dir));
    snprintf(w->log_dir, sizeof w->log_dir, "%s/log", w->state_dir);
    struct log_conf conf = log_dir_conf();
    struct fb_err err = {.text = ""};
    if (log_open(&w->log, w->log_dir, &conf, NULL, &err) != FB_OK)
        fail_msg("%s", err.text);
}

static struct conf *conf_of(const char *keys)
{
    char text[600];
    struct conf_report report;
    struct conf *conf;
    snprintf(text, sizeof text,
             "listen: [\":8080\"]\nservices: { app: { endpoints: [\"127.0.0.1:3000\"] } }\n"
             "connectors: { k: { type: kafka, brokers: x, topic: t, backoff_max: 100ms, %s } }\n",
             keys);
    if (conf_parse(span_of(text), "t.yaml", &conf, &report) != FB_OK)
        fail_msg("%s", report.at[0].text);
    conf_report_fini(&report);
    return conf;
}

static inline void connectors_begin(struct world *w, const char *keys)
{
    w->conf = conf_of(keys);
    w->ingress = ingress_new(512 * KIB);
    struct connectors_setup setup = {.state_dir = w->state_dir,
                                     .node = "n1",
                                     .epoch = 1,
                                     .log_end = w->next,
                                     .ingress = w->ingress};
    w->cs = connectors_new(&setup);
    connectors_apply(w->cs, w->conf);
}

static void take(void *arg, struct ev_head *ev)
{
    struct world *w = arg;
    const struct ev_custom *custom = (const void *)ev;
    if (w->take_max == 0)
        return;
    w->take_max--;
    ev->time_us = 1000000 + w->next;
    assert_int_equal(log_append(w->log, (struct span){(char *)ev, sizeof *custom}, w->next), 1);
    w->next++;
    if (strcmp(custom->name, "order") == 0)
        w->value[w->count++ % EVENTS_MAX] = custom->value;
}

static void turn(void *arg)
{
    struct world *w = arg;
    while (!w->is_blind && ingress_take(w->ingress, 64 * KIB, take, w) > 0)
        ingress_taken(w->ingress, w->next);
    assert_int_equal(log_flush(w->log, 10000), FB_OK);
    if (!w->is_unsure)
        ingress_settle(w->ingress, log_acknowledged(w->log));
}

static void connectors_finish(struct world *w)
{
    connectors_free(w->cs, turn, w);
    ingress_free(w->ingress);
    conf_unref(w->conf);
    w->cs = NULL;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void world_end(struct world *w)
{
    log_close(w->log);
    nftw(w->state_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct connector_status status(struct world *w)
{
    struct connector_status s = {.name = ""};
    assert_int_equal(connectors_status(w->cs, &s, 1), 1);
    return s;
}

static uint64_t peer_value; /* of this thread */

static void peer_lock(void)
{
    pthread_mutex_lock(&peer.lock);
}

static void peer_unlock(void)
{
    pthread_mutex_unlock(&peer.lock);
}

#define PEER(expression)                                                                           \
    (peer_lock(), peer_value = (uint64_t)(expression), peer_unlock(), peer_value)
#define UNTIL(w, fact)                                                                             \
    for (uint64_t until_us = fb_mono_us() + PATIENCE_MS * US_PER_MS; !(fact);) {                   \
        if (fb_mono_us() > until_us)                                                               \
            fail_msg("not so after a minute: %s", #fact);                                          \
        turn(w);                                                                                   \
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);                                   \
    }

static inline void append(struct world *w, uint32_t count)
{
    assert_int_equal(append_numbered(w->log, w->next, w->next + count), count);
    w->next += count;
}

/* In portions, so that there are many batches. */
static inline void append_slowly(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 10) {
        append(w, 10);
        turn(w);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}
#endif
