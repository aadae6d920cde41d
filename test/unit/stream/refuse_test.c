/* SPDX-License-Identifier: Apache-2.0 */
/* The log where the system refuses, and where the clock jumps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "log_try.h"

#include <errno.h>

static _Atomic int fail_writes; /* how many calls still fail */
/* Whatever a call answers, and whichever call it is: nothing acknowledged goes, the message says
 * what the system said, and writing goes on by itself. */
static _Atomic int bad_errno, bad_creates;

static ssize_t errno_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (fail_writes > 0) {
        fail_writes--;
        errno = bad_errno;
        return -1;
    }
    return pwrite(fd, bytes, len, at);
}

static int errno_create(const char *in, const char *path)
{
    (void)in;
    if (bad_creates > 0) {
        bad_creates--;
        errno = bad_errno;
        return -1;
    }
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
}

static void every_refusal_of_the_system_is_said_and_passed(void **state)
{
    (void)state;
    static const struct {
        int error;
        const char *says;
    } rows[] = {{EIO, "Input/output error"},
                {ENOSPC, "No space left"},
                {EROFS, "Read-only file system"},
                {EDQUOT, "quota"},
                {EFBIG, "File too large"}};
    for (size_t i = 0; i < 2 * FB_COUNT(rows); i++) {
        struct log_conf conf = log_dir_conf();
        struct log_stats st;
        log_dir_empty(&dir);
        conf.io = (struct log_io){.pwrite = errno_pwrite, .create = errno_create};
        conf.retry_ms = 20;
        bad_errno = rows[i / 2].error;
        fail_writes = bad_creates = 0;
        struct log *log = open_log(&conf, NULL);
        append_numbered(log, 0, 100);
        flush(log);
        fail_writes = i % 2 ? 1000000 : 1;
        bad_creates = i % 2 ? 0 : 1000000;
        append_numbered(log, 100, 200);
        assert_int_equal(log_flush(log, 50), FB_E_TIMEOUT);
        uint64_t until_us = fb_mono_us() + 30 * US_PER_S;
        do
            log_stats_read(log, &st);
        while (st.state != LOG_DEGRADED && fb_mono_us() < until_us);
        assert_int_equal(st.state, LOG_DEGRADED);
        if (!strstr(st.reason, rows[i / 2].says) || !strstr(st.reason, dir.path))
            fail_msg("not said: %s", st.reason);
        assert_int_equal(log_acknowledged(log), 100);
        check_events(0, 100); /* readers go on meanwhile */
        fail_writes = bad_creates = 0;
        flush(log);
        log_stats_read(log, &st);
        assert_int_equal(st.state, LOG_OK);
        assert_int_equal(st.lost, 0);
        log_close(log);
        check_events(0, 200);
    }
}

/* ---- a file that cannot be looked at ---- */

static int stat_errno; /* of the second segment; 0: it can be */

static int errno_stat(int dir_fd, const char *name, struct stat *st)
{
    if (stat_errno && strncmp(name, "0000000002-", 11) == 0) {
        errno = stat_errno;
        return -1;
    }
    return fstatat(dir_fd, name, st, 0);
}

static void a_segment_that_cannot_be_looked_at_is_an_error_and_not_passed_over(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct segment_list list;
    struct fb_err err;
    struct log *log;
    for (uint64_t i = 0; i < 3; i++) {
        log = open_log(&conf, NULL);
        append_numbered(log, i * 100, i * 100 + 100);
        log_close(log);
    }
    static const int errors[] = {EACCES, EIO, ENOMEM, ELOOP};
    for (size_t i = 0; i < FB_COUNT(errors); i++) {
        stat_errno = errors[i];
        assert_int_equal(segment_list_read_by(&list, dir.path, errno_stat, &err), FB_E_IO);
        assert_int_equal(list.count, 0);
        assert_non_null(strstr(err.text, strerror(errors[i])));
        assert_non_null(strstr(err.text, "0000000002-"));
        assert_non_null(strstr(err.text, dir.path));
        conf.io.stat_at = errno_stat;
        err.text[0] = '\0';
        assert_int_equal(log_open(&log, dir.path, &conf, NULL, &err), FB_E_IO);
        assert_non_null(strstr(err.text, strerror(errors[i])));
    }
    stat_errno = ENOENT; /* retention, just now */
    assert_int_equal(segment_list_read_by(&list, dir.path, errno_stat, &err), FB_OK);
    assert_int_equal(list.count, 2);
    segment_list_fini(&list);
    stat_errno = 0;
    log_close(open_log(&conf, NULL));
    check_events(0, 300);
}

static void a_reader_whose_folder_cannot_be_read_says_so_and_goes_on_later(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    char away[80];
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 100);
    log_close(log);
    log = open_log(&conf, NULL);
    append_numbered(log, 100, 200);
    log_close(log);
    assert_int_equal(log_reader_open(&r, dir.path, 99, NULL), FB_OK);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
    snprintf(away, sizeof away, "%s.away", dir.path);
    assert_int_equal(rename(dir.path, away), 0);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_IO); /* neither an end nor a hole */
    assert_non_null(strstr(log_reader_why(r), dir.path));
    assert_int_equal(rename(away, dir.path), 0);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
    assert_int_equal(offset, 100);
    log_reader_close(r);
}

static _Atomic uint64_t wall_now_us;

static uint64_t fake_wall_us(void)
{
    return wall_now_us;
}

static void a_clock_that_jumps_takes_nothing(void **state)
{
    (void)state;
    const uint64_t year_us = UINT64_C(365) * 86400 * US_PER_S;
    struct log_conf conf = log_dir_conf();
    struct log_stats st;
    conf.segment_bytes = 64 * KIB;
    conf.retain_s = 3 * 3600;
    conf.io.wall_us = fake_wall_us;
    const uint64_t begin_us = fb_wall_us();
    wall_now_us = begin_us;
    struct log *log = open_log(&conf, NULL);
    /* A year ahead, ten back, to 1970, and right again. */
    uint64_t clocks[] = {begin_us, begin_us + year_us, begin_us - 10 * year_us, 1, begin_us};
    for (uint64_t i = 0; i < FB_COUNT(clocks); i++) {
        wall_now_us = clocks[i];
        for (uint64_t k = 0; k < 5; k++) {
            append_numbered(log, i * 10000 + k * 2000, i * 10000 + k * 2000 + 2000);
            flush(log);
        }
    }
    log_stats_read(log, &st);
    assert_true(st.segments > 5);
    assert_int_equal(st.expired_segments, 0);
    assert_int_equal(st.lost, 0);
    log_close(log);
    check_events(0, 50000);
    conf.retain_s = 0;
    log_close(open_log(&conf, NULL));
    check_events(0, 50000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_refusal_of_the_system_is_said_and_passed),
        TEST(a_segment_that_cannot_be_looked_at_is_an_error_and_not_passed_over),
        TEST(a_reader_whose_folder_cannot_be_read_says_so_and_goes_on_later),
        TEST(a_clock_that_jumps_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
