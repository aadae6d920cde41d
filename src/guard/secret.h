/* SPDX-License-Identifier: Apache-2.0 */
/* secret: memory for keys: whole pages that are locked (no swap), left out of core dumps, not
 * inherited by fork, and wiped when given back.
 *
 * Locking is best effort: RLIMIT_MEMLOCK may be 64 KiB, and a foldback that does not start protects
 * nobody; the other three always hold.  Threads: any. */
#ifndef FB_GUARD_SECRET_H
#define FB_GUARD_SECRET_H
#include "base/base.h"

/* Zeroed; NULL without memory. */
void *secret_alloc(size_t bytes);
/* Wipes and frees; <bytes> as it was asked for.  NULL is fine. */
void secret_free(void *secret, size_t bytes);
/* Wipes <bytes>; no compiler removes it. */
void secret_wipe(void *secret, size_t bytes);
#endif
