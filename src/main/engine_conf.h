/* SPDX-License-Identifier: Apache-2.0 */
/* engine_conf: what a struct conf means for the engine: targets, knob settings, objectives.
 *
 * Threads: any.  Memory: engine_conf_fini frees what engine_conf_init made; names are copied. */
#ifndef FB_MAIN_ENGINE_CONF_H
#define FB_MAIN_ENGINE_CONF_H
#include "conf/conf.h"
#include "control/engine.h"

/* Errors: NOMEM. */
FB_MUST_USE
enum fb_code engine_conf_init(struct engine_conf *out, const struct conf *conf, struct fb_err *err);
void engine_conf_fini(struct engine_conf *ec);
#endif
