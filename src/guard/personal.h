/* SPDX-License-Identifier: Apache-2.0 */
/* personal: takes the personal fields (events.def) out of records, each sealed under a key of its
 * own that can be destroyed, and puts them back for who has the keys.
 *
 *   u32 period, nonce[12], then per field that is not empty:
 *   u16 row, u8 field, u8 length, sealed text, tag[16]
 *
 * The key of a text is the leaf of its period's tree (shred.h) at the event's offset; the nonce is
 * random per batch, with the number of the field in its last byte.  Offset and field are bound to
 * the text, so that none can be put elsewhere.  A field whose key is gone reads PERSONAL_GONE.
 *
 * Threads: any. */
#ifndef FB_GUARD_PERSONAL_H
#define FB_GUARD_PERSONAL_H
#include "event/event.h"
#include "guard/keyring.h"

#define PERSONAL_GONE "(erased)"
/* Most bytes that personal_take writes for <len> bytes of records. */
#define PERSONAL_BYTES_MAX(len) ((len) + 16)

/* Is there anything to take in these records? */
bool personal_is_in(struct span records);
/* Empties the personal fields of <records> and writes them sealed to <out>; returns its length, 0
 * when all were empty.  Without a period key the texts are dropped, never written clear. */
size_t personal_take(struct keyring *ring, uint64_t first_offset, void *records, size_t len,
                     unsigned char *out);
/* The reverse; <ring> NULL: every text is gone, and so is each that its key does not open.
 * FB_E_DAMAGED: not what personal_take writes. */
FB_MUST_USE
enum fb_code personal_give(struct keyring *ring, uint64_t first_offset, struct span sealed,
                           void *records, size_t len);
/* The period under which <sealed> was written. */
uint32_t personal_period(struct span sealed);
#endif
