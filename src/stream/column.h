/* SPDX-License-Identifier: Apache-2.0 */
/* column: event records turned by 90 degrees, so that like bytes stand together for zstd.
 *
 *   columns = u32 length of the descriptors | descriptors | planes
 *   order   = type, origin, sequence, time, then for each type present, ascending: its fields
 *
 *   descriptor   mode u8 | bytes u8 | more, by mode      planes
 *   CONST        value[bytes]                            none: all values are the same
 *   PLAIN                                                <bytes> planes of one byte per value
 *   DELTA        base[8]                                 zigzag(value - value before)
 *   DELTA_ORIGIN base[8]                                 zigzag(value - the last of its origin)
 *   MINUS        field u8                                zigzag(value - that earlier field)
 *   COUNTED      base[8], salt[8]                        zigzag(count - the last of its origin),
 * where value = mix(count) ^ salt (base/mix.h)
 *
 * A plane is the lowest bytes of all values, the next is the second lowest, and so on.  A text
 * field is a column of lengths (trailing zero bytes left out), then the texts one after another.
 * The modes are chosen by what the values show (smallest sum), so the format knows no field by
 * name.  Reading trusts nothing.
 *
 * Threads: a struct columns belongs to one thread. */
#ifndef FB_STREAM_COLUMN_H
#define FB_STREAM_COLUMN_H
#include "stream/block.h"

#define COLUMN_ROWS_MAX (BLOCK_RAW_BYTES_MAX / EV_CELL_BYTES)
#define COLUMN_DESCRIPTOR_BYTES_MAX (16 * KIB)
/* Text adds at most one length byte per 32 record bytes. */
#define COLUMN_PLANE_BYTES_MAX (BLOCK_RAW_BYTES_MAX + BLOCK_RAW_BYTES_MAX / 32 + KIB)
#define COLUMN_BYTES_MAX (4 + COLUMN_DESCRIPTOR_BYTES_MAX + COLUMN_PLANE_BYTES_MAX)
#define COLUMN_CUTS_MAX 1024

struct columns {
    /* Written by column_write, read by column_read. */
    unsigned char descriptor[COLUMN_DESCRIPTOR_BYTES_MAX];
    size_t descriptor_len;
    unsigned char plane[COLUMN_PLANE_BYTES_MAX];
    size_t plane_len;
    /* Ends of planes: zstd begins a new table of codes there. */
    uint32_t cut[COLUMN_CUTS_MAX];
    uint32_t cut_count;
    uint64_t salt;         /* of numbers that were counted and mixed; before column_write */
    bool has_counted;      /* column_write met such: only newer versions can read it */
    uint64_t types_wanted; /* column_read leaves the fields of others 0; 0: all types */
    /* Work space. */
    uint32_t rows;
    uint32_t row_at[COLUMN_ROWS_MAX];  /* byte of the record */
    uint16_t by_type[COLUMN_ROWS_MAX]; /* rows grouped by type, order kept */
    uint32_t type_start[EV_TYPE_END + 1];
    uint8_t origin[COLUMN_ROWS_MAX]; /* of the rows of the present column */
    uint64_t value[COLUMN_ROWS_MAX];
    uint64_t other[COLUMN_ROWS_MAX];
    uint64_t coded[COLUMN_ROWS_MAX];
};

/* FB_E_FORMAT: a record is not valid.  *rows, *first_us and *last_us describe the records. */
FB_MUST_USE
enum fb_code column_write(struct columns *c, struct span records);
/* <columns> to exactly <raw_bytes> of <rows> records at <out>. */
FB_MUST_USE
enum fb_code column_read(struct columns *c, struct span columns, uint32_t rows, uint32_t raw_bytes,
                         void *out);
#endif
