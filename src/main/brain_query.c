/* SPDX-License-Identifier: Apache-2.0 */
#include "main/brain_query.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "main/log_names.h"
#include "query/column.h"
#include "query/memory.h"
#include "query/query.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The loops of the brain come first: a nice of 10 leaves a tenth of a contended core. */
#define NICE 10
#define COLUMNS_SHOWN_MAX 2000 /* as many as SQLite has */

/* One step of SQLite (a function over long text) asks nobody whether it shall end. */
#define FREE_WAIT_US (2 * US_PER_S)

enum job_state { JOB_FREE, JOB_RUNNING, JOB_DONE };
enum { CUT_NOT, CUT_BY_LIMIT, CUT_BY_BYTES };

struct job {
    struct brain_query *of;
    atomic_int state; /* enum job_state; RUNNING to DONE by the thread, the rest by the loop */
    atomic_bool is_left;
    bool is_dropped; /* of the loop */
    uint32_t ticket, rows_max;
    bool is_redacted;
    pthread_t thread;
    char *sql;
    struct log_place place;
    /* of the thread while RUNNING */
    struct buf names, rows; /* names: terminated, one behind the other */
    uint8_t *types;         /* per column: bits of enum query_value_type */
    uint32_t columns, row_count;
    uint8_t cut;
    uint64_t events_read, events_missing, took_us;
    struct admin_query_answer answer;
};
struct brain_query {
    int fd;
    uint32_t last_ticket;
    uint64_t time_us;
    char state_dir[512];
    struct job job[BRAIN_QUERIES_MAX];
};

static void *run(void *arg);
static void release(struct job *j);
static void put_answer(struct job *j, struct buf *body);

struct brain_query *brain_query_new(const char *state_dir, uint64_t time_us)
{
    struct brain_query *bq = calloc(1, sizeof *bq);
    if (!bq)
        return NULL;
    snprintf(bq->state_dir, sizeof bq->state_dir, "%s", state_dir);
    bq->time_us = time_us;
    bq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bq->fd < 0) {
        free(bq);
        return NULL;
    }
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++)
        bq->job[i].of = bq;
    (void)column_table(COLUMN_TABLE_ALL); /* made before threads use it */
    return bq;
}

void brain_query_free(struct brain_query *bq)
{
    if (!bq)
        return;
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++)
        atomic_store(&bq->job[i].is_left, true);
    uint64_t until_us = fb_mono_us() + FREE_WAIT_US;
    bool is_stuck = false;
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++) {
        struct job *j = &bq->job[i];
        while (atomic_load(&j->state) == JOB_RUNNING && fb_mono_us() < until_us)
            usleep(5000);
        if (atomic_load(&j->state) == JOB_RUNNING) {
            fb_log(FB_LOG_WARN,
                   "a query that does not end is left behind: it ends with the process");
            pthread_detach(j->thread);
            is_stuck = true;
        } else if (atomic_load(&j->state) != JOB_FREE) {
            release(j);
        }
    }
    if (is_stuck)
        return; /* its thread still looks here */
    close(bq->fd);
    free(bq);
}

int brain_query_fd(const struct brain_query *bq)
{
    return bq->fd;
}

/* Waits for the thread. */
static void release(struct job *j)
{
    pthread_join(j->thread, NULL);
    free(j->sql);
    free(j->types);
    j->sql = NULL;
    j->types = NULL;
    buf_fini(&j->names);
    buf_fini(&j->rows);
    atomic_store(&j->state, JOB_FREE);
}

static struct job *find_free(struct brain_query *bq)
{
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++) {
        struct job *j = &bq->job[i];
        if (atomic_load(&j->state) == JOB_DONE && j->is_dropped)
            release(j);
        if (atomic_load(&j->state) == JOB_FREE)
            return j;
    }
    return NULL;
}

static bool start(struct job *j)
{
    sigset_t all, was;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    atomic_store(&j->state, JOB_RUNNING);
    bool is_started = pthread_create(&j->thread, NULL, run, j) == 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (!is_started)
        atomic_store(&j->state, JOB_FREE);
    return is_started;
}

enum fb_code brain_query_begin(struct brain_query *bq, const struct admin_query *ask,
                               uint32_t *ticket, struct fb_err *err)
{
    struct job *j = find_free(bq);
    if (!j)
        return fb_fail(err, FB_E_AGAIN, "%d queries run already; ask again when one has ended",
                       BRAIN_QUERIES_MAX);
    enum fb_code code = log_place_find(&j->place, NULL, bq->state_dir, err);
    if (code != FB_OK)
        return code;
    j->sql = strdup(ask->sql);
    j->types = calloc(COLUMNS_SHOWN_MAX, 1);
    j->rows_max = ask->rows_max;
    j->is_redacted = ask->is_redacted;
    j->columns = j->row_count = 0;
    j->cut = CUT_NOT;
    j->is_dropped = false;
    atomic_store(&j->is_left, false);
    j->answer = (struct admin_query_answer){.error_at = -1};
    buf_init(&j->names, 256 * KIB);
    buf_init(&j->rows, BRAIN_QUERY_ANSWER_BYTES_MAX);
    if (!j->sql || !j->types || !start(j)) {
        free(j->sql);
        free(j->types);
        j->sql = NULL;
        j->types = NULL;
        return fb_fail(err, FB_E_AGAIN, "no memory or thread for a query; ask again later");
    }
    j->ticket = ++bq->last_ticket ? bq->last_ticket : ++bq->last_ticket;
    *ticket = j->ticket;
    return FB_OK;
}

static struct job *find(struct brain_query *bq, uint32_t ticket)
{
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++)
        if (atomic_load(&bq->job[i].state) != JOB_FREE && bq->job[i].ticket == ticket)
            return &bq->job[i];
    return NULL;
}

bool brain_query_take(struct brain_query *bq, uint32_t ticket, struct buf *body,
                      struct admin_query_answer *out)
{
    struct job *j = find(bq, ticket);
    fb_assert(j != NULL);
    if (atomic_load(&j->state) != JOB_DONE)
        return false;
    *out = j->answer;
    if (out->err.code == FB_OK)
        put_answer(j, body);
    release(j);
    return true;
}

void brain_query_drop(struct brain_query *bq, uint32_t ticket)
{
    struct job *j = find(bq, ticket);
    if (!j)
        return;
    j->is_dropped = true;
    atomic_store(&j->is_left, true);
}

/* ---- on the thread ---- */

static bool on_head(void *arg, const char *const *names, uint32_t count)
{
    struct job *j = arg;
    fb_assert(count <= COLUMNS_SHOWN_MAX);
    j->columns = count;
    for (uint32_t i = 0; i < count; i++)
        buf_put(&j->names, names[i], strlen(names[i]) + 1);
    return !j->names.failed;
}

static void put_value(struct json *json, const struct query_value *v)
{
    if (v->type == QUERY_INTEGER)
        json_i64(json, v->integer);
    else if (v->type == QUERY_REAL)
        json_f64_exact(json, v->real);
    else if (v->type == QUERY_TEXT)
        json_span(json, v->text);
    else
        json_nil(json);
}

static bool on_row(void *arg, const struct query_value *values, uint32_t count)
{
    struct job *j = arg;
    struct json json;
    size_t before = j->rows.len;
    if (j->row_count == j->rows_max) {
        j->cut = CUT_BY_LIMIT;
        return false;
    }
    if (j->row_count)
        buf_putc(&j->rows, ',');
    json_init(&json, &j->rows);
    json_array_begin(&json);
    for (uint32_t i = 0; i < count; i++)
        put_value(&json, &values[i]);
    json_array_end(&json);
    if (j->rows.failed) { /* what is whole is told, unless that is nothing */
        j->rows.len = before;
        j->rows.failed = false;
        j->cut = CUT_BY_BYTES;
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        j->types[i] |= (uint8_t)(1u << values[i].type);
    j->row_count++;
    return true;
}

static enum fb_code ask(struct job *j, struct query *q, uint64_t stop_us)
{
    const struct query_sink sink = {.on_head = on_head, .on_row = on_row, .arg = j};
    struct fb_err *err = &j->answer.err;
    enum fb_code code = query_run(q, j->sql, &sink, err);
    j->answer.error_at = code == FB_OK ? -1 : query_error_at(q);
    j->events_read = query_source(q)->scanned;
    j->events_missing = query_source(q)->missing;
    if (code != FB_E_AGAIN)
        return code;
    j->answer.error_at = -1;
    if (j->cut == CUT_BY_BYTES && j->row_count == 0)
        return fb_fail(err, FB_E_RANGE, "one row is larger than %u MiB; select fewer columns",
                       (unsigned)(BRAIN_QUERY_ANSWER_BYTES_MAX / MIB));
    if (j->cut != CUT_NOT)
        return FB_OK;
    if (fb_mono_us() >= stop_us)
        return fb_fail(
            err, FB_E_TIMEOUT,
            "the query was stopped after %u s and %.1f M events; bound the time (time_us "
            "> ago('10m')), or use `foldback events query`, which has no limit",
            (unsigned)(j->of->time_us / US_PER_S), (double)j->events_read / 1e6);
    return fb_fail(err, FB_E_AGAIN, "the query was stopped");
}

static void *run(void *arg)
{
    struct job *j = arg;
    struct query *q;
    uint64_t begin_us = fb_mono_us(), one = 1;
    struct query_conf conf = {.now_us = fb_wall_us(),
                              .until_us = UINT64_MAX,
                              .shared_bytes_max = BRAIN_QUERY_BYTES_MAX,
                              .is_redacted = j->is_redacted};
    conf.source = (struct scan_source){.dir = j->place.log,
                                       .names_at = log_names_at,
                                       .arg = &j->place,
                                       .is_left = &j->is_left,
                                       .stop_us = begin_us + j->of->time_us};
    pthread_setname_np(pthread_self(), "fb-query");
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* of this thread only */
    query_memory_limit(BRAIN_QUERY_BYTES_MAX);
    enum fb_code code = query_open(&q, &conf, &j->answer.err);
    if (code == FB_OK) {
        code = ask(j, q, conf.source.stop_us);
        query_close(q);
    }
    j->answer.err.code = code;
    j->took_us = fb_mono_us() - begin_us;
    atomic_store(&j->state, JOB_DONE);
    (void)!write(j->of->fd, &one, sizeof one);
    return NULL;
}

/* ---- the answer ---- */

static const char *type_name(uint8_t seen)
{
    seen &= (uint8_t) ~(1u << QUERY_NULL);
    switch (seen) {
    case 0:
        return "null";
    case 1u << QUERY_INTEGER:
        return "integer";
    case 1u << QUERY_REAL:
    case 1u << QUERY_REAL | 1u << QUERY_INTEGER:
        return "real";
    case 1u << QUERY_TEXT:
        return "text";
    default:
        return "mixed";
    }
}

static void put_answer(struct job *j, struct buf *body)
{
    static const char *const cuts[] = {NULL, "limit", "bytes"};
    struct json json;
    const char *name = j->names.at;
    json_init(&json, body);
    json_object_begin(&json);
    json_key(&json, "columns");
    json_array_begin(&json);
    for (uint32_t i = 0; i < j->columns; i++, name += strlen(name) + 1) {
        json_object_begin(&json);
        json_key_str(&json, "name", name);
        json_key_str(&json, "type", type_name(j->types[i]));
        json_object_end(&json);
    }
    json_array_end(&json);
    json_key(&json, "rows");
    json_array_begin(&json);
    if (j->row_count)
        json_raw(&json, buf_span(&j->rows));
    json_array_end(&json);
    json_key_u64(&json, "row_count", j->row_count);
    json_key_u64(&json, "limit", j->rows_max);
    json_key_bool(&json, "is_cut", j->cut != CUT_NOT);
    json_key_str(&json, "cut_by", cuts[j->cut]);
    json_key_u64(&json, "events_read", j->events_read);
    json_key_u64(&json, "events_missing", j->events_missing);
    json_key_f64(&json, "took_ms", (double)(j->took_us / 100) / 10);
    json_object_end(&json);
}
