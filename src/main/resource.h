/* SPDX-License-Identifier: Apache-2.0 */
/* resource: what the host and foldback's processes use, read from /proc as resource events.
 *
 * A file that is missing (PSI off, a container without diskstats) leaves its fields 0.
 * Threads: brain's loop. */
#ifndef FB_MAIN_RESOURCE_H
#define FB_MAIN_RESOURCE_H
#include "event/event.h"

#include <sys/types.h>

enum resource_scope { RESOURCE_HOST, RESOURCE_SUPERVISOR, RESOURCE_GATEWAY, RESOURCE_BRAIN };

void resource_read_host(struct ev_resource *out, uint64_t now_us);
/* False when the process is gone. */
bool resource_read_process(struct ev_resource *out, enum resource_scope scope, pid_t pid,
                           uint64_t now_us);
#endif
