/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/block.h"

#include "base/assert.h"
#include "base/mix.h"
#include "guard/personal.h"
#include "stream/column.h"
#include "stream/crc32c.h"

#include <stdlib.h>
#include <zstd.h>

#define MAGIC "fbk1"
#define BLOCK_VERSION_CLEAR 1
#define BLOCK_VERSION 2
#define BLOCK_VERSION_JOINED 3
#define FLAG_ACKNOWLEDGED 1u
#define FLAG_COUNTED 2u
#define FLAG_CLEARED 4u

/* The header as it stands on disk; x86-64 and AArch64 are little endian, so it is the machine's
 * form. */
struct header {
    char magic[4];
    uint16_t version, header_bytes;
    uint64_t node;
    uint32_t epoch, segment;
    uint64_t first_offset;
    uint32_t count, raw_bytes, stored_bytes;
    uint8_t codec, personal_bytes[3];
    uint32_t key_id, position;
    uint8_t nonce[12], tag[16];
    uint32_t flags;
    uint64_t first_us, last_us;
    int64_t wall_minus_mono_us;
    uint32_t body_crc;
    uint64_t acknowledged;
    uint32_t header_crc;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == BLOCK_HEADER_BYTES, "block header: size");
_Static_assert(offsetof(struct header, header_crc) == 124, "block header: place of the checksum");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blocks are little endian");

struct block_codec {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    struct keyring *keys;
    struct block_part parts[COLUMN_ROWS_MAX]; /* of the block that was decoded last */
    uint32_t part_count;
    uint64_t before_bytes;
    struct columns columns;
    unsigned char work[COLUMN_BYTES_MAX]; /* columns, decompressed */
    unsigned char block[BLOCK_BYTES_MAX]; /* what block_encode returns, or a body that was opened */
    _Alignas(8) unsigned char clean[BLOCK_RAW_BYTES_MAX]; /* records without personal fields */
    unsigned char personal[PERSONAL_BYTES_MAX(BLOCK_RAW_BYTES_MAX)];
};

static size_t compress_columns(struct block_codec *c, unsigned char *to, size_t cap);
static enum fb_code encode_records(struct block_codec *c, struct block_head *head,
                                   struct span records);
static void finish_body(struct block_codec *c, struct block_head *head, struct span *block);
static void describe(struct block_head *head, const struct block_joined *joined);
static enum fb_code parts_read(struct block_codec *c, const struct block_head *head,
                               struct span *body);
static enum fb_code personal_give_all(struct block_codec *c, const struct block_head *head,
                                      struct span personal, unsigned char *out);

struct block_codec *block_codec_new(void)
{
    struct block_codec *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->compressor = ZSTD_createCCtx();
    c->decompressor = ZSTD_createDCtx();
    if (!c->compressor || !c->decompressor) {
        block_codec_free(c);
        return NULL;
    }
    /* Level 1: level 3 saved 2 % of the bytes and cost 40 % more time.  The length is in our
     * header. */
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_compressionLevel, 1);
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_checksumFlag, 0);
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_windowLog, 19);
    return c;
}

void block_codec_keys(struct block_codec *c, struct keyring *keys)
{
    c->keys = keys;
}

void block_codec_free(struct block_codec *c)
{
    if (!c)
        return;
    ZSTD_freeCCtx(c->compressor);
    ZSTD_freeDCtx(c->decompressor);
    free(c);
}

void block_codec_want(struct block_codec *c, uint64_t types)
{
    c->columns.types_wanted = types;
}

enum fb_code block_encode(struct block_codec *c, struct block_head *head, struct span records,
                          struct span *block)
{
    fb_assert(records.len > 0);
    fb_assert(records.len <= BLOCK_RAW_BYTES_MAX);
    fb_assert(((uintptr_t)records.at & 7) == 0);
    size_t personal = 0;
    if (c->keys && personal_is_in(records)) {
        memcpy(c->clean, records.at, records.len);
        personal = personal_take(c->keys, head->first_offset, c->clean, records.len, c->personal);
        records.at = (const char *)c->clean;
    }
    enum fb_code code = encode_records(c, head, records);
    if (code)
        return code;
    memcpy(c->block + BLOCK_HEADER_BYTES + head->stored_bytes, c->personal, personal);
    head->stored_bytes += (uint32_t)personal;
    head->personal_bytes = (uint32_t)personal;
    head->version = personal ? BLOCK_VERSION : BLOCK_VERSION_CLEAR;
    struct block_part whole = {.count = head->count,
                               .wall_minus_mono_us = head->wall_minus_mono_us};
    describe(head, &(struct block_joined){.records = records, .parts = &whole, .part_count = 1});
    finish_body(c, head, block);
    return FB_OK;
}

static size_t varint_put(unsigned char *to, uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        to[n++] = (unsigned char)(value | 0x80);
    to[n++] = (unsigned char)value;
    return n;
}

/* Against the header's: small, with either sign. */
static uint64_t zigzag(int64_t value, int64_t base)
{
    uint64_t delta = (uint64_t)value - (uint64_t)base;
    return delta << 1 ^ (0 - (delta >> 63));
}

#define PART_BYTES_MAX (5 + 10 + 5)
#define PARTS_TAIL_BYTES 8

enum fb_code block_join(struct block_codec *c, struct block_head *head,
                        const struct block_joined *joined, struct span *block)
{
    fb_assert(joined->records.len > 0);
    fb_assert(joined->records.len <= BLOCK_RAW_BYTES_MAX);
    fb_assert(joined->part_count > 0);
    fb_assert(joined->part_count <= COLUMN_ROWS_MAX);
    enum fb_code code = encode_records(c, head, joined->records);
    if (code)
        return code;
    if (head->stored_bytes + joined->personal.len + joined->part_count * PART_BYTES_MAX +
            PARTS_TAIL_BYTES >
        BLOCK_STORED_BYTES_MAX)
        return FB_E_RANGE;
    unsigned char *at = c->block + BLOCK_HEADER_BYTES + head->stored_bytes;
    if (joined->personal.len)
        memcpy(at, joined->personal.at, joined->personal.len);
    at += joined->personal.len;
    const unsigned char *parts = at;
    uint32_t events = 0;
    for (uint32_t i = 0; i < joined->part_count; i++) {
        const struct block_part *p = &joined->parts[i];
        at += varint_put(at, p->count);
        at += varint_put(at, zigzag(p->wall_minus_mono_us, head->wall_minus_mono_us));
        at += varint_put(at, p->personal_bytes);
        events += p->count;
    }
    fb_assert(events == head->count);
    uint32_t tail[2] = {fb_sat_u32(joined->before_bytes), (uint32_t)(at - parts)};
    memcpy(at, tail, sizeof tail);
    at += sizeof tail;
    head->stored_bytes = (uint32_t)(at - c->block - BLOCK_HEADER_BYTES);
    head->personal_bytes = (uint32_t)joined->personal.len;
    head->version = BLOCK_VERSION_JOINED;
    describe(head, joined);
    finish_body(c, head, block);
    return FB_OK;
}

/* Columns, compressed, or the records as they are, into c->block. */
static enum fb_code encode_records(struct block_codec *c, struct block_head *head,
                                   struct span records)
{
    c->columns.salt = mix_salt(head->node);
    enum fb_code code = column_write(&c->columns, records);
    if (code)
        return code;
    unsigned char *body = c->block + BLOCK_HEADER_BYTES;
    size_t stored = compress_columns(c, body, BLOCK_RAW_BYTES_MAX);
    head->codec = BLOCK_CODEC_COLUMNS;
    if (stored == 0 || stored >= records.len) {
        memcpy(body, records.at, records.len);
        stored = records.len;
        head->codec = BLOCK_CODEC_NONE;
    }
    head->has_counted = head->codec == BLOCK_CODEC_COLUMNS && c->columns.has_counted;
    fb_assert(c->columns.rows > 0);
    fb_assert(c->columns.rows <= COLUMN_ROWS_MAX);
    head->count = c->columns.rows;
    head->raw_bytes = (uint32_t)records.len;
    head->stored_bytes = (uint32_t)stored;
    return FB_OK;
}

/* What holds for every body, whatever stands in it. */
static void finish_body(struct block_codec *c, struct block_head *head, struct span *block)
{
    unsigned char *body = c->block + BLOCK_HEADER_BYTES;
    head->key_id = 0;
    memset(head->nonce, 0, sizeof head->nonce);
    memset(head->tag, 0, sizeof head->tag);
    uint32_t bytes = block_bytes(head);
    fb_assert(bytes <= BLOCK_BYTES_MAX);
    memset(body + head->stored_bytes, 0, bytes - BLOCK_HEADER_BYTES - head->stored_bytes);
    head->body_crc = crc32c(0, body, bytes - BLOCK_HEADER_BYTES);
    *block = (struct span){(const char *)c->block, bytes};
}

/* The span of time, so that a seek by time need not decode.  Not simply first and last: rings are
 * merged by what was there, and a late record may be older. */
static void describe(struct block_head *head, const struct block_joined *joined)
{
    const unsigned char *raw = (const void *)joined->records.at;
    const struct block_part *part = joined->parts;
    uint32_t left = part->count;
    head->first_us = UINT64_MAX;
    head->last_us = 0;
    for (size_t at = 0; at < joined->records.len; left--) {
        const struct ev_head *ev = (const void *)(raw + at);
        if (left == 0)
            left = (++part)->count;
        uint64_t us =
            ev->time_us + (uint64_t)part->wall_minus_mono_us - (uint64_t)head->wall_minus_mono_us;
        head->first_us = fb_min_u64(head->first_us, us);
        head->last_us = fb_max_u64(head->last_us, us);
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
}

/* Feeds <len> bytes; true when zstd took them all and, at a flush, gave them all. */
static bool feed(struct block_codec *c, ZSTD_outBuffer *out, const void *bytes, size_t len,
                 ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {bytes, len, 0};
    size_t left = ZSTD_compressStream2(c->compressor, out, &in, how);
    return !ZSTD_isError(left) && in.pos == len && (how == ZSTD_e_continue || left == 0);
}

/* A flush at each cut ends a zstd block, so that each plane has Huffman codes of its own: 22 %
 * fewer bytes per request than one table for all.  0 when it does not fit. */
static size_t compress_columns(struct block_codec *c, unsigned char *to, size_t cap)
{
    struct columns *col = &c->columns;
    uint32_t descriptor_len = (uint32_t)col->descriptor_len;
    uint32_t all = (uint32_t)(4 + col->descriptor_len + col->plane_len);
    ZSTD_outBuffer out = {to, cap, sizeof all};
    memcpy(to, &all, sizeof all);
    ZSTD_CCtx_reset(c->compressor, ZSTD_reset_session_only);
    ZSTD_CCtx_setPledgedSrcSize(c->compressor, all); /* tables and window no larger than it needs */
    if (!feed(c, &out, &descriptor_len, sizeof descriptor_len, ZSTD_e_continue) ||
        !feed(c, &out, col->descriptor, col->descriptor_len,
              col->cut_count ? ZSTD_e_flush : ZSTD_e_continue))
        return 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < col->cut_count; at = col->cut[i++])
        if (!feed(c, &out, col->plane + at, col->cut[i] - at, ZSTD_e_flush))
            return 0;
    if (!feed(c, &out, col->plane + at, col->plane_len - at, ZSTD_e_end))
        return 0;
    return out.pos;
}

/* The header of <head> without its own checksum. */
static struct header header_of(const struct block_head *head)
{
    struct header h = {.magic = MAGIC,
                       .version = head->version,
                       .header_bytes = BLOCK_HEADER_BYTES,
                       .node = head->node,
                       .epoch = head->epoch,
                       .segment = head->segment,
                       .first_offset = head->first_offset,
                       .count = head->count,
                       .raw_bytes = head->raw_bytes,
                       .stored_bytes = head->stored_bytes,
                       .codec = head->codec,
                       .key_id = head->key_id,
                       .position = head->position,
                       .flags = (head->has_acknowledged ? FLAG_ACKNOWLEDGED : 0) |
                                (head->has_counted ? FLAG_COUNTED : 0) |
                                (head->is_cleared ? FLAG_CLEARED : 0),
                       .acknowledged = head->has_acknowledged ? head->acknowledged : 0,
                       .first_us = head->first_us,
                       .last_us = head->last_us,
                       .wall_minus_mono_us = head->wall_minus_mono_us,
                       .body_crc = head->body_crc};
    for (int i = 0; i < 3; i++)
        h.personal_bytes[i] = (uint8_t)(head->personal_bytes >> 8 * i);
    memcpy(h.nonce, head->nonce, sizeof h.nonce);
    memcpy(h.tag, head->tag, sizeof h.tag);
    return h;
}

/* What GCM binds to the body: the header as it will stand, without what comes after sealing. */
static struct header associated_data(const struct block_head *head)
{
    struct block_head bare = *head;
    bare.body_crc = 0;
    memset(bare.tag, 0, sizeof bare.tag);
    return header_of(&bare);
}

static enum fb_code encrypt(struct block_codec *c, struct block_head *head)
{
    unsigned char *body = c->block + BLOCK_HEADER_BYTES;
    enum fb_code code = keyring_take(c->keys, head->stored_bytes, &head->key_id, head->nonce);
    if (code)
        return code;
    if (head->version == BLOCK_VERSION_CLEAR)
        head->version = BLOCK_VERSION;
    struct header aad = associated_data(head);
    struct keyring_use use = {
        .key_id = head->key_id, .nonce = head->nonce, .aad = {(const char *)&aad, sizeof aad}};
    struct span text = {(const char *)body, head->stored_bytes};
    return keyring_seal(c->keys, &use, text, body, head->tag);
}

enum fb_code block_seal(struct block_codec *c, struct block_head *head, uint32_t segment,
                        uint32_t position)
{
    fb_assert(position % BLOCK_ALIGN_BYTES == 0);
    fb_assert(head->count > 0);
    fb_assert(head->stored_bytes > 0);
    fb_assert(head->key_id == 0); /* not encrypted twice */
    head->segment = segment;
    head->position = position;
    if (c->keys && keyring_is_sealing(c->keys)) {
        enum fb_code code = encrypt(c, head);
        if (code)
            return code;
        head->body_crc =
            crc32c(0, c->block + BLOCK_HEADER_BYTES, block_bytes(head) - BLOCK_HEADER_BYTES);
    }
    struct header h = header_of(head);
    h.header_crc = crc32c(0, &h, offsetof(struct header, header_crc));
    memcpy(c->block, &h, sizeof h);
    return FB_OK;
}

enum fb_code block_head_read(struct span bytes, struct block_head *head)
{
    struct header h;
    if (bytes.len < sizeof h)
        return FB_E_DAMAGED;
    memcpy(&h, bytes.at, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0)
        return FB_E_DAMAGED;
    if (h.header_crc != crc32c(0, &h, offsetof(struct header, header_crc)))
        return FB_E_DAMAGED;
    /* The checksum is right, so somebody meant it: not damage, and never cut away. */
    bool is_clear = h.version == BLOCK_VERSION_CLEAR;
    if (h.version < BLOCK_VERSION_CLEAR || h.version > BLOCK_VERSION_JOINED ||
        h.codec > BLOCK_CODEC_COLUMNS || (is_clear && h.key_id != 0))
        return FB_E_VERSION;
    if (h.flags & ~(FLAG_ACKNOWLEDGED | FLAG_COUNTED | FLAG_CLEARED))
        return FB_E_VERSION;
    if (!(h.flags & FLAG_ACKNOWLEDGED) && h.acknowledged)
        return FB_E_DAMAGED;
    if (h.header_bytes != sizeof h || h.count == 0 || h.count > COLUMN_ROWS_MAX)
        return FB_E_DAMAGED;
    uint32_t personal_bytes = 0;
    for (int i = 0; i < 3; i++)
        personal_bytes |= (uint32_t)h.personal_bytes[i] << 8 * i;
    if (h.raw_bytes > BLOCK_RAW_BYTES_MAX || h.stored_bytes > BLOCK_STORED_BYTES_MAX ||
        personal_bytes > h.stored_bytes || (is_clear && personal_bytes))
        return FB_E_DAMAGED;
    if (h.first_offset > UINT64_MAX - h.count)
        return FB_E_DAMAGED;
    *head = (struct block_head){.node = h.node,
                                .epoch = h.epoch,
                                .segment = h.segment,
                                .position = h.position,
                                .first_offset = h.first_offset,
                                .count = h.count,
                                .raw_bytes = h.raw_bytes,
                                .stored_bytes = h.stored_bytes,
                                .codec = h.codec,
                                .key_id = h.key_id,
                                .first_us = h.first_us,
                                .last_us = h.last_us,
                                .wall_minus_mono_us = h.wall_minus_mono_us,
                                .has_counted = (h.flags & FLAG_COUNTED) != 0,
                                .is_cleared = (h.flags & FLAG_CLEARED) != 0,
                                .has_acknowledged = (h.flags & FLAG_ACKNOWLEDGED) != 0,
                                .acknowledged = h.acknowledged,
                                .body_crc = h.body_crc,
                                .personal_bytes = personal_bytes,
                                .version = h.version};
    memcpy(head->nonce, h.nonce, sizeof h.nonce);
    memcpy(head->tag, h.tag, sizeof h.tag);
    return FB_OK;
}

uint32_t block_bytes(const struct block_head *head)
{
    uint32_t bytes = BLOCK_HEADER_BYTES + head->stored_bytes;
    return (bytes + BLOCK_ALIGN_BYTES - 1) & ~(uint32_t)(BLOCK_ALIGN_BYTES - 1);
}

bool block_body_is_good(const struct block_head *head, struct span body)
{
    uint32_t padded_bytes = block_bytes(head) - BLOCK_HEADER_BYTES;
    return body.len >= padded_bytes && crc32c(0, body.at, padded_bytes) == head->body_crc;
}

/* Bytes of codec 0 are records already; still every one is checked. */
static enum fb_code check_records(const struct block_head *head, const unsigned char *raw)
{
    uint32_t rows = 0;
    for (size_t at = 0; at < head->raw_bytes; rows++) {
        const struct ev_head *ev = (const void *)(raw + at);
        if (head->raw_bytes - at < EV_CELL_BYTES || !ev_is_valid(ev) ||
            (size_t)ev->cells * EV_CELL_BYTES > head->raw_bytes - at)
            return FB_E_DAMAGED;
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
    return rows == head->count ? FB_OK : FB_E_DAMAGED;
}

/* The body as it was before block_seal: <body> itself, or opened in c->block. */
static enum fb_code decrypt(struct block_codec *c, const struct block_head *head, struct span *body)
{
    if (head->key_id == 0)
        return FB_OK;
    if (!c->keys)
        return FB_E_KEY;
    struct header aad = associated_data(head);
    struct keyring_use use = {
        .key_id = head->key_id, .nonce = head->nonce, .aad = {(const char *)&aad, sizeof aad}};
    struct span text = {body->at, head->stored_bytes};
    enum fb_code code = keyring_unseal(c->keys, &use, text, c->block, head->tag);
    *body = (struct span){(const char *)c->block, head->stored_bytes};
    return code;
}

static enum fb_code decode_columns(struct block_codec *c, const struct block_head *head,
                                   struct span body, void *out)
{
    /* One call with the exact room: zstd cannot write more than the columns claim. */
    uint32_t all;
    if (body.len < sizeof all)
        return FB_E_DAMAGED;
    memcpy(&all, body.at, sizeof all);
    if (all > sizeof c->work)
        return FB_E_DAMAGED;
    size_t got = ZSTD_decompressDCtx(c->decompressor, c->work, all, body.at + sizeof all,
                                     body.len - sizeof all);
    if (ZSTD_isError(got) || got != all)
        return FB_E_DAMAGED;
    return column_read(&c->columns, (struct span){(const char *)c->work, all}, head->count,
                       head->raw_bytes, out);
}

enum fb_code block_decode(struct block_codec *c, const struct block_head *head, struct span body,
                          void *out)
{
    struct span personal;
    enum fb_code code = block_decode_sealed(c, head, body, out, &personal);
    return code || personal.len == 0 ? code : personal_give_all(c, head, personal, out);
}

enum fb_code block_decode_sealed(struct block_codec *c, const struct block_head *head,
                                 struct span body, void *out, struct span *personal)
{
    if (body.len < head->stored_bytes || head->raw_bytes > BLOCK_RAW_BYTES_MAX ||
        head->stored_bytes > BLOCK_STORED_BYTES_MAX || head->personal_bytes > head->stored_bytes)
        return FB_E_DAMAGED;
    enum fb_code code = decrypt(c, head, &body);
    if (code)
        return code;
    body.len = head->stored_bytes;
    code = parts_read(c, head, &body);
    if (code)
        return code;
    fb_assert(body.len >= head->personal_bytes);
    body.len -= head->personal_bytes;
    if (head->codec == BLOCK_CODEC_NONE) {
        if (body.len != head->raw_bytes)
            return FB_E_DAMAGED;
        memcpy(out, body.at, head->raw_bytes);
        code = check_records(head, out);
    } else {
        code = decode_columns(c, head, body, out);
    }
    *personal = (struct span){body.at + body.len, head->personal_bytes};
    return code;
}

/* ---- parts ---- */

static bool varint_take(struct span *from, uint64_t *value)
{
    *value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        if (from->len == 0)
            return false;
        unsigned char byte = (unsigned char)*from->at;
        from->at++;
        from->len--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool part_read(struct span *from, const struct block_head *head, struct block_part *part)
{
    uint64_t count, wall, personal;
    if (!varint_take(from, &count) || !varint_take(from, &wall) || !varint_take(from, &personal) ||
        count == 0 || count > head->count || personal > head->personal_bytes)
        return false;
    uint64_t delta = wall >> 1 ^ (0 - (wall & 1));
    *part = (struct block_part){.count = (uint32_t)count,
                                .personal_bytes = (uint32_t)personal,
                                .wall_minus_mono_us =
                                    (int64_t)((uint64_t)head->wall_minus_mono_us + delta)};
    return true;
}

/* Takes the parts off the end of <body>; a block that was never joined is one part. */
static enum fb_code parts_read(struct block_codec *c, const struct block_head *head,
                               struct span *body)
{
    c->part_count = 1;
    c->parts[0] = (struct block_part){.count = head->count,
                                      .personal_bytes = head->personal_bytes,
                                      .wall_minus_mono_us = head->wall_minus_mono_us};
    c->before_bytes = block_bytes(head);
    size_t parts_end = body->len - PARTS_TAIL_BYTES;
    if (head->version == BLOCK_VERSION_JOINED) {
        uint32_t tail[2];
        if (body->len < head->personal_bytes + sizeof tail)
            return FB_E_DAMAGED;
        memcpy(tail, body->at + parts_end, sizeof tail);
        if (tail[1] > parts_end - head->personal_bytes)
            return FB_E_DAMAGED;
        struct span from = {body->at + parts_end - tail[1], tail[1]};
        body->len = parts_end - tail[1];
        c->before_bytes = tail[0];
        uint64_t events = 0, personal = 0;
        for (c->part_count = 0; from.len > 0; c->part_count++) {
            struct block_part *p = &c->parts[c->part_count];
            if (c->part_count == COLUMN_ROWS_MAX || !part_read(&from, head, p))
                return FB_E_DAMAGED;
            events += p->count;
            personal += p->personal_bytes;
        }
        if (events != head->count || personal != head->personal_bytes)
            return FB_E_DAMAGED;
    }
    const char *sealed = body->at + body->len - head->personal_bytes;
    for (uint32_t i = 0; i < c->part_count; i++) {
        struct block_part *p = &c->parts[i];
        p->period =
            p->personal_bytes ? personal_period((struct span){sealed, p->personal_bytes}) : 0;
        sealed += p->personal_bytes;
    }
    return FB_OK;
}

/* Each part's texts into its records: they are bound to offsets, counted from the part's first. */
static enum fb_code personal_give_all(struct block_codec *c, const struct block_head *head,
                                      struct span personal, unsigned char *out)
{
    size_t from = 0;
    uint64_t offset = head->first_offset;
    for (uint32_t i = 0; i < c->part_count; i++) {
        const struct block_part *p = &c->parts[i];
        size_t to = from;
        for (uint32_t k = 0; k < p->count; k++) {
            fb_assert(to < head->raw_bytes);
            to += (size_t)((const struct ev_head *)(const void *)(out + to))->cells * EV_CELL_BYTES;
        }
        struct span texts = {personal.at, p->personal_bytes};
        enum fb_code code =
            texts.len ? personal_give(c->keys, offset, texts, out + from, to - from) : FB_OK;
        if (code)
            return code;
        personal.at += texts.len;
        from = to;
        offset += p->count;
    }
    return FB_OK;
}

const struct block_part *block_codec_parts(const struct block_codec *c, uint32_t *count)
{
    *count = c->part_count;
    return c->parts;
}

uint64_t block_codec_before_bytes(const struct block_codec *c)
{
    return c->before_bytes;
}
