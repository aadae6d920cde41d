/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/scenario.h"

#include <string.h>

/* Capacity of flash-sale: 4 endpoints x 4 workers / 24.7 ms (log-normal: 20 ms x exp(0.65^2/2)) =
 * 648/s, with one endpoint 5 x slower 518/s.  1 x = 250/s is 39 %, 6 x = 1,500/s is 231 %; critical
 * alone at 6 x is 300/s. */
static const struct demo_scenario scenarios[] = {
    {
        .name = "flash-sale",
        .says = "A shop: the sale starts, everybody comes at once; one server is slow, one fails "
                "fast for a while.",
        .seconds = 120,
        .base_per_s = 250,
        .workers = 4,
        .mean_ms = 20,
        .sigma = 0.65,
        .steps = {{.at = 0, .multiple = 1, .says = "a normal day"},
                  {.at = 0.45, .multiple = 1, .says = "the sale starts: load climbs to 6 x"},
                  {.at = 0.55,
                   .multiple = 6,
                   .is_ramp = true,
                   .says = "flash sale: 6 x the load, 2.3 x the capacity"},
                  {.at = 0.85,
                   .multiple = 6,
                   .says = "flash sale: 6 x the load, 2.3 x the capacity"},
                  {.at = 0.88, .multiple = 1, .is_ramp = true, .says = "the sale is over"}},
        .step_count = 5,
        .faults = {{.at = 0.12,
                    .until = 0.45,
                    .endpoint = 1,
                    .kind = DEMO_FAULT_SLOW,
                    .factor = 5,
                    .says = "app-2 is 5 x slower"},
                   {.at = 0.28,
                    .until = 0.40,
                    .endpoint = 3,
                    .kind = DEMO_FAULT_FAIL,
                    .says = "app-2 is slow and app-4 answers 500 at once"}},
        .fault_count = 2,
        .mix = {{EV_CLASS_CRITICAL, DEMO_KIND_REQUEST, 0.20, "/checkout/", "POST"},
                {EV_CLASS_DEFAULT, DEMO_KIND_REQUEST, 0.45, "/product/", "GET"},
                {EV_CLASS_DEGRADED, DEMO_KIND_REQUEST, 0.20, "/search/", "GET"},
                {EV_CLASS_BEST_EFFORT, DEMO_KIND_REQUEST, 0.15, "/recommend/", "GET"}},
    },
    {
        .name = "live-sports",
        .says = "A match: viewers join in seconds, scores go out as event streams, everybody asks "
                "for one page, a server dies.",
        .seconds = 120,
        .base_per_s = 220,
        .workers = 4,
        .mean_ms = 18,
        .sigma = 0.5,
        .steps = {{.at = 0, .multiple = 1, .says = "before the match"},
                  {.at = 0.20, .multiple = 1, .says = "kick-off: viewers join"},
                  {.at = 0.23,
                   .multiple = 5,
                   .is_ramp = true,
                   .says = "kick-off: 5 x the requests within seconds"},
                  {.at = 0.40, .multiple = 5, .says = "viewers settle"},
                  {.at = 0.45, .multiple = 2, .is_ramp = true, .says = "first half"},
                  {.at = 0.80, .multiple = 4, .says = "a goal: everybody looks"},
                  {.at = 0.90, .multiple = 1, .is_ramp = true, .says = "after the match"}},
        .step_count = 7,
        .faults = {{.at = 0.55,
                    .until = 0.72,
                    .endpoint = 2,
                    .kind = DEMO_FAULT_DIE,
                    .says = "app-3 is dead"}},
        .fault_count = 1,
        .mix = {{EV_CLASS_CRITICAL, DEMO_KIND_STREAM, 0.04, "/scores", "GET"},
                {EV_CLASS_DEFAULT, DEMO_KIND_REQUEST, 0.56, "/match/1", "GET"},
                {EV_CLASS_DEGRADED, DEMO_KIND_REQUEST, 0.25, "/stats/", "GET"},
                {EV_CLASS_BEST_EFFORT, DEMO_KIND_REQUEST, 0.15, "/clips/", "GET"}},
    },
    {
        .name = "collab",
        .says = "A shared document: WebSocket editors and small writes; one server has pauses of "
                "garbage collection.",
        .seconds = 120,
        .base_per_s = 300,
        .workers = 4,
        .mean_ms = 12,
        .sigma = 0.5,
        .steps = {{.at = 0, .multiple = 1, .says = "people write"},
                  {.at = 0.50, .multiple = 1, .says = "a class joins the document"},
                  {.at = 0.55,
                   .multiple = 4,
                   .is_ramp = true,
                   .says = "a class is in the document: 4 x the writes"},
                  {.at = 0.85, .multiple = 4, .says = "a class is in the document: 4 x the writes"},
                  {.at = 0.88, .multiple = 1, .is_ramp = true, .says = "the class leaves"}},
        .step_count = 5,
        .faults = {{.at = 0.15,
                    .until = 0.80,
                    .endpoint = 0,
                    .kind = DEMO_FAULT_PAUSE,
                    .factor = 700,
                    .says = "app-1 pauses 700 ms in every 2 s"}},
        .fault_count = 1,
        .mix = {{EV_CLASS_CRITICAL, DEMO_KIND_WEBSOCKET, 0.02, "/edit", "GET"},
                {EV_CLASS_DEFAULT, DEMO_KIND_REQUEST, 0.58, "/save/", "POST"},
                {EV_CLASS_DEGRADED, DEMO_KIND_REQUEST, 0.25, "/history/", "GET"},
                {EV_CLASS_BEST_EFFORT, DEMO_KIND_REQUEST, 0.15, "/thumbnail/", "GET"}},
    },
};

const struct demo_scenario *demo_scenario_find(const char *name)
{
    for (size_t i = 0; i < FB_COUNT(scenarios); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}

const char *demo_scenario_name(size_t i)
{
    return i < FB_COUNT(scenarios) ? scenarios[i].name : NULL;
}

double demo_rate(const struct demo_scenario *sc, double at)
{
    size_t i = 0;
    while (i + 1 < sc->step_count && sc->steps[i + 1].at <= at)
        i++;
    double multiple = sc->steps[i].multiple;
    if (i + 1 < sc->step_count && sc->steps[i + 1].is_ramp) {
        const struct demo_step *a = &sc->steps[i], *b = &sc->steps[i + 1];
        multiple = a->multiple + (b->multiple - a->multiple) * (at - a->at) / (b->at - a->at);
    }
    return sc->base_per_s * multiple;
}

const char *demo_says(const struct demo_scenario *sc, double at)
{
    for (size_t i = sc->fault_count; i-- > 0;)
        if (sc->faults[i].at <= at && at < sc->faults[i].until)
            return sc->faults[i].says;
    size_t i = 0;
    while (i + 1 < sc->step_count && sc->steps[i + 1].at <= at)
        i++;
    return sc->steps[i].says;
}
