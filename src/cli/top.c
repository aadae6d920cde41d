/* SPDX-License-Identifier: Apache-2.0 */
/* top: the live view; a full screen on a terminal, plain lines elsewhere.
 *
 * Each second three calls of the admin API; keys are looked at between them.  The screen shows what
 * show_* append to a buf, cut at its edges, so both forms show the same. */
#include "cli/cli_int.h"

#include "base/clock.h"

#include <curses.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_MS 1000

/* The keys of the help line: what the tables are ordered by. */
struct order {
    int key;
    const char *word;
    const char *member, *fact; /* one of both; NULL, NULL: as configured */
};
static const struct order orders[] = {
    {'n', "name", NULL, NULL},
    {'r', "rate", NULL, "rate"},
    {'e', "errors", NULL, "error_ratio"},
    {'l', "latency", NULL, "latency_p99"},
    {'i', "in flight", "in_flight", NULL},
};

struct picture { /* one look at everything */
    json_t *status, *services, *endpoints;
};

static enum fb_code look(const struct cli_call *call, struct picture *p, struct fb_err *err);
static void drop(struct picture *p);
static void sort_rows(json_t *rows, const struct order *by);
static int run_screen(const struct cli_call *call);
static int run_lines(const struct cli_call *call);

int cmd_top(const struct cli_call *call)
{
    const char *term = getenv("TERM");
    bool is_screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && term && term[0] &&
                     strcmp(term, "dumb") != 0 && !call->is_json && !call->option[OPT_ONCE];
    return is_screen ? run_screen(call) : run_lines(call);
}

static enum fb_code look_at(const struct cli_call *call, const char *path, const char *member,
                            json_t **out, struct fb_err *err)
{
    json_t *root;
    enum fb_code code = cli_get(call, path, &root, err);
    *out = member ? json_incref(json_object_get(root, member)) : json_incref(root);
    json_decref(root);
    return code;
}

/* Three calls over loopback: under 9 ms with the start of the program. */
static enum fb_code look(const struct cli_call *call, struct picture *p, struct fb_err *err)
{
    *p = (struct picture){NULL, NULL, NULL};
    enum fb_code code = look_at(call, "/v1/status", NULL, &p->status, err);
    if (code == FB_OK)
        code = look_at(call, "/v1/services?window=1s", "services", &p->services, err);
    if (code == FB_OK)
        code = look_at(call, "/v1/endpoints?window=1s", "endpoints", &p->endpoints, err);
    return code;
}

static void drop(struct picture *p)
{
    json_decref(p->status);
    json_decref(p->services);
    json_decref(p->endpoints);
}

static double order_value(const json_t *row, const struct order *by)
{
    double v =
        by->member ? cli_num(row, by->member) : cli_num(json_object_get(row, "facts"), by->fact);
    return isnan(v) ? -1 : v;
}

/* Largest first; equal ones stay as they are.  Insertion: a screen has few rows. */
static void sort_rows(json_t *rows, const struct order *by)
{
    if (!by->member && !by->fact)
        return;
    for (size_t i = 1; i < json_array_size(rows); i++) {
        json_t *row = json_incref(json_array_get(rows, i));
        size_t at = i;
        while (at > 0 && order_value(json_array_get(rows, at - 1), by) < order_value(row, by))
            at--;
        json_array_remove(rows, i);
        json_array_insert_new(rows, at, row);
    }
}

static void draw_picture(const struct picture *p, bool has_color, struct buf *out)
{
    show_summary(p->status, out);
    buf_putc(out, '\n');
    show_services(p->services, has_color, out);
    buf_putc(out, '\n');
    show_endpoints(p->endpoints, has_color, out);
}

/* ---- lines ---- */
static void print_line(const struct cli_call *call, const struct picture *p)
{
    char a[CLI_ROOM], b[CLI_ROOM], c[CLI_ROOM], d[CLI_ROOM], e[CLI_ROOM];
    if (call->is_json) {
        json_t *root = json_pack("{s:O, s:O, s:O}", "status", p->status, "services", p->services,
                                 "endpoints", p->endpoints);
        cli_print_json_line(root);
        json_decref(root);
        return;
    }
    for (size_t i = 0; i < json_array_size(p->services); i++) {
        const json_t *s = json_array_get(p->services, i), *f = json_object_get(s, "facts");
        printf("%.24s  %s  %s/s  errors %s  p50 %s  p99 %s  shed %s  in flight %.0f/%.0f\n",
               cli_str(p->status, "time"), cli_str(s, "name"), cli_rate(cli_num(f, "rate"), a),
               cli_pct(cli_num(f, "error_ratio"), b), cli_ms(cli_num(f, "latency_p50"), c),
               cli_ms(cli_num(f, "latency_p99"), d), cli_pct(cli_num(f, "shed_ratio"), e),
               fmax(0, cli_num(s, "in_flight")), fmax(0, cli_num(s, "limit")));
    }
    fflush(stdout);
}

/* For pipes and logs: a line per service and second, or the whole picture once. */
static int run_lines(const struct cli_call *call)
{
    struct fb_err err = {0};
    for (;;) {
        struct picture p;
        enum fb_code code = look(call, &p, &err);
        if (code == FB_OK && call->option[OPT_ONCE] && !call->is_json) {
            struct buf out;
            buf_init(&out, 4 * MIB);
            draw_picture(&p, call->has_color, &out);
            cli_flush(&out);
            buf_fini(&out);
        } else if (code == FB_OK) {
            print_line(call, &p);
        }
        drop(&p);
        if (code != FB_OK)
            return cli_fail(&err);
        if (call->option[OPT_ONCE])
            return 0;
        usleep(REDRAW_MS * 1000);
    }
}

/* ---- screen ---- */
static void put_screen(struct buf *text, const struct order *by)
{
    int row = 0, rows, columns;
    getmaxyx(stdscr, rows, columns);
    erase();
    for (struct span line, rest = buf_span(text); rest.len && row < rows - 1; row++) {
        line = span_cut(rest, '\n', &rest);
        bool is_head = span_starts(line, SPAN("SERVICE ")) || span_starts(line, SPAN("ENDPOINT "));
        if (is_head)
            attron(A_BOLD);
        mvaddnstr(row, 0, line.at, (int)line.len);
        if (is_head)
            attroff(A_BOLD);
    }
    attron(A_REVERSE);
    mvprintw(rows - 1, 0, " q quit   order: ");
    for (size_t i = 0; i < FB_COUNT(orders); i++)
        printw("%c %s%s   ", orders[i].key, orders[i].word, &orders[i] == by ? "*" : "");
    attroff(A_REVERSE);
    (void)columns;
    refresh();
}

/* A foldback that goes away and comes back is shown as such; only q ends the screen. */
static int run_screen(const struct cli_call *call)
{
    const struct order *by = &orders[0];
    struct fb_err err = {0};
    struct buf text;
    bool is_over = false;
    setlocale(LC_ALL, "");
    if (!initscr())
        return run_lines(call);
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    buf_init(&text, 4 * MIB);
    while (!is_over) {
        struct picture p;
        buf_clear(&text);
        if (look(call, &p, &err) == FB_OK) {
            sort_rows(p.services, by);
            sort_rows(p.endpoints, by);
            draw_picture(&p, false, &text);
        } else {
            buf_printf(&text, "foldback: %s\n\ntrying again each second\n", err.text);
        }
        drop(&p);
        put_screen(&text, by);
        uint64_t until_us = fb_mono_us() + REDRAW_MS * US_PER_MS, now_us;
        const struct order *was = by;
        while (!is_over && by == was && (now_us = fb_mono_us()) < until_us) {
            timeout((int)((until_us - now_us) / US_PER_MS) + 1);
            int key = getch();
            is_over = key == 'q' || key == 'Q' || key == 27;
            for (size_t i = 0; i < FB_COUNT(orders); i++)
                if (key == orders[i].key)
                    by = &orders[i];
            if (key == KEY_RESIZE)
                break;
        }
    }
    endwin();
    buf_fini(&text);
    return 0;
}
