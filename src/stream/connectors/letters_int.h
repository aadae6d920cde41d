/* SPDX-License-Identifier: Apache-2.0 */
/* letters_int: the folder and its lock, shared by letters*.c. */
#ifndef FB_STREAM_CONNECTORS_LETTERS_INT_H
#define FB_STREAM_CONNECTORS_LETTERS_INT_H
#include "stream/connectors/letters.h"

#define LETTERS_NEW_END ".new"
#define LETTERS_WAIT_MS 10000
#define LETTERS_PATH_BYTES 900

/* -1: errno says why not; ENOENT: there is no such folder, EWOULDBLOCK: another has it. */
int letters_lock(const char *state_dir, uint32_t wait_ms);
void letters_unlock(int lock);

/* The names of the dead-letter files, read whole and sorted before any is replaced: a folder that
 * changes under readdir may show a name twice or for ever (btrfs before Linux 6.6). */
struct letters_names {
    char (*at)[256];
    size_t count;
};
FB_MUST_USE
bool letters_names_read(struct letters_names *names, const char *state_dir); /* errno */
void letters_names_fini(struct letters_names *names);
bool letters_is_new(const char *name); /* one that is being made */
/* Whose file is it?  <out> of 256 bytes. */
void letters_connector(const char *name, char *out);

/* Which lines go, without a look at what they hold. */
struct letters_cut {
    uint64_t before_ms;  /* written before */
    uint64_t skip_bytes; /* that begin before this place of the file */
};
/* With the lock held; adds to *removed. */
FB_MUST_USE
bool letters_cut_file(const char *path, int lock, const struct letters_cut *cut, uint64_t *removed);
#endif
