/* SPDX-License-Identifier: Apache-2.0 */
/* Event streams: "event: NAME", "data: JSON", an empty line. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>

struct follow {
    const struct cli_follow *to;
    char name[32];
    bool is_stopped;
};

static bool on_line(void *arg, struct span line)
{
    struct follow *f = arg;
    struct span value, key = span_cut(line, ':', &value);
    value = span_trim(value);
    if (line.len == 0) {
        snprintf(f->name, sizeof f->name, "message");
    } else if (span_eq(key, SPAN("event"))) {
        snprintf(f->name, sizeof f->name, "%.*s", SPAN_ARG(value));
    } else if (span_eq(key, SPAN("data"))) {
        json_t *data = json_loadb(value.at, value.len, JSON_DECODE_ANY, NULL);
        if (data)
            f->is_stopped = !f->to->on_message(f->to->arg, f->name, data, value);
        json_decref(data);
    }
    return !f->is_stopped;
}

static bool on_idle(void *arg)
{
    struct follow *f = arg;
    if (f->to->on_idle)
        f->is_stopped = !f->to->on_idle(f->to->arg);
    return !f->is_stopped;
}

int cli_follow(const struct cli_call *call, const char *path, const struct cli_follow *follow)
{
    struct client c;
    struct buf out;
    struct fb_err err = {0};
    struct follow f = {.to = follow, .name = "message"};
    enum fb_code code = cli_client(call, &c, &err);
    if (code != FB_OK)
        return cli_fail(&err);
    struct client_call one = {
        .method = "GET", .path = path, .on_line = on_line, .on_idle = on_idle, .arg = &f};
    buf_init(&out, MIB);
    code = client_call(&c, &one, &out, &err);
    buf_fini(&out);
    if (!f.is_stopped)
        (void)on_idle(&f); /* what is held comes before the sentence about the end */
    if (code == FB_OK && !f.is_stopped)
        code = fb_fail(&err, FB_E_UNREACHABLE,
                       "%s ended the stream; `foldback status` shows whether it still runs",
                       c.address);
    return code == FB_OK ? 0 : cli_fail(&err);
}
