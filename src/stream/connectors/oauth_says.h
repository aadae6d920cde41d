/* SPDX-License-Identifier: Apache-2.0 */
/* oauth_says: what a token server's refusal means, in words that may be shown (RFC 6749, 5.2).
 *
 * Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_OAUTH_SAYS_H
#define FB_STREAM_CONNECTORS_OAUTH_SAYS_H
#include "base/buf.h"

/* "invalid_grant: Invalid JWT Signature." of a JSON answer; never anything else of it. */
void oauth_says(struct span json, char *out, size_t size);
#endif
