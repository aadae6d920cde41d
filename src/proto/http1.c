/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of the head parser.
 *
 *   START -> METHOD -> TARGET -> VERSION -+
 *   STATUS -> REASON ---------------------+-> LINE -> NAME -> VALUE -> LINE ... -> done
 *
 * The common case (a whole head in one span) falls through the phases without leaving read_fields.
 * When the bytes end, `at`, `mark` and `line_at` keep the place, so that each byte is scanned once.
 * The limits clip the bytes that are looked at: what lies behind a limit cannot change the outcome.
 */
#include "proto/http1.h"
#include "base/assert.h"
#include "proto/http1_chars.h"
#include "proto/http1_int.h"

enum phase {
    PHASE_START,   /* an empty line, or the method */
    PHASE_METHOD,  /* line_at .. at is method so far */
    PHASE_TARGET,  /* mark is the blank behind the method */
    PHASE_VERSION, /* at is the H of HTTP */
    PHASE_STATUS,  /* response: up to the third digit */
    PHASE_REASON,  /* mark is the first byte of the reason */
    PHASE_LINE,    /* at the first byte of a field line */
    PHASE_NAME,    /* line_at .. at is name so far */
    PHASE_VALUE,   /* mark is the colon */
    PHASE_OVER,
};

static enum http1_step parse_request_line(struct http1_parser *p, const char *end);
static enum http1_step parse_status_line(struct http1_parser *p, const char *end);
static enum http1_step parse_fields(struct http1_parser *p, const char *end);
static enum http1_step take_empty_line(struct http1_parser *p, const char *end);
static enum http1_step take_version(struct http1_parser *p, const char *end);
static enum http1_step take_line_end(struct http1_parser *p, const char *at, const char *end);
static void move_spans(struct http1_parser *p, const char *to);
static enum http1_step fail(struct http1_parser *p, enum http1_error error);

/* Clears the head too: what a caller reads before DONE is zero, never the last message's. */
static void begin(struct http1_parser *p, const struct http1_limits *limits,
                  struct http1_field *fields)
{
    fb_assert(fields != NULL);
    fb_assert(limits->line_bytes > 0);
    fb_assert(limits->header_bytes > 0);
    fb_assert(limits->header_count > 0);
    fb_assert((uint64_t)limits->line_bytes + limits->header_bytes < GIB);
    memset(p, 0, sizeof(*p));
    p->limits = *limits;
    p->head.fields = fields;
}

void http1_request_begin(struct http1_parser *p, const struct http1_limits *limits,
                         struct http1_field *fields)
{
    begin(p, limits, fields);
    p->phase = PHASE_START;
}

void http1_response_begin(struct http1_parser *p, const struct http1_limits *limits,
                          struct http1_field *fields, enum http1_method request)
{
    begin(p, limits, fields);
    p->phase = PHASE_STATUS;
    p->is_response = true;
    p->answered = (uint8_t)request;
}

enum http1_step http1_parse(struct http1_parser *p, struct span bytes)
{
    fb_assert(p->phase != PHASE_OVER);
    fb_assert(bytes.len >= p->at);
    if (bytes.len == 0)
        return HTTP1_MORE;
    if (p->base != bytes.at) /* the caller's buffer grew or was compacted */
        move_spans(p, bytes.at);
    if (p->phase < PHASE_LINE) {
        size_t clip = (size_t)p->line_at + p->limits.line_bytes + 2;
        const char *end = bytes.at + (bytes.len < clip ? bytes.len : clip);
        if (p->phase == PHASE_START) {
            enum http1_step step = take_empty_line(p, bytes.at + bytes.len);
            if (step != HTTP1_DONE)
                return step;
            clip = (size_t)p->line_at + p->limits.line_bytes + 2;
            end = bytes.at + (bytes.len < clip ? bytes.len : clip);
        }
        enum http1_step step =
            p->is_response ? parse_status_line(p, end) : parse_request_line(p, end);
        if (step == HTTP1_MORE && end == bytes.at + clip)
            return fail(p, HTTP1_E_LINE_TOO_LONG);
        if (step != HTTP1_DONE)
            return step;
    }
    /* The clip hides what lies behind the limit: running out of bytes at the clip is the error. */
    size_t clip = (size_t)p->fields_at + p->limits.header_bytes;
    const char *end = bytes.at + (bytes.len < clip ? bytes.len : clip);
    enum http1_step step = parse_fields(p, end);
    if (step == HTTP1_MORE && end == bytes.at + clip)
        return fail(p, HTTP1_E_HEADERS_TOO_LARGE);
    if (step == HTTP1_DONE)
        p->phase = PHASE_OVER;
    return step;
}

static enum http1_step fail(struct http1_parser *p, enum http1_error error)
{
    fb_assert(error != HTTP1_E_NONE);
    p->error = error;
    p->phase = PHASE_OVER;
    return HTTP1_FAILED;
}

/* Keeps the place and asks for more. */
static enum http1_step pause(struct http1_parser *p, enum phase phase, const char *at)
{
    p->phase = (uint8_t)phase;
    p->at = (uint32_t)(at - p->base);
    return HTTP1_MORE;
}

/* By numbers: <from> may be freed memory, of which even a difference of pointers is undefined. */
static void move_span(struct span *s, const char *from, const char *to)
{
    if (s->at)
        s->at = to + ((uintptr_t)s->at - (uintptr_t)from);
}

static void move_spans(struct http1_parser *p, const char *to)
{
    const char *from = p->base;
    struct http1_head *h = &p->head;
    struct span *own[] = {&h->method_text, &h->target,    &h->path,  &h->query,
                          &h->host,        &h->host_name, &h->reason};
    p->base = to;
    if (!from)
        return;
    for (size_t i = 0; i < FB_COUNT(own); i++)
        move_span(own[i], from, to);
    for (uint32_t i = 0; i < h->field_count; i++) {
        move_span(&h->fields[i].name, from, to);
        move_span(&h->fields[i].value, from, to);
    }
}

/* RFC 9112 2.2: one empty line before the request line is forgiven, for old clients send it behind
 * a body.  DONE: `at` is the first byte of the request line. */
static enum http1_step take_empty_line(struct http1_parser *p, const char *end)
{
    const char *at = p->base;
    if (*at == '\r') {
        if (end - at < 2)
            return HTTP1_MORE;
        if (at[1] != '\n')
            return fail(p, HTTP1_E_BAD_LINE_END);
        if (end - at < 3)
            return HTTP1_MORE;
        at += 2;
    }
    if (*at == '\n')
        return fail(p, HTTP1_E_BAD_LINE_END);
    p->line_at = p->at = (uint32_t)(at - p->base);
    p->phase = PHASE_METHOD;
    return HTTP1_DONE;
}

/* method SP target SP version CRLF, one blank each: RFC 9112 3 lets a reader split at any run of
 * blanks, but then a blank inside the target hides where the target ends. */
static enum http1_step parse_request_line(struct http1_parser *p, const char *end)
{
    struct http1_head *head = &p->head;
    const char *line = p->base + p->line_at;
    const char *at = p->base + p->at;

    if (p->phase == PHASE_METHOD) {
        at = scan_kind(at, end, CHAR_TOKEN);
        if (at == end)
            return pause(p, PHASE_METHOD, at);
        if (*at != ' ' || at == line)
            return fail(p, HTTP1_E_BAD_LINE);
        head->method_text = (struct span){line, (size_t)(at - line)};
        head->method = (uint8_t)http1_method_lookup(head->method_text);
        p->mark = (uint32_t)(at - p->base);
        p->phase = PHASE_TARGET;
        at++;
    }
    if (p->phase == PHASE_TARGET) {
        const char *target = p->base + p->mark + 1;
        at = scan_target(at, end);
        if (at == end)
            return pause(p, PHASE_TARGET, at);
        if (at == target || *at == '\r' || *at == '\n')
            return fail(p, HTTP1_E_BAD_LINE);
        if (*at != ' ')
            return fail(p, HTTP1_E_BAD_TARGET);
        head->target = (struct span){target, (size_t)(at - target)};
        p->phase = PHASE_VERSION;
        p->at = (uint32_t)(at + 1 - p->base);
    }
    enum http1_step step = take_version(p, end);
    if (step != HTTP1_DONE)
        return step;
    enum http1_error error = http1_target_take(head);
    return error == HTTP1_E_NONE ? HTTP1_DONE : fail(p, error);
}

/* <text> against <pattern>, in which 0 stands for a digit: the number of bytes that fit. */
static size_t match(const char *text, size_t len, const char *pattern)
{
    size_t i = 0;
    while (i < len && (pattern[i] == '0' ? char_is(text[i], CHAR_DIGIT) : text[i] == pattern[i]))
        i++;
    return i;
}

/* 1.2 to 1.9 mean what 1.1 means (RFC 9110 2.5). */
static bool set_version(struct http1_head *head, const char *version)
{
    head->version_minor = version[7] == '0' ? 0 : 1;
    return version[5] == '1';
}

/* The line end is part of the pattern: a blank behind the version is an error too. */
static enum http1_step take_version(struct http1_parser *p, const char *end)
{
    static const char pattern[] = "HTTP/0.0\r\n";
    const size_t want = sizeof(pattern) - 1;
    const char *at = p->base + p->at;
    size_t len = (size_t)(end - at) < want ? (size_t)(end - at) : want;
    size_t fits = len;
    if (len < want || memcmp(at, "HTTP/1.1\r\n", want) != 0)
        fits = match(at, len, pattern);

    if (fits < len)
        return fail(p, fits >= 8 && (at[fits] == '\n' || fits == 9) ? HTTP1_E_BAD_LINE_END
                                                                    : HTTP1_E_BAD_LINE);
    if (len < want)
        return pause(p, PHASE_VERSION, at);
    if (!set_version(&p->head, at))
        return fail(p, HTTP1_E_BAD_VERSION);
    p->fields_at = p->at = (uint32_t)(at + want - p->base);
    p->phase = PHASE_LINE;
    return HTTP1_DONE;
}

/* Servers that send no phrase often leave out the blank before it too; the phrase means nothing. */
static enum http1_step parse_status_line(struct http1_parser *p, const char *end)
{
    static const char pattern[] = "HTTP/0.0 000";
    const size_t want = sizeof(pattern) - 1;
    struct http1_head *head = &p->head;
    const char *at = p->base + p->at;

    if (p->phase == PHASE_STATUS) {
        size_t len = (size_t)(end - at) < want ? (size_t)(end - at) : want;
        size_t fits = len;
        if (len < want || memcmp(at, "HTTP/1.1 200", want) != 0)
            fits = match(at, len, pattern);
        if (fits < len)
            return fail(p, fits >= 9 ? HTTP1_E_BAD_STATUS : HTTP1_E_BAD_LINE);
        if (len < want)
            return HTTP1_MORE;
        if (!set_version(head, at))
            return fail(p, HTTP1_E_BAD_VERSION);
        head->status = (uint16_t)((at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0'));
        if (head->status < 100 || head->status > 599)
            return fail(p, HTTP1_E_BAD_STATUS);
        at += want;
        if (at == end)
            return HTTP1_MORE;
        if (char_is(*at, CHAR_DIGIT))
            return fail(p, HTTP1_E_BAD_STATUS);
        if (*at != ' ' && *at != '\r' && *at != '\n')
            return fail(p, HTTP1_E_BAD_LINE);
        p->mark = (uint32_t)(at - p->base) + (*at == ' ');
        p->phase = PHASE_REASON;
        at += *at == ' ';
    }
    at = scan_value(at, end);
    enum http1_step step = take_line_end(p, at, end);
    if (step == HTTP1_MORE)
        return pause(p, PHASE_REASON, at);
    if (step == HTTP1_FAILED)
        return step;
    const char *reason = p->base + p->mark;
    head->reason = span_trim((struct span){reason, (size_t)(at - reason)});
    p->fields_at = p->at = (uint32_t)(at + 2 - p->base);
    p->phase = PHASE_LINE;
    return HTTP1_DONE;
}

/* CR LF, not one of them alone (RFC 9112 2.2 lets us accept LF; our neighbours might not). */
static enum http1_step take_line_end(struct http1_parser *p, const char *at, const char *end)
{
    if (at == end)
        return HTTP1_MORE;
    if (*at == '\r') {
        if (at + 1 == end)
            return HTTP1_MORE;
        if (at[1] == '\n')
            return HTTP1_DONE;
        return fail(p, HTTP1_E_BAD_LINE_END);
    }
    return fail(p, *at == '\n' ? HTTP1_E_BAD_LINE_END : HTTP1_E_BAD_VALUE);
}

/* One field line whose name ends at <colon> and whose value ends at <cr>. */
static enum http1_error take_line(struct http1_parser *p, const char *line, const char *colon,
                                  const char *cr)
{
    struct http1_head *head = &p->head;
    if (head->field_count == p->limits.header_count)
        return HTTP1_E_TOO_MANY_HEADERS;
    struct http1_field *field = &head->fields[head->field_count];
    const char *from = colon + 1;
    const char *to = cr;
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    field->name = (struct span){line, (size_t)(colon - line)};
    field->value = (struct span){from, (size_t)(to - from)};
    bool is_plain = from == colon + 2 && colon[1] == ' ' && to == cr;
    field->flags = is_plain ? HTTP1_FIELD_PLAIN_LINE : 0;
    enum http1_error error = http1_field_take(p, field);
    head->field_count++;
    return error;
}

/* First byte of a line: DONE when this is the empty line, DATA when a name begins. */
static enum http1_step take_line_start(struct http1_parser *p, const char *line, const char *end)
{
    if (line == end)
        return HTTP1_MORE;
    if (FB_LIKELY(char_is(*line, CHAR_TOKEN)))
        return HTTP1_DATA;
    if (*line == ' ' || *line == '\t')
        return fail(p, HTTP1_E_BAD_FOLD);
    if (*line != '\r' && *line != '\n')
        return fail(p, HTTP1_E_BAD_NAME);
    return take_line_end(p, line, end);
}

/* Field lines up to and with the empty line.  Locals hold the place; they go back to the parser
 * only when the bytes end, which in the common case is never. */
static enum http1_step parse_fields(struct http1_parser *p, const char *end)
{
    const char *at = p->base + p->at;
    const char *line = p->base + p->line_at;
    const char *colon = p->base + p->mark;
    enum phase phase = p->phase;

    for (;;) {
        if (phase == PHASE_LINE) {
            line = at;
            enum http1_step step = take_line_start(p, line, end);
            if (step == HTTP1_MORE)
                return pause(p, PHASE_LINE, at);
            if (step == HTTP1_FAILED)
                return step;
            if (step == HTTP1_DONE)
                break;
            p->line_at = (uint32_t)(line - p->base);
            phase = PHASE_NAME;
        }
        if (phase == PHASE_NAME) {
            at = scan_kind(at, end, CHAR_TOKEN);
            if (at == end)
                return pause(p, PHASE_NAME, at);
            if (*at != ':')
                return fail(p, HTTP1_E_BAD_NAME);
            colon = at++;
            phase = PHASE_VALUE;
        }
        at = scan_value(at, end);
        enum http1_step step = take_line_end(p, at, end);
        if (step == HTTP1_MORE) {
            p->mark = (uint32_t)(colon - p->base);
            return pause(p, PHASE_VALUE, at);
        }
        if (step == HTTP1_FAILED)
            return step;
        enum http1_error error = take_line(p, line, colon, at);
        if (FB_UNLIKELY(error != HTTP1_E_NONE))
            return fail(p, error);
        at += 2;
        phase = PHASE_LINE;
    }
    p->head.head_bytes = (uint32_t)(at + 2 - p->base);
    enum http1_error error = http1_fields_finish(p);
    return error == HTTP1_E_NONE ? HTTP1_DONE : fail(p, error);
}
