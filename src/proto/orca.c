/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/orca.h"

#include <math.h>
#include <string.h>

#define BINARY_BYTES_MAX 2048

static bool parse_text(struct span s, struct orca *r, double *cpu);
static bool parse_json(struct span s, struct orca *r, double *cpu);
static bool parse_base64(struct span s, struct orca *r, double *cpu);

enum orca_field orca_field(struct span name)
{
    if (span_ieq(name, SPAN("endpoint-load-metrics")))
        return ORCA_FIELD;
    return span_ieq(name, SPAN("endpoint-load-metrics-bin")) ? ORCA_FIELD_BIN : ORCA_NONE;
}

bool orca_parse(enum orca_field field, struct span value, struct orca *report)
{
    double cpu = -1;
    struct span rest;
    *report = (struct orca){-1, -1, -1};
    value = span_trim(value);
    bool is_good = false;
    if (field == ORCA_FIELD_BIN) {
        is_good = parse_base64(value, report, &cpu);
    } else if (field == ORCA_FIELD) {
        struct span form = span_cut(value, ' ', &rest);
        rest = span_trim(rest);
        is_good = span_eq(form, SPAN("TEXT"))   ? parse_text(rest, report, &cpu)
                  : span_eq(form, SPAN("JSON")) ? parse_json(rest, report, &cpu)
                  : span_eq(form, SPAN("BIN"))  ? parse_base64(rest, report, &cpu)
                                                : parse_text(value, report, &cpu);
    }
    /* protobuf leaves a zero out: an application that says nothing says 0 */
    if (report->utilisation <= 0)
        report->utilisation = cpu;
    return is_good && (report->utilisation >= 0 || report->per_s >= 0 || report->err_per_s >= 0);
}

static double *field_of(struct span name, struct orca *r, double *cpu)
{
    if (span_eq(name, SPAN("cpu_utilization")) || span_eq(name, SPAN("cpuUtilization")))
        return cpu;
    if (span_eq(name, SPAN("application_utilization")) ||
        span_eq(name, SPAN("applicationUtilization")))
        return &r->utilisation;
    if (span_eq(name, SPAN("rps_fractional")) || span_eq(name, SPAN("rpsFractional")))
        return &r->per_s;
    return span_eq(name, SPAN("eps")) ? &r->err_per_s : NULL;
}

/* Digits, a dot, an exponent; not negative, not above 10^9.  Takes it from the front of <s>. */
static bool take_number(struct span *s, double *value)
{
    double v = 0, unit = 1;
    size_t at = 0, digits = 0;
    for (; at < s->len && s->at[at] >= '0' && s->at[at] <= '9'; at++, digits++)
        v = v * 10 + (s->at[at] - '0');
    if (at < s->len && s->at[at] == '.')
        for (at++; at < s->len && s->at[at] >= '0' && s->at[at] <= '9'; at++, digits++)
            v += (s->at[at] - '0') * (unit /= 10);
    if (digits == 0 || digits > 60)
        return false;
    if (at < s->len && (s->at[at] == 'e' || s->at[at] == 'E')) {
        int exponent = 0, sign = 1;
        if (++at < s->len && (s->at[at] == '-' || s->at[at] == '+'))
            sign = s->at[at++] == '-' ? -1 : 1;
        size_t from = at;
        for (; at < s->len && s->at[at] >= '0' && s->at[at] <= '9' && at < from + 3; at++)
            exponent = exponent * 10 + (s->at[at] - '0');
        if (at == from)
            return false;
        v *= pow(10, sign * exponent);
    }
    if (!(v >= 0 && v <= 1e9))
        return false;
    *value = v;
    *s = (struct span){s->at + at, s->len - at};
    return true;
}

/* ---- key=value, key=value ---- */

static bool parse_text(struct span s, struct orca *r, double *cpu)
{
    while (s.len) {
        struct span value;
        struct span pair = span_trim(span_cut(s, ',', &s));
        struct span name = span_trim(span_cut(pair, '=', &value));
        if (name.len == pair.len) /* Envoy reads "key:value" too */
            name = span_trim(span_cut(pair, ':', &value));
        double *to = field_of(name, r, cpu);
        value = span_trim(value);
        if (to && (!take_number(&value, to) || value.len))
            return false;
    }
    return true;
}

/* ---- JSON: numbers of the outermost object; everything else is stepped over ---- */

static bool take_string(struct span *s, struct span *text)
{
    size_t at = 1;
    if (s->len == 0 || s->at[0] != '"')
        return false;
    while (at < s->len && s->at[at] != '"')
        at += s->at[at] == '\\' ? 2 : 1;
    if (at >= s->len)
        return false;
    *text = (struct span){s->at + 1, at - 1};
    *s = (struct span){s->at + at + 1, s->len - at - 1};
    return true;
}

/* A whole value, however deep: brackets are counted, strings read as such. */
static bool skip_value(struct span *s)
{
    size_t depth = 0;
    struct span text;
    while (s->len) {
        char c = s->at[0];
        if (c == '"') {
            if (!take_string(s, &text))
                return false;
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}'))
            return true;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        *s = (struct span){s->at + 1, s->len - 1};
    }
    return false;
}

static void blanks(struct span *s)
{
    while (s->len && (s->at[0] == ' ' || s->at[0] == '\t'))
        *s = (struct span){s->at + 1, s->len - 1};
}

static bool take_char(struct span *s, char c)
{
    blanks(s);
    if (s->len == 0 || s->at[0] != c)
        return false;
    *s = (struct span){s->at + 1, s->len - 1};
    blanks(s);
    return true;
}

static bool parse_json(struct span s, struct orca *r, double *cpu)
{
    struct span name;
    if (!take_char(&s, '{'))
        return false;
    if (take_char(&s, '}'))
        return s.len == 0;
    do {
        if (!take_string(&s, &name) || !take_char(&s, ':'))
            return false;
        double *to = field_of(name, r, cpu);
        if (to ? !take_number(&s, to) : !skip_value(&s))
            return false;
    } while (take_char(&s, ','));
    return take_char(&s, '}') && s.len == 0;
}

/* ---- protobuf ---- */

static bool take_varint(struct span *s, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && s->len; shift += 7) {
        unsigned char c = (unsigned char)s->at[0];
        *s = (struct span){s->at + 1, s->len - 1};
        *value |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            return true;
    }
    return false;
}

static bool parse_binary(struct span s, struct orca *r, double *cpu)
{
    while (s.len) {
        uint64_t tag, n;
        if (!take_varint(&s, &tag))
            return false;
        double *to = tag >> 3 == 1   ? cpu
                     : tag >> 3 == 6 ? &r->per_s
                     : tag >> 3 == 7 ? &r->err_per_s
                     : tag >> 3 == 9 ? &r->utilisation
                                     : NULL;
        switch (tag & 7) {
        case 0:
            if (!take_varint(&s, &n))
                return false;
            n = 0;
            break;
        case 1:
            n = 8;
            break;
        case 2:
            if (!take_varint(&s, &n))
                return false;
            break;
        case 5:
            n = 4;
            break;
        default:
            return false;
        }
        if (n > s.len)
            return false;
        if (to && (tag & 7) == 1) {
            uint64_t bits = 0;
            double v;
            for (int i = 7; i >= 0; i--)
                bits = bits << 8 | (unsigned char)s.at[i];
            memcpy(&v, &bits, sizeof v);
            if (!(v >= 0 && v <= 1e9))
                return false;
            *to = v;
        }
        s = (struct span){s.at + n, s.len - n};
    }
    return true;
}

static int digit_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : -1;
}

static bool parse_base64(struct span s, struct orca *r, double *cpu)
{
    char bytes[BINARY_BYTES_MAX];
    size_t len = 0;
    uint32_t bits = 0, have = 0;
    while (s.len && s.at[s.len - 1] == '=')
        s.len--;
    if (s.len > sizeof bytes)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        int digit = digit_of(s.at[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[len++] = (char)(bits >> have & 0xff);
        }
    }
    return parse_binary((struct span){bytes, len}, r, cpu);
}
