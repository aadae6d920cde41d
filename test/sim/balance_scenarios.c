/* SPDX-License-Identifier: Apache-2.0 */
/* Balance: the table of loops.md section 1 as pass bands, for the score alone and with everything
 * on. Bands are the table's figures + 5 %, the noise between simulators. */
#include "tap.h"

static const char alone[] = "limit=none eject=off retry_pct=0";

struct band {
    const char *name;
    double p99_ms, p999_ms;         /* the score alone */
    double p99_all_ms, p999_all_ms; /* limit learned, ejection and retries on */
};
#define ROW(n, a, b, c, d)                                                                         \
    {                                                                                              \
        .name = (n), .p99_ms = (a), .p999_ms = (b), .p99_all_ms = (c), .p999_all_ms = (d)          \
    }
static const struct band bands[] = {
    ROW("s1", 68, 147, 70, 150), ROW("s2", 66, 142, 66, 147),   ROW("s3", 66, 142, 67, 145),
    ROW("s6", 67, 147, 67, 149), ROW("s7", 129, 400, 129, 400), ROW("s8", 68, 148, 69, 153),
    ROW("s9", 69, 148, 70, 150),
};
#undef ROW

static void score_alone(struct tap *t)
{
    for (size_t i = 0; i < FB_COUNT(bands); i++) {
        const struct band *b = &bands[i];
        struct tap_mean m = tap_run(b->name, alone, t->seeds);
        tap_at_most(t, m.p99_ms, b->p99_ms, "%s: p99 of the score alone in ms", b->name);
        tap_at_most(t, m.p999_ms, b->p999_ms, "%s: p99.9 of the score alone in ms", b->name);
        tap_at_least(t, m.good_pct, 99.99, "%s: the score alone loses nothing", b->name);
    }
}

static void all_on(struct tap *t)
{
    unsigned seeds = t->seeds < 10 ? t->seeds : t->seeds * 2 / 5;
    for (size_t i = 0; i < FB_COUNT(bands); i++) {
        const struct band *b = &bands[i];
        struct tap_mean m = tap_run(b->name, "", seeds);
        tap_at_most(t, m.p99_ms, b->p99_all_ms, "%s: p99 with limit and ejection in ms", b->name);
        tap_at_most(t, m.p999_ms, b->p999_all_ms, "%s: p99.9 with limit and ejection in ms",
                    b->name);
        tap_at_least(t, m.good_pct, 99.95, "%s: no false refusals", b->name);
    }
}

/* N gateways that tell each other their load every 100 ms, against one that knows everything. */
static void gateways_as_one(struct tap *t, const char *name, unsigned gateways)
{
    char many[120];
    snprintf(many, sizeof many, "%s gateways=%u exchange_ms=100", alone, gateways);
    struct tap_mean one = tap_run(name, "limit=none eject=off retry_pct=0 gateways=1", t->seeds);
    struct tap_mean all = tap_run(name, many, t->seeds);
    tap_at_most(t, all.p99_ms / one.p99_ms, 1.1, "%s: p99 of %u gateways over p99 of one", name,
                gateways);
    tap_at_most(t, all.p50_ms / one.p50_ms, 1.15, "%s: the same for the median", name);
    struct tap_mean deaf = tap_run(name, alone, t->seeds);
    tap_at_most(t, all.p50_ms / deaf.p50_ms, 1.02, "%s: what they tell each other does no harm",
                name);
}

/* The same with longer times and fewer requests: what each gateway learns for itself of slow
 * endpoints is then the larger part of the tail. */
static void gateways_learn_as_one(struct tap *t, const char *name, unsigned gateways)
{
    char many[120];
    snprintf(many, sizeof many, "%s stretch=3 gateways=%u exchange_ms=100", alone, gateways);
    struct tap_mean one =
        tap_run(name, "limit=none eject=off retry_pct=0 stretch=3 gateways=1", t->seeds);
    struct tap_mean all = tap_run(name, many, t->seeds);
    tap_at_most(t, all.p99_ms / one.p99_ms, 1.1,
                "%s, times x 3: p99 of %u gateways over p99 of one", name, gateways);
    tap_at_most(t, all.p999_ms / one.p999_ms, 1.2, "%s, times x 3: the same for p99.9", name);
}

static void peers_are_worse(struct tap *t)
{
    struct tap_mean best = tap_run("s2", alone, t->seeds);
    struct tap_mean two =
        tap_run("s2", "balance=random_two limit=none eject=off retry_pct=0", t->seeds);
    tap_at_most(t, best.p99_ms / two.p99_ms, 0.5,
                "s2: p99 is at most half of power of two choices");
    struct tap_mean six = tap_run("s6", alone, t->seeds);
    tap_at_most(t, six.p99_ms / best.p99_ms, 1.1, "s6: four gateways are within 10 %% of one");
    gateways_as_one(t, "s6", 4);
    gateways_as_one(t, "s9", 8);
    gateways_learn_as_one(t, "s6", 4);
    gateways_learn_as_one(t, "s9", 8);
    struct tap_mean turns =
        tap_run("s3", "balance=round_robin limit=none eject=off retry_pct=0", t->seeds);
    tap_at_most(t, turns.good_pct, 99.99,
                "s3: round robin loses requests here, so the scenario can tell");
}

static void cold_start_and_sinkhole(struct tap *t)
{
    struct tap_mean with = tap_run("s4", "", t->seeds);
    tap_at_most(t, with.failed_pct + with.shed_pct, 0.01, "s4: nobody pays for the newcomer");
    tap_at_most(t, with.p99_ms, 70, "s4: p99 with a newcomer in ms");
    struct tap_mean s5 = tap_run("s5", alone, t->seeds);
    tap_at_most(t, s5.failed_pct, 0.1, "s5: 5xx to clients without retries and ejection");
    s5 = tap_run("s5", "", t->seeds);
    tap_at_most(t, s5.failed_pct, 0.005, "s5: 5xx to clients with everything on");
}

static void newcomer_is_used(struct tap *t)
{
    struct tap_mean m = tap_run("s4", alone, t->seeds);
    tap_at_least(t, m.share_last_pct, 9,
                 "s4: share of the newcomer in its first minute, score alone (fair 20)");
    m = tap_run("s4", "", t->seeds);
    tap_at_least(t, m.share_last_pct, 9,
                 "s4: share of the newcomer in its first minute, everything on");
}

static void same_seed_same_outcome(struct tap *t)
{
    static struct sim_overrides o;
    static struct sim_result a, b, c;
    struct fb_err err;
    sim_overrides_init(&o);
    const struct sim_scenario *sc = sim_scenario_find("priority");
    bool is_good = sim_run(sc, 7, &o, &a, &err) == FB_OK && sim_run(sc, 7, &o, &b, &err) == FB_OK &&
                   sim_run(sc, 8, &o, &c, &err) == FB_OK;
    tap_at_least(t, is_good && a.hash == b.hash && a.events == b.events, 1,
                 "one seed is one outcome");
    tap_at_least(t, is_good && a.hash != c.hash, 1, "another seed is another outcome");
}

static void keys_stay_home(struct tap *t)
{
    struct tap_mean m = tap_run("hash_users", "", t->seeds);
    tap_at_least(t, m.same_pct, 82, "hash_users: users meet their endpoint again in %% of sends");
    tap_at_least(t, m.good_pct, 99.95, "hash_users: good while one leaves and comes back");
    tap_at_most(t, m.p99_ms, 75, "hash_users: p99 in ms");
    m = tap_run("hash_users", "balance=adaptive", t->seeds);
    tap_at_most(t, m.same_pct, 20, "hash_users: without hashing they meet it by chance");
    m = tap_run("hash_hot", "", t->seeds);
    tap_at_least(t, m.good_pct, 99.95, "hash_hot: good with one user worth three endpoints");
    tap_at_most(t, m.p99_ms, 90, "hash_hot: p99 in ms");
    m = tap_run("hash_hot", "limit=none", t->seeds);
    tap_at_most(t, m.p99_ms, 120, "hash_hot: p99 in ms, the bound of the mean alone");
}

static void zones_keep_and_spill(struct tap *t)
{
    struct tap_mean m = tap_run("zone_home", "", t->seeds);
    tap_at_most(t, m.far_pct, 5, "zone_home: share of another zone at load 0.5 in %%");
    tap_at_most(t, m.p99_ms, 75, "zone_home: p99 in ms");
    m = tap_run("zone_spill", "", t->seeds);
    tap_at_least(t, m.far_pct, 30, "zone_spill: what the own zone cannot carry goes away in %%");
    tap_at_most(t, m.far_pct, 70, "zone_spill: and no more than that in %%");
    tap_at_least(t, m.good_pct, 99.95, "zone_spill: good");
    tap_at_most(t, m.p99_ms, 80, "zone_spill: p99 in ms, the own zone is not overloaded");
    m = tap_run("zone_fault", "", t->seeds);
    tap_at_least(t, m.good_pct, 99.9, "zone_fault: good while the own zone is dead");
    m = tap_run("zone_slow", "", t->seeds);
    tap_at_least(t, m.good_pct, 99.9, "zone_slow: good while the own zone is slow");
    tap_at_most(t, m.p99_ms, 300, "zone_slow: p99 in ms");
}

static void spare_ones_wait_and_help(struct tap *t)
{
    struct tap_mean m = tap_run("spare_tier", "", t->seeds);
    tap_at_least(t, m.good_pct, 99.8, "spare_tier: good while the first are dead");
    tap_at_most(t, m.share_last_pct, 20,
                "spare_tier: share of one of two in %% (dead for 15 of 55 s: 13.6)");
}

static void reports_move_the_share(struct tap *t)
{
    struct tap_mean m = tap_run("load_reports", "", t->seeds);
    tap_at_most(t, m.share0_pct, 16, "load_reports: share of one of the small in %% (fair 12.5)");
    tap_at_least(t, m.share0_pct, 10, "load_reports: share of one of the small in %% (fair 12.5)");
}

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    same_seed_same_outcome(&t);
    score_alone(&t);
    all_on(&t);
    peers_are_worse(&t);
    cold_start_and_sinkhole(&t);
    newcomer_is_used(&t);
    keys_stay_home(&t);
    zones_keep_and_spill(&t);
    spare_ones_wait_and_help(&t);
    reports_move_the_share(&t);
    return tap_end(&t);
}
