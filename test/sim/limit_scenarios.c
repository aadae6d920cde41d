/* SPDX-License-Identifier: Apache-2.0 */
/* Scenarios of the learned limit with pass bands, in virtual time.
 *
 *   limit_scenarios [--long] [--seeds N] [--first SEED] [--only WORD] [--policy NAME] [--brief]
 * [--trace]
 *
 * TAP on stdout (--brief: one line per scenario, a star where a band is missed): one line per
 * measure, with the median and the worst of the seeds.  Bands hold for the learner only; other
 * policies are printed for comparison.  doc/design/limit.md has the tables made with it. */
#include "limit_baselines.h"
#include "sim/limit_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS_MAX 200
#define MEASURES 6

enum kind {
    NO_KIND,
    IN_TIME,  /* % of the arrivals of a phase */
    HIGH,     /* the same of high priority */
    GOODPUT,  /* in time, % of <cap> x length */
    SHED,     /* % of the arrivals of a phase refused */
    FLAT,     /* slowest 250 ms, in time, % of the median of the phase */
    RECOVERY, /* seconds from the start of the phase until 2 s in a row are in time to 95 % */
    P50       /* ms in the endpoint, of answers in time */
};
struct measure {
    enum kind kind;
    uint32_t phase;
    double median, worst; /* bands: at least, or at most for SHED, RECOVERY and P50 */
};
/* 0 stands for the usual: 4 workers, 20 ms, exponential, alpha 0.1. */
struct shape {
    double workers, mean_ms, sigma, alpha;
    enum limit_model_dist dist;
    double load; /* overload factor or the like */
    uint32_t clients;
    bool is_long; /* only with --long: takes seconds */
};
struct scenario {
    const char *name;
    void (*make)(struct limit_model_conf *conf, double *cap_per_s, const struct shape *shape);
    struct shape shape;
    struct measure measure[MEASURES];
};

static void make_base(struct limit_model_conf *c, uint32_t endpoints, const struct shape *s)
{
    *c = (struct limit_model_conf){.endpoints = endpoints,
                                   .high_share = 0.2,
                                   .objective_us = 500e3,
                                   .wait_max_us = 250e3,
                                   .clients = s->clients};
    double workers = s->workers > 0 ? s->workers : 4;
    double mean_ms = s->mean_ms > 0 ? s->mean_ms : 20;
    double alpha = s->alpha == 0 ? 0.1 : fmax(0, s->alpha);
    for (uint32_t i = 0; i < endpoints; i++)
        c->ep[i] = (struct limit_model_endpoint){.workers = (uint32_t)workers,
                                                 .mean_us = mean_ms * 1e3,
                                                 .sigma = s->sigma,
                                                 .dist = s->dist,
                                                 .alpha = alpha,
                                                 .slow_max = 3};
}
static double cap_of(const struct limit_model_conf *c)
{
    double cap = 0;
    for (uint32_t i = 0; i < c->endpoints; i++)
        cap += c->ep[i].workers / c->ep[i].mean_us * 1e6;
    return cap;
}
static void phase(struct limit_model_conf *c, double s, double per_s)
{
    c->phase[c->phases].s = s;
    c->phase[c->phases++].per_s = per_s;
}
static void change(struct limit_model_conf *c, double at_s, double workers, double mean_x)
{
    c->change[c->changes].at_s = at_s;
    c->change[c->changes].ep = -1;
    c->change[c->changes].workers = workers;
    c->change[c->changes++].mean_x = mean_x;
}

static void make_s7(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    c->ep[2].mean_us *= 5;
    *cap = cap_of(c);
    phase(c, 4, 0.6 * *cap);
    phase(c, 10, s->load * *cap);
    phase(c, 15, 0.6 * *cap);
}
static void make_s8(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    c->ep[0].pause_every_us = 10 * US_PER_S;
    c->ep[0].pause_for_us = 2 * US_PER_S;
    *cap = cap_of(c);
    phase(c, 30, 0.6 * *cap);
}
static void make_s12(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    *cap = cap_of(c);
    phase(c, 4, 0.6 * *cap);
    phase(c, 8, 3.2 * *cap);
    phase(c, 6, 3.2 * *cap);
    change(c, 4.05, 4, 1);
    change(c, 12.05, 1, 1);
}
static void make_service_x2(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    *cap = cap_of(c) / 2;
    phase(c, 10, 1.2 * *cap);
    phase(c, 15, 1.2 * *cap);
    change(c, 10, 1, 2);
}
static void make_steady(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    *cap = cap_of(c);
    phase(c, 4, s->load * *cap);
    phase(c, 56, s->load * *cap);
}
static void make_cold(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 3, s);
    *cap = cap_of(c);
    phase(c, 10, s->load * *cap);
}
static void make_b(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 1, s);
    c->objective_us = 1e6;
    c->wait_max_us = 500e3;
    *cap = cap_of(c);
}
static void make_b1(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_b(c, cap, s);
    phase(c, 120, s->load * *cap);
    *cap *= s->load;
}
static void make_b2(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_b(c, cap, s);
    phase(c, 1500, s->load * *cap);
    phase(c, 300, s->load * *cap);
    *cap *= s->load;
}
static void make_b4(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_b(c, cap, s);
    phase(c, 30, 0.8 * *cap);
    phase(c, 60, 0.8 * *cap);
    change(c, 30, 0.5, 1);
    *cap *= 0.8;
}
static void make_b5(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_b(c, cap, s);
    phase(c, 30, 0.6 * *cap);
    phase(c, 60, 0.6 * *cap);
    change(c, 30, 1, 2);
    *cap *= 0.6;
}
/* Closed loops against a fast endpoint on a real-looking network: 60 us and 40 us of noise, turns
 * of 50 us. */
static void make_closed(struct limit_model_conf *c, double *cap, const struct shape *s)
{
    make_base(c, 1, s);
    c->ep[0].network_us = 60;
    c->ep[0].noise_us = 40;
    c->turn_us = 50;
    c->ep[0].alpha = 0;
    phase(c, 1, 1);
    phase(c, 1, 1);
    double round_us = s->mean_ms * 1e3 + 60 + 40 + 25;
    *cap = fmin(s->workers / s->mean_ms * 1e3, s->clients / round_us * 1e6);
}

#define ALPHA_NONE (-1.0)
/* clang-format off: rows of a table
 * Bands: {kind, phase, median, worst}.  What was measured (the lower of seeds 1000-1009 and
 * 10000-10049, 22 November 2026) less 1.5 points in the median and 3 in the worst seed, 0.5 and 1.5
 * near 100: the noise of a median of ten.  Costs: 25-50 % more.  Ten of the 198 were set again by
 * the same rule after a run of 50 seeds later that day.  doc/design/limit.md names what stays
 * below the bars of the design. */
#define SHAPE(...)                                                                                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define BANDS(...)                                                                                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define ROW(text, maker, how, ...)                                                                 \
    {                                                                                              \
        .name = text, .make = maker, .shape = how, .measure = __VA_ARGS__                          \
    }
#define B_SHAPE .workers = 16, .mean_ms = 50, .alpha = ALPHA_NONE, .dist = LIMIT_MODEL_LOGNORMAL
static const struct scenario scenarios[] = {
    ROW("S7 2x", make_s7, SHAPE(.load = 2),
        BANDS({IN_TIME, 0, 99.5, 98}, {GOODPUT, 1, 97.5, 93}, {HIGH, 1, 99, 96.5},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 5x", make_s7, SHAPE(.load = 5),
        BANDS({IN_TIME, 0, 99.5, 98}, {GOODPUT, 1, 98.5, 94}, {HIGH, 1, 97, 91.5},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 10x", make_s7, SHAPE(.load = 10),
        BANDS({IN_TIME, 0, 99.5, 98}, {GOODPUT, 1, 98, 92.5}, {HIGH, 1, 48, 44},
              {RECOVERY, 2, 0.75, 1}, {SHED, 0, 0, 0})),
    ROW("S8", make_s8, SHAPE(.load = 0), BANDS({IN_TIME, 0, 99.8, 99.5}, {SHED, 0, 0, 0})),
    ROW("S12", make_s12, SHAPE(.load = 0),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 98.5}, {GOODPUT, 2, 100.5, 93},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 97.5})),
    ROW("service x2", make_service_x2, SHAPE(.load = 0),
        BANDS({GOODPUT, 1, 93, 80.5}, {HIGH, 1, 99.5, 98})),
    ROW("cold 2x", make_cold, SHAPE(.load = 2),
        BANDS({GOODPUT, 0, 98, 87.5}, {HIGH, 0, 99.5, 98.5})),
    ROW("steady 60 %", make_steady, SHAPE(.load = 0.6), BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0})),
    ROW("S7 2x, 1 worker", make_s7, SHAPE(.load = 2, .workers = 1),
        BANDS({IN_TIME, 0, 97.5, 92.5}, {GOODPUT, 1, 94.5, 81}, {HIGH, 1, 96, 90.5},
              {RECOVERY, 2, 1, 15}, {SHED, 0, 0, 0})),
    ROW("S7 5x, 1 worker", make_s7, SHAPE(.load = 5, .workers = 1),
        BANDS({IN_TIME, 0, 97.5, 92.5}, {GOODPUT, 1, 95, 76.5}, {HIGH, 1, 91.5, 78},
              {RECOVERY, 2, 0.75, 15}, {SHED, 0, 0, 1})),
    ROW("S12, 1 worker", make_s12, SHAPE(.workers = 1),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 94}, {GOODPUT, 2, 96, 84},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 88})),
    ROW("cold 2x, 1 worker", make_cold, SHAPE(.load = 2, .workers = 1),
        BANDS({GOODPUT, 0, 85, 61}, {HIGH, 0, 98, 86.5})),
    ROW("service x2, 1 worker", make_service_x2, SHAPE(.workers = 1),
        BANDS({GOODPUT, 1, 94.5, 85.5}, {HIGH, 1, 99.5, 96.5})),
    ROW("S7 2x, 2 workers", make_s7, SHAPE(.load = 2, .workers = 2),
        BANDS({IN_TIME, 0, 99.5, 97.5}, {GOODPUT, 1, 95.5, 86}, {HIGH, 1, 97.5, 94},
              {RECOVERY, 2, 0.75, 4}, {SHED, 0, 0, 0})),
    ROW("S7 5x, 2 workers", make_s7, SHAPE(.load = 5, .workers = 2),
        BANDS({IN_TIME, 0, 99.5, 97.5}, {GOODPUT, 1, 96.5, 88.5}, {HIGH, 1, 94, 85.5},
              {RECOVERY, 2, 0.75, 4}, {SHED, 0, 0, 1.6})),
    ROW("S12, 2 workers", make_s12, SHAPE(.workers = 2),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 98.5}, {GOODPUT, 2, 99.5, 91},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 93})),
    ROW("cold 2x, 2 workers", make_cold, SHAPE(.load = 2, .workers = 2),
        BANDS({GOODPUT, 0, 95, 87}, {HIGH, 0, 99.5, 98.5})),
    ROW("S7 2x, 16 workers", make_s7, SHAPE(.load = 2, .workers = 16),
        BANDS({IN_TIME, 0, 99, 98}, {GOODPUT, 1, 98, 91.5}, {HIGH, 1, 99, 98},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 5x, 16 workers", make_s7, SHAPE(.load = 5, .workers = 16),
        BANDS({IN_TIME, 0, 99, 98}, {GOODPUT, 1, 98.5, 93.5}, {HIGH, 1, 99, 94.5},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S12, 16 workers", make_s12, SHAPE(.workers = 16),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 96.5}, {GOODPUT, 2, 101, 95},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 98})),
    ROW("cold 2x, 16 workers", make_cold, SHAPE(.load = 2, .workers = 16),
        BANDS({GOODPUT, 0, 98, 90.5}, {HIGH, 0, 99.5, 98.5})),
    ROW("steady 60 %, 16 workers", make_steady, SHAPE(.load = 0.6, .workers = 16),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0})),
    ROW("S7 2x, 64 workers", make_s7, SHAPE(.load = 2, .workers = 64),
        BANDS({IN_TIME, 0, 99, 96.5}, {GOODPUT, 1, 98.5, 92.5}, {HIGH, 1, 99, 98},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 3.3})),
    ROW("S7 5x, 64 workers", make_s7, SHAPE(.load = 5, .workers = 64, .is_long = true),
        BANDS({IN_TIME, 0, 99, 96.5}, {GOODPUT, 1, 99, 92.5}, {HIGH, 1, 99, 92},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 3.3})),
    ROW("S12, 64 workers", make_s12, SHAPE(.workers = 64, .is_long = true),
        BANDS({IN_TIME, 0, 99.5, 98}, {IN_TIME, 1, 97.5, 92.5}, {GOODPUT, 2, 101, 95.5},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 98.5})),
    ROW("cold 2x, 64 workers", make_cold, SHAPE(.load = 2, .workers = 64),
        BANDS({GOODPUT, 0, 98, 93}, {HIGH, 0, 99.5, 98.5})),
    ROW("steady 60 %, 64 workers", make_steady, SHAPE(.load = 0.6, .workers = 64),
        BANDS({SHED, 0, 0, 0.7}, {SHED, 1, 0, 0})),
    ROW("S7 2x, constant", make_s7, SHAPE(.load = 2, .dist = LIMIT_MODEL_CONST),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {GOODPUT, 1, 100, 100}, {HIGH, 1, 99.5, 98.5},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 5x, constant", make_s7, SHAPE(.load = 5, .dist = LIMIT_MODEL_CONST),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {GOODPUT, 1, 100.5, 99.5}, {HIGH, 1, 99.5, 96.5},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S12, constant", make_s12, SHAPE(.dist = LIMIT_MODEL_CONST),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 98.5}, {GOODPUT, 2, 102, 99},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 99.5, 96})),
    ROW("service x2, constant", make_service_x2, SHAPE(.dist = LIMIT_MODEL_CONST),
        BANDS({GOODPUT, 1, 95.5, 76}, {HIGH, 1, 99.5, 98.5})),
    ROW("S7 2x, sigma 1", make_s7, SHAPE(.load = 2, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1),
        BANDS({IN_TIME, 0, 99, 98}, {GOODPUT, 1, 97.5, 87}, {HIGH, 1, 99, 97},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 5x, sigma 1", make_s7, SHAPE(.load = 5, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1),
        BANDS({IN_TIME, 0, 99, 98}, {GOODPUT, 1, 97.5, 90.5}, {HIGH, 1, 96.5, 89.5},
              {RECOVERY, 2, 0.75, 1}, {SHED, 0, 0, 0})),
    ROW("S12, sigma 1", make_s12, SHAPE(.dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1),
        BANDS({IN_TIME, 0, 99.5, 98}, {IN_TIME, 1, 99, 98}, {GOODPUT, 2, 99.5, 91},
              {HIGH, 1, 99.5, 98}, {HIGH, 2, 99.5, 97.5})),
    ROW("S7 2x, sigma 1.5", make_s7, SHAPE(.load = 2, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({IN_TIME, 0, 99, 96.5}, {GOODPUT, 1, 96.5, 78.5}, {HIGH, 1, 97.5, 94.5},
              {RECOVERY, 2, 0.5, 2}, {SHED, 0, 0, 0})),
    ROW("S7 5x, sigma 1.5", make_s7, SHAPE(.load = 5, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({IN_TIME, 0, 99, 96.5}, {GOODPUT, 1, 96, 83.5}, {HIGH, 1, 94, 82.5},
              {RECOVERY, 2, 0.75, 1}, {SHED, 0, 0, 0.7})),
    ROW("S12, sigma 1.5", make_s12, SHAPE(.dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({IN_TIME, 0, 99, 98}, {IN_TIME, 1, 99, 95.5}, {GOODPUT, 2, 94.5, 70},
              {HIGH, 1, 99, 98}, {HIGH, 2, 99, 95.5})),
    ROW("cold 2x, sigma 1.5", make_cold,
        SHAPE(.load = 2, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({GOODPUT, 0, 93.5, 81.5}, {HIGH, 0, 99, 98})),
    ROW("service x2, sigma 1.5", make_service_x2,
        SHAPE(.dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({GOODPUT, 1, 81, 61}, {HIGH, 1, 97.5, 95})),
    ROW("steady 60 %, sigma 1.5", make_steady,
        SHAPE(.load = 0.6, .dist = LIMIT_MODEL_LOGNORMAL, .sigma = 1.5),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0})),
    ROW("S7 2x, alpha 0.5", make_s7, SHAPE(.load = 2, .alpha = 0.5),
        BANDS({IN_TIME, 0, 99.5, 98}, {GOODPUT, 1, 95.5, 87.5}, {HIGH, 1, 99, 97},
              {RECOVERY, 2, 0.5, 1}, {SHED, 0, 0, 0})),
    ROW("S7 5x, alpha 0.5", make_s7, SHAPE(.load = 5, .alpha = 0.5),
        BANDS({IN_TIME, 0, 99.5, 98}, {GOODPUT, 1, 95, 87.5}, {HIGH, 1, 94, 86.5},
              {RECOVERY, 2, 0.75, 1}, {SHED, 0, 0, 0})),
    ROW("S12, alpha 0.5", make_s12, SHAPE(.alpha = 0.5),
        BANDS({IN_TIME, 0, 99.5, 98.5}, {IN_TIME, 1, 99.5, 98.5}, {GOODPUT, 2, 93.5, 84},
              {HIGH, 1, 99.5, 98.5}, {HIGH, 2, 97, 91})),
    ROW("B1", make_b1, SHAPE(B_SHAPE, .sigma = 1, .load = 1.5),
        BANDS({GOODPUT, 0, 65, 60}, {P50, 0, 62, 93})),
    ROW("B2", make_b2, SHAPE(B_SHAPE, .sigma = 1, .load = 1.3, .is_long = true),
        BANDS({GOODPUT, 1, 75, 72.5}, {P50, 1, 81, 179})),
    ROW("B3", make_b1, SHAPE(B_SHAPE, .sigma = 1, .load = 0.6), BANDS({SHED, 0, 0, 0.9})),
    ROW("B3b", make_b1, SHAPE(B_SHAPE, .sigma = 1.5, .load = 0.6), BANDS({SHED, 0, 0, 5.7})),
    ROW("B4", make_b4, SHAPE(B_SHAPE, .sigma = 1),
        BANDS({GOODPUT, 1, 60.5, 56}, {P50, 1, 103, 154})),
    ROW("B5", make_b5, SHAPE(B_SHAPE, .sigma = 1),
        BANDS({GOODPUT, 1, 80.5, 71.5}, {P50, 1, 139, 195})),
    ROW("B6", make_b1, SHAPE(B_SHAPE, .sigma = 1.5, .load = 1.5),
        BANDS({GOODPUT, 0, 64, 59}, {P50, 0, 59, 121})),
    ROW("closed loop of 64, 1000 workers x 0.1 ms", make_closed,
        SHAPE(.workers = 1000, .mean_ms = 0.1, .clients = 64),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0}, {GOODPUT, 0, 96, 84.5}, {GOODPUT, 1, 98.5, 98})),
    ROW("closed loop of 256, 1000 workers x 0.1 ms", make_closed,
        SHAPE(.workers = 1000, .mean_ms = 0.1, .clients = 256),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0}, {GOODPUT, 0, 94, 92.5}, {GOODPUT, 1, 98.5, 98.5})),
    ROW("closed loop of 256, one thread x 20 us", make_closed,
        SHAPE(.workers = 1, .mean_ms = 0.02, .clients = 256, .dist = LIMIT_MODEL_CONST),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0}, {GOODPUT, 0, 98.5, 98.5},
              {GOODPUT, 1, 98.5, 98.5})),
    ROW("closed loop of 64, one thread x 20 us", make_closed,
        SHAPE(.workers = 1, .mean_ms = 0.02, .clients = 64, .dist = LIMIT_MODEL_CONST),
        BANDS({SHED, 0, 0, 0}, {SHED, 1, 0, 0}, {GOODPUT, 0, 98.5, 98}, {GOODPUT, 1, 98.5, 98.5})),
};
/* clang-format on */

/* ---- measures ---- */

static const char *kind_name[] = {"",       "in time %",        "high in time %", "goodput %",
                                  "shed %", "slowest 250 ms %", "recovery s",     "p50 ms"};

static bool is_cost(enum kind k)
{
    return k == SHED || k == RECOVERY || k == P50;
}

static double recovery_s(const struct limit_model_conf *c, const struct limit_model_result *r,
                         uint32_t of)
{
    double start_s = 0;
    for (uint32_t i = 0; i < of; i++)
        start_s += c->phase[i].s;
    uint32_t first = (uint32_t)(start_s * 4), last = first + (uint32_t)(c->phase[of].s * 4);
    for (uint32_t i = first; i + 8 <= last; i++) {
        bool is_good = true;
        for (uint32_t k = i; k < i + 8; k++)
            is_good &= r->bin[k].in_time >= 0.95 * r->bin[k].sent;
        if (is_good)
            return (i - first) * 0.25;
    }
    return c->phase[of].s;
}

static double measure(const struct limit_model_conf *c, double cap, const struct measure *me,
                      const struct limit_model_result *r)
{
    const struct limit_model_class *k = r->phase[me->phase].class;
    double sent = fmax(1, k[0].sent + k[1].sent);
    switch (me->kind) {
    case IN_TIME:
        return 100.0 * (k[0].in_time + k[1].in_time) / sent;
    case HIGH:
        return 100.0 * k[0].in_time / fmax(1, k[0].sent);
    case GOODPUT:
        return 100.0 * (k[0].in_time + k[1].in_time) / (cap * c->phase[me->phase].s);
    case SHED:
        return 100.0 * (k[0].shed + k[1].shed) / sent;
    case RECOVERY:
        return recovery_s(c, r, me->phase);
    case P50:
        return r->latency_us_p50[me->phase] / 1e3;
    default:
        return 0;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct options {
    uint32_t seeds;
    uint64_t first;
    const char *only;
    const struct limit_model_policy *policy;
    bool is_long, is_brief;
};

static int points, failures;

static void run(const struct scenario *sc, const struct options *o)
{
    static double value[MEASURES][SEEDS_MAX];
    struct limit_model_conf conf;
    double cap;
    sc->make(&conf, &cap, &sc->shape);
    for (uint32_t i = 0; i < o->seeds; i++) {
        static struct limit_model_result r;
        limit_model_run(&conf, o->policy, o->first + i, &r);
        for (int k = 0; k < MEASURES && sc->measure[k].kind != NO_KIND; k++)
            value[k][i] = measure(&conf, cap, &sc->measure[k], &r);
    }
    for (int k = 0; k < MEASURES && sc->measure[k].kind != NO_KIND; k++) {
        const struct measure *me = &sc->measure[k];
        qsort(value[k], o->seeds, sizeof value[k][0], compare);
        double median = value[k][o->seeds / 2];
        double worst = value[k][is_cost(me->kind) ? o->seeds - 1 : 0];
        bool is_ok = is_cost(me->kind) ? median <= me->median && worst <= me->worst
                                       : median >= me->median && worst >= me->worst;
        bool is_banded = o->policy == &limit_model_learner;
        failures += !is_ok && is_banded;
        if (o->is_brief) {
            if (k == 0)
                printf("%-34s", sc->name);
            printf(" | %s%.4s%u %.4g [%.4g]", is_ok ? "" : "*", kind_name[me->kind], me->phase,
                   median, worst);
            if (k + 1 == MEASURES || sc->measure[k + 1].kind == NO_KIND)
                printf("\n");
            continue;
        }
        printf("%s %d - %s: %s in phase %u: median %.2f, worst %.2f (band %g, %g)%s\n",
               is_ok || !is_banded ? "ok" : "not ok", ++points, sc->name, kind_name[me->kind],
               me->phase, median, worst, me->median, me->worst,
               is_banded ? "" : " # SKIP compared");
        fflush(stdout);
    }
}

/* <word> is a part of the name; with a colon at its end the whole name. */
static bool is_named(const char *name, const char *word)
{
    size_t n = strlen(word);
    if (n > 0 && word[n - 1] == ':')
        return strlen(name) == n - 1 && strncmp(name, word, n - 1) == 0;
    return strstr(name, word) != NULL;
}

int main(int argc, char **argv)
{
    struct options o = {.seeds = 10, .first = 1000, .policy = &limit_model_learner};
    for (int i = 1; i < argc; i++) {
        const char *more = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--long") == 0) {
            o.is_long = true;
            o.seeds = 50;
        } else if (strcmp(argv[i], "--brief") == 0) {
            o.is_brief = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            limit_model_is_tracing = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            o.seeds = (uint32_t)atoi(more);
            i++;
        } else if (strcmp(argv[i], "--first") == 0) {
            o.first = (uint64_t)atoll(more);
            i++;
        } else if (strcmp(argv[i], "--only") == 0) {
            o.only = more;
            i++;
        } else if (strcmp(argv[i], "--policy") == 0 && limit_baseline(more) != NULL) {
            o.policy = limit_baseline(more);
            i++;
        } else {
            fprintf(stderr, "limit_scenarios: unknown option %s; see the head of its source\n",
                    argv[i]);
            return 2;
        }
    }
    o.seeds = o.seeds < 1 ? 1 : o.seeds > SEEDS_MAX ? SEEDS_MAX : o.seeds;
    for (size_t i = 0; i < FB_COUNT(scenarios); i++) {
        if (o.only != NULL ? !is_named(scenarios[i].name, o.only)
                           : scenarios[i].shape.is_long && !o.is_long)
            continue;
        run(&scenarios[i], &o);
    }
    if (!o.is_brief)
        printf("1..%d\n", points);
    return failures > 0;
}
