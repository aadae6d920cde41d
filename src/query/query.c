/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "query/query_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SQLite asks after so many steps of its machine whether to go on: some tens of microseconds. */
#define STEPS_BETWEEN_ASKING 10000
/* In the brain more often, and no step may take long: LIKE takes as long as pattern times value. */
#define STEPS_WHEN_SHARED 100
#define LIKE_BYTES_WHEN_SHARED 256

static int authorize(void *arg, int action, const char *a, const char *b, const char *c,
                     const char *d);
static int on_steps(void *arg);
static enum fb_code open_tables(struct query *q, struct fb_err *err);
static enum fb_code answer(struct query *q, sqlite3_stmt *st, const struct query_sink *sink,
                           struct fb_err *err);
static enum fb_code fail_sql(struct query *q, int code, struct fb_err *err);

enum fb_code query_open(struct query **out, const struct query_conf *conf, struct fb_err *err)
{
    struct query *q = calloc(1, sizeof *q);
    if (!q)
        return fb_fail(err, FB_E_NOMEM, "no memory for a query");
    q->conf = *conf;
    if (!conf->shared_bytes_max)
        sqlite3_hard_heap_limit64(QUERY_HEAP_BYTES_MAX);
    enum fb_code code = open_tables(q, err);
    if (code != FB_OK) {
        query_close(q);
        return code;
    }
    *out = q;
    return FB_OK;
}

/* The first use of a table writes to SQLite's own schema in memory, which the authorizer would
 * refuse: hence here. */
static int add_table(struct query *q, uint8_t type)
{
    const char *name = column_table(type)->name;
    sqlite3_stmt *st = NULL;
    char sql[80];
    if (!name)
        return SQLITE_OK;
    q->table[type] = (struct query_table){q, column_table(type)};
    snprintf(sql, sizeof sql, "SELECT 1 FROM %s", name);
    int rc = sqlite3_create_module_v2(q->db, name, &query_table_module, &q->table[type], NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(q->db, sql, -1, &st, NULL);
    sqlite3_finalize(st);
    return rc;
}

/* A log that cannot be opened: the scan says why, and there is nothing to sort. */
static bool is_sealed(const char *dir)
{
    struct log_reader *reader;
    if (!dir || log_reader_open(&reader, dir, LOG_FROM_END, NULL) != FB_OK)
        return false;
    bool has_keys = log_reader_is_sealed(reader);
    log_reader_close(reader);
    return has_keys;
}

static enum fb_code open_tables(struct query *q, struct fb_err *err)
{
    int rc = sqlite3_open_v2(":memory:", &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    /* Sorting and grouping beyond the cache goes to a file that has no name any more, unless that
     * would put on a disk in clear what is sealed there. */
    bool is_secret = !q->conf.is_redacted || is_sealed(q->conf.source.dir);
    bool is_shared = q->conf.shared_bytes_max > 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(q->db,
                          is_secret || is_shared ? "PRAGMA temp_store = MEMORY"
                                                 : "PRAGMA temp_store = FILE",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = query_add_functions(q);
    for (uint8_t t = 0; rc == SQLITE_OK && t < EV_TYPE_END; t++)
        rc = add_table(q, t);
    if (rc != SQLITE_OK)
        return fb_fail(err, FB_E_INTERNAL, "SQLite: %s", sqlite3_errmsg(q->db));
    sqlite3_limit(q->db, SQLITE_LIMIT_SQL_LENGTH, (int)QUERY_SQL_BYTES_MAX);
    sqlite3_limit(q->db, SQLITE_LIMIT_LENGTH,
                  (int)(is_shared ? QUERY_SHARED_VALUE_BYTES_MAX : 16 * MIB));
    sqlite3_limit(q->db, SQLITE_LIMIT_ATTACHED, 0);
    if (is_shared)
        sqlite3_limit(q->db, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_BYTES_WHEN_SHARED);
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0, NULL);
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_set_authorizer(q->db, authorize, q);
    sqlite3_progress_handler(q->db, is_shared ? STEPS_WHEN_SHARED : STEPS_BETWEEN_ASKING, on_steps,
                             q);
    return FB_OK;
}

void query_close(struct query *q)
{
    if (!q)
        return;
    sqlite3_close(q->db);
    free(q);
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    struct query *q = arg;
    (void)a, (void)c, (void)d;
    bool is_function_fine = action != SQLITE_FUNCTION || !b ||
                            (strcmp(b, "load_extension") != 0 && strcmp(b, "fts3_tokenizer") != 0);
    if (is_function_fine && (action == SQLITE_SELECT || action == SQLITE_READ ||
                             action == SQLITE_FUNCTION || action == SQLITE_RECURSIVE))
        return SQLITE_OK;
    q->is_denied = true;
    return SQLITE_DENY;
}

static int on_steps(void *arg)
{
    struct query *q = arg;
    uint64_t max = q->conf.shared_bytes_max;
    if (max && (uint64_t)sqlite3_memory_used() > max) /* of all threads; see query/memory.h */
        q->is_starved = true;
    return q->is_starved || scan_source_is_stopped(&q->conf.source);
}

enum fb_code query_run(struct query *q, const char *sql, const struct query_sink *sink,
                       struct fb_err *err)
{
    sqlite3_stmt *st = NULL;
    const char *rest = NULL;
    enum fb_code code;
    q->error_at = -1;
    q->is_denied = q->is_starved = false;
    q->err = (struct fb_err){0};
    int rc = sqlite3_prepare_v2(q->db, sql, -1, &st, &rest);
    if (rc != SQLITE_OK)
        code = fail_sql(q, rc, err);
    else if (!st)
        code = fb_fail(err, FB_E_USAGE,
                       "the query is empty; `foldback events tables` lists the tables");
    else if (rest[strspn(rest, " \t\r\n;")] != '\0') {
        q->error_at = (int)(rest - sql);
        code = fb_fail(err, FB_E_USAGE, "one SELECT at a time: leave out what follows the first");
    } else
        code = answer(q, st, sink, err);
    sqlite3_finalize(st);
    return code;
}

static struct query_value value_of(sqlite3_stmt *st, int i)
{
    struct query_value v = {.type = QUERY_NULL};
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_INTEGER:
        v.type = QUERY_INTEGER;
        v.integer = sqlite3_column_int64(st, i);
        break;
    case SQLITE_FLOAT:
        v.type = QUERY_REAL;
        v.real = sqlite3_column_double(st, i);
        break;
    case SQLITE_NULL:
        break;
    default: /* text; a BLOB is shown as the bytes it is */
        v.type = QUERY_TEXT;
        v.text.at = (const char *)sqlite3_column_text(st, i);
        v.text.len = (size_t)sqlite3_column_bytes(st, i);
    }
    return v;
}

static enum fb_code answer(struct query *q, sqlite3_stmt *st, const struct query_sink *sink,
                           struct fb_err *err)
{
    uint32_t count = (uint32_t)sqlite3_column_count(st);
    const char **names = calloc(count + 1, sizeof *names);
    struct query_value *row = calloc(count + 1, sizeof *row);
    enum fb_code code = FB_OK;
    int rc = SQLITE_NOMEM;
    if (!names || !row)
        goto done;
    for (uint32_t i = 0; i < count; i++)
        names[i] = sqlite3_column_name(st, (int)i);
    bool goes_on = sink->on_head(sink->arg, names, count);
    while (goes_on && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        for (uint32_t i = 0; i < count; i++)
            row[i] = value_of(st, (int)i);
        goes_on = sink->on_row(sink->arg, row, count);
    }
    if (!goes_on)
        rc = SQLITE_INTERRUPT;
done:
    if (rc != SQLITE_DONE)
        code = fail_sql(q, rc, err);
    free(names);
    free(row);
    return code;
}

/* What to do about SQLite's sentence: never nothing. */
static const char *next_step(const char *why)
{
    static const struct {
        const char *part, *step;
    } rows[] = {
        {"no such table", "`foldback events tables` lists tables and columns"},
        {"no such column", "`foldback events tables` lists tables and columns"},
        {"no such function", "`foldback events tables` lists the functions"},
        {"wrong number of arguments", "`foldback events tables` shows how each is called"},
        {"ambiguous column", "write TABLE.COLUMN"},
        {"misuse of aggregate", "conditions on count(), p99() and the like stand behind HAVING"},
        {"syntax error", "it is the SELECT of SQLite, for example: SELECT reason, count(*) FROM "
                         "request WHERE time_us > ago('5m') GROUP BY reason"},
        {"incomplete input", "something is missing at its end: a closing bracket, a quote, or what "
                             "follows the last word"},
        {"unrecognized token", "text stands in 'single quotes', names of columns in none; "
                               "`foldback events tables` lists them"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (strstr(why, rows[i].part))
            return rows[i].step;
    return "`foldback events tables` lists tables, columns and functions";
}

static enum fb_code fail_sql(struct query *q, int rc, struct fb_err *err)
{
    q->error_at = sqlite3_error_offset(q->db);
    if (q->err.code != FB_OK) {
        if (err)
            *err = q->err;
        return q->err.code;
    }
    if (q->is_denied || strstr(sqlite3_errmsg(q->db), "may not be modified"))
        return fb_fail(err, FB_E_DENIED, "the log is read-only here: only SELECT is allowed, no %s",
                       "ATTACH, PRAGMA or anything that writes");
    if (rc == SQLITE_NOMEM || q->is_starved) {
        bool is_shared = q->conf.shared_bytes_max > 0;
        uint64_t max = is_shared ? q->conf.shared_bytes_max : QUERY_HEAP_BYTES_MAX;
        return fb_fail(err, FB_E_NOMEM,
                       "the query needs more than %u MiB: ask for a shorter time (%s) or for fewer "
                       "groups",
                       (unsigned)(max / MIB), is_shared ? "time_us > ago('10m')" : "--since 10m");
    }
    if (rc == SQLITE_INTERRUPT)
        return fb_fail(err, FB_E_AGAIN, "stopped");
    const char *why = sqlite3_errmsg(q->db);
    return fb_fail(err, FB_E_USAGE, "%s; %s", why, next_step(why));
}

int query_error_at(const struct query *q)
{
    return q->error_at;
}

const struct scan_source *query_source(const struct query *q)
{
    return &q->conf.source;
}
