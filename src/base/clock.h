/* SPDX-License-Identifier: Apache-2.0 */
/* clock: the two clocks of the machine, in microseconds.
 *
 * Only io/, main/, stream/, cli/ and tests call these; reflex, analytics and control get time as an
 * argument (tools/purity checks the object files).  Threads: any. */
#ifndef FB_BASE_CLOCK_H
#define FB_BASE_CLOCK_H
#include "base/base.h"

/* Stream time: CLOCK_MONOTONIC plus an offset that the supervisor sets once, so that it reads as
 * microseconds since 1970 at the start, never jumps afterwards, and goes on over a reboot.  The
 * memory file carries the offset to gateway and brain.  Without an offset: plain CLOCK_MONOTONIC.
 */
uint64_t fb_mono_us(void);
void fb_mono_offset_set(uint64_t offset_us);
uint64_t fb_mono_offset(void);
uint64_t fb_wall_us(void); /* CLOCK_REALTIME since 1970: may jump */
uint64_t fb_thread_cpu_us(void);
#endif
