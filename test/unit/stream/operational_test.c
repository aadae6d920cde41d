/* SPDX-License-Identifier: Apache-2.0 */
/* Retention of the operational class: the test is the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../guard/key_dir.h"
#include "base/clock.h"
#include "guard/operational.h"
#include "log_dir.h"
#include "random_events.h"
#include "stream/check.h"
#include "stream/writer.h"

#include <errno.h>
#include <fcntl.h>

#define WAIT_US (60 * US_PER_S)
#define HOUR_S 3600
#define HOUR_US (HOUR_S * US_PER_S)
#define PART 3000 /* events of one segment */

static struct key_dir top;
static struct log_dir dir; /* <top>/log */
static struct keyring *keys;
static uint64_t ahead_us; /* the clock of the log is so much ahead of the machine's */

static uint64_t moved_wall_us(void)
{
    return fb_wall_us() + ahead_us;
}

static int set_up(void **state)
{
    (void)state;
    key_dir_make(&top);
    snprintf(dir.path, sizeof dir.path, "%.50s/log", top.path);
    ahead_us = 0;
    return mkdir(dir.path, 0750);
}

static int tear_down(void **state)
{
    (void)state;
    keyring_unref(keys);
    keys = NULL;
    log_dir_remove(&dir);
    key_dir_remove(&top);
    return 0;
}

static struct log_conf clock_conf(void)
{
    struct log_conf conf = log_dir_conf();
    conf.keys = keys;
    conf.io.wall_us = moved_wall_us;
    conf.group_us = 200;
    return conf;
}

/* Event <offset> of these tests has a pseudonym. */
static struct ev_request request(uint64_t offset)
{
    struct ev_request r = numbered_event(offset);
    r.subject = (uint16_t)(offset % 60000 + 1);
    return r;
}

/* One segment of events, as each start begins one. */
static void write_segment(uint64_t number)
{
    struct log_conf conf = clock_conf();
    struct log *log;
    conf.epoch = (uint32_t)number + 1;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    for (uint64_t i = 0; i < PART; i++) {
        struct ev_request r = request(number * PART + i);
        assert_int_equal(log_append(log, (struct span){(char *)&r, sizeof r}, number * PART + i),
                         1);
        if (i % 500 == 499)
            assert_int_equal(log_flush(log, 20000), FB_OK);
    }
    log_close(log);
}

/* Lets the log work until <segments> were cleared, and a few commits more; what it did then.  Each
 * commit makes the new segment larger: less and less often while the one before is still worked at.
 */
static struct log_stats work(const struct log_conf *conf, uint64_t first, uint64_t segments)
{
    struct log *log;
    struct log_stats st = {0};
    uint64_t until_us = fb_mono_us() + WAIT_US, next = first;
    useconds_t pause_us = 1000;
    assert_int_equal(log_open(&log, dir.path, conf, NULL, NULL), FB_OK);
    for (int more = 0; more < 20; more += st.compacted.segments >= segments) {
        struct ev_request r = request(next);
        assert_true(fb_mono_us() < until_us);
        assert_int_equal(log_append(log, (struct span){(char *)&r, sizeof r}, next), 1);
        next++;
        assert_int_equal(log_flush(log, 20000), FB_OK);
        uint64_t before = st.compacted.segments;
        log_stats_read(log, &st);
        bool is_waiting = st.compacted.segments == before && before < segments;
        pause_us = is_waiting ? fb_min_u32(pause_us * 2, 200000) : 1000;
        usleep(pause_us);
    }
    log_close(log);
    return st;
}

/* Events below <cleared> have no pseudonym, the others have, and nothing else is different. */
static uint64_t check(uint64_t cleared)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset, want = 0;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (; log_reader_next(r, &ev, &offset) == FB_OK; want++) {
        struct ev_request wanted = request(want);
        wanted.subject = want < cleared ? 0 : wanted.subject;
        assert_int_equal(offset, want);
        assert_memory_equal(ev, &wanted, sizeof wanted);
    }
    log_reader_close(r);
    return want;
}

static void pseudonyms_go_when_they_are_too_old_and_nothing_else_does(void **state)
{
    (void)state;
    struct log_conf conf = clock_conf();
    for (uint64_t i = 0; i < 3; i++)
        write_segment(i);
    conf.operational_s = 24 * HOUR_S;
    ahead_us = 23 * HOUR_US;
    assert_int_equal(work(&conf, 3 * PART, 0).compacted.segments, 0);
    uint64_t next = check(0);
    assert_true(next >= 3 * PART + 20);
    ahead_us = 25 * HOUR_US; /* the start takes the clock as it finds it */
    struct log_stats st = work(&conf, next, 4);
    assert_int_equal(st.compacted.segments, 4);
    assert_int_equal(st.compacted.failures, 0);
    uint64_t end = check(next);
    assert_true(end > next);
    /* Again: what is cleared is not written again. */
    assert_int_equal(work(&conf, end, 1).compacted.segments, 1); /* of the start before */
    check(end);
}

static void pseudonyms_go_by_bytes_the_oldest_first(void **state)
{
    struct stat st;
    char path[256];
    (void)state;
    struct log_conf conf = clock_conf();
    for (uint64_t i = 0; i < 4; i++)
        write_segment(i);
    for (size_t i = 1; i < 4; i++) {
        log_dir_segment(&dir, i, path);
        assert_int_equal(stat(path, &st), 0);
        conf.operational_bytes += (uint64_t)st.st_size;
    }
    conf.operational_bytes--; /* two of four, and what is new up to the size of one */
    assert_int_equal(work(&conf, 4 * PART, 2).compacted.segments, 2);
    check(2 * PART);
}

/* ---- a disk that does not give a segment back ---- */
static uint32_t bad_number; /* of the segment that cannot be opened; 0: none */
static bool is_read_bad;    /* ... or none of whose blocks can be read */
static int bad_fd = -1;
static uint32_t tries;

static int open_or_fail(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    bool is_bad = bad_number && (uint32_t)strtoul(name, NULL, 10) == bad_number;
    tries += is_bad;
    errno = EIO;
    int fd = is_bad && !is_read_bad ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    bad_fd = is_bad ? fd : bad_fd == fd ? -1 : bad_fd;
    return fd;
}

static ssize_t pread_or_fail(int fd, void *bytes, size_t len, off_t at)
{
    errno = EIO;
    return fd == bad_fd && is_read_bad ? -1 : pread(fd, bytes, len, at);
}

/* Commits until <is_done>, at <conf>. */
static struct log_stats work_until(struct log *log, uint64_t *next,
                                   bool (*is_done)(const struct log_compacted *c))
{
    struct log_stats st;
    uint64_t until_us = fb_mono_us() + WAIT_US;
    do {
        struct ev_request r = request(*next);
        assert_true(fb_mono_us() < until_us);
        assert_int_equal(log_append(log, (struct span){(char *)&r, sizeof r}, (*next)++), 1);
        assert_int_equal(log_flush(log, 20000), FB_OK);
        log_stats_read(log, &st);
        usleep(1000);
    } while (!is_done(&st.compacted));
    return st;
}

static bool has_failed_thrice(const struct log_compacted *c)
{
    return c->clear_failures >= 3 && c->segments >= 2 && c->uncleared == 1;
}

static bool has_cleared_all(const struct log_compacted *c)
{
    return c->segments >= 3 && c->uncleared == 0;
}

static void a_segment_that_cannot_be_read(bool is_read)
{
    struct log_conf conf = clock_conf();
    struct log *log;
    uint64_t next = 3 * PART;
    for (uint64_t i = 0; i < 3; i++)
        write_segment(i);
    conf.operational_s = HOUR_S;
    conf.compact_retry_ms = 5;
    conf.io.open_read = open_or_fail;
    conf.io.pread = pread_or_fail;
    ahead_us = 2 * HOUR_US;
    bad_number = 1;
    is_read_bad = is_read;
    bad_fd = -1;
    tries = 0;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    struct log_stats st = work_until(log, &next, has_failed_thrice);
    assert_true(tries >= 3);
    assert_non_null(strstr(st.compacted.clear_reason, "cannot read 0000000001"));
    assert_false(st.compacted.is_failing); /* what can be compacted is */
    bad_number = 0;
    is_read_bad = false;
    st = work_until(log, &next, has_cleared_all);
    log_close(log);
    check(3 * PART);
}

static bool has_none_left(const struct log_compacted *c)
{
    return c->uncleared == 0 && c->segments >= 1;
}

static bool has_failed_again(const struct log_compacted *c)
{
    return c->clear_failures >= 2 && c->uncleared == 1;
}

/* All are too many by what is new: once the oldest were cleared, all others could stay. */
static void no_younger_one_is_cleared_for_one_that_cannot_be(void **state)
{
    struct log_conf conf = clock_conf();
    struct log *log;
    struct stat info;
    char path[256];
    uint64_t next = 4 * PART;
    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        write_segment(i);
        log_dir_segment(&dir, i, path);
        assert_int_equal(stat(path, &info), 0);
        conf.operational_bytes += (uint64_t)info.st_size;
    }
    conf.operational_bytes--;
    conf.compact_retry_ms = 5;
    conf.io.open_read = open_or_fail;
    bad_number = 1;
    is_read_bad = false;
    bad_fd = -1;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    struct log_stats st = work_until(log, &next, has_failed_again);
    assert_int_equal(st.compacted.segments, 0);
    bad_number = 0;
    st = work_until(log, &next, has_none_left);
    log_close(log);
    check(PART);
}

static void
a_segment_that_cannot_be_opened_is_tried_again_and_told_until_it_is_cleared(void **state)
{
    (void)state;
    a_segment_that_cannot_be_read(false);
}

static void a_segment_that_cannot_be_read_is_tried_again_and_told_until_it_is_cleared(void **state)
{
    (void)state;
    a_segment_that_cannot_be_read(true);
}

static bool has_failed_twice(const struct log_compacted *c)
{
    return c->clear_failures >= 2;
}

/* Its bytes are evidence: it stays as it is, and that is told. */
static void a_damaged_segment_stays_and_is_told_and_its_neighbours_are_cleared(void **state)
{
    struct log_conf conf = clock_conf();
    struct log *log;
    char path[256], byte;
    uint64_t next = 2 * PART;
    (void)state;
    for (uint64_t i = 0; i < 2; i++)
        write_segment(i);
    log_dir_segment(&dir, 0, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, BLOCK_HEADER_BYTES + 9), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, BLOCK_HEADER_BYTES + 9), 1);
    close(fd);
    conf.operational_s = HOUR_S;
    conf.compact_retry_ms = 5;
    ahead_us = 2 * HOUR_US;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    struct log_stats st = work_until(log, &next, has_failed_twice);
    assert_int_equal(st.compacted.uncleared, 1);
    assert_non_null(strstr(st.compacted.clear_reason, "segment 1 is damaged"));
    /* With the file the fields go. */
    assert_int_equal(unlink(path), 0);
    st = work_until(log, &next, has_none_left);
    log_close(log);
}

static void without_a_bound_they_stay(void **state)
{
    (void)state;
    struct log_conf conf = clock_conf();
    write_segment(0);
    ahead_us = 1000 * HOUR_US;
    assert_int_equal(work(&conf, PART, 0).compacted.segments, 0);
    check(0);
}

static uint64_t sealed_blocks(uint32_t key_id)
{
    struct block_head head;
    char path[256];
    uint64_t count = 0;
    for (size_t i = 0; i < log_dir_segment(&dir, i, path); i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        for (uint64_t at = 0; segment_head_at(fd, (uint32_t)i + 1, at, &head) == FB_OK;
             at += block_bytes(&head))
            count += head.key_id == key_id;
        close(fd);
    }
    return count;
}

static void sealed_blocks_are_cleared_under_the_key_of_now(void **state)
{
    (void)state;
    struct keyring_conf kc = {.period_us = HOUR_US, .master = top.master};
    assert_int_equal(keyring_start(&keys, top.path, &kc, fb_wall_us(), NULL), FB_OK);
    write_segment(0);
    assert_int_equal(keyring_rotate(keys, "test", fb_wall_us(), NULL), FB_OK);
    write_segment(1);
    assert_true(sealed_blocks(1) > 0);
    struct log_conf conf = clock_conf();
    conf.operational_s = HOUR_S;
    ahead_us = 2 * HOUR_US;
    assert_int_equal(work(&conf, 2 * PART, 2).compacted.segments, 2);
    check(2 * PART);
    assert_int_equal(sealed_blocks(1), 0);
    assert_int_equal(sealed_blocks(0), 0);
    assert_true(sealed_blocks(2) > 0);
}

static void what_a_replay_computes_from_stays(void **state)
{
    static _Alignas(8) unsigned char before[64 * KIB], after[64 * KIB];
    struct rng rng;
    (void)state;
    rng_init(&rng, 7);
    for (int turn = 0; turn < 50; turn++) {
        size_t len = random_events(&rng, before, sizeof before, 200);
        memcpy(after, before, len);
        operational_clear(after, len);
        for (size_t at = 0; at < len;) {
            struct ev_head *ev = (void *)(before + at);
            size_t bytes = (size_t)ev->cells * EV_CELL_BYTES;
            if (ev->type == EV_REQUEST)
                ((struct ev_request *)(void *)ev)->subject = 0;
            assert_memory_equal(after + at, before + at, bytes);
            at += bytes;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pseudonyms_go_when_they_are_too_old_and_nothing_else_does,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(pseudonyms_go_by_bytes_the_oldest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_bound_they_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_segment_that_cannot_be_opened_is_tried_again_and_told_until_it_is_cleared, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(
            a_segment_that_cannot_be_read_is_tried_again_and_told_until_it_is_cleared, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(
            a_damaged_segment_stays_and_is_told_and_its_neighbours_are_cleared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_younger_one_is_cleared_for_one_that_cannot_be, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(sealed_blocks_are_cleared_under_the_key_of_now, set_up,
                                        tear_down),
        cmocka_unit_test(what_a_replay_computes_from_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
