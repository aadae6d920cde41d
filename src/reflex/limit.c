/* SPDX-License-Identifier: Apache-2.0 */
/* limit: bookkeeping of requests, pauses and proposals; the verdicts are in limit_judge.c. */
#include "reflex/limit.h"

#include "base/assert.h"
#include "reflex/limit_int.h"

#include <math.h>

/* A pause is silence for the longest of the three: far outside the noise of a loop turn, of one
 * service time, and of the gaps between completions at this many in flight. */
static const double pause_min_us = 50e3;
static const double pause_services = 2.5;
static const double pause_gaps = 10.0;
/* While paused one request is let through after this many silences, then twice as long, and so on:
 * one request that legitimately takes very long, alone in flight, must not block the endpoint. */
static const uint64_t trial_silences = 4;
/* Below 30 samples a base may be off by half, and with it every threshold. */
static const double pause_samples_min = 30;
static const uint64_t void_silences = 3;
/* 8: the noise of the mean of the last few is 25 % at cv 1, and it is up to date within two round
 * trips. */
static const double recent_samples = 8;

/* A full endpoint that never completed anything gets twice as much each time this has passed: 8,
 * 16, 32 in flight after 0.1, 0.2, 0.3 s.  Less would flood one worker of 20 ms in overload and
 * make a base of the queue (25 ms, doubling: 4 % goodput at a cold start). */
static const uint64_t cold_gap_us = 100000;
static const uint32_t cold_moves_max = 8;
/* Has it answered so large a part of what it has, then at once: they are transfers. */
static const double cold_headed = 0.75;
static const double cold_samples = 20;
/* A transfer is told from work by its length: not before noise and network, and where nothing is
 * known yet, not before a person notices. */
static const double transfer_services = 4;
static const double transfer_min_us = 20e3;
static const double transfer_max_us = 200e3;

static void void_samples(struct limit *l, uint64_t now_us);
static void cold_grow(struct limit *l, uint64_t now_us);
static void meter_close(struct limit *l, const struct limit_tag *tag);
static void pause_check(struct limit *l, uint64_t now_us);
static void pause_end(struct limit *l, uint64_t now_us);
static void level_add(struct limit *l, uint32_t in_flight, double age_us);
static void meter_remove(struct limit *l, const struct limit_tag *tag, enum limit_result result,
                         double age_us);

void limit_init(struct limit *l, const struct limit_conf *conf, uint64_t now_us)
{
    fb_assert(conf->min >= 1);
    fb_assert(conf->min <= conf->max);
    fb_assert(conf->max <= LIMIT_MAX);
    *l = (struct limit){.conf = {.min = conf->min, .max = conf->max, .start = conf->start}};
    l->conf.tolerance_us = conf->tolerance_us ? conf->tolerance_us : LIMIT_TOLERANCE_US;
    l->limit = fb_max_u32(conf->min, fb_min_u32(conf->start, conf->max));
    l->clear = l->limit;
    l->knee = LIMIT_MAX;
    l->cv = 1;
    l->probe_gap_us = LIMIT_PROBE_GAP_MIN_US;
    l->decay_us = now_us + US_PER_S;
    l->alive_us = now_us;
    limit_meter_start(l, now_us);
}

void limit_restore(struct limit *l, double limit, double base_us, double cv, uint64_t now_us)
{
    if (!(limit >= 1) || !(base_us > 0))
        return;
    uint32_t to = (uint32_t)fb_clamp(limit, l->conf.min, l->conf.max);
    limit_base_set(l, base_us, LIMIT_RESTORED_SAMPLES);
    l->cv = fb_clamp(cv, 0.05, 5);
    l->clear = to;
    l->is_proven = true;
    l->limit = to;
    limit_meter_start(l, now_us);
}

void limit_forget(struct limit *l, uint64_t now_us)
{
    struct limit_conf conf = {.min = l->conf.min,
                              .max = l->conf.max,
                              .start = l->conf.start,
                              .tolerance_us = l->conf.tolerance_us};
    uint32_t from = l->limit, in_flight = l->in_flight, headed = l->headed;
    uint64_t generation = l->generation;
    limit_init(l, &conf, now_us);
    l->in_flight = in_flight;
    l->headed = headed;
    l->generation = generation + 1;
    l->void_us = now_us;
    limit_propose(l, REASON_LEARN_RESET, from, NULL, now_us);
}

void limit_set_bounds(struct limit *l, uint32_t min, uint32_t max)
{
    fb_assert(min >= 1);
    fb_assert(min <= max);
    fb_assert(max <= LIMIT_MAX);
    l->conf.min = min;
    l->conf.max = max;
    uint32_t to = fb_max_u32(min, fb_min_u32(l->limit, max));
    if (to == l->limit)
        return;
    l->limit = to;
    l->mode = LIMIT_HOLD;
    limit_meter_start(l, fb_max_u64(l->alive_us, l->meter.since_us));
}

uint32_t limit_now(const struct limit *l)
{
    return l->limit;
}

double limit_base_us(const struct limit *l)
{
    return l->base.us;
}

double limit_cv(const struct limit *l)
{
    return l->cv;
}

bool limit_has_room(const struct limit *l)
{
    if (l->in_flight >= l->limit)
        return false;
    return !l->is_paused || l->is_trial_due;
}

void limit_on_send(struct limit *l, struct limit_tag *tag, uint64_t now_us)
{
    if (l->in_flight++ == 0 && !l->is_paused)
        l->alive_us = now_us;
    if (l->is_paused) {
        l->trial_gap_us *= 2;
        l->trial_us = now_us + l->trial_gap_us;
        l->is_trial_due = false;
    }
    /* In the lower half of the limit a request says little of what the limit does. */
    uint32_t low = l->mode == LIMIT_PROBE ? l->limit_before : l->limit / 2;
    bool is_high = l->in_flight > low;
    *tag = (struct limit_tag){.sent_us = now_us,
                              .generation = l->generation,
                              .in_flight = l->in_flight,
                              .is_tagged = is_high};
    if (!is_high)
        return;
    l->meter.open += 1;
    l->meter.open_sent_us += (double)(now_us - l->meter.since_us);
    l->meter.open_in_flight += l->in_flight;
}

void limit_on_head(struct limit *l, struct limit_tag *tag)
{
    fb_assert(l->headed < l->in_flight);
    fb_assert(!tag->has_head);
    l->headed++;
    if (tag->is_tagged && tag->generation == l->generation)
        meter_close(l, tag);
    tag->has_head = true;
}

uint64_t limit_transfer_us(const struct limit *l)
{
    if (l->base.samples < cold_samples)
        return (uint64_t)transfer_max_us;
    double most_us = fmax(transfer_max_us, 2 * l->base.us);
    return (uint64_t)fb_clamp(transfer_services * l->base.us, transfer_min_us, most_us);
}

void limit_on_done(struct limit *l, const struct limit_tag *tag, enum limit_result result,
                   bool is_wanted, uint64_t now_us)
{
    fb_assert(l->in_flight > 0);
    fb_assert(now_us >= tag->sent_us);
    bool was_full = l->in_flight >= l->limit;
    l->in_flight--;
    if (tag->has_head) {
        fb_assert(l->headed > 0);
        l->headed--;
    }
    bool is_alive = result == LIMIT_OK || result == LIMIT_FAST_FAIL || result == LIMIT_TRANSFER;
    if (l->is_paused && (is_alive || l->in_flight == 0))
        pause_end(l, now_us);
    if (is_alive || l->in_flight == 0)
        l->alive_us = now_us;

    uint64_t heard_us = tag->left_us ? fb_min_u64(tag->left_us, now_us) : now_us;
    double age_us = (double)fb_sub_floor_u64(heard_us, tag->sent_us);
    if (tag->is_tagged && tag->generation == l->generation)
        meter_remove(l, tag, result, age_us);
    if (result == LIMIT_OK && tag->sent_us >= l->void_us)
        level_add(l, tag->in_flight, age_us);
    if (is_wanted && was_full)
        l->bound_us = now_us;
    /* With many samples a verdict does not hang on the last one: every eighth, and each tick, is
     * enough (26 ns instead of 85 for a send and its completion). */
    if (l->meter.done < 128 || ((uint64_t)l->meter.done & 7) == 0)
        limit_judge(l, is_wanted && was_full, now_us);
    fb_assert(l->limit >= l->conf.min);
    fb_assert(l->limit <= l->conf.max);
}

void limit_tick(struct limit *l, bool is_wanted, uint64_t now_us)
{
    pause_check(l, now_us);
    if (l->is_paused)
        return;
    limit_levels_decay(l, now_us);
    bool is_full = l->in_flight >= l->limit;
    if (is_wanted && is_full)
        l->bound_us = now_us;
    if (is_wanted && is_full)
        cold_grow(l, now_us);
    limit_judge(l, is_wanted && is_full, now_us);
}

bool limit_take_proposal(struct limit *l, struct ev_proposal *out)
{
    if (l->proposal.moves == 0)
        return false;
    *out = EV_INIT(PROPOSAL, proposal, l->proposal.when_us);
    out->endpoint = out->service = EV_NONE;
    out->reason = l->proposal.reason;
    out->is_binding = l->proposal.is_binding;
    out->limit_from = l->proposal.from;
    out->limit_to = l->proposal.to;
    out->samples = l->proposal.samples;
    out->base_samples = l->proposal.base_samples;
    out->latency_us = l->proposal.latency_us;
    out->base_us = l->proposal.base_us;
    out->ratio = l->proposal.ratio;
    out->error = l->proposal.error;
    out->moves = l->proposal.moves;
    l->proposal.moves = 0;
    return true;
}

/* ---- pauses ---- */

/* So long nothing completes before it is a pause. */
static uint64_t pause_silence_us(const struct limit *l)
{
    double workers = l->is_proven ? fmin(l->clear, l->knee) : fmin(2, l->knee);
    double working = fmax(1, fmin(l->in_flight, workers));
    double longest_us = fmax(pause_services * l->base.us, pause_min_us);
    return (uint64_t)fmin(1e12, fmax(pause_gaps * l->base.us / working, longest_us));
}

static void pause_check(struct limit *l, uint64_t now_us)
{
    if (l->is_paused) {
        l->is_trial_due = now_us >= l->trial_us;
        return;
    }
    if (l->in_flight == 0 || l->base.samples < pause_samples_min)
        return;
    uint64_t silence_us = pause_silence_us(l);
    if (now_us - fb_min_u64(now_us, l->alive_us) < silence_us)
        return;
    l->is_paused = true;
    l->is_trial_due = false;
    l->trial_gap_us = trial_silences * silence_us;
    l->trial_us = now_us + l->trial_gap_us;
    limit_propose(l, REASON_LEARN_PAUSE, l->limit, NULL, now_us);
}

static void pause_end(struct limit *l, uint64_t now_us)
{
    l->is_paused = false;
    /* A short one may be the tail of the service times, and without its tail the base is too low.
     */
    if (now_us - fb_min_u64(now_us, l->alive_us) > void_silences * pause_silence_us(l))
        void_samples(l, now_us);
    limit_propose(l, REASON_LEARN_RESUME, l->limit, NULL, now_us);
}

/* Whatever was in flight during a pause says nothing of the service time. */
static void void_samples(struct limit *l, uint64_t now_us)
{
    l->void_us = now_us;
    limit_meter_start(l, now_us);
}

/* ---- the first moments ----
 *
 * A start limit that waits for completions would refuse a handful of slow answers at once, where
 * nothing speaks against sending them.  One too many for a moment costs less than that: the first
 * completions tell, and down is fast. */

static void cold_grow(struct limit *l, uint64_t now_us)
{
    if (l->is_proven || l->mode != LIMIT_HOLD || l->base.samples >= cold_samples ||
        l->limit >= l->conf.max || l->cold_moves >= cold_moves_max)
        return;
    uint64_t quiet_us = now_us - fb_min_u64(now_us, fb_max_u64(l->alive_us, l->meter.since_us));
    bool is_answering = l->headed >= cold_headed * l->in_flight;
    if (!is_answering && (l->has_completed || quiet_us < cold_gap_us))
        return;
    l->cold_moves++;
    limit_move(l, 2.0 * l->limit, REASON_LEARN_PROBE_UP, NULL, now_us);
}

/* ---- samples ---- */

static void level_add(struct limit *l, uint32_t in_flight, double age_us)
{
    struct limit_level *v = &l->level[limit_level_of(in_flight)];
    double capped_us = limit_capped(l, age_us);
    v->count += 1;
    l->has_completed = true;
    v->sum_us += age_us;
    v->sum_capped_us += capped_us;
    v->sum_square += age_us * age_us;
    v->sum_capped_square += capped_us * capped_us;
    if (l->base.us <= 0)
        return;
    double known_us = l->base.us * fmax(1, in_flight / fmax(1, l->clear)) + l->conf.tolerance_us;
    l->recent += (age_us / known_us - l->recent) / recent_samples;
}

static void meter_remove(struct limit *l, const struct limit_tag *tag, enum limit_result result,
                         double age_us)
{
    struct limit_meter *m = &l->meter;
    if (!tag->has_head)
        meter_close(l, tag);
    if (result == LIMIT_FAST_FAIL || result == LIMIT_TRANSFER)
        return;
    m->sum_us += age_us;
    m->sum_in_flight += tag->in_flight;
    m->sum_capped_us += limit_capped(l, age_us);
    /* One that the caller gave up keeps its age, without counting as completed: else only the quick
     * ones would be seen. */
    m->done += result == LIMIT_GONE ? 0 : 1;
}

/* It is open no longer, whatever came of it. */
static void meter_close(struct limit *l, const struct limit_tag *tag)
{
    struct limit_meter *m = &l->meter;
    m->open -= 1;
    m->open_sent_us -= (double)tag->sent_us - (double)m->since_us;
    m->open_in_flight -= tag->in_flight;
}
