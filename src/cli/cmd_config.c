/* SPDX-License-Identifier: Apache-2.0 */
/* config check, config show, config schema. */
#include "cli/cli_int.h"

#include "conf/conf.h"

#include <stdio.h>
#include <string.h>

/* Loads the file; prints what is wrong with it (to stderr, or as JSON). */
static int load(const struct cli_call *call, uint32_t timeout_ms, struct conf **conf);

struct start_faults { /* what check_start says */
    const char *file;
    bool is_json;
    json_t *list;
};

static void on_fault(void *arg, uint32_t line, const char *text)
{
    struct start_faults *f = arg;
    if (f->is_json)
        json_array_append_new(f->list, json_pack("{s:I, s:I, s:s, s:s}", "line", (json_int_t)line,
                                                 "column", (json_int_t)(line != 0), "severity",
                                                 "error", "text", text));
    else if (line)
        fprintf(stderr, "%s:%u: error: %s\n", f->file, line, text);
    else
        fprintf(stderr, "%s: error: %s\n", f->file, text);
}

/* [{"line", "column", "severity", "text"}] */
static json_t *problems_of(const struct conf_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:s, s:s}", "line", (json_int_t)r->at[i].line, "column",
                            (json_int_t)r->at[i].column, "severity",
                            r->at[i].is_warning ? "warning" : "error", "text", r->at[i].text));
    return list;
}

/* As a compiler: FILE:LINE:COL: error: text, all errors of one run, on stderr; a good file is one
 * line. */
int cmd_config_check(const struct cli_call *call)
{
    struct conf *conf = NULL;
    uint64_t timeout_s = 5;
    bool is_reaching = call->option[OPT_CONNECTORS] != NULL;
    if (!cli_number(call, OPT_TIMEOUT, 1, 3600, &timeout_s))
        return 2;
    int code = load(call, is_reaching ? (uint32_t)timeout_s * 1000 : 0, &conf);
    if (code == 0 && !call->is_json) {
        size_t endpoints = 0;
        for (size_t i = 0; i < conf->service_count; i++)
            endpoints += conf->services[i].endpoint_count;
        printf("%s: no errors; listeners %zu, services %zu, endpoints %zu, routes %zu",
               call->arg[0], conf->listen_count, conf->service_count, endpoints, conf->route_count);
        if (is_reaching)
            printf(", connectors reached %zu", conf->connector_count);
        putchar('\n');
    }
    conf_unref(conf);
    return code;
}

/* The line of the key that <text> names, else of the connector's type or first key. */
static uint32_t line_of(const struct conf_connector *c, const char *text)
{
    uint32_t line = 0;
    for (size_t i = c->value_count; i-- > 0;) {
        const struct conf_connector_value *v = &c->values[i];
        if (!v->line)
            continue;
        if (strstr(text, v->key))
            return v->line;
        line = v->line;
    }
    return line;
}

struct opening {
    const struct conf *conf;
    struct start_faults *faults;
    uint32_t count;
};

static void on_opened(void *arg, const char *name, bool is_good, const char *text)
{
    struct opening *o = arg;
    char whole[700];
    if (is_good)
        return;
    o->count++;
    for (size_t i = 0; i < o->conf->connector_count; i++) {
        const struct conf_connector *c = &o->conf->connectors[i];
        if (strcmp(c->name, name) != 0)
            continue;
        snprintf(whole, sizeof whole, "%s.%s", c->section, name);
        if (strstr(text, whole))
            snprintf(whole, sizeof whole, "%s", text);
        else
            snprintf(whole, sizeof whole, "%s.%s: %s", c->section, name, text);
        on_fault(o->faults, line_of(c, text), whole);
    }
}

/* What their libraries, which must be there, say to keys, certificates and other files; with a
 * timeout also what the brokers say, from here and now. */
static uint32_t open_connectors(const struct cli_call *call, const struct conf *conf,
                                struct start_faults *faults, uint32_t timeout_ms)
{
    struct opening o = {.conf = conf, .faults = faults};
    struct cli_connector_args args = {
        .config = call->arg[0], .timeout_ms = timeout_ms, .step = on_opened, .arg = &o};
    if (conf->connector_count && call->hooks->connector_check)
        (void)call->hooks->connector_check(&args);
    return o.count;
}

static int load(const struct cli_call *call, uint32_t timeout_ms, struct conf **conf)
{
    const char *file = call->arg[0];
    bool is_json = call->is_json;
    struct conf_report report = {0};
    struct fb_err err = {0};
    struct buf out;
    enum fb_code code = conf_load(file, conf, &report, &err);
    bool is_read = code == FB_OK;
    struct start_faults faults = {file, is_json, problems_of(&report)};
    if (is_read && check_start(*conf, NULL, on_fault, &faults) +
                       open_connectors(call, *conf, &faults, timeout_ms))
        code = FB_E_CONFIG;
    buf_init(&out, 4 * MIB);
    if (is_json && (is_read || report.count)) {
        json_t *root = json_pack("{s:s, s:b, s:O}", "file", file, "is_valid", code == FB_OK,
                                 "problems", faults.list);
        cli_print_json(root);
        json_decref(root);
    } else if (report.count) {
        conf_report_print(&report, file, (struct span){NULL, 0}, &out);
        fwrite(out.at, 1, out.len, stderr);
    }
    if (!is_read && !report.count)
        cli_fail(&err);
    json_decref(faults.list);
    conf_report_fini(&report);
    buf_fini(&out);
    return code == FB_OK ? 0 : 2; /* a file that cannot be read is a configuration error too */
}

static int show_conf(const struct cli_call *call, const struct conf *conf, struct span waiting)
{
    struct buf out;
    buf_init(&out, 16 * MIB);
    if (call->is_json || call->option[OPT_EFFECTIVE])
        conf_show_running(conf, waiting, call->is_json, &out);
    else
        buf_put(&out, conf->text, conf->text_bytes);
    if (out.len && out.at[out.len - 1] != '\n')
        buf_putc(&out, '\n');
    cli_flush(&out);
    buf_fini(&out);
    return 0;
}

/* Values that wait for the next start, as conf_show_running wants them. */
static void put_waiting(const json_t *root, struct buf *out)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(root, "needs_restart"), i, one)
        buf_printf(out, "%s\t%s\t%s\n", cli_str(one, "key"), cli_str(one, "in_force"),
                   cli_str(one, "waiting"));
}

/* Endpoints beside the file: as comments, so that the whole can be saved as a file. */
static void print_own(const json_t *root)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(root, "api_endpoints"), i, one)
        printf("# by the admin API: services.%s.endpoints has %s too, weight %.6g%%; `foldback "
               "endpoint list %s`\n",
               cli_str(one, "service"), cli_str(one, "address"), cli_num(one, "weight_pct"),
               cli_str(one, "service"));
}

/* The text is that of the file: what of it is not in force yet stands above it. */
static void print_text(const json_t *root)
{
    size_t i;
    json_t *one;
    const char *text = cli_str(root, "text");
    json_array_foreach(json_object_get(root, "needs_restart"), i, one)
        printf("# waits for the next start: %s; in force is \"%s\", below stands \"%s\"\n",
               cli_str(one, "key"), cli_str(one, "in_force"), cli_str(one, "waiting"));
    print_own(root);
    printf("%s%s", text, text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n");
}

/* Without a file: the one that the running foldback has in force. */
static int show_running(const struct cli_call *call)
{
    json_t *root;
    struct conf *conf = NULL;
    struct conf_report report = {0};
    int code = cli_api(call, "GET", "/v1/config", NULL, &root);
    if (code)
        return code;
    const char *text = cli_str(root, "text");
    if (call->is_json) {
        cli_print_json(root);
    } else if (!call->option[OPT_EFFECTIVE]) {
        print_text(root);
    } else if (conf_parse(span_of(text), "running", &conf, &report) == FB_OK) {
        struct buf waiting;
        buf_init(&waiting, MIB);
        put_waiting(root, &waiting);
        print_own(root);
        code = show_conf(call, conf, buf_span(&waiting));
        buf_fini(&waiting);
    } else {
        struct fb_err err = {0};
        fb_fail(&err, FB_E_VERSION,
                "this program does not understand the configuration of the "
                "running one; use the program that runs, or --json");
        code = cli_fail(&err);
    }
    conf_unref(conf);
    conf_report_fini(&report);
    json_decref(root);
    return code;
}

/* The text as it was written, or with --effective each value and the line it comes from. */
int cmd_config_show(const struct cli_call *call)
{
    struct conf *conf = NULL;
    struct conf_report report = {0};
    struct fb_err err = {0};
    struct buf out;
    if (call->arg_count == 0)
        return show_running(call);
    enum fb_code code = conf_load(call->arg[0], &conf, &report, &err);
    buf_init(&out, 4 * MIB);
    if (report.count)
        conf_report_print(&report, call->arg[0], (struct span){NULL, 0}, &out);
    fwrite(out.at, 1, out.len, stderr);
    if (code == FB_OK)
        show_conf(call, conf, (struct span){"", 0});
    else if (!report.count)
        cli_fail(&err);
    buf_fini(&out);
    conf_report_fini(&report);
    conf_unref(conf);
    return code == FB_OK ? 0 : 2;
}

int cmd_config_schema(const struct cli_call *call)
{
    struct buf out;
    (void)call;
    buf_init(&out, 4 * MIB);
    conf_schema(&out);
    buf_putc(&out, '\n');
    cli_flush(&out);
    buf_fini(&out);
    return 0;
}
