/* SPDX-License-Identifier: Apache-2.0 */
/* gate_bench: what the one lock per service costs, and how two gateway threads scale over it.
 *
 * Each thread does what a gateway thread does per request at the gate: arrive under the lock, other
 * work (a calibrated busy loop that stands for the <work_us> of the rest of a request), first byte
 * and end under the lock.  With as many cores as threads the ratio of the rates is the scaling that
 * the lock allows; the kernel's own scaling is another matter.
 * Run: gate_bench [work_us, default 12], quiet machine. */
#include "base/clock.h"
#include "io/thread.h"
#include "reflex/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN_US (2 * US_PER_S)
#define ENDPOINTS 8
#define THREADS_MAX 2

static struct spin lock;
static struct gate *gate;
static uint64_t last_us;
static _Atomic bool is_over;
static uint64_t spins_per_us;

struct work {
    pthread_t thread;
    uint32_t work_us;
    uint64_t done, held_us;
};

static void burn(uint64_t spins)
{
    for (volatile uint64_t i = 0; i < spins; i++) {
    }
}

static uint64_t enter(void)
{
    spin_lock(&lock);
    uint64_t now_us = fb_mono_us();
    last_us = now_us > last_us ? now_us : last_us;
    return last_us;
}

static void *run(void *arg)
{
    struct work *w = arg;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        struct gate_ticket t = {.deadline_us = UINT64_MAX, .class = 1, .is_idempotent = true};
        uint64_t now_us = enter();
        t.arrive_us = now_us;
        enum gate_answer a = gate_arrive(gate, &t, now_us);
        spin_unlock(&lock);
        burn(w->work_us * spins_per_us);
        if (a != GATE_SEND)
            continue;
        now_us = enter();
        gate_first_byte(gate, &t, now_us);
        gate_done(gate, &t, GATE_OK, now_us);
        while (gate_next(gate, now_us)) {
        }
        spin_unlock(&lock);
        w->done++;
    }
    return NULL;
}

static double rate(uint32_t threads, uint32_t work_us)
{
    struct work work[THREADS_MAX];
    memset(work, 0, sizeof work);
    atomic_store(&is_over, false);
    uint64_t start_us = fb_mono_us(), done = 0;
    for (uint32_t i = 0; i < threads; i++) {
        work[i].work_us = work_us;
        if (thread_start(&work[i].thread, "bench", run, &work[i]) != FB_OK)
            exit(1);
    }
    while (fb_mono_us() - start_us < RUN_US)
        usleep(10000);
    atomic_store(&is_over, true);
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(work[i].thread, NULL);
        done += work[i].done;
    }
    return (double)done * US_PER_S / (double)(fb_mono_us() - start_us);
}

int main(int argc, char **argv)
{
    uint32_t work_us = argc > 1 ? (uint32_t)atoi(argv[1]) : 12;
    struct gate_conf conf;
    gate_conf_default(&conf, 250 * US_PER_MS);
    gate = gate_new(&conf, 1);
    if (!gate)
        return 1;
    for (int i = 0; i < ENDPOINTS; i++)
        (void)gate_endpoint_add(gate, NULL, fb_mono_us());
    uint64_t before_us = fb_mono_us();
    burn(100 * US_PER_MS);
    spins_per_us = 100 * US_PER_MS / (fb_mono_us() - before_us);
    double bare = rate(1, 0);
    printf("gate alone, one thread: %.2f M requests/s, %.0f ns per request\n", bare / 1e6,
           1e9 / bare);
    double one = rate(1, work_us), two = rate(2, work_us);
    printf("with %u us of other work: 1 thread %.0f/s, 2 threads %.0f/s, scaling %.2f\n", work_us,
           one, two, two / one);
    gate_free(gate);
    return 0;
}
