/* SPDX-License-Identifier: Apache-2.0 */
/* connector list, pause, resume, reset, check. */
#include "cli/cli_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_lag(const json_t *k, char out[48])
{
    const json_t *events = json_object_get(k, "lag_events");
    bool is_source = strcmp(cli_str(k, "direction"), "source") == 0;
    double lag_s = cli_num(k, "lag_s");
    if (!json_is_number(events))
        snprintf(out, 48, lag_s > 0 ? "%.1f s" : "-", lag_s);
    else if (is_source && !(lag_s > 0))
        snprintf(out, 48, "%.0f", json_number_value(events));
    else
        snprintf(out, 48, "%.0f, %.1f s", json_number_value(events), lag_s);
}

static void show(const json_t *root, struct buf *out)
{
    const json_t *list = json_object_get(root, "connectors");
    int width = 20;
    if (json_array_size(list) == 0) {
        buf_puts(out, "No connectors: name one under `connectors` in the configuration (that of a "
                      "fleet: `foldback fleet status`).\n");
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t len = strlen(cli_str(json_array_get(list, i), "name"));
        width = len > (size_t)width ? (int)len : width;
    }
    buf_printf(out, "%-*s %-10s %-7s %-13s %12s %18s %8s %6s\n", width, "NAME", "TYPE", "", "STATE",
               "EVENTS", "LAG", "ERRORS", "DEAD");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        char lag[48];
        put_lag(k, lag);
        buf_printf(out, "%-*s %-10s %-7s %-13s %12.0f %18s %8.0f %6.0f\n", width,
                   cli_str(k, "name"), cli_str(k, "type"), cli_str(k, "direction"),
                   cli_str(k, "state"), cli_num(k, "events"), lag, cli_num(k, "errors"),
                   cli_num(k, "dead"));
        const char *state = cli_str(k, "state");
        if (strcmp(state, "failing") == 0 || strcmp(state, "misconfigured") == 0)
            buf_printf(out, "  %s\n", cli_str(k, "last_error"));
    }
}

int cmd_connector_list(const struct cli_call *call)
{
    json_t *root;
    int code = cli_api(call, "GET", "/v1/connectors", NULL, &root);
    if (code == 0 && call->is_json) {
        cli_print_json(root);
    } else if (code == 0) {
        struct buf out;
        buf_init(&out, MIB);
        show(root, &out);
        cli_flush(&out);
        buf_fini(&out);
    }
    json_decref(root);
    return code;
}

static int order(const struct cli_call *call, const char *verb, json_t *body, const char *said)
{
    char path[160];
    json_t *root;
    if (strlen(call->arg[0]) > 60 || strpbrk(call->arg[0], "/?#% ")) {
        json_decref(body);
        return cli_usage(call, "that is not the name of a connector");
    }
    snprintf(path, sizeof path, "/v1/connectors/%s/%s", call->arg[0], verb);
    if (call->option[OPT_WHY])
        json_object_set_new(body, "why", json_string(call->option[OPT_WHY]));
    int code = cli_api(call, "POST", path, body, &root);
    if (code == 0 && call->is_json)
        cli_print_json(root);
    else if (code == 0)
        puts(said);
    json_decref(root);
    json_decref(body);
    return code;
}

int cmd_connector_pause(const struct cli_call *call)
{
    return order(call, "pause", json_object(),
                 "Paused, over restarts too, until `foldback connector resume`: events wait in "
                 "the log, messages at their broker.");
}

int cmd_connector_resume(const struct cli_call *call)
{
    return order(call, "resume", json_object(),
                 "Resumed; `foldback connector list` tells how it is.");
}

int cmd_connector_reset(const struct cli_call *call)
{
    json_t *body = json_object();
    const char *at = call->option[OPT_AT];
    if (at && (strcmp(at, "start") == 0 || strcmp(at, "end") == 0)) {
        json_object_set_new(body, "to", json_string(at));
    } else if (at) {
        char *end;
        long long offset = strtoll(at, &end, 10);
        if (*end || end == at || offset < 0) {
            json_decref(body);
            return cli_usage(call, "--at is start, end or an offset of the log");
        }
        json_object_set_new(body, "offset", json_integer(offset));
    }
    return order(call, "reset", body,
                 !at ? "Reset: the source forgets how far it was, and begins as it is "
                       "configured."
                 : strcmp(at, "end") == 0
                     ? "Reset: the sink goes on at the end of the log; what was not "
                       "sent yet is left out."
                 : strcmp(at, "start") == 0 ? "Reset: the sink sends all again that the log has."
                                            : "Reset: the sink goes on at that offset.");
}

int cmd_connector_check(const struct cli_call *call)
{
    uint64_t seconds = 5;
    if (!cli_number(call, OPT_TIMEOUT, 1, 3600, &seconds))
        return 2;
    struct cli_connector_args args = {.config = call->option[OPT_CONFIG],
                                      .name = call->arg_count ? call->arg[0] : NULL,
                                      .timeout_ms = (uint32_t)seconds * 1000,
                                      .is_json = call->is_json};
    if (!args.config)
        return cli_usage(call, "needs the file that has them: --config foldback.yaml");
    return call->hooks->connector_check ? call->hooks->connector_check(&args) : 1;
}
