/* SPDX-License-Identifier: Apache-2.0 */
#include "event/event.h"
#include "event/scrape.h"

static const char *const hows[SCRAPE_HOWS] = {"sum", "max", "min", "mean", "rate", "value"};

static bool cut_how(struct span *text, struct scrape_rule *rule, struct fb_err *err);
static bool read_matches(struct span *text, struct scrape_rule *rule, struct fb_err *err);
static bool read_fact(struct span text, struct scrape_rule *rule, struct fb_err *err);

static bool wrong(struct fb_err *err, const char *what)
{
    fb_fail(
        err, FB_E_CONFIG,
        "%s; a rule is NAME, NAME{label=\"value\"} or max(NAME), each with ` as fact` behind it",
        what);
    return false;
}

static bool is_name_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' ||
           (!is_first && c >= '0' && c <= '9');
}

static struct span cut_name(struct span *s)
{
    size_t len = 0;
    while (len < s->len && is_name_byte(s->at[len], len == 0))
        len++;
    struct span name = {s->at, len};
    *s = span_trim((struct span){s->at + len, s->len - len});
    return name;
}

static bool cut_char(struct span *s, char c)
{
    if (s->len == 0 || s->at[0] != c)
        return false;
    *s = span_trim((struct span){s->at + 1, s->len - 1});
    return true;
}

enum fb_code scrape_rule_parse(struct span text, struct scrape_rule *rule, struct fb_err *err)
{
    *rule = (struct scrape_rule){.how = SCRAPE_SUM, .name = {"", 0}, .fact = {"", 0}};
    text = span_trim(text);
    rule->name = cut_name(&text);
    bool is_call = cut_char(&text, '(');
    if (is_call && !cut_how(&text, rule, err))
        return FB_E_CONFIG;
    if (rule->name.len == 0 || rule->name.len > PROMTEXT_NAME_BYTES_MAX)
        return wrong(err, "the name of a metric is missing"), FB_E_CONFIG;
    if (cut_char(&text, '{') && !read_matches(&text, rule, err))
        return FB_E_CONFIG;
    if (is_call && !cut_char(&text, ')'))
        return wrong(err, "a closing parenthesis is missing"), FB_E_CONFIG;
    return read_fact(text, rule, err) ? FB_OK : FB_E_CONFIG;
}

/* What stood before the parenthesis was no name, but how. */
static bool cut_how(struct span *text, struct scrape_rule *rule, struct fb_err *err)
{
    size_t i = 0;
    while (i < SCRAPE_HOWS && !span_eq(rule->name, span_of(hows[i])))
        i++;
    if (i == SCRAPE_HOWS)
        return wrong(err, "before `(` stands sum, max, min, mean, rate or value");
    rule->how = (enum scrape_how)i;
    rule->name = cut_name(text);
    return true;
}

static bool read_matches(struct span *text, struct scrape_rule *rule, struct fb_err *err)
{
    while (!cut_char(text, '}')) {
        struct scrape_match m = {.label = cut_name(text)};
        m.is_not = cut_char(text, '!');
        if (m.label.len == 0 || !cut_char(text, '=') || text->len == 0 || text->at[0] != '"')
            return wrong(err, "labels are {name=\"value\", other!=\"value\"}");
        struct span rest = {text->at + 1, text->len - 1};
        m.value = span_cut(rest, '"', text);
        if (m.value.len == rest.len)
            return wrong(err, "the value of a label has no closing quote");
        m.is_prefix = m.value.len && m.value.at[m.value.len - 1] == '*';
        m.value.len -= m.is_prefix;
        if (rule->match_count == SCRAPE_MATCHES_MAX)
            return wrong(err, "more than 8 labels");
        rule->match[rule->match_count++] = m;
        *text = span_trim(*text);
        if (!cut_char(text, ',') && (text->len == 0 || text->at[0] != '}'))
            return wrong(err, "labels have no closing brace");
    }
    return true;
}

static bool is_fact_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static bool read_fact(struct span text, struct scrape_rule *rule, struct fb_err *err)
{
    rule->fact = rule->name;
    if (text.len == 0)
        return true;
    if (!span_starts(text, SPAN("as ")))
        return wrong(err, "something follows that is no ` as fact`");
    rule->fact = span_trim((struct span){text.at + 3, text.len - 3});
    bool is_good = rule->fact.len > 0 && rule->fact.len <= SCRAPE_FACT_BYTES_MAX;
    struct span version, name = span_cut(rule->fact, '@', &version);
    is_good = is_good && name.len > 0 && (version.len > 0 || name.len == rule->fact.len);
    for (size_t i = 0; is_good && i < rule->fact.len; i++)
        is_good = is_fact_byte(rule->fact.at[i]) || i == name.len;
    if (is_good && span_starts(rule->fact, SPAN(EV_OWN_PREFIX)))
        return wrong(err, "names that begin with foldback. are foldback's own");
    return is_good || wrong(err, "the name of a fact is 1 to 39 of a-z 0-9 . _ -, with @version "
                                 "behind it if it is of one");
}

bool scrape_rule_is_plain(const struct scrape_rule *rule)
{
    struct span n = rule->name;
    return n.len > 6 && memcmp(n.at + n.len - 6, "_total", 6) == 0;
}
