/* SPDX-License-Identifier: Apache-2.0 */
#include "main/listeners.h"

#include "conf/conf.h"
#include "io/socket.h"
#include "knob/memfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool has_fd(const struct listeners *l, int fd);

/* The place of <at> among the first thread's, <total> / <threads> of them; -1: none. */
static long place_of(const struct listeners *l, uint32_t threads, const char *at)
{
    for (size_t i = 0; l && l->total && i < l->total / threads; i++)
        if (strcmp(l->at[i], at) == 0)
            return (long)i;
    return -1;
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
    for (size_t i = 0; code == FB_OK && i < listens; i++) {
        const char *at = conf->listens[i].address;
        long was = place_of(have, threads, at);
        int fds[MEMFILE_THREADS_MAX];
        if (was < 0 && have && have->total && strncmp(at, "fd:", 3) == 0)
            code =
                fb_fail(err, FB_E_CONFIG, "listen: %s is handed over at a start only; restart", at);
        else if (was < 0)
            code = sock_listen(at, fds, threads, err);
        for (uint32_t t = 0; code == FB_OK && t < threads; t++) {
            size_t to = t * listens + i;
            out->fds[to] = was < 0 ? fds[t] : have->fds[t * (have->total / threads) + (size_t)was];
            snprintf(out->at[to], sizeof out->at[to], "%s", at);
        }
    }
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
        if (l->fds[i] < 0 || (but && has_fd(but, l->fds[i])))
            continue;
        if (but)
            shutdown(l->fds[i], SHUT_RDWR);
        close(l->fds[i]);
    }
    free(l->fds);
    free(l->at);
    *l = (struct listeners){0};
}

static bool has_fd(const struct listeners *l, int fd)
{
    for (size_t i = 0; i < l->total; i++)
        if (l->fds[i] == fd)
            return true;
    return false;
}
