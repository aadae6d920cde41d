/* SPDX-License-Identifier: Apache-2.0 */
/* repeats: which events came before, by what their sender calls them.
 *
 * A CloudEvent is named by its source and id; whoever sends it again, for the answer was lost,
 * sends the same two.  Who sends (its token) is part of the name: a source is what a sender calls
 * itself, and nobody leaves out the events of another.  Kept are the newest REPEATS_MAX names, as
 * keyed hashes: two names are taken for one with a chance of 1 in 2^48, and nobody can choose such
 * a pair.
 *
 * Threads: a struct repeats belongs to one thread. */
#ifndef FB_EVENT_REPEATS_H
#define FB_EVENT_REPEATS_H
#include "base/span.h"

#define REPEATS_MAX 65536u

struct repeats;
struct repeats *repeats_new(const uint64_t key[2]); /* 1 MiB; NULL without memory */
void repeats_free(struct repeats *r);
/* <sender> may be empty. */
uint64_t repeats_name(const struct repeats *r, struct span sender, struct span source,
                      struct span id);
bool repeats_knows(const struct repeats *r, uint64_t name);
/* Kept until REPEATS_MAX newer ones are. */
void repeats_add(struct repeats *r, uint64_t name);
#endif
