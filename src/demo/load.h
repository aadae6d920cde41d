/* SPDX-License-Identifier: Apache-2.0 */
/* load: open-loop load of one lane: arrivals follow a schedule that never waits for answers, and
 * latency counts from the scheduled time, so that a slow lane cannot hide its queue.
 *
 * Both lanes get the same schedule from the same seed.  Users give up after DEMO_PATIENCE_US. Every
 * figure of the demo comes from the samples here, none from foldback itself. Threads: one process,
 * one loop; the board is shared memory that the demo's main process reads. */
#ifndef FB_DEMO_LOAD_H
#define FB_DEMO_LOAD_H
#include "demo/scenario.h"
#include "io/socket.h"

#include <stdatomic.h>

#define LOAD_SAMPLES_MAX (4u << 20)

enum load_outcome {
    LOAD_OK,      /* a status below 400 */
    LOAD_SHED,    /* 503 or 429: refused at once, said so */
    LOAD_ERROR,   /* another status from 400 on, a broken answer, a refused connection */
    LOAD_TIMEOUT, /* the user gave up */
};
struct load_sample {
    uint32_t at_ms;      /* scheduled, since the start */
    uint32_t latency_us; /* UINT32_MAX when there was no answer */
    uint8_t class;
    uint8_t outcome; /* enum load_outcome */
    uint16_t status;
};
struct load_board {
    _Atomic uint32_t count; /* of samples; a sample is complete before the count moves */
    _Atomic uint32_t is_done;
    _Atomic uint32_t lost; /* arrivals that the generator itself could not start: no descriptor */
    struct load_sample sample[LOAD_SAMPLES_MAX];
};
/* In memory that children share; NULL without memory. */
struct load_board *load_board_new(void);

struct load_setup {
    const struct demo_scenario *scenario;
    struct sock_addr to;
    uint64_t start_us, length_us; /* stream time */
    uint64_t seed;
    struct load_board *board;
};
/* Until the schedule is over and the last user has an answer or gave up.  Exit code of the process.
 */
int load_run(const struct load_setup *setup);
#endif
