/* SPDX-License-Identifier: Apache-2.0 */
/* query_int: what the parts of query share. */
#ifndef FB_QUERY_QUERY_INT_H
#define FB_QUERY_QUERY_INT_H
#include "query/column.h"
#include "query/query.h"

#include <sqlite3.h>

struct query {
    sqlite3 *db;
    struct query_conf conf;
    struct query_table {
        struct query *query;
        const struct column_table *columns;
    } table[EV_TYPE_END];
    struct fb_err err; /* of a scan, for the sentence behind SQLITE_ERROR */
    bool is_denied;    /* the authorizer said no */
    bool is_starved;   /* of shared_bytes_max */
    uint32_t open_tables;
    int error_at;
};

/* The collation of the column time. */
#define QUERY_TIME_COLLATION "foldback_time"
extern const sqlite3_module query_table_module;
/* Adds the functions; SQLITE_OK or SQLite's code. */
int query_add_functions(struct query *q);
#endif
