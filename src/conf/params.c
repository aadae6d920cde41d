/* SPDX-License-Identifier: Apache-2.0 */
/* The table of params.def: defaults, reading, printing. */
#include "base/assert.h"
#include "conf/conf_int.h"

#include <stdio.h>

/* A row whose type word is unknown does not compile: it has no conf_<type>. */
static const struct conf_param_row rows[] = {
#define PARAM(sec, nam, typ, ...)                                                                  \
    {.section = #sec,                                                                              \
     .name = #nam,                                                                                 \
     .type = CONF_TYPE_##typ,                                                                      \
     .offset = offsetof(struct conf_params, sec##_##nam),                                          \
     __VA_ARGS__},
#include "conf/params.def"
#undef PARAM
};
_Static_assert(FB_COUNT(rows) <= CONF_PARAMS_MAX, "params.def: raise CONF_PARAMS_MAX");

const struct conf_param_row *conf_param_rows(size_t *count)
{
    *count = FB_COUNT(rows);
    return rows;
}

static void store(struct conf_params *p, const struct conf_param_row *row, uint64_t value)
{
    void *at = (char *)p + row->offset;
    switch (row->type) {
    case CONF_TYPE_u32:
    case CONF_TYPE_words:
    case CONF_TYPE_pct:
        *(conf_u32 *)at = (conf_u32)value;
        return;
    case CONF_TYPE_bytes:
    case CONF_TYPE_dur:
    case CONF_TYPE_rate:
        *(uint64_t *)at = value;
        return;
    case CONF_TYPE_bool:
        *(conf_bool *)at = value != 0;
        return;
    case CONF_TYPE_word:
        *(conf_word *)at = (conf_word)value;
        return;
    case CONF_TYPE_str:
        break;
    }
    fb_assert(row->type != CONF_TYPE_str);
}

uint64_t params_value(const struct conf_param_row *row, const struct conf_params *p)
{
    const void *at = (const char *)p + row->offset;
    switch (row->type) {
    case CONF_TYPE_u32:
    case CONF_TYPE_words:
    case CONF_TYPE_pct:
        return *(const conf_u32 *)at;
    case CONF_TYPE_bytes:
    case CONF_TYPE_dur:
    case CONF_TYPE_rate:
        return *(const uint64_t *)at;
    case CONF_TYPE_bool:
        return *(const conf_bool *)at;
    case CONF_TYPE_word:
        return *(const conf_word *)at;
    case CONF_TYPE_str:
        break;
    }
    fb_assert(row->type != CONF_TYPE_str);
    return 0;
}

static const char **text_at(struct conf_params *p, const struct conf_param_row *row)
{
    fb_assert(row->type == CONF_TYPE_str);
    return (const char **)(void *)((char *)p + row->offset);
}

static bool is_auto(const struct conf_param_row *row)
{
    return row->type == CONF_TYPE_u32 && strcmp(row->def, "auto") == 0;
}

/* Of a default, as it would be written: "[a, b]". */
static uint64_t words_of_text(const char *text, const char *words)
{
    struct span rest = span_of(text);
    uint64_t value = 0;
    fb_assert(rest.len >= 2 && rest.at[0] == '[' && rest.at[rest.len - 1] == ']');
    rest = (struct span){rest.at + 1, rest.len - 2};
    while (rest.len) {
        int word = value_word(span_trim(span_cut(rest, ',', &rest)), words);
        fb_assert(word >= 0);
        value |= UINT64_C(1) << word;
    }
    return value;
}

static void print_words(uint64_t value, const char *words, struct buf *out)
{
    struct span rest = span_of(words);
    const char *before = "[";
    buf_puts(out, value ? "" : "[");
    for (uint32_t i = 0; rest.len; i++) {
        struct span word = span_cut(rest, '|', &rest);
        if (!(value >> i & 1))
            continue;
        buf_puts(out, before);
        buf_put_span(out, word);
        before = ", ";
    }
    buf_putc(out, ']');
}

void params_default(struct conf_params *p)
{
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const struct conf_param_row *row = &rows[i];
        uint64_t value = 0;
        if (row->type == CONF_TYPE_str) {
            *text_at(p, row) = row->def;
            continue;
        }
        if (row->type == CONF_TYPE_word) {
            int word = value_word(span_of(row->def), row->words);
            fb_assert(word >= 0);
            value = (uint64_t)word;
        } else if (row->type == CONF_TYPE_words) {
            value = words_of_text(row->def, row->words);
        } else if (!is_auto(row)) {
            enum value_fault fault = value_of_type(row->type, span_of(row->def), &value);
            fb_assert(fault == VALUE_OK);
        }
        store(p, row, value);
    }
}

const struct conf_param_row *params_find(struct span section, struct span name)
{
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (span_eq(section, span_of(rows[i].section)) && span_eq(name, span_of(rows[i].name)))
            return &rows[i];
    return NULL;
}

void params_read(struct reader *rd, const struct node *value, const struct conf_param_row *row)
{
    struct conf_params *p = &rd->conf->p;
    uint64_t number = 0;
    bool is_on = false;
    int word = 0;
    bool is_good = false;
    switch (row->type) {
    case CONF_TYPE_str:
        is_good = read_str(rd, value, text_at(p, row));
        break;
    case CONF_TYPE_bool:
        is_good = read_bool(rd, value, &is_on);
        store(p, row, is_on);
        break;
    case CONF_TYPE_word:
        is_good = read_word(rd, value, row->words, &word);
        store(p, row, (uint64_t)word);
        break;
    case CONF_TYPE_words:
        is_good = read_words(rd, value, row->words, &number);
        store(p, row, number);
        break;
    default:
        if (is_auto(row) && value->kind == NODE_SCALAR && span_eq(value->text, SPAN("auto")))
            is_good = true;
        else
            is_good =
                read_number(rd, value, row->type, (struct conf_range){row->min, row->max}, &number);
        store(p, row, number);
        break;
    }
    if (is_good)
        rd->private->param_line[row - rows] = value->line;
}

void conf_param_print(const struct conf_param_row *row, const struct conf_params *p,
                      struct buf *out)
{
    if (row->type == CONF_TYPE_str) {
        buf_puts(out, *(const char *const *)(const void *)((const char *)p + row->offset));
        return;
    }
    uint64_t value = params_value(row, p);
    if (row->type == CONF_TYPE_word) {
        struct span rest = span_of(row->words), word = {0};
        for (uint64_t i = 0; i <= value; i++)
            word = span_cut(rest, '|', &rest);
        buf_put_span(out, word);
        return;
    }
    if (row->type == CONF_TYPE_words) {
        print_words(value, row->words, out);
        return;
    }
    if (is_auto(row) && value == 0) {
        buf_puts(out, "auto");
        return;
    }
    value_print(row->type, value, out);
}
