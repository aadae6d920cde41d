/* SPDX-License-Identifier: Apache-2.0 */
/* parquet_int: one column of the row group that is being filled, and the file it goes to. */
#ifndef FB_QUERY_PARQUET_INT_H
#define FB_QUERY_PARQUET_INT_H
#include "query/parquet.h"
#include "query/thrift.h"

#include <zstd.h>

/* Of a column of numbers in one row group; more of them are written as they are. */
#define CHUNK_DISTINCT_MAX 4096

/* Values of one column, NULLs left out.  Texts are kept once each. */
struct chunk {
    const struct parquet_column *column;
    uint32_t rows, count;
    uint32_t *is_there; /* per row, of an optional column */
    uint64_t *number;   /* the value, or the bits of a double; NULL for text */
    uint32_t *index;    /* text: which; number: with is_coded, which of <distinct> */
    struct buf text;    /* the texts without separators */
    uint32_t *text_end; /* of each in <text> */
    uint32_t *slot;     /* hash table of index + 1; 0 is free */
    uint32_t slot_mask;
    uint64_t *distinct; /* numbers, sorted by first use */
    uint32_t values;    /* different ones: texts, or <distinct> */
    uint64_t plain_bytes;
    bool is_coded; /* by a dictionary */
};
struct chunk_range { /* of the values; has_any false when all are NULL */
    bool has_any;
    char min[8], max[8]; /* little endian */
    struct span min_at, max_at;
};

FB_MUST_USE
bool chunk_init(struct chunk *c, const struct parquet_column *column, uint32_t rows_max);
void chunk_fini(struct chunk *c);
void chunk_clear(struct chunk *c);
/* False without memory. */
FB_MUST_USE
bool chunk_put(struct chunk *c, const struct query_value *v);
/* Chooses between a dictionary and plain values; once, before the pages. */
void chunk_choose(struct chunk *c);
void chunk_range(const struct chunk *c, struct chunk_range *out);
void chunk_put_dictionary(const struct chunk *c, struct buf *out);
/* Body of a data page of the rows [from, until), which hold the values from <value> on; returns
 * the first value behind them. */
uint32_t chunk_put_page(const struct chunk *c, uint32_t from, uint32_t until, uint32_t value,
                        struct buf *out);

struct parquet {
    struct parquet_conf conf;
    struct parquet_to to;
    struct chunk *chunk;
    uint32_t rows; /* in the row group */
    uint64_t offset, total_rows;
    uint32_t groups;
    struct buf group_meta; /* the row groups of the footer so far */
    struct buf raw, packed, head, footer;
    ZSTD_CCtx *zstd;
    bool is_unwritten; /* the taker said no */
    bool is_starved;   /* without memory */
};
void parquet_put_footer(struct parquet *p);
int32_t parquet_physical(enum parquet_type type);
#endif
