/* SPDX-License-Identifier: Apache-2.0 */
/* hook: what a receiver of POSTs is told and what its answer means; the part of http.c that needs
 * no socket.
 *
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_HOOK_H
#define FB_STREAM_CONNECTORS_HOOK_H
#include "base/span.h"

#define HOOK_SIGNATURE_BYTES 128

/* Foldback-Signature: t=<at_s>,v1=HEX, HMAC-SHA256 of "<at_s>.<body>".  False: no memory. */
FB_MUST_USE
bool hook_sign(struct span key, uint64_t at_s, struct span body, char line[HOOK_SIGNATURE_BYTES]);

/* The key as standardwebhooks.com has it: behind "whsec_" base64, anything else as it is.  False:
 * more than <cap> bytes, or no base64. */
FB_MUST_USE
bool hook_key(struct span text, unsigned char *key, size_t cap, size_t *len);
/* webhook-signature: v1,BASE64, HMAC-SHA256 of "<id>.<at_s>.<body>".  False: no memory. */
struct hook_message {
    struct span id; /* the same each time that the message is sent */
    uint64_t at_s;
    struct span body;
};
FB_MUST_USE
bool hook_sign_standard(struct span key, const struct hook_message *m,
                        char line[HOOK_SIGNATURE_BYTES]);

enum hook_answer {
    HOOK_TAKEN,
    HOOK_AGAIN,      /* later it may be taken */
    HOOK_NEEDS_HAND, /* wrong address or key: no event's fault, none is given up for it */
    HOOK_TOO_LARGE,
    HOOK_REFUSED /* this event, for ever */
};
enum hook_answer hook_answer_of(long status);
#endif
