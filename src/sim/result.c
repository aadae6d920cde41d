/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "base/assert.h"
#include "sim/world.h"

/* Latency bins: 0.5 % wide from 1 us on; 4096 of them reach 700 s. */
static const double bin_width = 0.005;

static void bins_add(struct sim_bins *b, uint64_t us);
static double bins_ms(const struct sim_bins *b, double quantile);
static void count(struct sim_count *c, enum sim_end end);
static void count_user(struct world *w, const struct sim_request *r, enum sim_end end);

uint32_t result_phase_of(const struct world *w, uint64_t at_us)
{
    uint32_t i = 0;
    while (i + 1 < SIM_PHASES_MAX && w->sc->phases[i + 1].until_s > 0 &&
           (double)at_us >= w->sc->phases[i].until_s * w->o->time_factor * 1e6)
        i++;
    return i;
}

void result_offer(struct world *w, const struct sim_request *r)
{
    uint64_t second = w->now_us / US_PER_S;
    if (second != w->second) {
        if (w->second_arrivals >= 50) {
            uint64_t ratio = w->second_sends * 1000 / w->second_arrivals;
            w->result->worst_attempts = fb_max_u64(w->result->worst_attempts, ratio);
        }
        w->second = second;
        w->second_sends = w->second_arrivals = 0;
    }
    (void)r;
}

/* Counted when it ends, under the time of its arrival; what is open at the end of the run is not
 * counted. */
void result_end(struct world *w, const struct sim_request *r, enum sim_end end)
{
    struct sim_result *res = w->result;
    uint64_t latency_us = fb_sub_floor_u64(w->now_us, r->arrive_us);
    uint32_t phase = result_phase_of(w, r->arrive_us);
    bool is_answer = end == SIM_END_GOOD || end == SIM_END_LATE;
    uint64_t second = r->arrive_us / US_PER_S;
    if (second < SIM_SECONDS_MAX) {
        res->by_second[second].offered++;
        res->by_second[second].good += end == SIM_END_GOOD;
    }
    count(&res->phase[phase], end);
    count(&res->phase_class[phase][r->class], end);
    if (is_answer)
        bins_add(&w->phase_latency[phase], latency_us);
    if (r->arrive_us >= w->measure_us) {
        count(&res->all, end);
        count(&res->class[r->class], end);
        count(r->user == SIM_USER_HEAVY ? &res->heavy : &res->light, end);
        count_user(w, r, end);
        if (is_answer)
            bins_add(&w->latency, latency_us);
        if (is_answer && r->user)
            bins_add(r->user == SIM_USER_HEAVY ? &w->heavy_latency : &w->light_latency, latency_us);
    }
    uint64_t word = latency_us << 8 | (uint64_t)r->class << 4 | end;
    res->hash = (res->hash ^ word) * UINT64_C(0x100000001b3);
}

void result_finish(struct world *w)
{
    struct sim_result *res = w->result;
    /* What is open at the end of the run is late, or too young to be counted at all. */
    for (uint32_t i = 0; i < w->request_count; i++) {
        const struct sim_request *r = w->requests[i];
        if (r->is_live && (double)(w->end_us - r->arrive_us) > w->sc->in_time_ms * 1e3)
            result_end(w, r, SIM_END_LATE);
    }
    res->p50_ms = bins_ms(&w->latency, 0.5);
    res->p99_ms = bins_ms(&w->latency, 0.99);
    res->p999_ms = bins_ms(&w->latency, 0.999);
    res->heavy_p99_ms = bins_ms(&w->heavy_latency, 0.99);
    res->light_p99_ms = bins_ms(&w->light_latency, 0.99);
    res->light_worst_pct = 100;
    for (uint32_t i = 0; i < SIM_USERS_SEEN; i++)
        if (sim_good_pct(&w->users[i]) < res->light_worst_pct)
            res->light_worst_pct = sim_good_pct(&w->users[i]);
    double from_s = 0;
    for (uint32_t i = 0; i < SIM_PHASES_MAX; i++) {
        double until_s = w->sc->phases[i].until_s * w->o->time_factor;
        if (until_s <= from_s)
            break;
        res->phase_p99_ms[i] = bins_ms(&w->phase_latency[i], 0.99);
        double possible = w->capacity_per_us * 1e6 * (until_s - from_s);
        res->capacity_good_pct[i] = 100 * (double)res->phase[i].good / possible;
        from_s = until_s;
    }
    res->share0 = w->sends > 0 ? (double)w->sends0 / (double)w->sends : 0;
    res->share_last = w->sends > 0 ? (double)w->sends_last / (double)w->sends : 0;
    res->far_share = w->sends > 0 ? (double)w->sends_far / (double)w->sends : 0;
    res->same_endpoint = w->sends_again > 0 ? (double)w->sends_same / (double)w->sends_again : 0;
    res->amplification = w->reached > 0 ? (double)res->attempts / (double)w->reached : 1;
    res->work_wasted_pct = w->work_us > 0 ? 100 * (double)w->wasted_us / (double)w->work_us : 0;
}

double sim_good_pct(const struct sim_count *c)
{
    return c->offered > 0 ? 100 * (double)c->good / (double)c->offered : 100;
}

static void count(struct sim_count *c, enum sim_end end)
{
    c->offered++;
    switch (end) {
    case SIM_END_GOOD:
        c->good++;
        break;
    case SIM_END_LATE:
        c->late++;
        break;
    case SIM_END_FAILED:
        c->failed++;
        break;
    case SIM_END_SHED:
        c->shed++;
        break;
    case SIM_END_ABANDONED:
        c->abandoned++;
        break;
    }
}

/* Beside a heavy user: each of the others, who are numbered from 2. */
static void count_user(struct world *w, const struct sim_request *r, enum sim_end end)
{
    if (w->sc->heavy_share <= 0)
        return;
    for (uint64_t i = 0; i < SIM_USERS_SEEN; i++)
        if (r->user == SIM_USER(i + 2))
            count(&w->users[i], end);
}

static void bins_add(struct sim_bins *b, uint64_t us)
{
    double bin = log(fmax(1, (double)us)) / bin_width;
    b->bin[bin < SIM_BINS ? (size_t)bin : SIM_BINS - 1]++;
    b->count++;
}

static double bins_ms(const struct sim_bins *b, double quantile)
{
    double rank = quantile * (double)b->count;
    double seen = 0;
    for (size_t i = 0; i < SIM_BINS; i++) {
        seen += b->bin[i];
        if (b->bin[i] > 0 && seen >= rank)
            return exp(((double)i + 0.5) * bin_width) / 1e3;
    }
    return 0;
}

/* ---- print ---- */

static void print_count(struct buf *out, const char *name, const struct sim_count *c)
{
    double n = c->offered > 0 ? (double)c->offered / 100 : 1;
    buf_printf(
        out,
        "  %-12s %9llu offered  %6.2f %% good  %5.2f late  %5.2f failed  %5.2f shed  %5.2f left\n",
        name, (unsigned long long)c->offered, sim_good_pct(c), (double)c->late / n,
        (double)c->failed / n, (double)c->shed / n, (double)c->abandoned / n);
}

void sim_print_text(struct buf *out, const struct sim_scenario *scenario, uint64_t seed,
                    const struct sim_result *r)
{
    buf_printf(out, "%s (seed %llu): %s\n", scenario->name, (unsigned long long)seed,
               scenario->what);
    print_count(out, "all", &r->all);
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        if (r->class[i].offered > 0 && r->class[i].offered < r->all.offered)
            print_count(out, ev_class_name(i), &r->class[i]);
    if (r->heavy.offered > 0) {
        print_count(out, "heavy user", &r->heavy);
        print_count(out, "other users", &r->light);
        buf_printf(
            out, "  of them      the one served least %.2f %% good   p99 %.1f ms, heavy %.1f ms\n",
            r->light_worst_pct, r->light_p99_ms, r->heavy_p99_ms);
    }
    for (uint32_t i = 0; i < SIM_PHASES_MAX && scenario->phases[1].until_s > 0; i++) {
        if (scenario->phases[i].until_s <= 0)
            break;
        char name[32];
        snprintf(name, sizeof(name), "phase %u", i + 1);
        print_count(out, name, &r->phase[i]);
        buf_printf(out, "  %-12s %8.1f %% of capacity good  p99 %.1f ms\n", "",
                   r->capacity_good_pct[i], r->phase_p99_ms[i]);
    }
    buf_printf(out, "  latency      p50 %.1f ms  p99 %.1f ms  p99.9 %.1f ms\n", r->p50_ms,
               r->p99_ms, r->p999_ms);
    buf_printf(out, "  attempts     %llu  retries %llu  amplification %.3f  wasted work %.1f %%\n",
               (unsigned long long)r->attempts, (unsigned long long)r->retries, r->amplification,
               r->work_wasted_pct);
    buf_printf(out, "  endpoint 0   %.2f %% of sends   ejections %u  panics %u\n", 100 * r->share0,
               r->ejections, r->panics);
    if (r->far_share > 0)
        buf_printf(out, "  zones        %.2f %% of sends went to another zone\n",
                   100 * r->far_share);
    if (r->same_endpoint > 0)
        buf_printf(out, "  affinity     %.2f %% of sends met the endpoint of the time before\n",
                   100 * r->same_endpoint);
    if (r->decisions > 0)
        buf_printf(out,
                   "  loops        %u decisions  moves: shed %u  timeout %u  retry %u  frozen %u  "
                   "timeout at the end %.0f ms\n",
                   r->decisions, r->loop_moves[KNOB_SHED_THRESHOLD], r->loop_moves[KNOB_TIMEOUT_MS],
                   r->loop_moves[KNOB_RETRY_PCT], r->loop_freezes, r->timeout_ms);
    buf_printf(out, "  outcome      %016llx\n", (unsigned long long)r->hash);
}

static void json_count(struct json *j, const char *key, const struct sim_count *c)
{
    json_key(j, key);
    json_object_begin(j);
    json_key_u64(j, "offered", c->offered);
    json_key_u64(j, "good", c->good);
    json_key_u64(j, "late", c->late);
    json_key_u64(j, "failed", c->failed);
    json_key_u64(j, "shed", c->shed);
    json_key_u64(j, "abandoned", c->abandoned);
    json_object_end(j);
}

void sim_print_json(struct json *j, const struct sim_scenario *scenario, uint64_t seed,
                    const struct sim_result *r)
{
    json_object_begin(j);
    json_key_str(j, "scenario", scenario->name);
    json_key_u64(j, "seed", seed);
    json_count(j, "all", &r->all);
    json_key(j, "classes");
    json_object_begin(j);
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        if (r->class[i].offered > 0)
            json_count(j, ev_class_name(i), &r->class[i]);
    json_object_end(j);
    if (r->heavy.offered > 0) {
        json_count(j, "heavy_user", &r->heavy);
        json_count(j, "other_users", &r->light);
        json_key_f64(j, "other_users_worst_pct", r->light_worst_pct);
        json_key_f64(j, "other_users_p99_ms", r->light_p99_ms);
        json_key_f64(j, "heavy_user_p99_ms", r->heavy_p99_ms);
    }
    json_key(j, "phases");
    json_array_begin(j);
    for (uint32_t i = 0; i < SIM_PHASES_MAX && scenario->phases[i].until_s > 0; i++) {
        json_object_begin(j);
        json_count(j, "requests", &r->phase[i]);
        json_key_f64(j, "capacity_good_pct", r->capacity_good_pct[i]);
        json_key_f64(j, "p99_ms", r->phase_p99_ms[i]);
        json_object_end(j);
    }
    json_array_end(j);
    json_key_f64(j, "p50_ms", r->p50_ms);
    json_key_f64(j, "p99_ms", r->p99_ms);
    json_key_f64(j, "p999_ms", r->p999_ms);
    json_key_u64(j, "attempts", r->attempts);
    json_key_u64(j, "retries", r->retries);
    json_key_f64(j, "amplification", r->amplification);
    json_key_f64(j, "share0", r->share0);
    json_key_f64(j, "share_last", r->share_last);
    json_key_f64(j, "far_share", r->far_share);
    json_key_f64(j, "same_endpoint", r->same_endpoint);
    json_key_f64(j, "work_wasted_pct", r->work_wasted_pct);
    json_key_u64(j, "ejections", r->ejections);
    json_key_u64(j, "decisions", r->decisions);
    json_key_u64(j, "loops_frozen", r->loop_freezes);
    char hash[20];
    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)r->hash);
    json_key_str(j, "outcome", hash);
    json_object_end(j);
}
