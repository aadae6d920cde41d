/* SPDX-License-Identifier: Apache-2.0 */
/* http1_write: canonical HTTP/1 bytes into the caller's memory.
 *
 * A writer that runs out of room writes nothing more, but goes on counting: check <failed> once at
 * the end; <needed> then says how much room the same calls want. Names, values, targets and reasons
 * must be valid (spans of a parsed head are; others: http1_is_token, http1_is_value); nothing is
 * escaped here. Threads: any; a writer belongs to one thread.  Units: bytes. */
#ifndef FB_PROTO_HTTP1_WRITE_H
#define FB_PROTO_HTTP1_WRITE_H
#include "proto/http1.h"

struct http1_out {
    char *at;
    size_t cap;
    size_t len;    /* written */
    size_t needed; /* wanted; equal to len unless failed */
    bool failed;
};

/* Longest chunk head: 16 digits and CR LF. */
#define HTTP1_CHUNK_HEAD_MAX_BYTES 18
#define HTTP1_CHUNK_LAST "0\r\n\r\n" /* last chunk without trailers */
#define HTTP1_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static inline struct http1_out http1_out(char *at, size_t cap)
{
    return (struct http1_out){.at = at, .cap = cap};
}
static inline struct span http1_out_span(const struct http1_out *w)
{
    return (struct span){w->at, w->len};
}

/* Room for <len> bytes, or NULL; counts what was wanted in any case. */
static inline char *http1_reserve(struct http1_out *w, size_t len)
{
    w->needed += len;
    if (FB_UNLIKELY(w->failed || w->cap - w->len < len)) {
        w->failed = true;
        return NULL;
    }
    char *at = w->at + w->len;
    w->len += len;
    return at;
}
/* Here, so that the text of a literal is stored and not copied by a call. */
static inline void http1_put(struct http1_out *w, struct span bytes)
{
    char *at = http1_reserve(w, bytes.len);
    if (at && bytes.len > 0)
        memcpy(at, bytes.at, bytes.len);
}
void http1_put_u64(struct http1_out *w, uint64_t value); /* decimal */
void http1_put_hex(struct http1_out *w, uint64_t value); /* lower case, no leading zeros */
void http1_hex16(char text[16], uint64_t value);         /* 16 digits, lower case */
/* "GET /x HTTP/1.1" CR LF */
void http1_put_request_line(struct http1_out *w, struct span method, struct span target);
/* "HTTP/1.1 200 OK" CR LF, with our own phrase; a status that we do not know gets an empty phrase.
 */
void http1_put_status_line(struct http1_out *w, uint16_t status);
void http1_put_field(struct http1_out *w, struct span name, struct span value);
void http1_put_field_u64(struct http1_out *w, struct span name, uint64_t value);
/* Every field of <head> that is not HTTP1_FIELD_HOP and whose id is not in <skip>, a mask of
 * (1 << enum http1_header).  HTTP1_SKIP_FRAMING leaves the framing to the caller. */
void http1_put_fields(struct http1_out *w, const struct http1_head *head, uint64_t skip);
#define HTTP1_SKIP(name) (UINT64_C(1) << HTTP1_H_##name)
#define HTTP1_SKIP_FRAMING (HTTP1_SKIP(CONTENT_LENGTH) | HTTP1_SKIP(TRANSFER_ENCODING))
/* The field that announces the framing: Content-Length, Transfer-Encoding: chunked, or nothing. */
void http1_put_framing(struct http1_out *w, enum http1_framing framing, uint64_t body_bytes);
static inline void http1_put_end(struct http1_out *w) /* the end of a line, or the empty line */
{
    http1_put(w, SPAN("\r\n"));
}
/* Head of a chunk of <bytes> > 0; the payload and CR LF follow. */
void http1_put_chunk_head(struct http1_out *w, uint64_t bytes);
/* Last chunk with <count> trailer fields. */
void http1_put_chunk_last(struct http1_out *w, const struct http1_field *trailers, uint32_t count);

/* "Not Found"; "" for a code without a registered phrase. */
const char *http1_status_text(uint16_t status);
#endif
