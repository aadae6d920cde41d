/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/eject.h"

#include "base/assert.h"

/* Half: an endpoint that fails 30 % still does 70 % of its share; the score sends it less and
 * retries repair the rest, while taking it out overloads the others (simulate errors: 99.9 % good
 * against 99.5 % with 0.25). */
static const uint32_t samples_min = 20;
static const double ratio_min = 0.5;
static const double ratio_over_others = 3.0;
/* Beside the 10 s: the last two to three seconds, so that a good past does not vouch for an
 * endpoint that broke now (at 10 s it took 5 s until half of the samples were bad). */
static const uint64_t short_buckets = 3;
/* Ten in a row and nothing good for 200 ms: at 9 of 10 good answers before, one row in 10^10. */
static const uint32_t row_max = 10;
static const uint64_t row_span_us = 200 * US_PER_MS;
/* Five in a row, and 50 ms without a success: a full accept queue refuses a burst, a dead process
 * everything. */
static const uint32_t connects_max = 5;
static const uint64_t connects_span_us = 50 * US_PER_MS;
/* A probe without an answer counts as contradicted while requests succeed: no success for this long
 * before it may eject.  How many in a row it takes says `fall`, before one comes here. */
static const uint64_t probe_quiet_us = 2 * US_PER_S;
static const uint64_t out_first_us = 2 * US_PER_S;
static const uint64_t dead_first_us = US_PER_S;
static const uint64_t out_max_us = 60 * US_PER_S;
static const uint64_t forget_us = 60 * US_PER_S;
static const double jitter = 0.15;
static const uint32_t trials_wanted = 3;

struct window {
    uint32_t ok, failed;
};
static struct window window_of(const struct eject_seat *s, uint64_t buckets, uint64_t now_us);
static void window_clear(struct eject_seat *s);
static struct eject_change eject(struct eject *e, struct eject_seat *s, enum ev_reason why,
                                 uint64_t now_us);
static bool is_outlier(struct eject_seat *const *seats, uint32_t n, uint32_t at, uint64_t now_us);
static bool is_over(struct eject_seat *const *seats, uint32_t n, uint32_t at, uint64_t buckets,
                    uint64_t now_us);
static bool is_dead(const struct eject_seat *s, uint64_t now_us);
static bool may_eject(const struct eject *e, struct eject_seat *const *seats, uint32_t n,
                      uint32_t at, bool dead);
static struct eject_change judge_half_open(struct eject *e, struct eject_seat *s, uint64_t now_us);

void eject_init(struct eject *e, uint64_t seed)
{
    *e = (struct eject){.is_on = true, .ejected_pct_max = 30};
    rng_init(&e->rng, seed);
}

void eject_seat_init(struct eject_seat *s, uint64_t now_us)
{
    *s = (struct eject_seat){.state = EV_HEALTH_OK, .until_us = now_us, .good_us = now_us};
}

void eject_on_end(struct eject_seat *s, enum eject_sign sign, bool was_trial, uint64_t now_us)
{
    if (was_trial && s->trials > 0)
        s->trials--;
    if (sign == EJECT_UNKNOWN)
        return;
    uint64_t second = now_us / US_PER_S;
    for (uint64_t k = s->bucket_s + 1; k <= second && k <= s->bucket_s + EJECT_BUCKETS; k++)
        s->ok[k % EJECT_BUCKETS] = s->failed[k % EJECT_BUCKETS] = 0;
    s->bucket_s = second;
    if (sign == EJECT_GOOD) {
        s->ok[second % EJECT_BUCKETS]++;
        s->good_us = now_us;
        s->failed_row = 0;
        s->connects_failed = 0;
        s->probes_failed = 0;
        if (was_trial)
            s->trials_ok++;
        return;
    }
    s->failed[second % EJECT_BUCKETS]++;
    s->failed_row++;
    if (sign == EJECT_NO_CONNECT && s->connects_failed++ == 0)
        s->first_bad_us = now_us;
    if (was_trial)
        s->trials_ok = UINT32_MAX; /* failed: judged next */
}

void eject_on_probe(struct eject_seat *s, enum eject_probe said, uint64_t now_us)
{
    if (said == EJECT_PROBE_GOOD) {
        /* A dead one that answers a probe is tried now, not at the end of its term. */
        if (s->state == EV_HEALTH_EJECTED && (s->is_dead || s->is_refusing))
            s->until_us = now_us;
        s->is_refusing = false;
        s->probes_failed = 0;
    } else if (said == EJECT_PROBE_REFUSED) {
        s->is_refusing = true;
    } else if (s->probes_failed < UINT8_MAX) {
        s->probes_failed++;
    }
}

struct eject_change eject_judge(struct eject *e, struct eject_seat *const *seats, uint32_t n,
                                uint32_t at, uint64_t now_us)
{
    fb_assert(at < n);
    struct eject_seat *s = seats[at];
    struct eject_change none = {.reason = REASON_NONE};
    if (s->is_refusing) {
        if (s->state == EV_HEALTH_EJECTED || !may_eject(e, seats, n, at, true))
            return none;
        s->is_dead = false;
        return eject(e, s, REASON_HEALTH_PROBE_FAILED, now_us);
    }
    if (s->state == EV_HEALTH_EJECTED) {
        /* Probes without an answer prolong it, not for ever: they may have lost their way. */
        uint64_t end_us = s->until_us + (s->probes_failed ? out_max_us : 0);
        if ((e->is_on || s->probes_failed) && now_us < end_us)
            return none;
        s->state = EV_HEALTH_HALF_OPEN;
        s->trials = s->trials_ok = 0;
        return (struct eject_change){.from = EV_HEALTH_EJECTED,
                                     .to = EV_HEALTH_HALF_OPEN,
                                     .reason = REASON_HEALTH_HALF_OPEN};
    }
    if (s->state == EV_HEALTH_HALF_OPEN)
        return judge_half_open(e, s, now_us);
    if (s->times > 0 && now_us - s->until_us > forget_us)
        s->times = 0;
    if (!e->is_on && !s->probes_failed)
        return none;
    if (is_dead(s, now_us) && may_eject(e, seats, n, at, true)) {
        s->is_dead = true;
        return eject(e, s,
                     s->connects_failed >= connects_max ? REASON_HEALTH_PASSIVE_CONNECT
                                                        : REASON_HEALTH_PROBE_FAILED,
                     now_us);
    }
    if (e->is_on && is_outlier(seats, n, at, now_us) && may_eject(e, seats, n, at, false)) {
        s->is_dead = false;
        return eject(e, s, REASON_HEALTH_PASSIVE_ERRORS, now_us);
    }
    return none;
}

bool eject_allows(const struct eject *e, const struct eject_seat *s)
{
    if (s->state == EV_HEALTH_OK)
        return true;
    if (s->state == EV_HEALTH_HALF_OPEN)
        return s->trials == 0;
    return e->is_panic && (s->is_refusing ? e->is_refused_by_all : !s->is_dead);
}

bool eject_panic_changed(struct eject *e, struct eject_seat *const *seats, uint32_t n,
                         uint64_t now_us)
{
    uint32_t unwell = 0, refusing = 0, dead = 0, out = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct eject_seat *s = seats[i];
        bool is_gone = is_dead(s, now_us) || (s->state == EV_HEALTH_EJECTED && s->is_dead);
        refusing += s->is_refusing;
        out += s->state == EV_HEALTH_EJECTED;
        dead += !s->is_refusing && is_gone;
        unwell += !s->is_refusing &&
                  (s->state != EV_HEALTH_OK || is_gone || is_outlier(seats, n, i, now_us));
    }
    e->is_refused_by_all = refusing > 0 && refusing + dead == n;
    /* Half of them: what is left would get twice its load, which looks like a failure too. */
    bool is_panic = n >= 2 && (e->is_refused_by_all ||
                               (e->is_on && n - refusing >= 2 && unwell * 2 > n - refusing));
    /* The last one stays in, but it may leave, or be drained, while the others are out. */
    is_panic |= out == n && dead < n;
    if (is_panic == e->is_panic)
        return false;
    e->is_panic = is_panic;
    return true;
}

double eject_failure_ratio(const struct eject_seat *s, uint64_t now_us, uint32_t *samples)
{
    struct window w = window_of(s, EJECT_BUCKETS, now_us);
    if (samples)
        *samples = w.ok + w.failed;
    return w.ok + w.failed > 0 ? (double)w.failed / (double)(w.ok + w.failed) : 0;
}

/* ---- evidence ----
 *
 * Buckets are found by the second they stand for, so nothing has to be cleared by a timer: what is
 * older than ten seconds is out of reach or was overwritten. */

static struct window window_of(const struct eject_seat *s, uint64_t buckets, uint64_t now_us)
{
    struct window w = {0, 0};
    uint64_t second = now_us / US_PER_S;
    for (uint64_t back = 0; back < buckets && back <= second; back++) {
        uint64_t k = second - back;
        if (k > s->bucket_s || s->bucket_s - k >= EJECT_BUCKETS)
            continue; /* nothing was counted in that second */
        w.ok += s->ok[k % EJECT_BUCKETS];
        w.failed += s->failed[k % EJECT_BUCKETS];
    }
    return w;
}

static void window_clear(struct eject_seat *s)
{
    for (uint32_t i = 0; i < EJECT_BUCKETS; i++)
        s->ok[i] = s->failed[i] = 0;
    s->failed_row = 0;
    s->connects_failed = 0;
    s->probes_failed = 0;
}

static bool is_outlier(struct eject_seat *const *seats, uint32_t n, uint32_t at, uint64_t now_us)
{
    return is_over(seats, n, at, short_buckets, now_us) ||
           is_over(seats, n, at, EJECT_BUCKETS, now_us);
}

/* Failing clearly more than the others, in the last <buckets> seconds. */
static bool is_over(struct eject_seat *const *seats, uint32_t n, uint32_t at, uint64_t buckets,
                    uint64_t now_us)
{
    const struct eject_seat *s = seats[at];
    struct window own = window_of(s, buckets, now_us);
    uint32_t count = own.ok + own.failed;
    bool is_row = s->failed_row >= row_max && fb_sub_floor_u64(now_us, s->good_us) >= row_span_us;
    if (count == 0 || (count < samples_min && !is_row))
        return false;
    double ratio = is_row ? 1 : (double)own.failed / (double)count;
    if (ratio < ratio_min)
        return false;
    double failed = 0;
    double all = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i == at || seats[i]->state != EV_HEALTH_OK)
            continue;
        struct window w = window_of(seats[i], buckets, now_us);
        failed += w.failed;
        all += w.failed + w.ok;
    }
    return all <= 0 || ratio > ratio_over_others * failed / all;
}

static bool is_dead(const struct eject_seat *s, uint64_t now_us)
{
    bool is_unreachable = s->connects_failed >= connects_max &&
                          fb_sub_floor_u64(now_us, s->first_bad_us) >= connects_span_us;
    bool is_silent = fb_sub_floor_u64(now_us, s->good_us) >= probe_quiet_us;
    return is_unreachable || (s->probes_failed && is_silent);
}

static bool may_eject(const struct eject *e, struct eject_seat *const *seats, uint32_t n,
                      uint32_t at, bool dead)
{
    uint32_t out = 0; /* of the others: one that refuses may be half open */
    for (uint32_t i = 0; i < n; i++)
        out += i != at && seats[i]->state != EV_HEALTH_OK;
    if (out + 1 >= n)
        return false; /* the last one stays */
    uint32_t allowed = fb_max_u32(1, n * e->ejected_pct_max / 100);
    return dead || (e->ejected_pct_max > 0 && out < allowed);
}

/* ---- transitions ---- */

static struct eject_change eject(struct eject *e, struct eject_seat *s, enum ev_reason why,
                                 uint64_t now_us)
{
    struct window w = window_of(s, EJECT_BUCKETS, now_us);
    enum ev_health_state from = s->state;
    uint64_t first_us = s->is_dead ? dead_first_us : out_first_us;
    uint64_t term_us = fb_min_u64(first_us << (s->times < 8 ? s->times : 8), out_max_us);
    /* Jitter: several gateways, or endpoints that fell together, must not come back in one instant.
     */
    double factor = 1 - jitter + 2 * jitter * rng_unit(&e->rng);
    s->until_us = now_us + (uint64_t)((double)term_us * factor);
    s->state = EV_HEALTH_EJECTED;
    if (s->times < UINT8_MAX && !s->is_refusing)
        s->times++;
    window_clear(s);
    if (why == REASON_HEALTH_PROBE_FAILED && !s->is_refusing)
        s->probes_failed = 1; /* only a good probe ends this one */
    return (struct eject_change){.from = from,
                                 .to = EV_HEALTH_EJECTED,
                                 .reason = why,
                                 .failures = w.failed,
                                 .samples = w.ok + w.failed,
                                 .until_us = s->until_us};
}

static struct eject_change judge_half_open(struct eject *e, struct eject_seat *s, uint64_t now_us)
{
    if (s->trials_ok == UINT32_MAX) {
        s->trials_ok = 0;
        if (e->is_on)
            return eject(e, s, REASON_HEALTH_RELAPSED, now_us);
    }
    if (s->trials_ok < trials_wanted && e->is_on)
        return (struct eject_change){.reason = REASON_NONE};
    s->state = EV_HEALTH_OK;
    s->until_us = now_us;
    window_clear(s);
    return (struct eject_change){
        .from = EV_HEALTH_HALF_OPEN, .to = EV_HEALTH_RAMPING, .reason = REASON_HEALTH_RECOVERED};
}
