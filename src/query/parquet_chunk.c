/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a column, and the bodies of its pages. */
#include "base/assert.h"
#include "base/siphash.h"
#include "query/hybrid.h"
#include "query/parquet_int.h"

#include <stdlib.h>

static bool is_narrow(enum parquet_type type)
{
    return type == PARQUET_U32 || type == PARQUET_U16 || type == PARQUET_U8;
}

static size_t plain_width(const struct chunk *c)
{
    return is_narrow(c->column->type) ? 4 : 8;
}

bool chunk_init(struct chunk *c, const struct parquet_column *column, uint32_t rows_max)
{
    uint32_t slots = 16;
    bool is_text = column->type == PARQUET_TEXT;
    *c = (struct chunk){.column = column};
    buf_init(&c->text, PARQUET_GROUP_TEXT_BYTES + 16 * MIB);
    /* half full at most, or probing becomes slow */
    while (slots < 2 * (is_text ? rows_max : CHUNK_DISTINCT_MAX))
        slots *= 2;
    c->slot_mask = slots - 1;
    c->slot = calloc(slots, sizeof *c->slot);
    c->index = calloc(rows_max, sizeof *c->index);
    if (is_text)
        c->text_end = calloc(rows_max, sizeof *c->text_end);
    else {
        c->number = calloc(rows_max, sizeof *c->number);
        c->distinct = calloc(CHUNK_DISTINCT_MAX, sizeof *c->distinct);
    }
    if (column->is_optional)
        c->is_there = calloc(rows_max, sizeof *c->is_there);
    return c->slot && c->index && (is_text ? !!c->text_end : c->number && c->distinct) &&
           (!column->is_optional || c->is_there);
}

void chunk_fini(struct chunk *c)
{
    free(c->slot);
    free(c->index);
    free(c->text_end);
    free(c->number);
    free(c->distinct);
    free(c->is_there);
    buf_fini(&c->text);
}

void chunk_clear(struct chunk *c)
{
    buf_clear(&c->text);
    memset(c->slot, 0, (c->slot_mask + (size_t)1) * sizeof *c->slot);
    c->rows = c->count = c->values = 0;
    c->plain_bytes = 0;
    c->is_coded = false;
}

static struct span text_at(const struct chunk *c, uint32_t i)
{
    uint32_t begin = i ? c->text_end[i - 1] : 0;
    return (struct span){c->text.at + begin, c->text_end[i] - begin};
}

/* Paths and names come from clients: without a key they could be chosen to collide. */
static uint64_t hash(struct span text)
{
    static const uint64_t key[2] = {UINT64_C(0x70617271756574), UINT64_C(0x6469637469)};
    return siphash(key, text);
}

/* As our JSON shows it: what is no UTF-8 is no STRING. */
static struct span as_utf8(struct span text, struct buf *room)
{
    size_t i = 0;
    while (i < text.len && span_utf8(text, i))
        i += span_utf8(text, i);
    if (i == text.len)
        return text;
    for (i = 0; i < text.len;) {
        size_t n = span_utf8(text, i);
        if (n)
            buf_put(room, text.at + i, n);
        else
            buf_puts(room, "\xef\xbf\xbd");
        i += n ? n : 1;
    }
    return buf_span(room);
}

static bool put_text(struct chunk *c, struct span text)
{
    c->plain_bytes += 4 + text.len;
    /* Most texts are the one before. */
    uint32_t before = c->count ? c->index[c->count - 1] : 0;
    if (c->count && span_eq(text_at(c, before), text)) {
        c->index[c->count++] = before;
        return true;
    }
    uint32_t at = (uint32_t)hash(text) & c->slot_mask;
    while (c->slot[at] && !span_eq(text_at(c, c->slot[at] - 1), text))
        at = (at + 1) & c->slot_mask;
    if (!c->slot[at]) {
        buf_put_span(&c->text, text);
        if (c->text.failed)
            return false;
        c->text_end[c->values] = (uint32_t)c->text.len;
        c->slot[at] = ++c->values;
    }
    c->index[c->count++] = c->slot[at] - 1;
    return true;
}

bool chunk_put(struct chunk *c, const struct query_value *v)
{
    struct buf room;
    bool is_null = v->type == QUERY_NULL;
    fb_assert(!is_null || c->column->is_optional);
    if (c->is_there)
        c->is_there[c->rows] = !is_null;
    c->rows++;
    if (is_null)
        return true;
    if (c->column->type == PARQUET_TEXT) {
        fb_assert(v->type == QUERY_TEXT);
        buf_init(&room, 16 * MIB);
        struct span text = as_utf8(v->text, &room);
        bool is_put = !room.failed && put_text(c, text);
        buf_fini(&room);
        return is_put;
    }
    c->plain_bytes += plain_width(c);
    if (c->column->type == PARQUET_F64) {
        fb_assert(v->type == QUERY_REAL);
        memcpy(&c->number[c->count++], &v->real, sizeof v->real);
        return true;
    }
    fb_assert(v->type == QUERY_INTEGER);
    c->number[c->count++] = (uint64_t)v->integer;
    return true;
}

/* ---- dictionary ---- */

static bool code_numbers(struct chunk *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t v = c->number[i];
        uint32_t at = (uint32_t)(v * UINT64_C(0x9e3779b97f4a7c15) >> 32) & c->slot_mask;
        while (c->slot[at] && c->distinct[c->slot[at] - 1] != v)
            at = (at + 1) & c->slot_mask;
        if (!c->slot[at]) {
            if (c->values == CHUNK_DISTINCT_MAX)
                return false;
            c->distinct[c->values] = v;
            c->slot[at] = ++c->values;
        }
        c->index[i] = c->slot[at] - 1;
    }
    return true;
}

void chunk_choose(struct chunk *c)
{
    bool is_text = c->column->type == PARQUET_TEXT;
    c->is_coded = false;
    if (c->count == 0 || (!is_text && !code_numbers(c)))
        return;
    uint64_t bytes = is_text ? c->text.len + UINT64_C(4) * c->values : c->values * plain_width(c);
    bytes += (uint64_t)c->count * hybrid_bits(c->values - 1) / 8;
    c->is_coded = bytes < c->plain_bytes;
}

/* ---- bodies ---- */

static void put_le(struct buf *out, uint64_t v, size_t bytes)
{
    char at[8];
    for (size_t i = 0; i < bytes; i++)
        at[i] = (char)(v >> (8 * i));
    buf_put(out, at, bytes);
}

static void put_plain_text(struct buf *out, struct span text)
{
    put_le(out, text.len, 4);
    buf_put_span(out, text);
}

void chunk_put_dictionary(const struct chunk *c, struct buf *out)
{
    for (uint32_t i = 0; i < c->values; i++)
        if (c->number)
            put_le(out, c->distinct[i], plain_width(c));
        else
            put_plain_text(out, text_at(c, i));
}

static void put_levels(const struct chunk *c, uint32_t from, uint32_t until, struct buf *out)
{
    size_t length_at = out->len;
    put_le(out, 0, 4);
    hybrid_put(out, c->is_there + from, until - from, 1);
    if (out->failed)
        return;
    uint64_t length = out->len - length_at - 4;
    for (size_t i = 0; i < 4; i++)
        out->at[length_at + i] = (char)(length >> (8 * i));
}

uint32_t chunk_put_page(const struct chunk *c, uint32_t from, uint32_t until, uint32_t value,
                        struct buf *out)
{
    uint32_t end = value;
    for (uint32_t row = from; row < until; row++)
        end += c->is_there ? c->is_there[row] : 1;
    if (c->is_there)
        put_levels(c, from, until, out);
    if (c->is_coded) {
        uint32_t bits = hybrid_bits(c->values - 1);
        buf_putc(out, (char)bits);
        hybrid_put(out, c->index + value, end - value, bits);
        return end;
    }
    for (uint32_t i = value; i < end; i++)
        if (c->number)
            put_le(out, c->number[i], plain_width(c));
        else
            put_plain_text(out, text_at(c, c->index[i]));
    return end;
}

/* ---- statistics ---- */

static int order_text(struct span a, struct span b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.at, b.at, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static double real_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool is_below(enum parquet_type type, uint64_t a, uint64_t b)
{
    return type == PARQUET_F64 ? real_of(a) < real_of(b) : (int64_t)a < (int64_t)b;
}

static void to_le(char out[8], uint64_t v)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (char)(v >> (8 * i));
}

void chunk_range(const struct chunk *c, struct chunk_range *r)
{
    *r = (struct chunk_range){.has_any = c->count > 0};
    if (!r->has_any)
        return;
    if (!c->number) {
        r->min_at = r->max_at = text_at(c, 0);
        for (uint32_t i = 1; i < c->values; i++) {
            struct span text = text_at(c, i);
            if (order_text(text, r->min_at) < 0)
                r->min_at = text;
            if (order_text(text, r->max_at) > 0)
                r->max_at = text;
        }
        return;
    }
    uint64_t min = c->number[0], max = min;
    for (uint32_t i = 1; i < c->count; i++) {
        if (is_below(c->column->type, c->number[i], min))
            min = c->number[i];
        if (is_below(c->column->type, max, c->number[i]))
            max = c->number[i];
    }
    /* parquet.thrift, TYPE_ORDER: a zero of a double stands for both zeros. */
    if (c->column->type == PARQUET_F64 && real_of(min) == 0)
        min = UINT64_C(1) << 63;
    if (c->column->type == PARQUET_F64 && real_of(max) == 0)
        max = 0;
    to_le(r->min, min);
    to_le(r->max, max);
    r->min_at = (struct span){r->min, plain_width(c)};
    r->max_at = (struct span){r->max, plain_width(c)};
}
