/* SPDX-License-Identifier: Apache-2.0 */
/* log_bench: what the log costs.  `log_bench [seconds [directory [sealed]]]`; pin it with taskset
 * -c 0 for one core.
 *
 * Prints bytes per request event, encode and decode rates of one thread without a disk, durable
 * appends per second (producer and writer thread together), replay per second and the time of a
 * seek. */
#include "base/clock.h"
#include "stream/block.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "stream/sequencer.h"
#include "traffic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EVENTS (BLOCK_RAW_BYTES_MAX / sizeof(struct ev_request))
#define BATCHES 64

static struct keyring *keys;      /* NULL: blocks stay clear */
static struct ev_request *events; /* BATCHES x EVENTS, made before the clock runs */

static void make_events(double per_s, uint32_t threads)
{
    struct traffic t;
    traffic_init(&t, 1, threads, per_s);
    for (size_t i = 0; i < BATCHES * EVENTS; i++)
        traffic_next(&t, &events[i]);
}

/* Bytes per event of blocks with <per_block> events. */
static double bytes_per_event(struct block_codec *c, size_t per_block)
{
    uint64_t bytes = 0, count = 0;
    for (size_t at = 0; at + per_block <= BATCHES * EVENTS / 4; at += per_block) {
        struct block_head h = {.node = 1, .epoch = 1, .first_offset = at};
        struct span block,
            records = {(const char *)&events[at], per_block * sizeof(struct ev_request)};
        if (block_encode(c, &h, records, &block) != FB_OK)
            exit(1);
        bytes += block.len;
        count += per_block;
    }
    return (double)bytes / (double)count;
}

static void bench_codec(struct block_codec *c)
{
    unsigned char *block = malloc(BLOCK_BYTES_MAX);
    unsigned char *out = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    struct block_head h = {.node = 1, .epoch = 1};
    struct span b = {0};
    uint64_t begin = fb_thread_cpu_us();
    for (size_t i = 0; i < BATCHES; i++)
        if (block_encode(c, &h,
                         (struct span){(const char *)&events[i * EVENTS], BLOCK_RAW_BYTES_MAX},
                         &b) != FB_OK)
            exit(1);
    uint64_t encode_us = fb_thread_cpu_us() - begin;
    begin = fb_thread_cpu_us();
    block_seal(c, &h, 1, 0);
    printf("seal, one block   %8.0f us\n", (double)(fb_thread_cpu_us() - begin));
    memcpy(block, b.at, b.len);
    begin = fb_thread_cpu_us();
    for (size_t i = 0; i < BATCHES; i++) {
        struct span body = {(char *)block + BLOCK_HEADER_BYTES, b.len - BLOCK_HEADER_BYTES};
        if (!block_body_is_good(&h, body) || block_decode(c, &h, body, out) != FB_OK)
            exit(1);
    }
    uint64_t decode_us = fb_thread_cpu_us() - begin;
    double n = (double)(BATCHES * EVENTS);
    printf("encode            %8.2f M events/s\n", n / (double)encode_us);
    printf("decode            %8.2f M events/s\n", n / (double)decode_us);
    free(block);
    free(out);
}

static void bench_append(const char *dir, double seconds)
{
    struct log_conf conf;
    struct log_stats st;
    struct fb_err err;
    struct log *log;
    log_conf_init(&conf);
    conf.node = 1;
    conf.epoch = 1;
    conf.keys = keys;
    if (log_open(&log, dir, &conf, NULL, &err) != FB_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    uint64_t offset = log_next_offset(log), begin = fb_mono_us(), n = 0;
    /* 512 events a call, as a drain of the rings would bring. */
    const size_t step = 512;
    const uint64_t span_us = events[BATCHES * EVENTS - 1].head.time_us - events[0].head.time_us + 1;
    while ((double)(fb_mono_us() - begin) < seconds * 1e6) {
        log_stats_read(log, &st);
        if (st.queued_bytes > 6 * MIB) {
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
            continue;
        }
        size_t at = (n / step) % (BATCHES * EVENTS / step) * step;
        for (size_t i = 0; n >= BATCHES * EVENTS && i < step; i++)
            events[at + i].head.time_us += span_us; /* the pool again, later */
        struct span records = {(const char *)&events[at], step * sizeof(struct ev_request)};
        if (log_append(log, records, offset) != step)
            exit(1);
        offset += step;
        n += step;
    }
    if (log_flush(log, 10000) != FB_OK)
        exit(1);
    double took_s = (double)(fb_mono_us() - begin) / 1e6;
    log_stats_read(log, &st);
    printf("append, durable   %8.2f M events/s  (%" PRIu64
           " groups, slowest sync %.1f ms, lost %" PRIu64 ")\n",
           (double)n / took_s / 1e6, st.groups, st.sync_us_max / 1e3, st.lost);
    printf("stored            %8.2f bytes per event\n", (double)st.stored_bytes / (double)n);
    log_close(log);
    struct log_recovery rec;
    if (log_open(&log, dir, &conf, &rec, &err) != FB_OK)
        exit(1);
    printf("recovery          %8.2f ms  (%s)\n", (double)rec.took_us / 1e3, rec.sentence);
    log_close(log);
}

static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

/* The worst case of a seek: many small blocks in one segment, as a quiet night leaves them. */
static void make_small_blocks(const char *dir)
{
    struct log_conf conf;
    struct log *log;
    log_conf_init(&conf);
    conf.io.sync = no_sync;
    if (log_open(&log, dir, &conf, NULL, NULL) != FB_OK)
        exit(1);
    for (uint64_t i = 0; i < 30000; i++) {
        log_append(log, (struct span){(const char *)&events[i * 2], 2 * sizeof events[0]}, i * 2);
        if (log_flush(log, 10000) != FB_OK)
            exit(1);
    }
    log_close(log);
}

static void bench_read(const char *dir)
{
    struct log_reader *r;
    struct fb_err err;
    if (log_reader_open(&r, dir, LOG_FROM_START, &err) != FB_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    const struct ev_head *ev;
    uint64_t offset, n = 0, sum = 0, begin = fb_mono_us();
    while (log_reader_next(r, &ev, &offset) == FB_OK) {
        sum += ev->time_us;
        n++;
    }
    double took_us = (double)(fb_mono_us() - begin);
    printf("replay            %8.2f M events/s  (%" PRIu64 " events, check %" PRIx64 ")\n",
           (double)n / took_us, n, sum);
    log_reader_close(r);
}

static void bench_seek(const char *dir, const char *what)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset, end, worst_us = 0, worst_wall_us = 0;
    if (log_reader_open(&r, dir, LOG_FROM_END, NULL) != FB_OK)
        exit(1);
    end = log_reader_offset(r);
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t begin = fb_thread_cpu_us();
        if (log_reader_seek(r, end * i / 200) != FB_OK || log_reader_next(r, &ev, &offset) != FB_OK)
            exit(1);
        worst_us = fb_max_u64(worst_us, fb_thread_cpu_us() - begin);
        uint64_t wall_us = log_reader_wall_us(r);
        begin = fb_thread_cpu_us();
        if (log_reader_seek_wall(r, wall_us) != FB_OK || log_reader_next(r, &ev, &offset) != FB_OK)
            exit(1);
        worst_wall_us = fb_max_u64(worst_wall_us, fb_thread_cpu_us() - begin);
    }
    printf("seek, %s  %8.2f ms by offset, %.2f ms by time, worst CPU of 200\n", what,
           (double)worst_us / 1e3, (double)worst_wall_us / 1e3);
    log_reader_close(r);
}

/* Rings to batches; filling the rings is not counted. */
static void bench_drain(uint32_t threads)
{
    enum { CELLS = 16384 };
    struct ring *ring[8];
    struct sequencer *s =
        sequencer_new(&(struct sequencer_conf){.batch_bytes = (uint32_t)(256 * KIB)});
    for (uint32_t i = 0; i < threads; i++) {
        ring[i] = aligned_alloc(64, ring_bytes(CELLS));
        memset(ring[i], 0, ring_bytes(CELLS));
        ring_init(ring[i], CELLS);
        sequencer_ring_set(s, i, ring[i]);
    }
    uint64_t took_us = 0, n = 0;
    for (size_t at = 0; at + CELLS / 2 <= BATCHES * EVENTS; at += CELLS / 2) {
        for (size_t i = at; i < at + CELLS / 2; i++)
            if (!ring_put(ring[events[i].head.origin % threads], &events[i].head))
                exit(1);
        uint64_t begin = fb_thread_cpu_us();
        for (uint32_t got = 1; got > 0; n += got) {
            sequencer_begin(s);
            got = sequencer_drain(s, 4096);
        }
        sequencer_release(s, UINT64_MAX);
        took_us += fb_thread_cpu_us() - begin;
    }
    printf("drain, %u rings    %8.2f M events/s\n", threads, (double)n / (double)took_us);
    for (uint32_t i = 0; i < threads; i++)
        free(ring[i]);
    sequencer_free(s);
}

static void remove_dir(const char *dir)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "log_bench: %s is left behind\n", dir);
}

/* <dir>/master.key, if the run shall be encrypted; the keys lie where the readers look. */
static void open_keys(const char *dir)
{
    char master[300];
    struct fb_err err;
    struct keyring_conf conf = {.master = master, .period_us = 3600 * US_PER_S};
    snprintf(master, sizeof master, "file:%s/master.key", dir);
    if (keyring_start(&keys, dir, &conf, fb_wall_us(), &err) != FB_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    char dir[256];
    snprintf(dir, sizeof dir, "%s/foldback-log-bench-%d", argc > 2 ? argv[2] : "/tmp",
             (int)getpid());
    events = aligned_alloc(64, BATCHES * BLOCK_RAW_BYTES_MAX);
    struct block_codec *c = block_codec_new();
    if (argc > 3 && strcmp(argv[3], "sealed") == 0)
        open_keys(argc > 2 ? argv[2] : "/tmp");
    block_codec_keys(c, keys);
    static const struct {
        double per_s;
        uint32_t threads;
        size_t per_block;
    } rows[] = {{200000, 1, EVENTS}, {200000, 2, EVENTS}, {50000, 2, 1000},   {5000, 2, 100},
                {1000, 1, 20},       {300, 1, 300},       {200000, 8, EVENTS}};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        make_events(rows[i].per_s, rows[i].threads);
        printf("%7.0f requests/s, %u threads, %4zu a block: %6.2f bytes per event\n", rows[i].per_s,
               rows[i].threads, rows[i].per_block, bytes_per_event(c, rows[i].per_block));
    }
    make_events(200000, 1);
    bench_drain(1);
    make_events(200000, 4);
    bench_drain(4);
    make_events(200000, 2);
    bench_codec(c);
    bench_append(dir, seconds);
    bench_read(dir);
    bench_seek(dir, "full blocks ");
    remove_dir(dir);
    make_events(200000, 2);
    make_small_blocks(dir);
    bench_seek(dir, "small blocks");
    remove_dir(dir);
    block_codec_free(c);
    free(events);
    return 0;
}
