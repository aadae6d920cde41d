/* SPDX-License-Identifier: Apache-2.0 */
/* letter_line: the line of a dead letter in its file, sealed or clear.
 *
 *   clear   {"time_ms":T,"connector":"NAME","reason":...}                          dead.h
 *   sealed  {"time_ms":T,"connector":"NAME","key_id":N,"sealed_base64":"..."}
 *
 * Sealed is nonce, tag and the AES-256-GCM of the clear line; what stands before "sealed_base64"
 * is its associated data, so that no letter can be given another time or connector.  Time and key
 * stay readable: retention and `foldback key list` need no key.
 *
 * Threads: any. */
#ifndef FB_STREAM_CONNECTORS_LETTER_LINE_H
#define FB_STREAM_CONNECTORS_LETTER_LINE_H
#include "base/buf.h"
#include "guard/keyring.h"

struct letter_look {
    uint64_t time_ms; /* 0: not known */
    uint32_t key_id;  /* 0: clear */
    struct span aad, sealed;
};
/* What can be read without a key. */
struct letter_look letter_line_look(struct span line);

/* How people name the letter of this line, as it is stored. */
#define LETTER_ID_BYTES 17
void letter_line_id(struct span line, char id[LETTER_ID_BYTES]);

/* Appends the sealed line of <clear>, its end included.  FB_E_KEY: there is no key to seal with;
 * FB_E_NOMEM: <out> is full. */
FB_MUST_USE
enum fb_code letter_line_seal(struct keyring *keys, const char *connector, uint64_t time_ms,
                              struct span clear, struct buf *out);
/* Appends the clear line of a line with a key.  Codes of keyring_unseal; FB_E_KEY without keys. */
FB_MUST_USE
enum fb_code letter_line_open(struct keyring *keys, const struct letter_look *look,
                              struct buf *out);
#endif
