/* SPDX-License-Identifier: Apache-2.0 */
/* tls_client: how a service speaks TLS to its endpoints; one context and the sessions that they
 * gave us. */
#include "base/assert.h"
#include "io/thread.h"
#include "io/tls_cert.h"
#include "io/tls_int.h"
#include "io/tls_kdf.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* Endpoints whose last sessions are kept, per service. */
#define SESSIONS_MAX 64
#define ALPN_BYTES 64

#define CLIENT_FILES 3

struct tls_client {
    _Atomic uint32_t refs;
    struct tls_client_conf conf; /* its texts are ours */
    char *texts[CLIENT_FILES];
    struct tls_stamp stamps[CLIENT_FILES]; /* of what was tried last */
    struct tls_again again;
    unsigned char alpn[ALPN_BYTES]; /* as it is sent */
    unsigned alpn_bytes;
    char name[TLS_NAME_BYTES];
    _Atomic bool is_shut;
    struct spin lock; /* guards what follows */
    SSL_CTX *ctx;     /* NULL: shut */
    struct {
        SSL_SESSION *is;
        char host[TLS_NAME_BYTES];
    } sessions[SESSIONS_MAX];
    uint32_t next;
};

static bool copy_conf(struct tls_client *t, const struct tls_client_conf *conf);
static bool has_unread(const struct tls_client *t);
static void look(const struct tls_client *t, struct tls_stamp *out);
static SSL_CTX *ctx_new(struct tls_client *t, struct fb_err *err);
static SSL_CTX *ctx_take(struct tls_client *t);
static enum fb_code set_up(SSL_CTX *ctx, const struct tls_client_conf *conf, struct fb_err *err);
static unsigned put_alpn(unsigned char to[ALPN_BYTES], const char *names);
static int on_session(SSL *ssl, SSL_SESSION *session);
static SSL_SESSION *take_session(struct tls_client *t, const char *host);

enum fb_code tls_client_new(const struct tls_client_conf *conf, struct tls_client **out,
                            struct fb_err *err)
{
    struct tls_client *t = calloc(1, sizeof *t);
    struct fb_err why = {0};
    *out = NULL;
    if (t)
        t->refs = 1;
    if (!t || !copy_conf(t, conf)) {
        tls_client_unref(t);
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for a service");
    }
    look(t, t->stamps); /* before the files are read: a change in between is seen later */
    t->ctx = ctx_new(t, &why);
    if (!t->ctx && err)
        *err = why;
    if (!t->ctx && (!conf->is_patient || why.code == FB_E_NOMEM)) {
        tls_client_unref(t);
        return why.code;
    }
    t->is_shut = !t->ctx;
    tls_again_note(&t->again, t->is_shut && has_unread(t));
    *out = t;
    return FB_OK;
}

enum tls_poll tls_client_poll(struct tls_client *t, struct fb_err *err)
{
    struct tls_stamp now[CLIENT_FILES];
    SSL_SESSION *over[SESSIONS_MAX];
    look(t, now);
    bool is_same = memcmp(now, t->stamps, sizeof now) == 0;
    if (is_same && !tls_again_is_due(&t->again))
        return TLS_POLL_SAME;
    memcpy(t->stamps, now, sizeof now);
    SSL_CTX *fresh = ctx_new(t, err);
    bool is_unread = !fresh && has_unread(t);
    tls_again_note(&t->again, is_unread);
    if (!fresh) /* what is tried again was told */
        return is_same && is_unread ? TLS_POLL_SAME : TLS_POLL_REFUSED;
    spin_lock(&t->lock);
    SSL_CTX *was = t->ctx;
    t->ctx = fresh;
    atomic_store_explicit(&t->is_shut, false, memory_order_relaxed);
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) { /* what they proved was proved to other files */
        over[i] = t->sessions[i].is;
        t->sessions[i].is = NULL;
    }
    spin_unlock(&t->lock);
    for (uint32_t i = 0; i < SESSIONS_MAX; i++)
        SSL_SESSION_free(over[i]);
    SSL_CTX_free(was);
    return TLS_POLL_NEW;
}

bool tls_client_is_shut(const struct tls_client *t)
{
    return atomic_load_explicit(&t->is_shut, memory_order_relaxed);
}

void tls_client_ref(struct tls_client *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

void tls_client_unref(struct tls_client *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++)
        SSL_SESSION_free(t->sessions[i].is);
    SSL_CTX_free(t->ctx);
    for (uint32_t i = 0; i < CLIENT_FILES; i++)
        free(t->texts[i]);
    free(t);
}

static bool copy_conf(struct tls_client *t, const struct tls_client_conf *conf)
{
    const char *const from[CLIENT_FILES] = {conf->ca, conf->cert, conf->key};
    t->conf = *conf;
    for (uint32_t i = 0; i < CLIENT_FILES; i++) {
        t->texts[i] = strdup(from[i] ? from[i] : "");
        if (!t->texts[i])
            return false;
    }
    t->conf.ca = t->texts[0];
    t->conf.cert = t->texts[1];
    t->conf.key = t->texts[2];
    snprintf(t->name, sizeof t->name, "%s", conf->name ? conf->name : "");
    t->conf.name = t->name;
    t->alpn_bytes = put_alpn(t->alpn, conf->alpn ? conf->alpn : "");
    t->conf.alpn = NULL;
    return true;
}

static bool has_unread(const struct tls_client *t)
{
    bool has_any = false;
    for (uint32_t i = 0; i < CLIENT_FILES; i++)
        has_any |= tls_is_unread(t->texts[i]);
    return has_any;
}

static void look(const struct tls_client *t, struct tls_stamp *out)
{
    for (uint32_t i = 0; i < CLIENT_FILES; i++)
        tls_stamp_of(t->texts[i], &out[i]);
}

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

SSL *tls_client_ssl(struct tls_client *t, struct tls_conn *c, const char *name)
{
    const char *host = t->name[0] ? t->name : name;
    SSL_CTX *ctx = ctx_take(t);
    SSL *ssl = ctx ? SSL_new(ctx) : NULL;
    SSL_CTX_free(ctx);
    if (!ssl)
        return NULL;
    SSL_set_app_data(ssl, c);
    bool is_good = true;
    if (is_address(host)) {
        if (!t->conf.is_unverified)
            is_good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    } else {
        is_good = SSL_set_tlsext_host_name(ssl, host) == 1;
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (!t->conf.is_unverified)
            is_good = is_good && SSL_set1_host(ssl, host) == 1;
    }
    if (!is_good) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_SESSION *session = take_session(t, host);
    if (session) {
        SSL_set_session(ssl, session);
        SSL_SESSION_free(session);
    }
    return ssl;
}

/* From the files as they are now; NULL when they are not good. */
static SSL_CTX *ctx_new(struct tls_client *t, struct fb_err *err)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(NULL, tls_kdf_query(), TLS_client_method());
    ERR_clear_error();
    if (!ctx) {
        fb_fail(err, FB_E_NOMEM, "tls: no memory for a service");
        return NULL;
    }
    SSL_CTX_set_app_data(ctx, t);
    if (set_up(ctx, &t->conf, err) == FB_OK) {
        if (!t->alpn_bytes || SSL_CTX_set_alpn_protos(ctx, t->alpn, t->alpn_bytes) == 0)
            return ctx;
        fb_fail(err, FB_E_NOMEM, "tls: no memory for a service");
    }
    SSL_CTX_free(ctx);
    return NULL;
}

static SSL_CTX *ctx_take(struct tls_client *t)
{
    spin_lock(&t->lock);
    SSL_CTX *ctx = t->ctx;
    if (ctx)
        SSL_CTX_up_ref(ctx);
    spin_unlock(&t->lock);
    return ctx;
}

static enum fb_code set_up(SSL_CTX *ctx, const struct tls_client_conf *conf, struct fb_err *err)
{
    char why[160];
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    SSL_CTX_set_verify(ctx, conf->is_unverified ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!conf->is_unverified) {
        bool has_ca = conf->ca && conf->ca[0];
        if ((has_ca ? SSL_CTX_load_verify_locations(ctx, conf->ca, NULL)
                    : SSL_CTX_set_default_verify_paths(ctx)) != 1)
            return fb_fail(err, FB_E_CONFIG, "tls: ca %s cannot be used (%s); it must be PEM",
                           has_ca ? conf->ca : "of the system", tls_why(why, sizeof why));
    }
    if (conf->cert && conf->cert[0]) {
        struct tls_cert cert;
        enum fb_code code = tls_cert_load(
            &(struct tls_cert_files){.cert = conf->cert, .key = conf->key}, &cert, err);
        if (code != FB_OK)
            return code;
        bool is_good = SSL_CTX_use_cert_and_key(ctx, cert.leaf, cert.key, cert.chain, 1) == 1;
        tls_cert_fini(&cert);
        if (!is_good)
            return fb_fail(err, FB_E_CONFIG, "tls: certificate %s is not usable: %s", conf->cert,
                           tls_why(why, sizeof why));
    }
    return FB_OK;
}

static unsigned put_alpn(unsigned char to[ALPN_BYTES], const char *names)
{
    unsigned used = 0;
    for (struct span rest = span_of(names); rest.len;) {
        struct span one = span_cut(rest, ',', &rest);
        if (one.len == 0 || used + one.len + 1 > ALPN_BYTES)
            continue;
        to[used++] = (unsigned char)one.len;
        memcpy(to + used, one.at, one.len);
        used += (unsigned)one.len;
    }
    return used;
}

void tls_offer(struct tls_conn *c, const char *protocol)
{
    unsigned char alpn[ALPN_BYTES];
    fb_assert(!c->is_open);
    (void)SSL_set_alpn_protos(c->ssl, alpn, put_alpn(alpn, protocol));
}

/* ---- sessions: the newest of each host ---- */

static const char *host_of(const struct tls_client *t, SSL *ssl)
{
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    return t->name[0] ? t->name : sni;
}

/* A session is kept by name: endpoints of one name share their ticket keys, or refuse politely. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_client *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const char *host = host_of(t, ssl);
    if (!host || !SSL_SESSION_is_resumable(session))
        return 0;
    spin_lock(&t->lock);
    if (SSL_get_SSL_CTX(ssl) != t->ctx) { /* it rests on files that changed since */
        spin_unlock(&t->lock);
        return 0;
    }
    uint32_t at = t->next % SESSIONS_MAX;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++)
        if (t->sessions[i].is && strcmp(t->sessions[i].host, host) == 0)
            at = i;
    if (at == t->next % SESSIONS_MAX)
        t->next++;
    SSL_SESSION *was = t->sessions[at].is;
    t->sessions[at].is = session;
    snprintf(t->sessions[at].host, sizeof t->sessions[at].host, "%s", host);
    spin_unlock(&t->lock);
    SSL_SESSION_free(was);
    return 1; /* it is ours now */
}

static SSL_SESSION *take_session(struct tls_client *t, const char *host)
{
    SSL_SESSION *found = NULL;
    spin_lock(&t->lock);
    for (uint32_t i = 0; i < SESSIONS_MAX && !found; i++) {
        if (!t->sessions[i].is || strcmp(t->sessions[i].host, host) != 0)
            continue;
        found = t->sessions[i].is;
        SSL_SESSION_up_ref(found);
    }
    spin_unlock(&t->lock);
    return found;
}
