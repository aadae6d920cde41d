/* SPDX-License-Identifier: Apache-2.0 */
#include "query/print.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Cells of a table are cut here, so that one text does not make every line unreadable. */
#define CELL_WIDTH_MAX 120

static bool on_head(void *arg, const char *const *names, uint32_t count);
static bool on_row(void *arg, const struct query_value *values, uint32_t count);

int print_format_by_name(const char *name)
{
    static const char *const names[PRINT_FORMATS] = {"table", "json", "jsonl", "csv"};
    for (int i = 0; i < PRINT_FORMATS; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

void print_init(struct print *p, FILE *to, enum print_format format)
{
    *p = (struct print){.to = to, .format = format};
    buf_init(&p->line, 32 * MIB);
    buf_init(&p->look, 32 * MIB);
}

void print_fini(struct print *p)
{
    for (uint32_t i = 0; p->name && i < p->columns; i++)
        free(p->name[i]);
    free(p->name);
    free(p->width);
    free(p->is_right);
    buf_fini(&p->line);
    buf_fini(&p->look);
}

struct query_sink print_sink(struct print *p)
{
    return (struct query_sink){.on_head = on_head, .on_row = on_row, .arg = p};
}

static bool flush_line(struct print *p)
{
    if (p->line.failed || (p->line.len && fwrite(p->line.at, 1, p->line.len, p->to) != p->line.len))
        p->has_failed = true;
    buf_clear(&p->line);
    return !p->has_failed;
}

/* Code points, which is what a terminal shows of the scripts that names are written in. */
static uint32_t width_of(const char *text)
{
    uint32_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void put_number(struct buf *out, const struct query_value *v)
{
    if (v->type == QUERY_INTEGER) {
        buf_printf(out, "%" PRId64, v->integer);
        return;
    }
    char text[40];
    snprintf(text, sizeof text, "%.15g", v->real);
    if (strtod(text, NULL) != v->real)
        snprintf(text, sizeof text, "%.17g", v->real);
    buf_puts(out, text);
}

/* ---- CSV ---- */

static void put_csv(struct buf *out, struct span text)
{
    bool is_plain = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        is_plain &=
            text.at[i] != ',' && text.at[i] != '"' && text.at[i] != '\n' && text.at[i] != '\r';
    if (is_plain) {
        buf_put_span(out, text);
        return;
    }
    buf_putc(out, '"'); /* also an empty text: NULL is nothing at all */
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, text.at[i]);
    }
    buf_putc(out, '"');
}

static bool csv_row(struct print *p, const struct query_value *v)
{
    for (uint32_t i = 0; i < p->columns; i++) {
        if (i)
            buf_putc(&p->line, ',');
        if (v[i].type == QUERY_TEXT)
            put_csv(&p->line, v[i].text);
        else if (v[i].type != QUERY_NULL)
            put_number(&p->line, &v[i]);
    }
    buf_puts(&p->line, "\r\n");
    return flush_line(p);
}

/* ---- JSON ---- */

static bool json_row(struct print *p, const struct query_value *v)
{
    struct json j;
    if (p->format == PRINT_JSON)
        buf_puts(&p->line, p->rows ? ",\n " : " ");
    json_init(&j, &p->line);
    json_object_begin(&j);
    for (uint32_t i = 0; i < p->columns; i++) {
        json_key(&j, p->name[i]);
        switch (v[i].type) {
        case QUERY_INTEGER:
            json_i64(&j, v[i].integer);
            break;
        case QUERY_REAL:
            json_f64_exact(&j, v[i].real);
            break;
        case QUERY_TEXT:
            json_span(&j, v[i].text);
            break;
        case QUERY_NULL:
            json_nil(&j);
        }
    }
    json_object_end(&j);
    if (p->format == PRINT_JSONL)
        buf_putc(&p->line, '\n');
    return flush_line(p);
}

/* ---- table ---- */

/* One cell as text without control bytes, with its end. */
static void put_cell(struct buf *out, const struct query_value *v)
{
    if (v->type == QUERY_NULL)
        buf_putc(out, '-');
    else if (v->type == QUERY_REAL)
        buf_printf(out, "%.6g", v->real);
    else if (v->type == QUERY_INTEGER)
        put_number(out, v);
    for (size_t i = 0; v->type == QUERY_TEXT && i < v->text.len; i++) {
        unsigned char c = (unsigned char)v->text.at[i];
        if (i >= CELL_WIDTH_MAX && (c & 0xc0) != 0x80) {
            buf_puts(out, "...");
            break;
        }
        buf_putc(out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
    buf_putc(out, '\0');
}

static void pad(struct buf *out, uint32_t n)
{
    while (n-- > 0)
        buf_putc(out, ' ');
}

static void put_padded(struct print *p, uint32_t column, const char *text)
{
    uint32_t have = width_of(text), want = p->width[column];
    bool is_last = column + 1 == p->columns;
    uint32_t more = have < want ? want - have : 0;
    if (p->is_right[column])
        pad(&p->line, more);
    buf_puts(&p->line, text);
    if (!p->is_right[column] && !is_last)
        pad(&p->line, more);
    buf_puts(&p->line, is_last ? "\n" : "  ");
}

/* The head and the rows that were looked at. */
static bool end_look(struct print *p)
{
    p->is_looking = false;
    for (uint32_t i = 0; i < p->columns; i++)
        put_padded(p, i, p->name[i]);
    bool is_fine = flush_line(p);
    uint32_t column = 0;
    for (size_t at = 0; is_fine && at < p->look.len; at += strlen(p->look.at + at) + 1) {
        put_padded(p, column, p->look.at + at);
        column = (column + 1) % p->columns;
        if (column == 0)
            is_fine = flush_line(p);
    }
    if (p->look.failed)
        p->has_failed = true;
    return is_fine;
}

static bool table_row(struct print *p, const struct query_value *v)
{
    struct buf *look = &p->look;
    if (!p->is_looking)
        buf_clear(look);
    for (uint32_t i = 0; i < p->columns; i++) {
        size_t at = look->len;
        put_cell(look, &v[i]);
        if (look->failed)
            break;
        if (p->is_looking) {
            uint32_t width = width_of(look->at + at);
            p->width[i] = width > p->width[i] ? width : p->width[i];
            if (p->rows == 0)
                p->is_right[i] = v[i].type == QUERY_INTEGER || v[i].type == QUERY_REAL;
        } else {
            put_padded(p, i, look->at + at);
        }
    }
    if (!p->is_looking)
        return flush_line(p);
    return p->rows + 1 < PRINT_LOOK_ROWS ? !look->failed : end_look(p);
}

/* ---- all ---- */

static bool on_head(void *arg, const char *const *names, uint32_t count)
{
    struct print *p = arg;
    p->columns = count;
    p->name = calloc(count + 1, sizeof *p->name);
    p->width = calloc(count + 1, sizeof *p->width);
    p->is_right = calloc(count + 1, sizeof *p->is_right);
    p->has_failed = !p->name || !p->width || !p->is_right;
    for (uint32_t i = 0; !p->has_failed && i < count; i++) {
        p->name[i] = strdup(names[i]);
        p->has_failed = !p->name[i];
        if (p->name[i])
            p->width[i] = width_of(p->name[i]);
    }
    if (p->has_failed)
        return false;
    p->is_looking = p->format == PRINT_TABLE;
    if (p->format == PRINT_JSON)
        buf_puts(&p->line, "[\n");
    for (uint32_t i = 0; p->format == PRINT_CSV && i < count; i++) {
        put_csv(&p->line, span_of(p->name[i]));
        buf_puts(&p->line, i + 1 < count ? "," : "\r\n");
    }
    return flush_line(p);
}

static bool on_row(void *arg, const struct query_value *values, uint32_t count)
{
    struct print *p = arg;
    fb_assert(count == p->columns);
    bool goes_on = p->format == PRINT_TABLE ? table_row(p, values)
                   : p->format == PRINT_CSV ? csv_row(p, values)
                                            : json_row(p, values);
    p->rows++;
    return goes_on;
}

bool print_end(struct print *p)
{
    if (p->is_looking)
        end_look(p);
    if (p->format == PRINT_JSON && p->name) {
        buf_puts(&p->line, p->rows ? "\n]\n" : "]\n");
        flush_line(p);
    }
    return fflush(p->to) == 0 && !p->has_failed;
}
