/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/letters.h"

#include "base/base64.h"
#include "stream/block.h"
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one line ---- */

struct work {
    struct letters *l;
    const char *path;
    char connector[256];
    struct block_codec *codec;
    char *records; /* BLOCK_RAW_BYTES_MAX */
    struct buf clear, plain;
    const struct letters_cut *cut; /* then nothing else counts */
    uint64_t at, time_ms;          /* of the line, of the one before */
};

static bool is_meant(const struct work *w, struct span text)
{
    return text.len && w->l->is_meant(w->l->ctx, text);
}

static bool is_block_meant(struct work *w, struct span value)
{
    struct block_head head;
    if (value.len < BLOCK_HEADER_BYTES || block_head_read(value, &head) != FB_OK)
        return false;
    struct span body = {value.at + BLOCK_HEADER_BYTES, value.len - BLOCK_HEADER_BYTES};
    if (block_bytes(&head) > value.len || !block_body_is_good(&head, body) ||
        block_decode(w->codec, &head, body, w->records) != FB_OK) {
        w->l->unread++;
        return false;
    }
    return is_meant(w, (struct span){w->records, head.raw_bytes});
}

/* No string of JSON holds a bare quote, so that these are the keys of the line and nothing else. */
static bool is_text_meant(struct work *w, struct span line)
{
    static const char *const keys[] = {"\"key_base64\":\"", "\"value_base64\":\""};
    struct span rest = line;
    for (size_t i = 0; i < FB_COUNT(keys); i++) {
        struct span key = span_of(keys[i]);
        const char *at = memmem(rest.at, rest.len, key.at, key.len);
        if (!at)
            continue;
        if (is_meant(w, (struct span){rest.at, (size_t)(at - rest.at)}))
            return true;
        rest = (struct span){at + key.len, rest.len - (size_t)(at - rest.at) - key.len};
        buf_clear(&w->plain);
        size_t len = base64_take(rest, &w->plain);
        if (w->plain.failed)
            w->l->unread++;
        else if (is_meant(w, buf_span(&w->plain)) || is_block_meant(w, buf_span(&w->plain)))
            return true;
        rest = (struct span){rest.at + len, rest.len - len};
    }
    return is_meant(w, rest);
}

static bool is_line_meant(struct work *w, struct span line)
{
    struct letters *l = w->l;
    if (l->is_wanted && !l->is_wanted(l->ctx, line))
        return false;
    struct letter_look look = letter_line_look(line);
    struct letter_view view = {.path = w->path,
                               .connector = w->connector,
                               .time_ms = look.time_ms,
                               .key_id = look.key_id,
                               .stored = line,
                               .clear = line};
    buf_clear(&w->clear);
    if (look.key_id && l->is_closed) {
        view.code = FB_E_END;
    } else if (look.key_id) {
        view.code = letter_line_open(l->keys, &look, &w->clear);
        view.clear = buf_span(&w->clear);
    }
    if (view.code == FB_E_NOT_FOUND)
        l->gone++;
    else if (view.code != FB_OK && view.code != FB_E_END)
        l->unread++;
    if (view.code != FB_OK)
        view.clear = (struct span){"", 0};
    if (l->each)
        l->each(l->ctx, &view);
    if (l->is_meant && l->is_closed)
        return is_meant(w, line);
    return l->is_meant && view.code == FB_OK && is_text_meant(w, view.clear);
}

/* A line without a time is as old as the one before it. */
static bool is_line_cut(struct work *w, struct span line)
{
    uint64_t time_ms = letter_line_look(line).time_ms;
    w->time_ms = time_ms ? time_ms : w->time_ms;
    return w->time_ms < w->cut->before_ms || w->at < w->cut->skip_bytes;
}

/* ---- one file ---- */

/* NAME.dead.jsonl.1, of all that are gone through. */
static uint32_t is_older(const char *path)
{
    size_t len = strlen(path);
    return len > 2 && strcmp(path + len - 2, ".1") == 0;
}

/* Lines that are meant are counted, all others written to <out> when there is one. */
static bool read_lines(struct work *w, FILE *in, FILE *out)
{
    char *line = NULL;
    size_t cap = 0;
    bool is_good = true;
    w->at = w->time_ms = 0;
    w->l->file = is_older(w->path);
    if (!w->l->is_removing && !w->cut && w->l->from[w->l->file]) {
        w->at = w->l->from[w->l->file];
        is_good = fseeko(in, (off_t)w->at, SEEK_SET) == 0;
    }
    for (ssize_t n; is_good && !w->l->is_over && (n = getline(&line, &cap, in)) > 0;) {
        struct span bytes = {line, (size_t)n};
        w->l->line_at = w->at;
        w->l->lines++;
        w->l->bytes += (uint64_t)n;
        if (w->cut ? is_line_cut(w, bytes) : is_line_meant(w, bytes))
            w->l->meant++;
        else if (out)
            is_good = fwrite(line, 1, (size_t)n, out) == (size_t)n;
        w->at += (uint64_t)n;
    }
    free(line);
    return is_good && !ferror(in) && (feof(in) || w->l->is_over);
}

static bool write_rest(struct work *w, FILE *in, const char *path, int dir)
{
    char made[960];
    struct stat st;
    snprintf(made, sizeof made, "%s" LETTERS_NEW_END, path);
    if (fstat(fileno(in), &st) != 0 || (unlink(made) != 0 && errno != ENOENT))
        return false;
    int fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool is_same = st.st_uid == geteuid() && st.st_gid == getegid();
    bool is_good = is_same || fchown(fd, st.st_uid, st.st_gid) == 0;
    is_good = is_good && fchmod(fd, st.st_mode & 07777) == 0;
    rewind(in);
    is_good = is_good && read_lines(w, in, out) && fflush(out) == 0 && fsync(fd) == 0;
    int why = errno;
    is_good &= fclose(out) == 0;
    if (is_good && rename(made, path) == 0 && fsync(dir) == 0)
        return true;
    why = is_good ? errno : why;
    (void)unlink(made);
    errno = why;
    return false;
}

/* Rewritten only when it loses a letter: then it is read twice, and counted once. */
static bool file_done(struct work *w, const char *path, int dir)
{
    struct letters before = *w->l;
    w->path = path;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *in = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!in) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool is_good = read_lines(w, in, NULL);
    bool is_hit = w->l->meant > before.meant;
    if (is_good && is_hit && w->l->is_removing) {
        *w->l = before;
        is_good = write_rest(w, in, path, dir);
    }
    w->l->files++;
    if (is_hit && before.meant == 0)
        snprintf(w->l->first, sizeof w->l->first, "%s", path);
    int why = errno;
    fclose(in);
    errno = why;
    return is_good;
}

bool letters_cut_file(const char *path, int lock, const struct letters_cut *cut, uint64_t *removed)
{
    struct letters l = {.is_removing = true};
    struct work w = {.l = &l, .cut = cut};
    bool is_done = file_done(&w, path, lock);
    if (is_done)
        *removed += l.meant;
    return is_done;
}

/* ---- the folder ---- */

static enum fb_code name_done(struct work *w, const char *state_dir, const char *name, int lock,
                              struct fb_err *err)
{
    char path[LETTERS_PATH_BYTES];
    struct stat st;
    bool is_new = letters_is_new(name);
    letters_connector(name, w->connector);
    if ((w->l->connector && strcmp(w->l->connector, w->connector) != 0) ||
        snprintf(path, sizeof path, "%s/connectors/%s", state_dir, name) >= (int)sizeof path ||
        lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || (is_new && w->l->each))
        return FB_OK;
    /* Of a command that was stopped: its file is whole without it. */
    bool is_good = w->l->is_removing && is_new ? unlink(path) == 0 : file_done(w, path, lock);
    return is_good ? FB_OK
                   : fb_fail(err, FB_E_IO, "the dead letters in %s cannot be gone through: %s",
                             path, strerror(errno));
}

static enum fb_code all_done(struct work *w, const char *state_dir, int lock, struct fb_err *err)
{
    struct letters_names names;
    enum fb_code code = FB_OK;
    if (!letters_names_read(&names, state_dir))
        return fb_fail(err, FB_E_IO, "%s/connectors cannot be read: %s", state_dir,
                       strerror(errno));
    for (size_t i = 0; i < names.count && code == FB_OK && !w->l->is_over; i++)
        code = name_done(w, state_dir, names.at[w->l->is_oldest_first ? names.count - 1 - i : i],
                         lock, err);
    letters_names_fini(&names);
    return code;
}

enum fb_code letters_go_through(const char *state_dir, struct letters *l, struct fb_err *err)
{
    int lock = letters_lock(state_dir, LETTERS_WAIT_MS);
    if (lock < 0 && errno == ENOENT)
        return FB_OK; /* no connector ever had one */
    if (lock < 0)
        return fb_fail(err, FB_E_IO, "%s/connectors cannot be locked: %s; try again", state_dir,
                       strerror(errno));
    struct work w = {.l = l, .codec = block_codec_new(), .records = malloc(BLOCK_RAW_BYTES_MAX)};
    buf_init(&w.clear, 512 * MIB);
    buf_init(&w.plain, 512 * MIB);
    enum fb_code code = w.codec && w.records
                            ? all_done(&w, state_dir, lock, err)
                            : fb_fail(err, FB_E_NOMEM, "no memory to read dead letters");
    buf_fini(&w.clear);
    buf_fini(&w.plain);
    free(w.records);
    block_codec_free(w.codec);
    letters_unlock(lock);
    return code;
}
