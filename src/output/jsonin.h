/* SPDX-License-Identifier: Apache-2.0 */
/* jsonin: reads what a client of the API sends: one flat JSON object of strings, numbers, true,
 * false, null.
 *
 * Strict RFC 8259; a key that appears twice, a nested value and bytes behind the object are errors.
 * Not jansson: its json_null() and ours of base/json.h would be one symbol in one program.
 * Pure; no allocation.  Threads: a struct jsonin belongs to one thread. */
#ifndef FB_OUTPUT_JSONIN_H
#define FB_OUTPUT_JSONIN_H
#include "base/error.h"
#include "base/span.h"

#define JSONIN_FIELDS_MAX 16
#define JSONIN_TEXT_MAX_BYTES 8192 /* a query is some hundred */

enum jsonin_kind { JSONIN_NULL, JSONIN_BOOL, JSONIN_NUMBER, JSONIN_STRING };
struct jsonin_field {
    const char *key, *text; /* terminated, unescaped; text of strings only */
    double number;          /* of numbers; 1 and 0 of booleans */
    enum jsonin_kind kind;
};
struct jsonin {
    struct jsonin_field field[JSONIN_FIELDS_MAX];
    size_t count;
    char text[JSONIN_TEXT_MAX_BYTES]; /* keys and strings point into it: do not copy the struct */
    size_t text_used;
};

/* Errors: FORMAT, NOMEM; the sentence names the byte. */
FB_MUST_USE
enum fb_code jsonin_parse(struct jsonin *in, struct span bytes, struct fb_err *err);
/* NULL when absent or null. */
const struct jsonin_field *jsonin_find(const struct jsonin *in, const char *key);
/* Text of a string field; <fallback> when absent; NULL when it is something else. */
const char *jsonin_text(const struct jsonin *in, const char *key, const char *fallback);
#endif
