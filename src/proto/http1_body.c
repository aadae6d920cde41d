/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of chunked bodies (RFC 9112 7.1); other framings are a counter.
 *
 *   SIZE -> [EXT_*] -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *                         +-(size 0)-> TRAILER -> NAME -> VALUE -> VALUE_LF -> TRAILER
 *                                         +-> END_LF -> OVER
 * One byte per step outside DATA: chunk heads are short, and every cut is harmless by construction.
 */
#include "proto/http1_body.h"
#include "base/assert.h"
#include "proto/http1_chars.h"
#include "proto/http1_int.h"

enum phase {
    PHASE_SIZE,         /* hex digits, at least one */
    PHASE_EXT_BLANK,    /* blanks that only ';' may follow */
    PHASE_EXT_START,    /* behind ';', before the name */
    PHASE_EXT_NAME,     /* in the name */
    PHASE_EXT_EQUALS,   /* blanks behind the name: '=' or ';' may follow */
    PHASE_EXT_VALUE,    /* behind '=', before the value */
    PHASE_EXT_TOKEN,    /* in a value without quotes */
    PHASE_EXT_QUOTED,   /* in a value with quotes */
    PHASE_EXT_ESCAPED,  /* behind a backslash in quotes */
    PHASE_EXT_UNQUOTED, /* behind the closing quote */
    PHASE_SIZE_LF,      /* behind the CR of the chunk head */
    PHASE_DATA,         /* left > 0 */
    PHASE_DATA_CR,
    PHASE_DATA_LF,
    PHASE_TRAILER,  /* first byte of a trailer line, or CR */
    PHASE_NAME,     /* in a trailer name */
    PHASE_VALUE,    /* in a trailer value */
    PHASE_VALUE_LF, /* behind the CR of a trailer line */
    PHASE_END_LF,   /* behind the CR of the last line */
    PHASE_OVER,
    PHASE_BAD, /* result of a step that does not exist */
};

/* Counters of our neighbours may be signed 64 bits wide. */
#define CHUNK_MAX UINT64_C(0x7fffffffffffffff)
#define SIZE_DIGITS_MAX 16

static enum http1_error chunk_byte(struct http1_body *b, char c);
static enum phase ext_byte(enum phase phase, char c);
static enum http1_error head_byte(struct http1_body *b, char c);
static enum http1_error head_end(struct http1_body *b, char c);
static enum http1_error trailer_byte(struct http1_body *b, char c);
static enum http1_error trailer_end(struct http1_body *b);

void http1_body_begin(struct http1_body *b, const struct http1_head *head,
                      struct http1_trailers *trailers)
{
    http1_body_begin_as(b, (enum http1_framing)head->framing, head->body_bytes, trailers);
}

void http1_body_begin_as(struct http1_body *b, enum http1_framing framing, uint64_t length_bytes,
                         struct http1_trailers *trailers)
{
    memset(b, 0, sizeof(*b));
    b->framing = (uint8_t)framing;
    b->trailers = trailers;
    if (trailers)
        trailers->field_count = 0;
    b->left = framing == HTTP1_BODY_LENGTH ? length_bytes : 0;
    b->is_done = framing == HTTP1_BODY_NONE || (framing == HTTP1_BODY_LENGTH && b->left == 0);
}

static enum http1_step body_fail(struct http1_body *b, enum http1_error error)
{
    b->error = error;
    return HTTP1_FAILED;
}

/* The next run of at most b->left bytes at in[*used]. */
static enum http1_step give(struct http1_body *b, struct span in, struct span *data, size_t *used)
{
    size_t rest = in.len - *used;
    size_t len = rest < b->left ? rest : (size_t)b->left;
    if (len == 0) { /* in.at may be NULL */
        *data = (struct span){0};
        return HTTP1_MORE;
    }
    *data = (struct span){in.at + *used, len};
    *used += len;
    b->left -= len;
    b->payload_bytes += len;
    return HTTP1_DATA;
}

enum http1_step http1_body_next(struct http1_body *b, struct span in, struct span *data,
                                size_t *used)
{
    fb_assert(b->error == HTTP1_E_NONE);
    *used = 0;
    *data = (struct span){in.at, 0};
    if (b->is_done)
        return HTTP1_DONE;
    if (b->framing == HTTP1_BODY_CLOSE) {
        b->left = in.len;
        return give(b, in, data, used);
    }
    if (b->framing == HTTP1_BODY_LENGTH) {
        enum http1_step step = give(b, in, data, used);
        b->is_done = b->left == 0;
        return step;
    }
    while (*used < in.len) {
        if (b->phase == PHASE_DATA) {
            enum http1_step step = give(b, in, data, used);
            if (b->left == 0)
                b->phase = PHASE_DATA_CR;
            return step;
        }
        enum http1_error error = chunk_byte(b, in.at[*used]);
        if (error != HTTP1_E_NONE)
            return body_fail(b, error);
        *used += 1;
        if (b->phase == PHASE_OVER) {
            b->is_done = true;
            return HTTP1_DONE;
        }
    }
    return HTTP1_MORE;
}

enum http1_step http1_body_skip(struct http1_body *b, uint64_t bytes)
{
    fb_assert(b->framing == HTTP1_BODY_LENGTH);
    fb_assert(bytes <= b->left);
    b->left -= bytes;
    b->payload_bytes += bytes;
    b->is_done = b->left == 0;
    return b->is_done ? HTTP1_DONE : HTTP1_DATA;
}

enum http1_step http1_body_end(struct http1_body *b)
{
    if (b->is_done || b->framing == HTTP1_BODY_CLOSE) {
        b->is_done = true;
        return HTTP1_DONE;
    }
    return body_fail(b, HTTP1_E_CUT);
}

/* One byte of framing. */
static enum http1_error chunk_byte(struct http1_body *b, char c)
{
    if (b->phase < PHASE_SIZE_LF)
        return head_byte(b, c);
    switch ((enum phase)b->phase) {
    case PHASE_SIZE_LF:
        return head_end(b, c);
    case PHASE_DATA_CR:
        b->phase = PHASE_DATA_LF;
        return c == '\r' ? HTTP1_E_NONE : HTTP1_E_BAD_CHUNK;
    case PHASE_DATA_LF:
        b->phase = PHASE_SIZE;
        b->digits = 0;
        return c == '\n' ? HTTP1_E_NONE : HTTP1_E_BAD_CHUNK;
    default:
        return trailer_byte(b, c);
    }
}

/* Size and extensions up to the CR.  16 digits hold any size; more is somebody probing for a reader
 * that wraps around. */
static enum http1_error head_byte(struct http1_body *b, char c)
{
    unsigned digit = char_hex(c);
    if (b->phase == PHASE_SIZE && digit < 16) {
        if (++b->digits > SIZE_DIGITS_MAX || b->left > CHUNK_MAX >> 4)
            return HTTP1_E_BAD_CHUNK;
        b->left = b->left << 4 | digit;
        return HTTP1_E_NONE;
    }
    if (b->phase == PHASE_SIZE && b->digits == 0)
        return HTTP1_E_BAD_CHUNK;
    enum phase next = ext_byte((enum phase)b->phase, c);
    if (next == PHASE_BAD)
        return HTTP1_E_BAD_CHUNK;
    b->phase = (uint8_t)next;
    if (next != PHASE_SIZE_LF && ++b->excess_bytes > HTTP1_CHUNK_EXCESS_MAX_BYTES)
        return HTTP1_E_CHUNK_OVERHEAD;
    return HTTP1_E_NONE;
}

/* Where an extension or its neighbourhood goes on after <c>, when ';', a blank or CR may follow. */
static enum phase ext_follow(char c, enum phase blank)
{
    if (c == ';')
        return PHASE_EXT_START;
    if (c == ' ' || c == '\t')
        return blank;
    return c == '\r' ? PHASE_SIZE_LF : PHASE_BAD;
}

/* chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) */
static enum phase ext_byte(enum phase phase, char c)
{
    bool is_blank = c == ' ' || c == '\t';
    bool is_token = char_is(c, CHAR_TOKEN);

    switch (phase) {
    case PHASE_SIZE:
    case PHASE_EXT_UNQUOTED:
        return ext_follow(c, PHASE_EXT_BLANK);
    case PHASE_EXT_BLANK:
        return is_blank ? PHASE_EXT_BLANK : c == ';' ? PHASE_EXT_START : PHASE_BAD;
    case PHASE_EXT_START:
        return is_blank ? PHASE_EXT_START : is_token ? PHASE_EXT_NAME : PHASE_BAD;
    case PHASE_EXT_NAME:
        if (is_token)
            return PHASE_EXT_NAME;
        return c == '=' ? PHASE_EXT_VALUE : ext_follow(c, PHASE_EXT_EQUALS);
    case PHASE_EXT_EQUALS:
        if (is_blank)
            return PHASE_EXT_EQUALS;
        return c == '=' ? PHASE_EXT_VALUE : c == ';' ? PHASE_EXT_START : PHASE_BAD;
    case PHASE_EXT_VALUE:
        if (is_blank)
            return PHASE_EXT_VALUE;
        return c == '"' ? PHASE_EXT_QUOTED : is_token ? PHASE_EXT_TOKEN : PHASE_BAD;
    case PHASE_EXT_TOKEN:
        return is_token ? PHASE_EXT_TOKEN : ext_follow(c, PHASE_EXT_BLANK);
    case PHASE_EXT_QUOTED:
        if (c == '"' || c == '\\')
            return c == '"' ? PHASE_EXT_UNQUOTED : PHASE_EXT_ESCAPED;
        return char_is(c, CHAR_VALUE) ? PHASE_EXT_QUOTED : PHASE_BAD;
    case PHASE_EXT_ESCAPED:
        return char_is(c, CHAR_VALUE) ? PHASE_EXT_QUOTED : PHASE_BAD;
    default:
        return PHASE_BAD;
    }
}

static enum http1_error head_end(struct http1_body *b, char c)
{
    if (c != '\n')
        return HTTP1_E_BAD_CHUNK;
    /* Payload pays for extensions: only what exceeds it counts against the limit. */
    b->excess_bytes = fb_sub_floor_u64(b->excess_bytes, b->left);
    b->phase = b->left > 0 ? PHASE_DATA : PHASE_TRAILER;
    return HTTP1_E_NONE;
}

/* Keeps a byte of a trailer line; the section limit is not above trailers->cap. */
static void keep(struct http1_body *b, char c)
{
    if (!b->trailers)
        return;
    fb_assert(b->used < b->trailers->cap);
    b->trailers->at[b->used++] = c;
}

/* Names and values go to the caller's memory side by side; the colon and CR LF do not. */
static enum http1_error trailer_byte(struct http1_body *b, char c)
{
    uint32_t max = b->trailers ? b->trailers->cap : HTTP1_TRAILER_DROP_MAX_BYTES;
    if (b->phase == PHASE_TRAILER && c == '\r') {
        b->phase = PHASE_END_LF;
        return HTTP1_E_NONE;
    }
    if (b->phase == PHASE_END_LF) {
        b->phase = PHASE_OVER;
        return c == '\n' ? HTTP1_E_NONE : HTTP1_E_BAD_TRAILER;
    }
    if (++b->trailer_bytes > max)
        return HTTP1_E_TRAILERS_TOO_LARGE;
    switch ((enum phase)b->phase) {
    case PHASE_TRAILER:
        b->line_at = b->used;
        b->phase = PHASE_NAME;
        keep(b, c);
        return char_is(c, CHAR_TOKEN) ? HTTP1_E_NONE : HTTP1_E_BAD_TRAILER;
    case PHASE_NAME:
        if (c == ':') {
            b->value_at = b->used;
            b->phase = PHASE_VALUE;
            return HTTP1_E_NONE;
        }
        keep(b, c);
        return char_is(c, CHAR_TOKEN) ? HTTP1_E_NONE : HTTP1_E_BAD_TRAILER;
    case PHASE_VALUE:
        if (c == '\r') {
            b->phase = PHASE_VALUE_LF;
            return HTTP1_E_NONE;
        }
        keep(b, c);
        return char_is(c, CHAR_VALUE) ? HTTP1_E_NONE : HTTP1_E_BAD_TRAILER;
    default:
        fb_assert(b->phase == PHASE_VALUE_LF);
        b->phase = PHASE_TRAILER;
        return c == '\n' ? trailer_end(b) : HTTP1_E_BAD_TRAILER;
    }
}

/* Families of which every member belongs into a head: routing, authentication, conditions. */
static bool is_head_family(struct span name)
{
    static const struct span families[] = {
        {"proxy-", 6}, {"sec-", 4}, {"access-control-", 15}, {"x-forwarded-", 12}, {"if-", 3}};
    for (size_t i = 0; i < FB_COUNT(families); i++) {
        struct span head = {name.at, families[i].len};
        if (name.len > families[i].len && span_ieq(head, families[i]))
            return true;
    }
    return false;
}

/* A trailer line is complete: kept, dropped, or one too many. */
static enum http1_error trailer_end(struct http1_body *b)
{
    struct http1_trailers *t = b->trailers;
    if (!t)
        return HTTP1_E_NONE;
    struct span name = {t->at + b->line_at, b->value_at - b->line_at};
    struct span value = {t->at + b->value_at, b->used - b->value_at};
    enum http1_header id = http1_header_lookup(name);
    uint8_t flags = http1_header_flags(id);

    if (http1_name_is_near_framing(name) && id == HTTP1_H_OTHER)
        return HTTP1_E_BAD_TRAILER;
    if ((flags & (HTTP1_FIELD_NO_TRAILER | HTTP1_FIELD_HOP)) != 0 || is_head_family(name))
        return HTTP1_E_NONE;
    if (t->field_count == t->field_max)
        return HTTP1_E_TRAILERS_TOO_LARGE;
    t->fields[t->field_count++] = (struct http1_field){
        .name = name, .value = span_trim(value), .id = (uint8_t)id, .flags = flags};
    return HTTP1_E_NONE;
}
