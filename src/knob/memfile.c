/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/memfile.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t layout(struct memfile *m, unsigned char *at, uint32_t threads, uint32_t ring_cells);

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

enum fb_code memfile_create(struct memfile *m, uint32_t threads, uint32_t ring_cells,
                            struct fb_err *err)
{
    fb_assert(threads >= 1);
    fb_assert(threads <= MEMFILE_THREADS_MAX);
    *m = (struct memfile){.fd = -1};
    size_t bytes = layout(m, NULL, threads, ring_cells);
    int fd = memfd_create("foldback", MFD_CLOEXEC);
    if (fd < 0)
        return fb_fail(err, FB_E_IO, "memory file: %s", strerror(errno));
    if (ftruncate(fd, (off_t)bytes) < 0) {
        close(fd);
        return fb_fail(err, FB_E_NOMEM,
                       "memory file of %zu bytes: %s; lower `gateway.ring_cells` or `threads`",
                       bytes, strerror(errno));
    }
    unsigned char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        close(fd);
        return fb_fail(err, FB_E_NOMEM, "memory file of %zu bytes: %s", bytes, strerror(errno));
    }
    layout(m, at, threads, ring_cells);
    m->fd = fd;
    *m->head = (struct memfile_head){.magic = MEMFILE_MAGIC,
                                     .version = MEMFILE_VERSION,
                                     .head_bytes = sizeof *m->head,
                                     .bytes = bytes,
                                     .threads = threads,
                                     .ring_cells = ring_cells,
                                     .time_offset_us = fb_mono_offset()};
    memfile_pseudonym_renew(m->head);
    for (uint32_t i = 0; i < memfile_ring_count(m); i++) {
        ring_init(m->rings[i], ring_cells);
        ring_origin_set(m->rings[i], (uint8_t)i);
    }
    return FB_OK;
}

enum fb_code memfile_attach(struct memfile *m, int fd, struct fb_err *err)
{
    struct stat st;
    *m = (struct memfile){.fd = -1};
    if (fstat(fd, &st) < 0)
        return fb_fail(err, FB_E_IO, "memory file: %s", strerror(errno));
    size_t bytes = (size_t)st.st_size;
    if (bytes < sizeof(struct memfile_head))
        return fb_fail(err, FB_E_VERSION,
                       "memory file: only %zu bytes; start foldback with `foldback run`", bytes);
    unsigned char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return fb_fail(err, FB_E_IO, "memory file: %s", strerror(errno));
    const struct memfile_head *h = (const void *)at;
    if (h->magic != MEMFILE_MAGIC || h->version != MEMFILE_VERSION || h->bytes != bytes ||
        h->threads < 1 || h->threads > MEMFILE_THREADS_MAX || h->ring_cells < 64 ||
        h->ring_cells > 1u << 24 || (h->ring_cells & (h->ring_cells - 1)) != 0 ||
        layout(m, at, h->threads, h->ring_cells) != bytes) {
        uint32_t version = h->magic == MEMFILE_MAGIC ? h->version : 0;
        munmap(at, bytes);
        *m = (struct memfile){.fd = -1};
        return fb_fail(err, FB_E_VERSION,
                       "memory file: its layout is version %u, that of this program %u; stop "
                       "foldback and start it again",
                       (unsigned)version, (unsigned)MEMFILE_VERSION);
    }
    m->fd = fd;
    fb_mono_offset_set(h->time_offset_us);
    return FB_OK;
}

void memfile_pseudonym_renew(struct memfile_head *head)
{
    uint64_t fresh = 0;
    if (getrandom(&fresh, sizeof fresh, 0) == (ssize_t)sizeof fresh)
        atomic_store_explicit(&head->pseudonym, fresh, memory_order_relaxed);
}

void memfile_close(struct memfile *m)
{
    if (m->head)
        munmap(m->head, m->head->bytes);
    *m = (struct memfile){.fd = -1};
}

/* Sets the pointers for a file at <at> (NULL: only counts) and returns its size. */
static size_t layout(struct memfile *m, unsigned char *at, uint32_t threads, uint32_t ring_cells)
{
    size_t pos = 0;
#define PLACE(field, size)                                                                         \
    do {                                                                                           \
        if (at)                                                                                    \
            m->field = (void *)(at + pos);                                                         \
        pos += up64(size);                                                                         \
    } while (0)
    PLACE(head, sizeof(struct memfile_head));
    PLACE(knobs, sizeof(struct knob_table));
    PLACE(routes, sizeof(struct memfile_name) * KNOB_TARGETS_MAX);
    PLACE(services, sizeof(struct memfile_name) * KNOB_TARGETS_MAX);
    PLACE(endpoints, sizeof(struct memfile_name) * KNOB_TARGETS_MAX);
    PLACE(versions, sizeof(struct memfile_name) * KNOB_TARGETS_MAX);
    PLACE(lives, sizeof(struct memfile_life) * KNOB_TARGETS_MAX);
    PLACE(pasts, sizeof(struct memfile_past) * MEMFILE_PASTS);
    PLACE(sources, sizeof(struct memfile_source) * MEMFILE_SOURCES);
    PLACE(keeps, sizeof(struct memfile_keep) * KNOB_TARGETS_MAX);
    PLACE(gauges, sizeof(struct memfile_gauge) * KNOB_TARGETS_MAX);
    for (uint32_t i = 0; i < MEMFILE_SLOTS * threads; i++)
        PLACE(rings[i], ring_bytes(ring_cells));
#undef PLACE
    return pos;
}

static struct memfile_name *names_of(const struct memfile *m, enum ev_kind kind)
{
    fb_assert(kind >= EV_KIND_ROUTE);
    fb_assert(kind <= EV_KIND_VERSION);
    return kind == EV_KIND_ROUTE     ? m->routes
           : kind == EV_KIND_SERVICE ? m->services
           : kind == EV_KIND_VERSION ? m->versions
                                     : m->endpoints;
}

uint16_t memfile_number(struct memfile *m, enum ev_kind kind, const char *name, uint16_t parent)
{
    struct memfile_name *rows = names_of(m, kind);
    uint16_t unused = EV_NONE;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        if (!atomic_load_explicit(&rows[i].is_used, memory_order_relaxed)) {
            if (unused == EV_NONE)
                unused = i;
        } else if (strncmp(rows[i].name, name, sizeof rows[i].name - 1) == 0) {
            rows[i].parent = parent;
            return i;
        }
    }
    if (unused == EV_NONE)
        return EV_NONE;
    struct memfile_name *row = &rows[unused];
    snprintf(row->name, sizeof row->name, "%s", name);
    row->parent = parent;
    row->version = EV_NONE;
    atomic_store_explicit(&row->is_used, 1, memory_order_release);
    atomic_fetch_add_explicit(&m->head->names_version, 1, memory_order_release);
    return unused;
}

bool memfile_endpoint_name(const char *service, const char *address, char name[MEMFILE_NAME_BYTES])
{
    int n = snprintf(name, MEMFILE_NAME_BYTES, "%s %s", service, address);
    return n > 0 && n < MEMFILE_NAME_BYTES;
}

void memfile_configured(struct memfile *m, enum ev_kind kind, const uint16_t *numbers, size_t count)
{
    bool is_there[KNOB_TARGETS_MAX] = {false};
    struct memfile_name *rows = names_of(m, kind);
    fb_assert(kind == EV_KIND_SERVICE || kind == EV_KIND_ROUTE);
    for (size_t i = 0; i < count; i++)
        if (numbers[i] < KNOB_TARGETS_MAX) /* EV_NONE: there was no room for its name */
            is_there[numbers[i]] = true;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        atomic_store_explicit(&rows[i].has_left, !is_there[i], memory_order_relaxed);
}

const char *memfile_name(const struct memfile *m, enum ev_kind kind, uint16_t number)
{
    const struct memfile_name *rows = names_of(m, kind);
    if (number >= KNOB_TARGETS_MAX ||
        !atomic_load_explicit(&rows[number].is_used, memory_order_acquire))
        return "";
    return rows[number].name;
}
