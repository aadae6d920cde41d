/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a role of a running foldback, or a command. */
#include "demo/demo.h"
#include "main/role.h"
#include "main/run.h"
#include "main/upgrade.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (upgrade_is_resumed())
        return upgrade_resume_main();
    if (argc > 1 && strcmp(argv[1], "__check") == 0)
        return upgrade_check_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "__gateway") == 0)
        return role_gateway_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "__brain") == 0)
        return role_brain_main(argc, argv);
    static const struct cli_hooks hooks = {
        .run = run_command,
        .replay = replay_command,
        .demo = demo_command,
        .log = log_command,
        .connector_check = connector_check_command,
        .query = query_command,
        .export = export_command,
        .key = key_command,
        .letters = letters_command,
        .erase = erase_command,
        .reference = reference_page,
    };
    return cli_main(argc, argv, &hooks);
}
