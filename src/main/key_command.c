/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback key list | rotate | rewrap | prune`.
 *
 * They change the key file themselves, running foldback or not: it follows within a second and
 * writes the audit event.  So there is one way to do it, which also works when nothing else does.
 */
#include "main/key_command.h"

#include "base/clock.h"
#include "base/json.h"
#include "guard/master.h"
#include "main/run.h"
#include "stream/connectors/letters.h"
#include "stream/segment.h"
#include "stream/state.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* What still needs a key. */
struct need {
    uint64_t blocks, bytes, letters;
    uint32_t segments, snapshots, last_segment;
};
struct needs {
    struct keyring_key keys[KEYRING_KEYS_MAX];
    struct need of[KEYRING_KEYS_MAX];
    size_t count;
    struct need clear, unknown;
    size_t segments;
    bool has_state;
};

static struct need *need_of(struct needs *needs, uint32_t key_id)
{
    for (size_t k = 0; k < needs->count; k++)
        if (needs->keys[k].id == key_id)
            return &needs->of[k];
    return key_id ? &needs->unknown : &needs->clear;
}

static void count_block(struct need *n, const struct block_head *head)
{
    n->blocks++;
    n->bytes += block_bytes(head);
    n->segments += n->last_segment != head->segment;
    n->last_segment = head->segment;
}

static enum fb_code fail_count(struct fb_err *err, const char *path, const char *why)
{
    return fb_fail(err, FB_E_IO,
                   "%s cannot be read: %s; what needs a key is not known, and nothing was changed; "
                   "run it as the user of foldback, or as root",
                   path, why);
}

/* Headers only: they are never encrypted. */
static enum fb_code count_blocks(const char *state_dir, struct needs *needs, struct fb_err *err)
{
    char dir[600], path[700], name[SEGMENT_NAME_BYTES];
    struct segment_list list;
    snprintf(dir, sizeof dir, "%s/log", state_dir);
    enum fb_code code = segment_list_read(&list, dir, err);
    if (code != FB_OK)
        return code;
    needs->segments = list.count;
    for (size_t i = 0; i < list.count && code == FB_OK; i++) {
        struct block_head head;
        segment_name(name, list.at[i].number, list.at[i].first_offset);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT) /* retention may have been here */
            code = fail_count(err, path, strerror(errno));
        for (uint64_t at = 0; fd >= 0; at = head.position + (uint64_t)block_bytes(&head)) {
            enum fb_code found = segment_head_at(fd, list.at[i].number, at, &head);
            if (found == FB_E_DAMAGED || found == FB_E_END)
                found = segment_head_after(fd, list.at[i].number, at, list.at[i].bytes, &head);
            if (found == FB_E_IO || found == FB_E_VERSION)
                code = fail_count(err, path,
                                  found == FB_E_IO ? strerror(errno) : "a newer version wrote it");
            if (found != FB_OK)
                break;
            count_block(need_of(needs, head.key_id), &head);
        }
        if (fd >= 0)
            close(fd);
    }
    segment_list_fini(&list);
    return code;
}

static void count_letter(void *ctx, const struct letter_view *letter)
{
    need_of(ctx, letter->key_id)->letters++;
}

static enum fb_code count_needs(const char *state_dir, struct keyring *ring, struct needs *needs,
                                struct fb_err *err)
{
    struct state *state;
    *needs = (struct needs){0};
    needs->count = keyring_list(ring, needs->keys, KEYRING_KEYS_MAX);
    char path[600];
    enum fb_code code = count_blocks(state_dir, needs, err);
    struct letters letters = {.each = count_letter, .ctx = needs, .is_closed = true};
    if (code == FB_OK)
        code = letters_go_through(state_dir, &letters, err);
    snprintf(path, sizeof path, "%s/state.db", state_dir);
    needs->has_state = access(path, F_OK) == 0;
    if (code == FB_OK && needs->has_state)
        code = state_peek(&state, state_dir, err);
    if (code != FB_OK || !needs->has_state)
        return code;
    for (size_t i = 0; i < needs->count && code == FB_OK; i++)
        code = state_snapshot_uses(state, needs->keys[i].id, &needs->of[i].snapshots, err);
    state_close(state);
    return code;
}

/* ---- list ---- */

static void put_time(struct buf *out, uint64_t wall_us)
{
    char text[40] = "-";
    time_t s = (time_t)(wall_us / US_PER_S);
    struct tm tm;
    if (wall_us && gmtime_r(&s, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(out, "%-21s", text);
}

static void print_text(const struct needs *needs, const struct keyring_view *v, struct buf *out)
{
    buf_printf(out, "master key  %s\n", v->master[0] ? v->master : "none");
    buf_printf(out, "encryption  %s\n",
               v->is_sealing ? "on: blocks, snapshots and dead letters"
                             : "off: only personal fields are sealed");
    buf_printf(out, "periods     %u with readable personal fields\n\n", v->period_count);
    if (needs->count)
        buf_puts(out, "KEY   STATE    SINCE                RETIRED              SEGMENTS  BLOCKS   "
                      "   MIB   SNAPSHOTS   LETTERS\n");
    for (size_t i = 0; i < needs->count; i++) {
        const struct keyring_key *k = &needs->keys[i];
        const struct need *n = &needs->of[i];
        buf_printf(out, "%-5u %-8s ", k->id, k->is_retired ? "retired" : "active");
        put_time(out, k->created_us);
        put_time(out, k->retired_us);
        buf_printf(out, "%8u  %6llu %8.1f  %10u  %8llu\n", n->segments,
                   (unsigned long long)n->blocks, (double)n->bytes / (double)MIB, n->snapshots,
                   (unsigned long long)n->letters);
    }
    if (needs->clear.blocks)
        buf_printf(out, "not encrypted: %llu blocks in %u segments\n",
                   (unsigned long long)needs->clear.blocks, needs->clear.segments);
    if (needs->unknown.blocks)
        buf_printf(out, "under keys that are gone: %llu blocks in %u segments\n",
                   (unsigned long long)needs->unknown.blocks, needs->unknown.segments);
    if (needs->clear.letters)
        buf_printf(out, "not encrypted: %llu dead letters\n",
                   (unsigned long long)needs->clear.letters);
    if (needs->unknown.letters)
        buf_printf(out, "under keys that are gone: %llu dead letters\n",
                   (unsigned long long)needs->unknown.letters);
}

static void put_need(struct json *j, const struct need *n)
{
    json_key_u64(j, "segments", n->segments);
    json_key_u64(j, "blocks", n->blocks);
    json_key_u64(j, "bytes", n->bytes);
    json_key_u64(j, "snapshots", n->snapshots);
    json_key_u64(j, "dead_letters", n->letters);
}

static void print_json(const struct needs *needs, const struct keyring_view *v, struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object_begin(&j);
    json_key_str(&j, "master", v->master[0] ? v->master : "none");
    json_key_bool(&j, "is_encrypted", v->is_sealing);
    json_key_u64(&j, "periods", v->period_count);
    json_key(&j, "keys");
    json_array_begin(&j);
    for (size_t i = 0; i < needs->count; i++) {
        const struct keyring_key *k = &needs->keys[i];
        json_object_begin(&j);
        json_key_u64(&j, "id", k->id);
        json_key_str(&j, "state", k->is_retired ? "retired" : "active");
        json_key_u64(&j, "created_us", k->created_us);
        json_key_u64(&j, "retired_us", k->retired_us);
        json_key_u64(&j, "seals_max", k->seals);
        put_need(&j, &needs->of[i]);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_key_u64(&j, "clear_blocks", needs->clear.blocks);
    json_key_u64(&j, "unknown_blocks", needs->unknown.blocks);
    json_key_u64(&j, "clear_dead_letters", needs->clear.letters);
    json_key_u64(&j, "unknown_dead_letters", needs->unknown.letters);
    json_object_end(&j);
    buf_putc(out, '\n');
}

static enum fb_code list(const struct cli_key_args *args, struct keyring *ring, struct fb_err *err)
{
    static struct needs needs;
    struct keyring_view v;
    struct buf out;
    enum fb_code code = count_needs(args->state, ring, &needs, err);
    if (code != FB_OK)
        return code;
    keyring_view(ring, &v);
    buf_init(&out, MIB);
    (args->is_json ? print_json : print_text)(&needs, &v, &out);
    fputs(buf_str(&out), stdout);
    buf_fini(&out);
    return FB_OK;
}

/* ---- change ---- */

static enum fb_code prune(const struct cli_key_args *args, struct keyring *ring, const char *who,
                          struct fb_err *err)
{
    static struct needs needs;
    size_t gone = 0;
    enum fb_code code = count_needs(args->state, ring, &needs, err);
    /* A disk that is not mounted looks like a folder that needs nothing. */
    if (code == FB_OK && (needs.segments == 0 || !needs.has_state))
        code = fb_fail(err, FB_E_NOT_FOUND,
                       "%s has no %s, so what needs a key is not known; no key was destroyed",
                       args->state, needs.segments ? "state.db" : "event log");
    for (size_t i = 0; i < needs.count && code == FB_OK; i++) {
        const struct need *n = &needs.of[i];
        if (!needs.keys[i].is_retired || n->blocks || n->snapshots || n->letters)
            continue;
        code = keyring_destroy(ring, needs.keys[i].id, who, err);
        gone += code == FB_OK;
    }
    if (code == FB_OK)
        printf("%zu retired keys that nothing needs are destroyed\n", gone);
    return code;
}

static enum fb_code act(const struct cli_key_args *args, struct keyring *ring, struct fb_err *err)
{
    char who[KEYRING_WHO_BYTES];
    struct keyring_view v;
    command_who(who);
    enum fb_code code;
    if (strcmp(args->verb, "rotate") == 0) {
        code = keyring_rotate(ring, who, fb_wall_us(), err);
        keyring_view(ring, &v);
        if (code == FB_OK)
            printf("new blocks are sealed with key %u; the key before it is retired and opens what "
                   "it sealed\n",
                   v.active_id);
        return code;
    }
    if (strcmp(args->verb, "rewrap") == 0) {
        code = keyring_rewrap(ring, args->master, command_is_running(args->state), who, err);
        keyring_view(ring, &v);
        if (code == FB_OK && master_is_none(v.master))
            printf(
                "encryption has ended: new blocks are clear, and the keys that open the old ones "
                "lie in the clear in STATE/keys; remove encryption.master_key before the next "
                "start\n");
        else if (code == FB_OK)
            printf("all keys are sealed anew under %s; set encryption.master_key to it before the "
                   "next start\n",
                   v.master);
        return code;
    }
    if (strcmp(args->verb, "prune") == 0)
        return prune(args, ring, who, err);
    return list(args, ring, err);
}

int key_command(const struct cli_key_args *args)
{
    struct keyring *ring;
    struct fb_err err = {0};
    enum fb_code code = keyring_open(&ring, args->state, &err);
    if (code == FB_E_NOT_FOUND)
        code = fb_fail(&err, code,
                       "%s has no key file: no foldback ran there yet; name its state folder with "
                       "--state",
                       args->state);
    if (code != FB_OK)
        return command_fail(&err, code);
    code = act(args, ring, &err);
    keyring_unref(ring);
    return code == FB_OK ? 0 : command_fail(&err, code);
}

/* ---- shared ---- */

void command_who(char who[KEYRING_WHO_BYTES])
{
    const struct passwd *pw = getpwuid(getuid());
    if (pw)
        snprintf(who, KEYRING_WHO_BYTES, "%s", pw->pw_name);
    else
        snprintf(who, KEYRING_WHO_BYTES, "uid:%u", (unsigned)getuid());
}

bool command_is_running(const char *state_dir)
{
    char path[600];
    snprintf(path, sizeof path, "%s/lock", state_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool is_free = flock(fd, LOCK_SH | LOCK_NB) == 0;
    close(fd);
    return !is_free;
}

int command_fail(const struct fb_err *err, enum fb_code code)
{
    fprintf(stderr, "foldback: %s\n", err->text);
    return fb_error_row(code)->exit_code;
}
