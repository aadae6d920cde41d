/* SPDX-License-Identifier: Apache-2.0 */
#include "base/regex.h"

#include "base/assert.h"

#include <ctype.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX_BYTES_MAX 8
/* PCRE2 counts points of backtracking, and anew for each byte at which a match may begin.  What one
 * point costs grows with the text in the worst case.  So the points that are allowed are this
 * budget, divided by the length for each of those.  Measured on 20 patterns made to be slow: at
 * most 0.3 ms up to 1,000 bytes and 5 ms at 4 KiB (interpreted 0.5 and 3.4).  With half of it
 * `^/(.*)/(.*)/edit$` ends early on a path of 1,000 bytes in 125 segments. */
#define WORK_BUDGET 50000000
#define STEPS_MIN 64
#define STEPS_MAX 50000
#define HEAP_KIB_MAX 1024 /* of the interpreter, kept for the next match */
#define DEPTH_MAX 5000
#define JIT_STACK_BYTES_MIN (32 * 1024)
#define JIT_STACK_BYTES_MAX (192 * 1024)
#define NEST_MAX 50

struct regex {
    pcre2_code *code;
    uint32_t groups;
    bool is_anchored, is_fast;
    uint8_t prefix_len;
    char prefix[PREFIX_BYTES_MAX];
};
struct regex_work {
    pcre2_match_context *context;
    pcre2_match_data *data;
    pcre2_jit_stack *stack; /* NULL: that of the thread */
};

static void find_prefix(struct regex *rx, struct span pattern);
static void say_fault(struct regex_fault *fault, size_t at, int code);

struct regex *regex_new(struct span pattern, bool is_caseless, struct regex_fault *fault)
{
    uint32_t options = PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP |
                       PCRE2_NEVER_BACKSLASH_C | (is_caseless ? PCRE2_CASELESS : 0);
    uint32_t all = 0;
    int code = 0;
    size_t at = 0;
    *fault = (struct regex_fault){0};
    struct regex *rx = calloc(1, sizeof *rx);
    pcre2_compile_context *context = rx ? pcre2_compile_context_create(NULL) : NULL;
    if (!context) {
        snprintf(fault->text, sizeof fault->text, "no memory to compile it");
        goto fail;
    }
    pcre2_set_max_pattern_length(context, REGEX_PATTERN_BYTES_MAX);
    pcre2_set_parens_nest_limit(context, NEST_MAX);
    rx->code = pcre2_compile((PCRE2_SPTR)pattern.at, pattern.len, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!rx->code) {
        say_fault(fault, at, code);
        goto fail;
    }
    pcre2_pattern_info(rx->code, PCRE2_INFO_CAPTURECOUNT, &rx->groups);
    pcre2_pattern_info(rx->code, PCRE2_INFO_ALLOPTIONS, &all);
    if (rx->groups > REGEX_GROUPS_MAX) {
        snprintf(fault->text, sizeof fault->text,
                 "it has %u groups, at most %d may be; write (?:...) where no capture is used",
                 rx->groups, REGEX_GROUPS_MAX);
        goto fail;
    }
    rx->is_anchored = (all & PCRE2_ANCHORED) != 0;
    /* Refused where memory must not be both written and run: then it is interpreted. */
    rx->is_fast = pcre2_jit_compile(rx->code, PCRE2_JIT_COMPLETE) == 0;
    if (!is_caseless)
        find_prefix(rx, pattern);
    return rx;
fail:
    regex_free(rx);
    return NULL;
}

void regex_free(struct regex *rx)
{
    if (!rx)
        return;
    pcre2_code_free(rx->code);
    free(rx);
}

static void say_fault(struct regex_fault *fault, size_t at, int code)
{
    PCRE2_UCHAR text[120];
    if (pcre2_get_error_message(code, text, sizeof text) < 0)
        text[0] = '\0';
    fault->at = at;
    snprintf(fault->text, sizeof fault->text, "%s", (const char *)text);
}

uint32_t regex_groups(const struct regex *rx)
{
    return rx->groups;
}

bool regex_is_fast(const struct regex *rx)
{
    return rx->is_fast;
}

struct span regex_prefix(const struct regex *rx)
{
    return (struct span){rx->prefix, rx->prefix_len};
}

uint32_t regex_group_named(const struct regex *rx, struct span name)
{
    char text[33]; /* PCRE2 has names of at most 32 */
    if (name.len == 0 || name.len >= sizeof text)
        return 0;
    memcpy(text, name.at, name.len);
    text[name.len] = '\0';
    int n = pcre2_substring_number_from_name(rx->code, (PCRE2_SPTR)text);
    return n > 0 ? (uint32_t)n : 0;
}

/* ---- what every match begins with ---- */

/* Letters that stand for themselves wherever they are. */
static bool is_plain(char ch)
{
    return isalnum((unsigned char)ch) || (ch && strchr("/-_~,:;=@&%!'", ch));
}

/* Is there a | outside of all groups?  Then ^ binds the first branch only. */
static bool has_branches(struct span pattern)
{
    size_t depth = 0;
    bool is_class = false;
    for (size_t i = 0; i < pattern.len; i++) {
        char ch = pattern.at[i];
        if (ch == '\\') {
            if (i + 1 < pattern.len && strchr("QEc", pattern.at[i + 1]))
                return true; /* quoted text: not worth a reader of its own */
            i++;
        } else if (is_class) {
            if (ch == '[')
                return true; /* perhaps [:alpha:], whose ] does not end the class */
            /* a ] right behind [ or [^ is a member */
            is_class = ch != ']' || pattern.at[i - 1] == '[' ||
                       (pattern.at[i - 1] == '^' && pattern.at[i - 2] == '[');
        } else if (ch == '[') {
            is_class = true;
        } else if (ch == '(') {
            char next = i + 1 < pattern.len ? pattern.at[i + 1] : ')';
            char after = i + 2 < pattern.len ? pattern.at[i + 2] : ')';
            if (next == '*' || (next == '?' && !strchr(":=!<", after)))
                return true; /* a comment, or options that change what follows */
            depth++;
        } else if (ch == ')' && depth) {
            depth--;
        } else if (ch == '|' && depth == 0) {
            return true;
        }
    }
    return false;
}

/* Too little is right, too much would lose matches: every doubt ends it. */
static void find_prefix(struct regex *rx, struct span pattern)
{
    if (pattern.len < 2 || pattern.at[0] != '^' || has_branches(pattern))
        return;
    size_t at = 1, len = 0;
    while (at < pattern.len && is_plain(pattern.at[at]) && len < PREFIX_BYTES_MAX)
        rx->prefix[len++] = pattern.at[at++];
    if (len && at < pattern.len && strchr("?*{", pattern.at[at]))
        len--; /* the last one may be missing */
    rx->prefix_len = (uint8_t)len;
}

/* ---- matching ---- */

struct regex_work *regex_work_new(void)
{
    struct regex_work *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->context = pcre2_match_context_create(NULL);
    w->data = pcre2_match_data_create(REGEX_GROUPS_MAX + 1, NULL);
    if (!w->context || !w->data) {
        regex_work_free(w);
        return NULL;
    }
    pcre2_set_heap_limit(w->context, HEAP_KIB_MAX);
    pcre2_set_depth_limit(w->context, DEPTH_MAX);
    w->stack = pcre2_jit_stack_create(JIT_STACK_BYTES_MIN, JIT_STACK_BYTES_MAX, NULL);
    if (w->stack)
        pcre2_jit_stack_assign(w->context, NULL, w->stack);
    return w;
}

void regex_work_free(struct regex_work *w)
{
    if (!w)
        return;
    pcre2_jit_stack_free(w->stack);
    pcre2_match_data_free(w->data);
    pcre2_match_context_free(w->context);
    free(w);
}

static uint32_t steps_max(const struct regex *rx, size_t len)
{
    uint64_t cost = rx->is_anchored ? len + 1 : (uint64_t)(len + 1) * (len + 1);
    uint64_t steps = WORK_BUDGET / cost;
    return steps < STEPS_MIN ? STEPS_MIN : steps > STEPS_MAX ? STEPS_MAX : (uint32_t)steps;
}

enum regex_result regex_match(const struct regex *rx, struct regex_work *w, struct span text)
{
    if (text.len > REGEX_TEXT_BYTES_MAX)
        return REGEX_COSTLY;
    pcre2_set_match_limit(w->context, steps_max(rx, text.len));
    int rc = pcre2_match(rx->code, (PCRE2_SPTR)text.at, text.len, 0, 0, w->data, w->context);
    fb_assert(rc != 0); /* the groups have room: regex_new counted them */
    if (rc > 0)
        return REGEX_YES;
    return rc == PCRE2_ERROR_NOMATCH ? REGEX_NO : REGEX_COSTLY;
}

struct span regex_group(const struct regex_work *w, struct span text, uint32_t n)
{
    const size_t *at = pcre2_get_ovector_pointer(w->data);
    if (n > REGEX_GROUPS_MAX || at[2 * n] == PCRE2_UNSET || at[2 * n + 1] < at[2 * n])
        return (struct span){text.at, 0}; /* \K may end it before its beginning */
    fb_assert(at[2 * n + 1] <= text.len);
    return (struct span){text.at + at[2 * n], at[2 * n + 1] - at[2 * n]};
}
