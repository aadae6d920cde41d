/* SPDX-License-Identifier: Apache-2.0 */
/* conf: the configuration, read whole, checked whole, then never changed.
 *
 * conf_parse finds all errors of a text in one run (line, column, caret, "did you mean"); a struct
 * conf exists only when there is none.  A reload makes a new struct conf.  Scalars come from
 * params.def, services, routes and listeners from their own readers. Threads: a finished struct
 * conf is read-only and may be shared; ref/unref is atomic. */
#ifndef FB_CONF_CONF_H
#define FB_CONF_CONF_H
#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"
#include "event/event.h"
#include "knob/knob.h"

struct regex; /* base/regex.h */

enum conf_apply { APPLY_LIVE, APPLY_CONN, APPLY_RESTART };
typedef uint32_t conf_u32;
typedef uint64_t conf_bytes; /* bytes */
typedef uint64_t conf_dur;   /* milliseconds */
typedef uint32_t conf_pct;   /* whole percents */
typedef uint64_t conf_rate;  /* bytes per second */
typedef const char *conf_str;
typedef bool conf_bool;
typedef uint8_t conf_word;   /* index in .words */
typedef uint32_t conf_words; /* a bit per word of .words */

/* Values of params.def, one struct member per key: conf->p.limits_line_bytes */
struct conf_params {
#define PARAM(section, name, type, ...) conf_##type section##_##name;
#include "conf/params.def"
#undef PARAM
};
enum { CONF_OVERLOAD_OFF, CONF_OVERLOAD_OBSERVE, CONF_OVERLOAD_ACT };     /* overload.mode */
enum { CONF_LOG_OFF, CONF_LOG_COMBINED, CONF_LOG_JSON, CONF_LOG_LOGFMT }; /* access_log.format */
enum { /* upstream.retry_on, in the order of its words */
       CONF_RETRY_CONNECT = 1,
       CONF_RETRY_RESET = 2,
       CONF_RETRY_TIMEOUT = 4,
       CONF_RETRY_500 = 8,
       CONF_RETRY_502 = 16,
       CONF_RETRY_503 = 32,
       CONF_RETRY_504 = 64
};
enum { CONF_FORWARDED_X, CONF_FORWARDED_RFC7239, CONF_FORWARDED_BOTH, CONF_FORWARDED_OFF };

struct conf_cert {
    const char *cert, *key, *ocsp; /* files; ocsp "" none */
};
enum conf_verify { CONF_VERIFY_OFF, CONF_VERIFY_OPTIONAL, CONF_VERIFY_REQUIRED };
struct conf_tls { /* of a listener */
    bool is_on, is_internal, is_13_only;
    const struct conf_cert *certs; /* the first one serves names that no other has */
    size_t cert_count;
    const char *client_ca, *ciphers; /* "" none */
    enum conf_verify verify;
};
struct conf_tls_out { /* towards endpoints */
    bool is_on, is_unverified;
    const char *ca, *name, *cert, *key; /* "" none */
};
/* A network: all addresses whose first <bits> bits are those of <at>.  IPv4 as ::ffff:a.b.c.d. */
struct conf_prefix {
    unsigned char at[16];
    uint8_t bits;
};
/* "10.0.0.0/8", "fd00::/8", "192.0.2.1"; false also when a bit behind the length is set. */
FB_MUST_USE
bool conf_prefix_read(struct span text, struct conf_prefix *out);
void conf_prefix_print(const struct conf_prefix *p, struct buf *out);
/* Is <address> (16 bytes, IPv4 as ::ffff:a.b.c.d) in one of them? */
bool conf_prefix_has(const struct conf_prefix *at, size_t count, const unsigned char *address);

#define CONF_LISTEN_BYTES 116 /* "unix:" and a path of 107 bytes is the longest */
struct conf_listen {
    /* "127.0.0.1:8080", "[::]:8080"; ":8080" means all addresses; "fd:3" inherited;
     * "unix:/run/foldback.sock" */
    char address[CONF_LISTEN_BYTES];
    bool is_http1_off, is_h2_off;      /* not both */
    bool is_proxied;                   /* each connection begins with a PROXY protocol header */
    const struct conf_prefix *trusted; /* only these may connect then; none: anybody */
    size_t trusted_count;
    const struct conf_prefix *proxies; /* whose forwarding fields are believed */
    size_t proxy_count;
    bool is_tcp;      /* connections are passed through as they are */
    uint16_t service; /* tcp: index in services */
    struct conf_tls tls;
};
enum conf_endpoint_kind {
    CONF_ENDPOINT_ADDRESS, /* port 0: <host> is "unix:/run/app.sock" */
    CONF_ENDPOINT_DNS,
    CONF_ENDPOINT_SRV, /* <host> is the whole name, port 0 */
    CONF_ENDPOINT_FILE /* <host> is the path, port 0 */
};
#define CONF_ZONE_BYTES 32
struct conf_endpoint {
    enum conf_endpoint_kind kind;
    char host[256]; /* address, name or path */
    uint16_t port;
    char version[32]; /* "" = stable */
    bool is_tls;      /* it was written as https:// */
    double weight_pct;
    char zone[CONF_ZONE_BYTES]; /* "" = none */
    bool is_backup;
    uint32_t in_flight_max; /* 0: none */
};
static inline bool conf_endpoint_is_unix(const struct conf_endpoint *e)
{
    return e->kind == CONF_ENDPOINT_ADDRESS && e->port == 0;
}
/* What the user said about one loop on one service; NAN and -1: nothing. */
struct conf_tune {
    int mode;               /* enum ev_mode, -1 inherits */
    double value, min, max; /* in the knob's unit */
};
enum conf_balance {
    CONF_BALANCE_ADAPTIVE,
    CONF_BALANCE_ROUND_ROBIN,
    CONF_BALANCE_LEAST_REQUEST,
    CONF_BALANCE_WEIGHTED,
    CONF_BALANCE_RANDOM_TWO,
    CONF_BALANCE_HASH
};
enum conf_protocol {
    CONF_PROTOCOL_HTTP1,
    CONF_PROTOCOL_H2C,
    CONF_PROTOCOL_H2,
    CONF_PROTOCOL_AUTO /* over TLS: what the endpoint chooses by ALPN */
};
#define CONF_HEALTH_PATH_MAX 1024
#define CONF_HEALTH_GRPC_MAX 120
struct conf_health {
    bool is_on;
    const char *path; /* "/health"; "" nothing was said: /, or behind a tcp listener only connect */
    const char *host; /* "" that of the service */
    const char *grpc; /* service that grpc.health.v1 is asked about, "" the server; NULL: a path */
    uint16_t port;    /* 0: that of the endpoint */
    uint64_t interval_ms, timeout_ms;
    uint32_t rise, fall; /* passes and failures in a row */
};
struct conf_sticky {
    const char *cookie; /* NULL: off */
    const char *path, *secret_file;
    uint64_t ttl_ms; /* 0: a session cookie */
    enum conf_secure { CONF_SECURE_AUTO, CONF_SECURE_ON, CONF_SECURE_OFF } secure;
    enum conf_same_site {
        CONF_SITE_LAX,
        CONF_SITE_STRICT,
        CONF_SITE_NONE,
        CONF_SITE_UNSET
    } same_site;
    bool is_http_only;
};
struct conf_agent {
    uint16_t port; /* 0: off */
    uint64_t interval_ms;
};
#define CONF_REGION_BYTES_MAX 31
/* Whom requests are counted for, and who shares fairly. */
enum conf_who_by {
    CONF_WHO_ADDRESS, /* the client's, cut to its first bits */
    CONF_WHO_HEADER,
    CONF_WHO_TOKEN, /* the value of Authorization */
    CONF_WHO_COOKIE,
    CONF_WHO_ROUTE /* all together */
};
struct conf_who {
    uint8_t by; /* enum conf_who_by; without the field it asks for: the address */
    uint8_t v4_bits, v6_bits;
    const char *name; /* of the header or cookie */
    const char *text; /* as written: "header X-Api-Key" */
};
/* Most requests that one client has in hand. */
#define CONF_CAPS_MAX 2
struct conf_cap {
    struct conf_who who;
    uint32_t most;
    uint16_t status; /* of the refusal */
    uint64_t id;     /* of its route or service, and of whom it counts: the same over reloads */
};
struct conf_caps {
    struct conf_cap at[CONF_CAPS_MAX];
    uint8_t count;
};
struct conf_service {
    const char *name;
    const char *region; /* NULL or "": none; see conf_service_region */
    const struct conf_endpoint *endpoints;
    size_t endpoint_count;
    double latency_quantile; /* objective: 0.99 */
    uint64_t latency_us;     /* 0: none */
    double error_ratio_max;  /* 0: none */
    enum ev_mode mode;
    enum conf_balance balance;
    struct conf_tune tune[KNOB_COUNT];
    struct conf_health health;
    uint64_t queue_wait_max_ms; /* 0: half of the objective */
    uint32_t queue_capacity;    /* 0: automatic */
    uint32_t concurrency;       /* most requests in hand; 0: no cap */
    struct conf_caps caps;      /* ... of one client */
    double success_floor_pct;   /* 0: off */
    bool is_queue_off;          /* `queue: off` */
    bool is_ejecting;
    bool is_tcp; /* a listener with `protocol: tcp` leads here, and no route */
    bool has_load_reports;
    struct conf_sticky sticky;
    struct conf_agent agent;
    enum conf_protocol protocol; /* spoken with the endpoints */
    uint8_t proxy_version;       /* of the PROXY header sent to endpoints; 0: none */
    const char *host_header;     /* "" = keep the client's */
    struct conf_tls_out tls;
};
/* What `balance: hash` takes from a request; one without it is balanced as adaptive. */
enum conf_hash_kind {
    CONF_HASH_ADDRESS,
    CONF_HASH_PATH,
    CONF_HASH_HEADER,
    CONF_HASH_COOKIE,
    CONF_HASH_QUERY
};
struct conf_hash {
    enum conf_hash_kind kind;
    const char *name; /* of the field, cookie or parameter; "" */
};
#define CONF_METHODS_MAX 8 /* in one match */
#define CONF_HOSTS_MAX 64  /* the same */
enum conf_path_kind {
    CONF_PATH_ANY,
    CONF_PATH_EXACT,
    CONF_PATH_PREFIX,
    CONF_PATH_GLOB,
    CONF_PATH_REGEX
};
struct conf_header_match {
    const char *name, *value; /* value "" = only present; trailing or leading * globs */
};
struct conf_rate {
    struct conf_who who;
    const struct conf_prefix *except; /* neither counted nor refused */
    size_t except_count;
    const char *text;          /* "100/s" */
    uint64_t count, period_us; /* requests per period */
    uint64_t burst;            /* most at once; 0 for a quota */
    bool is_quota;
    bool is_fleet;   /* counts over all nodes */
    uint16_t status; /* of the refusal */
    uint64_t id;     /* of route and limit: the same over reloads */
};
struct conf_split_part {
    const char *version;
    double pct;
};
struct conf_split {
    const struct conf_split_part *parts; /* in the order of the file; their sum is 100 */
    size_t count;                        /* 0: no split */
    const char *header, *cookie;         /* that name a version; "" none */
};
enum conf_cache_key { CONF_CACHE_KEY_URL, CONF_CACHE_KEY_PATH };
#define CONF_CACHE_VARY_MAX 16
struct conf_cache {
    bool is_on;
    bool is_heuristic;  /* a tenth of the age that Last-Modified tells counts as lifetime */
    bool heeds_clients; /* Cache-Control of requests counts */
    uint8_t key;        /* enum conf_cache_key */
    uint64_t ttl_ms, negative_ms; /* of answers that say nothing; 0: not kept */
    uint64_t stale_while_revalidate_ms, stale_if_error_ms;
    uint64_t collapse_ms; /* longest wait for another request's answer; 0: never */
    uint64_t guard_ms;    /* how old a purged or stale entry may be served when there is no room */
    uint64_t max_object_bytes, budget_bytes; /* 0: default */
    const char *const *vary;                 /* fields that always select, lower case */
    size_t vary_count;
};
/* routes[].compress: which answers are compressed on their way to the client. */
#define CONF_COMPRESS_TYPES_MAX 64
struct conf_compress {
    bool is_on;
    uint8_t level;            /* 1..9 */
    uint64_t min_bytes;       /* of bodies whose length is known */
    const char *const *types; /* lower case; "text/" and a star: all of text */
    size_t type_count;
};
struct conf_mirror {
    uint16_t service; /* index in services */
    double pct;       /* of the requests; 0: none */
};
enum conf_hedge { CONF_HEDGE_ON, CONF_HEDGE_OFF };

/* What a route changes on the way, refuses, or answers by itself.  A value may hold {host} and the
 * like (conf_var_next); names are valid field names, none that foldback itself answers for. */
struct conf_field {
    const char *name, *value;
};
struct conf_fields {
    const struct conf_field *set, *add;
    const char *const *remove;
    size_t set_count, add_count, remove_count;
};
enum conf_own { CONF_OWN_NONE, CONF_OWN_HTTPS, CONF_OWN_REDIRECT, CONF_OWN_RESPOND };
enum conf_var {
    CONF_VAR_NONE, /* the end, or plain text */
    CONF_VAR_CLIENT_ADDRESS,
    CONF_VAR_HOST,
    CONF_VAR_PATH,
    CONF_VAR_QUERY, /* with its ?; "" without */
    CONF_VAR_TARGET,
    CONF_VAR_SCHEME,
    CONF_VAR_REQUEST_ID,
    CONF_VAR_GROUP,  /* $1 of a regular expression; only in struct conf_piece */
    CONF_VAR_UNKNOWN /* {word} of small letters that is none of them */
};
/* A text with $1 and {words}, taken apart. */
struct conf_piece {
    struct span text;
    enum conf_var var;
    uint32_t group; /* of CONF_VAR_GROUP; 0 the whole match */
};
struct conf_template {
    const struct conf_piece *pieces;
    size_t count;
    const struct regex *regex; /* whose groups they are */
};
/* map_back: what answers say of where things lie, as the client knows it. */
struct conf_pair {
    const char *from, *to;
};
struct conf_pairs { /* the first one that fits */
    const struct conf_pair *at;
    size_t count;
};
struct conf_back {
    struct conf_pairs location, cookie_path, cookie_domain;
};
struct conf_rewrite {         /* the whole path by another, where <pattern> matches */
    const char *pattern, *to; /* as written; pattern "" the match of the route */
    struct conf_template path, query;
    bool has_query;   /* `to` has a query: it stands before that of the client */
    bool drops_query; /* the client's; `to` ends with ? */
};
struct conf_rules {
    struct conf_fields request, response;
    const char *strip_prefix, *add_prefix; /* no / at the end; "" none */
    const struct conf_prefix *allow, *deny;
    size_t allow_count, deny_count;
    uint8_t own;                   /* enum conf_own; from CONF_OWN_REDIRECT on: without a service */
    uint16_t status;               /* of the redirect or the answer */
    const char *to, *body, *type;  /* "" none */
    struct conf_template to_parts; /* of <to> when it has $1 */
    const struct conf_rewrite *rewrite; /* NULL: none */
    const struct conf_back *back;       /* NULL: answers stay as they are */
};
/* The next piece of <rest>: plain text up to a {word} (CONF_VAR_NONE), or the {word} itself; false
 * at the end.  Braces around anything but small letters and _ are plain text. */
bool conf_var_next(struct span *rest, struct span *piece, enum conf_var *var);

/* routes[].auth: who may ask; exactly one way of telling. */
#define CONF_REALM_BYTES_MAX 120
#define CONF_COPIED_MAX 16
struct conf_auth {
    const struct conf_prefix *except; /* who is let in unasked */
    size_t except_count;
    const char *file, *realm; /* of users; NULL: a service is asked */
    const char *user_header;  /* "" none */
    uint64_t remember_ms;
    bool is_forwarded; /* Authorization goes on to the endpoint */
    /* or with <file> NULL: */
    uint16_t service; /* index in services: who is asked */
    const char *path;
    uint64_t timeout_ms;
    const char *const *copied; /* fields of its answer that the endpoint gets */
    size_t copied_count;
    bool takes_redirects, is_open; /* when it fails the request passes */
};

/* What stands in answers of foldback's own with one of these statuses. */
#define CONF_PAGES_MAX 16
#define CONF_PAGE_STATUSES_MAX 16
struct conf_page {
    uint16_t status[CONF_PAGE_STATUSES_MAX];
    size_t status_count;
    const char *body, *type;
};
struct conf_pages {
    const struct conf_page *at;
    size_t count;
    uint32_t line; /* of the file */
};
/* The first one for <status>; NULL: none. */
const struct conf_page *conf_page(const struct conf_pages *pages, uint16_t status);

struct conf_route {
    const char *name; /* as in ev_name: "SERVICE MATCH", unique */
    const char *host; /* lower case; "" any; "*.example.org" any subdomain */
    enum conf_path_kind path_kind;
    const char *path;          /* "~PATTERN" or "~*PATTERN" of CONF_PATH_REGEX */
    const struct regex *regex; /* of CONF_PATH_REGEX, else NULL */
    const char *region;        /* NULL or "": that of the service; see conf_route_region */
    const char *method;        /* "" any; "GET|HEAD" */
    const struct conf_header_match *headers;
    size_t header_count;
    uint16_t service;    /* index in services */
    uint8_t class;       /* enum ev_class */
    uint64_t timeout_ms; /* 0: upstream.timeout */
    struct conf_tune timeout_tune;
    uint64_t deadline_ms;  /* whole request, 0 none */
    uint64_t body_bytes;   /* largest request body, 0 no bound; UINT64_MAX: limits.body_bytes */
    struct conf_who key;   /* fairness */
    uint32_t concurrency;  /* most requests in hand; 0: no cap */
    struct conf_caps caps; /* ... of one client */
    struct conf_split split;
    const struct conf_rate *rates;
    size_t rate_count;
    struct conf_hash hash;
    struct conf_cache cache;
    struct conf_compress compress;
    struct conf_mirror mirror;
    enum conf_hedge hedge;
    uint64_t hedge_delay_ms; /* fixed; 0: the loop finds it */
    struct conf_tune hedge_tune;
    const struct conf_rules *rules; /* NULL: none */
    const struct conf_auth *auth;   /* NULL: anybody may ask */
    struct conf_pages pages;        /* before those of all */
    bool is_stream; /* long answers: no timeout after the first byte but tunnel_idle_timeout */
};

/* It answers by itself and has no service: its `service` is 0 and means nothing. */
static inline bool conf_route_is_own(const struct conf_route *rt)
{
    return rt->rules && rt->rules->own >= CONF_OWN_REDIRECT;
}

/* One key of a connector, of any type, in the form that its library gets (connector.h). */
struct conf_connector_value {
    const char *key, *value, *shown; /* <shown>: as written */
    uint32_t line;                   /* 0: default */
    uint16_t row;                    /* in keys.def */
};
struct conf_connector {
    const char *name, *type;
    const char *section; /* that it was written in: "connectors", "handlers", "scrapes" */
    bool is_fleet;       /* neither: nodes hear each other through it */
    bool is_source, is_binary, is_cloudevents, is_chat, is_per_event, is_from_start, is_redacted;
    uint64_t events;             /* bit per enum ev_type */
    const char *filter, *region; /* "" none */
    uint32_t delay_ms, block_bytes, in_flight, timeout_ms, backoff_max_ms;
    uint64_t lag_alert_ms;
    struct conf_connector_value *values;
    size_t value_count;
    uint64_t hash; /* of all that is configured */
};
struct conf_connector_row { /* a type */
    const char *name, *package, *what;
    unsigned level; /* enum conf_level */
};
const struct conf_connector_row *conf_connector_rows(size_t *count);
const struct conf_connector_row *conf_connector_row(const char *type); /* NULL unknown */
/* NULL: the type has no such key. */
const char *conf_connector_value(const struct conf_connector *c, const char *key);

/* A figure of an application: what `signals` says (analytics/signal.h). */
#define CONF_SIGNALS_MAX 32
struct conf_signal {
    const char *name, *event, *service; /* service "" none */
    uint8_t value, better;              /* index of its word */
    bool has_sides;                     /* compare: versions */
    double harm_pct;
    uint32_t line[6]; /* of event, value, service, better, harm, compare; 0: default */
};

struct conf {
    struct conf_params p;
    const struct conf_listen *listens;
    size_t listen_count;
    const struct conf_service *services;
    size_t service_count;
    const struct conf_route *routes; /* in the order of the file: the first match wins */
    size_t route_count;
    const struct conf_connector *connectors;
    size_t connector_count;
    const struct conf_signal *signals;
    size_t signal_count;
    struct conf_pages pages;
    bool has_regex;
    const char *text; /* what was parsed, terminated */
    size_t text_bytes;
    uint64_t hash;    /* xxh64 of text */
    const char *file; /* name for messages, "" for `run --to` */
    struct conf_private *private;
};

struct conf_problem {
    uint32_t line, column; /* from 1 */
    bool is_warning;
    char text[400]; /* names the key, the legal range, the next step */
};
struct conf_report { /* grows; all problems of one run, in the order of lines */
    struct conf_problem *at;
    size_t count;
    size_t error_count;
    char *text; /* copy of what was parsed; NULL when it could not be read */
    size_t text_bytes;
};

/* Parses <text>.  On FB_OK *out is yours (ref 1); on FB_E_CONFIG the report says why.
 * conf_report_fini always. */
FB_MUST_USE
enum fb_code conf_parse(struct span text, const char *file, struct conf **out,
                        struct conf_report *report);
FB_MUST_USE
enum fb_code conf_load(const char *file, struct conf **out, struct conf_report *report,
                       struct fb_err *err);
/* Where the endpoints lie that the admin API added to a service: a list as below.  The brain writes
 * it, the gateway reads it. */
#define CONF_OWN_FOLDER "endpoints"
#define CONF_OWN_PATH_BYTES 700
void conf_own_path(const char *state_dir, const char *service, char path[CONF_OWN_PATH_BYTES]);
/* A list of endpoints alone, or a map with `endpoints`, in YAML or JSON: services[0] of *out has
 * them. Names in it may be dns:// and dns+srv://, not file://. */
FB_MUST_USE
enum fb_code conf_parse_endpoints(struct span text, const char *file, struct conf **out,
                                  struct conf_report *report);
void conf_report_fini(struct conf_report *r);
/* Every problem as "FILE:LINE:COL: error: TEXT", the source line and a caret.
 * <text> {NULL, 0}: r->text. */
void conf_report_print(const struct conf_report *r, const char *file, struct span text,
                       struct buf *out);
struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf *c); /* NULL is fine */

/* The text that `foldback run --from A --to B ...` stands for.  Same key order always. */
struct conf_run {
    const char *const *from;
    size_t from_count; /* 0: "127.0.0.1:8080", this machine only */
    const char *const *to;
    size_t to_count;
};
FB_MUST_USE
enum fb_code conf_run_text(const struct conf_run *run, struct buf *out, struct fb_err *err);
#define conf_text_for_run(from, from_count, to, to_count, out, err)                                \
    conf_run_text(&(struct conf_run){(from), (from_count), (to), (to_count)}, (out), (err))

/* The split whose versions <sig> compares.  NULL: it compares with before, or must, since requests
 * are counted for the whole service: then *why (NULL: nobody asks) says what is missing, NULL for
 * none. */
const struct conf_split *conf_signal_split(const struct conf *c, const struct conf_signal *sig,
                                           const char **why);
/* Where `listen` has it; 0: nowhere. */
uint32_t conf_listen_line(const struct conf *c, size_t index);
/* "http", "https", "tcp" or "tls" (passed through, with TLS towards clients). */
const char *conf_listen_scheme(const struct conf_listen *l);
/* RESTART params that differ: what a reload from <was> to <now> cannot do live, as text lines;
 * returns how many.  Listeners, services and routes are live. */
size_t conf_reload_needs_restart(const struct conf *was, const struct conf *now, struct buf *out);
/* The same one by one. */
typedef void conf_change_fn(void *arg, const char *key, const char *was, const char *now);
size_t conf_restart_changes(const struct conf *was, const struct conf *now, conf_change_fn *fn,
                            void *arg);

/* ---- the table ---- */
enum conf_type {
    CONF_TYPE_u32,
    CONF_TYPE_bytes,
    CONF_TYPE_dur,
    CONF_TYPE_rate,
    CONF_TYPE_pct,
    CONF_TYPE_str,
    CONF_TYPE_bool,
    CONF_TYPE_word,
    CONF_TYPE_words
};
struct conf_param_row {
    const char *section, *name, *def, *words, *what, *why;
    uint64_t min, max;
    enum conf_type type;
    enum conf_apply apply;
    size_t offset; /* in struct conf_params */
};
const struct conf_param_row *conf_param_rows(size_t *count);
/* Value of one row as it would be written in the file ("8KiB", "10s"). */
void conf_param_print(const struct conf_param_row *row, const struct conf_params *p,
                      struct buf *out);

/* `config show --effective`: every value with its source (default, file line). */
void conf_show(const struct conf *c, bool is_json, struct buf *out);
/* The same of a process that has not taken all of <c>: <waiting> has a line per such value, "KEY
 * TAB what is in force TAB what waits for the next start". */
void conf_show_running(const struct conf *c, struct span waiting, bool is_json, struct buf *out);
/* JSON Schema of the whole file, for editors. */
void conf_schema(struct buf *out);
/* Reference pages (Markdown): parameters, knobs, events, facts rows come from their own tables. */
void conf_reference(struct buf *out);
/* "" none. */
const char *conf_service_region(const struct conf_service *sv);
const char *conf_route_region(const struct conf *conf, const struct conf_route *rt);
#endif
