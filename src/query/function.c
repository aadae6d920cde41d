/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that SQLite lacks:
 *
 *   p50(x) p90(x) p99(x) p999(x) quantile(x, q)   aggregates on a sketch, within 1 %
 *   bucket(time, '10s')     text of the time at which the stretch begins that holds <time>
 *   seconds('10s')          10.0, so that count(*) / seconds('10s') is a rate
 *   ago('5m')               time_us five minutes before the query began
 *   iso(us)                 a time_us as text
 *
 * The sketch takes any number: times in us are only some of what is asked for.  Masson, Rim, Lee,
 * "DDSketch" (VLDB 2019): buckets whose bounds grow by 2 %, for both signs, from 1e-9 to 1e19 (what
 * is nearer to zero counts as zero), and the exact least and greatest. */
#include "base/assert.h"
#include "event/cloudevent.h"
#include "query/query_int.h"
#include "query/when.h"

#include <math.h>
#include <string.h>

#define LEAST 1e-9
#define GROWTH 1.02
#define BUCKETS 3257 /* log(1e19 / LEAST) / log(GROWTH), and one */

struct quantile {
    bool is_begun;
    double q, min, max;
    uint64_t n, zeros;
    uint64_t below[BUCKETS], above[BUCKETS]; /* by magnitude */
};

static struct span text_of(sqlite3_value *v)
{
    const char *at = (const char *)sqlite3_value_text(v);
    return (struct span){at ? at : "", at ? (size_t)sqlite3_value_bytes(v) : 0};
}

static size_t bucket_of(double magnitude);

/* The level of p50 .. p999 is the user data; quantile has it as its second argument. */
static void quantile_step(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    const double *level = sqlite3_user_data(ctx);
    int type = sqlite3_value_numeric_type(argv[0]);
    struct quantile *s = sqlite3_aggregate_context(ctx, sizeof *s);
    if (!s) {
        sqlite3_result_error_nomem(ctx);
        return;
    }
    if (type == SQLITE_NULL)
        return;
    if (type != SQLITE_INTEGER && type != SQLITE_FLOAT) {
        sqlite3_result_error(ctx, "a quantile needs numbers, not text", -1);
        return;
    }
    double v = sqlite3_value_double(argv[0]);
    if (!s->is_begun) {
        s->is_begun = true;
        s->min = s->max = v;
        s->q = argc == 2 ? sqlite3_value_double(argv[1]) : *level;
        if (!(s->q > 0 && s->q <= 1)) {
            sqlite3_result_error(ctx, "quantile(x, q): q must be above 0 and at most 1", -1);
            return;
        }
    }
    s->n++;
    s->min = fmin(s->min, v);
    s->max = fmax(s->max, v);
    if (fabs(v) < LEAST)
        s->zeros++;
    else
        (v < 0 ? s->below : s->above)[bucket_of(fabs(v))]++;
}

static size_t bucket_of(double magnitude)
{
    double at = log(magnitude / LEAST) / log(GROWTH);
    return at < 0 ? 0 : at < BUCKETS - 1 ? (size_t)at : BUCKETS - 1;
}

/* No value of the bucket is further away than 1 % of itself. */
static double value_of(size_t bucket)
{
    return LEAST * pow(GROWTH, (double)bucket) * 2 * GROWTH / (1 + GROWTH);
}

static double quantile_of(const struct quantile *s)
{
    double rank = fmax(1, ceil(s->q * (double)s->n));
    uint64_t seen = 0;
    for (size_t i = BUCKETS; i-- > 0;)
        if ((double)(seen += s->below[i]) >= rank)
            return -value_of(i);
    if ((double)(seen += s->zeros) >= rank)
        return 0;
    for (size_t i = 0; i < BUCKETS; i++)
        if ((double)(seen += s->above[i]) >= rank)
            return value_of(i);
    return s->max;
}

static void quantile_final(sqlite3_context *ctx)
{
    struct quantile *s = sqlite3_aggregate_context(ctx, 0);
    if (!s || s->n == 0)
        sqlite3_result_null(ctx);
    else
        sqlite3_result_double(ctx, fb_clamp(quantile_of(s), s->min, s->max));
}

static void fail_length(sqlite3_context *ctx)
{
    sqlite3_result_error(ctx, "a length of time is a number and us, ms, s, m, h or d, as '10s'",
                         -1);
}

/* A time as text or in us; false when it is none (NULL is given back as NULL). */
static bool time_arg(sqlite3_context *ctx, sqlite3_value *v, uint64_t *us)
{
    switch (sqlite3_value_type(v)) {
    case SQLITE_NULL:
        sqlite3_result_null(ctx);
        return false;
    case SQLITE_INTEGER:
    case SQLITE_FLOAT:
        *us = sqlite3_value_double(v) > 0 ? (uint64_t)sqlite3_value_int64(v) : 0;
        return true;
    default:
        if (when_parse(text_of(v), us))
            return true;
        sqlite3_result_error(ctx,
                             "a time is a number of us since 1970, or like "
                             "'2026-11-22T17:00:00Z'",
                             -1);
        return false;
    }
}

/* Without a fraction when there is none, so that whole seconds read well. */
static void result_time(sqlite3_context *ctx, uint64_t us)
{
    char text[CLOUDEVENT_TIME_BYTES];
    cloudevent_time(text, us);
    if (us % 1000000 == 0)
        strcpy(text + 19, "Z");
    sqlite3_result_text(ctx, text, -1, SQLITE_TRANSIENT);
}

static void bucket(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    uint64_t us, width_us;
    fb_assert(argc == 2);
    if (!when_parse_length(text_of(argv[1]), &width_us))
        fail_length(ctx);
    else if (time_arg(ctx, argv[0], &us))
        result_time(ctx, us - us % width_us);
}

static void iso(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    char text[CLOUDEVENT_TIME_BYTES];
    uint64_t us;
    fb_assert(argc == 1);
    if (!time_arg(ctx, argv[0], &us))
        return;
    cloudevent_time(text, us);
    sqlite3_result_text(ctx, text, -1, SQLITE_TRANSIENT);
}

static void seconds(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    uint64_t us;
    fb_assert(argc == 1);
    if (when_parse_length(text_of(argv[0]), &us))
        sqlite3_result_double(ctx, (double)us / 1e6);
    else
        fail_length(ctx);
}

static void ago(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    const struct query *q = sqlite3_user_data(ctx);
    uint64_t us;
    fb_assert(argc == 1);
    if (when_parse_length(text_of(argv[0]), &us))
        sqlite3_result_int64(ctx, (int64_t)fb_sub_floor_u64(q->conf.now_us, us));
    else
        fail_length(ctx);
}

static int compare_times(void *arg, int a_len, const void *a, int b_len, const void *b)
{
    (void)arg;
    return when_compare((struct span){a, (size_t)a_len}, (struct span){b, (size_t)b_len});
}

int query_add_functions(struct query *q)
{
    static double levels[] = {0.5, 0.9, 0.99, 0.999};
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
    int rc = SQLITE_OK;
    for (size_t i = 0; rc == SQLITE_OK && i < FB_COUNT(names); i++)
        rc = sqlite3_create_function_v2(q->db, names[i], 1, flags, &levels[i], NULL, quantile_step,
                                        quantile_final, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function_v2(q->db, "quantile", 2, flags, NULL, NULL, quantile_step,
                                        quantile_final, NULL);
    static const struct {
        const char *name;
        int args;
        void (*call)(sqlite3_context *ctx, int argc, sqlite3_value **argv);
    } scalars[] = {
        {"bucket", 2, bucket}, {"iso", 1, iso}, {"seconds", 1, seconds}, {"ago", 1, ago}};
    for (size_t i = 0; rc == SQLITE_OK && i < FB_COUNT(scalars); i++)
        rc = sqlite3_create_function_v2(q->db, scalars[i].name, scalars[i].args, flags, q,
                                        scalars[i].call, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_collation_v2(q->db, QUERY_TIME_COLLATION, SQLITE_UTF8, NULL,
                                         compare_times, NULL);
    return rc;
}
