/* SPDX-License-Identifier: Apache-2.0 */
/* gateway: serves requests until it is told to stop; the whole data plane of one process.
 *
 * One thread per core of mem->head->threads, each with its own event loop, listening sockets,
 * connections, pools and event ring; they share only the gates (one per service, under a short
 * lock), the knob table and the counters of the memory file. Threads: called once, by the process's
 * main thread, which becomes the first worker. */
#ifndef FB_GATEWAY_GATEWAY_H
#define FB_GATEWAY_GATEWAY_H
#include "conf/conf.h"
#include "knob/memfile.h"

struct gateway_setup {
    struct memfile *mem;   /* attached; rings, knobs, registry */
    const int *listen_fds; /* [thread * listen_count + i], listening, non-blocking */
    size_t listen_count;   /* per thread */
    uint32_t slot;         /* in the memory file: whose rings and counts are ours */
    struct conf *conf;     /* a reference is taken */
    int control_fd; /* SOCK_SEQPACKET to the supervisor (control_msg.h); -1: none, runs for ever */
    const char *state_dir; /* the internal CA of TLS lies there; NULL: none */
    uint64_t seed;         /* of fairness hashes and jitter; 0: from the kernel */
};

/* 0 after a drain or STOP; 1 when it could not start (the sentence is logged). */
int gateway_run(const struct gateway_setup *setup);
#endif
