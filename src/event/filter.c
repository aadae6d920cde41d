/* SPDX-License-Identifier: Apache-2.0 */
#include "event/filter.h"

#include "base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What the number of a field stands for, so that it can be compared by name. */
enum meaning {
    MEANS_NUMBER,
    MEANS_TYPE,
    MEANS_ROUTE,
    MEANS_SERVICE,
    MEANS_ENDPOINT,
    MEANS_TARGET,
    MEANS_CLASS,
    MEANS_REASON,
    MEANS_MODE,
    MEANS_HEALTH,
    MEANS_OUTCOME,
    MEANS_KIND,
    MEANS_TEXT
};

struct parser {
    struct filter *f;
    struct span text; /* the copy inside the filter */
    size_t at;
    uint32_t depth;
    struct fb_err *err;
    enum fb_code code;
};
#define NO_NODE UINT8_C(0xff)

static uint8_t parse_or(struct parser *p);
static uint8_t parse_and(struct parser *p);
static uint8_t parse_factor(struct parser *p);
static uint8_t parse_comparison(struct parser *p);
static bool parse_value(struct parser *p, struct filter_node *n);
static bool resolve_field(struct filter_node *n, struct span name);
static bool node_matches(const struct filter *f, uint8_t node, const struct ev_head *const ev[2],
                         const struct filter_names *names);

static uint8_t refuse(struct parser *p, const char *what)
{
    if (p->code == FB_OK)
        p->code = fb_fail(p->err, FB_E_FILTER, "filter: %s at character %zu of \"%.*s\"", what,
                          p->at + 1, SPAN_ARG(p->text));
    return NO_NODE;
}

static uint8_t add_node(struct parser *p, const struct filter_node *n)
{
    if (p->f->node_count >= FILTER_NODES_MAX)
        return refuse(p, "more than 32 conditions");
    p->f->node[p->f->node_count] = *n;
    return p->f->node_count++;
}

static char skip_blanks(struct parser *p)
{
    while (p->at < p->text.len && (p->text.at[p->at] == ' ' || p->text.at[p->at] == '\t'))
        p->at++;
    return p->at < p->text.len ? p->text.at[p->at] : '\0';
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '/' || c == ':';
}

static struct span peek_word(struct parser *p)
{
    skip_blanks(p);
    size_t end = p->at;
    while (end < p->text.len && is_word_byte(p->text.at[end]))
        end++;
    return (struct span){p->text.at + p->at, end - p->at};
}

static bool take_word(struct parser *p, struct span word)
{
    if (!span_ieq(peek_word(p), word))
        return false;
    p->at += word.len;
    return true;
}

enum fb_code filter_parse(struct filter *f, struct span text, struct fb_err *err)
{
    f->node_count = f->pattern_count = f->root = 0;
    f->is_all = false;
    if (text.len >= sizeof f->text)
        return fb_fail(err, FB_E_FILTER, "filter: %zu bytes; at most %u are allowed", text.len,
                       FILTER_TEXT_MAX_BYTES - 1);
    if (text.len > 0)
        memcpy(f->text, text.at, text.len);
    f->text[text.len] = '\0';
    struct parser p = {.f = f, .text = {f->text, text.len}, .err = err};
    if (skip_blanks(&p) == '\0' && p.at >= p.text.len) {
        f->is_all = true;
        return FB_OK;
    }
    f->root = parse_or(&p);
    if (p.code == FB_OK && (skip_blanks(&p) != '\0' || p.at < p.text.len))
        refuse(&p, "expected `and`, `or` or the end");
    return p.code;
}

static uint8_t parse_or(struct parser *p)
{
    uint8_t left = parse_and(p);
    while (p->code == FB_OK && take_word(p, SPAN("or"))) {
        struct filter_node n = {.op = FILTER_OR, .left = left, .right = parse_and(p)};
        left = p->code == FB_OK ? add_node(p, &n) : NO_NODE;
    }
    return left;
}

static uint8_t parse_and(struct parser *p)
{
    uint8_t left = parse_factor(p);
    while (p->code == FB_OK && take_word(p, SPAN("and"))) {
        struct filter_node n = {.op = FILTER_AND, .left = left, .right = parse_factor(p)};
        left = p->code == FB_OK ? add_node(p, &n) : NO_NODE;
    }
    return left;
}

static uint8_t parse_factor(struct parser *p)
{
    if (++p->depth > FILTER_DEPTH_MAX)
        return refuse(p, "more than 16 levels");
    uint8_t node = NO_NODE;
    if (skip_blanks(p) == '(') {
        p->at++;
        node = parse_or(p);
        if (p->code == FB_OK && skip_blanks(p) != ')')
            return refuse(p, "missing ')'");
        p->at++;
    } else if (take_word(p, SPAN("not"))) {
        struct filter_node n = {.op = FILTER_NOT, .left = parse_factor(p)};
        if (p->code == FB_OK)
            node = add_node(p, &n);
    } else {
        node = parse_comparison(p);
    }
    p->depth--;
    return node;
}

static int parse_op(struct parser *p)
{
    /* Two-byte operators first, so that "<=" is not "<". */
    static const struct {
        const char *text;
        uint8_t op;
    } ops[] = {{"==", FILTER_EQ}, {"!=", FILTER_NE},   {"<=", FILTER_LE},
               {">=", FILTER_GE}, {"=~", FILTER_LIKE}, {"!~", FILTER_UNLIKE},
               {"=", FILTER_EQ},  {"<", FILTER_LT},    {">", FILTER_GT}};
    skip_blanks(p);
    struct span rest = {p->text.at + p->at, p->text.len - p->at};
    for (size_t i = 0; i < FB_COUNT(ops); i++)
        if (span_starts(rest, span_of(ops[i].text))) {
            p->at += strlen(ops[i].text);
            return ops[i].op;
        }
    return -1;
}

static uint8_t parse_comparison(struct parser *p)
{
    struct filter_node n = {.scale = 1};
    struct span field = peek_word(p);
    if (field.len == 0)
        return refuse(p, "expected a field such as status, route or total_ms");
    if (!resolve_field(&n, field))
        return refuse(p, "no event has this field");
    p->at += field.len;
    int op = parse_op(p);
    if (op < 0)
        return refuse(p, "expected one of = != < <= > >= =~ !~");
    n.op = (uint8_t)op;
    (void)skip_blanks(p);
    size_t value_at = p->at;
    if (!parse_value(p, &n))
        return NO_NODE;
    bool is_pattern = n.op == FILTER_LIKE || n.op == FILTER_UNLIKE;
    if (is_pattern) {
        if (p->f->pattern_count >= FILTER_PATTERNS_MAX)
            return refuse(p, "more than 4 patterns");
        n.right = p->f->pattern_count++;
        if (pattern_compile(&p->f->pattern[n.right], n.text, p->err) != FB_OK) {
            p->code = FB_E_FILTER; /* the sentence is the pattern's */
            if (p->err)
                p->err->code = FB_E_FILTER;
            return NO_NODE;
        }
    } else if (!n.is_number && n.op > FILTER_NE) {
        p->at = value_at;
        return refuse(p, "< and > need a number, which is not what is");
    } else if (!n.is_number && n.meaning == MEANS_NUMBER) {
        p->at = value_at;
        return refuse(p, "this field is a number, which is not what is");
    }
    return add_node(p, &n);
}

/* 100, 1.5, 250ms, 64KiB; the number is brought to the unit of the field. */
static bool parse_number(struct span word, struct filter_node *n)
{
    static const struct {
        const char *unit;
        double us; /* microseconds, or bytes when negative */
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"KiB", -1024}, {"MiB", -1048576}};
    char copy[40];
    if (word.len == 0 || word.len >= sizeof copy)
        return false;
    memcpy(copy, word.at, word.len);
    copy[word.len] = '\0';
    char first = copy[0];
    if ((first < '0' || first > '9') && first != '-' && first != '.')
        return false;
    char *end = copy;
    n->number = strtod(copy, &end);
    if (end == copy || !isfinite(n->number) || strpbrk(copy, "xX") != NULL)
        return false;
    if (*end == '\0')
        return true;
    for (size_t i = 0; i < FB_COUNT(units); i++)
        if (strcmp(end, units[i].unit) == 0) {
            /* A duration is in us when the field is; scale says how the field is asked for. */
            n->number *= units[i].us > 0 ? units[i].us * n->scale : -units[i].us;
            return true;
        }
    return false;
}

static bool parse_value(struct parser *p, struct filter_node *n)
{
    if (skip_blanks(p) == '"') {
        size_t end = p->at + 1;
        while (end < p->text.len && p->text.at[end] != '"')
            end++;
        if (end >= p->text.len)
            return refuse(p, "missing closing quote") != NO_NODE;
        n->text = (struct span){p->text.at + p->at + 1, end - p->at - 1};
        p->at = end + 1;
        return true;
    }
    struct span word = peek_word(p);
    if (word.len == 0)
        return refuse(p, "expected a number, a word or \"text\"") != NO_NODE;
    n->text = word;
    n->is_number = n->meaning != MEANS_TEXT && parse_number(word, n);
    p->at += word.len;
    return true;
}

static uint8_t field_meaning(struct span name)
{
    static const struct {
        const char *name;
        uint8_t meaning;
    } meanings[] = {
        {"route", MEANS_ROUTE},       {"service", MEANS_SERVICE}, {"target", MEANS_TARGET},
        {"endpoint", MEANS_ENDPOINT}, {"class", MEANS_CLASS},     {"reason", MEANS_REASON},
        {"mode", MEANS_MODE},         {"health", MEANS_HEALTH},   {"to", MEANS_HEALTH},
        {"from", MEANS_HEALTH},       {"outcome", MEANS_OUTCOME}, {"kind", MEANS_KIND},
        {"target_kind", MEANS_KIND}};
    for (size_t i = 0; i < FB_COUNT(meanings); i++)
        if (span_eq(name, span_of(meanings[i].name)))
            return meanings[i].meaning;
    return MEANS_NUMBER;
}

/* The field row of every event type that has <name>. */
static bool find_field(struct filter_node *n, struct span name)
{
    bool is_found = false;
    for (uint8_t t = 1; t < EV_TYPE_END; t++) {
        const struct ev_type_row *row = ev_type_row(t);
        for (uint8_t i = 0; row->name && i < row->field_count; i++) {
            const struct ev_field_row *field = &row->fields[i];
            if (!span_eq(name, span_of(field->name)) || ev_field_is_reserved(field))
                continue;
            n->field[t] = (uint8_t)(i + 1);
            n->meaning = field->type == EV_FT_text ? MEANS_TEXT : field_meaning(name);
            is_found = true;
        }
    }
    return is_found;
}

static bool resolve_field(struct filter_node *n, struct span name)
{
    if (span_eq(name, SPAN("type"))) {
        n->meaning = MEANS_TYPE;
        return true;
    }
    if (find_field(n, name))
        return true;
    /* total_ms and total_s are total_us in another unit. */
    char in_us[48];
    size_t cut = name.len > 3 && memcmp(name.at + name.len - 3, "_ms", 3) == 0  ? 3
                 : name.len > 2 && memcmp(name.at + name.len - 2, "_s", 2) == 0 ? 2
                                                                                : 0;
    if (cut == 0 || name.len >= sizeof in_us - 4)
        return false;
    memcpy(in_us, name.at, name.len - cut);
    memcpy(in_us + name.len - cut, "_us", 4);
    n->scale = cut == 3 ? 1e-3 : 1e-6;
    return find_field(n, span_of(in_us));
}

/* ---- evaluation ---- */
static double read_number(const struct ev_head *ev, const struct ev_field_row *field)
{
    const unsigned char *at = (const unsigned char *)ev + field->offset;
    double real = 0;
    uint64_t whole = 0;
    if (field->type == EV_FT_f64) {
        memcpy(&real, at, sizeof real);
        return real;
    }
    fb_assert(field->bytes <= sizeof whole);
    memcpy(&whole, at, field->bytes); /* little endian */
    return (double)whole;
}

static struct span read_text(const struct ev_head *ev, const struct ev_field_row *field)
{
    const char *at = (const char *)ev + field->offset;
    return (struct span){at, strnlen(at, field->bytes)};
}

static const char *target_name(const struct filter_names *names, const struct ev_head *ev,
                               uint8_t kind, uint16_t number)
{
    return names && names->name ? names->name(names->ctx, (enum ev_kind)kind, number, ev->time_us)
                                : "";
}

static uint8_t target_kind_of(const struct ev_head *ev)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    for (uint8_t i = 0; i < row->field_count; i++)
        if (strcmp(row->fields[i].name, "target_kind") == 0)
            return (uint8_t)read_number(ev, &row->fields[i]);
    return EV_KIND_NONE;
}

static const char *number_name(const struct ev_head *ev, uint8_t meaning, uint16_t v,
                               const struct filter_names *names)
{
    switch (meaning) {
    case MEANS_TYPE:
        return ev_type_row((uint8_t)v)->name;
    case MEANS_ROUTE:
        return target_name(names, ev, EV_KIND_ROUTE, v);
    case MEANS_SERVICE:
        return target_name(names, ev, EV_KIND_SERVICE, v);
    case MEANS_ENDPOINT:
        return target_name(names, ev, EV_KIND_ENDPOINT, v);
    case MEANS_TARGET:
        return target_name(names, ev, target_kind_of(ev), v);
    case MEANS_CLASS:
        return ev_class_name((uint8_t)v);
    case MEANS_REASON:
        return ev_reason_row(v)->name;
    case MEANS_MODE:
        return ev_mode_name((uint8_t)v);
    case MEANS_HEALTH:
        return ev_health_name((uint8_t)v);
    case MEANS_OUTCOME:
        return ev_outcome_name((uint8_t)v);
    case MEANS_KIND:
        return ev_kind_name((uint8_t)v);
    default:
        return "";
    }
}

static bool compare_text(const struct filter *f, const struct filter_node *n, struct span have)
{
    switch (n->op) {
    case FILTER_EQ:
        return span_ieq(have, n->text);
    case FILTER_NE:
        return !span_ieq(have, n->text);
    case FILTER_LIKE:
        return pattern_matches(&f->pattern[n->right], have);
    default:
        return !pattern_matches(&f->pattern[n->right], have);
    }
}

static bool compare_number(uint8_t op, double have, double want)
{
    switch (op) {
    case FILTER_EQ:
        return have == want;
    case FILTER_NE:
        return have != want;
    case FILTER_LT:
        return have < want;
    case FILTER_LE:
        return have <= want;
    case FILTER_GT:
        return have > want;
    default:
        return have >= want;
    }
}

static bool compare(const struct filter *f, const struct filter_node *n,
                    const struct ev_head *const pair[2], const struct filter_names *names)
{
    bool is_pattern = n->op == FILTER_LIKE || n->op == FILTER_UNLIKE;
    for (int i = 0; i < 2; i++) {
        const struct ev_head *ev = pair[i];
        if (!ev || ev->type >= EV_TYPE_END)
            continue;
        double v = ev->type;
        if (n->meaning != MEANS_TYPE) {
            if (n->field[ev->type] == 0)
                continue;
            const struct ev_field_row *field =
                &ev_type_row(ev->type)->fields[n->field[ev->type] - 1];
            if (field->type == EV_FT_text)
                return compare_text(f, n, read_text(ev, field));
            v = read_number(ev, field);
        }
        if (n->is_number && !is_pattern)
            return compare_number(n->op, v * n->scale, n->number);
        if (n->meaning == MEANS_NUMBER) { /* status=~"^5" */
            char digits[32];
            int len = snprintf(digits, sizeof digits, "%.10g", v * n->scale);
            return compare_text(f, n, (struct span){digits, (size_t)len});
        }
        if (!(v >= 0) || v > 65535)
            return false;
        const char *name = number_name(ev, n->meaning, (uint16_t)v, names);
        return compare_text(f, n, span_of(name ? name : ""));
    }
    return false;
}

/* Recursion is bounded by FILTER_NODES_MAX: the tree has no more nodes. */
static bool node_matches(const struct filter *f, uint8_t node, const struct ev_head *const ev[2],
                         const struct filter_names *names)
{
    fb_assert(node < f->node_count);
    const struct filter_node *n = &f->node[node];
    switch (n->op) {
    case FILTER_AND:
        return node_matches(f, n->left, ev, names) && node_matches(f, n->right, ev, names);
    case FILTER_OR:
        return node_matches(f, n->left, ev, names) || node_matches(f, n->right, ev, names);
    case FILTER_NOT:
        return !node_matches(f, n->left, ev, names);
    default:
        return compare(f, n, ev, names);
    }
}

bool filter_matches(const struct filter *f, const struct ev_head *ev, const struct ev_head *more,
                    const struct filter_names *names)
{
    if (f->is_all)
        return true;
    const struct ev_head *const pair[2] = {ev, more};
    return node_matches(f, f->root, pair, names);
}
