/* SPDX-License-Identifier: Apache-2.0 */
/* reader: events of the log by offset, in any process, while the writer writes.
 *
 * Reads only what the watermark calls durable.  Each record comes once and in the order of offsets.
 * A hole in the offsets (damage, a disk that was full, retention) is told as FB_E_DAMAGED with a
 * struct log_skip; the next call goes on behind it.  Keys are those of the folder that <dir> lies
 * in (guard/keyring.h): a reader without the right ones is refused when it opens, with FB_E_KEY.  A
 * committed position per reader is kept in state.h.
 *
 * Threads: a struct log_reader belongs to one thread. */
#ifndef FB_STREAM_READER_H
#define FB_STREAM_READER_H
#include "event/event.h"

/* Why offsets are missing. */
struct log_skip {
    uint64_t from, to; /* first missing offset, first one there again */
    /* REASON_LOSS_DAMAGED, REASON_LOSS_DISK; REASON_NONE: retention removed them, or their key was
     * destroyed */
    uint16_t reason;
    char sentence[160];
};

struct log_reader;
/* <from>: offset of the first wanted event; LOG_FROM_START, LOG_FROM_END. */
#define LOG_FROM_START UINT64_C(0)
#define LOG_FROM_END UINT64_MAX
FB_MUST_USE
enum fb_code log_reader_open(struct log_reader **reader, const char *dir, uint64_t from,
                             struct fb_err *err);
void log_reader_close(struct log_reader *r);
/* FB_OK: *ev is borrowed until the next call.  FB_E_END: nothing more yet, try again later.
 * FB_E_DAMAGED: a hole, see log_reader_skip; *offset is the next one there.  FB_E_IO, FB_E_KEY (a
 * key is missing): the next call tries the same block again. */
FB_MUST_USE
enum fb_code log_reader_next(struct log_reader *r, const struct ev_head **ev, uint64_t *offset);
/* After FB_E_KEY or FB_E_IO: one sentence for the operator. */
const char *log_reader_why(const struct log_reader *r);
const struct log_skip *log_reader_skip(const struct log_reader *r);
/* The wall clock of the record that log_reader_next gave last. */
uint64_t log_reader_wall_us(const struct log_reader *r);
/* The node that wrote it: with the offset, the name of the event everywhere (event/cloudevent.h).
 */
uint64_t log_reader_node(const struct log_reader *r);
/* The start of that node's brain which wrote it. */
uint32_t log_reader_epoch(const struct log_reader *r);
/* The period under whose keys the personal fields of that record are sealed; 0: none are. */
uint32_t log_reader_period(const struct log_reader *r);
/* May blocks of the log be sealed, now or from before? */
bool log_reader_is_sealed(const struct log_reader *r);
/* Offset of the oldest record that was kept when the reader was opened. */
uint64_t log_reader_first(const struct log_reader *r);
/* Offset of the next record. */
uint64_t log_reader_offset(const struct log_reader *r);
FB_MUST_USE
enum fb_code log_reader_seek(struct log_reader *r, uint64_t offset);
/* To the first event at or after the wall clock time <wall_us> (from 1970). */
FB_MUST_USE
enum fb_code log_reader_seek_wall(struct log_reader *r, uint64_t wall_us);
/* What a scan may leave out.  It stays over a seek. */
struct log_wants {
    uint64_t since_us, until_us; /* wall clock: blocks wholly outside are passed over unread */
    uint64_t types; /* bit per type: of the others only the head is sure to be right; 0: all */
};
void log_reader_want(struct log_reader *r, const struct log_wants *wants);
/* Events between the next record and the durable end. */
uint64_t log_reader_lag(const struct log_reader *r);
#endif
