/* SPDX-License-Identifier: Apache-2.0 */
/* brain_keys: the keys of stored data as the brain uses them.
 *
 * Threads: the brain's. */
#ifndef FB_MAIN_BRAIN_KEYS_H
#define FB_MAIN_BRAIN_KEYS_H
#include "base/error.h"
#include "output/metrics.h"

struct brain;
struct conf;
/* Before the sandbox: the program of a KMS may have to run.  FB_E_KEY: nothing was changed. */
FB_MUST_USE
enum fb_code brain_keys_open(struct brain *b, struct fb_err *err);
void brain_reload_keys(struct brain *b, const struct conf *conf);
/* Once a second: rotation, periods, what others did to the key file, alerts. */
void brain_watch_keys(struct brain *b);
/* For status and metrics. */
struct metrics_keys brain_keys_view(struct brain *b);
/* Alerts while privacy.raw_addresses is on. */
void brain_watch_privacy(struct brain *b, bool is_raw);
#endif
