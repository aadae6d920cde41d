/* SPDX-License-Identifier: Apache-2.0 */
/* exec_wire: what the connector `exec` asks of the process that may run programs (exec_helper.c).
 *
 *   STATE/exec.sock:  exec_ask, command, record -->      <-- exec_answer, as often as wanted
 *
 * The brain may not start programs (io/sandbox.h).  The helper runs nothing but the command that
 * the configuration gives to the connector of that name (`command`, or of kafka and eventhubs
 * `token_command`): what is asked for must be equal to it.
 * A connection that ends, ends the command that runs for it.  Both ends are one machine and one
 * binary's: plain structs. */
#ifndef FB_STREAM_CONNECTORS_EXEC_WIRE_H
#define FB_STREAM_CONNECTORS_EXEC_WIRE_H
#include "base/base.h"

#define EXEC_MAGIC 0x31784266u
#define EXEC_SOCKET "exec.sock"
#define EXEC_RECORD_BYTES_MAX (1 * MIB)
#define EXEC_COMMAND_BYTES_MAX (16 * KIB)
#define EXEC_TEXT_BYTES (8 * KIB)

enum exec_kind {
    EXEC_RECORD, /* `command` of a connector exec; the text of the answer is all that it wrote */
    EXEC_TOKEN   /* `token_command`; the text is its standard output, errors go to our own */
};
struct exec_ask {
    uint32_t magic, kind, timeout_ms, command_bytes, record_bytes;
    char name[48];
};

enum exec_end {
    EXEC_EXITED,      /* <status> is its exit code */
    EXEC_SIGNALLED,   /* <status> is the signal */
    EXEC_TIMED_OUT,   /* and was ended */
    EXEC_NOT_STARTED, /* <status> is errno */
    EXEC_UNKNOWN      /* the configuration here has no such connector or another command */
};
struct exec_answer {
    uint32_t magic;
    uint32_t end;
    int32_t status;
    char text[EXEC_TEXT_BYTES]; /* the begin of what it wrote, one line, terminated */
};
#endif
