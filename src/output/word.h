/* SPDX-License-Identifier: Apache-2.0 */
/* word: product words of the tables as people and machines outside see them: lower case.
 *
 * Rows of reasons.def and knobs.def are named in upper case, because the preprocessor cannot lower
 * them.  NULL stays NULL.  The text is valid for the next 16 calls.  Threads: the brain's loop. */
#ifndef FB_OUTPUT_WORD_H
#define FB_OUTPUT_WORD_H
#include "event/event.h"
#include "knob/knob.h"

const char *word_lower(const char *name);
static inline const char *reason_word(uint16_t reason)
{
    return word_lower(ev_reason_row(reason)->name);
}
static inline const char *knob_word(uint16_t knob)
{
    return word_lower(knob_row(knob)->name);
}
static inline const char *loop_word(uint16_t loop)
{
    return word_lower(loop_row(loop)->name);
}
#endif
