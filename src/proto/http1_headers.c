/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of http1: bytes, well-known fields, methods, errors.
 *
 * A name is found by one hash of its length and three of its bytes; the factors were searched so
 * that no two rows of http1_headers.def share a slot, and a clash does not compile. */
#include "proto/http1.h"
#include "proto/http1_chars.h"

#define ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define DIGIT(c) ((c) >= '0' && (c) <= '9')
#define HEX(c) (DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define UNRESERVED(c) (ALPHA(c) || DIGIT(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~')
#define SUB_DELIM(c)                                                                               \
    ((c) == '!' || (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '(' || (c) == ')' ||          \
     (c) == '*' || (c) == '+' || (c) == ',' || (c) == ';' || (c) == '=')
#define TOKEN(c)                                                                                   \
    (ALPHA(c) || DIGIT(c) || (c) == '!' || (c) == '#' || (c) == '$' || (c) == '%' || (c) == '&' || \
     (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' || (c) == '^' ||          \
     (c) == '_' || (c) == '`' || (c) == '|' || (c) == '~')
#define KIND(c)                                                                                    \
    ((TOKEN(c) ? CHAR_TOKEN : 0) | ((c) >= 0x20 && (c) != 0x7f ? CHAR_VALUE : 0) |                 \
     ((c) == 0x09 ? CHAR_VALUE : 0) | ((c) > 0x20 && (c) < 0x7f && (c) != '#' ? CHAR_TARGET : 0) | \
     (UNRESERVED(c) || SUB_DELIM(c) ? CHAR_REG_NAME : 0) | (UNRESERVED(c) ? CHAR_UNRESERVED : 0) | \
     (UNRESERVED(c) || SUB_DELIM(c) || (c) == ':' || (c) == '@' || (c) == '/' ? CHAR_PATH : 0) |   \
     (HEX(c) ? CHAR_HEX : 0) | (DIGIT(c) ? CHAR_DIGIT : 0))
#define KIND4(c) KIND(c), KIND((c) + 1), KIND((c) + 2), KIND((c) + 3)
#define KIND16(c) KIND4(c), KIND4((c) + 4), KIND4((c) + 8), KIND4((c) + 12)
#define KIND64(c) KIND16(c), KIND16((c) + 16), KIND16((c) + 32), KIND16((c) + 48)

const uint8_t http1_chars[256] = {KIND64(0), KIND64(64), KIND64(128), KIND64(192)};

#define KIND_HOP (HTTP1_FIELD_HOP | HTTP1_FIELD_NO_TRAILER)
#define KIND_HEAD (HTTP1_FIELD_KEEP | HTTP1_FIELD_NO_TRAILER)
#define KIND_ANY HTTP1_FIELD_KEEP
#define KIND_FRAME (HTTP1_FIELD_HOP | HTTP1_FIELD_KEEP | HTTP1_FIELD_NO_TRAILER)

static const struct header_row {
    char text[24]; /* padded, for comparisons of whole words */
    uint8_t len;
    uint8_t flags;
} header_rows[HTTP1_H_COUNT] = {
#define HTTP1_HEADER(name, text, first, inner, last, kind)                                         \
    [HTTP1_H_##name] = {text, sizeof(text) - 1, KIND_##kind},
#include "proto/http1_headers.def"
#undef HTTP1_HEADER
};
_Static_assert(HTTP1_H_COUNT <= 64, "struct http1_head.seen has one bit for each header");

#define HTTP1_SLOT(len, first, inner, last)                                                        \
    ((unsigned)((len)*42 + (first)*71 + (inner)*48 + (last)*29) & 255)

static const uint8_t header_slots[256] = {
#define HTTP1_HEADER(name, text, first, inner, last, kind)                                         \
    [HTTP1_SLOT(sizeof(text) - 1, first, inner, last)] = HTTP1_H_##name,
#include "proto/http1_headers.def"
#undef HTTP1_HEADER
};

static inline uint64_t load8(const char *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof(x));
    return x;
}
static inline uint32_t load4(const char *at)
{
    uint32_t x;
    memcpy(&x, at, sizeof(x));
    return x;
}

/* Is the token <s> of <len> bytes the lower-case <row>, any case? */
static bool name_matches(const char *s, const char *row, size_t len)
{
    const uint64_t fold8 = UINT64_C(0x2020202020202020);
    const uint32_t fold4 = 0x20202020u;
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            if ((load8(s + i) | fold8) != load8(row + i))
                return false;
        }
        return (load8(s + len - 8) | fold8) == load8(row + len - 8);
    }
    if (len >= 4) {
        return (load4(s) | fold4) == load4(row) &&
               (load4(s + len - 4) | fold4) == load4(row + len - 4);
    }
    for (size_t i = 0; i < len; i++) {
        if ((s[i] | CHAR_LOWER_BIT) != row[i])
            return false;
    }
    return true;
}

enum http1_header http1_header_lookup(struct span name)
{
    if (name.len < 2 || name.len >= sizeof(header_rows[0].text))
        return HTTP1_H_OTHER;
    unsigned first = (unsigned char)name.at[0] | CHAR_LOWER_BIT;
    unsigned inner = (unsigned char)name.at[name.len - 2] | CHAR_LOWER_BIT;
    unsigned last = (unsigned char)name.at[name.len - 1] | CHAR_LOWER_BIT;
    enum http1_header id = header_slots[HTTP1_SLOT(name.len, first, inner, last)];
    const struct header_row *row = &header_rows[id];
    if (row->len != name.len || !name_matches(name.at, row->text, name.len))
        return HTTP1_H_OTHER;
    return id;
}

uint8_t http1_header_flags(enum http1_header id)
{
    return header_rows[id].flags;
}

struct span http1_header_name(enum http1_header id)
{
    return (struct span){header_rows[id].text, header_rows[id].len};
}

static const struct span method_names[HTTP1_METHOD_COUNT] = {
    [HTTP1_OTHER] = {"OTHER", 5},     [HTTP1_GET] = {"GET", 3},
    [HTTP1_HEAD] = {"HEAD", 4},       [HTTP1_POST] = {"POST", 4},
    [HTTP1_PUT] = {"PUT", 3},         [HTTP1_DELETE] = {"DELETE", 6},
    [HTTP1_CONNECT] = {"CONNECT", 7}, [HTTP1_OPTIONS] = {"OPTIONS", 7},
    [HTTP1_TRACE] = {"TRACE", 5},     [HTTP1_PATCH] = {"PATCH", 5},
};

enum http1_method http1_method_lookup(struct span text)
{
    for (unsigned m = HTTP1_GET; m < HTTP1_METHOD_COUNT; m++) {
        if (span_eq(text, method_names[m]))
            return (enum http1_method)m;
    }
    return HTTP1_OTHER;
}

const char *http1_method_name(enum http1_method method)
{
    return method < HTTP1_METHOD_COUNT ? method_names[method].at : "OTHER";
}

static const struct {
    const char *name, *text;
} error_rows[HTTP1_E_COUNT] = {
    [HTTP1_E_NONE] = {"NONE", "no error"},
#define HTTP1_ERROR(name, text) [HTTP1_E_##name] = {#name, text},
#include "proto/http1_errors.def"
#undef HTTP1_ERROR
};

const char *http1_error_name(enum http1_error error)
{
    return error < HTTP1_E_COUNT ? error_rows[error].name : "UNKNOWN";
}

const char *http1_error_text(enum http1_error error)
{
    return error < HTTP1_E_COUNT ? error_rows[error].text : "the cause is unknown";
}

bool http1_is_token(struct span s)
{
    return s.len > 0 && scan_kind(s.at, s.at + s.len, CHAR_TOKEN) == s.at + s.len;
}

bool http1_is_value(struct span s)
{
    if (s.len == 0)
        return true;
    char first = s.at[0];
    char last = s.at[s.len - 1];
    if (first == ' ' || first == '\t' || last == ' ' || last == '\t')
        return false;
    return scan_value(s.at, s.at + s.len) == s.at + s.len;
}

const struct http1_field *http1_find(const struct http1_head *head, enum http1_header id)
{
    if (!http1_has(head, id))
        return NULL;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id == id)
            return &head->fields[i];
    }
    return NULL;
}

const struct http1_field *http1_find_name(const struct http1_head *head, struct span name)
{
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (span_ieq(head->fields[i].name, name))
            return &head->fields[i];
    }
    return NULL;
}

bool http1_list_next(struct span *rest, struct span *element)
{
    while (rest->len > 0) {
        *element = span_trim(span_cut(*rest, ',', rest));
        if (element->len > 0)
            return true;
    }
    return false;
}
