/* SPDX-License-Identifier: Apache-2.0 */
#include "main/listeners.h"

#include "base/assert.h"
#include "conf/conf.h"
#include "gateway/control_msg.h"
#include "io/socket.h"
#include "knob/memfile.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A gateway that reads nothing for so long does not take the rest either. */
#define SEND_MS 2000

/* Its place among the first thread's, <total> / <threads> of them; -1: none.  Port 0 may stand
 * there more than once: the n-th is the n-th. */
static long place_of(const struct listeners *have, uint32_t threads, const struct conf *conf,
                     size_t index)
{
    const char *at = conf->listens[index].address;
    size_t nth = 0;
    for (size_t i = 0; i < index; i++)
        nth += strcmp(conf->listens[i].address, at) == 0;
    for (size_t i = 0; have && have->total && i < have->total / threads; i++)
        if (strcmp(have->at[i], at) == 0 && nth-- == 0)
            return (long)i;
    return -1;
}

/* Names the key and, of a file that is read again, its line. */
static enum fb_code say_where(const struct conf *conf, size_t index, enum fb_code code,
                              struct fb_err *err)
{
    struct fb_err why = *err;
    return fb_fail(err, code, "line %u: listen[%zu]: %.420s", conf_listen_line(conf, index), index,
                   why.text);
}

/* One that the new list does not have any more. */
static bool leaves(const struct listeners *have, uint32_t threads, const struct conf *conf,
                   size_t index)
{
    for (size_t i = 0; i < conf->listen_count; i++)
        if (place_of(have, threads, conf, i) == (long)index)
            return false;
    return true;
}

/* Those that leave and have the port of <at> share it, or not any more; how many. */
static size_t share(const struct listeners *have, uint32_t threads, const struct conf *conf,
                    const char *at, bool is_on)
{
    struct sock_addr want, is;
    size_t listens = have->total / threads, shared = 0;
    if (sock_parse(span_of(at), &want, NULL) != FB_OK)
        return 0;
    for (size_t i = 0; i < have->total; i++) {
        if (!sock_local(have->fds[i], &is) || sock_port(&is) != sock_port(&want) ||
            !leaves(have, threads, conf, i % listens))
            continue;
        sock_share_port(have->fds[i], is_on || threads > 1);
        shared++;
    }
    return shared;
}

static enum fb_code open_one(const struct conf *conf, size_t index, struct listeners *out,
                             const struct listeners *have, struct fb_err *err)
{
    const char *at = conf->listens[index].address;
    size_t listens = conf->listen_count;
    uint32_t threads = (uint32_t)(out->total / listens);
    long was = place_of(have, threads, conf, index);
    bool is_again = have && have->total;
    int fds[MEMFILE_THREADS_MAX];
    enum fb_code code = FB_OK;
    if (was < 0 && is_again && strncmp(at, "fd:", 3) == 0)
        code = fb_fail(err, FB_E_CONFIG, "%s is handed over at a start only; restart", at);
    else if (was < 0)
        code = sock_listen(at, fds, threads, err);
    if (code == FB_E_PORT_IN_USE && is_again && share(have, threads, conf, at, true)) {
        code = sock_listen_beside(at, fds, threads, err); /* ":80" in place of "127.0.0.1:80" */
        share(have, threads, conf, at, false);
    }
    if (code != FB_OK)
        return is_again ? say_where(conf, index, code, err) : code;
    for (uint32_t t = 0; t < threads; t++) {
        size_t to = t * listens + index;
        out->fds[to] = was < 0 ? fds[t] : have->fds[t * (have->total / threads) + (size_t)was];
        snprintf(out->at[to], sizeof out->at[to], "%s", at);
    }
    return FB_OK;
}

enum fb_code listeners_open(const struct conf *conf, uint32_t threads, const struct listeners *have,
                            struct listeners *out, struct fb_err *err)
{
    size_t listens = conf->listen_count, total = listens * threads;
    *out = (struct listeners){.fds = calloc(total, sizeof *out->fds),
                              .at = calloc(total, sizeof *out->at),
                              .total = total};
    for (size_t i = 0; out->fds && i < total; i++)
        out->fds[i] = -1;
    enum fb_code code = FB_OK;
    if (!out->fds || !out->at)
        code = fb_fail(err, FB_E_NOMEM, "no memory for %zu listeners", total);
    for (size_t i = 0; code == FB_OK && i < listens; i++)
        code = open_one(conf, i, out, have, err);
    if (code != FB_OK)
        listeners_close(out, have);
    return code;
}

bool listeners_are(const struct listeners *l, const struct conf *conf, uint32_t threads)
{
    if (l->total != conf->listen_count * threads)
        return false;
    for (size_t i = 0; i < conf->listen_count; i++)
        if (!l->at[i][0])
            return true;
    for (size_t i = 0; i < conf->listen_count; i++)
        if (strcmp(l->at[i], conf->listens[i].address) != 0)
            return false;
    return true;
}

void listeners_name(struct listeners *l, const struct conf *conf, uint32_t threads)
{
    size_t listens = conf->listen_count;
    for (size_t i = 0; l->total == listens * threads && i < l->total; i++)
        if (!l->at[i][0])
            snprintf(l->at[i], sizeof l->at[i], "%s", conf->listens[i % listens].address);
}

bool listeners_send(const struct listeners *l, const struct listeners *have, uint32_t threads,
                    int control_fd)
{
    size_t listens = l->total / threads;
    if (control_fd < 0)
        return false;
    for (size_t i = 0; i < listens; i++) {
        struct control_fds fds = {.count = threads};
        if (listeners_have(have, l->fds[i]))
            continue;
        for (uint32_t t = 0; t < threads; t++)
            fds.at[t] = l->fds[t * listens + i];
        struct pollfd room = {.fd = control_fd, .events = POLLOUT};
        if (poll(&room, 1, SEND_MS) != 1 ||
            !control_send_fds(control_fd, CONTROL_LISTEN, (uint16_t)i, &fds))
            return false;
    }
    return true;
}

bool listeners_add(struct listeners *l, int fd, const char *at)
{
    int *fds = realloc(l->fds, (l->total + 1) * sizeof *fds);
    if (fds)
        l->fds = fds;
    char(*names)[LISTENER_AT_BYTES] = realloc(l->at, (l->total + 1) * sizeof *names);
    if (names)
        l->at = names;
    if (!fds || !names)
        return false;
    snprintf(l->at[l->total], sizeof l->at[0], "%s", at);
    l->fds[l->total++] = fd;
    return true;
}

/* A gateway that ends what it has holds them too, and would let clients wait for nobody. */
void listeners_close(struct listeners *l, const struct listeners *but)
{
    for (size_t i = 0; l->fds && i < l->total; i++) {
        if (l->fds[i] < 0 || (but && listeners_have(but, l->fds[i])))
            continue;
        if (but)
            shutdown(l->fds[i], SHUT_RDWR);
        if (but && l->at)
            sock_remove_file(l->at[i]);
        close(l->fds[i]);
    }
    free(l->fds);
    free(l->at);
    *l = (struct listeners){0};
}

bool listeners_have(const struct listeners *l, int fd)
{
    for (size_t i = 0; i < l->total; i++)
        if (l->fds[i] == fd)
            return true;
    return false;
}
