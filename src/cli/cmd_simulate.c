/* SPDX-License-Identifier: Apache-2.0 */
/* simulate: scenarios in virtual time; the same object code as the gateway's. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include "sim/sim.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS_MAX 1000
#define TRACE_BYTES_MAX (4 * MIB)
#define SCENARIOS_MAX 128
#define TRACE_SCENARIO "s1" /* plain: equal endpoints, nothing happens */

static int list_scenarios(const struct cli_call *call)
{
    static const char *const heads[] = {"SCENARIO", "WHAT HAPPENS"};
    const struct sim_scenario *s;
    struct table t;
    struct buf out;
    json_t *root = json_array();
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; (s = sim_scenario_at(i)) != NULL; i++) {
        table_put(&t, s->name);
        table_put(&t, s->what);
        json_array_append_new(root, json_pack("{s:s, s:s}", "name", s->name, "what", s->what));
    }
    buf_init(&out, MIB);
    if (call->is_json) {
        cli_print_json(root);
    } else {
        table_print(&t, call->has_color, &out);
        buf_puts(&out, "\nNext: foldback simulate s2 --seeds 10\n");
        cli_flush(&out);
    }
    buf_fini(&out);
    table_fini(&t);
    json_decref(root);
    return 0;
}

/* The table is small: the nearest of all names. */
static int unknown_scenario(const struct cli_call *call, const char *name)
{
    const char *words[SCENARIOS_MAX];
    size_t count = 0;
    const struct sim_scenario *s;
    for (size_t i = 0; (s = sim_scenario_at(i)) != NULL && count < SCENARIOS_MAX; i++)
        words[count++] = s->name;
    const char *close = cli_closest(name, words, count);
    return cli_usage(call, "knows no scenario \"%s\"; %s%s", name,
                     close ? "did you mean " : "`foldback simulate --list` shows them",
                     close ? close : "");
}

static enum fb_code read_trace(const char *file, struct sim_overrides *o, struct fb_err *err)
{
    struct buf text;
    char part[8192];
    size_t n;
    FILE *f = fopen(file, "re");
    if (!f)
        return fb_fail(err, FB_E_USAGE, "cannot read the trace %s: %s", file, strerror(errno));
    buf_init(&text, TRACE_BYTES_MAX);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(&text, part, n);
    fclose(f);
    enum fb_code code = text.failed
                            ? fb_fail(err, FB_E_RANGE, "the trace %s is larger than %zu bytes",
                                      file, (size_t)TRACE_BYTES_MAX)
                            : sim_override_trace(o, buf_span(&text), err);
    buf_fini(&text);
    return code;
}

/* --set KEY=VALUE, in the order of the command line; the trace comes last and replaces the phases.
 */
static enum fb_code read_overrides(const struct cli_call *call, struct sim_overrides *o,
                                   struct fb_err *err)
{
    enum fb_code code = FB_OK;
    sim_overrides_init(o);
    for (size_t i = 0; i < call->list_count[OPT_SET] && code == FB_OK; i++) {
        const char *pair = call->list[OPT_SET][i], *equals = strchr(pair, '=');
        char key[32];
        if (!equals || equals == pair || (size_t)(equals - pair) >= sizeof key)
            return fb_fail(err, FB_E_USAGE, "--set wants KEY=VALUE, got \"%s\"", pair);
        snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
        code = sim_override(o, key, equals + 1, err);
    }
    if (code == FB_OK && call->option[OPT_TRACE])
        code = read_trace(call->option[OPT_TRACE], o, err);
    return code;
}

/* Median and worst of the share of good answers over all seeds. */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(double *good, size_t count, struct buf *out)
{
    qsort(good, count, sizeof *good, by_value);
    buf_printf(out, "%zu seeds: good %.2f %% median, %.2f %% worst, %.2f %% best\n", count,
               good[count / 2], good[0], good[count - 1]);
}

/* Seeds one after the other, each printed when it is done: with --seeds 1000 the first result is
 * there at once.  JSON is one object, so it comes at the end. */
static int run_seeds(const struct cli_call *call, const struct sim_scenario *s,
                     const struct sim_overrides *o, uint64_t first, uint64_t count)
{
    static struct sim_result result; /* large */
    static double good[SEEDS_MAX];
    struct fb_err err = {0};
    struct buf out;
    struct json j;
    enum fb_code code = FB_OK;
    buf_init(&out, 64 * MIB);
    json_init(&j, &out);
    if (call->is_json) {
        json_object_begin(&j);
        json_key_str(&j, "scenario", s->name);
        json_key(&j, "runs");
        json_array_begin(&j);
    }
    for (uint64_t i = 0; i < count && code == FB_OK; i++) {
        code = sim_run(s, first + i, o, &result, &err);
        good[i] = sim_good_pct(&result.all);
        if (code == FB_OK && call->is_json)
            sim_print_json(&j, s, first + i, &result);
        else if (code == FB_OK)
            sim_print_text(&out, s, first + i, &result);
        if (!call->is_json)
            cli_flush(&out); /* a long run shows what it has */
    }
    if (code == FB_OK && call->is_json) {
        json_array_end(&j);
        qsort(good, count, sizeof *good, by_value);
        json_key_f64(&j, "good_pct_median", good[count / 2]);
        json_key_f64(&j, "good_pct_worst", good[0]);
        json_object_end(&j);
        buf_putc(&out, '\n');
    } else if (code == FB_OK && count > 1) {
        summarise(good, count, &out);
    }
    if (code == FB_OK)
        cli_flush(&out);
    buf_fini(&out);
    return code == FB_OK ? 0 : cli_fail(&err);
}

int cmd_simulate(const struct cli_call *call)
{
    static struct sim_overrides overrides; /* large: it holds the trace */
    struct fb_err err = {0};
    uint64_t first = 1, count = 1;
    if (call->option[OPT_LIST])
        return list_scenarios(call);
    if (!cli_number(call, OPT_SEED, 0, UINT64_MAX, &first) ||
        !cli_number(call, OPT_SEEDS, 1, SEEDS_MAX, &count))
        return 2;
    if (call->arg_count == 0 && !call->option[OPT_TRACE])
        return cli_usage(call, "needs a scenario or --trace FILE; `foldback simulate --list` "
                               "shows what there is");
    const char *name = call->arg_count ? call->arg[0] : TRACE_SCENARIO;
    const struct sim_scenario *s = sim_scenario_find(name);
    if (!s)
        return unknown_scenario(call, name);
    if (read_overrides(call, &overrides, &err) != FB_OK)
        return cli_fail(&err);
    return run_seeds(call, s, &overrides, first, count);
}
