/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor: owns the listening sockets and the memory file; starts, watches and stops gateway and
 * brain.
 *
 *   start -> brain, gateway running --child died--> started again (at once; slower when it dies
 * young) SIGHUP: read the file, check it, tell the gateway, then the brain; or keep the old and say
 * why SIGTERM, SIGINT: gateway drains -> brain writes its snapshot -> exit 0; a second one: at once
 *
 * It never touches a request, so that it has nothing to crash on.  Threads: main thread only. */
#ifndef FB_MAIN_SUPERVISOR_H
#define FB_MAIN_SUPERVISOR_H
#include "conf/conf.h"

struct supervisor_setup {
    struct conf *conf;          /* a reference is taken */
    const char *file;           /* to read again at a reload; NULL: `run --to` */
    const char *state_dir;      /* made when missing */
    bool is_admin_address_free; /* the default admin port may be replaced by a free one */
    bool is_quiet;              /* no banner */
    /* Called once, when requests are served; may be NULL. */
    void (*on_ready)(void *arg, const char *admin_address);
    void *arg;
};
/* Until it is told to stop.  Returns the exit code; errors are printed. */
int supervisor_run(const struct supervisor_setup *setup);
#endif
