/* SPDX-License-Identifier: Apache-2.0 */
/* check: reads every block of a log and says what is damaged, where, and which events that cost.
 *
 * Works while a writer writes: it reads up to the watermark, takes no lock and changes nothing.
 * repair.h acts on what it finds.
 *
 * Threads: any; no state of its own. */
#ifndef FB_STREAM_CHECK_H
#define FB_STREAM_CHECK_H
#include "stream/segment.h"

enum check_kind {
    CHECK_DAMAGE,   /* bad bytes between good blocks */
    CHECK_TAIL,     /* bad bytes at the end of a segment */
    CHECK_EMPTY,    /* a segment without any good block */
    CHECK_REPAIRED, /* bad bytes that a repair has marked; nothing is left to do */
    CHECK_HOLE,     /* events are missing, no byte is wrong: the log could not be written then */
};

struct check_place {
    enum check_kind kind;
    uint32_t segment;
    uint64_t segment_first; /* for its name */
    uint64_t position, bytes;
    uint64_t from, to; /* offsets of the missing events; equal: none */
};

/* More are counted, not listed. */
#define CHECK_PLACES_MAX 1000
struct log_check {
    uint64_t segments, blocks, events;
    uint64_t bytes;        /* of all segments */
    uint64_t raw_bytes;    /* of the events as records */
    uint64_t stored_bytes; /* of the good blocks */
    uint64_t before_bytes; /* the same before small blocks were joined (compact.h) */
    uint64_t first_offset, next_offset;
    uint64_t first_wall_us, last_wall_us;
    uint64_t types[EV_TYPE_END]; /* events by type */
    uint64_t sealed_events;      /* in blocks whose key is not there: only checksums were read */
    uint64_t holes, missing;     /* runs of missing offsets; their events */
    uint64_t damaged, damaged_bytes; /* places that a repair would act on */
    uint64_t repaired;
    struct check_place *place;
    size_t place_count;
};

struct log_check_how {
    const char *dir;
    struct block_codec *codec; /* with the keys, borrowed; NULL: one without */
    /* Called about every 32 MiB; NULL: nobody wants to know. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
    void *arg;
};

/* FB_E_IO, FB_E_NOMEM, FB_E_VERSION; what was found until then stands in *found. */
FB_MUST_USE
enum fb_code log_check_run(struct log_check *found, const struct log_check_how *how,
                           struct fb_err *err);
void log_check_fini(struct log_check *found);

/* What a repair writes over the first bytes of a damaged run, so that it is known from then on. */
#define CHECK_MARK_BYTES 32
void check_mark_write(char mark[CHECK_MARK_BYTES], const struct check_place *place);
#endif
