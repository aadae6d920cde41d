/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_mem.h"

#include "base/assert.h"
#include "base/base.h"
#include "base/sanitize.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Small classes are 16 bytes apart; above them four to each power of two, up to a buffer of a
 * record. */
#define STEP_BYTES 16
#define SMALL_BYTES_MAX 1024
#define SMALL_CLASSES (SMALL_BYTES_MAX / STEP_BYTES)
#define LARGE_CLASSES 20
#define CLASSES (SMALL_CLASSES + LARGE_CLASSES)
#define FROM_MALLOC CLASSES
/* What a list may hold: 64 lists of 16 KiB and 20 of 64 KiB are 2.3 MiB at most for a thread. */
#define SMALL_KEEP_BYTES (16 * KIB)
#define LARGE_KEEP_BYTES (64 * KIB)

struct piece {
    uint32_t class;
    uint32_t bytes; /* of its class, or as asked for */
    uint32_t magic; /* a piece that is given back twice ends the process */
    _Alignas(16) char at[];
};
#define TAKEN UINT32_C(0x746c736d)
#define FREE UINT32_C(0x66726565)
struct list {
    struct piece *free;
    uint32_t count;
};
static _Thread_local struct list *lists; /* CLASSES of them */
static pthread_key_t lists_key;          /* frees them when their thread ends */

static size_t class_of(size_t bytes)
{
    if (bytes <= SMALL_BYTES_MAX)
        return (bytes - 1) / STEP_BYTES;
    unsigned top = 63 - (unsigned)__builtin_clzll(bytes - 1); /* 10 and up */
    return SMALL_CLASSES + (top - 10) * 4 + (((bytes - 1) >> (top - 2)) & 3);
}

static uint32_t class_bytes(size_t class)
{
    if (class < SMALL_CLASSES)
        return (uint32_t)(class + 1) * STEP_BYTES;
    size_t of = class - SMALL_CLASSES;
    return (uint32_t)((5 + of % 4) << (8 + of / 4));
}

static void free_lists(void *arg)
{
    struct list *all = arg;
    for (size_t i = 0; i < CLASSES; i++)
        for (struct piece *p = all[i].free, *next; p; p = next) {
            memcpy(&next, p->at, sizeof(void *));
            free(p);
        }
    free(all);
    lists = NULL;
}

static struct list *make_lists(void)
{
    struct list *all = calloc(CLASSES, sizeof *all);
    if (all && pthread_setspecific(lists_key, all) != 0) {
        free(all);
        return NULL;
    }
    return lists = all;
}

static void *take(size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    if (bytes == 0)
        return NULL;
    size_t class = class_of(bytes);
    struct list *all = lists ? lists : make_lists();
    struct piece *p;
    if (class < CLASSES && all) {
        p = all[class].free;
        if (p) {
            memcpy(&all[class].free, p->at, sizeof(void *));
            all[class].count--;
            p->magic = TAKEN;
            return p->at;
        }
        bytes = class_bytes(class);
    } else {
        class = FROM_MALLOC;
        if (bytes > UINT32_MAX)
            return NULL;
    }
    p = malloc(sizeof *p + bytes);
    if (!p)
        return NULL;
    p->class = (uint32_t) class;
    p->bytes = (uint32_t)bytes;
    p->magic = TAKEN;
    return p->at;
}

static void give(void *at, const char *file, int line)
{
    (void)file;
    (void)line;
    if (!at)
        return;
    struct piece *p = FB_CONTAINER(at, struct piece, at);
    struct list *all = lists;
    fb_assert(p->magic == TAKEN);
    p->magic = FREE;
    if (p->class == FROM_MALLOC || !all ||
        (all[p->class].count + 1) * p->bytes >
            (p->class < SMALL_CLASSES ? SMALL_KEEP_BYTES : LARGE_KEEP_BYTES)) {
        free(p);
        return;
    }
    memcpy(p->at, &all[p->class].free, sizeof(void *));
    all[p->class].free = p;
    all[p->class].count++;
}

static void *resize(void *at, size_t bytes, const char *file, int line)
{
    if (!at)
        return take(bytes, file, line);
    if (bytes == 0) {
        give(at, file, line);
        return NULL;
    }
    struct piece *p = FB_CONTAINER(at, struct piece, at);
    fb_assert(p->magic == TAKEN);
    if (bytes <= p->bytes)
        return at;
    void *wider = take(bytes, file, line);
    if (!wider)
        return NULL;
    memcpy(wider, at, p->bytes);
    give(at, file, line);
    return wider;
}

bool tls_mem_begin(void)
{
    static bool is_begun;
    if (FB_IS_SANITIZED || is_begun)
        return true;
    if (pthread_key_create(&lists_key, free_lists) != 0)
        return false;
    is_begun = CRYPTO_set_mem_functions(take, resize, give) == 1;
    return is_begun;
}
