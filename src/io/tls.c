/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls.h"

#include "base/assert.h"
#include "io/tls_int.h"
#include "io/tls_thin.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* Records of one call; with small records 64 KiB of payload are 68 KiB. */
#define OUT_BYTES (96 * KIB)
/* Payload of one send. */
#define WRITE_BYTES (64 * KIB)
/* Of what a peer can make us keep without reading. */
#define KEPT_BYTES_MAX (256 * KIB)
/* The first bytes after a quiet time travel in records of one packet each, because a receiver can
 * use nothing of a record before its last byte is there, and a slow start has ten packets. Later
 * records of 4 KiB cost little, and after 1 MiB the connection is about throughput. */
#define RECORD_SMALL_BYTES 1300
#define RECORD_MIDDLE_BYTES 4096
#define BURST_SMALL_BYTES (16 * KIB)
#define BURST_MIDDLE_BYTES (1 * MIB)
#define BURST_QUIET_MS 1000
/* Records that are read to find an alert behind them. */
#define LAST_RECORDS 64
/* It becomes a field of each request. */
#define SUBJECT_BYTES_MAX 1024
/* Without a client certificate in it a ticket has 300 bytes. */
#define TICKET_BYTES_MAX 2048

struct scratch {
    EVP_CIPHER_CTX *aead; /* for connections without an SSL */
    size_t used;
    char out[OUT_BYTES];
    char plain[TLS_RECORD_BYTES];
};
static _Thread_local struct scratch *scratch; /* one per thread, for its life */

static char *read_subject(SSL *ssl);
static bool make_scratch(void);
static BIO_METHOD *bio_method(void);
static int bio_read(BIO *b, char *at, size_t room, size_t *got);
static int bio_write(BIO *b, const char *at, size_t len, size_t *taken);
static long bio_ctrl(BIO *b, int cmd, long num, void *ptr);
static bool has_said(const struct tls_conn *c);
static bool say_goodbye(struct tls_conn *c);
static bool push(struct tls_conn *c);
static bool keep(struct tls_conn *c, const char *at, size_t len);
static bool write_kept(struct tls_conn *c);
static void forget_kept(struct tls_conn *c);
static bool hold(struct tls_conn *c);
static void unhold(struct tls_conn *c);
static ssize_t read_more(struct tls_conn *c, void *at, size_t room, bool is_peek);
static int read_some(struct tls_conn *c, void *at, size_t room, bool is_peek, size_t *n);
static bool has_pending(const struct tls_conn *c);
static size_t write_some(struct tls_conn *c, struct iovec *iov, int *count);
static void size_records(struct tls_conn *c);
static bool attach(struct tls_conn *c, int fd);

struct tls_conn *tls_accept(struct tls_server *s, int fd)
{
    struct tls_conn *c = make_scratch() ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    c->store = tls_store_take(s);
    c->ssl = SSL_new(tls_store_ctx(c->store));
    c->thin = tls_thin_new();
    if (!c->ssl || !c->thin || !attach(c, fd)) {
        tls_free(c, false);
        return NULL;
    }
    SSL_set_app_data(c->ssl, c);
    SSL_set_accept_state(c->ssl);
    return c;
}

struct tls_conn *tls_connect(struct tls_client *t, int fd, const char *name)
{
    struct tls_conn *c = make_scratch() ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    tls_client_ref(t);
    c->client = t;
    c->ssl = tls_client_ssl(t, c, name);
    if (!c->ssl || !attach(c, fd)) {
        tls_free(c, false);
        return NULL;
    }
    SSL_set_connect_state(c->ssl);
    return c;
}

void tls_free(struct tls_conn *c, bool is_clean)
{
    if (!c)
        return;
    if (is_clean && c->is_open && !c->is_dead && (!c->out || c->is_held) && say_goodbye(c))
        push(c);
    if (!is_clean && c->ssl)
        SSL_set_quiet_shutdown(c->ssl, 1);
    if (c->ssl) {
        SSL_free(c->ssl);
        ERR_clear_error();
    }
    tls_thin_free(c->thin);
    tls_store_drop(c->store);
    tls_client_unref(c->client);
    free(c->subject);
    free(c->out);
    free(c);
}

enum tls_step tls_handshake(struct tls_conn *c)
{
    if (c->is_open)
        return TLS_OK;
    if (c->is_dead)
        return TLS_FAILED;
    if (!write_kept(c)) /* the peer takes nothing: it cannot answer either */
        return c->is_dead ? TLS_FAILED : TLS_WAIT;
    c->is_drained = false;
    tls_kdf_watch(c->thin ? tls_thin_secrets(c->thin) : NULL);
    int is = SSL_do_handshake(c->ssl);
    tls_kdf_watch(NULL);
    int why = is == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, is);
    bool is_ticket = is == 1 && !c->client && !c->out && scratch->used <= TICKET_BYTES_MAX &&
                     SSL_version(c->ssl) == TLS1_3_VERSION;
    if (is == 1 && c->thin &&
        !tls_thin_begin(c->thin, c->ssl, (struct span){scratch->out, scratch->used})) {
        tls_thin_free(c->thin);
        c->thin = NULL;
    }
    bool is_out = is_ticket ? hold(c) : push(c); /* also the alert that says why it failed */
    if (is == 1) {
        c->is_open = true;
        tls_store_drop(c->store);
        c->store = NULL;
        return is_out || !c->is_dead ? TLS_OK : TLS_FAILED;
    }
    if (why == SSL_ERROR_WANT_READ && !c->is_dead)
        return TLS_WAIT;
    tls_fault_set(c, why);
    c->is_dead = true;
    return TLS_FAILED;
}

ssize_t tls_recv(struct tls_conn *c, void *at, size_t room)
{
    return read_more(c, at, room, false);
}

ssize_t tls_peek(struct tls_conn *c, void *at, size_t room)
{
    return read_more(c, at, room, true);
}

ssize_t tls_write(struct tls_conn *c, const struct iovec *iov, int count)
{
    struct iovec left[8];
    size_t total = 0, taken = 0;
    fb_assert(count > 0);
    fb_assert((size_t)count <= FB_COUNT(left));
    for (int i = 0; i < count; i++) {
        left[i] = iov[i];
        total += iov[i].iov_len;
    }
    if (c->is_held && !c->is_dead)
        unhold(c);
    if (!c->is_open || !write_kept(c)) {
        errno = c->is_dead ? EPIPE : EAGAIN;
        return -1;
    }
    struct iovec *at = left;
    while (c->owed && count) { /* they went with the records that were kept */
        size_t skip = at->iov_len < c->owed ? at->iov_len : c->owed;
        at->iov_base = (char *)at->iov_base + skip;
        at->iov_len -= skip;
        c->owed -= (uint32_t)skip;
        taken += skip;
        if (at->iov_len == 0) {
            at++;
            count--;
        }
    }
    while (taken < total && !c->is_dead && !c->out) {
        size_records(c);
        size_t sum = 0;
        for (size_t n; sum < WRITE_BYTES && (n = write_some(c, at, &count)) > 0; sum += n)
            while (count && at->iov_len == 0) {
                at++;
                count--;
            }
        if (sum == 0)
            break;
        taken += sum;
        if (c->is_ending && taken == total)
            say_goodbye(c);
        push(c);
    }
    if (c->is_dead) {
        scratch->used = 0; /* the thread's next connection begins with nothing */
        errno = EPIPE;
        return -1;
    }
    if (!c->out)
        return (ssize_t)taken;
    c->owed = 1;
    if (--taken > 0)
        return (ssize_t)taken;
    errno = EAGAIN;
    return -1;
}

bool tls_rest(struct tls_conn *c)
{
    if (!c->thin || !c->ssl || !c->is_open || c->is_dead || c->has_ended || c->is_ending ||
        c->out || !tls_thin_take(c->thin, scratch->aead, c->ssl))
        return false;
    SSL_set_quiet_shutdown(c->ssl, 1);
    SSL_free(c->ssl);
    c->ssl = NULL;
    return true;
}

void tls_end_next(struct tls_conn *c)
{
    c->is_ending = true;
}

void tls_shutdown(struct tls_conn *c)
{
    if (!c->is_open || c->is_dead)
        return;
    say_goodbye(c);
    push(c);
}

void tls_flush(struct tls_conn *c)
{
    if (c->out && c->owed == 0 && !c->is_held) /* else the caller comes back with what it keeps */
        write_kept(c);
}

bool tls_is_open(const struct tls_conn *c)
{
    return c->is_open;
}

enum tls_fault tls_fault_of(const struct tls_conn *c)
{
    return c->fault;
}

const char *tls_fault_text(const struct tls_conn *c)
{
    return c->text;
}

bool tls_is_plain_http(const struct tls_conn *c)
{
    return c->is_plain_http;
}

unsigned tls_version(const struct tls_conn *c)
{
    if (!c->is_open)
        return 0;
    return !c->ssl || SSL_version(c->ssl) == TLS1_3_VERSION ? 13 : 12;
}

struct span tls_alpn(const struct tls_conn *c)
{
    const unsigned char *at;
    unsigned len;
    if (!c->ssl)
        return (struct span){NULL, 0}; /* asked for when the connection begins */
    SSL_get0_alpn_selected(c->ssl, &at, &len);
    return (struct span){(const char *)at, len};
}

unsigned tls_cipher(const struct tls_conn *c)
{
    const SSL_CIPHER *cipher = c->ssl ? SSL_get_current_cipher(c->ssl) : NULL;
    return cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
}

bool tls_is_resumed(const struct tls_conn *c)
{
    return c->ssl && SSL_session_reused(c->ssl) == 1;
}

const char *tls_sni(const struct tls_conn *c)
{
    const char *name = !c->ssl ? NULL : SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
}

const char *tls_peer_subject(struct tls_conn *c)
{
    if (!c->subject && c->is_open && c->ssl) /* who showed one keeps its SSL */
        c->subject = read_subject(c->ssl);
    return c->subject ? c->subject : "";
}

/* NULL without memory; "" without a certificate that was verified. */
static char *read_subject(SSL *ssl)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    BIO *text = BIO_new(BIO_s_mem());
    char *at = NULL, *out = NULL;
    long len = 0;
    if (cert && text && SSL_get_verify_result(ssl) == X509_V_OK) {
        X509_NAME_print_ex(text, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
        len = BIO_get_mem_data(text, &at);
    }
    if (text && len >= 0 && len < SUBJECT_BYTES_MAX)
        out = calloc(1, (size_t)len + 1);
    bool is_good = out != NULL;
    for (long i = 0; is_good && i < len; i++) {
        is_good = at[i] >= ' ' && at[i] < 0x7f; /* others are escaped already */
        out[i] = at[i];
    }
    if (out && !is_good)
        out[0] = '\0';
    BIO_free(text);
    return out;
}

/* ---- reading ---- */

static ssize_t read_more(struct tls_conn *c, void *at, size_t room, bool is_peek)
{
    size_t got = 0;
    bool has_failed = false;
    if (!c->is_open) {
        errno = c->is_dead ? ECONNRESET : EAGAIN;
        return -1;
    }
    c->is_drained = false;
    while (got < room && !c->is_dead && !c->has_ended) {
        size_t n = 0;
        int why = read_some(c, (char *)at + got, room - got, is_peek, &n);
        if (why == SSL_ERROR_NONE) {
            got += n;
            if (is_peek || (c->is_drained && !has_pending(c)))
                break;
            continue;
        }
        if (why == SSL_ERROR_WANT_READ)
            break;
        if (why == SSL_ERROR_ZERO_RETURN) {
            c->has_ended = true;
        } else {
            if (c->ssl)
                tls_fault_set(c, why);
            has_failed = true;
            break;
        }
    }
    if (scratch->used) /* the alert too, behind what is held */
        push(c);
    c->is_dead |= has_failed;
    if (got)
        return (ssize_t)got;
    if (c->has_ended && !c->is_dead)
        return 0;
    errno = c->is_dead ? ECONNRESET : EAGAIN;
    return -1;
}

void tls_last_word(struct tls_conn *c)
{
    char bytes[1024];
    size_t n;
    int is = 1;
    if (!c->ssl || !c->is_open || c->has_ended || c->fault != TLS_FAULT_NONE)
        return;
    c->is_drained = false;
    for (int i = 0; i < LAST_RECORDS && is == 1; i++)
        is = SSL_read_ex(c->ssl, bytes, sizeof bytes, &n);
    if (is != 1 && SSL_get_error(c->ssl, is) == SSL_ERROR_SSL)
        tls_fault_set(c, SSL_ERROR_SSL);
    ERR_clear_error();
    scratch->used = 0; /* nobody hears an answer */
    c->is_dead = true;
}

/* Some bytes of the peer; an SSL_ERROR. */
static int read_some(struct tls_conn *c, void *at, size_t room, bool is_peek, size_t *n)
{
    if (c->ssl) {
        int is = is_peek ? SSL_peek_ex(c->ssl, at, room, n) : SSL_read_ex(c->ssl, at, room, n);
        return is == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, is);
    }
    bool is_drained = c->is_drained;
    struct thin_read r = {.aead = scratch->aead,
                          .at = at,
                          .room = room,
                          .fd = c->fd,
                          .is_drained = &is_drained,
                          .is_peek = is_peek};
    enum thin_step is = tls_thin_read(c->thin, &r);
    c->is_drained = is_drained;
    *n = r.got;
    if (is == THIN_FAILED) {
        c->fault = TLS_FAULT_CLOSED;
        if (r.alert >= 0)
            scratch->used +=
                tls_thin_say(c->thin, scratch->aead, r.alert, scratch->out + scratch->used);
    }
    return is == THIN_GOT     ? SSL_ERROR_NONE
           : is == THIN_WAIT  ? SSL_ERROR_WANT_READ
           : is == THIN_ENDED ? SSL_ERROR_ZERO_RETURN
                              : SSL_ERROR_SSL;
}

static bool has_pending(const struct tls_conn *c)
{
    return c->ssl ? SSL_has_pending(c->ssl) : tls_thin_has_pending(c->thin);
}

/* ---- writing ---- */

/* One record or a few from the front of <iov> into the scratch memory; how many bytes of it. */
static size_t write_some(struct tls_conn *c, struct iovec *iov, int *count)
{
    size_t n = 0, took = 0;
    const void *from = scratch->plain;
    if (*count == 0 || scratch->used + 2 * TLS_RECORD_BYTES > OUT_BYTES)
        return 0;
    if (*count == 1 || iov[0].iov_len >= c->record_bytes) {
        from = iov[0].iov_base;
        n = iov[0].iov_len < TLS_RECORD_BYTES ? iov[0].iov_len : TLS_RECORD_BYTES;
        iov[0].iov_base = (char *)iov[0].iov_base + n;
        iov[0].iov_len -= n;
    }
    for (int i = 0; from == scratch->plain && i < *count && n < c->record_bytes; i++) {
        size_t part = iov[i].iov_len < c->record_bytes - n ? iov[i].iov_len : c->record_bytes - n;
        memcpy(scratch->plain + n, iov[i].iov_base, part);
        iov[i].iov_base = (char *)iov[i].iov_base + part;
        iov[i].iov_len -= part;
        n += part;
    }
    if (n == 0)
        return 0;
    for (size_t part; !c->ssl && took < n; took += part) {
        struct span text = {(const char *)from + took,
                            n - took < c->record_bytes ? n - took : c->record_bytes};
        part = text.len;
        size_t sealed = tls_thin_write(c->thin, scratch->aead, text, scratch->out + scratch->used);
        if (sealed == 0)
            break;
        scratch->used += sealed;
    }
    if ((c->ssl && SSL_write_ex(c->ssl, from, n, &took) != 1) || took != n) {
        ERR_clear_error();
        c->is_dead = true;
        return 0;
    }
    if (c->ssl && c->thin) {
        size_t last = (n - 1) / c->record_bytes * c->record_bytes; /* begins here */
        tls_thin_meant(c->thin, (struct span){(const char *)from + last, n - last});
    }
    c->burst_bytes += (uint32_t)n;
    return n;
}

static void size_records(struct tls_conn *c)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    uint32_t now_ms = (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    if (now_ms - c->burst_ms > BURST_QUIET_MS)
        c->burst_bytes = 0;
    c->burst_ms = now_ms;
    uint16_t want = c->burst_bytes < BURST_SMALL_BYTES    ? RECORD_SMALL_BYTES
                    : c->burst_bytes < BURST_MIDDLE_BYTES ? RECORD_MIDDLE_BYTES
                                                          : TLS_RECORD_BYTES;
    if (c->burst_bytes > UINT32_MAX / 2)
        c->burst_bytes = UINT32_MAX / 2;
    if (want == c->record_bytes)
        return;
    c->record_bytes = want;
    if (!c->ssl)
        return;
    /* not max_send_fragment: that is the room of a buffer, which OpenSSL keeps when it read a
     * ticket or new keys in between, and a larger record would not fit */
    SSL_set_split_send_fragment(c->ssl, want);
}

static bool has_said(const struct tls_conn *c)
{
    return c->ssl ? (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0
                  : tls_thin_has_said(c->thin);
}

/* Into the scratch memory, once; false: it was said before. */
static bool say_goodbye(struct tls_conn *c)
{
    if (has_said(c))
        return false;
    if (!c->ssl) {
        scratch->used += tls_thin_say(c->thin, scratch->aead, 0, scratch->out + scratch->used);
        return true;
    }
    SSL_shutdown(c->ssl);
    ERR_clear_error();
    return true;
}

/* Sends what lies in the scratch memory and keeps the rest; true when nothing is left. */
static bool push(struct tls_conn *c)
{
    bool is_last = c->is_ending && has_said(c);
    size_t used = scratch->used, sent = 0;
    scratch->used = 0;
    if (c->out && used && !keep(c, scratch->out, used))
        return false;
    c->is_held = false; /* a next write would not find room for all of it */
    if (c->out)
        return write_kept(c);
    while (sent < used) {
        ssize_t n =
            send(c->fd, scratch->out + sent, used - sent, MSG_NOSIGNAL | (is_last ? MSG_MORE : 0));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->is_dead |= errno != EAGAIN;
            break;
        }
        sent += (size_t)n;
    }
    if (is_last && used &&
        sent == used) /* what MSG_MORE held back leaves now, with the end of the stream */
        shutdown(c->fd, SHUT_WR);
    if (c->is_dead || sent == used)
        return !c->is_dead;
    return keep(c, scratch->out + sent, used - sent) && false;
}

/* The session ticket that ends a handshake of TLS 1.3 travels with the first answer: a send and a
 * packet less per connection. */
static bool hold(struct tls_conn *c)
{
    size_t used = scratch->used;
    scratch->used = 0;
    c->is_held = used > 0;
    return used == 0 || keep(c, scratch->out, used);
}

static void unhold(struct tls_conn *c)
{
    scratch->used = c->out_to - c->out_from;
    memcpy(scratch->out, c->out + c->out_from, scratch->used);
    forget_kept(c);
}

static bool keep(struct tls_conn *c, const char *at, size_t len)
{
    size_t have = c->out_to - c->out_from;
    if (have + len > KEPT_BYTES_MAX) {
        c->is_dead = true;
        return false;
    }
    if (c->out_to + len > c->out_room) {
        size_t room = (have + len + 511) & ~(size_t)511;
        char *wider = malloc(room);
        if (!wider) {
            c->is_dead = true;
            return false;
        }
        if (have)
            memcpy(wider, c->out + c->out_from, have);
        free(c->out);
        c->out = wider;
        c->out_from = 0;
        c->out_to = (uint32_t)have;
        c->out_room = (uint32_t)room;
    }
    memcpy(c->out + c->out_to, at, len);
    c->out_to += (uint32_t)len;
    return true;
}

/* True when nothing is kept any more. */
static bool write_kept(struct tls_conn *c)
{
    while (c->out && !c->is_dead) {
        ssize_t n = send(c->fd, c->out + c->out_from, c->out_to - c->out_from, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->is_dead |= errno != EAGAIN;
            return false;
        }
        c->out_from += (uint32_t)n;
        if (c->out_from < c->out_to)
            continue;
        forget_kept(c);
    }
    return !c->is_dead;
}

static void forget_kept(struct tls_conn *c)
{
    free(c->out);
    c->out = NULL;
    c->out_from = c->out_to = c->out_room = 0;
    c->is_held = false;
}

/* ---- between OpenSSL and the socket ---- */

static pthread_key_t scratch_key; /* frees it when its thread ends */

static void free_scratch(void *arg)
{
    struct scratch *s = arg;
    EVP_CIPHER_CTX_free(s->aead);
    free(s);
}

static void make_key(void)
{
    int failed = pthread_key_create(&scratch_key, free_scratch);
    fb_assert(failed == 0);
}

static bool make_scratch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (scratch)
        return true;
    pthread_once(&once, make_key);
    struct scratch *s = calloc(1, sizeof *s);
    if (!s)
        return false;
    s->aead = EVP_CIPHER_CTX_new();
    if (!s->aead || pthread_setspecific(scratch_key, s) != 0) {
        free_scratch(s);
        return false;
    }
    scratch = s;
    return true;
}

static bool attach(struct tls_conn *c, int fd)
{
    BIO_METHOD *method = bio_method();
    BIO *bio = method ? BIO_new(method) : NULL;
    c->fd = fd;
    if (!bio)
        return false;
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    return true;
}

static BIO_METHOD *bio_method(void)
{
    static _Atomic(BIO_METHOD *) made; /* for the life of the process */
    BIO_METHOD *m = atomic_load_explicit(&made, memory_order_acquire), *none = NULL;
    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "foldback");
    if (!m)
        return NULL;
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    if (!atomic_compare_exchange_strong(&made, &none, m)) {
        BIO_meth_free(m);
        return none;
    }
    return m;
}

static int bio_read(BIO *b, char *at, size_t room, size_t *got)
{
    struct tls_conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    *got = 0;
    while (!c->is_drained) {
        ssize_t n = recv(c->fd, at, room, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return 0;
        c->is_drained = n < 0 || (n > 0 && (size_t)n < room);
        if (n < 0)
            break;
        if (n == 0)
            c->has_ended = true; /* as BIO_CTRL_EOF tells */
        *got = (size_t)n;
        return n > 0;
    }
    BIO_set_retry_read(b);
    return 0;
}

static int bio_write(BIO *b, const char *at, size_t len, size_t *taken)
{
    const struct tls_conn *c = BIO_get_data(b);
    *taken = 0;
    if (len > OUT_BYTES - scratch->used)
        return 0; /* a certificate chain beyond all reason */
    memcpy(scratch->out + scratch->used, at, len);
    scratch->used += len;
    if (c->thin && c->is_open)
        tls_thin_saw(c->thin, (struct span){at, len});
    *taken = len;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    const struct tls_conn *c = BIO_get_data(b);
    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_EOF)
        return c->has_ended;
    return cmd == BIO_CTRL_FLUSH;
}
