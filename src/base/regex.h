/* SPDX-License-Identifier: Apache-2.0 */
/* regex: regular expressions of the configuration, matched against what strangers send.
 *
 * Patterns are PCRE2's (Perl's syntax) over bytes, compiled once, to machine code where the system
 * allows that.  A text of a stranger can never buy more than a fixed amount of work: matching stops
 * after a number of steps that falls with the length of the text, and texts have a length at most.
 * Then the answer is neither yes nor no but REGEX_COSTLY, and whoever asked refuses.
 * A match allocates nothing: what it needs lies in a struct regex_work, one per thread.
 * `$` is the very end, `.` any byte.  Threads: a struct regex is read-only and may be shared.
 * Not here: what a pattern means for a request (gateway/route.c, gateway/rewrite.c). */
#ifndef FB_BASE_REGEX_H
#define FB_BASE_REGEX_H
#include "base/base.h"
#include "base/span.h"

#define REGEX_PATTERN_BYTES_MAX 1024
#define REGEX_GROUPS_MAX 32
/* Work is at most quadratic in the length (a pattern without ^ begins anew at each byte). */
#define REGEX_TEXT_BYTES_MAX 4096

struct regex;
struct regex_fault {
    size_t at; /* byte of the pattern, from 0 */
    char text[160];
};
/* NULL: *fault says why. */
FB_MUST_USE
struct regex *regex_new(struct span pattern, bool is_caseless, struct regex_fault *fault);
void regex_free(struct regex *rx); /* NULL is fine */
uint32_t regex_groups(const struct regex *rx);
uint32_t regex_group_named(const struct regex *rx, struct span name); /* 0: none */
bool regex_is_fast(const struct regex *rx);                           /* machine code */
/* The first bytes, at most 8, that every text it matches begins with; often "". */
struct span regex_prefix(const struct regex *rx);

struct regex_work;
FB_MUST_USE
struct regex_work *regex_work_new(void); /* NULL without memory */
void regex_work_free(struct regex_work *w);

enum regex_result { REGEX_NO, REGEX_YES, REGEX_COSTLY };
enum regex_result regex_match(const struct regex *rx, struct regex_work *w, struct span text);
/* After REGEX_YES, until the next match with <w>: group <n> of <text> (the same one), 0 the whole
 * match; empty for one that took no part. */
struct span regex_group(const struct regex_work *w, struct span text, uint32_t n);
#endif
