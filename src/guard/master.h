/* SPDX-License-Identifier: Apache-2.0 */
/* master: the key above all keys: it seals the store key (keyring.h), and foldback never stores it.
 *
 *   none                  no encryption at rest; the store key lies in the key file, mode 0600
 *   file:/path            32 bytes, or 64 hex digits and a line end; not readable by others
 *   exec:/path [ARGS]     a program that keeps it (a KMS): one line on stdin, one on stdout
 *                           wrap HEX           ->  ok TEXT      TEXT: printable, no blanks, <= 4096
 *                           unwrap TEXT        ->  ok HEX
 *                           anything it dislikes -> error SENTENCE
 *                         It has 10 s, then it is killed.  No shell; never the environment.
 *
 * Threads: any.  Errors: FB_E_KEY with the one sentence that the operator needs. */
#ifndef FB_GUARD_MASTER_H
#define FB_GUARD_MASTER_H
#include "base/buf.h"
#include "base/error.h"

#define MASTER_SECRET_BYTES 32
#define MASTER_TEXT_MAX 4096
#define MASTER_TIMEOUT_MS 10000

/* Is <text> of one of the three forms?  "" counts as none. */
FB_MUST_USE
enum fb_code master_check(const char *text, struct fb_err *err);
bool master_is_none(const char *text);
/* Would a start get it?  The file is read, the program only looked at.  FB_E_KEY. */
FB_MUST_USE
enum fb_code master_probe(const char *text, struct fb_err *err);
/* Seals the 32 bytes of <secret> to a text without blanks.  Not for none. */
FB_MUST_USE
enum fb_code master_wrap(const char *master, const unsigned char *secret, struct buf *text,
                         struct fb_err *err);
FB_MUST_USE
enum fb_code master_unwrap(const char *master, struct span text, unsigned char *secret,
                           struct fb_err *err);

/* <in> as hex digits to <out>; and back, false unless exactly <bytes> come out. */
void master_hex_put(struct buf *out, const void *in, size_t bytes);
FB_MUST_USE
bool master_hex_get(struct span text, void *out, size_t bytes);
#endif
