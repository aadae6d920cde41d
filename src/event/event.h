/* SPDX-License-Identifier: Apache-2.0 */
/* event: everything that the system can say; the first of the two narrow waists.
 *
 * A record has a fixed size per type, a multiple of 64 bytes (cells), and begins with struct
 * ev_head. Structs, sizes, names and units come from events.def.  Pure data: nothing here does I/O.
 * Byte order on disk and in memory: little endian.  Threads: any. */
#ifndef FB_EVENT_EVENT_H
#define FB_EVENT_EVENT_H
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

#define EV_CELL_BYTES 64
#define EV_CELLS_MAX 4
#define EV_NONE UINT16_C(0xffff) /* no route, service, endpoint, knob ... */

struct ev_head {
    uint8_t type;      /* enum ev_type */
    uint8_t cells;     /* size of the record / 64 */
    uint8_t origin;    /* ring of a gateway thread 0..191, EV_ORIGIN_BRAIN, EV_ORIGIN_REPLAY */
    uint8_t version;   /* of the record's layout, 1 */
    uint32_t sequence; /* per origin, wraps; shows losses */
    uint64_t time_us;  /* stream time (base/clock.h); the tick event maps it to the wall clock */
};

#define EV_ORIGIN_BRAIN 0xfe
#define EV_ORIGIN_REPLAY 0xff

enum ev_type {
#define EVENT(upper, lower, id, cells, what) EV_##upper = id,
#include "event/events.def"
#undef EVENT
    EV_TYPE_END = 24
};

enum ev_kind { EV_KIND_NONE, EV_KIND_ROUTE, EV_KIND_SERVICE, EV_KIND_ENDPOINT, EV_KIND_VERSION };
enum ev_mode { EV_MODE_OBSERVE, EV_MODE_RECOMMEND, EV_MODE_ACT };
enum ev_verdict { EV_OUTCOME_BETTER, EV_OUTCOME_NONE, EV_OUTCOME_WORSE, EV_OUTCOME_UNKNOWN };
enum ev_health_state {
    EV_HEALTH_OK,
    EV_HEALTH_RAMPING, /* new or recovered: slow start */
    EV_HEALTH_EJECTED,
    EV_HEALTH_HALF_OPEN,
    EV_HEALTH_DRAINING,
    EV_HEALTH_GONE
};
enum ev_class {
    EV_CLASS_CRITICAL,
    EV_CLASS_DEFAULT,
    EV_CLASS_DEGRADED,
    EV_CLASS_BEST_EFFORT,
    EV_CLASS_COUNT
};
enum ev_verb {
    EV_VERB_PIN,
    EV_VERB_UNPIN,
    EV_VERB_MODE,
    EV_VERB_FREEZE,
    EV_VERB_UNFREEZE,
    EV_VERB_RESET,
    EV_VERB_DRAIN,
    EV_VERB_UNDRAIN
};
enum ev_request_flag { /* bits 0-1: attempts - 1, at most 3 */
                       EV_REQUEST_ATTEMPTS_MASK = 3,
                       EV_REQUEST_REUSED = 4,  /* upstream connection came from the pool */
                       EV_REQUEST_ABORTED = 8, /* the client left first */
                       EV_REQUEST_CENSORED =
                           16, /* upstream_us is a lower bound: no first byte came */
                       EV_REQUEST_HEDGED = 32,
                       EV_REQUEST_STREAM =
                           64, /* upgrade or event stream: its length is no latency */
                       EV_REQUEST_FAILED =
                           128 /* counts as an error of the endpoint: 5xx, 429, reset, timeout */
};

#define EV_KEY_ERASED 7 /* op of a key event */

enum ev_protocol { EV_PROTOCOL_HTTP1, EV_PROTOCOL_HTTP2, EV_PROTOCOL_TCP };
enum ev_tls { EV_TLS_NONE, EV_TLS_12, EV_TLS_13 };
#define EV_TLS_RESUMED 0x10000u /* in tls_cipher, above the number of the suite */
enum ev_cache {
    EV_CACHE_OFF, /* the route has none, or the request may not be looked up */
    EV_CACHE_MISS,
    EV_CACHE_HIT,
    EV_CACHE_STALE, /* served although old: while it is fetched anew, or the endpoint failed */
    EV_CACHE_REVALIDATED, /* the endpoint said that it is still good */
    EV_CACHE_COLLAPSED,   /* waited for the answer to another request */
    EV_CACHE_BYPASS       /* the request asked for a fresh answer */
};
enum ev_hedge {
    EV_HEDGE_NONE,
    EV_HEDGE_LOST,   /* sent twice, and the first was faster */
    EV_HEDGE_WON,    /* sent twice, and the second was faster */
    EV_HEDGE_ARMED,  /* would have been, if it had waited longer */
    EV_HEDGE_CONTROL /* held out, to measure the gain */
};

/* Bits of ev_request.traits. */
enum ev_trait {
#define TRAIT(name, word, bit, sentence) EV_TRAIT_##name = bit,
#include "event/traits.def"
#undef TRAIT
    EV_TRAIT_COUNT
};
#define EV_TRAIT_BIT(name) (UINT64_C(1) << EV_TRAIT_##name)

enum ev_reason {
    REASON_NONE = 0,
#define REASON(kind, name, word, id, status, proxy_status, sentence) REASON_##name = id,
#include "event/reasons.def"
#undef REASON
    REASON_END = 1024
};

/* ---- structs, generated ---- */
typedef uint8_t fb_ev_u8;
typedef uint16_t fb_ev_u16;
typedef uint32_t fb_ev_u32;
typedef uint64_t fb_ev_u64;
typedef double fb_ev_f64;
#define EV_FIELDS_WANTED
#define EVENT(upper, lower, id, cells, what)
#include "event/events.def"
#undef EVENT
#define EV_MEMBER(type, name, unit, privacy, what) fb_ev_##type name;
#define EV_TEXT_MEMBER(name, bytes, privacy, what) char name[bytes];
#define EV_STRUCT(upper, lower, ncells)                                                            \
    struct ev_##lower {                                                                            \
        struct ev_head head;                                                                       \
        EV_##upper##_FIELDS(EV_MEMBER, EV_TEXT_MEMBER)                                             \
    };                                                                                             \
    _Static_assert(sizeof(struct ev_##lower) == (ncells)*EV_CELL_BYTES, "ev_" #lower ": size");
EV_STRUCT(REQUEST, request, 2)
EV_STRUCT(HEALTH, health, 1)
EV_STRUCT(RESOURCE, resource, 2)
EV_STRUCT(TICK, tick, 1)
EV_STRUCT(DECISION, decision, 4)
EV_STRUCT(OUTCOME, outcome, 2)
EV_STRUCT(CONFIG, config, 4)
EV_STRUCT(ALERT, alert, 4)
EV_STRUCT(GAP, gap, 1)
EV_STRUCT(CUSTOM, custom, 4)
EV_STRUCT(NAME, name, 2)
EV_STRUCT(GAUGE, gauge, 1)
EV_STRUCT(PROPOSAL, proposal, 2)
EV_STRUCT(COMMAND, command, 2)
EV_STRUCT(SAMPLE, sample, 4)
EV_STRUCT(CACHE_USE, cache_use, 2)
EV_STRUCT(CACHE_SAMPLE, cache_sample, 1)
EV_STRUCT(FLEET_SHARE, fleet_share, 1)
EV_STRUCT(KEY, key, 2)

/* Room for one record of any type. */
union ev_any {
    struct ev_head head;
    struct ev_request request;
    struct ev_health health;
    struct ev_resource resource;
    struct ev_tick tick;
    struct ev_decision decision;
    struct ev_outcome outcome;
    struct ev_config config;
    struct ev_alert alert;
    struct ev_gap gap;
    struct ev_custom custom;
    struct ev_name name;
    struct ev_gauge gauge;
    struct ev_proposal proposal;
    struct ev_command command;
    struct ev_sample sample;
    struct ev_cache_use cache_use;
    struct ev_cache_sample cache_sample;
    struct ev_fleet_share fleet_share;
    struct ev_key key;
    unsigned char bytes[EV_CELLS_MAX * EV_CELL_BYTES];
};

/* ---- tables, generated ---- */
enum ev_field_type { EV_FT_u8, EV_FT_u16, EV_FT_u32, EV_FT_u64, EV_FT_f64, EV_FT_text };
enum ev_privacy { EV_OPEN, EV_PSEUDONYM, EV_PERSONAL };

struct ev_field_row {
    const char *name, *unit, *what;
    uint16_t offset, bytes; /* in the record; <bytes> of one number or of the text */
    enum ev_field_type type;
    enum ev_privacy privacy;
};
/* Room for later: no output names it. */
static inline bool ev_field_is_reserved(const struct ev_field_row *f)
{
    return strncmp(f->name, "reserved", 8) == 0;
}
struct ev_type_row {
    const char *name; /* NULL: no such type */
    const char *what;
    uint8_t cells;
    uint8_t field_count;
    const struct ev_field_row *fields; /* without the head */
};
enum ev_reason_kind {
    REASON_KIND_REQUEST,
    REASON_KIND_HEALTH,
    REASON_KIND_LEARN,
    REASON_KIND_LOOP,
    REASON_KIND_LOSS,
    REASON_KIND_ALERT,
    REASON_KIND_DERIVED /* an alert that a replay must say again */
};
struct ev_reason_row {
    const char *name; /* lower case, "shed_queue_full"; NULL: no such reason */
    const char *proxy_status;
    const char *sentence;
    uint16_t id, status;
    enum ev_reason_kind kind;
};

const struct ev_type_row *ev_type_row(uint8_t type); /* never NULL; .name NULL when unknown */
uint8_t ev_type_by_name(struct span name);           /* 0 when unknown */
const struct ev_reason_row *
ev_reason_row(uint16_t reason);               /* never NULL; .name NULL when unknown */
uint16_t ev_reason_by_name(struct span name); /* 0 when unknown */
const char *ev_class_name(uint8_t class);
int ev_class_by_name(struct span name); /* -1 when unknown; "best-effort" and "best_effort" */
const char *ev_mode_name(uint8_t mode);
int ev_mode_by_name(struct span name); /* -1 when unknown */
const char *ev_kind_name(uint8_t kind);
const char *ev_health_name(uint8_t health);
const char *ev_outcome_name(uint8_t outcome);
const char *ev_verb_name(uint8_t verb);
const char *ev_key_op_name(uint8_t op);
/* A request reason under which foldback refused work: shed_*. */
bool ev_reason_is_shed(uint16_t reason);
/* One under which a rule of the configuration refused it (rate limit, quota): no demand on the
 * service, and no fault of it. */
bool ev_reason_is_rule(uint16_t reason);
/* Numbers of endpoints change hands: whose each is, by a hash of the name; zeroed to begin with. */
#define EV_OWNERS_MAX 1024
struct ev_owners {
    uint64_t hash[EV_OWNERS_MAX];
};
/* An endpoint's number is somebody else's from now on: what is known of it is of the one before. */
bool ev_owner_is_other(struct ev_owners *o, const struct ev_name *n);
#define EV_CACHE_END 7
struct ev_trait_row {
    const char *name, *sentence;
};
const struct ev_trait_row *ev_trait_row(unsigned trait); /* below EV_TRAIT_COUNT */
void ev_traits_to_json(struct json *j, uint64_t bits);   /* "trait_names": [...] */
const char *ev_protocol_name(uint8_t protocol);          /* "HTTP/2" */
const char *ev_tls_name(uint8_t tls);                    /* "1.3"; "" without */
const char *ev_cipher_name(uint64_t tls_cipher);         /* IANA's; "another" for unusual ones */
const char *ev_grpc_name(uint16_t status);               /* "UNAVAILABLE"; "unknown" above 16 */
const char *ev_cache_name(uint8_t cache);                /* "hit"; "off" for what is none */
/* Of a copy for a mirror: no request of a client. */
bool ev_reason_is_mirror(uint16_t reason);
/* Answered from memory. */
bool ev_reason_is_cached(uint16_t reason);

/* Sets type, cells and version of a zeroed record. */
#define EV_INIT(upper, lower, when_us)                                                             \
    ((struct ev_##lower){.head = {.type = EV_##upper,                                              \
                                  .cells = sizeof(struct ev_##lower) / EV_CELL_BYTES,              \
                                  .version = 1,                                                    \
                                  .time_us = (when_us)}})
#define EV_LOOP_NONE 255 /* of an alert */

/* An alert that no loop raises; <severity> 1: to be seen, 2: to be acted on.  Value, threshold and
 * text are the caller's. */
static inline struct ev_alert ev_alert_init(uint16_t reason, uint16_t target, uint8_t severity,
                                            bool is_over, uint64_t now_us)
{
    struct ev_alert ev = EV_INIT(ALERT, alert, now_us);
    ev.reason = reason;
    ev.target = target;
    ev.loop = EV_LOOP_NONE;
    ev.severity = severity;
    ev.is_over = is_over;
    return ev;
}

/* True when type, cells and version agree: the first check on any record from a ring, a file or a
 * peer. */
extern const uint8_t ev_type_cells[256]; /* 0: no such type */
static inline bool ev_is_valid(const struct ev_head *ev)
{
    return ev->cells != 0 && ev->cells == ev_type_cells[ev->type] && ev->version == 1;
}
/* PERSONAL fields become "-", or 0; the record stays valid. */
void ev_redact(struct ev_head *ev);
/* Names of custom events that begin with "foldback." are foldback's own: nobody else may send them.
 */
#define EV_OWN_PREFIX "foldback."
static inline bool ev_name_is_own(const char *name)
{
    return strncmp(name, EV_OWN_PREFIX, sizeof EV_OWN_PREFIX - 1) == 0;
}
/* Bytes of the name of a custom event without the version that may stand behind it:
 * `orders.placed@canary` is an `orders.placed` of the version canary. */
static inline size_t ev_name_len(const char name[40])
{
    size_t len = 0;
    while (len < 40 && name[len] && name[len] != '@')
        len++;
    return len;
}
/* One JSON object.  With <redact>, PERSONAL fields are written as "-". */
void ev_to_json(struct json *j, const struct ev_head *ev, uint64_t offset, bool redact);
/* The schema of one type (JSON Schema 2020-12). */
void ev_schema(struct json *j, uint8_t type);
#endif
