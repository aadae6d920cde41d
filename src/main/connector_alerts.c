/* SPDX-License-Identifier: Apache-2.0 */
#include "main/connector_alerts.h"

#include <stdio.h>

/* A broker that restarts is away for some seconds: no reason to wake anybody. */
#define FAILING_ALERT_US (10 * US_PER_S)
#define WELL_US (15 * US_PER_S)
/* Of a source: one message with an old time of its sender is no backlog. */
#define LATE_US (5 * US_PER_S)

struct words {
    struct connector_word *out;
    size_t count;
};

static char *say(struct words *w, uint16_t reason, bool is_over)
{
    struct connector_word *word = &w->out[w->count++];
    *word = (struct connector_word){.reason = reason, .is_over = is_over};
    return word->text;
}

#define ROOM sizeof(((struct connector_word *)0)->text)

/* Has it been well for a while?  One that has just begun has shown nothing yet. */
static bool is_well(uint64_t *since_us, const struct connector_seen *seen, bool is_bad)
{
    enum connector_state state = seen->status->state;
    if (is_bad) {
        *since_us = 0;
        return false;
    }
    if (*since_us == 0)
        *since_us = seen->now_us;
    return state == CONNECTOR_RUNNING || state == CONNECTOR_PAUSED ||
           seen->now_us - *since_us >= WELL_US;
}

static void watch_failing(struct words *w, struct connector_said *said,
                          const struct connector_seen *seen)
{
    const struct connector_status *s = seen->status;
    bool needs_hand = s->state == CONNECTOR_MISCONFIGURED;
    bool fails = s->state != CONNECTOR_PAUSED && s->failing_us > 0;
    bool is_bad =
        needs_hand || (s->state == CONNECTOR_FAILING && s->failing_us >= FAILING_ALERT_US);
    bool is_over = is_well(&said->failing_well_us, seen, needs_hand || fails);
    if (is_bad && !said->is_failing)
        snprintf(say(w, REASON_ALERT_CONNECTOR_FAILING, false), ROOM, "connector %s %s: %s",
                 said->name, needs_hand ? "needs a hand" : "fails", s->last_error);
    else if (is_over && said->is_failing)
        snprintf(say(w, REASON_ALERT_CONNECTOR_FAILING, true), ROOM, "connector %s %s", said->name,
                 s->state == CONNECTOR_PAUSED ? "is paused" : "works again");
    said->is_failing = is_bad || (said->is_failing && !is_over);
}

static void watch_lag(struct words *w, struct connector_said *said,
                      const struct connector_seen *seen)
{
    const struct connector_status *s = seen->status;
    bool is_behind = s->lag_us > s->lag_alert_us;
    said->late_us = !is_behind ? 0 : said->late_us ? said->late_us : seen->now_us;
    bool is_late = is_behind && (!s->is_source || seen->now_us - said->late_us >= LATE_US);
    bool is_over = is_well(&said->lag_well_us, seen, is_behind);
    unsigned long long lag_s = s->lag_us / US_PER_S, count = s->lag_events;
    if (is_late && !said->is_lagging && s->is_source && s->lag_events == UINT64_MAX)
        snprintf(say(w, REASON_ALERT_CONNECTOR_LAGGING, false), ROOM,
                 "connector %s is %llu s behind: messages wait at the broker", said->name, lag_s);
    else if (is_late && !said->is_lagging)
        snprintf(say(w, REASON_ALERT_CONNECTOR_LAGGING, false), ROOM,
                 s->is_source ? "connector %s is %llu s behind: %llu messages wait at the broker"
                              : "connector %s is %llu s and %llu events behind",
                 said->name, lag_s, count);
    else if (is_over && said->is_lagging)
        snprintf(say(w, REASON_ALERT_CONNECTOR_LAGGING, true), ROOM, "connector %s %s", said->name,
                 s->is_source && s->state == CONNECTOR_PAUSED ? "is paused" : "has caught up");
    said->is_lagging = is_late || (said->is_lagging && !is_over);
}

static void watch_dead(struct words *w, struct connector_said *said,
                       const struct connector_seen *seen)
{
    const struct connector_status *s = seen->status;
    if (s && s->dead > said->dead) {
        said->is_dead = true;
        snprintf(say(w, REASON_ALERT_CONNECTOR_DEAD, false), ROOM,
                 "connector %s: %llu records that nobody takes are in connectors/%s.dead.jsonl; "
                 "see `foldback letters list`",
                 said->name, (unsigned long long)(s->dead - said->dead), said->name);
    } else if (said->is_dead && !seen->has_letters) {
        said->is_dead = false;
        snprintf(say(w, REASON_ALERT_CONNECTOR_DEAD, true), ROOM,
                 "connector %s: its dead letters were taken away", said->name);
    }
}

static void watch_lost(struct words *w, struct connector_said *said,
                       const struct connector_seen *seen)
{
    const struct connector_status *s = seen->status;
    if (s && s->lost > said->lost) {
        said->is_lost = true;
        said->lost_us = seen->now_us;
        snprintf(say(w, REASON_ALERT_CONNECTOR_LOST, false), ROOM,
                 "connector %s: retention took %llu events before they were sent; raise "
                 "log.retain_*",
                 said->name, (unsigned long long)(s->lost - said->lost));
    } else if (said->is_lost &&
               fb_sub_floor_u64(seen->now_us, said->lost_us) >= CONNECTOR_LOST_US) {
        said->is_lost = false;
        snprintf(say(w, REASON_ALERT_CONNECTOR_LOST, true), ROOM,
                 "connector %s: nothing more was lost for an hour", said->name);
    }
}

static void watch_displaced(struct words *w, struct connector_said *said,
                            const struct connector_seen *seen)
{
    const struct connector_status *s = seen->status;
    if (s && s->displaced > said->displaced) {
        said->is_displaced = true;
        said->displaced_us = seen->now_us;
        snprintf(say(w, REASON_ALERT_CONNECTOR_DISPLACED, false), ROOM, "%s", s->displaced_text);
    } else if (said->is_displaced &&
               fb_sub_floor_u64(seen->now_us, said->displaced_us) >= CONNECTOR_LOST_US) {
        said->is_displaced = false;
        snprintf(say(w, REASON_ALERT_CONNECTOR_DISPLACED, true), ROOM,
                 "connector %s goes on in this log for an hour now", said->name);
    }
}

static void end(struct words *w, struct connector_said *said, uint16_t reason, bool *stands)
{
    if (*stands)
        snprintf(say(w, reason, true), ROOM, "connector %s is not in the configuration any more",
                 said->name);
    *stands = false;
}

size_t connector_words(struct connector_said *said, const struct connector_seen *seen,
                       struct connector_word out[CONNECTOR_WORDS_MAX])
{
    struct words w = {.out = out};
    if (!seen->is_configured) {
        end(&w, said, REASON_ALERT_CONNECTOR_FAILING, &said->is_failing);
        end(&w, said, REASON_ALERT_CONNECTOR_LAGGING, &said->is_lagging);
        end(&w, said, REASON_ALERT_CONNECTOR_LOST, &said->is_lost);
        end(&w, said, REASON_ALERT_CONNECTOR_DISPLACED, &said->is_displaced);
    } else if (seen->status) {
        watch_failing(&w, said, seen);
        watch_lag(&w, said, seen);
    }
    watch_dead(&w, said, seen); /* a connector may go, its letters stay */
    if (seen->is_configured) {
        watch_lost(&w, said, seen);
        watch_displaced(&w, said, seen);
    }
    const struct connector_status *s = seen->status;
    if (s) { /* a restarted connector counts anew */
        said->displaced = s->displaced;
        said->dead = s->dead;
        said->lost = s->lost;
    }
    return w.count;
}
