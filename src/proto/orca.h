/* SPDX-License-Identifier: Apache-2.0 */
/* orca: load reports in answers (Open Request Cost Aggregation).
 *
 *   endpoint-load-metrics: TEXT cpu_utilization=0.3, rps_fractional=120, eps=1.5
 *   endpoint-load-metrics: JSON {"cpu_utilization": 0.3, "rps_fractional": 120}
 *   endpoint-load-metrics: BIN CQAAAAAAANA/          (base64 of the protobuf OrcaLoadReport)
 *   endpoint-load-metrics-bin: CQAAAAAAANA/
 *
 * The utilisation is application_utilization when it is said, else cpu_utilization.  Everything
 * else (costs of the request, named metrics) is skipped.  Pure.  Threads: any. */
#ifndef FB_PROTO_ORCA_H
#define FB_PROTO_ORCA_H
#include "base/span.h"

struct orca {
    double utilisation;      /* 0..1, above when overcommitted; negative: not said */
    double per_s, err_per_s; /* negative: not said */
};
/* The same field in its two forms; anything else is no report. */
enum orca_field { ORCA_NONE, ORCA_FIELD, ORCA_FIELD_BIN };
enum orca_field orca_field(struct span name);
/* False: malformed, or it says nothing of the three. */
bool orca_parse(enum orca_field field, struct span value, struct orca *report);
#endif
