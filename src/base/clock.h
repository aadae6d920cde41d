/* SPDX-License-Identifier: Apache-2.0 */
/* clock: the two clocks of the machine, in microseconds.
 *
 * Only io/, main/, stream/, cli/ and tests call these; reflex, analytics and control get time as an
 * argument (tools/purity checks the object files).  Threads: any. */
#ifndef FB_BASE_CLOCK_H
#define FB_BASE_CLOCK_H
#include "base/base.h"

uint64_t fb_mono_us(void); /* CLOCK_MONOTONIC: never jumps, same in all processes of one boot */
uint64_t fb_wall_us(void); /* CLOCK_REALTIME since 1970: may jump */
uint64_t fb_thread_cpu_us(void);
#endif
