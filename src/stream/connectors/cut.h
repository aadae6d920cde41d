/* SPDX-License-Identifier: Apache-2.0 */
/* cut: events become records of a broker.
 *
 *   cut_add ... cut_seal -> units (parts of the batch, in order) -> cut_record -> cut_split
 *
 * A unit is what one record holds: a block of events (key: the node), or one event (key: its
 * service).  A unit that a broker finds too large is split in two; each keeps its own offsets, so
 * (node, offset) names the same event however it was cut.
 *
 * Value of a JSON unit: one line per event.  Of a binary one: a block as the log has it (block.h,
 * never encrypted), and, when a filter left events out, "fbo1", the bytes that follow (u32), then
 * one varint per event: its offset minus that of the event before, for the first one 0.
 * Headers: foldback-node, -epoch, -offset (of the first event), -count, -schema, -format, -region.
 *
 * Pure but for memory.  Threads: a struct cut belongs to one thread. */
#ifndef FB_STREAM_CONNECTORS_CUT_H
#define FB_STREAM_CONNECTORS_CUT_H
#include "event/event.h"
#include "stream/block.h"
#include "stream/connectors/connector.h"

#define CUT_EVENTS_MAX 65536
#define CUT_UNITS_MAX 8192
#define CUT_KEY_BYTES 48
#define CUT_HEADERS 7
#define CUT_SCHEMA "1"

enum cut_format { CUT_JSON, CUT_BINARY, CUT_CLOUDEVENTS, CUT_CHAT };
/* An event as a sentence for people. */
typedef void cut_sentence(void *ctx, const struct ev_head *ev, struct buf *out);
struct cut_conf {
    enum cut_format format;
    bool is_per_event, is_redacted;
    uint32_t block_bytes; /* most bytes of a value; binary: of its records before compression */
    uint64_t batch_bytes; /* most bytes of all values together */
    uint32_t units_max;   /* blocks in one batch; per event: 64 times as many */
    const char *region;
    cut_sentence *sentence; /* of CUT_CHAT */
    void *sentence_ctx;
    uint32_t epoch;
};

struct cut_event {
    uint64_t offset, wall_us;
    uint32_t end; /* behind it in the text of the batch */
    uint8_t type;
    uint32_t key; /* per event: where it begins in <keys> */
};
struct cut_unit {
    uint32_t first, count; /* events */
    bool is_done;
    bool is_alone; /* was too large together with others: sent by itself, to be sure */
    uint64_t value_at, value_len; /* in <packed>; JSON: in <text> */
    char node[17], epoch[12], offset[21], events[12];
    struct connector_header headers[CUT_HEADERS];
};
struct cut {
    struct cut_conf conf;
    uint64_t node;
    struct buf text, packed, keys;
    struct cut_event *event;
    uint32_t event_count;
    struct cut_unit *unit;
    uint32_t unit_count;
    uint32_t open_first; /* first event of the unit that is being filled */
    uint64_t first_us;   /* when the oldest event came in, by the caller's clock; 0: empty */
    struct block_codec *codec;
};

FB_MUST_USE
bool cut_init(struct cut *c, const struct cut_conf *conf); /* false without memory */
void cut_fini(struct cut *c);
void cut_clear(struct cut *c);

struct cut_from {
    uint64_t node, offset, wall_us, now_us;
    const char *service; /* of the event, "" none; the key per event */
};
/* False: the batch is full, or <ev> is of another node: send it first.  */
FB_MUST_USE
bool cut_add(struct cut *c, const struct ev_head *ev, const struct cut_from *from);
/* Ends the unit that is being filled. */
void cut_seal(struct cut *c);
/* Fills <record> (borrowed until the next cut_split or cut_clear).  FB_E_NOMEM. */
FB_MUST_USE
enum fb_code cut_record(struct cut *c, uint32_t unit, struct connector_record *record);
/* Two units in the place of one; false: it is one event, or there is no room. */
FB_MUST_USE
bool cut_split(struct cut *c, uint32_t unit);
/* The offset below which everything was delivered; <next> when all was. */
uint64_t cut_delivered(const struct cut *c, uint64_t next);
#endif
