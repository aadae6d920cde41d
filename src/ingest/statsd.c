/* SPDX-License-Identifier: Apache-2.0 */
#include "ingest/statsd.h"

#include "base/clock.h"
#include "event/intake.h"
#include "event/tally.h"
#include "io/socket.h"
#include "io/thread.h"
#include "proto/statsd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 16
#define DATAGRAM_BYTES (64 * KIB)
#define RECEIVE_BYTES (4 * MIB) /* what the kernel may hold while the thread is busy */
#define OTHER_EVENTS_MAX 256    /* events and checks in one interval */

struct statsd {
    struct ingress *ingress;
    struct ingest_stats *stats;
    uint32_t interval_ms;
    bool is_folding_tags, is_thread;
    int fd[2], stop;
    char path[108];
    pthread_t thread;
    struct tally *tally;
    struct buf other;   /* records of events and checks */
    struct buf records; /* what is put */
    uint64_t lines;     /* since the last put */
    uint32_t dropped[2];
    unsigned char *room;
};

static void refuse(struct statsd *s, enum ingest_refused why, uint64_t count)
{
    ingest_refuse(s->stats, INGEST_STATSD, why, count);
}

/* name.value.value, as many as fit; a tag without a value stands for itself. */
static bool fold_tags(char name[40], struct span tags)
{
    size_t len = strlen(name);
    while (tags.len) {
        struct span value, tag = span_cut(tags, ',', &tags), key = span_cut(tag, ':', &value);
        struct span part = value.len ? value : key;
        char folded[40];
        if (!intake_name(folded, part))
            continue;
        if (len + 1 + part.len > 39)
            return false;
        name[len++] = '.';
        memcpy(name + len, folded, part.len);
        len += part.len;
        name[len] = '\0';
    }
    return true;
}

/* Text of an event: "title: text"; of a check what it says. */
static void take_other(struct statsd *s, const struct statsd_line *l)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, 0);
    char name[40];
    bool is_event = l->kind == STATSD_EVENT;
    ev.value = is_event ? 1 : l->status;
    if (is_event) {
        snprintf(ev.name, sizeof ev.name, "statsd.event");
        snprintf(ev.text, sizeof ev.text, "%.*s: %.*s", (int)fb_min_u64(l->name.len, 80),
                 l->name.at, (int)fb_min_u64(l->values.len, 191), l->values.at);
    } else {
        (void)intake_name(name, l->name);
        snprintf(ev.name, sizeof ev.name, "check.%.33s", name);
        snprintf(ev.text, sizeof ev.text, "%.*s", (int)fb_min_u64(l->values.len, 191),
                 l->values.at);
    }
    buf_put(&s->other, &ev, sizeof ev);
    if (s->other.failed) {
        s->other.failed = false;
        refuse(s, INGEST_REFUSED_TOO_MANY, 1);
    }
}

static void take_samples(struct statsd *s, const struct statsd_line *l)
{
    static const enum tally_kind kinds[] = {TALLY_COUNTER, TALLY_GAUGE, TALLY_TIMER, TALLY_SET};
    char name[40];
    if (l->name.len > 39 || !intake_name(name, l->name) ||
        (s->is_folding_tags && !fold_tags(name, l->tags))) {
        refuse(s, INGEST_REFUSED_NAME, 1);
        return;
    }
    if (ev_name_is_own(name)) {
        refuse(s, INGEST_REFUSED_RESERVED, 1);
        return;
    }
    struct tally_sample t = {.kind = kinds[l->kind],
                             .name = name,
                             .weight = l->kind == STATSD_GAUGE ? 1 : 1 / l->rate,
                             .member = l->values,
                             .is_relative = l->is_relative};
    struct span values = l->values;
    bool is_taken = true;
    if (l->kind == STATSD_SET)
        is_taken = tally_add(s->tally, &t);
    else
        while (is_taken && statsd_next(&values, &t.value))
            is_taken = tally_add(s->tally, &t);
    if (!is_taken)
        refuse(s, INGEST_REFUSED_NAMES_FULL, 1);
}

static void take_line(struct statsd *s, struct span line)
{
    static const enum ingest_refused whys[] = {
        [STATSD_BAD_SYNTAX] = INGEST_REFUSED_SYNTAX,
        [STATSD_BAD_NAME] = INGEST_REFUSED_NAME,
        [STATSD_BAD_VALUE] = INGEST_REFUSED_VALUE,
        [STATSD_BAD_TYPE] = INGEST_REFUSED_TYPE,
    };
    struct statsd_line l;
    enum statsd_fault fault = statsd_parse(line, &l);
    s->lines++;
    if (fault != STATSD_OK) {
        refuse(s, whys[fault], 1);
        return;
    }
    if (!s->is_folding_tags && l.tags.len)
        refuse(s, INGEST_REFUSED_TAGS, 1);
    if (l.kind == STATSD_EVENT || l.kind == STATSD_CHECK)
        take_other(s, &l);
    else
        take_samples(s, &l);
}

static void take_datagram(struct statsd *s, struct span bytes)
{
    while (bytes.len) {
        struct span line = span_cut(bytes, '\n', &bytes);
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len)
            take_line(s, line);
    }
}

/* What the kernel dropped on this socket comes with each datagram as a count since the start. */
static void note_dropped(struct statsd *s, int which, struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        uint32_t count;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
            continue;
        memcpy(&count, CMSG_DATA(c), sizeof count);
        if (count != s->dropped[which])
            refuse(s, INGEST_REFUSED_TOO_FAST, count - s->dropped[which]);
        s->dropped[which] = count;
    }
}

static bool receive(struct statsd *s, int which)
{
    struct mmsghdr m[BATCH] = {0};
    struct iovec iov[BATCH];
    char control[BATCH][64];
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){s->room + (size_t)i * DATAGRAM_BYTES, DATAGRAM_BYTES};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i],
                                       .msg_iovlen = 1,
                                       .msg_control = control[i],
                                       .msg_controllen = sizeof control[i]};
    }
    int n = recvmmsg(s->fd[which], m, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
        note_dropped(s, which, &m[i].msg_hdr);
        if (m[i].msg_hdr.msg_flags & MSG_TRUNC)
            refuse(s, INGEST_REFUSED_TOO_LARGE, 1);
        else
            take_datagram(s, (struct span){iov[i].iov_base, m[i].msg_len});
    }
    return n == BATCH;
}

static void put(struct statsd *s)
{
    buf_clear(&s->records);
    tally_write(s->tally, &s->records);
    buf_put_span(&s->records, buf_span(&s->other));
    if (s->records.len == 0)
        return;
    uint64_t events = s->records.len / sizeof(struct ev_custom);
    if (ingress_put(s->ingress, buf_span(&s->records), NULL) != FB_OK) {
        ingest_put_off(s->stats, INGEST_STATSD); /* full: with the next interval */
        return;
    }
    ingest_count(s->stats, INGEST_STATSD, events, s->lines);
    s->lines = 0;
    tally_reset(s->tally);
    buf_clear(&s->other);
}

static void *work(void *arg)
{
    struct statsd *s = arg;
    thread_haste(THREAD_BACKGROUND);
    uint64_t next_us = fb_mono_us() + s->interval_ms * US_PER_MS;
    struct pollfd fds[3] = {{.fd = s->fd[0], .events = POLLIN},
                            {.fd = s->fd[1], .events = POLLIN},
                            {.fd = s->stop, .events = POLLIN}};
    while (!fds[2].revents) {
        uint64_t now_us = fb_mono_us();
        if (now_us >= next_us) {
            put(s);
            next_us = now_us + s->interval_ms * US_PER_MS;
        }
        (void)poll(fds, 3, (int)((next_us - now_us) / 1000 + 1));
        for (int i = 0; i < 2; i++)
            if (s->fd[i] >= 0 && fds[i].revents)
                (void)receive(s, i);
    }
    for (int i = 0; i < 2; i++) /* what is there already, bounded by the kernel's room */
        for (int k = 0; k < 4096 && s->fd[i] >= 0 && receive(s, i); k++)
            continue;
    put(s);
    return NULL;
}

/* ---- sockets ---- */
static void set_room(int fd)
{
    int bytes = RECEIVE_BYTES, on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
}

static enum fb_code open_udp(struct statsd *s, const char *address, struct fb_err *err)
{
    struct sock_addr at;
    enum fb_code code = sock_parse(span_of(address), &at, err);
    if (code != FB_OK)
        return code;
    s->fd[0] = socket(at.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd[0] < 0 || bind(s->fd[0], &at.any, at.bytes) != 0)
        return fb_fail(err, errno == EADDRINUSE ? FB_E_PORT_IN_USE : FB_E_IO,
                       "ingest.statsd: cannot listen on %s (UDP): %s", address, strerror(errno));
    set_room(s->fd[0]);
    return FB_OK;
}

/* A socket that nobody listens on any more is in the way; a file or a live one stays. */
static bool is_stale(const struct sockaddr_un *at)
{
    struct stat st;
    if (lstat(at->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_dead = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) != 0 &&
                   errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return is_dead;
}

static enum fb_code open_unix(struct statsd *s, const char *path, struct fb_err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path)
        return fb_fail(err, FB_E_RANGE, "ingest.statsd_socket: at most %zu bytes",
                       sizeof at.sun_path - 1);
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (is_stale(&at))
        (void)unlink(path);
    s->fd[1] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd[1] < 0 || bind(s->fd[1], (const struct sockaddr *)&at, sizeof at) != 0)
        return fb_fail(err, errno == EADDRINUSE ? FB_E_PORT_IN_USE : FB_E_IO,
                       "ingest.statsd_socket: cannot listen on %s: %s", path, strerror(errno));
    memcpy(s->path, at.sun_path, sizeof s->path);
    if (chmod(path, 0660) != 0)
        return fb_fail(err, FB_E_IO, "ingest.statsd_socket: chmod %s: %s", path, strerror(errno));
    set_room(s->fd[1]);
    return FB_OK;
}

static enum fb_code open_all(struct statsd *s, const struct statsd_setup *setup, struct fb_err *err)
{
    uint64_t key[2];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return fb_fail(err, FB_E_IO, "ingest.statsd: no random bytes: %s", strerror(errno));
    s->tally = tally_new(key);
    s->room = malloc((size_t)BATCH * DATAGRAM_BYTES);
    s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!s->tally || !s->room || s->stop < 0)
        return fb_fail(err, FB_E_NOMEM, "ingest.statsd: no memory");
    enum fb_code code = setup->address[0] ? open_udp(s, setup->address, err) : FB_OK;
    if (code == FB_OK && setup->socket[0])
        code = open_unix(s, setup->socket, err);
    if (code == FB_OK)
        code = thread_start(&s->thread, "fb-statsd", work, s);
    s->is_thread = code == FB_OK;
    return code;
}

enum fb_code statsd_new(struct statsd **statsd, const struct statsd_setup *setup,
                        struct fb_err *err)
{
    struct statsd *s = calloc(1, sizeof *s);
    *statsd = NULL;
    if (!s)
        return fb_fail(err, FB_E_NOMEM, "ingest.statsd: no memory");
    s->ingress = setup->ingress;
    s->stats = setup->stats;
    s->interval_ms = setup->interval_ms;
    s->is_folding_tags = setup->is_folding_tags;
    s->fd[0] = s->fd[1] = s->stop = -1;
    buf_init(&s->other, OTHER_EVENTS_MAX * sizeof(struct ev_custom));
    buf_init(&s->records, INGRESS_PUT_BYTES_MAX);
    enum fb_code code = open_all(s, setup, err);
    if (code != FB_OK)
        statsd_free(s);
    else
        *statsd = s;
    return code;
}

void statsd_free(struct statsd *s)
{
    uint64_t one = 1;
    if (!s)
        return;
    if (s->is_thread && write(s->stop, &one, sizeof one) == sizeof one)
        pthread_join(s->thread, NULL);
    for (int i = 0; i < 2; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    if (s->stop >= 0)
        close(s->stop);
    if (s->path[0])
        (void)unlink(s->path);
    buf_fini(&s->other);
    buf_fini(&s->records);
    tally_free(s->tally);
    free(s->room);
    free(s);
}
