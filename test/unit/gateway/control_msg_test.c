/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control_msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct control_msg m;

static void messages_keep_their_parts_and_their_borders(void **state)
{
    (void)state;
    int pair[2], fd;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_true(control_send(pair[0], CONTROL_DRAIN, 0, 0, ""));
    assert_true(control_send(pair[0], CONTROL_ENDPOINT, 7, 1, "why"));
    assert_int_equal(control_receive(pair[1], &m, &fd), 1);
    assert_int_equal(m.kind, CONTROL_DRAIN);
    assert_int_equal(m.text_bytes, 0);
    assert_int_equal(control_receive(pair[1], &m, &fd), 1);
    assert_int_equal(m.kind, CONTROL_ENDPOINT);
    assert_int_equal(m.number, 7);
    assert_int_equal(m.value, 1);
    assert_memory_equal(m.text, "why", 3);
    assert_int_equal(control_receive(pair[1], &m, &fd), 0);
    close(pair[0]);
    assert_int_equal(control_receive(pair[1], &m, &fd), -1);
    close(pair[1]);
}

static void a_descriptor_rides_along(void **state)
{
    (void)state;
    int pair[2], fd, text = memfd_create("t", MFD_CLOEXEC);
    char got[8] = "";
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_int_equal(write(text, "config", 6), 6);
    assert_true(control_send_fd(pair[0], CONTROL_RELOAD, "a.yaml", text));
    assert_int_equal(control_receive(pair[1], &m, &fd), 1);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, got, 6, 0), 6);
    assert_string_equal(got, "config");
    close(fd);
    close(text);
    close(pair[0]);
    close(pair[1]);
}

static void packets_that_are_not_ours_count_as_none(void **state)
{
    (void)state;
    int pair[2], fd;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    struct control_msg bad = {.magic = CONTROL_MAGIC, .kind = CONTROL_STOP, .text_bytes = 100};
    assert_true(send(pair[0], "junk", 4, 0) == 4);
    assert_true(send(pair[0], &bad, control_msg_bytes(0), 0) > 0);
    assert_int_equal(control_receive(pair[1], &m, &fd), 0);
    close(pair[0]);
    close(pair[1]);
}

static void a_text_too_long_is_cut(void **state)
{
    (void)state;
    int pair[2], fd;
    static char text[2 * CONTROL_TEXT_BYTES];
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_true(control_send(pair[0], CONTROL_REFUSED, 0, 0, text));
    assert_int_equal(control_receive(pair[1], &m, &fd), 1);
    assert_int_equal(m.text_bytes, CONTROL_TEXT_BYTES);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_keep_their_parts_and_their_borders),
        cmocka_unit_test(a_descriptor_rides_along),
        cmocka_unit_test(packets_that_are_not_ours_count_as_none),
        cmocka_unit_test(a_text_too_long_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
