/* SPDX-License-Identifier: Apache-2.0 */
/* lease: who may use which part of one fleet-wide limit, and until when.
 *
 * Every node keeps this of every limit, so that any of them can go on when the one that decides
 * falls silent.  What each node may hold at most is known from the log of the broker alone:
 *
 *   - of two decisions that were made at the same time only the first in the log holds: one whose
 *     author had not heard the one before it in the log holds nowhere (after, sequence)
 *   - a node may hold whatever decisions gave it since the last one that it said to have taken in
 *   - a node that is silent may hold that until its lease and a grace are over, and its safe part
 *     from then on
 *
 * and a decision gives nothing that somebody else may hold.  A node counts its own lease from when
 * it sent the last report that came back; that report was heard by the others later than that, so
 * its lease is over before they take it for over, whatever was cut and however late anything is.
 *
 * The sum of the parts in force shall be at most FLEET_SHARE_ALL (what is open:
 * doc/design/fleet.md), and beyond it one safe part for each node that the others' last decisions
 * do not list: one that has just started, and one that was cut off for longer than forget_us.  It
 * takes for granted that a node that was never in the fleet does not meet its broker while all
 * others are cut off from it.  (test/unit/fleet/lease_test.c) Pure.  Threads: one at a time. */
#ifndef FB_FLEET_LEASE_H
#define FB_FLEET_LEASE_H
#include "fleet/share.h"

struct fleet_lease {
    uint64_t node;      /* this one; fleet_view_new sets it */
    uint64_t lease_us;  /* how long this node goes on with its parts when it is cut off */
    uint64_t grace_us;  /* the others wait this much longer: clocks drift, brains restart */
    uint64_t forget_us; /* what a silent node held is all free; more than lease and grace */
    uint32_t safe_ppm;  /* of this node, before its first part and after its lease */
};

/* What another node, or this one, may use at most. */
struct holding {
    uint64_t node, heard_us, lease_us;
    uint64_t heeded;                  /* the last decision that it said to have taken in */
    uint32_t ppm, said_ppm, safe_ppm; /* <said_ppm>: in force there, by its last report */
    bool has_left;
};

struct fleet_limit {
    struct fleet_decision in_force;    /* the last one that holds; <count> 0: none yet */
    uint64_t first_sequence, first_us; /* the first decision that this node heard */
    uint64_t heeded_us, decided_us;    /* when it came; when this node decided last */
    uint64_t published;                /* sequence of an own decision that has not come back */
    uint64_t last_id;                  /* of the last decision heard, also of one that lost */
    struct fleet_share last[FLEET_NODES_MAX]; /* what this node decided last */
    uint32_t last_count;
    struct holding holdings[FLEET_NODES_MAX];
    uint32_t holding_count;
    uint32_t own_ppm; /* as given, or what is left of it after the lease */
    bool is_given;
};

/* A live node that lists the limit. */
struct asker {
    uint64_t node, heeded;
    uint32_t asked_milli, share_ppm;
};

void fleet_limit_hear(struct fleet_limit *l, const struct fleet_report *r,
                      const struct fleet_demand *dm, const struct fleet_lease *own,
                      uint64_t now_us);
/* False: another decision was first.  <is_leased>: the lease of this node runs. */
bool fleet_limit_heed(struct fleet_limit *l, const struct fleet_decision *d,
                      const struct fleet_lease *own, bool is_leased, uint64_t now_us);
/* Time passes: what is forgotten goes; without a lease this node keeps its safe part. */
void fleet_limit_tick(struct fleet_limit *l, const struct fleet_lease *own, bool is_leased,
                      uint64_t now_us);

/* Whether this node knows what each may hold: a decision tells what it gives, not what those have
 * who did not hear it yet; so each has to say that it heard the first that this node knows. */
bool fleet_limit_is_ready(const struct fleet_limit *l, const struct fleet_lease *own,
                          uint64_t now_us);

struct fleet_asked {
    const struct asker *askers; /* by node, ascending */
    uint32_t count;
    uint64_t whole_milli, joined_us; /* since when this node hears its own reports */
    uint64_t decide_us, refresh_us;
    bool is_all_there; /* all nodes that this one remembers from an earlier run are live */
};
/* A decision to be published; false: none is due, or this node knows too little to make one.
 * Fills shares, count and sequence. */
bool fleet_limit_decide(struct fleet_limit *l, const struct fleet_asked *in,
                        const struct fleet_lease *own, struct fleet_decision *d, uint64_t now_us);
#endif
