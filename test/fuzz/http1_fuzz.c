/* SPDX-License-Identifier: Apache-2.0 */
/* http1_fuzz: heads, bodies, targets of HTTP/1 under arbitrary bytes.
 *
 * Input: one byte that selects the parser, one that cuts, then the message.
 * Asserted: the cut does not change the outcome; spans lie inside the bytes; an accepted head
 * written again from its facts is accepted again with the same facts; normal forms are idempotent.
 */
#include "base/assert.h"
#include "proto/http1_body.h"
#include "proto/http1_target.h"

#include <stdlib.h>

#define FIELDS 16u
#define OUT_BYTES 65536u

static const struct http1_limits limits = {512, 2048, FIELDS};

struct run {
    struct http1_parser p;
    struct http1_field fields[FIELDS];
    enum http1_step step;
};

static void begin(struct run *r, unsigned select)
{
    memset(r, 0, sizeof(*r));
    if (select % 4 == 0)
        http1_request_begin(&r->p, &limits, r->fields);
    else
        http1_response_begin(&r->p, &limits, r->fields, (enum http1_method)(select % 8));
}

static void assert_inside(struct span s, struct span all)
{
    if (s.len == 0)
        return;
    fb_assert(s.at >= all.at);
    fb_assert(s.at + s.len <= all.at + all.len);
}

static void assert_head_inside(const struct http1_head *h, struct span all)
{
    assert_inside(h->method_text, all);
    assert_inside(h->target, all);
    assert_inside(h->path, all);
    assert_inside(h->query, all);
    assert_inside(h->host, all);
    assert_inside(h->host_name, all);
    assert_inside(h->reason, all);
    fb_assert(h->field_count <= FIELDS);
    fb_assert(h->head_bytes <= all.len);
    for (uint32_t i = 0; i < h->field_count; i++) {
        assert_inside(h->fields[i].name, all);
        assert_inside(h->fields[i].value, all);
    }
}

static void assert_same(const struct run *a, const struct run *b)
{
    fb_assert(a->step == b->step);
    fb_assert(a->p.error == b->p.error);
    if (a->step != HTTP1_DONE)
        return;
    fb_assert(a->p.head.head_bytes == b->p.head.head_bytes);
    fb_assert(a->p.head.field_count == b->p.head.field_count);
    fb_assert(a->p.head.framing == b->p.head.framing);
    fb_assert(a->p.head.body_bytes == b->p.head.body_bytes);
    fb_assert(a->p.head.seen == b->p.head.seen);
    fb_assert(a->p.head.keep_alive == b->p.head.keep_alive);
    fb_assert(span_eq(a->p.head.path, b->p.head.path));
    fb_assert(span_eq(a->p.head.query, b->p.head.query));
    fb_assert(span_eq(a->p.head.host, b->p.head.host));
    fb_assert(span_eq(a->p.head.reason, b->p.head.reason));
    for (uint32_t i = 0; i < a->p.head.field_count; i++) {
        fb_assert(span_eq(a->fields[i].name, b->fields[i].name));
        fb_assert(span_eq(a->fields[i].value, b->fields[i].value));
        fb_assert(a->fields[i].flags == b->fields[i].flags);
    }
}

/* The path of the head is a fixed point after one step. */
static void check_path(struct span path)
{
    static char text[OUT_BYTES];
    struct http1_out w = http1_out(text, sizeof(text));
    if (path.len == 0 || path.at[0] != '/')
        return;
    fb_assert(http1_path_normalise_text(path, &w) == HTTP1_E_NONE);
    fb_assert(span_eq(http1_out_span(&w), path));
}

/* Forwards an accepted request and reads it again. */
static void check_forward(const struct run *r)
{
    static char text[OUT_BYTES];
    static char out[OUT_BYTES];
    const struct http1_head *h = &r->p.head;
    struct span target, path;
    struct http1_out t = http1_out(text, sizeof(text));
    if (http1_target_normalise(h, &t, &target, &path) != HTTP1_E_NONE)
        return;
    fb_assert(!t.failed);
    check_path(path);
    struct http1_out w = http1_out(out, sizeof(out));
    http1_put_request_line(&w, h->method_text, target);
    http1_put_fields(&w, h, HTTP1_SKIP_FRAMING | HTTP1_SKIP(HOST));
    http1_put_field(&w, SPAN("Host"), h->host.len ? h->host : SPAN("none"));
    http1_put_framing(&w, (enum http1_framing)h->framing, h->body_bytes);
    http1_put_end(&w);
    fb_assert(!w.failed);

    struct run again = {0};
    struct http1_limits wide = {OUT_BYTES, OUT_BYTES, FIELDS};
    /* Host and framing may be one field more than came in. */
    struct http1_field fields[FIELDS + 2];
    wide.header_count = FIELDS + 2;
    http1_request_begin(&again.p, &wide, fields);
    fb_assert(http1_parse(&again.p, http1_out_span(&w)) == HTTP1_DONE);
    fb_assert(again.p.head.head_bytes == w.len);
    fb_assert(again.p.head.framing == h->framing);
    fb_assert(again.p.head.body_bytes == h->body_bytes);
    fb_assert(again.p.head.method == h->method);
    fb_assert(span_eq(again.p.head.query, h->query));
    for (uint32_t i = 0; i < again.p.head.field_count; i++) {
        bool is_framing = fields[i].id == HTTP1_H_TRANSFER_ENCODING;
        fb_assert(is_framing || (fields[i].flags & HTTP1_FIELD_HOP) == 0);
    }
}

static void check_head(unsigned select, unsigned cut, struct span all)
{
    struct run whole, parts;
    begin(&whole, select);
    whole.step = http1_parse(&whole.p, all);
    assert_head_inside(&whole.p.head, all);

    begin(&parts, select);
    size_t step = cut == 0 ? 1 : cut;
    char *last = NULL;
    for (size_t len = cut % (all.len + 1);; len += step) {
        size_t now = len < all.len ? len : all.len;
        char *copy = malloc(now ? now : 1);
        fb_assert(copy != NULL);
        memcpy(copy, all.at, now);
        parts.step = http1_parse(&parts.p, (struct span){copy, now});
        free(last);
        last = copy;
        if (parts.step != HTTP1_MORE || now == all.len)
            break;
    }
    assert_same(&whole, &parts);
    free(last);
    if (whole.step == HTTP1_DONE && select % 4 == 0)
        check_forward(&whole);
}

struct payload {
    char bytes[4096];
    size_t len;
    size_t used;
    enum http1_step step;
    enum http1_error error;
    uint32_t trailers;
};

static void read_body(struct payload *out, struct span all, size_t step)
{
    char text[256];
    struct http1_field fields[4];
    struct http1_trailers trailers = {text, sizeof(text), fields, 4, 0};
    struct http1_body b;
    memset(out, 0, sizeof(*out));
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, &trailers);
    while (out->used < all.len) {
        size_t rest = all.len - out->used;
        struct span in = {all.at + out->used, rest < step ? rest : step};
        struct span data;
        size_t used;
        out->step = http1_body_next(&b, in, &data, &used);
        fb_assert(used <= in.len);
        assert_inside(data, in);
        out->used += used;
        for (size_t i = 0; i < data.len && out->len < sizeof(out->bytes); i++)
            out->bytes[out->len++] = data.at[i];
        if (out->step == HTTP1_DONE || out->step == HTTP1_FAILED)
            break;
        fb_assert(used > 0);
    }
    out->error = b.error;
    out->trailers = trailers.field_count;
    for (uint32_t i = 0; i < trailers.field_count; i++) {
        fb_assert(http1_is_token(fields[i].name));
        fb_assert(http1_is_value(fields[i].value));
        fb_assert((fields[i].flags & HTTP1_FIELD_NO_TRAILER) == 0);
    }
}

static void check_body(unsigned cut, struct span all)
{
    static struct payload whole, parts;
    read_body(&whole, all, SIZE_MAX);
    read_body(&parts, all, cut == 0 ? 1 : cut);
    fb_assert(whole.error == parts.error);
    fb_assert((whole.step == HTTP1_DONE) == (parts.step == HTTP1_DONE));
    fb_assert(whole.used == parts.used);
    fb_assert(whole.len == parts.len);
    fb_assert(memcmp(whole.bytes, parts.bytes, whole.len) == 0);
    fb_assert(whole.trailers == parts.trailers);
}

static void check_target(struct span all)
{
    static char text[OUT_BYTES];
    struct span name;
    uint16_t port;
    struct http1_out w = http1_out(text, sizeof(text));
    if (http1_path_normalise_text(all, &w) == HTTP1_E_NONE && !w.failed)
        check_path(http1_out_span(&w));
    if (http1_host_split(all, &name, &port))
        assert_inside(name, all);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 3 || len > 8192)
        return 0;
    struct span all = {(const char *)bytes + 2, len - 2};
    switch (bytes[0] % 4) {
    case 2:
        check_body(bytes[1], all);
        break;
    case 3:
        check_target(all);
        break;
    default:
        check_head(bytes[0], bytes[1], all);
        break;
    }
    return 0;
}
