/* SPDX-License-Identifier: Apache-2.0 */
/* conf_int: what the files of conf/ share: nodes of the text, the reader, the tables.
 *
 *   yaml.c: text -> nodes   value.c: scalar -> number   problem.c: messages
 *   parse.c, parse_listen.c, parse_service.c, parse_route.c: nodes -> struct conf
 *
 * Nodes know their parent and key, so a message can name the full path of what it is about.
 * Without memory an arena hands out NULL (or "") and remembers; conf_parse looks once at the end.
 * Threads: a reader belongs to one thread. */
#ifndef FB_CONF_CONF_INT_H
#define FB_CONF_CONF_INT_H
#include "base/span.h"
#include "conf/conf.h"

#include <stdatomic.h>

/* 1 MiB is about 10,000 routes; the gateway takes 1,024. */
#define CONF_TEXT_BYTES_MAX (1 * MIB)
/* The deepest legal key has 6 levels; more is an attack on the stack of whoever walks the tree. */
#define CONF_DEPTH_MAX 16
#define CONF_NODES_MAX 200000
#define CONF_PROBLEMS_MAX 100
#define CONF_LISTENS_MAX 64
#define CONF_PREFIXES_MAX 64 /* in one list: it is walked for each connection */
#define CONF_FIELDS_MAX 64   /* in `set`, `add` or `remove` of a route */
#define CONF_CERTS_MAX 1024  /* of one listener */
#define CONF_NAME_BYTES_MAX                                                                        \
    40 /* of a service: leaves room for "SERVICE ENDPOINT" in the registry */
#define CONF_TARGET_NAME_BYTES 104 /* as in struct memfile_name */
/* Of which "SERVICE unix:PATH" must fit, with its end: less what the name of the service has. */
#define CONF_UNIX_PATH_BYTES_MAX (CONF_TARGET_NAME_BYTES - 7)
#define CONF_UNIX_LISTEN_BYTES_MAX 107 /* as the kernel has it */

/* ---- arena: memory that is freed whole ---- */
struct arena_chunk;
struct arena {
    struct arena_chunk *chunks;
    bool failed;
};
void *arena_get(struct arena *a, size_t bytes);         /* zeroed; NULL without memory */
const char *arena_text(struct arena *a, struct span s); /* terminated copy; "" without memory */
void arena_fini(struct arena *a);

/* ---- nodes ---- */
enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };
struct node {
    enum node_kind kind;
    uint32_t line, column; /* from 1 */
    struct span text;      /* of a scalar, without its quotes */
    bool is_plain;         /* a scalar without quotes */
    bool is_empty;         /* nothing stands there */
    struct node *key;      /* in a map: the scalar before the colon */
    struct node *parent, *first, *last, *next;
    uint32_t count; /* of children */
};

/* ---- keys of the maps that are not tables of scalars ---- */
enum conf_level {
#define LEVEL(name, where, what) LEVEL_##name,
#include "conf/keys.def"
#undef LEVEL
    LEVEL_COUNT
};
enum conf_shape {
    SHAPE_STR,
    SHAPE_BOOL,
    SHAPE_WORD,
    SHAPE_DUR,
    SHAPE_COUNT,
    SHAPE_BYTES,
    SHAPE_PCT,
    SHAPE_PER,     /* "100/s" */
    SHAPE_RATIO,   /* "< 0.1%" */
    SHAPE_LATENCY, /* "99% < 250ms" */
    SHAPE_KNOB,    /* in the unit of its knob */
    SHAPE_OTHER    /* a list or map with a reader and a schema of its own */
};
struct conf_key_row {
    const char *name, *what, *words, *def;
    uint64_t min, max;
    enum conf_level level;
    enum conf_shape shape;
    bool is_planned; /* known, refused in this version */
};
enum conf_key {
#define KEY(level, name, ...) KEY_##level##_##name,
#include "conf/keys.def"
#undef KEY
    KEY_COUNT
};
const struct conf_key_row *conf_key_row(enum conf_key key);
struct conf_level_row {
    const char *where; /* "services.NAME" */
    const char *what;
};
const struct conf_level_row *conf_level_row(enum conf_level level);

/* ---- the finished configuration's private part ---- */
#define CONF_PARAMS_MAX 192
struct conf_private {
    _Atomic uint32_t refs;
    struct arena arena;
    uint32_t param_line[CONF_PARAMS_MAX]; /* 0: default */
    uint32_t (*service_line)[KEY_COUNT];  /* [service][key], 0: default */
    uint32_t (*route_line)[KEY_COUNT];
    uint32_t *listen_line;
    struct conf_regex *regexes; /* to free */
};
struct conf_regex {
    struct conf_regex *next;
    struct regex *rx;
};

struct reader {
    struct conf *conf;
    struct conf_private *private;
    struct arena *keep; /* lives as long as the conf */
    struct arena scratch;
    struct conf_report *report;
    const struct node *services_node; /* to name the line of a service */
    struct conf_listen *listens;      /* the arrays of conf, while they may be written */
    struct conf_service *services;
    struct conf_route *routes;
    bool *is_routed;                     /* per service */
    const struct node **listen_services; /* per listener: the name of its service, or NULL */
    uint32_t endpoint_total;
    bool is_too_many;
    bool is_list; /* of endpoints, in a file of its own */
};

/* ---- yaml.c ---- */
/* The tree of <text>, or NULL with at least one problem. */
struct node *yaml_read(struct reader *rd, struct span text);

/* ---- problem.c ---- */
void problem_at(struct reader *rd, uint32_t line, uint32_t column, const char *fmt, ...)
    FB_PRINTF(4, 5);
void problem(struct reader *rd, const struct node *at, const char *fmt, ...) FB_PRINTF(3, 4);
void problem_warn(struct reader *rd, const struct node *at, const char *fmt, ...) FB_PRINTF(3, 4);
void problem_sort(struct conf_report *r);
#define NODE_PATH_BYTES 160
/* "services.shop.endpoints[2].port"; returns <out>. */
const char *node_path(const struct node *n, char out[NODE_PATH_BYTES]);
/* The likeliest of <names> for <word>, at edit distance <= length / 3; NULL when none is near. */
struct near {
    struct span word;
    const char *best;
    size_t best_distance;
};
void near_try(struct near *near, const char *name);

/* What a key of another proxy is called here ("here it is `balance`"), or NULL. */
const char *foreign_advice(struct span word, enum conf_level level);
/* Most of what the user wrote that a message repeats. */
#define SHOWN(span) (int)((span).len > 60 ? 60 : (span).len), (span).at

/* ---- value.c: text -> number; no messages ---- */
enum value_fault {
    VALUE_OK,
    VALUE_NO_UNIT,
    VALUE_BAD,
    VALUE_TOO_LARGE,
    VALUE_TOO_FINE,
    VALUE_DECIMAL_UNIT
};
enum value_fault value_dur_us(struct span s, uint64_t *us);
enum value_fault value_bytes(struct span s, uint64_t *bytes);
enum value_fault value_rate(struct span s, uint64_t *bytes_per_s);
enum value_fault value_count(struct span s, uint64_t *count);
enum value_fault value_per(struct span s, uint64_t *count, uint64_t *period_us); /* "100/10s" */
enum value_fault value_number(struct span s, double *number); /* decimal, no sign */
enum value_fault value_pct(struct span s, double *pct);       /* "99.9%" */
enum value_fault value_bool(struct span s, bool *value);
int value_word(struct span s, const char *words); /* index in "a|b|c", -1 */
/* One value of a table row, by its type, in the stored unit. */
enum value_fault value_of_type(enum conf_type type, struct span s, uint64_t *value);
void value_print(enum conf_type type, uint64_t value, struct buf *out);
const char *value_unit_hint(enum conf_type type); /* "10s (us, ms, s, m, h, d)" */
/* "host:port", "[v6]:port", ":port"; <host> empty for the last. */
bool value_address(struct span s, struct span *host, uint16_t *port);
bool value_is_number_host(struct span host); /* IPv4 or IPv6 digits */
bool value_is_name(struct span host);        /* letters, digits, dot, hyphen, underscore */

/* ---- params.c ---- */
void params_default(struct conf_params *p);
void params_read(struct reader *rd, const struct node *value, const struct conf_param_row *row);
const struct conf_param_row *params_find(struct span section, struct span name);
uint64_t params_value(const struct conf_param_row *row, const struct conf_params *p); /* not str */

/* ---- read.c: nodes -> values, with messages; false when there was an error ---- */
bool read_is(struct reader *rd, const struct node *n, enum node_kind kind, const char *example);
bool read_scalar(struct reader *rd, const struct node *n, struct span *text);
bool read_str(struct reader *rd, const struct node *n, const char **text);
struct conf_range {
    uint64_t min, max; /* in the stored unit */
};
bool read_number(struct reader *rd, const struct node *n, enum conf_type type,
                 struct conf_range range, uint64_t *value);
bool read_key_number(struct reader *rd, const struct node *n, enum conf_key key, uint64_t *value);
bool read_bool(struct reader *rd, const struct node *n, bool *value);
/* on or off where a map may stand as well; <example> is such a map. */
bool read_switch(struct reader *rd, const struct node *n, const char *example, bool *value);
bool read_word(struct reader *rd, const struct node *n, const char *words, int *index);
/* A list of words, or one alone: a bit per word of <words>; [] is none of them. */
bool read_words(struct reader *rd, const struct node *n, const char *words, uint64_t *bits);
/* Networks; <example> for messages. */
bool read_prefixes(struct reader *rd, const struct node *n, const struct conf_prefix **at,
                   size_t *count);
/* The key of a map's child at this level, or -1 after a message. */
int read_key(struct reader *rd, const struct node *child, enum conf_level level);

/* ---- parse_shape.c ---- */
void who_default(struct conf_who *who);
/* `by` of a rate limit, or `key` of a route (<is_rate> false). */
bool read_who(struct reader *rd, const struct node *n, bool is_rate, struct conf_who *who);
void parse_success_floor(struct reader *rd, const struct node *n, struct conf_service *sv);
/* After its service is known. */
void parse_split(struct reader *rd, const struct node *n, struct conf_route *rt);
/* After the name of the route is known. */
void parse_rates(struct reader *rd, const struct node *n, struct conf_route *rt);
/* ---- parse_caps.c ---- */
/* `concurrency` of a route or service, whose name tells its clients from those of others; <key> has
 * its range. */
void parse_caps(struct reader *rd, const struct node *n, enum conf_key key, uint32_t *all,
                struct conf_caps *caps);
void parse_caps_name(struct conf_caps *caps, const char *kind, const char *name);

/* ---- parse_listen.c ---- */
void parse_listens(struct reader *rd, const struct node *n);
/* After the services and before the routes: which services get connections, not requests. */
void parse_listens_together(struct reader *rd);
/* "127.0.0.1:80", ":80", "[::]:80", "localhost:80", "fd:3" in its normal form, or a message. */
bool parse_listen_address(struct reader *rd, const struct node *n, struct span s,
                          char out[CONF_LISTEN_BYTES]);

/* ---- parse.c ---- */
typedef void parse_root_fn(struct reader *rd, const struct node *root);
enum fb_code conf_parse_with(struct span text, const char *file, parse_root_fn *read,
                             struct conf **out, struct conf_report *report);
/* ---- parse_service.c, parse_route.c ---- */
/* parse_place.c: where requests belong */
void parse_sticky(struct reader *rd, const struct node *n, struct conf_sticky *sticky);
void parse_agent(struct reader *rd, const struct node *n, struct conf_agent *agent);
void parse_endpoint_place(struct reader *rd, const struct node *n, int key,
                          struct conf_endpoint *ep);
/* dns+srv:// and file://; false: another address. */
bool parse_discovery(struct reader *rd, const struct node *n, struct conf_endpoint *ep);
/* *s: "unix:/PATH", then the path alone; <why>: what bounds its length, in the message. */
bool parse_unix_path(struct reader *rd, const struct node *n, struct span *s, size_t bytes_max,
                     const char *why);
/* <s>: what stands there behind http:// or https://; <service>: "" in a list of its own.  False: it
 * is no Unix socket, nor how others write one. */
bool parse_unix(struct reader *rd, const struct node *n, struct span s, const char *service,
                struct conf_endpoint *ep);
void parse_endpoints(struct reader *rd, const struct node *n, struct conf_service *sv);
void parse_service_default(struct reader *rd, struct conf_service *sv);
void parse_hash(struct reader *rd, const struct node *n, struct conf_hash *hash);
bool parse_is_token(struct span s);
void parse_services(struct reader *rd, const struct node *n);
bool read_service_name(struct reader *rd, const struct node *n, uint16_t *index);
void parse_routes(struct reader *rd, const struct node *n);
void parse_default_route(struct reader *rd);
/* ---- parse_connector.c ---- */
void parse_connectors(struct reader *rd, const struct node *n);
void parse_handlers(struct reader *rd, const struct node *n);
void parse_scrapes(struct reader *rd, const struct node *n);
void check_url(struct reader *rd, const struct node *url, const struct conf_connector *c);

/* ---- parse_signal.c: after the services ---- */
void parse_signals(struct reader *rd, const struct node *n);

/* ---- parse_broker.c ---- */
void check_broker(struct reader *rd, const struct node *n, const struct conf_connector *c);

/* ---- parse_scrape.c ---- */
static inline bool is_scrape(const struct conf_connector *c)
{
    return strcmp(c->type, "prometheus") == 0;
}
void scrape_defaults(struct conf_connector *c);
void check_scrape(struct reader *rd, const struct node *n, struct conf_connector *c);
/* ---- parse_tls.c ---- */
void parse_tls(struct reader *rd, const struct node *n, struct conf_tls *tls);
void parse_tls_out(struct reader *rd, const struct node *n, struct conf_tls_out *tls);
/* ---- parse_pages.c ---- */
void parse_pages(struct reader *rd, const struct node *n, struct conf_pages *out);
bool parse_body(struct reader *rd, const struct node *n, const char **out); /* up to 64 KiB */

/* parse_rules.c */
void parse_media_type(struct reader *rd, const struct node *n, const char **out);
struct rules_nodes { /* of one route */
    const struct node *allow, *deny, *request, *response, *rewrite, *redirect, *respond, *back;
};
struct rules_route {
    bool has_service;          /* `service` is given */
    bool has_host;             /* and exchanges Host */
    const struct regex *regex; /* of its match, or NULL */
};
/* NULL: there are none, or without memory. */
const struct conf_rules *parse_rules(struct reader *rd, const struct rules_nodes *at,
                                     const struct rules_route *route);
/* parse_back.c: `map_back`, or NULL: off, or neither it nor a <reason> for it is there. */
const struct conf_back *parse_back(struct reader *rd, const struct node *n, bool has_reason);
/* parse_regex.c */
/* NULL after a message. */
const struct regex *parse_regex(struct reader *rd, const struct node *n, struct span pattern,
                                bool is_caseless);
void parse_regex_path(struct reader *rd, const struct node *n, struct span s,
                      struct conf_route *rt);
/* The pieces of <s>, which must stay as long as the conf; false after a message. */
bool parse_template(struct reader *rd, const struct node *n, struct span s,
                    struct conf_template *out, bool is_path);
void parse_rewrite_to(struct reader *rd, const struct node *pattern, const struct node *to,
                      const struct regex *match, struct conf_rules *rules);
void conf_regexes_free(struct conf_private *private);
/* parse_route.c: what is wrong with it as a path in normal form, or NULL. */
const char *path_fault(struct span s);
/* False after a message: no field, or one that foldback itself answers for. */
bool parse_free_field(struct reader *rd, const struct node *n, struct span name);
/* A list of 1..<most> such names. */
const char **parse_free_fields(struct reader *rd, const struct node *n, const char *example,
                               size_t most, size_t *count);
/* parse_auth.c: after the other keys of the route; NULL without memory or after a message. */
const struct conf_auth *parse_auth(struct reader *rd, const struct node *n,
                                   const struct conf_route *rt);
/* parse_route.c: a path as requests have it, in normal form; false after a message. */
bool parse_path(struct reader *rd, const struct node *n, struct span *path);
/* parse_compress.c */
void compress_default(struct conf_compress *c);
void parse_compress(struct reader *rd, const struct node *n, struct conf_compress *c);
/* parse_cache.c */
void cache_default(struct conf_cache *c);
void parse_cache(struct reader *rd, const struct node *n, struct conf_cache *c);
bool parse_tune_item(struct reader *rd, const struct node *n, enum knob_id knob,
                     struct conf_tune *tune);
enum knob_id parse_knob_of_key(struct span key); /* KNOB_COUNT when none */
/* parse_region.c */
void parse_region(struct reader *rd, const struct node *n, const char **region);
void check_regions(struct reader *rd, const struct node *root);
/* The node of <section>.<name>, or NULL; section "top" is the file itself. */
const struct node *find_node(const struct node *root, const char *section, const char *name);
/* effect.c: after everything else */
void check_effect(struct reader *rd);
bool conf_is_master_key(const char *text);
#endif
