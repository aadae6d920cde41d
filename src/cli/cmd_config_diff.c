/* SPDX-License-Identifier: Apache-2.0 */
/* config diff: the file against what is in force, key by key. */
#include "cli/cli_int.h"
#include "conf/conf.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* KEY -> value, of all that `config show --effective` prints. */
static json_t *values_of(const struct conf *conf, struct span waiting)
{
    struct buf out;
    size_t i;
    json_t *one, *map = json_object();
    buf_init(&out, 16 * MIB);
    conf_show_running(conf, waiting, true, &out);
    json_t *root = json_loadb(out.at, out.len, 0, NULL);
    json_array_foreach(json_object_get(root, "values"), i, one)
        json_object_set(map, cli_str(one, "key"), json_object_get(one, "value"));
    json_decref(root);
    buf_fini(&out);
    return map;
}

static bool needs_restart(const char *key)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (size_t i = 0; i < count; i++) {
        char name[100];
        bool is_top = strcmp(rows[i].section, "top") == 0;
        snprintf(name, sizeof name, "%s%s%s", is_top ? "" : rows[i].section, is_top ? "" : ".",
                 rows[i].name);
        if (rows[i].apply == APPLY_RESTART && strcmp(name, key) == 0)
            return true;
    }
    return false;
}

static void add_change(json_t *changes, const char *key, const json_t *now, const json_t *file)
{
    json_t *one = json_pack("{s:s, s:O?, s:O?, s:s}", "key", key, "in_force", now, "file", file,
                            "applies", needs_restart(key) ? "restart" : "reload");
    json_array_append_new(changes, one);
}

static json_t *compare(json_t *now, json_t *file)
{
    const char *key;
    json_t *value, *changes = json_array();
    json_object_foreach(now, key, value)
    {
        const json_t *other = json_object_get(file, key);
        if (!other || !json_equal(value, other))
            add_change(changes, key, value, other);
    }
    json_object_foreach(file, key, value) if (!json_object_get(now, key))
        add_change(changes, key, NULL, value);
    return changes;
}

static void print_changes(const char *file, const json_t *changes)
{
    size_t i;
    json_t *one;
    if (json_array_size(changes) == 0)
        printf("%s is what is in force.\n", file);
    json_array_foreach(changes, i, one)
    {
        const char *now = json_string_value(json_object_get(one, "in_force")),
                   *then = json_string_value(json_object_get(one, "file"));
        printf("%-40s %s -> %s  (%s)\n", cli_str(one, "key"), now ? (*now ? now : "\"\"") : "none",
               then ? (*then ? then : "\"\"") : "none",
               strcmp(cli_str(one, "applies"), "restart") == 0 ? "at the next start"
                                                               : "with a reload");
    }
}

/* What the process that runs has, values that wait for its next start as they are now. */
static enum fb_code running_values(const json_t *root, json_t **values, struct fb_err *err)
{
    struct conf *conf = NULL;
    struct conf_report report = {0};
    struct buf waiting;
    size_t i;
    json_t *one;
    if (conf_parse(span_of(cli_str(root, "text")), "running", &conf, &report) != FB_OK) {
        conf_report_fini(&report);
        return fb_fail(err, FB_E_CONFIG,
                       "this program does not understand the configuration of the running one; use "
                       "the program that runs");
    }
    buf_init(&waiting, MIB);
    json_array_foreach(json_object_get(root, "needs_restart"), i, one)
        buf_printf(&waiting, "%s\t%s\t%s\n", cli_str(one, "key"), cli_str(one, "in_force"),
                   cli_str(one, "waiting"));
    *values = values_of(conf, buf_span(&waiting));
    buf_fini(&waiting);
    conf_unref(conf);
    conf_report_fini(&report);
    return FB_OK;
}

static enum fb_code file_values(const char *file, json_t **values, struct fb_err *err)
{
    struct conf *conf = NULL;
    struct conf_report report = {0};
    struct buf out;
    enum fb_code code = conf_load(file, &conf, &report, err);
    if (code == FB_OK) {
        *values = values_of(conf, (struct span){"", 0});
    } else if (report.count) {
        buf_init(&out, 4 * MIB);
        conf_report_print(&report, file, (struct span){NULL, 0}, &out);
        fwrite(out.at, 1, out.len, stderr);
        buf_fini(&out);
        code = fb_fail(err, FB_E_CONFIG, "%s has errors; what is in force stays", file);
    }
    conf_unref(conf);
    conf_report_fini(&report);
    return code;
}

int cmd_config_diff(const struct cli_call *call)
{
    struct fb_err err = {0};
    json_t *root = NULL, *now = NULL, *then = NULL;
    enum fb_code code = cli_get(call, "/v1/config", &root, &err);
    const char *file = call->option[OPT_CONFIG] ? call->option[OPT_CONFIG] : cli_str(root, "file");
    if (code == FB_OK && !*file)
        code = fb_fail(&err, FB_E_USAGE,
                       "the running foldback has no file; name one with --config FILE");
    if (code == FB_OK)
        code = running_values(root, &now, &err);
    if (code == FB_OK)
        code = file_values(file, &then, &err);
    int exit_code;
    if (code == FB_OK) {
        json_t *changes = compare(now, then);
        exit_code = json_array_size(changes) > 0;
        if (call->is_json) {
            json_t *all = json_pack("{s:s, s:b, s:O}", "file", file, "is_equal", !exit_code,
                                    "changes", changes);
            cli_print_json(all);
            json_decref(all);
        } else {
            print_changes(file, changes);
        }
        json_decref(changes);
    } else {
        exit_code = cli_fail(&err);
        if (exit_code == 1) /* 1 stands for "different" */
            exit_code = 2;
    }
    json_decref(now);
    json_decref(then);
    json_decref(root);
    return exit_code;
}
