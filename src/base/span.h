/* SPDX-License-Identifier: Apache-2.0 */
/* span: borrowed bytes.  Never stored beyond the call unless the header of the callee says so.
 *
 * Threads: any. */
#ifndef FB_BASE_SPAN_H
#define FB_BASE_SPAN_H
#include "base/base.h"

#include <string.h>
#include <strings.h>

struct span {
    const char *at; /* may be NULL when len is 0 */
    size_t len;
};

/* A span over a string literal. */
#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})
#define SPAN_ARG(s) (int)(s).len, (s).at /* for "%.*s" */

static inline struct span span_of(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}
/* Equal when ASCII case is ignored (field names, schemes, hosts). */
static inline bool span_ieq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.at, b.at, a.len) == 0);
}
static inline bool span_starts(struct span s, struct span prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.at, prefix.at, prefix.len) == 0);
}
/* <s> without blanks and tabs at both ends. */
struct span span_trim(struct span s);
/* The part before <sep>; *rest is the part after it (empty when there is no <sep>). */
struct span span_cut(struct span s, char sep, struct span *rest);
/* Decimal digits only, no sign, no overflow; false otherwise. */
FB_MUST_USE
bool span_to_u64(struct span s, uint64_t *value);
/* Length of the well-formed UTF-8 sequence at s.at[i] (Unicode 15, table 3-7), or 0. */
size_t span_utf8(struct span s, size_t i);
#endif
