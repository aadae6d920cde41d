/* SPDX-License-Identifier: Apache-2.0 */
/* verifier: looks whether a decision did what it promised.
 *
 *   applied --(verify_ms)--> better | no change -> misses = 0
 *                            worse -> knob goes back, misses + 1; at two: the loop rests here,
 * alert unknown (few samples, stale, or the load itself moved) -> nothing
 *
 * Worse within a minute of a deploy marker (analytics/custom.h): the knob goes back, and no miss is
 * counted.
 *
 * A move that kept its promise is worse all the same when a signal of the service got worse (but of
 * loops limit and shed).
 *
 * Moves in one direction before the verdict make a chain: one verdict, one way back to where it
 * began.  A move in the other direction ends the chain: the loop has corrected itself.  What a
 * reflex did (the limit) gets a verdict but is not taken back: the learner judges itself at the
 * speed of completions. Pure.  Threads: those of the engine. */
#ifndef FB_CONTROL_VERIFIER_H
#define FB_CONTROL_VERIFIER_H
#include "control/arbiter.h"

/* Two bad verdicts in a row: the loop rests on this target for a minute. */
#define VERIFIER_MISSES_MAX 2
#define VERIFIER_FREEZE_US (60 * US_PER_S)

/* Notes what <m> promises; called by the arbiter before the decision is told. */
void verifier_expect(struct engine *e, struct move *m);
/* Verdicts that are due. */
void verifier_run(struct engine *e);
/* An operator or a configuration change took the knob: nothing is left to judge. */
void verifier_forget(struct engine *e, uint16_t knob, uint16_t target);
/* The loop may act again; tells that the alert is over. */
void verifier_thaw(struct engine *e, uint16_t knob, uint16_t target);
/* Exposed for its test: how <after> compares with <before> for what was expected. */
enum ev_verdict verifier_judge(enum expected expected, enum fact_id fact, const struct fact *before,
                               const struct fact *after);
#endif
