/* SPDX-License-Identifier: Apache-2.0 */
/* otlp: what is in an export request of OpenTelemetry (OTLP 1.x), protobuf or JSON, as samples.
 *
 *   gauge     each data point, as it is            sum      each data point, to be added up
 *   histogram (explicit, exponential, summary)     the mean of each data point, with its count
 *   log       each record, by the band of its severity: otel.logs.info, .warn, .error ...
 *   span      its duration in ms, as SERVICE.NAME
 *
 * Own reader of the wire format: bounded by the bytes, no allocation, unknown fields passed over.
 * Pure.  Threads: any. */
#ifndef FB_EVENT_OTLP_H
#define FB_EVENT_OTLP_H
#include "base/span.h"

enum otlp_signal { OTLP_METRICS, OTLP_LOGS, OTLP_TRACES };
enum otlp_kind { OTLP_GAUGE, OTLP_SUM, OTLP_MEAN };
struct otlp_sample {
    enum otlp_kind kind;
    struct span service; /* service.name of the resource; "" none */
    struct span name;
    double value, weight; /* weight: of a mean, how many it stands for */
};
typedef void otlp_each(void *arg, const struct otlp_sample *sample);

/* False: not such a message; what was before the fault has been given to <each>: keep it apart
 * until this returns. */
FB_MUST_USE
bool otlp_read(enum otlp_signal signal, struct span bytes, otlp_each *each, void *arg);
/* The same as JSON; <why> says what is wrong. */
FB_MUST_USE
bool otlp_read_json(enum otlp_signal signal, struct span bytes, otlp_each *each, void *arg,
                    char why[160]);
/* "otel.logs.error" of 17 to 20 and so on. */
const char *otlp_severity_name(uint64_t number);
#endif
