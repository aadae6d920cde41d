/* SPDX-License-Identifier: Apache-2.0 */
/* admin_int: what the files of the admin server share: the server, its connections, one API call.
 *
 * A connection:
 *   READ --head and body complete--> (handler) --> WRITE --all sent--> READ | closed
 *        |                               |--> WAIT --(an answer, or it takes too long)--> WRITE
 *        \--(body refused)--> WRITE --> LINGER: what still comes is read away --> closed
 *                                        \--> STREAM: fed by events and ticks until the peer leaves
 * Threads: the brain's loop. */
#ifndef FB_OUTPUT_ADMIN_INT_H
#define FB_OUTPUT_ADMIN_INT_H
#include "analytics/cold.h"
#include "base/json.h"
#include "event/filter.h"
#include "event/series.h"
#include "io/socket.h"
#include "output/admin.h"
#include "output/api.h"
#include "output/auth.h"
#include "output/history.h"
#include "output/jsonin.h"
#include "output/metrics.h"
#include "output/recent.h"
#include "output/timeline.h"
#include "proto/http1_body.h"
#include "proto/http1_write.h"

#define CONN_HEAD_MAX_BYTES (16 * KIB)
#define CONN_BODY_MAX_BYTES (64 * KIB)  /* no call of the API needs more than 4 KiB */
#define CONN_INGEST_MAX_BYTES (1 * MIB) /* with a token, to the calls that bring events in */
#define CONN_OUT_MAX_BYTES (6 * MIB)    /* one whole answer: metrics of 1,024 endpoints are 2 MB */
#define CONN_STREAM_MAX_BYTES                                                                      \
    (512 * KIB) /* what a slow reader of a live stream may leave behind                            \
                 */
#define CONN_FIELDS_MAX 64
#define CONN_IDLE_US (75 * US_PER_S)
#define CONN_REQUEST_US                                                                            \
    (10 * US_PER_S)                  /* for a whole request to arrive, for progress in writing     \
                                      */
#define CONN_LINGER_BYTES (16 * MIB) /* of a refused body, read so that the answer is seen */
#define CONN_LINGER_US (5 * US_PER_S)
#define BEACONS_PER_S 200
#define STREAMS_MAX 32 /* half of the connections: the API stays reachable */

enum conn_phase { CONN_FREE, CONN_READ, CONN_WAIT, CONN_WRITE, CONN_STREAM, CONN_LINGER };
enum stream_kind { STREAM_LIVE, STREAM_TAP, STREAM_EVENTS };

struct stream {
    enum stream_kind kind;
    struct filter filter;
    uint32_t interval_ms; /* live: between two summaries */
    uint64_t next_us;     /* live: when the next one is due */
    uint32_t rate_max;    /* tap: messages per second */
    uint32_t sent_now;    /* tap: in the second that began at rate_us */
    uint64_t rate_us;
    uint64_t skipped;  /* tap: matched, but over the rate */
    uint64_t lost;     /* not written because the reader is slow; told when it catches up */
    uint64_t from;     /* events: next offset; tap: next request ever counted */
    uint64_t left;     /* events: how many more */
    bool is_following; /* events: wait at the end of the log */
    bool is_waiting;   /* events: at the end; the next tick looks again */
    bool is_redacted;
    bool is_over; /* finish writing, then close */
    uint8_t type; /* events: only this type, 0 all */
};

/* What a connection in WAIT waits for. */
enum conn_wait {
    CONN_WAIT_NONE,
    CONN_WAIT_QUERY,
    CONN_WAIT_RELOAD,
    CONN_WAIT_TOLD, /* a word of the gateway */
    CONN_WAIT_EVENT /* of a request that has just ended */
};
struct api_call;
/* <told> NULL: it did not answer in time. */
typedef void api_told_fn(struct api_call *c, const uint32_t *told);
#define CONN_RELOAD_US (10 * US_PER_S)
#define VERDICT_MAX_BYTES 4096

struct verdict { /* the last one of its kind; file and lines point into <text> */
    struct admin_verdict of;
    char text[VERDICT_MAX_BYTES];
};

struct conn {
    struct admin *admin;
    struct conn *next_done; /* private to admin.c */
    int fd;
    enum conn_phase phase;
    uint32_t slot;
    unsigned char source[AUTH_SOURCE_BYTES]; /* address of the peer, as auth.h counts it */
    bool is_closing;                         /* after the answer */
    bool wants_write;                        /* registered for EPOLLOUT */
    bool is_head_done;
    bool is_unread; /* the body was refused: what comes of it is dropped */
    size_t drained_bytes;
    uint64_t linger_until_us;
    uint64_t last_us; /* of the last byte in either direction */
    struct buf in;    /* bytes from the peer, not yet consumed */
    struct http1_parser parser;
    struct http1_field fields[CONN_FIELDS_MAX];
    struct http1_body body_reader;
    const char *head_base; /* where <in> was when the head was complete */
    size_t body_at;        /* consumed bytes of <in> behind the head */
    struct buf body;
    struct buf out;
    size_t out_sent;
    struct span tail; /* static bytes behind <out>: an asset */
    size_t tail_sent;
    struct stream *stream; /* in STREAM */
    enum conn_wait waits_for;
    uint32_t ticket;        /* in WAIT: of the query or question, or number of the reload */
    uint64_t wait_until_us; /* in WAIT, but for a query */
    api_told_fn *on_told;   /* in WAIT for the gateway */
    struct admin_endpoint_order order; /* the same, when it is about an endpoint */
};

struct admin {
    struct admin_source source;
    struct ev_owners owners; /* of the numbers of endpoints */
    struct auth auth;
    char beacon_origins[1024];
    struct repeats *repeats;     /* CloudEvents that came; NULL: none could */
    struct series *series;       /* totals that exporters told; NULL: none did yet */
    uint64_t born_wall_us;       /* wall clock at the start */
    uint64_t beacon_us, beacons; /* in the second that began then */
    int listener, epoll;
    char address[SOCK_TEXT_BYTES];
    char node[64];
    uint64_t now_us, start_us;
    struct conn *conn[ADMIN_CONNS_MAX];
    uint32_t conn_count, stream_count;
    struct verdict last, in_force; /* of reloads: the last one; the last that was taken */
    uint32_t told_ticket, told;    /* while admin_on_told runs; 0: it does not */
    struct timeline timeline;
    struct history history;
    struct recent *recent;
    struct metrics *metrics;
    struct buf scratch, scratch2; /* body of the answer that is being made; one SSE message */
    uint64_t events_last, events_last_us; /* for events per second */
    double events_per_s;
    double cpu_share[4]; /* of the last second: host, supervisor, gateway, brain; 1 is one core */
    struct ev_resource cpu_last[4];
    struct ev_tick tick; /* the last one */
    uint64_t last_offset;
    uint64_t tap_edge; /* requests counted at the tick before */
};

/* ---- one call ---- */
struct api_call {
    struct admin *admin;
    struct conn *conn;
    const struct http1_head *head;
    const struct api_row *row;
    const struct api_refusal *refusal;  /* NULL: the body is there */
    char param[2][ADMIN_ADDRESS_BYTES]; /* decoded {..} of the path, terminated */
    struct buf *out;                    /* body of the answer */
    struct json j;                      /* writes into <out> */
    uint16_t status;
    const char *type;      /* Content-Type; JSON unless set */
    char header[400];      /* whole extra header lines */
    struct span asset;     /* static body instead of <out> */
    struct stream *stream; /* the connection becomes a stream */
};

/* Answers with problem+json; the code gives status and remedy. */
void api_fail(struct api_call *c, enum fb_code code, const char *fmt, ...) FB_PRINTF(3, 4);
void api_fail_status(struct api_call *c, uint16_t status, enum fb_code code, const char *text);
void api_fail_err(struct api_call *c, const struct fb_err *err);
/* The same with the place in what was sent, from 1; 0: none. */
void api_fail_at(struct api_call *c, uint16_t status, const struct fb_err *err, uint32_t position);
/* A name that nothing has: 404, but 503 with Retry-After while names are still being learned. */
void api_fail_unknown(struct api_call *c, const char *fmt, ...) FB_PRINTF(2, 3);
/* Value of a query parameter, decoded into <out>; false when absent or too long. */
bool api_query(const struct api_call *c, const char *name, char *out, size_t cap);
/* Number from the query within [min, max]; <fallback> when absent; false after api_fail. */
FB_MUST_USE
bool api_query_u64(struct api_call *c, const char *name, uint64_t range[2], uint64_t *value);
/* The body as a flat JSON object ({} when there is none); false after api_fail. */
FB_MUST_USE
bool api_body(struct api_call *c, struct jsonin *in);
bool api_query_bool(struct api_call *c, const char *name, bool *value); /* as api_query_u64 */
/* Is every field of the body, every parameter of the query one of this call?  False after api_fail.
 */
FB_MUST_USE
bool api_fields_known(struct api_call *c, const struct jsonin *in);
FB_MUST_USE
bool api_query_known(struct api_call *c);
/* Number of a target given by name, or "#7"; EV_NONE when unknown. */
uint16_t api_target(const struct admin *a, enum ev_kind kind, const char *name);
/* Of an endpoint on a Unix socket: what socket_path_look says of its file; of others 0. */
int api_look_at_socket(const struct admin *a, uint16_t endpoint);
/* scope= of the query: "all", "service:shop", "route:shop /checkout/"; false after api_fail. */
FB_MUST_USE
bool api_scope(struct api_call *c, struct fact_scope *scope);
FB_MUST_USE
bool api_window(struct api_call *c, enum fact_window *window);
int api_kind_by_name(struct span name); /* -1 when unknown */
/* What an empty cache of a route would mean (api_cache.c); false: not known. */
bool api_cold(const struct admin *a, uint16_t route, struct cold_view *out);

/* ---- bodies that bring events in (api_media.c) ---- */
struct span api_media_type(const struct http1_head *h); /* without its parameters; "" none */
/* UTF-8, as far as the head says; false after api_fail. */
FB_MUST_USE
bool api_charset_ok(struct api_call *c, enum ingest_via via);
/* The body as it was before Content-Encoding, in <plain> where it came packed; plain->max is the
 * bound then.  False after api_fail. */
FB_MUST_USE
bool api_unpack(struct api_call *c, enum ingest_via via, struct buf *plain, struct span *body);

/* An error as exporters of OpenTelemetry read it: google.rpc.Status in the form of the request. */
void api_otlp_status(struct api_call *c);

/* Records of EV_CUSTOM into the queue, all or none; false after a 429 (api_ingest.c). */
FB_MUST_USE
bool api_ingest_put(struct api_call *c, enum ingest_via via, struct span records);

/* ---- pieces of answers, also of live messages ---- */
void put_time(struct json *j, const char *key, uint64_t wall_us); /* RFC 3339, ms, UTC */
void put_hex(struct json *j, const char *key, uint64_t v);
void put_fact(struct json *j, const struct fact *f);
void put_target(struct json *j, const struct admin *a, uint8_t kind, uint16_t number);
/* As it was named then: that of an event. */
void put_target_at(struct json *j, const struct admin *a, uint8_t kind, uint16_t number,
                   uint64_t time_us);
void put_decision(struct json *j, const struct admin *a, const struct timeline_entry *e,
                  bool with_evidence);
void put_alert(struct json *j, const struct admin *a, const struct timeline_alert *x);
void put_knob(struct json *j, const struct admin *a, uint16_t knob, uint16_t target);
void put_services(struct json *j, const struct admin *a, enum fact_window window);
void put_routes(struct json *j, const struct admin *a, enum fact_window window);
void put_endpoints(struct json *j, const struct admin *a, enum fact_window window);
void put_versions(struct json *j, const struct admin *a, enum fact_window window);
void put_stream(struct json *j, const struct admin *a);
void put_protocols(struct json *j, const struct admin *a);
void put_tls(struct json *j, const struct admin *a);
void put_signals(struct json *j, const struct admin *a, bool with_points); /* api_signal.c */
void put_cost(struct json *j, const struct admin *a);
void put_totals(struct json *j, const struct admin *a, enum fact_window window);
void put_request(struct json *j, const struct admin *a, const struct ev_request *r,
                 const struct ev_sample *s, bool is_redacted);
const char *admin_name(const struct admin *a, enum ev_kind kind, uint16_t number); /* "" unknown */
/* Whose number it was then: that of the event that is shown. */
const char *admin_name_at(const struct admin *a, enum ev_kind kind, uint16_t number,
                          uint64_t time_us);
struct filter_names admin_names(const struct admin *a);
bool admin_is_ready(const struct admin *a);

/* ---- streams (sse.c) ---- */
struct stream *stream_open(struct api_call *c, enum stream_kind kind); /* NULL after api_fail */
void stream_on_event(struct admin *a, const struct ev_head *ev, uint64_t offset);
void stream_tick(struct admin *a);
/* More events for a history stream that has room. */
void stream_pump(struct conn *c);

/* ---- connections (conn.c) ---- */
FB_MUST_USE
bool conn_new(struct admin *a, int fd, const struct sock_addr *peer);
void conn_close(struct conn *c);
void conn_on_ready(struct conn *c, uint32_t events);
void conn_flush(struct conn *c);
void conn_want(struct conn *c, bool write); /* be told when there is room */
void conn_check_idle(struct conn *c);
void conn_settle_head(struct conn *c); /* the spans of its head are good again */
void conn_on_answer(struct conn *c);   /* in WAIT: a query has ended, perhaps this one */
/* How large the body of this request may be (api.c). */
size_t api_body_max(const struct admin *a, const struct http1_head *h);
/* Dispatches a complete request; fills out/tail/stream of the connection (api.c). */
struct api_refusal {
    uint16_t status;
    enum ingest_refused why; /* counted when the call brings events in */
    const char *text;
};
/* <refusal>: the body cannot be taken; whoever may not call hears that instead.  NULL: serve. */
void api_serve(struct conn *c, const struct api_refusal *refusal);
/* Is it worth to ask for the body that waits for 100 Continue? */
bool api_may_send(const struct admin *a, const struct http1_head *h);
/* The peer went away in the middle of a body. */
void api_count_cut(struct conn *c);
/* The answer of a connection in WAIT; false while there is none. */
bool api_resume(struct conn *c);
/* Fill <c> with the answer that its connection waits for; false while there is none. */
bool api_query_answer(struct api_call *c);
bool api_reload_answer(struct api_call *c);
bool api_told_answer(struct api_call *c);
bool api_event_answer(struct api_call *c);
/* Lets the connection wait for the gateway's word; <on_told> makes the answer, at once when there
 * is no ticket. */
void api_wait_told(struct api_call *c, uint32_t ticket, api_told_fn *on_told);
/* True: it waits, for a second at most. */
bool api_wait_event(struct api_call *c);
/* False: the event of the request may still come. */
bool api_why(struct api_call *c);
void api_put_own_endpoints(struct api_call *c); /* member "api_endpoints" */
/* The configuration in force has the service or route no more; its service the endpoint. */
bool admin_has_left(const struct admin *a, enum ev_kind kind, uint16_t number);
/* How the API added an endpoint; NULL: it did not. */
const struct admin_endpoint *api_own_endpoint(const struct admin *a, uint16_t number);
/* ---- api_names.c ---- */
struct source;
bool api_source_of(const struct admin *a, uint16_t number, struct source *out); /* of an endpoint */
bool api_find_name(const struct admin *a, const char *service, const char *text,
                   struct source *out);                        /* <service> "": any */
void api_put_names(struct api_call *c, uint16_t service);      /* member "names" */
void api_say_name(struct api_call *c, const struct source *s); /* a sentence on how it is */
#define API_TOO_MANY_BYTES 120
/* That more names are followed than the memory file has rows for. */
void api_too_many_names(const struct admin *a, char text[API_TOO_MANY_BYTES]);
/* Members of an object: "needs_restart": the keys, or with <has_values> each with both values. */
void put_needs_restart(struct json *j, const struct admin *a, bool has_values);
#endif
