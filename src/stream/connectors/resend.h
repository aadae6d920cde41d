/* SPDX-License-Identifier: Apache-2.0 */
/* resend: dead letters of a sink are given to its receiver once more, for a person asked for it.
 *
 *   ask (loop) -> WAITS -> step (thread) -> RUNS -> DONE     each letter was tried once
 *                                                -> ENDED    the receiver is away, no such letter
 *
 * One at a time and the oldest first, between two batches of the log, with the key, value and
 * headers of the first time: (node, offset) tells repeats.  A letter goes out of the file after the
 * receiver has acknowledged it, never before: the ids of a slice are kept (resent.h) when it is
 * over, the file is written anew once, at the end or when the next run finds ids.  A crash in
 * between sends at most one slice again.  Reading goes on where the slice before ended; a file that
 * another has written anew since is read from its beginning.
 * What is refused stays and is counted; when the receiver is away all that is left stays.  Letters
 * that are buried after the order are not part of it; one that was removed or erased meanwhile is
 * not sent.
 *
 * Bounds: a slice is 16,384 letters, 8 MiB (or one letter) and 2 s; 4,096 refused letters end it.
 * Threads: resend_ask any; all else the connector's own. */
#ifndef FB_STREAM_CONNECTORS_RESEND_H
#define FB_STREAM_CONNECTORS_RESEND_H
#include "stream/connectors/runner_int.h"

void resend_ask(struct runner *r, const char *id, uint32_t number);
/* A run that died: what its receiver has goes out of the file. */
void resend_recover(struct runner *r);
void resend_step(struct runner *r); /* nothing when nothing is asked */
/* What is under way ends; nothing when nothing is. */
void resend_fails(struct runner *r, const char *why);
#endif
