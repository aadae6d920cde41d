/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/view.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

#define TICK_US (100 * US_PER_MS)
#define SELF UINT64_C(11)

static struct fleet_report r;
static struct fleet_decision d;
static uint64_t sequence;

static struct fleet_view *new_view(void)
{
    struct fleet_conf conf;
    fleet_conf_init(&conf);
    conf.node = SELF;
    return fleet_view_new(&conf);
}

static void say(struct fleet_view *v, uint64_t node, uint64_t sequence, uint32_t in_flight,
                uint64_t now_us)
{
    memset(&r, 0, sizeof r);
    r.node = node;
    r.epoch = 1;
    r.sequence = sequence;
    r.span_us = TICK_US;
    strcpy(r.service, "shop");
    r.requests = 10;
    r.endpoint_count = 2;
    strcpy(r.endpoints[0].name, "10.0.0.1:80");
    strcpy(r.endpoints[1].name, "10.0.0.2:80");
    r.endpoints[0].in_flight = in_flight;
    r.endpoints[1].in_flight = 1;
    r.demand_count = 1;
    r.demands[0] = (struct fleet_demand){
        .limit = 77, .limit_milli = 1000000, .asked_milli = (uint32_t)node * 10000, .share_ppm = 0};
    r.sent_us = now_us;
    r.lease_ms = 60000;
    r.safe_ppm = 10000;
    sketch_add(&r.latency, 5000);
    fleet_hear(v, &r, now_us);
}

static void hear_answers(struct fleet_view *v, uint64_t node, const char *region, uint32_t answers)
{
    memset(&r, 0, sizeof r);
    r.node = node;
    r.epoch = 1;
    r.sequence = ++sequence;
    strcpy(r.service, "shop");
    strcpy(r.region, region);
    r.endpoint_count = 1;
    r.endpoints[0] =
        (struct fleet_endpoint){.name = "10.0.0.1:80", .answers = answers, .latency_us = 2000};
    assert_true(fleet_hear(v, &r, TICK_US));
}

static void answers_of_the_others_of_the_region_are_handed_on_once(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    uint64_t sum_us = 1;
    fleet_view_region(v, "eu");
    hear_answers(v, SELF, "eu", 100);
    hear_answers(v, 12, "eu", 5);
    hear_answers(v, 13, "us", 50);
    hear_answers(v, 14, "eu", 7);
    hear_answers(v, 14, "eu", 1);
    assert_int_equal(fleet_others_answers(v, "shop", "10.0.0.1:80", &sum_us), 13);
    assert_int_equal(sum_us, 26000);
    assert_int_equal(fleet_others_answers(v, "shop", "10.0.0.1:80", &sum_us), 0);
    assert_int_equal(sum_us, 0);
    assert_int_equal(fleet_others_answers(v, "shop", "10.0.0.9:80", &sum_us), 0);
    assert_int_equal(fleet_others_answers(v, "pay", "10.0.0.1:80", &sum_us), 0);
    fleet_view_free(v);
}

static void who_said_goodbye_is_not_missed(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    struct fleet_state s;
    struct fleet_node_view node;
    say(v, SELF, 1, 1, TICK_US);
    say(v, 12, 1, 1, TICK_US);
    say(v, 13, 1, 1, TICK_US);
    fleet_state_read(v, &s);
    assert_int_equal(s.nodes_known, 3);
    r.node = 12;
    r.sequence = 2;
    r.is_leaving = 1;
    assert_true(fleet_hear(v, &r, 2 * TICK_US));
    fleet_tick(v, 2 * TICK_US);
    fleet_state_read(v, &s);
    assert_int_equal(s.nodes_known, 2);
    assert_int_equal(s.nodes_live, 2);
    assert_true(fleet_node_at(v, 1, &node));
    assert_true(node.node == 12 && node.has_left && !node.is_live);
    fleet_tick(v, 100 * TICK_US); /* 13 fell silent without a word */
    fleet_state_read(v, &s);
    assert_int_equal(s.nodes_known, 2);
    assert_int_equal(s.nodes_live, 1);
    say(v, 12, 3, 1, 101 * TICK_US); /* back */
    fleet_state_read(v, &s);
    assert_int_equal(s.nodes_known, 3);
    assert_int_equal(s.nodes_live, 2);
    fleet_view_free(v);
}

static void clocks_on_walls_do_not_matter(void **state)
{
    (void)state;
    static const uint64_t walls[] = {0, 1, 1700000000000000, UINT64_MAX};
    struct fleet_view *v = new_view();
    for (uint32_t i = 0; i < FB_COUNT(walls); i++) {
        say(v, 12, 2 * i + 1, 1, (100 + i) * TICK_US);
        r.sequence = 2 * i + 2;
        r.wall_us = walls[i];
        r.sent_us = walls[i]; /* of its own clock */
        r.endpoints[0].in_flight = 20 + i;
        assert_true(fleet_hear(v, &r, (100 + i) * TICK_US));
        assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 20 + i);
    }
    fleet_view_free(v);
}

static void an_own_report_that_took_too_long_is_no_sign_of_a_broker(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    struct fleet_state s;
    fleet_tick(v, TICK_US);
    say(v, SELF, 1, 1, TICK_US);
    fleet_tick(v, 100 * TICK_US);
    fleet_state_read(v, &s);
    assert_true(s.is_autonomous);
    r.sequence = 2;
    assert_false(fleet_hear(v, &r, r.sent_us + 30 * US_PER_S));
    fleet_state_read(v, &s);
    assert_true(s.is_autonomous);
    assert_true(fleet_hear(v, &r, r.sent_us + 29 * US_PER_S));
    fleet_state_read(v, &s);
    assert_false(s.is_autonomous);
    fleet_view_free(v);
}

static void a_decision_whose_author_did_not_know_the_last_one_holds_nowhere(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    say(v, SELF, 1, 1, TICK_US);
    d = (struct fleet_decision){.controller = 12, .sequence = 3, .limit = 77, .count = 1};
    strcpy(d.service, "shop");
    d.shares[0] = (struct fleet_share){SELF, 300000, 0};
    assert_true(fleet_heed(v, &d, TICK_US));
    struct fleet_decision alone = d; /* of one that had lost sight of the others */
    alone.controller = 13;
    alone.sequence = 1;
    alone.shares[0] = (struct fleet_share){13, FLEET_SHARE_ALL, 0};
    assert_false(fleet_heed(v, &alone, TICK_US));
    struct fleet_decision blind = d; /* made before that one was heard */
    blind.sequence = 4;
    blind.shares[0].share_ppm = 800000;
    blind.after = 1;
    assert_false(fleet_heed(v, &blind, TICK_US));
    assert_int_equal(fleet_share_of(v, "shop", 77), 5000); /* of the first after a start */
    fleet_view_free(v);
}

static void load_of_others_is_summed_and_the_own_is_not(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    say(v, SELF, 1, 40, TICK_US);
    say(v, 12, 1, 5, TICK_US);
    say(v, 13, 1, 6, TICK_US);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 11);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.2:80"), 2);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.3:80"), 0);
    assert_int_equal(fleet_others_in_flight(v, "pay", "10.0.0.1:80"), 0);
    say(v, 12, 2, 1, 2 * TICK_US);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 7);
    say(v, 12, 2, 50, 2 * TICK_US); /* said again, or out of order: nothing new */
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 7);
    fleet_view_free(v);
}

static void whatever_a_report_says_the_sums_hold(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    for (uint64_t i = 1; i < 5; i++)
        for (uint64_t node = 12; node < 15; node++) {
            say(v, node, i, i % 2 ? UINT32_MAX : 1, i * TICK_US);
            assert_true(fleet_others_in_flight(v, "shop", "10.0.0.1:80") >= 1);
        }
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 3);
    say(v, 12, 9, UINT32_MAX, 5 * TICK_US);
    say(v, 13, 9, UINT32_MAX, 5 * TICK_US);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), UINT32_MAX);
    fleet_view_free(v);
}

static void a_node_that_falls_silent_is_gone_with_its_load(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    uint64_t now_us = 0;
    struct fleet_state st;
    for (uint64_t i = 1; i <= 40; i++) {
        now_us += TICK_US;
        say(v, SELF, i, 1, now_us);
        say(v, 13, i, 6, now_us);
        if (i <= 10)
            say(v, 12, i, 5, now_us);
        fleet_tick(v, now_us);
        fleet_state_read(v, &st);
        assert_int_equal(st.nodes_live, i < 25 ? 3 : 2);
    }
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 6);
    assert_false(st.is_autonomous);
    say(v, 12, 11, 5, now_us); /* it is back */
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 11);
    fleet_view_free(v);
}

static void a_node_whose_reports_do_not_come_back_is_on_its_own(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    struct fleet_state st;
    uint64_t now_us = 0;
    for (uint64_t i = 1; i <= 10; i++) {
        now_us += TICK_US;
        say(v, SELF, i, 1, now_us);
        say(v, 12, i, 5, now_us);
        fleet_tick(v, now_us);
    }
    for (int i = 0; i < 40; i++) {
        now_us += TICK_US;
        fleet_tick(v, now_us);
        assert_false(i > 31 && fleet_decide(v, now_us, &d)); /* for others it cannot speak */
    }
    fleet_state_read(v, &st);
    assert_true(st.is_autonomous);
    assert_int_equal(st.nodes_live, 1);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.1:80"), 0);
    say(v, SELF, 50, 1, now_us);
    fleet_state_read(v, &st);
    assert_false(st.is_autonomous);
    fleet_view_free(v);
}

static void everybody_names_the_same_controller_and_the_next_one(void **state)
{
    (void)state;
    uint64_t named[3][2];
    for (uint64_t self = 0; self < 3; self++) {
        struct fleet_conf conf;
        fleet_conf_init(&conf);
        conf.node = SELF + self;
        struct fleet_view *v = fleet_view_new(&conf);
        struct fleet_service_view sv;
        for (uint64_t n = SELF; n < SELF + 3; n++)
            say(v, n, 1, 1, TICK_US);
        assert_true(fleet_service_at(v, 0, &sv));
        named[self][0] = sv.controller;
        for (uint64_t i = 2; i < 30; i++) {
            for (uint64_t n = SELF; n < SELF + 3; n++)
                if (n != named[self][0])
                    say(v, n, i, 1, i * TICK_US);
            fleet_tick(v, i * TICK_US);
        }
        assert_true(fleet_service_at(v, 0, &sv));
        named[self][1] = sv.controller;
        fleet_view_free(v);
    }
    /* a node holds itself alive: the one that fell silent is asked no more */
    for (int i = 1; i < 3; i++)
        assert_int_equal(named[i][0], named[0][0]);
    uint64_t next = 0;
    for (uint64_t i = 0; i < 3; i++)
        if (SELF + i != named[0][0]) {
            assert_int_not_equal(named[i][1], named[0][0]);
            assert_true(!next || named[i][1] == next);
            next = named[i][1];
        }
}

static void the_controller_divides_a_limit_by_what_is_asked(void **state)
{
    (void)state;
    uint32_t decided = 0;
    for (uint64_t self = SELF; self < SELF + 3; self++) {
        struct fleet_conf conf;
        fleet_conf_init(&conf);
        conf.node = self;
        struct fleet_view *v = fleet_view_new(&conf);
        for (uint64_t n = SELF; n < SELF + 3; n++)
            say(v, n, 1, 1, TICK_US);
        fleet_tick(v, TICK_US);
        assert_int_equal(fleet_share_of(v, "shop", 77), 5000); /* nobody gave it more */
        assert_false(fleet_decide(v, TICK_US, &d));            /* who else is there? */
        uint64_t now_us = 8 * TICK_US;
        for (uint64_t n = SELF; n < SELF + 3; n++)
            say(v, n, 2, 1, now_us);
        fleet_tick(v, now_us);
        if (!fleet_decide(v, now_us, &d)) {
            fleet_view_free(v);
            continue;
        }
        decided++;
        assert_int_equal(d.controller, self);
        assert_int_equal(d.sequence, 1);
        assert_int_equal(d.count, 3);
        assert_true(d.shares[0].share_ppm <= d.shares[2].share_ppm);
        struct fleet_decision other;
        assert_false(fleet_decide(v, now_us, &other));
        assert_false(fleet_decide(v, now_us + 10, &other));
        assert_true(fleet_heed(v, &d, now_us));
        assert_false(fleet_heed(v, &d, now_us)); /* the first one holds */
        assert_int_equal(fleet_heeded(v, "shop", 77), 1);
        /* it may have waited for long on its way: more is in the one whose author has heard it */
        assert_int_equal(fleet_share_of(v, "shop", 77), 5000);
        now_us += 11 * TICK_US;
        for (uint64_t n = SELF; n < SELF + 3; n++)
            say(v, n, 3, 1, now_us);
        fleet_tick(v, now_us);
        assert_true(fleet_decide(v, now_us, &d));
        assert_int_equal(d.sequence, 2);
        assert_true(fleet_heed(v, &d, now_us));
        assert_true(d.shares[self - SELF].share_ppm > 5000);
        assert_int_equal(fleet_share_of(v, "shop", 77), d.shares[self - SELF].share_ppm);
        fleet_tick(v, now_us + 59 * US_PER_S); /* cut off: the part holds as long as the lease */
        assert_int_equal(fleet_share_of(v, "shop", 77), d.shares[self - SELF].share_ppm);
        fleet_tick(v, now_us + 60 * US_PER_S);
        assert_int_equal(fleet_share_of(v, "shop", 77), 5000);
        fleet_view_free(v);
    }
    assert_int_equal(decided, 1);
}

static void an_edge_node_never_divides(void **state)
{
    (void)state;
    struct fleet_conf conf;
    fleet_conf_init(&conf);
    conf.node = SELF;
    conf.role = FLEET_ROLE_EDGE;
    struct fleet_view *v = fleet_view_new(&conf);
    say(v, SELF, 1, 1, TICK_US);
    fleet_tick(v, TICK_US);
    assert_false(fleet_decide(v, TICK_US, &d));
    fleet_view_free(v);
}

static void many_endpoints_come_and_go_in_bounded_memory(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    for (uint64_t i = 1; i <= 2000; i++) {
        memset(&r, 0, sizeof r);
        r.node = 12;
        r.epoch = 1;
        r.sequence = i;
        r.span_us = TICK_US;
        strcpy(r.service, "shop");
        r.endpoint_count = 100;
        for (uint32_t k = 0; k < 100; k++) {
            snprintf(r.endpoints[k].name, sizeof r.endpoints[k].name, "10.%u.0.%u:80",
                     (unsigned)i % 250, k);
            r.endpoints[k].in_flight = 3;
        }
        assert_true(fleet_hear(v, &r, i * TICK_US));
    }
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.0.0.5:80"), 3);
    assert_int_equal(fleet_others_in_flight(v, "shop", "10.1.0.5:80"), 0);
    fleet_view_free(v);
}

static void latency_of_all_nodes_is_one_sketch(void **state)
{
    (void)state;
    struct fleet_view *v = new_view();
    struct fleet_service_view sv;
    for (uint64_t i = 1; i <= 10; i++) {
        say(v, 12, i, 1, i * TICK_US);
        say(v, 13, i, 1, i * TICK_US);
    }
    assert_true(fleet_service_at(v, 0, &sv));
    assert_int_equal(sv.samples, 20);
    assert_true(fabs(sv.p50_us - 5000) < 60);
    assert_true(fabs(sv.per_s - 200) < 1e-6);
    fleet_tick(v, 40 * US_PER_S);
    assert_true(fleet_service_at(v, 0, &sv));
    assert_int_equal(sv.samples, 0);
    assert_true(isnan(sv.p99_us));
    fleet_view_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_the_others_of_the_region_are_handed_on_once),
        cmocka_unit_test(who_said_goodbye_is_not_missed),
        cmocka_unit_test(clocks_on_walls_do_not_matter),
        cmocka_unit_test(an_own_report_that_took_too_long_is_no_sign_of_a_broker),
        cmocka_unit_test(a_decision_whose_author_did_not_know_the_last_one_holds_nowhere),
        cmocka_unit_test(load_of_others_is_summed_and_the_own_is_not),
        cmocka_unit_test(whatever_a_report_says_the_sums_hold),
        cmocka_unit_test(a_node_that_falls_silent_is_gone_with_its_load),
        cmocka_unit_test(a_node_whose_reports_do_not_come_back_is_on_its_own),
        cmocka_unit_test(everybody_names_the_same_controller_and_the_next_one),
        cmocka_unit_test(the_controller_divides_a_limit_by_what_is_asked),
        cmocka_unit_test(an_edge_node_never_divides),
        cmocka_unit_test(many_endpoints_come_and_go_in_bounded_memory),
        cmocka_unit_test(latency_of_all_nodes_is_one_sketch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
