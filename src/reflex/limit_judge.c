/* SPDX-License-Identifier: Apache-2.0 */
/* limit_judge: what the learner concludes from its samples.
 *
 * Everything rests on one law: n in flight at an endpoint of c workers and service time S take
 * W(n) = S x max(1, n / c) (exact for exponential service, FIFO; S includes the network).  One
 * count too low costs 1 / c of the capacity, one too high a few percent: errors go upwards, probes
 * go upwards. */
#include "reflex/limit_int.h"

#include "base/assert.h"

#include <math.h>

/* A verdict waits at least so long: samples of one loop turn share one noise. */
static const double verdict_min_us = 10000;
/* A probe is judged early when it is so many standard errors from the middle. */
static const double probe_errors = 2.5;
/* Samples of a verdict at cv 1: a doubling shifts W by 100 %, a step of 1.5 by 50 %. */
static const double probe_samples = 20, small_probe_samples = 50;
static const double base_samples_max = 400, base_samples_min = 20, level_samples_max = 200;
/* A queue this small (10 % of the service time) is none: arrivals at an idle worker wait for the
 * network. */
static const double ratio_clear = 1.1;
/* With service times from here on proven limits are probed by half instead of doubled. */
static const double costly_base_us = 50e3;
/* Largest step down, and samples that a check needs at least. */
static const double down_most = 0.35;
static const double check_samples_min = 20;

static void hold_judge(struct limit *l, bool is_bound, uint64_t now_us);
static void probe_start(struct limit *l, uint64_t now_us);
static void probe_judge(struct limit *l, uint64_t now_us);
static void probe_end(struct limit *l, const struct limit_verdict *v, bool is_first,
                      uint64_t now_us);
static void gap_double(struct limit *l, uint64_t now_us);
static void probe_back(struct limit *l, const struct limit_verdict *v, uint64_t now_us);
static void down_start(struct limit *l, const struct limit_verdict *v, double to, uint64_t now_us);
static void check_judge(struct limit *l, uint64_t now_us);
static void base_moved(struct limit *l, const struct limit_verdict *v, uint64_t now_us);
static void check_followed(struct limit *l, const struct limit_verdict *v, uint64_t now_us);
static void window_roll(struct limit *l, const struct limit_verdict *v, uint64_t now_us);
static void meter_roll(struct limit *l, uint64_t now_us);
static bool is_settled(const struct limit *l, uint64_t now_us);
static bool is_unmoved(const struct limit *l, const struct limit_verdict *v);
static bool move_take_back(struct limit *l, uint64_t now_us);
static bool down_at_once(struct limit *l, double ratio, double errors, uint64_t now_us);
static void base_pool(struct limit *l);
static void base_add(struct limit *l, const struct limit_mean *seen);
static double base_top(const struct limit *l);
static void knee_find(struct limit *l);
static struct limit_verdict verdict(struct limit *l, uint64_t now_us);
static double noise(const struct limit *l, double samples, double others);

void limit_judge(struct limit *l, bool is_bound, uint64_t now_us)
{
    if (l->is_paused)
        return;
    switch (l->mode) {
    case LIMIT_HOLD:
        hold_judge(l, is_bound, now_us);
        break;
    case LIMIT_PROBE:
        probe_judge(l, now_us);
        break;
    default:
        check_judge(l, now_us);
    }
}

/* ---- hold ---- */

static void hold_judge(struct limit *l, bool is_bound, uint64_t now_us)
{
    struct limit_meter *m = &l->meter;
    if (down_at_once(l, ratio_clear, 3, now_us))
        return;
    if (is_settled(l, now_us) && m->done >= 10) {
        struct limit_verdict v = verdict(l, now_us);
        bool is_weak = l->base.samples < base_samples_min && m->done >= check_samples_min;
        if (is_weak && v.seen.us < l->conf.tolerance_us) {
            limit_base_set(l, v.seen.us, v.seen.samples); /* a queue in it would be tolerated */
            return;
        }
        if (is_weak && l->is_proven && l->limit > l->conf.min) {
            /* Cold start in overload: hardly anything was seen without a queue.  What halving does
             * tells. */
            limit_base_set(l, v.seen.us, v.seen.samples);
            v.ratio = 1;
            l->is_provisional = true;
            down_start(l, &v, l->limit / 2.0, now_us);
            return;
        }
        double errors = l->is_alarmed || l->is_falling ? 2 : 2.5;
        bool is_high = v.ratio * exp(-errors * v.error) > 1.05;
        bool is_enough = !l->is_falling || m->done >= check_samples_min;
        if (is_high && !l->is_alarmed && !l->is_falling) {
            /* The samples that raised the alarm are chosen by their height, and the change may
             * still be going on: a second look at new ones. */
            l->is_alarmed = true;
            limit_meter_start(l, now_us);
            return;
        }
        if (!is_high && m->done >= 2 * check_samples_min)
            l->is_alarmed = false;
        if (is_high && move_take_back(l, now_us))
            return;
        /* Alone in the endpoint nothing waits. */
        bool is_alone =
            l->limit == 1 && m->done >= 15 && v.ratio * exp(-1.5 * v.error) > ratio_clear;
        if (is_alone || (is_high && is_enough && is_unmoved(l, &v))) {
            base_moved(l, &v, now_us);
            return;
        }
        if (is_high && is_enough && l->limit > l->conf.min) {
            down_start(l, &v, v.seen.in_flight / v.ratio * exp(v.error), now_us);
            return;
        }
        window_roll(l, &v, now_us);
    }
    if (is_bound && !l->is_alarmed && now_us >= l->probe_us && l->limit < l->conf.max)
        probe_start(l, now_us);
}

/* A queue at a limit that was said to have none with the new base: the alarm had come in the middle
 * of a change and the base has not moved.  False: nothing to take back. */
static bool move_take_back(struct limit *l, uint64_t now_us)
{
    if (l->base_old.samples < 1)
        return false;
    limit_base_set(l, l->base_old.us, l->base_old.samples);
    l->base_old.samples = 0;
    struct limit_verdict v = verdict(l, now_us);
    if (v.ratio_low > v.ratio)
        v.ratio = v.ratio_low;
    down_start(l, &v, v.seen.in_flight / v.ratio * exp(v.error), now_us);
    l->mode = LIMIT_HOLD;
    l->is_falling = false;
    return true;
}

/* A second step down, and the first one changed nothing: there was no queue to shorten. */
static bool is_unmoved(const struct limit *l, const struct limit_verdict *v)
{
    if (!l->is_falling || l->before.samples < 10)
        return false;
    double step = log(v->seen.in_flight / l->before.in_flight);
    return step < -0.3 && log(v->seen.us / l->before.us) > 0.5 * step;
}

/* Ages alone show a queue at the present limit. */
static bool down_at_once(struct limit *l, double ratio, double errors, uint64_t now_us)
{
    const struct limit_meter *m = &l->meter;
    double enough = l->is_falling ? 30 : 10;
    if (!m->is_fresh || m->done + m->open < enough || l->limit == l->conf.min ||
        l->base.samples < base_samples_min)
        return false;
    struct limit_verdict v = verdict(l, now_us);
    if (v.ratio_low * exp(-errors * v.error_low) < ratio)
        return false;
    if (move_take_back(l, now_us))
        return true;
    v.ratio = v.ratio_low;
    v.error = v.error_low;
    v.seen.us = fmax(v.seen.us, v.ratio * l->base.us);
    down_start(l, &v, v.seen.in_flight / v.ratio * exp(v.error), now_us);
    l->mode = LIMIT_HOLD; /* a lower bound is nothing to compare with */
    l->before.samples = 0;
    return true;
}

/* The end of a window at a limit that stays: its evidence goes into what is known. */
static void window_roll(struct limit *l, const struct limit_verdict *v, uint64_t now_us)
{
    const struct limit_meter *m = &l->meter;
    double full = fmax(100, 4.0 * l->limit);
    if (m->done < full || (double)(now_us - m->since_us) < 10 * verdict_min_us)
        return;
    l->before = v->seen;
    l->limit_before = l->limit;
    l->is_falling = l->is_falling && v->ratio > 1.15;
    if (v->ratio < 1.25)
        l->base_old.samples = 0;
    l->clear = v->ratio < 1.15 ? fmax(l->clear, v->seen.in_flight) : v->seen.in_flight / v->ratio;
    if (v->ratio * exp(3 * v->error) < 0.9)
        limit_base_set(l, v->seen.us, v->seen.samples); /* no latency is below the service time */
    else if (l->base.samples < 100 && v->ratio * exp(-v->error) < 1)
        base_add(l, &v->seen);
    meter_roll(l, now_us);
}

/* ---- up ---- */

static void probe_start(struct limit *l, uint64_t now_us)
{
    /* A weak base needs the latency at the present limit to compare with. */
    if (l->base.samples < base_samples_min && (l->meter.done < 12 || l->is_proven))
        return;
    /* Grown in quiet time and never full since: first see whether the workers carry what it has.
     * (At a step of the load 8 of 4 workers went to 16, and 100 ms of everybody's time with it.) */
    const struct limit_meter *m = &l->meter;
    if (l->limit >= 4 && l->base.samples >= 100 && m->is_fresh &&
        m->done < fmin(12, 2.0 * l->limit))
        return;
    /* It may bind because the endpoint just became slower: that is to be judged first. */
    if (l->recent > 1.35)
        return;
    if (l->is_falling) {
        struct limit_verdict v = verdict(l, now_us);
        bool is_over = l->meter.done >= check_samples_min && v.ratio < 1.25;
        if (!is_over && l->meter.done < 60)
            return;
        l->is_falling = false;
    }
    /* Where a doubling adds 100 ms to everybody's latency, and the size is about known. */
    bool is_costly = l->is_proven && l->base.us > costly_base_us;
    bool is_small = l->probe_gap_us >= 500000 || is_costly;
    double factor = is_small ? 1.5 : 2;
    if (l->meter.done >= 20 || l->limit_before != l->limit)
        l->before = verdict(l, now_us).seen;
    l->limit_before = l->limit;
    l->kept = l->meter;
    l->mode = LIMIT_PROBE;
    limit_move(l, ceil(l->limit * factor), REASON_LEARN_PROBE_UP, NULL, now_us);
}

static void probe_judge(struct limit *l, uint64_t now_us)
{
    uint64_t idle_us = fb_max_u64(500000, (uint64_t)(10 * l->base.us));
    const struct limit_meter *m = &l->meter;
    if (now_us - m->since_us > idle_us && now_us - l->bound_us > idle_us) {
        /* It stopped binding: no verdict.  A higher limit is kept on evidence only. */
        l->mode = LIMIT_HOLD;
        limit_move(l, l->limit_before, REASON_LEARN_UNUSED, NULL, now_us);
        return;
    }
    double doubled = (double)l->limit / l->limit_before;
    if (down_at_once(l, 1.5 * doubled, 2, now_us) || !is_settled(l, now_us) || m->done < 6)
        return;
    struct limit_verdict v = verdict(l, now_us);
    if (l->base.samples < base_samples_min && l->before.samples >= 6) {
        /* Half an error for the higher: at start too low is the worse mistake. */
        v.error = noise(l, v.seen.samples, l->before.samples);
        v.ratio = v.seen.us / l->before.us * exp(-0.5 * v.error);
    }
    double factor = v.seen.in_flight / l->limit_before;
    double want = (factor < 1.75 ? small_probe_samples : probe_samples) * fmax(0.25, l->cv * l->cv);
    want = fmax(want, l->limit / 2.0);
    bool is_first = !l->is_proven && m->done >= fmax(12, l->limit / 2.0) && v.ratio < 1.2;
    double far = fabs(log(v.ratio) - 0.5 * log(fmax(1, factor)));
    bool is_sure = m->done >= 10 && factor > 1.2 && far > probe_errors * v.error;
    if (m->done >= want || is_first || is_sure)
        probe_end(l, &v, is_first, now_us);
}

static void probe_end(struct limit *l, const struct limit_verdict *v, bool is_first,
                      uint64_t now_us)
{
    double old = l->limit_before, high = fmax(v->seen.in_flight, old), factor = high / old;
    double fits = ceil(high / v->ratio - 0.25);
    l->mode = LIMIT_HOLD;
    l->is_falling = false;
    l->probe_us = now_us;
    double pair = v->seen.us / l->before.us;
    bool is_flat = l->before.samples >= 20 && l->before.us > 1.25 * l->base.us && v->ratio > 1.25 &&
                   pair * exp(2 * noise(l, v->seen.samples, l->before.samples)) < sqrt(factor);
    if (is_flat && !is_first) {
        /* Twice as many in flight, the same latency: it was no queue, the base is stale. */
        limit_base_set(l, (v->seen.us + l->before.us) / 2, v->seen.samples + l->before.samples);
        l->clear = high;
        l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
        limit_propose(l, REASON_LEARN_BASE_MOVED, l->limit, v, now_us);
        return;
    }
    bool is_kept = v->ratio < ratio_clear || (v->ratio < sqrt(factor) && fits >= l->limit);
    if (is_first || is_kept) {
        l->clear = high;
        l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
        limit_propose(l, REASON_LEARN_KEPT_UP, l->limit, v, now_us);
        return;
    }
    if (l->base.samples < base_samples_min && !l->has_failed) {
        /* The first failure against a handful of samples is believed when it happens again. */
        l->has_failed = true;
        gap_double(l, now_us);
        probe_back(l, v, now_us);
        return;
    }
    l->is_proven = true;
    l->clear = high / v->ratio;
    /* Found between the two: it may be more, so look again soon. */
    /* At a few workers one more is much, and noise would climb. */
    double doubt = old < 8 ? exp(-v->error) : 1;
    bool is_between = high / v->ratio * doubt > old && fits > old;
    if (is_between && fits > 1.25 * old)
        l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
    gap_double(l, now_us);
    double most = high / v->ratio * exp(2 * v->error);
    if (is_between)
        limit_move(l, fits, REASON_LEARN_KEPT_UP, v, now_us);
    else if (most < 0.8 * old)
        down_start(l, v, most, now_us);
    else
        probe_back(l, v, now_us);
}

/* Back to the limit before, with the samples that it had. */
static void probe_back(struct limit *l, const struct limit_verdict *v, uint64_t now_us)
{
    limit_move(l, l->limit_before, REASON_LEARN_BACK, v, now_us);
    struct limit_meter *m = &l->meter;
    m->done = l->kept.done;
    m->sum_us = l->kept.sum_us;
    m->sum_capped_us = l->kept.sum_capped_us;
    m->sum_in_flight = l->kept.sum_in_flight;
}

/* ---- down ---- */

static void gap_double(struct limit *l, uint64_t now_us)
{
    l->probe_us = now_us + l->probe_gap_us;
    l->probe_gap_us = fb_min_u64(2 * l->probe_gap_us, LIMIT_PROBE_GAP_MAX_US);
}

static void down_start(struct limit *l, const struct limit_verdict *v, double to, uint64_t now_us)
{
    l->is_proven = true;
    l->is_alarmed = false;
    l->before = v->seen;
    l->limit_before = l->limit;
    bool is_probe = l->mode == LIMIT_PROBE;
    uint32_t from = l->limit;
    /* A backend that slows down under load looks smaller than it is: not too far at once. */
    to = fmin(ceil(fmax(to, down_most * from) - 0.25), from - 1.0);
    limit_move(l, to, REASON_NONE, NULL, now_us);
    if (l->limit == from)
        return;
    if (!is_probe)
        l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
    gap_double(l, now_us);
    /* Two stories: the workers became fewer, then the base comes back at the lower limit; or the
     * service time moved, then the latency stays as far as the known workers carry it.  The middle
     * parts them.  Judged against the base, not against the few samples that raised the alarm. */
    double workers = l->is_falling ? l->clear_before : l->clear;
    l->is_falling = true;
    double moved = v->ratio / fmax(1, v->seen.in_flight / workers) * fmax(1, l->limit / workers);
    double queued = v->ratio * fmin(1, l->limit / v->seen.in_flight);
    double high = log(fmax(1, moved)), low = log(fmax(1, queued));
    l->clear_before = workers;
    l->clear = v->seen.in_flight / v->ratio;
    l->follow = 0.5 * (high + low);
    l->expected = log(fmax(1, v->ratio));
    if (l->is_provisional) /* its own latency stands for the base, the middle lies below */
        l->follow = 0.5 * log((double)l->limit / from);
    l->mode = l->is_provisional || high - low > 0.2 ? LIMIT_CHECK : LIMIT_HOLD;
    l->margin = l->is_provisional ? fabs(l->follow) : 0.5 * (high - low);
    limit_propose(l, REASON_LEARN_DOWN, from, v, now_us);
}

static void check_judge(struct limit *l, uint64_t now_us)
{
    const struct limit_meter *m = &l->meter;
    if (!is_settled(l, now_us) || m->done < check_samples_min)
        return;
    struct limit_verdict v = verdict(l, now_us);
    double moved = log(fmax(0.1, v.ratio));
    /* At one in flight nothing waits: its latency is the base, and each sample costs much. */
    double most = l->limit == 1 ? check_samples_min : 60;
    double want = fmin(most, fmax(check_samples_min, 5 / (l->margin * l->margin)));
    want = fmax(check_samples_min, want * fmax(0.25, l->cv * l->cv));
    if (m->done < want && fabs(moved - l->follow) < 2 * v.error)
        return;
    l->mode = LIMIT_HOLD;
    if (moved < l->follow) {
        check_followed(l, &v, now_us);
        return;
    }
    if (!l->is_provisional && l->limit > l->conf.min &&
        moved > l->expected + fmax(0.25, 2 * v.error)) {
        /* Even longer than before: the change was still going on when the alarm came. */
        down_start(l, &v, v.seen.in_flight / v.ratio * exp(v.error), now_us);
        return;
    }
    base_moved(l, &v, now_us);
}

/* The service time changed: back to the limit before, with what is seen as the new base. */
static void base_moved(struct limit *l, const struct limit_verdict *v, uint64_t now_us)
{
    double workers = l->is_falling ? l->clear_before : l->clear;
    double queued = fmax(1, v->seen.in_flight / fmax(1, workers));
    l->mode = LIMIT_HOLD;
    l->base_old = l->is_provisional || l->limit == 1 ? (struct limit_mean){0} : l->base;
    l->is_provisional = l->is_falling = l->is_alarmed = false;
    limit_base_set(l, v->seen.us / queued, fmax(base_samples_min, v->seen.samples));
    l->clear = workers;
    uint32_t from = l->limit;
    limit_move(l, fmax(from, ceil(workers)), REASON_NONE, NULL, now_us);
    l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
    l->probe_us = now_us;
    limit_propose(l, REASON_LEARN_BASE_MOVED, from, v, now_us);
}

/* Latency came down with the limit: it was a queue. */
static void check_followed(struct limit *l, const struct limit_verdict *v, uint64_t now_us)
{
    l->probe_us = now_us + l->probe_gap_us;
    l->clear = v->ratio < 1.15 ? fmax(l->clear, v->seen.in_flight) : v->seen.in_flight / v->ratio;
    if (!l->is_provisional)
        return;
    /* The base was measured in that queue; on until latency no longer follows. */
    limit_base_set(l, v->seen.us, v->seen.samples);
    l->is_provisional = l->limit > l->conf.min;
    if (!l->is_provisional)
        return;
    struct limit_verdict again = *v;
    again.ratio = 1;
    down_start(l, &again, l->limit / 2.0, now_us);
}

/* ---- numbers ---- */

void limit_meter_start(struct limit *l, uint64_t now_us)
{
    l->generation++;
    l->meter = (struct limit_meter){.since_us = now_us, .is_fresh = true};
}

/* The same limit goes on: open requests stay, their times move to the new origin.  Only after
 * several rounds trips: then those that complete are as long as those that do not. */
static void meter_roll(struct limit *l, uint64_t now_us)
{
    struct limit_meter *m = &l->meter;
    m->open_sent_us -= m->open * (double)(now_us - m->since_us);
    m->since_us = now_us;
    m->done = m->sum_us = m->sum_capped_us = m->sum_in_flight = 0;
    m->is_fresh = false;
}

/* One service time after a change: before, only the shortest requests have completed. */
static bool is_settled(const struct limit *l, uint64_t now_us)
{
    double age_us = (double)(now_us - l->meter.since_us);
    return age_us >= verdict_min_us && age_us >= l->base.us && l->meter.done >= l->meter.open / 2;
}

void limit_move(struct limit *l, double to, uint16_t reason, const struct limit_verdict *v,
                uint64_t now_us)
{
    uint32_t from = l->limit;
    l->limit = (uint32_t)fb_clamp(to, l->conf.min, l->conf.max);
    limit_meter_start(l, now_us);
    if (reason != REASON_NONE)
        limit_propose(l, reason, from, v, now_us);
}

void limit_propose(struct limit *l, uint16_t reason, uint32_t from, const struct limit_verdict *v,
                   uint64_t now_us)
{
    if (l->proposal.moves++ == 0)
        l->proposal.from = from;
    l->proposal.to = l->limit;
    l->proposal.reason = reason;
    l->proposal.when_us = now_us;
    l->proposal.is_binding = now_us - fb_min_u64(now_us, l->bound_us) < US_PER_S && l->bound_us;
    l->proposal.base_us = l->base.us;
    l->proposal.base_samples = (uint32_t)l->base.samples;
    if (v == NULL)
        return;
    l->proposal.samples = (uint32_t)v->seen.samples;
    l->proposal.latency_us = v->seen.us;
    l->proposal.ratio = v->ratio;
    l->proposal.error = v->error;
}

void limit_base_set(struct limit *l, double base_us, double samples)
{
    for (int i = 0; i < LIMIT_LEVELS; i++)
        l->level[i] = (struct limit_level){0};
    l->knee = LIMIT_MAX;
    l->recent = 1;
    double square = samples * base_us * base_us * (1 + l->cv * l->cv);
    l->level[0] = (struct limit_level){.count = samples,
                                       .sum_us = samples * base_us,
                                       .sum_square = square,
                                       .sum_capped_us = samples * base_us,
                                       .sum_capped_square = square};
    l->base = (struct limit_mean){.us = base_us, .capped_us = base_us, .samples = samples};
}

/* A base of few samples takes in a window that agrees with it. */
static void base_add(struct limit *l, const struct limit_mean *seen)
{
    double count = fmin(100, seen->samples);
    l->level[0].count += count;
    l->level[0].sum_us += count * seen->us;
    l->level[0].sum_capped_us += count * seen->capped_us;
    l->level[0].sum_square += count * seen->us * seen->us * (1 + l->cv * l->cv);
    l->level[0].sum_capped_square +=
        count * seen->capped_us * seen->capped_us * (1 + l->cv * l->cv);
}

/* The base: requests sent at counts that are known to be below the workers. */
static void base_pool(struct limit *l)
{
    double top = base_top(l);
    struct limit_level sum = {0};
    for (unsigned i = 0; i < LIMIT_LEVELS && limit_level_top(i) <= top; i++) {
        sum.count += l->level[i].count;
        sum.sum_us += l->level[i].sum_us;
        sum.sum_capped_us += l->level[i].sum_capped_us;
        sum.sum_capped_square += l->level[i].sum_capped_square;
    }
    /* When the workers became fewer, hardly a sample was sent at so few in flight; the old base
     * holds on. */
    double enough = fmin(100, fmax(10, l->base.samples / 4));
    if (sum.count < 1 || (sum.count < enough && sum.count < l->base.samples))
        return;
    l->base.samples = sum.count;
    l->base.us = fmax(1, sum.sum_us / sum.count);
    l->base.capped_us = sum.sum_capped_us / sum.count;
    if (sum.count < 10)
        return;
    double square = sum.sum_capped_square / sum.count / (l->base.capped_us * l->base.capped_us);
    l->cv = sqrt(fmax(0, square - 1));
}

void limit_levels_decay(struct limit *l, uint64_t now_us)
{
    if (now_us >= l->knee_at_us) {
        l->knee_at_us = now_us + 50000;
        knee_find(l);
    }
    if (now_us < l->decay_us)
        return;
    l->decay_us = now_us + US_PER_S;
    base_pool(l);
    double top = base_top(l);
    for (unsigned i = 0; i < LIMIT_LEVELS; i++) {
        struct limit_level *v = &l->level[i];
        bool is_base = limit_level_top(i) <= top;
        double most = is_base ? base_samples_max : level_samples_max;
        double have = is_base ? l->base.samples : v->count;
        if (have <= most)
            continue;
        v->count *= most / have;
        v->sum_us *= most / have;
        v->sum_capped_us *= most / have;
        v->sum_square *= most / have;
        v->sum_capped_square *= most / have;
    }
    l->base.samples = fmin(l->base.samples, base_samples_max);
}

/* Highest in-flight count whose requests belong to the base. */
static double base_top(const struct limit *l)
{
    return fmax(1, 0.8 * fmin(l->clear, l->knee));
}

/* How well <workers> explain the levels: sum of squares of the relative errors, in units of the
 * noise. */
static double misfit(const struct limit *l, double workers)
{
    double count = 0, sum = 0, square = 0;
    for (unsigned i = 0; i < LIMIT_LEVELS; i++) {
        const struct limit_level *v = &l->level[i];
        if (v->count < 1)
            continue;
        double unit_us = v->sum_us / v->count / fmax(1, limit_level_top(i) / workers);
        count += v->count;
        sum += v->count * unit_us;
        square += v->count * unit_us * unit_us;
    }
    if (count < 10)
        return 0;
    double mean = sum / count, cv = fmax(0.3, l->cv_full);
    return fmax(0, square / (mean * mean) - count) / (cv * cv);
}

/* The largest number of workers that the levels do not rule out (two standard errors): a guard
 * against a base that takes in a queue, because the limit that made the queue rests on that base.
 */
static void knee_find(struct limit *l)
{
    double count = 0, square = 0;
    unsigned top = 0;
    for (unsigned i = 0; i < LIMIT_LEVELS; i++) {
        const struct limit_level *v = &l->level[i];
        if (v->count < 1)
            continue;
        top = i;
        count += v->count;
        double mean_us = v->sum_us / v->count;
        /* inside the levels, so that a queue does not count as noise */
        square += v->sum_square / (mean_us * mean_us) - v->count;
    }
    if (count < 20)
        return;
    l->cv_full = sqrt(fmax(0.01, square / count));
    double value[LIMIT_LEVELS], least = 1e300;
    for (unsigned i = 0; i <= top; i++) {
        value[i] = misfit(l, limit_level_top(i));
        least = fmin(least, value[i]);
    }
    l->knee = LIMIT_MAX;
    for (unsigned i = top + 1; i-- > 0;) {
        if (value[i] > least + 4)
            continue;
        if (i < top)
            l->knee = limit_level_top(i);
        return;
    }
}

/* Relative standard error of a mean of <samples>, compared with one of <others>. */
static double noise(const struct limit *l, double samples, double others)
{
    double cv = fb_clamp(l->cv, 0.4, 1.5);
    return cv * sqrt(1 / (samples + 1) + 1 / fmax(1, others));
}

/* Latency at the present limit against the base.
 *
 * Open requests have their age in the sum: those that finish first are the short ones.  Of the p
 * open ones p x (1 - cv^2) / 2 count as completed, the offset of a renewal process that began with
 * the window. */
static struct limit_verdict verdict(struct limit *l, uint64_t now_us)
{
    base_pool(l);
    const struct limit_meter *m = &l->meter;
    struct limit_verdict v = {.ratio = 1, .error = 1};
    double count = m->done, sum_us = m->sum_us, capped_us = m->sum_capped_us;
    v.ratio_low = v.error_low = 1;
    double tolerance_us = l->conf.tolerance_us;
    tolerance_us *= tolerance_us / (tolerance_us + l->base.us);
    if (m->is_fresh && m->done + m->open > 0 && l->base.samples >= 1) {
        double ages_us = sum_us + m->open * (double)(now_us - m->since_us) - m->open_sent_us;
        v.ratio_low = (ages_us / (m->done + m->open) - tolerance_us) / l->base.us;
        v.error_low = noise(l, m->done + m->open, l->base.samples);
    }
    if (m->is_fresh) {
        double age_us = m->open * (double)(now_us - m->since_us) - m->open_sent_us;
        sum_us += age_us;
        capped_us += fmin(age_us, m->open * limit_capped(l, 1e18));
        /* A queue adds about the same wait to all: the longer it is, the less latencies differ. */
        double cv = l->cv, bare = fmax(1, m->done);
        for (int i = 0; i < 3; i++) {
            count = fmax(1, bare + m->open * (1 - fmin(1, cv * cv)) / 2);
            cv = l->cv / fmax(1, l->base.us > 0 ? sum_us / count / l->base.us : 1);
        }
    }
    if (count < 1)
        return v;
    v.seen = (struct limit_mean){.us = sum_us / count,
                                 .capped_us = capped_us / count,
                                 .samples = m->done,
                                 .in_flight = (m->sum_in_flight + m->open_in_flight) /
                                              fmax(1, m->done + m->open)};
    if (l->base.samples < 1)
        return v;
    /* A queue adds its wait to every latency; the wait of short services may hide in the tolerance.
     */
    v.ratio = 1 + (v.seen.capped_us - l->base.capped_us - tolerance_us) / l->base.us;
    if (v.ratio > 2) /* the cap hides the size of a long queue */
        v.ratio = fmax(v.ratio, (v.seen.us - tolerance_us) / l->base.us);
    v.ratio = fmax(0.5, v.ratio);
    v.error = noise(l, m->done, l->base.samples);
    return v;
}
