/* SPDX-License-Identifier: Apache-2.0 */
/* http1_try: feeds bytes to the parsers whole, byte by byte and cut in two, from memory that ends
 * exactly where the bytes end (the sanitizers see a read beyond) and that moves between calls. */
#ifndef FB_TEST_HTTP1_TRY_H
#define FB_TEST_HTTP1_TRY_H
#include "base/assert.h"
#include "proto/http1_body.h"
#include "proto/http1_target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka needs the four headers above. */
#include <cmocka.h>

#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
#define TRY_FIELDS 32u

static const struct http1_limits try_limits = {256, 1024, 8};

struct
try {
    struct http1_parser p;
    struct http1_field fields[TRY_FIELDS];
    enum http1_step step;
    char *bytes; /* owned; where the spans point */
};

static inline void try_begin(struct try *t, bool is_response, enum http1_method answered)
{
    memset(t, 0, sizeof(*t));
    if (is_response)
        http1_response_begin(&t->p, &try_limits, t->fields, answered);
    else
        http1_request_begin(&t->p, &try_limits, t->fields);
}

static inline void try_end(struct try *t)
{
    free(t->bytes);
    t->bytes = NULL;
}

/* The first <len> bytes at a new place. */
static inline void try_feed(struct try *t, struct span all, size_t len)
{
    char *copy = malloc(len ? len : 1);
    fb_assert(copy != NULL);
    if (len)
        memcpy(copy, all.at, len);
    t->step = http1_parse(&t->p, (struct span){copy, len});
    free(t->bytes);
    t->bytes = copy;
}

static inline void try_whole(struct try *t, bool is_response, enum http1_method answered,
                             struct span all)
{
    try_begin(t, is_response, answered);
    try_feed(t, all, all.len);
}

/* From <first> bytes on, <step> more at a time. */
static inline void try_cut(struct try *t, bool is_response, enum http1_method answered,
                           struct span all, const size_t cut[2])
{
    try_begin(t, is_response, answered);
    for (size_t len = cut[0]; t->step == HTTP1_MORE; len += cut[1]) {
        try_feed(t, all, len < all.len ? len : all.len);
        if (len >= all.len)
            break;
    }
}

static inline void assert_span(struct span got, struct span want)
{
    if (!span_eq(got, want))
        fail_msg("got \"%.*s\", want \"%.*s\"", SPAN_ARG(got), SPAN_ARG(want));
}

/* Same outcome, and the same bytes at the same offsets. */
static inline void assert_span_same(const struct try *a, struct span x, const struct try *b,
                                    struct span y)
{
    assert_int_equal(x.len, y.len);
    if (x.len > 0)
        assert_int_equal(x.at - a->bytes, y.at - b->bytes);
}

static inline void assert_same(const struct try *a, const struct try *b)
{
    const struct http1_head *x = &a->p.head;
    const struct http1_head *y = &b->p.head;
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->p.error, b->p.error);
    if (a->step != HTTP1_DONE)
        return;
    assert_int_equal(x->field_count, y->field_count);
    assert_int_equal(x->head_bytes, y->head_bytes);
    assert_int_equal(x->seen, y->seen);
    assert_int_equal(x->body_bytes, y->body_bytes);
    assert_int_equal(x->framing, y->framing);
    assert_int_equal(x->version_minor, y->version_minor);
    assert_int_equal(x->keep_alive, y->keep_alive);
    assert_int_equal(x->is_upgrade, y->is_upgrade);
    assert_int_equal(x->status, y->status);
    assert_int_equal(x->host_port, y->host_port);
    assert_span_same(a, x->method_text, b, y->method_text);
    assert_span_same(a, x->target, b, y->target);
    assert_span_same(a, x->path, b, y->path);
    assert_span_same(a, x->query, b, y->query);
    assert_span_same(a, x->host, b, y->host);
    assert_span_same(a, x->host_name, b, y->host_name);
    assert_span_same(a, x->reason, b, y->reason);
    for (uint32_t i = 0; i < x->field_count; i++) {
        assert_int_equal(x->fields[i].id, y->fields[i].id);
        assert_int_equal(x->fields[i].flags, y->fields[i].flags);
        assert_span_same(a, x->fields[i].name, b, y->fields[i].name);
        assert_span_same(a, x->fields[i].value, b, y->fields[i].value);
    }
}

/* However the bytes are cut, the outcome is the one of the whole. */
static inline void assert_cuts_do_not_matter(bool is_response, enum http1_method answered,
                                             struct span all)
{
    struct try whole, cut;
    try_whole(&whole, is_response, answered, all);
    try_cut(&cut, is_response, answered, all, (size_t[2]){1, 1});
    assert_same(&whole, &cut);
    try_end(&cut);
    for (size_t first = 0; first < all.len; first++) {
        try_cut(&cut, is_response, answered, all, (size_t[2]){first, all.len});
        assert_same(&whole, &cut);
        try_end(&cut);
    }
    try_end(&whole);
}

static inline bool is_inside(struct span s, struct span all)
{
    return s.len == 0 || (s.at >= all.at && s.at + s.len <= all.at + all.len);
}
#endif
