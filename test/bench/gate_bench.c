/* SPDX-License-Identifier: Apache-2.0 */
/* gate_bench: what the one lock per service costs, and how two gateway threads scale over it.
 *
 * Each thread does what a gateway thread does per request at the gate: arrive under the lock, other
 * work (a calibrated busy loop that stands for the <work_us> of the rest of a request), first byte
 * and end under the lock.  With as many cores as threads the ratio of the rates is the scaling that
 * the lock allows; the kernel's own scaling is another matter.
 *
 * On a machine that is not quiet: two threads pass the gate in turn, so that each finds every
 * shared line in the other's cache, and the medians of both sections are compared with those of one
 * thread that has all lines in its own.  The difference is the most that a second thread can add to
 * a request, but for waiting. Run: gate_bench [work_us, default 12]; gate_bench lines. */
#include "base/clock.h"
#include "io/thread.h"
#include "reflex/gate.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

#define PASSES 200000
#define SAMPLE_NS_MAX 20000 /* longer: somebody else ran */

static _Atomic uint32_t whose_turn;

struct passer {
    pthread_t thread;
    uint32_t me, threads, sample_count;
    uint16_t *samples; /* ns in a section */
};

static uint64_t mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Even passes arrive, odd ones end; each is one sample. */
static void *pass(void *arg)
{
    struct passer *p = arg;
    struct gate_ticket t = {.deadline_us = UINT64_MAX};
    enum gate_answer a = GATE_SHED;
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(p->me, &core);
    if (sched_setaffinity(0, sizeof core, &core) != 0)
        exit(1);
    for (uint32_t i = 0; i < PASSES; i++) {
        while (atomic_load_explicit(&whose_turn, memory_order_acquire) != p->me) {
        }
        uint64_t from_ns = mono_ns(), now_us = enter();
        if (i % 2 == 0) {
            t = (struct gate_ticket){
                .deadline_us = UINT64_MAX, .class = 1, .is_idempotent = true, .arrive_us = now_us};
            a = gate_arrive(gate, &t, now_us);
        } else if (a == GATE_SEND) {
            gate_first_byte(gate, &t, now_us);
            gate_done(gate, &t, GATE_OK, now_us);
            while (gate_next(gate, now_us)) {
            }
        }
        spin_unlock(&lock);
        uint64_t took_ns = mono_ns() - from_ns;
        atomic_store_explicit(&whose_turn, (p->me + 1) % p->threads, memory_order_release);
        if (took_ns < SAMPLE_NS_MAX)
            p->samples[p->sample_count++] = (uint16_t)took_ns;
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Median ns of one section. */
static double section_ns(uint32_t threads)
{
    struct passer passers[THREADS_MAX];
    memset(passers, 0, sizeof passers);
    atomic_store(&whose_turn, 0);
    for (uint32_t i = 0; i < threads; i++) {
        passers[i].me = i;
        passers[i].threads = threads;
        passers[i].samples = calloc(PASSES, sizeof *passers[i].samples);
        if (!passers[i].samples ||
            thread_start(&passers[i].thread, "bench", pass, &passers[i]) != FB_OK)
            exit(1);
    }
    double sum = 0;
    for (uint32_t i = 0; i < threads; i++) {
        struct passer *p = &passers[i];
        pthread_join(p->thread, NULL);
        qsort(p->samples, p->sample_count, sizeof *p->samples, by_size);
        sum += p->samples[p->sample_count / 2];
        free(p->samples);
    }
    return sum / threads;
}

/* The clock is read twice outside and once inside: its share is in both figures. */
static void compare_lines(uint32_t work_us)
{
    double own = section_ns(1), other = section_ns(2);
    double more = 2 * (other - own); /* two sections per request */
    double request = work_us * 1000.0 + 2 * own;
    double wait =
        2 * other * (2 * other / request) / 2; /* half a section, as often as it is held */
    printf("one section: lines of its own %.0f ns, lines of the other core %.0f ns\n", own, other);
    printf(
        "a second thread adds at most %.0f ns of lines and %.0f ns of waiting to %.0f ns: scaling "
        "%.2f and more\n",
        more, wait, request, 2 * request / (request + more + wait));
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
    bool is_lines = argc > 1 && strcmp(argv[1], "lines") == 0;
    uint32_t work_us = argc > 1 && !is_lines ? (uint32_t)atoi(argv[1]) : 12;
    struct gate_conf conf;
    gate_conf_default(&conf, 250 * US_PER_MS);
    gate = gate_new(&conf, 1);
    if (!gate)
        return 1;
    for (int i = 0; i < ENDPOINTS; i++)
        (void)gate_endpoint_add(gate, NULL, fb_mono_us());
    if (is_lines) {
        compare_lines(work_us);
        gate_free(gate);
        return 0;
    }
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
