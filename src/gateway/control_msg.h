/* SPDX-License-Identifier: Apache-2.0 */
/* control_msg: what supervisor and gateway say to each other over one SOCK_SEQPACKET pair.
 *
 *   supervisor --RELOAD (descriptor of a memfd with the text)--> gateway --RELOADED | REFUSED-->
 * supervisor supervisor --DRAIN--> gateway --DRAINED--> supervisor (then the gateway's gateway_run
 * returns) supervisor --STOP--> gateway (returns at once, requests in flight are cut) gateway
 * --READY--> supervisor, once, when it accepts supervisor --ENDPOINT--> gateway: an operator drains
 * an endpoint or puts it back; no answer; supervisor --PURGE, LIST--> gateway --TOLD--> supervisor:
 * from the API and back to it
 *
 * One message is one packet; the end of the file is a DRAIN: the supervisor died.
 * Threads: the gateway's first thread; any in the supervisor. */
#ifndef FB_GATEWAY_CONTROL_MSG_H
#define FB_GATEWAY_CONTROL_MSG_H
#include "base/base.h"

#define CONTROL_MAGIC UINT32_C(0x46424354) /* "FBCT" */
#define CONTROL_TEXT_BYTES 4000
#define CONTROL_FDS_MAX 64  /* that ride along: one socket per thread */
#define CONTROL_STOP_NODE 1 /* number of CONTROL_STOP: no gateway serves any more */

enum control_kind {
    CONTROL_RELOAD = 1, /* text: name of the file for messages; one descriptor rides along */
    CONTROL_DRAIN,
    CONTROL_STOP,
    CONTROL_ENDPOINT,   /* number, value: 1 drain, 0 undrain */
    CONTROL_RESET,      /* number: forget what was learned about this endpoint */
    CONTROL_RETIRE,     /* another gateway serves now: end what is there, without haste */
    CONTROL_LISTEN,     /* before a RELOAD; number: its place in the new `listen`; new sockets ride
                           along, one per thread */
    CONTROL_PURGE = 16, /* number: enum cache_purge_kind, value: CONTROL_PURGE_VALUE, text: what */
    CONTROL_VERDICT,    /* of a reload, to the brain; number: its newest RELOAD that this answers,
                           value: enum control_verdict, text: name of the file, then lines of TAB
                           separated parts */
    CONTROL_LIST,       /* number: ticket, 0 none; text: SERVICE, line end, ADDRESS: the list of
                           endpoints that the API added to that service is another one */
    CONTROL_READY = 64,
    CONTROL_RELOADED, /* text: what needs a restart, "" when nothing */
    CONTROL_REFUSED,  /* text: every problem, as conf_report_print writes it */
    CONTROL_DRAINED,
    CONTROL_TOLD /* number: ticket of a PURGE or LIST; value: answers hit, or 1: the service has the
                    endpoint at that address */
};
#define CONTROL_PURGE_VALUE(is_paced, ticket) ((uint32_t)(is_paced) | (uint32_t)(ticket) << 1)

enum control_verdict {
    VERDICT_REFUSED,  /* lines: LINE, COLUMN, what is wrong; 0 and 0 for no place */
    VERDICT_IN_FORCE, /* lines: KEY, value in force, value that waits for the next start */
    VERDICT_NO_FILE   /* there is none to read */
};

struct control_msg {
    uint32_t magic;
    uint16_t kind;   /* enum control_kind */
    uint16_t number; /* of the endpoint */
    uint32_t value;
    uint32_t text_bytes;
    char text[CONTROL_TEXT_BYTES]; /* not terminated; only text_bytes of it are sent */
};

/* Bytes of a packet with <text_bytes> of text. */
static inline size_t control_msg_bytes(uint32_t text_bytes)
{
    return offsetof(struct control_msg, text) + text_bytes;
}

/* Sends one message, with <fd> riding along unless -1; false when the other side is gone. */
bool control_send(int socket, enum control_kind kind, uint16_t number, uint32_t value,
                  const char *text);
bool control_send_fd(int socket, enum control_kind kind, const char *text, int fd);
struct control_fds {
    int at[CONTROL_FDS_MAX];
    size_t count;
};
bool control_send_fds(int socket, enum control_kind kind, uint16_t number,
                      const struct control_fds *fds);
/* The next message; 1 got one, 0 none now (EAGAIN), -1 the other side is gone.  *fd is yours, -1
 * when none came. A packet that is not one of ours counts as none. */
int control_receive(int socket, struct control_msg *out, int *fd);
int control_receive_fds(int socket, struct control_msg *out, struct control_fds *fds);
#endif
