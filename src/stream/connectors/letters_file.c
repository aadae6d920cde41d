/* SPDX-License-Identifier: Apache-2.0 */
/* The folder, its lock, and how a letter is put. */
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_STEP_US 10000
#define NAMES_MAX 4096
/* A file of this size is put aside as .1, so that all is never rewritten at once. */
#define FILE_BYTES_MAX (64 * MIB)
#define TAIL_BYTES 4096

static const char end_of_name[] = ".dead.jsonl";

bool letters_is_file(const char *name)
{
    const char *end = strstr(name, end_of_name);
    return end && end != name;
}

bool letters_is_new(const char *name)
{
    size_t len = strlen(name), end = sizeof LETTERS_NEW_END - 1;
    return len > end && strcmp(name + len - end, LETTERS_NEW_END) == 0;
}

void letters_connector(const char *name, char *out)
{
    const char *end = strstr(name, end_of_name);
    snprintf(out, 256, "%.*s", end ? (int)(end - name) : 0, name);
}

int letters_lock(const char *state_dir, uint32_t wait_ms)
{
    char dir[700];
    snprintf(dir, sizeof dir, "%s/connectors", state_dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    for (uint32_t i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        int why = errno;
        if (i >= wait_ms / (LOCK_STEP_US / 1000) || (why != EWOULDBLOCK && why != EINTR)) {
            close(fd);
            errno = why;
            return -1;
        }
        usleep(LOCK_STEP_US);
    }
    return fd;
}

void letters_unlock(int lock)
{
    close(lock);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool letters_names_read(struct letters_names *names, const char *state_dir)
{
    char path[700];
    size_t cap = 0;
    bool is_good = true;
    *names = (struct letters_names){0};
    snprintf(path, sizeof path, "%s/connectors", state_dir);
    DIR *d = opendir(path);
    if (!d)
        return false;
    for (struct dirent *e; is_good && (errno = 0, e = readdir(d));) {
        if (!letters_is_file(e->d_name))
            continue;
        if (names->count == cap) {
            cap = cap ? cap * 2 : 16;
            void *at = cap <= NAMES_MAX ? realloc(names->at, cap * sizeof *names->at) : NULL;
            is_good = at != NULL;
            names->at = at ? at : names->at;
        }
        if (is_good)
            snprintf(names->at[names->count++], sizeof *names->at, "%s", e->d_name);
    }
    int why = is_good ? errno : ENOMEM;
    closedir(d);
    if (why) {
        letters_names_fini(names);
        errno = why;
        return false;
    }
    if (names->count)
        qsort(names->at, names->count, sizeof *names->at, by_name);
    return true;
}

void letters_names_fini(struct letters_names *names)
{
    free(names->at);
    *names = (struct letters_names){0};
}

/* ---- put ---- */

/* Half a line at the end is of a crash: its letter was not kept, and comes again. */
static bool cut_torn(int fd, off_t *bytes)
{
    char tail[TAIL_BYTES];
    off_t end = *bytes;
    while (end > 0) {
        off_t from = end > TAIL_BYTES ? end - TAIL_BYTES : 0;
        size_t len = (size_t)(end - from);
        if (pread(fd, tail, len, from) != (ssize_t)len)
            return false;
        const char *at = memrchr(tail, '\n', len);
        end = at ? from + (at - tail) + 1 : from;
        if (at)
            break;
    }
    bool is_good = end == *bytes || ftruncate(fd, end) == 0;
    *bytes = is_good ? end : *bytes;
    return is_good;
}

static bool append(int fd, struct span line)
{
    while (line.len) {
        ssize_t n = write(fd, line.at, line.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        line = (struct span){line.at + n, line.len - (size_t)n};
    }
    return fdatasync(fd) == 0;
}

static enum fb_code put_line(const struct letters_box *box, const struct dead_letter *letter,
                             uint64_t wall_us, struct buf *out)
{
    struct buf clear;
    uint64_t time_ms = wall_us / US_PER_MS;
    bool is_sealing = box->keys && keyring_is_sealing(box->keys);
    size_t max = 2 * (letter->key.len + letter->value.len) + MIB;
    buf_init(&clear, max);
    buf_init(out, 2 * max);
    dead_put(letter, box->connector, time_ms, &clear);
    enum fb_code code = clear.failed ? FB_E_NOMEM : FB_OK;
    if (code == FB_OK && is_sealing)
        code = letter_line_seal(box->keys, box->connector, time_ms, buf_span(&clear), out);
    else if (code == FB_OK)
        buf_put_span(out, buf_span(&clear));
    buf_fini(&clear);
    return code == FB_OK && out->failed ? FB_E_NOMEM : code;
}

/* With the lock held.  errno. */
static bool put_locked(const struct letters_box *box, const char *path, int lock, struct span line)
{
    char older[LETTERS_PATH_BYTES + 4];
    struct stat st;
    uint64_t bytes_max = FILE_BYTES_MAX;
    if (box->bytes_max && box->bytes_max / 2 < bytes_max)
        bytes_max = box->bytes_max / 2;
    snprintf(older, sizeof older, "%s.1", path);
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > bytes_max)
        (void)rename(path, older); /* it grows when that fails; the letter counts more */
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return false;
    bool is_good = fstat(fd, &st) == 0 && cut_torn(fd, &st.st_size) && append(fd, line) &&
                   (st.st_size > 0 || fsync(lock) == 0);
    int why = errno;
    if (!is_good)
        (void)!ftruncate(fd, st.st_size); /* else it goes before the next one is put */
    close(fd);
    errno = why;
    return is_good;
}

enum fb_code letters_put(const struct letters_box *box, const struct dead_letter *letter,
                         uint64_t wall_us, struct fb_err *err)
{
    char path[LETTERS_PATH_BYTES];
    struct buf line;
    snprintf(path, sizeof path, "%s/connectors", box->state_dir);
    (void)mkdir(path, 0750); /* it is there, or the lock says why not */
    snprintf(path, sizeof path, "%s/connectors/%s%s", box->state_dir, box->connector, end_of_name);
    enum fb_code code = put_line(box, letter, wall_us, &line);
    if (code != FB_OK) {
        buf_fini(&line);
        return fb_fail(err, code, "a dead letter could not be kept in %s: %s", path,
                       code == FB_E_NOMEM
                           ? "no memory"
                           : "there is no key to seal it with; see `foldback key list`");
    }
    int lock = letters_lock(box->state_dir, LETTERS_WAIT_MS);
    if (lock < 0)
        code = fb_fail(err, FB_E_IO, "a dead letter waits, %s cannot be locked: %s", path,
                       strerror(errno));
    else if (!put_locked(box, path, lock, buf_span(&line)))
        code = fb_fail(err, FB_E_IO, "a dead letter could not be kept in %s: %s", path,
                       strerror(errno));
    if (lock >= 0)
        letters_unlock(lock);
    buf_fini(&line);
    return code;
}
