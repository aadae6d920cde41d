/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "fleet/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

static void fill(struct fleet_report *r, struct rng *rng)
{
    memset(r, 0, sizeof *r);
    r->node = rng_u64(rng);
    r->epoch = 7;
    r->sequence = rng_u64(rng) >> rng_u64(rng) % 64;
    r->wall_us = UINT64_C(1764000000000000);
    r->span_us = 100000;
    r->role = FLEET_ROLE_EDGE;
    r->has_members = rng_u64(rng) & 1;
    r->is_ready = rng_u64(rng) & 1;
    r->is_leaving = rng_u64(rng) & 1;
    r->sent_us = rng_u64(rng) >> rng_u64(rng) % 64;
    r->lease_ms = (uint32_t)rng_u64(rng);
    r->safe_ppm = 10000;
    strcpy(r->region, "eu-west");
    strcpy(r->name, r->is_ready ? "edge-2" : "");
    strcpy(r->service, "shop");
    r->requests = (uint32_t)rng_u64(rng);
    r->shed = 3;
    r->endpoint_count = (uint32_t)(rng_u64(rng) % (FLEET_ENDPOINTS_MAX + 1));
    for (uint32_t i = 0; i < r->endpoint_count; i++) {
        snprintf(r->endpoints[i].name, sizeof r->endpoints[i].name, "10.0.%u.%u:80", i / 256,
                 i % 256);
        r->endpoints[i].in_flight = (uint32_t)(rng_u64(rng) % 1000);
        r->endpoints[i].limit = UINT32_MAX;
        r->endpoints[i].latency_us = i;
        r->endpoints[i].answers = (uint32_t)(rng_u64(rng) % 1000);
    }
    r->demand_count = (uint32_t)(rng_u64(rng) % (FLEET_DEMANDS_MAX + 1));
    for (uint32_t i = 0; i < r->demand_count; i++)
        r->demands[i] =
            (struct fleet_demand){rng_u64(rng), 1000000, 5, FLEET_SHARE_ALL, rng_u64(rng)};
    uint64_t samples = rng_u64(rng) % 500;
    for (uint64_t i = 0; i < samples; i++)
        sketch_add(&r->latency, rng_u64(rng) % (SKETCH_MAX_US * 2));
}

static struct fleet_report a, b;

static void a_report_comes_back_as_it_was(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    struct buf out;
    buf_init(&out, FLEET_MESSAGE_BYTES_MAX);
    for (int i = 0; i < 200; i++) {
        fill(&a, &rng);
        buf_clear(&out);
        fleet_report_write(&a, &out);
        assert_false(out.failed);
        memset(&b, 0, sizeof b);
        assert_true(fleet_report_read(buf_span(&out), &b));
        assert_memory_equal(&a, &b, sizeof a);
    }
    buf_fini(&out);
}

static void no_cut_and_no_appendix_is_taken(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    fill(&a, &rng);
    a.endpoint_count = 3;
    memset(a.name, 0, sizeof a.name);
    struct buf out;
    buf_init(&out, FLEET_MESSAGE_BYTES_MAX);
    fleet_report_write(&a, &out);
    for (size_t len = 0; len < out.len; len++)
        assert_false(fleet_report_read((struct span){out.at, len}, &b));
    buf_putc(&out, 0); /* a name that is none is not written */
    assert_false(fleet_report_read(buf_span(&out), &b));
    size_t nameless = out.len - 1;
    strcpy(a.name, "edge-2");
    buf_clear(&out);
    fleet_report_write(&a, &out);
    for (size_t len = nameless + 1; len < out.len; len++)
        assert_false(fleet_report_read((struct span){out.at, len}, &b));
    buf_putc(&out, 0);
    assert_false(fleet_report_read(buf_span(&out), &b));
    buf_fini(&out);
}

static void damage_never_leads_outside(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    struct buf out;
    buf_init(&out, FLEET_MESSAGE_BYTES_MAX);
    for (int i = 0; i < 3000; i++) {
        fill(&a, &rng);
        a.endpoint_count %= 8;
        buf_clear(&out);
        fleet_report_write(&a, &out);
        for (int k = 0; k < 4; k++)
            out.at[rng_u64(&rng) % out.len] = (char)rng_u64(&rng);
        if (fleet_report_read(buf_span(&out), &b)) {
            assert_true(b.endpoint_count <= FLEET_ENDPOINTS_MAX);
            assert_true(strlen(b.service) < sizeof b.service);
        }
    }
    buf_fini(&out);
}

static void a_report_of_usual_size_is_small(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 9);
    fill(&a, &rng);
    a.endpoint_count = 10;
    a.demand_count = 1;
    memset(&a.latency, 0, sizeof a.latency);
    for (int i = 0; i < 100; i++)
        sketch_add(&a.latency, 5000 + rng_u64(&rng) % 10000);
    struct buf out;
    buf_init(&out, FLEET_MESSAGE_BYTES_MAX);
    fleet_report_write(&a, &out);
    assert_in_range(out.len, 100, 600);
    buf_fini(&out);
}

static void a_decision_comes_back_and_never_gives_more_than_all(void **state)
{
    (void)state;
    static struct fleet_decision d, e;
    memset(&d, 0, sizeof d);
    memset(&e, 0, sizeof e);
    d.controller = 5;
    d.limit = 99;
    d.after = UINT64_MAX;
    d.count = 2;
    strcpy(d.service, "shop");
    d.shares[0] = (struct fleet_share){5, 600000, 10};
    d.shares[1] = (struct fleet_share){6, 400000, 20};
    struct buf out;
    buf_init(&out, FLEET_MESSAGE_BYTES_MAX);
    fleet_decision_write(&d, &out);
    assert_int_equal(fleet_kind_of(buf_span(&out)), FLEET_DECISION);
    assert_true(fleet_decision_read(buf_span(&out), &e));
    assert_memory_equal(&d, &e, sizeof d);
    assert_false(fleet_report_read(buf_span(&out), &b));
    d.shares[1].share_ppm++;
    buf_clear(&out);
    fleet_decision_write(&d, &out);
    assert_false(fleet_decision_read(buf_span(&out), &e));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_comes_back_as_it_was),
        cmocka_unit_test(no_cut_and_no_appendix_is_taken),
        cmocka_unit_test(damage_never_leads_outside),
        cmocka_unit_test(a_report_of_usual_size_is_small),
        cmocka_unit_test(a_decision_comes_back_and_never_gives_more_than_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
