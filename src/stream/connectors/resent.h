/* SPDX-License-Identifier: Apache-2.0 */
/* resent: ids of dead letters that their receiver has, but that are still in the file.
 *
 *   add (id, per slice) -> STATE/connectors/NAME.resent, synced -> ... -> take_out, once
 *                                   after a crash: load --------------------^
 *
 * A file of dead letters loses letters only by being written anew, so that a rewrite per slice
 * would cost the square of how many there are.  The ids are 17 bytes each, and the rewrite comes at
 * the end.  Half an id at the end is of a crash: its letter is sent again. Threads: one at a time
 * per connector. */
#ifndef FB_STREAM_CONNECTORS_RESENT_H
#define FB_STREAM_CONNECTORS_RESENT_H
#include "base/buf.h"
#include "base/error.h"
#include "stream/connectors/letter_line.h"

/* Then they are taken out before the end: 17 MiB of memory. */
#define RESENT_MAX (1024 * 1024)

struct resent {
    const char *state_dir, *connector; /* borrowed */
    struct buf ids;                    /* as in the file: 16 digits and a line end each */
    bool is_sorted;
};
void resent_init(struct resent *x, const char *state_dir, const char *connector);
void resent_fini(struct resent *x);
uint32_t resent_count(const struct resent *x);
/* What a crash left; nothing is no error. */
FB_MUST_USE
enum fb_code resent_load(struct resent *x, struct fb_err *err);
/* <ids>: as in the file.  FB_OK: it outlives a crash. */
FB_MUST_USE
enum fb_code resent_add(struct resent *x, struct span ids, struct fb_err *err);
/* The order of what it holds changes. */
bool resent_has(struct resent *x, const char id[LETTER_ID_BYTES]);
/* The letters go out of their files, then the ids; without any nothing is done. */
FB_MUST_USE
enum fb_code resent_take_out(struct resent *x, struct fb_err *err);
#endif
