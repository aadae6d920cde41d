/* SPDX-License-Identifier: Apache-2.0 */
/* Construction: recursive descent gives fragments (first step, list of open ends); an open end is
 * the `next` or `other` of a step that still points to NOWHERE, chained through itself. */
#include "event/pattern.h"

#include "base/assert.h"

enum { STEP_SET, STEP_SPLIT, STEP_BEGIN, STEP_END, STEP_DONE };
#define NOWHERE UINT16_C(0xffff)

struct compiler {
    struct pattern *p;
    struct span text;
    size_t at;
    uint32_t depth;
    struct fb_err *err;
    enum fb_code code;
};
/* A part of the automaton: enter at <start>, leave by every end in the chain <ends>
 * (2 x step + which arm). */
struct part {
    uint16_t start, ends;
};

static struct part parse_alternatives(struct compiler *c);
static struct part parse_sequence(struct compiler *c);
static struct part parse_repeat(struct compiler *c);
static struct part parse_atom(struct compiler *c);
static struct part parse_class(struct compiler *c);
static bool parse_escape(struct compiler *c, uint32_t set[8]);

static struct part refuse(struct compiler *c, enum fb_code code, const char *what)
{
    if (c->code == FB_OK)
        c->code = fb_fail(c->err, code, "pattern: %s at character %zu of \"%.*s\"", what, c->at + 1,
                          SPAN_ARG(c->text));
    return (struct part){NOWHERE, NOWHERE};
}

static uint16_t add_step(struct compiler *c, uint8_t kind)
{
    if (c->p->count >= PATTERN_STEPS_MAX) {
        refuse(c, FB_E_NOMEM, "more than 128 steps");
        return NOWHERE;
    }
    c->p->step[c->p->count] =
        (struct pattern_step){.kind = kind, .next = NOWHERE, .other = NOWHERE};
    return c->p->count++;
}

static uint16_t *end_arm(struct pattern *p, uint16_t end)
{
    struct pattern_step *s = &p->step[end / 2];
    return end % 2 ? &s->other : &s->next;
}

/* Makes every end of the chain point to <target>. */
static void connect(struct compiler *c, uint16_t ends, uint16_t target)
{
    while (ends != NOWHERE) {
        uint16_t *arm = end_arm(c->p, ends);
        ends = *arm;
        *arm = target;
    }
}

static uint16_t join(struct compiler *c, uint16_t a, uint16_t b)
{
    if (a == NOWHERE)
        return b;
    uint16_t last = a;
    while (*end_arm(c->p, last) != NOWHERE)
        last = *end_arm(c->p, last);
    *end_arm(c->p, last) = b;
    return a;
}

static void set_add(uint32_t set[8], unsigned char first, unsigned char last)
{
    for (unsigned b = first; b <= last; b++)
        set[b / 32] |= UINT32_C(1) << b % 32;
}

static bool is_over(const struct compiler *c)
{
    return c->code != FB_OK || c->at >= c->text.len;
}

enum fb_code pattern_compile(struct pattern *p, struct span text, struct fb_err *err)
{
    struct compiler c = {.p = p, .text = text, .err = err};
    p->count = 0;
    struct part all = parse_alternatives(&c);
    if (!is_over(&c))
        refuse(&c, FB_E_USAGE, "unexpected ')'");
    uint16_t done = add_step(&c, STEP_DONE);
    if (c.code != FB_OK)
        return c.code;
    connect(&c, all.ends, done);
    p->start = all.start == NOWHERE ? done : all.start;
    return FB_OK;
}

static struct part parse_alternatives(struct compiler *c)
{
    struct part left = parse_sequence(c);
    while (!is_over(c) && c->text.at[c->at] == '|') {
        c->at++;
        struct part right = parse_sequence(c);
        uint16_t split = add_step(c, STEP_SPLIT);
        if (c->code != FB_OK)
            break;
        c->p->step[split].next = left.start;
        c->p->step[split].other = right.start;
        left = (struct part){split, join(c, left.ends, right.ends)};
    }
    return left;
}

/* An empty sequence is a split whose second arm is closed onto the first: one open end. */
static struct part empty_part(struct compiler *c)
{
    uint16_t s = add_step(c, STEP_SPLIT);
    if (s == NOWHERE)
        return (struct part){NOWHERE, NOWHERE};
    c->p->step[s].other = s;
    return (struct part){s, (uint16_t)(2 * s)};
}

static struct part parse_sequence(struct compiler *c)
{
    if (is_over(c) || c->text.at[c->at] == '|' || c->text.at[c->at] == ')')
        return empty_part(c);
    struct part all = parse_repeat(c);
    while (!is_over(c) && c->text.at[c->at] != '|' && c->text.at[c->at] != ')') {
        struct part next = parse_repeat(c);
        if (c->code != FB_OK)
            break;
        connect(c, all.ends, next.start);
        all.ends = next.ends;
    }
    return all;
}

static struct part parse_repeat(struct compiler *c)
{
    struct part atom = parse_atom(c);
    while (!is_over(c)) {
        char op = c->text.at[c->at];
        if (op != '*' && op != '+' && op != '?')
            break;
        c->at++;
        uint16_t split = add_step(c, STEP_SPLIT);
        if (c->code != FB_OK)
            break;
        c->p->step[split].next = atom.start;
        uint16_t leave = (uint16_t)(2 * split + 1);
        if (op == '?') {
            atom = (struct part){split, join(c, atom.ends, leave)};
        } else {
            connect(c, atom.ends, split);
            atom = (struct part){op == '+' ? atom.start : split, leave};
        }
    }
    return atom;
}

static struct part single(struct compiler *c, uint8_t kind, const uint32_t *set)
{
    uint16_t s = add_step(c, kind);
    if (s == NOWHERE)
        return (struct part){NOWHERE, NOWHERE};
    if (set)
        memcpy(c->p->step[s].set, set, sizeof c->p->step[s].set);
    return (struct part){s, (uint16_t)(2 * s)};
}

static struct part parse_atom(struct compiler *c)
{
    uint32_t set[8] = {0};
    char ch = c->text.at[c->at++];
    switch (ch) {
    case '(': {
        if (++c->depth > PATTERN_DEPTH_MAX)
            return refuse(c, FB_E_USAGE, "more than 16 nested groups");
        struct part inner = parse_alternatives(c);
        if (is_over(c) || c->text.at[c->at] != ')')
            return refuse(c, FB_E_USAGE, "missing ')'");
        c->at++;
        c->depth--;
        return inner;
    }
    case '[':
        return parse_class(c);
    case '^':
        return single(c, STEP_BEGIN, NULL);
    case '$':
        return single(c, STEP_END, NULL);
    case '*':
    case '+':
    case '?':
        return refuse(c, FB_E_USAGE, "nothing to repeat before");
    case '.':
        set_add(set, 0, 255);
        return single(c, STEP_SET, set);
    case '\\':
        if (!parse_escape(c, set))
            return refuse(c, FB_E_USAGE, "unknown escape");
        return single(c, STEP_SET, set);
    default:
        set_add(set, (unsigned char)ch, (unsigned char)ch);
        return single(c, STEP_SET, set);
    }
}

static bool parse_escape(struct compiler *c, uint32_t set[8])
{
    if (is_over(c))
        return false;
    char ch = c->text.at[c->at++];
    if (ch == 'd' || ch == 'w')
        set_add(set, '0', '9');
    if (ch == 'w') {
        set_add(set, 'a', 'z');
        set_add(set, 'A', 'Z');
        set_add(set, '_', '_');
    }
    if (ch == 's') {
        set_add(set, '\t', '\r');
        set_add(set, ' ', ' ');
    }
    if (ch == 'd' || ch == 'w' || ch == 's')
        return true;
    if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9'))
        return false;
    set_add(set, (unsigned char)ch, (unsigned char)ch);
    return true;
}

static struct part parse_class(struct compiler *c)
{
    uint32_t set[8] = {0};
    bool is_negated = !is_over(c) && c->text.at[c->at] == '^';
    if (is_negated)
        c->at++;
    for (bool is_first = true;; is_first = false) {
        if (is_over(c))
            return refuse(c, FB_E_USAGE, "missing ']'");
        char ch = c->text.at[c->at++];
        if (ch == ']' && !is_first)
            break;
        if (ch == '\\') {
            if (!parse_escape(c, set))
                return refuse(c, FB_E_USAGE, "unknown escape");
            continue;
        }
        char last = ch;
        if (c->at + 1 < c->text.len && c->text.at[c->at] == '-' && c->text.at[c->at + 1] != ']') {
            last = c->text.at[c->at + 1];
            c->at += 2;
        }
        if ((unsigned char)last < (unsigned char)ch)
            return refuse(c, FB_E_USAGE, "range runs backwards");
        set_add(set, (unsigned char)ch, (unsigned char)last);
    }
    struct part p = single(c, STEP_SET, set);
    if (p.start != NOWHERE)
        c->p->step[p.start].is_negated = is_negated;
    return p;
}

/* ---- matching ---- */
struct states {
    uint16_t list[PATTERN_STEPS_MAX];
    uint16_t count;
    uint8_t has[PATTERN_STEPS_MAX];
};

/* Adds <first> and everything reachable without a byte; a stack instead of recursion. */
static void states_add(const struct pattern *p, struct states *s, uint16_t first, bool at_begin,
                       bool at_end)
{
    uint16_t stack[2 * PATTERN_STEPS_MAX + 1];
    size_t depth = 0;
    stack[depth++] = first;
    while (depth > 0) {
        uint16_t i = stack[--depth];
        if (s->has[i])
            continue;
        s->has[i] = 1;
        s->list[s->count++] = i;
        const struct pattern_step *step = &p->step[i];
        if (step->kind == STEP_SPLIT) {
            stack[depth++] = step->next;
            stack[depth++] = step->other;
        }
        if ((step->kind == STEP_BEGIN && at_begin) || (step->kind == STEP_END && at_end))
            stack[depth++] = step->next;
        fb_assert(depth <= 2 * PATTERN_STEPS_MAX);
    }
}

bool pattern_matches(const struct pattern *p, struct span subject)
{
    struct states now = {.count = 0};
    for (size_t at = 0;; at++) {
        bool at_end = at == subject.len;
        states_add(p, &now, p->start, at == 0, at_end); /* a match may begin at every byte */
        struct states next = {.count = 0};
        for (uint16_t i = 0; i < now.count; i++) {
            const struct pattern_step *step = &p->step[now.list[i]];
            if (step->kind == STEP_DONE)
                return true;
            if (at_end || step->kind != STEP_SET)
                continue;
            unsigned char byte = (unsigned char)subject.at[at];
            bool is_in = (step->set[byte / 32] >> byte % 32 & 1) != 0;
            if (is_in != (step->is_negated != 0))
                states_add(p, &next, step->next, false, at + 1 == subject.len);
        }
        if (at_end)
            return false;
        now = next;
    }
}
