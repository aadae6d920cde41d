/* SPDX-License-Identifier: Apache-2.0 */
/* get, set, pin, unpin, freeze, unfreeze, reset, mode, drain, undrain.
 *
 * What changes something is one command event in the log; a pin and a drain are waited for until
 * they are in force (at most a few ticks), so that the next command sees them. */
#include "cli/cli_int.h"
#include "cli/table.h"

#include "base/clock.h"
#include "knob/knob.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A command is in force with the next tick, 100 ms later; ten of them is a brain that hangs. */
#define IN_FORCE_US (2 * US_PER_S)
#define ASK_AGAIN_US 50000
#define WHY_BYTES_MAX 47 /* room for it in the command event, events.def */

static bool is_known_knob(const struct cli_call *call, const char *name);
static json_t *new_body(const struct cli_call *call, bool *is_bad);

/* ---- get ---- */
static void show_knob(const json_t *k, struct buf *out)
{
    char a[CLI_ROOM], b[CLI_ROOM], c[CLI_ROOM], d[CLI_ROOM];
    const char *unit = cli_str(k, "unit");
    buf_printf(out, "%s of %s: %s %s, %s\n%s\n\n", cli_str(k, "knob"), cli_target(k),
               cli_count(cli_num(k, "value"), a), unit, cli_str(k, "source"), cli_str(k, "what"));
    buf_printf(out, "configured  %s\n", cli_count(cli_num(k, "configured"), a));
    buf_printf(out, "learned     %s", cli_count(cli_num(k, "learned"), a));
    if (cli_str(k, "learned_at")[0])
        buf_printf(out, "  (%s, decision %.0f)", cli_str(k, "learned_at"),
                   cli_num(k, "decision_id"));
    buf_printf(out, "\npinned      %s\n", cli_count(cli_num(k, "pinned"), a));
    buf_printf(out, "bounds      %s to %s %s (hard %s to %s)\n", cli_count(cli_num(k, "min"), a),
               cli_count(cli_num(k, "max"), b), unit, cli_count(cli_num(k, "hard_min"), c),
               cli_count(cli_num(k, "hard_max"), d));
    buf_printf(out, "safe        %s\n", cli_count(cli_num(k, "safe"), a));
    buf_printf(out, "loop        %s, mode %s%s\n", cli_str(k, "loop"), cli_str(k, "mode"),
               cli_is(k, "is_frozen") ? ", frozen" : "");
}

static void show_knobs(const struct cli_call *call, const json_t *list, struct buf *out)
{
    static const char *const heads[] = {"KNOB",   "TARGET",      ">VALUE",   "UNIT",
                                        "SOURCE", ">CONFIGURED", ">LEARNED", ">PINNED",
                                        ">MIN",   ">MAX",        "MODE"};
    static const char *const layers[] = {"configured", "learned", "pinned", "min", "max"};
    struct table t;
    char a[CLI_ROOM];
    table_init(&t, heads, FB_COUNT(heads));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        table_put(&t, cli_str(k, "knob"));
        table_put(&t, cli_target(k));
        table_put(&t, cli_count(cli_num(k, "value"), a));
        table_put(&t, cli_str(k, "unit"));
        table_put(&t, cli_str(k, "source"));
        for (size_t l = 0; l < FB_COUNT(layers); l++)
            table_put(&t, cli_count(cli_num(k, layers[l]), a));
        table_put(&t, cli_is(k, "is_frozen") ? "frozen" : cli_str(k, "mode"));
    }
    table_print(&t, call->has_color, out);
    table_fini(&t);
}

/* Leaves the rows of the knob that was named. */
static void keep_knob(json_t *list, const char *name)
{
    for (size_t i = json_array_size(list); i-- > 0;)
        if (strcasecmp(cli_str(json_array_get(list, i), "knob"), name) != 0)
            json_array_remove(list, i);
}

static void knob_path(struct buf *path, const char *knob, const char *target, const char *rest)
{
    buf_puts(path, "/v1/knobs/");
    client_encode(path, knob);
    buf_putc(path, '/');
    client_encode(path, target);
    buf_puts(path, rest);
}

int cmd_get(const struct cli_call *call)
{
    struct buf path, out;
    json_t *root = NULL;
    if (call->arg_count > 0 && !is_known_knob(call, call->arg[0]))
        return 2;
    buf_init(&path, 4096);
    buf_init(&out, 4 * MIB);
    if (call->arg_count == 2)
        knob_path(&path, call->arg[0], call->arg[1], "");
    else
        buf_puts(&path, "/v1/knobs");
    if (call->arg_count < 2)
        cli_query(&path, "service", call->option[OPT_SERVICE]);
    int code = cli_api(call, "GET", buf_str(&path), NULL, &root);
    json_t *list = json_object_get(root, "knobs");
    if (call->arg_count == 1)
        keep_knob(list, call->arg[0]);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0 && call->arg_count == 2) {
        show_knob(root, &out);
        cli_flush(&out);
    } else if (code == 0) {
        show_knobs(call, list, &out);
        cli_flush(&out);
    }
    json_decref(root);
    buf_fini(&out);
    buf_fini(&path);
    return code;
}

/* ---- pin, set, unpin ---- */
static bool is_pinned_to(const json_t *knob, double value)
{
    double pinned = cli_num(knob, "pinned");
    return isnan(value) ? isnan(pinned) : pinned == value;
}

/* Asks until the pin is as wanted (NAN: none); *knob is the last answer. */
static int wait_pin(const struct cli_call *call, const char *path, double value, json_t **knob)
{
    uint64_t until_us = fb_mono_us() + IN_FORCE_US;
    int code = 0;
    while (code == 0 && !is_pinned_to(*knob, value)) {
        if (fb_mono_us() > until_us) {
            struct fb_err err = {0};
            fb_fail(&err, FB_E_TIMEOUT,
                    "the command is in the log, but not in force after %u s; look at "
                    "`foldback doctor`",
                    (unsigned)(IN_FORCE_US / US_PER_S));
            return cli_fail(&err);
        }
        usleep(ASK_AGAIN_US);
        json_decref(*knob);
        code = cli_api(call, "GET", path, NULL, knob);
    }
    return code;
}

/* Ends with how to undo it. */
static int report_pin(const struct cli_call *call, const json_t *knob, double before, bool is_pin)
{
    char a[CLI_ROOM], b[CLI_ROOM];
    if (call->is_json)
        return cli_print_json(knob);
    double after = cli_num(knob, "value");
    bool is_moved = before != after;
    printf("%s of %s: %s%s%s %s, %s\n", cli_str(knob, "knob"), cli_target(knob),
           is_moved ? cli_count(before, a) : "", is_moved ? " -> " : "", cli_count(after, b),
           cli_str(knob, "unit"), cli_str(knob, "source"));
    if (is_pin)
        printf("Undo: foldback unpin %s '%s'\n", cli_str(knob, "knob"), cli_target(knob));
    return 0;
}

/* PUT with <text> or where the knob is, DELETE.  Reads the knob first: to say from where it moved,
 * and because letting go of a free knob must not write a command into the log. */
static int turn(const struct cli_call *call, const char *method, const char *text)
{
    struct buf path, pin;
    json_t *knob = NULL;
    bool is_bad = false, is_pin = strcmp(method, "PUT") == 0;
    double before = NAN, value = NAN;
    char *end = NULL;
    if (!is_known_knob(call, call->arg[0]))
        return 2;
    if (text)
        value = strtod(text, &end);
    if (text && (end == text || *end || isnan(value)))
        return cli_usage(call, "wants a number, got \"%s\"", text);
    json_t *body = new_body(call, &is_bad);
    buf_init(&path, 4096);
    buf_init(&pin, 4096);
    knob_path(&path, call->arg[0], call->arg[1], "");
    knob_path(&pin, call->arg[0], call->arg[1], "/pin");
    int code = is_bad ? 2 : cli_api(call, "GET", buf_str(&path), NULL, &knob);
    if (code == 0) {
        before = cli_num(knob, "value");
        if (is_pin && !text)
            value = before; /* hold it where it is */
        if (is_pin)
            json_object_set_new(body, "value", json_real(value));
    }
    if (code == 0 && !(is_pinned_to(knob, value) && !is_pin)) { /* unpin twice: nothing to do */
        json_decref(knob);
        code = cli_api(call, method, buf_str(&pin), body, &knob);
        if (code == 0)
            code = wait_pin(call, buf_str(&path), value, &knob);
    }
    if (code == 0)
        code = report_pin(call, knob, before, is_pin);
    json_decref(knob);
    json_decref(body);
    buf_fini(&path);
    buf_fini(&pin);
    return code;
}

int cmd_set(const struct cli_call *call)
{
    return turn(call, "PUT", call->arg[2]);
}

int cmd_pin(const struct cli_call *call)
{
    return turn(call, "PUT", call->arg_count == 3 ? call->arg[2] : NULL);
}

int cmd_unpin(const struct cli_call *call)
{
    return turn(call, "DELETE", NULL);
}

/* Asked of the table, not of the server: a wrong name is an error of usage even when nothing runs.
 */
static bool is_known_knob(const struct cli_call *call, const char *name)
{
    const char *words[KNOB_COUNT];
    if (knob_by_name(span_of(name)) != EV_NONE)
        return true;
    size_t count = 0;
    for (uint16_t i = 0; i < KNOB_COUNT; i++)
        if (knob_row(i)->name)
            words[count++] = knob_row(i)->name;
    const char *close = cli_closest(name, words, count);
    cli_usage(call, "knows no knob \"%s\"; %s%s", name,
              close ? "did you mean " : "`foldback reference knobs` lists them",
              close ? close : "");
    return false;
}

/* {"actor", "why", "expires_s"}; *is_bad after a usage error. */
static json_t *new_body(const struct cli_call *call, bool *is_bad)
{
    json_t *body = json_object();
    uint64_t expires_s = 0;
    const char *why = call->option[OPT_WHY];
    json_object_set_new(body, "actor", json_string("cli"));
    if (why && strlen(why) > WHY_BYTES_MAX) {
        cli_usage(call, "--why has room for %d bytes, got %zu", WHY_BYTES_MAX, strlen(why));
        *is_bad = true;
    } else if (why) {
        json_object_set_new(body, "why", json_string(why));
    }
    if (!*is_bad && !cli_seconds(call, OPT_EXPIRES, 1, 31536000, &expires_s))
        *is_bad = true;
    if (expires_s)
        json_object_set_new(body, "expires_s", json_integer((json_int_t)expires_s));
    return body;
}

/* ---- loops ---- */
bool cli_knows_loop(const struct cli_call *call)
{
    const char *words[LOOP_COUNT], *name = call->option[OPT_LOOP];
    if (!name || loop_by_name(span_of(name)) != EV_NONE)
        return true;
    size_t count = 0;
    struct buf all;
    buf_init(&all, 1024);
    for (uint16_t i = 1; i < LOOP_COUNT; i++) { /* 0 is none */
        words[count++] = loop_row(i)->name;
        buf_printf(&all, "%s%s", i > 1 ? ", " : "", loop_row(i)->name);
    }
    const char *close = cli_closest(name, words, count);
    cli_usage(call, "knows no loop \"%s\"; %s%s", name, close ? "did you mean " : "there are ",
              close ? close : buf_str(&all));
    buf_fini(&all);
    return false;
}

/* "all loops", "loop timeout on shop /". */
static void print_scope(const struct cli_call *call, const char *target)
{
    const char *loop = call->option[OPT_LOOP];
    printf("%s%s%s%s", loop ? "loop " : "all loops", loop ? loop : "", target ? " on " : "",
           target ? target : "");
}

/* POST to /v1/VERB with loop and target. */
static int steer(const struct cli_call *call, const char *verb, const char *mode)
{
    bool is_bad = false;
    char path[32];
    struct cli_found found;
    const char *target = call->option[OPT_TARGET];
    struct fb_err err = {0};
    json_t *root = NULL;
    if (!cli_knows_loop(call))
        return 2;
    json_t *body = new_body(call, &is_bad);
    int code = is_bad ? 2 : 0;
    if (code == 0 && target) {
        if (cli_resolve(call, target, NULL, &found, &err) != FB_OK)
            code = cli_fail(&err);
        else
            json_object_set_new(body, found.kind, json_string(target = found.name));
    }
    if (call->option[OPT_LOOP])
        json_object_set_new(body, "loop", json_string(call->option[OPT_LOOP]));
    if (mode)
        json_object_set_new(body, "mode", json_string(mode));
    snprintf(path, sizeof path, "/v1/%s", verb);
    if (code == 0)
        code = cli_api(call, "POST", path, body, &root);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        printf("%s%s%s: ", verb, mode ? " " : "", mode ? mode : "");
        print_scope(call, target);
        putchar('\n');
    }
    json_decref(root);
    json_decref(body);
    return code;
}

int cmd_freeze(const struct cli_call *call)
{
    int code = steer(call, "freeze", NULL);
    if (code == 0 && !call->is_json)
        puts("Knobs stay where they are.  Undo: foldback unfreeze, with the same flags");
    return code;
}

int cmd_unfreeze(const struct cli_call *call)
{
    return steer(call, "unfreeze", NULL);
}

int cmd_reset(const struct cli_call *call)
{
    int code = steer(call, "reset", NULL);
    if (code == 0 && !call->is_json)
        puts("What was learned is forgotten; configured values are in force.");
    return code;
}

int cmd_mode(const struct cli_call *call)
{
    static const char *const modes[] = {"observe", "recommend", "act"};
    const char *mode = call->arg[0];
    if (ev_mode_by_name(span_of(mode)) < 0) {
        const char *close = cli_closest(mode, modes, FB_COUNT(modes));
        return cli_usage(call, "must be observe, recommend or act, got \"%s\"%s%s", mode,
                         close ? "; did you mean " : "", close ? close : "");
    }
    return steer(call, "mode", mode);
}

/* ---- drain ---- */
/* The endpoint as it is now; NULL when it is gone. */
static json_t *find_endpoint(const struct cli_call *call, const char *name, int *code)
{
    json_t *root, *found = NULL;
    *code = cli_api(call, "GET", "/v1/endpoints?window=1s", NULL, &root);
    const json_t *list = json_object_get(root, "endpoints");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(cli_str(json_array_get(list, i), "name"), name) == 0)
            found = json_incref(json_array_get(list, i));
    json_decref(root);
    return found;
}

/* Until it is drained as wanted and, with <is_empty>, nothing is in flight there. */
static int wait_endpoint(const struct cli_call *call, const char *name, bool is_drain,
                         bool is_empty, json_t **endpoint)
{
    uint64_t wait_s = is_empty ? 60 : IN_FORCE_US / US_PER_S;
    struct fb_err err = {0};
    int code = 0;
    if (is_empty && !cli_number(call, OPT_TIMEOUT, 1, 3600, &wait_s))
        return 2;
    uint64_t until_us = fb_mono_us() + wait_s * US_PER_S;
    for (;;) {
        *endpoint = find_endpoint(call, name, &code);
        bool is_there = !*endpoint || cli_is(*endpoint, "is_drained") == is_drain;
        bool is_idle = !*endpoint || cli_num(*endpoint, "in_flight") == 0;
        if (code || (is_there && (is_idle || !is_empty)))
            return code;
        if (fb_mono_us() > until_us)
            break;
        json_decref(*endpoint);
        usleep(ASK_AGAIN_US);
    }
    fb_fail(&err, FB_E_TIMEOUT,
            "%s: %.0f in flight after %u s; it takes no new ones, so wait on "
            "with --timeout, or look at `foldback why '%s'`",
            name, fmax(0, cli_num(*endpoint, "in_flight")), (unsigned)wait_s, name);
    return cli_fail(&err);
}

/* Twice is once: an endpoint that is drained already is only waited for. */
static int move_endpoint(const struct cli_call *call, bool is_drain)
{
    struct cli_found found;
    struct fb_err err = {0};
    bool is_bad = false;
    int code = 0;
    if (cli_resolve(call, call->arg[0], "endpoint", &found, &err) != FB_OK)
        return cli_fail(&err);
    const char *name = found.name;
    json_t *body = new_body(call, &is_bad), *root = NULL;
    json_t *endpoint = is_bad ? NULL : find_endpoint(call, name, &code);
    bool is_already = endpoint && cli_is(endpoint, "is_drained") == is_drain;
    json_object_set_new(body, "endpoint", json_string(name));
    if (is_bad)
        code = 2;
    if (code == 0 && !is_already)
        code = cli_api(call, "POST", is_drain ? "/v1/drain" : "/v1/undrain", body, &root);
    if (code == 0) {
        json_decref(endpoint);
        code = wait_endpoint(call, name, is_drain, call->option[OPT_WAIT] != NULL, &endpoint);
    }
    if (code == 0 && call->is_json)
        cli_print_json(endpoint);
    else if (code == 0)
        printf("%s %s%s: %.0f in flight.%s%s%s\n", name, is_already ? "was already " : "is ",
               is_drain ? "drained" : "back", fmax(0, cli_num(endpoint, "in_flight")),
               is_drain ? "  Undo: foldback undrain '" : "", is_drain ? name : "",
               is_drain ? "'" : "");
    json_decref(root);
    json_decref(endpoint);
    json_decref(body);
    return code;
}

int cmd_drain(const struct cli_call *call)
{
    return move_endpoint(call, true);
}

int cmd_undrain(const struct cli_call *call)
{
    return move_endpoint(call, false);
}
