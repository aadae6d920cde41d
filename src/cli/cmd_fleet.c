/* SPDX-License-Identifier: Apache-2.0 */
/* fleet status. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>

/* What its configuration calls the node with this id (`node:`); "" nothing, or not heard of. */
static const char *name_of(const json_t *root, const char *node)
{
    const json_t *list = json_object_get(root, "nodes");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(cli_str(json_array_get(list, i), "node"), node) == 0)
            return cli_str(json_array_get(list, i), "name");
    return "";
}

static void show_nodes(const json_t *root, struct buf *out)
{
    const json_t *list = json_object_get(root, "nodes");
    if (json_array_size(list) == 0)
        return;
    buf_printf(out, "\n%-18s %-16s %-8s %-16s %-8s %9s\n", "NODE", "NAME", "ROLE", "REGION", "",
               "HEARD");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *n = json_array_get(list, i);
        bool is_live = json_is_true(json_object_get(n, "is_live"));
        const char *name = cli_str(n, "name");
        buf_printf(out, "%-18s %-16s %-8s %-16s %-8s %7.1f s\n", cli_str(n, "node"),
                   name[0] ? name : "-", cli_str(n, "role"), cli_str(n, "region"),
                   json_is_true(json_object_get(n, "has_left"))  ? "left"
                   : !is_live                                    ? "silent"
                   : json_is_true(json_object_get(n, "is_self")) ? "this one"
                                                                 : "live",
                   cli_num(n, "silent_s"));
    }
}

static void put_ms(const json_t *s, const char *key, char out[16])
{
    if (json_is_number(json_object_get(s, key)))
        snprintf(out, 16, "%.1f", cli_num(s, key));
    else
        snprintf(out, 16, "-");
}

static void show_shared(const json_t *root, struct buf *out)
{
    const json_t *list = json_object_get(root, "services");
    if (json_array_size(list) == 0)
        return;
    buf_printf(out, "\n%-20s %6s %10s %9s %9s %9s %9s  %s\n", "SERVICE", "NODES", "RATE/S",
               "SHED/S", "IN FLIGHT", "P50 MS", "P99 MS", "CONTROLLER");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *s = json_array_get(list, i);
        char p50[16], p99[16];
        put_ms(s, "latency_p50_ms", p50);
        put_ms(s, "latency_p99_ms", p99);
        const char *controller = cli_str(s, "controller"), *name = name_of(root, controller);
        buf_printf(out, "%-20s %6.0f %10.1f %9.1f %9.0f %9s %9s  %s%s%s\n", cli_str(s, "service"),
                   cli_num(s, "nodes"), cli_num(s, "rate"), cli_num(s, "shed_rate"),
                   cli_num(s, "in_flight"), p50, p99, controller, name[0] ? " " : "", name);
    }
}

static bool is_silent(const json_t *root, const char *node)
{
    const json_t *list = json_object_get(root, "nodes");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *n = json_array_get(list, i);
        if (strcmp(cli_str(n, "node"), node) == 0)
            return !json_is_true(json_object_get(n, "is_live"));
    }
    return true;
}

static void show_limits(const json_t *root, struct buf *out)
{
    const json_t *list = json_object_get(root, "limits");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *l = json_array_get(list, i);
        const json_t *shares = json_object_get(l, "shares");
        const char *route = cli_str(l, "route");
        buf_printf(out, "\nlimit of %s, decision %.0f by %s\n",
                   route[0] ? route : cli_str(l, "service"), cli_num(l, "sequence"),
                   cli_str(l, "controller"));
        for (size_t k = 0; k < json_array_size(shares); k++) {
            const json_t *s = json_array_get(shares, k);
            buf_printf(out, "  %-18s %-16s %6.2f %%  of it, asked for %.1f/s%s\n",
                       cli_str(s, "node"), name_of(root, cli_str(s, "node")),
                       cli_num(s, "share_pct"), cli_num(s, "asked_rate"),
                       is_silent(root, cli_str(s, "node")) ? ", silent" : "");
        }
    }
}

static void show(const json_t *root, struct buf *out)
{
    const char *state = cli_str(root, "state");
    if (strcmp(state, "off") == 0) {
        buf_puts(out, "This node is alone: name a connector with `direction: fleet` in "
                      "fleet.connector.\n");
        return;
    }
    buf_printf(out, "state     %s\nnodes     %.0f live of %.0f known\n", state,
               cli_num(root, "nodes_live"), cli_num(root, "nodes_known"));
    if (strcmp(state, "autonomous") == 0)
        buf_printf(out, "cut off   for %.0f s%s%s\n", cli_num(root, "cut_s"),
                   cli_str(root, "last_error")[0] ? ": " : "", cli_str(root, "last_error"));
    else if (json_is_number(json_object_get(root, "round_trip_ms")))
        buf_printf(out, "broker    %s, %.0f ms there and back\n", cli_str(root, "connector"),
                   cli_num(root, "round_trip_ms"));
    buf_printf(out,
               "lease     %.0f s; cut off for longer, or just started, it has %.1f %% of a limit\n",
               cli_num(root, "lease_s"), cli_num(root, "safe_pct"));
    buf_printf(out, "decided   %.0f heard, %.0f made here; why: foldback decisions --loop fleet\n",
               cli_num(root, "decisions_heard"), cli_num(root, "decisions_made"));
    show_nodes(root, out);
    show_shared(root, out);
    show_limits(root, out);
}

int cmd_fleet_status(const struct cli_call *call)
{
    json_t *root;
    int code = cli_api(call, "GET", "/v1/fleet", NULL, &root);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, 4 * MIB);
        show(root, &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}
