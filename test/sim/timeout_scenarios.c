/* SPDX-License-Identifier: Apache-2.0 */
/* timeout_scenarios: the timeout loop against modelled latencies in virtual time, with two static
 * baselines in the same run (loops.md 2.4).
 *
 *   step, ramp   service time x 3 at once, or evenly over 60 s
 *   bimodal      1 % of the requests take 5 s
 *
 * 75 s to learn, 60 s of the disturbance, 30 s with one of three endpoints hung.  Open loop,
 * Poisson, lognormal (sigma 0.3: there "p99 + 3 sd" is 2.9 medians).  A time-out is false when the
 * answer would have come within 15 s.  Pass: < 1 % false; every wait for the hung endpoint < 3 x
 * q99.9. TAP; seeds: first argument or FB_SIM_SEEDS, 3 by default. */
#include "base/rng.h"
#include "control/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_PER_S 200
#define MEDIAN_US 20000.0
#ifndef SIGMA
#define SIGMA 0.3
#endif
#define LEARN_S 75
#define DISTURB_S 60
#define HANG_S 30
#define PATIENCE_US 15e6
#define BINS 256 /* of 100 ms: the longest wait is 15 s */

enum kind { STEP, RAMP, BIMODAL, KINDS };
static const char *const kind_names[KINDS] = {"step x3", "ramp x3", "bimodal 1 % / 5 s"};

struct ending { /* one request that will end */
    struct ev_request ev;
};
struct bin {
    struct ending *at;
    size_t count, room;
};
struct tally {
    uint64_t sent, false_cuts;
};
struct run {
    struct engine *e;
    struct rng rng;
    enum kind kind;
    uint64_t now_us;
    struct bin bins[BINS];
    double *learned_us; /* latencies of the learning time, for the baselines and q99.9 */
    size_t learned_count;
    struct tally ours, p99_3sd, fixed_15s; /* during the disturbance */
    double p99_3sd_us;
    double give_up_max_us, give_up_sum_us;
    uint64_t hung;
    uint32_t reverts;
};

static int checks;
static int failures;

static void check(int is_ok, const char *what)
{
    checks++;
    failures += !is_ok;
    printf("%s %d - %s\n", is_ok ? "ok" : "not ok", checks, what);
}

static void feed(struct run *r, const struct ev_head *ev)
{
    static union ev_any room[256];
    struct engine_out out = {.at = room, .max = 256};
    engine_feed(r->e, ev, &out);
    for (size_t i = 0; i < out.count; i++)
        r->reverts += room[i].head.type == EV_OUTCOME && room[i].outcome.is_reverted;
    if (getenv("FB_SIM_TRACE"))
        for (size_t i = 0; i < out.count; i++)
            if (room[i].head.type == EV_DECISION) {
                struct buf b;
                buf_init(&b, 4096);
                engine_explain(r->e, &room[i].decision, &b);
                printf("# %5.1f s %s\n", (double)r->now_us / 1e6, buf_str(&b));
                buf_fini(&b);
            }
}

static void name_target(struct run *r, enum ev_kind kind, uint16_t number, const char *name)
{
    struct ev_name n = EV_INIT(NAME, name, 0);
    n.kind = (uint8_t)kind;
    n.number = number;
    n.parent = 0;
    n.version = EV_NONE;
    snprintf(n.name, sizeof n.name, "%s", name);
    feed(r, &n.head);
}

static struct run *run_new(enum kind kind, uint64_t seed)
{
    struct run *r = calloc(1, sizeof *r);
    struct engine_target t = {.kind = EV_KIND_ROUTE, .name = "shop /"};
    if (!r || !(r->e = engine_new()) ||
        !(r->learned_us = calloc(2 * LEARN_S * RATE_PER_S, sizeof(double))))
        exit(1);
    r->kind = kind;
    rng_init(&r->rng, seed);
    for (int i = 0; i < KNOB_COUNT; i++)
        t.knob[i] = (struct knob_setting){NAN, NAN, NAN, EV_MODE_ACT};
    t.knob[KNOB_TIMEOUT_MS].configured = 15000;
    struct engine_conf conf = {.targets = &t, .target_count = 1, .mode = EV_MODE_ACT};
    engine_configure(r->e, &conf);
    name_target(r, EV_KIND_SERVICE, 0, "shop");
    name_target(r, EV_KIND_ROUTE, 0, "shop /");
    name_target(r, EV_KIND_ENDPOINT, 0, "shop 10.0.0.1:80");
    name_target(r, EV_KIND_ENDPOINT, 1, "shop 10.0.0.2:80");
    name_target(r, EV_KIND_ENDPOINT, 2, "shop 10.0.0.3:80");
    return r;
}

static void run_free(struct run *r)
{
    for (int i = 0; i < BINS; i++)
        free(r->bins[i].at);
    free(r->learned_us);
    engine_free(r->e);
    free(r);
}

/* Factor of the service time <since_us> into the disturbance. */
static double slowness(const struct run *r, double since_us)
{
    if (r->kind == BIMODAL || since_us < 0)
        return 1;
    double part = r->kind == STEP ? 1 : fmin(1, since_us / (DISTURB_S * 1e6));
    return 1 + 2 * part;
}

static double latency_us(struct run *r)
{
    double since_us = (double)r->now_us - LEARN_S * 1e6;
    double us = MEDIAN_US * slowness(r, since_us) * exp(SIGMA * rng_normal(&r->rng));
    if (r->kind == BIMODAL && rng_unit(&r->rng) < 0.01)
        us += 5e6;
    return us;
}

static double timeout_us(const struct run *r)
{
    return knob_effective(knob_row(KNOB_TIMEOUT_MS), &engine_book(r->e)->layer[KNOB_TIMEOUT_MS][0],
                          NULL) *
           1e3;
}

static void put(struct run *r, const struct ev_request *ev)
{
    struct bin *b = &r->bins[ev->head.time_us / 100000 % BINS];
    if (b->count == b->room) {
        b->room = b->room ? 2 * b->room : 64;
        b->at = realloc(b->at, b->room * sizeof *b->at);
        if (!b->at)
            exit(1);
    }
    b->at[b->count++].ev = *ev;
}

static void count(struct tally *t, double us, double limit_us)
{
    t->sent++;
    t->false_cuts += us > limit_us && us <= PATIENCE_US;
}

static void send(struct run *r)
{
    uint64_t hang_us = (LEARN_S + DISTURB_S) * US_PER_S;
    double wait_us = timeout_us(r);
    struct ev_request ev = EV_INIT(REQUEST, request, 0);
    ev.endpoint = (uint16_t)rng_below(&r->rng, 3);
    double us = latency_us(r);
    bool is_hung = r->now_us >= hang_us && ev.endpoint == 1;
    if (is_hung) {
        us = INFINITY;
        r->hung++;
        r->give_up_sum_us += wait_us;
        r->give_up_max_us = fmax(r->give_up_max_us, wait_us);
    } else if (r->now_us < LEARN_S * US_PER_S) {
        if (r->learned_count < 2 * LEARN_S * RATE_PER_S)
            r->learned_us[r->learned_count++] = us;
    } else if (r->now_us < hang_us) {
        count(&r->ours, us, wait_us);
        count(&r->p99_3sd, us, r->p99_3sd_us);
        count(&r->fixed_15s, us, 15e6);
    }
    bool is_cut = us > wait_us;
    ev.head.time_us = r->now_us + (uint64_t)(is_cut ? wait_us : us);
    ev.reason = is_cut ? REASON_UPSTREAM_TIMEOUT : REASON_ANSWERED;
    ev.flags = is_cut ? EV_REQUEST_FAILED | EV_REQUEST_CENSORED : 0;
    ev.upstream_us = (uint32_t)(is_cut ? wait_us : us);
    ev.total_us = ev.upstream_us;
    ev.class = EV_CLASS_DEFAULT;
    put(r, &ev);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The rule of thumb, made of the same minute that the loop learned from. */
static void make_baseline(struct run *r)
{
    double sum = 0;
    double squares = 0;
    size_t n = r->learned_count;
    for (size_t i = 0; i < n; i++) {
        sum += r->learned_us[i];
        squares += r->learned_us[i] * r->learned_us[i];
    }
    qsort(r->learned_us, n, sizeof(double), by_value);
    double mean = sum / (double)n;
    r->p99_3sd_us = r->learned_us[n * 99 / 100] + 3 * sqrt(squares / (double)n - mean * mean);
}

static void tick(struct run *r)
{
    uint64_t end_us = r->now_us + 100000;
    for (double at = rng_exp(&r->rng, 1e6 / RATE_PER_S); at < 1e5;
         at += rng_exp(&r->rng, 1e6 / RATE_PER_S)) {
        r->now_us = end_us - 100000 + (uint64_t)at;
        send(r);
    }
    struct bin *b = &r->bins[(end_us - 1) / 100000 % BINS];
    for (size_t i = 0; i < b->count; i++)
        feed(r, &b->at[i].ev.head);
    b->count = 0;
    r->now_us = end_us;
    struct ev_tick t = EV_INIT(TICK, tick, end_us);
    t.head.origin = EV_ORIGIN_BRAIN;
    feed(r, &t.head);
}

static double pct(const struct tally *t)
{
    return t->sent ? 100.0 * (double)t->false_cuts / (double)t->sent : 0;
}

static void scenario(enum kind kind, uint64_t seed)
{
    struct run *r = run_new(kind, seed);
    char text[200];
    for (int i = 0; i < (LEARN_S + DISTURB_S + HANG_S) * 10; i++) {
        tick(r);
        if (i == LEARN_S * 10 - 1)
            make_baseline(r);
    }
    /* of the distribution in force during the hang; 3.09 sigma is 99.9 % */
    double q999_us = kind == BIMODAL ? 5e6 : 3 * MEDIAN_US * exp(3.09 * SIGMA);
    printf("# %s, seed %llu: false time-outs %.3f %% (p99+3sd = %.0f ms: %.1f %%, 15 s: %.1f %%); "
           "give up on a hung "
           "endpoint: mean %.0f ms, max %.0f ms, q99.9 %.0f ms (15 s: 15000 ms); reverts %u\n",
           kind_names[kind], (unsigned long long)seed, pct(&r->ours), r->p99_3sd_us / 1e3,
           pct(&r->p99_3sd), pct(&r->fixed_15s), r->give_up_sum_us / (double)r->hung / 1e3,
           r->give_up_max_us / 1e3, q999_us / 1e3, r->reverts);
    snprintf(text, sizeof text, "%s, seed %llu: less than 1 %% false time-outs", kind_names[kind],
             (unsigned long long)seed);
    check(pct(&r->ours) < 1.0, text);
    snprintf(text, sizeof text, "%s, seed %llu: a hung endpoint is given up in less than 3 x q99.9",
             kind_names[kind], (unsigned long long)seed);
    check(r->hung > 100 && r->give_up_max_us < 3 * q999_us, text);
    if (kind == STEP) {
        snprintf(text, sizeof text, "%s, seed %llu: the rule p99 + 3 sd cuts more than 40 %%",
                 kind_names[kind], (unsigned long long)seed);
        check(pct(&r->p99_3sd) > 40, text);
    }
    run_free(r);
}

int main(int argc, char **argv)
{
    const char *env = getenv("FB_SIM_SEEDS");
    int seeds = env ? atoi(env) : 3;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--long") == 0)
            seeds = 10;
        else if (atoi(argv[i]) > 0) /* N, or the N of --seeds N */
            seeds = atoi(argv[i]);
    for (int kind = 0; kind < KINDS; kind++)
        for (int seed = 1; seed <= seeds; seed++)
            scenario((enum kind)kind, (uint64_t)seed);
    printf("1..%d\n", checks);
    return failures > 0;
}
