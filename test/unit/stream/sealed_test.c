/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks, logs and snapshots under keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../guard/key_dir.h"
#include "base/clock.h"
#include "stream/block.h"
#include "stream/crc32c.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "stream/segment.h"
#include "stream/state.h"
#include "stream/writer.h"

#include <dirent.h>

#define T0 (UINT64_C(1700000000) * US_PER_S)
#define RECORDS 200

static struct key_dir dir;
static struct keyring *keys;
static struct block_codec *codec;
static union {
    struct ev_custom at[RECORDS];
    unsigned char bytes[BLOCK_RAW_BYTES_MAX];
} records;
static unsigned char out[BLOCK_RAW_BYTES_MAX];
static unsigned char block[BLOCK_BYTES_MAX];

static int set_up(void **state)
{
    (void)state;
    struct keyring_conf conf = {.period_us = 3600 * US_PER_S};
    key_dir_make(&dir);
    conf.master = dir.master;
    for (int i = 0; i < RECORDS; i++) {
        records.at[i] = EV_INIT(CUSTOM, custom, T0 + (uint64_t)i);
        records.at[i].value = i;
        snprintf(records.at[i].text, sizeof records.at[i].text, "person %d", i);
    }
    codec = block_codec_new();
    if (!codec || keyring_start(&keys, dir.path, &conf, T0, NULL) != FB_OK)
        return -1;
    block_codec_keys(codec, keys);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[200], file[500];
    block_codec_free(codec);
    keyring_unref(keys);
    snprintf(path, sizeof path, "%s/log", dir.path);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        unlink(file);
    }
    if (d)
        closedir(d);
    rmdir(path);
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/state.db%s", dir.path,
                 i == 0   ? ""
                 : i == 1 ? "-wal"
                          : "-shm");
        unlink(file);
    }
    key_dir_remove(&dir);
    return 0;
}

/* A sealed block in <block>. */
static struct block_head make_block(void)
{
    struct span b;
    struct block_head head = {.node = 7,
                              .epoch = 3,
                              .first_offset = 1000,
                              .wall_minus_mono_us = 5,
                              .has_acknowledged = true,
                              .acknowledged = 900};
    struct span in = {(const char *)records.bytes, sizeof records.at};
    assert_int_equal(block_encode(codec, &head, in, &b), FB_OK);
    assert_int_equal(block_seal(codec, &head, 9, 4096), FB_OK);
    memcpy(block, b.at, b.len);
    return head;
}

static enum fb_code decode(struct block_codec *c)
{
    struct block_head head;
    enum fb_code code = block_head_read((struct span){(char *)block, BLOCK_HEADER_BYTES}, &head);
    if (code != FB_OK)
        return code;
    struct span body = {(char *)block + BLOCK_HEADER_BYTES,
                        block_bytes(&head) - BLOCK_HEADER_BYTES};
    if (body.len > sizeof block - BLOCK_HEADER_BYTES || !block_body_is_good(&head, body))
        return FB_E_DAMAGED;
    return block_decode(c, &head, body, out);
}

/* As somebody does who wants us to believe it. */
static void mend_header(void)
{
    uint32_t crc = crc32c(0, block, BLOCK_HEADER_BYTES - 4);
    memcpy(block + BLOCK_HEADER_BYTES - 4, &crc, 4);
}

static void a_sealed_block_opens_to_the_same_records_and_hides_them(void **state)
{
    (void)state;
    struct block_head head = make_block();
    assert_int_equal(head.key_id, 1);
    assert_null(memmem(block, block_bytes(&head), "person", 6));
    assert_int_equal(decode(codec), FB_OK);
    assert_memory_equal(out, records.bytes, sizeof records.at);
    struct block_head again = make_block();
    assert_memory_not_equal(head.nonce, again.nonce, 12);
}

static void every_byte_of_header_and_body_is_bound(void **state)
{
    (void)state;
    struct block_head head = make_block();
    uint32_t stored_end = BLOCK_HEADER_BYTES + head.stored_bytes;
    for (uint32_t i = 0; i < BLOCK_HEADER_BYTES - 4; i++) {
        block[i] ^= 0x01;
        mend_header();
        assert_int_not_equal(decode(codec), FB_OK);
        block[i] ^= 0x01;
        mend_header();
    }
    for (uint32_t i = BLOCK_HEADER_BYTES; i < stored_end; i += 13) {
        block[i] ^= 0x80;
        uint32_t crc =
            crc32c(0, block + BLOCK_HEADER_BYTES, block_bytes(&head) - BLOCK_HEADER_BYTES);
        memcpy(block + 112, &crc, 4);
        mend_header();
        assert_int_equal(decode(codec), FB_E_DAMAGED);
        block[i] ^= 0x80;
    }
    uint32_t crc = crc32c(0, block + BLOCK_HEADER_BYTES, block_bytes(&head) - BLOCK_HEADER_BYTES);
    memcpy(block + 112, &crc, 4);
    mend_header();
    assert_int_equal(decode(codec), FB_OK);
}

static void without_its_key_a_block_is_good_and_cannot_be_read(void **state)
{
    (void)state;
    struct block_codec *blind = block_codec_new();
    make_block();
    assert_int_equal(decode(blind), FB_E_KEY);
    block_codec_free(blind);
    assert_int_equal(keyring_rotate(keys, "test", T0, NULL), FB_OK);
    assert_int_equal(keyring_destroy(keys, 1, "test", NULL), FB_OK);
    assert_int_equal(decode(codec), FB_E_NOT_FOUND);
}

/* ---- the log ---- */

static void write_log(const char *path, int turns)
{
    struct log_conf conf;
    struct log *log;
    struct fb_err err;
    log_conf_init(&conf);
    conf.node = 1;
    conf.epoch = 1;
    conf.keys = keys;
    if (log_open(&log, path, &conf, NULL, &err) != FB_OK)
        fail_msg("%s", err.text);
    for (int t = 0; t < turns; t++) {
        struct span in = {(const char *)records.bytes, sizeof records.at};
        assert_int_equal(log_append(log, in, log_next_offset(log)), RECORDS);
        assert_int_equal(log_flush(log, 30000), FB_OK);
        assert_int_equal(keyring_rotate(keys, "test", T0, NULL), FB_OK);
    }
    log_close(log);
}

/* Events until the end or an error; *holes counts what was told as missing. */
static enum fb_code read_all(const char *path, uint64_t *events, uint64_t *holes)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    *events = *holes = 0;
    enum fb_code code = log_reader_open(&r, path, LOG_FROM_START, NULL);
    if (code != FB_OK)
        return code;
    while ((code = log_reader_next(r, &ev, &offset)) == FB_OK || code == FB_E_DAMAGED) {
        if (code == FB_E_DAMAGED) {
            assert_int_equal(log_reader_skip(r)->reason, REASON_NONE);
            assert_non_null(strstr(log_reader_skip(r)->sentence, "destroyed"));
            *holes += log_reader_skip(r)->to - log_reader_skip(r)->from;
            continue;
        }
        assert_string_equal(((const struct ev_custom *)ev)->text,
                            records.at[offset % RECORDS].text);
        ++*events;
    }
    if (code == FB_E_KEY)
        assert_non_null(strstr(log_reader_why(r), "key"));
    log_reader_close(r);
    return code;
}

static void a_log_over_many_keys_reads_as_one(void **state)
{
    (void)state;
    char path[200];
    uint64_t events, holes;
    snprintf(path, sizeof path, "%s/log", dir.path);
    write_log(path, 5);
    assert_int_equal(read_all(path, &events, &holes), FB_E_END);
    assert_int_equal(events, 5 * RECORDS);
    assert_int_equal(holes, 0);
    assert_int_equal(keyring_destroy(keys, 2, "test", NULL), FB_OK);
    assert_int_equal(read_all(path, &events, &holes), FB_E_END);
    assert_int_equal(events, 4 * RECORDS);
    assert_int_equal(holes, RECORDS);
}

static void without_keys_a_log_is_refused_recovered_and_not_changed(void **state)
{
    (void)state;
    char path[200], file[200], away[200];
    uint64_t events, holes;
    struct log_conf conf;
    struct log_recovery found;
    struct log *log;
    snprintf(path, sizeof path, "%s/log", dir.path);
    snprintf(file, sizeof file, "%s/keys", dir.path);
    snprintf(away, sizeof away, "%s/other", dir.path);
    write_log(path, 2);
    block_codec_keys(codec, NULL);
    keyring_unref(keys);
    keys = NULL;
    assert_int_equal(rename(file, away), 0);
    assert_int_equal(read_all(path, &events, &holes), FB_E_KEY);
    assert_int_equal(events, 0);
    log_conf_init(&conf);
    conf.node = 1;
    conf.epoch = 2;
    assert_int_equal(log_open(&log, path, &conf, &found, NULL), FB_OK);
    assert_int_equal(found.torn_bytes, 0);
    assert_int_equal(found.damaged_places, 0);
    assert_int_equal(found.next_offset, 2 * RECORDS);
    log_close(log);
    assert_int_equal(rename(away, file), 0);
    assert_int_equal(read_all(path, &events, &holes), FB_E_END);
    assert_int_equal(events, 2 * RECORDS);
}

/* ---- retention ---- */

#define DAY_US (24 * 3600 * US_PER_S)

static size_t segments_left(struct writer *w, uint64_t wall_us)
{
    writer_expire_at(w, wall_us);
    return w->list.count;
}

/* Figures outlive personal fields: at each clock the class with the shorter time is gone first. */
static void each_class_ends_when_its_own_time_is_over(void **state)
{
    (void)state;
    char path[200];
    struct segment_list list;
    struct writer w = {0};
    struct log_conf conf;
    struct keyring_conf kc = {
        .master = dir.master, .period_us = DAY_US / 24, .personal_age_us = 2 * DAY_US};
    unsigned char key[32];
    uint64_t wall_us = fb_wall_us();
    snprintf(path, sizeof path, "%s/log", dir.path);
    keyring_reconfigure(keys, &kc);
    for (int i = 0; i < 3; i++)
        write_log(path, 1); /* a segment per start */
    log_conf_init(&conf);
    conf.retain_s = 7 * 24 * 3600;
    assert_int_equal(segment_list_read(&list, path, NULL), FB_OK);
    assert_int_equal(list.count, 3);
    assert_int_equal(writer_init(&w, path, &conf, &list, NULL), FB_OK);
    uint32_t period = keyring_period(keys);
    /* a day: all is there; three: the personal fields are gone; eight: the newest segment is left
     */
    for (uint64_t h = 0; h <= 24; h++)
        assert_int_equal(keyring_watch(keys, T0 + h * DAY_US / 24, NULL), FB_OK);
    assert_int_equal(segments_left(&w, wall_us + DAY_US), 3);
    assert_true(keyring_text_key(keys, period, 5, key));
    for (uint64_t h = 24; h <= 72; h++)
        assert_int_equal(keyring_watch(keys, T0 + h * DAY_US / 24, NULL), FB_OK);
    assert_int_equal(segments_left(&w, wall_us + 3 * DAY_US), 3);
    assert_false(keyring_text_key(keys, period, 5, key));
    assert_int_equal(segments_left(&w, wall_us + 8 * DAY_US), 1);
    writer_fini(&w);
}

static void operational_events_end_by_bytes_too(void **state)
{
    (void)state;
    char path[200];
    struct segment_list list;
    struct writer w = {0};
    struct log_conf conf;
    snprintf(path, sizeof path, "%s/log", dir.path);
    for (int i = 0; i < 3; i++)
        write_log(path, 1);
    log_conf_init(&conf);
    assert_int_equal(segment_list_read(&list, path, NULL), FB_OK);
    conf.retain_bytes = list.at[1].bytes + list.at[2].bytes;
    assert_int_equal(writer_init(&w, path, &conf, &list, NULL), FB_OK);
    assert_int_equal(segments_left(&w, 0), 2);
    writer_fini(&w);
}

/* ---- snapshots ---- */

static void a_snapshot_is_sealed_and_opens_at_its_own_place_only(void **state)
{
    (void)state;
    struct state *st;
    struct state_snapshot snap = {
        .offset = 77, .epoch = 1, .bytes = (void *)"what was learned", .len = 16};
    uint32_t uses;
    assert_int_equal(state_open(&st, dir.path, NULL, NULL), FB_OK);
    assert_int_equal(state_snapshot_save(st, "fold", &snap, NULL), FB_OK);
    assert_int_equal(state_snapshot_uses(st, 1, &uses, NULL), FB_OK);
    assert_int_equal(uses, 1);
    assert_int_equal(state_snapshot_load(st, "fold", &snap, NULL), FB_OK);
    assert_memory_equal(snap.bytes, "what was learned", 16);
    free(snap.bytes);
    assert_int_equal(keyring_rotate(keys, "test", T0, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "fold", &snap, NULL), FB_OK);
    free(snap.bytes);
    struct state *looking;
    assert_int_equal(state_peek(&looking, dir.path, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(looking, "fold", &snap, NULL), FB_OK);
    assert_memory_equal(snap.bytes, "what was learned", 16);
    free(snap.bytes);
    state_close(looking);
    assert_int_equal(keyring_destroy(keys, 1, "test", NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "fold", &snap, NULL), FB_E_DAMAGED);
    state_close(st);
}

static void a_snapshot_without_its_key_file_is_refused_not_dropped(void **state)
{
    (void)state;
    struct state *st;
    struct fb_err err;
    struct state_snapshot snap = {
        .offset = 77, .epoch = 1, .bytes = (void *)"what was learned", .len = 16};
    char file[200], away[200];
    assert_int_equal(state_open(&st, dir.path, NULL, NULL), FB_OK);
    assert_int_equal(state_snapshot_save(st, "fold", &snap, NULL), FB_OK);
    state_close(st);
    block_codec_keys(codec, NULL);
    keyring_unref(keys);
    keys = NULL;
    snprintf(file, sizeof file, "%s/keys", dir.path);
    snprintf(away, sizeof away, "%s/other", dir.path);
    assert_int_equal(rename(file, away), 0);
    assert_int_equal(state_open(&st, dir.path, NULL, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "fold", &snap, &err), FB_E_KEY);
    assert_non_null(strstr(err.text, "put the newest key file back"));
    state_close(st);
    assert_int_equal(rename(away, file), 0);
    assert_int_equal(state_open(&st, dir.path, NULL, NULL), FB_OK);
    assert_int_equal(state_snapshot_load(st, "fold", &snap, NULL), FB_OK);
    free(snap.bytes);
    state_close(st);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sealed_block_opens_to_the_same_records_and_hides_them),
        TEST(every_byte_of_header_and_body_is_bound),
        TEST(without_its_key_a_block_is_good_and_cannot_be_read),
        TEST(a_log_over_many_keys_reads_as_one),
        TEST(without_keys_a_log_is_refused_recovered_and_not_changed),
        TEST(each_class_ends_when_its_own_time_is_over),
        TEST(operational_events_end_by_bytes_too),
        TEST(a_snapshot_is_sealed_and_opens_at_its_own_place_only),
        TEST(a_snapshot_without_its_key_file_is_refused_not_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
