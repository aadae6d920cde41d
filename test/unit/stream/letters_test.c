/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters: found in whatever they hold, taken out, never written into a file that is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../guard/key_dir.h"
#include "base/base64.h"
#include "stream/block.h"
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHO "canary-7f3a"
#define T0 (UINT64_C(1700000000) * US_PER_S)
#define HOUR_US (3600 * US_PER_S)

static struct key_dir dir;
static const char *state_dir;
static char path[300], older[310];
static struct block_codec *codec;
static struct keyring *keys; /* NULL: letters are clear */

static int set_up(void **state)
{
    (void)state;
    key_dir_make(&dir);
    state_dir = dir.path;
    snprintf(path, sizeof path, "%s/connectors/k.dead.jsonl", state_dir);
    snprintf(older, sizeof older, "%s.1", path);
    codec = block_codec_new();
    return codec ? 0 : -1;
}

static int set_up_sealed(void **state)
{
    struct keyring_conf conf = {.period_us = HOUR_US};
    if (set_up(state) != 0)
        return -1;
    conf.master = dir.master;
    return keyring_start(&keys, state_dir, &conf, T0, NULL) == FB_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char folder[300];
    (void)state;
    block_codec_free(codec);
    keyring_unref(keys);
    keys = NULL;
    snprintf(folder, sizeof folder, "%s/connectors", state_dir);
    (void)unlink(path);
    (void)unlink(older);
    (void)rmdir(folder);
    key_dir_remove(&dir);
    return 0;
}

static bool is_canary(void *ctx, struct span text)
{
    (void)ctx;
    return memmem(text.at, text.len, WHO, sizeof WHO - 1) != NULL;
}

static enum fb_code put(struct span value, uint64_t wall_us)
{
    const struct letters_box box = {
        .state_dir = state_dir, .connector = "k", .keys = keys, .bytes_max = 1 * MIB};
    struct dead_letter letter = {.topic = "", .position = "", .value = value, .reason = "refused"};
    return letters_put(&box, &letter, wall_us, NULL);
}

static void bury(struct span value)
{
    assert_int_equal(put(value, T0), FB_OK);
}

static struct letters go_through(bool is_removing)
{
    struct letters l = {.keys = keys, .is_meant = is_canary, .is_removing = is_removing};
    struct fb_err err;
    assert_int_equal(letters_go_through(state_dir, &l, &err), FB_OK);
    return l;
}

static struct span read_file(const char *name)
{
    static char bytes[4 * MIB];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, bytes, sizeof bytes) : 0;
    if (fd >= 0)
        close(fd);
    return (struct span){bytes, n < 0 ? 0 : (size_t)n};
}

static void write_file(const char *name, struct span bytes)
{
    int fd = open(name, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write(fd, bytes.at, bytes.len), (ssize_t)bytes.len);
    close(fd);
}

static bool holds(const char *name, const char *text)
{
    struct span bytes = read_file(name);
    return memmem(bytes.at, bytes.len, text, strlen(text)) != NULL;
}

/* Events enough that the block is compressed: its bytes do not show the name. */
static struct span block_of(const char *who)
{
    static struct ev_custom at[64];
    struct block_head head = {.node = 1};
    struct span block;
    for (size_t i = 0; i < FB_COUNT(at); i++) {
        at[i] = EV_INIT(CUSTOM, custom, 1000 + i);
        snprintf(at[i].text, sizeof at[i].text, "mail %s and so on, and so on, %zu", who, i);
    }
    assert_int_equal(block_encode(codec, &head, (struct span){(const char *)at, sizeof at}, &block),
                     FB_OK);
    assert_int_equal(block_seal(codec, &head, 0, 0), FB_OK);
    return block;
}

static void a_block_is_looked_at_as_its_records(void **state)
{
    (void)state;
    bury(block_of(WHO));
    bury(block_of("other"));
    struct letters l = go_through(false);
    assert_int_equal(l.lines, 2);
    assert_int_equal(l.meant, 1);
    assert_int_equal(l.unread, 0);
    assert_string_equal(l.first, path);
    assert_int_equal(go_through(true).meant, 1);
    l = go_through(false);
    assert_int_equal(l.lines, 1);
    assert_int_equal(l.meant, 0);
}

static void a_block_that_cannot_be_decoded_is_said(void **state)
{
    (void)state;
    struct span block = block_of(WHO);
    bury((struct span){block.at, block.len - 9});
    struct letters l = go_through(false);
    assert_int_equal(l.unread, 1);
}

#define BURIED 400

static void *bury_many(void *arg)
{
    for (int i = 0; i < BURIED; i++)
        bury(i % 2 ? SPAN("mail " WHO) : SPAN("mail other"));
    return arg;
}

static void none_is_lost_to_a_writer_that_runs_meanwhile(void **state)
{
    pthread_t writer;
    uint64_t removed = 0;
    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, bury_many, NULL), 0);
    for (int i = 0; i < 20; i++)
        removed += go_through(true).meant;
    assert_int_equal(pthread_join(writer, NULL), 0);
    removed += go_through(true).meant;
    assert_int_equal(removed, BURIED / 2);
    assert_int_equal(go_through(false).lines, BURIED / 2);
}

/* ---- sealed ---- */

static void with_a_master_key_nothing_of_a_letter_is_readable_in_its_file(void **state)
{
    struct buf text;
    (void)state;
    bury(SPAN("mail " WHO)); /* 5 + 11 bytes: whole groups of three before the name */
    buf_init(&text, KIB);
    base64_put(&text, SPAN("mail " WHO));
    assert_false(holds(path, WHO));
    assert_false(holds(path, buf_str(&text)));
    assert_false(holds(path, "refused"));
    assert_false(holds(path, "value_base64"));
    assert_true(holds(path, "\"key_id\":1,\"sealed_base64\":\""));
    buf_fini(&text);
    struct letters l = go_through(false);
    assert_int_equal(l.lines, 1);
    assert_int_equal(l.meant, 1);
}

static void a_person_is_erased_from_sealed_letters_and_the_others_keep_their_bytes(void **state)
{
    (void)state;
    bury(SPAN("mail other"));
    size_t len = read_file(path).len;
    struct span bytes = read_file(path);
    char first[KIB];
    assert_true(len < sizeof first);
    memcpy(first, bytes.at, len);
    bury(block_of(WHO));
    assert_int_equal(go_through(true).meant, 1);
    bytes = read_file(path);
    assert_true(span_eq(bytes, (struct span){first, len}));
}

static void a_sealed_letter_that_was_changed_is_not_read(void **state)
{
    (void)state;
    bury(SPAN("mail " WHO));
    struct span bytes = read_file(path);
    char *time = memmem(bytes.at, bytes.len, "17000", 5);
    assert_non_null(time);
    time[5] = '1'; /* another time: bound to the text */
    write_file(path, bytes);
    struct letters l = go_through(false);
    assert_int_equal(l.meant, 0);
    assert_int_equal(l.unread, 1);
}

static void a_letter_is_not_read_without_its_key(void **state)
{
    (void)state;
    bury(SPAN("mail " WHO));
    struct keyring *ring = keys;
    keys = NULL;
    struct letters l = go_through(false);
    keys = ring;
    assert_int_equal(l.meant, 0);
    assert_int_equal(l.unread, 1);
}

static void see_key(void *ctx, const struct letter_view *letter)
{
    uint32_t *seen = ctx;
    assert_true(letter->key_id <= 2);
    assert_int_equal(letter->code, FB_E_END);
    assert_string_equal(letter->connector, "k");
    seen[letter->key_id]++;
}

static void rotation_seals_new_letters_with_the_new_key_and_what_needs_a_key_is_told(void **state)
{
    uint32_t seen[3] = {0};
    (void)state;
    bury(SPAN("one " WHO));
    assert_int_equal(keyring_rotate(keys, "me", T0, NULL), FB_OK);
    bury(SPAN("two " WHO));
    bury(SPAN("three " WHO));
    struct letters l = {.each = see_key, .ctx = seen, .is_closed = true};
    assert_int_equal(letters_go_through(state_dir, &l, NULL), FB_OK);
    assert_int_equal(seen[0], 0);
    assert_int_equal(seen[1], 1);
    assert_int_equal(seen[2], 2);
    assert_int_equal(go_through(false).meant, 3);
    assert_int_equal(keyring_destroy(keys, 1, "me", NULL), FB_OK);
    l = go_through(false);
    assert_int_equal(l.meant, 2);
    assert_int_equal(l.gone, 1);
    assert_int_equal(l.unread, 0);
}

static void clear_letters_from_before_the_master_key_stay_and_are_found(void **state)
{
    (void)state;
    struct keyring *ring = keys;
    keys = NULL;
    bury(SPAN("mail " WHO));
    keys = ring;
    bury(SPAN("mail " WHO));
    assert_int_equal(go_through(false).meant, 2);
}

/* ---- the end of a crash ---- */

static void half_a_line_at_the_end_goes_before_the_next_letter(void **state)
{
    (void)state;
    bury(SPAN("one"));
    size_t len = read_file(path).len;
    for (size_t left = 1; left < len; left += 37) {
        struct span bytes = read_file(path);
        write_file(path, (struct span){bytes.at, bytes.len - left}); /* a torn write */
        bury(SPAN("two"));
        assert_int_equal(read_file(path).len, len);
        struct letters l = go_through(false);
        assert_int_equal(l.lines, 1);
        assert_int_equal(l.unread, 0);
    }
}

/* ---- retention: the test is the clock ---- */

static uint64_t expire(uint64_t wall_us, uint64_t age_ms, uint64_t bytes_max)
{
    struct letters_bounds bounds = {.age_ms = age_ms, .bytes_max = bytes_max};
    uint64_t removed = 0;
    assert_int_equal(letters_expire(state_dir, &bounds, wall_us, &removed, NULL), FB_OK);
    return removed;
}

static void letters_go_when_they_are_too_old(void **state)
{
    (void)state;
    for (uint64_t hour = 0; hour < 5; hour++)
        assert_int_equal(put(SPAN("mail " WHO), T0 + hour * HOUR_US), FB_OK);
    const uint64_t day_ms = 24 * HOUR_US / US_PER_MS;
    assert_int_equal(expire(T0 + 24 * HOUR_US, day_ms, 0), 0);
    assert_int_equal(expire(T0 + 24 * HOUR_US + 1000, day_ms, 0), 1);
    assert_int_equal(expire(T0 + 27 * HOUR_US, day_ms, 0), 2);
    assert_int_equal(go_through(false).lines, 2);
    assert_int_equal(expire(T0 + 1000 * HOUR_US, day_ms, 0), 2);
    assert_int_equal(read_file(path).len, 0);
    assert_int_equal(expire(T0 + 1000 * HOUR_US, day_ms, 0), 0);
}

static void the_oldest_letters_go_when_there_are_too_many(void **state)
{
    static char big[100 * KIB];
    (void)state;
    memset(big, 'x', sizeof big);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(put((struct span){big, sizeof big}, T0 + i * HOUR_US), FB_OK);
    size_t len = read_file(path).len + read_file(older).len; /* rotation: half and half */
    assert_true(len > 512 * KIB && len <= MIB + 512 * KIB);
    assert_true(expire(T0, 0, 600 * KIB) > 0);
    len = read_file(path).len + read_file(older).len;
    assert_true(len > 200 * KIB && len <= 600 * KIB);
    assert_true(holds(path, "1700068400000")); /* the newest one */
    assert_int_equal(expire(T0, 0, 600 * KIB), 0);
}

static void retention_does_not_wait_for_the_lock(void **state)
{
    struct letters_bounds bounds = {.age_ms = 1};
    uint64_t removed = 0;
    char folder[300];
    (void)state;
    bury(SPAN("one"));
    snprintf(folder, sizeof folder, "%s/connectors", state_dir);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(letters_expire(state_dir, &bounds, T0 + HOUR_US, &removed, NULL), FB_E_AGAIN);
    close(fd);
    assert_int_equal(letters_expire(state_dir, &bounds, T0 + HOUR_US, &removed, NULL), FB_OK);
    assert_int_equal(removed, 1);
}

/* 1700000000 s are long ago: the thread finds them too old by the clock of the machine. */
static void the_keeper_takes_away_what_is_too_old(void **state)
{
    (void)state;
    bury(SPAN("one"));
    struct letters_keeper *keeper = letters_keeper_new(state_dir);
    assert_non_null(keeper);
    letters_keeper_bounds(keeper, 60000, 0);
    for (int i = 0; i < 3000 && read_file(path).len > 0; i++)
        usleep(10000);
    letters_keeper_free(keeper);
    assert_int_equal(read_file(path).len, 0);
}

static void base64_goes_there_and_back(void **state)
{
    struct buf text, bytes;
    (void)state;
    buf_init(&text, KIB);
    buf_init(&bytes, KIB);
    for (size_t len = 0; len < 100; len++) {
        char in[100];
        for (size_t i = 0; i < len; i++)
            in[i] = (char)(i * 37 + len);
        buf_clear(&text);
        buf_clear(&bytes);
        base64_put(&text, (struct span){in, len});
        assert_int_equal(text.len, (len + 2) / 3 * 4);
        assert_int_equal(base64_take(buf_span(&text), &bytes), (len * 8 + 5) / 6);
        assert_true(span_eq(buf_span(&bytes), (struct span){in, len}));
    }
    buf_fini(&text);
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_block_is_looked_at_as_its_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_block_that_cannot_be_decoded_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(none_is_lost_to_a_writer_that_runs_meanwhile, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            with_a_master_key_nothing_of_a_letter_is_readable_in_its_file, set_up_sealed,
            tear_down),
        cmocka_unit_test_setup_teardown(
            a_person_is_erased_from_sealed_letters_and_the_others_keep_their_bytes, set_up_sealed,
            tear_down),
        cmocka_unit_test_setup_teardown(a_sealed_letter_that_was_changed_is_not_read, set_up_sealed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_letter_is_not_read_without_its_key, set_up_sealed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            rotation_seals_new_letters_with_the_new_key_and_what_needs_a_key_is_told, set_up_sealed,
            tear_down),
        cmocka_unit_test_setup_teardown(clear_letters_from_before_the_master_key_stay_and_are_found,
                                        set_up_sealed, tear_down),
        cmocka_unit_test_setup_teardown(half_a_line_at_the_end_goes_before_the_next_letter, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(letters_go_when_they_are_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_letters_go_when_there_are_too_many, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(retention_does_not_wait_for_the_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_keeper_takes_away_what_is_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(letters_go_when_they_are_too_old, set_up_sealed, tear_down),
        cmocka_unit_test(base64_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
