/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_hash_int.h"
/* it comes before what includes OpenSSL */
#include "io/tls_mac.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

struct mac {
    EVP_MAC_CTX *other; /* OpenSSL's own takes all; NULL: ours */
    struct hash hash;   /* of the inner pad and the text, once it is begun */
    bool is_begun;      /* some of the text has come */
    bool has_key;
    size_t key_bytes;
    unsigned char key[BLOCK_BYTES_MAX];
};

static void *new_mac(void *provider)
{
    (void)provider;
    return OPENSSL_zalloc(sizeof(struct mac));
}

static void free_mac(void *arg)
{
    struct mac *m = arg;
    if (!m)
        return;
    EVP_MAC_CTX_free(m->other);
    OPENSSL_clear_free(m, sizeof *m);
}

static void *dup_mac(void *arg)
{
    const struct mac *m = arg;
    struct mac *d = OPENSSL_memdup(m, sizeof *m);
    if (d && m->other && !(d->other = EVP_MAC_CTX_dup(m->other))) {
        free_mac(d);
        return NULL;
    }
    return d;
}

/* A key longer than a block is its digest (RFC 2104). */
static bool set_key(struct mac *m, const void *at, size_t bytes)
{
    if (bytes > sizeof m->key)
        return false;
    if (bytes)
        memcpy(m->key, at, bytes);
    m->key_bytes = bytes;
    m->has_key = true;
    m->is_begun = false;
    return true;
}

static bool begin(struct mac *m)
{
    unsigned char pad[BLOCK_BYTES_MAX];
    if (!m->has_key || m->hash.bytes == 0)
        return false;
    if (m->key_bytes > m->hash.block_bytes) {
        hash_begin(&m->hash);
        hash_put(&m->hash, m->key, m->key_bytes);
        hash_end(&m->hash, m->key);
        m->key_bytes = m->hash.bytes;
    }
    pad_key(pad, (struct span){(const char *)m->key, m->key_bytes}, 0x36);
    hash_begin(&m->hash);
    hash_put(&m->hash, pad, m->hash.block_bytes);
    OPENSSL_cleanse(pad, sizeof pad);
    m->is_begun = true;
    return true;
}

/* What was said so far goes to OpenSSL's own, before the first byte of a text. */
static bool hand_over(struct mac *m)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, "provider!=" PROVIDER);
    m->other = mac ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    if (!m->other || m->is_begun)
        return m->other && !m->is_begun;
    char *name = (char *)(uintptr_t)(m->hash.is_384 ? "SHA384" : "SHA256");
    OSSL_PARAM params[3] = {OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end(),
                            OSSL_PARAM_construct_end()};
    OSSL_PARAM *p = params;
    if (m->hash.bytes)
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0);
    if (m->has_key)
        *p = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, m->key, m->key_bytes);
    return EVP_MAC_CTX_set_params(m->other, params) == 1;
}

static bool take(struct mac *m, const OSSL_PARAM *p)
{
    if (strcmp(p->key, OSSL_MAC_PARAM_KEY) == 0)
        return p->data_type == OSSL_PARAM_OCTET_STRING && set_key(m, p->data, p->data_size);
    if (strcmp(p->key, OSSL_MAC_PARAM_DIGEST) == 0) {
        m->is_begun = false;
        return hash_find(&m->hash, (struct span){p->data, p->data_size});
    }
    return strcmp(p->key, OSSL_MAC_PARAM_PROPERTIES) == 0; /* of the digest's maker */
}

static int set_params(void *arg, const OSSL_PARAM params[])
{
    struct mac *m = arg;
    struct mac was = *m;
    bool is_ours = !m->other;
    for (const OSSL_PARAM *p = params; is_ours && p && p->key; p++)
        is_ours = take(m, p);
    bool is_good = is_ours || m->other;
    if (!is_good) { /* all of them, in their order */
        *m = was;
        is_good = hand_over(m);
    }
    OPENSSL_cleanse(&was, sizeof was);
    return is_good && (is_ours || EVP_MAC_CTX_set_params(m->other, params) == 1);
}

static int init_mac(void *arg, const unsigned char *key, size_t key_bytes,
                    const OSSL_PARAM params[])
{
    struct mac *m = arg;
    if (!set_params(m, params))
        return 0;
    if (!m->other && key && !set_key(m, key, key_bytes) && !hand_over(m))
        return 0;
    if (m->other)
        return EVP_MAC_init(m->other, key, key_bytes, NULL);
    m->is_begun = false; /* a parameter may still come */
    return 1;
}

static int update(void *arg, const unsigned char *at, size_t len)
{
    struct mac *m = arg;
    if (m->other)
        return EVP_MAC_update(m->other, at, len);
    if (!m->is_begun && !begin(m))
        return 0;
    hash_put(&m->hash, at, len);
    return 1;
}

static int final(void *arg, unsigned char *out, size_t *len, size_t room)
{
    struct mac *m = arg;
    unsigned char pad[BLOCK_BYTES_MAX], inner[HASH_BYTES_MAX];
    if (m->other)
        return EVP_MAC_final(m->other, out, len, room);
    if ((!m->is_begun && !begin(m)) || room < m->hash.bytes)
        return 0;
    hash_end(&m->hash, inner);
    pad_key(pad, (struct span){(const char *)m->key, m->key_bytes}, 0x5c);
    hash_begin(&m->hash);
    hash_put(&m->hash, pad, m->hash.block_bytes);
    hash_put(&m->hash, inner, m->hash.bytes);
    hash_end(&m->hash, out);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(inner, sizeof inner);
    m->is_begun = false;
    *len = m->hash.bytes;
    return 1;
}

static int get_params(void *arg, OSSL_PARAM params[])
{
    const struct mac *m = arg;
    if (m->other)
        return EVP_MAC_CTX_get_params(m->other, params);
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_SIZE);
    if (p && !OSSL_PARAM_set_size_t(p, m->hash.bytes))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_BLOCK_SIZE);
    return !p || OSSL_PARAM_set_size_t(p, m->hash.block_bytes);
}

static const OSSL_PARAM *gettable(void *ctx, void *provider)
{
    static const OSSL_PARAM known[] = {OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, NULL),
                                       OSSL_PARAM_size_t(OSSL_MAC_PARAM_BLOCK_SIZE, NULL),
                                       OSSL_PARAM_END};
    (void)ctx;
    (void)provider;
    return known;
}

static const OSSL_PARAM *settable(void *ctx, void *provider)
{
    static const OSSL_PARAM known[] = {OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, NULL, 0),
                                       OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_PROPERTIES, NULL, 0),
                                       OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, NULL, 0),
                                       OSSL_PARAM_int(OSSL_MAC_PARAM_DIGEST_NOINIT, NULL),
                                       OSSL_PARAM_int(OSSL_MAC_PARAM_DIGEST_ONESHOT, NULL),
                                       OSSL_PARAM_size_t(OSSL_MAC_PARAM_TLS_DATA_SIZE, NULL),
                                       OSSL_PARAM_END};
    (void)ctx;
    (void)provider;
    return known;
}

static const OSSL_DISPATCH calls[] = {PROVIDER_CALL(OSSL_FUNC_MAC_NEWCTX, new_mac),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_DUPCTX, dup_mac),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_FREECTX, free_mac),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_INIT, init_mac),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_UPDATE, update),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_FINAL, final),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_GET_CTX_PARAMS, get_params),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_SET_CTX_PARAMS, set_params),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS, gettable),
                                      PROVIDER_CALL(OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS, settable),
                                      {0, NULL}};
const OSSL_ALGORITHM tls_macs[] = {{OSSL_MAC_NAME_HMAC, "provider=" PROVIDER, calls, NULL},
                                   {NULL, NULL, NULL, NULL}};
