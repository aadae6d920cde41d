/* SPDX-License-Identifier: Apache-2.0 */
/* demo: two lanes of the same traffic, foldback beside static round robin, in real processes on
 * loopback.
 *
 *   load generator A --> foldback (nothing configured but endpoints and an objective) --> 4
 * services load generator B --> foldback as a static proxy: round robin, fixed limits and timeouts
 * --> 4 services
 *
 * Same seed, same arrivals, same faults at the same time.  Every process dies with the demo.
 * Threads: main thread. */
#ifndef FB_DEMO_DEMO_H
#define FB_DEMO_DEMO_H
#include "cli/cli.h"

int demo_command(const struct cli_demo_args *args);
#endif
