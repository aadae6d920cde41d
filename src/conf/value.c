/* SPDX-License-Identifier: Apache-2.0 */
/* Text of one value to a number and back.  Exact: integers are read as integers, and a fraction is
 * scaled by its decimal digits, so 0.1s is 100 ms and not 99. */
#include "conf/conf_int.h"

#include <arpa/inet.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t scale;
};
static const struct unit dur_units[] = {
    {"us", 1},
    {"ms", 1000},
    {"s", US_PER_S},
    {"m", 60 * US_PER_S},
    {"h", 3600 * US_PER_S},
    {"d", 86400 * US_PER_S},
};
static const struct unit byte_units[] = {
    {"B", 1},
    {"KiB", 1024},
    {"MiB", 1024 * 1024},
    {"GiB", 1024 * 1024 * 1024},
    {"TiB", UINT64_C(1) << 40},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "12.5ms" of <s>: 12.5 x scale added to *sum, *s moves behind it. */
static enum value_fault add_quantity(struct span *s, const struct unit *units, size_t unit_count,
                                     uint64_t *sum)
{
    uint64_t whole = 0, part = 0, part_scale = 1;
    size_t at = 0;
    if (s->len == 0 || !is_digit(s->at[0]))
        return VALUE_BAD;
    for (; at < s->len && is_digit(s->at[at]); at++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(s->at[at] - '0'), &whole))
            return VALUE_TOO_LARGE;
    if (at < s->len && s->at[at] == '.') {
        size_t digits = 0;
        for (at++; at < s->len && is_digit(s->at[at]); at++, digits++) {
            if (digits == 6)
                return VALUE_TOO_FINE;
            part = part * 10 + (uint64_t)(s->at[at] - '0');
            part_scale *= 10;
        }
        if (digits == 0)
            return VALUE_BAD;
    }
    size_t name_at = at;
    while (at < s->len && !is_digit(s->at[at]))
        at++;
    struct span name = {s->at + name_at, at - name_at};
    if (name.len == 0)
        return VALUE_NO_UNIT;
    for (size_t i = 0; i < unit_count; i++) {
        if (!span_eq(name, span_of(units[i].name)))
            continue;
        uint64_t scaled, fraction;
        if (__builtin_mul_overflow(whole, units[i].scale, &scaled) ||
            __builtin_mul_overflow(part, units[i].scale, &fraction))
            return VALUE_TOO_LARGE;
        if (fraction % part_scale)
            return VALUE_TOO_FINE;
        if (__builtin_add_overflow(scaled, fraction / part_scale, &scaled) ||
            __builtin_add_overflow(*sum, scaled, sum))
            return VALUE_TOO_LARGE;
        *s = (struct span){s->at + at, s->len - at};
        return VALUE_OK;
    }
    return VALUE_BAD;
}

enum value_fault value_dur_us(struct span s, uint64_t *us)
{
    uint64_t sum = 0;
    if (span_eq(s, SPAN("0"))) {
        *us = 0;
        return VALUE_OK;
    }
    if (s.len == 0)
        return VALUE_BAD;
    while (s.len) { /* "1h30m" */
        enum value_fault fault = add_quantity(&s, dur_units, FB_COUNT(dur_units), &sum);
        if (fault != VALUE_OK)
            return fault;
    }
    *us = sum;
    return VALUE_OK;
}

enum value_fault value_bytes(struct span s, uint64_t *bytes)
{
    uint64_t sum = 0;
    if (span_eq(s, SPAN("0"))) {
        *bytes = 0;
        return VALUE_OK;
    }
    struct span rest = s;
    enum value_fault fault = add_quantity(&rest, byte_units, FB_COUNT(byte_units), &sum);
    if (fault == VALUE_BAD && s.len && is_digit(s.at[0])) {
        char last = s.at[s.len - 1];
        if (last == 'k' || last == 'K' || last == 'M' || last == 'G' || last == 'T' ||
            last == 'b' || last == 'B')
            return VALUE_DECIMAL_UNIT;
    }
    if (fault != VALUE_OK)
        return fault;
    if (rest.len)
        return VALUE_BAD;
    *bytes = sum;
    return VALUE_OK;
}

enum value_fault value_rate(struct span s, uint64_t *bytes_per_s)
{
    if (span_eq(s, SPAN("0"))) {
        *bytes_per_s = 0;
        return VALUE_OK;
    }
    if (s.len < 3 || memcmp(s.at + s.len - 2, "/s", 2) != 0) {
        uint64_t ignored;
        enum value_fault fault = value_bytes(s, &ignored);
        return fault == VALUE_OK || fault == VALUE_NO_UNIT ? VALUE_NO_UNIT : fault;
    }
    return value_bytes((struct span){s.at, s.len - 2}, bytes_per_s);
}

/* "100/s", "5000/h", "100/10s". */
enum value_fault value_per(struct span s, uint64_t *count, uint64_t *period_us)
{
    struct span rest;
    const char *slash = memchr(s.at, '/', s.len);
    if (!slash)
        return s.len && is_digit(s.at[0]) ? VALUE_NO_UNIT : VALUE_BAD;
    enum value_fault fault = value_count(span_trim(span_cut(s, '/', &rest)), count);
    if (fault != VALUE_OK)
        return fault;
    rest = span_trim(rest);
    bool is_bare = rest.len && !is_digit(rest.at[0]);
    for (size_t i = 0; is_bare && i < FB_COUNT(dur_units); i++) {
        if (!span_eq(rest, span_of(dur_units[i].name)))
            continue;
        *period_us = dur_units[i].scale;
        return *period_us < US_PER_S ? VALUE_TOO_FINE : VALUE_OK;
    }
    if (is_bare || rest.len == 0)
        return VALUE_BAD;
    fault = value_dur_us(rest, period_us);
    if (fault == VALUE_OK && (*period_us == 0 || *period_us % US_PER_S))
        return VALUE_TOO_FINE;
    return fault == VALUE_NO_UNIT ? VALUE_BAD : fault;
}

enum value_fault value_count(struct span s, uint64_t *count)
{
    if (span_to_u64(s, count))
        return VALUE_OK;
    for (size_t i = 0; i < s.len; i++)
        if (!is_digit(s.at[i]))
            return VALUE_BAD;
    return s.len ? VALUE_TOO_LARGE : VALUE_BAD;
}

enum value_fault value_number(struct span s, double *number)
{
    double value = 0, place = 1;
    size_t at = 0, digits = 0;
    if (s.len > 24)
        return VALUE_BAD;
    for (; at < s.len && is_digit(s.at[at]); at++, digits++)
        value = value * 10 + (s.at[at] - '0');
    if (at < s.len && s.at[at] == '.' && digits) {
        for (at++, digits = 0; at < s.len && is_digit(s.at[at]); at++, digits++) {
            value = value * 10 +
                    (s.at[at] - '0'); /* one division at the end: 99.9 is the nearest double */
            place *= 10;
        }
    }
    if (digits == 0 || at < s.len)
        return VALUE_BAD;
    *number = value / place;
    return VALUE_OK;
}

enum value_fault value_pct(struct span s, double *pct)
{
    if (s.len == 0 || s.at[s.len - 1] != '%') {
        double ignored;
        return value_number(s, &ignored) == VALUE_OK ? VALUE_NO_UNIT : VALUE_BAD;
    }
    return value_number(span_trim((struct span){s.at, s.len - 1}), pct);
}

enum value_fault value_bool(struct span s, bool *value)
{
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < FB_COUNT(yes); i++) {
        if (span_eq(s, span_of(yes[i])) || span_eq(s, span_of(no[i]))) {
            *value = span_eq(s, span_of(yes[i]));
            return VALUE_OK;
        }
    }
    return VALUE_BAD;
}

int value_word(struct span s, const char *words)
{
    struct span rest = span_of(words);
    for (int i = 0; rest.len; i++)
        if (span_eq(s, span_cut(rest, '|', &rest)))
            return i;
    return -1;
}

enum value_fault value_of_type(enum conf_type type, struct span s, uint64_t *value)
{
    enum value_fault fault = VALUE_BAD;
    bool is_on;
    double pct = 0;
    switch (type) {
    case CONF_TYPE_u32:
        return value_count(s, value);
    case CONF_TYPE_bytes:
        return value_bytes(s, value);
    case CONF_TYPE_rate:
        return value_rate(s, value);
    case CONF_TYPE_pct:
        fault = value_pct(s, &pct);
        *value = (uint64_t)pct;
        return fault == VALUE_OK && pct > (double)*value ? VALUE_TOO_FINE : fault;
    case CONF_TYPE_dur:
        fault = value_dur_us(s, value);
        if (fault != VALUE_OK)
            return fault;
        if (*value % 1000)
            return VALUE_TOO_FINE;
        *value /= 1000;
        return VALUE_OK;
    case CONF_TYPE_bool:
        fault = value_bool(s, &is_on);
        if (fault == VALUE_OK)
            *value = is_on;
        return fault;
    case CONF_TYPE_str:
    case CONF_TYPE_word:
    case CONF_TYPE_words:
        break;
    }
    return fault;
}

const char *value_unit_hint(enum conf_type type)
{
    switch (type) {
    case CONF_TYPE_dur:
        return "10s (us, ms, s, m, h, d)";
    case CONF_TYPE_bytes:
        return "8KiB (B, KiB, MiB, GiB, TiB)";
    case CONF_TYPE_pct:
        return "80%";
    case CONF_TYPE_rate:
        return "500B/s (B/s, KiB/s, MiB/s)";
    default:
        return "a whole number";
    }
}

static void print_scaled(uint64_t value, const struct unit *units, size_t unit_count,
                         struct buf *out)
{
    size_t at = unit_count - 1;
    while (at > 0 && value % units[at].scale)
        at--;
    buf_printf(out, "%llu%s", (unsigned long long)(value / units[at].scale), units[at].name);
}

void value_print(enum conf_type type, uint64_t value, struct buf *out)
{
    /* 60s and 120s read better than 1m and 2m, and 1h better than 3600s. */
    static const struct unit print_ms[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    switch (type) {
    case CONF_TYPE_dur:
        if (value == 0)
            buf_puts(out, "0");
        else
            print_scaled(value, print_ms, value <= 120000 ? 2 : FB_COUNT(print_ms), out);
        return;
    case CONF_TYPE_bytes:
    case CONF_TYPE_rate:
        if (value == 0) {
            buf_puts(out, "0");
            return;
        }
        print_scaled(value, byte_units, FB_COUNT(byte_units), out);
        if (type == CONF_TYPE_rate)
            buf_puts(out, "/s");
        return;
    case CONF_TYPE_bool:
        buf_puts(out, value ? "true" : "false");
        return;
    case CONF_TYPE_pct:
        buf_printf(out, "%llu%%", (unsigned long long)value);
        return;
    case CONF_TYPE_u32:
    case CONF_TYPE_word:
    case CONF_TYPE_words:
    case CONF_TYPE_str:
        buf_printf(out, "%llu", (unsigned long long)value);
        return;
    }
}

bool value_address(struct span s, struct span *host, uint16_t *port)
{
    uint64_t number;
    size_t colon = s.len;
    while (colon > 0 && s.at[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return false;
    struct span digits = {s.at + colon, s.len - colon};
    if (digits.len > 5 || !span_to_u64(digits, &number) || number > 65535)
        return false;
    *port = (uint16_t)number;
    *host = (struct span){s.at, colon - 1};
    if (host->len && host->at[0] == '[') {
        if (host->len < 4 || host->at[host->len - 1] != ']')
            return false;
        *host = (struct span){host->at + 1, host->len - 2};
        return memchr(host->at, ':', host->len) != NULL && value_is_number_host(*host);
    }
    return host->len == 0 || !memchr(host->at, ':', host->len); /* IPv6 needs its brackets */
}

bool value_is_number_host(struct span host)
{
    char text[64];
    unsigned char bytes[16];
    if (host.len == 0 || host.len >= sizeof text)
        return false;
    memcpy(text, host.at, host.len);
    text[host.len] = 0;
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

bool value_is_name(struct span host)
{
    if (host.len == 0 || host.len > 253 || host.at[0] == '.' || host.at[0] == '-')
        return false;
    bool has_letter = false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        has_letter |= is_letter;
        if (!is_letter && !is_digit(c) && c != '-' && c != '_' && c != '.')
            return false;
        if (c == '.' && i + 1 < host.len && host.at[i + 1] == '.')
            return false;
    }
    return has_letter; /* 10.0.0 and 300.1.1.1 are typing errors, not names */
}
