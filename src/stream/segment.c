/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Bytes read at once while looking for a header behind damage; larger than most blocks. */
#define WINDOW_BYTES (64 * KIB)

static bool name_parse(const char *name, struct segment *s);
static int by_number(const void *a, const void *b);

static int plain_stat(int dir_fd, const char *name, struct stat *st)
{
    return fstatat(dir_fd, name, st, 0);
}

enum fb_code segment_list_read(struct segment_list *list, const char *dir, struct fb_err *err)
{
    return segment_list_read_by(list, dir, plain_stat, err);
}

enum fb_code segment_list_read_by(struct segment_list *list, const char *dir, segment_stat *stat_at,
                                  struct fb_err *err)
{
    *list = (struct segment_list){0};
    size_t cap = 0;
    enum fb_code code = FB_OK;
    DIR *d = opendir(dir);
    if (!d)
        return fb_fail(err, FB_E_IO,
                       "log directory %s: %s; name the state folder that has it with --state", dir,
                       strerror(errno));
    errno = 0;
    for (struct dirent *e; (e = readdir(d)); errno = 0) {
        struct segment s;
        struct stat st;
        if (!name_parse(e->d_name, &s))
            continue;
        if (stat_at(dirfd(d), e->d_name, &st) != 0) {
            if (errno == ENOENT) /* retention removed it in this moment */
                continue;
            code = fb_fail(err, FB_E_IO,
                           "%s/%s: %s; the log is not read without it; look at the disk and at the "
                           "owner of the file",
                           dir, e->d_name, strerror(errno));
            break;
        }
        s.bytes = (uint64_t)st.st_size;
        s.modified_wall_us =
            (uint64_t)st.st_mtim.tv_sec * US_PER_S + (uint64_t)st.st_mtim.tv_nsec / 1000;
        if (list->count == cap) {
            size_t more = cap ? cap * 2 : 64;
            struct segment *at = realloc(list->at, more * sizeof *at);
            if (!at) {
                code = fb_fail(err, FB_E_NOMEM, "no memory for the list of segments of %s", dir);
                break;
            }
            list->at = at;
            cap = more;
        }
        list->at[list->count++] = s;
    }
    if (code == FB_OK && errno)
        code =
            fb_fail(err, FB_E_IO, "log directory %s: %s; look at the disk", dir, strerror(errno));
    closedir(d);
    if (code)
        segment_list_fini(list);
    else if (list->count > 1)
        qsort(list->at, list->count, sizeof *list->at, by_number);
    return code;
}

void segment_list_fini(struct segment_list *list)
{
    free(list->at);
    *list = (struct segment_list){0};
}

/* Empty now too?  A segment that was new when the list was read may have been filled since. */
static bool is_empty(const char *dir, struct segment *s)
{
    char name[SEGMENT_NAME_BYTES], path[4200];
    struct stat st;
    segment_name(name, s->number, s->first_offset);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (s->bytes == 0 && stat(path, &st) == 0)
        s->bytes = (uint64_t)st.st_size;
    return s->bytes == 0;
}

size_t segment_list_prune(struct segment_list *list, const char *dir, struct segment *strays)
{
    size_t newest = 0, kept = 0, count = 0;
    const struct segment *filled = NULL; /* the newest that holds something */
    for (size_t i = 0; i < list->count; i++) {
        const struct segment *s = &list->at[i];
        if (s->bytes > 0 || !filled || s->first_offset > filled->first_offset)
            newest = i;
        if (s->bytes > 0)
            filled = s;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (i == newest || !is_empty(dir, &list->at[i]))
            list->at[kept++] = list->at[i];
        else if (strays)
            strays[count++] = list->at[i];
        else
            count++;
    }
    list->count = kept;
    return count;
}

void segment_name(char name[SEGMENT_NAME_BYTES], uint32_t number, uint64_t first_offset)
{
    snprintf(name, SEGMENT_NAME_BYTES, "%010" PRIu32 "-%020" PRIu64 ".fbl", number, first_offset);
}

static bool name_parse(const char *name, struct segment *s)
{
    struct span rest, file = span_of(name);
    struct span number = span_cut(file, '-', &rest);
    uint64_t n, first;
    if (file.len != 35 || number.len != 10 || memcmp(rest.at + 20, ".fbl", 4) != 0)
        return false;
    if (!span_to_u64(number, &n) || n > UINT32_MAX ||
        !span_to_u64((struct span){rest.at, 20}, &first))
        return false;
    *s = (struct segment){.number = (uint32_t)n, .first_offset = first};
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

enum fb_code segment_head_at(int fd, uint32_t number, uint64_t position, struct block_head *head)
{
    char bytes[BLOCK_HEADER_BYTES];
    ssize_t n = pread(fd, bytes, sizeof bytes, (off_t)position);
    if (n < 0)
        return FB_E_IO;
    if ((size_t)n < sizeof bytes)
        return FB_E_END;
    enum fb_code code = block_head_read((struct span){bytes, sizeof bytes}, head);
    if (code == FB_OK && (head->segment != number || head->position != position))
        return FB_E_DAMAGED;
    return code;
}

enum fb_code segment_head_after(int fd, uint32_t number, uint64_t from, uint64_t until,
                                struct block_head *head)
{
    /* Static per thread would do too; 64 KiB of stack is what the writer's thread surely has. */
    char window[WINDOW_BYTES];
    uint64_t at = (from + BLOCK_ALIGN_BYTES - 1) & ~(uint64_t)(BLOCK_ALIGN_BYTES - 1);
    while (at + BLOCK_HEADER_BYTES <= until) {
        size_t want = fb_min_u64(sizeof window, until - at);
        ssize_t n = pread(fd, window, want, (off_t)at);
        if (n < 0)
            return FB_E_IO;
        if ((size_t)n < BLOCK_HEADER_BYTES)
            return FB_E_END;
        size_t last = (size_t)n - BLOCK_HEADER_BYTES;
        for (size_t i = 0; i <= last; i += BLOCK_ALIGN_BYTES) {
            if (memcmp(window + i, "fbk1", 4) != 0)
                continue;
            if (block_head_read((struct span){window + i, BLOCK_HEADER_BYTES}, head) == FB_OK &&
                head->segment == number && head->position == at + i)
                return FB_OK;
        }
        at += (last & ~(size_t)(BLOCK_ALIGN_BYTES - 1)) + BLOCK_ALIGN_BYTES;
    }
    return FB_E_END;
}
