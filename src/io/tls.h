/* SPDX-License-Identifier: Apache-2.0 */
/* tls: TLS 1.2 and 1.3 on a non-blocking socket, as a server towards clients and as a client
 * towards endpoints.
 *
 *   new -> handshaking --TLS_OK--> open --tls_shutdown / end / error--> free
 *
 * Records are made into one piece of memory per thread and leave with one send per call.  What the
 * kernel does not take is kept here, and tls_write says that the last byte was not taken: so every
 * caller that keeps what was not taken also waits for us, and nobody needs to know of our bytes.
 * Reading never waits for writing, because our own records always have a place to go.
 * A connection at rest owns no buffer, and with TLS 1.3 no SSL either (tls_thin).
 * Holds always: tls_recv returns less than <room> only when the kernel had nothing more.
 * Threads: a connection belongs to one thread; servers and clients are shared.  Errors: errno. */
#ifndef FB_IO_TLS_H
#define FB_IO_TLS_H
#include "base/error.h"
#include "base/span.h"

#include <sys/types.h>

struct iovec;
struct tls_conn;
struct tls_server; /* what one listener needs; its certificates change while it serves */
struct tls_client; /* what one service needs to speak TLS to its endpoints */

enum tls_step {
    TLS_OK,   /* the handshake is over */
    TLS_WAIT, /* for the peer */
    TLS_FAILED
};
/* Why a handshake failed; the order is that of the counters in the memory file. */
enum tls_fault {
    TLS_FAULT_NONE,
    TLS_FAULT_NOT_TLS, /* the first bytes were not a TLS record */
    TLS_FAULT_VERSION, /* no common version */
    TLS_FAULT_CIPHER,  /* no common cipher, group or signature */
    TLS_FAULT_CERT,    /* the peer's certificate is missing or not accepted */
    TLS_FAULT_ALPN,    /* no common protocol */
    TLS_FAULT_ALERT,   /* the peer refused */
    TLS_FAULT_CLOSED,  /* the peer left */
    TLS_FAULT_TIMEOUT,
    TLS_FAULT_BUSY, /* too many at once */
    TLS_FAULT_OTHER,
    TLS_FAULT_COUNT
};
const char *tls_fault_name(enum tls_fault fault); /* "not_tls" */

/* ---- servers ---- */
enum tls_verify { TLS_VERIFY_OFF, TLS_VERIFY_OPTIONAL, TLS_VERIFY_REQUIRED };
struct tls_cert_files {
    const char *cert, *key; /* PEM; the chain follows the leaf in <cert> */
    const char *ocsp;       /* DER answer to staple, "" none */
};
struct tls_server_conf {
    const struct tls_cert_files *certs; /* the first one serves names that no other has */
    size_t cert_count;
    const char *internal_dir; /* "" none; else certificates are made for each name, by a CA there */
    const char *client_ca;    /* PEM, "" none */
    enum tls_verify verify;
    const char *ciphers; /* of TLS 1.2, "" the default */
    const char *alpn;    /* "h2,http/1.1" in our order of preference */
    bool is_13_only;
    bool is_patient;             /* files that are not good stop nothing: see tls_server_new */
    struct tls_tickets *tickets; /* NULL: no resumption; lives longer than the server */
};
/* Reads all files; the texts of <conf> are copied.  Errors: CONFIG, IO; the sentence names the
 * file.  A patient one succeeds with the certificates that are good, which may be none: handshakes
 * that need another one fail until tls_server_poll finds its file good; <err> has the sentence. */
FB_MUST_USE
enum fb_code tls_server_new(const struct tls_server_conf *conf, struct tls_server **out,
                            struct fb_err *err);
struct tls_server *tls_server_ref(struct tls_server *s);
void tls_server_unref(struct tls_server *s); /* connections go on; NULL is fine */
enum tls_poll { TLS_POLL_SAME, TLS_POLL_NEW, TLS_POLL_REFUSED };
/* Looks whether a file changed and takes it when it is good; what is not good changes nothing and
 * <err> says why, once per change.  A file that could not be opened is tried again. */
enum tls_poll tls_server_poll(struct tls_server *s, struct fb_err *err);
struct tls_cert_info {
    char name[64];                          /* first name in it */
    char file[128];                         /* the end of its path */
    uint64_t not_after_s;                   /* since 1970 */
    uint64_t staple_made_s, staple_until_s; /* of its OCSP answer; 0: none */
};
/* How many of <room> were filled. */
size_t tls_server_certs(struct tls_server *s, struct tls_cert_info *out, size_t room);
/* Makes the leaf certificate for each name that a client asks for; the CA is written to <dir> when
 * there is none yet. */
FB_MUST_USE
enum fb_code tls_internal_init(const char *dir, struct fb_err *err);

/* ---- clients ---- */
struct tls_client_conf {
    const char *ca;         /* PEM, "" the system's */
    const char *name;       /* SNI and expected name, "" none: then the address is what counts */
    const char *cert, *key; /* "" none */
    const char *alpn;       /* "h2,http/1.1", "" none */
    bool is_unverified;
    bool is_patient; /* as that of a server: files that are not good stop nothing */
};
/* Reads the files; the texts of <conf> are copied.  A patient one succeeds without them: it is shut
 * until tls_client_poll finds them good, and <err> has the sentence.  Errors: CONFIG, IO, NOMEM. */
FB_MUST_USE
enum fb_code tls_client_new(const struct tls_client_conf *conf, struct tls_client **out,
                            struct fb_err *err);
/* As tls_server_poll; connections that are open go on with what they began with. */
enum tls_poll tls_client_poll(struct tls_client *t, struct fb_err *err);
bool tls_client_is_shut(
    const struct tls_client *t); /* its files were never good: no connection begins */
void tls_client_ref(struct tls_client *t);
void tls_client_unref(struct tls_client *t); /* NULL is fine */

/* ---- connections ---- */
/* NULL without memory.  <fd> stays the caller's. */
struct tls_conn *tls_accept(struct tls_server *s, int fd);
/* <name>: the host that was asked for, used when the configuration names none.  NULL also when the
 * client is shut. */
struct tls_conn *tls_connect(struct tls_client *t, int fd, const char *name);
/* Before the handshake: only this protocol is asked for (ALPN), whatever the client's conf says. */
void tls_offer(struct tls_conn *c, const char *protocol);
/* Says goodbye when <is_clean> and it is possible without waiting. */
void tls_free(struct tls_conn *c, bool is_clean);

enum tls_step tls_handshake(struct tls_conn *c);
bool tls_is_open(const struct tls_conn *c);
enum tls_fault tls_fault_of(const struct tls_conn *c);
const char *tls_fault_text(const struct tls_conn *c); /* what is known beyond the fault */
unsigned tls_alert(const struct tls_conn *c);         /* of the peer (RFC 8446 section 6); 0 none */
/* An endpoint refused our certificate, or wanted one and got none.  With TLS 1.3 it says so after
 * the handshake. */
bool tls_is_cert_refused(const struct tls_conn *c);
/* The connection broke: an alert that came before that is taken note of. */
void tls_last_word(struct tls_conn *c);
/* It spoke HTTP without TLS. */
bool tls_is_plain_http(const struct tls_conn *c);

ssize_t tls_recv(struct tls_conn *c, void *at, size_t room);
ssize_t tls_peek(struct tls_conn *c, void *at, size_t room);
ssize_t tls_write(struct tls_conn *c, const struct iovec *iov, int count);
/* What is written next is the last: once all of it is taken, our goodbye and TCP's end go with it
 * in one packet. */
void tls_end_next(struct tls_conn *c);
void tls_shutdown(struct tls_conn *c);
/* What waits for the kernel goes on its way; called when the socket takes bytes again. */
void tls_flush(struct tls_conn *c);

/* Nobody speaks for a while: gives up what only the handshake needed, once.  False: it stays as it
 * is (TLS 1.2, a client certificate, bytes under way). */
bool tls_rest(struct tls_conn *c);

/* 12, 13; 0 before the handshake. */
unsigned tls_version(const struct tls_conn *c);
struct span tls_alpn(const struct tls_conn *c); /* empty: none was agreed */
unsigned tls_cipher(const struct tls_conn *c);  /* IANA's number, when the connection begins */
bool tls_is_resumed(const struct tls_conn *c);
/* The name that the client asked for, "" none. */
const char *tls_sni(const struct tls_conn *c);
/* Subject of the peer's certificate as one line (RFC 4514) of visible characters; "" without one.
 */
const char *tls_peer_subject(struct tls_conn *c);
#endif
