/* SPDX-License-Identifier: Apache-2.0 */
/* listeners: the sockets that clients connect to, by the address that the configuration names.
 *
 * The supervisor owns them, for it has the rights, and hands them to each gateway, so that none is
 * opened twice; a reload or an upgrade keeps those whose address stays, opens new ones before
 * anything is changed, and shuts what is listed no more once the new list serves.
 * Threads: main thread. */
#ifndef FB_MAIN_LISTENERS_H
#define FB_MAIN_LISTENERS_H
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTENER_AT_BYTES 160

struct conf;
struct listeners {
    int *fds;                      /* thread by thread, each in the order of `listen` */
    char (*at)[LISTENER_AT_BYTES]; /* of each; "": not known */
    size_t total;
};

/* One for each address and thread; those that <have> (may be empty) has already are the same ones.
 * Key and line are said when <have> has any.  On an error nothing that is new stays open.  Errors:
 * NOMEM, PORT_IN_USE, IO, CONFIG. */
FB_MUST_USE
enum fb_code listeners_open(const struct conf *conf, uint32_t threads, const struct listeners *have,
                            struct listeners *out, struct fb_err *err);
/* As <conf> has it: the same addresses in the same order?  True also when that is not known. */
bool listeners_are(const struct listeners *l, const struct conf *conf, uint32_t threads);
/* Those of unknown address (of a version that did not tell) are as <conf> has them. */
void listeners_name(struct listeners *l, const struct conf *conf, uint32_t threads);
bool listeners_have(const struct listeners *l, int fd);
/* Those that <have> has not, to the gateway behind <control_fd>, each as a CONTROL_LISTEN; false:
 * it does not take them. */
FB_MUST_USE
bool listeners_send(const struct listeners *l, const struct listeners *have, uint32_t threads,
                    int control_fd);
FB_MUST_USE
bool listeners_add(struct listeners *l, int fd, const char *at);
/* Closes those of <l> that <but> (may be NULL) has not, for everybody who holds them, and forgets
 * all. */
void listeners_close(struct listeners *l, const struct listeners *but);
#endif
