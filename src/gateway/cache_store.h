/* SPDX-License-Identifier: Apache-2.0 */
/* cache_store: answers in memory, shared by all threads.
 *
 *   find --> entry (counted reference: it may be evicted while somebody writes it)
 *   join --> OWNER: fetch it, then pending_end      WAITS: told by message when the owner is
 * through entry_new + body_add ... --> publish (replaces the same variant, evicts what is over
 * budget)
 *
 * An entry never changes once it is published; a 304 publishes a new one that shares the body.
 * Entries of one key differ by their variant: names and values of the request fields in Vary.
 *
 * Holds always:  bytes in use (entries, bodies, fills that are under way, what is evicted and still
 * being written; with metadata and allocator slack) <= memory of the store, or the fill is given
 * up; a waiter is in one list, or its message is on its way, or it is told.
 * Threads: any.  Locks: one shard, or one route, never two at once.  Hashes are seeded: clients
 * cannot aim at a shard.  Times: the loop's clock, which no wall clock moves. */
#ifndef FB_GATEWAY_CACHE_STORE_H
#define FB_GATEWAY_CACHE_STORE_H
#include "base/span.h"
#include "io/loop.h"
#include "io/thread.h"
#include "knob/knob.h"
#include "proto/http1.h"
#include "reflex/evict.h"

#define CACHE_SEGMENT_BYTES (64 * KIB)
/* Names and values of the fields that select a variant. */
#define CACHE_VARIANT_BYTES 2048
#define CACHE_VARIANTS_MAX 64  /* of one key; more push out the oldest */
#define CACHE_TAGS_MAX 64      /* of one entry */
#define CACHE_WAITERS_MAX 4096 /* for one answer */

struct cache_segment {
    struct cache_segment *next;
    uint32_t len, cap;
    char at[];
};
#define CACHE_CODINGS 3u
struct cache_body { /* shared by an entry and its successors after a 304 */
    _Atomic uint32_t refs;
    uint64_t bytes, cost_bytes;
    struct cache_segment *first, *last;
    struct cache_body *_Atomic coded[CACHE_CODINGS]; /* the same in fewer bytes; set once */
    _Atomic uint64_t coded_cost_bytes;
    _Atomic uint32_t coded_wants; /* hits that were encoded on their way */
    _Atomic uint8_t coded_asked;  /* bits: there, being made, or not worth it */
};

enum {
    CACHE_ENTRY_MUST_REVALIDATE = 1, /* never served stale */
    CACHE_ENTRY_NO_CACHE = 2,        /* never served without asking */
    CACHE_ENTRY_ETAG_WEAKENED = 4,   /* W/ is ours: the endpoint's tag is strong */
};

struct cache_entry {
    struct evict_node node; /* hash: of the key; bytes: all that it costs */
    struct cache_entry *next;
    struct cache_body *body;
    _Atomic uint32_t refs;
    _Atomic bool is_refreshing; /* somebody fetches it anew in the background */
    _Atomic bool is_published;
    _Atomic uint32_t asked; /* requests for it; some are lost between threads */
    uint16_t route;         /* number in the registry */
    uint16_t version;       /* as in the key */
    uint16_t status;
    uint16_t tag_count;
    uint8_t flags;
    uint64_t stored_us;         /* when the answer came */
    _Atomic uint64_t purged_us; /* a paced purge hit it then; 0: not */
    int64_t age_s;              /* it had then */
    int64_t lifetime_s, stale_while_revalidate_s, stale_if_error_s;
    int64_t date_s, last_modified_s;                     /* CACHE_NO_DATE: unknown */
    uint32_t origin_us;                                  /* what the endpoint took for it */
    struct span key, variant, head, etag, last_modified; /* in <text> */
    uint64_t *tags;                                      /* hashes */
    char *text;
};

struct cache_key {
    uint64_t hash;
    uint16_t route;
    uint16_t version; /* that a split chose; 0: none.  What removes a key removes all versions */
    struct span text; /* cache_key.c */
};

/* Names an entry for cache_entry_new; copied. */
struct cache_making {
    struct cache_key key;
    struct span variant, head, etag, last_modified;
    const uint64_t *tags;
    uint16_t tag_count;
};

struct cache_store;
/* <seed>: secret, not 0.  NULL without memory. */
struct cache_store *cache_store_new(uint64_t seed);
void cache_store_free(struct cache_store *s); /* no thread uses it any more */
void cache_store_limit(struct cache_store *s, uint64_t memory_bytes);
/* Budget of a route; 0 drops all of it.  What is over goes at once. */
void cache_store_budget(struct cache_store *s, uint16_t route, uint64_t budget_bytes);

uint64_t cache_hash(const struct cache_store *s, uint16_t route, struct span text);
uint64_t cache_tag_hash(const struct cache_store *s, struct span tag);

/* The newest entry of <key> whose variant fits the request <head>, referenced; NULL when none.
 * *has_others: the key is there in other variants. */
struct cache_entry *cache_find(struct cache_store *s, const struct cache_key *key,
                               const struct http1_head *head, bool *has_others);
void cache_entry_ref(struct cache_entry *e);
void cache_entry_unref(struct cache_store *s, struct cache_entry *e); /* NULL is fine */

/* A new entry, not yet found by anybody; NULL when memory or budget do not allow it. */
struct cache_entry *cache_entry_new(struct cache_store *s, const struct cache_making *m);
struct cache_body *cache_body_new(struct cache_store *s);
void cache_body_unref(struct cache_store *s, struct cache_body *b);
/* Appends; <expected_bytes> of the whole body when known, else 0.  False: no memory. */
bool cache_body_add(struct cache_store *s, struct cache_body *b, uint16_t route, struct span data,
                    uint64_t expected_bytes);
/* <e> becomes what its key and variant stand for; your reference stays yours. */
void cache_publish(struct cache_store *s, struct cache_entry *e);
uint64_t cache_cost(struct cache_entry *e); /* all that it takes, its coded forms included */
/* <coded> is kept with the body of <e>, in the budget of the entry that has this body now (after a
 * 304 it is another one), and goes with it: takes the reference.  False: the body is out of the
 * store already, or too large with it; the reference stays yours. */
bool cache_add_coded(struct cache_store *s, struct cache_entry *e, uint32_t coding,
                     struct cache_body *coded);
void cache_remove(struct cache_store *s, struct cache_entry *e);
uint32_t cache_remove_key(struct cache_store *s, const struct cache_key *key); /* how many */

/* ---- collapsing ---- */
struct cache_waiter {
    struct loop_message message; /* set on_message before joining */
    struct loop *loop;
    struct cache_waiter *next, **prev;
    bool is_listed; /* guarded by the shard */
};
enum cache_join { CACHE_JOIN_OWNER, CACHE_JOIN_WAITS, CACHE_JOIN_ALONE };
struct cache_pending;
/* <waiter> NULL: only to own it.  OWNER: *pending is yours until cache_pending_end.  ALONE: go by
 * yourself (too many wait, the last answers could not be kept, no memory). */
enum cache_join cache_join(struct cache_store *s, const struct cache_key *key,
                           struct cache_waiter *waiter, struct cache_pending **pending);
/* Tells all waiters.  <is_useless>: the answer cannot be kept: nobody waits for this key for a
 * while. */
void cache_pending_end(struct cache_store *s, struct cache_pending *p, bool is_useless,
                       uint64_t now_us);
/* False: it was told meanwhile, the message is on its way. */
bool cache_leave(struct cache_store *s, const struct cache_key *key, struct cache_waiter *waiter);
/* Clock for the memory of useless waits. */
void cache_store_tick(struct cache_store *s, uint64_t now_us);

/* ---- purge ---- */
enum cache_purge_kind { CACHE_PURGE_ALL, CACHE_PURGE_URL, CACHE_PURGE_PREFIX, CACHE_PURGE_TAG };
struct cache_purge {
    enum cache_purge_kind kind;
    struct span text;  /* the begin of a key, or a tag */
    uint64_t paced_us; /* not 0: mark with this time, serve while there is no room; else drop */
};
/* One of CACHE_SHARDS parts of the work; returns how many entries it hit. */
#define CACHE_SHARDS 64u
uint64_t cache_purge_part(struct cache_store *s, const struct cache_purge *p, uint32_t shard);

struct cache_stats {
    uint64_t used_bytes, budget_bytes, entries, stored, evicted, refused;
};
void cache_stats(struct cache_store *s, uint16_t route, struct cache_stats *out);
/* A request that the route's cache could serve; and all of them since the last call. */
void cache_refer(struct cache_store *s, uint16_t route);
uint32_t cache_take_references(struct cache_store *s, uint16_t route);
bool cache_has_route(const struct cache_store *s, uint16_t route);
/* All that is allocated. */
uint64_t cache_used(const struct cache_store *s);

/* ---- cache_variant.c ---- */
/* "name:value\n" for each field of the lists, normalised; false when it does not fit. */
struct cache_names { /* what selects: Vary of the answer, then the route's own fields */
    const struct http1_head *answer;
    const char *const *own;
    size_t own_count;
};
bool cache_variant_make(const struct cache_names *names, const struct http1_head *request,
                        char out[CACHE_VARIANT_BYTES], size_t *len);
bool cache_variant_fits(struct span variant, const struct http1_head *request);
bool cache_vary_has_star(const struct http1_head *answer);
#endif
