/* SPDX-License-Identifier: Apache-2.0 */
/* otlp: what is in an export request of OpenTelemetry (OTLP 1.x), protobuf or JSON, as samples.
 *
 *   gauge     each data point, as it is            sum      each data point, to be added up
 *   cumulative monotonic sums, histograms and summaries: totals, see event/series.h
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
    /* A total since <start_ns> that only grows: of a sum in <value>, of a mean its sum in <value>
     * and its count in <weight>.  <series> tells it from all others. */
    bool is_total;
    uint64_t series, start_ns, time_ns;
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
/* Hash of one attribute, to be added up: their order does not count. */
uint64_t otlp_hash(struct span bytes);
/* Of the sums over resource, scope and point, and the name. */
uint64_t otlp_series(const uint64_t sums[3], struct span name);
/* "otel.logs.error" of 17 to 20 and so on. */
const char *otlp_severity_name(uint64_t number);
#endif
