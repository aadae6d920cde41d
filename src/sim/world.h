/* SPDX-License-Identifier: Apache-2.0 */
/* world: the pieces of one running simulation; private to sim/.
 *
 *   client --arrive--> gate --send--> server (FIFO, workers) --complete--> gate --> client
 *
 * world.c: the event heap and the main loop; server.c: endpoints; client.c: requests, patience,
 * tries; result.c: counts and printing.  All memory is allocated at the start or by doubling; freed
 * by world_fini. */
#ifndef FB_SIM_WORLD_H
#define FB_SIM_WORLD_H
#include "base/rng.h"
#include "sim/sim.h"

#define SIM_ENDPOINTS_MAX 128
#define SIM_GATEWAYS_MAX 16
#define SIM_NONE UINT32_MAX
#define SIM_BINS 4096
#define SIM_HOMES 8192
#define SIM_USER(n) ((n)*UINT64_C(0x9e3779b97f4a7c15) | 1)
#define SIM_USER_HEAVY SIM_USER(UINT64_C(1))
#define SIM_USERS_SEEN 64

enum sim_event_kind {
    SIM_EV_ARRIVE,   /* id: arrival generation */
    SIM_EV_COMPLETE, /* id: job */
    SIM_EV_CONNECT,  /* id: request: the connection was refused */
    SIM_EV_TIMEOUT,  /* id: request, of one attempt */
    SIM_EV_PATIENCE, /* id: request */
    SIM_EV_BACKOFF,  /* id: request: the gate's retry is due */
    SIM_EV_AGAIN,    /* id: request: its client tries again */
    SIM_EV_TICK,     /* id: gateway */
    SIM_EV_BRAIN,    /* 100 ms: analytics and control */
    SIM_EV_EXCHANGE, /* the gateways hear what the others carried one interval ago */
    SIM_EV_CHANGE    /* id: row of the scenario */
};
struct sim_event {
    uint64_t at_us, order; /* <order> breaks ties: first scheduled, first played */
    uint32_t id, mark;     /* <mark> must equal that of the request or job, else it is stale */
    enum sim_event_kind kind;
};

struct sim_request {
    struct gate_ticket ticket; /* first: tickets come back from the gate */
    uint64_t arrive_us;        /* of the first try of the client */
    uint64_t user;
    uint32_t id, mark; /* mark: changes whenever pending events become stale */
    uint32_t job;      /* at the server, SIM_NONE */
    uint32_t client_tries;
    uint32_t patience_mark;
    uint16_t gateway;
    uint8_t class;
    bool is_live, was_sent;
    uint8_t outcome; /* enum gate_outcome of the last attempt */
};

struct sim_job {
    uint64_t start_us, end_us;
    uint32_t request; /* SIM_NONE: nobody waits for it any more */
    uint32_t mark, next;
    uint16_t endpoint;
    bool is_running, is_error;
};

struct sim_server {
    uint32_t workers, running, waiting, first, last; /* jobs that wait, by id */
    double slow, fail_share;
    uint64_t stall_from_us, stall_until_us, cold_until_us;
    bool is_dead, is_in;
    uint32_t zone, tier;
    double utilisation; /* mean of the last second */
    uint64_t utilisation_us;
    uint16_t index[SIM_GATEWAYS_MAX]; /* in each gate */
};

struct sim_bins {
    uint64_t count;
    uint32_t bin[SIM_BINS];
};

struct sim_home { /* where a user was sent last */
    uint64_t user;
    uint16_t endpoint;
};

struct world {
    const struct sim_scenario *sc;
    const struct sim_overrides *o;
    struct sim_result *result;
    uint64_t now_us, end_us, measure_us, order;
    struct rng arrivals, services, clients;
    uint64_t key_seed;
    struct gate *gates[SIM_GATEWAYS_MAX];
    uint32_t gateways;
    struct balance_told told[SIM_GATEWAYS_MAX][SIM_ENDPOINTS_MAX]; /* at the last exchange */
    struct gate_conf conf;
    struct brain *brain; /* NULL: no loops */
    double timeout_ms;   /* of an attempt, 0 none */
    struct sim_server servers[SIM_ENDPOINTS_MAX];
    uint32_t server_count;
    uint16_t server_of[SIM_GATEWAYS_MAX][GATE_ENDPOINTS_MAX];
    double capacity_per_us;
    double class_share[EV_CLASS_COUNT], class_factor[EV_CLASS_COUNT];
    uint32_t arrival_mark;
    struct sim_event *heap;
    size_t heap_len, heap_cap;
    struct sim_request **requests;
    uint32_t *free_requests;
    uint32_t request_count, free_request_count, request_cap;
    struct sim_job *jobs;
    uint32_t job_count, job_free, job_cap;
    uint64_t work_us, wasted_us, sends, sends0, sends_last, sends_far, second_sends,
        second_arrivals, second;
    uint64_t sends_again,
        sends_same; /* first attempts of users seen before; of them: same endpoint */
    struct sim_home homes[SIM_HOMES];
    uint64_t reached;
    struct sim_bins latency, phase_latency[SIM_PHASES_MAX], heavy_latency, light_latency;
    struct sim_count users[SIM_USERS_SEEN]; /* the first other users */
    bool is_out_of_memory;
};

/* world.c */
void world_schedule(struct world *w, uint64_t at_us, enum sim_event_kind kind, uint32_t id,
                    uint32_t mark);
/* What gateway <g> knows of server <i>. */
void world_place(struct world *w, uint32_t g, uint32_t i);
static inline bool world_is_far(const struct world *w, uint32_t g, uint32_t i)
{
    return w->sc->zones > 0 && w->servers[i].zone != g % w->sc->zones;
}
/* server.c */
void server_submit(struct world *w, uint16_t endpoint, struct sim_request *r);
void server_complete(struct world *w, uint32_t job, uint32_t mark);
void server_change(struct world *w, const struct sim_change *change);
/* client.c */
void client_next_arrival(struct world *w);
void client_arrive(struct world *w);
void client_start_loop(struct world *w);
void client_event(struct world *w, const struct sim_event *ev);
/* The present attempt of <r> ended. */
void client_attempt_over(struct world *w, struct sim_request *r, enum gate_outcome outcome);
/* What the gate gives back: sends and refusals, until it has nothing. */
void client_pump(struct world *w, uint32_t gateway);
/* brain.c */
bool brain_init(struct world *w); /* false without memory */
void brain_fini(struct world *w);
void brain_tick(struct world *w);
void brain_request(struct world *w, const struct sim_request *r, enum ev_reason reason);
void brain_event(struct world *w, uint32_t gateway, const union ev_any *event);
/* result.c */
enum sim_end { SIM_END_GOOD, SIM_END_LATE, SIM_END_FAILED, SIM_END_SHED, SIM_END_ABANDONED };
void result_offer(struct world *w, const struct sim_request *r);
void result_end(struct world *w, const struct sim_request *r, enum sim_end end);
void result_finish(struct world *w);
uint32_t result_phase_of(const struct world *w, uint64_t at_us);
#endif
