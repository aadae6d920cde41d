/* SPDX-License-Identifier: Apache-2.0 */
/* siphash: SipHash-2-4, a keyed hash that nobody can compute or invert without the key (Aumasson,
 * Bernstein: SipHash: a fast short-input PRF, 2012).  For values that leave the process.
 *
 * Pure.  Threads: any. */
#ifndef FB_BASE_SIPHASH_H
#define FB_BASE_SIPHASH_H
#include "base/span.h"

uint64_t siphash(const uint64_t key[2], struct span text);
#endif
