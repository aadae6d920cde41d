/* SPDX-License-Identifier: Apache-2.0 */
/* admin: the faces of a running foldback: REST API, live streams (SSE), metrics and the dashboard.
 *
 * Runs inside the brain's event loop and knows no loop itself: it owns one epoll descriptor that
 * the brain watches like any other.
 *
 *   admin_new -> listens       loop says admin_fd is readable -> admin_run
 *   each sequenced event       -> admin_on_event (counters, timeline, tap; about 30 ns, no I/O)
 *   each tick, after the engine -> admin_tick    (live streams, history of facts, idle timers)
 *
 * What it shows comes from struct admin_source; what an operator wants goes back through submit()
 * as an event, so that the log holds it and a replay repeats it.  Nothing here turns a knob itself.
 *
 * Holds always: it never blocks; at most ADMIN_CONNS_MAX connections with bounded memory each; a
 * slow reader of a live stream loses messages (counted, and told to it), never holds up the brain.
 * Who may: a bearer token, or a session cookie that the token bought; metrics, healthz and readyz
 * need none.  Host must be a loopback name or the configured address (DNS rebinding).
 * Time: CLOCK_MONOTONIC microseconds are arguments; wall clock comes with the tick events.
 * Threads: the brain's loop only.  Errors: enum fb_code; over HTTP problem+json (RFC 9457). */
#ifndef FB_OUTPUT_ADMIN_H
#define FB_OUTPUT_ADMIN_H
#include "analytics/curve.h"
#include "analytics/custom.h"
#include "analytics/facts.h"
#include "analytics/signal.h"
#include "base/error.h"
#include "base/json.h"
#include "event/ingest.h"
#include "event/ingress.h"
#include "knob/memfile.h"
#include "output/metrics.h"

#define ADMIN_CONNS_MAX 64
#define ADMIN_DECISIONS_MAX 2048 /* in the timeline, newest kept */
#define ADMIN_TOKEN_MAX_BYTES 128

/* State of the event log, as the brain sees it now.  Totals count since the start of the log epoch.
 */
struct admin_stream {
    uint64_t first_offset, next_offset, durable_offset;
    uint64_t events, events_lost; /* sequenced; dropped by rings or disk */
    uint64_t blocks, log_bytes, segments;
    uint64_t compacted_segments, compacted_saved_bytes, compact_failures;
    uint64_t uncleared_segments, clear_failures;
    uint64_t snapshot_offset, snapshot_us; /* newest snapshot; 0 none */
    uint64_t lag_us;                       /* age of the oldest event that is not durable yet */
    uint64_t recovered_events,
        recovered_us; /* caught up from the log at the last start, and how long */
    bool is_disk_ok;
    char disk_error[160]; /* "" while is_disk_ok */
    struct metrics_keys keys;
};

#define ADMIN_CONNECTORS_MAX 32
/* Dead letters that were to be sent again: the last order. */
struct admin_resend {
    uint32_t number;   /* 0: none */
    const char *state; /* "waits", "runs", "done", "ended" */
    uint64_t sent, kept;
    char text[200];
};
/* How one connector is; totals count since it was started. */
struct admin_connector {
    char name[48], type[16];
    bool is_source, has_letters; /* dead ones on the disk, of earlier starts too */
    const char *state;           /* "running" */
    uint64_t offset;             /* sink: next event to deliver */
    uint64_t lag_events, lag_us; /* UINT64_MAX events: unknown */
    uint64_t events, records, bytes, errors, retries, split, dead, bad, lost, repeated;
    uint32_t in_flight;
    char last_error[320]; /* "" none */
    uint64_t last_error_wall_us;
    struct admin_resend resend;
};
enum { ADMIN_CONNECTOR_PAUSE, ADMIN_CONNECTOR_RESUME, ADMIN_CONNECTOR_RESET };
struct admin_connector_order {
    uint8_t verb;
    const char *name;
    bool has_place;  /* of a reset: a sink needs one, a source takes none */
    uint64_t offset; /* 0 oldest, UINT64_MAX end */
};

#define ADMIN_SERVICE_BYTES 64
#define ADMIN_ADDRESS_BYTES 280
/* An endpoint that came through the API. */
struct admin_endpoint {
    char service[ADMIN_SERVICE_BYTES];
    char address[ADMIN_ADDRESS_BYTES]; /* "10.0.0.1:80", "dns://shop.internal:80" */
    bool is_name;
    char version[32], zone[32]; /* "" none */
    double weight_pct;
};
enum { ADMIN_ENDPOINT_ADD, ADMIN_ENDPOINT_CHANGE, ADMIN_ENDPOINT_REMOVE };
struct admin_endpoint_order {
    struct admin_endpoint of; /* address: as written, then as foldback writes it; weight NAN, texts
                                 "": as it is, or the default */
    uint8_t verb;             /* an ADD of one that is there becomes a CHANGE */
    uint32_t ticket;          /* what comes of it: admin_on_told; 0: nobody will tell */
};
struct admin_purge {
    uint16_t kind; /* 0 all, 1 url, 2 prefix, 3 tag */
    bool is_paced;
    const char *text;
};

/* A question to the log in SQL, answered on a thread of its own. */
struct admin_query {
    const char *sql;
    uint32_t rows_max;
    bool is_redacted;
};
struct admin_query_answer {
    struct fb_err err; /* code FB_OK: <body> has the answer */
    int error_at;      /* byte of the SQL, -1 for no place */
};

/* Returns false to stop early. */
typedef bool (*admin_visit)(void *visit_ctx, const struct ev_head *ev, uint64_t offset);

/* One read of the log. */
struct admin_read {
    uint64_t from, next; /* offsets */
    uint32_t max;
    admin_visit visit;
    void *visit_ctx;
};

/* What the brain lends and does.  Pointers live as long as the admin.  A NULL callback answers 501.
 */
struct admin_source {
    void *ctx; /* first argument of every callback */
    const struct facts *facts;
    const struct knob_book *book;
    const struct curves *curves;    /* of caches; NULL: none */
    const struct customs *customs;  /* facts of what applications send; NULL: none */
    const struct signals *signals;  /* with <signal>; NULL: none */
    struct ingress *ingress;        /* where events go in; NULL: ingest answers 501 */
    struct ingest_stats *ingest;    /* with <ingress> */
    const struct memfile *memfile;  /* names, gauges, head */
    const struct knob_table *table; /* what is published; NULL: memfile->knobs */

    /* Sentence of a decision (engine_explain). */
    void (*explain)(void *ctx, const struct ev_decision *d, struct buf *out);
    bool (*is_drained)(void *ctx, uint16_t endpoint);
    /* The signal in place <i>, below SIGNALS_MAX; false: the place is free. */
    bool (*signal)(void *ctx, uint32_t i, struct signal_view *out);
    /* Publishes a COMMAND or CUSTOM event into the stream: it is sequenced, logged and fed to the
     * engine as any other.  May happen at once or at the next tick. */
    enum fb_code (*submit)(void *ctx, const struct ev_head *ev, struct fb_err *err);
    void (*stream)(void *ctx, struct admin_stream *out);
    /* Visits at most read->max events (512 at most: about 1 ms) from read->from on; read->next is
     * where to go on.  FB_OK, FB_E_END at the durable end (then next is that end), FB_E_NOT_FOUND
     * before the first kept offset (then next is the first kept one). */
    enum fb_code (*read_events)(void *ctx, struct admin_read *read);
    /* Configuration text in force (YAML as read), and the effective values as one JSON value with
     * the source of each. */
    void (*config_text)(void *ctx, struct buf *out);
    void (*config_effective)(void *ctx, struct buf *out);
    void (*config_schema)(void *ctx, struct buf *out); /* JSON Schema */
    /* What is legal in it and does nothing: lines LINE TAB text; borrowed until the next call. */
    struct span (*config_warnings)(void *ctx);
    /* Asks for the file to be read again; what became of it comes with admin_on_verdict. */
    enum fb_code (*reload)(void *ctx, uint16_t *number, struct fb_err *err);
    void (*fleet)(void *ctx, struct json *j); /* one JSON object: Fleet in api_schemas.json */
    /* Tells the gateway what to drop from memory; how many answers that were comes with
     * admin_on_told; ticket 0: nobody will tell. */
    enum fb_code (*purge)(void *ctx, const struct admin_purge *what, uint32_t *ticket,
                          struct fb_err *err);
    /* Errors: NOT_FOUND, CONFLICT, RANGE, IO, NOMEM.  Told is 1 when the service has the endpoint.
     */
    enum fb_code (*endpoint_order)(void *ctx, struct admin_endpoint_order *o, struct fb_err *err);
    const struct admin_endpoint *(*endpoint_at)(void *ctx, uint32_t index); /* NULL: no more */
    /* Connectors in the order of their names; returns how many. */
    uint32_t (*connectors)(void *ctx, struct admin_connector *out, uint32_t max);
    /* <id> "": all of them.  *number is that of the order, see struct admin_resend. */
    enum fb_code (*letters_send)(void *ctx, const char *connector, const char *id, uint32_t *number,
                                 struct fb_err *err);
    enum fb_code (*connector_order)(void *ctx, const struct admin_connector_order *order,
                                    struct fb_err *err);
    /* Begins a query; *ticket is never 0.  AGAIN: as many as may run do. */
    enum fb_code (*query_begin)(void *ctx, const struct admin_query *ask, uint32_t *ticket,
                                struct fb_err *err);
    /* False while it runs.  True ends the ticket. */
    bool (*query_take)(void *ctx, uint32_t ticket, struct buf *body,
                       struct admin_query_answer *out);
    void (*query_drop)(void *ctx, uint32_t ticket); /* nobody waits any more */
    int query_fd; /* with query_begin: readable when one has ended; the admin reads it */
};

struct admin_setup {
    const char *address; /* "127.0.0.1:9180", "[::1]:0"; port 0 takes a free one; copied */
    int listen_fd;       /* a listening socket that is now the admin's, or -1 to bind <address> */
    const char *token;   /* 16..ADMIN_TOKEN_MAX_BYTES bytes of [A-Za-z0-9_-]; copied */
    const char *node;    /* name of this node; copied; NULL: "foldback" */
    uint64_t session_seed[2];   /* from the kernel's random source: keys session cookies */
    uint64_t now_us, wall_us;   /* at the start */
    struct admin_source source; /* copied */
};

/* What became of a reload.  Lines of TAB separated parts: KEY, value in force, value that waits for
 * the next start; of a refused one LINE, COLUMN (0 none) and what is wrong. */
struct admin_verdict {
    uint16_t number; /* of the newest reload() that it answers; 0: of none */
    bool is_in_force, has_file;
    struct span file, lines;
};

struct admin;
/* Errors: PORT_IN_USE, IO, RANGE (token, address), NOMEM. */
FB_MUST_USE
enum fb_code admin_new(struct admin **admin, const struct admin_setup *setup, struct fb_err *err);
void admin_free(struct admin *a); /* closes everything */

/* Text of the file with ingest-only tokens; replaces those before.  Errors: FORMAT, with the line.
 */
FB_MUST_USE
enum fb_code admin_ingest_tokens(struct admin *a, struct span text, struct fb_err *err);

/* Origins of pages whose beacons are taken, separated by commas; "" none. */
void admin_beacon_origins(struct admin *a, const char *origins);

int admin_fd(const struct admin *a);              /* watch it for readability, level-triggered */
void admin_run(struct admin *a, uint64_t now_us); /* when readable; bounded work per call */
/* After the engine has seen the tick (its decisions came through admin_on_event).  Also in between
 * at will; closes idle connections and feeds live streams. */
void admin_tick(struct admin *a, uint64_t now_us);
/* Every sequenced event in log order, decisions and outcomes included.  At a start with a snapshot:
 * also the decisions of the last hour read back from the log, with is_replay, so that the timeline
 * is not empty; replayed events count in no metric and reach no live stream. */
void admin_on_event(struct admin *a, const struct ev_head *ev, uint64_t offset, bool is_replay);
/* As timeline_alert_at (output/timeline.h). */
const struct timeline_alert *admin_alert_at(const struct admin *a, uint64_t index);

void admin_on_verdict(struct admin *a, const struct admin_verdict *v);
/* The gateway's answer to a purge or an order about an endpoint. */
void admin_on_told(struct admin *a, uint32_t ticket, uint32_t value);

/* "127.0.0.1:9180" with the port that was taken; borrowed. */
const char *admin_address(const struct admin *a);
/* "http://127.0.0.1:9180/?token=..." that logs a browser in once; for the start-up banner. */
void admin_url(const struct admin *a, struct buf *out);
#endif
