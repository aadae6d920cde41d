/* SPDX-License-Identifier: Apache-2.0 */
/* block_fuzz: what stands in a log file, under arbitrary bytes.
 *
 * Input: byte 0 selects.  0: a header.  1: count u16, cells u16, then a body of codec 1.  2: a body
 * of codec 0.  3: cells that are made into valid records, encoded and decoded.  4, 5: as 1 and 2,
 * of a joined block: its parts stand at the end. Asserted: what decodes is valid records of exactly
 * the stated size and survives another round; what is encoded comes back bit by bit, and so does
 * what is joined of parts. */
#include "base/assert.h"
#include "stream/block.h"

#include <stdlib.h>

static struct block_codec *codec;
static unsigned char *raw, *out;

static void check_round_trip(size_t len)
{
    struct block_head head = {.node = 1, .first_offset = 10}, read;
    struct span block;
    enum fb_code code = block_encode(codec, &head, (struct span){(char *)raw, len}, &block);
    fb_assert(code == FB_OK);
    block_seal(codec, &head, 1, 64);
    code = block_head_read(block, &read);
    fb_assert(code == FB_OK);
    struct span body = {block.at + BLOCK_HEADER_BYTES, block.len - BLOCK_HEADER_BYTES};
    fb_assert(block_body_is_good(&read, body));
    fb_assert(read.raw_bytes == len);
    code = block_decode(codec, &read, body, out);
    fb_assert(code == FB_OK);
    fb_assert(memcmp(raw, out, len) == 0);
}

static void check_parts(const struct block_head *head)
{
    uint32_t parts, count = 0, personal = 0;
    const struct block_part *part = block_codec_parts(codec, &parts);
    fb_assert(parts > 0);
    for (uint32_t i = 0; i < parts; i++) {
        fb_assert(part[i].count > 0);
        count += part[i].count;
        personal += part[i].personal_bytes;
    }
    fb_assert(count == head->count);
    fb_assert(personal == head->personal_bytes);
}

/* The records in parts of 1 to 7, joined and decoded. */
static void check_join(size_t len)
{
    static struct block_part parts[BLOCK_RAW_BYTES_MAX / EV_CELL_BYTES];
    uint32_t n = 0;
    for (size_t at = 0; at < len; n++) {
        parts[n] = (struct block_part){.wall_minus_mono_us = (int64_t)raw[at + 8] * 1000 - 5};
        for (uint32_t left = 1 + raw[at + 9] % 7u; left > 0 && at < len; left--) {
            at += (size_t)((const struct ev_head *)(void *)(raw + at))->cells * EV_CELL_BYTES;
            parts[n].count++;
        }
    }
    struct block_head head = {.node = 1,
                              .first_offset = 10,
                              .wall_minus_mono_us = parts[0].wall_minus_mono_us},
                      read;
    struct block_joined joined = {.records = {(char *)raw, len}, .parts = parts, .part_count = n};
    struct span block, personal;
    enum fb_code code = block_join(codec, &head, &joined, &block);
    fb_assert(code == FB_OK);
    block_seal(codec, &head, 1, 64);
    code = block_head_read(block, &read);
    fb_assert(code == FB_OK);
    struct span body = {block.at + BLOCK_HEADER_BYTES, block.len - BLOCK_HEADER_BYTES};
    code = block_decode_sealed(codec, &read, body, out, &personal);
    fb_assert(code == FB_OK);
    fb_assert(read.raw_bytes == len);
    fb_assert(memcmp(raw, out, len) == 0);
    uint32_t got;
    const struct block_part *part = block_codec_parts(codec, &got);
    fb_assert(got == n);
    for (uint32_t i = 0; i < n; i++) {
        fb_assert(part[i].count == parts[i].count);
        fb_assert(part[i].wall_minus_mono_us == parts[i].wall_minus_mono_us);
    }
}

static void fuzz_body(const uint8_t *data, size_t size, uint8_t which, bool is_joined)
{
    if (size < 4)
        return;
    struct block_head head = {.codec = which, .version = is_joined ? 3 : 1};
    head.count = (uint32_t)(data[0] | data[1] << 8);
    head.raw_bytes = (uint32_t)(data[2] | data[3] << 8) % 4097 * EV_CELL_BYTES;
    head.stored_bytes = (uint32_t)(size - 4);
    if (is_joined && size > 4)
        head.personal_bytes = data[size - 5] % 32;
    if (which == BLOCK_CODEC_NONE && is_joined)
        head.raw_bytes = (uint32_t)(size - 4) & ~(uint32_t)(EV_CELL_BYTES - 1);
    else if (which == BLOCK_CODEC_NONE)
        head.raw_bytes = head.stored_bytes;
    if (head.count == 0 || head.stored_bytes > BLOCK_RAW_BYTES_MAX)
        return;
    struct span body = {(const char *)data + 4, size - 4};
    if (block_decode(codec, &head, body, out) != FB_OK || head.raw_bytes == 0)
        return;
    check_parts(&head);
    uint32_t count = 0;
    for (size_t at = 0; at < head.raw_bytes; count++) {
        const struct ev_head *ev = (const void *)(out + at);
        fb_assert(ev_is_valid(ev));
        at += (size_t)ev->cells * EV_CELL_BYTES;
    }
    fb_assert(count == head.count);
    memcpy(raw, out, head.raw_bytes);
    check_round_trip(head.raw_bytes);
}

static void fuzz_records(const uint8_t *data, size_t size)
{
    size_t len = 0;
    while (size >= EV_CELL_BYTES) {
        const struct ev_type_row *row = ev_type_row((uint8_t)(1 + data[0] % (EV_TYPE_END - 1)));
        size_t bytes = (size_t)row->cells * EV_CELL_BYTES;
        if (!row->name) { /* numbers of types have holes */
            data += EV_CELL_BYTES;
            size -= EV_CELL_BYTES;
            continue;
        }
        if (bytes > size || len + bytes > BLOCK_RAW_BYTES_MAX)
            break;
        memcpy(raw + len, data, bytes);
        raw[len] = (unsigned char)(1 + data[0] % (EV_TYPE_END - 1));
        raw[len + 1] = row->cells;
        raw[len + 3] = 1;
        len += bytes;
        data += bytes;
        size -= bytes;
    }
    if (len) {
        check_round_trip(len);
        check_join(len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!codec) {
        codec = block_codec_new();
        raw = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
        out = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
        fb_assert(codec && raw && out);
    }
    if (size < 2)
        return 0;
    struct block_head head;
    switch (data[0] < 128 ? data[0] % 4 : 4 + data[0] % 2) {
    case 0:
        if (block_head_read((struct span){(const char *)data + 1, size - 1}, &head) == FB_OK)
            fb_assert(block_bytes(&head) <= BLOCK_BYTES_MAX);
        break;
    case 1:
        fuzz_body(data + 1, size - 1, BLOCK_CODEC_COLUMNS, false);
        break;
    case 2:
        fuzz_body(data + 1, size - 1, BLOCK_CODEC_NONE, false);
        break;
    case 4:
        fuzz_body(data + 1, size - 1, BLOCK_CODEC_COLUMNS, true);
        break;
    case 5:
        fuzz_body(data + 1, size - 1, BLOCK_CODEC_NONE, true);
        break;
    default:
        fuzz_records(data + 1, size - 1);
    }
    return 0;
}
