/* SPDX-License-Identifier: Apache-2.0 */
/* column: what one event looks like as a row: a table per event type, made from events.def.
 *
 *   offset time time_us            where and when: time is UTC text, time_us the same as a number
 *   <field>                        each field; a number that stands for something reads as its name
 *   <field>_id                     the number itself, for fields that read as a name
 *   stream_us origin sequence node what the head of the record says
 *
 * A field whose name is a word of SQL ends in "_value": from_value, to_value, limit_value.  Numbers
 * that are hashes or ids (request_id, config_hash, key) are 16 hexadecimal digits.  The table
 * `events` has every event, with its JSON.  Pure tables.  Threads: any after column_tables. */
#ifndef FB_QUERY_COLUMN_H
#define FB_QUERY_COLUMN_H
#include "query/names.h"

#define COLUMNS_MAX 120
#define COLUMN_TABLE_ALL 0 /* index of `events`; the others are at their event type */

enum column_kind {
    COLUMN_OFFSET,
    COLUMN_TIME,
    COLUMN_TIME_US,
    COLUMN_TYPE, /* of `events` */
    COLUMN_JSON, /* of `events` */
    COLUMN_FIELD,
    COLUMN_WORD, /* the name that a field's number stands for */
    COLUMN_STREAM_US,
    COLUMN_ORIGIN,
    COLUMN_SEQUENCE,
    COLUMN_NODE
};

/* What a number stands for. */
enum column_meaning {
    MEANS_NOTHING,
    MEANS_HEX, /* an id: 16 digits */
    MEANS_ROUTE,
    MEANS_SERVICE,
    MEANS_ENDPOINT,
    MEANS_HEDGED, /* endpoint, when a request was sent twice */
    MEANS_VERSION,
    MEANS_WANTED, /* number of a version + 1 */
    MEANS_TARGET, /* its kind is in target_kind or kind */
    MEANS_CLASS,
    MEANS_REASON,
    MEANS_MODE,
    MEANS_HEALTH,
    MEANS_OUTCOME,
    MEANS_KIND,
    MEANS_VERB,
    MEANS_LOOP,
    MEANS_KNOB,
    MEANS_FACT,
    MEANS_CACHE,
    MEANS_PROTOCOL,
    MEANS_TLS,
    MEANS_HEDGE,
    MEANS_SEVERITY,
    MEANS_ACTOR,
    MEANS_KEY_OP
};

struct column {
    char name[40];
    const struct ev_field_row *field; /* of FIELD and WORD */
    const char *unit, *what;
    uint8_t kind, meaning;
    uint8_t field_index;
    uint16_t kind_offset; /* of TARGET: where the record says its kind */
    bool is_text, is_real;
};
struct column_table {
    const char *name, *what; /* name NULL: no such table */
    uint8_t type;            /* 0: all */
    uint32_t count;
    struct column at[COLUMNS_MAX];
};
/* Table of an event type, or COLUMN_TABLE_ALL; .name NULL when there is none. */
const struct column_table *column_table(uint8_t type);

/* The whole number of an integer field of <ev>. */
uint64_t column_u64(const struct ev_head *ev, const struct ev_field_row *f);
double column_f64(const struct ev_head *ev, const struct ev_field_row *f);
struct span column_text(const struct ev_head *ev, const struct ev_field_row *f);
/* The name that a WORD column shows; NULL when there is none. */
const char *column_word(const struct column *c, const struct ev_head *ev, const struct names *n);
/* Name of the service an event is about, as the subject of a CloudEvent; "" for none. */
const char *column_subject(const struct ev_head *ev, const struct names *n);
#endif
