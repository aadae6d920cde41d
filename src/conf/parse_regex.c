/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of routes, and the texts that their groups are put into. */
#include "base/regex.h"
#include "conf/conf_int.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PIECES_MAX 64
#define TO_BYTES_MAX 1024

const struct regex *parse_regex(struct reader *rd, const struct node *n, struct span pattern,
                                bool is_caseless)
{
    char path[NODE_PATH_BYTES];
    struct regex_fault fault;
    if (pattern.len == 0 || pattern.len > REGEX_PATTERN_BYTES_MAX) {
        problem(rd, n, "%s must be a regular expression of 1..%d bytes, got %zu",
                node_path(n, path), REGEX_PATTERN_BYTES_MAX, pattern.len);
        return NULL;
    }
    for (size_t i = 0; i < pattern.len; i++) {
        if (pattern.at[i] > ' ' && pattern.at[i] < 0x7f)
            continue;
        problem(rd, n,
                "%s: byte %zu of the pattern can never match: a path holds visible ASCII only; "
                "write %%20 for a blank, %%C3%%A9 for \xc3\xa9",
                node_path(n, path), i + 1);
        return NULL;
    }
    struct conf_regex *keep = arena_get(rd->keep, sizeof *keep);
    if (!keep)
        return NULL;
    keep->rx = regex_new(pattern, is_caseless, &fault);
    if (!keep->rx) {
        size_t to = fault.at < pattern.len ? fault.at : pattern.len;
        size_t from = to > 40 ? to - 40 : 0;
        problem(rd, n,
                "%s is no regular expression: %s, at byte %zu, behind \"%.*s\"; correct it there, "
                "and write the pattern in single quotes so that each \\ stays",
                node_path(n, path), fault.text, to + 1, (int)(to - from), pattern.at + from);
        return NULL;
    }
    keep->next = rd->private->regexes;
    rd->private->regexes = keep;
    rd->conf->has_regex = true;
    if (memmem(pattern.at, pattern.len, "\\?", 2))
        problem_warn(rd, n, "%s: \\? never matches: the query is no part of the path",
                     node_path(n, path));
    return keep->rx;
}

void conf_regexes_free(struct conf_private *private)
{
    for (struct conf_regex *k = private->regexes; k; k = k->next)
        regex_free(k->rx);
}

void parse_regex_path(struct reader *rd, const struct node *n, struct span s, struct conf_route *rt)
{
    struct span rest = {s.at + 1, s.len - 1};
    bool is_caseless = rest.len && rest.at[0] == '*';
    if (is_caseless)
        rest = (struct span){rest.at + 1, rest.len - 1};
    rest = span_trim(rest);
    rt->regex = parse_regex(rd, n, rest, is_caseless);
    char *text = arena_get(rd->keep, rest.len + 3);
    if (!text)
        return;
    sprintf(text, "~%s%.*s", is_caseless ? "*" : "", SPAN_ARG(rest));
    rt->path = text;
    rt->path_kind = CONF_PATH_REGEX;
}

/* ---- texts with groups ---- */

/* $1, $12 of ${12}, ${name}, $$; the length of it, 0: a dollar alone. */
static size_t group_at(const struct regex *rx, struct span s, uint32_t *group, bool *is_known)
{
    *is_known = true;
    *group = 0;
    if (s.len < 2)
        return 0;
    if (isdigit((unsigned char)s.at[1])) {
        *group = (uint32_t)(s.at[1] - '0');
        *is_known = rx && *group <= regex_groups(rx);
        return 2;
    }
    const char *end = s.at[1] == '{' ? memchr(s.at, '}', s.len) : NULL;
    if (!end)
        return 0;
    struct span name = {s.at + 2, (size_t)(end - s.at - 2)};
    uint64_t number;
    if (span_to_u64(name, &number)) {
        *group = fb_sat_u32(number);
        *is_known = rx && *group <= regex_groups(rx);
    } else {
        *group = rx ? regex_group_named(rx, name) : 0;
        *is_known = *group > 0;
    }
    return name.len + 3;
}

/* Text and {words} of <s>, which has no group. */
static bool put_words(struct span s, struct conf_piece *at, size_t *count)
{
    struct span piece;
    enum conf_var var;
    while (conf_var_next(&s, &piece, &var)) {
        if (*count == PIECES_MAX)
            return false;
        at[(*count)++] = (struct conf_piece){.text = piece, .var = var};
    }
    return true;
}

/* <is_path>: what brings a query along has no place. */
static bool words_are_known(struct reader *rd, const struct node *n, const struct conf_template *t,
                            bool is_path)
{
    char path[NODE_PATH_BYTES];
    for (size_t i = 0; i < t->count; i++) {
        const struct conf_piece *p = &t->pieces[i];
        if (p->var != CONF_VAR_UNKNOWN &&
            (!is_path || (p->var != CONF_VAR_TARGET && p->var != CONF_VAR_QUERY)))
            continue;
        problem(rd, n,
                "%s: {%.*s} stands for nothing here; there are {host}, {path}, {client_address}, "
                "{scheme}, {request_id}%s",
                node_path(n, path), SHOWN(p->text),
                is_path ? ", and the query of the client stays by itself" : ", {query}, {target}");
        return false;
    }
    return true;
}

bool parse_template(struct reader *rd, const struct node *n, struct span s,
                    struct conf_template *out, bool is_path)
{
    char path[NODE_PATH_BYTES];
    struct conf_piece at[PIECES_MAX];
    size_t count = 0, from = 0;
    bool has_room = true, is_known;
    uint32_t group;
    for (size_t i = 0; i < s.len && has_room;) {
        struct span rest = {s.at + i, s.len - i};
        bool is_dollar = rest.len > 1 && rest.at[0] == '$' && rest.at[1] == '$';
        size_t len = s.at[i] != '$' ? 0
                     : is_dollar    ? 2
                                    : group_at(out->regex, rest, &group, &is_known);
        if (len == 0) {
            i++;
            continue;
        }
        if (!is_dollar && !is_known) {
            if (!out->regex)
                problem(rd, n,
                        "%s: %.*s stands for nothing, for the match is no regular expression: "
                        "begin it with ~, or write $$ for a dollar",
                        node_path(n, path), (int)len, rest.at);
            else
                problem(rd, n,
                        "%s: %.*s stands for nothing: the pattern has %u groups ( ); write $$ for "
                        "a dollar",
                        node_path(n, path), (int)len, rest.at, regex_groups(out->regex));
            return false;
        }
        has_room = put_words((struct span){s.at + from, i + is_dollar - from}, at, &count);
        if (has_room && !is_dollar) {
            has_room = count < PIECES_MAX;
            if (has_room)
                at[count++] = (struct conf_piece){.var = CONF_VAR_GROUP, .group = group};
        }
        i += len;
        from = i;
    }
    if (has_room)
        has_room = put_words((struct span){s.at + from, s.len - from}, at, &count);
    if (!has_room) {
        problem(rd, n, "%s must have at most %d pieces and groups", node_path(n, path), PIECES_MAX);
        return false;
    }
    struct conf_piece *keep = count ? arena_get(rd->keep, count * sizeof *keep) : NULL;
    out->count = 0;
    if (!keep)
        return true;
    memcpy(keep, at, count * sizeof *keep);
    out->pieces = keep;
    out->count = count;
    return words_are_known(rd, n, out, is_path);
}

/* ---- rewrite.to ---- */

/* With each group as the letter x: what can be said about the path before requests come. */
static const char *to_fault(const struct conf_template *t)
{
    char text[TO_BYTES_MAX + 1];
    size_t len = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct span piece = t->pieces[i].var == CONF_VAR_NONE ? t->pieces[i].text : SPAN("x");
        memcpy(text + len, piece.at, piece.len); /* never longer than `to` */
        len += piece.len;
    }
    return path_fault((struct span){text, len});
}

static bool is_query(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] >= 0x7f || s.at[i] == '#')
            return false;
    return true;
}

void parse_rewrite_to(struct reader *rd, const struct node *pattern, const struct node *to,
                      const struct regex *match, struct conf_rules *rules)
{
    char path[NODE_PATH_BYTES];
    struct span s, query;
    const struct regex *rx = match;
    struct conf_rewrite *rw = arena_get(rd->keep, sizeof *rw);
    if (!rw)
        return;
    rw->pattern = rw->to = "";
    if (pattern) {
        if (!read_scalar(rd, pattern, &s) || !(rx = parse_regex(rd, pattern, s, false)))
            return;
        rw->pattern = arena_text(rd->keep, s);
    }
    if (!to) {
        problem(rd, pattern->key, "rewrite needs `to`, the new path, for example /users/$1");
        return;
    }
    if (!rx) {
        problem(rd, to->key,
                "rewrite needs a `pattern`, for the match of the route is no regular expression, "
                "for example { pattern: '^/u/([0-9]+)$', to: /users/$1 }");
        return;
    }
    if (!read_scalar(rd, to, &s))
        return;
    if (s.len > TO_BYTES_MAX) {
        problem(rd, to, "%s must have at most %d bytes", node_path(to, path), TO_BYTES_MAX);
        return;
    }
    rw->to = arena_text(rd->keep, s);
    s = span_cut(span_of(rw->to), '?', &query);
    rw->path.regex = rw->query.regex = rx;
    rw->has_query = query.len > 0;
    if (s.len < strlen(rw->to) && (query.len == 0 || query.at[query.len - 1] == '?')) {
        rw->drops_query = true;
        query.len -= query.len > 0;
        rw->has_query = query.len > 0;
    }
    if (!parse_template(rd, to, s, &rw->path, true) ||
        !parse_template(rd, to, query, &rw->query, true))
        return;
    const char *fault = to_fault(&rw->path);
    if (!fault && s.len > 1 && s.at[1] == '/')
        fault = "must not begin with //: that would name another host";
    if (!fault && !is_query(query))
        fault = "must hold no blanks, # or control characters behind its ?";
    if (fault) {
        problem(rd, to, "%s %s, got \"%.*s\"", node_path(to, path), fault, SHOWN(span_of(rw->to)));
        return;
    }
    rules->rewrite = rw;
}
