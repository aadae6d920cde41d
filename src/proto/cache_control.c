/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cache_control.h"

static void directive(struct cache_directives *d, struct span name, struct span value,
                      bool is_quoted);
static bool read_list(struct cache_directives *d, struct span list);
static int64_t seconds(struct span value);

static const struct cache_directives nothing = {.max_age = CACHE_NO_SECONDS,
                                                .s_maxage = CACHE_NO_SECONDS,
                                                .stale_while_revalidate = CACHE_NO_SECONDS,
                                                .stale_if_error = CACHE_NO_SECONDS,
                                                .max_stale = CACHE_NO_SECONDS,
                                                .min_fresh = CACHE_NO_SECONDS};

void cache_directives_read(const struct http1_head *head, struct cache_directives *out)
{
    *out = nothing;
    if (!http1_has(head, HTTP1_H_CACHE_CONTROL))
        return;
    for (uint32_t i = 0; i < head->field_count; i++)
        if (head->fields[i].id == HTTP1_H_CACHE_CONTROL)
            read_list(out, head->fields[i].value);
}

bool cache_targeted_read(const struct http1_head *head, struct span name,
                         struct cache_directives *out)
{
    bool is_good = true;
    *out = nothing;
    for (uint32_t i = 0; i < head->field_count; i++)
        if (head->fields[i].id == HTTP1_H_OTHER && span_ieq(head->fields[i].name, name))
            is_good &= read_list(out, head->fields[i].value);
    return is_good && out->is_given;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t skip_blanks(struct span s, size_t at)
{
    while (at < s.len && is_blank(s.at[at]))
        at++;
    return at;
}

/* A key of a structured field (RFC 9651 3.1.2), and seconds that are an integer. */
static bool is_structured(struct span name, struct span value, bool is_quoted)
{
    static const char *const numbers[] = {"max-age", "s-maxage", "stale-while-revalidate",
                                          "stale-if-error"};
    if (name.len == 0 || !((name.at[0] >= 'a' && name.at[0] <= 'z') || name.at[0] == '*'))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || memchr("_-.*", c, 4)))
            return false;
    }
    for (size_t i = 0; i < FB_COUNT(numbers); i++) {
        uint64_t n;
        if (span_eq(name, span_of(numbers[i])) && (is_quoted || !span_to_u64(value, &n)))
            return false;
    }
    return true;
}

/* "a, b=1, c="x, y"".  False when it is no structured field (what is a directive counts all the
 * same). */
static bool read_list(struct cache_directives *d, struct span list)
{
    bool is_good = true;
    size_t at = 0;
    while ((at = skip_blanks(list, at)) < list.len) {
        size_t from = at;
        if (list.at[at] == ',') {
            at++;
            continue;
        }
        while (at < list.len && list.at[at] != '=' && list.at[at] != ',')
            at++;
        struct span name = {list.at + from, at - from}, value = {NULL, 0};
        bool is_quoted = false;
        if (at < list.len && list.at[at] == '=') {
            at++;
            from = at;
            is_quoted = at < list.len && list.at[at] == '"';
            if (is_quoted) {
                from = ++at;
                while (at < list.len && list.at[at] != '"')
                    at += list.at[at] == '\\' && at + 1 < list.len ? 2 : 1;
                value = (struct span){list.at + from, at - from};
                is_good &= at < list.len;
                at = at < list.len ? at + 1 : at;
            }
            size_t rest = at;
            while (at < list.len && list.at[at] != ',')
                at++;
            if (!is_quoted)
                value = (struct span){list.at + from, at - from};
            else if (skip_blanks(list, rest) < at)
                is_good = false;
        }
        /* "max-age =1" is another directive: a name holds no blank */
        while (value.len && !is_quoted && is_blank(value.at[value.len - 1]))
            value.len--;
        if (!value.at)
            name = span_trim(name);
        is_good &= is_structured(name, value, is_quoted);
        if (http1_is_token(name))
            directive(d, name, value, is_quoted);
    }
    return is_good;
}

static void least(int64_t *field, int64_t value)
{
    if (*field == CACHE_NO_SECONDS || value < *field)
        *field = value;
}

static void directive(struct cache_directives *d, struct span name, struct span value,
                      bool is_quoted)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } words[] = {{"no-store", CACHE_NO_STORE},
                 {"public", CACHE_PUBLIC},
                 {"must-revalidate", CACHE_MUST_REVALIDATE},
                 {"proxy-revalidate", CACHE_PROXY_REVALIDATE},
                 {"must-understand", CACHE_MUST_UNDERSTAND},
                 {"only-if-cached", CACHE_ONLY_IF_CACHED},
                 {"no-transform", CACHE_NO_TRANSFORM},
                 {"immutable", CACHE_IMMUTABLE}};
    d->is_given = true;
    for (size_t i = 0; i < FB_COUNT(words); i++)
        if (span_ieq(name, span_of(words[i].name))) {
            d->flags |= words[i].flag;
            return;
        }
    if (span_ieq(name, SPAN("no-cache"))) {
        d->flags |= is_quoted && value.len ? CACHE_NO_CACHE_FIELDS : CACHE_NO_CACHE;
        d->no_cache_fields = value;
    } else if (span_ieq(name, SPAN("private"))) {
        d->flags |= is_quoted && value.len ? CACHE_PRIVATE_FIELDS : CACHE_PRIVATE;
        d->private_fields = value;
    } else if (span_ieq(name, SPAN("max-age"))) {
        least(&d->max_age, seconds(value));
    } else if (span_ieq(name, SPAN("s-maxage"))) {
        least(&d->s_maxage, seconds(value));
    } else if (span_ieq(name, SPAN("stale-while-revalidate"))) {
        least(&d->stale_while_revalidate, seconds(value));
    } else if (span_ieq(name, SPAN("stale-if-error"))) {
        least(&d->stale_if_error, seconds(value));
    } else if (span_ieq(name, SPAN("min-fresh"))) {
        d->min_fresh = seconds(value);
    } else if (span_ieq(name, SPAN("max-stale"))) {
        d->max_stale = value.len ? seconds(value) : CACHE_SECONDS_MAX;
    }
}

/* 0 for what is no number: an answer whose lifetime nobody can read is stale. */
static int64_t seconds(struct span value)
{
    int64_t n = 0;
    if (value.len == 0)
        return 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return 0;
        n = n * 10 + (value.at[i] - '0');
        if (n > CACHE_SECONDS_MAX)
            n = CACHE_SECONDS_MAX;
    }
    return n;
}

int64_t cache_age_read(const struct http1_head *head)
{
    if (!http1_has(head, HTTP1_H_AGE))
        return 0;
    struct span rest = http1_find(head, HTTP1_H_AGE)->value;
    struct span first = span_trim(span_cut(rest, ',', &rest));
    size_t digits = 0;
    while (digits < first.len && first.at[digits] >= '0' && first.at[digits] <= '9')
        digits++;
    return digits < first.len ? 0 : seconds(first);
}

/* ---- dates ---- */

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};

/* Days since 1970-01-01 of the proleptic Gregorian calendar (H. Hinnant's civil algorithm). */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void civil_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

/* <count> digits at *at; -1 otherwise. */
static int digits(struct span s, size_t *at, size_t count)
{
    int n = 0;
    if (*at + count > s.len)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char c = s.at[*at + i];
        if (c < '0' || c > '9')
            return -1;
        n = n * 10 + (c - '0');
    }
    *at += count;
    return n;
}

static bool mark(struct span s, size_t *at, const char *text)
{
    size_t len = strlen(text);
    if (*at + len > s.len || strncasecmp(s.at + *at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

static int month_of(struct span s, size_t *at)
{
    for (int i = 0; i < 12; i++)
        if (mark(s, at, month_names[i]))
            return i + 1;
    return 0;
}

static bool clock_of(struct span s, size_t *at, int *second_of_day)
{
    int h = digits(s, at, 2);
    bool is_good = h >= 0 && h < 24 && mark(s, at, ":");
    int m = is_good ? digits(s, at, 2) : -1;
    is_good = is_good && m >= 0 && m < 60 && mark(s, at, ":");
    int sec = is_good ? digits(s, at, 2) : -1;
    *second_of_day = h * 3600 + m * 60 + sec;
    return is_good && sec >= 0 && sec <= 60; /* 60: a leap second */
}

/* The name of a day, long or short; *is_long says which. */
static bool day_name(struct span s, size_t *at, bool *is_long)
{
    for (int i = 0; i < 7; i++) {
        char brief[4] = {day_names[i][0], day_names[i][1], day_names[i][2], '\0'};
        *is_long = true;
        if (mark(s, at, day_names[i]))
            return true;
        *is_long = false;
        if (mark(s, at, brief))
            return true;
    }
    return false;
}

int64_t cache_date_parse(struct span s, int64_t now_s)
{
    size_t at = 0;
    bool is_long = false, is_good = day_name(s, &at, &is_long);
    int day = 0, month = 0, year = -1, second = 0;
    if (!is_good)
        return CACHE_NO_DATE;
    if (mark(s, &at, ", ")) {
        const char *sep = is_long ? "-" : " ";
        day = digits(s, &at, 2);
        is_good = mark(s, &at, sep);
        month = month_of(s, &at);
        is_good = is_good && mark(s, &at, sep);
        year = digits(s, &at, is_long ? 2 : 4);
        is_good = is_good && mark(s, &at, " ") && clock_of(s, &at, &second) && mark(s, &at, " GMT");
    } else if (!is_long && mark(s, &at, " ")) { /* asctime */
        month = month_of(s, &at);
        is_good = mark(s, &at, " ");
        day = mark(s, &at, " ") ? digits(s, &at, 1) : digits(s, &at, 2);
        is_good = is_good && mark(s, &at, " ") && clock_of(s, &at, &second) && mark(s, &at, " ");
        year = digits(s, &at, 4);
        is_long = false;
    } else {
        return CACHE_NO_DATE;
    }
    if (!is_good || at != s.len || day < 1 || day > 31 || month < 1 || year < 0)
        return CACHE_NO_DATE;
    if (is_long) { /* more than 50 years ahead is the past (RFC 9110 5.6.7) */
        int64_t now_year;
        int m, d;
        civil_of(now_s / 86400, &now_year, &m, &d);
        int64_t full = now_year - now_year % 100 + year;
        return days_of(full > now_year + 50 ? full - 100 : full, month, day) * 86400 + second;
    }
    return days_of(year, month, day) * 86400 + second;
}

void cache_date_format(int64_t date_s, char out[CACHE_DATE_BYTES])
{
    const int64_t first_s = INT64_C(-62135596800), last_s = INT64_C(253402300799);
    date_s = date_s < first_s ? first_s : date_s > last_s ? last_s : date_s;
    int64_t days = date_s / 86400, rest = date_s % 86400, year;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int month, day;
    civil_of(days, &year, &month, &day);
    int weekday = (int)(((days + 4) % 7 + 7) % 7);
    const int parts[6] = {day,
                          (int)(year / 100),
                          (int)(year % 100),
                          (int)(rest / 3600),
                          (int)(rest / 60 % 60),
                          (int)(rest % 60)};
    static const uint8_t at[6] = {5, 12, 14, 17, 20, 23};
    memcpy(out, "Ddd, 00 Mmm 0000 00:00:00 GMT", CACHE_DATE_BYTES);
    memcpy(out, day_names[weekday], 3);
    memcpy(out + 8, month_names[month - 1], 3);
    for (int i = 0; i < 6; i++) {
        out[at[i]] = (char)('0' + parts[i] / 10);
        out[at[i] + 1] = (char)('0' + parts[i] % 10);
    }
}

/* ---- entity tags, ranges, codings ---- */

static struct span opaque(struct span etag, bool *is_weak)
{
    *is_weak = etag.len >= 2 && etag.at[0] == 'W' && etag.at[1] == '/';
    return *is_weak ? (struct span){etag.at + 2, etag.len - 2} : etag;
}

bool cache_etag_is_valid(struct span etag)
{
    bool is_weak;
    struct span s = opaque(etag, &is_weak);
    return s.len >= 2 && s.at[0] == '"' && s.at[s.len - 1] == '"' &&
           !memchr(s.at + 1, '"', s.len - 2);
}

bool cache_etag_is_in(struct span list, struct span etag, bool is_weak)
{
    bool is_own_weak, is_other_weak;
    struct span own = opaque(etag, &is_own_weak);
    size_t at = 0;
    if (span_eq(span_trim(list), SPAN("*")))
        return true;
    while (at < list.len) {
        while (at < list.len && (is_blank(list.at[at]) || list.at[at] == ','))
            at++;
        size_t from = at;
        bool is_quoted = false;
        while (at < list.len && (is_quoted || list.at[at] != ',')) {
            is_quoted ^= list.at[at] == '"';
            at++;
        }
        struct span one = span_trim((struct span){list.at + from, at - from});
        struct span other = opaque(one, &is_other_weak);
        if (other.len && span_eq(own, other) && (is_weak || (!is_own_weak && !is_other_weak)))
            return true;
    }
    return false;
}

enum cache_range cache_range_parse(struct span value, uint64_t total, uint64_t *first,
                                   uint64_t *last)
{
    struct span rest, from, to;
    struct span unit = span_cut(value, '=', &rest);
    if (!span_ieq(span_trim(unit), SPAN("bytes")) || rest.len == 0 ||
        memchr(rest.at, ',', rest.len) || !memchr(rest.at, '-', rest.len))
        return CACHE_RANGE_NONE;
    from = span_trim(span_cut(rest, '-', &to));
    to = span_trim(to);
    if (from.len == 0) { /* the last <n> bytes */
        uint64_t n;
        if (!span_to_u64(to, &n))
            return CACHE_RANGE_NONE;
        if (n == 0 || total == 0)
            return CACHE_RANGE_BEYOND;
        *first = n < total ? total - n : 0;
        *last = total - 1;
        return CACHE_RANGE_PART;
    }
    uint64_t a, b = UINT64_MAX;
    if (!span_to_u64(from, &a) || (to.len && !span_to_u64(to, &b)) || b < a)
        return CACHE_RANGE_NONE;
    if (a >= total)
        return CACHE_RANGE_BEYOND;
    *first = a;
    *last = b < total - 1 ? b : total - 1;
    return CACHE_RANGE_PART;
}

/* "q=0.5" in thousandths; 1000 when there is none, 0 when it is malformed. */
static uint32_t quality_of(struct span params)
{
    while (params.len) {
        struct span one = span_trim(span_cut(params, ';', &params)), value;
        struct span name = span_trim(span_cut(one, '=', &value));
        value = span_trim(value);
        if (!span_ieq(name, SPAN("q")))
            continue;
        if (value.len == 0 || value.len > 5 || (value.at[0] != '0' && value.at[0] != '1'))
            return 0;
        uint32_t q = (uint32_t)(value.at[0] - '0') * 1000, unit = 100;
        for (size_t i = 1; i < value.len; i++) {
            char c = value.at[i];
            if (i == 1 ? c != '.' : c < '0' || c > '9')
                return 0;
            if (i > 1) {
                q += (uint32_t)(c - '0') * unit;
                unit /= 10;
            }
        }
        return fb_min_u32(q, 1000);
    }
    return 1000;
}

uint32_t cache_coding_quality(const struct http1_head *head, struct span coding)
{
    bool is_identity = span_ieq(coding, SPAN("identity"));
    uint32_t any = is_identity ? 1000 : 0;
    if (!head || !http1_has(head, HTTP1_H_ACCEPT_ENCODING))
        return any;
    for (uint32_t i = 0; i < head->field_count; i++) {
        struct span rest = head->fields[i].value, element;
        if (head->fields[i].id != HTTP1_H_ACCEPT_ENCODING)
            continue;
        while (http1_list_next(&rest, &element)) {
            struct span params;
            struct span name = span_trim(span_cut(element, ';', &params));
            if (span_ieq(name, coding))
                return quality_of(params);
            if (span_eq(name, SPAN("*")))
                any = quality_of(params);
        }
    }
    return any;
}
