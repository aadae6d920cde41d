/* SPDX-License-Identifier: Apache-2.0 */
/* cache: a request and the store: looked up after its route is known, served from memory, or
 * fetched and kept on the way.
 *
 *   cache_look --served--> cache_go: answered from memory (and fetched anew in the background)
 *        \--not--> cache_go: WAITS for another request's answer --told--> looked up again
 *                         \--goes to the endpoint --> cache_head: 304 or failure: from memory
 *                                                  \-> kept: cache_feed ... cache_filled
 *
 * What a request holds here is one struct cache_work, given back with the request: whatever was
 * under way then is over, and who waited for it is told.
 * Threads: the worker of the request. */
#ifndef FB_GATEWAY_CACHE_H
#define FB_GATEWAY_CACHE_H
#include "gateway/cache_rules.h"
#include "gateway/gateway_int.h"

enum cache_forward { /* why it went to the endpoint, words of RFC 9211 */
                     CACHE_FORWARD_NONE,
                     CACHE_FORWARD_URI_MISS,
                     CACHE_FORWARD_VARY_MISS,
                     CACHE_FORWARD_STALE,
                     CACHE_FORWARD_REQUEST,
                     CACHE_FORWARD_METHOD,
                     CACHE_FORWARD_BYPASS
};

struct cache_conditions { /* of the client; empty: not given */
    struct span if_none_match, if_modified_since, range, if_range;
};

struct cache_work {
    struct request *req;
    const struct conf_cache *conf;
    struct cache_key key;
    struct cache_asked asked;
    struct cache_conditions client;
    struct chunk *keep; /* what the spans above point to once the head is gone */
    struct cache_entry *served;
    const struct cache_body *coded;      /* of <served>: what is written instead of its body */
    const struct cache_segment *segment; /* next to write, from <segment_at> */
    uint64_t segment_at, left_bytes;
    struct cache_entry *stale; /* known, but old: to ask about, or to fall back on */
    struct cache_entry *fill;  /* being received */
    uint64_t fill_expected_bytes;
    struct cache_waiter waiter;
    struct loop_job again;         /* the rest is written in the next turn */
    struct cache_pending *pending; /* others may wait for us */
    uint64_t wait_until_us;
    uint16_t forward_status;
    uint8_t forward; /* enum cache_forward */
    uint8_t waits;   /* how often it waited */
    bool is_unsafe;  /* its success drops what is kept */
    bool is_revalidating;
    bool wants_refresh; /* served stale: to be fetched in the background */
    bool is_plain;      /* a GET without conditions or range: its answer serves others */
    bool is_stored, is_collapsed;
    bool is_guarded; /* served old because the endpoints have no room */
};

struct cache_where { /* normalised */
    struct span host, target, path;
};
/* After the route is known.  A reason: answer that.  REASON_NONE with req->cw->served: no head for
 * the endpoint is needed unless wants_refresh. */
uint16_t cache_look(struct request *req, const struct http1_head *head,
                    const struct cache_where *where);
/* True: answered, or it waits; false: to the endpoint.  <head>: as parsed. */
bool cache_go(struct request *req);
/* The rest of what is served, when the client can take more.  False: that was enough for one turn
 * of the loop, the client is run again in the next one. */
bool cache_more(struct request *req);
/* The final head of the endpoint's answer.  False: the request was answered from memory and <up>
 * is gone or back in the pool. */
bool cache_head(struct upstream *up, struct request *req, const struct http1_head *head);
void cache_feed(struct request *req, struct span payload);
void cache_filled(struct request *req); /* the whole body was seen */
/* Its client left: true when the answer is worth receiving all the same. */
bool cache_goes_on(const struct request *req);
/* The endpoint failed, or there is no room: true when the client got an old answer instead. */
bool cache_rescue(struct request *req);
/* Cache-Status of an answer from the endpoint. */
void cache_put_status(const struct request *req, struct http1_out *w);
void cache_work_end(struct request *req); /* with the request; req->cw may be NULL */
/* The wait for another request is over: by its timer; false: the message is on its way. */
bool cache_wait_over(struct request *req);

/* ---- between the files of the cache ---- */
void cache_serve(struct request *req, struct cache_entry *e, enum ev_cache verdict);
bool cache_keep(struct cache_work *cw);
/* The head that went, or would go, to the endpoint; NULL when it cannot be read again. */
const struct http1_head *cache_head_again(struct request *req);
bool cache_refresh(struct request *req); /* starts the background request; takes req->head */
void cache_end_pending(struct cache_work *cw, bool is_useless);
bool cache_is_full(struct service *sv); /* all its endpoints are at their limits */
/* Takes <e> (may be NULL) as what was found: sets served or stale, and what will be said of it. */
void cache_judge_found(struct cache_work *cw, struct cache_entry *e, bool has_others);

/* ---- cache_report.c: what the cache says to the stream ---- */
/* A request for <key> that memory answered, or could have: it may be one of the sample. */
void cache_sample(struct request *req, struct cache_entry *e, enum ev_cache verdict);
void cache_say(struct gw *gw);             /* first thread, each second */
void cache_sample_adapt(struct worker *w); /* each worker, each second */

/* ---- cache_coded.c: bodies that are kept compressed as well ---- */
/* The form of the body of <e> that the client of <req> wants; NULL: there is none (yet). */
const struct cache_body *cache_coded(const struct request *req, const struct cache_entry *e);
/* What is served is being compressed on its way: keep such a form of it, made by a thread of its
 * own, if it was asked for before. */
void cache_coded_ask(struct request *req);
void cache_coder_start(struct gw *gw); /* first thread, confined already; once is enough */
void cache_coder_stop(struct gw *gw);  /* no worker runs any more */

/* ---- cache_key.c: "https://host:port/path?query" ---- */
void cache_key_put(struct http1_out *w, const struct request *req, const struct http1_head *head,
                   const struct cache_where *where);
bool cache_url_has_scheme(struct span url);
/* As an operator names it: [http://]host[:port][/path]; <is_https> when it names no scheme.  False:
 * it is no such URL. */
FB_MUST_USE
bool cache_key_of_url(struct http1_out *w, struct span url, bool is_https);
/* Of a URI reference of the answer to the request with the key <own>; false when it has another
 * origin (RFC 9111 section 4.4). */
FB_MUST_USE
bool cache_key_of_reference(struct http1_out *w, struct span own, struct span ref);

/* ---- cache_purge.c ---- */
/* As it came from the operator: url, prefix, tag or all; returns how many answers it hit.  Thread
 * 0.
 */
uint64_t cache_purge(struct gw *gw, uint16_t kind, bool is_paced, struct span text);

/* ---- cache_knobs.c: memory and budgets ---- */
void cache_configure(struct gw *gw); /* after a generation came into force; first thread */
void cache_tick(struct gw *gw);      /* first thread, each 100 ms */
#endif
