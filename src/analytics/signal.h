/* SPDX-License-Identifier: Apache-2.0 */
/* signal: figures of applications that loops listen to: orders per second, page speed, a service's
 * own error gauge; made from EV_CUSTOM and compared with what they were.
 *
 * Each second of a signal is a quotient x / r, so that one statistic serves all of them:
 *
 *   rate   x events            r requests that the service answered; 1 without a service
 *   sum    x sum of values     r the same
 *   mean   x sum of values     r events
 *   last   x last value        r 1 in a second in which one came
 *   p50..  x events above the level   r events      level: this quantile of the last two minutes
 *
 * Orders per request do not fall because the night comes; orders per second do.  A baseline is the
 * ratio over many seconds and its scatter, taken from blocks of five of them: what scatters more
 * than chance does needs more of it to be believed.  Evidence is a mixture e-value, which may be
 * looked at each second (loops.md 2.9).  Of a service whose versions share its users both sides
 * are counted apart while somebody asks.
 * Pure.  Memory: 19 KiB per signal, SIGNALS_MAX of them.  Threads: one at a time per struct. */
#ifndef FB_ANALYTICS_SIGNAL_H
#define FB_ANALYTICS_SIGNAL_H
#include "analytics/pack.h"
#include "analytics/sketch.h"
#include "event/event.h"

#define SIGNALS_MAX 32u
#define SIGNAL_SECONDS 600u
#define SIGNAL_NAME_BYTES 40
#define SIGNAL_SERVICE_BYTES 44
#define SIGNAL_VERSION_BYTES 40
#define SIGNAL_VERSIONS_MAX 64u
#define SIGNAL_VERSION_NAME_BYTES 104

enum signal_value {
    SIGNAL_RATE,
    SIGNAL_SUM,
    SIGNAL_MEAN,
    SIGNAL_LAST,
    SIGNAL_P50,
    SIGNAL_P75,
    SIGNAL_P90,
    SIGNAL_P99,
    SIGNAL_VALUE_COUNT
};
enum signal_better { SIGNAL_NONE, SIGNAL_HIGHER, SIGNAL_LOWER };

struct signal_conf {
    char name[SIGNAL_NAME_BYTES]; /* "orders" */
    char event[40];               /* name of the custom event */
    char service[SIGNAL_SERVICE_BYTES];
    uint8_t value, better; /* enum signal_value, signal_better */
    uint8_t reserved[2];
    double change_min; /* share by which it must get worse to count as harm: 0.05 */
    /* "" unless the versions are to be compared: the first one of the service's split, that was
     * there before.  Not part of what a signal is: another one changes nothing that is known. */
    char old_version[SIGNAL_VERSION_BYTES];
};
struct signal_second {
    double x, r; /* r 0: this second says nothing */
};
/* What came in the open second from one side, the old version or the new ones. */
struct signal_fill {
    double n, sum, squares, above, last;
    double answered, chosen; /* requests; those whose header or cookie named the version */
};
enum signal_side { SIGNAL_OLD, SIGNAL_NEW, SIGNAL_SIDES };
/* Both sides at the same time, since <from_s>.  In each block of 5 s the new side is compared with
 * what it would have at the ratio of both; what does the same to everybody (the hour, a payment
 * provider that is away) cancels out. */
struct signal_sides {
    uint64_t step_s; /* when the share rose; 0: nobody asks */
    uint64_t from_s; /* first second that counts; 0: the events of the step have not come yet */
    double half;     /* share of the new side, midway between before the step and after it */
    double probe[SIGNAL_SIDES], probe_n; /* until from_s: events, and how many say enough */
    uint32_t blocks, block_s;
    double x[SIGNAL_SIDES], r[SIGNAL_SIDES], n[SIGNAL_SIDES], squares[SIGNAL_SIDES];
    double block_x[SIGNAL_SIDES], block_r[SIGNAL_SIDES], block_squares;
    double off, weight; /* sums over the blocks, as are the squares and products of the two */
    double off_off, off_weight, weight_weight;
    double chance; /* the least variance that counts and sums have */
    double events; /* all of them, also those that name no version: else <n> of a side */
    double chosen; /* requests of the new side that somebody put there by name */
};
/* One place; <conf.name> "" is a free one.  Places stay while the configuration names the signal.
 */
struct signal {
    struct signal_conf conf;
    uint16_t service; /* number, EV_NONE when it has none or it is not there */
    uint8_t is_held;  /* the level stays: something is being compared with it */
    uint8_t reserved;
    uint32_t fill_n; /* of the open second: events, their sum, those above the level */
    double fill_sum, fill_above;
    double last, level; /* level NAN: no quantile is known yet */
    uint64_t last_s, total;
    uint64_t half_s;  /* when the newer half began */
    uint64_t start_s; /* first whole second */
    struct signal_second second[SIGNAL_SECONDS];
    struct signal_fill side[SIGNAL_SIDES];
    struct signal_sides sides;
    uint32_t n[2];                     /* samples in the halves */
    uint32_t count[2][SKETCH_BUCKETS]; /* quantiles: the newer and the older minute */
};
struct signals;
struct signals *signals_new(void); /* NULL without memory */
void signals_free(struct signals *s);
/* What did not change keeps what it knows.  At most SIGNALS_MAX. */
void signals_configure(struct signals *s, const struct signal_conf *conf, size_t count);
/* A service has this number; <is_gone>: no more. */
void signals_service(struct signals *s, const char *name, uint16_t number, bool is_gone);
/* A version has this number; its name is "shop canary".  Those of services without a signal that
 * compares versions are not kept: say them again after another configuration. */
void signals_version(struct signals *s, const char *name, uint16_t number, bool is_gone);
/* EV_CUSTOM and EV_TICK; others change nothing.  `orders.placed@canary` is an event
 * `orders.placed` that names its version. */
void signals_feed(struct signals *s, const struct ev_head *ev);
static inline uint32_t signals_is_counting(const struct signals *s);
void signals_count_request(struct signals *s, const struct ev_request *r);

/* While <is_held> the level of a quantile stays as it is. */
void signals_hold(struct signals *s, uint32_t i, bool is_held);
const struct signal *signals_at(const struct signals *s, uint32_t i); /* NULL: a free place */
const struct signal *signals_find(const struct signals *s, const char *name); /* NULL */
uint64_t signals_now_s(const struct signals *s);                              /* the open second */

/* Sums over the whole seconds [from_s, to_s) that are kept. */
struct signal_sum {
    double x, r, spread; /* spread: variance of x per unit of r; NAN: too few blocks to say */
    uint32_t seconds, reserved; /* that say something */
};
struct signal_sum signal_sum(const struct signals *s, const struct signal *g, uint64_t from_s,
                             uint64_t to_s);
/* The same of what is not only in the ring: adds the seconds [from_s, to_s) to <sum>. */
void signal_sum_more(const struct signals *s, const struct signal *g, uint64_t from_s,
                     uint64_t to_s, struct signal_sum *sum);
/* The value as people read it, over the last <seconds> whole ones: per second for rates and sums,
 * the quantile of one to two minutes for quantiles.  NAN: nothing is known. */
double signal_shown(const struct signals *s, const struct signal *g, uint32_t seconds);
/* "/s" or "". */
const char *signal_unit(const struct signal *g);
bool signal_is_quantile(const struct signal *g);
const char *signal_value_name(uint8_t value);   /* "rate" */
const char *signal_better_name(uint8_t better); /* "higher" */

/* What was normal: the ratio x / r, the variance of x per unit of r, and how much r stands behind.
 */
struct signal_base {
    double ratio, spread, r;
    uint32_t seconds, reserved;
};
/* False: too little is known (a minute at least). */
bool signal_base(const struct signals *s, const struct signal *g, uint64_t from_s, uint64_t to_s,
                 struct signal_base *out);
/* What <sum> says against <base>: <change> is relative, positive is more; <z> in standard errors;
 * <log_e> natural logarithm of the e-value for "it became worse", 0 when it did not.  A ratio
 * drifts by itself by a hundredth: below that no amount of data is evidence. */
struct signal_seen {
    double change, z, log_e;
};
struct signal_seen signal_compare(const struct signal *g, const struct signal_base *base,
                                  const struct signal_sum *sum);

/* signal_sides.c: two versions that serve at the same time. */
/* An event whose text is JSON with a member `version` that is a version of the service of a signal
 * of its name is named so: `orders.placed@canary`.  The text may be erased later, the name not. */
void signals_label(const struct signals *s, struct ev_custom *ev);
/* Is the old version of its service one that is known? */
bool signal_knows_old(const struct signals *s, const struct signal *g);
/* The share of the new versions went from <from_pct> to <to_pct> in second <step_s>: both sides are
 * counted as soon as the events of the step have come, a minute later at most.  0: no more. */
void signals_sides(struct signals *s, uint32_t i, uint64_t step_s, double from_pct, double to_pct);
/* Do the events name the versions, and do the requests belong to them by chance?  Then the sides
 * are what is compared. */
bool signal_has_sides(const struct signal *g);
const char *signal_sides_lack(const struct signal *g); /* why not; NULL: they do */
/* Is there enough to say something? */
bool signal_sides_are_known(const struct signal *g);
/* The new side against the old one; nothing while too little is known. */
struct signal_seen signal_compare_sides(const struct signal *g);
/* Of signal.c and signal_sides.c only. */
bool signal_conf_is_same(const struct signal_conf *a, const struct signal_conf *b);
struct signal_second signal_second_of(const struct signal *g, const struct signal_fill *fill);
double signal_log_evidence(double harm, double var, double scale);
int signals_side_of(const struct signals *s, const struct signal *g, const struct ev_custom *ev);
void signal_sides_close(struct signal *g, uint64_t second_s, bool is_whole);
void signals_find_sides(struct signals *s);
void signals_forget_versions(struct signals *s);

/* A signal as people see it; control fills it in. */
enum signal_state {
    SIGNAL_STATE_OK,
    SIGNAL_STATE_INSUFFICIENT, /* too little is known to say what is usual */
    SIGNAL_STATE_WATCHED,      /* a release is being looked at */
    SIGNAL_STATE_UNUSUAL,
    SIGNAL_STATE_HARMED /* by a release */
};
struct signal_view {
    const struct signal *signal; /* borrowed */
    double now, minute, usual;   /* the last 10 s, 60 s, and what it should be at this load; NAN */
    double change;               /* relative, of the last minute against usual; NAN */
    uint64_t age_s;              /* of the newest event */
    enum signal_state state;
};
const char *signal_state_name(enum signal_state state); /* "ok", "insufficient_data" .. */

void signals_save(const struct signals *s, struct buf *out);
FB_MUST_USE
bool signals_load(struct signals *s, struct unpack *u);

/* Requests are the hot path: one look when no signal asks for them. */
struct signals {
    uint64_t now_s;
    uint32_t used, counting; /* signals; services whose requests are counted */
    struct signal place[SIGNALS_MAX];
    double answered[SIGNALS_MAX]; /* of the service of each place, in the open second */
    uint8_t is_counted[1024];     /* by service number */
    uint8_t side[1024];           /* by version number: 0 none, else enum signal_side + 1 */
    struct signal_version {
        char name[SIGNAL_VERSION_NAME_BYTES]; /* "shop canary"; "": a free place */
        uint16_t number, reserved;
    } version[SIGNAL_VERSIONS_MAX];
};
static inline uint32_t signals_is_counting(const struct signals *s)
{
    return s->counting;
}
#endif
