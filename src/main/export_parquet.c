/* SPDX-License-Identifier: Apache-2.0 */
#include "main/export_parquet.h"

#include "query/value.h"

static enum parquet_type integer_of(const struct column *c)
{
    if (c->kind == COLUMN_ORIGIN)
        return PARQUET_U8;
    if (c->kind == COLUMN_SEQUENCE)
        return PARQUET_U32;
    if (c->kind != COLUMN_FIELD)
        return PARQUET_I64;
    return c->field->type == EV_FT_u8    ? PARQUET_U8
           : c->field->type == EV_FT_u16 ? PARQUET_U16
           : c->field->type == EV_FT_u32 ? PARQUET_U32
                                         : PARQUET_I64;
}

static struct parquet_column column_of(const struct column *c)
{
    struct parquet_column p = {.name = c->name};
    p.type = c->kind == COLUMN_TIME ? PARQUET_TIME_US
             : c->is_text           ? PARQUET_TEXT
             : c->is_real           ? PARQUET_F64
                                    : integer_of(c);
    bool is_hidden_number = !c->is_text && c->field && c->field->privacy == EV_PERSONAL;
    p.is_optional = c->kind == COLUMN_WORD || p.type == PARQUET_F64 || is_hidden_number;
    return p;
}

enum fb_code export_parquet_begin(struct export_parquet *x, uint8_t type,
                                  const struct parquet_to *to, struct fb_err *err)
{
    struct json j;
    *x = (struct export_parquet){.table = column_table(type)};
    buf_init(&x->units, 64 * KIB);
    json_init(&j, &x->units);
    json_object_begin(&j);
    for (uint32_t i = 0; i < x->table->count; i++) {
        const struct column *c = &x->table->at[i];
        x->columns[i] = column_of(c);
        if (c->unit[0])
            json_key_str(&j, c->name, c->unit);
    }
    json_object_end(&j);
    if (x->units.failed)
        return fb_fail(err, FB_E_NOMEM, "no memory for a Parquet file");
    x->notes[0] = (struct parquet_note){SPAN("foldback.events"), span_of(x->table->name)};
    x->notes[1] = (struct parquet_note){SPAN("foldback.units"), buf_span(&x->units)};
    return parquet_open(&x->file,
                        &(struct parquet_conf){.columns = x->columns,
                                               .column_count = x->table->count,
                                               .sorted_by = 0, /* offset */
                                               .notes = x->notes,
                                               .note_count = FB_COUNT(x->notes)},
                        to, err);
}

enum fb_code export_parquet_put(struct export_parquet *x, const struct scan_event *event,
                                const struct names *names, bool is_redacted, struct fb_err *err)
{
    struct query_value row[COLUMNS_MAX];
    char room[COLUMNS_MAX][VALUE_ROOM];
    for (uint32_t i = 0; i < x->table->count; i++) {
        const struct column *c = &x->table->at[i];
        if (c->kind == COLUMN_TIME)
            row[i] =
                (struct query_value){.type = QUERY_INTEGER, .integer = (int64_t)event->wall_us};
        else
            row[i] = column_value(c, event, names, is_redacted, room[i]);
        if (row[i].type == QUERY_TEXT && x->columns[i].type != PARQUET_TEXT)
            row[i].type = QUERY_NULL; /* the "-" of a number that is hidden */
    }
    return parquet_row(x->file, row, err);
}

enum fb_code export_parquet_end(struct export_parquet *x, struct fb_err *err)
{
    return parquet_end(x->file, err);
}

void export_parquet_fini(struct export_parquet *x)
{
    parquet_free(x->file);
    x->file = NULL;
    buf_fini(&x->units);
}
