/* SPDX-License-Identifier: Apache-2.0 */
/* reload: asks for the file to be read again and waits for what became of it. */
#include "cli/cli_int.h"
#include "cli/client.h"

#include <stdio.h>

#define RELOAD_MS 15000 /* the server waits 10 s for its gateway */

/* As `config check` prints them. */
static void print_errors(const json_t *problem)
{
    size_t i;
    json_t *one;
    const char *file = cli_str(problem, "file");
    json_array_foreach(json_object_get(problem, "errors"), i, one)
    {
        json_int_t line = json_integer_value(json_object_get(one, "line")),
                   column = json_integer_value(json_object_get(one, "column"));
        if (line)
            fprintf(stderr, "%s:%lld:%lld: error: %s\n", file, (long long)line, (long long)column,
                    cli_str(one, "text"));
        else
            fprintf(stderr, "%s: error: %s\n", file, cli_str(one, "text"));
    }
    fprintf(stderr,
            "foldback: %s was refused; the configuration before it stays in force.  "
            "Correct the lines above, then `foldback reload`.\n",
            file);
}

static void print_taken(const json_t *root)
{
    size_t i;
    json_t *key, *one;
    const json_t *late = json_object_get(root, "needs_restart");
    puts("The file is in force.  `foldback config show` prints it.");
    json_array_foreach(json_object_get(root, "warnings"), i, one)
        fprintf(stderr, "%s:%lld: warning: %s\n", cli_str(root, "file"),
                (long long)json_integer_value(json_object_get(one, "line")), cli_str(one, "text"));
    if (json_array_size(late) == 0)
        return;
    fputs("Only the next start takes: ", stdout);
    json_array_foreach(late, i, key) printf("%s%s", i ? ", " : "", json_string_value(key));
    puts(
        "  (restart foldback for these; `foldback config show --effective` says what is in force)");
}

int cmd_reload(const struct cli_call *call)
{
    json_t *root = NULL;
    struct fb_err err = {0};
    struct client_call one = {.method = "POST",
                              .path = "/v1/reload",
                              .timeout_ms = RELOAD_MS,
                              .patience = "still waiting for the gateway to take the file ..."};
    enum fb_code code = cli_ask(call, &one, &root, &err);
    bool has_errors = root && code == FB_E_RANGE && json_object_get(root, "errors");
    int exit_code = 0;
    if (call->is_json && root)
        cli_print_json(root);
    if (code == FB_OK && !call->is_json)
        print_taken(root);
    if (has_errors && !call->is_json)
        print_errors(root);
    if (code != FB_OK)
        exit_code = has_errors || (root && call->is_json) ? fb_error_row(FB_E_CONFIG)->exit_code
                                                          : cli_fail(&err);
    json_decref(root);
    return exit_code;
}
