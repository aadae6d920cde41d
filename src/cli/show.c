/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands share: asking the admin API, and numbers for people. */
#include "cli/cli_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (64 * MIB)

enum fb_code cli_client(const struct cli_call *call, struct client *c, struct fb_err *err)
{
    uint64_t timeout_s = 5;
    const char *text = call->option[OPT_TIMEOUT];
    if (text && (!span_to_u64(span_of(text), &timeout_s) || timeout_s < 1 || timeout_s > 3600))
        return fb_fail(err, FB_E_USAGE, "--timeout must be 1 to 3600 seconds, got \"%s\"", text);
    enum fb_code code = client_init(c, call->option[OPT_STATE], call->option[OPT_ADMIN],
                                    call->option[OPT_TOKEN_FILE], err);
    c->timeout_ms = (uint32_t)timeout_s * 1000;
    return code;
}

int cli_state(const struct cli_call *call, const char **dir)
{
    struct fb_err err;
    struct stat st;
    *dir = client_state_dir(call->option[OPT_STATE]);
    enum fb_code code = client_state_check(*dir, &err);
    int failed = stat(*dir, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    if (code == FB_OK && failed)
        code = fb_fail(&err, FB_E_NOT_FOUND,
                       "state folder %s: %s; name the one that foldback has with --state DIR", *dir,
                       strerror(failed));
    return code == FB_OK ? 0 : cli_fail(&err);
}

enum fb_code cli_ask(const struct cli_call *call, const struct client_call *one, json_t **root,
                     struct fb_err *err)
{
    struct client c;
    struct buf out;
    *root = NULL;
    enum fb_code code = cli_client(call, &c, err);
    if (code != FB_OK)
        return code;
    buf_init(&out, ANSWER_BYTES_MAX);
    c.timeout_ms = fb_max_u32(c.timeout_ms, one->timeout_ms);
    code = client_call(&c, one, &out, err);
    if (code == FB_E_RANGE && out.len)
        *root = json_loadb(out.at, out.len, 0, NULL);
    if (code == FB_OK && out.len) {
        *root = json_loadb(out.at, out.len, JSON_DECODE_ANY, NULL);
        if (!*root)
            code = fb_fail(err, FB_E_FORMAT,
                           "%s answered something that is no JSON; is it the admin address?",
                           c.address);
    }
    buf_fini(&out);
    return code;
}

enum fb_code cli_get(const struct cli_call *call, const char *path, json_t **root,
                     struct fb_err *err)
{
    struct client_call one = {.method = "GET", .path = path};
    return cli_ask(call, &one, root, err);
}

int cli_api(const struct cli_call *call, const char *method, const char *path, const json_t *body,
            json_t **root)
{
    struct fb_err err = {0};
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct client_call one = {.method = method, .path = path, .body = span_of(text)};
    enum fb_code code = cli_ask(call, &one, root, &err);
    free(text);
    return code == FB_OK ? 0 : cli_fail(&err);
}

/* 12 digits: what the API sent, without the noise of binary fractions. */
int cli_print_json(const json_t *root)
{
    if (root)
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    else
        fputs("{}", stdout);
    putchar('\n');
    return 0;
}

void cli_print_json_line(const json_t *root)
{
    json_dumpf(root, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    putchar('\n');
    fflush(stdout);
}

void cli_query(struct buf *path, const char *name, const char *value)
{
    if (!value)
        return;
    buf_putc(path, memchr(path->at, '?', path->len) ? '&' : '?');
    buf_printf(path, "%s=", name);
    client_encode(path, value);
}

void cli_flush(struct buf *out)
{
    fwrite(out->at, 1, out->len, stdout);
    fflush(stdout);
    buf_clear(out);
}

/* ---- members ---- */
const char *cli_str(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

double cli_num(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

bool cli_is(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

const char *cli_target(const json_t *o)
{
    return cli_str(json_object_get(o, "target"), "name");
}

/* ---- numbers ---- */
/* Three digits that matter: 0.21, 4.50, 38.2, 420. */
static void put_digits(double v, const char *unit, char room[CLI_ROOM])
{
    int places = v == floor(v) && v >= 10 ? 0 : v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    snprintf(room, CLI_ROOM, "%.*f%s", places, v, unit);
}

const char *cli_ms(double v, char room[CLI_ROOM])
{
    if (isnan(v))
        return "-";
    if (v >= 10000)
        put_digits(v / 1000, " s", room);
    else
        put_digits(v, " ms", room);
    return room;
}

const char *cli_count(double v, char room[CLI_ROOM])
{
    if (isnan(v))
        return "-";
    if (v == floor(v))
        snprintf(room, CLI_ROOM - 4, "%.0f", v);
    else
        put_digits(v, "", room);
    return room;
}

const char *cli_rate(double v, char room[CLI_ROOM])
{
    if (isnan(v))
        return "-";
    cli_count(v, room);
    strcat(room, "/s"); /* cli_count leaves room: 16 digits at most */
    return room;
}

/* Two places below 0.1 %: an error ratio of 0.05 % is not none. */
const char *cli_pct(double ratio, char room[CLI_ROOM])
{
    if (isnan(ratio))
        return "-";
    double pct = ratio * 100;
    snprintf(room, CLI_ROOM, pct > 0 && pct < 0.095 ? "%.2f %%" : "%.1f %%", pct);
    return room;
}

/* Powers of 1024, as the configuration writes sizes. */
const char *cli_bytes(double v, char room[CLI_ROOM])
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB"};
    size_t u = 0;
    if (isnan(v))
        return "-";
    for (; v >= 1024 && u + 1 < FB_COUNT(units); u++)
        v /= 1024;
    snprintf(room, CLI_ROOM, u == 0 || v >= 99.95 ? "%.0f%s" : "%.1f%s", v, units[u]);
    return room;
}

const char *cli_ago(double seconds, char room[CLI_ROOM])
{
    if (isnan(seconds))
        return "-";
    long s = (long)seconds;
    if (s < 120)
        snprintf(room, CLI_ROOM, "%ld s", s);
    else if (s < 7200)
        snprintf(room, CLI_ROOM, "%ld min", s / 60);
    else if (s < 172800)
        snprintf(room, CLI_ROOM, "%ld h %ld min", s / 3600, s % 3600 / 60);
    else
        snprintf(room, CLI_ROOM, "%ld days", s / 86400);
    return room;
}

const char *cli_paint(const struct cli_call *call, enum cli_color color)
{
    static const char *const codes[] = {"\033[0m",  "\033[1m",  "\033[31m",
                                        "\033[32m", "\033[33m", "\033[2m"};
    return call->has_color ? codes[color] : "";
}

/* ---- names ---- */
static bool is_named(const char *full, const char *name)
{
    const char *blank = strchr(full, ' '); /* "shop 10.0.0.1:80": the part behind it will do */
    return strcmp(full, name) == 0 || (blank && strcmp(blank + 1, name) == 0);
}

/* For "did you mean": full names and the part behind the blank; one command per process. */
static struct {
    char text[64][CLI_NAME];
    const char *words[64];
    size_t count;
} known;

static void know(const char *word)
{
    if (known.count == FB_COUNT(known.words))
        return;
    snprintf(known.text[known.count], CLI_NAME, "%s", word);
    known.words[known.count] = known.text[known.count];
    known.count++;
}

/* Looks through one list; an exact name beats short ones. */
static void look_through(const json_t *rows, const char *name, const char *kind,
                         struct cli_found *found)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *full = cli_str(json_array_get(rows, i), "name"), *blank = strchr(full, ' ');
        know(full);
        if (blank)
            know(blank + 1);
        if (!is_named(full, name) || (found->count && strcmp(found->name, name) == 0))
            continue;
        found->count = strcmp(full, name) == 0 ? 1 : found->count + 1;
        found->kind = kind;
        snprintf(found->name, sizeof found->name, "%s", full);
    }
}

/* Within its first two seconds a foldback may not know all names yet. */
static bool is_just_started(const struct cli_call *call)
{
    json_t *root;
    struct fb_err err;
    if (cli_get(call, "/v1/status", &root, &err) != FB_OK)
        return false;
    double uptime_s = cli_num(json_object_get(root, "brain"), "uptime_s");
    json_decref(root);
    return uptime_s < 2;
}

static enum fb_code resolve_once(const struct cli_call *call, const char *name, const char *only,
                                 struct cli_found *found, struct fb_err *err);

enum fb_code cli_resolve(const struct cli_call *call, const char *name, const char *only,
                         struct cli_found *found, struct fb_err *err)
{
    for (;;) {
        enum fb_code code = resolve_once(call, name, only, found, err);
        if (code != FB_E_NOT_FOUND || found->count || !is_just_started(call))
            return code;
        usleep(100000);
    }
}

static enum fb_code resolve_once(const struct cli_call *call, const char *name, const char *only,
                                 struct cli_found *found, struct fb_err *err)
{
    static const char *const kinds[] = {"endpoint", "service", "route"};
    *found = (struct cli_found){.count = 0};
    known.count = 0;
    for (size_t k = 0; k < FB_COUNT(kinds) && !found->count; k++) {
        json_t *root;
        char path[32], list[16];
        if (only && strcmp(only, kinds[k]) != 0)
            continue;
        snprintf(list, sizeof list, "%ss", kinds[k]);
        snprintf(path, sizeof path, "/v1/%s", list);
        enum fb_code code = cli_get(call, path, &root, err);
        if (code != FB_OK)
            return code;
        look_through(json_object_get(root, list), name, kinds[k], found);
        json_decref(root);
    }
    if (found->count == 1)
        return FB_OK;
    if (found->count > 1)
        return fb_fail(err, FB_E_NOT_FOUND,
                       "\"%s\" is the name of %zu things; write it in full, e.g. '%s'", name,
                       found->count, found->name);
    const char *close = cli_closest(name, known.words, known.count);
    return fb_fail(err, FB_E_NOT_FOUND, "there is no %s \"%s\"; %s%s%s",
                   only ? only : "endpoint, service or route", name,
                   close ? "did you mean '" : "`foldback status` lists what there is",
                   close ? close : "", close ? "'?" : "");
}
