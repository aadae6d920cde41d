/* SPDX-License-Identifier: Apache-2.0 */
/* memfile: the one memory file that supervisor, gateway and brain share.
 *
 *   +------+-----------+------------------+---------------+--------+--------+ ... +
 *   | head | knob table| names (registry) | keeps, gauges | ring 0 | ring 1 |     |
 *   +------+-----------+------------------+---------------+--------+--------+ ... +
 *
 * Ring of thread t of the gateway in slot s: s x threads + t.
 * Writers: head by the supervisor (beats by their processes), knob table by the brain, everything
 * else by the gateway that serves (head->gateway_slot); one that is about to end writes its own
 * rings and counts only.  The layout is versioned: a process that finds another version refuses to
 * attach. Lives as long as the supervisor; survives kill -9 of gateway or brain. */
#ifndef FB_KNOB_MEMFILE_H
#define FB_KNOB_MEMFILE_H
#include "event/ring.h"
#include "knob/knob.h"

#define MEMFILE_MAGIC UINT64_C(0x314b4342444c4f46) /* "FOLDBCK1" */
#define MEMFILE_VERSION 13
#define MEMFILE_THREADS_MAX 64
#define MEMFILE_OWN_RESOURCES 4
/* Gateways at work at once: one serves, those before it end what they have (an upgrade).  Each has
 * its own rings and counts, since a ring has one producer; untouched ones cost no memory. */
#define MEMFILE_SLOTS 3
#define MEMFILE_RINGS_MAX (MEMFILE_SLOTS * MEMFILE_THREADS_MAX)

/* What the gateway tells of TLS; counters live as long as the supervisor. */
#define MEMFILE_TLS_FAULTS 16 /* by enum tls_fault */
#define MEMFILE_CERTS_MAX 64
#define MEMFILE_LISTENS_MAX 64
struct memfile_cert {
    char name[64], file[128];
    _Atomic uint64_t not_after_s; /* since 1970 */
    /* Of its OCSP answer: made, may be shown until (UINT64_MAX: for ever); 0: it has none. */
    _Atomic uint64_t staple_made_s, staple_until_s;
};
struct memfile_tls {
    _Atomic uint64_t full, resumed; /* handshakes of clients that succeeded */
    _Atomic uint64_t failed[MEMFILE_TLS_FAULTS];
    _Atomic uint64_t reloads;                       /* certificates taken from changed files */
    _Atomic uint32_t refused[MEMFILE_LISTENS_MAX];  /* 1: the files of that listener are not good */
    char why[256];                                  /* of the last refusal */
    _Atomic uint32_t refused_out[KNOB_TARGETS_MAX]; /* 1: those of that service */
    char why_out[256];                              /* of the last refusal */
    _Atomic uint64_t warn_s;                        /* tls.expiry_warning */
    _Atomic uint32_t cert_count;
    struct memfile_cert certs[MEMFILE_CERTS_MAX];
};

/* The program that renews certificates; the supervisor's to write.  Times since 1970, 0: none. */
struct memfile_renew {
    _Atomic uint64_t good, failed; /* runs */
    _Atomic uint64_t begun_s, next_s;
    _Atomic uint32_t is_running, is_failing; /* <is_failing>: the last one that ended */
    _Atomic uint32_t last_code;              /* exit code, 128 + number of a signal */
};

/* Passwords that are checked, and the files of users; counters as those of TLS. */
enum memfile_auth_cause {
    MEMFILE_AUTH_FULL,   /* as many wait as there is room for */
    MEMFILE_AUTH_CLIENT, /* as many of this client wait as may */
    MEMFILE_AUTH_THREAD, /* no thread could be started */
    MEMFILE_AUTH_CAUSES
};
struct memfile_auth {
    _Atomic uint64_t refused[MEMFILE_AUTH_CAUSES]; /* checks */
    _Atomic uint64_t reads[2];                     /* of changed files: taken, not good */
    _Atomic uint32_t waiting[MEMFILE_SLOTS];       /* checks that wait or are computed */
    _Atomic uint32_t files, bad_files;             /* named by routes; of these, not good now */
    char why[256];                                 /* of the last one that was not */
};

/* HTTP/2 of clients; counters live as long as the supervisor. */
enum memfile_h2_count {
    MEMFILE_H2_STREAMS,
    MEMFILE_H2_RESETS_IN,
    MEMFILE_H2_RESETS_OUT,
    MEMFILE_H2_CONTROL,
    MEMFILE_H2_REFUSED,
    MEMFILE_H2_FLOOD_RESETS,
    MEMFILE_H2_FLOOD_CONTROL,
    MEMFILE_H2_FLOOD_HEADERS,
    MEMFILE_H2_COUNTS
};
struct memfile_h2 {
    _Atomic uint64_t counts[MEMFILE_H2_COUNTS];
    _Atomic uint32_t connections[MEMFILE_RINGS_MAX]; /* open, by slot and thread */
    _Atomic uint32_t streams[MEMFILE_RINGS_MAX];     /* at work, by slot and thread */
};

struct memfile_compress { /* answers that were compressed; counters as those of HTTP/2 */
    _Atomic uint64_t answers, in_bytes, out_bytes, refused;
    _Atomic uint64_t stored_answers, stored_forms, stored_in_bytes, stored_out_bytes;
};

struct memfile_head {
    uint64_t magic;
    uint32_t version, head_bytes;
    uint64_t bytes;
    uint32_t threads, ring_cells;
    uint64_t node_id;
    uint64_t time_offset_us; /* of stream time, base/clock.h; memfile_attach sets it */
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint64_t
        brain_beat_us; /* last tick of the brain, CLOCK_MONOTONIC */
    _Atomic uint32_t brain_epoch;
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint64_t gateway_beat_us;
    _Atomic uint32_t gateway_epoch; /* counts gateway starts: the brain sees a restart */
    _Atomic uint32_t gateway_is_draining;
    _Atomic uint32_t gateway_pid, brain_pid, supervisor_pid; /* the supervisor's to write */
    _Atomic uint64_t config_hash;           /* of the configuration that the gateway serves */
    _Atomic uint64_t connections, requests; /* totals of this gateway process */
    _Atomic uint32_t names_version;         /* counts changes of the registry */
    _Atomic uint32_t past_count;            /* of memfile.pasts, ever */
    _Atomic uint32_t source_top;            /* of memfile.sources: none was used from here on */
    /* what the gateway itself uses, by enum overload_resource: share in use, place on the ladder */
    _Atomic uint32_t own_used_ppm[MEMFILE_OWN_RESOURCES], own_place_ppm[MEMFILE_OWN_RESOURCES];
    _Atomic uint32_t own_stage, own_threshold;
    _Atomic uint32_t source_lack;        /* names that have no place in memfile.sources */
    _Atomic uint64_t rates_pushed;       /* keys of rate limits that were forgotten too early */
    _Atomic uint64_t caps_uncounted;     /* requests of clients that a cap had no place for */
    _Atomic uint32_t gateway_slot;       /* of the gateway that serves; the supervisor's */
    _Atomic uint64_t fleet_lease_end_us; /* CLOCK_MONOTONIC; until then parts of limits hold */
    struct memfile_tls tls;
    struct memfile_h2 h2;
    struct memfile_compress compress;
    struct memfile_renew renew;
    struct memfile_auth auth;
    /* What subjects in events are mixed with; random, only ever in this memory, renewed by the
     * brain with each period (privacy.period) and each erasure: an old subject leads to nobody. */
    _Atomic uint64_t pseudonym;
    uint64_t secret[2]; /* of this state folder: for hashes that leave the process and outlive it */
};

/* Registry: numbers of routes, services, endpoints and versions, kept over reloads and gateway
 * restarts by name. Written by the gateway's first thread; a row never changes its name while
 * is_used.  Numbers of endpoints change hands: knob/numbers.h. */
#define MEMFILE_NAME_BYTES 104
struct memfile_name {
    /* terminated: "shop", "shop /checkout/", "shop 10.0.0.1:80", "shop canary" */
    char name[MEMFILE_NAME_BYTES];
    _Atomic uint32_t is_used;
    uint16_t parent;          /* service number of a route, endpoint or version */
    _Atomic uint16_t version; /* of an endpoint: number of its version, EV_NONE when it left */
    uint64_t seen_us;
    _Atomic uint32_t is_drained; /* endpoints: an operator took it out; the brain's to write */
    _Atomic uint32_t has_left;   /* 1: its service has the endpoint, the configuration the service
                                    or route no more */
    char zone[32];               /* endpoints; the gateway's first thread writes it */
    _Atomic uint32_t origin;     /* endpoints: enum memfile_origin; likewise */
    _Atomic uint32_t source;     /* endpoints: 1 + row of memfile.sources, 0 none; likewise */
};

/* What named an endpoint. */
enum memfile_origin {
    MEMFILE_ORIGIN_CONFIG,
    MEMFILE_ORIGIN_DNS,
    MEMFILE_ORIGIN_FILE,
    MEMFILE_ORIGIN_API
};

/* How often the number of an endpoint changed hands: knob/numbers.h. */
struct memfile_life {
    _Atomic uint32_t generation;
    _Atomic uint32_t holders[MEMFILE_SLOTS]; /* by gateway: what still has it in memory */
    _Atomic uint64_t since_us;               /* the present owner's; 0: it is the first */
    _Atomic uint64_t left_us, closed_us;     /* closed: 0, or since when its generation is over */
};
/* Whose a number was before. */
#define MEMFILE_PASTS 2048
struct memfile_past {
    _Atomic uint64_t since_us, until_us; /* <until_us> 0: nobody's */
    uint16_t number;
    char name[MEMFILE_NAME_BYTES];
};

/* A name that a gateway follows: knob/sources.h. */
#define MEMFILE_SOURCES 1024
struct memfile_source {
    _Atomic uint32_t owner;   /* 1 + slot of its gateway; 0: nobody's */
    _Atomic uint32_t version; /* odd while it is written */
    uint32_t is_said, reserved;
    _Alignas(8) unsigned char bytes[408]; /* a struct source */
};

/* What a new gateway takes over from a dead one, per endpoint; written each tick. */
struct memfile_keep {
    double limit, base_us, latency_us, error_ratio;
    uint64_t saved_us;
    uint8_t health, reserved[7];
    double cv; /* coefficient of variation of the service time */
    uint64_t reserved2;
};

/* Present counts of one endpoint, exact over all gateway threads. */
struct memfile_gauge {
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic int32_t in_flight[MEMFILE_SLOTS];
    _Atomic uint32_t limit, queued, health;
    _Atomic uint32_t weight_permille;      /* in force, 1000 is even */
    _Atomic uint32_t utilisation_permille; /* as it reported; UINT32_MAX: not now */
    _Atomic uint32_t place;                /* enum memfile_place */
    _Atomic uint32_t others;               /* in flight from other nodes; the brain's to write */
    /* Good answers ever, of this node and of others (those are the brain's to write). */
    _Atomic uint64_t answers, others_answers;
};

/* Count and sum of times grow in one word, so that a reader never has one without the other: what
 * came between two readings is exact below 2^20 answers and 2^44 us. */
#define MEMFILE_ANSWERS_BITS 20
static inline void memfile_answers_add(_Atomic uint64_t *word, uint64_t count, uint64_t sum_us)
{
    uint64_t mask = (UINT64_C(1) << MEMFILE_ANSWERS_BITS) - 1;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t sum = (old >> MEMFILE_ANSWERS_BITS) + sum_us;
    atomic_store_explicit(word, sum << MEMFILE_ANSWERS_BITS | ((old + count) & mask),
                          memory_order_relaxed);
}
/* Since *<seen>, which follows. */
static inline void memfile_answers_since(const _Atomic uint64_t *word, uint64_t *seen,
                                         uint32_t *count, uint64_t *sum_us)
{
    uint64_t mask = (UINT64_C(1) << MEMFILE_ANSWERS_BITS) - 1;
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed), was = *seen;
    *count = (uint32_t)((now - was) & mask);
    *sum_us = ((now >> MEMFILE_ANSWERS_BITS) - (was >> MEMFILE_ANSWERS_BITS)) & (UINT64_MAX >> 20);
    *seen = now;
}

enum memfile_place {
    MEMFILE_PLACE_FAR = 1,   /* in another zone than this node */
    MEMFILE_PLACE_OUT = 2,   /* its agent wants no requests */
    MEMFILE_PLACE_SPARE = 4, /* of a tier that is not in use */
    MEMFILE_PLACE_KNOWN = 8  /* the gateway has said so */
};

struct memfile {
    struct memfile_head *head;
    struct knob_table *knobs;
    struct memfile_name *routes, *services, *endpoints, *versions; /* KNOB_TARGETS_MAX each */
    struct memfile_life *lives;                                    /* by endpoint number */
    struct memfile_past *pasts;            /* MEMFILE_PASTS, a ring by head->past_count */
    struct memfile_source *sources;        /* MEMFILE_SOURCES */
    struct memfile_keep *keeps;            /* by endpoint number */
    struct memfile_gauge *gauges;          /* by endpoint number */
    struct ring *rings[MEMFILE_RINGS_MAX]; /* MEMFILE_SLOTS x head->threads */
    int fd;
};
static inline uint32_t memfile_ring_count(const struct memfile *m)
{
    return MEMFILE_SLOTS * m->head->threads;
}
/* Of all gateways. */
static inline int32_t memfile_in_flight(const struct memfile_gauge *g)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < MEMFILE_SLOTS; i++)
        sum += atomic_load_explicit(&g->in_flight[i], memory_order_relaxed);
    return sum;
}

/* A new memory file for <threads> gateway threads with rings of <ring_cells>.  Errors: IO, NOMEM.
 */
FB_MUST_USE
enum fb_code memfile_create(struct memfile *m, uint32_t threads, uint32_t ring_cells,
                            struct fb_err *err);
/* Maps the file behind <fd> (not closed).  Errors: IO, VERSION. */
FB_MUST_USE
enum fb_code memfile_attach(struct memfile *m, int fd, struct fb_err *err);
void memfile_close(struct memfile *m); /* unmaps; the descriptor stays the caller's */
/* A new head->pseudonym. */
void memfile_pseudonym_renew(struct memfile_head *head);

/* The number of <name>, a new one when it has none; EV_NONE when all are taken.  Gateway's first
 * thread. */
uint16_t memfile_number(struct memfile *m, enum ev_kind kind, const char *name, uint16_t parent);
/* These services or routes are configured, the others have left.  Gateway's first thread. */
void memfile_configured(struct memfile *m, enum ev_kind kind, const uint16_t *numbers,
                        size_t count);
/* "SERVICE ADDRESS", what an endpoint is called everywhere; false: it is longer than a name may be,
 * and was cut. */
bool memfile_endpoint_name(const char *service, const char *address, char name[MEMFILE_NAME_BYTES]);
/* The name of a number, "" when unused.  Any process. */
const char *memfile_name(const struct memfile *m, enum ev_kind kind, uint16_t number);
#endif
