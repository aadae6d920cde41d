/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>

static size_t width_of(const char *text);
static void print_cell(struct buf *out, const char *text, size_t width, bool is_right,
                       bool is_last);

void table_init(struct table *t, const char *const *heads, size_t count)
{
    fb_assert(count > 0 && count <= TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = count};
    for (size_t i = 0; i < count; i++)
        t->head[i] = heads[i];
    buf_init(&t->text, TABLE_BYTES_MAX);
}

void table_fini(struct table *t)
{
    buf_fini(&t->text);
}

void table_put(struct table *t, const char *text)
{
    buf_put(&t->text, text[0] ? text : "-", (text[0] ? strlen(text) : 1) + 1);
    t->cells += !t->text.failed;
}

void table_putf(struct table *t, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    table_put(t, text);
}

void table_print(const struct table *t, bool has_color, struct buf *out)
{
    size_t width[TABLE_COLUMNS_MAX];
    for (size_t c = 0; c < t->columns; c++)
        width[c] = width_of(t->head[c] + (t->head[c][0] == '>'));
    const char *at = t->text.at;
    for (size_t i = 0; i < t->cells; i++, at += strlen(at) + 1) {
        size_t w = width_of(at);
        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    if (has_color)
        buf_puts(out, "\033[1m");
    for (size_t c = 0; c < t->columns; c++) {
        bool is_right = t->head[c][0] == '>';
        print_cell(out, t->head[c] + is_right, width[c], is_right, c + 1 == t->columns);
    }
    buf_puts(out, has_color ? "\033[0m\n" : "\n");
    at = t->text.at;
    for (size_t i = 0; i < t->cells; i++, at += strlen(at) + 1) {
        size_t c = i % t->columns;
        print_cell(out, at, width[c], t->head[c][0] == '>', c + 1 == t->columns);
        if (c + 1 == t->columns)
            buf_putc(out, '\n');
    }
    if (t->text.failed)
        buf_puts(out, "(more than fits here; ask for less, or use --json)\n");
}

/* Code points: every byte that does not continue one. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(struct buf *out, const char *text, size_t width, bool is_right, bool is_last)
{
    size_t pad = width - width_of(text);
    if (is_right)
        buf_printf(out, "%*s", (int)pad, "");
    buf_puts(out, text);
    if (!is_right && !is_last)
        buf_printf(out, "%*s", (int)pad, "");
    if (!is_last)
        buf_puts(out, "  ");
}
