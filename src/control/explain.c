/* SPDX-License-Identifier: Apache-2.0 */
/* engine_explain: a decision as one sentence; made from the record alone, so that a replay tells
 * the same. */
#include "base/assert.h"
#include "control/control_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void subject(const struct ev_decision *d, const char *name, struct buf *out);
static void because(const struct ev_decision *d, struct buf *out);
static void expectation(const struct ev_decision *d, struct buf *out);
static void put_fact_name(struct buf *out, uint16_t fact);

/* 12400 -> "12,400". */
static void put_count(struct buf *out, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf_putc(out, ',');
        buf_putc(out, digits[i]);
    }
}

/* Three digits that matter: 0.21, 4.5, 38.2, 420, 15000. */
static void put_value(struct buf *out, double v)
{
    if (isnan(v))
        buf_puts(out, "unknown");
    else if (v == floor(v) && fabs(v) < 1e9)
        buf_printf(out, "%.0f", v);
    else
        buf_printf(out, fabs(v) >= 100 ? "%.0f" : fabs(v) >= 10 ? "%.1f" : "%.2f", v);
}

static void put_with_unit(struct buf *out, double v, const char *unit)
{
    put_value(out, v);
    if (unit && unit[0] && !isnan(v))
        buf_printf(out, unit[0] == '/' ? "%s" : " %s", unit);
}

/* A fact's value: ratios as per cent. */
static void put_fact(struct buf *out, uint16_t fact, double v)
{
    const char *unit = fact_row(fact)->unit;
    if (unit && unit[0] == 0 && !isnan(v) && fact != FACT_LEARNER_RATIO)
        buf_printf(out, "%.2f %%", v * 100);
    else
        put_with_unit(out, v, unit);
}

void engine_explain(const struct engine *e, const struct ev_decision *d, struct buf *out)
{
    explain_decision(d, engine_name(e, (enum ev_kind)d->target_kind, d->target), out);
}

void explain_decision(const struct ev_decision *d, const char *target, struct buf *out)
{
    subject(d, target, out);
    because(d, out);
    expectation(d, out);
}

static const char *knob_words(uint16_t knob)
{
    switch (knob) {
    case KNOB_LIMIT:
        return "limit";
    case KNOB_SHED_THRESHOLD:
        return "shed threshold";
    case KNOB_TIMEOUT_MS:
        return "timeout";
    case KNOB_RETRY_PCT:
        return "retry budget";
    case KNOB_CACHE_KIB:
        return "cache memory";
    case KNOB_WEIGHT_PCT:
        return "weight";
    case KNOB_HEDGE_DELAY_MS:
        return "hedge delay";
    case KNOB_FLEET_SHARE_PCT:
        return "share of the fleet's limit";
    case KNOB_SPLIT_PCT:
        return "share of new versions";
    default:
        return "knob";
    }
}

static void subject(const struct ev_decision *d, const char *name, struct buf *out)
{
    const char *kind = ev_kind_name(d->target_kind);
    if (d->knob < KNOB_COUNT)
        buf_printf(out, "%s of ", knob_words(d->knob));
    if (d->target == EV_NONE) {
        buf_printf(out, "all %ss", kind);
    } else {
        if (name[0])
            buf_printf(out, "%s %s", kind, name);
        else
            buf_printf(out, "%s %u", kind, (unsigned)d->target);
    }
    if (d->knob >= KNOB_COUNT || d->target == EV_NONE)
        return;
    const char *unit = knob_row(d->knob)->unit;
    buf_puts(out, ": ");
    /* the unit of a count is said once, other units with both values */
    put_with_unit(out, d->from,
                  d->knob == KNOB_LIMIT || d->knob == KNOB_SHED_THRESHOLD ? "" : unit);
    buf_puts(out, d->from == d->to ? " stays " : d->is_applied ? " -> " : " would become ");
    put_with_unit(out, d->to, unit);
}

/* What a latency is held against: nothing while no request met an idle endpoint yet. */
static void put_base(const struct ev_decision *d, const char *before, struct buf *out)
{
    if (d->n2 == 0)
        return;
    buf_puts(out, before);
    put_with_unit(out, d->value2, "ms");
    buf_puts(out, " without a queue (");
    put_count(out, d->n2);
    buf_puts(out, d->n2 == 1 ? " sample)" : " samples)");
}

static void put_latency(const struct ev_decision *d, struct buf *out)
{
    buf_puts(out, "the mean of ");
    put_count(out, d->n1);
    buf_puts(out, " answers at a known number in flight was ");
    put_with_unit(out, d->value1, "ms");
    buf_puts(out, ", ");
    put_value(out, d->value3);
    buf_puts(out, " times the ");
    put_with_unit(out, d->value2, "ms");
    buf_puts(out, " without a queue (");
    put_count(out, d->n2);
    buf_puts(out, " samples)");
}

static void because_limit(const struct ev_decision *d, struct buf *out)
{
    buf_puts(out, ", because ");
    switch (d->verdict) {
    case REASON_LEARN_PROBE_UP:
        buf_puts(out, "it was full and more requests wanted in; more at once are tried");
        put_base(d, ", whose answers are held against the ", out);
        break;
    case REASON_LEARN_UNUSED:
        buf_puts(out, "it was no longer full before the higher one that was tried could be judged");
        break;
    case REASON_LEARN_PAUSE:
        buf_puts(out, "nothing is answered any more");
        put_base(d, ", where an answer took ", out);
        buf_puts(out, "; it waits and takes no samples");
        break;
    case REASON_LEARN_RESUME:
        buf_puts(out, "answers come again after a pause");
        break;
    case REASON_LEARN_RESET:
        buf_puts(out, "an operator dropped what was learned");
        break;
    default:
        if (d->n1 > 0)
            put_latency(d, out);
        else
            buf_puts(out, "of what the learner knew before");
    }
    if (d->reason == REASON_LIMIT_BOUNDED) {
        buf_puts(out, "; the learner wanted more than the bounds ");
        put_value(out, d->min);
        buf_puts(out, " .. ");
        put_value(out, d->max);
        buf_puts(out, " allow");
    }
}

static void because_shed(const struct ev_decision *d, struct buf *out)
{
    buf_printf(out, ", because in %u ms ", d->window1_ms);
    put_count(out, d->n1);
    buf_puts(out, " requests arrived (");
    put_with_unit(out, d->value1, "/s");
    buf_puts(out, ") and the service can do ");
    put_with_unit(out, d->threshold1, "/s");
    buf_puts(out, "; ");
    put_value(out, d->value3);
    buf_printf(out, " wait in the queue; %.0f %% are refused, lowest classes first",
               d->threshold2 * 100);
}

static void because_timeout(const struct ev_decision *d, struct buf *out)
{
    if (d->reason == REASON_TIMEOUT_LOWER && d->note[0]) {
        buf_puts(out, ", because the longer wait won no answer: ");
        put_fact(out, FACT_TIMEOUT_RATIO, d->value2);
        buf_puts(out, " of ");
        put_count(out, d->n2);
        buf_puts(out, " requests ran into it");
        return;
    }
    if (d->reason == REASON_TIMEOUT_WIDEN || isnan(d->value1)) {
        buf_puts(out, ", because ");
        put_fact(out, FACT_TIMEOUT_RATIO, d->value2);
        buf_puts(out, " of ");
        put_count(out, d->n2);
        buf_printf(out, " requests in %u s ran into it (more than %.0f %% widens it)",
                   d->window2_ms / 1000, d->threshold2 * 100);
        return;
    }
    buf_puts(out, ", because 99.9 % of ");
    put_count(out, d->n1);
    buf_printf(out, " answers in %u s came within ", d->window1_ms / 1000);
    put_with_unit(out, d->value1, "ms");
}

static void because_retry(const struct ev_decision *d, struct buf *out)
{
    if (d->note[0]) {
        buf_puts(out, ", because the limit binds: on average ");
        put_value(out, d->value2);
        buf_puts(out, " requests wait in the queue");
        return;
    }
    buf_puts(out, ", because ");
    put_fact(out, FACT_ERROR_RATIO, d->value1);
    buf_puts(out, " of ");
    put_count(out, d->n1);
    buf_printf(out, " requests in %u s failed (all retries up to %.0f %%, none from %.0f %%)",
               d->window1_ms / 1000, d->threshold1 * 100, d->threshold2 * 100);
}

static void because_fleet(const struct ev_decision *d, struct buf *out)
{
    buf_printf(out,
               ", because this node was asked for %.3g of %.3g requests/s of a limit of %.3g/s "
               "(%.39s)",
               d->value1, d->value2, d->threshold2, d->note);
}

static void because_hedge(const struct ev_decision *d, struct buf *out)
{
    if (d->reason == REASON_HEDGE_OFF) {
        buf_puts(out, " (off), because second copies saved ");
        put_fact(out, FACT_HEDGE_GAIN, d->value2);
        buf_printf(out, " of the slowest requests, and less than %.0f %% is not worth their cost (",
                   d->threshold2 * 100);
        put_count(out, d->n2);
        buf_puts(out, " held out)");
        return;
    }
    buf_puts(out, ", because 95 % of ");
    put_count(out, d->n1);
    buf_printf(out, " answers in %u s came within ", d->window1_ms / 1000);
    put_with_unit(out, d->value1, "ms");
}

static void because_cache(const struct ev_decision *d, struct buf *out)
{
    bool is_grow = d->reason == REASON_CACHE_GROW;
    buf_puts(out,
             is_grow ? ", because more memory saves most here" : ", because it saves least here");
    buf_puts(out, ": by the curve of ");
    put_count(out, d->n1);
    buf_puts(out, " samples it answered ");
    put_fact(out, FACT_CACHE_HIT_RATIO, d->value1);
    buf_puts(out, " of the requests");
}

static void because_reverted(const struct ev_decision *d, struct buf *out)
{
    buf_printf(out, ", because decision %llu made it worse: ", (unsigned long long)d->supersedes);
    put_fact_name(out, d->fact1);
    if (d->fact1 == FACT_SIGNAL) {
        buf_printf(out, " %.39s went from %.4g to %.4g", d->note, d->threshold1, d->value1);
        return;
    }
    buf_puts(out, " went from ");
    put_fact(out, d->fact1, d->threshold1);
    buf_puts(out, " to ");
    put_fact(out, d->fact1, d->value1);
}

static void because_release(const struct ev_decision *d, struct buf *out)
{
    buf_printf(out, ", because signal %.39s went from %.4g to %.4g in the %u s after the release (",
               d->note, d->threshold1, d->value1, d->window1_ms / 1000);
    buf_printf(out, "%+.1f %% for its users, evidence %.3g, %.0f needed)", d->value2 * 100,
               d->value3, d->threshold2);
}

static void because_version(const struct ev_decision *d, struct buf *out)
{
    buf_printf(out,
               ", because signal %.39s is %.4g with the new version and %.4g with the old one, in "
               "the %u s after the release (",
               d->note, d->value1, d->threshold1, d->window1_ms / 1000);
    buf_printf(out, "%+.1f %%, evidence %.3g, %.0f needed)", d->value2 * 100, d->value3,
               d->threshold2);
}

static void because_operator(const struct ev_decision *d, struct buf *out)
{
    static const struct {
        uint16_t reason;
        const char *text;
    } words[] = {
        {REASON_OPERATOR_PIN, "because an operator pinned it"},
        {REASON_OPERATOR_UNPIN, "because the pin was released"},
        {REASON_OPERATOR_FREEZE, "because an operator froze the loop"},
        {REASON_OPERATOR_UNFREEZE, "because the loop may act again"},
        {REASON_OPERATOR_RESET, "because an operator dropped what was learned"},
        {REASON_OPERATOR_DRAIN, "is drained, because an operator said so"},
        {REASON_OPERATOR_UNDRAIN, "takes requests again, because the drain ended"},
        {REASON_CONFIG_CHANGED,
         "because the configured value changed and dropped what was learned"},
    };
    if (d->reason == REASON_OPERATOR_MODE)
        buf_printf(out, ", because the mode is now %s", ev_mode_name(d->mode));
    for (size_t i = 0; i < FB_COUNT(words); i++)
        if (words[i].reason == d->reason)
            buf_printf(out, d->knob < KNOB_COUNT ? ", %s" : " %s", words[i].text);
    if (d->reason == REASON_FAIL_STATIC)
        buf_puts(out, ", because no fresh knobs reach the gateway");
    if (d->note[0])
        buf_printf(out, ": %.*s", (int)strnlen(d->note, sizeof d->note), d->note);
}

static void because(const struct ev_decision *d, struct buf *out)
{
    switch (d->reason) {
    case REASON_LIMIT_FOLLOWS:
    case REASON_LIMIT_BOUNDED:
        because_limit(d, out);
        break;
    case REASON_SHED_RAISE:
    case REASON_SHED_LOWER:
        because_shed(d, out);
        break;
    case REASON_TIMEOUT_WIDEN:
    case REASON_TIMEOUT_RAISE:
    case REASON_TIMEOUT_LOWER:
        because_timeout(d, out);
        break;
    case REASON_RETRY_CUT:
    case REASON_RETRY_RESTORE:
        because_retry(d, out);
        break;
    case REASON_HEDGE_FOLLOWS:
    case REASON_HEDGE_OFF:
        because_hedge(d, out);
        break;
    case REASON_FLEET_SHARE:
        because_fleet(d, out);
        break;
    case REASON_CACHE_GROW:
    case REASON_CACHE_SHRINK:
        because_cache(d, out);
        break;
    case REASON_RELEASE_HARMED:
        because_release(d, out);
        break;
    case REASON_RELEASE_VERSION_HARMED:
        because_version(d, out);
        break;
    case REASON_REVERTED:
        because_reverted(d, out);
        break;
    default:
        because_operator(d, out);
        break;
    }
}

/* "timeout_ratio" -> "timeout ratio". */
static void put_fact_name(struct buf *out, uint16_t fact)
{
    const char *name = fact_row(fact)->name;
    for (; name && *name; name++)
        buf_putc(out, *name == '_' ? ' ' : *name);
}

/* What the decision promises, in the words of the fact. */
static void expectation(const struct ev_decision *d, struct buf *out)
{
    static const struct {
        uint16_t fact;
        const char *lower, *keep;
    } words[] = {
        {FACT_TIMEOUT_RATIO, "fewer time-outs", "no more time-outs"},
        {FACT_ERROR_RATIO, "fewer errors", "no more errors"},
        {FACT_RETRY_RATIO, "fewer retries", "no more retries"},
        {FACT_SHED_RATIO, "fewer refused requests", "no more refused requests"},
        {FACT_CACHE_HIT_RATIO, "fewer hits", "no fewer hits"},
        {FACT_QUEUED, "a shorter queue", "no longer queue"},
        {FACT_UPSTREAM_P50, "lower latency", "no higher latency"},
        {FACT_LATENCY_P50, "a lower median", "no higher median"},
    };
    if (d->expected == EXPECT_NONE || !fact_row(d->expected_fact)->name)
        return;
    const char *text = d->expected == EXPECT_LOWER  ? "less of it"
                       : d->expected == EXPECT_KEEP ? "no harm"
                                                    : "more";
    for (size_t i = 0; i < FB_COUNT(words); i++)
        if (words[i].fact == d->expected_fact && d->expected != EXPECT_HIGHER)
            text = d->expected == EXPECT_LOWER ? words[i].lower : words[i].keep;
    buf_printf(out, "; expected: %s (", text);
    put_fact_name(out, d->expected_fact);
    buf_putc(out, ' ');
    put_fact(out, d->expected_fact, d->before);
    buf_puts(out, " before)");
}
