/* SPDX-License-Identifier: Apache-2.0 */
/* key, erase: read the command line and hand over to main/. */
#include "cli/cli_int.h"

#include <string.h>

static int key_verb(const struct cli_call *call, const char *verb)
{
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_key_args args = {.verb = verb,
                                .state = state,
                                .master = call->arg_count ? call->arg[0] : NULL,
                                .is_json = call->is_json};
    return call->hooks->key(&args);
}

int cmd_key_list(const struct cli_call *call)
{
    return key_verb(call, "list");
}

int cmd_key_rotate(const struct cli_call *call)
{
    return key_verb(call, "rotate");
}

int cmd_key_rewrap(const struct cli_call *call)
{
    return key_verb(call, "rewrap");
}

int cmd_key_prune(const struct cli_call *call)
{
    return key_verb(call, "prune");
}

int cmd_erase(const struct cli_call *call)
{
    if (!call->option[OPT_SUBJECT])
        return cli_usage(call,
                         "needs --subject TEXT: what the person is called in paths and texts, "
                         "such as an account name or a mail address");
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_erase_args args = {.state = state,
                                  .subject = call->option[OPT_SUBJECT],
                                  .is_dry = call->option[OPT_DRY_RUN] != NULL,
                                  .is_json = call->is_json};
    return call->hooks->erase(&args);
}
