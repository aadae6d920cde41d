/* SPDX-License-Identifier: Apache-2.0 */
/* http1_int: shared by the files of the head parser.  Inside proto/ only. */
#ifndef FB_PROTO_HTTP1_INT_H
#define FB_PROTO_HTTP1_INT_H
#include "proto/http1.h"

/* What the fields seen so far said (struct http1_parser.facts). */
enum {
    FACT_CLOSE = 1,         /* Connection: close */
    FACT_KEEP_ALIVE = 2,    /* Connection: keep-alive */
    FACT_UPGRADE = 4,       /* Connection: upgrade */
    FACT_TE = 8,            /* Connection: te */
    FACT_CHUNKED = 16,      /* the last coding so far is chunked */
    FACT_CODING = 32,       /* a well-formed coding other than chunked */
    FACT_TE_BAD = 64,       /* a malformed coding, or one behind chunked */
    FACT_TE_TRAILERS = 128, /* TE: trailers */
    FACT_EXPECT = 256,      /* Expect: 100-continue */
};

/* The fields of <head> have this line; its meaning goes to head and facts. */
FB_MUST_USE
enum http1_error http1_field_take(struct http1_parser *p, struct http1_field *field);
/* All fields are there: framing, lifetime of the connection, upgrade, hop-by-hop marks. */
FB_MUST_USE
enum http1_error http1_fields_finish(struct http1_parser *p);
/* The request line is there: splits the target and checks it against the method. */
FB_MUST_USE
enum http1_error http1_target_take(struct http1_head *head);
/* Could a careless reader take this name for a framing field (Transfer_Encoding, -Content-Length)?
 */
bool http1_name_is_near_framing(struct span name);
#endif
