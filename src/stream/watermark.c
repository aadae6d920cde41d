/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/watermark.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x316b72616d77626f) /* "obwmark1" backwards */
#define PAGE_BYTES 4096
#define WORDS (sizeof(struct watermark) / 8)
_Static_assert(sizeof(struct watermark) % 8 == 0, "watermark: whole words");

struct page {
    uint64_t magic;
    _Atomic uint64_t turn; /* odd while the writer writes; 0: nothing yet */
    _Atomic uint64_t word[WORDS];
};

struct watermark_map {
    struct page *page;
    bool for_writing;
};

enum fb_code watermark_open(struct watermark_map **map, const char *dir, bool for_writing,
                            struct fb_err *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/watermark", dir);
    int fd = open(path, for_writing ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0640);
    if (fd < 0)
        return fb_fail(err, errno == ENOENT ? FB_E_NOT_FOUND : FB_E_IO, "%s: %s", path,
                       strerror(errno));
    enum fb_code code = FB_E_IO;
    struct stat st;
    void *at = MAP_FAILED;
    struct watermark_map *m = calloc(1, sizeof *m);
    /* posix_fallocate: a hole would be a SIGBUS at the first store on a full disk. */
    if (fstat(fd, &st) != 0 || !m ||
        (for_writing && st.st_size < PAGE_BYTES && (errno = posix_fallocate(fd, 0, PAGE_BYTES)))) {
        code = fb_fail(err, errno == ENOSPC ? FB_E_DISK_FULL : FB_E_IO, "%s: %s", path,
                       strerror(errno));
        goto fail;
    }
    if (!for_writing && st.st_size < PAGE_BYTES) {
        code = fb_fail(err, FB_E_FORMAT, "%s: shorter than a page; the next start writes it anew",
                       path);
        goto fail;
    }
    at =
        mmap(NULL, PAGE_BYTES, for_writing ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        code = fb_fail(err, FB_E_IO, "%s: mmap: %s", path, strerror(errno));
        goto fail;
    }
    close(fd);
    *m = (struct watermark_map){.page = at, .for_writing = for_writing};
    *map = m;
    return FB_OK;
fail:
    free(m);
    close(fd);
    return code;
}

void watermark_close(struct watermark_map *map)
{
    if (!map)
        return;
    munmap(map->page, PAGE_BYTES);
    free(map);
}

void watermark_publish(struct watermark_map *map, const struct watermark *mark)
{
    fb_assert(map->for_writing);
    struct page *p = map->page;
    uint64_t word[WORDS];
    memcpy(word, mark, sizeof word);
    uint64_t turn = atomic_load_explicit(&p->turn, memory_order_relaxed) | 1;
    p->magic = MAGIC;
    atomic_store_explicit(&p->turn, turn, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < WORDS; i++)
        atomic_store_explicit(&p->word[i], word[i], memory_order_relaxed);
    atomic_store_explicit(&p->turn, turn + 1, memory_order_release);
}

bool watermark_read(const struct watermark_map *map, struct watermark *mark)
{
    struct page *p = map->page;
    uint64_t word[WORDS];
    if (p->magic != MAGIC)
        return false;
    /* A publish takes 10 ns; a thousand tries fail only when the writer died inside it. */
    for (int i = 0; i < 1000; i++) {
        uint64_t before = atomic_load_explicit(&p->turn, memory_order_acquire);
        if (before == 0)
            return false;
        if (before & 1)
            continue;
        for (size_t w = 0; w < WORDS; w++)
            word[w] = atomic_load_explicit(&p->word[w], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&p->turn, memory_order_relaxed) == before) {
            memcpy(mark, word, sizeof word);
            return true;
        }
    }
    return false;
}
