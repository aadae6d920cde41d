/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard/personal.h"
#include "key_dir.h"

#define T0 (UINT64_C(1700000000) * US_PER_S)
#define FIRST 1000

struct records {
    struct ev_tick tick;
    struct ev_custom custom;
    struct ev_command command;
    struct ev_sample sample;
};

static struct records make_records(void)
{
    struct records r = {.tick = EV_INIT(TICK, tick, 1),
                        .custom = EV_INIT(CUSTOM, custom, 2),
                        .command = EV_INIT(COMMAND, command, 3),
                        .sample = EV_INIT(SAMPLE, sample, 4)};
    strcpy(r.custom.name, "order.paid");
    memset(r.custom.text, 'x', sizeof r.custom.text); /* as long as it can be */
    memcpy(r.custom.text, "alice@example.org", 17);
    strcpy(r.command.actor, "bob");
    strcpy(r.command.why, "half a machine");
    strcpy(r.sample.path, "/users/alice/orders");
    return r;
}

struct fixture {
    struct key_dir d;
    struct keyring *ring;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct keyring_conf conf = {.master = "", .period_us = 3600 * US_PER_S};
    key_dir_make(&f->d);
    *state = f;
    return keyring_start(&f->ring, f->d.path, &conf, T0, NULL) == FB_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    keyring_unref(f->ring);
    key_dir_remove(&f->d);
    free(f);
    return 0;
}

static bool holds(const void *bytes, size_t len, const char *word)
{
    return memmem(bytes, len, word, strlen(word)) != NULL;
}

static void texts_come_back_as_they_were_and_are_readable_nowhere(void **state)
{
    struct fixture *f = *state;
    struct records was = make_records(), r = was;
    unsigned char sealed[PERSONAL_BYTES_MAX(sizeof r)];
    assert_true(personal_is_in((struct span){(char *)&r, sizeof r}));
    assert_false(personal_is_in((struct span){(char *)&r.tick, sizeof r.tick}));
    size_t len = personal_take(f->ring, FIRST, &r, sizeof r, sealed);
    assert_true(len > 0);
    assert_false(holds(&r, sizeof r, "alice"));
    assert_false(holds(&r, sizeof r, "bob"));
    assert_false(holds(sealed, len, "alice"));
    assert_true(holds(&r, sizeof r, "half a machine")); /* open fields stay */
    assert_int_equal(
        personal_give(f->ring, FIRST, (struct span){(char *)sealed, len}, &r, sizeof r), FB_OK);
    assert_memory_equal(&r, &was, sizeof r);
}

static void a_destroyed_key_takes_its_text_and_no_other(void **state)
{
    struct fixture *f = *state;
    struct records was = make_records(), r = was;
    unsigned char sealed[PERSONAL_BYTES_MAX(sizeof r)];
    size_t len = personal_take(f->ring, FIRST, &r, sizeof r, sealed);
    struct span bytes = {(char *)sealed, len};
    struct records empty = r;
    struct keyring_text text = {personal_period(bytes), FIRST + 3};
    struct keyring_erasure e = {.texts = &text, .count = 1, .who = "test"};
    assert_int_equal(keyring_erase(f->ring, &e, NULL), FB_OK);
    assert_int_equal(personal_give(f->ring, FIRST, bytes, &r, sizeof r), FB_OK);
    assert_string_equal(r.sample.path, PERSONAL_GONE);
    assert_memory_equal(&r.custom, &was.custom, sizeof r.custom);
    r = empty;
    assert_int_equal(personal_give(NULL, FIRST, bytes, &r, sizeof r), FB_OK);
    assert_string_equal(r.command.actor, PERSONAL_GONE);
}

/* The block around it is checked as a whole: a text alone that does not open came under other keys,
 * and must not take the figures beside it along. */
static void a_text_that_does_not_open_is_gone_and_its_record_stays(void **state)
{
    struct fixture *f = *state;
    struct records r = make_records();
    unsigned char sealed[PERSONAL_BYTES_MAX(sizeof r)];
    size_t len = personal_take(f->ring, FIRST, &r, sizeof r, sealed);
    struct span bytes = {(char *)sealed, len};
    struct records empty = r;
    assert_int_equal(personal_give(f->ring, FIRST + 1, bytes, &r, sizeof r), FB_OK);
    assert_string_equal(r.sample.path, PERSONAL_GONE);
    assert_string_equal(r.command.actor, PERSONAL_GONE);
    assert_string_equal(r.command.why, "half a machine");
    for (size_t i = 4; i < len; i++) { /* behind the period */
        sealed[i] ^= 0x10;
        r = empty;
        if (personal_give(f->ring, FIRST, bytes, &r, sizeof r) == FB_OK)
            assert_true(holds(&r, sizeof r, PERSONAL_GONE));
        sealed[i] ^= 0x10;
    }
    for (size_t cut = 1; cut < 17; cut++) {
        r = empty;
        assert_int_equal(
            personal_give(f->ring, FIRST, (struct span){bytes.at, len - cut}, &r, sizeof r),
            FB_E_DAMAGED);
    }
}

static void records_without_texts_cost_nothing(void **state)
{
    struct fixture *f = *state;
    struct records r = make_records();
    memset(r.custom.text, 0, sizeof r.custom.text);
    memset(r.command.actor, 0, sizeof r.command.actor);
    memset(r.sample.path, 0, sizeof r.sample.path);
    unsigned char sealed[PERSONAL_BYTES_MAX(sizeof r)];
    assert_int_equal(personal_take(f->ring, FIRST, &r, sizeof r, sealed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts_come_back_as_they_were_and_are_readable_nowhere,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_destroyed_key_takes_its_text_and_no_other, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_text_that_does_not_open_is_gone_and_its_record_stays,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_without_texts_cost_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
