/* SPDX-License-Identifier: Apache-2.0 */
/* The table of features against the other tables, and what is said of one. */
#include "output/feature.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_metric(struct span name)
{
    for (unsigned i = 0; i < METRIC_ID_COUNT; i++)
        if (span_eq(name, span_of(metric_row(i)->name)))
            return true;
    return false;
}

static void each_metric_of_a_feature_exists(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FEATURE_COUNT; id++) {
        struct span rest = span_of(feature_row(id)->metrics);
        assert_true(rest.len > 0);
        while (rest.len > 0) {
            struct span one = span_cut(rest, ',', &rest);
            if (!is_metric(one))
                fail_msg("%s: no metric %.*s", feature_row(id)->name, SPAN_ARG(one));
        }
    }
}

static void each_reason_of_a_feature_exists(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FEATURE_COUNT; id++)
        for (struct span rest = span_of(feature_row(id)->reasons); rest.len > 0;) {
            struct span one = span_cut(rest, ',', &rest);
            if (!ev_reason_by_name(one))
                fail_msg("%s: no reason %.*s", feature_row(id)->name, SPAN_ARG(one));
        }
}

static const char *const keys[] = {
#define KEY(level, name, ...) #name,
#include "conf/keys.def"
#undef KEY
#define PARAM(section, name, ...) #section "." #name,
#include "conf/params.def"
#undef PARAM
};

static void each_key_of_a_feature_exists(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FEATURE_COUNT; id++)
        for (struct span rest = span_of(feature_row(id)->keys); rest.len > 0;) {
            struct span one = span_cut(rest, ',', &rest);
            size_t i = 0;
            while (i < FB_COUNT(keys) && !span_eq(one, span_of(keys[i])) &&
                   !(span_starts(span_of(keys[i]), SPAN("top.")) &&
                     span_eq(one, span_of(keys[i] + 4))))
                i++;
            if (i == FB_COUNT(keys))
                fail_msg("%s: no key %.*s", feature_row(id)->name, SPAN_ARG(one));
        }
}

static void each_feature_has_its_page(void **state)
{
    (void)state;
    const char *root = getenv("FOLDBACK_SOURCE");
    assert_non_null(root);
    for (unsigned id = 0; id < FEATURE_COUNT; id++) {
        char path[512];
        snprintf(path, sizeof path, "%s/doc/guide/%s.md", root, feature_row(id)->page);
        if (access(path, R_OK) != 0)
            fail_msg("%s: no page %s", feature_row(id)->name, path);
    }
}

static void names_are_found_and_unique(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FEATURE_COUNT; id++) {
        assert_int_equal(feature_by_name(span_of(feature_row(id)->name)), id);
        assert_true(strlen(feature_row(id)->what) > 10);
        assert_true(strlen(feature_row(id)->keys) > 2);
    }
    assert_int_equal(feature_by_name(SPAN("stick")), FEATURE_COUNT);
}

static void figures_become_words_with_units(void **state)
{
    (void)state;
    const struct feature_figure f[] = {{"kept", 12},
                                       {"moved", 0},
                                       {"before_bytes", 12300},
                                       {"fullest_pct", 80},
                                       {"first_ends_days", 89.25},
                                       {"by_class", 1},
                                       {"next_run_in_s", 9000},
                                       {"age_s", 40}};
    struct buf out;
    buf_init(&out, 1024);
    feature_text(f, FB_COUNT(f), &out);
    assert_string_equal(buf_str(&out),
                        "12 kept, before 12.3 kB, fullest 80.0 %, "
                        "first ends 89.2 days, 1 by class, next run in 2.5 h, age 40 s");
    buf_fini(&out);
}

/* A brain without anything but what <m> counted. */
static void what_was_never_met_has_no_figures(void **state)
{
    (void)state;
    struct memfile mem;
    struct admin *a = calloc(1, sizeof *a);
    assert_non_null(a);
    assert_int_equal(memfile_create(&mem, 1, 64, NULL), FB_OK);
    a->metrics = metrics_new(0);
    a->source.memfile = &mem;
    struct feature_figure f[FEATURE_FIGURES_MAX];
    for (unsigned id = 0; id < FEATURE_COUNT; id++) {
        size_t count = feature_figures(a, id, 0, f);
        if (count)
            fail_msg("%s has %zu figures", feature_row(id)->name, count);
    }
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    r.traits = EV_TRAIT_BIT(STICKY_KEPT);
    r.limit_used_pct = 60;
    metrics_feed(a->metrics, &r.head);
    assert_int_equal(feature_figures(a, FEATURE_STICKY, 0, f), 3);
    assert_true(f[0].value > 0.5);
    assert_int_equal(feature_figures(a, FEATURE_LIMITS, 0, f), 3);
    assert_string_equal(f[2].label, "fullest_pct");
    assert_true(fabs(f[2].value - 60) < 0.1);
    r.reason = REASON_UPSTREAM_WANTS_TLS;
    metrics_feed(a->metrics, &r.head);
    assert_int_equal(feature_figures(a, FEATURE_ENDPOINT_TLS, 0, f), 8);
    assert_string_equal(f[4].label, "wants_tls");
    assert_true(f[4].value > 0.5 && f[3].value < 0.5);
    assert_int_equal(feature_figures(a, FEATURE_RULES, 0, f), 0);
    assert_int_equal(feature_figures(a, FEATURE_STICKY, EV_NONE, f), 0);
    metrics_free(a->metrics);
    memfile_close(&mem);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_metric_of_a_feature_exists),
        cmocka_unit_test(each_reason_of_a_feature_exists),
        cmocka_unit_test(each_key_of_a_feature_exists),
        cmocka_unit_test(each_feature_has_its_page),
        cmocka_unit_test(names_are_found_and_unique),
        cmocka_unit_test(figures_become_words_with_units),
        cmocka_unit_test(what_was_never_met_has_no_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
