/* SPDX-License-Identifier: Apache-2.0 */
/* cache_control: what fields say about keeping and reusing an answer, from text to numbers.
 *
 * Cache-Control and targeted fields (RFC 9111, RFC 9213), Age, Expires and HTTP dates (RFC 9110
 * 5.6.7, all three forms), entity tags, Vary, Range.  Nothing here decides: gateway/cache_rules.c
 * does.  Lenient where a reader that is stricter would keep an answer for longer, else strict: a
 * value that makes no sense means "stale", never "fresh".
 *
 * Holds always:  seconds lie in 0 .. CACHE_SECONDS_MAX;  spans lie inside the given bytes.
 * Threads: any.  Memory: none.  Units: seconds since 1970, bytes. */
#ifndef FB_PROTO_CACHE_CONTROL_H
#define FB_PROTO_CACHE_CONTROL_H
#include "proto/http1_write.h"

/* RFC 9111 1.2.2: larger values are this one. */
#define CACHE_SECONDS_MAX INT64_C(2147483648)
#define CACHE_NO_SECONDS INT64_C(-1) /* the directive was not given */
#define CACHE_NO_DATE INT64_MIN

enum {
    CACHE_NO_STORE = 1u << 0,
    CACHE_NO_CACHE = 1u << 1,
    CACHE_PRIVATE = 1u << 2,
    CACHE_PUBLIC = 1u << 3,
    CACHE_MUST_REVALIDATE = 1u << 4,
    CACHE_PROXY_REVALIDATE = 1u << 5,
    CACHE_MUST_UNDERSTAND = 1u << 6,
    CACHE_ONLY_IF_CACHED = 1u << 7,
    CACHE_NO_TRANSFORM = 1u << 8,
    CACHE_NO_CACHE_FIELDS = 1u << 9, /* no-cache="field": those fields only */
    CACHE_PRIVATE_FIELDS = 1u << 10, /* private="field" */
    CACHE_IMMUTABLE = 1u << 11,
};

struct cache_directives {
    uint32_t flags;
    bool is_given; /* at least one directive was there */
    /* seconds, or CACHE_NO_SECONDS; a doubled directive counts with its smaller value */
    int64_t max_age, s_maxage, stale_while_revalidate, stale_if_error, max_stale, min_fresh;
    struct span private_fields, no_cache_fields; /* inside the quotes; may be empty */
};

/* Directives of all Cache-Control fields of <head>. */
void cache_directives_read(const struct http1_head *head, struct cache_directives *out);
/* The same of a targeted field (CDN-Cache-Control).  False when it is absent or malformed as a
 * structured field: then it does not count. */
bool cache_targeted_read(const struct http1_head *head, struct span name,
                         struct cache_directives *out);

/* Seconds of the first Age field; 0 when there is none or it is no number. */
int64_t cache_age_read(const struct http1_head *head);
/* An HTTP date, or CACHE_NO_DATE.  <now_s> tells the century of RFC 850's two digits. */
int64_t cache_date_parse(struct span s, int64_t now_s);
#define CACHE_DATE_BYTES 29
/* "Sun, 06 Nov 1994 08:49:37 GMT", not terminated; years 1 to 9999, others are clamped. */
void cache_date_format(int64_t date_s, char out[CACHE_DATE_BYTES]);

/* Is <etag> (with quotes and W/) in <list>, the value of If-None-Match or If-Match?  Weak
 * comparison ignores W/; strong needs both strong.  "*" matches everything. */
bool cache_etag_is_in(struct span list, struct span etag, bool is_weak);
bool cache_etag_is_valid(struct span etag);

enum cache_range {
    CACHE_RANGE_NONE, /* no bytes range, malformed, or several: serve everything */
    CACHE_RANGE_PART,
    CACHE_RANGE_BEYOND, /* unsatisfiable: 416 */
};
/* The one range of <value> in a body of <total> bytes; [*first, *last] on CACHE_RANGE_PART. */
enum cache_range cache_range_parse(struct span value, uint64_t total, uint64_t *first,
                                   uint64_t *last);

/* The quality 0..1000 that Accept-Encoding gives to <coding>; absent fields give none but identity
 * (1000).  <head> NULL: none. */
uint32_t cache_coding_quality(const struct http1_head *head, struct span coding);
#endif
