/* SPDX-License-Identifier: Apache-2.0 */
/* Kept answers in fewer bytes: each coding is made once per body, stronger than on the way to a
 * client, by one thread that gives way to everything else.
 *
 *   a second hit that had to be encoded --ask--> queue (JOBS_MAX) --thread--> encoded
 *       --smaller, still kept--> with the body: in the budget, gone with it, shared after a 304
 *
 * Until a form is there hits are encoded on their way.  A full queue, a body that does not shrink
 * or memory that is short leave it at that.
 * Threads: workers ask, the thread makes, any worker reads; a form never changes. */
#include "base/assert.h"
#include "gateway/cache.h"
#include "gateway/compress.h"
#include "gateway/encoder.h"

#include <stdlib.h>

#define JOBS_MAX 64
#define STEP_BYTES (16 * KIB)
/* Larger bodies stay as they are: minutes of work for one answer. */
#define BODY_MAX_BYTES (16 * MIB)
/* Answers that were encoded on their way before a form is made: as many hits as earn a place in the
 * main queue (evict.c). */
#define WANTS_MIN 2

/* Within 2 to 5 % of what the slowest level makes, at a twentieth of its time
 * (doc/design/cache.md). */
static const int levels[CACHE_CODINGS] = {9, 7, 15}; /* gzip, br, zstd */

struct job {
    struct cache_entry *entry;
    enum coding coding;
};

struct cache_coder {
    struct gw *gw;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    struct job jobs[JOBS_MAX]; /* a ring; guarded by <lock> */
    uint32_t first, count;
    bool is_stopping;
};

static void *coder_main(void *arg);

static uint32_t index_of(enum coding coding)
{
    fb_assert(coding > CODING_IDENTITY);
    return (uint32_t)coding - CODING_GZIP;
}

const struct cache_body *cache_coded(const struct request *req, const struct cache_entry *e)
{
    struct memfile_compress *m = &req->worker->gw->mem->head->compress;
    if (req->coding <= CODING_IDENTITY || !e->body)
        return NULL;
    const struct cache_body *coded = atomic_load_explicit(
        &e->body->coded[index_of((enum coding)req->coding)], memory_order_acquire);
    if (!coded || !compress_would(req, e->head, e->body->bytes))
        return NULL;
    atomic_fetch_add_explicit(&m->stored_answers, 1, memory_order_relaxed);
    return coded;
}

/* ---- the queue ---- */

void cache_coded_ask(struct request *req)
{
    struct cache_coder *z = atomic_load_explicit(&req->worker->gw->coder, memory_order_acquire);
    struct cache_entry *e = req->cw->served;
    uint8_t bit = (uint8_t)(1u << index_of((enum coding)req->coding));
    if (!z || !e->body || e->body->bytes > BODY_MAX_BYTES ||
        atomic_fetch_add_explicit(&e->body->coded_wants, 1, memory_order_relaxed) + 1 < WANTS_MIN ||
        (atomic_fetch_or_explicit(&e->body->coded_asked, bit, memory_order_relaxed) & bit))
        return;
    pthread_mutex_lock(&z->lock);
    bool has_room = z->count < JOBS_MAX;
    if (has_room) {
        cache_entry_ref(e);
        z->jobs[(z->first + z->count++) % JOBS_MAX] = (struct job){e, (enum coding)req->coding};
        pthread_cond_signal(&z->has_work);
    }
    pthread_mutex_unlock(&z->lock);
    if (!has_room)
        atomic_fetch_and_explicit(&e->body->coded_asked, (uint8_t)~bit, memory_order_relaxed);
}

/* Waits for a job; false: it is to stop. */
static bool take(struct cache_coder *z, struct job *out)
{
    pthread_mutex_lock(&z->lock);
    while (z->count == 0 && !z->is_stopping)
        pthread_cond_wait(&z->has_work, &z->lock);
    bool has_job = !z->is_stopping;
    if (has_job) {
        *out = z->jobs[z->first];
        z->first = (z->first + 1) % JOBS_MAX;
        z->count--;
    }
    pthread_mutex_unlock(&z->lock);
    return has_job;
}

static bool is_stopping(struct cache_coder *z)
{
    pthread_mutex_lock(&z->lock);
    bool is = z->is_stopping;
    pthread_mutex_unlock(&z->lock);
    return is;
}

void cache_coder_start(struct gw *gw)
{
    gw->wants_coder = false;
    if (atomic_load_explicit(&gw->coder, memory_order_relaxed))
        return;
    struct cache_coder *z = calloc(1, sizeof *z);
    if (!z)
        return;
    z->gw = gw;
    pthread_mutex_init(&z->lock, NULL);
    pthread_cond_init(&z->has_work, NULL);
    if (thread_start(&z->thread, "coder", coder_main, z) != FB_OK) {
        fb_log(FB_LOG_WARN, "cache: no thread to keep answers compressed; each hit is encoded");
        free(z);
        return;
    }
    atomic_store_explicit(&gw->coder, z, memory_order_release);
}

void cache_coder_stop(struct gw *gw)
{
    struct cache_coder *z = atomic_load_explicit(&gw->coder, memory_order_relaxed);
    if (!z)
        return;
    pthread_mutex_lock(&z->lock);
    z->is_stopping = true;
    pthread_cond_signal(&z->has_work);
    pthread_mutex_unlock(&z->lock);
    pthread_join(z->thread, NULL);
    for (; z->count; z->count--, z->first = (z->first + 1) % JOBS_MAX)
        cache_entry_unref(gw->cache, z->jobs[z->first].entry);
    pthread_cond_destroy(&z->has_work);
    pthread_mutex_destroy(&z->lock);
    free(z);
    atomic_store_explicit(&gw->coder, NULL, memory_order_relaxed);
}

/* ---- the thread ---- */

struct making {
    struct cache_coder *coder;
    const struct cache_entry *entry;
    struct encoder encoder;
    struct cache_body *out;
};

/* All of <in>; false: the form is not to be had. */
static bool add(struct making *m, struct span in, bool is_last)
{
    char room[STEP_BYTES];
    enum encoder_step step = ENCODER_MORE;
    while (step == ENCODER_MORE) {
        struct span coded = {room, sizeof room};
        step = encoder_run(&m->encoder, &in, &coded, is_last ? ENCODER_END : ENCODER_KEEP);
        if (step == ENCODER_FAILED || is_stopping(m->coder) ||
            m->out->bytes + coded.len >= m->entry->body->bytes ||
            !cache_body_add(m->coder->gw->cache, m->out, m->entry->route, coded, 0))
            return false;
    }
    return true;
}

static bool encode(struct making *m)
{
    const struct cache_segment *seg = m->entry->body->first;
    while (seg && add(m, (struct span){seg->at, seg->len}, seg->next == NULL))
        seg = seg->next;
    return seg == NULL;
}

static void make(struct cache_coder *z, const struct job *job)
{
    struct cache_store *s = z->gw->cache;
    struct memfile_compress *shown = &z->gw->mem->head->compress;
    struct making m = {.coder = z, .entry = job->entry, .out = cache_body_new(s)};
    uint32_t i = index_of(job->coding);
    uint64_t in_bytes = job->entry->body->bytes;
    bool is_made =
        m.out && encoder_open(&m.encoder, job->coding, levels[i], in_bytes) && encode(&m);
    uint64_t out_bytes = is_made ? m.out->bytes : 0;
    encoder_close(&m.encoder);
    if (!is_made || !cache_add_coded(s, job->entry, i, m.out)) {
        cache_body_unref(s, m.out);
        return;
    }
    atomic_fetch_add_explicit(&shown->stored_forms, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&shown->stored_in_bytes, in_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&shown->stored_out_bytes, out_bytes, memory_order_relaxed);
}

static void *coder_main(void *arg)
{
    struct cache_coder *z = arg;
    struct job job;
    thread_haste(THREAD_BACKGROUND);
    while (take(z, &job)) {
        make(z, &job);
        cache_entry_unref(z->gw->cache, job.entry);
    }
    return NULL;
}
