/* SPDX-License-Identifier: Apache-2.0 */
/* status and tap. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include "knob/knob.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- status ---- */
static bool is_window(const char *text)
{
    static const char *const windows[] = {"100ms", "1s", "10s", "60s"};
    for (size_t i = 0; i < FB_COUNT(windows); i++)
        if (strcmp(text, windows[i]) == 0)
            return true;
    return false;
}

/* {"limit": "act", "timeout": "mixed"} of the knobs. */
static json_t *modes_of(const json_t *knobs)
{
    json_t *modes = json_object();
    for (size_t i = 0; i < json_array_size(knobs); i++) {
        const json_t *k = json_array_get(knobs, i);
        const char *loop = cli_str(k, "loop");
        const char *mode = cli_is(k, "is_frozen") ? "frozen" : cli_str(k, "mode");
        const char *was = json_string_value(json_object_get(modes, loop));
        if (strcmp(loop, "none") != 0)
            json_object_set_new(modes, loop,
                                json_string(!was || strcmp(was, mode) == 0 ? mode : "mixed"));
    }
    return modes;
}

static void show_modes(json_t *modes, struct buf *out)
{
    const char *loop, *between = "mode      ";
    json_t *mode;
    json_object_foreach(modes, loop, mode)
    {
        buf_printf(out, "%s%s %s", between, loop, json_string_value(mode));
        between = ", ";
    }
    if (json_object_size(modes))
        buf_putc(out, '\n');
}

/* Those that stand; past ones are in the log. */
static size_t show_alerts(const json_t *alerts, struct buf *out)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(alerts); i++) {
        const json_t *a = json_array_get(alerts, i);
        if (cli_str(a, "over")[0])
            continue;
        const char *text = cli_str(a, "text"), *target = cli_target(a), *time = cli_str(a, "time");
        /* figures in the text are of then: 2026-03-01T12:00:01.000Z -> 12:00:01Z */
        buf_printf(out, "alert     %s since %.8sZ: %s", cli_str(a, "severity"),
                   strlen(time) > 19 ? time + 11 : "?", text[0] ? text : cli_str(a, "reason"));
        buf_printf(out, target[0] ? " (%s)\n" : "\n%s", target);
        count++;
    }
    if (count == 0)
        buf_puts(out, "alerts    none\n");
    return count;
}

/* Six short calls rather than one: each is a call of the API that scripts use as well.  With
 * --json the parts stand side by side, as the API gave them. */
int cmd_status(const struct cli_call *call)
{
    static const char *const parts[] = {"status",   "services", "endpoints",
                                        "versions", "knobs",    "alerts"};
    json_t *root = json_object();
    const char *window = call->option[OPT_WINDOW];
    int code = 0;
    if (window && !is_window(window))
        code = cli_usage(call, "--window must be 100ms, 1s, 10s or 60s, got \"%s\"", window);
    for (size_t i = 0; i < FB_COUNT(parts) && code == 0; i++) {
        struct buf path;
        json_t *part;
        buf_init(&path, 256);
        buf_printf(&path, "/v1/%s", parts[i]);
        if (i >= 1 && i <= 3)
            cli_query(&path, "window", window);
        code = cli_api(call, "GET", buf_str(&path), NULL, &part);
        buf_fini(&path);
        if (code == 0 && i > 0) { /* {"services": [...], ...}: the list alone */
            json_t *list = json_incref(json_object_get(part, parts[i]));
            json_decref(part);
            part = list;
        }
        if (code == 0)
            json_object_set_new(root, parts[i], part);
    }
    if (code == 0) {
        json_t *modes = modes_of(json_object_get(root, "knobs"));
        json_object_del(root, "knobs"); /* `foldback get` shows them */
        json_object_set_new(root, "modes", modes);
    }
    if (code == 0 && call->is_json)
        cli_print_json(root);
    if (code == 0 && !call->is_json) {
        struct buf out;
        buf_init(&out, 4 * MIB);
        show_summary(json_object_get(root, "status"), &out);
        show_modes(json_object_get(root, "modes"), &out);
        size_t alerts = show_alerts(json_object_get(root, "alerts"), &out);
        buf_putc(&out, '\n');
        show_services(json_object_get(root, "services"), call->has_color, &out);
        buf_putc(&out, '\n');
        show_endpoints(json_object_get(root, "endpoints"), call->has_color, &out);
        show_versions(json_object_get(root, "versions"), call->has_color, &out);
        show_signals(json_object_get(json_object_get(root, "status"), "signals"), call->has_color,
                     &out);
        if (alerts)
            buf_puts(&out, "\nNext: foldback doctor\n");
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}

/* ---- tap ----
 * A sample brings method and path of a request a few events after the request itself, under the
 * same id: the last TAP_HELD requests wait for theirs, until nothing came for 100 ms.  What was
 * printed is remembered, so that a late sample prints nothing twice. */
#define TAP_HELD 16
#define TAP_SEEN 64

struct tap {
    const struct cli_call *call;
    uint64_t left;
    json_t *held[TAP_HELD]; /* oldest first */
    size_t held_count;
    char seen[TAP_SEEN][20]; /* ids that were printed */
    size_t seen_next;
    bool has_heading;
};

/* Not before the filter was taken. */
static void print_heading(struct tap *t)
{
    if (t->has_heading || t->call->is_json)
        return;
    t->has_heading = true;
    printf("%-12s %3s %-9s %-9s %-8s %s\n", "TIME", "ST.", "TOTAL", "QUEUE", "CLASS",
           "ROUTE -> ENDPOINT METHOD HOST/PATH REASON ID");
    fflush(stdout);
}

/* time, status, total, queue, class, route -> endpoint, method host/path, reason, id: the id last,
 * where `foldback why` wants it copied from. */
static void print_request(const struct cli_call *call, const json_t *r)
{
    char total[CLI_ROOM], queue[CLI_ROOM];
    double status = cli_num(r, "status");
    const char *time = cli_str(r, "time"), *path = cli_str(r, "path");
    const char *clock = strlen(time) > 23 ? time + 11 : time; /* hh:mm:ss.mmmZ of RFC 3339 */
    enum cli_color color = status >= 500 ? CLI_RED : status >= 400 ? CLI_YELLOW : CLI_PLAIN;
    printf("%.12s %s%3.0f%s %-9s %-9s %-8s %s", clock, cli_paint(call, color), status,
           cli_paint(call, CLI_PLAIN), cli_ms(cli_num(r, "total_ms"), total),
           cli_ms(cli_num(r, "queue_ms"), queue), cli_str(r, "class"), cli_str(r, "route"));
    printf(" -> %s", cli_str(r, "endpoint")[0] ? cli_str(r, "endpoint") : "-");
    if (path[0])
        printf(" %s %s%s", cli_str(r, "method"), cli_str(r, "host"), path);
    if (cli_num(r, "attempts") > 1)
        printf(" (%.0f attempts)", cli_num(r, "attempts"));
    printf(" %s %s\n", cli_str(r, "reason"), cli_str(r, "id"));
    fflush(stdout);
}

/* Also counts --limit: what was held when the last one was printed is dropped. */
static void print_oldest(struct tap *t)
{
    json_t *r = t->held[0];
    print_heading(t);
    t->held_count--;
    memmove(t->held, t->held + 1, t->held_count * sizeof t->held[0]);
    if (t->left == 0) { /* held beyond --limit */
        json_decref(r);
        return;
    }
    t->left--;
    snprintf(t->seen[t->seen_next++ % TAP_SEEN], sizeof t->seen[0], "%s", cli_str(r, "id"));
    if (t->call->is_json)
        cli_print_json_line(r);
    else
        print_request(t->call, r);
    json_decref(r);
}

static bool print_held(void *arg)
{
    struct tap *t = arg;
    print_heading(t);
    while (t->held_count > 0)
        print_oldest(t);
    return t->left > 0;
}

static bool is_seen(const struct tap *t, const char *id)
{
    for (size_t i = 0; i < TAP_SEEN; i++)
        if (strcmp(t->seen[i], id) == 0)
            return true;
    return false;
}

static void take_request(struct tap *t, const json_t *r)
{
    const char *id = cli_str(r, "id");
    for (size_t i = 0; i < t->held_count; i++)
        if (strcmp(cli_str(t->held[i], "id"), id) == 0) {
            json_decref(t->held[i]);
            t->held[i] = json_deep_copy(r);
            return;
        }
    if (is_seen(t, id))
        return;
    if (t->held_count == TAP_HELD)
        print_oldest(t);
    t->held[t->held_count++] = json_deep_copy(r);
}

static bool on_request(void *arg, const char *name, const json_t *data, struct span raw)
{
    struct tap *t = arg;
    (void)raw;
    if (strcmp(name, "lost") == 0)
        fprintf(stderr,
                "foldback: %.0f requests above the rate and %.0f for lack of room are not shown\n",
                fmax(0, cli_num(data, "over_rate")), fmax(0, cli_num(data, "lost")));
    else if (strcmp(name, "request") == 0)
        take_request(t, data);
    return t->left > 0;
}

int cmd_tap(const struct cli_call *call)
{
    struct tap t = {.call = call, .left = UINT64_MAX};
    uint64_t rate = 50;
    struct buf path;
    if (!cli_number(call, OPT_RATE, 1, 1000, &rate) ||
        !cli_number(call, OPT_LIMIT, 1, UINT64_MAX, &t.left))
        return 2;
    buf_init(&path, 4096);
    buf_puts(&path, "/v1/tap");
    cli_query(&path, "filter", call->option[OPT_FILTER]);
    cli_query(&path, "rate", call->option[OPT_RATE]);
    cli_query(&path, "redact", call->option[OPT_NO_REDACT] ? "false" : NULL);
    struct cli_follow follow = {.on_message = on_request, .on_idle = print_held, .arg = &t};
    int code = cli_follow(call, buf_str(&path), &follow);
    buf_fini(&path);
    return code;
}
