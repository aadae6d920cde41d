/* SPDX-License-Identifier: Apache-2.0 */
/* check: everything that must be right before and while foldback runs; one line each.
 *
 * Without --config the configuration of the running foldback is taken.  Exit 1 when a line fails;
 * with --wait, 5 when the running one is not ready in time. */
#include "cli/cli_int.h"

#include "base/clock.h"
#include "conf/conf.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAIT_DEFAULT_S 30

static enum fb_code ask_ready(const struct cli_call *call, struct fb_err *err);
static struct conf *check_config(const struct cli_call *call, struct probes *p, bool *is_ours);
static enum fb_code check_daemon(const struct cli_call *call, struct probes *p);
static void check_connectors(const struct cli_call *call, struct probes *p, uint32_t timeout_ms);
static void print_probes(const struct cli_call *call, const struct probes *p);

static void on_fault(void *arg, uint32_t line, const char *text)
{
    char where[24] = "";
    if (line)
        snprintf(where, sizeof where, "line %u: ", line);
    probe_hint(probe_add(arg, PROBE_FAIL, "start", "%s%.360s", where, text),
               "a gateway would not start with it; `foldback config check FILE` shows every line");
}

int cmd_check(const struct cli_call *call)
{
    static struct probes probes; /* large */
    uint64_t timeout_s = 5;
    bool is_ours = false;
    if (!cli_number(call, OPT_TIMEOUT, 1, 3600, &timeout_s))
        return 2;
    enum fb_code ready = check_daemon(call, &probes);
    struct conf *conf = check_config(call, &probes, &is_ours);
    if (conf) {
        probe_ports(&probes, conf, is_ours);
        probe_ingest(&probes, call, conf, is_ours);
        probe_endpoints(&probes, conf, 1000);
        probe_certs(&probes, conf);
        (void)check_start(conf, call->option[OPT_STATE], on_fault, &probes);
    }
    if (call->option[OPT_CONNECTORS])
        check_connectors(call, &probes, (uint32_t)timeout_s * 1000);
    probe_host(&probes);
    const char *state = call->option[OPT_STATE];
    if (!state && conf && conf->p.top_state[0])
        state = conf->p.top_state;
    probe_state_dir(&probes, client_state_dir(state));
    conf_unref(conf);
    print_probes(call, &probes);
    if (call->option[OPT_WAIT] && ready != FB_OK)
        return fb_error_row(FB_E_TIMEOUT)->exit_code;
    for (size_t i = 0; i < probes.count; i++)
        if (probes.at[i].state == PROBE_FAIL)
            return 1;
    return 0;
}

/* ---- the running foldback ---- */
static enum fb_code ask_ready(const struct cli_call *call, struct fb_err *err)
{
    struct client c;
    struct buf out;
    enum fb_code code = cli_client(call, &c, err);
    if (code != FB_OK)
        return code;
    struct client_call one = {.method = "GET", .path = "/readyz"};
    buf_init(&out, 64 * KIB);
    code = client_call(&c, &one, &out, err);
    if (code == FB_E_AGAIN && out.len)
        fb_fail(err, code, "%.*s", (int)strcspn(buf_str(&out), "\n"), buf_str(&out));
    buf_fini(&out);
    return code;
}

/* No running foldback is a warning: `check --config` before the first start must be able to pass.
 */
static enum fb_code check_daemon(const struct cli_call *call, struct probes *p)
{
    struct fb_err err = {0};
    uint64_t wait_s = WAIT_DEFAULT_S;
    bool is_waiting = call->option[OPT_WAIT] != NULL;
    (void)cli_number(call, OPT_TIMEOUT, 1, 3600, &wait_s); /* read once already: it is right */
    uint64_t until_us = fb_mono_us() + wait_s * US_PER_S;
    enum fb_code code = ask_ready(call, &err);
    while (is_waiting && code != FB_OK && fb_mono_us() < until_us) {
        usleep(100000);
        code = ask_ready(call, &err);
    }
    if (code == FB_OK)
        probe_add(p, PROBE_OK, "running", "a foldback runs and is ready");
    else if (code == FB_E_UNREACHABLE && !is_waiting)
        probe_hint(probe_add(p, PROBE_WARN, "running", "no foldback answers"),
                   "start one with `foldback run`, or name it with --state");
    else if (code == FB_E_DENIED) /* the text says what to do */
        probe_add(p, PROBE_FAIL, "running", "%s", err.text);
    else
        probe_hint(probe_add(p, PROBE_FAIL, "running", "%s", err.text),
                   "look at `foldback doctor` and at its messages");
    return code;
}

/* ---- configuration ---- */
static struct conf *running_conf(const struct cli_call *call)
{
    struct fb_err err = {0};
    struct conf_report report = {0};
    struct conf *conf = NULL;
    json_t *root;
    if (cli_get(call, "/v1/config", &root, &err) == FB_OK &&
        conf_parse(span_of(cli_str(root, "text")), "running", &conf, &report) != FB_OK)
        conf = NULL;
    conf_report_fini(&report);
    json_decref(root);
    return conf;
}

static bool has_listener(const struct conf *conf, const char *address)
{
    for (size_t i = 0; conf && i < conf->listen_count; i++)
        if (strcmp(conf->listens[i].address, address) == 0)
            return true;
    return false;
}

static struct conf *check_config(const struct cli_call *call, struct probes *p, bool *is_ours)
{
    const char *file = call->option[OPT_CONFIG];
    struct conf *running = running_conf(call), *conf = NULL;
    struct conf_report report = {0};
    struct fb_err err = {0};
    if (!file) {
        *is_ours = running != NULL;
        if (running)
            probe_add(p, PROBE_OK, "config", "the running foldback has one in force");
        else
            probe_hint(probe_add(p, PROBE_WARN, "config", "none is named, and none is running"),
                       "name a file with --config FILE");
        return running;
    }
    enum fb_code code = conf_load(file, &conf, &report, &err);
    if (code != FB_OK && !report.count) /* the file itself: the text says what to do */
        probe_add(p, PROBE_FAIL, "config", "%s", err.text);
    else if (code != FB_OK)
        probe_hint(probe_add(p, PROBE_FAIL, "config", "%s: %s", file, report.at[0].text),
                   "`foldback config check FILE` shows every line");
    else if (report.count)
        probe_hint(probe_add(p, PROBE_WARN, "config", "%s: %s", file, report.at[0].text),
                   "`foldback config check FILE` shows every line");
    else
        probe_add(p, PROBE_OK, "config", "%s: no errors", file);
    /* A running foldback holds the ports of a file when it listens on them itself. */
    *is_ours = conf && running && conf->listen_count > 0;
    for (size_t i = 0; *is_ours && i < conf->listen_count; i++)
        *is_ours = has_listener(running, conf->listens[i].address);
    conf_report_fini(&report);
    conf_unref(running);
    return code == FB_OK ? conf : NULL;
}

/* ---- connectors ---- */
static void on_step(void *arg, const char *connector, bool is_good, const char *text)
{
    struct probe *x =
        probe_add(arg, is_good ? PROBE_OK : PROBE_FAIL, "connector", "%s: %s", connector, text);
    probe_hint(x, "see doc/guide/connectors.md, then `foldback connector check`");
}

static void check_connectors(const struct cli_call *call, struct probes *p, uint32_t timeout_ms)
{
    struct cli_connector_args args = {
        .config = call->option[OPT_CONFIG], .timeout_ms = timeout_ms, .step = on_step, .arg = p};
    if (!args.config)
        probe_hint(probe_add(p, PROBE_WARN, "connector", "no file is named"),
                   "name it with --config FILE");
    else if (call->hooks->connector_check)
        (void)call->hooks->connector_check(&args);
}

/* ---- print ---- */
static void print_json(const struct probes *p)
{
    static const char *const states[] = {"ok", "warn", "fail"};
    json_t *list = json_array();
    bool is_ok = true;
    for (size_t i = 0; i < p->count; i++) {
        const struct probe *x = &p->at[i];
        is_ok &= x->state != PROBE_FAIL;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "check", x->check, "state",
                                              states[x->state], "text", x->text, "hint", x->hint));
    }
    json_t *root = json_pack("{s:b, s:o}", "is_ok", is_ok, "checks", list);
    cli_print_json(root);
    json_decref(root);
}

static void print_probes(const struct cli_call *call, const struct probes *p)
{
    static const char *const words[] = {"ok  ", "warn", "fail"};
    static const enum cli_color colors[] = {CLI_GREEN, CLI_YELLOW, CLI_RED};
    size_t count[3] = {0};
    if (call->is_json) {
        print_json(p);
        return;
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct probe *x = &p->at[i];
        count[x->state]++;
        printf("%s%s%s  %-9s %s\n", cli_paint(call, colors[x->state]), words[x->state],
               cli_paint(call, CLI_PLAIN), x->check, x->text);
        if (x->hint[0])
            printf("                Next: %s\n", x->hint);
    }
    printf("%zu ok, %zu warnings, %zu failed\n", count[PROBE_OK], count[PROBE_WARN],
           count[PROBE_FAIL]);
}
