/* SPDX-License-Identifier: Apache-2.0 */
/* Any line: what is accepted has a name and values that are numbers. */
#include "base/assert.h"
#include "proto/statsd.h"

#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct statsd_line l;
    double value;
    if (statsd_parse((struct span){(const char *)bytes, len}, &l) != STATSD_OK)
        return 0;
    fb_assert(l.name.len > 0);
    fb_assert(l.rate > 0);
    struct span values = l.values;
    while (l.kind <= STATSD_TIMER && values.len) {
        fb_assert(statsd_next(&values, &value));
        fb_assert(isfinite(value));
    }
    return 0;
}
