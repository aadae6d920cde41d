/* SPDX-License-Identifier: Apache-2.0 */
/* shred: 2^40 keys from one seed, each of which can be destroyed by itself.
 *
 * A binary tree (Goldreich, Goldwasser, Micali): the children of a seed are SHA-256(seed, 0) and
 * SHA-256(seed, 1), the leaves are the keys.  To destroy a leaf, the seed above it is replaced by
 * the seeds beside the path to it: from what is left nobody can compute the leaf, and everybody can
 * compute all others.  Before any loss one seed is kept; each loss costs at most 40 more.
 *
 * Rejected: a random key per text (50 a second are kept for ever), one key per person (who a text
 * is about is known only when somebody asks for it).
 *
 * Threads: a struct shred belongs to one thread. */
#ifndef FB_GUARD_SHRED_H
#define FB_GUARD_SHRED_H
#include "base/buf.h"

#define SHRED_DEPTH 40
#define SHRED_KEY_BYTES 32
/* Bytes of one seed in shred_save. */
#define SHRED_NODE_BYTES (1 + 8 + SHRED_KEY_BYTES)
/* Beyond it the whole tree goes: 16 MiB of seeds, more than 10,000 scattered losses. */
#define SHRED_NODES_MAX 400000

struct shred_node {
    uint64_t first; /* first leaf below it */
    uint8_t depth;  /* 0 is the root */
    unsigned char seed[SHRED_KEY_BYTES];
};
struct shred {
    struct shred_node *at; /* ascending, disjoint; secret memory */
    uint32_t count, cap;
    /* The way to the leaf that was asked for last: neighbours share most of it. */
    struct shred_path *path;
};

/* A whole tree over a random seed; false without memory. */
FB_MUST_USE
bool shred_init(struct shred *s);
void shred_fini(struct shred *s); /* wipes */
/* The key of <leaf> modulo 2^40; false: it was destroyed. */
FB_MUST_USE
bool shred_key(struct shred *s, uint64_t leaf, unsigned char key[SHRED_KEY_BYTES]);
/* False: no memory or too many seeds; nothing changed, destroy the tree instead. */
FB_MUST_USE
bool shred_destroy(struct shred *s, uint64_t leaf);
/* count x { depth u8, first u64, seed }; the caller wraps it. */
void shred_save(const struct shred *s, struct buf *out);
/* False: not what shred_save writes. */
FB_MUST_USE
bool shred_load(struct shred *s, struct span bytes);
#endif
