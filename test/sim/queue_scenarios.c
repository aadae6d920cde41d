/* SPDX-License-Identifier: Apache-2.0 */
/* Queue: classes, waiting and fairness in overload (loops.md 2.3, C; performance notes S7). */
#include "tap.h"

enum { CRITICAL, DEFAULT, DEGRADED, BEST_EFFORT };

static void classes_at_one_and_a_half(struct tap *t)
{
    struct tap_mean m = tap_run("queue_1.5x", "limit=18", t->seeds);
    tap_at_least(t, m.good_pct, 65.3, "queue 1.5x: goodput of 66.7 %% possible");
    tap_at_least(t, m.class_pct[CRITICAL], 99.5, "queue 1.5x: critical in time");
    tap_at_least(t, m.class_pct[DEFAULT], 94, "queue 1.5x: default in time");
    tap_at_least(t, m.class_pct[DEGRADED], 48, "queue 1.5x: degraded has the rest");
    tap_at_most(t, m.class_pct[BEST_EFFORT], 13.4, "queue 1.5x: best effort pays");
    struct tap_mean fifo = tap_run("queue_1.5x", "limit=18 codel=off", t->seeds);
    tap_at_most(t, m.p50_ms / fifo.p50_ms, 0.9,
                "queue 1.5x: newest first halves the wait of the median");
    tap_at_most(t, m.p99_ms / fifo.p99_ms, 0.9, "queue 1.5x: and shortens the tail");
    m = tap_run("queue_1.5x", "", t->seeds);
    tap_at_least(t, m.good_pct, 62.5, "queue 1.5x: goodput with a learned limit");
    tap_at_least(t, m.class_pct[CRITICAL], 99.5,
                 "queue 1.5x: critical in time with a learned limit");
}

static void classes_at_three(struct tap *t)
{
    struct tap_mean m = tap_run("queue_3x", "limit=18", t->seeds);
    tap_at_least(t, m.good_pct, 32.3, "queue 3x: goodput is 97 %% of capacity");
    tap_at_least(t, m.class_pct[CRITICAL], 99.5, "queue 3x: critical in time");
}

static void prefetch_spike(struct tap *t)
{
    struct tap_mean m = tap_run("prefetch", "limit=18", t->seeds);
    tap_at_least(t, m.phase_class_pct[1][CRITICAL], 99.4,
                 "prefetch: critical while prefetch is 12 x");
    tap_at_least(t, m.phase_class_pct[1][DEFAULT], 99.4,
                 "prefetch: default while prefetch is 12 x");
    tap_at_most(t, m.phase_class_pct[1][BEST_EFFORT], 30,
                "prefetch: it falls on the prefetch alone");
    tap_at_least(t, m.phase_good_pct[2], 99.5, "prefetch: all is well afterwards");
}

static void testbed_with_known_workers(struct tap *t)
{
    struct tap_mean m = tap_run("priority", "limit=4", t->seeds);
    struct tap_mean fifo = tap_run("priority", "limit=4 codel=off", t->seeds);
    for (int i = 1; i <= 3; i++) {
        tap_at_least(t, m.phase_capacity_pct[i], 98,
                     "priority: goodput at overload %d in %% of capacity", i);
        tap_at_least(t, m.phase_class_pct[i][CRITICAL] - fifo.phase_class_pct[i][CRITICAL], -2,
                     "priority: critical at overload %d within 2 points of a plain priority queue",
                     i);
    }
    tap_at_most(t, m.phase_p99_ms[1], 320, "priority: p99 at 2 x in ms");
    tap_at_least(t, m.second_good_pct[42], 99, "priority: well again 2 s after the overload");
}

static void testbed_with_learned_limit(struct tap *t)
{
    struct tap_mean m = tap_run("priority", "", t->seeds);
    tap_at_least(t, m.phase_good_pct[0], 99.8, "priority, learned: before the overload");
    tap_at_most(t, m.phase_p99_ms[0], 160, "priority, learned: p99 before the overload in ms");
    for (int i = 1; i <= 3; i++)
        tap_at_least(t, m.phase_capacity_pct[i], 95, "priority, learned: goodput at overload %d",
                     i);
    tap_at_least(t, m.phase_class_pct[1][CRITICAL], 99, "priority, learned: critical at 2 x");
    tap_at_least(t, m.phase_class_pct[2][CRITICAL], 95,
                 "priority, learned: critical at 5 x is all the capacity");
}

static void closed_loop_is_never_shed(struct tap *t)
{
    struct tap_mean m = tap_run("closed_loop", "", t->seeds > 10 ? 10 : 3);
    tap_at_most(t, m.shed_pct, 0, "closed loop: 2000 keep-alive clients are never refused");
    m = tap_run("closed_loop", "limit=4 queue_wait_ms=120", 3);
    tap_at_most(t, m.shed_pct, 0, "closed loop: not even when their wait is 83 %% of the bound");
}

static void users_are_served_alike(struct tap *t)
{
    struct tap_mean m = tap_run("heavy_user", "limit=18", t->seeds);
    tap_at_least(t, m.light_pct, 99, "heavy user: the other 49 do not notice him");
    tap_at_most(t, m.heavy_pct, 45, "heavy user: he gets what is left");
    tap_at_least(t, m.good_pct, 65.3, "heavy user: fairness costs no goodput");
}

/* With the door too, and with learned limits: what a user has must not depend on his number while
 * another one asks more than all others together. */
static void greedy_users_pay_themselves(struct tap *t)
{
    static const char *const names[] = {"heavy_user", "greedy_10x", "greedy_100x"};
    static const char *const sets[] = {"loops=off", "loops=on"};
    for (size_t i = 0; i < FB_COUNT(names) * FB_COUNT(sets); i++) {
        const char *name = names[i / FB_COUNT(sets)];
        const char *set = sets[i % FB_COUNT(sets)];
        struct tap_mean m = tap_run(name, set, t->seeds / 2);
        tap_at_least(t, m.light_pct, 98.5, "%s, %s: the others have what they ask", name, set);
        tap_at_least(t, m.light_worst_pct, 90, "%s, %s: each of them", name, set);
    }
    struct tap_mean m = tap_run("greedy_crowd", "loops=on", t->seeds / 2);
    tap_at_least(t, m.light_pct, 44, "greedy crowd: 50 %% is possible for the others");
    tap_at_most(t, m.heavy_pct, 5, "greedy crowd: he has the share of about two");
}

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    classes_at_one_and_a_half(&t);
    classes_at_three(&t);
    prefetch_spike(&t);
    testbed_with_known_workers(&t);
    testbed_with_learned_limit(&t);
    closed_loop_is_never_shed(&t);
    users_are_served_alike(&t);
    greedy_users_pay_themselves(&t);
    return tap_end(&t);
}
