/* SPDX-License-Identifier: Apache-2.0 */
#include "event/cloudevent.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>

void cloudevent_id(char text[CLOUDEVENT_ID_BYTES], uint64_t node, uint64_t offset)
{
    snprintf(text, CLOUDEVENT_ID_BYTES, "%016" PRIx64 "/%" PRIu64, node, offset);
}

void cloudevent_source(char text[CLOUDEVENT_SOURCE_BYTES], uint64_t node)
{
    snprintf(text, CLOUDEVENT_SOURCE_BYTES, "/foldback/nodes/%016" PRIx64, node);
}

void cloudevent_type(char text[CLOUDEVENT_TYPE_BYTES], const struct ev_head *ev)
{
    snprintf(text, CLOUDEVENT_TYPE_BYTES, "foldback.%s.v%u", ev_type_row(ev->type)->name,
             ev->version);
}

void cloudevent_schema(char text[CLOUDEVENT_SCHEMA_BYTES], const struct ev_head *ev)
{
    snprintf(text, CLOUDEVENT_SCHEMA_BYTES, "urn:foldback:schema:%s:%u",
             ev_type_row(ev->type)->name, ev->version);
}

/* Days since 1970 to a date: the era of 400 years that begins on 1 March, after Howard Hinnant's
 * chrono-compatible algorithms.  gmtime_r takes a lock and reads the time zone; this is pure. */
void cloudevent_time(char text[CLOUDEVENT_TIME_BYTES], uint64_t wall_us)
{
    const uint64_t end_us = UINT64_C(253402300799999999); /* 9999-12-31T23:59:59.999999Z */
    wall_us = wall_us > end_us ? end_us : wall_us;
    uint64_t second = wall_us / 1000000, day = second / 86400 + 719468;
    uint64_t era = day / 146097, of_era = day % 146097;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint64_t shifted = (5 * of_year + 2) / 153; /* 0 is March */
    unsigned month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    unsigned of_day = (unsigned)(second % 86400);
    snprintf(text, CLOUDEVENT_TIME_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
             (unsigned)(year + era * 400 + (month <= 2)) % 10000u, month % 100u,
             (unsigned)(of_year - (153 * shifted + 2) / 5 + 1) % 100u, of_day / 3600,
             of_day / 60 % 60, of_day % 60, (unsigned)(wall_us % 1000000));
}

void cloudevent_put(struct json *j, const struct ev_head *ev, const struct cloudevent_place *at)
{
    char id[CLOUDEVENT_ID_BYTES], source[CLOUDEVENT_SOURCE_BYTES], type[CLOUDEVENT_TYPE_BYTES];
    char schema[CLOUDEVENT_SCHEMA_BYTES], when[CLOUDEVENT_TIME_BYTES], sequence[24];
    fb_assert(ev_is_valid(ev));
    cloudevent_id(id, at->node, at->offset);
    cloudevent_source(source, at->node);
    cloudevent_type(type, ev);
    cloudevent_schema(schema, ev);
    cloudevent_time(when, at->wall_us ? at->wall_us : ev->time_us);
    /* The sequence extension compares as text, hence the zeros. */
    snprintf(sequence, sizeof sequence, "%020" PRIu64, at->offset);
    json_object_begin(j);
    json_key_str(j, "specversion", "1.0");
    json_key_str(j, "type", type);
    json_key_str(j, "source", source);
    json_key_str(j, "id", id);
    json_key_str(j, "time", when);
    json_key_str(j, "datacontenttype", "application/json");
    json_key_str(j, "dataschema", schema);
    if (at->subject && at->subject[0])
        json_key_str(j, "subject", at->subject);
    json_key_str(j, "sequence", sequence);
    json_key(j, "data");
    ev_to_json(j, ev, at->offset, at->is_redacted);
    json_object_end(j);
}
