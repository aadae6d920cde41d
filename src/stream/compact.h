/* SPDX-License-Identifier: Apache-2.0 */
/* compact: rewrites a finished segment of small blocks into full ones.
 *
 *   NNN.fbl (small blocks) --read, checked--> compact.tmp (joined blocks) --fdatasync--> rename
 * over NNN.fbl, folder synced
 *
 * Until the rename the old file is untouched, after it the new one is durable: whoever dies
 * between, one of the two is there whole, and the next log_open removes what is left of
 * compact.tmp.  A reader that has the old file open reads it to its end.
 *
 * Holds always: the same events under the same offsets, with the same wall clock, node, epoch and
 * key; personal fields are copied as they are sealed, so that what was erased stays erased and each
 * text keeps its period.  Each joined block is decoded again and compared before it counts.
 * A segment that wants_clear is rewritten whatever its blocks are like, with its operational fields
 * empty (guard/operational.h) and under the key that seals now; never from sealed to clear.
 * Left as they are: a segment with any damage, repaired or not (its bytes are evidence), and one
 * whose blocks are not all under the key that seals now (who destroys a key destroys its blocks).
 *
 * Threads: any, one at a time per folder; the caller holds the lock of the log. */
#ifndef FB_STREAM_COMPACT_H
#define FB_STREAM_COMPACT_H
#include "stream/log.h"
#include "stream/segment.h"

struct compact_from {
    const char *dir;
    const struct log_io *io; /* complete */
    struct keyring *keys;    /* NULL: none */
    /* Called about every 256 KiB of records with the time they took; false: stop.  NULL: go on. */
    bool (*rest)(void *arg, uint64_t worked_us);
    void *arg;
};

struct compact_result {
    uint32_t number;
    bool is_done;                 /* the segment was replaced; else it is as it was */
    bool is_settled;              /* there is no use in trying again */
    bool is_cleared;              /* no operational field is left */
    bool has_failed;              /* <reason> says why */
    uint64_t bytes, before_bytes; /* of the file: now, before */
    uint64_t events, worked_us;
    char reason[160];
};

/* <seg> must be finished: no writer appends to it, all of it is durable. */
void compact_segment(const struct compact_from *from, const struct segment *seg,
                     struct compact_result *result);
/* What a process that died left behind. */
void compact_clean(const char *dir);
/* Is a segment with so many blocks of so many bytes of records worth it? */
bool compact_is_worth(uint64_t blocks, uint64_t raw_bytes);
#endif
