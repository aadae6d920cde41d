/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing in twice as many places as there may be paths; a place is written once, by
 * compare and swap, and its index is the number. */
#include "io/socket_path.h"

#include "base/assert.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACES (2u * SOCKET_PATHS_MAX)

static uint32_t place_of(struct span path);
static bool is_path(struct span path);

/* 128 KiB of which only the pages with paths in them are ever touched. */
static _Atomic(char *) places[PLACES];
static _Atomic uint32_t path_count;

uint32_t socket_path_number(struct span path)
{
    char *mine = NULL;
    if (!is_path(path))
        return 0;
    for (uint32_t i = place_of(path);; i = (i + 1) % PLACES) {
        char *there = atomic_load_explicit(&places[i], memory_order_acquire);
        if (!there) {
            if (!mine && atomic_fetch_add(&path_count, 1) >= SOCKET_PATHS_MAX) {
                atomic_fetch_sub(&path_count, 1);
                return 0;
            }
            if (!mine)
                mine = strndup(path.at, path.len);
            if (!mine) {
                atomic_fetch_sub(&path_count, 1);
                return 0;
            }
            if (atomic_compare_exchange_strong(&places[i], &there, mine))
                return i + 1;
        }
        if (strlen(there) == path.len && memcmp(there, path.at, path.len) == 0) {
            if (mine) /* another thread was faster with the same path */
                atomic_fetch_sub(&path_count, 1);
            free(mine);
            return i + 1;
        }
    }
}

const char *socket_path_text(uint32_t number)
{
    fb_assert(number <= PLACES);
    const char *text =
        number ? atomic_load_explicit(&places[number - 1], memory_order_acquire) : "";
    fb_assert(text != NULL);
    return text;
}

const char *socket_path_why(int why)
{
    switch (why) {
    case ENOENT:
    case ENOTDIR:
        return "the file does not exist: its application is not up, or makes its socket elsewhere";
    case EACCES:
    case EPERM:
        return "no permission: the user of foldback must be able to write to the socket and to "
               "pass its folders; a group that both are in and mode 0660 do";
    case ENOTSOCK:
        return "the file is no socket: its application makes one when it starts";
    case ECONNREFUSED:
        return "nobody listens there: its application has ended and left the file behind";
    case EAGAIN:
        return "its queue of new connections is full: its application takes them too slowly, or "
               "with too small a backlog";
    case EPROTOTYPE:
        return "it is a socket for datagrams, not for streams";
    default:
        return strerror(why);
    }
}

int socket_path_look(const char *path)
{
    struct stat at;
    if (path[0] != '/')
        return 0;
    if (stat(path, &at) < 0)
        return errno;
    if (!S_ISSOCK(at.st_mode))
        return ENOTSOCK;
    return access(path, W_OK) < 0 ? errno : 0;
}

static bool is_path(struct span path)
{
    return path.len > 1 && path.len <= SOCKET_PATH_BYTES_MAX &&
           (path.at[0] == '/' || path.at[0] == '@') && !memchr(path.at, 0, path.len);
}

/* FNV-1a: a few hundred paths that an operator wrote. */
static uint32_t place_of(struct span path)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < path.len; i++)
        hash = (hash ^ (unsigned char)path.at[i]) * 16777619u;
    return hash % PLACES;
}
