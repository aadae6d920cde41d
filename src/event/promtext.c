/* SPDX-License-Identifier: Apache-2.0 */
#include "event/promtext.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_BYTES_MAX 60

static bool take_line(struct promtext *p);
static bool take_comment(struct promtext *p, struct span rest);
static bool take_sample(struct promtext *p, struct span rest);
static bool read_labels(struct promtext *p, struct span *rest, struct prom_sample *s);
static bool read_label(struct promtext *p, struct span *rest, struct span name,
                       struct prom_sample *s);
static bool read_quoted(struct promtext *p, struct span *rest, struct span *value);
static bool read_number(struct span text, double *value);

__attribute__((format(printf, 2, 3))) static bool fail(struct promtext *p, const char *form, ...)
{
    va_list args;
    int len = snprintf(p->why, sizeof p->why, "line %llu: ", (unsigned long long)p->lines);
    va_start(args, form);
    vsnprintf(p->why + len, sizeof p->why - (size_t)len, form, args);
    va_end(args);
    return false;
}

void promtext_init(struct promtext *p, bool is_openmetrics, promtext_each *each, void *arg)
{
    p->each = each;
    p->arg = arg;
    p->is_openmetrics = is_openmetrics;
    p->lines = p->samples = 0;
    p->why[0] = '\0';
    p->is_ended = false;
    p->type = PROM_UNTYPED;
    p->family_len = p->len = 0;
}

bool promtext_feed(struct promtext *p, struct span bytes)
{
    while (bytes.len > 0 && !p->why[0]) {
        const char *end = memchr(bytes.at, '\n', bytes.len);
        size_t len = end ? (size_t)(end - bytes.at) : bytes.len;
        if (len > PROMTEXT_LINE_BYTES_MAX - p->len) {
            p->lines++;
            return fail(p, "longer than %zu bytes", PROMTEXT_LINE_BYTES_MAX);
        }
        memcpy(p->line + p->len, bytes.at, len);
        p->len += len;
        bytes = (struct span){bytes.at + len + (end != NULL), bytes.len - len - (end != NULL)};
        if (end && !take_line(p))
            return false;
    }
    return !p->why[0];
}

bool promtext_end(struct promtext *p)
{
    if (p->why[0])
        return false;
    if (p->is_openmetrics && p->len > 0 && !take_line(p)) /* `# EOF` may have no end of line */
        return false;
    if (p->is_openmetrics && !p->is_ended)
        return fail(p, "it ends without `# EOF`: the page was cut");
    if (p->len > 0) {
        p->lines++;
        return fail(p, "it has no end of line: the page was cut");
    }
    return true;
}

/* ---- words ---- */
static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void skip_blanks(struct span *s)
{
    while (s->len && is_blank(s->at[0])) {
        s->at++;
        s->len--;
    }
}

static struct span cut_word(struct span *s)
{
    size_t len = 0;
    while (len < s->len && !is_blank(s->at[len]))
        len++;
    struct span word = {s->at, len};
    *s = (struct span){s->at + len, s->len - len};
    skip_blanks(s);
    return word;
}

static bool is_name_byte(char c, bool is_first, bool is_label)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9') || (!is_label && c == ':');
}

static struct span cut_name(struct span *s, bool is_label)
{
    size_t len = 0;
    while (len < s->len && is_name_byte(s->at[len], len == 0, is_label))
        len++;
    struct span name = {s->at, len};
    *s = (struct span){s->at + len, s->len - len};
    return name;
}

/* A name between quotes, as `escaping=underscores` has it: http.requests is http_requests, which is
 * what a target writes for a reader that does not ask for UTF-8.  In place; a rune of several bytes
 * is one `_`. */
static bool cut_quoted_name(struct promtext *p, struct span *s, struct span *name)
{
    if (!read_quoted(p, s, name))
        return false;
    char *begin = p->line + (name->at - p->line), *to = begin;
    for (const char *at = begin; at < begin + name->len; at++) {
        if (((unsigned char)*at & 0xc0) == 0x80)
            continue;
        *to = is_name_byte(*at, to == begin, false) ? *at : '_';
        to++;
    }
    name->len = (size_t)(to - begin);
    return true;
}

/* ---- lines ---- */
static bool take_line(struct promtext *p)
{
    struct span rest = {p->line, p->len};
    p->lines++;
    p->len = 0;
    if (p->is_ended)
        return fail(p, "something follows `# EOF`");
    if (rest.len && memchr(rest.at, '\0', rest.len))
        return fail(p, "it holds a zero byte");
    if (rest.len && rest.at[rest.len - 1] == '\r')
        rest.len--;
    skip_blanks(&rest);
    if (rest.len == 0)
        return p->is_openmetrics ? fail(p, "an empty line") : true;
    if (rest.at[0] == '#')
        return take_comment(p, rest);
    return take_sample(p, rest);
}

static bool type_of(struct span word, enum prom_type *type)
{
    static const struct {
        const char *word;
        enum prom_type type;
    } rows[] = {
        {"counter", PROM_COUNTER}, {"gauge", PROM_GAUGE},     {"histogram", PROM_HISTOGRAM},
        {"summary", PROM_SUMMARY}, {"untyped", PROM_UNTYPED}, {"unknown", PROM_UNTYPED},
        {"info", PROM_OTHER},      {"stateset", PROM_OTHER},  {"gaugehistogram", PROM_OTHER}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (span_eq(word, span_of(rows[i].word))) {
            *type = rows[i].type;
            return true;
        }
    return false;
}

/* `# TYPE name type` and `# EOF` mean something; all others are for people. */
static bool take_comment(struct promtext *p, struct span rest)
{
    rest = (struct span){rest.at + 1, rest.len - 1};
    skip_blanks(&rest);
    struct span word = cut_word(&rest);
    if (p->is_openmetrics && span_eq(word, SPAN("EOF"))) {
        p->is_ended = true;
        return true;
    }
    if (!span_eq(word, SPAN("TYPE")))
        return true;
    bool is_quoted = rest.len && rest.at[0] == '"';
    struct span name = {"", 0};
    if (is_quoted && !cut_quoted_name(p, &rest, &name))
        return false;
    if (!is_quoted)
        name = cut_name(&rest, false);
    skip_blanks(&rest);
    if (name.len == 0 || name.len > sizeof p->family)
        return fail(p, "TYPE without a name of 1 to %zu bytes", sizeof p->family);
    if (!type_of(cut_word(&rest), &p->type) || rest.len)
        return fail(p, "the TYPE of %.*s is none of counter, gauge, histogram, summary, untyped",
                    (int)fb_min_u64(name.len, 60), name.at);
    memcpy(p->family, name.at, name.len);
    p->family_len = name.len;
    return true;
}

/* Which part of the family of the last TYPE the sample is; alone when it is none. */
static void place(const struct promtext *p, struct prom_sample *s)
{
    struct span family = {p->family, p->family_len}, end;
    s->family = s->name;
    if (family.len == 0 || !span_starts(s->name, family))
        return;
    end = (struct span){s->name.at + family.len, s->name.len - family.len};
    bool is_parted = p->type == PROM_HISTOGRAM || p->type == PROM_SUMMARY;
    enum prom_part part = PROM_VALUE;
    if (is_parted && span_eq(end, SPAN("_sum")))
        part = PROM_SUM;
    else if (is_parted && span_eq(end, SPAN("_count")))
        part = PROM_COUNT;
    else if (p->type == PROM_HISTOGRAM && span_eq(end, SPAN("_bucket")))
        part = PROM_BUCKET;
    else if (end.len && !(p->type == PROM_COUNTER && span_eq(end, SPAN("_total"))))
        return; /* _created and the like are times */
    s->family = family;
    s->type = p->type;
    s->part = part;
}

static bool take_sample(struct promtext *p, struct span rest)
{
    struct prom_sample s = {.name = cut_name(&rest, false), .label = p->label};
    skip_blanks(&rest);
    if (rest.len && rest.at[0] == '{' && !read_labels(p, &rest, &s))
        return false;
    if (s.name.len == 0 || s.name.len > PROMTEXT_NAME_BYTES_MAX)
        return fail(p, "a name has 1 to %d letters, digits, `_` or `:`", PROMTEXT_NAME_BYTES_MAX);
    skip_blanks(&rest);
    struct span value = cut_word(&rest);
    double number;
    if (!read_number(value, &s.value))
        return fail(p, "%.*s has no number as its value", (int)fb_min_u64(s.name.len, 80),
                    s.name.at);
    bool is_exemplar = p->is_openmetrics && rest.len && rest.at[0] == '#';
    if (rest.len && !is_exemplar && !read_number(cut_word(&rest), &number))
        return fail(p, "the time behind the value is no number");
    if (p->is_openmetrics && rest.len && rest.at[0] == '#')
        rest.len = 0; /* an exemplar: not used */
    if (rest.len)
        return fail(p, "something follows the value");
    place(p, &s);
    p->samples++;
    p->each(p->arg, &s);
    return true;
}

/* The value between quotes, its escapes undone in place; rest is behind the closing quote.  A
 * backslash before any other byte is one, as a path of Windows has it and Prometheus takes it. */
static bool read_quoted(struct promtext *p, struct span *rest, struct span *value)
{
    char *at = p->line + (rest->at + 1 - p->line), *to = at, *end = p->line + (rest->at - p->line);
    end += rest->len;
    char *begin = at;
    for (; at < end && *at != '"'; at++) {
        if (*at == '\\' && at + 1 < end) {
            at++;
            if (!strchr("\\\"n", *at))
                *to++ = '\\';
            *to++ = *at == 'n' ? '\n' : *at;
            continue;
        }
        *to++ = *at;
    }
    if (at == end)
        return fail(p, "the value of a label has no closing quote");
    *value = (struct span){begin, (size_t)(to - begin)};
    *rest = (struct span){at + 1, (size_t)(end - at - 1)};
    return true;
}

/* {name="value",...}, any name between quotes too; a metric whose name is no plain word has it
 * here:
 * {"http.requests",code="200"}. */
static bool read_labels(struct promtext *p, struct span *rest, struct prom_sample *s)
{
    *rest = (struct span){rest->at + 1, rest->len - 1};
    for (bool is_first = true;; is_first = false) {
        skip_blanks(rest);
        if (rest->len && rest->at[0] == '}')
            break;
        bool is_quoted = rest->len && rest->at[0] == '"';
        struct span name = {"", 0};
        if (is_quoted && !cut_quoted_name(p, rest, &name))
            return false;
        if (!is_quoted)
            name = cut_name(rest, true);
        skip_blanks(rest);
        bool is_label = name.len && rest->len && rest->at[0] == '=';
        if (is_label && !read_label(p, rest, name, s))
            return false;
        if (!is_label && (!is_quoted || !is_first || s->name.len))
            return fail(p, "labels are {name=\"value\",...}");
        if (!is_label)
            s->name = name;
        skip_blanks(rest);
        if (rest->len && rest->at[0] == ',')
            *rest = (struct span){rest->at + 1, rest->len - 1};
        else if (rest->len == 0 || rest->at[0] != '}')
            return fail(p, "labels have no closing brace");
    }
    *rest = (struct span){rest->at + 1, rest->len - 1};
    return true;
}

/* What follows the name: ="value". */
static bool read_label(struct promtext *p, struct span *rest, struct span name,
                       struct prom_sample *s)
{
    struct span value;
    if (s->label_count == PROMTEXT_LABELS_MAX)
        return fail(p, "more than %d labels", PROMTEXT_LABELS_MAX);
    *rest = (struct span){rest->at + 1, rest->len - 1};
    skip_blanks(rest);
    if (rest->len == 0 || rest->at[0] != '"')
        return fail(p, "the value of label %.*s has no quotes", (int)fb_min_u64(name.len, 60),
                    name.at);
    if (!read_quoted(p, rest, &value))
        return false;
    p->label[s->label_count++] = (struct prom_label){name, value};
    return true;
}

static bool read_number(struct span text, double *value)
{
    static const struct {
        const char *word;
        double value;
    } words[] = {{"nan", NAN},
                 {"inf", INFINITY},
                 {"+inf", INFINITY},
                 {"-inf", -INFINITY},
                 {"infinity", INFINITY},
                 {"+infinity", INFINITY},
                 {"-infinity", -INFINITY}};
    char copy[NUMBER_BYTES_MAX + 1], *end;
    if (text.len == 0 || text.len > NUMBER_BYTES_MAX)
        return false;
    for (size_t i = 0; i < FB_COUNT(words); i++)
        if (span_ieq(text, span_of(words[i].word))) {
            *value = words[i].value;
            return true;
        }
    for (size_t i = 0; i < text.len; i++)
        if (!strchr("0123456789.+-eE", text.at[i]))
            return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    *value = strtod(copy, &end);
    return *end == '\0' && end != copy;
}
