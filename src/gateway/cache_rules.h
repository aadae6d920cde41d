/* SPDX-License-Identifier: Apache-2.0 */
/* cache_rules: what RFC 9111 says about one answer: may it be kept, for how long is it fresh, may
 * it be used now.
 *
 * Pure: the clock is an argument.  Threads: any.  Units: seconds. */
#ifndef FB_GATEWAY_CACHE_RULES_H
#define FB_GATEWAY_CACHE_RULES_H
#include "conf/conf.h"
#include "gateway/cache_store.h"
#include "proto/cache_control.h"

struct cache_judgement {
    bool is_storable;
    uint8_t flags; /* CACHE_ENTRY_* */
    int64_t age_s, lifetime_s, stale_while_revalidate_s, stale_if_error_s;
    int64_t date_s, last_modified_s;
};

/* What the request contributes. */
struct cache_asked {
    struct cache_directives directives;
    bool has_authorization;
    bool is_no_cache; /* no-cache, or Pragma without Cache-Control */
};
void cache_asked_read(const struct http1_head *request, struct cache_asked *out);

/* <wall_s>: when the answer came;  <delay_s>: since the request was sent. */
struct cache_moment {
    int64_t wall_s, delay_s;
};
void cache_judge(const struct conf_cache *conf, const struct cache_asked *asked,
                 const struct http1_head *answer, const struct cache_moment *at,
                 struct cache_judgement *out);

enum cache_use {
    CACHE_USE_FRESH,      /* as it is */
    CACHE_USE_STALE,      /* as it is, and fetch it anew in the background */
    CACHE_USE_REVALIDATE, /* ask first */
};
/* <age_s>: now. */
enum cache_use cache_judge_use(const struct conf_cache *conf, const struct cache_asked *asked,
                               const struct cache_entry *e, int64_t age_s);
int64_t cache_age_s(const struct cache_entry *e, uint64_t now_us);
/* May it be served because the endpoint failed?  <is_guard>: because there was no room to ask. */
bool cache_may_rescue(const struct conf_cache *conf, const struct cache_entry *e, int64_t age_s);
/* Never for longer than it was fresh: who said a second did not mean a minute. */
bool cache_may_guard(const struct conf_cache *conf, const struct cache_entry *e, int64_t age_s);

/* Is this field of the answer not to be kept (besides those of the connection)? */
bool cache_is_dropped_field(const struct http1_field *f, const struct cache_directives *d);
#endif
