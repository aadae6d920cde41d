/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_hash_int.h"
/* it comes before what includes OpenSSL */
#include "base/assert.h"
#include "io/tls_kdf.h"
#include "io/tls_mac.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <string.h>

#define QUERY "?provider=" PROVIDER
/* Of a HkdfLabel: length, label and context with a byte of length each. */
#define LABEL_BYTES_MAX (2 + 256 + 256)

/* Of one call; the texts are the caller's. */
struct ask {
    int mode;
    struct hash hash;
    struct span key, salt, prefix, label, data;
    bool has_key, has_salt;
};
static _Thread_local struct tls_secrets *watched;
static char nothing; /* a context: all that counts comes with the call */

/* HMAC (RFC 2104) of three texts in a row; a key longer than a block is its digest. */
static void hmac(struct hash *h, struct span key, const struct span text[3], unsigned char *out)
{
    unsigned char pad[BLOCK_BYTES_MAX], inner[HASH_BYTES_MAX], shorter[HASH_BYTES_MAX];
    if (key.len > h->block_bytes) {
        hash_begin(h);
        hash_put(h, key.at, key.len);
        hash_end(h, shorter);
        key = (struct span){(const char *)shorter, h->bytes};
    }
    pad_key(pad, key, 0x36);
    hash_begin(h);
    hash_put(h, pad, h->block_bytes);
    for (int i = 0; i < 3; i++)
        if (text[i].len)
            hash_put(h, text[i].at, text[i].len);
    hash_end(h, inner);
    pad_key(pad, key, 0x5c);
    hash_begin(h);
    hash_put(h, pad, h->block_bytes);
    hash_put(h, inner, h->bytes);
    hash_end(h, out);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(inner, sizeof inner);
    OPENSSL_cleanse(shorter, sizeof shorter);
}

/* HKDF-Expand-Label with <info> made already (RFC 5869 section 2.3). */
static bool expand(struct hash *h, struct span key, struct span info, unsigned char *out,
                   size_t len)
{
    unsigned char block[HASH_BYTES_MAX];
    struct span last = {NULL, 0};
    if (len > 255 * h->bytes)
        return false;
    for (unsigned char i = 1; len > 0; i++) {
        const struct span text[3] = {last, info, {(const char *)&i, 1}};
        size_t part = len < h->bytes ? len : h->bytes;
        hmac(h, key, text, block);
        memcpy(out, block, part);
        last = (struct span){(const char *)block, h->bytes};
        out += part;
        len -= part;
    }
    OPENSSL_cleanse(block, sizeof block);
    return true;
}

static bool expand_label(struct ask *a, struct span key, struct span data, unsigned char *out,
                         size_t len)
{
    char info[LABEL_BYTES_MAX];
    size_t label_bytes = a->prefix.len + a->label.len, used = 0;
    if (label_bytes > 255 || data.len > 255 || len > UINT16_MAX)
        return false;
    info[used++] = (char)(len >> 8);
    info[used++] = (char)(len & 0xff);
    info[used++] = (char)label_bytes;
    if (a->prefix.len)
        memcpy(info + used, a->prefix.at, a->prefix.len);
    used += a->prefix.len;
    if (a->label.len)
        memcpy(info + used, a->label.at, a->label.len);
    used += a->label.len;
    info[used++] = (char)data.len;
    if (data.len)
        memcpy(info + used, data.at, data.len);
    used += data.len;
    return expand(&a->hash, key, (struct span){info, used}, out, len);
}

/* The next secret of the schedule from the one before it and what is new. */
static bool extract(struct ask *a, unsigned char *out, size_t len)
{
    static const char zeros[HASH_BYTES_MAX];
    unsigned char of_nothing[HASH_BYTES_MAX], salt[HASH_BYTES_MAX];
    struct span key = a->has_key ? a->key : (struct span){zeros, a->hash.bytes};
    struct span with = {zeros, 0};
    if (len != a->hash.bytes)
        return false;
    if (a->has_salt) {
        hash_begin(&a->hash);
        hash_end(&a->hash, of_nothing);
        if (!expand_label(a, a->salt, (struct span){(const char *)of_nothing, a->hash.bytes}, salt,
                          a->hash.bytes))
            return false;
        with = (struct span){(const char *)salt, a->hash.bytes};
    }
    hmac(&a->hash, with, (const struct span[3]){key}, out);
    OPENSSL_cleanse(salt, sizeof salt);
    return true;
}

/* ---- what OpenSSL calls ---- */

/* By the first letter: one comparison per parameter, of which a handshake hands over some 150. */
static bool take(struct ask *a, const OSSL_PARAM *p)
{
    struct span is = {p->data, p->data_size};
    const char *name = p->key;
    switch (name[0]) {
    case 'k':
        a->key = is;
        return a->has_key = strcmp(name, OSSL_KDF_PARAM_KEY) == 0;
    case 's':
        a->salt = is;
        return a->has_salt = strcmp(name, OSSL_KDF_PARAM_SALT) == 0;
    case 'l':
        a->label = is;
        return strcmp(name, OSSL_KDF_PARAM_LABEL) == 0;
    case 'd':
        if (name[1] == 'i')
            return strcmp(name, OSSL_KDF_PARAM_DIGEST) == 0 && hash_find(&a->hash, is);
        a->data = is;
        return strcmp(name, OSSL_KDF_PARAM_DATA) == 0;
    case 'p':
        if (name[1] == 'r' && name[2] == 'o')
            return strcmp(name, OSSL_KDF_PARAM_PROPERTIES) == 0; /* of the digest's maker */
        a->prefix = is;
        return strcmp(name, OSSL_KDF_PARAM_PREFIX) == 0;
    case 'm':
        return strcmp(name, OSSL_KDF_PARAM_MODE) == 0 && OSSL_PARAM_get_int(p, &a->mode) == 1;
    default:
        return false;
    }
}

/* What ours does not know, such as a later OpenSSL may ask. */
static int ask_others(unsigned char *out, size_t len, const OSSL_PARAM params[])
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, "provider!=" PROVIDER);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int is = ctx ? EVP_KDF_derive(ctx, out, len, params) : 0;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return is;
}

static void watch(const struct ask *a, const unsigned char *out, size_t len)
{
    bool is_client = span_eq(a->label, SPAN("c ap traffic"));
    if (!watched || len > TLS_SECRET_BYTES_MAX ||
        (!is_client && !span_eq(a->label, SPAN("s ap traffic"))))
        return;
    memcpy(is_client ? watched->client : watched->server, out, len);
    if (is_client)
        watched->has_client = true;
    else
        watched->has_server = true;
}

static int derive(void *ctx, unsigned char *out, size_t len, const OSSL_PARAM params[])
{
    struct ask a = {.mode = -1};
    bool is_good = true;
    (void)ctx;
    for (const OSSL_PARAM *p = params; p && p->key && is_good; p++)
        is_good = take(&a, p);
    if (a.hash.bytes == 0)
        is_good = false;
    else if (is_good && a.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
        is_good = extract(&a, out, len);
    else
        is_good = is_good && a.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY && a.has_key &&
                  expand_label(&a, a.key, a.data, out, len);
    OPENSSL_cleanse(&a.hash, sizeof a.hash);
    if (is_good && a.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY)
        watch(&a, out, len);
    return is_good ? 1 : ask_others(out, len, params);
}

static void *new_ctx(void *provider)
{
    (void)provider;
    return &nothing;
}

static void free_ctx(void *ctx)
{
    (void)ctx;
}

static const OSSL_DISPATCH kdf_calls[] = {PROVIDER_CALL(OSSL_FUNC_KDF_NEWCTX, new_ctx),
                                          PROVIDER_CALL(OSSL_FUNC_KDF_FREECTX, free_ctx),
                                          PROVIDER_CALL(OSSL_FUNC_KDF_DERIVE, derive),
                                          {0, NULL}};
static const OSSL_ALGORITHM kdfs[] = {
    {OSSL_KDF_NAME_TLS1_3_KDF, "provider=" PROVIDER, kdf_calls, NULL}, {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *is_uncached)
{
    (void)provider;
    *is_uncached = 0;
    return operation == OSSL_OP_KDF ? kdfs : operation == OSSL_OP_MAC ? tls_macs : NULL;
}

static int begin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
                 const OSSL_DISPATCH **out, void **provider)
{
    static const OSSL_DISPATCH calls[] = {PROVIDER_CALL(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
                                          {0, NULL}};
    (void)core;
    *out = calls;
    *provider = (void *)(uintptr_t)handle;
    return 1;
}

void tls_kdf_watch(struct tls_secrets *to)
{
    watched = to;
}

void tls_kdf_expand(bool is_384, const unsigned char *secret, const char *label, unsigned char *out,
                    size_t len)
{
    struct ask a = {.prefix = SPAN("tls13 "), .label = span_of(label)};
    bool is_known = hash_find(&a.hash, is_384 ? SPAN("SHA384") : SPAN("SHA256"));
    fb_assert(is_known);
    bool is_good = expand_label(&a, (struct span){(const char *)secret, a.hash.bytes},
                                (struct span){NULL, 0}, out, len);
    fb_assert(is_good);
    OPENSSL_cleanse(&a.hash, sizeof a.hash);
}

static OSSL_PROVIDER *loaded; /* for the life of the process */

static void load(void)
{
    if (OSSL_PROVIDER_add_builtin(NULL, PROVIDER, begin) == 1)
        loaded = OSSL_PROVIDER_try_load(NULL, PROVIDER, 1);
}

const char *tls_kdf_query(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded ? QUERY : NULL;
}
