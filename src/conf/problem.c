/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: collected, sorted by place, printed like a compiler does. */
#include "conf/conf_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void problem_add(struct reader *rd, struct conf_problem place, const char *fmt, va_list args)
    FB_PRINTF(3, 0);

void problem_at(struct reader *rd, uint32_t line, uint32_t column, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    problem_add(rd, (struct conf_problem){.line = line, .column = column}, fmt, args);
    va_end(args);
}

void problem(struct reader *rd, const struct node *at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    problem_add(rd, (struct conf_problem){.line = at->line, .column = at->column}, fmt, args);
    va_end(args);
}

void problem_warn(struct reader *rd, const struct node *at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    struct conf_problem place = {.line = at->line, .column = at->column, .is_warning = true};
    problem_add(rd, place, fmt, args);
    va_end(args);
}

/* A text that comes from the file may hold half of a UTF-8 character after a cut: end before it. */
static void trim_utf8(char *text)
{
    size_t len = strlen(text);
    size_t at = len;
    while (at > 0 && len - at < 4 && ((unsigned char)text[at - 1] & 0xc0) == 0x80)
        at--;
    if (at == 0)
        return;
    unsigned char lead = (unsigned char)text[at - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > len - at + 1)
        text[at - 1] = 0;
}

static void problem_add(struct reader *rd, struct conf_problem place, const char *fmt, va_list args)
{
    struct conf_report *r = rd->report;
    if (!place.is_warning)
        r->error_count++;
    if (r->count >= CONF_PROBLEMS_MAX)
        return;
    if ((r->count & (r->count - 1)) == 0) { /* room doubles at each power of two */
        size_t cap = r->count ? r->count * 2 : 1;
        struct conf_problem *grown = realloc(r->at, cap * sizeof *grown);
        if (!grown) {
            rd->scratch.failed = true;
            return;
        }
        r->at = grown;
    }
    struct conf_problem *p = &r->at[r->count++];
    *p = place;
    vsnprintf(p->text, sizeof p->text, fmt, args);
    if (strlen(p->text) == sizeof p->text - 1)
        trim_utf8(p->text);
}

/* Insertion sort: at most 100, almost sorted, and stable. */
void problem_sort(struct conf_report *r)
{
    for (size_t i = 1; i < r->count; i++) {
        struct conf_problem p = r->at[i];
        size_t k = i;
        while (k > 0 && (r->at[k - 1].line > p.line ||
                         (r->at[k - 1].line == p.line && r->at[k - 1].column > p.column))) {
            r->at[k] = r->at[k - 1];
            k--;
        }
        r->at[k] = p;
    }
}

void conf_report_fini(struct conf_report *r)
{
    free(r->at);
    free(r->text);
    *r = (struct conf_report){0};
}

static struct span line_of(struct span text, uint32_t line)
{
    struct span rest = text, one = {text.at, 0};
    for (uint32_t i = 0; i < line; i++) {
        if (rest.len == 0)
            return (struct span){text.at, 0};
        one = span_cut(rest, '\n', &rest);
    }
    if (one.len && one.at[one.len - 1] == '\r')
        one.len--;
    return one;
}

/* The source line and a caret; tabs are kept so that both lines shift alike.  A long line is cut.
 */
static void print_caret(struct span line, uint32_t column, struct buf *out)
{
    size_t from = 0, column_at = 0;
    for (uint32_t seen = 1; seen < column && column_at < line.len;
         seen++) { /* columns count characters */
        column_at++;
        while (column_at < line.len && ((unsigned char)line.at[column_at] & 0xc0) == 0x80)
            column_at++;
    }
    if (column_at > 100) {
        from = column_at - 60;
        while (from < column_at && ((unsigned char)line.at[from] & 0xc0) == 0x80)
            from++;
    }
    size_t to = line.len - from > 140 ? from + 140 : line.len;
    while (to < line.len && to > from && ((unsigned char)line.at[to] & 0xc0) == 0x80)
        to--;
    buf_puts(out, "    ");
    for (size_t i = from; i < to; i++) {
        unsigned char c = (unsigned char)line.at[i];
        buf_putc(out, (c < 0x20 && c != '\t') || c == 0x7f ? '?' : line.at[i]);
    }
    buf_puts(out, "\n    ");
    for (size_t i = from; i < column_at && i < to; i++)
        if (((unsigned char)line.at[i] & 0xc0) != 0x80)
            buf_putc(out, line.at[i] == '\t' ? '\t' : ' ');
    buf_puts(out, "^\n");
}

void conf_report_print(const struct conf_report *r, const char *file, struct span text,
                       struct buf *out)
{
    const char *name = file && *file ? file : "(command line)";
    if (!text.at)
        text = (struct span){r->text, r->text_bytes};
    for (size_t i = 0; i < r->count; i++) {
        const struct conf_problem *p = &r->at[i];
        buf_printf(out, "%s:%u:%u: %s: %s\n", name, p->line, p->column,
                   p->is_warning ? "warning" : "error", p->text);
        struct span line = line_of(text, p->line);
        if (line.len)
            print_caret(line, p->column, out);
    }
    if (r->error_count)
        buf_printf(out, "%s: %zu error%s\n", name, r->error_count, r->error_count == 1 ? "" : "s");
}

const char *node_path(const struct node *n, char out[NODE_PATH_BYTES])
{
    const struct node *chain[CONF_DEPTH_MAX + 2];
    size_t count = 0, len = 0;
    for (; n && n->parent && count < FB_COUNT(chain); n = n->parent)
        chain[count++] = n;
    out[0] = 0;
    while (count-- > 0) {
        const struct node *at = chain[count];
        int put;
        if (at->key) {
            put = snprintf(out + len, NODE_PATH_BYTES - len, "%s%.*s", len ? "." : "",
                           SHOWN(at->key->text));
        } else {
            size_t index = 0;
            for (const struct node *k = at->parent->first; k != at; k = k->next)
                index++;
            put = snprintf(out + len, NODE_PATH_BYTES - len, "[%zu]", index);
        }
        if (put < 0 || (size_t)put >= NODE_PATH_BYTES - len)
            break;
        len += (size_t)put;
    }
    trim_utf8(out);
    return out;
}

/* Edit distance with swaps of neighbours (optimal string alignment); both short. */
static size_t edit_distance(struct span a, struct span b)
{
    enum { MOST = 40 };
    size_t row[3][MOST + 1];
    if (a.len > MOST || b.len > MOST)
        return MOST;
    for (size_t k = 0; k <= b.len; k++)
        row[0][k] = k;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *now = row[i % 3], *was = row[(i - 1) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t k = 1; k <= b.len; k++) {
            size_t swap = was[k - 1] + (a.at[i - 1] == b.at[k - 1] ? 0 : 1);
            size_t best = swap < was[k] + 1 ? swap : was[k] + 1;
            if (now[k - 1] + 1 < best)
                best = now[k - 1] + 1;
            if (i > 1 && k > 1 && a.at[i - 1] == b.at[k - 2] && a.at[i - 2] == b.at[k - 1] &&
                before[k - 2] + 1 < best)
                best = before[k - 2] + 1;
            now[k] = best;
        }
    }
    return row[a.len % 3][b.len];
}

void near_try(struct near *near, const char *name)
{
    size_t distance = edit_distance(near->word, span_of(name));
    size_t longest = strlen(name) > near->word.len ? strlen(name) : near->word.len;
    if (distance > longest / 3)
        return;
    if (!near->best || distance < near->best_distance) {
        near->best = name;
        near->best_distance = distance;
    }
}
