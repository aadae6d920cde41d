/* SPDX-License-Identifier: Apache-2.0 */
/* log: the embedded event log; append, group commit, recovery, retention.
 *
 *   <dir>/lock  watermark  0000000001-00000000000000000000.fbl  0000000002-...fbl  compact.tmp
 *
 *   log_append --copy--> chunks (256 KiB each, bounded)
 *       writer thread: encode, write, fdatasync --> log_acknowledged, watermark --> readers
 *       compactor thread: finished segments of small blocks --> full blocks (compactor.h)
 *
 * Promises: an acknowledged event survives a crash of the process and of the machine.  log_append
 * never waits for the disk: when all chunks are full it drops, counts, and log_gap_take gives a gap
 * event once writing works again.  Offsets belong to the caller's numbering; a drop leaves a hole
 * in them.  A group is committed after group_us or group_bytes with one fdatasync.  A failed
 * fdatasync poisons its segment (the kernel may have dropped the pages: never synced again); the
 * group, still in memory, goes to a new one.  ENOSPC, EIO: state degraded, one try per second, new
 * segment each.
 *
 * Threads: one thread calls append and gap_take; stats and has_room from any; the writer thread is
 * the log's. Errors: FB_E_CONFLICT (another writer holds the lock), FB_E_IO, FB_E_NOMEM at open
 * only. */
#ifndef FB_STREAM_LOG_H
#define FB_STREAM_LOG_H
#include "event/event.h"

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

/* System calls that a test replaces to make a disk fail; NULL members: the real ones. */
struct log_io {
    ssize_t (*pwrite)(int fd, const void *bytes, size_t len, off_t at);
    int (*sync)(int fd); /* fdatasync */
    /* A new file and its name in the directory, durable; a descriptor or -1. */
    int (*create)(const char *dir, const char *path);
    int (*truncate)(int fd, off_t bytes);
    /* Renames <from> over <to>, durable. */
    int (*replace)(const char *dir, const char *from, const char *to);
    int (*stat_at)(int dir_fd, const char *name, struct stat *st); /* fstatat */
    int (*open_read)(const char *path); /* a finished segment, for the compactor */
    ssize_t (*pread)(int fd, void *bytes, size_t len, off_t at); /* of its blocks' bodies */
    uint64_t (*wall_us)(void); /* the wall clock, which may jump */
};

struct log_conf {
    uint64_t node;            /* id of this node, in every block */
    uint32_t epoch;           /* starts of the brain, from state_epoch_next */
    uint64_t next_offset_min; /* numbering never begins below: the offset of the loaded snapshot */
    uint64_t segment_bytes;   /* 64 KiB .. 1 GiB; 64 MiB */
    uint64_t retain_bytes;    /* of all segments together; 0: no bound */
    uint64_t retain_s;        /* age; 0: no bound */
    uint64_t operational_s;   /* age of the operational fields in it; 0: no bound */
    uint64_t operational_bytes; /* of the segments that have some; 0: no bound */
    uint64_t queue_bytes;       /* records that wait for the disk; 512 KiB .. 1 GiB; 8 MiB */
    uint32_t group_us;          /* longest wait of an event for its group; 20,000 */
    uint32_t group_bytes;       /* of records: commit at once; 4 KiB .. 4 MiB; 256 KiB */
    uint32_t retry_ms;          /* between tries on a failing disk; 1,000 */
    /* A segment of small blocks is finished after this long (longer where retain_s would then make
     * more than COMPACT_SEGMENTS_MAX of them; a fifth of it while the log is small), and finished
     * segments of small blocks are compacted (compact.h); 300 s; 0: neither. */
    uint64_t compact_us;
    uint32_t compact_retry_ms; /* after a failure; 60,000 */
    uint32_t close_timeout_ms; /* longest wait of log_close for the disk; 2,000 */
    struct log_io io;
    struct keyring *keys; /* borrowed; NULL: blocks stay clear */
};
/* The defaults above; the caller sets node and epoch. */
void log_conf_init(struct log_conf *conf);

/* What log_open found and did. */
struct log_recovery {
    uint32_t segments, segments_scanned;
    uint64_t first_offset, next_offset; /* of the log as it is now */
    uint64_t torn_bytes;                /* cut from the tail */
    uint32_t damaged_places;            /* runs of bad bytes between good blocks */
    uint64_t damaged_bytes;
    uint64_t lost_events; /* offsets missing in the scanned segments */
    uint64_t took_us;
    char sentence[240]; /* for the operator */
};

enum log_state { LOG_OK, LOG_DEGRADED };
struct log_stats {
    enum log_state state;
    char reason[160];        /* why degraded, "" when ok */
    uint64_t next_offset;    /* everything below is acknowledged, or counted in <lost> */
    uint64_t appended, lost; /* events in this epoch */
    uint64_t blocks, groups; /* written */
    uint64_t stored_bytes;   /* written with headers */
    uint64_t raw_bytes;      /* the same events as records */
    uint64_t queued_bytes;   /* records that wait */
    uint64_t log_bytes;      /* all segments */
    uint64_t first_offset;   /* oldest still kept */
    uint64_t newest_offset;  /* first one of the newest segment */
    uint64_t segments;
    uint64_t failures;         /* failed writes, syncs, creations */
    uint64_t expired_segments; /* removed by retention */
    uint32_t sync_us_max;      /* slowest fdatasync */
    struct log_compacted {
        uint64_t segments, before_bytes, after_bytes, failures;
        uint64_t worked_us; /* time that it took, without the rests */
        bool is_failing;
        char reason[160]; /* of the last failure */
        /* Segments whose operational fields are too old, or too many, and could not be cleared:
         * tried again, each after compact_retry_ms, twice as long with each try, an hour at most.
         */
        uint32_t uncleared;
        uint64_t clear_failures;
        char clear_reason[160]; /* of the last one */
    } compacted;
};
/* Segments that time alone has finished are at most so many. */
#define COMPACT_SEGMENTS_MAX 2048

struct log;
/* Creates <dir> when it is missing.  *recovery may be NULL. */
FB_MUST_USE
enum fb_code log_open(struct log **log, const char *dir, const struct log_conf *conf,
                      struct log_recovery *recovery, struct fb_err *err);
/* Commits what waits (at most close_timeout_ms) and ends the writer. */
void log_close(struct log *log);

/* Retention, segment size and commit interval of <conf> from the next group on, which is at once on
 * a log that is written to.  FB_E_RANGE: nothing changed. */
FB_MUST_USE
enum fb_code log_reconfigure(struct log *log, const struct log_conf *conf, struct fb_err *err);

/* Offset of the first event to append: where the sequencer begins. */
uint64_t log_next_offset(const struct log *log);
/* Copies a batch of whole records, the first of which has <first_offset> (never below an earlier
 * one). Returns how many events were taken; the others are lost and counted. */
uint32_t log_append(struct log *log, struct span records, uint64_t first_offset);
/* Are <chunks> chunks (of 256 KiB) free, or half of them in a smaller queue?  Who can wait asks
 * before log_append. */
bool log_has_room(struct log *log, uint32_t chunks);
/* True once after a loss, when writing works again: *gap is ready for sequencer_put. */
bool log_gap_take(struct log *log, struct ev_gap *gap);
/* Everything below this offset is durable (or lost). */
uint64_t log_acknowledged(const struct log *log);
/* Waits until everything appended is durable; FB_E_TIMEOUT.  For shutdown and tests, not for a
 * loop. */
FB_MUST_USE
enum fb_code log_flush(struct log *log, uint32_t timeout_ms);
void log_stats_read(struct log *log, struct log_stats *stats);
#endif
