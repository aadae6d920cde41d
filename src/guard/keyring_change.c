/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the key file.  Every change starts from the file, not from memory: two processes
 * that change it one after the other lose nothing, and a brain cannot write back a key that a
 * command destroyed. */
#include "base/assert.h"
#include "base/clock.h"
#include "guard/keyring_int.h"
#include "guard/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A watch comes back in a second; a command may wait for a KMS that another command asks. */
#define WATCH_WAIT_MS 20
#define COMMAND_WAIT_MS (MASTER_TIMEOUT_MS + 2000)

static enum fb_code read_anew(struct keyring *ring, struct keyset **out, struct keyset_stamp *stamp,
                              struct fb_err *err)
{
    struct keyset *set = keyset_new();
    if (!set)
        return fb_fail(err, FB_E_NOMEM, "no memory for keys");
    struct keyset_source from = {.dir = ring->dir, .known = ring->set};
    enum fb_code code = keyset_read(set, &from, stamp, err);
    if (code != FB_OK) {
        keyset_free(set);
        return code;
    }
    *out = set;
    return FB_OK;
}

/* What was counted since the file was written goes into it with the next change. */
static void carry_counts(const struct keyring *ring, struct keyset *set)
{
    for (uint32_t i = 0; i < set->key_count; i++)
        if (ring->is_writer && set->key[i].id == ring->active_id)
            set->key[i].bytes = fb_max_u64(set->key[i].bytes, ring->active_bytes);
    for (uint32_t i = 0; ring->is_writer && i < set->period_count; i++) {
        const struct keyset_period *mine = keyset_period_of(ring->set, set->period[i].id);
        if (mine)
            set->period[i].bytes = fb_max_u64(set->period[i].bytes, mine->bytes);
    }
}

enum fb_code keyring_change(struct keyring *ring, keyring_edit *edit, void *arg, struct fb_err *err)
{
    struct keyset *set = NULL;
    struct keyset_stamp stamp;
    struct fb_err unread;
    err = err ? err : &unread;
    int lock = keyset_lock(ring->dir, ring->is_writer ? WATCH_WAIT_MS : COMMAND_WAIT_MS, err);
    if (lock < 0)
        return err->code;
    enum fb_code code = read_anew(ring, &set, &stamp, err);
    if (code == FB_OK) {
        carry_counts(ring, set);
        code = edit(ring, set, arg, err);
    }
    if (code == FB_OK && ring->is_writer && set->handover[0])
        set->handover[0] = '\0'; /* taken */
    if (code == FB_OK)
        code = keyset_write(set, ring->dir, &stamp, err);
    close(lock);
    if (code != FB_OK) {
        keyset_free(set);
        return code;
    }
    ring->stamp = stamp;
    ring->text_bytes = 0;
    keyring_adopt(ring, set);
    return FB_OK;
}

static bool is_same(const struct keyset_stamp *a, const struct keyset_stamp *b)
{
    return a->inode == b->inode && a->bytes == b->bytes &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

/* With the lock held. */
static enum fb_code follow(struct keyring *ring, struct fb_err *err)
{
    struct keyset_stamp now;
    struct keyset *set;
    if (!keyset_stamp_read(ring->dir, &now))
        return fb_fail(err, FB_E_KEY,
                       "the key file %s/keys is gone; the keys in memory stay in use; put it back "
                       "before foldback stops, or what is stored can never be read again",
                       ring->dir);
    if (is_same(&now, &ring->stamp))
        return FB_OK;
    enum fb_code code = read_anew(ring, &set, &now, err);
    if (code != FB_OK)
        return code;
    carry_counts(ring, set);
    ring->stamp = now;
    keyring_adopt(ring, set);
    return FB_OK;
}

enum fb_code keyring_reload(struct keyring *ring, struct fb_err *err)
{
    pthread_mutex_lock(&ring->lock);
    enum fb_code code = follow(ring, err);
    pthread_mutex_unlock(&ring->lock);
    return code;
}

/* ---- commands ---- */

struct request {
    const char *who, *master;
    uint64_t wall_us;
    bool is_followed;
    uint32_t key_id;
    struct keyring_erasure *erasure;
};

static void audit(struct keyset *set, const struct request *q, struct keyring_audit a)
{
    a.wall_us = q->wall_us ? q->wall_us : fb_wall_us();
    snprintf(a.who, sizeof a.who, "%s", q->who && q->who[0] ? q->who : "foldback");
    keyset_add_audit(set, &a);
}

static enum fb_code edit_rotate(struct keyring *ring, struct keyset *set, void *arg,
                                struct fb_err *err)
{
    const struct request *q = arg;
    if (master_is_none(set->master))
        return fb_fail(err, FB_E_KEY,
                       "%s is not encrypted, so there is no key to rotate; set "
                       "encryption.master_key",
                       ring->dir);
    enum fb_code code = keyset_add_key(set, q->wall_us, err);
    if (code == FB_OK)
        audit(set, q,
              (struct keyring_audit){.op = KEYRING_OP_ROTATED,
                                     .key_id = set->key[set->key_count - 1].id});
    return code;
}

enum fb_code keyring_rotate(struct keyring *ring, const char *who, uint64_t wall_us,
                            struct fb_err *err)
{
    struct request q = {.who = who, .wall_us = wall_us};
    pthread_mutex_lock(&ring->lock);
    enum fb_code code = keyring_change(ring, edit_rotate, &q, err);
    ring->rotations += code == FB_OK;
    pthread_mutex_unlock(&ring->lock);
    return code;
}

static enum fb_code edit_rewrap(struct keyring *ring, struct keyset *set, void *arg,
                                struct fb_err *err)
{
    const struct request *q = arg;
    const char *master = q->master ? q->master : set->master;
    (void)ring;
    /* A second store key would hide the one between from whoever still has the first. */
    if (q->is_followed && set->handover[0])
        return fb_fail(
            err, FB_E_AGAIN,
            "the running foldback has not taken the last store key yet; try again in two "
            "seconds");
    char kept[sizeof set->master];
    snprintf(kept, sizeof kept, "%s", master);
    bool was_clear = master_is_none(set->master);
    enum fb_code code = keyset_reseal(set, kept, q->is_followed, err);
    if (code != FB_OK)
        return code;
    struct keyring_key *active = keyset_active(set);
    if (master_is_none(kept) && active) {
        active->is_retired = true;
        active->retired_us = fb_wall_us();
    }
    if (was_clear && !master_is_none(kept) && !active)
        code = keyset_add_key(set, fb_wall_us(), err);
    audit(set, q, (struct keyring_audit){.op = KEYRING_OP_REWRAPPED, .count = set->key_count});
    return code;
}

enum fb_code keyring_rewrap(struct keyring *ring, const char *master, bool is_followed,
                            const char *who, struct fb_err *err)
{
    struct request q = {.who = who, .master = master, .is_followed = is_followed};
    pthread_mutex_lock(&ring->lock);
    enum fb_code code = keyring_change(ring, edit_rewrap, &q, err);
    pthread_mutex_unlock(&ring->lock);
    return code;
}

static enum fb_code edit_destroy(struct keyring *ring, struct keyset *set, void *arg,
                                 struct fb_err *err)
{
    const struct request *q = arg;
    for (uint32_t i = 0; i < set->key_count; i++) {
        if (set->key[i].id != q->key_id)
            continue;
        if (!set->key[i].is_retired)
            return fb_fail(err, FB_E_CONFLICT, "key %u is in use; run foldback key rotate first",
                           q->key_id);
        uint64_t bytes = set->key[i].bytes;
        keyset_drop_key(set, q->key_id);
        audit(set, q,
              (struct keyring_audit){
                  .op = KEYRING_OP_DESTROYED, .key_id = q->key_id, .bytes = bytes});
        return FB_OK;
    }
    return fb_fail(err, FB_E_NOT_FOUND, "%s has no key %u; see foldback key list", ring->dir,
                   q->key_id);
}

enum fb_code keyring_destroy(struct keyring *ring, uint32_t key_id, const char *who,
                             struct fb_err *err)
{
    struct request q = {.who = who, .key_id = key_id};
    pthread_mutex_lock(&ring->lock);
    enum fb_code code = keyring_change(ring, edit_destroy, &q, err);
    pthread_mutex_unlock(&ring->lock);
    return code;
}

static enum fb_code edit_erase(struct keyring *ring, struct keyset *set, void *arg,
                               struct fb_err *err)
{
    const struct request *q = arg;
    struct keyring_erasure *e = q->erasure;
    (void)ring;
    (void)err;
    e->periods = 0;
    for (size_t i = 0; i < e->count; i++) {
        struct keyset_period *p = keyset_period_of(set, e->texts[i].period);
        if (!p || shred_destroy(&p->tree, e->texts[i].offset))
            continue;
        /* Too many to single out: the texts of everybody in that period go. */
        shred_fini(&p->tree);
        if (!shred_load(&p->tree, (struct span){0}))
            return fb_fail(err, FB_E_NOMEM, "no memory to destroy keys; nothing was erased");
        e->periods++;
    }
    audit(set, q,
          (struct keyring_audit){.op = KEYRING_OP_ERASED,
                                 .key_id = e->letters, /* it is about no data key */
                                 .count = e->count,
                                 .period = e->periods,
                                 .erasure = e->id});
    return FB_OK;
}

enum fb_code keyring_erase(struct keyring *ring, struct keyring_erasure *erasure,
                           struct fb_err *err)
{
    struct request q = {.who = erasure->who, .erasure = erasure};
    gcm_random(&erasure->id, sizeof erasure->id);
    pthread_mutex_lock(&ring->lock);
    enum fb_code code = keyring_change(ring, edit_erase, &q, err);
    pthread_mutex_unlock(&ring->lock);
    return code;
}

/* ---- once a second ---- */

/* So much personal text may be forgotten by a crash, when it is counted for its bound. */
#define UNCOUNTED_BYTES_MAX (64 * KIB)

struct due {
    bool rotate, reserve, begin, has_handover, count;
    uint32_t end_until; /* periods up to this number end */
    uint64_t wall_us;
    const char *why;
};

/* A wall clock that was set back makes nothing young again, and one that was set forward by years
 * ends periods: it is the only clock that an age can be measured by. */
static uint64_t age_us(uint64_t wall_us, uint64_t since_us)
{
    return fb_sub_floor_u64(wall_us, since_us);
}

static struct due look(const struct keyring *ring, uint64_t wall_us)
{
    struct due d = {.wall_us = wall_us};
    struct keyset *set = ring->set;
    const struct keyring_conf *c = &ring->conf;
    const struct keyring_key *active = ring->is_sealing ? keyset_active(set) : NULL;
    if (active) {
        bool is_due =
            (c->rotate_age_us && age_us(wall_us, active->created_us) >= c->rotate_age_us) ||
            (c->rotate_bytes && ring->active_bytes >= c->rotate_bytes) ||
            ring->active_seals + KEYRING_RESERVE > KEYRING_SEALS_MAX;
        /* Without room it would fail, and with it all that is due besides. */
        d.rotate = is_due && set->key_count < KEYRING_KEYS_MAX;
        d.reserve = ring->active_seals + KEYRING_RESERVE / 2 > active->seals;
    }
    d.has_handover = set->handover[0] != '\0';
    d.count = ring->text_bytes >= UNCOUNTED_BYTES_MAX;
    const struct keyset_period *last =
        set->period_count ? &set->period[set->period_count - 1] : NULL;
    d.begin = !last || age_us(wall_us, last->from_us) >= c->period_us;
    /* A period ends where the next one begins; bytes are those of it and all after it. */
    uint64_t bytes = 0;
    for (uint32_t i = set->period_count; i-- > 0;) {
        bytes += set->period[i].bytes;
        bool is_last = i + 1 == set->period_count;
        uint64_t ended_us = is_last ? wall_us : set->period[i + 1].from_us;
        bool is_old =
            !is_last && c->personal_age_us && age_us(wall_us, ended_us) >= c->personal_age_us;
        bool is_over = c->personal_bytes && bytes > c->personal_bytes;
        if (!is_old && !is_over)
            continue;
        d.end_until = set->period[i].id;
        d.begin |= is_last;
        break;
    }
    return d;
}

static enum fb_code edit_due(struct keyring *ring, struct keyset *set, void *arg,
                             struct fb_err *err)
{
    const struct due *d = arg;
    struct request q = {.wall_us = d->wall_us};
    enum fb_code code = FB_OK;
    struct keyring_key *active = keyset_active(set);
    if (d->reserve && active && active->id == ring->active_id)
        active->seals = ring->active_seals + KEYRING_RESERVE;
    if (d->rotate)
        code = edit_rotate(ring, set, &q, err);
    if (code == FB_OK && d->begin) {
        code = keyset_add_period(set, d->wall_us, err);
        if (code == FB_OK)
            audit(set, &q,
                  (struct keyring_audit){.op = KEYRING_OP_PERIOD_BEGAN,
                                         .period = set->next_period - 1});
    }
    while (code == FB_OK && set->period_count && set->period[0].id <= d->end_until) {
        audit(set, &q,
              (struct keyring_audit){.op = KEYRING_OP_PERIOD_ENDED,
                                     .period = set->period[0].id,
                                     .bytes = set->period[0].bytes});
        keyset_drop_period(set, set->period[0].id);
    }
    return code;
}

enum fb_code keyring_watch(struct keyring *ring, uint64_t wall_us, struct fb_err *err)
{
    struct fb_err unread;
    err = err ? err : &unread;
    pthread_mutex_lock(&ring->lock);
    fb_assert(ring->is_writer);
    enum fb_code code = follow(ring, err);
    if (code == FB_OK) {
        struct due d = look(ring, wall_us);
        if (d.rotate || d.reserve || d.begin || d.end_until || d.has_handover || d.count)
            code = keyring_change(ring, edit_due, &d, err);
        ring->rotations += code == FB_OK && d.rotate;
    }
    ring->is_bad = code != FB_OK && code != FB_E_AGAIN;
    snprintf(ring->why, sizeof ring->why, "%.*s", (int)sizeof ring->why - 1,
             ring->is_bad ? err->text : "");
    pthread_mutex_unlock(&ring->lock);
    return code;
}

static enum fb_code edit_nothing(struct keyring *ring, struct keyset *set, void *arg,
                                 struct fb_err *err)
{
    (void)ring;
    (void)set;
    (void)arg;
    (void)err;
    return FB_OK; /* the counts are carried over in any case */
}

void keyring_flush(struct keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    if (ring->text_bytes)
        (void)!keyring_change(ring, edit_nothing, NULL, NULL);
    pthread_mutex_unlock(&ring->lock);
}

size_t keyring_audit_peek(struct keyring *ring, struct keyring_audit *audits, size_t max)
{
    pthread_mutex_lock(&ring->lock);
    size_t count = fb_min_u64(ring->set->audit_count, max);
    memcpy(audits, ring->set->audit, count * sizeof *audits);
    pthread_mutex_unlock(&ring->lock);
    return count;
}

struct said {
    const struct keyring_audit *at;
    size_t count;
};

static void drop_said(struct keyset *set, const struct keyring_audit *said)
{
    for (uint32_t i = 0; i < set->audit_count; i++) {
        const struct keyring_audit *a = &set->audit[i];
        if (a->op != said->op || a->wall_us != said->wall_us || a->key_id != said->key_id ||
            a->period != said->period || a->erasure != said->erasure)
            continue;
        memmove(&set->audit[i], &set->audit[i + 1],
                (set->audit_count - i - 1) * sizeof set->audit[0]);
        set->audit_count--;
        return;
    }
}

static enum fb_code edit_said(struct keyring *ring, struct keyset *set, void *arg,
                              struct fb_err *err)
{
    const struct said *said = arg;
    (void)ring;
    (void)err;
    for (size_t i = 0; i < said->count; i++)
        drop_said(set, &said->at[i]);
    return FB_OK;
}

/* Said twice after a crash in between, never not at all. */
void keyring_audit_done(struct keyring *ring, const struct keyring_audit *audits, size_t count)
{
    struct said said = {audits, count};
    pthread_mutex_lock(&ring->lock);
    for (size_t i = 0; i < count; i++)
        ring->erasures += audits[i].op == KEYRING_OP_ERASED;
    if (count && keyring_change(ring, edit_said, &said, NULL) != FB_OK)
        (void)edit_said(ring, ring->set, &said, NULL); /* not again until the file is read anew */
    pthread_mutex_unlock(&ring->lock);
}
