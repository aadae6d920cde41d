/* SPDX-License-Identifier: Apache-2.0 */
/* intake: what comes from outside becomes events of the application (EV_CUSTOM).
 *
 *   {"name": "order.placed", "value": 19.9, "text": "..."}     one object, or one per line, or a
 * list
 *   {"specversion": "1.0", "type": "shop.order", "source": "/shop", "data": {"value": 19.9}}
 *
 * name: `name`, or `event`, of a CloudEvent its type; else <name>.  Bytes that a name cannot have
 * become `_`, capitals small.  value: `value`, of a CloudEvent data.value, or data when it is a
 * number.  text: `text` or `message`, else all other members as JSON; cut to 191 bytes at a
 * character.  Names that begin with `foldback.` are refused, but for the types that foldback gives
 * its events as CloudEvents (`foldback.request.v1`); as <name> they become `foldback_...`.  Strict:
 * a name or text that would be changed is refused instead, as are integers beyond 64 bits that
 * would be rounded in the text and CloudEvents of another version than 1.0.  A value is a double.
 * With <repeats> a CloudEvent whose source and id are known is counted and left out.
 * Pure.  Threads: any. */
#ifndef FB_EVENT_INTAKE_H
#define FB_EVENT_INTAKE_H
#include "event/event.h"
#include "event/repeats.h"

enum intake_fault {
    INTAKE_NOT_JSON,
    INTAKE_NOT_AN_EVENT, /* no object, no type */
    INTAKE_NAME,
    INTAKE_VALUE,
    INTAKE_TEXT,
    INTAKE_RESERVED, /* a name of foldback's own */
    INTAKE_FAULTS
};
enum intake_form {
    INTAKE_ANY,      /* a document, or when it is none, one per line */
    INTAKE_DOCUMENT, /* an object or a list */
    INTAKE_LINES
};
struct intake_bad {
    enum intake_fault fault;
    uint32_t line;     /* of the input, from 1 */
    uint32_t element;  /* of a list, from 1; 0: no list */
    const char *field; /* "" the whole; valid during the call, as is <why> */
    const char *why;
};
struct intake {
    const char *name; /* of events that have none, such as the topic; NULL: those are refused */
    uint64_t now_us;  /* stamped on each */
    struct buf *out;  /* records, one after another */
    bool is_strict;
    bool is_own;   /* foldback's own: names of its own are taken */
    bool is_cloud; /* each must be a CloudEvent */
    enum intake_form form;
    const struct repeats *repeats; /* NULL: none are known */
    struct span sender;            /* with <repeats>: who sends; others' events are others */
    struct buf *names; /* with <repeats>: of the events that have one, uint64_t each, appended; the
                          caller adds them when the events are taken */
    uint32_t repeated;
    uint32_t events, bad;
    char reason[160];                                        /* of the last bad one */
    void (*on_bad)(void *arg, const struct intake_bad *bad); /* each; may be NULL */
    void *arg;
    uint32_t line, element; /* private: where the reader is */
    bool is_rounded;        /* private: integers of this document were read as reals */
};
/* Appends the events of <bytes>; what is no event is counted in <bad>, and the rest is still taken.
 * False: <out> has no room for all of them (it is as before). */
FB_MUST_USE
bool intake_read(struct intake *in, struct span bytes);
/* A CloudEvent whose attributes came apart from its data, as in the binary mode of its HTTP
 * binding.
 */
enum intake_data { INTAKE_NO_DATA, INTAKE_DATA_TEXT, INTAKE_DATA_JSON };
struct intake_parts {
    const char *specversion, *type, *source, *id; /* "" not given */
    enum intake_data kind;
    struct span data;
};
/* As intake_read. */
FB_MUST_USE
bool intake_read_parts(struct intake *in, const struct intake_parts *parts);
/* Makes <text> a legal name of an event in <to> (40 bytes): small letters, `_` for what is no
 * letter, digit, dot, `_` or `-`, cut to 39 bytes.  False: nothing is left. */
bool intake_name(char to[40], struct span text);
#endif
