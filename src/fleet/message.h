/* SPDX-License-Identifier: Apache-2.0 */
/* message: what a node tells the others each tick, and what a controller answers, as bytes.
 *
 *   report    one service on one node during one span: load per endpoint, counts, latency sketch,
 *             how much was asked of each fleet-wide limit.  Key: the service.  Never a request.
 *   decision  what share of one fleet-wide limit each node may use from now on.  Key: the limit.
 *
 * Bytes: "fbf3", kind u8, then numbers as LEB128 and texts as length and bytes, in the order of the
 * structs.  A sketch goes as (gap to the next used bucket, count) pairs.  Decoding trusts nothing:
 * every length is checked against its bound here (test/fuzz/fleet_fuzz.c).
 * Pure.  Threads: any. */
#ifndef FB_FLEET_MESSAGE_H
#define FB_FLEET_MESSAGE_H
#include "analytics/sketch.h"
#include "base/buf.h"

#define FLEET_NAME_BYTES 104
#define FLEET_REGION_BYTES 32
#define FLEET_NODE_BYTES 64
#define FLEET_ENDPOINTS_MAX 256 /* of one service */
#define FLEET_DEMANDS_MAX 16    /* fleet-wide limits of one service */
#define FLEET_NODES_MAX 256
#define FLEET_MESSAGE_BYTES_MAX (64 * KIB)
#define FLEET_SHARE_ALL 1000000u /* ppm */

enum fleet_role { FLEET_ROLE_GATEWAY, FLEET_ROLE_EDGE };

struct fleet_endpoint {
    char name[FLEET_NAME_BYTES];  /* address and port: the same on all nodes */
    uint32_t in_flight, limit;    /* requests of this node; its learned limit */
    uint32_t answers, latency_us; /* good ones in the span, their mean time to first byte */
};
struct fleet_demand {
    uint64_t limit;       /* id of the limit: the same on all nodes */
    uint64_t limit_milli; /* the whole limit, requests per 1,000 s; 0: each user's own */
    uint32_t asked_milli; /* requests per 1,000 s that came for it, refused ones included */
    uint32_t share_ppm;   /* of the limit, in force on this node */
    uint64_t heeded; /* sequence of the last decision that it took in; 0: none since its start */
};
struct fleet_report {
    uint64_t node;
    uint32_t epoch;    /* starts of its brain */
    uint64_t sequence; /* grows with each report of this node and service */
    uint64_t wall_us;
    uint64_t sent_us; /* by the sender's own monotonic clock: means something to the sender only */
    uint32_t span_us; /* time that the counts cover */
    uint8_t role;     /* enum fleet_role */
    uint8_t is_leaving;  /* the last report: this node serves nobody any more */
    uint8_t has_members; /* it knows the nodes of the last decision, perhaps of an earlier run */
    uint8_t is_ready;    /* it knows what each node may hold of the limits of this service */
    uint32_t lease_ms;   /* how long it goes on with its parts when it is cut off */
    uint32_t safe_ppm;   /* at most this part of a limit it uses after that */
    char region[FLEET_REGION_BYTES];
    char service[FLEET_NAME_BYTES];
    uint32_t requests, late, failed, shed; /* that ended in the span */
    uint32_t queued;
    uint32_t endpoint_count, demand_count;
    struct fleet_endpoint endpoints[FLEET_ENDPOINTS_MAX];
    struct fleet_demand demands[FLEET_DEMANDS_MAX];
    struct sketch latency;       /* of the requests that succeeded in the span */
    char name[FLEET_NODE_BYTES]; /* of the node, for people; "" none, and then it is not sent */
};

struct fleet_share {
    uint64_t node;
    uint32_t share_ppm;   /* of the limit; the sum over nodes is at most FLEET_SHARE_ALL */
    uint32_t asked_milli; /* the evidence */
};
struct fleet_decision {
    uint64_t controller; /* node that decided */
    uint32_t epoch;
    uint64_t sequence; /* grows with each decision on this limit, whoever decides: of two with the
                          same one, or with a lower one, the first in the broker's order holds */
    uint64_t wall_us;
    uint64_t limit;
    uint64_t after; /* id of the decision on this limit that its author heard last; 0: none */
    char service[FLEET_NAME_BYTES];
    uint32_t count;
    struct fleet_share shares[FLEET_NODES_MAX];
};

enum fleet_kind { FLEET_NOTHING, FLEET_REPORT, FLEET_DECISION };
/* Appends; out->failed when it does not fit. */
void fleet_report_write(const struct fleet_report *r, struct buf *out);
void fleet_decision_write(const struct fleet_decision *d, struct buf *out);
/* FLEET_NOTHING: not one of ours, or of a newer kind. */
enum fleet_kind fleet_kind_of(struct span bytes);
/* False: damaged; *r is then undefined.  Texts are terminated. */
FB_MUST_USE
bool fleet_report_read(struct span bytes, struct fleet_report *r);
FB_MUST_USE
bool fleet_decision_read(struct span bytes, struct fleet_decision *d);
#endif
