/* SPDX-License-Identifier: Apache-2.0 */
/* The key file, one thing per line:
 *
 *   foldback-keys 1
 *   master MASTER                     as encryption.master_key has it
 *   store TEXT                        the store key, sealed by the master key; without one: clear
 *   handover HEX                      the same, sealed by the store key before it, for a second
 *   next KEY PERIOD                   numbers that were never used
 *   key ID active|retired CREATED_US RETIRED_US SEALS BYTES HEX
 *   period ID FROM_US BYTES HEX
 *   audit OP WALL_US KEY PERIOD COUNT BYTES ERASURE WHO
 *   sum SHA256                        of all lines before */
#include "guard/keyring_int.h"

#include "base/assert.h"
#include "base/clock.h"
#include "guard/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "foldback-keys 1\n"
#define READ_TURNS 3

static enum fb_code read_text(const char *dir, struct buf *text, struct keyset_stamp *stamp,
                              struct fb_err *err);
static bool is_whole(struct span *text);
static bool read_lines(struct keyset *set, struct span text);
static enum fb_code unlock(struct keyset *set, const struct keyset_source *from,
                           struct fb_err *err);
static bool read_keys(struct keyset *set, struct span text);

struct keyset *keyset_new(void)
{
    struct keyset *set = calloc(1, sizeof *set);
    if (!set)
        return NULL;
    set->secret = secret_alloc(sizeof *set->secret);
    set->period = calloc(KEYRING_PERIODS_MAX, sizeof *set->period);
    set->next_key = set->next_period = 1;
    if (set->secret && set->period)
        return set;
    keyset_free(set);
    return NULL;
}

void keyset_free(struct keyset *set)
{
    if (!set)
        return;
    for (uint32_t i = 0; set->period && i < set->period_count; i++)
        shred_fini(&set->period[i].tree);
    secret_free(set->secret, sizeof *set->secret);
    free(set->period);
    secret_wipe(set->store_text, sizeof set->store_text); /* clear without a master key */
    free(set);
}

enum fb_code keyset_read(struct keyset *set, const struct keyset_source *from,
                         struct keyset_stamp *stamp, struct fb_err *err)
{
    struct buf text;
    buf_init(&text, KEYSET_FILE_BYTES_MAX);
    struct span lines;
    enum fb_code code;
    bool is_good = false;
    /* Between open and read another process may have replaced the file and overwritten this one. */
    for (int turn = 0; turn < READ_TURNS && !is_good; turn++) {
        if (text.at)
            secret_wipe(text.at, text.len);
        buf_clear(&text);
        code = read_text(from->dir, &text, stamp, err);
        lines = buf_span(&text);
        if (code != FB_OK)
            break;
        is_good = is_whole(&lines);
    }
    if (code == FB_OK && (!is_good || !read_lines(set, lines)))
        code = fb_fail(err, FB_E_DAMAGED,
                       "the key file %s/keys is not whole; nothing was changed; put it back from "
                       "your backup: without it stored data cannot be read",
                       from->dir);
    if (code == FB_OK)
        code = unlock(set, from, err);
    if (code == FB_OK && !read_keys(set, lines))
        code = fb_fail(err, FB_E_DAMAGED,
                       "the key file %s/keys holds a key that its own store key does not open; put "
                       "the file back from your backup",
                       from->dir);
    if (text.at)
        secret_wipe(text.at, text.len);
    buf_fini(&text);
    return code;
}

static void stamp_of(struct keyset_stamp *stamp, const struct stat *st)
{
    *stamp =
        (struct keyset_stamp){.inode = st->st_ino, .bytes = st->st_size, .modified = st->st_mtim};
}

bool keyset_stamp_read(const char *dir, struct keyset_stamp *stamp)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/keys", dir);
    if (stat(path, &st) != 0)
        return false;
    stamp_of(stamp, &st);
    return true;
}

static enum fb_code read_text(const char *dir, struct buf *text, struct keyset_stamp *stamp,
                              struct fb_err *err)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/keys", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fb_fail(err, errno == ENOENT ? FB_E_NOT_FOUND : FB_E_KEY,
                       "the key file %s cannot be read: %s; nothing was changed", path,
                       strerror(errno));
    enum fb_code code = FB_OK;
    /* It names a program that may be run: nobody else may have written it. */
    if (fstat(fd, &st) != 0 || (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0) ||
        (st.st_mode & 0022))
        code = fb_fail(err, FB_E_KEY,
                       "the key file %s belongs to somebody else or others may write it; run chown "
                       "and chmod 600 on it",
                       path);
    stamp_of(stamp, &st);
    if (code == FB_OK && !buf_reserve(text, (size_t)st.st_size + 1))
        code = fb_fail(err, FB_E_DAMAGED, "the key file %s has %lld bytes, at most %zu", path,
                       (long long)st.st_size, (size_t)KEYSET_FILE_BYTES_MAX);
    while (code == FB_OK && text->len < (size_t)st.st_size) {
        ssize_t n = read(fd, text->at + text->len, (size_t)st.st_size - text->len);
        if (n <= 0)
            break;
        text->len += (size_t)n;
    }
    close(fd);
    return code;
}

static void sum_of(struct span text, char hex[2 * SHA256_DIGEST_LENGTH + 1])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256((const void *)text.at, text.len, sum);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

/* Checks the last line and takes it off. */
static bool is_whole(struct span *text)
{
    const size_t tail = 4 + 2 * SHA256_DIGEST_LENGTH + 1;
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    if (text->len < tail + sizeof MAGIC - 1 || !span_starts(*text, SPAN(MAGIC)))
        return false;
    struct span body = {text->at, text->len - tail};
    sum_of(body, hex);
    *text = body;
    return memcmp(body.at + body.len, "sum ", 4) == 0 &&
           memcmp(body.at + body.len + 4, hex, sizeof hex - 1) == 0;
}

static bool copy_text(char *to, size_t size, struct span text)
{
    if (text.len >= size)
        return false;
    memcpy(to, text.at, text.len);
    to[text.len] = '\0';
    return true;
}

/* The next word of *line as a number. */
static bool number(struct span *line, uint64_t *value)
{
    struct span word = span_cut(*line, ' ', line);
    return span_to_u64(word, value);
}

static bool numbers(struct span *line, uint64_t *value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!number(line, &value[i]))
            return false;
    return true;
}

static bool read_audit(struct keyset *set, struct span rest)
{
    uint64_t v[7];
    if (!numbers(&rest, v, 7) || set->audit_count == KEYRING_AUDITS_MAX)
        return false;
    struct keyring_audit *a = &set->audit[set->audit_count++];
    *a = (struct keyring_audit){.op = (uint8_t)v[0],
                                .wall_us = v[1],
                                .key_id = (uint32_t)v[2],
                                .period = (uint32_t)v[3],
                                .count = v[4],
                                .bytes = v[5],
                                .erasure = v[6]};
    return copy_text(a->who, sizeof a->who, rest);
}

/* All but the keys themselves, which need the store key. */
static bool read_lines(struct keyset *set, struct span text)
{
    while (text.len) {
        struct span rest, line = span_cut(text, '\n', &text);
        struct span word = span_cut(line, ' ', &rest);
        uint64_t v[2];
        bool is_good = true;
        if (span_eq(word, SPAN("master"))) {
            is_good = copy_text(set->master, sizeof set->master, rest);
        } else if (span_eq(word, SPAN("store"))) {
            is_good = copy_text(set->store_text, sizeof set->store_text, rest);
        } else if (span_eq(word, SPAN("handover"))) {
            is_good = copy_text(set->handover, sizeof set->handover, rest);
        } else if (span_eq(word, SPAN("next"))) {
            is_good = numbers(&rest, v, 2);
            set->next_key = is_good ? (uint32_t)v[0] : 0;
            set->next_period = is_good ? (uint32_t)v[1] : 0;
        } else if (span_eq(word, SPAN("audit"))) {
            is_good = read_audit(set, rest);
        }
        if (!is_good)
            return false;
    }
    return set->store_text[0] && master_check(set->master, NULL) == FB_OK;
}

static enum fb_code unlock(struct keyset *set, const struct keyset_source *from, struct fb_err *err)
{
    unsigned char *store = set->secret->store;
    const struct keyset *known = from->known;
    if (known && strcmp(known->store_text, set->store_text) == 0) {
        memcpy(store, known->secret->store, GCM_KEY_BYTES);
        return FB_OK;
    }
    unsigned char sealed[GCM_KEY_BYTES + GCM_WRAP_BYTES];
    if (known && master_hex_get(span_of(set->handover), sealed, sizeof sealed) &&
        gcm_unwrap(known->secret->store, SPAN("handover"),
                   (struct span){(char *)sealed, sizeof sealed}, store))
        return FB_OK;
    if (master_is_none(set->master))
        return master_hex_get(span_of(set->store_text), store, GCM_KEY_BYTES)
                   ? FB_OK
                   : fb_fail(err, FB_E_DAMAGED, "the key file %s/keys has no store key", from->dir);
    return master_unwrap(from->master ? from->master : set->master, span_of(set->store_text), store,
                         err);
}

static struct span aad_of(char room[32], const char *what, uint32_t id)
{
    snprintf(room, 32, "%s %" PRIu32, what, id);
    return span_of(room);
}

static bool read_key(struct keyset *set, struct span rest)
{
    char room[32];
    uint64_t id, v[4];
    unsigned char sealed[GCM_KEY_BYTES + GCM_WRAP_BYTES];
    if (!number(&rest, &id) || set->key_count == KEYRING_KEYS_MAX)
        return false;
    struct span state = span_cut(rest, ' ', &rest);
    if (!numbers(&rest, v, 4) || !master_hex_get(rest, sealed, sizeof sealed))
        return false;
    set->key[set->key_count] = (struct keyring_key){.id = (uint32_t)id,
                                                    .is_retired = span_eq(state, SPAN("retired")),
                                                    .created_us = v[0],
                                                    .retired_us = v[1],
                                                    .seals = v[2],
                                                    .bytes = v[3]};
    return gcm_unwrap(set->secret->store, aad_of(room, "key", (uint32_t)id),
                      (struct span){(char *)sealed, sizeof sealed},
                      set->secret->data[set->key_count++]);
}

static bool read_period(struct keyset *set, struct span rest)
{
    char room[32];
    uint64_t v[3];
    if (!numbers(&rest, v, 3) || set->period_count == KEYRING_PERIODS_MAX ||
        rest.len < 2 * GCM_WRAP_BYTES)
        return false;
    size_t bytes = rest.len / 2;
    struct keyset_period *p = &set->period[set->period_count];
    *p = (struct keyset_period){.id = (uint32_t)v[0], .from_us = v[1], .bytes = v[2]};
    unsigned char *sealed = malloc(bytes), *nodes = secret_alloc(bytes);
    bool is_good = sealed && nodes && master_hex_get(rest, sealed, bytes) &&
                   gcm_unwrap(set->secret->store, aad_of(room, "period", p->id),
                              (struct span){(char *)sealed, bytes}, nodes) &&
                   shred_load(&p->tree, (struct span){(char *)nodes, bytes - GCM_WRAP_BYTES});
    set->period_count += is_good;
    free(sealed);
    secret_free(nodes, bytes);
    return is_good;
}

static bool read_keys(struct keyset *set, struct span text)
{
    while (text.len) {
        struct span rest, line = span_cut(text, '\n', &text);
        struct span word = span_cut(line, ' ', &rest);
        if (span_eq(word, SPAN("key")) && !read_key(set, rest))
            return false;
        if (span_eq(word, SPAN("period")) && !read_period(set, rest))
            return false;
    }
    return true;
}

/* ---- writing ---- */

static bool put_keys(const struct keyset *set, struct buf *out)
{
    char room[32];
    bool is_done = true;
    for (uint32_t i = 0; i < set->key_count; i++) {
        const struct keyring_key *k = &set->key[i];
        unsigned char sealed[GCM_KEY_BYTES + GCM_WRAP_BYTES];
        is_done &= gcm_wrap(set->secret->store, aad_of(room, "key", k->id),
                            (struct span){(char *)set->secret->data[i], GCM_KEY_BYTES}, sealed);
        buf_printf(out, "key %" PRIu32 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
                   k->id, k->is_retired ? "retired" : "active", k->created_us, k->retired_us,
                   k->seals, k->bytes);
        master_hex_put(out, sealed, sizeof sealed);
        buf_putc(out, '\n');
    }
    return is_done;
}

static bool put_periods(const struct keyset *set, struct buf *out)
{
    char room[32];
    bool is_done = true;
    for (uint32_t i = 0; i < set->period_count && is_done; i++) {
        const struct keyset_period *p = &set->period[i];
        struct buf nodes;
        buf_init(&nodes, (size_t)SHRED_NODES_MAX * SHRED_NODE_BYTES + 1);
        (void)buf_reserve(&nodes, (size_t)p->tree.count * SHRED_NODE_BYTES); /* no copies left */
        shred_save(&p->tree, &nodes);
        unsigned char *sealed = malloc(nodes.len + GCM_WRAP_BYTES);
        is_done =
            sealed && !nodes.failed &&
            gcm_wrap(set->secret->store, aad_of(room, "period", p->id), buf_span(&nodes), sealed);
        buf_printf(out, "period %" PRIu32 " %" PRIu64 " %" PRIu64 " ", p->id, p->from_us, p->bytes);
        if (is_done)
            master_hex_put(out, sealed, nodes.len + GCM_WRAP_BYTES);
        buf_putc(out, '\n');
        if (nodes.at)
            secret_wipe(nodes.at, nodes.len);
        buf_fini(&nodes);
        free(sealed);
    }
    return is_done;
}

static bool put_text(const struct keyset *set, struct buf *out)
{
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    buf_printf(out, MAGIC "master %s\nstore %s\n", set->master[0] ? set->master : "none",
               set->store_text);
    if (set->handover[0])
        buf_printf(out, "handover %s\n", set->handover);
    buf_printf(out, "next %" PRIu32 " %" PRIu32 "\n", set->next_key, set->next_period);
    bool is_done = put_keys(set, out) && put_periods(set, out);
    for (uint32_t i = 0; i < set->audit_count; i++) {
        const struct keyring_audit *a = &set->audit[i];
        buf_printf(out,
                   "audit %u %" PRIu64 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64
                   " %s\n",
                   a->op, a->wall_us, a->key_id, a->period, a->count, a->bytes, a->erasure, a->who);
    }
    sum_of(buf_span(out), hex);
    buf_printf(out, "sum %s\n", hex);
    return is_done && !out->failed;
}

/* Wrapped keys must not lie in a free block of the disk: what is destroyed later would be found in
 * each version of before.  What a flash drive or a copying file system keeps is beyond us. */
static void overwrite(int fd)
{
    static const char zeros[4096];
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    for (off_t at = 0; at < st.st_size; at += (off_t)sizeof zeros) {
        size_t len = (size_t)fb_min_u64(sizeof zeros, (uint64_t)(st.st_size - at));
        if (pwrite(fd, zeros, len, at) < 0)
            break;
    }
    (void)fdatasync(fd);
}

static bool write_whole(int fd, struct span text)
{
    for (size_t done = 0; done < text.len;) {
        ssize_t n = write(fd, text.at + done, text.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return fsync(fd) == 0;
}

static bool sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return is_done;
}

enum fb_code keyset_write(const struct keyset *set, const char *dir, struct keyset_stamp *stamp,
                          struct fb_err *err)
{
    char path[600], draft[600];
    struct buf text;
    struct stat st;
    buf_init(&text, KEYSET_FILE_BYTES_MAX);
    snprintf(path, sizeof path, "%s/keys", dir);
    snprintf(draft, sizeof draft, "%s/keys.new", dir);
    int fd = -1, old = -1;
    enum fb_code code = FB_OK;
    if (!put_text(set, &text)) {
        code = fb_fail(err, FB_E_NOMEM, "the key file %s would be larger than %zu bytes", path,
                       (size_t)KEYSET_FILE_BYTES_MAX);
        goto done;
    }
    old = open(path, O_WRONLY | O_CLOEXEC);
    fd = open(draft, O_WRONLY | O_NOFOLLOW | O_CLOEXEC); /* of a crash */
    overwrite(fd);
    if (fd >= 0)
        close(fd);
    (void)unlink(draft);
    fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    /* A root that rotates by hand must not take the file away from the user who runs foldback. */
    if (fd >= 0 && old >= 0 && fstat(old, &st) == 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
    if (fd < 0 || !write_whole(fd, buf_span(&text)) || fstat(fd, &st) != 0 ||
        rename(draft, path) != 0 || !sync_dir(dir)) {
        code = fb_fail(err, FB_E_IO,
                       "the key file %s cannot be written: %s; the keys of before stay in use",
                       path, strerror(errno));
        goto done;
    }
    stamp_of(stamp, &st);
    overwrite(old);
done:
    if (fd >= 0)
        close(fd);
    if (old >= 0)
        close(old);
    if (text.at)
        secret_wipe(text.at, text.len);
    buf_fini(&text);
    return code;
}

int keyset_lock(const char *dir, uint32_t wait_ms, struct fb_err *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/keys.lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        fb_fail(err, FB_E_KEY, "%s: %s; the keys cannot be changed", path, strerror(errno));
        return -1;
    }
    uint64_t until_us = fb_mono_us() + wait_ms * US_PER_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EINTR && (errno != EWOULDBLOCK || fb_mono_us() >= until_us)) {
            fb_fail(err, FB_E_AGAIN, "%s: somebody else changes the keys; try again", path);
            close(fd);
            return -1;
        }
        usleep(2000);
    }
    return fd;
}

/* ---- the set itself ---- */

struct keyring_key *keyset_active(struct keyset *set)
{
    for (uint32_t i = set->key_count; i-- > 0;)
        if (!set->key[i].is_retired)
            return &set->key[i];
    return NULL;
}

unsigned char *keyset_data_key(struct keyset *set, uint32_t id)
{
    for (uint32_t i = set->key_count; i-- > 0;)
        if (set->key[i].id == id)
            return set->secret->data[i];
    return NULL;
}

struct keyset_period *keyset_period_of(struct keyset *set, uint32_t id)
{
    for (uint32_t i = set->period_count; i-- > 0;)
        if (set->period[i].id == id)
            return &set->period[i];
    return NULL;
}

enum fb_code keyset_add_key(struct keyset *set, uint64_t wall_us, struct fb_err *err)
{
    if (set->key_count == KEYRING_KEYS_MAX)
        return fb_fail(err, FB_E_KEY,
                       "there are %d data keys, no more fit; let go of those that nothing needs "
                       "with foldback key prune",
                       KEYRING_KEYS_MAX);
    struct keyring_key *before = keyset_active(set);
    if (before) {
        before->is_retired = true;
        before->retired_us = wall_us;
    }
    fb_assert(set->next_key > 0);
    set->key[set->key_count] = (struct keyring_key){
        .id = set->next_key++, .created_us = wall_us, .seals = KEYRING_RESERVE};
    gcm_random(set->secret->data[set->key_count++], GCM_KEY_BYTES);
    return FB_OK;
}

enum fb_code keyset_add_period(struct keyset *set, uint64_t wall_us, struct fb_err *err)
{
    if (set->period_count == KEYRING_PERIODS_MAX)
        keyset_drop_period(set, set->period[0].id);
    struct keyset_period *p = &set->period[set->period_count];
    *p = (struct keyset_period){.id = set->next_period, .from_us = wall_us};
    if (!shred_init(&p->tree))
        return fb_fail(err, FB_E_NOMEM, "no memory for a period key");
    set->next_period++;
    set->period_count++;
    return FB_OK;
}

void keyset_drop_key(struct keyset *set, uint32_t id)
{
    for (uint32_t i = 0; i < set->key_count; i++) {
        if (set->key[i].id != id)
            continue;
        uint32_t behind = set->key_count - i - 1;
        memmove(&set->key[i], &set->key[i + 1], behind * sizeof set->key[0]);
        memmove(set->secret->data[i], set->secret->data[i + 1], (size_t)behind * GCM_KEY_BYTES);
        secret_wipe(set->secret->data[--set->key_count], GCM_KEY_BYTES);
        return;
    }
}

void keyset_drop_period(struct keyset *set, uint32_t id)
{
    for (uint32_t i = 0; i < set->period_count; i++) {
        if (set->period[i].id != id)
            continue;
        shred_fini(&set->period[i].tree);
        memmove(&set->period[i], &set->period[i + 1],
                (set->period_count - i - 1) * sizeof set->period[0]);
        set->period_count--;
        return;
    }
}

void keyset_add_audit(struct keyset *set, const struct keyring_audit *audit)
{
    if (set->audit_count == KEYRING_AUDITS_MAX) {
        memmove(&set->audit[0], &set->audit[1], sizeof set->audit - sizeof set->audit[0]);
        set->audit_count--;
    }
    struct keyring_audit *a = &set->audit[set->audit_count++];
    *a = *audit;
    for (char *c = a->who; *c; c++) /* a line must stay a line */
        if (*c < ' ' || *c > '~')
            *c = '?';
}

enum fb_code keyset_reseal(struct keyset *set, const char *master, bool is_followed,
                           struct fb_err *err)
{
    unsigned char store[GCM_KEY_BYTES], sealed[GCM_KEY_BYTES + GCM_WRAP_BYTES];
    struct buf text;
    enum fb_code code = master_check(master, err);
    if (code != FB_OK)
        return code;
    gcm_random(store, sizeof store);
    buf_init(&text, MASTER_TEXT_MAX);
    if (master_is_none(master))
        master_hex_put(&text, store, sizeof store);
    else
        code = master_wrap(master, store, &text, err);
    if (code == FB_OK && (text.failed || text.len == 0))
        code = fb_fail(err, FB_E_KEY, "%s: its answer to `wrap` is empty", master);
    set->handover[0] = '\0';
    if (code == FB_OK && is_followed &&
        gcm_wrap(set->secret->store, SPAN("handover"), (struct span){(char *)store, sizeof store},
                 sealed)) {
        struct buf hex;
        buf_init(&hex, sizeof set->handover);
        master_hex_put(&hex, sealed, sizeof sealed);
        snprintf(set->handover, sizeof set->handover, "%s", buf_str(&hex));
        buf_fini(&hex);
    }
    if (code == FB_OK) {
        snprintf(set->store_text, sizeof set->store_text, "%s", buf_str(&text));
        snprintf(set->master, sizeof set->master, "%s", master_is_none(master) ? "none" : master);
        memcpy(set->secret->store, store, sizeof store);
    }
    if (text.at)
        secret_wipe(text.at, text.len);
    buf_fini(&text);
    secret_wipe(store, sizeof store);
    return code;
}
