/* SPDX-License-Identifier: Apache-2.0 */
/* role: how the supervisor starts a copy of this program as gateway or brain, and how that copy
 * finds what it was given.
 *
 * The copy is exec'ed as `foldback __gateway ...` with descriptors at fixed numbers, so that
 * nothing is shared by accident and a new binary can take over. Threads: main thread. */
#ifndef FB_MAIN_ROLE_H
#define FB_MAIN_ROLE_H
#include "conf/conf.h"

#include <sys/types.h>

enum { ROLE_FD_MEM = 3, ROLE_FD_CONTROL = 4, ROLE_FD_CONF = 5, ROLE_FD_FIRST = 6 };

struct role_start {
    const char *binary;      /* NULL: this one, whatever became of its file */
    const char *const *argv; /* without the program; NULL at the end */
    int mem_fd, control_fd, conf_fd;
    const int *more; /* become ROLE_FD_FIRST, ... */
    size_t more_count;
    bool is_background; /* others on its core go first, from its first instruction on */
};
/* fork + exec.  Errors: IO. */
FB_MUST_USE
enum fb_code role_spawn(const struct role_start *start, pid_t *pid, struct fb_err *err);

/* A memfd with <text>, or -1. */
int role_text_fd(struct span text);
/* Reads and parses the configuration in a memfd.  Errors: IO, CONFIG (all problems in the text). */
FB_MUST_USE
enum fb_code role_read_conf(int fd, struct conf **out, struct fb_err *err);

/* `foldback __gateway DESCRIPTORS SLOT` and `foldback __brain ...`. */
int role_gateway_main(int argc, char **argv);
int role_brain_main(int argc, char **argv);
#endif
