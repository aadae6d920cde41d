/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

uint64_t fb_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t fb_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

uint64_t fb_thread_cpu_us(void)
{
    return read_us(CLOCK_THREAD_CPUTIME_ID);
}
