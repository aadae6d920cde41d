/* SPDX-License-Identifier: Apache-2.0 */
/* Any export request, protobuf and JSON: spans lie within the input or are constants. */
#include "base/assert.h"
#include "event/otlp.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void look(void *arg, const struct otlp_sample *s)
{
    uint64_t *sum = arg;
    for (size_t i = 0; i < s->name.len; i++)
        *sum += (unsigned char)s->name.at[i];
    for (size_t i = 0; i < s->service.len; i++)
        *sum += (unsigned char)s->service.at[i];
    fb_assert(s->kind <= OTLP_MEAN);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t sum = 0;
    char why[160];
    if (len == 0)
        return 0;
    struct span body = {(const char *)bytes + 1, len - 1};
    enum otlp_signal signal = (enum otlp_signal)(bytes[0] % 3);
    (void)otlp_read(signal, body, look, &sum);
    (void)otlp_read_json(signal, body, look, &sum, why);
    return 0;
}
