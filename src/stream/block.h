/* SPDX-License-Identifier: Apache-2.0 */
/* block: a batch of event records as bytes on disk, and back, bit by bit the same.
 *
 *   byte  field (little endian)                        byte  field
 *      0  magic "fbk1"                                   56  nonce[12]       0 while key_id is 0
 *      4  version u16 = 1 to 3, header bytes u16         68  tag[16]         0 while key_id is 0
 *      8  node id u64                                    84  flags u32       bit 0: see below
 *     16  epoch u32 (starts of the brain)                88  first time_us u64 (monotonic)
 *     20  segment u32 (number of the file)               96  last time_us u64
 *     24  first offset u64 (events, dense)              104  wall - monotonic clock i64, us
 *     32  count u32 (events)                            112  CRC32C of body and padding u32
 *     36  raw bytes u32 (records)                       116  acknowledged u64 (offset)
 *     40  stored bytes u32 (body)                       124  CRC32C of bytes 0..123 u32
 *     44  codec u8: 0 none, 1 columns + zstd            128  body, then 0..7 zero bytes:
 *     45  personal bytes u8[3], of the body                 blocks begin at multiples of 8
 *     48  key id u32 (0: clear)
 *     52  position u32 (of this header in the segment)
 *
 * Segment and position are part of the header so that bytes which merely look like a block (a
 * misplaced write, a payload that imitates us) are never taken for one.  With bit 0 of the flags,
 * every event below <acknowledged> was durable when the block was written: recovery tells by it
 * what was lost from what was only under way.  Bit 1: a column is of the mode COUNTED (column.h).
 * Bit 2: operational fields are empty (guard/operational.h).
 *
 * Body of codec 1: u32 length of the columns, then one zstd frame of them (column.h draws them).
 * Personal fields of the records (guard/personal.h) are taken out before and stand sealed behind
 * the rest of the body, <personal bytes> long.  With a key id the whole body is AES-256-GCM; the
 * header is its associated data, with tag and both checksums as zeros: a block cannot be moved to
 * another segment, position, offset or time.  The checksums are over what is stored, so recovery
 * and repair need no key.  Version 2 is a block with a key id or personal bytes.
 *
 * Version 3 is several blocks joined into one (compact.h).  Behind the personal bytes, which are
 * theirs one after another, stand its parts: per part its events, its wall - monotonic clock less
 * the header's (zigzag) and its personal bytes, as varints; then u32 bytes that the blocks took
 * before, u32 length of the parts.  first and last time_us are then by the header's clock
 * difference, so that the span of wall clock is exact.
 * Decoding trusts nothing: every length is checked, so it is fuzzed (test/fuzz/block_fuzz.c).
 *
 * Threads: a struct block_codec belongs to one thread. */
#ifndef FB_STREAM_BLOCK_H
#define FB_STREAM_BLOCK_H
#include "event/event.h"
#include "guard/keyring.h"

#define BLOCK_HEADER_BYTES 128
/* Most bytes of records in one block.  256 KiB fits every broker with margin (the common limit is
 * about 1 MB), and is 4,096 requests: enough for the columns to compress. */
#define BLOCK_RAW_BYTES_MAX (256 * KIB)
/* The body: at worst the records as they are, and as much again of sealed personal fields. */
#define BLOCK_STORED_BYTES_MAX (2 * BLOCK_RAW_BYTES_MAX + 16)
/* Header, body and padding of the largest block. */
#define BLOCK_BYTES_MAX (BLOCK_HEADER_BYTES + BLOCK_STORED_BYTES_MAX + 8)
#define BLOCK_ALIGN_BYTES 8

enum block_codec_id { BLOCK_CODEC_NONE, BLOCK_CODEC_COLUMNS };

/* A header in the machine's own form. */
struct block_head {
    uint64_t node;
    uint32_t epoch;
    uint32_t segment, position; /* where it stands */
    uint64_t first_offset;      /* number of its first event in the log */
    uint32_t count;             /* events, at least 1 */
    uint32_t raw_bytes, stored_bytes;
    uint8_t codec;
    uint32_t key_id;
    uint64_t first_us, last_us; /* smallest and largest time_us, monotonic */
    int64_t wall_minus_mono_us; /* add to time_us for the wall clock */
    bool has_counted;           /* in a way that versions before this bit cannot read */
    bool is_cleared;            /* of operational fields */
    bool has_acknowledged;
    uint64_t acknowledged; /* everything below was durable when the block was written */
    uint32_t body_crc;
    uint32_t personal_bytes; /* of stored_bytes: sealed personal fields */
    uint16_t version;
    unsigned char nonce[12], tag[16]; /* 0 while key_id is 0 */
};

/* Events of a block that were written at once: they share what a joined block has several of. */
struct block_part {
    uint32_t count;
    uint32_t personal_bytes;
    uint32_t period; /* of their personal fields; 0: none.  Known after decoding */
    int64_t wall_minus_mono_us;
};

/* What block_join makes one block of. */
struct block_joined {
    struct span records;  /* without personal fields */
    struct span personal; /* of all parts */
    const struct block_part *parts;
    uint32_t part_count;
    uint64_t before_bytes; /* what they took on disk */
};

struct block_codec;
struct block_codec *block_codec_new(void); /* NULL without memory; 3 MiB */
/* The keys to seal and open with, borrowed; NULL (as after block_codec_new): blocks stay clear,
 * sealed ones cannot be read. */
void block_codec_keys(struct block_codec *c, struct keyring *keys);
void block_codec_free(struct block_codec *c);
/* Of event types without a bit block_decode needs to give the head only; 0: all of all types. */
void block_codec_want(struct block_codec *c, uint64_t types);

/* Encodes <len> bytes of valid records (at most BLOCK_RAW_BYTES_MAX).  In: node, epoch,
 * first_offset, wall_minus_mono_us, acknowledged of *head; the rest is filled in.  *block is
 * borrowed until the
 * next call and has no valid header yet: block_seal writes it when the place is known. FB_E_FORMAT:
 * a record is not valid (ev_is_valid) or the bytes do not end with a record. */
FB_MUST_USE
enum fb_code block_encode(struct block_codec *c, struct block_head *head, struct span records,
                          struct span *block);
/* The same of what stands in several blocks; *head as for block_encode, its clock difference is the
 * one of the first part.  FB_E_RANGE: too much for one block. */
FB_MUST_USE
enum fb_code block_join(struct block_codec *c, struct block_head *head,
                        const struct block_joined *joined, struct span *block);
/* Encrypts the body when the keys say so, and writes the header over the first BLOCK_HEADER_BYTES
 * of the block that block_encode just returned; once per block_encode.  FB_E_KEY: there must be a
 * key, and there is none; nothing may be written then. */
enum fb_code block_seal(struct block_codec *c, struct block_head *head, uint32_t segment,
                        uint32_t position);

/* FB_E_DAMAGED: no header, or a checksum or a range is wrong; FB_E_VERSION: a newer layout. */
FB_MUST_USE
enum fb_code block_head_read(struct span bytes, struct block_head *head);
/* Bytes from this header to the next one. */
uint32_t block_bytes(const struct block_head *head);
/* Checks the CRC of body and padding; <body> is what follows the header. */
FB_MUST_USE
bool block_body_is_good(const struct block_head *head, struct span body);
/* Writes head->raw_bytes of records to <out>, which has room for BLOCK_RAW_BYTES_MAX.
 * FB_E_DAMAGED when the body is not what the header says; <out> is then undefined.  FB_E_KEY: its
 * key is not there; FB_E_NOT_FOUND: its key was destroyed. */
FB_MUST_USE
enum fb_code block_decode(struct block_codec *c, const struct block_head *head, struct span body,
                          void *out);
/* The same with the personal fields left empty; *personal is what they are sealed in, borrowed from
 * the codec or from <body>. */
FB_MUST_USE
enum fb_code block_decode_sealed(struct block_codec *c, const struct block_head *head,
                                 struct span body, void *out, struct span *personal);
/* The parts of the block that was decoded last, at least one; borrowed until the next call. */
const struct block_part *block_codec_parts(const struct block_codec *c, uint32_t *count);
/* Bytes on disk of that block before its parts were joined. */
uint64_t block_codec_before_bytes(const struct block_codec *c);
#endif
