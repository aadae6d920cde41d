/* SPDX-License-Identifier: Apache-2.0 */
/* table: the log as virtual tables of SQLite.
 *
 * xBestIndex writes down which comparisons it can look at itself, as "column,operator;" per value
 * that xFilter then gets.  Every one of them is looked at again by SQLite (omit stays 0), so here
 * it is enough never to drop a row that belongs to the answer. */
#include "base/assert.h"
#include "event/cloudevent.h"
#include "query/query_int.h"
#include "query/when.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONDITIONS_MAX 16
#define PLAN_BYTES (CONDITIONS_MAX * 12)
/* What a whole log costs, against what conditions leave of it: guesses that only order joins. */
#define ROWS_OF_A_LOG 1e7

struct vtab {
    sqlite3_vtab base;
    struct query *query;
    const struct column_table *columns;
};

struct condition {
    const struct column *column;
    int op; /* SQLITE_INDEX_CONSTRAINT_EQ, GT, LE, LT, GE */
    enum query_value_type type;
    int64_t integer;
    double real;
    struct span text; /* into cursor.text */
};

struct cursor {
    sqlite3_vtab_cursor base;
    struct scan scan;
    struct scan_event now;
    bool is_at_end;
    struct condition condition[CONDITIONS_MAX];
    uint32_t condition_count;
    char text[CONDITIONS_MAX][NAME_BYTES];
};

static int advance(struct cursor *c);

static struct vtab *vtab_of(struct cursor *c)
{
    return (struct vtab *)(void *)c->base.pVtab;
}

static int fail(struct cursor *c, enum fb_code code)
{
    if (code == FB_E_AGAIN)
        return SQLITE_INTERRUPT;
    if (code == FB_E_NOMEM)
        return SQLITE_NOMEM;
    sqlite3_free(c->base.pVtab->zErrMsg);
    c->base.pVtab->zErrMsg = sqlite3_mprintf("%s", vtab_of(c)->query->err.text);
    return SQLITE_ERROR;
}

static int table_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                         sqlite3_vtab **out, char **error)
{
    const struct query_table *table = aux;
    const struct column_table *columns = table->columns;
    struct buf sql;
    (void)argc, (void)argv, (void)error;
    buf_init(&sql, 64 * KIB);
    buf_puts(&sql, "CREATE TABLE x(");
    for (uint32_t i = 0; i < columns->count; i++) {
        const struct column *c = &columns->at[i];
        buf_printf(&sql, "%s\"%s\" %s", i ? ", " : "", c->name,
                   c->kind == COLUMN_TIME ? "TEXT COLLATE " QUERY_TIME_COLLATION
                   : c->is_text           ? "TEXT"
                   : c->is_real           ? "REAL"
                                          : "INTEGER");
    }
    buf_puts(&sql, ")");
    int rc = sql.failed ? SQLITE_NOMEM : sqlite3_declare_vtab(db, buf_str(&sql));
    buf_fini(&sql);
    if (rc != SQLITE_OK)
        return rc;
    struct vtab *v = sqlite3_malloc64(sizeof *v);
    if (!v)
        return SQLITE_NOMEM;
    *v = (struct vtab){.query = table->query, .columns = columns};
    *out = &v->base;
    return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *v)
{
    sqlite3_free(v);
    return SQLITE_OK;
}

static bool is_bound(const struct column *c)
{
    return c->kind == COLUMN_OFFSET || c->kind == COLUMN_TIME || c->kind == COLUMN_TIME_US;
}

/* Can a comparison of this column be looked at here?  What is redacted reads "-" to SQLite. */
static bool can_push(const struct column *c, int op)
{
    bool is_eq = op == SQLITE_INDEX_CONSTRAINT_EQ;
    if (!is_eq && op != SQLITE_INDEX_CONSTRAINT_GT && op != SQLITE_INDEX_CONSTRAINT_GE &&
        op != SQLITE_INDEX_CONSTRAINT_LT && op != SQLITE_INDEX_CONSTRAINT_LE)
        return false;
    switch ((enum column_kind)c->kind) {
    case COLUMN_OFFSET:
    case COLUMN_TIME:
    case COLUMN_TIME_US:
        return true;
    case COLUMN_TYPE:
    case COLUMN_WORD:
        return is_eq;
    case COLUMN_FIELD:
        return c->field->privacy != EV_PERSONAL && (is_eq || !c->is_text);
    default:
        return false;
    }
}

static int table_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    const struct column_table *columns = ((struct vtab *)(void *)base)->columns;
    char *plan = sqlite3_malloc(PLAN_BYTES);
    int used = 0, len = 0;
    double rows = ROWS_OF_A_LOG, cost = ROWS_OF_A_LOG;
    if (!plan)
        return SQLITE_NOMEM;
    plan[0] = '\0';
    for (int i = 0; i < info->nConstraint && used < CONDITIONS_MAX; i++) {
        int at = info->aConstraint[i].iColumn, op = info->aConstraint[i].op;
        const char *collation = sqlite3_vtab_collation(info, i);
        if (!info->aConstraint[i].usable || at < 0)
            continue;
        const struct column *c = &columns->at[at];
        /* IN comes as EQ, once per value: as a condition of SQLite it costs one scan, not many. */
        if (!can_push(c, op) || (!is_bound(c) && sqlite3_vtab_in(info, i, -1)) ||
            strcmp(collation, c->kind == COLUMN_TIME ? QUERY_TIME_COLLATION : "BINARY") != 0)
            continue;
        info->aConstraintUsage[i].argvIndex = ++used;
        len += snprintf(plan + len, PLAN_BYTES - (size_t)len, "%d,%d;", at, op);
        fb_assert(len < PLAN_BYTES);
        bool is_one = c->kind == COLUMN_OFFSET && op == SQLITE_INDEX_CONSTRAINT_EQ;
        rows = is_one ? 1 : rows / (op == SQLITE_INDEX_CONSTRAINT_EQ ? 20 : 4);
        cost = is_one ? 1000 : is_bound(c) ? cost / 4 : cost / 1.5;
    }
    info->idxStr = plan;
    info->needToFreeIdxStr = 1;
    info->estimatedCost = cost;
    info->estimatedRows = (sqlite3_int64)(rows < 1 ? 1 : rows);
    info->orderByConsumed = info->nOrderBy == 1 && !info->aOrderBy[0].desc &&
                            info->aOrderBy[0].iColumn >= 0 &&
                            columns->at[info->aOrderBy[0].iColumn].kind == COLUMN_OFFSET;
    return SQLITE_OK;
}

static int table_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct query *q = ((struct vtab *)(void *)base)->query;
    struct cursor *c = calloc(1, sizeof *c);
    if (!c)
        return SQLITE_NOMEM;
    c->base.pVtab = base;
    if (q->conf.shared_bytes_max && q->open_tables >= QUERY_SHARED_TABLES_MAX) {
        int rc = fail(c, fb_fail(&q->err, FB_E_USAGE,
                                 "more than %d tables in one query; `foldback "
                                 "events query` takes them",
                                 QUERY_SHARED_TABLES_MAX));
        free(c);
        return rc;
    }
    enum fb_code code = scan_open(&c->scan, &q->conf.source, &q->err);
    if (code != FB_OK) {
        int rc = fail(c, code);
        free(c);
        return rc;
    }
    q->open_tables++;
    *out = &c->base;
    return SQLITE_OK;
}

static int table_close(sqlite3_vtab_cursor *base)
{
    struct cursor *c = (struct cursor *)(void *)base;
    vtab_of(c)->query->open_tables--;
    scan_close(&c->scan);
    free(c);
    return SQLITE_OK;
}

/* ---- what is wanted ---- */

/* [*from, *until) of whole numbers made smaller by a comparison with <v>. */
static void narrow(int op, uint64_t v, uint64_t *from, uint64_t *until)
{
    uint64_t next = v == UINT64_MAX ? v : v + 1;
    if (op == SQLITE_INDEX_CONSTRAINT_EQ || op == SQLITE_INDEX_CONSTRAINT_GE)
        *from = fb_max_u64(*from, v);
    if (op == SQLITE_INDEX_CONSTRAINT_GT)
        *from = fb_max_u64(*from, next);
    if (op == SQLITE_INDEX_CONSTRAINT_LT)
        *until = fb_min_u64(*until, v);
    if (op == SQLITE_INDEX_CONSTRAINT_EQ || op == SQLITE_INDEX_CONSTRAINT_LE)
        *until = fb_min_u64(*until, next);
}

/* A comparison of offset, time or time_us.  SQLITE_OK, also when it bounds nothing. */
static int take_bound(struct cursor *c, const struct column *column, int op, sqlite3_value *v)
{
    struct scan_bounds *b = &c->scan.bounds;
    uint64_t us;
    if (column->kind == COLUMN_TIME) {
        if (sqlite3_value_type(v) != SQLITE_TEXT)
            return SQLITE_OK;
        struct span text = {(const char *)sqlite3_value_text(v), (size_t)sqlite3_value_bytes(v)};
        if (when_parse(text, &us)) {
            narrow(op, us, &b->since_us, &b->until_us);
            return SQLITE_OK;
        }
        enum fb_code code =
            fb_fail(&vtab_of(c)->query->err, FB_E_USAGE,
                    "\"%.*s\" is no time; write time > '2026-11-22T17:00:00Z' or time_us > "
                    "ago('10m')",
                    (int)fb_min_u64(text.len, 60), text.at);
        return fail(c, code);
    }
    if (sqlite3_value_type(v) != SQLITE_INTEGER || sqlite3_value_int64(v) < 0)
        return SQLITE_OK;
    us = (uint64_t)sqlite3_value_int64(v);
    if (column->kind == COLUMN_OFFSET)
        narrow(op, us, &b->from_offset, &b->until_offset);
    else
        narrow(op, us, &b->since_us, &b->until_us);
    return SQLITE_OK;
}

/* Any other comparison; what cannot be looked at here is left to SQLite. */
static void take_condition(struct cursor *c, const struct column *column, int op, sqlite3_value *v)
{
    struct condition *one = &c->condition[c->condition_count];
    *one = (struct condition){.column = column, .op = op};
    switch (sqlite3_value_type(v)) {
    case SQLITE_INTEGER:
        one->type = QUERY_INTEGER;
        one->integer = sqlite3_value_int64(v);
        one->real = (double)one->integer;
        break;
    case SQLITE_FLOAT:
        one->type = QUERY_REAL;
        one->real = sqlite3_value_double(v);
        break;
    case SQLITE_TEXT: {
        size_t len = (size_t)sqlite3_value_bytes(v);
        if (len >= NAME_BYTES)
            return;
        memcpy(c->text[c->condition_count], sqlite3_value_text(v), len);
        one->type = QUERY_TEXT;
        one->text = (struct span){c->text[c->condition_count], len};
        break;
    }
    default:
        return;
    }
    if (column->kind == COLUMN_TYPE) {
        if (one->type == QUERY_TEXT) /* no type has number 0: an unknown name finds nothing */
            c->scan.bounds.types = UINT64_C(1) << ev_type_by_name(one->text);
        return;
    }
    bool is_hex = column->kind == COLUMN_FIELD && column->meaning == MEANS_HEX;
    if (is_hex || column->is_text != (one->type == QUERY_TEXT))
        return;
    c->condition_count++;
}

static int table_filter(sqlite3_vtab_cursor *base, int number, const char *plan, int argc,
                        sqlite3_value **argv)
{
    struct cursor *c = (struct cursor *)(void *)base;
    struct query *q = vtab_of(c)->query;
    const struct column_table *columns = vtab_of(c)->columns;
    (void)number;
    c->condition_count = 0;
    c->is_at_end = false;
    c->scan.bounds =
        (struct scan_bounds){.until_offset = UINT64_MAX,
                             .since_us = q->conf.since_us,
                             .until_us = q->conf.until_us,
                             .types = columns->type ? UINT64_C(1) << columns->type : 0};
    for (int i = 0; i < argc; i++) {
        int at, op, used = 0;
        if (sscanf(plan, "%d,%d;%n", &at, &op, &used) != 2 || used == 0)
            return SQLITE_CORRUPT_VTAB;
        plan += used;
        const struct column *column = &columns->at[at];
        int rc = SQLITE_OK;
        if (is_bound(column))
            rc = take_bound(c, column, op, argv[i]);
        else
            take_condition(c, column, op, argv[i]);
        if (rc != SQLITE_OK)
            return rc;
    }
    struct scan_bounds bounds = c->scan.bounds;
    enum fb_code code = scan_begin(&c->scan, &bounds, &q->err);
    if (code != FB_OK)
        return fail(c, code);
    return advance(c);
}

static bool compares(int op, int order)
{
    switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ:
        return order == 0;
    case SQLITE_INDEX_CONSTRAINT_GT:
        return order > 0;
    case SQLITE_INDEX_CONSTRAINT_GE:
        return order >= 0;
    case SQLITE_INDEX_CONSTRAINT_LT:
        return order < 0;
    default:
        return order <= 0;
    }
}

static bool holds(const struct condition *one, const struct ev_head *ev, const struct names *names)
{
    const struct column *c = one->column;
    if (c->kind == COLUMN_WORD) {
        const char *word = column_word(c, ev, names);
        return word && span_eq(span_of(word), one->text);
    }
    if (c->is_text)
        return span_eq(column_text(ev, c->field), one->text);
    if (c->is_real || one->type == QUERY_REAL) {
        double v =
            c->is_real ? column_f64(ev, c->field) : (double)(int64_t)column_u64(ev, c->field);
        return v == v && compares(one->op, (v > one->real) - (v < one->real));
    }
    int64_t v = (int64_t)column_u64(ev, c->field);
    return compares(one->op, (v > one->integer) - (v < one->integer));
}

/* To the next event that fulfils what was looked at here. */
static int advance(struct cursor *c)
{
    struct query *q = vtab_of(c)->query;
    enum fb_code code;
    while ((code = scan_next(&c->scan, &c->now, &q->err)) == FB_OK) {
        uint32_t i = 0;
        while (i < c->condition_count && holds(&c->condition[i], c->now.ev, &c->scan.names))
            i++;
        if (i == c->condition_count)
            return SQLITE_OK;
    }
    c->is_at_end = true;
    return code == FB_E_END ? SQLITE_OK : fail(c, code);
}

static int table_next(sqlite3_vtab_cursor *base)
{
    return advance((struct cursor *)(void *)base);
}

static int table_eof(sqlite3_vtab_cursor *base)
{
    return ((struct cursor *)(void *)base)->is_at_end;
}

static int table_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct cursor *)(void *)base)->now.offset;
    return SQLITE_OK;
}

/* ---- values ---- */

static void result_text(sqlite3_context *ctx, struct span text)
{
    sqlite3_result_text(ctx, text.at, (int)text.len, SQLITE_TRANSIENT);
}

static void result_hex(sqlite3_context *ctx, uint64_t v)
{
    char text[20];
    int len = snprintf(text, sizeof text, "%016" PRIx64, v);
    sqlite3_result_text(ctx, text, len, SQLITE_TRANSIENT);
}

static void result_json(sqlite3_context *ctx, const struct cursor *c, bool is_redacted)
{
    struct buf text;
    struct json j;
    buf_init(&text, 64 * KIB);
    json_init(&j, &text);
    ev_to_json(&j, c->now.ev, c->now.offset, is_redacted);
    if (text.failed)
        sqlite3_result_error_nomem(ctx);
    else
        result_text(ctx, buf_span(&text));
    buf_fini(&text);
}

static void result_field(sqlite3_context *ctx, const struct column *c, const struct ev_head *ev,
                         bool is_redacted)
{
    if (c->field->privacy == EV_PERSONAL && is_redacted)
        sqlite3_result_text(ctx, "-", 1, SQLITE_STATIC);
    else if (c->field->type == EV_FT_text)
        result_text(ctx, column_text(ev, c->field));
    else if (c->is_real)
        sqlite3_result_double(ctx, column_f64(ev, c->field));
    else if (c->meaning == MEANS_HEX)
        result_hex(ctx, column_u64(ev, c->field));
    else
        sqlite3_result_int64(ctx, (int64_t)column_u64(ev, c->field));
}

static int table_column(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int at)
{
    struct cursor *cur = (struct cursor *)(void *)base;
    const struct vtab *v = vtab_of(cur);
    const struct column *c = &v->columns->at[at];
    const struct ev_head *ev = cur->now.ev;
    char time[CLOUDEVENT_TIME_BYTES];
    fb_assert(at >= 0 && (uint32_t)at < v->columns->count);
    switch ((enum column_kind)c->kind) {
    case COLUMN_OFFSET:
        sqlite3_result_int64(ctx, (sqlite3_int64)cur->now.offset);
        break;
    case COLUMN_TIME:
        cloudevent_time(time, cur->now.wall_us);
        sqlite3_result_text(ctx, time, -1, SQLITE_TRANSIENT);
        break;
    case COLUMN_TIME_US:
        sqlite3_result_int64(ctx, (sqlite3_int64)cur->now.wall_us);
        break;
    case COLUMN_TYPE:
        sqlite3_result_text(ctx, ev_type_row(ev->type)->name, -1, SQLITE_STATIC);
        break;
    case COLUMN_JSON:
        result_json(ctx, cur, v->query->conf.is_redacted);
        break;
    case COLUMN_FIELD:
        result_field(ctx, c, ev, v->query->conf.is_redacted);
        break;
    case COLUMN_WORD:
        sqlite3_result_text(ctx, column_word(c, ev, &cur->scan.names), -1, SQLITE_TRANSIENT);
        break;
    case COLUMN_STREAM_US:
        sqlite3_result_int64(ctx, (sqlite3_int64)ev->time_us);
        break;
    case COLUMN_ORIGIN:
        sqlite3_result_int64(ctx, ev->origin);
        break;
    case COLUMN_SEQUENCE:
        sqlite3_result_int64(ctx, ev->sequence);
        break;
    case COLUMN_NODE:
        result_hex(ctx, cur->now.node);
        break;
    }
    return SQLITE_OK;
}

/* Without xCreate the tables are there from the start, and nothing else can be made of them. */
const sqlite3_module query_table_module = {.iVersion = 2,
                                           .xConnect = table_connect,
                                           .xBestIndex = table_best_index,
                                           .xDisconnect = table_disconnect,
                                           .xOpen = table_open,
                                           .xClose = table_close,
                                           .xFilter = table_filter,
                                           .xNext = table_next,
                                           .xEof = table_eof,
                                           .xColumn = table_column,
                                           .xRowid = table_rowid};
