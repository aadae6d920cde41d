/* SPDX-License-Identifier: Apache-2.0 */
/* query: SQL over the log.  Each event type is a table of a private SQLite database in memory;
 * column.h says which columns, function.c which functions are added to SQLite's own.
 *
 * Read-only: an authorizer lets SELECT, READ, FUNCTION and recursive queries through, nothing else.
 * Bounds of time, of the offset, and comparisons of columns with constants are looked at before
 * SQLite sees a row; the event type and the time decide which blocks are decoded at all.
 * Memory: QUERY_HEAP_BYTES_MAX, larger sorts go to a temporary file, or fail when
 * personal fields are shown or the log is sealed.
 * In a process that needs SQLite for itself, shared_bytes_max ends the query instead of that hard
 * limit, nothing goes to a file, and a value has QUERY_SHARED_VALUE_BYTES_MAX at most.
 * Threads: a struct query belongs to one thread; SQLite's memory limit is of the whole process. */
#ifndef FB_QUERY_QUERY_H
#define FB_QUERY_QUERY_H
#include "query/scan.h"

#define QUERY_HEAP_BYTES_MAX (256 * MIB)
#define QUERY_SQL_BYTES_MAX (64 * KIB)
#define QUERY_SHARED_VALUE_BYTES_MAX (64 * KIB)
/* Tables that one query may have open at once there: each has a reader of the log. */
#define QUERY_SHARED_TABLES_MAX 8

struct query_conf {
    struct scan_source source;   /* copied */
    uint64_t now_us;             /* for ago(): one instant for the whole query */
    uint64_t since_us, until_us; /* on top of what the SQL says; 0 and UINT64_MAX: none */
    uint64_t shared_bytes_max;   /* what SQLite may use of a shared process; 0: it is ours alone */
    bool is_redacted;            /* PERSONAL fields read "-" */
};

enum query_value_type { QUERY_NULL, QUERY_INTEGER, QUERY_REAL, QUERY_TEXT };
struct query_value {
    enum query_value_type type;
    int64_t integer;
    double real;
    struct span text; /* borrowed until the call returns */
};
/* What takes the answer.  Both return false to stop. */
struct query_sink {
    bool (*on_head)(void *arg, const char *const *names, uint32_t count);
    bool (*on_row)(void *arg, const struct query_value *values, uint32_t count);
    void *arg;
};

struct query;
FB_MUST_USE
enum fb_code query_open(struct query **query, const struct query_conf *conf, struct fb_err *err);
void query_close(struct query *q);
/* One statement.  Errors: USAGE (the SQL; the sentence marks the place), DENIED (it would write),
 * NOMEM, AGAIN (stopped, or by the sink), IO. */
FB_MUST_USE
enum fb_code query_run(struct query *q, const char *sql, const struct query_sink *sink,
                       struct fb_err *err);
/* Where in the SQL the error of the last run is; -1 when it is at no place. */
int query_error_at(const struct query *q);
const struct scan_source *query_source(const struct query *q);
#endif
