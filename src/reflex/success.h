/* SPDX-License-Identifier: Apache-2.0 */
/* success: the last line: when almost everything that a service answers fails, most is not tried.
 *
 * What is tried and fails costs a service that is already down its way back up.  Of the attempts of
 * the last ten seconds a share <floor> must succeed; below it the share
 *     (tried - good / floor) / (tried + 1),  at most 0.8
 * of the requests is refused (Envoy's admission control; Google SRE book, chapter 21, with floor 1
 * / 2). The rest goes on asking, so that recovery is seen within a second or two.  Who asks more
 * than others is refused first, as in reflex/fair.h; critical requests are never refused.
 *
 * Fewer than 100 attempts in the window say nothing.  Pure.  Threads: any, one at a time. */
#ifndef FB_REFLEX_SUCCESS_H
#define FB_REFLEX_SUCCESS_H
#include "base/base.h"

#define SUCCESS_SECONDS 10

struct success {
    uint32_t tried[SUCCESS_SECONDS], good[SUCCESS_SECONDS];
    uint64_t second;
    uint32_t tried_sum, good_sum;
};

void success_note(struct success *s, bool is_good, uint64_t now_us);
/* 0..0.8; <floor> 0: off. */
double success_refuse_share(struct success *s, double floor, uint64_t now_us);
#endif
