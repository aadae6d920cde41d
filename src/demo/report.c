/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 960
#define HEIGHT 220
#define LEFT 56
#define BOTTOM 28

static const char style[] =
    ":root{--bg:#fff;--fg:#1b1f24;--dim:#5a6472;--line:#d8dee6;--ours:#0b6bcb;--twin:#b4470e}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e8ecf1;--dim:#9aa5b3;--line:#"
    "2c343e;--ours:#5fb0ff;--twin:#ff9d62}}"
    "body{background:var(--bg);color:var(--fg);font:16px/1.5 "
    "system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem "
    "0;color:var(--dim)}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:."
    "3rem .6rem;text-align:right;"
    "border-bottom:1px solid "
    "var(--line)}th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto}"
    "svg text{fill:var(--dim);font:12px "
    "system-ui,sans-serif}.grid{stroke:var(--line)}.ours{stroke:var(--ours);fill:none;stroke-width:"
    "2}"
    ".twin{stroke:var(--twin);fill:none;stroke-width:2;stroke-dasharray:6 "
    "3}.mark{stroke:var(--dim);stroke-width:1;opacity:.5}"
    ".key "
    "b{font-weight:600}.a{color:var(--ours)}.b{color:var(--twin)}ol{padding-left:1.2rem}li{margin:."
    "3rem 0}";

static void put_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            buf_puts(out, "&lt;");
        else if (*text == '&')
            buf_puts(out, "&amp;");
        else if (*text == '"')
            buf_puts(out, "&quot;");
        else
            buf_putc(out, *text);
    }
}

/* One value per second; NAN where nothing was offered. */
static void series(const struct load_board *b, uint32_t seconds, bool is_p99, double *out)
{
    for (uint32_t s = 0; s < seconds; s++) {
        struct result r;
        result_compute(b, s * 1000, (s + 1) * 1000, &r);
        out[s] = !r.all.offered ? NAN : is_p99 ? r.all.p99_ms : result_in_time_pct(&r.all);
    }
}

static void put_line(struct buf *out, const double *v, uint32_t n, double max, const char *class)
{
    bool is_open = false;
    buf_printf(out, "<path class=\"%s\" d=\"", class);
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(v[i])) {
            is_open = false;
            continue;
        }
        double y = v[i] > max ? max : v[i];
        buf_printf(out, "%c%.1f %.1f", is_open ? 'L' : 'M', LEFT + (double)i / n * (WIDTH - LEFT),
                   (1 - y / max) * (HEIGHT - BOTTOM) + 4);
        is_open = true;
    }
    buf_puts(out, "\"/>");
}

static void put_chart(struct buf *out, const struct report *r, const char *title, bool is_p99)
{
    double *ours = calloc(r->seconds, sizeof *ours), *twin = calloc(r->seconds, sizeof *twin);
    double max = is_p99 ? 2000 : 100;
    if (ours && twin) {
        series(r->ours, r->seconds, is_p99, ours);
        series(r->twin, r->seconds, is_p99, twin);
        buf_printf(out,
                   "<h2>%s</h2><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s, both lanes "
                   "over time\">",
                   title, WIDTH, HEIGHT + 4, title);
        for (int i = 0; i <= 4; i++) {
            double y = (1 - i / 4.0) * (HEIGHT - BOTTOM) + 4;
            buf_printf(out,
                       "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                       "x=\"0\" y=\"%.1f\">%.0f %s</text>",
                       LEFT, WIDTH, y, y, y + 4, max * i / 4, is_p99 ? "ms" : "%");
        }
        for (size_t i = 0; i < r->scenario->fault_count; i++) {
            double x = LEFT + r->scenario->faults[i].at * (WIDTH - LEFT);
            buf_printf(out,
                       "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"4\" y2=\"%d\"/><text "
                       "x=\"%.1f\" y=\"%d\">",
                       x, x, HEIGHT - BOTTOM + 4, x + 4, HEIGHT - 2);
            put_text(out, r->scenario->faults[i].says);
            buf_puts(out, "</text>");
        }
        for (size_t i = 0; i < r->scenario->step_count; i++)
            if (r->scenario->steps[i].is_ramp && r->scenario->steps[i].multiple > 2) {
                double x = LEFT + r->scenario->steps[i].at * (WIDTH - LEFT);
                buf_printf(out,
                           "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"4\" y2=\"%d\"/><text "
                           "x=\"%.1f\" y=\"%d\">%.0f x load</text>",
                           x, x, HEIGHT - BOTTOM + 4, x + 4, HEIGHT - 2,
                           r->scenario->steps[i].multiple);
            }
        put_line(out, twin, r->seconds, max, "twin");
        put_line(out, ours, r->seconds, max, "ours");
        buf_puts(out, "</svg>");
    }
    free(ours);
    free(twin);
}

static void put_row(struct buf *out, const char *name, const struct result_class *a,
                    const struct result_class *b)
{
    buf_printf(out,
               "<tr><td>%s</td><td>%llu</td><td>%.1f "
               "%%</td><td>%.0f</td><td>%.0f</td><td>%.0f</td><td>%.1f %%</td><td>%.0f</td>"
               "<td>%.0f</td><td>%.0f</td></tr>",
               name, (unsigned long long)a->offered, result_in_time_pct(a), a->p50_ms, a->p99_ms,
               a->p999_ms, result_in_time_pct(b), b->p50_ms, b->p99_ms, b->p999_ms);
}

static void put_decisions(struct buf *out, struct span text)
{
    json_t *root = json_loadb(text.at, text.len, 0, NULL);
    json_t *list = json_is_array(root) ? root : json_object_get(root, "decisions");
    size_t count = json_array_size(list);
    buf_printf(out, "<h2>What foldback decided, and why (%zu decisions, newest first)</h2><ol>",
               count);
    for (size_t i = 0; i < count && i < 200; i++) {
        const json_t *d = json_array_get(list, i);
        const char *sentence = json_string_value(json_object_get(d, "sentence"));
        const char *outcome = json_string_value(json_object_get(d, "outcome"));
        if (!outcome) /* an object with its evidence */
            outcome = json_string_value(json_object_get(json_object_get(d, "outcome"), "verdict"));
        buf_puts(out, "<li>");
        put_text(out, sentence ? sentence : "");
        if (outcome) {
            buf_puts(out, " <b>");
            put_text(out, outcome);
            buf_puts(out, "</b>");
        }
        buf_puts(out, "</li>");
    }
    buf_puts(out, "</ol>");
    json_decref(root);
}

void report_html(const struct report *r, struct buf *out)
{
    buf_puts(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><title>foldback demo: ");
    put_text(out, r->scenario->name);
    buf_printf(out, "</title><style>%s</style></head><body><main><h1>foldback demo: %s</h1><p>",
               style, r->scenario->name);
    put_text(out, r->scenario->says);
    buf_printf(out,
               "</p><p class=\"key\">The same traffic at the same time through two lanes for %u s: "
               "<b class=\"a\">foldback</b> (solid), told only "
               "the endpoints and the objective, and <b class=\"b\">static round robin</b> "
               "(dashed), with fixed limits and timeouts. "
               "Figures come from the load generator.</p>",
               r->seconds);
    put_chart(out, r, "Answered in time, % of all requests", false);
    put_chart(out, r, "99th percentile of good answers, ms", true);
    buf_puts(out, "<h2>The whole run</h2><table><thead><tr><th>class</th><th>offered</th><th "
                  "class=\"a\">in time</th><th>p50 ms</th><th>p99 ms</th>"
                  "<th>p99.9 ms</th><th class=\"b\">in time</th><th>p50 ms</th><th>p99 "
                  "ms</th><th>p99.9 ms</th></tr></thead><tbody>");
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        put_row(out, ev_class_name(i), &r->ours_result->class[i], &r -> twin_result -> class[i]);
    put_row(out, "all", &r->ours_result->all, &r->twin_result->all);
    buf_puts(out, "</tbody></table>");
    put_decisions(out, r->decisions);
    buf_puts(out, "</main></body></html>\n");
}
