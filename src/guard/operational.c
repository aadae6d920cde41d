/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/operational.h"

static bool is_to_clear(const struct ev_type_row *row, const struct ev_field_row *field)
{
    return field->privacy == EV_PSEUDONYM && row != ev_type_row(EV_CACHE_SAMPLE);
}

void operational_clear(void *records, size_t len)
{
    for (size_t at = 0; at < len;) {
        struct ev_head *ev = (void *)((unsigned char *)records + at);
        const struct ev_type_row *row = ev_type_row(ev->type);
        for (uint8_t i = 0; i < row->field_count; i++)
            if (is_to_clear(row, &row->fields[i]))
                memset((unsigned char *)ev + row->fields[i].offset, 0, row->fields[i].bytes);
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
}
