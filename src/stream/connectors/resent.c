/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/resent.h"

#include "stream/connectors/letters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, LETTER_ID_BYTES - 1);
}

static void path_of(const struct resent *x, char out[900])
{
    snprintf(out, 900, "%s/connectors/%s.resent", x->state_dir, x->connector);
}

static enum fb_code fails(const struct resent *x, struct fb_err *err)
{
    char path[900];
    path_of(x, path);
    return fb_fail(err, FB_E_IO, "which letters were sent cannot be kept in %s: %s", path,
                   strerror(errno));
}

void resent_init(struct resent *x, const char *state_dir, const char *connector)
{
    *x = (struct resent){.state_dir = state_dir, .connector = connector};
    buf_init(&x->ids, 2 * (size_t)RESENT_MAX * LETTER_ID_BYTES);
}

void resent_fini(struct resent *x)
{
    buf_fini(&x->ids);
}

uint32_t resent_count(const struct resent *x)
{
    return (uint32_t)(x->ids.len / LETTER_ID_BYTES);
}

enum fb_code resent_load(struct resent *x, struct fb_err *err)
{
    char path[900], part[LETTER_ID_BYTES * 256];
    path_of(x, path);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FB_OK : fails(x, err);
    buf_clear(&x->ids);
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            buf_put(&x->ids, part, (size_t)n);
    enum fb_code code = n < 0 ? fails(x, err) : FB_OK;
    close(fd);
    x->ids.len -= x->ids.len % LETTER_ID_BYTES;
    x->is_sorted = false;
    return x->ids.failed ? fb_fail(err, FB_E_NOMEM, "no memory for %s", path) : code;
}

/* The folder is there: the letters lie in it. */
static bool append(const struct resent *x, struct span ids)
{
    char path[900], dir[700];
    path_of(x, path);
    snprintf(dir, sizeof dir, "%s/connectors", x->state_dir);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    off_t whole = (off_t)x->ids.len; /* half an id may stand behind them */
    bool is_good = ftruncate(fd, whole) == 0;
    for (ssize_t n; is_good && ids.len; ids = (struct span){ids.at + n, ids.len - (size_t)n}) {
        n = write(fd, ids.at, ids.len);
        is_good = n > 0 || (n < 0 && errno == EINTR);
        n = n < 0 ? 0 : n;
    }
    is_good = is_good && fdatasync(fd) == 0;
    int why = errno;
    close(fd);
    int folder = is_good && whole == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder >= 0) {
        is_good = fsync(folder) == 0;
        why = errno;
        close(folder);
    }
    errno = why;
    return is_good;
}

enum fb_code resent_add(struct resent *x, struct span ids, struct fb_err *err)
{
    if (ids.len == 0)
        return FB_OK;
    bool is_kept = append(x, ids);
    enum fb_code code = is_kept ? FB_OK : fails(x, err);
    buf_put_span(&x->ids, ids);
    x->is_sorted = false;
    return x->ids.failed ? fb_fail(err, FB_E_NOMEM, "no memory for ids of letters") : code;
}

bool resent_has(struct resent *x, const char id[LETTER_ID_BYTES])
{
    if (!x->is_sorted && x->ids.len)
        qsort(x->ids.at, resent_count(x), LETTER_ID_BYTES, by_id);
    x->is_sorted = true;
    return x->ids.len && bsearch(id, x->ids.at, resent_count(x), LETTER_ID_BYTES, by_id) != NULL;
}

static bool is_sent(void *ctx, struct span stored)
{
    char id[LETTER_ID_BYTES];
    letter_line_id(stored, id);
    return resent_has(ctx, id);
}

enum fb_code resent_take_out(struct resent *x, struct fb_err *err)
{
    struct letters letters = {.is_meant = is_sent,
                              .ctx = x,
                              .connector = x->connector,
                              .is_removing = true,
                              .is_closed = true};
    struct fb_err why;
    char path[900];
    path_of(x, path);
    if (x->ids.len == 0)
        return FB_OK;
    enum fb_code code = letters_go_through(x->state_dir, &letters, &why);
    if (code != FB_OK)
        return fb_fail(err, code,
                       "%u letters were taken by the receiver, but are still in the file: %.90s",
                       resent_count(x), why.text);
    if (unlink(path) != 0 && errno != ENOENT) /* they name nothing that is there */
        return fails(x, err);
    buf_clear(&x->ids);
    return FB_OK;
}
