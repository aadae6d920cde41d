/* SPDX-License-Identifier: Apache-2.0 */
/* arbiter: the one door through which a loop moves a knob.
 *
 * A loop fills a move (where to, why, which effect it expects) and submits it; the arbiter holds
 * the rules of every loop: one owner per knob, bounds, pin, freeze, mode, rest between moves,
 * largest step, gain. Holds always: a pinned or frozen knob does not move; a learned value lies
 * within the layer's bounds; decision numbers are dense.  Pure.  Threads: those of the engine. */
#ifndef FB_CONTROL_ARBITER_H
#define FB_CONTROL_ARBITER_H
#include "control/control_int.h"

struct move {
    struct ev_decision
        d; /* loop, knob, target, reason, to, evidence; the arbiter fills in the rest */
    struct fact_scope scope; /* where the expected fact is looked at */
    enum fact_window window;
    uint32_t verify_ms; /* when; 0: no verdict */
    uint32_t rest_ms;   /* until the next move, at least the knob's dwell */
    bool is_protective; /* may come during the rest and is not damped */
    bool is_reflex;     /* tells what a reflex has done already: no rest, no gain */
};

void move_init(struct move *m, const struct engine *e, enum knob_id knob, uint16_t target);
/* Evidence <i>, 0..3; <window_ms> as the fact was asked for. */
void move_evidence(struct move *m, uint32_t i, enum fact_id fact, uint32_t window_ms,
                   const struct fact *seen);
void move_expect(struct move *m, enum expected expected, enum fact_id fact, enum fact_window window,
                 uint32_t verify_ms);
/* True when the knob moved.  In modes observe and recommend the decision is told once per value and
 * not applied.
 */
bool arbiter_submit(struct engine *e, struct move *m);
/* A decision that is not a loop's: operators and the verifier.  Emits it with the next number. */
uint64_t arbiter_tell(struct engine *e, struct ev_decision *d);
/* Reversals of the knob in the last minute: the oscillation index. */
uint32_t arbiter_oscillation(const struct engine *e, enum knob_id knob, uint16_t target);
#endif
