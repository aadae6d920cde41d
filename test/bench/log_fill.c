/* SPDX-License-Identifier: Apache-2.0 */
/* log_fill: appends requests of traffic.h and a tick each 100 ms to the log of a stopped foldback,
 * so that `foldback replay` has something to do.
 *
 *   foldback demo --headless --seconds 10 --state S
 *   log_fill S/foldback/log 5000000 && time foldback replay --state S/foldback
 *
 * What the engine would have decided about them is not in the log: --verify says so and is as fast.
 */
#include "base/clock.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PER_S 20000.0
#define BATCH 256

/* Monotonic time of the last event that is there. */
static uint64_t last_us(const char *dir)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset, us = 0;
    if (log_reader_open(&r, dir, LOG_FROM_START, NULL) != FB_OK)
        exit(1);
    while (log_reader_next(r, &ev, &offset) == FB_OK)
        us = ev->time_us;
    log_reader_close(r);
    return us;
}

int main(int argc, char **argv)
{
    uint64_t count = 0, bytes = 0;
    if (argc != 3 || !span_to_u64(span_of(argv[2]), &count)) {
        fprintf(stderr, "usage: log_fill LOG_DIRECTORY EVENTS\n");
        return 2;
    }
    struct log_conf conf;
    struct log_stats st;
    struct fb_err err;
    struct log *log;
    struct traffic t;
    log_conf_init(&conf);
    conf.node = conf.epoch = 1;
    traffic_init(&t, 1, 2, PER_S);
    uint64_t begin_us = last_us(argv[1]) + 100000, tick = begin_us / 100000;
    t.now_us = (double)begin_us;
    if (log_open(&log, argv[1], &conf, NULL, &err) != FB_OK) {
        fprintf(stderr, "log_fill: %s\n", err.text);
        return 1;
    }
    uint64_t offset = log_next_offset(log), end = offset + count;
    while (offset < end) {
        static struct ev_request batch[BATCH];
        log_stats_read(log, &st);
        if (st.queued_bytes > 4 * MIB) {
            usleep(500);
            continue;
        }
        for (size_t i = 0; i < BATCH; i++)
            traffic_next(&t, &batch[i]);
        offset += log_append(log, (struct span){(char *)batch, sizeof batch}, offset);
        bytes += sizeof batch;
        uint64_t now_us = (uint64_t)t.now_us;
        if (now_us / 100000 > tick) {
            struct ev_tick ev = EV_INIT(TICK, tick, now_us);
            ev.head.origin = EV_ORIGIN_BRAIN;
            ev.tick = tick = now_us / 100000;
            ev.wall_us = fb_wall_us();
            offset += log_append(log, (struct span){(char *)&ev, sizeof ev}, offset);
        }
    }
    if (log_flush(log, 60000) != FB_OK)
        return 1;
    log_close(log);
    printf("%.1f MiB of records appended\n", (double)bytes / (double)MIB);
    return 0;
}
