/* SPDX-License-Identifier: Apache-2.0 */
/* What another node sent: read, and when it is good, written and read again to the same bytes. */
#include "base/assert.h"
#include "fleet/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct fleet_report report;
    static struct fleet_decision decision;
    struct span in = {(const char *)bytes, len};
    struct buf out;
    buf_init(&out, 4 * FLEET_MESSAGE_BYTES_MAX);
    if (fleet_report_read(in, &report)) {
        fleet_report_write(&report, &out);
        fb_assert(fleet_report_read(buf_span(&out), &report));
    }
    buf_clear(&out);
    if (fleet_decision_read(in, &decision)) {
        fleet_decision_write(&decision, &out);
        fb_assert(fleet_decision_read(buf_span(&out), &decision));
    }
    buf_fini(&out);
    return 0;
}
