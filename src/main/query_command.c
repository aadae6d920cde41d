/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback events query` and `foldback events tables`. */
#include "base/clock.h"
#include "main/log_names.h"
#include "main/run.h"
#include "query/column.h"
#include "query/print.h"
#include "query/query.h"
#include "query/when.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* As shells do: 128 + SIGINT. */
#define EXIT_STOPPED 130

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
    (void)number;
    if (is_stopped) /* asked twice: at once */
        _exit(EXIT_STOPPED);
    is_stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN); /* `| head`: the write fails, and that is the end */
}

static void on_progress(void *arg, uint64_t scanned, uint64_t left)
{
    (void)arg;
    fprintf(stderr, "\r%.1f M events read, %.1f M to go", (double)scanned / 1e6,
            (double)left / 1e6);
}

static int tables(const struct cli_query_args *args);
/* Prints the error too. */
static enum fb_code run(const struct cli_query_args *args, const struct query_conf *conf,
                        enum print_format format, struct fb_err *err);

static int fail(const struct fb_err *err)
{
    fprintf(stderr, "foldback: %s\n", err->text);
    return fb_error_row(err->code)->exit_code;
}

static enum fb_code read_time(const char *flag, const char *text, uint64_t now_us, uint64_t *us,
                              struct fb_err *err)
{
    if (!text || when_parse_either(span_of(text), now_us, us))
        return FB_OK;
    return fb_fail(err, FB_E_USAGE,
                   "%s: \"%s\" is no time; write 90 (seconds), 15m, 2h, 3d or 2026-11-22T17:00:00Z",
                   flag, text);
}

int query_command(const struct cli_query_args *args)
{
    struct fb_err err = {0};
    struct log_place place;
    struct query_conf conf = {
        .now_us = fb_wall_us(), .until_us = UINT64_MAX, .is_redacted = args->is_redacted};
    if (!args->sql)
        return tables(args);
    int format = print_format_by_name(args->format    ? args->format
                                      : args->is_json ? "json"
                                                      : "table");
    if (format < 0) {
        fb_fail(&err, FB_E_USAGE, "--format: \"%s\" is none of table, json, jsonl, csv",
                args->format);
        return fail(&err);
    }
    enum fb_code code = read_time("--since", args->since, conf.now_us, &conf.since_us, &err);
    if (code == FB_OK)
        code = read_time("--until", args->until, conf.now_us, &conf.until_us, &err);
    if (code == FB_OK)
        code = log_place_find(&place, args->dir, args->state, &err);
    if (code != FB_OK)
        return fail(&err);
    conf.source = (struct scan_source){.dir = place.log,
                                       .names_at = log_names_at,
                                       .arg = &place,
                                       .is_stopped = &is_stopped,
                                       .on_progress = isatty(STDERR_FILENO) ? on_progress : NULL};
    catch_signals();
    code = run(args, &conf, (enum print_format)format, &err);
    if (code == FB_E_AGAIN && is_stopped) {
        fprintf(stderr, "foldback: stopped\n");
        return EXIT_STOPPED;
    }
    return fb_error_row(code)->exit_code;
}

/* The line of the SQL with a mark under the place. */
static void show_place(const char *sql, int at)
{
    int begin = at, end = at;
    while (begin > 0 && sql[begin - 1] != '\n')
        begin--;
    while (sql[end] && sql[end] != '\n')
        end++;
    /* A long line is shown from a little before the place. */
    if (at - begin > 60)
        begin = at - 60;
    if (end - begin > 100)
        end = begin + 100;
    fprintf(stderr, "  %.*s\n  %*s^ character %d\n", end - begin, sql + begin, at - begin, "",
            at + 1);
}

static enum fb_code run(const struct cli_query_args *args, const struct query_conf *conf,
                        enum print_format format, struct fb_err *err)
{
    struct query *q;
    struct print print;
    enum fb_code code = query_open(&q, conf, err);
    if (code != FB_OK) {
        fail(err);
        return code;
    }
    print_init(&print, stdout, format);
    struct query_sink sink = print_sink(&print);
    uint64_t begin_us = fb_mono_us();
    code = query_run(q, args->sql, &sink, err);
    if (conf->source.on_progress)
        fprintf(stderr, "\r\033[K");
    bool is_written = code != FB_OK || print_end(&print);
    const struct scan_source *source = query_source(q);
    if (code == FB_OK && isatty(STDERR_FILENO))
        fprintf(stderr, "%" PRIu64 " rows; %" PRIu64 " events read in %.2f s\n", print.rows,
                source->scanned, (double)(fb_mono_us() - begin_us) / 1e6);
    if (source->holes)
        fprintf(stderr,
                "foldback: %" PRIu64 " events in %" PRIu64
                " holes of the log are missing from the answer; `foldback log check` names them\n",
                source->missing, source->holes);
    /* Whoever reads has enough: no error. */
    if (print.has_failed && !is_stopped)
        code = FB_OK;
    else if (!is_written)
        code = fb_fail(err, FB_E_IO, "the answer could not be written");
    if (code != FB_OK && code != FB_E_AGAIN) {
        fprintf(stderr, "foldback: %s\n", err->text);
        if (query_error_at(q) >= 0)
            show_place(args->sql, query_error_at(q));
    }
    print_fini(&print);
    query_close(q);
    return code;
}

/* ---- the list of tables ---- */

static const char *type_of(const struct column *c)
{
    return c->is_text ? "text" : c->is_real ? "real" : "integer";
}

static void put_table(const struct column_table *t, struct buf *out)
{
    buf_printf(out, "%s: %s\n", t->name, t->what);
    for (uint32_t i = 0; i < t->count; i++) {
        const struct column *c = &t->at[i];
        buf_printf(out, "  %-22s %-8s %-9s %s%s%s\n", c->name, type_of(c), c->unit,
                   c->kind == COLUMN_WORD ? "(name) " : "", c->what,
                   c->field && c->field->privacy == EV_PERSONAL ? " Personal: redacted." : "");
    }
}

static void put_table_json(const struct column_table *t, struct json *j)
{
    json_object_begin(j);
    json_key_str(j, "table", t->name);
    json_key_str(j, "what", t->what);
    json_key(j, "columns");
    json_array_begin(j);
    for (uint32_t i = 0; i < t->count; i++) {
        json_object_begin(j);
        json_key_str(j, "name", t->at[i].name);
        json_key_str(j, "type", type_of(&t->at[i]));
        json_key_str(j, "unit", t->at[i].unit);
        json_key_str(j, "what", t->at[i].what);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static const char functions[] =
    "functions besides those of SQLite:\n"
    "  p50(x) p90(x) p99(x) p999(x)  quantile of a group, within 1 %; quantile(x, 0.95) for "
    "others\n"
    "  bucket(time, '10s')           begin of the stretch of time that holds it\n"
    "  seconds('10s')                10.0: count(*) / seconds('10s') is a rate\n"
    "  ago('5m')                     time_us of five minutes before now\n"
    "  iso(us)                       a time_us as text\n";

static int tables(const struct cli_query_args *args)
{
    struct buf out;
    struct json j;
    uint32_t found = 0;
    buf_init(&out, 4 * MIB);
    json_init(&j, &out);
    if (args->is_json)
        json_array_begin(&j);
    for (uint8_t i = 0; i < EV_TYPE_END; i++) {
        const struct column_table *t = column_table(i);
        if (!t->name || (args->table && strcmp(args->table, t->name) != 0))
            continue;
        if (args->is_json)
            put_table_json(t, &j);
        else
            put_table(t, &out);
        found++;
    }
    if (args->is_json)
        json_array_end(&j);
    else if (!args->table)
        buf_puts(&out, functions);
    if (found)
        printf("%s%s", buf_str(&out), args->is_json ? "\n" : "");
    else
        fprintf(stderr, "foldback: there is no table \"%s\"; `foldback events tables` lists them\n",
                args->table);
    buf_fini(&out);
    return found ? 0 : fb_error_row(FB_E_USAGE)->exit_code;
}
