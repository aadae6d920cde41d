/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet of 100 nodes in four regions, a million requests per second, one limit of 900,000 per
 * second over all of them: the same code as in the brain (src/fleet), in virtual time, over a
 * broker that gives each node each message 5 to 150 ms later.
 *
 *   0 s   all start at once
 *   15 s  a region of 25 nodes is lost; its traffic is at the others within 5 s, and what it had of
 *         the limit when its lease is over (here 4 s and 1 s of grace)
 *   28 s  it is back, with its traffic
 *   42 s  another region is cut off from the broker; its nodes and their traffic go on
 *   52 s  it can be heard again
 *
 * Requests are rates here, not single ones.  Every message is written and read as bytes. */
#include "base/rng.h"
#include "fleet/view.h"
#include "tap.h"

#include <string.h>
#include <time.h>

enum { NODES = 100, REGIONS = 4, ENDPOINTS = 16, TICKS = 600, SLOTS = 8 };
#define TICK_US (100 * US_PER_MS)
#define LIMIT_PER_S 900000.0
#define DEMAND_PER_S 1000000.0
#define LIMIT_ID UINT64_C(4711)
#define LEASE_US (4 * US_PER_S)
#define SAFE_PPM 400

struct letter {
    char bytes[3000];
    size_t len;
};
struct mail { /* what a node said in one tick */
    struct letter report, decision;
};
struct node {
    struct fleet_view *view;
    double weight; /* of its region's traffic */
    uint32_t late_ticks[NODES];
    uint64_t sequence;
    uint32_t share_ppm;
    bool is_up;
    uint32_t epoch;
};
struct second {
    double passed, offered;
};

static struct node nodes[NODES];
static struct mail mails[SLOTS][NODES];
static struct second seconds[TICKS / 10];
static struct fleet_report report;
static struct fleet_decision decision;

static bool is_lost(uint32_t node, uint32_t tick)
{
    return node / (NODES / REGIONS) == 1 && tick >= 150 && tick < 280;
}
static bool is_cut(uint32_t node, uint32_t tick)
{
    return node / (NODES / REGIONS) == 2 && tick >= 420 && tick < 520;
}

/* Traffic of a node: uneven, and that of a lost region moves to the others within 5 s. */
static double demand_of(uint32_t n, uint32_t tick)
{
    double moved = tick < 150   ? 0
                   : tick < 200 ? (tick - 150) / 50.0
                   : tick < 280 ? 1
                   : tick < 330 ? 1 - (tick - 280) / 50.0
                                : 0;
    double mean = DEMAND_PER_S / NODES * nodes[n].weight;
    if (n / (NODES / REGIONS) == 1)
        return mean * (1 - moved);
    return mean * (1 + moved / (REGIONS - 1));
}

static void start_node(uint32_t n)
{
    struct fleet_conf conf;
    fleet_conf_init(&conf);
    conf.node = 1000 + n;
    conf.lease.lease_us = LEASE_US;
    conf.lease.grace_us = 1 * US_PER_S;
    conf.lease.safe_ppm = SAFE_PPM;
    fleet_view_free(nodes[n].view);
    nodes[n].view = fleet_view_new(&conf);
    nodes[n].is_up = true;
    nodes[n].epoch++;
    nodes[n].sequence = 0;
}

static void write_letter(struct letter *l, const struct buf *b)
{
    l->len = b->len <= sizeof l->bytes ? b->len : 0;
    memcpy(l->bytes, b->at, l->len);
}

static void say(uint32_t n, uint32_t tick, struct buf *b)
{
    struct node *no = &nodes[n];
    memset(&report, 0, sizeof report);
    report.node = 1000 + n;
    report.epoch = no->epoch;
    report.sequence = ++no->sequence;
    report.span_us = TICK_US;
    report.is_ready = fleet_is_ready(no->view, "shop", tick * TICK_US);
    report.sent_us = tick * TICK_US;
    report.lease_ms = (uint32_t)(LEASE_US / US_PER_MS);
    report.safe_ppm = SAFE_PPM;
    strcpy(report.service, "shop");
    report.requests = (uint32_t)(demand_of(n, tick) / 10);
    report.endpoint_count = ENDPOINTS;
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        snprintf(report.endpoints[i].name, sizeof report.endpoints[i].name, "shop 10.0.0.%u:80", i);
        report.endpoints[i].in_flight = n + i;
    }
    report.demand_count = 1;
    report.demands[0] = (struct fleet_demand){LIMIT_ID, (uint64_t)(LIMIT_PER_S * 1e3),
                                              (uint32_t)(demand_of(n, tick) * 1e3), no->share_ppm,
                                              fleet_heeded(no->view, "shop", LIMIT_ID)};
    report.latency.count[500] = report.requests;
    report.latency.n = report.requests;
    buf_clear(b);
    fleet_report_write(&report, b);
    struct mail *m = &mails[tick % SLOTS][n];
    write_letter(&m->report, b);
    m->decision.len = 0;
    if (fleet_decide(no->view, tick * TICK_US, &decision)) {
        buf_clear(b);
        fleet_decision_write(&decision, b);
        write_letter(&m->decision, b);
    }
}

static void hear(uint32_t n, uint32_t tick, uint32_t from)
{
    uint32_t late = nodes[n].late_ticks[from];
    if (tick < late || is_cut(n, tick) || is_cut(from, tick - late) || is_lost(from, tick - late))
        return;
    const struct mail *m = &mails[(tick - late) % SLOTS][from];
    if (fleet_report_read((struct span){m->report.bytes, m->report.len}, &report)) {
        fleet_hear(nodes[n].view, &report, tick * TICK_US);
    }
    if (m->decision.len &&
        fleet_decision_read((struct span){m->decision.bytes, m->decision.len}, &decision))
        (void)fleet_heed(nodes[n].view, &decision, tick * TICK_US);
}

static void play(struct tap *t)
{
    struct rng rng;
    struct buf b;
    double worst_over = 0, cut_over = 0, least_use = 1, bytes = 0;
    uint32_t recovered_tick = 0, wrong_others = 0;
    buf_init(&b, 64 * KIB);
    rng_init(&rng, 1);
    for (uint32_t n = 0; n < NODES; n++) {
        nodes[n].weight = 0.5 + rng_unit(&rng);
        for (uint32_t from = 0; from < NODES; from++)
            nodes[n].late_ticks[from] = 1 + rng_below(&rng, 2); /* 100 or 200 ms by the tick */
        nodes[n].share_ppm = SAFE_PPM;
        start_node(n);
    }
    clock_t cpu = clock();
    for (uint32_t tick = 1; tick < TICKS; tick++) {
        double passed = 0, offered = 0;
        for (uint32_t n = 0; n < NODES; n++) {
            struct node *no = &nodes[n];
            if (is_lost(n, tick)) {
                no->is_up = false;
                continue;
            }
            if (!no->is_up)
                start_node(n);
            for (uint32_t from = 0; from < NODES; from++)
                hear(n, tick, from);
            fleet_tick(no->view, tick * TICK_US);
            no->share_ppm = fleet_share_of(no->view, "shop", LIMIT_ID);
            say(n, tick, &b);
            bytes += (double)mails[tick % SLOTS][n].report.len;
            double most = LIMIT_PER_S * no->share_ppm / FLEET_SHARE_ALL;
            double demand = demand_of(n, tick);
            passed += demand < most ? demand : most;
            offered += demand;
        }
        seconds[tick / 10].passed += passed / 10;
        seconds[tick / 10].offered += offered / 10;
        double possible = offered < LIMIT_PER_S ? offered : LIMIT_PER_S;
        bool is_steady = (tick > 100 && tick < 150) || (tick > 250 && tick < 280) ||
                         (tick > 380 && tick < 420) || tick > 570;
        if (is_steady && passed / possible < least_use)
            least_use = passed / possible;
        if (!recovered_tick && tick >= 200 && passed >= 0.97 * possible)
            recovered_tick = tick;
        if (tick == 400) /* what node 0 knows of the others' load at one endpoint */
            wrong_others = fleet_others_in_flight(nodes[0].view, "shop", "shop 10.0.0.0:80") !=
                           NODES * (NODES - 1) / 2;
        bool is_starting = tick < 20;
        bool is_apart = tick >= 420 && tick < 540;
        double over = passed / LIMIT_PER_S;
        if (is_apart && over > cut_over)
            cut_over = over;
        else if (!is_apart && !is_starting && over > worst_over)
            worst_over = over;
    }
    double us = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / TICKS / NODES;
    tap_at_most(t, worst_over, 1.0, "fleet: passed over the limit, a region lost and back");
    tap_at_most(t, cut_over, 1.0, "fleet: the same while a region is cut off");
    tap_at_least(t, least_use, 0.97, "fleet: use of the limit 5 s after any change");
    tap_at_most(t, (recovered_tick - 200) / 10.0, 5,
                "fleet: s until the limit is used again once the lost region's traffic has moved");
    tap_at_most(t, wrong_others, 0, "fleet: a node knows the load of the 99 others");
    tap_at_most(t, bytes / TICKS / NODES, 600, "fleet: bytes of a report with %d endpoints",
                ENDPOINTS);
    printf("# %.0f us of CPU per node and tick\n", us);
    buf_fini(&b);
    for (uint32_t n = 0; n < NODES; n++)
        fleet_view_free(nodes[n].view);
}

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    play(&t);
    return tap_end(&t);
}
