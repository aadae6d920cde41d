/* SPDX-License-Identifier: Apache-2.0 */
/* log_hour: bytes per request event of an hour at the demo's rate, in seconds.
 * `log_hour DIRECTORY [requests/s [seconds [group ms]]]`; the directory is made, and best in
 * memory.
 *
 * Requests of traffic.h come at 300 per second, as in the demo, and are committed each 20 ms, so
 * that a block holds six.  A segment is finished and compacted as the log does it by time
 * (writer.c, is_to_roll): after 300 s, or after 60 s while it is a sixteenth of the log.  Prints
 * bytes per event of the whole log each 10 minutes, the open segment with its small blocks
 * included. */
#include "base/clock.h"
#include "stream/compact.h"
#include "stream/log.h"
#include "stream/writer.h"
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SEGMENT_S 300
#define EARLY_S 60
#define EARLY_PART 16
#define SAY_S 600

struct hour {
    double begin_us, end_us, group_us;
};

static void fail(const char *what, const struct fb_err *err)
{
    fprintf(stderr, "log_hour: %s: %s\n", what, err->text);
    exit(1);
}

/* All segments but the newest, as the writer does it. */
static void compact_finished(const char *dir, const struct log_io *io)
{
    struct segment_list list;
    struct fb_err err;
    struct compact_result result;
    if (segment_list_read(&list, dir, &err) != FB_OK)
        fail(dir, &err);
    struct compact_from from = {.dir = dir, .io = io};
    for (size_t i = 0; i + 1 < list.count; i++)
        compact_segment(&from, &list.at[i], &result);
    segment_list_fini(&list);
}

static uint64_t bytes_of(const char *dir)
{
    struct segment_list list;
    struct fb_err err;
    uint64_t bytes = 0;
    if (segment_list_read(&list, dir, &err) != FB_OK)
        fail(dir, &err);
    for (size_t i = 0; i < list.count; i++)
        bytes += list.at[i].bytes;
    segment_list_fini(&list);
    return bytes;
}

static void say(double begin_us, const struct traffic *t, uint64_t requests, uint64_t bytes)
{
    printf("%5.0f s  %8llu requests  %6.2f bytes each\n", (t->now_us - begin_us) / 1e6,
           (unsigned long long)requests, (double)bytes / (double)requests);
}

/* One segment of traffic, committed each <group_us> of its time, until it is to be finished. */
static uint64_t write_segment(const char *dir, struct traffic *t, uint64_t offset,
                              const struct hour *h)
{
    static struct ev_request batch[BLOCK_RAW_BYTES_MAX / sizeof(struct ev_request)];
    struct log_conf conf;
    struct log *log;
    struct fb_err err;
    log_conf_init(&conf);
    conf.node = conf.epoch = 1;
    conf.compact_us = 0;
    conf.group_us = 100;
    if (log_open(&log, dir, &conf, NULL, &err) != FB_OK)
        fail(dir, &err);
    struct log_stats st;
    double from_us = t->now_us, age_s = 0;
    uint64_t before = bytes_of(dir), open = 0;
    while (t->now_us < h->end_us && age_s < SEGMENT_S &&
           (age_s < EARLY_S || open < (before + open) / EARLY_PART)) {
        double until_us = t->now_us + h->group_us, was_us = t->now_us;
        size_t n = 0;
        while (n < FB_COUNT(batch) && (n == 0 || t->now_us < until_us))
            traffic_next(t, &batch[n++]);
        offset += log_append(log, (struct span){(const char *)batch, n * sizeof batch[0]}, offset);
        if (log_flush(log, 20000) != FB_OK)
            exit(1);
        log_stats_read(log, &st);
        open = st.log_bytes - before;
        age_s = (t->now_us - from_us) / 1e6;
        if ((uint64_t)((was_us - h->begin_us) / 1e6 / SAY_S) <
            (uint64_t)((t->now_us - h->begin_us) / 1e6 / SAY_S))
            say(h->begin_us, t, offset, st.log_bytes);
    }
    log_close(log);
    return offset;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: log_hour DIRECTORY [REQUESTS_PER_S [SECONDS [GROUP_MS]]]\n");
        return 2;
    }
    double per_s = argc > 2 ? atof(argv[2]) : 300, seconds = argc > 3 ? atof(argv[3]) : 3600;
    struct log_io io = {0};
    struct traffic t;
    uint64_t offset = 0;
    log_io_complete(&io);
    traffic_init(&t, 1, 1, per_s);
    const struct hour h = {.begin_us = t.now_us,
                           .end_us = t.now_us + seconds * 1e6 + 1,
                           .group_us = (argc > 4 ? atof(argv[4]) : 20) * 1000};
    (void)mkdir(argv[1], 0750);
    while (t.now_us < h.end_us) {
        offset = write_segment(argv[1], &t, offset, &h);
        compact_finished(argv[1], &io);
    }
    return 0;
}
