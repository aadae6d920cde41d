/* SPDX-License-Identifier: Apache-2.0 */
/* redis: Redis Streams.  Here: life, check and sink; the source is redis_source.c.
 *
 * Sink: one send is MULTI, an XADD per record, EXEC, all in one write.  So the records of a send
 * become visible together and in order, and one that is refused (memory full, a replica) leaves
 * none of them behind.  Trimming is approximate (`~`: whole nodes of the stream) and done once per
 * send, by the last XADD.
 * An entry has the fields node, epoch, offset, count, schema, format, key and data: after a lost
 * answer a send is repeated, and (node, offset) tells the repeats apart. */
#include "stream/connectors/redis_int.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_SINK (1 * MIB)
#define ANSWER_BYTES_SOURCE (32 * MIB)
#define HEADER_PREFIX "foldback-"

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

/* The name of the stream, with the node in the place of {node}. */
static void name_stream(struct connector *c)
{
    const char *from = value(c, "stream"), *mark = strstr(from, "{node}");
    if (mark)
        snprintf(c->stream, sizeof c->stream, "%.*s%s%s", (int)(mark - from), from, c->setup.node,
                 mark + strlen("{node}"));
    else
        snprintf(c->stream, sizeof c->stream, "%s", from);
}

static void redis_close(struct connector *c)
{
    redis_link_fini(&c->link);
    free(c);
}

static enum fb_code redis_open(struct connector **out, const struct connector_setup *setup,
                               struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    c->setup = *setup;
    enum fb_code code = redis_link_init(
        &c->link, &c->setup, setup->is_source ? ANSWER_BYTES_SOURCE : ANSWER_BYTES_SINK, err);
    if (code != FB_OK) {
        free(c);
        return code;
    }
    name_stream(c);
    snprintf(c->group, sizeof c->group, "%s", value(c, "group"));
    snprintf(c->consumer, sizeof c->consumer, "%s",
             *value(c, "consumer") ? value(c, "consumer") : setup->node);
    c->max_len = strtoull(value(c, "max_len"), NULL, 10);
    c->max_age_ms = strtoull(value(c, "max_age"), NULL, 10);
    c->claim_after_ms = strtoull(value(c, "claim_after"), NULL, 10);
    c->count_max = REDIS_COUNT_MAX;
    c->behind = UINT64_MAX;
    *out = c;
    return FB_OK;
}

/* ---- sink ---- */
static void put_text(struct connector *c, const char *text)
{
    redis_put(&c->link.out, span_of(text));
}

static void put_u64(struct connector *c, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    put_text(c, text);
}

/* Ids begin with the server's clock in ms; ours is near enough for days. */
static void put_oldest(struct connector *c)
{
    put_text(c, "MINID");
    put_text(c, "~");
    put_u64(c, fb_sub_floor_u64(fb_wall_us() / US_PER_MS, c->max_age_ms));
}

static void put_record(struct connector *c, const struct connector_record *r, bool is_last)
{
    bool is_cut = is_last && (c->max_len || c->max_age_ms);
    redis_put_count(&c->link.out, (is_cut ? 6u : 3u) + 2 * (r->header_count + 2));
    put_text(c, "XADD");
    put_text(c, c->stream);
    if (is_cut && c->max_len) {
        put_text(c, "MAXLEN");
        put_text(c, "~");
        put_u64(c, c->max_len);
    } else if (is_cut) {
        put_oldest(c);
    }
    put_text(c, "*");
    for (uint32_t i = 0; i < r->header_count; i++) {
        const char *name = r->headers[i].name;
        size_t prefix = strlen(HEADER_PREFIX);
        put_text(c, strncmp(name, HEADER_PREFIX, prefix) == 0 ? name + prefix : name);
        redis_put(&c->link.out, r->headers[i].value);
    }
    put_text(c, "key");
    redis_put(&c->link.out, r->key);
    put_text(c, "data");
    redis_put(&c->link.out, r->value);
}

struct sent {
    struct connector_batch *batch;
    uint32_t exec_at;  /* of the answer to EXEC */
    char refused[512]; /* the first refusal; "" none */
    bool is_stored;
};

static void on_sent(void *arg, uint32_t at, const struct redis_answer *answer)
{
    struct sent *s = arg;
    bool is_list = answer->kind == REDIS_LIST;
    if (answer->kind == REDIS_ERROR && !s->refused[0])
        snprintf(s->refused, sizeof s->refused, "%.500s", answer->text.at);
    /* Without the right to MULTI each XADD was done by itself. */
    if (at > 0 && at <= s->batch->count && answer->kind == REDIS_BYTES)
        s->batch->at[at - 1].result = CONNECTOR_DELIVERED;
    if (at != s->exec_at)
        return;
    s->is_stored = is_list && answer->count >= s->batch->count;
    for (uint32_t i = 0; is_list && i < answer->count; i++) {
        const struct redis_answer *one = &answer->at[i];
        if (i < s->batch->count)
            s->batch->at[i].result = redis_is_text(one) ? CONNECTOR_DELIVERED : CONNECTOR_RETRY;
        if (one->kind == REDIS_ERROR && !s->refused[0])
            snprintf(s->refused, sizeof s->refused, "%.500s", one->text.at);
    }
}

/* The server does not say which record it found too large: the largest is. */
static void mark_largest(struct connector_batch *batch)
{
    uint32_t largest = 0;
    for (uint32_t i = 1; i < batch->count; i++)
        if (batch->at[i].value.len > batch->at[largest].value.len)
            largest = i;
    batch->at[largest].result = CONNECTOR_TOO_LARGE;
}

static void fill_out(struct connector *c, const struct connector_batch *batch)
{
    redis_put_count(&c->link.out, 1);
    put_text(c, "MULTI");
    for (uint32_t i = 0; i < batch->count; i++)
        put_record(c, &batch->at[i], i + 1 == batch->count);
    if (c->max_len && c->max_age_ms) { /* one XADD trims by one of them */
        redis_put_count(&c->link.out, 5);
        put_text(c, "XTRIM");
        put_text(c, c->stream);
        put_oldest(c);
    }
    redis_put_count(&c->link.out, 1);
    put_text(c, "EXEC");
}

static enum fb_code redis_send(struct connector *c, struct connector_batch *batch,
                               struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + (uint64_t)batch->timeout_ms * US_PER_MS;
    struct sent sent = {.batch = batch};
    for (uint32_t i = 0; i < batch->count; i++)
        batch->at[i].result = CONNECTOR_UNSENT;
    enum fb_code code = redis_link_open(&c->link, until_us, err);
    if (code != FB_OK)
        return code;
    fill_out(c, batch);
    bool has_trim = c->max_len && c->max_age_ms;
    sent.exec_at = 1 + batch->count + (has_trim ? 1 : 0);
    struct redis_ask ask = {
        .count = sent.exec_at + 1, .until_us = until_us, .each = on_sent, .arg = &sent};
    code = redis_link_ask(&c->link, &ask, err);
    if (sent.refused[0]) { /* says more than the connection that it closed behind it */
        struct span answer = span_of(sent.refused);
        if (redis_meaning_of(answer)->result == CONNECTOR_TOO_LARGE)
            mark_largest(batch);
        return redis_link_refused(&c->link, answer, err);
    }
    if (code == FB_OK && !sent.is_stored) {
        redis_link_close(&c->link);
        return fb_fail(err, FB_E_AGAIN, "redis %s did not say what became of the records",
                       redis_link_address(&c->link));
    }
    return code;
}

/* ---- check ---- */
struct checking {
    connector_step *step;
    void *arg;
    uint64_t until_us;
};

static void step(const struct checking *k, bool is_good, const char *fmt, ...) FB_PRINTF(3, 4);
static void step(const struct checking *k, bool is_good, const char *fmt, ...)
{
    char text[700];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    k->step(k->arg, is_good, text);
}

static enum fb_code check_type(struct connector *c, const struct checking *k, struct fb_err *err)
{
    const struct redis_answer *answer;
    const char *xlen[] = {"XLEN", c->stream, NULL};
    enum fb_code code = redis_link_ask_one(&c->link, xlen, k->until_us, &answer, err);
    if (code == FB_OK && answer->kind == REDIS_ERROR)
        code = redis_link_refused(&c->link, answer->text, err);
    if (code != FB_OK)
        step(k, false, "%s", err->text);
    else if (answer->number == 0)
        step(k, true, "stream %.100s is empty or not there yet; it is made when it is needed",
             c->stream);
    else
        step(k, true, "stream %.100s has %" PRId64 " entries", c->stream, answer->number);
    return code;
}

struct dry {
    char refused[512];
};

static void on_dry(void *arg, uint32_t at, const struct redis_answer *answer)
{
    struct dry *d = arg;
    (void)at;
    if (answer->kind == REDIS_ERROR && !d->refused[0])
        snprintf(d->refused, sizeof d->refused, "%.500s", answer->text.at);
}

/* Rights, memory and role are looked at when a command is queued: DISCARD then drops it. */
static enum fb_code check_rights(struct connector *c, const struct checking *k, struct fb_err *err)
{
    const char *multi[] = {"MULTI", NULL}, *discard[] = {"DISCARD", NULL};
    const char *add[] = {"XADD", c->stream, "MAXLEN", "~", "1", "*", "a", "b", NULL};
    const char *read[] = {"XREADGROUP", "GROUP",   c->group,  c->consumer, "COUNT",
                          "1",          "STREAMS", c->stream, ">",         NULL};
    const char *ack[] = {"XACK", c->stream, c->group, "0-1", NULL};
    const char *claim[] = {"XAUTOCLAIM", c->stream, c->group, c->consumer, "1000", "0", NULL};
    const char *group[] = {"XGROUP", "CREATE", c->stream, c->group, "$", "MKSTREAM", NULL};
    const char *const *sink[] = {multi, add, discard};
    const char *const *source[] = {multi, group, read, ack, claim, discard};
    const char *const *const *all = c->setup.is_source ? source : sink;
    uint32_t count = c->setup.is_source ? (uint32_t)FB_COUNT(source) : (uint32_t)FB_COUNT(sink);
    struct dry dry = {.refused = ""};
    for (uint32_t i = 0; i < count; i++)
        redis_put_texts(&c->link.out, all[i]);
    struct redis_ask ask = {.count = count, .until_us = k->until_us, .each = on_dry, .arg = &dry};
    enum fb_code code = redis_link_ask(&c->link, &ask, err);
    if (code == FB_OK && dry.refused[0])
        code = redis_link_refused(&c->link, span_of(dry.refused), err);
    step(k, code == FB_OK, "%s",
         code != FB_OK        ? err->text
         : c->setup.is_source ? "the user may read, claim and acknowledge (nothing was changed)"
                              : "the user may add entries (none was added)");
    return code;
}

static enum fb_code redis_check(struct connector *c, uint32_t timeout_ms, connector_step *each,
                                void *arg, struct fb_err *err)
{
    struct checking k = {
        .step = each, .arg = arg, .until_us = fb_mono_us() + (uint64_t)timeout_ms * US_PER_MS};
    enum fb_code code = redis_link_open(&c->link, k.until_us, err);
    if (code != FB_OK) {
        step(&k, false, "%s", err->text);
        return code;
    }
    step(&k, true, "redis %s reached%s%s", redis_link_address(&c->link),
         c->link.is_tls ? " over TLS" : "",
         *value(c, "password_file") ? ", logged in" : ", without a login");
    code = check_type(c, &k, err);
    return code == FB_OK ? check_rights(c, &k, err) : code;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "redis",
                    .can = CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED |
                           CONNECTOR_TRANSACTIONAL | CONNECTOR_UNORDERED,
                    .send_max = 4096,
                    .record_bytes_max = 16 * MIB,
                    .send_bytes_max = 16 * MIB,
                    .open = redis_open,
                    .close = redis_close,
                    .check = redis_check,
                    .send = redis_send,
                    .receive = redis_receive,
                    .commit = redis_commit,
                    .behind = redis_behind};
