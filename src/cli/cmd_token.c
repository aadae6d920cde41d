/* SPDX-License-Identifier: Apache-2.0 */
/* token: what opens the admin API and the dashboard, or only lets events in.  Only who may read the
 * file gets it. */
#include "cli/cli_int.h"
#include "io/textfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Of the default file; with ingest.token_file the operator knows where they are. */
static enum fb_code read_ingest(struct client *c, struct fb_err *err)
{
    char file[700];
    snprintf(file, sizeof file, "%s/ingest.token", c->state);
    if (textfile_line(file, c->token, sizeof c->token))
        return FB_OK;
    return fb_fail(err, FB_E_DENIED,
                   "cannot read the token in %s: %s; with ingest.token_file they are there", file,
                   strerror(errno));
}

int cmd_token(const struct cli_call *call)
{
    struct client c;
    struct fb_err err = {0};
    const char *role = call->arg_count ? call->arg[0] : "admin";
    bool is_ingest = strcmp(role, "ingest") == 0;
    if (!is_ingest && strcmp(role, "admin") != 0) {
        fb_fail(&err, FB_E_USAGE, "\"%s\" is no role: admin or ingest", role);
        return cli_fail(&err);
    }
    if (cli_client(call, &c, &err) != FB_OK || (is_ingest && read_ingest(&c, &err) != FB_OK))
        return cli_fail(&err);
    if (!call->is_json) {
        puts(c.token);
        return 0;
    }
    json_t *root =
        json_pack("{s:s, s:s, s:s}", "token", c.token, "address", c.address, "role", role);
    cli_print_json(root);
    json_decref(root);
    return 0;
}
