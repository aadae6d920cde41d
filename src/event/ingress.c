/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of bytes under a lock; a put of 64 KiB holds it for about 10 us, a take for less: it moves
 * the bytes out and works on the copy. */
#include "event/ingress.h"

#include "base/assert.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MARKS_MAX 256
#define PUT_HEAD_BYTES EV_CELL_BYTES /* a put begins with one cell: its length */

/* Tickets up to <ticket> are durable once the log has <offset>. */
struct mark {
    uint64_t ticket, offset;
};

struct ingress {
    pthread_mutex_t lock;
    unsigned char *ring, *out;
    size_t cap, out_cap;
    uint64_t head, tail; /* bytes ever put and taken */
    uint64_t puts;       /* the newest ticket */
    uint64_t taken;      /* ticket of the newest put that was taken */
    struct ingress_stats stats;
    int wake;
    _Atomic uint64_t durable; /* ticket */
    struct mark mark[MARKS_MAX];
    uint32_t mark_first, mark_count;
};

struct ingress *ingress_new(size_t bytes)
{
    struct ingress *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->cap = fb_max_u64(bytes, 512 * KIB) / EV_CELL_BYTES * EV_CELL_BYTES;
    q->out_cap = 2 * INGRESS_PUT_BYTES_MAX;
    q->ring = malloc(q->cap);
    q->out = aligned_alloc(EV_CELL_BYTES, q->out_cap);
    q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&q->lock, NULL);
    if (q->ring && q->out && q->wake >= 0)
        return q;
    ingress_free(q);
    return NULL;
}

void ingress_free(struct ingress *q)
{
    if (!q)
        return;
    if (q->wake >= 0)
        close(q->wake);
    pthread_mutex_destroy(&q->lock);
    free(q->ring);
    free(q->out);
    free(q);
}

static bool are_records(struct span records)
{
    size_t at = 0;
    struct ev_head head;
    while (at < records.len) {
        if (records.len - at < EV_CELL_BYTES)
            return false;
        memcpy(&head, records.at + at, sizeof head);
        if (!ev_is_valid(&head) || (size_t)head.cells * EV_CELL_BYTES > records.len - at)
            return false;
        at += (size_t)head.cells * EV_CELL_BYTES;
    }
    return true;
}

static void ring_put(struct ingress *q, const void *bytes, size_t len)
{
    size_t at = q->head % q->cap, first = fb_min_u64(len, q->cap - at);
    memcpy(q->ring + at, bytes, first);
    memcpy(q->ring, (const char *)bytes + first, len - first);
    q->head += len;
}

static void ring_get(struct ingress *q, void *bytes, size_t len)
{
    size_t at = q->tail % q->cap, first = fb_min_u64(len, q->cap - at);
    memcpy(bytes, q->ring + at, first);
    memcpy((char *)bytes + first, q->ring, len - first);
    q->tail += len;
}

enum fb_code ingress_put(struct ingress *q, struct span records, uint64_t *ticket)
{
    if (records.len == 0 || records.len > INGRESS_PUT_BYTES_MAX || !are_records(records))
        return FB_E_RANGE;
    uint64_t head[PUT_HEAD_BYTES / sizeof(uint64_t)] = {records.len};
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&q->lock);
    bool was_empty = q->head == q->tail;
    if (q->cap - (size_t)(q->head - q->tail) < sizeof head + records.len) {
        q->stats.refused++;
        code = FB_E_AGAIN;
    } else {
        ring_put(q, head, sizeof head);
        ring_put(q, records.at, records.len);
        q->puts++;
        if (ticket)
            *ticket = q->puts;
    }
    pthread_mutex_unlock(&q->lock);
    if (code == FB_OK && was_empty) {
        uint64_t one = 1;
        ssize_t done = write(q->wake, &one, sizeof one); /* full counter: it is awake anyway */
        (void)done;
    }
    return code;
}

bool ingress_durable(const struct ingress *q, uint64_t ticket)
{
    return atomic_load_explicit(&q->durable, memory_order_acquire) >= ticket;
}

uint64_t ingress_newest(struct ingress *q)
{
    pthread_mutex_lock(&q->lock);
    uint64_t ticket = q->puts;
    pthread_mutex_unlock(&q->lock);
    return ticket;
}

int ingress_fd(const struct ingress *q)
{
    return q->wake;
}

/* Whole puts into <out>; returns their bytes. */
static size_t take_puts(struct ingress *q, size_t bytes_max)
{
    size_t len = 0;
    uint64_t head[PUT_HEAD_BYTES / sizeof(uint64_t)], drained;
    pthread_mutex_lock(&q->lock);
    while (q->tail < q->head) {
        ring_get(q, head, sizeof head);
        fb_assert(head[0] <= INGRESS_PUT_BYTES_MAX);
        if (len + head[0] > q->out_cap || (len && len + head[0] > bytes_max)) {
            q->tail -= sizeof head;
            break;
        }
        ring_get(q, q->out + len, head[0]);
        len += head[0];
        q->taken++;
    }
    if (q->tail == q->head && read(q->wake, &drained, sizeof drained) < 0)
        drained = 0; /* nobody had written */
    q->stats.bytes += len;
    pthread_mutex_unlock(&q->lock);
    return len;
}

uint32_t ingress_take(struct ingress *q, size_t bytes_max, ingress_each *each, void *arg)
{
    uint32_t count = 0;
    size_t len = take_puts(q, bytes_max);
    for (size_t at = 0; at < len; count++) {
        struct ev_head *ev = (void *)(q->out + at);
        at += (size_t)ev->cells * EV_CELL_BYTES;
        each(arg, ev);
    }
    pthread_mutex_lock(&q->lock);
    q->stats.events += count;
    pthread_mutex_unlock(&q->lock);
    return count;
}

void ingress_taken(struct ingress *q, uint64_t next_offset)
{
    uint32_t newest = (q->mark_first + q->mark_count + MARKS_MAX - 1) % MARKS_MAX;
    /* Full: the newest mark waits for more, which is later, never earlier. */
    if (q->mark_count == MARKS_MAX || (q->mark_count && q->mark[newest].ticket == q->taken)) {
        q->mark[newest] = (struct mark){q->taken, next_offset};
        return;
    }
    q->mark[(q->mark_first + q->mark_count++) % MARKS_MAX] = (struct mark){q->taken, next_offset};
}

void ingress_settle(struct ingress *q, uint64_t offset)
{
    while (q->mark_count && q->mark[q->mark_first].offset <= offset) {
        atomic_store_explicit(&q->durable, q->mark[q->mark_first].ticket, memory_order_release);
        q->mark_first = (q->mark_first + 1) % MARKS_MAX;
        q->mark_count--;
    }
}

void ingress_stats_read(struct ingress *q, struct ingress_stats *stats)
{
    pthread_mutex_lock(&q->lock);
    *stats = q->stats;
    stats->queued_bytes = q->head - q->tail;
    stats->room_bytes = q->cap;
    pthread_mutex_unlock(&q->lock);
}
