/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of connectors, with a receiver that does as it is told instead of a library: what
 * answers that got lost, crashes and a full queue do to the events. */
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
    bool is_of_before;                      /* the mark was left by another process */
    uint32_t lose_each, refuse_each, sends; /* answers that get lost; sends that are refused */
    uint64_t got[EVENTS_MAX];
    uint32_t count;
    struct connector_mark mark;
    uint32_t fenced_opens;
    /* a source */
    uint32_t messages, given, bad_at; /* how many there are; how many this connector gave */
    uint32_t per_message;             /* events of each; 0: one */
    uint32_t refused, commits, opens, at_give_back;
    bool gives_back; /* at the next receive */
    char committed[CONNECTOR_POSITION_BYTES];
    uint64_t behind, wall_ms, waits_us; /* what its broker says of what waits */
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

static void store(const struct connector_record *r)
{
    uint64_t first = 0, count = 0;
    for (uint32_t i = 0; i < r->header_count; i++) {
        if (strcmp(r->headers[i].name, "foldback-offset") == 0)
            assert_true(span_to_u64(r->headers[i].value, &first));
        if (strcmp(r->headers[i].name, "foldback-count") == 0)
            assert_true(span_to_u64(r->headers[i].value, &count));
    }
    for (uint64_t i = 0; i < count; i++)
        peer.got[peer.count++ % EVENTS_MAX] = first + i;
}

static enum fb_code peer_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&peer.lock);
    peer.sends++;
    bool is_lost = peer.lose_each && peer.sends % peer.lose_each == 0;
    bool is_refused = peer.refuse_each && peer.sends % peer.refuse_each == 0;
    assert_int_equal(batch->mark != NULL, peer.keeps_mark);
    for (uint32_t i = 0; i < batch->count && !is_refused; i++)
        store(&batch->at[i]);
    if (batch->mark && !is_refused)
        peer.mark = *batch->mark;
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

static void connectors_begin(struct world *w, const char *keys)
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

static struct connector_status status(struct world *w)
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

static void append(struct world *w, uint32_t count)
{
    assert_int_equal(append_numbered(w->log, w->next, w->next + count), count);
    w->next += count;
}

/* In portions, so that there are many batches. */
static void append_slowly(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 10) {
        append(w, 10);
        turn(w);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static bool has(uint64_t offset)
{
    for (uint32_t i = 0; i < peer.count; i++)
        if (peer.got[i] == offset)
            return true;
    return false;
}

#define SINK "events: [request], from: start, delay: 1ms"

static void with_a_mark_each_event_arrives_once_whatever_gets_lost(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    peer.lose_each = 3;
    peer.refuse_each = 5;
    connectors_begin(&w, SINK);
    append_slowly(&w, 300);
    UNTIL(&w, PEER(peer.count) >= 300);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING && status(&w).lag_events == 0);
    assert_int_equal(peer.count, 300);
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(peer.got[i], i);
    connectors_finish(&w);
    world_end(&w);
}

static void without_a_mark_each_event_arrives_at_least_once(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.lose_each = 3;
    connectors_begin(&w, SINK);
    append_slowly(&w, 100);
    UNTIL(&w, PEER(has(99)));
    connectors_finish(&w);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(has(i));
    world_end(&w);
}

static void set_offset(struct world *w, uint64_t offset)
{
    struct state *st;
    struct fb_err err;
    assert_int_equal(state_open(&st, w->state_dir, NULL, &err), FB_OK);
    assert_int_equal(state_offset_set(st, "connector:k", offset, &err), FB_OK);
    state_close(st);
}

static void after_a_crash_the_mark_decides_unless_it_is_beyond_the_log(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    connectors_begin(&w, SINK);
    append(&w, 50);
    UNTIL(&w, PEER(peer.count) == 50);
    connectors_finish(&w);
    set_offset(&w, 20); /* as a kill leaves it: what was delivered since is not in it */
    connectors_begin(&w, SINK);
    append(&w, 50);
    UNTIL(&w, PEER(peer.count) >= 100);
    connectors_finish(&w);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(peer.got[i], i);
    peer.is_of_before = true;
    peer.mark.offset = 5000; /* of a log that was longer: an old copy of the state was put back */
    set_offset(&w, 90);
    connectors_begin(&w, SINK);
    UNTIL(&w, PEER(peer.count) >= 110);
    assert_int_equal(peer.got[100], 90);
    assert_int_equal(status(&w).displaced, 1);
    connectors_finish(&w);
    world_end(&w);
}

/* As a copy that is put back: the log of <kept> events, and another start of foldback writes on. */
static void put_back(struct world *w, uint32_t kept)
{
    struct fb_err err;
    struct log_conf conf = log_dir_conf();
    log_close(w->log);
    assert_int_equal(nftw(w->log_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(log_open(&w->log, w->log_dir, &conf, NULL, &err), FB_OK);
    w->next = 0;
    append(w, kept);
    assert_int_equal(log_flush(w->log, 10000), FB_OK);
    log_close(w->log);
    conf.epoch++;
    assert_int_equal(log_open(&w->log, w->log_dir, &conf, NULL, &err), FB_OK);
}

static void displaced_to(struct world *w, uint64_t from)
{
    char text[80];
    UNTIL(w, status(w).displaced == 1);
    struct connector_status s = status(w);
    snprintf(text, sizeof text, "position 100 is of another log");
    assert_non_null(strstr(s.displaced_text, text));
    assert_non_null(strstr(s.displaced_text, "connector reset k --at start"));
    UNTIL(w, PEER(peer.count) > 100);
    assert_int_equal(PEER(peer.got[100]), from);
}

/* Found at the start and once; never trusted later, when the log has grown past it: by the note of
 * a start without this connector, or, when state.db came back later than the log, by the epoch. */
static void a_position_beyond_the_log_that_was_put_back_is_told_and_leaves_nothing_out(void **state)
{
    static const char *const keys[] = {SINK, "events: [request], from: end, delay: 1ms"};
    (void)state;
    for (size_t k = 0; k < 3 * FB_COUNT(keys); k++) {
        struct world w;
        bool is_grown = k >= FB_COUNT(keys); /* before the connector begins */
        const char *text = keys[k % FB_COUNT(keys)];
        world_begin(&w);
        append(&w, 100);
        connectors_begin(&w, SINK);
        UNTIL(&w, PEER(peer.count) == 100);
        connectors_finish(&w);
        put_back(&w, 60);
        if (is_grown) {
            struct fb_err err;
            if (k / FB_COUNT(keys) == 1)
                assert_int_equal(anchor_scan(w.state_dir, w.next, &err), FB_OK);
            append(&w, 80);
            assert_int_equal(log_flush(w.log, 10000), FB_OK);
        }
        connectors_begin(&w, text);
        append(&w, 80);
        displaced_to(&w, text == keys[0] ? 0 : is_grown ? 140 : 60);
        UNTIL(&w, PEER(has(w.next - 1)));
        connectors_finish(&w);
        connectors_begin(&w, text); /* the next start is like any other */
        append(&w, 1);
        UNTIL(&w, PEER(has(w.next - 1)));
        assert_int_equal(status(&w).displaced, 0);
        connectors_finish(&w);
        world_end(&w);
    }
}

static void a_mark_of_before_is_not_trusted_when_the_log_has_grown_past_it(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    append(&w, 100);
    connectors_begin(&w, SINK);
    UNTIL(&w, PEER(peer.count) == 100);
    connectors_finish(&w);
    put_back(&w, 60);
    set_offset(&w, 60); /* its state was put back, too */
    peer.is_of_before = true;
    peer.refuse_each = 2;
    connectors_begin(&w, SINK);
    append_slowly(&w, 80);
    UNTIL(&w, PEER(has(139)));
    assert_int_equal(status(&w).displaced, 1);
    UNTIL(&w, status(&w).lag_events == 0);
    connectors_finish(&w);
    for (uint32_t i = 60; i < 140; i++)
        assert_int_equal(peer.got[100 + i - 60], i);
    world_end(&w);
}

static void a_reset_makes_the_mark_void(void **state)
{
    struct world w;
    struct fb_err err;
    struct connector_order order = {.verb = CONNECTOR_RESET, .name = "k", .offset = LOG_FROM_START};
    (void)state;
    world_begin(&w);
    peer.keeps_mark = true;
    connectors_begin(&w, SINK);
    append(&w, 30);
    UNTIL(&w, PEER(peer.count) == 30);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) == 60);
    assert_int_equal(peer.got[30], 0);
    connectors_finish(&w);
    world_end(&w);
}

static void who_was_fenced_waits_for_a_person(void **state)
{
    struct world w;
    struct fb_err err;
    struct connector_order order = {.verb = CONNECTOR_RESUME, .name = "k"};
    (void)state;
    world_begin(&w);
    peer.keeps_mark = peer.is_fenced = true;
    connectors_begin(&w, SINK);
    append(&w, 10);
    UNTIL(&w, status(&w).state == CONNECTOR_MISCONFIGURED);
    assert_non_null(strstr(status(&w).last_error, "another one took over"));
    assert_int_equal(PEER(peer.count), 0);
    pthread_mutex_lock(&peer.lock);
    peer.is_fenced = false;
    pthread_mutex_unlock(&peer.lock);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_OK);
    UNTIL(&w, PEER(peer.count) == 10);
    assert_int_equal(PEER(peer.fenced_opens), 0); /* a person said so: it is not told */
    connectors_finish(&w);
    world_end(&w);
}

static void a_call_that_waits_is_said_at_once(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    peer.is_troubled = true;
    connectors_begin(&w, SINK);
    append(&w, 10);
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "nobody answers"));
    assert_true(status(&w).failing_us > 0);
    connectors_finish(&w);
    world_end(&w);
}

static void a_sink_that_has_nothing_to_send_says_whether_it_could(void **state)
{
    const struct connector_order order = {.verb = CONNECTOR_PAUSE, .name = "k"};
    const struct connector_order back = {.verb = CONNECTOR_RESUME, .name = "k"};
    struct world w;
    struct fb_err err;
    (void)state;
    world_begin(&w);
    peer.is_away = true;
    connectors_begin(&w, SINK);
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "nobody is there"));
    pthread_mutex_lock(&peer.lock);
    peer.is_away = false;
    pthread_mutex_unlock(&peer.lock);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    assert_int_equal(PEER(peer.sends), 0);
    uint64_t checks = PEER(peer.checks);
    assert_int_equal(connectors_order(w.cs, &order, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_PAUSED);
    assert_int_equal(connectors_order(w.cs, &back, &err), FB_OK);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    assert_int_equal(PEER(peer.checks), checks + 1); /* once per begin, not while it idles */
    connectors_finish(&w);
    world_end(&w);
}

/* ---- sources ---- */
#define SOURCE "direction: source"
#define EXACT "direction: source, transactions: true"

static void in_order_and_once(const struct world *w, uint32_t count)
{
    assert_int_equal(w->count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal((uint32_t)w->value[i], i);
}

static void a_message_is_acknowledged_only_when_it_is_durable(void **state)
{
    static const char *const keys[] = {SOURCE, EXACT};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(keys); k++) {
        struct world w;
        world_begin(&w);
        w.is_unsure = true;
        peer.messages = 100;
        connectors_begin(&w, keys[k]);
        UNTIL(&w, w.count == 100);
        assert_int_equal(PEER(peer.commits), 0);
        w.is_unsure = false;
        UNTIL(&w, PEER(strcmp(peer.committed, "99")) == 0);
        connectors_finish(&w);
        in_order_and_once(&w, 100);
        /* The next one begins at the last one, which is known. */
        connectors_begin(&w, keys[k]);
        pthread_mutex_lock(&peer.lock);
        peer.messages = 120;
        pthread_mutex_unlock(&peer.lock);
        UNTIL(&w, w.count == 120);
        assert_int_equal(status(&w).repeated, 1);
        connectors_finish(&w);
        in_order_and_once(&w, 120);
        world_end(&w);
    }
}

static void a_full_queue_holds_the_sender_back_and_loses_nothing(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    w.is_blind = true;
    peer.messages = 4000; /* twice what the queue holds */
    connectors_begin(&w, SOURCE);
    UNTIL(&w, PEER(peer.given) >= 1500);
    w.is_blind = false;
    UNTIL(&w, w.count == 4000);
    connectors_finish(&w);
    in_order_and_once(&w, 4000);
    world_end(&w);
}

static void set_waiting(uint64_t behind, uint64_t waits_us)
{
    pthread_mutex_lock(&peer.lock);
    peer.behind = behind;
    peer.waits_us = waits_us;
    pthread_mutex_unlock(&peer.lock);
}

static void how_old_is_what_waits_at_the_broker_is_told_as_far_as_it_says(void **state)
{
    struct world w;
    uint64_t hour_us = 3600 * US_PER_S;
    (void)state;
    world_begin(&w);
    peer.messages = 10;
    peer.wall_ms = (fb_wall_us() - hour_us) / US_PER_MS;
    connectors_begin(&w, SOURCE);
    UNTIL(&w, w.count == 10);
    /* By the times of what came, when the broker says nothing, or how many there are. */
    UNTIL(&w, status(&w).lag_us >= hour_us && status(&w).lag_events == UINT64_MAX);
    set_waiting(5, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us >= hour_us && status(&w).lag_events == 5);
    set_waiting(0, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us == 0 && status(&w).lag_events == 0);
    /* Nothing waited until now: what waits came since. */
    set_waiting(5, UINT64_MAX);
    UNTIL(&w, status(&w).lag_us > 0 && status(&w).lag_us < hour_us / 2);
    /* By the word of the broker. */
    set_waiting(UINT64_MAX, 2 * hour_us);
    UNTIL(&w, status(&w).lag_us >= 2 * hour_us);
    connectors_finish(&w);
    world_end(&w);
}

static void rubbish_is_buried_and_what_lies_beside_it_taken(void **state)
{
    struct world w;
    char path[160];
    (void)state;
    world_begin(&w);
    peer.messages = 20;
    peer.bad_at = 7;
    connectors_begin(&w, EXACT);
    UNTIL(&w, w.count == 19);
    UNTIL(&w, PEER(strcmp(peer.committed, "19")) == 0);
    assert_int_equal(status(&w).bad, 1);
    snprintf(path, sizeof path, "%s/connectors/k.dead.jsonl", w.state_dir);
    assert_int_equal(access(path, R_OK), 0);
    connectors_finish(&w);
    world_end(&w);
}

/* The log has the events, state.db not yet the positions: all of a put, a part of it, none of it.
 */
static void after_a_crash_what_the_log_has_is_not_taken_again(void **state)
{
    static const uint32_t kept[] = {41, 17, 1, 0}; /* the mark is one of them */
    (void)state;
    for (size_t k = 0; k < FB_COUNT(kept); k++) {
        struct world w;
        world_begin(&w);
        append(&w, 5);
        w.is_unsure = true;
        w.take_max = kept[k];
        connectors_begin(&w, EXACT);
        pthread_mutex_lock(&peer.lock);
        peer.messages = 40;
        pthread_mutex_unlock(&peer.lock);
        struct ingress_stats stats = {.events = 0};
        UNTIL(&w,
              (ingress_stats_read(w.ingress, &stats), stats.events == 41 && !stats.queued_bytes));
        uint32_t seen = w.count;
        connectors_finish(&w); /* as a kill: nobody told it that anything is durable */
        w.is_unsure = false;
        w.take_max = UINT32_MAX;
        connectors_begin(&w, EXACT);
        UNTIL(&w, PEER(strcmp(peer.committed, "39")) == 0);
        assert_int_equal(status(&w).repeated, seen > 0); /* it begins at the last that is known */
        connectors_finish(&w);
        in_order_and_once(&w, 40);
        world_end(&w);
    }
}

/* The crash lies within a message: of its events none is lost, none comes twice; and again while
 * they come the second time, with another message in between. */
static void of_a_message_that_a_crash_cut_only_the_rest_is_taken(void **state)
{
    static const uint32_t kept[] = {1 + 3 * 7, 1 + 3 * 7 + 1, 1 + 3 * 7 + 2, 2, 1};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(kept); k++) {
        struct world w;
        struct ingress_stats stats = {.events = 0};
        world_begin(&w);
        w.is_unsure = true;
        w.take_max = kept[k];
        peer.messages = 10;
        peer.per_message = 3;
        connectors_begin(&w, EXACT);
        UNTIL(&w, (ingress_stats_read(w.ingress, &stats), stats.events >= 31));
        connectors_finish(&w);
        assert_int_equal(w.count, kept[k] - 1);
        w.take_max = 2; /* the mark of the next put and one event */
        connectors_begin(&w, EXACT);
        UNTIL(&w, (ingress_stats_read(w.ingress, &stats),
                   stats.events && stats.queued_bytes == 0 && w.take_max == 0));
        connectors_finish(&w);
        w.is_unsure = false;
        w.take_max = UINT32_MAX;
        connectors_begin(&w, EXACT);
        UNTIL(&w, PEER(strcmp(peer.committed, "9")) == 0);
        connectors_finish(&w);
        in_order_and_once(&w, 30);
        world_end(&w);
    }
}

static void reload(struct world *w, const char *keys)
{
    struct conf *was = w->conf;
    w->conf = conf_of(keys);
    connectors_apply(w->cs, w->conf);
    conf_unref(was);
}

/* The log takes nothing for a while: the connector of the new configuration waits for it too. */
static void after_a_reload_what_is_on_its_way_into_the_log_is_not_taken_again(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w);
    w.is_blind = true;
    peer.messages = 40;
    connectors_begin(&w, EXACT);
    struct ingress_stats stats = {.events = 0};
    UNTIL(&w, (ingress_stats_read(w.ingress, &stats), stats.queued_bytes > 0));
    reload(&w, EXACT ", timeout: 7s");
    struct connector_status s;
    UNTIL(&w, (connectors_tick(w.cs), connectors_status(w.cs, &s, 1) == 1));
    UNTIL(&w, status(&w).state == CONNECTOR_FAILING);
    assert_non_null(strstr(status(&w).last_error, "so that nothing is taken twice"));
    assert_int_equal(PEER(peer.opens), 1);
    w.is_blind = false;
    UNTIL(&w, PEER(strcmp(peer.committed, "39")) == 0);
    UNTIL(&w, PEER(peer.opens) == 2);
    UNTIL(&w, status(&w).state == CONNECTOR_RUNNING);
    connectors_finish(&w);
    in_order_and_once(&w, 40);
    world_end(&w);
}

static void before_a_partition_is_given_back_what_came_from_it_is_marked(void **state)
{
    static const char *const keys[] = {SOURCE, EXACT};
    (void)state;
    for (size_t k = 0; k < FB_COUNT(keys); k++) {
        struct world w;
        world_begin(&w);
        peer.messages = 100;
        peer.gives_back = true;
        connectors_begin(&w, keys[k]);
        UNTIL(&w, PEER(peer.at_give_back) > 0);
        assert_int_equal(peer.at_give_back, 99);
        connectors_finish(&w);
        in_order_and_once(&w, 100);
        world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_mark_each_event_arrives_once_whatever_gets_lost),
        cmocka_unit_test(without_a_mark_each_event_arrives_at_least_once),
        cmocka_unit_test(after_a_crash_the_mark_decides_unless_it_is_beyond_the_log),
        cmocka_unit_test(
            a_position_beyond_the_log_that_was_put_back_is_told_and_leaves_nothing_out),
        cmocka_unit_test(a_mark_of_before_is_not_trusted_when_the_log_has_grown_past_it),
        cmocka_unit_test(a_reset_makes_the_mark_void),
        cmocka_unit_test(who_was_fenced_waits_for_a_person),
        cmocka_unit_test(a_call_that_waits_is_said_at_once),
        cmocka_unit_test(a_sink_that_has_nothing_to_send_says_whether_it_could),
        cmocka_unit_test(how_old_is_what_waits_at_the_broker_is_told_as_far_as_it_says),
        cmocka_unit_test(a_message_is_acknowledged_only_when_it_is_durable),
        cmocka_unit_test(a_full_queue_holds_the_sender_back_and_loses_nothing),
        cmocka_unit_test(rubbish_is_buried_and_what_lies_beside_it_taken),
        cmocka_unit_test(after_a_crash_what_the_log_has_is_not_taken_again),
        cmocka_unit_test(of_a_message_that_a_crash_cut_only_the_rest_is_taken),
        cmocka_unit_test(after_a_reload_what_is_on_its_way_into_the_log_is_not_taken_again),
        cmocka_unit_test(before_a_partition_is_given_back_what_came_from_it_is_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
