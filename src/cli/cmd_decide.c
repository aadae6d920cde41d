/* SPDX-License-Identifier: Apache-2.0 */
/* decisions, why, doctor: what was decided, why, and what is wrong. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void show_evidence(const json_t *d, bool has_color, struct buf *out);

/* "16 -> 18 requests". */
static void put_move(const json_t *d, struct buf *out)
{
    char a[CLI_ROOM], b[CLI_ROOM];
    const char *unit = cli_str(d, "unit");
    if (cli_num(d, "from") == cli_num(d, "to")) { /* of a command: freeze, mode, drain, ... */
        buf_puts(out, "no move");
        return;
    }
    buf_printf(out, "%s -> %s%s%s", cli_count(cli_num(d, "from"), a),
               cli_count(cli_num(d, "to"), b), unit[0] ? " " : "", unit);
}

/* One word: what a person asks first about a decision. */
static const char *outcome_of(const json_t *d)
{
    const json_t *o = json_object_get(d, "outcome");
    if (!cli_is(d, "is_applied"))
        return "not applied";
    if (!json_is_object(o))
        return "open";
    return cli_is(o, "is_reverted") ? "reverted" : cli_str(o, "verdict");
}

/* One line: time, id, loop, target, from -> to, outcome, sentence. */
static void put_decision_line(const struct cli_call *call, const json_t *d, struct buf *out)
{
    char move[96];
    struct buf text;
    buf_init(&text, 256);
    put_move(d, &text);
    snprintf(move, sizeof move, "%s", buf_str(&text));
    buf_fini(&text);
    const char *outcome = outcome_of(d);
    enum cli_color color = strcmp(outcome, "better") == 0 ? CLI_GREEN
                           : strcmp(outcome, "worse") == 0 || strcmp(outcome, "reverted") == 0
                               ? CLI_RED
                               : CLI_PLAIN;
    buf_printf(out, "%s  %5.0f  %-7s  %s  %s  [%s%s%s]  %s\n", cli_str(d, "time"), cli_num(d, "id"),
               cli_str(d, "loop"), cli_target(d), move, cli_paint(call, color), outcome,
               cli_paint(call, CLI_PLAIN), cli_str(d, "sentence"));
}

/* 20 lines fit on a screen; the API gives up to 10000. */
int cmd_decisions(const struct cli_call *call)
{
    uint64_t limit = 20, since = 0;
    char count[24], age[24];
    struct buf path;
    json_t *root;
    if (!cli_number(call, OPT_LIMIT, 1, 10000, &limit) ||
        !cli_seconds(call, OPT_SINCE, 1, 86400, &since) || !cli_knows_loop(call))
        return 2;
    snprintf(count, sizeof count, "%llu", (unsigned long long)limit);
    snprintf(age, sizeof age, "%llu", (unsigned long long)since);
    buf_init(&path, 4096);
    buf_puts(&path, "/v1/decisions");
    cli_query(&path, "limit", count);
    cli_query(&path, "service", call->option[OPT_SERVICE]);
    cli_query(&path, "loop", call->option[OPT_LOOP]);
    cli_query(&path, "since", since ? age : NULL);
    int code = cli_api(call, "GET", buf_str(&path), NULL, &root);
    buf_fini(&path);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        const json_t *list = json_object_get(root, "decisions");
        struct buf out;
        buf_init(&out, 16 * MIB);
        for (size_t i = 0; i < json_array_size(list); i++)
            put_decision_line(call, json_array_get(list, i), &out);
        if (json_array_size(list) == 0)
            buf_puts(&out, "No decision fits: loops decide when traffic gives them a reason, and "
                           "their moves are applied in mode act (`foldback status` has it).\n");
        else
            buf_printf(&out, "\nNext: foldback decisions show %.0f\n",
                       cli_num(json_array_get(list, 0), "id"));
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}

/* ---- tail ---- */
struct tail {
    const struct cli_call *call;
    uint64_t left;
};

/* An outcome is the same decision again with its verdict, seconds later; --limit counts decisions.
 */
static bool on_decision(void *arg, const char *name, const json_t *data, struct span raw)
{
    struct tail *t = arg;
    bool is_decision = strcmp(name, "decision") == 0;
    if (!is_decision && strcmp(name, "outcome") != 0)
        return true;
    if (t->call->is_json) {
        printf("%.*s\n", SPAN_ARG(raw));
        fflush(stdout);
    } else {
        struct buf out;
        buf_init(&out, MIB);
        put_decision_line(t->call, data, &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    return !is_decision || --t->left > 0;
}

int cmd_decisions_tail(const struct cli_call *call)
{
    struct tail t = {.call = call, .left = UINT64_MAX};
    if (!cli_number(call, OPT_LIMIT, 1, UINT64_MAX, &t.left))
        return 2;
    struct cli_follow follow = {.on_message = on_decision, .arg = &t};
    return cli_follow(call, "/v1/live?interval_ms=5000", &follow);
}

/* ---- show ---- */
static void put_outcome(const json_t *d, struct buf *out)
{
    const json_t *o = json_object_get(d, "outcome");
    char a[CLI_ROOM], b[CLI_ROOM];
    if (!json_is_object(o)) {
        const char *at = cli_str(d, "verify_at");
        buf_printf(out, "outcome   open%s%s\n", at[0] ? "; the verifier looks at " : "", at);
        return;
    }
    buf_printf(out, "outcome   %s: %s %s -> %s %s (n = %.0f, %.0f)%s%s\n", cli_str(o, "verdict"),
               cli_str(o, "fact"), cli_count(cli_num(o, "before"), a),
               cli_count(cli_num(o, "after"), b), cli_str(o, "unit"), cli_num(o, "n_before"),
               cli_num(o, "n_after"), cli_is(o, "is_reverted") ? "; the knob went back" : "",
               cli_is(o, "is_frozen") ? "; the loop rests here" : "");
}

static void show_decision(const json_t *d, bool has_color, struct buf *out)
{
    char a[CLI_ROOM], b[CLI_ROOM];
    const json_t *expected = json_object_get(d, "expected");
    buf_printf(out, "%s\n\n", cli_str(d, "sentence"));
    buf_printf(out, "decision  %.0f at %s, offset %.0f\n", cli_num(d, "id"), cli_str(d, "time"),
               cli_num(d, "offset"));
    buf_printf(out, "knob      %s of %s: ", cli_str(d, "knob"), cli_target(d));
    put_move(d, out);
    buf_printf(out, " (bounds %s to %s)\n", cli_count(cli_num(d, "min"), a),
               cli_count(cli_num(d, "max"), b));
    buf_printf(out, "by        %s %s, mode %s, %s\n", cli_str(d, "actor"), cli_str(d, "loop"),
               cli_str(d, "mode"), cli_is(d, "is_applied") ? "applied" : "not applied");
    buf_printf(out, "reason    %s: %s\n", cli_str(d, "reason"), cli_str(d, "reason_sentence"));
    if (!isnan(cli_num(d, "delay_ms")))
        buf_printf(out, "delay     %s after the event that caused it\n",
                   cli_ms(cli_num(d, "delay_ms"), a));
    const char *effect = cli_str(expected, "effect");
    if (cli_str(expected, "fact")[0] && strcmp(effect, "none") != 0)
        buf_printf(out, "expects   %s %s%s %s %s\n", cli_str(expected, "fact"),
                   strcmp(effect, "keep") == 0 ? "to stay at" : effect,
                   strcmp(effect, "keep") == 0 ? "" : " than",
                   cli_count(cli_num(expected, "before"), a), cli_str(expected, "unit"));
    put_outcome(d, out);
    if (cli_str(d, "note")[0])
        buf_printf(out, "note      %s\n", cli_str(d, "note"));
    show_evidence(d, has_color, out);
}

/* What the loop saw when it decided: each fact with its window and count, and what it was compared
 * with. */
static void show_evidence(const json_t *d, bool has_color, struct buf *out)
{
    static const char *const heads[] = {"EVIDENCE", ">VALUE", ">THRESHOLD", "UNIT",
                                        ">WINDOW",  ">N",     "MEANING"};
    const json_t *evidence = json_object_get(d, "evidence");
    struct table t;
    char a[CLI_ROOM];
    if (json_array_size(evidence) == 0)
        return;
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(evidence); i++) {
        const json_t *e = json_array_get(evidence, i);
        table_put(&t, cli_str(e, "fact"));
        table_put(&t, cli_count(cli_num(e, "value"), a));
        table_put(&t, cli_count(cli_num(e, "threshold"), a));
        table_put(&t, cli_str(e, "unit"));
        table_put(&t, cli_ms(cli_num(e, "window_ms"), a));
        table_put(&t, cli_count(cli_num(e, "n"), a));
        table_put(&t, cli_str(e, "what"));
    }
    buf_putc(out, '\n');
    table_print(&t, has_color, out);
    table_fini(&t);
}

int cmd_decisions_show(const struct cli_call *call)
{
    uint64_t id;
    char path[64];
    json_t *d;
    if (!span_to_u64(span_of(call->arg[0]), &id))
        return cli_usage(call,
                         "wants the number of a decision, got \"%s\"; `foldback decisions` "
                         "lists them",
                         call->arg[0]);
    snprintf(path, sizeof path, "/v1/decisions/%llu", (unsigned long long)id);
    int code = cli_api(call, "GET", path, NULL, &d);
    if (code == 0 && call->is_json) {
        cli_print_json(d);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, MIB);
        show_decision(d, call->has_color, &out);
        buf_printf(&out, "\nNext: foldback why '%s %s'\n", cli_str(d, "knob"), cli_target(d));
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(d);
    return code;
}

/* ---- why ---- */
/* Where a value comes from, in words. */
static const char *meaning_of(const char *source)
{
    static const struct {
        const char *source, *meaning;
    } all[] = {{"safe", "the default"},
               {"configured", "from the configuration"},
               {"learned", "learned"},
               {"pinned", "set by an operator"}};
    for (size_t i = 0; i < FB_COUNT(all); i++)
        if (strcmp(source, all[i].source) == 0)
            return all[i].meaning;
    return source;
}

static void show_numbers(const json_t *why, struct buf *out)
{
    const json_t *knobs = json_object_get(why, "knobs"), *r = json_object_get(why, "request");
    char a[CLI_ROOM], b[CLI_ROOM], c[CLI_ROOM];
    for (size_t i = 0; i < json_array_size(knobs); i++) {
        const json_t *k = json_array_get(knobs, i);
        buf_printf(out, "%s  %-16s %s %s (%s; legal are %s to %s)\n",
                   i == 0 ? "Settings in force:\n" : "", cli_str(k, "knob"),
                   cli_count(cli_num(k, "value"), a), cli_str(k, "unit"),
                   meaning_of(cli_str(k, "source")), cli_count(cli_num(k, "min"), b),
                   cli_count(cli_num(k, "max"), c));
    }
    if (r)
        buf_printf(out, "  %s  status %.0f  total %s  queue %s  upstream %s  %s%s%s\n",
                   cli_str(r, "time"), cli_num(r, "status"), cli_ms(cli_num(r, "total_ms"), a),
                   cli_ms(cli_num(r, "queue_ms"), b), cli_ms(cli_num(r, "upstream_ms"), c),
                   cli_str(r, "method"), cli_str(r, "path")[0] ? " " : "", cli_str(r, "path"));
}

/* The sentences come from the server, which has the facts; here they get numbers and a next
 * command. */
int cmd_why(const struct cli_call *call)
{
    json_t *root;
    struct buf path;
    if (!call->arg[0][0])
        return cli_usage(call, "needs %s, got \"\"", call->command->args);
    buf_init(&path, 4096);
    buf_puts(&path, "/v1/why");
    cli_query(&path, "q", call->arg[0]);
    int code = cli_api(call, "GET", buf_str(&path), NULL, &root);
    buf_fini(&path);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        const json_t *list = json_object_get(root, "sentences");
        struct buf out;
        buf_init(&out, MIB);
        buf_printf(&out, "%s%s %s%s\n", cli_paint(call, CLI_BOLD), cli_str(root, "kind"),
                   cli_str(root, "subject"), cli_paint(call, CLI_PLAIN));
        for (size_t i = 0; i < json_array_size(list); i++)
            buf_printf(&out, "%s\n", json_string_value(json_array_get(list, i)));
        show_numbers(root, &out);
        list = json_object_get(root, "decisions");
        for (size_t i = 0; i < json_array_size(list); i++) {
            buf_puts(&out, i == 0 ? "\nLast decisions:\n" : "");
            put_decision_line(call, json_array_get(list, i), &out);
        }
        if (json_is_object(json_object_get(root, "decision")))
            show_evidence(json_object_get(root, "decision"), call->has_color, &out);
        list = json_object_get(root, "next");
        for (size_t i = 0; i < json_array_size(list); i++)
            buf_printf(&out, "%s%s\n", i == 0 ? "\nNext: " : "      ",
                       json_string_value(json_array_get(list, i)));
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}

/* ---- doctor ---- */
int cmd_doctor(const struct cli_call *call)
{
    json_t *root;
    int code = cli_api(call, "GET", "/v1/doctor", NULL, &root);
    if (code)
        return code;
    const json_t *findings = json_object_get(root, "findings");
    bool is_healthy = cli_is(root, "is_healthy");
    if (call->is_json) {
        cli_print_json(root);
    } else {
        for (size_t i = 0; i < json_array_size(findings); i++) {
            const json_t *f = json_array_get(findings, i);
            const char *severity = cli_str(f, "severity");
            enum cli_color color = strcmp(severity, "critical") == 0  ? CLI_RED
                                   : strcmp(severity, "warning") == 0 ? CLI_YELLOW
                                                                      : CLI_PLAIN;
            printf("%2.0f  %s%-8s%s  %s\n", cli_num(f, "rank"), cli_paint(call, color), severity,
                   cli_paint(call, CLI_PLAIN), cli_str(f, "text"));
            printf("              Next: %s\n", cli_str(f, "command"));
        }
        if (json_array_size(findings) == 0)
            puts("Nothing stands out in the last hour.");
        else if (is_healthy)
            puts("\nNone of it needs you now.");
    }
    json_decref(root);
    return is_healthy ? 0 : 1;
}
