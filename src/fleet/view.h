/* SPDX-License-Identifier: Apache-2.0 */
/* view: what this node knows of the fleet: who is alive, what all of them carry, who divides which
 * limit.
 *
 *   report  --hear-->  nodes, load per endpoint over all others, merged latency per service
 *   tick    --tick-->  silent nodes age out; limits that this node divides come out as decisions
 *   decision --heed--> the share of this node
 *
 * The controller of a service is the live gateway with the highest rendezvous draw of (service,
 * node) among those that know the last decisions: no election, no messages of its own; when it
 * falls silent the next one is known at once by all.  Two nodes that see the fleet differently may
 * both decide for a moment: of two decisions that were made at once the first in the broker's log
 * holds.
 *
 * A node knows that it is cut off because its own reports do not come back.
 * Memory: about 100 bytes per node and service and 12 per endpoint of it, 9 KiB per service.
 * Pure apart from allocation.  Threads: one at a time per view. */
#ifndef FB_FLEET_VIEW_H
#define FB_FLEET_VIEW_H
#include "fleet/lease.h"

#define FLEET_SERVICES_MAX 1024
#define FLEET_LIMITS_MAX 1024

struct fleet_conf {
    uint64_t node; /* this one */
    uint8_t role;  /* enum fleet_role: an edge node never divides */
    char
        region[FLEET_REGION_BYTES]; /* what nodes of another one are answered is not for this one */
    uint64_t silent_us;             /* a node that was not heard for so long is gone; 1,500,000 */
    uint64_t old_us;                /* an own report that took so long tells nothing; 30,000,000 */
    uint64_t cut_us;          /* own reports did not come back for so long: autonomous; 3,000,000 */
    uint64_t decide_us;       /* between two decisions on one limit; 1,000,000 */
    uint64_t refresh_us;      /* an unchanged decision is said again; 10,000,000 */
    struct fleet_lease lease; /* 300 s, 10 s, 600 s, 0.5 %: fleet/lease.h */
};
void fleet_conf_init(struct fleet_conf *conf); /* the defaults above; the caller sets node, role */

struct fleet_view;
struct fleet_view *fleet_view_new(const struct fleet_conf *conf); /* NULL without memory */
void fleet_view_free(struct fleet_view *v);
void fleet_view_region(struct fleet_view *v, const char *region);
/* From now on; what others were told holds for them until the next report. */
void fleet_view_lease(struct fleet_view *v, uint64_t lease_us, uint32_t safe_ppm);

/* The nodes of the last decisions, for the next run of this node; returns how many. */
uint32_t fleet_members(const struct fleet_view *v, uint64_t ids[FLEET_NODES_MAX]);
/* At the start: those of the last run. */
void fleet_remember(struct fleet_view *v, const uint64_t *ids, uint32_t count);

/* A report of any node, this one included.  False: it was old, or there is no room for it. */
bool fleet_hear(struct fleet_view *v, const struct fleet_report *r, uint64_t now_us);
/* A decision from the broker, in its order.  False: another one was first. */
bool fleet_heed(struct fleet_view *v, const struct fleet_decision *d, uint64_t now_us);
/* Time passes. */
void fleet_tick(struct fleet_view *v, uint64_t now_us);
/* The next decision that this node owes the fleet, to be published; false: none now.  Call after
 * each tick until false. */
bool fleet_decide(struct fleet_view *v, uint64_t now_us, struct fleet_decision *d);

/* Requests that the other live nodes have in flight to an endpoint. */
uint32_t fleet_others_in_flight(const struct fleet_view *v, const char *service,
                                const char *endpoint);
/* Answers of an endpoint to the others of this region since the last call; returns how many. */
uint64_t fleet_others_answers(struct fleet_view *v, const char *service, const char *endpoint,
                              uint64_t *sum_us);
/* The part of a limit that this node may use, ppm: as the last decision says; after its lease, and
 * before any decision, at most the safe part. */
uint32_t fleet_share_of(const struct fleet_view *v, const char *service, uint64_t limit);
/* For the reports of this node: whether it could decide; sequence of the last decision, 0: none. */
bool fleet_is_ready(const struct fleet_view *v, const char *service, uint64_t now_us);
uint64_t fleet_heeded(const struct fleet_view *v, const char *service, uint64_t limit);
/* When the parts of a service fall to the safe one unless an own report comes back; 0: they have.
 */
uint64_t fleet_lease_end_us(const struct fleet_view *v, const char *service);

struct fleet_state {
    uint32_t nodes_live, nodes_known; /* this one included; not those that said goodbye */
    bool is_autonomous, has_returned; /* <has_returned>: an own report came back, ever */
    uint64_t cut_since_us;            /* 0 unless autonomous */
    uint64_t reports_heard, reports_refused, decisions_heard, decisions_late, decisions_made;
};
void fleet_state_read(const struct fleet_view *v, struct fleet_state *state);

struct fleet_node_view {
    uint64_t node;
    uint32_t epoch;
    uint8_t role;
    char region[FLEET_REGION_BYTES], name[FLEET_NODE_BYTES]; /* "" it said none */
    uint64_t heard_us;                                       /* last time */
    bool is_live, has_left, is_self;                         /* <has_left>: it said goodbye */
};
/* Nodes in the order of their ids; false beyond the last. */
bool fleet_node_at(const struct fleet_view *v, uint32_t index, struct fleet_node_view *out);

struct fleet_service_view {
    char service[FLEET_NAME_BYTES];
    uint64_t controller;                                /* 0: nobody can */
    uint32_t nodes;                                     /* live ones that serve it */
    double per_s, late_per_s, failed_per_s, shed_per_s; /* of the last reports of all live nodes */
    uint32_t in_flight, queued;
    double p50_us, p99_us; /* of the last 10 to 20 s of all nodes; NAN: nothing seen */
    uint64_t samples;
};
bool fleet_service_at(const struct fleet_view *v, uint32_t index, struct fleet_service_view *out);
/* The decision in force on a limit; false: none yet. */
bool fleet_decision_of(const struct fleet_view *v, const char *service, uint64_t limit,
                       struct fleet_decision *out);
/* The decision in force on one limit; false beyond the last. */
bool fleet_limit_at(const struct fleet_view *v, uint32_t index, struct fleet_decision *out);
#endif
