/* SPDX-License-Identifier: Apache-2.0 */
/* dns against a name server of our own on 127.0.0.1, whose answers the test changes. */
#include "base/clock.h"
#include "io/dns.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

/* ---- the server: one name, answers as the test says ---- */

enum { RCODE_OK = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3, SILENT = 99 };
static struct {
    pthread_t thread;
    int fd;
    uint16_t port;
    _Atomic bool is_ending;
    _Atomic int rcode, rcode_v6;
    _Atomic uint32_t v4_count, v6_count, first; /* 10.0.0.<first> and on */
    _Atomic uint32_t ttl_s, asked;
} server;

static size_t put_record(unsigned char *at, bool is_v6, uint32_t number)
{
    uint32_t ttl = server.ttl_s;
    const unsigned char head[] = {0xc0,
                                  12,
                                  0,
                                  is_v6 ? 28 : 1,
                                  0,
                                  1,
                                  (unsigned char)(ttl >> 24),
                                  (unsigned char)(ttl >> 16),
                                  (unsigned char)(ttl >> 8),
                                  (unsigned char)ttl,
                                  0,
                                  is_v6 ? 16 : 4};
    memcpy(at, head, sizeof head);
    unsigned char address[16] = {10};
    if (is_v6)
        memcpy(address, "\xfd\x00", 2);
    address[is_v6 ? 15 : 3] = (unsigned char)number;
    memcpy(at + sizeof head, address, is_v6 ? 16 : 4);
    return sizeof head + (is_v6 ? 16 : 4);
}

static size_t answer_to(unsigned char *m, size_t len)
{
    size_t question = 12;
    while (question < len && m[question])
        question += m[question] + 1u;
    question += 5;
    bool is_v6 = m[question - 3] == 28;
    int rcode = is_v6 && server.rcode_v6 ? server.rcode_v6 : server.rcode;
    uint32_t count = rcode != RCODE_OK ? 0 : is_v6 ? server.v6_count : server.v4_count;
    if (rcode == SILENT)
        return 0;
    m[2] = 0x81;
    m[3] = (unsigned char)(0x80 | rcode);
    memset(m + 6, 0, 6);
    m[7] = (unsigned char)count;
    for (uint32_t i = 0; i < count; i++)
        question += put_record(m + question, is_v6, server.first + i);
    return question;
}

static void *server_run(void *arg)
{
    unsigned char m[4096];
    (void)arg;
    while (!server.is_ending) {
        struct sockaddr_in from;
        socklen_t from_bytes = sizeof from;
        struct pollfd p = {.fd = server.fd, .events = POLLIN};
        if (poll(&p, 1, 50) != 1)
            continue;
        ssize_t len = recvfrom(server.fd, m, 512, 0, (struct sockaddr *)&from, &from_bytes);
        if (len < 17)
            continue;
        server.asked++;
        size_t bytes = answer_to(m, (size_t)len);
        if (bytes)
            sendto(server.fd, m, bytes, 0, (struct sockaddr *)&from, from_bytes);
    }
    return NULL;
}

static int server_start(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    server.is_ending = false;
    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (server.fd < 0 || bind(server.fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        getsockname(server.fd, (struct sockaddr *)&at, &bytes) != 0)
        return -1;
    server.port = ntohs(at.sin_port);
    server.rcode = RCODE_OK;
    server.rcode_v6 = 0;
    server.v4_count = 2;
    server.v6_count = 0;
    server.first = 1;
    server.ttl_s = 0; /* the test's own minimum holds */
    server.asked = 0;
    return pthread_create(&server.thread, NULL, server_run, NULL);
}

static int server_stop(void **state)
{
    (void)state;
    server.is_ending = true;
    pthread_join(server.thread, NULL);
    close(server.fd);
    return 0;
}

static struct dns *resolver(void)
{
    char csv[32];
    struct dns *d;
    struct fb_err err;
    snprintf(csv, sizeof csv, "127.0.0.1:%u", server.port);
    struct dns_conf conf = {.servers_csv = csv, .timeout_ms = 100, .tries = 1, .ttl_min_ms = 20};
    assert_int_equal(dns_new(&conf, &d, &err), FB_OK);
    return d;
}

/* ---- what the callback saw ---- */

struct seen {
    uint32_t calls, watch, added, removed, now, ttl_ms, ignored;
    bool is_failed;
    char why[64], first[INET6_ADDRSTRLEN];
    uint16_t port;
};

static void on_change(void *arg, const struct dns_change *c)
{
    struct seen *s = arg;
    s->calls++;
    s->watch = c->watch;
    s->added = c->added_count;
    s->removed = c->removed_count;
    s->now = c->now_count;
    s->ttl_ms = c->ttl_ms;
    s->ignored = c->ignored;
    s->is_failed = c->is_failed;
    snprintf(s->why, sizeof s->why, "%s", c->why_failed);
    if (c->now_count) {
        const union dns_address *a = &c->now[0];
        bool is_v6 = a->any.sa_family == AF_INET6;
        inet_ntop(a->any.sa_family,
                  is_v6 ? (const void *)&a->v6.sin6_addr : (const void *)&a->v4.sin_addr, s->first,
                  sizeof s->first);
        s->port = ntohs(is_v6 ? a->v6.sin6_port : a->v4.sin_port);
    }
}

/* The next change within 5 s. */
static struct seen next_change(struct dns *d)
{
    struct seen s = {0};
    uint64_t until_us = fb_mono_us() + 5 * US_PER_S;
    while (s.calls == 0 && fb_mono_us() < until_us) {
        struct pollfd p = {.fd = dns_fd(d), .events = POLLIN};
        poll(&p, 1, 200);
        dns_poll(d, on_change, &s);
    }
    assert_int_equal(s.calls, 1);
    return s;
}

/* ---- tests ---- */

static void the_first_answer_adds_all(void **state)
{
    (void)state;
    struct dns *d = resolver();
    uint32_t id = dns_watch(d, "shop.test", 8080);
    struct seen s = next_change(d);
    assert_int_equal(s.watch, id);
    assert_int_equal(s.added, 2);
    assert_int_equal(s.removed, 0);
    assert_string_equal(s.first, "10.0.0.1");
    assert_int_equal(s.port, 8080);
    assert_false(s.is_failed);
    dns_free(d);
}

static void later_answers_add_and_remove(void **state)
{
    (void)state;
    struct dns *d = resolver();
    dns_watch(d, "shop.test", 80);
    next_change(d);
    server.first = 2; /* .1 .2 become .2 .3 */
    struct seen s = next_change(d);
    assert_int_equal(s.added, 1);
    assert_int_equal(s.removed, 1);
    assert_int_equal(s.now, 2);
    server.v4_count = 1;
    s = next_change(d);
    assert_int_equal(s.added, 0);
    assert_int_equal(s.removed, 1);
    dns_free(d);
}

static void both_families_are_one_set(void **state)
{
    (void)state;
    server.v6_count = 3;
    struct dns *d = resolver();
    dns_watch(d, "shop.test", 80);
    assert_int_equal(next_change(d).now, 5);
    server.rcode_v6 = RCODE_SERVFAIL; /* one family fails: its addresses stay, the other moves */
    server.v4_count = 1;
    struct seen s = next_change(d);
    assert_int_equal(s.removed, 1);
    assert_int_equal(s.now, 4);
    assert_false(s.is_failed);
    dns_free(d);
}

static void a_failure_is_told_once_and_removes_nothing(void **state)
{
    (void)state;
    static const int failures[] = {RCODE_SERVFAIL, RCODE_NXDOMAIN, SILENT};
    for (size_t i = 0; i < FB_COUNT(failures); i++) {
        server.rcode = RCODE_OK;
        server.v4_count = 2;
        struct dns *d = resolver();
        dns_watch(d, "shop.test", 80);
        next_change(d);
        server.rcode = failures[i];
        struct seen s = next_change(d);
        assert_true(s.is_failed);
        assert_int_equal(s.added + s.removed, 0);
        assert_int_equal(s.now, 2);
        assert_true(strlen(s.why) > 3);
        uint32_t asked = server.asked; /* it goes on asking, and says nothing again */
        uint64_t until_us = fb_mono_us() + 3 * US_PER_S;
        while (server.asked < asked + 4 && fb_mono_us() < until_us)
            poll(NULL, 0, 5);
        assert_true(server.asked >= asked + 4);
        struct seen again = {0};
        assert_int_equal(dns_poll(d, on_change, &again), 0);
        server.rcode = RCODE_OK; /* well again: told, with the change that came with it */
        server.v4_count = 3;
        s = next_change(d);
        assert_false(s.is_failed);
        assert_int_equal(s.added, 1);
        dns_free(d);
    }
}

static void an_empty_answer_removes_nothing(void **state)
{
    (void)state;
    struct dns *d = resolver();
    dns_watch(d, "shop.test", 80);
    next_change(d);
    server.v4_count = 0;
    struct seen s = next_change(d);
    assert_true(s.is_failed);
    assert_int_equal(s.now, 2);
    dns_free(d);
}

static void ttls_are_clamped(void **state)
{
    (void)state;
    static const struct {
        uint32_t ttl_s, want_ms;
    } rows[] = {{0, 20}, {7, 7000}, {86400, DNS_TTL_MAX_MS}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        server.ttl_s = rows[i].ttl_s;
        struct dns *d = resolver();
        dns_watch(d, "shop.test", 80);
        assert_int_equal(next_change(d).ttl_ms, rows[i].want_ms);
        dns_free(d);
    }
}

static void numbers_need_no_server(void **state)
{
    (void)state;
    struct dns *d = resolver();
    dns_watch(d, "192.0.2.9", 443);
    struct seen s = next_change(d);
    assert_string_equal(s.first, "192.0.2.9");
    assert_int_equal(s.port, 443);
    dns_watch(d, "::1", 80);
    assert_string_equal(next_change(d).first, "::1");
    assert_int_equal(server.asked, 0);
    dns_free(d);
}

static void an_unwatched_name_is_silent_even_with_a_question_on_its_way(void **state)
{
    (void)state;
    server.rcode = SILENT;
    struct dns *d = resolver();
    uint32_t id = dns_watch(d, "shop.test", 80);
    uint64_t until_us = fb_mono_us() + 3 * US_PER_S;
    while (server.asked == 0 && fb_mono_us() < until_us)
        poll(NULL, 0, 5);
    dns_unwatch(d, id);
    server.rcode = RCODE_OK;
    uint32_t second = dns_watch(d, "other.test", 80);
    struct seen s = next_change(d);
    assert_int_equal(s.watch, second);
    assert_true(second != id);
    dns_free(d);
}

static void more_than_the_most_addresses_are_counted(void **state)
{
    (void)state;
    server.v4_count = 70; /* more than DNS_ADDRESSES_MAX; UDP with EDNS carries them */
    struct dns *d = resolver();
    dns_watch(d, "shop.test", 80);
    struct seen s = next_change(d);
    assert_int_equal(s.now, DNS_ADDRESSES_MAX);
    assert_int_equal(s.ignored, 70 - DNS_ADDRESSES_MAX);
    dns_free(d);
}

static void wrong_servers_are_an_error(void **state)
{
    (void)state;
    struct dns *d;
    struct fb_err err;
    struct dns_conf conf = {.servers_csv = "not an address"};
    assert_int_equal(dns_new(&conf, &d, &err), FB_E_IO);
    assert_non_null(strstr(err.text, "not an address"));
    assert_null(d);
}

static void many_watches_come_and_go(void **state)
{
    (void)state;
    struct dns *d = resolver();
    uint32_t ids[200];
    for (size_t i = 0; i < FB_COUNT(ids); i++) {
        char name[32];
        snprintf(name, sizeof name, "n%zu.test", i);
        ids[i] = dns_watch(d, name, 80);
        if (i % 2)
            dns_unwatch(d, ids[i - 1]);
    }
    struct seen s = {0};
    uint64_t until_us = fb_mono_us() + 5 * US_PER_S;
    while (s.calls < 100 && fb_mono_us() < until_us) {
        struct pollfd p = {.fd = dns_fd(d), .events = POLLIN};
        poll(&p, 1, 200);
        dns_poll(d, on_change, &s);
    }
    assert_true(s.calls >= 100);
    dns_free(d); /* with questions on their way */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, server_start, server_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_answer_adds_all),
        TEST(later_answers_add_and_remove),
        TEST(both_families_are_one_set),
        TEST(a_failure_is_told_once_and_removes_nothing),
        TEST(an_empty_answer_removes_nothing),
        TEST(ttls_are_clamped),
        TEST(numbers_need_no_server),
        TEST(an_unwatched_name_is_silent_even_with_a_question_on_its_way),
        TEST(more_than_the_most_addresses_are_counted),
        TEST(wrong_servers_are_an_error),
        TEST(many_watches_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
