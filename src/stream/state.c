/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/state.h"

#include "base/assert.h"
#include "base/clock.h"
#include "guard/keyring.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#define SCHEMA_VERSION 1
#define SNAPSHOTS_KEPT "2"

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS pin(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS reader(key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS snapshot(id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
    " offset INTEGER, epoch INTEGER, wall_us INTEGER, raw_bytes INTEGER, checksum INTEGER,"
    " bytes BLOB);"
    "CREATE TABLE IF NOT EXISTS anchor(id INTEGER PRIMARY KEY);"
    "CREATE INDEX IF NOT EXISTS snapshot_name ON snapshot(name, id);"
    "PRAGMA user_version=1;"
    "COMMIT;";

struct state {
    sqlite3 *db;
    struct keyring *keys; /* once they were needed */
    char dir[4096], path[4200];
};

static enum fb_code open_db(struct state *st, struct fb_err *err);
static enum fb_code move_aside(struct state *st, struct state_report *report, struct fb_err *err);
static enum fb_code fail_db(struct state *st, const char *doing, struct fb_err *err);

enum fb_code state_open(struct state **out, const char *dir, struct state_report *report,
                        struct fb_err *err)
{
    struct state_report unread;
    if (!report)
        report = &unread;
    *report = (struct state_report){0};
    struct state *st = calloc(1, sizeof *st);
    if (!st)
        return fb_fail(err, FB_E_NOMEM, "no memory for the state of %s", dir);
    if (mkdir(dir, 0750) != 0 && errno != EEXIST) {
        free(st);
        return fb_fail(err, FB_E_IO, "state directory %s: %s; create its parent", dir,
                       strerror(errno));
    }
    snprintf(st->dir, sizeof st->dir, "%s", dir);
    snprintf(st->path, sizeof st->path, "%s/state.db", st->dir);
    enum fb_code code = open_db(st, err);
    if (code == FB_E_DAMAGED) {
        code = move_aside(st, report, err);
        if (code == FB_OK)
            code = open_db(st, err);
    }
    if (code) {
        state_close(st);
        return code;
    }
    *out = st;
    return FB_OK;
}

enum fb_code state_peek(struct state **out, const char *dir, struct fb_err *err)
{
    struct state *st = calloc(1, sizeof *st);
    if (!st)
        return fb_fail(err, FB_E_NOMEM, "no memory for the state of %s", dir);
    snprintf(st->dir, sizeof st->dir, "%s", dir); /* where the keys of its snapshots are */
    snprintf(st->path, sizeof st->path, "%s/state.db", st->dir);
    int rc = sqlite3_open_v2(st->path, &st->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        enum fb_code code = fail_db(st, "open", err);
        state_close(st);
        return code;
    }
    sqlite3_busy_timeout(st->db, 2000);
    *out = st;
    return FB_OK;
}

void state_close(struct state *st)
{
    if (!st)
        return;
    sqlite3_close(st->db);
    keyring_unref(st->keys);
    free(st);
}

static bool is_damage(int rc)
{
    return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

/* One number from a query; false when there is no row or an error. */
static bool ask(struct state *st, const char *sql, char *text, size_t room)
{
    sqlite3_stmt *q = NULL;
    bool has_row =
        sqlite3_prepare_v2(st->db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW;
    if (has_row)
        snprintf(text, room, "%s", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    return has_row;
}

static enum fb_code open_db(struct state *st, struct fb_err *err)
{
    char answer[160] = "";
    /* NOMUTEX: a struct state belongs to one thread. */
    int rc = sqlite3_open_v2(
        st->path, &st->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return fail_db(st, "open", err);
    sqlite3_extended_result_codes(st->db, 1);
    sqlite3_busy_timeout(st->db, 2000); /* another process commits within some ms */
    bool has_answer = ask(st, "PRAGMA user_version", answer, sizeof answer);
    if (!has_answer && is_damage(sqlite3_errcode(st->db)))
        return FB_E_DAMAGED;
    if (has_answer && atoi(answer) > SCHEMA_VERSION)
        return fb_fail(err, FB_E_VERSION,
                       "%s: layout %s, this version knows up to %d; run the version that wrote it, "
                       "or move the file away",
                       st->path, answer, SCHEMA_VERSION);
    rc = sqlite3_exec(st->db, schema, NULL, NULL, NULL);
    if (is_damage(rc))
        return FB_E_DAMAGED;
    if (rc != SQLITE_OK)
        return fail_db(st, "set up", err);
    if (!ask(st, "PRAGMA quick_check(1)", answer, sizeof answer) || strcmp(answer, "ok") != 0)
        return FB_E_DAMAGED;
    return FB_OK;
}

/* The file and its journal keep their bytes for whoever wants to look. */
static enum fb_code move_aside(struct state *st, struct state_report *report, struct fb_err *err)
{
    static const char *const suffix[] = {"-wal", "-shm", ""};
    char from[4300], to[4300];
    sqlite3_close(st->db);
    st->db = NULL;
    int n = 1;
    do
        snprintf(to, sizeof to, "%s.damaged-%d", st->path, n);
    while (access(to, F_OK) == 0 && ++n < 1000);
    for (size_t i = 0; i < FB_COUNT(suffix); i++) {
        snprintf(from, sizeof from, "%s%s", st->path, suffix[i]);
        snprintf(to, sizeof to, "%s.damaged-%d%s", st->path, n, suffix[i]);
        if (rename(from, to) != 0 && errno != ENOENT)
            return fb_fail(err, FB_E_IO, "%s is damaged and cannot be moved aside: %s", from,
                           strerror(errno));
    }
    report->was_damaged = true;
    snprintf(
        report->sentence, sizeof report->sentence,
        "%.200s was damaged and is kept as state.db.damaged-%d; snapshots, reader positions and "
        "pins begin anew, learned state is rebuilt from the log.",
        st->path, n);
    return FB_OK;
}

static enum fb_code fail_db(struct state *st, const char *doing, struct fb_err *err)
{
    int rc = sqlite3_errcode(st->db);
    enum fb_code code = (rc & 0xff) == SQLITE_FULL   ? FB_E_DISK_FULL
                        : (rc & 0xff) == SQLITE_BUSY ? FB_E_AGAIN
                        : is_damage(rc)              ? FB_E_DAMAGED
                                                     : FB_E_IO;
    return fb_fail(err, code, "%s: cannot %s: %s; see the free space and the owner of the file",
                   st->path, doing, sqlite3_errmsg(st->db));
}

/* ---- statements: one prepare per call; the rates are per second, not per request ---- */

static sqlite3_stmt *prepare(struct state *st, const char *sql)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(st->db, sql, -1, &q, NULL) != SQLITE_OK)
        return NULL;
    return q;
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

/* Runs <q> to its end and finalizes it. */
static enum fb_code finish(struct state *st, sqlite3_stmt *q, const char *doing, struct fb_err *err)
{
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    enum fb_code code = FB_OK;
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        code = fail_db(st, doing, err);
    sqlite3_finalize(q);
    return code;
}

enum fb_code state_epoch_next(struct state *st, uint32_t *epoch, struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "INSERT INTO meta VALUES('epoch', 1) ON CONFLICT(key) DO UPDATE "
                                  "SET value = CAST(value AS INTEGER) + 1 RETURNING value");
    if (!q || sqlite3_step(q) != SQLITE_ROW) {
        enum fb_code code = fail_db(st, "count the epoch", err);
        sqlite3_finalize(q);
        return code;
    }
    *epoch = (uint32_t)sqlite3_column_int64(q, 0);
    return finish(st, q, "count the epoch", err);
}

/* ---- snapshots ----
 * SQLite has no checksums of its own: a flipped bit in a blob comes back as it is.  The sum covers
 * name, offset and epoch too, so that a row is whole or void. */

static uint64_t snapshot_checksum(const char *name, const struct state_snapshot *snap)
{
    XXH64_state_t *x = XXH64_createState();
    if (!x)
        return 0;
    XXH64_reset(x, snap->offset ^ ((uint64_t)snap->epoch << 32));
    XXH64_update(x, name, strlen(name));
    XXH64_update(x, snap->bytes, snap->len);
    uint64_t sum = XXH64_digest(x);
    XXH64_freeState(x);
    return sum;
}

/* ---- encryption ----
 * "fbs1", key id u32, nonce[12], tag[16], the packed bytes sealed.  A clear snapshot begins with
 * the magic of zstd. */

#define SEALED_MAGIC "fbs1"
#define SEALED_HEAD_BYTES (4 + 4 + GCM_NONCE_BYTES + GCM_TAG_BYTES)

/* FB_E_NOT_FOUND: the folder has no keys. */
static enum fb_code keys_of(struct state *st, struct fb_err *err)
{
    if (!st->keys && !keyring_exists(st->dir))
        return FB_E_NOT_FOUND;
    return st->keys ? FB_OK : keyring_open(&st->keys, st->dir, err);
}

static struct span snapshot_place(char room[96], const char *name, uint64_t offset, uint32_t epoch)
{
    snprintf(room, 96, "snapshot %.40s %" PRIu64 " %" PRIu32, name, offset, epoch);
    return span_of(room);
}

/* *packed, with SEALED_HEAD_BYTES of room before it, becomes what is stored. */
static enum fb_code snapshot_seal(struct state *st, const char *name,
                                  const struct state_snapshot *snap, struct span *packed,
                                  struct fb_err *err)
{
    char room[96];
    uint32_t key_id;
    unsigned char *head = (unsigned char *)(uintptr_t)packed->at - SEALED_HEAD_BYTES;
    enum fb_code code = keys_of(st, err);
    if (code == FB_E_NOT_FOUND || (code == FB_OK && !keyring_is_sealing(st->keys)))
        return FB_OK;
    if (code == FB_OK)
        code = keyring_take(st->keys, packed->len, &key_id, head + 8);
    if (code != FB_OK)
        return fb_fail(err, FB_E_KEY, "snapshot %s: there is no key to encrypt it with", name);
    memcpy(head, SEALED_MAGIC, 4);
    memcpy(head + 4, &key_id, sizeof key_id);
    struct keyring_use use = {.key_id = key_id,
                              .nonce = head + 8,
                              .aad = snapshot_place(room, name, snap->offset, snap->epoch)};
    unsigned char *text = head + SEALED_HEAD_BYTES;
    code = keyring_seal(st->keys, &use, *packed, text, head + 8 + GCM_NONCE_BYTES);
    *packed = (struct span){(char *)head, packed->len + SEALED_HEAD_BYTES};
    return code ? fb_fail(err, code, "snapshot %s: it could not be encrypted", name) : FB_OK;
}

/* What snapshot_seal made, opened in <room> of as many bytes; FB_E_DAMAGED, FB_E_KEY. */
static enum fb_code snapshot_open(struct state *st, const char *name,
                                  const struct state_snapshot *snap, struct span *packed,
                                  unsigned char *room)
{
    char place[96];
    uint32_t key_id;
    const unsigned char *head = (const void *)packed->at;
    if (packed->len < SEALED_HEAD_BYTES)
        return FB_E_DAMAGED;
    enum fb_code code = keys_of(st, NULL);
    if (code != FB_OK)
        return FB_E_KEY;
    memcpy(&key_id, head + 4, sizeof key_id);
    struct keyring_use use = {.key_id = key_id,
                              .nonce = head + 8,
                              .aad = snapshot_place(place, name, snap->offset, snap->epoch)};
    struct span text = {packed->at + SEALED_HEAD_BYTES, packed->len - SEALED_HEAD_BYTES};
    code = keyring_unseal(st->keys, &use, text, room, head + 8 + GCM_NONCE_BYTES);
    *packed = (struct span){(char *)room, text.len};
    return code == FB_E_NOT_FOUND ? FB_E_DAMAGED
                                  : code; /* its key was destroyed: as good as gone */
}

static enum fb_code drop_old(struct state *st, const char *name, uint64_t first_offset,
                             struct fb_err *err)
{
    static const char *const drops[] = {
        "DELETE FROM anchor WHERE id IN (SELECT id FROM anchor ORDER BY id LIMIT 1 OFFSET 1) AND "
        "(SELECT count(*) FROM anchor) > ?2 AND ?1 != ''",
        "DELETE FROM anchor WHERE id IN (SELECT id FROM snapshot WHERE name = ?1 AND offset < ?2)",
        "DELETE FROM snapshot WHERE name = ?1 AND ?2 >= 0 AND id NOT IN (SELECT id FROM anchor) "
        "AND "
        "id NOT IN (SELECT id FROM snapshot WHERE name = ?1 ORDER BY id DESC LIMIT " SNAPSHOTS_KEPT
        ")"};
    enum fb_code code = FB_OK;
    for (size_t i = 0; i < FB_COUNT(drops) && code == FB_OK; i++) {
        sqlite3_stmt *q = prepare(st, drops[i]);
        if (q) {
            bind_text(q, 1, name);
            sqlite3_bind_int64(q, 2, i ? (sqlite3_int64)first_offset : STATE_ANCHORS_MAX);
        }
        code = finish(st, q, "drop an old snapshot", err);
    }
    return code;
}

static enum fb_code snapshot_insert(struct state *st, const char *name,
                                    const struct state_snapshot *snap, struct span packed,
                                    struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "INSERT INTO snapshot(name, offset, epoch, wall_us, raw_bytes, "
                                  "checksum, bytes) VALUES(?,?,?,?,?,?,?)");
    if (q) {
        bind_text(q, 1, name);
        sqlite3_bind_int64(q, 2, (sqlite3_int64)snap->offset);
        sqlite3_bind_int64(q, 3, snap->epoch);
        sqlite3_bind_int64(q, 4, (sqlite3_int64)fb_wall_us());
        sqlite3_bind_int64(q, 5, (sqlite3_int64)snap->len);
        sqlite3_bind_int64(q, 6, (sqlite3_int64)snapshot_checksum(name, snap));
        sqlite3_bind_blob64(q, 7, packed.at, packed.len, SQLITE_STATIC);
    }
    enum fb_code code = finish(st, q, "save a snapshot", err);
    if (code)
        return code;
    if (snap->is_anchor) {
        q = prepare(st, "INSERT INTO anchor VALUES(last_insert_rowid())");
        code = finish(st, q, "keep a snapshot", err);
        if (code)
            return code;
    }
    return drop_old(st, name, snap->first_offset, err);
}

enum fb_code state_snapshot_save(struct state *st, const char *name,
                                 const struct state_snapshot *snap, struct fb_err *err)
{
    if (snap->len > STATE_SNAPSHOT_BYTES_MAX)
        return fb_fail(err, FB_E_RANGE, "snapshot %s: %zu bytes, at most %zu", name, snap->len,
                       (size_t)STATE_SNAPSHOT_BYTES_MAX);
    size_t room = ZSTD_compressBound(snap->len);
    char *packed = malloc(SEALED_HEAD_BYTES + room);
    if (!packed)
        return fb_fail(err, FB_E_NOMEM, "no memory to pack snapshot %s", name);
    size_t len = ZSTD_compress(packed + SEALED_HEAD_BYTES, room, snap->bytes, snap->len, 1);
    fb_assert(!ZSTD_isError(len)); /* the room is the bound */
    struct span stored = {packed + SEALED_HEAD_BYTES, len};
    enum fb_code code = snapshot_seal(st, name, snap, &stored, err);
    if (code) {
        free(packed);
        return code;
    }
    if (sqlite3_exec(st->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
        code = fail_db(st, "save a snapshot", err);
    } else {
        code = snapshot_insert(st, name, snap, stored, err);
        if (code == FB_OK && sqlite3_exec(st->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
            code = fail_db(st, "save a snapshot", err);
        if (code)
            sqlite3_exec(st->db, "ROLLBACK", NULL, NULL, NULL);
    }
    free(packed);
    return code;
}

/* The packed bytes as a snapshot. */
static enum fb_code snapshot_inflate(struct span packed, const char *name, uint64_t checksum,
                                     struct state_snapshot *snap)
{
    snap->bytes = malloc(snap->len + 1);
    if (!snap->bytes)
        return FB_E_DAMAGED;
    size_t got = ZSTD_decompress(snap->bytes, snap->len, packed.at, packed.len);
    if (!ZSTD_isError(got) && got == snap->len && snapshot_checksum(name, snap) == checksum)
        return FB_OK;
    free(snap->bytes);
    snap->bytes = NULL;
    return FB_E_DAMAGED;
}

/* The row under <q>; FB_E_DAMAGED; FB_E_KEY: it may be whole, and nobody can tell. */
static enum fb_code snapshot_unpack(struct state *st, sqlite3_stmt *q, const char *name,
                                    struct state_snapshot *snap)
{
    sqlite3_int64 raw_bytes = sqlite3_column_int64(q, 3);
    struct span packed = {sqlite3_column_blob(q, 5), (size_t)sqlite3_column_bytes(q, 5)};
    if (raw_bytes < 0 || (size_t)raw_bytes > STATE_SNAPSHOT_BYTES_MAX || !packed.at)
        return FB_E_DAMAGED;
    snap->offset = (uint64_t)sqlite3_column_int64(q, 0);
    snap->epoch = (uint32_t)sqlite3_column_int64(q, 1);
    snap->saved_wall_us = (uint64_t)sqlite3_column_int64(q, 2);
    snap->len = (size_t)raw_bytes;
    unsigned char *room = NULL;
    enum fb_code code = FB_OK;
    if (span_starts(packed, SPAN(SEALED_MAGIC))) {
        room = malloc(packed.len);
        code = room ? snapshot_open(st, name, snap, &packed, room) : FB_E_DAMAGED;
    }
    if (code == FB_OK)
        code = snapshot_inflate(packed, name, (uint64_t)sqlite3_column_int64(q, 4), snap);
    free(room);
    return code;
}

static enum fb_code fail_key(struct state *st, const char *name, struct fb_err *err)
{
    return fb_fail(err, FB_E_KEY,
                   "%s: snapshot %s is encrypted and its key is not there; put the newest key file "
                   "back as `keys` beside it",
                   st->path, name);
}

enum fb_code state_snapshot_load(struct state *st, const char *name, struct state_snapshot *snap,
                                 struct fb_err *err)
{
    *snap = (struct state_snapshot){0};
    uint32_t damaged = 0;
    sqlite3_stmt *q = prepare(st, "SELECT offset, epoch, wall_us, raw_bytes, checksum, bytes FROM "
                                  "snapshot WHERE name = ? ORDER BY id DESC");
    if (!q)
        return fail_db(st, "load a snapshot", err);
    bind_text(q, 1, name);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        enum fb_code got = snapshot_unpack(st, q, name, snap);
        if (got == FB_OK || got == FB_E_KEY) {
            snap->damaged = damaged;
            sqlite3_finalize(q);
            return got ? fail_key(st, name, err) : FB_OK;
        }
        damaged++;
    }
    bool is_broken = rc != SQLITE_DONE;
    enum fb_code code = is_broken ? fail_db(st, "load a snapshot", err) : FB_OK;
    sqlite3_finalize(q);
    *snap = (struct state_snapshot){.damaged = damaged};
    if (is_broken)
        return code;
    if (damaged)
        return fb_fail(err, FB_E_DAMAGED,
                       "%s: all %u snapshots of %s are damaged; state is rebuilt from the log",
                       st->path, damaged, name);
    return fb_fail(err, FB_E_NOT_FOUND, "%s: no snapshot of %s yet", st->path, name);
}

enum fb_code state_snapshot_find(struct state *st, const char *name, uint64_t offset_min,
                                 struct state_snapshot *snap, struct fb_err *err)
{
    *snap = (struct state_snapshot){0};
    sqlite3_stmt *q = prepare(st, "SELECT offset, epoch, wall_us, raw_bytes, checksum, bytes FROM "
                                  "snapshot WHERE name = ?1 AND offset >= ?2 ORDER BY offset, id");
    if (!q)
        return fail_db(st, "look for a snapshot", err);
    bind_text(q, 1, name);
    sqlite3_bind_int64(q, 2, (sqlite3_int64)offset_min);
    int rc;
    bool is_found = false;
    enum fb_code code = FB_OK;
    while (!is_found && code != FB_E_KEY && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        code = snapshot_unpack(st, q, name, snap);
        is_found = code == FB_OK;
    }
    if (code == FB_E_KEY)
        code = fail_key(st, name, err);
    else if (!is_found)
        code = rc != SQLITE_DONE ? fail_db(st, "look for a snapshot", err)
                                 : fb_fail(err, FB_E_NOT_FOUND,
                                           "%s: no snapshot of %s at or behind offset %" PRIu64,
                                           st->path, name, offset_min);
    sqlite3_finalize(q);
    return code;
}

enum fb_code state_snapshot_uses(struct state *st, uint32_t key_id, uint32_t *count,
                                 struct fb_err *err)
{
    unsigned char head[8];
    memcpy(head, SEALED_MAGIC, 4);
    memcpy(head + 4, &key_id, sizeof key_id);
    sqlite3_stmt *q = prepare(st, "SELECT count(*) FROM snapshot WHERE substr(bytes, 1, 8) = ?");
    if (!q)
        return fail_db(st, "look for keys", err);
    sqlite3_bind_blob(q, 1, head, sizeof head, SQLITE_STATIC);
    bool has_row = sqlite3_step(q) == SQLITE_ROW;
    *count = has_row ? (uint32_t)sqlite3_column_int(q, 0) : 0;
    enum fb_code code = has_row ? FB_OK : fail_db(st, "look for keys", err);
    sqlite3_finalize(q);
    return code;
}

/* ---- positions, meta, pins ---- */

enum fb_code state_offset_set(struct state *st, const char *reader, uint64_t offset,
                              struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "INSERT INTO reader VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE "
                                  "SET value = ?2");
    if (q) {
        bind_text(q, 1, reader);
        sqlite3_bind_int64(q, 2, (sqlite3_int64)offset);
    }
    return finish(st, q, "commit a reader's position", err);
}

enum fb_code state_offset_get(struct state *st, const char *reader, uint64_t *offset,
                              struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "SELECT value FROM reader WHERE key = ?");
    if (!q)
        return fail_db(st, "read a position", err);
    bind_text(q, 1, reader);
    int rc = sqlite3_step(q);
    enum fb_code code = FB_OK;
    if (rc == SQLITE_ROW)
        *offset = (uint64_t)sqlite3_column_int64(q, 0);
    else if (rc == SQLITE_DONE)
        code = fb_fail(err, FB_E_NOT_FOUND, "%s: no position of reader %s yet", st->path, reader);
    else
        code = fail_db(st, "read a position", err);
    sqlite3_finalize(q);
    return code;
}

static enum fb_code text_set(struct state *st, const char *sql, const char *key, struct span value,
                             struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, sql);
    if (q) {
        bind_text(q, 1, key);
        sqlite3_bind_text64(q, 2, value.at ? value.at : "", value.len, SQLITE_STATIC, SQLITE_UTF8);
    }
    return finish(st, q, "write a value", err);
}

enum fb_code state_meta_set(struct state *st, const char *key, struct span value,
                            struct fb_err *err)
{
    return text_set(st, "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
                    key, value, err);
}

enum fb_code state_meta_get(struct state *st, const char *key, char **value, struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "SELECT value FROM meta WHERE key = ?");
    if (!q)
        return fail_db(st, "read a value", err);
    bind_text(q, 1, key);
    int rc = sqlite3_step(q);
    enum fb_code code = FB_OK;
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(q, 0);
        *value = strdup(text ? text : "");
        if (!*value)
            code = fb_fail(err, FB_E_NOMEM, "no memory for the value of %s", key);
    } else if (rc == SQLITE_DONE) {
        code = fb_fail(err, FB_E_NOT_FOUND, "%s: no value of %s", st->path, key);
    } else {
        code = fail_db(st, "read a value", err);
    }
    sqlite3_finalize(q);
    return code;
}

enum fb_code state_pin_set(struct state *st, const char *key, struct span json, struct fb_err *err)
{
    return text_set(st, "INSERT INTO pin VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
                    key, json, err);
}

enum fb_code state_pin_delete(struct state *st, const char *key, struct fb_err *err)
{
    sqlite3_stmt *q = prepare(st, "DELETE FROM pin WHERE key = ?");
    if (q)
        bind_text(q, 1, key);
    return finish(st, q, "delete a pin", err);
}

enum fb_code state_list(struct state *st, enum state_list what, state_each each, void *arg,
                        struct fb_err *err)
{
    static const char *const sql[] = {
        [STATE_LIST_META] = "SELECT key, CAST(value AS TEXT) FROM meta ORDER BY key",
        [STATE_LIST_PINS] = "SELECT key, CAST(value AS TEXT) FROM pin ORDER BY key",
        [STATE_LIST_READERS] = "SELECT key, CAST(value AS TEXT) FROM reader ORDER BY key",
        [STATE_LIST_SNAPSHOTS] =
            ("SELECT name, offset || ' ' || epoch || ' ' || raw_bytes FROM snapshot "
             "ORDER BY name, id")};
    fb_assert(what <= STATE_LIST_SNAPSHOTS);
    sqlite3_stmt *q = prepare(st, sql[what]);
    if (!q)
        return fail_db(st, "list", err);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct span value = {(const char *)sqlite3_column_text(q, 1),
                             (size_t)sqlite3_column_bytes(q, 1)};
        if (!each(arg, (const char *)sqlite3_column_text(q, 0), value)) {
            rc = SQLITE_DONE;
            break;
        }
    }
    enum fb_code code = rc == SQLITE_DONE ? FB_OK : fail_db(st, "list", err);
    sqlite3_finalize(q);
    return code;
}
