/* SPDX-License-Identifier: Apache-2.0 */
/* brain: drains the rings, writes the log, ticks, decides, publishes knobs, serves the admin API.
 *
 *   each 20 ms:  rings -> sequencer -> batch -> fold (facts), admin, log
 *   each 100 ms: the same, then the tick event -> fold -> decisions -> log, admin; knob table; beat
 *   each 60 s:   snapshot of the fold, saved once the log has acknowledged its offset
 *
 * Never on a request's path: the gateway goes on without it (fail-static).
 * Threads: one loop; the log's writer thread is the log's own. */
#ifndef FB_MAIN_BRAIN_H
#define FB_MAIN_BRAIN_H
#include "base/error.h"

struct brain_setup {
    int mem_fd, control_fd, conf_fd;
    int admin_fd; /* listening socket, -1: no admin server */
    const char *state_dir;
    const char *token_file; /* "" : none, then no admin server */
    const char *admin_address;
};
/* Until the supervisor says stop or goes away.  Returns the exit code of the process. */
int brain_run(const struct brain_setup *setup);
#endif
