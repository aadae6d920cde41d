/* SPDX-License-Identifier: Apache-2.0 */
/* route: which route of the configuration a request belongs to.
 *
 * The routes of one struct conf are compiled once into a table; a look-up allocates nothing and
 * costs below 100 ns with ten routes;
 * exact hosts are hashed, so their number does not matter.  A regular expression is tried last of a
 * route's parts, and only on paths that begin as it does.  The first route in the order of the
 * file that matches wins, whatever its kind: an exact path does not beat a prefix that stands above
 * it. Every part of a route must match: host, path, method, headers; an empty part matches all.
 * Threads: a finished table is read-only and may be shared.  Memory: the table borrows from its
 * conf and holds a reference.  Not here: normal forms (proto/http1_target.h makes them),
 * priorities, services. */
#ifndef FB_GATEWAY_ROUTE_H
#define FB_GATEWAY_ROUTE_H
#include "base/span.h"
#include "conf/conf.h"
#include "proto/http1.h"

#define ROUTE_NONE UINT16_C(0xffff)
#define ROUTE_COSTLY UINT16_C(0xfffe) /* a regular expression came to no end (regex.h) */

struct route_table;
struct regex_work;

/* What is looked at.  Host and path in the normal form of http1_target.h: what is matched is what
 * is forwarded.  Asterisk form ("*") matches only routes for everything. */
struct route_query {
    struct span host;   /* lower case, no port, no final dot; may be empty */
    struct span path;   /* without the query */
    struct span method; /* as received */
    const struct http1_field *fields;
    uint32_t field_count;
    struct regex_work *work; /* for tables with regular expressions, else NULL */
};

/* The table of <conf>'s routes; NULL without memory. */
FB_MUST_USE
struct route_table *route_table_new(struct conf *conf);
void route_table_free(struct route_table *t); /* NULL is fine */

/* Index in conf->routes, ROUTE_NONE or ROUTE_COSTLY. */
uint16_t route_match(const struct route_table *t, const struct route_query *q);
#endif
