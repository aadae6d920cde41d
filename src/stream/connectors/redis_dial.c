/* SPDX-License-Identifier: Apache-2.0 */
/* Names, sockets and TLS towards a server of Redis, each wait with an end.
 *
 * Names are asked with c-ares: getaddrinfo may keep the thread for half a minute when no name
 * server answers. */
#include "base/clock.h"
#include "stream/connectors/redis_link.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 100 /* between two looks at is_stopping; the contract allows 200 */

static bool is_stopping(const struct redis_link *l)
{
    return l->setup->is_stopping(l->setup->ctx);
}

enum fb_code redis_wait(const struct redis_link *l, int fd, short events, uint64_t until_us,
                        struct fb_err *err)
{
    struct pollfd p = {.fd = fd, .events = events};
    uint64_t now_us = fb_mono_us();
    if (is_stopping(l))
        return fb_fail(err, FB_E_AGAIN, "redis %s: given up, the connector stops",
                       redis_link_address(l));
    if (now_us >= until_us)
        return fb_fail(err, FB_E_TIMEOUT,
                       "redis %s does not answer in time: is it up, and busy? see `address`%s",
                       redis_link_address(l), l->tls ? ", and `tls`: has that port TLS?" : "");
    uint64_t ms = (until_us - now_us) / US_PER_MS + 1;
    (void)poll(&p, 1, (int)fb_min_u64(ms, WAIT_MS)); /* what it found the next call finds, too */
    return FB_OK;
}

bool redis_split_address(const char *address, char host[REDIS_ADDRESS_BYTES], char port[8])
{
    const char *colon = strrchr(address, ':'), *close = strchr(address, ']');
    const char *end = address + strlen(address);
    bool is_v6 = address[0] == '[';
    if (is_v6 && !close)
        return false;
    if (colon &&
        ((is_v6 && colon < close) || (!is_v6 && memchr(address, ':', (size_t)(colon - address)))))
        colon = NULL; /* it is part of an IPv6 address */
    if (!colon)
        colon = end;
    const char *from = address + is_v6, *to = is_v6 ? close : colon;
    if (to <= from || (size_t)(to - from) >= REDIS_ADDRESS_BYTES)
        return false;
    snprintf(host, REDIS_ADDRESS_BYTES, "%.*s", (int)(to - from), from);
    snprintf(port, 8, "6379");
    if (colon == end)
        return true;
    uint64_t number;
    if (!span_to_u64(span_of(colon + 1), &number) || number == 0 || number > 65535)
        return false;
    snprintf(port, 8, "%u", (unsigned)number);
    return true;
}

/* ---- names ---- */
struct found {
    bool is_done;
    int status;
    struct ares_addrinfo *info;
};

static void on_found(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct found *f = arg;
    (void)timeouts;
    f->is_done = true;
    f->status = status;
    f->info = info;
}

/* One turn of c-ares: its sockets, at most 100 ms. */
static void ares_turn(ares_channel channel)
{
    ares_socket_t socks[ARES_GETSOCK_MAXNUM];
    struct pollfd p[ARES_GETSOCK_MAXNUM];
    int bits = ares_getsock(channel, socks, ARES_GETSOCK_MAXNUM);
    nfds_t count = 0;
    for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
        /* not by the macros of c-ares: they shift a 1 into the sign */
        bool is_read = (unsigned)bits >> i & 1, is_write = (unsigned)bits >> (i + 16) & 1;
        short events = (short)((is_read ? POLLIN : 0) | (is_write ? POLLOUT : 0));
        if (events)
            p[count++] = (struct pollfd){.fd = socks[i], .events = events};
    }
    (void)poll(p, count, WAIT_MS);
    for (nfds_t i = 0; i < count; i++)
        ares_process_fd(channel, p[i].revents & (POLLIN | POLLERR | POLLHUP) ? p[i].fd : -1,
                        p[i].revents & POLLOUT ? p[i].fd : -1);
    ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* The caller frees *info. */
static enum fb_code resolve(struct redis_link *l, const char *address, uint64_t until_us,
                            struct ares_addrinfo **info, struct fb_err *err)
{
    char host[REDIS_ADDRESS_BYTES], port[8];
    struct found found = {.is_done = false};
    struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NUMERICSERV,
                                        .ai_socktype = SOCK_STREAM};
    ares_channel channel;
    if (!redis_split_address(address, host, port))
        return fb_fail(err, FB_E_CONFIG, "redis: \"%.100s\" is no HOST:PORT; see `address`",
                       address);
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || ares_init(&channel) != ARES_SUCCESS)
        return fb_fail(err, FB_E_NOMEM, "redis %s: the resolver cannot begin", address);
    ares_getaddrinfo(channel, host, port, &hints, on_found, &found);
    while (!found.is_done && fb_mono_us() < until_us && !is_stopping(l))
        ares_turn(channel);
    ares_destroy(channel); /* calls on_found when it has not been */
    if (found.status == ARES_SUCCESS && found.info) {
        *info = found.info;
        return FB_OK;
    }
    return fb_fail(
        err, FB_E_AGAIN, "redis %s: no address for the name %s (%s); see `address`", address, host,
        found.status == ARES_EDESTRUCTION ? "no answer in time" : ares_strerror(found.status));
}

/* ---- sockets ---- */
static int connect_to(struct redis_link *l, const struct sockaddr *to, socklen_t len,
                      uint64_t until_us, struct fb_err *err)
{
    int one = 1, failed = 0;
    socklen_t size = sizeof failed;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        goto fail;
    if (to->sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, to, len) != 0 && errno != EINPROGRESS)
        goto fail;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 0) > 0)
            break;
        if (redis_wait(l, fd, POLLOUT, until_us, err) != FB_OK) {
            close(fd);
            return -1;
        }
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && failed == 0)
        return fd;
    errno = failed;
fail:
    fb_fail(err, errno == ENOENT || errno == EACCES ? FB_E_CONFIG : FB_E_AGAIN,
            "redis %s cannot be reached: %s; see `address`", redis_link_address(l),
            strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

int redis_dial(struct redis_link *l, const char *address, uint64_t until_us, struct fb_err *err)
{
    struct ares_addrinfo *info = NULL;
    int fd = -1;
    if (address[0] == '/') {
        struct sockaddr_un path = {.sun_family = AF_UNIX};
        snprintf(path.sun_path, sizeof path.sun_path, "%s", address);
        return connect_to(l, (const struct sockaddr *)&path, sizeof path, until_us, err);
    }
    if (resolve(l, address, until_us, &info, err) != FB_OK)
        return -1;
    fb_fail(err, FB_E_AGAIN, "redis %s: the name has no address; see `address`", address);
    for (struct ares_addrinfo_node *n = info->nodes; n && fd < 0; n = n->ai_next) {
        uint64_t now_us = fb_mono_us();
        /* Half of what is left, so that one silent address does not use up the time of all. */
        uint64_t each_us =
            n->ai_next && now_us < until_us ? now_us + (until_us - now_us) / 2 : until_us;
        fd = connect_to(l, n->ai_addr, n->ai_addrlen, each_us, err);
    }
    ares_freeaddrinfo(info);
    return fd;
}

/* ---- TLS ---- */
static int no_passphrase(char *out, int size, int is_writing, void *arg)
{
    (void)out, (void)size, (void)is_writing, (void)arg;
    return 0; /* never ask on a terminal */
}

static const char *value(const struct redis_link *l, const char *key)
{
    return l->setup->value(l->setup->conf, key);
}

static enum fb_code tls_file_fail(const struct redis_link *l, const char *key, struct fb_err *err)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    return fb_fail(err, FB_E_CONFIG, "redis: `%s` %.200s cannot be used: %s", key, value(l, key),
                   why ? why : "unknown");
}

enum fb_code redis_tls_init(struct redis_link *l, struct fb_err *err)
{
    const char *ca = value(l, "ca_file"), *cert = value(l, "cert_file"),
               *key = value(l, "key_file");
    ERR_clear_error();
    l->tls = SSL_CTX_new(TLS_client_method());
    if (!l->tls)
        return fb_fail(err, FB_E_NOMEM, "redis: no memory for TLS");
    SSL_CTX_set_min_proto_version(l->tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(l->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(l->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(l->tls, no_passphrase);
    if (*ca ? SSL_CTX_load_verify_locations(l->tls, ca, NULL) != 1
            : SSL_CTX_set_default_verify_paths(l->tls) != 1)
        return tls_file_fail(l, "ca_file", err);
    if (!*cert != !*key)
        return fb_fail(err, FB_E_CONFIG, "redis: `cert_file` and `key_file` come together");
    if (*cert && SSL_CTX_use_certificate_chain_file(l->tls, cert) != 1)
        return tls_file_fail(l, "cert_file", err);
    if (*key && SSL_CTX_use_PrivateKey_file(l->tls, key, SSL_FILETYPE_PEM) != 1)
        return tls_file_fail(l, "key_file", err);
    return FB_OK;
}

enum fb_code redis_tls_fail(struct redis_link *l, const char *doing, struct fb_err *err)
{
    unsigned long last = ERR_peek_last_error();
    const char *why = ERR_reason_error_string(last);
    long verify = l->ssl ? SSL_get_verify_result(l->ssl) : X509_V_OK;
    int reason = ERR_GET_REASON(last);
    const char *address = redis_link_address(l);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return fb_fail(err, FB_E_CONFIG,
                       "redis %s: certificate verify failed: %s; see `ca_file` and `server_name`",
                       address, X509_verify_cert_error_string(verify));
    if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)
        return fb_fail(err, FB_E_CONFIG, "redis %s does not speak TLS there; see `tls`", address);
    /* Alerts of the peer are 1000 and their number. */
    if (ERR_GET_LIB(last) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET + 40 &&
        reason <= SSL_AD_REASON_OFFSET + 120)
        return fb_fail(err, FB_E_DENIED,
                       "redis %s refused our certificate (%s); see `cert_file` and `key_file`",
                       address, why ? why : "alert");
    return fb_fail(err, FB_E_AGAIN, "redis %s: %s failed: %s", address, doing,
                   why ? why : "the connection was closed; is that a TLS port?");
}

enum fb_code redis_dial_tls(struct redis_link *l, const char *address, uint64_t until_us,
                            struct fb_err *err)
{
    char host[REDIS_ADDRESS_BYTES] = "localhost", port[8];
    unsigned char ip[16];
    if (address[0] != '/' && !redis_split_address(address, host, port))
        return fb_fail(err, FB_E_CONFIG, "redis: \"%.100s\" is no HOST:PORT", address);
    const char *name = *value(l, "server_name") ? value(l, "server_name") : host;
    bool is_ip = inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1;
    ERR_clear_error();
    l->ssl = SSL_new(l->tls);
    if (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1)
        return fb_fail(err, FB_E_NOMEM, "redis: no memory for TLS");
    if (is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(l->ssl), name) != 1
              : SSL_set1_host(l->ssl, name) != 1 || SSL_set_tlsext_host_name(l->ssl, name) != 1)
        return fb_fail(err, FB_E_CONFIG, "redis: \"%.100s\" cannot be a server's name", name);
    for (;;) {
        ERR_clear_error();
        int done = SSL_connect(l->ssl);
        int what = SSL_get_error(l->ssl, done);
        if (done == 1)
            return FB_OK;
        if (what != SSL_ERROR_WANT_READ && what != SSL_ERROR_WANT_WRITE)
            return redis_tls_fail(l, "the TLS handshake", err);
        enum fb_code code =
            redis_wait(l, l->fd, what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until_us, err);
        if (code != FB_OK)
            return code;
    }
}
