/* SPDX-License-Identifier: Apache-2.0 */
/* limit_state: the fields of struct limit; only limit.c looks inside. */
#ifndef FB_REFLEX_LIMIT_STATE_H
#define FB_REFLEX_LIMIT_STATE_H
#include "event/event.h"

struct limit {
    struct {
        uint32_t min, max, start;
    } conf;
    uint32_t limit, in_flight;
};
#endif
