/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/message.h"

#include <string.h>

static const char magic[4] = {'f', 'b', 'f', '3'};

static void put_u64(struct buf *out, uint64_t v)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (unsigned char)(v | 0x80);
    bytes[n++] = (unsigned char)v;
    buf_put(out, bytes, n);
}

static void put_text(struct buf *out, const char *text, size_t room)
{
    size_t len = strnlen(text, room - 1);
    put_u64(out, len);
    buf_put(out, text, len);
}

static void put_start(struct buf *out, enum fleet_kind kind)
{
    buf_put(out, magic, sizeof magic);
    buf_putc(out, (char)kind);
}

/* Errors stick: read everything, look at is_broken once. */
struct source {
    struct span rest;
    bool is_broken;
};

static uint64_t get_u64(struct source *in)
{
    uint64_t v = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        if (in->rest.len == 0)
            break;
        uint64_t byte = (unsigned char)in->rest.at[0];
        in->rest.at++;
        in->rest.len--;
        v |= (byte & 0x7f) << shift;
        if (shift == 63 && byte > 1)
            break;
        if (byte < 0x80)
            return v;
    }
    in->is_broken = true;
    in->rest.len = 0;
    return 0;
}

static uint64_t get_below(struct source *in, uint64_t bound)
{
    uint64_t v = get_u64(in);
    if (v < bound)
        return v;
    in->is_broken = true;
    in->rest.len = 0;
    return 0;
}

static uint32_t get_u32(struct source *in)
{
    return (uint32_t)get_below(in, UINT64_C(1) << 32);
}

static void get_text(struct source *in, char *text, size_t room)
{
    size_t len = (size_t)get_below(in, room);
    if (len > in->rest.len || memchr(in->rest.at, 0, len)) {
        in->is_broken = true;
        in->rest.len = 0;
        len = 0;
    }
    memcpy(text, in->rest.at, len);
    memset(text + len, 0, room - len);
    in->rest.at += len;
    in->rest.len -= len;
}

static bool get_start(struct source *in, struct span bytes, enum fleet_kind kind)
{
    if (fleet_kind_of(bytes) != kind)
        return false;
    *in = (struct source){.rest = {bytes.at + sizeof magic + 1, bytes.len - sizeof magic - 1}};
    return true;
}

enum fleet_kind fleet_kind_of(struct span bytes)
{
    if (bytes.len <= sizeof magic || memcmp(bytes.at, magic, sizeof magic) != 0)
        return FLEET_NOTHING;
    unsigned char kind = (unsigned char)bytes.at[sizeof magic];
    return kind <= FLEET_DECISION ? (enum fleet_kind)kind : FLEET_NOTHING;
}

static void put_sketch(struct buf *out, const struct sketch *s)
{
    uint32_t used = 0;
    for (uint32_t b = 0; b < SKETCH_BUCKETS; b++)
        used += s->count[b] != 0;
    put_u64(out, used);
    for (uint32_t b = 0, next = 0; b < SKETCH_BUCKETS; b++)
        if (s->count[b]) {
            put_u64(out, b - next);
            put_u64(out, s->count[b]);
            next = b + 1;
        }
}

static void get_sketch(struct source *in, struct sketch *s)
{
    memset(s, 0, sizeof *s);
    uint32_t used = (uint32_t)get_below(in, SKETCH_BUCKETS + 1), at = 0;
    for (uint32_t i = 0; i < used && !in->is_broken; i++) {
        at += (uint32_t)get_below(in, SKETCH_BUCKETS - at);
        if (in->is_broken)
            break;
        s->count[at] = get_u32(in);
        s->n += s->count[at];
        at++;
        if (at == SKETCH_BUCKETS && i + 1 < used)
            in->is_broken = true;
    }
}

void fleet_report_write(const struct fleet_report *r, struct buf *out)
{
    put_start(out, FLEET_REPORT);
    put_u64(out, r->node);
    put_u64(out, r->epoch);
    put_u64(out, r->sequence);
    put_u64(out, r->wall_us);
    put_u64(out, r->span_us);
    put_u64(out, r->role);
    put_u64(out, r->is_leaving);
    put_u64(out, r->has_members);
    put_u64(out, r->is_ready);
    put_u64(out, r->sent_us);
    put_u64(out, r->lease_ms);
    put_u64(out, r->safe_ppm);
    put_text(out, r->region, sizeof r->region);
    put_text(out, r->service, sizeof r->service);
    put_u64(out, r->requests);
    put_u64(out, r->late);
    put_u64(out, r->failed);
    put_u64(out, r->shed);
    put_u64(out, r->queued);
    put_u64(out, r->endpoint_count);
    for (uint32_t i = 0; i < r->endpoint_count; i++) {
        const struct fleet_endpoint *e = &r->endpoints[i];
        put_text(out, e->name, sizeof e->name);
        put_u64(out, e->in_flight);
        put_u64(out, e->limit);
        put_u64(out, e->answers);
        put_u64(out, e->latency_us);
    }
    put_u64(out, r->demand_count);
    for (uint32_t i = 0; i < r->demand_count; i++) {
        put_u64(out, r->demands[i].limit);
        put_u64(out, r->demands[i].limit_milli);
        put_u64(out, r->demands[i].asked_milli);
        put_u64(out, r->demands[i].share_ppm);
        put_u64(out, r->demands[i].heeded);
    }
    put_sketch(out, &r->latency);
    if (r->name[0])
        put_text(out, r->name, sizeof r->name);
}

bool fleet_report_read(struct span bytes, struct fleet_report *r)
{
    struct source in;
    if (!get_start(&in, bytes, FLEET_REPORT))
        return false;
    r->node = get_u64(&in);
    r->epoch = get_u32(&in);
    r->sequence = get_u64(&in);
    r->wall_us = get_u64(&in);
    r->span_us = get_u32(&in);
    r->role = (uint8_t)get_below(&in, FLEET_ROLE_EDGE + 1);
    r->is_leaving = (uint8_t)get_below(&in, 2);
    r->has_members = (uint8_t)get_below(&in, 2);
    r->is_ready = (uint8_t)get_below(&in, 2);
    r->sent_us = get_u64(&in);
    r->lease_ms = get_u32(&in);
    r->safe_ppm = (uint32_t)get_below(&in, FLEET_SHARE_ALL + 1);
    get_text(&in, r->region, sizeof r->region);
    get_text(&in, r->service, sizeof r->service);
    r->requests = get_u32(&in);
    r->late = get_u32(&in);
    r->failed = get_u32(&in);
    r->shed = get_u32(&in);
    r->queued = get_u32(&in);
    r->endpoint_count = (uint32_t)get_below(&in, FLEET_ENDPOINTS_MAX + 1);
    for (uint32_t i = 0; i < r->endpoint_count && !in.is_broken; i++) {
        struct fleet_endpoint *e = &r->endpoints[i];
        get_text(&in, e->name, sizeof e->name);
        e->in_flight = get_u32(&in);
        e->limit = get_u32(&in);
        e->answers = get_u32(&in);
        e->latency_us = get_u32(&in);
    }
    r->demand_count = (uint32_t)get_below(&in, FLEET_DEMANDS_MAX + 1);
    for (uint32_t i = 0; i < r->demand_count && !in.is_broken; i++) {
        r->demands[i].limit = get_u64(&in);
        r->demands[i].limit_milli = get_u64(&in);
        r->demands[i].asked_milli = get_u32(&in);
        r->demands[i].share_ppm = (uint32_t)get_below(&in, FLEET_SHARE_ALL + 1);
        r->demands[i].heeded = get_u64(&in);
    }
    get_sketch(&in, &r->latency);
    memset(r->name, 0, sizeof r->name);
    if (in.rest.len > 0) { /* a node that has none says nothing */
        get_text(&in, r->name, sizeof r->name);
        in.is_broken |= r->name[0] == '\0';
    }
    return !in.is_broken && in.rest.len == 0 && r->service[0] != '\0';
}

void fleet_decision_write(const struct fleet_decision *d, struct buf *out)
{
    put_start(out, FLEET_DECISION);
    put_u64(out, d->controller);
    put_u64(out, d->epoch);
    put_u64(out, d->sequence);
    put_u64(out, d->wall_us);
    put_u64(out, d->limit);
    put_u64(out, d->after);
    put_text(out, d->service, sizeof d->service);
    put_u64(out, d->count);
    for (uint32_t i = 0; i < d->count; i++) {
        put_u64(out, d->shares[i].node);
        put_u64(out, d->shares[i].share_ppm);
        put_u64(out, d->shares[i].asked_milli);
    }
}

bool fleet_decision_read(struct span bytes, struct fleet_decision *d)
{
    struct source in;
    if (!get_start(&in, bytes, FLEET_DECISION))
        return false;
    d->controller = get_u64(&in);
    d->epoch = get_u32(&in);
    d->sequence = get_u64(&in);
    d->wall_us = get_u64(&in);
    d->limit = get_u64(&in);
    d->after = get_u64(&in);
    get_text(&in, d->service, sizeof d->service);
    d->count = (uint32_t)get_below(&in, FLEET_NODES_MAX + 1);
    uint64_t sum_ppm = 0;
    for (uint32_t i = 0; i < d->count && !in.is_broken; i++) {
        d->shares[i].node = get_u64(&in);
        d->shares[i].share_ppm = (uint32_t)get_below(&in, FLEET_SHARE_ALL + 1);
        d->shares[i].asked_milli = get_u32(&in);
        sum_ppm += d->shares[i].share_ppm;
    }
    return !in.is_broken && in.rest.len == 0 && d->service[0] != '\0' && sum_ppm <= FLEET_SHARE_ALL;
}
