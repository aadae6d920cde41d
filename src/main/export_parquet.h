/* SPDX-License-Identifier: Apache-2.0 */
/* export_parquet: events of one type as the rows of a Parquet file; the columns are those of
 * `events tables`.
 *
 * `time` is a timestamp; numbers are as wide as in events.def, without sign, but 64 bits have one,
 * as in SQL and in the other formats.  A name that is unknown and a real without a value are NULL.
 * Units and the type of the events stand in the footer.  Threads: as struct parquet. */
#ifndef FB_MAIN_EXPORT_PARQUET_H
#define FB_MAIN_EXPORT_PARQUET_H
#include "query/column.h"
#include "query/parquet.h"
#include "query/scan.h"

struct export_parquet {
    const struct column_table *table;
    struct parquet_column columns[COLUMNS_MAX];
    struct parquet *file;
    struct buf units;
    struct parquet_note notes[2];
};
FB_MUST_USE
enum fb_code export_parquet_begin(struct export_parquet *x, uint8_t type,
                                  const struct parquet_to *to, struct fb_err *err);
FB_MUST_USE
enum fb_code export_parquet_put(struct export_parquet *x, const struct scan_event *event,
                                const struct names *names, bool is_redacted, struct fb_err *err);
/* With the footer; without this call there is no whole file. */
FB_MUST_USE
enum fb_code export_parquet_end(struct export_parquet *x, struct fb_err *err);
void export_parquet_fini(struct export_parquet *x);
#endif
