/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_thin.h"

#include "base/assert.h"
#include "base/base.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* RFC 8446 section 5. */
#define HEAD_BYTES 5
#define TAG_BYTES 16
#define IV_BYTES 12
#define PLAIN_BYTES_MAX 16384
#define SEALED_BYTES_MAX (PLAIN_BYTES_MAX + 256)
#define IN_BYTES (HEAD_BYTES + SEALED_BYTES_MAX)
/* AES-GCM may seal 2^24.5 full records with one key (RFC 8446 section 5.5). */
#define RECORDS_PER_KEY (UINT64_C(1) << 23)
/* In a row; OpenSSL's bound for empty ones. */
#define IDLE_RECORDS_MAX 32
enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };
enum { MESSAGE_KEY_UPDATE = 24, KEY_UPDATE_BYTES = 5 };
/* Of OpenSSL's last record; fewer than the least prove nothing. */
enum { PROOF_BYTES = 16, PROOF_BYTES_MIN = 4 };
enum {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_USER_CANCELED = 90
};

struct suite {
    uint16_t id; /* as on the wire */
    bool is_384;
    uint8_t key_bytes;
    const char *name;
    _Atomic(EVP_CIPHER *) cipher; /* for the life of the process */
};
static struct suite suites[] = {{0x1301, false, 16, "AES-128-GCM", NULL},
                                {0x1302, true, 32, "AES-256-GCM", NULL},
                                {0x1303, false, 32, "ChaCha20-Poly1305", NULL}};

struct way { /* one direction */
    uint64_t records;
    unsigned char key[32], iv[IV_BYTES];
};
struct tls_thin {
    struct tls_secrets secrets;
    struct way in, out;
    const struct suite *suite;
    char *buf;                /* IN_BYTES while something lies in it */
    uint32_t from, to;        /* as it came */
    uint32_t plain, plain_to; /* of the record that is opened */
    uint8_t idle_records, message_bytes;
    unsigned char message[KEY_UPDATE_BYTES]; /* in parts, as a peer may send it */
    uint8_t proof_bytes;
    unsigned char proof[PROOF_BYTES], proof_sealed[PROOF_BYTES];
    uint64_t seen; /* records that OpenSSL wrote, counted by their heads */
    bool is_stuck; /* its state is not what we counted: it stays OpenSSL's */
    bool has_said_goodbye, is_update_due;
};

static void on_record(int is_write, int version, int type, const void *at, size_t len, SSL *ssl,
                      void *arg);
static const struct suite *suite_of(uint16_t id);
static bool is_proven(struct tls_thin *t, EVP_CIPHER_CTX *aead);
static void make_keys(const struct suite *s, const unsigned char *secret, struct way *w);
static void update(struct tls_thin *t, bool is_out);
static size_t seal(struct tls_thin *t, EVP_CIPHER_CTX *aead, int type, struct span text,
                   unsigned char *out);
static int open_record(struct tls_thin *t, EVP_CIPHER_CTX *aead, int *alert);
static int take_control(struct tls_thin *t, int type, struct span text, int *alert);
static int take_message(struct tls_thin *t, struct span text, int *alert);
static bool begin_record(struct tls_thin *t, const struct way *w, EVP_CIPHER_CTX *aead,
                         const unsigned char *head, bool is_out);
static void let_go(struct tls_thin *t);

struct tls_thin *tls_thin_new(void)
{
    return calloc(1, sizeof(struct tls_thin));
}

struct tls_thin *tls_thin_of(uint16_t suite, const struct tls_secrets *secrets)
{
    const struct suite *s = suite_of(suite);
    struct tls_thin *t = s ? tls_thin_new() : NULL;
    if (!t)
        return NULL;
    t->suite = s;
    t->secrets = *secrets;
    make_keys(s, t->secrets.client, &t->in);
    make_keys(s, t->secrets.server, &t->out);
    return t;
}

void tls_thin_free(struct tls_thin *t)
{
    if (!t)
        return;
    free(t->buf);
    OPENSSL_cleanse(t, sizeof *t);
    free(t);
}

struct tls_secrets *tls_thin_secrets(struct tls_thin *t)
{
    return &t->secrets;
}

bool tls_thin_begin(struct tls_thin *t, SSL *ssl, struct span sent)
{
    const SSL_SESSION *session = SSL_get0_session(ssl);
    if (SSL_version(ssl) != TLS1_3_VERSION || SSL_get0_peer_certificate(ssl) || !session ||
        SSL_SESSION_get_max_fragment_length(session) != TLSEXT_max_fragment_length_DISABLED)
        return false;
    tls_thin_saw(t, sent); /* tickets */
    t->out.records = t->seen;
    SSL_set_msg_callback(ssl, on_record);
    SSL_set_msg_callback_arg(ssl, t);
    return true;
}

void tls_thin_saw(struct tls_thin *t, struct span records)
{
    t->proof_bytes = 0;
    while (records.len) {
        const unsigned char *at = (const unsigned char *)records.at;
        size_t len =
            records.len < HEAD_BYTES ? SIZE_MAX : HEAD_BYTES + (size_t)(at[3] << 8) + at[4];
        t->is_stuck |= at[0] != TYPE_DATA || len > records.len;
        if (t->is_stuck)
            return;
        t->seen++;
        if (len >= HEAD_BYTES + PROOF_BYTES)
            memcpy(t->proof_sealed, at + HEAD_BYTES, PROOF_BYTES);
        records.at += len;
        records.len -= len;
    }
}

void tls_thin_meant(struct tls_thin *t, struct span text)
{
    t->proof_bytes = (uint8_t)(text.len < PROOF_BYTES ? text.len : PROOF_BYTES);
    memcpy(t->proof, text.at, t->proof_bytes);
}

static void on_record(int is_write, int version, int type, const void *at, size_t len, SSL *ssl,
                      void *arg)
{
    struct tls_thin *t = arg;
    (void)version;
    (void)ssl;
    if (type == SSL3_RT_HEADER)
        (is_write ? &t->out : &t->in)->records++;
    else if (type == SSL3_RT_HANDSHAKE && len > 0 &&
             *(const unsigned char *)at == MESSAGE_KEY_UPDATE)
        t->is_stuck = true;
}

bool tls_thin_take(struct tls_thin *t, EVP_CIPHER_CTX *aead, SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const struct suite *s = cipher ? suite_of(SSL_CIPHER_get_protocol_id(cipher)) : NULL;
    if (t->is_stuck || !s || !t->secrets.has_client || !t->secrets.has_server ||
        !SSL_is_init_finished(ssl) || SSL_get_shutdown(ssl) != 0 || SSL_has_pending(ssl) ||
        strcmp(SSL_rstate_string(ssl), "RH") != 0)
        return false;
    t->suite = s;
    make_keys(s, t->secrets.client, &t->in);
    make_keys(s, t->secrets.server, &t->out);
    return is_proven(t, aead);
}

/* What is sealed here leaves this function never: it is the same text with the same nonce. */
static bool is_proven(struct tls_thin *t, EVP_CIPHER_CTX *aead)
{
    static const unsigned char head[HEAD_BYTES];
    unsigned char sealed[PROOF_BYTES];
    struct way last = t->out;
    int n = 0;
    last.records--;
    bool is = t->proof_bytes >= PROOF_BYTES_MIN && t->out.records > 0 &&
              t->out.records == t->seen && begin_record(t, &last, aead, head, true) &&
              EVP_EncryptUpdate(aead, sealed, &n, t->proof, t->proof_bytes) == 1 &&
              n == t->proof_bytes && memcmp(sealed, t->proof_sealed, t->proof_bytes) == 0;
    OPENSSL_cleanse(&last, sizeof last);
    OPENSSL_cleanse(t->proof, sizeof t->proof);
    t->proof_bytes = 0;
    return is;
}

static const struct suite *suite_of(uint16_t id)
{
    for (size_t i = 0; i < FB_COUNT(suites); i++) {
        struct suite *s = &suites[i];
        EVP_CIPHER *none = NULL, *made;
        if (id != s->id)
            continue;
        if (atomic_load_explicit(&s->cipher, memory_order_acquire))
            return s;
        made = EVP_CIPHER_fetch(NULL, s->name, NULL);
        if (made && !atomic_compare_exchange_strong(&s->cipher, &none, made))
            EVP_CIPHER_free(made);
        return made ? s : NULL;
    }
    return NULL;
}

static void make_keys(const struct suite *s, const unsigned char *secret, struct way *w)
{
    tls_kdf_expand(s->is_384, secret, "key", w->key, s->key_bytes);
    tls_kdf_expand(s->is_384, secret, "iv", w->iv, IV_BYTES);
}

/* The next generation of one direction's keys. */
static void update(struct tls_thin *t, bool is_out)
{
    struct way *w = is_out ? &t->out : &t->in;
    unsigned char *secret = is_out ? t->secrets.server : t->secrets.client;
    unsigned char fresh[TLS_SECRET_BYTES_MAX];
    size_t len = t->suite->is_384 ? 48 : 32;
    tls_kdf_expand(t->suite->is_384, secret, "traffic upd", fresh, len);
    memcpy(secret, fresh, len);
    OPENSSL_cleanse(fresh, sizeof fresh);
    make_keys(t->suite, secret, w);
    w->records = 0;
}

/* ---- out ---- */

size_t tls_thin_write(struct tls_thin *t, EVP_CIPHER_CTX *aead, struct span text, void *out)
{
    static const char request[] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0};
    unsigned char *to = out;
    size_t used = 0;
    if (t->out.records >= RECORDS_PER_KEY)
        t->is_update_due = true;
    if (t->is_update_due) {
        used = seal(t, aead, TYPE_HANDSHAKE, (struct span){request, sizeof request}, to);
        if (used == 0)
            return 0;
        t->is_update_due = false;
        update(t, true);
    }
    size_t n = seal(t, aead, TYPE_DATA, text, to + used);
    return n ? used + n : 0;
}

size_t tls_thin_say(struct tls_thin *t, EVP_CIPHER_CTX *aead, int alert, void *out)
{
    const char text[2] = {alert == ALERT_CLOSE_NOTIFY ? 1 : 2, (char)alert};
    t->has_said_goodbye = true;
    return seal(t, aead, TYPE_ALERT, (struct span){text, 2}, out);
}

bool tls_thin_has_said(const struct tls_thin *t)
{
    return t->has_said_goodbye;
}

/* One record; 0 when OpenSSL fails. */
static size_t seal(struct tls_thin *t, EVP_CIPHER_CTX *aead, int type, struct span text,
                   unsigned char *out)
{
    size_t sealed = text.len + 1 + TAG_BYTES;
    const unsigned char last = (unsigned char)type;
    int n = 0, more = 0, end = 0;
    fb_assert(text.len <= PLAIN_BYTES_MAX);
    out[0] = TYPE_DATA;
    out[1] = out[2] = 3;
    out[3] = (unsigned char)(sealed >> 8);
    out[4] = (unsigned char)(sealed & 0xff);
    unsigned char *body = out + HEAD_BYTES;
    if (!begin_record(t, &t->out, aead, out, true) ||
        EVP_EncryptUpdate(aead, body, &n, (const unsigned char *)text.at, (int)text.len) != 1 ||
        EVP_EncryptUpdate(aead, body + n, &more, &last, 1) != 1 ||
        EVP_EncryptFinal_ex(aead, body + n + more, &end) != 1 ||
        (size_t)(n + more + end) != text.len + 1 ||
        EVP_CIPHER_CTX_ctrl(aead, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, body + text.len + 1) != 1)
        return 0;
    t->out.records++;
    return HEAD_BYTES + sealed;
}

static bool begin_record(struct tls_thin *t, const struct way *w, EVP_CIPHER_CTX *aead,
                         const unsigned char *head, bool is_out)
{
    const EVP_CIPHER *cipher = atomic_load_explicit(&t->suite->cipher, memory_order_acquire);
    unsigned char nonce[IV_BYTES];
    int none;
    memcpy(nonce, w->iv, IV_BYTES);
    for (int i = 0; i < 8; i++)
        nonce[IV_BYTES - 1 - i] ^= (unsigned char)(w->records >> (8 * i));
    const EVP_CIPHER *other = EVP_CIPHER_CTX_get0_cipher(aead) == cipher ? NULL : cipher;
    return EVP_CipherInit_ex(aead, other, NULL, w->key, nonce, is_out) == 1 &&
           EVP_CipherUpdate(aead, NULL, &none, head, HEAD_BYTES) == 1;
}

/* ---- in ---- */

enum thin_step tls_thin_read(struct tls_thin *t, struct thin_read *r)
{
    r->alert = -1;
    for (int is = 0;;) {
        if (t->plain < t->plain_to) {
            size_t n = t->plain_to - t->plain < r->room ? t->plain_to - t->plain : r->room;
            memcpy(r->at, t->buf + t->plain, n);
            r->got = n;
            if (!r->is_peek)
                t->plain += (uint32_t)n;
            let_go(t);
            return THIN_GOT;
        }
        is = open_record(t, r->aead, &r->alert);
        if (is == THIN_FAILED || is == THIN_ENDED)
            return (enum thin_step)is;
        if (is == THIN_GOT)
            continue;
        if (*r->is_drained)
            break;
        if (!t->buf && !(t->buf = malloc(IN_BYTES))) {
            r->alert = ALERT_INTERNAL_ERROR;
            return THIN_FAILED;
        }
        memmove(t->buf, t->buf + t->from, t->to - t->from);
        t->to -= t->from;
        t->from = t->plain = t->plain_to = 0;
        size_t room = IN_BYTES - t->to;
        ssize_t n = recv(r->fd, t->buf + t->to, room, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return THIN_FAILED;
        *r->is_drained = n < 0 || (n > 0 && (size_t)n < room);
        if (n == 0)
            return THIN_ENDED;
        if (n > 0)
            t->to += (uint32_t)n;
    }
    let_go(t);
    return THIN_WAIT;
}

bool tls_thin_has_pending(const struct tls_thin *t)
{
    return t->plain < t->plain_to || t->from < t->to;
}

/* An idle connection owns no buffer. */
static void let_go(struct tls_thin *t)
{
    if (t->plain < t->plain_to || t->from < t->to)
        return;
    free(t->buf);
    t->buf = NULL;
    t->from = t->to = t->plain = t->plain_to = 0;
}

/* The next whole record of <buf>: THIN_GOT (its text lies in <plain>, if it is the caller's),
 * THIN_WAIT for its rest, or the end. */
static int open_record(struct tls_thin *t, EVP_CIPHER_CTX *aead, int *alert)
{
    int n = 0, end = 0;
    if (t->to - t->from < HEAD_BYTES)
        return THIN_WAIT;
    unsigned char *head = (unsigned char *)t->buf + t->from;
    size_t sealed = (size_t)(head[3] << 8) + head[4];
    if (head[0] != TYPE_DATA) {
        *alert = ALERT_UNEXPECTED_MESSAGE;
        return THIN_FAILED;
    }
    if (sealed > SEALED_BYTES_MAX || sealed < TAG_BYTES + 1) {
        *alert = sealed < TAG_BYTES + 1 ? ALERT_BAD_RECORD_MAC : ALERT_RECORD_OVERFLOW;
        return THIN_FAILED;
    }
    if (t->to - t->from < HEAD_BYTES + sealed)
        return THIN_WAIT;
    size_t len = sealed - TAG_BYTES;
    unsigned char *text = head + HEAD_BYTES;
    if (!begin_record(t, &t->in, aead, head, false) ||
        EVP_DecryptUpdate(aead, text, &n, text, (int)len) != 1 ||
        EVP_CIPHER_CTX_ctrl(aead, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, text + len) != 1 ||
        EVP_DecryptFinal_ex(aead, text + n, &end) != 1 || (size_t)(n + end) != len) {
        *alert = ALERT_BAD_RECORD_MAC;
        return THIN_FAILED;
    }
    t->in.records++;
    t->from += (uint32_t)(HEAD_BYTES + sealed);
    if (len > PLAIN_BYTES_MAX + 1) { /* with its padding */
        *alert = ALERT_RECORD_OVERFLOW;
        return THIN_FAILED;
    }
    while (len > 0 && text[len - 1] == 0) /* padding */
        len--;
    int type = len ? text[--len] : 0;
    if (type == 0 || (t->message_bytes && type != TYPE_HANDSHAKE)) { /* nothing comes between */
        *alert = ALERT_UNEXPECTED_MESSAGE;
        return THIN_FAILED;
    }
    if (type != TYPE_DATA || len == 0) {
        if (++t->idle_records > IDLE_RECORDS_MAX) {
            *alert = ALERT_UNEXPECTED_MESSAGE;
            return THIN_FAILED;
        }
        return type == TYPE_DATA
                   ? THIN_GOT
                   : take_control(t, type, (struct span){(const char *)text, len}, alert);
    }
    t->idle_records = 0;
    t->plain = (uint32_t)(text - (unsigned char *)t->buf);
    t->plain_to = t->plain + (uint32_t)len;
    return THIN_GOT;
}

static int take_control(struct tls_thin *t, int type, struct span text, int *alert)
{
    const unsigned char *at = (const unsigned char *)text.at;
    if (type == TYPE_ALERT && text.len == 2) {
        if (at[1] == ALERT_USER_CANCELED)
            return THIN_GOT;
        return at[1] == ALERT_CLOSE_NOTIFY ? THIN_ENDED : THIN_FAILED;
    }
    if (type == TYPE_HANDSHAKE)
        return take_message(t, text, alert);
    *alert = type == TYPE_ALERT && text.len ? ALERT_DECODE_ERROR : ALERT_UNEXPECTED_MESSAGE;
    return THIN_FAILED;
}

/* An update of its keys, the only message that a client may send now, whole or in parts; keys
 * change at a record's end. */
static int take_message(struct tls_thin *t, struct span text, int *alert)
{
    unsigned char *m = t->message;
    size_t have = t->message_bytes;
    if (text.len == 0 || text.len > KEY_UPDATE_BYTES - have ||
        (have ? m[0] : (unsigned char)text.at[0]) != MESSAGE_KEY_UPDATE) {
        *alert = ALERT_UNEXPECTED_MESSAGE;
        return THIN_FAILED;
    }
    memcpy(m + have, text.at, text.len);
    t->message_bytes = (uint8_t)(have + text.len);
    if (t->message_bytes >= 4 && (m[1] != 0 || m[2] != 0 || m[3] != 1)) {
        *alert = ALERT_DECODE_ERROR;
        return THIN_FAILED;
    }
    if (t->message_bytes < KEY_UPDATE_BYTES)
        return THIN_GOT;
    if (m[4] > 1) {
        *alert = ALERT_ILLEGAL_PARAMETER;
        return THIN_FAILED;
    }
    t->message_bytes = 0;
    update(t, false);
    t->is_update_due |= m[4] == 1; /* with what is written next: many requests are one answer */
    return THIN_GOT;
}
