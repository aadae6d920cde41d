/* SPDX-License-Identifier: Apache-2.0 */
/* share: how one fleet-wide limit is divided between nodes.
 *
 * Max-min fairness (Bertsekas, Gallager: Data Networks, 1992, section 6.5) over what each node is
 * asked for: a node that asks for less than its part gets what it asks for and a twentieth more,
 * so that it can grow; the others divide the rest evenly.  When all are content the rest is divided
 * evenly too: nothing of the limit lies idle.  A node that asks for nothing keeps a twentieth of
 * an even part, so that its first requests pass before anybody has decided anything.
 *
 * Holds always: the sum is at most <whole_ppm>; equal demands get equal parts; more demand
 * never gets less; no node gets nothing. Pure.  Threads: any. */
#ifndef FB_FLEET_SHARE_H
#define FB_FLEET_SHARE_H
#include "fleet/message.h"

/* In: node, asked_milli of each; out: share_ppm.  <limit_milli>: the whole limit in requests per
 * 1,000 s; 0 for a limit that each user has for himself: its parts follow what is asked for.
 * <whole_ppm>: what there is to divide of it.  <count>: 1 .. FLEET_NODES_MAX. */
void fleet_divide(struct fleet_share *shares, uint32_t count, uint64_t limit_milli,
                  uint32_t whole_ppm);

/* What may be in force now, on the way to <wanted>: parts fall at once, and rise only into what the
 * reports show as free, so that the sum in force never passes the limit.  <in_force_ppm>: what each
 * may hold now at most, by index of <wanted>. */
void fleet_step(struct fleet_share *wanted, const uint32_t *in_force_ppm, uint32_t count,
                uint32_t whole_ppm);
#endif
