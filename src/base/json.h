/* SPDX-License-Identifier: Apache-2.0 */
/* json: writes JSON text into a buf; reading is jansson's work.
 *
 * Commas and escapes are the writer's; nesting up to 32 levels.  Numbers that JSON cannot say (NaN,
 * infinity) become null.  Threads: a struct json belongs to one thread. */
#ifndef FB_BASE_JSON_H
#define FB_BASE_JSON_H
#include "base/buf.h"

struct json {
    struct buf *out;
    uint32_t depth;
    bool needs_comma[32];
};

void json_init(struct json *j, struct buf *out);
void json_object_begin(struct json *j);
void json_object_end(struct json *j);
void json_array_begin(struct json *j);
void json_array_end(struct json *j);
void json_key(struct json *j, const char *key);
void json_str(struct json *j, const char *text); /* NULL writes null */
void json_span(struct json *j, struct span s); /* bytes that are not UTF-8 are written as U+FFFD */
void json_u64(struct json *j, uint64_t v);
void json_i64(struct json *j, int64_t v);
void json_f64(struct json *j, double v);
void json_f64_exact(struct json *j, double v); /* as many digits as it takes to read it back */
void json_bool(struct json *j, bool v);
void json_nil(struct json *j);
void json_raw(struct json *j, struct span text); /* <text> is JSON already */
static inline void json_key_str(struct json *j, const char *key, const char *text)
{
    json_key(j, key);
    json_str(j, text);
}
static inline void json_key_u64(struct json *j, const char *key, uint64_t v)
{
    json_key(j, key);
    json_u64(j, v);
}
static inline void json_key_f64(struct json *j, const char *key, double v)
{
    json_key(j, key);
    json_f64(j, v);
}
static inline void json_key_bool(struct json *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool(j, v);
}
#endif
