/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns, groups, what a match begins with, and what no text can buy: unbounded work. */
#include "base/regex.h"

#include "base/clock.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static struct regex *made(const char *pattern)
{
    struct regex_fault fault;
    struct regex *rx = regex_new(span_of(pattern), false, &fault);
    if (!rx)
        print_error("%s: %s\n", pattern, fault.text);
    assert_non_null(rx);
    return rx;
}

static void groups_are_found(void **state)
{
    (void)state;
    struct regex_work *w = regex_work_new();
    struct regex *rx = made("^/u/(?<id>[0-9]+)(/x)?(.*)$");
    struct span text = SPAN("/u/12-b");
    assert_int_equal(regex_groups(rx), 3);
    assert_int_equal(regex_group_named(rx, SPAN("id")), 1);
    assert_int_equal(regex_group_named(rx, SPAN("no")), 0);
    assert_int_equal(regex_match(rx, w, text), REGEX_YES);
    assert_true(span_eq(regex_group(w, text, 0), text));
    assert_true(span_eq(regex_group(w, text, 1), SPAN("12")));
    assert_int_equal(regex_group(w, text, 2).len, 0); /* took no part */
    assert_true(span_eq(regex_group(w, text, 3), SPAN("-b")));
    assert_int_equal(regex_group(w, text, 99).len, 0);
    assert_int_equal(regex_match(rx, w, SPAN("/v/12")), REGEX_NO);
    regex_free(rx);
    struct regex_fault fault;
    rx = regex_new(SPAN("/a$"), true, &fault);
    assert_int_equal(regex_match(rx, w, SPAN("/x/A")), REGEX_YES);
    assert_int_equal(regex_match(rx, w, SPAN("/x/A\n")), REGEX_NO); /* $ is the very end */
    regex_free(rx);
    regex_work_free(w);
}

static void what_is_no_pattern_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        size_t at;
        const char *says;
    } rows[] = {{"(a", 2, "missing closing parenthesis"},
                {"a*+b(", 5, "missing closing parenthesis"},
                {"[a", 2, "missing terminating ]"},
                {"*a", 0, "quantifier does not follow"},
                {"(*UTF)a", 6, "disabled"},
                {"\\C", 2, "disabled"}};
    struct regex_fault fault;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        assert_null(regex_new(span_of(rows[i].pattern), false, &fault));
        if (!strstr(fault.text, rows[i].says) || fault.at != rows[i].at)
            fail_msg("%s: %zu %s", rows[i].pattern, fault.at, fault.text);
    }
    char many[200] = "";
    for (int i = 0; i < 33; i++)
        strcat(many, "(a)");
    assert_null(regex_new(span_of(many), false, &fault));
    assert_non_null(strstr(fault.text, "33 groups"));
    char big[100] = "((((a{500}){500}){500}){500})";
    assert_null(regex_new(span_of(big), false, &fault)); /* not gigabytes */
}

static void the_beginning_of_a_pattern_is_never_too_long(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *want;
    } rows[] = {{"^/api/v1/x", "/api/v1/"},
                {"^/a(b)", "/a"},
                {"^/ab?", "/a"},
                {"^/ab*", "/a"},
                {"^/ab+", "/ab"},
                {"^/ab{0,2}", "/a"},
                {"^/a|/b", ""},
                {"^/a(b|c)", "/a"},
                {"/a", ""},
                {"^/a.b", "/a"},
                {"^/a\\.b", "/a"},
                {"^/a[|]b", "/a"},
                {"^/a[]|]b", "/a"},
                {"^/a[^]|]b", "/a"},
                {"^/a\\|b", "/a"},
                {"^/a[[:alpha:](]|/b", ""},
                {"^/a\\Q(\\E|/b", ""},
                {"^/a(?#()|/b", ""},
                {"^/a(?x)#(\n|/b", ""},
                {"^/a\\c(|/b", ""},
                {"^", ""},
                {"^/a(?:b)|c", ""},
                {"^/a$", "/a"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct regex *rx = made(rows[i].pattern);
        if (!span_eq(regex_prefix(rx), span_of(rows[i].want)))
            fail_msg("%s begins with \"%.*s\"", rows[i].pattern, SPAN_ARG(regex_prefix(rx)));
        regex_free(rx);
    }
    struct regex_fault fault;
    struct regex *rx = regex_new(SPAN("^/abc"), true, &fault);
    assert_int_equal(regex_prefix(rx).len, 0);
    regex_free(rx);
}

/* Whatever a pattern of these pieces matches begins with what regex_prefix says. */
static void random_patterns_match_only_what_begins_so(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "/",   "a", "b",    "(",    ")",  "|",  "[", "]",   "?",   "*",   "+",   "\\", "[^", "{1}",
        "(?:", ".", "{,2}", "(?i)", "[:", ":]", "^", "\\Q", "\\E", "(?#", "\\c", "$",  "#",  "ab"};
    struct rng r;
    struct regex_work *w = regex_work_new();
    uint32_t matched = 0;
    rng_init(&r, 11);
    for (int i = 0; i < 60000; i++) {
        char pattern[80] = "^", text[12] = "/";
        for (uint32_t k = rng_below(&r, 9); k; k--)
            strcat(pattern, parts[rng_below(&r, FB_COUNT(parts))]);
        struct regex_fault fault;
        struct regex *rx = regex_new(span_of(pattern), false, &fault);
        for (int t = 0; rx && t < 8; t++) {
            size_t len = rng_below(&r, 6);
            for (size_t k = 0; k < len; k++)
                text[k] = "/ab|(]"[rng_below(&r, 6)];
            struct span s = {text, len};
            if (regex_match(rx, w, s) != REGEX_YES)
                continue;
            matched++;
            if (!span_starts(s, regex_prefix(rx)))
                fail_msg("%s matches %.*s", pattern, SPAN_ARG(s));
        }
        regex_free(rx);
    }
    assert_true(matched > 5000);
    regex_work_free(w);
}

/* The worst of known patterns on the worst of texts: CPU time of the thread, with an allowance for
 * sanitizers; printed to be read. */
static void no_text_buys_much_time(void **state)
{
    (void)state;
    static const char *const evil[] = {"(a+)+$",
                                       "^(a+)+$",
                                       "(a|a)*$",
                                       "(a|aa)+$",
                                       "^(([a-z])+.)+[A-Z]([a-z])+$",
                                       "(.*a){12}b",
                                       "(x+x+)+y",
                                       "^/(.*)/(.*)/(.*)/(.*)b$",
                                       "[^b]*+c",
                                       "(?:[^b]*+c?)*+d",
                                       "(?:[^b]*a)*c",
                                       "(a*)*b",
                                       "^(?:(?:a?){30}){30}a{30}b",
                                       "(?=(a+))\\1*b",
                                       "(.+)+\\.php$",
                                       "(?<!a)(a+a+)+b",
                                       "(((a*)*)*)*b",
                                       "(.)(.)(.)*\\3\\2\\1c"};
    struct regex_work *w = regex_work_new();
    uint64_t worst_us = 0, worst_short_us = 0;
    static char text[REGEX_TEXT_BYTES_MAX + 1];
    for (size_t i = 0; i < FB_COUNT(evil); i++) {
        struct regex *rx = made(evil[i]);
        static const size_t lengths[] = {30, 100, 300, 1000, REGEX_TEXT_BYTES_MAX};
        for (size_t k = 0; k < FB_COUNT(lengths); k++) {
            memset(text, 'a', lengths[k]);
            for (int kind = 0; kind < 6; kind++) {
                for (size_t at = 0; kind == 1 && at < lengths[k]; at += 2)
                    text[at] = '/';
                for (size_t at = 0; kind == 2 && at < lengths[k]; at++)
                    text[at] = "ax"[at * 7 % 11 % 2];
                for (size_t at = 1; kind > 3 && at < lengths[k]; at += kind == 4 ? 5 : 3)
                    text[at] = kind == 4 ? 'c' : '.';
                if (kind >= 3) /* what patterns ask for at the end is there, and then does not do */
                    memcpy(text + lengths[k] - 16, "x!b!c!d!y!Z.php!", 16);
                text[0] = '/';
                uint64_t from_us = fb_thread_cpu_us();
                (void)regex_match(rx, w, (struct span){text, lengths[k]});
                uint64_t took_us = fb_thread_cpu_us() - from_us;
                if (took_us > worst_us) {
                    worst_us = took_us;
                    print_message("%s, %zu bytes, kind %d: %u us\n", evil[i], lengths[k], kind,
                                  (unsigned)took_us);
                }
                if (lengths[k] <= 300 && took_us > worst_short_us)
                    worst_short_us = took_us;
            }
        }
        regex_free(rx);
    }
    print_message("worst up to 300 bytes %u us, of all %u us\n", (unsigned)worst_short_us,
                  (unsigned)worst_us);
    assert_true(worst_us < 2 * US_PER_S);
    struct regex *rx = made("a");
    assert_int_equal(regex_match(rx, w, (struct span){text, REGEX_TEXT_BYTES_MAX + 1}),
                     REGEX_COSTLY);
    regex_free(rx);
    regex_work_free(w);
}

static void honest_patterns_are_answered(void **state)
{
    (void)state;
    static const char *const honest[] = {"^/users/([0-9]+)/posts/([^/]+)$",
                                         "\\.(png|jpe?g|gif|css|js)$",
                                         "^/(.*)/(.*)/edit$",
                                         "^/[a-z]{2}/.*\\.html$",
                                         "/index\\.php",
                                         "^(.+\\.php)(/.+)$",
                                         "(?i)\\.(PHP|asp)x?$"};
    static const size_t lengths[] = {10, 60, 200, 500};
    struct regex_work *w = regex_work_new();
    char text[600];
    for (size_t i = 0; i < FB_COUNT(honest); i++) {
        struct regex *rx = made(honest[i]);
        for (size_t k = 0; k < FB_COUNT(lengths); k++) {
            for (size_t at = 0; at < lengths[k]; at++)
                text[at] = "/some-words.and1segments"[at % 24];
            assert_int_not_equal(regex_match(rx, w, (struct span){text, lengths[k]}), REGEX_COSTLY);
        }
        regex_free(rx);
    }
    regex_work_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_found),
        cmocka_unit_test(what_is_no_pattern_is_told),
        cmocka_unit_test(the_beginning_of_a_pattern_is_never_too_long),
        cmocka_unit_test(random_patterns_match_only_what_begins_so),
        cmocka_unit_test(no_text_buys_much_time),
        cmocka_unit_test(honest_patterns_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
