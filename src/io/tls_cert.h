/* SPDX-License-Identifier: Apache-2.0 */
/* tls_cert: one certificate with its key from files, and the choice among several by name.
 *
 * A name matches a certificate that has it, else one that has *.REST of it; case does not count.
 * Threads: a loaded certificate is read-only.  Errors: IO, CONFIG; the sentence names the file. */
#ifndef FB_IO_TLS_CERT_H
#define FB_IO_TLS_CERT_H
#include "io/tls.h"

#include <openssl/x509.h>
#include <sys/types.h>
#include <time.h>

struct tls_cert {
    X509 *leaf;
    STACK_OF(X509) * chain; /* between leaf and root, as in the file */
    EVP_PKEY *key;
    unsigned char *ocsp; /* DER, NULL none */
    size_t ocsp_bytes;
    uint64_t ocsp_made_s, ocsp_until_s; /* since when it says so; it may be shown until then */
    uint64_t not_before_s, not_after_s;
};

FB_MUST_USE
enum fb_code tls_cert_load(const struct tls_cert_files *files, struct tls_cert *out,
                           struct fb_err *err);
void tls_cert_fini(struct tls_cert *c);
/* Whether <ca> (PEM) can be used to verify others.  Errors: CONFIG. */
FB_MUST_USE
enum fb_code tls_ca_check(const char *ca, struct fb_err *err);
/* Calls <put> with each DNS name and address of the certificate (its common name if it has none).
 */
void tls_cert_names(const X509 *leaf, void (*put)(void *arg, struct span name), void *arg);
uint64_t tls_time_s(const ASN1_TIME *t); /* since 1970; 0 when it is none */

/* ---- whether a file changed ---- */
struct tls_stamp {
    dev_t dev;
    ino_t ino;
    off_t bytes;
    struct timespec changed;
};
/* All zero: no file is named, or it is gone. */
void tls_stamp_of(const char *file, struct tls_stamp *out);
/* It is named and there, and cannot be opened: no descriptor is free, its disk is away. */
bool tls_is_unread(const char *file);
/* What failed for that is tried again without a change, after 1, 2, 4 .. 64 looks. */
struct tls_again {
    uint32_t wait, left; /* looks; 0: it is not */
};
bool tls_again_is_due(struct tls_again *a);
void tls_again_note(struct tls_again *a, bool is_unread);

/* ---- names -> number of a certificate ---- */
#define TLS_NAME_BYTES 254
struct tls_name {
    char *text; /* lower case */
    uint32_t index;
};
struct tls_names {
    struct tls_name *at;
    uint32_t count, room;
    bool is_sorted, has_failed;
};
void tls_names_put(struct tls_names *n, struct span name, uint32_t index); /* the first one stays */
void tls_names_sort(struct tls_names *n);                        /* before the first find */
int tls_names_find(const struct tls_names *n, struct span name); /* -1: nobody has it */
void tls_names_fini(struct tls_names *n);
#endif
