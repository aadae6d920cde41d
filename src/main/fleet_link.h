/* SPDX-License-Identifier: Apache-2.0 */
/* fleet_link: the way to the other nodes, through the broker of one connector.
 *
 *   brain --send--> queue --> sender thread --> broker
 *   brain <--take-- queue <-- receiver thread <-- broker   (all messages of all nodes, from now on)
 *
 * What cannot be sent within its time is not worth sending any more: a full queue forgets the
 * oldest message, and counts.  No call but the last waits: a dead broker costs the brain nothing.
 * Threads: send, take, state and free belong to one thread. */
#ifndef FB_MAIN_FLEET_LINK_H
#define FB_MAIN_FLEET_LINK_H
#include "conf/conf.h"

#define FLEET_QUEUE_MAX 4096 /* messages, each way */

struct fleet_link_setup {
    const struct conf_connector *connector; /* kept: see <conf> */
    struct conf *conf;                      /* its owner; a reference is taken */
    const char *node;                       /* name, for client ids */
    const char *state_dir;                  /* where commands of the connector run */
    uint64_t node_id;
};
struct fleet_link;
/* Errors: NOT_FOUND (no library of that type), NOMEM.  The broker need not be there. */
FB_MUST_USE
enum fb_code fleet_link_open(struct fleet_link **link, const struct fleet_link_setup *setup,
                             struct fb_err *err);
/* Returns at once: what waits is still sent, for as long as the broker takes it, then the threads
 * end and free <link>.  NULL is fine. */
void fleet_link_leave(struct fleet_link *link);
/* Until all links that were left are gone, at most <wait_ms>: before the process ends.  False: some
 * thread hangs in its broker's library. */
bool fleet_link_wait(uint32_t wait_ms);
/* Copies. */
void fleet_link_send(struct fleet_link *link, struct span key, struct span value);
/* Calls <each> per message that came, in the order of the broker. */
typedef void fleet_link_each(void *arg, struct span value);
void fleet_link_take(struct fleet_link *link, fleet_link_each *each, void *arg);

struct fleet_link_state {
    uint64_t sent, heard;             /* messages */
    uint64_t sent_bytes, heard_bytes; /* of their values */
    uint64_t dropped;                 /* not sent in time, or not taken in time */
    uint64_t errors;
    char last_error[320];
};
void fleet_link_state_read(struct fleet_link *link, struct fleet_link_state *state);
#endif
