/* SPDX-License-Identifier: Apache-2.0 */
/* control_scenarios: the rules of the control plane (design.md section 9) against a modelled
 * service.
 *
 * The service: three endpoints with four workers each, 20 ms a request (600/s), one queue of 64 by
 * class, a learner that has found its limit; 100 ms steps of virtual time.  TAP; about a second. */
#include "base/rng.h"
#include "control/arbiter.h"
#include "control/control_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_PER_TICK 60
#define SLOTS 12
#define QUEUE 64

struct model {
    struct engine *e;
    struct rng rng;
    uint64_t now_us;
    uint32_t queued;
    bool is_sabotaged; /* any timeout below the configured one cuts a fifth of the answers, whatever
                          it says */
    double error_ratio;
    uint64_t offered[EV_CLASS_COUNT], served[EV_CLASS_COUNT];
    /* what came out */
    uint64_t decisions, recommended;
    uint64_t worse, reverted, frozen; /* of the timeout knob */
    uint64_t alerts_on, alerts_off;
    uint64_t taken_back; /* of all knobs */
    uint64_t late;       /* decisions more than 150 ms after their cause */
    double first_to[KNOB_COUNT];
};

static int checks;
static int failures;

static void check(int is_ok, const char *what)
{
    checks++;
    failures += !is_ok;
    printf("%s %d - %s\n", is_ok ? "ok" : "not ok", checks, what);
}

static void note(struct model *m, const union ev_any *ev)
{
    if (ev->head.type == EV_DECISION) {
        const struct ev_decision *d = &ev->decision;
        m->taken_back += d->reason == REASON_REVERTED;
        m->decisions += d->is_applied;
        m->recommended += !d->is_applied;
        m->late += d->actor == ACTOR_LOOP && d->head.time_us - d->cause_us > 150000;
        if (d->actor == ACTOR_LOOP && d->knob < KNOB_COUNT && m->first_to[d->knob] == 0)
            m->first_to[d->knob] = d->to;
    } else if (ev->head.type == EV_OUTCOME && ev->outcome.knob == KNOB_TIMEOUT_MS) {
        m->worse += ev->outcome.outcome == EV_OUTCOME_WORSE;
        m->reverted += ev->outcome.is_reverted;
        m->frozen += ev->outcome.is_frozen;
    } else if (ev->head.type == EV_ALERT) {
        m->alerts_on += !ev->alert.is_over;
        m->alerts_off += ev->alert.is_over;
    }
}

static void feed(struct model *m, const struct ev_head *ev)
{
    static union ev_any room[256];
    struct engine_out out = {.at = room, .max = 256};
    engine_feed(m->e, ev, &out);
    for (size_t i = 0; i < out.count; i++) {
        note(m, &room[i]);
        if (getenv("FB_SIM_TRACE") && room[i].head.type == EV_DECISION) {
            struct buf b;
            buf_init(&b, 4096);
            engine_explain(m->e, &room[i].decision, &b);
            printf("# %6.1f s %s\n", (double)m->now_us / 1e6, buf_str(&b));
            buf_fini(&b);
        }
    }
}

static void name_target(struct model *m, enum ev_kind kind, uint16_t number, const char *name)
{
    struct ev_name n = EV_INIT(NAME, name, m->now_us);
    n.kind = (uint8_t)kind;
    n.number = number;
    n.version = EV_NONE;
    snprintf(n.name, sizeof n.name, "%s", name);
    feed(m, &n.head);
}

static struct model *model_new(enum ev_mode mode)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m || !(m->e = engine_new()))
        exit(1);
    rng_init(&m->rng, 1);
    m->now_us = 10 * US_PER_S;
    struct engine_target t[2] = {{.kind = EV_KIND_ROUTE, .name = "shop /"},
                                 {.kind = EV_KIND_SERVICE, .name = "shop"}};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < KNOB_COUNT; i++)
            t[k].knob[i] = (struct knob_setting){NAN, NAN, NAN, mode};
    t[0].knob[KNOB_TIMEOUT_MS].configured = 15000;
    t[1].knob[KNOB_RETRY_PCT].configured = 10;
    struct engine_conf conf = {.targets = t, .target_count = 2, .mode = mode};
    engine_configure(m->e, &conf);
    name_target(m, EV_KIND_SERVICE, 0, "shop");
    name_target(m, EV_KIND_ROUTE, 0, "shop /");
    name_target(m, EV_KIND_ENDPOINT, 0, "shop 10.0.0.1:80");
    return m;
}

static void model_free(struct model *m)
{
    engine_free(m->e);
    free(m);
}

static double value(const struct model *m, enum knob_id knob)
{
    return knob_effective(knob_row((uint16_t)knob), &engine_book(m->e)->layer[knob][0], NULL);
}

static void send(struct model *m, uint8_t class, uint16_t reason)
{
    struct ev_request r = EV_INIT(REQUEST, request, m->now_us + rng_below(&m->rng, 99000));
    r.class = class;
    r.reason = reason;
    r.endpoint = ev_reason_is_shed(reason) ? EV_NONE : 0;
    r.upstream_us = (uint32_t)(20000 * exp(0.3 * rng_normal(&m->rng)));
    double timeout_us = value(m, KNOB_TIMEOUT_MS) * 1e3;
    bool is_cut = r.upstream_us > timeout_us ||
                  (m->is_sabotaged && timeout_us < 14.99e6 && rng_below(&m->rng, 5) == 0);
    if (reason == REASON_ANSWERED && is_cut) {
        r.reason = REASON_UPSTREAM_TIMEOUT;
        r.flags = EV_REQUEST_FAILED | EV_REQUEST_CENSORED;
        r.upstream_us = 10000;
    } else if (reason == REASON_ANSWERED && rng_unit(&m->rng) < m->error_ratio) {
        r.reason = REASON_UPSTREAM_ERROR;
        r.flags = EV_REQUEST_FAILED;
    }
    r.total_us = r.upstream_us;
    feed(m, &r.head);
}

/* 100 ms at <load> x capacity; classes 20/30/30/20 %.  The door, then slots by class, then the
 * queue. */
static void step(struct model *m, double load)
{
    static const double parts[EV_CLASS_COUNT] = {0.2, 0.3, 0.3, 0.2};
    double level = value(m, KNOB_SHED_THRESHOLD);
    uint32_t room = CAPACITY_PER_TICK;
    uint32_t wants = 0;
    for (uint8_t c = 0; c < EV_CLASS_COUNT; c++) {
        uint32_t n = (uint32_t)(load * CAPACITY_PER_TICK * parts[c] + rng_unit(&m->rng));
        m->offered[c] += n;
        for (uint32_t i = 0; i < n; i++) {
            if (128.0 * c + rng_below(&m->rng, 128) >= level) {
                send(m, c, REASON_SHED_PRIORITY);
                continue;
            }
            wants++;
            bool is_served = room > 0;
            room -= is_served;
            m->served[c] += is_served;
            send(m, c, is_served ? REASON_ANSWERED : REASON_SHED_QUEUE_FULL);
        }
    }
    struct ev_gauge g = EV_INIT(GAUGE, gauge, m->now_us + 99000);
    g.kind = EV_KIND_SERVICE;
    g.limit = SLOTS;
    g.in_flight = wants >= CAPACITY_PER_TICK ? SLOTS : SLOTS * wants / CAPACITY_PER_TICK;
    g.queued_default =
        wants > CAPACITY_PER_TICK ? (uint16_t)fb_min_u32(QUEUE, wants - CAPACITY_PER_TICK) : 0;
    feed(m, &g.head);
    m->now_us += 100000;
    struct ev_tick t = EV_INIT(TICK, tick, m->now_us);
    t.head.origin = EV_ORIGIN_BRAIN;
    feed(m, &t.head);
}

static void run(struct model *m, double load, uint32_t seconds)
{
    for (uint32_t i = 0; i < 10 * seconds; i++)
        step(m, load);
}

static void silence(struct model *m, uint32_t seconds)
{
    for (uint32_t i = 0; i < 10 * seconds; i++) {
        m->now_us += 100000;
        struct ev_tick t = EV_INIT(TICK, tick, m->now_us);
        t.head.origin = EV_ORIGIN_BRAIN;
        feed(m, &t.head);
    }
}

static void command(struct model *m, enum ev_verb verb, enum knob_id knob, double to)
{
    struct ev_command c = EV_INIT(COMMAND, command, m->now_us);
    c.head.origin = EV_ORIGIN_BRAIN;
    c.verb = (uint8_t)verb;
    c.knob = (uint16_t)knob;
    c.loop = EV_NONE;
    c.target_kind = (uint8_t)knob_row((uint16_t)knob)->kind;
    c.value = to;
    feed(m, &c.head);
}

static void sabotaged_knob(void)
{
    struct model *m = model_new(EV_MODE_ACT);
    m->is_sabotaged = true;
    run(m, 0.6, 75);
    check(m->reverted == 1 && m->frozen == 0,
          "a sabotaged knob: the first bad verdict puts it back");
    check(value(m, KNOB_TIMEOUT_MS) == 15000,
          "a sabotaged knob: the configured value is in force again");
    for (int i = 0; i < 200 && m->frozen == 0; i++)
        run(m, 0.6, 1);
    check(m->worse == 2 && m->reverted == 2 && m->frozen == 1,
          "a sabotaged knob: the loop is frozen after two periods");
    check(m->alerts_on == 1, "a sabotaged knob: one alert is raised");
    const struct knob_layer *l = &engine_book(m->e)->layer[KNOB_TIMEOUT_MS][0];
    check(l->is_frozen && value(m, KNOB_TIMEOUT_MS) == 15000,
          "a sabotaged knob: it rests at the configured value");
    m->is_sabotaged = false;
    run(m, 0.6, 58);
    check(l->is_frozen, "a sabotaged knob: the loop rests for a minute");
    run(m, 0.6, 5);
    check(!l->is_frozen && m->alerts_off == 1,
          "a sabotaged knob: then it may act again, and says so");
    run(m, 0.6, 100);
    check(value(m, KNOB_TIMEOUT_MS) < 15000 && m->reverted == 2,
          "a repaired knob is learned again");
    model_free(m);
}

static void stale_inputs(void)
{
    struct model *m = model_new(EV_MODE_ACT);
    run(m, 0.6, 70);
    run(m, 2, 10);
    double held[KNOB_COUNT];
    silence(m, 2); /* within 2 s the last facts still count */
    for (int k = 0; k < KNOB_COUNT; k++)
        held[k] = value(m, (enum knob_id)k);
    uint64_t before = m->decisions;
    silence(m, 300);
    bool is_held = m->decisions == before;
    for (int k = 0; k < KNOB_COUNT; k++)
        is_held = is_held && value(m, (enum knob_id)k) == held[k];
    check(is_held, "five minutes without input: every knob holds, nothing is decided");
    struct fact rate =
        facts_get(engine_facts(m->e), (struct fact_scope){EV_KIND_SERVICE, 0}, FACT_RATE, FACT_10S);
    check(rate.state == FACT_STALE && isnan(rate.value), "facts without input are stale, not zero");
    run(m, 0.6, 5);
    check(value(m, KNOB_SHED_THRESHOLD) == 512, "with input again the loops go on");
    model_free(m);
}

static void modes(void)
{
    struct model *m[3];
    for (int mode = 0; mode < 3; mode++) {
        m[mode] = model_new((enum ev_mode)mode);
        run(m[mode], 0.6, 20);
        run(m[mode], 3, 20);
    }
    check(m[0]->decisions == 0 && m[0]->recommended == m[1]->recommended,
          "observe: what would have been is told");
    check(m[1]->decisions == 0 && m[1]->recommended > 0,
          "recommend: decisions are told and not applied");
    check(value(m[1], KNOB_SHED_THRESHOLD) == 512 && value(m[0], KNOB_SHED_THRESHOLD) == 512,
          "observe and recommend: no knob moves");
    check(m[2]->decisions > 0 && value(m[2], KNOB_SHED_THRESHOLD) < 512, "act: the knob moves");
    check(m[1]->first_to[KNOB_SHED_THRESHOLD] == m[2]->first_to[KNOB_SHED_THRESHOLD],
          "recommend: the first advice is what act does");
    for (int mode = 0; mode < 3; mode++)
        model_free(m[mode]);
}

static void pins(void)
{
    struct model *m = model_new(EV_MODE_ACT);
    run(m, 0.6, 5);
    command(m, EV_VERB_PIN, KNOB_SHED_THRESHOLD, 500);
    run(m, 4, 30);
    check(value(m, KNOB_SHED_THRESHOLD) == 500, "a pin wins against an overload of 4");
    command(m, EV_VERB_UNPIN, KNOB_SHED_THRESHOLD, 0);
    run(m, 4, 3);
    check(value(m, KNOB_SHED_THRESHOLD) < 300, "without the pin the loop acts within 3 s");
    command(m, EV_VERB_FREEZE, KNOB_SHED_THRESHOLD, 0);
    double held = value(m, KNOB_SHED_THRESHOLD);
    run(m, 0.5, 10);
    check(value(m, KNOB_SHED_THRESHOLD) == held, "a frozen loop holds");
    command(m, EV_VERB_UNFREEZE, KNOB_SHED_THRESHOLD, 0);
    command(m, EV_VERB_RESET, KNOB_SHED_THRESHOLD, 0);
    check(value(m, KNOB_SHED_THRESHOLD) == 512, "a reset drops what was learned");
    model_free(m);
}

static void all_loops_in_overload(void)
{
    char text[160];
    struct model *m = model_new(EV_MODE_ACT);
    run(m, 0.6, 70);
    check(value(m, KNOB_SHED_THRESHOLD) == 512, "a minute at 60 % load: the door stays open");
    memset(m->offered, 0, sizeof m->offered);
    memset(m->served, 0, sizeof m->served);
    for (int i = 0; i < 100; i++)
        step(m, 1 + 3.0 * i / 100); /* a ramp to 4 x in 10 s: 80 % of the capacity is critical */
    run(m, 4, 20);
    run(m, 1.5, 60);
    double critical = 100.0 * (double)m->served[0] / (double)m->offered[0];
    printf("# ramp to 4x: critical answered %.2f %%, reversals in the last minute: shed %u, retry "
           "%u, timeout %u\n",
           critical, arbiter_oscillation(m->e, KNOB_SHED_THRESHOLD, 0),
           arbiter_oscillation(m->e, KNOB_RETRY_PCT, 0),
           arbiter_oscillation(m->e, KNOB_TIMEOUT_MS, 0));
    check(critical >= 99.5, "a ramp to 4 x: 99.5 % of the critical requests are answered");
    for (int k = 0; k < KNOB_COUNT; k++) {
        if (knob_row((uint16_t)k)->kind == EV_KIND_ENDPOINT)
            continue;
        snprintf(text, sizeof text, "%s: at most six reversals a minute",
                 knob_row((uint16_t)k)->name);
        check(arbiter_oscillation(m->e, (enum knob_id)k, 0) <= 6, text);
    }
    check(value(m, KNOB_RETRY_PCT) == 0, "no retries while the limit binds");
    run(m, 0.6, 3);
    check(value(m, KNOB_SHED_THRESHOLD) == 512,
          "three seconds after the overload the door is open");
    run(m, 0.6, 17);
    check(value(m, KNOB_SHED_THRESHOLD) == 512 && value(m, KNOB_RETRY_PCT) == 10,
          "twenty seconds after the overload the retry budget is whole");
    check(m->taken_back == 0, "no decision was taken back");
    check(m->late == 0, "every decision follows its newest cause within 150 ms");
    model_free(m);
}

static void same_seed_same_bytes(void)
{
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        struct model *m = model_new(EV_MODE_ACT);
        m->error_ratio = 0.1;
        run(m, 0.8, 30);
        run(m, 3, 30);
        hash[i] = engine_hash(m->e);
        model_free(m);
    }
    check(hash[0] == hash[1], "one seed, one outcome");
}

int main(void)
{
    sabotaged_knob();
    stale_inputs();
    modes();
    pins();
    all_loops_in_overload();
    same_seed_same_bytes();
    printf("1..%d\n", checks);
    return failures > 0;
}
