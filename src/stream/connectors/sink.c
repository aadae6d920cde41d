/* SPDX-License-Identifier: Apache-2.0 */
/* From the log to the broker.
 *
 *   collect: events -> batch        deliver: batch -> broker, until nothing is open
 *   commit:  offset -> state.db
 *
 * Threads: the connector's own. */
#include "base/assert.h"
#include "base/clock.h"
#include "stream/connectors/anchor.h"
#include "stream/connectors/resend.h"
#include "stream/connectors/runner_int.h"
#include "stream/connectors/wants.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEND_MAX 4096
/* A batch never holds more than this, however many blocks may be in flight. */
#define BATCH_BYTES_MAX (16 * MIB)
#define CHECK_MS 5000

static bool collect(struct runner *r);
static void deliver(struct runner *r);
static void commit(struct runner *r, bool is_now);

static void offset_name(const struct runner *r, char out[64])
{
    snprintf(out, 64, "connector:%s", r->c->name);
}

/* Names this account of offsets for brokers that keep a mark: a new one with each reset, so that
 * the mark of before says nothing. */
static enum fb_code read_owner(struct runner *r, bool is_new, struct fb_err *err)
{
    char key[80], *text = NULL;
    snprintf(key, sizeof key, "connector:%s:owner", r->c->name);
    r->mark = (struct connector_mark){0};
    enum fb_code code = is_new ? FB_E_NOT_FOUND : state_meta_get(r->state, key, &text, err);
    if (code == FB_OK)
        snprintf(r->mark.owner, sizeof r->mark.owner, "%s", text);
    free(text);
    if (code != FB_E_NOT_FOUND)
        return code;
    snprintf(r->mark.owner, sizeof r->mark.owner, "%016" PRIx64, rng_u64(&r->rng));
    return state_meta_set(r->state, key, span_of(r->mark.owner), err);
}

static enum fb_code open_reader(struct runner *r, struct fb_err *err)
{
    char dir[600], name[64];
    uint64_t from = r->c->is_from_start ? LOG_FROM_START : LOG_FROM_END;
    snprintf(dir, sizeof dir, "%s/log", r->setup->state_dir);
    offset_name(r, name);
    enum fb_code code = state_offset_get(r->state, name, &from, err);
    bool is_new = code == FB_E_NOT_FOUND;
    if (code != FB_OK && !is_new)
        return code;
    bool is_reset = atomic_load(&r->is_reset);
    if (is_reset) {
        from = atomic_load(&r->reset_offset);
        is_new = true;
    }
    uint64_t beyond = 0;
    if (!is_new && !anchor_holds(r, from, &beyond)) {
        from = r->c->is_from_start ? LOG_FROM_START : r->setup->log_end;
        is_new = true;
    }
    code = log_reader_open(&r->reader, dir, from, err);
    if (code != FB_OK)
        return code;
    r->seen_epoch = 0;
    r->next = r->committed = log_reader_offset(r->reader);
    RUNNER_STATUS(r, r->status.offset = r->next);
    r->is_marked = false;
    code = read_owner(r, is_new, err);
    if (code != FB_OK)
        return code;
    /* From now on it has a place in the log: what comes while it is away is not left out. */
    code = is_new ? state_offset_set(r->state, name, r->next, err) : FB_OK;
    if (code == FB_OK && is_new)
        code = anchor_cleared(r, err);
    if (code == FB_OK && beyond)
        anchor_displaced(r, beyond, from, false);
    if (code == FB_OK && is_reset)
        atomic_store(&r->is_reset, false); /* not before it is kept */
    return code;
}

enum fb_code sink_begin(struct runner *r, struct fb_err *err)
{
    struct cut_conf cc = {
        .format = r->c->is_binary        ? CUT_BINARY
                  : r->c->is_cloudevents ? CUT_CLOUDEVENTS
                  : r->c->is_chat        ? CUT_CHAT
                                         : CUT_JSON,
        .is_per_event = r->c->is_per_event,
        .is_redacted = r->c->is_redacted,
        .block_bytes = r->c->block_bytes,
        .batch_bytes = fb_min_u64((uint64_t)r->c->block_bytes * r->c->in_flight, BATCH_BYTES_MAX),
        .units_max = r->c->in_flight,
        .region = r->c->region,
        .sentence = r->setup->sentence,
        .sentence_ctx = r->setup->names.ctx,
        .epoch = r->setup->epoch};
    r->check_us = 0;
    if (!cut_init(&r->cut, &cc))
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", r->c->name);
    resend_recover(r);
    return open_reader(r, err);
}

void sink_end(struct runner *r)
{
    resend_fails(r, "it was paused, changed, reset or stopped meanwhile; ask again");
    if (r->reader)
        commit(r, true);
    log_reader_close(r->reader);
    r->reader = NULL;
    if (r->cut.event)
        cut_fini(&r->cut);
}

/* What the broker has is not sent again.  False: it has waited. */
static bool goes_on_at_mark(struct runner *r)
{
    struct fb_err err;
    if (r->is_marked || !r->type->mark)
        return true;
    fb_assert(r->type->can & CONNECTOR_ORDERED); /* what is delivered is always a beginning */
    struct connector_mark mark = r->mark;
    uint64_t from = cut_delivered(&r->cut, r->next), end = r->next + log_reader_lag(r->reader);
    mark.offset = from;
    mark.limit = r->setup->log_end;
    enum fb_code code = r->type->mark(r->connector, &mark, &err);
    r->keeps_mark = code == FB_OK;
    r->is_marked = r->keeps_mark || code == FB_E_NOT_FOUND;
    if (!r->is_marked)
        runner_failed(r, &err);
    else if (r->keeps_mark && r->cut.unit_count == 0)
        runner_works(r); /* the broker answered, and there is nothing that could show more */
    if (mark.offset > end) {
        mark.beyond = mark.offset;
        mark.offset = from;
    }
    if (r->is_marked && mark.beyond) /* of a log that is gone: at least once */
        anchor_displaced(r, mark.beyond, from, true);
    if (!r->is_marked || mark.offset == from)
        return r->is_marked;
    code = log_reader_seek(r->reader, mark.offset);
    fb_assert(code == FB_OK || code == FB_E_IO);
    cut_clear(&r->cut);
    r->next = mark.offset;
    runner_works(r); /* it has more than was known */
    return true;
}

static void say_no_step(void *arg, bool is_good, const char *text)
{
    (void)arg, (void)is_good, (void)text;
}

/* With nothing to send yet: could it be sent?  What comes meanwhile does not wait for it. */
static void look_whether_it_works(struct runner *r)
{
    struct fb_err err;
    if (r->status.state == CONNECTOR_RUNNING || r->cut.event_count > 0 ||
        fb_mono_us() < r->check_us)
        return;
    uint32_t ms = fb_min_u32(r->c->timeout_ms, CHECK_MS);
    enum fb_code code = r->type->check(r->connector, ms, say_no_step, NULL, &err);
    if (!runner_may_go_on(r))
        return;
    if (code == FB_OK)
        runner_works(r);
    else
        r->check_us = fb_mono_us() + runner_note_failure(r, &err) * US_PER_MS;
}

void sink_run(struct runner *r)
{
    while (runner_may_go_on(r)) {
        if (!runner_is_open(r) || !goes_on_at_mark(r))
            continue;
        if (atomic_load(&r->is_resending)) {
            commit(r, true); /* else a kill sends the events again, whose letters go out now */
            resend_step(r);
        }
        if (!collect(r)) {
            commit(r, false);
            if (r->connector)
                look_whether_it_works(r);
            if (!runner_wait(r, RUNNER_POLL_MS))
                r->check_us = 0; /* a person asks */
            continue;
        }
        cut_seal(&r->cut);
        deliver(r);
        commit(r, false);
    }
}

/* ---- the log ---- */
static const char *service_of(const struct runner *r, const struct ev_head *ev)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    uint16_t number = EV_NONE;
    for (uint8_t i = 0; i < row->field_count; i++)
        if (strcmp(row->fields[i].name, "service") == 0)
            memcpy(&number, (const char *)ev + row->fields[i].offset, sizeof number);
    const struct filter_names *names = &r->setup->names;
    return number == EV_NONE || !names->name
               ? ""
               : names->name(names->ctx, EV_KIND_SERVICE, number, ev->time_us);
}

static bool is_wanted(const struct runner *r, const struct ev_head *ev)
{
    return runner_region_may_pass(r, ev) && wants_event(r->c, &r->filter, ev, &r->setup->names);
}

static void note_lag(struct runner *r, bool is_end)
{
    uint64_t lag = log_reader_lag(r->reader) + r->cut.event_count;
    uint64_t wall_us = r->cut.event_count ? r->cut.event[0].wall_us
                       : is_end           ? 0
                                          : log_reader_wall_us(r->reader);
    RUNNER_STATUS(r, {
        r->status.lag_events = lag;
        r->status.oldest_wall_us = wall_us;
        if (lag == 0)
            r->status.level_wall_us = fb_wall_us();
    });
}

static void note_skip(struct runner *r)
{
    const struct log_skip *skip = log_reader_skip(r->reader);
    uint64_t count = skip->to - skip->from;
    RUNNER_STATUS(r, {
        if (skip->reason == REASON_NONE)
            r->status.lost += count;
    });
    r->next = skip->to;
}

static void cannot_read(struct runner *r, enum fb_code code)
{
    struct fb_err err;
    fb_fail(&err, code == FB_E_KEY ? FB_E_CONFIG : FB_E_AGAIN, "%s", log_reader_why(r->reader));
    runner_failed(r, &err);
}

/* True when there is a batch to send: full, or its oldest event has waited long enough. */
static bool collect(struct runner *r)
{
    struct cut *c = &r->cut;
    bool is_end = false;
    for (uint32_t i = 0;; i++) {
        const struct ev_head *ev;
        uint64_t offset;
        enum fb_code code = log_reader_next(r->reader, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            note_skip(r);
            continue;
        }
        if (code != FB_OK) {
            is_end = true;
            if (code != FB_E_END)
                cannot_read(r, code);
            break;
        }
        if (is_wanted(r, ev)) {
            struct cut_from from = {.node = log_reader_node(r->reader),
                                    .offset = offset,
                                    .wall_us = log_reader_wall_us(r->reader),
                                    .now_us = fb_mono_us(),
                                    .service = service_of(r, ev)};
            if (!cut_add(c, ev, &from)) { /* full: this one again later */
                code = log_reader_seek(r->reader, offset);
                fb_assert(code == FB_OK || code == FB_E_IO);
                note_lag(r, false);
                return true;
            }
        }
        r->next = offset + 1;
        r->seen_offset = offset;
        r->seen_epoch = log_reader_epoch(r->reader);
        if ((i & 1023) == 1023 && !runner_may_go_on(r))
            return false;
    }
    note_lag(r, is_end);
    return c->event_count > 0 && fb_mono_us() - c->first_us >= (uint64_t)r->c->delay_ms * US_PER_MS;
}

static void commit(struct runner *r, bool is_now)
{
    uint64_t now_us = fb_mono_us(), offset = cut_delivered(&r->cut, r->next);
    char name[64];
    struct fb_err err;
    if (offset == r->committed || (!is_now && now_us - r->committed_us < RUNNER_COMMIT_US))
        return;
    offset_name(r, name);
    if (state_offset_set(r->state, name, offset, &err) != FB_OK) {
        RUNNER_STATUS(r, {
            snprintf(r->status.last_error, sizeof r->status.last_error, "%.300s", err.text);
            r->status.last_error_wall_us = fb_wall_us();
            r->status.errors++;
        });
        r->committed_us = now_us; /* the next try in 100 ms; until then more would be sent twice */
        return;
    }
    r->committed = offset;
    r->committed_us = now_us;
    RUNNER_STATUS(r, r->status.offset = offset);
    anchor_drop(r, is_now);
}

/* ---- the broker ---- */
static bool same_key(struct span a, struct span b)
{
    return span_eq(a, b);
}

static bool key_is_taken(const struct connector_record *at, uint32_t count, struct span key)
{
    for (uint32_t i = 0; i < count; i++)
        if (same_key(at[i].key, key))
            return true;
    return false;
}

struct sending {
    struct connector_record record[SEND_MAX];
    uint32_t unit[SEND_MAX];
    uint32_t count;
    bool is_unburied;
};

/* False: it stays open, for its dead letter could not be written. */
static bool bury_unit(struct runner *r, uint32_t unit, const char *reason)
{
    struct connector_record record;
    struct cut_unit *u = &r->cut.unit[unit];
    if (cut_record(&r->cut, unit, &record) != FB_OK)
        return false;
    struct dead_letter letter = {.topic = "",
                                 .position = "",
                                 .offset = r->cut.event[u->first].offset,
                                 .count = u->count,
                                 .wall_ms = record.wall_ms,
                                 .headers = record.headers,
                                 .header_count = record.header_count,
                                 .key = record.key,
                                 .value = record.value,
                                 .reason = reason};
    u->is_done = runner_bury(r, &letter);
    return u->is_done;
}

/* Brokers count the bytes of what travels together (Kafka: of a batch): before a record is split or
 * buried it must have been refused alone.  False: it could not be buried. */
static bool too_large(struct runner *r, uint32_t unit, bool was_alone)
{
    if (!was_alone) {
        r->cut.unit[unit].is_alone = true;
        return true;
    }
    if (cut_split(&r->cut, unit)) {
        RUNNER_STATUS(r, r->status.split++);
        return true;
    }
    return bury_unit(r, unit, "larger than the receiver takes");
}

/* The open units that may go together: in order, within the limits of the type.  False: no memory
 * for one, or it is too large and could not be buried. */
static bool choose(struct runner *r, struct sending *s)
{
    const struct connector_type *t = r->type;
    uint64_t bytes = 0;
    uint32_t most = t->send_max && t->send_max < SEND_MAX ? t->send_max : SEND_MAX;
    s->count = 0;
    /* First all values are made, for making one may move the others. */
    for (uint32_t i = 0; i < r->cut.unit_count; i++) {
        struct connector_record record;
        if (!r->cut.unit[i].is_done && cut_record(&r->cut, i, &record) != FB_OK)
            return false;
    }
    for (uint32_t i = 0; i < r->cut.unit_count && s->count < most; i++) {
        struct connector_record *record = &s->record[s->count];
        if (r->cut.unit[i].is_done)
            continue;
        if (cut_record(&r->cut, i, record) != FB_OK)
            return false;
        if (t->record_bytes_max && record->value.len > t->record_bytes_max) {
            if (!too_large(r, i--, true)) /* its halves are looked at again */
                return false;
            if (r->cut.unit_count == CUT_UNITS_MAX)
                break;
            s->count = 0; /* units have moved, and so have their records */
            bytes = 0;
            i = UINT32_MAX;
            continue;
        }
        if (s->count && (r->cut.unit[i].is_alone || r->cut.unit[s->unit[0]].is_alone))
            break;
        if (s->count && t->send_bytes_max && bytes + record->value.len > t->send_bytes_max)
            break;
        if (!(t->can & CONNECTOR_ORDERED) && key_is_taken(s->record, s->count, record->key))
            continue;
        bytes += record->value.len;
        s->unit[s->count++] = i;
    }
    return true;
}

/* What the broker said; true when at least one unit is done or was split and none waits for its
 * dead letter to be written. */
static bool settle(struct runner *r, struct sending *s)
{
    bool is_better = false, is_kept = true;
    uint64_t events = 0, bytes = 0, records = 0, again = 0;
    for (uint32_t i = 0; i < s->count; i++) /* in order: so they are sent again */
        if (s->record[i].result == CONNECTOR_POISON)
            is_kept &= bury_unit(r, s->unit[i], "refused by the receiver");
    for (uint32_t i = s->count; i-- > 0;) { /* from behind: a split moves what follows */
        struct cut_unit *u = &r->cut.unit[s->unit[i]];
        switch (s->record[i].result) {
        case CONNECTOR_DELIVERED:
            u->is_done = true;
            events += u->count;
            bytes += s->record[i].value.len;
            records++;
            is_better = true;
            break;
        case CONNECTOR_TOO_LARGE:
            is_kept &= too_large(r, s->unit[i], s->count == 1);
            is_better = true;
            break;
        case CONNECTOR_POISON:
            is_better = true;
            break;
        case CONNECTOR_UNSENT:
        case CONNECTOR_RETRY:
            again++;
            break;
        }
    }
    RUNNER_STATUS(r, {
        r->status.events += events;
        r->status.bytes += bytes;
        r->status.records += records;
        r->status.retries += again;
        r->status.in_flight = 0;
    });
    s->is_unburied = !is_kept;
    return is_better && is_kept;
}

static bool is_all_done(const struct cut *c)
{
    for (uint32_t i = 0; i < c->unit_count; i++)
        if (!c->unit[i].is_done)
            return false;
    return true;
}

/* The chosen units are the first open ones: behind them goes on what is open, or the log. */
static uint64_t offset_behind(const struct runner *r, const struct sending *s)
{
    const struct cut *c = &r->cut;
    for (uint32_t i = s->unit[s->count - 1] + 1; i < c->unit_count; i++)
        if (!c->unit[i].is_done)
            return c->event[c->unit[i].first].offset;
    return r->next;
}

static void cannot_keep(struct runner *r)
{
    struct fb_err err;
    fb_fail(&err, FB_E_AGAIN,
            "no memory for a record, or connectors/%s.dead.jsonl cannot be written", r->c->name);
    runner_failed(r, &err);
}

/* Until all is delivered; when a stop comes in between, the offset stays before what is open. */
static void deliver(struct runner *r)
{
    struct sending *s = malloc(sizeof *s);
    struct fb_err err = {.code = FB_E_AGAIN, .text = "the receiver did not take all of it"};
    if (!s) {
        err = (struct fb_err){.code = FB_E_NOMEM, .text = "no memory to send"};
        runner_failed(r, &err);
        return;
    }
    while (!is_all_done(&r->cut) && runner_may_go_on(r)) {
        if (!runner_is_open(r) || !goes_on_at_mark(r))
            continue;
        if (!choose(r, s)) {
            cannot_keep(r);
            continue;
        }
        if (s->count == 0)
            continue; /* what was there is buried */
        r->mark.offset = offset_behind(r, s);
        struct connector_batch batch = {.at = s->record,
                                        .count = s->count,
                                        .timeout_ms = r->c->timeout_ms,
                                        .mark = r->keeps_mark ? &r->mark : NULL};
        RUNNER_STATUS(r, r->status.in_flight = s->count);
        err.text[0] = '\0';
        enum fb_code code = r->type->send(r->connector, &batch, &err);
        for (uint32_t i = 0; i < s->count; i++) /* else the next one asks who has it now */
            r->is_marked &= !batch.mark || s->record[i].result == CONNECTOR_DELIVERED;
        bool is_better = settle(r, s);
        if (is_better)
            runner_works(r);
        if (is_better && code == FB_OK)
            continue;
        commit(r, false);
        if (s->is_unburied) {
            cannot_keep(r);
            continue;
        }
        if (code == FB_OK || !err.text[0])
            fb_fail(&err, FB_E_AGAIN, "the receiver took %s of %u records",
                    is_better ? "only some" : "none", s->count);
        err.code = code == FB_OK ? FB_E_AGAIN : code;
        runner_failed(r, &err);
    }
    if (is_all_done(&r->cut)) {
        cut_clear(&r->cut);
        note_lag(r, false);
    }
    free(s);
}
