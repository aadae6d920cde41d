/* SPDX-License-Identifier: Apache-2.0 */
/* gcm: AES-256-GCM: bytes that nobody without the key can read or change unnoticed.
 *
 * One key never seals two texts under one nonce; who calls sees to that (keyring.h argues how).
 * Threads: any. */
#ifndef FB_GUARD_GCM_H
#define FB_GUARD_GCM_H
#include "base/span.h"

#define GCM_KEY_BYTES 32
#define GCM_NONCE_BYTES 12
#define GCM_TAG_BYTES 16
/* What gcm_wrap adds: nonce in front, tag behind. */
#define GCM_WRAP_BYTES (GCM_NONCE_BYTES + GCM_TAG_BYTES)

struct gcm_use {
    const unsigned char *key, *nonce;
    struct span aad; /* not hidden, but bound to the text */
};
/* <out> has room for in.len bytes and may be in.at.  False only when the library fails. */
FB_MUST_USE
bool gcm_seal(const struct gcm_use *use, struct span in, void *out,
              unsigned char tag[GCM_TAG_BYTES]);
/* False: key, nonce, tag, aad or text are not what was sealed; <out> is then wiped. */
FB_MUST_USE
bool gcm_open(const struct gcm_use *use, struct span in, void *out,
              const unsigned char tag[GCM_TAG_BYTES]);

/* A short secret with a random nonce of its own: nonce, text, tag; in.len + GCM_WRAP_BYTES. */
FB_MUST_USE
bool gcm_wrap(const unsigned char *key, struct span aad, struct span in, unsigned char *out);
FB_MUST_USE
bool gcm_unwrap(const unsigned char *key, struct span aad, struct span in, unsigned char *out);

/* From the system's generator; asserts that it works. */
void gcm_random(void *out, size_t bytes);
#endif
