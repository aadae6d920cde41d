/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rng.h"
#include "log_dir.h"
#include "stream/repair.h"
#include "stream/watermark.h"

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
    char path[128];
    struct log_dir cut;
    snprintf(cut.path, sizeof cut.path, "%.40s/cut", dir.path);
    snprintf(path, sizeof path, "%s", cut.path);
    log_dir_empty(&cut);
    rmdir(path);
    log_dir_remove(&dir);
    return 0;
}

/* Segments of <blocks> blocks of 20 events each, closed. */
static void make_log(uint64_t segments, uint64_t blocks)
{
    struct log_conf conf = log_dir_conf();
    uint64_t next = 0;
    for (uint64_t s = 0; s < segments; s++) { /* each start begins a segment */
        struct log *log;
        assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
        for (uint64_t b = 0; b < blocks; b++, next += 20) {
            append_numbered(log, next, next + 20);
            assert_int_equal(log_flush(log, 10000), FB_OK);
        }
        log_close(log);
    }
}

static struct log_check check(void)
{
    struct log_check found;
    struct fb_err err = {.text = ""};
    if (log_check_run(&found, &(struct log_check_how){.dir = dir.path}, &err) != FB_OK)
        fail_msg("%s", err.text);
    return found;
}

/* Repairs all that it may; returns how many places it acted on. */
static uint64_t repair(void)
{
    struct log_repair r;
    struct fb_err err = {.text = ""};
    uint64_t done = 0;
    assert_int_equal(log_repair_begin(&r, dir.path, &err), FB_OK);
    struct log_check found = check();
    for (size_t i = 0; i < found.place_count; i++) {
        enum repair_step step = log_repair_plan(&r, &found.place[i]);
        if (log_repair_do(&r, dir.path, &found.place[i], &err) != FB_OK)
            fail_msg("%s", err.text);
        done += step != REPAIR_NONE && step != REPAIR_LATER;
    }
    log_check_fini(&found);
    log_repair_end(&r);
    return done;
}

/* Position of block <k> of segment <s>. */
static uint64_t block_position(size_t s, uint64_t k, char path[256])
{
    struct buf file;
    struct block_head head;
    buf_init(&file, 16 * MIB);
    log_dir_segment(&dir, s, path);
    file_read(path, &file);
    uint64_t at = 0;
    for (uint64_t i = 0; i < k; i++, at += block_bytes(&head))
        assert_int_equal(block_head_read((struct span){file.at + at, file.len - at}, &head), FB_OK);
    buf_fini(&file);
    return at;
}

static void flip(const char *path, uint64_t position)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)position), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)position), 1);
    close(fd);
}

/* Counts what a reader gives; every event with its bytes. */
static uint64_t readable(void)
{
    struct log_reader *r;
    const struct ev_head *ev;
    enum fb_code code;
    uint64_t offset, count = 0;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    while ((code = log_reader_next(r, &ev, &offset)) != FB_E_END) {
        if (code == FB_E_DAMAGED)
            continue;
        assert_int_equal(code, FB_OK);
        struct ev_request wanted = numbered_event(offset);
        assert_memory_equal(ev, &wanted, sizeof wanted);
        count++;
    }
    log_reader_close(r);
    return count;
}

static void a_whole_log_is_counted_and_nothing_is_found(void **state)
{
    (void)state;
    make_log(3, 4);
    struct log_check found = check();
    assert_int_equal(found.segments, 3);
    assert_int_equal(found.blocks, 12);
    assert_int_equal(found.events, 240);
    assert_int_equal(found.types[EV_REQUEST], 240);
    assert_int_equal(found.first_offset, 0);
    assert_int_equal(found.next_offset, 240);
    assert_int_equal(found.raw_bytes, 240 * sizeof(struct ev_request));
    assert_int_equal(found.stored_bytes, found.bytes);
    assert_int_equal(found.place_count + found.damaged + found.holes, 0);
    assert_true(found.first_wall_us > 0);
    assert_true(found.last_wall_us > found.first_wall_us);
    log_check_fini(&found);
    assert_int_equal(repair(), 0);
}

static void damage_in_the_middle_is_placed_marked_and_kept_aside(void **state)
{
    (void)state;
    char path[256], kept[400];
    static const uint64_t inside[] = {0, 4, 60, 123, 128, 200};
    for (size_t i = 0; i < FB_COUNT(inside); i++) {
        log_dir_empty(&dir);
        make_log(2, 4);
        uint64_t at = block_position(0, 1, path), end = block_position(0, 2, path);
        struct buf before, after;
        buf_init(&before, 16 * MIB);
        buf_init(&after, 16 * MIB);
        flip(path, at + inside[i]);
        file_read(path, &before);
        struct log_check found = check();
        assert_int_equal(found.damaged, 1);
        assert_int_equal(found.damaged_bytes, end - at);
        assert_int_equal(found.missing, 20);
        assert_int_equal(found.events, 140);
        assert_int_equal(found.place_count, 1);
        assert_int_equal(found.place[0].kind, CHECK_DAMAGE);
        assert_int_equal(found.place[0].segment, 1);
        assert_int_equal(found.place[0].position, at);
        assert_int_equal(found.place[0].from, 20);
        assert_int_equal(found.place[0].to, 40);
        log_check_fini(&found);
        assert_int_equal(readable(), 140);
        assert_int_equal(repair(), 1);
        found = check();
        assert_int_equal(found.damaged, 0);
        assert_int_equal(found.repaired, 1);
        assert_int_equal(found.missing, 20);
        log_check_fini(&found);
        assert_int_equal(readable(), 140);
        assert_int_equal(repair(), 0); /* once */
        /* All but the mark is as it was, and the damaged bytes can be had. */
        file_read(path, &after);
        assert_int_equal(after.len, before.len);
        assert_memory_equal(after.at, before.at, at);
        assert_memory_equal(after.at + at + CHECK_MARK_BYTES, before.at + at + CHECK_MARK_BYTES,
                            before.len - at - CHECK_MARK_BYTES);
        snprintf(kept, sizeof kept, "%s/cut/%s.%llu", dir.path, strrchr(path, '/') + 1,
                 (unsigned long long)at);
        file_read(kept, &after);
        assert_int_equal(after.len, end - at);
        assert_memory_equal(after.at, before.at + at, end - at);
        buf_fini(&before);
        buf_fini(&after);
    }
}

static void a_damaged_end_of_an_old_segment_is_cut(void **state)
{
    (void)state;
    char path[256];
    struct stat st;
    make_log(2, 4);
    uint64_t at = block_position(0, 3, path);
    flip(path, at + 140);
    struct log_check found = check();
    assert_int_equal(found.damaged, 1);
    assert_int_equal(found.place[0].kind, CHECK_TAIL);
    assert_int_equal(found.place[0].from, 60);
    assert_int_equal(found.place[0].to, 80);
    log_check_fini(&found);
    assert_int_equal(repair(), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, at);
    found = check();
    assert_int_equal(found.damaged, 0);
    assert_int_equal(found.missing, 20); /* still told: a hole without bytes */
    assert_int_equal(found.place[0].kind, CHECK_HOLE);
    log_check_fini(&found);
    assert_int_equal(readable(), 140);
}

static void a_segment_without_a_good_block_is_moved_away(void **state)
{
    (void)state;
    char path[256], kept[400];
    make_log(3, 2);
    log_dir_segment(&dir, 1, path);
    file_write(path, "what is this?", 13);
    struct log_check found = check();
    assert_int_equal(found.damaged, 1);
    assert_int_equal(found.place[0].kind, CHECK_EMPTY);
    assert_int_equal(found.missing, 40);
    log_check_fini(&found);
    assert_int_equal(repair(), 1);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(kept, sizeof kept, "%s/cut/%s.0", dir.path, strrchr(path, '/') + 1);
    assert_int_equal(access(kept, F_OK), 0);
    assert_int_equal(readable(), 80);
}

static void an_empty_file_that_is_no_part_of_the_chain_is_passed_over_and_told(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {99, 0}; /* behind the others, and before them */
    for (size_t i = 0; i < FB_COUNT(numbers); i++) {
        char name[SEGMENT_NAME_BYTES], path[256];
        tear_down(NULL);
        set_up(NULL);
        make_log(3, 4);
        char first[256];
        log_dir_segment(&dir, 0, first);
        assert_int_equal(unlink(first), 0); /* retention: the log begins at 80 */
        segment_name(name, numbers[i], 0);
        snprintf(path, sizeof path, "%s/%s", dir.path, name);
        close(open(path, O_CREAT | O_WRONLY, 0640));
        assert_int_equal(readable(), 160);
        struct log_reader *r;
        assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
        assert_int_equal(log_reader_first(r), 80);
        log_reader_close(r);
        struct log_check found = check();
        assert_int_equal(found.events, 160);
        assert_int_equal(found.first_offset, 80);
        assert_int_equal(found.holes, 0);
        assert_int_equal(found.damaged, 1);
        assert_int_equal(found.place[0].kind, CHECK_EMPTY);
        assert_int_equal(found.place[0].segment, numbers[i]);
        log_check_fini(&found);
        assert_int_equal(repair(), 1);
        found = check();
        assert_int_equal(found.damaged, 0);
        assert_int_equal(found.segments, 2);
        log_check_fini(&found);
    }
}

static void the_segment_that_is_written_waits_for_its_writer(void **state)
{
    (void)state;
    char path[256];
    struct log_conf conf = log_dir_conf();
    struct log_repair r;
    struct log *log;
    make_log(2, 3);
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    append_numbered(log, 120, 140);
    assert_int_equal(log_flush(log, 10000), FB_OK);
    append_numbered(log, 140, 160);
    assert_int_equal(log_flush(log, 10000), FB_OK);
    uint64_t at = block_position(2, 0, path);
    flip(path, at + 140);
    at = block_position(0, 1, path);
    flip(path, at + 140);
    assert_int_equal(log_repair_begin(&r, dir.path, NULL), FB_OK);
    assert_true(r.is_live);
    struct log_check found = check();
    assert_int_equal(found.damaged, 2);
    assert_int_equal(log_repair_plan(&r, &found.place[0]), REPAIR_MARK);
    assert_int_equal(log_repair_plan(&r, &found.place[1]), REPAIR_LATER);
    log_check_fini(&found);
    /* Two repairs exclude each other. */
    struct log_repair second;
    struct fb_err err;
    assert_int_equal(log_repair_begin(&second, dir.path, &err), FB_E_CONFLICT);
    log_repair_end(&r);
    assert_int_equal(repair(), 1);
    append_numbered(log, 160, 180); /* the writer goes on */
    log_close(log);
    assert_int_equal(repair(), 1); /* now it may */
    assert_int_equal(readable(), 140);
}

/* A crash between the write and the watermark: a start takes these blocks up, a cut would not. */
static void what_stands_behind_the_watermark_is_not_cut(void **state)
{
    (void)state;
    char path[256];
    struct stat before, after;
    struct watermark mark;
    struct watermark_map *map;
    struct log_repair r;
    struct fb_err err;
    make_log(2, 4);
    uint64_t at = block_position(1, 2, path);
    flip(path, at + 140);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(watermark_open(&map, dir.path, true, NULL), FB_OK);
    assert_true(watermark_read(map, &mark));
    mark.position = block_position(1, 3, path);
    mark.next_offset -= 20;
    watermark_publish(map, &mark);
    watermark_close(map);
    struct log_check found = check();
    assert_int_equal(found.place_count, 1);
    assert_int_equal(found.place[0].kind, CHECK_TAIL);
    assert_int_equal(log_repair_begin(&r, dir.path, NULL), FB_OK);
    assert_int_equal(log_repair_do(&r, dir.path, &found.place[0], &err), FB_E_CONFLICT);
    assert_non_null(strstr(err.text, "start foldback once"));
    log_repair_end(&r);
    log_check_fini(&found);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
}

/* Any bytes anywhere: a check ends, a repair too, and no readable event is lost by it. */
static void no_good_block_is_ever_lost_by_a_repair(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    for (int round = 0; round < 60; round++) {
        char path[256];
        log_dir_empty(&dir);
        make_log(3, 5);
        for (uint32_t n = 1 + rng_below(&rng, 4); n > 0; n--) {
            struct stat st;
            char junk[600];
            for (size_t i = 0; i < sizeof junk; i++)
                junk[i] = (char)rng_below(&rng, 256);
            log_dir_segment(&dir, rng_below(&rng, 3), path);
            int fd = open(path, O_RDWR);
            assert_int_equal(fstat(fd, &st), 0);
            off_t at = rng_below(&rng, (uint32_t)st.st_size);
            assert_true(pwrite(fd, junk, 1 + rng_below(&rng, sizeof junk - 1), at) > 0);
            close(fd);
        }
        uint64_t before = readable();
        struct log_check found = check();
        assert_int_equal(found.events, before);
        assert_true(found.damaged > 0);
        log_check_fini(&found);
        assert_true(repair() > 0);
        assert_int_equal(readable(), before);
        found = check();
        assert_int_equal(found.damaged, 0);
        assert_int_equal(found.events, before);
        log_check_fini(&found);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_log_is_counted_and_nothing_is_found),
        TEST(damage_in_the_middle_is_placed_marked_and_kept_aside),
        TEST(a_damaged_end_of_an_old_segment_is_cut),
        TEST(a_segment_without_a_good_block_is_moved_away),
        TEST(the_segment_that_is_written_waits_for_its_writer),
        TEST(what_stands_behind_the_watermark_is_not_cut),
        TEST(no_good_block_is_ever_lost_by_a_repair),
        TEST(an_empty_file_that_is_no_part_of_the_chain_is_passed_over_and_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
