/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard/master.h"
#include "key_dir.h"

static const unsigned char secret[32] = "thirty-two bytes of store key..";

static void only_three_forms_are_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
    } rows[] = {
        {"", true},
        {"none", true},
        {"file:/etc/key", true},
        {"exec:/bin/kms x", true},
        {"file:relative", false},
        {"exec:kms", false},
        {"env:KEY", false},
        {"0011223344", false},
        {"file:", false},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        assert_int_equal(master_check(rows[i].text, NULL) == FB_OK, rows[i].is_good);
}

static void a_file_seals_and_opens_and_another_file_does_not(void **state)
{
    (void)state;
    struct key_dir d;
    struct buf text;
    struct fb_err err;
    unsigned char out[32];
    char other[200];
    key_dir_make(&d);
    buf_init(&text, MASTER_TEXT_MAX);
    assert_int_equal(master_wrap(d.master, secret, &text, &err), FB_OK);
    assert_int_equal(master_unwrap(d.master, buf_span(&text), out, &err), FB_OK);
    assert_memory_equal(out, secret, 32);
    key_dir_write(&d, "other", "0123456789abcdef0123456789abcdef", 0600); /* 32 bytes as they are */
    snprintf(other, sizeof other, "file:%s/other", d.path);
    assert_int_equal(master_unwrap(other, buf_span(&text), out, &err), FB_E_KEY);
    assert_non_null(strstr(err.text, "not the one that sealed"));
    buf_fini(&text);
    key_dir_remove(&d);
}

static void a_file_that_is_missing_open_or_short_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        mode_t mode;
        const char *says;
    } rows[] = {
        {"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 0644, "chmod 600"},
        {"0011", 0600, "64 hex digits"},
        {"", 0600, "64 hex digits"},
        {"zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 0600, "64 hex digits"},
    };
    struct key_dir d;
    struct fb_err err;
    struct buf text;
    char path[200];
    key_dir_make(&d);
    buf_init(&text, MASTER_TEXT_MAX);
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        key_dir_write(&d, "master", rows[i].text, rows[i].mode);
        assert_int_equal(master_wrap(d.master, secret, &text, &err), FB_E_KEY);
        assert_non_null(strstr(err.text, rows[i].says));
        assert_non_null(strstr(err.text, d.path));
    }
    snprintf(path, sizeof path, "%s/master", d.path);
    unlink(path);
    assert_int_equal(master_wrap(d.master, secret, &text, &err), FB_E_KEY);
    assert_non_null(strstr(err.text, "cannot be read"));
    buf_fini(&text);
    key_dir_remove(&d);
}

static enum fb_code ask_program(struct key_dir *d, const char *script, struct buf *text,
                                struct fb_err *err)
{
    char master[200];
    key_dir_write(d, "kms", script, 0700);
    snprintf(master, sizeof master, "exec:%s/kms key-7", d->path);
    buf_clear(text);
    return master_wrap(master, secret, text, err);
}

static void a_program_wraps_and_unwraps(void **state)
{
    (void)state;
    struct key_dir d;
    struct fb_err err;
    struct buf text;
    unsigned char out[32];
    char master[200];
    key_dir_make(&d);
    buf_init(&text, MASTER_TEXT_MAX);
    /* its "sealing" is the name of the key in front of the text */
    const char *kms = "#!/bin/sh\nread verb text\n"
                      "case $verb in wrap) echo ok $1:$text;; unwrap) echo ok ${text#$1:};; esac\n";
    assert_int_equal(ask_program(&d, kms, &text, &err), FB_OK);
    assert_true(span_starts(buf_span(&text), SPAN("key-7:")));
    snprintf(master, sizeof master, "exec:%s/kms key-7", d.path);
    assert_int_equal(master_unwrap(master, buf_span(&text), out, &err), FB_OK);
    assert_memory_equal(out, secret, 32);
    buf_fini(&text);
    key_dir_remove(&d);
}

static void a_program_that_misbehaves_is_one_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *script, *says;
    } rows[] = {
        {"#!/bin/sh\necho error access denied for role x\n", "access denied for role x"},
        {"#!/bin/sh\nexit 3\n", "did not answer"},
        {"#!/bin/sh\necho hello\n", "neither"},
        {"#!/bin/sh\nprintf 'ok \\001\\002\\n'\n", "not printable"},
        {"#!/bin/sh\nhead -c 100000 /dev/zero\n", "did not answer"},
        {"not a program", "cannot be run"},
    };
    struct key_dir d;
    struct fb_err err;
    struct buf text;
    key_dir_make(&d);
    buf_init(&text, MASTER_TEXT_MAX);
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        assert_int_equal(ask_program(&d, rows[i].script, &text, &err), FB_E_KEY);
        assert_non_null(strstr(err.text, rows[i].says));
    }
    buf_fini(&text);
    key_dir_remove(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_three_forms_are_accepted),
        cmocka_unit_test(a_file_seals_and_opens_and_another_file_does_not),
        cmocka_unit_test(a_file_that_is_missing_open_or_short_is_refused_by_name),
        cmocka_unit_test(a_program_wraps_and_unwraps),
        cmocka_unit_test(a_program_that_misbehaves_is_one_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
