/* SPDX-License-Identifier: Apache-2.0 */
/* letters: the dead-letter files of a state folder: puts letters in, goes through them, takes out
 * what is meant or too old.
 *
 * STATE/connectors/NAME.dead.jsonl and NAME.dead.jsonl.1 (the older ones).  A line is a letter,
 * sealed when there is a master key (letter_line.h), else clear: then it holds what came or went in
 * base64, blocks of the log among it, so that a search of its bytes finds nobody.  Each letter is
 * looked at as its text without the base64, and as key and value decoded (a block: as its records).
 *
 * Who appends to these files, rotates or rewrites them holds the lock (flock of the folder): a
 * letter is never written into a file that was replaced.  A letter counts as kept when it is
 * synced; half a line at the end of a file is of a crash, and goes before the next one is put.
 *
 * Threads: any; a struct letters belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_LETTERS_H
#define FB_STREAM_CONNECTORS_LETTERS_H
#include "base/buf.h"
#include "base/error.h"
#include "guard/keyring.h"
#include "stream/connectors/dead.h"

#include <stdatomic.h>

/* Is that the name of a dead-letter file, or of one that is being made? */
bool letters_is_file(const char *name);

/* ---- put ---- */

struct letters_box {
    const char *state_dir, *connector;
    struct keyring *keys; /* NULL: none */
    uint64_t bytes_max;   /* of both files; 0: no bound */
};
/* Makes folder and file when they are missing.  An error: the letter is not in the file. */
FB_MUST_USE
enum fb_code letters_put(const struct letters_box *box, const struct dead_letter *letter,
                         uint64_t wall_us, struct fb_err *err);

/* ---- go through ---- */

struct letter_view {
    const char *path, *connector;
    uint64_t time_ms; /* 0: not known */
    uint32_t key_id;  /* 0: it was clear on the disk */
    /* FB_OK: <clear> is the line.  FB_E_NOT_FOUND: its key was destroyed.  Else it cannot be read,
     * or was not asked for (FB_E_END). */
    enum fb_code code;
    struct span clear, stored;
};
struct letters {
    struct keyring *keys;                          /* NULL: sealed letters are not opened */
    bool (*is_meant)(void *ctx, struct span text); /* a letter with this text, key, value or
                                                      records; NULL: none is */
    void (*each)(void *ctx, const struct letter_view *letter); /* may be NULL */
    bool (*is_wanted)(void *ctx, struct span stored); /* others are passed over unopened; NULL: all
                                                       */
    void *ctx;
    const char *connector; /* only its letters; NULL: all */
    bool is_removing;      /* those that are meant */
    bool is_oldest_first;
    /* May be set by is_wanted: nothing more is read, the present letter included. */
    bool is_over;
    /* Where reading begins, of the newer and of the older file of <connector>; not with
     * is_removing. */
    uint64_t from[2];
    uint32_t file; /* which of the two it reads, and where the line begins that is looked at */
    uint64_t line_at;
    bool is_closed; /* sealed letters are not opened; is_meant gets the line as it is stored */

    uint64_t files, bytes, lines; /* looked through */
    uint64_t meant;               /* letters; removed when is_removing */
    uint64_t unread; /* that cannot be opened, or with a block that cannot be decoded */
    uint64_t gone;   /* whose key was destroyed */
    char first[900]; /* the first file with a letter that is meant */
};
/* Adds to the counts of *l.  A file that loses letters is replaced whole (write, fsync, rename) and
 * keeps owner and mode; no other is touched.  Waits at most 10 s for the lock. */
FB_MUST_USE
enum fb_code letters_go_through(const char *state_dir, struct letters *l, struct fb_err *err);

/* ---- retention ---- */

struct letters_bounds {
    _Atomic uint64_t age_ms, bytes_max; /* bytes: of one connector; 0: no bound */
};
/* Letters that are older go, and of a connector that has too many the oldest.  *removed: how many.
 * Needs no key.  Does not wait: FB_E_AGAIN when another has the lock. */
FB_MUST_USE
enum fb_code letters_expire(const char *state_dir, const struct letters_bounds *bounds,
                            uint64_t wall_us, uint64_t *removed, struct fb_err *err);
/* The same on a thread of its own, while foldback runs.  NULL without memory or thread. */
struct letters_keeper;
struct letters_keeper *letters_keeper_new(const char *state_dir);
/* Bounds of now on: it begins to work with the first ones. */
void letters_keeper_bounds(struct letters_keeper *k, uint64_t age_ms, uint64_t bytes_max);
void letters_keeper_free(struct letters_keeper *k); /* NULL is fine; waits at most 2 s */
#endif
