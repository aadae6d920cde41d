/* SPDX-License-Identifier: Apache-2.0 */
/* scrape: which samples of a target's /metrics become facts, and what they are there.
 *
 *   RULE = [sum|max|min|mean|rate|value "("] NAME ["{" LABEL "=" | "!=" "\"" TEXT "\"" , ... "}"]
 * [")"]
 *          [" as " FACT]
 *
 *   gauge: its value | counter: per second since the last scrape | histogram, summary: FACT.rate,
 *   FACT.mean and, with buckets, FACT.p99 of what came since the last scrape
 *
 * `*` at the end of TEXT is any end.  Several series of one rule become one number: the sum, or
 * what the rule says.  `rate` takes something as a counter, `value` a counter as it is.  A counter
 * that became smaller began anew: what it counts now is what came.  A target that was away for some
 * scrapes gives the mean rate of that time.
 *
 *   scrape_begin -> scrape_take per sample -> scrape_commit (whole) | scrape_abort (half: as
 * before)
 *
 * Pure.  Bounds: SCRAPE_RULES_MAX, SCRAPE_SERIES_MAX of about 60 bytes.  Threads: one at a time. */
#ifndef FB_EVENT_SCRAPE_H
#define FB_EVENT_SCRAPE_H
#include "base/error.h"
#include "event/promtext.h"

#define SCRAPE_RULES_MAX 64
#define SCRAPE_MATCHES_MAX 8
#define SCRAPE_SERIES_MAX 4096u
#define SCRAPE_FACT_BYTES_MAX 39 /* as ev_custom.name */
#define SCRAPE_END_BYTES 5       /* ".rate" */

enum scrape_how {
    SCRAPE_SUM,
    SCRAPE_MAX,
    SCRAPE_MIN,
    SCRAPE_MEAN,
    SCRAPE_RATE,
    SCRAPE_AS_IS,
    SCRAPE_HOWS
};
struct scrape_match {
    struct span label, value;
    bool is_not, is_prefix;
};
struct scrape_rule { /* spans point into the text of the rule */
    enum scrape_how how;
    struct span name, fact;
    struct scrape_match match[SCRAPE_MATCHES_MAX];
    uint32_t match_count;
};
/* FB_E_CONFIG: the sentence says what a rule looks like. */
FB_MUST_USE
enum fb_code scrape_rule_parse(struct span text, struct scrape_rule *rule, struct fb_err *err);
/* May a histogram be what the name is of?  Then its facts get an end of SCRAPE_END_BYTES. */
bool scrape_rule_is_plain(const struct scrape_rule *rule);

struct scrape;
/* <rules>: one per line, kept; <key>: random, so that no page can be made of series that collide.
 * NULL and err: FB_E_NOMEM, FB_E_CONFIG. */
struct scrape *scrape_new(struct span rules, const uint64_t key[2], struct fb_err *err);
void scrape_free(struct scrape *s);

void scrape_begin(struct scrape *s);
void scrape_take(struct scrape *s, const struct prom_sample *sample);
/* False: more than SCRAPE_SERIES_MAX series match, or no memory: nothing of this page counts. */
FB_MUST_USE
bool scrape_is_good(const struct scrape *s);
typedef void scrape_fact(void *arg, const char *name, double value);
/* The page was whole, it was asked for at <at_us>. */
void scrape_commit(struct scrape *s, uint64_t at_us, scrape_fact *each, void *arg);
void scrape_abort(struct scrape *s);

uint32_t scrape_rules(const struct scrape *s);
/* Of the last page: how many series the rule found, and its text. */
uint32_t scrape_found(const struct scrape *s, uint32_t rule, struct span *text);
uint64_t scrape_resets(const struct scrape *s); /* counters that began anew, ever */
#endif
