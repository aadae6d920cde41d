/* SPDX-License-Identifier: Apache-2.0 */
#include "output/jsonin.h"

#include <math.h>
#include <stdlib.h>

struct reader {
    struct jsonin *in;
    struct span bytes;
    size_t at;
    struct fb_err *err;
};

static enum fb_code read_field(struct reader *r);
static enum fb_code read_string(struct reader *r, const char **text);
static enum fb_code read_number(struct reader *r, struct jsonin_field *f);

static enum fb_code refuse(struct reader *r, const char *what)
{
    return fb_fail(r->err, FB_E_USAGE, "body: %s at byte %zu", what, r->at);
}

static char peek(struct reader *r)
{
    while (r->at < r->bytes.len && strchr(" \t\r\n", r->bytes.at[r->at]) && r->bytes.at[r->at])
        r->at++;
    return r->at < r->bytes.len ? r->bytes.at[r->at] : '\0';
}

enum fb_code jsonin_parse(struct jsonin *in, struct span bytes, struct fb_err *err)
{
    in->count = in->text_used = 0;
    struct reader r = {.in = in, .bytes = bytes, .err = err};
    if (peek(&r) != '{')
        return refuse(&r, "expected a JSON object");
    r.at++;
    if (peek(&r) == '}') {
        r.at++;
    } else {
        for (;;) {
            enum fb_code code = read_field(&r);
            if (code != FB_OK)
                return code;
            char c = peek(&r);
            if (c != ',' && c != '}')
                return refuse(&r, "expected , or }");
            r.at++;
            if (c == '}')
                break;
        }
    }
    if (peek(&r) != '\0' || r.at < bytes.len)
        return refuse(&r, "unexpected bytes behind the object");
    return FB_OK;
}

static bool take(struct reader *r, struct span word)
{
    struct span rest = {r->bytes.at + r->at, r->bytes.len - r->at};
    if (!span_starts(rest, word))
        return false;
    r->at += word.len;
    return true;
}

static enum fb_code read_field(struct reader *r)
{
    struct jsonin_field f = {.kind = JSONIN_NULL};
    if (r->in->count >= JSONIN_FIELDS_MAX)
        return fb_fail(r->err, FB_E_NOMEM, "body: more than 16 fields");
    if (peek(r) != '"')
        return refuse(r, "expected a field name");
    enum fb_code code = read_string(r, &f.key);
    if (code != FB_OK)
        return code;
    for (size_t i = 0; i < r->in->count; i++)
        if (strcmp(r->in->field[i].key, f.key) == 0)
            return refuse(r, "the same field twice");
    if (peek(r) != ':')
        return refuse(r, "expected :");
    r->at++;
    char c = peek(r);
    if (c == '"') {
        f.kind = JSONIN_STRING;
        code = read_string(r, &f.text);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        code = read_number(r, &f);
    } else if (take(r, SPAN("true"))) {
        f.kind = JSONIN_BOOL;
        f.number = 1;
    } else if (take(r, SPAN("false"))) {
        f.kind = JSONIN_BOOL;
    } else if (!take(r, SPAN("null"))) {
        code = refuse(r, "expected a string, a number, true, false or null");
    }
    if (code == FB_OK)
        r->in->field[r->in->count++] = f;
    return code;
}

static bool put_byte(struct reader *r, unsigned byte)
{
    if (r->in->text_used >= sizeof r->in->text)
        return false;
    r->in->text[r->in->text_used++] = (char)byte;
    return true;
}

static bool put_code_point(struct reader *r, uint32_t cp)
{
    if (cp < 0x80)
        return put_byte(r, cp);
    if (cp < 0x800)
        return put_byte(r, 0xc0 | cp >> 6) && put_byte(r, 0x80 | (cp & 0x3f));
    if (cp < 0x10000)
        return put_byte(r, 0xe0 | cp >> 12) && put_byte(r, 0x80 | (cp >> 6 & 0x3f)) &&
               put_byte(r, 0x80 | (cp & 0x3f));
    return put_byte(r, 0xf0 | cp >> 18) && put_byte(r, 0x80 | (cp >> 12 & 0x3f)) &&
           put_byte(r, 0x80 | (cp >> 6 & 0x3f)) && put_byte(r, 0x80 | (cp & 0x3f));
}

static bool read_hex4(struct reader *r, uint32_t *v)
{
    *v = 0;
    if (r->bytes.len - r->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = r->bytes.at[r->at++];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : 16;
        if (digit > 15)
            return false;
        *v = *v << 4 | digit;
    }
    return true;
}

/* Behind the backslash.  Surrogates must come in pairs; U+0000 would end the text early. */
static bool read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at >= r->bytes.len)
        return false;
    char c = r->bytes.at[r->at++];
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit)
        return put_byte(r, (unsigned char)to[hit - from]);
    uint32_t cp = 0, low = 0;
    if (c != 'u' || !read_hex4(r, &cp) || cp == 0 || (cp >= 0xdc00 && cp <= 0xdfff))
        return false;
    if (cp >= 0xd800 && cp <= 0xdbff) {
        if (!take(r, SPAN("\\u")) || !read_hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        cp = 0x10000 + ((cp - 0xd800) << 10 | (low - 0xdc00));
    }
    return put_code_point(r, cp);
}

/* The rest of a sequence of which the first byte was taken. */
static bool put_sequence(struct reader *r)
{
    size_t len = span_utf8(r->bytes, r->at - 1);
    bool is_put = len > 0 && put_byte(r, (unsigned char)r->bytes.at[r->at - 1]);
    for (size_t i = 1; is_put && i < len; i++)
        is_put = put_byte(r, (unsigned char)r->bytes.at[r->at++]);
    return is_put;
}

static enum fb_code read_string(struct reader *r, const char **text)
{
    *text = r->in->text + r->in->text_used;
    r->at++; /* the quote */
    for (;;) {
        if (r->at >= r->bytes.len)
            return refuse(r, "missing closing quote");
        unsigned char c = (unsigned char)r->bytes.at[r->at++];
        if (c == '"')
            break;
        if (c < 0x20)
            return refuse(r, "control byte in a string");
        bool is_put = c == '\\' ? read_escape(r) : c >= 0x80 ? put_sequence(r) : put_byte(r, c);
        if (!is_put)
            return refuse(r,
                          "bad escape, bytes that are not UTF-8, or more than 8192 bytes of text");
    }
    if (!put_byte(r, '\0'))
        return refuse(r, "more than 8192 bytes of text");
    return FB_OK;
}

static enum fb_code read_number(struct reader *r, struct jsonin_field *f)
{
    char copy[48];
    size_t len = 0;
    while (r->at + len < r->bytes.len && len < sizeof copy - 1 &&
           strchr("+-.0123456789eE", r->bytes.at[r->at + len]) && r->bytes.at[r->at + len]) {
        copy[len] = r->bytes.at[r->at + len];
        len++;
    }
    copy[len] = '\0';
    char *end = copy;
    f->kind = JSONIN_NUMBER;
    f->number = strtod(copy, &end);
    const char *digits = copy[0] == '-' ? copy + 1 : copy;
    bool is_padded = digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
    if (*end != '\0' || end == copy || !isfinite(f->number) || is_padded || end[-1] == '.' ||
        digits[0] < '0' || digits[0] > '9')
        return refuse(r, "malformed number");
    r->at += len;
    return FB_OK;
}

const struct jsonin_field *jsonin_find(const struct jsonin *in, const char *key)
{
    for (size_t i = 0; i < in->count; i++)
        if (strcmp(in->field[i].key, key) == 0)
            return in->field[i].kind == JSONIN_NULL ? NULL : &in->field[i];
    return NULL;
}

const char *jsonin_text(const struct jsonin *in, const char *key, const char *fallback)
{
    const struct jsonin_field *f = jsonin_find(in, key);
    if (!f)
        return fallback;
    return f->kind == JSONIN_STRING ? f->text : NULL;
}
