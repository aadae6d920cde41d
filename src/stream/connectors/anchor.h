/* SPDX-License-Identifier: Apache-2.0 */
/* anchor: is the position of a sink one of this log?
 *
 * A log that was put back from a copy ends earlier than the one that the position was made in, and
 * grows past it with other events: trusted then, the position would leave those out.
 *   at the start of foldback: a position behind the end of the log is noted before the log grows
 *   when a connector begins: that note; and the anchor, an event that was delivered, with the start
 *   of foldback that wrote it (its epoch), is looked up in the log
 * Keys in state.db: "connector:NAME:beyond" (the position), "connector:NAME:anchor" ("OFFSET
 * EPOCH").
 *
 * Threads: anchor_scan the brain's, the others the connector's own. */
#ifndef FB_STREAM_CONNECTORS_ANCHOR_H
#define FB_STREAM_CONNECTORS_ANCHOR_H
#include "base/error.h"

struct runner;
/* Once, before anything is appended behind <log_end>. */
FB_MUST_USE
enum fb_code anchor_scan(const char *state_dir, uint64_t log_end, struct fb_err *err);
/* False: <offset> is of another log; *beyond is where that one was. */
bool anchor_holds(struct runner *r, uint64_t offset, uint64_t *beyond);
/* The connector has a position in this log now. */
FB_MUST_USE
enum fb_code anchor_cleared(struct runner *r, struct fb_err *err);
/* After the position was written. */
void anchor_drop(struct runner *r, bool is_now);
/* To be told: <beyond> was not trusted, it goes on at <from>. */
void anchor_displaced(struct runner *r, uint64_t beyond, uint64_t from, bool is_receivers);
#endif
