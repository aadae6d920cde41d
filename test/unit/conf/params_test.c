/* SPDX-License-Identifier: Apache-2.0 */
/* A walk over all keys of params.def, and what is printed from the tables. */
#include "conf/conf.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define BASE "listen: [\":8080\"]\nservices: { shop: { endpoints: [\"10.0.0.1:80\"] } }\n"

static void key_of(const struct conf_param_row *row, char out[64])
{
    bool is_top = strcmp(row->section, "top") == 0;
    snprintf(out, 64, "%s%s%s", is_top ? "" : row->section, is_top ? "" : ".", row->name);
}

/* Parses a configuration in which <row> has the text <value>; NULL when it is refused. */
static struct conf *conf_with(const struct conf_param_row *row, const char *value,
                              char problem[400])
{
    struct buf text;
    struct conf *c;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    buf_puts(&text, BASE);
    if (strcmp(row->section, "top") == 0)
        buf_printf(&text, "%s: %s\n", row->name, value);
    else
        buf_printf(&text, "%s: { %s: %s }\n", row->section, row->name, value);
    enum fb_code code = conf_parse(buf_span(&text), "walk.yaml", &c, &report);
    assert_true(code == FB_OK || code == FB_E_CONFIG);
    problem[0] = 0;
    if (report.count)
        snprintf(problem, 400, "%s", report.at[0].text);
    conf_report_fini(&report);
    buf_fini(&text);
    return c;
}

/* The number <value> as text of the row's type, in its smallest unit. */
static void number_text(const struct conf_param_row *row, uint64_t value, char out[40])
{
    static const char *const units[] = {[CONF_TYPE_u32] = "",
                                        [CONF_TYPE_bytes] = "B",
                                        [CONF_TYPE_dur] = "ms",
                                        [CONF_TYPE_rate] = "B/s",
                                        [CONF_TYPE_pct] = "%"};
    snprintf(out, 40, "%llu%s", (unsigned long long)value, units[row->type]);
}

static uint64_t number_of(const struct conf_param_row *row, const struct conf *c)
{
    const char *at = (const char *)&c->p + row->offset;
    bool is_short = row->type == CONF_TYPE_u32 || row->type == CONF_TYPE_pct;
    return is_short ? *(const conf_u32 *)(const void *)at : *(const uint64_t *)(const void *)at;
}

/* Some keys are bound to another one: what it must be for a value of theirs to be legal. */
static bool is_bound_elsewhere(const struct conf_param_row *row, uint64_t value)
{
    char key[64];
    key_of(row, key);
    if (strcmp(key, "gateway.ring_cells") == 0)
        return (value & (value - 1)) != 0;
    if (strcmp(key, "gateway.safe_after") == 0)
        return value <= 5000;
    return strcmp(key, "gateway.static_after") == 0 && value >= 60000;
}

static void accepts(const struct conf_param_row *row, uint64_t value)
{
    char text[40], problem[400], key[64];
    if (is_bound_elsewhere(row, value))
        return;
    number_text(row, value, text);
    key_of(row, key);
    struct conf *c = conf_with(row, text, problem);
    if (!c)
        print_error("%s: %s: %s\n", key, text, problem);
    assert_non_null(c);
    assert_true(number_of(row, c) == value);
    struct buf printed; /* what is printed reads back as the same */
    buf_init(&printed, KIB);
    conf_param_print(row, &c->p, &printed);
    struct conf *again = conf_with(row, buf_str(&printed), problem);
    if (!again)
        print_error("%s: %s: %s\n", key, buf_str(&printed), problem);
    assert_non_null(again);
    assert_true(number_of(row, again) == value);
    buf_fini(&printed);
    conf_unref(c);
    conf_unref(again);
}

static void refuses(const struct conf_param_row *row, uint64_t value)
{
    char text[40], problem[400], key[64], want[100];
    number_text(row, value, text);
    key_of(row, key);
    struct conf *c = conf_with(row, text, problem);
    if (c)
        print_error("%s: %s was accepted\n", key, text);
    assert_null(c);
    snprintf(want, sizeof want, "%s must be ", key);
    if (!strstr(problem, want))
        print_error("%s: %s: %s\n", key, text, problem);
    assert_non_null(strstr(problem, want));
}

static void takes_lists_of_its_words(const struct conf_param_row *row)
{
    char text[200] = "[", problem[400];
    uint32_t all = 0, index = 0;
    for (struct span rest = span_of(row->words); rest.len; index++) {
        char word[32];
        struct span one = span_cut(rest, '|', &rest);
        snprintf(word, sizeof word, "%.*s", SPAN_ARG(one));
        all |= UINT32_C(1) << index;
        struct conf *c = conf_with(row, word, problem);
        assert_non_null(c);
        assert_int_equal(*(const conf_words *)(const void *)((const char *)&c->p + row->offset),
                         UINT32_C(1) << index);
        conf_unref(c);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", word,
                 rest.len ? ", " : "]");
    }
    struct conf *c = conf_with(row, text, problem);
    assert_non_null(c);
    assert_int_equal(*(const conf_words *)(const void *)((const char *)&c->p + row->offset), all);
    struct buf printed;
    buf_init(&printed, KIB);
    conf_param_print(row, &c->p, &printed);
    assert_string_equal(buf_str(&printed), text);
    buf_fini(&printed);
    conf_unref(c);
    c = conf_with(row, "[]", problem);
    assert_non_null(c);
    assert_int_equal(*(const conf_words *)(const void *)((const char *)&c->p + row->offset), 0);
    conf_unref(c);
    assert_null(conf_with(row, "[zzz]", problem));
    assert_non_null(strstr(problem, "must be"));
    assert_null(conf_with(row, "{a: b}", problem));
}

static void each_key_takes_its_range_and_nothing_else(void **state)
{
    (void)state;
    size_t count, walked = 0;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (size_t i = 0; i < count; i++) {
        const struct conf_param_row *row = &rows[i];
        char problem[400];
        if (row->type == CONF_TYPE_bool) {
            struct conf *c = conf_with(row, "yes", problem);
            assert_non_null(c);
            assert_true(*(const conf_bool *)(const void *)((const char *)&c->p + row->offset));
            conf_unref(c);
            assert_null(conf_with(row, "2", problem));
        } else if (row->type == CONF_TYPE_word) {
            uint8_t index = 0;
            for (struct span rest = span_of(row->words); rest.len; index++) {
                char word[32];
                struct span one = span_cut(rest, '|', &rest); /* SPAN_ARG evaluates twice */
                snprintf(word, sizeof word, "%.*s", SPAN_ARG(one));
                struct conf *c = conf_with(row, word, problem);
                if (!c)
                    print_error("%s.%s: %s: %s\n", row->section, row->name, word, problem);
                assert_non_null(c);
                assert_int_equal(
                    *(const conf_word *)(const void *)((const char *)&c->p + row->offset), index);
                conf_unref(c);
            }
            assert_null(conf_with(row, "zzz", problem));
        } else if (row->type == CONF_TYPE_words) {
            takes_lists_of_its_words(row);
        } else if (row->type != CONF_TYPE_str) {
            assert_true(row->min < row->max);
            accepts(row, row->min);
            accepts(row, row->max);
            refuses(row, row->max + 1);
            if (row->min > 0)
                refuses(row, row->min - 1);
        }
        walked++;
    }
    assert_int_equal(walked, count);
    assert_true(walked >= 40);
}

static void each_default_lies_in_its_range_and_prints_as_written(void **state)
{
    (void)state;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    struct conf *c;
    struct conf_report report;
    assert_int_equal(conf_parse(SPAN(BASE), "t.yaml", &c, &report), FB_OK);
    for (size_t i = 0; i < count; i++) {
        struct buf printed;
        buf_init(&printed, KIB);
        conf_param_print(&rows[i], &c->p, &printed);
        assert_string_equal(buf_str(&printed), rows[i].def);
        buf_fini(&printed);
        assert_true(strlen(rows[i].what) > 10);
        assert_true(strlen(rows[i].why) > 10);
        if (rows[i].type == CONF_TYPE_u32 || rows[i].type == CONF_TYPE_dur)
            assert_true(number_of(&rows[i], c) >= rows[i].min);
    }
    conf_report_fini(&report);
    conf_unref(c);
}

#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct {
    const char *says, *value;
    uint64_t ms; /* 0: refused */
} durations[] = {
    ROW("plain", .value = "1500ms", .ms = 1500),
    ROW("fraction", .value = "1.5s", .ms = 1500),
    ROW("exact", .value = "0.3s", .ms = 300),
    ROW("sum", .value = "1m30s", .ms = 90000),
    ROW("us", .value = "200000us", .ms = 200),
    ROW("hours", .value = "1h", .ms = 3600000),
    ROW("too fine", .value = "1500.5us"),
    ROW("no unit", .value = "15"),
    ROW("no number", .value = "s"),
    ROW("sign", .value = "\"-5s\""),
    ROW("blank", .value = "\"5 s\""),
    ROW("capital", .value = "5S"),
    ROW("exponent", .value = "1e3ms"),
    ROW("two points", .value = "1.2.3s"),
    ROW("point at the end", .value = "1.s"),
    ROW("minutes", .value = "2min"),
    ROW("overflow", .value = "99999999999999999999s"),
};

static void durations_are_exact(void **state)
{
    (void)state;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count), *row = NULL;
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].section, "limits") == 0 && strcmp(rows[i].name, "idle_timeout") == 0)
            row = &rows[i];
    assert_non_null(row);
    for (size_t i = 0; i < FB_COUNT(durations); i++) {
        char problem[400];
        struct conf *c = conf_with(row, durations[i].value, problem);
        if ((c != NULL) != (durations[i].ms != 0))
            print_error("%s: %s\n", durations[i].says, problem);
        assert_true((c != NULL) == (durations[i].ms != 0));
        if (c)
            assert_true(c->p.limits_idle_timeout == durations[i].ms);
        conf_unref(c);
    }
}

/* ---- what is printed ---- */

#define SHOWN                                                                                      \
    BASE "mode: recommend\nlimits:\n  idle_timeout: 5s\nroutes: [{ match: /x/, service: shop, "    \
         "timeout: 2s }]\n"

static void show_names_each_value_and_its_source(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    struct buf out;
    buf_init(&out, MIB);
    assert_int_equal(conf_parse(SPAN(SHOWN), "t.yaml", &c, &report), FB_OK);
    conf_show(c, false, &out);
    const char *text = buf_str(&out);
    assert_non_null(strstr(
        text, "limits.idle_timeout                      5s                           # line 5\n"));
    assert_non_null(strstr(
        text, "limits.header_timeout                    10s                          # default\n"));
    assert_non_null(strstr(
        text, "routes[0].timeout                        2s                           # line 6\n"));
    assert_non_null(strstr(
        text, "services.shop.endpoints[0].address       10.0.0.1:80                  # line 2\n"));
    buf_clear(&out);
    conf_show(c, true, &out);
    json_t *read = json_loadb(out.at, out.len, 0, NULL);
    assert_non_null(read);
    json_t *values = json_object_get(read, "values"), *value;
    size_t i, count, seen = 0;
    conf_param_rows(&count);
    assert_true(json_array_size(values) > count);
    json_array_foreach(values, i, value)
    {
        if (strcmp(json_string_value(json_object_get(value, "key")), "mode") != 0)
            continue;
        seen++;
        assert_string_equal(json_string_value(json_object_get(value, "value")), "recommend");
        assert_string_equal(json_string_value(json_object_get(value, "source")), "file");
        assert_int_equal(json_integer_value(json_object_get(value, "line")), 3);
    }
    assert_int_equal(seen, 1);
    json_decref(read);
    conf_report_fini(&report);
    conf_unref(c);
    buf_fini(&out);
}

static void the_schema_is_json_and_knows_every_key(void **state)
{
    (void)state;
    struct buf out;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    buf_init(&out, 4 * MIB);
    conf_schema(&out);
    assert_false(out.failed);
    json_t *schema = json_loadb(out.at, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(schema);
    json_t *properties = json_object_get(schema, "properties");
    for (size_t i = 0; i < count; i++) {
        json_t *in = properties;
        if (strcmp(rows[i].section, "top") != 0)
            in = json_object_get(json_object_get(properties, rows[i].section), "properties");
        json_t *row = json_object_get(in, rows[i].name);
        assert_non_null(row);
        assert_non_null(json_object_get(row, "description"));
        assert_string_equal(json_string_value(json_object_get(row, "default")), rows[i].def);
    }
    assert_non_null(json_object_get(json_object_get(schema, "$defs"), "route"));
    json_decref(schema);
    buf_fini(&out);
}

static void the_reference_has_a_row_for_every_key(void **state)
{
    (void)state;
    struct buf out;
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    buf_init(&out, 4 * MIB);
    conf_reference(&out);
    for (size_t i = 0; i < count; i++) {
        char key[64], cell[72];
        key_of(&rows[i], key);
        snprintf(cell, sizeof cell, "| `%s` |", key);
        assert_non_null(strstr(buf_str(&out), cell));
    }
    assert_non_null(strstr(buf_str(&out), "| `priority` | `default` |"));
    buf_fini(&out);
}

/* ---- run --to, reload ---- */

static void run_to_is_a_configuration(void **state)
{
    (void)state;
    static const char *const to[] = {":3000", "10.0.0.1:80", "3001", "http://app.example:8080/"},
                             *const from[] = {"127.0.0.1:8081"};
    struct buf text;
    struct fb_err err;
    struct conf *c;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    assert_int_equal(conf_text_for_run(from, 1, to, FB_COUNT(to), &text, &err), FB_OK);
    assert_int_equal(conf_parse(buf_span(&text), "", &c, &report), FB_OK);
    assert_string_equal(c->listens[0].address, "127.0.0.1:8081");
    assert_int_equal(c->services[0].endpoint_count, 4);
    assert_int_equal(c->services[0].endpoints[2].port, 3001);
    assert_string_equal(c->services[0].endpoints[3].host, "app.example");
    assert_string_equal(c->p.top_state, "./foldback-state");
    conf_report_fini(&report);
    conf_unref(c);
    buf_clear(&text);
    assert_int_equal(conf_text_for_run(NULL, 0, to, 1, &text, &err), FB_OK);
    assert_non_null(strstr(buf_str(&text), "listen: [\"127.0.0.1:8080\"]"));
    static const char *const evil[] = {":1\"]\nmode: act # ", "", "a b"};
    for (size_t i = 0; i < FB_COUNT(evil); i++)
        assert_int_equal(conf_text_for_run(NULL, 0, &evil[i], 1, &text, &err), FB_E_USAGE);
    assert_int_equal(conf_text_for_run(NULL, 0, NULL, 0, &text, &err), FB_E_USAGE);
    assert_non_null(strstr(err.text, "--to"));
    buf_fini(&text);
}

static void a_reload_says_what_it_cannot_do(void **state)
{
    (void)state;
    static const char now_text[] = "listen: [\":8081\"]\nthreads: 3\nlimits: { idle_timeout: 5s }\n"
                                   "services: { other: { endpoints: [\"10.0.0.2:80\"] } }\n";
    struct conf *was, *now;
    struct conf_report report;
    struct buf out;
    buf_init(&out, 64 * KIB);
    assert_int_equal(conf_parse(SPAN(BASE), "t.yaml", &was, &report), FB_OK);
    conf_report_fini(&report);
    assert_int_equal(conf_parse(SPAN(now_text), "t.yaml", &now, &report), FB_OK);
    conf_report_fini(&report);
    assert_int_equal(conf_reload_needs_restart(was, was, &out), 0);
    assert_int_equal(out.len, 0);
    assert_int_equal(conf_reload_needs_restart(was, now, &out), 1);
    assert_string_equal(buf_str(&out), "threads: \"auto\" became \"3\"\n");
    assert_int_equal(conf_listen_line(now, 0), 1);
    assert_int_equal(conf_listen_line(now, 1), 0);
    conf_unref(was);
    conf_unref(now);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_takes_its_range_and_nothing_else),
        cmocka_unit_test(each_default_lies_in_its_range_and_prints_as_written),
        cmocka_unit_test(durations_are_exact),
        cmocka_unit_test(show_names_each_value_and_its_source),
        cmocka_unit_test(the_schema_is_json_and_knows_every_key),
        cmocka_unit_test(the_reference_has_a_row_for_every_key),
        cmocka_unit_test(run_to_is_a_configuration),
        cmocka_unit_test(a_reload_says_what_it_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
