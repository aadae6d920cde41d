/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_cert.h"

#include "base/assert.h"
#include "io/tls_int.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OCSP_BYTES_MAX (64 * KIB)
#define CHAIN_MAX 16
#define AGAIN_LOOKS_MAX 64

static enum fb_code load_chain(const char *file, struct tls_cert *out, struct fb_err *err);
static enum fb_code load_key(const struct tls_cert_files *f, struct tls_cert *c,
                             struct fb_err *err);
static enum fb_code load_ocsp(const char *file, struct tls_cert *c, struct fb_err *err);
static const char *judge_ocsp(struct tls_cert *c, OCSP_RESPONSE *r);

enum fb_code tls_cert_load(const struct tls_cert_files *files, struct tls_cert *out,
                           struct fb_err *err)
{
    *out = (struct tls_cert){0};
    ERR_clear_error();
    enum fb_code code = load_chain(files->cert, out, err);
    if (code == FB_OK)
        code = load_key(files, out, err);
    if (code == FB_OK && files->ocsp && files->ocsp[0])
        code = load_ocsp(files->ocsp, out, err);
    if (code != FB_OK)
        tls_cert_fini(out);
    return code;
}

void tls_cert_fini(struct tls_cert *c)
{
    X509_free(c->leaf);
    sk_X509_pop_free(c->chain, X509_free);
    EVP_PKEY_free(c->key);
    free(c->ocsp);
    *c = (struct tls_cert){0};
}

uint64_t tls_time_s(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return 0;
    time_t s = timegm(&tm);
    return s > 0 ? (uint64_t)s : 0;
}

void tls_cert_names(const X509 *leaf, void (*put)(void *arg, struct span name), void *arg)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool has_any = false;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_DNS)
            continue;
        const ASN1_STRING *s = g->d.dNSName;
        struct span name = {(const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)};
        has_any = true;
        if (!memchr(name.at, 0, name.len))
            put(arg, name);
    }
    GENERAL_NAMES_free(names);
    char text[TLS_NAME_BYTES];
    int len = has_any ? 0
                      : X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, text,
                                                  sizeof text);
    if (len > 0 && !memchr(text, 0, (size_t)len))
        put(arg, (struct span){text, (size_t)len});
}

enum fb_code tls_ca_check(const char *ca, struct fb_err *err)
{
    char why[160];
    X509_STORE *store = X509_STORE_new();
    bool is_good = store && X509_STORE_load_locations(store, ca, NULL) == 1;
    X509_STORE_free(store);
    if (is_good)
        return FB_OK;
    return fb_fail(err, FB_E_CONFIG, "tls: ca %s cannot be used (%s); it must be PEM", ca,
                   tls_why(why, sizeof why));
}

void tls_stamp_of(const char *file, struct tls_stamp *out)
{
    struct stat st;
    memset(out, 0, sizeof *out); /* compared as bytes */
    if (!file || !file[0] || stat(file, &st) != 0)
        return;
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->bytes = st.st_size;
    out->changed = st.st_ctim; /* who may read it counts too */
}

bool tls_is_unread(const char *file)
{
    if (!file || !file[0])
        return false;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno != ENOENT;
}

bool tls_again_is_due(struct tls_again *a)
{
    return a->left > 0 && --a->left == 0;
}

void tls_again_note(struct tls_again *a, bool is_unread)
{
    a->wait = !is_unread ? 0 : a->wait ? fb_min_u32(2 * a->wait, AGAIN_LOOKS_MAX) : 1;
    a->left = a->wait;
}

static enum fb_code load_chain(const char *file, struct tls_cert *out, struct fb_err *err)
{
    char why[160];
    FILE *f = fopen(file, "re");
    if (!f)
        return fb_fail(err, FB_E_IO, "tls: certificate %s: %s", file, strerror(errno));
    out->leaf = PEM_read_X509_AUX(f, NULL, NULL, NULL);
    out->chain = sk_X509_new_null();
    enum fb_code code = FB_OK;
    if (!out->leaf)
        code = fb_fail(err, FB_E_CONFIG,
                       "tls: %s holds no certificate (%s); it must be PEM, the leaf first", file,
                       tls_why(why, sizeof why));
    while (code == FB_OK && out->chain) {
        X509 *more = PEM_read_X509(f, NULL, NULL, NULL);
        if (!more)
            break;
        if (sk_X509_num(out->chain) >= CHAIN_MAX || sk_X509_push(out->chain, more) <= 0) {
            X509_free(more);
            code = fb_fail(err, FB_E_CONFIG, "tls: %s: the chain has more than %d certificates",
                           file, CHAIN_MAX);
        }
    }
    unsigned long last = ERR_peek_last_error();
    if (code == FB_OK && last && ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
        code = fb_fail(err, FB_E_CONFIG, "tls: %s: the chain is damaged (%s)", file,
                       tls_why(why, sizeof why));
    ERR_clear_error();
    fclose(f);
    if (code != FB_OK)
        return code;
    out->not_before_s = tls_time_s(X509_get0_notBefore(out->leaf));
    out->not_after_s = tls_time_s(X509_get0_notAfter(out->leaf));
    return FB_OK;
}

/* No terminal to ask on. */
static int no_password(char *at, int room, int is_writing, void *arg)
{
    (void)at;
    (void)room;
    (void)is_writing;
    (void)arg;
    return -1;
}

static enum fb_code load_key(const struct tls_cert_files *files, struct tls_cert *c,
                             struct fb_err *err)
{
    char why[160];
    FILE *f = fopen(files->key, "re");
    if (!f)
        return fb_fail(err, FB_E_IO, "tls: key %s: %s", files->key, strerror(errno));
    c->key = PEM_read_PrivateKey(f, NULL, no_password, NULL);
    fclose(f);
    if (!c->key)
        return fb_fail(err, FB_E_CONFIG,
                       "tls: %s holds no private key (%s); it must be PEM without a password",
                       files->key, tls_why(why, sizeof why));
    if (X509_check_private_key(c->leaf, c->key) == 1)
        return FB_OK;
    ERR_clear_error();
    return fb_fail(err, FB_E_CONFIG, "tls: the key %s does not belong to the certificate %s",
                   files->key, files->cert);
}

static enum fb_code load_ocsp(const char *file, struct tls_cert *c, struct fb_err *err)
{
    FILE *f = fopen(file, "re");
    if (!f)
        return fb_fail(err, FB_E_IO, "tls: OCSP answer %s: %s", file, strerror(errno));
    unsigned char *at = malloc(OCSP_BYTES_MAX);
    size_t len = at ? fread(at, 1, OCSP_BYTES_MAX, f) : 0;
    fclose(f);
    const unsigned char *from = at;
    OCSP_RESPONSE *r = len ? d2i_OCSP_RESPONSE(NULL, &from, (long)len) : NULL;
    const char *why = r ? judge_ocsp(c, r) : "it is not an OCSP answer in DER";
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    if (why) {
        free(at);
        return fb_fail(err, FB_E_CONFIG, "tls: %s: %s", file, why);
    }
    c->ocsp = at;
    c->ocsp_bytes = len;
    return FB_OK;
}

/* NULL when it says that this certificate is good. */
static const char *judge_ocsp(struct tls_cert *c, OCSP_RESPONSE *r)
{
    if (OCSP_response_status(r) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return "the OCSP responder answered with an error";
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(r);
    const char *why = "the OCSP answer is about another certificate";
    for (int i = 0; basic && i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
        ASN1_INTEGER *serial = NULL;
        ASN1_GENERALIZEDTIME *made = NULL;
        ASN1_GENERALIZEDTIME *next = NULL;
        OCSP_id_get0_info(NULL, NULL, NULL, &serial,
                          (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(one));
        if (!serial || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(c->leaf)) != 0)
            continue;
        int status = OCSP_single_get0_status(one, NULL, NULL, &made, &next);
        why = status == V_OCSP_CERTSTATUS_GOOD ? NULL : "the OCSP answer says that it is revoked";
        c->ocsp_made_s = made ? tls_time_s(made) : 0;
        c->ocsp_until_s = next ? tls_time_s(next) : UINT64_MAX;
        break;
    }
    OCSP_BASICRESP_free(basic);
    return why;
}

/* ---- names ---- */

static int by_text(const void *a, const void *b)
{
    const struct tls_name *x = a, *y = b;
    int is = strcmp(x->text, y->text);
    return is ? is : x->index < y->index ? -1 : x->index > y->index;
}

static int text_of(const void *key, const void *row)
{
    return strcmp(key, ((const struct tls_name *)row)->text);
}

void tls_names_put(struct tls_names *n, struct span name, uint32_t index)
{
    if (name.len == 0 || name.len >= TLS_NAME_BYTES)
        return;
    if (n->count == n->room) {
        uint32_t room = n->room ? 2 * n->room : 16;
        struct tls_name *wider = realloc(n->at, room * sizeof *wider);
        if (!wider) {
            n->has_failed = true;
            return;
        }
        n->at = wider;
        n->room = room;
    }
    char *text = malloc(name.len + 1);
    if (!text) {
        n->has_failed = true;
        return;
    }
    for (size_t i = 0; i < name.len; i++)
        text[i] = (char)tolower((unsigned char)name.at[i]);
    text[name.len] = '\0';
    n->at[n->count++] = (struct tls_name){text, index};
    n->is_sorted = false;
}

void tls_names_sort(struct tls_names *n)
{
    uint32_t kept = 0;
    if (n->count)
        qsort(n->at, n->count, sizeof *n->at, by_text);
    for (uint32_t i = 0; i < n->count; i++) {
        if (kept && strcmp(n->at[kept - 1].text, n->at[i].text) == 0)
            free(n->at[i].text);
        else
            n->at[kept++] = n->at[i];
    }
    n->count = kept;
    n->is_sorted = true;
}

int tls_names_find(const struct tls_names *n, struct span name)
{
    char text[TLS_NAME_BYTES + 1];
    fb_assert(n->is_sorted || n->count == 0);
    if (name.len && name.at[name.len - 1] == '.')
        name.len--; /* the root may be written */
    if (name.len == 0 || name.len >= TLS_NAME_BYTES || n->count == 0)
        return -1;
    for (size_t i = 0; i < name.len; i++)
        text[i] = (char)tolower((unsigned char)name.at[i]);
    text[name.len] = '\0';
    const struct tls_name *is = bsearch(text, n->at, n->count, sizeof *n->at, text_of);
    char *dot = is ? NULL : strchr(text, '.');
    if (dot && dot > text) { /* "a.example" asks for "*.example" */
        dot[-1] = '*';
        is = bsearch(dot - 1, n->at, n->count, sizeof *n->at, text_of);
    }
    return is ? (int)is->index : -1;
}

void tls_names_fini(struct tls_names *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        free(n->at[i].text);
    free(n->at);
    *n = (struct tls_names){0};
}
