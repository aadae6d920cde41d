/* SPDX-License-Identifier: Apache-2.0 */
/* agent_text: what an endpoint's agent says, in the text protocol of HAProxy's agent-check.
 *
 *   one line: words with blanks or commas between: 75%  maxconn:30  up  down  failed  stopped
 *   ready  drain  maint  #why (the rest of the line)
 *
 * A line with a word that is none of these is no report: garbage changes nothing.
 * Pure.  Threads: any. */
#ifndef FB_PROTO_AGENT_TEXT_H
#define FB_PROTO_AGENT_TEXT_H
#include "base/span.h"

#define AGENT_LINE_BYTES_MAX 512

struct agent_report {
    bool has_weight, has_cap;
    double weight_pct; /* 0..1000 of the configured weight */
    uint32_t cap;      /* requests at once; 0: no bound */
    enum agent_admin { AGENT_ADMIN_NONE, AGENT_READY, AGENT_DRAIN, AGENT_MAINT } admin;
    enum agent_state { AGENT_STATE_NONE, AGENT_UP, AGENT_DOWN } state;
};
bool agent_parse(struct span line, struct agent_report *report);
#endif
