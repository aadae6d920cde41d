/* SPDX-License-Identifier: Apache-2.0 */
/* sources: the names that services follow (dns://, dns+srv://), and what each has given so far.
 *
 *   ASKED --an address--> KNOWN <--the name fails, is well again--> KEPT (its last ones stay)
 *     '-----none--------> NONE ---an address--> KNOWN
 *
 * Rows of a memory file, so that a brain that has just begun knows them and a gateway that dies
 * leaves none that its successor does not say itself: each gateway has rows of its own, and readers
 * see those of the gateway that serves.
 *
 * Writer: the first thread of each gateway; readers: any process. */
#ifndef FB_KNOB_SOURCES_H
#define FB_KNOB_SOURCES_H
#include "knob/memfile.h"

enum source_state { SOURCE_ASKED, SOURCE_KNOWN, SOURCE_KEPT, SOURCE_NONE, SOURCE_STATES };

/* "dns+srv://", 255 bytes of a name, ":65535" */
#define SOURCE_TEXT_BYTES 280

struct source {
    uint16_t service;
    uint16_t port;  /* 0: a name of SRV records */
    uint8_t origin; /* enum memfile_origin */
    uint8_t state;  /* enum source_state */
    uint32_t addresses;
    double weight_pct;
    char host[256];
    char why[120]; /* KEPT, NONE: what the last look-up said */
};

/* A gateway begins in <slot>, or says no more: all its rows are free. */
void sources_begin(struct memfile *m, uint32_t slot);
/* A row for the gateway in <slot>, EV_NONE when all are taken, which counts as one that lacks;
 * nobody reads it before sources_say. */
uint16_t sources_take(struct memfile *m, uint32_t slot);
/* Names that are followed and have no row: how they are nobody can read.  The gateway that serves
 * counts them anew each second. */
void sources_say_lack(struct memfile *m, uint32_t names);
uint32_t sources_lack(const struct memfile *m);
void sources_say(struct memfile *m, uint16_t row, const struct source *s);
void sources_drop(struct memfile *m, uint16_t row);
/* The row <row> of the gateway that serves; false: there is none. */
bool sources_read(const struct memfile *m, uint16_t row, struct source *out);
uint32_t sources_top(const struct memfile *m); /* rows from here on were never in use */
/* "dns://NAME:PORT" or "dns+srv://NAME" */
void sources_text(const struct source *s, char text[SOURCE_TEXT_BYTES]);
const char *sources_state_name(uint8_t state);
#endif
