/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "guard/keyring_int.h"
#include "guard/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* All keyrings of the process: the sandboxed brain cannot run the program of a KMS a second time,
 * and ten connectors need not. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct keyring *list;

static struct keyring *find_open(const char *dir);
static struct keyring *make(const char *dir);
static enum fb_code first_file(struct keyring *ring, uint64_t wall_us, struct fb_err *err);
static enum fb_code known_file(struct keyring *ring, uint64_t wall_us, struct fb_err *err);
static enum fb_code complete(struct keyring *ring, struct keyset *set, uint64_t wall_us,
                             struct fb_err *err);

bool keyring_exists(const char *state_dir)
{
    struct keyset_stamp stamp;
    return keyset_stamp_read(state_dir, &stamp);
}

const char *keyring_op_name(uint8_t op)
{
    static const char *const names[KEYRING_OP_END] = {"none",         "started",   "rotated",
                                                      "rewrapped",    "destroyed", "period_began",
                                                      "period_ended", "erased"};
    return names[op < KEYRING_OP_END ? op : 0];
}

/* ---- open ---- */

enum fb_code keyring_open(struct keyring **out, const char *state_dir, struct fb_err *err)
{
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&list_lock);
    struct keyring *ring = find_open(state_dir);
    if (!ring) {
        ring = make(state_dir);
        struct keyset *set = keyset_new();
        struct keyset_source from = {.dir = state_dir};
        if (!ring || !set)
            code = fb_fail(err, FB_E_NOMEM, "no memory for keys");
        else
            code = keyset_read(set, &from, &ring->stamp, err);
        if (code == FB_OK) {
            keyring_adopt(ring, set);
            ring->next = list;
            list = ring;
        } else {
            keyset_free(set);
            free(ring);
            ring = NULL;
        }
    }
    pthread_mutex_unlock(&list_lock);
    *out = ring;
    return code;
}

static struct keyring *find_open(const char *dir)
{
    for (struct keyring *r = list; r; r = r->next)
        if (strcmp(r->dir, dir) == 0)
            return keyring_ref(r);
    return NULL;
}

static struct keyring *make(const char *dir)
{
    struct keyring *ring = calloc(1, sizeof *ring);
    if (!ring || snprintf(ring->dir, sizeof ring->dir, "%s", dir) >= (int)sizeof ring->dir) {
        free(ring);
        return NULL;
    }
    ring->refs = 1;
    pthread_mutex_init(&ring->lock, NULL);
    return ring;
}

struct keyring *keyring_ref(struct keyring *ring)
{
    __atomic_add_fetch(&ring->refs, 1, __ATOMIC_RELAXED);
    return ring;
}

void keyring_unref(struct keyring *ring)
{
    if (!ring)
        return;
    pthread_mutex_lock(&list_lock);
    bool is_last = __atomic_sub_fetch(&ring->refs, 1, __ATOMIC_ACQ_REL) == 0;
    for (struct keyring **at = &list; is_last && *at; at = &(*at)->next)
        if (*at == ring) {
            *at = ring->next;
            break;
        }
    pthread_mutex_unlock(&list_lock);
    if (!is_last)
        return;
    keyset_free(ring->set);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

/* ---- the one who writes ---- */

enum fb_code keyring_start(struct keyring **out, const char *state_dir,
                           const struct keyring_conf *conf, uint64_t wall_us, struct fb_err *err)
{
    enum fb_code code = master_check(conf->master, err);
    if (code != FB_OK)
        return code;
    int lock = keyset_lock(state_dir, MASTER_TIMEOUT_MS + 2000, err);
    if (lock < 0)
        return err ? err->code : FB_E_KEY;
    struct keyring *ring = make(state_dir);
    if (!ring)
        code = fb_fail(err, FB_E_NOMEM, "no memory for keys");
    if (code == FB_OK) {
        ring->is_writer = true;
        ring->conf = *conf;
        code = keyring_exists(state_dir) ? known_file(ring, wall_us, err)
                                         : first_file(ring, wall_us, err);
    }
    close(lock);
    if (code != FB_OK) {
        if (ring)
            keyset_free(ring->set);
        free(ring);
        return code;
    }
    pthread_mutex_lock(&list_lock);
    ring->next = list;
    list = ring;
    pthread_mutex_unlock(&list_lock);
    *out = ring;
    return FB_OK;
}

static enum fb_code first_file(struct keyring *ring, uint64_t wall_us, struct fb_err *err)
{
    struct keyset *set = keyset_new();
    if (!set)
        return fb_fail(err, FB_E_NOMEM, "no memory for keys");
    enum fb_code code = keyset_reseal(set, ring->conf.master, false, err);
    if (code == FB_OK)
        keyset_add_audit(set, &(struct keyring_audit){
                                  .op = KEYRING_OP_STARTED, .wall_us = wall_us, .who = "foldback"});
    if (code == FB_OK)
        code = complete(ring, set, wall_us, err);
    if (code == FB_OK)
        code = keyset_write(set, ring->dir, &ring->stamp, err);
    if (code == FB_OK)
        keyring_adopt(ring, set);
    else
        keyset_free(set);
    return code;
}

/* The configuration may name the master key by another path than the file does; it may begin to
 * have one.  It may not lose it silently: that would be a switch from sealed to clear. */
static enum fb_code known_file(struct keyring *ring, uint64_t wall_us, struct fb_err *err)
{
    const char *master = ring->conf.master;
    struct keyset *set = keyset_new();
    if (!set)
        return fb_fail(err, FB_E_NOMEM, "no memory for keys");
    struct keyset_source from = {.dir = ring->dir,
                                 .master = master_is_none(master) ? NULL : master};
    enum fb_code code = keyset_read(set, &from, &ring->stamp, err);
    /* After `key rewrap` a brain that starts again finds the configuration of before. */
    bool is_other =
        code == FB_E_KEY && from.master && set->master[0] && strcmp(set->master, master) != 0;
    if (is_other) {
        struct keyset *anew = keyset_new();
        from.master = NULL;
        if (anew && keyset_read(anew, &from, &ring->stamp, NULL) == FB_OK) {
            keyset_free(set);
            set = anew;
            code = FB_OK;
            fb_log(FB_LOG_WARN,
                   "encryption.master_key is %s, and the keys are sealed under %s, which is used; "
                   "correct the configuration",
                   master, set->master);
        } else {
            keyset_free(anew);
            is_other = false;
        }
    }
    if (code == FB_OK && master_is_none(master) && !master_is_none(set->master))
        code = fb_fail(err, FB_E_KEY,
                       "what %s holds is encrypted under %s, and the configuration has no "
                       "encryption.master_key; set it, or end encryption with `foldback key rewrap "
                       "none --state %s`",
                       ring->dir, set->master, ring->dir);
    if (code == FB_OK && !master_is_none(master) && !is_other) {
        if (master_is_none(set->master)) {
            code = keyset_reseal(set, master, false, err);
            keyset_add_audit(set, &(struct keyring_audit){.op = KEYRING_OP_REWRAPPED,
                                                          .wall_us = wall_us,
                                                          .who = "foldback"});
        } else {
            snprintf(set->master, sizeof set->master, "%s", master);
        }
    }
    if (code == FB_OK)
        code = complete(ring, set, wall_us, err);
    set->handover[0] = '\0';
    if (code == FB_OK)
        code = keyset_write(set, ring->dir, &ring->stamp, err);
    if (code == FB_OK)
        keyring_adopt(ring, set);
    else
        keyset_free(set);
    return code;
}

/* A key to seal with, when there is a master key, and a period; the count of seals begins behind
 * what the last run may have used. */
static enum fb_code complete(struct keyring *ring, struct keyset *set, uint64_t wall_us,
                             struct fb_err *err)
{
    struct keyring_key *active = keyset_active(set);
    bool is_sealing = !master_is_none(set->master);
    enum fb_code code = FB_OK;
    ring->active_seals = active ? active->seals : 0;
    if (active)
        active->seals += KEYRING_RESERVE;
    if (!is_sealing && active) {
        active->is_retired = true;
        active->retired_us = wall_us;
    }
    if (is_sealing && (!active || active->seals > KEYRING_SEALS_MAX)) {
        code = keyset_add_key(set, wall_us, err);
        ring->active_seals = 0;
    }
    if (code == FB_OK && set->period_count == 0)
        code = keyset_add_period(set, wall_us, err);
    return code;
}

void keyring_reconfigure(struct keyring *ring, const struct keyring_conf *conf)
{
    pthread_mutex_lock(&ring->lock);
    const char *master = ring->conf.master;
    ring->conf = *conf;
    ring->conf.master = master; /* needs a start */
    pthread_mutex_unlock(&ring->lock);
}

/* <set> becomes the one in use.  Counts of the active key go on when it stays the same. */
void keyring_adopt(struct keyring *ring, struct keyset *set)
{
    struct keyset *before = ring->set;
    const struct keyring_key *active = keyset_active(set);
    uint32_t id = active ? active->id : 0;
    if (id != ring->active_id) {
        if (before)
            ring->active_seals = 0;
        ring->active_bytes = active ? active->bytes : 0;
        ring->active_id = id;
    }
    ring->is_sealing = active && !master_is_none(set->master);
    ring->set = set;
    keyset_free(before);
}

/* ---- sealing ---- */

bool keyring_is_sealing(struct keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    bool is_sealing = ring->is_sealing;
    pthread_mutex_unlock(&ring->lock);
    return is_sealing;
}

enum fb_code keyring_take(struct keyring *ring, uint64_t bytes, uint32_t *key_id,
                          unsigned char nonce[GCM_NONCE_BYTES])
{
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&ring->lock);
    /* Four times the bound that rotation keeps: reached only when the key file could not be written
     * for weeks.  Then the log stops, not the promise. */
    if (!ring->is_sealing || ring->active_seals >= 4 * KEYRING_SEALS_MAX) {
        code = FB_E_KEY;
    } else {
        ring->active_seals++;
        ring->active_bytes += bytes;
        *key_id = ring->active_id;
    }
    pthread_mutex_unlock(&ring->lock);
    if (code == FB_OK)
        gcm_random(nonce, GCM_NONCE_BYTES);
    return code;
}

static bool copy_key(struct keyring *ring, uint32_t id, unsigned char key[GCM_KEY_BYTES])
{
    pthread_mutex_lock(&ring->lock);
    const unsigned char *at = keyset_data_key(ring->set, id);
    if (at)
        memcpy(key, at, GCM_KEY_BYTES);
    pthread_mutex_unlock(&ring->lock);
    return at != NULL;
}

static bool was_made(struct keyring *ring, uint32_t id)
{
    pthread_mutex_lock(&ring->lock);
    bool is_known = id < ring->set->next_key;
    pthread_mutex_unlock(&ring->lock);
    return is_known;
}

enum fb_code keyring_seal(struct keyring *ring, const struct keyring_use *use, struct span in,
                          void *out, unsigned char tag[GCM_TAG_BYTES])
{
    unsigned char key[GCM_KEY_BYTES];
    if (!copy_key(ring, use->key_id, key))
        return FB_E_KEY;
    struct gcm_use gcm = {.key = key, .nonce = use->nonce, .aad = use->aad};
    bool is_done = gcm_seal(&gcm, in, out, tag);
    secret_wipe(key, sizeof key);
    return is_done ? FB_OK : FB_E_INTERNAL;
}

enum fb_code keyring_unseal(struct keyring *ring, const struct keyring_use *use, struct span in,
                            void *out, const unsigned char tag[GCM_TAG_BYTES])
{
    unsigned char key[GCM_KEY_BYTES];
    /* A key that was made after this process read the file. */
    if (!copy_key(ring, use->key_id, key) &&
        (keyring_reload(ring, NULL) != FB_OK || !copy_key(ring, use->key_id, key)))
        return was_made(ring, use->key_id) ? FB_E_NOT_FOUND : FB_E_KEY;
    struct gcm_use gcm = {.key = key, .nonce = use->nonce, .aad = use->aad};
    bool is_good = gcm_open(&gcm, in, out, tag);
    secret_wipe(key, sizeof key);
    return is_good ? FB_OK : FB_E_DAMAGED;
}

/* ---- personal texts ---- */

uint32_t keyring_period(struct keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    const struct keyset *set = ring->set;
    uint32_t id = set->period_count ? set->period[set->period_count - 1].id : 0;
    pthread_mutex_unlock(&ring->lock);
    return id;
}

bool keyring_text_key(struct keyring *ring, uint32_t period, uint64_t offset, unsigned char *key)
{
    pthread_mutex_lock(&ring->lock);
    struct keyset_period *p = keyset_period_of(ring->set, period);
    /* One that began after this process read the file; one that ended is not worth a look each. */
    bool is_new = !p && period >= ring->set->next_period;
    bool is_there = p && shred_key(&p->tree, offset, key);
    pthread_mutex_unlock(&ring->lock);
    if (!is_new || keyring_reload(ring, NULL) != FB_OK)
        return is_there;
    pthread_mutex_lock(&ring->lock);
    p = keyset_period_of(ring->set, period);
    is_there = p && shred_key(&p->tree, offset, key);
    pthread_mutex_unlock(&ring->lock);
    return is_there;
}

void keyring_text_count(struct keyring *ring, uint32_t period, uint64_t bytes)
{
    pthread_mutex_lock(&ring->lock);
    struct keyset_period *p = keyset_period_of(ring->set, period);
    if (p) {
        p->bytes += bytes;
        ring->text_bytes += bytes;
    }
    pthread_mutex_unlock(&ring->lock);
}

/* ---- looking ---- */

void keyring_view(struct keyring *ring, struct keyring_view *view)
{
    pthread_mutex_lock(&ring->lock);
    struct keyset *set = ring->set;
    const struct keyring_key *active = keyset_active(set);
    *view = (struct keyring_view){.is_sealing = ring->is_sealing,
                                  .active_id = ring->is_sealing ? ring->active_id : 0,
                                  .key_count = set->key_count,
                                  .period_count = set->period_count,
                                  .active_seals = ring->active_seals,
                                  .active_bytes = ring->active_bytes,
                                  .active_since_us = active ? active->created_us : 0,
                                  .rotations = ring->rotations,
                                  .erasures = ring->erasures,
                                  .is_bad = ring->is_bad};
    for (uint32_t i = 0; i < set->period_count; i++)
        view->personal_bytes += set->period[i].bytes;
    if (set->period_count) {
        view->period_first_us = set->period[0].from_us;
        view->period_from_us = set->period[set->period_count - 1].from_us;
        view->period_id = set->period[set->period_count - 1].id;
    }
    memcpy(view->master, set->master, sizeof view->master);
    memcpy(view->why, ring->why, sizeof view->why);
    pthread_mutex_unlock(&ring->lock);
}

size_t keyring_list(struct keyring *ring, struct keyring_key *keys, size_t max)
{
    pthread_mutex_lock(&ring->lock);
    size_t count = fb_min_u32(ring->set->key_count, (uint32_t)max);
    memcpy(keys, ring->set->key, count * sizeof *keys);
    pthread_mutex_unlock(&ring->lock);
    return count;
}
