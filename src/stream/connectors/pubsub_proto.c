/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/pubsub_proto.h"

#define WIRE_VARINT 0u
#define WIRE_64 1u
#define WIRE_BYTES 2u
#define WIRE_32 5u

static size_t varint(uint64_t value, char out[10])
{
    size_t len = 0;
    do {
        uint8_t low = value & 0x7f;
        value >>= 7;
        out[len++] = (char)(low | (value ? 0x80 : 0));
    } while (value);
    return len;
}

static void put_varint(struct buf *b, uint64_t value)
{
    char bytes[10];
    buf_put(b, bytes, varint(value, bytes));
}

static size_t varint_len(uint64_t value)
{
    char bytes[10];
    return varint(value, bytes);
}

void proto_text(struct buf *b, uint32_t field, struct span text)
{
    put_varint(b, (uint64_t)field << 3 | WIRE_BYTES);
    put_varint(b, text.len);
    buf_put_span(b, text);
}

void proto_number(struct buf *b, uint32_t field, uint64_t value)
{
    put_varint(b, (uint64_t)field << 3 | WIRE_VARINT);
    put_varint(b, value);
}

/* Bytes of a text field whose number is below 16. */
static size_t text_len(size_t len)
{
    return 1 + varint_len(len) + len;
}

static size_t pair_len(const struct connector_header *h)
{
    return text_len(strlen(h->name)) + text_len(h->value.len);
}

void proto_publish_message(struct buf *b, const struct connector_record *record, bool is_ordered)
{
    size_t len = text_len(record->value.len);
    if (is_ordered && record->key.len)
        len += text_len(record->key.len);
    for (uint32_t i = 0; i < record->header_count; i++)
        len += text_len(pair_len(&record->headers[i]));
    put_varint(b, 2 << 3 | WIRE_BYTES);
    put_varint(b, len);
    proto_text(b, 1, record->value);
    for (uint32_t i = 0; i < record->header_count; i++) { /* a map is a list of pairs */
        const struct connector_header *h = &record->headers[i];
        put_varint(b, 2 << 3 | WIRE_BYTES);
        put_varint(b, pair_len(h));
        proto_text(b, 1, span_of(h->name));
        proto_text(b, 2, h->value);
    }
    if (is_ordered && record->key.len)
        proto_text(b, 5, record->key);
}

/* ---- answers ---- */
static bool take_varint(struct proto_reader *r, uint64_t *value)
{
    *value = 0;
    for (uint32_t i = 0; i < 10 && i < r->rest.len; i++) {
        uint8_t byte = (uint8_t)r->rest.at[i];
        if (i == 9 && byte > 1)
            break;
        *value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            r->rest.at += i + 1;
            r->rest.len -= i + 1;
            return true;
        }
    }
    r->is_bad = true;
    return false;
}

static bool take_bytes(struct proto_reader *r, uint64_t len, struct span *out)
{
    if (len > r->rest.len) {
        r->is_bad = true;
        return false;
    }
    *out = (struct span){r->rest.at, (size_t)len};
    r->rest.at += len;
    r->rest.len -= (size_t)len;
    return true;
}

bool proto_next(struct proto_reader *r, struct proto_field *field)
{
    uint64_t tag, len;
    struct span fixed;
    if (r->is_bad || r->rest.len == 0 || !take_varint(r, &tag))
        return false;
    *field = (struct proto_field){.number = (uint32_t)(tag >> 3), .is_bytes = false};
    if (tag >> 3 == 0 || tag >> 3 > 536870911) {
        r->is_bad = true;
        return false;
    }
    switch (tag & 7) {
    case WIRE_VARINT:
        return take_varint(r, &field->value);
    case WIRE_64:
        return take_bytes(r, 8, &fixed);
    case WIRE_32:
        return take_bytes(r, 4, &fixed);
    case WIRE_BYTES:
        field->is_bytes = true;
        return take_varint(r, &len) && take_bytes(r, len, &field->bytes);
    default: /* groups: nobody sends them */
        r->is_bad = true;
        return false;
    }
}

uint32_t proto_published(struct span answer)
{
    struct proto_reader r = {.rest = answer};
    struct proto_field f;
    uint32_t count = 0;
    while (proto_next(&r, &f)) {
        if (f.number == 1 && !f.is_bytes)
            return UINT32_MAX;
        count += f.number == 1;
    }
    return r.is_bad ? UINT32_MAX : count;
}

static uint64_t timestamp_ms(struct span message)
{
    struct proto_reader r = {.rest = message};
    struct proto_field f;
    uint64_t seconds = 0, nanos = 0;
    while (proto_next(&r, &f)) {
        if (f.number == 1 && !f.is_bytes)
            seconds = f.value;
        if (f.number == 2 && !f.is_bytes)
            nanos = f.value;
    }
    /* The year 9999 is the last that a timestamp may name. */
    return r.is_bad || seconds > 253402300799u || nanos > 999999999u
               ? 0
               : seconds * 1000 + nanos / 1000000;
}

static bool message_of(struct span bytes, struct proto_received *out)
{
    struct proto_reader r = {.rest = bytes};
    struct proto_field f;
    while (proto_next(&r, &f)) {
        if (f.number > 5 || f.number == 2)
            continue;
        if (!f.is_bytes)
            return false;
        if (f.number == 1)
            out->data = f.bytes;
        else if (f.number == 3)
            out->message_id = f.bytes;
        else if (f.number == 4)
            out->wall_ms = timestamp_ms(f.bytes);
        else if (f.number == 5)
            out->ordering_key = f.bytes;
    }
    return !r.is_bad;
}

/* Printable ASCII: what an id is, and what may stand in a log. */
static bool is_id(struct span s, size_t most)
{
    if (s.len == 0 || s.len > most)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= 0x20 || s.at[i] >= 0x7f)
            return false;
    return true;
}

bool proto_received(struct span message, struct proto_received *out)
{
    struct proto_reader r = {.rest = message};
    struct proto_field f;
    *out = (struct proto_received){.attempt = 0};
    while (proto_next(&r, &f)) {
        if ((f.number == 1 || f.number == 2) && !f.is_bytes)
            return false;
        if (f.number == 1)
            out->ack_id = f.bytes;
        else if (f.number == 2 && !message_of(f.bytes, out))
            return false;
        else if (f.number == 3 && !f.is_bytes)
            out->attempt = (uint32_t)f.value;
    }
    return !r.is_bad && is_id(out->ack_id, 4096) &&
           is_id(out->message_id, CONNECTOR_POSITION_BYTES - 1);
}

static bool has_push_endpoint(struct span config)
{
    struct proto_reader r = {.rest = config};
    struct proto_field f;
    while (proto_next(&r, &f))
        if (f.number == 1 && f.is_bytes && f.bytes.len)
            return true;
    return false;
}

bool proto_subscription(struct span answer, struct proto_subscription *out)
{
    struct proto_reader r = {.rest = answer};
    struct proto_field f;
    *out = (struct proto_subscription){.ack_deadline_s = 0};
    while (proto_next(&r, &f)) {
        if (f.number == 2 && f.is_bytes)
            out->topic = f.bytes;
        else if (f.number == 4 && f.is_bytes)
            out->is_push = has_push_endpoint(f.bytes);
        else if (f.number == 5)
            out->ack_deadline_s = (uint32_t)f.value;
        else if (f.number == 10)
            out->is_ordered = f.value != 0;
        else if (f.number == 15)
            out->is_detached = f.value != 0;
        else if (f.number == 16)
            out->is_exactly_once = f.value != 0;
    }
    return !r.is_bad;
}

bool proto_is_granted(struct span answer, const char *permission)
{
    struct proto_reader r = {.rest = answer};
    struct proto_field f;
    while (proto_next(&r, &f))
        if (f.number == 1 && f.is_bytes && span_eq(f.bytes, span_of(permission)))
            return true;
    return false;
}

/* ---- google.rpc.Status: details (3) are Any: value (2) is ErrorInfo: metadata (3) are pairs of
 * ack id and PERMANENT_FAILURE_... or TRANSIENT_FAILURE_... ---- */
struct failures {
    struct proto_ack_failures count;
    struct span wanted; /* an ack id */
    bool may_retry;
};

static void pair(struct span bytes, struct failures *out)
{
    struct proto_reader r = {.rest = bytes};
    struct proto_field f;
    struct span key = {"", 0}, value = {"", 0};
    while (proto_next(&r, &f)) {
        if (f.number == 1 && f.is_bytes)
            key = f.bytes;
        if (f.number == 2 && f.is_bytes)
            value = f.bytes;
    }
    bool is_transient = span_starts(value, SPAN("TRANSIENT_FAILURE_"));
    out->count.permanent += span_starts(value, SPAN("PERMANENT_FAILURE_"));
    out->count.transient += is_transient;
    out->may_retry |= is_transient && span_eq(key, out->wanted);
}

/* Calls <then> for each field <number> of <message>. */
static void each(struct span message, uint32_t number, void then(struct span, struct failures *),
                 struct failures *out)
{
    struct proto_reader r = {.rest = message};
    struct proto_field f;
    while (proto_next(&r, &f))
        if (f.number == number && f.is_bytes)
            then(f.bytes, out);
}

static void info(struct span bytes, struct failures *out)
{
    each(bytes, 3, pair, out);
}

static void any(struct span bytes, struct failures *out)
{
    each(bytes, 2, info, out);
}

struct proto_ack_failures proto_ack_failures(struct span status)
{
    struct failures f = {.wanted = {"", 0}};
    each(status, 3, any, &f);
    return f.count;
}

bool proto_ack_may_retry(struct span status, struct span ack_id)
{
    struct failures f = {.wanted = ack_id};
    each(status, 3, any, &f);
    return f.may_retry;
}
