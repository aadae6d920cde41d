/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "knob/memfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void what_one_process_writes_the_other_reads(void **state)
{
    (void)state;
    struct memfile m, other;
    struct fb_err err;
    assert_int_equal(memfile_create(&m, 3, 1024, &err), FB_OK);
    assert_int_equal(m.head->threads, 3);
    assert_int_equal(memfile_number(&m, EV_KIND_SERVICE, "shop", EV_NONE), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* the gateway dies with its work half done */
        if (memfile_attach(&other, m.fd, NULL) != FB_OK)
            _exit(1);
        struct ev_request r = EV_INIT(REQUEST, request, 42);
        if (!ring_put(other.rings[2], &r.head))
            _exit(2);
        if (memfile_number(&other, EV_KIND_ENDPOINT, "shop 10.0.0.1:80", 0) != 0)
            _exit(3);
        other.keeps[0].limit = 12.5;
        atomic_fetch_add(&other.gauges[0].in_flight[1], 7);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    uint64_t cursor = ring_cursor(m.rings[2]);
    const struct ev_head *ev = ring_peek(m.rings[2], &cursor);
    assert_non_null(ev);
    assert_true(ev->time_us == 42);
    assert_string_equal(memfile_name(&m, EV_KIND_ENDPOINT, 0), "shop 10.0.0.1:80");
    assert_true(m.keeps[0].limit > 12.4);
    assert_int_equal(memfile_in_flight(&m.gauges[0]), 7);
    int fd = m.fd;
    memfile_close(&m);
    close(fd);
}

static void numbers_stay_with_their_names(void **state)
{
    (void)state;
    struct memfile m;
    struct fb_err err;
    char name[32];
    assert_int_equal(memfile_create(&m, 1, 64, &err), FB_OK);
    for (int round = 0; round < 2; round++) {
        uint32_t version = m.head->names_version;
        for (int i = 0; i < KNOB_TARGETS_MAX; i++) {
            snprintf(name, sizeof name, "shop /%d", i);
            assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, name, 1), i);
            assert_string_equal(memfile_name(&m, EV_KIND_ROUTE, (uint16_t)i), name);
        }
        assert_true((m.head->names_version != version) == (round == 0));
    }
    assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, "one too many", 1), EV_NONE);
    assert_int_equal(memfile_number(&m, EV_KIND_SERVICE, "shop /5", 1), 0); /* kinds count apart */
    assert_int_equal(memfile_number(&m, EV_KIND_VERSION, "shop canary", 0), 0);
    assert_string_equal(memfile_name(&m, EV_KIND_VERSION, 0), "shop canary");
    assert_int_equal(m.versions[0].version, EV_NONE);
    assert_string_equal(memfile_name(&m, EV_KIND_SERVICE, 1), "");
    assert_string_equal(memfile_name(&m, EV_KIND_ROUTE, EV_NONE), "");
    close(m.fd);
    memfile_close(&m);
}

static void a_name_that_begins_like_another_is_another(void **state)
{
    (void)state;
    struct memfile m;
    assert_int_equal(memfile_create(&m, 1, 64, NULL), FB_OK);
    assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, "shop /a", 0), 0);
    assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, "shop /", 0), 1);
    assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, "shop /ab", 0), 2);
    assert_int_equal(memfile_number(&m, EV_KIND_ROUTE, "shop /a", 0), 0);
    close(m.fd);
    memfile_close(&m);
}

static void another_layout_is_refused(void **state)
{
    (void)state;
    struct memfile m, other;
    struct fb_err err;
    assert_int_equal(memfile_create(&m, 2, 64, &err), FB_OK);
    m.head->version++;
    char both[80];
    snprintf(both, sizeof both, "version %d, that of this program %d; stop foldback and start it",
             MEMFILE_VERSION + 1, MEMFILE_VERSION);
    assert_int_equal(memfile_attach(&other, m.fd, &err), FB_E_VERSION);
    assert_non_null(strstr(err.text, both));
    m.head->version--;
    m.head->magic ^= 1;
    assert_int_equal(memfile_attach(&other, m.fd, &err), FB_E_VERSION);
    m.head->magic ^= 1;
    m.head->threads = 3;
    assert_int_equal(memfile_attach(&other, m.fd, &err), FB_E_VERSION);
    m.head->threads = 1000;
    assert_int_equal(memfile_attach(&other, m.fd, &err), FB_E_VERSION);
    m.head->threads = 2;
    assert_int_equal(memfile_attach(&other, m.fd, &err), FB_OK);
    memfile_close(&other);
    close(m.fd);
    memfile_close(&m);
    int empty = memfd_create("empty", MFD_CLOEXEC);
    assert_int_equal(memfile_attach(&other, empty, &err), FB_E_VERSION);
    close(empty);
    assert_int_equal(memfile_attach(&other, -1, &err), FB_E_IO);
}

static void parts_lie_on_cache_lines_of_their_own(void **state)
{
    (void)state;
    struct memfile m;
    assert_int_equal(memfile_create(&m, 4, 128, NULL), FB_OK);
    const void *const parts[] = {m.knobs, m.routes, m.services, m.endpoints,
                                 m.keeps, m.gauges, m.rings[0], m.rings[3]};
    for (size_t i = 0; i < FB_COUNT(parts); i++)
        assert_int_equal((uintptr_t)parts[i] % FB_CACHE_LINE_BYTES, 0);
    assert_true((const char *)m.rings[1] - (const char *)m.rings[0] >= (ptrdiff_t)ring_bytes(128));
    close(m.fd);
    memfile_close(&m);
    memfile_close(&m); /* twice is fine */
}

static void answers_are_counted_over_the_end_of_their_bits(void **state)
{
    (void)state;
    _Atomic uint64_t word = UINT64_MAX - (UINT64_C(1000) << MEMFILE_ANSWERS_BITS);
    uint64_t seen = word, sum_us;
    uint32_t count;
    for (uint32_t i = 0; i < 3000; i++) {
        memfile_answers_add(&word, 1000, 5000000);
        memfile_answers_add(&word, 3, 7);
        memfile_answers_since(&word, &seen, &count, &sum_us);
        assert_int_equal(count, 1003);
        assert_int_equal(sum_us, 5000007);
    }
    memfile_answers_since(&word, &seen, &count, &sum_us);
    assert_int_equal(count, 0);
    assert_int_equal(sum_us, 0);
}

static void the_longest_names_of_endpoints_are_whole(void **state)
{
    (void)state;
    char name[MEMFILE_NAME_BYTES], service[41] = "", want[200];
    memset(service, 's', 40);
    const char *address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    snprintf(want, sizeof want, "%s %s", service, address);
    assert_true(memfile_endpoint_name(service, address, name));
    assert_string_equal(name, want);
    char path[MEMFILE_NAME_BYTES - 40];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_false(memfile_endpoint_name(service, path, name));
    path[sizeof path - 2] = '\0';
    assert_true(memfile_endpoint_name(service, path, name));
}

static void what_is_configured_no_more_keeps_its_number_and_is_marked(void **state)
{
    (void)state;
    struct memfile m;
    struct fb_err err;
    assert_int_equal(memfile_create(&m, 1, 64, &err), FB_OK);
    uint16_t shop = memfile_number(&m, EV_KIND_SERVICE, "shop", EV_NONE),
             blog = memfile_number(&m, EV_KIND_SERVICE, "blog", EV_NONE), none = EV_NONE;
    memfile_configured(&m, EV_KIND_SERVICE, (uint16_t[]){blog, none}, 2);
    assert_int_equal(m.services[shop].has_left, 1);
    assert_int_equal(m.services[blog].has_left, 0);
    assert_string_equal(memfile_name(&m, EV_KIND_SERVICE, shop), "shop");
    assert_int_equal(memfile_number(&m, EV_KIND_SERVICE, "shop", EV_NONE), shop);
    memfile_configured(&m, EV_KIND_SERVICE, (uint16_t[]){blog, shop}, 2);
    assert_int_equal(m.services[shop].has_left, 0);
    close(m.fd);
    memfile_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_process_writes_the_other_reads),
        cmocka_unit_test(numbers_stay_with_their_names),
        cmocka_unit_test(the_longest_names_of_endpoints_are_whole),
        cmocka_unit_test(a_name_that_begins_like_another_is_another),
        cmocka_unit_test(what_is_configured_no_more_keeps_its_number_and_is_marked),
        cmocka_unit_test(another_layout_is_refused),
        cmocka_unit_test(answers_are_counted_over_the_end_of_their_bits),
        cmocka_unit_test(parts_lie_on_cache_lines_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
