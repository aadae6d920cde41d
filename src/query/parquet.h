/* SPDX-License-Identifier: Apache-2.0 */
/* parquet: writes rows as an Apache Parquet file, front to back, to anything that takes bytes.
 *
 *   "PAR1"  row group: per column [dictionary page] data pages ...  footer  length of it  "PAR1"
 *
 * A reader begins at the end, so what was not ended is no file to it.  Rows are held until a row
 * group is full; memory is bounded by one row group and 100 bytes per column of each before it.
 *
 * From apache/parquet-format (parquet.thrift and the pages named here):
 *   README.md "File format", "Metadata", "Checksumming"; Encodings.md PLAIN, RLE, RLE_DICTIONARY;
 *   Compression.md ZSTD; LogicalTypes.md STRING, INT, TIMESTAMP (with the converted types, for old
 *   readers); parquet.thrift ColumnOrder TYPE_ORDER and Statistics min_value, max_value,
 * null_count. Data pages are version 1, which everything reads.  Columns are flat, required or
 * optional; a column of a row group has a dictionary when that is smaller.
 *
 * Threads: a struct parquet belongs to one thread. */
#ifndef FB_QUERY_PARQUET_H
#define FB_QUERY_PARQUET_H
#include "base/error.h"
#include "query/query.h"

/* Common readers work on one row group at a time and per thread; smaller ones compress worse. */
#define PARQUET_GROUP_ROWS 65536
/* Texts that one row group may hold before it is closed early. */
#define PARQUET_GROUP_TEXT_BYTES (32 * MIB)

enum parquet_type {
    PARQUET_TEXT, /* bytes that are not UTF-8 become U+FFFD, as in our JSON */
    PARQUET_I64,
    PARQUET_U32,
    PARQUET_U16,
    PARQUET_U8,
    PARQUET_F64,
    PARQUET_TIME_US /* UTC, since 1970, from an INTEGER */
};
struct parquet_column {
    const char *name; /* borrowed as long as the file is open */
    enum parquet_type type;
    bool is_optional; /* QUERY_NULL may come */
};
struct parquet_note { /* key and value in the footer */
    struct span key, value;
};
struct parquet_conf {
    const struct parquet_column *columns; /* borrowed until the end */
    uint32_t column_count;
    int32_t sorted_by;                /* column that never falls; -1: none */
    uint32_t group_rows;              /* 0: PARQUET_GROUP_ROWS */
    const struct parquet_note *notes; /* borrowed until the end */
    uint32_t note_count;
};
/* Takes all the bytes or returns false. */
struct parquet_to {
    bool (*write)(void *arg, struct span bytes);
    void *arg;
};

struct parquet;
FB_MUST_USE
enum fb_code parquet_open(struct parquet **p, const struct parquet_conf *conf,
                          const struct parquet_to *to, struct fb_err *err);
/* One value per column.  Errors, also of the end: IO (write said no), NOMEM. */
FB_MUST_USE
enum fb_code parquet_row(struct parquet *p, const struct query_value *row, struct fb_err *err);
/* The rest and the footer. */
FB_MUST_USE
enum fb_code parquet_end(struct parquet *p, struct fb_err *err);
void parquet_free(struct parquet *p);
#endif
