/* SPDX-License-Identifier: Apache-2.0 */
/* segment: the files of the log: their names, their order, and blocks in them.
 *
 *   <dir>/0000000007-00000000000000123456.fbl      number of the segment, first offset in it
 *
 * A segment is blocks one after another (block.h), nothing else.  Numbers grow by one or more; a
 * later segment never holds smaller new offsets, but may repeat blocks of a segment whose fdatasync
 * failed.
 *
 * Threads: any; pure functions over file descriptors. */
#ifndef FB_STREAM_SEGMENT_H
#define FB_STREAM_SEGMENT_H
#include "stream/block.h"

#include <sys/stat.h>

struct segment {
    uint32_t number;
    uint64_t first_offset;
    uint64_t bytes;
    uint64_t modified_wall_us;
    /* The writer's: */
    bool is_settled;         /* it was compacted, or need not be */
    bool is_cleared;         /* of operational fields */
    bool wants_clear;        /* the next compaction shall */
    uint8_t clear_tries;     /* that failed, since the start */
    uint64_t clear_again_us; /* not before it; 0: at once */
};
struct segment_list {
    struct segment *at; /* ascending by number */
    size_t count;
};

/* How the system is asked about a file of the directory; fstatat without flags, or a test's. */
typedef int segment_stat(int dir_fd, const char *name, struct stat *st);
/* Reads the directory; FB_E_IO, FB_E_NOMEM.  Free with segment_list_fini.  A file that is gone by
 * now is passed over; any other that cannot be looked at is an error: events would be missing. */
FB_MUST_USE
enum fb_code segment_list_read(struct segment_list *list, const char *dir, struct fb_err *err);
FB_MUST_USE
enum fb_code segment_list_read_by(struct segment_list *list, const char *dir, segment_stat *stat_at,
                                  struct fb_err *err);
void segment_list_fini(struct segment_list *list);
/* Takes files without a byte out of the list that are no part of the chain: the newest segment may
 * be empty when it goes on behind the others, no other one.  <strays>, with room for list->count,
 * gets them (may be NULL); returns how many. */
size_t segment_list_prune(struct segment_list *list, const char *dir, struct segment *strays);
#define SEGMENT_NAME_BYTES 48
void segment_name(char name[SEGMENT_NAME_BYTES], uint32_t number, uint64_t first_offset);

/* Header of segment <number> at <position>.
 * FB_E_END when the bytes end there or before, FB_E_DAMAGED, FB_E_VERSION, FB_E_IO. */
FB_MUST_USE
enum fb_code segment_head_at(int fd, uint32_t number, uint64_t position, struct block_head *head);
/* The first good header at or after <from> and before <until>: how to go on behind damage. */
FB_MUST_USE
enum fb_code segment_head_after(int fd, uint32_t number, uint64_t from, uint64_t until,
                                struct block_head *head);
#endif
