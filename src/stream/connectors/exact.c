/* SPDX-License-Identifier: Apache-2.0 */
/* What a source took in and what is in the log, held together over a crash.
 *
 *   intent in state.db -> put: mark, events -> durable -> positions in state.db -> commit
 *          \-- after a crash: the log behind the mark says which messages of the intent it has
 *
 * One put at a time: its first event is a mark (`foldback.taken`, its value the number of the put),
 * so the intent is found in the log whatever else came in meanwhile.  The events of a put lie
 * together, in one epoch; a crash may keep only the first of them, also of one message.  How many
 * of its events the log has is kept then (a half), and so many are left out when it comes again.
 *
 *   source:NAME:put    "OFFSET NUMBER", then per message "PARTITION POSITION LEFT+HAD HASHES TOPIC"
 *   source:NAME:half   per message "PARTITION POSITION HAD TOPIC", until its position is durable */
#include "base/assert.h"
#include "base/clock.h"
#include "event/event.h"
#include "stream/connectors/runner_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK_NAME "foldback.taken"
#define NUMBER_BITS 48 /* of a put: exact as a double */
#define INTENT_TEXT_MAX (2 * MIB)
#define HALVES_TEXT_MAX (128 * KIB)
#define HASH_DIGITS 8     /* of each event of a message */
#define AWAIT_LOG_MS 2000 /* then it is told */

static uint64_t mix(uint64_t h, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < len; i++)
        h = (h ^ at[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* Of what is stored open: the text may be sealed with a key that is gone. */
static uint32_t hash_of(const struct ev_custom *ev)
{
    uint64_t h = mix(UINT64_C(0xcbf29ce484222325), ev->name, strnlen(ev->name, sizeof ev->name));
    h = mix(h, &ev->value, sizeof ev->value);
    return (uint32_t)(h ^ h >> 32);
}

static void intent_key(const struct runner *r, char out[80])
{
    snprintf(out, 80, "source:%s:put", r->c->name);
}

static void halves_key(const struct runner *r, char out[80])
{
    snprintf(out, 80, "source:%s:half", r->c->name);
}

/* ---- halves ---- */
static struct exact_half *find_half(struct exact *x, const struct connector_message *m)
{
    for (uint32_t i = 0; i < x->half_count; i++)
        if (x->half[i].partition == m->partition && strcmp(x->half[i].position, m->position) == 0 &&
            strcmp(x->half[i].topic, m->topic) == 0)
            return &x->half[i];
    return NULL;
}

static void forget_half(struct exact *x, struct exact_half *half)
{
    if (half)
        *half = x->half[--x->half_count];
}

/* False: too many are open; each crash leaves one at most, and the next message ends it. */
static bool add_half(struct exact *x, const struct connector_message *m, uint32_t had)
{
    struct exact_half *half = find_half(x, m);
    if (!half && x->half_count < EXACT_HALVES_MAX)
        half = &x->half[x->half_count++];
    if (!half)
        return false;
    *half = (struct exact_half){.partition = m->partition, .had = had};
    snprintf(half->position, sizeof half->position, "%s", m->position);
    snprintf(half->topic, sizeof half->topic, "%s", m->topic);
    return true;
}

static enum fb_code load_halves(struct runner *r, struct fb_err *err)
{
    char key[80], topic[1200], *text = NULL;
    halves_key(r, key);
    enum fb_code code = state_meta_get(r->state, key, &text, err);
    for (struct span rest = span_of(code == FB_OK ? text : ""), line; rest.len;) {
        uint64_t partition, had;
        struct connector_message m = {.topic = topic};
        line = span_cut(rest, '\n', &rest);
        bool is_good = span_to_u64(span_cut(line, ' ', &line), &partition);
        struct span position = span_cut(line, ' ', &line);
        is_good = is_good && span_to_u64(span_cut(line, ' ', &line), &had);
        snprintf(m.position, sizeof m.position, "%.*s", SPAN_ARG(position));
        snprintf(topic, sizeof topic, "%.*s", SPAN_ARG(line));
        m.partition = (uint32_t)partition;
        if (is_good && !positions_knows(&r->positions, &m))
            (void)add_half(&r->exact, &m, (uint32_t)had);
    }
    free(text);
    return code == FB_E_NOT_FOUND ? FB_OK : code;
}

static enum fb_code keep_halves(struct runner *r, struct fb_err *err)
{
    struct buf text;
    char key[80];
    halves_key(r, key);
    buf_init(&text, HALVES_TEXT_MAX);
    for (uint32_t i = 0; i < r->exact.half_count; i++) {
        const struct exact_half *h = &r->exact.half[i];
        buf_printf(&text, "%u %s %u %s\n", h->partition, h->position, h->had, h->topic);
    }
    enum fb_code code = text.failed ? fb_fail(err, FB_E_NOMEM, "no memory for %s", r->c->name)
                                    : state_meta_set(r->state, key, buf_span(&text), err);
    buf_fini(&text);
    return code;
}

/* ---- after a crash ---- */
struct scan {
    struct log_reader *reader;
    uint32_t epoch; /* of the mark: what another start of the brain wrote is no part of the put */
    bool is_over, is_found;
};

static const struct ev_custom *next_custom(struct scan *s)
{
    const struct ev_head *ev;
    uint64_t offset;
    while (!s->is_over) {
        enum fb_code code = log_reader_next(s->reader, &ev, &offset);
        if (code == FB_OK && s->is_found && log_reader_epoch(s->reader) != s->epoch)
            s->is_over = true;
        else if (code == FB_OK && ev->type == EV_CUSTOM)
            return (const struct ev_custom *)ev;
        else
            s->is_over = code != FB_OK && code != FB_E_DAMAGED;
    }
    return NULL;
}

static bool find_mark(struct scan *s, uint64_t number)
{
    for (const struct ev_custom *ev; !s->is_found && (ev = next_custom(s));)
        if (ev->value == (double)number && strcmp(ev->name, MARK_NAME) == 0) {
            s->is_found = true;
            s->epoch = log_reader_epoch(s->reader);
        }
    return s->is_found;
}

/* A line of the intent: of <m> the log has *had events, and these are all when it returns true. */
static bool is_in_log(struct scan *s, struct span line, struct connector_message *m,
                      char topic[1200], uint64_t *had)
{
    uint64_t partition, left;
    char hash[HASH_DIGITS + 1];
    bool is_good = span_to_u64(span_cut(line, ' ', &line), &partition);
    struct span position = span_cut(line, ' ', &line);
    struct span after, numbers = span_cut(line, ' ', &line);
    is_good = is_good && span_to_u64(span_cut(numbers, '+', &after), &left);
    is_good = is_good && span_to_u64(after, had);
    struct span hashes = span_cut(line, ' ', &line);
    snprintf(topic, 1200, "%.*s", SPAN_ARG(line));
    snprintf(m->position, sizeof m->position, "%.*s", SPAN_ARG(position));
    m->topic = topic;
    m->partition = (uint32_t)partition;
    if (!is_good)
        *had = 0;
    for (uint64_t i = 0; is_good && i < left; i++) {
        const struct ev_custom *ev = NULL;
        is_good = hashes.len >= (i + 1) * HASH_DIGITS && (ev = next_custom(s)) != NULL;
        if (is_good) {
            snprintf(hash, sizeof hash, "%.*s", HASH_DIGITS, hashes.at + i * HASH_DIGITS);
            is_good = hash_of(ev) == (uint32_t)strtoul(hash, NULL, 16);
        }
        *had += is_good;
    }
    return is_good;
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
        uint64_t had = 0;
        goes_on = is_in_log(&scan, span_cut(text, '\n', &text), &m, topic, &had);
        if (positions_knows(&r->positions, &m))
            continue;
        if (!goes_on) {
            is_kept = (had == 0 || add_half(&r->exact, &m, (uint32_t)had)) && is_kept;
            continue;
        }
        forget_half(&r->exact, find_half(&r->exact, &m));
        is_kept = positions_set(&r->positions, m.topic, m.partition, m.position) &&
                  positions_set(&r->durable, m.topic, m.partition, m.position) && is_kept;
    }
    log_reader_close(scan.reader);
    if (!is_kept)
        return fb_fail(err, FB_E_NOMEM, "no memory for the positions of %s", r->c->name);
    code = keep_halves(r, err); /* both before the next intent takes the place of this one */
    return code == FB_OK ? source_keep(r, err) : code;
}

/* What an earlier turn put may still be on its way into the log: it is waited for, or it would be
 * taken again. */
static enum fb_code await_log(struct runner *r, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + AWAIT_LOG_MS * US_PER_MS;
    uint64_t ticket = ingress_newest(r->setup->ingress);
    while (!ingress_durable(r->setup->ingress, ticket)) {
        if (fb_mono_us() >= until_us || !runner_may_go_on(r))
            return fb_fail(err, FB_E_AGAIN,
                           "connector %s waits until what it handed over is in the log, so that "
                           "nothing is taken twice; see log.state in `foldback stream status`",
                           r->c->name);
        runner_wait(r, 5);
    }
    return FB_OK;
}

enum fb_code exact_begin(struct runner *r, bool is_reset, struct fb_err *err)
{
    char key[80], dir[600], *text = NULL;
    const char *value = conf_connector_value(r->c, "transactions");
    struct exact *x = &r->exact;
    *x = (struct exact){.is_on = value && strcmp(value, "true") == 0};
    if (!x->is_on)
        return FB_OK;
    buf_init(&x->rows, INTENT_TEXT_MAX);
    intent_key(r, key);
    enum fb_code code = is_reset ? FB_OK : await_log(r, err);
    if (code == FB_OK && is_reset)
        code = state_meta_set(r->state, key, SPAN(""), err);
    if (code == FB_OK)
        code = is_reset ? keep_halves(r, err) : load_halves(r, err);
    if (code == FB_OK && !is_reset)
        code = state_meta_get(r->state, key, &text, err);
    if (code == FB_OK && text)
        code = recover(r, span_of(text), err);
    free(text);
    snprintf(dir, sizeof dir, "%s/log", r->setup->state_dir);
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

uint32_t exact_had(struct runner *r, const struct connector_message *m)
{
    const struct exact_half *half = r->exact.is_on ? find_half(&r->exact, m) : NULL;
    return half ? half->had : 0;
}

bool exact_note(struct runner *r, const struct connector_message *m, struct span records)
{
    struct exact *x = &r->exact;
    size_t was = x->rows.len;
    if (!x->is_on)
        return true;
    fb_assert(records.len % sizeof(struct ev_custom) == 0);
    buf_printf(&x->rows, "%u %s %zu+%u ", m->partition, m->position,
               records.len / sizeof(struct ev_custom), exact_had(r, m));
    for (size_t at = 0; at < records.len; at += sizeof(struct ev_custom))
        buf_printf(&x->rows, "%08" PRIx32, hash_of((const void *)(records.at + at)));
    buf_printf(&x->rows, " %s\n", m->topic);
    if (x->rows.failed) {
        x->rows.len = was;
        x->rows.failed = false;
        return false;
    }
    return true;
}

void exact_noted(struct runner *r, const struct connector_message *m)
{
    if (r->exact.is_on)
        forget_half(&r->exact, find_half(&r->exact, m));
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
