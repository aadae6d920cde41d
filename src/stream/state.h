/* SPDX-License-Identifier: Apache-2.0 */
/* state: the small things that must survive: snapshots, reader positions, pins, the epoch.
 *
 * One SQLite file (<dir>/state.db, WAL, synchronous=FULL).  A damaged file is moved aside as
 * state.db.damaged-<n>, a new one is made, and the caller is told.  A snapshot and the offset that
 * it stands for are one transaction; the two newest of each name are kept, so that a damaged one
 * falls back, and the anchors: snapshots from which old parts of the log can be read when the parts
 * before them are gone.  Snapshots hold what the log holds, so they are encrypted when it is, with
 * the same keys (guard/keyring.h); offset, epoch and name are bound to them.  A snapshot must stand
 * for an acknowledged offset (log_acknowledged).
 *
 * Threads: a struct state belongs to one thread; other processes may open the same file. */
#ifndef FB_STREAM_STATE_H
#define FB_STREAM_STATE_H
#include "base/error.h"
#include "base/span.h"

#define STATE_SNAPSHOT_BYTES_MAX (256 * MIB)
#define STATE_ANCHORS_MAX 64 /* of all names; beyond it the second oldest goes */

struct state;
struct state_report {
    bool was_damaged;
    char sentence[400]; /* "" when all is well */
};
/* <report> may be NULL. */
FB_MUST_USE
enum fb_code state_open(struct state **state, const char *dir, struct state_report *report,
                        struct fb_err *err);
/* To look only: nothing is made, repaired or moved, whatever is wrong with the file. */
FB_MUST_USE
enum fb_code state_peek(struct state **state, const char *dir, struct fb_err *err);
void state_close(struct state *st);

/* Adds 1 to the epoch and returns it in *epoch: each start of the brain has its own, from 1. */
FB_MUST_USE
enum fb_code state_epoch_next(struct state *st, uint32_t *epoch, struct fb_err *err);

struct state_snapshot {
    uint64_t offset; /* the blob is fold(events below offset) */
    uint32_t epoch;
    uint64_t saved_wall_us;
    void *bytes; /* the caller's; free() it */
    size_t len;
    uint32_t damaged; /* newer ones that had to be passed over */
    /* save only */
    bool is_anchor;        /* kept while its offset is not below <first_offset> of a later save */
    uint64_t first_offset; /* of the log: anchors below it are let go */
};
FB_MUST_USE
enum fb_code state_snapshot_save(struct state *st, const char *name,
                                 const struct state_snapshot *snap, struct fb_err *err);
/* The newest whole one; FB_E_NOT_FOUND when there is none, FB_E_DAMAGED when all are damaged,
 * FB_E_KEY when the newest is encrypted and its key is not there. */
FB_MUST_USE
enum fb_code state_snapshot_load(struct state *st, const char *name, struct state_snapshot *snap,
                                 struct fb_err *err);

/* The oldest whole one with an offset of at least <offset_min>; FB_E_NOT_FOUND. */
FB_MUST_USE
enum fb_code state_snapshot_find(struct state *st, const char *name, uint64_t offset_min,
                                 struct state_snapshot *snap, struct fb_err *err);

/* How many snapshots are encrypted with that key. */
FB_MUST_USE
enum fb_code state_snapshot_uses(struct state *st, uint32_t key_id, uint32_t *count,
                                 struct fb_err *err);

/* Committed positions of readers, by name. */
FB_MUST_USE
enum fb_code state_offset_set(struct state *st, const char *reader, uint64_t offset,
                              struct fb_err *err);
FB_MUST_USE
enum fb_code state_offset_get(struct state *st, const char *reader, uint64_t *offset,
                              struct fb_err *err); /* FB_E_NOT_FOUND */

/* Text by key, in spaces of their own ("meta", "pin"). */
FB_MUST_USE
enum fb_code state_meta_set(struct state *st, const char *key, struct span value,
                            struct fb_err *err);
/* *value is the caller's, terminated; free() it.  FB_E_NOT_FOUND. */
FB_MUST_USE
enum fb_code state_meta_get(struct state *st, const char *key, char **value, struct fb_err *err);
FB_MUST_USE
enum fb_code state_pin_set(struct state *st, const char *key, struct span json, struct fb_err *err);
FB_MUST_USE
enum fb_code state_pin_delete(struct state *st, const char *key, struct fb_err *err);

enum state_list { STATE_LIST_META, STATE_LIST_PINS, STATE_LIST_READERS, STATE_LIST_SNAPSHOTS };
/* Calls <each> per row in the order of keys; <value> of readers is the offset, of snapshots
 * "offset epoch bytes".  Stops when <each> returns false. */
typedef bool (*state_each)(void *arg, const char *key, struct span value);
FB_MUST_USE
enum fb_code state_list(struct state *st, enum state_list what, state_each each, void *arg,
                        struct fb_err *err);
#endif
