/* SPDX-License-Identifier: Apache-2.0 */
/* print: rows of an answer as a table for people, JSON, JSON lines or CSV (RFC 4180).
 *
 * A table takes its widths from the first PRINT_LOOK_ROWS rows and then goes on row by row, so an
 * answer of any length needs bounded memory.  Threads: one at a time per struct print. */
#ifndef FB_QUERY_PRINT_H
#define FB_QUERY_PRINT_H
#include "query/query.h"

#include <stdio.h>

#define PRINT_LOOK_ROWS 500

enum print_format { PRINT_TABLE, PRINT_JSON, PRINT_JSONL, PRINT_CSV, PRINT_FORMATS };

struct print {
    FILE *to;
    enum print_format format;
    struct buf line; /* one row */
    struct buf look; /* table: cells of the first rows, each with its end */
    uint32_t columns;
    uint32_t *width; /* table */
    char **name;
    bool *is_right; /* table: numbers stand right */
    uint64_t rows;
    bool is_looking, has_failed;
};
/* -1 when <name> is none. */
int print_format_by_name(const char *name);
void print_init(struct print *p, FILE *to, enum print_format format);
struct query_sink print_sink(struct print *p);
/* Writes what is held back and the end; false when it could not be written. */
FB_MUST_USE
bool print_end(struct print *p);
void print_fini(struct print *p);
#endif
