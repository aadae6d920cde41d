/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of event/ and what is made of them. */
#include "event/event.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

static void each_type_has_its_size_its_fields_and_a_meaning(void **state)
{
    (void)state;
    size_t seen = 0;
    for (int type = 0; type < 256; type++) {
        const struct ev_type_row *row = ev_type_row((uint8_t)type);
        assert_non_null(row);
        if (!row->name)
            continue;
        seen++;
        size_t end = sizeof(struct ev_head);
        assert_true(row->cells >= 1);
        assert_true(row->cells <= EV_CELLS_MAX);
        assert_true(strlen(row->what) > 5);
        assert_int_equal(ev_type_by_name(span_of(row->name)), type);
        for (uint8_t i = 0; i < row->field_count; i++) {
            const struct ev_field_row *f = &row->fields[i];
            assert_int_equal(f->offset,
                             end); /* no padding: each byte of a record means something */
            assert_true(strlen(f->what) > 1);
            assert_non_null(f->unit);
            end += f->bytes;
        }
        assert_int_equal(end, (size_t)row->cells * EV_CELL_BYTES);
    }
    assert_true(seen >= 18);
    assert_int_equal(ev_type_by_name(SPAN("nothing")), 0);
}

static void each_reason_has_one_number_and_a_sentence(void **state)
{
    (void)state;
    size_t seen = 0;
    for (uint16_t id = 0; id < 2000; id++) {
        const struct ev_reason_row *row = ev_reason_row(id);
        if (!row->name)
            continue;
        seen++;
        assert_int_equal(row->id, id);
        assert_int_equal(ev_reason_by_name(span_of(row->name)), id);
        size_t len = strlen(row->sentence);
        assert_true(len > 5);
        assert_int_equal(row->sentence[len - 1], '.');
        assert_true(row->status == 0 || row->kind == REASON_KIND_REQUEST);
        assert_true(row->status == 0 || (row->status >= 100 && row->status < 600));
    }
    assert_true(seen > 80);
    assert_int_equal(ev_reason_by_name(SPAN("no such reason")), 0);
    assert_int_equal(ev_reason_by_name(SPAN("shed_queue_full")), REASON_SHED_QUEUE_FULL);
}

static void shed_reasons_are_exactly_those_named_so(void **state)
{
    (void)state;
    for (uint16_t id = 0; id < REASON_END; id++) {
        const struct ev_reason_row *row = ev_reason_row(id);
        if (row->name && row->kind == REASON_KIND_REQUEST)
            assert_true(ev_reason_is_shed(id) == (strncasecmp(row->name, "shed_", 5) == 0));
        else
            assert_false(ev_reason_is_shed(id));
    }
}

static void words_lead_back_to_their_numbers(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        assert_int_equal(ev_class_by_name(span_of(ev_class_name(i))), i);
    for (uint8_t i = 0; i <= EV_MODE_ACT; i++)
        assert_int_equal(ev_mode_by_name(span_of(ev_mode_name(i))), i);
    assert_int_equal(ev_class_by_name(SPAN("best_effort")), EV_CLASS_BEST_EFFORT);
    assert_int_equal(ev_class_by_name(SPAN("high")), -1);
    assert_int_equal(ev_mode_by_name(SPAN("")), -1);
    assert_string_equal(ev_class_name(200), "?");
    assert_string_equal(ev_health_name(EV_HEALTH_GONE), "gone");
    assert_string_equal(ev_health_name(EV_HEALTH_GONE + 1), "?");
    assert_string_equal(ev_verb_name(EV_VERB_UNDRAIN), "undrain");
    assert_string_equal(ev_kind_name(EV_KIND_ENDPOINT), "endpoint");
    assert_string_equal(ev_outcome_name(EV_OUTCOME_WORSE), "worse");
}

static void only_records_that_agree_with_their_row_are_valid(void **state)
{
    (void)state;
    struct ev_request r = EV_INIT(REQUEST, request, 5);
    assert_true(ev_is_valid(&r.head));
    assert_true(r.head.time_us == 5);
    r.head.cells = 1;
    assert_false(ev_is_valid(&r.head));
    r.head.cells = 2;
    r.head.version = 2;
    assert_false(ev_is_valid(&r.head));
    r.head.version = 1;
    r.head.type = 0;
    assert_false(ev_is_valid(&r.head));
    r.head.type = 255;
    assert_false(ev_is_valid(&r.head));
}

static json_t *as_json(const struct ev_head *ev, bool redact)
{
    struct buf b;
    struct json j;
    buf_init(&b, 64 * KIB);
    json_init(&j, &b);
    ev_to_json(&j, ev, 77, redact);
    json_t *read = json_loadb(b.at, b.len, JSON_REJECT_DUPLICATES, NULL);
    if (!read)
        print_error("%s\n", buf_str(&b));
    buf_fini(&b);
    assert_non_null(read);
    return read;
}

static void an_event_reads_as_json_with_its_words(void **state)
{
    (void)state;
    struct ev_request r = EV_INIT(REQUEST, request, 123456);
    r.reason = REASON_SHED_PRIORITY;
    r.class = EV_CLASS_DEGRADED;
    r.total_us = 4000000000u;
    r.request_id = UINT64_C(1) << 53;
    json_t *read = as_json(&r.head, false);
    assert_string_equal(json_string_value(json_object_get(read, "type")), "request");
    assert_int_equal(json_integer_value(json_object_get(read, "offset")), 77);
    assert_int_equal(json_integer_value(json_object_get(read, "total_us")), 4000000000);
    assert_int_equal(json_integer_value(json_object_get(read, "request_id")), INT64_C(1) << 53);
    assert_string_equal(json_string_value(json_object_get(read, "class_name")), "degraded");
    assert_int_equal(
        strcasecmp(json_string_value(json_object_get(read, "reason_name")), "shed_priority"), 0);
    json_decref(read);
}

/* Every type, all bytes set: text without an end, numbers at their largest, personal fields. */
static void any_record_reads_as_json_and_redaction_hides_what_is_personal(void **state)
{
    (void)state;
    size_t personal = 0;
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        const struct ev_type_row *row = ev_type_row(type);
        union ev_any any;
        if (!row->name)
            continue;
        memset(&any, 'Q', sizeof any);
        any.head = (struct ev_head){.type = type, .cells = row->cells, .version = 1};
        json_t *open = as_json(&any.head, false), *redacted = as_json(&any.head, true);
        for (uint8_t i = 0; i < row->field_count; i++) {
            const struct ev_field_row *f = &row->fields[i];
            if (strncmp(f->name, "reserved", 8) == 0)
                continue;
            assert_non_null(json_object_get(open, f->name));
            if (f->type == EV_FT_text)
                assert_int_equal(json_string_length(json_object_get(open, f->name)), f->bytes);
            if (f->privacy != EV_PERSONAL)
                continue;
            personal++;
            assert_string_equal(json_string_value(json_object_get(redacted, f->name)), "-");
        }
        json_decref(open);
        json_decref(redacted);
    }
    assert_true(personal > 0);
}

static void each_type_prints_a_schema_with_all_its_fields(void **state)
{
    (void)state;
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        const struct ev_type_row *row = ev_type_row(type);
        struct buf b;
        struct json j;
        if (!row->name)
            continue;
        buf_init(&b, 64 * KIB);
        json_init(&j, &b);
        ev_schema(&j, type);
        json_t *schema = json_loadb(b.at, b.len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(schema);
        json_t *properties = json_object_get(schema, "properties");
        for (uint8_t i = 0; i < row->field_count; i++)
            if (strncmp(row->fields[i].name, "reserved", 8) != 0)
                assert_non_null(json_object_get(properties, row->fields[i].name));
        json_decref(schema);
        buf_fini(&b);
    }
}

static void a_redacted_record_has_no_personal_field_and_all_others(void **state)
{
    (void)state;
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        const struct ev_type_row *row = ev_type_row(type);
        union ev_any was, ev;
        if (!row->name)
            continue;
        memset(&was, 'x', sizeof was);
        was.head.type = type;
        was.head.cells = row->cells;
        was.head.version = 1;
        ev = was;
        ev_redact(&ev.head);
        assert_true(ev_is_valid(&ev.head));
        for (uint8_t i = 0; i < row->field_count; i++) {
            const struct ev_field_row *f = &row->fields[i];
            const unsigned char *at = ev.bytes + f->offset;
            if (f->privacy != EV_PERSONAL) {
                assert_memory_equal(at, was.bytes + f->offset, f->bytes);
                continue;
            }
            assert_int_equal(f->type, EV_FT_text);
            assert_int_equal(at[0], '-');
            for (uint16_t k = 1; k < f->bytes; k++)
                assert_int_equal(at[k], 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_has_its_size_its_fields_and_a_meaning),
        cmocka_unit_test(each_reason_has_one_number_and_a_sentence),
        cmocka_unit_test(shed_reasons_are_exactly_those_named_so),
        cmocka_unit_test(words_lead_back_to_their_numbers),
        cmocka_unit_test(only_records_that_agree_with_their_row_are_valid),
        cmocka_unit_test(an_event_reads_as_json_with_its_words),
        cmocka_unit_test(any_record_reads_as_json_and_redaction_hides_what_is_personal),
        cmocka_unit_test(each_type_prints_a_schema_with_all_its_fields),
        cmocka_unit_test(a_redacted_record_has_no_personal_field_and_all_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
