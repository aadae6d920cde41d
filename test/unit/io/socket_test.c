/* SPDX-License-Identifier: Apache-2.0 */
#include "io/socket.h"

#include "io/socket_path.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* ---- Unix sockets ---- */

static const struct row unix_rows[] = {
    ROW("a path", .text = "unix:/run/app.sock", .want = "unix:/run/app.sock"),
    ROW("an abstract name", .text = "unix:@app", .want = "unix:@app"),
    ROW("no path", .text = "unix:"),
    ROW("a root alone", .text = "unix:/"),
    ROW("a relative path", .text = "unix:run/app.sock"),
    ROW("another scheme", .text = "unix@/run/app.sock"),
};

static void paths_are_read_and_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(unix_rows); i++) {
        struct sock_addr a = {.bytes = 0};
        char text[SOCK_TEXT_BYTES], host[SOCK_HOST_BYTES];
        bool is_good = sock_parse_endpoint(span_of(unix_rows[i].text), 0, &a);
        if (is_good != (unix_rows[i].want != NULL))
            fail_msg("%s: was %s", unix_rows[i].says, is_good ? "taken" : "refused");
        if (!is_good)
            continue;
        sock_format(&a, text);
        assert_string_equal(text, unix_rows[i].want);
        sock_format_host(&a, text);
        assert_string_equal(text, unix_rows[i].want);
        assert_true(sock_is_unix(&a));
        assert_int_equal(sock_port(&a), 0);
        assert_int_equal(sock_host_text(&a, host), 4); /* "unix" */
    }
    struct sock_addr a;
    assert_true(sock_parse_endpoint(SPAN("10.0.0.1"), 80, &a));
    assert_false(sock_is_unix(&a));
    assert_int_equal(sizeof(struct sock_addr), sizeof(struct sockaddr_in6) + sizeof(socklen_t));
}

/* What a client says is read by these: nothing of it may stay in the table. */
static void addresses_that_clients_say_are_never_paths(void **state)
{
    (void)state;
    struct sock_addr a;
    assert_false(sock_parse_host(SPAN("unix:/run/app.sock"), 0, &a));
    assert_int_equal(sock_parse(SPAN("unix:/run/app.sock:80"), &a, NULL), FB_E_USAGE);
    assert_int_equal(sock_parse(SPAN("unix:/run/app.sock"), &a, NULL), FB_E_USAGE);
}

static void the_longest_path_fits(void **state)
{
    (void)state;
    char host[5 + SOCKET_PATH_BYTES_MAX + 2] = "unix:/", text[SOCK_TEXT_BYTES];
    struct sock_addr a;
    memset(host + 6, 'x', SOCKET_PATH_BYTES_MAX - 1);
    assert_true(sock_parse_endpoint(span_of(host), 0, &a));
    sock_format(&a, text);
    assert_string_equal(text, host);
    host[5 + SOCKET_PATH_BYTES_MAX] = 'x';
    assert_false(sock_parse_endpoint(span_of(host), 0, &a));
}

static void equal_paths_are_equal_addresses(void **state)
{
    (void)state;
    struct sock_addr a, b, c, ip, none = {.un = {.family = AF_UNIX}, .bytes = sizeof none.un};
    assert_true(sock_parse_endpoint(SPAN("unix:/run/a"), 0, &a));
    assert_true(sock_parse_endpoint(SPAN("unix:/run/a"), 0, &b));
    assert_true(sock_parse_endpoint(SPAN("unix:@run/a"), 0, &c));
    assert_true(sock_parse_host(SPAN("::"), 0, &ip));
    assert_true(sock_eq(&a, &b));
    assert_false(sock_eq(&a, &c));
    assert_false(sock_eq(&a, &ip));
    assert_false(sock_eq(&none, &none)); /* two clients without a name */
}

static int listen_at(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 0), 0);
    return fd;
}

static int connect_to(const char *path)
{
    char host[5 + SOCKET_PATH_BYTES_MAX + 1];
    struct sock_addr to;
    int fd;
    snprintf(host, sizeof host, "unix:%s", path);
    assert_true(sock_parse_endpoint(span_of(host), 0, &to));
    int why = sock_connect(&to, &fd);
    assert_int_equal(why != 0, fd < 0);
    if (fd >= 0)
        close(fd);
    return why;
}

static void each_way_to_fail_has_its_own_word(void **state)
{
    (void)state;
    char folder[] = "/tmp/socket_test.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a", folder);
    assert_int_equal(connect_to(path), ENOENT);
    assert_int_equal(socket_path_look(path), ENOENT);
    int listener = listen_at(path), held[16], count = 0;
    assert_int_equal(socket_path_look(path), 0);
    struct sock_addr to, peer;
    assert_true(sock_local(listener, &to)); /* as it is told of an inherited one */
    int why = 0;
    while (count < 16 && (why = sock_connect(&to, &held[count])) == 0)
        count++;
    assert_int_equal(why, EAGAIN);
    int accepted = sock_accept(listener, &peer);
    assert_true(accepted >= 0);
    assert_true(sock_is_unix(&peer));
    assert_int_equal(peer.un.path, 0);
    close(accepted);
    close(listener);
    while (count)
        close(held[--count]);
    assert_int_equal(connect_to(path), ECONNREFUSED);
    unlink(path);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(socket_path_look(path), ENOTSOCK);
    unlink(path);
    rmdir(folder);
    assert_non_null(strstr(socket_path_why(ENOENT), "does not exist"));
    assert_non_null(strstr(socket_path_why(EACCES), "no permission"));
    assert_non_null(strstr(socket_path_why(ECONNREFUSED), "nobody listens"));
    assert_non_null(strstr(socket_path_why(EAGAIN), "backlog"));
}

#define RACERS 4
#define RACED 100
static uint32_t raced[RACERS][RACED];

static void *race(void *arg)
{
    size_t me = (size_t)(uintptr_t)arg;
    for (size_t i = 0; i < RACED * 3; i++) { /* 7 and 100 have no divisor in common: all come */
        size_t k = (i * 7 + me * 13) % RACED;
        char path[32];
        snprintf(path, sizeof path, "/raced/%zu", k);
        raced[me][k] = socket_path_number(span_of(path));
    }
    return NULL;
}

static void threads_that_meet_at_a_path_get_one_number(void **state)
{
    (void)state;
    pthread_t thread[RACERS];
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, race, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < RACERS; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < RACED; i++) {
        char path[32];
        snprintf(path, sizeof path, "/raced/%zu", i);
        assert_string_equal(socket_path_text(raced[0][i]), path);
        for (size_t t = 1; t < RACERS; t++)
            assert_int_equal(raced[t][i], raced[0][i]);
    }
}

/* Ours is taken away; that of who came there meanwhile is his. */
static void only_a_file_where_nobody_listens_is_removed(void **state)
{
    (void)state;
    char folder[] = "/tmp/socket_test.XXXXXX", address[64];
    int ours, his;
    struct fb_err err;
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "unix:%s/a.sock", folder);
    assert_int_equal(sock_listen(address, &ours, 1, &err), FB_OK);
    assert_int_equal(unlink(address + 5), 0);
    assert_int_equal(sock_listen(address, &his, 1, &err), FB_OK);
    shutdown(ours, SHUT_RDWR);
    sock_remove_file(address);
    assert_int_equal(access(address + 5, F_OK), 0);
    shutdown(his, SHUT_RDWR);
    sock_remove_file(address);
    assert_int_equal(access(address + 5, F_OK), -1);
    close(ours);
    close(his);
    assert_int_equal(rmdir(folder), 0);
}

static void the_table_is_bounded_and_keeps_what_it_has(void **state)
{
    (void)state;
    char path[32];
    uint32_t first = socket_path_number(SPAN("/first"));
    for (int i = 0; i < SOCKET_PATHS_MAX + 10; i++) {
        snprintf(path, sizeof path, "/p/%d", i);
        uint32_t n = socket_path_number(span_of(path));
        if (n)
            assert_string_equal(socket_path_text(n), path);
        else
            assert_true(i >
                        SOCKET_PATHS_MAX - RACED - 40); /* the others of this file are there too */
    }
    assert_int_equal(socket_path_number(SPAN("/one more")), 0);
    assert_int_equal(socket_path_number(SPAN("/first")), first);
    assert_string_equal(socket_path_text(first), "/first");
    assert_string_equal(socket_path_text(0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(equal_addresses_have_equal_ports),
        cmocka_unit_test(an_inherited_number_that_does_not_listen_is_refused),
        cmocka_unit_test(a_named_socket_is_found_behind_the_third_descriptor),
        cmocka_unit_test(both_ends_inside_the_machine_do_without_a_model_of_the_path),
        cmocka_unit_test(paths_are_read_and_written),
        cmocka_unit_test(addresses_that_clients_say_are_never_paths),
        cmocka_unit_test(the_longest_path_fits),
        cmocka_unit_test(equal_paths_are_equal_addresses),
        cmocka_unit_test(each_way_to_fail_has_its_own_word),
        cmocka_unit_test(threads_that_meet_at_a_path_get_one_number),
        cmocka_unit_test(only_a_file_where_nobody_listens_is_removed),
        cmocka_unit_test(the_table_is_bounded_and_keeps_what_it_has), /* last: then it is full */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
