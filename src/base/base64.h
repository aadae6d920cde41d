/* SPDX-License-Identifier: Apache-2.0 */
/* base64: bytes as letters and back (RFC 4648, the standard alphabet, padded).
 *
 * Pure.  Threads: any. */
#ifndef FB_BASE_BASE64_H
#define FB_BASE_BASE64_H
#include "base/buf.h"

void base64_put(struct buf *out, struct span bytes);
/* Appends what <text> says up to the first byte that is no digit; returns how many digits. */
size_t base64_take(struct span text, struct buf *out);
#endif
