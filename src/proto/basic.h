/* SPDX-License-Identifier: Apache-2.0 */
/* basic: who a request says it is, by the Basic scheme of Authorization (RFC 7617).
 *
 * Pure.  Threads: any.  Memory: the caller's. */
#ifndef FB_PROTO_BASIC_H
#define FB_PROTO_BASIC_H
#include "base/span.h"

/* Longest name, and longest password that any scheme of crypt(3) takes. */
#define BASIC_USER_BYTES_MAX 255
#define BASIC_PASSWORD_BYTES_MAX 511

struct basic {
    struct span user, password; /* in <bytes>; terminated, without NUL inside */
    char bytes[BASIC_USER_BYTES_MAX + BASIC_PASSWORD_BYTES_MAX + 8];
};

/* False: <value> is of another scheme, not base64, without a colon or a name, or too long; nobody
 * can be meant by it. */
FB_MUST_USE
bool basic_read(struct span value, struct basic *out);
#endif
