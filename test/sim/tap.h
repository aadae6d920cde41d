/* SPDX-License-Identifier: Apache-2.0 */
/* tap: pass bands over seeds, printed as TAP.
 *
 * `--long` runs 50 seeds instead of 10; `--seeds N` any number.  Figures are printed with each
 * line, so that a log shows how close a band is.  Threads: one. */
#ifndef FB_TEST_SIM_TAP_H
#define FB_TEST_SIM_TAP_H
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/sim.h"

struct tap {
    unsigned count, failed, seeds;
};

/* Means over the seeds, and the worst seed where a single bad one matters. */
struct tap_mean {
    double p50_ms, p99_ms, p999_ms, good_pct, good_pct_worst, failed_pct, shed_pct, share0_pct,
        share_last_pct, same_pct, far_pct, timeout_ms;
    double class_pct[EV_CLASS_COUNT], amplification, second_amplification;
    double heavy_pct, light_pct, light_worst_pct; /* the other user who had least, in any run */
    double phase_good_pct[SIM_PHASES_MAX], phase_capacity_pct[SIM_PHASES_MAX],
        phase_p99_ms[SIM_PHASES_MAX];
    double phase_class_pct[SIM_PHASES_MAX][EV_CLASS_COUNT];
    double second_good_pct[SIM_SECONDS_MAX]; /* by time of arrival */
};

static inline struct tap tap_begin(int argc, char **argv)
{
    struct tap t = {.seeds = 10};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0)
            t.seeds = 50;
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            t.seeds = (unsigned)strtoul(argv[++i], NULL, 10);
    }
    return t;
}

static inline int tap_end(const struct tap *t)
{
    printf("1..%u\n", t->count);
    return t->failed > 0;
}

/* One line; <holds> with the figure behind it. */
static inline void tap_say(struct tap *t, bool holds, const char *fmt, va_list args)
{
    t->count++;
    t->failed += !holds;
    printf("%s %u - ", holds ? "ok" : "not ok", t->count);
    vprintf(fmt, args);
}
FB_PRINTF(4, 5)
static inline void tap_at_most(struct tap *t, double seen, double most, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tap_say(t, seen <= most, fmt, args);
    va_end(args);
    printf(" (%.4g <= %.4g)\n", seen, most);
}
FB_PRINTF(4, 5)
static inline void tap_at_least(struct tap *t, double seen, double least, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tap_say(t, seen >= least, fmt, args);
    va_end(args);
    printf(" (%.4g >= %.4g)\n", seen, least);
}

static inline void tap_add(struct tap_mean *m, const struct sim_result *r, double n)
{
    double offered = r->all.offered > 0 ? (double)r->all.offered / 100 : 1;
    double good = sim_good_pct(&r->all);
    m->p50_ms += r->p50_ms / n;
    m->p99_ms += r->p99_ms / n;
    m->p999_ms += r->p999_ms / n;
    m->good_pct += good / n;
    m->good_pct_worst = good < m->good_pct_worst ? good : m->good_pct_worst;
    m->failed_pct += (double)r->all.failed / offered / n;
    m->shed_pct += (double)r->all.shed / offered / n;
    m->share0_pct += 100 * r->share0 / n;
    m->timeout_ms += r->timeout_ms / n;
    m->share_last_pct += 100 * r->share_last / n;
    m->far_pct += 100 * r->far_share / n;
    m->same_pct += 100 * r->same_endpoint / n;
    m->heavy_pct += sim_good_pct(&r->heavy) / n;
    m->light_pct += sim_good_pct(&r->light) / n;
    if (r->light_worst_pct < m->light_worst_pct)
        m->light_worst_pct = r->light_worst_pct;
    double second = (double)r->worst_attempts / 1000;
    m->amplification = r->amplification > m->amplification ? r->amplification : m->amplification;
    m->second_amplification = second > m->second_amplification ? second : m->second_amplification;
    for (int c = 0; c < EV_CLASS_COUNT; c++)
        m->class_pct[c] += sim_good_pct(&r->class[c]) / n;
    for (int i = 0; i < SIM_PHASES_MAX; i++) {
        m->phase_good_pct[i] += sim_good_pct(&r->phase[i]) / n;
        m->phase_capacity_pct[i] += r->capacity_good_pct[i] / n;
        m->phase_p99_ms[i] += r->phase_p99_ms[i] / n;
        for (int c = 0; c < EV_CLASS_COUNT; c++)
            m->phase_class_pct[i][c] += sim_good_pct(&r->phase_class[i][c]) / n;
    }
    for (int s = 0; s < SIM_SECONDS_MAX; s++) {
        double all = r->by_second[s].offered;
        m->second_good_pct[s] += (all > 0 ? 100 * r->by_second[s].good / all : 100) / n;
    }
}

/* Runs <name> with each seed; <set> is "key=value key=value", "" for the product's defaults.  Ends
 * the process when the run itself fails. */
static inline struct tap_mean tap_run(const char *name, const char *set, unsigned seeds)
{
    static struct sim_overrides o;
    static struct sim_result result;
    struct fb_err err = {.text = "unknown scenario"};
    const struct sim_scenario *sc = sim_scenario_find(name);
    sim_overrides_init(&o);
    bool is_good = sc != NULL;
    char copy[256];
    snprintf(copy, sizeof(copy), "%s", set);
    for (char *word = strtok(copy, " "); is_good && word; word = strtok(NULL, " ")) {
        char *value = strchr(word, '=');
        *value++ = 0;
        is_good = sim_override(&o, word, value, &err) == FB_OK;
    }
    struct tap_mean m = {.good_pct_worst = 100, .light_worst_pct = 100};
    for (unsigned seed = 1; is_good && seed <= seeds; seed++) {
        is_good = sim_run(sc, seed, &o, &result, &err) == FB_OK;
        tap_add(&m, &result, seeds);
    }
    if (!is_good) {
        printf("Bail out! %s: %s\n", name, err.text);
        exit(1);
    }
    return m;
}
#endif
