/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/personal.h"

#include "base/assert.h"
#include "guard/secret.h"

#define HEAD_BYTES (4 + GCM_NONCE_BYTES)
#define ITEM_BYTES 4 /* row, field, length */

static bool has_personal(uint8_t type)
{
    const struct ev_type_row *row = ev_type_row(type);
    for (uint8_t i = 0; i < row->field_count; i++)
        if (row->fields[i].privacy == EV_PERSONAL)
            return true;
    return false;
}

bool personal_is_in(struct span records)
{
    /* Asked for each block: one look per type, not per event. */
    uint64_t seen = 0, wanted = 0;
    for (size_t at = 0; at < records.len;) {
        const struct ev_head *ev = (const void *)(records.at + at);
        seen |= UINT64_C(1) << (ev->type & 63);
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
    for (uint8_t type = 0; type < 64; type++)
        if ((seen >> type & 1) && has_personal(type))
            wanted |= UINT64_C(1) << type;
    return wanted != 0;
}

static size_t text_length(const unsigned char *text, size_t len)
{
    while (len > 0 && text[len - 1] == 0)
        len--;
    return len;
}

/* What binds a text to its place. */
static struct span place_of(char room[9], uint64_t offset, uint8_t field)
{
    memcpy(room, &offset, sizeof offset);
    room[8] = (char)field;
    return (struct span){room, 9};
}

struct taking {
    struct keyring *ring;
    uint32_t period;
    unsigned char nonce[GCM_NONCE_BYTES];
    unsigned char *out;
    size_t len;
    uint64_t text_bytes;
};

static void take_field(struct taking *t, uint64_t offset, uint16_t row, uint8_t field,
                       struct span text)
{
    char room[9];
    unsigned char key[GCM_KEY_BYTES], nonce[GCM_NONCE_BYTES];
    if (!t->period || !keyring_text_key(t->ring, t->period, offset, key))
        return;
    memcpy(nonce, t->nonce, sizeof nonce);
    nonce[GCM_NONCE_BYTES - 1] ^= field;
    unsigned char *at = t->out + t->len;
    memcpy(at, &row, sizeof row);
    at[2] = field;
    at[3] = (unsigned char)text.len;
    struct gcm_use use = {.key = key, .nonce = nonce, .aad = place_of(room, offset, field)};
    unsigned char *sealed = at + ITEM_BYTES;
    if (gcm_seal(&use, text, sealed, sealed + text.len)) {
        t->len += ITEM_BYTES + text.len + GCM_TAG_BYTES;
        t->text_bytes += text.len;
    }
    secret_wipe(key, sizeof key);
}

size_t personal_take(struct keyring *ring, uint64_t first_offset, void *records, size_t len,
                     unsigned char *out)
{
    struct taking t = {.ring = ring, .period = keyring_period(ring), .out = out, .len = HEAD_BYTES};
    memcpy(out, &t.period, sizeof t.period);
    gcm_random(t.nonce, sizeof t.nonce);
    memcpy(out + sizeof t.period, t.nonce, sizeof t.nonce);
    uint16_t row = 0;
    for (size_t at = 0; at < len; row++) {
        unsigned char *record = (unsigned char *)records + at;
        const struct ev_head *ev = (const void *)record;
        const struct ev_type_row *type = ev_type_row(ev->type);
        for (uint8_t i = 0; i < type->field_count; i++) {
            const struct ev_field_row *f = &type->fields[i];
            size_t n = f->privacy == EV_PERSONAL ? text_length(record + f->offset, f->bytes) : 0;
            if (n == 0)
                continue;
            fb_assert(n <= UINT8_MAX);
            take_field(&t, first_offset + row, row, i,
                       (struct span){(char *)record + f->offset, n});
            memset(record + f->offset, 0, f->bytes);
        }
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
    fb_assert(t.len <= PERSONAL_BYTES_MAX(len));
    if (t.text_bytes)
        keyring_text_count(ring, t.period, t.text_bytes);
    return t.len > HEAD_BYTES ? t.len : 0;
}

uint32_t personal_period(struct span sealed)
{
    uint32_t period = 0;
    if (sealed.len >= HEAD_BYTES)
        memcpy(&period, sealed.at, sizeof period);
    return period;
}

struct giving {
    struct keyring *ring;
    uint32_t period;
    const unsigned char *nonce;
};

/* A number has no room for a word and stays 0. */
static void mark_gone(const struct ev_field_row *f, unsigned char *record)
{
    if (f->type == EV_FT_text && f->bytes >= sizeof PERSONAL_GONE - 1)
        memcpy(record + f->offset, PERSONAL_GONE, sizeof PERSONAL_GONE - 1);
}

/* A text, or what stands for it. */
static bool give_field(const struct giving *g, uint64_t offset, const unsigned char *item,
                       unsigned char *record)
{
    char room[9];
    const struct ev_type_row *type = ev_type_row(((const struct ev_head *)(void *)record)->type);
    uint8_t field = item[2], len = item[3];
    if (field >= type->field_count || type->fields[field].privacy != EV_PERSONAL ||
        len > type->fields[field].bytes)
        return false;
    const struct ev_field_row *f = &type->fields[field];
    unsigned char key[GCM_KEY_BYTES], own[GCM_NONCE_BYTES], text[UINT8_MAX];
    if (!g->ring || !keyring_text_key(g->ring, g->period, offset, key)) {
        mark_gone(f, record);
        return true;
    }
    memcpy(own, g->nonce, sizeof own);
    own[GCM_NONCE_BYTES - 1] ^= field;
    struct gcm_use use = {.key = key, .nonce = own, .aad = place_of(room, offset, field)};
    const unsigned char *sealed = item + ITEM_BYTES;
    bool is_good = gcm_open(&use, (struct span){(const char *)sealed, len}, text, sealed + len);
    secret_wipe(key, sizeof key);
    /* Sealed under another key file that was restored: the text is lost, the record is not. */
    if (is_good)
        memcpy(record + f->offset, text, len);
    else
        mark_gone(f, record);
    return true;
}

enum fb_code personal_give(struct keyring *ring, uint64_t first_offset, struct span sealed,
                           void *records, size_t len)
{
    const unsigned char *bytes = (const void *)sealed.at;
    if (sealed.len < HEAD_BYTES)
        return FB_E_DAMAGED;
    struct giving g = {.ring = ring, .period = personal_period(sealed), .nonce = bytes + 4};
    size_t record_at = 0;
    uint16_t row = 0;
    for (size_t at = HEAD_BYTES; at < sealed.len;) {
        uint16_t wanted;
        if (sealed.len - at < ITEM_BYTES + GCM_TAG_BYTES)
            return FB_E_DAMAGED;
        memcpy(&wanted, bytes + at, sizeof wanted);
        size_t item = ITEM_BYTES + (size_t)bytes[at + 3] + GCM_TAG_BYTES;
        if (sealed.len - at < item || wanted < row)
            return FB_E_DAMAGED;
        for (; row < wanted && record_at < len; row++)
            record_at +=
                (size_t)((const struct ev_head *)(void *)((unsigned char *)records + record_at))
                    ->cells *
                EV_CELL_BYTES;
        if (record_at >= len ||
            !give_field(&g, first_offset + row, bytes + at, (unsigned char *)records + record_at))
            return FB_E_DAMAGED;
        at += item;
    }
    return FB_OK;
}
