/* SPDX-License-Identifier: Apache-2.0 */
/* file: the simplest connector: blocks appended to a file, or lines read from one as they come.
 *
 * Sink: the value of each record as it is.  A send that fails half way (disk full) cuts the file
 * back to where it was, so that a retry leaves no half line.  A file that was moved or removed is
 * made again: other programs may rotate it.
 * Source: follows the file as `tail -F` does; positions are the bytes behind a line.  A file is
 * known by its device, its inode and a hash of its first line (its topic): another one that got the
 * inode of one that was removed is new. */
#include "stream/connectors/connector.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX (1 * MIB)
#define READ_BYTES (64 * KIB)
#define POLL_MS 50
#define FIRST_BYTES 256

struct connector {
    struct connector_setup setup;
    char path[1024], topic[1100];
    bool is_synced;
    uint64_t rotate_bytes;
    uint32_t keep;
    int fd;
    dev_t device;
    ino_t inode;
    /* source: bytes read and not given, and where they begin in the file */
    char *bytes;
    size_t len;
    uint64_t at;
    bool is_fresh; /* cut or replaced while it was read: the next one is read from its start */
};

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

static enum fb_code file_open(struct connector **out, const struct connector_setup *setup,
                              struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    c->setup = *setup;
    c->fd = -1;
    snprintf(c->path, sizeof c->path, "%s", value(c, "path"));
    c->is_synced = strcmp(value(c, "sync"), "true") == 0;
    c->rotate_bytes = strtoull(value(c, "rotate"), NULL, 10);
    c->keep = (uint32_t)strtoul(value(c, "keep"), NULL, 10);
    if (setup->is_source && !(c->bytes = malloc(LINE_BYTES_MAX))) {
        free(c);
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    }
    *out = c;
    return FB_OK;
}

static void forget(struct connector *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->len = 0;
}

static void file_close(struct connector *c)
{
    forget(c);
    free(c->bytes);
    free(c);
}

/* A path that does not exist or may not be used is a mistake of a person; all else may pass. */
static enum fb_code fail(const struct connector *c, const char *doing, struct fb_err *err)
{
    enum fb_code code =
        errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EISDIR || errno == EROFS
            ? FB_E_CONFIG
            : FB_E_AGAIN;
    return fb_fail(err, code, "%s: cannot %s: %s; see `path` of connectors.%s", c->path, doing,
                   strerror(errno), c->setup.name);
}

/* False as well when nothing is at the path: what is open then has no name any more. */
static bool is_still_there(const struct connector *c)
{
    struct stat st;
    return stat(c->path, &st) == 0 && st.st_ino == c->inode && st.st_dev == c->device;
}

static enum fb_code open_sink(struct connector *c, struct fb_err *err)
{
    struct stat st;
    if (c->fd >= 0 && is_still_there(c))
        return FB_OK;
    forget(c); /* moved away by somebody who rotates files */
    c->fd = open(c->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (c->fd < 0 || fstat(c->fd, &st) != 0)
        return fail(c, "open it for writing", err);
    c->device = st.st_dev;
    c->inode = st.st_ino;
    return FB_OK;
}

/* Without making the file: it would belong to who asks, who is often root. */
static enum fb_code check_sink(struct connector *c, struct fb_err *err)
{
    char folder[sizeof c->path];
    snprintf(folder, sizeof folder, "%s", c->path);
    if (access(c->path, F_OK) == 0 || errno != ENOENT) {
        int fd = open(c->path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (fd < 0)
            return fail(c, "open it for writing", err);
        close(fd);
        return FB_OK;
    }
    return access(dirname(folder), W_OK | X_OK) == 0 ? FB_OK
                                                     : fail(c, "make it in its folder", err);
}

static enum fb_code file_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                               void *arg, struct fb_err *err)
{
    char text[1200];
    (void)timeout_ms;
    enum fb_code code = FB_OK;
    if (!c->setup.is_source)
        code = check_sink(c, err);
    else if (access(c->path, R_OK) != 0)
        code = fail(c, "read it", err);
    snprintf(text, sizeof text, "%s can be %s", c->path,
             c->setup.is_source ? "read" : "written to");
    step(arg, code == FB_OK, code == FB_OK ? text : err->text);
    return code;
}

/* PATH.1 becomes PATH.2 and so on; the oldest is overwritten. */
static void rotate(struct connector *c)
{
    char from[1100], to[1100];
    forget(c);
    for (uint32_t i = c->keep; i > 0; i--) {
        snprintf(to, sizeof to, "%s.%u", c->path, i);
        if (i > 1)
            snprintf(from, sizeof from, "%s.%u", c->path, i - 1);
        else
            snprintf(from, sizeof from, "%s", c->path);
        if (rename(from, to) != 0 && errno != ENOENT)
            c->setup.say(c->setup.ctx, FB_LOG_WARN, "a file could not be rotated");
    }
}

static bool write_all(int fd, struct span s)
{
    while (s.len) {
        ssize_t n = write(fd, s.at, s.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s.at += n;
        s.len -= (size_t)n;
    }
    return true;
}

static enum fb_code file_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    struct stat st;
    enum fb_code code = open_sink(c, err);
    if (code != FB_OK)
        return code;
    if (fstat(c->fd, &st) != 0)
        return fail(c, "look at it", err);
    if (c->rotate_bytes && (uint64_t)st.st_size >= c->rotate_bytes) {
        rotate(c);
        code = open_sink(c, err);
        if (code != FB_OK)
            return code;
        if (fstat(c->fd, &st) != 0) /* not empty when a rename failed */
            return fail(c, "look at it", err);
    }
    for (uint32_t i = 0; i < batch->count && code == FB_OK; i++) {
        struct span value = batch->at[i].value;
        /* One event per record comes without an end of line. */
        bool is_open = value.len && value.at[0] == '{' && value.at[value.len - 1] != '\n';
        if (!write_all(c->fd, value) || (is_open && !write_all(c->fd, SPAN("\n"))))
            code = fail(c, "write", err);
    }
    if (code == FB_OK && c->is_synced && fdatasync(c->fd) != 0)
        code = fail(c, "sync", err);
    if (code != FB_OK) {
        if (ftruncate(c->fd, st.st_size) != 0)
            c->setup.say(c->setup.ctx, FB_LOG_WARN, "half a block stays at the end of the file");
        forget(c);
        return code;
    }
    for (uint32_t i = 0; i < batch->count; i++)
        batch->at[i].result = CONNECTOR_DELIVERED;
    return FB_OK;
}

/* ---- source ---- */
static void nap(void)
{
    struct timespec t = {.tv_nsec = POLL_MS * 1000000L};
    nanosleep(&t, NULL);
}

/* "" as long as the file has no first line: then it has no position either. */
static void name_topic(struct connector *c)
{
    char first[FIRST_BYTES];
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    ssize_t len = pread(c->fd, first, sizeof first, 0);
    const char *end = len > 0 ? memchr(first, '\n', (size_t)len) : NULL;
    c->topic[0] = '\0';
    if (!end && len != (ssize_t)sizeof first)
        return;
    size_t count = end ? (size_t)(end - first) : sizeof first;
    for (size_t i = 0; i < count; i++)
        h = (h ^ (unsigned char)first[i]) * UINT64_C(0x100000001b3);
    /* without the device: its number may be another one after a restart of the machine */
    snprintf(c->topic, sizeof c->topic, "%s#%llu-%016llx", c->path, (unsigned long long)c->inode,
             (unsigned long long)h);
}

static enum fb_code open_source(struct connector *c, struct fb_err *err)
{
    struct stat st;
    char position[CONNECTOR_POSITION_BYTES];
    c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0 || fstat(c->fd, &st) != 0) {
        enum fb_code code = errno == ENOENT ? FB_OK : fail(c, "read it", err); /* not there yet */
        forget(c);
        return code;
    }
    c->device = st.st_dev;
    c->inode = st.st_ino;
    c->at = 0;
    name_topic(c);
    if (!c->is_fresh && c->topic[0] && c->setup.position(c->setup.ctx, c->topic, 0, position))
        c->at = strtoull(position, NULL, 10);
    if (c->at > (uint64_t)st.st_size) /* cut by somebody: what is there now is new */
        c->at = 0;
    c->is_fresh = false;
    return FB_OK;
}

/* False: <each> has no room. */
static bool give_lines(struct connector *c, connector_each *each, void *arg, bool *gave)
{
    size_t from = 0;
    bool has_room = true;
    while (from < c->len && has_room) {
        const char *end = memchr(c->bytes + from, '\n', c->len - from);
        bool is_too_long = !end && from == 0 && c->len == LINE_BYTES_MAX;
        if (!end && !is_too_long)
            break;
        size_t line = end ? (size_t)(end - c->bytes) + 1 : c->len;
        if (!c->topic[0])
            name_topic(c);
        struct connector_message m = {.topic = c->topic,
                                      .value = {c->bytes + from, line - from - (end != NULL)}};
        snprintf(m.position, sizeof m.position, "%llu", (unsigned long long)(c->at + line - from));
        if (m.value.len > 0 && !(has_room = each(arg, &m)))
            break;
        *gave = true;
        c->at += line - from;
        from = line;
    }
    memmove(c->bytes, c->bytes + from, c->len - from);
    c->len -= from;
    return has_room;
}

static bool was_replaced(const struct connector *c)
{
    struct stat st;
    return stat(c->path, &st) == 0 &&
           (st.st_ino != c->inode || st.st_dev != c->device || (uint64_t)st.st_size < c->at);
}

static enum fb_code file_receive(struct connector *c, connector_each *each, void *arg,
                                 uint32_t timeout_ms, struct fb_err *err)
{
    bool gave = false;
    for (uint32_t waited_ms = 0;;) {
        if (c->fd < 0) {
            enum fb_code code = open_source(c, err);
            if (code != FB_OK)
                return code;
        }
        size_t want = fb_min_u64(READ_BYTES, LINE_BYTES_MAX - c->len);
        ssize_t n = c->fd < 0 ? 0 : pread(c->fd, c->bytes + c->len, want, (off_t)(c->at + c->len));
        if (n < 0)
            return fail(c, "read it", err);
        c->len += (size_t)n;
        if (!give_lines(c, each, arg, &gave))
            return FB_OK;
        if (n == 0) {
            if (c->fd >= 0 && was_replaced(c)) {
                forget(c);
                c->is_fresh = true; /* a position of its inode is of what was there before */
            }
            if (gave || waited_ms >= timeout_ms || c->setup.is_stopping(c->setup.ctx))
                return FB_OK;
            nap();
            waited_ms += POLL_MS;
        }
    }
}

static enum fb_code file_commit(struct connector *c, const struct connector_done *done,
                                uint32_t count, struct fb_err *err)
{
    (void)c, (void)done, (void)count, (void)err; /* positions are kept by foldback */
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "file",
                    .can = CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED | CONNECTOR_LINES |
                           CONNECTOR_SEEKS,
                    .send_max = 4096,
                    .record_bytes_max = 1024 * MIB,
                    .send_bytes_max = 64 * MIB,
                    .open = file_open,
                    .close = file_close,
                    .check = file_check,
                    .send = file_send,
                    .receive = file_receive,
                    .commit = file_commit};
