/* SPDX-License-Identifier: Apache-2.0 */
/* events tail: the log as JSON lines.
 *
 * The server begins <limit> events before the end and then filters; so that `--limit 5 --type
 * decision` means the last five decisions, a filtered tail reads a longer part and keeps the last
 * ones here: first a part near the end, then, when that holds too few, the whole log.  220,000
 * events are looked through in 66 ms. */
#include "cli/cli_int.h"

#include "cli/client.h"
#include "event/event.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAR_END_EVENTS 200000

struct lines {
    struct buf *keep; /* ring of the last <max>; NULL: print at once */
    uint64_t max, count;
};

/* Keeps or prints one line; false after the last one that is wanted. */
static bool on_event(void *arg, struct span line)
{
    struct lines *l = arg;
    if (line.len == 0)
        return true;
    l->count++;
    if (l->keep) {
        struct buf *slot = &l->keep[(l->count - 1) % l->max];
        buf_clear(slot);
        buf_put_span(slot, line);
        return true;
    }
    printf("%.*s\n", SPAN_ARG(line));
    fflush(stdout);
    return l->count < l->max;
}

static int read_lines(const struct cli_call *call, const char *path, struct lines *lines)
{
    struct client c;
    struct buf out;
    struct fb_err err = {0};
    enum fb_code code = cli_client(call, &c, &err);
    if (code != FB_OK)
        return cli_fail(&err);
    struct client_call one = {.method = "GET", .path = path, .on_line = on_event, .arg = lines};
    buf_init(&out, MIB);
    code = client_call(&c, &one, &out, &err);
    buf_fini(&out);
    return code == FB_OK ? 0 : cli_fail(&err);
}

static void put_path(const struct cli_call *call, struct buf *path, const char *from,
                     const char *limit)
{
    buf_clear(path);
    buf_puts(path, "/v1/events");
    cli_query(path, "from", from);
    cli_query(path, "limit", limit);
    cli_query(path, "type", call->option[OPT_TYPE]);
    cli_query(path, "filter", call->option[OPT_FILTER]);
    cli_query(path, "follow", call->option[OPT_FOLLOW] ? "true" : NULL);
    cli_query(path, "redact", call->option[OPT_NO_REDACT] ? "false" : NULL);
}

/* The last <limit> that fit. */
static int filtered_tail(const struct cli_call *call, uint64_t limit)
{
    struct lines lines = {.max = limit, .keep = calloc(limit, sizeof(struct buf))};
    struct buf path;
    json_t *status = NULL;
    int code = lines.keep ? cli_api(call, "GET", "/v1/status", NULL, &status) : 1;
    const json_t *stream = json_object_get(status, "stream");
    double first = fmax(0, cli_num(stream, "first_offset"));
    double from = fmax(first, fmax(0, cli_num(stream, "next_offset")) - NEAR_END_EVENTS);
    json_decref(status);
    buf_init(&path, 4096);
    for (uint64_t i = 0; lines.keep && i < limit; i++)
        buf_init(&lines.keep[i], MIB);
    while (code == 0) {
        char text[32];
        snprintf(text, sizeof text, "%.0f", from);
        lines.count = 0;
        put_path(call, &path, text, "1000000");
        code = read_lines(call, buf_str(&path), &lines);
        if (lines.count >= limit || from <= first)
            break;
        from = first;
    }
    uint64_t kept = fb_min_u64(lines.count, limit);
    for (uint64_t i = 0; code == 0 && i < kept; i++)
        puts(buf_str(&lines.keep[(lines.count - kept + i) % limit]));
    for (uint64_t i = 0; lines.keep && i < limit; i++)
        buf_fini(&lines.keep[i]);
    free(lines.keep);
    buf_fini(&path);
    return code;
}

static bool is_known_type(const struct cli_call *call)
{
    const char *words[EV_TYPE_END], *name = call->option[OPT_TYPE];
    size_t count = 0;
    if (!name || ev_type_by_name(span_of(name)))
        return true;
    for (uint8_t t = 0; t < EV_TYPE_END; t++)
        if (ev_type_row(t)->name)
            words[count++] = ev_type_row(t)->name;
    const char *close = cli_closest(name, words, count);
    cli_usage(call, "knows no event type \"%s\"; %s%s", name,
              close ? "did you mean " : "`foldback reference events` lists them",
              close ? close : "");
    return false;
}

int cmd_events_tail(const struct cli_call *call)
{
    uint64_t limit = 100, from;
    char text[32];
    struct buf path;
    bool is_following = call->option[OPT_FOLLOW] != NULL;
    bool is_filtered = call->option[OPT_TYPE] || call->option[OPT_FILTER];
    if (!cli_number(call, OPT_LIMIT, 1, 1000000, &limit) ||
        !cli_number(call, OPT_FROM_OFFSET, 0, UINT64_MAX, &from) || !is_known_type(call))
        return 2;
    if (is_filtered && !is_following && !call->option[OPT_FROM_OFFSET])
        return filtered_tail(call, limit);
    /* Following ends only with --limit. */
    struct lines lines = {.max = is_following && !call->option[OPT_LIMIT] ? UINT64_MAX : limit};
    snprintf(text, sizeof text, "%llu", (unsigned long long)limit);
    buf_init(&path, 4096);
    put_path(call, &path, call->option[OPT_FROM_OFFSET], text);
    int code = read_lines(call, buf_str(&path), &lines);
    buf_fini(&path);
    return code;
}

/* <is_read>: the log is; else the page of tables needs none.  A copy (--dir) needs no state folder.
 */
static int log_of(const struct cli_call *call, bool is_read, const char **state)
{
    if (is_read && !call->option[OPT_DIR])
        return cli_state(call, state);
    *state = client_state_dir(call->option[OPT_STATE]);
    return 0;
}

static int query(const struct cli_call *call, const char *sql, const char *table)
{
    struct fb_err err = {0};
    const char *state;
    int code = log_of(call, sql != NULL, &state);
    if (code != 0)
        return code;
    struct cli_query_args args = {.sql = sql,
                                  .table = table,
                                  .state = state,
                                  .dir = call->option[OPT_DIR],
                                  .format = call->option[OPT_FORMAT],
                                  .since = call->option[OPT_SINCE],
                                  .until = call->option[OPT_UNTIL],
                                  .is_redacted = !call->option[OPT_NO_REDACT],
                                  .is_json = call->is_json};
    if (call->hooks->query)
        return call->hooks->query(&args);
    fb_fail(&err, FB_E_INTERNAL, "this build has no such command");
    return cli_fail(&err);
}

int cmd_events_query(const struct cli_call *call)
{
    return query(call, call->arg[0], NULL);
}

int cmd_events_tables(const struct cli_call *call)
{
    return query(call, NULL, call->arg_count ? call->arg[0] : NULL);
}

int cmd_events_export(const struct cli_call *call)
{
    struct fb_err err = {0};
    const char *state;
    int code = log_of(call, true, &state);
    if (code != 0)
        return code;
    struct cli_export_args args = {.format = call->option[OPT_FORMAT],
                                   .types = call->option[OPT_TYPES],
                                   .state = state,
                                   .dir = call->option[OPT_DIR],
                                   .since = call->option[OPT_SINCE],
                                   .until = call->option[OPT_UNTIL],
                                   .filter = call->option[OPT_FILTER],
                                   .output = call->option[OPT_OUTPUT],
                                   .region = call->option[OPT_REGION],
                                   .is_following = call->option[OPT_FOLLOW] != NULL,
                                   .is_redacted = !call->option[OPT_NO_REDACT],
                                   .is_json = call->is_json};
    if (!cli_number(call, OPT_FROM_OFFSET, 0, UINT64_MAX, &args.from_offset))
        return 2;
    if (call->hooks->export)
        return call->hooks->export(&args);
    fb_fail(&err, FB_E_INTERNAL, "this build has no such command");
    return cli_fail(&err);
}
