/* SPDX-License-Identifier: Apache-2.0 */
/* From the broker into the stream.
 *
 *   receive: messages -> events -> ingress (one put per batch, which has a ticket)
 *   settle:  ticket durable -> positions in state.db -> commit to the broker
 *
 * A message whose position is known is dropped.  The queue of the brain is the bound: while it is
 * full, or too many batches wait for the disk, nothing is received.
 * Threads: the connector's own. */
#include "base/assert.h"
#include "base/clock.h"
#include "event/intake.h"
#include "stream/connectors/age.h"
#include "stream/connectors/runner_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCHES_MAX 16
#define BATCH_MESSAGES_MAX 4096
#define EXACT_MESSAGES_MAX 1024 /* of one put: their positions are written before it */
#define BATCH_RECORD_BYTES INGRESS_PUT_BYTES_MAX
#define RECEIVE_MS 100
#define RECEIVE_BUSY_MS 10 /* while something waits to be settled: it is soon */
/* For what was handed over to become durable: at the end of foldback, of a connector, of an exact
 * one, and before another member of the group goes on.  What is not durable then is repeated, but
 * of an exact source that goes on here (exact.c waits for it). */
#define LAST_SETTLE_MS 500
#define END_SETTLE_MS 500
#define EXACT_SETTLE_MS 5000
#define GIVE_BACK_SETTLE_MS 10000
/* Of a broker that does not say what waits: how long the age of a message that came is taken for
 * that of those behind it. */
#define AGE_KEPT_US (30 * US_PER_S)
#define WALL_MIN_MS UINT64_C(946684800000) /* the year 2000: what is before it is no time */

/* Messages whose events wait for the log together. */
struct batch_in {
    uint64_t ticket;
    struct connector_done *done;
    uint32_t count, cap;
    bool is_new; /* a message that was taken or buried, not only repeats: positions move */
};
struct source {
    struct buf records; /* of the batch that is being filled */
    struct batch_in batch[BATCHES_MAX];
    uint32_t first, count; /* of batches that wait; the one that is being filled follows them */
    uint64_t events, messages, bytes;
    bool is_unburied;         /* a dead letter could not be written: its message comes again */
    uint64_t since_us;        /* by the wall: what waits at the broker was written after it */
    uint64_t age_us, came_us; /* of the message that came last, and when it did */
    bool has_wall;            /* ... and its broker said when it was written */
    uint64_t came;            /* messages, known ones too */
    struct age waits;
    uint32_t era; /* of what it is about */
};

static bool settle_all(struct runner *r, uint32_t ms);

static void state_key(const struct runner *r, char out[64])
{
    snprintf(out, 64, "source:%s", r->c->name);
}

enum fb_code source_begin(struct runner *r, struct fb_err *err)
{
    char key[64], *text = NULL;
    state_key(r, key);
    r->source = calloc(1, sizeof *r->source);
    if (!r->source)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", r->c->name);
    buf_init(&r->source->records, BATCH_RECORD_BYTES);
    r->source->since_us = fb_wall_us();
    positions_fini(&r->positions);
    positions_fini(&r->durable);
    if (atomic_exchange(&r->is_reset, false)) {
        enum fb_code code = state_meta_set(r->state, key, SPAN(""), err);
        if (code == FB_OK)
            code = exact_begin(r, true, err);
        if (code != FB_OK)
            atomic_store(&r->is_reset, true);
        return code;
    }
    /* Which kind of positions it has is known when its library is: both are read. */
    enum fb_code code = state_meta_get(r->state, key, &text, err);
    if (code == FB_OK) {
        r->positions.is_unordered = r->durable.is_unordered = strncmp(text, "i ", 2) == 0;
        positions_load(&r->positions, span_of(text));
        positions_load(&r->durable, span_of(text));
    }
    free(text);
    return code == FB_OK || code == FB_E_NOT_FOUND ? exact_begin(r, false, err) : code;
}

static void forget_batch(struct batch_in *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        free((char *)(uintptr_t)b->done[i].topic);
    b->count = 0;
    b->is_new = false;
}

void source_end(struct runner *r)
{
    struct source *s = r->source;
    if (!s)
        return;
    buf_fini(&s->records);
    for (uint32_t i = 0; i < BATCHES_MAX; i++) {
        forget_batch(&s->batch[i]);
        free(s->batch[i].done);
    }
    free(s);
    r->source = NULL;
    RUNNER_STATUS(r, { /* what waits while nobody asks is not known */
                       r->status.lag_events = UINT64_MAX;
                       r->status.oldest_wall_us = 0;
    });
    exact_end(r);
    positions_fini(&r->positions);
    positions_fini(&r->durable);
}

/* No further batch before one is durable. */
static bool is_full(const struct runner *r)
{
    return r->source->count >= (r->exact.is_on ? 1 : BATCHES_MAX - 1);
}

static struct batch_in *filling(struct source *s)
{
    return &s->batch[(s->first + s->count) % BATCHES_MAX];
}

/* Remembers that the message is part of the batch; for a partition only the newest counts. */
static bool remember(struct runner *r, struct batch_in *b, const struct connector_message *m)
{
    bool is_each = (r->type->can & CONNECTOR_UNORDERED) != 0;
    struct connector_done *d = NULL;
    for (uint32_t i = b->count; !is_each && i-- > 0 && !d;)
        if (b->done[i].partition == m->partition && strcmp(b->done[i].topic, m->topic) == 0)
            d = &b->done[i];
    if (!d) {
        if (b->count == b->cap) {
            uint32_t cap = b->cap ? 2 * b->cap : 16;
            struct connector_done *more = realloc(b->done, cap * sizeof *more);
            if (!more)
                return false;
            b->done = more;
            b->cap = cap;
        }
        char *topic = strdup(m->topic); /* the library's text ends with the call */
        if (!topic)
            return false;
        d = &b->done[b->count++];
        *d = (struct connector_done){.topic = topic, .partition = m->partition};
    }
    snprintf(d->position, sizeof d->position, "%s", m->position);
    d->token = m->token;
    return true;
}

/* The events of <m> behind those of the batch, or a dead letter.  False: it must come again. */
static bool take_message(struct runner *r, const struct connector_message *m)
{
    struct source *s = r->source;
    struct intake in = {
        .name = m->topic, .now_us = fb_mono_us(), .out = &s->records, .is_own = m->is_own};
    size_t mark = exact_mark(r, &s->records), was = s->records.len;
    uint32_t had = exact_had(r, m);
    if (!intake_read(&in, m->value)) {
        if (was > mark)
            return false; /* with the next batch */
        in.bad = 1;
        snprintf(in.reason, sizeof in.reason, "more events in one message than 256 KiB hold");
    }
    if (in.bad && !had) { /* else it was buried the first time */
        struct dead_letter letter = {.topic = m->topic,
                                     .position = m->position,
                                     .key = m->key,
                                     .value = m->value,
                                     .reason = in.reason};
        /* Before anything of it is kept: else the message comes again. */
        if (!runner_bury(r, &letter)) {
            s->records.len = was;
            s->is_unburied = true;
            return false;
        }
        RUNNER_STATUS(r, r->status.bad += in.bad);
    }
    had = (uint32_t)fb_min_u64(had, in.events);
    size_t left = s->records.len - was - had * sizeof(struct ev_custom);
    memmove(s->records.at + was, s->records.at + s->records.len - left, left);
    s->records.len = was + left;
    /* From now on a repeat within this run is known, durable or not. */
    if (!exact_note(r, m, (struct span){s->records.at + was, left}) ||
        !positions_set(&r->positions, m->topic, m->partition, m->position)) {
        s->records.len = was;
        return false;
    }
    exact_noted(r, m);
    s->events += in.events - had;
    s->bytes += m->value.len;
    s->messages++;
    return true;
}

static void note_age(struct source *s, const struct connector_message *m)
{
    if (m->is_own)
        return;
    s->came++;
    s->has_wall = m->wall_ms >= WALL_MIN_MS;
    if (!s->has_wall)
        return;
    s->since_us = fb_min_u64(m->wall_ms * US_PER_MS, fb_wall_us()); /* its sender's clock */
    s->age_us = fb_sub_floor_u64(fb_wall_us(), s->since_us);
    s->came_us = fb_mono_us();
}

static bool on_message(void *arg, const struct connector_message *m)
{
    struct runner *r = arg;
    struct source *s = r->source;
    struct batch_in *b = filling(s);
    if (is_full(r) || b->count >= (r->exact.is_on ? EXACT_MESSAGES_MAX : BATCH_MESSAGES_MAX))
        return false;
    bool is_known = !(r->type->can & CONNECTOR_SEEKS) && positions_knows(&r->positions, m);
    if (!is_known && !take_message(r, m))
        return false;
    if (!remember(r, b, m))
        return false;
    b->is_new |= !is_known;
    note_age(s, m);
    RUNNER_STATUS(r, r->status.repeated += is_known);
    return true;
}

/* The batch that is being filled goes to the brain; waits while there is no room. */
static void hand_over(struct runner *r)
{
    struct source *s = r->source;
    struct batch_in *b = filling(s);
    if (b->count == 0)
        return;
    b->ticket = 0; /* no event in it: durable already */
    struct fb_err err;
    if (s->records.len > 0 && exact_intend(r, &err) != FB_OK) {
        runner_failed(r, &err); /* it stays as it is, and comes with the next */
        return;
    }
    while (s->records.len > 0) {
        enum fb_code code = ingress_put(r->setup->ingress, buf_span(&s->records), &b->ticket);
        if (code == FB_OK)
            break;
        fb_assert(code == FB_E_AGAIN);
        /* Not given up when a stop comes: the positions say that it was taken. */
        runner_wait(r, 5);
        if (atomic_load(&r->is_stopping))
            return;
    }
    RUNNER_STATUS(r, {
        r->status.events += s->events;
        r->status.records += s->messages;
        r->status.bytes += s->bytes;
    });
    s->events = s->messages = s->bytes = 0;
    buf_clear(&s->records);
    s->count++;
}

/* The first <count> batches are durable: one write for all of them. */
static enum fb_code keep_positions(struct runner *r, uint32_t count, struct fb_err *err)
{
    struct source *s = r->source;
    bool is_new = false, is_kept = true;
    for (uint32_t k = 0; k < count; k++) {
        const struct batch_in *b = &s->batch[(s->first + k) % BATCHES_MAX];
        is_new |= b->is_new;
        for (uint32_t i = 0; b->is_new && i < b->count; i++)
            is_kept &= positions_set(&r->durable, b->done[i].topic, b->done[i].partition,
                                     b->done[i].position);
    }
    if (!is_kept)
        return fb_fail(err, FB_E_NOMEM, "no memory for the positions of %s", r->c->name);
    bool has_none = r->type && (r->type->can & CONNECTOR_FORGETS);
    return is_new && !has_none ? source_keep(r, err) : FB_OK;
}

enum fb_code source_keep(struct runner *r, struct fb_err *err)
{
    struct buf text;
    char key[64];
    state_key(r, key);
    buf_init(&text, POSITIONS_TEXT_MAX);
    positions_save(&r->durable, &text);
    enum fb_code code = state_meta_set(r->state, key, buf_span(&text), err);
    buf_fini(&text);
    return code;
}

/* What is durable: first in state.db, then at the broker.  A crash between the two is healed by the
 * positions. */
static enum fb_code settle(struct runner *r, struct fb_err *err)
{
    struct source *s = r->source;
    uint32_t count = 0;
    while (count < s->count &&
           ingress_durable(r->setup->ingress, s->batch[(s->first + count) % BATCHES_MAX].ticket))
        count++;
    enum fb_code code = count ? keep_positions(r, count, err) : FB_OK;
    for (uint32_t k = 0; k < count && code == FB_OK; k++) {
        struct batch_in *b = &s->batch[s->first];
        if (r->connector)
            code = r->type->commit(r->connector, b->done, b->count, err);
        if (code != FB_OK)
            break; /* again with the next */
        forget_batch(b);
        s->first = (s->first + 1) % BATCHES_MAX;
        s->count--;
    }
    return code;
}

/* How long the oldest message waits that was not received, as far as it is known; 0: none does. */
static uint64_t waiting_us(struct runner *r, uint64_t behind, uint64_t wall_us)
{
    struct source *s = r->source;
    uint64_t us = r->type->waits_us ? r->type->waits_us(r->connector) : UINT64_MAX;
    if (us != UINT64_MAX)
        return us;
    if (behind == 0)
        s->since_us = wall_us;
    if (behind != UINT64_MAX && s->has_wall)
        return fb_sub_floor_u64(wall_us, s->since_us);
    if (behind != UINT64_MAX)
        return age_us(&s->waits, fb_mono_us());
    return s->came_us && fb_mono_us() - s->came_us < AGE_KEPT_US ? s->age_us : 0;
}

/* What waits; UINT64_MAX: unknown. */
static uint64_t look(struct runner *r)
{
    struct source *s = r->source;
    struct connector_place at = {.came = s->came, .behind = UINT64_MAX};
    if (r->type->place && !r->type->place(r->connector, &at))
        return UINT64_MAX;
    if (!r->type->place && r->type->behind)
        at.behind = r->type->behind(r->connector);
    if (at.behind == UINT64_MAX)
        return UINT64_MAX;
    if (at.era != s->era)
        age_anew(&s->waits);
    s->era = at.era;
    age_look(&s->waits, at.came, at.behind, fb_mono_us());
    return at.behind;
}

static void note(struct runner *r, bool is_good)
{
    uint64_t wall_us = fb_wall_us();
    uint64_t behind = r->connector ? look(r) : UINT64_MAX;
    bool is_known = is_good && r->connector; /* else what waited still does */
    uint64_t us = is_known ? waiting_us(r, behind, wall_us) : 0;
    RUNNER_STATUS(r, {
        r->status.lag_events = behind;
        r->status.in_flight = r->source->count;
        if (is_known)
            r->status.oldest_wall_us = us ? fb_sub_floor_u64(wall_us, us) : 0;
    });
}

void source_run(struct runner *r)
{
    struct fb_err err;
    while (runner_may_go_on(r)) {
        if (!runner_is_open(r))
            continue;
        enum fb_code code = settle(r, &err);
        bool was_full = is_full(r);
        if (code == FB_OK && !was_full)
            code = r->type->receive(r->connector, on_message, r,
                                    r->source->count ? RECEIVE_BUSY_MS : RECEIVE_MS, &err);
        hand_over(r);
        if (code == FB_OK && r->source->is_unburied)
            code =
                fb_fail(&err, FB_E_AGAIN, "connectors/%s.dead.jsonl cannot be written", r->c->name);
        r->source->is_unburied = false;
        if (code == FB_OK)
            runner_works(r);
        else
            runner_failed(r, &err);
        if (was_full)
            runner_wait(r, 5);
        note(r, code == FB_OK);
    }
    settle_all(r, atomic_load(&r->is_last) ? LAST_SETTLE_MS
                  : r->exact.is_on         ? EXACT_SETTLE_MS
                                           : END_SETTLE_MS);
}

/* All that was handed over, as far as it becomes durable in <ms>; less when foldback ends. */
static bool settle_all(struct runner *r, uint32_t ms)
{
    struct fb_err err;
    uint64_t now_us = fb_mono_us(), until_us = now_us + ms * US_PER_MS;
    uint64_t last_us = now_us + LAST_SETTLE_MS * US_PER_MS;
    while (r->source->count > 0) {
        bool is_over = (now_us = fb_mono_us()) >= until_us;
        if (settle(r, &err) != FB_OK || is_over || (now_us >= last_us && atomic_load(&r->is_last)))
            break;
        if (r->source->count > 0)
            usleep(5000);
    }
    return r->source->count == 0;
}

void source_give_back(struct runner *r)
{
    if (!r->source)
        return; /* at the end: settled by then, as far as it could be */
    hand_over(r);
    if (filling(r->source)->count == 0 && settle_all(r, GIVE_BACK_SETTLE_MS))
        return;
    fb_log(FB_LOG_WARN,
           "connector %s: a partition goes to another member of its group before the log has all "
           "that was taken from it: that may be taken there again",
           r->c->name);
}
