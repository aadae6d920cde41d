/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of TLS 1.3 that gave up its SSL, against a client of OpenSSL. */
#include "io/tls_thin.h"

#include "thin_peer.h"

#include "base/base.h"
#include "io/tls_int.h"
#include "io/tls_ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define ROUNDS_MAX 100000
#define TEXT_BYTES 300000

struct pair {
    struct tls_tickets tickets;
    struct tls_server *server;
    struct tls_conn *conn;
    SSL_CTX *ctx;
    SSL *client;
    int fd[2]; /* the client's, ours */
    char dir[64];
};
static char text[TEXT_BYTES];

static void begin_in(struct pair *p, int version, const char *suites, uint8_t fragments)
{
    struct fb_err err = {0};
    *p = (struct pair){.dir = "/tmp/fb-thin-XXXXXX"};
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 31 + i / 251);
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(tls_internal_init(p->dir, &err), FB_OK);
    assert_true(tickets_init(&p->tickets, 3600 * US_PER_S, 1));
    const struct tls_server_conf conf = {
        .internal_dir = p->dir, .alpn = "http/1.1", .tickets = &p->tickets};
    assert_int_equal(tls_server_new(&conf, &p->server, &err), FB_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fd), 0);
    p->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(p->ctx, version);
    if (suites)
        assert_int_equal(SSL_CTX_set_ciphersuites(p->ctx, suites), 1);
    p->client = SSL_new(p->ctx);
    SSL_set_fd(p->client, p->fd[0]);
    SSL_set_connect_state(p->client);
    SSL_set_tlsext_max_fragment_length(p->client, fragments);
    p->conn = tls_accept(p->server, p->fd[1]);
    assert_non_null(p->conn);
    for (int i = 0;; i++) {
        assert_true(i < ROUNDS_MAX);
        int is = SSL_do_handshake(p->client);
        enum tls_step step = tls_handshake(p->conn);
        assert_int_not_equal(step, TLS_FAILED);
        if (is == 1 && step == TLS_OK)
            break;
    }
}

static void begin(struct pair *p, int version, const char *suites)
{
    begin_in(p, version, suites, TLSEXT_max_fragment_length_DISABLED);
}

static void end(struct pair *p)
{
    char name[100];
    tls_free(p->conn, false);
    SSL_free(p->client);
    SSL_CTX_free(p->ctx);
    tls_server_unref(p->server);
    tickets_fini(&p->tickets);
    close(p->fd[0]);
    close(p->fd[1]);
    snprintf(name, sizeof name, "%s/internal-ca.pem", p->dir);
    unlink(name);
    snprintf(name, sizeof name, "%s/internal-ca.key", p->dir);
    unlink(name);
    rmdir(p->dir);
}

/* <len> bytes towards the client arrive as they were. */
static void answer(struct pair *p, size_t len)
{
    size_t sent = 0, got = 0;
    static char in[TEXT_BYTES];
    for (int i = 0; got < len; i++) {
        assert_true(i < ROUNDS_MAX);
        size_t n = 0;
        struct iovec iov[2] = {{text + sent, (len - sent) / 3},
                               {text + sent + (len - sent) / 3, len - sent - (len - sent) / 3}};
        if (sent < len) {
            ssize_t is = tls_write(p->conn, iov, 2);
            assert_true(is > 0 || errno == EAGAIN);
            sent += is > 0 ? (size_t)is : 0;
        }
        if (SSL_read_ex(p->client, in + got, len - got, &n) == 1)
            got += n;
        else
            assert_int_equal(SSL_get_error(p->client, 0), SSL_ERROR_WANT_READ);
    }
    assert_memory_equal(in, text, len);
}

/* <len> bytes of the client arrive as they were. */
static void ask(struct pair *p, size_t len, size_t room)
{
    size_t sent = 0, got = 0;
    static char in[TEXT_BYTES];
    for (int i = 0; got < len; i++) {
        assert_true(i < ROUNDS_MAX);
        size_t n = 0;
        if (sent < len && SSL_write_ex(p->client, text + sent, len - sent, &n) == 1)
            sent += n;
        char byte = 0;
        ssize_t is = tls_peek(p->conn, &byte, 1);
        if (is > 0)
            assert_int_equal(byte, text[got]);
        is = tls_recv(p->conn, in + got, room < len - got ? room : len - got);
        assert_true(is > 0 || errno == EAGAIN);
        got += is > 0 ? (size_t)is : 0;
    }
    assert_memory_equal(in, text, len);
}

static void begin_resting(struct pair *p, const char *suite)
{
    begin(p, TLS1_3_VERSION, suite);
    ask(p, 100, 4096);
    answer(p, 5000);
    assert_true(tls_rest(p->conn));
    assert_false(tls_rest(p->conn));
}

static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                     "TLS_CHACHA20_POLY1305_SHA256"};

static void bytes_of_every_size_go_both_ways_after_a_rest(void **state)
{
    static const size_t sizes[] = {1, 2, 1299, 1300, 1301, 16383, 16384, 16385, 100000, TEXT_BYTES};
    (void)state;
    for (size_t s = 0; s < FB_COUNT(suites); s++) {
        struct pair p;
        begin_resting(&p, suites[s]);
        for (size_t i = 0; i < FB_COUNT(sizes); i++) {
            ask(&p, sizes[i], i % 2 ? 7000 : TEXT_BYTES);
            answer(&p, sizes[i]);
        }
        end(&p);
    }
}

static void a_rest_before_the_first_byte_and_one_after_many_count_the_same(void **state)
{
    struct pair p;
    (void)state;
    begin(&p, TLS1_3_VERSION, NULL);
    answer(&p, 4); /* what is held back of the handshake is out */
    assert_true(tls_rest(p.conn));
    ask(&p, 20000, 4096);
    answer(&p, 20000);
    end(&p);
    begin(&p, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 40; i++) { /* through every size of records */
        ask(&p, 20000, 4096);
        answer(&p, 50000);
    }
    assert_true(tls_rest(p.conn));
    ask(&p, 20000, 4096);
    answer(&p, 20000);
    end(&p);
}

static void keys_are_updated_when_the_client_says_so(void **state)
{
    (void)state;
    for (size_t s = 0; s < FB_COUNT(suites); s++) {
        struct pair p;
        begin_resting(&p, suites[s]);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(SSL_key_update(p.client, i % 2 ? SSL_KEY_UPDATE_REQUESTED
                                                            : SSL_KEY_UPDATE_NOT_REQUESTED),
                             1);
            ask(&p, 3000, 4096);
            answer(&p, 3000);
        }
        end(&p);
    }
}

/* Reading new keys (or, of an endpoint, a ticket) makes OpenSSL keep the buffer of that moment. */
static void records_grow_also_when_keys_changed_while_they_were_small(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    for (size_t i = 0; i < FB_COUNT(versions); i++) {
        struct pair p;
        begin(&p, versions[i], NULL);
        answer(&p, 20000); /* in small ones; the next are larger */
        if (versions[i] == TLS1_3_VERSION)
            assert_int_equal(SSL_key_update(p.client, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        ask(&p, 100, 4096);
        for (int k = 0; k < 8; k++)
            answer(&p, TEXT_BYTES);
        assert_int_equal(p.conn->record_bytes, TLS_RECORD_BYTES);
        end(&p);
    }
}

/* A client with little memory (RFC 6066 section 4): OpenSSL keeps its promise, tls_thin would not.
 */
static void who_asked_for_short_records_gets_them_and_stays_with_openssl(void **state)
{
    struct pair p;
    struct iovec iov = {text, 3000};
    unsigned char wire[8192];
    (void)state;
    begin_in(&p, TLS1_3_VERSION, NULL, TLSEXT_max_fragment_length_512);
    ask(&p, 100, 4096);
    assert_int_equal(tls_write(p.conn, &iov, 1), 3000);
    ssize_t got = recv(p.fd[0], wire, sizeof wire, MSG_PEEK);
    for (ssize_t at = 0; at < got; at += 5 + (wire[at + 3] << 8) + wire[at + 4])
        assert_true((wire[at + 3] << 8) + wire[at + 4] <= 512 + 17);
    assert_true(got > 3000);
    for (size_t n, all = 0; all < 3000; all += n)
        assert_int_equal(SSL_read_ex(p.client, wire, 3000 - all, &n), 1);
    answer(&p, 100);
    assert_false(tls_rest(p.conn));
    end(&p);
}

static void keys_that_changed_before_the_rest_stay_with_openssl(void **state)
{
    struct pair p;
    (void)state;
    begin(&p, TLS1_3_VERSION, NULL);
    ask(&p, 100, 4096);
    assert_int_equal(SSL_key_update(p.client, SSL_KEY_UPDATE_REQUESTED), 1);
    ask(&p, 100, 4096);
    answer(&p, 100);
    assert_false(tls_rest(p.conn));
    ask(&p, 100, 4096);
    answer(&p, 100);
    end(&p);
}

/* Whatever made the counter or a key wrong: nothing is sealed with it. */
static void a_counter_or_a_key_that_is_not_openssls_is_found_out(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 5; wrong++) {
        struct pair p;
        struct iovec iov = {text, 100};
        begin(&p, TLS1_3_VERSION, suites[wrong % 3]);
        if (wrong == 0) /* nobody tells of the records */
            SSL_set_msg_callback(p.conn->ssl, NULL);
        if (wrong == 3)
            answer(&p, 3); /* too little to prove anything */
        else
            answer(&p, 5000);
        if (wrong == 1) { /* both counts are one too high */
            assert_int_equal(tls_write(p.conn, &iov, 1), 100);
            static const char ticket[] = "\x17\x03\x03\x00\x01z";
            assert_true(tls_thin_begin(p.conn->thin, p.conn->ssl, (struct span){ticket, 6}));
            tls_thin_meant(p.conn->thin, (struct span){text, 16});
        }
        if (wrong == 2)
            tls_thin_secrets(p.conn->thin)->server[31] ^= 1;
        if (wrong == 4) /* a record of which we do not know the text */
            assert_int_equal(SSL_write(p.conn->ssl, text, 100), 100);
        assert_false(tls_rest(p.conn));
        if (wrong == 4) {
            tls_shutdown(p.conn); /* what lies there goes out */
        } else {
            assert_int_equal(tls_write(p.conn, &iov, 1), 100);
            assert_non_null(p.conn->ssl);
        }
        end(&p);
    }
}

static void nothing_is_kept_of_who_will_never_rest(void **state)
{
    struct pair p;
    (void)state;
    begin(&p, TLS1_2_VERSION, NULL);
    assert_null(p.conn->thin);
    answer(&p, 100);
    end(&p);
}

static void a_dead_connection_leaves_nothing_to_the_next_one(void **state)
{
    struct pair dead, p;
    struct iovec iov = {text, 100};
    (void)state;
    begin(&dead, TLS1_3_VERSION, NULL);
    assert_true(dead.conn->is_held); /* its ticket */
    dead.conn->is_dead = true;
    assert_int_equal(tls_write(dead.conn, &iov, 1), -1);
    begin(&p, TLS1_3_VERSION, NULL);
    ask(&p, 100, 4096);
    answer(&p, 5000);
    end(&p);
    end(&dead);
}

static void half_a_record_and_older_versions_stay_with_openssl(void **state)
{
    struct pair p;
    char byte;
    (void)state;
    for (size_t len = 1; len < 10; len++) {
        static const char head[] = "\x17\x03\x03\x00\x40zzzzz";
        begin(&p, TLS1_3_VERSION, NULL);
        answer(&p, 1);
        assert_int_equal(send(p.fd[0], head, len, 0), (ssize_t)len);
        assert_int_equal(tls_recv(p.conn, &byte, 1), -1);
        assert_int_equal(errno, EAGAIN);
        assert_false(tls_rest(p.conn));
        end(&p);
    }
    begin(&p, TLS1_2_VERSION, NULL);
    ask(&p, 100, 4096);
    answer(&p, 100);
    assert_false(tls_rest(p.conn));
    end(&p);
}

static void a_goodbye_is_said_and_heard_after_a_rest(void **state)
{
    struct pair p;
    char byte;
    size_t n;
    (void)state;
    begin_resting(&p, NULL);
    tls_shutdown(p.conn);
    tls_shutdown(p.conn);
    assert_int_equal(SSL_read_ex(p.client, &byte, 1, &n), 0);
    assert_int_equal(SSL_get_error(p.client, 0), SSL_ERROR_ZERO_RETURN);
    ask(&p, 100, 4096); /* the other half is still open */
    SSL_shutdown(p.client);
    assert_int_equal(tls_recv(p.conn, &byte, 1), 0);
    end(&p);
}

static void the_last_answer_carries_the_goodbye_after_a_rest(void **state)
{
    struct pair p;
    char byte;
    size_t n;
    (void)state;
    begin_resting(&p, NULL);
    tls_end_next(p.conn);
    answer(&p, 3000);
    assert_int_equal(SSL_read_ex(p.client, &byte, 1, &n), 0);
    assert_int_equal(SSL_get_error(p.client, 0), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(recv(p.fd[0], &byte, 1, 0), 0); /* and TCP's end */
    end(&p);
}

/* What is not a good record ends the connection, and the client hears why. */
static void bad_records_end_the_connection_with_an_alert(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int reason;
    } rows[] = {
        {"\x17\x03\x03\x00\x20"
         "0123456789abcdef0123456789abcdef",
         37, SSL_R_SSLV3_ALERT_BAD_RECORD_MAC},
        {"\x17\x03\x03\x00\x10"
         "0123456789abcdef",
         21, SSL_R_SSLV3_ALERT_BAD_RECORD_MAC},
        {"\x17\x03\x03\x41\x01", 5, SSL_R_TLSV1_ALERT_RECORD_OVERFLOW},
        {"\x14\x03\x03\x00\x01\x01", 6, SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
        {"\x15\x03\x03\x00\x02\x02\x28", 7, SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
        {"\x16\x03\x03\x00\x01\x01", 6, SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
        {"GET / HTTP/1.1\r\n\r\n", 18, SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
    };
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct pair p;
        char byte;
        size_t n;
        begin_resting(&p, NULL);
        assert_int_equal(send(p.fd[0], rows[i].bytes, rows[i].len, 0), (ssize_t)rows[i].len);
        assert_int_equal(tls_recv(p.conn, &byte, 1), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_int_equal(tls_recv(p.conn, &byte, 1), -1);
        struct iovec iov = {text, 10};
        assert_int_equal(tls_write(p.conn, &iov, 1), -1);
        ERR_clear_error();
        assert_int_equal(SSL_read_ex(p.client, &byte, 1, &n), 0);
        assert_int_equal(SSL_get_error(p.client, 0), SSL_ERROR_SSL);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), rows[i].reason);
        end(&p);
    }
}

static void a_peer_that_leaves_without_a_goodbye_is_an_end(void **state)
{
    struct pair p;
    char byte;
    (void)state;
    begin_resting(&p, NULL);
    shutdown(p.fd[0], SHUT_WR);
    assert_int_equal(tls_recv(p.conn, &byte, 1), 0);
    end(&p);
}

static void updates_without_data_do_not_go_on_for_ever(void **state)
{
    struct pair p;
    char byte;
    int updates = 0;
    (void)state;
    begin_resting(&p, NULL);
    for (; updates < 100; updates++) {
        SSL_key_update(p.client, SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(p.client);
        if (tls_recv(p.conn, &byte, 1) < 0 && errno != EAGAIN)
            break;
    }
    assert_true(updates > 10 && updates < 100);
    end(&p);
}

#define TEXT(literal)                                                                              \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }
/* What OpenSSL would not send: each text ends with its type. */
static void rare_records_are_taken_or_refused_as_the_rfc_says(void **state)
{
    static const struct {
        struct span inner[3];
        enum thin_step step;
        int alert;
    } rows[] = {
        {{TEXT("x\x17\0\0\0")}, THIN_GOT, -1},
        {{TEXT("\x17"), TEXT("y\x17")}, THIN_GOT, -1},
        {{TEXT("\0\0\0")}, THIN_FAILED, 10},
        {{TEXT("\x16")}, THIN_FAILED, 10},
        {{TEXT("\x15")}, THIN_FAILED, 10},
        {{TEXT("\1\0\0\x15")}, THIN_FAILED, 50},
        {{TEXT("\1\x14")}, THIN_FAILED, 10},
        {{TEXT("\1\0\x15")}, THIN_ENDED, -1},
        {{TEXT("\2\x28\x15")}, THIN_FAILED, -1},
        {{TEXT("\1\x5a\x15"), TEXT("y\x17")}, THIN_GOT, -1},
        {{TEXT("\x18\0\x16"), TEXT("\0\1\0\x16"), TEXT("y\x17")}, THIN_GOT, -1},
        {{TEXT("\x18\0\x16"), TEXT("y\x17")}, THIN_FAILED, 10},
        {{TEXT("\x18\0\0\1\0\x18\x16")}, THIN_FAILED, 10},
        {{TEXT("\x18\0\0\2\x16")}, THIN_FAILED, 50},
        {{TEXT("\x18\0\0\1\2\x16")}, THIN_FAILED, 47},
        {{TEXT("\4\0\0\1\0\x16")}, THIN_FAILED, 10},
    };
    static const struct tls_secrets secrets = {.client = {1}, .server = {2}};
    EVP_CIPHER_CTX *aead = EVP_CIPHER_CTX_new();
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct tls_thin *t = tls_thin_of(0x1301, &secrets);
        struct thin_peer peer = {.secret = {1}};
        unsigned char out[64];
        int fd[2];
        char at[8];
        bool is_drained = false;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        for (int n = 0; n < 3 && rows[i].inner[n].len; n++) {
            if (n == 2)
                thin_peer_update(&peer);
            size_t len = thin_peer_seal(&peer, rows[i].inner[n], out);
            assert_int_equal(send(fd[0], out, len, 0), (ssize_t)len);
        }
        struct thin_read r = {
            .aead = aead, .at = at, .room = 8, .fd = fd[1], .is_drained = &is_drained};
        assert_int_equal(tls_thin_read(t, &r), rows[i].step);
        assert_int_equal(r.alert, rows[i].alert);
        tls_thin_free(t);
        close(fd[0]);
        close(fd[1]);
    }
    EVP_CIPHER_CTX_free(aead);
}

static void a_record_beyond_its_bound_is_refused_with_its_padding(void **state)
{
    static const struct tls_secrets secrets = {.client = {1}, .server = {2}};
    static char inner[16386], at[16384];
    static unsigned char out[sizeof inner + PEER_MORE_BYTES];
    EVP_CIPHER_CTX *aead = EVP_CIPHER_CTX_new();
    (void)state;
    inner[0] = 'x';
    inner[1] = 23;
    for (size_t len = sizeof inner - 1; len <= sizeof inner; len++) {
        struct tls_thin *t = tls_thin_of(0x1301, &secrets);
        struct thin_peer peer = {.secret = {1}};
        bool is_drained = false;
        int fd[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        size_t n = thin_peer_seal(&peer, (struct span){inner, len}, out);
        assert_int_equal(send(fd[0], out, n, 0), (ssize_t)n);
        struct thin_read r = {
            .aead = aead, .at = at, .room = sizeof at, .fd = fd[1], .is_drained = &is_drained};
        assert_int_equal(tls_thin_read(t, &r), len == sizeof inner ? THIN_FAILED : THIN_GOT);
        assert_int_equal(r.alert, len == sizeof inner ? 22 : -1);
        tls_thin_free(t);
        close(fd[0]);
        close(fd[1]);
    }
    EVP_CIPHER_CTX_free(aead);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_every_size_go_both_ways_after_a_rest),
        cmocka_unit_test(a_rest_before_the_first_byte_and_one_after_many_count_the_same),
        cmocka_unit_test(keys_are_updated_when_the_client_says_so),
        cmocka_unit_test(keys_that_changed_before_the_rest_stay_with_openssl),
        cmocka_unit_test(records_grow_also_when_keys_changed_while_they_were_small),
        cmocka_unit_test(who_asked_for_short_records_gets_them_and_stays_with_openssl),
        cmocka_unit_test(a_counter_or_a_key_that_is_not_openssls_is_found_out),
        cmocka_unit_test(nothing_is_kept_of_who_will_never_rest),
        cmocka_unit_test(a_dead_connection_leaves_nothing_to_the_next_one),
        cmocka_unit_test(half_a_record_and_older_versions_stay_with_openssl),
        cmocka_unit_test(a_goodbye_is_said_and_heard_after_a_rest),
        cmocka_unit_test(the_last_answer_carries_the_goodbye_after_a_rest),
        cmocka_unit_test(bad_records_end_the_connection_with_an_alert),
        cmocka_unit_test(a_peer_that_leaves_without_a_goodbye_is_an_end),
        cmocka_unit_test(rare_records_are_taken_or_refused_as_the_rfc_says),
        cmocka_unit_test(a_record_beyond_its_bound_is_refused_with_its_padding),
        cmocka_unit_test(updates_without_data_do_not_go_on_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
