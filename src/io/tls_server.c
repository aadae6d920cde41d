/* SPDX-License-Identifier: Apache-2.0 */
/* tls_server: one OpenSSL context per listener and per state of its files.
 *
 *   server --current--> store (context, certificates, names) <--counted-- connections in handshake
 *
 * When a file changes a new store is made beside the old one; connections in handshake end with
 * the one they began with.  Certificates are chosen when the client has said what it knows: so one
 * context is enough, and a resumed session costs no choice. */
#include "base/assert.h"
#include "io/tls_cert.h"
#include "io/tls_int.h"
#include "io/tls_internal.h"
#include "io/tls_kdf.h"
#include "io/tls_ticket.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

/* Mozilla's intermediate profile (guideline 5.7) without finite-field DHE: that costs a server a
 * millisecond per handshake, and all clients of the profile's table know ECDHE. */
#define CIPHERS_12                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* Our order counts: SHA-256 has instructions of its own and SHA-384 has none, which is a tenth of a
 * handshake; a client that puts ChaCha20 first has no AES instructions and gets it. */
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"
/* A client keeps a ticket at most this long; our keys rotate by themselves. */
#define SESSION_S (24 * 3600)
/* A certificate chain of a client; more is an attack on our memory. */
#define CLIENT_CHAIN_BYTES_MAX (64 * 1024)
#define CLIENT_CHAIN_DEPTH 8

struct tls_store {
    _Atomic uint32_t refs;
    SSL_CTX *ctx;
    struct tls_cert *certs;
    int *twin; /* of another key type for the same names; -1 none */
    size_t count;
    struct tls_names names;
    struct tls_internal *internal;
    char alpn[64];
};
struct tls_server {
    _Atomic uint32_t refs;
    struct tls_server_conf conf; /* its texts are ours */
    struct tls_cert_files *files;
    char **texts;
    size_t text_count;
    struct spin lock; /* guards <store> */
    struct tls_store *store;
    struct tls_stamp *stamps; /* of what was tried last: three per certificate, and the client CA */
    size_t stamp_count;
    struct tls_again again;
};

static bool copy_conf(struct tls_server *s, const struct tls_server_conf *conf);
static struct tls_store *store_new(const struct tls_server *s, bool is_patient, struct fb_err *err);
static enum fb_code load_certs(struct tls_store *st, const struct tls_server_conf *conf,
                               struct fb_err *err);
static bool use_cert(SSL_CTX *ctx, const struct tls_cert *c);
static enum fb_code set_up(struct tls_store *st, const struct tls_server_conf *conf,
                           struct fb_err *err);
static enum fb_code set_clients(SSL_CTX *ctx, const struct tls_server_conf *conf,
                                struct fb_err *err);
static int choose_cert(SSL *ssl, void *arg);
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg);
static int staple(SSL *ssl, void *arg);
static int ticket_keys(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int is_sealing);
static const char *file_at(const struct tls_server *s, size_t i);
static bool has_unread(const struct tls_server *s);
static void look(const struct tls_server *s, struct tls_stamp *out);

enum fb_code tls_server_new(const struct tls_server_conf *conf, struct tls_server **out,
                            struct fb_err *err)
{
    struct tls_server *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for a listener");
    s->refs = 1;
    s->stamp_count = 3 * conf->cert_count + 1;
    s->stamps = calloc(s->stamp_count, sizeof *s->stamps);
    if (s->stamps && copy_conf(s, conf)) {
        look(s, s->stamps); /* before the files are read: a change in between is seen later */
        s->store = store_new(s, conf->is_patient, err);
        tls_again_note(&s->again, conf->is_patient && has_unread(s));
    } else {
        fb_fail(err, FB_E_NOMEM, "tls: no memory for a listener");
    }
    if (!s->store) {
        enum fb_code code = err ? err->code : FB_E_CONFIG;
        tls_server_unref(s);
        return code;
    }
    *out = s;
    return FB_OK;
}

struct tls_server *tls_server_ref(struct tls_server *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void tls_server_unref(struct tls_server *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    tls_store_drop(s->store);
    free(s->stamps);
    free(s->files);
    for (size_t i = 0; i < s->text_count; i++)
        free(s->texts[i]);
    free(s->texts);
    free(s);
}

enum tls_poll tls_server_poll(struct tls_server *s, struct fb_err *err)
{
    struct tls_stamp *now = calloc(s->stamp_count, sizeof *now);
    if (!now)
        return TLS_POLL_SAME;
    look(s, now);
    bool is_same = memcmp(now, s->stamps, s->stamp_count * sizeof *now) == 0;
    free(is_same ? now : s->stamps);
    s->stamps = is_same ? s->stamps : now;
    if (is_same && !tls_again_is_due(&s->again))
        return TLS_POLL_SAME;
    struct tls_store *fresh = store_new(s, false, err);
    bool is_unread = !fresh && has_unread(s);
    tls_again_note(&s->again, is_unread);
    if (!fresh) /* what is tried again was told */
        return is_same && is_unread ? TLS_POLL_SAME : TLS_POLL_REFUSED;
    spin_lock(&s->lock);
    struct tls_store *was = s->store;
    s->store = fresh;
    spin_unlock(&s->lock);
    tls_store_drop(was);
    return TLS_POLL_NEW;
}

static void put_first_name(void *arg, struct span name)
{
    struct tls_cert_info *info = arg;
    if (!info->name[0])
        snprintf(info->name, sizeof info->name, "%.*s", SPAN_ARG(name));
}

size_t tls_server_certs(struct tls_server *s, struct tls_cert_info *out, size_t room)
{
    struct tls_store *st = tls_store_take(s);
    size_t n = 0;
    for (size_t i = 0; i < st->count && n < room; i++) {
        const char *file = s->conf.certs[i].cert;
        if (!st->certs[i].leaf)
            continue;
        size_t len = strlen(file), most = sizeof out[n].file - 1;
        out[n] = (struct tls_cert_info){.not_after_s = st->certs[i].not_after_s};
        if (st->certs[i].ocsp) {
            out[n].staple_made_s = st->certs[i].ocsp_made_s;
            out[n].staple_until_s = st->certs[i].ocsp_until_s;
        }
        snprintf(out[n].file, sizeof out[n].file, "%s", len > most ? file + (len - most) : file);
        tls_cert_names(st->certs[i].leaf, put_first_name, &out[n++]);
    }
    tls_store_drop(st);
    return n;
}

struct tls_store *tls_store_take(struct tls_server *s)
{
    spin_lock(&s->lock);
    struct tls_store *st = s->store;
    atomic_fetch_add_explicit(&st->refs, 1, memory_order_relaxed);
    spin_unlock(&s->lock);
    return st;
}

void tls_store_drop(struct tls_store *st)
{
    if (!st || atomic_fetch_sub_explicit(&st->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(st->ctx);
    for (size_t i = 0; i < st->count; i++)
        tls_cert_fini(&st->certs[i]);
    free(st->certs);
    free(st->twin);
    tls_names_fini(&st->names);
    tls_internal_free(st->internal);
    free(st);
}

SSL_CTX *tls_store_ctx(struct tls_store *st)
{
    return st->ctx;
}

/* A text of the caller that becomes ours; "" when it is NULL or there is no memory. */
static const char *copy(struct tls_server *s, const char *text, bool *is_whole)
{
    char *mine = text && text[0] ? strdup(text) : NULL;
    if (mine)
        s->texts[s->text_count++] = mine;
    else if (text && text[0])
        *is_whole = false;
    return mine ? mine : "";
}

static bool copy_conf(struct tls_server *s, const struct tls_server_conf *conf)
{
    bool is_whole = true;
    s->conf = *conf;
    s->files = calloc(conf->cert_count + 1, sizeof *s->files);
    s->texts = calloc(3 * conf->cert_count + 4, sizeof *s->texts);
    if (!s->files || !s->texts)
        return false;
    for (size_t i = 0; i < conf->cert_count; i++)
        s->files[i] = (struct tls_cert_files){.cert = copy(s, conf->certs[i].cert, &is_whole),
                                              .key = copy(s, conf->certs[i].key, &is_whole),
                                              .ocsp = copy(s, conf->certs[i].ocsp, &is_whole)};
    s->conf.certs = s->files;
    s->conf.internal_dir = copy(s, conf->internal_dir, &is_whole);
    s->conf.client_ca = copy(s, conf->client_ca, &is_whole);
    s->conf.ciphers = copy(s, conf->ciphers, &is_whole);
    s->conf.alpn = copy(s, conf->alpn, &is_whole);
    return is_whole;
}

/* Three of each certificate, and the client CA; NULL or "": none is named. */
static const char *file_at(const struct tls_server *s, size_t i)
{
    const struct tls_cert_files *f = &s->conf.certs[i / 3];
    return i + 1 == s->stamp_count ? s->conf.client_ca
           : i % 3 == 0            ? f->cert
           : i % 3 == 1            ? f->key
                                   : f->ocsp;
}

static bool has_unread(const struct tls_server *s)
{
    bool has_any = false;
    for (size_t i = 0; i < s->stamp_count && !has_any; i++)
        has_any = tls_is_unread(file_at(s, i));
    return has_any;
}

static void look(const struct tls_server *s, struct tls_stamp *out)
{
    for (size_t i = 0; i < s->stamp_count; i++)
        tls_stamp_of(file_at(s, i), &out[i]);
}

static struct tls_store *store_new(const struct tls_server *s, bool is_patient, struct fb_err *err)
{
    struct tls_store *st = calloc(1, sizeof *st);
    struct tls_server_conf mine = s->conf;
    const struct tls_server_conf *conf = &mine;
    enum fb_code code = FB_E_NOMEM;
    mine.is_patient = is_patient;
    if (!st)
        goto done;
    st->refs = 1;
    snprintf(st->alpn, sizeof st->alpn, "%s", conf->alpn);
    st->certs = calloc(conf->cert_count + 1, sizeof *st->certs);
    st->twin = calloc(conf->cert_count + 1, sizeof *st->twin);
    st->ctx = SSL_CTX_new_ex(NULL, tls_kdf_query(), TLS_server_method());
    if (!st->certs || !st->twin || !st->ctx)
        goto done;
    code = load_certs(st, conf, err);
    if (code == FB_OK && conf->internal_dir && conf->internal_dir[0])
        code = tls_internal_new(conf->internal_dir, &st->internal, err);
    if (code == FB_OK)
        code = set_up(st, conf, err);
done:
    if (code == FB_OK)
        return st;
    if (code == FB_E_NOMEM)
        fb_fail(err, code, "tls: no memory for certificates");
    tls_store_drop(st);
    return NULL;
}

struct name_put {
    struct tls_store *st;
    uint32_t index;
};

static void put_name(void *arg, struct span name)
{
    struct name_put *p = arg;
    tls_names_put(&p->st->names, name, p->index);
}

static void pair(void *arg, struct span name)
{
    struct name_put *p = arg;
    struct tls_store *st = p->st;
    int first = tls_names_find(&st->names, name);
    if (first < 0 || (uint32_t)first == p->index || st->twin[first] >= 0)
        return;
    if (EVP_PKEY_get_base_id(st->certs[first].key) != EVP_PKEY_get_base_id(st->certs[p->index].key))
        st->twin[first] = (int)p->index;
}

static enum fb_code load_certs(struct tls_store *st, const struct tls_server_conf *conf,
                               struct fb_err *err)
{
    for (size_t i = 0; i < conf->cert_count; i++) {
        enum fb_code code = tls_cert_load(&conf->certs[i], &st->certs[i], err);
        if (code != FB_OK && !conf->is_patient)
            return code;
        st->count = i + 1;
        st->twin[i] = -1;
        if (code != FB_OK) { /* its place stays empty */
            st->certs[i] = (struct tls_cert){.leaf = NULL};
            continue;
        }
        tls_cert_names(st->certs[i].leaf, put_name, &(struct name_put){st, (uint32_t)i});
    }
    tls_names_sort(&st->names);
    for (size_t i = 0; i < st->count; i++)
        if (st->certs[i].leaf)
            tls_cert_names(st->certs[i].leaf, pair, &(struct name_put){st, (uint32_t)i});
    return st->names.has_failed ? FB_E_NOMEM : FB_OK;
}

static bool use_cert(SSL_CTX *ctx, const struct tls_cert *c)
{
    return SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->chain, 1) == 1;
}

static enum fb_code set_up(struct tls_store *st, const struct tls_server_conf *conf,
                           struct fb_err *err)
{
    char why[160];
    SSL_CTX *ctx = st->ctx;
    const char *ciphers = conf->ciphers && conf->ciphers[0] ? conf->ciphers : CIPHERS_12;
    SSL_CTX_set_min_proto_version(ctx, conf->is_13_only ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_ENCRYPT_THEN_MAC);
    SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    /* Without NO_AUTO_CHAIN a chain is looked for and verified in each handshake. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, SESSION_S);
    SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN_BYTES_MAX);
    SSL_CTX_set_num_tickets(ctx, 1); /* each costs a record; a client that wants more reconnects */
    SSL_CTX_set_dh_auto(ctx, 1);     /* only if `ciphers` asks for DHE */
    if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
        return fb_fail(
            err, FB_E_CONFIG,
            "tls: ciphers \"%s\" names no usable cipher (%s); `openssl ciphers -v` lists "
            "them",
            ciphers, tls_why(why, sizeof why));
    SSL_CTX_set_ciphersuites(ctx, CIPHERS_13);
    SSL_CTX_set1_groups_list(ctx, GROUPS);
    if (st->count && st->certs[0].leaf &&
        (!use_cert(ctx, &st->certs[0]) ||
         (st->twin[0] >= 0 && !use_cert(ctx, &st->certs[st->twin[0]]))))
        return fb_fail(err, FB_E_CONFIG, "tls: certificate %s is not usable: %s",
                       conf->certs[0].cert, tls_why(why, sizeof why));
    SSL_CTX_set_cert_cb(ctx, choose_cert, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, st);
    SSL_CTX_set_tlsext_status_cb(ctx, staple);
    if (conf->tickets) {
        SSL_CTX_set_app_data(ctx, conf->tickets);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_keys);
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    return set_clients(ctx, conf, err);
}

/* A session may only be resumed where its client would be asked for the same certificate. */
static enum fb_code set_clients(SSL_CTX *ctx, const struct tls_server_conf *conf,
                                struct fb_err *err)
{
    char why[160];
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned id_bytes = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_good = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
                   EVP_DigestUpdate(md, &conf->verify, sizeof conf->verify) == 1;
    FILE *f = conf->client_ca && conf->client_ca[0] ? fopen(conf->client_ca, "re") : NULL;
    char block[4096];
    for (size_t n; f && is_good && (n = fread(block, 1, sizeof block, f)) > 0;)
        is_good = EVP_DigestUpdate(md, block, n) == 1;
    if (f)
        fclose(f);
    is_good = is_good && EVP_DigestFinal_ex(md, id, &id_bytes) == 1;
    EVP_MD_CTX_free(md);
    if (!is_good || SSL_CTX_set_session_id_context(ctx, id, SSL_MAX_SID_CTX_LENGTH) != 1)
        return FB_E_NOMEM;
    if (conf->verify == TLS_VERIFY_OFF)
        return FB_OK;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(conf->client_ca);
    bool is_usable = names && SSL_CTX_load_verify_locations(ctx, conf->client_ca, NULL) == 1;
    if (!is_usable) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        fb_fail(err, FB_E_CONFIG, "tls: client_ca %s cannot be used (%s); it must be PEM",
                conf->client_ca, tls_why(why, sizeof why));
        if (!conf->is_patient)
            return FB_E_CONFIG;
    } else {
        SSL_CTX_set_client_CA_list(ctx, names); /* without it every certificate is refused */
    }
    SSL_CTX_set_verify_depth(ctx, CLIENT_CHAIN_DEPTH);
    SSL_CTX_set_verify(
        ctx,
        SSL_VERIFY_PEER |
            (conf->verify == TLS_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    return FB_OK;
}

/* ---- called by OpenSSL in the handshake ---- */

static int choose_cert(SSL *ssl, void *arg)
{
    const struct tls_conn *c = SSL_get_app_data(ssl);
    struct tls_store *st = c->store;
    (void)arg;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int index = sni ? tls_names_find(&st->names, span_of(sni)) : -1;
    if (index < 0 && st->internal)
        return tls_internal_use(st->internal, ssl, sni);
    if (index <= 0)
        return 1; /* the first one is in the context */
    for (int i = 0; i < 2 && index >= 0; i++, index = st->twin[index]) {
        const struct tls_cert *k = &st->certs[index];
        if (i == 0)
            SSL_certs_clear(ssl);
        if (SSL_use_cert_and_key(ssl, k->leaf, k->key, k->chain, 1) != 1)
            return 0;
    }
    return 1;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    const struct tls_store *st = arg;
    (void)ssl;
    for (struct span rest = span_of(st->alpn); rest.len;) {
        struct span want = span_cut(rest, ',', &rest);
        for (unsigned i = 0; i < in_len; i += 1u + in[i]) {
            bool is_10 = in[i] == 8 && memcmp(in + i + 1, "http/1.0", 8) == 0 &&
                         span_eq(want, SPAN("http/1.1"));
            if (!is_10 && (in[i] != want.len || memcmp(in + i + 1, want.at, want.len) != 0))
                continue;
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301: no common protocol is an end, not a guess */
}

static int staple(SSL *ssl, void *arg)
{
    const struct tls_conn *c = SSL_get_app_data(ssl);
    const X509 *leaf = SSL_get_certificate(ssl);
    (void)arg;
    for (size_t i = 0; i < c->store->count; i++) {
        const struct tls_cert *k = &c->store->certs[i];
        if (k->leaf != leaf || !k->ocsp || k->ocsp_until_s <= (uint64_t)time(NULL))
            continue;
        unsigned char *copy = OPENSSL_memdup(k->ocsp, k->ocsp_bytes);
        if (!copy)
            break;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)k->ocsp_bytes);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Fetched once for the life of the process: the constant of the old interface is looked up by its
 * name at each use. */
static const EVP_CIPHER *ticket_cipher(void)
{
    static _Atomic(EVP_CIPHER *) made;
    EVP_CIPHER *is = atomic_load_explicit(&made, memory_order_acquire), *none = NULL;
    if (is)
        return is;
    is = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!is || atomic_compare_exchange_strong(&made, &none, is))
        return is;
    EVP_CIPHER_free(is);
    return none;
}

/* With TLS 1.3 a ticket is for one use: a client that resumes gets the next one with it, or every
 * second connection of it would be a full handshake. */
static int ticket_keys(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int is_sealing)
{
    struct tls_tickets *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct ticket_key key;
    bool is_old = false;
    int is = -1;
    if (is_sealing) {
        tickets_seal_key(t, &key);
        memcpy(name, key.name, TICKET_NAME_BYTES);
        if (RAND_bytes(iv, 16) != 1)
            goto done;
    } else if (!tickets_find(t, name, &key, &is_old)) {
        return 0; /* a full handshake */
    }
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string("key", key.mac, sizeof key.mac),
        OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_end()};
    if (EVP_CipherInit_ex(cipher, ticket_cipher(), NULL, key.aes, iv, is_sealing) == 1 &&
        EVP_MAC_CTX_set_params(mac, params) == 1)
        is = is_old || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1; /* 2: and a new one */
done:
    OPENSSL_cleanse(&key, sizeof key);
    return is;
}
