/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/assert.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void put_escaped(struct buf *out, struct span s);

static void value_begins(struct json *j)
{
    if (j->needs_comma[j->depth])
        buf_putc(j->out, ',');
    j->needs_comma[j->depth] = true;
}

void json_init(struct json *j, struct buf *out)
{
    *j = (struct json){.out = out};
}

static void open_level(struct json *j, char c)
{
    value_begins(j);
    buf_putc(j->out, c);
    fb_assert(j->depth + 1 < FB_COUNT(j->needs_comma));
    j->needs_comma[++j->depth] = false;
}

static void close_level(struct json *j, char c)
{
    fb_assert(j->depth > 0);
    j->depth--;
    buf_putc(j->out, c);
}

void json_object_begin(struct json *j)
{
    open_level(j, '{');
}
void json_object_end(struct json *j)
{
    close_level(j, '}');
}
void json_array_begin(struct json *j)
{
    open_level(j, '[');
}
void json_array_end(struct json *j)
{
    close_level(j, ']');
}

void json_key(struct json *j, const char *key)
{
    value_begins(j);
    put_escaped(j->out, span_of(key));
    buf_putc(j->out, ':');
    j->needs_comma[j->depth] = false; /* the value that follows needs none */
}

void json_str(struct json *j, const char *text)
{
    if (!text) {
        json_nil(j);
        return;
    }
    json_span(j, span_of(text));
}

void json_span(struct json *j, struct span s)
{
    value_begins(j);
    put_escaped(j->out, s);
}

void json_u64(struct json *j, uint64_t v)
{
    value_begins(j);
    buf_printf(j->out, "%" PRIu64, v);
}

void json_i64(struct json *j, int64_t v)
{
    value_begins(j);
    buf_printf(j->out, "%" PRId64, v);
}

void json_f64(struct json *j, double v)
{
    if (!isfinite(v)) {
        json_nil(j);
        return;
    }
    value_begins(j);
    if (v == floor(v) && fabs(v) < 1e15)
        buf_printf(j->out, "%.0f", v);
    else
        buf_printf(j->out, "%.9g", v);
}

void json_f64_exact(struct json *j, double v)
{
    char text[32];
    if (!isfinite(v) || (v == floor(v) && fabs(v) < 1e15)) {
        json_f64(j, v);
        return;
    }
    snprintf(text, sizeof text, "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof text, "%.17g", v);
    value_begins(j);
    buf_puts(j->out, text);
}

void json_bool(struct json *j, bool v)
{
    value_begins(j);
    buf_puts(j->out, v ? "true" : "false");
}

void json_nil(struct json *j)
{
    value_begins(j);
    buf_puts(j->out, "null");
}

void json_raw(struct json *j, struct span text)
{
    value_begins(j);
    buf_put_span(j->out, text);
}

static void put_escaped(struct buf *out, struct span s)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.at[i];
        if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", c);
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(out, "\\u%04x", c);
            i++;
        } else if (c < 0x80) {
            buf_putc(out, (char)c);
            i++;
        } else {
            size_t n = span_utf8(s, i);
            if (n)
                buf_put(out, s.at + i, n);
            else
                buf_puts(out, "\\ufffd");
            i += n ? n : 1;
        }
    }
    buf_putc(out, '"');
}
