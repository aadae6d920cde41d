/* SPDX-License-Identifier: Apache-2.0 */
/* What the head of a call that brings events in says of its body: type, charset and coding. */
#include "output/admin_int.h"

#include "output/unpack.h"

#include <stdio.h>

static void refuse(struct api_call *c, enum ingest_via via, enum ingest_refused why)
{
    ingest_refuse(c->admin->source.ingest, via, why, 1);
}

static void add_header(struct api_call *c, const char *line)
{
    size_t len = strlen(c->header);
    snprintf(c->header + len, sizeof c->header - len, "%s", line);
}

/* The value of charset= in what follows the type; empty when there is none. */
static struct span charset_of(struct span params)
{
    while (params.len) {
        struct span value, name = span_cut(span_cut(params, ';', &params), '=', &value);
        if (!span_ieq(span_trim(name), SPAN("charset")))
            continue;
        value = span_trim(value);
        if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"')
            value = (struct span){value.at + 1, value.len - 2};
        return value;
    }
    return SPAN("");
}

struct span api_media_type(const struct http1_head *h)
{
    const struct http1_field *f = http1_find_name(h, SPAN("content-type"));
    struct span rest;
    return f ? span_trim(span_cut(f->value, ';', &rest)) : SPAN("");
}

bool api_charset_ok(struct api_call *c, enum ingest_via via)
{
    const struct http1_field *f = http1_find_name(c->head, SPAN("content-type"));
    struct span params = {"", 0};
    if (f)
        (void)span_cut(f->value, ';', &params);
    struct span charset = charset_of(params);
    if (charset.len == 0 || span_ieq(charset, SPAN("utf-8")) || span_ieq(charset, SPAN("utf8")) ||
        span_ieq(charset, SPAN("us-ascii")))
        return true;
    refuse(c, via, INGEST_REFUSED_CHARSET);
    api_fail_status(c, 415, FB_E_USAGE,
                    "the charset must be utf-8; nothing was taken, send the text as UTF-8");
    return false;
}

bool api_unpack(struct api_call *c, enum ingest_via via, struct buf *plain, struct span *body)
{
    const struct http1_field *f = http1_find_name(c->head, SPAN("content-encoding"));
    enum unpack_coding coding = unpack_coding_of(f ? f->value : SPAN(""));
    char text[160];
    *body = buf_span(&c->conn->body);
    if (coding == UNPACK_PLAIN)
        return true;
    if (coding == UNPACK_UNKNOWN) {
        refuse(c, via, INGEST_REFUSED_CODING);
        add_header(c, "Accept-Encoding: gzip, deflate, zstd\r\n");
        api_fail_status(c, 415, FB_E_USAGE,
                        "Content-Encoding must be one of gzip, deflate, zstd, or none; nothing "
                        "was taken");
        return false;
    }
    switch (unpack(coding, *body, plain)) {
    case UNPACK_OK:
        *body = buf_span(plain);
        return true;
    case UNPACK_TOO_LARGE:
        refuse(c, via, INGEST_REFUSED_TOO_LARGE);
        snprintf(text, sizeof text,
                 "the body is larger than %zu KiB when it is unpacked; nothing was taken, send it "
                 "in parts",
                 plain->max / KIB);
        api_fail_status(c, 413, FB_E_RANGE, text);
        return false;
    case UNPACK_NO_MEMORY:
        api_fail(c, FB_E_NOMEM, "no memory to unpack the body");
        return false;
    case UNPACK_BROKEN:
        break;
    }
    refuse(c, via, INGEST_REFUSED_CODING);
    api_fail(c, FB_E_FORMAT,
             "the body is no whole stream of its Content-Encoding; nothing was taken");
    return false;
}
