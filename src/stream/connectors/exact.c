/* SPDX-License-Identifier: Apache-2.0 */
/* What a source took in and what is in the log, held together over a crash.
 *
 *   intent in state.db -> put: mark, events -> durable -> positions in state.db -> commit
 *          \-- after a crash: the log behind the mark says which messages of the intent it has
 *
 * One put at a time: its first event is a mark (`foldback.taken`, its value the number of the put),
 * so the intent is found in the log whatever else came in meanwhile.  The events of a put lie
 * together; a crash may keep only the first of them. */
#include "base/assert.h"
#include "event/event.h"
#include "stream/connectors/runner_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK_NAME "foldback.taken"
#define NUMBER_BITS 48 /* of a put: exact as a double */
#define INTENT_TEXT_MAX (2 * MIB)

static uint64_t mix(uint64_t h, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < len; i++)
        h = (h ^ at[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* Of what is stored open: the text may be sealed with a key that is gone. */
static uint64_t mix_event(uint64_t h, const struct ev_custom *ev)
{
    h = mix(h, ev->name, strnlen(ev->name, sizeof ev->name));
    return mix(h, &ev->value, sizeof ev->value);
}

static void intent_key(const struct runner *r, char out[80])
{
    snprintf(out, 80, "source:%s:put", r->c->name);
}

/* ---- after a crash ---- */
struct scan {
    struct log_reader *reader;
    bool is_over;
};

static const struct ev_custom *next_custom(struct scan *s)
{
    const struct ev_head *ev;
    uint64_t offset;
    while (!s->is_over) {
        enum fb_code code = log_reader_next(s->reader, &ev, &offset);
        if (code == FB_OK && ev->type == EV_CUSTOM)
            return (const struct ev_custom *)ev;
        s->is_over = code != FB_OK && code != FB_E_DAMAGED;
    }
    return NULL;
}

static bool find_mark(struct scan *s, uint64_t number)
{
    for (const struct ev_custom *ev; (ev = next_custom(s));)
        if (ev->value == (double)number && strcmp(ev->name, MARK_NAME) == 0)
            return true;
    return false;
}

/* "PARTITION POSITION EVENTS HASH TOPIC": true when the log has all its events next. */
static bool is_in_log(struct scan *s, struct span line, struct connector_message *m,
                      char topic[1200])
{
    uint64_t partition, events, want, h = 0;
    char hash[20];
    bool is_good = span_to_u64(span_cut(line, ' ', &line), &partition);
    struct span position = span_cut(line, ' ', &line);
    is_good &= span_to_u64(span_cut(line, ' ', &line), &events);
    struct span digits = span_cut(line, ' ', &line);
    snprintf(hash, sizeof hash, "%.*s", SPAN_ARG(digits));
    want = strtoull(hash, NULL, 16);
    snprintf(topic, 1200, "%.*s", SPAN_ARG(line));
    snprintf(m->position, sizeof m->position, "%.*s", SPAN_ARG(position));
    m->topic = topic;
    m->partition = (uint32_t)partition;
    const struct ev_custom *ev;
    for (uint64_t i = 0; is_good && i < events; i++) {
        is_good = (ev = next_custom(s)) != NULL;
        h = is_good ? mix_event(h, ev) : h;
    }
    return is_good && h == want;
}

static enum fb_code recover(struct runner *r, struct span text, struct fb_err *err)
{
    char dir[600], topic[1200];
    struct scan scan = {.reader = NULL};
    struct log_wants wants = {.until_us = UINT64_MAX, .types = UINT64_C(1) << EV_CUSTOM};
    struct span head = span_cut(text, '\n', &text);
    uint64_t from, number;
    bool is_kept = true;
    if (!span_to_u64(span_cut(head, ' ', &head), &from) || !span_to_u64(head, &number))
        return FB_OK; /* none */
    snprintf(dir, sizeof dir, "%s/log", r->setup->state_dir);
    enum fb_code code = log_reader_open(&scan.reader, dir, from, err);
    if (code != FB_OK)
        return code;
    log_reader_want(scan.reader, &wants);
    bool goes_on = find_mark(&scan, number);
    while (goes_on && text.len) {
        struct connector_message m = {.token = NULL};
        goes_on = is_in_log(&scan, span_cut(text, '\n', &text), &m, topic);
        if (!goes_on || positions_knows(&r->positions, &m))
            continue;
        is_kept = positions_set(&r->positions, m.topic, m.partition, m.position) &&
                  positions_set(&r->durable, m.topic, m.partition, m.position) && is_kept;
    }
    log_reader_close(scan.reader);
    if (!is_kept)
        return fb_fail(err, FB_E_NOMEM, "no memory for the positions of %s", r->c->name);
    return source_keep(r, err); /* before the next intent takes the place of this one */
}

enum fb_code exact_begin(struct runner *r, bool is_reset, struct fb_err *err)
{
    char key[80], dir[600], *text = NULL;
    const char *value = conf_connector_value(r->c, "transactions");
    struct exact *x = &r->exact;
    *x = (struct exact){.is_on = value && strcmp(value, "true") == 0};
    if (!x->is_on)
        return FB_OK;
    intent_key(r, key);
    enum fb_code code = is_reset ? state_meta_set(r->state, key, SPAN(""), err)
                                 : state_meta_get(r->state, key, &text, err);
    if (code == FB_OK && text)
        code = recover(r, span_of(text), err);
    free(text);
    snprintf(dir, sizeof dir, "%s/log", r->setup->state_dir);
    buf_init(&x->rows, INTENT_TEXT_MAX);
    if (code == FB_OK || code == FB_E_NOT_FOUND)
        code = log_reader_open(&x->end, dir, LOG_FROM_END, err);
    return code;
}

void exact_end(struct runner *r)
{
    if (!r->exact.is_on)
        return;
    log_reader_close(r->exact.end);
    buf_fini(&r->exact.rows);
    r->exact = (struct exact){.is_on = false};
}

/* ---- a put ---- */
size_t exact_mark(struct runner *r, struct buf *records)
{
    struct exact *x = &r->exact;
    struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
    if (!x->is_on)
        return 0;
    if (records->len == 0) {
        x->number = rng_u64(&r->rng) >> (64 - NUMBER_BITS);
        buf_clear(&x->rows);
        ev.value = (double)x->number;
        snprintf(ev.name, sizeof ev.name, MARK_NAME);
        buf_put(records, &ev, sizeof ev);
    }
    return sizeof ev;
}

bool exact_note(struct runner *r, const struct connector_message *m, struct span records)
{
    struct exact *x = &r->exact;
    uint64_t h = 0;
    if (!x->is_on)
        return true;
    fb_assert(records.len % sizeof(struct ev_custom) == 0);
    for (size_t at = 0; at < records.len; at += sizeof(struct ev_custom))
        h = mix_event(h, (const void *)(records.at + at));
    buf_printf(&x->rows, "%u %s %zu %016" PRIx64 " %s\n", m->partition, m->position,
               records.len / sizeof(struct ev_custom), h, m->topic);
    return !x->rows.failed;
}

enum fb_code exact_intend(struct runner *r, struct fb_err *err)
{
    struct exact *x = &r->exact;
    struct buf text;
    char key[80];
    if (!x->is_on)
        return FB_OK;
    intent_key(r, key);
    buf_init(&text, INTENT_TEXT_MAX + 64);
    /* What is durable now is no part of the put. */
    buf_printf(&text, "%" PRIu64 " %" PRIu64 "\n",
               log_reader_offset(x->end) + log_reader_lag(x->end), x->number);
    buf_put(&text, x->rows.at, x->rows.len);
    enum fb_code code = text.failed ? fb_fail(err, FB_E_NOMEM, "no memory for %s", r->c->name)
                                    : state_meta_set(r->state, key, buf_span(&text), err);
    buf_fini(&text);
    return code;
}
