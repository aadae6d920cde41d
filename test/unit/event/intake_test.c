/* SPDX-License-Identifier: Apache-2.0 */
#include "event/intake.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct intake_bad seen;
static void note(void *arg, const struct intake_bad *bad)
{
    (void)arg;
    static char field[40];
    seen = *bad;
    snprintf(field, sizeof field, "%s", bad->field);
    seen.field = field;
}

static struct intake strict(struct buf *out, enum intake_form form)
{
    seen = (struct intake_bad){.line = 0};
    return (struct intake){.out = out, .is_strict = true, .form = form, .on_bad = note};
}

static const struct ev_custom *at(const struct buf *out, size_t i)
{
    return (const struct ev_custom *)(const void *)out->at + i;
}

static void a_list_and_lines_become_events(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    assert_true(intake_read(
        &in, SPAN("[{\"name\":\"a\",\"value\":1.5},{\"event\":\"b\",\"text\":\"x\"}]")));
    assert_int_equal(in.events, 2);
    assert_string_equal(at(&out, 0)->name, "a");
    assert_true(at(&out, 0)->value == 1.5);
    assert_string_equal(at(&out, 1)->text, "x");
    in = strict(&out, INTAKE_LINES);
    assert_true(intake_read(&in, SPAN("{\"name\":\"c\"}\r\n\n{\"name\":\"d\",\"value\":2}")));
    assert_int_equal(in.events, 2);
    assert_string_equal(at(&out, 3)->name, "d");
    assert_true(
        intake_read(&in, SPAN("{\"name\":\"e\",\"text\":\"\",\"a\":1}\n{\"name\":\"f\",\"a\":1}")));
    assert_string_equal(at(&out, 4)->text, ""); /* a text, though an empty one */
    assert_string_equal(at(&out, 5)->text, "{\"a\":1}");
    buf_fini(&out);
}

static void a_cloud_event_has_its_type_as_name(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    assert_true(
        intake_read(&in, SPAN("{\"specversion\":\"1.0\",\"type\":\"Shop.Order\",\"id\":\"1\","
                              "\"source\":\"/s\",\"data\":{\"value\":3}}")));
    assert_int_equal(in.events, 1);
    assert_string_equal(at(&out, 0)->name, "shop.order");
    assert_true(at(&out, 0)->value == 3);
    buf_fini(&out);
}

static void what_is_wrong_is_named_with_line_element_and_field(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    static const struct {
        enum intake_form form;
        const char *text;
        enum intake_fault fault;
        uint32_t line, element;
        const char *field;
    } rows[] = {
        {INTAKE_LINES, "{\"name\":\"a\"}\n{\"name\":\"A b\"}", INTAKE_NAME, 2, 0, "name"},
        {INTAKE_LINES, "{\"name\":\"a\"}\n\n{\"name\":", INTAKE_NOT_JSON, 3, 0, ""},
        {INTAKE_LINES, "{\"value\":1}", INTAKE_NAME, 1, 0, "name"},
        {INTAKE_LINES, "{\"name\":\"a\",\"value\":\"7\"}", INTAKE_VALUE, 1, 0, "value"},
        {INTAKE_LINES, "7", INTAKE_NOT_AN_EVENT, 1, 0, ""},
        {INTAKE_DOCUMENT, "[{\"name\":\"a\"},{\"name\":\"b\",\"value\":[]}]", INTAKE_VALUE, 1, 2,
         "value"},
        {INTAKE_DOCUMENT, "[\n{\"name\":\"a\"},\n]", INTAKE_NOT_JSON, 3, 0, ""},
        {INTAKE_DOCUMENT, "{\"specversion\":\"1.0\",\"data\":1}", INTAKE_NOT_AN_EVENT, 1, 0,
         "type"},
        {INTAKE_DOCUMENT, "", INTAKE_NOT_JSON, 0, 0, ""},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct intake in = strict(&out, rows[i].form);
        assert_true(intake_read(&in, span_of(rows[i].text)));
        assert_int_equal(in.bad, 1);
        assert_int_equal(seen.fault, rows[i].fault);
        assert_int_equal(seen.line, rows[i].line);
        assert_int_equal(seen.element, rows[i].element);
        assert_string_equal(seen.field, rows[i].field);
    }
    buf_fini(&out);
}

static void a_cloud_event_is_of_version_1_0(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    static const char *const bad[] = {
        "{\"specversion\":\"0.3\",\"type\":\"a\"}", "{\"specversion\":1.0,\"type\":\"a\"}",
        "{\"specversion\":\"\",\"type\":\"a\"}", "{\"name\":\"a\",\"specversion\":null}"};
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        struct intake in = strict(&out, INTAKE_DOCUMENT);
        assert_true(intake_read(&in, span_of(bad[i])));
        assert_int_equal(in.bad, 1);
        assert_string_equal(seen.field, "specversion");
    }
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    in.is_cloud = true;
    assert_true(intake_read(&in, SPAN("{\"name\":\"a\"}")));
    assert_string_equal(seen.field, "specversion");
    assert_true(intake_read(&in, SPAN("{\"specversion\":\"1.0\",\"type\":\"a\","
                                      "\"data_base64\":\"AA==\"}")));
    assert_string_equal(seen.field, "data_base64");
    in = (struct intake){.out = &out}; /* a broker may have old ones */
    assert_true(intake_read(&in, SPAN("{\"specversion\":\"0.3\",\"type\":\"a\"}")));
    assert_int_equal(in.events, 1);
    buf_fini(&out);
}

static void a_cloud_event_may_come_in_parts(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 3 * sizeof(struct ev_custom));
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    struct intake_parts p = {"1.0", "Shop.Order", "", "", INTAKE_DATA_JSON, SPAN("{\"value\":3}")};
    assert_true(intake_read_parts(&in, &p));
    p = (struct intake_parts){"1.0", "shop.note", "", "", INTAKE_DATA_TEXT, SPAN("hello")};
    assert_true(intake_read_parts(&in, &p));
    p = (struct intake_parts){"1.0", "shop.bell", "", "", INTAKE_NO_DATA, SPAN("")};
    assert_true(intake_read_parts(&in, &p));
    assert_int_equal(in.events, 3);
    assert_true(at(&out, 0)->value == 3);
    assert_string_equal(at(&out, 1)->text, "hello");
    assert_string_equal(at(&out, 2)->name, "shop.bell");
    assert_false(intake_read_parts(&in, &p)); /* no room */
    assert_int_equal(in.events, 3);
    static const struct {
        struct intake_parts p;
        const char *field;
    } bad[] = {{{"0.3", "a", "", "", INTAKE_NO_DATA, {"", 0}}, "specversion"},
               {{"1.0", "", "", "", INTAKE_NO_DATA, {"", 0}}, "type"},
               {{"1.0", "\xff", "", "", INTAKE_NO_DATA, {"", 0}}, "type"},
               {{"1.0", "a", "", "", INTAKE_DATA_JSON, {"{", 1}}, ""},
               {{"1.0", "a", "", "", INTAKE_DATA_TEXT, {"\xff", 1}}, "data"}};
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        in = strict(&out, INTAKE_DOCUMENT);
        assert_true(intake_read_parts(&in, &bad[i].p));
        assert_int_equal(in.bad, 1);
        assert_string_equal(seen.field, bad[i].field);
    }
    buf_fini(&out);
}

static uint32_t repeated_of(const char *sender, const char *text, struct repeats *known,
                            bool is_taken)
{
    struct buf out, names;
    buf_init(&out, MIB);
    buf_init(&names, MIB);
    struct intake in = strict(&out, INTAKE_ANY);
    in.repeats = known;
    in.sender = span_of(sender);
    in.names = &names;
    assert_true(intake_read(&in, span_of(text)));
    assert_int_equal(in.events * sizeof(struct ev_custom), out.len);
    for (size_t i = 0; is_taken && i < names.len; i += sizeof(uint64_t)) {
        uint64_t name;
        memcpy(&name, names.at + i, sizeof name);
        repeats_add(known, name);
    }
    buf_fini(&out);
    buf_fini(&names);
    return in.repeated;
}

static uint32_t repeated(const char *text, struct repeats *known, bool is_taken)
{
    return repeated_of("", text, known, is_taken);
}

#define CLOUD(source, id)                                                                          \
    "{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"" source "\",\"id\":\"" id "\"}"

static void a_cloud_event_that_was_taken_is_left_out_when_it_comes_again(void **state)
{
    (void)state;
    static const uint64_t key[2] = {7, 8};
    struct repeats *known = repeats_new(key);
    assert_non_null(known);
    assert_int_equal(repeated(CLOUD("/s", "1"), known, false), 0); /* refused behind it: 429 */
    assert_int_equal(repeated(CLOUD("/s", "1"), known, true), 0);
    assert_int_equal(repeated(CLOUD("/s", "1"), known, true), 1);
    assert_int_equal(repeated(CLOUD("/s", "2"), known, true), 0);
    assert_int_equal(repeated(CLOUD("/t", "1"), known, true), 0);
    assert_int_equal(repeated(CLOUD("/s1", ""), known, true), 0); /* an id must say something */
    assert_int_equal(repeated(CLOUD("/s1", ""), known, true), 0);
    assert_int_equal(repeated("[" CLOUD("/u", "1") "," CLOUD("/u", "1") "]", known, true), 1);
    assert_int_equal(repeated("{\"name\":\"a\",\"source\":\"/s\",\"id\":\"1\"}", known, true), 0);
    assert_int_equal(repeated("{\"specversion\":\"1.0\",\"type\":\"a\",\"id\":\"1\"}", known, true),
                     0);
    repeats_free(known);
}

static void nobody_leaves_out_the_events_of_another_sender(void **state)
{
    (void)state;
    static const uint64_t key[2] = {7, 8};
    struct repeats *known = repeats_new(key);
    assert_non_null(known);
    assert_int_equal(repeated_of("shop-token", CLOUD("/s", "1"), known, true), 0);
    assert_int_equal(repeated_of("till-token", CLOUD("/s", "1"), known, true), 0);
    assert_int_equal(repeated_of("shop-token", CLOUD("/s", "1"), known, true), 1);
    assert_int_equal(repeated_of("till-token", CLOUD("/s", "1"), known, true), 1);
    assert_int_equal(repeated_of("", CLOUD("/s", "1"), known, true), 0);
    assert_true(repeats_name(known, SPAN("a"), SPAN("bc"), SPAN("d")) !=
                repeats_name(known, SPAN("ab"), SPAN("c"), SPAN("d")));
    assert_true(repeats_name(known, SPAN("a"), SPAN("b"), SPAN("c")) !=
                repeats_name(known, SPAN("b"), SPAN("a"), SPAN("c")));
    repeats_free(known);
}

static void the_newest_names_are_known_and_no_others(void **state)
{
    (void)state;
    static const uint64_t key[2] = {1, 2};
    struct repeats *known = repeats_new(key);
    assert_non_null(known);
    for (uint64_t round = 0; round < 3; round++)
        for (uint64_t i = 0; i < REPEATS_MAX; i++) {
            uint64_t name = (round * REPEATS_MAX + i) * UINT64_C(0x9e3779b97f4a7c15);
            uint64_t old = name - REPEATS_MAX * UINT64_C(0x9e3779b97f4a7c15);
            assert_int_equal(repeats_knows(known, old), round > 0);
            repeats_add(known, name);
            repeats_add(known, name);
            assert_true(repeats_knows(known, name));
            assert_false(repeats_knows(known, old));
        }
    /* All in one bucket: it is slow, and right. */
    for (uint64_t i = 0; i < 1000; i++)
        repeats_add(known, i * REPEATS_MAX);
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(repeats_knows(known, i * REPEATS_MAX));
    assert_true(repeats_name(known, SPAN(""), SPAN("a"), SPAN("bc")) !=
                repeats_name(known, SPAN(""), SPAN("ab"), SPAN("c")));
    repeats_free(known);
}

static void a_broker_s_message_is_folded_instead_of_refused(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    struct intake in = {.name = "Topic A", .out = &out};
    assert_true(intake_read(&in, SPAN("{\"value\":1}")));
    assert_true(intake_read(&in, SPAN("{\"name\":\"X y\"}")));
    assert_int_equal(in.events, 2);
    assert_string_equal(at(&out, 0)->name, "topic_a");
    assert_string_equal(at(&out, 1)->name, "x_y");
    buf_fini(&out);
}

static void an_integer_beyond_64_bits_is_a_value_and_never_rounded_in_a_text(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    assert_true(intake_read(&in, SPAN("{\"name\":\"a\",\"value\":18446744073709551616}")));
    assert_int_equal(in.events, 1);
    assert_true(at(&out, 0)->value == 18446744073709551616.0);
    in = strict(&out, INTAKE_LINES);
    assert_true(
        intake_read(&in, SPAN("{\"name\":\"a\",\"value\":7,\"id\":[1,9999999999999999999]}\n"
                              "{\"name\":\"b\",\"id\":9223372036854775807}\n")));
    assert_int_equal(in.events, 1); /* its text holds it whole */
    assert_string_equal(at(&out, 1)->text, "{\"id\":9223372036854775807}");
    assert_int_equal(in.bad, 1);
    assert_int_equal(seen.line, 1);
    assert_string_equal(seen.field, "id");
    in = (struct intake){.out = &out}; /* a broker's message is kept, rounded */
    assert_true(intake_read(&in, SPAN("{\"name\":\"a\",\"id\":9999999999999999999}")));
    assert_int_equal(in.events, 1);
    in = strict(&out, INTAKE_DOCUMENT);
    assert_true(intake_read(&in, SPAN("{\"name\":\"a\",\"value\":-0}")));
    assert_int_equal(signbit(at(&out, 3)->value), 0);
    in = strict(&out, INTAKE_DOCUMENT);
    assert_true(intake_read(&in, SPAN("{\"name\":\"a\",\"value\":1e999}")));
    assert_int_equal(in.bad, 1);
    buf_fini(&out);
}

static void without_room_nothing_is_taken(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 2 * sizeof(struct ev_custom));
    struct intake in = strict(&out, INTAKE_LINES);
    assert_false(intake_read(&in, SPAN("{\"name\":\"a\"}\n{\"name\":\"b\"}\n{\"name\":\"c\"}")));
    assert_int_equal(out.len, 0);
    assert_int_equal(in.events, 0);
    buf_fini(&out);
}

static void names_of_foldback_s_own_are_refused(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MIB);
    struct intake in = strict(&out, INTAKE_DOCUMENT);
    assert_true(intake_read(&in, SPAN("{\"name\":\"foldback.taken\",\"value\":1}")));
    assert_int_equal(in.events, 0);
    assert_int_equal(seen.fault, INTAKE_RESERVED);
    assert_string_equal(seen.field, "name");
    in = (struct intake){.out = &out, .on_bad = note, .name = "topic"};
    assert_true(intake_read(&in, SPAN("{\"event\":\"FoldBack.Connector.Gap\"}"))); /* folded */
    assert_true(intake_read(&in, SPAN("{\"specversion\":\"1.0\",\"type\":\"foldback.taken\"}")));
    assert_true(intake_read(&in, SPAN("{\"specversion\":\"1.0\",\"type\":\"foldback.taken.v1\"}")));
    assert_int_equal(in.events, 0);
    assert_int_equal(in.bad, 3);
    /* what another foldback says */
    assert_true(
        intake_read(&in, SPAN("{\"specversion\":\"1.0\",\"type\":\"foldback.request.v1\"}")));
    assert_true(intake_read(&in, SPAN("{\"name\":\"foldbackx\"}")));
    assert_int_equal(in.events, 2);
    assert_string_equal(at(&out, 0)->name, "foldback.request.v1");
    in.name = "foldback.orders"; /* a topic of that name: its events come, told apart */
    assert_true(intake_read(&in, SPAN("{\"value\":1}")));
    assert_int_equal(in.events, 3);
    assert_string_equal(at(&out, 2)->name, "foldback_orders");
    in.is_own = true;
    assert_true(intake_read(&in, SPAN("{\"name\":\"foldback.connector.gap\"}")));
    assert_string_equal(at(&out, 3)->name, "foldback.connector.gap");
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_and_lines_become_events),
        cmocka_unit_test(a_cloud_event_has_its_type_as_name),
        cmocka_unit_test(what_is_wrong_is_named_with_line_element_and_field),
        cmocka_unit_test(a_cloud_event_is_of_version_1_0),
        cmocka_unit_test(a_cloud_event_may_come_in_parts),
        cmocka_unit_test(a_cloud_event_that_was_taken_is_left_out_when_it_comes_again),
        cmocka_unit_test(nobody_leaves_out_the_events_of_another_sender),
        cmocka_unit_test(the_newest_names_are_known_and_no_others),
        cmocka_unit_test(a_broker_s_message_is_folded_instead_of_refused),
        cmocka_unit_test(an_integer_beyond_64_bits_is_a_value_and_never_rounded_in_a_text),
        cmocka_unit_test(without_room_nothing_is_taken),
        cmocka_unit_test(names_of_foldback_s_own_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
