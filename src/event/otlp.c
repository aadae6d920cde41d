/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format: fields of (number << 3 | type) and a value.  All three signals nest alike:
 * request.1 -> resource part .1 resource, .2 scope part -> .2 metric, log record or span. */
#include "event/otlp.h"

#include "base/siphash.h"

#include <math.h>

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value; /* varint, fixed */
    struct span bytes;
};
struct reading {
    otlp_each *each;
    void *arg;
    struct span service;
    uint64_t resource, scope; /* sums of hashes */
    bool is_broken;
};

static bool read_varint(struct span *in, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && in->len; shift += 7) {
        unsigned char byte = (unsigned char)in->at[0];
        in->at++;
        in->len--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool read_fixed(struct span *in, size_t bytes, uint64_t *value)
{
    *value = 0;
    if (in->len < bytes)
        return false;
    for (size_t i = 0; i < bytes; i++)
        *value |= (uint64_t)(unsigned char)in->at[i] << 8 * i;
    in->at += bytes;
    in->len -= bytes;
    return true;
}

/* False at the end, or with is_broken. */
static bool next_field(struct reading *r, struct span *in, struct field *f)
{
    uint64_t key = 0;
    bool is_good = false;
    if (in->len == 0 || r->is_broken)
        return false;
    *f = (struct field){.bytes = {"", 0}};
    if (read_varint(in, &key) && key >> 3 > 0 && key >> 3 <= 536870911) {
        f->number = (uint32_t)(key >> 3);
        f->wire = (enum wire)(key & 7);
        switch (f->wire) {
        case WIRE_VARINT:
            is_good = read_varint(in, &f->value);
            break;
        case WIRE_FIXED64:
            is_good = read_fixed(in, 8, &f->value);
            break;
        case WIRE_FIXED32:
            is_good = read_fixed(in, 4, &f->value);
            break;
        case WIRE_BYTES:
            is_good = read_varint(in, &f->value) && f->value <= in->len;
            if (is_good) {
                f->bytes = (struct span){in->at, (size_t)f->value};
                in->at += f->value;
                in->len -= (size_t)f->value;
            }
            break;
        }
    }
    r->is_broken = !is_good;
    return is_good;
}

static bool is_bytes(const struct field *f, uint32_t number)
{
    return f->number == number && f->wire == WIRE_BYTES;
}

static double as_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

uint64_t otlp_hash(struct span bytes)
{
    static const uint64_t key[2] = {1, 2}; /* who may choose attributes may choose names too */
    return siphash(key, bytes);
}

uint64_t otlp_series(const uint64_t sums[3], struct span name)
{
    const uint64_t all[4] = {sums[0], sums[1], sums[2], otlp_hash(name)};
    return otlp_hash((struct span){(const char *)all, sizeof all});
}

/* What all data points have: 2 start, 3 time, and attributes with a number of their own. */
static void read_identity(struct reading *r, struct span in, uint32_t attributes,
                          struct otlp_sample *s)
{
    struct field f;
    uint64_t sums[3] = {r->resource, r->scope, 0};
    s->start_ns = s->time_ns = 0;
    while (next_field(r, &in, &f)) {
        if (is_bytes(&f, attributes))
            sums[2] += otlp_hash(f.bytes);
        else if (f.number == 2 && f.wire == WIRE_FIXED64)
            s->start_ns = f.value;
        else if (f.number == 3 && f.wire == WIRE_FIXED64)
            s->time_ns = f.value;
    }
    s->series = otlp_series(sums, s->name);
}

/* NumberDataPoint: 4 double, 6 signed integer, 8 flags (1: no value). */
static void read_number(struct reading *r, struct span in, struct otlp_sample *s)
{
    struct field f;
    bool has_value = false;
    while (next_field(r, &in, &f)) {
        if (f.number == 4 && f.wire == WIRE_FIXED64)
            s->value = as_double(f.value), has_value = true;
        else if (f.number == 6 && f.wire == WIRE_FIXED64)
            s->value = (double)(int64_t)f.value, has_value = true;
        else if (f.number == 8 && f.wire == WIRE_VARINT && (f.value & 1)) {
            has_value = false;
            break;
        }
    }
    s->weight = 1;
    if (has_value && !r->is_broken)
        r->each(r->arg, s);
}

/* Histograms and summaries: 4 count, 5 sum, which a histogram may leave out. */
static void read_mean(struct reading *r, struct span in, struct otlp_sample *s)
{
    struct field f;
    double sum = NAN;
    uint64_t count = 0;
    while (next_field(r, &in, &f)) {
        if (f.number == 4 && f.wire == WIRE_FIXED64)
            count = f.value;
        else if (f.number == 5 && f.wire == WIRE_FIXED64)
            sum = as_double(f.value);
    }
    if (count == 0 || r->is_broken)
        return;
    s->weight = (double)count;
    s->value = s->is_total ? sum : sum / (double)count;
    r->each(r->arg, s);
}

/* <number>: of the kind in Metric; it says where a point has its attributes.  2 of a sum or
 * histogram: 2 cumulative; 3 of a sum: it never falls.  A summary is cumulative. */
static void read_points(struct reading *r, struct span in, uint32_t number, struct otlp_sample *s)
{
    struct field f;
    bool is_cumulative = number == 11, is_monotonic = number != 7;
    for (struct span rest = in; next_field(r, &rest, &f);) {
        if (f.number == 2 && f.wire == WIRE_VARINT)
            is_cumulative = f.value == 2;
        if (f.number == 3 && f.wire == WIRE_VARINT && number == 7)
            is_monotonic = f.value != 0;
    }
    s->is_total = number != 5 && is_cumulative && is_monotonic;
    while (next_field(r, &in, &f))
        if (is_bytes(&f, 1)) {
            if (s->is_total)
                read_identity(r, f.bytes, number == 9 ? 9 : number == 10 ? 1 : 7, s);
            if (s->kind == OTLP_MEAN)
                read_mean(r, f.bytes, s);
            else
                read_number(r, f.bytes, s);
        }
}

/* Metric: 1 name, 5 gauge, 7 sum, 9 10 11 histograms and summary; the name may come last. */
static void read_metric(struct reading *r, struct span in)
{
    struct otlp_sample s = {.service = r->service, .name = {"", 0}};
    struct field f;
    for (struct span rest = in; next_field(r, &rest, &f);)
        if (is_bytes(&f, 1))
            s.name = f.bytes;
    while (next_field(r, &in, &f)) {
        bool is_mean = f.number >= 9 && f.number <= 11;
        if (f.wire != WIRE_BYTES || !(f.number == 5 || f.number == 7 || is_mean))
            continue;
        s.kind = f.number == 5 ? OTLP_GAUGE : f.number == 7 ? OTLP_SUM : OTLP_MEAN;
        read_points(r, f.bytes, f.number, &s);
    }
}

const char *otlp_severity_name(uint64_t number)
{
    static const char *const names[] = {"otel.logs.trace", "otel.logs.debug", "otel.logs.info",
                                        "otel.logs.warn",  "otel.logs.error", "otel.logs.fatal"};
    return number >= 1 && number <= 24 ? names[(number - 1) / 4] : "otel.logs.none";
}

/* LogRecord: 2 severity. */
static void read_log(struct reading *r, struct span in)
{
    struct field f;
    uint64_t severity = 0;
    while (next_field(r, &in, &f))
        if (f.number == 2 && f.wire == WIRE_VARINT)
            severity = f.value;
    struct otlp_sample s = {.kind = OTLP_SUM,
                            .service = r->service,
                            .name = span_of(otlp_severity_name(severity)),
                            .value = 1,
                            .weight = 1};
    if (!r->is_broken)
        r->each(r->arg, &s);
}

/* Span: 5 name, 7 start, 8 end in ns. */
static void read_span(struct reading *r, struct span in)
{
    struct otlp_sample s = {.kind = OTLP_MEAN, .service = r->service, .name = {"", 0}, .weight = 1};
    struct field f;
    uint64_t start = 0, end = 0;
    while (next_field(r, &in, &f)) {
        if (is_bytes(&f, 5))
            s.name = f.bytes;
        else if (f.number == 7 && f.wire == WIRE_FIXED64)
            start = f.value;
        else if (f.number == 8 && f.wire == WIRE_FIXED64)
            end = f.value;
    }
    s.value = (double)fb_sub_floor_u64(end, start) / 1e6;
    if (!r->is_broken)
        r->each(r->arg, &s);
}

/* KeyValue of a resource: 1 key, 2 value with 1 text. */
static void read_attribute(struct reading *r, struct span in)
{
    struct field f, inner;
    bool is_service = false;
    struct span text = {"", 0};
    while (next_field(r, &in, &f)) {
        if (is_bytes(&f, 1))
            is_service = span_eq(f.bytes, SPAN("service.name"));
        for (struct span value = is_bytes(&f, 2) ? f.bytes : SPAN("");
             next_field(r, &value, &inner);)
            if (is_bytes(&inner, 1))
                text = inner.bytes;
    }
    if (is_service)
        r->service = text;
}

static void read_resource_part(struct reading *r, enum otlp_signal signal, struct span in)
{
    static void (*const read[])(struct reading *, struct span) = {read_metric, read_log, read_span};
    struct field f, inner;
    r->service = (struct span){"", 0};
    r->resource = 0;
    for (struct span rest = in; next_field(r, &rest, &f);)
        for (struct span resource = is_bytes(&f, 1) ? f.bytes : SPAN("");
             next_field(r, &resource, &inner);)
            if (is_bytes(&inner, 1)) {
                read_attribute(r, inner.bytes);
                r->resource += otlp_hash(inner.bytes);
            }
    while (next_field(r, &in, &f)) {
        struct span scope = is_bytes(&f, 2) ? f.bytes : SPAN("");
        r->scope = 0;
        for (struct span rest = scope; next_field(r, &rest, &inner);)
            if (is_bytes(&inner, 1))
                r->scope = otlp_hash(inner.bytes);
        while (next_field(r, &scope, &inner))
            if (is_bytes(&inner, 2))
                read[signal](r, inner.bytes);
    }
}

bool otlp_read(enum otlp_signal signal, struct span bytes, otlp_each *each, void *arg)
{
    struct reading r = {.each = each, .arg = arg, .service = {"", 0}};
    struct field f;
    while (next_field(&r, &bytes, &f))
        if (is_bytes(&f, 1))
            read_resource_part(&r, signal, f.bytes);
    return !r.is_broken;
}
