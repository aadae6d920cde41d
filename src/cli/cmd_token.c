/* SPDX-License-Identifier: Apache-2.0 */
/* token: what opens the admin API and the dashboard.  Only who may read the file gets it. */
#include "cli/cli_int.h"

#include <stdio.h>

int cmd_token(const struct cli_call *call)
{
    struct client c;
    struct fb_err err = {0};
    if (cli_client(call, &c, &err) != FB_OK)
        return cli_fail(&err);
    if (!call->is_json) {
        puts(c.token);
        return 0;
    }
    json_t *root = json_pack("{s:s, s:s}", "token", c.token, "address", c.address);
    cli_print_json(root);
    json_decref(root);
    return 0;
}
