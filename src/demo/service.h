/* SPDX-License-Identifier: Apache-2.0 */
/* service: one built-in HTTP server of the demo with a limited number of workers.
 *
 * A request waits in a FIFO without bound for one of <workers>, holds it for a log-normal time, and
 * is worked on to the end even when its client has left, as most application servers do.  The time
 * passes on timers: no CPU is burnt, so that two lanes fit on one small machine.  Faults come from
 * the scenario's table. GET|POST anything -> 200 after the service time /scores           ->
 * text/event-stream, one event per second, no worker is held Upgrade: websocket -> frames are
 * echoed after one service time each (RFC 6455) Threads: one process, one loop. */
#ifndef FB_DEMO_SERVICE_H
#define FB_DEMO_SERVICE_H
#include "demo/scenario.h"

struct service_setup {
    const struct demo_scenario *scenario;
    uint8_t endpoint; /* which one of the scenario */
    int listen_fd;
    uint64_t start_us, length_us; /* of the demo, stream time */
    uint64_t seed;
};
/* Until it is killed. */
int service_run(const struct service_setup *setup);
#endif
