/* SPDX-License-Identifier: Apache-2.0 */
/* exec_call: a command of the configuration is run, by the process that may (exec_wire.h).
 *
 * Returns within 200 ms of a stop (setup.is_stopping) and when the time is over.
 * Threads: the connector's own. */
#ifndef FB_STREAM_CONNECTORS_EXEC_CALL_H
#define FB_STREAM_CONNECTORS_EXEC_CALL_H
#include "stream/connectors/connector.h"
#include "stream/connectors/exec_wire.h"

struct exec_call {
    const struct connector_setup *setup;
    const char *command; /* its parts, by ends of line: as the configuration has it */
    struct span record;  /* on its standard input */
    bool is_line;        /* an open line of JSON gets its end */
    uint32_t timeout_ms;
    bool is_token; /* EXEC_TOKEN of exec_ask */
    int fd;        /* of the connection; -1 before the first call */
    struct exec_answer answer;
};
/* FB_OK: see <answer>, whatever it says; FB_E_AGAIN: the process is away, or a stop came. */
FB_MUST_USE
enum fb_code exec_call_run(struct exec_call *x, struct fb_err *err);
void exec_call_end(struct exec_call *x);
#endif
