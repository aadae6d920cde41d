/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/redis_codec.h"

#include "base/assert.h"

#include <hiredis/read.h>
#include <stdlib.h>

#define CHUNK_BYTES (16 * KIB)
/* Far above what the commands of this connector bring; a list of more is an attack or a mistake. */
#define LIST_MAX (1 << 20)

struct redis_chunk {
    struct redis_chunk *next;
    size_t used, cap;
    _Alignas(16) char at[];
};

static struct redis_answer *place(const redisReadTask *task, enum redis_kind kind);
static void *make_text(const redisReadTask *task, char *text, size_t len);
static void *make_list(const redisReadTask *task, int count);
static void *make_number(const redisReadTask *task, long long value);
static void *make_nil(const redisReadTask *task);
static void leave(void *answer);

static redisReplyObjectFunctions makers = {make_text, make_list, make_number, make_nil, leave};

static void forget_tree(struct redis_codec *c)
{
    while (c->chunk) {
        struct redis_chunk *next = c->chunk->next;
        free(c->chunk);
        c->chunk = next;
    }
    c->taken = 0;
}

bool redis_codec_init(struct redis_codec *c, size_t answer_bytes_max)
{
    *c = (struct redis_codec){.answer_bytes_max = answer_bytes_max};
    return redis_codec_reset(c);
}

void redis_codec_fini(struct redis_codec *c)
{
    if (c->reader)
        redisReaderFree(c->reader);
    c->reader = NULL;
    forget_tree(c);
}

bool redis_codec_reset(struct redis_codec *c)
{
    redis_codec_fini(c);
    c->reader = redisReaderCreateWithFunctions(&makers);
    if (c->reader)
        c->reader->privdata = c;
    return c->reader != NULL;
}

enum fb_code redis_codec_feed(struct redis_codec *c, struct span bytes, struct fb_err *err)
{
    if (c->reader->len - c->reader->pos + bytes.len > c->answer_bytes_max)
        return fb_fail(err, FB_E_RANGE, "an answer of more than %zu KiB",
                       c->answer_bytes_max / KIB);
    if (redisReaderFeed(c->reader, bytes.at, bytes.len) != REDIS_OK)
        return fb_fail(err, c->reader->err == REDIS_ERR_OOM ? FB_E_NOMEM : FB_E_FORMAT, "%.120s",
                       c->reader->errstr);
    return FB_OK;
}

enum fb_code redis_codec_next(struct redis_codec *c, const struct redis_answer **out,
                              struct fb_err *err)
{
    void *root = NULL;
    *out = NULL;
    if (!c->reader->reply && c->reader->ridx < 0) /* no tree is half made: the last one is done */
        forget_tree(c);
    if (redisReaderGetReply(c->reader, &root) != REDIS_OK) {
        bool is_large = c->reader->err == REDIS_ERR_OOM;
        return fb_fail(err, is_large ? FB_E_RANGE : FB_E_FORMAT, "%.120s",
                       is_large ? "an answer that is too large" : c->reader->errstr);
    }
    *out = root;
    return root ? FB_OK : FB_E_AGAIN;
}

bool redis_codec_is_empty(const struct redis_codec *c)
{
    return c->reader->len == c->reader->pos && c->reader->ridx < 0;
}

/* ---- the tree ---- */
static void *take(struct redis_codec *c, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > c->answer_bytes_max - c->taken)
        return NULL;
    if (!c->chunk || c->chunk->cap - c->chunk->used < bytes) {
        size_t cap = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        struct redis_chunk *chunk = malloc(sizeof *chunk + cap);
        if (!chunk)
            return NULL;
        chunk->next = c->chunk;
        chunk->used = 0;
        chunk->cap = cap;
        c->chunk = chunk;
    }
    void *at = c->chunk->at + c->chunk->used;
    c->chunk->used += bytes;
    c->taken += bytes;
    return at;
}

/* Where the answer of <task> goes: into the list around it, or to the root. */
static struct redis_answer *place(const redisReadTask *task, enum redis_kind kind)
{
    struct redis_answer *a;
    if (task->parent) {
        struct redis_answer *list = task->parent->obj;
        fb_assert(task->idx >= 0);
        fb_assert((uint32_t)task->idx < list->count);
        a = (struct redis_answer *)(uintptr_t)&list->at[task->idx];
    } else {
        a = take(task->privdata, sizeof *a);
    }
    if (a)
        *a = (struct redis_answer){.kind = kind};
    return a;
}

static void *make_text(const redisReadTask *task, char *text, size_t len)
{
    enum redis_kind kind = task->type == REDIS_REPLY_ERROR    ? REDIS_ERROR
                           : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
                                                              : REDIS_BYTES;
    struct redis_answer *a = place(task, kind);
    char *copy = a && len < SIZE_MAX - 32 ? take(task->privdata, len + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    a->text = (struct span){copy, len};
    return a;
}

static void *make_list(const redisReadTask *task, int count)
{
    struct redis_answer *a = place(task, REDIS_LIST);
    if (!a || count < 0 || count > LIST_MAX)
        return NULL;
    if (count > 0) {
        struct redis_answer *at = take(task->privdata, (size_t)count * sizeof *at);
        if (!at)
            return NULL;
        memset(at, 0, (size_t)count * sizeof *at);
        a->at = at;
    }
    a->count = (uint32_t)count;
    return a;
}

static void *make_number(const redisReadTask *task, long long value)
{
    struct redis_answer *a = place(task, REDIS_NUMBER);
    if (a)
        a->number = value;
    return a;
}

static void *make_nil(const redisReadTask *task)
{
    return place(task, REDIS_NIL);
}

static void leave(void *answer)
{
    (void)answer; /* goes with all others */
}

/* ---- commands ---- */
void redis_put_count(struct buf *out, uint32_t arguments)
{
    buf_printf(out, "*%u\r\n", arguments);
}

void redis_put(struct buf *out, struct span argument)
{
    buf_printf(out, "$%zu\r\n", argument.len);
    buf_put_span(out, argument);
    buf_put(out, "\r\n", 2);
}

void redis_put_texts(struct buf *out, const char *const *texts)
{
    uint32_t count = 0;
    while (texts[count])
        count++;
    redis_put_count(out, count);
    for (uint32_t i = 0; i < count; i++)
        redis_put(out, span_of(texts[i]));
}

const struct redis_answer *redis_member(const struct redis_answer *list, const char *name)
{
    if (!list || list->kind != REDIS_LIST)
        return NULL;
    for (uint32_t i = 0; i + 1 < list->count; i += 2)
        if (redis_is_text(&list->at[i]) && span_eq(list->at[i].text, span_of(name)))
            return &list->at[i + 1];
    return NULL;
}
