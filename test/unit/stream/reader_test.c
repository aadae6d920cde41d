/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rng.h"
#include "log_dir.h"

static struct log_dir dir;

static int set_up(void **state)
{
    (void)state;
    log_dir_make(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_dir_remove(&dir);
    return 0;
}

static struct log *open_log(const struct log_conf *conf)
{
    struct log *log = NULL;
    struct fb_err err = {.text = ""};
    if (log_open(&log, dir.path, conf, NULL, &err) != FB_OK)
        fail_msg("%s", err.text);
    return log;
}

static struct log_reader *open_reader(uint64_t from)
{
    struct log_reader *r = NULL;
    struct fb_err err = {.text = ""};
    if (log_reader_open(&r, dir.path, from, &err) != FB_OK)
        fail_msg("%s", err.text);
    return r;
}

static void flush(struct log *log)
{
    assert_int_equal(log_flush(log, 10000), FB_OK);
}

static void expect_end(struct log_reader *r)
{
    const struct ev_head *ev;
    uint64_t offset;
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_END);
}

static void expect_events(struct log_reader *r, uint64_t from, uint64_t to)
{
    const struct ev_head *ev;
    uint64_t offset;
    for (uint64_t want = from; want < to; want++) {
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_int_equal(offset, want);
        struct ev_request wanted = numbered_event(want);
        assert_memory_equal(ev, &wanted, sizeof wanted);
    }
}

static void a_reader_follows_the_writer_over_segments(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    conf.segment_bytes = 64 * KIB;
    conf.group_us = 3600u * 1000 * 1000; /* nothing is written but by flush, or by a full chunk */
    struct log *log = open_log(&conf);
    struct log_reader *r = open_reader(LOG_FROM_START);
    expect_end(r);
    uint64_t next = 0;
    for (uint64_t n = 1; n < 9000; n = n * 3 / 2 + 1) {
        append_numbered(log, next, next + n);
        if (n < BLOCK_RAW_BYTES_MAX / sizeof(struct ev_request))
            assert_int_equal(log_reader_lag(r), 0);
        flush(log);
        assert_int_equal(log_reader_lag(r), n);
        expect_events(r, next, next + n);
        expect_end(r);
        expect_end(r);
        next += n;
    }
    assert_true(log_dir_segment(&dir, 1000, (char[256]){0}) > 1);
    /* A restart of the writer begins a new segment; the reader goes on. */
    log_close(log);
    log = open_log(&conf);
    append_numbered(log, next, next + 10);
    flush(log);
    expect_events(r, next, next + 10);
    log_reader_close(r);
    log_close(log);
}

/* 20,000 events in blocks of very different sizes over several segments. */
static struct log *make_log(uint64_t *events)
{
    struct log_conf conf = log_dir_conf();
    struct rng rng;
    rng_init(&rng, 4);
    conf.segment_bytes = 64 * KIB;
    struct log *log = open_log(&conf);
    uint64_t next = 0;
    while (next < 20000) {
        uint64_t n = rng_below(&rng, 4) ? 1 + rng_below(&rng, 20) : 1 + rng_below(&rng, 1500);
        append_numbered(log, next, next + n);
        flush(log);
        next += n;
    }
    *events = next;
    return log;
}

static void each_offset_is_found(void **state)
{
    (void)state;
    uint64_t events;
    struct rng rng;
    rng_init(&rng, 1);
    struct log *log = make_log(&events);
    struct log_reader *r = open_reader(LOG_FROM_START);
    for (int i = 0; i < 400; i++) {
        uint64_t at = i == 0 ? 0 : i == 1 ? events - 1 : rng_below(&rng, (uint32_t)events);
        assert_int_equal(log_reader_seek(r, at), FB_OK);
        assert_int_equal(log_reader_offset(r), at);
        expect_events(r, at, fb_min_u64(at + 3, events));
    }
    log_reader_close(r);
    log_close(log);
}

static void the_end_gives_only_what_comes_later(void **state)
{
    (void)state;
    uint64_t events;
    struct log *log = make_log(&events);
    struct log_reader *r = open_reader(LOG_FROM_END), *later = open_reader(events + 5);
    expect_end(r);
    expect_end(later);
    append_numbered(log, events, events + 10);
    flush(log);
    expect_events(r, events, events + 10);
    expect_events(later, events + 5, events + 10);
    log_reader_close(r);
    log_reader_close(later);
    log_close(log);
}

static void each_time_is_found(void **state)
{
    (void)state;
    uint64_t events, offset;
    const struct ev_head *ev;
    struct rng rng;
    rng_init(&rng, 2);
    struct log *log = make_log(&events);
    struct log_reader *r = open_reader(LOG_FROM_START);
    for (int i = 0; i < 200; i++) {
        uint64_t at = i == 0 ? 0 : rng_below(&rng, (uint32_t)events - 20);
        assert_int_equal(log_reader_seek(r, at), FB_OK);
        expect_events(r, at, at + 1);
        uint64_t wall_us = log_reader_wall_us(r);
        assert_int_equal(log_reader_seek_wall(r, wall_us), FB_OK);
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_true(log_reader_wall_us(r) >= wall_us);
        /* Events are 10 us apart, and the two clocks are read up to some us apart for each block.
         */
        uint64_t off = offset > at ? offset - at : at - offset;
        assert_true(off <= 100);
    }
    assert_int_equal(log_reader_seek_wall(r, UINT64_MAX / 2), FB_OK);
    expect_end(r);
    assert_int_equal(log_reader_seek_wall(r, 1), FB_OK);
    expect_events(r, 0, 5);
    log_reader_close(r);
    log_close(log);
}

/* A block of the events <from> .. <to>-1 for place <position> of segment <number>. */
static void put_block(struct buf *file, uint32_t number, uint64_t from, uint64_t to)
{
    struct block_codec *c = block_codec_new();
    struct ev_request *batch = aligned_alloc(64, (size_t)(to - from) * sizeof *batch);
    assert_non_null(c);
    assert_non_null(batch);
    for (uint64_t i = from; i < to; i++)
        batch[i - from] = numbered_event(i);
    struct block_head head = {.node = 5, .epoch = 1, .first_offset = from};
    struct span block, records = {(char *)batch, (size_t)(to - from) * sizeof *batch};
    assert_int_equal(block_encode(c, &head, records, &block), FB_OK);
    block_seal(c, &head, number, (uint32_t)file->len);
    buf_put_span(file, block);
    free(batch);
    block_codec_free(c);
}

static void write_segment(struct buf *file, uint32_t number, uint64_t first)
{
    char name[SEGMENT_NAME_BYTES], path[256];
    segment_name(name, number, first);
    snprintf(path, sizeof path, "%s/%s", dir.path, name);
    file_write(path, file->at, file->len);
    buf_clear(file);
}

static void blocks_that_a_poisoned_segment_left_come_once(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, MIB);
    put_block(&file, 1, 0, 20);
    put_block(&file, 1, 20, 40); /* its sync failed, and so did the cutting */
    write_segment(&file, 1, 0);
    put_block(&file, 2, 20, 30); /* the same events again, cut differently */
    put_block(&file, 2, 30, 60);
    write_segment(&file, 2, 20);
    struct log_reader *r = open_reader(LOG_FROM_START);
    expect_events(r, 0, 60);
    expect_end(r);
    assert_int_equal(log_reader_seek(r, 25), FB_OK);
    expect_events(r, 25, 60);
    log_reader_close(r);
    buf_fini(&file);
}

static void a_block_in_the_wrong_place_is_not_taken(void **state)
{
    (void)state;
    struct buf file;
    const struct ev_head *ev;
    uint64_t offset;
    buf_init(&file, MIB);
    put_block(&file, 1, 0, 20);
    size_t one = file.len;
    assert_true(buf_reserve(&file, one)); /* so that the copy below stays in place */
    buf_put(&file, file.at, one); /* the first block again, as a misplaced write leaves it */
    put_block(&file, 3, 20, 40);  /* of another segment */
    put_block(&file, 1, 40, 60);  /* right */
    write_segment(&file, 1, 0);
    struct log_reader *r = open_reader(LOG_FROM_START);
    expect_events(r, 0, 20);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_DAMAGED);
    assert_int_equal(log_reader_skip(r)->from, 20);
    assert_int_equal(log_reader_skip(r)->to, 40);
    assert_int_equal(log_reader_skip(r)->reason, REASON_LOSS_DAMAGED);
    assert_non_null(strstr(log_reader_skip(r)->sentence, "20 events"));
    expect_events(r, 40, 60);
    expect_end(r);
    log_reader_close(r);
    buf_fini(&file);
}

static void acknowledged_blocks_that_vanished_are_told_at_the_end(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct buf file;
    const struct ev_head *ev;
    uint64_t offset;
    char path[256];
    buf_init(&file, MIB);
    struct log *log = open_log(&conf);
    append_numbered(log, 0, 20);
    flush(log);
    log_dir_segment(&dir, 0, path);
    file_read(path, &file);
    append_numbered(log, 20, 40);
    flush(log);
    assert_int_equal(truncate(path, (off_t)file.len), 0);
    struct log_reader *r = open_reader(LOG_FROM_START);
    expect_events(r, 0, 20);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_DAMAGED);
    assert_int_equal(log_reader_skip(r)->to, 40);
    expect_end(r);
    log_reader_close(r);
    log_close(log);
    buf_fini(&file);
}

static void other_files_in_the_directory_are_no_segments(void **state)
{
    (void)state;
    static const char *const names[] = {
        "0000000001-00000000000000000000.fbl.tmp", "notes.txt",
        "0000000001_00000000000000000000.fbl",     "lock",
        "000000000x-00000000000000000000.fbl",     "9999999999-00000000000000000000.fbl"};
    for (size_t i = 0; i < FB_COUNT(names); i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", dir.path, names[i]);
        file_write(path, "x", 1);
    }
    assert_int_equal(log_dir_segment(&dir, 0, (char[256]){0}), 0);
    struct log_reader *r = open_reader(LOG_FROM_START);
    expect_end(r);
    log_reader_close(r);
}

static void a_missing_directory_is_told_by_name(void **state)
{
    (void)state;
    struct log_reader *r;
    struct fb_err err;
    assert_int_equal(log_reader_open(&r, "/nonexistent/log", 0, &err), FB_E_IO);
    assert_non_null(strstr(err.text, "/nonexistent/log"));
}

/* A seek guesses the place from the offset: wrong guesses cost looks, never events. */
static void every_offset_is_found_whatever_the_sizes_of_the_blocks(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t next = 0, offset;
    struct rng rng;
    rng_init(&rng, 9);
    conf.segment_bytes = 512 * KIB;
    conf.group_us = 100;
    conf.compact_us = 0;
    struct log *log = NULL;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    /* Small blocks first, then large ones, then both; and so again in each segment. */
    for (int i = 0; i < 900; i++) {
        bool is_large = i / 150 % 3 == 1 || (i / 150 % 3 == 2 && i % 5 == 0);
        uint64_t to = next + 1 + rng_below(&rng, is_large ? 1500 : 4);
        assert_int_equal(append_numbered(log, next, to), to - next);
        next = to;
        assert_int_equal(log_flush(log, 20000), FB_OK);
    }
    assert_int_equal(log_reader_open(&r, dir.path, 0, NULL), FB_OK);
    for (int i = 0; i < 3000; i++) {
        uint64_t wanted = i < 10   ? (uint64_t)i
                          : i < 20 ? next - (uint64_t)(i - 9)
                                   : rng_u64(&rng) % next;
        assert_int_equal(log_reader_seek(r, wanted), FB_OK);
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_int_equal(offset, wanted);
        struct ev_request event = numbered_event(wanted);
        assert_memory_equal(ev, &event, sizeof event);
    }
    assert_int_equal(log_reader_seek(r, next), FB_OK);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_END);
    log_reader_close(r);
    log_close(log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reader_follows_the_writer_over_segments),
        TEST(each_offset_is_found),
        TEST(the_end_gives_only_what_comes_later),
        TEST(every_offset_is_found_whatever_the_sizes_of_the_blocks),
        TEST(each_time_is_found),
        TEST(blocks_that_a_poisoned_segment_left_come_once),
        TEST(a_block_in_the_wrong_place_is_not_taken),
        TEST(acknowledged_blocks_that_vanished_are_told_at_the_end),
        TEST(other_files_in_the_directory_are_no_segments),
        TEST(a_missing_directory_is_told_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
