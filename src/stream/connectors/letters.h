/* SPDX-License-Identifier: Apache-2.0 */
/* letters: goes through the dead-letter files of a state folder, and takes letters out of them.
 *
 * STATE/connectors/NAME.dead.jsonl and NAME.dead.jsonl.1 hold what came or went in base64, blocks
 * of the log among it: a search of their bytes finds nobody.  Each line is looked at as its text
 * without the base64, and as key and value decoded (a block: as its records).
 *
 * Who appends to these files, rotates or rewrites them holds letters_lock (flock of the folder): a
 * letter is never written into a file that was replaced.
 *
 * Threads: any; a struct letters belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_LETTERS_H
#define FB_STREAM_CONNECTORS_LETTERS_H
#include "base/buf.h"
#include "base/error.h"

struct letters {
    /* Is the letter with this text, key, value or records meant? */
    bool (*is_meant)(void *ctx, struct span text);
    void *ctx;
    bool is_removing;
    uint64_t files, bytes, lines; /* looked through */
    uint64_t meant;               /* letters; removed when is_removing */
    uint64_t unread;              /* with a block that cannot be decoded */
    char first[900];              /* the first file with a letter that is meant */
};

/* Is that the name of a dead-letter file, or of one that is being made? */
bool letters_is_file(const char *name);
/* Waits at most 10 s.  -1: errno says why not; ENOENT: there is no such folder. */
int letters_lock(const char *state_dir);
void letters_unlock(int lock);
/* Adds to the counts of *l.  A file that loses letters is replaced whole (write, fsync, rename) and
 * keeps owner and mode; no other is touched. */
FB_MUST_USE
enum fb_code letters_go_through(const char *state_dir, struct letters *l, struct fb_err *err);
#endif
