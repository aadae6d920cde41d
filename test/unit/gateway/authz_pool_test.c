/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/authz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A second and more each, so that nothing of a test is computed meanwhile. */
static const char dear[] = "$2y$14$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static const struct gateway_setup setup = {.slot = 1};
static struct world {
    struct memfile mem;
    struct gw gw;
    struct worker worker;
    struct request req;
} w;

static int begin(void **state)
{
    struct fb_err err;
    *state = &w;
    memset(&w, 0, sizeof w);
    if (memfile_create(&w.mem, 1, 64, &err) != FB_OK || loop_new(&w.worker.loop, &err) != FB_OK)
        return -1;
    w.gw.mem = &w.mem;
    w.gw.setup = &setup;
    w.gw.thread_count = 1;
    w.gw.authz = authz_new(&w.gw);
    w.worker.gw = &w.gw;
    w.req.worker = &w.worker;
    return w.gw.authz ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    authz_stop(w.gw.authz);
    authz_free(w.gw.authz);
    loop_free(w.worker.loop);
    memfile_close(&w.mem);
    return 0;
}

static void told(struct loop_message *m)
{
    (void)m;
}

static struct authz_wait *submit(uint64_t client_key, unsigned char password)
{
    unsigned char tag[MAC_BYTES] = {password, (unsigned char)client_key};
    const struct authz_job job = {
        .tag = tag, .hash = dear, .password = "guess", .client_key = client_key};
    return authz_submit(&w.req, &job, told);
}

static uint64_t refused(enum memfile_auth_cause cause)
{
    return atomic_load(&w.mem.head->auth.refused[cause]);
}

static void one_client_has_so_many_passwords_checked_and_others_go_on(void **state)
{
    (void)state;
    unsigned char n = 0;
    while (submit(1, n))
        n++;
    assert_in_range(n, 8, 64);
    assert_int_equal(refused(MEMFILE_AUTH_CLIENT), 1);
    assert_non_null(submit(2, 0));
    assert_int_equal(authz_waiting(w.gw.authz), n + 1);
}

/* The same password again is no work of its own, but takes places of those who wait. */
static void one_client_who_repeats_a_password_leaves_room_for_others_to_wait(void **state)
{
    (void)state;
    uint32_t n = 0;
    for (unsigned char password = 0; submit(1, password); password++)
        ; /* they are computed first */
    assert_non_null(submit(2, 0));
    while (n < 100000 && submit(2, 0))
        n++;
    assert_in_range(n, 1000, 10000);
    assert_int_equal(refused(MEMFILE_AUTH_FULL), 0);
    for (uint64_t client = 3; client < 7; client++)
        assert_non_null(submit(client, 0));
}

static void who_leaves_gives_his_place_to_another(void **state)
{
    (void)state;
    struct authz_wait *first = NULL, *one;
    for (unsigned char password = 0; submit(1, password); password++)
        ;
    while ((one = submit(2, 0)) != NULL)
        first = first ? first : one;
    authz_wait_leave(first);
    assert_non_null(submit(2, 0));
    assert_null(submit(2, 0));
}

static void a_gateway_that_ends_shows_nobody_who_waits(void **state)
{
    (void)state;
    assert_non_null(submit(1, 0));
    atomic_store(&w.mem.head->auth.waiting[1], authz_waiting(w.gw.authz));
    authz_stop(w.gw.authz);
    assert_int_equal(atomic_load(&w.mem.head->auth.waiting[1]), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(one_client_has_so_many_passwords_checked_and_others_go_on),
        TEST(one_client_who_repeats_a_password_leaves_room_for_others_to_wait),
        TEST(who_leaves_gives_his_place_to_another),
        TEST(a_gateway_that_ends_shows_nobody_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
