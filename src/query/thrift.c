/* SPDX-License-Identifier: Apache-2.0 */
#include "query/thrift.h"

#include "base/assert.h"

void thrift_init(struct thrift *t, struct buf *out)
{
    *t = (struct thrift){.out = out};
}

void thrift_varint(struct buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_putc(out, (char)(v | 0x80));
    buf_putc(out, (char)v);
}

/* 0, -1, 1, -2 ... become 0, 1, 2, 3 ..., so that small numbers of both signs are short. */
static void put_zigzag(struct buf *out, int64_t v)
{
    thrift_varint(out, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

static void put_field(struct thrift *t, int16_t id, enum thrift_type type)
{
    int step = id - t->last[t->depth];
    fb_assert(step > 0);
    if (step <= 15) {
        buf_putc(t->out, (char)(step << 4 | (int)type));
    } else {
        buf_putc(t->out, (char)type);
        put_zigzag(t->out, id);
    }
    t->last[t->depth] = id;
}

void thrift_bool(struct thrift *t, int16_t id, bool v)
{
    put_field(t, id, v ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_byte(struct thrift *t, int16_t id, int8_t v)
{
    put_field(t, id, THRIFT_BYTE);
    buf_putc(t->out, (char)v);
}

void thrift_i16(struct thrift *t, int16_t id, int16_t v)
{
    put_field(t, id, THRIFT_I16);
    put_zigzag(t->out, v);
}

void thrift_i32(struct thrift *t, int16_t id, int32_t v)
{
    put_field(t, id, THRIFT_I32);
    put_zigzag(t->out, v);
}

void thrift_i64(struct thrift *t, int16_t id, int64_t v)
{
    put_field(t, id, THRIFT_I64);
    put_zigzag(t->out, v);
}

void thrift_binary(struct thrift *t, int16_t id, struct span v)
{
    put_field(t, id, THRIFT_BINARY);
    thrift_item_binary(t, v);
}

static void begin(struct thrift *t)
{
    fb_assert(t->depth + 1 < THRIFT_DEPTH_MAX);
    t->last[++t->depth] = 0;
}

void thrift_struct_begin(struct thrift *t, int16_t id)
{
    put_field(t, id, THRIFT_STRUCT);
    begin(t);
}

void thrift_struct_end(struct thrift *t)
{
    buf_putc(t->out, 0);
    t->depth -= t->depth > 0;
}

void thrift_list_begin(struct thrift *t, int16_t id, enum thrift_type type, uint32_t count)
{
    put_field(t, id, THRIFT_LIST);
    if (count < 15) {
        buf_putc(t->out, (char)(count << 4 | type));
    } else {
        buf_putc(t->out, (char)(0xf0 | (int)type));
        thrift_varint(t->out, count);
    }
}

void thrift_item_i32(struct thrift *t, int32_t v)
{
    put_zigzag(t->out, v);
}

void thrift_item_binary(struct thrift *t, struct span v)
{
    thrift_varint(t->out, v.len);
    buf_put_span(t->out, v);
}

void thrift_item_struct_begin(struct thrift *t)
{
    begin(t);
}
