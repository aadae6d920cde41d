/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the environment: ports, endpoints, limits of the system, clock, disk. */
#include "cli/cli_int.h"

#include "base/clock.h"
#include "conf/conf.h"
#include "io/socket.h"
#include "io/socket_path.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

/* A client and an endpoint connection per request under way, and some for log and API: below this
 * a busy hour runs out of descriptors. */
#define FILES_WANTED 65536
#define FILES_NEEDED 1024
/* 1 GiB holds about an hour of 10,000 requests/s at 30 bytes each; below 64 MiB one segment of the
 * log does not fit. */
#define DISK_WANTED_BYTES (1 * GIB)
#define DISK_NEEDED_BYTES (64 * MIB)
#define YEAR_2024_S UINT64_C(1704067200) /* before this program was written */

struct probe *probe_add(struct probes *p, enum probe_state state, const char *check,
                        const char *fmt, ...)
{
    static struct probe spill; /* beyond the bound: written, never shown */
    va_list args;
    struct probe *x = p->count < PROBES_MAX ? &p->at[p->count++] : &spill;
    x->state = state;
    snprintf(x->check, sizeof x->check, "%s", check);
    x->hint[0] = '\0';
    va_start(args, fmt);
    vsnprintf(x->text, sizeof x->text, fmt, args);
    va_end(args);
    return x;
}

void probe_hint(struct probe *x, const char *hint)
{
    snprintf(x->hint, sizeof x->hint, "%s", x->state == PROBE_OK ? "" : hint);
}

/* ---- ports ---- */
/* Without making its file: whoever asks may be another user. */
static void probe_socket(struct probes *p, const char *address, bool is_ours)
{
    int why = sock_try_unix(address);
    if (why == 0 || why == EAGAIN) {
        struct probe *x = probe_add(p, is_ours ? PROBE_OK : PROBE_FAIL, "port", "%s is held by %s",
                                    address, is_ours ? "the running foldback" : "another process");
        probe_hint(x, "`ss -lxp` shows by whom; or choose another path");
    } else if (why == ENOENT || why == ECONNREFUSED) {
        probe_add(p, PROBE_OK, "port", "%s is free", address);
    } else {
        probe_hint(probe_add(p, PROBE_FAIL, "port", "%s: %s", address, strerror(why)),
                   "the user of foldback must be able to write to its folder");
    }
}

static void probe_port(struct probes *p, const char *address, bool is_ours)
{
    struct fb_err err = {0};
    int fd = -1;
    if (strncmp(address, "fd:", 3) == 0) {
        probe_add(p, PROBE_OK, "port", "%s is handed over by the starter", address);
        return;
    }
    if (strncmp(address, "unix:", 5) == 0) {
        probe_socket(p, address, is_ours);
        return;
    }
    enum fb_code code = sock_listen(address, &fd, 1, &err);
    if (code == FB_OK) {
        close(fd);
        probe_add(p, PROBE_OK, "port", "%s is free", address);
    } else if (code == FB_E_PORT_IN_USE && is_ours) {
        probe_add(p, PROBE_OK, "port", "%s is held by the running foldback", address);
    } else if (code == FB_E_PORT_IN_USE) {
        const char *colon = strrchr(address, ':');
        char hint[120];
        snprintf(hint, sizeof hint, "`ss -ltnp sport = %s` shows by whom; or choose another port",
                 colon ? colon : address);
        probe_hint(probe_add(p, PROBE_FAIL, "port", "%s is in use by another process", address),
                   hint);
    } else {
        probe_hint(probe_add(p, PROBE_FAIL, "port", "%s", err.text),
                   "ports below 1024 need CAP_NET_BIND_SERVICE");
    }
}

void probe_ports(struct probes *p, const struct conf *conf, bool is_ours)
{
    for (size_t i = 0; i < conf->listen_count; i++)
        probe_port(p, conf->listens[i].address, is_ours);
    const char *admin = conf->p.admin_listen;
    if (admin[0] && strcmp(admin, "off") != 0)
        probe_port(p, admin, is_ours);
}

/* ---- endpoints ---- */
static int try_connect(const struct sock_addr *to, uint32_t timeout_ms)
{
    int fd = -1, failed = sock_connect(to, &fd);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    if (failed == EINPROGRESS)
        failed = poll(&wait, 1, (int)timeout_ms) > 0 ? sock_error(fd) : ETIMEDOUT;
    if (fd >= 0)
        close(fd);
    return failed;
}

/* NULL when it answers, else why not. */
static const char *reach(const struct conf_endpoint *e, uint32_t timeout_ms)
{
    struct sock_addr to = {0};
    if (e->kind == CONF_ENDPOINT_ADDRESS) {
        if (!sock_parse_endpoint(span_of(e->host), e->port, &to))
            return "is no address";
    } else {
        struct addrinfo *list = NULL, wanted = {.ai_socktype = SOCK_STREAM};
        char port[8];
        snprintf(port, sizeof port, "%u", e->port);
        int failed = getaddrinfo(e->host, port, &wanted, &list);
        if (failed)
            return gai_strerror(failed);
        if (list->ai_addrlen <= sizeof to.v6) {
            memcpy(&to.any, list->ai_addr, list->ai_addrlen);
            to.bytes = list->ai_addrlen;
        }
        freeaddrinfo(list);
    }
    int failed = try_connect(&to, timeout_ms);
    if (failed && sock_is_unix(&to))
        return socket_path_why(failed);
    return failed ? strerror(failed) : NULL;
}

/* A single dead endpoint is a warning, since the others take over; a service without any is a
 * failure. */
void probe_endpoints(struct probes *p, const struct conf *conf, uint32_t timeout_ms)
{
    for (size_t s = 0; s < conf->service_count; s++) {
        const struct conf_service *sv = &conf->services[s];
        size_t reached = 0, lists = 0;
        for (size_t i = 0; i < sv->endpoint_count; i++) {
            const struct conf_endpoint *e = &sv->endpoints[i];
            if (e->kind == CONF_ENDPOINT_SRV || e->kind == CONF_ENDPOINT_FILE) {
                lists++; /* what they name may be another in a second */
                continue;
            }
            const char *why = reach(e, timeout_ms);
            char port[8] = "";
            if (!conf_endpoint_is_unix(e))
                snprintf(port, sizeof port, ":%u", e->port);
            reached += why == NULL;
            if (why)
                probe_hint(probe_add(p, PROBE_WARN, "endpoint", "%s %s%s: %s", sv->name, e->host,
                                     port, why),
                           "start it, or take it out of the file");
        }
        if (lists == sv->endpoint_count)
            continue;
        enum probe_state state = reached || lists ? PROBE_OK : PROBE_FAIL;
        probe_hint(probe_add(p, state, "service", "%s: %zu of %zu endpoints answer", sv->name,
                             reached, sv->endpoint_count),
                   "start an endpoint, or correct the addresses");
    }
}

/* ---- host ---- */
static void probe_files(struct probes *p)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    /* The start raises the soft bound to the hard one, so the hard one counts. */
    unsigned long long most = (unsigned long long)files.rlim_max;
    enum probe_state state = most < FILES_NEEDED   ? PROBE_FAIL
                             : most < FILES_WANTED ? PROBE_WARN
                                                   : PROBE_OK;
    probe_hint(
        probe_add(p, state, "files", "%llu open files allowed, %d wanted", most, FILES_WANTED),
        "LimitNOFILE=1048576 in the unit file, or `ulimit -Hn 65536`");
}

static void probe_backlog(struct probes *p)
{
    unsigned long most = 0;
    FILE *f = fopen("/proc/sys/net/core/somaxconn", "re");
    if (!f)
        return;
    bool is_read = fscanf(f, "%lu", &most) == 1;
    fclose(f);
    if (is_read)
        probe_hint(probe_add(p, most < SOCK_BACKLOG ? PROBE_WARN : PROBE_OK, "backlog",
                             "%lu new connections may wait, %d wanted", most, SOCK_BACKLOG),
                   "sysctl -w net.core.somaxconn=4096");
}

/* Stream time never jumps, but people compare logs of several hosts by the wall clock. */
static void probe_clock(struct probes *p)
{
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);
    if (fb_wall_us() / US_PER_S < YEAR_2024_S)
        probe_hint(probe_add(p, PROBE_FAIL, "clock", "the clock of this host is years behind"),
                   "set it: `timedatectl set-ntp true`");
    else if (state == TIME_ERROR || (t.status & STA_UNSYNC))
        probe_hint(
            probe_add(p, PROBE_WARN, "clock", "nothing keeps the clock of this host in step"),
            "`timedatectl set-ntp true`; nodes of a fleet compare times");
    else
        probe_add(p, PROBE_OK, "clock", "in step, within %.1f ms", (double)t.esterror / 1e3);
}

void probe_host(struct probes *p)
{
    probe_files(p);
    probe_backlog(p);
    probe_clock(p);
}

/* ---- state folder ---- */
void probe_state_dir(struct probes *p, const char *dir)
{
    struct statvfs disk;
    char at[700], room[CLI_ROOM];
    snprintf(at, sizeof at, "%s", dir);
    bool is_there = access(at, F_OK) == 0;
    if (!is_there) { /* it will be made: its parent counts */
        char *slash = strrchr(at, '/');
        if (slash)
            slash[slash == at] = '\0';
        else
            snprintf(at, sizeof at, ".");
    }
    if (access(at, W_OK | X_OK) != 0) {
        probe_hint(
            probe_add(p, PROBE_FAIL, "state", "%s cannot be written: %s", at, strerror(errno)),
            "name another one with --state DIR, or give it to this user");
        return;
    }
    if (statvfs(at, &disk) != 0)
        return;
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    enum probe_state state = free_bytes < DISK_NEEDED_BYTES   ? PROBE_FAIL
                             : free_bytes < DISK_WANTED_BYTES ? PROBE_WARN
                                                              : PROBE_OK;
    probe_hint(probe_add(p, state, "state", "%s%s, %s free", dir, is_there ? "" : " will be made",
                         cli_bytes((double)free_bytes, room)),
               "free space, or name another disk with --state");
}
