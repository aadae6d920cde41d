/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "sim/sim.h"

static struct sim_overrides o;
static struct sim_result r;
static struct fb_err err;

static int setup(void **state)
{
    (void)state;
    sim_overrides_init(&o);
    return 0;
}

static void run(const struct sim_scenario *sc, uint64_t seed)
{
    if (sim_run(sc, seed, &o, &r, &err) != FB_OK)
        fail_msg("%s", err.text);
}

/* One endpoint, one worker, nothing of the gate but its counting. */
static struct sim_scenario plain(double load, double seconds)
{
    return (struct sim_scenario){.name = "plain",
                                 .what = "one worker",
                                 .groups = {{.count = 1, .workers = 1}},
                                 .service = SIM_EXPONENTIAL,
                                 .service_ms = 10,
                                 .phases = {{seconds, load}},
                                 .measure_s = 1,
                                 .in_time_ms = 10000,
                                 .is_limit_off = true,
                                 .is_eject_off = true,
                                 .retry_pct = -1};
}

static void single_queue_agrees_with_theory(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.5, 2000);
    run(&sc, 1);
    /* M/M/1: the time in the system is exponential with mean 1 / (mu - lambda) = 20 ms. */
    assert_true(fabs(r.p50_ms - 20 * log(2)) < 0.4);
    assert_true(fabs(r.p99_ms - 20 * log(100)) < 4);
    assert_true(fabs((double)r.all.offered / (50.0 * 1999) - 1) < 0.02);
    assert_true(sim_good_pct(&r.all) > 99.99);
}

static void four_workers_agree_with_erlang(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.8, 2000);
    sc.groups[0].workers = 4;
    run(&sc, 2);
    /* Erlang C(4, 3.2) = 0.5964; P(T > t) with mu = 0.1, 4 mu - lambda = 0.08 per ms has its median
     * at 9.8 ms and P(T > 65 ms) = 1 % (solved numerically). */
    double c = 0.5964;
    double t = r.p99_ms;
    double over = exp(-0.1 * t) + c * 0.1 / (0.1 - 0.08) * (exp(-0.08 * t) - exp(-0.1 * t));
    assert_true(over > 0.008);
    assert_true(over < 0.012);
}

static void one_seed_is_one_outcome(void **state)
{
    (void)state;
    const struct sim_scenario *sc;
    o.time_factor = 0.1;
    for (size_t i = 0; (sc = sim_scenario_at(i)); i++) {
        run(sc, 42);
        uint64_t hash = r.hash;
        uint64_t events = r.events;
        assert_true(events > 100);
        run(sc, 42);
        assert_int_equal(r.hash, hash);
        assert_int_equal(r.events, events);
        run(sc, 43);
        assert_int_not_equal(r.hash, hash);
        assert_ptr_equal(sim_scenario_find(sc->name), sc);
    }
    assert_null(sim_scenario_find("no such"));
}

static void every_request_ends_in_exactly_one_way(void **state)
{
    (void)state;
    o.time_factor = 0.2;
    const struct sim_scenario *sc;
    for (size_t i = 0; (sc = sim_scenario_at(i)); i++) {
        run(sc, 7);
        struct sim_count *c = &r.all;
        assert_int_equal(c->offered, c->good + c->late + c->failed + c->shed + c->abandoned);
        uint64_t sum = 0;
        for (int k = 0; k < EV_CLASS_COUNT; k++)
            sum += r.class[k].offered;
        assert_int_equal(sum, c->offered);
    }
}

static void stall_delays_and_loses_nothing(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.2, 20);
    sc.service = SIM_CONSTANT;
    sc.changes[0] = (struct sim_change){10, SIM_STALL, 0, 1, 2};
    run(&sc, 1);
    assert_true(sim_good_pct(&r.all) > 99.99);
    assert_true(r.p999_ms > 1500);
    assert_true(r.p50_ms < 15);
}

static void death_cuts_and_refuses(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.5, 20);
    sc.changes[0] = (struct sim_change){5, SIM_DEAD, 0, 1, 1};
    sc.changes[1] = (struct sim_change){10, SIM_DEAD, 0, 1, 0};
    run(&sc, 1);
    double failed = (double)r.all.failed / (double)r.all.offered;
    assert_true(fabs(failed - 5.0 / 19) < 0.05);
    assert_int_equal(r.by_second[7].good, 0);
    assert_true(r.by_second[15].good > 20);
}

static void impatient_clients_leave_and_work_is_wasted(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(1.5, 20);
    sc.patience_ms = 100;
    run(&sc, 1);
    assert_true(r.all.abandoned > r.all.good);
    assert_true(r.work_wasted_pct > 50);
}

static void retries_of_clients_count_as_one_request(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.2, 20);
    sc.changes[0] = (struct sim_change){0.001, SIM_FAIL_FAST, 0, 1, 0.5};
    run(&sc, 1);
    assert_true(sim_good_pct(&r.all) < 60);
    uint64_t offered = r.all.offered;
    sc.client_retries = 5;
    run(&sc, 1);
    assert_true(sim_good_pct(&r.all) > 95); /* 1 - 1/64 */
    assert_true(fabs((double)r.all.offered / (double)offered - 1) < 0.1);
}

static void trace_sets_the_arrivals(void **state)
{
    (void)state;
    struct sim_scenario sc = plain(0.5, 5);
    static const char csv[] = "seconds,requests\n10,100\n# quiet\n5, 0\n10,500\n";
    assert_int_equal(sim_override_trace(&o, SPAN(csv), &err), FB_OK);
    assert_int_equal(o.trace_rows, 3);
    run(&sc, 1);
    assert_int_equal(r.seconds, 25);
    uint32_t part[3] = {0};
    for (int s = 0; s < 25; s++)
        part[s < 10 ? 0 : s < 15 ? 1 : 2] += r.by_second[s].offered;
    assert_true(part[0] > 70 && part[0] < 130);
    assert_int_equal(part[1], 0);
    assert_true(part[2] > 430 && part[2] < 570);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *says;
    } rows[] = {{"balance", "magic", "magic"},
                {"limit", "0", "limit must be"},
                {"limit", "many", "many"},
                {"eject", "maybe", "on or off"},
                {"retry_pct", "101", "0 to 100"},
                {"retry_pct", "1x", "1x"},
                {"gateways", "17", "from 1 to 16"},
                {"load", "nan", "load"},
                {"load", "inf", "load"},
                {"colour", "red", "no parameter \"colour\""},
                {"queue_wait_ms", "-1", "0 to 60000"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        assert_int_not_equal(sim_override(&o, rows[i].key, rows[i].value, &err), FB_OK);
        if (!strstr(err.text, rows[i].says))
            fail_msg("%s=%s: %s", rows[i].key, rows[i].value, err.text);
    }
    static const char *const traces[] = {"",           "seconds,requests\n", "1,2\n3\n",
                                         "1,2\n0,5\n", "1,2\n1,-5\n",        "1,2\nnan,5\n"};
    for (size_t i = 0; i < FB_COUNT(traces); i++)
        assert_int_not_equal(sim_override_trace(&o, span_of(traces[i]), &err), FB_OK);
}

static void good_overrides_are_taken(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"balance", "random_two"}, {"limit", "12"},   {"eject", "off"},
        {"codel", "on"},           {"clients", "5"},  {"queue_wait_ms", "10"},
        {"queue_capacity", "7"},   {"gateways", "2"}, {"timeout_ms", "100"},
        {"retry_pct", "2.5"},      {"load", "0.5"},   {"time", "2"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        assert_int_equal(sim_override(&o, rows[i][0], rows[i][1], &err), FB_OK);
    assert_int_equal(o.balance, GATE_BALANCE_RANDOM_TWO);
    assert_int_equal(o.limit_fixed, 12);
    assert_int_equal(o.is_learned, 0);
    assert_int_equal(o.is_ejecting, 0);
    assert_int_equal(o.is_codel, 1);
    assert_int_equal(o.gateways, 2);
    assert_true(o.retry_pct > 2.4);
    assert_true(o.time_factor > 1.9);
}

static void both_prints_say_the_same(void **state)
{
    (void)state;
    o.time_factor = 0.2;
    const struct sim_scenario *sc = sim_scenario_find("priority");
    run(sc, 1);
    struct buf out;
    buf_init(&out, 64 * KIB);
    sim_print_text(&out, sc, 1, &r);
    assert_non_null(strstr(buf_str(&out), "priority (seed 1)"));
    assert_non_null(strstr(buf_str(&out), "critical"));
    buf_clear(&out);
    struct json j;
    json_init(&j, &out);
    sim_print_json(&j, sc, 1, &r);
    json_t *root = json_loads(buf_str(&out), 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "all"), "offered")),
                     r.all.offered);
    assert_int_equal(json_array_size(json_object_get(root, "phases")), 5);
    json_decref(root);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(single_queue_agrees_with_theory, setup),
        cmocka_unit_test_setup(four_workers_agree_with_erlang, setup),
        cmocka_unit_test_setup(one_seed_is_one_outcome, setup),
        cmocka_unit_test_setup(every_request_ends_in_exactly_one_way, setup),
        cmocka_unit_test_setup(stall_delays_and_loses_nothing, setup),
        cmocka_unit_test_setup(death_cuts_and_refuses, setup),
        cmocka_unit_test_setup(impatient_clients_leave_and_work_is_wasted, setup),
        cmocka_unit_test_setup(retries_of_clients_count_as_one_request, setup),
        cmocka_unit_test_setup(trace_sets_the_arrivals, setup),
        cmocka_unit_test_setup(bad_input_is_named, setup),
        cmocka_unit_test_setup(good_overrides_are_taken, setup),
        cmocka_unit_test_setup(both_prints_say_the_same, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
