/* SPDX-License-Identifier: Apache-2.0 */
/* keyring: the keys of one state folder.
 *
 *   master key (a file, a KMS; master.h)
 *     +- store key          one, random; seals everything below in the key file
 *          +- data keys     one active, the others retired: blocks of the log and snapshots
 *          +- period keys   one tree per period (shred.h): the personal texts inside the blocks
 *
 *   STATE/keys       text, mode 0600, replaced whole (write, fsync, rename, fsync of the folder)
 *   STATE/keys.lock  who changes it holds this (flock); readers need no lock
 *
 * Not in state.db: SQLite keeps deleted rows in its journal and in free pages, so that nothing
 * could be destroyed there, and a damaged state.db begins anew while the keys must not.
 *
 * Personal texts are sealed always, with a master key or without one (the key file is then the
 * secret): to erase is to destroy keys.  Blocks and snapshots are sealed when there is a master
 * key.
 *
 * Nonces of blocks and snapshots are 96 random bits.  A key seals at most 2^30 of them (rotation
 * comes at that count whatever the configuration says), which makes a repetition as likely as
 * 2^-37; NIST SP 800-38D allows 2^32 and 2^-32.  A counter was rejected: it must survive a key file
 * that somebody restores from last week's backup, and cannot.  The count is reserved in the file in
 * steps of 2^18 before it is used, so that a crash never forgets any.
 *
 * Threads: any; one struct keyring per state folder and process, shared by all who ask for it. */
#ifndef FB_GUARD_KEYRING_H
#define FB_GUARD_KEYRING_H
#include "base/error.h"
#include "guard/gcm.h"

#define KEYRING_KEYS_MAX 256
#define KEYRING_PERIODS_MAX 2048
#define KEYRING_SEALS_MAX (UINT64_C(1) << 30)
#define KEYRING_RESERVE (UINT64_C(1) << 18)
#define KEYRING_AUDITS_MAX 64
#define KEYRING_WHO_BYTES 40

struct keyring_conf {
    const char *master;                   /* "" or none: blocks stay clear */
    uint64_t rotate_age_us, rotate_bytes; /* 0: no such bound */
    uint64_t period_us;                   /* length of a period, at least a minute */
    uint64_t personal_age_us;             /* a period key lives this long behind its end; 0: for
                                             ever */
    uint64_t personal_bytes;              /* most personal text that can be read; 0: no bound */
};

struct keyring;
/* For readers: the keys of <state_dir>.  FB_E_NOT_FOUND: there is no key file.  FB_E_KEY: the
 * master key is missing or wrong, FB_E_DAMAGED: the file is not whole; nothing is ever changed. */
FB_MUST_USE
enum fb_code keyring_open(struct keyring **ring, const char *state_dir, struct fb_err *err);
/* For the one who writes: makes the file when it is missing, seals it with conf->master, begins a
 * data key and a period when there is none.  May run the program of a KMS: before the sandbox. */
FB_MUST_USE
enum fb_code keyring_start(struct keyring **ring, const char *state_dir,
                           const struct keyring_conf *conf, uint64_t wall_us, struct fb_err *err);
struct keyring *keyring_ref(struct keyring *ring);
void keyring_unref(struct keyring *ring); /* NULL is fine; the last one wipes */
bool keyring_exists(const char *state_dir);
void keyring_reconfigure(struct keyring *ring, const struct keyring_conf *conf);

/* ---- sealing ---- */

/* Are blocks to be sealed? */
bool keyring_is_sealing(struct keyring *ring);
/* Counts a text of <bytes> against the active key and gives its number and a fresh nonce.
 * FB_E_KEY: no active key, or its bound is reached. */
FB_MUST_USE
enum fb_code keyring_take(struct keyring *ring, uint64_t bytes, uint32_t *key_id,
                          unsigned char nonce[GCM_NONCE_BYTES]);
struct keyring_use {
    uint32_t key_id;
    const unsigned char *nonce;
    struct span aad;
};
FB_MUST_USE
enum fb_code keyring_seal(struct keyring *ring, const struct keyring_use *use, struct span in,
                          void *out, unsigned char tag[GCM_TAG_BYTES]);
/* FB_E_KEY: the key file does not know that key; FB_E_NOT_FOUND: it was destroyed; FB_E_DAMAGED:
 * the text is not what was sealed. */
FB_MUST_USE
enum fb_code keyring_unseal(struct keyring *ring, const struct keyring_use *use, struct span in,
                            void *out, const unsigned char tag[GCM_TAG_BYTES]);

/* ---- personal texts ---- */

/* The period in which texts are sealed now; 0: none. */
uint32_t keyring_period(struct keyring *ring);
/* Key of the text at <offset>; false: destroyed. */
FB_MUST_USE
bool keyring_text_key(struct keyring *ring, uint32_t period, uint64_t offset, unsigned char *key);
/* Counts <bytes> of text sealed under <period>. */
void keyring_text_count(struct keyring *ring, uint32_t period, uint64_t bytes);

/* ---- what is done to keys; each leaves an audit row in the file ---- */

enum keyring_op {
    KEYRING_OP_STARTED = 1,
    KEYRING_OP_ROTATED,
    KEYRING_OP_REWRAPPED,
    KEYRING_OP_DESTROYED,
    KEYRING_OP_PERIOD_BEGAN,
    KEYRING_OP_PERIOD_ENDED,
    KEYRING_OP_ERASED, /* EV_KEY_ERASED of event.h */
    KEYRING_OP_END
};
const char *keyring_op_name(uint8_t op); /* "rotated" */
struct keyring_audit {
    uint8_t op;
    uint32_t key_id, period;
    uint64_t wall_us, count, bytes, erasure;
    char who[KEYRING_WHO_BYTES]; /* no blanks; "foldback" when nobody asked */
};

/* A new active data key; the one before is retired. */
FB_MUST_USE
enum fb_code keyring_rotate(struct keyring *ring, const char *who, uint64_t wall_us,
                            struct fb_err *err);
/* A new store key under <master>, all keys sealed anew; blocks stay as they are. <is_followed>: a
 * foldback runs here and shall take the new store key. */
FB_MUST_USE
enum fb_code keyring_rewrap(struct keyring *ring, const char *master, bool is_followed,
                            const char *who, struct fb_err *err);
/* Destroys a retired key. */
FB_MUST_USE
enum fb_code keyring_destroy(struct keyring *ring, uint32_t key_id, const char *who,
                             struct fb_err *err);

/* The keys of these texts go.  *periods counts whole periods that had to go with them. */
struct keyring_text {
    uint32_t period;
    uint64_t offset;
};
struct keyring_erasure {
    const struct keyring_text *texts;
    size_t count;
    const char *who;
    uint32_t letters; /* dead letters that were removed, for the audit */
    uint64_t id;      /* out: number of the case, for the audit */
    uint32_t periods; /* out */
};
FB_MUST_USE
enum fb_code keyring_erase(struct keyring *ring, struct keyring_erasure *erasure,
                           struct fb_err *err);

/* ---- the brain's: once a second ---- */

/* Follows the file, rotates by age, bytes and count, begins and ends periods, keeps the count of
 * seals reserved.  <wall_us> is the only clock.  An error: the keys in memory stay in use. */
FB_MUST_USE
enum fb_code keyring_watch(struct keyring *ring, uint64_t wall_us, struct fb_err *err);
/* Copies the oldest audit rows that were not said, at most <max>; returns how many. */
size_t keyring_audit_peek(struct keyring *ring, struct keyring_audit *audits, size_t max);
/* They are in the log now: one write of the file for all. */
void keyring_audit_done(struct keyring *ring, const struct keyring_audit *audits, size_t count);
/* Writes what was counted: before the end. */
void keyring_flush(struct keyring *ring);
/* Forgets whatever is not needed to go on: the file is followed anew.  For readers that met an
 * unknown key. */
FB_MUST_USE
enum fb_code keyring_reload(struct keyring *ring, struct fb_err *err);

/* ---- looking ---- */

struct keyring_key {
    uint32_t id;
    bool is_retired;
    uint64_t created_us, retired_us, seals,
        bytes; /* wall clock; seals: reserved, at most that many */
};
struct keyring_view {
    char master[1024];
    bool is_sealing;
    uint32_t active_id, key_count, period_count, period_id;
    uint64_t active_seals, active_bytes, active_since_us;
    uint64_t period_from_us, period_first_us, personal_bytes;
    uint64_t rotations, erasures; /* in this process */
    bool is_bad;                  /* the last watch failed */
    char why[240];
};
void keyring_view(struct keyring *ring, struct keyring_view *view);
size_t keyring_list(struct keyring *ring, struct keyring_key *keys, size_t max);
#endif
