/* SPDX-License-Identifier: Apache-2.0 */
/* sentence: any event as one sentence for people, as chat hooks and pagers get it.
 *
 *   "limit of endpoint shop/10.0.0.1:80: 40 -> 24, because ..."   "critical: the disk is full"
 *
 * Made from the record and the names alone.  Threads: any. */
#ifndef FB_MAIN_SENTENCE_H
#define FB_MAIN_SENTENCE_H
#include "event/filter.h"

void sentence_put(const struct filter_names *names, const struct ev_head *ev, struct buf *out);
#endif
