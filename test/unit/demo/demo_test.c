/* SPDX-License-Identifier: Apache-2.0 */
/* The demo's arithmetic: what it counts, what it asks for when, and the frames that its editors
 * speak.  The processes and sockets around it are tested in test/e2e/test_55_demo.py. */
#include "demo/result.h"
#include "demo/scenario.h"
#include "demo/websocket.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- result ---- */

struct stage {
    struct load_board *board;
    struct result result;
};

static struct stage stage_new(void)
{
    struct stage s = {.board = load_board_new()};
    assert_non_null(s.board);
    return s;
}

static void add(struct stage *s, uint32_t at_ms, uint8_t class, enum load_outcome outcome,
                uint32_t latency_us)
{
    uint32_t i = s->board->count;
    s->board->sample[i] = (struct load_sample){
        .at_ms = at_ms, .latency_us = latency_us, .class = class, .outcome = (uint8_t)outcome};
    atomic_store(&s->board->count, i + 1);
}

static void quantiles_are_exact_values_of_good_answers(void **state)
{
    (void)state;
    struct stage s = stage_new();
    /* 1..1000 ms in an order that is not sorted: 7 and 1000 have no common factor */
    for (uint32_t i = 0; i < 1000; i++)
        add(&s, 0, EV_CLASS_DEFAULT, LOAD_OK, (i * 7 % 1000 + 1) * 1000);
    for (uint32_t i = 0; i < 500; i++) /* failures are no latencies */
        add(&s, 0, EV_CLASS_DEFAULT, LOAD_TIMEOUT, UINT32_MAX);
    result_compute(s.board, 0, 1, &s.result);
    const struct result_class *c = &s.result.class[EV_CLASS_DEFAULT];
    assert_true(fabs(c->p50_ms - 501) < 1.01);
    assert_true(fabs(c->p99_ms - 991) < 1.01);
    assert_true(fabs(c->p999_ms - 1000) < 1.01);
    assert_int_equal(c->offered, 1500);
    assert_int_equal(c->timeouts, 500);
}

static void in_time_ends_with_the_deadline(void **state)
{
    (void)state;
    struct stage s = stage_new();
    add(&s, 0, EV_CLASS_CRITICAL, LOAD_OK, DEMO_DEADLINE_US);
    add(&s, 0, EV_CLASS_CRITICAL, LOAD_OK, DEMO_DEADLINE_US + 1);
    add(&s, 0, EV_CLASS_CRITICAL, LOAD_SHED, 100); /* fast, and of no use to anybody */
    add(&s, 0, EV_CLASS_CRITICAL, LOAD_ERROR, 100);
    result_compute(s.board, 0, 1, &s.result);
    const struct result_class *c = &s.result.class[EV_CLASS_CRITICAL];
    assert_int_equal(c->offered, 4);
    assert_int_equal(c->ok, 2);
    assert_int_equal(c->in_time, 1);
    assert_int_equal(c->shed, 1);
    assert_int_equal(c->errors, 1);
    assert_true(fabs(result_in_time_pct(c) - 25) < 1e-9);
}

static void only_the_asked_time_counts(void **state)
{
    (void)state;
    struct stage s = stage_new();
    for (uint32_t ms = 0; ms < 100; ms++)
        add(&s, ms, EV_CLASS_DEGRADED, LOAD_OK, 1000);
    result_compute(s.board, 10, 30, &s.result);
    assert_int_equal(s.result.class[EV_CLASS_DEGRADED].offered, 20);
    assert_int_equal(s.result.all.offered, 20);
    result_compute(s.board, 100, 200, &s.result);
    assert_int_equal(s.result.all.offered, 0);
}

static void classes_add_up_to_all(void **state)
{
    (void)state;
    struct stage s = stage_new();
    for (uint32_t i = 0; i < 400; i++)
        add(&s, i, (uint8_t)(i % EV_CLASS_COUNT), (enum load_outcome)(i % 3), i * 3000);
    result_compute(s.board, 0, 1000, &s.result);
    uint64_t offered = 0, ok = 0, in_time = 0;
    for (int i = 0; i < EV_CLASS_COUNT; i++) {
        offered += s.result.class[i].offered;
        ok += s.result.class[i].ok;
        in_time += s.result.class[i].in_time;
    }
    assert_int_equal(offered, s.result.all.offered);
    assert_int_equal(ok, s.result.all.ok);
    assert_int_equal(in_time, s.result.all.in_time);
}

static void an_empty_lane_is_zero_and_valid_json(void **state)
{
    (void)state;
    struct stage s = stage_new();
    result_compute(s.board, 0, UINT32_MAX, &s.result);
    assert_true(result_in_time_pct(&s.result.all) == 0);
    struct buf out;
    struct json j;
    buf_init(&out, 4096);
    json_init(&j, &out);
    result_to_json(&s.result, &j);
    json_t *root = json_loads(buf_str(&out), 0, NULL);
    assert_non_null(root);
    json_t *classes = json_object_get(root, "classes");
    assert_int_equal(json_object_size(classes), EV_CLASS_COUNT);
    static const char *const keys[] = {"offered", "in_time_pct", "p50_ms", "p99_ms", "p999_ms"};
    for (size_t i = 0; i < FB_COUNT(keys); i++)
        assert_true(json_is_number(json_object_get(json_object_get(classes, "critical"), keys[i])));
    assert_true(json_is_number(json_object_get(root, "goodput_pct")));
    assert_true(json_is_number(json_object_get(root, "errors")));
    json_decref(root);
    buf_fini(&out);
}

/* ---- scenario ---- */

static void each_scenario_is_found_by_its_name(void **state)
{
    (void)state;
    static const char *const wanted[] = {"flash-sale", "live-sports", "collab"};
    for (size_t i = 0; i < FB_COUNT(wanted); i++) {
        const struct demo_scenario *sc = demo_scenario_find(wanted[i]);
        assert_non_null(sc);
        assert_string_equal(sc->name, wanted[i]);
    }
    size_t count = 0;
    while (demo_scenario_name(count))
        count++;
    assert_int_equal(count, FB_COUNT(wanted));
    assert_null(demo_scenario_find("flash"));
    assert_null(demo_scenario_find(""));
}

static void ramps_are_straight_lines_between_steps(void **state)
{
    (void)state;
    for (size_t n = 0; demo_scenario_name(n); n++) {
        const struct demo_scenario *sc = demo_scenario_find(demo_scenario_name(n));
        assert_true(sc->step_count > 0 && sc->step_count <= DEMO_STEPS_MAX);
        assert_true(sc->steps[0].at == 0);
        for (size_t i = 0; i < sc->step_count; i++) {
            const struct demo_step *a = &sc->steps[i];
            double here = sc->base_per_s * a->multiple;
            assert_true(fabs(demo_rate(sc, a->at) - here) < 1e-6);
            if (i + 1 == sc->step_count) {
                assert_true(fabs(demo_rate(sc, 1) - here) < 1e-6);
                break;
            }
            const struct demo_step *b = &sc->steps[i + 1];
            assert_true(a->at < b->at);
            double there = sc->base_per_s * b->multiple;
            double middle = demo_rate(sc, (a->at + b->at) / 2);
            assert_true(fabs(middle - (b->is_ramp ? (here + there) / 2 : here)) < 1e-6);
        }
    }
}

static void the_flash_sale_reaches_six_times_its_base(void **state)
{
    (void)state;
    const struct demo_scenario *sc = demo_scenario_find("flash-sale");
    double most = 0;
    for (int i = 0; i <= 1000; i++)
        most = fmax(most, demo_rate(sc, i / 1000.0));
    assert_true(fabs(most / sc->base_per_s - 6) < 0.01);
    assert_true(fabs(demo_rate(sc, 0) / sc->base_per_s - 1) < 0.01);
}

static void faults_lie_inside_and_are_said(void **state)
{
    (void)state;
    for (size_t n = 0; demo_scenario_name(n); n++) {
        const struct demo_scenario *sc = demo_scenario_find(demo_scenario_name(n));
        assert_true(sc->fault_count <= DEMO_FAULTS_MAX);
        for (size_t i = 0; i < sc->fault_count; i++) {
            const struct demo_fault *f = &sc->faults[i];
            assert_true(0 <= f->at && f->at < f->until && f->until <= 1);
            assert_true(f->endpoint < DEMO_ENDPOINTS);
            assert_true(strlen(f->says) > 0);
        }
        for (int i = 0; i < 100; i++)
            assert_true(demo_says(sc, i / 100.0) && demo_says(sc, i / 100.0)[0]);
    }
}

static void shares_of_the_classes_are_the_whole(void **state)
{
    (void)state;
    for (size_t n = 0; demo_scenario_name(n); n++) {
        const struct demo_scenario *sc = demo_scenario_find(demo_scenario_name(n));
        double sum = 0;
        for (int i = 0; i < EV_CLASS_COUNT; i++)
            sum += sc->mix[i].share;
        assert_true(fabs(sum - 1) < 1e-9);
    }
}

/* ---- websocket ---- */

static void the_key_of_the_standard_gives_its_answer(void **state)
{
    (void)state;
    char out[WS_ACCEPT_BYTES];
    ws_accept_key(SPAN("dGhlIHNhbXBsZSBub25jZQ=="), out); /* RFC 6455 section 1.3 */
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void a_long_key_is_cut_and_nothing_overflows(void **state)
{
    (void)state;
    char key[500], out[WS_ACCEPT_BYTES];
    memset(key, 'A', sizeof key);
    ws_accept_key((struct span){key, sizeof key}, out);
    assert_int_equal(strlen(out), 28);
}

static void frames_come_back_as_written(void **state)
{
    (void)state;
    static const uint32_t masks[] = {0, 0x12345678, 0xffffffff};
    for (size_t m = 0; m < FB_COUNT(masks); m++) {
        for (uint32_t len = 0; len <= WS_MESSAGE_MAX; len++) {
            char text[WS_MESSAGE_MAX], frame[WS_HEAD_MAX + WS_MESSAGE_MAX], got[WS_MESSAGE_MAX];
            uint32_t bytes = 0;
            for (uint32_t i = 0; i < len; i++)
                text[i] = (char)(i * 37 + len);
            size_t whole = ws_write(frame, (struct span){text, len}, masks[m]);
            assert_int_equal(whole, len + (masks[m] ? 6 : 2));
            for (size_t cut = 0; cut < whole; cut++)
                assert_int_equal(ws_read((struct span){frame, cut}, got, &bytes), 0);
            assert_int_equal(ws_read((struct span){frame, whole}, got, &bytes), (int)whole);
            assert_int_equal(bytes, len);
            assert_memory_equal(got, text, len);
        }
    }
}

static void frames_that_are_no_short_message_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        unsigned char head[2];
    } rows[] = {
        {"a close", {0x88, 0x00}},          {"a ping", {0x89, 0x00}},
        {"a first fragment", {0x01, 0x03}}, {"a continuation", {0x80, 0x03}},
        {"a 16-bit length", {0x81, 126}},   {"a 64-bit length", {0x82, 127}},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        char in[200] = {0}, got[WS_MESSAGE_MAX];
        uint32_t bytes = 0;
        memcpy(in, rows[i].head, 2);
        if (ws_read((struct span){in, sizeof in}, got, &bytes) != -1)
            fail_msg("accepted: %s", rows[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_exact_values_of_good_answers),
        cmocka_unit_test(in_time_ends_with_the_deadline),
        cmocka_unit_test(only_the_asked_time_counts),
        cmocka_unit_test(classes_add_up_to_all),
        cmocka_unit_test(an_empty_lane_is_zero_and_valid_json),
        cmocka_unit_test(each_scenario_is_found_by_its_name),
        cmocka_unit_test(ramps_are_straight_lines_between_steps),
        cmocka_unit_test(the_flash_sale_reaches_six_times_its_base),
        cmocka_unit_test(faults_lie_inside_and_are_said),
        cmocka_unit_test(shares_of_the_classes_are_the_whole),
        cmocka_unit_test(the_key_of_the_standard_gives_its_answer),
        cmocka_unit_test(a_long_key_is_cut_and_nothing_overflows),
        cmocka_unit_test(frames_come_back_as_written),
        cmocka_unit_test(frames_that_are_no_short_message_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
