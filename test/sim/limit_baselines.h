/* SPDX-License-Identifier: Apache-2.0 */
/* limit_baselines: what the learner is compared with; short forms, for measurement only. */
#ifndef FB_TEST_LIMIT_BASELINES_H
#define FB_TEST_LIMIT_BASELINES_H
#include "sim/limit_model.h"

/* learner, workers (known), none, static (24), aimd, gradient2; NULL when unknown. */
const struct limit_model_policy *limit_baseline(const char *name);
#endif
