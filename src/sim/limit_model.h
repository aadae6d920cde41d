/* SPDX-License-Identifier: Apache-2.0 */
/* limit_model: one gateway in front of endpoints with workers and a queue, in virtual time; what
 * the concurrency limit is measured with before real sockets.
 *
 *   clients --> queue (two classes, bounded wait) --> endpoint: FIFO --> c workers --network-->
 * answer
 *
 * A model of the benchmark's backend: random service time that grows with the load past capacity
 * (alpha), pauses, changes of workers and of service time, work goes on for clients that left.  An
 * answer later than the objective is late, whatever the client did.  One seed is one outcome.
 * Threads: any, no shared state. */
#ifndef FB_SIM_LIMIT_MODEL_H
#define FB_SIM_LIMIT_MODEL_H
#include "base/rng.h"
#include "reflex/limit.h"

#define LIMIT_MODEL_ENDPOINTS 8
#define LIMIT_MODEL_PHASES 8
#define LIMIT_MODEL_CHANGES 8
#define LIMIT_MODEL_BINS 1024
#define LIMIT_MODEL_BIN_US UINT64_C(250000)
#define LIMIT_MODEL_STATE_BYTES 4096

enum limit_model_dist { LIMIT_MODEL_EXP, LIMIT_MODEL_LOGNORMAL, LIMIT_MODEL_CONST };

struct limit_model_endpoint {
    uint32_t workers;
    double mean_us, sigma; /* of the service; sigma of log-normal only */
    enum limit_model_dist dist;
    double alpha, slow_max;                /* service x min(slow_max, 1 + alpha x overload) */
    uint64_t pause_every_us, pause_for_us; /* at the end of each period; 0: none */
    double network_us, noise_us;           /* on each answer: constant + exponential */
};

/* A policy under test; <state> is LIMIT_MODEL_STATE_BYTES, zeroed. */
struct limit_model_policy {
    const char *name;
    void (*init)(void *state, const struct limit_model_endpoint *ep, uint64_t now_us);
    bool (*has_room)(const void *state);
    void (*on_send)(void *state, struct limit_tag *tag, uint64_t now_us);
    void (*on_done)(void *state, const struct limit_tag *tag, bool is_wanted, uint64_t now_us);
    void (*tick)(void *state, bool is_wanted, uint64_t now_us);
    uint32_t (*limit)(const void *state);
};
extern const struct limit_model_policy limit_model_learner; /* reflex/limit, start 4, 1..1000 */

struct limit_model_conf {
    uint32_t endpoints;
    struct limit_model_endpoint ep[LIMIT_MODEL_ENDPOINTS];
    struct {
        double s, per_s; /* length; Poisson arrivals, of which high_share are high */
    } phase[LIMIT_MODEL_PHASES];
    uint32_t phases;
    struct {
        double at_s;
        int ep;                 /* -1: all */
        double workers, mean_x; /* factors on the first values */
    } change[LIMIT_MODEL_CHANGES];
    uint32_t changes;
    uint32_t clients; /* > 0: closed loop instead of Poisson, for the sum of the phases */
    double high_share, objective_us, wait_max_us;
    uint64_t turn_us; /* > 0: answers are seen in bursts, once per turn */
};

struct limit_model_class {
    uint32_t sent, in_time, late, shed;
};
struct limit_model_phase {
    struct limit_model_class class[2]; /* high, low */
};
struct limit_model_result {
    struct limit_model_phase phase[LIMIT_MODEL_PHASES]; /* by arrival */
    struct {
        uint32_t sent, in_time;
    } bin[LIMIT_MODEL_BINS];
    double limit_at_end[LIMIT_MODEL_ENDPOINTS];
    double limit_mean[LIMIT_MODEL_PHASES][LIMIT_MODEL_ENDPOINTS];
    double latency_us_p50[LIMIT_MODEL_PHASES]; /* in the endpoint, of answers in time */
    uint32_t limit_max;
    uint64_t steps;
};

/* Aborts the test process when memory is short: a simulation has no use for half a result. */
void limit_model_run(const struct limit_model_conf *conf, const struct limit_model_policy *policy,
                     uint64_t seed, struct limit_model_result *out);
/* When set: one line per tenth of a second on stdout. */
extern bool limit_model_is_tracing;
#endif
