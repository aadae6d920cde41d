/* SPDX-License-Identifier: Apache-2.0 */
/* gateway_int: the structs of the data plane and who owns them.
 *
 *   gw (process) --> worker (thread) --> client (connection) --> request --> upstream (connection)
 *      |  \--> service (by name, for ever) --> gate, endpoint[]                  |
 *      \--> generation (one configuration) <-- request (counted per thread)      \--> endpoint
 *
 * A request lives from its complete head until its upstream part and its answer are both over.  The
 * client may leave earlier: then request.client is NULL and the request ends when its endpoint is
 * through with it, as far as that can be known (leave.c).
 *
 *   request.phase:  (GUARDED ->) (HELD ->) (COLLAPSED ->) QUEUED -> CONNECTING -> AWAITING ->
 * ANSWERING -> OVER ^  \       |             |   \-> TUNNEL ----^
 *                     \-- BACKOFF <------------/ (retry)
 *
 * Threads: gw and service are shared (service under its lock; endpoint fields are constant or
 * atomic); everything else belongs to one worker. */
#ifndef FB_GATEWAY_GATEWAY_INT_H
#define FB_GATEWAY_GATEWAY_INT_H
#include "base/log.h"
#include "base/rng.h"
#include "gateway/access_log.h"
#include "gateway/gateway.h"
#include "gateway/listen_int.h"
#include "gateway/route.h"
#include "gateway/send_batch.h"
#include "gateway/slab.h"
#include "io/dns.h"
#include "io/link.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/thread.h"
#include "io/tls.h"
#include "io/tls_ticket.h"
#include "knob/numbers.h"
#include "proto/coding.h"
#include "proto/http1.h"
#include "proto/http1_body.h"
#include "proto/http1_target.h"
#include "proto/http1_write.h"
#include "reflex/gate.h"
#include "reflex/rate.h"
#include "reflex/split.h"

struct iovec;
struct worker;
struct request;
struct cache_store; /* cache_store.h */
struct cache_work;  /* cache.h */
struct cache_coder; /* cache_coded.c */
struct authz;       /* authz.h */
struct authz_users;
struct authz_work;
struct encoder; /* encoder.h */
struct upstream;
struct watch; /* discover.c */
struct holds; /* holds.h */
struct h2_conn;
struct h2_shared;

/* ---- shared ---- */

struct pool { /* free connections of one thread to one endpoint, newest first */
    _Alignas(FB_CACHE_LINE_BYTES) struct upstream *first;
    struct h2u_conn *h2;     /* h2_upstream.h */
    uint32_t h2_streams_max; /* that its last connection was told; 0: not known */
    uint64_t http1_us;       /* protocol: auto: when it chose HTTP/1.1; 0: it did not */
    uint32_t count;
    uint32_t large_seen;   /* splice.c */
    uint64_t whole_us;     /* leave.c: mean time of whole answers; 0: none yet */
    _Atomic uint32_t open; /* all connections of this thread to it; thread 0 reads it */
};

struct probe; /* an active health check, thread 0 */
struct agent; /* agent.c, thread 0 */

struct endpoint {
    struct sock_addr addr;
    struct service *sv;
    uint16_t index;           /* in the gate */
    uint16_t number;          /* in the registry */
    uint32_t generation;      /* of its number */
    _Atomic uint16_t version; /* number of its version; thread 0 writes */
    bool is_dns;
    bool is_drained;             /* thread 0: as told to the gate */
    bool is_limit_told;          /* thread 0: the brain has said something of its limit */
    uint8_t limit_resets;        /* thread 0: of what it said, as seen last */
    uint32_t seen;               /* generation in which the configuration named it */
    _Atomic bool is_gone;        /* left the service: pools close what they hold */
    _Atomic uint32_t refs;       /* the service, and each upstream connection */
    struct memfile_gauge *gauge; /* NULL when the registry is full */
    _Atomic int32_t *in_flight;  /* of this gateway, in <gauge> */
    uint64_t heard;              /* of gauge->others_answers; thread 0 */
    struct probe *probe;
    struct agent *agent;
    _Atomic uint64_t load_us; /* its last load report */
    _Atomic uint64_t pin;     /* in cookies of sticky sessions; 0: none */
    double weight_pct;
    char text[SOCK_TEXT_BYTES];
    char host[256];      /* as configured: what its certificate must be for */
    struct pool pools[]; /* one per thread */
};

struct service {
    struct spin lock; /* guards gate, endpoints, last_us */
    struct gate *gate;
    uint64_t last_us; /* the gate's clock never goes back */
    uint64_t ticked_us;
    struct endpoint *endpoints[GATE_ENDPOINTS_MAX]; /* by index in the gate */
    _Atomic uint32_t in_hand;                       /* while it has a cap */
    _Atomic uint32_t live;       /* tickets queued or in flight: only then ticks are worth it */
    _Atomic bool has_dns_failed; /* the last look-up of one of its names */
    uint16_t number;
    uint32_t seen; /* generation in which the configuration named it */
    struct service *next;
    struct gw *gw;
    const struct conf_service *conf; /* of the present generation */
    uint64_t sticky_key[2];          /* thread 0 */
    bool is_list_new;                /* thread 0 */
    char name[104];
};

/* A configuration, ready for use.  Lives until no worker and no request uses it. */
struct generation {
    struct conf *conf;
    struct route_table *routes;
    struct service **services; /* by index in conf->services */
    uint16_t *route_numbers;
    struct split_route **splits; /* by route; NULL: none */
    struct authz_users **users;  /* by route; NULL: no route has any */
    uint32_t number;             /* counts from 1 */
    _Atomic uint32_t workers;    /* that may still use it; the last one frees it */
    struct http1_limits limits;
    char node[64];   /* in Via and Proxy-Status */
    struct span via; /* "Via: 1.1 node\r\n" */
    char via_text[96];
    struct generation_use {
        _Alignas(FB_CACHE_LINE_BYTES) uint32_t requests; /* of one worker */
        struct loop_message message;                     /* tells the worker to switch to it */
        struct generation *generation;
        struct worker *worker;
    } use[MEMFILE_THREADS_MAX];
    _Atomic uint32_t switched;  /* workers that have */
    struct tls_server **tls;    /* by index in conf->listens; NULL: it speaks without TLS */
    struct listen_plan *listen; /* listen.c */
    uint32_t threads;
    struct tls_client **tls_out; /* by index in conf->services; NULL: without TLS */
};

struct gw {
    const struct gateway_setup *setup;
    struct memfile *mem;
    uint32_t thread_count;
    struct worker *workers;
    struct service *_Atomic services; /* all that ever were; grows at the front */
    struct generation *gen;           /* thread 0: newest */
    struct access_log *log;
    struct dns *dns;
    _Atomic uint32_t route_in_hand[KNOB_TARGETS_MAX]; /* by number, of routes with a cap */
    struct own_load *own;           /* overload.c; thread 0's, but for what follows */
    _Atomic uint64_t own_idle_us;   /* idle connections close after it; UINT64_MAX: as configured */
    _Atomic uint32_t own_threshold; /* admission by what foldback itself can do; 512: all */
    _Atomic uint8_t own_stage;      /* enum overload_stage */
    struct rate_table *rates;       /* NULL until a route has limits */
    struct holds *holds;            /* NULL until clients have caps */
    _Atomic uint64_t caps_uncounted;
    struct authz *authz;      /* NULL until a route asks for passwords */
    uint64_t users_polled_us; /* thread 0 */
    uint64_t key_seed;        /* of hashes that clients could otherwise aim at */
    _Atomic bool is_draining, is_stopped, is_last_call;
    uint64_t drain_us, busy_us; /* thread 0: draining since; last seen with requests */
    uint64_t last_call_us;      /* thread 0: since when nothing new is begun; 0: not yet */
    bool is_retired;            /* thread 0: another gateway serves; this one ends what it has */
    char reload_text[1024];
    struct loop_handle control, dns_handle;
    uint64_t start_us;
    struct cache_store *cache;         /* answers in memory; of all threads */
    struct cache_coder *_Atomic coder; /* thread 0 writes; NULL: no route needs it */
    bool wants_coder;                  /* thread 0 */
    uint64_t cache_said_us;            /* thread 0 */
    struct watch *watches;             /* thread 0: names and lists that are looked at */
    struct loop_handle inotify_handle;
    uint64_t lists_us;           /* thread 0: lists were looked at */
    uint32_t lack_ticks;         /* thread 0: names without a row in the memory file since then */
    uint64_t numbers_us;         /* thread 0: numbers of endpoints were */
    _Atomic uint32_t gone_count; /* endpoints that left: pools look for them */
    struct tls_tickets tickets;
    uint64_t tls_polled_us;       /* thread 0 */
    struct memfile_tls *tls_own;  /* thread 0: until it is in charge (tls_files.c); then NULL */
    struct listen_offers *offers; /* thread 0, listen.c; NULL: none */
};

/* ---- one thread ---- */

struct handshake {         /* of one client, until it is over */
    struct client *client; /* NULL: it left while this was ready */
    struct handshake *older, *newer, *next;
    bool is_ready;
};
struct handshakes {
    struct handshake *oldest, *newest;
    struct handshake *first, **last; /* ready */
    struct loop_job job;
    uint32_t count;
};

struct worker {
    struct gw *gw;
    uint32_t index;
    pthread_t thread;
    struct loop *loop;
    struct ring *ring;
    struct generation *gen;
    struct chunk_store chunks;
    struct slab clients, requests, upstreams, trailers, cache_works, h2_conns, h2_streams,
        h2u_streams;
    struct h2_shared *h2; /* NULL until the first connection needs it */
    uint32_t h2_conn_count;
    uint32_t h2_stream_count;          /* at work, those of connections that are gone too */
    uint64_t encoder_bytes;            /* compress.c */
    uint64_t h2_refused, h2_floods[4]; /* by enum h2_flood */
    uint64_t h2_shown[MEMFILE_H2_COUNTS];
    struct listener *listeners[MEMFILE_LISTENS_MAX]; /* by index in gen->conf->listens */
    size_t listener_count;
    struct listener *leaving; /* not in the newest file; their connections end */
    struct client *client_list;
    struct h2u_conn *h2u_conns;
    struct upstream *idle_oldest, *idle_newest; /* of all pools, by time */
    struct http1_parser request_parser, answer_parser;
    struct http1_field *request_fields, *answer_fields;
    char *in, *out; /* scratch: bytes read, head written; valid within one callback */
    size_t in_bytes, out_bytes;
    struct regex_work *regex; /* NULL: no route ever had a regular expression */
    int pipe[2];              /* splice.c; empty between two events; -1: none */
    size_t pipe_bytes;        /* it takes at most this; 0: no splicing here */
    struct rng rng;
    uint64_t next_id, id_salt; /* worker_request_id */
    struct access_buf access;
    struct loop_timer tick, pause; /* gates and pools; accepting again after EMFILE */
    struct loop_message stop;      /* drain or stop, from thread 0 */
    uint64_t ticked_us, trimmed_us, trimmed_bytes, rested_bytes;
    uint32_t request_count, client_count, fd_limit, peer_v4, peer_text_bytes;
    uint32_t sample_tokens, sample_credit;
    uint32_t cache_samples; /* since the last second */
    uint8_t cache_shift;    /* one key in 2^shift is in the sample */
    uint32_t gone_seen;     /* of gw->gone_count */
    uint64_t static_age_us; /* age of the brain's last sign, when the glide has begun; else 0 */
    uint64_t date_s;
    char date[40], peer_text[SOCK_HOST_BYTES]; /* "Date: ...\r\n"; of the last client, <peer_v4> */
    uint32_t date_bytes;
    uint64_t requests_total, connections_total;
    uint64_t refused, refused_seen; /* answers 503 of our own; as of the last tick */
    /* as of the last tick, for thread 0 */
    _Atomic uint32_t shown_requests, shown_clients;
    _Atomic uint64_t shown_requests_total;
    struct rate_refusal { /* what rate_check refused last: for its answer */
        const struct conf_rate *rate;
        uint64_t wait_us, reset_us, left;
    } refusal;
    uint16_t cap_status;                /* of the cap that refused last */
    uint64_t tick_due_us, tick_late_us; /* how late the worst of the last 100 ms was */
    struct loop_message own_probe;      /* measures how long an event waits for this thread */
    _Atomic uint64_t own_probe_us, own_delay_us; /* sent at, 0: not on its way; last measured */
    _Atomic uint32_t shown_descriptors;
    _Atomic uint64_t rates_pushed; /* keys that were forgotten before their bucket was full */
    uint32_t field_room;           /* of request_fields and answer_fields */
    struct handshakes handshakes;
    char challenge[480]; /* what acme_find found, for the answer */
    uint32_t challenge_bytes;
    uint64_t blame_said_us;  /* when it was logged what is wrong with an endpoint */
    struct request *orphans; /* their client left, their endpoint still works */
    bool is_held;            /* accepts nothing: foldback itself is at its end */
    bool is_accepting, is_draining;
    bool is_last_call; /* the drain's time is over: what is not sent yet is refused */
    struct send_batch sends;
};

enum client_kind {
    CLIENT_H1,  /* a connection; with <h2> it carries streams */
    CLIENT_TCP, /* a connection that is passed through */
    CLIENT_H2   /* one stream: struct h2_stream */
};

struct client {
    struct loop_handle handle;
    struct loop_timer timer;
    struct link link;
    struct worker *worker;
    struct client *next, **prev;
    struct request *req;         /* in hand; NULL between requests */
    struct handshake *handshake; /* of TLS, while it goes on */
    struct h2_conn *h2;          /* what this connection speaks, after its preface; NULL: HTTP/1 */
    struct chunk *in;            /* read and not yet understood */
    struct chunk *out;           /* written by us, not yet taken by the socket */
    struct sock_addr peer;
    uint64_t since_us;        /* of the present wait: idle, head, body, write */
    uint64_t blocked_us;      /* time that we waited for its reading, this answer */
    uint64_t written_bytes;   /* to this connection */
    uint64_t read_from_bytes; /* of them delivered when we first waited in this answer */
    struct chunk *proxied; /* a struct sock_addr: where the client connected to, if a PROXY header
                              said so */
    struct listener *listener;
    uint32_t tls_cipher; /* as in its events */
    uint8_t kind;        /* enum client_kind */
    uint8_t tls;         /* enum ev_tls */
    bool awaits_proxy;   /* its PROXY header is not complete */
    bool can_read, can_write;
    bool has_ended;  /* it will send nothing more */
    bool is_broken;  /* reset, or it must be cut */
    bool is_whole;   /* its last request was read to the end */
    bool is_closing; /* after <out> is flushed */
    bool is_cut;     /* at once after what is written: the answer is not whole */
    bool is_lingering, is_running, is_rested;
    bool is_first;    /* no request yet */
    uint8_t traits;   /* of all its requests: PROXIED of enum ev_trait */
    bool is_parsed;   /* <in> holds no complete head */
    bool is_send_due; /* <out> is written at the end of this turn */
};

enum request_phase {
    REQUEST_HELD, /* its body comes in: no slot of an endpoint is spent on waiting for it */
    REQUEST_QUEUED,
    REQUEST_COLLAPSED, /* waits for the answer to another request for the same */
    REQUEST_GUARDED,   /* it is not known yet whether its client may ask (authz.h) */
    REQUEST_BACKOFF,
    REQUEST_CONNECTING,
    REQUEST_AWAITING,  /* being sent, or sent and no answer head yet */
    REQUEST_ANSWERING, /* answer head is through */
    REQUEST_TUNNEL,
    REQUEST_LEFT, /* nobody waits, and its endpoint was told; it may work on (leave.c) */
    REQUEST_OVER  /* nothing more from upstream */
};

struct trailer_room { /* trailers.c */
    struct http1_trailers t;
    struct chunk *wide; /* what does not fit here; NULL: it does */
    struct http1_field fields[16];
    char bytes[2048];
};

/* What the access log and samples want to know; only while somebody listens. */
struct request_texts {
    struct span method, target, path, host, referer, user_agent; /* in the rest of the chunk */
    bool is_sampled;
};

struct request {
    struct gate_ticket ticket;
    struct worker *worker;
    struct client *client;        /* NULL: it left */
    struct request *next, **prev; /* orphans */
    struct generation *gen;
    struct service *sv;
    struct endpoint *ep;
    struct upstream *up;
    struct h2_conn *h2_slot; /* its client's connection counts it until it ends; NULL: HTTP/1 */
    struct request *twin;    /* the second copy of this one, or what this one is the copy of */
    struct chunk *head;      /* canonical head for the endpoint, without the last empty line */
    struct chunk *body;      /* request body: [from, to) is unsent, [0, from) kept for a retry */
    struct trailer_room *trailers;
    struct cache_work *cw;      /* NULL: the cache has nothing to do with it */
    struct authz_work *guard;   /* NULL: its route lets everybody ask */
    struct encoder *encoder;    /* while its answer is being compressed */
    struct chunk *texts;        /* begins with a struct request_texts */
    struct chunk *back;         /* back.c: what the answer needs; NULL: nothing is mapped back */
    struct loop_timer timer;    /* connect, first byte, silence, deadline, backoff */
    struct loop_timer transfer; /* then its answer needs no slot any more */
    union {
        struct loop_message message; /* from the thread that granted it */
        struct loop_job job;
    } grant;
    struct http1_body in; /* request body as it arrives */
    uint64_t start_us, sent_us, first_byte_us, active_us;
    uint64_t deadline_us; /* UINT64_MAX: none */
    uint64_t timeout_us;
    uint64_t request_id, trace_hi, trace_lo;
    uint64_t discard_to_bytes; /* payload up to which it is dropped after an early answer */
    uint64_t body_wait_us;     /* time that we waited for body bytes */
    uint64_t body_since_us;    /* since when we wait; 0: not */
    uint64_t sent_bytes, received_bytes;
    uint64_t end_us;                   /* when the client had its answer, or left; 0: not yet */
    uint64_t traits;                   /* bits of enum ev_trait; some more are in the ticket */
    uint64_t plain_bytes, coded_bytes; /* of the body of its answer: before and after its encoder */
    uint64_t backoff_us;               /* until then */
    uint64_t away_until_us;            /* leave.c: read for nobody; 0: not */
    uint64_t left_until_us;            /* leave.c: its client's connection counts it */
    uint64_t hedge_at_us;              /* then a second copy may be sent; 0: not */
    uint32_t hedge_us;                 /* from the first send to the second */
    uint32_t queue_us, upstream_us, service_us, away_bytes;
    uint32_t head_sent; /* of head, in this attempt */
    uint32_t head_base; /* bytes of head without the fields of the attempt */
    uint16_t route, reason, status;
    uint16_t in_flight, ep_number, ep_version;
    uint16_t hedge_endpoint; /* number of the endpoint whose answer was not needed */
    uint32_t ep_generation, hedge_generation; /* of those numbers (knob/numbers.h) */
    uint32_t tls_cipher;                      /* of the client, as in its event */
    uint16_t grpc_status;                     /* EV_NONE: no gRPC */
    char peer_text[46]; /* the client's address: the client may be gone when the log is written */
    uint8_t peer_text_bytes;
    bool is_forwarded; /* a proxy of ours made it: what its fields say of the client is believed */
    bool is_https;     /* the client came so, by TLS or by the word of that proxy */
    uint8_t phase;     /* enum request_phase */
    uint8_t method;
    uint8_t version_minor;
    uint8_t framing_out; /* enum http1_framing of the answer to the client */
    uint8_t attempt_in;  /* of the attempt header */
    uint8_t restarts;    /* sent again because nobody had seen it */
    uint8_t outcome;     /* enum gate_outcome, as the answer's head says */
    uint8_t protocol;    /* enum ev_protocol of the client */
    uint8_t tls;         /* enum ev_tls of the client */
    uint8_t cache;       /* enum ev_cache */
    uint8_t hedge;       /* enum ev_hedge */
    uint8_t coding;      /* enum coding that the client wants; NONE: nothing is compressed */
    uint32_t held_places[2 * CONF_CAPS_MAX]; /* in gw->holds, of what cap_take took; 0: none */
    uint8_t held;                            /* what cap_take took */
    uint8_t limit_used_pct;                  /* of the fullest limit that it counted in */
    bool has_cookie;                         /* its sticky cookie says something */
    bool is_mirror;      /* a copy for another service: its event is not one of the route */
    bool is_silent;      /* a copy: the event is the other one's */
    bool is_ticket_live; /* the gate knows it */
    bool is_in_done;     /* request body is complete, or given up */
    bool is_chunked_in, is_replayable;
    bool is_kept;       /* somebody wants the bytes of the answer: they pass through memory */
    bool is_body_raw;   /* the endpoint gets the payload without chunk framing */
    bool is_discarding; /* the rest of the request body is read and dropped */
    bool is_keep_alive; /* the client connection may live on */
    bool is_upgrade, is_websocket, expects_continue, is_continued;
    bool is_answered; /* something of the answer was given to the client */
    bool is_out_done; /* all of the answer was */
    bool is_first_byte_told;
    bool is_grpc, is_endless; /* its answer is an event stream */
    bool is_reused, is_stream, wants_json, is_failed, is_censored, is_aborted;
    bool goes_on;                  /* without a client: its answer is kept all the same */
    bool is_own;                   /* never had a client: the cache fetches an answer anew */
    bool is_in_bulk, is_out_bulk;  /* tunnel: many bytes come; from the client, to the client */
    bool is_in_ended, is_up_ended; /* tunnel: that side will send nothing more */
};

enum upstream_phase { UPSTREAM_CONNECTING, UPSTREAM_BUSY, UPSTREAM_IDLE };
enum upstream_kind { UPSTREAM_H1, UPSTREAM_H2 };

struct upstream {
    struct loop_handle handle;
    struct link link;
    struct worker *worker;
    struct endpoint *ep;
    struct request *req;           /* NULL in the pool */
    struct upstream *next, **prev; /* in the pool */
    struct upstream *newer, *older;
    struct chunk *in;  /* part of an answer head */
    struct chunk *out; /* tunnel: client's bytes not yet taken */
    struct trailer_room *trailers;
    struct http1_body body;
    uint64_t idle_us;    /* in the pool since */
    uint64_t client_key; /* of the client whom its PROXY header names; 0: none, anybody's */
    bool owes_proxy;     /* the PROXY header is not written */
    uint8_t phase;
    uint8_t kind; /* enum upstream_kind */
    bool can_read, can_write, has_ended, is_broken;
    bool is_reused;        /* had an answer before this request */
    bool is_keep_alive;    /* as the answer's head says */
    bool has_head;         /* final head of the present answer */
    bool has_bytes;        /* anything of the present answer */
    bool is_send_due;      /* the request is written at the end of this turn */
    struct loop_job again; /* reads on in the next turn: others get theirs first */
};

/* ---- client.c: one client connection ---- */
void client_accept(struct listener *l, int fd, const struct sock_addr *peer);
void client_run(struct client *c);
/* Writes or keeps; on a broken connection sets is_broken and drops. */
void client_send(struct client *c, struct iovec *iov, int count);
void client_close(struct client *c); /* frees it; its request must be detached */
void client_gone(struct client *c);  /* cut: ends or detaches its request, frees it */
uint64_t client_rest_us(const struct client *c, uint64_t since_us); /* UINT64_MAX: not at all */
bool client_rest(struct client *c, uint64_t since_us); /* true: it was due, and is done */
void client_wait(struct client *c); /* arms its timer for what it waits for now */
/* Its reader has kept the answer waiting this long: the endpoint's slot may be free. */
void client_release_slot(struct client *c, uint64_t blocked_us);
void client_end_send(struct client *c); /* tunnel: nothing more comes from the endpoint */

/* ---- h2_conn.c, h2_stream.c: HTTP/2 towards clients (h2_int.h) ---- */
/* The connection speaks HTTP/2 from <bytes> on, which begin with its preface and may be a part of
 * it: ALPN chose it, or the preface came in clear. */
void client_begin_h2(struct client *c, struct span bytes);
struct client *h2_stream_socket(struct client *c); /* the connection of a stream; NULL: closed */
bool h2_conn_step(struct client *c);               /* as one step of client_run */
void h2_conn_wait(struct client *c);
void h2_conn_timer(struct client *c);
void h2_conn_drain(struct client *c); /* GOAWAY; what is open goes on */
void h2_conn_close(struct client *c);
void h2_conn_each(struct client *c, void (*visit)(struct client *stream)); /* may end it */
void h2_show(struct worker *w);          /* its counts, each tick */
void h2_slot_give(struct h2_conn *conn); /* a request of it ended */
/* What client.c does for connections, for streams. */
void h2_stream_run(struct client *c);
void h2_stream_wait(struct client *c);
void h2_stream_send(struct client *c, const struct iovec *iov, int count);
void h2_stream_say(struct client *c, struct span head, struct span payload);
void h2_stream_finish(struct client *c);
struct chunk *h2_stream_take(struct client *c); /* bytes for a tunnel; NULL: none; now yours */
bool h2_stream_has_ended(const struct client *c);
bool h2_stream_was_reset(const struct client *c);

/* ---- body.c: request bodies from client to endpoint ---- */
/* After an early answer this much is read and dropped rather than closing a connection. */
#define BODY_DROP_MAX_BYTES (64 * KIB)
/* Takes what it can from <bytes>; returns how many.  *reason is set when the body is refused. */
size_t body_take(struct request *req, struct span bytes, uint16_t *reason);
/* Payload without framing, counted in req->in.payload_bytes by the caller: kept for the endpoint,
 * or dropped; returns the reason when it is refused. */
uint16_t body_put(struct request *req, struct span data, bool is_last);
/* Reads from the client while there is room. */
void body_pump(struct request *req);
bool body_has_room(const struct request *req);
size_t body_room(const struct request *req); /* payload to read at most now */
/* Bytes came: false when that was too slow and the body is refused. */
bool body_came(struct request *req, uint64_t now_us);
void body_wait(struct request *req, uint64_t now_us); /* no more bytes are there now */
void body_refuse(struct request *req, uint16_t reason);
void body_send(struct request *req); /* the endpoint gets what there is, if it wants it now */
void body_judge(struct request *req, uint64_t now_us);
/* While half of the service's slots are taken a request whose body has begun is held until it is
 * whole, has filled HOLD_BYTES, or came fast enough for limits.min_rate_grace: who drips must not
 * occupy endpoints.  Streams and bodies that wait for 100 (Continue) are not held. */
#define HOLD_BYTES (8 * KIB)
bool body_is_held(const struct request *req);
void body_release(struct request *req); /* from REQUEST_HELD, when that is over */
/* What is left of the body is little enough to be read and forgotten after an early answer. */
bool body_is_droppable(const struct request *req);

/* ---- handshake.c: TLS of clients ---- */
FB_MUST_USE
bool handshake_begin(struct client *c, struct tls_server *server); /* false without memory */
void handshake_ready(struct client *c);                            /* bytes, or the end, came */
void handshake_fail(struct client *c, enum tls_fault fault);       /* before it is closed */
void handshake_drop(struct client *c);
void handshakes_init(struct handshakes *all);
void handshakes_fini(struct handshakes *all);

/* ---- request.c: begin and end ---- */
/* A complete head in <head>, and what came behind it.  Returns how much of <rest> belongs to it. */
size_t request_begin(struct client *c, const struct http1_head *head, struct span rest);
uint64_t request_body_most(const struct request *req); /* bytes; 0: no bound */
void request_free(struct request *req);                /* reports, gives back everything */
void request_detach(struct request *req);              /* the client left */
void request_adopt(struct request *req);               /* it goes on without a client */
void request_let_in(struct request *req);              /* it was guarded, and its client may ask */
void request_arm(struct request *req);
uint64_t request_timeout_us(const struct request *req);
struct request *request_open(struct client *c, const struct http1_head *head); /* NULL: no memory */
/* Of its service; the request has a route or is a passed connection. */
const struct conf_service *request_conf(const struct request *req);

/* ---- upstream_tls.c ---- */
struct tls_client *request_tls(const struct request *req); /* NULL: without TLS */
bool request_is_shut(const struct request *req); /* no connection can begin: its files are bad */
/* Connections in the pool with another key are not for this request. */
uint64_t request_pool_key(const struct request *req);
enum tls_step upstream_secure(struct upstream *up, uint16_t *reason); /* after connect */
/* A step of the handshake on a connection to req->ep. */
enum tls_step request_secure(struct request *req, struct link *link, uint16_t *reason);
/* What woke the free connection was not for us: TLS itself had something to say. */
bool upstream_is_quiet(struct upstream *up);
void request_wait_over(struct request *req, uint64_t now_us);

/* ---- agent.c ---- */
void agent_sync(struct service *sv, struct worker *w);
void agent_stop(struct endpoint *ep);

/* ---- clone.c: the same bytes once more, for nobody ---- */
struct request *request_clone(struct request *req, bool with_body); /* NULL without memory */

/* ---- mirror.c: the same for another service ---- */
void mirror_request(struct request *req); /* <req> is over */

/* ---- hedge.c: a second copy of a request that waits long ---- */
void hedge_arm(struct request *req); /* its first attempt begins */
void hedge_due(struct request *req); /* hedge_at_us has come */
void hedge_granted(struct request *two);
/* Before an answer's head of <req> is passed on: afterwards up->req is whom it is for. */
void hedge_settle(struct request *req);
/* Whom an answer to <req> is for, or may be for once it is known which copy is faster. */
static inline struct client *request_waiter(const struct request *req)
{
    return req->client ? req->client : req->twin ? req->twin->client : NULL;
}
bool hedge_takes_over(struct request *req); /* <req> failed: true when its copy goes on for it */
void hedge_leave(struct request *req);      /* no copy is wanted any more */
void hedge_drop(struct request *two);

/* ---- request_head.c, response_head.c ---- */
void request_head_build(struct request *req, const struct http1_head *head, struct http1_out *w,
                        struct span target);
void request_head_finish(struct request *req,
                         uint64_t now_us); /* fields of this attempt and the end */
void response_head_build(struct request *req, const struct http1_head *head, struct http1_out *w);
struct span worker_date(struct worker *w);
/* Number of the next request: counted, and mixed so that it tells nobody the count (base/mix.h). */
uint64_t worker_request_id(struct worker *w);

/* ---- forward.c: which endpoint, again, or not at all ---- */
void forward_arrive(struct request *req);
void forward_granted(struct request *req);
void forward_failed(struct request *req, uint16_t reason, enum gate_outcome outcome);
void forward_finished(struct request *req, enum gate_outcome outcome);
void forward_again(struct request *req, uint64_t backoff_us); /* a retry was allowed */
void forward_timer(struct loop_timer *t);
void forward_refuse(struct request *req, uint16_t reason); /* it waits and shall not be sent */

/* ---- upstream.c, pool.c ---- */
void upstream_start(struct request *req);
void upstream_run(struct upstream *up);
void upstream_send(struct upstream *up);
void upstream_send_now(struct upstream *up); /* for send_batch.c */
void upstream_close(struct upstream *up);    /* frees it */
void upstream_on_ready(struct loop_handle *h, uint32_t events);
uint16_t upstream_reason_of(int why); /* of a connection that could not be made, for this errno */
/* <n> connections of this thread more; UINT32_MAX: one less. */
void upstream_count(struct endpoint *ep, const struct worker *w, uint32_t n);
/* <client_key> as in struct upstream. */
struct upstream *pool_take(struct worker *w, struct endpoint *ep, uint64_t client_key);
bool pool_give(struct upstream *up); /* false: it was closed instead */
void pool_remove(struct upstream *up);
void pool_expire(struct worker *w);

/* ---- deliver.c: the one way of every answer to its client ---- */
struct answer_piece {
    struct span head;    /* canonical HTTP/1 text, status line to empty line; may be empty */
    struct span payload; /* may be empty */
    const struct http1_trailers *trailers; /* with the last piece; NULL: none */
    bool is_last;
    bool is_interim; /* <head> is 1xx, there is nothing else */
};
/* The client is there.  The pieces are copied or written before it returns; on a broken connection
 * client.is_broken is set. */
void client_answer(struct request *req, const struct answer_piece *piece);
void h2_stream_answer(struct request *req, const struct answer_piece *piece);
void client_write(struct request *req, const struct answer_piece *piece); /* as it is */

/* ---- relay.c: answers; each returns false when <up> is gone or back in the pool ---- */
bool relay_head(struct upstream *up, struct request *req, struct span bytes);
bool relay_body(struct upstream *up, struct request *req, struct span head_out, struct span bytes);
/* The same for answers that were understood elsewhere.  relay_final judges a head with status 200
 * or more; *head_out is what the client gets, in the worker's scratch memory.  relay_payload passes
 * a piece on and ends the answer with the last one. */
bool relay_interim(struct upstream *up, struct request *req, const struct http1_head *head);
bool relay_final(struct upstream *up, struct request *req, const struct http1_head *head,
                 struct span *head_out);
bool relay_payload(struct upstream *up, struct request *req, const struct answer_piece *piece);
bool relay_bad(struct upstream *up, struct request *req, uint16_t reason);
void relay_end(struct upstream *up, struct request *req);
void relay_finish(struct upstream *up, struct request *req);

/* ---- splice.c: large bodies without a copy ---- */
enum splice_step {
    SPLICE_REFUSED, /* not here, not now: recv */
    SPLICE_WAITS,   /* nothing to read now */
    SPLICE_MOVED,
    SPLICE_LAST /* the answer is whole */
};
bool splice_fits(const struct upstream *up, const struct request *req);
enum splice_step splice_run(struct upstream *up, struct request *req);
bool splice_open(struct worker *w); /* its pipe; false: there is none */
void splice_learn(struct upstream *up, const struct http1_head *head);
/* How much to read of an answer whose head is still to come. */
size_t splice_first_read(const struct upstream *up, size_t room);

/* ---- answer.c: what foldback says itself ---- */
void answer_local(struct request *req, uint16_t reason);
/* RFC 9209, when the reason has a token there. */
void answer_put_proxy_status(const struct worker *w, const struct ev_reason_row *row,
                             struct http1_out *out);
void answer_raw(struct client *c, uint16_t reason, bool wants_json);
uint16_t answer_reason_of(enum http1_error error);

/* ---- grpc.c ---- */
void grpc_begin(struct request *req, const struct http1_head *head);
/* The outcome that the endpoint's answer head means, given what HTTP says. */
enum gate_outcome grpc_head(struct request *req, const struct http1_head *head,
                            enum gate_outcome outcome);
void grpc_end(struct request *req, const struct http1_trailers *trailers); /* the answer is whole */
bool grpc_refuse(struct request *req, uint16_t reason); /* false: it is no call */

/* ---- service.c, sync.c: gates under their locks ---- */
enum gate_answer service_arrive(struct request *req, bool is_retry);
bool service_mirror(struct request *two); /* sent at once, or not at all */
enum gate_answer service_hedge(struct request *two, const struct request *first);
void service_first_byte(struct request *req);
void service_transfer(struct request *req); /* its length is a transfer's from now on */
/* Less than half of what its endpoints may work on is in flight. */
bool service_is_roomy(struct service *sv);
void service_done(struct request *req, enum gate_outcome outcome);
bool service_retry(struct request *req, enum gate_outcome outcome, uint64_t *backoff_us);
/* True when nothing of it is left with the gate; false: a grant is on its way. */
bool service_cancel(struct request *req);
void service_probe(struct endpoint *ep, enum eject_probe said);
void service_tick(struct service *sv, struct worker *w, uint64_t now_us);
/* What the gate has to say: health changes and verdicts of the learner, into the ring.  First
 * thread, each turn of its tick: a decision must not wait for the 100 ms report. */
void service_say(struct service *sv, struct worker *w);
void service_report(struct service *sv, struct worker *w, uint64_t now_us); /* thread 0 */
void service_knobs(struct service *sv, struct worker *w);                   /* thread 0 */
struct service *service_get(struct gw *gw, const struct conf_service *conf);
void service_sync(struct service *sv,
                  struct generation *gen); /* endpoints as the configuration says */
void service_retire(struct gw *gw,
                    uint32_t generation); /* services and names that it does not have */
void service_resync(struct service *sv);
void service_ask(struct service *sv);
struct wish; /* discover.h */
void service_want(struct service *sv, const struct sock_addr *addr, const struct wish *wish);
bool service_has(struct service *sv, const struct sock_addr *addr);
/* False: it is a name or a list; or a Unix socket with too long a path, or one more than a process
 * may know, which is logged. */
bool service_address(const struct service *sv, const struct conf_endpoint *e,
                     struct sock_addr *out);
void service_sweep(struct service *sv);         /* thread 0 */
void sync_tick(struct gw *gw, uint64_t now_us); /* thread 0 */
/* The endpoint with this number begins anew, as if it were new. */
void service_reset(struct gw *gw, uint16_t number);
void service_fini_all(struct gw *gw);
void endpoint_unref(struct endpoint *ep);

/* ---- rate.c: whom a request counts for, rate limits ---- */
bool rate_prepare(struct gw *gw, const struct conf *conf); /* false without memory */
uint64_t who_hash(const struct request *req, const struct http1_head *head,
                  const struct conf_who *who, uint64_t seed);
/* REASON_NONE, or why the limits of its route refuse it; then worker.refusal says more. */
uint16_t rate_check(struct request *req, const struct http1_head *head);
void rate_put_fields(const struct rate_refusal *refusal, struct http1_out *out);

/* ---- cap.c: most requests in hand ---- */
bool cap_prepare(struct gw *gw, const struct conf *conf); /* false without memory */
/* REASON_NONE, or why it is refused; after CLIENT_CAPPED worker.cap_status says with what. */
uint16_t cap_take(struct request *req, const struct http1_head *head);
/* Bits of request.held. */
enum { HELD_ROUTE = 1, HELD_SERVICE = 2, HELD_WORK = 3, HELD_CLIENT = 4, HELD_ALL = 7 };
void cap_give(struct request *req, uint8_t what); /* of what it holds */
/* <to>, which holds nothing, holds from now on what <from> has of its client's. */
void cap_hand_over(struct request *from, struct request *to);

/* ---- overload.c: what foldback itself runs short of ---- */
bool own_init(struct gw *gw); /* false without memory */
void own_fini(struct gw *gw);
void own_judge(struct gw *gw, uint64_t now_us);  /* thread 0, each 100 ms */
bool own_act(struct worker *w, uint64_t now_us); /* each 100 ms; false: accept nothing */
bool own_refuses(struct request *req);
bool own_ends_connections(const struct worker *w); /* after their answer, whatever they asked */

/* ---- generation.c ---- */
struct generation *generation_new(struct gw *gw, struct conf *conf, struct fb_err *err);
void generation_leave(struct generation *gen,
                      struct worker *w); /* when its count is 0 and it is not in use */
void generation_free(struct generation *gen);

/* ---- report.c: what the gateway says to the stream ---- */
void report_request(struct request *req);
/* Number and name of a route, service, endpoint or version. */
struct naming {
    enum ev_kind kind;
    uint16_t number, parent;
    uint16_t version; /* of an endpoint */
    bool is_gone;
};
void report_name(struct worker *w, const char *name, const struct naming *n);
void report_refill(struct worker *w);
bool report_wants_texts(struct worker *w, bool *is_sampled);
void report_refused(struct worker *w, uint16_t reason, uint16_t status, uint64_t start_us,
                    size_t received_bytes);

/* ---- gateway.c ---- */
FB_MUST_USE
enum fb_code gateway_dns(struct gw *gw, struct fb_err *err);       /* starts looking up names */
void gateway_tick(struct gw *gw);                                  /* thread 0, each 100 ms */
void gateway_tell(struct gw *gw, uint32_t ticket, uint64_t value); /* to the API; 0: to nobody */

/* ---- worker.c ---- */
bool worker_init(struct worker *w, struct gw *gw, uint32_t index, struct fb_err *err);
void *worker_main(void *arg);
void worker_fini(struct worker *w);
void worker_busy(struct worker *w); /* a request began: gates tick soon */
void worker_drain(struct worker *w);
void worker_cut_short(struct client *c);      /* what it has not got is told as cut by us */
void worker_refuse_waiting(struct client *c); /* what is not sent yet is refused; may end it */
bool worker_switch(struct worker *w, struct generation *gen);

/* ---- probe.c ---- */
void probe_sync(struct service *sv, struct worker *w);
void probe_stop(struct endpoint *ep);
#include "gateway/carry_int.h"
#include "gateway/place_int.h"
#endif
