/* SPDX-License-Identifier: Apache-2.0 */
/* table: text in aligned columns for people.
 *
 * Heads that begin with '>' stand right.  Widths are counted in code points, so names in any
 * script line up.  Empty cells are "-".  The last left column is not padded: no blanks at the end
 * of lines.  Memory: the table's, up to TABLE_BYTES_MAX; what is beyond is left out and
 * table_print says so.  Threads: a table belongs to one thread. */
#ifndef FB_CLI_TABLE_H
#define FB_CLI_TABLE_H
#include "base/buf.h"

#define TABLE_COLUMNS_MAX 16
#define TABLE_BYTES_MAX (16 * MIB)

struct table {
    const char *head[TABLE_COLUMNS_MAX];
    size_t columns, cells;
    struct buf text; /* cells one after the other, each with its terminator */
};
void table_init(struct table *t, const char *const *heads, size_t count);
void table_fini(struct table *t);
/* The next cell, row by row. */
void table_put(struct table *t, const char *text);
void table_putf(struct table *t, const char *fmt, ...) FB_PRINTF(2, 3);
/* Appends the table to <out>, heads bold with <has_color>. */
void table_print(const struct table *t, bool has_color, struct buf *out);
#endif
