/* SPDX-License-Identifier: Apache-2.0 */
/* A reload: asked here, done by the supervisor and the gateway; the answer waits for their verdict.
 */
#include "output/admin_int.h"

#include <stdio.h>

void api_run_reload(struct api_call *c);

static void keep(struct verdict *to, const struct admin_verdict *v)
{
    size_t file = fb_min_u64(v->file.len, sizeof to->text / 4);
    size_t lines = fb_min_u64(v->lines.len, sizeof to->text - file);
    to->of = *v;
    if (file)
        memcpy(to->text, v->file.at, file);
    if (lines)
        memcpy(to->text + file, v->lines.at, lines);
    to->of.file = (struct span){to->text, file};
    to->of.lines = (struct span){to->text + file, lines};
}

/* Numbers wrap: half of them lie before <number>. */
static bool is_answered(const struct admin *a, uint32_t ticket)
{
    uint16_t number = a->last.of.number;
    return number && (uint16_t)(number - (uint16_t)ticket) < 0x8000;
}

void admin_on_verdict(struct admin *a, const struct admin_verdict *v)
{
    keep(&a->last, v);
    if (v->is_in_force)
        keep(&a->in_force, v);
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++)
        if (a->conn[i] && a->conn[i]->waits_for == CONN_WAIT_RELOAD)
            conn_on_answer(a->conn[i]);
}

void api_run_reload(struct api_call *c)
{
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    struct jsonin in;
    uint16_t number = 0;
    if (!api_body(c, &in))
        return;
    if (!s->reload) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no file to read again");
    } else if (s->reload(s->ctx, &number, &err) != FB_OK) {
        api_fail_err(c, &err);
    } else {
        c->conn->ticket = number;
        c->conn->waits_for = CONN_WAIT_RELOAD;
        c->conn->wait_until_us = c->admin->now_us + CONN_RELOAD_US;
    }
}

void put_needs_restart(struct json *j, const struct admin *a, bool has_values)
{
    json_key(j, "needs_restart");
    json_array_begin(j);
    for (struct span lines = a->in_force.of.lines; lines.len;) {
        struct span line = span_cut(lines, '\n', &lines), waits;
        struct span key = span_cut(line, '\t', &line), now = span_cut(line, '\t', &waits);
        if (!has_values) {
            json_span(j, key);
            continue;
        }
        json_object_begin(j);
        json_key(j, "key");
        json_span(j, key);
        json_key(j, "in_force");
        json_span(j, now);
        json_key(j, "waiting");
        json_span(j, waits);
        json_object_end(j);
    }
    json_array_end(j);
}

static uint32_t number_of(struct span text)
{
    uint64_t v = 0;
    return span_to_u64(text, &v) ? (uint32_t)v : 0;
}

/* The first error in the sentence, all behind it. */
static void fail_refused(struct api_call *c, const struct admin_verdict *v)
{
    struct span rest = v->lines, first = span_cut(rest, '\n', &rest);
    uint32_t line = number_of(span_cut(first, '\t', &first)), more = 0;
    (void)span_cut(first, '\t', &first);
    for (struct span r = rest; r.len; more++)
        (void)span_cut(r, '\n', &r);
    char text[480], where[24] = "", others[32] = "";
    if (line)
        snprintf(where, sizeof where, "line %u: ", line);
    if (more)
        snprintf(others, sizeof others, " (and %u more)", more);
    snprintf(text, sizeof text, "%.*s: %s%.*s%s; the configuration before it stays in force",
             (int)fb_min_u64(v->file.len, 100), v->file.at, where, (int)fb_min_u64(first.len, 300),
             first.at, others);
    api_fail_status(c, 422, FB_E_CONFIG, text);
    c->out->len--; /* goes on behind the last member */
    c->j = (struct json){.out = c->out, .depth = 1, .needs_comma = {true, true}};
    json_key(&c->j, "file");
    json_span(&c->j, v->file);
    json_key(&c->j, "errors");
    json_array_begin(&c->j);
    for (rest = v->lines; rest.len;) {
        struct span one = span_cut(rest, '\n', &rest);
        json_object_begin(&c->j);
        json_key_u64(&c->j, "line", number_of(span_cut(one, '\t', &one)));
        json_key_u64(&c->j, "column", number_of(span_cut(one, '\t', &one)));
        json_key(&c->j, "text");
        json_span(&c->j, one);
        json_object_end(&c->j);
    }
    json_array_end(&c->j);
    json_object_end(&c->j);
}

static void put_warnings(struct json *j, const struct admin *a)
{
    struct span rest = {"", 0};
    if (a->source.config_warnings)
        rest = a->source.config_warnings(a->source.ctx);
    json_key(j, "warnings");
    json_array_begin(j);
    while (rest.len) {
        struct span text, line = span_cut(rest, '\n', &rest);
        json_object_begin(j);
        json_key_u64(j, "line", number_of(span_cut(line, '\t', &text)));
        json_key(j, "text");
        json_span(j, text);
        json_object_end(j);
    }
    json_array_end(j);
}

bool api_reload_answer(struct api_call *c)
{
    struct admin *a = c->admin;
    const struct admin_verdict *v = &a->last.of;
    if (!is_answered(a, c->conn->ticket)) {
        if (a->now_us < c->conn->wait_until_us)
            return false;
        c->conn->waits_for = CONN_WAIT_NONE;
        api_fail(c, FB_E_TIMEOUT,
                 "the gateway has not taken the file within 10 s, and still may; GET /v1/config "
                 "says what is in force");
        return true;
    }
    c->conn->waits_for = CONN_WAIT_NONE;
    if (!v->has_file) {
        api_fail_status(c, 422, FB_E_CONFIG,
                        "this foldback was started without a file, so there is none to read again; "
                        "write what it needs into one and start `foldback run --config FILE`");
    } else if (!v->is_in_force) {
        fail_refused(c, v);
    } else {
        json_object_begin(&c->j);
        json_key_str(&c->j, "verb", "reload");
        json_key_bool(&c->j, "is_in_force", true);
        json_key(&c->j, "file");
        json_span(&c->j, v->file);
        put_needs_restart(&c->j, a, false);
        put_warnings(&c->j, a);
        json_object_end(&c->j);
    }
    return true;
}
