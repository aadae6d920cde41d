/* SPDX-License-Identifier: Apache-2.0 */
/* tls_client: how a service speaks TLS to its endpoints; one context and the sessions that they
 * gave us. */
#include "base/assert.h"
#include "io/thread.h"
#include "io/tls_cert.h"
#include "io/tls_int.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* Endpoints whose last sessions are kept, per service. */
#define SESSIONS_MAX 64
#define ALPN_BYTES 64

struct tls_client {
    _Atomic uint32_t refs;
    SSL_CTX *ctx;
    char name[TLS_NAME_BYTES];
    bool is_unverified;
    struct spin lock; /* guards sessions */
    struct {
        SSL_SESSION *is;
        char host[TLS_NAME_BYTES];
    } sessions[SESSIONS_MAX];
    uint32_t next;
};

static enum fb_code set_up(struct tls_client *t, const struct tls_client_conf *conf,
                           struct fb_err *err);
static unsigned put_alpn(unsigned char to[ALPN_BYTES], const char *names);
static int on_session(SSL *ssl, SSL_SESSION *session);
static SSL_SESSION *take_session(struct tls_client *t, const char *host);

enum fb_code tls_client_new(const struct tls_client_conf *conf, struct tls_client **out,
                            struct fb_err *err)
{
    struct tls_client *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t)
        t->ctx = SSL_CTX_new(TLS_client_method());
    if (!t || !t->ctx) {
        free(t);
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for a service");
    }
    t->refs = 1;
    enum fb_code code = set_up(t, conf, err);
    if (code == FB_OK)
        *out = t;
    else
        tls_client_unref(t);
    return code;
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
    free(t);
}

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

SSL *tls_client_ssl(struct tls_client *t, struct tls_conn *c, const char *name)
{
    const char *host = t->name[0] ? t->name : name;
    SSL *ssl = SSL_new(t->ctx);
    if (!ssl)
        return NULL;
    SSL_set_app_data(ssl, c);
    bool is_good = true;
    if (is_address(host)) {
        if (!t->is_unverified)
            is_good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    } else {
        is_good = SSL_set_tlsext_host_name(ssl, host) == 1;
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (!t->is_unverified)
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

static enum fb_code set_up(struct tls_client *t, const struct tls_client_conf *conf,
                           struct fb_err *err)
{
    char why[160];
    SSL_CTX *ctx = t->ctx;
    snprintf(t->name, sizeof t->name, "%s", conf->name ? conf->name : "");
    t->is_unverified = conf->is_unverified;
    SSL_CTX_set_app_data(ctx, t);
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
    unsigned char alpn[ALPN_BYTES];
    unsigned used = put_alpn(alpn, conf->alpn ? conf->alpn : "");
    if (used && SSL_CTX_set_alpn_protos(ctx, alpn, used) != 0)
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for a service");
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
