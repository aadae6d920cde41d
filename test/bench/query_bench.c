/* SPDX-License-Identifier: Apache-2.0 */
/* query_bench: what a question to the log costs.  `query_bench [millions of events [directory]]`.
 *
 * Writes a log of that many requests, with a decision per 2,000 of them, then asks.  Read is what
 * was looked at; a block outside the time that is asked for is not. */
#include "base/clock.h"
#include "query/query.h"
#include "stream/log.h"
#include "traffic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STEP 2000
#define PER_S 50000.0

static void append(struct log *log, const void *records, size_t len, uint64_t offset,
                   uint32_t count)
{
    struct log_stats st;
    for (log_stats_read(log, &st); st.queued_bytes > 6 * MIB; log_stats_read(log, &st))
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    if (log_append(log, (struct span){records, len}, offset) != count)
        exit(1);
}

static void make_log(const char *dir, uint64_t events)
{
    struct log_conf conf;
    struct log *log;
    struct traffic t;
    log_conf_init(&conf);
    conf.node = 1;
    if (log_open(&log, dir, &conf, NULL, NULL) != FB_OK)
        exit(1);
    traffic_init(&t, 1, 2, PER_S);
    static struct ev_request step[STEP];
    uint64_t offset = 0;
    for (uint16_t i = 0; i < 12; i++, offset++) {
        struct ev_name n = EV_INIT(NAME, name, (uint64_t)t.now_us);
        n.number = i;
        n.kind = EV_KIND_ROUTE;
        snprintf(n.name, sizeof n.name, "shop /route%u", i);
        append(log, &n, sizeof n, offset, 1);
    }
    for (uint64_t n = 0; n < events; n += STEP) {
        for (size_t i = 0; i < STEP; i++)
            traffic_next(&t, &step[i]);
        append(log, step, sizeof step, offset, STEP);
        offset += STEP;
        struct ev_decision d = EV_INIT(DECISION, decision, (uint64_t)t.now_us);
        d.decision_id = n / STEP;
        append(log, &d, sizeof d, offset++, 1);
    }
    if (log_flush(log, 60000) != FB_OK)
        exit(1);
    log_close(log);
}

static uint64_t rows;

static bool on_head(void *arg, const char *const *names, uint32_t count)
{
    (void)arg, (void)names, (void)count;
    return true;
}

static bool on_row(void *arg, const struct query_value *values, uint32_t count)
{
    (void)arg, (void)values, (void)count;
    rows++;
    return true;
}

static void ask(const char *dir, const char *sql)
{
    struct query_conf conf = {.source.dir = dir, .until_us = UINT64_MAX, .now_us = fb_wall_us()};
    struct query_sink sink = {.on_head = on_head, .on_row = on_row};
    struct query *q;
    struct fb_err err = {0};
    rows = 0;
    if (query_open(&q, &conf, &err) != FB_OK)
        exit(1);
    uint64_t begin = fb_mono_us(), cpu = fb_thread_cpu_us();
    if (query_run(q, sql, &sink, &err) != FB_OK) {
        fprintf(stderr, "%s: %s\n", sql, err.text);
        exit(1);
    }
    double took_us = (double)(fb_mono_us() - begin), cpu_us = (double)(fb_thread_cpu_us() - cpu);
    uint64_t scanned = query_source(q)->scanned;
    printf("%8.1f ms  CPU %8.1f ms  read %10" PRIu64 "  %6.2f M events/s  %8" PRIu64 " rows  %s\n",
           took_us / 1e3, cpu_us / 1e3, scanned, (double)scanned / cpu_us, rows, sql);
    query_close(q);
}

int main(int argc, char **argv)
{
    char dir[256], command[300], sql[200];
    uint64_t events = (uint64_t)((argc > 1 ? atof(argv[1]) : 5) * 1e6);
    snprintf(dir, sizeof dir, "%s/foldback-query-bench-%d", argc > 2 ? argv[2] : "/tmp",
             (int)getpid());
    make_log(dir, events);
    ask(dir, "SELECT count(*) FROM request");
    ask(dir, "SELECT p99(total_us) FROM request");
    ask(dir, "SELECT route, count(*), p50(total_us), p99(total_us) FROM request GROUP BY route");
    ask(dir, "SELECT route_id, count(*), p99(total_us) FROM request GROUP BY route_id");
    ask(dir, "SELECT count(*), p99(total_us) FROM request WHERE route = 'shop /route7'");
    ask(dir, "SELECT count(*), p99(total_us) FROM request WHERE +route = 'shop /route7'");
    ask(dir, "SELECT count(*) FROM request WHERE status >= 500");
    ask(dir, "SELECT count(*) FROM decision");
    ask(dir, "SELECT bucket(time, '1s'), count(*) FROM request GROUP BY 1");
    /* The last second of the log: by time, by offset, and in a way that cannot be pushed down. */
    double first_us = 5e9, last_us = first_us + (double)events / PER_S * 1e6;
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    if (log_reader_open(&r, dir, LOG_FROM_START, NULL) != FB_OK ||
        log_reader_next(r, &ev, &offset) != FB_OK)
        exit(1);
    double wall_us = (double)log_reader_wall_us(r) + last_us - first_us - 1e6;
    log_reader_close(r);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM request WHERE time_us >= %.0f", wall_us);
    ask(dir, sql);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM request WHERE +time_us >= %.0f", wall_us);
    ask(dir, sql);
    snprintf(sql, sizeof sql, "SELECT * FROM request WHERE \"offset\" = %" PRIu64, events / 2);
    ask(dir, sql);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
