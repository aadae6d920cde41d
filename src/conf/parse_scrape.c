/* SPDX-License-Identifier: Apache-2.0 */
/* scrapes: /metrics pages that are read; a connector of type prometheus each. */
#include "conf/conf_int.h"
#include "event/intake.h"
#include "event/scrape.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MS 100 /* a page that fails is looked at again when it is due, not later */
#define TIMEOUT_MAX_MS 10000

static void set(struct conf_connector *c, const char *key, const char *value, const char *shown)
{
    for (size_t i = 0; i < c->value_count; i++)
        if (strcmp(c->values[i].key, key) == 0) {
            c->values[i].value = value;
            c->values[i].shown = shown;
        }
}

static const struct conf_connector_value *get(const struct conf_connector *c, const char *key)
{
    for (size_t i = 0; i < c->value_count; i++)
        if (strcmp(c->values[i].key, key) == 0)
            return &c->values[i];
    return NULL;
}

void scrape_defaults(struct conf_connector *c)
{
    set(c, "type", "prometheus", "prometheus");
    set(c, "direction", "source", "source");
    set(c, "backoff_max", "100", "100ms");
    c->is_source = true;
    c->backoff_max_ms = BACKOFF_MS;
}

static const struct node *child(const struct node *n, const char *name)
{
    for (const struct node *k = n->first; k; k = k->next)
        if (span_eq(k->key->text, span_of(name)))
            return k;
    return n->key;
}

static void check_time(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    uint64_t every_ms = strtoull(get(c, "every")->value, NULL, 10);
    char text[24];
    if (get(c, "timeout")->line) {
        if (c->timeout_ms >= every_ms)
            problem(rd, child(n, "timeout"),
                    "%s.%s.timeout (%ums) must be shorter than every (%llums)", c->section, c->name,
                    c->timeout_ms, (unsigned long long)every_ms);
        return;
    }
    c->timeout_ms = (uint32_t)fb_min_u64(every_ms * 4 / 5, TIMEOUT_MAX_MS);
    snprintf(text, sizeof text, "%ums", c->timeout_ms);
    const char *shown = arena_text(rd->keep, span_of(text));
    text[strlen(text) - 2] = '\0';
    set(c, "timeout", arena_text(rd->keep, span_of(text)), shown);
}

static bool is_same_fact(struct span a, struct span b)
{
    char as_a[40], as_b[40]; /* as facts are named in the end */
    return intake_name(as_a, a) && intake_name(as_b, b) && strcmp(as_a, as_b) == 0;
}

/* Facts must have names that fit, and each another one. */
static void check_rules(struct reader *rd, const struct node *n, const struct conf_connector *c)
{
    struct span fact[SCRAPE_RULES_MAX];
    const struct node *at = child(n, "metrics");
    const struct node *item = at->kind == NODE_LIST ? at->first : NULL;
    size_t count = 0;
    for (struct span rest = span_of(get(c, "metrics")->value); rest.len > 0; count++) {
        struct span line = span_cut(rest, '\n', &rest);
        const struct node *here = item ? item : at;
        struct scrape_rule rule;
        struct fb_err err;
        item = item ? item->next : NULL;
        if (count == SCRAPE_RULES_MAX) {
            problem(rd, here, "%s.%s.metrics must have at most %d entries", c->section, c->name,
                    SCRAPE_RULES_MAX);
            return;
        }
        fact[count] = SPAN("");
        if (scrape_rule_parse(line, &rule, &err) != FB_OK) {
            problem(rd, here, "%s.%s.metrics: %s, got \"%.*s\"", c->section, c->name, err.text,
                    SHOWN(line));
            continue;
        }
        fact[count] = rule.fact;
        size_t end = scrape_rule_is_plain(&rule) ? 0 : SCRAPE_END_BYTES;
        size_t room = SCRAPE_FACT_BYTES_MAX - end - 1;
        if (strlen(c->name) + rule.fact.len > room)
            problem(rd, here,
                    "%s.%s.metrics: \"%s.%.*s\" must have at most %zu bytes; give it a shorter "
                    "name: \"%.*s as NAME\"",
                    c->section, c->name, c->name, SPAN_ARG(rule.fact), room + 1,
                    SPAN_ARG(rule.name));
        if (is_same_fact(rule.fact, SPAN("up")))
            problem(rd, here, "%s.%s.metrics: `up` says whether the page was read; add ` as NAME`",
                    c->section, c->name);
        for (size_t i = 0; i < count; i++)
            if (is_same_fact(fact[i], rule.fact))
                problem(rd, here, "%s.%s.metrics: two facts are called \"%.*s\"; add ` as NAME`",
                        c->section, c->name, SPAN_ARG(rule.fact));
    }
}

void check_scrape(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    if (!c->is_source || c->is_fleet)
        problem(rd, child(n, "direction"), "%s.%s: prometheus only reads; leave out `direction`",
                c->section, c->name);
    if (get(c, "url")->line)
        check_url(rd, child(n, "url"), c);
    if (get(c, "basic_file")->line && get(c, "bearer_file")->line)
        problem(rd, child(n, "basic_file"), "%s.%s: either `basic_file` or `bearer_file`",
                c->section, c->name);
    check_time(rd, n, c);
    check_rules(rd, n, c);
}
