/* SPDX-License-Identifier: Apache-2.0 */
/* letters list, show, remove: on the files, by main/; send: by the foldback that runs. */
#include "base/clock.h"
#include "cli/cli_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OWNERS_MAX 64
#define ASK_AGAIN_US 100000
#define STUCK_US (60 * US_PER_S) /* without a letter that goes or stays */

static int letters_verb(const struct cli_call *call, const char *verb)
{
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_letters_args args = {.verb = verb,
                                    .state = state,
                                    .name = call->arg_count ? call->arg[0] : NULL,
                                    .is_json = call->is_json};
    return call->hooks->letters(&args);
}

int cmd_letters_list(const struct cli_call *call)
{
    return letters_verb(call, "list");
}

int cmd_letters_show(const struct cli_call *call)
{
    return letters_verb(call, "show");
}

int cmd_letters_remove(const struct cli_call *call)
{
    return letters_verb(call, "remove");
}

/* ---- send ---- */
struct owners {
    char name[OWNERS_MAX][64];
    size_t count;
};

static void add_owner(void *arg, const char *name)
{
    struct owners *o = arg;
    if (o->count < OWNERS_MAX && strlen(name) < sizeof o->name[0])
        snprintf(o->name[o->count++], sizeof o->name[0], "%s", name);
}

static const char *only_of(const struct cli_call *call)
{
    const char *name = call->option[OPT_CONNECTOR];
    return name ? name : call->option[OPT_HANDLER];
}

/* Who has the letter, or letters at all: files tell it, as of `letters show`. */
static int find_owners(const struct cli_call *call, const char *id, struct owners *owners)
{
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_letters_args args = {.verb = "find",
                                    .state = state,
                                    .name = only_of(call),
                                    .id = id,
                                    .found = add_owner,
                                    .arg = owners};
    struct fb_err err;
    code = call->hooks->letters(&args);
    if (code != 0 || owners->count > 0)
        return code;
    if (id)
        fb_fail(&err, FB_E_NOT_FOUND,
                "no dead letter%s%s has the id %.40s; `foldback letters show` tells each",
                args.name ? " of " : "", args.name ? args.name : "", id);
    else
        fb_fail(&err, FB_E_NOT_FOUND, "there are no dead letters%s%s; see `foldback letters list`",
                args.name ? " of " : "", args.name ? args.name : "");
    return cli_fail(&err);
}

/* The member letters_send of the connector; NULL when it is not there. */
static const json_t *progress_of(const json_t *root, const char *name)
{
    const json_t *list = json_object_get(root, "connectors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        if (strcmp(cli_str(k, "name"), name) == 0)
            return json_object_get(k, "letters_send");
    }
    return NULL;
}

/* Until order <number> is over: *last is what was told last. */
static int wait_for(const struct cli_call *call, const char *name, double number, json_t **last)
{
    uint64_t moved_us = fb_mono_us();
    double done = -1;
    struct fb_err err;
    for (;;) {
        json_t *root = NULL;
        int code = cli_api(call, "GET", "/v1/connectors", NULL, &root);
        json_t *now = json_incref((json_t *)progress_of(root, name));
        json_decref(root);
        if (code != 0)
            return code;
        bool is_it = now && cli_num(now, "number") == number;
        const char *state = is_it ? cli_str(now, "state") : "";
        double seen = is_it ? cli_num(now, "sent") + cli_num(now, "kept") : -1;
        json_decref(*last);
        *last = now;
        if (strcmp(state, "done") == 0 || strcmp(state, "ended") == 0)
            return 0;
        if (seen != done)
            moved_us = fb_mono_us();
        done = seen;
        if (fb_mono_us() - moved_us >= STUCK_US) {
            fb_fail(&err, is_it ? FB_E_TIMEOUT : FB_E_CONFLICT,
                    is_it ? "%s did not come to its dead letters within 60 s; they stay until it "
                            "does: `foldback connector list`"
                          : "%s was restarted or changed meanwhile; what was not delivered stays: "
                            "`foldback letters list`",
                    name);
            return cli_fail(&err);
        }
        usleep(ASK_AGAIN_US);
    }
}

/* 1: something stays, or it could not be asked. */
static int tell(const struct cli_call *call, const char *name, const json_t *last)
{
    double kept = cli_num(last, "kept");
    const char *text = cli_str(last, "text");
    bool is_whole = strcmp(cli_str(last, "state"), "done") == 0 && !(kept > 0);
    if (call->is_json) {
        json_t *line = json_pack("{s:s,s:O}", "name", name, "letters_send", (json_t *)last);
        cli_print_json_line(line);
        json_decref(line);
        return is_whole ? 0 : 1;
    }
    printf("%s: %.0f dead letters were delivered and removed\n", name, cli_num(last, "sent"));
    fflush(stdout);
    if (kept > 0)
        fprintf(stderr, "foldback: %s: %.0f stay, the last one %s\n", name, kept, text);
    else if (!is_whole)
        fprintf(stderr, "foldback: %s: what is left stays: %s\n", name, text);
    return is_whole ? 0 : 1;
}

static int send_of(const struct cli_call *call, const char *name, const char *id)
{
    char path[160];
    json_t *body = id ? json_pack("{s:s}", "id", id) : json_pack("{s:b}", "all", 1);
    json_t *root = NULL, *last = NULL;
    if (call->option[OPT_WHY])
        json_object_set_new(body, "why", json_string(call->option[OPT_WHY]));
    snprintf(path, sizeof path, "/v1/connectors/%s/letters/send", name);
    int code = cli_api(call, "POST", path, body, &root);
    double number = cli_num(root, "number");
    json_decref(root);
    json_decref(body);
    if (code == 0)
        code = wait_for(call, name, number, &last);
    if (code == 0)
        code = tell(call, name, last);
    json_decref(last);
    return code;
}

int cmd_letters_send(const struct cli_call *call)
{
    static struct owners owners;
    const char *id = call->arg_count ? call->arg[0] : NULL, *only = only_of(call);
    if ((id != NULL) == (call->option[OPT_ALL] != NULL))
        return cli_usage(call, "needs the ID that `foldback letters show` tells, or --all");
    if (call->option[OPT_CONNECTOR] && call->option[OPT_HANDLER])
        return cli_usage(call, "--connector or --handler: a name is given once");
    if (only && (strlen(only) > 60 || strpbrk(only, "/?#% ")))
        return cli_usage(call, "that is not the name of a connector or handler");
    owners.count = 0;
    int code = find_owners(call, id, &owners), worst = code;
    for (size_t i = 0; code == 0 && i < owners.count; i++) {
        int one = send_of(call, owners.name[i], id);
        worst = one > worst ? one : worst;
    }
    return worst;
}
