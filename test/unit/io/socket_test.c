/* SPDX-License-Identifier: Apache-2.0 */
#include "io/socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct row {
    const char *says, *text, *want; /* want NULL: refused */
};
#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }

static const struct row rows[] = {
    ROW("IPv4", .text = "127.0.0.1:80", .want = "127.0.0.1:80"),
    ROW("IPv6 in brackets", .text = "[::1]:8080", .want = "[::1]:8080"),
    ROW("a mapped address is written as IPv4", .text = "[::ffff:10.0.0.1]:1", .want = "10.0.0.1:1"),
    ROW("no host is all addresses", .text = ":8080", .want = "[::]:8080"),
    ROW("a star is all addresses", .text = "*:8080", .want = "[::]:8080"),
    ROW("port 0 is legal", .text = "127.0.0.1:0", .want = "127.0.0.1:0"),
    ROW("a port too large", .text = "127.0.0.1:65536"),
    ROW("no port", .text = "127.0.0.1"),
    ROW("an empty port", .text = "127.0.0.1:"),
    ROW("a name is not an address", .text = "localhost:80"),
    ROW("IPv6 without brackets", .text = "::1:80"),
    ROW("a bracket left open", .text = "[::1:80"),
    ROW("a part too large", .text = "127.0.0.256:80"),
    ROW("nothing", .text = ""),
};

static void addresses_are_read_and_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct sock_addr a, again;
        struct fb_err err;
        char text[SOCK_TEXT_BYTES];
        enum fb_code code = sock_parse(span_of(rows[i].text), &a, &err);
        if (!rows[i].want) {
            if (code != FB_E_USAGE)
                fail_msg("%s: was taken", rows[i].says);
            assert_non_null(strstr(err.text, "expected"));
            continue;
        }
        if (code != FB_OK)
            fail_msg("%s: was refused", rows[i].says);
        sock_format(&a, text);
        assert_string_equal(text, rows[i].want);
        assert_int_equal(sock_parse(span_of(text), &again, NULL), FB_OK);
        assert_int_equal(sock_port(&a), sock_port(&again));
    }
}

static void equal_addresses_have_equal_ports(void **state)
{
    (void)state;
    struct sock_addr a, b, c, d;
    assert_true(sock_parse_host(SPAN("10.0.0.1"), 80, &a));
    assert_true(sock_parse_host(SPAN("10.0.0.1"), 80, &b));
    assert_true(sock_parse_host(SPAN("10.0.0.1"), 81, &c));
    assert_true(sock_parse_host(SPAN("::1"), 80, &d));
    assert_true(sock_eq(&a, &b));
    assert_false(sock_eq(&a, &c));
    assert_false(sock_eq(&a, &d));
}

static void an_inherited_number_that_does_not_listen_is_refused(void **state)
{
    (void)state;
    int fd;
    struct fb_err err;
    assert_int_equal(sock_listen("fd:9999", &fd, 1, &err), FB_E_IO);
    assert_int_equal(sock_listen("fd:x", &fd, 1, &err), FB_E_USAGE);
    assert_non_null(strstr(err.text, "fd:NUMBER"));
}

static void a_named_socket_is_found_behind_the_third_descriptor(void **state)
{
    (void)state;
    int fd, fds[1];
    char names[400] = "";
    assert_int_equal(sock_listen("127.0.0.1:0", fds, 1, NULL), FB_OK);
    for (int i = 3; i < fds[0]; i++)
        strcat(names, "other:");
    strcat(names, "web:admin");
    setenv("LISTEN_FDNAMES", names, 1);
    assert_int_equal(sock_listen("fd:web", &fd, 1, NULL), FB_OK);
    assert_int_equal(fd, fds[0]);
    assert_int_equal(sock_listen("fd:we", &fd, 1, NULL), FB_E_USAGE);
    assert_int_equal(sock_listen("fd:", &fd, 1, NULL), FB_E_USAGE);
    unsetenv("LISTEN_FDNAMES");
    assert_int_equal(sock_listen("fd:web", &fd, 1, NULL), FB_E_USAGE);
    close(fds[0]);
}

static void congestion_control_is(int fd, const char *want)
{
    char name[16] = "";
    socklen_t bytes = sizeof name - 1;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &bytes), 0);
    assert_string_equal(name, want);
}

static void both_ends_inside_the_machine_do_without_a_model_of_the_path(void **state)
{
    (void)state;
    struct fb_err err;
    struct sock_addr to, peer;
    int listener, fd;
    assert_int_equal(sock_listen("127.0.0.1:0", &listener, 1, &err), FB_OK);
    assert_true(sock_local(listener, &to));
    int why = sock_connect(&to, &fd);
    assert_true(why == 0 || why == EINPROGRESS);
    struct pollfd came = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&came, 1, 10000), 1);
    int accepted = sock_accept(listener, &peer);
    assert_true(accepted >= 0);
    congestion_control_is(fd, "reno");
    congestion_control_is(accepted, "reno");
    close(accepted);
    close(fd);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(equal_addresses_have_equal_ports),
        cmocka_unit_test(an_inherited_number_that_does_not_listen_is_refused),
        cmocka_unit_test(a_named_socket_is_found_behind_the_third_descriptor),
        cmocka_unit_test(both_ends_inside_the_machine_do_without_a_model_of_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
