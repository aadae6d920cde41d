/* SPDX-License-Identifier: Apache-2.0 */
/* span, buf, json, error, rng, small arithmetic. */
#include "base/assert.h"
#include "base/error.h"
#include "base/json.h"
#include "base/rng.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void is_near(double got, double want, double most)
{
    if (fabs(got - want) > most)
        print_error("%g is not %g within %g\n", got, want, most);
    assert_true(fabs(got - want) <= most);
}

#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }

/* ---- span ---- */

static void spans_compare_by_bytes(void **state)
{
    (void)state;
    assert_true(span_eq(SPAN("ab"), SPAN("ab")));
    assert_false(span_eq(SPAN("ab"), SPAN("aB")));
    assert_false(span_eq(SPAN("ab"), SPAN("abc")));
    assert_true(span_eq((struct span){NULL, 0}, SPAN("")));
    assert_true(span_eq(span_of(NULL), SPAN("")));
    assert_true(span_ieq(SPAN("Host"), SPAN("hOST")));
    assert_false(span_ieq(SPAN("Host"), SPAN("Hos")));
    assert_true(span_starts(SPAN("/a/b"), SPAN("/a/")));
    assert_true(span_starts(SPAN("/a"), SPAN("")));
    assert_false(span_starts(SPAN("/a"), SPAN("/a/")));
}

static void span_trim_takes_blanks_of_both_ends(void **state)
{
    (void)state;
    assert_true(span_eq(span_trim(SPAN(" \ta b\t ")), SPAN("a b")));
    assert_int_equal(span_trim(SPAN(" \t ")).len, 0);
    assert_int_equal(span_trim((struct span){NULL, 0}).len, 0);
    assert_true(span_eq(span_trim(SPAN("\na")), SPAN("\na"))); /* no line breaks */
}

static void span_cut_splits_at_the_first_separator(void **state)
{
    (void)state;
    struct span rest;
    assert_true(span_eq(span_cut(SPAN("a,b,c"), ',', &rest), SPAN("a")));
    assert_true(span_eq(rest, SPAN("b,c")));
    assert_true(span_eq(span_cut(SPAN("abc"), ',', &rest), SPAN("abc")));
    assert_int_equal(rest.len, 0);
    assert_int_equal(span_cut(SPAN(",x"), ',', &rest).len, 0);
    assert_true(span_eq(rest, SPAN("x")));
    assert_int_equal(span_cut((struct span){NULL, 0}, ',', &rest).len, 0);
}

static const struct {
    const char *says, *text;
    bool is_good;
    uint64_t want;
} numbers[] = {
    ROW("zero", .text = "0", .is_good = true, .want = 0),
    ROW("leading zeros", .text = "007", .is_good = true, .want = 7),
    ROW("the largest", .text = "18446744073709551615", .is_good = true, .want = UINT64_MAX),
    ROW("one more", .text = "18446744073709551616"),
    ROW("far more", .text = "99999999999999999999999"),
    ROW("empty", .text = ""),
    ROW("sign", .text = "-1"),
    ROW("plus", .text = "+1"),
    ROW("blank", .text = " 1"),
    ROW("hex", .text = "0x1"),
};

static void span_to_u64_takes_digits_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(numbers); i++) {
        uint64_t value = 42;
        bool is_good = span_to_u64(span_of(numbers[i].text), &value);
        if (is_good != numbers[i].is_good)
            print_error("%s\n", numbers[i].says);
        assert_true(is_good == numbers[i].is_good);
        assert_true(value == (is_good ? numbers[i].want : 42)); /* untouched on failure */
    }
}

/* ---- buf ---- */

static void a_buf_grows_to_its_maximum_and_no_further(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    for (int i = 0; i < 1000; i++)
        buf_putc(&b, 'x');
    assert_false(b.failed);
    assert_int_equal(b.len, 1000);
    buf_putc(&b, 'y');
    assert_true(b.failed);
    assert_int_equal(b.len, 1000);
    buf_clear(&b);
    assert_false(b.failed);
    buf_puts(&b, "again");
    assert_string_equal(buf_str(&b), "again");
    buf_fini(&b);
}

static void a_put_that_does_not_fit_writes_nothing_and_sticks(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_puts(&b, "12345");
    buf_puts(&b, "1234567"); /* too long */
    buf_puts(&b, "6");       /* would fit, but the failure sticks */
    assert_true(b.failed);
    assert_int_equal(b.len, 5);
    assert_string_equal(buf_str(&b), "");
    buf_fini(&b);
}

static void buf_printf_and_drop_front_keep_the_rest(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 * KIB);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 3890);
    buf_drop_front(&b, 3886);
    assert_string_equal(buf_str(&b), "999,");
    buf_drop_front(&b, 4);
    assert_int_equal(b.len, 0);
    buf_put_span(&b, (struct span){NULL, 0});
    assert_int_equal(buf_span(&b).len, 0);
    buf_fini(&b);
}

/* ---- json ---- */

static void json_sets_commas_and_escapes(void **state)
{
    (void)state;
    struct buf b;
    struct json j;
    buf_init(&b, 64 * KIB);
    json_init(&j, &b);
    json_object_begin(&j);
    json_key_str(&j, "a\"b", "x\\y\n\x01\x7f");
    json_key(&j, "list");
    json_array_begin(&j);
    json_u64(&j, UINT64_MAX);
    json_i64(&j, INT64_MIN);
    json_f64(&j, 0.5);
    json_f64(&j, 3);
    json_f64(&j, NAN);
    json_f64(&j, INFINITY);
    json_bool(&j, true);
    json_str(&j, NULL);
    json_array_begin(&j);
    json_array_end(&j);
    json_object_begin(&j);
    json_object_end(&j);
    json_raw(&j, SPAN("{\"r\":1}"));
    json_array_end(&j);
    json_key_bool(&j, "z", false);
    json_object_end(&j);
    assert_string_equal(
        buf_str(&b),
        "{\"a\\\"b\":\"x\\\\y\\u000a\\u0001\\u007f\",\"list\":[18446744073709551615,"
        "-9223372036854775808,0.5,3,null,null,true,null,[],{},{\"r\":1}],\"z\":false}");
    buf_fini(&b);
}

static void any_bytes_become_valid_json(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3);
    for (int round = 0; round < 2000; round++) {
        struct buf b;
        struct json j;
        char bytes[24];
        size_t len = rng_below(&r, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] =
                (char)(rng_below(&r, 3) ? 0x80 + rng_below(&r, 128) : 1 + rng_below(&r, 127));
        buf_init(&b, KIB);
        json_init(&j, &b);
        json_array_begin(&j);
        json_span(&j, (struct span){bytes, len});
        json_array_end(&j);
        json_t *read = json_loadb(b.at, b.len, 0, NULL);
        assert_non_null(read);
        json_decref(read);
        buf_fini(&b);
    }
}

/* ---- error ---- */

static void an_error_is_a_code_and_one_sentence(void **state)
{
    (void)state;
    struct fb_err err;
    char longer[1000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(fb_fail(&err, FB_E_RANGE, "limit must be %d..%d", 1, 9), FB_E_RANGE);
    assert_int_equal(err.code, FB_E_RANGE);
    assert_string_equal(err.text, "limit must be 1..9");
    assert_int_equal(fb_fail(&err, FB_E_IO, "%s", longer), FB_E_IO);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(fb_fail(NULL, FB_E_END, "x"), FB_E_END);
}

static void each_error_has_a_meaning_a_remedy_and_an_exit_code(void **state)
{
    (void)state;
    for (int code = 0; code < FB_E_COUNT; code++) {
        const struct fb_error_row *row = fb_error_row((enum fb_code)code);
        assert_true(strlen(row->name) > 1);
        assert_true(strlen(row->what) > 5);
        assert_true(strlen(row->remedy) > 5);
        assert_true(row->exit_code >= 0);
        assert_true(row->exit_code <= 5);
        assert_true((row->exit_code == 0) == (code == FB_OK));
    }
}

static void a_broken_promise_ends_the_process(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(9);
        fb_assert(child != 0);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* ---- rng ---- */

static void one_seed_is_one_sequence(void **state)
{
    (void)state;
    struct rng a, b, c;
    rng_init(&a, 1);
    rng_init(&b, 1);
    rng_init(&c, 2);
    bool differs = false;
    for (int i = 0; i < 100; i++) {
        uint64_t x = rng_u64(&a);
        assert_true(x == rng_u64(&b));
        differs |= x != rng_u64(&c);
    }
    assert_true(differs);
    rng_init(&a, 0); /* an all-zero state would stay zero */
    assert_true((rng_u64(&a) | rng_u64(&a)) != 0);
}

static void random_values_keep_their_bounds_and_means(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct rng r;
    double unit = 0, exponential = 0, normal = 0, square = 0;
    uint32_t hits[7] = {0};
    rng_init(&r, 11);
    for (int i = 0; i < N; i++) {
        double u = rng_unit(&r), e = rng_exp(&r, 5), n = rng_normal(&r);
        assert_true(u >= 0);
        assert_true(u < 1);
        assert_true(e >= 0);
        assert_true(isfinite(e));
        assert_true(isfinite(n));
        unit += u;
        exponential += e;
        normal += n;
        square += n * n;
        hits[rng_below(&r, 7)]++;
    }
    is_near(unit / N, 0.5, 0.005); /* five deviations of the mean */
    is_near(exponential / N, 5, 0.06);
    is_near(normal / N, 0, 0.012);
    is_near(square / N, 1, 0.016);
    for (size_t i = 0; i < FB_COUNT(hits); i++)
        is_near(hits[i] / (double)N, 1.0 / 7, 0.004);
    assert_int_equal(rng_below(&r, 1), 0);
}

static void small_arithmetic_saturates(void **state)
{
    (void)state;
    assert_int_equal(fb_sat_u32(UINT64_C(1) << 40), UINT32_MAX);
    assert_int_equal(fb_sat_u32(7), 7);
    assert_int_equal(fb_sub_floor_u64(3, 5), 0);
    assert_int_equal(fb_sub_floor_u64(5, 3), 2);
    is_near(fb_clamp(5, 1, 3), 3, 0);
    is_near(fb_clamp(-5, 1, 3), 1, 0);
    is_near(fb_clamp(2, 1, 3), 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_compare_by_bytes),
        cmocka_unit_test(span_trim_takes_blanks_of_both_ends),
        cmocka_unit_test(span_cut_splits_at_the_first_separator),
        cmocka_unit_test(span_to_u64_takes_digits_only),
        cmocka_unit_test(a_buf_grows_to_its_maximum_and_no_further),
        cmocka_unit_test(a_put_that_does_not_fit_writes_nothing_and_sticks),
        cmocka_unit_test(buf_printf_and_drop_front_keep_the_rest),
        cmocka_unit_test(json_sets_commas_and_escapes),
        cmocka_unit_test(any_bytes_become_valid_json),
        cmocka_unit_test(an_error_is_a_code_and_one_sentence),
        cmocka_unit_test(each_error_has_a_meaning_a_remedy_and_an_exit_code),
        cmocka_unit_test(a_broken_promise_ends_the_process),
        cmocka_unit_test(one_seed_is_one_sequence),
        cmocka_unit_test(random_values_keep_their_bounds_and_means),
        cmocka_unit_test(small_arithmetic_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
