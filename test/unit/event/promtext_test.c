/* SPDX-License-Identifier: Apache-2.0 */
#include "event/promtext.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct got {
    char text[4000]; /* name/family/type/part{label=value,}=value;... */
    size_t len;
};

/* What does not fit is cut. */
FB_PRINTF(2, 3)
static void put(struct got *g, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(g->text + g->len, sizeof g->text - g->len, format, args);
    va_end(args);
    g->len = fb_min_u64(g->len + (size_t)n, sizeof g->text - 1);
}

static void on_sample(void *arg, const struct prom_sample *m)
{
    struct got *g = arg;
    put(g, "%.*s/%.*s/%d/%d{", SPAN_ARG(m->name), SPAN_ARG(m->family), m->type, m->part);
    for (uint32_t i = 0; i < m->label_count; i++)
        put(g, "%.*s=%.*s,", SPAN_ARG(m->label[i].name), SPAN_ARG(m->label[i].value));
    put(g, "}=%g;", m->value);
}

/* In pieces of <step> bytes. */
static bool read_in(struct promtext *p, struct got *g, struct span text, bool is_openmetrics,
                    size_t step)
{
    g->len = 0;
    g->text[0] = '\0';
    promtext_init(p, is_openmetrics, on_sample, g);
    for (size_t at = 0; at < text.len; at += step)
        if (!promtext_feed(p, (struct span){text.at + at, fb_min_u64(step, text.len - at)}))
            return false;
    return promtext_end(p);
}

static struct promtext p;
static struct got g;

static const char page[] = "# HELP http_requests_total The \\n total.\n"
                           "# TYPE http_requests_total counter\n"
                           "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n"
                           "\n"
                           "# a comment\n"
                           "without_type 12.47\n"
                           "escaped{path=\"C:\\\\DIR\\\\\",text=\"a\\n\\\"b\\\"\",} +Inf -3982045\n"
                           "# TYPE rpc_seconds summary\n"
                           "rpc_seconds{quantile=\"0.01\"} 3102\n"
                           "rpc_seconds_sum 1.7560473e+07\n"
                           "rpc_seconds_count 2693\n"
                           "  # TYPE  wait\thistogram\n"
                           "wait_bucket { le=\"0.1\" } 5\n"
                           "wait_sum 1\n"
                           "waiting 1\n";
static const char page_says[] =
    "http_requests_total/http_requests_total/1/0{method=post,code=200,}=1027;"
    "without_type/without_type/0/0{}=12.47;"
    "escaped/escaped/0/0{path=C:\\DIR\\,text=a\n\"b\",}=inf;"
    "rpc_seconds/rpc_seconds/4/0{quantile=0.01,}=3102;"
    "rpc_seconds_sum/rpc_seconds/4/1{}=1.75605e+07;"
    "rpc_seconds_count/rpc_seconds/4/2{}=2693;"
    "wait_bucket/wait/3/3{le=0.1,}=5;"
    "wait_sum/wait/3/1{}=1;"
    "waiting/waiting/0/0{}=1;";

static void a_page_is_read_the_same_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t step = 1; step <= sizeof page; step++) {
        assert_true(read_in(&p, &g, SPAN(page), false, step));
        assert_string_equal(g.text, page_says);
        assert_int_equal(p.samples, 9);
    }
}

static void openmetrics_ends_with_eof_and_may_have_exemplars(void **state)
{
    (void)state;
    struct span text = SPAN("# TYPE hits counter\n# UNIT hits things\n"
                            "hits_total{a=\"b\"} 3 1520879607.789 # {trace_id=\"K\"} 1.0 2\n"
                            "hits_created{a=\"b\"} 1520872607.123\n"
                            "# TYPE mode stateset\nmode{mode=\"on\"} 1\n# EOF");
    assert_true(read_in(&p, &g, text, true, 7));
    assert_string_equal(g.text, "hits_total/hits/1/0{a=b,}=3;"
                                "hits_created/hits_created/0/0{a=b,}=1.52087e+09;"
                                "mode/mode/5/0{mode=on,}=1;");
    text.len -= 5;
    assert_false(read_in(&p, &g, text, true, 7));
    assert_non_null(strstr(p.why, "# EOF"));
    assert_false(read_in(&p, &g, SPAN("# EOF\na 1\n"), true, 99));
    assert_true(read_in(&p, &g, SPAN("# EOF\na 1\n"), false, 99)); /* there a comment */
}

static void what_is_no_page_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"a 1\nb\n", "line 2: b has no number"},
        {"a 1\nb 1", "line 2: it has no end of line"},
        {"<html>\n", "line 1: a name has"},
        {"1a 1\n", "line 1: a name has"},
        {"a one\n", "a has no number"},
        {"a 0x10\n", "a has no number"},
        {"a 1 2 3\n", "something follows"},
        {"a 1 now\n", "the time behind the value"},
        {"a{b=\"c\" 1\n", "no closing brace"},
        {"a{b=\"c} 1\n", "no closing quote"},
        {"a{b=c} 1\n", "has no quotes"},
        {"a{b} 1\n", "labels are {name"},
        {"a{b:c=\"1\"} 1\n", "labels are {name"},
        {"a{,} 1\n", "labels are {name"},
        {"{b=\"c\"} 1\n", "a name has"},
        {"{\"\"} 1\n", "a name has"},
        {"{\"a\"", "line 1: it has no end of line"},
        {"{\"a} 1\n", "no closing quote"},
        {"{\"a\" 1\n", "no closing brace"},
        {"a{\"b\"} 1\n", "labels are {name"},
        {"{\"a\",\"b\"} 1\n", "labels are {name"},
        {"{c=\"1\",\"a\"} 1\n", "labels are {name"},
        {"{\"a\",\"\"=\"1\"} 1\n", "labels are {name"},
        {"{\"a\",\"b\"=1} 1\n", "has no quotes"},
        {"# TYPE \"a gauge\n", "no closing quote"},
        {"# TYPE \"\" gauge\n", "TYPE without a name"},
        {"a{b=\"\\", "line 1: it has no end of line"},
        {"# TYPE a thing\n", "the TYPE of a is none of"},
        {"# TYPE a\n", "the TYPE of a is none of"},
        {"# TYPE a gauge more\n", "the TYPE of a is none of"},
        {"# TYPE 7 gauge\n", "TYPE without a name"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        assert_false(read_in(&p, &g, span_of(rows[i].text), false, 3));
        if (!strstr(p.why, rows[i].says))
            print_message("%s -> %s\n", rows[i].text, p.why);
        assert_non_null(strstr(p.why, rows[i].says));
        assert_false(promtext_feed(&p, SPAN("a 1\n"))); /* and stays refused */
        assert_false(promtext_end(&p));
    }
    assert_false(read_in(&p, &g, SPAN("a{b=\"\0\"} 1\n"), false, 99));
    assert_non_null(strstr(p.why, "zero byte"));
    assert_false(read_in(&p, &g, SPAN("a 1\n\n# EOF\n"), true, 99));
}

static void a_line_and_its_labels_have_bounds(void **state)
{
    (void)state;
    static char text[PROMTEXT_LINE_BYTES_MAX + 100];
    size_t len = (size_t)snprintf(text, sizeof text, "a{b=\"");
    memset(text + len, 'x', PROMTEXT_LINE_BYTES_MAX - len - 4);
    memcpy(text + PROMTEXT_LINE_BYTES_MAX - 4, "\"} 1\n", 5);
    assert_true(read_in(&p, &g, (struct span){text, PROMTEXT_LINE_BYTES_MAX + 1}, false, 1000));
    memcpy(text + PROMTEXT_LINE_BYTES_MAX - 4, "x\"} 1\n", 6);
    assert_false(read_in(&p, &g, (struct span){text, PROMTEXT_LINE_BYTES_MAX + 2}, false, 1000));
    assert_non_null(strstr(p.why, "line 1: longer than"));
    for (int more = 0; more < 2; more++) {
        len = (size_t)snprintf(text, sizeof text, "a{");
        for (int i = 0; i < PROMTEXT_LABELS_MAX + more; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "l%d=\"\",", i);
        len += (size_t)snprintf(text + len, sizeof text - len, "} 1\n");
        assert_int_equal(read_in(&p, &g, (struct span){text, len}, false, 99), !more);
    }
    assert_non_null(strstr(p.why, "more than 256 labels"));
}

static void names_of_utf8_between_quotes_are_plain_words_to_rules(void **state)
{
    (void)state;
    struct span page = SPAN("# TYPE \"http.server/é\" histogram\n"
                            "# HELP \"http.server/é\" wait\n"
                            "{\"http.server/é_count\",\"code.x\"=\"2.0\",b=\"ü\"} 3\n"
                            "{\"http.server/é_bucket\",le=\"+Inf\",} 3\n"
                            "{ \"7\\\"up\" } 1 2\n"
                            "plain{\"a:b\"=\"1\"} 1\n");
    static const char want[] = "http_server___count/http_server__/3/2{code_x=2.0,b=ü,}=3;"
                               "http_server___bucket/http_server__/3/3{le=+Inf,}=3;"
                               "__up/__up/0/0{}=1;"
                               "plain/plain/0/0{a:b=1,}=1;";
    for (size_t step = 1; step < 40; step++) {
        assert_true(read_in(&p, &g, page, false, step));
        assert_string_equal(g.text, want);
    }
}

static void a_backslash_before_any_other_byte_is_one(void **state)
{
    (void)state;
    assert_true(read_in(&p, &g, SPAN("a{b=\"C:\\dir\\\\new\\x\"} 1\n"), false, 99));
    assert_string_equal(g.text, "a/a/0/0{b=C:\\dir\\new\\x,}=1;");
    assert_false(read_in(&p, &g, SPAN("a{b=\"C:\\\"} 1\n"), false, 99)); /* it hides the quote */
}

static void words_for_no_number_are_values(void **state)
{
    (void)state;
    assert_true(read_in(&p, &g, SPAN("a NaN\nb -Inf\nc -1e-3\n"), false, 99));
    assert_string_equal(g.text, "a/a/0/0{}=nan;b/b/0/0{}=-inf;c/c/0/0{}=-0.001;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_read_the_same_in_pieces_of_any_size),
        cmocka_unit_test(openmetrics_ends_with_eof_and_may_have_exemplars),
        cmocka_unit_test(what_is_no_page_is_refused_with_its_line),
        cmocka_unit_test(a_line_and_its_labels_have_bounds),
        cmocka_unit_test(names_of_utf8_between_quotes_are_plain_words_to_rules),
        cmocka_unit_test(a_backslash_before_any_other_byte_is_one),
        cmocka_unit_test(words_for_no_number_are_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
