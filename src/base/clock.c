/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t mono_offset_us; /* set before threads start */

uint64_t fb_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC) + mono_offset_us;
}

void fb_mono_offset_set(uint64_t offset_us)
{
    mono_offset_us = offset_us;
}

uint64_t fb_mono_offset(void)
{
    return mono_offset_us;
}

uint64_t fb_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

uint64_t fb_thread_cpu_us(void)
{
    return read_us(CLOCK_THREAD_CPUTIME_ID);
}
