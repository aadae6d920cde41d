/* SPDX-License-Identifier: Apache-2.0 */
/* Any body in each form: records are valid, names are legal, counts agree. */
#include "base/assert.h"
#include "event/intake.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    struct buf out;
    buf_init(&out, 64 * KIB);
    struct intake in = {.out = &out,
                        .is_strict = bytes[0] & 1,
                        .name = bytes[0] & 2 ? "topic" : NULL,
                        .form = bytes[0] >> 2 & 3 ? INTAKE_LINES : INTAKE_DOCUMENT};
    bool is_whole = intake_read(&in, (struct span){(const char *)bytes + 1, len - 1});
    fb_assert(is_whole || in.events == 0);
    fb_assert(out.len == in.events * sizeof(struct ev_custom));
    for (uint32_t i = 0; i < in.events; i++) {
        struct ev_custom ev;
        memcpy(&ev, out.at + i * sizeof ev, sizeof ev);
        fb_assert(ev_is_valid(&ev.head));
        fb_assert(ev.name[0] != '\0');
        fb_assert(memchr(ev.name, 0, sizeof ev.name) != NULL);
        fb_assert(memchr(ev.text, 0, sizeof ev.text) != NULL);
    }
    buf_fini(&out);
    return 0;
}
