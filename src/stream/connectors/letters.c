/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/letters.h"

#include "stream/block.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES 1000
#define LOCK_WAIT_US 10000
#define NEW_END ".new"

bool letters_is_file(const char *name)
{
    const char *end = strstr(name, ".dead.jsonl");
    return end && end != name;
}

static bool is_new(const char *name)
{
    size_t len = strlen(name), end = sizeof NEW_END - 1;
    return len > end && strcmp(name + len - end, NEW_END) == 0;
}

int letters_lock(const char *state_dir)
{
    char dir[700];
    snprintf(dir, sizeof dir, "%s/connectors", state_dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        int why = errno;
        if (i == LOCK_TRIES || (why != EWOULDBLOCK && why != EINTR)) {
            close(fd);
            errno = why;
            return -1;
        }
        usleep(LOCK_WAIT_US);
    }
    return fd;
}

void letters_unlock(int lock)
{
    close(lock);
}

/* ---- one line ---- */

struct work {
    struct letters *l;
    struct block_codec *codec;
    char *records; /* BLOCK_RAW_BYTES_MAX */
    struct buf plain;
};

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Up to the first byte that is no digit; returns how many digits. */
static size_t decode(struct span text, struct buf *out)
{
    size_t i = 0;
    uint32_t bits = 0, have = 0;
    buf_clear(out);
    for (int d; i < text.len && (d = digit_of(text.at[i])) >= 0; i++) {
        bits = bits << 6 | (uint32_t)d;
        if ((have += 6) < 8)
            continue;
        have -= 8;
        buf_putc(out, (char)(bits >> have & 0xff));
    }
    return i;
}

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
static bool is_line_meant(struct work *w, struct span line)
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
        size_t len = decode(rest, &w->plain);
        if (w->plain.failed)
            w->l->unread++;
        else if (is_meant(w, buf_span(&w->plain)) || is_block_meant(w, buf_span(&w->plain)))
            return true;
        rest = (struct span){rest.at + len, rest.len - len};
    }
    return is_meant(w, rest);
}

/* ---- one file ---- */

/* Lines that are meant are counted, all others written to <out> when there is one. */
static bool read_lines(struct work *w, FILE *in, FILE *out)
{
    char *line = NULL;
    size_t cap = 0;
    bool is_good = true;
    for (ssize_t n; is_good && (n = getline(&line, &cap, in)) > 0;) {
        w->l->lines++;
        w->l->bytes += (uint64_t)n;
        if (is_line_meant(w, (struct span){line, (size_t)n}))
            w->l->meant++;
        else if (out)
            is_good = fwrite(line, 1, (size_t)n, out) == (size_t)n;
    }
    free(line);
    return is_good && !ferror(in) && feof(in);
}

static bool write_rest(struct work *w, FILE *in, const char *path, int dir)
{
    char made[960];
    struct stat st;
    snprintf(made, sizeof made, "%s" NEW_END, path);
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

/* ---- the folder ---- */

static enum fb_code dir_done(struct work *w, const char *state_dir, int lock, struct fb_err *err)
{
    char path[900];
    struct stat st;
    enum fb_code code = FB_OK;
    snprintf(path, sizeof path, "%s/connectors", state_dir);
    DIR *d = opendir(path);
    if (!d)
        return fb_fail(err, FB_E_IO, "%s cannot be read: %s", path, strerror(errno));
    for (struct dirent *e; code == FB_OK && (e = readdir(d));) {
        if (!letters_is_file(e->d_name) ||
            snprintf(path, sizeof path, "%s/connectors/%s", state_dir, e->d_name) >=
                (int)sizeof path ||
            lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        /* Of a command that was stopped: its file is whole without it. */
        bool is_good =
            w->l->is_removing && is_new(e->d_name) ? unlink(path) == 0 : file_done(w, path, lock);
        if (!is_good)
            code = fb_fail(err, FB_E_IO, "the dead letters in %s cannot be gone through: %s", path,
                           strerror(errno));
    }
    closedir(d);
    return code;
}

enum fb_code letters_go_through(const char *state_dir, struct letters *l, struct fb_err *err)
{
    int lock = letters_lock(state_dir);
    if (lock < 0 && errno == ENOENT)
        return FB_OK; /* no connector ever had one */
    if (lock < 0)
        return fb_fail(err, FB_E_IO, "%s/connectors cannot be locked: %s; try again", state_dir,
                       strerror(errno));
    struct work w = {.l = l, .codec = block_codec_new(), .records = malloc(BLOCK_RAW_BYTES_MAX)};
    buf_init(&w.plain, 512 * MIB);
    enum fb_code code = w.codec && w.records
                            ? dir_done(&w, state_dir, lock, err)
                            : fb_fail(err, FB_E_NOMEM, "no memory to read dead letters");
    buf_fini(&w.plain);
    free(w.records);
    block_codec_free(w.codec);
    letters_unlock(lock);
    return code;
}
