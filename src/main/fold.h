/* SPDX-License-Identifier: Apache-2.0 */
/* fold: the engine with the configuration that the log itself carries.
 *
 * The brain (live), its recovery, and `foldback replay` feed the same events through the same fold,
 * so that one log is one outcome.  A config event in several parts takes effect with its last part.
 * Threads: one at a time per fold. */
#ifndef FB_MAIN_FOLD_H
#define FB_MAIN_FOLD_H
#include "conf/conf.h"
#include "control/engine.h"

struct fold {
    struct engine *engine;
    struct conf *conf;          /* in force, NULL before the first config event */
    struct conf *conf_override; /* used instead of what the log says (replay with another config) */
    struct buf text;            /* parts of a config event so far */
    uint64_t events;
};

FB_MUST_USE
enum fb_code fold_init(struct fold *f, struct fb_err *err);
void fold_fini(struct fold *f);
/* Decisions, outcomes and alerts that the engine makes now go to <out>. */
void fold_feed(struct fold *f, const struct ev_head *ev, struct engine_out *out);
/* True for events that the engine itself makes: a replay compares them, nobody feeds them. */
bool fold_is_output(const struct ev_head *ev);
/* Splits a configuration into config events; calls <put> for each. */
void fold_config_events(const struct conf *conf, uint32_t generation, uint64_t now_us,
                        void (*put)(void *arg, const struct ev_head *ev), void *arg);
/* Snapshot: engine state and the configuration text. */
void fold_save(const struct fold *f, struct buf *out);
FB_MUST_USE
enum fb_code fold_load(struct fold *f, struct span bytes, struct fb_err *err);
#endif
