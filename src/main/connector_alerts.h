/* SPDX-License-Identifier: Apache-2.0 */
/* connector_alerts: when an alert about a connector begins, and when it is over.
 *
 *   failing  for 10 s, or needs a hand        over: it works, or is not in the configuration
 *   lagging  behind its lag_alert             over: it has caught up, or is not configured
 *   dead     letters were written             over: their files are gone or empty
 *   lost     retention took unsent events     over: for an hour nothing more was lost
 *   displaced  its position is of another log  over: for an hour it happened no more
 *
 * Pure: what stands is the caller's, who says what comes out.  Threads: any. */
#ifndef FB_MAIN_CONNECTOR_ALERTS_H
#define FB_MAIN_CONNECTOR_ALERTS_H
#include "stream/connectors/runner.h"

#define CONNECTOR_LOST_US (3600 * US_PER_S) /* what cannot be undone stands so long */
#define CONNECTOR_WORDS_MAX 6

/* What stands about one connector. */
struct connector_said {
    uint32_t resend; /* order to send dead letters again whose end was told */
    char name[48];   /* "" nobody */
    bool is_failing, is_lagging, is_dead, is_lost, is_displaced;
    uint64_t dead, lost, displaced;        /* counts that were seen */
    uint64_t lost_us, displaced_us;        /* when the last one was seen */
    uint64_t failing_well_us, lag_well_us; /* well since then, 0: it is not */
    uint64_t late_us;                      /* behind since then, 0: it is not */
};
struct connector_word {
    uint16_t reason;
    bool is_over;
    char text[500];
};
struct connector_seen {
    const struct connector_status *status; /* NULL: not known now (it begins, or ends) */
    bool is_configured, has_letters;       /* letters: a file that is not empty */
    uint64_t now_us;
};

/* What has to be said now; <said> is then what stands.  Returns how many. */
size_t connector_words(struct connector_said *said, const struct connector_seen *seen,
                       struct connector_word out[CONNECTOR_WORDS_MAX]);
#endif
