/* SPDX-License-Identifier: Apache-2.0 */
/* connector: the contract between foldback and a broker; the whole of what a connector must know.
 *
 *   foldback-<type>.so --exports--> const struct connector_type foldback_connector
 *
 *   runner (one thread per connector, runner.h)      connector (this contract)
 *     log -> records -> retry, order, offsets  --send-->  broker
 *     queue of the brain <- parse, duplicates  <--receive-- broker;  --commit--> when it is durable
 *
 * The runner cuts the stream into records, retries with backoff, keeps the order of a key, splits
 * what is too large, writes what nobody takes to a file, keeps the offset and the figures.  A
 * connector only speaks with its broker.  It is loaded when the configuration names its type; it is
 * linked with a copy of base/ of its own and needs nothing else of foldback.
 *
 * The keys of a type are rows of conf/keys.def (a level of its own) and conf/connectors.def names
 * the level: a configuration is checked, shown and documented without the library.  Values come as
 * text in one normal form: durations in ms, sizes in bytes, flags as true or false, lists joined by
 * commas (commands and metrics: by ends of line), defaults filled in; "" is "not given".
 *
 * Threads: all calls for one struct connector come from one thread, one after another.  A library
 * may have threads of its own; they never call back into foldback except by <say>.
 * Secrets are read from files that the configuration names, never from it or from the environment.
 */
#ifndef FB_STREAM_CONNECTORS_CONNECTOR_H
#define FB_STREAM_CONNECTORS_CONNECTOR_H
#include "base/error.h"
#include "base/log.h"
#include "base/span.h"

#define CONNECTOR_ABI 6u
#define CONNECTOR_SYMBOL "foldback_connector"
#define CONNECTOR_HEADERS_MAX 16
#define CONNECTOR_POSITION_BYTES 64
#define CONNECTOR_OWNER_BYTES 24

struct connector; /* each connector defines its own */

enum connector_can {
    CONNECTOR_SINK = 1,
    CONNECTOR_SOURCE = 2,
    CONNECTOR_IDEMPOTENT = 4,    /* a repeated send within one session is stored once */
    CONNECTOR_TRANSACTIONAL = 8, /* all records of one send become visible together */
    /* One send may hold several records of a key: what comes after a failed one is not stored.
     * Without it the runner sends one record per key at a time. */
    CONNECTOR_ORDERED = 16,
    /* Positions have no order (message ids): the runner remembers the newest ones instead. */
    CONNECTOR_UNORDERED = 32,
    CONNECTOR_LINES = 64, /* a value is a line of text, its end included */
    /* A source that begins exactly behind <position> and never repeats within a run: what it gives
     * is new, even at a smaller position (a file that was cut). */
    CONNECTOR_SEEKS = 128,
    /* A source of what is now: there is nothing to go on from, no position is kept. */
    CONNECTOR_FORGETS = 256
};

/* ---- what a connector gets ---- */
struct connector_setup {
    const char *name;      /* in the configuration */
    const char *node;      /* of this foldback, for client ids */
    const char *state_dir; /* "" in a check without one */
    bool is_source;
    /* Value of a key of the type, "" when it is not given; never NULL for a key of the level. */
    const char *(*value)(const void *conf, const char *key);
    const void *conf; /* for <value> */
    /* Somebody else took over what this one wrote to (FB_E_CONFLICT), and no person has said since
     * that this one shall go on. */
    bool was_fenced;
    /* Last stored position of a source in (topic, partition); false: none.  For open and receive.
     */
    bool (*position)(void *ctx, const char *topic, uint32_t partition,
                     char out[CONNECTOR_POSITION_BYTES]);
    /* Of a source, from within receive: another one goes on from here.  What was given is settled
     * (in the log, position kept, commit called), as far as that takes at most 10 s.  May be NULL.
     */
    void (*give_back)(void *ctx);
    /* True when foldback ends, or pauses or changes this connector: send and receive return within
     * 200 ms of it.  From any thread. */
    bool (*is_stopping)(void *ctx);
    /* A line in foldback's log; from any thread. */
    void (*say)(void *ctx, enum fb_log_level level, const char *text);
    /* Why a call that still waits has not come further: shown at once, as a failure, until a call
     * succeeds.  From the thread of the calls; may be NULL. */
    void (*trouble)(void *ctx, const struct fb_err *err);
    void *ctx;
};

struct connector_header {
    const char *name;
    struct span value;
};

enum connector_result {
    CONNECTOR_UNSENT,    /* not tried, or given up before it was: the same as RETRY */
    CONNECTOR_DELIVERED, /* stored, as the configuration asks for it (acks) */
    CONNECTOR_RETRY,     /* the broker is away, slow, throttling */
    CONNECTOR_TOO_LARGE, /* the runner splits it */
    CONNECTOR_POISON     /* refused for ever: it goes to the dead-letter file */
};

struct connector_record {
    struct span key, value;
    const struct connector_header *headers;
    uint32_t header_count;
    uint64_t wall_ms;             /* of its first event, since 1970 */
    enum connector_result result; /* out */
};

/* How far a sink came by the account of its broker. */
struct connector_mark {
    uint64_t offset;                   /* of the first event that the broker does not have */
    char owner[CONNECTOR_OWNER_BYTES]; /* whose offsets these are: of another state they say nothing
                                        */
    /* For mark: what another process left behind this is of another log, not taken and told. */
    uint64_t limit;
    uint64_t beyond; /* out: that one; 0 none */
};

struct connector_batch {
    struct connector_record *at; /* in order; all borrowed until send returns */
    uint32_t count;
    uint32_t timeout_ms; /* send returns by then, with what is still open as CONNECTOR_RETRY */
    /* Stored by the broker in one step with the records, all or none; NULL: none is kept. */
    const struct connector_mark *mark;
    /* A dead letter that a person sends again: who tries several times before it says POISON, says
     * it at the first that is known to have failed by the record. */
    bool is_resent;
};

/* One message of a source. */
struct connector_message {
    const char *topic; /* or stream, subscription */
    uint32_t partition;
    char position[CONNECTOR_POSITION_BYTES]; /* offset, sequence number or id, terminated */
    struct span key, value;
    uint64_t wall_ms; /* when it was written, by the broker's clock; 0 unknown */
    void *token;      /* the connector's own, given back in commit; may be NULL */
    bool is_own;      /* not of the broker: what the connector itself has to tell */
};
/* False: no room; receive stops and gives this message again in a later call. */
typedef bool connector_each(void *arg, const struct connector_message *message);

/* What is durable here and may be acknowledged. */
struct connector_done {
    const char *topic;
    uint32_t partition;
    char position[CONNECTOR_POSITION_BYTES];
    void *token;
};

/* How far a source is at a broker that numbers more than its messages (marks of transactions, what
 * was compacted): in those numbers, sums over what it reads. */
struct connector_place {
    uint64_t came, behind; /* behind it; what waits */
    uint32_t era;          /* another one when what it reads changed */
};

/* One step of a check: "broker 127.0.0.1:9092 reached". */
typedef void connector_step(void *arg, bool is_good, const char *text);

/* ---- what a connector is ---- */
/* Codes that calls return: FB_OK; FB_E_AGAIN or FB_E_TIMEOUT (try again: the broker is away),
 * FB_E_CONFIG or FB_E_DENIED (no use without a hand: wrong password, authority, topic), others as
 * FB_E_AGAIN.  The sentence names the broker, what it said and the next step; never a secret. */
struct connector_type {
    uint32_t abi;      /* CONNECTOR_ABI */
    uint32_t bytes;    /* sizeof(struct connector_type) */
    const char *name;  /* "kafka" */
    uint32_t can;      /* enum connector_can */
    uint32_t send_max; /* most records of one send */
    uint64_t record_bytes_max, send_bytes_max;
    /* Makes *c; need not reach the broker: send and receive connect when they must. */
    enum fb_code (*open)(struct connector **c, const struct connector_setup *setup,
                         struct fb_err *err);
    void (*close)(struct connector *c); /* within 2 s, whatever the broker does */
    /* Reaches the broker, authenticates, looks for the topic; writes nothing.  Of a sink also when
     * it begins and has nothing to send; within <timeout_ms>, and 200 ms of a stop. */
    enum fb_code (*check)(struct connector *c, uint32_t timeout_ms, connector_step *step, void *arg,
                          struct fb_err *err);
    /* Sets <result> of each record.  FB_OK when the broker answered, whatever it said; else the
     * code says why none or not all of them were delivered. */
    enum fb_code (*send)(struct connector *c, struct connector_batch *batch, struct fb_err *err);
    /* Calls <each> per message, in the order of each partition, for at most <timeout_ms>; returns
     * as soon as there was something and nothing more is at hand. */
    enum fb_code (*receive)(struct connector *c, connector_each *each, void *arg,
                            uint32_t timeout_ms, struct fb_err *err);
    /* Acknowledges to the broker; for brokers that keep positions per partition <done> holds the
     * newest of each, for others (CONNECTOR_UNORDERED) every message. */
    enum fb_code (*commit)(struct connector *c, const struct connector_done *done, uint32_t count,
                           struct fb_err *err);
    /* Messages that wait at the broker, for the lag of a source; UINT64_MAX unknown.  May be NULL.
     */
    uint64_t (*behind)(struct connector *c);
    /* Of a sink whose broker keeps the mark: before the first send and after each that failed, for
     * what became of it is known to the broker only.  <mark> has what foldback knows; its offset
     * is moved forward to the broker's.  FB_E_NOT_FOUND: this one keeps none; FB_E_CONFLICT:
     * another process took over.  May be NULL. */
    enum fb_code (*mark)(struct connector *c, struct connector_mark *mark, struct fb_err *err);
    /* How long the oldest message waits that this source has not received, where the broker says
     * it; UINT64_MAX unknown: then <behind> and the times of what came tell.  May be NULL. */
    uint64_t (*waits_us)(struct connector *c);
    /* Instead of <behind>; false: unknown.  May be NULL: then messages are what is numbered. */
    bool (*place)(struct connector *c, struct connector_place *place);
};

/* In exactly one file of a connector:  CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI, ...}; */
#define CONNECTOR_EXPORT                                                                           \
    extern const struct connector_type foldback_connector;                                         \
    __attribute__((visibility("default"))) const struct connector_type foldback_connector
#endif
