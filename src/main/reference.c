/* SPDX-License-Identifier: Apache-2.0 */
/* Reference pages, printed from the tables; doc/reference/ is their output. */
#include "analytics/facts.h"
#include "conf/conf.h"
#include "event/asyncapi.h"
#include "event/event.h"
#include "knob/knob.h"
#include "main/run.h"
#include "output/feature.h"
#include "output/metrics.h"

#include <string.h>

static void page_events(struct buf *out)
{
    buf_puts(out, "# Events\n\nEverything that the system says. Times are stream time: "
                  "microseconds since 1970 as of the "
                  "start, never jumping afterwards.\n");
    for (uint8_t t = 0; t < EV_TYPE_END; t++) {
        const struct ev_type_row *row = ev_type_row(t);
        if (!row->name)
            continue;
        buf_printf(out,
                   "\n## `%s`\n\n%s %d bytes.\n\n| field | unit | meaning |\n| --- | --- | --- |\n",
                   row->name, row->what, row->cells * EV_CELL_BYTES);
        for (uint8_t i = 0; i < row->field_count; i++) {
            const struct ev_field_row *f = &row->fields[i];
            if (!ev_field_is_reserved(f))
                buf_printf(out, "| `%s` | %s | %s%s |\n", f->name, f->unit, f->what,
                           f->privacy == EV_PERSONAL    ? " Personal: redacted by default."
                           : f->privacy == EV_PSEUDONYM ? " Pseudonym."
                                                        : "");
        }
    }
    buf_puts(out, "\n## Traits of a request\n\nBits of `traits`; as JSON the names stand in "
                  "`trait_names`.\n\n| bit | trait | meaning |\n| --- | --- | --- |\n");
    for (unsigned i = 0; i < EV_TRAIT_COUNT; i++)
        buf_printf(out, "| %u | `%s` | %s |\n", i, ev_trait_row(i)->name,
                   ev_trait_row(i)->sentence);
}

/* "a,b" as `a`, `b` */
static void put_words(struct buf *out, const char *list)
{
    struct span rest = span_of(list);
    for (bool is_first = true; rest.len > 0; is_first = false) {
        struct span one = span_cut(rest, ',', &rest);
        buf_printf(out, "%s`%.*s`", is_first ? "" : ", ", SPAN_ARG(one));
    }
}

static void page_features(struct buf *out)
{
    buf_puts(out,
             "# Features: where each one shows\n\n`foldback why NAME` says in words what a "
             "feature did so far, `GET /v1/features` in figures, the view *Features* of the "
             "dashboard with rates; of one route or service `foldback why` says it too, of "
             "one request its traits ([rows](events.md#traits-of-a-request)).\n\n"
             "| `foldback why` | what it says | of each | keys | metrics | reasons | how to |\n"
             "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        const struct feature_row *row = feature_row(i);
        buf_printf(out, "| `%s` | %s: %s | %s | ", row->name, row->title, row->what,
                   row->kind == EV_KIND_NONE ? "node" : ev_kind_name((uint8_t)row->kind));
        put_words(out, row->keys);
        buf_puts(out, " | ");
        put_words(out, row->metrics);
        buf_puts(out, " | ");
        put_words(out, row->reasons);
        buf_printf(out, " | [guide](../guide/%s.md) |\n", row->page);
    }
}

static void page_knobs(struct buf *out)
{
    buf_puts(
        out,
        "# Knobs: what foldback may turn\n\nThree layers: configured, learned, pinned; the last "
        "one wins. Bounds are "
        "enforced in the gateway.\n\n| knob | of a | unit | range | safe | loop | meaning | why |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (uint16_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob_row *row = knob_row(k);
        if (!row->name)
            continue;
        buf_printf(out, "| `%s` | %s | %s | %g..%g | %g | %s | %s | %s |\n", row->name,
                   ev_kind_name((uint8_t)row->kind), row->unit, row->min, row->max, row->safe,
                   loop_row((uint16_t)row->loop)->name, row->what, row->why);
    }
    buf_puts(out, "\n## Loops\n\n| loop | each | what it does |\n| --- | --- | --- |\n");
    for (uint16_t l = 1; l < LOOP_COUNT; l++)
        buf_printf(out, "| `%s` | %u ms | %s |\n", loop_row(l)->name, loop_row(l)->period_ms,
                   loop_row(l)->what);
}

static void page_facts(struct buf *out)
{
    buf_puts(out, "# Facts\n\nWhat analytics derives, per route, service, endpoint and version, in "
                  "windows of 100 ms, 1 s, 10 s and "
                  "60 s. Each has n and a state: ok, insufficient_data or stale.\n\n| fact | unit "
                  "| meaning |\n| --- | --- | --- |\n");
    for (uint16_t f = 1; f < FACT_END; f++)
        if (fact_row(f)->name)
            buf_printf(out, "| `%s` | %s | %s |\n", fact_row(f)->name, fact_row(f)->unit,
                       fact_row(f)->what);
}

static void page_reasons(struct buf *out)
{
    static const char *const kinds[] = {
        "How a request ended",        "Why an endpoint changed its state",
        "What the limit learner saw", "Why a decision was taken",
        "Why events were lost",       "What an alert is about"};
    for (size_t k = 0; k < FB_COUNT(kinds); k++) {
        buf_printf(
            out,
            "%s%s\n\n| reason | status | Proxy-Status | meaning |\n| --- | --- | --- | --- |\n",
            k ? "\n## " : "# Reasons\n\n## ", kinds[k]);
        for (uint16_t i = 1; i < REASON_END; i++) {
            const struct ev_reason_row *row = ev_reason_row(i);
            enum ev_reason_kind kind =
                row->kind == REASON_KIND_DERIVED ? REASON_KIND_ALERT : row->kind;
            if (!row->name || kind != k)
                continue;
            buf_puts(out, "| `");
            for (const char *c = row->name; *c; c++)
                buf_putc(out, *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c);
            buf_puts(out, "` | ");
            if (row->status)
                buf_printf(out, "%u", row->status);
            buf_printf(out, " | %s | %s |\n", row->proxy_status, row->sentence);
        }
    }
}

static void page_metrics(struct buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", "info"};
    buf_puts(out, "# Metrics\n\n`GET /metrics`: Prometheus text 0.0.4, or OpenMetrics 1.0 when "
                  "Accept asks for it. Labels are rows of "
                  "tables or names of the configuration, never client input.\n\n| metric | kind | "
                  "labels | most series | meaning |\n"
                  "| --- | --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < METRIC_ID_COUNT; i++) {
        const struct metric_row *row = metric_row(i);
        buf_printf(out, "| `%s` | %s | %s | %s | %s |\n", row->name, kinds[row->kind], row->labels,
                   row->most_series, row->help);
    }
}

static void page_errors(struct buf *out)
{
    buf_puts(out, "# Errors\n\nExit codes of the CLI: 0 ok, 1 the check or action failed, 2 usage "
                  "or configuration, 3 not reachable, 4 not "
                  "permitted, 5 timed out.\n\n| error | exit code | meaning | what to do |\n| --- "
                  "| --- | --- | --- |\n");
    for (int i = 1; i < FB_E_COUNT; i++) {
        const struct fb_error_row *row = fb_error_row((enum fb_code)i);
        buf_printf(out, "| `%s` | %d | %s | %s |\n", row->name, row->exit_code, row->what,
                   row->remedy);
    }
}

bool reference_page(const char *page, struct buf *out)
{
    static const struct {
        const char *name;
        void (*print)(struct buf *out);
    } pages[] = {
        {"config", conf_reference}, {"events", page_events},    {"knobs", page_knobs},
        {"facts", page_facts},      {"reasons", page_reasons},  {"errors", page_errors},
        {"metrics", page_metrics},  {"asyncapi", asyncapi_put}, {"features", page_features}};
    for (size_t i = 0; i < FB_COUNT(pages); i++)
        if (strcmp(page, pages[i].name) == 0) {
            pages[i].print(out);
            return true;
        }
    return false;
}
