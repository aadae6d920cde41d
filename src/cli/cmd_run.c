/* SPDX-License-Identifier: Apache-2.0 */
/* run, replay, demo, log: read the command line and hand over to main/. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int needs_hook(void)
{
    struct fb_err err = {0};
    fb_fail(&err, FB_E_INTERNAL, "this build has no such command");
    return cli_fail(&err);
}

/* Either a file or addresses: two sources of truth would have to be merged, and nobody could say
 * which one a reload reads. */
int cmd_run(const struct cli_call *call)
{
    struct cli_run_args args = {.config = call->option[OPT_CONFIG],
                                .from_count = call->list_count[OPT_FROM],
                                .to_count = call->list_count[OPT_TO],
                                .state = call->option[OPT_STATE],
                                .admin = call->option[OPT_ADMIN],
                                .is_quiet = call->option[OPT_QUIET] != NULL};
    memcpy(args.from, call->list[OPT_FROM], sizeof args.from);
    memcpy(args.to, call->list[OPT_TO], sizeof args.to);
    if (!args.config && args.to_count == 0)
        return cli_usage(call, "needs an endpoint (--to :3000) or a file (--config foldback.yaml)");
    if (args.config && (args.to_count > 0 || args.from_count > 0))
        return cli_usage(call, "takes either --config or --from and --to, not both; write the "
                               "addresses into the file");
    return call->hooks->run ? call->hooks->run(&args) : needs_hook();
}

int cmd_replay(const struct cli_call *call)
{
    uint64_t from = 0, until = UINT64_MAX;
    if (!cli_number(call, OPT_FROM_OFFSET, 0, UINT64_MAX, &from) ||
        !cli_number(call, OPT_UNTIL_OFFSET, 0, UINT64_MAX, &until))
        return 2;
    if (from >= until)
        return cli_usage(call, "--from-offset %llu is not before --until-offset %llu",
                         (unsigned long long)from, (unsigned long long)until);
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_replay_args args = {.state = state,
                                   .config = call->option[OPT_CONFIG],
                                   .from_offset = from,
                                   .until_offset = until,
                                   .is_verify = call->option[OPT_VERIFY] != NULL,
                                   .is_json = call->is_json};
    return call->hooks->replay ? call->hooks->replay(&args) : needs_hook();
}

int cmd_demo(const struct cli_call *call)
{
    static char self[4096];
    uint64_t seconds = 0;
    if (!cli_number(call, OPT_SECONDS, 5, 3600, &seconds))
        return 2;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    struct cli_demo_args args = {.scenario = call->arg_count ? call->arg[0] : "flash-sale",
                                 .seconds = (uint32_t)seconds,
                                 .is_headless = call->option[OPT_HEADLESS] != NULL,
                                 .is_json = call->is_json,
                                 .report = call->option[OPT_REPORT],
                                 .state = call->option[OPT_STATE],
                                 .self = self};
    return call->hooks->demo ? call->hooks->demo(&args) : needs_hook();
}

static int log_verb(const struct cli_call *call, const char *verb)
{
    const char *state;
    int code = cli_state(call, &state);
    if (code != 0)
        return code;
    struct cli_log_args args = {.verb = verb,
                                .state = state,
                                .is_applied = call->option[OPT_APPLY] != NULL,
                                .is_json = call->is_json};
    return call->hooks->log ? call->hooks->log(&args) : needs_hook();
}

int cmd_log_check(const struct cli_call *call)
{
    return log_verb(call, "check");
}

int cmd_log_repair(const struct cli_call *call)
{
    return log_verb(call, "repair");
}

int cmd_log_stats(const struct cli_call *call)
{
    return log_verb(call, "stats");
}

/* The compiler is there because reports of crashes need it. */
int cmd_version(const struct cli_call *call)
{
    if (!call->is_json) {
        printf("foldback %s\n", FB_VERSION);
        return 0;
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", "foldback", "version", FB_VERSION,
                             "compiler",
#ifdef __clang__
                             "clang " __clang_version__,
#else
                             "gcc " __VERSION__,
#endif
                             "architecture",
#ifdef __aarch64__
                             "aarch64",
#else
                             "x86_64",
#endif
                             "license", "Apache-2.0");
    int code = cli_print_json(root);
    json_decref(root);
    return code;
}
