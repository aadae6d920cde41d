/* SPDX-License-Identifier: Apache-2.0 */
/* mac: a keyed fingerprint of 32 bytes (HMAC-SHA-256) that nobody can make or turn back without the
 * key.  The key is drawn at random, never leaves the process, and dies with it.
 *
 * Threads: a struct mac may be used by any thread, one at a time. */
#ifndef FB_IO_MAC_H
#define FB_IO_MAC_H
#include "base/span.h"

#define MAC_BYTES 32
#define MAC_KEY_BYTES 32
struct mac;
FB_MUST_USE
bool mac_draw_key(unsigned char key[MAC_KEY_BYTES]);         /* false: no randomness */
struct mac *mac_new(const unsigned char key[MAC_KEY_BYTES]); /* NULL without memory */
void mac_free(struct mac *m);                                /* NULL is fine */
/* Of the <count> parts behind each other; their borders count too.  False: the library cannot. */
FB_MUST_USE
bool mac_make(struct mac *m, const struct span *parts, size_t count, unsigned char out[MAC_BYTES]);
/* In a time that says nothing of where they differ. */
bool mac_is_same(const unsigned char a[MAC_BYTES], const unsigned char b[MAC_BYTES]);
void mac_wipe(void *at, size_t bytes); /* what must not stay in memory */
#endif
