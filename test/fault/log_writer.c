/* SPDX-License-Identifier: Apache-2.0 */
/* log_writer: writes, checks and follows a log of numbered events, for the fault tests.
 *
 *   log_writer append DIR [key=value ...]   until SIGTERM or events=N
 *   log_writer check DIR                    opens (recovers) the log, reads it all, prints JSON
 *   log_writer follow DIR UNTIL             reads while another process writes, up to that offset
 *
 * append prints what happens, a line each:
 *   ready NEXT_OFFSET TORN_BYTES DAMAGED LOST_EVENTS    ack OFFSET    degraded REASON    gap LOST
 *   end ACKNOWLEDGED LOST FAILURES
 * and takes
 *   seed=1  events=0 (no end)  rate=0 (events per second; 0: as fast as the queue takes)
 *   segment=1048576  queue=1048576  fsize=0 (RLIMIT_FSIZE)  retry=100 (ms)
 *   sync_fail=0 (one of N fails)  sync_none=0 (1: syncs lie)
 *
 * All bytes of an event follow from its offset, so that every wrong byte is seen.  A gap event
 * stands at an offset of its own.
 * Exit codes: 0 all is well, 1 a wrong byte or offset, 2 usage, 3 a failure. */
#include "base/clock.h"
#include "base/rng.h"
#include "stream/log.h"
#include "stream/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t is_stopped;
static uint64_t sync_fail, sync_none;

static void on_term(int signal_number)
{
    (void)signal_number;
    is_stopped = 1;
}

static _Noreturn void give_up(const char *what, const char *text)
{
    fprintf(stderr, "log_writer: %s: %s\n", what, text);
    exit(3);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Event <offset>: type, size and all bytes follow from it. */
static size_t numbered(uint64_t offset, union ev_any *any)
{
    static const uint8_t types[] = {EV_REQUEST, EV_REQUEST, EV_REQUEST, EV_GAUGE,
                                    EV_TICK,    EV_REQUEST, EV_ALERT,   EV_CUSTOM};
    uint8_t type = types[mix(offset) % FB_COUNT(types)];
    const struct ev_type_row *row = ev_type_row(type);
    size_t bytes = (size_t)row->cells * EV_CELL_BYTES;
    memset(any, 0, sizeof *any);
    for (size_t at = sizeof(struct ev_head); at < bytes; at += 8) {
        uint64_t v = mix(offset * 64 + at);
        if (at % 3 == 0)
            v &= 0xff; /* some of it packs well */
        memcpy(any->bytes + at, &v, 8);
    }
    any->head.type = type;
    any->head.cells = row->cells;
    any->head.version = 1;
    any->head.origin = (uint8_t)(offset % 3);
    any->head.sequence = (uint32_t)offset;
    any->head.time_us = 1000000 + offset * 20;
    return bytes;
}

static int bad_sync(int fd)
{
    static uint64_t calls;
    if (sync_none)
        return 0;
    if (++calls % sync_fail == 0) {
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

struct options {
    uint64_t seed, events, rate, segment, queue, fsize, retry;
};

static void parse(struct options *o, int argc, char **argv)
{
    struct {
        const char *name;
        uint64_t *to;
    } rows[] = {{"seed", &o->seed},       {"events", &o->events},    {"rate", &o->rate},
                {"segment", &o->segment}, {"queue", &o->queue},      {"fsize", &o->fsize},
                {"retry", &o->retry},     {"sync_fail", &sync_fail}, {"sync_none", &sync_none}};
    for (int i = 3; i < argc; i++) {
        struct span value, name = span_cut(span_of(argv[i]), '=', &value);
        bool is_known = false;
        for (size_t k = 0; k < FB_COUNT(rows); k++)
            if (span_eq(name, span_of(rows[k].name)) && span_to_u64(value, rows[k].to))
                is_known = true;
        if (!is_known) {
            fprintf(stderr, "log_writer: not understood: %s\n", argv[i]);
            exit(2);
        }
    }
}

/* One line, one write: the reader of the pipe sees whole lines even when we are killed. */
static void say(const char *fmt, ...) FB_PRINTF(1, 2);
static void say(const char *fmt, ...)
{
    char line[400];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n > 0 && write(STDOUT_FILENO, line, (size_t)n) != n)
        is_stopped = 1; /* nobody listens any more */
}

struct progress {
    uint64_t acknowledged;
    bool is_degraded;
};

static void tell(struct log *log, struct progress *p)
{
    struct log_stats st;
    uint64_t now = log_acknowledged(log);
    if (now != p->acknowledged)
        say("ack %" PRIu64 "\n", p->acknowledged = now);
    log_stats_read(log, &st);
    bool is_degraded = st.state == LOG_DEGRADED;
    if (is_degraded && !p->is_degraded)
        say("degraded %s\n", st.reason);
    p->is_degraded = is_degraded;
}

/* Appends one batch at <offset>; returns the offset behind it. */
static uint64_t append_batch(struct log *log, uint64_t offset, uint32_t count)
{
    static _Alignas(64) unsigned char batch[256 * EV_CELLS_MAX * EV_CELL_BYTES];
    size_t len = 0;
    struct ev_gap gap;
    uint64_t first = offset;
    if (log_gap_take(log, &gap)) {
        memcpy(batch, &gap, sizeof gap);
        len = sizeof gap;
        offset++;
        say("gap %" PRIu64 "\n", gap.lost);
    }
    for (uint32_t i = 0; i < count; i++) {
        union ev_any any;
        size_t bytes = numbered(offset++, &any);
        memcpy(batch + len, &any, bytes);
        len += bytes;
    }
    log_append(log, (struct span){(char *)batch, len}, first);
    return offset;
}

static int append(const char *dir, const struct options *o)
{
    struct log_conf conf;
    struct log_recovery rec;
    struct log_stats st;
    struct fb_err err;
    struct log *log;
    struct rng rng;
    rng_init(&rng, o->seed);
    log_conf_init(&conf);
    conf.node = 7;
    conf.epoch = (uint32_t)o->seed;
    conf.segment_bytes = o->segment;
    conf.queue_bytes = o->queue;
    conf.retry_ms = (uint32_t)o->retry;
    if (sync_fail || sync_none)
        conf.io.sync = bad_sync;
    if (o->fsize) {
        struct rlimit limit = {o->fsize, o->fsize};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (log_open(&log, dir, &conf, &rec, &err) != FB_OK)
        give_up("open", err.text);
    say("ready %" PRIu64 " %" PRIu64 " %u %" PRIu64 "\n", log_next_offset(log), rec.torn_bytes,
        rec.damaged_places, rec.lost_events);
    uint64_t offset = log_next_offset(log), first = offset, begin_us = fb_mono_us();
    struct progress p = {.acknowledged = offset};
    while (!is_stopped && (o->events == 0 || offset - first < o->events)) {
        uint64_t due = o->rate ? (fb_mono_us() - begin_us) * o->rate / US_PER_S : UINT64_MAX;
        log_stats_read(log, &st);
        bool may_wait = st.state == LOG_OK && st.queued_bytes > o->queue / 2;
        if (offset - first > due || may_wait) {
            nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
        } else {
            offset = append_batch(log, offset, 1 + rng_below(&rng, 200));
        }
        tell(log, &p);
    }
    enum fb_code code = log_flush(log, 5000);
    tell(log, &p);
    log_stats_read(log, &st);
    say("end %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", log_acknowledged(log), st.lost, st.failures);
    log_close(log);
    return code == FB_OK ? 0 : 3;
}

/* True when <ev> is what belongs to <offset>. */
static bool is_right(const struct ev_head *ev, uint64_t offset)
{
    union ev_any any;
    size_t bytes = numbered(offset, &any);
    return ev->cells == any.head.cells && memcmp(ev, &any, bytes) == 0;
}

static int check(const char *dir)
{
    struct log_conf conf;
    struct log_recovery rec;
    struct fb_err err;
    struct log *log;
    struct log_reader *r;
    log_conf_init(&conf);
    if (log_open(&log, dir, &conf, &rec, &err) != FB_OK)
        give_up("open", err.text);
    if (log_reader_open(&r, dir, LOG_FROM_START, &err) != FB_OK)
        give_up("read", err.text);
    const struct ev_head *ev;
    enum fb_code code;
    uint64_t offset, events = 0, wrong = 0, holes = 0, missing = 0, told = 0;
    uint64_t first = log_reader_offset(r);
    while ((code = log_reader_next(r, &ev, &offset)) != FB_E_END) {
        if (code == FB_E_DAMAGED) {
            holes++;
            missing += log_reader_skip(r)->to - log_reader_skip(r)->from;
            continue;
        }
        if (code != FB_OK)
            give_up("read", fb_error_row(code)->what);
        events++;
        if (ev->type == EV_GAP)
            told += ((const struct ev_gap *)(const void *)ev)->lost;
        else
            wrong += !is_right(ev, offset);
    }
    printf("{\"first\": %" PRIu64 ", \"next\": %" PRIu64 ", \"events\": %" PRIu64
           ", \"wrong\": %" PRIu64 ", \"holes\": %" PRIu64 ", \"missing\": %" PRIu64
           ", \"told\": %" PRIu64 ", \"torn_bytes\": %" PRIu64 ", \"damaged_places\": %u"
           ", \"lost_events\": %" PRIu64 ", \"took_us\": %" PRIu64 "}\n",
           first, log_reader_offset(r), events, wrong, holes, missing, told, rec.torn_bytes,
           rec.damaged_places, rec.lost_events, rec.took_us);
    log_reader_close(r);
    log_close(log);
    return wrong ? 1 : 0;
}

static int follow(const char *dir, uint64_t until)
{
    struct log_reader *r;
    struct fb_err err;
    const struct ev_head *ev;
    uint64_t offset, next = 0, ends = 0;
    if (log_reader_open(&r, dir, LOG_FROM_START, &err) != FB_OK)
        give_up("read", err.text);
    uint64_t begin_us = fb_mono_us();
    while (next < until && fb_mono_us() - begin_us < 30 * US_PER_S) {
        enum fb_code code = log_reader_next(r, &ev, &offset);
        if (code == FB_E_END) {
            ends++;
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        if (code != FB_OK)
            give_up("read", log_reader_skip(r)->sentence);
        if (offset != next || !is_right(ev, offset)) {
            fprintf(stderr, "log_writer: wrong event at %" PRIu64 "\n", offset);
            return 1;
        }
        next++;
    }
    printf("%" PRIu64 " %" PRIu64 "\n", next, ends);
    log_reader_close(r);
    return next >= until ? 0 : 3;
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .segment = MIB, .queue = MIB, .retry = 100};
    uint64_t until = 0;
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 3 && strcmp(argv[1], "append") == 0) {
        parse(&o, argc, argv);
        return append(argv[2], &o);
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return check(argv[2]);
    if (argc == 4 && strcmp(argv[1], "follow") == 0 && span_to_u64(span_of(argv[3]), &until))
        return follow(argv[2], until);
    fprintf(stderr,
            "usage: log_writer append DIR [key=value ...] | check DIR | follow DIR UNTIL\n");
    return 2;
}
