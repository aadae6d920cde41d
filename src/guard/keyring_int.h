/* SPDX-License-Identifier: Apache-2.0 */
/* keyring_int: a keyset is what the key file says, unlocked; shared by keyset.c (the file) and
 * keyring*.c (what is done with it). */
#ifndef FB_GUARD_KEYRING_INT_H
#define FB_GUARD_KEYRING_INT_H
#include "guard/keyring.h"
#include "guard/master.h"
#include "guard/shred.h"

#include <pthread.h>
#include <sys/types.h>

#define KEYSET_FILE_BYTES_MAX (64 * MIB)

struct keyset_secret { /* secret memory */
    unsigned char store[GCM_KEY_BYTES];
    unsigned char data[KEYRING_KEYS_MAX][GCM_KEY_BYTES];
};
struct keyset_period {
    uint32_t id;
    uint64_t from_us, bytes;
    struct shred tree;
};
struct keyset {
    char master[1024];
    char store_text[MASTER_TEXT_MAX + 1]; /* the store key as the master key sealed it */
    char handover[2 * (GCM_KEY_BYTES + GCM_WRAP_BYTES) + 1]; /* ... as the one before did; "" */
    struct keyset_secret *secret;
    struct keyring_key key[KEYRING_KEYS_MAX]; /* ascending by id */
    uint32_t key_count, next_key, next_period;
    struct keyset_period *period; /* ascending by id; KEYRING_PERIODS_MAX */
    uint32_t period_count;
    struct keyring_audit audit[KEYRING_AUDITS_MAX];
    uint32_t audit_count;
};
/* Which version of the file this is. */
struct keyset_stamp {
    ino_t inode;
    off_t bytes;
    struct timespec modified;
};

struct keyring {
    struct keyring *next; /* in the list of the process */
    unsigned refs;
    char dir[512];
    pthread_mutex_t lock; /* protects all below */
    struct keyring_conf conf;
    struct keyset *set;
    struct keyset_stamp stamp;
    bool is_writer, is_sealing;
    uint32_t active_id;
    uint64_t active_seals, active_bytes; /* of the active key, in all */
    uint64_t text_bytes;                 /* of the newest period, not yet in the file */
    uint64_t rotations, erasures;
    bool is_bad;
    char why[240];
};

struct keyset *keyset_new(void); /* NULL without memory */
void keyset_free(struct keyset *set);
/* Reads and unlocks.  <master>: use this one instead of the one in the file, NULL: that one.
 * <known>: an older keyset whose store key may still open this file, or NULL.  FB_E_NOT_FOUND. */
struct keyset_source {
    const char *dir, *master;
    const struct keyset *known;
};
FB_MUST_USE
enum fb_code keyset_read(struct keyset *set, const struct keyset_source *from,
                         struct keyset_stamp *stamp, struct fb_err *err);
FB_MUST_USE
enum fb_code keyset_write(const struct keyset *set, const char *dir, struct keyset_stamp *stamp,
                          struct fb_err *err);
/* The file's present stamp; false: no file. */
bool keyset_stamp_read(const char *dir, struct keyset_stamp *stamp);
/* Waits at most <wait_ms> for keys.lock; the descriptor, or -1. */
int keyset_lock(const char *dir, uint32_t wait_ms, struct fb_err *err);

struct keyring_key *keyset_active(struct keyset *set);           /* NULL: none */
unsigned char *keyset_data_key(struct keyset *set, uint32_t id); /* NULL: none */
struct keyset_period *keyset_period_of(struct keyset *set, uint32_t id);
/* FB_E_NOMEM: too many keys. */
FB_MUST_USE
enum fb_code keyset_add_key(struct keyset *set, uint64_t wall_us, struct fb_err *err);
FB_MUST_USE
enum fb_code keyset_add_period(struct keyset *set, uint64_t wall_us, struct fb_err *err);
void keyset_drop_key(struct keyset *set, uint32_t id);
void keyset_drop_period(struct keyset *set, uint32_t id);
/* <audit> is copied; the oldest goes when there are too many. */
void keyset_add_audit(struct keyset *set, const struct keyring_audit *audit);
/* A new store key under <master>. */
FB_MUST_USE
enum fb_code keyset_reseal(struct keyset *set, const char *master, bool is_followed,
                           struct fb_err *err);

/* One change of the file: reads it anew under the lock, lets <change> work on it, writes it, and
 * only then uses it.  With the keyring's lock held. */
typedef enum fb_code keyring_edit(struct keyring *ring, struct keyset *set, void *arg,
                                  struct fb_err *err);
FB_MUST_USE
enum fb_code keyring_change(struct keyring *ring, keyring_edit *edit, void *arg,
                            struct fb_err *err);
void keyring_adopt(struct keyring *ring, struct keyset *set);
#endif
