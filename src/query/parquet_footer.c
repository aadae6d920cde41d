/* SPDX-License-Identifier: Apache-2.0 */
/* FileMetaData of parquet.thrift: schema, row groups, notes. */
#include "query/parquet_int.h"

enum { PHYSICAL_INT32 = 1, PHYSICAL_INT64 = 2, PHYSICAL_DOUBLE = 5, PHYSICAL_BYTE_ARRAY = 6 };
enum { CONVERTED_UTF8 = 0, CONVERTED_TIME_US = 10, CONVERTED_U8, CONVERTED_U16, CONVERTED_U32 };
enum { LOGICAL_STRING = 1, LOGICAL_TIMESTAMP = 8, LOGICAL_INTEGER = 10 };

/* 2: the logical types and encodings of format 2 are used. */
#define FORMAT_VERSION 2

int32_t parquet_physical(enum parquet_type type)
{
    switch (type) {
    case PARQUET_TEXT:
        return PHYSICAL_BYTE_ARRAY;
    case PARQUET_U32:
    case PARQUET_U16:
    case PARQUET_U8:
        return PHYSICAL_INT32;
    case PARQUET_F64:
        return PHYSICAL_DOUBLE;
    case PARQUET_I64:
    case PARQUET_TIME_US:
        break;
    }
    return PHYSICAL_INT64;
}

static void put_unsigned(struct thrift *t, int32_t converted, int8_t bits)
{
    thrift_i32(t, 6, converted);
    thrift_struct_begin(t, 10);
    thrift_struct_begin(t, LOGICAL_INTEGER);
    thrift_byte(t, 1, bits);
    thrift_bool(t, 2, false);
    thrift_struct_end(t);
    thrift_struct_end(t);
}

static void put_meaning(struct thrift *t, enum parquet_type type)
{
    switch (type) {
    case PARQUET_TEXT:
        thrift_i32(t, 6, CONVERTED_UTF8);
        thrift_struct_begin(t, 10);
        thrift_struct_begin(t, LOGICAL_STRING);
        thrift_struct_end(t);
        thrift_struct_end(t);
        break;
    case PARQUET_TIME_US:
        thrift_i32(t, 6, CONVERTED_TIME_US);
        thrift_struct_begin(t, 10);
        thrift_struct_begin(t, LOGICAL_TIMESTAMP);
        thrift_bool(t, 1, true);   /* UTC */
        thrift_struct_begin(t, 2); /* unit: the empty struct number 2 is microseconds */
        thrift_struct_begin(t, 2);
        thrift_struct_end(t);
        thrift_struct_end(t);
        thrift_struct_end(t);
        thrift_struct_end(t);
        break;
    case PARQUET_U8:
        put_unsigned(t, CONVERTED_U8, 8);
        break;
    case PARQUET_U16:
        put_unsigned(t, CONVERTED_U16, 16);
        break;
    case PARQUET_U32:
        put_unsigned(t, CONVERTED_U32, 32);
        break;
    case PARQUET_I64:
    case PARQUET_F64:
        break;
    }
}

static void put_schema(struct thrift *t, const struct parquet_conf *conf)
{
    thrift_list_begin(t, 2, THRIFT_STRUCT, conf->column_count + 1);
    thrift_item_struct_begin(t);
    thrift_binary(t, 4, SPAN("schema"));
    thrift_i32(t, 5, (int32_t)conf->column_count);
    thrift_struct_end(t);
    for (uint32_t i = 0; i < conf->column_count; i++) {
        const struct parquet_column *c = &conf->columns[i];
        thrift_item_struct_begin(t);
        thrift_i32(t, 1, parquet_physical(c->type));
        thrift_i32(t, 3, c->is_optional);
        thrift_binary(t, 4, span_of(c->name));
        put_meaning(t, c->type);
        thrift_struct_end(t);
    }
}

void parquet_put_footer(struct parquet *p)
{
    struct thrift t;
    thrift_init(&t, &p->footer);
    p->footer.max = p->group_meta.len + 4 * MIB;
    thrift_i32(&t, 1, FORMAT_VERSION);
    put_schema(&t, &p->conf);
    thrift_i64(&t, 3, (int64_t)p->total_rows);
    thrift_list_begin(&t, 4, THRIFT_STRUCT, p->groups);
    buf_put_span(&p->footer, buf_span(&p->group_meta));
    if (p->conf.note_count)
        thrift_list_begin(&t, 5, THRIFT_STRUCT, p->conf.note_count);
    for (uint32_t i = 0; i < p->conf.note_count; i++) {
        thrift_item_struct_begin(&t);
        thrift_binary(&t, 1, p->conf.notes[i].key);
        thrift_binary(&t, 2, p->conf.notes[i].value);
        thrift_struct_end(&t);
    }
    thrift_binary(&t, 6, SPAN("foldback version " FB_VERSION));
    thrift_list_begin(&t, 7, THRIFT_STRUCT, p->conf.column_count);
    for (uint32_t i = 0; i < p->conf.column_count; i++) { /* TYPE_ORDER: an empty struct */
        thrift_item_struct_begin(&t);
        thrift_struct_begin(&t, 1);
        thrift_struct_end(&t);
        thrift_struct_end(&t);
    }
    thrift_struct_end(&t);
}
