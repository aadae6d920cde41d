/* SPDX-License-Identifier: Apache-2.0 */
/* log_big: opening, recovering and seeking in a large log, cold and warm.
 *
 *   log_big DIRECTORY [gib=10] [segment_mib=64]
 *
 * Makes <gib> GiB of segments in DIRECTORY (which must not exist; removed at the end unless keep=1)
 * out of 64 blocks of the traffic of traffic.h, written again and again under new offsets, places
 * and times.  "Cold" means that the kernel was told to forget the files first. */
#include "base/clock.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "stream/segment.h"
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS (BLOCK_RAW_BYTES_MAX / sizeof(struct ev_request))
#define BLOCKS 64
#define SEEKS 200

struct kept_block {
    struct block_head head;
    unsigned char *bytes;
};

static const char *dir;
static uint64_t gib = 10, segment_mib = 64, keep;

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "log_big: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct kept_block *make_blocks(struct block_codec *c)
{
    struct kept_block *b = calloc(BLOCKS, sizeof *b);
    struct ev_request *events = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    struct traffic t;
    traffic_init(&t, 1, 2, 200000);
    for (size_t i = 0; i < BLOCKS; i++) {
        struct span block;
        for (size_t k = 0; k < EVENTS; k++)
            traffic_next(&t, &events[k]);
        b[i].head = (struct block_head){.node = 1, .epoch = 1, .has_acknowledged = true};
        struct span records = {(const char *)events, BLOCK_RAW_BYTES_MAX};
        if (block_encode(c, &b[i].head, records, &block) != FB_OK)
            give_up("encode");
        b[i].bytes = malloc(block.len);
        memcpy(b[i].bytes, block.at, block.len);
    }
    free(events);
    return b;
}

/* block_seal writes into the codec's own buffer: a header there, then ours. */
static void write_block(struct block_codec *c, int fd, struct kept_block *b, uint32_t segment,
                        uint64_t position)
{
    struct span sealed;
    struct ev_request one = EV_INIT(REQUEST, request, 1);
    struct block_head scratch = b->head;
    if (block_encode(c, &scratch, (struct span){(const char *)&one, sizeof one}, &sealed) != FB_OK)
        give_up("encode");
    block_seal(c, &b->head, segment, (uint32_t)position);
    memcpy(b->bytes, sealed.at, BLOCK_HEADER_BYTES);
    uint32_t len = block_bytes(&b->head);
    if (pwrite(fd, b->bytes, len, (off_t)position) != (ssize_t)len)
        give_up("write");
}

static uint64_t make_log(struct block_codec *c, struct kept_block *blocks)
{
    uint64_t offset = 0, bytes = 0, n = 0;
    uint64_t span_us = blocks[BLOCKS - 1].head.last_us - blocks[0].head.first_us + 1;
    for (uint32_t number = 1; bytes < gib * (uint64_t)GIB; number++) {
        char name[SEGMENT_NAME_BYTES], path[4200];
        segment_name(name, number, offset);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
        if (fd < 0)
            give_up(path);
        uint64_t position = 0;
        for (; position < segment_mib * (uint64_t)MIB; n++) {
            struct kept_block *b = &blocks[n % BLOCKS];
            if (n >= BLOCKS) {
                b->head.first_us += span_us;
                b->head.last_us += span_us;
            }
            b->head.first_offset = b->head.acknowledged = offset;
            write_block(c, fd, b, number, position);
            position += block_bytes(&b->head);
            offset += b->head.count;
        }
        bytes += position;
        if (fdatasync(fd) != 0)
            give_up(path);
        close(fd);
    }
    return offset;
}

static void forget_pages(void)
{
    struct segment_list list;
    if (segment_list_read(&list, dir, NULL) != FB_OK)
        give_up(dir);
    for (size_t i = 0; i < list.count; i++) {
        char name[SEGMENT_NAME_BYTES], path[4200];
        segment_name(name, list.at[i].number, list.at[i].first_offset);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        int fd = open(path, O_RDONLY);
        if (fd >= 0) {
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            close(fd);
        }
    }
    segment_list_fini(&list);
}

static void bench_open(const char *what)
{
    struct log *log;
    struct log_conf conf;
    struct log_recovery rec;
    struct fb_err err;
    log_conf_init(&conf);
    conf.segment_bytes = segment_mib * (uint64_t)MIB;
    uint64_t begin = fb_mono_us();
    if (log_open(&log, dir, &conf, &rec, &err) != FB_OK) {
        fprintf(stderr, "log_big: %s\n", err.text);
        exit(1);
    }
    printf("open and recover, %s  %8.1f ms  (%u of %u segments scanned)\n", what,
           (double)(fb_mono_us() - begin) / 1e3, rec.segments_scanned, rec.segments);
    log_close(log);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A reader from an offset: opened, the event read, closed; by the clock. */
static void bench_seek(const char *what, uint64_t end)
{
    static uint64_t took[SEEKS];
    struct rng rng;
    rng_init(&rng, 3);
    for (size_t i = 0; i < SEEKS; i++) {
        struct log_reader *r;
        const struct ev_head *ev;
        uint64_t offset, wanted = rng_u64(&rng) % end, begin = fb_mono_us();
        if (log_reader_open(&r, dir, wanted, NULL) != FB_OK ||
            log_reader_next(r, &ev, &offset) != FB_OK || offset != wanted)
            give_up("seek");
        took[i] = fb_mono_us() - begin;
        log_reader_close(r);
    }
    qsort(took, SEEKS, sizeof took[0], by_size);
    printf("reader from an offset, %s  %8.2f ms median, %.2f ms 99 %%, %.2f ms worst of %d\n", what,
           (double)took[SEEKS / 2] / 1e3, (double)took[SEEKS * 99 / 100] / 1e3,
           (double)took[SEEKS - 1] / 1e3, SEEKS);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: log_big DIRECTORY [gib=10] [segment_mib=64] [keep=1]\n");
        return 2;
    }
    dir = argv[1];
    for (int i = 2; i < argc; i++) {
        struct span value, name = span_cut(span_of(argv[i]), '=', &value);
        uint64_t *to = span_eq(name, span_of("gib"))           ? &gib
                       : span_eq(name, span_of("segment_mib")) ? &segment_mib
                                                               : &keep;
        if (!span_to_u64(value, to))
            return 2;
    }
    if (mkdir(dir, 0750) != 0)
        give_up(dir);
    struct block_codec *c = block_codec_new();
    uint64_t begin = fb_mono_us(), end = make_log(c, make_blocks(c));
    printf("%" PRIu64 " GiB in segments of %" PRIu64 " MiB, %" PRIu64 " events, made in %.0f s\n",
           gib, segment_mib, end, (double)(fb_mono_us() - begin) / 1e6);
    forget_pages();
    bench_open("cold");
    bench_open("warm");
    forget_pages();
    bench_seek("cold", end);
    bench_seek("warm", end);
    block_codec_free(c);
    char command[4300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return keep || system(command) == 0 ? 0 : 1;
}
