/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback connector check`: each connector of a file reaches its broker, from here and now. */
#include "conf/conf.h"
#include "main/run.h"
#include "stream/connectors/runner.h"

#include <stdio.h>
#include <string.h>

struct picture {
    const struct cli_connector_args *args;
    bool is_json;
    struct json json;
    const char *name;
    uint32_t bad;
};

static void on_step(void *arg, bool is_good, const char *text)
{
    struct picture *p = arg;
    p->bad += !is_good;
    if (p->args->step) {
        p->args->step(p->args->arg, p->name, is_good, text);
        return;
    }
    if (!p->is_json) {
        printf("%s  %-16s %s\n", is_good ? "ok  " : "fail", p->name, text);
        return;
    }
    json_object_begin(&p->json);
    json_key_str(&p->json, "connector", p->name);
    json_key_bool(&p->json, "is_ok", is_good);
    json_key_str(&p->json, "text", text);
    json_object_end(&p->json);
}

static struct conf *load(const char *file)
{
    struct conf_report report;
    struct conf *conf = NULL;
    struct fb_err err;
    if (conf_load(file, &conf, &report, &err) != FB_OK)
        fprintf(stderr, "foldback: %s\n", err.text);
    conf_report_fini(&report);
    return conf;
}

int connector_check_command(const struct cli_connector_args *args)
{
    struct buf out;
    struct picture p = {.args = args, .is_json = args->is_json};
    struct conf *conf = load(args->config);
    struct fb_err err;
    uint32_t seen = 0;
    if (!conf)
        return 2;
    buf_init(&out, MIB);
    json_init(&p.json, &out);
    json_array_begin(&p.json);
    for (size_t i = 0; i < conf->connector_count; i++) {
        const struct conf_connector *c = &conf->connectors[i];
        if (args->name && strcmp(args->name, c->name) != 0)
            continue;
        seen++;
        p.name = c->name;
        uint32_t bad = p.bad;
        if (connectors_check(c, args->timeout_ms, on_step, &p, &err) != FB_OK && p.bad == bad)
            on_step(&p, false, err.text);
    }
    json_array_end(&p.json);
    if (args->is_json && !args->step)
        printf("%s\n", buf_str(&out));
    buf_fini(&out);
    if (seen == 0 && !args->step) {
        fprintf(stderr, "foldback: %s has no connector%s%s", args->config,
                args->name ? " called " : "s", args->name ? args->name : "");
        for (size_t i = 0; args->name && i < conf->connector_count; i++)
            fprintf(stderr, "%s%s", i ? ", " : "; it has ", conf->connectors[i].name);
        fprintf(stderr, "%s\n", conf->connector_count ? "" : "; add one under `connectors`");
    }
    conf_unref(conf);
    return p.bad || (seen == 0 && args->name) ? 1 : 0;
}
