/* SPDX-License-Identifier: Apache-2.0 */
/* htpasswd: a file of users with the hashes of their passwords, and the slow check of a password.
 *
 * A line is NAME:HASH, and what follows another colon is a comment; empty lines and lines that
 * begin with # say nothing.  HASH is bcrypt ($2b$, $2y$, $2a$), SHA-512 ($6$), SHA-256 ($5$) or
 * yescrypt ($y$), each with a cost that one check can be waited for.  Anything else makes the whole
 * file bad: plain text, DES, MD5 ($1$, $apr1$) and bare SHA-1 ({SHA}) give passwords away to
 * whoever gets the file.
 * Threads: any; a struct htpasswd never changes.  Errors: CONFIG (with the line), IO, NOMEM. */
#ifndef FB_IO_HTPASSWD_H
#define FB_IO_HTPASSWD_H
#include "base/error.h"
#include "base/span.h"

#define HTPASSWD_BYTES_MAX (4 * MIB)
#define HTPASSWD_HASH_BYTES_MAX 160 /* the longest of these has 123 */

struct htpasswd;

/* <path>: for messages. */
FB_MUST_USE
enum fb_code htpasswd_parse(struct span text, const char *path, struct htpasswd **out,
                            struct fb_err *err);
FB_MUST_USE
enum fb_code htpasswd_load(const char *path, struct htpasswd **out, struct fb_err *err);
void htpasswd_free(struct htpasswd *h); /* NULL is fine */
size_t htpasswd_count(const struct htpasswd *h);
/* The same for the same content, and hardly for another. */
uint64_t htpasswd_version(const struct htpasswd *h);
/* The hash of <user>; false and the dearest hash of the file when there is no such user ("" when
 * there is nobody at all): it takes as long as any other, where all are of one scheme and cost. */
bool htpasswd_find(const struct htpasswd *h, struct span user, char hash[HTPASSWD_HASH_BYTES_MAX]);

/* Slow (1 ms to 2 s), and takes up to 32 MiB for that time.  <room>: htpasswd_room_new. */
enum htpasswd_verdict { HTPASSWD_WRONG, HTPASSWD_RIGHT, HTPASSWD_FAILED /* no memory for it */ };
enum htpasswd_verdict htpasswd_check(void *room, const char *password, const char *hash);
void *htpasswd_room_new(void); /* NULL without memory */
void htpasswd_room_free(void *room);
#endif
