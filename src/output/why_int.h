/* SPDX-License-Identifier: Apache-2.0 */
/* why_int: sentences of GET /v1/why, one by one into a JSON array.
 *
 * Threads: the brain's loop. */
#ifndef FB_OUTPUT_WHY_INT_H
#define FB_OUTPUT_WHY_INT_H
#include "output/admin_int.h"

void why_say(struct api_call *c, const char *fmt, ...) FB_PRINTF(2, 3);

/* The answer as far as its sentences; the caller ends their array and the object. */
void why_begin(struct api_call *c, const char *kind, const char *subject);

/* ---- api_names.c ---- */
void why_say_names(struct api_call *c, uint16_t service); /* those that are not well */
bool why_name(struct api_call *c, const char *q);         /* false: <q> is none that is followed */

/* ---- why_features.c ---- */
void why_say_traits(struct api_call *c, const struct ev_request *r);
/* What features did for the requests of a route or service. */
void why_say_features(struct api_call *c, enum ev_kind kind, uint16_t number);
bool why_feature(struct api_call *c, const char *q); /* false: <q> names none */
#endif
