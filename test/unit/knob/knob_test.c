/* SPDX-License-Identifier: Apache-2.0 */
/* Layers, publication, glide. */
#include "knob/knob.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static const struct knob_setting nothing = {
    .configured = NAN, .min = NAN, .max = NAN, .mode = EV_MODE_ACT};

static struct knob_book *book_new(void)
{
    struct knob_book *book = calloc(1, sizeof *book);
    assert_non_null(book);
    return book;
}

static bool is_value(double got, double want)
{
    if (fabs(got - want) > 1e-9)
        print_error("%g is not %g\n", got, want);
    return fabs(got - want) <= 1e-9;
}

static void each_knob_has_bounds_a_safe_value_and_a_meaning(void **state)
{
    (void)state;
    for (uint16_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob_row *row = knob_row(k);
        if (!row->name)
            continue; /* an id that nobody has */
        assert_true(row->min < row->max);
        assert_true(row->safe >= row->min);
        assert_true(row->safe <= row->max);
        assert_true(strlen(row->what) > 5);
        assert_true(strlen(row->why) > 5);
        assert_true(strlen(row->unit) > 0);
        assert_true(row->loop < LOOP_COUNT);
        assert_int_equal(knob_by_name(span_of(row->name)), k);
    }
    for (uint16_t l = 0; l < LOOP_COUNT; l++) {
        assert_int_equal(loop_by_name(span_of(loop_row(l)->name)), l);
        assert_true(l == LOOP_NONE || loop_row(l)->period_ms > 0);
    }
    assert_null(knob_row(KNOB_COUNT)->name);
    assert_null(loop_row(LOOP_COUNT)->name);
    assert_int_equal(knob_by_name(SPAN("nothing")), EV_NONE);
    assert_int_equal(knob_by_name(SPAN("shed_threshold")), KNOB_SHED_THRESHOLD);
    assert_int_equal(knob_by_name(SPAN("timeout_ms")), KNOB_TIMEOUT_MS);
    assert_int_equal(knob_by_name(SPAN("retry_pct")), KNOB_RETRY_PCT);
    assert_int_equal(knob_by_name(SPAN("weight_pct")), KNOB_WEIGHT_PCT);
    assert_int_equal(knob_by_name(SPAN("split_pct")), KNOB_SPLIT_PCT);
}

static void safe_lies_under_configured_under_learned_under_pinned(void **state)
{
    (void)state;
    const struct knob_row *row = knob_row(KNOB_LIMIT);
    struct knob_book *book = book_new();
    struct knob_layer *l = &book->layer[KNOB_LIMIT][3];
    enum knob_source source;
    assert_false(knob_configure(book, KNOB_LIMIT, 3, &nothing));
    assert_true(is_value(knob_effective(row, l, &source), row->safe));
    assert_int_equal(source, KNOB_FROM_SAFE);
    knob_configure(
        book, KNOB_LIMIT, 3,
        &(struct knob_setting){.configured = 64, .min = NAN, .max = NAN, .mode = EV_MODE_ACT});
    assert_true(is_value(knob_effective(row, l, &source), 64));
    assert_int_equal(source, KNOB_FROM_CONFIG);
    l->is_learned = 1;
    l->learned = 80;
    assert_true(is_value(knob_effective(row, l, &source), 80));
    assert_int_equal(source, KNOB_FROM_LEARNED);
    l->mode = EV_MODE_RECOMMEND; /* written down, not applied */
    assert_true(is_value(knob_effective(row, l, &source), 64));
    l->is_pinned = 1;
    l->pinned = 7;
    assert_true(is_value(knob_effective(row, l, NULL), 7));
    knob_effective(row, l, &source);
    assert_int_equal(source, KNOB_FROM_PIN);
    assert_string_equal(knob_source_name(source), "pinned");
    free(book);
}

static void bounds_hold_for_all_but_a_pin_and_the_rows_for_that_too(void **state)
{
    (void)state;
    const struct knob_row *row = knob_row(KNOB_LIMIT);
    struct knob_book *book = book_new();
    struct knob_layer *l = &book->layer[KNOB_LIMIT][0];
    knob_configure(
        book, KNOB_LIMIT, 0,
        &(struct knob_setting){.configured = NAN, .min = 8, .max = 100, .mode = EV_MODE_ACT});
    assert_true(is_value(knob_effective(row, l, NULL), 100)); /* the safe 1024 is above */
    l->is_learned = 1;
    l->learned = 2;
    assert_true(is_value(knob_effective(row, l, NULL), 8));
    l->is_pinned = 1;
    l->pinned = 500;
    assert_true(is_value(knob_effective(row, l, NULL), 500));
    l->pinned = 1e9;
    assert_true(is_value(knob_effective(row, l, NULL), row->max));
    knob_configure(
        book, KNOB_LIMIT, 1,
        &(struct knob_setting){.configured = NAN, .min = -5, .max = 1e9, .mode = EV_MODE_ACT});
    assert_true(is_value(book->layer[KNOB_LIMIT][1].min,
                         row->min)); /* configuration narrows, never widens */
    assert_true(is_value(book->layer[KNOB_LIMIT][1].max, row->max));
    free(book);
}

static void a_changed_setting_drops_its_learned_value_and_no_other(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        double configured, min, max;
        enum ev_mode mode;
        bool is_dropped;
    } rows[] = {
        {"the same", 64, 8, 512, EV_MODE_ACT, false},
        {"another value", 65, 8, 512, EV_MODE_ACT, true},
        {"no value", NAN, 8, 512, EV_MODE_ACT, true},
        {"another bound", 64, 9, 512, EV_MODE_ACT, true},
        {"another bound", 64, 8, 511, EV_MODE_ACT, true},
        {"only the mode", 64, 8, 512, EV_MODE_OBSERVE, false},
    };
    struct knob_book *book = book_new();
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        for (uint16_t target = 0; target < 2; target++) {
            knob_configure(book, KNOB_LIMIT, target,
                           &(struct knob_setting){64, 8, 512, EV_MODE_ACT});
            book->layer[KNOB_LIMIT][target].is_learned = 1;
            book->layer[KNOB_LIMIT][target].learned = 99;
        }
        struct knob_setting set = {rows[i].configured, rows[i].min, rows[i].max, rows[i].mode};
        if (knob_configure(book, KNOB_LIMIT, 0, &set) != rows[i].is_dropped)
            fail_msg("%s", rows[i].says);
        assert_true(book->layer[KNOB_LIMIT][0].is_learned == !rows[i].is_dropped);
        assert_true(book->layer[KNOB_LIMIT][1].is_learned);
        assert_int_equal(book->layer[KNOB_LIMIT][0].mode, rows[i].mode);
    }
    free(book);
}

static struct knob_table *table_new(void)
{
    struct knob_table *t = aligned_alloc(64, sizeof *t);
    assert_non_null(t);
    memset(t, 0, sizeof *t);
    return t;
}

static void only_changes_are_published(void **state)
{
    (void)state;
    struct knob_table *t = table_new();
    struct knob_book *book = book_new();
    struct knob_layer *l = &book->layer[KNOB_LIMIT][9];
    assert_true(
        is_value(knob_read(t, KNOB_LIMIT, 9), knob_row(KNOB_LIMIT)->safe)); /* never published */
    assert_int_equal(knob_version(t, KNOB_LIMIT, 9), 0);
    knob_configure(book, KNOB_LIMIT, 9, &(struct knob_setting){50, NAN, NAN, EV_MODE_ACT});
    assert_true(knob_publish(t, KNOB_LIMIT, 9, l, 1));
    assert_false(knob_publish(t, KNOB_LIMIT, 9, l, 2));
    assert_int_equal(knob_version(t, KNOB_LIMIT, 9), 1);
    assert_true(is_value(knob_read(t, KNOB_LIMIT, 9), 50));
    l->is_frozen = 1;
    assert_true(knob_publish(t, KNOB_LIMIT, 9, l, 3));
    l->is_learned = 1;
    l->learned = 51;
    assert_true(knob_publish(t, KNOB_LIMIT, 9, l, 4));
    assert_true(is_value(knob_read(t, KNOB_LIMIT, 9), 51));
    assert_int_equal(t->cell[KNOB_LIMIT][9].source, KNOB_FROM_LEARNED);
    free(book);
    free(t);
}

static void no_writer_can_push_a_reflex_out_of_its_range(void **state)
{
    (void)state;
    static const double evil[] = {NAN, INFINITY, -INFINITY, -1, 1e300, 0};
    const struct knob_row *row = knob_row(KNOB_LIMIT);
    struct knob_table *t = table_new();
    for (size_t i = 0; i < FB_COUNT(evil); i++) {
        uint64_t bits;
        memcpy(&bits, &evil[i], sizeof bits);
        t->cell[KNOB_LIMIT][0].value_bits = bits;
        t->cell[KNOB_LIMIT][0].version = 1;
        double value = knob_read(t, KNOB_LIMIT, 0);
        assert_true(value >= row->min);
        assert_true(value <= row->max);
    }
    free(t);
}

static void the_glide_begins_late_moves_evenly_and_ends_safe(void **state)
{
    (void)state;
    enum { T1 = 5000000, T2 = 60000000 };
    assert_true(is_value(knob_glide(100, 20, 0, T1, T2), 100));
    assert_true(is_value(knob_glide(100, 20, T1, T1, T2), 100));
    assert_true(is_value(knob_glide(100, 20, (T1 + T2) / 2, T1, T2), 60));
    assert_true(is_value(knob_glide(100, 20, T2, T1, T2), 20));
    assert_true(is_value(knob_glide(100, 20, UINT64_MAX, T1, T2), 20));
    double before = 20;
    for (uint64_t age_us = 0; age_us < T2 + 1000000;
         age_us += 250000) { /* upwards too: never beyond, never back */
        double value = knob_glide(20, 100, age_us, T1, T2);
        assert_true(value >= before);
        assert_true(value <= 100);
        before = value;
    }
    assert_true(is_value(before, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_knob_has_bounds_a_safe_value_and_a_meaning),
        cmocka_unit_test(safe_lies_under_configured_under_learned_under_pinned),
        cmocka_unit_test(bounds_hold_for_all_but_a_pin_and_the_rows_for_that_too),
        cmocka_unit_test(a_changed_setting_drops_its_learned_value_and_no_other),
        cmocka_unit_test(only_changes_are_published),
        cmocka_unit_test(no_writer_can_push_a_reflex_out_of_its_range),
        cmocka_unit_test(the_glide_begins_late_moves_evenly_and_ends_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
