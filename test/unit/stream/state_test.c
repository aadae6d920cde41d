/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rng.h"
#include "log_dir.h"
#include "stream/state.h"

#include <sqlite3.h>

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

static struct state *open_state(struct state_report *report)
{
    struct state *st = NULL;
    struct fb_err err = {.text = ""};
    if (state_open(&st, dir.path, report, &err) != FB_OK)
        fail_msg("%s", err.text);
    return st;
}

static void save(struct state *st, uint64_t offset, const char *text)
{
    char bytes[64];
    snprintf(bytes, sizeof bytes, "%s", text);
    struct state_snapshot s = {.offset = offset, .epoch = 4, .bytes = bytes, .len = strlen(bytes)};
    assert_int_equal(state_snapshot_save(st, "engine", &s, NULL), FB_OK);
}

static void run_sql(const char *sql)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/state.db", dir.path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void the_newest_snapshot_comes_back_with_its_offset(void **state)
{
    (void)state;
    struct state *st = open_state(NULL);
    struct state_snapshot s;
    assert_int_equal(state_snapshot_load(st, "engine", &s, NULL), FB_E_NOT_FOUND);
    save(st, 10, "one");
    save(st, 20, "two");
    state_close(st);
    st = open_state(NULL);
    assert_int_equal(state_snapshot_load(st, "engine", &s, NULL), FB_OK);
    assert_int_equal(s.offset, 20);
    assert_int_equal(s.epoch, 4);
    assert_int_equal(s.len, 3);
    assert_int_equal(s.damaged, 0);
    assert_memory_equal(s.bytes, "two", 3);
    free(s.bytes);
    assert_int_equal(state_snapshot_load(st, "other", &s, NULL), FB_E_NOT_FOUND);
    state_close(st);
}

static void a_large_and_an_empty_snapshot_come_back(void **state)
{
    (void)state;
    struct state *st = open_state(NULL);
    struct state_snapshot loaded, s = {.offset = 1, .len = 3 * MIB};
    struct rng rng;
    rng_init(&rng, 1);
    s.bytes = malloc(s.len);
    assert_non_null(s.bytes);
    for (size_t i = 0; i < s.len; i += 8)
        *(uint64_t *)(void *)((char *)s.bytes + i) = rng_u64(&rng);
    assert_int_equal(state_snapshot_save(st, "large", &s, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "large", &loaded, NULL), FB_OK);
    assert_int_equal(loaded.len, s.len);
    assert_memory_equal(loaded.bytes, s.bytes, s.len);
    free(loaded.bytes);
    size_t len = s.len;
    s.len = 0;
    assert_int_equal(state_snapshot_save(st, "empty", &s, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "empty", &loaded, NULL), FB_OK);
    assert_int_equal(loaded.len, 0);
    free(loaded.bytes);
    s.len = STATE_SNAPSHOT_BYTES_MAX + 1;
    assert_true(len < s.len);
    assert_int_equal(state_snapshot_save(st, "too large", &s, NULL), FB_E_RANGE);
    free(s.bytes);
    state_close(st);
}

static bool count_row(void *arg, const char *key, struct span value)
{
    (void)key;
    (void)value;
    ++*(int *)arg;
    return true;
}

static void only_two_snapshots_are_kept(void **state)
{
    (void)state;
    struct state *st = open_state(NULL);
    int rows = 0;
    for (uint64_t i = 1; i <= 5; i++)
        save(st, i, "x");
    assert_int_equal(state_list(st, STATE_LIST_SNAPSHOTS, count_row, &rows, NULL), FB_OK);
    assert_int_equal(rows, 2);
    state_close(st);
}

static void save_anchor(struct state *st, uint64_t offset, uint64_t first_offset)
{
    struct state_snapshot s = {.offset = offset,
                               .epoch = 1,
                               .bytes = "x",
                               .len = 1,
                               .is_anchor = true,
                               .first_offset = first_offset};
    assert_int_equal(state_snapshot_save(st, "engine", &s, NULL), FB_OK);
}

static void anchors_stay_until_the_log_has_passed_them(void **state)
{
    (void)state;
    struct state *st = open_state(NULL);
    struct state_snapshot s;
    static const struct {
        const char *says;
        uint64_t offset_min, want; /* 0: none */
    } rows[] = {{"the oldest one", 0, 10},
                {"one at the offset", 20, 20},
                {"the next one behind it", 11, 20},
                {"not only anchors", 21, 40},
                {"none behind the newest", 51, 0}};
    save_anchor(st, 10, 0);
    save_anchor(st, 20, 0);
    save(st, 30, "x");
    save(st, 40, "x");
    save(st, 50, "x");
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        enum fb_code code = state_snapshot_find(st, "engine", rows[i].offset_min, &s, NULL);
        if (code != (rows[i].want ? FB_OK : FB_E_NOT_FOUND) || s.offset != rows[i].want)
            fail_msg("%s: code %d, offset %d", rows[i].says, code, (int)s.offset);
        free(s.bytes);
    }
    save_anchor(st, 60, 15); /* the log begins at 15 now */
    assert_int_equal(state_snapshot_find(st, "engine", 0, &s, NULL), FB_OK);
    assert_int_equal(s.offset, 20);
    free(s.bytes);
    for (uint64_t i = 0; i < 2 * STATE_ANCHORS_MAX; i++)
        save_anchor(st, 100 + i, 15);
    int rows_kept = 0;
    assert_int_equal(state_list(st, STATE_LIST_SNAPSHOTS, count_row, &rows_kept, NULL), FB_OK);
    assert_int_equal(rows_kept, STATE_ANCHORS_MAX);
    assert_int_equal(state_snapshot_find(st, "engine", 0, &s, NULL), FB_OK);
    assert_int_equal(s.offset, 20); /* the oldest stays */
    free(s.bytes);
    state_close(st);
}

static void a_damaged_snapshot_falls_back_to_the_one_before(void **state)
{
    (void)state;
    struct {
        const char *says, *sql;
    } rows[] = {
        {"blob is noise", "UPDATE snapshot SET bytes = x'0102030405' WHERE offset = 20"},
        {"blob is gone", "UPDATE snapshot SET bytes = NULL WHERE offset = 20"},
        {"offset was changed", "UPDATE snapshot SET offset = 21 WHERE offset = 20"},
        {"epoch was changed", "UPDATE snapshot SET epoch = 5 WHERE offset = 20"},
        {"checksum was changed", "UPDATE snapshot SET checksum = checksum + 1 WHERE offset = 20"},
        {"length was changed", "UPDATE snapshot SET raw_bytes = 2 WHERE offset = 20"},
        {"length is absurd", "UPDATE snapshot SET raw_bytes = 99999999999 WHERE offset = 20"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct state_snapshot s;
        log_dir_empty(&dir);
        struct state *st = open_state(NULL);
        save(st, 10, "one");
        save(st, 20, "two");
        run_sql(rows[i].sql);
        if (state_snapshot_load(st, "engine", &s, NULL) != FB_OK || s.offset != 10 ||
            s.damaged != 1 || memcmp(s.bytes, "one", 3) != 0)
            fail_msg("%s: not the one before", rows[i].says);
        free(s.bytes);
        run_sql("UPDATE snapshot SET bytes = x'00'");
        assert_int_equal(state_snapshot_load(st, "engine", &s, NULL), FB_E_DAMAGED);
        assert_null(s.bytes);
        state_close(st);
    }
}

static void a_damaged_file_is_moved_aside_and_told(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, 64 * MIB);
    char path[128], aside[160];
    snprintf(path, sizeof path, "%s/state.db", dir.path);
    struct state_report report;
    state_close(open_state(&report));
    assert_false(report.was_damaged);
    file_read(path, &file);
    size_t kinds[][2] = {{0, 100}, {20, file.len}, {100, 4000}};
    for (size_t i = 0; i < FB_COUNT(kinds); i++) {
        struct buf bad;
        buf_init(&bad, 64 * MIB);
        buf_put(&bad, file.at, file.len);
        for (size_t at = kinds[i][0]; at < kinds[i][1] && at < bad.len; at++)
            bad.at[at] = (char)(at * 7 + 1);
        file_write(path, bad.at, bad.len);
        struct state *st = open_state(&report);
        assert_true(report.was_damaged);
        snprintf(aside, sizeof aside, "state.db.damaged-%zu", i + 1);
        assert_non_null(strstr(report.sentence, aside));
        snprintf(aside, sizeof aside, "%s/state.db.damaged-%zu", dir.path, i + 1);
        assert_int_equal(access(aside, F_OK), 0);
        save(st, 1, "works");
        state_close(st);
        buf_fini(&bad);
    }
    buf_fini(&file);
}

static void a_newer_layout_is_refused(void **state)
{
    (void)state;
    struct fb_err err;
    struct state *st;
    state_close(open_state(NULL));
    run_sql("PRAGMA user_version=2");
    assert_int_equal(state_open(&st, dir.path, NULL, &err), FB_E_VERSION);
    assert_non_null(strstr(err.text, "state.db"));
}

static void positions_meta_and_pins_survive(void **state)
{
    (void)state;
    struct state *st = open_state(NULL);
    uint64_t offset;
    char *text = NULL;
    int rows = 0;
    assert_int_equal(state_offset_get(st, "kafka", &offset, NULL), FB_E_NOT_FOUND);
    assert_int_equal(state_offset_set(st, "kafka", 5, NULL), FB_OK);
    assert_int_equal(state_offset_set(st, "kafka", UINT64_MAX - 1, NULL), FB_OK);
    assert_int_equal(state_offset_set(st, "redis", 0, NULL), FB_OK);
    assert_int_equal(state_meta_get(st, "node", &text, NULL), FB_E_NOT_FOUND);
    assert_int_equal(state_meta_set(st, "node", SPAN("77"), NULL), FB_OK);
    assert_int_equal(state_meta_set(st, "empty", (struct span){NULL, 0}, NULL), FB_OK);
    assert_int_equal(state_pin_set(st, "limit/api", SPAN("{\"value\":8}"), NULL), FB_OK);
    assert_int_equal(state_pin_set(st, "limit/shop", SPAN("{}"), NULL), FB_OK);
    assert_int_equal(state_pin_delete(st, "limit/shop", NULL), FB_OK);
    assert_int_equal(state_pin_delete(st, "never", NULL), FB_OK);
    state_close(st);

    st = open_state(NULL);
    assert_int_equal(state_offset_get(st, "kafka", &offset, NULL), FB_OK);
    assert_true(offset == UINT64_MAX - 1);
    assert_int_equal(state_offset_get(st, "redis", &offset, NULL), FB_OK);
    assert_int_equal(offset, 0);
    assert_int_equal(state_meta_get(st, "node", &text, NULL), FB_OK);
    assert_string_equal(text, "77");
    free(text);
    assert_int_equal(state_meta_get(st, "empty", &text, NULL), FB_OK);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(state_list(st, STATE_LIST_PINS, count_row, &rows, NULL), FB_OK);
    assert_int_equal(rows, 1);
    assert_int_equal(state_list(st, STATE_LIST_READERS, count_row, &rows, NULL), FB_OK);
    assert_int_equal(rows, 3);
    state_close(st);
}

static void each_start_has_its_own_epoch(void **state)
{
    (void)state;
    for (uint32_t want = 1; want <= 5; want++) {
        uint32_t epoch = 0;
        struct state *st = open_state(NULL);
        assert_int_equal(state_epoch_next(st, &epoch, NULL), FB_OK);
        assert_int_equal(epoch, want);
        state_close(st);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_newest_snapshot_comes_back_with_its_offset),
        TEST(a_large_and_an_empty_snapshot_come_back),
        TEST(only_two_snapshots_are_kept),
        TEST(anchors_stay_until_the_log_has_passed_them),
        TEST(a_damaged_snapshot_falls_back_to_the_one_before),
        TEST(a_damaged_file_is_moved_aside_and_told),
        TEST(a_newer_layout_is_refused),
        TEST(positions_meta_and_pins_survive),
        TEST(each_start_has_its_own_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
