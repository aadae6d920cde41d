/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard/keyring.h"
#include "key_dir.h"

#define T0 (UINT64_C(1700000000) * US_PER_S)
#define HOUR_US (3600 * US_PER_S)

static struct keyring_conf conf_of(const struct key_dir *d)
{
    return (struct keyring_conf){.master = d->master, .period_us = HOUR_US};
}

static struct keyring *start(const struct key_dir *d, const char *master)
{
    struct keyring *ring = NULL;
    struct fb_err err = {0};
    struct keyring_conf conf = conf_of(d);
    conf.master = master;
    enum fb_code code = keyring_start(&ring, d->path, &conf, T0, &err);
    if (code != FB_OK)
        fail_msg("%s", err.text);
    return ring;
}

struct sealed {
    uint32_t key_id;
    unsigned char nonce[12], tag[16];
    char text[20];
};

static struct sealed seal(struct keyring *ring)
{
    struct sealed s = {0};
    assert_int_equal(keyring_take(ring, 20, &s.key_id, s.nonce), FB_OK);
    struct keyring_use use = {.key_id = s.key_id, .nonce = s.nonce, .aad = SPAN("here")};
    assert_int_equal(keyring_seal(ring, &use, SPAN("a text of 20 letters"), s.text, s.tag), FB_OK);
    return s;
}

static enum fb_code unseal(struct keyring *ring, const struct sealed *s)
{
    char out[20];
    struct keyring_use use = {.key_id = s->key_id, .nonce = s->nonce, .aad = SPAN("here")};
    enum fb_code code =
        keyring_unseal(ring, &use, (struct span){s->text, sizeof s->text}, out, s->tag);
    if (code == FB_OK)
        assert_memory_equal(out, "a text of 20 letters", 20);
    return code;
}

static void what_was_sealed_opens_after_a_restart_and_rotations(void **state)
{
    (void)state;
    struct key_dir d;
    struct sealed s[4];
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    assert_true(keyring_is_sealing(ring));
    for (int i = 0; i < 4; i++) {
        s[i] = seal(ring);
        if (i == 1)
            assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_OK);
        if (i == 2) {
            keyring_unref(ring);
            ring = start(&d, d.master);
        }
    }
    assert_int_equal(s[0].key_id, 1);
    assert_int_equal(s[1].key_id, 1);
    assert_int_equal(s[2].key_id, 2);
    assert_int_equal(s[3].key_id, 2);
    assert_memory_not_equal(s[2].nonce, s[3].nonce, 12);
    for (int i = 0; i < 4; i++)
        assert_int_equal(unseal(ring, &s[i]), FB_OK);
    s[0].text[3] ^= 1;
    assert_int_equal(unseal(ring, &s[0]), FB_E_DAMAGED);
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void a_reader_finds_the_keys_and_those_made_later(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring *ring, *reader;
    key_dir_make(&d);
    assert_int_equal(keyring_open(&reader, d.path, NULL), FB_E_NOT_FOUND);
    ring = start(&d, d.master);
    struct sealed s = seal(ring);
    keyring_unref(ring);
    assert_int_equal(keyring_open(&reader, d.path, NULL), FB_OK);
    assert_int_equal(unseal(reader, &s), FB_OK);
    ring = start(&d, d.master); /* the reader's own copy is the one that open found first */
    assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_OK);
    s = seal(ring);
    assert_int_equal(s.key_id, 2);
    assert_int_equal(unseal(reader, &s), FB_OK);
    keyring_unref(reader);
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void a_wrong_or_missing_master_key_changes_nothing(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring *ring = start((key_dir_make(&d), &d), d.master);
    struct keyring_conf conf = conf_of(&d);
    struct fb_err err;
    size_t len, len2;
    keyring_unref(ring);
    char *before = key_dir_read(&d, &len);
    key_dir_write(&d, "master", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                  0600);
    assert_int_equal(keyring_open(&ring, d.path, &err), FB_E_KEY);
    assert_non_null(strstr(err.text, "not the one that sealed"));
    assert_int_equal(keyring_start(&ring, d.path, &conf, T0, &err), FB_E_KEY);
    char path[200];
    snprintf(path, sizeof path, "%s/master", d.path);
    unlink(path);
    assert_int_equal(keyring_start(&ring, d.path, &conf, T0, &err), FB_E_KEY);
    assert_non_null(strstr(err.text, "cannot be read"));
    conf.master = "";
    assert_int_equal(keyring_start(&ring, d.path, &conf, T0, &err), FB_E_KEY);
    char *after = key_dir_read(&d, &len2);
    assert_int_equal(len, len2);
    assert_memory_equal(before, after, len);
    free(before);
    free(after);
    key_dir_remove(&d);
}

static void a_changed_byte_of_the_file_is_damage_not_a_new_file(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring *ring;
    size_t len;
    key_dir_make(&d);
    keyring_unref(start(&d, d.master));
    char *text = key_dir_read(&d, &len);
    for (size_t i = 0; i < len; i += 7) {
        text[i] ^= 1;
        char path[200];
        snprintf(path, sizeof path, "%s/keys", d.path);
        FILE *f = fopen(path, "we");
        assert_int_equal(fwrite(text, 1, len, f), len);
        fclose(f);
        assert_int_equal(keyring_open(&ring, d.path, NULL), FB_E_DAMAGED);
        text[i] ^= 1;
    }
    free(text);
    key_dir_remove(&d);
}

static void a_new_master_key_opens_all_and_the_old_one_nothing(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring *brain, *command;
    struct keyring_conf conf;
    char other[200];
    key_dir_make(&d);
    brain = start(&d, d.master);
    struct sealed s = seal(brain);
    key_dir_write(&d, "other", "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
                  0600);
    snprintf(other, sizeof other, "file:%s/other", d.path);
    /* a running foldback follows without either master key */
    command = brain;
    assert_int_equal(keyring_rewrap(command, other, true, "ann", NULL), FB_OK);
    assert_int_equal(unseal(brain, &s), FB_OK);
    keyring_unref(brain);
    /* the configuration of before: the file knows better, as long as its master key is there */
    brain = start(&d, d.master);
    assert_int_equal(unseal(brain, &s), FB_OK);
    keyring_unref(brain);
    conf = conf_of(&d);
    struct fb_err err;
    assert_int_equal(unlink(other + 5), 0);
    assert_int_equal(keyring_start(&brain, d.path, &conf, T0, &err), FB_E_KEY);
    key_dir_write(&d, "other", "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
                  0600);
    brain = start(&d, other);
    assert_int_equal(unseal(brain, &s), FB_OK);
    keyring_unref(brain);
    /* the second one would be out of reach for who has not taken the first */
    assert_int_equal(keyring_open(&command, d.path, NULL), FB_OK);
    assert_int_equal(keyring_rewrap(command, d.master, true, "ann", &err), FB_OK);
    assert_int_equal(keyring_rewrap(command, other, true, "ann", &err), FB_E_AGAIN);
    keyring_unref(command);
    brain = start(&d, d.master);
    assert_int_equal(keyring_watch(brain, T0, NULL), FB_OK);
    assert_int_equal(keyring_rewrap(brain, other, true, "ann", &err), FB_OK);
    assert_int_equal(unseal(brain, &s), FB_OK);
    keyring_unref(brain);
    key_dir_remove(&d);
}

static void encryption_can_begin_and_end_on_an_old_folder(void **state)
{
    (void)state;
    struct key_dir d;
    key_dir_make(&d);
    struct keyring *ring = start(&d, "");
    assert_false(keyring_is_sealing(ring));
    uint32_t id;
    unsigned char nonce[12];
    assert_int_equal(keyring_take(ring, 1, &id, nonce), FB_E_KEY);
    keyring_unref(ring);
    ring = start(&d, d.master);
    assert_true(keyring_is_sealing(ring));
    struct sealed s = seal(ring);
    assert_int_equal(keyring_rewrap(ring, "none", false, "ann", NULL), FB_OK);
    assert_false(keyring_is_sealing(ring));
    keyring_unref(ring);
    ring = start(&d, "");
    assert_int_equal(unseal(ring, &s), FB_OK);
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void age_bytes_and_count_rotate_by_themselves(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring_view v;
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    struct keyring_conf conf = conf_of(&d);
    conf.rotate_age_us = 24 * HOUR_US;
    conf.rotate_bytes = 1000;
    keyring_reconfigure(ring, &conf);
    assert_int_equal(keyring_watch(ring, T0 + 24 * HOUR_US - 1, NULL), FB_OK);
    keyring_view(ring, &v);
    assert_int_equal(v.active_id, 1);
    assert_int_equal(keyring_watch(ring, T0 + 24 * HOUR_US, NULL), FB_OK);
    keyring_view(ring, &v);
    assert_int_equal(v.active_id, 2);
    for (int i = 0; i < 50; i++)
        (void)seal(ring); /* 1000 bytes */
    assert_int_equal(keyring_watch(ring, T0 + 25 * HOUR_US, NULL), FB_OK);
    keyring_view(ring, &v);
    assert_int_equal(v.active_id, 3);
    assert_int_equal(v.rotations, 2);
    assert_int_equal(v.active_bytes, 0);
    keyring_unref(ring);
    key_dir_remove(&d);
}

/* When no more keys fit, the keys of persons end all the same. */
static void periods_end_when_no_key_fits_any_more(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring_view v;
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    struct keyring_conf conf = conf_of(&d);
    conf.rotate_age_us = HOUR_US;
    conf.personal_age_us = HOUR_US;
    keyring_reconfigure(ring, &conf);
    for (int i = 1; i < KEYRING_KEYS_MAX; i++)
        assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_OK);
    assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_E_KEY);
    for (uint64_t h = 1; h <= 4; h++)
        assert_int_equal(keyring_watch(ring, T0 + h * HOUR_US, NULL), FB_OK);
    keyring_view(ring, &v);
    assert_false(v.is_bad);
    assert_int_equal(v.key_count, KEYRING_KEYS_MAX);
    unsigned char key[32];
    assert_false(keyring_text_key(ring, 1, 42, key));
    assert_true(keyring_text_key(ring, keyring_period(ring), 42, key));
    keyring_unref(ring);
    key_dir_remove(&d);
}

/* A version that was replaced holds keys that may be destroyed in a later one. */
static void each_version_that_was_replaced_is_overwritten(void **state)
{
    (void)state;
    struct key_dir d;
    char path[200], byte[2];
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", d.path, i ? "keys.new" : "keys");
        if (i)
            key_dir_write(&d, "keys.new", "a draft", 0600);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(pread(fd, byte, 1, 0), 1);
        assert_int_not_equal(byte[0], 0);
        assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_OK);
        assert_int_equal(pread(fd, byte, 1, 0), 1);
        assert_int_equal(byte[0], 0);
        close(fd);
    }
    keyring_unref(ring);
    key_dir_remove(&d);
}

/* Seals that a crash forgot are never given out again: the count begins behind the reserve. */
static void seals_are_reserved_before_they_are_used(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring_key keys[4];
    key_dir_make(&d);
    for (uint64_t starts = 1; starts <= 5; starts++) {
        struct keyring *ring = start(&d, d.master);
        assert_int_equal(keyring_list(ring, keys, 4), 1);
        assert_int_equal(keys[0].seals, starts * KEYRING_RESERVE);
        struct keyring_view v;
        keyring_view(ring, &v);
        assert_int_equal(v.active_seals, (starts - 1) * KEYRING_RESERVE);
        keyring_unref(ring);
    }
    key_dir_remove(&d);
}

static bool has_text(struct keyring *ring, uint32_t period)
{
    unsigned char key[32];
    return keyring_text_key(ring, period, 42, key);
}

static void personal_periods_end_by_age_when_the_clock_moves(void **state)
{
    (void)state;
    struct key_dir d;
    key_dir_make(&d);
    struct keyring *ring = start(&d, "");
    struct keyring_conf conf = conf_of(&d);
    conf.personal_age_us = 48 * HOUR_US;
    conf.master = "";
    keyring_reconfigure(ring, &conf);
    for (uint64_t h = 0; h <= 49; h++)
        assert_int_equal(keyring_watch(ring, T0 + h * HOUR_US, NULL), FB_OK);
    /* period n began at hour n - 1 and ended at hour n: it is kept 48 hours behind its end */
    assert_false(has_text(ring, 1));
    assert_true(has_text(ring, 2));
    assert_true(has_text(ring, 50));
    assert_int_equal(keyring_period(ring), 50);
    struct keyring *again;
    keyring_unref(ring);
    assert_int_equal(keyring_open(&again, d.path, NULL), FB_OK);
    assert_false(has_text(again, 1));
    assert_true(has_text(again, 2));
    keyring_unref(again);
    key_dir_remove(&d);
}

static void personal_periods_end_by_bytes_oldest_first(void **state)
{
    (void)state;
    struct key_dir d;
    key_dir_make(&d);
    struct keyring *ring = start(&d, "");
    struct keyring_conf conf = conf_of(&d);
    conf.personal_bytes = 2500;
    conf.master = "";
    keyring_reconfigure(ring, &conf);
    for (uint64_t h = 0; h < 5; h++) {
        assert_int_equal(keyring_watch(ring, T0 + h * HOUR_US, NULL), FB_OK);
        keyring_text_count(ring, keyring_period(ring), 1000);
    }
    assert_int_equal(keyring_watch(ring, T0 + 5 * HOUR_US, NULL), FB_OK);
    assert_false(has_text(ring, 3));
    assert_true(has_text(ring, 4));
    assert_true(has_text(ring, 5));
    keyring_text_count(ring, 5, 700);
    keyring_flush(ring);
    keyring_unref(ring);
    ring = start(&d, "");
    struct keyring_view v;
    keyring_view(ring, &v);
    assert_int_equal(v.personal_bytes, 2700);
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void an_erased_text_is_gone_in_the_file_too_and_is_audited(void **state)
{
    (void)state;
    struct key_dir d;
    unsigned char key[32];
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master), *again;
    struct keyring_text texts[] = {{1, 10}, {1, 12}, {9, 5}};
    struct keyring_erasure e = {.texts = texts, .count = 3, .who = "ann lee\n"};
    assert_int_equal(keyring_erase(ring, &e, NULL), FB_OK);
    assert_int_equal(e.periods, 0);
    keyring_unref(ring);
    assert_int_equal(keyring_open(&again, d.path, NULL), FB_OK);
    assert_false(keyring_text_key(again, 1, 10, key));
    assert_true(keyring_text_key(again, 1, 11, key));
    assert_false(keyring_text_key(again, 1, 12, key));
    keyring_unref(again);
    ring = start(&d, d.master);
    struct keyring_audit a[KEYRING_AUDITS_MAX];
    int erasures = 0;
    size_t count = keyring_audit_peek(ring, a, KEYRING_AUDITS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (a[i].op != KEYRING_OP_ERASED)
            continue;
        erasures++;
        assert_int_equal(a[i].count, 3);
        assert_int_equal(a[i].erasure, e.id);
        assert_string_equal(a[i].who, "ann lee?");
    }
    assert_int_equal(erasures, 1);
    keyring_audit_done(ring, a, count);
    keyring_unref(ring);
    ring = start(&d, d.master);
    assert_int_equal(keyring_audit_peek(ring, a, 1), 0); /* said once */
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void a_destroyed_key_opens_nothing_any_more(void **state)
{
    (void)state;
    struct key_dir d;
    struct fb_err err;
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    struct sealed s = seal(ring);
    assert_int_equal(keyring_destroy(ring, 1, "ann", &err), FB_E_CONFLICT);
    assert_int_equal(keyring_rotate(ring, "ann", T0, NULL), FB_OK);
    assert_int_equal(keyring_destroy(ring, 1, "ann", &err), FB_OK);
    assert_int_equal(unseal(ring, &s), FB_E_NOT_FOUND);
    s.key_id = 3;
    assert_int_equal(unseal(ring, &s), FB_E_KEY); /* the key file is older than the text */
    assert_int_equal(keyring_destroy(ring, 1, "ann", &err), FB_E_NOT_FOUND);
    keyring_unref(ring);
    key_dir_remove(&d);
}

static void a_folder_that_cannot_be_written_keeps_the_keys_in_use(void **state)
{
    (void)state;
    struct key_dir d;
    struct keyring_view v;
    key_dir_make(&d);
    struct keyring *ring = start(&d, d.master);
    struct sealed s = seal(ring);
    char path[200], away[200];
    snprintf(path, sizeof path, "%s/keys", d.path);
    snprintf(away, sizeof away, "%s/other", d.path);
    assert_int_equal(rename(path, away), 0);
    struct fb_err err;
    assert_int_equal(keyring_watch(ring, T0 + 9 * HOUR_US, &err), FB_E_KEY);
    keyring_view(ring, &v);
    assert_true(v.is_bad);
    assert_non_null(strstr(v.why, "is gone"));
    assert_int_equal(unseal(ring, &s), FB_OK);
    s = seal(ring);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(keyring_watch(ring, T0 + 9 * HOUR_US, &err), FB_OK);
    keyring_view(ring, &v);
    assert_false(v.is_bad);
    assert_int_equal(unseal(ring, &s), FB_OK);
    keyring_unref(ring);
    key_dir_remove(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_opens_after_a_restart_and_rotations),
        cmocka_unit_test(a_reader_finds_the_keys_and_those_made_later),
        cmocka_unit_test(a_wrong_or_missing_master_key_changes_nothing),
        cmocka_unit_test(a_changed_byte_of_the_file_is_damage_not_a_new_file),
        cmocka_unit_test(a_new_master_key_opens_all_and_the_old_one_nothing),
        cmocka_unit_test(encryption_can_begin_and_end_on_an_old_folder),
        cmocka_unit_test(age_bytes_and_count_rotate_by_themselves),
        cmocka_unit_test(periods_end_when_no_key_fits_any_more),
        cmocka_unit_test(each_version_that_was_replaced_is_overwritten),
        cmocka_unit_test(seals_are_reserved_before_they_are_used),
        cmocka_unit_test(personal_periods_end_by_age_when_the_clock_moves),
        cmocka_unit_test(personal_periods_end_by_bytes_oldest_first),
        cmocka_unit_test(an_erased_text_is_gone_in_the_file_too_and_is_audited),
        cmocka_unit_test(a_destroyed_key_opens_nothing_any_more),
        cmocka_unit_test(a_folder_that_cannot_be_written_keeps_the_keys_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
