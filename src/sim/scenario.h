/* SPDX-License-Identifier: Apache-2.0 */
/* scenario: the table of what is simulated; a row is data, world.c plays it.
 *
 * Times in seconds from the start of the run; load in shares of the nominal capacity = sum over
 * endpoints of workers / mean service time, with the slow factors of the start.  Threads: any,
 * constant. */
#ifndef FB_SIM_SCENARIO_H
#define FB_SIM_SCENARIO_H
#include "event/event.h"
#include "reflex/balance.h"

#define SIM_GROUPS_MAX 4
#define SIM_PHASES_MAX 6
#define SIM_CHANGES_MAX 24

enum sim_service { SIM_EXPONENTIAL, SIM_LOGNORMAL, SIM_CONSTANT };

struct sim_group { /* equal endpoints, numbered on */
    uint32_t count, workers;
    double slow; /* factor on the service time; 0 means 1 */
    uint32_t zone, tier;
};
struct sim_phase {
    double until_s;
    double load; /* share of the nominal capacity */
};
enum sim_change_kind {
    SIM_SLOW,       /* value: factor on the service time from now on */
    SIM_WORKERS,    /* value: workers from now on */
    SIM_STALL,      /* value: seconds in which nothing moves */
    SIM_FAIL_FAST,  /* value: share of requests answered with 500 within 1 ms */
    SIM_DEAD,       /* value 1: connections are refused and running work is lost; 0: alive again */
    SIM_JOIN,       /* comes into the service now; value: seconds its cold start lasts */
    SIM_LEAVE,      /* is taken out of the service */
    SIM_CLASS_LOAD, /* <endpoint> is a class: factor on its arrivals */
};
struct sim_change {
    double at_s;
    enum sim_change_kind kind;
    uint32_t endpoint, count; /* first and how many; count 0 means 1 */
    double value;
};

struct sim_scenario {
    const char *name, *what;
    double measure_s; /* results count arrivals from here on */
    struct sim_group groups[SIM_GROUPS_MAX];
    uint32_t gateways; /* 0 means 1 */
    uint32_t zones;    /* gateway n stands in zone n modulo this; 0: all in one */
    enum sim_service service;
    double service_ms, sigma; /* mean; of the logarithm */
    double alpha; /* service time x (1 + alpha (n - c) / c) with n > c at the endpoint */
    struct sim_phase phases[SIM_PHASES_MAX];
    double class_share[EV_CLASS_COUNT]; /* all 0: everything is default */
    struct sim_change changes[SIM_CHANGES_MAX];
    uint32_t joins_later;    /* the last so many endpoints are in only after their SIM_JOIN */
    double in_time_ms;       /* later answers are late */
    double patience_ms;      /* the client leaves; 0: never */
    bool is_deadline_known;  /* the gate knows in_time_ms as the deadline */
    uint32_t client_retries; /* after an error, 50..150 ms later, as a new request */
    uint32_t clients;   /* > 0: closed loop, so many, no pause between answer and next request */
    uint32_t users;     /* fairness keys; 0: none */
    double heavy_share; /* of all arrivals come from one user */
    /* the gate */
    double objective_ms; /* 0: none */
    double timeout_ms;   /* of one attempt; 0: none */
    enum gate_balance balance;
    bool is_limit_off;
    uint32_t limit_fixed;
    bool is_eject_off;
    bool is_reporting; /* endpoints tell their utilisation with each answer */
    bool is_looping;   /* the control engine turns knobs */
    double retry_pct;  /* 0: product default; negative: none */
    uint32_t retries_max;
};

const struct sim_scenario *sim_scenario_at(size_t i); /* NULL behind the last */
const struct sim_scenario *sim_scenario_find(const char *name);
#endif
