/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback events export`: events of the log as a file or a pipe for other programs.
 *
 * A file appears whole or not at all: it is written under another name, synced, and renamed.  The
 * offset behind the last event that was looked at is told at the end; --from-offset goes on there.
 *
 *   jsonl        one object per event, with the columns of `events tables`
 *   csv          one event type, the same columns
 *   cloudevents  one CloudEvent 1.0 per line (event/cloudevent.h)
 *   parquet      one event type, the same columns (query/parquet.h) */
#include "base/clock.h"
#include "event/cloudevent.h"
#include "event/filter.h"
#include "main/export_parquet.h"
#include "main/export_region.h"
#include "main/log_names.h"
#include "main/run.h"
#include "query/print.h"
#include "query/value.h"
#include "query/when.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXIT_STOPPED 130
/* How long a follower sleeps at the end of the log. */
#define FOLLOW_MS 50

enum export_format { EXPORT_JSONL, EXPORT_CSV, EXPORT_CLOUDEVENTS, EXPORT_PARQUET, EXPORT_FORMATS };

struct export
{
    const struct cli_export_args *args;
    enum export_format format;
    struct log_place place;
    struct scan_source source;
    struct scan_bounds bounds;
    uint64_t types; /* that are put; 0: all */
    struct filter filter;
    struct export_region region;
    struct scan scan;
    FILE *to;
    char partial[4200]; /* name of the file while it is written; "" when stdout */
    struct print print;
    struct buf line;
    struct export_parquet parquet;
    int write_errno; /* of what could not be written; 0: none */
    uint64_t events, next_offset;
};

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
    (void)number;
    if (is_stopped) /* asked twice: at once */
        _exit(EXIT_STOPPED);
    is_stopped = 1;
}

static enum fb_code read_args(struct export *x, struct fb_err *err);
static enum fb_code open_output(struct export *x, struct fb_err *err);
static enum fb_code close_output(struct export *x, enum fb_code code, struct fb_err *err);
static enum fb_code run(struct export *x, struct fb_err *err);
static void tell(const struct export *x);

int export_command(const struct cli_export_args *args)
{
    static struct export x; /* the filter alone is some KiB */
    struct fb_err err = {0};
    struct sigaction act = {.sa_handler = on_signal};
    x = (struct export){.args = args, .to = stdout, .region = {.name = args->region}};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    enum fb_code code = read_args(&x, &err);
    if (code == FB_OK)
        code = log_place_find(&x.place, args->dir, args->state, &err);
    if (code == FB_OK)
        code = export_region_begin(&x.region, &x.place, &err);
    if (code == FB_OK)
        code = scan_open(&x.scan, &x.source, &err);
    if (code == FB_OK) {
        code = open_output(&x, &err);
        if (code == FB_OK)
            code = close_output(&x, run(&x, &err), &err);
    }
    scan_close(&x.scan);
    export_region_fini(&x.region);
    if (code == FB_OK) {
        tell(&x);
        return 0;
    }
    if (code == FB_E_AGAIN) {
        fprintf(stderr, "foldback: stopped%s\n", args->output ? "; no file was written" : "");
        return EXIT_STOPPED;
    }
    fprintf(stderr, "foldback: %s\n", err.text);
    return fb_error_row(code)->exit_code;
}

static enum fb_code read_time(const char *flag, const char *text, uint64_t *us, struct fb_err *err)
{
    if (!text || when_parse_either(span_of(text), fb_wall_us(), us))
        return FB_OK;
    return fb_fail(err, FB_E_USAGE,
                   "%s: \"%s\" is no time; write 90 (seconds), 15m, 2h, 3d or 2026-11-22T17:00:00Z",
                   flag, text);
}

static enum fb_code read_types(const char *text, uint64_t *types, uint32_t *count,
                               struct fb_err *err)
{
    struct span rest = span_of(text ? text : "");
    *count = 0;
    while (rest.len) {
        struct span one = span_cut(rest, ',', &rest);
        uint8_t type = ev_type_by_name(one);
        if (!type)
            return fb_fail(
                err, FB_E_USAGE,
                "--types: there is no event type \"%.*s\"; `foldback events tables` lists "
                "them",
                (int)fb_min_u64(one.len, 60), one.at);
        *count += !(*types >> type & 1);
        *types |= UINT64_C(1) << type;
    }
    return FB_OK;
}

static enum fb_code check_parquet(const struct cli_export_args *a, struct fb_err *err)
{
    if (a->is_following)
        return fb_fail(err, FB_E_USAGE,
                       "--format parquet has its index at the end, which --follow never reaches; "
                       "leave out --follow, or follow with --format jsonl");
    if (!a->output && isatty(STDOUT_FILENO))
        return fb_fail(err, FB_E_USAGE,
                       "--format parquet is no text for a terminal; name a file with --output, or "
                       "use a pipe");
    return FB_OK;
}

static enum fb_code read_args(struct export *x, struct fb_err *err)
{
    static const char *const formats[EXPORT_FORMATS] = {"jsonl", "csv", "cloudevents", "parquet"};
    const struct cli_export_args *a = x->args;
    const char *wanted = a->format ? a->format : "jsonl";
    uint32_t types;
    int format = 0;
    while (format < EXPORT_FORMATS && strcmp(wanted, formats[format]) != 0)
        format++;
    if (format == EXPORT_FORMATS)
        return fb_fail(err, FB_E_USAGE,
                       "--format: \"%s\" is none of jsonl, csv, cloudevents, parquet", wanted);
    x->format = (enum export_format)format;
    x->bounds = (struct scan_bounds){
        .from_offset = a->from_offset, .until_offset = UINT64_MAX, .until_us = UINT64_MAX};
    enum fb_code code = read_types(a->types, &x->bounds.types, &types, err);
    x->types = x->bounds.types;
    x->bounds.types = export_region_types(&x->region, x->types);
    bool is_table = x->format == EXPORT_CSV || x->format == EXPORT_PARQUET;
    if (code == FB_OK && is_table && types != 1)
        code = fb_fail(err, FB_E_USAGE,
                       "--format %s: the columns are those of one event type; name it, as in "
                       "--types request",
                       wanted);
    if (code == FB_OK && a->is_following && a->output)
        code = fb_fail(err, FB_E_USAGE,
                       "--follow has no end, so its file would never be whole; leave out --output "
                       "and use a pipe");
    if (code == FB_OK && x->format == EXPORT_PARQUET)
        code = check_parquet(a, err);
    if (code == FB_OK)
        code = read_time("--since", a->since, &x->bounds.since_us, err);
    if (code == FB_OK)
        code = read_time("--until", a->until, &x->bounds.until_us, err);
    if (code == FB_OK)
        code = filter_parse(&x->filter, span_of(a->filter ? a->filter : ""), err);
    x->source = (struct scan_source){
        .dir = x->place.log, .names_at = log_names_at, .arg = &x->place, .is_stopped = &is_stopped};
    return code;
}

/* ---- the file ---- */

static enum fb_code open_output(struct export *x, struct fb_err *err)
{
    const char *name = x->args->output;
    if (!name)
        return FB_OK;
    if (snprintf(x->partial, sizeof x->partial, "%s.partial", name) >= (int)sizeof x->partial)
        return fb_fail(err, FB_E_RANGE, "--output: longer than 4000 bytes");
    /* It holds what the log holds: for its owner only. */
    int fd = open(x->partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    x->to = fd < 0 ? NULL : fdopen(fd, "wb");
    if (x->to)
        return FB_OK;
    return fb_fail(err, FB_E_IO, "%s: %s", x->partial, strerror(errno));
}

static enum fb_code close_output(struct export *x, enum fb_code code, struct fb_err *err)
{
    bool is_written = fflush(x->to) == 0 && !ferror(x->to);
    int reason = x->write_errno ? x->write_errno : errno;
    bool is_part_fine = x->format != EXPORT_PARQUET && reason == EPIPE; /* `| head` has enough */
    if (!x->args->output) {
        if (code == FB_OK && !is_written && !is_part_fine)
            code = fb_fail(err, reason == ENOSPC ? FB_E_DISK_FULL : FB_E_IO,
                           "the events could not be written: %s%s", strerror(reason),
                           x->format == EXPORT_PARQUET ? "; what came is no whole file" : "");
        return code;
    }
    if (is_written) {
        is_written = fsync(fileno(x->to)) == 0;
        reason = is_written ? 0 : errno;
    }
    if (fclose(x->to) != 0)
        is_written = false;
    if (code == FB_OK && is_written && rename(x->partial, x->args->output) == 0)
        return FB_OK;
    if (code == FB_OK)
        code = fb_fail(err, reason == ENOSPC ? FB_E_DISK_FULL : FB_E_IO, "%s: %s; no file was made",
                       x->args->output, strerror(reason ? reason : errno));
    unlink(x->partial);
    return code;
}

/* ---- events ---- */

/* The names follow the log as it is read. */
static const char *name_of(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    (void)time_us;
    return names_get(ctx, (uint8_t)kind, number);
}

static bool put_line(struct export *x)
{
    buf_putc(&x->line, '\n');
    bool is_fine = !x->line.failed && fwrite(x->line.at, 1, x->line.len, x->to) == x->line.len;
    buf_clear(&x->line);
    return is_fine;
}

static bool put_cloudevent(struct export *x, const struct scan_event *e)
{
    struct json j;
    json_init(&j, &x->line);
    cloudevent_put(&j, e->ev,
                   &(struct cloudevent_place){.node = e->node,
                                              .offset = e->offset,
                                              .wall_us = e->wall_us,
                                              .subject = column_subject(e->ev, &x->scan.names),
                                              .is_redacted = x->args->is_redacted});
    return put_line(x);
}

static void put_value(struct json *j, const struct query_value *v)
{
    if (v->type == QUERY_INTEGER)
        json_i64(j, v->integer);
    else if (v->type == QUERY_REAL)
        json_f64_exact(j, v->real);
    else if (v->type == QUERY_TEXT)
        json_span(j, v->text);
    else
        json_nil(j);
}

static bool put_json(struct export *x, const struct scan_event *e)
{
    const struct column_table *t = column_table(e->ev->type);
    struct json j;
    json_init(&j, &x->line);
    json_object_begin(&j);
    json_key_str(&j, "type", t->name);
    for (uint32_t i = 0; i < t->count; i++) {
        char room[VALUE_ROOM];
        struct query_value v =
            column_value(&t->at[i], e, &x->scan.names, x->args->is_redacted, room);
        json_key(&j, t->at[i].name);
        put_value(&j, &v);
    }
    json_object_end(&j);
    return put_line(x);
}

static bool put_csv(struct export *x, const struct query_sink *sink, const struct scan_event *e)
{
    const struct column_table *t = column_table(e->ev->type);
    struct query_value row[COLUMNS_MAX];
    char room[COLUMNS_MAX][VALUE_ROOM];
    for (uint32_t i = 0; i < t->count; i++)
        row[i] = column_value(&t->at[i], e, &x->scan.names, x->args->is_redacted, room[i]);
    return sink->on_row(sink->arg, row, t->count);
}

static uint8_t first_type(const struct export *x)
{
    uint8_t type = 1;
    while (type < EV_TYPE_END && !(x->types >> type & 1))
        type++;
    return type;
}

static bool put_csv_head(struct export *x, const struct query_sink *sink)
{
    const char *names[COLUMNS_MAX];
    const struct column_table *t = column_table(first_type(x));
    for (uint32_t i = 0; i < t->count; i++)
        names[i] = t->at[i].name;
    return sink->on_head(sink->arg, names, t->count);
}

/* ---- Parquet ---- */

static bool write_parquet(void *arg, struct span bytes)
{
    struct export *x = arg;
    if (fwrite(bytes.at, 1, bytes.len, x->to) == bytes.len)
        return true;
    x->write_errno = errno ? errno : EIO;
    return false;
}

static enum fb_code put_parquet_head(struct export *x, struct fb_err *err)
{
    return export_parquet_begin(&x->parquet, first_type(x),
                                &(struct parquet_to){.write = write_parquet, .arg = x}, err);
}

/* FB_E_END: it could not be written, and close_output says why. */
static enum fb_code parquet_code(const struct export *x, enum fb_code code)
{
    return x->write_errno ? FB_E_END : code;
}

/* ---- all of them ---- */

static bool put(struct export *x, const struct query_sink *sink, const struct scan_event *e)
{
    x->events++;
    return x->format == EXPORT_CSV           ? put_csv(x, sink, e)
           : x->format == EXPORT_CLOUDEVENTS ? put_cloudevent(x, e)
                                             : put_json(x, e);
}

static bool is_wanted(const struct export *x, const struct ev_head *ev,
                      const struct filter_names *names)
{
    return (!x->types || x->types >> ev->type & 1) &&
           (x->filter.is_all || filter_matches(&x->filter, ev, NULL, names)) &&
           export_region_may_pass(&x->region, ev, names);
}

/* close_output says why. */
static enum fb_code cannot_write(struct export *x)
{
    if (ferror(x->to) && !x->write_errno)
        x->write_errno = errno ? errno : EIO;
    return FB_E_END;
}

/* A follower goes on at the end of the log, but not over what could not be written: a later flush
 * is fine again and would leave a hole. */
static bool is_followed(struct export *x)
{
    if (!x->args->is_following || is_stopped || ferror(x->to))
        return false;
    return fflush(x->to) == 0 || cannot_write(x) == FB_OK;
}

/* To the present end of the log; FB_E_END then. */
static enum fb_code pass(struct export *x, const struct query_sink *sink, struct fb_err *err)
{
    const struct filter_names names = {.name = name_of, .ctx = &x->scan.names};
    struct scan_event e;
    enum fb_code code;
    while ((code = scan_next(&x->scan, &e, err)) == FB_OK) {
        export_region_feed(&x->region, e.ev, e.offset);
        if (!is_wanted(x, e.ev, &names))
            continue;
        if (x->format != EXPORT_PARQUET) {
            if (!put(x, sink, &e))
                return cannot_write(x);
            continue;
        }
        x->events++;
        code = export_parquet_put(&x->parquet, &e, &x->scan.names, x->args->is_redacted, err);
        if (code != FB_OK)
            return parquet_code(x, code);
    }
    return code;
}

static enum fb_code run(struct export *x, struct fb_err *err)
{
    print_init(&x->print, x->to, PRINT_CSV);
    buf_init(&x->line, MIB);
    struct query_sink sink = print_sink(&x->print);
    bool goes_on = x->format != EXPORT_CSV || put_csv_head(x, &sink);
    enum fb_code code = scan_begin(&x->scan, &x->bounds, err);
    if (code == FB_OK && x->format == EXPORT_PARQUET)
        code = put_parquet_head(x, err);
    while (code == FB_OK && goes_on) {
        code = pass(x, &sink, err);
        x->next_offset = log_reader_offset(x->scan.reader);
        goes_on = code == FB_E_END && is_followed(x);
        if (!goes_on)
            break;
        nanosleep(&(struct timespec){.tv_nsec = FOLLOW_MS * 1000000L}, NULL);
        scan_go_on(&x->scan);
        code = FB_OK;
    }
    if (code == FB_E_END && x->format == EXPORT_PARQUET && !x->write_errno) {
        code = export_parquet_end(&x->parquet, err);
        code = code == FB_OK ? FB_E_END : parquet_code(x, code);
    }
    export_parquet_fini(&x->parquet);
    bool is_end_of_follow = code == FB_E_AGAIN && x->args->is_following;
    print_fini(&x->print);
    buf_fini(&x->line);
    return code == FB_E_END || is_end_of_follow ? FB_OK : code;
}

/* Where the next export begins. */
static void tell(const struct export *x)
{
    if (x->args->is_json && x->args->output)
        printf("{\"file\":\"%s\",\"events\":%" PRIu64 ",\"next_offset\":%" PRIu64
               ",\"missing_events\":%" PRIu64 "}\n",
               x->args->output, x->events, x->next_offset, x->source.missing);
    else
        fprintf(stderr, "foldback: %" PRIu64 " events; go on with --from-offset %" PRIu64 "\n",
                x->events, x->next_offset);
    if (x->source.holes)
        fprintf(stderr,
                "foldback: %" PRIu64 " events in %" PRIu64
                " holes of the log are missing; `foldback log check` names them\n",
                x->source.missing, x->source.holes);
}
