/* SPDX-License-Identifier: Apache-2.0 */
#include "query/value.h"

#include "event/cloudevent.h"

#include <inttypes.h>
#include <stdio.h>

static struct query_value text(struct span s)
{
    return (struct query_value){.type = QUERY_TEXT, .text = s};
}

static struct query_value integer(uint64_t v)
{
    return (struct query_value){.type = QUERY_INTEGER, .integer = (int64_t)v};
}

static struct query_value hex(uint64_t v, char room[VALUE_ROOM])
{
    snprintf(room, VALUE_ROOM, "%016" PRIx64, v);
    return text(span_of(room));
}

static struct query_value field(const struct column *c, const struct ev_head *ev, bool is_redacted,
                                char room[VALUE_ROOM])
{
    if (is_redacted && c->field->privacy == EV_PERSONAL)
        return text(SPAN("-"));
    if (c->field->type == EV_FT_text)
        return text(column_text(ev, c->field));
    if (c->is_real) {
        double v = column_f64(ev, c->field);
        return (struct query_value){.type = v == v ? QUERY_REAL : QUERY_NULL, .real = v};
    }
    return c->meaning == MEANS_HEX ? hex(column_u64(ev, c->field), room)
                                   : integer(column_u64(ev, c->field));
}

struct query_value column_value(const struct column *c, const struct scan_event *event,
                                const struct names *names, bool is_redacted, char room[VALUE_ROOM])
{
    const char *word;
    switch ((enum column_kind)c->kind) {
    case COLUMN_OFFSET:
        return integer(event->offset);
    case COLUMN_TIME:
        cloudevent_time(room, event->wall_us);
        return text(span_of(room));
    case COLUMN_TIME_US:
        return integer(event->wall_us);
    case COLUMN_FIELD:
        return field(c, event->ev, is_redacted, room);
    case COLUMN_WORD:
        word = column_word(c, event->ev, names);
        return word ? text(span_of(word)) : (struct query_value){.type = QUERY_NULL};
    case COLUMN_STREAM_US:
        return integer(event->ev->time_us);
    case COLUMN_ORIGIN:
        return integer(event->ev->origin);
    case COLUMN_SEQUENCE:
        return integer(event->ev->sequence);
    case COLUMN_NODE:
        return hex(event->node, room);
    case COLUMN_TYPE:
        return text(span_of(ev_type_row(event->ev->type)->name));
    case COLUMN_JSON:
        break;
    }
    return (struct query_value){.type = QUERY_NULL};
}
