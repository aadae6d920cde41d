/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint list, add, remove: endpoints of services without a reload. */
#include "cli/cli_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "/v1/services/SERVICE/endpoints[/ADDRESS]" */
static void path_of(struct buf *out, const char *service, const char *address)
{
    buf_puts(out, "/v1/services/");
    client_encode(out, service);
    buf_puts(out, "/endpoints");
    if (address) {
        buf_putc(out, '/');
        client_encode(out, address);
    }
}

/* A name that is followed: where it comes from and how it is. */
static void show_name(const json_t *e, struct buf *out)
{
    const char *state = cli_str(e, "state"), *why = cli_str(e, "why");
    double count = cli_num(e, "addresses");
    char weight[CLI_ROOM];
    snprintf(weight, sizeof weight, "%.6g %%", cli_num(e, "weight_pct"));
    buf_printf(out, "  %-24s %-14s weight %-8s ", cli_str(e, "name"), cli_str(e, "source"), weight);
    if (strcmp(state, "pending") == 0)
        buf_puts(out, "is being looked up");
    else if (strcmp(state, "not_in_force") == 0)
        buf_puts(out, "not in force");
    else if (strcmp(state, "unknown") == 0)
        buf_puts(out, "not known");
    else if (strcmp(state, "unresolved") == 0)
        buf_puts(out, "no address yet");
    else
        buf_printf(out, "%.0f address%s%s", count, count > 1 ? "es" : "",
                   strcmp(state, "stale") == 0 ? " of before, the last look-up failed" : "");
    buf_printf(out, "%s%s\n", why[0] ? ": " : "", why);
}

static void show(const json_t *root, struct buf *out)
{
    const json_t *list = json_object_get(root, "endpoints");
    const json_t *names = json_object_get(root, "names");
    char weight[CLI_ROOM];
    buf_printf(out, "%s%s\n", cli_str(root, "service"),
               json_array_size(list)    ? ""
               : json_array_size(names) ? "  has no endpoints yet"
                                        : "  has no endpoints: `foldback endpoint add` adds one");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        double pct = cli_num(e, "weight_pct");
        if (isnan(pct))
            snprintf(weight, sizeof weight, "-");
        else
            snprintf(weight, sizeof weight, "%.6g %%", pct);
        const char *name = cli_str(e, "name");
        buf_printf(out, "  %-24s %-14s weight %-8s %5.0f in flight  %s%s%s%s%s\n",
                   cli_str(e, "address"), cli_str(e, "source"), weight, cli_num(e, "in_flight"),
                   cli_str(e, "health"), cli_is(e, "is_drained") ? ", drained" : "",
                   cli_is(e, "is_in_force") ? "" : ", not in force", name[0] ? ", of " : "", name);
    }
    for (size_t i = 0; i < json_array_size(names); i++)
        show_name(json_array_get(names, i), out);
}

static int list_one(const struct cli_call *call, const char *service, json_t **root)
{
    struct buf path;
    buf_init(&path, 4096);
    path_of(&path, service, NULL);
    int code = cli_api(call, "GET", buf_str(&path), NULL, root);
    buf_fini(&path);
    return code;
}

int cmd_endpoint_list(const struct cli_call *call)
{
    json_t *services = NULL, *all = json_array(), *one;
    int code = 0;
    if (call->arg_count) {
        code = list_one(call, call->arg[0], &one);
        if (code == 0)
            json_array_append_new(all, one);
    } else {
        size_t i;
        json_t *sv;
        code = cli_api(call, "GET", "/v1/services", NULL, &services);
        json_array_foreach(json_object_get(services, "services"), i, sv)
        {
            if (code == 0 && (code = list_one(call, cli_str(sv, "name"), &one)) == 0)
                json_array_append_new(all, one);
        }
    }
    if (code == 0 && call->is_json) {
        cli_print_json(call->arg_count ? json_array_get(all, 0) : all);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, MIB);
        for (size_t i = 0; i < json_array_size(all); i++)
            show(json_array_get(all, i), &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(services);
    json_decref(all);
    return code;
}

static int change(const struct cli_call *call, const char *method, json_t *body)
{
    json_t *root = NULL;
    struct buf path;
    bool is_removal = strcmp(method, "DELETE") == 0;
    buf_init(&path, 4096);
    path_of(&path, call->arg[0], is_removal ? call->arg[1] : NULL);
    if (call->option[OPT_WHY])
        json_object_set_new(body, "why", json_string(call->option[OPT_WHY]));
    int code = cli_api(call, method, buf_str(&path), body, &root);
    buf_fini(&path);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        const char *verb = cli_str(root, "verb"), *warning = cli_str(root, "warning");
        if (is_removal)
            printf("%s has left %s.", cli_str(root, "address"), cli_str(root, "service"));
        else
            printf("%s %s %s with weight %.6g %%.", cli_str(root, "address"),
                   strcmp(verb, "add") == 0 ? "is in" : "is changed in", cli_str(root, "service"),
                   cli_num(root, "weight_pct"));
        printf("%s%s\n", warning[0] ? "  " : "", warning);
    }
    json_decref(root);
    json_decref(body);
    return code;
}

int cmd_endpoint_add(const struct cli_call *call)
{
    const char *weight = call->option[OPT_WEIGHT];
    json_t *body = json_object();
    json_object_set_new(body, "address", json_string(call->arg[1]));
    if (weight) {
        char *end;
        double pct = strtod(weight, &end);
        if (end == weight || (*end && strcmp(end, "%") != 0) || !(pct >= 0) || pct > 1000) {
            json_decref(body);
            return cli_usage(call, "--weight must be 0..1000 percent (100 is even), got \"%s\"",
                             weight);
        }
        json_object_set_new(body, "weight_pct", json_real(pct));
    }
    if (call->option[OPT_ZONE])
        json_object_set_new(body, "zone", json_string(call->option[OPT_ZONE]));
    return change(call, "POST", body);
}

int cmd_endpoint_remove(const struct cli_call *call)
{
    return change(call, "DELETE", json_object());
}
