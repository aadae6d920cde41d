/* SPDX-License-Identifier: Apache-2.0 */
/* brain_connectors: what connectors and the push API bring comes into the stream; what the
 * connectors say about themselves becomes alerts; what the admin API may ask of them. */
#include "base/clock.h"
#include "base/log.h"
#include "knob/numbers.h"
#include "main/brain_int.h"
#include "main/sentence.h"
#include "output/timeline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INGRESS_BYTES (4 * MIB)
#define TAKE_BYTES (64 * KIB)
#define TAKES_MAX 32
#define STOP_TAKE_US (500 * US_PER_MS) /* for what is queued at the end, on a slow disk */
#define TAKE_CHUNKS 4 /* of the log: one put of 256 KiB and what the engine says to it */

static bool is_configured(const struct brain *b, const char *name);
static void watch_all(struct brain *b, const struct connector_status *at, uint32_t count);

/* What a thread that waits for its broker does not see: the log goes on. */
static uint32_t read_status(struct brain *b, struct connector_status *at, uint32_t max)
{
    struct sequencer_stats ss;
    uint32_t n = connectors_status(b->connectors, at, fb_min_u32(max, CONNECTORS_MAX));
    sequencer_stats_read(b->sequencer, &ss);
    for (uint32_t i = 0; i < n; i++)
        if (!at[i].is_source && at[i].state != CONNECTOR_RUNNING &&
            at[i].state != CONNECTOR_STARTING) {
            at[i].lag_events = fb_sub_floor_u64(ss.next_offset, at[i].offset);
            if (at[i].lag_events > 0 && at[i].lag_us == 0) /* paused: since nothing waited */
                at[i].lag_us = fb_sub_floor_u64(fb_wall_us(), at[i].level_wall_us);
        }
    return n;
}

static const char *name_of(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    const struct memfile *mem = ctx;
    if (kind < EV_KIND_ROUTE || kind > EV_KIND_VERSION || number >= KNOB_TARGETS_MAX)
        return "";
    return numbers_name_at(mem, kind, number, time_us);
}

static void say_event(void *ctx, const struct ev_head *ev, struct buf *out)
{
    const struct filter_names names = {name_of, ctx};
    sentence_put(&names, ev, out);
}

enum fb_code brain_connectors_start(struct brain *b, struct conf *conf, struct fb_err *err)
{
    b->ingress = ingress_new(INGRESS_BYTES);
    struct connectors_setup setup = {.state_dir = b->setup->state_dir,
                                     .node = conf->p.top_node[0] ? conf->p.top_node : "foldback",
                                     .epoch = b->epoch,
                                     .log_end = b->log_end,
                                     .ingress = b->ingress,
                                     .keys = b->keys,
                                     .names = {name_of, &b->mem},
                                     .sentence = say_event};
    b->connectors = b->ingress ? connectors_new(&setup) : NULL;
    if (!b->connectors)
        return fb_fail(err, FB_E_NOMEM, "connectors: no memory");
    connectors_apply(b->connectors, conf);
    return FB_OK;
}

static void take_one(void *arg, struct ev_head *ev)
{
    struct brain *b = arg;
    ev->time_us = fb_mono_us();
    if (ev->type == EV_CUSTOM)
        signals_label(engine_signals(b->fold.engine), (struct ev_custom *)ev);
    brain_put(b, ev);
}

/* What is taken counts as safe once the log is past it: nothing is taken that the log would drop.
 */
bool brain_ingress_has_room(struct brain *b)
{
    return log_has_room(b->log, TAKE_CHUNKS);
}

/* Some ms of work at most; what is left keeps the descriptor readable. */
void brain_take_ingress(struct brain *b)
{
    for (int i = 0; i < TAKES_MAX; i++) {
        if (!brain_ingress_has_room(b))
            break; /* a failing disk: sources wait, the push API answers 429 */
        if (ingress_take(b->ingress, TAKE_BYTES, take_one, b) == 0)
            break;
        brain_flush(b);
        struct sequencer_stats ss;
        sequencer_stats_read(b->sequencer, &ss);
        ingress_taken(b->ingress, ss.next_offset);
    }
}

static void settle(void *arg)
{
    struct brain *b = arg;
    brain_take_ingress(b);
    brain_flush(b); /* tells the sources what is durable, though nothing came */
}

void brain_connectors_stop(struct brain *b)
{
    struct ingress_stats stats = {.queued_bytes = 1};
    if (b->connectors)
        connectors_free(b->connectors, settle, b);
    b->connectors = NULL;
    uint64_t until_us = fb_mono_us() + STOP_TAKE_US;
    while (b->ingress && stats.queued_bytes > 0 && fb_mono_us() < until_us) {
        brain_take_ingress(b);
        ingress_stats_read(b->ingress, &stats);
        if (!brain_ingress_has_room(b))
            usleep(5000);
    }
}

void brain_connectors_tick(struct brain *b)
{
    static struct connector_status at[CONNECTORS_MAX]; /* 20 KiB, the loop's */
    if (!b->connectors)
        return; /* the last tick of a stop */
    connectors_tick(b->connectors);
    uint32_t n = read_status(b, at, CONNECTORS_MAX);
    watch_all(b, at, n);
}

/* ---- alerts ---- */
/* The slot of a name; one about which nothing stands is given up when all are taken. */
static struct connector_said *said_of(struct brain *b, const char *name)
{
    struct connector_said *slot = NULL;
    for (uint32_t i = 0; i < CONNECTORS_SAID_MAX; i++)
        if (strcmp(b->said[i].name, name) == 0)
            return &b->said[i];
    for (uint32_t i = 0; i < CONNECTORS_SAID_MAX && !slot; i++)
        if (!b->said[i].name[0])
            slot = &b->said[i];
    for (uint32_t i = 0; i < CONNECTORS_SAID_MAX && !slot; i++)
        if (!is_configured(b, b->said[i].name) && !b->said[i].is_dead)
            slot = &b->said[i];
    if (!slot)
        slot = &b->said[0];
    *slot = (struct connector_said){.name = ""};
    snprintf(slot->name, sizeof slot->name, "%s", name);
    return slot;
}

/* Alerts are told apart by reason and target: a connector's number is made from its name. */
static uint16_t target_of(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return (uint16_t)((h ^ h >> 16) % EV_NONE);
}

static bool is_configured(const struct brain *b, const char *name)
{
    const struct conf *conf = b->fold.conf;
    for (size_t i = 0; conf && i < conf->connector_count; i++)
        if (!conf->connectors[i].is_fleet && strcmp(conf->connectors[i].name, name) == 0)
            return true;
    return !conf;
}

/* The connector of an alert: its text begins with "connector NAME". */
static bool name_of_alert(const struct ev_alert *ev, char name[48])
{
    const struct span begin = SPAN("connector ");
    struct span rest, text = {ev->text, strnlen(ev->text, sizeof ev->text)};
    if (!span_starts(text, begin))
        return false;
    struct span word =
        span_cut((struct span){text.at + begin.len, text.len - begin.len}, ' ', &rest);
    if (word.len && word.at[word.len - 1] == ':')
        word.len--;
    snprintf(name, 48, "%.*s", (int)fb_min_u64(word.len, 47), word.at);
    return target_of(name) == ev->target;
}

/* What an earlier brain said and nobody ended. */
static void hear_standing(struct brain *b)
{
    const struct timeline_alert *x;
    char name[48];
    for (uint64_t i = 0; (x = admin_alert_at(b->admin, i)) != NULL; i++) {
        uint16_t reason = x->alert.reason;
        bool is_failing = reason == REASON_ALERT_CONNECTOR_FAILING;
        bool is_lagging = reason == REASON_ALERT_CONNECTOR_LAGGING;
        bool is_dead = reason == REASON_ALERT_CONNECTOR_DEAD;
        bool is_lost = reason == REASON_ALERT_CONNECTOR_LOST;
        bool is_displaced = reason == REASON_ALERT_CONNECTOR_DISPLACED;
        if (x->over_us || !(is_failing || is_lagging || is_dead || is_lost || is_displaced) ||
            !name_of_alert(&x->alert, name))
            continue;
        struct connector_said *said = said_of(b, name);
        said->is_failing |= is_failing;
        said->is_lagging |= is_lagging;
        said->is_dead |= is_dead;
        said->is_lost |= is_lost;
        said->is_displaced |= is_displaced;
        said->lost_us = is_lost ? x->alert.head.time_us : said->lost_us;
        said->displaced_us = is_displaced ? x->alert.head.time_us : said->displaced_us;
    }
    b->has_heard = true;
}

static bool has_letters(const struct brain *b, const char *name)
{
    static const char *const ends[] = {"", ".1"};
    char path[700];
    struct stat st;
    bool has_some = false;
    for (size_t i = 0; i < FB_COUNT(ends); i++) {
        snprintf(path, sizeof path, "%s/connectors/%s.dead.jsonl%s", b->setup->state_dir, name,
                 ends[i]);
        has_some |= stat(path, &st) == 0 ? st.st_size > 0 : errno != ENOENT;
    }
    return has_some;
}

static void say(struct brain *b, const char *name, const struct connector_status *s,
                const struct connector_word *word)
{
    struct ev_alert ev = ev_alert_init(word->reason, target_of(name), word->is_over ? 1 : 2,
                                       word->is_over, fb_mono_us());
    ev.value = s ? (double)s->lag_us / US_PER_S : 0;
    snprintf(ev.text, sizeof ev.text, "%.*s", (int)sizeof ev.text - 1, word->text);
    brain_say(b, &ev.head);
    fb_log(word->is_over ? FB_LOG_INFO : FB_LOG_WARN, "%s", word->text);
}

/* What became of an order to send dead letters again: in the log, behind the order. */
static void watch_resend(struct brain *b, struct connector_said *said,
                         const struct connector_status *s)
{
    const struct connector_resend *x = &s->resend;
    bool is_over = x->state == RESEND_DONE || x->state == RESEND_ENDED;
    if (!is_over || x->number == said->resend)
        return;
    struct ev_custom ev = EV_INIT(CUSTOM, custom, fb_mono_us());
    char text[400];
    said->resend = x->number;
    ev.value = (double)x->sent;
    snprintf(ev.name, sizeof ev.name, "foldback.letters.sent");
    int n = snprintf(text, sizeof text, "%s: %llu dead letters delivered, %llu refused%s%s",
                     s->name, (unsigned long long)x->sent, (unsigned long long)x->kept,
                     x->text[0] ? ": " : "", x->text);
    memcpy(ev.text, text, fb_min_u64(n > 0 ? (uint64_t)n : 0, sizeof ev.text));
    brain_say(b, &ev.head);
    fb_log(x->state == RESEND_DONE ? FB_LOG_INFO : FB_LOG_WARN, "connector %s", text);
}

static void watch(struct brain *b, struct connector_said *said, const struct connector_status *s)
{
    struct connector_word words[CONNECTOR_WORDS_MAX];
    struct connector_seen seen = {.status = s,
                                  .is_configured = s || is_configured(b, said->name),
                                  .has_letters = said->is_dead && has_letters(b, said->name),
                                  .now_us = fb_mono_us()};
    size_t count = connector_words(said, &seen, words);
    for (size_t i = 0; i < count; i++)
        say(b, said->name, s, &words[i]);
    if (s)
        watch_resend(b, said, s);
}

static void watch_all(struct brain *b, const struct connector_status *at, uint32_t count)
{
    if (b->admin && !b->has_heard)
        hear_standing(b);
    for (uint32_t i = 0; i < count; i++)
        (void)said_of(b, at[i].name);
    for (uint32_t i = 0; i < CONNECTORS_SAID_MAX; i++) {
        uint32_t k = 0;
        while (k < count && strcmp(at[k].name, b->said[i].name) != 0)
            k++;
        if (b->said[i].name[0])
            watch(b, &b->said[i], k < count ? &at[k] : NULL);
    }
}

/* ---- what the admin API asks ---- */
#define SAME_ROOM(field)                                                                           \
    _Static_assert(sizeof(((struct admin_connector *)0)->field) ==                                 \
                       sizeof(((struct connector_status *)0)->field),                              \
                   #field)
SAME_ROOM(name);
SAME_ROOM(type);
SAME_ROOM(last_error);
SAME_ROOM(resend.text);

static const char *const state_names[] = {"starting",      "running", "failing",
                                          "misconfigured", "paused",  "ended"};

static const char *const resend_names[] = {"", "waits", "runs", "done", "ended"};

uint32_t brain_on_connectors(void *ctx, struct admin_connector *out, uint32_t max)
{
    struct brain *b = ctx;
    static struct connector_status at[CONNECTORS_MAX];
    uint32_t n = read_status(b, at, max);
    for (uint32_t i = 0; i < n; i++) {
        const struct connector_status *s = &at[i];
        out[i] = (struct admin_connector){.is_source = s->is_source,
                                          .has_letters = has_letters(b, s->name),
                                          .state = state_names[s->state],
                                          .offset = s->offset,
                                          .lag_events = s->lag_events,
                                          .lag_us = s->lag_us,
                                          .events = s->events,
                                          .records = s->records,
                                          .bytes = s->bytes,
                                          .errors = s->errors,
                                          .retries = s->retries,
                                          .split = s->split,
                                          .dead = s->dead,
                                          .bad = s->bad,
                                          .lost = s->lost,
                                          .repeated = s->repeated,
                                          .in_flight = s->in_flight,
                                          .last_error_wall_us = s->last_error_wall_us};
        memcpy(out[i].name, s->name, sizeof out[i].name);
        memcpy(out[i].type, s->type, sizeof out[i].type);
        memcpy(out[i].last_error, s->last_error, sizeof out[i].last_error);
        out[i].resend = (struct admin_resend){.number = s->resend.number,
                                              .state = resend_names[s->resend.state],
                                              .sent = s->resend.sent,
                                              .kept = s->resend.kept};
        memcpy(out[i].resend.text, s->resend.text, sizeof out[i].resend.text);
    }
    return n;
}

enum fb_code brain_on_letters_send(void *ctx, const char *connector, const char *id,
                                   uint32_t *number, struct fb_err *err)
{
    struct brain *b = ctx;
    return connectors_resend(b->connectors, connector, id, number, err);
}

enum fb_code brain_on_connector_order(void *ctx, const struct admin_connector_order *order,
                                      struct fb_err *err)
{
    struct brain *b = ctx;
    static const enum connector_verb verbs[] = {CONNECTOR_PAUSE, CONNECTOR_RESUME, CONNECTOR_RESET};
    struct connector_order o = {.verb = verbs[order->verb],
                                .name = order->name,
                                .has_place = order->has_place,
                                .offset = order->offset};
    struct sequencer_stats ss;
    sequencer_stats_read(b->sequencer, &ss);
    if (o.verb == CONNECTOR_RESET && o.offset != LOG_FROM_END && o.offset > ss.next_offset)
        return fb_fail(err, FB_E_RANGE,
                       "offset %" PRIu64 " is not in the log yet: 0 .. %" PRIu64 ", start or end",
                       o.offset, ss.next_offset);
    enum fb_code code = connectors_order(b->connectors, &o, err);
    if (code == FB_OK)
        fb_log(FB_LOG_INFO, "connector %s: %s", order->name,
               order->verb == 0   ? "paused"
               : order->verb == 1 ? "resumed"
                                  : "reset");
    return code;
}
