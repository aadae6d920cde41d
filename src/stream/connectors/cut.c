/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/cut.h"

#include "base/assert.h"
#include "event/cloudevent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS_BYTES_MAX (1 * MIB)
#define LINE_BYTES_MAX (8 * KIB) /* the longest event as JSON is about 2 KiB */

static bool fits(const struct cut *c, size_t value_bytes);
static void pack(struct cut *c, struct cut_unit *u);

bool cut_init(struct cut *c, const struct cut_conf *conf)
{
    *c = (struct cut){.conf = *conf};
    buf_init(&c->text, conf->batch_bytes + LINE_BYTES_MAX);
    buf_init(&c->packed, 2 * conf->batch_bytes + BLOCK_BYTES_MAX + MIB);
    buf_init(&c->keys, KEYS_BYTES_MAX);
    c->event = calloc(CUT_EVENTS_MAX, sizeof *c->event);
    c->unit = calloc(CUT_UNITS_MAX, sizeof *c->unit);
    bool is_good = c->event && c->unit;
    if (conf->format == CUT_BINARY)
        is_good &= (c->codec = block_codec_new()) != NULL;
    if (!is_good)
        cut_fini(c);
    return is_good;
}

void cut_fini(struct cut *c)
{
    buf_fini(&c->text);
    buf_fini(&c->packed);
    buf_fini(&c->keys);
    free(c->event);
    free(c->unit);
    if (c->codec)
        block_codec_free(c->codec);
    *c = (struct cut){0};
}

void cut_clear(struct cut *c)
{
    buf_clear(&c->text);
    buf_clear(&c->packed);
    buf_clear(&c->keys);
    c->event_count = c->unit_count = c->open_first = 0;
    c->first_us = 0;
}

static uint32_t text_begin(const struct cut *c, uint32_t event)
{
    return event ? c->event[event - 1].end : 0;
}

static void put_chat(struct cut *c, struct json *j, const struct ev_head *ev)
{
    struct buf text;
    buf_init(&text, LINE_BYTES_MAX / 4);
    c->conf.sentence(c->conf.sentence_ctx, ev, &text);
    json_object_begin(j);
    json_key_str(j, "text", buf_str(&text));
    json_object_end(j);
    buf_fini(&text);
}

static void put_event(struct cut *c, const struct ev_head *ev, const struct cut_from *from)
{
    struct json j;
    if (c->conf.format == CUT_BINARY) {
        size_t at = c->text.len, bytes = (size_t)ev->cells * EV_CELL_BYTES;
        buf_put(&c->text, ev, bytes);
        if (c->conf.is_redacted && c->text.len == at + bytes)
            ev_redact((void *)(c->text.at + at));
        return;
    }
    json_init(&j, &c->text);
    if (c->conf.format == CUT_CHAT) {
        put_chat(c, &j, ev);
    } else if (c->conf.format == CUT_JSON) {
        ev_to_json(&j, ev, from->offset, c->conf.is_redacted);
    } else {
        struct cloudevent_place at = {.node = from->node,
                                      .offset = from->offset,
                                      .wall_us = from->wall_us,
                                      .subject = from->service,
                                      .is_redacted = c->conf.is_redacted};
        cloudevent_put(&j, ev, &at);
    }
    if (!c->conf.is_per_event)
        buf_putc(&c->text, '\n');
}

bool cut_add(struct cut *c, const struct ev_head *ev, const struct cut_from *from)
{
    uint32_t units_max = c->conf.is_per_event
                             ? fb_min_u32(c->conf.units_max * 64, CUT_UNITS_MAX / 2)
                             : c->conf.units_max;
    if (c->event_count == CUT_EVENTS_MAX || c->unit_count >= units_max ||
        (c->event_count && from->node != c->node))
        return false;
    size_t was = c->text.len;
    put_event(c, ev, from);
    if (c->text.failed || c->text.len > c->conf.batch_bytes) {
        c->text.len = was;
        c->text.failed = false;
        fb_assert(was > 0); /* one event always fits */
        return false;
    }
    if (c->event_count > c->open_first && !fits(c, c->text.len - text_begin(c, c->open_first))) {
        cut_seal(c);
        if (c->unit_count >= units_max) {
            c->text.len = was;
            return false;
        }
    }
    if (c->event_count == 0) {
        c->node = from->node;
        c->first_us = from->now_us;
    }
    c->event[c->event_count++] = (struct cut_event){.offset = from->offset,
                                                    .wall_us = from->wall_us,
                                                    .end = (uint32_t)c->text.len,
                                                    .type = ev->type};
    if (c->conf.is_per_event) {
        c->event[c->event_count - 1].key = (uint32_t)c->keys.len;
        buf_puts(&c->keys, from->service);
        buf_putc(&c->keys, '\0');
        cut_seal(c);
    }
    return true;
}

/* Does a block of <value_bytes> stay within what the configuration allows? */
static bool fits(const struct cut *c, size_t value_bytes)
{
    size_t most = c->conf.format == CUT_BINARY
                      ? fb_min_u64(c->conf.block_bytes, BLOCK_RAW_BYTES_MAX)
                      : c->conf.block_bytes;
    return value_bytes <= most;
}

void cut_seal(struct cut *c)
{
    if (c->open_first == c->event_count)
        return;
    fb_assert(c->unit_count < CUT_UNITS_MAX);
    c->unit[c->unit_count++] =
        (struct cut_unit){.first = c->open_first, .count = c->event_count - c->open_first};
    c->open_first = c->event_count;
}

static void put_varint(struct buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_putc(out, (char)(v | 0x80));
    buf_putc(out, (char)v);
}

/* A block, and the offsets when they are not dense. */
static enum fb_code pack_binary(struct cut *c, struct cut_unit *u)
{
    uint32_t from = text_begin(c, u->first), to = c->event[u->first + u->count - 1].end;
    const struct cut_event *first = &c->event[u->first];
    const struct ev_head *ev = (const void *)(c->text.at + from);
    struct ev_head head;
    struct span block;
    memcpy(&head, ev, sizeof head);
    struct block_head bh = {.node = c->node,
                            .epoch = c->conf.epoch,
                            .first_offset = first->offset,
                            .wall_minus_mono_us = (int64_t)(first->wall_us - head.time_us)};
    enum fb_code code =
        block_encode(c->codec, &bh, (struct span){c->text.at + from, to - from}, &block);
    if (code != FB_OK)
        return code;
    block_seal(c->codec, &bh, 0, 0);
    u->value_at = c->packed.len;
    buf_put_span(&c->packed, block);
    if (c->event[u->first + u->count - 1].offset - first->offset + 1 != u->count) {
        struct buf gaps;
        buf_init(&gaps, (size_t)u->count * 10 + 16);
        for (uint32_t i = 0; i < u->count; i++)
            put_varint(&gaps,
                       i ? c->event[u->first + i].offset - c->event[u->first + i - 1].offset : 0);
        uint32_t bytes = (uint32_t)gaps.len;
        buf_put(&c->packed, "fbo1", 4);
        buf_put(&c->packed, &bytes, sizeof bytes);
        buf_put_span(&c->packed, buf_span(&gaps));
        if (gaps.failed)
            c->packed.failed = true;
        buf_fini(&gaps);
    }
    u->value_len = c->packed.len - u->value_at;
    if (!c->packed.failed)
        return FB_OK;
    /* The next try begins with an empty buffer: what was split or sent no longer fills it. */
    buf_clear(&c->packed);
    c->packed.failed = false;
    for (uint32_t i = 0; i < c->unit_count; i++)
        c->unit[i].value_len = 0;
    return FB_E_NOMEM;
}

static void pack(struct cut *c, struct cut_unit *u)
{
    static const char *const formats[] = {"json", "binary", "cloudevents", "chat"};
    snprintf(u->node, sizeof u->node, "%016" PRIx64, c->node);
    snprintf(u->epoch, sizeof u->epoch, "%u", c->conf.epoch);
    snprintf(u->offset, sizeof u->offset, "%" PRIu64, c->event[u->first].offset);
    snprintf(u->events, sizeof u->events, "%u", u->count);
    const struct connector_header headers[CUT_HEADERS] = {
        {"foldback-node", span_of(u->node)},
        {"foldback-epoch", span_of(u->epoch)},
        {"foldback-offset", span_of(u->offset)},
        {"foldback-count", span_of(u->events)},
        {"foldback-schema", SPAN(CUT_SCHEMA)},
        {"foldback-format", span_of(formats[c->conf.format])},
        {"foldback-region", span_of(c->conf.region)}};
    memcpy(u->headers, headers, sizeof headers);
}

enum fb_code cut_record(struct cut *c, uint32_t unit, struct connector_record *record)
{
    fb_assert(unit < c->unit_count);
    struct cut_unit *u = &c->unit[unit];
    uint32_t from = text_begin(c, u->first);
    pack(c, u);
    if (c->conf.format == CUT_BINARY && u->value_len == 0) {
        enum fb_code code = pack_binary(c, u);
        if (code != FB_OK)
            return code;
    } else if (c->conf.format != CUT_BINARY) {
        u->value_at = from;
        u->value_len = c->event[u->first + u->count - 1].end - from;
    }
    const char *base = c->conf.format == CUT_BINARY ? c->packed.at : c->text.at;
    *record = (struct connector_record){.key = span_of(u->node),
                                        .value = {base + u->value_at, u->value_len},
                                        .headers = u->headers,
                                        .header_count = CUT_HEADERS - !c->conf.region[0],
                                        .wall_ms = c->event[u->first].wall_us / 1000};
    if (c->conf.is_per_event) {
        const char *key = c->keys.at + c->event[u->first].key;
        if (key[0])
            record->key = span_of(key);
    }
    return FB_OK;
}

bool cut_split(struct cut *c, uint32_t unit)
{
    fb_assert(unit < c->unit_count);
    struct cut_unit *u = &c->unit[unit];
    if (u->count < 2 || c->unit_count == CUT_UNITS_MAX)
        return false;
    memmove(u + 1, u, (c->unit_count - unit) * sizeof *u);
    c->unit_count++;
    uint32_t half = u->count / 2;
    u[1] = (struct cut_unit){.first = u->first + half, .count = u->count - half};
    u[0] = (struct cut_unit){.first = u->first, .count = half};
    return true;
}

uint64_t cut_delivered(const struct cut *c, uint64_t next)
{
    for (uint32_t i = 0; i < c->unit_count; i++)
        if (!c->unit[i].is_done)
            return c->event[c->unit[i].first].offset;
    return c->open_first < c->event_count ? c->event[c->open_first].offset : next;
}
