/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/shred.h"

#include "base/assert.h"
#include "guard/gcm.h"
#include "guard/secret.h"

#include <openssl/sha.h>

#define LEAF_MASK ((UINT64_C(1) << SHRED_DEPTH) - 1)

struct shred_path {
    bool is_known;
    uint64_t leaf;
    uint8_t top; /* depth of the node that it begins at */
    unsigned char seed[SHRED_DEPTH + 1][SHRED_KEY_BYTES];
};

static bool grow(struct shred *s, uint32_t count);

static void child(const unsigned char *seed, int side, unsigned char *out)
{
    unsigned char text[SHRED_KEY_BYTES + 1];
    memcpy(text, seed, SHRED_KEY_BYTES);
    text[SHRED_KEY_BYTES] = (unsigned char)side;
    SHA256(text, sizeof text, out);
    secret_wipe(text, sizeof text);
}

/* Which child of a node at <depth> leads to <leaf>. */
static int side_of(uint64_t leaf, uint32_t depth)
{
    fb_assert(depth < SHRED_DEPTH);
    return (int)(leaf >> (SHRED_DEPTH - 1 - depth) & 1);
}

static uint64_t leaves_below(uint32_t depth)
{
    fb_assert(depth <= SHRED_DEPTH);
    return UINT64_C(1) << (SHRED_DEPTH - depth);
}

static bool prepare(struct shred *s, uint32_t count)
{
    *s = (struct shred){.path = secret_alloc(sizeof *s->path)};
    return s->path && grow(s, count);
}

bool shred_init(struct shred *s)
{
    if (!prepare(s, 1)) {
        shred_fini(s);
        return false;
    }
    s->count = 1;
    gcm_random(s->at[0].seed, SHRED_KEY_BYTES);
    return true;
}

void shred_fini(struct shred *s)
{
    secret_free(s->at, s->cap * sizeof *s->at);
    secret_free(s->path, sizeof *s->path);
    *s = (struct shred){0};
}

/* Room for <count> seeds in all. */
static bool grow(struct shred *s, uint32_t count)
{
    if (count <= s->cap)
        return true;
    uint32_t cap = s->cap ? s->cap : 64;
    while (cap < count)
        cap *= 2;
    struct shred_node *at = secret_alloc(cap * sizeof *at);
    if (!at)
        return false;
    if (s->count)
        memcpy(at, s->at, s->count * sizeof *at);
    secret_free(s->at, s->cap * sizeof *s->at);
    s->at = at;
    s->cap = cap;
    return true;
}

/* The seed above <leaf>, or count. */
static uint32_t find(const struct shred *s, uint64_t leaf)
{
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->at[middle].first <= leaf)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return s->count;
    const struct shred_node *node = &s->at[low - 1];
    return leaf - node->first < leaves_below(node->depth) ? low - 1 : s->count;
}

bool shred_key(struct shred *s, uint64_t leaf, unsigned char key[SHRED_KEY_BYTES])
{
    leaf &= LEAF_MASK;
    uint32_t i = find(s, leaf);
    if (i == s->count)
        return false;
    struct shred_path *p = s->path;
    uint32_t depth = s->at[i].depth;
    if (p->is_known && p->top == depth && p->leaf - s->at[i].first < leaves_below(depth)) {
        /* the same way down to where the two leaves part */
        while (depth < SHRED_DEPTH && side_of(p->leaf, depth) == side_of(leaf, depth))
            depth++;
    } else {
        memcpy(p->seed[depth], s->at[i].seed, SHRED_KEY_BYTES);
        p->top = (uint8_t)depth;
    }
    for (; depth < SHRED_DEPTH; depth++)
        child(p->seed[depth], side_of(leaf, depth), p->seed[depth + 1]);
    p->leaf = leaf;
    p->is_known = true;
    memcpy(key, p->seed[SHRED_DEPTH], SHRED_KEY_BYTES);
    return true;
}

bool shred_destroy(struct shred *s, uint64_t leaf)
{
    leaf &= LEAF_MASK;
    uint32_t i = find(s, leaf);
    if (i == s->count)
        return true;
    uint32_t depth = s->at[i].depth, more = SHRED_DEPTH - depth;
    if (s->count - 1 + more > SHRED_NODES_MAX || !grow(s, s->count + more))
        return false;
    struct shred_node node = s->at[i];
    memmove(&s->at[i + more], &s->at[i + 1], (s->count - i - 1) * sizeof *s->at);
    /* Siblings left of the leaf come out ascending from the front, those right of it from the back.
     */
    uint32_t front = i, back = i + more;
    uint64_t first = node.first;
    for (; depth < SHRED_DEPTH; depth++) {
        int side = side_of(leaf, depth);
        uint64_t half = leaves_below(depth + 1);
        struct shred_node *beside = side ? &s->at[front++] : &s->at[--back];
        beside->depth = (uint8_t)(depth + 1);
        beside->first = side ? first : first + half;
        child(node.seed, !side, beside->seed);
        unsigned char next[SHRED_KEY_BYTES];
        child(node.seed, side, next);
        memcpy(node.seed, next, sizeof next);
        secret_wipe(next, sizeof next);
        first += side ? half : 0;
    }
    fb_assert(front == back);
    fb_assert(first == leaf);
    s->count = s->count - 1 + more;
    /* what moved down may have left copies behind the end */
    secret_wipe(&s->at[s->count], (s->cap - s->count) * sizeof *s->at);
    secret_wipe(&node, sizeof node);
    secret_wipe(s->path, sizeof *s->path);
    return true;
}

void shred_save(const struct shred *s, struct buf *out)
{
    for (uint32_t i = 0; i < s->count; i++) {
        buf_put(out, &s->at[i].depth, 1);
        buf_put(out, &s->at[i].first, sizeof s->at[i].first);
        buf_put(out, s->at[i].seed, SHRED_KEY_BYTES);
    }
}

bool shred_load(struct shred *s, struct span bytes)
{
    size_t count = bytes.len / SHRED_NODE_BYTES;
    *s = (struct shred){0};
    if (bytes.len % SHRED_NODE_BYTES || count > SHRED_NODES_MAX || !prepare(s, (uint32_t)count + 1))
        goto fail;
    uint64_t from = 0;
    for (size_t i = 0; i < count; i++, bytes.at += SHRED_NODE_BYTES) {
        struct shred_node *node = &s->at[i];
        node->depth = (uint8_t)bytes.at[0];
        memcpy(&node->first, bytes.at + 1, sizeof node->first);
        memcpy(node->seed, bytes.at + 9, SHRED_KEY_BYTES);
        if (node->depth > SHRED_DEPTH || node->first < from ||
            node->first % leaves_below(node->depth) || node->first > LEAF_MASK)
            goto fail;
        from = node->first + leaves_below(node->depth);
    }
    s->count = (uint32_t)count;
    return true;
fail:
    shred_fini(s);
    return false;
}
