/* SPDX-License-Identifier: Apache-2.0 */
#include "io/socket.h"

#include "base/assert.h"
#include "io/socket_path.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static enum fb_code listen_on(const char *address, int *fds, size_t count, bool is_beside,
                              struct fb_err *err);
static enum fb_code open_listener(const struct sock_addr *a, bool is_first, bool is_shared,
                                  int *fd);
static enum fb_code inherit(struct span number, int *fds, size_t count, struct fb_err *err);
static enum fb_code listen_unix(struct span path, int *fds, size_t count, struct fb_err *err);
static int bind_unix(int fd, struct span path);
static enum fb_code copy_fds(int *fds, size_t count);
static enum fb_code say_listen(struct fb_err *err, const char *address);
static enum fb_code say_listen_unix(struct fb_err *err, int why, struct span path);
static void close_all(int *fds, size_t count);
static void set_one(int fd, int level, int option);
static int connect_unix(int fd, uint32_t path);
static void name_unix(const struct sockaddr_un *un, socklen_t bytes, struct sock_addr *out);

enum fb_code sock_parse(struct span text, struct sock_addr *out, struct fb_err *err)
{
    struct span host = text;
    const char *colon = text.at ? memrchr(text.at, ':', text.len) : NULL;
    uint64_t port = 0;
    if (!colon)
        goto bad;
    host.len = (size_t)(colon - text.at);
    if (!span_to_u64((struct span){colon + 1, text.len - host.len - 1}, &port) || port > 65535)
        goto bad;
    if (host.len == 0 || span_eq(host, SPAN("*"))) {
        *out =
            (struct sock_addr){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)},
                               .bytes = sizeof out->v6};
        return FB_OK;
    }
    bool is_v6 = host.at[0] == '[';
    if (is_v6) {
        if (host.len < 3 || host.at[host.len - 1] != ']')
            goto bad;
        host = (struct span){host.at + 1, host.len - 2};
    } else if (memchr(host.at, ':', host.len)) {
        goto bad; /* an IPv6 address without brackets: where would the port begin? */
    }
    if (sock_parse_host(host, (uint16_t)port, out))
        return FB_OK;
bad:
    return fb_fail(
        err, FB_E_USAGE,
        "address \"%.*s\": expected IPV4:PORT, [IPV6]:PORT or :PORT with a port of 0..65535",
        (int)(text.len < 100 ? text.len : 100), text.at ? text.at : "");
}

bool sock_parse_host(struct span host, uint16_t port, struct sock_addr *out)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    if (host.len == 0 || host.len >= sizeof text)
        return false;
    memcpy(text, host.at, host.len);
    text[host.len] = '\0';
    *out = (struct sock_addr){0};
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        out->bytes = sizeof out->v4;
        return true;
    }
    char *scope = strchr(text, '%');
    if (scope)
        *scope++ = '\0';
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) != 1)
        return false;
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(port);
    out->bytes = sizeof out->v6;
    if (scope) {
        out->v6.sin6_scope_id = if_nametoindex(scope);
        return out->v6.sin6_scope_id != 0;
    }
    return true;
}

bool sock_parse_endpoint(struct span host, uint16_t port, struct sock_addr *out)
{
    if (!span_starts(host, SPAN("unix:")))
        return sock_parse_host(host, port, out);
    uint32_t path = socket_path_number((struct span){host.at + 5, host.len - 5});
    *out = (struct sock_addr){.un = {.family = AF_UNIX, .path = path}, .bytes = sizeof out->un};
    return path != 0;
}

static size_t v4_text(const unsigned char at[4], char *text)
{
    char *to = text;
    for (int i = 0; i < 4; i++) {
        unsigned n = at[i];
        if (n >= 100)
            *to++ = (char)('0' + n / 100);
        if (n >= 10)
            *to++ = (char)('0' + n / 10 % 10);
        *to++ = (char)('0' + n % 10);
        *to++ = '.';
    }
    return (size_t)(to - 1 - text);
}

size_t sock_host_text(const struct sock_addr *a, char text[SOCK_HOST_BYTES])
{
    if (a->any.sa_family == AF_INET)
        return v4_text((const unsigned char *)&a->v4.sin_addr, text);
    if (sock_is_unix(a)) {
        memcpy(text, "unix", 4);
        return 4;
    }
    if (a->any.sa_family != AF_INET6)
        return 0;
    if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
        return v4_text(&a->v6.sin6_addr.s6_addr[12], text);
    char long_text[SOCK_TEXT_BYTES];
    sock_format_host(a, long_text);
    size_t bytes = strnlen(long_text, SOCK_HOST_BYTES);
    memcpy(text, long_text, bytes);
    return bytes;
}

void sock_format_host(const struct sock_addr *a, char text[SOCK_TEXT_BYTES])
{
    text[0] = '\0';
    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->v4.sin_addr, text, SOCK_TEXT_BYTES);
    } else if (a->any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
            inet_ntop(AF_INET, &a->v6.sin6_addr.s6_addr[12], text, SOCK_TEXT_BYTES);
        else
            inet_ntop(AF_INET6, &a->v6.sin6_addr, text, SOCK_TEXT_BYTES);
    } else if (a->any.sa_family == AF_UNIX) {
        snprintf(text, SOCK_TEXT_BYTES, "unix:%s", socket_path_text(a->un.path));
    }
}

void sock_format(const struct sock_addr *a, char text[SOCK_TEXT_BYTES])
{
    char host[SOCK_TEXT_BYTES];
    if (sock_is_unix(a)) {
        sock_format_host(a, text);
        return;
    }
    sock_format_host(a, host);
    snprintf(text, SOCK_TEXT_BYTES, strchr(host, ':') ? "[%.100s]:%u" : "%.100s:%u", host,
             sock_port(a));
}

uint16_t sock_port(const struct sock_addr *a)
{
    if (sock_is_unix(a))
        return 0;
    return ntohs(a->any.sa_family == AF_INET6 ? a->v6.sin6_port : a->v4.sin_port);
}

bool sock_eq(const struct sock_addr *a, const struct sock_addr *b)
{
    if (a->any.sa_family != b->any.sa_family || sock_port(a) != sock_port(b))
        return false;
    if (sock_is_unix(a)) /* two without a name are two */
        return a->un.path && a->un.path == b->un.path;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0 &&
           a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

enum fb_code sock_listen(const char *address, int *fds, size_t count, struct fb_err *err)
{
    return listen_on(address, fds, count, false, err);
}

enum fb_code sock_listen_beside(const char *address, int *fds, size_t count, struct fb_err *err)
{
    return listen_on(address, fds, count, true, err);
}

void sock_share_port(int fd, bool is_on)
{
    int value = is_on;
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value);
}

static enum fb_code listen_on(const char *address, int *fds, size_t count, bool is_beside,
                              struct fb_err *err)
{
    fb_assert(count >= 1);
    struct span text = span_of(address);
    if (span_starts(text, SPAN("fd:")))
        return inherit((struct span){text.at + 3, text.len - 3}, fds, count, err);
    if (span_starts(text, SPAN("unix:")))
        return listen_unix((struct span){text.at + 5, text.len - 5}, fds, count, err);
    struct sock_addr a;
    enum fb_code code = sock_parse(text, &a, err);
    if (code != FB_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        code = open_listener(&a, i == 0 && !is_beside, count > 1 || is_beside, &fds[i]);
        if (code != FB_OK && i == 0 && errno == EAFNOSUPPORT && text.at[0] != '[') {
            /* all addresses, on a machine without IPv6 */
            a = (struct sock_addr){.v4 = {.sin_family = AF_INET, .sin_port = htons(sock_port(&a))},
                                   .bytes = sizeof a.v4};
            code = open_listener(&a, !is_beside, count > 1 || is_beside, &fds[0]);
        }
        if (code != FB_OK) {
            code = say_listen(err, address);
            close_all(fds, i);
            return code;
        }
        if (i == 0)
            sock_local(fds[0], &a); /* port 0 has become a number */
    }
    for (size_t i = 0; i < count; i++)
        if (listen(fds[i], SOCK_BACKLOG) < 0) {
            code = say_listen(err, address);
            close_all(fds, count);
            return code;
        }
    return FB_OK;
}

bool sock_local(int fd, struct sock_addr *out)
{
    union {
        struct sockaddr any;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } at = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t bytes = sizeof at;
    *out = (struct sock_addr){.bytes = 0};
    if (getsockname(fd, &at.any, &bytes) < 0)
        return false;
    if (at.any.sa_family == AF_UNIX) {
        name_unix(&at.un, bytes, out);
        return true;
    }
    memcpy(&out->v6, &at.v6, sizeof out->v6);
    out->bytes = bytes;
    return true;
}

/* A listening socket that somebody else opened and handed over. */
static void name_unix(const struct sockaddr_un *un, socklen_t bytes, struct sock_addr *out)
{
    size_t skip = offsetof(struct sockaddr_un, sun_path);
    char text[sizeof un->sun_path];
    size_t len = bytes > skip ? bytes - skip : 0;
    if (len > sizeof text) /* a path of 108 bytes has no end in it */
        len = sizeof text;
    memcpy(text, un->sun_path, len);
    if (len && text[0] == '\0')
        text[0] = '@';
    else
        len = strnlen(text, len);
    *out = (struct sock_addr){
        .un = {.family = AF_UNIX, .path = socket_path_number((struct span){text, len})},
        .bytes = sizeof out->un};
}

/* Inside one machine there is no path to measure: a host that runs BBR for the sake of its far
 * peers pays 2 % of a small request for the model and the pacing of BBR (doc/design/gateway.md). */
static void spare_congestion_control(int fd, const struct sock_addr *a)
{
    static const char name[] = "reno"; /* the one that every kernel has and everybody may choose */
    bool is_inside = a->any.sa_family == AF_INET
                         ? ntohl(a->v4.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET
                         : IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
    if (is_inside)
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, sizeof name - 1);
}

int sock_connect(const struct sock_addr *to, int *fd)
{
    *fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return errno;
    int why;
    if (sock_is_unix(to)) {
        why = connect_unix(*fd, to->un.path);
    } else {
        set_one(*fd, IPPROTO_TCP, TCP_NODELAY);
        spare_congestion_control(*fd, to);
        why = connect(*fd, &to->any, to->bytes) < 0 ? errno : 0;
    }
    if (why == 0 || why == EINPROGRESS)
        return why;
    close(*fd);
    *fd = -1;
    return why;
}

static int connect_unix(int fd, uint32_t path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *text = socket_path_text(path);
    size_t len = strlen(text), bytes = offsetof(struct sockaddr_un, sun_path) + len;
    fb_assert(len < sizeof to.sun_path);
    memcpy(to.sun_path, text, len);
    if (text[0] == '@')
        to.sun_path[0] = '\0'; /* an abstract name is as long as it is told, without an end */
    else
        bytes++;
    return connect(fd, (struct sockaddr *)&to, (socklen_t)bytes) < 0 ? errno : 0;
}

void sock_ack_now(int fd)
{
    set_one(fd, IPPROTO_TCP, TCP_QUICKACK);
}

int sock_error(int fd)
{
    int why = 0;
    socklen_t bytes = sizeof why;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &bytes) < 0 ? errno : why;
}

int sock_accept(int listener, struct sock_addr *peer)
{
    peer->bytes = sizeof(struct sockaddr_in6);
    int fd = accept4(listener, &peer->any, &peer->bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && sock_is_unix(peer)) /* of a name of its own only a part has room here */
        *peer = (struct sock_addr){.un = {.family = AF_UNIX}, .bytes = sizeof peer->un};
    else if (fd >= 0)
        set_one(fd, IPPROTO_TCP, TCP_NODELAY);
    return fd;
}

/* The first is bound without SO_REUSEPORT, which finds out whether anybody, also another foldback,
 * has the port; then it joins the group. */
static enum fb_code open_listener(const struct sock_addr *a, bool is_first, bool is_shared, int *fd)
{
    *fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return FB_E_IO;
    set_one(*fd, SOL_SOCKET, SO_REUSEADDR);
    spare_congestion_control(*fd, a); /* what is accepted inherits it */
    if (a->any.sa_family == AF_INET6) {
        int v6_only = !IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
        setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
    }
    if (is_shared && !is_first)
        set_one(*fd, SOL_SOCKET, SO_REUSEPORT);
    if (bind(*fd, &a->any, a->bytes) < 0) {
        int why = errno;
        close(*fd);
        *fd = -1;
        errno = why;
        return FB_E_IO;
    }
    if (is_shared && is_first)
        set_one(*fd, SOL_SOCKET, SO_REUSEPORT);
    return FB_OK;
}

/* Socket activation: the descriptor of that name in LISTEN_FDNAMES, a:b:c for 3, 4, 5. */
static bool find_named(struct span name, uint64_t *n)
{
    const char *names = getenv("LISTEN_FDNAMES");
    struct span rest = span_of(names ? names : ""), one;
    for (*n = 3; rest.len; ++*n) {
        one = span_cut(rest, ':', &rest);
        if (name.len && span_eq(one, name))
            return true;
    }
    return false;
}

static enum fb_code inherit(struct span number, int *fds, size_t count, struct fb_err *err)
{
    uint64_t n;
    int is_listening = 0;
    socklen_t bytes = sizeof is_listening;
    if ((!span_to_u64(number, &n) && !find_named(number, &n)) || n > 65535)
        return fb_fail(err, FB_E_USAGE,
                       "address fd:%.*s: expected fd:NUMBER of an inherited socket, or fd:NAME of "
                       "one in LISTEN_FDNAMES",
                       (int)(number.len < 20 ? number.len : 20), number.at);
    if (getsockopt((int)n, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &bytes) < 0 || !is_listening)
        return fb_fail(err, FB_E_IO,
                       "address fd:%u: not a listening socket; check who starts foldback",
                       (unsigned)n);
    fds[0] = (int)n;
    fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    if (copy_fds(fds, count) != FB_OK)
        return fb_fail(err, FB_E_IO, "address fd:%u: %s", (unsigned)n, strerror(errno));
    return FB_OK;
}

static enum fb_code copy_fds(int *fds, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        fds[i] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
        if (fds[i] < 0) {
            close_all(fds + 1, i - 1);
            return FB_E_IO;
        }
    }
    return FB_OK;
}

/* ---- Unix sockets ---- */

bool sock_is_shared(const char *address)
{
    return strncmp(address, "fd:", 3) == 0 || strncmp(address, "unix:", 5) == 0;
}

int sock_try_unix(const char *address)
{
    struct sock_addr to;
    int fd;
    if (!sock_parse_endpoint(span_of(address), 0, &to))
        return EINVAL;
    int why = sock_connect(&to, &fd);
    if (fd >= 0)
        close(fd);
    return why;
}

void sock_remove_file(const char *address)
{
    if (strncmp(address, "unix:/", 6) == 0 && sock_try_unix(address) == ECONNREFUSED)
        unlink(address + 5);
}

static enum fb_code listen_unix(struct span path, int *fds, size_t count, struct fb_err *err)
{
    char address[5 + SOCKET_PATH_BYTES_MAX + 1];
    if (path.len > SOCKET_PATH_BYTES_MAX || path.len < 2 || path.at[0] != '/')
        return fb_fail(err, FB_E_USAGE,
                       "address unix:%.*s: expected an absolute path of 2..%d bytes",
                       (int)fb_min_u64(path.len, 100), path.at, SOCKET_PATH_BYTES_MAX);
    fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fds[0] < 0)
        return say_listen_unix(err, errno, path);
    snprintf(address, sizeof address, "unix:%.*s", (int)path.len, path.at);
    int why = bind_unix(fds[0], path);
    if (why == EADDRINUSE && sock_try_unix(address) == ECONNREFUSED &&
        socket_path_look(address + 5) != ENOTSOCK) {
        unlink(address + 5); /* its process has ended without taking it away */
        why = bind_unix(fds[0], path);
    }
    bool is_bound = why == 0;
    if (is_bound && (chmod(address + 5, 0660) < 0 || listen(fds[0], SOCK_BACKLOG) < 0 ||
                     copy_fds(fds, count) != FB_OK))
        why = errno;
    if (why == 0)
        return FB_OK;
    if (is_bound)
        unlink(address + 5);
    close_all(fds, 1);
    return say_listen_unix(err, why, path);
}

/* Nobody else may connect before the mode is what it is to be. */
static int bind_unix(int fd, struct span path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path.at, path.len);
    (void)fchmod(fd, 0600);
    return bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? errno : 0;
}

static enum fb_code say_listen_unix(struct fb_err *err, int why, struct span path)
{
    int len = (int)path.len;
    if (why == EADDRINUSE)
        return fb_fail(err, FB_E_PORT_IN_USE,
                       "cannot listen on unix:%.*s: another process listens there, or the file is "
                       "no socket; `ss -lxp` shows who, or choose another path",
                       len, path.at);
    if (why == ENOENT || why == ENOTDIR)
        return fb_fail(err, FB_E_IO,
                       "cannot listen on unix:%.*s: its folder does not exist; make it, with "
                       "systemd by RuntimeDirectory=",
                       len, path.at);
    if (why == EACCES || why == EROFS || why == EPERM)
        return fb_fail(err, FB_E_IO,
                       "cannot listen on unix:%.*s: no permission to write to its folder (%s); "
                       "give it to the user of foldback, with systemd by RuntimeDirectory=",
                       len, path.at, strerror(why));
    return fb_fail(err, FB_E_IO, "cannot listen on unix:%.*s: %s", len, path.at, strerror(why));
}

static enum fb_code say_listen(struct fb_err *err, const char *address)
{
    switch (errno) {
    case EADDRINUSE:
        return fb_fail(err, FB_E_PORT_IN_USE,
                       "cannot listen on %s: another process has this port; stop it (`ss -ltnp` "
                       "shows it) or choose "
                       "another address with --from or `listen`",
                       address);
    case EACCES:
        return fb_fail(err, FB_E_IO,
                       "cannot listen on %s: ports below 1024 need the right CAP_NET_BIND_SERVICE; "
                       "choose a higher "
                       "port or start by systemd",
                       address);
    case EADDRNOTAVAIL:
        return fb_fail(
            err, FB_E_IO,
            "cannot listen on %s: this machine has no such address; `ip address` lists them",
            address);
    default:
        return fb_fail(err, FB_E_IO, "cannot listen on %s: %s", address, strerror(errno));
    }
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
        fds[i] = -1;
    }
}

static void set_one(int fd, int level, int option)
{
    int one = 1;
    setsockopt(fd, level, option, &one, sizeof one);
}
