/* SPDX-License-Identifier: Apache-2.0 */
/* http1: the head of an HTTP/1 message, from bytes to facts, as RFC 9110 and 9112 demand.
 *
 * One parser reads one head out of a span that holds everything received so far (not only the new
 * bytes).  Each byte is looked at once, however the bytes were split: the outcome depends on the
 * bytes alone, never on the cuts.  What two readers could understand differently is refused, so
 * that a message that is DONE has one meaning and can be written again from its facts.
 *
 *   begin --parse--> HTTP1_MORE --(more bytes)--> parse ... --> HTTP1_DONE | HTTP1_FAILED
 *
 * Holds always:  every span of a head lies inside the bytes of the last call, or is empty;
 * field_count <= header_count;  head_bytes <= length of the bytes;  CL and TE are never both
 * present. The bytes may move between two calls (a buffer that grew); after DONE they must stay in
 * place as long as the head is used. Memory: the caller's; nothing is allocated.  Threads: any; a
 * parser belongs to one thread. Errors: enum http1_error, one value per cause; nothing of the head
 * is to be used then. Not here: bodies (http1_body.h), writing (http1_write.h), normal forms of
 * targets (http1_target.h). */
#ifndef FB_PROTO_HTTP1_H
#define FB_PROTO_HTTP1_H
#include "base/span.h"

enum http1_error {
    HTTP1_E_NONE,
#define HTTP1_ERROR(name, ...) HTTP1_E_##name,
#include "proto/http1_errors.def"
#undef HTTP1_ERROR
    HTTP1_E_COUNT
};

enum http1_step {
    HTTP1_MORE,   /* everything given was good so far; give more bytes */
    HTTP1_DATA,   /* bodies only: a run of payload, call again with the rest */
    HTTP1_DONE,   /* complete */
    HTTP1_FAILED, /* refused; see .error */
};

enum http1_method {
    HTTP1_OTHER, /* any other token; see .method_text */
    HTTP1_GET,
    HTTP1_HEAD,
    HTTP1_POST,
    HTTP1_PUT,
    HTTP1_DELETE,
    HTTP1_CONNECT,
    HTTP1_OPTIONS,
    HTTP1_TRACE,
    HTTP1_PATCH,
    HTTP1_METHOD_COUNT
};

enum http1_form {
    HTTP1_ORIGIN,    /* /path?query */
    HTTP1_ABSOLUTE,  /* http://host/path?query */
    HTTP1_AUTHORITY, /* host:port, CONNECT only */
    HTTP1_ASTERISK,  /* *, OPTIONS only */
};

enum http1_framing {
    HTTP1_BODY_NONE,    /* no body and no Content-Length, or none possible (HEAD, 1xx, 204, 304) */
    HTTP1_BODY_LENGTH,  /* exactly body_bytes, which may be 0 */
    HTTP1_BODY_CHUNKED, /* Transfer-Encoding: chunked */
    HTTP1_BODY_CLOSE,   /* responses only: until the connection closes */
};

/* Well-known fields; HTTP1_H_OTHER is any other name.  Fewer than 64: see .seen. */
enum http1_header {
    HTTP1_H_OTHER,
#define HTTP1_HEADER(name, ...) HTTP1_H_##name,
#include "proto/http1_headers.def"
#undef HTTP1_HEADER
    HTTP1_H_COUNT
};

/* Facts of a field line (struct http1_field.flags). */
enum {
    HTTP1_FIELD_HOP = 1,        /* for this connection only: never forward */
    HTTP1_FIELD_KEEP = 2,       /* end to end: Connection must not nominate it */
    HTTP1_FIELD_NO_TRAILER = 4, /* means something only in a head */
    HTTP1_FIELD_PLAIN_LINE = 8, /* the received line is exactly "name: value\r\n" */
    HTTP1_FIELD_NOMINATED = 16, /* HOP because Connection named it */
};

struct http1_field {
    struct span name;  /* as received; a token */
    struct span value; /* without blanks at both ends; may be empty */
    uint8_t id;        /* enum http1_header */
    uint8_t flags;     /* HTTP1_FIELD_* */
};

/* Each at least 1, line + header below 1 GiB. */
struct http1_limits {
    uint32_t line_bytes;   /* request line or status line without its CR LF */
    uint32_t header_bytes; /* all field lines with the empty line that ends them */
    uint32_t header_count; /* field lines; also the room of the caller's array */
};

struct http1_head {
    struct http1_field *fields; /* the caller's array, in order of arrival */
    uint32_t field_count;
    uint32_t head_bytes;   /* from the first byte to behind the empty line */
    uint64_t seen;         /* bit (1 << enum http1_header) for each known field present */
    uint64_t body_bytes;   /* HTTP1_BODY_LENGTH, or what Content-Length said under HEAD and 304 */
    uint8_t framing;       /* enum http1_framing */
    uint8_t version_minor; /* how to behave: 0 or 1 (1.2 to 1.9 count as 1) */
    bool keep_alive;       /* the sender lets the connection live after this message */
    bool is_upgrade;       /* 1.1 with Upgrade and Connection: upgrade; also a 101 answer */
    bool is_websocket;     /* is_upgrade to exactly websocket */
    bool expect_continue;  /* the sender waits for 100 before the body */
    bool te_trailers;      /* TE: trailers, nominated as it must be */
    bool has_length;       /* a Content-Length was present and valid */
    /* request only */
    uint8_t method; /* enum http1_method */
    uint8_t form;   /* enum http1_form */
    struct span method_text;
    struct span target; /* as received */
    struct span path;   /* as received, "" for absolute form without path; "*" for asterisk */
    struct span query;  /* behind '?', not including it */
    bool has_query;     /* a '?' was present (the query may be empty) */
    struct span host;   /* host[:port]: of the target if it has one, else of Host; "" only in 1.0 */
    struct span
        host_name;      /* without port and without a final dot, letters as received; [v6] kept */
    uint16_t host_port; /* 0 when none was given */
    /* response only */
    uint16_t status;    /* 100 to 599 */
    struct span reason; /* may be empty; never to be trusted or forwarded as text of ours */
};

/* Fields below head are private. */
struct http1_parser {
    struct http1_head head;
    enum http1_error error; /* why, after HTTP1_FAILED */
    struct http1_limits limits;
    const char *base;   /* where the bytes were at the last call */
    uint32_t at;        /* next byte to look at */
    uint32_t line_at;   /* first byte of the current line */
    uint32_t mark;      /* end of the method or of the name in the current line */
    uint32_t fields_at; /* first byte behind the first line */
    uint8_t phase;
    uint8_t answered; /* responses: enum http1_method of the request */
    bool is_response;
    uint8_t nominated; /* fields named by Connection */
    uint16_t facts;    /* what the fields said, see http1_int.h */
};

/* Ready for the first byte of a head.  <fields> has room for limits->header_count; kept by the
 * parser. */
void http1_request_begin(struct http1_parser *p, const struct http1_limits *limits,
                         struct http1_field *fields);
/* <request> is the method that is answered: HEAD has no body, CONNECT becomes a tunnel.
 * A 1xx is a whole head of its own: read it, then begin again behind it for the final one. */
void http1_response_begin(struct http1_parser *p, const struct http1_limits *limits,
                          struct http1_field *fields, enum http1_method request);

/* <bytes>: everything since begin.  MORE, DONE or FAILED. */
FB_MUST_USE
enum http1_step http1_parse(struct http1_parser *p, struct span bytes);

/* Has <head> this well-known field?  Costs one test. */
static inline bool http1_has(const struct http1_head *head, enum http1_header id)
{
    return (head->seen >> (unsigned)id & 1) != 0;
}
/* First field of this kind, or NULL. */
const struct http1_field *http1_find(const struct http1_head *head, enum http1_header id);
/* First field with this name (any case), or NULL; for names without a row in http1_headers.def. */
const struct http1_field *http1_find_name(const struct http1_head *head, struct span name);

/* Next element of a comma list ("a, b,,c"), trimmed; false at the end.  Empty elements are skipped.
 */
bool http1_list_next(struct span *rest, struct span *element);

enum http1_header http1_header_lookup(struct span name); /* <name> is a token */
uint8_t http1_header_flags(enum http1_header id);        /* HOP, KEEP, NO_TRAILER */
struct span http1_header_name(enum http1_header id);     /* lower case; "" for OTHER */
enum http1_method http1_method_lookup(struct span text); /* case matters */
const char *http1_method_name(enum http1_method method);
const char *http1_error_name(enum http1_error error); /* "BAD_HOST" */
const char *http1_error_text(enum http1_error error); /* completes "refused: ..." */

bool http1_is_token(struct span s); /* a field name or method; not empty */
bool http1_is_value(struct span s); /* a field value: no control byte, no blank at the ends */
#endif
