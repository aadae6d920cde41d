/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_internal.h"

#include "io/thread.h"
#include "io/tls_cert.h"
#include "io/tls_int.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CA_DAYS 3650
/* Below what browsers accept from any authority (398). */
#define LEAF_DAYS 90
#define PATH_BYTES 600

struct leaf {
    char name[TLS_NAME_BYTES];
    X509 *cert;
};
struct tls_internal {
    X509 *ca;
    EVP_PKEY *ca_key, *key; /* one key serves all leaves of this process */
    pthread_mutex_t lock;   /* guards leaves; held while one is signed: a tenth of a millisecond */
    struct leaf leaves[INTERNAL_LEAVES_MAX];
    uint32_t count;
};

static bool make_ca(const char *cert_file, const char *key_file);
static X509 *make_cert(const char *name, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key);
static bool write_pem(const char *file, X509 *cert, EVP_PKEY *key);
static bool is_name(const char *name);

enum fb_code tls_internal_init(const char *dir, struct fb_err *err)
{
    char cert[PATH_BYTES], key[PATH_BYTES], why[160];
    snprintf(cert, sizeof cert, "%s/internal-ca.pem", dir);
    snprintf(key, sizeof key, "%s/internal-ca.key", dir);
    if (access(cert, R_OK) == 0 && access(key, R_OK) == 0)
        return FB_OK;
    if (make_ca(cert, key))
        return FB_OK;
    return fb_fail(err, FB_E_IO, "tls: internal: cannot write %s: %s", cert,
                   errno ? strerror(errno) : tls_why(why, sizeof why));
}

enum fb_code tls_internal_new(const char *dir, struct tls_internal **out, struct fb_err *err)
{
    char cert[PATH_BYTES], key[PATH_BYTES];
    snprintf(cert, sizeof cert, "%s/internal-ca.pem", dir);
    snprintf(key, sizeof key, "%s/internal-ca.key", dir);
    struct tls_cert ca;
    enum fb_code code = tls_cert_load(&(struct tls_cert_files){.cert = cert, .key = key}, &ca, err);
    if (code != FB_OK)
        return code;
    struct tls_internal *t = calloc(1, sizeof *t);
    EVP_PKEY *leaf_key = EVP_EC_gen("P-256");
    if (!t || !leaf_key) {
        free(t);
        EVP_PKEY_free(leaf_key);
        tls_cert_fini(&ca);
        return fb_fail(err, FB_E_NOMEM, "tls: internal: no memory");
    }
    X509_up_ref(ca.leaf);
    EVP_PKEY_up_ref(ca.key);
    t->ca = ca.leaf;
    t->ca_key = ca.key;
    t->key = leaf_key;
    pthread_mutex_init(&t->lock, NULL);
    tls_cert_fini(&ca);
    *out = t;
    return FB_OK;
}

void tls_internal_free(struct tls_internal *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->count; i++)
        X509_free(t->leaves[i].cert);
    X509_free(t->ca);
    EVP_PKEY_free(t->ca_key);
    EVP_PKEY_free(t->key);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

int tls_internal_use(struct tls_internal *t, SSL *ssl, const char *name)
{
    if (!name || !is_name(name))
        name = "localhost";
    pthread_mutex_lock(&t->lock);
    X509 *cert = NULL;
    for (uint32_t i = 0; i < t->count && !cert; i++)
        if (strcmp(t->leaves[i].name, name) == 0)
            cert = t->leaves[i].cert;
    if (!cert && (cert = make_cert(name, t->key, t->ca, t->ca_key)) != NULL) {
        if (t->count == INTERNAL_LEAVES_MAX)
            while (t->count > 0)
                X509_free(t->leaves[--t->count].cert);
        struct leaf *l = &t->leaves[t->count++];
        snprintf(l->name, sizeof l->name, "%s", name);
        l->cert = cert;
    }
    int is = cert && SSL_use_cert_and_key(ssl, cert, t->key, NULL, 1) == 1;
    pthread_mutex_unlock(&t->lock);
    return is;
}

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '.' && name[i] != '_')
            return false;
    return len > 0 && len < TLS_NAME_BYTES;
}

static bool make_ca(const char *cert_file, const char *key_file)
{
    errno = 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? make_cert(NULL, key, NULL, key) : NULL;
    /* the key first: a certificate without its key would be taken for a whole CA */
    bool is_good = cert && write_pem(key_file, NULL, key) && write_pem(cert_file, cert, NULL);
    X509_free(cert);
    EVP_PKEY_free(key);
    return is_good;
}

static bool write_pem(const char *file, X509 *cert, EVP_PKEY *key)
{
    char part[PATH_BYTES + 8];
    snprintf(part, sizeof part, "%s.part", file);
    unlink(part);
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, key ? 0600 : 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool is_good = key ? PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1
                       : PEM_write_X509(f, cert) == 1;
    is_good = fflush(f) == 0 && fsync(fd) == 0 && is_good;
    fclose(f);
    if (is_good && rename(part, file) == 0)
        return true;
    unlink(part);
    return false;
}

static bool add(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool is_good = e && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return is_good;
}

static bool set_serial(X509 *cert)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool is_good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
    BN_free(n);
    return is_good;
}

/* The CA itself when <name> is NULL. */
static X509 *make_cert(const char *name, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    char san[TLS_NAME_BYTES + 64], common[65], host[32] = "";
    if (!name) {
        gethostname(host, sizeof host - 1);
        snprintf(common, sizeof common, "foldback internal CA %s", host);
    } else {
        snprintf(common, sizeof common, "%.64s", name);
        snprintf(san, sizeof san, "DNS:%s%s", name,
                 strcmp(name, "localhost") == 0 ? ",IP:127.0.0.1,IP:::1" : "");
    }
    bool is_good =
        cert && subject && X509_set_version(cert, 2) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * (name ? LEAF_DAYS : CA_DAYS)) &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common, -1,
                                   -1, 0) == 1 &&
        X509_set_subject_name(cert, subject) == 1 &&
        X509_set_issuer_name(cert, ca ? X509_get_subject_name(ca) : subject) == 1 &&
        X509_set_pubkey(cert, key) == 1;
    X509 *issuer = ca ? ca : cert;
    is_good = is_good && add(cert, issuer, NID_subject_key_identifier, "hash") &&
              add(cert, issuer, NID_authority_key_identifier, "keyid") &&
              add(cert, issuer, NID_basic_constraints,
                  name ? "critical,CA:FALSE" : "critical,CA:TRUE,pathlen:0") &&
              add(cert, issuer, NID_key_usage,
                  name ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign");
    if (is_good && name)
        is_good = add(cert, issuer, NID_ext_key_usage, "serverAuth") &&
                  add(cert, issuer, NID_subject_alt_name, san);
    is_good = is_good && X509_sign(cert, ca_key, EVP_sha256()) > 0;
    X509_NAME_free(subject);
    if (is_good)
        return cert;
    ERR_clear_error();
    X509_free(cert);
    return NULL;
}
