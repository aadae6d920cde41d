/* SPDX-License-Identifier: Apache-2.0 */
/* Files of users: read with their generation, and looked at each second.
 *
 * A changed file is taken when it stands still for one look and is good; else the one before it
 * stays, which is told.  What could not be read (no descriptor is free) is tried with each look. */
#include "gateway/authz_users.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define POLL_US (1 * US_PER_S)

struct stamp { /* of what a path leads to; all 0: to nothing */
    uint64_t device, inode, bytes;
    struct timespec changed;
};
static const struct stamp unread = {.inode = UINT64_MAX}; /* no file has it */
struct authz_users {
    const char *path; /* of the configuration */
    struct spin lock;
    struct htpasswd *now; /* under the lock; NULL: none was good yet */
    struct stamp seen, read;
    bool is_bad; /* what it has now could not be taken; first thread */
    char why[200];
};

static struct stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return (struct stamp){0};
    return (struct stamp){.device = st.st_dev,
                          .inode = st.st_ino,
                          .bytes = (uint64_t)st.st_size,
                          .changed = st.st_ctim}; /* who may read it counts too */
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* One served before in this seat, and died: an upgrade, which can still be refused, has another. */
static bool is_back(const struct gw *gw)
{
    const struct memfile_head *head = gw->mem->head;
    return !gw->gen && atomic_load_explicit(&head->gateway_epoch, memory_order_acquire) > 0 &&
           atomic_load_explicit(&head->gateway_slot, memory_order_acquire) == gw->setup->slot;
}

/* Of the first <count> routes. */
static struct authz_users *same_file(const struct generation *gen, const char *path, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (gen->users[i] && strcmp(gen->users[i]->path, path) == 0)
            return gen->users[i];
    return NULL;
}

static void note_bad(struct gw *gw, struct authz_users *u, const struct fb_err *why)
{
    u->is_bad = true;
    snprintf(u->why, sizeof u->why, "%.199s", why->text);
    atomic_fetch_add_explicit(&gw->mem->head->auth.reads[1], 1, memory_order_relaxed);
}

static bool is_told(const struct authz_users *u, const struct fb_err *why)
{
    return u->is_bad && strncmp(u->why, why->text, sizeof u->why - 1) == 0;
}

static enum fb_code users_new(struct gw *gw, const char *path, struct authz_users **out,
                              struct fb_err *err)
{
    struct fb_err why = {0};
    struct authz_users *u = calloc(1, sizeof *u);
    if (!u)
        return fb_fail(err, FB_E_NOMEM, "auth: no memory for %.200s", path);
    *out = u;
    u->path = path;
    u->seen = u->read = stamp_of(path);
    enum fb_code code = htpasswd_load(path, &u->now, &why);
    if (code == FB_OK)
        return FB_OK;
    if (!is_back(gw))
        return fb_fail(err, code == FB_E_IO ? FB_E_CONFIG : code, "auth: %.380s", why.text);
    if (code != FB_E_CONFIG)
        u->read = unread;
    /* a gateway that comes back must not stay down for a file that somebody is just writing */
    fb_log(FB_LOG_ERROR, "auth: %s; nobody is let in by it until it is good", why.text);
    note_bad(gw, u, &why);
    return FB_OK;
}

enum fb_code authz_load(struct gw *gw, struct generation *gen, struct fb_err *err)
{
    const struct conf *conf = gen->conf;
    enum fb_code code = FB_OK;
    for (size_t i = 0; i < conf->route_count && code == FB_OK; i++) {
        const struct conf_auth *auth = conf->routes[i].auth;
        if (!auth || !auth->file)
            continue;
        if (!gw->authz)
            gw->authz = authz_new(gw);
        if (!gen->users)
            gen->users = calloc(conf->route_count, sizeof(struct authz_users *));
        if (!gw->authz || !gen->users)
            return fb_fail(err, FB_E_NOMEM, "auth: no memory, or no randomness from the system");
        gen->users[i] = same_file(gen, auth->file, conf->route_count);
        if (!gen->users[i])
            code = users_new(gw, auth->file, &gen->users[i], err);
    }
    return code;
}

void authz_unload(struct generation *gen)
{
    for (size_t i = 0; gen->users && i < gen->conf->route_count; i++) {
        struct authz_users *u = gen->users[i];
        if (!u)
            continue;
        for (size_t k = i; k < gen->conf->route_count; k++)
            if (gen->users[k] == u)
                gen->users[k] = NULL;
        htpasswd_free(u->now);
        free(u);
    }
    free(gen->users);
}

static void look(struct gw *gw, struct authz_users *u)
{
    struct stamp now = stamp_of(u->path);
    struct fb_err why = {0};
    struct htpasswd *fresh = NULL;
    bool is_still = is_same(&now, &u->seen);
    u->seen = now;
    if (!is_still || is_same(&now, &u->read))
        return;
    enum fb_code code = htpasswd_load(u->path, &fresh, &why);
    bool is_read = code == FB_OK || code == FB_E_CONFIG;
    u->read = is_read ? now : unread;
    if (!is_read && is_told(u, &why))
        return;
    if (code != FB_OK) {
        fb_log(FB_LOG_ERROR, "auth: %s; %s", why.text,
               u->now ? "the users read last stay" : "nobody is let in by it until it is good");
        note_bad(gw, u, &why);
        return;
    }
    u->is_bad = false;
    atomic_fetch_add_explicit(&gw->mem->head->auth.reads[0], 1, memory_order_relaxed);
    fb_log(FB_LOG_INFO, "auth: %s has %zu users", u->path, htpasswd_count(fresh));
    spin_lock(&u->lock);
    struct htpasswd *was = u->now;
    u->now = fresh;
    spin_unlock(&u->lock);
    htpasswd_free(was);
}

/* What stands about files and the queue, for the brain; not by one whose successor serves. */
static void tell(struct gw *gw)
{
    struct memfile_auth *m = &gw->mem->head->auth;
    const struct generation *gen = gw->gen;
    uint32_t files = 0, bad = 0;
    uint32_t waiting = gw->authz ? authz_waiting(gw->authz) : 0;
    atomic_store_explicit(&m->waiting[gw->setup->slot], waiting, memory_order_relaxed);
    if (gw->is_retired)
        return;
    for (size_t i = 0; gen->users && i < gen->conf->route_count; i++) {
        const struct authz_users *u = gen->users[i];
        if (!u || same_file(gen, u->path, i))
            continue;
        files++;
        if (u->is_bad && bad++ == 0)
            snprintf(m->why, sizeof m->why, "%s: %.199s",
                     u->now ? "the users read last stay" : "nobody is let in by a file of users",
                     u->why);
    }
    atomic_store_explicit(&m->files, files, memory_order_relaxed);
    atomic_store_explicit(&m->bad_files, bad, memory_order_release);
}

void authz_tick(struct gw *gw, uint64_t now_us)
{
    const struct generation *gen = gw->gen;
    if (fb_sub_floor_u64(now_us, gw->users_polled_us) < POLL_US)
        return;
    gw->users_polled_us = now_us;
    for (size_t i = 0; !gw->is_retired && gen->users && i < gen->conf->route_count; i++)
        if (gen->users[i] && !same_file(gen, gen->users[i]->path, i))
            look(gw, gen->users[i]);
    tell(gw);
}

bool authz_users_version(struct authz_users *u, uint64_t *version)
{
    spin_lock(&u->lock);
    bool has_any = u->now != NULL;
    *version = has_any ? htpasswd_version(u->now) : 0;
    spin_unlock(&u->lock);
    return has_any;
}

bool authz_users_find(struct authz_users *u, struct span user, uint64_t version,
                      char hash[HTPASSWD_HASH_BYTES_MAX], bool *is_known)
{
    spin_lock(&u->lock);
    bool is_that = u->now && htpasswd_version(u->now) == version;
    *is_known = is_that && htpasswd_find(u->now, user, hash);
    spin_unlock(&u->lock);
    return is_that;
}
