/* SPDX-License-Identifier: Apache-2.0 */
/* operational: empties the operational fields (PSEUDONYM in events.def) of records that are older
 * than privacy.operational_age.
 *
 * Of them only those that nothing is computed from: a replay of the log decides the same before and
 * after.  The key of cache_sample stays: the curve of the cache is made of it.
 *
 * Pure.  Threads: any. */
#ifndef FB_GUARD_OPERATIONAL_H
#define FB_GUARD_OPERATIONAL_H
#include "event/event.h"

/* <len> bytes of valid records. */
void operational_clear(void *records, size_t len);
#endif
