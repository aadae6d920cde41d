/* SPDX-License-Identifier: Apache-2.0 */
/* signal_scenarios: a release that harms a signal is taken back, and noise is not.
 *
 * The service answers 300 requests a second (Poisson), of which users of the old version place an
 * order with 20 %; those of the new one with less.  Orders scatter more than chance: their rate
 * wanders (an AR(1) process) by a few per cent.  Ten minutes before the release, ten after it.
 * With <is_named> orders and requests say their version, as an application does that sends
 * `version` with its events: then the two are compared at the same time.
 * `--seeds N` runs N seeds instead of 40, `--long` 200; `--harmless` only the harmless setups
 * with versions.  TAP. */
#include "base/rng.h"
#include "control/arbiter.h"
#include "control/control_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan {
    const char *says;
    double per_s, orders;  /* requests per second, orders per request */
    double drop;           /* share of orders that users of the new version do not place */
    double share;          /* of users that get it, in per cent */
    double wander;         /* of the order rate, relative standard deviation over minutes */
    double slope;          /* of the request rate, relative per minute */
    double outside;        /* orders that nobody places from two minutes after the release on */
    bool is_named;         /* events say their version */
    uint8_t value, better; /* enum signal_value, signal_better; better 0: higher */
    double spread;         /* of the logarithm of the value of an order */
    double stray;          /* share of the new version's orders that carry another word */
    uint32_t late_s;       /* orders come so much later than their request */
    double first;          /* share before the release, in per cent */
    double chosen;         /* requests by name that buy nothing, of all */
};
#define PLAN(says_, per_s_, orders_, drop_, share_, wander_, slope_, outside_, is_named_)          \
    {                                                                                              \
        .says = says_, .per_s = per_s_, .orders = orders_, .drop = drop_, .share = share_,         \
        .wander = wander_, .slope = slope_, .outside = outside_, .is_named = is_named_             \
    }
struct seen {
    double back_s;    /* after the release; NAN: never */
    double unusual_s; /* when an anomaly was told, after <changed_us>; NAN: never */
    double usual_s;   /* when its end was told */
    unsigned false_alarms;
};

#define LATE_TICKS 1024u
struct model {
    struct engine *e;
    const struct plan *plan;
    uint32_t waiting[LATE_TICKS][3]; /* orders by tick: of stable, of canary, of another word */
    uint64_t tick;
    struct rng rng;
    uint64_t now_us, released_us, changed_us;
    double wander;
    struct seen seen;
};

static int checks, failures;

static void check(int is_ok, const char *what, double figure)
{
    checks++;
    failures += !is_ok;
    printf("%s %d - %s (%.4g)\n", is_ok ? "ok" : "not ok", checks, what, figure);
}

static void note(struct model *m, const union ev_any *ev)
{
    if (ev->head.type == EV_DECISION && (ev->decision.reason == REASON_RELEASE_HARMED ||
                                         ev->decision.reason == REASON_RELEASE_VERSION_HARMED)) {
        m->seen.back_s = (double)(m->now_us - m->released_us) / 1e6;
        if (getenv("FB_SIM_TRACE")) {
            struct buf b;
            buf_init(&b, 4096);
            engine_explain(m->e, &ev->decision, &b);
            printf("# %6.1f s %s\n", m->seen.back_s, buf_str(&b));
            buf_fini(&b);
        }
    }
    if (ev->head.type == EV_ALERT && ev->alert.reason == REASON_ALERT_SIGNAL_UNUSUAL) {
        double after_s = m->changed_us ? (double)(m->now_us - m->changed_us) / 1e6 : NAN;
        if (ev->alert.is_over)
            m->seen.usual_s = after_s;
        else if (m->changed_us && isnan(m->seen.unusual_s))
            m->seen.unusual_s = after_s;
        else
            m->seen.false_alarms++;
    }
    if (ev->head.type == EV_ALERT && getenv("FB_SIM_TRACE"))
        printf("# %6.1f s %s\n", (double)m->now_us / 1e6, ev->alert.text);
}

static void feed(struct model *m, const struct ev_head *ev)
{
    static union ev_any room[256];
    struct engine_out out = {.at = room, .max = 256};
    engine_feed(m->e, ev, &out);
    for (size_t i = 0; i < out.count; i++)
        note(m, &room[i]);
}

static void configure(struct model *m, double share)
{
    struct engine_target t = {.kind = EV_KIND_ROUTE, .name = "shop /"};
    for (int i = 0; i < KNOB_COUNT; i++)
        t.knob[i] = (struct knob_setting){NAN, NAN, NAN, EV_MODE_ACT};
    t.knob[KNOB_SPLIT_PCT].configured = share;
    const struct plan *p = m->plan;
    struct signal_conf orders = {.name = "orders",
                                 .event = "orders.placed",
                                 .service = "shop",
                                 .value = p->value,
                                 .better = p->better ? p->better : SIGNAL_HIGHER,
                                 .change_min = 0.05,
                                 .old_version = ""};
    if (p->is_named)
        memcpy(orders.old_version, "stable", 7);
    struct engine_conf conf = {.targets = &t,
                               .target_count = 1,
                               .signals = &orders,
                               .signal_count = 1,
                               .mode = EV_MODE_ACT};
    engine_configure(m->e, &conf);
}

static void name(struct model *m, enum ev_kind kind, uint16_t number, const char *text)
{
    struct ev_name n = EV_INIT(NAME, name, m->now_us);
    n.kind = (uint8_t)kind;
    n.parent = kind == EV_KIND_SERVICE ? EV_NONE : 0;
    n.version = EV_NONE;
    n.number = number;
    snprintf(n.name, sizeof n.name, "%s", text);
    feed(m, &n.head);
}

static uint32_t poisson(struct rng *r, double mean)
{
    double limit = exp(-mean), p = 1;
    uint32_t k = 0;
    for (p *= rng_unit(r); p > limit; p *= rng_unit(r))
        k++;
    return k;
}

static double share_now(const struct model *m)
{
    return knob_effective(knob_row(KNOB_SPLIT_PCT), &engine_book(m->e)->layer[KNOB_SPLIT_PCT][0],
                          NULL);
}

/* What was ordered <late_s> ago. */
static void deliver(struct model *m, const struct plan *p)
{
    static const char *const labels[] = {"@stable", "@canary", "@v2"};
    uint32_t *waiting = m->waiting[m->tick++ % LATE_TICKS];
    for (int k = 0; k < 3; k++)
        for (; waiting[k] > 0; waiting[k]--) {
            struct ev_custom c = EV_INIT(CUSTOM, custom, m->now_us);
            c.value = p->spread > 0 ? 19.9 * exp(p->spread * rng_normal(&m->rng)) : 19.9;
            snprintf(c.name, sizeof c.name, "orders.placed%s", p->is_named ? labels[k] : "");
            feed(m, &c.head);
        }
}

static void step(struct model *m, const struct plan *p, double minutes)
{
    double per_tick = p->per_s / 10 * fmax(0.1, 1 + p->slope * minutes);
    uint32_t n = poisson(&m->rng, per_tick);
    /* correlated over 30 s */
    double keep = exp(-0.1 / 30);
    m->wander = keep * m->wander + sqrt(1 - keep * keep) * p->wander * rng_normal(&m->rng);
    double share = share_now(m) / 100;
    uint32_t *orders = m->waiting[(m->tick + p->late_s * 10) % LATE_TICKS];
    bool is_outside = m->released_us && m->now_us - m->released_us > 120 * US_PER_S;
    for (uint32_t i = 0; i < n; i++) {
        struct ev_request r = EV_INIT(REQUEST, request, m->now_us);
        r.reason = REASON_ANSWERED;
        r.upstream_us = r.total_us = 20000;
        bool is_new = rng_unit(&m->rng) < share;
        r.version = is_new;
        feed(m, &r.head);
        double buys = p->orders * (1 + m->wander) * (is_new ? 1 - p->drop : 1) *
                      (is_outside ? 1 - p->outside : 1);
        if (rng_unit(&m->rng) >= buys)
            continue;
        orders[!is_new ? 0 : rng_unit(&m->rng) < p->stray ? 2 : 1]++;
    }
    for (uint32_t i = poisson(&m->rng, per_tick * p->chosen); i > 0; i--) {
        struct ev_request r = EV_INIT(REQUEST, request, m->now_us);
        r.reason = REASON_ANSWERED;
        r.version = 1;
        r.traits = EV_TRAIT_BIT(SPLIT_NAMED);
        feed(m, &r.head);
    }
    deliver(m, p);
    m->now_us += 100000;
    struct ev_tick t = EV_INIT(TICK, tick, m->now_us);
    t.head.origin = EV_ORIGIN_BRAIN;
    feed(m, &t.head);
}

static void begin(struct model *m, const struct plan *p, uint64_t seed)
{
    *m = (struct model){.plan = p, .now_us = 1000 * US_PER_S, .seen = {NAN, NAN, NAN, 0}};
    m->e = engine_new();
    if (!m->e)
        exit(1);
    rng_init(&m->rng, seed);
    configure(m, p->first);
    name(m, EV_KIND_SERVICE, 0, "shop");
    name(m, EV_KIND_ROUTE, 0, "shop /");
    name(m, EV_KIND_VERSION, 0, "shop stable");
    name(m, EV_KIND_VERSION, 1, "shop canary");
}

static struct seen run(const struct plan *p, uint64_t seed)
{
    struct model m;
    begin(&m, p, seed);
    for (int i = 0; i < 6000; i++)
        step(&m, p, i / 600.0);
    m.released_us = m.now_us;
    configure(&m, p->share);
    for (int i = 0; i < 6000 && isnan(m.seen.back_s); i++)
        step(&m, p, 10 + i / 600.0);
    engine_free(m.e);
    return m.seen;
}

/* Half an hour in which nothing happens, then 30 % fewer orders for five minutes, and five more. */
static struct seen watch(const struct plan *p, uint64_t seed)
{
    struct model m;
    struct plan worse = *p;
    worse.orders *= 1 - p->drop;
    begin(&m, p, seed);
    for (int i = 0; i < 18000; i++)
        step(&m, p, 0);
    m.changed_us = m.now_us;
    for (int i = 0; i < 3000; i++)
        step(&m, &worse, 0);
    for (int i = 0; i < 3000; i++)
        step(&m, p, 0);
    engine_free(m.e);
    return m.seen;
}

static void anomalies(const struct plan *p, unsigned seeds)
{
    unsigned told = 0, ended = 0, wrong = 0;
    double sum_s = 0, worst_s = 0;
    for (unsigned s = 1; s <= seeds; s++) {
        struct seen seen = watch(p, s);
        wrong += seen.false_alarms;
        if (isnan(seen.unusual_s) || seen.unusual_s > 300)
            continue;
        told++;
        sum_s += seen.unusual_s;
        worst_s = fmax(worst_s, seen.unusual_s);
        ended += seen.usual_s > 300;
    }
    printf("# %-58s told %u of %u, mean %.0f s, worst %.0f s; %u ended, %u wrong in %u hours\n",
           p->says, told, seeds, told ? sum_s / told : NAN, worst_s, ended, wrong, seeds / 2);
    check(told >= seeds * 95 / 100, "30 % fewer orders are told: seeds", told);
    check(worst_s <= 120, "  after seconds at most", worst_s);
    check(ended == told, "  and their end too: seeds", ended);
    check(wrong <= seeds / 20, "  wrong alarms", wrong);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Share of seeds that took it back, and the median and worst time of those that did. */
static double scenario(const struct plan *p, unsigned seeds, double *median_s, double *worst_s)
{
    static double took[10000];
    unsigned back = 0;
    for (unsigned s = 1; s <= seeds; s++) {
        struct seen seen = run(p, s);
        if (!isnan(seen.back_s))
            took[back++] = seen.back_s;
    }
    qsort(took, back, sizeof *took, by_value);
    *median_s = back ? took[back / 2] : NAN;
    *worst_s = back ? took[back - 1] : NAN;
    printf("# %-58s %5.1f %% of %u back, median %.0f s, worst %.0f s\n", p->says,
           100.0 * back / seeds, seeds, *median_s, *worst_s);
    return 100.0 * back / seeds;
}

/* Ordinary setups in which the sides would lie, or know little: nothing is taken back. */
static void harmless(unsigned seeds)
{
#define HARMLESS(text_, ...)                                                                       \
    {                                                                                              \
        .says = "named, harmless: " text_, .wander = 0.02, .is_named = true, __VA_ARGS__           \
    }
#define SUM .value = SIGNAL_SUM, .spread = 1
#define FEW .per_s = 30, .orders = 0.1
#define MANY .per_s = 100, .orders = 0.2
    static const struct plan plans[] = {
        HARMLESS("5 %, the new one says another word", .share = 5, .stray = 1, MANY),
        HARMLESS("20 %, a third says another word", .share = 20, .stray = 0.3, MANY),
        HARMLESS("20 %, 50 orders/s, one in nine too", .per_s = 250, .orders = 0.2, .share = 20,
                 .stray = 0.11),
        HARMLESS("20 %, orders come 20 s later", .share = 20, .late_s = 20, MANY),
        HARMLESS("20 %, orders come 45 s later", .share = 20, .late_s = 45, MANY),
        HARMLESS("10 to 50 %, orders come 45 s later", .first = 10, .share = 50, .late_s = 45,
                 MANY),
        HARMLESS("20 to 30 %, orders come 45 s later", .first = 20, .share = 30, .late_s = 45,
                 MANY),
        HARMLESS("5 %, testers by name", .share = 5, .chosen = 0.02, MANY),
        HARMLESS("1 %, 3 orders/s", .share = 1, FEW),
        HARMLESS("5 %, 3 orders/s", .share = 5, FEW),
        HARMLESS("10 %, 3 orders/s", .share = 10, FEW),
        HARMLESS("sum, 1 %, 3 orders/s", .share = 1, FEW, SUM),
        HARMLESS("sum, 5 %, 3 orders/s", .share = 5, FEW, SUM),
        HARMLESS("sum, 10 %, 3 orders/s", .share = 10, FEW, SUM),
        HARMLESS("sum, 1 %, 20 orders/s", .share = 1, SUM, MANY),
        HARMLESS("sum, 5 %, 20 orders/s", .share = 5, SUM, MANY),
        HARMLESS("sum, 10 %, 20 orders/s", .share = 10, SUM, MANY),
        HARMLESS("sum, 10 %, less is better", .share = 10, .better = SIGNAL_LOWER, SUM, MANY),
        HARMLESS("mean, 10 %, 3 orders/s", .share = 10, FEW, .value = SIGNAL_MEAN, .spread = 1),
        HARMLESS("mean, 5 %, 20 orders/s", .share = 5, .value = SIGNAL_MEAN, .spread = 1, MANY),
        HARMLESS("mean, 5 %, less is better", .share = 5, .better = SIGNAL_LOWER,
                 .value = SIGNAL_MEAN, .spread = 1, MANY),
    };
    double median_s, worst_s, wrong = 0;
    for (size_t i = 0; i < FB_COUNT(plans); i++)
        wrong = fmax(wrong, scenario(&plans[i], seeds, &median_s, &worst_s));
    check(wrong <= 1, "harmless releases of the worst of these setups that are taken back: %",
          wrong);
}

/* The same with events that say their version. */
static void named(unsigned seeds)
{
    static const struct plan plans[] = {
        PLAN("named: 10 % fewer orders, half of the users", 300, 0.2, 0.1, 50, 0.02, 0, 0, true),
        PLAN("named: 30 % fewer orders, a fifth of the users", 300, 0.2, 0.3, 20, 0.02, 0, 0, true),
        PLAN("named: 30 % fewer orders, a fifth, wander by 5 %", 300, 0.2, 0.3, 20, 0.05, 0, 0,
             true),
        PLAN("named: half of the orders, a twentieth of the users", 300, 0.2, 0.5, 5, 0.02, 0, 0,
             true),
        PLAN("named: harmless, half of the users", 300, 0.2, 0, 50, 0.02, 0, 0, true),
        PLAN("named: harmless, a tenth, orders wander by 5 %", 300, 0.2, 0, 10, 0.05, 0, 0, true),
        PLAN("named: harmless, everybody buys 30 % less", 300, 0.2, 0, 50, 0.02, 0, 0.3, true),
        PLAN("named: harmless, few orders (3 a second)", 30, 0.1, 0, 50, 0.02, 0, 0, true),
    };
    double median_s, worst_s, wrong = 0, back;
    for (size_t i = 0; i < 4; i++) {
        back = scenario(&plans[i], seeds, &median_s, &worst_s);
        check(back >= 99.9, "harm of a named version is taken back: % of seeds", back);
    }
    for (size_t i = 4; i < FB_COUNT(plans); i++)
        wrong += scenario(&plans[i], seeds, &median_s, &worst_s) / (double)(FB_COUNT(plans) - 4);
    check(wrong <= 1, "harmless named releases that are taken back: %", wrong);
}

int main(int argc, char **argv)
{
    static const struct plan plans[] = {
        PLAN("10 % fewer orders, all users", 300, 0.2, 0.1, 100, 0.02, 0, 0, false),
        PLAN("10 % fewer orders, half of the users", 300, 0.2, 0.1, 50, 0.02, 0, 0, false),
        PLAN("30 % fewer orders, a fifth of the users", 300, 0.2, 0.3, 20, 0.02, 0, 0, false),
        PLAN("harmless, all users", 300, 0.2, 0, 100, 0.02, 0, 0, false),
        PLAN("harmless, half of the users", 300, 0.2, 0, 50, 0.02, 0, 0, false),
        PLAN("harmless, half of the users, orders wander by 5 %", 300, 0.2, 0, 50, 0.05, 0, 0,
             false),
        PLAN("harmless, all users, load falls by 5 % a minute", 300, 0.2, 0, 100, 0.02, -0.04, 0,
             false),
        PLAN("harmless, few orders (3 a second)", 30, 0.1, 0, 100, 0.02, 0, 0, false),
    };
    unsigned seeds = 40;
    bool is_harmless_only = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0)
            seeds = 200;
        is_harmless_only |= strcmp(argv[i], "--harmless") == 0;
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = (unsigned)strtoul(argv[++i], NULL, 10);
    }
    double median_s, worst_s, back, wrong = 0;
    if (is_harmless_only) {
        harmless(seeds);
        printf("1..%d\n", checks);
        return failures > 0;
    }
    back = scenario(&plans[0], seeds, &median_s, &worst_s);
    check(back >= 99, "10 % fewer orders of all users are taken back: % of seeds", back);
    check(median_s <= 120, "  median seconds", median_s);
    back = scenario(&plans[1], seeds, &median_s, &worst_s);
    check(back >= 40, "10 % fewer orders of half of the users: % of seeds", back);
    back = scenario(&plans[2], seeds, &median_s, &worst_s);
    check(back >= 60, "30 % fewer orders of a fifth of the users: % of seeds", back);
    for (size_t i = 3; i < FB_COUNT(plans); i++)
        wrong += scenario(&plans[i], seeds, &median_s, &worst_s) / (double)(FB_COUNT(plans) - 3);
    check(wrong <= 1, "harmless releases that are taken back: %", wrong);
    named(seeds >= 100 ? seeds : seeds / 2);
    harmless(seeds >= 100 ? seeds : seeds / 4 + 1);
    anomalies(&(struct plan)PLAN("30 % fewer orders for five minutes, wander 2 %", 300, 0.2, 0.3, 0,
                                 0.02, 0, 0, false),
              seeds / 2);
    anomalies(
        &(struct plan)PLAN("the same, orders wander by 5 %", 300, 0.2, 0.3, 0, 0.05, 0, 0, false),
        seeds / 2);
    printf("1..%d\n", checks);
    return failures > 0;
}
