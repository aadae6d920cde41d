/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "query/parquet_int.h"

#include <stdlib.h>
#include <zlib.h>

/* Rows of a data page.  A reader that looks for one row unpacks one page. */
#define PAGE_ROWS 16384
#define ZSTD_LEVEL 3

/* parquet.thrift */
enum { PAGE_DATA = 0, PAGE_DICTIONARY = 2 };
enum { ENCODING_PLAIN = 0, ENCODING_RLE = 3, ENCODING_RLE_DICTIONARY = 8 };
enum { CODEC_ZSTD = 6 };

/* What the footer says of one column of a row group. */
struct chunk_place {
    uint64_t dictionary_at, data_at, end;
    uint64_t raw_bytes; /* with the heads of pages */
};

static void emit(struct parquet *p, struct span bytes);
static void put_group(struct parquet *p);
static enum fb_code result(const struct parquet *p, struct fb_err *err);

enum fb_code parquet_open(struct parquet **out, const struct parquet_conf *conf,
                          const struct parquet_to *to, struct fb_err *err)
{
    fb_assert(conf->column_count > 0);
    struct parquet *p = calloc(1, sizeof *p);
    if (!p)
        return fb_fail(err, FB_E_NOMEM, "no memory for a Parquet file");
    p->conf = *conf;
    p->to = *to;
    if (!p->conf.group_rows)
        p->conf.group_rows = PARQUET_GROUP_ROWS;
    buf_init(&p->group_meta, 256 * MIB);
    buf_init(&p->raw, 256 * MIB);
    buf_init(&p->packed, 256 * MIB);
    buf_init(&p->head, 64 * KIB);
    buf_init(&p->footer, 4 * MIB);
    p->zstd = ZSTD_createCCtx();
    p->chunk = calloc(conf->column_count, sizeof *p->chunk);
    bool is_made = p->zstd && p->chunk;
    for (uint32_t i = 0; is_made && i < conf->column_count; i++)
        is_made = chunk_init(&p->chunk[i], &conf->columns[i], p->conf.group_rows);
    if (!is_made) {
        parquet_free(p);
        return fb_fail(err, FB_E_NOMEM, "no memory for a Parquet file");
    }
    emit(p, SPAN("PAR1"));
    *out = p;
    return FB_OK;
}

void parquet_free(struct parquet *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; p->chunk && i < p->conf.column_count; i++)
        chunk_fini(&p->chunk[i]);
    free(p->chunk);
    buf_fini(&p->group_meta);
    buf_fini(&p->raw);
    buf_fini(&p->packed);
    buf_fini(&p->head);
    buf_fini(&p->footer);
    ZSTD_freeCCtx(p->zstd);
    free(p);
}

enum fb_code parquet_row(struct parquet *p, const struct query_value *row, struct fb_err *err)
{
    size_t text_bytes = 0;
    for (uint32_t i = 0; i < p->conf.column_count; i++) {
        if (!chunk_put(&p->chunk[i], &row[i]))
            return fb_fail(err, FB_E_NOMEM, "no memory for a row group of a Parquet file");
        text_bytes += p->chunk[i].text.len;
    }
    p->rows++;
    if (p->rows < p->conf.group_rows && text_bytes < PARQUET_GROUP_TEXT_BYTES)
        return FB_OK;
    put_group(p);
    return result(p, err);
}

enum fb_code parquet_end(struct parquet *p, struct fb_err *err)
{
    char length[4];
    if (p->rows)
        put_group(p);
    parquet_put_footer(p);
    /* A footer would make a whole file of what is not. */
    if (result(p, NULL) == FB_OK) {
        for (size_t i = 0; i < sizeof length; i++)
            length[i] = (char)(p->footer.len >> (8 * i));
        emit(p, buf_span(&p->footer));
        emit(p, (struct span){length, sizeof length});
        emit(p, SPAN("PAR1"));
    }
    return result(p, err);
}

static enum fb_code result(const struct parquet *p, struct fb_err *err)
{
    if (p->is_unwritten)
        return fb_fail(err, FB_E_IO, "the Parquet file could not be written");
    if (p->is_starved || p->group_meta.failed || p->footer.failed)
        return fb_fail(err, FB_E_NOMEM,
                       "no memory for a row group or the footer of a Parquet file; export a "
                       "shorter time");
    return FB_OK;
}

static void emit(struct parquet *p, struct span bytes)
{
    if (!p->is_unwritten && !p->to.write(p->to.arg, bytes))
        p->is_unwritten = true;
    p->offset += bytes.len;
}

/* ---- pages ---- */

/* What is in <raw>, compressed; returns the bytes before compression, head included. */
static uint64_t put_page(struct parquet *p, int type, uint32_t values, int encoding)
{
    struct thrift t;
    buf_clear(&p->packed);
    buf_clear(&p->head);
    p->is_starved |= p->raw.failed || !buf_reserve(&p->packed, ZSTD_compressBound(p->raw.len));
    size_t packed = p->is_starved ? 0
                                  : ZSTD_compressCCtx(p->zstd, p->packed.at, p->packed.cap,
                                                      p->raw.at, p->raw.len, ZSTD_LEVEL);
    p->is_starved |= ZSTD_isError(packed);
    if (p->is_starved)
        return 0;
    p->packed.len = packed;
    uint32_t crc = (uint32_t)crc32_z(0, (const unsigned char *)p->packed.at, packed);
    thrift_init(&t, &p->head);
    thrift_i32(&t, 1, type);
    thrift_i32(&t, 2, (int32_t)p->raw.len);
    thrift_i32(&t, 3, (int32_t)packed);
    thrift_i32(&t, 4, (int32_t)crc);
    thrift_struct_begin(&t, type == PAGE_DATA ? 5 : 7);
    thrift_i32(&t, 1, (int32_t)values);
    thrift_i32(&t, 2, encoding);
    if (type == PAGE_DATA) { /* of definition and repetition levels */
        thrift_i32(&t, 3, ENCODING_RLE);
        thrift_i32(&t, 4, ENCODING_RLE);
    }
    thrift_struct_end(&t);
    thrift_struct_end(&t);
    p->is_starved |= p->head.failed;
    emit(p, buf_span(&p->head));
    emit(p, buf_span(&p->packed));
    return p->head.len + p->raw.len;
}

static struct chunk_place put_pages(struct parquet *p, const struct chunk *c)
{
    struct chunk_place at = {.dictionary_at = p->offset};
    if (c->is_coded) {
        buf_clear(&p->raw);
        chunk_put_dictionary(c, &p->raw);
        at.raw_bytes += put_page(p, PAGE_DICTIONARY, c->values, ENCODING_PLAIN);
    }
    at.data_at = p->offset;
    for (uint32_t row = 0, value = 0; row < c->rows; row += PAGE_ROWS) {
        uint32_t until = fb_min_u32(row + PAGE_ROWS, c->rows);
        buf_clear(&p->raw);
        value = chunk_put_page(c, row, until, value, &p->raw);
        at.raw_bytes += put_page(p, PAGE_DATA, until - row,
                                 c->is_coded ? ENCODING_RLE_DICTIONARY : ENCODING_PLAIN);
    }
    at.end = p->offset;
    return at;
}

/* ---- row groups ---- */

static void put_statistics(struct thrift *t, const struct chunk *c)
{
    struct chunk_range range;
    chunk_range(c, &range);
    thrift_struct_begin(t, 12);
    thrift_i64(t, 3, c->rows - c->count);
    if (range.has_any) {
        thrift_binary(t, 5, range.max_at);
        thrift_binary(t, 6, range.min_at);
    }
    thrift_struct_end(t);
}

static void put_chunk_meta(struct thrift *t, const struct chunk *c, const struct chunk_place *at)
{
    thrift_item_struct_begin(t);
    thrift_i64(t, 2, 0); /* file_offset: no longer used */
    thrift_struct_begin(t, 3);
    thrift_i32(t, 1, parquet_physical(c->column->type));
    thrift_list_begin(t, 2, THRIFT_I32, c->is_coded ? 3 : 2);
    thrift_item_i32(t, ENCODING_PLAIN);
    thrift_item_i32(t, ENCODING_RLE);
    if (c->is_coded)
        thrift_item_i32(t, ENCODING_RLE_DICTIONARY);
    thrift_list_begin(t, 3, THRIFT_BINARY, 1);
    thrift_item_binary(t, span_of(c->column->name));
    thrift_i32(t, 4, CODEC_ZSTD);
    thrift_i64(t, 5, c->rows);
    thrift_i64(t, 6, (int64_t)at->raw_bytes);
    thrift_i64(t, 7, (int64_t)(at->end - at->dictionary_at));
    thrift_i64(t, 9, (int64_t)at->data_at);
    if (c->is_coded)
        thrift_i64(t, 11, (int64_t)at->dictionary_at);
    put_statistics(t, c);
    thrift_struct_end(t);
    thrift_struct_end(t);
}

static void put_group(struct parquet *p)
{
    struct thrift t;
    uint64_t begin = p->offset, raw_bytes = 0;
    thrift_init(&t, &p->group_meta);
    thrift_list_begin(&t, 1, THRIFT_STRUCT, p->conf.column_count);
    for (uint32_t i = 0; i < p->conf.column_count; i++) {
        struct chunk *c = &p->chunk[i];
        chunk_choose(c);
        struct chunk_place at = put_pages(p, c);
        put_chunk_meta(&t, c, &at);
        raw_bytes += at.raw_bytes;
        chunk_clear(c);
    }
    thrift_i64(&t, 2, (int64_t)raw_bytes);
    thrift_i64(&t, 3, p->rows);
    if (p->conf.sorted_by >= 0) {
        thrift_list_begin(&t, 4, THRIFT_STRUCT, 1);
        thrift_item_struct_begin(&t);
        thrift_i32(&t, 1, p->conf.sorted_by);
        thrift_bool(&t, 2, false);
        thrift_bool(&t, 3, false);
        thrift_struct_end(&t);
    }
    thrift_i64(&t, 5, (int64_t)begin);
    thrift_i64(&t, 6, (int64_t)(p->offset - begin));
    if (p->groups <= INT16_MAX)
        thrift_i16(&t, 7, (int16_t)p->groups);
    thrift_struct_end(&t);
    p->total_rows += p->rows;
    p->groups++;
    p->rows = 0;
}
