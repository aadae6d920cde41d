/* SPDX-License-Identifier: Apache-2.0 */
/* The log on a disk that loses power, reorders, tears and fails (disk.h).
 *
 * Promise: whatever happens, an event below log_acknowledged, or below what log_open said, is there
 * with every byte, no event comes that was not written, and there is no hole.  FB_LONG=1 runs fifty
 * times the rounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "disk.h"

static struct log_dir dir;
static bool is_slow; /* small blocks only, and time to compact them */

static int set_up(void **state)
{
    (void)state;
    log_dir_make(&dir);
    disk.dir = dir.path;
    disk.is_cut = false;
    disk.fail_pct = disk.short_pct = disk.calls = 0;
    disk.replaced = 0;
    disk.ops_left = INT64_MAX;
    is_slow = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    disk_fini();
    log_dir_remove(&dir);
    return 0;
}

static struct log_conf power_conf(void)
{
    struct log_conf conf = log_dir_conf();
    conf.io = disk_io;
    conf.queue_bytes = 4 * MIB;
    conf.segment_bytes = 64 * KIB << rng_below(&disk.rng, 3);
    conf.retry_ms = 1;
    conf.compact_us = conf.compact_retry_ms = 1;
    return conf;
}

/* All events below <to>, each with its bytes, and none behind. */
static void check_all(uint64_t to, uint64_t round)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    enum fb_code code;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (uint64_t want = 0; want < to; want++) {
        code = log_reader_next(r, &ev, &offset);
        struct ev_request wanted = numbered_event(want);
        if (code == FB_E_DAMAGED)
            fail_msg("round %llu: %s", (unsigned long long)round, log_reader_skip(r)->sentence);
        if (code != FB_OK || offset != want || memcmp(ev, &wanted, sizeof wanted) != 0)
            fail_msg("round %llu: code %d at %llu, not %llu", (unsigned long long)round, (int)code,
                     (unsigned long long)offset, (unsigned long long)want);
    }
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_END);
    log_reader_close(r);
}

/* Opens the log, over more cuts and failures if they come; the offset behind what is there. */
static struct log *open_through(uint64_t promised, uint64_t round, uint64_t *next)
{
    struct log *log = NULL;
    struct log_recovery rec;
    struct fb_err err = {.text = ""};
    uint32_t fail_pct = disk.fail_pct;
    for (int tries = 0; tries < 100; tries++) {
        struct log_conf conf = power_conf();
        enum fb_code code = log_open(&log, dir.path, &conf, &rec, &err);
        if (code == FB_OK) {
            if (rec.next_offset < promised || rec.lost_events)
                fail_msg("round %llu: %llu was promised: %s", (unsigned long long)round,
                         (unsigned long long)promised, rec.sentence);
            disk.fail_pct = fail_pct;
            *next = rec.next_offset;
            return log;
        }
        assert_int_equal(code, FB_E_IO);
        assert_non_null(strstr(err.text, dir.path)); /* the message names the file */
        if (disk.is_cut) {
            disk_cut();
            disk.is_cut = false;
            disk.ops_left = INT64_MAX;
        }
        disk.fail_pct = 0; /* the operator repaired the disk */
    }
    fail();
    return NULL;
}

/* Writes until the power goes; returns what was acknowledged by then. */
static uint64_t write_until_cut(struct log *log, uint64_t next)
{
    uint32_t replaced = disk.replaced;
    uint64_t patient_us = fb_mono_us() + 60 * US_PER_S;
    uint32_t groups = 0;
    while (!disk.is_cut) {
        if (is_slow)
            usleep(++groups < 200 ? 300 : 20000); /* enough segments are finished then */
        pthread_mutex_lock(&disk_lock); /* the log's threads draw too */
        uint32_t most = is_slow ? 150 : disk_chance(20) ? 12000 : 300;
        uint64_t to = next + 1 + rng_below(&disk.rng, most);
        /* Where nothing else ends the round: a segment was compacted. */
        if (disk.ops_left > INT64_MAX / 2 &&
            (disk.replaced != replaced || fb_mono_us() > patient_us))
            disk.ops_left = rng_below(&disk.rng, 20);
        pthread_mutex_unlock(&disk_lock);
        assert_int_equal(append_numbered(log, next, to), to - next);
        next = to;
        while (!disk.is_cut && log_flush(log, 1) != FB_OK) {
        }
    }
    return log_acknowledged(log);
}

static void rounds(uint64_t count, uint64_t seed)
{
    uint64_t promised = 0, acknowledged = 0;
    rng_init(&disk.rng, seed);
    for (uint64_t round = 0; round < count; round++) {
        if (round % 25 == 0) { /* a fresh log now and then: the first blocks are special */
            disk_fini();
            log_dir_empty(&dir);
            promised = 0;
        }
        disk.ops_left = disk_chance(30) ? rng_below(&disk.rng, 4) : INT64_MAX;
        uint64_t next;
        struct log *log = open_through(promised, round, &next);
        /* What log_open told is a promise too: the power goes at once. */
        pthread_mutex_lock(&disk_lock);
        if (disk_chance(20))
            disk.ops_left = 0;
        else if (disk.ops_left > 1000 && !(is_slow && round % 5 == 0))
            disk.ops_left = 1 + rng_below(&disk.rng, is_slow ? 120 : 40);
        pthread_mutex_unlock(&disk_lock);
        promised = fb_max_u64(next, write_until_cut(log, next));
        acknowledged += promised - next;
        log_close(log);
        /* Half of them: only the process dies, the page cache lives on. */
        if (disk_chance(50))
            disk_cut();
        disk.is_cut = false;
        disk.ops_left = INT64_MAX;
        log = open_through(promised, round, &next);
        check_all(next, round);
        promised = next;
        log_close(log);
        if (disk_chance(50))
            disk_cut();
    }
    assert_true(acknowledged > count * 50); /* it did write */
    print_message("%llu events acknowledged, %u segments compacted\n",
                  (unsigned long long)acknowledged, disk.replaced);
}

static uint64_t long_factor(void)
{
    const char *s = getenv("FB_LONG");
    return s && *s == '1' ? 50 : 1;
}

static void a_power_cut_takes_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    rounds(40 * long_factor(), 1);
}

static void a_power_cut_on_a_failing_disk_takes_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    disk.fail_pct = 10;
    disk.short_pct = 30;
    rounds(40 * long_factor(), 2);
}

static void a_power_cut_while_segments_are_compacted_takes_nothing(void **state)
{
    (void)state;
    is_slow = true;
    rounds(40 * long_factor(), 4);
    assert_true(disk.replaced > 0);
    disk.fail_pct = 5;
    disk.short_pct = 20;
    rounds(20 * long_factor(), 5);
}

static int sync_that_lies(int fd)
{
    (void)fd;
    return disk_fails(EIO) && disk.is_cut ? -1 : 0;
}

/* The check of the check: the same disk under a log that does not sync. */
static void a_log_that_does_not_sync_would_be_seen(void **state)
{
    (void)state;
    uint64_t missing = 0;
    rng_init(&disk.rng, 3);
    for (int round = 0; round < 20; round++) {
        struct log_conf conf = power_conf();
        struct log_recovery rec;
        struct log *log;
        conf.io.sync = sync_that_lies;
        disk_fini();
        log_dir_empty(&dir);
        disk.is_cut = false;
        disk.ops_left = 10 + rng_below(&disk.rng, 20);
        assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
        uint64_t acknowledged = write_until_cut(log, 0);
        log_close(log);
        disk_cut();
        char path[200];
        snprintf(path, sizeof path, "%s/watermark", dir.path);
        unlink(path);
        disk.is_cut = false;
        disk.ops_left = INT64_MAX;
        conf.io = disk_io;
        assert_int_equal(log_open(&log, dir.path, &conf, &rec, NULL), FB_OK);
        missing += fb_sub_floor_u64(acknowledged, rec.next_offset) + rec.lost_events;
        log_close(log);
    }
    assert_true(missing > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_power_cut_takes_nothing_that_was_acknowledged),
        TEST(a_power_cut_on_a_failing_disk_takes_nothing_that_was_acknowledged),
        TEST(a_power_cut_while_segments_are_compacted_takes_nothing),
        TEST(a_log_that_does_not_sync_would_be_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
