/* SPDX-License-Identifier: Apache-2.0 */
/* Writing gathers one field of all records of a type into c->value (at most 32 KiB: it stays in the
 * first-level cache), chooses a mode, and lays the coded values down as planes.  Reading goes the
 * same way back.  Planes instead of varints: no branch per byte, and zstd takes the empty ones. */
#include "stream/column.h"

#include "base/assert.h"
#include "base/mix.h"

enum column_mode { COL_CONST, COL_PLAIN, COL_DELTA, COL_DELTA_ORIGIN, COL_MINUS, COL_COUNTED };

/* Below this a plane shares its code table with the next one: a table costs about 40 bytes. */
#define CUT_BYTES_MIN 384

/* Values that decide which mode a column gets. */
#define TRIED 512
/* Counts of one thread differ by less: requests that end while others last. */
#define NEAR (UINT64_C(1) << 24)

/* What a mode would cost. */
struct trial {
    uint64_t sum; /* of the coded values */
};

/* One column as the coder sees it: <n> values of <width> bytes in c->value. */
struct column {
    uint32_t n;
    uint8_t width;
    bool has_other; /* c->other holds an earlier field */
    uint8_t other;  /* index of that field */
};

static uint64_t width_mask(uint8_t width);
static uint64_t zigzag(uint64_t difference, uint8_t width);
static uint64_t unzigzag(uint64_t z);
static uint64_t load(const unsigned char *at, uint8_t width);
static void store(unsigned char *at, uint64_t v, uint8_t width);
static bool index_records(struct columns *c, const unsigned char *raw, size_t len);
static void group_by_type(struct columns *c, const unsigned char *raw);
static void write_heads(struct columns *c, const unsigned char *raw);
static void write_type(struct columns *c, const unsigned char *raw, uint8_t type);
static void write_column(struct columns *c, const struct column *col);
static bool are_counted(struct columns *c, uint32_t n);
static void write_text(struct columns *c, const unsigned char *raw, const uint16_t *row,
                       const struct ev_field_row *f, uint32_t n);
static int other_field(const struct ev_type_row *type, int field);

enum fb_code column_write(struct columns *c, struct span records)
{
    const unsigned char *raw = (const void *)records.at;
    c->descriptor_len = 0;
    c->plane_len = 0;
    c->cut_count = 0;
    c->has_counted = false;
    if (!index_records(c, raw, records.len))
        return FB_E_FORMAT;
    group_by_type(c, raw);
    write_heads(c, raw);
    for (uint8_t type = 1; type < EV_TYPE_END; type++)
        if (c->type_start[type + 1] > c->type_start[type])
            write_type(c, raw, type);
    return FB_OK;
}

/* Where each record begins; false when one of them is not a record. */
static bool index_records(struct columns *c, const unsigned char *raw, size_t len)
{
    fb_assert(len <= BLOCK_RAW_BYTES_MAX);
    size_t at = 0;
    c->rows = 0;
    while (at < len) {
        const struct ev_head *ev = (const void *)(raw + at);
        if (len - at < EV_CELL_BYTES || !ev_is_valid(ev))
            return false;
        size_t bytes = (size_t)ev->cells * EV_CELL_BYTES;
        if (bytes > len - at)
            return false;
        fb_assert(c->rows < COLUMN_ROWS_MAX);
        c->row_at[c->rows++] = (uint32_t)at;
        at += bytes;
    }
    return c->rows > 0;
}

/* A counting sort: the order inside a type is kept, so that deltas stay small. */
static void group_by_type(struct columns *c, const unsigned char *raw)
{
    uint32_t next[EV_TYPE_END + 1] = {0};
    for (uint32_t i = 0; i < c->rows; i++)
        next[raw[c->row_at[i]] + 1]++; /* type < EV_TYPE_END: checked when indexed or placed */
    for (uint32_t t = 0; t < EV_TYPE_END; t++)
        next[t + 1] += next[t];
    fb_assert(next[EV_TYPE_END] == c->rows);
    memcpy(c->type_start, next, sizeof next);
    for (uint32_t i = 0; i < c->rows; i++)
        c->by_type[next[raw[c->row_at[i]]]++] = (uint16_t)i;
}

/* ---- writing ---- */

#define HEAD(raw, c, i) ((const struct ev_head *)(const void *)((raw) + (c)->row_at[i]))

static void write_heads(struct columns *c, const unsigned char *raw)
{
    for (uint32_t i = 0; i < c->rows; i++)
        c->value[i] = HEAD(raw, c, i)->type;
    write_column(c, &(struct column){.n = c->rows, .width = 1});
    for (uint32_t i = 0; i < c->rows; i++)
        c->value[i] = c->origin[i] = HEAD(raw, c, i)->origin;
    write_column(c, &(struct column){.n = c->rows, .width = 1});
    for (uint32_t i = 0; i < c->rows; i++)
        c->value[i] = HEAD(raw, c, i)->sequence;
    write_column(c, &(struct column){.n = c->rows, .width = 4});
    for (uint32_t i = 0; i < c->rows; i++)
        c->value[i] = HEAD(raw, c, i)->time_us;
    write_column(c, &(struct column){.n = c->rows, .width = 8});
}

/* Which records: those of one type. */
struct rows {
    const uint16_t *row;
    uint32_t n;
};

/* One field of some records.  The cases differ in the width only, which the compiler then knows. */
static void gather(struct columns *c, struct rows rows, const unsigned char *raw,
                   const struct ev_field_row *f, uint64_t *to)
{
    const unsigned char *base = raw + f->offset;
    const uint16_t *row = rows.row;
    uint32_t n = rows.n;
    switch (f->bytes) {
    case 1:
        for (uint32_t i = 0; i < n; i++)
            to[i] = base[c->row_at[row[i]]];
        break;
    case 2:
        for (uint32_t i = 0; i < n; i++)
            to[i] = load(base + c->row_at[row[i]], 2);
        break;
    case 4:
        for (uint32_t i = 0; i < n; i++)
            to[i] = load(base + c->row_at[row[i]], 4);
        break;
    default:
        for (uint32_t i = 0; i < n; i++)
            to[i] = load(base + c->row_at[row[i]], 8);
    }
}

static void write_type(struct columns *c, const unsigned char *raw, uint8_t type)
{
    const struct ev_type_row *t = ev_type_row(type);
    const uint16_t *row = c->by_type + c->type_start[type];
    uint32_t n = c->type_start[type + 1] - c->type_start[type];
    for (uint32_t i = 0; i < n; i++)
        c->origin[i] = HEAD(raw, c, row[i])->origin;
    for (int k = 0; k < t->field_count; k++) {
        const struct ev_field_row *f = &t->fields[k];
        if (f->type == EV_FT_text) {
            write_text(c, raw, row, f, n);
            continue;
        }
        fb_assert(f->bytes <= 8);
        struct column col = {.n = n, .width = (uint8_t)f->bytes};
        int other = other_field(t, k);
        if (other >= 0) {
            col.has_other = true;
            col.other = (uint8_t)other;
            gather(c, (struct rows){row, n}, raw, &t->fields[other], c->other);
        }
        gather(c, (struct rows){row, n}, raw, f, c->value);
        write_column(c, &col);
    }
}

/* The field before, when both are times: parts of one span of time grow together. */
static int other_field(const struct ev_type_row *type, int field)
{
    if (field == 0)
        return -1;
    const struct ev_field_row *f = &type->fields[field], *before = f - 1;
    if (f->type != EV_FT_u32 || before->type != EV_FT_u32)
        return -1;
    return strcmp(f->unit, "us") == 0 && strcmp(before->unit, "us") == 0 ? field - 1 : -1;
}

/* The caller wrote <len> bytes; a cut follows when they are worth a table of codes. */
static void put_plane(struct columns *c, size_t len)
{
    c->plane_len += len;
    fb_assert(c->plane_len <= COLUMN_PLANE_BYTES_MAX);
    uint32_t last = c->cut_count ? c->cut[c->cut_count - 1] : 0;
    if (c->plane_len - last >= CUT_BYTES_MIN && c->cut_count < COLUMN_CUTS_MAX)
        c->cut[c->cut_count++] = (uint32_t)c->plane_len;
}

static void put_descriptor(struct columns *c, uint64_t v, uint8_t bytes)
{
    fb_assert(c->descriptor_len + 8 <= COLUMN_DESCRIPTOR_BYTES_MAX);
    store(c->descriptor + c->descriptor_len, v, bytes);
    c->descriptor_len += bytes;
}

/* Bytes that hold <v>; 0 for 0. */
static uint8_t bytes_of(uint64_t v)
{
    return (uint8_t)(v ? (71 - __builtin_clzll(v)) / 8 : 0);
}

/* Counts, but for a few strangers: three of four values stand near the one before of their origin.
 */
static bool are_counted(struct columns *c, uint32_t n)
{
    uint64_t last[256], first = unmix_u64(c->value[0] ^ c->salt);
    uint32_t near = 0;
    for (int i = 0; i < 256; i++)
        last[i] = first;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = unmix_u64(c->value[i] ^ c->salt);
        near += zigzag(v - last[c->origin[i]], 8) < NEAR;
        last[c->origin[i]] = v;
    }
    return near * 4 >= n * 3;
}

/* Sums without the lowest byte: noise there costs the same in every mode. */
static void try_modes(struct columns *c, const struct column *col, struct trial t[5])
{
    uint64_t last[256], before = c->value[0];
    for (int i = 0; i < 256; i++)
        last[i] = before;
    /* The first ones decide which mode; its planes are counted over all. */
    uint32_t n = fb_min_u32(col->n, TRIED);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = c->value[i];
        uint64_t d = zigzag(v - before, col->width);
        uint64_t o = zigzag(v - last[c->origin[i]], col->width);
        t[COL_PLAIN].sum += v >> 8;
        t[COL_DELTA].sum += d >> 8;
        t[COL_DELTA_ORIGIN].sum += o >> 8;
        before = last[c->origin[i]] = v;
    }
    if (!col->has_other)
        return;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t m = zigzag(c->value[i] - c->other[i], col->width);
        t[COL_MINUS].sum += m >> 8;
    }
}

static enum column_mode choose_mode(struct columns *c, const struct column *col)
{
    /* Routes, statuses, flags: names rather than quantities, differences say nothing. */
    if (col->width < 4)
        return COL_PLAIN;
    struct trial t[5] = {{0}};
    try_modes(c, col, t);
    enum column_mode best = COL_PLAIN;
    for (enum column_mode m = COL_DELTA; m <= COL_MINUS; m++) {
        if (m == COL_MINUS && !col->has_other)
            continue;
        /* By origin only when it saves half: one global clock needs no memory of origins. */
        uint64_t sum = m == COL_DELTA_ORIGIN ? t[m].sum * 2 : t[m].sum;
        if (sum < t[best].sum)
            best = m;
    }
    /* Noise in every other mode?  Only then is it worth the look. */
    uint32_t n = fb_min_u32(col->n, TRIED);
    if (col->width == 8 && t[best].sum / n > NEAR && are_counted(c, n))
        return COL_COUNTED;
    return best;
}

/* c->coded = the values in <mode>; returns them or-ed. */
static uint64_t code_values(struct columns *c, const struct column *col, enum column_mode mode)
{
    uint64_t bits = 0, last[256], before = c->value[0];
    switch (mode) {
    case COL_DELTA:
        for (uint32_t i = 0; i < col->n; i++) {
            bits |= c->coded[i] = zigzag(c->value[i] - before, col->width);
            before = c->value[i];
        }
        break;
    case COL_DELTA_ORIGIN:
        for (int i = 0; i < 256; i++)
            last[i] = before;
        for (uint32_t i = 0; i < col->n; i++) {
            bits |= c->coded[i] = zigzag(c->value[i] - last[c->origin[i]], col->width);
            last[c->origin[i]] = c->value[i];
        }
        break;
    case COL_MINUS:
        for (uint32_t i = 0; i < col->n; i++)
            bits |= c->coded[i] = zigzag(c->value[i] - c->other[i], col->width);
        break;
    case COL_COUNTED:
        before = unmix_u64(before ^ c->salt);
        for (int i = 0; i < 256; i++)
            last[i] = before;
        for (uint32_t i = 0; i < col->n; i++) {
            uint64_t v = unmix_u64(c->value[i] ^ c->salt);
            bits |= c->coded[i] = zigzag(v - last[c->origin[i]], 8);
            last[c->origin[i]] = v;
        }
        break;
    default:
        for (uint32_t i = 0; i < col->n; i++)
            bits |= c->coded[i] = c->value[i];
    }
    return bits;
}

static void write_column(struct columns *c, const struct column *col)
{
    fb_assert(col->n > 0);
    fb_assert(col->n <= COLUMN_ROWS_MAX);
    uint64_t differ = 0;
    for (uint32_t i = 1; i < col->n; i++)
        differ |= c->value[i] ^ c->value[0];
    if (differ == 0) {
        uint8_t bytes = bytes_of(c->value[0]);
        put_descriptor(c, COL_CONST, 1);
        put_descriptor(c, bytes, 1);
        put_descriptor(c, c->value[0], bytes);
        return;
    }
    enum column_mode mode = choose_mode(c, col);
    fb_assert(mode != COL_MINUS || col->has_other);
    uint8_t planes = bytes_of(code_values(c, col, mode));
    fb_assert(planes <= col->width);
    put_descriptor(c, mode, 1);
    put_descriptor(c, planes, 1);
    if (mode == COL_DELTA || mode == COL_DELTA_ORIGIN)
        put_descriptor(c, c->value[0], 8);
    else if (mode == COL_MINUS)
        put_descriptor(c, col->other, 1);
    else if (mode == COL_COUNTED) {
        put_descriptor(c, unmix_u64(c->value[0] ^ c->salt), 8);
        put_descriptor(c, c->salt, 8);
        c->has_counted = true;
    }
    for (uint8_t p = 0; p < planes; p++) {
        fb_assert(c->plane_len + col->n <= COLUMN_PLANE_BYTES_MAX);
        unsigned char *to = c->plane + c->plane_len;
        for (uint32_t i = 0; i < col->n; i++)
            to[i] = (unsigned char)(c->coded[i] >> (8 * p));
        put_plane(c, col->n);
    }
}

static void write_text(struct columns *c, const unsigned char *raw, const uint16_t *row,
                       const struct ev_field_row *f, uint32_t n)
{
    fb_assert(f->bytes <= 255); /* a length is one byte */
    for (uint32_t i = 0; i < n; i++) {
        const unsigned char *text = raw + c->row_at[row[i]] + f->offset;
        uint32_t len = f->bytes;
        while (len > 0 && text[len - 1] == 0)
            len--;
        c->value[i] = len;
    }
    write_column(c, &(struct column){.n = n, .width = 1});
    size_t all = 0;
    for (uint32_t i = 0; i < n; i++) {
        fb_assert(c->plane_len + all + c->value[i] <= COLUMN_PLANE_BYTES_MAX);
        memcpy(c->plane + c->plane_len + all, raw + c->row_at[row[i]] + f->offset, c->value[i]);
        all += c->value[i];
    }
    put_plane(c, all);
}

/* ---- reading ---- */

struct source {
    const unsigned char *descriptor, *descriptor_end;
    const unsigned char *plane, *plane_end;
};

static bool read_column(struct columns *c, struct source *s, const struct column *col);
static bool read_heads(struct columns *c, struct source *s, uint32_t raw_bytes, unsigned char *out);
static bool read_type(struct columns *c, struct source *s, uint8_t type, unsigned char *out);
static bool skip_type(struct columns *c, struct source *s, uint8_t type, const unsigned char *out);

enum fb_code column_read(struct columns *c, struct span columns, uint32_t rows, uint32_t raw_bytes,
                         void *out)
{
    const unsigned char *at = (const void *)columns.at;
    if (columns.len < 4 || rows == 0 || rows > COLUMN_ROWS_MAX || raw_bytes > BLOCK_RAW_BYTES_MAX)
        return FB_E_DAMAGED;
    uint32_t descriptor_len = (uint32_t)load(at, 4);
    if (descriptor_len > columns.len - 4)
        return FB_E_DAMAGED;
    struct source s = {.descriptor = at + 4,
                       .descriptor_end = at + 4 + descriptor_len,
                       .plane = at + 4 + descriptor_len,
                       .plane_end = at + columns.len};
    c->rows = rows;
    if (!read_heads(c, &s, raw_bytes, out))
        return FB_E_DAMAGED;
    group_by_type(c, out);
    for (uint8_t type = 1; type < EV_TYPE_END; type++) {
        bool is_wanted = !c->types_wanted || (c->types_wanted >> type & 1);
        if (c->type_start[type + 1] == c->type_start[type])
            continue;
        if (!(is_wanted ? read_type(c, &s, type, out) : skip_type(c, &s, type, out)))
            return FB_E_DAMAGED;
    }
    return s.descriptor == s.descriptor_end && s.plane == s.plane_end ? FB_OK : FB_E_DAMAGED;
}

/* Types give the sizes, sizes give the places. */
static bool place_records(struct columns *c, uint32_t raw_bytes, unsigned char *out)
{
    uint32_t at = 0;
    memset(out, 0, raw_bytes);
    for (uint32_t i = 0; i < c->rows; i++) {
        const struct ev_type_row *t = ev_type_row((uint8_t)c->value[i]);
        uint32_t bytes = (uint32_t)t->cells * EV_CELL_BYTES;
        if (!t->name || bytes > raw_bytes - at)
            return false;
        struct ev_head *ev = (void *)(out + at);
        ev->type = (uint8_t)c->value[i];
        ev->cells = t->cells;
        ev->version = 1;
        c->row_at[i] = at;
        at += bytes;
    }
    return at == raw_bytes;
}

static bool read_heads(struct columns *c, struct source *s, uint32_t raw_bytes, unsigned char *out)
{
    uint32_t n = c->rows;
    if (!read_column(c, s, &(struct column){.n = n, .width = 1}) ||
        !place_records(c, raw_bytes, out))
        return false;
    if (!read_column(c, s, &(struct column){.n = n, .width = 1}))
        return false;
    for (uint32_t i = 0; i < n; i++)
        c->origin[i] = out[c->row_at[i] + offsetof(struct ev_head, origin)] = (uint8_t)c->value[i];
    if (!read_column(c, s, &(struct column){.n = n, .width = 4}))
        return false;
    for (uint32_t i = 0; i < n; i++)
        store(out + c->row_at[i] + offsetof(struct ev_head, sequence), c->value[i], 4);
    if (!read_column(c, s, &(struct column){.n = n, .width = 8}))
        return false;
    for (uint32_t i = 0; i < n; i++)
        store(out + c->row_at[i] + offsetof(struct ev_head, time_us), c->value[i], 8);
    return true;
}

static bool read_text(struct columns *c, struct source *s, struct rows rows,
                      const struct ev_field_row *f, unsigned char *out)
{
    if (!read_column(c, s, &(struct column){.n = rows.n, .width = 1}))
        return false;
    for (uint32_t i = 0; i < rows.n; i++) {
        size_t len = (size_t)c->value[i];
        if (len > f->bytes || len > (size_t)(s->plane_end - s->plane))
            return false;
        memcpy(out + c->row_at[rows.row[i]] + f->offset, s->plane, len);
        s->plane += len;
    }
    return true;
}

/* gather backwards. */
static void scatter(const struct columns *c, struct rows rows, unsigned char *raw,
                    const struct ev_field_row *f)
{
    unsigned char *base = raw + f->offset;
    const uint16_t *row = rows.row;
    uint32_t n = rows.n;
    switch (f->bytes) {
    case 1:
        for (uint32_t i = 0; i < n; i++)
            base[c->row_at[row[i]]] = (unsigned char)c->value[i];
        break;
    case 2:
        for (uint32_t i = 0; i < n; i++)
            store(base + c->row_at[row[i]], c->value[i], 2);
        break;
    case 4:
        for (uint32_t i = 0; i < n; i++)
            store(base + c->row_at[row[i]], c->value[i], 4);
        break;
    default:
        for (uint32_t i = 0; i < n; i++)
            store(base + c->row_at[row[i]], c->value[i], 8);
    }
}

static bool read_type(struct columns *c, struct source *s, uint8_t type, unsigned char *out)
{
    const struct ev_type_row *t = ev_type_row(type);
    const uint16_t *row = c->by_type + c->type_start[type];
    uint32_t n = c->type_start[type + 1] - c->type_start[type];
    for (uint32_t i = 0; i < n; i++)
        c->origin[i] = HEAD(out, c, row[i])->origin;
    for (int k = 0; k < t->field_count; k++) {
        const struct ev_field_row *f = &t->fields[k];
        if (f->type == EV_FT_text) {
            if (!read_text(c, s, (struct rows){row, n}, f, out))
                return false;
            continue;
        }
        struct column col = {.n = n, .width = (uint8_t)f->bytes};
        /* MINUS may name any earlier number of the same width; the values are in the records
         * already. */
        if (s->descriptor_end - s->descriptor >= 3 && s->descriptor[0] == COL_MINUS) {
            uint8_t other = s->descriptor[2];
            if (other >= k || t->fields[other].type == EV_FT_text ||
                t->fields[other].bytes != f->bytes)
                return false;
            col.has_other = true;
            col.other = other;
            gather(c, (struct rows){row, n}, out, &t->fields[other], c->other);
        }
        if (!read_column(c, s, &col))
            return false;
        scatter(c, (struct rows){row, n}, out, f);
    }
    return true;
}

/* The next number of the descriptors; false at their end. */
static bool take(struct source *s, uint64_t *v, uint8_t bytes)
{
    if (s->descriptor_end - s->descriptor < bytes)
        return false;
    *v = load(s->descriptor, bytes);
    s->descriptor += bytes;
    return true;
}

/* code_values backwards, in place. */
static void uncode_values(struct columns *c, const struct column *col, enum column_mode mode,
                          const uint64_t given[2])
{
    uint64_t before = given[0];
    uint64_t mask = width_mask(col->width), last[256];
    switch (mode) {
    case COL_DELTA:
        for (uint32_t i = 0; i < col->n; i++)
            before = c->value[i] = (before + unzigzag(c->value[i])) & mask;
        break;
    case COL_DELTA_ORIGIN:
        for (int i = 0; i < 256; i++)
            last[i] = before;
        for (uint32_t i = 0; i < col->n; i++) {
            uint64_t *l = &last[c->origin[i]];
            *l = c->value[i] = (*l + unzigzag(c->value[i])) & mask;
        }
        break;
    case COL_MINUS:
        for (uint32_t i = 0; i < col->n; i++)
            c->value[i] = (c->other[i] + unzigzag(c->value[i])) & mask;
        break;
    case COL_COUNTED:
        for (int i = 0; i < 256; i++)
            last[i] = before;
        for (uint32_t i = 0; i < col->n; i++) {
            uint64_t *l = &last[c->origin[i]];
            *l += unzigzag(c->value[i]);
            c->value[i] = mix_u64(*l) ^ given[1];
        }
        break;
    default:
        break;
    }
}

static bool read_column(struct columns *c, struct source *s, const struct column *col)
{
    uint64_t mode, planes, given[2] = {0, 0}; /* the base; the salt */
    fb_assert(col->n <= COLUMN_ROWS_MAX);
    fb_assert(col->width <= 8);
    if (!take(s, &mode, 1) || !take(s, &planes, 1) || planes > col->width)
        return false;
    if (mode == COL_CONST) {
        if (!take(s, &given[0], (uint8_t)planes))
            return false;
        for (uint32_t i = 0; i < col->n; i++)
            c->value[i] = given[0];
        return true;
    }
    if (mode > COL_COUNTED || (mode == COL_MINUS && !col->has_other) ||
        (mode == COL_COUNTED && col->width < 8))
        return false;
    bool has_base = mode == COL_DELTA || mode == COL_DELTA_ORIGIN || mode == COL_COUNTED;
    if (has_base && !take(s, &given[0], 8))
        return false;
    if (mode == COL_COUNTED && !take(s, &given[1], 8))
        return false;
    if (mode == COL_MINUS && !take(s, &given[0], 1))
        return false;
    if ((size_t)(s->plane_end - s->plane) < planes * col->n)
        return false;
    for (uint32_t i = 0; i < col->n; i++)
        c->value[i] = 0;
    for (uint8_t p = 0; p < planes; p++, s->plane += col->n)
        for (uint32_t i = 0; i < col->n; i++)
            c->value[i] |= (uint64_t)s->plane[i] << (8 * p);
    uncode_values(c, col, (enum column_mode)mode, given);
    return true;
}

/* read_column without the values. */
static bool skip_column(struct source *s, const struct column *col)
{
    uint64_t mode, planes;
    if (!take(s, &mode, 1) || !take(s, &planes, 1) || planes > col->width || mode > COL_COUNTED)
        return false;
    size_t more = mode == COL_CONST                               ? planes
                  : mode == COL_DELTA || mode == COL_DELTA_ORIGIN ? 8
                  : mode == COL_COUNTED                           ? 16
                  : mode == COL_MINUS                             ? 1
                                                                  : 0;
    size_t values = mode == COL_CONST ? 0 : planes * col->n;
    if ((size_t)(s->descriptor_end - s->descriptor) < more ||
        (size_t)(s->plane_end - s->plane) < values)
        return false;
    s->descriptor += more;
    s->plane += values;
    return true;
}

static bool skip_type(struct columns *c, struct source *s, uint8_t type, const unsigned char *out)
{
    const struct ev_type_row *t = ev_type_row(type);
    uint32_t n = c->type_start[type + 1] - c->type_start[type];
    for (int k = 0; k < t->field_count; k++) {
        const struct ev_field_row *f = &t->fields[k];
        if (f->type != EV_FT_text) {
            if (!skip_column(s, &(struct column){.n = n, .width = (uint8_t)f->bytes}))
                return false;
            continue;
        }
        /* Where a text ends only its lengths know; they may be relative to those of its origin. */
        uint64_t len = 0;
        for (uint32_t i = 0; i < n; i++)
            c->origin[i] = HEAD(out, c, c->by_type[c->type_start[type] + i])->origin;
        if (!read_column(c, s, &(struct column){.n = n, .width = 1}))
            return false;
        for (uint32_t i = 0; i < n; i++)
            len += c->value[i];
        if (len > (size_t)(s->plane_end - s->plane))
            return false;
        s->plane += len;
    }
    return true;
}

/* ---- numbers ---- */

static uint64_t width_mask(uint8_t width)
{
    return width == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width)) - 1;
}

/* Signed difference of <width> bytes as a small unsigned number. */
static uint64_t zigzag(uint64_t difference, uint8_t width)
{
    int shift = 64 - 8 * width;
    int64_t d = (int64_t)(difference << shift) >> shift;
    return ((uint64_t)d << 1) ^ (uint64_t)(d >> 63);
}

static uint64_t unzigzag(uint64_t z)
{
    return (z >> 1) ^ (0 - (z & 1));
}

/* Little endian, as all machines that foldback runs on (checked in block.c). */
static uint64_t load(const unsigned char *at, uint8_t width)
{
    uint64_t v = 0;
    switch (width) {
    case 1:
        return *at;
    case 2:
        memcpy(&v, at, 2);
        return v;
    case 4:
        memcpy(&v, at, 4);
        return v;
    default:
        memcpy(&v, at, width);
        return v;
    }
}

static void store(unsigned char *at, uint64_t v, uint8_t width)
{
    switch (width) {
    case 1:
        *at = (unsigned char)v;
        break;
    case 2:
        memcpy(at, &v, 2);
        break;
    case 4:
        memcpy(at, &v, 4);
        break;
    default:
        memcpy(at, &v, width);
    }
}
