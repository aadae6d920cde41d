/* SPDX-License-Identifier: Apache-2.0 */
/* numbers: whose the numbers of endpoints are.  Endpoints come and go with names, lists and the
 * API, so a number that one had is given to another:
 *
 *   USED --leaves--> LEFT --nobody holds it, 5 s--> CLOSED --rest--> USED by another name
 *    ^-------------------'- the same name is back -------'
 *
 * Closing counts the generation on: what still comes to an end with the old one says no number any
 * more, so that by the next owner's name event all that the old one caused is in the log.  Whoever
 * reads the log in order learns from that event that the number means somebody else.
 * A number rests for 5 minutes; when all are taken, those closed 5 s ago go first to last.  The
 * names before stay readable for the last MEMFILE_PASTS owners.
 *
 * Writer: the first thread of the gateway that serves; holders: any thread of any gateway. */
#ifndef FB_KNOB_NUMBERS_H
#define FB_KNOB_NUMBERS_H
#include "knob/memfile.h"

#define NUMBERS_CLOSE_US (5 * US_PER_S)
#define NUMBERS_REST_US (300 * US_PER_S)
#define NUMBERS_REST_MIN_US (5 * US_PER_S)

/* A gateway begins in <slot>: it holds nothing, and nothing is known to be in its services. */
void numbers_begin(struct memfile *m, uint32_t slot, uint64_t now_us);
/* The number of the endpoint <name>, that of its last time when it had one; EV_NONE when no number
 * may be given yet.  It counts as left until numbers_stay. */
uint16_t numbers_take(struct memfile *m, const char *name, uint16_t parent, uint64_t now_us);
uint32_t numbers_room(const struct memfile *m, uint64_t now_us); /* for so many more names */
void numbers_stay(struct memfile *m, uint16_t number);
void numbers_leave(struct memfile *m, uint16_t number, uint64_t now_us);
void numbers_tick(struct memfile *m, uint64_t now_us); /* closes what nobody holds */

void numbers_hold(struct memfile *m, uint16_t number, uint32_t slot);
void numbers_let_go(struct memfile *m, uint16_t number, uint32_t slot);
/* Who has it now; other generations are over. */
static inline uint32_t numbers_generation(const struct memfile *m, uint16_t number)
{
    return number < KNOB_TARGETS_MAX
               ? atomic_load_explicit(&m->lives[number].generation, memory_order_acquire)
               : 0;
}

/* Whose number it was at <time_us>, "" when that is forgotten.  Any process; other kinds keep their
 * names. */
const char *numbers_name_at(const struct memfile *m, enum ev_kind kind, uint16_t number,
                            uint64_t time_us);
#endif
