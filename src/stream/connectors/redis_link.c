/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/redis_link.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64 * KIB)
#define SECRET_BYTES 4096

static enum fb_code login(struct redis_link *l, uint64_t until_us, struct fb_err *err);

static const char *value(const struct redis_link *l, const char *key)
{
    return l->setup->value(l->setup->conf, key);
}

const char *redis_link_address(const struct redis_link *l)
{
    return l->address[l->address_at];
}

static enum fb_code read_addresses(struct redis_link *l, struct fb_err *err)
{
    char host[REDIS_ADDRESS_BYTES], port[8];
    struct span rest = span_of(value(l, "address"));
    while (rest.len) {
        struct span one = span_trim(span_cut(rest, ',', &rest));
        if (l->address_count == REDIS_ADDRESSES_MAX)
            return fb_fail(err, FB_E_CONFIG, "connectors.%s: `address` has more than %d entries",
                           l->setup->name, REDIS_ADDRESSES_MAX);
        char *at = l->address[l->address_count];
        snprintf(at, REDIS_ADDRESS_BYTES, "%.*s", SPAN_ARG(one));
        if (one.len == 0 || one.len >= 108 ||
            (at[0] != '/' && !redis_split_address(at, host, port)))
            return fb_fail(err, FB_E_CONFIG,
                           "connectors.%s: `address` must be HOST:PORT, [IPv6]:PORT or the path of "
                           "a socket, got \"%.*s\"",
                           l->setup->name, (int)fb_min_u64(one.len, 100), one.at);
        l->address_count++;
    }
    return l->address_count
               ? FB_OK
               : fb_fail(err, FB_E_CONFIG, "connectors.%s: `address` is empty", l->setup->name);
}

enum fb_code redis_link_init(struct redis_link *l, const struct connector_setup *setup,
                             size_t answer_bytes_max, struct fb_err *err)
{
    *l = (struct redis_link){.setup = setup, .fd = -1};
    buf_init(&l->out, REDIS_OUT_BYTES_MAX);
    enum fb_code code = read_addresses(l, err);
    if (code == FB_OK && *value(l, "user") && !*value(l, "password_file"))
        code =
            fb_fail(err, FB_E_CONFIG, "connectors.%s: `user` needs `password_file`", setup->name);
    l->is_tls = strcmp(value(l, "tls"), "true") == 0;
    if (code == FB_OK && !l->is_tls && (*value(l, "ca_file") || *value(l, "cert_file")))
        code = fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: `ca_file` and `cert_file` need `tls: true`", setup->name);
    if (code == FB_OK && l->is_tls)
        code = redis_tls_init(l, err);
    if (code == FB_OK && !redis_codec_init(&l->codec, answer_bytes_max))
        code = fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    if (code != FB_OK)
        redis_link_fini(l);
    return code;
}

void redis_link_fini(struct redis_link *l)
{
    redis_link_close(l);
    SSL_CTX_free(l->tls);
    l->tls = NULL;
    redis_codec_fini(&l->codec);
    buf_fini(&l->out);
}

void redis_link_close(struct redis_link *l)
{
    if (l->ssl && l->is_ready)
        (void)SSL_shutdown(l->ssl); /* does not wait: the socket does not block */
    SSL_free(l->ssl);
    l->ssl = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->is_ready = false;
    ERR_clear_error();
}

void redis_link_leave(struct redis_link *l, const char *address)
{
    redis_link_close(l);
    l->address_at = (l->address_at + 1) % l->address_count;
    for (uint32_t i = 0; address && i < l->address_count; i++)
        if (strcmp(l->address[i], address) == 0)
            l->address_at = i;
}

/* ---- bytes ---- */
enum moved { MOVED_SOME, MOVED_NONE, MOVED_END, MOVED_FAILED };

static enum moved moved_tls(struct redis_link *l, int done)
{
    switch (SSL_get_error(l->ssl, done)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return MOVED_NONE;
    case SSL_ERROR_ZERO_RETURN:
        return MOVED_END;
    default:
        return ERR_peek_error() ? MOVED_FAILED : MOVED_END;
    }
}

static enum moved moved_plain(ssize_t n)
{
    if (n > 0)
        return MOVED_SOME;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return MOVED_NONE;
    return MOVED_END;
}

static enum moved pull(struct redis_link *l, char *bytes, size_t size, size_t *len)
{
    if (l->ssl) {
        ERR_clear_error();
        int n = SSL_read(l->ssl, bytes, (int)size);
        *len = n > 0 ? (size_t)n : 0;
        return n > 0 ? MOVED_SOME : moved_tls(l, n);
    }
    ssize_t n = recv(l->fd, bytes, size, 0);
    *len = n > 0 ? (size_t)n : 0;
    return moved_plain(n);
}

static enum moved push(struct redis_link *l)
{
    const char *from = l->out.at + l->out_at;
    size_t len = l->out.len - l->out_at;
    if (len == 0)
        return MOVED_NONE;
    if (l->ssl) {
        ERR_clear_error();
        int n = SSL_write(l->ssl, from, (int)fb_min_u64(len, MIB));
        l->out_at += n > 0 ? (size_t)n : 0;
        return n > 0 ? MOVED_SOME : moved_tls(l, n);
    }
    ssize_t n = send(l->fd, from, len, MSG_NOSIGNAL);
    l->out_at += n > 0 ? (size_t)n : 0;
    return moved_plain(n);
}

/* ---- questions ---- */
static enum fb_code ended(struct redis_link *l, enum moved how, struct fb_err *err)
{
    if (how == MOVED_FAILED)
        return redis_tls_fail(l, "TLS", err);
    const char *hint = l->is_ready ? ""
                       : l->is_tls ? "; if it asks for our certificate, give `cert_file`"
                                   : "; if that is a TLS port, set `tls: true`";
    return fb_fail(err, FB_E_AGAIN, "redis %s closed the connection; its log says why%s",
                   redis_link_address(l), hint);
}

/* Gives what is there; true when all answers are. */
static enum fb_code give(struct redis_link *l, const struct redis_ask *ask, uint32_t *got,
                         struct fb_err *err)
{
    const struct redis_answer *answer;
    struct fb_err why;
    while (*got < ask->count) {
        enum fb_code code = redis_codec_next(&l->codec, &answer, &why);
        if (code == FB_E_AGAIN)
            return FB_E_AGAIN;
        if (code == FB_E_RANGE)
            return fb_fail(err, code, "redis %s sends %.120s", redis_link_address(l), why.text);
        if (code != FB_OK)
            return fb_fail(err, code,
                           "redis %s does not speak the protocol of Redis: %.120s; see "
                           "`address` and `tls`",
                           redis_link_address(l), why.text);
        ask->each(ask->arg, (*got)++, answer);
    }
    if (!redis_codec_is_empty(&l->codec))
        return fb_fail(err, FB_E_FORMAT, "redis %s gives answers that nobody asked for",
                       redis_link_address(l));
    return FB_OK;
}

static enum fb_code exchange(struct redis_link *l, const struct redis_ask *ask, char *bytes,
                             struct fb_err *err)
{
    uint32_t got = 0;
    for (;;) {
        struct fb_err why;
        size_t len;
        enum moved out = push(l);
        /* What it said before it closed counts: reading goes on after a write that failed. */
        enum moved in = pull(l, bytes, READ_BYTES, &len);
        enum fb_code code = FB_OK;
        if (in == MOVED_SOME)
            code = redis_codec_feed(&l->codec, (struct span){bytes, len}, &why);
        if (code != FB_OK)
            return fb_fail(err, code, "redis %s sends %.120s", redis_link_address(l), why.text);
        code = give(l, ask, &got, err);
        if (code != FB_E_AGAIN)
            return code;
        if (in == MOVED_END || in == MOVED_FAILED)
            return ended(l, in, err);
        if (out == MOVED_END || out == MOVED_FAILED)
            l->out_at = l->out.len;
        if (in == MOVED_SOME || out == MOVED_SOME) {
            if (fb_mono_us() < ask->until_us) /* a flood ends, too */
                continue;
        }
        short events = l->out_at < l->out.len ? POLLIN | POLLOUT : POLLIN;
        code = redis_wait(l, l->fd, events, ask->until_us, err);
        if (code != FB_OK)
            return code;
    }
}

enum fb_code redis_link_ask(struct redis_link *l, const struct redis_ask *ask, struct fb_err *err)
{
    char bytes[READ_BYTES];
    enum fb_code code;
    fb_assert(l->fd >= 0);
    if (l->out.failed)
        code = fb_fail(err, FB_E_NOMEM, "redis: the command is larger than %zu MiB, or no memory",
                       REDIS_OUT_BYTES_MAX / MIB);
    else
        code = exchange(l, ask, bytes, err);
    buf_clear(&l->out);
    l->out_at = 0;
    if (code != FB_OK)
        redis_link_close(l);
    return code;
}

static void keep_answer(void *arg, uint32_t at, const struct redis_answer *answer)
{
    (void)at;
    *(const struct redis_answer **)arg = answer;
}

enum fb_code redis_link_ask_one(struct redis_link *l, const char *const *texts, uint64_t until_us,
                                const struct redis_answer **answer, struct fb_err *err)
{
    struct redis_ask ask = {.count = 1, .until_us = until_us, .each = keep_answer, .arg = answer};
    redis_put_texts(&l->out, texts);
    return redis_link_ask(l, &ask, err);
}

enum fb_code redis_link_refused(struct redis_link *l, struct span answer, struct fb_err *err)
{
    const struct redis_meaning *m = redis_meaning_of(answer);
    struct redis_said said = {.address = redis_link_address(l), .answer = answer};
    char to[REDIS_ADDRESS_BYTES];
    enum fb_code code = redis_fail(&said, err);
    if (m->move == REDIS_MOVED && redis_moved_to(answer, to, sizeof to)) {
        redis_link_leave(l, to);
        if (strcmp(redis_link_address(l), to) == 0) /* it is listed: there at the next try */
            code = err->code = FB_E_AGAIN;
    } else if (m->move == REDIS_LEAVE) {
        redis_link_leave(l, NULL);
    }
    return code;
}

/* ---- life ---- */
static bool is_alive(struct redis_link *l)
{
    char byte[64];
    size_t len;
    return redis_codec_is_empty(&l->codec) && pull(l, byte, sizeof byte, &len) == MOVED_NONE;
}

static enum fb_code open_one(struct redis_link *l, uint64_t until_us, struct fb_err *err)
{
    if (!redis_codec_reset(&l->codec))
        return fb_fail(err, FB_E_NOMEM, "redis: no memory for answers");
    buf_clear(&l->out);
    l->out_at = 0;
    l->fd = redis_dial(l, redis_link_address(l), until_us, err);
    if (l->fd < 0)
        return err->code;
    enum fb_code code = FB_OK;
    if (l->is_tls)
        code = redis_dial_tls(l, redis_link_address(l), until_us, err);
    if (code == FB_OK)
        code = login(l, until_us, err);
    if (code != FB_OK)
        redis_link_close(l);
    l->is_ready = code == FB_OK;
    l->opened += code == FB_OK;
    return code;
}

/* Which failure to tell when several addresses failed: one that needs a hand says most. */
static bool says_more(enum fb_code code)
{
    return code == FB_E_CONFIG || code == FB_E_DENIED;
}

enum fb_code redis_link_open(struct redis_link *l, uint64_t until_us, struct fb_err *err)
{
    sigset_t pipe;
    struct fb_err first = {.code = FB_OK};
    if (l->is_ready && is_alive(l))
        return FB_OK;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    redis_link_close(l);
    for (uint32_t left = l->address_count; left > 0; left--) {
        uint64_t now_us = fb_mono_us();
        uint64_t each_us = now_us < until_us ? now_us + (until_us - now_us) / left : until_us;
        if (open_one(l, each_us, err) == FB_OK)
            return FB_OK;
        if (l->setup->is_stopping(l->setup->ctx))
            return err->code;
        if (first.code == FB_OK || (says_more(err->code) && !says_more(first.code)))
            first = *err;
        if (left > 1)
            redis_link_leave(l, NULL);
    }
    *err = first;
    return err->code;
}

/* ---- login ---- */
static enum fb_code read_secret(struct redis_link *l, char secret[SECRET_BYTES], struct fb_err *err)
{
    const char *path = value(l, "password_file");
    FILE *f = fopen(path, "re");
    size_t len = f ? fread(secret, 1, SECRET_BYTES - 1, f) : 0;
    if (f)
        fclose(f);
    while (len > 0 && (secret[len - 1] == '\n' || secret[len - 1] == '\r'))
        len--;
    secret[len] = '\0';
    return len ? FB_OK
               : fb_fail(err, FB_E_CONFIG, "redis: `password_file` %.200s: %s", path,
                         f ? "there is nothing in it" : strerror(errno));
}

static enum fb_code must_be_good(struct redis_link *l, const char *const *command,
                                 uint64_t until_us, struct fb_err *err)
{
    const struct redis_answer *answer;
    enum fb_code code = redis_link_ask_one(l, command, until_us, &answer, err);
    if (code != FB_OK || answer->kind != REDIS_ERROR)
        return code;
    struct redis_said said = {.address = redis_link_address(l),
                              .answer = answer->text,
                              .is_secret = strcmp(command[0], "AUTH") == 0};
    return redis_fail(&said, err);
}

static enum fb_code login(struct redis_link *l, uint64_t until_us, struct fb_err *err)
{
    char secret[SECRET_BYTES], name[160];
    const char *user = value(l, "user"), *database = value(l, "database");
    enum fb_code code = FB_OK;
    if (*value(l, "password_file")) {
        code = read_secret(l, secret, err);
        if (code != FB_OK)
            return code;
        const char *auth[] = {"AUTH", *user ? user : secret, *user ? secret : NULL, NULL};
        code = must_be_good(l, auth, until_us, err);
        OPENSSL_cleanse(secret, sizeof secret);
    }
    /* PING asks for a login before the first record does; a user without the right to PING is one
     * nevertheless. */
    const char *ping[] = {"PING", NULL}, *select[] = {"SELECT", database, NULL};
    if (code == FB_OK)
        code = must_be_good(l, ping, until_us, err);
    if (code == FB_E_DENIED && strstr(err->text, " NOPERM "))
        code = FB_OK;
    if (code == FB_OK && *database && strcmp(database, "0") != 0)
        code = must_be_good(l, select, until_us, err);
    if (code != FB_OK)
        return code;
    /* For CLIENT LIST of whoever looks after the server; not every user may. */
    const struct redis_answer *answer;
    snprintf(name, sizeof name, "foldback-%.60s-%.60s", l->setup->node, l->setup->name);
    for (char *p = name; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p > 0x7e)
            *p = '_';
    const char *client[] = {"CLIENT", "SETNAME", name, NULL};
    return redis_link_ask_one(l, client, until_us, &answer, err);
}
