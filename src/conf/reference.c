/* SPDX-License-Identifier: Apache-2.0 */
/* The reference page of the configuration, from the tables. */
#include "conf/conf_int.h"

#include <ctype.h>

static const char *const apply_names[] = {"at reload", "new connections", "restart"};

/* Text in a table cell: a bar would end it. */
static void put_cell(struct buf *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '|')
            buf_putc(out, '\\');
        buf_putc(out, *c);
    }
}

static void put_words(struct buf *out, const char *words)
{
    for (struct span rest = span_of(words); rest.len;) {
        struct span one = span_cut(rest, '|', &rest);
        buf_printf(out, "`%.*s`%s", SPAN_ARG(one), rest.len ? ", " : "");
    }
}

static void put_range(struct buf *out, const struct conf_param_row *row)
{
    if (row->type == CONF_TYPE_word) {
        put_words(out, row->words);
    } else if (row->type == CONF_TYPE_words) {
        buf_puts(out, "list of ");
        put_words(out, row->words);
    } else if (row->type == CONF_TYPE_bool) {
        buf_puts(out, "`true`, `false`");
    } else if (row->type == CONF_TYPE_str) {
        buf_puts(out, "text");
    } else {
        value_print(row->type, row->min, out);
        buf_puts(out, " .. ");
        value_print(row->type, row->max, out);
    }
}

static void put_section(struct buf *out, const char *section)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    bool is_top = strcmp(section, "top") == 0;
    if (is_top)
        buf_puts(out, "\n## Top level\n");
    else
        buf_printf(out, "\n## `%s`\n", section);
    buf_puts(
        out,
        "\n| Key | Default | Range | Takes effect | What | Why |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        const struct conf_param_row *row = &rows[i];
        if (strcmp(row->section, section) != 0)
            continue;
        buf_printf(out, "| `%s%s%s` | ", is_top ? "" : section, is_top ? "" : ".", row->name);
        if (*row->def)
            buf_printf(out, "`%s`", row->def);
        buf_puts(out, " | ");
        put_range(out, row);
        buf_printf(out, " | %s | ", apply_names[row->apply]);
        put_cell(out, row->what);
        buf_puts(out, " | ");
        put_cell(out, row->why);
        buf_puts(out, " |\n");
    }
}

static void put_key_range(struct buf *out, const struct conf_key_row *row)
{
    switch (row->shape) {
    case SHAPE_WORD:
        put_words(out, row->words);
        return;
    case SHAPE_BOOL:
        buf_puts(out, "`true`, `false`");
        return;
    case SHAPE_DUR:
    case SHAPE_COUNT:
    case SHAPE_BYTES: {
        enum conf_type type = row->shape == SHAPE_DUR     ? CONF_TYPE_dur
                              : row->shape == SHAPE_BYTES ? CONF_TYPE_bytes
                                                          : CONF_TYPE_u32;
        value_print(type, row->min, out);
        buf_puts(out, " .. ");
        value_print(type, row->max, out);
        return;
    }
    case SHAPE_PCT:
        buf_printf(out, "%llu%% .. %llu%%", (unsigned long long)row->min,
                   (unsigned long long)row->max);
        return;
    case SHAPE_PER:
        buf_puts(out, "1/366d .. 10000000/s");
        return;
    case SHAPE_RATIO:
        buf_puts(out, "0.001% .. 50%");
        return;
    case SHAPE_LATENCY:
        buf_puts(out, "50% .. 99.99%, 100us .. 10m");
        return;
    case SHAPE_KNOB:
        buf_puts(out, "the knob's bounds and unit");
        return;
    case SHAPE_STR:
        buf_puts(out, "text");
        return;
    case SHAPE_OTHER:
        buf_puts(out, "list or map");
        return;
    }
}

static void put_level(struct buf *out, enum conf_level level)
{
    const struct conf_level_row *row = conf_level_row(level);
    buf_printf(out, "\n## `%s`\n\n%s\n\n| Key | Default | Range | What |\n|---|---|---|---|\n",
               row->where, row->what);
    for (int k = 0; k < KEY_COUNT; k++) {
        const struct conf_key_row *key = conf_key_row((enum conf_key)k);
        if (key->level != level || key->is_planned)
            continue;
        buf_printf(out, "| `%s` | ", key->name);
        if (key->def && *key->def && strcmp(key->def, "0") != 0)
            buf_printf(out, "`%s`", key->def);
        buf_puts(out, " | ");
        put_key_range(out, key);
        buf_puts(out, " | ");
        put_cell(out, key->what);
        buf_puts(out, " |\n");
    }
}

static void put_tune(struct buf *out)
{
    buf_puts(out, "\n| Loop | Unit | Bounds | What |\n|---|---|---|---|\n");
    for (uint16_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob_row *row = knob_row(k);
        if (row->loop == LOOP_NONE)
            continue;
        buf_puts(out, "| `");
        for (const char *c = loop_row((uint16_t)row->loop)->name; *c; c++)
            buf_putc(out, (char)tolower((unsigned char)*c));
        buf_printf(out, "` | %s | %g .. %g | ", row->unit, row->min, row->max);
        put_cell(out, row->what);
        buf_puts(out, " |\n");
    }
}

void conf_reference(struct buf *out)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    buf_puts(out, "# Configuration\n\n"
                  "Printed by `foldback reference config`; do not edit.\n\n"
                  "Durations, sizes, rates and percentages carry their unit (`250ms`, `64MiB`, "
                  "`500B/s`, `50%`): a bare\n"
                  "number is an error there, except 0. Unknown and doubled keys are errors. All "
                  "errors of a file are shown\n"
                  "at once by `foldback config check FILE`.\n\n"
                  "```yaml\n"
                  "listen: [\":8080\"]\n"
                  "services:\n"
                  "  shop:\n"
                  "    endpoints: [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n"
                  "    objective: { latency: 99% < 250ms, errors: < 0.1% }\n"
                  "routes:\n"
                  "  - { match: /checkout/, service: shop, priority: critical }\n"
                  "  - { match: /, service: shop }\n"
                  "```\n");
    for (int level = LEVEL_LISTEN; level < LEVEL_COUNT; level++) {
        put_level(out, (enum conf_level)level);
        if (level == LEVEL_TUNE)
            put_tune(out);
    }
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(rows[i].section, rows[i - 1].section) != 0)
            put_section(out, rows[i].section);
}
