/* SPDX-License-Identifier: Apache-2.0 */
/* The ways in besides the admin API: would they open, and do they? */
#include "cli/cli_int.h"
#include "conf/conf.h"
#include "io/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_on(const char *text)
{
    return text[0] && strcmp(text, "off") != 0;
}

/* 0, or the errno of a bind to <address>; with <is_any_port> only its IP counts. */
static int try_bind(const char *address, bool is_any_port)
{
    struct sock_addr at;
    struct fb_err err;
    if (sock_parse(span_of(address), &at, &err) != FB_OK)
        return EINVAL;
    if (is_any_port && at.any.sa_family == AF_INET6)
        at.v6.sin6_port = 0;
    else if (is_any_port)
        at.v4.sin_port = 0;
    int fd = socket(at.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int failed = fd < 0 || bind(fd, &at.any, at.bytes) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return failed;
}

/* What is wrong with the path of the socket; false: nothing. */
static bool is_path_bad(const char *path, struct fb_err *err)
{
    char folder[256];
    struct stat st;
    size_t len = (size_t)(strrchr(path, '/') - path);
    snprintf(folder, sizeof folder, "%.*s", (int)(len ? len : 1), path);
    if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
        fb_fail(err, FB_E_CONFIG, "ingest.statsd_socket: the folder %s is not there: make it",
                folder);
    else if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        fb_fail(err, FB_E_CONFIG,
                "ingest.statsd_socket: %s is there and is no socket: remove it or choose another "
                "path",
                path);
    else
        return false;
    return true;
}

size_t check_ingest(const struct conf *conf, check_start_fn *fn, void *arg)
{
    const char *address = conf->p.ingest_statsd, *path = conf->p.ingest_statsd_socket;
    struct fb_err err = {0};
    size_t count = 0;
    int failed = is_on(address) ? try_bind(address, true) : 0;
    if (failed) {
        fb_fail(&err, FB_E_CONFIG, "ingest.statsd: %s: %s; take an address of this host", address,
                strerror(failed));
        fn(arg, 0, err.text);
        count++;
    }
    if (is_on(path) && path[0] == '/' && is_path_bad(path, &err)) {
        fn(arg, 0, err.text);
        count++;
    }
    return count;
}

/* Why the running one could not open it; false: it could. */
static bool is_failing(const struct cli_call *call, char why[320])
{
    struct fb_err err;
    size_t i;
    json_t *one, *root = NULL;
    why[0] = '\0';
    if (cli_get(call, "/v1/ingest", &root, &err) != FB_OK)
        return false;
    json_array_foreach(json_object_get(root, "sources"), i, one)
    {
        if (strcmp(cli_str(one, "state"), "failing") == 0)
            snprintf(why, 320, "%s", cli_str(one, "error"));
    }
    json_decref(root);
    return why[0] != '\0';
}

void probe_ingest(struct probes *p, const struct cli_call *call, const struct conf *conf,
                  bool is_ours)
{
    const char *address = conf->p.ingest_statsd;
    char why[320], hint[120];
    const char *colon = strrchr(address, ':');
    snprintf(hint, sizeof hint, "`ss -lunp sport = %s` shows by whom; or choose another port",
             colon ? colon : address);
    if (is_ours && is_failing(call, why)) {
        probe_hint(probe_add(p, PROBE_FAIL, "statsd", "%s", why), hint);
    } else if (is_on(address)) {
        int failed = try_bind(address, false);
        if (failed == 0)
            probe_add(p, PROBE_OK, "statsd", "%s (UDP) is free", address);
        else if (failed == EADDRINUSE && is_ours)
            probe_add(p, PROBE_OK, "statsd", "%s (UDP) is held by the running foldback", address);
        else
            probe_hint(
                probe_add(p, PROBE_FAIL, "statsd", "%s (UDP): %s", address, strerror(failed)),
                hint);
    }
}
