/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "log_try.h"
#include "stream/crc32c.h"

#include <errno.h>
#include <sched.h>

static void what_was_acknowledged_is_there_after_a_restart(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_recovery rec;
    struct log *log = open_log(&conf, &rec);
    assert_int_equal(rec.next_offset, 0);
    assert_int_equal(append_numbered(log, 0, 5000), 5000);
    flush(log);
    assert_int_equal(log_acknowledged(log), 5000);
    check_events(0, 5000);
    log_close(log);
    for (uint64_t start = 5000; start < 5500; start += 100) {
        log = open_log(&conf, &rec);
        assert_int_equal(rec.next_offset, start);
        assert_int_equal(rec.torn_bytes, 0);
        assert_int_equal(log_next_offset(log), start);
        append_numbered(log, start, start + 100);
        log_close(log); /* commits what waits */
    }
    check_events(0, 5500);
}

static void nothing_is_readable_before_it_is_durable(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    conf.group_us = 3600u * 1000 * 1000;
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 10);
    check_events(0, 0);
    assert_int_equal(log_acknowledged(log), 0);
    flush(log);
    check_events(0, 10);
    log_close(log);
}

static void two_writers_never_share_a_log(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log *log = open_log(&conf, NULL), *second;
    struct fb_err err;
    assert_int_equal(log_open(&second, dir.path, &conf, NULL, &err), FB_E_CONFLICT);
    assert_non_null(strstr(err.text, dir.path));
    log_close(log);
    log_close(open_log(&conf, NULL));
}

static void limits_of_the_configuration_are_checked(void **state)
{
    (void)state;
    struct {
        const char *says;
        uint64_t segment_bytes, queue_bytes;
        enum fb_code want;
    } rows[] = {
        {"smallest", 64 * KIB, 512 * KIB, FB_OK},
        {"segment too small", 64 * KIB - 1, MIB, FB_E_RANGE},
        {"segment too large", GIB + 1, MIB, FB_E_RANGE},
        {"queue too small", MIB, 512 * KIB - 1, FB_E_RANGE},
        {"queue too large", MIB, GIB + 1, FB_E_RANGE},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct log_conf conf = log_dir_conf();
        struct fb_err err = {.text = ""};
        struct log *log = NULL;
        conf.segment_bytes = rows[i].segment_bytes;
        conf.queue_bytes = rows[i].queue_bytes;
        if (log_open(&log, dir.path, &conf, NULL, &err) != rows[i].want)
            fail_msg("%s: %s", rows[i].says, err.text);
        log_close(log);
    }
}

/* Three blocks of 20 events in one segment; returns the file and the end of each block. */
static void make_three_blocks(struct buf *file, char path[256], size_t end[3])
{
    struct log_conf conf = log_dir_conf();
    log_dir_empty(&dir);
    struct log *log = open_log(&conf, NULL);
    for (uint64_t i = 0; i < 3; i++) {
        append_numbered(log, i * 20, i * 20 + 20);
        flush(log);
        log_dir_segment(&dir, 0, path);
        file_read(path, file);
        end[i] = file->len;
    }
    log_close(log);
}

/* The watermark would tell that more had been acknowledged; after a power cut it may be old. */
static void forget_watermark(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/watermark", dir.path);
    unlink(path);
}

static void a_tail_cut_at_any_byte_loses_only_its_own_block(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    for (size_t len = end[1]; len < end[2]; len++) {
        struct log_recovery rec;
        log_dir_empty(&dir);
        file_write(path, file.at, len);
        struct log *log = open_log(&conf, &rec);
        assert_int_equal(rec.next_offset, 40);
        assert_int_equal(rec.torn_bytes, len - end[1]);
        assert_int_equal(rec.damaged_places, 0);
        assert_int_equal(rec.lost_events, 0);
        if (len % 16 == 0) {
            append_numbered(log, 40, 50);
            log_close(log);
            check_events(0, 50);
        } else {
            log_close(log);
            check_events(0, 40);
        }
    }
    buf_fini(&file);
}

static void a_first_block_cut_at_any_byte_leaves_an_empty_log(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    for (size_t len = 0; len < end[0]; len += 7) {
        struct log_recovery rec;
        log_dir_empty(&dir);
        file_write(path, file.at, len);
        log_close(open_log(&conf, &rec));
        assert_int_equal(rec.next_offset, 0);
        assert_int_equal(rec.torn_bytes, len);
        check_events(0, 0);
    }
    buf_fini(&file);
}

static void garbage_behind_the_last_block_is_cut(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_recovery rec;
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    for (int i = 0; i < 8000; i++)
        buf_putc(&file, (char)(i * 31));
    buf_put(&file, "fbk1", 4); /* something like a header, at the very end */
    file_write(path, file.at, file.len);
    log_close(open_log(&conf, &rec));
    assert_int_equal(rec.torn_bytes, 8004);
    assert_non_null(strstr(rec.sentence, "8004"));
    check_events(0, 60);
    buf_fini(&file);
}

/* Reads all; counts events and the holes that were told. */
static uint64_t read_with_holes(uint64_t *events, struct log_skip *hole)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset, next = 0, holes = 0;
    *events = 0;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (;;) {
        enum fb_code code = log_reader_next(r, &ev, &offset);
        if (code == FB_E_END)
            break;
        if (code == FB_E_DAMAGED) {
            *hole = *log_reader_skip(r);
            assert_int_equal(hole->to, offset);
            next = hole->to;
            holes++;
            continue;
        }
        assert_int_equal(code, FB_OK);
        assert_true(offset >= next);
        struct ev_request wanted = numbered_event(offset);
        assert_memory_equal(ev, &wanted, sizeof wanted);
        next = offset + 1;
        (*events)++;
    }
    log_reader_close(r);
    return holes;
}

static void a_damaged_block_in_the_middle_is_skipped_and_told(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    for (size_t at = end[0]; at < end[1]; at += 5) {
        struct log_recovery rec;
        struct log_skip hole;
        uint64_t events;
        file.at[at] = (char)(file.at[at] ^ 0x40);
        file_write(path, file.at, file.len);
        log_close(open_log(&conf, &rec));
        file.at[at] = (char)(file.at[at] ^ 0x40);
        assert_int_equal(rec.damaged_places, 1);
        assert_int_equal(rec.lost_events, 20);
        assert_int_equal(rec.torn_bytes, 0);
        assert_int_equal(rec.next_offset, 60);
        assert_int_equal(read_with_holes(&events, &hole), 1);
        assert_int_equal(events, 40);
        assert_int_equal(hole.from, 20);
        assert_int_equal(hole.to, 40);
        assert_int_equal(hole.reason, REASON_LOSS_DAMAGED);
    }
    buf_fini(&file);
}

static void an_offset_is_never_given_twice(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_recovery rec;
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    /* The last block, acknowledged and perhaps read by a broker already, rots away. */
    file_write(path, file.at, end[1]);
    struct log *log = open_log(&conf, &rec);
    assert_int_equal(log_next_offset(log), 60);
    assert_int_equal(rec.lost_events, 20);
    append_numbered(log, 60, 70);
    log_close(log);
    struct log_skip hole;
    uint64_t events;
    assert_int_equal(read_with_holes(&events, &hole), 1);
    assert_int_equal(events, 50);
    assert_int_equal(hole.from, 40);
    assert_int_equal(hole.to, 60);
    /* A snapshot may be ahead of a log that somebody removed. */
    log_dir_empty(&dir);
    conf.next_offset_min = 5000;
    log = open_log(&conf, &rec);
    assert_int_equal(log_next_offset(log), 5000);
    log_close(log);
    buf_fini(&file);
}

static void a_newer_layout_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct buf file, after;
    struct fb_err err;
    struct log *log;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    buf_init(&after, 16 * MIB);
    make_three_blocks(&file, path, end);
    file.at[end[1] + 4] = 4; /* version */
    uint32_t crc = crc32c(0, file.at + end[1], BLOCK_HEADER_BYTES - 4);
    memcpy(file.at + end[1] + BLOCK_HEADER_BYTES - 4, &crc, 4);
    file_write(path, file.at, file.len);
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, &err), FB_E_VERSION);
    file_read(path, &after);
    assert_int_equal(after.len, file.len);
    assert_memory_equal(after.at, file.at, file.len);
    buf_fini(&file);
    buf_fini(&after);
}

/* ---- a disk that fails ---- */

static _Atomic int fail_syncs, fail_writes, short_writes; /* how many calls still fail */

static int bad_sync(int fd)
{
    if (fail_syncs > 0) {
        fail_syncs--;
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

static ssize_t bad_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (short_writes > 0) {
        short_writes--;
        return pwrite(fd, bytes, len / 3 + 1, at);
    }
    if (fail_writes > 0) {
        fail_writes--;
        errno = ENOSPC;
        return -1;
    }
    return pwrite(fd, bytes, len, at);
}

static struct log_conf bad_disk_conf(void)
{
    struct log_conf conf = log_dir_conf();
    conf.io = (struct log_io){.pwrite = bad_pwrite, .sync = bad_sync};
    fail_syncs = fail_writes = short_writes = 0;
    return conf;
}

static void a_failed_sync_poisons_its_segment_and_loses_nothing(void **state)
{
    (void)state;
    struct log_conf conf = bad_disk_conf();
    struct log_stats st;
    char path[256];
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 100);
    flush(log);
    assert_int_equal(log_dir_segment(&dir, 0, path), 1);
    struct buf before, after;
    buf_init(&before, MIB);
    buf_init(&after, MIB);
    file_read(path, &before);
    fail_syncs = 3;
    append_numbered(log, 100, 200);
    flush(log);
    log_stats_read(log, &st);
    assert_int_equal(st.failures, 3);
    assert_int_equal(st.lost, 0);
    assert_int_equal(st.state, LOG_OK);
    file_read(path, &after); /* cut back to what was durable, not written to again */
    assert_int_equal(after.len, before.len);
    assert_int_equal(log_dir_segment(&dir, 0, path), 2);
    log_close(log);
    check_events(0, 200);
    buf_fini(&before);
    buf_fini(&after);
}

static void short_writes_are_continued(void **state)
{
    (void)state;
    struct log_conf conf = bad_disk_conf();
    struct log *log = open_log(&conf, NULL);
    short_writes = 5;
    append_numbered(log, 0, 300);
    flush(log);
    assert_int_equal(short_writes, 0);
    log_close(log);
    check_events(0, 300);
}

static void a_full_disk_drops_counts_and_tells_a_gap(void **state)
{
    (void)state;
    struct log_conf conf = bad_disk_conf();
    struct log_stats st;
    struct ev_gap gap;
    conf.close_timeout_ms = 500;
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 100);
    flush(log);
    assert_false(log_gap_take(log, &gap));
    fail_writes = 1000000000;
    assert_true(log_has_room(log, 4));
    uint32_t taken = append_numbered(log, 100, 40000); /* the queue holds 16,384 */
    assert_true(taken < 39900);
    assert_false(log_has_room(log, 4));
    assert_int_equal(log_flush(log, 50), FB_E_TIMEOUT);
    log_stats_read(log, &st);
    assert_int_equal(st.state, LOG_DEGRADED);
    assert_non_null(strstr(st.reason, "No space left"));
    assert_int_equal(st.lost, 39900 - taken);
    assert_false(log_gap_take(log, &gap)); /* not before it works again */
    fail_writes = 0;
    flush(log);
    log_stats_read(log, &st);
    assert_int_equal(st.state, LOG_OK);
    assert_true(log_has_room(log, 4));
    assert_true(log_gap_take(log, &gap));
    assert_int_equal(gap.lost, 39900 - taken);
    assert_int_equal(gap.reason, REASON_LOSS_DISK);
    assert_int_equal(gap.from_us, numbered_event(100 + taken - 1).head.time_us);
    assert_int_equal(gap.to_us, numbered_event(39999).head.time_us);
    assert_false(log_gap_take(log, &gap)); /* once */
    append_numbered(log, 40000, 40100);
    log_close(log);
    struct log_skip hole;
    uint64_t events;
    assert_int_equal(read_with_holes(&events, &hole), 1);
    assert_int_equal(events, 100 + taken + 100);
    assert_int_equal(hole.from, 100 + taken);
    assert_int_equal(hole.to, 40000);
    assert_int_equal(hole.reason, REASON_LOSS_DISK);
}

static void append_never_waits_for_a_failing_disk(void **state)
{
    (void)state;
    struct log_conf conf = bad_disk_conf();
    conf.close_timeout_ms = 200;
    conf.retry_ms = 60000;
    struct log *log = open_log(&conf, NULL);
    fail_writes = 1000000000;
    uint64_t begin_us = fb_mono_us();
    append_numbered(log, 0, 100000);
    log_close(log);
    assert_true(fb_mono_us() - begin_us < 20 * US_PER_S); /* not the minute of a retry */
}

/* ---- retention ---- */

static void retention_by_bytes_removes_the_oldest_whole_segments(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_stats st;
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    conf.segment_bytes = 64 * KIB;
    conf.retain_bytes = 256 * KIB;
    struct log *log = open_log(&conf, NULL);
    for (uint64_t i = 0; i < 100; i++) {
        append_numbered(log, i * 1000, i * 1000 + 1000);
        flush(log);
    }
    log_stats_read(log, &st);
    assert_true(st.expired_segments > 3);
    assert_true(st.log_bytes <= conf.retain_bytes + conf.segment_bytes);
    assert_true(st.first_offset > 0);
    assert_int_equal(log_reader_open(&r, dir.path, 5, NULL), FB_OK);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_DAMAGED);
    assert_int_equal(log_reader_skip(r)->from, 5);
    assert_int_equal(log_reader_skip(r)->to, st.first_offset);
    assert_int_equal(log_reader_skip(r)->reason, REASON_NONE);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
    assert_int_equal(offset, st.first_offset);
    log_reader_close(r);
    log_close(log);
    check_events(st.first_offset, 100000);
}

static void retention_changes_while_the_log_is_written(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_stats st;
    struct fb_err err;
    conf.segment_bytes = 64 * KIB;
    struct log *log = open_log(&conf, NULL);
    for (uint64_t i = 0; i < 50; i++) {
        append_numbered(log, i * 1000, i * 1000 + 1000);
        flush(log);
    }
    log_stats_read(log, &st);
    assert_int_equal(st.expired_segments, 0);
    conf.retain_bytes = 256 * KIB;
    assert_true(st.log_bytes > conf.retain_bytes + conf.segment_bytes);
    conf.segment_bytes = 1;
    assert_int_equal(log_reconfigure(log, &conf, &err), FB_E_RANGE);
    conf.segment_bytes = 64 * KIB;
    assert_int_equal(log_reconfigure(log, &conf, &err), FB_OK);
    append_numbered(log, 50000, 51000);
    flush(log);
    log_stats_read(log, &st);
    assert_true(st.expired_segments > 0);
    assert_true(st.log_bytes <= conf.retain_bytes + conf.segment_bytes);
    log_close(log);
    check_events(st.first_offset, 51000);
}

static void retention_by_age_keeps_the_newest_segment(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_stats st;
    char path[256];
    for (uint64_t i = 0; i < 4; i++) { /* each start begins a segment */
        struct log *log = open_log(&conf, NULL);
        append_numbered(log, i * 10, i * 10 + 10);
        log_close(log);
    }
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(log_dir_segment(&dir, i, path), 4);
        if (i != 2)
            assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    }
    conf.retain_s = 3600;
    struct log *log = open_log(&conf, NULL);
    log_stats_read(log, &st);
    /* 2 is young, so it and all behind it stay. */
    assert_int_equal(st.expired_segments, 2);
    assert_int_equal(st.first_offset, 20);
    log_close(log);
    check_events(20, 40);
}

static void segment_numbers_are_never_used_twice(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    char first[256], second[256];
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 10);
    log_close(log);
    log_dir_segment(&dir, 0, first);
    file_write(first, "", 0);
    log = open_log(&conf, NULL);
    append_numbered(log, 10, 20);
    log_close(log);
    assert_int_equal(log_dir_segment(&dir, 0, second), 1);
    assert_true(strcmp(second, first) > 0);
}

static void without_a_watermark_all_good_blocks_count(void **state)
{
    (void)state;
    struct buf file;
    char path[256];
    size_t end[3];
    buf_init(&file, 16 * MIB);
    make_three_blocks(&file, path, end);
    forget_watermark();
    check_events(0, 60);
    buf_fini(&file);
}

static uint64_t count_blocks(const char *path)
{
    uint64_t count = 0;
    struct buf file;
    buf_init(&file, 16 * MIB);
    file_read(path, &file);
    struct block_head head;
    for (size_t at = 0; at < file.len; at += block_bytes(&head), count++) {
        struct span rest = {file.at + at, file.len - at};
        assert_int_equal(block_head_read(rest, &head), FB_OK);
        assert_true(head.has_acknowledged);
        assert_true(head.acknowledged <= head.first_offset);
    }
    buf_fini(&file);
    return count;
}

static void a_group_is_committed_by_its_size_before_its_time(void **state)
{
    (void)state;
    static const struct {
        uint32_t group_bytes;
        uint64_t events, blocks; /* appended at once; blocks when it is acknowledged */
    } rows[] = {{4 * KIB, 256, 1}, {64 * KIB, 1024, 1}, {256 * KIB, 4097, 1}, {MIB, 17000, 4}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct log_conf conf = log_dir_conf();
        char path[256];
        log_dir_empty(&dir);
        conf.group_us = 3600u * 1000 * 1000; /* never by time */
        conf.group_bytes = rows[i].group_bytes;
        conf.queue_bytes = 8 * MIB;
        struct log *log = open_log(&conf, NULL);
        append_numbered(log, 0, rows[i].events);
        uint64_t until_us = fb_mono_us() + 30 * US_PER_S;
        while (log_acknowledged(log) == 0 && fb_mono_us() < until_us)
            sched_yield();
        assert_true(log_acknowledged(log) > 0);
        log_dir_segment(&dir, 0, path);
        assert_true(count_blocks(path) >= rows[i].blocks);
        log_close(log);
        check_events(0, rows[i].events);
    }
    struct log_conf conf = log_dir_conf();
    struct fb_err err;
    struct log *log;
    conf.group_bytes = 4095;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, &err), FB_E_RANGE);
}

/* A power cut that kept the last block and dropped the one before: nobody was told of either. */
static void what_was_never_acknowledged_is_cut_not_called_damage(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_recovery rec;
    struct buf file;
    char path[256];
    conf.group_us = 3600u * 1000 * 1000;
    conf.group_bytes = 4 * MIB; /* all that follows is one group */
    conf.queue_bytes = 8 * MIB;
    buf_init(&file, 16 * MIB);
    struct log *log = open_log(&conf, NULL);
    append_numbered(log, 0, 20);
    flush(log);
    log_dir_segment(&dir, 0, path);
    file_read(path, &file);
    size_t durable = file.len;
    append_numbered(log, 20, 4096 + 20); /* several blocks in one group */
    append_numbered(log, 4096 + 20, 4096 + 40);
    flush(log);
    log_close(log);
    file_read(path, &file);
    assert_true(count_blocks(path) >= 3);
    file.at[durable + 200] ^= 1;
    file_write(path, file.at, file.len);
    forget_watermark();
    log = open_log(&conf, &rec);
    assert_int_equal(rec.next_offset, 20);
    assert_int_equal(rec.damaged_places, 0);
    assert_int_equal(rec.lost_events, 0);
    assert_int_equal(rec.torn_bytes, file.len - durable);
    log_close(log);
    check_events(0, 20);
    buf_fini(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_acknowledged_is_there_after_a_restart),
        TEST(nothing_is_readable_before_it_is_durable),
        TEST(two_writers_never_share_a_log),
        TEST(limits_of_the_configuration_are_checked),
        TEST(a_tail_cut_at_any_byte_loses_only_its_own_block),
        TEST(a_first_block_cut_at_any_byte_leaves_an_empty_log),
        TEST(garbage_behind_the_last_block_is_cut),
        TEST(a_damaged_block_in_the_middle_is_skipped_and_told),
        TEST(an_offset_is_never_given_twice),
        TEST(a_newer_layout_is_refused_and_left_alone),
        TEST(a_failed_sync_poisons_its_segment_and_loses_nothing),
        TEST(short_writes_are_continued),
        TEST(a_full_disk_drops_counts_and_tells_a_gap),
        TEST(append_never_waits_for_a_failing_disk),
        TEST(retention_by_bytes_removes_the_oldest_whole_segments),
        TEST(retention_changes_while_the_log_is_written),
        TEST(retention_by_age_keeps_the_newest_segment),
        TEST(segment_numbers_are_never_used_twice),
        TEST(without_a_watermark_all_good_blocks_count),
        TEST(a_group_is_committed_by_its_size_before_its_time),
        TEST(what_was_never_acknowledged_is_cut_not_called_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
