/* SPDX-License-Identifier: Apache-2.0 */
/* What keeps a failure alive after its cause is gone: retries, abandoned work, sinkholes (loops.md
 * D and 2.5), and pairs of reflexes that could work against each other (section 3). */
#include "tap.h"

static void metastable(struct tap *t)
{
    struct tap_mean none = tap_run("metastable", "limit=none", 3);
    tap_at_most(t, none.phase_good_pct[3], 5,
                "metastable: without a limit it never recovers, so the scenario can tell");
    struct tap_mean m = tap_run("metastable", "limit=18", t->seeds);
    tap_at_least(t, m.second_good_pct[44], 99, "metastable: well 4 s after the trigger ended");
    tap_at_least(t, m.phase_good_pct[3], 99.5, "metastable: and stays so");
    m = tap_run("metastable", "", t->seeds);
    tap_at_least(t, m.phase_good_pct[0], 98, "metastable, learned: before, first seconds included");
    tap_at_least(t, m.second_good_pct[46], 99,
                 "metastable, learned: well 6 s after the trigger ended");
    tap_at_least(t, m.phase_good_pct[3], 99, "metastable, learned: and stays so");
    m = tap_run("metastable_proxy", "", t->seeds);
    tap_at_least(t, m.second_good_pct[45], 99,
                 "metastable, own retries: well 5 s after the trigger ended");
    tap_at_least(t, m.phase_good_pct[3], 99.5, "metastable, own retries: and stays so");
    tap_at_most(t, m.amplification, 1.1, "metastable, own retries: attempts per request");
}

static void retries_stay_in_budget(struct tap *t)
{
    struct tap_mean m = tap_run("total_failure", "", t->seeds);
    tap_at_most(t, m.amplification, 1.1, "total failure: attempts per request in the worst seed");
    tap_at_most(t, m.second_amplification, 1.4, "total failure: in the worst second");
    tap_at_least(t, m.phase_good_pct[2], 99.9, "total failure: well at once when it ends");
    struct tap_mean off = tap_run("total_failure", "retry_pct=0", 3);
    tap_at_most(t, off.amplification, 1, "total failure: budget 0 means no retry");
}

static void single_failures_are_hidden(struct tap *t)
{
    struct tap_mean m = tap_run("errors", "", t->seeds);
    tap_at_most(t, m.failed_pct + m.shed_pct, 0.15,
                "errors: one of three fails 30 %%, client errors in %%");
    struct tap_mean off = tap_run("errors", "retry_pct=0", 3);
    tap_at_least(t, off.failed_pct, 2,
                 "errors: without retries clients see them, so the scenario can tell");
    m = tap_run("loss", "", t->seeds);
    tap_at_most(t, m.failed_pct + m.shed_pct, 0.15, "loss: 5 %% everywhere, client errors in %%");
    m = tap_run("death", "", t->seeds);
    tap_at_most(t, m.failed_pct + m.shed_pct, 0.15,
                "death: one of three refuses connections, client errors in %%");
    tap_at_least(t, m.second_good_pct[12], 99.5, "death: 2 s after the death");
}

static void pairs(struct tap *t)
{
    struct tap_mean both = tap_run("limit_retry", "", t->seeds);
    struct tap_mean no_retry = tap_run("limit_retry", "retry_pct=0", t->seeds);
    tap_at_least(t, both.phase_good_pct[1] / no_retry.phase_good_pct[1], 0.9,
                 "pair limit x retry: goodput is not worse than without retries");
    tap_at_most(t, both.amplification, 1.1, "pair limit x retry: attempts per request");
    tap_at_least(t, both.phase_good_pct[2], 99.5, "pair limit x retry: well afterwards");
    struct tap_mean cut = tap_run("limit_timeout", "", t->seeds);
    struct tap_mean uncut = tap_run("limit_timeout", "timeout_ms=0", t->seeds);
    tap_at_least(t, cut.phase_capacity_pct[1] / uncut.phase_capacity_pct[1], 0.9,
                 "pair limit x timeout: goodput is not worse than without timeouts");
    tap_at_least(t, cut.phase_good_pct[2], 99.5, "pair limit x timeout: well afterwards");
    struct tap_mean stall = tap_run("stall", "limit=4", t->seeds);
    tap_at_least(t, stall.good_pct, 99.8,
                 "pair balance x limit: an endpoint stands still, workers known");
    struct tap_mean learned = tap_run("stall", "", t->seeds);
    tap_at_least(t, learned.good_pct, 99.8,
                 "pair balance x limit: an endpoint stands still, limit learned");
    tap_at_most(t, learned.p99_ms, 135, "pair balance x limit: p99 with a learned limit in ms");
    tap_at_most(t, stall.p99_ms, 127, "pair balance x limit: p99 in ms, best peer 115 + 10 %%");
}

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    metastable(&t);
    retries_stay_in_budget(&t);
    single_failures_are_hidden(&t);
    pairs(&t);
    return tap_end(&t);
}
